# ruff: noqa: PLC0415, D301
# (imports inside commands keep --help fast; click wants a bare \b)
"""``mireg guide``: what people read, in the terminal."""

from __future__ import annotations

import difflib
import re
import textwrap
from pathlib import Path
from typing import Any

import click

from .._errors import InputError
from .command import Command
from .common import colour, say

#: Where the pages are; those of `GENERATED` are made when they are read.
FOLDER = Path(__file__).parents[1] / "guide"

#: Pages that are made from the program itself, by their topics.
GENERATED = ("numbers", "record", "commands", "python")

#: Longest line of text on a terminal.
_WIDTH = 100

_LINK = re.compile(r"\[([^\]]+)\]\(([\w-]+)\.md(?:#[\w-]+)?\)")
_PICTURE = re.compile(r"!\[([^\]]*)\]\(([^)]+)\)")


def topics() -> dict[str, str]:
    """Give the topics of the guide in their order, each with its title.

    They are the links of the guide's first page.
    """
    index = (FOLDER / "index.md").read_text("utf-8")
    return {topic: title for title, topic in _LINK.findall(index)}


def page(topic: str) -> str:
    """Give a page of the guide as Markdown.

    Parameters
    ----------
    topic : str
        One of `topics`, or index.
    """
    if topic in GENERATED:
        from . import reference

        return str(getattr(reference, f"{topic}_page")())
    return (FOLDER / f"{topic}.md").read_text("utf-8")


def for_terminal(text: str) -> str:
    """Turn links and pictures of a page into what can be typed or opened.

    Examples
    --------
    >>> for_terminal("See [its numbers](numbers.md), and ![a head](head.png).")
    'See its numbers (mireg guide numbers), and [picture: a head].'
    """
    text = _PICTURE.sub(r"[picture: \1]", text)
    text = re.sub(r"<!--.*?-->\n?", "", text, flags=re.DOTALL)
    text = _LINK.sub(r"\1 (mireg guide \2)", text)
    parts = re.split(r"(```.*?```)", text, flags=re.DOTALL)
    parts[::2] = ["\n".join(map(_wrapped, part.split("\n"))) for part in parts[::2]]
    return "".join(parts)


def _wrapped(line: str) -> str:
    """Break a line that is too long, unless it is a row of a table."""
    if len(line) <= _WIDTH or line.startswith("|"):
        return line
    return textwrap.fill(
        line,
        _WIDTH,
        subsequent_indent="  " if line[:2] in (": ", "- ") else "",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _listed() -> str:
    """Name all topics."""
    known = topics()
    width = max(map(len, known))
    lines = [f"  {topic:{width}}  {title}" for topic, title in known.items()]
    return "\n".join(["Topics of the guide, read by mireg guide TOPIC:", "", *lines])


def _completed(_context: Any, _argument: Any, begun: str) -> list[str]:
    """Complete a topic by the Tab key."""
    return [topic for topic in topics() if topic.startswith(begun)]


@click.command(
    cls=Command, short_help="Read the guide: how to do what, and how it works."
)
@click.argument("topic", required=False, shell_complete=_completed)
def guide(*, topic: str | None) -> None:
    """Read the guide: how to do what, and how it works.

    Without TOPIC all topics are listed. On a terminal a page is shown by your pager.

    \b
    Example:
      mireg guide start
    """
    if topic is None:
        say(_listed())
        return
    known = topics()
    if topic not in known:
        near = difflib.get_close_matches(topic, known, n=3, cutoff=0.6) or [
            name for name, title in known.items() if topic.lower() in title.lower()
        ]
        raise InputError(
            f"the guide has no topic {topic!r}"
            + (f"; nearest: {', '.join(near)}" if near else "")
            + "; mireg guide lists all"
        )
    click.echo_via_pager(for_terminal(page(topic)).rstrip() + "\n", color=colour())
