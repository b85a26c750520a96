"""Records as JSON, for machines that people look over the shoulder of."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from .._errors import InputError
from .writing import PathLike

#: What a record says that it is: the name and version of its schema.
SCHEMA = "mireg-registration/1"

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
    # A path of bytes that are no UTF-8 has lone surrogates, which no file can hold.
    unwritable = any("\ud800" <= letter <= "\udfff" for letter in text)
    return json.dumps(value) if unwritable else text


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
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    try:
        record = None if len(content) > _MOST_BYTES else json.loads(content)
    except (ValueError, RecursionError):
        record = None
    named = record.get("schema") if isinstance(record, dict) else None
    if not isinstance(named, str):
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
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    return record


def schema() -> dict[str, Any]:
    """Return the JSON Schema of a record: every field, its unit, frame, direction."""
    return json.loads(Path(__file__).with_name("registration.schema.json").read_text())


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

    def refuse(why: str) -> NoReturn:
        raise InputError(f"{where.lstrip('/')}: {why}" if where else why)

    if "$ref" in rule:
        check(value, root["$defs"][rule["$ref"].rpartition("/")[2]], root, where)
    if "const" in rule and value != rule["const"]:
        refuse(f"is not {rule['const']!r}")
    if "enum" in rule and value not in rule["enum"]:
        refuse(f"is none of {', '.join(map(str, rule['enum']))}")
    if "type" in rule:
        names = [rule["type"]] if isinstance(rule["type"], str) else rule["type"]
        found = _TYPES[type(value)]
        if found not in names and (found != "integer" or "number" not in names):
            refuse(f"is {_an(found)}, not {' or '.join(map(_an, names))}")
    if isinstance(value, str) and not re.search(rule.get("pattern", ""), value):
        refuse(f"is {value[:60]!r}, which is not of the form {rule['pattern']}")
    if isinstance(value, int | float) and not isinstance(value, bool):
        if not abs(value) <= sys.float_info.max:
            refuse("is not a finite number")
        if value < rule.get("minimum", value) or value > rule.get("maximum", value):
            refuse(f"is {value:g}, which is out of range")
    if isinstance(value, list):
        low, high = rule.get("minItems", 0), rule.get("maxItems", math.inf)
        if not low <= len(value) <= high:
            refuse(f"has {len(value)} items, {'at least ' * (high != low)}{low} needed")
        for i, item in enumerate(value):
            check(item, rule.get("items", {}), root, f"{where}/{i}")
    if isinstance(value, dict):
        known, others = rule.get("properties", {}), rule.get("additionalProperties", {})
        for name in rule.get("required", ()):
            if name not in value:
                refuse(f"has no {name!r}")
        for name, item in value.items():
            if name not in known and others is False:
                refuse(f"has {name[:60]!r}, which {SCHEMA} does not know")
            check(item, known.get(name, others), root, f"{where}/{name[:60]}")


def _an(name: str) -> str:
    """Put the article before the name of a type."""
    return name if name == "null" else f"{'an' if name[0] in 'aio' else 'a'} {name}"
