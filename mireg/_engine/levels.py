"""From two scans to levels, coarse to fine: smooth, shrink, bin, choose samples."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np
import numpy.typing as npt

from .. import _kernels as kernels
from .._errors import InputError
from .._image import Image, memory_order
from .._prepare import Scan, evened, in_mask, interpolate, shrink, voxel_centres
from .._settings import Settings
from .._threads import shared

FloatArray = npt.NDArray[np.float64]
Volume = npt.NDArray[np.float32]
Packed = tuple[npt.NDArray[np.uint16], tuple[int, int, int]]

#: The coarsest level has at least this many voxels in the anatomy's root mean square
#: radius, and in the anatomy.
_COARSEST, _FEWEST_VOXELS = 6, 1000

#: Fewest samples of a level. At the finest there are four for each voxel, which makes
#: the similarity smoother, up to `Settings.samples`; before it one for each voxel, up
#: to a fourth of that, and then half as many each.
_FEWEST_SAMPLES = 8000

#: Fewer than this say too little for a joint histogram.
_FEWEST_LEFT = 500

#: About how many voxels to bring to grey levels at once: few enough for the cache.
_AT_ONCE = 1 << 16

#: Irrational steps of a low-discrepancy sequence in three dimensions
#: (powers of the inverse of the real root of x^4 = x + 1; Roberts 2018).
_STEPS = np.array([0.8191725133961645, 0.6710436067037893, 0.5497004779019703])


@dataclass(frozen=True, eq=False)
class Level:
    """Two scans at one resolution, ready to be compared at any pose.

    Attributes
    ----------
    size_mm : float
        Side of a voxel at this level; at the finest, of one of the coarser image.
    points : (3, n) ndarray, float32
        Samples of the fixed image: RAS+ mm, relative to `origin`; one row an axis.
    origin : (3,) ndarray
        RAS+ mm.
    fixed_grey : (n,) ndarray, float32
        Grey level of the fixed image at each sample, 0 to 1.
    moving : (ndarray, tuple)
        The moving image as grey levels, its axes in the order of memory, as `packed`
        makes it.
    moving_ijk_from_mm : (4, 4) ndarray
        From RAS+ mm to voxels of `moving`.
    n_bins : int
        Bins of the joint histogram along each axis.
    moving_background : float
        Grey level of what surrounds the anatomy in the moving image, 0 to 1.
    learned : (g, g) ndarray or None
        Joint distribution of the grey levels of aligned pairs of this kind, rows of
        the fixed image, times the strength with which it is believed.
    """

    size_mm: float
    points: Volume
    origin: FloatArray
    fixed_grey: Volume
    moving: Packed
    moving_ijk_from_mm: FloatArray
    n_bins: int
    fixed_bin: npt.NDArray[np.uint8]
    moving_background: float = 0.0
    learned: FloatArray | None = None

    def moving_ijk_from_points(self, moving_from_fixed: FloatArray) -> FloatArray:
        """Matrix (3, 4) from `points` to voxels of the moving image at a pose."""
        matrix = self.moving_ijk_from_mm @ moving_from_fixed
        matrix[:3, 3] += matrix[:3, :3] @ self.origin
        return np.ascontiguousarray(matrix[:3])

    @cached_property
    def moving_grey(self) -> Volume:
        """The moving image as grey levels 0 to 1, float32; NaN where no data are."""
        words, shape = self.moving
        grey = (words[:-1] & 0x7FFF).astype(np.float32) / np.float32(0x7FFF)
        grey[words[:-1] > 0x7FFF] = np.nan
        return grey.reshape(shape)

    @cached_property
    def middle(self) -> FloatArray:
        """Mean of `points`, mm."""
        return self.points.mean(axis=1, dtype=np.float64)

    @cached_property
    def radius(self) -> float:
        """Root mean square distance of `points` from `middle`, mm; a voxel or more."""
        square = np.square(self.points, dtype=np.float64).sum() / self.points.shape[1]
        spread = float(square - self.middle @ self.middle)
        return max(math.sqrt(max(spread, 0.0)), self.size_mm)


def finest_mm(fixed: Image, moving: Image) -> float:
    """Voxel size of the finest level: that of the coarser image."""
    return max(image.voxel_volume_mm3 ** (1 / 3) for image in (fixed, moving))


def sizes_mm(finest: float, coarsest: float) -> list[float]:
    """Voxel sizes of the levels, coarse to fine, each about half of the one before."""
    coarsest = max(coarsest, finest)
    steps = max(1, round(np.log2(coarsest / finest)))
    return [float(size) for size in np.geomspace(coarsest, finest, steps + 1)]


@dataclass(frozen=True, eq=False)
class Pair:
    """Two images, as they came, at one resolution.

    Attributes
    ----------
    size_mm : float
        Side of a voxel.
    fixed, moving : Image
        The images.
    below : int
        Number of finer levels.
    """

    size_mm: float
    fixed: Image
    moving: Image
    below: int


def pyramid(fixed: Scan, moving: Scan, threads: int = 1) -> list[Pair]:
    """Smooth and shrink two scans, coarse to fine.

    Parameters
    ----------
    fixed, moving : Scan
        The pair.
    threads : int, optional
        Threads to use.

    Returns
    -------
    list of Pair
        The first shows the anatomy in a thousand voxels or more; the last has the
        images as they were scanned, neither shrunk further nor smoothed.
    """
    finest = finest_mm(fixed.image, moving.image)
    coarsest = min(
        fixed.anatomy.radius / _COARSEST,
        (fixed.anatomy.volume / _FEWEST_VOXELS) ** (1 / 3),
    )
    images = [fixed.image, moving.image]
    limits = [(s.grey.low, s.grey.high) for s in (fixed, moving)]
    pairs: list[Pair] = []
    for size in reversed(sizes_mm(finest, coarsest)):
        smooth = images
        if pairs:
            images = shared(
                lambda n: shrink(images[n], size, limits[n], threads),  # noqa: B023 - used at once
                (0, 1),
                threads,
            )
            smooth = shared(
                partial(_smooth, size_mm=size, threads=threads), images, threads
            )
        pairs.append(Pair(size, smooth[0], smooth[1], len(pairs)))
    return pairs[::-1]


def level(
    pair: Pair,
    fixed: Scan,
    moving: Scan,
    settings: Settings,
    threads: int = 1,
    learned: FloatArray | None = None,
) -> Level:
    """Make the level of one view; see `levels`."""
    return levels(pair, [(fixed, moving)], settings, threads, [learned])[0]


def levels(
    pair: Pair,
    looks: Sequence[tuple[Scan, Scan]],
    settings: Settings,
    threads: int = 1,
    learned: Sequence[FloatArray | None] | None = None,
) -> list[Level]:
    """Draw samples of the fixed image, and bring both images to grey levels.

    Parameters
    ----------
    pair : Pair
        The images at the resolution of the levels.
    looks : sequence of (Scan, Scan)
        What is known of them: grey scale, shading, where to sample; one pair for each
        level. See `mireg._prepare.views`: they differ in grey scale and shading alone.
    settings : Settings
        Bins, samples and seed.
    threads : int, optional
        Threads to use.
    learned : sequence of (g, g) array or None, optional
        For each level, see `Level`.

    Raises
    ------
    InputError
        If a mask, or missing data, leaves too few samples.
    """
    fixed, moving = looks[0]
    # Views share scans: each is brought to grey levels once.
    points, fixed_grey = _sampled(pair, {one for one, _ in looks}, settings, threads)
    outside = None
    if moving.mask is not None:
        outside = ~in_mask(moving.mask, voxel_centres(pair.moving))
        outside = outside.reshape(pair.moving.shape)
    moving_words = {
        scan: _moving_words(scan, pair.moving, outside, threads)
        for scan in {one for _, one in looks}
    }
    mm_from_ijk = pair.moving.mm_from_ijk[:, [*memory_order(pair.moving.data), 3]]
    moving_ijk_from_mm = np.linalg.inv(mm_from_ijk).astype(np.float64)
    return [
        make_level(
            size_mm=pair.size_mm,
            points=points,
            origin=fixed.anatomy.centre,
            fixed_grey=fixed_grey[still],
            moving=moving_words[moved],
            moving_ijk_from_mm=moving_ijk_from_mm,
            n_bins=min(settings.bins, round(points.shape[1] ** (1 / 3))),
            moving_background=moved.grey.background_level,
            learned=joint,
        )
        for (still, moved), joint in zip(
            looks, learned or [None] * len(looks), strict=True
        )
    ]


def _sampled(
    pair: Pair, scans: Collection[Scan], settings: Settings, threads: int
) -> tuple[Volume, dict[Scan, Volume]]:
    """Draw points as in `Level`, and read the fixed image there as each scan shows it.

    The scans differ in grey scale and shading alone.
    """
    fixed = next(iter(scans))
    points, intensity = _samples(pair, fixed, settings, threads)
    greys = {scan: _fixed_grey(scan, points, intensity) for scan in scans}
    points -= fixed.anatomy.centre
    return np.ascontiguousarray(points.T, dtype=np.float32), greys


def _samples(
    pair: Pair, fixed: Scan, settings: Settings, threads: int
) -> tuple[FloatArray, Volume]:
    """Draw points, (n, 3) in RAS+ mm, and read the fixed image there."""
    inside = fixed.region.data.sum() * fixed.region.voxel_volume_mm3
    voxels = inside / pair.size_mm**3
    wanted, most = 4 * voxels, settings.samples
    if pair.below:
        wanted, most = voxels, settings.samples >> (pair.below + 1)
    samples = int(np.clip(wanted, _FEWEST_SAMPLES, max(_FEWEST_SAMPLES, most)))
    points = _places(fixed.region, samples, settings.seed)
    if fixed.mask is not None:
        points = points[in_mask(fixed.mask, points)]
    intensity = interpolate(pair.fixed, points, threads)
    has_data = np.isfinite(intensity)
    if not has_data.all():
        points, intensity = points[has_data], intensity[has_data]
    if len(points) < _FEWEST_LEFT:
        raise InputError(
            f"too little is left to compare: {len(points)} of {samples} samples lie "
            "in the mask and have data; draw the mask larger"
        )
    return points, intensity


def _fixed_grey(scan: Scan, points: FloatArray, intensity: Volume) -> Volume:
    """Bring intensities at points to grey levels."""
    if scan.shading is not None:
        background = np.float32(scan.grey.background)
        shading = interpolate(scan.shading, points)
        intensity = background + (intensity - background) / shading
    return scan.grey.apply(intensity)


def _moving_words(
    scan: Scan,
    image: Image,
    outside: npt.NDArray[np.bool_] | None,
    threads: int,
) -> Packed:
    """Bring an image to grey levels, none outside a mask, and pack them."""
    axes = memory_order(image.data)
    volume, even = image.data.transpose(axes), None
    if scan.shading is not None:
        even = evened(image, scan.grey.background, scan.shading)

    def grey(planes: slice) -> Volume:
        levels = scan.grey.apply(even(planes) if even else volume[planes])
        if outside is not None:
            levels[outside.transpose(axes)[planes]] = np.nan
        return levels

    nx, ny, nz = (image.shape[axis] for axis in axes)
    return packed((nx, ny, nz), grey, threads)


def make_level(
    size_mm: float,
    points: Volume,
    origin: FloatArray,
    fixed_grey: Volume,
    moving: Packed,
    moving_ijk_from_mm: FloatArray,
    n_bins: int,
    moving_background: float = 0.0,
    learned: FloatArray | None = None,
) -> Level:
    """Bin grey levels for the joint histogram; see `Level` for the arguments."""
    fixed_bin = np.minimum(fixed_grey * n_bins, n_bins - 1).astype(np.uint8)
    return Level(
        size_mm=size_mm,
        points=np.ascontiguousarray(points),
        origin=origin,
        fixed_grey=fixed_grey,
        moving=moving,
        moving_ijk_from_mm=moving_ijk_from_mm,
        n_bins=n_bins,
        fixed_bin=fixed_bin,
        moving_background=moving_background,
        learned=learned,
    )


def sparser(level: Level, settings: Settings) -> Level:
    """Take a fourth of the samples of a full level: enough to judge candidates by."""
    few = max(_FEWEST_SAMPLES, settings.samples // 4)
    step = max(1, level.points.shape[1] // few)
    if step == 1:
        return level
    return replace(
        level,
        points=np.ascontiguousarray(level.points[:, ::step]),
        fixed_grey=level.fixed_grey[::step].copy(),
        fixed_bin=level.fixed_bin[::step].copy(),
    )


def packed(
    shape: tuple[int, int, int], grey: Callable[[slice], Volume], threads: int = 1
) -> Packed:
    """Pack grey levels into 16 bits each, for `similarity.joint_histogram`.

    Parameters
    ----------
    shape : tuple of int
        Of the volume.
    grey : callable
        Returns planes of the volume, a slice of its first axis: grey levels, 0 to 1;
        NaN where there is no data.
    threads : int, optional
        Threads to use.

    Returns
    -------
    words : (nx * ny * nz + 1,) ndarray, uint16
        15 bits of grey level, and a bit that says that there is none. One more is at
        the end, so that each voxel has a next one.
    shape : tuple of int
        As given.
    """
    plane = shape[1] * shape[2]
    words = np.zeros(shape[0] * plane + 1, np.uint16)
    step = max(1, _AT_ONCE // plane)

    def fill(n: int) -> None:
        some = np.ascontiguousarray(grey(slice(n, n + step))).ravel()
        kernels.packed(some, words[n * plane : n * plane + some.size])

    shared(fill, range(0, shape[0], step), threads)
    return words, shape


def _smooth(image: Image, size_mm: float, threads: int) -> Image:
    """Blur by about half of a level's voxel, over the voxels that hold data."""
    sigma: FloatArray = 0.6 * np.clip(size_mm / image.voxel_size_mm, None, 1.0)
    missing = np.isnan(image.data)
    if not missing.any():
        return Image(blur(image.data, sigma, threads), image.mm_from_ijk)
    share = blur((~missing).astype(np.float32), sigma, threads)
    known = np.where(missing, np.float32(0), image.data)
    with np.errstate(invalid="ignore", divide="ignore"):
        data = blur(known, sigma, threads) / share
    return Image(np.where(missing, np.float32(np.nan), data), image.mm_from_ijk)


def blur(volume: Volume, sigma: FloatArray, threads: int = 1) -> Volume:
    """Blur by a Gaussian, cut off at 3 sigma; beyond the edges the voxels there.

    Parameters
    ----------
    volume : (nx, ny, nz) array
        What to blur; no NaN.
    sigma : (3,) array
        Width along each axis, in voxels.
    threads : int, optional
        Threads to use.
    """
    axes = memory_order(volume)
    source = np.ascontiguousarray(volume.transpose(axes))
    x, y, z = (_window(width) for width in sigma[axes])
    out = np.empty_like(source)
    step = max(1, len(out) // 16)

    def fill(start: int) -> None:
        kernels.blur(source, x, y, z, start, out[start : start + step])

    shared(fill, range(0, len(out), step), threads)
    return out.transpose(np.argsort(axes))


def _window(sigma: float) -> Volume:
    """Return the weights of a Gaussian at whole numbers, cut off at 3 sigma."""
    reach = int(3 * sigma + 0.5)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / max(sigma, 1e-6)) ** 2)
    return (weights / weights.sum()).astype(np.float32)


def _places(region: Image, samples: int, seed: int) -> FloatArray:
    """Spread points, RAS+ mm, evenly over the voxels of a region that hold 1.

    They lie on no grid: samples at voxel centres make mutual information favour
    poses that put grid on grid (Tsao, IEEE TMI 2003).
    """
    voxels = np.argwhere(region.data > 0)
    ends = np.linspace(0, samples, len(voxels) + 1).astype(int)[1:]
    first = np.random.default_rng(seed).random(3)
    out = np.empty((samples, 3))
    kernels.places(voxels, ends, first, _STEPS, region.mm_from_ijk, out)
    return out
