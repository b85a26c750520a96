"""One candidate pose down the pyramid, to the nearest maximum of the similarity."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.optimize import OptimizeResult, minimize

from .._prepare import Anatomy
from .._threads import shared
from .._transform import rotation_and_derivative
from .levels import Level
from .metrics import Metric
from .similarity import information, joint_histogram, score_gradient, score_gradients

FloatArray = npt.NDArray[np.float64]

#: A pose to refine, RAS+ mm, and the inverse Hessian where one is known: see `Fit`.
Start = tuple[FloatArray, FloatArray | None]

#: Most evaluations of one refinement.
_MOST = 40

#: How far off, in voxels, slopes are compared to tell how sharp a maximum is: far
#: enough not to take the ripples of noise for its shape.
_NEAR = 0.3

#: Runs of neighbouring samples of which the slopes tell how much noise there is.
_RUNS = 200

#: Evaluations that each start of a race is given first. Where a start ranks before it
#: climbs says little.
_HEAT = 8


@dataclass(frozen=True, eq=False)
class Fit:
    """A pose and what the similarity says of it.

    Attributes
    ----------
    moving_from_fixed : (4, 4) ndarray
        RAS+ mm to RAS+ mm.
    score : float
        Similarity at this pose, at the level of the last refinement.
    overlap_fraction : float
        Share of the samples that fall inside the moving image.
    explained : float
        Information per sample, those outside counting as none: what fits are
        ranked by, since a small, lucky overlap can have a high similarity.
    evaluations : int
        Times the similarity was computed.
    inverse_hessian : (6, 6) ndarray or None
        About the inverse of minus the score's second derivatives, mm^2: by the
        rotation times the samples' mean radius, then by the translation.
    """

    moving_from_fixed: FloatArray
    score: float
    overlap_fraction: float
    explained: float
    evaluations: int = 0
    inverse_hessian: FloatArray | None = None

    @property
    def start(self) -> Start:
        """Where to go on from at the next level."""
        return self.moving_from_fixed, self.inverse_hessian


def evaluate(
    level: Level, moving_from_fixed: FloatArray, metric: Metric, threads: int = 1
) -> Fit:
    """Score one pose at one level."""
    histogram, _ = joint_histogram(level, moving_from_fixed, threads)
    return _fit(level, moving_from_fixed, histogram, metric(histogram)[0])


def _fit(
    level: Level, moving_from_fixed: FloatArray, histogram: FloatArray, score: float
) -> Fit:
    """Record what a joint histogram says of a pose."""
    overlap = float(histogram.sum() / level.points.shape[1])
    explained = information(level, histogram) * overlap
    return Fit(moving_from_fixed, score, overlap, explained)


def refine(
    level: Level,
    moving_from_fixed: FloatArray,
    metric: Metric,
    threads: int = 1,
    *,
    inverse_hessian: FloatArray | None = None,
    tolerance: float = 0.0005,
    max_evaluations: int = _MOST,
) -> Fit:
    """Climb from a pose to the nearest maximum of the similarity at one level.

    BFGS on six numbers that all are lengths: the translation of the middle of the
    samples, and the rotation about it times the samples' mean radius, both in units
    of the level's voxel size.

    Parameters
    ----------
    level : Level
        The pair at one resolution.
    moving_from_fixed : (4, 4) array
        Where to start, RAS+ mm.
    metric : callable
        From a joint histogram to score and derivative, as in `mireg._engine.metrics`.
    threads : int, optional
        Threads to use; the answer does not depend on it.
    inverse_hessian : (6, 6) array, optional
        As found at a coarser level; makes the first steps good ones.
    tolerance : float, optional
        Stop after a step that moves the samples by less than this many voxels, where
        the slope leaves no further to go.
    max_evaluations : int, optional
        Most evaluations of the similarity.

    Returns
    -------
    Fit
        The best pose seen, never worse than the start.
    """
    look = _look_from(level, moving_from_fixed, metric, threads)
    best: tuple[float, FloatArray, FloatArray] | None = None
    count = 0

    def score_at(numbers: FloatArray) -> tuple[float, FloatArray]:
        nonlocal best, count
        if count == max_evaluations:
            raise StopIteration
        pose, histogram, score, slope = look(numbers)
        count += 1
        if slope is None:
            return 0.0, np.zeros(6)
        if best is None or score > best[0]:
            best = score, pose, histogram
        return score, slope

    start = np.zeros(6)
    first = score_at(start)
    steepness = float(np.linalg.norm(first[1]))
    if best is None or steepness == 0:
        return replace(evaluate(level, moving_from_fixed, metric), evaluations=count)

    slope = first[1]

    def objective(numbers: FloatArray) -> tuple[float, FloatArray]:
        nonlocal slope
        score, slope = score_at(numbers) if numbers.any() else first
        # Scaled, so that the first trial step is one voxel long for any metric.
        return -score / steepness, -slope / steepness

    trail = _Trail(start, slope)

    def stop_at_the_top(intermediate_result: OptimizeResult) -> None:
        trail.go_on(intermediate_result.x.copy(), slope)
        # Here, and not in the middle of a step, what was learned of the Hessian stays.
        if trail.is_at_the_top(tolerance) or count == max_evaluations:
            raise StopIteration

    inverse_scale = steepness / level.size_mm**2
    guess = np.eye(6)
    if inverse_hessian is not None:
        guess = _positive_definite(inverse_hessian * inverse_scale)
    try:
        end = minimize(
            objective,
            start,
            jac=True,
            method="BFGS",
            callback=stop_at_the_top,
            options={"gtol": 1e-4, "hess_inv0": guess},
        )
        inverse_hessian = end.hess_inv / inverse_scale
    except StopIteration:  # enough evaluations
        inverse_hessian = None
    score, pose, histogram = best
    return replace(
        _fit(level, pose, histogram, score),
        evaluations=count,
        inverse_hessian=inverse_hessian,
    )


class _Trail:
    """The last step of a climb, and how fast slopes changed on its way."""

    def __init__(self, start: FloatArray, slope: FloatArray) -> None:
        self.here, self.slope = start, slope
        self.step, self.bend = math.inf, 0.0

    def go_on(self, there: FloatArray, slope: FloatArray) -> None:
        """Take a step."""
        self.step = float(np.linalg.norm(there - self.here))
        turn = float(np.linalg.norm(slope - self.slope))
        self.bend = max(self.bend, turn / max(self.step, 1e-12))
        self.here, self.slope = there, slope

    def is_at_the_top(self, tolerance: float) -> bool:
        """Tell whether neither the last step nor the slope says that it is far.

        A step can be small by chance. The top is no nearer than where the slope would
        vanish if it changed as fast as anywhere before.
        """
        steep = float(np.linalg.norm(self.slope)) > tolerance * self.bend
        return self.step < tolerance and not steep


def inverse_hessian_at(
    level: Level, moving_from_fixed: FloatArray, metric: Metric, threads: int = 1
) -> FloatArray | None:
    """Measure how sharp a maximum is, by differences of the gradient.

    Parameters
    ----------
    level, moving_from_fixed, metric, threads
        As for `refine`.

    Returns
    -------
    (6, 6) ndarray or None
        As in `Fit`; None where next to nothing overlaps.
    """
    look = _look_from(level, moving_from_fixed, metric, threads)
    hessian = np.empty((6, 6))
    for row, step in zip(hessian, _NEAR * np.eye(6), strict=True):
        behind, ahead = look(-step)[3], look(step)[3]
        if behind is None or ahead is None:
            return None
        row[:] = (behind - ahead) / (2 * _NEAR)
    inverse = np.asarray(np.linalg.inv(_positive_definite(hessian)), np.float64)
    return inverse * level.size_mm**2


def standard_error_mm(
    level: Level,
    moving_from_fixed: FloatArray,
    metric: Metric,
    inverse_hessian: FloatArray,
    threads: int = 1,
) -> float:
    """Estimate how far noise moves a maximum, root mean square over the samples.

    The gradient there is a sum over runs of neighbouring samples. What noise does to
    each shows in how much they differ: their covariance, seen through the inverse
    Hessian from both sides, is that of the answer [1]_.

    Parameters
    ----------
    level, moving_from_fixed, metric, threads
        As for `refine`.
    inverse_hessian : (6, 6) array
        As `inverse_hessian_at` gives it.

    References
    ----------
    .. [1] White, "Maximum likelihood estimation of misspecified models",
       Econometrica 1982.
    """
    chart = _Chart.about(level, moving_from_fixed)
    pose, d_rotation = chart.pose(np.zeros(6))
    histogram, seen = joint_histogram(level, pose, threads)
    _, d_histogram = metric(histogram)
    run = -(-level.points.shape[1] // _RUNS)
    parts = score_gradients(level, seen, d_histogram, threads, run)
    slopes = np.array([chart.slope(by_matrix, d_rotation) for by_matrix in parts])
    slopes -= slopes.mean(axis=0)
    moved = slopes @ inverse_hessian / level.size_mm
    # Of three axes, a turn moves a point along two.
    return math.sqrt(np.square(moved).sum(axis=0) @ np.repeat([2 / 3, 1], 3))


def stay_or_go(level: Level, stay: Fit, go: Fit, anatomy: Anatomy) -> Fit:
    """Choose between a pose and one a fraction of a voxel away.

    To go takes six numbers, which must earn what they cost: ``log(n) / 2`` nats each,
    for n samples [1]_. So images that are in line stay so, to the last digit. The
    difference, a few hundredths of a voxel at most, is one that the noise of the
    samples makes as well.

    Parameters
    ----------
    level : Level
        Where both were evaluated.
    stay, go : Fit
        The pose that is there already, and the one that was found.
    anatomy : Anatomy
        Of the sampled image; measures how far apart the poses are.

    References
    ----------
    .. [1] Schwarz, "Estimating the dimension of a model", Annals of Statistics 1978.
    """
    n = level.points.shape[1]
    apart = anatomy.distance(stay.moving_from_fixed, go.moving_from_fixed)
    earned = n * (go.explained - stay.explained)
    near = apart < level.size_mm / 10
    return stay if near and earned < 3 * math.log(n) else go


def race(
    levels: Sequence[Level],
    metrics: Sequence[Metric],
    poses: Sequence[Sequence[FloatArray]],
    anatomy: Anatomy,
    finalists: int,
    threads: int = 1,
    *,
    exchange: bool = False,
) -> dict[int, list[Fit]]:
    """Refine poses in several views of a level, dropping the hopeless early.

    Parameters
    ----------
    levels : sequence of Level
        One level of the pair, seen in several ways.
    metrics : sequence of callable
        The similarity in each view.
    poses : sequence of sequences of (4, 4) array
        Where to start in each of the first views, RAS+ mm. Views beyond these start
        from where the best of the others led.
    anatomy : Anatomy
        Of the sampled image; says which poses are near twins.
    finalists : int
        How many of each view are refined to the end.
    threads : int, optional
        Threads to use; the answer does not depend on it.
    exchange : bool, optional
        Whether the first views start from where the others led, too: what is a false
        maximum in one view may be a slope in another.

    Returns
    -------
    dict
        What remains in each view, the best first.
    """

    def refined(
        starts: Mapping[int, Sequence[Start]], max_evaluations: int
    ) -> dict[int, list[Fit]]:
        """Refine from the starts in each view, all at once."""
        runs = [
            (levels[view], metrics[view], start)
            for view, those in starts.items()
            for start in those
        ]
        fits = iter(_refine_all(runs, threads, max_evaluations))
        return {
            view: _apart([next(fits) for _ in those], anatomy)
            for view, those in starts.items()
        }

    starts = {
        view: [(pose, None) for pose in those] for view, those in enumerate(poses)
    }
    heats: dict[int, list[Fit]] = {view: [] for view in range(len(levels))}
    heats |= refined(starts, _HEAT)
    led = _apart([fit for fits in heats.values() for fit in fits[:finalists]], anatomy)
    others = {
        view: [(fit.moving_from_fixed, None) for fit in led if fit not in own]
        for view, own in heats.items()
        if exchange or not own
    }
    for view, more in refined(others, _HEAT).items():
        heats[view] = _apart([*heats[view], *more], anatomy)
    return refined(
        {view: [fit.start for fit in fits[:finalists]] for view, fits in heats.items()},
        _MOST,
    )


def leading(fits: Mapping[int, Sequence[Fit]]) -> int:
    """View whose best fit explains most."""
    return max(fits, key=lambda view: fits[view][0].explained)


def refine_each(
    level: Level,
    starts: Sequence[Start],
    metric: Metric,
    anatomy: Anatomy,
    threads: int = 1,
) -> list[Fit]:
    """Refine several starts at one level; the best first, near twins dropped."""
    runs = [(level, metric, start) for start in starts]
    return _apart(_refine_all(runs, threads), anatomy)


def _refine_all(
    runs: Sequence[tuple[Level, Metric, Start]],
    threads: int,
    max_evaluations: int = _MOST,
) -> list[Fit]:
    """Refine from each start: on a thread each, or one after the other on all."""
    one_each = len(runs) >= threads
    return shared(
        lambda run: refine(
            run[0],
            run[2][0],
            run[1],
            1 if one_each else threads,
            inverse_hessian=run[2][1],
            tolerance=0.1,
            max_evaluations=max_evaluations,
        ),
        runs,
        threads if one_each else 1,
    )


def _apart(fits: Sequence[Fit], anatomy: Anatomy) -> list[Fit]:
    """Put the best first, and drop those that are near twins of a better one."""
    best: list[Fit] = []
    for fit in sorted(fits, key=lambda fit: -fit.explained):
        if all(
            anatomy.distance(fit.moving_from_fixed, other.moving_from_fixed)
            > anatomy.radius / 20
            for other in best
        ):
            best.append(fit)
    return best


def _look_from(
    level: Level, moving_from_fixed: FloatArray, metric: Metric, threads: int
) -> Callable[[FloatArray], tuple[FloatArray, FloatArray, float, FloatArray | None]]:
    """Return what tells of six numbers: pose, joint histogram, score and slope.

    The slope is None, and the score 0, where next to nothing overlaps.
    """
    chart = _Chart.about(level, moving_from_fixed)
    n = level.points.shape[1]
    seen = np.empty((8, n), np.float32)

    def look(
        numbers: FloatArray,
    ) -> tuple[FloatArray, FloatArray, float, FloatArray | None]:
        pose, d_rotation = chart.pose(numbers)
        histogram, _ = joint_histogram(level, pose, threads, seen)
        if histogram.sum() < 0.02 * n:
            return pose, histogram, 0.0, None
        score, d_histogram = metric(histogram)
        by_matrix = score_gradient(level, seen, d_histogram, threads)
        return pose, histogram, score, chart.slope(by_matrix, d_rotation)

    return look


@dataclass(frozen=True, eq=False)
class _Chart:
    """Six numbers for the poses about one pose, as `refine` says."""

    moving_from_middle: FloatArray
    middle_from_fixed: FloatArray
    moving_ijk_from_middle: FloatArray
    middle: FloatArray
    unit: FloatArray

    @classmethod
    def about(cls, level: Level, moving_from_fixed: FloatArray) -> _Chart:
        fixed_from_middle, middle_from_fixed = np.eye(4), np.eye(4)
        fixed_from_middle[:3, 3] = level.origin + level.middle
        middle_from_fixed[:3, 3] = -fixed_from_middle[:3, 3]
        moving_from_middle = moving_from_fixed @ fixed_from_middle
        return cls(
            moving_from_middle,
            middle_from_fixed,
            (level.moving_ijk_from_mm @ moving_from_middle)[:3, :3],
            level.middle,
            np.repeat([level.size_mm / level.radius, level.size_mm], 3),
        )

    def pose(self, numbers: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Pose, and the derivative of its rotation about the middle."""
        lengths = numbers * self.unit
        motion = np.eye(4)
        motion[:3, :3], d_rotation = rotation_and_derivative(lengths[:3])
        motion[:3, 3] = lengths[3:]
        return self.moving_from_middle @ motion @ self.middle_from_fixed, d_rotation

    def slope(self, by_matrix: FloatArray, d_rotation: FloatArray) -> FloatArray:
        """Slope by the six numbers, from that by the voxel-from-point matrix."""
        by_motion = self.moving_ijk_from_middle.T @ by_matrix
        by_rotation = by_motion[:, :3] - by_motion[:, 3:] * self.middle
        by_vector = d_rotation.reshape(3, 9) @ by_rotation.ravel()
        return np.concatenate([by_vector, by_motion[:, 3]]) * self.unit


def _positive_definite(matrix: FloatArray) -> FloatArray:
    """Undo what rounding did to a matrix that has only positive eigenvalues."""
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    values = values.clip(1e-3 * max(values[-1], 1e-6))
    repaired: FloatArray = (vectors * values) @ vectors.T
    return (repaired + repaired.T) / 2
