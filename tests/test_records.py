"""Records as JSON: what is written comes back, and what is odd is told."""

from __future__ import annotations

import json
import math
import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mireg._files.records import to_json

NUMBERS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False)
#: Brackets, quotes and runs of blanks, which a writer may take for its own.
TRICKY = st.text(alphabet='[]{}", \n\t\\:aé\u2028', max_size=12) | st.text()
JSON = st.recursive(
    NUMBERS.filter(lambda x: x is None or math.isfinite(x)) | TRICKY,
    lambda inner: st.lists(inner) | st.dictionaries(TRICKY, inner),
    max_leaves=12,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(TRICKY, JSON))
def test_what_is_written_comes_back(record):
    text = to_json(record)
    assert json.loads(text) == record
    assert json.loads(text.encode()) == record


def test_a_row_of_a_matrix_is_one_line():
    record = {"matrix": [[1.5, 0, None], [0, -1e-9, 2]], "names": ["a  [b", "c"]}
    assert to_json({**record, "none": [], "empty": {}}).splitlines() == [
        "{",
        '  "matrix": [',
        "    [1.5, 0, null],",
        "    [0, -1e-09, 2]",
        "  ],",
        '  "names": [',
        '    "a  [b",',
        '    "c"',
        "  ],",
        '  "none": [],',
        '  "empty": {}',
        "}",
    ]


def test_a_path_that_is_no_text_comes_back():
    path = os.fsdecode(b"/data/caf\xe9 [1  2].nii")
    assert json.loads(to_json({"path": path}).encode()) == {"path": path}


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_json_has_no_such_number(number):
    with pytest.raises(ValueError, match="JSON compliant"):
        to_json({"row": [1.0, number]})
