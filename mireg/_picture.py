# scikit-image has no types:
# mypy: disallow-untyped-calls=False
"""Pictures of an image, and of two, one on the other."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import PIL.Image
from skimage.filters import sobel

from ._image import Image
from ._resample import resample
from ._transform import TransformLike

FloatArray = npt.NDArray[np.float64]

#: What runs to the right and up in each plane, as world axes: sagittal, coronal, axial.
_PLANES = ((1, 2), (0, 2), (0, 1))

#: Colour of the moving image's edges.
_ORANGE = np.array([1.0, 0.55, 0.0])


def three_planes(
    fixed: Image,
    moving: Image,
    moving_from_fixed: TransformLike,
    place: npt.ArrayLike | None = None,
    *,
    height: int = 220,
) -> bytes:
    """Draw the edges of the moving image on the fixed one, in three planes.

    Parameters
    ----------
    fixed, moving : Image
        Two scans.
    moving_from_fixed : (4, 4) array_like
        Maps points of `fixed` to points of `moving`, RAS+ mm.
    place : (3,) array_like, optional
        Where the planes meet, RAS+ mm (default: the centre of `fixed`).
    height : int, optional
        Of the picture, in pixels.

    Returns
    -------
    bytes
        A PNG file: the sagittal, coronal and axial plane side by side. What lies to
        the right (in the first, to the front) is on the right; top or front is up.

    Examples
    --------
    >>> ramp = Image(np.arange(1000).reshape(10, 10, 10), np.eye(4))
    >>> three_planes(ramp, ramp, np.eye(4))[1:4]
    b'PNG'
    """
    centre = fixed.centre_mm if place is None else np.asarray(place, float)

    def paint(plane: Image) -> FloatArray:
        still = _grey(resample(fixed, plane, np.eye(4)).data[:, :, 0])
        moved = _grey(resample(moving, plane, moving_from_fixed).data[:, :, 0])
        return _overlay(still, moved)

    return _side_by_side(fixed, centre, height, paint)


def one_image(image: Image, *, height: int = 220) -> bytes:
    """Draw an image as `three_planes` does, but without another one.

    Examples
    --------
    >>> ramp = Image(np.arange(1000).reshape(10, 10, 10), np.eye(4))
    >>> one_image(ramp)[1:4]
    b'PNG'
    """

    def paint(plane: Image) -> FloatArray:
        grey = _grey(resample(image, plane, np.eye(4)).data[:, :, 0])
        return np.repeat(grey[..., None], 3, axis=2)

    return _side_by_side(image, image.centre_mm, height, paint)


def _side_by_side(
    image: Image,
    centre: FloatArray,
    height: int,
    paint: Callable[[Image], FloatArray],
) -> bytes:
    """Paint three planes through the field of view of an image, as a PNG file."""
    low, high = image.corners_mm.min(axis=0), image.corners_mm.max(axis=0)
    step = float((high - low).max()) / height or 1.0
    panels = []
    for axes in _PLANES:
        painted = paint(_plane(low, high, centre, axes, step))
        upright = painted.swapaxes(0, 1)[::-1]
        space = height + 1 - upright.shape[0]
        around = ((space // 2, space - space // 2), (2, 2), (0, 0))
        panels.append(np.pad(upright, around))
    pixels = np.concatenate(panels, axis=1)
    file = io.BytesIO()
    PIL.Image.fromarray((255 * pixels).round().astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


def _plane(
    low: FloatArray,
    high: FloatArray,
    centre: FloatArray,
    axes: tuple[int, int],
    step: float,
) -> Image:
    """Make a grid of one slice through a point, along two axes of the world."""
    mm_from_ijk = np.zeros((4, 4))
    mm_from_ijk[3, 3] = 1
    mm_from_ijk[:3, 3] = centre
    shape = []
    for column, axis in enumerate((*axes, 3 - sum(axes))):
        mm_from_ijk[axis, column] = step
        if column < 2:
            mm_from_ijk[axis, 3] = low[axis]
            shape.append(int((high[axis] - low[axis]) / step) + 1)
    return Image(np.broadcast_to(np.float32(np.nan), (*shape, 1)), mm_from_ijk)


def _grey(values: npt.NDArray[np.float32]) -> FloatArray:
    """Bring intensities to 0 (and where there are none) to 1, but for a few."""
    seen = values[~np.isnan(values)]
    if seen.size == 0:
        return np.zeros(values.shape)
    low, high = np.percentile(seen, [1, 99])
    grey = (np.nan_to_num(values, nan=low) - low) / max(high - low, 1e-30)
    return np.clip(grey, 0, 1)


def _overlay(still: FloatArray, moved: FloatArray) -> FloatArray:
    """Colour the edges of one plane on the other."""
    edges = sobel(moved)
    edges = np.clip(edges / max(np.percentile(edges, 98), 1e-6), 0, 1)[..., None]
    return still[..., None] * (1 - edges) + _ORANGE * edges
