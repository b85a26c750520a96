"""Six numbers for the poses near one pose."""

from __future__ import annotations

import numpy as np
import pytest
from checks import pose_error_mm
from hypothesis import given, settings
from hypothesis import strategies as st
from scenes import seen_twice

from mireg._engine.levels import Level
from mireg._engine.pose import PoseParameters, rotation_and_derivative
from mireg._transform import RigidTransform

POSE = RigidTransform([0.4, -0.7, 0.2], [15, -9, 4]).matrix


@pytest.fixture
def level(rng) -> Level:
    """Return a level whose origin is not the centre of its samples."""
    return seen_twice(rng)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.floats(-3, 3), min_size=3, max_size=3))
def test_derivative_of_the_rotation_equals_differences(numbers):
    vector = np.array(numbers)
    rotation, derivative = rotation_and_derivative(vector)
    # An entry that is zero is so only to rounding.
    by_scipy = RigidTransform(vector, [0, 0, 0]).rotation_matrix
    np.testing.assert_allclose(rotation, by_scipy, atol=2e-15)
    step = 1e-6
    for k in range(3):
        up = RigidTransform(vector + step * np.eye(3)[k], [0, 0, 0]).rotation_matrix
        down = RigidTransform(vector - step * np.eye(3)[k], [0, 0, 0]).rotation_matrix
        np.testing.assert_allclose(derivative[k], (up - down) / 2 / step, atol=1e-7)


def test_six_zeros_are_the_pose_itself(level):
    pose, _ = PoseParameters.about(level, POSE).pose(np.zeros(6))
    np.testing.assert_allclose(pose, POSE, atol=1e-12)


def test_the_numbers_move_the_sampled_image_about_the_centre_of_its_samples(level):
    numbers = np.array([0.5, -1.0, 2.0, 3.0, -2.0, 1.0])
    pose, _ = PoseParameters.about(level, POSE).pose(numbers)
    centre = level.origin + level.points.mean(axis=1)
    motion = RigidTransform(numbers[:3] / level.rms_radius, numbers[3:], centre)
    assert pose_error_mm(pose, POSE @ motion.matrix) < 1e-4


def test_a_step_of_one_moves_the_samples_by_about_a_voxel(level):
    near = PoseParameters.about(level, POSE)
    points = level.points.T + level.origin
    before = RigidTransform.from_matrix(POSE)
    for step in np.eye(6):
        pose, _ = near.pose(step)
        moved = RigidTransform.from_matrix(pose).displacements(points, before)
        rms = np.sqrt(np.square(moved).mean())
        assert 0.6 * level.size_mm < rms < 1.01 * level.size_mm
