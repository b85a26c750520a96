"""Run every example of the README and the guide, and hold it to what it prints.

Each page is run in a folder of its own that holds the clone's ``data`` at first. Of a
block marked ``console`` the lines that begin with ``$`` are typed into a shell, and
what follows is what they print, stdout and stderr together. Of a block marked
``python`` the lines that begin with ``>>>`` are a doctest; one without any is run as a
program. Blocks of other languages are not run.

In what is printed ``...`` stands for anything, and a number with a decimal point may
differ by 2 units of its last digit or by 2 %.

    python scripts/run_guide.py             all pages
    python scripts/run_guide.py README bids some of them
    python scripts/run_guide.py --write     put into the pages what is printed now

``--write`` leaves blocks that hold ``...`` alone where they are not met, and says so.
"""

from __future__ import annotations

import argparse
import contextlib
import doctest
import glob
import io
import logging
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mireg._errors import DoubtWarning
from mireg.cli import guide, main

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"

#: By how many units of the last digit, or by what share, a number may differ.
LAST_DIGITS, SHARE = 2, 0.02

_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_NUMBER = re.compile(r"(?<![\w.])-?\d+\.\d+(?![\w.]*\d)")
#: The direction of next to nothing is not held to.
_SMALL = re.compile(r"\b0\.0[0-5]\d* (?:left|right|forward|back|up|down)")
_TIMES = re.compile(r"^(  seconds +)\S.*$", re.MULTILINE)
_SHELL_SIGNS = set("|&;<>$`(){}")


@dataclass(frozen=True)
class Step:
    """One command, or one piece of Python, and what it is said to print."""

    language: str
    text: str
    printed: str


def pages() -> dict[str, Path]:
    """Give the README and the written pages of the guide, by name."""
    return {
        "README": README,
        **{path.stem: path for path in sorted(guide.FOLDER.glob("*.md"))},
    }


def steps(text: str) -> Iterator[Step]:
    """Yield what a page asks to type, in its order."""
    for language, block in _FENCE.findall(text):
        if language == "console":
            for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
                command = re.match(r"(?:[^\n]*\\\n)*[^\n]*\n", part)[0]
                yield Step("console", command.rstrip("\n"), part[len(command) :])
        elif language == "python":
            yield Step("doctest" if ">>>" in block else "program", block, "")


def matches(printed: str, said: str) -> bool:
    """Tell whether what was printed is what a page says.

    Examples
    --------
    >>> matches("1.2346 mm, 17 %", "1.2348 mm, ...")
    True
    >>> matches("1.2348 mm, 17 %", "1.2348 mm, 18 %")
    False
    """
    said, printed = (_SMALL.sub("0.0 aside", text.strip()) for text in (said, printed))
    pattern, numbers, end = "", [], 0
    for number in [*_NUMBER.finditer(said), None]:
        literal = said[end : number.start() if number else len(said)]
        # The words between numbers; any run of blanks is one.
        pieces = [
            r"\s+".join(map(re.escape, re.split(r"\s+", piece)))
            for piece in literal.split("...")
        ]
        pattern += ".*?".join(pieces)
        if number:
            pattern += r"(-?\d+\.\d+)"
            numbers.append(number[0])
            end = number.end()
    found = re.fullmatch(pattern, printed, re.DOTALL)
    return found is not None and all(map(_near, found.groups(), numbers))


def _near(printed: str, said: str) -> bool:
    digits = len(said.partition(".")[2])
    allowed = max(LAST_DIGITS * 10.0**-digits, SHARE * abs(float(said)))
    return abs(float(printed) - float(said)) <= allowed * (1 + 1e-9)


# --- to run ---------------------------------------------------------------------------


def type_command(command: str) -> tuple[int, str]:
    """Run a line as a shell would; return its exit code and what it printed."""
    plain = command.replace("\\\n", " ")
    words = shlex.split(plain, comments=True)
    if words[:1] == ["cd"]:
        os.chdir(words[1])
        return 0, ""
    alone = words[:1] == ["mireg"] and words[1:2] not in (["batch"], ["bids"])
    if alone and not _SHELL_SIGNS & set(plain):
        words = [
            name
            for word in words[1:]
            for name in (sorted(glob.glob(word)) if "*" in word else [word])
        ]
        said = io.StringIO()
        # In this process: Python and numba start once.
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            code = main(words)
        return code, said.getvalue()
    here = Path(sys.executable).parent
    done = subprocess.run(
        ["bash", "-c", command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "PATH": f"{here}{os.pathsep}{os.environ['PATH']}"},
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


@contextlib.contextmanager
def _inside(folder: Path) -> Iterator[None]:
    """Work in a folder; what an example sets is for itself; it may be doubtful."""
    before, logger = Path.cwd(), logging.getLogger("mireg")
    level = logger.level
    os.chdir(folder)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("default", DoubtWarning)
            yield
    finally:
        os.chdir(before)
        logger.setLevel(level)


def run_page(text: str, folder: Path) -> list[tuple[Step, str]]:
    """Run the examples of a page in a folder; return those that print other things."""
    if (ROOT / "data").exists():
        shutil.copytree(ROOT / "data", folder / "data", dirs_exist_ok=True)
    wrong, names = [], {"__name__": "__main__"}
    with _inside(folder):
        for step in steps(text):
            printed = _run(step, names)
            if printed is not None:
                wrong.append((step, printed))
    return wrong


def _run(step: Step, names: dict[str, object]) -> str | None:
    """Run one step; return what it printed if that is not what was said."""
    if step.language == "console":
        _, printed = type_command(step.text)
        return None if matches(printed, step.printed) else printed
    if step.language == "program":
        exec(compile(step.text, "guide", "exec"), names)
        return None
    test = doctest.DocTestParser().get_doctest(step.text, {}, "guide", None, None)
    test.globs = names
    report: list[str] = []
    options = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    runner = doctest.DocTestRunner(optionflags=options)
    failed = runner.run(test, out=report.append, clear_globs=False).failed
    return "".join(report) if failed else None


def written(text: str, wrong: list[tuple[Step, str]]) -> str:
    """Put what was printed into a page."""
    for step, printed in wrong:
        if step.language == "console" and "..." not in _TIMES.sub("", step.printed):
            before = f"$ {step.text}\n{step.printed}"
            assert before in text
            now = _TIMES.sub(r"\1...", printed)
            text = text.replace(before, f"$ {step.text}\n{now}", 1)
    return text


def _main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("pages", nargs="*", help="names of pages, README among them")
    parser.add_argument("--write", action="store_true", help="mend what is printed")
    given = parser.parse_args()
    bad = 0
    for name, path in pages().items():
        if given.pages and name not in given.pages:
            continue
        text = path.read_text("utf-8")
        with tempfile.TemporaryDirectory() as folder:
            wrong = run_page(text, Path(folder))
        if given.write:
            path.write_text(written(text, wrong), "utf-8")
        print(f"{name}: {len(list(steps(text)))} examples, {len(wrong)} differ")
        for step, printed in wrong:
            print(f"--- {step.text}\nsaid:\n{step.printed}\nprinted:\n{printed}")
        bad += len(wrong)
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(_main())
