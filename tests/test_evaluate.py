"""The evaluation script, with stubs in place of the method."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest

from mireg.image import Image
from mireg.transform import RigidTransform

SCRIPT = Path(__file__).parent.parent / "scripts" / "evaluate.py"
evaluate = SimpleNamespace(**runpy.run_path(str(SCRIPT), run_name="evaluate"))

TRUTH = RigidTransform([0.1, -0.2, 0.3], [4.0, -3.0, 2.0]).matrix
FIXED = np.diag([2.0, 2, 2, 1])
MOVING = np.array([[2.5, 0, 0, 7], [0, 3, 0, -4], [0, 0, 3, 1], [0, 0, 0, 1.0]])


def ball(shape=(16, 15, 14)):
    """Return a bright ball of radius 4 voxels in the middle of a box."""
    off = np.indices(shape) - (np.array(shape).reshape(3, 1, 1, 1) - 1) / 2
    return ((off**2).sum(axis=0) < 16).astype(np.float32)


def shifted(mm):
    """Return the matrix that moves points to the right."""
    matrix = np.eye(4)
    matrix[0, 3] = mm
    return matrix


def oracle(fixed, moving):
    """Give the truth, but 5 mm off for the case whose fixed grid is 17 wide."""
    pose = moving.mm_from_ijk @ np.linalg.inv(MOVING)
    off = shifted(5.0) if fixed.shape[0] == 17 else np.eye(4)
    return SimpleNamespace(
        moving_from_fixed=pose @ TRUTH @ off,
        score=np.nan,
        overlap_fraction=1.0,
        seconds={"search": 0.1},
    )


def broken(fixed, moving):
    """Fail on the case whose fixed grid is 17 wide."""
    if fixed.shape[0] == 17:
        raise ArithmeticError("lost")
    return oracle(fixed, moving)


@pytest.fixture
def case_file(tmp_path):
    """Write two cases, `good/` and `off/`."""
    entries = []
    for name, width in (("good", 16), ("off", 17)):
        (tmp_path / name).mkdir()
        entry = {"id": f"{name}_1", "moving_from_fixed": TRUTH.tolist()}
        for role, affine in (("fixed", FIXED), ("moving", MOVING)):
            entry[role] = f"{name}/{role}.nii"
            volume = nib.Nifti1Image(ball((width, 15, 14)), affine)
            nib.save(volume, tmp_path / entry[role])
        entries.append({**entry, "reference_uncertainty_mm": 0.5})
    path = tmp_path / "cases.json"
    path.write_text(json.dumps(entries))
    return path


def run(case_file, *options, register=oracle):
    """Run the script; return its exit code and its record."""
    out = case_file.with_name("out.json")
    code = evaluate.main([str(case_file), "-o", str(out), *options], register)
    return code, json.loads(out.read_text())


def test_distances_by_hand():
    turn = RigidTransform([0, 0, np.pi / 2], [0, 0, 0]).matrix
    points = np.array([[10.0, 0, 0], [0, 0, 7], [0, 3, 0]])
    found = evaluate.distances(turn, np.eye(4), points)
    np.testing.assert_allclose(found, [10 * np.sqrt(2), 0, 3 * np.sqrt(2)], atol=1e-12)
    answers = [shifted(0.0), shifted(-1.0), shifted(2.0)]
    assert evaluate.spread(answers, points) == 3
    assert evaluate.spread([np.eye(4)], points) == 0


def test_the_table_tells_good_from_5_mm_off(case_file, capsys):
    code, record = run(case_file, "--poses", "2")
    assert code == 1
    good, off = record["cases"]
    assert (good["good"], good["runs"], off["good"], off["runs"]) == (3, 3, 0, 3)
    assert good["tre_max_mm"] < 1e-9
    for key in ("own_mm", "tre_median_mm", "tre_worst_mm", "tre_max_mm"):
        assert off[key] == pytest.approx(5, abs=1e-9)
    assert off["spread_mm"] < 1e-9  # wrong, but the same from every pose
    assert [line["set"] for line in record["sets"]] == ["good", "off", "all"]
    assert record["sets"][2]["good"] == 3
    assert off["poses"][1]["score"] is None
    np.testing.assert_allclose(off["poses"][2]["found"], TRUTH @ shifted(5), atol=1e-9)
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[:6] == ["good_1", "3/3", *["0.000"] * 4]
    assert lines[2].split()[:6] == ["off_1", "0/3", *["5.000"] * 4]


def test_a_pose_does_not_depend_on_what_else_runs(case_file):
    _, both = run(case_file, "--poses", "2", "--quiet")
    code, one = run(case_file, "--poses", "1", "--only", "good", "--quiet")
    assert code == 0
    assert len(one["cases"]) == 1
    good, off = ([run["pose"] for run in case["poses"]] for case in both["cases"])
    assert [run["pose"] for run in one["cases"][0]["poses"]] == good[:2]
    assert good[1] != off[1]


def test_poses_turn_about_the_middle_and_stay_near():
    middle = np.array([30.0, -500.0, 80.0])
    poses = [evaluate.pose_of(0, "case", number, middle) for number in range(200)]
    np.testing.assert_array_equal(poses[0], np.eye(4))
    at = np.array([pose[:3, :3] @ middle + pose[:3, 3] for pose in poses])
    away = np.linalg.norm(at - middle, axis=1)
    assert 90 < away.max() <= 100
    # The mean of uniform rotations is zero.
    assert np.abs(np.mean([pose[:3, :3] for pose in poses[1:]], axis=0)).max() < 0.2


def test_an_error_stops_or_counts_as_bad(case_file):
    with pytest.raises(ArithmeticError):
        run(case_file, "--quiet", register=broken)
    code, record = run(case_file, "--quiet", "--keep-going", register=broken)
    assert code == 1
    off = record["cases"][1]
    assert off["poses"][0]["error"] == "ArithmeticError: lost"
    assert (off["good"], off["tre_worst_mm"]) == (0, None)


def test_bad_calls_end_with_2(case_file, capsys):
    assert evaluate.main([str(case_file), "--only", "nothing"], oracle) == 2
    for call in ([], ["no-such-file.json"], [str(case_file), "--setting", "bins=1"]):
        with pytest.raises(SystemExit) as stop:
            evaluate.main(call, oracle)
        assert stop.value.code == 2
    assert "bins is 1" in capsys.readouterr().err


def test_foreground_is_the_ball_whatever_the_padding():
    data = 100 * ball() - 1000
    data[0, 0, 0] = -3024
    data[1, 1, 1] = np.nan
    points = evaluate.foreground_points(Image(data, FIXED))
    assert len(points) == ball().sum()
    middle = FIXED[0, 0] * (np.array(data.shape) - 1) / 2
    assert np.linalg.norm(points - middle, axis=1).max() < 8


def test_grids_that_coincide_are_seen():
    image = Image(ball(), MOVING)
    flipped = MOVING @ np.array(
        [[-1, 0, 0, 20], [0, 0, 1, 3.5], [0, 1, 0, -2], [0, 0, 0, 1.0]]
    )
    pairs = {
        "same": (MOVING, np.eye(4), True),
        "flipped, permuted, shifted": (flipped, np.eye(4), True),
        "same at the truth": (TRUTH @ MOVING, TRUTH, True),
        "same in the headers only": (MOVING, TRUTH, False),
        "another voxel size": (FIXED, np.eye(4), False),
    }
    for name, (affine, truth, expected) in pairs.items():
        pair = evaluate.Pair(image, Image(ball(), affine), truth)
        assert evaluate.share_grid(pair) is expected, name


def test_regridding_moves_no_anatomy():
    ijk = np.indices((18, 16, 14)).reshape(3, -1).T
    old = Image(np.zeros((18, 16, 14)), MOVING)
    # Cubic splines keep a smooth wave; its value at a point says where it lies.
    waves = [2 * np.pi / 60, 2 * np.pi / 75, 2 * np.pi / 66]
    data = np.cos(old.to_mm(ijk) * waves).sum(axis=1).reshape(old.shape)
    data[9, 8, 7] = np.nan
    new = evaluate.regrid(Image(data, MOVING))
    np.testing.assert_allclose(new.voxel_size_mm, old.voxel_size_mm)
    points = new.to_mm(np.indices(new.shape).reshape(3, -1).T)
    known = np.isfinite(new.data).ravel()
    expected = np.cos(points * waves).sum(axis=1)
    at = old.to_ijk(points)
    inside = ((at >= 1e-9) & (at <= np.array(old.shape) - 1 - 1e-9)).all(axis=1)
    hole = np.abs(at - [9, 8, 7]).max(axis=1)
    np.testing.assert_array_equal(known[hole > 1], inside[hole > 1])
    assert not known[hole < 0.9].any()
    deep = known & (hole > 5)
    deep &= ((at > 3) & (at < np.array(old.shape) - 4)).all(axis=1)
    assert deep.sum() > 50
    np.testing.assert_allclose(new.data.ravel()[deep], expected[deep], atol=5e-3)
    assert not evaluate.share_grid(evaluate.Pair(old, new, np.eye(4)))
    # It covers all of the old box.
    beyond = new.to_ijk(old.corners_mm)
    assert beyond.min() >= 0
    assert (beyond <= np.array(new.shape) - 1).all()


def test_hard_kinds_are_measured_where_both_scans_show_anatomy(tmp_path):
    def nothing_moves(_fixed, _moving):
        return SimpleNamespace(
            moving_from_fixed=np.eye(4), score=1.0, overlap_fraction=1.0, seconds={}
        )

    out = tmp_path / "kinds.json"
    call = ["--kinds", "identical", "--kinds", "mouse", "--seeds", "2", "-o", str(out)]
    assert evaluate.main(call, nothing_moves) == 1
    sets = {line["set"]: line for line in json.loads(out.read_text())["sets"]}
    assert sets["identical"]["good"] == sets["identical"]["runs"] == 2
    assert sets["identical"]["tre_max_mm"] == 0
    assert (sets["mouse"]["good"], sets["mouse"]["runs"]) == (0, 2)
    assert sets["mouse"]["tre_median_mm"] < 130
    with pytest.raises(SystemExit):
        evaluate.main(["--kinds", "elephant"], nothing_moves)
