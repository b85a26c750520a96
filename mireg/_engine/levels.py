"""From a pair to its resolutions, and from each to a level in every channel.

A `Resolution` holds both images as they were scanned, smoothed and shrunk; a `Level` is
what is compared there in one channel: samples drawn, intensities normalised, quantised.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from .. import _kernels as kernels
from .. import _parameters as parameters
from .._errors import InputError
from .._image import Image, memory_order
from .._prepare import (
    Normalisation,
    PreparedImage,
    downsample,
    in_mask,
    interpolate,
    shrink_factors,
    voxel_centres,
)
from .._settings import Settings
from .._threads import shared
from .pair import Pair

FloatArray = npt.NDArray[np.float64]
Volume = npt.NDArray[np.float32]
QuantisedVolume = tuple[npt.NDArray[np.uint16], tuple[int, int, int]]

#: About how many voxels are quantised at once: few enough for the cache.
_AT_ONCE = 1 << 16


@dataclass(frozen=True, eq=False)
class Level:
    """A pair in one channel at one resolution, ready to be compared at any pose.

    Attributes
    ----------
    size_mm : float
        Side of a voxel at this level; at the finest, of one of the coarser image.
    points : (3, n) ndarray, float32
        Samples of the sampled image: RAS+ mm, relative to `origin`; one row an axis.
    origin : (3,) ndarray
        RAS+ mm.
    sampled_values : (n,) ndarray, float32
        Normalised intensity of the sampled image at each sample, 0 to 1.
    interpolated : (ndarray, tuple)
        The interpolated image, its axes in the order of memory, as `quantised` makes
        it.
    interpolated_ijk_from_mm : (4, 4) ndarray
        From RAS+ mm to voxels of `interpolated`.
    n_bins : int
        Bins of the joint histogram along each axis.
    sampled_bin : (n,) ndarray, uint8
        Bin of each sample.
    interpolated_background : float
        Normalised intensity of the background of the interpolated image, 0 to 1.
    prior : (g, g) ndarray or None
        As in `Channel`.
    """

    size_mm: float
    points: Volume
    origin: FloatArray
    sampled_values: Volume
    interpolated: QuantisedVolume
    interpolated_ijk_from_mm: FloatArray
    n_bins: int
    sampled_bin: npt.NDArray[np.uint8]
    interpolated_background: float = 0.0
    prior: FloatArray | None = None

    @property
    def n_samples(self) -> int:
        """Number of samples."""
        return self.points.shape[1]

    def ijk_from_points(self, interpolated_from_sampled: FloatArray) -> FloatArray:
        """Matrix (3, 4) from `points` to voxels of the interpolated image at a pose."""
        matrix = self.interpolated_ijk_from_mm @ interpolated_from_sampled
        matrix[:3, 3] += matrix[:3, :3] @ self.origin
        return np.ascontiguousarray(matrix[:3])

    @cached_property
    def interpolated_values(self) -> Volume:
        """The interpolated image as float32, 0 to 1; NaN where there are no data."""
        words, shape = self.interpolated
        values = (words[:-1] & 0x7FFF).astype(np.float32) / np.float32(0x7FFF)
        values[words[:-1] > 0x7FFF] = np.nan
        return values.reshape(shape)

    @cached_property
    def centre(self) -> FloatArray:
        """Mean of `points`, mm."""
        return self.points.mean(axis=1, dtype=np.float64)

    @cached_property
    def rms_radius(self) -> float:
        """Root mean square distance of `points` from `centre`, mm; a voxel or more."""
        square = np.square(self.points, dtype=np.float64).sum() / self.n_samples
        spread = float(square - self.centre @ self.centre)
        return max(math.sqrt(max(spread, 0.0)), self.size_mm)


@dataclass(frozen=True, eq=False)
class Resolution:
    """Both images of a pair, intensities as they were scanned, at one resolution.

    Attributes
    ----------
    size_mm : float
        Side of a voxel.
    sampled, interpolated : Image
        The images.
    finer : int
        Number of finer resolutions.
    """

    size_mm: float
    sampled: Image
    interpolated: Image
    finer: int

    def exchanged(self) -> Resolution:
        """Exchange the roles of the images."""
        return replace(self, sampled=self.interpolated, interpolated=self.sampled)


@dataclass(frozen=True, eq=False)
class Pyramid:
    """The resolutions of a pair, by what they are for.

    Attributes
    ----------
    rough : Resolution
        Where all starting poses are ranked: a thousand voxels or more.
    coarse : Resolution
        Where the pattern search ends and local optimisation begins.
    finer : tuple of Resolution
        Through which candidates are followed, the coarsest first; may be empty.
    """

    rough: Resolution
    coarse: Resolution
    finer: tuple[Resolution, ...]

    def exchanged(self) -> Pyramid:
        """Exchange the roles of the images."""
        finer = tuple(one.exchanged() for one in self.finer)
        return Pyramid(self.rough.exchanged(), self.coarse.exchanged(), finer)

    @property
    def finest(self) -> Resolution:
        """The images in their own voxels, or near them; not smoothed."""
        return self.finer[-1] if self.finer else self.coarse

    @property
    def detailed(self) -> Resolution:
        """Where the thorough search is: coarse levels can prefer wrong poses."""
        return self.finer[0] if self.finer else self.coarse


def finest_size_mm(pair: Pair) -> float:
    """Voxel size of the finest level: that of the coarser image."""
    images = pair.sampled.image, pair.interpolated.image
    return max(image.voxel_volume_mm3 ** (1 / 3) for image in images)


def resolution_sizes_mm(finest: float, coarsest: float) -> list[float]:
    """Voxel sizes of the resolutions, coarse to fine: each about half the last."""
    coarsest = max(coarsest, finest)
    steps = max(1, round(np.log2(coarsest / finest)))
    return [float(size) for size in np.geomspace(coarsest, finest, steps + 1)]


def pyramid(pair: Pair, threads: int = 1) -> Pyramid:
    """Shrink and smooth both images, fine to coarse.

    Parameters
    ----------
    pair : Pair
        The pair.
    threads : int, optional
        Threads to use.
    """
    finest, foreground = finest_size_mm(pair), pair.sampled.foreground
    coarsest = min(
        foreground.rms_radius / parameters.COARSEST_RADIUS_VOXELS,
        (foreground.volume / parameters.COARSEST_VOXELS) ** (1 / 3),
    )
    prepared = pair.sampled, pair.interpolated
    images = [one.shrunk(parameters.FINEST_SHARE * finest, threads) for one in prepared]
    *coarser, last = resolution_sizes_mm(finest, coarsest)
    resolutions = [Resolution(last, images[0], images[1], 0)]
    for size_mm in reversed(coarser):
        limits = [(one.scale.low, one.scale.high) for one in prepared]
        images = [
            downsample(image, shrink_factors(image, size_mm), ends, threads)
            for image, ends in zip(images, limits, strict=True)
        ]
        smoothed = [smooth(image, size_mm, threads) for image in images]
        sampled, interpolated = smoothed
        resolutions.append(Resolution(size_mm, sampled, interpolated, len(resolutions)))
    rough, coarse, *finer = resolutions[::-1]
    return Pyramid(rough, coarse, tuple(finer))


def levels_at(
    pair: Pair, resolution: Resolution, settings: Settings, threads: int = 1
) -> dict[str, Level]:
    """Draw samples, and normalise both images, in each channel of a pair.

    Parameters
    ----------
    pair : Pair
        The pair in the channels that are wanted.
    resolution : Resolution
        Its images at the resolution of the levels.
    settings : Settings
        Bins, samples and seed.
    threads : int, optional
        Threads to use.

    Returns
    -------
    dict of str to Level
        By the names of the channels; all with the same samples.

    Raises
    ------
    InputError
        If a mask, or missing data, leaves too few samples.
    """
    channels = pair.channels
    points, intensity = _samples(pair.sampled, resolution, settings, threads)
    # Channels share normalisations: each image is brought through one once.
    values = {
        one: one.at(points, intensity)
        for one in {channel.sampled for channel in channels.values()}
    }
    most_bins = round(len(points) ** parameters.BINS_PER_SAMPLES)
    origin = pair.sampled.foreground.centroid
    points -= origin
    relative: Volume = np.ascontiguousarray(points.T, dtype=np.float32)
    image = resolution.interpolated
    volumes = _volumes(
        pair.interpolated,
        image,
        {channel.interpolated for channel in channels.values()},
        threads,
    )
    mm_from_ijk = image.mm_from_ijk[:, [*memory_order(image.voxels), 3]]
    interpolated_ijk_from_mm = np.linalg.inv(mm_from_ijk).astype(np.float64)
    return {
        name: make_level(
            size_mm=resolution.size_mm,
            points=relative,
            origin=origin,
            sampled_values=values[channel.sampled],
            interpolated=volumes[channel.interpolated],
            interpolated_ijk_from_mm=interpolated_ijk_from_mm,
            n_bins=min(settings.bins, most_bins),
            interpolated_background=channel.interpolated.scale.normalised_background,
            prior=channel.prior,
        )
        for name, channel in channels.items()
    }


def _samples(
    prepared: PreparedImage, resolution: Resolution, settings: Settings, threads: int
) -> tuple[FloatArray, Volume]:
    """Draw points, (n, 3) in RAS+ mm, and read the sampled image there."""
    where = prepared.sampling_mask
    voxels = where.data.sum() * where.voxel_volume_mm3 / resolution.size_mm**3
    wanted, most = parameters.FINEST_SAMPLES_PER_VOXEL * voxels, settings.samples
    if resolution.finer:
        wanted = parameters.SAMPLES_PER_VOXEL * voxels
        most = settings.samples >> (resolution.finer + 1)
    least = parameters.MIN_SAMPLES
    samples = int(np.clip(wanted, least, max(least, most)))
    points = _sample_positions(where, samples, settings.seed)
    if prepared.mask is not None:
        points = points[in_mask(prepared.mask, points)]
    intensity = interpolate(resolution.sampled, points, threads)
    has_data = np.isfinite(intensity)
    if not has_data.all():
        points, intensity = points[has_data], intensity[has_data]
    if len(points) < parameters.ENOUGH_SAMPLES:
        share, remedy = (
            ("", "give an image with more voxels, or fewer that are NaN")
            if prepared.mask is None
            else ("lie in the mask and ", "draw the mask larger")
        )
        raise InputError(
            f"too little is left to compare: {len(points)} of {samples} samples "
            f"{share}have data; {remedy}"
        )
    return points, intensity


def _sample_positions(where: Image, samples: int, seed: int) -> FloatArray:
    """Spread points, RAS+ mm, evenly over the voxels of a sampling mask.

    They lie on no grid: samples at voxel centres make mutual information favour
    poses that put grid on grid (Tsao, IEEE TMI 2003).
    """
    voxels = np.argwhere(where.data > 0)
    ends = np.linspace(0, samples, len(voxels) + 1).astype(int)[1:]
    first = np.random.default_rng(seed).random(3)
    out = np.empty((samples, 3))
    kernels.sample_positions(
        voxels, ends, first, np.array(parameters.SAMPLE_STEPS), where.mm_from_ijk, out
    )
    return out


def _volumes(
    prepared: PreparedImage,
    image: Image,
    normalisations: Collection[Normalisation],
    threads: int,
) -> Mapping[Normalisation, QuantisedVolume]:
    """Normalise and quantise an image; there are no data outside its mask."""
    axes = memory_order(image.voxels)
    nx, ny, nz = (image.shape[axis] for axis in axes)
    outside = None
    if prepared.mask is not None:
        inside = in_mask(prepared.mask, voxel_centres(image)).reshape(image.shape)
        outside = ~inside.transpose(axes)

    def volume(normalisation: Normalisation) -> QuantisedVolume:
        normalised = normalisation.planes_of(image)

        def planes(some: slice) -> Volume:
            values = normalised(some)
            if outside is not None:
                values[outside[some]] = np.nan
            return values

        return quantised((nx, ny, nz), planes, threads)

    return {one: volume(one) for one in normalisations}


def make_level(
    size_mm: float,
    points: Volume,
    origin: FloatArray,
    sampled_values: Volume,
    interpolated: QuantisedVolume,
    interpolated_ijk_from_mm: FloatArray,
    n_bins: int,
    interpolated_background: float = 0.0,
    prior: FloatArray | None = None,
) -> Level:
    """Bin the samples for the joint histogram; see `Level` for the arguments."""
    return Level(
        size_mm=size_mm,
        points=np.ascontiguousarray(points),
        origin=origin,
        sampled_values=sampled_values,
        interpolated=interpolated,
        interpolated_ijk_from_mm=interpolated_ijk_from_mm,
        n_bins=n_bins,
        sampled_bin=np.minimum(sampled_values * n_bins, n_bins - 1).astype(np.uint8),
        interpolated_background=interpolated_background,
        prior=prior,
    )


def subsampled(level: Level, settings: Settings) -> Level:
    """Keep every n-th sample of a full level, a fourth of the most or more."""
    few = max(parameters.MIN_SAMPLES, settings.samples // parameters.SUBSAMPLING)
    return with_fewer_samples(level, few)


def with_fewer_samples(level: Level, samples: int) -> Level:
    """Keep every n-th sample of a level, so that at least so many are left."""
    step = max(1, level.n_samples // samples)
    if step == 1:
        return level
    return replace(
        level,
        points=np.ascontiguousarray(level.points[:, ::step]),
        sampled_values=level.sampled_values[::step].copy(),
        sampled_bin=level.sampled_bin[::step].copy(),
    )


def quantised(
    shape: tuple[int, int, int], planes: Callable[[slice], Volume], threads: int = 1
) -> QuantisedVolume:
    """Quantise normalised intensities to 16 bits each, for `joint_histogram`.

    Parameters
    ----------
    shape : tuple of int
        Of the volume.
    planes : callable
        Returns planes of the volume, a slice of its first axis: normalised intensities,
        0 to 1; NaN where there are no data.
    threads : int, optional
        Threads to use.

    Returns
    -------
    words : (nx * ny * nz + 1,) ndarray, uint16
        15 bits of intensity, and a bit that says that there is none. One more is at
        the end, so that each voxel has a next one.
    shape : tuple of int
        As given.
    """
    plane = shape[1] * shape[2]
    words = np.zeros(shape[0] * plane + 1, np.uint16)
    step = max(1, _AT_ONCE // plane)

    def fill(n: int) -> None:
        some = np.ascontiguousarray(planes(slice(n, n + step))).ravel()
        kernels.quantised(some, words[n * plane : n * plane + some.size])

    shared(fill, range(0, shape[0], step), threads)
    return words, shape


def smooth(image: Image, size_mm: float, threads: int = 1) -> Image:
    """Smooth by about half of a level's voxel, over the voxels that hold data."""
    sigma: FloatArray = parameters.SMOOTHING_VOXELS * np.clip(
        size_mm / image.voxel_size_mm, None, 1.0
    )
    missing = np.isnan(image.data)
    if not missing.any():
        return Image(gaussian(image.data, sigma, threads), image.mm_from_ijk)
    share = gaussian((~missing).astype(np.float32), sigma, threads)
    known = np.where(missing, np.float32(0), image.data)
    with np.errstate(invalid="ignore", divide="ignore"):
        data = gaussian(known, sigma, threads) / share
    return Image(np.where(missing, np.float32(np.nan), data), image.mm_from_ijk)


def gaussian(volume: Volume, sigma: FloatArray, threads: int = 1) -> Volume:
    """Smooth by a Gaussian, cut off at 3 sigma; beyond the edges the voxels there.

    Parameters
    ----------
    volume : (nx, ny, nz) array
        What to smooth; no NaN.
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
        kernels.gaussian(source, x, y, z, start, out[start : start + step])

    shared(fill, range(0, len(out), step), threads)
    return out.transpose(np.argsort(axes))


def _window(sigma: float) -> Volume:
    """Return the weights of a Gaussian at whole numbers, cut off at 3 sigma."""
    reach = int(parameters.GAUSSIAN_CUT * sigma + 0.5)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / max(sigma, 1e-6)) ** 2)
    return (weights / weights.sum()).astype(np.float32)
