"""Records as JSON: what is written comes back, and what is odd is told."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mireg import InputError
from mireg._files.records import SCHEMA, check, read_record, schema, to_json
from mireg._settings import Settings

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
    path = os.fsdecode(b"/data/\xe9 [1  2].nii")
    assert json.loads(to_json({"path": path}).encode()) == {"path": path}


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_json_has_no_such_number(number):
    with pytest.raises(ValueError, match="JSON compliant"):
        to_json({"row": [1.0, number]})


# --- the schema ---------------------------------------------------------------


def row(n: int, value: Any = 0.5) -> list[Any]:
    return [value] * n


IMAGE = {
    "path": "a.nii",
    "absolute_path": "/data/a.nii",
    "shape": [3, 4, 5],
    "voxel_size_mm": row(3),
    "volume": None,
    "sha256": "0" * 64,
    "contrast": {
        **dict.fromkeys(
            schema()["$defs"]["image"]["properties"]["contrast"]["required"], 0.5
        ),
        "foreground_histogram": row(4),
        "whole_histogram": row(4),
    },
}

#: The record of a registration, made up by hand.
RECORD: dict[str, Any] = {
    "schema": SCHEMA,
    "moving_from_fixed": row(4, row(4)),
    "rotation_vector_rad": row(3),
    "translation_mm": row(3),
    "centre_mm": row(3),
    "rotation_deg": 12.5,
    "metric": "nmi",
    "score": 1.2,
    "initial_score": None,
    "overlap_fraction": 1,
    "runner_up": 0.5,
    "standard_error_mm": 0.1,
    "covariance": row(6, row(6)),
    "converged": True,
    "doubtful": False,
    "verdict": {
        "probability": 0.99,
        "tolerance_mm": 2.0,
        "error_mm": 0.2,
        "error_bound_mm": None,
        "same_anatomy": 1,
        "mirrored": 0,
        "handedness": "as stored",
        "reasons": ["noise"],
        "signals": {"overlap": 1, "runner_up": None},
    },
    "residuals": {
        **dict.fromkeys(schema()["properties"]["residuals"]["required"], 0.5),
        "rigid_mm": None,
        "centres_mm": row(1, row(3)),
        "shifts_mm": row(1, row(3, None)),
        **dict.fromkeys(
            ("standard_errors_mm", "gains", "information", "weights"), row(1)
        ),
    },
    "mean_displacement_mm": 1.5,
    "max_displacement_mm": 2,
    "seconds": {"register": 2.5, "register_stages": {"search": 2.5}},
    "fixed": IMAGE,
    "moving": {**IMAGE, "volume": "mean"},
    "settings": {
        "metric": "nmi",
        **dict.fromkeys(("bins", "samples", "orientations", "candidates", "seed"), 7),
        "prior_strength": 1.0,
        "threads": None,
        "tolerance_mm": None,
        "effort": "normal",
        "time_limit": None,
    },
    "mireg_version": "0.1.0",
    "warnings": ["odd"],
}


def places(value: Any, where: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Say where everything in a record is: keys and numbers that lead there."""
    pairs: Any = ()
    if isinstance(value, dict):
        pairs = value.items()
    elif isinstance(value, list):
        pairs = enumerate(value[:1])
    for key, item in pairs:
        yield (*where, key)
        yield from places(item, (*where, key))


def changed(where: tuple[Any, ...], value: Any = None, *, gone: bool = False) -> Any:
    """Return the record with something else in one place, or nothing."""
    record = json.loads(json.dumps(RECORD))
    inside = record
    for key in where[:-1]:
        inside = inside[key]
    if gone:
        del inside[where[-1]]
    else:
        inside[where[-1]] = value
    return record


VALIDATOR = jsonschema.Draft202012Validator(schema())
SOMETHING = (
    None,
    True,
    3,
    -2,
    0.25,
    -1e9 / 3,
    "",
    "mean",
    "x\n",
    [],
    [0.5] * 3,
    {},
    [[1]],
)


def test_the_schema_is_one():
    jsonschema.Draft202012Validator.check_schema(schema())
    VALIDATOR.validate(RECORD)
    check(RECORD, schema())


def test_every_field_is_described():
    def described(rule: dict[str, Any], name: str) -> None:
        assert rule.get("description", "").endswith("."), name
        if rule.get("type") == "object" and "properties" in rule:
            assert rule["additionalProperties"] is False, name
        for key, inner in rule.get("properties", {}).items():
            described(inner, f"{name}/{key}")

    described(schema(), "")
    for name, rule in schema()["$defs"].items():
        described(rule, name)


def test_the_settings_of_the_schema_are_those_of_mireg():
    rule = schema()["properties"]["settings"]
    names = [field.name for field in fields(Settings)]
    assert sorted(rule["properties"]) == sorted(rule["required"]) == sorted(names)


def test_it_refuses_what_another_validator_refuses():
    """Put everything wrong into every place, in turn."""
    refused = kept = 0
    for where in places(RECORD):
        tries = [changed(where, value) for value in SOMETHING]
        tries.append(changed(where, gone=True))
        if isinstance(where[-1], str):
            tries.append(changed((*where[:-1], "strange"), 1))
        for record in tries:
            try:
                check(record, schema())
                ours = True
            except InputError:
                ours = False
            assert ours == VALIDATOR.is_valid(record), where
            kept, refused = kept + ours, refused + (not ours)
    assert refused > 500
    assert kept > 50


def test_numbers_that_are_none():
    for number in (math.nan, math.inf, 10**400):
        with pytest.raises(InputError, match="score: is not a finite number"):
            check(changed(("score",), number), schema())


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "not the record of a registration"),
        (b"{", "not the record"),
        (b"[1, 2]", "not the record"),
        (b"[" * 100_000, "not the record"),
        (b"\xff\xfe\xfa", "not the record"),
        (b'{"schema": 1}', "not the record"),
        (b'{"moving_from_fixed": []}', "not the record"),
        (b" " * 2**22 + b"{}", "not the record"),
        (b'{"schema": "mireg-registration/1"}', "its schema is 'mireg-registration/1'"),
        (b'{"schema": "mireg-registration/2"}', "has no 'moving_from_fixed'"),
        (json.dumps(changed(("score",), "x")), "score: is a string, not a number"),
        (json.dumps(changed(("score",), math.nan)), "score: is not a finite number"),
        (json.dumps(changed(("new",), 1)), "has 'new', which mireg-registration/2"),
        (
            json.dumps(changed(("seconds", "register_stages", "a\nb"), "c")),
            r"seconds/register_stages/a\nb: is a string, not a number",
        ),
    ],
)
def test_what_is_no_record_is_told_in_one_line(content, says, tmp_path):
    path = tmp_path / "x.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError) as caught:
        read_record(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert says in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_files_that_cannot_be_read(tmp_path):
    for path, says in ((tmp_path / "gone.json", "no such file"), (tmp_path, "cannot")):
        with pytest.raises(InputError, match=says):
            read_record(path)
