"""Manners in a terminal: colours, progress, what --verbose tells, completion."""

from __future__ import annotations

import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import time
from contextlib import suppress

import nibabel as nib
import numpy as np
import pytest

from mireg._files import nifti
from mireg._transform import RigidTransform
from mireg.cli import cli, main
from mireg.phantom import phantom_pair

fcntl = pytest.importorskip("fcntl", reason="pseudo-terminals are of Unix")
pty = pytest.importorskip("pty")
termios = pytest.importorskip("termios")

POSE = RigidTransform([0.15, -0.1, 0.2], [6, -4, 8])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Put two scans of a head and a slab of two slices into a folder."""
    path = tmp_path_factory.mktemp("scans")
    pair = phantom_pair(
        "T1", "T2", pose=POSE, fixed_voxel_size_mm=6, moving_voxel_size_mm=6
    )
    nifti.write_image(path / "t1.nii", pair.fixed)
    nifti.write_image(path / "t2.nii", pair.moving)
    slab = np.arange(800, dtype=np.int16).reshape(20, 20, 2)
    nib.save(nib.Nifti1Image(slab, np.eye(4)), path / "slab.nii")
    return path


def in_terminal(folder, *argv, columns=80, **environment):
    """Run a command in a terminal; return what it wrote there, and its exit code."""
    screen, terminal = pty.openpty()
    fcntl.ioctl(screen, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    with subprocess.Popen(
        [sys.executable, "-m", "mireg", *argv],
        cwd=folder,
        env={**os.environ, "TERM": "xterm", **environment},
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
    ) as process:
        os.close(terminal)
        said = b""
        with suppress(OSError):  # when it is closed at the other end
            while piece := os.read(screen, 4096):
                said += piece
        os.close(screen)
    return said.decode(), process.returncode


YELLOW, RED, RESET = "\x1b[33m", "\x1b[31m", "\x1b[0m"


def test_notes_and_errors_are_coloured_in_a_terminal(folder):
    said, code = in_terminal(folder, "inspect", "slab.nii")
    assert f"{YELLOW}mireg: note:{RESET} slab.nii: only 2 voxels" in said
    assert code == 0
    said, code = in_terminal(folder, "inspect", "gone.nii")
    assert f"{RED}\x1b[1mmireg: error:{RESET} gone.nii: there is no such file" in said
    assert code == 2


@pytest.mark.parametrize(
    ("name", "environment"),
    [("slab.nii", {"NO_COLOR": "1"}), ("gone.nii", {"TERM": "dumb"})],
)
def test_no_colours_where_they_are_not_wanted(name, environment, folder):
    said, _ = in_terminal(folder, "inspect", name, **environment)
    assert "slab.nii: only 2 voxels" in said or "no such file" in said
    assert "\x1b" not in said


def test_no_colours_into_a_file(folder):
    done = subprocess.run(
        [sys.executable, "-m", "mireg", "inspect", "slab.nii"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "mireg: note: slab.nii" in done.stdout
    assert "\x1b" not in done.stdout + done.stderr


def test_nothing_comes_after_the_output_where_colorama_is_installed(folder, tmp_path):
    # As the real one does: numba starts it, and it resets colours at the exit.
    (tmp_path / "colorama.py").write_text(
        "import atexit, sys, types\n"
        "__version__ = '0.4.6'\n"
        "Fore = Style = types.SimpleNamespace(\n"
        "    BLUE='', YELLOW='', WHITE='', GREEN='', RED='', BLACK='', MAGENTA='',\n"
        "    CYAN='', RESET_ALL='\\x1b[0m', BRIGHT='')\n"
        "init = lambda: atexit.register(sys.__stdout__.write, '\\x1b[0m')\n"
        "reinit = deinit = lambda: None\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "mireg", "inspect", "slab.nii"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "mireg: note: slab.nii" in done.stdout
    assert "\x1b" not in done.stdout + done.stderr


def screen_of(said, columns):
    """Play what was written to a terminal; return its lines at the end."""
    lines, row, column = [[]], 0, 0
    for piece in re.findall(r"\x1b\[[0-9;]*[A-Za-z]|.|\n", said, re.S):
        if piece == "\r":
            column = 0
        elif piece == "\n":
            row, lines = row + 1, [*lines, []]
        elif piece == "\x1b[K":
            del lines[row][column:]
        elif not piece.startswith("\x1b"):
            if column == columns:  # it goes on in the next line
                row, column, lines = row + 1, 0, [*lines, []]
            lines[row][column:] = [*lines[row][column:column], piece]
            column += 1
    return ["".join(line) for line in lines]


@pytest.mark.slow
@pytest.mark.parametrize("columns", [80, 30, 0])
def test_the_progress_line_is_gone_in_the_end(columns, folder):
    argv = ["register", "t1.nii", "t2.nii", "-o", f"x{columns}", "--init", "header"]
    said, code = in_terminal(folder, *argv, columns=columns)
    assert code == 0
    columns = columns or 80  # 0: the terminal does not know
    if columns == 80:
        assert "[############            ]  50 % refine" in said
        assert f"[{24 * '#'}] 100 % write" in said
    shown = screen_of(said, columns)
    assert not any(line.startswith("[") for line in shown)
    assert shown[0].startswith("from t1.nii to t2.nii:")


@pytest.mark.slow
def test_quiet_is_quiet_in_a_terminal(folder):
    argv = ["register", "t1.nii", "t2.nii", "-o", "q", "--init", "header", "-q"]
    assert in_terminal(folder, *argv) == ("", 0)


@pytest.mark.slow
def test_verbose_tells_the_candidates_as_a_table(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    argv = ["register", "t1.nii", "t2.nii", "-o", "v", "--verbose"]
    assert main(argv) == 0
    lines = capsys.readouterr().err.splitlines()
    (first,) = (i for i, line in enumerate(lines) if line.startswith("candidate"))
    rows = []
    for line in lines[first + 1 :]:
        if not line.split()[0].isdigit():
            break
        rows.append(line.split())
    assert [int(row[0]) for row in rows] == list(range(1, len(rows) + 1))
    assert len(rows) > 1
    information = [float(row[1]) for row in rows]
    assert information == sorted(information, reverse=True)
    assert float(rows[0][3]) == pytest.approx(POSE.angle_deg, abs=10)
    # Numbers stand below their headings.
    assert {len(line) for line in lines[first + 1 : first + 1 + len(rows)]} == {
        len(lines[first + 1])
    }
    assert any(re.fullmatch(r"search: [0-9.]+ s", line) for line in lines)
    assert main([*argv, "--force", "--quiet"]) == 0
    assert capsys.readouterr().err == ""


# --- completion ---------------------------------------------------------------


def completed(words, number):
    """Ask what bash would offer for a word."""
    environment = {"COMP_WORDS": words, "COMP_CWORD": str(number)}
    done = subprocess.run(
        [sys.executable, "-c", "from mireg.cli import run; run()"],
        env={**os.environ, "_MIREG_COMPLETE": "bash_complete", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.split()


def test_the_tab_key_completes_commands_options_and_files():
    assert completed("mireg reg", 1) == ["plain,register"]
    assert completed("mireg register --fixed-m", 2) == ["plain,--fixed-mask"]
    assert completed("mireg register --metric ec", 3) == ["plain,ecc"]
    assert completed("mireg register t1", 2) == ["file,t1"]
    assert completed("mireg apply a.nii --like t1", 4) == ["file,t1"]


def test_the_line_for_bashrc_makes_a_script():
    if shutil.which("bash") is None:
        pytest.skip("no bash here")
    done = subprocess.run(
        [sys.executable, "-c", "from mireg.cli import run; run()"],
        env={**os.environ, "_MIREG_COMPLETE": "bash_source"},
        capture_output=True,
        text=True,
        check=False,
    )
    subprocess.run(["bash", "-n"], input=done.stdout, text=True, check=True)
    assert "complete" in done.stdout


# --- signals ------------------------------------------------------------------

#: Works until it is stopped, in the ways in which an interrupt was lost.
WORK = """
import sys, threading, time
from mireg import cli
from mireg._files.writing import new_files
from mireg.cli import main, run

def work(name):
    try:
        print("now", flush=True)
        time.sleep(60)
    except KeyboardInterrupt:
        if name == "swallowed":
            time.sleep(60)
        if name == "another error":
            raise KeyError(name) from None
        if name == "held by a thread":
            threading.Thread(target=time.sleep, args=[60]).start()
        if name == "clumsy clean-up":
            sys.exit(0)
        raise

def main(argv=None):
    with new_files(["a.nii", "b.tfm"]):
        work(sys.argv[1])
    return 0

cli.main = main
run()
"""


@pytest.mark.parametrize("way", ["TERM", "INT", "HUP"])
@pytest.mark.parametrize(
    "name",
    ["plain", "swallowed", "another error", "held by a thread", "clumsy clean-up"],
)
def test_a_stop_always_wins(name, way, tmp_path):
    number = getattr(signal, f"SIG{way}")
    if name != "swallowed" and way == "HUP":
        pytest.skip("as INT")
    with subprocess.Popen(
        [sys.executable, "-c", WORK, name],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "now\n"
        began = time.monotonic()
        process.send_signal(number)
        process.send_signal(number)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert time.monotonic() - began < 3  # half a second, and the load of the machine
    assert said.strip() == "mireg: stopped"
    assert not list(tmp_path.iterdir())


#: A program that is stopped while its handlers are set up, or when all is done.
EDGES = """
import os, signal, sys, threading
from mireg import cli

start, number = threading.Thread.start, int(sys.argv.pop())

def starts(self):
    start(self)
    os.kill(os.getpid(), number)

if sys.argv.pop() == "before":
    threading.Thread.start = starts
else:
    end = cli.Stop.__exit__
    cli.Stop.__exit__ = lambda *all: (end(*all), os.kill(os.getpid(), number))[0]
sys.argv[1:] = ["--version"]
cli.run()
"""


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="signals are of Unix")
@pytest.mark.parametrize("way", ["TERM", "INT", "HUP"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_stop_at_the_edge_of_the_work_ends_it(when, way):
    number = getattr(signal, f"SIG{way}")
    done = subprocess.run(
        [sys.executable, "-c", EDGES, when, str(number.value)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 128 + number
    assert done.stderr == "mireg: stopped\n"


def test_what_ignores_hang_ups_goes_on(tmp_path):
    # As nohup starts it.
    ignore = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
    program = ignore + WORK.replace("time.sleep(60)", "time.sleep(1)", 1)
    with subprocess.Popen(
        [sys.executable, "-c", program, "plain"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "now\n"
        process.send_signal(signal.SIGHUP)
        process.communicate(timeout=30)
    assert process.returncode == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.nii", "b.tfm"]


def test_an_end_of_file_is_no_interrupt(monkeypatch):
    def fail(**_options):
        raise EOFError("Ran out of input")

    monkeypatch.setattr(cli.commands["inspect"], "callback", fail)
    with pytest.raises(EOFError, match="Ran out"):
        main(["inspect", "x.nii"])
