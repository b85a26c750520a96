# scikit-image has no types:
# mypy: disallow-untyped-calls=False
"""Planes cut through images, and the small pictures that a notebook shows."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont
from skimage.filters import sobel

from ._image import Image
from ._resample import resample
from ._transform import TransformLike

FloatArray = npt.NDArray[np.float64]
Pixels = npt.NDArray[np.float32]

#: What runs to the right and up in each plane, as world axes.
PLANES = {"sagittal": (1, 2), "coronal": (0, 2), "axial": (0, 1)}

#: What the ends of each axis of the world are called.
LETTERS = (("L", "R"), ("P", "A"), ("I", "S"))

#: Colour of the moving image's edges.
_ORANGE = np.array([1.0, 0.55, 0.0])

#: Colour of letters; how far they are from the border, and how wide a plane with
#: letters is at least, in pixels.
_YELLOW, _INSET, _LEAST_WIDTH = (255, 225, 77), 3, 70


@dataclass(frozen=True, eq=False)
class Plane:
    """One plane along two axes of the world, and what images show there.

    Attributes
    ----------
    name : str
        Of `PLANES`.
    position_mm : float
        Where it is along the third axis, RAS+ mm.
    low_mm : (2,) ndarray
        Centre of the first pixel along the two axes, RAS+ mm.
    step_mm : float
        Side of a pixel.
    pixels : tuple of (n_across, n_up) ndarray
        Intensities of each image; NaN where it has none.
    """

    name: str
    position_mm: float
    low_mm: FloatArray
    step_mm: float
    pixels: tuple[Pixels, ...]

    @property
    def axis(self) -> int:
        """The axis of the world that it is cut across."""
        return 3 - sum(PLANES[self.name])

    @property
    def extent_mm(self) -> tuple[float, float, float, float]:
        """Its edges: left, right, bottom and top, as matplotlib takes them."""
        first = self.low_mm - self.step_mm / 2
        last = first + self.step_mm * np.array(self.pixels[0].shape)
        return first[0], last[0], first[1], last[1]


def planes(
    images: Sequence[tuple[Image, TransformLike]],
    low_mm: npt.ArrayLike,
    high_mm: npt.ArrayLike,
    positions_mm: npt.ArrayLike,
    step_mm: float,
) -> list[Plane]:
    """Cut planes through images, all in the world of one of them.

    Parameters
    ----------
    images : sequence of (Image, transform)
        Each with what maps a point of the world in which is cut to the point of that
        image that shows the same anatomy, RAS+ mm: the identity for the fixed one,
        moving_from_fixed for the moving one.
    low_mm, high_mm : (3,) array_like
        The box to cut through.
    positions_mm : (3, n) array_like
        Where to cut across each axis of the world.
    step_mm : float
        Side of a pixel.

    Returns
    -------
    list of Plane
        n sagittal ones, then n coronal, then n axial.

    Examples
    --------
    >>> ramp = Image(np.arange(1000).reshape(10, 10, 10), np.eye(4))
    >>> _, _, axial = planes([(ramp, np.eye(4))], [0] * 3, [9] * 3, [[4]] * 3, 1)
    >>> axial.name, axial.pixels[0][2, 3]
    ('axial', np.float32(234.0))
    """
    low, high = np.asarray(low_mm, float), np.asarray(high_mm, float)
    found = []
    for name, axes in PLANES.items():
        across = 3 - sum(axes)
        for position in np.asarray(positions_mm, float)[across]:
            centre = low.copy()
            centre[across] = position
            grid = _plane(low, high, centre, axes, step_mm)
            pixels = tuple(
                resample(image, grid, image_from_world).data[:, :, 0]
                for image, image_from_world in images
            )
            found.append(Plane(name, float(position), low[list(axes)], step_mm, pixels))
    return found


def three_planes(
    fixed: Image,
    moving: Image,
    moving_from_fixed: TransformLike,
    place: npt.ArrayLike | None = None,
    *,
    height: int = 220,
    letters: bool = True,
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
    letters : bool, optional
        Whether to say where each plane lies, and which way.

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
    images = [(fixed, np.eye(4)), (moving, moving_from_fixed)]
    return _side_by_side(
        images, centre, height, lambda both: _overlay(*both), letters=letters
    )


def small_picture(
    fixed: Image,
    moving: Image,
    moving_from_fixed: TransformLike,
    place: npt.ArrayLike | None = None,
) -> bytes:
    """Draw what `three_planes` does, small: a JPEG file of a few kB."""
    whole = three_planes(
        fixed, moving, moving_from_fixed, place, height=110, letters=False
    )
    file = io.BytesIO()
    with PIL.Image.open(io.BytesIO(whole)) as picture:
        picture.convert("RGB").save(file, "JPEG", quality=60, optimize=True)
    return file.getvalue()


def one_image(image: Image, *, height: int = 220) -> bytes:
    """Draw an image as `three_planes` does, but without another one.

    Examples
    --------
    >>> ramp = Image(np.arange(1000).reshape(10, 10, 10), np.eye(4))
    >>> one_image(ramp)[1:4]
    b'PNG'
    """
    images = [(image, np.eye(4))]
    return _side_by_side(
        images, image.centre_mm, height, lambda one: one[0][..., None].repeat(3, axis=2)
    )


def _side_by_side(
    images: Sequence[tuple[Image, TransformLike]],
    centre: FloatArray,
    height: int,
    paint: Callable[[list[FloatArray]], FloatArray],
    *,
    letters: bool = True,
) -> bytes:
    """Paint three planes through the field of view of the first image, as a PNG."""
    corners = images[0][0].corners_mm
    low, high = corners.min(axis=0), corners.max(axis=0)
    step = float((high - low).max()) / height or 1.0
    panels: list[FloatArray] = []
    boxes = []
    for plane in planes(images, low, high, centre[:, None], step):
        painted = paint([grey(pixels, *limits(pixels)) for pixels in plane.pixels])
        upright = painted.swapaxes(0, 1)[::-1]
        space = height + 1 - upright.shape[0]
        # Beside a thin slab there is room for what is written.
        beside = max(2, (_LEAST_WIDTH - upright.shape[1]) // 2) if letters else 2
        around = ((space // 2, space - space // 2), (beside, beside), (0, 0))
        left = sum(panel.shape[1] for panel in panels)
        panels.append(np.pad(upright, around))
        boxes.append((plane, left, 0, *panels[-1].shape[1::-1]))
    pixels = np.concatenate(panels, axis=1)
    picture = PIL.Image.fromarray((255 * pixels).round().astype(np.uint8))
    for box in boxes if letters else ():
        _mark(picture, *box)
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def _mark(
    picture: PIL.Image.Image, plane: Plane, left: int, top: int, wide: int, high: int
) -> None:
    """Write at the borders of a plane which way it lies, and in a corner where."""
    (first, last), (down, up) = (LETTERS[axis] for axis in PLANES[plane.name])
    for letter, x, y in ((first, 0, 0.5), (last, 1, 0.5), (up, 0.5, 0), (down, 0.5, 1)):
        _write(picture, letter, (left, top, wide, high), (x, y), larger=2)
    side = LETTERS[plane.axis][plane.position_mm >= 0]
    words = f"{side} {abs(plane.position_mm):.0f} mm"
    _write(picture, words, (left, top, wide, high), (0, 1), larger=1)


def _write(
    picture: PIL.Image.Image,
    words: str,
    box: tuple[int, int, int, int],
    share: tuple[float, float],
    *,
    larger: int,
) -> None:
    """Write on a dark ground, at a share of the way across a box and down it."""
    # Courier, small and bold: its I has serifs, and it needs no library for fonts.
    font = PIL.ImageFont.load_default_imagefont()
    mask = PIL.Image.new("L", font.getbbox(words)[2:])
    PIL.ImageDraw.Draw(mask).text((0, 0), words, 255, font)
    mask = mask.crop(mask.getbbox())
    mask = mask.resize((larger * mask.width, larger * mask.height), 0)
    ground = PIL.Image.new("L", (mask.width + 4, mask.height + 4), 170)
    left, top, wide, high = box
    x = left + _INSET + share[0] * (wide - 2 * _INSET - ground.width)
    y = top + _INSET + share[1] * (high - 2 * _INSET - ground.height)
    at = round(x), round(y)
    picture.paste((0, 0, 0), at, ground)
    picture.paste(_YELLOW, (at[0] + 2, at[1] + 2), mask)


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


def limits(values: Pixels) -> tuple[float, float]:
    """Choose what is black and what is white, but for a few; NaN does not count."""
    seen = values[~np.isnan(values)]
    if seen.size == 0:
        return 0.0, 1.0
    low, high = np.percentile(seen, [1, 99])
    return float(low), float(high)


def grey(values: Pixels, low: float, high: float) -> FloatArray:
    """Bring intensities to 0 (and where there are none) to 1."""
    levels = (np.nan_to_num(values, nan=low) - low) / max(high - low, 1e-30)
    return np.clip(levels, 0, 1).astype(np.float64)


def _overlay(still: FloatArray, moved: FloatArray) -> FloatArray:
    """Colour the edges of one plane on the other."""
    edges = sobel(moved)
    edges = np.clip(edges / max(np.percentile(edges, 98), 1e-6), 0, 1)[..., None]
    return still[..., None] * (1 - edges) + _ORANGE * edges
