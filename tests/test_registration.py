"""What can be done with a registration, and what stands for an image."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813, the usual name
from checks import assert_close_pose

import mireg
from mireg import formats
from mireg.cli import main
from mireg.errors import InputError, MiregWarning
from mireg.phantom import phantom_pair
from mireg.transform import RigidTransform

POSE = RigidTransform([0.15, -0.1, 0.2], [6, -4, 8])
OBLIQUE = np.array([[-2, 0.5, 0, 10], [0, 2, -0.7, -20], [0, 0, 3, -30], [0, 0, 0, 1]])
QUICK = mireg.Settings(samples=20_000)


@pytest.fixture(scope="module")
def pair():
    """Scan a head twice, a small turn apart."""
    return phantom_pair(
        "T1", "T2", pose=POSE, fixed_voxel_size_mm=6, moving_voxel_size_mm=6
    )


@pytest.fixture(scope="module")
def folder(pair, tmp_path_factory):
    """Put both scans into files."""
    path = tmp_path_factory.mktemp("scans")
    int16 = nib.Nifti1Image(np.zeros((1, 1, 1), np.int16), np.eye(4))
    formats.write_image(path / "t1.nii.gz", pair.fixed, template=int16)
    formats.write_image(path / "t2.nii.gz", pair.moving, template=int16)
    return path


@pytest.fixture(scope="module")
def found(folder):
    """Register the two files from their headers."""
    return mireg.register(
        folder / "t1.nii.gz", folder / "t2.nii.gz", init="header", settings=QUICK
    )


def same_bits(a, b):
    return a.moving_from_fixed.tobytes() == b.moving_from_fixed.tobytes()


# --- what stands for an image -------------------------------------------------


def test_every_kind_of_image_gives_one_answer(folder, found):
    paths = [str(folder / name) for name in ("t1.nii.gz", "t2.nii.gz")]
    opened = [nib.load(path) for path in paths]
    kinds = {
        "path": paths,
        "nibabel": opened,
        "array": [(np.asarray(scan.dataobj), scan.affine) for scan in opened],
        "Image": [mireg.read_image(path) for path in paths],
    }
    for name, (fixed, moving) in kinds.items():
        answer = mireg.register(fixed, moving, init="header", settings=QUICK)
        assert same_bits(answer, found), name
    # ITK keeps what the header says in other numbers.
    scans = [sitk.ReadImage(path) for path in paths]
    answer = mireg.register(*scans, init="header", settings=QUICK)
    assert_close_pose(answer.moving_from_fixed, found.moving_from_fixed, mm=0.05)


def test_masks_may_be_arrays(pair, found):
    everywhere = (np.ones((4, 4, 4), bool), np.diag([150.0, 150, 150, 1]))
    everywhere[1][:3, 3] = -225
    answer = mireg.register(
        pair.fixed,
        pair.moving,
        init="header",
        settings=QUICK,
        fixed_mask=everywhere,
        moving_mask=pair.moving,
    )
    assert_close_pose(answer.moving_from_fixed, found.moving_from_fixed, mm=1)
    nothing = (np.zeros((4, 4, 4), bool), np.eye(4))
    with pytest.raises(InputError, match="the mask is empty"):
        mireg.register(pair.fixed, pair.moving, fixed_mask=nothing)


def test_an_image_itself_is_not_copied(pair):
    assert formats.as_image(pair.fixed) is pair.fixed


@pytest.mark.parametrize("dtype", ["u1", ">i2", "i8", "f8"])
def test_an_array_keeps_its_place_and_values(dtype, rng):
    voxels = rng.integers(0, 99, (3, 4, 5)).astype(dtype)
    image = formats.as_image((voxels, OBLIQUE))
    np.testing.assert_array_equal(image.data, voxels)
    np.testing.assert_array_equal(image.mm_from_ijk, OBLIQUE)


def test_of_four_dimensions_the_mean_is_used(rng):
    series = rng.integers(0, 99, (3, 4, 5, 6)).astype(np.int16)
    with pytest.warns(MiregWarning, match="6 volumes; their mean is used"):
        image = formats.as_image((series, OBLIQUE))
    np.testing.assert_allclose(image.data, series.mean(axis=-1), rtol=1e-6)
    last = formats.as_image((series, OBLIQUE), 5)
    np.testing.assert_array_equal(last.data, series[..., 5])
    scan = sitk.GetImageFromArray(series.T, isVector=False)
    np.testing.assert_array_equal(formats.as_image(scan, 5).data, series[..., 5])


def test_a_simpleitk_image_lies_where_itk_says(rng):
    scan = sitk.GetImageFromArray(rng.random((5, 4, 3)))
    turn = sitk.Euler3DTransform((0, 0, 0), 0.3, -0.2, 0.9).GetMatrix()
    scan.SetDirection(turn)
    scan.SetSpacing((1.5, 2.0, 3.5))
    scan.SetOrigin((10.0, -20.0, 30.0))
    image = formats.as_image(scan)
    for ijk in [(0, 0, 0), (2, 1, 4), (1, 3, 2)]:
        x, y, z = scan.TransformIndexToPhysicalPoint(ijk)
        np.testing.assert_allclose(image.to_mm(ijk), [-x, -y, z])
        assert image.data[ijk] == np.float32(scan.GetPixel(*ijk))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (3, "cannot be made of a int"),
        (np.zeros((3, 3, 3)), "cannot be made of a ndarray"),
        ((np.zeros((3, 3, 3)), np.eye(3)), r"the affine has shape \(3, 3\)"),
        ((np.zeros((3, 3)), np.eye(4)), "a 2-D image"),
        ((np.zeros((3, 3, 3)), np.eye(4)), "the image is constant"),
        ((np.zeros((3, 3, 3), complex), np.eye(4)), "a complex image"),
        (sitk.Image([3, 3, 3], sitk.sitkVectorUInt8, 3), "several values a voxel"),
        (sitk.Image([3, 3], sitk.sitkUInt8), "a 2-D image"),
        ("gone.nii", "no such file"),
    ],
)
def test_what_stands_for_no_image(given, says):
    with pytest.raises(InputError, match=says):
        formats.as_image(given)


# --- what it gives ------------------------------------------------------------


def test_resampling_brings_moving_onto_the_grid_of_fixed(found, pair):
    moved = found.resample()
    assert moved.shape == pair.fixed.shape
    np.testing.assert_allclose(moved.mm_from_ijk, pair.fixed.mm_from_ijk, atol=1e-5)
    expected = mireg.resample(found.moving, found.fixed, found.moving_from_fixed)
    inside = ~np.isnan(expected.data)
    np.testing.assert_array_equal(moved.data[inside], expected.data[inside])
    assert (moved.data[~inside] == 0).all()
    assert (found.resample(fill=-5).data[~inside] == -5).all()


def test_it_saves_the_files_of_the_command_line(found, folder, tmp_path, capsys):
    scans = [str(folder / name) for name in ("t1.nii.gz", "t2.nii.gz")]
    argv = ["register", *scans, "--init", "header", "-o", str(tmp_path / "cli"), "-q"]
    formats_ = ["itk", "lta", "fsl"]
    assert main([*argv, "--transform-format", ",".join(formats_)]) == 0
    again = mireg.register(*scans, init="header")
    written = again.save(tmp_path / "lib", transform_formats=formats_)
    assert sorted(path.name for path in written) == sorted(
        path.name.replace("cli", "lib") for path in tmp_path.glob("cli*")
    )
    for path in written:
        twin = path.with_name(path.name.replace("lib", "cli"))
        if path.suffix == ".json":
            one, other = (json.loads(p.read_text()) for p in (path, twin))
            for record in (one, other):
                for stage in ("seconds", "options"):
                    del record[stage]
            assert one == other
        elif path.suffix != ".lta":  # which bears the date
            assert path.read_bytes() == twin.read_bytes(), path.name
    assert nib.load(tmp_path / "lib.nii.gz").get_data_dtype() == np.int16
    with pytest.raises(InputError, match="exists already"):
        found.save(tmp_path / "lib")
    assert found.save(tmp_path / "lib", force=True)
    assert capsys.readouterr().out == ""


def test_arrays_are_saved_too(pair, tmp_path):
    found = mireg.register(
        (pair.fixed.data, pair.fixed.mm_from_ijk),
        (pair.moving.data.astype(np.int16), pair.moving.mm_from_ijk),
        init="header",
        settings=QUICK,
    )
    found.save(tmp_path / "x")
    assert nib.load(tmp_path / "x.nii.gz").get_data_dtype() == np.int16
    record = json.loads((tmp_path / "x.json").read_text())
    assert record["fixed"]["path"] is None
    assert record["fixed"]["shape"] == list(pair.fixed.shape)


def test_the_record_is_ready_for_json(found, folder):
    record = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    np.testing.assert_array_equal(record["moving_from_fixed"], found.moving_from_fixed)
    assert record["moving"]["path"] == str(folder / "t2.nii.gz")
    assert record["moving"]["sha256"] == formats.sha256(folder / "t2.nii.gz")


def test_simpleitk_uses_what_was_found(found, folder, tmp_path):
    """The line of the README: resampling by SimpleITK gives what mireg gives."""
    found.save(tmp_path / "t2_to_t1")
    t1, t2 = (sitk.ReadImage(str(folder / f"{name}.nii.gz")) for name in ("t1", "t2"))
    t2 = sitk.Cast(t2, sitk.sitkFloat32)
    moved = sitk.Resample(t2, t1, sitk.ReadTransform(str(tmp_path / "t2_to_t1.tfm")))
    theirs = sitk.GetArrayFromImage(moved).T
    ours = found.resample().data
    inside = (theirs != 0) & (ours != 0)
    assert inside.mean() > 0.2
    np.testing.assert_allclose(ours[inside], theirs[inside], atol=0.05)


def test_what_is_resampled_is_a_nibabel_image_in_a_line(found, folder):
    """The line of the README: nilearn takes nibabel images."""
    moved = found.resample()
    image = nib.Nifti1Image(moved.data, moved.mm_from_ijk)
    fixed = nib.load(Path(folder) / "t1.nii.gz")
    assert image.shape == fixed.shape
    np.testing.assert_allclose(image.affine, fixed.affine, atol=1e-5)
