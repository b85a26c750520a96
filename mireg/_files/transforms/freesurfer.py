"""FreeSurfer's transforms (.lta, text).

The matrix takes points of ``src`` to points of ``dst``. To bring moving onto fixed as
mri_vol2vol and bbregister do, src is moving and dst is fixed. It is in RAS+ mm (type 1)
or in voxel indices of both (type 0); of each image the file keeps the geometry, whose
``cras`` is where index shape / 2 lies.

nitransforms agrees on the matrix, but reads it as float32 (1e-5 mm at 200 mm), and
writes fixed as src and moving as dst, the other way round than FreeSurfer's programs.
"""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import BinaryIO

import numpy as np

from ..._errors import InputError
from .common import FloatArray, Grid, Images, checked, text

_KINDS = {0: "vox2vox", 1: "ras2ras"}


def read_lta(file: BinaryIO, images: Images) -> FloatArray:
    """Read one transform of type 0 or 1."""
    lines = [line.split("#")[0].strip() for line in text(file).splitlines()]
    lines = [line for line in lines if line]
    kind, count = _numbers(lines, "type", 1), _numbers(lines, "nxforms", 1)
    if count != [1]:
        raise InputError(f"holds {count[0]:g} transforms; give a file with one")
    if kind[0] not in _KINDS:
        raise InputError(
            f"an LTA of type {kind[0]:g}; convert it to type 1 (ras2ras) with "
            "FreeSurfer's lta_convert"
        )
    dst_from_src = checked(_matrix(lines))
    if kind == [0]:
        dst, src = _geometry(lines, "dst"), _geometry(lines, "src")
        if dst is None or src is None:
            fixed, moving = images.grids("an LTA in voxels without valid geometries")
            dst, src = fixed.mm_from_ijk, moving.mm_from_ijk
        dst_from_src = dst @ dst_from_src @ np.linalg.inv(src)
    return checked(np.linalg.inv(dst_from_src))


def write_lta(moving_from_fixed: FloatArray, images: Images) -> bytes:
    """Write a transform of type 1 (ras2ras) with the geometry of both images."""
    fixed, moving = images.grids("an LTA")
    rows = np.linalg.inv(moving_from_fixed)
    return "\n".join(
        [
            "# transform from moving (src) to fixed (dst), written by mireg",
            "type      = 1 # LINEAR_RAS_TO_RAS",
            "nxforms   = 1",
            "mean      = 0.0000 0.0000 0.0000",
            "sigma     = 1.0000",
            "1 4 4",
            *(_digits(row) for row in rows),
            *_volume_info("src", moving),
            *_volume_info("dst", fixed),
            "",
        ]
    ).encode()


def _digits(numbers: FloatArray) -> str:
    return " ".join(f"{x + 0.0:.16e}" for x in numbers)


def _volume_info(title: str, grid: Grid) -> list[str]:
    """Describe the geometry of an image as FreeSurfer does."""
    columns = grid.mm_from_ijk[:3, :3] / grid.column_mm
    middle = grid.mm_from_ijk @ [*np.array(grid.shape) / 2, 1]
    # The name is for people; it must stay on its line.
    name = " ".join(PurePath(grid.name).name.split()) or "unknown"
    return [
        f"{title} volume info",
        "valid = 1  # volume info valid",
        f"filename = {name}",
        f"volume = {' '.join(str(n) for n in grid.shape)}",
        f"voxelsize = {_digits(grid.column_mm)}",
        *(f"{axis}ras   = {_digits(columns[:, i])}" for i, axis in enumerate("xyz")),
        f"cras   = {_digits(middle[:3])}",
    ]


def _numbers(lines: list[str], key: str, count: int) -> list[float]:
    """Read the numbers behind a key, where it stands first."""
    for line in lines:
        found = re.fullmatch(rf"{key}\s*=(.*)", line)
        if found:
            try:
                numbers = [float(word) for word in found[1].split()]
            except ValueError:
                break
            if len(numbers) == count:
                return numbers
            break
    raise InputError(
        f"a damaged LTA, {key} is missing or has not {count} numbers; export it again"
    )


def _matrix(lines: list[str]) -> FloatArray:
    """Read the four rows that follow the line 1 4 4."""
    starts = [i for i, line in enumerate(lines) if line.split() == ["1", "4", "4"]]
    try:
        (start,) = starts
        return np.array([line.split() for line in lines[start + 1 : start + 5]], float)
    except ValueError as error:
        raise InputError(
            "a damaged LTA, its matrix is not 4 x 4; export it again"
        ) from error


def _geometry(lines: list[str], title: str) -> FloatArray | None:
    """Read mm_from_ijk of src or dst, or nothing if it says that it is not valid."""
    heading = f"{title} volume info"
    if heading not in lines:
        return None
    section = lines[lines.index(heading) :]
    if _numbers(section, "valid", 1) != [1]:
        return None
    sizes = _numbers(section, "voxelsize", 3)
    columns = [_numbers(section, f"{axis}ras", 3) for axis in "xyz"]
    mm_from_ijk = np.eye(4)
    mm_from_ijk[:3, :3] = np.transpose(columns) * sizes
    half = np.array(_numbers(section, "volume", 3)) / 2
    mm_from_ijk[:3, 3] = _numbers(section, "cras", 3) - mm_from_ijk[:3, :3] @ half
    return checked(mm_from_ijk)
