"""The images of a page: small grey volumes on one grid, packed into pictures."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image

from .._image import Image
from .._prepare import PreparedImage
from .._resample import resample
from .document import data_url

FloatArray = npt.NDArray[np.float64]
Bytes = npt.NDArray[np.uint8]

#: Grey levels: 0 is no data, 1 to 255 are intensities.
_FIRST, _LAST = 1, 255

#: How far beyond the intensities of the anatomy grey levels reach below and above, as
#: a share of their range: room to move the window.
_ROOM = (0.1, 0.5)

#: Qualities of JPEG, best first.
_QUALITIES = (92, 85, 75, 60)

#: Voxels of one volume for each byte that all pictures may take. Heads at a quality of
#: 75 take about 0.1 bytes a voxel, and there are three.
_VOXELS_PER_BYTE = 2.0


@dataclass(frozen=True, eq=False)
class DisplayGrid:
    """Cubes along the axes of the world, over the field of view of the fixed image.

    Attributes
    ----------
    shape : tuple of int
        Cubes to the right, to the front and up.
    origin_mm : (3,) ndarray
        Centre of the first one, RAS+ mm.
    step_mm : float
        Their side.
    """

    shape: tuple[int, int, int]
    origin_mm: FloatArray
    step_mm: float

    @classmethod
    def over(cls, fixed: Image, most_voxels: float) -> DisplayGrid:
        """Lay cubes over an image: as fine as its finest side, or as many as allowed.

        Examples
        --------
        >>> thick = Image(np.zeros((10, 10, 4)), np.diag([2, 2, 5, 1]))
        >>> DisplayGrid.over(thick, 1e6).shape
        (10, 10, 10)
        >>> DisplayGrid.over(thick, 200).shape
        (5, 5, 5)
        """
        unit = np.indices((2, 2, 2)).reshape(3, 8).T
        corners = fixed.to_mm(unit * np.array(fixed.shape) - 0.5)
        low, high = corners.min(axis=0), corners.max(axis=0)
        size = high - low
        step = max(
            float(fixed.voxel_size_mm.min()),
            float(np.prod(size) / most_voxels) ** (1 / 3),
        )
        # No axis so thin that its volume says too little of the others.
        while np.prod(counts := np.maximum(np.rint(size / step), 1)) > most_voxels:
            step *= 1.02
        nx, ny, nz = counts.astype(int).tolist()
        first = (low + high) / 2 - (counts - 1) / 2 * step
        return cls((nx, ny, nz), first, step)

    @property
    def image(self) -> Image:
        """An empty image on this grid."""
        mm_from_ijk = np.diag([self.step_mm] * 3 + [1.0])
        mm_from_ijk[:3, 3] = self.origin_mm
        return Image(np.broadcast_to(np.float32(np.nan), self.shape), mm_from_ijk)


def on_one_grid(
    images: Mapping[str, tuple[PreparedImage, FloatArray]],
    over: Image,
    most_bytes: int,
    threads: int,
) -> dict[str, Any]:
    """Pack images on one grid of cubes, for the viewer of a page.

    Parameters
    ----------
    images : mapping of str to (PreparedImage, (4, 4) array)
        By name, with the map from points of the page to points of the image, RAS+ mm.
    over : Image
        Whose field of view the grid covers.
    most_bytes : int
        What all may take.
    threads : int
        Threads to use.
    """
    most = 3 / len(images) * most_voxels(most_bytes)  # which is for three
    how = None
    while how is None:  # of pure noise too much is left
        grid = DisplayGrid.over(over, most)
        grey = [shown(one, grid, pose, threads) for one, pose in images.values()]
        addresses, how = packed(grey, most_bytes)
        most /= 2
    return {
        "shape": list(grid.shape),
        "origin_mm": grid.origin_mm.tolist(),
        "step_mm": grid.step_mm,
        "columns": columns(grid.shape),
        "tile": [tile(n) for n in grid.shape[:2]],
        "packing": how,
        "sheets": dict(zip(images, addresses, strict=True)),
        # Where each image has voxels: rows of matrices from RAS+ mm of the page.
        "voxels": {
            name: {
                "ijk_from_mm": (np.linalg.inv(one.image.mm_from_ijk) @ pose).tolist(),
                "shape": list(one.image.shape),
            }
            for name, (one, pose) in images.items()
        },
    }


def shown(
    prepared: PreparedImage,
    grid: DisplayGrid,
    image_from_grid: FloatArray,
    threads: int,
) -> Bytes:
    """Bring an image onto a grid, as grey levels (nx, ny, nz); 0 is no data."""
    # Means of blocks, then linear: as good to look at as exact smoothing, and quick.
    small = prepared.shrunk(grid.step_mm, threads)
    values = resample(
        small, grid.image, image_from_grid, antialias=False, threads=threads
    ).data
    low, high = limits(prepared)
    grey = (values - np.float32(low)) * np.float32((_LAST - _FIRST) / (high - low))
    grey = np.clip(np.rint(grey) + _FIRST, _FIRST, _LAST)
    return np.nan_to_num(grey, nan=0.0).astype(np.uint8)


def limits(prepared: PreparedImage) -> tuple[float, float]:
    """Intensities that the first and the last grey level stand for."""
    scale = prepared.scale
    low, high = scale.ends
    room = high - low
    below = max(scale.low, low - _ROOM[0] * room)
    above = min(scale.high, high + _ROOM[1] * room)
    return below, above if above > below else below + 1.0


def levels_of(prepared: PreparedImage) -> dict[str, Any]:
    """Say what the grey levels of an image are: intensities, window, background."""
    low, high = limits(prepared)
    to_level = (_LAST - _FIRST) / (high - low)
    first, last = ((end - low) * to_level + _FIRST for end in prepared.scale.ends)
    return {
        "low": low,
        "high": high,
        "window": [round(first, 1), round(max(last, first + 1), 1)],
        "background": round((prepared.scale.background - low) * to_level + _FIRST, 1),
        "threshold": round(prepared.scale.threshold * to_level, 1),
    }


def packed(volumes: list[Bytes], most_bytes: int) -> tuple[list[str], str | None]:
    """Pack volumes of one shape into pictures: addresses, and how they are packed.

    Without loss where that is sure to fit, else as JPEG of the best quality that does;
    how is None if none does.
    """
    sheets = [sheet(volume) for volume in volumes]
    if sum(one.size for one in sheets) * 4 / 3 <= most_bytes:
        return [_address("PNG", one) for one in sheets], "PNG, without loss"
    for quality in _QUALITIES:
        made = [_address("JPEG", one, quality=quality) for one in sheets]
        if sum(map(len, made)) <= most_bytes:
            return made, f"JPEG, quality {quality}"
    return made, None


def sheet(volume: Bytes) -> Bytes:
    """Lay the slices of a volume (nx, ny, nz) side by side, in rows.

    A slice takes `tile` places along each side, more than its own: JPEG works on
    blocks of 8, and no block may hold parts of two slices.
    """
    nx, ny, nz = volume.shape
    wide, high = tile(nx), tile(ny)
    across = columns(volume.shape)
    down = -(-nz // across)
    filled = np.pad(volume, ((0, wide - nx), (0, high - ny), (0, 0)), mode="edge")
    out = np.zeros((across * down, high, wide), np.uint8)
    out[:nz] = filled.transpose(2, 1, 0)
    rows = out.reshape(down, across, high, wide).swapaxes(1, 2)
    return rows.reshape(down * high, across * wide)


def tile(n: int) -> int:
    """Places for n voxels along the side of a slice."""
    return -(-n // 8) * 8


def columns(shape: tuple[int, ...]) -> int:
    """Slices in a row of a sheet, which is about square: browsers limit its sides."""
    nx, ny, nz = shape
    return max(1, min(nz, round(math.sqrt(nz * tile(ny) / tile(nx)))))


def most_voxels(most_bytes: int) -> float:
    """How many voxels a volume may have, if all pictures take so many bytes."""
    return _VOXELS_PER_BYTE * most_bytes


def _address(kind: str, pixels: Bytes, **options: Any) -> str:
    """Pack one picture."""
    file = io.BytesIO()
    PIL.Image.fromarray(pixels).save(file, kind, optimize=kind == "JPEG", **options)
    return data_url(f"image/{kind.lower()}", file.getvalue())
