"""Files that are not quite there, or not quite files; and stops at the very start."""

from __future__ import annotations

import os
import re
import signal
import struct
import subprocess
import sys
import threading
import time

import nibabel as nib
import numpy as np
import pytest

import mireg
from mireg._files import faults
from mireg._files.formats import read_image
from mireg._prior import Prior
from mireg.cli import main

POSE = mireg.RigidTransform([0.1, 0.2, -0.3], [4, 5, 6])


def patched(path, offset, form, value):
    """Change a number of a header."""
    content = bytearray(path.read_bytes())
    struct.pack_into(form, content, offset, value)
    path.write_bytes(content)
    return path


@pytest.fixture
def by_qform(tmp_path):
    """Write an image that the qform alone places."""
    image = nib.Nifti1Image(np.arange(60, dtype=np.int16).reshape(3, 4, 5), None)
    image.set_qform(np.diag([2.0, 3, 4, 1]), 1)
    image.set_sform(None)
    nib.save(image, tmp_path / "q.nii")
    return tmp_path / "q.nii"


def test_a_voxel_of_no_size_is_missed_in_an_opened_image_too(by_qform):
    patched(by_qform, 80, "<f", 0)
    opened = nib.load(by_qform)
    with pytest.raises(mireg.InputError, match=r"q\.nii: .*axis i is 0 \(pixdim\)"):
        read_image(opened)
    # Whoever has mended it knows better.
    mended = nib.Nifti1Image(opened.dataobj, np.diag([2.0, 3, 4, 1]))
    assert read_image(mended).voxel_size_mm.tolist() == [2, 3, 4]


def test_a_voxel_of_one_mm_is_one_of_one_mm(by_qform):
    patched(by_qform, 80, "<f", 1)
    assert read_image(nib.load(by_qform)).voxel_size_mm.tolist() == [1, 3, 4]


def test_a_minc_image_that_says_no_directions_gets_a_note(tmp_path):
    class Dimension:
        direction_cosines = (1, 0, 0)

    class Minc:
        _dims = (Dimension(), object())

    class Proxy:
        minc_file = Minc()

    opened = nib.Minc1Image(np.zeros((2, 3, 4)), np.eye(4))
    opened._dataobj = Proxy()
    assert "check left and right" in faults.oddities(opened, "a.mnc")[0]
    Minc._dims = (Dimension(),) * 3
    assert faults.oddities(opened, "a.mnc") == []
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes")
@pytest.mark.parametrize("name", ["t.tfm", "t.h5", "t.lta", "t.json", "t.npy"])
def test_a_transform_comes_through_a_pipe(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    grid = mireg.Image(np.zeros((2, 3, 4)), np.eye(4))
    POSE.save(name, fixed=grid, moving=grid)
    content = (tmp_path / name).read_bytes()
    os.mkfifo("pipe")
    for read in (
        lambda: mireg.read_transform("pipe").matrix,
        lambda: main(["convert", "pipe", "out.npy", "-q"]) or np.load("out.npy"),
    ):
        writer = threading.Thread(
            target=lambda: (tmp_path / "pipe").write_bytes(content)
        )
        writer.start()
        np.testing.assert_allclose(read(), POSE.matrix, atol=1e-12)
        writer.join()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("t.tfm", mireg.read_transform),
        ("p.json", Prior.read),
        ("p.npz", Prior.read),
        ("r.json", mireg.Registration.load),
        ("i.nii", mireg.read_image),
        (
            "c.json",
            lambda path: main(["contrast", "gone", "--reference", path]) and None,
        ),
    ],
)
def test_a_link_that_leads_nowhere_is_told(name, read, tmp_path, capsys):
    link = tmp_path / name
    link.symlink_to(tmp_path / ".git" / "annex" / "x")
    told = r"a link whose target, .*annex/x, is missing.*datalad get"
    try:
        read(str(link))
    except mireg.MissingFileError as error:
        said = str(error)
    else:
        said = capsys.readouterr().err
    assert re.search(told, said)
    link.unlink()
    if name != "c.json":
        with pytest.raises(mireg.MissingFileError, match="there is no such file"):
            read(str(link))


def test_a_table_that_is_a_link_to_nowhere_is_told(tmp_path, capsys):
    (tmp_path / "pairs.csv").symlink_to(tmp_path / "gone")
    words = [
        "prior",
        "learn",
        str(tmp_path / "pairs.csv"),
        "-o",
        str(tmp_path / "p.json"),
    ]
    assert main(words) == 2
    assert "datalad get" in capsys.readouterr().err


@pytest.mark.skipif(os.name != "posix", reason="signals are of Unix")
@pytest.mark.parametrize("after", [0.03, 0.06, 0.1, 0.2])
def test_an_interrupt_while_all_is_loaded_shows_no_traceback(after):
    # Python itself and an almost empty package come before what can be caught.
    code = "from mireg.__main__ import main; print('on', flush=True); main()"
    with subprocess.Popen(
        [sys.executable, "-c", code, "demo", "-o", "/nonexistent/x"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        process.stdout.readline()
        time.sleep(after)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate()
    assert b"Traceback" not in said
    assert process.returncode in (2, 130)
