"""Compiled loops are kept, wherever that is possible and safe."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import mireg
from mireg import _cache_folder as cache_folder

pytestmark = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="owners of files")

PROGRAM = """
import numpy as np
from numba import config
from mireg import _kernels as kernels
out = np.empty((1, 1, 2), np.float32)
ones = np.ones(3, np.int64)
kernels.resample_nearest(np.ones(1, np.float32), ones, ones, np.eye(4), 0, out)
print(config.CACHE_DIR, sum(kernels.resample_nearest.stats.cache_hits.values()))
"""


@pytest.fixture
def nowhere(tmp_path):
    """Install mireg where nothing can be written, for a user without a home."""
    package = tmp_path / "site" / "mireg"
    shutil.copytree(
        Path(mireg.__file__).parent,
        package,
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    (package / "__pycache__").touch()  # permissions would not stop root
    scratch = tmp_path / "scratch"
    scratch.mkdir(mode=0o700)
    environment = {
        name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"
    }
    return environment | {
        "HOME": "/dev/null",
        "XDG_CACHE_HOME": "/dev/null",
        "PYTHONPATH": str(package.parent),
        "PYTHONDONTWRITEBYTECODE": "1",
        "TMPDIR": str(scratch),
    }


LOOPS = """
import sys
import numpy as np
from mireg import _kernels as kernels
shades, out = np.float32([0, 0.5, 1, np.nan]), np.zeros(4, np.uint16)
histogram, slopes, three = np.eye(2), np.empty((2, 2)), np.empty(3)
for name in sys.argv[1:]:
    if name == "packed":
        kernels.packed(shades, out)
        assert out.tolist() == [0, 16384, 32767, 32768]
    else:
        kernels.entropies(histogram, np.empty(2), np.empty(2), slopes, three)
        np.testing.assert_allclose(three, np.log(2))
    hits = sum(getattr(kernels, name).stats.cache_hits.values())
    print(name, "read" if hits else "compiled", "numba.np.arraymath" in sys.modules)
"""


def run(environment, program=PROGRAM, *words):
    done = subprocess.run(
        [sys.executable, "-c", program, *words],
        env=environment,
        cwd=environment["TMPDIR"],
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


@pytest.mark.slow
def test_a_read_only_installation_compiles_once(nowhere):
    folder, hits = run(nowhere).rsplit(maxsplit=1)
    assert Path(folder).parent == Path(nowhere["TMPDIR"])
    assert Path(folder).stat().st_mode & 0o777 == 0o700
    assert hits == "0"
    assert run(nowhere) == f"{folder} 1"


@pytest.mark.slow
def test_a_kept_loop_is_read_without_what_compiles_one(nowhere):
    # numba.np.arraymath is one of a hundred modules that only the compiler needs.
    assert run(nowhere, LOOPS, "packed") == "packed compiled True"
    # One that was not kept is compiled after one that was read.
    both = run(nowhere, LOOPS, "packed", "entropies")
    assert both.splitlines() == ["packed read False", "entropies compiled True"]
    both = run(nowhere, LOOPS, "entropies", "packed")
    assert both.splitlines() == ["entropies read False", "packed read False"]


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    """Make a folder for temporary things."""
    folder = tmp_path / "scratch"
    folder.mkdir(mode=0o700)
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_the_folder_is_the_user_s_own(scratch):
    folder = cache_folder._own_folder()
    assert folder == scratch / f"mireg-{os.geteuid()}"
    assert cache_folder._own_folder() == folder


def open_to_all(folder):
    folder.mkdir()
    folder.chmod(0o777)


def elsewhere(folder):
    (folder.parent / "other").mkdir(mode=0o700)
    folder.symlink_to(folder.parent / "other")


@pytest.mark.parametrize("plant", [open_to_all, elsewhere, Path.touch])
def test_a_folder_that_someone_else_may_have_filled_is_not_used(plant, scratch):
    planted = scratch / f"mireg-{os.geteuid()}"
    plant(planted)
    folder = cache_folder._own_folder()
    assert folder != planted
    assert folder.parent == scratch
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_folder_that_someone_else_may_exchange_is_not_used(scratch):
    scratch.chmod(0o777)
    assert cache_folder._own_folder() != scratch / f"mireg-{os.geteuid()}"
    scratch.chmod(0o1777)
    assert cache_folder._own_folder() == scratch / f"mireg-{os.geteuid()}"


def test_a_folder_of_another_user_is_not_used(scratch, monkeypatch):
    cache_folder._own_folder()
    user = os.geteuid()
    planted = scratch / f"mireg-{user + 1}"
    planted.mkdir(mode=0o700)
    monkeypatch.setattr(os, "geteuid", lambda: user + 1)
    assert cache_folder._own_folder() != planted
