"""What `mireg register` and `mireg apply` write: grid, header, type, direction."""

from __future__ import annotations

import gzip
import io
import json
import re
import signal
import threading
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813, the usual name
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from test_cli import files, pair, refused, scans  # noqa: F401, fixtures

from mireg import InputError, Output, write_transform
from mireg._files import nifti
from mireg._files.writing import new_file
from mireg._image import Image
from mireg._transform import RigidTransform
from mireg.cli import main

POSE = RigidTransform([0.1, -0.2, 0.3], [3, -2, 4])

#: Slices of 4 mm, stored sagittally: their axis is the first.
MOVING = np.array([[4.0, 0, 0, -20], [0, 0, -1.5, 20], [0, 1.2, 0, -18], [0, 0, 0, 1]])
FIXED = np.array([[-2, 0, 0, 15.0], [0, 2, 0, -16], [0, 0, 2.5, -14], [0, 0, 0, 1]])


def ramp(points):
    """Intensity at places in RAS+ mm; any way of averaging keeps it."""
    return 300 + points @ [3.0, -2.0, 5.0]


def centres(image):
    """Places of all voxel centres, RAS+ mm, as the affine of the file says."""
    ijk = np.moveaxis(np.indices(image.shape[:3]), 0, -1)
    return nib.affines.apply_affine(image.affine, ijk)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Put a ramp, a series of ramps, a grid and a transform into a folder."""
    monkeypatch.chdir(tmp_path)
    shape = (11, 30, 27)
    data = ramp(centres(nib.Nifti1Image(np.zeros(shape), MOVING)))
    nib.save(nib.Nifti1Image(data.astype("f4"), MOVING), "moving.nii.gz")
    series = nib.Nifti1Image(
        np.stack([data, 2 * data, -data], -1).round().astype(">i2"), MOVING
    )
    header = series.header
    header.set_zooms((4, 1.2, 1.5, 2.2))
    header.set_xyzt_units("mm", "sec")
    header["descrip"] = b"BOLD run 1"
    header["toffset"] = 7
    header["slice_code"] = 3
    header["slice_end"] = 10
    header.set_dim_info(slice=0)
    header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"hello"))
    header.extensions.append(nib.nifti1.Nifti1Extension("afni", b"<AFNI_atr/>"))
    nib.save(series, "series.nii")
    nib.save(nib.Nifti1Image(np.zeros((16, 17, 12), "i2"), FIXED), "fixed.nii")
    write_transform("pose.tfm", POSE)
    return tmp_path


def apply(*argv, image="moving.nii.gz", out="out.nii.gz", like="fixed.nii"):
    """Run `mireg apply` and load what it wrote."""
    place = ["--like", like] if like else []
    argv = ["apply", image, *place, "-t", "pose.tfm", "-o", out, "-q", *argv]
    assert main(argv) == 0
    return nib.load(out)


# --- the grid ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("grid", "zooms", "shape"),
    [
        (["fixed"], (2, 2, 2.5), (16, 17, 12)),
        (["moving"], (4, 1.5, 1.2), (8, 23, 25)),
        (["isotropic", "3"], (3, 3, 3), (11, 12, 10)),
        (["isotropic", "1.1"], (1.1, 1.1, 1.1), (30, 31, 28)),
    ],
)
@pytest.mark.usefixtures("folder")
def test_each_grid_shows_the_same_places(grid, zooms, shape):
    found = apply("--output-grid", *grid, "--fill", "nan")
    np.testing.assert_allclose(found.header.get_zooms(), zooms, rtol=1e-6)
    assert found.shape == shape
    directions = found.affine[:3, :3] / zooms
    np.testing.assert_allclose(directions, np.diag([-1, 1, 1]), atol=1e-6)
    fixed = nib.load("fixed.nii")
    middles = [
        nib.affines.apply_affine(one.affine, (np.array(one.shape) - 1) / 2)
        for one in (found, fixed)
    ]
    np.testing.assert_allclose(*middles, atol=1e-5)
    seen = POSE.apply(centres(found))
    at = nib.affines.apply_affine(np.linalg.inv(MOVING), seen)
    # Away from the borders, where a mean has neighbours on one side only.
    margin = np.array([1, 5, 5])
    inside = ((at > margin) & (at < [10, 29, 26] - margin)).all(axis=-1)
    assert inside.sum() > 100
    np.testing.assert_allclose(found.get_fdata()[inside], ramp(seen)[inside], rtol=2e-3)


@pytest.mark.usefixtures("folder")
def test_the_grid_may_be_given_in_other_ways():
    first = apply("--output-grid", "isotropic", "3", "--dtype", "uint16")
    for words in (["--output-grid=isotropic", "3"], ["--output-grid=isotropic 3"]):
        again = apply(*words, "--dtype", "uint16", out=f"{len(words)}.nii")
        np.testing.assert_array_equal(again.dataobj, first.dataobj)


@pytest.mark.usefixtures("folder")
def test_a_grid_in_a_template_space_says_so():
    for code, expected in ((1, 2), (2, 2), (4, 4)):
        like = nib.load("fixed.nii")
        like.set_sform(FIXED, code)
        like.set_qform(FIXED, code)
        nib.save(like, "like.nii")
        for more in ([], ["--header-only"]):
            header = apply("--force", *more, like="like.nii").header
            codes = int(header["sform_code"]), int(header["qform_code"])
            assert codes == (expected, expected)


# --- only the header --------------------------------------------------------


@pytest.mark.parametrize("like", ["fixed.nii", None])
@pytest.mark.usefixtures("folder")
def test_header_only_moves_the_voxels_and_changes_none(like):
    before = nib.load("series.nii")
    after = apply("--header-only", image="series.nii", like=like)
    np.testing.assert_array_equal(
        after.dataobj.get_unscaled(), before.dataobj.get_unscaled()
    )
    # What was at a place of the moving image is now where the fixed image has it.
    np.testing.assert_allclose(POSE.apply(centres(after)), centres(before), atol=1e-4)
    assert after.get_data_dtype() == np.int16
    same = ("dim", "dim_info", "slice_code", "slice_end", "toffset", "descrip")
    for field in (*same, "xyzt_units"):
        assert after.header[field].tolist() == before.header[field].tolist(), field
    np.testing.assert_allclose(after.header.get_zooms(), before.header.get_zooms())
    assert [e.get_content() for e in after.header.extensions] == [b"hello"]
    np.testing.assert_allclose(after.get_qform(), after.get_sform(), atol=1e-4)
    assert after.header["qform_code"] == after.header["sform_code"] == 2


@pytest.mark.usefixtures("folder")
def test_header_only_is_understood_by_simpleitk():
    after = apply("--header-only")
    theirs = sitk.ReadImage("out.nii.gz")
    for ijk in ((0, 0, 0), (10, 3, 20)):
        x, y, z = theirs.TransformIndexToPhysicalPoint(ijk)
        ours = nib.affines.apply_affine(after.affine, ijk)
        np.testing.assert_allclose([-x, -y, z], ours, atol=1e-3)


@pytest.mark.parametrize("name", ["a.mgz", "a.nii.gz"])
@pytest.mark.usefixtures("folder")
def test_header_only_of_scaled_and_foreign_files(name):
    data = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    if name == "a.mgz":
        nib.save(nib.MGHImage(data, MOVING), name)
    else:
        image = nib.Nifti1Image(data.astype(float) / 7, MOVING)
        image.set_data_dtype(np.uint8)  # nibabel chooses a slope
        nib.save(image, name)
    after = apply("--header-only", image=name)
    np.testing.assert_array_equal(after.get_fdata(), nib.load(name).get_fdata())
    assert after.get_data_dtype() == nib.load(name).get_data_dtype().newbyteorder("=")


@pytest.mark.usefixtures("folder")
def test_header_only_says_that_a_qform_cannot_shear(capsys):
    sheared = MOVING.copy()
    sheared[1, 1] = 0.4
    data = np.ones((5, 30, 30), np.uint8)
    nib.save(nib.Nifti1Image(data, sheared), "tilted.nii")
    argv = ["apply", "tilted.nii", "-t", "pose.tfm", "--header-only", "-o", "out.nii"]
    assert main(argv) == 0
    assert "only the sform says where the voxels are" in (
        said := capsys.readouterr().err
    )
    assert "sheared" in said
    after = nib.load("out.nii")
    assert after.header["qform_code"] == 0
    np.testing.assert_allclose(POSE.matrix @ after.affine, sheared, atol=1e-5)


@pytest.mark.usefixtures("folder")
def test_header_only_says_that_a_qform_is_coarse_near_half_a_turn(capsys):
    turn = RigidTransform([0, np.pi - 7e-4, 0], [0, 0, 0]).matrix
    nib.save(nib.Nifti1Image(np.ones((5, 5, 900), np.uint8), turn), "long.nii")
    np.savetxt("none.txt", np.eye(4))
    argv = ["apply", "long.nii", "-t", "none.txt", "--header-only", "-o", "out.nii"]
    assert main(argv) == 0
    assert "180 degrees" in capsys.readouterr().err
    after = nib.load("out.nii")
    assert after.header["qform_code"] == 0
    np.testing.assert_allclose(after.affine, turn, atol=1e-6)


# --- the other way ----------------------------------------------------------


@pytest.mark.parametrize("name", ["pose.tfm", "pose.mat"])
@pytest.mark.usefixtures("folder")
def test_inverse_undoes_the_transform(name):
    write_transform(
        "pose.mat", POSE, format="fsl", fixed="fixed.nii", moving="moving.nii.gz"
    )
    # By hand: the roles exchanged, and the matrix inverted.
    write_transform("back.tfm", np.linalg.inv(POSE.matrix))
    affine = nib.load("fixed.nii").affine
    data = np.random.default_rng(0).normal(size=(16, 17, 12)).astype("f4")
    nib.save(nib.Nifti1Image(data, affine), "fixed.nii")
    argv = ["apply", "fixed.nii", "--like", "moving.nii.gz", "-q"]
    assert main([*argv, "-t", name, "--inverse", "-o", "a.nii"]) == 0
    assert main([*argv, "-t", "back.tfm", "-o", "b.nii"]) == 0
    ours, theirs = nib.load("a.nii").get_fdata(), nib.load("b.nii").get_fdata()
    assert np.count_nonzero(theirs) > 1000
    np.testing.assert_allclose(ours, theirs, atol=1e-3)


@pytest.mark.usefixtures("folder")
def test_a_chain_is_inverted_whole():
    write_transform("turn.tfm", RigidTransform([0, 0.4, 0], [0, 3, 0]))
    chain = ["-t", "pose.tfm", "turn.tfm"]
    argv = ["apply", "moving.nii.gz", "-q", "--header-only"]
    assert main([*argv, *chain, "-o", "there.nii"]) == 0
    argv[1] = "there.nii"
    assert main([*argv, *chain, "--inverse", "-o", "back.nii"]) == 0
    np.testing.assert_allclose(nib.load("back.nii").affine, MOVING, atol=1e-5)


# --- type and scaling -------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(["uint8", "int16", "uint16", "int32"]),
    st.lists(
        st.floats(-1e6, 1e6, width=32, allow_subnormal=False), min_size=2, max_size=20
    ),
)
def test_what_is_read_back_is_within_half_a_step(dtype, values):
    data = np.reshape(np.float32([*values, 0.25]), (-1, 1, 1))
    image = nib.Nifti1Image(data, np.eye(4))
    stored = nifti.storage(image, dtype)
    file = nib.FileHolder(fileobj=io.BytesIO())
    nifti.dump_image(
        file.fileobj, "a.nii", Image(data, np.eye(4)), template=image, stored=stored
    )
    file.fileobj.seek(0)
    back = nib.Nifti1Image.from_file_map({"header": file, "image": file})
    assert back.get_data_dtype() == np.dtype(dtype)
    step = back.dataobj.slope
    error = np.abs(back.get_fdata() - data)
    rounding = 1e-7 * np.abs(data).max() + 1e-9 * step
    assert error.max() <= step / 2 * (1 + 1e-5) + rounding
    if data.min() >= 0 or np.iinfo(dtype).min < 0:
        assert back.dataobj.inter == 0


@pytest.mark.usefixtures("folder")
def test_types_that_are_asked_for():
    shape = (11, 30, 27)
    labels = np.random.default_rng(0).choice([0.0, 3, 200, 1035], size=shape)
    nib.save(nib.Nifti1Image(labels, MOVING), "labels.nii")
    found = apply("--interpolation", "label", "--dtype", "int16", image="labels.nii")
    assert found.get_data_dtype() == np.int16
    assert (found.dataobj.slope, found.dataobj.inter) == (1, 0)
    assert set(np.unique(found.dataobj)) <= {0, 3, 200, 1035}
    assert len(np.unique(found.dataobj)) > 2
    series = apply("--dtype", "float32", "--force", image="series.nii")
    assert series.get_data_dtype() == np.float32
    kept = apply(image="series.nii", out="kept.nii")
    assert kept.get_data_dtype() == np.int16
    assert np.abs(kept.get_fdata() - series.get_fdata()).max() <= 0.5


@pytest.mark.usefixtures("folder")
def test_whole_numbers_keep_their_scaling_in_another_type():
    image = nib.Nifti1Image(np.arange(60, dtype=np.int16).reshape(3, 4, 5), MOVING)
    image.header.set_slope_inter(0.5, -10)
    stored = nifti.storage(image, "uint8")
    assert (stored.slope, stored.inter) == (1, 0)  # in memory, numbers are intensities
    content = bytearray(image.to_bytes())
    content[112:120] = np.float32([0.5, -10]).tobytes()
    scaled = nib.Nifti1Image.from_bytes(bytes(content))
    stored = nifti.storage(scaled, "uint8")
    assert (stored.slope, stored.inter) == (0.5, -10)
    assert stored.range == (-10, 117.5)


def stored_as(raw, slope):
    """Put stored numbers under a slope."""
    content = bytearray(nib.Nifti1Image(raw, MOVING).to_bytes())
    content[112:120] = np.float32([slope, 0]).tobytes()
    return nib.Nifti1Image.from_bytes(bytes(content))


@pytest.mark.parametrize(("slope", "step"), [(5 / 65535, 13107), (2**-12, 2**12)])
def test_values_are_judged_not_stored_numbers(slope, step):
    labels = np.resize([0, 1, 2, 3, 4, 5], (3, 4, 5))
    opened = stored_as((labels * step).astype(np.uint16), slope)
    stored = nifti.storage(opened, "uint8", labels=True)
    assert stored == nifti.Storage(np.dtype(np.uint8))
    large = stored_as(np.full((3, 4, 5), 600, np.uint16), 0.5)
    with pytest.raises(InputError, match="300 to 300, do not fit uint8"):
        nifti.storage(large, "uint8")


@pytest.mark.usefixtures("folder")
def test_missing_voxels_are_zero_in_an_integer_type():
    data = np.linspace(-5.3, 9, 60, dtype="f4").reshape(3, 4, 5)
    data[1, 1, 1] = np.nan
    image = nib.Nifti1Image(data, MOVING)
    stored = nifti.storage(image, "uint16")
    with new_file("a.nii") as file:
        nifti.dump_image(
            file, "a.nii", Image(data, MOVING), template=image, stored=stored
        )
    back = nib.load("a.nii").get_fdata()
    assert abs(back[1, 1, 1]) < 2e-4
    np.testing.assert_allclose(back[2], data[2], atol=2e-4)


# --- four dimensions, and what stays ----------------------------------------


@pytest.mark.usefixtures("folder")
def test_a_series_is_moved_whole_and_keeps_what_is_not_of_its_grid():
    found = apply("--interpolation", "cubic", "--no-antialias", image="series.nii")
    assert found.shape == (16, 17, 12, 3)
    header = found.header
    assert header.get_zooms()[3] == pytest.approx(2.2)
    assert header.get_xyzt_units() == ("mm", "sec")
    assert header["descrip"].item() == b"BOLD run 1"
    assert header["toffset"] == 7
    # Of the old grid:
    assert header["slice_code"] == 0
    assert [e.get_content() for e in header.extensions] == [b"hello"]
    # scipy reads the same places of each volume.
    pose = np.linalg.inv(MOVING) @ POSE.matrix @ FIXED
    series = nib.load("series.nii").get_fdata()
    at = nib.affines.apply_affine(pose, np.moveaxis(np.indices((16, 17, 12)), 0, -1))
    inside = ((at >= 0) & (at <= np.array(series.shape[:3]) - 1)).all(axis=-1)
    for t in range(3):
        theirs = ndimage.map_coordinates(
            series[..., t], np.moveaxis(at, -1, 0), order=3, mode="mirror"
        )
        ours = np.asarray(found.dataobj[..., t])
        assert inside.sum() > 500
        assert np.abs(ours - theirs)[inside].max() <= 0.501


# --- register ---------------------------------------------------------------


def register(*argv):
    assert main(["register", "t1.nii.gz", *argv, "--init", "header", "-q"]) == 0


def test_register_writes_every_volume_on_the_grid_that_is_asked_for(
    scans,  # noqa: F811
    pair,  # noqa: F811
):
    data = np.stack([pair.moving.data, 2 * pair.moving.data], -1)
    nib.save(nib.Nifti1Image(data, pair.moving.mm_from_ijk), "bold.nii")
    grid = ["--output-grid", "isotropic", "9", "--no-antialias"]
    more = ["--all-volumes", "--dtype", "int16", "--interpolation", "nearest"]
    register("bold.nii", *grid, *more, "--inverse", "-o", "x")
    moved = nib.load("x.nii.gz")
    assert moved.ndim == 4
    assert moved.get_data_dtype() == np.int16
    np.testing.assert_allclose(moved.header.get_zooms()[:3], 9)
    values = moved.get_fdata()
    np.testing.assert_allclose(
        values[..., 1], 2 * values[..., 0], atol=moved.dataobj.slope
    )
    back = nib.load("x_inverse.nii.gz")
    centre = (np.array(back.shape) - 1) / 2
    np.testing.assert_allclose(
        nib.affines.apply_affine(back.affine, centre), pair.moving.centre_mm, atol=1e-3
    )
    options = json.loads((scans / "x.json").read_text())["options"]
    assert options["grid"] == 9
    assert options["all_volumes"] is True
    assert options["antialias"] is False


@pytest.mark.usefixtures("scans")
def test_register_with_header_only_and_the_way_back():
    register("t2.nii.gz", "--header-only", "--inverse", "-o", "x")
    record = json.loads(Path("x.json").read_text())
    pose = np.array(record["moving_from_fixed"])
    for name, before, matrix in (
        ("x.nii.gz", "t2.nii.gz", pose),
        ("x_inverse.nii.gz", "t1.nii.gz", np.linalg.inv(pose)),
    ):
        after = nib.load(name)
        np.testing.assert_allclose(
            matrix @ after.affine, nib.load(before).affine, atol=1e-3
        )
        np.testing.assert_array_equal(
            after.dataobj.get_unscaled(), nib.load(before).dataobj.get_unscaled()
        )


def test_bids_names_of_a_series_and_of_the_way_back(scans):  # noqa: F811
    for old, new in (("t1", "sub-01_T1w"), ("t2", "sub-01_task-x_bold")):
        (scans / f"{old}.nii.gz").rename(scans / f"{new}.nii.gz")
    argv = ["sub-01_T1w.nii.gz", "sub-01_task-x_bold.nii.gz"]
    assert (
        main(
            ["register", *argv, "--init", "header", "-q", "--inverse", "--header-only"]
        )
        == 0
    )
    assert "sub-01_task-x_space-T1w_bold.nii.gz" in files(scans)
    beside = json.loads((scans / "sub-01_space-bold_T1w.json").read_text())
    assert beside["SpatialReference"] == "sub-01_task-x_bold.nii.gz"
    assert beside["Sources"] == ["sub-01_T1w.nii.gz", "sub-01_task-x_bold.nii.gz"]


# --- what is refused --------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--output-grid", "isotropic", "0"], "isotropic MM, such as isotropic 2"),
        (["--output-grid", "isotropic", "x"], "isotropic MM"),
        (["--output-grid", "isotropic"], "isotropic MM"),
        (["--output-grid", "2"], "isotropic MM"),
        (["--output-grid", "isotropic", "0.001"], "choose larger ones"),
        (["--interpolation", "sinc"], "--interpolation"),
        (["--dtype", "int64"], "--dtype"),
        (["--dtype", "uint8"], "do not fit uint8; choose a larger type"),
        (["--dtype", "uint16", "--fill", "-1"], "do not fit uint16"),
        (["--header-only", "--interpolation", "cubic"], "leave out --interpolation"),
        (["--header-only", "--output-grid", "moving"], "leave out --output-grid"),
        (["--header-only", "--no-antialias"], "leave out --no-antialias"),
        (["--header-only", "--fill", "0"], "leave out --fill"),
        (["--header-only", "--dtype", "int16"], "leave out --dtype"),
    ],
)
def test_what_cannot_be_written_is_refused(options, says, folder, capsys):
    before = files(folder)
    argv = ["series.nii", "--like", "fixed.nii", "-t", "pose.tfm", "-o", "out.nii"]
    assert says in refused(capsys, "apply", *argv, *options)
    assert files(folder) == before


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("inverse", [[], ["--inverse"]])
def test_an_image_of_which_nothing_would_be_seen_is_refused(inverse, folder, capsys):
    write_transform("far.tfm", RigidTransform([0, 0, 0], [1000, 0, 0]))
    before = files(folder)
    argv = ["moving.nii.gz", "--like", "fixed.nii", "-t", "far.tfm", "-o", "out.nii"]
    said = refused(capsys, "apply", *argv, *inverse)
    assert "moving.nii.gz: the transform brings its centre 1e+03 mm from" in said
    assert files(folder) == before


@pytest.mark.usefixtures("folder")
def test_an_image_of_which_little_would_be_seen_is_noted(capsys):
    # From 14 to 58 mm to the right, where the grid goes from -16 to 16 mm.
    write_transform("far.tfm", RigidTransform([0, 0, 0], [-36, 0, 0]))
    argv = ["moving.nii.gz", "--like", "fixed.nii", "-t", "far.tfm", "-o", "out.nii"]
    assert main(["apply", *argv]) == 0
    assert "overlap by 6 % only" in capsys.readouterr().err
    assert np.count_nonzero(nib.load("out.nii").get_fdata()) > 0


def test_a_grid_is_needed(folder, capsys):
    argv = ["series.nii", "-t", "pose.tfm", "-o", "out.nii"]
    assert "--like" in refused(capsys, "apply", *argv)
    assert "out.nii" not in files(folder)


def test_outputs_that_contradict_themselves():
    for wrong, says in (
        ({"grid": "other"}, "the grid is 'other'"),
        ({"interpolation": "sinc"}, "interpolation is 'sinc'"),
        ({"header_only": True, "grid": 2.0}, "leave out grid"),
    ):
        with pytest.raises(InputError, match=re.escape(says)):
            Output(**wrong)
    Output(header_only=True, all_volumes=True)


@pytest.mark.usefixtures("folder")
def test_nothing_is_left_when_it_stops_within_a_series(folder, monkeypatch, capsys):
    before = files(folder)
    calls = iter(range(99))

    def stop(*_args, **_more):
        if next(calls) == 20:
            raise KeyboardInterrupt
        return np.zeros((16, 17), np.int16)

    monkeypatch.setattr(nifti, "_as_stored", stop)
    argv = ["series.nii", "--like", "fixed.nii", "-t", "pose.tfm", "-o", "out.nii"]
    assert main(["apply", *argv, "-q"]) == 130
    assert "stopped" in capsys.readouterr().err
    assert files(folder) == before


@pytest.mark.parametrize("size", [0, 1, 2**20, 3 * 2**20 + 5])
def test_what_is_compressed_is_the_same_on_any_number_of_threads(size, rng):
    numbers = rng.integers(0, 9, size, dtype=np.uint8)
    made = set()
    for threads in (1, 2, 5):
        file = io.BytesIO()
        with nifti._compressed(file, "x.gz", threads) as stream:
            stream.write(b"head")
            for part in np.array_split(numbers, 7):
                stream.write(part)
        assert gzip.decompress(file.getvalue()) == b"head" + numbers.tobytes()
        made.add(file.getvalue())
    assert len(made) == 1


@pytest.mark.parametrize("stop", [KeyboardInterrupt, OSError(28, "No space left")])
def test_a_stop_while_it_compresses_waits_for_nobody(stop, rng):
    class Full(io.BytesIO):
        def write(self, content):
            if self.tell() > 2**20:
                raise stop
            return super().write(content)

    noise = rng.integers(0, 256, 2**23, dtype=np.uint8)
    began = time.monotonic()
    told = pytest.raises((KeyboardInterrupt, OSError))
    with told, nifti._compressed(Full(), "x.gz", 4) as stream:
        stream.write(noise)
    while any(t.name.startswith("mireg-gzip") for t in threading.enumerate()):
        assert time.monotonic() - began < 5
        time.sleep(0.01)


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="signals are of Unix")
def test_an_interrupt_at_any_moment_leaves_nothing_or_the_whole_image(tmp_path, rng):
    noise = rng.integers(0, 1000, (128, 128, 60)).astype(np.float32)
    main_thread = threading.get_ident()

    def attempt(path, delay):
        sent = 0.0

        def send():
            nonlocal sent
            sent = time.monotonic()
            signal.pthread_kill(main_thread, signal.SIGINT)

        timer = threading.Timer(delay, send)
        try:
            timer.start()
            nifti.write_image(path, (noise, np.eye(4)))
            timer.join()
            time.sleep(0.1)  # where it comes after all is done
        except KeyboardInterrupt:
            return time.monotonic() - sent
        raise AssertionError("the interrupt is lost")

    began = time.perf_counter()
    nifti.write_image(tmp_path / "whole.nii.gz", (noise, np.eye(4)))
    took = time.perf_counter() - began
    whole = (tmp_path / "whole.nii.gz").read_bytes()
    slowest = 0.0
    for n in range(10):
        path = tmp_path / f"{n}.nii.gz"
        slowest = max(slowest, attempt(path, rng.uniform(0, took)))
        assert not path.exists() or path.read_bytes() == whole
    assert slowest < 1
    assert not list(tmp_path.glob(".mireg-*"))
