"""Records as JSON, for machines that people look over the shoulder of."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any


def to_json(record: Mapping[str, Any]) -> str:
    """Write a record as JSON; each row of numbers on one line.

    Examples
    --------
    >>> print(to_json({"rows": [[1, 0], [0, 1]], "path": "a [b  c]"}), end="")
    {
      "rows": [
        [1, 0],
        [0, 1]
      ],
      "path": "a [b  c]"
    }
    """
    return _text(record, "\n") + "\n"


def _text(value: Any, line: str) -> str:
    """Write a value; `line` starts a new line as deep as the value is."""
    inner = line + "  "
    if isinstance(value, Mapping) and value:
        items = (f"{_scalar(key)}: {_text(value[key], inner)}" for key in value)
        return "{" + inner + f",{inner}".join(items) + line + "}"
    if isinstance(value, list | tuple):
        if all(isinstance(item, int | float | None) for item in value):
            return "[" + ", ".join(_scalar(item) for item in value) + "]"
        items = (_text(item, inner) for item in value)
        return "[" + inner + f",{inner}".join(items) + line + "]"
    return _scalar(value)


def _scalar(value: Any) -> str:
    """Write what holds nothing else."""
    text = json.dumps(value, allow_nan=False, ensure_ascii=False)
    # A path of bytes that are no UTF-8 has lone surrogates, which no file can hold.
    unwritable = any("\ud800" <= letter <= "\udfff" for letter in text)
    return json.dumps(value) if unwritable else text


def json_number(value: float) -> float | None:
    """Give a number to JSON, which has no NaN and no infinity."""
    return float(value) if math.isfinite(value) else None
