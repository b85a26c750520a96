"""Directions worked out by hand: in every orientation and file the same."""

from __future__ import annotations

import json

import h5py
import nibabel as nib
import numpy as np
import pytest
from checks import assert_close_pose

from mireg._files.formats import read_image
from mireg._image import Image
from mireg._register import register
from mireg._resample import resample
from mireg._transform import RigidTransform, read_transform, write_transform
from mireg.phantom import phantom_pair


def blob(x, y, z):
    """Return a smooth scene without symmetry, at points in RAS+ mm."""
    return 100 * np.exp(-((x - 1) ** 2 + (y + 2) ** 2 + z**2) / 30) + 60 * np.exp(
        -((x + 4) ** 2 + (y - 3) ** 2 + (z - 3) ** 2) / 12
    )


def stored(code):
    """Return the shape and affine of a grid whose axes go as `code` says."""
    if code == "oblique":
        affine = RigidTransform([0.2, -0.1, 0.3], [0, 0, 0]).matrix
        affine[:3, 3] = affine[:3, :3] @ [-12.5, -13, -13.5]
        return (26, 27, 28), affine
    low, size = np.array([-8, -9, -10]), np.array([17, 19, 21])
    affine = np.eye(4)
    shape = []
    for axis, letter in enumerate(code):
        world = next(i for i, pair in enumerate(("LR", "PA", "IS")) if letter in pair)
        forward = letter in "RAS"
        affine[:3, axis] = 0
        affine[world, axis] = 1 if forward else -1
        affine[world, 3] = low[world] if forward else low[world] + size[world] - 1
        shape.append(int(size[world]))
    return tuple(shape), affine


CODES = ("RAS", "LAS", "LPS", "PSR", "oblique")


def scene(code, pose=None):
    """Scan the scene on a grid; `pose` moves the scene first (moving_from_scene)."""
    shape, affine = stored(code)
    empty = Image(np.zeros(shape), affine)
    points = empty.to_mm(np.moveaxis(np.indices(shape), 0, -1))
    if pose is not None:
        points = pose.inverse().apply(points)
    return Image(blob(*np.moveaxis(points, -1, 0)), affine)


FIVE_RIGHT = RigidTransform([0, 0, 0], [5, 0, 0])


def test_the_grids_are_what_their_names_say():
    for code in CODES[:-1]:
        assert "".join(nib.aff2axcodes(stored(code)[1])) == code


@pytest.fixture(scope="module")
def heads():
    """Scan a head twice; in the second scan it lies 5 mm further right."""
    return phantom_pair(
        "T1", "T2", pose=FIVE_RIGHT, fixed_voxel_size_mm=5, moving_voxel_size_mm=5
    )


@pytest.mark.parametrize("turned", [(0, 0), (1, 0), (1, 1)])
def test_five_mm_right_is_plus_five_in_the_corner(heads, turned):
    # The head lies 5 mm further right in the moving scan. So the moving point that
    # shows the anatomy of a fixed point is 5 mm further right: +5 in [0, 3].
    data, affine = heads.moving.data, heads.moving.mm_from_ijk
    for axis, flip in enumerate(turned):  # the same scan, stored the other way
        if flip:
            last = np.eye(4)
            last[axis, axis], last[axis, 3] = -1, data.shape[axis] - 1
            data, affine = np.flip(data, axis), affine @ last
    moving = Image(data.transpose(2, 0, 1), affine[:, [2, 0, 1, 3]])
    found = register(heads.fixed, moving, init="header").moving_from_fixed
    expected = np.eye(4)
    expected[0, 3] = 5
    assert_close_pose(found, expected, mm=1)


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("like", ["RAS", "LPS"])
def test_resampled_with_the_truth_the_scenes_match(code, like):
    pose = RigidTransform([0.1, -0.2, 0.15], [2, -1, 1])
    fixed, moving = scene(like), scene(code, pose)
    moved = resample(moving, fixed, pose.matrix, interpolation="cubic").data
    points = pose.apply(fixed.to_mm(np.moveaxis(np.indices(fixed.shape), 0, -1)))
    ijk = nib.affines.apply_affine(np.linalg.inv(moving.mm_from_ijk), points)
    # Mirrored at its ends the spline is flat there, which this scene is not.
    inside = ((ijk >= 3) & (ijk <= np.array(moving.shape) - 4)).all(axis=-1)
    assert inside.mean() > 0.2
    assert np.abs(moved - fixed.data)[inside].max() < 0.5  # of 100


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".mgz"])
def test_each_file_format_and_orientation_reads_alike(code, suffix, tmp_path):
    image = scene(code)
    path = tmp_path / f"scan{suffix}"
    kind = nib.MGHImage if suffix == ".mgz" else nib.Nifti1Image
    kind(image.data, image.mm_from_ijk).to_filename(path)
    back = read_image(path)
    np.testing.assert_array_equal(back.data, image.data)
    np.testing.assert_allclose(back.mm_from_ijk, image.mm_from_ijk, atol=1e-5)


#: Columns of a grid along its world axes; the oblique one is turned about z so that
#: 5 mm to the right are 4 mm along its first axis and 3 mm back along its second.
TURNED = {
    "RAS": np.diag([1.0, 1, 1]),
    "LAS": np.diag([-1.0, 1, 1]),
    "LPS": np.diag([-1.0, -1, 1]),
    "oblique": np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1]]),
}

#: What a file says of 5 mm to the right from fixed to moving, both on such a grid.
#: ITK's and AFNI's x goes to the left; AFNI lays the axes of an oblique image onto
#: those of the world. LTA and FSL say the way back, from moving to fixed. FSL's x goes
#: against the first axis, unless that mirrors the others: to the left, left, right,
#: and back along the first axis.
BY_HAND = {
    "itk": dict.fromkeys(TURNED, (-5, 0, 0)),
    "lta": dict.fromkeys(TURNED, (-5, 0, 0)),
    "afni": {**dict.fromkeys(TURNED, (-5, 0, 0)), "oblique": (-4, 3, 0)},
    "fsl": {
        "RAS": (5, 0, 0),
        "LAS": (5, 0, 0),
        "LPS": (-5, 0, 0),
        "oblique": (4, 3, 0),
    },
    **{
        kind: dict.fromkeys(TURNED, (5, 0, 0))
        for kind in ("x5", "json", "matrix", "npy")
    },
}


def shift_in(kind, path):
    """Read the translation out of a file, by no way of mireg's."""
    if kind == "npy":
        return np.load(path)[:3, 3]
    if kind == "x5":
        with h5py.File(path) as file:
            return file["TransformGroup/0/Transform"][:3, 3]
    if kind == "json":
        return np.array(json.loads(path.read_text())["moving_from_fixed"])[:3, 3]
    lines = path.read_text().splitlines()
    if kind == "itk":
        return np.array(lines[3].split()[10:], float)
    if kind == "afni":
        return np.array(lines[1].split(), float)[3::4]
    first = lines.index("1 4 4") + 1 if kind == "lta" else 0
    return np.array([line.split()[3] for line in lines[first : first + 3]], float)


@pytest.mark.parametrize("code", TURNED)
@pytest.mark.parametrize("kind", BY_HAND)
def test_five_mm_right_in_each_file_and_orientation(kind, code, tmp_path):
    affine = np.eye(4)
    affine[:3, :3] = TURNED[code] * [2, 3, 4]
    affine[:3, 3] = [30, -40, 50]
    image = nib.Nifti1Image(np.zeros((10, 9, 8), np.int8), affine)
    images = {"format": kind, "fixed": image, "moving": image}
    FIVE_RIGHT.save(tmp_path / "there", **images)
    found = shift_in(kind, tmp_path / "there")
    np.testing.assert_allclose(found, BY_HAND[kind][code], atol=1e-6)
    back = RigidTransform.load(tmp_path / "there", **images)
    np.testing.assert_allclose(back.apply([1, 2, 3]), [6, 2, 3], atol=1e-9)
    # The other way round it is 5 mm to the left, and both together stay.
    (~FIVE_RIGHT).save(tmp_path / "back", **images)
    found = shift_in(kind, tmp_path / "back")
    np.testing.assert_allclose(found, np.negative(BY_HAND[kind][code]), atol=1e-6)
    both = RigidTransform.load(tmp_path / "back", **images) @ back
    np.testing.assert_allclose(both, np.eye(4), atol=1e-9)


def test_five_mm_right_in_an_itk_file_is_minus_five(tmp_path):
    # ITK's x goes to the left.
    write_transform(tmp_path / "t.tfm", FIVE_RIGHT)
    line = (tmp_path / "t.tfm").read_text().splitlines()[3]
    assert line == "Parameters: 1 0 0 0 1 0 0 0 1 -5 0 0"
    np.testing.assert_array_equal(read_transform(tmp_path / "t.tfm"), FIVE_RIGHT.matrix)
