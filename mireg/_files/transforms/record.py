"""A record of mireg (.json): moving_from_fixed in RAS+ mm, and what else is known.

`mireg register` writes one, and `mireg phantom` another, truth.json. Whatever else it
holds is not looked at.
"""

from __future__ import annotations

import json
from typing import BinaryIO

from ..._errors import InputError
from ..records import to_json
from .common import FloatArray, Images, checked, text

#: Layout of a record that holds nothing but a transform.
SCHEMA = "mireg-transform/1"


def read_json(file: BinaryIO, _images: Images) -> FloatArray:
    """Read the moving_from_fixed of an object, or of a list with one."""
    words = text(file)
    try:
        record = json.loads(words)
    except (ValueError, RecursionError) as error:
        raise InputError("not JSON, or damaged; write it again") from error
    if isinstance(record, list):
        if len(record) != 1:
            raise InputError(
                f"holds a list of {len(record)}, not one transform; give a file with "
                "one object that has moving_from_fixed"
            )
        (record,) = record
    if not isinstance(record, dict) or "moving_from_fixed" not in record:
        raise InputError(
            "holds no moving_from_fixed, so it is not a record of mireg; give the "
            ".json file that mireg register wrote"
        )
    return checked(record["moving_from_fixed"])


def write_json(moving_from_fixed: FloatArray, _images: Images) -> bytes:
    """Write a record with nothing but the transform."""
    record = {"schema": SCHEMA, "moving_from_fixed": moving_from_fixed.tolist()}
    return to_json(record).encode()
