"""Pictures in the terminal: only where it says that it can, and whole."""

from __future__ import annotations

import base64
import io
import os
import re
import select
import struct
import subprocess
import sys
import time
from contextlib import suppress

import numpy as np
import PIL.Image
import pytest

from mireg.cli import terminal

fcntl = pytest.importorskip("fcntl", reason="pseudo-terminals are of Unix")
pty = pytest.importorskip("pty")
termios = pytest.importorskip("termios")

#: Takes the terminal for its own, and asks it, in the background if told so.
ASK = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
if "background" in sys.argv:
    child = os.fork()
    if child:
        os.waitpid(child, os.WUNTRACED)
        sys.exit()
    os.setpgid(0, 0)
from mireg.cli import terminal
found = terminal.graphics()
sys.stdout.write(f"<{found}>")
sys.stdout.flush()
"""


def told(answer, *more):
    """Let a program ask a terminal that answers so; return what it found, and when."""
    screen, inner = pty.openpty()
    said, asked = b"", None
    with subprocess.Popen(
        [sys.executable, "-c", ASK, *more],
        env={**os.environ, "TERM": "xterm"},
        stdin=inner,
        stdout=inner,
        stderr=inner,
        start_new_session=True,
    ):
        os.close(inner)
        with suppress(OSError):  # when it is closed at the other end
            while b">" not in said and select.select([screen], [], [], 60)[0]:
                said += os.read(screen, 1024)
                if asked is None and b"\x1b[c" in said:
                    asked = time.monotonic()
                    os.write(screen, answer)
        took = 0 if asked is None else time.monotonic() - asked
    os.close(screen)
    found = re.search(rb"<(\w+)>", said)
    return found and found[1].decode(), took, said


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (b"\x1b_Gi=31;OK\x1b\\\x1b[?62;c", "kitty"),
        (b"\x1b_Gi=31;OK\x1b\\\x1b[?62;4;22c", "kitty"),
        (b"\x1b_Gi=31;EINVAL: no\x1b\\\x1b[?62;c", "None"),
        (b"\x1b[?62;4;22c", "sixel"),
        (b"\x1b[?64;14;44c", "None"),
        (b"\x1b[?1;2c", "None"),
    ],
)
def test_the_terminal_is_taken_at_its_word(answer, found):
    what, _, said = told(answer)
    assert what == found
    assert b"OK" not in said  # the answer is not shown


def test_one_that_does_not_answer_is_not_waited_for():
    what, took, _ = told(b"")
    assert what == "None"
    assert took < 5  # on a busy machine


def test_one_in_the_background_is_left_alone():
    what, _, said = told(b"\x1b[?62;4c", "background")
    assert what == "None"
    assert b"\x1b" not in said


def test_nothing_is_asked_where_stdout_is_no_terminal(capsys):
    assert terminal.graphics() is None
    assert capsys.readouterr().out == ""


@pytest.fixture
def png(rng):
    """Return a picture of 40 x 23 pixels in 12 colours, as a file, and its pixels."""
    colours = rng.integers(0, 256, (12, 3))
    pixels = colours[rng.integers(0, 12, (23, 40))].astype(np.uint8)
    file = io.BytesIO()
    PIL.Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue(), pixels


def test_kitty_gets_the_whole_picture(png, capsys, monkeypatch):
    monkeypatch.setattr(terminal, "_CHUNK", 256)
    terminal.put(png[0], "kitty")
    parts = re.findall(r"\x1b_G([^;]*);([^\x1b]*)\x1b\\", capsys.readouterr().out)
    assert len(parts) > 2
    assert parts[0][0] == "a=T,f=100,m=1"
    assert [head for head, _ in parts[1:]] == ["m=1"] * (len(parts) - 2) + ["m=0"]
    assert all(len(part) <= 256 for _, part in parts)
    content = base64.b64decode("".join(part for _, part in parts))
    assert np.array_equal(PIL.Image.open(io.BytesIO(content)), png[1])


def sixels(text):
    """Draw sixels, as the manual of the VT340 has it: an independent reader."""
    body = re.search(r"\x1bPq(.*)\x1b\\", text, re.S)[1]
    wide, high = map(int, re.match(r'"1;1;(\d+);(\d+)', body).groups())
    pixels, palette = np.zeros((high + 6, wide, 3)), {}
    x = y = 0
    colour = None
    body = body.split("#", 1)[1]
    for word in re.findall(r"#[\d;]+|!\d+[?-~]|[?-~]|\$|-", f"#{body}"):
        if word[0] == "#":
            number, *rest = map(int, word[1:].split(";"))
            if rest:
                palette[number] = np.array(rest[1:]) * 255 / 100
            colour = palette[number]
        elif word == "$":
            x = 0
        elif word == "-":
            x, y = 0, y + 6
        else:
            count = int(word[1:-1]) if word[0] == "!" else 1
            bits = ord(word[-1]) - 63
            for row in range(6):
                if bits >> row & 1:
                    pixels[y + row, x : x + count] = colour
            x += count
    return pixels[:high]


def test_sixels_draw_the_whole_picture(png, capsys):
    terminal.put(png[0], "sixel")
    drawn = sixels(capsys.readouterr().out)
    assert drawn == pytest.approx(png[1].astype(float), abs=4)  # percent of 255


def test_no_picture_is_wider_than_the_terminal(png, capsys, monkeypatch):
    monkeypatch.setattr(terminal, "_width", lambda: 20)
    terminal.put(png[0], "sixel")
    assert sixels(capsys.readouterr().out).shape == (12, 20, 3)


@pytest.mark.parametrize(
    ("size", "width"), [((24, 100, 900, 500), 900), ((24, 100, 0, 0), 800)]
)
def test_the_width_of_a_terminal(size, width, monkeypatch):
    screen, inner = pty.openpty()
    try:
        fcntl.ioctl(screen, termios.TIOCSWINSZ, struct.pack("HHHH", *size))
        with os.fdopen(os.dup(inner), "w") as stdout:
            monkeypatch.setattr(sys, "stdout", stdout)
            assert terminal._width() == width
            monkeypatch.undo()
    finally:
        os.close(screen)
        os.close(inner)
    assert terminal._width() == 640 or sys.stdout.isatty()
