"""The whole method on one page: from two images to a rigid transform."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from . import _preflight as preflight
from . import _threads
from ._contrast import contrast
from ._engine.levels import finest_mm, sparser
from ._engine.multistart import ROUNDS, Found, Problem, explore, follow
from ._engine.optimize import Fit, evaluate, stay_or_go
from ._engine.similarity import metric_at
from ._engine.verdict import verdict
from ._errors import InputError
from ._files.formats import ImageLike, as_image, as_mask
from ._prepare import scan, smaller_first
from ._prior import N_VIEWS, Prior
from ._registration import Registration
from ._settings import Settings
from ._threads import shared
from ._transform import RigidTransform

FloatArray = npt.NDArray[np.float64]
Progress = Callable[[str, float], None]

_LOG = logging.getLogger("mireg")


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
    samples of the image with the smaller foreground; in the end of the other one, where
    noise then moves the answer clearly less.

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
    # The search samples the smaller anatomy: it is likely to be inside the other.
    still, moved, swapped = smaller_first(*scans)

    watch.start("pyramid", 0.1)
    learned = _learned(prior, swapped, settings)
    problem = Problem.of(still, moved, learned, settings, threads)

    def reach(share: float) -> None:
        watch.reach(0.2 + 0.7 * share)

    watch.start("search", 0.2)
    start = _start(init, problem, swapped)
    found = explore(problem, reach) if start is None else Found.given(problem, start)
    _log_candidates(found, scans[0].anatomy.centre, swapped, settings)
    watch.start("refine", 0.5)
    answer = follow(problem, found)
    for _ in range(1, ROUNDS):
        if start is not None or not answer.is_unsure:
            break
        watch.start("search", 0.5)
        found = explore(problem, reach, found)
        watch.start("refine", 0.5)
        answer = follow(problem, found)
    _refuse_no_overlap(answer.fit)
    level, metric = answer.level, metric_at(answer.level, settings.metric)
    header = evaluate(level, problem.by_header, metric, threads)
    sampled = (moved if answer.swapped else still).anatomy
    fit = stay_or_go(level, header, answer.fit, sampled)
    judged = verdict(answer, still.anatomy, contrasts)
    watch.start("", 1.0)

    back = swapped != answer.swapped
    pose = np.linalg.inv(fit.moving_from_fixed) if back else fit.moving_from_fixed
    anatomy = scans[0].anatomy
    transform = RigidTransform.from_matrix(pose, anatomy.centre)
    moved_by = transform.displacements(anatomy.points)
    return Registration(
        fixed=fixed,
        moving=moving,
        transform=transform,
        metric=settings.metric,
        score=fit.score,
        initial_score=header.score if header.overlap_fraction > 0 else math.nan,
        overlap_fraction=fit.overlap_fraction,
        mean_displacement_mm=float(moved_by.mean()),
        max_displacement_mm=float(moved_by.max()),
        seconds=watch.seconds,
        settings=settings,
        fixed_contrast=contrasts[0],
        moving_contrast=contrasts[1],
        warnings=notes + judged.notes,
        runner_up=judged.rival,
        standard_error_mm=answer.error_mm,
        doubtful=judged.doubtful,
    )


def _refuse_no_overlap(fit: Fit) -> None:
    """Say what to do where nothing could be compared."""
    if fit.overlap_fraction == 0:
        raise InputError(
            "the two images, or what the masks leave of them, do not overlap at the "
            "start: give a better one, or let init be auto, which searches everywhere"
        )


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
    init: str | RigidTransform, problem: Problem, swapped: bool
) -> FloatArray | None:
    """Turn the user's wish into a pose, or None where all are to be searched."""
    if isinstance(init, RigidTransform):
        return init.inverse().matrix if swapped else init.matrix
    if init == "auto":
        return None
    if init == "header":
        return problem.by_header
    if init == "centre":
        return problem.by_centre
    raise InputError(
        f"init is {init!r}; choose auto, header, centre, or give a transform"
    )


def _log_candidates(
    found: Found, centre: FloatArray, swapped: bool, settings: Settings
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
