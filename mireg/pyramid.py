"""From two scans to levels, coarse to fine: smooth, shrink, bin, choose samples."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from .scan import Scan, downsample, flat_volume, in_mask
from .settings import Settings
from .threads import shared

FloatArray = npt.NDArray[np.float64]
Volume = npt.NDArray[np.float32]

#: Irrational steps of a low-discrepancy sequence in three dimensions
#: (powers of the inverse of the real root of x^4 = x + 1; Roberts 2018).
_JITTER_STEPS = np.array([0.8191725133961645, 0.6710436067037893, 0.5497004779019703])


#: Voxels of the coarsest level in the anatomy's root mean square radius.
_COARSEST = 12

#: Fewest samples of a level; small images give several from each voxel.
_FEWEST_SAMPLES = 8000


@dataclass(frozen=True, eq=False)
class Level:
    """Two scans at one resolution, ready to be compared at any pose.

    Attributes
    ----------
    size_mm : float
        Side of a voxel at this level.
    points : (n, 3) ndarray, float32
        Samples of the fixed image: RAS+ mm, relative to `origin`.
    origin : (3,) ndarray
        RAS+ mm.
    fixed_grey : (n,) ndarray, float32
        Grey level of the fixed image at each sample, 0 to 1.
    moving_grey : (mx, my, mz) ndarray, float32
        The moving image as grey levels 0 to 1; NaN where there is no data.
    moving_ijk_from_mm : (4, 4) ndarray
        From RAS+ mm to voxels of `moving_grey`.
    n_bins : int
        Bins of the joint histogram along each axis.
    """

    size_mm: float
    points: Volume
    origin: FloatArray
    fixed_grey: Volume
    moving_grey: Volume
    moving_ijk_from_mm: FloatArray
    n_bins: int
    fixed_bin: npt.NDArray[np.uint8]
    moving: tuple[Volume, npt.NDArray[np.int64], npt.NDArray[np.int64]]

    def moving_ijk_from_points(self, moving_from_fixed: FloatArray) -> FloatArray:
        """Matrix (3, 4) from `points` to voxels of the moving image at a pose."""
        matrix = self.moving_ijk_from_mm @ moving_from_fixed
        matrix[:3, 3] += matrix[:3, :3] @ self.origin
        return np.ascontiguousarray(matrix[:3])


def shrink(scan: Scan, size_mm: float, threads: int = 1) -> Scan:
    """Bring a scan to voxels of about `size_mm`, never finer than they are."""
    factors = np.maximum(1, np.rint(size_mm / scan.image.voxel_size_mm)).astype(int)
    if (factors == 1).all():
        return scan
    limits = scan.grey.low, scan.grey.high
    return replace(scan, image=downsample(scan.image, tuple(factors), limits, threads))


def sizes_mm(finest: float, coarsest: float) -> list[float]:
    """Voxel sizes of the levels, coarse to fine, each about half of the one before."""
    n = max(0, round(np.log2(coarsest / finest)))
    return [finest] if n == 0 else list(np.geomspace(coarsest, finest, n + 1))


def levels(
    fixed: Scan, moving: Scan, *, settings: Settings, threads: int = 1
) -> list[Level]:
    """Build the pyramid of a pair, coarse to fine.

    Parameters
    ----------
    fixed, moving : Scan
        The pair; samples are drawn from `fixed`.
    settings : Settings
        Bins, samples and seed.
    threads : int, optional
        Threads to use.

    Returns
    -------
    list of Level
        The first shows the anatomy in about twenty voxels across; the last has the
        geometric mean voxel size of the coarser image.
    """
    finest = max(s.image.voxel_volume_mm3 ** (1 / 3) for s in (fixed, moving))
    coarsest = fixed.anatomy.radius / _COARSEST
    answer = []
    for n, size in enumerate(reversed(sizes_mm(finest, coarsest))):
        fixed, moving = shared(
            partial(shrink, size_mm=size, threads=max(1, threads // 2)),
            (fixed, moving),
            threads,
        )
        answer.append(_level(fixed, moving, size, n > 0, settings))
    return answer[::-1]


def _level(
    fixed: Scan,
    moving: Scan,
    size_mm: float,
    smooth: bool,
    settings: Settings,
) -> Level:
    """Compare two shrunken scans at one resolution."""
    fixed_grey = fixed.grey.apply(fixed.image.data)
    moving_grey = moving.grey.apply(moving.image.data)
    if smooth:
        fixed_grey = _smooth(fixed_grey, size_mm / fixed.image.voxel_size_mm)
        moving_grey = _smooth(moving_grey, size_mm / moving.image.voxel_size_mm)
    sampled = in_mask(fixed.region, fixed.image)
    if fixed.mask is not None:
        sampled &= in_mask(fixed.mask, fixed.image)
    if moving.mask is not None:
        moving_grey[~in_mask(moving.mask, moving.image)] = np.nan
    ijk = _jittered_voxels(sampled, settings.samples, settings.seed)
    grey = ndimage.map_coordinates(fixed_grey, ijk.T, order=1, mode="nearest")
    has_data = grey == grey  # noqa: PLR0124 - false for NaN
    origin = fixed.image.centre_mm
    points = fixed.image.to_mm(ijk[has_data]) - origin
    return make_level(
        size_mm=size_mm,
        points=points.astype(np.float32),
        origin=origin,
        fixed_grey=grey[has_data],
        moving_grey=moving_grey,
        moving_ijk_from_mm=np.linalg.inv(moving.image.mm_from_ijk),
        n_bins=min(settings.bins, round(len(ijk) ** (1 / 3))),
    )


def make_level(
    size_mm: float,
    points: Volume,
    origin: FloatArray,
    fixed_grey: Volume,
    moving_grey: Volume,
    moving_ijk_from_mm: FloatArray,
    n_bins: int,
) -> Level:
    """Bin grey levels for the joint histogram; see `Level` for the arguments."""
    fixed_bin = np.minimum(fixed_grey * n_bins, n_bins - 1).astype(np.uint8)
    # A cubic B-spline reaches one bin down and two up: keep its taps inside.
    in_bins = np.float32(1) + moving_grey * np.float32(n_bins - 3.001)
    return Level(
        size_mm=size_mm,
        points=points,
        origin=origin,
        fixed_grey=fixed_grey,
        moving_grey=moving_grey,
        moving_ijk_from_mm=moving_ijk_from_mm,
        n_bins=n_bins,
        fixed_bin=fixed_bin,
        moving=flat_volume(in_bins),
    )


def _smooth(volume: Volume, sigma_vox: FloatArray) -> Volume:
    """Gaussian blur by half of a level's voxel, over the voxels that hold data."""
    sigma = 0.6 * np.minimum(1.0, sigma_vox)
    missing = np.isnan(volume)
    if not missing.any():
        return ndimage.gaussian_filter(volume, sigma, mode="nearest", truncate=3)
    weight = ndimage.gaussian_filter(
        np.float32(~missing), sigma, mode="nearest", truncate=3
    )
    filled = np.where(missing, np.float32(0), volume)
    blurred = ndimage.gaussian_filter(filled, sigma, mode="nearest", truncate=3)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(missing, np.float32(np.nan), blurred / weight)


def _jittered_voxels(
    sampled: npt.NDArray[np.bool_], samples: int, seed: int
) -> FloatArray:
    """Choose up to `samples` places, spread evenly, none on a voxel centre.

    Samples at voxel centres make mutual information favour poses that put grid on
    grid; jitter removes these artefacts (Tsao, IEEE TMI 2003).
    """
    chosen = np.flatnonzero(sampled)
    if len(chosen) > samples:
        chosen = chosen[(np.arange(samples) * (len(chosen) / samples)).astype(int)]
    repeats = -(-min(samples, _FEWEST_SAMPLES) // max(1, len(chosen)))
    chosen = np.repeat(chosen, repeats)
    ijk = np.stack(np.unravel_index(chosen, sampled.shape), axis=1).astype(float)
    start = np.random.default_rng(seed).random(3)
    jitter = (start + np.arange(1, len(ijk) + 1)[:, None] * _JITTER_STEPS) % 1.0
    return ijk + jitter - 0.5
