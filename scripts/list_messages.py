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
            *("_failed", "_fail"),
        ),
        "error",
    ),
    # Where more is written, `mireg COMMAND --help`, is said after them.
    **dict.fromkeys(("BadParameter", "UsageError"), "usage"),
    "warn": "warning",
    "say_note": "note",
}
#: Lists and variables whose texts become notes, or errors.
TEXTS = {
    **dict.fromkeys(("notes", "doubts", "found", "REASONS", "_UNKNOWN"), "note"),
    **dict.fromkeys(("why", "message"), "error"),
}


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
        constants = _constants(tree)
        for kind, line, text in _of(tree):
            for constant, held in constants.items():
                text = text.replace(f"{{{constant}}}", held)  # noqa: PLW2901
            found.append(Message(kind, name, line, text))
    return sorted(set(found), key=lambda one: (one.file, one.line, one.text))


def _constants(tree: ast.Module) -> dict[str, str]:
    """Give the texts of a module that have names in capitals."""
    return {
        target.id: _text(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name) and target.id.isupper() and _text(node.value)
    }


def _of(tree: ast.AST) -> Iterator[tuple[str, int, str]]:
    """Find messages below a node: kind, line and text."""
    for node in ast.walk(tree):
        for kind, value in _sources(node):
            text = _text(value)
            words = " " in text.strip() and not text.startswith("{")
            if words or "} " in text or "}: " in text:
                yield kind, value.lineno, text


def _sources(node: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    """Give the values of a node that are messages, and of which kind."""
    match node:
        case ast.Call(
            func=ast.Name(id=name) | ast.Attribute(attr=name), args=[first, *_]
        ):
            if name in KINDS:
                yield KINDS[name], node.args[1] if name == "_failed" else first
            elif name == "append" and isinstance(node.func, ast.Attribute):
                held = node.func.value
                if isinstance(held, ast.Name) and held.id in TEXTS:
                    yield TEXTS[held.id], first
        case (
            ast.Assign(targets=[ast.Name(id=name)], value=value)
            | ast.AugAssign(target=ast.Name(id=name), value=value)
        ) if name in TEXTS:
            yield from ((TEXTS[name], text) for text in _texts(value))
        case ast.Return(value=value):
            for text in _texts(value):
                long = isinstance(text, ast.JoinedStr) and len(_text(text)) > 60
                if long or "; " in _text(text):
                    yield "part", text
        case ast.Yield(value=ast.JoinedStr() as value):
            yield "note", value
        case _:
            pass


def _texts(value: ast.expr | None) -> list[ast.expr]:
    """Give a text as a list, or those in a dict or tuple."""
    match value:
        case ast.JoinedStr() | ast.Constant():
            return [value]
        case ast.Dict(values=texts) | ast.Tuple(elts=texts):
            return texts
        case _:
            return []


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
    parser.add_argument("--kind", choices=["error", "usage", "warning", "note", "part"])
    args = parser.parse_args()
    for one in messages():
        if args.kind in (None, one.kind):
            place = f"{one.file.removeprefix('mireg/')}:{one.line}"
            print(f"{one.kind:8} {place:36} {' '.join(one.text.split())}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
