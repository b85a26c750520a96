"""Rigid transforms: the algebra, the edges, the refusals."""

from __future__ import annotations

import numpy as np
import pytest
from checks import HEAD_BOX
from hypothesis import given, settings
from hypothesis import strategies as st

from mireg._errors import InputError
from mireg._transform import RigidTransform, rotation_and_derivative

NUMBERS = st.floats(-200, 200, allow_nan=False)
POINT = st.tuples(NUMBERS, NUMBERS, NUMBERS)
DIRECTION = st.tuples(*[st.floats(-1, 1)] * 3).filter(lambda d: np.linalg.norm(d) > 0.1)
ANGLE = st.one_of(
    st.floats(0, np.pi), st.sampled_from([0, 1e-12, 1e-8, 1e-5, np.pi / 2, np.pi])
)


@st.composite
def rigid(draw):
    """Draw a rigid transform: any angle, half turns and tiny ones included."""
    axis = np.array(draw(DIRECTION))
    axis *= draw(ANGLE) / np.linalg.norm(axis)
    return RigidTransform(axis, draw(POINT), draw(POINT))


def same(a, b, tolerance=1e-9):
    """Tell whether two transforms put the corners of a head at the same places."""
    return a.max_displacement(HEAD_BOX, b) < tolerance


@settings(deadline=None)
@given(rigid())
def test_inverse_undoes_and_undoes_itself(t):
    identity = RigidTransform.identity()
    assert same(t.inverse() @ t, identity)
    assert same(t @ t.inverse(), identity)
    assert same(t.inverse().inverse(), t)
    np.testing.assert_allclose(t.inverse().matrix @ t.matrix, np.eye(4), atol=1e-9)


@settings(deadline=None)
@given(rigid())
def test_numbers_to_matrix_to_numbers(t):
    back = RigidTransform.from_matrix(t.matrix, t.centre)
    assert same(back, t)
    np.testing.assert_allclose(back.translation, t.translation, atol=1e-9)
    assert back.angle_deg == pytest.approx(t.angle_deg, abs=1e-6)
    if t.angle_deg < 179.99:  # at a half turn the axis has two signs
        np.testing.assert_allclose(back.rotation_vector, t.rotation_vector, atol=1e-9)


@settings(deadline=None)
@given(rigid(), POINT)
def test_about_another_centre_is_the_same_motion(t, centre):
    moved = t.about(centre)
    assert same(moved, t)
    np.testing.assert_allclose(moved.centre, centre)
    np.testing.assert_allclose(
        moved.apply(centre), moved.centre + moved.translation, atol=1e-9
    )


@settings(deadline=None)
@given(rigid(), rigid(), POINT)
def test_composition_applies_the_right_one_first(second, first, point):
    there = (second @ first).apply(point)
    np.testing.assert_allclose(there, second.apply(first.apply(point)), atol=1e-8)
    np.testing.assert_allclose(
        (second @ first).matrix, second.matrix @ first.matrix, atol=1e-8
    )


@settings(deadline=None)
@given(rigid(), POINT, POINT)
def test_distances_are_kept(t, a, b):
    before = np.linalg.norm(np.subtract(a, b))
    after = np.linalg.norm(t.apply(a) - t.apply(b))
    assert after == pytest.approx(before, abs=1e-8)


@settings(deadline=None)
@given(rigid())
def test_single_precision_is_mended(t):
    rounded = RigidTransform.from_matrix(t.matrix.astype(np.float32), t.centre)
    r = rounded.rotation_matrix
    np.testing.assert_allclose(r @ r.T, np.eye(3), atol=1e-12)
    assert same(rounded, t, tolerance=2e-3)


def test_a_quarter_turn_by_hand():
    turn = RigidTransform([0, 0, np.pi / 2], [1, 2, 3])
    expected = [[0, -1, 0, 1], [1, 0, 0, 2], [0, 0, 1, 3], [0, 0, 0, 1]]
    np.testing.assert_allclose(turn.matrix, expected, atol=1e-15)
    np.testing.assert_allclose(turn.apply([10, 0, 0]), [1, 12, 3])
    np.testing.assert_allclose(turn.apply([[10, 0, 0]] * 2), [[1, 12, 3]] * 2)


def test_a_half_turn_by_hand():
    half = RigidTransform.from_matrix(np.diag([-1.0, 1, -1, 1]))
    np.testing.assert_allclose(np.abs(half.rotation_vector), [0, np.pi, 0])
    assert half.angle_deg == pytest.approx(180)


def test_displacements_by_hand():
    shift = RigidTransform([0, 0, 0], [3, 4, 0])
    other = RigidTransform([0, 0, 0], [3, 0, 0])
    points = np.zeros((2, 3))
    assert shift.displacements(points).tolist() == [5, 5]
    assert shift.displacements(points, other).tolist() == [4, 4]
    half_turn = RigidTransform([0, 0, np.pi], [0, 0, 0])
    both = [[0, 0, 0], [1, 0, 0]]
    assert half_turn.mean_displacement(both) == pytest.approx(1)
    assert half_turn.max_displacement(both) == pytest.approx(2)


@pytest.mark.parametrize(
    ("matrix", "says"),
    [
        (np.diag([1.01, 1, 1, 1]), "not rigid"),
        (np.diag([-1.0, 1, 1, 1]), "reflects"),
        (np.eye(4) + np.eye(4, k=1) * 0.01, "last row|not rigid"),
        (np.diag([1, 1, 1, 2.0]), "last row"),
        (np.eye(3), "shape"),
        (np.diag([np.nan, 1, 1, 1]), "finite"),
    ],
)
def test_a_matrix_that_is_not_rigid_is_refused(matrix, says):
    with pytest.raises(InputError, match=says):
        RigidTransform.from_matrix(matrix)


@pytest.mark.parametrize("bad", [[0, 0], [0, 0, np.inf], [[0, 0, 0]]])
def test_wrong_numbers_are_refused(bad):
    with pytest.raises(InputError, match="three finite numbers"):
        RigidTransform(bad, [0, 0, 0])


@settings(deadline=None, max_examples=30)
@given(rigid())
def test_derivative_of_the_rotation_equals_differences(t):
    vector = t.rotation_vector
    rotation, derivative = rotation_and_derivative(vector)
    # An entry that is zero is so only to rounding.
    np.testing.assert_allclose(rotation, t.rotation_matrix, atol=1e-15)
    step = 1e-6
    for k in range(3):
        up = RigidTransform(vector + step * np.eye(3)[k], [0, 0, 0]).rotation_matrix
        down = RigidTransform(vector - step * np.eye(3)[k], [0, 0, 0]).rotation_matrix
        np.testing.assert_allclose(derivative[k], (up - down) / 2 / step, atol=1e-7)
