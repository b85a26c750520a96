# nibabel has no types:
# mypy: disallow-untyped-calls=False
"""AFNI's matrices, as 3dAllineate writes them (.aff12.1D, .1D).

Twelve numbers, by row, LPS+ mm, from points of fixed (the base) to points of moving
(the source); in one line, or in three as cat_matvec writes them.

AFNI's programs take each image for plumb: where its axes are oblique, they are laid
onto the nearest ones of the world, and the first voxel stays where it is (AFNI's
thd_niftiread.c and thd_coords.c). So a file says where points go only together with
both images.

nitransforms does the same, but writes 6 digits (2e-4 mm at 200 mm); it rounds voxel
sizes to 4 decimals and leaves obliqueness below 0.01 degrees in, which AFNI does not.
"""

from __future__ import annotations

from typing import BinaryIO

import nibabel as nib
import numpy as np
import numpy.typing as npt

from ..._errors import InputError
from .common import (
    LPS_FROM_RAS,
    FloatArray,
    Grid,
    Images,
    checked,
    number_rows,
    row_lengths,
    rows_text,
    text,
)


def read_afni(file: BinaryIO, images: Images) -> FloatArray:
    """Read the twelve numbers of AFNI (or the sixteen of ``cat_matvec -4x4``)."""
    rows = number_rows(text(file))
    lengths = row_lengths(rows)
    if len(rows) > 1 and set(lengths) == {12}:
        raise InputError(
            f"holds {len(rows)} matrices, one for each volume; give a file with one"
        )
    if lengths not in ([12], [4, 4, 4], [4, 4, 4, 4]):
        raise InputError(
            "not the twelve numbers of an AFNI matrix; write it again by 3dAllineate"
        )
    return matrix_from_numbers(np.concatenate(rows), images)


def write_afni(moving_from_fixed: FloatArray, images: Images) -> bytes:
    """Write the twelve numbers of AFNI in one line."""
    heading = "# 3dAllineate matrices (DICOM-to-DICOM, row-by-row):\n"
    numbers = numbers_of_matrix(moving_from_fixed, images)
    return (heading + rows_text(numbers[None])).encode()


def matrix_from_numbers(numbers: npt.ArrayLike, images: Images) -> FloatArray:
    """Turn AFNI's twelve numbers, or sixteen, into moving_from_fixed."""
    matrix = np.eye(4)
    rows = np.reshape(numbers, (-1, 4))
    matrix[: len(rows)] = rows
    ras = LPS_FROM_RAS @ checked(matrix) @ LPS_FROM_RAS
    fixed, moving = images.grids("an AFNI matrix")
    return np.linalg.inv(plumb_from_mm(moving)) @ ras @ plumb_from_mm(fixed)


def numbers_of_matrix(moving_from_fixed: FloatArray, images: Images) -> FloatArray:
    """Turn moving_from_fixed into AFNI's twelve numbers, (12,)."""
    fixed, moving = images.grids("an AFNI matrix")
    ras = plumb_from_mm(moving) @ moving_from_fixed
    ras = ras @ np.linalg.inv(plumb_from_mm(fixed))
    return (LPS_FROM_RAS @ ras @ LPS_FROM_RAS)[:3].reshape(12)


def plumb_from_mm(grid: Grid) -> FloatArray:
    """Map RAS+ mm to where AFNI takes the same voxels to be."""
    real = grid.mm_from_ijk
    sizes = grid.column_mm
    header = grid.header
    if isinstance(header, nib.Nifti1Header) and header["qform_code"] > 0:
        try:
            real = header.get_qform()  # AFNI trusts it more than the sform
        except (ValueError, nib.spatialimages.HeaderDataError) as error:
            raise InputError(
                f"{grid.name or 'the image'}: its qform, which AFNI reads, is not a "
                "rotation; repair it"
            ) from error
        sizes = grid.pixdim_mm
    plumb = np.eye(4)
    plumb[:3, 3] = real[:3, 3]
    plumb[:3, :3] = 0
    for axis, (world, sign) in enumerate(nib.orientations.io_orientation(real)):
        plumb[int(world), axis] = sign * sizes[axis]
    return plumb @ np.linalg.inv(grid.mm_from_ijk)
