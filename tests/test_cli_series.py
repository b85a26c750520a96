"""`mireg series`, and what `apply` and `convert` make of the transforms of a series."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from mireg._files.transforms.common import Images
from mireg._files.transforms.series import SERIES_FORMATS as FORMATS
from mireg._files.transforms.series import read_series_matrices
from mireg.cli import main
from mireg.cli.series import SERIES_FORMATS

#: The volumes are whole voxels of 3 mm apart.
AFFINE = np.diag([3.0, 3, 3, 1])


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Go to a folder with a series of three volumes, each one voxel further right."""
    rng = np.random.default_rng(3)
    texture = ndimage.gaussian_filter(rng.random((30, 26, 24)), 2)
    texture = (texture - texture.min()) / np.ptp(texture)
    x, y, z = np.indices(texture.shape)
    inside = ((x - 15) / 9) ** 2 + ((y - 13) / 10) ** 2 + ((z - 12) / 9) ** 2 < 1
    head = ndimage.gaussian_filter(1000 * inside * (0.3 + texture), 1)
    volumes = [head[2 - t : 28 - t] for t in range(3)]
    image = nib.Nifti1Image(np.stack(volumes, -1).astype(np.int16), AFFINE)
    image.header.set_zooms((3, 3, 3, 2))
    nib.save(image, tmp_path / "bold.nii.gz")
    nib.save(image.slicer[..., 0], tmp_path / "first.nii.gz")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def folder_text(name: str) -> list[str]:
    """Return the lines of a file."""
    return Path(name).read_text().splitlines()


def matrices() -> np.ndarray:
    """Return what the series moves by."""
    each = np.tile(np.eye(4), (3, 1, 1))
    each[:, 0, 3] = [0, 3, 6]
    return each


def test_the_formats_that_are_offered_are_those_there_are():
    assert tuple(FORMATS) == SERIES_FORMATS


@pytest.mark.usefixtures("folder")
def test_a_series_is_brought_into_line(capsys):
    words = ["series", "bold.nii.gz", "-o", "moved", "--reference", "0", "--plot"]
    assert main([*words, "--transform-format", "itk,par,npy"]) == 0
    told = capsys.readouterr().out
    assert "bold.nii.gz, 3 volumes:" in told
    assert "3.0" in told  # mm of framewise displacement
    found = np.load("moved.npy")
    middle = np.array([39.0, 36, 36, 1])
    np.testing.assert_allclose(found @ middle, matrices() @ middle, atol=0.3)
    moved = nib.load("moved.nii.gz")
    before = nib.load("bold.nii.gz")
    assert moved.header.get_zooms() == before.header.get_zooms()
    inner = (slice(4, -4),) * 3
    spread = np.std(moved.get_fdata()[inner], axis=-1).mean()
    assert spread < 0.15 * np.std(before.get_fdata()[inner], axis=-1).mean()
    image = Images("moved_reference.nii.gz", "bold.nii.gz")
    np.testing.assert_allclose(
        read_series_matrices("moved.par", image), found, atol=1e-6
    )
    columns = [line.split("\t") for line in folder_text("moved_confounds.tsv")]
    displacement = columns[0].index("framewise_displacement")
    assert float(columns[1 + 1][displacement]) == pytest.approx(3, abs=0.3)
    assert main([*words, "-q"]) == 2
    assert "exists already" in capsys.readouterr().err


@pytest.mark.usefixtures("folder")
def test_each_volume_is_moved_by_its_own_transform():
    np.save("moves.npy", matrices())
    words = ["apply", "bold.nii.gz", "--like", "first.nii.gz", "-t", "moves.npy"]
    assert main([*words, "-o", "moved.nii.gz", "-q"]) == 0
    moved = nib.load("moved.nii.gz")
    first = nib.load("first.nii.gz").get_fdata()
    assert moved.get_data_dtype() == np.int16
    for t in range(3):
        np.testing.assert_array_equal(moved.get_fdata()[:24, ..., t], first[:24])


@pytest.mark.usefixtures("folder")
def test_a_chain_may_hold_a_series_and_one_transform():
    np.save("moves.npy", matrices())
    back = np.eye(4)
    back[0, 3] = -3  # all one voxel further
    np.save("back.npy", back)
    words = ["apply", "bold.nii.gz", "--like", "first.nii.gz", "-q"]
    assert main([*words, "-t", "moves.npy", "back.npy", "-o", "out.nii.gz"]) == 0
    moved = nib.load("out.nii.gz").get_fdata()
    first = nib.load("first.nii.gz").get_fdata()
    for t in range(3):
        np.testing.assert_array_equal(moved[1:24, ..., t], first[:23])


@pytest.mark.usefixtures("folder")
def test_other_numbers_of_transforms_and_volumes_are_refused(capsys):
    np.save("moves.npy", matrices()[:2])
    words = ["apply", "bold.nii.gz", "--like", "first.nii.gz", "-t", "moves.npy"]
    assert main([*words, "-o", "out.nii.gz"]) == 2
    assert "3 volumes, and there are 2 transforms" in capsys.readouterr().err


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("out", "more"),
    [
        *(("b.txt", []), ("b.mat", []), ("b.par", []), ("b.aff12.1D", [])),
        *(("b.volreg.1D", []), ("b_lta", []), ("b.x5", []), ("c", ["--to", "lta"])),
    ],
)
def test_a_series_of_transforms_is_converted_and_back(out, more, capsys):
    np.save("moves.npy", matrices())
    images = ["--fixed", "first.nii.gz", "--moving", "bold.nii.gz"]
    assert main(["convert", "moves.npy", out, *images, *more]) == 0
    told = capsys.readouterr().out
    assert "3 volumes" in told
    assert "6.00 mm at most" in told
    assert main(["convert", out, "back.npy", *images, "-q"]) == 0
    np.testing.assert_allclose(np.load("back.npy"), matrices(), atol=1e-9)


@pytest.mark.usefixtures("folder")
def test_what_is_said_is_said_as_json(capsys):
    np.save("moves.npy", matrices())
    assert main(["convert", "moves.npy", "--json", "--invert"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["volumes"] == 3
    assert record["mean_displacement_mm"] == pytest.approx([0, 3, 6])
    np.testing.assert_allclose(record["moving_from_fixed"], np.linalg.inv(matrices()))
