"""Rigid transforms: the algebra, the edges, the refusals."""

from __future__ import annotations

import pickle

import nibabel as nib
import numpy as np
import pytest
from checks import HEAD_BOX
from hypothesis import given, settings
from hypothesis import strategies as st

from mireg._errors import InputError, MiregWarning
from mireg._transform import (
    AffineTransform,
    RigidTransform,
    as_rigid,
    as_transform,
)

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


# --- as values --------------------------------------------------------------

#: Worked by hand: a quarter turn from x to y, then 1, 2, 3 mm; its inverse takes
#: (1, 2, 3) to the origin and turns from y to x.
QUARTER = [[0, -1, 0, 1], [1, 0, 0, 2], [0, 0, 1, 3], [0, 0, 0, 1]]
BACK = [[0, 1, 0, -2], [-1, 0, 0, 1], [0, 0, 1, -3], [0, 0, 0, 1]]
#: Twice as far along x, then 10 mm to the right.
WIDER = [[2, 0, 0, 10], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
CORNER = np.diag([0.0, 0, 0, 1])
NARROWER = [[0.5, 0, 0, -5], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
#: (x, y, z) to (2x + 10, y, z), and that to (1 - y, 2 + 2x + 10, 3 + z).
WIDER_THEN_QUARTER = [[0, -1, 0, 1], [2, 0, 0, 12], [0, 0, 1, 3], [0, 0, 0, 1]]
#: (x, y, z) to (1 - y, x + 2, z + 3), and that to (12 - 2y, x + 2, z + 3).
QUARTER_THEN_WIDER = [[0, -2, 0, 12], [1, 0, 0, 2], [0, 0, 1, 3], [0, 0, 0, 1]]


def test_inverse_and_product_by_hand():
    quarter, wider = RigidTransform.from_matrix(QUARTER), AffineTransform(WIDER)
    np.testing.assert_allclose(~quarter, BACK, atol=1e-15)
    np.testing.assert_array_equal(~wider, NARROWER)
    np.testing.assert_array_equal(quarter @ wider, WIDER_THEN_QUARTER)
    np.testing.assert_array_equal(wider @ quarter, QUARTER_THEN_WIDER)
    # Straight ahead, as the transform sees it, is to the left after the quarter turn.
    forward = RigidTransform([0, 0, 0], [0, 10, 0])
    np.testing.assert_array_equal((quarter @ forward).apply([0, 0, 0]), [-9, 2, 3])
    np.testing.assert_array_equal((forward @ quarter).apply([0, 0, 0]), [1, 12, 3])


def test_only_what_is_rigid_by_itself_stays_rigid():
    rigid_one, affine = RigidTransform.from_matrix(QUARTER), AffineTransform(QUARTER)
    kinds = {
        RigidTransform: (~rigid_one, rigid_one @ rigid_one, rigid_one.inverse()),
        AffineTransform: (
            *(~affine, affine.inverse(), affine @ affine),
            *(rigid_one @ affine, affine @ rigid_one),
        ),
    }
    for kind, found in kinds.items():
        assert all(type(t) is kind for t in found)
    with pytest.raises(TypeError):
        rigid_one @ "turn"
    with pytest.raises(TypeError):
        affine @ None


def test_a_product_with_an_affine_keeps_every_number_of_a_matrix():
    # So near to a rotation that a rigid transform takes the rest for rounding.
    near = np.array(QUARTER, float)
    near[0, 1] *= 1 + 4e-5
    product = AffineTransform(np.eye(4)) @ near
    assert type(product) is AffineTransform
    np.testing.assert_array_equal(product, near)
    mended = RigidTransform.identity() @ near
    assert type(mended) is RigidTransform
    np.testing.assert_allclose(mended, QUARTER, atol=1e-12)
    # Within the rounding, but it is stated to be affine.
    stated = RigidTransform.identity() @ AffineTransform(near)
    assert type(stated) is AffineTransform
    np.testing.assert_array_equal(stated, near)
    with pytest.raises(InputError, match="the matrix: the transform is singular"):
        AffineTransform(np.eye(4)) @ CORNER


def test_numpy_takes_a_transform_for_its_matrix():
    turn = RigidTransform.from_matrix(QUARTER)
    as_array = np.asarray(turn)
    np.testing.assert_array_equal(as_array, QUARTER)
    assert as_array.dtype == np.float64
    assert np.asarray(turn, np.float32).dtype == np.float32
    as_array[0, 0] = turn.matrix[0, 1] = 7  # copies
    np.testing.assert_array_equal(turn, QUARTER)
    shift = np.eye(4)
    shift[0, 3] = 10
    # As nibabel's affines are used; what stands first says what it is.
    np.testing.assert_array_equal((shift @ turn)[:3, 3], [11, 2, 3])
    product = turn @ shift
    assert isinstance(product, RigidTransform)
    np.testing.assert_array_equal(product.matrix, QUARTER @ shift)
    larger = turn @ np.diag([2.0, 2, 2, 1])
    assert isinstance(larger, AffineTransform)
    np.testing.assert_array_equal(larger.apply([1, 1, 1]), turn.apply([2, 2, 2]))
    points = np.ones((4, 4))  # homogeneous, in columns: no transform
    np.testing.assert_array_equal(turn @ points, np.asarray(QUARTER) @ points)


def test_equal_is_every_number_of_the_matrix():
    turn = RigidTransform.from_matrix(QUARTER)
    same_one = RigidTransform.from_matrix(np.array(QUARTER, np.float32))
    assert turn == same_one == AffineTransform(QUARTER) == turn.about([5, 6, 7])
    assert len({turn, same_one, AffineTransform(QUARTER), ~turn}) == 2
    negative = np.where(np.equal(QUARTER, 0), -0.0, QUARTER)
    assert AffineTransform(negative) == turn
    assert hash(AffineTransform(negative)) == hash(turn)
    moved = RigidTransform.from_matrix(QUARTER + np.eye(4, k=3) * 1e-9)
    assert turn != moved
    assert turn != QUARTER[0]
    assert turn != "turn"


@settings(deadline=None, max_examples=30)
@given(rigid())
def test_a_rotation_keeps_every_digit_of_its_matrix(t):
    back = RigidTransform.from_matrix(t.matrix, [7.7, -31.3, 12.1])
    assert back == t
    np.testing.assert_array_equal(back.matrix, t.matrix)
    assert pickle.loads(pickle.dumps(back)) == t


def test_what_a_transform_says_of_itself_is_one_line():
    turn = RigidTransform(np.deg2rad(30) * np.array([0.6, 0, -0.8]), [1.25, -2, 0])
    assert repr(turn) == (
        "RigidTransform(30 degrees about (0.6, 0, -0.8) at (0, 0, 0), "
        "then (1.25, -2, 0) mm)"
    )
    assert repr(RigidTransform.identity()) == (
        "RigidTransform(no rotation, then (0, 0, 0) mm)"
    )
    assert repr(AffineTransform(WIDER)) == (
        "AffineTransform(stretches by 1 to 2, the origin moves by (10, 0, 0) mm)"
    )
    assert "2 and reflects" in repr(AffineTransform(-np.array(WIDER) + 2 * CORNER))


def test_displacements_between_an_affine_and_a_rigid_one():
    wider, shift = AffineTransform(WIDER), RigidTransform([0, 0, 0], [10, 0, 0])
    points = [[0, 0, 0], [3, 1, 1]]
    assert wider.displacements(points, shift).tolist() == [0, 3]
    assert wider.max_displacement(points) == 13
    assert shift.mean_displacement(points, wider) == 1.5


@pytest.mark.parametrize(
    ("matrix", "says"),
    [
        (np.diag([1, 1, 0, 1]), "singular"),
        (np.diag([1, 1, 1, 2]), "last row"),
        (np.eye(3), r"shape \(4, 4\)"),
        (np.diag([np.inf, 1, 1, 1]), "finite"),
        (np.eye(4) * (1 + 0j), "real numbers"),
        ([[1, 0], [0]], r"shape \(4, 4\)"),
        (None, "real numbers"),
    ],
)
def test_what_is_no_affine_is_refused(matrix, says):
    with pytest.raises(InputError, match=says):
        AffineTransform(matrix)


def with_last_row(*row):
    return np.vstack([np.array(QUARTER)[:3], row])


def test_single_precision_in_the_last_row_is_rounding():
    for row in ([0, 0, 0, 0.99999988], [0, 1e-9, -1e-9, 1.0000001]):
        rounded = with_last_row(*row)
        assert RigidTransform.from_matrix(rounded).matrix.tolist() == QUARTER
        assert AffineTransform(rounded).matrix.tolist() == QUARTER
    # At 200 mm these move a point by half a hundredth of a millimetre or more.
    for row in ([0, 0, 0, 0.99997], [0, 1.3e-7, 0, 1], [1e-3, 0, 0, 1]):
        with pytest.raises(InputError, match="last row"):
            RigidTransform.from_matrix(with_last_row(*row))


# --- whatever stands for a transform ----------------------------------------


@pytest.mark.parametrize("kind", [list, np.array, np.float32, "path", "str"])
def test_whatever_stands_for_a_transform(kind, tmp_path):
    path = tmp_path / "t.tfm"
    AffineTransform(QUARTER).save(path)
    given = {"path": path, "str": str(path)}.get(kind) or kind(QUARTER)
    made = as_transform(given)
    assert type(made) is RigidTransform
    assert made == RigidTransform.from_matrix(QUARTER)
    assert as_transform(made) is made
    assert as_rigid(given) == made
    AffineTransform(WIDER).save(path, force=True)
    given = given if kind in ("path", "str") else kind(WIDER)
    made = as_transform(given)
    assert type(made) is AffineTransform
    assert made == AffineTransform(WIDER)
    with pytest.raises(InputError, match="it stretches by 1 to 2; give one"):
        as_rigid(given)


@pytest.mark.parametrize("given", [None, 3, np.eye(3), [[1, 2], [3]], object(), b"t"])
def test_what_stands_for_no_transform(given):
    with pytest.raises(InputError, match=r"^init: a transform must be"):
        as_rigid(given)


@pytest.mark.parametrize("make", [as_transform, as_rigid])
def test_a_path_is_read_with_the_images_at_hand(make, tmp_path):
    # FSL counts from the last voxel, which is at 9 mm in fixed and at 19 mm in moving:
    # a file that moves nothing takes the one to the other.
    fixed, moving = (
        nib.Nifti1Image(np.zeros((n, 5, 5), np.int8), np.eye(4)) for n in (10, 20)
    )
    path = tmp_path / "a.mat"
    path.write_text("1 0 0 0\n0 1 0 0\n0 0 1 0\n0 0 0 1\n")
    found = make(path, fixed=fixed, moving=moving)
    np.testing.assert_array_equal(found.apply([9, 0, 0]), [19, 0, 0])


def test_words_say_which_file_or_which_argument(tmp_path):
    with pytest.raises(InputError, match=r"gone\.tfm: there is no such file"):
        as_transform("gone.tfm")
    path = tmp_path / "wider.npy"
    AffineTransform(WIDER).save(path)
    for refused in (lambda: as_rigid(path), lambda: RigidTransform.load(path)):
        with pytest.raises(InputError, match=r"wider\.npy: the transform is not rigid"):
            refused()
    assert AffineTransform.load(path) == AffineTransform(WIDER)


@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize("vector", [[0.7, -1.1, 1.9], [0.02, 0, -0.05], [3.1, 0.2, 0]])
def test_a_start_that_is_rounded_to_three_digits_is_made_rigid(vector, inverted):
    pose = RigidTransform(vector, [12.25, -40.5, 3.125])
    rounded = pose.matrix.copy()
    rounded[:3, :3] = rounded[:3, :3].round(3)
    if inverted:  # as of a matrix that goes the other way
        rounded, pose = np.linalg.inv(rounded), ~pose
    with pytest.warns(MiregWarning, match="init: its rotation seems rounded"):
        made = as_rigid(rounded)
    assert made.max_displacement([[0, 0, 0]], pose) < 0.05
    assert made.max_displacement(HEAD_BOX, pose) < 0.2


def test_a_start_that_stretches_or_reflects_by_more_is_refused():
    turn = RigidTransform([0.7, -1.1, 1.9], [0, 0, 0]).matrix
    for wrong in (np.diag([1.003, 1, 1, 1]), np.diag([-1, 1, 1, 1.0])):
        with pytest.raises(InputError, match="not rigid"):
            as_rigid(turn @ wrong)


def test_more_than_a_half_turn_is_kept_as_the_shorter_one():
    turn = RigidTransform([0, 0, np.deg2rad(270)], [1, 2, 3], [4, 5, 6])
    assert turn.angle_deg == pytest.approx(90)
    np.testing.assert_allclose(turn.rotation_vector, [0, 0, -np.pi / 2])
    np.testing.assert_allclose(turn.apply([5, 5, 6]), [5, 6, 9])


def test_an_angle_in_degrees_gets_a_note():
    with pytest.warns(MiregWarning, match=r"90 radians .*np.deg2rad"):
        turn = RigidTransform([0, 0, 90], [0, 0, 0])
    assert 0 <= turn.angle_deg <= 180
