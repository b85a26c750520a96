"""Compiled loops are kept, wherever that is possible and safe."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from numba import config, njit

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
    if name == "quantised":
        kernels.quantised(shades, out)
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
    assert run(nowhere, LOOPS, "quantised") == "quantised compiled True"
    # One that was not kept is compiled after one that was read.
    both = run(nowhere, LOOPS, "quantised", "entropies")
    assert both.splitlines() == ["quantised read False", "entropies compiled True"]
    both = run(nowhere, LOOPS, "entropies", "quantised")
    assert both.splitlines() == ["entropies read False", "quantised read False"]


@pytest.mark.slow
def test_a_kept_loop_that_is_broken_is_compiled_anew(nowhere):
    assert run(nowhere, LOOPS, "quantised") == "quantised compiled True"
    (index,) = Path(nowhere["TMPDIR"]).rglob("*.quantised-*.nbi")
    (kept,) = Path(nowhere["TMPDIR"]).rglob("*.quantised-*.nbc")
    for path in (kept, index):
        whole = path.read_bytes()
        for size in (0, len(whole) // 2):
            path.write_bytes(whole[:size])
            assert run(nowhere, LOOPS, "quantised") == "quantised compiled True"
            assert run(nowhere, LOOPS, "quantised") == "quantised read False"
        path.write_bytes(b"\xff" * 100)
        assert run(nowhere, LOOPS, "quantised") == "quantised compiled True"


@pytest.mark.slow
@pytest.mark.parametrize("way", ["numba", "home", "named"])
def test_a_folder_of_numba_that_others_can_write_to_is_not_used(way, nowhere, tmp_path):
    shared = tmp_path / "shared"
    (shared / "numba").mkdir(parents=True)
    (shared / "numba" if way == "numba" else shared).chmod(0o777)
    variable = "NUMBA_CACHE_DIR" if way == "named" else "XDG_CACHE_HOME"
    folder, hits = run({**nowhere, variable: str(shared)}).rsplit(maxsplit=1)
    assert Path(folder).parent == Path(nowhere["TMPDIR"])
    assert not list(shared.rglob("*.nb?"))
    assert hits == "0"


@pytest.mark.slow
def test_without_any_folder_it_compiles_in_memory_and_says_so(nowhere):
    program = "import tempfile\ntempfile._candidate_tempdir_list = lambda: []\n" + (
        "import warnings\nwith warnings.catch_warnings(record=True) as told:\n"
        "    warnings.simplefilter('always')\n    import mireg._kernels\n"
        "assert ['NUMBA_CACHE_DIR' in str(w.message) for w in told] == [True]\n"
    )
    assert run(nowhere, program + PROGRAM) == "0"
    assert run(nowhere, program + PROGRAM) == "0"


class Broken(cache_folder.LoopCache):
    """Fails as numba may, one day: it has no _load_overload, or nothing is kept."""

    _load_overload = None

    def _save_overload(self, *_):
        raise OSError(28, "No space left")


def test_a_cache_that_fails_keeps_nobody_from_compiling(tmp_path, monkeypatch):
    monkeypatch.setitem(vars(config), "CACHE_DIR", str(tmp_path))
    made = njit(lambda x: x + 1)
    made._cache = Broken(made.py_func)
    assert made(1) == 2
    assert not list(tmp_path.rglob("*.nbc"))


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
    scratch.parent.chmod(0o777)
    assert cache_folder._own_folder() != scratch / f"mireg-{os.geteuid()}"


def test_a_folder_of_another_user_is_not_used(scratch, monkeypatch):
    cache_folder._own_folder()
    user = os.geteuid()
    planted = scratch / f"mireg-{user + 1}"
    planted.mkdir(mode=0o700)
    monkeypatch.setattr(os, "geteuid", lambda: user + 1)
    assert cache_folder._own_folder() != planted
