"""Inputs that broke other tools: a right answer, or one line that says why not.

What concerns one module alone is tested there: which files are refused, scaling and
headers in `test_formats` and `test_cli`, intensity scales in `test_intensity`, masks,
identical and aligned images in `test_register`.
"""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813, the usual name
from checks import GRIDS

from mireg._errors import InputError
from mireg._image import Image
from mireg._prepare import voxel_centres
from mireg._register import register
from mireg._settings import Settings
from mireg._transform import RigidTransform
from mireg.cli import main
from mireg.phantom import (
    TISSUES,
    Contrast,
    Head,
    brain_points,
    hard_pair,
    make_phantom,
    random_pose,
)

#: For what is much like a case that is not marked so.
slow = pytest.mark.slow

QUICK = Settings(orientations=800, candidates=5, samples=20_000)
BRAIN = brain_points(0, spacing_mm=10)
MIDDLE = BRAIN.mean(axis=0)
NEAR = RigidTransform([0.06, -0.04, 0.05], [3, -2, 4], MIDDLE)
FAR = random_pose(np.random.default_rng(3))


def error_mm(found, truth):
    """Return the mean target registration error in the brain."""
    return RigidTransform.from_matrix(found).mean_displacement(BRAIN, truth)


@pytest.fixture(scope="module")
def t1():
    """Scan a head."""
    return make_phantom("T1", voxel_size_mm=4.6)


@pytest.fixture(scope="module")
def t2():
    """Scan it again, nearly as it lay."""
    return make_phantom("T2", voxel_size_mm=5, scan_from_head=NEAR)


def elsewhere(image, motion):
    """Return an image of which only the header says that it lies elsewhere."""
    return Image(image.data, motion.matrix @ image.mm_from_ijk)


# --- starts -----------------------------------------------------------------------

QUARTER, HALF = np.pi / 2, np.pi


@pytest.mark.parametrize(
    "motion",
    [
        pytest.param(RigidTransform(turn, shift, MIDDLE), id=name, marks=marks)
        for name, turn, shift, marks in [
            ("90 pitch", [QUARTER, 0, 0], [0, 0, 0], ()),
            ("90 yaw", [0, 0, -QUARTER], [0, 0, 0], slow),
            ("180 roll", [0, HALF, 0], [0, 0, 0], slow),
            ("180 yaw", [0, 0, HALF], [0, 0, 0], ()),
            ("150 mm", [0, 0, 0], [90, -90, 80], ()),
            ("no overlap", [HALF, 0, 0], [3000, 0, -2000], slow),
        ]
    ],
)
def test_a_bad_start_does_not_matter(motion, t1, t2):
    found = register(t1, elsewhere(t2, motion), settings=QUICK).moving_from_fixed
    assert error_mm(found, motion @ NEAR) < 0.6


# --- fields of view, grids, scanners ------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "limit"),
    [
        ("thick", 1.5),  # 3 x 3 x 12 mm against 4 mm
        ("ct", 1.0),  # table, head-holder, neck, metal, -1024
        ("ct-gantry", 1.0),  # tilted by 18 degrees, -3024
    ],
)
def test_hard_scans_are_registered_from_nowhere(kind, limit):
    pair = hard_pair(kind, seed=1, voxel_scale=2)
    found = register(pair.fixed, pair.moving, settings=QUICK)
    error = found.transform.mean_displacement(pair.points, pair.moving_from_fixed)
    assert error < limit


@pytest.mark.parametrize(
    "slices", [2, pytest.param(3, marks=slow), pytest.param(10, marks=slow)]
)
def test_a_few_slices_are_registered_from_nearby(slices):
    start = RigidTransform([0.04, 0.05, -0.03], [3, 2, -4], MIDDLE)
    affine = start.matrix @ np.diag([3.0, 3, 4, 1])
    shape = (64, 76, slices)
    affine[:3, 3] += MIDDLE - affine[:3] @ [*(np.array(shape) - 1) / 2, 1]
    few = make_phantom("T2", scan_from_head=NEAR, grid=(shape, NEAR.matrix @ affine))
    whole = make_phantom("T1", voxel_size_mm=3)
    points = BRAIN[np.abs(few.to_ijk(NEAR.apply(BRAIN))[:, 2] - (slices - 1) / 2) < 4]
    for fixed, moving in ((whole, few), (few, whole)):
        found = register(fixed, moving, init="header", settings=QUICK).transform
        if fixed is few:
            found = found.inverse()
        assert found.mean_displacement(points, NEAR) < 1.0


@pytest.mark.parametrize(
    "grid",
    [
        "flipped",
        "sheared",
        *(pytest.param(g, marks=slow) for g in ("oblique", "straight")),
    ],
)
def test_grids_of_every_kind_are_registered(grid, t1):
    # Flipped and permuted axes, oblique, 13.5 degrees of shear.
    steps = GRIDS[grid][:3, :3] * 3
    shape = np.array([240, 270, 250]) / np.linalg.norm(steps, axis=0)
    if grid == "flipped":
        shape = np.array([240, 250, 270]) / np.linalg.norm(steps, axis=0)
    shape = tuple(int(n) for n in np.ceil(shape))
    affine = np.eye(4)
    affine[:3, :3] = steps
    affine[:3, 3] = voxel_centres(t1).mean(axis=0) - steps @ (np.array(shape) - 1) / 2
    image = make_phantom("T2", scan_from_head=FAR, grid=(shape, FAR.matrix @ affine))
    found = register(t1, image, settings=QUICK).moving_from_fixed
    assert error_mm(found, FAR) < 1.0


# --- intensities --------------------------------------------------------------------


def without_air(image, pose):
    """Make everything outside of the head NaN."""
    table = {tissue: float(tissue != "air") for tissue in TISSUES}
    points = pose.inverse().apply(voxel_centres(image))
    head = Head.from_seed(0).sample(points, table).reshape(image.shape) > 0.5
    return Image(np.where(head, image.data, np.nan), image.mm_from_ijk)


def susceptibility():
    """Return a contrast of both signs, about nothing, as of QSM."""
    table = dict.fromkeys(TISSUES, 0.0)
    table |= {"grey": 0.05, "deep": 0.12, "white": -0.06, "csf": 0.01, "blood": 0.2}
    return Contrast(table, noise="gaussian", noise_level=0.004)


@pytest.mark.parametrize("side", [pytest.param("fixed", marks=slow), "moving"])
@pytest.mark.parametrize(
    "what", ["nan", "negative", "signed", pytest.param("spike", marks=slow)]
)
def test_odd_intensities_are_registered_from_nowhere(what, side, t1):
    moving = make_phantom("T2", voxel_size_mm=5, scan_from_head=FAR)

    def odd(image, pose):
        if what == "nan":
            return without_air(image, pose)
        if what == "negative":
            return Image(image.data - 30_000, image.mm_from_ijk)
        if what == "signed":
            return make_phantom(
                susceptibility(), voxel_size_mm=4.6, scan_from_head=pose
            )
        data = image.data.copy()
        data[3:5, 3:5, 3:5] = 1e7
        return Image(data, image.mm_from_ijk)

    if side == "fixed":
        found = register(odd(t1, RigidTransform.identity()), moving, settings=QUICK)
    else:
        found = register(t1, odd(moving, FAR), settings=QUICK)
    assert error_mm(found.moving_from_fixed, FAR) < 1.5


@pytest.mark.parametrize("side", [pytest.param("fixed", marks=slow), "moving"])
def test_labels_are_registered_from_nearby(side, t1, t2):
    # Numbers without order, as of a segmentation.
    names = (0, 41, 3, 17, 42, 2, 24, 4, 10, 12, 49, 7, 16)

    def segmented(image, pose):
        points = pose.inverse().apply(voxel_centres(image))
        shares = [
            Head.from_seed(0).sample(points, {t: float(t == tissue) for t in TISSUES})
            for tissue in TISSUES
        ]
        numbers = np.array(names)[np.argmax(shares, axis=0)]
        return Image(numbers.reshape(image.shape), image.mm_from_ijk)

    if side == "fixed":
        images = segmented(t1, RigidTransform.identity()), t2
    else:
        images = t1, segmented(t2, NEAR)
    found = register(*images, init="header", settings=QUICK)
    assert error_mm(found.moving_from_fixed, NEAR) < 1.0


# --- masks --------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["fixed_mask", "moving_mask"])
@pytest.mark.parametrize("size", [0.05, 0.6, 1.0, 3.0])
def test_a_mask_of_one_voxel_is_refused(role, size, t1, t2):
    image = t1 if role == "fixed_mask" else t2
    affine = np.diag([size, size, size, 1])
    affine[:3, 3] = image.to_mm(np.rint(image.to_ijk(MIDDLE)))
    mask = Image(np.ones((1, 1, 1)), affine)
    with pytest.raises(InputError, match="mask"):
        register(t1, t2, init="header", settings=QUICK, **{role: mask})


@pytest.mark.parametrize("role", ["fixed_mask", "moving_mask"])
def test_a_mask_of_half_the_brain_is_enough(role, t1, t2):
    affine = np.diag([9.0, 11, 10, 1])
    affine[:3, 3] = MIDDLE - [0, 75, 50]
    mask = Image(np.ones((9, 14, 11)), affine)
    found = register(t1, t2, init="header", settings=QUICK, **{role: mask})
    assert error_mm(found.moving_from_fixed, NEAR) < 1.0


# --- files, through the command line ------------------------------------------------


def written(path, image, dtype, slope, inter, **header):
    """Write a NIfTI file whose voxels hold (intensity - inter) / slope."""
    raw = np.rint((image.data - inter) / slope).astype(dtype)
    nii = nib.Nifti1Image(raw, image.mm_from_ijk)
    nii.set_sform(image.mm_from_ijk, header.get("sform_code", 1))
    nii.set_qform(header.get("qform", image.mm_from_ijk), header.get("qform_code", 1))
    nii.to_filename(path)
    content = bytearray(path.read_bytes())
    content[112:120] = np.float32([slope, inter]).tobytes()
    if "stored_slope" in header:
        content[112:116] = np.float32(header["stored_slope"]).tobytes()
    path.write_bytes(content)
    return path


def shifted(image, mm):
    """Return an affine some way to the right."""
    affine = image.mm_from_ijk.copy()
    affine[0, 3] += mm
    return affine


@pytest.mark.parametrize(
    ("header", "scale", "notes"),
    [
        ({}, ("i2", 0.25, -5000), 0),
        ({"stored_slope": np.nan}, ("i2", 1, 0), 0),
        ({"stored_slope": 0}, ("u2", 1, 0), 0),
        ({"qform": "shifted"}, ("i2", 1, 0), 1),
        ({"qform": "shifted", "qform_code": 0}, ("i2", 1, 0), 0),
    ],
    ids=["all negative", "slope NaN", "slope 0", "two forms", "sform alone"],
)
def test_odd_headers_are_read_as_they_are_meant(
    header, scale, notes, t1, t2, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    if header.get("qform") == "shifted":
        header = {**header, "qform": shifted(t2, 60)}
    dtype, slope, inter = scale
    image = Image(t2.data + inter, t2.mm_from_ijk)
    written(
        tmp_path / "t2.nii", image, dtype, slope, inter - 1000 * (inter < 0), **header
    )
    written(tmp_path / "t1.nii", t1, "i2", 1, 0)
    assert main(["register", "t1.nii", "t2.nii", "-o", "x", "--init", "header"]) == 0
    record = json.loads((tmp_path / "x.json").read_text())
    assert error_mm(record["moving_from_fixed"], NEAR) < 0.6
    assert len(record["warnings"]) == notes


@pytest.mark.parametrize(("code", "mm"), [(3, 1e-3), pytest.param(1, 1e3, marks=slow)])
def test_a_pair_of_different_units_is_registered_in_mm(
    code, mm, t1, t2, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    other = Image(t2.data, np.diag([1 / mm, 1 / mm, 1 / mm, 1]) @ t2.mm_from_ijk)
    written(tmp_path / "t1.nii", t1, "i2", 1, 0)
    path = written(tmp_path / "t2.nii", other, "i2", 1, 0)
    content = bytearray(path.read_bytes())
    content[123] = code
    path.write_bytes(content)
    assert main(["register", "t1.nii", "t2.nii", "-o", "x", "--init", "header"]) == 0
    assert "t2.nii: the header counts lengths in" in capsys.readouterr().err
    record = json.loads((tmp_path / "x.json").read_text())
    assert error_mm(record["moving_from_fixed"], NEAR) < 0.6
    # Another program resamples the file with the transform as it is.
    moved = sitk.Resample(
        sitk.ReadImage("t2.nii"), sitk.ReadImage("t1.nii"), sitk.ReadTransform("x.tfm")
    )
    ours = sitk.GetArrayFromImage(sitk.ReadImage("x.nii.gz"))
    theirs = sitk.GetArrayFromImage(moved)
    assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > 0.99
    argv = ["apply", "t2.nii", "--like", "t1.nii", "-t", "x.tfm", "-o", "again.nii.gz"]
    assert main(argv) == 0
    again = sitk.GetArrayFromImage(sitk.ReadImage("again.nii.gz"))
    np.testing.assert_allclose(again, ours, atol=1)
    assert capsys.readouterr().err.count("scaled to mm") == 1


def test_headers_that_place_nothing_are_told_and_searched(
    t1, t2, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    # Stored with x to the left, as programs assume of a file that does not say.
    left_first = np.diag([-1.0, 1, 1, 1])
    left_first[0, 3] = t2.shape[0] - 1
    stored = Image(t2.data[::-1], t2.mm_from_ijk @ left_first)
    path = written(tmp_path / "t2.nii", stored, "i2", 1, 0)
    content = bytearray(path.read_bytes())
    content[252:256] = bytes(4)  # qform_code and sform_code
    path.write_bytes(content)
    written(tmp_path / "t1.nii", t1, "i2", 1, 0)
    assert main(["register", "t1.nii", "t2.nii", "-o", "x"]) == 0
    record = json.loads((tmp_path / "x.json").read_text())
    assert len(record["warnings"]) == 1
    # The grid now lies where nibabel puts it: follow the anatomy there.
    placed = nib.load(path).affine @ np.linalg.inv(stored.mm_from_ijk)
    found = np.linalg.inv(placed) @ record["moving_from_fixed"]
    assert error_mm(found, NEAR) < 0.6


def test_files_without_overlap_are_registered_or_refused(
    t1, t2, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    away = RigidTransform([0, 0, 2], [2000, 0, 0])
    written(tmp_path / "t1.nii", t1, "i2", 1, 0)
    written(tmp_path / "t2.nii", elsewhere(t2, away), "i2", 1, 0)
    argv = ["register", "t1.nii", "t2.nii", "-o", "x"]
    assert main([*argv, "--init", "header"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "do not overlap" in said
    assert sorted(p.name for p in tmp_path.iterdir()) == ["t1.nii", "t2.nii"]
    assert main(argv) == 0
    record = json.loads((tmp_path / "x.json").read_text())
    assert record["initial_score"] is None
    assert error_mm(record["moving_from_fixed"], away @ NEAR) < 0.6
    assert "(before: no overlap)" in capsys.readouterr().out
