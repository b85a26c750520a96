"""What is learnt of one image before it meets the other: a `Scan`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from . import _kernels as kernels
from ._errors import InputError
from ._image import Image, flat_volume, memory_order
from ._intensity import GreyScale, grey_scale
from ._threads import shared

FloatArray = npt.NDArray[np.float64]

#: Voxels along each axis, in the geometric mean, of the coarse view of an image.
_COARSE_VOXELS = 40

#: Voxels looked at to learn the grey levels of an image; more change nothing.
_MOST_VOXELS = 300_000

#: Voxels are shrunk to this share of those of the coarser image, or less: blocks as
#: large as its voxels would blur what it shows once more.
_DETAIL = 0.7

#: How far around the foreground to compare, in radii of the anatomy: its outline must
#: show, but the air of a slab fits any air.
_RIM = 0.1

#: Width (sigma) of the blur that finds the shading, in radii of the anatomy.
_SHADING = 0.1


@dataclass(frozen=True, eq=False)
class Anatomy:
    """Where the foreground of an image is.

    Attributes
    ----------
    centre : (3,) ndarray
        Centre of mass, RAS+ mm.
    radius : float
        Root mean square distance of the foreground from its centre, mm.
    volume : float
        Cubic mm.
    points : (n, 3) ndarray
        Its voxels on a coarse grid, RAS+ mm.
    depths : (n,) ndarray
        How deep in the foreground each of them lies, mm.
    """

    centre: FloatArray
    radius: float
    volume: float
    points: FloatArray
    depths: FloatArray

    @property
    def depth(self) -> float:
        """How deep its centre lies, mm."""
        off = np.square(self.points - self.centre).sum(axis=1)
        return float(self.depths[off.argmin()])

    def lattice(self, spacing: float, depth: float = 0.0) -> FloatArray:
        """Places `spacing` mm apart and at least `depth` mm deep, (n, 3) in RAS+ mm.

        The centre comes first, wherever it lies.
        """
        deep = self.points[self.depths >= depth]
        cells = np.unique(np.rint((deep - self.centre) / spacing).astype(int), axis=0)
        cells = cells[(cells != 0).any(axis=1)]
        return self.centre + spacing * np.concatenate([np.zeros((1, 3)), cells])

    def places(self, poses: FloatArray) -> FloatArray:
        """Twelve numbers (n, 12) for each of (n, 4, 4) poses, all in mm.

        The distance between those of two poses is the root mean square distance
        between where the poses put the anatomy.
        """
        centres = poses[:, :3, :3] @ self.centre + poses[:, :3, 3]
        turns = poses[:, :3, :3].reshape(-1, 9) * (self.radius / np.sqrt(3))
        return np.concatenate([centres, turns], axis=1)

    def distance(self, pose: FloatArray, other: FloatArray) -> float:
        """Root mean square distance, mm, between where two poses put the anatomy."""
        here, there = self.places(np.array([pose, other]))
        return float(np.linalg.norm(here - there))


@dataclass(frozen=True, eq=False)
class Scan:
    """One image with what was learnt of it.

    Attributes
    ----------
    image : Image
        The voxels, shrunk where they were finer than needed.
    grey : GreyScale
        Background, foreground and grey levels.
    anatomy : Anatomy
        Where the foreground is.
    region : Image
        1 in and near the foreground, 0 elsewhere, on a coarse grid.
    coarse : Image
        The image on that grid.
    mask : Image or None
        The user's mask, on its own grid.
    shading : Image or None
        What to divide the contrast to the background by, on the coarse grid.
    """

    image: Image
    grey: GreyScale
    anatomy: Anatomy
    region: Image
    coarse: Image
    mask: Image | None
    shading: Image | None = None


def scan(
    image: Image,
    mask: Image | None = None,
    finest_mm: float = 0.0,
    threads: int = 1,
) -> Scan:
    """Learn grey scale and anatomy of an image.

    Parameters
    ----------
    image : Image
        The image.
    mask : Image, optional
        Above 0.5 where to compare, on any grid, in the same world space.
    finest_mm : float, optional
        Size of the voxels of the coarser image; much finer ones are shrunk at once,
        so that each is read only once.
    threads : int, optional
        Threads to use.

    Raises
    ------
    InputError
        If the image has no contrast, or the mask is empty, misses it, or leaves too
        little of it.
    """
    grey = grey_scale(thinned(image))
    image = shrink(image, _DETAIL * finest_mm, (grey.low, grey.high), threads)
    coarse_mm = (image.voxel_volume_mm3 * image.data.size) ** (1 / 3) / _COARSE_VOXELS
    coarse = shrink(image, coarse_mm, (grey.low, grey.high), threads)
    foreground = grey.is_foreground(coarse.data)
    if mask is not None:
        inside = in_mask(mask, voxel_centres(coarse)).reshape(coarse.shape)
        if not inside.any():
            raise InputError(_what_is_wrong(mask, image))
        foreground = foreground & inside if (foreground & inside).any() else inside
    if not foreground.any():
        foreground = np.isfinite(coarse.data)
    anatomy = _anatomy(coarse, foreground)
    reach = np.maximum(1, np.rint(_RIM * anatomy.radius / coarse.voxel_size_mm))
    near = ndimage.uniform_filter(
        np.float32(foreground), 2 * reach.astype(int) + 1, mode="nearest"
    )
    few = min(0.02, near.max() / 2)  # in noise the foreground is specks
    region = Image((near > few).astype(np.float32), coarse.mm_from_ijk)
    return Scan(image, grey, anatomy, region, coarse, mask)


def views(fixed: Scan, moving: Scan, threads: int = 1) -> list[tuple[Scan, Scan]]:
    """Pair two scans as they are, with the first evened, and with the second.

    A coil's shading can hide the right pose: see `flatten`.
    """
    even_fixed, even_moving = shared(flatten, (fixed, moving), threads)
    return [(fixed, moving), (even_fixed, moving), (fixed, even_moving)]


def flatten(scan: Scan) -> Scan:
    """Divide out the slow shading of an image, such as that of a receive coil.

    The contrast to the background is divided by its own mean over the foreground
    nearby. Where brightness says more about the coil than about the tissue, as in
    EPI of a whole head, this is what makes the right pose the best one; elsewhere
    it can cost a little of the contrast between large structures.

    Parameters
    ----------
    scan : Scan
        As made by `scan`.

    Returns
    -------
    Scan
        The same image with `shading`, and the grey scale of what remains.
    """
    grey, coarse = scan.grey, scan.coarse
    sigma = _SHADING * scan.anatomy.radius / coarse.voxel_size_mm
    blur = partial(ndimage.gaussian_filter, sigma=sigma, mode="constant", truncate=3)
    foreground = grey.is_foreground(coarse.data)
    contrast = np.where(foreground, np.abs(coarse.data - grey.background), 0)
    mean = contrast.sum() / max(1, foreground.sum())
    if mean == 0:
        return scan
    # Far from the foreground the shading fades to one.
    shading = (blur(contrast / mean) + 0.02) / (blur(np.float32(foreground)) + 0.02)
    shading = np.maximum(shading, 0.1)
    field = Image(shading, coarse.mm_from_ijk)
    even = Image(_thinly_evened(scan, field), np.eye(4))  # wherever it is
    return replace(scan, shading=field, grey=grey_scale(even))


def _thinly_evened(scan: Scan, shading: Image) -> npt.NDArray[np.float32]:
    """Even what few voxels are enough to learn grey levels."""
    thin = thinned(scan.image)
    np.clip(thin.data, scan.grey.low, scan.grey.high, out=thin.data)
    return evened(thin, scan.grey.background, shading)(slice(None))


def smaller_first(fixed: Scan, moving: Scan) -> tuple[Scan, Scan, bool]:
    """Put the scan with the smaller anatomy first, and tell whether that swaps them.

    The order does not depend on which is fixed.
    """

    def size(one: Scan) -> tuple[float, float]:
        return one.anatomy.volume, float(np.nanmean(one.region.data))

    swapped = size(moving) < size(fixed)
    return (moving, fixed, True) if swapped else (fixed, moving, False)


def thinned(image: Image) -> Image:
    """Take every n-th voxel along the longer axes: enough to learn grey levels."""
    shape, steps = np.array(image.shape), np.ones(3, int)
    while shape.prod() > _MOST_VOXELS:
        halved = np.where(shape == shape.max(), 2, 1)
        shape, steps = -(-shape // halved), steps * halved
    i, j, k = steps
    data = image.data[::i, ::j, ::k].copy(order="K")
    return Image(data, image.mm_from_ijk @ np.diag([*steps, 1.0]))


def _anatomy(image: Image, foreground: npt.NDArray[np.bool_]) -> Anatomy:
    """Measure where a foreground is."""
    points = image.to_mm(np.argwhere(foreground))
    centre = points.mean(axis=0)
    radius = float(np.sqrt(np.square(points - centre).sum(axis=1).mean()))
    radius = max(radius, float(image.voxel_size_mm.max()))
    volume = len(points) * image.voxel_volume_mm3
    outside, _ = ndimage.label(~np.pad(foreground, 1))
    filled = outside != outside[0, 0, 0]  # holes in the anatomy are part of it
    depths = ndimage.distance_transform_edt(filled, sampling=image.voxel_size_mm)
    deep = depths[1:-1, 1:-1, 1:-1][foreground]
    return Anatomy(centre, radius, volume, points, deep)


def in_mask(mask: Image, points: FloatArray) -> npt.NDArray[np.bool_]:
    """Tell which points, shape (n, 3) in RAS+ mm, lie in a mask's voxels above 0.5."""
    # The nudge decides ties the same way at any pose.
    ijk = np.floor(mask.to_ijk(points) + 0.5 + 1e-6).astype(int)
    inside = np.asarray(((ijk >= 0) & (ijk < mask.shape)).all(axis=1))
    inside[inside] = mask.data[tuple(ijk[inside].T)] > 0.5
    return inside


def _what_is_wrong(mask: Image, image: Image) -> str:
    """Say why a mask leaves nothing of its image."""
    name = mask.source.path if mask.source is not None else None
    what = "the mask" if name is None else f"{name}: the mask"
    held = np.argwhere(mask.data > 0.5)
    if not len(held):
        return f"{what} is empty, no voxel is above 0.5"
    ijk = image.to_ijk(mask.to_mm(held))
    common = ((ijk >= -0.5) & (ijk <= np.array(image.shape) - 0.5)).all(axis=1)
    overlap, volume = (n * mask.voxel_volume_mm3 for n in (common.sum(), len(held)))
    advice = (
        "too little to compare: give a larger one"
        if overlap
        else "check that it was drawn in the world space of this image"
    )
    return (
        f"{what} and its image overlap in {overlap:.4g} mm3, of the {volume:.4g} mm3 "
        f"of the mask; {advice}"
    )


def voxel_centres(image: Image) -> FloatArray:
    """Centres of all voxels, shape (nx * ny * nz, 3), in RAS+ mm."""
    return image.to_mm(np.indices(image.shape).reshape(3, -1).T)


def interpolate(
    image: Image, points: FloatArray, threads: int = 1
) -> npt.NDArray[np.float32]:
    """Read an image at points, shape (n, 3) in RAS+ mm, linearly.

    The outermost voxels reach half a voxel further; beyond, and where a neighbour
    has no data, the answer is NaN.
    """
    out = np.empty(len(points), np.float32)
    volume, ijk_from_mm = flat_volume(image.data), np.linalg.inv(image.mm_from_ijk)
    step = 1 << 14

    def fill(start: int) -> None:
        some = slice(start, start + step)
        kernels.interpolate(*volume, ijk_from_mm, points[some], out[some])

    shared(fill, range(0, len(points), step), threads)
    return out


def evened(
    image: Image, background: float, shading: Image
) -> Callable[[slice], npt.NDArray[np.float32]]:
    """Divide the contrast of an image to its background by a shading.

    Parameters
    ----------
    image : Image
        The image.
    background : float
        Intensity that stays as it is.
    shading : Image
        What to divide by, read linearly, edges extended. Its axes must be parallel to
        those of the image, as those of an image shrunk are.

    Returns
    -------
    callable
        From a slice of the axis that is slowest in memory to those planes of the image,
        evened; their axes are in the order of memory.
    """
    ijk_from_ijk = np.linalg.inv(shading.mm_from_ijk) @ image.mm_from_ijk
    axes = memory_order(image.data)
    x, y, z = (
        np.clip(
            np.arange(image.shape[axis]) * ijk_from_ijk[axis, axis]
            + ijk_from_ijk[axis, 3],
            0,
            shading.shape[axis] - 1,
        )
        for axis in axes
    )
    volume = np.ascontiguousarray(image.data.transpose(axes))
    field = shading.data.transpose(axes)
    below = np.minimum(z.astype(int), max(field.shape[2] - 2, 0))
    above = np.minimum(below + 1, field.shape[2] - 1)
    beyond = np.float32(z - below)
    field = np.take(field, below, 2) * (1 - beyond) + np.take(field, above, 2) * beyond

    def planes(some: slice) -> npt.NDArray[np.float32]:
        out = np.empty_like(volume[some])
        kernels.even(volume[some], np.float32(background), field, x[some], y, out)
        return out

    return planes


def shrink(
    image: Image, size_mm: float, limits: tuple[float, float], threads: int = 1
) -> Image:
    """Bring an image to voxels of about `size_mm`, never finer than they are."""
    factors = np.maximum(1, np.rint(size_mm / image.voxel_size_mm)).astype(int)
    if (factors == 1).all():
        return image
    return downsample(image, tuple(factors), limits, threads)


def downsample(
    image: Image,
    factors: tuple[int, int, int],
    limits: tuple[float, float] = (-np.inf, np.inf),
    threads: int = 1,
) -> Image:
    """Shrink an image by taking the mean of blocks of voxels.

    Parameters
    ----------
    image : Image
        The image.
    factors : tuple of int
        Voxels of a block along each axis. What remains at the end of an axis makes
        a block of its own.
    limits : tuple of float, optional
        Intensities are clipped to these before the mean is taken.
    threads : int, optional
        Threads to use.

    Returns
    -------
    Image
        A block with fewer than half of its voxels holding data is NaN.

    Examples
    --------
    >>> import numpy as np
    >>> image = Image(np.arange(4.0).reshape(4, 1, 1), np.eye(4))
    >>> small = downsample(image, (2, 1, 1))
    >>> small.data.ravel(), small.mm_from_ijk[0]
    (array([0.5, 2.5], dtype=float32), array([2. , 0. , 0. , 0.5]))
    """
    axes = memory_order(image.data)
    volume = np.ascontiguousarray(image.data.transpose(axes))
    blocks = np.array(factors, dtype=np.int64)[axes]
    out = np.empty(
        [-(-n // f) for n, f in zip(volume.shape, blocks, strict=True)], "f4"
    )
    bounds = np.array(limits, dtype=np.float32)
    step = max(1, len(out) // 32)

    def fill(start: int) -> None:
        kernels.downsample(volume, blocks, bounds, start, out[start : start + step])

    shared(fill, range(0, len(out), step), threads)
    image_ijk_from_ijk = np.diag([*factors, 1.0])
    image_ijk_from_ijk[:3, 3] = (np.array(factors) - 1) / 2
    small = out.transpose(np.argsort(axes))
    return Image(small, image.mm_from_ijk @ image_ijk_from_ijk)
