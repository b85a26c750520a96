"""The table of motion, by hand and by the formulas of fMRIPrep."""

from __future__ import annotations

import numpy as np
import pytest

from mireg._confounds import (
    Signals,
    Thresholds,
    confounds,
    definitions,
    framewise_displacement,
    rms_deviation,
    table_text,
)
from mireg._transform import RigidTransform


def test_displacement_is_that_of_a_case_worked_out_by_hand():
    motion = np.zeros((4, 6))
    motion[1] = [0.02, 0, -0.01, 0.5, 0, 0.25]  # 50 * 0.03 + 0.75
    motion[2] = motion[1]
    motion[3] = [0, 0, 0, 0.5, 1, 0.25]  # 50 * 0.03 + 1
    np.testing.assert_allclose(
        framewise_displacement(motion), [np.nan, 2.25, 0, 2.5], atol=1e-12
    )
    np.testing.assert_allclose(framewise_displacement(motion, 10)[1], 0.3 + 0.75)


def test_displacement_is_that_of_fmripreps_formula(rng):
    # nipype's FramewiseDisplacement, which fMRIPrep runs on shifts and angles.
    motion = rng.normal(size=(20, 6)) * np.repeat([0.01, 0.5], 3)
    mpars = motion.copy()
    diff = mpars[:-1, :6] - mpars[1:, :6]
    diff[:, :3] *= 50
    theirs = np.abs(diff).sum(axis=1)
    np.testing.assert_allclose(framewise_displacement(motion)[1:], theirs)


def test_deviation_of_a_turn_is_that_of_points_of_the_sphere(rng):
    # A turn by a about the centre moves points by 2 sin(a/2) times their distance from
    # the axis, whose mean square over a ball is 2/5 r^2.
    angle = 0.1
    turn = RigidTransform([0, angle, 0], [0, 0, 0], [7, -3, 2]).matrix
    found = rms_deviation(np.array([np.eye(4), turn]), [7, -3, 2], 80)[1]
    assert found == pytest.approx(2 * np.sin(angle / 2) * 80 * np.sqrt(2 / 5))
    # Any motion, by points of the ball.
    motions = np.array(
        [RigidTransform(*rng.normal(size=(2, 3)) * [[0.05], [2]]).matrix for _ in "12"]
    )
    points = rng.uniform(-80, 80, (400_000, 3))
    points = points[np.linalg.norm(points, axis=1) < 80] + [7, -3, 2]
    change = motions[1] @ np.linalg.inv(motions[0])
    away = points @ change[:3, :3].T + change[:3, 3] - points
    square = np.square(away).sum(axis=1).mean()
    found = rms_deviation(motions, [7, -3, 2], 80)[1]
    assert found == pytest.approx(np.sqrt(square), rel=0.005)


def test_dvars_are_those_of_nipypes_formula(rng):
    where = np.zeros((6, 6, 6), bool)
    where[1:5, 1:5, 1:5] = True
    series = 500 + 100 * rng.random((6, 6, 6, 1)) + rng.normal(size=(6, 6, 6, 40)) * 5
    series[..., 20] += 30
    signals = Signals(where)
    for t in range(40):
        signals.add(series[..., t].astype(np.float32))
    plain, standard = signals.dvars()
    # nipype.algorithms.confounds.compute_dvars
    mfunc = series[where]
    mfunc = mfunc / np.median(mfunc) * 1000
    func_sd = (
        np.percentile(mfunc, 75, axis=1, method="lower")
        - np.percentile(mfunc, 25, axis=1, method="lower")
    ) / 1.349
    around = mfunc - mfunc.mean(axis=1, keepdims=True)
    ar1 = (around[:, 1:] * around[:, :-1]).sum(axis=1) / (around**2).sum(axis=1)
    expected = (np.sqrt((1 - ar1) * 2) * func_sd).mean()
    theirs = np.sqrt(np.square(np.diff(mfunc, axis=1)).mean(axis=0))
    np.testing.assert_allclose(plain[1:], theirs, rtol=1e-4)
    np.testing.assert_allclose(standard[1:], theirs / expected, rtol=1e-4)
    assert np.isnan(plain[0])


def test_voxels_that_leave_the_field_of_view_do_not_count():
    signals = Signals(np.ones((2, 2, 2), bool))
    first = np.full((2, 2, 2), 100, np.float32)
    second = np.full((2, 2, 2), 102, np.float32)
    second[0] = np.nan
    signals.add(first)
    signals.add(second)
    plain, _ = signals.dvars()
    assert plain[1] == pytest.approx(2 * 1000 / 101)


def test_columns_have_the_names_and_the_order_of_fmriprep():
    motion = np.zeros((4, 6))
    motion[2:, 3] = 2.0  # to the side
    motions = np.tile(np.eye(4), (4, 1, 1))
    motions[2:, 0, 3] = 2.0
    columns = confounds(
        motion,
        motions,
        [0, 0, 0],
        standard_error_mm=np.full(4, 0.1),
        doubted=np.array([False, False, True, False]),
        thresholds=Thresholds(0.5),
    )
    assert list(columns)[:6] == [
        "framewise_displacement",
        "rmsd",
        "trans_x",
        "trans_x_derivative1",
        "trans_x_derivative1_power2",
        "trans_x_power2",
    ]
    np.testing.assert_array_equal(columns["trans_x"], [0, 0, 2, 2])
    np.testing.assert_array_equal(columns["trans_x_derivative1"], [np.nan, 0, 2, 0])
    np.testing.assert_array_equal(columns["trans_x_power2"], [0, 0, 4, 4])
    np.testing.assert_array_equal(columns["motion_outlier00"], [0, 0, 1, 0])
    assert "motion_outlier01" not in columns
    np.testing.assert_array_equal(columns["doubted"], [0, 0, 1, 0])
    assert set(definitions(columns, 50, Thresholds(0.5))) == set(columns)
    lines = table_text(columns).splitlines()
    assert lines[1].startswith("n/a\tn/a\t0\tn/a")
    assert len(lines) == 5
