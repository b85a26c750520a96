"""FSL's matrices, as FLIRT writes them (.mat, text).

FLIRT counts in voxel indices times voxel size, from the first voxel; the first axis
is turned round in an image whose affine has a positive determinant. Its matrix takes
points of moving (``-in``) to points of fixed (``-ref``). The file names no image.

nitransforms agrees, but writes 8 decimals (3e-6 mm at 200 mm), and takes the voxel
size from the affine where FSL takes it from pixdim: they differ in a sheared image.
"""

from __future__ import annotations

from typing import BinaryIO

import numpy as np

from ..._errors import InputError
from .common import (
    FloatArray,
    Grid,
    Images,
    checked,
    number_rows,
    row_lengths,
    rows_text,
    text,
)


def read_fsl(file: BinaryIO, images: Images) -> FloatArray:
    """Read FLIRT's four rows of four numbers."""
    rows = number_rows(text(file))
    if row_lengths(rows) != [4, 4, 4, 4]:
        raise InputError(
            f"holds {len(rows)} rows of numbers, not the four rows of four that FLIRT "
            "writes; write it again"
        )
    fixed, moving = images.grids("an FSL matrix")
    moving_from_fixed = np.linalg.inv(checked(rows)) @ fsl_from_mm(fixed)
    return np.linalg.inv(fsl_from_mm(moving)) @ moving_from_fixed


def write_fsl(moving_from_fixed: FloatArray, images: Images) -> bytes:
    """Write FLIRT's four rows of four numbers."""
    fixed, moving = images.grids("an FSL matrix")
    fixed_from_moving = np.linalg.inv(moving_from_fixed)
    return rows_text(
        fsl_from_mm(fixed) @ fixed_from_moving @ np.linalg.inv(fsl_from_mm(moving))
    ).encode()


def fsl_from_mm(grid: Grid) -> FloatArray:
    """Map RAS+ mm to FSL's own millimetres."""
    fsl_from_ijk = np.diag([*grid.pixdim_mm, 1.0])
    if np.linalg.det(grid.mm_from_ijk) > 0:
        fsl_from_ijk[0, 3] = (grid.shape[0] - 1) * fsl_from_ijk[0, 0]
        fsl_from_ijk[0, 0] *= -1
    return fsl_from_ijk @ np.linalg.inv(grid.mm_from_ijk)
