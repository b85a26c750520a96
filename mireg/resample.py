"""From an image and a transform to the image on another grid."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from . import kernels
from .errors import InputError
from .image import Image
from .threads import available, shared

Interpolation = Literal["nearest", "linear", "cubic"]
Volume = npt.NDArray[np.float32]

_LOOPS = {
    "nearest": kernels.resample_nearest,
    "linear": kernels.resample_linear,
    "cubic": kernels.resample_cubic,
}

#: Names of the ways to read between voxels.
INTERPOLATIONS = tuple(_LOOPS)

#: Slabs that the threads share; a fixed number, so that the answer is the same.
_SLABS = 32


def resample(
    moving: Image,
    like: Image,
    moving_from_fixed: npt.ArrayLike,
    *,
    interpolation: Interpolation = "linear",
    fill: float = np.nan,
    threads: int | None = None,
) -> Image:
    """Resample an image onto the grid of another one.

    Parameters
    ----------
    moving : Image
        Image to read from.
    like : Image
        Image whose grid (shape and `mm_from_ijk`) the result takes. Its
        intensities are not used.
    moving_from_fixed : (4, 4) array_like
        Where to look: maps a point of `like` (RAS+ mm) to the point of
        `moving` (RAS+ mm) that shows the same anatomy. Any invertible affine.
    interpolation : {"linear", "nearest", "cubic"}, optional
        "nearest" takes the closest voxel (use it for labels), "linear" is
        trilinear, "cubic" is the interpolating cubic B-spline [1]_, sharper but
        able to overshoot.
    fill : float, optional
        Value of the voxels without an answer (default: NaN).
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
        If `moving_from_fixed` is not a finite affine of shape (4, 4), or
        `interpolation` is not one of the three.

    See Also
    --------
    mireg.register.register : Find `moving_from_fixed`.

    Notes
    -----
    The result is read at the voxel centres of `like`: where `like` is much
    coarser than `moving`, smooth `moving` first, or fine detail aliases.
    Positions within a millionth of a voxel of a voxel centre count as on it.

    References
    ----------
    .. [1] Unser, "Splines: a perfect fit for signal and image processing",
       IEEE Signal Processing Magazine 1999.

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
    if interpolation not in _LOOPS:
        raise InputError(
            f"interpolation is {interpolation!r}; "
            f"choose one of {', '.join(INTERPOLATIONS)}"
        )
    affine = np.array(moving_from_fixed, dtype=np.float64)
    if affine.shape != (4, 4) or not np.isfinite(affine).all():
        raise InputError("moving_from_fixed must be a finite matrix of shape (4, 4)")
    if not np.allclose(affine[3], [0, 0, 0, 1], rtol=0, atol=1e-9):
        raise InputError(f"the last row of moving_from_fixed is {affine[3]}")
    moving_ijk_from_fixed_ijk = (
        np.linalg.inv(moving.mm_from_ijk) @ affine @ like.mm_from_ijk
    )
    data = moving.data
    if interpolation == "cubic":
        data = _spline_coefficients(data)
    out = _on_grid(data, like, moving_ijk_from_fixed_ijk, interpolation, threads)
    if interpolation == "cubic" and np.isnan(moving.data.min()):
        # The spline itself reaches everywhere: no data is where linear has none.
        seen = _on_grid(moving.data, like, moving_ijk_from_fixed_ijk, "linear", threads)
        out[np.isnan(seen)] = np.nan
    if not np.isnan(fill):
        out[np.isnan(out)] = fill
    return Image(out, like.mm_from_ijk)


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
    d = image.data
    low = float(d.min())
    if np.isnan(low):
        return np.nan
    if low >= 0:
        return 0.0
    faces = (d[0], d[-1], d[:, 0], d[:, -1], d[:, :, 0], d[:, :, -1])
    border = float(np.median(np.concatenate([face.ravel() for face in faces])))
    return border if border < 0.05 * low else 0.0


def _on_grid(
    data: Volume,
    like: Image,
    moving_ijk_from_fixed_ijk: npt.NDArray[np.float64],
    interpolation: str,
    threads: int | None,
) -> Volume:
    """Run one of the loops over the grid of `like`, slab by slab."""
    if not (data.flags.c_contiguous or data.flags.f_contiguous):
        data = np.ascontiguousarray(data)
    memory = data.ravel(order="K")
    shape = np.array(data.shape)
    strides = np.array(data.strides) // data.itemsize
    # The loop writes in memory order, last axis slowest, as NIfTI files do.
    out = np.empty(like.shape[::-1], np.float32)
    loop = partial(
        _LOOPS[interpolation], memory, shape, strides, moving_ijk_from_fixed_ijk
    )
    edges = np.unique(np.linspace(0, len(out), _SLABS + 1).astype(int))
    slabs = list(pairwise(edges))
    shared(
        lambda slab: loop(slab[0], out[slab[0] : slab[1]]),
        slabs,
        threads or available(),
    )
    return out.T


def _spline_coefficients(data: Volume) -> Volume:
    """Coefficients of the cubic B-spline through `data`, mirrored at its ends."""
    missing = np.isnan(data)
    if missing.all():
        return data
    if missing.any():
        # Their nearest neighbours stand in for missing voxels: the least ringing.
        nearest = ndimage.distance_transform_edt(
            missing, return_distances=False, return_indices=True
        )
        data = data[tuple(nearest)]
    return ndimage.spline_filter(data, order=3, output=np.float32, mode="mirror")
