"""One candidate pose down the pyramid, to the nearest maximum of the similarity."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from .metrics import Metric, mutual_information
from .pyramid import Level
from .similarity import joint_histogram, score_gradient
from .transform import rotation_and_derivative

FloatArray = npt.NDArray[np.float64]


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
        Mutual information per sample, those outside counting as none: what fits
        are ranked by, since a small, lucky overlap can have a high similarity.
    evaluations : int
        Times the similarity was computed.
    """

    moving_from_fixed: FloatArray
    score: float
    overlap_fraction: float
    explained: float
    evaluations: int = 0


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
    explained = mutual_information(histogram)[0] * overlap
    return Fit(moving_from_fixed, score, overlap, explained)


def refine(
    level: Level,
    moving_from_fixed: FloatArray,
    metric: Metric,
    threads: int = 1,
    *,
    tolerance: float = 1e-7,
    max_evaluations: int = 60,
) -> Fit:
    """Climb from a pose to the nearest maximum of the similarity at one level.

    L-BFGS-B on six numbers that all are lengths: the translation of the middle of
    the samples, and the rotation about it times the samples' mean radius, both in
    units of the level's voxel size.

    Parameters
    ----------
    level : Level
        The pair at one resolution.
    moving_from_fixed : (4, 4) array
        Where to start, RAS+ mm.
    metric : callable
        From a joint histogram to score and derivative, as in `mireg.metrics`.
    threads : int, optional
        Threads to use; the answer does not depend on it.
    tolerance : float, optional
        Stop when a step gains less than this share of what the first slope promised
        for a step of one voxel.
    max_evaluations : int, optional
        Most evaluations of the similarity.

    Returns
    -------
    Fit
        The best pose seen, never worse than the start.
    """
    n = level.points.shape[1]
    middle = level.points.mean(axis=1, dtype=np.float64)
    radius = np.sqrt(np.square(level.points - middle[:, None]).sum(axis=0).mean())
    unit = np.repeat([level.size_mm / max(radius, level.size_mm), level.size_mm], 3)
    # Motions happen about the middle of the samples: fixed_from_middle moves there.
    fixed_from_middle = np.eye(4)
    fixed_from_middle[:3, 3] = level.origin + middle
    moving_ijk_from_middle = (
        level.moving_ijk_from_mm @ moving_from_fixed @ fixed_from_middle
    )[:3, :3]
    seen = np.empty((8, n), np.float32)
    best = evaluate(level, moving_from_fixed, metric, threads)
    scale = 1.0
    count = 0

    def pose_at(parameters: FloatArray) -> tuple[FloatArray, FloatArray]:
        rotation, d_rotation = rotation_and_derivative(parameters[:3] * unit[:3])
        motion = np.eye(4)
        motion[:3, :3] = rotation
        motion[:3, 3] = parameters[3:] * unit[3:]
        pose = (
            moving_from_fixed
            @ fixed_from_middle
            @ motion
            @ np.linalg.inv(fixed_from_middle)
        )
        return pose, d_rotation

    def objective(parameters: FloatArray) -> tuple[float, FloatArray]:
        nonlocal best, count
        pose, d_rotation = pose_at(parameters)
        histogram, _ = joint_histogram(level, pose, threads, seen)
        inside = histogram.sum()
        count += 1
        if inside < 0.02 * n:
            return 0.0, np.zeros(6)
        score, d_histogram = metric(histogram)
        if score > best.score:
            best = _fit(level, pose, histogram, score)
        by_matrix = score_gradient(level, seen, d_histogram, threads)
        # d score / d (rotation, translation) of the motion about the middle.
        by_motion = moving_ijk_from_middle.T @ by_matrix
        by_rotation = by_motion[:, :3] - np.outer(by_motion[:, 3], middle)
        gradient = np.concatenate(
            [np.einsum("kab,ab->k", d_rotation, by_rotation), by_motion[:, 3]]
        )
        return -score * scale, -gradient * unit * scale

    start = np.zeros(6)
    _, gradient = objective(start)
    steepness = float(np.linalg.norm(gradient))
    if steepness > 0:
        scale = 1.0 / steepness  # so that tolerances mean the same for any metric
        minimize(
            objective,
            start,
            jac=True,
            method="L-BFGS-B",
            options={
                "maxfun": max_evaluations,
                "ftol": tolerance,
                "gtol": 1e-4,
            },
        )
    return replace(best, evaluations=count)
