"""Left and right: which of an image and its mirror image explains the other one.

Anatomy is nearly its own mirror image, so a mirrored scan is brought into line as
well, and nothing but the comparison of both tells. The sampled image is mirrored about
the plane about which it resembles itself most, refined there, and both answers are
compared as evidence.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from .. import _parameters as parameters
from .._prepare import PreparedImage, interpolate
from .._settings import MetricName
from .levels import Level
from .metrics import normalised_mutual_information
from .optimize import evaluate, maximise
from .residuals import pointwise_information, tabulated
from .similarity import joint_histogram, metric_at, values_of

FloatArray = npt.NDArray[np.float64]
Judgement = Literal["as stored", "mirrored", "cannot be told"]


@dataclass(frozen=True, eq=False)
class Handedness:
    """What the mirrored image explains, as against the one that is stored.

    Attributes
    ----------
    mirrored_share : float
        Normalised mutual information above 1 of the mirrored image, as a share of that
        at the answer; NaN where either does not overlap.
    nats_per_sample : float
        Pointwise mutual information of a sample at the answer less that of the mirrored
        image, in the mean.
    z : float
        The same in standard errors, those of a mean over runs of neighbouring samples
        (Vuong's test [1]_): above 0 as stored, below 0 mirrored. NaN as above.
    pose : (4, 4) ndarray
        `interpolated_from_sampled` of the mirrored image: RAS+ mm, with a determinant
        of -1.

    References
    ----------
    .. [1] Vuong, "Likelihood ratio tests for model selection and non-nested
       hypotheses", Econometrica 1989.
    """

    mirrored_share: float
    nats_per_sample: float
    z: float
    pose: FloatArray

    @property
    def judgement(self) -> Judgement:
        """Say which of the two it is, where that can be told."""
        if self.z > parameters.HANDEDNESS_Z:
            clear = self.mirrored_share < parameters.HANDEDNESS_SHARE
            return "as stored" if clear else "cannot be told"
        if self.z < -parameters.HANDEDNESS_Z:
            clear = self.mirrored_share * parameters.HANDEDNESS_SHARE > 1
            return "mirrored" if clear else "cannot be told"
        return "cannot be told"


def handedness(
    coarse: Level,
    level: Level,
    pose: FloatArray,
    metric: MetricName,
    sampled: PreparedImage,
    threads: int = 1,
) -> Handedness:
    """Mirror the sampled image, refine it, and compare both as evidence.

    Parameters
    ----------
    coarse, level : Level
        The pair at a coarse resolution and at that of the answer; a few of the samples
        are enough.
    pose : (4, 4) array
        The answer: `interpolated_from_sampled`, RAS+ mm.
    metric : str
        What is maximised, one of `mireg._settings.METRICS`.
    sampled : PreparedImage
        The sampled image: mirrored where it resembles itself most.
    threads : int, optional
        Threads to use; the answer does not depend on it.
    """
    best, mirror = None, np.eye(4)
    for plane in mid_planes(sampled):
        fit = maximise(
            mirrored(coarse, plane),
            pose,
            metric_at(coarse, metric),
            threads,
            tolerance=parameters.CANDIDATE_TOLERANCE,
        )
        if best is None or fit.weighted_information > best.weighted_information:
            best, mirror = fit, plane
    if best is None:
        return Handedness(math.nan, math.nan, math.nan, pose)
    other = mirrored(level, mirror)
    fit = maximise(
        other,
        best.pose,
        metric_at(level, metric),
        threads,
        inverse_hessian=best.inverse_hessian,
        tolerance=parameters.CANDIDATE_TOLERANCE,
    )
    stored = evaluate(level, pose, normalised_mutual_information, threads)
    exchanged = evaluate(other, fit.pose, normalised_mutual_information, threads)
    if (
        min(stored.overlap_fraction, exchanged.overlap_fraction)
        < parameters.MIN_OVERLAP
    ):
        return Handedness(math.nan, math.nan, math.nan, fit.pose @ mirror)
    gain = _pointwise(level, pose, threads) - _pointwise(other, fit.pose, threads)
    runs = min(parameters.NOISE_RUNS, level.n_samples)
    starts = np.arange(runs) * level.n_samples // runs
    sums = np.add.reduceat(gain, starts)
    spread = math.sqrt(runs) * float(sums.std(ddof=1))
    return Handedness(
        mirrored_share=(exchanged.score - 1) / max(stored.score - 1, 1e-12),
        nats_per_sample=float(gain.mean()),
        z=float(sums.sum()) / spread if spread > 0 else 0.0,
        pose=fit.pose @ mirror,
    )


def mirrored(level: Level, mirror: FloatArray) -> Level:
    """Mirror the samples of a level by a reflection (4, 4), RAS+ mm."""
    shift = mirror[:3, :3] @ level.origin + mirror[:3, 3] - level.origin
    points = mirror[:3, :3] @ level.points + shift[:, None]
    return replace(level, points=np.ascontiguousarray(points, dtype=np.float32))


def mid_planes(prepared: PreparedImage) -> list[FloatArray]:
    """Reflections (4, 4) about the planes about which an image resembles itself most.

    RAS+ mm to RAS+ mm. The axes of the grid and the principal axes of the foreground
    are tried as normals, and the best of them turned and shifted until the correlation
    of the image with its mirror image is highest.
    """
    foreground, image = prepared.foreground, prepared.low_resolution
    step = max(1, len(foreground.points) // parameters.MID_PLANE_POINTS)
    points = foreground.points[::step]
    centred = points - foreground.centroid
    values = _filled(prepared, points)
    values = values - values.mean()

    def reflection(normal: FloatArray, offset: float) -> FloatArray:
        matrix = np.eye(4)
        matrix[:3, :3] -= 2 * np.outer(normal, normal)
        matrix[:3, 3] = 2 * normal * (normal @ foreground.centroid + offset)
        return matrix

    def unlikeness(matrix: FloatArray) -> float:
        there = _filled(prepared, points @ matrix[:3, :3].T + matrix[:3, 3])
        there = there - there.mean()
        norm = math.sqrt(float(values @ values) * float(there @ there))
        return -float(values @ there) / norm if norm > 0 else 0.0

    axes = image.mm_from_ijk[:3, :3] / image.voxel_size_mm
    _, principal = np.linalg.eigh(centred.T @ centred)
    normals = np.concatenate([axes.T, principal.T])
    found: list[tuple[float, FloatArray]] = []
    scored = sorted(
        ((unlikeness(reflection(normal, 0.0)), n) for n, normal in enumerate(normals))
    )
    for _, n in scored[: parameters.MID_PLANES]:
        normal = normals[n] / np.linalg.norm(normals[n])
        _, _, across = np.linalg.svd(normal[None])
        u, v = across[1], across[2]

        def turned(
            numbers: FloatArray,
            normal: FloatArray = normal,
            u: FloatArray = u,
            v: FloatArray = v,
        ) -> FloatArray:
            tilted = normal + numbers[0] * u + numbers[1] * v
            tilted = tilted / np.linalg.norm(tilted)
            return reflection(tilted, foreground.rms_radius * numbers[2])

        end = minimize(
            lambda numbers, turned=turned: unlikeness(turned(numbers)),
            np.zeros(3),
            method="Nelder-Mead",
            options={
                "initial_simplex": 0.1 * np.concatenate([np.zeros((1, 3)), np.eye(3)]),
                "xatol": 0.005,
                "fatol": 1e-4,
                "maxfev": parameters.MID_PLANE_EVALUATIONS,
            },
        )
        found.append((float(end.fun), turned(end.x)))
    return [matrix for _, matrix in sorted(found, key=lambda one: one[0])]


def _filled(prepared: PreparedImage, points: FloatArray) -> FloatArray:
    """Normalised intensity at points (n, 3); that of the background outside."""
    read = interpolate(prepared.low_resolution, points)
    read = np.where(np.isfinite(read), read, np.float32(prepared.scale.background))
    return prepared.scale.apply(read).astype(np.float64)


def _pointwise(level: Level, pose: FloatArray, threads: int) -> FloatArray:
    """Pointwise mutual information of each sample (n,), nats; 0 outside."""
    histogram, readings = joint_histogram(level, pose, threads)
    table = tabulated(pointwise_information(histogram))
    at = np.rint(values_of(readings[0], level.n_bins) * (table.shape[1] - 1))
    inside = readings[4] > 0
    at = np.where(inside, at, 0).astype(np.intp)
    return np.where(inside, readings[4] * table[level.sampled_bin, at], 0.0)
