"""Pictures in the terminal itself, where it says that it can show them."""

from __future__ import annotations

import base64
import io
import os
import re
import select
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Literal

import click

#: How long a terminal may take to answer, seconds; one over a slow line needs some.
_PATIENCE_S = 0.5

#: Ask for kitty's graphics, with one pixel that is not shown; then for what kind of
#: terminal it is, which all of them answer: nobody waits for those that know no kitty.
_QUESTION = b"\x1b_Gi=31,s=1,v=1,a=q,t=d,f=24;AAAA\x1b\\\x1b[c"
_KIND = re.compile(rb"\x1b\[\?([0-9;]*)c")

#: Most bytes of a picture in one of kitty's messages.
_CHUNK = 4096

#: Width of a letter, pixels, where the terminal does not tell it.
_LETTER = 8


def graphics() -> Literal["kitty", "sixel"] | None:
    """Tell how pictures can be shown on the terminal that stdout is, if at all."""
    if not sys.stdout.isatty() or os.environ.get("TERM") == "dumb":
        return None
    with suppress(OSError, ImportError), _raw() as terminal:
        answer = _ask(terminal)
        kind = _KIND.search(answer)
        if b"\x1b_Gi=31;OK" in answer:
            return "kitty"
        if kind is not None and b"4" in kind[1].split(b";"):
            return "sixel"
    return None


@contextmanager
def _raw() -> Iterator[int]:
    """Open the terminal so that its answer comes at once and is not shown."""
    import termios  # noqa: PLC0415, not on Windows
    import tty  # noqa: PLC0415

    terminal = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY)
    try:
        if os.tcgetpgrp(terminal) != os.getpgrp():
            raise OSError("in the background: to change the terminal would stop us")
        before = termios.tcgetattr(terminal)
        try:
            tty.setcbreak(terminal)
            yield terminal
        finally:
            termios.tcsetattr(terminal, termios.TCSAFLUSH, before)
    except termios.error as error:
        raise OSError(str(error)) from error
    finally:
        os.close(terminal)


def _ask(terminal: int) -> bytes:
    """Ask a terminal what it is; nothing if it does not answer in time."""
    os.write(terminal, _QUESTION)
    answer, end = b"", time.monotonic() + _PATIENCE_S
    while not _KIND.search(answer):
        ready, _, _ = select.select(
            [terminal], [], [], max(0.0, end - time.monotonic())
        )
        if not ready:
            return b""
        answer += os.read(terminal, 1024)
    return answer


def put(png: bytes, how: Literal["kitty", "sixel"]) -> None:
    """Show a picture on stdout, no wider than the terminal."""
    from PIL import Image  # noqa: PLC0415, slow to import

    picture = Image.open(io.BytesIO(png)).convert("RGB")
    width = min(picture.width, _width())
    picture = picture.resize((width, round(picture.height * width / picture.width)))
    # color: this is no colour, but click would strip it along with colours.
    click.echo(_kitty(picture) if how == "kitty" else _sixel(picture), color=True)


def _width() -> int:
    """Width of the terminal in pixels."""
    with suppress(OSError, ImportError):
        import fcntl  # noqa: PLC0415, not on Windows
        import struct  # noqa: PLC0415
        import termios  # noqa: PLC0415

        size = fcntl.ioctl(sys.stdout.fileno(), termios.TIOCGWINSZ, bytes(8))
        _, columns, width, _ = struct.unpack("HHHH", size)
        if width or columns:
            return int(width or _LETTER * columns)
    return 80 * _LETTER


def _kitty(picture: Any) -> str:
    """Write a picture as kitty takes it: a PNG in messages of base64."""
    file = io.BytesIO()
    picture.save(file, "PNG")
    text = base64.b64encode(file.getvalue()).decode()
    parts = [text[i : i + _CHUNK] for i in range(0, len(text), _CHUNK)]
    heads = ["a=T,f=100,"] + [""] * (len(parts) - 1)
    more = [1] * (len(parts) - 1) + [0]
    return "".join(
        f"\x1b_G{head}m={m};{part}\x1b\\"
        for head, m, part in zip(heads, more, parts, strict=True)
    )


def _sixel(picture: Any) -> str:
    """Write a picture as sixels: bands of six rows, one colour at a time.

    Each letter is a column of six pixels, the top one the lowest bit, above "?"; "!"
    repeats one, "$" goes back to the left and "-" down to the next band.
    """
    import numpy as np  # noqa: PLC0415, slow to import

    few = picture.quantize(256)
    pixels = np.asarray(few)
    palette = np.array(few.getpalette(), int).reshape(-1, 3) * 100 // 255
    rows, columns = pixels.shape
    out = [f'\x1bPq"1;1;{columns};{rows}']
    out += [f"#{i};2;{r};{g};{b}" for i, (r, g, b) in enumerate(palette)]
    for top in range(0, rows, 6):
        band = pixels[top : top + 6]
        bits = 1 << np.arange(len(band))[:, None]
        for colour in np.unique(band):
            letters = 63 + ((band == colour) * bits).sum(axis=0)
            starts = np.flatnonzero(np.diff(letters, prepend=-1))
            runs = np.diff(starts, append=columns)
            out.append(f"#{colour}")
            out += [f"!{n}{chr(letters[i])}" for i, n in zip(starts, runs, strict=True)]
            out.append("$")
        out.append("-")
    return "".join([*out, "\x1b\\"])
