"""Transform files on the command line: convert, and what register and apply take."""

from __future__ import annotations

import json
import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from checks import assert_close_pose
from test_cli import POSE, files, pair, refused, scans  # noqa: F401, fixtures

from mireg._files import transforms as transform_files
from mireg._transform import RigidTransform, read_transform, write_transform
from mireg.cli import main
from mireg.cli.common import TRANSFORM_FORMATS

AFFINE = np.array([[-2, 0, 0, 30], [0, 2.5, 0, -20], [0, 0, 3, -30], [0, 0, 0, 1.0]])
IMAGES = ("--fixed", "fixed.nii", "--moving", "moving.nii")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Put two small images and a transform into a folder, and go there."""
    monkeypatch.chdir(tmp_path)
    ball = np.linalg.norm(np.indices((20, 16, 12)).T - [10, 8, 6], axis=-1).T < 5
    turned = RigidTransform([0.2, 0.1, -0.3], [0, 0, 0]).matrix @ AFFINE
    nib.save(nib.Nifti1Image(ball.astype(np.int16) * 100, AFFINE), "fixed.nii")
    nib.save(nib.Nifti1Image(ball.astype(np.int16) * 100, turned), "moving.nii")
    write_transform("a.tfm", POSE)
    return tmp_path


def said_json(capsys, *argv):
    assert main(["convert", *argv, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


# --- convert ----------------------------------------------------------------


def test_the_formats_that_are_offered_are_those_there_are(capsys):
    assert transform_files.NAMES == TRANSFORM_FORMATS
    assert main(["convert", "--help"]) == 0
    table = {
        line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line
    }
    for row in transform_files.FORMATS:
        if ".hdf5" not in row.suffixes:
            assert " ".join(row.suffixes) in table[row.name]
        needs = {"never": " no ", "always": " yes ", "to write": " to write "}
        assert needs[row.needs_images] in table[row.name]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("out", "options"),
    [
        *(
            ("b.txt", []),
            ("b.h5", []),
            ("b.mat", ["--transform-format", "itk"]),
            ("b.lta", []),
        ),
        *(("b.mat", ["--transform-format", "fsl"]), ("b.aff12.1D", []), ("b.x5", [])),
        *(("b.matrix.txt", []), ("b.npy", []), ("b", ["--transform-format", "npy"])),
        *(("b.json", []), ("b.mat", ["--transform-format", "ants"])),
    ],
)
def test_there_and_back(out, options, capsys):
    assert main(["convert", "a.tfm", out, *IMAGES, *options]) == 0
    assert out in capsys.readouterr().out
    assert main(["convert", out, "c.tfm", *IMAGES, "-q"]) == 0
    assert capsys.readouterr().out == ""
    np.testing.assert_allclose(read_transform("c.tfm"), POSE.matrix, atol=1e-10)


@pytest.mark.usefixtures("folder")
def test_inverted_it_is_between_the_same_images_the_other_way(capsys):
    to_fsl = ["--transform-format", "fsl", "--inverse"]
    assert main(["convert", "a.tfm", "b.mat", *IMAGES, *to_fsl]) == 0
    words = " ".join(capsys.readouterr().out.split())
    assert "points of moving.nii to points of fixed.nii" in words
    assert "it brings fixed.nii onto moving.nii" in words
    back = read_transform("b.mat", fixed="moving.nii", moving="fixed.nii")
    np.testing.assert_allclose(back @ POSE, np.eye(4), atol=1e-10)


@pytest.mark.parametrize(
    ("axis", "degrees", "words"),
    [
        (0, 10, "10.00 nose up"),
        (0, -10, "10.00 nose down"),
        (1, 20, "20.00 top to the right"),
        (1, -20, "20.00 top to the left"),
        (2, 30, "30.00 face to the left"),
        (2, -30, "30.00 face to the right"),
    ],
)
@pytest.mark.usefixtures("folder")
def test_a_turn_is_told_as_it_looks(axis, degrees, words, capsys):
    turn = RigidTransform(np.deg2rad(degrees) * np.eye(3)[axis], [0, 0, 0])
    nose, top = turn.apply([0, 100, 0]), turn.apply([0, 0, 100])
    looks = {"up": nose[2] > 1, "down": nose[2] < -1, "left": nose[0] < -1}
    looks["right"] = nose[0] > 1
    if "top" in words:
        looks = {"right": top[0] > 1, "left": top[0] < -1}
    assert looks[words.split()[-1]]
    write_transform("t.npy", turn)
    assert main(["convert", "t.npy"]) == 0
    assert words in capsys.readouterr().out
    record = said_json(capsys, "t.npy")
    angles = record["rotation_about_right_forward_up_deg"]
    np.testing.assert_allclose(angles, degrees * np.eye(3)[axis], atol=1e-9)
    assert record["rotation_deg"] == pytest.approx(abs(degrees))


@pytest.mark.usefixtures("folder")
def test_a_quarter_turn_forward_is_told_without_a_warning(capsys):
    turn = RigidTransform([0, np.pi / 2, 0], [0, 0, 0])
    write_transform("t.npy", turn)
    assert main(["convert", "t.npy"]) == 0
    said = capsys.readouterr()
    assert "90.00 top to the right" in said.out
    assert said.err == ""


@pytest.mark.usefixtures("folder")
def test_turns_are_told_in_the_order_in_which_they_are_made(capsys):
    about = [
        RigidTransform(a * np.eye(3)[i], [0, 0, 0]) for i, a in enumerate((1, 0.5, 2))
    ]
    write_transform("t.npy", about[2] @ about[1] @ about[0])
    angles = said_json(capsys, "t.npy")["rotation_about_right_forward_up_deg"]
    np.testing.assert_allclose(np.deg2rad(angles), [1, 0.5, 2], atol=1e-12)


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("options", "over", "centre"),
    [
        ((), "a ball of 80 mm at the origin", [0, 0, 0]),
        # Voxel 10, 8, 6 is the middle of the ball: 30 - 20, -20 + 20, -30 + 18.
        (("--fixed", "fixed.nii"), "the anatomy in fixed.nii", [10, 0, -12]),
        # Half of 19, 15, 11 voxels.
        (("--fixed", "flat.nii"), "the field of view of flat.nii", [11, -1.25, -13.5]),
    ],
)
def test_a_shift_moves_every_head_alike(options, over, centre, capsys):
    flat = nib.Nifti1Image(np.ones((20, 16, 12), np.int16), AFFINE)
    nib.save(flat, "flat.nii")
    write_transform("t.tfm", RigidTransform([0, 0, 0], [3, -4, 12]))
    record = said_json(capsys, "t.tfm", *options)
    assert record["displacement_over"] == over
    np.testing.assert_allclose(record["centre_mm"], centre, atol=0.7)
    np.testing.assert_allclose(record["translation_of_centre_mm"], [3, -4, 12])
    assert record["mean_displacement_mm"] == pytest.approx(13)
    assert record["max_displacement_mm"] == pytest.approx(13)
    assert main(["convert", "t.tfm", *options]) == 0
    said = capsys.readouterr().out
    shift = "13.00 mm (3.00 right, 4.00 back, 12.00 up)"
    assert said.count(shift) == (2 if any(centre) else 1)
    assert "then shifted by 13.00 mm (3.00 left, 4.00 forward, 12.00 down)" in said
    assert "of the origin" in said


@pytest.mark.usefixtures("folder")
def test_the_rim_of_a_turned_ball_moves_most(capsys):
    write_transform("t.tfm", RigidTransform([0, 0, np.pi / 2], [0, 0, 0]))
    record = said_json(capsys, "t.tfm")
    # A quarter turn moves a point by its distance from the axis times sqrt(2); in a
    # ball that distance is 3 pi / 16 of the radius on average.
    assert record["max_displacement_mm"] == pytest.approx(80 * 2**0.5)
    mean = 80 * 3 * np.pi / 16 * 2**0.5
    assert record["mean_displacement_mm"] == pytest.approx(mean, rel=0.01)


@pytest.mark.usefixtures("folder")
def test_an_isocentre_about_which_the_image_turns_is_not_shifted(capsys):
    # An MR that lies turned by 5 degrees about the isocentre, and 10 mm to the right:
    # to bring it back it is turned, and shifted by 10 mm to the left.
    isocentre, ten_right = np.array([10, 20, 30.0]), np.array([10.0, 0, 0])
    turn = RigidTransform([0, 0, np.deg2rad(5)], [0, 0, 0], centre=isocentre)
    lies = turn @ RigidTransform([0, 0, 0], ten_right)
    write_transform("t.tfm", lies)
    for given in ("ras:10,20,30", "lps:-10,-20,30"):
        record = said_json(capsys, "t.tfm", *IMAGES, "--centre", given)
        assert record["centre_mm"] == isocentre.tolist()
        np.testing.assert_allclose(
            record["image_translation_mm"], -ten_right, atol=1e-9
        )
        angles = record["image_rotation_about_right_forward_up_deg"]
        np.testing.assert_allclose(angles, [0, 0, -5], atol=1e-9)
        # Points go the other way, and are turned after they are shifted.
        far = record["translation_of_centre_mm"]
        np.testing.assert_allclose(far, turn.apply(isocentre + ten_right) - isocentre)
        # The displacement stays that of the anatomy.
        assert record["displacement_over"] == "the anatomy in fixed.nii"
    argv = ["convert", "t.tfm", *IMAGES, "--centre", "lps:-10,-20,30"]
    assert main(argv) == 0
    words = " ".join(capsys.readouterr().out.split())
    assert "moving.nii is turned about that centre" in words
    assert "5.00 face to the right, then shifted by 10.00 mm (10.00 left" in words
    assert "as LPS mm: 10.00, 0.00, 0.00" in words


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    "given", ["1,2,3", "ras:1,2", "lps:1,2,x", "abc:1,2,3", "ras:1,2,inf"]
)
def test_a_centre_says_its_frame(given, capsys):
    said = refused(capsys, "convert", "a.tfm", "--centre", given)
    assert "is not ras:X,Y,Z or lps:X,Y,Z" in said


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("given", "outside"),
    [
        ("ras:-8,17,3", False),  # the image reaches from -8 to 30 along the first axis,
        ("ras:-8.9,17,3", False),  # and to the rim of its voxels of 2 mm
        ("ras:-9.1,17,3", True),
        ("lps:-9.1,17,3", False),
        ("ras:0,0,200", True),
    ],
)
def test_a_centre_outside_the_fixed_image_is_noted(given, outside, capsys):
    assert main(["convert", "a.tfm", *IMAGES, "--centre", given]) == 0
    note = "--centre lies outside fixed.nii; check its frame and unit"
    assert (note in capsys.readouterr().err) == outside


@pytest.mark.usefixtures("folder")
def test_without_names_an_inverse_brings_the_fixed_image_onto_the_moving_one(capsys):
    assert main(["convert", "a.tfm", "--inverse"]) == 0
    words = " ".join(capsys.readouterr().out.split())
    assert "points of the moving image to points of the fixed image" in words
    assert "so it brings the fixed image onto the moving image" in words


@pytest.fixture
def three(folder):
    """Add a third image, and transforms between them in files of FSL and AFNI."""
    assert (folder / "fixed.nii").exists()
    turned = RigidTransform([0.1, -0.3, 0.2], [5, 6, 7]).matrix @ AFFINE
    nib.save(
        nib.Nifti1Image(np.ones((9, 21, 8), np.int16), turned[:, [1, 0, 2, 3]]), "t.nii"
    )
    second = RigidTransform([-0.1, 0.2, 0.1], [1, 9, -4])
    for format, end in (("fsl", "mat"), ("afni", "aff12.1D")):
        first = {"fixed": "fixed.nii", "moving": "moving.nii", "format": format}
        write_transform(f"one.{end}", POSE, **first)
        after = {"fixed": "t.nii", "moving": "fixed.nii", "format": format}
        write_transform(f"two.{end}", second, **after)
    write_transform("b.tfm", second)
    return POSE @ second


@pytest.mark.parametrize("end", ["mat", "aff12.1D"])
def test_files_of_one_program_are_put_together_without_the_image_between(
    end, three, capsys
):
    ends = ["--fixed", "t.nii", "--moving", "moving.nii", "-q"]
    argv = ["convert", f"one.{end}", "--then", f"two.{end}", f"both.{end}", *ends]
    assert main(argv) == 0
    both = read_transform(f"both.{end}", fixed="t.nii", moving="moving.nii")
    np.testing.assert_allclose(both.matrix, three.matrix, atol=1e-9)
    images = ["apply", "moving.nii", "--like", "t.nii", "-q"]
    assert main([*images, "-t", f"one.{end}", f"two.{end}", "-o", "x.nii"]) == 0
    assert main([*images, "-t", "a.tfm", "b.tfm", "-o", "y.nii"]) == 0
    x, y = (np.asarray(nib.load(f"{n}.nii").dataobj) for n in "xy")
    assert x.any()
    assert np.abs(x.astype(int) - y).max() <= 1
    assert capsys.readouterr().err == ""
    # With another program's file beside it the image between is needed.
    said = refused(capsys, *images, "-t", f"one.{end}", "b.tfm", "-o", "z.nii")
    assert f"one.{end}: says something only together with its two images" in said
    assert "mireg convert IN OUT.tfm --fixed F --moving M" in said


def test_fsl_multiplies_the_matrices_as_convert_xfm_does(three):
    del three
    ends = ["--fixed", "t.nii", "--moving", "moving.nii", "-q"]
    assert main(["convert", "one.mat", "--then", "two.mat", "both.mat", *ends]) == 0
    # convert_xfm -concat two.mat one.mat
    product = np.loadtxt("two.mat") @ np.loadtxt("one.mat")
    np.testing.assert_allclose(np.loadtxt("both.mat"), product, atol=1e-9)
    argv = ["convert", "one.mat", "inv.mat", "--inverse", *IMAGES, "-q"]
    assert main(argv) == 0  # convert_xfm -inverse
    np.testing.assert_allclose(
        np.loadtxt("inv.mat"), np.linalg.inv(np.loadtxt("one.mat")), atol=1e-9
    )


def test_a_chain_is_told_and_may_hold_a_series(three, capsys):
    record = said_json(capsys, "a.tfm", "--then", "b.tfm")
    np.testing.assert_allclose(record["moving_from_fixed"], three.matrix, atol=1e-12)
    assert record["then"] == ["b.tfm"]
    volumes = np.stack([POSE.matrix, np.eye(4)])
    np.save("series.npy", volumes)
    assert main(["convert", "series.npy", "--then", "b.tfm", "all.npy", "-q"]) == 0
    second = read_transform("b.tfm").matrix
    np.testing.assert_allclose(np.load("all.npy"), volumes @ second, atol=1e-12)


@pytest.mark.usefixtures("folder")
def test_bare_rows_are_noted_unless_the_name_or_an_option_says_what_they_are(capsys):
    assert main(["convert", "a.tfm", "rows.matrix.txt", "-q"]) == 0
    Path("rows.txt").write_bytes(Path("rows.matrix.txt").read_bytes())
    assert main(["convert", "rows.txt", "-q"]) == 0
    said = capsys.readouterr().err
    assert said.count("mireg: note: rows.txt: four rows of numbers, read as") == 1
    assert "moving_from_fixed: RAS+ mm" in said
    for argv in (["rows.matrix.txt"], ["rows.txt", "--from", "matrix"]):
        assert main(["convert", *argv, "-q"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("folder")
def test_a_dicom_file_is_told_what_to_do_with(capsys):
    Path("reg.dcm").write_bytes(bytes(128) + b"DICM" + bytes(200))
    said = refused(capsys, "convert", "reg.dcm")
    assert "reg.dcm: a DICOM file, which is not read" in said
    assert ".dicom.txt" in said


@pytest.mark.usefixtures("folder")
def test_what_is_not_rigid_is_said(capsys):
    write_transform("t.tfm", POSE.matrix @ np.diag([0.98, 1, 1.05, 1]))
    assert main(["convert", "t.tfm"]) == 0
    assert "it stretches by 0.9800 to 1.0500" in capsys.readouterr().out
    record = said_json(capsys, "t.tfm")
    assert (record["rigid"], record["mirrors"]) == (False, False)
    assert record["rotation_deg"] == pytest.approx(POSE.angle_deg)
    write_transform("t.tfm", np.diag([-1, 1, 1, 1.0]), force=True)
    assert main(["convert", "t.tfm"]) == 0
    assert "it mirrors" in capsys.readouterr().out
    record = said_json(capsys, "t.tfm")
    assert (record["rigid"], record["mirrors"]) == (False, True)
    assert record["rotation_deg"] == pytest.approx(0, abs=1e-9)


@pytest.mark.usefixtures("folder")
def test_the_record_says_what_was_read_and_written(capsys):
    record = said_json(capsys, "a.tfm", "b.lta", *IMAGES)
    assert (record["file"], record["format"]) == ("a.tfm", "itk")
    assert (record["written"], record["inverted"]) == ("b.lta", False)
    assert (record["fixed"], record["moving"]) == ("fixed.nii", "moving.nii")
    np.testing.assert_array_equal(record["moving_from_fixed"], POSE.matrix)


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["gone.tfm"], "gone.tfm: there is no such file"),
        (["fixed.nii"], "fixed.nii: not recognised as a transform"),
        (
            ["a.tfm", "--from", "lta"],
            "a.tfm: not recognised as a transform of the format lta",
        ),
        (["a.tfm", "--from", "spm"], "--from"),
        (["a.tfm", "b.mat", *IMAGES], "itk or fsl, by --transform-format"),
        (["a.tfm", "b.xyz"], "npy is meant, by --transform-format"),
        (["a.tfm", "b.lta", "--fixed", "fixed.nii"], "the moving image is not given"),
        (["a.tfm", "b.lta", "--fixed", "f.nii", "--moving", "m.nii"], "f.nii: there"),
        (["a.tfm", "b.tfm", "--fixed", "gone.nii"], "gone.nii: there is no such"),
        (["a.tfm", "b.tfm", "--moving", "gone.nii"], "gone.nii: there is no such"),
        (["a.tfm", "a.tfm", "--force"], "this is an input"),
        (
            ["a.tfm", "moving.nii", "--transform-format", "npy"],
            "moving.nii: exists already",
        ),
        (["a.tfm", "gone/b.tfm"], "no such folder"),
    ],
)
def test_what_convert_refuses(argv, says, folder, capsys):
    before = files(folder)
    assert says in refused(capsys, "convert", *argv)
    assert files(folder) == before


@pytest.mark.usefixtures("folder")
def test_options_have_one_name_and_the_old_one_is_noted(capsys):
    assert main(["convert", "a.tfm", "b.txt", "--invert", "--to=dicom"]) == 0
    said = capsys.readouterr().err
    assert "mireg: note: --invert is called --inverse now" in said
    assert "mireg: note: --to is called --transform-format now" in said
    found = read_transform("b.txt", format="dicom")
    np.testing.assert_allclose(found.matrix, (~POSE).matrix, atol=1e-12)
    assert main(["convert", "--help"]) == 0
    assert "--invert" not in capsys.readouterr().out
    argv = ["convert", "a.tfm", "c.txt", "--inverse", "--transform-format", "dicom"]
    assert main(argv) == 0
    assert "note" not in capsys.readouterr().err


def test_register_and_convert_tell_one_translation(scans, capsys):  # noqa: F811
    del scans
    argv = ["register", "t1.nii.gz", "t2.nii.gz", "--init", "header", "-o", "out"]
    assert main(argv) == 0
    registered = capsys.readouterr().out
    images = ["--fixed", "t1.nii.gz", "--moving", "t2.nii.gz"]
    assert main(["convert", "out.tfm", *images]) == 0
    converted = capsys.readouterr().out
    shifts = re.findall(r"[\d.]+ mm \([^)]*(?:up|down)\)", registered)
    assert len(shifts) == 3  # of points, twice, and of the image
    for shift in shifts:
        assert shift in converted
    (centre,) = re.findall(r"of the centre of the anatomy, (.*)", registered)
    assert f"of the centre of the anatomy in t1.nii.gz, {centre}" in converted
    record = json.loads(Path("out.json").read_text())
    moved = np.array(record["moving_from_fixed"]) @ [*record["centre_mm"], 1]
    first = np.linalg.norm(moved[:3] - record["centre_mm"])
    second = np.linalg.norm(np.array(record["moving_from_fixed"])[:3, 3])
    back = np.linalg.inv(record["moving_from_fixed"]) @ [*record["centre_mm"], 1]
    third = np.linalg.norm(back[:3] - record["centre_mm"])
    assert [float(s.split()[0]) for s in shifts] == pytest.approx(
        [first, second, third], abs=0.006
    )


# --- register and apply -----------------------------------------------------

PREFIXED = {
    **{"itk": ".tfm", "fsl": ".mat", "lta": ".lta", "afni": ".aff12.1D"},
    **{"x5": ".x5", "matrix": ".matrix.txt", "npy": ".npy"},
    **{"itk-rigid": ".rigid.tfm", "dicom": ".dicom.txt"},
}


def test_register_writes_the_formats_asked_for(scans, capsys):  # noqa: F811
    argv = ["register", "t1.nii.gz", "t2.nii.gz", "--init", "header", "-o", "out"]
    some = ["--transform-format", "itk,fsl", "--transform-format", "lta, afni,x5,itk"]
    more = ["--transform-format", "matrix,json", "--transform-format"]
    more += ["npy,ants,itk-rigid,dicom"]
    assert main([*argv, *some, *more]) == 0
    said = capsys.readouterr().out
    ends = [".json", ".nii.gz", *PREFIXED.values()]
    written = sorted(f"out{end}" for end in ends)
    assert files(scans) == sorted([*written, "t1.nii.gz", "t2.nii.gz"])
    record = json.loads((scans / "out.json").read_text())
    for name in written:
        assert name in said
    for name, end in {**PREFIXED, "json": ".json"}.items():
        images = {"fixed": "t1.nii.gz", "moving": "t2.nii.gz"}
        found = read_transform(f"out{end}", format=name, **images)
        np.testing.assert_allclose(found, record["moving_from_fixed"], atol=1e-10)


def test_the_record_alone_is_a_transform_file(scans):  # noqa: F811
    argv = ["register", "t1.nii.gz", "t2.nii.gz", "--init", "header", "-o", "out"]
    assert main([*argv, "--transform-format", "json", "-q"]) == 0
    assert files(scans) == ["out.json", "out.nii.gz", "t1.nii.gz", "t2.nii.gz"]
    again = ["apply", "t2.nii.gz", "--like", "t1.nii.gz", "-t", "out.json"]
    assert main([*again, "-o", "again.nii.gz", "-q"]) == 0
    one, two = (np.asarray(nib.load(f"{n}.nii.gz").dataobj) for n in ("out", "again"))
    np.testing.assert_array_equal(one, two)


@pytest.mark.usefixtures("folder")
def test_apply_takes_an_affine_that_is_not_rigid():
    # Twice as far along x about the first voxel: every second voxel is seen.
    middle = np.eye(4)
    middle[0, 3] = -AFFINE[0, 3]
    wider = np.linalg.inv(middle) @ np.diag([2.0, 1, 1, 1]) @ middle
    write_transform("wider.tfm", wider)
    argv = ["apply", "fixed.nii", "--like", "fixed.nii", "--interpolation", "nearest"]
    assert main([*argv, "-t", "wider.tfm", "-o", "out.nii", "-q"]) == 0
    before, after = (
        np.asarray(nib.load(name).dataobj) for name in ("fixed.nii", "out.nii")
    )
    np.testing.assert_array_equal(after[:10], before[::2])
    assert not after[10:].any()
    both = [*argv, "-t", "wider.tfm", "wider.tfm", "--inverse", "-o", "back.nii", "-q"]
    assert main(both) == 0
    after = np.asarray(nib.load("back.nii").dataobj)
    np.testing.assert_array_equal(after[::4], before[:5])


@pytest.mark.usefixtures("scans")
def test_register_starts_from_an_fsl_matrix(capsys):
    images = {"fixed": "t1.nii.gz", "moving": "t2.nii.gz"}
    write_transform("start.mat", POSE, format="fsl", **images)
    argv = ["register", "t1.nii.gz", "t2.nii.gz", "--init", "start.mat", "-o", "x"]
    assert main([*argv, "--transform-format", "npy", "--quiet"]) == 0
    assert_close_pose(np.load("x.npy"), POSE.matrix, mm=1)
    said = refused(capsys, *argv[:-1], "y", "--transform-format", "itk,spm")
    assert "'spm' is not one of itk, itk-rigid, fsl" in said


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("name", "format"), [("b.mat", "fsl"), ("b.aff12.1D", "afni"), ("b.lta", "lta")]
)
def test_apply_reads_what_needs_the_images(name, format, capsys):
    write_transform(name, POSE, fixed="fixed.nii", moving="moving.nii", format=format)
    argv = ["apply", "moving.nii", "--like", "fixed.nii", "-q"]
    assert main([*argv, "-t", name, "-o", "one.nii"]) == 0
    assert main([*argv, "-t", "a.tfm", "-o", "two.nii"]) == 0
    one, two = (np.asarray(nib.load(f"{n}.nii").dataobj) for n in ("one", "two"))
    assert two.any()
    assert np.abs(one.astype(int) - two).max() <= 1  # the last digit, rounded
    if format == "lta":
        return
    for chain in ([name, "a.tfm"], ["a.tfm", name]):
        said = refused(capsys, *argv, "-t", *chain, "-o", "three.nii")
        assert f"{name}: says something only together with its two images" in said
        assert "mireg convert" in said
