"""The whole method on one page: from two images to a rigid transform."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np
import numpy.typing as npt

from . import preflight
from . import threads as _threads
from .contrast import Contrast, contrast
from .errors import InputError
from .formats import ImageLike, as_image, as_mask
from .prior import N_VIEWS, Prior
from .pyramid import Level, Pair, finest_mm, level, levels, pyramid, sparser
from .refine import (
    Fit,
    Start,
    evaluate,
    inverse_hessian_at,
    leading,
    race,
    refine,
    refine_each,
    standard_error_mm,
    stay_or_go,
)
from .registration import Registration
from .scan import Anatomy, Scan, scan, smaller_first, views
from .search import APART, EFFORTS, RIVAL, Effort, candidates, distinct
from .settings import Settings
from .similarity import metric_at
from .threads import shared
from .transform import RigidTransform

FloatArray = npt.NDArray[np.float64]
Progress = Callable[[str, float], None]

#: Poses to refine, (4, 4) each, of each view.
Poses = list[list[FloatArray]]

_LOG = logging.getLogger("mireg")

#: Most searches with more effort, from other starts each; fewer where two in a row
#: leave no doubt. And how often as many follow, while noise can have made the answer.
_SEARCHES, _MORE = 10, 2

#: How many candidates of a view enter the finest level, and each level before it: of
#: a search that is sure, and of one that is not. Rough levels can prefer wrong poses.
_STAY = {True: (2, 5), False: (8, 12)}

#: Where noise moves the answer by more than the first share of a voxel, the other image
#: is sampled, too, and noise must then move its answer by less than the second share.
_NOISY, _WORTH = 0.1, 0.75

#: Where noise moves the answer by more than this share of a voxel, it may be wrong: so
#: it was with four of four wrong answers for hard kinds, and four of 2450 right ones.
_UNSURE = 0.5


def register(
    fixed: ImageLike,
    moving: ImageLike,
    *,
    init: Literal["auto", "header", "centre"] | RigidTransform = "auto",
    fixed_mask: ImageLike | None = None,
    moving_mask: ImageLike | None = None,
    settings: Settings | None = None,
    prior: Prior | None = None,
    progress: Progress | None = None,
) -> Registration:
    """Find the rigid transform that brings a moving image into line with a fixed one.

    Parameters
    ----------
    fixed, moving : Image, path, nibabel image, SimpleITK image or (array, affine)
        Two scans of one patient; contrast, grid and pose may differ. Of a 4-D image
        the mean; `read_image` reads any other volume.
    init : {"auto", "header", "centre"} or RigidTransform, optional
        Where to start. "auto" searches every orientation and needs no good start;
        "header" trusts the headers, "centre" brings foreground onto foreground
        without turning; a transform (fixed to moving, RAS+ mm) is taken as it is.
        All but "auto" stay in the neighbourhood of their start.
    fixed_mask, moving_mask : as `fixed`, optional
        Above 0.5 where to compare; any grid, in the world space of its image.
    settings : Settings, optional
        The numbers of the method.
    prior : Prior, optional
        What aligned pairs of these contrasts look like; goes with metric "prior".
    progress : callable, optional
        Called with the name of a stage and the share of the work done, 0 to 1.

    Returns
    -------
    Registration
        Its `moving_from_fixed` maps points of `fixed` to points of `moving`; it can
        resample, be saved, and shows itself in a notebook.

    Raises
    ------
    InputError
        If an image cannot be read or has no contrast, a mask misses its image, the
        images do not overlap at a start other than "auto", or a prior is given
        without metric "prior" or the other way round.

    Notes
    -----
    The logger "mireg" is told the stages and, at level INFO, the poses that the search
    found.

    The similarity is (normalised) mutual information [1]_ [2]_ of grey levels, over
    samples of the image with the smaller foreground.

    References
    ----------
    .. [1] Viola and Wells, "Alignment by maximization of mutual information",
       IJCV 1997.
    .. [2] Studholme, Hill and Hawkes, "An overlap invariant entropy measure of 3D
       medical image alignment", Pattern Recognition 1999.

    Examples
    --------
    >>> import numpy as np
    >>> x, y, z = np.indices((20, 24, 22))
    >>> ball = np.exp(-((x - 9) ** 2 + (y - 9) ** 2 + (z - 12) ** 2) / 30.0)
    >>> fixed = ball + (x > 12)
    >>> five_mm_right = np.eye(4)
    >>> five_mm_right[0, 3] = 5
    >>> found = register((fixed, np.eye(4)), (3 - fixed, five_mm_right), init="header")
    >>> bool(np.abs(found.moving_from_fixed - five_mm_right).max() < 0.2)
    True
    """
    fixed = as_image(fixed, name="the fixed image")
    moving = as_image(moving, name="the moving image")
    fixed_mask = as_mask(fixed_mask, name="the fixed mask")
    moving_mask = as_mask(moving_mask, name="the moving mask")
    notes = preflight.notes(fixed, moving)
    settings = settings or Settings()
    threads = settings.threads or _threads.available()
    watch = _Stopwatch(progress)

    watch.start("prepare", 0.0)
    scans = shared(
        lambda pair: scan(*pair, finest_mm(fixed, moving), threads),
        [(fixed, fixed_mask), (moving, moving_mask)],
        threads,
    )
    contrasts = shared(
        lambda pair: contrast(pair[0], known=pair[1]),
        list(zip((fixed, moving), scans, strict=True)),
        threads,
    )
    # Sample the smaller anatomy: it is more likely to be wholly inside the other.
    still, moved, swapped = smaller_first(*scans)

    watch.start("pyramid", 0.1)
    pairs = pyramid(still, moved, threads)
    looks = views(still, moved, threads)
    learned = _learned(prior, swapped, settings)

    seen = partial(
        levels, looks=looks, settings=settings, threads=threads, learned=learned
    )

    explore = partial(
        _search, partial(_one_search, still, moved, settings, threads), seen, pairs
    )
    follow = partial(
        _follow,
        seen=seen,
        other=partial(_other_sampled, pairs[-1], looks, learned, settings, threads),
        anatomy=still.anatomy,
        # What was in line stays in line.
        also=[(np.eye(4), None)] if init == "auto" else [],
        settings=settings,
        threads=threads,
    )

    watch.start("search", 0.2)
    start = _start(init, still, moved, swapped)
    if start is None:
        found = explore(watch)
    else:
        found = _Found([[start]] * N_VIEWS, True, 0, seen(pairs[1]), pairs[2:])
    _log_candidates(found, scans[0].anatomy.centre, swapped, settings)
    watch.start("refine", 0.5)
    end = follow(found)
    for _ in range(_MORE if start is None else 0):
        if not _is_unsure(end):
            break
        watch.start("search", 0.5)
        found = explore(watch, found)
        watch.start("refine", 0.5)
        end = follow(found)
    _refuse_no_overlap(end.fit)
    metric = metric_at(end.level, settings.metric)
    header = evaluate(end.level, np.eye(4), metric, threads)
    fit = stay_or_go(end.level, header, end.fit, still.anatomy)
    rival, rivals = _rival(end.others, still.anatomy)
    doubts = rivals + _noise(end)
    watch.start("", 1.0)

    answer = fit.moving_from_fixed
    pose = np.linalg.inv(answer) if swapped != end.swapped else answer
    anatomy = scans[0].anatomy
    transform = RigidTransform.from_matrix(pose, anatomy.centre)
    moved_by = transform.displacements(anatomy.points)
    return Registration(
        fixed=fixed,
        moving=moving,
        transform=transform,
        metric=settings.metric,
        score=fit.score,
        score_before=header.score if header.overlap_fraction > 0 else math.nan,
        overlap_fraction=fit.overlap_fraction,
        mean_displacement_mm=float(moved_by.mean()),
        max_displacement_mm=float(moved_by.max()),
        seconds=watch.seconds,
        settings=settings,
        fixed_contrast=contrasts[0],
        moving_contrast=contrasts[1],
        warnings=notes + _doubts(contrasts) + doubts,
        rival=rival,
        standard_error_mm=end.error_mm,
        doubtful=bool(doubts),
    )


@dataclass(frozen=True, eq=False)
class _Found:
    """What was found: poses in each view, and whether little effort was enough.

    If not, in how many searches with more. Followed first at the coarse level, in each
    view, then at the finer ones.
    """

    poses: Poses
    sure: bool
    searches: int
    coarse: list[Level]
    finer: list[Pair]


@dataclass(frozen=True, eq=False)
class _End:
    """Where it led: answer, its standard error in mm, and others beside it.

    `swapped` says that the level, and the pose, are those of the other way round.
    """

    level: Level
    fit: Fit
    error_mm: float
    swapped: bool
    others: list[Fit]


def _follow(
    found: _Found,
    *,
    seen: Callable[[Pair], list[Level]],
    other: Callable[[int], Level],
    anatomy: Anatomy,
    also: list[Start],
    settings: Settings,
    threads: int,
) -> _End:
    """Refine what was found, level by level, ever fewer of it."""
    at, few = found.coarse, [sparser(level, settings) for level in found.coarse]
    metrics = [metric_at(level, settings.metric) for level in few]
    stay = _STAY[found.sure]
    finalists = stay[len(found.finer) > 1]
    fits = race(few, metrics, found.poses, anatomy, finalists, threads)
    for pair in found.finer:
        at = seen(pair)
        few = [sparser(level, settings) for level in at]
        if found.sure:  # then one view is enough: that which explains most here
            fits = _in_clearest_view(fits, few, settings, threads)
        fits = {
            view: refine_each(
                few[view],
                [*(fit.start for fit in old[: stay[pair.below > 0]]), *also],
                metric_at(few[view], settings.metric),
                anatomy,
                threads,
            )
            for view, old in fits.items()
        }
    view = leading(fits)
    best = fits[view][0].moving_from_fixed
    fit, error_mm = _polished(at[view], few[view], best, settings, threads)
    end = _End(at[view], fit, error_mm, False, fits[view])
    return end if _is_sharp(end) else _sharper(end, other(view), settings, threads)


def _is_unsure(end: _End) -> bool:
    """Tell whether noise can have made the answer: right ones are sharper."""
    return end.error_mm > _UNSURE * end.level.size_mm


def _in_clearest_view(
    fits: Mapping[int, list[Fit]],
    levels: Sequence[Level],
    settings: Settings,
    threads: int,
) -> dict[int, list[Fit]]:
    """Go on with the leading fits alone, in the view where the first explains most."""
    best = fits[leading(fits)]
    pose = best[0].moving_from_fixed
    here = {
        view: [evaluate(level, pose, metric_at(level, settings.metric), threads)]
        for view, level in enumerate(levels)
    }
    return {leading(here): best}


def _is_sharp(end: _End) -> bool:
    """Tell whether noise hardly matters."""
    return not end.error_mm > _NOISY * end.level.size_mm


def _sharper(end: _End, other: Level, settings: Settings, threads: int) -> _End:
    """Refine with all samples of one image and of the other; noise decides.

    Reading between voxels smooths. Where an image is coarse and noisy that helps, and
    the finer one is the better to sample, even if it shows more of the anatomy.
    """

    def refined(level: Level, pose: FloatArray, swapped: bool) -> _End:
        fit, error_mm = _polished(level, level, pose, settings, threads)
        return replace(end, level=level, fit=fit, error_mm=error_mm, swapped=swapped)

    pose = end.fit.moving_from_fixed
    inverse = np.asarray(np.linalg.inv(pose), np.float64)
    here = refined(end.level, pose, swapped=False)
    there = refined(other, inverse, swapped=True)
    return there if there.error_mm < _WORTH * here.error_mm else here


def _other_sampled(
    pair: Pair,
    looks: Sequence[tuple[Scan, Scan]],
    learned: Sequence[FloatArray | None],
    settings: Settings,
    threads: int,
    view: int,
) -> Level:
    """Make the level of a view that has the samples in the other image."""
    still, moved = looks[view]
    joint = learned[view]
    return level(
        replace(pair, fixed=pair.moving, moving=pair.fixed),
        moved,
        still,
        settings,
        threads,
        None if joint is None else joint.T,
    )


def _polished(
    level: Level, probe: Level, pose: FloatArray, settings: Settings, threads: int
) -> tuple[Fit, float]:
    """Refine with all samples, those of a probe telling how sharp the top is.

    Returns the answer and its standard error in mm, NaN where nothing overlaps.
    """
    metric = metric_at(probe, settings.metric)
    sharp = inverse_hessian_at(probe, pose, metric, threads)
    metric = metric_at(level, settings.metric)
    fit = refine(level, pose, metric, threads, inverse_hessian=sharp)
    if sharp is None:
        return fit, math.nan
    there = fit.moving_from_fixed
    return fit, standard_error_mm(level, there, metric, sharp, threads)


def _refuse_no_overlap(fit: Fit) -> None:
    """Say what to do where nothing could be compared."""
    if fit.overlap_fraction == 0:
        raise InputError(
            "the two images, or what the masks leave of them, do not overlap at the "
            "start: give a better one, or let init be auto, which searches everywhere"
        )


def _doubts(contrasts: Sequence[Contrast]) -> tuple[str, ...]:
    """Say which image has too little contrast."""
    return tuple(
        f"the {name} image {one.doubt}"
        for name, one in zip(("fixed", "moving"), contrasts, strict=True)
        if one.doubt
    )


def _noise(end: _End) -> tuple[str, ...]:
    """Say that an answer may be far off."""
    if not _is_unsure(end):
        return ()
    return (
        f"noise leaves the answer unsure by {end.error_mm:.2g} mm: look whether it is "
        "right",
    )


def _rival(fits: Sequence[Fit], anatomy: Anatomy) -> tuple[float, tuple[str, ...]]:
    """Say how much the best pose elsewhere explains of what the answer does."""
    best = fits[0].moving_from_fixed
    for fit in fits[1:]:
        apart = anatomy.distance(best, fit.moving_from_fixed)
        if apart > APART * anatomy.radius and fit.explained > 0:
            share = fit.explained / fits[0].explained
            note = (
                f"a pose {apart:.0f} mm away explains {100 * share:.0f} % as much as "
                "this one: look whether it is right"
            )
            return share, (note,) if share > RIVAL else ()
    return 0.0, ()


def _learned(
    prior: Prior | None, swapped: bool, settings: Settings
) -> Sequence[FloatArray | None]:
    """Look up what was learned of each view, as strong as it is believed."""
    if (prior is not None) != (settings.metric == "prior"):
        raise InputError(
            f'the metric is "{settings.metric}" and there is '
            f'{"a" if prior else "no"} prior: metric "prior" goes with one'
        )
    if prior is None:
        return [None] * N_VIEWS
    joints = prior.transposed().joints if swapped else prior.joints
    return list(joints * settings.prior_strength)


def _start(
    init: str | RigidTransform, still: Scan, moved: Scan, swapped: bool
) -> FloatArray | None:
    """Turn the user's wish into a pose, or None where all are to be searched."""
    if isinstance(init, RigidTransform):
        return init.inverse().matrix if swapped else init.matrix
    if init == "auto":
        return None
    if init == "header":
        return np.eye(4)
    if init == "centre":
        return _centre_on_centre(still, moved)
    raise InputError(
        f"init is {init!r}; choose auto, header, centre, or give a transform"
    )


def _search(
    search: Callable[..., tuple[Poses, bool, bool]],
    seen: Callable[[Pair], list[Level]],
    pairs: list[Pair],
    watch: _Stopwatch,
    before: _Found | None = None,
) -> _Found:
    """Search with little effort, and where that leaves doubt with more.

    Goes on from what was found before, if that was not enough.
    """
    if before is None:
        coarse = seen(pairs[1])
        poses, clear, agree = search(EFFORTS[0], [seen(pairs[0]), coarse])
        before = _Found(poses, clear and agree, 0, coarse, pairs[2:])
        if before.sure:
            return before
    poses, coarse, finer = before.poses, before.coarse, before.finer
    if finer and not before.searches:  # rough levels can prefer wrong poses
        coarse, finer = seen(finer[0]), finer[1:]
    clear_before = False
    for again in range(before.searches, before.searches + _SEARCHES):
        watch.reach(0.2 + 0.7 * again / (_SEARCHES * (1 + _MORE)))
        poses, clear, _ = search(EFFORTS[1], [coarse], poses, again)
        if clear and clear_before:  # other starts led to nothing better
            break
        clear_before = clear
    return _Found(poses, False, again + 1, coarse, finer)


def _centre_on_centre(still: Scan, moved: Scan) -> FloatArray:
    pose = np.eye(4)
    pose[:3, 3] = moved.anatomy.centre - still.anatomy.centre
    return pose


def _one_search(
    still: Scan,
    moved: Scan,
    settings: Settings,
    threads: int,
    effort: Effort,
    levels: Sequence[Sequence[Level]],
    before: Sequence[Sequence[FloatArray]] = (),
    again: int = 0,
) -> tuple[Poses, bool, bool]:
    """Search once; what the headers say, and the centres, are among the found."""
    centres = (still.anatomy.centre, still.anatomy.centre)
    found, clear, agree = candidates(
        effort,
        [views_of[:2] for views_of in levels],
        still.anatomy,
        moved.anatomy,
        [(still.image.centre_mm, moved.image.centre_mm), centres],
        orientations=settings.orientations,
        keep=settings.candidates,
        threads=threads,
        before=before,
        again=again,
    )
    always = [np.eye(4), _centre_on_centre(still, moved)]
    poses = [distinct([*always, *of_view], still.anatomy) for of_view in found]
    return poses, clear, agree


def _log_candidates(
    found: _Found, centre: FloatArray, swapped: bool, settings: Settings
) -> None:
    """Tell the logger which poses the search found, the best first."""
    if not _LOG.isEnabledFor(logging.INFO):
        return
    level = sparser(found.coarse[0], settings)
    metric = metric_at(level, settings.metric)
    fits = [evaluate(level, pose, metric) for pose in found.poses[0]]
    _LOG.info("candidate  information  overlap  degrees   mm (right, front, up)")
    for rank, fit in enumerate(sorted(fits, key=lambda fit: -fit.explained), 1):
        pose = fit.moving_from_fixed
        said = np.linalg.inv(pose) if swapped else pose
        place = RigidTransform.from_matrix(said, centre)
        _LOG.info(
            "%9d  %11.4f  %6.0f%%  %7.2f  %7.2f %7.2f %7.2f",
            rank,
            fit.explained,
            100 * fit.overlap_fraction,
            place.angle_deg,
            *place.translation,
        )


class _Stopwatch:
    """Seconds spent in each stage, told to whoever wants to know."""

    def __init__(self, progress: Progress | None) -> None:
        self.seconds: dict[str, float] = {}
        self._progress = progress
        self._stage = ""
        self._share = 0.0
        self._since = time.perf_counter()

    def start(self, stage: str, share: float) -> None:
        """End the stage under way and start the next."""
        now = time.perf_counter()
        if self._stage:
            before = self.seconds.get(self._stage, 0.0)
            self.seconds[self._stage] = before + now - self._since
            _LOG.info("%s: %.3f s", self._stage, now - self._since)
        self._stage, self._since = stage, now
        self.reach(share)

    def reach(self, share: float) -> None:
        """Tell how much is done."""
        self._share = max(self._share, share)
        if self._progress is not None:
            self._progress(self._stage or "done", self._share)
