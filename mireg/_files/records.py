"""Records as JSON, for machines that people look over the shoulder of."""

from __future__ import annotations

import json
import math
from typing import Any


def to_json(record: dict[str, Any]) -> str:
    """Write a record as JSON; each row of a matrix on one line."""
    lines = json.dumps(record, indent=2, allow_nan=False, ensure_ascii=False)
    pieces = lines.split("[")
    for i, piece in enumerate(pieces[1:], 1):
        inside, bracket, after = piece.partition("]")
        if bracket and '"' not in inside:  # a list of numbers only
            pieces[i] = " ".join(inside.split()) + bracket + after
    return "[".join(pieces) + "\n"


def json_number(value: float) -> float | None:
    """Give a number to JSON, which has no NaN and no infinity."""
    return float(value) if math.isfinite(value) else None
