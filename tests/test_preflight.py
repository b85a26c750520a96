"""What the headers say: by hand, by counting voxels, and as it is told."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog
from scipy.spatial import ConvexHull, HalfspaceIntersection
from scipy.spatial.transform import Rotation

import mireg
from mireg import _preflight as preflight
from mireg._files import formats
from mireg._image import Image
from mireg.cli import main
from mireg.phantom import phantom_pair

NIBABEL_DATA = Path(nib.__file__).parent / "tests" / "data"


def image(shape=(20, 22, 24), affine=None):
    """Make an image with something in it."""
    voxels = np.arange(np.prod(shape)).reshape(shape)
    return Image(voxels, np.eye(4) if affine is None else affine)


def placed(matrix=None, shift=(0, 0, 0)):
    """Make an affine of a 3x3 matrix and where the first voxel is."""
    affine = np.eye(4)
    affine[:3, :3] = np.eye(3) if matrix is None else matrix
    affine[:3, 3] = shift
    return affine


# --- one image ----------------------------------------------------------------


@pytest.mark.parametrize("letters", ["RAS", "LAS", "LPS", "PIR", "SAR"])
def test_axes_and_handedness(letters):
    steps = {"R": [1, 0, 0], "L": [-1, 0, 0], "A": [0, 1, 0], "P": [0, -1, 0]}
    steps |= {"S": [0, 0, 1], "I": [0, 0, -1]}
    turned = placed(np.transpose([steps[letter] for letter in letters]))
    report = preflight.inspect_image(image(affine=turned))
    # Right-handed: thumb, first and second finger of the right hand.
    x, y, z = (turned[:3, i] for i in range(3))
    assert report.axes == letters
    assert report.right_handed == (np.dot(np.cross(x, y), z) > 0)
    assert (report.oblique_deg, report.shear_deg) == (0, 0)
    assert report.notes == ()


def test_sides_and_turns_of_an_oblique_scan():
    turn = Rotation.from_euler("x", 20, degrees=True).as_matrix()
    report = preflight.inspect_image(image(affine=placed(turn * [1, 1.5, 2])))
    np.testing.assert_allclose(report.voxel_size_mm, [1, 1.5, 2])
    np.testing.assert_allclose(report.field_of_view_mm, [20, 33, 48])
    assert report.oblique_deg == pytest.approx(20)
    assert report.shear_deg == pytest.approx(0, abs=1e-6)


def test_a_tilted_gantry_is_noted():
    tilt = np.deg2rad(13.5)
    slices = np.array([[1, 0, 0], [0, 1, 3 * np.tan(tilt)], [0, 0, 3]])
    report = preflight.inspect_image(image(affine=placed(slices)), "ct.nii")
    assert report.shear_deg == pytest.approx(13.5)
    (note,) = report.notes
    assert note.startswith("ct.nii: its voxel axes are 14 degrees from square")
    assert note.endswith("used as they are")


@pytest.mark.parametrize(
    ("shape", "size", "thin"),
    [
        ((20, 20, 20), (1, 1, 1), ()),
        ((64, 64, 3), (3, 3, 20), (2,)),
        ((64, 1, 64), (3, 60, 3), (1,)),
        ((200, 30, 200), (1, 1, 1), (1,)),
        ((200, 50, 200), (1, 1, 1), ()),
    ],
)
def test_thin_axes(shape, size, thin):
    report = preflight.inspect_image(image(shape, placed(np.diag(size))))
    assert report.thin_axes == thin
    assert len(report.notes) == len(thin)


def test_qform_and_sform_are_compared_at_the_corners(tmp_path):
    scan = nib.Nifti1Image(np.arange(8000, dtype="i2").reshape(20, 20, 20), None)
    scan.set_sform(np.diag([2.0, 2, 2, 1]), 1)
    scan.set_qform(placed(np.diag([2.0, 2, 2]), (3, 0, 4)), 2)
    nib.save(scan, tmp_path / "a.nii")
    taken = formats.take_volume(nib.load(tmp_path / "a.nii"))
    report = preflight.inspect_image(taken)
    assert report.qform_sform_mm == pytest.approx(5, abs=1e-4)
    assert (report.sform_code, report.qform_code) == (1, 2)
    (note,) = report.notes
    assert "up to 5 mm apart; the sform is used" in note


def test_what_is_no_data_and_what_cannot_be_registered():
    voxels = np.arange(8000.0).reshape(20, 20, 20)
    voxels[:5] = np.nan
    report = preflight.inspect_image(Image(voxels, np.eye(4)))
    assert (report.low, report.high) == (2000, 7999)
    assert report.no_data_fraction == 0.25
    assert report.useless is None
    nothing = preflight.inspect_image(Image(voxels * np.nan, np.eye(4)))
    assert (nothing.low, nothing.high) == (None, None)
    assert "every voxel is NaN" in nothing.useless
    flat = preflight.inspect_image(Image(np.ones((9, 9, 9)), np.eye(4)))
    assert "constant, every voxel is 1" in flat.useless


def test_the_contrast_is_scored_and_noise_is_noted(rng):
    head = phantom_pair("T1", "T2", fixed_voxel_size_mm=6, moving_voxel_size_mm=6).fixed
    report = preflight.inspect_image(head)
    scored = mireg.contrast(head)
    assert (report.contrast_bits, report.structure) == (scored.score, scored.structure)
    assert report.notes == ()
    noise = Image(rng.normal(100, 10, (40, 40, 40)), np.eye(4))
    (note,) = preflight.inspect_image(noise, "noise.nii").notes
    assert note.startswith("noise.nii: has too little contrast for its noise")
    flat = preflight.inspect_image(Image(np.ones((9, 9, 9)), np.eye(4)))
    assert (flat.contrast_bits, flat.structure) == (None, None)


# --- a pair -------------------------------------------------------------------


def test_overlap_of_a_cube_and_the_same_turned_by_45_degrees():
    # A square of side 2 and itself turned by 45 degrees share a regular octagon of
    # inradius 1, whose area is 8 tan(22.5 degrees).
    turn = Rotation.from_euler("z", 45, degrees=True).as_matrix()
    cube = image((20, 20, 20))
    middle = np.full(3, 9.5)
    turned = image((20, 20, 20), placed(turn, middle - turn @ middle))
    octagon = 8 * np.tan(np.pi / 8) * 10**2 * 20
    assert preflight.overlap_mm3(cube, turned) == pytest.approx(octagon)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10**6))
def test_overlap_is_what_counting_points_says(seed):
    rng = np.random.default_rng(seed)

    def box():
        turn = Rotation.random(random_state=seed + 1).as_matrix()
        shear = np.eye(3) + 0.2 * rng.uniform(-1, 1, (3, 3))
        return image((8, 9, 10), placed(turn @ shear, rng.uniform(-5, 5, 3)))

    one, other = box(), box()
    ijk = rng.uniform([-0.5] * 3, np.array(one.shape) - 0.5, (20_000, 3))
    there = other.to_ijk(one.to_mm(ijk))
    inside = ((there > -0.5) & (there < np.array(other.shape) - 0.5)).all(axis=1)
    volume = one.data.size * one.voxel_volume_mm3
    found = preflight.overlap_mm3(one, other)
    assert found == pytest.approx(inside.mean() * volume, abs=0.02 * volume)
    assert found == pytest.approx(preflight.overlap_mm3(other, one))


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10**6))
def test_overlap_is_what_a_convex_hull_says(seed):
    rng = np.random.default_rng(seed)
    boxes = []
    for _ in range(2):
        turn = Rotation.random(random_state=rng.integers(10**6)).as_matrix()
        sheared = turn @ (np.eye(3) + 0.3 * rng.uniform(-1, 1, (3, 3)))
        affine = placed(sheared * rng.uniform(0.5, 3, 3), rng.uniform(-20, 20, 3))
        boxes.append(image(tuple(rng.integers(1, 20, 3)), affine))
    assert preflight.overlap_mm3(*boxes) == pytest.approx(
        by_qhull(*boxes), rel=1e-6, abs=1e-6
    )


def by_qhull(one, other):
    """Volume that two fields of view share, by linear programming and Qhull."""
    faces = []
    for box in (one, other):
        ijk_from_mm = np.linalg.inv(box.mm_from_ijk)[:3]
        for axis, n in enumerate(box.shape):
            faces.append(-ijk_from_mm[axis] - [0, 0, 0, 0.5])
            faces.append(ijk_from_mm[axis] - [0, 0, 0, n - 0.5])
    faces /= np.linalg.norm(np.array(faces)[:, :3], axis=1, keepdims=True)
    slopes = np.column_stack([faces[:, :3], np.ones(12)])
    free, positive = (None, None), (0, None)
    ball = linprog(
        [0, 0, 0, -1],
        A_ub=slopes,
        b_ub=-faces[:, 3],
        bounds=[free, free, free, positive],
    )
    if not ball.success or ball.x[3] < 1e-9:
        return 0.0
    return ConvexHull(HalfspaceIntersection(faces, ball.x[:3]).intersections).volume


@pytest.mark.parametrize("nudge", [0, 1e-16, 1e-13, 1e-10, 1e-8, 1e-7, 1e-6])
def test_overlap_of_one_grid_written_twice_is_all_of_it(nudge):
    # The faces of one lie in those of the other, but for rounding.
    rng = np.random.default_rng(3)
    affine = placed(Rotation.random(random_state=1).as_matrix() * [1, 1.5, 2])
    again = affine.copy()
    again[:3] += nudge * rng.uniform(-1, 1, (3, 4))
    whole = 20 * 22 * 24 * 3
    found = preflight.overlap_mm3(image(affine=affine), image(affine=again))
    assert found == pytest.approx(whole, rel=1e-9 + 10 * nudge)


def test_overlap_of_corners_is_a_box():
    # Half a voxel beyond the centres: x 10.5 to 19.5, y 15 to 21.5, z 0.5 to 23.5
    other = image((3, 40, 23), placed(np.diag([3, 0.5, 1.0]), (12, 15.25, 1)))
    assert preflight.overlap_mm3(image(), other) == pytest.approx(9 * 6.5 * 23)


@pytest.mark.parametrize("shift", [(20, 0, 0), (0, 500, 0)])
def test_no_overlap_is_noted(shift):
    report = preflight.inspect_pair(image(), image(affine=placed(shift=shift)))
    assert (report.overlap_mm3, report.overlap_fraction) == (0, 0)
    assert report.centres_apart_mm == pytest.approx(np.linalg.norm(shift))
    (note,) = report.notes
    assert "do not overlap" in note


def test_one_file_given_twice_is_noted(tmp_path):
    for name in ("a.nii", "b.nii"):
        series = np.arange(2000.0).reshape(10, 10, 10, 2)
        nib.Nifti1Image(series, np.eye(4)).to_filename(tmp_path / name)
    (tmp_path / "link.nii").symlink_to(tmp_path / "a.nii")
    first, again, other = (
        formats.read_image(tmp_path / name, 0)
        for name in ("a.nii", "link.nii", "b.nii")
    )
    (note,) = preflight.inspect_pair(first, again).notes
    assert note.startswith(f"both images are {tmp_path}/a.nii; give another")
    assert preflight.inspect_pair(first, other).notes == ()
    assert preflight.inspect_pair(image(), image()).notes == ()
    volumes = [formats.read_image(tmp_path / "a.nii", n) for n in (0, 1)]
    assert preflight.inspect_pair(*volumes).notes == ()


def test_an_image_of_one_slice_overlaps_as_a_slab():
    slab = image((20, 22, 1), placed(np.diag([1, 1, 5.0]), (0, 0, 10)))
    assert preflight.overlap_mm3(image(), slab) == pytest.approx(20 * 22 * 5)


# --- as it is told ------------------------------------------------------------


@pytest.fixture
def scans(tmp_path, monkeypatch):
    """Put two odd scans into a folder, and go there."""
    monkeypatch.chdir(tmp_path)
    voxels = np.arange(8000, dtype=np.int16).reshape(20, 20, 20)
    t1 = nib.Nifti1Image(voxels, placed(np.diag([-2.0, 2, 2])))
    t1.set_qform(placed(np.diag([-2.0, 2, 2]), (7, 0, 0)), 1)
    nib.save(t1, "t1.nii")
    series = np.stack([voxels] * 3, axis=-1)
    nib.save(nib.Nifti1Image(series, placed(shift=(-30, 10, 10))), "bold.nii")


@pytest.mark.usefixtures("scans")
def test_inspect_tells_of_a_pair_in_words(capsys):
    assert main(["inspect", "t1.nii", "bold.nii"]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert max(map(len, said.out.splitlines())) <= 88
    for words in (
        "NIfTI-1, int16",
        "20 x 20 x 20 voxels of 2 x 2 x 2 mm",
        "LAS (to the left, front, top), left-handed",
        "the qform (the scanner's) is up to 7 mm away",
        "20 x 20 x 20 voxels of 1 x 1 x 1 mm, 3 volumes",
        "bits from uniform (0 best, 4 nothing to see)",
        "8,000 mm3, 100 % of the smaller field of view",
        "mireg: note: bold.nii: has 3 volumes; their mean is used",
        "mireg: note: t1.nii: qform and sform place the image up to 7 mm apart",
    ):
        assert words in said.out


@pytest.mark.usefixtures("scans")
def test_inspect_as_json(capsys):
    assert main(["inspect", "t1.nii", "bold.nii", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    t1, bold = record["images"]
    assert t1["qform_sform_mm"] == pytest.approx(7, abs=1e-4)
    assert (t1["axes"], bold["axes"], bold["volumes"]) == ("LAS", "RAS", 3)
    assert record["pair"]["overlap_mm3"] == pytest.approx(8000)
    assert main(["inspect", "bold.nii", "--json", "--volume", "1"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["images"][0]["notes"], record["pair"]) == ([], None)


def test_a_constant_image_can_be_inspected(tmp_path, capsys):
    nib.save(nib.Nifti1Image(np.ones((9, 9, 9)), np.eye(4)), tmp_path / "a.nii")
    assert main(["inspect", str(tmp_path / "a.nii")]) == 0
    assert "refused       the image is constant" in capsys.readouterr().out


@pytest.mark.parametrize("argv", [[], ["a.nii", "b.nii", "c.nii"]])
def test_inspect_wants_one_image_or_two(argv, capsys):
    assert main(["inspect", *argv]) == 2
    assert "give one image, or a fixed and a moving one" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("standard.nii.gz", "NIfTI-1"),
        ("example_nifti2.nii.gz", "NIfTI-2"),
        ("tiny.mnc", "MINC 1"),
        ("small.mnc", "MINC 2"),
        ("test.mgz", "FreeSurfer MGH"),
        ("phantom_EPI_asc_CLEAR_2_1.PAR", "Philips PAR/REC"),
        ("example4d+orig.HEAD", "AFNI"),
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_files_of_every_program_are_inspected(name, kind, capsys):
    path = NIBABEL_DATA / name
    if not path.exists():
        pytest.skip("this nibabel comes without its test data")
    assert main(["inspect", str(path), "--json"]) == 0
    (report,) = json.loads(capsys.readouterr().out)["images"]
    assert report["kind"] == kind
    opened = nib.load(path)
    assert report["shape"] == list(opened.shape[:3])
    assert report["axes"] == "".join(nib.aff2axcodes(opened.affine))


@pytest.mark.parametrize("suffixes", [(".img", ".hdr"), (".hdr", ".img")])
def test_either_file_of_two_names_the_image(suffixes, tmp_path, capsys):
    given, other = (tmp_path / f"a{suffix}" for suffix in suffixes)
    for kind in (nib.Nifti1Pair, nib.AnalyzeImage):
        nib.save(kind(np.arange(729, dtype="i2").reshape(9, 9, 9), np.eye(4)), given)
        assert main(["inspect", str(given)]) == 0
        assert "9 x 9 x 9 voxels" in capsys.readouterr().out
    other.unlink()
    assert main(["inspect", str(given)]) == 2
    assert str(other) in capsys.readouterr().err


@pytest.mark.slow
def test_register_notes_the_same_and_each_once(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    pair = phantom_pair("T1", "T2", fixed_voxel_size_mm=6, moving_voxel_size_mm=6)
    for name, scan in (("t1.nii", pair.fixed), ("t2.nii", pair.moving)):
        voxels = scan.data
        if name == "t2.nii":
            voxels = np.stack([voxels] * 2, axis=-1)
        far = placed(shift=(1000, 0, 0)) if name == "t2.nii" else np.eye(4)
        opened = nib.Nifti1Image(voxels, far @ scan.mm_from_ijk)
        nib.save(opened, name)
    assert main(["inspect", "t1.nii", "t2.nii", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    expected = [
        *itertools.chain(*(report["notes"] for report in record["images"])),
        *record["pair"]["notes"],
    ]
    assert len(expected) == 2
    assert main(["register", "t1.nii", "t2.nii", "-o", "x"]) == 0
    said = capsys.readouterr().err
    assert [
        line.removeprefix("mireg: note: ")
        for line in said.splitlines()
        if line.startswith("mireg: note: ")
    ] == expected
    assert json.loads((tmp_path / "x.json").read_text())["warnings"] == expected
