"""How far apart transforms are: by hand, by FSL's own words, in every format."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest
from checks import FIXED, MOVING, TRUTH, ball, shifted

import mireg
from mireg._errors import InputError
from mireg._files.transforms import FORMATS
from mireg._files.transforms.common import Images
from mireg._files.transforms.series import SERIES_FORMATS, series_content
from mireg.cli import main

#: Another pose, near TRUTH.
NEAR = mireg.RigidTransform([0.12, -0.17, 0.31], [4.5, -3.2, 1.6]).matrix


@pytest.fixture
def images(tmp_path):
    """Write two small images, and give their paths."""
    paths = []
    for name, affine in (("fixed", FIXED), ("moving", MOVING)):
        paths.append(str(tmp_path / f"{name}.nii.gz"))
        nib.save(nib.Nifti1Image(ball(), affine), paths[-1])
    return paths


def distances(a, b, points):
    """Distances between where two matrices put points, one at a time."""
    ends = [
        [np.array(m) @ [x, y, z, 1] for m in (a, b)] for x, y, z in np.asarray(points)
    ]
    return np.array([np.linalg.norm(p - q) for p, q in ends])


def test_a_shift_moves_everything_as_far():
    found = mireg.compare("identity", shifted(-3))
    far = found.distances
    assert [far.mean, far.rms, far.percentile_95, far.max] == pytest.approx([3] * 4)
    assert found.fsl_rmsdiff_mm == pytest.approx(3)
    assert found.rotation_deg == 0
    # What is read 3 mm further left is shown 3 mm further right.
    assert found.translation_mm.tolist() == [3, 0, 0]
    assert "box" in found.over
    assert repr(found).count("\n") == 0


def test_a_turn_about_the_origin_by_hand():
    turn = mireg.RigidTransform([0, 0, np.deg2rad(30)], [0, 0, 0])
    points = [[10, 0, 0], [0, 0, 50], [0, -100, 5]]
    found = mireg.compare(turn, "identity", points=points)
    chord = 2 * np.sin(np.deg2rad(15))
    assert found.landmark_errors_mm == pytest.approx([10 * chord, 0, 100 * chord])
    assert found.landmark_distances.mean == pytest.approx(110 * chord / 3)
    assert found.landmark_distances.max == pytest.approx(100 * chord)
    assert found.landmarks == ("1", "2", "3")
    assert found.rotation_deg == pytest.approx(30)
    # The mean of x^2 + y^2 over a ball is two fifths of the square of its radius.
    assert found.fsl_rmsdiff_mm == pytest.approx(80 * np.sqrt(0.4) * chord)


def test_the_largest_distance_along_each_axis_by_hand():
    # A quarter turn about a vertical axis at (10, 0, 0), and 2 mm up: (x, y) is shown
    # at (10 - y, x - 10), over a box of 75 mm to each side, 90 to front and back.
    turn = mireg.RigidTransform([0, 0, np.pi / 2], [0, 0, 2], centre=[10, 0, 0])
    found = mireg.compare(turn, "identity")
    assert found.axes_max_mm == pytest.approx([10 + 75 + 90, 10 + 75 + 90, 2])
    # The axes are those of the fixed image, whichever way the moving one is turned.
    far = mireg.RigidTransform([0.4, 1.2, -0.7], [30, 60, -20])
    found = mireg.compare(far, far @ mireg.RigidTransform([0, 0, 0], [1, -2, 3]))
    assert found.axes_max_mm == pytest.approx([1, 2, 3])


def test_over_a_mask_every_voxel_counts(tmp_path, rng):
    inside = (rng.random((7, 6, 5)) < 0.3).astype(np.uint8)
    mask = nib.Nifti1Image(255 * inside, FIXED)
    found = mireg.compare(TRUTH, NEAR, over=mask)
    points = nib.affines.apply_affine(FIXED, np.argwhere(inside))
    expected = distances(TRUTH, NEAR, points)
    assert found.distances.mean == pytest.approx(expected.mean())
    assert found.distances.rms == pytest.approx(np.sqrt((expected**2).mean()))
    assert found.distances.percentile_95 == pytest.approx(np.percentile(expected, 95))
    assert found.distances.max == pytest.approx(expected.max())
    assert found.centre_mm == pytest.approx(points.mean(axis=0))
    centre = np.array([*points.mean(axis=0), 1])
    at = np.linalg.inv(NEAR) @ TRUTH @ centre
    assert found.translation_mm == pytest.approx((at - centre)[:3])
    assert np.linalg.norm(found.translation_mm) == pytest.approx(
        distances(TRUTH, NEAR, [centre[:3]])[0]
    )
    nib.save(mask, tmp_path / "m.nii.gz")
    found = mireg.compare(TRUTH, NEAR, over=tmp_path / "m.nii.gz")
    assert found.over == "the mask m.nii.gz"


def test_over_an_image_the_head_counts(images):
    found = mireg.compare(TRUTH, NEAR, fixed=images[0])
    assert found.over == "the mask fixed.nii.gz"  # a ball of one brightness
    head = ball() + 0.1 * np.random.default_rng(0).random(ball().shape)
    found = mireg.compare(TRUTH, NEAR, fixed=images[0], over=(head, FIXED))
    assert found.over == "the anatomy in the image"
    expected = distances(
        TRUTH, NEAR, nib.affines.apply_affine(FIXED, np.argwhere(ball()))
    )
    assert found.distances.mean == pytest.approx(expected.mean(), rel=0.02)
    prepared = mireg.prepare((head, FIXED))
    assert mireg.compare(TRUTH, NEAR, over=prepared).distances == found.distances


def test_the_rotation_is_that_between_the_two():
    a = mireg.RigidTransform([0.3, 0.2, -1.0], [3, 2, 1])
    b = a @ mireg.RigidTransform([0, np.deg2rad(7), 0], [50, 0, 0])
    assert mireg.compare(a, b).rotation_deg == pytest.approx(7)
    larger = mireg.AffineTransform(b.matrix @ np.diag([1.2, 1.2, 1.2, 1]))
    assert mireg.compare(a, larger).rotation_deg == pytest.approx(7)


def test_fsl_agrees_in_its_own_frame(images, tmp_path):
    """The formula of FSL's report, from FSL's own files, millimetres and centre."""
    paths = [tmp_path / "a.mat", tmp_path / "b.mat"]
    for path, matrix in zip(paths, (TRUTH, NEAR), strict=True):
        mireg.write_transform(
            path, matrix, fixed=images[0], moving=images[1], format="fsl"
        )
    a, b = (np.loadtxt(path) for path in paths)
    centre = 0.5 * (np.array(ball().shape) - 1) * 2.0
    m = a @ np.linalg.inv(b) - np.eye(4)
    t = m[:3, 3] + m[:3, :3] @ centre
    expected = np.sqrt(80.0**2 / 5 * np.trace(m[:3, :3].T @ m[:3, :3]) + t @ t)
    found = mireg.compare(*paths, fixed=images[0], moving=images[1])
    assert found.fsl_rmsdiff_mm == pytest.approx(expected)
    assert found.fsl_centre_mm.tolist() == [15, 14, 13]


def test_rmsdiff_is_the_rms_over_a_sphere(rng):
    """As the report has it: by many points of a ball, for a stretch, too."""
    points = rng.uniform(-80, 80, (200_000, 3))
    points = points[np.linalg.norm(points, axis=1) < 80]
    bent = NEAR @ np.diag([1.02, 1, 0.97, 1])
    off = np.linalg.inv(TRUTH) @ bent
    far = points @ off[:3, :3].T + off[:3, 3] - points
    expected = np.sqrt((far**2).sum(axis=1).mean())
    assert mireg.compare(TRUTH, bent).fsl_rmsdiff_mm == pytest.approx(expected, 0.01)


@pytest.mark.parametrize("row", FORMATS, ids=lambda row: row.name + row.suffixes[0])
def test_any_format_on_either_side(tmp_path, images, row, capsys):
    path = tmp_path / f"t{row.suffixes[0]}"
    mireg.write_transform(
        path, TRUTH, fixed=images[0], moving=images[1], format=row.name
    )
    both = ["--fixed", images[0], "--moving", images[1], "--json"]
    for sides in ([str(path), "identity"], ["identity", str(path)]):
        assert main(["compare", *sides, *both]) == 0
        record = json.loads(capsys.readouterr().out)
        points = nib.affines.apply_affine(FIXED, np.argwhere(ball()))
        expected = distances(TRUTH, np.eye(4), points)
        assert record["mean_mm"] == pytest.approx(expected.mean(), abs=1e-4)
        assert record["max_mm"] == pytest.approx(expected.max(), abs=1e-4)


def test_the_command_tells_people(tmp_path, images, capsys):
    (tmp_path / "truth.json").write_text(
        json.dumps({"moving_from_fixed": shifted(2).tolist()})
    )
    (tmp_path / "points.csv").write_text("nasion,0,1,2\ninion,3,4,5\n")
    arguments = [str(tmp_path / "truth.json"), "identity", "--over", images[0]]
    arguments += ["--points", str(tmp_path / "points.csv"), "--points-frame", "lps"]
    assert main(["compare", *arguments]) == 0
    told = capsys.readouterr()
    assert told.err == ""
    assert "from truth.json to identity:" in told.out
    assert "mean          2.000 mm" in told.out
    axes = "2.00 right or left, 0.00 front or back, 0.00 up or down"
    assert f"each axis     {axes}" in told.out
    assert "2.000 mm (2.00 right, 0.00 forward, 0.00 up)" in told.out
    assert "from where A shows the moving image to where B shows it" in told.out
    assert "in the fixed image, at the centroid" in told.out
    assert "nasion     2.000 mm" in told.out
    assert "of these      mean 2.000 mm" in told.out
    assert main(["compare", *arguments, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    # A reads 2 mm further right, so it shows the moving image 2 mm further left than B.
    assert record["translation_mm"] == pytest.approx([2, 0, 0])
    assert record["axes_max_mm"] == pytest.approx([2, 0, 0])
    assert "from where A shows" in record["translation_is"]
    assert "centre_mm" in record["translation_is"]
    marks = record["landmarks"]
    assert marks["errors_mm"][1] == {"label": "inion", "error_mm": pytest.approx(2)}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["none.tfm", "identity"], "none.tfm: there is no such file"),
        (["{dir}/flirt.mat", "identity"], "give both, by --fixed and --moving"),
        (["identity", "identity", "--points", "{dir}/p.csv"], "by --points-frame"),
        (
            ["identity", "identity", "--points", "{dir}/bad.csv"],
            "bad.csv: line 3: 10, 20, abc are not three numbers in mm",
        ),
        (["identity", "identity", "--points-frame", "ras"], "but no points; give both"),
        (["identity", "identity", "--over", "none.nii"], "no such file"),
        (["identity", "identity", "--over", "{dir}/empty.nii"], "is empty"),
    ],
)
def test_bad_input_is_told_in_a_line(tmp_path, capsys, arguments, says):
    np.savetxt(tmp_path / "flirt.mat", np.eye(4))
    (tmp_path / "p.csv").write_text("nasion,0,1,2\n")
    (tmp_path / "bad.csv").write_text("# frame = ras\n1,2,3\n10,20,abc\n")
    nib.save(nib.Nifti1Image(np.zeros((4, 4, 4)), FIXED), tmp_path / "empty.nii")
    assert main(["compare", *(a.format(dir=tmp_path) for a in arguments)]) == 2
    told = capsys.readouterr().err
    assert says in told
    assert told.count("\n") == 1


@pytest.mark.parametrize("points", [[1, 2, 3], [[1, 2]], [[np.nan, 0, 0]]])
def test_points_in_an_array_are_checked(points):
    with pytest.raises(mireg.InputError, match="points"):
        mireg.compare("identity", "identity", points=points)


def test_a_frame_of_an_array_is_refused():
    with pytest.raises(mireg.InputError, match="RAS"):
        mireg.compare("identity", "identity", points=[[1, 2, 3]], points_frame="lps")


# --- series ---------------------------------------------------------------------------


def walk():
    """Volumes that go 0, 3 and 6 mm to the right of where they were."""
    return np.array([shifted(0), shifted(3), shifted(6)])


def kept(folder, name, matrices, images):
    """Write a series of transforms in a format; give its path."""
    content = series_content(name, matrices, Images(*images))
    path = folder / f"{name}{SERIES_FORMATS[name].suffix}"
    if isinstance(content, bytes):
        path.write_bytes(content)
        return str(path)
    path.mkdir()
    for part, held in content.items():
        (path / part).write_bytes(held)
    return str(path)


def test_each_volume_of_a_series_is_compared_by_hand():
    found = mireg.compare_series(walk(), shifted(2))
    assert [one.mean for one in found.volumes] == pytest.approx([2, 1, 4])
    far = found.distances
    assert far.mean == pytest.approx(7 / 3)
    assert far.rms == pytest.approx(np.sqrt(21 / 3))
    assert far.percentile_95 == pytest.approx(2 + 0.9 * 2)
    assert (far.max, found.worst) == (pytest.approx(4), 2)
    assert found.rotations_deg == pytest.approx([0, 0, 0])


def test_a_turn_of_one_volume_shows_in_that_volume_alone():
    turned = walk()
    turned[1] = turned[1] @ mireg.RigidTransform([0, 0, 0.02], [0, 0, 0]).matrix
    found = mireg.compare_series(walk(), turned)
    assert found.rotations_deg == pytest.approx([0, np.rad2deg(0.02), 0], abs=1e-6)
    assert [one.max > 0 for one in found.volumes] == [False, True, False]


@pytest.mark.parametrize("name", SERIES_FORMATS)
def test_series_of_all_formats_are_the_same(tmp_path, images, name, capsys):
    path, plain = (kept(tmp_path, k, walk(), images) for k in (name, "npy"))
    argv = ["compare", plain, path, "--fixed", images[0], "--moving", images[1]]
    assert main([*argv, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["max_mm"] < 1e-6
    assert [one["rotation_deg"] < 1e-5 for one in record["volumes"]] == [True] * 3


def test_series_are_told_of_in_words(tmp_path, images, capsys):
    path = kept(tmp_path, "itk", walk(), images)
    assert main(["compare", "identity", path, "--fixed", images[0]]) == 0
    said = capsys.readouterr().out
    assert "from identity to itk" in said
    assert "3 volumes" in said
    assert "3.000 mm of the volumes' mean distances" in said
    assert "volume 2, 6.000 mm on average" in said


def test_series_that_do_not_match_are_refused(tmp_path, images, capsys):
    with pytest.raises(
        InputError, match="first series has 3 transforms and the second 2"
    ):
        mireg.compare_series(walk(), walk()[:2])
    with pytest.raises(InputError, match="neither is a series"):
        mireg.compare_series(shifted(1), "identity")
    path = kept(tmp_path, "itk", walk(), images)
    assert main(["compare", path, path, "--points", "marks.csv"]) == 2
    assert "landmarks are for two transforms" in capsys.readouterr().err


# --- landmarks in both images ---------------------------------------------------------

#: Points of the fixed image, RAS+ mm, and where each was marked in the moving image:
#: moved by (3, 0, 0), but for what the hand was off.
MARKED = {
    "nasion": ([0.0, 80, 0], [3.0, 80, 4]),
    "inion": ([0.0, -90, 10], [3.0, -90, 10]),
    "left ear": ([-70.0, 0, -5], [-67.0, -12, -5]),
}


def mark(path, places, frame, label=str):
    """Write points, RAS+ mm by label, into a file of landmarks of any kind."""
    sign = -1 if frame == "lps" else 1
    rows = [(label(name), sign * x, sign * y, z) for name, (x, y, z) in places.items()]
    if path.suffix == ".json":
        points = [{"label": name, "position": place} for name, *place in rows]
        found = {"coordinateSystem": frame.upper(), "controlPoints": points}
        path.write_text(json.dumps({"markups": [found]}))
        return
    heading = f"# CoordinateSystem = {frame.upper()}\n"
    if path.suffix == ".fcsv":
        heading += "# columns = id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc\n"
        lines = [f"v,{x},{y},{z},0,0,0,1,1,1,0,{name},\n" for name, x, y, z in rows]
    else:
        between = "\t" if path.suffix == ".tsv" else ","
        lines = [between.join(map(str, row)) + "\n" for row in rows]
        if not any(name for name, *_ in rows):
            lines = [line.removeprefix(between) for line in lines]
    path.write_text(heading + "".join(lines))


@pytest.fixture
def marked(tmp_path):
    """Write the landmarks of both images, those of one in another order."""
    names = [str(tmp_path / name) for name in ("ct.csv", "mr.csv")]
    mark(tmp_path / "ct.csv", {n: at for n, (at, _) in MARKED.items()}, "ras")
    there = {name: MARKED[name][1] for name in ("left ear", "nasion", "inion")}
    mark(tmp_path / "mr.csv", there, "lps")
    return names


def test_the_target_registration_error_by_hand(marked):
    ct, mr = marked
    # Without a transform 5, 3 and sqrt(9 + 144) mm off; with it what the hand was off.
    found = mireg.compare(
        "identity", shifted(3), fixed_points=ct, moving_points=mr
    ).target_errors
    assert found.labels == ("nasion", "inion", "left ear")
    assert found.a_mm == pytest.approx([5, 3, np.sqrt(153)])
    assert found.b_mm == pytest.approx([4, 0, 12])
    assert (found.b.mean, found.b.max) == (pytest.approx(16 / 3), pytest.approx(12))
    assert found.b.rms == pytest.approx(np.sqrt(160 / 3))
    assert found.a.mean == pytest.approx((8 + np.sqrt(153)) / 3)
    assert "3 landmarks" in repr(found)


def test_it_is_measured_from_the_fixed_point_to_the_moving_one():
    turn = mireg.RigidTransform([0, 0, np.pi / 2], [5, 0, 0])
    at, there = [[10, 0, 0]], [[5, 10, 2]]  # (10, 0, 0) goes to (5, 10, 0)
    found = mireg.compare(turn, ~turn, fixed_points=at, moving_points=there)
    assert found.target_errors.a_mm == pytest.approx([2])
    # Back: (10, 0, 0) less 5 is (5, 0, 0), a quarter turn back (0, -5, 0).
    assert found.target_errors.b_mm == pytest.approx([np.sqrt(25 + 225 + 4)])


@pytest.mark.parametrize("kind", [".fcsv", ".mrk.json", ".csv", ".tsv"])
@pytest.mark.parametrize("frame", ["ras", "lps"])
def test_any_kind_of_file_holds_the_landmarks_of_an_image(
    tmp_path, marked, kind, frame, capsys
):
    for side, name in enumerate(("fixed", "moving")):
        path = tmp_path / f"{name}{kind}"
        mark(path, {n: both[side] for n, both in MARKED.items()}, frame)
    for ct, mr in (
        (tmp_path / f"fixed{kind}", marked[1]),
        (marked[0], tmp_path / f"moving{kind}"),
        (tmp_path / f"fixed{kind}", tmp_path / f"moving{kind}"),
    ):
        argv = ["--fixed-points", str(ct), "--moving-points", str(mr), "--json"]
        assert main(["compare", "identity", "identity", *argv]) == 0
        record = json.loads(capsys.readouterr().out)
        assert (record["fixed_points"], record["moving_points"]) == (str(ct), str(mr))
        errors = record["target_errors"]
        assert [one["label"] for one in errors["errors"]] == list(MARKED)
        assert [one["a_mm"] for one in errors["errors"]] == pytest.approx(
            [5, 3, np.sqrt(153)]
        )
        assert errors["b"]["max_mm"] == pytest.approx(np.sqrt(153))


def test_without_labels_the_order_tells(tmp_path, capsys):
    for side, name in enumerate(("ct.csv", "mr.csv")):
        places = {n: both[side] for n, both in MARKED.items()}
        mark(tmp_path / name, places, "ras", label=lambda _: "")
    ct, mr = (str(tmp_path / name) for name in ("ct.csv", "mr.csv"))
    found = mireg.compare(shifted(3), "identity", fixed_points=ct, moving_points=mr)
    assert found.target_errors.labels == ("1", "2", "3")
    assert found.target_errors.a_mm == pytest.approx([4, 0, 12])
    here, there = (np.array(points) for points in zip(*MARKED.values(), strict=True))
    same = mireg.compare(shifted(3), "identity", fixed_points=here, moving_points=there)
    assert same.target_errors.a_mm == pytest.approx([4, 0, 12])
    with pytest.raises(InputError, match=r"fixed_points has 3 points, .* 2, and no"):
        mireg.compare(
            "identity", "identity", fixed_points=here, moving_points=there[:2]
        )
    assert capsys.readouterr() == ("", "")


def test_a_frame_is_that_of_all_files_that_do_not_say_theirs(tmp_path, capsys):
    (tmp_path / "ct.csv").write_text("a,-10,-20,30\n")
    (tmp_path / "mr.csv").write_text("a,-10,-20,32\n")
    ct, mr = (str(tmp_path / name) for name in ("ct.csv", "mr.csv"))
    turn = mireg.RigidTransform([0, 0, np.pi], [0, 0, 0])  # x and y change sign
    turn.save(tmp_path / "t.tfm")
    argv = [str(tmp_path / "t.tfm"), "identity", "--fixed-points", ct, "--points", ct]
    argv += ["--moving-points", mr, "--points-frame", "lps", "--json"]
    assert main(["compare", *argv]) == 0
    record = json.loads(capsys.readouterr().out)
    (error,) = record["target_errors"]["errors"]
    assert error["b_mm"] == pytest.approx(2)
    assert error["a_mm"] == pytest.approx(np.sqrt(20**2 + 40**2 + 2**2))
    (apart,) = record["landmarks"]["errors_mm"]
    assert apart["error_mm"] == pytest.approx(np.hypot(20, 40))


def test_the_errors_of_both_are_told_side_by_side(marked, tmp_path, capsys):
    mireg.write_transform(tmp_path / "found.tfm", shifted(3))
    ct, mr = marked
    argv = ["identity", str(tmp_path / "found.tfm"), "--fixed-points", ct]
    assert main(["compare", *argv, "--moving-points", mr]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    at = lines.index(["target", "error", "A", "B"])
    assert lines[at + 1 : at + 7] == [
        ["nasion", "5.000", "mm", "4.000", "mm"],
        ["inion", "3.000", "mm", "0.000", "mm"],
        ["left", "ear", "12.369", "mm", "12.000", "mm"],
        ["in", "all", "mean", "6.790", "mm", "5.333", "mm"],
        ["RMS", "7.895", "mm", "7.303", "mm"],
        ["maximum", "12.369", "mm", "12.000", "mm"],
    ]


@pytest.mark.parametrize(
    ("moving", "says"),
    [
        ("nasion,3,80,4\n", "mr.csv lacks 'inion', 'left ear'; every landmark must"),
        (
            "nasion,0,0,0\ninion,0,0,0\nleft eye,0,0,0\n",
            "ct.csv lacks 'left eye'; {folder}/mr.csv lacks 'left ear'; every",
        ),
        ("1,2,3\n4,5,6\n", "ct.csv has 3 points, and {folder}/mr.csv 2, and no label"),
        ("inion,0,0,0\ninion,0,0,0\nx,0,0,0\n", "2 landmarks are called 'inion'"),
        ("", "mr.csv: holds no points"),
        (
            "".join(f"p{i},0,0,0\n" for i in range(9)),
            "ct.csv has 3 points, and {folder}/mr.csv 9, and no label is in both; mark",
        ),
    ],
)
def test_landmarks_that_are_not_the_same_are_refused(
    marked, tmp_path, moving, says, capsys
):
    ct, mr = marked
    (tmp_path / "mr.csv").write_text(moving)
    points = ["--fixed-points", ct, "--moving-points", mr, "--points-frame", "ras"]
    assert main(["compare", "identity", "identity", *points]) == 2
    line = capsys.readouterr().err
    assert says.format(folder=tmp_path) in line
    assert line.count("\n") == 1


def test_landmarks_in_one_image_only_are_refused(marked, capsys):
    for option in ("--fixed-points", "--moving-points"):
        assert main(["compare", "identity", "identity", option, marked[0]]) == 2
        assert "give both, or neither" in capsys.readouterr().err
    none, same = np.empty((0, 3)), ("identity", "identity")
    with pytest.raises(InputError, match="fixed_points holds no points"):
        mireg.compare(*same, fixed_points=none, moving_points=np.ones((1, 3)))


# --- what a new user meets ------------------------------------------------------------


def compared(capsys, *argv):
    """Compare identity with itself; give the record and what was noted."""
    assert main(["compare", "identity", "identity", *map(str, argv), "--json"]) == 0
    said = capsys.readouterr()
    notes = [line.removeprefix("mireg: note: ") for line in said.err.splitlines()]
    record = json.loads(said.out)
    assert record["warnings"] == notes
    return record, notes


def both(folder, fixed, moving):
    """Name the options of landmarks in both images."""
    return ["--fixed-points", folder / fixed, "--moving-points", folder / moving]


@pytest.mark.parametrize("frame", ["RAS", "ras", "Ras"])
def test_a_slicer_file_goes_with_a_plain_table(tmp_path, frame, capsys):
    mark(tmp_path / "ct.fcsv", {n: at for n, (at, _) in MARKED.items()}, "lps")
    rows = [f"{n},{x},{y},{z}\n" for n, (_, (x, y, z)) in MARKED.items()]
    (tmp_path / "mr.csv").write_text("".join(rows))
    argv = [*both(tmp_path, "ct.fcsv", "mr.csv"), "--points-frame", frame]
    record, notes = compared(capsys, *argv)
    errors = [one["a_mm"] for one in record["target_errors"]["errors"]]
    assert errors == pytest.approx([5, 3, np.sqrt(153)])
    assert record["target_errors"]["paired_by"] == "label"
    (note,) = notes
    assert "ct.fcsv: its points are in LPS, as its content or format says" in note


def test_a_file_that_is_missing_is_told_before_a_frame_that_is(tmp_path, capsys):
    (tmp_path / "ct.csv").write_text("1,2,3\n")
    points = list(map(str, both(tmp_path, "ct.csv", "none.csv")))
    assert main(["compare", "identity", "identity", *points]) == 2
    assert "none.csv: there is no such file; check" in capsys.readouterr().err
    points = list(map(str, both(tmp_path, "ct.csv", ".")))
    assert main(["compare", "identity", "identity", *points]) == 2
    assert "cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize("labels", [lambda i: f"M-{i}", lambda _: ""])
def test_labels_that_slicer_gives_by_itself_are_paired_by_order(
    tmp_path, labels, capsys
):
    for name, side, label in (
        ("ct.fcsv", 0, lambda i: f"F-{i}"),
        ("mr.mrk.json", 1, labels),
    ):
        places = {label(i): both[side] for i, both in enumerate(MARKED.values(), 1)}
        if len(places) < len(MARKED):  # without labels
            (tmp_path / name).write_text(
                json.dumps(
                    {
                        "markups": [
                            {
                                "controlPoints": [
                                    {"position": [-x, -y, z]}
                                    for _, (x, y, z) in MARKED.values()
                                ]
                            }
                        ]
                    }
                )
            )
        else:
            mark(tmp_path / name, places, "lps")
    record, notes = compared(capsys, *both(tmp_path, "ct.fcsv", "mr.mrk.json"))
    found = record["target_errors"]
    assert found["paired_by"] == "order"
    assert [one["label"] for one in found["errors"]] == ["F-1", "F-2", "F-3"]
    assert [one["a_mm"] for one in found["errors"]] == pytest.approx(
        [5, 3, np.sqrt(153)]
    )
    (note,) = notes
    assert note.startswith(f"{tmp_path}/ct.fcsv and {tmp_path}/mr.mrk.json have no ")
    assert "paired in their order: 'F-1' with " in note


def test_case_does_not_tell_labels_apart(tmp_path, capsys):
    mark(tmp_path / "ct.csv", {n: at for n, (at, _) in MARKED.items()}, "ras")
    there = {name.upper(): MARKED[name][1] for name in ("left ear", "nasion", "inion")}
    mark(tmp_path / "mr.csv", there, "lps")
    record, notes = compared(capsys, *both(tmp_path, "ct.csv", "mr.csv"))
    assert notes == []
    assert record["target_errors"]["a"]["max_mm"] == pytest.approx(np.sqrt(153))


def test_the_same_points_for_both_images_are_noted(marked, tmp_path, capsys):
    ct, mr = marked
    _, notes = compared(capsys, "--fixed-points", ct, "--moving-points", mr)
    assert notes == []
    (tmp_path / "copy.csv").write_bytes((tmp_path / "ct.csv").read_bytes())
    for other in (ct, tmp_path / "copy.csv"):
        argv = ["--fixed-points", ct, "--moving-points", other]
        (note,) = compared(capsys, *argv)[1]
        both = f"{ct} and {other} hold the same points"
        assert note == (
            f"{f'{ct} is given for both images' if ct == other else both}; give the "
            "points marked in the moving image, unless both images are in one space"
        )


@pytest.mark.parametrize(
    "wrong",
    [["fixed_points"], ["moving_points"], ["fixed_points", "moving_points"], []],
)
def test_landmarks_in_the_wrong_frame_are_noted(wrong, recwarn):
    pose = mireg.RigidTransform([0.4, 1.2, -0.7], [5, 60, -20])
    fixed = np.array([[30.0, 20, 10], [-40, 10, 0], [0, -60, 20], [5, 40, -20]])
    one_mm_right = mireg.RigidTransform([0, 0, 0], [1, 0, 0])
    moving = (one_mm_right @ pose).apply(fixed)
    points = {"fixed_points": fixed, "moving_points": moving}
    for name in wrong:
        points[name] = points[name] * [-1, -1, 1]
    mireg.compare("identity", pose, **points)
    notes = [str(one.message) for one in recwarn]
    assert len(notes) == bool(wrong)
    for note in notes:
        assert note.startswith(f"{' and '.join(wrong)}: in the other frame (LPS for")
        assert "off by 1 mm on average" in note


def test_landmarks_outside_an_image_are_noted(tmp_path, capsys):
    # Voxel centres from 0 to 9 mm: the image is from -0.5 to 9.5 mm.
    grid = nib.Nifti1Image(np.arange(1000.0).reshape(10, 10, 10), np.eye(4))
    grid.to_filename(tmp_path / "ct.nii")
    (tmp_path / "ct.csv").write_text("# frame = RAS\nin,9.4,0,-0.4\nout,9.6,0,0\n")
    (tmp_path / "mr.csv").write_text("# frame = RAS\nin,0,0,0\nout,0,0,1\n")
    points = both(tmp_path, "ct.csv", "mr.csv")
    mask = nib.Nifti1Image(np.ones((10, 10, 10), np.uint8), np.eye(4))
    mask.to_filename(tmp_path / "mask.nii")
    over = ["--over", tmp_path / "mask.nii"]
    assert compared(capsys, *points, *over)[1] == []  # no image is known
    images = ["--fixed", tmp_path / "ct.nii", "--moving", tmp_path / "ct.nii"]
    (note,) = compared(capsys, *points, *over, *images)[1]
    assert note == (
        f"{tmp_path}/ct.csv: 1 of 2 landmarks lies outside {tmp_path}/ct.nii, 'out'; "
        "check that they are of this image, and their frame"
    )
    argv = ["--points", tmp_path / "ct.csv", *over, *images]
    (again,) = compared(capsys, *argv)[1]
    assert again == note
