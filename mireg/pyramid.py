"""From two scans to levels, coarse to fine: smooth, shrink, bin, choose samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from .image import Image
from .scan import Scan, downsample, flat_volume, in_mask, voxel_centres
from .settings import Settings
from .threads import shared

FloatArray = npt.NDArray[np.float64]
Volume = npt.NDArray[np.float32]

#: Voxels of the coarsest level in the anatomy's root mean square radius.
_COARSEST = 12

#: Fewest samples of a level; there is one for each voxel, up to `Settings.samples`.
_FEWEST_SAMPLES = 8000

#: Irrational steps of a low-discrepancy sequence in three dimensions
#: (powers of the inverse of the real root of x^4 = x + 1; Roberts 2018).
_STEPS = np.array([0.8191725133961645, 0.6710436067037893, 0.5497004779019703])


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
        # The finest level stays as sharp as the scanner made it.
        smooth = [fixed.image, moving.image]
        if n > 0:
            smooth = shared(partial(_smooth, size_mm=size), (fixed, moving), threads)
        answer.append(_level(fixed, moving, smooth, size, settings, threads))
    return answer[::-1]


def _level(
    fixed: Scan,
    moving: Scan,
    smooth: Sequence[Image],
    size_mm: float,
    settings: Settings,
    threads: int,
) -> Level:
    """Draw samples of the fixed image, and bring both to grey levels."""
    fixed_image, moving_image = smooth
    inside = fixed.region.data.sum() * fixed.region.voxel_volume_mm3
    samples = int(np.clip(inside / size_mm**3, _FEWEST_SAMPLES, settings.samples))
    points = _places(fixed.region, samples, settings.seed)
    if fixed.mask is not None:
        points = points[in_mask(fixed.mask, points)]
    intensity = _interpolate(fixed_image, points)
    has_data = np.isfinite(intensity)
    points, intensity = points[has_data], intensity[has_data]
    moving_grey = moving.grey.apply(moving_image.data, threads)
    if moving.mask is not None:
        outside = ~in_mask(moving.mask, voxel_centres(moving_image))
        moving_grey[outside.reshape(moving_grey.shape)] = np.nan
    origin = fixed.anatomy.centre
    return make_level(
        size_mm=size_mm,
        points=(points - origin).astype(np.float32),
        origin=origin,
        fixed_grey=fixed.grey.apply(intensity, threads),
        moving_grey=moving_grey,
        moving_ijk_from_mm=np.linalg.inv(moving_image.mm_from_ijk),
        n_bins=min(settings.bins, round(len(points) ** (1 / 3))),
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


def _smooth(scan: Scan, size_mm: float) -> Image:
    """Blur by half of a level's voxel, over the voxels that hold data."""
    image = scan.image
    sigma = 0.6 * np.minimum(1.0, size_mm / image.voxel_size_mm)
    blur = partial(ndimage.gaussian_filter, sigma=sigma, mode="nearest", truncate=3)
    missing = np.isnan(image.data)
    if not missing.any():
        return Image(blur(image.data), image.mm_from_ijk)
    share = blur(np.float32(~missing))
    with np.errstate(invalid="ignore", divide="ignore"):
        data = blur(np.where(missing, np.float32(0), image.data)) / share
    return Image(np.where(missing, np.float32(np.nan), data), image.mm_from_ijk)


def _places(region: Image, samples: int, seed: int) -> FloatArray:
    """Spread points, RAS+ mm, evenly over the voxels of a region that hold 1.

    They lie on no grid: samples at voxel centres make mutual information favour
    poses that put grid on grid (Tsao, IEEE TMI 2003).
    """
    voxels = np.argwhere(region.data > 0)
    each = np.diff(np.linspace(0, samples, len(voxels) + 1).astype(int))
    corners = np.repeat(voxels, each, axis=0) - 0.5
    first = np.random.default_rng(seed).random(3)
    inside = (first + np.arange(samples)[:, None] * _STEPS) % 1.0
    return region.to_mm(corners + inside)


def _interpolate(image: Image, points: FloatArray) -> Volume:
    """Read an image at points, RAS+ mm, linearly; NaN outside and without data."""
    ijk = image.to_ijk(points)
    values = ndimage.map_coordinates(image.data, ijk.T, order=1, mode="nearest")
    outside = ((ijk < -0.5) | (ijk > np.array(image.shape) - 0.5)).any(axis=1)
    values[outside] = np.nan
    return values
