"""Transforms from and to files; other programs have the second word."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import sys
import warnings

import h5py
import nibabel as nib
import nitransforms
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813, the usual name
from checks import HEAD_BOX
from nitransforms.io.afni import AFNILinearTransform
from nitransforms.io.fsl import FSLLinearTransform
from nitransforms.io.lta import FSLinearTransform

from mireg._errors import InputError, MiregWarning, MissingFileError
from mireg._files import hdf5
from mireg._files import transforms as transform_files
from mireg._files.formats import read_image
from mireg._image import Image
from mireg._transform import (
    AffineTransform,
    RigidTransform,
    read_transform,
    write_transform,
)

POSE = RigidTransform([0.4, -0.3, 1.1], [12, -7, 33.3], centre=[5, 6, 7])

#: The corners of a box 200 mm from the origin.
FAR = (np.indices((2, 2, 2)).reshape(3, 8).T - 0.5) * 400

#: Every name that a transform can be written under, and the format to ask for.
FILES = (
    *(("a.tfm", None), ("a.txt", None), ("a.mat", "itk"), ("a.h5", None)),
    *(("a.mat", "fsl"), ("a.lta", None), ("a.aff12.1D", None), ("a.1D", None)),
    *(("a.x5", None), ("a.matrix.txt", None), ("a.npy", None)),
    *(("a.json", None), ("a.mat", "ants")),
)
IDS = [f"{name}-{format}" if format else name for name, format in FILES]


def grid(code, shape, sizes, origin):
    """Make an image without content whose axes go as `code` says."""
    if code == "oblique":
        turn = RigidTransform([0.3, -0.2, 0.4], [0, 0, 0]).matrix[:3, :3]
    else:
        turn = np.diag([1.0 if letter in "RAS" else -1.0 for letter in code])
    affine = np.eye(4)
    affine[:3, :3] = turn * sizes
    affine[:3, 3] = origin
    return nib.Nifti1Image(np.zeros(shape, np.int8), affine)


CODES = ("RAS", "LAS", "LPS", "oblique")


def fixed_image(code):
    return grid(code, (30, 40, 50), [1.5, 2.25, 3.0], [-81, 60.5, -33])


def moving_image(code):
    return grid(code, (64, 33, 20), [0.75, 1.0, 4.5], [31.5, -72, 90.25])


PAIRS = [(fixed, moving) for fixed in CODES for moving in CODES]


def distance(matrix, other, points=FAR):
    """Largest distance in mm between where two matrices put points far out."""
    apart = nib.affines.apply_affine(np.asarray(matrix), points)
    return np.abs(apart - nib.affines.apply_affine(np.asarray(other), points)).max()


def flip(points):
    return np.asarray(points) * [-1, -1, 1]


# --- all formats ------------------------------------------------------------


@pytest.mark.parametrize("codes", PAIRS, ids="-".join)
@pytest.mark.parametrize(("name", "format"), FILES, ids=IDS)
def test_a_round_trip_is_exact_in_every_orientation(name, format, codes, tmp_path):
    images = {"fixed": fixed_image(codes[0]), "moving": moving_image(codes[1])}
    write_transform(tmp_path / name, POSE, format=format, **images)
    back = read_transform(tmp_path / name, **images)
    assert distance(back, POSE.matrix) < 1e-9


@pytest.mark.parametrize(("name", "format"), FILES, ids=IDS)
def test_images_in_files_and_in_memory_give_the_same(name, format, tmp_path):
    fixed, moving = tmp_path / "f.nii", tmp_path / "m.nii.gz"
    nib.save(fixed_image("oblique"), fixed)
    nib.save(moving_image("LPS"), moving)
    write_transform(tmp_path / name, POSE, format=format, fixed=fixed, moving=moving)
    loaded = [nib.load(path) for path in (fixed, moving)]
    for pair in ((fixed, moving), (str(fixed), str(moving)), loaded):
        back = read_transform(tmp_path / name, fixed=pair[0], moving=pair[1])
        assert distance(back, POSE.matrix) < 1e-9
    pair = [Image(image.dataobj, image.affine) for image in loaded]
    back = read_transform(tmp_path / name, fixed=pair[0], moving=pair[1])
    assert distance(back, POSE.matrix) < 1e-4  # pixdim, which these lack, has 7 digits


@pytest.mark.parametrize(("name", "format"), FILES, ids=IDS)
def test_the_same_transform_gives_the_same_bytes(name, format, tmp_path):
    images = {"fixed": fixed_image("LAS"), "moving": moving_image("RAS")}
    for folder in (tmp_path / "1", tmp_path / "2"):
        folder.mkdir()
        write_transform(folder / name, POSE, format=format, **images)
    first, second = ((tmp_path / i / name).read_bytes() for i in "12")
    assert first == second


def test_files_are_not_replaced_unless_forced(tmp_path):
    path = tmp_path / "a.tfm"
    path.write_text("mine")
    with pytest.raises(InputError, match="exists already"):
        write_transform(path, np.eye(4))
    assert path.read_text() == "mine"
    write_transform(path, np.eye(4), force=True)
    assert path.read_text().startswith("#Insight")


@pytest.mark.parametrize(
    ("name", "format", "says"),
    [
        ("a.mat", None, "a.mat: a .mat file can be ITK's or FSL's; say which"),
        ("a.xfm", None, "a.xfm: its suffix does not tell"),
        (
            "a.tfm",
            "spm",
            "'spm' is not a known format; choose one of itk, itk-rigid, fsl, lta",
        ),
        ("a.lta", None, "an LTA means something only together with both images"),
        ("a.mat", "fsl", "the fixed image and the moving image are not given"),
        ("a.1D", None, "an AFNI matrix means"),
    ],
)
def test_what_cannot_be_written(name, format, says, tmp_path):
    with pytest.raises(InputError, match=says):
        write_transform(tmp_path / name, POSE, format=format)
    assert list(tmp_path.iterdir()) == []


def test_only_maps_of_space_are_written(tmp_path):
    with pytest.raises(InputError, match=r"shape \(4, 4\)"):
        write_transform(tmp_path / "a.tfm", np.eye(3))
    with pytest.raises(InputError, match="singular"):
        write_transform(tmp_path / "a.tfm", np.diag([1, 1, 0, 1]))


def test_a_missing_image_is_named(tmp_path):
    images = {"fixed": fixed_image("RAS"), "moving": moving_image("RAS")}
    for name, format in (("a.mat", "fsl"), ("a.1D", None)):
        write_transform(tmp_path / name, POSE, format=format, **images)
        for side, other in (("fixed", "moving"), ("moving", "fixed")):
            with pytest.raises(InputError) as caught:
                read_transform(tmp_path / name, **{side: images[side]})
            assert f"the {other} image is not given" in str(caught.value)
            assert f"the {side} image" not in str(caught.value)


def test_an_asked_for_format_reads_any_name(tmp_path):
    images = {"fixed": fixed_image("LAS"), "moving": moving_image("RAS")}
    write_transform(tmp_path / "flirt.out", POSE, format="fsl", **images)
    with pytest.raises(InputError, match="not recognised as a transform"):
        read_transform(tmp_path / "flirt.out", **images)
    back = read_transform(tmp_path / "flirt.out", format="fsl", **images)
    assert distance(back, POSE.matrix) < 1e-9
    as_rows = read_transform(tmp_path / "flirt.out", format="matrix")
    assert distance(as_rows, POSE.matrix) > 1
    with pytest.raises(
        InputError, match="not recognised as a transform of the format lta"
    ):
        read_transform(tmp_path / "flirt.out", format="lta")


def test_what_says_what_it_is_is_read_under_any_name(tmp_path):
    for name in ("a.tfm", "a.npy", "a.h5"):
        write_transform(tmp_path / name, POSE)
        (tmp_path / name).rename(tmp_path / "renamed.xyz")
        assert distance(read_transform(tmp_path / "renamed.xyz"), POSE.matrix) < 1e-9


def test_without_h5py_one_line_says_what_to_install(tmp_path, monkeypatch):
    write_transform(tmp_path / "a.h5", POSE)
    monkeypatch.setitem(sys.modules, "h5py", None)
    for work in (
        lambda: read_transform(tmp_path / "a.h5"),
        lambda: write_transform(tmp_path / "b.h5", POSE),
        lambda: write_transform(tmp_path / "b.x5", POSE),
    ):
        with pytest.raises(InputError, match=r"pip install h5py"):
            work()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.h5"]


# --- ITK --------------------------------------------------------------------

ITK_FILES = [("a.tfm", None), ("a.txt", None), ("a.mat", "itk"), ("a.h5", None)]


@pytest.mark.parametrize(("name", "format"), ITK_FILES)
def test_simpleitk_agrees_on_points(name, format, tmp_path):
    write_transform(tmp_path / name, POSE, format=format)
    read = sitk.ReadTransform(str(tmp_path / name))
    for point in HEAD_BOX:
        found = flip(read.TransformPoint(flip(point)))
        np.testing.assert_allclose(found, POSE.apply(point), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "name", ["a.tfm", "a.txt", "a.h5", "a.npy", "a.matrix.txt", "a.x5"]
)
def test_every_digit_comes_back(name, tmp_path):
    write_transform(tmp_path / name, POSE)
    np.testing.assert_array_equal(read_transform(tmp_path / name), POSE.matrix)


def itk_transforms():
    """Give one of each kind that ITK writes, turned about a centre."""
    centre, shift = (10.0, -20, 30), (1.0, 2, 3)
    affine = sitk.AffineTransform(3)
    affine.SetMatrix((1.1, 0.1, 0, -0.2, 0.9, 0.05, 0.02, 0, 1.2))
    euler = sitk.Euler3DTransform()
    euler.SetRotation(0.3, -0.5, 0.7)
    zyx = sitk.Euler3DTransform()
    zyx.SetComputeZYX(True)
    zyx.SetRotation(0.3, -0.5, 0.7)
    versor = sitk.VersorRigid3DTransform()
    versor.SetRotation((0.3, -0.5, 0.7), 2.5)
    similarity = sitk.Similarity3DTransform()
    similarity.SetRotation((0.3, -0.5, 0.7), 2.5)
    similarity.SetScale(1.3)
    for transform in (affine, euler, zyx, versor, similarity):
        transform.SetCenter(centre)
        transform.SetTranslation(shift)
        yield transform
    yield sitk.TranslationTransform(3, shift)
    yield sitk.Transform()
    # The last one is applied first; turns and scales do not commute.
    yield sitk.CompositeTransform([affine, versor, sitk.TranslationTransform(3, shift)])


@pytest.mark.parametrize(
    ("transform", "suffix"),
    [
        (transform, suffix)
        for transform in itk_transforms()
        for suffix in (".tfm", ".h5", ".mat")
        # ITK writes neither several nor none as .mat.
        if suffix != ".mat"
        or transform.GetName() not in ("CompositeTransform", "IdentityTransform")
    ],
    ids=lambda value: value if isinstance(value, str) else value.GetName(),
)
def test_what_itk_writes_is_read(transform, suffix, tmp_path):
    path = tmp_path / f"a{suffix}"
    sitk.WriteTransform(transform, str(path))
    matrix = read_transform(path)
    for point in HEAD_BOX:
        expected = flip(transform.TransformPoint(flip(point)))
        np.testing.assert_allclose(matrix.apply(point), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("suffix", [".tfm", ".h5"])
def test_a_composite_with_a_warp_is_refused(suffix, tmp_path):
    field = sitk.DisplacementFieldTransform(
        sitk.Image([3, 4, 5], sitk.sitkVectorFloat64)
    )
    both = sitk.CompositeTransform([sitk.TranslationTransform(3, (1, 2, 3)), field])
    sitk.WriteTransform(both, str(tmp_path / f"a{suffix}"))
    with pytest.raises(InputError, match="holds a DisplacementFieldTransform"):
        read_transform(tmp_path / f"a{suffix}")


def test_the_name_that_ants_gives_an_affine_is_read(tmp_path):
    path = tmp_path / "a.txt"
    write_transform(path, POSE)
    text = path.read_text()
    path.write_text(text.replace("AffineTransform", "MatrixOffsetTransformBase"))
    np.testing.assert_array_equal(read_transform(path), POSE.matrix)
    write_transform(tmp_path / "a.mat", POSE, format="itk")
    content = (tmp_path / "a.mat").read_bytes()
    short, long = (
        b"AffineTransform_double_3_3",
        b"MatrixOffsetTransformBase_double_3_3",
    )
    content = content.replace(
        np.int32(len(short) + 1).tobytes() + short,
        np.int32(len(long) + 1).tobytes() + long,
    )
    (tmp_path / "0GenericAffine.mat").write_bytes(content)
    back = read_transform(tmp_path / "0GenericAffine.mat")
    np.testing.assert_array_equal(back, POSE.matrix)


# --- FSL --------------------------------------------------------------------

#: Worked by hand: 10 voxels of 2 mm from x = 0 to 18, stored either way round. FSL
#: counts from the right in both, so x = 18 - X. 5 mm right and 3 mm back in moving is
#: from moving to fixed, as FSL has it: + 5 and + 3.
FSL = "1 0 0 5\n0 1 0 3\n0 0 1 0\n0 0 0 1\n"
RIGHT_AND_BACK = RigidTransform([0, 0, 0], [5, -3, 0]).matrix
TO_THE_RIGHT = grid("RAS", (10, 9, 8), [2, 3, 4], [0, 0, 0])
TO_THE_LEFT = grid("LAS", (10, 9, 8), [2, 3, 4], [18, 0, 0])


@pytest.mark.parametrize("fixed", [TO_THE_RIGHT, TO_THE_LEFT])
@pytest.mark.parametrize("moving", [TO_THE_RIGHT, TO_THE_LEFT])
def test_an_fsl_matrix_worked_by_hand(fixed, moving, tmp_path):
    path = tmp_path / "a.mat"
    path.write_text(FSL)
    found = read_transform(path, fixed=fixed, moving=moving)
    np.testing.assert_allclose(found, RIGHT_AND_BACK, rtol=0, atol=1e-12)
    images = {"fixed": fixed, "moving": moving}
    write_transform(path, found, format="fsl", force=True, **images)
    rows = [[float(x) for x in row.split()] for row in path.read_text().splitlines()]
    np.testing.assert_allclose(
        rows, [[float(x) for x in r.split()] for r in FSL.splitlines()], atol=1e-12
    )


def test_fsl_takes_the_voxel_size_from_pixdim(tmp_path):
    # 13 mm between slices that a gantry tilted by 22.6 degrees moves by 5 mm: the
    # column is (0, 5, 12), its length is 13, and a scanner may write 12 into pixdim.
    tilted = grid("LAS", (10, 9, 8), [2, 3, 4], [18, 0, 0])
    affine = tilted.affine.copy()
    affine[:3, 2] = [0, 5, 12]
    tilted = nib.Nifti1Image(np.zeros((10, 9, 8), np.int8), affine)
    tilted.header.set_zooms((2, 3, 12))
    path = tmp_path / "a.mat"
    path.write_text("1 0 0 0\n0 1 0 0\n0 0 1 -12\n0 0 0 1\n")
    # Moving to fixed is down by 12 of FSL's mm, so one slice up from fixed to moving.
    found = read_transform(path, fixed=tilted, moving=tilted)
    np.testing.assert_allclose(found.matrix[:3, 3], [0, 5, 12], atol=1e-12)


@pytest.mark.parametrize("codes", PAIRS, ids="-".join)
def test_nitransforms_agrees_on_fsl(codes, tmp_path):
    fixed, moving = fixed_image(codes[0]), moving_image(codes[1])
    write_transform(tmp_path / "a.mat", POSE, fixed=fixed, moving=moving, format="fsl")
    read = FSLLinearTransform.from_filename(tmp_path / "a.mat")
    assert distance(read.to_ras(reference=fixed, moving=moving), POSE.matrix) < 1e-9
    written = FSLLinearTransform.from_ras(POSE.matrix, reference=fixed, moving=moving)
    written.to_filename(tmp_path / "b.mat")
    back = read_transform(tmp_path / "b.mat", fixed=fixed, moving=moving)
    assert distance(back, POSE.matrix) < 1e-5  # it writes 8 decimals


# --- FreeSurfer -------------------------------------------------------------

#: What bbregister wrote for a BOLD scan (src, moving) and a T1 (dst, fixed), and
#: FreeSurfer's lta_convert made of it; both from the test data of nitransforms.
VOX2VOX = """\
2.999451637268066 0.01401854865252972 -0.0740736871957779 35.91539764404297
-0.0287953857332468 -2.145972728729248 -2.794905662536621 245.1114654541016
-0.04953517019748688 2.096330165863037 -2.860595941543579 96.69815826416016
0 0 0 1
"""
RAS2RAS = """\
0.9998173117637634 -0.01668193005025387 0.009299500845372677 0.3410797119140625
0.01651172526180744 0.9996999502182007 0.01808840036392212 -0.4532470703125
-0.009598462842404842 -0.01793161034584045 0.9997929334640503 -9.916595458984375
0 0 0 1
"""
GEOMETRIES = """\
src volume info
valid = 1  # volume info valid
filename = /data/uni_xform_masked.nii.gz
volume = 64 64 34
voxelsize = 3.000000000000000e+00 3.000000000000000e+00 4.000000000000000e+00
xras   = -1.000000000000000e+00 -0.000000000000000e+00 0.000000000000000e+00
yras   = 0.000000000000000e+00 6.858183145523071e-01 7.277727723121643e-01
zras   = -0.000000000000000e+00 -7.277727723121643e-01 6.858183741569519e-01
cras   = -4.697326660156250e+00 -9.175056457519531e+00 1.141981506347656e+01
dst volume info
valid = 1  # volume info valid
filename = /freesurfer/sub-10316/mri/orig.mgz
volume = 256 256 256
voxelsize = 1.000000000000000e+00 1.000000000000000e+00 1.000000000000000e+00
xras   = -1.000000000000000e+00 0.000000000000000e+00 0.000000000000000e+00
yras   = 0.000000000000000e+00 0.000000000000000e+00 -1.000000000000000e+00
zras   = 0.000000000000000e+00 1.000000000000000e+00 0.000000000000000e+00
cras   = -1.008934020996094e+00 4.937973022460938e+00 1.715942382812500e+00
subject sub-10316
fscale 0.100000
"""


def lta(kind, rows, geometries=GEOMETRIES, count=1):
    return (
        f"# transform file\n# created by someone\n\ntype      = {kind} # LINEAR\n"
        f"nxforms   = {count}\nmean      = 0.0000 0.0000 0.0000\n"
        f"sigma     = 10000.0000\n1 4 4\n{rows}{geometries}"
    )


def test_both_kinds_of_lta_that_freesurfer_wrote_say_the_same(tmp_path):
    (tmp_path / "v.lta").write_text(lta(0, VOX2VOX))
    (tmp_path / "r.lta").write_text(lta(1, RAS2RAS))
    by_voxels, by_mm = (read_transform(tmp_path / name) for name in ("v.lta", "r.lta"))
    assert distance(by_voxels, by_mm) < 1e-3  # FreeSurfer reckons in float32
    # bbregister's matrix takes the BOLD to the T1; ours goes from fixed to moving.
    rows = np.array([row.split() for row in RAS2RAS.splitlines()], float)
    as_it_is = AffineTransform.load(tmp_path / "r.lta")
    np.testing.assert_allclose(as_it_is.matrix @ rows, np.eye(4), atol=1e-12)
    assert isinstance(by_mm, RigidTransform)  # its rounding mended
    assert distance(by_mm, as_it_is) < 1e-4


def test_the_middle_of_an_lta_is_half_the_shape(tmp_path):
    # 10 voxels of 2 mm from 0: index 5 is at 10 mm, (shape - 1) / 2 would be at 9.
    images = {"fixed": TO_THE_RIGHT, "moving": TO_THE_LEFT}
    write_transform(tmp_path / "a.lta", RIGHT_AND_BACK, **images)
    lines = (tmp_path / "a.lta").read_text().splitlines()
    src, dst = (lines.index(f"{side} volume info") for side in ("src", "dst"))
    values = [line.partition("=")[2].split() for line in lines]
    assert [float(x) for x in values[dst + 8]] == [10, 13.5, 16]
    assert [float(x) for x in values[src + 8]] == [8, 13.5, 16]
    assert values[src + 3] == ["10", "9", "8"]
    # From moving (src) to fixed (dst): back to the left and to the front.
    at = lines.index("1 4 4")
    rows = np.array([row.split() for row in lines[at + 1 : at + 5]], float)
    np.testing.assert_array_equal(rows[:3, 3], [-5, 3, 0])


def test_an_lta_in_voxels_without_geometry_takes_that_of_the_images(tmp_path):
    # One voxel of moving to one voxel of fixed, index to index.
    invalid = GEOMETRIES.replace("valid = 1  # volume info valid", "valid = 0")
    eye = "1 0 0 0\n0 1 0 0\n0 0 1 0\n0 0 0 1\n"
    (tmp_path / "a.lta").write_text(lta(0, eye, invalid))
    fixed, moving = fixed_image("LPS"), moving_image("oblique")
    found = read_transform(tmp_path / "a.lta", fixed=fixed, moving=moving)
    for ijk in ([0, 0, 0], [3, 5, 7]):
        there = nib.affines.apply_affine(found @ fixed.affine, ijk)
        expected = nib.affines.apply_affine(moving.affine, ijk)
        np.testing.assert_allclose(there, expected, atol=1e-9)
    with pytest.raises(InputError, match="without valid geometries"):
        read_transform(tmp_path / "a.lta")


@pytest.mark.parametrize("codes", PAIRS, ids="-".join)
def test_nitransforms_agrees_on_lta(codes, tmp_path):
    fixed, moving = fixed_image(codes[0]), moving_image(codes[1])
    write_transform(tmp_path / "a.lta", POSE, fixed=fixed, moving=moving)
    read = FSLinearTransform.from_filename(tmp_path / "a.lta")
    assert distance(read.to_ras(), POSE.matrix) < 1e-4  # it reads float32
    affines = (read["src"].as_affine(), read["dst"].as_affine())
    np.testing.assert_allclose(affines, (moving.affine, fixed.affine), atol=1e-5)
    written = FSLinearTransform.from_ras(POSE.matrix, reference=fixed, moving=moving)
    written.to_filename(tmp_path / "b.lta")
    assert distance(read_transform(tmp_path / "b.lta"), POSE.matrix) < 1e-9
    # It names fixed as src; FreeSurfer's bbregister above names moving so.
    assert np.allclose(written["src"].as_affine(), fixed.affine)


# --- AFNI -------------------------------------------------------------------


def test_an_afni_matrix_of_plumb_images(tmp_path):
    # 5 mm right, 3 mm back: AFNI's x goes to the left and y to the back.
    images = {"fixed": TO_THE_RIGHT, "moving": TO_THE_LEFT}
    write_transform(tmp_path / "a.aff12.1D", RIGHT_AND_BACK, **images)
    line = (tmp_path / "a.aff12.1D").read_text().splitlines()[-1]
    assert [float(x) for x in line.split()] == [1, 0, 0, -5, 0, 1, 0, 3, 0, 0, 1, 0]


@pytest.mark.parametrize(
    "text",
    [
        "# 3dvolreg matrices (DICOM-to-DICOM, row-by-row):\n1 0 0 -5 0 1 0 3 0 0 1 0\n",
        "1 0 0 -5\n0 1 0 3\n0 0 1 0\n",
        "# mat44\n 1 0 0 -5\n 0 1 0 3\n 0 0 1 0\n 0 0 0 1\n",
    ],
)
def test_every_shape_of_an_afni_matrix_is_read(text, tmp_path):
    (tmp_path / "a.1D").write_text(text)
    found = read_transform(tmp_path / "a.1D", fixed=TO_THE_LEFT, moving=TO_THE_RIGHT)
    np.testing.assert_allclose(found, RIGHT_AND_BACK, rtol=0, atol=1e-12)


def test_afni_drops_the_obliqueness_of_an_image(tmp_path):
    # Moving is fixed's grid, turned about its first voxel together with the head. AFNI
    # takes both for plumb, so for AFNI they lie alike: the matrix is the identity.
    first = np.array([-20.0, 30, -40])
    turn = RigidTransform([0.2, -0.3, 0.1], [0, 0, 0], centre=first)
    fixed = grid("LAS", (10, 9, 8), [2, 3, 4], first)
    moving = nib.Nifti1Image(fixed.dataobj, turn.matrix @ fixed.affine)
    write_transform(tmp_path / "a.1D", turn, fixed=fixed, moving=moving)
    line = (tmp_path / "a.1D").read_text().splitlines()[-1]
    numbers = [float(x) for x in line.split()]
    np.testing.assert_allclose(numbers, np.eye(4)[:3].ravel(), atol=1e-12)


def test_afni_trusts_the_qform_more_than_the_sform(tmp_path):
    # The sform lies 7 mm further right than the qform, which AFNI takes.
    moving = grid("LAS", (10, 9, 8), [2, 3, 4], [18, 0, 0])
    sform = moving.affine.copy()
    sform[0, 3] += 7
    moving.set_qform(moving.affine, 1)
    moving.set_sform(sform, 1)
    write_transform(tmp_path / "a.1D", np.eye(4), fixed=TO_THE_LEFT, moving=moving)
    numbers = (tmp_path / "a.1D").read_text().splitlines()[-1].split()
    np.testing.assert_allclose(float(numbers[3]), 7, atol=1e-5)


def tilted(qform_code):
    """Slices 13 mm apart along (0, 5, 12), as a gantry tilts them; pixdim says 12."""
    affine = TO_THE_LEFT.affine.copy()
    plumb = nib.Nifti1Image(np.zeros((10, 9, 8), np.int8), affine)
    plumb.header.set_zooms((2, 3, 12))
    affine[:3, 2] = [0, 0, 12]
    plumb.set_qform(affine, qform_code)
    affine[:3, 2] = [0, 5, 12]
    plumb.set_sform(affine, 1)
    plumb.header["pixdim"][3] = 12
    return plumb


@pytest.mark.parametrize(("qform_code", "step"), [(1, 12), (0, 13)])
def test_afni_takes_the_voxel_size_of_the_qform_from_the_header(
    qform_code, step, tmp_path
):
    # With a qform AFNI takes the slices to be 12 mm apart, as pixdim says; with an
    # sform alone 13 mm, the length of its column. So for a matrix that moves nothing,
    # the place of the second slice in AFNI's eyes is (0, 5, 12) in truth.
    (tmp_path / "a.1D").write_text("1 0 0 0 0 1 0 0 0 0 1 0\n")
    images = {"fixed": TO_THE_LEFT, "moving": tilted(qform_code)}
    np.testing.assert_allclose(images["moving"].affine[:3, 2], [0, 5, 12])
    found = read_transform(tmp_path / "a.1D", **images)
    np.testing.assert_allclose(found.apply([18, 0, step]), [18, 5, 12], atol=1e-6)
    found.save(tmp_path / "b.1D", **images)
    line = (tmp_path / "b.1D").read_text().splitlines()[-1]
    numbers = [float(x) for x in line.split()]
    np.testing.assert_allclose(numbers, np.eye(4)[:3].ravel(), atol=1e-6)


def test_a_qform_that_is_no_rotation_is_refused(tmp_path):
    moving = grid("LAS", (10, 9, 8), [2, 3, 4], [18, 0, 0])
    moving.set_qform(moving.affine, 1)
    moving.header["quatern_b"] = 3
    with pytest.raises(InputError, match="its qform, which AFNI reads"):
        write_transform(tmp_path / "a.1D", POSE, fixed=TO_THE_LEFT, moving=moving)


@pytest.mark.parametrize("codes", PAIRS, ids="-".join)
def test_nitransforms_agrees_on_afni(codes, tmp_path):
    fixed, moving = fixed_image(codes[0]), moving_image(codes[1])
    write_transform(tmp_path / "a.1D", POSE, fixed=fixed, moving=moving)
    read = AFNILinearTransform.from_filename(tmp_path / "a.1D")
    assert distance(read.to_ras(reference=fixed, moving=moving), POSE.matrix) < 1e-9
    written = AFNILinearTransform.from_ras(POSE.matrix, reference=fixed, moving=moving)
    written.to_filename(tmp_path / "b.1D")
    back = read_transform(tmp_path / "b.1D", fixed=fixed, moving=moving)
    assert distance(back, POSE.matrix) < 3e-3  # it writes 6 digits


# --- X5 ---------------------------------------------------------------------


@pytest.mark.parametrize("code", CODES)
def test_nitransforms_agrees_on_x5(code, tmp_path):
    fixed = fixed_image(code)
    write_transform(tmp_path / "a.x5", POSE, fixed=fixed)
    read = nitransforms.linear.Affine.from_filename(tmp_path / "a.x5", fmt="X5")
    np.testing.assert_array_equal(read.matrix, POSE.matrix)
    np.testing.assert_array_equal(read.reference.affine, fixed.affine)
    assert tuple(read.reference.shape) == fixed.shape
    written = nitransforms.linear.Affine(POSE.matrix, reference=fixed)
    written.to_filename(tmp_path / "b.x5", fmt="X5")
    np.testing.assert_array_equal(read_transform(tmp_path / "b.x5"), POSE.matrix)
    with h5py.File(tmp_path / "a.x5") as ours, h5py.File(tmp_path / "b.x5") as theirs:
        for place in ("TransformGroup/0", "TransformGroup/0/Domain"):
            assert set(theirs[place].attrs) <= set(ours[place].attrs)
        kind = "TransformGroup/0/Domain", "Coordinates"
        assert ours[kind[0]].attrs[kind[1]] == theirs[kind[0]].attrs[kind[1]]


def test_itk_in_hdf5_turns_about_the_origin(tmp_path):
    write_transform(tmp_path / "a.h5", POSE)
    with h5py.File(tmp_path / "a.h5") as opened:
        centre = opened["TransformGroup/0/TransformFixedParameters"]
        np.testing.assert_array_equal(centre, [0, 0, 0])


def test_other_x5_transforms_are_refused(tmp_path):
    path = tmp_path / "a.x5"
    write_transform(path, POSE)
    with h5py.File(path, "r+") as opened:
        opened["TransformGroup/0"].attrs["Type"] = "nonlinear"
    with pytest.raises(InputError, match="holds a nonlinear transform"):
        read_transform(path)
    write_transform(path, POSE, force=True)
    with h5py.File(path, "r+") as opened:
        opened.copy("TransformGroup/0", "TransformGroup/1")
    with pytest.raises(InputError, match="holds 2 transforms"):
        read_transform(path)


# --- mireg's own record ---


def test_a_record_is_read_whatever_else_it_holds(tmp_path):
    path = tmp_path / "a.json"
    about = {"metric": "nmi", "moving_from_fixed": POSE.matrix.tolist(), "moving": "m"}
    for record in (about, [about]):
        path.write_text(json.dumps(record))
        assert read_transform(path) == POSE
        assert read_transform(path, format="json") == POSE
    path.rename(tmp_path / "b.tfm")
    assert read_transform(tmp_path / "b.tfm") == POSE


def test_what_is_written_as_a_record(tmp_path):
    POSE.save(tmp_path / "a.json")
    record = json.loads((tmp_path / "a.json").read_text())
    assert record == {
        "schema": "mireg-transform/1",
        "moving_from_fixed": POSE.matrix.tolist(),
    }


def test_ants_is_itk(tmp_path):
    POSE.save(tmp_path / "a.mat", format="ants")
    POSE.save(tmp_path / "b.mat", format="itk")
    assert (tmp_path / "a.mat").read_bytes() == (tmp_path / "b.mat").read_bytes()
    assert RigidTransform.load(tmp_path / "a.mat", format="ants") == POSE
    assert transform_files.format_name("ants") == "itk"
    assert transform_files.suffix_of("ants") == ".tfm"


# --- the matrix itself ------------------------------------------------------


@pytest.mark.parametrize("delimiter", [" ", ",", "\t"])
def test_four_rows_of_text(delimiter, tmp_path):
    np.savetxt(
        tmp_path / "a.txt", POSE.matrix, fmt="%.17g", delimiter=delimiter, header="RAS"
    )
    # They could be anybody's: how they are read is said.
    with pytest.warns(
        MiregWarning, match=r"a\.txt: four rows .* RAS\+ mm, points of fix"
    ):
        found = read_transform(tmp_path / "a.txt")
    np.testing.assert_array_equal(found, POSE.matrix)


def test_nothing_is_unpickled(tmp_path):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "sprung"),)

    np.save(tmp_path / "a.npy", np.array([Trap()], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match=r"not an \.npy file"):
        read_transform(tmp_path / "a.npy")
    assert not (tmp_path / "sprung").exists()


# --- single precision ---

#: The last row that FreeSurfer's mri_concatenate_lta leaves now and then, in float32.
SINGLE = "1 0 0 5\n0 1 0 -3\n0 0 1 0\n0 0 0 0.99999988\n"
BACK = "1 0 0 -5\n0 1 0 3\n0 0 1 0\n0 0 0 0.99999988\n"


def contents(last):
    """Files that say the same, 5 mm right and 3 mm back, with a last row like this."""
    rows, back = (text.replace("0.99999988", last) for text in (SINGLE, BACK))
    array = np.array([row.split() for row in rows.splitlines()], np.float32)
    stream = io.BytesIO()
    np.save(stream, array)
    # FSL counts from the right, AFNI to the left and to the back.
    return {
        "a.lta": lta(1, back).encode(),
        "a.matrix.txt": rows.encode(),
        "a.mat": rows.replace("-3", "3").encode(),
        "a.1D": rows.replace(" 5", " -5").replace("-3", "3").encode(),
        "a.npy": stream.getvalue(),
        "a.json": json.dumps({"moving_from_fixed": array.tolist()}).encode(),
    }


@pytest.mark.parametrize("name", contents("1"))
def test_single_precision_is_taken_as_it_is_meant(name, tmp_path):
    images = {"fixed": TO_THE_LEFT, "moving": TO_THE_LEFT}
    for last in ("1", "0.99999988", "1.0000001"):
        (tmp_path / name).write_bytes(contents(last)[name])
        found = read_transform(tmp_path / name, **images)
        np.testing.assert_allclose(found, RIGHT_AND_BACK, rtol=0, atol=1e-12)
    for last in ("0.9999", "1.00002", "2", "0", "-1"):
        (tmp_path / name).write_bytes(contents(last)[name])
        with pytest.raises(InputError, match="last row"):
            read_transform(tmp_path / name, **images)
    for row in ("0 0 1e-6 1", "1e-3 0 0 1"):
        rows = contents("1")[name].replace(b"0 0 0 1\n", row.encode() + b"\n")
        if rows != contents("1")[name]:
            (tmp_path / name).write_bytes(rows)
            with pytest.raises(InputError, match="last row"):
                read_transform(tmp_path / name, **images)


# --- what is not rigid ---


@pytest.mark.parametrize("codes", PAIRS[1::5], ids="-".join)
@pytest.mark.parametrize(("name", "format"), FILES, ids=IDS)
def test_an_affine_comes_back_as_one(name, format, codes, tmp_path):
    affine = AffineTransform(POSE @ np.diag([1.1, 0.9, 1, 1]))
    images = {"fixed": fixed_image(codes[0]), "moving": moving_image(codes[1])}
    affine.save(tmp_path / name, format=format, **images)
    back = read_transform(tmp_path / name, format=format, **images)
    assert isinstance(back, AffineTransform)
    assert distance(back, affine) < 1e-9
    assert (
        distance(AffineTransform.load(tmp_path / name, format=format, **images), back)
        == 0
    )
    with pytest.raises(InputError, match=f"{name}: the transform is not rigid: it str"):
        RigidTransform.load(tmp_path / name, format=format, **images)


def test_images_may_be_whatever_stands_for_one(tmp_path):
    fixed, moving = fixed_image("oblique"), moving_image("LPS")
    POSE.save(tmp_path / "a.1D", fixed=fixed, moving=moving)
    scans = {}
    for side, scan in (("fixed", fixed), ("moving", moving)):
        nib.save(scan, tmp_path / f"{side}.nii")
        scans[side] = sitk.ReadImage(str(tmp_path / f"{side}.nii"))
    back = read_transform(tmp_path / "a.1D", **scans)
    assert distance(back, POSE) < 1e-3  # NIfTI's qform, by way of ITK, has 7 digits
    arrays = {"fixed": (fixed.dataobj, fixed.affine)}
    back = read_transform(tmp_path / "a.1D", **arrays, moving=moving)
    assert distance(back, POSE) < 1e-4


# --- what is refused --------------------------------------------------------

ITK = transform_files.transform_bytes("a.tfm", np.eye(4)).decode()
EYE = "1 0 0 0\n0 1 0 0\n0 0 1 0\n0 0 0 1\n"
ROW = "1 0 0 0 0 1 0 0 0 0 1 0\n"
RECORD = (
    '{"moving_from_fixed": [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]}'
)


def npy(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue().decode("latin-1")


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.tfm", ITK + ITK, "holds 2 transforms"),
        ("a.tfm", ITK.replace("Affine", "Composite"), "holds no transform"),
        ("a.tfm", "#Insight Transform File V1.0\n", "holds no transform"),
        ("a.tfm", ITK.replace("Affine", "DisplacementField"), "not read"),
        ("a.tfm", ITK.replace("3_3", "2_2"), "not read"),
        ("a.tfm", ITK.replace("Parameters: 1 ", "Parameters: "), "damaged"),
        ("a.tfm", ITK.replace("Parameters: 1 ", "Parameters: one "), "not numbers"),
        ("a.tfm", ITK.replace("Parameters: 1 ", "Parameters: 0 "), "singular"),
        ("a.tfm", ITK.replace("Parameters: 1 ", "Parameters: nan "), "finite"),
        ("a.tfm", EYE, "not recognised as a transform"),
        ("a.txt", "1 0 0 0\n0 1 0 0\n0 0 1 0\n", "holds 3 rows of numbers"),
        ("a.txt", "1,0 0,0 0,0 2,5\n" * 4, "rows of 8, 8, 8, 8 numbers.* points bef"),
        ("a.txt", "1 0 0 0\n0 1 0 0\n0 0 1 0\n5 6 7 1\n", "written by columns"),
        ("a.txt", "hello\n", "more than rows of numbers"),
        ("a.txt", "", "holds 0 rows"),
        ("a.txt", "\xff\xfe", "not a text file"),
        ("a.txt", "0" * (1 << 21), "too large"),
        ("a.txt", "1 0 0 5\n0 1 0 0\n0 0 1 0\n1 0 0 1\n", "last row"),
        ("a.mat", EYE, "the fixed image and the moving image are not given"),
        ("a.mat", EYE + EYE, "holds 8 rows"),
        (
            "a.mat",
            "MATLAB 5.0 MAT-file, Platform: GLNXA64",
            "more than rows of numbers",
        ),
        ("a.mat", "\0\0\0\0\x0c\0\0\0", "neither an ITK transform"),
        ("a.h5", "\x89HDF\n", "not recognised as a transform"),
        ("a.h5", "\x89HDF\r\n\x1a\n", "neither an ITK nor an X5"),
        ("a.lta", lta(14, EYE), "type 14"),
        ("a.lta", lta(1, EYE, count=2), "holds 2 transforms"),
        ("a.lta", lta(1, "1 0 0\n"), "matrix is not 4 x 4"),
        ("a.lta", lta("one", EYE), "type is missing"),
        ("a.lta", lta(0, EYE, GEOMETRIES.replace("xras", "x")), "xras is missing"),
        ("a.lta", EYE, "not recognised as a transform"),
        ("a.1D", ROW + ROW + ROW, "holds 3 matrices, one for each volume"),
        ("a.1D", "1 2 3\n", "not the twelve numbers"),
        ("a.npy", npy(np.eye(3)), r"shape \(3, 3\)"),
        ("a.npy", npy(np.eye(4) * 1j), "real numbers"),
        ("a.npy", npy(np.eye(4))[:-9], "not an .npy file of numbers"),
        ("a.xyz", EYE, "bare numbers are told by their suffix"),
        ("a.json", "[]", "a list of 0"),
        ("a.json", f"[{RECORD}, {RECORD}]", "a list of 2, not one transform"),
        ("a.json", "{}", "no moving_from_fixed"),
        ("a.json", "[[1, 0, 0, 0]]", "no moving_from_fixed"),
        ("a.json", '{"moving": {"m.nii": ' + RECORD + "}}", "no moving_from_fixed"),
        ("a.json", RECORD[:-1], "not JSON, or damaged"),
        ("a.json", "[" * 100_000, "not JSON, or damaged"),
        ("a.json", RECORD + " " * (1 << 20), "too large"),
        ("a.json", RECORD.replace("[1,", "[0,"), "singular"),
        ("a.json", RECORD.replace("1", "NaN"), "finite"),
        ("a.json", RECORD.replace("1", '"1"'), "real numbers"),
        ("a.json", RECORD.replace("1", "1" * 400), "real numbers"),
        ("a.json", RECORD.replace("[1,", "["), r"shape \(4, 4\)"),
        ("a.json", EYE, "not recognised as a transform"),
    ],
)
def test_other_transform_files_are_refused(name, content, says, tmp_path):
    path = tmp_path / name
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(InputError, match=says) as caught:
        read_transform(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        r"0\-1\0\5\1\0\0\6\0\0\1\7\0\0\0\1",  # as dcmdump and pydicom show a matrix
        "0\\-1\\0\\5\n1\\0\\0\\6\n0\\0\\1\\7\n0\\0\\0\\1  # by hand\n",
        "0, -1, 0, 5, 1, 0, 0, 6, 0, 0, 1, 7, 0, 0, 0, 1",
    ],
)
def test_the_matrix_of_a_dicom_file_is_read_as_it_is_shown(content, tmp_path):
    path = tmp_path / "a.dicom.txt"
    path.write_text(content)
    # From moving to fixed, LPS: the point 10 left, 20 back goes to 15 right, 16 back.
    read = read_transform(path)
    assert (~read).apply([-10, -20, 30]).tolist() == pytest.approx([15, -16, 37])


def endless(path):
    """Damage an X5 file so that the HDF5 library never ends."""
    write_transform(path, POSE)
    content = bytearray(path.read_bytes())
    heap = content.index(b"GCOL")
    content[heap + 73] = 1  # the third text is said to be longer than all of them
    path.write_bytes(content)


@pytest.mark.parametrize("by_name", [True, False])
def test_a_file_that_the_library_never_ends_with_is_refused(
    by_name, tmp_path, monkeypatch
):
    monkeypatch.setattr(hdf5, "_MOST_BUSY_S", 1)
    path = tmp_path / "a.x5"
    endless(path)
    held = path.open("rb") if by_name else io.BytesIO(path.read_bytes())
    with held as file, pytest.raises(InputError, match="the HDF5 library cannot read"):
        hdf5.check_hdf5(file)


def test_readers_look_before_the_library_does(tmp_path, monkeypatch):
    monkeypatch.setattr(hdf5, "_MOST_BUSY_S", 1)
    path = tmp_path / "a.x5"
    endless(path)
    with pytest.raises(InputError, match="the HDF5 library cannot read it") as caught:
        read_transform(path)
    assert str(caught.value).startswith(f"{path}: damaged")
    minc = tmp_path / "a.mnc"
    minc.write_bytes(path.read_bytes())
    with pytest.raises(InputError, match="the HDF5 library cannot read it"):
        read_image(minc)


def test_a_crash_of_the_library_is_a_damaged_file(tmp_path, monkeypatch):
    monkeypatch.setattr(hdf5, "_LOOK", "import os; os.abort()")
    write_transform(tmp_path / "a.h5", POSE)
    with pytest.raises(InputError, match="the HDF5 library cannot read it"):
        read_transform(tmp_path / "a.h5")


def test_the_folder_one_is_in_is_not_where_modules_are_taken_from(
    tmp_path, monkeypatch
):
    write_transform(tmp_path / "a.h5", POSE)
    (tmp_path / "h5py.py").write_text("import os; os.abort()")
    monkeypatch.chdir(tmp_path)
    assert read_transform("a.h5") == POSE


def test_what_numpy_thinks_of_a_damaged_header_is_not_told(tmp_path):
    # Python 3.11 warns of the backslash, as it does in programs.
    damaged = npy(np.eye(4)).replace("'descr'", r"'des\o'")
    (tmp_path / "a.npy").write_bytes(damaged.encode("latin-1"))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        with pytest.raises(InputError, match=r"not an \.npy file"):
            read_transform(tmp_path / "a.npy")
    assert not told


def test_a_missing_transform_is_refused(tmp_path):
    with pytest.raises(MissingFileError, match="no such file"):
        read_transform(tmp_path / "a.tfm")
    (tmp_path / "b.tfm").symlink_to("gone.tfm")
    with pytest.raises(MissingFileError, match=r"a link whose target, gone\.tfm"):
        read_transform(tmp_path / "b.tfm")
    with pytest.raises(InputError, match="this is a folder; give the file in it"):
        read_transform(tmp_path)
    with pytest.raises(InputError, match="File name too long"):
        read_transform(tmp_path / f"{'a' * 300}.tfm")


@pytest.mark.parametrize(("name", "format"), FILES, ids=IDS)
def test_damaged_files_are_refused_in_one_line(name, format, tmp_path, rng):
    path = tmp_path / name
    images = {"fixed": fixed_image("LAS"), "moving": moving_image("RAS")}
    write_transform(path, POSE, format=format, **images)
    whole = path.read_bytes()
    refused = []
    # What is of HDF5 is looked at by another process, which takes its time to start.
    tries = 6 if b"HDF" in whole[:4] else 60
    for _ in range(tries):
        damaged = bytearray(whole[: rng.integers(1, len(whole) + 1)])
        for _ in range(rng.integers(0, 4)):
            damaged[rng.integers(len(damaged))] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            matrix = read_transform(path, **images)
        except InputError as error:
            refused.append(str(error))
        else:
            assert isinstance(matrix, RigidTransform | AffineTransform)
    assert len(refused) > tries / 3
    assert all(line.startswith(f"{path}: ") for line in refused)
    assert not any("\n" in line for line in refused)


@pytest.mark.parametrize("number", [1e9, 1e200, -1e300])
def test_a_transform_out_of_this_world_is_refused(number, tmp_path):
    matrix = np.eye(4)
    matrix[1, 3] = number
    np.save(tmp_path / "t.npy", matrix)
    with pytest.raises(InputError, match="too large for mm"):
        read_transform(tmp_path / "t.npy")


@pytest.mark.parametrize("degrees", [0, 1e-5, 40, 179.999, 180])
def test_simpleitk_reads_a_rigid_transform_as_rigid(degrees, tmp_path, rng):
    axis = rng.normal(size=3)
    vector = np.deg2rad(degrees) * axis / np.linalg.norm(axis)
    given = RigidTransform(vector, [4, -5, 60], centre=[10, 20, 30])
    path = tmp_path / "t.rigid.tfm"
    write_transform(path, given)
    read = sitk.VersorRigid3DTransform(sitk.ReadTransform(str(path)))
    assert read.GetCenter() == (0, 0, 0)
    for point in rng.normal(scale=100, size=(9, 3)):
        lps = np.array([-1, -1, 1])
        there = read.TransformPoint((point * lps).tolist()) * lps
        # ITK shortens a versor of nearly half a turn.
        atol = 0.01 if degrees > 179 else 1e-9
        np.testing.assert_allclose(there, given.apply(point), atol=atol)
    again = read_transform(path)
    np.testing.assert_allclose(again.matrix, given.matrix, atol=1e-7)


def test_what_is_not_rigid_is_no_rigid_itk_file(tmp_path):
    for matrix in (np.diag([1.01, 1, 1, 1]), np.diag([-1.0, 1, 1, 1])):
        with pytest.raises(InputError, match=r"not rigid.*write it as itk"):
            write_transform(tmp_path / "t.rigid.tfm", matrix)
    assert not [*tmp_path.iterdir()]


def test_a_dicom_matrix_by_hand(tmp_path):
    # A point of the fixed image lies 5 mm further right, 7 mm further back and 3 mm
    # further up in the moving one. DICOM goes the other way: from moving to fixed, 5 mm
    # to the left (its first axis), 7 mm forward (against its second), 3 mm down.
    write_transform(tmp_path / "t.dicom.txt", RigidTransform([0, 0, 0], [5, -7, 3]))
    found = np.loadtxt(tmp_path / "t.dicom.txt")
    np.testing.assert_array_equal(
        found, [[1, 0, 0, 5], [0, 1, 0, -7], [0, 0, 1, -3], [0, 0, 0, 1]]
    )
    # A head that is turned to its left by 90 degrees in the moving image, about the
    # long axis: what is in front in the fixed image is on the left in the moving one.
    write_transform(
        tmp_path / "u.dicom.txt", RigidTransform([0, 0, np.pi / 2], [0] * 3)
    )
    found = np.loadtxt(tmp_path / "u.dicom.txt")
    left, front = [1, 0, 0, 1], [0, -1, 0, 1]
    np.testing.assert_allclose(found @ left, front, atol=1e-12)


@pytest.mark.parametrize("name", ["t.dicom.txt", "renamed.txt", "renamed.dat"])
def test_a_dicom_matrix_comes_back_whatever_its_name(name, tmp_path):
    given = RigidTransform([0.3, -0.2, 2], [4, -5, 60], centre=[10, 20, 30])
    write_transform(tmp_path / name, given, format="dicom")
    again = read_transform(tmp_path / name)
    np.testing.assert_allclose(again.matrix, given.matrix, atol=1e-12)


def test_bare_numbers_in_a_dicom_file_are_a_dicom_matrix(tmp_path):
    np.savetxt(
        tmp_path / "t.dicom.txt",
        [[1, 0, 0, 5], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]],
    )
    found = read_transform(tmp_path / "t.dicom.txt")
    np.testing.assert_array_equal(found.apply([0, 0, 0]), [5, 0, 0])


@pytest.mark.parametrize("versor", ["2 0 0", "1e300 0 0", "nan 0 0"])
def test_a_versor_that_is_no_rotation_is_refused(versor, tmp_path):
    (tmp_path / "t.tfm").write_text(
        "#Insight Transform File V1.0\n#Transform 0\n"
        "Transform: VersorRigid3DTransform_double_3_3\n"
        f"Parameters: {versor} 4 5 6\nFixedParameters: 0 0 0\n"
    )
    with pytest.raises(InputError, match=r"t\.tfm: the versor is longer than 1"):
        read_transform(tmp_path / "t.tfm")


def test_whatever_a_reader_stumbles_over_is_one_line(tmp_path, monkeypatch):
    def stumble(_file, _images):
        raise ZeroDivisionError

    row = dataclasses.replace(transform_files.FORMATS[0], read=stumble)
    monkeypatch.setattr(transform_files, "FORMATS", (row,))
    write_transform(tmp_path / "t.tfm", np.eye(4))
    with pytest.raises(InputError, match=r"t\.tfm: cannot be read as a transform"):
        read_transform(tmp_path / "t.tfm")
