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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from . import _parameters as parameters
from . import _preflight as preflight
from . import _threads
from ._contrast import Contrast, contrast
from ._engine.evidence import Choice, chosen
from ._engine.levels import (
    Level,
    Pyramid,
    Resolution,
    levels_at,
    pyramid,
    subsampled,
)
from ._engine.model_choice import header_or_answer
from ._engine.neighbourhood import twins, within_error
from ._engine.optimize import (
    Channels,
    Fit,
    evaluate,
    leading,
    maximise,
    optimise_all,
    optimise_best,
    pruned,
)
from ._engine.pair import Pair, inverse
from ._engine.search import (
    global_search,
    searched_channels,
    sure_candidates,
)
from ._engine.signals import Evidence, Signals, evidence
from ._engine.similarity import metric_at
from ._engine.uncertainty import (
    Uncertainty,
    covariance_after,
    inverse_hessian_at,
    uncertainty,
)
from ._engine.verdict import Verdict, runner_up, usual_tolerance_mm, verdict
from ._errors import DoubtWarning, InputError, warn
from ._files.formats import ImageLike
from ._prepare import prepare, read
from ._prior import Prior, checked_prior
from ._progress import Progress, Stages
from ._registration import Registration
from ._settings import Settings, settings_or_default
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
        without turning; a rigid transform (fixed to moving, RAS+ mm), the path of
        one, or what holds one, as a `Registration`, is taken as it is.
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
    the other one, where noise then moves the answer clearly less. The guide describes
    the method: ``mireg guide method``.

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
    init = _checked_init(init)
    task = opened(fixed, moving, fixed_mask, moving_mask, settings, prior, progress)
    pair, settings, told = task.pair, task.settings, task.told
    outcome = best_answer(task, _start(init, pair))
    answer = outcome.answer
    header = evaluate(
        answer.level,
        pair.header_pose,
        metric_at(answer.level, settings.metric),
        task.threads,
    )
    if answer.fit.overlap_fraction == 0:
        raise InputError(
            "the two images, or what the masks leave of them, do not overlap at the "
            "start; give a better one, or let init be auto, which searches every pose"
        )
    sampled = answer.pair.sampled.foreground
    fit = header_or_answer(answer.level, header, answer.fit, sampled)
    told.start("verdict", 0.95)
    known = known_of(task, answer)
    judged = judge(task, outcome, known.signals)
    told.start("", 1.0)
    doubts = (judged.warning,) if judged.doubtful else ()
    for doubt in doubts:
        warn(doubt, DoubtWarning)

    foreground = pair.fixed.foreground
    transform = RigidTransform.from_matrix(
        answer.pair.moving_from_fixed(fit.pose), foreground.centroid
    )
    moved_by = transform.displacements(foreground.points)
    return Registration(
        fixed=pair.fixed.image,
        moving=pair.moving.image,
        transform=transform,
        metric=settings.metric,
        score=fit.score,
        initial_score=header.score if header.overlap_fraction > 0 else math.nan,
        overlap_fraction=fit.overlap_fraction,
        mean_displacement_mm=float(moved_by.mean()),
        max_displacement_mm=float(moved_by.max()),
        seconds=told.seconds,
        settings=settings,
        fixed_contrast=task.contrasts[0],
        moving_contrast=task.contrasts[1],
        warnings=task.notes + outcome.notes + doubts,
        runner_up=runner_up(outcome.fits, pair.sampled.foreground)[0],
        standard_error_mm=answer.error_mm,
        covariance=answer.covariance(transform),
        converged=answer.fit.converged,
        verdict=judged,
        residuals=known.residuals.seen_from_fixed(
            fit.pose, sampled_is_fixed=answer.pair.sampled_is_fixed
        ),
    )


@dataclass(frozen=True, eq=False)
class Task:
    """Two prepared images, and how to compare them.

    Attributes
    ----------
    pair : Pair
        The images in their roles.
    resolutions : Pyramid
        Both, coarse to fine.
    contrasts : sequence of Contrast
        How much contrast the fixed and the moving image have.
    notes : tuple of str
        What is odd about them.
    settings : Settings
        The numbers of the method.
    threads : int
        Threads to use.
    told : Stages
        Who is told how far things are.
    """

    pair: Pair
    resolutions: Pyramid
    contrasts: Sequence[Contrast]
    notes: tuple[str, ...]
    settings: Settings
    threads: int
    told: Stages


def opened(
    fixed: ImageLike,
    moving: ImageLike,
    fixed_mask: ImageLike | None,
    moving_mask: ImageLike | None,
    settings: Settings | None,
    prior: Prior | None,
    progress: Progress | None,
) -> Task:
    """Read two images, prepare each by itself, and shrink both; see `register`."""
    settings = settings_or_default(settings)
    threads = settings.threads or _threads.available()
    joints = _weighted_prior(prior, settings)
    told = Stages(progress)

    told.start("prepare", 0.0)
    given = [read("fixed", fixed, fixed_mask), read("moving", moving, moving_mask)]
    prepared = shared(lambda one: prepare(*one, threads=threads), given, threads)
    contrasts = shared(contrast, prepared, threads)
    notes = preflight.notes(*(one.image for one in prepared)) + _too_flat(contrasts)

    told.start("pyramid", 0.1)
    pair = Pair.of(prepared[0], prepared[1], joints, threads)
    resolutions = pyramid(pair, threads)
    return Task(pair, resolutions, contrasts, notes, settings, threads, told)


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a search ended with.

    Attributes
    ----------
    answer : Answer
        The best pose.
    fits : sequence of Fit
        What was followed to the finest level, the best, which led to it, first.
    searched : bool
        Whether everywhere was searched.
    notes : tuple of str
        What the user should know of the search.
    """

    answer: Answer
    fits: Sequence[Fit]
    searched: bool
    notes: tuple[str, ...] = ()


def best_answer(
    task: Task, start: FloatArray | None, *, also: Sequence[FloatArray] = ()
) -> Outcome:
    """Search, refine and polish, until the answer is not in doubt.

    From a start that is given, or where it is None from everywhere; poses in `also` are
    followed, too.
    """
    pair, resolutions, told = task.pair, task.resolutions, task.told
    settings, threads = task.settings, task.threads
    told.start("search", 0.2)
    found = _first_search(pair, resolutions, start, settings, threads)
    if also:
        found = replace(
            found,
            candidates={
                name: np.concatenate([also, poses])
                for name, poses in found.candidates.items()
            },
            also=[*found.also, *also],
        )
    rounds = [] if start is not None else [*parameters.EFFORT[settings.effort]]
    in_doubt, answer = not found.confident, None
    best, likely = None, 0.0
    while True:
        if in_doubt and rounds and not _is_late(told, settings):
            told.start("search", 0.3, "in doubt, searching on")
            count = rounds.pop(0)
            found = _search_on(pair, resolutions, found, count, settings, threads, told)
        _log_candidates(pair, found, settings)
        told.start("refine", 0.5)
        channel, level, fits, choice = _refined(pair, found, settings, threads)
        pose = fits[0].pose
        if answer is None or not _is_near(answer, pair, level, pose):
            answer = _polished(
                pair, resolutions, channel, level, pose, settings, threads
            )
        outcome = Outcome(answer, fits, start is None, _notes(choice))
        # Also where the error is unknown, since next to nothing overlaps.
        in_doubt = not answer.error_voxels <= parameters.UNCERTAIN_VOXELS
        if best is None and (not rounds or (found.confident and not in_doubt)):
            return outcome
        # One vertebra off, an answer is as sharp as the right one; and what a later
        # search has found need not be better.
        probability = judge(task, outcome, known_of(task, answer).signals).probability
        in_doubt = in_doubt or not probability >= parameters.SEARCH_ON_BELOW
        if best is None or probability > likely:
            best, likely = outcome, probability
        if not in_doubt or not rounds or _is_late(told, settings):
            break
    if not rounds or not in_doubt:
        return best
    late = (
        f"the time limit of {settings.time_limit:g} s ended the search while it "
        "was in doubt; with more time it might find another answer"
    )
    return replace(best, notes=(late, *best.notes))


def _notes(choice: Choice | None) -> tuple[str, ...]:
    """Tell where the headers decided."""
    if choice is None or not choice.for_the_headers:
        return ()
    return (
        "the answer follows the headers; by the images alone a pose "
        f"{choice.apart_mm:.0f} mm away is better: look which is right",
    )


def known_of(task: Task, answer: Answer) -> Evidence:
    """Measure what speaks for an answer and against it."""
    pair, resolutions = answer.pair, task.resolutions
    if pair.sampled_is_fixed != task.pair.sampled_is_fixed:
        resolutions = resolutions.exchanged()
    (channel,) = pair.channels
    pose, level = answer.fit.pose, answer.level
    return evidence(
        pair, resolutions, channel, pose, task.settings, task.threads, level=level
    )


def judge(
    task: Task, outcome: Outcome, known: Signals, *, distance_mm: float = 0.0
) -> Verdict:
    """Say how likely an answer is right, or a pose so far from it, and why."""
    answer = outcome.answer
    error, level = answer.error_voxels, answer.level
    elsewhere, _ = runner_up(outcome.fits, task.pair.sampled.foreground)
    usual = usual_tolerance_mm(level.size_mm, task.pair.fixed.foreground)
    return verdict(
        {
            # What cannot be told is the worst; what was not looked for says nothing.
            # None at all is the error where the images tell nothing of each other.
            "error_voxels": error if error > 0 else math.inf,
            "runner_up": elsewhere if outcome.searched else math.nan,
            "overlap": answer.fit.overlap_fraction,
            **known.as_dict(),
        },
        standard_error_mm=answer.error_mm,
        voxel_mm=level.size_mm,
        usual_mm=usual,
        tolerance_mm=task.settings.tolerance_mm or usual,
        distance_mm=distance_mm,
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
    given : bool
        Whether the user gave the start.
    """

    candidates: Mapping[str, FloatArray]
    also: list[FloatArray]
    confident: bool
    searches: int
    levels: dict[str, Level]
    finer: tuple[Resolution, ...]
    given: bool = False


def _first_search(
    pair: Pair,
    resolutions: Pyramid,
    start: FloatArray | None,
    settings: Settings,
    threads: int,
) -> _Found:
    """Search quickly on two coarse levels, or take the start that was given."""
    coarse = levels_at(pair, resolutions.coarse, settings, threads)
    if start is not None:
        candidates = {next(iter(pair.channels)): start[None]}
        return _Found(candidates, [], True, 0, coarse, resolutions.finer, given=True)
    searched = pair.only(*searched_channels(pair))
    rough = levels_at(searched, resolutions.rough, settings, threads)
    found = global_search(
        pair, parameters.QUICK_SEARCH, [rough, coarse], settings, threads
    )
    also = sure_candidates(pair)
    finer = resolutions.finer
    return _Found(found.poses, also, found.confident, 0, coarse, finer)


def _search_on(
    pair: Pair,
    resolutions: Pyramid,
    found: _Found,
    count: int,
    settings: Settings,
    threads: int,
    told: Stages,
) -> _Found:
    """Search thoroughly, `count` times from other starts, and keep what was found."""
    for done in range(count):
        if done and _is_late(told, settings):
            break
        told.reach(0.3 + 0.2 * done / count)
        again = found.searches > 0
        level = found.levels
        if not again:
            level = levels_at(pair, resolutions.detailed, settings, threads)
        search = global_search(
            pair,
            parameters.THOROUGH_SEARCH,
            [level],
            settings,
            threads,
            found=found.candidates,
            restart=found.searches,
        )
        found = _Found(
            search.poses,
            found.also,
            confident=False,
            searches=found.searches + 1,
            levels=level,
            finer=found.finer if again else resolutions.finer[1:],
        )
    return found


def _is_near(answer: Answer, pair: Pair, level: Level, pose: FloatArray) -> bool:
    """Tell whether an answer lies within a voxel of a pose."""
    before = pair.engine_pose(answer.moving_from_fixed)
    return pair.sampled.foreground.distance(before, pose) < level.size_mm


def _is_late(told: Stages, settings: Settings) -> bool:
    """Tell whether the time limit forbids another search."""
    return settings.time_limit is not None and told.elapsed > settings.time_limit


# --- multi-resolution refinement ------------------------------------------------------


def _refined(
    pair: Pair, found: _Found, settings: Settings, threads: int
) -> tuple[str, Level, list[Fit], Choice | None]:
    """Optimise candidates level by level, ever fewer of them, with few samples.

    Returns the channel that explains most, its finest level with all samples, the fits
    there, the best first, and what was chosen by the evidence if there was doubt.
    """
    foreground, full = pair.sampled.foreground, found.levels
    few = _compared(full, settings)
    candidates = np.concatenate([*found.candidates.values()])
    keep = parameters.BEAM_WIDTH
    fits = optimise_best(few, candidates, foreground, keep, threads)
    for resolution in found.finer:
        channels = pair
        if found.confident and resolution.interpolated.voxels.size >= parameters.LARGE:
            full, few = {}, {}  # to make room
            best_start = fits[leading(fits)][0].pose
            channels = _explaining(pair, resolution, best_start, settings, threads)
        full = levels_at(channels, resolution, settings, threads)
        few = _compared(full, settings)
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
    choice = None
    if not found.confident:
        choice = chosen(few, fits, pair.header_pose, foreground, threads)
        channel, first = choice.best.channel, choice.best.fit
        best = [first, *(fit for fit in fits[channel] if fit is not first)]
    if not found.given:  # else it is stayed near
        coarse = _compared({channel: found.levels[channel]}, settings)
        best = _with_twins(pair, coarse, {channel: few[channel]}, best, threads)
    return channel, full[channel], best, choice


def _explaining(
    pair: Pair,
    resolution: Resolution,
    pose: FloatArray,
    settings: Settings,
    threads: int,
) -> Pair:
    """Keep the channel in which a pose explains most, with one volume at a time."""
    explained: dict[str, float] = {}

    def explain(names: Sequence[str]) -> None:
        levels = levels_at(pair.only(*names), resolution, settings, threads)
        for name, (level, metric) in _compared(levels, settings).items():
            fit = evaluate(level, pose, metric, threads)
            explained[name] = fit.weighted_information

    for volume in {channel.interpolated for channel in pair.channels.values()}:
        explain([n for n, one in pair.channels.items() if one.interpolated is volume])
    return pair.only(max(pair.channels, key=explained.__getitem__))


def _with_twins(
    pair: Pair, coarse: Channels, fine: Channels, fits: list[Fit], threads: int
) -> list[Fit]:
    """Follow the twins of the best pose, too, where they explain nearly as much."""
    ((name, (level, metric)),) = coarse.items()
    near = twins(pair.sampled, pair.interpolated, fits[0].pose)

    def run(pose: FloatArray) -> Fit:
        most = parameters.TWIN_EVALUATIONS
        return maximise(level, pose, metric, max_evaluations=most)

    here, *there = shared(run, [fits[0].pose, *near], threads)
    least = parameters.TWIN_SHARE * here.weighted_information
    starts = [(fit.pose, None) for fit in there if fit.weighted_information > least]
    foreground = pair.sampled.foreground
    found = optimise_all(fine, {name: starts}, foreground, threads)[name]
    better = found and found[0].weighted_information > fits[0].weighted_information
    return [*found, *fits] if better else [*fits, *found]


def _compared(full: Mapping[str, Level], settings: Settings) -> Channels:
    """Levels with few samples, and the metric for their joint histograms."""
    few = {name: subsampled(level, settings) for name, level in full.items()}
    return {
        name: (level, metric_at(level, settings.metric)) for name, level in few.items()
    }


# --- final polish ---------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Answer:
    """A pose that was optimised with all samples.

    Attributes
    ----------
    pair : Pair
        The roles in which it was, and the channel.
    level : Level
        The finest level in its channel.
    fit : Fit
        The pose.
    uncertainty : Uncertainty or None
        How far noise moves it; None where next to nothing overlaps.
    """

    pair: Pair
    level: Level
    fit: Fit
    uncertainty: Uncertainty | None

    @property
    def moving_from_fixed(self) -> FloatArray:
        """Give the pose as the user's."""
        return self.pair.moving_from_fixed(self.fit.pose)

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
) -> Answer:
    """Optimise with all samples; where noise matters, with those of the other image.

    Interpolation smooths, which suppresses noise. A coarse and noisy image is better
    interpolated, and the finer one sampled, even if it shows more of the anatomy.
    """
    pair, few = pair.only(channel), subsampled(level, settings)
    here = _optimised(pair, level, few, pose, settings, threads)
    for _ in range(parameters.SETTLING):
        least, most = parameters.SETTLING_VOXELS
        if not least < here.error_voxels < most:
            break
        there = _settled(here, few, settings, threads)
        if there is here:
            break
        here = there
    if not here.error_voxels > parameters.OTHER_SAMPLING_VOXELS:
        return here
    here = _optimised(pair, level, level, here.fit.pose, settings, threads)
    other, finest = pair.exchanged(), resolutions.finest.exchanged()
    try:
        (other_level,) = levels_at(other, finest, settings, threads).values()
    except InputError:  # a mask, or missing data, leaves too little there
        return here
    pose = inverse(here.fit.pose)
    there = _optimised(other, other_level, other_level, pose, settings, threads)
    apart = pair.sampled.foreground.distance(here.fit.pose, inverse(there.fit.pose))
    better = there.error_mm < parameters.OTHER_SAMPLING_GAIN * here.error_mm
    near = apart < parameters.OTHER_SAMPLING_APART_VOXELS * level.size_mm
    return there if better and near else here


def _settled(here: Answer, few: Level, settings: Settings, threads: int) -> Answer:
    """Look for a better maximum within the error of an answer.

    Where the similarity is flat, its ripples are maxima, too, and which of them is
    found depends on where the search came from.
    """
    assert here.uncertainty is not None  # else its error would be unknown
    metric = metric_at(few, settings.metric)
    nearby = within_error(here.uncertainty, here.level.rms_radius)
    starts = [here.fit.pose, *(here.fit.pose @ nearby)]

    def run(pose: FloatArray) -> Fit:
        tolerance = parameters.CANDIDATE_TOLERANCE
        return maximise(few, pose, metric, tolerance=tolerance)

    found = sorted(shared(run, starts, threads), key=lambda fit: -fit.score)
    metric = metric_at(here.level, settings.metric)
    found = [
        maximise(here.level, fit.pose, metric, threads)
        for fit in found[: parameters.SETTLING_FITS]
    ]
    best = max(found, key=lambda fit: fit.score)
    if not best.score > here.fit.score:
        return here
    return _optimised(here.pair, here.level, few, best.pose, settings, threads)


def _optimised(
    pair: Pair,
    level: Level,
    few: Level,
    pose: FloatArray,
    settings: Settings,
    threads: int,
) -> Answer:
    """Optimise a pose with all samples; few tell the curvature of the maximum."""
    metric = metric_at(few, settings.metric)
    inverse_hessian = inverse_hessian_at(few, pose, metric, threads)
    metric = metric_at(level, settings.metric)
    fit = maximise(level, pose, metric, threads, inverse_hessian=inverse_hessian)
    if inverse_hessian is None:
        return Answer(pair, level, fit, None)
    noise = uncertainty(level, fit.pose, metric, inverse_hessian, threads)
    return Answer(pair, level, fit, noise)


# --- input and log --------------------------------------------------------------------


def _weighted_prior(
    prior: Prior | None, settings: Settings
) -> dict[str, FloatArray] | None:
    """Weight the joint distributions of a prior by its strength."""
    prior = checked_prior(prior)
    if prior is None and settings.metric == "prior":
        raise InputError(
            'metric "prior" needs a prior; give one that mireg prior learn wrote'
        )
    if prior is not None and settings.metric != "prior":
        raise InputError(
            f'a prior is given, but the metric is "{settings.metric}"; choose metric '
            '"prior", or leave the prior out'
        )
    return None if prior is None else prior.weighted(settings.prior_strength)


def _too_flat(contrasts: Sequence[Contrast]) -> tuple[str, ...]:
    """Name the images that have too little contrast."""
    return tuple(
        f"the {name} image {one.doubt}"
        for name, one in zip(("fixed", "moving"), contrasts, strict=True)
        if one.doubt
    )


def _checked_init(init: Init | TransformLike) -> Init | TransformLike:
    """Refuse, before the work, a word that is no start and no file either."""
    words = get_args(Init)
    is_word = isinstance(init, str) and not (init in words or Path(init).suffix)
    if init is None or (is_word and not Path(str(init)).exists()):
        raise InputError(
            f"init is {init!r}; give {', '.join(words)}, a rigid transform, its "
            "(4, 4) matrix, or the path of its file"
        )
    return init


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
