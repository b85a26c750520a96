"""From an image and a transform to the image on another grid."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import partial
from itertools import permutations
from typing import Literal

import numpy as np
import numpy.typing as npt

from . import _kernels as kernels
from ._errors import InputError
from ._files.formats import ImageLike, as_grid, as_volume, check_labels
from ._image import Image, Slabs, flat_volume
from ._threads import available, shared
from ._transform import TransformLike, as_transform

Interpolation = Literal["nearest", "linear", "cubic", "lanczos", "label"]
Volume = npt.NDArray[np.float32]
FloatArray = npt.NDArray[np.float64]

#: Reads voxels into out (planes, ny, nx): (ijk_from_out, first plane, out) -> None.
_Reader = Callable[[FloatArray, int, Volume], None]

_LOOPS: dict[str, Callable[..., None]] = {
    "nearest": kernels.resample_nearest,
    "linear": kernels.resample_linear,
    "cubic": kernels.resample_cubic,
    "lanczos": partial(kernels.resample_lanczos, 3),
    "label": kernels.resample_label,
}

#: Names of the ways to read between voxels.
INTERPOLATIONS = tuple(_LOOPS)

#: Those that invent no value: for labels.
EXACT = ("nearest", "label")

#: Those that reach further than the eight voxels about a place.
_WIDE = ("cubic", "lanczos")

#: Coarser than this a grid is no use, and its means would need much memory.
_MOST_COARSER = 200

#: Planes that a thread takes at once; a fixed number, so that the answer is the same.
_PLANES = 8

#: Voxels of a finer grid that a thread averages at once, if a plane is not more.
_MOST_FINE = 2**24

#: Voxels of the new grid that are made at once, or as few planes as threads share.
_MOST_AT_ONCE = 2**24

#: Standard deviation of a Gaussian of unit width at half its height.
_SIGMA = 1 / math.sqrt(8 * math.log(2))

#: Most voxels along an axis (NIfTI-1), and in all, of a grid that is made.
_MOST_ALONG, _MOST_VOXELS = 32767, 2**31


def resample(
    moving: ImageLike,
    like: ImageLike,
    moving_from_fixed: TransformLike,
    *,
    interpolation: Interpolation = "linear",
    fill: float = np.nan,
    antialias: bool = True,
    threads: int | None = None,
) -> Image:
    """Resample an image onto the grid of another one.

    Parameters
    ----------
    moving : Image, path, nibabel image, SimpleITK image or (array, affine)
        Image to read from.
    like : as `moving`
        Image whose grid (shape and `mm_from_ijk`) the result takes. Its
        intensities are not used.
    moving_from_fixed : RigidTransform, AffineTransform, (4, 4) array_like or path
        Where to look: maps a point of `like` (RAS+ mm) to the point of
        `moving` (RAS+ mm) that shows the same anatomy. Any invertible affine, or
        what holds a transform, as a `Registration`.
    interpolation : {"linear", "nearest", "cubic", "lanczos", "label"}, optional
        "nearest" takes the closest voxel; "linear" is trilinear; "cubic" is the
        interpolating cubic B-spline [1]_ and "lanczos" the sinc within a Lanczos
        window of 3 voxels to each side (as in ANTs, but with weights that sum to
        one), both sharper than linear and able to overshoot; "label" takes the label
        with the largest sum of trilinear weights, the smaller one in a tie (as
        ANTs' GenericLabel), with smoother borders than "nearest".
    fill : float, optional
        Value of the voxels without an answer (default: NaN).
    antialias : bool, optional
        Along the axes of `like` whose voxels are longer than those of `moving`,
        average `moving` with a Gaussian that makes up the difference [2]_, so that
        detail too fine for the new grid does not come back as noise (default: yes).
        Where the voxels are of one size to a hundredth, nothing is averaged; nor
        ever with "nearest" and "label".
    threads : int, optional
        Threads to use (default: all processors). The answer is the same.

    Returns
    -------
    Image
        `moving` as seen on the grid of `like`. A voxel that looks outside of
        `moving`, or at a place where a voxel with weight is NaN, has no answer
        and is `fill`. An image ends half a voxel beyond its outermost voxel
        centres, and in that rim repeats its outermost voxels; so an image of
        one slice is a slab, and the identity keeps every voxel.

    Raises
    ------
    InputError
        If `moving_from_fixed` is no transform, or there is no such interpolation; or
        if labels above 16777216 were rounded, as images are float32.

    See Also
    --------
    mireg.register : Find `moving_from_fixed`.

    Notes
    -----
    Positions within a millionth of a voxel of a voxel centre count as on it.

    For a voxel of length L along an axis of `like`, and of w along the axis of
    `moving` that runs along it best, the Gaussian has a width at half height of
    sqrt(L^2 - w^2): as if both scanners blurred by their own voxel.

    References
    ----------
    .. [1] Unser, "Splines: a perfect fit for signal and image processing",
       IEEE Signal Processing Magazine 1999.
    .. [2] Cardoso et al., "Scale factor point spread function matching: beyond
       aliasing in image resampling", MICCAI 2015.

    Examples
    --------
    Each voxel shows what lies one millimetre further right (+x) in `moving`:

    >>> import numpy as np
    >>> moving = Image(np.float32([[[1]], [[2]], [[3]]]), np.eye(4))
    >>> one_mm_right = np.eye(4)
    >>> one_mm_right[0, 3] = 1
    >>> resample(moving, moving, one_mm_right).data.ravel()
    array([ 2.,  3., nan], dtype=float32)
    """
    moving = as_volume(moving)
    if interpolation in EXACT:
        check_labels(moving)
    return resampled_slabs(
        moving,
        as_grid(like),
        moving_from_fixed,
        interpolation=interpolation,
        fill=fill,
        antialias=antialias,
        threads=threads,
    ).whole()


def resampled_slabs(
    moving: Image,
    like: Image,
    moving_from_fixed: TransformLike,
    *,
    interpolation: Interpolation = "linear",
    fill: float = np.nan,
    antialias: bool = True,
    threads: int | None = None,
) -> Slabs:
    """Resample an image some planes at a time; see `resample`."""
    if interpolation not in _LOOPS:
        raise InputError(
            f"interpolation is {interpolation!r}; "
            f"choose one of {', '.join(INTERPOLATIONS)}"
        )
    affine = as_transform(moving_from_fixed, fixed=like, moving=moving).matrix
    moving_ijk_from_fixed_ijk = (
        np.linalg.inv(moving.mm_from_ijk) @ affine @ like.mm_from_ijk
    )
    read = _reader(moving.voxels, interpolation)
    coarser = np.ones(3)
    if antialias and interpolation not in EXACT:
        coarser = _coarser(moving, like, affine)
    if coarser.max() > _MOST_COARSER:
        raise InputError(
            f"voxels of the grid are {coarser.max():.3g} times as long as those of the "
            "image once it is moved; check the transform, or leave antialiasing out"
        )
    nx, ny, nz = like.shape
    if (coarser > 1).any():

        def averaged(_first: int, _stop: int) -> Volume:
            box = _seen(moving, moving_ijk_from_fixed_ijk, like.shape)
            out = _averaged(
                read, like.shape, box, moving_ijk_from_fixed_ijk, coarser, threads
            )
            _fill(lambda _, planes: _replace_missing(planes, fill), out, threads)
            return out.T

        return Slabs(like, nz, averaged)

    def read_planes(first: int, stop: int) -> Volume:
        out = np.empty((stop - first, ny, nx), np.float32)

        def write(start: int, planes: Volume) -> None:
            read(moving_ijk_from_fixed_ijk, first + start, planes)
            _replace_missing(planes, fill)

        _fill(write, out, threads)
        return out.T

    # So that each thread is given the planes that it would be in one go.
    least = _PLANES * (threads or available())
    step = max(least, _MOST_AT_ONCE // (nx * ny) // _PLANES * _PLANES)
    return Slabs(like, step, read_planes)


def regrid(like: Image, voxel_size_mm: npt.ArrayLike) -> Image:
    """Lay voxels of another size over the field of view of an image.

    Parameters
    ----------
    like : Image
        Whose field of view, orientation and centre to keep.
    voxel_size_mm : float or (3,) array_like
        Length of the new voxels along each axis.

    Returns
    -------
    Image
        As many voxels as cover the field of view; all are NaN, and no memory is used.

    Raises
    ------
    InputError
        If a length is not a number above 0, or the voxels would be too many.

    Examples
    --------
    >>> import numpy as np
    >>> fine = regrid(Image(np.zeros((10, 10, 4)), np.diag([1, 1, 5, 1])), 2)
    >>> fine.shape, fine.mm_from_ijk[:3, 3]
    ((5, 5, 10), array([ 0.5,  0.5, -1.5]))
    """
    sizes = np.broadcast_to(np.asarray(voxel_size_mm, np.float64), 3)
    if not (np.isfinite(sizes) & (sizes > 0)).all():
        raise InputError(f"the voxel size is {_by(sizes)} mm; it must be above 0")
    old = np.array(like.shape)
    scale = sizes / like.voxel_size_mm
    # A thousandth of a voxel is rounding in the header.
    shape = np.maximum(np.ceil(old / scale - 1e-3), 1)
    if shape.max() > _MOST_ALONG or shape.prod() > _MOST_VOXELS:
        raise InputError(
            f"with voxels of {_by(sizes)} mm the grid would have {_by(shape)} of them; "
            "choose larger ones"
        )
    old_from_new = np.diag([*scale, 1.0])
    old_from_new[:3, 3] = (old - 1) / 2 - scale * (shape - 1) / 2
    nothing = np.broadcast_to(np.float32(np.nan), shape.astype(int))
    return Image(nothing, like.mm_from_ijk @ old_from_new)


def voxel_size_along(
    moving: Image, like: Image, moving_from_fixed: npt.ArrayLike
) -> FloatArray:
    """Voxel size of an image along the axes of another one, mm.

    Each axis of `like` is given the axis of `moving` that runs along it best, once
    `moving_from_fixed` has brought the two into line.

    Examples
    --------
    >>> import numpy as np
    >>> sagittal = np.array([[0, 0, 5, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]])
    >>> slices = Image(np.zeros((9, 9, 3)), sagittal)
    >>> head = Image(np.zeros((9, 9, 9)), np.eye(4))
    >>> voxel_size_along(slices, head, np.eye(4))
    array([5., 1., 1.])
    """
    turned = (
        np.asarray(moving_from_fixed, np.float64)[:3, :3] @ like.mm_from_ijk[:3, :3]
    )
    turned /= np.linalg.norm(turned, axis=0)
    own = moving.mm_from_ijk[:3, :3] / moving.voxel_size_mm
    along = np.abs(turned.T @ own)
    axes = max(permutations(range(3)), key=lambda axes: along[range(3), axes].sum())
    return moving.voxel_size_mm[list(axes)]


def fill_value(image: Image) -> float:
    """Choose what to write where a resampled image has no answer.

    NaN if that is what the image itself has where it has no data. 0 if its
    intensities are about 0 or above at its borders (MR, PET, labels, signed maps).
    Otherwise what it has there, the median over its six faces: air or padding in CT.

    Examples
    --------
    >>> import numpy as np
    >>> ct = np.full((5, 5, 5), -1000.0)
    >>> ct[1:4, 1:4, 1:4] = 40
    >>> fill_value(Image(ct, np.eye(4)))
    -1000.0
    """
    d = image.voxels
    low = float(d.min())
    if np.isnan(low):
        return np.nan
    if low >= 0:
        return 0.0
    faces = (d[0], d[-1], d[:, 0], d[:, -1], d[:, :, 0], d[:, :, -1])
    border = float(np.median(np.concatenate([face.ravel() for face in faces])))
    return border if border < 0.05 * low else 0.0


def _by(numbers: Iterable[float]) -> str:
    """Write sizes as 1 x 2 x 3."""
    return " x ".join(f"{number:.10g}" for number in numbers)


def _reader(data: Volume, interpolation: str) -> _Reader:
    """Prepare a volume to be read; what the reader fills is NaN without an answer."""
    loop = _LOOPS[interpolation]
    if interpolation not in _WIDE:
        return partial(loop, *flat_volume(data))
    complete = _without_holes(data)
    if interpolation == "cubic":
        from scipy import ndimage  # noqa: PLC0415  # slow to import, seldom needed

        wide = ndimage.spline_filter(complete, 3, np.float32, mode="mirror")
    else:
        wide = complete
    read_wide = partial(loop, *flat_volume(wide))
    if complete is data:
        return read_wide
    read_near = partial(kernels.resample_linear, *flat_volume(data))

    def read(ijk_from_out: FloatArray, first: int, out: Volume) -> None:
        """Read; no data is where linear interpolation has none."""
        read_wide(ijk_from_out, first, out)
        near = np.empty_like(out)
        read_near(ijk_from_out, first, near)
        out[np.isnan(near)] = np.nan

    return read


def _without_holes(data: Volume) -> Volume:
    """Let their nearest neighbours stand in for missing voxels: the least ringing."""
    if not np.isnan(data.min()):
        return data
    missing = np.isnan(data)
    if missing.all():
        return np.zeros_like(data)
    from scipy import ndimage  # noqa: PLC0415  # slow to import, seldom needed

    nearest = ndimage.distance_transform_edt(
        missing, return_distances=False, return_indices=True
    )
    return data[tuple(nearest)]


def _fill(
    write: Callable[[int, Volume], None],
    out: Volume,
    threads: int | None,
    planes: int = _PLANES,
) -> None:
    """Let threads write out (nz, ny, nx), some planes at a time.

    Memory order, last axis slowest, is that of NIfTI files.
    """
    shared(
        lambda first: write(first, out[first : first + planes]),
        range(0, len(out), planes),
        threads or available(),
    )


def _replace_missing(volume: Volume, fill: float) -> None:
    """Write `fill` where there is no answer."""
    if not np.isnan(fill):
        np.copyto(volume, np.float32(fill), where=np.isnan(volume))


# --- against aliasing -------------------------------------------------------


def _coarser(moving: Image, like: Image, moving_from_fixed: FloatArray) -> FloatArray:
    """How much longer voxels of `like` are along each axis; 1 if they are not."""
    steps = moving_from_fixed[:3, :3] @ like.mm_from_ijk[:3, :3]
    widths = voxel_size_along(moving, like, moving_from_fixed)
    ratios = np.linalg.norm(steps, axis=0) / widths
    return np.where(ratios > 1.01, ratios, 1.0)


def _seen(
    moving: Image, moving_ijk_from_out_ijk: FloatArray, shape: tuple[int, int, int]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """First and last voxel, (i, j, k), of the box of a grid that sees an image."""
    corners = (
        np.indices((2, 2, 2)).reshape(3, 8) * np.array(moving.shape)[:, None] - 0.5
    )
    out_ijk_from_moving_ijk = np.linalg.inv(moving_ijk_from_out_ijk)
    seen = out_ijk_from_moving_ijk[:3, :3] @ corners + out_ijk_from_moving_ijk[:3, 3:]
    low = np.floor(seen.min(axis=1)).clip(0, np.array(shape) - 1)
    high = np.ceil(seen.max(axis=1)).clip(0, np.array(shape) - 1)
    return low.astype(np.int64), high.astype(np.int64)


def _averaged(
    read: _Reader,
    shape: tuple[int, int, int],
    box: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]],
    moving_ijk_from_out_ijk: FloatArray,
    coarser: FloatArray,
    threads: int | None,
) -> Volume:
    """Read a finer grid, and take Gaussian means of it along each axis."""
    parts = np.ceil(coarser - 0.01).astype(int)  # whatever the rounding
    sigmas = parts * np.sqrt(1 - 1 / coarser**2) * _SIGMA
    reach = np.ceil(3 * sigmas).astype(int)
    bells = [
        np.exp(-(np.arange(-r, r + 1) ** 2) / (2 * sigma**2)) if r else np.ones(1)
        for r, sigma in zip(reach, sigmas, strict=True)
    ]
    out = np.full(shape[::-1], np.nan, np.float32)
    x, y, z = (slice(a, b + 1) for a, b in zip(*box, strict=True))
    inner = out[z, y, x]

    def means(fine: Volume) -> Volume:
        for axis, (part, bell) in enumerate(zip(parts, bells, strict=True)):
            fine = _means(fine, 2 - axis, part, bell)
        return fine

    def write(first: int, planes: Volume) -> None:
        counts = np.array(planes.shape[::-1])
        fine = np.empty(((counts - 1) * parts + 1 + 2 * reach)[::-1], np.float32)
        out_ijk_from_fine = np.diag([*(1 / parts), 1.0])
        out_ijk_from_fine[:3, 3] = box[0] + [0, 0, first] - reach / parts
        read(moving_ijk_from_out_ijk @ out_ijk_from_fine, 0, fine)
        at = tuple(
            slice(r, r + (n - 1) * p + 1, p)
            for r, n, p in zip(reach[::-1], counts[::-1], parts[::-1], strict=True)
        )
        answered = ~np.isnan(fine[at])
        missing = np.isnan(fine)
        mean = means(np.nan_to_num(fine, copy=False, nan=0.0))
        if missing.any():  # of what there is
            share = means((~missing).astype(np.float32))
            mean = np.divide(mean, share, out=mean, where=answered)
        planes[answered] = mean[answered]

    counts = np.array(inner.shape[::-1])
    plane = np.prod(((counts - 1) * parts + 1 + 2 * reach)[:2])
    fits = (_MOST_FINE / plane - 2 * reach[2]) / parts[2]
    _fill(write, inner, threads, int(np.clip(fits, 1, _PLANES)))
    return out


def _means(volume: Volume, axis: int, step: int, bell: FloatArray) -> Volume:
    """Weighted means of runs of voxels along an axis, from every `step`-th on."""
    turned = np.moveaxis(volume, axis, 0)
    size = len(turned) - len(bell) + 1
    total = np.zeros((-(-size // step), *turned.shape[1:]), np.float32)
    for a, weight in enumerate(bell / bell.sum()):
        total += np.float32(weight) * turned[a : a + size : step]
    return np.moveaxis(total, 0, axis)
