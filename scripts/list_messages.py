"""List every error, warning and note of the package, to be read in one sitting.

What is put in at run time stands in braces.

    python scripts/list_messages.py
    python scripts/list_messages.py --kind error
"""

from __future__ import annotations

import argparse
import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

PACKAGE = Path(__file__).resolve().parent.parent / "mireg"

#: What a message goes through, by the kind of message that it is.
KINDS = {
    **dict.fromkeys(
        (
            *("InputError", "MissingFileError", "OutputExistsError", "MiregError"),
            *("ImagesNeededError", "FormatNeededError", "FrameNeededError"),
            *("BadParameter", "UsageError", "_fail"),
        ),
        "error",
    ),
    "warn": "warning",
    "say_note": "note",
}
#: Lists and variables whose texts become notes, or errors.
TEXTS = {"notes": "note", "doubts": "note", "found": "note", "why": "error"}


class Message(NamedTuple):
    """A text that people may read, and where it is."""

    kind: str
    file: str
    line: int
    text: str


def messages(package: Path = PACKAGE) -> list[Message]:
    """Find all messages of a package, by file and line."""
    found = []
    for path in sorted(package.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        name = path.relative_to(package.parent).as_posix()
        found += [
            Message(kind, name, node.lineno, text) for kind, node, text in _of(tree)
        ]
    return sorted(set(found), key=lambda one: (one.file, one.line))


def _of(tree: ast.AST) -> Iterator[tuple[str, ast.expr | ast.stmt, str]]:
    """Find messages below a node."""
    for node in ast.walk(tree):
        for kind, value in _sources(node):
            text = _text(value)
            if " " in text.strip() and not text.startswith("{"):
                yield kind, node, text  # type: ignore[misc]  # all have a line
            elif "} " in text or "}: " in text:
                yield kind, node, text  # type: ignore[misc]


def _sources(node: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    """Give the values of a node that are messages, and of which kind."""
    match node:
        case ast.Call(
            func=ast.Name(id=name) | ast.Attribute(attr=name), args=[first, *_]
        ):
            if name in KINDS:
                yield KINDS[name], first
            elif name == "append" and isinstance(node.func, ast.Attribute):
                held = node.func.value
                if isinstance(held, ast.Name) and held.id in TEXTS:
                    yield TEXTS[held.id], first
        case ast.Assign(targets=[ast.Name(id=name)], value=value):
            if name in TEXTS and isinstance(value, ast.JoinedStr | ast.Constant):
                yield TEXTS[name], value
        case ast.Return(value=ast.JoinedStr() as value):
            if len(_text(value)) > 60:
                yield "part", value
        case ast.Yield(value=ast.JoinedStr() as value):
            yield "note", value
        case _:
            pass


def _text(node: ast.expr | None) -> str:
    """Give a text, with what is put in at run time in braces."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=values):
            return "".join(map(_text, values))
        case ast.FormattedValue(value=value):
            return "{" + ast.unparse(value) + "}"
        case ast.BinOp(left=left, right=right):
            return _text(left) + _text(right)
        case ast.IfExp(body=body, orelse=other):
            return f"{_text(body)} / {_text(other)}"
        case _:
            return ""


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kind", choices=["error", "warning", "note", "part"])
    args = parser.parse_args()
    for one in messages():
        if args.kind in (None, one.kind):
            place = f"{one.file.removeprefix('mireg/')}:{one.line}"
            print(f"{one.kind:8} {place:36} {' '.join(one.text.split())}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
