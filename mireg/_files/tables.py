"""Tables as CSV, to be opened with a spreadsheet that runs nothing of them."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from .._errors import printable

#: What makes a spreadsheet take a text for a formula (OWASP, "CSV Injection").
_FORMULAS = ("=", "+", "-", "@", "\t", "\r")


def to_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Write rows, of the same columns each, under a line with their names.

    A text that a spreadsheet would take for a formula has an apostrophe before it.

    Examples
    --------
    >>> print(to_csv([{"image": "t1.nii", "bits": -0.5}, {"image": "=1+1", "bits": 2}]))
    image,bits
    t1.nii,-0.5
    '=1+1,2
    <BLANKLINE>
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(
        {name: _cell(value) for name, value in row.items()} for row in rows
    )
    return text.getvalue()


def _cell(value: Any) -> Any:
    """Make a text harmless; numbers are."""
    if not isinstance(value, str):
        return value
    return "'" * value.startswith(_FORMULAS) + printable(value)
