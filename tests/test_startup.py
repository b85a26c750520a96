"""What `mireg register` may import: a budget in modules, as seconds depend on the day.

To import costs more than to register a pair of 2 mm. What is below is what is paid for
now; a package that is not used any more fails, too, so that the list only shrinks.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

DATA = Path(__file__).parents[1] / "data"

REGISTER = """
import sys
from mireg.cli import main
status = main(["register", *sys.argv[1:], "--quiet"])
print(*sys.modules)
sys.exit(status)
"""

#: Packages that are paid for, and why.
PACKAGES = {
    "click": "the command line",
    "isal": "reads and writes gzip",
    "llvmlite": "of numba",
    "mireg": "",
    "nibabel": "reads images",
    "numba": "the loops",
    "numpy": "",
    "packaging": "of nibabel",
    "scipy": "see SCIPY",
}
#: What those import only where it is installed.
IF_THERE = {
    *("yaml", "charset_normalizer", "typing_extensions", "exceptiongroup"),
    *("importlib_resources", "importlib_metadata", "zipp"),
}
#: Parts of scipy: of ndimage (filters, distances), optimize (BFGS) and spatial
#: (rotations), or of what those import.
SCIPY = {
    *("constants", "fft", "linalg", "ndimage", "optimize", "sparse", "spatial"),
    "special",
}
#: Of packages that are paid for: what must stay away all the same.
NEVER = {
    "mireg._compare": "another command",
    "mireg._picture": "pictures, for notebooks",
    "mireg._report.page": "pictures, where they are asked for",
    "mireg._report.mosaic": "pictures, where they are asked for",
    "mireg._score": "another command",
    "mireg.phantom": "another command",
    "numba.np.arraymath": "only the compiler; see mireg._cache_folder",
    "numba.np.linalg": "only the compiler; see mireg._cache_folder",
}


@pytest.fixture(scope="module")
def modules(tmp_path_factory):
    """Names of all modules in a process that has registered two files."""
    folder = tmp_path_factory.mktemp("startup")
    words = [DATA / "phantom_T1.nii.gz", DATA / "phantom_EPI.nii.gz", "-o"]
    for out in ("first", "second"):  # the first one may compile
        done = subprocess.run(
            [sys.executable, "-c", REGISTER, *words, folder / out],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
    return set(done.stdout.split())


def parts(modules, package):
    """Public parts of a package that were imported."""
    names = {name.split(".")[1] for name in modules if name.startswith(f"{package}.")}
    return {name for name in names if not name.startswith("_")}


@pytest.mark.slow
def test_register_imports_no_other_package(modules):
    tops = {name.partition(".")[0] for name in modules}
    others = tops - set(sys.stdlib_module_names) - IF_THERE
    private = {name for name in others if name.startswith("_")}
    assert others - private - {"cython_runtime"} == set(PACKAGES)


@pytest.mark.slow
def test_register_imports_no_other_part_of_scipy(modules):
    assert parts(modules, "scipy") <= SCIPY | {"version"}


@pytest.mark.slow
@pytest.mark.parametrize("name", NEVER)
def test_register_does_not_import(name, modules):
    assert name not in modules
