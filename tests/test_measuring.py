"""What the scripts that register share: poses, grids and errors."""

from __future__ import annotations

import json
from pathlib import Path

import ablation
import capture_range
import consistency
import evaluate
import measuring
import metric_study
import numpy as np
import pytest
from checks import FIXED, MOVING, TRUTH, ball, shifted

from mireg._image import Image
from mireg._transform import RigidTransform, read_transform
from mireg.phantom import KINDS


def ball_at(middle):
    """Return the ball on a grid of 2 mm with its middle there."""
    mm_from_ijk = FIXED.copy()
    mm_from_ijk[:3, 3] = middle - (np.array(ball().shape) - 1)
    return Image(ball(), mm_from_ijk)


def test_the_truth_of_the_stored_pair_is_a_case():
    truth = Path(__file__).parent.parent / "data" / "truth.json"
    (case,) = measuring.cases_from_file(truth, 0)
    assert case.id == "phantom_T1_EPI"
    np.testing.assert_array_equal(case.load().moving_from_fixed, read_transform(truth))


def test_distances_by_hand():
    turn = RigidTransform([0, 0, np.pi / 2], [0, 0, 0]).matrix
    points = np.array([[10.0, 0, 0], [0, 0, 7], [0, 3, 0]])
    found = measuring.distances(turn, np.eye(4), points)
    np.testing.assert_allclose(found, [10 * np.sqrt(2), 0, 3 * np.sqrt(2)], atol=1e-12)
    answers = [shifted(0.0), shifted(-1.0), shifted(2.0)]
    assert measuring.spread(answers, points) == 3
    assert measuring.spread([np.eye(4)], points) == 0


def test_poses_turn_about_the_middle_and_stay_near():
    middle = np.array([30.0, -500.0, 80.0])
    pair = measuring.Pair(ball_at(middle), ball_at(middle), np.eye(4))
    case = measuring.Case("case", "set", lambda: pair, 1.0, 200)
    poses = [measuring.pose_of(case, number, 0, pair) for number in range(200)]
    np.testing.assert_array_equal(poses[0], np.eye(4))
    at = np.array([pose[:3, :3] @ middle + pose[:3, 3] for pose in poses])
    away = np.linalg.norm(at - middle, axis=1)
    assert 90 < away.max() <= 100
    # The mean of uniform rotations is zero.
    assert np.abs(np.mean([pose[:3, :3] for pose in poses[1:]], axis=0)).max() < 0.2


def test_poses_of_a_kind_are_as_far_off_the_truth_as_it_says():
    case, aligned = (
        measuring.kind_cases([name], 1, 0, poses=200)[0]
        for name in ("slices", "aligned")
    )
    assert (case.poses, aligned.poses) == (200, 0)
    image = ball_at(np.zeros(3))
    pair = measuring.Pair(image, image, TRUTH)
    truths = [
        RigidTransform.from_matrix(measuring.pose_of(case, k, 0, pair) @ TRUTH)
        for k in range(1, 201)
    ]
    angles = [truth.angle_deg for truth in truths]
    offsets = [np.linalg.norm(truth.matrix[:3, 3]) for truth in truths]
    assert 40 < max(angles) <= 45
    assert 55 < max(offsets) <= 60


def test_foreground_is_the_ball_whatever_the_padding():
    data = 100 * ball() - 1000
    data[0, 0, 0] = -3024
    data[1, 1, 1] = np.nan
    points = measuring.foreground_points(Image(data, FIXED))
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
        pair = measuring.Pair(image, Image(ball(), affine), truth)
        assert measuring.share_grid(pair) is expected, name


def test_regridding_moves_no_anatomy():
    ijk = np.indices((18, 16, 14)).reshape(3, -1).T
    old = Image(np.zeros((18, 16, 14)), MOVING)
    # Cubic splines keep a smooth wave; its value at a point says where it lies.
    waves = [2 * np.pi / 60, 2 * np.pi / 75, 2 * np.pi / 66]
    data = np.cos(old.to_mm(ijk) * waves).sum(axis=1).reshape(old.shape)
    data[9, 8, 7] = np.nan
    new = measuring.regrid(Image(data, MOVING))
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
    assert not measuring.share_grid(measuring.Pair(old, new, np.eye(4)))
    # It covers all of the old box.
    beyond = new.to_ijk(old.corners_mm)
    assert beyond.min() >= 0
    assert (beyond <= np.array(new.shape) - 1).all()


def test_a_grid_may_have_other_voxels():
    old = ball_at(np.zeros(3))
    new = measuring.regrid(old, scale=0.8)
    np.testing.assert_allclose(new.voxel_size_mm, 1.6)
    assert np.nansum(new.data) * 1.6**3 == pytest.approx(old.data.sum() * 8, rel=0.02)


def test_the_coarser_voxel_is_the_larger_one():
    pair = measuring.Pair(Image(ball(), FIXED), Image(ball(), MOVING), np.eye(4))
    assert measuring.coarser_voxel_mm(pair) == pytest.approx((2.5 * 9) ** (1 / 3))


def test_a_subject_is_in_one_split_whatever_else_is_there(tmp_path):
    names = [f"patient{number:02d}" for number in range(40)]
    entries = [
        {
            "id": f"{name}_{scan}",
            "fixed": f"set/{name}/{scan}.nii",
            "moving": f"set/{name}/T2.nii",
            "moving_from_fixed": np.eye(4).tolist(),
            "reference_uncertainty_mm": 0,
        }
        for name in names
        for scan in ("T1", "FLAIR")
    ]

    def ids(split, entries=entries):
        path = tmp_path / "cases.json"
        path.write_text(json.dumps(entries))
        return [case.id for case in measuring.cases_from_file(path, 0, split)]

    chosen, reported = ids("choose"), ids("report")
    assert sorted(chosen + reported) == sorted(ids(None))
    assert 20 < len(chosen) < 60
    subjects = [{id.split("_")[0] for id in split} for split in (chosen, reported)]
    assert not subjects[0] & subjects[1]
    some = entries[10:30]
    assert ids("choose", some) == [e["id"] for e in some if e["id"] in chosen]


@pytest.mark.parametrize(
    "script", [ablation, capture_range, consistency, evaluate, metric_study]
)
def test_each_script_reports_on_subjects_that_no_choice_has_seen(script):
    args = script.parse(["--kinds", "spine", "--split", "report"])
    assert {case.id[:8] for case in script.cases_of(args)} == {"spine_10"}
    with pytest.raises(SystemExit):
        script.parse(["--kinds", "knee", "--split", "choose"])


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"fixed": "ms/patient03/T1.nii"}, "patient03"),
        ({"fixed": "../data/ms/patient03/T1.nii"}, "patient03"),
        ({"fixed": "bids/sub-07/ses-2/anat/sub-07_ses-2_T1w.nii"}, "sub-07"),
        ({"fixed": "sub-07_T1w.nii"}, "sub-07"),
        ({"fixed": "T1.nii", "id": "anna_T1"}, "anna"),
        ({"fixed": "T1/anna.nii", "subject": "anna"}, "anna"),
    ],
)
def test_the_subject_of_a_case(entry, expected):
    assert measuring.subject_of(entry) == expected


def test_kinds_held_out_are_a_third_and_leave_each_family_one():
    assert set(KINDS) > measuring.HELD_OUT
    assert 0.3 < len(measuring.HELD_OUT) / len(KINDS) < 0.4
    for family in ("slab", "epi", "ct", "thick"):
        held = [name in measuring.HELD_OUT for name in KINDS if name.startswith(family)]
        assert 0 < sum(held) < len(held), family
