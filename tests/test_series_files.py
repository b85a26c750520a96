"""Transforms of a series: what is written, others read, and the other way round."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from checks import GRIDS
from nitransforms import io as nt_io
from nitransforms import linear

from mireg._errors import InputError
from mireg._files.transforms.common import Images
from mireg._files.transforms.series import (
    SERIES_FORMATS,
    fsl_motion,
    holds_series,
    read_series_matrices,
    series_content,
    volreg_motion,
)
from mireg._image import Image
from mireg._transform import RigidTransform

#: Motions of a few volumes.
MATRICES = np.array(
    [
        RigidTransform([0.01 * t, -0.02 * t, 0.015 * t], [0.5 * t, -t, 0.3 * t]).matrix
        for t in range(3)
    ]
)


def reference(name: str) -> Image:
    """Return an image with a centre of gravity off its middle."""
    data = np.zeros((9, 11, 8), np.float32)
    data[2:5, 3:9, 1:6] = 100
    return Image(data, GRIDS[name])


def written(folder: Path, name: str, image: Image) -> Path:
    """Write the motions in a format."""
    content = series_content(name, MATRICES, Images(image, image))
    path = folder / f"moved{SERIES_FORMATS[name].suffix}"
    if isinstance(content, bytes):
        path.write_bytes(content)
        return path
    path.mkdir()
    for part, held in content.items():
        (path / part).write_bytes(held)
    return path


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("name", SERIES_FORMATS)
def test_what_is_written_comes_back(tmp_path, name, grid):
    image = reference(grid)
    if grid == "sheared" and name in ("par", "volreg"):
        with pytest.raises(InputError, match="sheared"):
            written(tmp_path, name, image)
        return
    path = written(tmp_path, name, image)
    assert holds_series(path)
    back = read_series_matrices(path, Images(image, image))
    np.testing.assert_allclose(back, MATRICES, atol=1e-9)


@pytest.mark.parametrize(
    ("name", "fmt", "grid", "mm"),
    [
        ("itk", "itk", "oblique", 1e-3),
        ("afni", "afni", "flipped", 1e-3),
        ("afni", "afni", "straight", 1e-3),
        ("x5", "X5", "oblique", 1e-9),
    ],
)
def test_nitransforms_reads_the_same_motion(tmp_path, name, fmt, grid, mm):
    image = reference(grid)
    path = written(tmp_path, name, image)
    seen = nib.Nifti1Image(image.data, image.mm_from_ijk)
    theirs = linear.LinearTransformsMapping.from_filename(
        path, fmt=fmt, reference=seen, moving=seen
    )
    points = np.array([[0, 0, 0], [40, -30, 20], [-50, 60, 10.0]])
    for t, matrix in enumerate(MATRICES):
        ours = points @ matrix[:3, :3].T + matrix[:3, 3]
        np.testing.assert_allclose(theirs[t].map(points), ours, atol=mm)


@pytest.mark.parametrize("grid", ["straight", "flipped", "oblique"])
def test_nitransforms_reads_each_matrix_of_fsl(tmp_path, grid):
    image = reference(grid)
    folder = written(tmp_path, "fsl", image)
    seen = nib.Nifti1Image(image.data, image.mm_from_ijk)
    for t, matrix in enumerate(MATRICES):
        theirs = nt_io.fsl.FSLLinearTransform.from_filename(folder / f"MAT_{t:04d}")
        ras = theirs.to_ras(reference=seen, moving=seen)
        np.testing.assert_allclose(ras, matrix, atol=1e-5)


def test_numbers_of_fsl_are_those_of_a_motion_worked_out_by_hand():
    # x of this grid runs to the left, as FSL counts: its frame is scaled voxels.
    mm_from_ijk = np.diag([-2.0, 2.0, 2.0, 1.0])
    data = np.zeros((11, 11, 11), np.float32)
    data[5, 6, 5] = 1  # centre of gravity: (10, 12, 10) mm
    image = Image(data, mm_from_ijk)
    shift = np.eye(4)
    shift[0, 3] = 3  # the volume lies 3 mm to the right: bring it to the left, +x
    turn = np.eye(4)
    # The volume is the reference turned about the axis to the top through the centre
    # of gravity, at (-10, 12, 10) in RAS: shifts are none.
    c, s = np.cos(0.1), np.sin(0.1)
    turn[:2, :2] = [[c, -s], [s, c]]
    centre = np.array([-10.0, 12.0])
    turn[:2, 3] = centre - turn[:2, :2] @ centre
    motion = fsl_motion(np.array([shift, turn]), Images(image, image))
    np.testing.assert_allclose(motion[0], [0, 0, 0, 3, 0, 0], atol=1e-12)
    # Back by 0.1 in RAS is forth by 0.1 in a frame whose x is flipped, and FSL's angles
    # are left-handed.
    np.testing.assert_allclose(motion[1], [0, 0, -0.1, 0, 0, 0], atol=1e-12)


def test_numbers_of_volreg_are_those_of_a_motion_worked_out_by_hand():
    image = reference("straight")
    up = np.eye(4)
    up[2, 3] = -4  # the volume lies 4 mm too low
    left = np.eye(4)
    left[0, 3] = 2  # and this one 2 mm too far to the right
    middle = image.centre_mm
    c, s = np.cos(0.2), np.sin(0.2)
    turn = np.eye(4)
    turn[:2, :2] = [[c, s], [-s, c]]  # turned back about the axis to the top
    turn[:3, 3] = middle - turn[:3, :3] @ middle
    rows = volreg_motion(np.array([up, left, turn]), Images(image, image))
    np.testing.assert_allclose(rows[0], [0, 0, 0, 4, 0, 0], atol=1e-12)
    np.testing.assert_allclose(rows[1], [0, 0, 0, 0, 2, 0], atol=1e-12)
    np.testing.assert_allclose(rows[2], [np.rad2deg(0.2), 0, 0, 0, 0, 0], atol=1e-9)


def test_numbers_of_volreg_turn_as_afnis_elementary_rotations():
    # AFNI: rotation from axis a toward b by th has sin(th) in row a, column b; -rotate
    # negates th; roll about I-S (z), pitch about R-L (x), yaw about A-P (y), in turn.
    def afni(axis: int, degrees: float) -> np.ndarray:
        a, b = (axis + 1) % 3, (axis + 2) % 3
        th, m = -np.deg2rad(degrees), np.eye(3)
        m[a, a] = m[b, b] = np.cos(th)
        m[a, b], m[b, a] = np.sin(th), -np.sin(th)
        return m

    image = reference("straight")
    lps = np.eye(4)
    lps[:3, :3] = afni(1, 3) @ afni(0, -2) @ afni(2, 5)
    flip = np.diag([-1.0, -1, 1, 1])
    reference_from_volume = flip @ lps @ flip
    found = volreg_motion(
        np.linalg.inv(reference_from_volume)[None], Images(image, image)
    )
    np.testing.assert_allclose(found[0, :3], [5, -2, 3], atol=1e-9)


@pytest.mark.parametrize("words", ["", "1 2 3\n", "1 2 3 4 5 6\n1 2\n"])
def test_other_files_are_refused_in_one_line(tmp_path, words):
    path = tmp_path / "motion.par"
    path.write_text(words)
    with pytest.raises(InputError, match=r"motion\.par"):
        read_series_matrices(path, Images())
    assert not holds_series(path)


def test_one_transform_is_no_series(tmp_path):
    path = tmp_path / "one.npy"
    np.save(path, np.eye(4))
    assert not holds_series(path)
    with pytest.raises(InputError, match=r"not \(n, 4, 4\)"):
        read_series_matrices(path, Images())
