"""The package as a whole: its names, its types, and other processes."""

from __future__ import annotations

import importlib.util
import inspect
import os
import pydoc
import re
import subprocess
import sys

import cloudpickle
import numpy as np
import pytest
from checks import ball

import mireg

MODULES = {"information", "phantom"}
#: For annotations; they have no docstring of their own.
ALIASES = {"ImageLike", "Interpolation", "MetricName", "VolumeChoice"}
LINES = dict(re.findall(r"^(\w+): (.+)$", mireg.__doc__, re.M))


def test_every_public_name_has_its_line():
    assert set(LINES) == {*mireg.__all__, *MODULES}
    for name in LINES.keys() - ALIASES:
        first = inspect.getdoc(getattr(mireg, name)).splitlines()[0]
        assert f"{LINES[name]}." == first, name


def test_names_are_listed_once_and_nothing_else_is():
    assert set(dir(mireg)) == {*mireg.__all__, *MODULES, "__version__"}
    assert sorted(mireg.__all__) == sorted(mireg._HOME)
    for name in dir(mireg):
        getattr(mireg, name)
    with pytest.raises(AttributeError, match="has no attribute 'regster'"):
        _ = mireg.regster


def test_help_shows_the_lines():
    shown = pydoc.plain(pydoc.render_doc(mireg))
    for name, line in LINES.items():
        assert f"{name}: {line}" in shown


def test_modules_are_there_without_an_import_of_their_own():
    program = "import mireg; mireg.information.entropy, mireg.phantom.phantom_pair"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_package_can_be_sent_to_other_processes():
    assert cloudpickle.loads(cloudpickle.dumps(mireg)) is mireg
    image = ball() + np.arange(14), np.eye(4)

    def measured():
        return mireg.contrast(image).score

    sent = cloudpickle.loads(cloudpickle.dumps(measured))
    assert sent() == measured()


PROGRAM = """
import sys
import dask, joblib
import numpy as np
import mireg

def five(_):
    x, y, z = np.indices((20, 24, 22))
    ball = np.exp(-((x - 9) ** 2 + (y - 9) ** 2 + (z - 12) ** 2) / 30.0)
    fixed = ball + (x > 12)
    five_mm_right = np.eye(4)
    five_mm_right[0, 3] = 5
    pair = (fixed, np.eye(4)), (3 - fixed, five_mm_right)
    assert mireg.contrast(pair[0]).score < 4
    assert mireg.score(*pair, five_mm_right)["overlap_fraction"] > 0.5
    return round(mireg.register(*pair, init="header").moving_from_fixed[0, 3])

if __name__ == "__main__":
    if sys.argv[1] == "loky":
        print(joblib.Parallel(2, "loky")(joblib.delayed(five)(k) for k in range(2)))
    else:
        tasks = [dask.delayed(five)(k) for k in range(2)]
        print(list(dask.compute(*tasks, scheduler="processes", num_workers=2)))
"""


@pytest.mark.slow
@pytest.mark.parametrize("scheduler", ["loky", "dask"])
def test_functions_run_in_other_processes(scheduler, tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, "program.py", scheduler],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "[5, 5]\n", done.stderr


RIGHT = """
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK as sitk

import mireg


def brought(fixed: mireg.ImageLike, moving: mireg.ImageLike) -> mireg.Image:
    found: mireg.Registration = mireg.register(fixed, moving)
    transform: mireg.RigidTransform = found.transform
    print(transform.matrix, mireg.information.entropy([0.5, 0.5]))
    return mireg.read_image(moving, "mean")


metric: mireg.MetricName = "nmi"
scan: nib.Nifti1Image = nib.Nifti1Image.from_filename("t1.nii")
image = brought("t1.nii", Path("t2.nii"))
brought(scan, (np.zeros((4, 4, 4)), np.eye(4)))
brought(nib.load("t1.nii"), image)
brought(nib.spatialimages.SpatialImage.from_filename("t1.nii"), sitk.ReadImage("a.mha"))
print(np.asarray(image).shape, mireg.contrast(image).score)
mireg.write_image("out.nii", scan, force=True)
pair = mireg.phantom.phantom_pair("T1", "T2")
try:
    mireg.read_image("gone.nii")
except (FileNotFoundError, mireg.OutputExistsError) as error:
    print(error)
"""

WRONG = {
    "mireg.register(3, 4)": "arg-type",
    "mireg.register(np.zeros((4, 4, 4)), 'a.nii')": "arg-type",
    "mireg.read_image(None)": "arg-type",
    "mireg.write_image('a.nii', np.zeros((4, 4, 4)))": "arg-type",
    "mireg.regster('a.nii', 'b.nii')": "attr-defined",
}


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("mypy") is None, reason="needs mypy")
def test_a_users_program_is_checked_by_its_types(tmp_path):
    wrong = "\n".join(["import numpy as np", "import mireg", *WRONG])
    (tmp_path / "right.py").write_text(RIGHT)
    (tmp_path / "wrong.py").write_text(wrong)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "right.py", "wrong.py"],
        cwd=tmp_path,
        env={**os.environ, "MYPY_CACHE_DIR": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    found = re.findall(r"^(\w+\.py):(\d+): error: .*\[([\w-]+)\]$", done.stdout, re.M)
    assert {one for one in found if one[0] == "right.py"} == set(), done.stdout
    assert set(found) == {
        ("wrong.py", str(line), kind) for line, kind in enumerate(WRONG.values(), 3)
    }, done.stdout
