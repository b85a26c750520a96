"""The matrix of DICOM's Spatial Registration, as systems of radiotherapy show it.

Frame of Reference Transformation Matrix (3006,00C6): sixteen numbers by row, LPS+ mm,
that take points of the moving frame of reference to points of the fixed one, which is
the registered one. Written are its four rows, under a line that says so.
"""

from __future__ import annotations

from typing import BinaryIO

import numpy as np

from .common import LPS_FROM_RAS, FloatArray, Images, checked, rows_text
from .plain import read_rows

_HEADING = "# DICOM: fixed from moving, LPS+ mm\n"


def read_dicom(file: BinaryIO, images: Images) -> FloatArray:
    """Read four rows of four numbers."""
    fixed_from_moving = checked(read_rows(file, images))
    return LPS_FROM_RAS @ np.linalg.inv(fixed_from_moving) @ LPS_FROM_RAS


def write_dicom(moving_from_fixed: FloatArray, _images: Images) -> bytes:
    """Write four rows of four numbers."""
    lps = LPS_FROM_RAS @ np.linalg.inv(moving_from_fixed) @ LPS_FROM_RAS
    return (_HEADING + rows_text(lps)).encode()
