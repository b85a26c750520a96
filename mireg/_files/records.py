"""Records as JSON, for machines that people look over the shoulder of."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .._errors import InputError, not_read
from .writing import PathLike

#: What a record says that it is: the name and version of its schema.
SCHEMA = "mireg-registration/2"

#: A record of a registration holds about 10 kB.
_MOST_BYTES = 2**22

#: Names of JSON's types in a schema.
_TYPES = {
    dict: "object",
    list: "array",
    str: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
    type(None): "null",
}


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
    # A path may hold what a terminal obeys, or, where its bytes are no UTF-8, lone
    # surrogates, which no file can hold.
    return text if text.isprintable() else json.dumps(value)


def json_number(value: float) -> float | None:
    """Give a number to JSON, which has no NaN and no infinity."""
    return float(value) if math.isfinite(value) else None


def read_record(path: PathLike) -> dict[str, Any]:
    """Read the record of a registration; nothing in the file is executed.

    Raises
    ------
    InputError
        If there is no such file, or it is not as its schema says.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
    except FileNotFoundError as error:
        raise InputError(f"{path}: there is no such file; check the path") from error
    except OSError as error:
        raise InputError(f"{path}: {not_read(error)}") from error
    try:
        record = None if len(content) > _MOST_BYTES else json.loads(content)
    except (ValueError, RecursionError):
        record = None
    named = record.get("schema") if isinstance(record, dict) else None
    if record is None or not isinstance(named, str):
        raise InputError(
            f"{path}: not the record of a registration, which says that its schema is "
            f"{SCHEMA}; give the .json file that mireg register wrote"
        )
    if named != SCHEMA:
        raise InputError(
            f"{path}: its schema is {named[:60]!r}, and this version of mireg reads "
            f"{SCHEMA}; use the version that wrote it"
        )
    try:
        check(record, schema())
        return dict(record)
    except InputError as error:
        raise InputError(
            f"{path}: {error}; the record is damaged or was changed: register anew"
        ) from error


def schema() -> dict[str, Any]:
    """Return the JSON Schema of a record: every field, its unit, frame, direction."""
    return json.loads(Path(__file__).with_name("registration.schema.json").read_bytes())


def check(value: Any, rule: Any, root: Any = None, where: str = "") -> None:
    """Refuse a value that a JSON Schema does not allow.

    Of the words of a schema it knows those that ours uses.

    Raises
    ------
    InputError
        Says where in the value, and what is wrong.

    Examples
    --------
    >>> check([1, "2"], {"type": "array", "items": {"type": "number"}})
    Traceback (most recent call last):
    mireg._errors.InputError: 1: is a string, not a number
    """
    root = root or rule
    if "$ref" in rule:
        check(value, root["$defs"][rule["$ref"].rpartition("/")[2]], root, where)
    for wrong in _misfits(value, rule):
        raise InputError(f"{where.lstrip('/')}: {wrong}" if where else wrong)
    if isinstance(value, list):
        for i, item in enumerate(value):
            check(item, rule.get("items", {}), root, f"{where}/{i}")
    if isinstance(value, dict):
        known, others = rule.get("properties", {}), rule.get("additionalProperties", {})
        for name, item in value.items():
            check(item, known.get(name, others), root, f"{where}/{name[:60]}")


def _misfits(value: Any, rule: Mapping[str, Any]) -> Iterator[str]:
    """Say what is wrong with a value, leaving aside what it holds."""
    names = rule.get("type", [])
    names = [names] if isinstance(names, str) else names
    name = _TYPES[type(value)]
    if names and name not in names and (name != "integer" or "number" not in names):
        yield f"is {_an(name)}, not {' or '.join(map(_an, names))}"
    allowed = [rule["const"]] if "const" in rule else rule.get("enum", [value])
    if value not in allowed:
        yield f"is none of {', '.join(map(str, allowed))}"
    if name == "string" and not re.search(rule.get("pattern", ""), value):
        yield f"is {value[:60]!r}, which is not of the form {rule['pattern']}"
    if name in ("integer", "number"):
        if not abs(value) <= sys.float_info.max:
            yield "is not a finite number"
        if value < rule.get("minimum", value) or value > rule.get("maximum", value):
            yield f"is {value:g}, which is out of range"
    if name == "array":
        low, high = rule.get("minItems", 0), rule.get("maxItems", math.inf)
        if not low <= len(value) <= high:
            more = "" if low == high else " or more"
            yield f"has {len(value)} items, not {low}{more}"
    if name == "object":
        lacking = [key for key in rule.get("required", ()) if key not in value]
        strange = set(value) - set(rule.get("properties", ()))
        if lacking:
            yield f"has no {lacking[0]!r}"
        if strange and rule.get("additionalProperties") is False:
            yield f"has {min(strange)[:60]!r}, which {SCHEMA} does not know"


def _an(name: str) -> str:
    """Put the article before the name of a type."""
    return name if name == "null" else f"{'an' if name[0] in 'aio' else 'a'} {name}"
