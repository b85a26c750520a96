"""How far noise moves an answer: curvature and covariance of a maximum."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .. import _parameters as parameters
from .levels import Level
from .metrics import Metric
from .optimize import Objective, positive_definite
from .pose import PoseParameters
from .similarity import joint_histogram, score_gradients

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Uncertainty:
    """How far noise alone leaves a pose from the right one, if it is near it.

    Attributes
    ----------
    standard_error_mm : float
        Root mean square over the samples.
    covariance : (6, 6) ndarray
        Of a small motion of the sampled image about `centre` that comes before the
        pose: rotation vector (rad), then translation (mm), in RAS+.
    centre : (3,) ndarray
        Centre of the samples, RAS+ mm.
    """

    standard_error_mm: float
    covariance: FloatArray
    centre: FloatArray


def inverse_hessian_at(
    level: Level,
    pose: FloatArray,
    metric: Metric,
    threads: int = 1,
    step: float | None = None,
) -> FloatArray | None:
    """Measure how sharp a maximum is, by differences of the gradient.

    Parameters
    ----------
    level, pose, metric, threads
        As for `optimize.maximise`.
    step : float, optional
        How far away, in voxels (default: `parameters.CURVATURE_STEP_VOXELS`).

    Returns
    -------
    (6, 6) ndarray or None
        As in `optimize.Fit`; None where next to nothing overlaps.
    """
    objective = Objective(level, pose, metric, threads)
    step = parameters.CURVATURE_STEP_VOXELS if step is None else step
    hessian = np.empty((6, 6))
    for row, direction in zip(hessian, step * np.eye(6), strict=True):
        behind, ahead = objective(-direction).gradient, objective(direction).gradient
        if behind is None or ahead is None:
            return None
        row[:] = (behind - ahead) / (2 * step)
    inverse = np.asarray(np.linalg.inv(positive_definite(hessian)), np.float64)
    return inverse * level.size_mm**2


def uncertainty(
    level: Level,
    pose: FloatArray,
    metric: Metric,
    inverse_hessian: FloatArray,
    threads: int = 1,
) -> Uncertainty:
    """Estimate how far noise moves a maximum.

    The gradient there is a sum over runs of neighbouring samples. What noise does to
    each shows in how much they differ: their covariance, seen through the inverse
    Hessian from both sides, is that of the answer [1]_.

    Parameters
    ----------
    level, pose, metric, threads
        As for `optimize.maximise`.
    inverse_hessian : (6, 6) array
        As `inverse_hessian_at` gives it.

    References
    ----------
    .. [1] White, "Maximum likelihood estimation of misspecified models",
       Econometrica 1982.
    """
    gradients = _gradients_of_runs(level, pose, metric, threads)
    moved_mm = gradients @ inverse_hessian / level.size_mm
    # Of three axes, a rotation moves a point along two.
    square_mm = np.square(moved_mm).sum(axis=0) @ np.repeat([2 / 3, 1], 3)
    moved = moved_mm / np.repeat([level.rms_radius, 1], 3)
    return Uncertainty(
        math.sqrt(square_mm), moved.T @ moved, level.origin + level.centre
    )


def effective_samples(
    level: Level, pose: FloatArray, metric: Metric, threads: int = 1
) -> float:
    """Count the independent samples that would be as sure of a maximum.

    Neighbouring samples share structure and noise. If n were independent, the gradient
    would vary as the curvature says, and n be the number of parameters over the trace
    of the inverse Hessian times the gradient's covariance: the adjustment of a
    composite likelihood [1]_. Where a pose fits by large shapes alone it is small.

    Parameters
    ----------
    level, pose, threads
        As for `optimize.maximise`.
    metric : callable
        The information for each sample, in nats.

    Returns
    -------
    float
        0 where next to nothing overlaps.

    References
    ----------
    .. [1] Varin, Reid and Firth, "An overview of composite likelihood methods",
       Statistica Sinica 2011.
    """
    steps = parameters.EVIDENCE_STEPS_VOXELS
    inverses = [
        inverse_hessian_at(level, pose, metric, threads, step) for step in steps
    ]
    gradients = None
    fewest = np.inf
    for inverse in inverses:
        if inverse is None:
            return 0.0
        if gradients is None:
            gradients = _gradients_of_runs(level, pose, metric, threads)
            gradients /= level.size_mm
        spread = np.einsum("ra,ab,rb->", gradients, inverse, gradients)
        fewest = min(fewest, 6 / max(float(spread), 1e-12))
    return fewest


def _gradients_of_runs(
    level: Level, pose: FloatArray, metric: Metric, threads: int
) -> FloatArray:
    """Parts (r, 6) of the gradient by runs of neighbouring samples, less their mean."""
    near = PoseParameters.about(level, pose)
    pose, d_rotation = near.pose(np.zeros(6))
    histogram, readings = joint_histogram(level, pose, threads)
    _, d_histogram = metric(histogram)
    run = -(-level.n_samples // parameters.NOISE_RUNS)
    parts = score_gradients(level, readings, d_histogram, threads, run)
    gradients = np.array([near.gradient(by_matrix, d_rotation) for by_matrix in parts])
    return gradients - gradients.mean(axis=0)


def covariance_after(
    found: Uncertainty,
    moving_from_fixed: FloatArray,
    centre: FloatArray,
    *,
    sampled_is_fixed: bool,
) -> FloatArray:
    """Restate a covariance for the user: of a motion that comes after the transform.

    Parameters
    ----------
    found : Uncertainty
        As the engine has it.
    moving_from_fixed : (4, 4) array
        The transform, RAS+ mm to RAS+ mm.
    centre : (3,) array
        A point of the fixed image, RAS+ mm; the motion turns about where it goes.
    sampled_is_fixed : bool
        Whether the motion was one of the fixed image.

    Returns
    -------
    (6, 6) ndarray
        Rotation vector (rad), then translation (mm), in the axes of the moving image.
    """
    rotation = moving_from_fixed[:3, :3]
    there = rotation @ centre + moving_from_fixed[:3, 3]
    turned, about = np.eye(3), found.centre
    if sampled_is_fixed:
        turned, about = rotation, rotation @ found.centre + moving_from_fixed[:3, 3]
    # A rotation w about a point moves another one, r away from it, by w x r.
    x, y, z = there - about
    lever = np.array([[0, z, -y], [-z, 0, x], [y, -x, 0]])
    jacobian = np.zeros((6, 6))
    jacobian[:3, :3] = jacobian[3:, 3:] = turned
    jacobian[3:, :3] = lever @ turned
    # Of the moving image it is the inverse motion, and signs cancel in a covariance.
    return jacobian @ found.covariance @ jacobian.T
