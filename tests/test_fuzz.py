"""The fuzzer finds nothing, and would find what is planted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import fuzz
import numpy as np
import pytest

import mireg
from mireg._errors import InputError

SCRIPT = Path(fuzz.__file__)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_nothing_breaks(seed):
    words = [sys.executable, SCRIPT, "--count", "600", "--seed", str(seed)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["wrong"] == 0


def one(use, tmp_path, monkeypatch):
    """Run one case of a kind that is read by one function."""
    kind = fuzz.Kind(fuzz.tables, (use,))
    monkeypatch.setitem(fuzz.KINDS, "tables", kind)
    return fuzz.Cases("tables", 0, tmp_path).run(1)


def raises(error):
    def use(_path, _folder):
        raise error

    return use


def warns(category):
    def use(_path, _folder):
        fuzz.warnings.warn("odd", category, stacklevel=1)

    return use


@pytest.mark.parametrize(
    ("use", "wrong"),
    [
        (lambda _path, _folder: None, None),
        (raises(InputError("the file is odd; mend it")), None),
        (raises(KeyError("x")), "KeyError"),
        (raises(MemoryError()), "MemoryError"),
        (raises(InputError("there is not enough memory; free some")), "memory"),
        (warns(mireg.MiregWarning), None),
        (warns(RuntimeWarning), "RuntimeWarning"),
        (lambda _path, _folder: fuzz.time.sleep(9), "hangs"),
        (lambda _path, _folder: np.ones(1 << 24), "MiB"),
        (lambda _path, _folder: fuzz.command("--nonsense"), None),
        (lambda _path, _folder: fuzz.command("--version"), None),
    ],
)
def test_what_is_wrong_is_found(use, wrong, tmp_path, monkeypatch):
    monkeypatch.setattr(fuzz, "ALARM_S", 0.3 if wrong == "hangs" else 30)
    fuzz.tracemalloc.start()
    try:
        said = one(use, tmp_path, monkeypatch)
    finally:
        fuzz.tracemalloc.stop()
    assert said is None if wrong is None else wrong in str(said)


def test_a_case_depends_on_its_number_alone(tmp_path):
    cases = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        made = fuzz.Cases("transforms", 3, tmp_path / name)
        if name == "b":
            made.make(6)
        path, use, _ = made.make(7)
        cases.append((path.name, path.read_bytes(), use))
    assert cases[0] == cases[1]
