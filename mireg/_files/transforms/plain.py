"""The matrix itself, moving_from_fixed in RAS+ mm: four rows of text, or .npy."""

from __future__ import annotations

import io
from typing import BinaryIO

import numpy as np

from ..._errors import InputError
from .common import (
    FloatArray,
    Images,
    content,
    number_rows,
    row_lengths,
    rows_text,
    text,
)


def read_rows(file: BinaryIO, _images: Images) -> FloatArray:
    """Read four rows of four numbers, or all in one row."""
    rows = number_rows(text(file))
    lengths = row_lengths(rows)
    if lengths not in ([4, 4, 4, 4], [16]):
        what = f"{len(rows)} rows of numbers"
        if len(rows) == 4:
            what = f"rows of {', '.join(map(str, lengths))} numbers"
        raise InputError(
            f"holds {what}, not the four rows of four of a matrix; write it again, "
            "with points before decimals"
        )
    return np.reshape(rows, (4, 4))


def write_rows(moving_from_fixed: FloatArray, _images: Images) -> bytes:
    """Write four rows of four numbers."""
    return rows_text(moving_from_fixed).encode()


def read_npy(file: BinaryIO, _images: Images) -> FloatArray:
    """Read a (4, 4) array of real numbers; never a pickle."""
    try:
        array = np.load(io.BytesIO(content(file)), allow_pickle=False)
    except Exception as error:  # a damaged header fails in many ways
        raise InputError(
            "not an .npy file of numbers, or damaged; save it again"
        ) from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
        raise InputError("does not hold real numbers; save a (4, 4) array of them")
    if array.shape != (4, 4):
        raise InputError(
            f"holds an array of shape {array.shape}; save one of shape (4, 4)"
        )
    return array.astype(np.float64)


def write_npy(moving_from_fixed: FloatArray, _images: Images) -> bytes:
    """Write a (4, 4) array of float64."""
    stream = io.BytesIO()
    np.save(stream, moving_from_fixed, allow_pickle=False)
    return stream.getvalue()
