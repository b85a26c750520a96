"""Local optimisation of candidates: BFGS on six numbers, and the best of many."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import OptimizeResult, minimize

from .. import _parameters as parameters
from .._prepare import Foreground
from .._threads import shared
from .levels import Level
from .metrics import Metric
from .pose import PoseParameters
from .similarity import information, joint_histogram, score_gradient

FloatArray = npt.NDArray[np.float64]

#: A pose to start from, and the inverse Hessian where one is known: see `Fit`.
Start = tuple[FloatArray, FloatArray | None]


@dataclass(frozen=True, eq=False)
class Fit:
    """A pose and what the similarity says of it.

    Attributes
    ----------
    pose : (4, 4) ndarray
        `interpolated_from_sampled`, RAS+ mm to RAS+ mm.
    score : float
        Similarity at this pose, at the level where it was evaluated last.
    overlap_fraction : float
        Share of the samples that fall inside the interpolated image.
    weighted_information : float
        Information (nats) of each sample, those outside counting as none: what poses
        are ranked by, since a small, lucky overlap can have a high similarity. Without
        any overlap, less than any number.
    evaluations : int
        Times that the similarity was computed.
    converged : bool
        False where evaluations ran out, next to nothing overlapped, or a line search
        found nothing better though the gradient says that there is further to go.
    inverse_hessian : (6, 6) ndarray or None
        About the inverse of minus the score's second derivatives by the numbers of
        `PoseParameters`, in mm^2 instead of voxels.
    """

    pose: FloatArray
    score: float
    overlap_fraction: float
    weighted_information: float
    evaluations: int = 1
    converged: bool = False
    inverse_hessian: FloatArray | None = None

    @property
    def start(self) -> Start:
        """Where to go on from at the next level."""
        return self.pose, self.inverse_hessian


def evaluate(level: Level, pose: FloatArray, metric: Metric, threads: int = 1) -> Fit:
    """Score one pose at one level."""
    histogram, _ = joint_histogram(level, pose, threads)
    return _fit(level, pose, histogram, metric(histogram)[0])


def _fit(level: Level, pose: FloatArray, histogram: FloatArray, score: float) -> Fit:
    """Record what a joint histogram says of a pose."""
    overlap = float(histogram.sum() / level.n_samples)
    weighted = information(level, histogram) * overlap if overlap else -math.inf
    return Fit(pose, score, overlap, weighted)


class Evaluation(NamedTuple):
    """The similarity at one pose.

    Attributes
    ----------
    pose : (4, 4) ndarray
        `interpolated_from_sampled`, RAS+ mm to RAS+ mm.
    histogram : (n, n) ndarray
        The joint histogram.
    score : float
        The similarity.
    gradient : (6,) ndarray or None
        By the numbers of `PoseParameters`; None where next to nothing overlaps.
    """

    pose: FloatArray
    histogram: FloatArray
    score: float
    gradient: FloatArray | None


class Objective:
    """The similarity near a pose, as a function of six numbers.

    Attributes
    ----------
    evaluations : int
        Times that it was computed.
    """

    def __init__(
        self, level: Level, pose: FloatArray, metric: Metric, threads: int = 1
    ) -> None:
        self.evaluations = 0
        self._near = PoseParameters.about(level, pose)
        self._level, self._metric, self._threads = level, metric, threads
        self._readings = np.empty((8, level.n_samples), np.float32)

    def __call__(self, numbers: FloatArray) -> Evaluation:
        """Compare the pair at six numbers, in voxels."""
        self.evaluations += 1
        pose, d_rotation = self._near.pose(numbers)
        level, threads = self._level, self._threads
        histogram, readings = joint_histogram(level, pose, threads, self._readings)
        score, d_histogram = self._metric(histogram)
        if histogram.sum() < parameters.MIN_OVERLAP * level.n_samples:
            return Evaluation(pose, histogram, score, None)
        by_matrix = score_gradient(level, readings, d_histogram, threads)
        gradient = self._near.gradient(by_matrix, d_rotation)
        return Evaluation(pose, histogram, score, gradient)


#: What scipy calls "precision loss".
_LINE_SEARCH_FAILED = 2


class _OutOfEvaluations(Exception):  # noqa: N818 - not an error: the run ends here
    """A line search used up the evaluations."""


class _Ascent:
    """One run of BFGS: what scipy minimises, the best so far, and when to stop."""

    def __init__(
        self, objective: Objective, tolerance: float, max_evaluations: int
    ) -> None:
        self.objective = objective
        self.tolerance, self.max_evaluations = tolerance, max_evaluations
        self.here = np.zeros(6)
        self.first = self.best = objective(self.here)
        gradient = self.first.gradient
        self.gradient = np.zeros(6) if gradient is None else gradient
        self.gradient_here = self.gradient
        # Scaled, so that the first trial step is one voxel long for any metric.
        self.scale = float(np.linalg.norm(self.gradient))
        self.curvature = 0.0

    @property
    def is_out_of_evaluations(self) -> bool:
        """Whether no more evaluation is allowed."""
        return self.objective.evaluations >= self.max_evaluations

    def minus_score(self, numbers: FloatArray) -> tuple[float, FloatArray]:
        """Score and gradient with the sign and the scale that scipy gets."""
        if not numbers.any():
            found = self.first
        elif self.is_out_of_evaluations:
            raise _OutOfEvaluations
        else:
            found = self.objective(numbers)
        if found.gradient is None:
            # Worse than anything near the start, also where scores are negative.
            score = self.first.score - abs(self.first.score)
            self.gradient = np.zeros(6)
        else:
            score, self.gradient = found.score, found.gradient
            if score > self.best.score:
                self.best = found
        return -score / self.scale, -self.gradient / self.scale

    def after_step(self, intermediate_result: OptimizeResult) -> None:
        """Stop where the last step and the expected rest of the way are short.

        A step can be small by chance. The maximum is no nearer than where the gradient
        would vanish if it changed as fast as anywhere before.
        """
        there = intermediate_result.x.copy()
        step = float(np.linalg.norm(there - self.here))
        change = float(np.linalg.norm(self.gradient - self.gradient_here))
        self.curvature = max(self.curvature, change / max(step, 1e-12))
        self.here, self.gradient_here = there, self.gradient
        steep = float(np.linalg.norm(self.gradient)) > self.tolerance * self.curvature
        # Here, and not within a line search, what was learned of the Hessian stays.
        if (step < self.tolerance and not steep) or self.is_out_of_evaluations:
            raise StopIteration  # scipy's way to end well

    def expects(self, inverse_hessian: FloatArray) -> bool:
        """Tell whether the next step from the best would be a long one."""
        gradient = self.best.gradient
        if gradient is None:
            return False
        step = inverse_hessian @ gradient / self.scale
        return float(np.linalg.norm(step)) > self.tolerance


def maximise(
    level: Level,
    pose: FloatArray,
    metric: Metric,
    threads: int = 1,
    *,
    inverse_hessian: FloatArray | None = None,
    tolerance: float | None = None,
    max_evaluations: int | None = None,
) -> Fit:
    """Find the maximum of the similarity near a pose, at one level.

    Parameters
    ----------
    level : Level
        The pair at one resolution.
    pose : (4, 4) array
        Where to start: `interpolated_from_sampled`, RAS+ mm.
    metric : callable
        From a joint histogram to score and derivative, as in `metrics`.
    threads : int, optional
        Threads to use; the answer does not depend on it.
    inverse_hessian : (6, 6) array, optional
        As found at a coarser level; makes the first steps good ones.
    tolerance : float, optional
        Stop after a step that moves the samples by less than this many voxels, where
        the gradient leaves no further to go.
    max_evaluations : int, optional
        Most evaluations of the similarity.

    Returns
    -------
    Fit
        The best pose seen, never worse than the start.
    """
    run = _Ascent(
        Objective(level, pose, metric, threads),
        parameters.ANSWER_TOLERANCE if tolerance is None else tolerance,
        parameters.MAX_EVALUATIONS if max_evaluations is None else max_evaluations,
    )
    hessian, stuck = None, False
    if run.scale > 0:
        inverse_scale = run.scale / level.size_mm**2
        guess = np.eye(6)
        if inverse_hessian is not None:
            guess = positive_definite(inverse_hessian * inverse_scale)
        options = {"gtol": parameters.GRADIENT_TOLERANCE, "hess_inv0": guess}
        with suppress(_OutOfEvaluations):
            end = minimize(
                run.minus_score,
                run.here,
                jac=True,
                method="BFGS",
                callback=run.after_step,
                options=options,
            )
            hessian = end.hess_inv / inverse_scale
            stuck = end.status == _LINE_SEARCH_FAILED and run.expects(end.hess_inv)
    best = run.best
    return replace(
        _fit(level, best.pose, best.histogram, best.score),
        evaluations=run.objective.evaluations,
        converged=not (best.gradient is None or run.is_out_of_evaluations or stuck),
        inverse_hessian=hessian,
    )


def positive_definite(matrix: FloatArray) -> FloatArray:
    """Undo what rounding did to a matrix that has only positive eigenvalues."""
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    values = values.clip(parameters.MIN_EIGENVALUE_SHARE * max(values[-1], 1e-6))
    repaired: FloatArray = (vectors * values) @ vectors.T
    return (repaired + repaired.T) / 2


# --- many candidates ----------------------------------------------------------------

#: What is compared in each channel: a level, and the metric for its histograms.
Channels = Mapping[str, tuple[Level, Metric]]

#: Fits of each channel, the best first.
Fits = dict[str, list[Fit]]


def optimise_best(
    channels: Channels,
    poses: Sequence[FloatArray] | FloatArray,
    foreground: Foreground,
    keep: int,
    threads: int = 1,
) -> Fits:
    """Rank candidates in every channel, and optimise the best of each.

    A false maximum in one channel may be none in another, whichever found it.

    Parameters
    ----------
    channels : mapping of str to (Level, Metric)
        One level of the pair in every channel.
    poses : (n, 4, 4) array
        Candidates, of whatever channel.
    foreground : Foreground
        Of the sampled image; says which poses are distinct.
    keep : int
        How many of each channel are optimised.
    threads : int, optional
        Threads to use; the answer does not depend on it.

    Returns
    -------
    dict of str to list of Fit
        What remains in each channel, the best first.
    """
    starts = {}
    for name, (level, metric) in channels.items():
        ranked = shared(partial(evaluate, level, metric=metric), poses, threads)
        best = best_distinct(ranked, foreground)[:keep]
        starts[name] = [fit.start for fit in best]
    return optimise_all(channels, starts, foreground, threads)


def optimise_all(
    channels: Channels,
    starts: Mapping[str, Sequence[Start]],
    foreground: Foreground,
    threads: int = 1,
) -> Fits:
    """Optimise from each start in each channel: the best first, distinct ones only.

    On a thread each or, where there are few, one after the other on all threads.
    """
    runs = [(*channels[name], one) for name, those in starts.items() for one in those]
    one_each = len(runs) >= threads

    def run(job: tuple[Level, Metric, Start]) -> Fit:
        level, metric, (pose, inverse_hessian) = job
        return maximise(
            level,
            pose,
            metric,
            1 if one_each else threads,
            inverse_hessian=inverse_hessian,
            tolerance=parameters.CANDIDATE_TOLERANCE,
        )

    fits = iter(shared(run, runs, threads if one_each else 1))
    return {
        name: best_distinct([next(fits) for _ in those], foreground)
        for name, those in starts.items()
    }


def pruned(
    channels: Channels, starts: Sequence[Start], threads: int = 1
) -> dict[str, list[Start]]:
    """Keep the first start, and those that explain at least half as much.

    All in one channel, that in which the first start explains most.
    """

    def explained(start: Start, name: str) -> float:
        level, metric = channels[name]
        return evaluate(level, start[0], metric, threads).weighted_information

    by_channel = {name: explained(starts[0], name) for name in channels}
    name = max(by_channel, key=by_channel.__getitem__)
    best = by_channel[name]  # below 0 where a prior says so
    least = best - (1 - parameters.PRUNE_SHARE) * abs(best)
    return {
        name: [
            starts[0],
            *(start for start in starts[1:] if explained(start, name) > least),
        ]
    }


def leading(fits: Mapping[str, Sequence[Fit]]) -> str:
    """Channel whose best fit explains most."""
    return max(fits, key=lambda name: fits[name][0].weighted_information)


def best_distinct(fits: Sequence[Fit], foreground: Foreground) -> list[Fit]:
    """Put the best first, and drop those that are near a better one."""
    best: list[Fit] = []
    apart = parameters.OPTIMUM_RADII * foreground.rms_radius
    for fit in sorted(fits, key=lambda fit: -fit.weighted_information):
        if all(foreground.distance(fit.pose, other.pose) > apart for other in best):
            best.append(fit)
    return best
