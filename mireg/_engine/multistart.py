"""Search from many starts, and follow what was found to one answer."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from .._errors import InputError
from .._prepare import Anatomy, Scan, views
from .._settings import Settings
from .levels import Level, Pair, levels, pyramid, sparser
from .metrics import Metric
from .optimize import (
    Fit,
    Start,
    evaluate,
    inverse_hessian_at,
    leading,
    race,
    refine,
    refine_each,
    standard_error_mm,
)
from .search import EFFORTS, Effort, candidates, distinct
from .similarity import metric_at

FloatArray = npt.NDArray[np.float64]

#: Poses to refine, (4, 4) each, of each view.
Poses = list[list[FloatArray]]

#: How many rounds there are: more than one while noise can have made the answer.
ROUNDS = 3

#: Most searches with more effort in a round, from other starts each; fewer where two
#: in a row leave no doubt.
_SEARCHES = 10

#: How many candidates of a view enter the finest level, and each level before it: of
#: a search that is sure, and of one that is not. Rough levels can prefer wrong poses.
_STAY = {True: (2, 5), False: (8, 12)}

#: Of a search that is sure, what explains less than this share of what the best pose
#: does is followed no further.
_HOPELESS = 0.5

#: Where noise moves the answer by more than the first share of a voxel, the other image
#: is sampled, too, and noise must then move its answer by less than the second share.
_NOISY, _WORTH = 0.08, 0.8

#: Where noise moves the answer by more than this share of a voxel, it may be wrong: all
#: of four wrong answers for hard kinds were so, and none of 2450 right ones.
_UNSURE = 0.5


@dataclass(frozen=True, eq=False)
class Problem:
    """Two scans, and how to compare them.

    Attributes
    ----------
    fixed, moving : Scan
        That which is sampled, and the other. Poses lead from the first to the second.
    looks : list of (Scan, Scan)
        They as each view shows them; see `mireg._prepare.views`.
    pairs : list of Pair
        Their images, coarse to fine.
    learned : sequence of (g, g) array or None
        Of each view, see `mireg._engine.levels.Level`.
    settings : Settings
        The numbers of the method.
    threads : int
        Threads to use; the answer does not depend on it.
    """

    fixed: Scan
    moving: Scan
    looks: list[tuple[Scan, Scan]]
    pairs: list[Pair]
    learned: Sequence[FloatArray | None]
    settings: Settings
    threads: int

    @classmethod
    def of(
        cls,
        fixed: Scan,
        moving: Scan,
        learned: Sequence[FloatArray | None],
        settings: Settings,
        threads: int,
    ) -> Problem:
        """Make the pyramid and the views."""
        pairs = pyramid(fixed, moving, threads)
        looks = views(fixed, moving, threads)
        return cls(fixed, moving, looks, pairs, learned, settings, threads)

    @property
    def by_header(self) -> FloatArray:
        """The pose that the headers say."""
        return np.eye(4)

    @property
    def by_centre(self) -> FloatArray:
        """The pose that brings foreground onto foreground without turning."""
        pose = np.eye(4)
        pose[:3, 3] = self.moving.anatomy.centre - self.fixed.anatomy.centre
        return pose

    def seen(self, pair: Pair) -> list[Level]:
        """Levels of all views at one resolution."""
        return levels(pair, self.looks, self.settings, self.threads, self.learned)

    def moving_sampled(self, view: int) -> Level:
        """Level of a view at the finest resolution that has its samples in `moving`.

        Poses at it lead the other way.
        """
        fixed, moving = self.looks[view]
        joint, finest = self.learned[view], self.pairs[-1]
        exchanged = replace(finest, fixed=finest.moving, moving=finest.fixed)
        transposed = None if joint is None else joint.T
        return levels(
            exchanged, [(moving, fixed)], self.settings, self.threads, [transposed]
        )[0]


@dataclass(frozen=True, eq=False)
class Found:
    """What a search found.

    Attributes
    ----------
    poses : Poses
        To follow at the coarse level, in each view.
    also : list of Start
        To follow at each finer level, whatever came of it before.
    sure : bool
        Whether little effort was enough.
    searches : int
        If not, how many searches with more there were.
    coarse : list of Level
        The coarse level, in each view.
    finer : list of Pair
        Those at which to follow after that.
    """

    poses: Poses
    also: list[Start]
    sure: bool
    searches: int
    coarse: list[Level]
    finer: list[Pair]

    @classmethod
    def given(cls, problem: Problem, pose: FloatArray) -> Found:
        """Take a pose instead of a search."""
        coarse, finer = problem.seen(problem.pairs[1]), problem.pairs[2:]
        return cls([[pose]] * len(coarse), [], True, 0, coarse, finer)


@dataclass(frozen=True, eq=False)
class Answer:
    """Where following what a search found led.

    Attributes
    ----------
    level : Level
        Where it was refined to the end.
    fit : Fit
        The answer.
    error_mm : float
        Its standard error, NaN where nothing overlaps.
    swapped : bool
        Whether the level has its samples in the moving image, so that the answer leads
        from it to the fixed one.
    followed : list of Fit
        What was followed to the finest level, the best, which led to the answer, first;
        all from the fixed image to the moving one.
    """

    level: Level
    fit: Fit
    error_mm: float
    swapped: bool
    followed: list[Fit]

    @property
    def is_sharp(self) -> bool:
        """Whether noise hardly matters."""
        return not self.error_mm > _NOISY * self.level.size_mm

    @property
    def is_unsure(self) -> bool:
        """Whether noise can have made it: right answers are sharper."""
        return self.error_mm > _UNSURE * self.level.size_mm


def explore(
    problem: Problem,
    reach: Callable[[float], None],
    before: Found | None = None,
) -> Found:
    """Search one round: with little effort, and where that leaves doubt with more.

    Parameters
    ----------
    problem : Problem
        What to compare.
    reach : callable
        Called with the share of all rounds that is done.
    before : Found, optional
        What an earlier round found, if that was not enough; goes on from there.

    Returns
    -------
    Found
        What to follow, and at which levels.
    """
    if before is None:
        coarse = problem.seen(problem.pairs[1])
        rough = problem.seen(problem.pairs[0])
        poses, clear, agree = _search(problem, EFFORTS[0], [rough, coarse])
        # What was in line stays in line.
        also: list[Start] = [(problem.by_header, None)]
        sure = clear and agree
        before = Found(poses, also, sure, 0, coarse, problem.pairs[2:])
        if sure:
            return before
    poses, coarse, finer = before.poses, before.coarse, before.finer
    if finer and not before.searches:  # rough levels can prefer wrong poses
        coarse, finer = problem.seen(finer[0]), finer[1:]
    clear_before = False
    for again in range(before.searches, before.searches + _SEARCHES):
        reach(again / (_SEARCHES * ROUNDS))
        poses, clear, _ = _search(problem, EFFORTS[1], [coarse], poses, again)
        if clear and clear_before:  # other starts led to nothing better
            break
        clear_before = clear
    return Found(poses, before.also, False, again + 1, coarse, finer)


def _search(
    problem: Problem,
    effort: Effort,
    levels: Sequence[Sequence[Level]],
    before: Sequence[Sequence[FloatArray]] = (),
    again: int = 0,
) -> tuple[Poses, bool, bool]:
    """Search once; what the headers say, and the centres, are among the found."""
    fixed, moving = problem.fixed, problem.moving
    in_place = (fixed.anatomy.centre, fixed.anatomy.centre)
    found, clear, agree = candidates(
        effort,
        [views_of[:2] for views_of in levels],
        fixed.anatomy,
        moving.anatomy,
        [(fixed.image.centre_mm, moving.image.centre_mm), in_place],
        orientations=problem.settings.orientations,
        keep=problem.settings.candidates,
        threads=problem.threads,
        before=before,
        again=again,
    )
    always = [problem.by_header, problem.by_centre]
    poses = [distinct([*always, *of_view], fixed.anatomy) for of_view in found]
    return poses, clear, agree


def follow(problem: Problem, found: Found) -> Answer:
    """Refine what was found, level by level, ever fewer of it.

    Parameters
    ----------
    problem : Problem
        What to compare.
    found : Found
        Poses, and the levels at which to refine them.

    Returns
    -------
    Answer
        Refined with all samples; where noise matters, with those of the image that
        makes it sharper.
    """
    view, full, few, followed = _followed(problem, found)
    best = followed[0].moving_from_fixed
    fit, error_mm = _polished(full, few, best, problem.settings, problem.threads)
    answer = Answer(full, fit, error_mm, False, followed)
    return answer if answer.is_sharp else _sharper(problem, answer, view)


def _followed(problem: Problem, found: Found) -> tuple[int, Level, Level, list[Fit]]:
    """Follow with few samples.

    Returns the view that explains most, its finest level with all samples and with
    few, and where it led, the best first.
    """
    settings, threads = problem.settings, problem.threads
    anatomy = problem.fixed.anatomy
    at, few = found.coarse, [sparser(level, settings) for level in found.coarse]
    metrics = [metric_at(level, settings.metric) for level in few]
    stay = _STAY[found.sure]
    finalists = stay[len(found.finer) > 1]
    fits = race(
        few,
        metrics,
        found.poses,
        anatomy,
        finalists,
        threads,
        exchange=not found.sure,
    )
    for pair in found.finer:
        at = problem.seen(pair)
        few = [sparser(level, settings) for level in at]
        metrics = [metric_at(level, settings.metric) for level in few]
        starts = {
            view: [*(fit.start for fit in old[: stay[pair.below > 0]]), *found.also]
            for view, old in fits.items()
        }
        if found.sure:  # then one view is enough, and what can still be right
            starts = _hopeful(few, metrics, starts[leading(fits)], threads)
        fits = {
            view: refine_each(few[view], those, metrics[view], anatomy, threads)
            for view, those in starts.items()
        }
    view = leading(fits)
    followed = fits[view]
    if not found.sure:
        followed = _by_detours(few, metrics, view, followed, anatomy, threads)
    return view, at[view], few[view], followed


def _hopeful(
    levels: Sequence[Level],
    metrics: Sequence[Metric],
    starts: Sequence[Start],
    threads: int,
) -> dict[int, list[Start]]:
    """Keep the first start, and what is not hopeless beside it, in its best view."""

    def explained(start: Start, view: int) -> float:
        return evaluate(levels[view], start[0], metrics[view], threads).explained

    by_view = [explained(starts[0], view) for view in range(len(levels))]
    view = by_view.index(max(by_view))
    least = _HOPELESS * by_view[view]
    others = [start for start in starts[1:] if explained(start, view) > least]
    return {view: [starts[0], *others]}


def _by_detours(
    levels: Sequence[Level],
    metrics: Sequence[Metric],
    view: int,
    fits: Sequence[Fit],
    anatomy: Anatomy,
    threads: int,
) -> list[Fit]:
    """Refine from where the best fit of a view leads in the others, too.

    What is a false maximum in one view may be a slope in another.
    """
    starts = [fit.start for fit in fits]
    for other, (level, metric) in enumerate(zip(levels, metrics, strict=True)):
        if other != view:
            away = refine(level, fits[0].moving_from_fixed, metric, threads)
            starts.append((away.moving_from_fixed, None))
    return refine_each(levels[view], starts, metrics[view], anatomy, threads)


def _sharper(problem: Problem, answer: Answer, view: int) -> Answer:
    """Refine with all samples of one image and of the other; noise decides.

    Reading between voxels smooths. Where an image is coarse and noisy that helps, and
    the finer one is the better to sample, even if it shows more of the anatomy.
    """

    def refined(level: Level, pose: FloatArray, swapped: bool) -> Answer:
        fit, error_mm = _polished(level, level, pose, problem.settings, problem.threads)
        return replace(answer, level=level, fit=fit, error_mm=error_mm, swapped=swapped)

    here = refined(answer.level, answer.fit.moving_from_fixed, swapped=False)
    try:
        other = problem.moving_sampled(view)
    except InputError:  # a mask, or missing data, leaves too little there
        return here
    there = refined(other, _inverse(here.fit.moving_from_fixed), swapped=True)
    apart = problem.fixed.anatomy.distance(
        here.fit.moving_from_fixed, _inverse(there.fit.moving_from_fixed)
    )
    sharper = there.error_mm < _WORTH * here.error_mm
    return there if sharper and apart < here.level.size_mm else here


def _inverse(pose: FloatArray) -> FloatArray:
    return np.asarray(np.linalg.inv(pose), np.float64)


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
