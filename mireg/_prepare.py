"""What is learned of one image before it meets another: a `PreparedImage`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from . import _kernels as kernels
from . import _parameters as parameters
from ._errors import InputError
from ._files.formats import ImageLike, as_image, as_mask
from ._image import Image, are_inside, flat_volume, memory_order
from ._intensity import IntensityScale, intensity_scale, subsampled
from ._threads import available, shared

FloatArray = npt.NDArray[np.float64]
Volume = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Foreground:
    """Where the anatomy of an image is.

    Attributes
    ----------
    centroid : (3,) ndarray
        RAS+ mm.
    rms_radius : float
        Root mean square distance of the foreground from its centroid, mm.
    volume : float
        Cubic mm.
    points : (n, 3) ndarray
        Its voxels on the low-resolution grid, RAS+ mm.
    depths : (n,) ndarray
        Distance of each of them from the border, mm.
    """

    centroid: FloatArray
    rms_radius: float
    volume: float
    points: FloatArray
    depths: FloatArray

    @property
    def centroid_depth(self) -> float:
        """Distance of the centroid from the border, mm."""
        off = np.square(self.points - self.centroid).sum(axis=1)
        return float(self.depths[off.argmin()])

    def translation_grid(self, spacing: float, depth: float = 0.0) -> FloatArray:
        """Points `spacing` mm apart and at least `depth` mm deep, (n, 3) in RAS+ mm.

        The centroid comes first, wherever it lies.
        """
        deep = self.points[self.depths >= depth]
        cells = np.unique(np.rint((deep - self.centroid) / spacing).astype(int), axis=0)
        cells = cells[(cells != 0).any(axis=1)]
        return self.centroid + spacing * np.concatenate([np.zeros((1, 3)), cells])

    def embed(self, poses: FloatArray) -> FloatArray:
        """Twelve numbers (n, 12) for each of (n, 4, 4) poses, all in mm.

        The distance between those of two poses is the root mean square distance
        between where the poses put the foreground, as if it were as wide along all
        axes.
        """
        centroids = poses[:, :3, :3] @ self.centroid + poses[:, :3, 3]
        rotations = poses[:, :3, :3].reshape(-1, 9) * (self.rms_radius / np.sqrt(3))
        return np.concatenate([centroids, rotations], axis=1)

    def distance(self, pose: FloatArray, other: FloatArray) -> float:
        """Root mean square distance, mm, between where two poses put the foreground."""
        here, there = self.embed(np.array([pose, other]))
        return float(np.linalg.norm(here - there))


@dataclass(frozen=True, eq=False)
class Normalisation:
    """How the intensities of an image become normalised ones, 0 to 1.

    Attributes
    ----------
    scale : IntensityScale
        The scale of the intensities, bias-corrected where there is a bias field.
    bias_field : Image or None
        By which to divide the contrast to the background first, on a grid whose axes
        are parallel to those of the image.
    background : float
        Intensity of the background, which bias correction leaves alone.
    """

    scale: IntensityScale
    background: float
    bias_field: Image | None = None

    def at(self, points: FloatArray, intensity: Volume) -> Volume:
        """Normalise intensities (n,) that were read at points (n, 3), RAS+ mm."""
        if self.bias_field is not None:
            background = np.float32(self.background)
            bias = interpolate(self.bias_field, points)
            intensity = background + (intensity - background) / bias
        return self.scale.apply(intensity)

    def planes_of(self, image: Image) -> Callable[[slice], Volume]:
        """Return what normalises planes of an image, as `bias_corrected` takes them."""
        if self.bias_field is None:
            volume = image.voxels.transpose(memory_order(image.voxels))
            return lambda some: self.scale.apply(np.asarray(volume[some], np.float32))
        corrected = bias_corrected(image, self.background, self.bias_field)
        return lambda some: self.scale.apply(corrected(some))


@dataclass(frozen=True, eq=False)
class PreparedImage:
    """One image with what was learned of it, for any number of partners.

    Made by `mireg.prepare`, and accepted wherever an image is.

    Attributes
    ----------
    image : Image
        The image.
    mask : Image or None
        Above 0.5 where to compare, on its own grid in the world space of the image.
    scale : IntensityScale
        Background, foreground threshold and scale of the intensities.
    foreground : Foreground
        Where the anatomy is.
    low_resolution : Image
        The image in about 40 voxels along each axis.
    sampling_mask : Image
        1 in and near the foreground, 0 elsewhere, on the low-resolution grid.
    """

    image: Image
    mask: Image | None
    scale: IntensityScale
    foreground: Foreground
    low_resolution: Image
    sampling_mask: Image
    _shrunk: dict[tuple[int, ...], Image] = field(default_factory=dict, repr=False)

    def __repr__(self) -> str:
        """Say what it is in one line."""
        masked = "no mask" if self.mask is None else "with a mask"
        return f"<PreparedImage of {self.image!r}, {masked}>"

    @cached_property
    def original(self) -> Normalisation:
        """How its intensities are normalised as they are."""
        return Normalisation(self.scale, self.scale.background)

    @cached_property
    def corrected(self) -> Normalisation:
        """How its intensities are normalised with the bias field divided out.

        The bias field is the contrast to the background, smoothed over the foreground
        nearby. Where brightness says more about the receive coil than about tissue, as
        in EPI of a whole head, correction makes the right pose the best one; elsewhere
        it can cost a little of the contrast between large structures.
        """
        scale, low = self.scale, self.low_resolution
        smooth = partial(
            ndimage.gaussian_filter,
            sigma=parameters.BIAS_RADII
            * self.foreground.rms_radius
            / low.voxel_size_mm,
            mode="constant",
            truncate=parameters.GAUSSIAN_CUT,
        )
        foreground = scale.is_foreground(low.data)
        contrast = np.where(foreground, np.abs(low.data - scale.background), 0)
        mean = contrast.sum() / max(1, foreground.sum())
        if mean == 0:
            return self.original
        # Far from the foreground the field becomes one.
        outside = parameters.BIAS_OUTSIDE
        bias = smooth(contrast / mean) + outside
        bias /= smooth(np.float32(foreground)) + outside
        bias_field = Image(np.maximum(bias, parameters.BIAS_LEAST), low.mm_from_ijk)
        few = subsampled(self.image)
        np.clip(few.data, scale.low, scale.high, out=few.data)
        planes = bias_corrected(few, scale.background, bias_field)
        corrected = Image(planes(slice(None)), np.eye(4))  # the affine is not used
        return Normalisation(intensity_scale(corrected), scale.background, bias_field)

    def shrunk(self, size_mm: float, threads: int = 1) -> Image:
        """Shrink the image to voxels of about `size_mm`, never finer; kept."""
        factors = shrink_factors(self.image, size_mm)
        if factors not in self._shrunk:
            limits = self.scale.low, self.scale.high
            self._shrunk[factors] = downsample(self.image, factors, limits, threads)
        return self._shrunk[factors]


def prepare(
    image: ImageLike,
    mask: ImageLike | None = None,
    *,
    threads: int | None = None,
) -> PreparedImage:
    """Learn what depends on one image alone, to register it with any number of others.

    Parameters
    ----------
    image : Image, path, nibabel image, SimpleITK image or (array, affine)
        A scan; of a 4-D image the mean is taken.
    mask : as `image`, optional
        Above 0.5 where to compare, on any grid in the world space of the image.
    threads : int, optional
        Threads to use (default: all processors); the result does not depend on it.

    Returns
    -------
    PreparedImage
        The image with its intensity scale and foreground; its bias field is estimated
        when first needed. It is accepted wherever an image is, and keeps what it was
        shrunk to for its partners.

    Raises
    ------
    InputError
        If the image, or what the mask leaves of it, has no contrast; if the mask is
        empty, misses the image, or leaves too little of it; or if a prepared image is
        given another mask.

    See Also
    --------
    mireg.register : Takes prepared images.

    Examples
    --------
    Twenty scans brought to one T1, which is prepared once::

        t1 = mireg.prepare("t1.nii.gz")
        found = [mireg.register(t1, scan) for scan in scans]

    >>> x, y, z = np.indices((20, 24, 22))
    >>> ball = np.exp(-((x - 9) ** 2 + (y - 9) ** 2 + (z - 12) ** 2) / 30.0)
    >>> prepared = prepare((ball, np.eye(4)))
    >>> prepared.foreground.centroid.round()
    array([ 9.,  9., 12.])
    """
    if isinstance(image, PreparedImage):
        if mask is not None:
            raise InputError(
                "a prepared image has its mask already; give the mask to prepare"
            )
        return image
    image, mask = as_image(image), as_mask(mask)
    threads = threads or available()
    scale = intensity_scale(subsampled(image))
    low_resolution = _low_resolution(image, scale, threads)
    foreground = scale.is_foreground(low_resolution.data)
    if mask is not None:
        centres = voxel_centres(low_resolution)
        inside = in_mask(mask, centres).reshape(low_resolution.shape)
        if not inside.any():
            raise InputError(_mask_error(mask, image))
        _check_contrast(mask, scale, low_resolution.data[inside])
        foreground = foreground & inside if (foreground & inside).any() else inside
    if not foreground.any():
        foreground = np.isfinite(low_resolution.data)
    measured = _foreground_of(low_resolution, foreground)
    return PreparedImage(
        image=image,
        mask=mask,
        scale=scale,
        foreground=measured,
        low_resolution=low_resolution,
        sampling_mask=_sampling_mask(low_resolution, foreground, measured.rms_radius),
    )


def read(
    role: str, image: ImageLike, mask: ImageLike | None
) -> tuple[Image | PreparedImage, Image | None]:
    """Read one image of a pair and its mask; one that is prepared stays so."""
    if not isinstance(image, PreparedImage):
        image = as_image(image, name=f"the {role} image")
    return image, as_mask(mask, name=f"the {role} mask")


def _low_resolution(image: Image, scale: IntensityScale, threads: int) -> Image:
    """Shrink an image to about 40 voxels along each axis."""
    side_mm = (image.voxel_volume_mm3 * image.voxels.size) ** (1 / 3)
    factors = shrink_factors(image, side_mm / parameters.LOW_RESOLUTION_VOXELS)
    return downsample(image, factors, (scale.low, scale.high), threads)


def _foreground_of(image: Image, foreground: npt.NDArray[np.bool_]) -> Foreground:
    """Measure where a foreground is."""
    points = image.to_mm(np.argwhere(foreground))
    centroid = points.mean(axis=0)
    rms_radius = float(np.sqrt(np.square(points - centroid).sum(axis=1).mean()))
    rms_radius = max(rms_radius, float(image.voxel_size_mm.max()))
    volume = len(points) * image.voxel_volume_mm3
    outside, _ = ndimage.label(~np.pad(foreground, 1))
    filled = outside != outside[0, 0, 0]  # holes in the anatomy are part of it
    depths = ndimage.distance_transform_edt(filled, sampling=image.voxel_size_mm)
    depths = depths[1:-1, 1:-1, 1:-1][foreground]
    return Foreground(centroid, rms_radius, volume, points, depths)


def _sampling_mask(
    image: Image, foreground: npt.NDArray[np.bool_], rms_radius: float
) -> Image:
    """Where to draw samples: in the foreground and a narrow rim around it."""
    rim = np.rint(parameters.RIM_RADII * rms_radius / image.voxel_size_mm)
    width = 2 * np.maximum(1, rim).astype(int) + 1
    near = ndimage.uniform_filter(np.float32(foreground), width, mode="nearest")
    # In noise the foreground is specks.
    least = min(parameters.SAMPLING_SHARE, near.max() / 2)
    return Image((near > least).astype(np.float32), image.mm_from_ijk)


def in_mask(mask: Image, points: FloatArray) -> npt.NDArray[np.bool_]:
    """Tell which points, shape (n, 3) in RAS+ mm, lie in a mask's voxels above 0.5."""
    # Ties at the borders of voxels go up, whatever the rounding error.
    ijk = np.floor(mask.to_ijk(points) + 0.5 + 1e-6).astype(int)
    inside = np.asarray(((ijk >= 0) & (ijk < mask.shape)).all(axis=1))
    inside[inside] = mask.data[tuple(ijk[inside].T)] > 0.5
    return inside


def _called(mask: Image) -> str:
    """Say which mask it is."""
    name = mask.source.path if mask.source is not None else None
    return "the mask" if name is None else f"{name}: the mask"


def _check_contrast(mask: Image, scale: IntensityScale, inside: Volume) -> None:
    """Refuse a mask in which there is nothing to see, as one of background."""
    inside = inside[np.isfinite(inside)]
    if inside.size and np.ptp(scale.apply(inside)) < parameters.MASK_CONTRAST:
        raise InputError(
            f"{_called(mask)} has no contrast: the image is about "
            f"{np.median(inside) + 0.0:.4g} all over it, and nothing in it can be "
            "registered; draw it over anatomy, with a rim"
        )


def _mask_error(mask: Image, image: Image) -> str:
    """Say why a mask leaves nothing of its image."""
    what = _called(mask)
    held = np.argwhere(mask.data > 0.5)
    if not len(held):
        return f"{what} is empty, no voxel is above 0.5; give another, or none"
    common = are_inside(image, mask.to_mm(held))
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


def interpolate(image: Image, points: FloatArray, threads: int = 1) -> Volume:
    """Read an image at points, shape (n, 3) in RAS+ mm, linearly.

    The outermost voxels reach half a voxel further; beyond, and where a neighbour
    has no data, the answer is NaN.
    """
    out = np.empty(len(points), np.float32)
    volume, ijk_from_mm = flat_volume(image.voxels), np.linalg.inv(image.mm_from_ijk)
    step = 1 << 14

    def fill(start: int) -> None:
        some = slice(start, start + step)
        kernels.interpolate(*volume, ijk_from_mm, points[some], out[some])

    shared(fill, range(0, len(points), step), threads)
    return out


def bias_corrected(
    image: Image, background: float, bias_field: Image
) -> Callable[[slice], Volume]:
    """Divide the contrast of an image to its background by a bias field.

    Parameters
    ----------
    image : Image
        The image.
    background : float
        Intensity that stays as it is.
    bias_field : Image
        What to divide by, read linearly, edges extended. Its axes must be parallel to
        those of the image, as those of an image shrunk are.

    Returns
    -------
    callable
        From a slice of the axis that is slowest in memory to those planes of the image,
        corrected; their axes are in the order of memory.
    """
    field_ijk_from_ijk = np.linalg.inv(bias_field.mm_from_ijk) @ image.mm_from_ijk
    axes = memory_order(image.voxels)
    x, y, z = (
        np.clip(
            np.arange(image.shape[axis]) * field_ijk_from_ijk[axis, axis]
            + field_ijk_from_ijk[axis, 3],
            0,
            bias_field.shape[axis] - 1,
        )
        for axis in axes
    )
    volume = np.ascontiguousarray(image.voxels.transpose(axes))
    bias = bias_field.data.transpose(axes)
    below = np.minimum(z.astype(int), max(bias.shape[2] - 2, 0))
    above = np.minimum(below + 1, bias.shape[2] - 1)
    beyond = np.float32(z - below)
    bias = np.take(bias, below, 2) * (1 - beyond) + np.take(bias, above, 2) * beyond

    def planes(some: slice) -> Volume:
        some_planes = np.asarray(volume[some], np.float32)
        out = np.empty_like(some_planes)
        kernels.bias_corrected(
            some_planes, np.float32(background), bias, x[some], y, out
        )
        return out

    return planes


def shrink_factors(image: Image, size_mm: float) -> tuple[int, int, int]:
    """Voxels along each axis of a block of about `size_mm`."""
    factors = np.maximum(1, np.rint(size_mm / image.voxel_size_mm)).astype(int)
    x, y, z = factors.tolist()
    return x, y, z


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
        a shorter block. Blocks of one voxel are the image as it is.
    limits : tuple of float, optional
        Intensities are clipped to these before the mean is taken.
    threads : int, optional
        Threads to use.

    Returns
    -------
    Image
        A block with data in fewer voxels than half of a whole block is NaN, and so is
        a remainder shorter than that.

    Examples
    --------
    >>> import numpy as np
    >>> image = Image(np.arange(4.0).reshape(4, 1, 1), np.eye(4))
    >>> small = downsample(image, (2, 1, 1))
    >>> small.data.ravel(), small.mm_from_ijk[0]
    (array([0.5, 2.5], dtype=float32), array([2. , 0. , 0. , 0.5]))
    """
    if factors == (1, 1, 1):
        return image
    axes = memory_order(image.voxels)
    volume = np.ascontiguousarray(image.voxels.transpose(axes))
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
