"""The verdict on a pose that anybody found."""

from __future__ import annotations

import json
from itertools import chain

import numpy as np
import pytest

from mireg import (
    InputError,
    Settings,
    check,
    prepare,
    register,
    write_image,
    write_transform,
)
from mireg._transform import RigidTransform
from mireg.cli import main
from mireg.phantom import phantom_pair

POSE = RigidTransform([0.15, -0.1, 0.2], [6, -4, 8])
QUICK = Settings(samples=20_000)


@pytest.fixture(scope="module")
def pair():
    """Scan a head twice, a small turn apart."""
    return phantom_pair(
        "T1", "T2", pose=POSE, fixed_voxel_size_mm=6, moving_voxel_size_mm=6
    )


@pytest.fixture(scope="module")
def own(pair):
    """Register them."""
    return register(pair.fixed, pair.moving, settings=QUICK)


def moved(mm: float, degrees: float = 0.0) -> np.ndarray:
    """Displace the true pose: before it, a turn about a point in the head."""
    motion = RigidTransform([0, 0, np.deg2rad(degrees)], [mm, 0, 0], [0, 0, 0])
    return POSE.matrix @ motion.matrix


def checked(pair, pose, **more):
    return check(pair.fixed, pair.moving, pose, settings=Settings(**more, threads=1))


@pytest.mark.parametrize("mm", [0.5, 2.0, 10.0])
def test_it_says_how_far_a_shifted_pose_is_off(mm, pair):
    found = checked(pair, moved(mm))
    for optimum in (found.nearest, found.best):
        assert optimum.mean_mm == pytest.approx(mm, abs=0.3)
        assert optimum.max_mm >= optimum.mean_mm
        assert optimum.score >= found.score
    assert not found.elsewhere
    assert found.doubtful == (mm > found.verdict.tolerance_mm)
    assert found.verdict.error_mm >= found.best.mean_mm


def test_an_answer_of_register_is_at_the_optimum_with_the_same_verdict(pair, own):
    found = check(pair.fixed, pair.moving, own.transform, settings=QUICK)
    assert found.best.mean_mm < 0.05
    assert found.score == pytest.approx(own.score, abs=2e-3)
    assert found.verdict.probability == pytest.approx(own.verdict.probability, abs=0.05)
    assert not found.doubtful


def test_it_finds_the_better_pose_elsewhere(pair):
    wrong = moved(60.0, 100.0)
    found = checked(pair, wrong)
    assert found.elsewhere
    points = prepare(pair.fixed).foreground.points
    off = RigidTransform.from_matrix(wrong).mean_displacement(points, POSE)
    assert found.best.mean_mm == pytest.approx(off, abs=0.3)
    error = found.best.transform.max_displacement([[0, 0, 0], [50, 60, 0]], POSE)
    assert error < 0.6
    assert found.best.score > found.nearest.score > 1
    assert found.doubtful
    assert found.off
    assert found.verdict.probability < 0.01
    first, *others = found.verdict.reasons
    assert first.startswith(f"a better pose was found, {found.best.mean_mm:.1f} mm")
    assert all(one.startswith("of the better pose: ") for one in others)


def _in_cm(pose):
    return RigidTransform(pose.rotation_vector, pose.translation / 10).matrix


def _other_signs(pose):
    # x and y of points change their sign, so those of the axis and the shift do.
    signs = np.array([-1, -1, 1])
    return RigidTransform(pose.rotation_vector * signs, pose.translation * signs).matrix


@pytest.mark.parametrize(
    ("mistake", "says"),
    [
        (lambda pose: np.linalg.inv(pose.matrix), "the other way round, from moving"),
        (_other_signs, "with x and y of the other sign, LPS"),
        (lambda pose: _other_signs(~pose), "the other way round, with x and y"),
        (_in_cm, "with its translation in cm"),
    ],
)
def test_a_transform_that_is_written_otherwise_is_told_how(mistake, says, pair):
    found = checked(pair, mistake(POSE))
    assert found.off
    assert found.verdict.reasons[1].startswith(f"read {says}")


def test_nothing_is_made_of_a_pose_that_is_off_however_it_is_read(pair):
    found = checked(pair, moved(5.0))
    assert not any(reason.startswith("read ") for reason in found.verdict.reasons)


def test_a_pose_without_overlap_is_judged_all_the_same(pair):
    found = checked(pair, moved(900.0))
    assert np.isnan(found.score)
    assert found.overlap_fraction == 0
    assert found.best.mean_mm > 850
    assert found.doubtful
    assert json.loads(json.dumps(found.to_dict()))["score"] is None


def test_a_tolerance_decides_what_is_right(pair):
    assert not checked(pair, moved(8.0), tolerance_mm=12.0).doubtful
    assert checked(pair, moved(8.0), tolerance_mm=4.0).doubtful


def test_what_is_not_rigid_is_refused(pair):
    with pytest.raises(InputError, match="not rigid"):
        check(pair.fixed, pair.moving, np.diag([1.1, 1, 1, 1]))


# --- in the shell ---------------------------------------------------------------------


@pytest.fixture
def scans(pair, tmp_path, monkeypatch):
    """Put both scans and a transform 20 mm off into a folder, and go there."""
    monkeypatch.chdir(tmp_path)
    write_image("t1.nii.gz", pair.fixed)
    write_image("t2.nii.gz", pair.moving)
    write_transform(
        "off.mat", moved(20.0), format="fsl", fixed=pair.fixed, moving=pair.moving
    )
    write_transform("right.tfm", POSE)


@pytest.mark.usefixtures("scans")
def test_the_command_has_the_numbers_and_an_exit_code(capsys):
    argv = ["check", "t1.nii.gz", "t2.nii.gz", "-t", "off.mat", "--threads", "1"]
    assert main([*argv, "--json"]) == 1
    record = json.loads(capsys.readouterr().out)
    assert record["best"]["mean_mm"] == pytest.approx(20, abs=0.3)
    assert record["doubtful"]
    assert record["transform"] == "off.mat"
    assert set(record["verdict"]) >= {"probability", "handedness", "same_anatomy"}
    # What was measured at the best pose is there, not with the verdict on another one.
    assert "signals" not in record["verdict"]
    assert record["best"]["signals"]["information"] > 0
    assert "signals" not in record["nearest"]
    told = record["residuals"]
    assert len(told["shifts_mm"]) == len(told["centres_mm"]) == len(told["weights"]) > 0
    assert None not in chain(*told["shifts_mm"])
    assert sum(told["weights"]) == pytest.approx(told["told_share"])
    assert main([*argv, "--accept"]) == 0
    said = capsys.readouterr().out
    for word in ("off.mat, from t1.nii.gz to t2.nii.gz", "20.", "doubtful", "verdict"):
        assert word in said
    far = record["best"]["mean_mm"]
    assert f"error         {far:.1f} mm, if the best pose found is right" in said
    assert f"against it    a better pose was found, {far:.1f} mm away" in said
    assert "mireg register t1.nii.gz t2.nii.gz" in said


@pytest.mark.usefixtures("scans")
def test_the_command_takes_the_headers_where_there_is_no_transform(capsys):
    assert main(["check", "t1.nii.gz", "t2.nii.gz", "-t", "right.tfm"]) == 0
    said = capsys.readouterr().out
    assert "right.tfm, from" in said
    assert "mireg register" not in said
    assert main(["check", "t1.nii.gz", "t2.nii.gz"]) == 1
    assert "the headers, from" in capsys.readouterr().out
