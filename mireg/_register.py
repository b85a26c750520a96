"""The whole method on one page: from two images to a rigid transform.

Each image is prepared by itself: intensity scale, foreground, bias field. The one with
the smaller foreground is sampled, the other one interpolated. A global search tries all
orientations; candidates are followed from coarse to fine in three channels, with and
without the bias fields; the best is polished with all samples, and noise tells how far
off it may be. `mireg._parameters` has the numbers, and what chose them.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from . import _parameters as parameters
from . import _preflight as preflight
from . import _threads
from ._contrast import contrast
from ._engine.levels import (
    Level,
    Pyramid,
    Resolution,
    levels,
    pyramid,
    subsampled,
)
from ._engine.model_choice import header_or_answer
from ._engine.optimize import (
    Channels,
    Fit,
    evaluate,
    leading,
    maximise,
    optimise_all,
    pruned,
    restart_from_channels,
    successive_halving,
)
from ._engine.pair import Pair, inverse
from ._engine.search import always_followed, global_search, searched_channels
from ._engine.signals import Evidence, evidence
from ._engine.similarity import metric_at
from ._engine.uncertainty import (
    Uncertainty,
    covariance_after,
    inverse_hessian_at,
    uncertainty,
)
from ._engine.verdict import verdict
from ._errors import InputError, warn
from ._files.formats import ImageLike, as_image, as_mask
from ._image import Image
from ._prepare import PreparedImage, prepare
from ._prior import Prior
from ._progress import Progress, Stages
from ._registration import Registration
from ._settings import Settings
from ._threads import shared
from ._transform import RigidTransform, TransformLike, as_rigid

FloatArray = npt.NDArray[np.float64]
Init = Literal["auto", "header", "centre"]

_LOG = logging.getLogger(__name__)


def register(
    fixed: ImageLike,
    moving: ImageLike,
    *,
    init: Init | TransformLike = "auto",
    fixed_mask: ImageLike | None = None,
    moving_mask: ImageLike | None = None,
    settings: Settings | None = None,
    prior: Prior | None = None,
    progress: Progress | None = None,
) -> Registration:
    """Find the rigid transform that brings a moving image into line with a fixed one.

    Parameters
    ----------
    fixed, moving : Image, PreparedImage, path, nibabel image, SimpleITK image or tuple
        Two scans of one patient; contrast, grid and pose may differ. Of a 4-D image
        the mean; `read_image` reads any other volume. A tuple is (array, affine).
    init : {"auto", "header", "centre"}, RigidTransform, (4, 4) array_like or path
        Where to start. "auto" searches every orientation and needs no starting guess;
        "header" trusts the headers, "centre" brings foreground onto foreground
        without turning; a rigid transform (fixed to moving, RAS+ mm), or the path of
        one, is taken as it is.
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
    The similarity is (normalised) mutual information [1]_ [2]_ of normalised
    intensities, over samples of the image with the smaller foreground; in the end of
    the other one, where noise then moves the answer clearly less. The method is the
    rest of this page.

    The logger "mireg" is told the stages and, at level INFO, the candidates that the
    search found.

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
    settings = settings or Settings()
    threads = settings.threads or _threads.available()
    joints = _weighted_prior(prior, settings)
    told = Stages(progress)

    told.start("prepare", 0.0)
    given = [
        _read("fixed", fixed, fixed_mask),
        _read("moving", moving, moving_mask),
    ]
    prepared = shared(lambda one: prepare(*one, threads=threads), given, threads)
    contrasts = shared(contrast, prepared, threads)
    notes = preflight.notes(*(one.image for one in prepared))

    told.start("pyramid", 0.1)
    pair = Pair.of(prepared[0], prepared[1], joints, threads)
    resolutions = pyramid(pair, threads)
    start = _start(init, pair)

    told.start("search", 0.2)
    found = _first_search(pair, resolutions, start, settings, threads)
    for stage in range(1 if start is not None else parameters.MAX_STAGES):
        if stage > 0 or not found.confident:
            told.start("search", 0.5 if stage else 0.2)
            found = _search_on(pair, resolutions, found, settings, threads, told)
        _log_candidates(pair, found, settings)
        told.start("refine", 0.5)
        channel, level, fits = _refined(pair, found, settings, threads)
        answer = _polished(
            pair, resolutions, channel, level, fits[0].pose, settings, threads
        )
        if not answer.error_voxels > parameters.UNCERTAIN_VOXELS:  # nor if unknown
            break

    header = evaluate(
        answer.level,
        pair.header_pose,
        metric_at(answer.level, settings.metric),
        threads,
    )
    if answer.fit.overlap_fraction == 0:
        raise InputError(
            "the two images, or what the masks leave of them, do not overlap at the "
            "start: give a better one, or let init be auto, which searches everywhere"
        )
    sampled = answer.pair.sampled.foreground
    fit = header_or_answer(answer.level, header, answer.fit, sampled)
    told.start("verdict", 0.95)
    measured = _measured(answer, resolutions, fit.pose, settings, threads)
    judged = verdict(
        fits, pair.sampled.foreground, answer.error_mm, answer.level, contrasts
    )
    told.start("", 1.0)
    if judged.doubtful:
        warn(judged.notes[-1])

    foreground = prepared[0].foreground
    transform = RigidTransform.from_matrix(
        answer.pair.moving_from_fixed(fit.pose), foreground.centroid
    )
    moved_by = transform.displacements(foreground.points)
    return Registration(
        fixed=prepared[0].image,
        moving=prepared[1].image,
        transform=transform,
        metric=settings.metric,
        score=fit.score,
        initial_score=header.score if header.overlap_fraction > 0 else math.nan,
        overlap_fraction=fit.overlap_fraction,
        mean_displacement_mm=float(moved_by.mean()),
        max_displacement_mm=float(moved_by.max()),
        seconds=told.seconds,
        settings=settings,
        fixed_contrast=contrasts[0],
        moving_contrast=contrasts[1],
        warnings=notes + judged.notes,
        runner_up=judged.runner_up,
        standard_error_mm=answer.error_mm,
        covariance=answer.covariance(transform),
        converged=answer.fit.converged,
        doubtful=judged.doubtful,
        residuals=measured.residuals.seen_from_fixed(
            fit.pose, sampled_is_fixed=answer.pair.sampled_is_fixed
        ),
    )


# --- global search --------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Found:
    """What was searched for, and where to follow it.

    Attributes
    ----------
    candidates : mapping of str to (n, 4, 4) ndarray
        In the channels that were searched.
    also : list of (4, 4) array
        Poses that are added to the candidates at each finer level.
    confident : bool
        Whether the quick search was enough.
    searches : int
        Number of thorough searches so far.
    levels : dict of str to Level
        Where local optimisation begins.
    finer : tuple of Resolution
        Through which it goes on.
    """

    candidates: Mapping[str, FloatArray]
    also: list[FloatArray]
    confident: bool
    searches: int
    levels: dict[str, Level]
    finer: tuple[Resolution, ...]


def _first_search(
    pair: Pair,
    resolutions: Pyramid,
    start: FloatArray | None,
    settings: Settings,
    threads: int,
) -> _Found:
    """Search quickly on two coarse levels, or take the start that was given."""
    coarse = levels(pair, resolutions.coarse, settings, threads)
    if start is not None:
        candidates = {name: start[None] for name in pair.channels}
        return _Found(candidates, [], True, 0, coarse, resolutions.finer)
    searched = pair.only(*searched_channels(pair))
    rough = levels(searched, resolutions.rough, settings, threads)
    found = global_search(
        pair, parameters.QUICK_SEARCH, [rough, coarse], settings, threads
    )
    also = always_followed(pair)
    return _Found(found.poses, also, found.confident, 0, coarse, resolutions.finer)


def _search_on(
    pair: Pair,
    resolutions: Pyramid,
    found: _Found,
    settings: Settings,
    threads: int,
    told: Stages,
) -> _Found:
    """Search thoroughly, from other starts each time.

    Until two searches in a row end without a runner-up, `MAX_RESTARTS` at most.
    """
    begin = found.levels
    if not found.searches:
        begin = levels(pair, resolutions.detailed, settings, threads)
    candidates, unimodal = found.candidates, False
    for restart in range(found.searches, found.searches + parameters.MAX_RESTARTS):
        told.reach(
            0.2 + 0.7 * restart / (parameters.MAX_RESTARTS * parameters.MAX_STAGES)
        )
        unimodal_before = unimodal
        search = global_search(
            pair,
            parameters.THOROUGH_SEARCH,
            [begin],
            settings,
            threads,
            found=candidates,
            restart=restart,
        )
        candidates, unimodal = search.poses, search.unimodal
        if unimodal and unimodal_before:
            break
    finer = resolutions.finer[1:]
    return _Found(candidates, found.also, False, restart + 1, begin, finer)


# --- multi-resolution refinement ------------------------------------------------------


def _refined(
    pair: Pair, found: _Found, settings: Settings, threads: int
) -> tuple[str, Level, list[Fit]]:
    """Optimise candidates level by level, ever fewer of them, with few samples.

    Returns the channel that explains most, its finest level with all samples, and the
    fits there, the best first.
    """
    foreground, beam = pair.sampled.foreground, parameters.BEAM_WIDTH[found.confident]
    full = found.levels
    few = _compared(full, settings)
    fits = successive_halving(
        few,
        found.candidates,
        foreground,
        beam.coarser if len(found.finer) > 1 else beam.finest,
        threads,
        cross_seeding=not found.confident,
    )
    for resolution in found.finer:
        full = levels(pair, resolution, settings, threads)
        few = _compared(full, settings)
        keep = beam.coarser if resolution.finer else beam.finest
        also = [(pose, None) for pose in found.also]
        starts = {
            name: [*(fit.start for fit in those[:keep]), *also]
            for name, those in fits.items()
        }
        if found.confident:  # then one channel is enough
            starts = pruned(few, starts[leading(fits)], threads)
        fits = optimise_all(few, starts, foreground, threads)
    channel = leading(fits)
    best = fits[channel]
    if not found.confident:
        best = restart_from_channels(few, best, channel, foreground, threads)
    return channel, full[channel], best


def _compared(full: Mapping[str, Level], settings: Settings) -> Channels:
    """Levels with few samples, and the metric for their joint histograms."""
    few = {name: subsampled(level, settings) for name, level in full.items()}
    return {
        name: (level, metric_at(level, settings.metric)) for name, level in few.items()
    }


# --- final polish ---------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Answer:
    """A pose that was optimised with all samples.

    Attributes
    ----------
    pair : Pair
        The roles in which it was, and the channel.
    exchanged : bool
        Whether the roles are others than those of the search.
    level : Level
        The finest level in its channel.
    fit : Fit
        The pose.
    uncertainty : Uncertainty or None
        How far noise moves it; None where next to nothing overlaps.
    """

    pair: Pair
    exchanged: bool
    level: Level
    fit: Fit
    uncertainty: Uncertainty | None

    @property
    def error_mm(self) -> float:
        """Give its standard error; NaN where that cannot be told."""
        return (
            math.nan if self.uncertainty is None else self.uncertainty.standard_error_mm
        )

    def covariance(self, transform: RigidTransform) -> FloatArray | None:
        """Give its covariance as a motion that comes after the user's transform."""
        if self.uncertainty is None:
            return None
        return covariance_after(
            self.uncertainty,
            transform.matrix,
            transform.centre,
            sampled_is_fixed=self.pair.sampled_is_fixed,
        )

    @property
    def error_voxels(self) -> float:
        """Give the same in voxels of the coarser image."""
        return self.error_mm / self.level.size_mm


def _polished(
    pair: Pair,
    resolutions: Pyramid,
    channel: str,
    level: Level,
    pose: FloatArray,
    settings: Settings,
    threads: int,
) -> _Answer:
    """Optimise with all samples; where noise matters, with those of the other image.

    Interpolation smooths, which suppresses noise. A coarse and noisy image is better
    interpolated, and the finer one sampled, even if it shows more of the anatomy.
    """
    pair, few = pair.only(channel), subsampled(level, settings)
    here = _optimised(pair, level, few, pose, settings, threads)
    if not here.error_voxels > parameters.OTHER_SAMPLING_VOXELS:
        return here
    here = _optimised(pair, level, level, here.fit.pose, settings, threads)
    other, finest = pair.exchanged(), resolutions.finest.exchanged()
    try:
        (other_level,) = levels(other, finest, settings, threads).values()
    except InputError:  # a mask, or missing data, leaves too little there
        return here
    pose = inverse(here.fit.pose)
    there = _optimised(other, other_level, other_level, pose, settings, threads)
    there = replace(there, exchanged=True)
    apart = pair.sampled.foreground.distance(here.fit.pose, inverse(there.fit.pose))
    better = there.error_mm < parameters.OTHER_SAMPLING_GAIN * here.error_mm
    near = apart < parameters.OTHER_SAMPLING_APART_VOXELS * level.size_mm
    return there if better and near else here


def _optimised(
    pair: Pair,
    level: Level,
    few: Level,
    pose: FloatArray,
    settings: Settings,
    threads: int,
) -> _Answer:
    """Optimise a pose with all samples; few tell the curvature of the maximum."""
    metric = metric_at(few, settings.metric)
    inverse_hessian = inverse_hessian_at(few, pose, metric, threads)
    metric = metric_at(level, settings.metric)
    fit = maximise(level, pose, metric, threads, inverse_hessian=inverse_hessian)
    if inverse_hessian is None:
        return _Answer(pair, False, level, fit, None)
    noise = uncertainty(level, fit.pose, metric, inverse_hessian, threads)
    return _Answer(pair, False, level, fit, noise)


def _measured(
    answer: _Answer,
    resolutions: Pyramid,
    pose: FloatArray,
    settings: Settings,
    threads: int,
) -> Evidence:
    """Measure what speaks for an answer and against it."""
    if answer.exchanged:
        resolutions = resolutions.exchanged()
    (channel,) = answer.pair.channels
    level = answer.level
    return evidence(
        answer.pair, resolutions, channel, pose, settings, threads, level=level
    )


# --- input and log --------------------------------------------------------------------


def _read(
    role: str, image: ImageLike, mask: ImageLike | None
) -> tuple[Image | PreparedImage, Image | None]:
    """Read an image and its mask; one that is prepared stays so."""
    if not isinstance(image, PreparedImage):
        image = as_image(image, name=f"the {role} image")
    return image, as_mask(mask, name=f"the {role} mask")


def _weighted_prior(
    prior: Prior | None, settings: Settings
) -> dict[str, FloatArray] | None:
    """Weight the joint distributions of a prior by its strength."""
    if (prior is not None) != (settings.metric == "prior"):
        raise InputError(
            f'the metric is "{settings.metric}" and there is '
            f'{"a" if prior else "no"} prior: metric "prior" goes with one'
        )
    return None if prior is None else prior.weighted(settings.prior_strength)


def _start(init: Init | TransformLike, pair: Pair) -> FloatArray | None:
    """Turn `init` into a pose of the engine, or None where all are searched."""
    if isinstance(init, str):
        if init == "auto":
            return None
        if init == "header":
            return pair.header_pose
        if init == "centre":
            return pair.centroid_pose
    given = as_rigid(init, fixed=pair.fixed.image, moving=pair.moving.image)
    # Inverted as numbers, not as a matrix: so exchanged images start at the same bits.
    return (given if pair.sampled_is_fixed else ~given).matrix


def _log_candidates(pair: Pair, found: _Found, settings: Settings) -> None:
    """Tell the logger which candidates the search found in its first channel."""
    if not _LOG.isEnabledFor(logging.INFO):
        return
    name, poses = next(iter(found.candidates.items()))
    level = subsampled(found.levels[name], settings)
    metric = metric_at(level, settings.metric)
    fits = [evaluate(level, pose, metric) for pose in poses]
    _LOG.info("candidate  information  overlap  degrees   mm (right, front, up)")
    for rank, fit in enumerate(sorted(fits, key=lambda f: -f.weighted_information), 1):
        place = RigidTransform.from_matrix(
            pair.moving_from_fixed(fit.pose), pair.fixed.foreground.centroid
        )
        _LOG.info(
            "%9d  %11.4f  %6.0f%%  %7.2f  %7.2f %7.2f %7.2f",
            rank,
            fit.weighted_information,
            100 * fit.overlap_fraction,
            place.angle_deg,
            *place.translation,
        )
