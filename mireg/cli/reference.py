# ruff: noqa: PLC0415
# (imports inside functions keep --help fast)
"""Pages of the guide that are made from the program itself."""

from __future__ import annotations

import ast
import inspect
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

_PACKAGE = Path(__file__).parents[1]
_WIDTH = 88


# --- commands -------------------------------------------------------------------------


def commands_page() -> str:
    """Write what ``--help`` says of every command."""
    from . import cli

    parts = [
        "# Reference of the commands",
        "What `--help` says of each.",
    ]
    for path, command in leaves(cli, ("mireg",)):
        context = _context(path, command)
        parts.append(f"## {' '.join(path)}\n\n```text\n{context.get_help()}\n```")
    return "\n\n".join(parts) + "\n"


def leaves(
    command: click.Command, path: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Yield a command and all below it, with what is typed for them."""
    yield path, command
    if isinstance(command, click.Group):
        for name, below in command.commands.items():
            yield from leaves(below, (*path, name))


def _context(path: tuple[str, ...], command: click.Command) -> click.Context:
    """Give what a command's help needs, as if it were called so."""
    return click.Context(
        command,
        info_name=" ".join(path),
        max_content_width=_WIDTH,
        terminal_width=_WIDTH,
        help_option_names=["-h", "--help"],
    )


# --- names of the Python interface ----------------------------------------------------


def python_page() -> str:
    """List the public names of Python, with their calls and first lines."""
    import mireg

    parts = [
        "# Reference of the Python interface",
        "What `dir(mireg)` lists. In Python `help(mireg.register)` says all of a name; "
        "the site of the guide has a page for each.",
    ]
    for heading, lines in sections(mireg.__doc__ or ""):
        parts.append(f"## {heading}")
        parts += [_entry(mireg, name, line) for name, line in lines]
    return "\n\n".join(parts) + "\n"


def sections(text: str) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Take the sections of the docstring of mireg apart."""
    for heading, body in re.findall(r"^(\w[^\n]*)\n-+\n((?:\w+: .*\n)+)", text, re.M):
        lines = [line.partition(": ") for line in body.splitlines()]
        yield heading, [(name, what) for name, _, what in lines]


def _entry(module: Any, name: str, line: str) -> str:
    """Say how a name is called, and what it is."""
    value = getattr(module, name)
    call = ""
    if inspect.isfunction(value):
        call = "(" + ", ".join(map(_parameter, _parameters(value))) + ")"
    return f"`mireg.{name}{call}`\n: {line}."


def _parameters(function: Any) -> Iterator[tuple[str, inspect.Parameter]]:
    """Yield the parameters of a function, and a star where keywords begin."""
    starred = False
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is parameter.KEYWORD_ONLY and not starred:
            starred = True
            yield "*", parameter
        yield name, parameter


def _parameter(named: tuple[str, inspect.Parameter]) -> str:
    name, parameter = named
    if name == "*" or parameter.default is parameter.empty:
        return name
    return f"{name}={parameter.default!r}"


# --- numbers of the method ------------------------------------------------------------


def numbers_page() -> str:
    """List every number of the method with its unit and reason, from its source."""
    source = (_PACKAGE / "_parameters.py").read_text("utf-8")
    parts = [
        "# Numbers of the method",
        "Every number that a user does not set, from `mireg/_parameters.py`: its unit "
        'and reason, and what chose it where that was measured. "Ablation" is the '
        "table of `scripts/ablation.py`. Where no measurement is named, none is known. "
        "What a user may set is in `mireg.Settings`.",
    ]
    headings = {
        number: text
        for number, line in enumerate(source.splitlines(), 1)
        for text in re.findall(r"^# --- (.*?) -+$", line)
    }
    lines = source.splitlines()
    for node in ast.parse(source).body:
        for number in [n for n in headings if n < node.lineno]:
            parts.append(f"## {_heading(headings.pop(number))}")
        if isinstance(node, ast.Assign):
            comment = _comment_above(lines, node.lineno)
            value = ast.get_source_segment(source, node) or ""
            parts.append(f"```python\n{value}\n```\n\n{comment}")
    return "\n\n".join(parts) + "\n"


def _heading(text: str) -> str:
    """Say what a section is of, without the modules that read it."""
    text = re.sub(r"\s*\([^)]*\)", "", text)
    return text[:1].upper() + text[1:]


def _comment_above(lines: list[str], lineno: int) -> str:
    """Return the comment right above a line of source."""
    comment: list[str] = []
    for line in reversed(lines[: lineno - 1]):
        if not line.startswith("#:"):
            break
        comment.insert(0, line.removeprefix("#:").strip())
    return " ".join(comment)


# --- fields of a record ---------------------------------------------------------------


def record_page() -> str:
    """List the fields of the record of a registration, from its JSON schema."""
    path = _PACKAGE / "_files" / "registration.schema.json"
    schema = json.loads(path.read_text("utf-8"))
    parts = [
        "# Fields of the record",
        "`mireg register` writes a record beside the transform: `PREFIX.json`, also "
        "printed by `--json`. `mireg.Registration.load` reads it, and every command "
        "takes it wherever a transform is asked for. Its JSON Schema is "
        "`mireg/_files/registration.schema.json`.",
        f"{schema['description']} The schema is called `{schema['title']}`.",
    ]
    for name, kind in schema["$defs"].items():
        what = kind["description"].rstrip(".")
        parts.append(f"Below, *{name}* is: {what[:1].lower()}{what[1:]}.")
    parts += _fields(schema, schema, "")
    parts.append("## image")
    parts += _fields(schema["$defs"]["image"], schema, "image.")
    return "\n\n".join(parts) + "\n"


def _fields(
    schema: Mapping[str, Any], root: Mapping[str, Any], prefix: str
) -> Iterator[str]:
    """Describe the fields of an object, and those within them."""
    required = schema.get("required", ())
    for name, field in schema.get("properties", {}).items():
        sure = "" if name in required else ", not always there"
        term = f"`{prefix}{name}` ({_type(field)}{sure})"
        yield "\n: ".join((term, field["description"]))
        yield from _fields(field, root, f"{prefix}{name}.")


def _type(field: Mapping[str, Any]) -> str:
    """Name the type of a field."""
    if "$ref" in field:
        return str(field["$ref"]).rpartition("/")[2]
    if "const" in field:
        return json.dumps(field["const"])
    if "enum" in field:
        return "one of " + ", ".join(map(json.dumps, field["enum"]))
    kinds = field.get("type", "any")
    return kinds if isinstance(kinds, str) else " or ".join(kinds)
