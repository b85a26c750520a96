"""Resampling against twins, scipy, SimpleITK and answers worked out by hand."""

from __future__ import annotations

import naive
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813, the usual name
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from mireg.errors import InputError
from mireg.image import Image
from mireg.resample import INTERPOLATIONS, fill_value, resample
from mireg.transform import RigidTransform

OBLIQUE = np.array(
    [[1.1, 0.2, -0.1, -4.0], [-0.2, 1.3, 0.3, 2.0], [0.1, -0.2, 1.8, 1.0], [0, 0, 0, 1]]
)


def voxel_pose(image, pose):
    """Return the voxel-to-voxel matrix of a pose between images on one grid."""
    return np.linalg.inv(image.mm_from_ijk) @ pose @ image.mm_from_ijk


def some_pose(image):
    """Return a turn about the middle of an image, as a matrix."""
    return RigidTransform([0.2, -0.3, 0.1], [0.3, 0.5, -0.2], image.centre_mm).matrix


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("shape", [(5, 4, 6), (2, 3, 1), (1, 1, 1)])
@pytest.mark.parametrize("order", "CF")
def test_equals_its_twin(interpolation, shape, order, rng):
    data = np.asarray(rng.normal(size=shape).astype(np.float32), order=order)
    moving = Image(data, OBLIQUE)
    like = Image(np.zeros((4, 5, 3)), OBLIQUE @ np.diag([1.3, 0.9, 1.1, 1]))
    pose = some_pose(moving)
    twin = getattr(naive, f"resample_{interpolation}")
    matrix = np.linalg.inv(OBLIQUE) @ pose @ like.mm_from_ijk
    expected = twin(data, matrix, like.shape)
    found = resample(moving, like, pose, interpolation=interpolation)
    np.testing.assert_allclose(found.data, expected, atol=2e-6)
    np.testing.assert_array_equal(found.mm_from_ijk, like.mm_from_ijk)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_identity_keeps_every_voxel(interpolation, rng):
    image = Image(rng.normal(size=(6, 5, 1)), OBLIQUE)
    same = resample(image, image, np.eye(4), interpolation=interpolation)
    np.testing.assert_allclose(same.data, image.data, atol=2e-6)
    if interpolation != "cubic":
        np.testing.assert_array_equal(same.data, image.data)


@pytest.mark.parametrize(("interpolation", "order"), [("linear", 1), ("cubic", 3)])
def test_agrees_with_scipy(interpolation, order, rng):
    image = Image(rng.normal(size=(12, 11, 10)), np.diag([1, 1.5, 2, 1]))
    pose = some_pose(image)
    matrix = voxel_pose(image, pose)
    ijk = np.indices(image.shape).reshape(3, -1)
    at = matrix[:3, :3] @ ijk + matrix[:3, 3:]
    inside = ((at >= 0) & (at <= np.array(image.shape)[:, None] - 1)).all(axis=0)
    expected = ndimage.map_coordinates(
        image.data.astype(float), at, order=order, mode="mirror"
    )
    found = resample(image, image, pose, interpolation=interpolation).data.ravel()
    assert inside.sum() > 500
    np.testing.assert_allclose(found[inside], expected[inside], atol=2e-6)


def test_agrees_with_simpleitk(rng):
    image = Image(rng.uniform(1, 2, size=(9, 8, 7)), np.diag([-1.0, -1.5, 2, 1]))
    transform = RigidTransform([0.2, -0.3, 0.1], [0.3, 0.5, -0.2], image.centre_mm)
    lps = np.diag([-1.0, -1, 1, 1])
    matrix = lps @ transform.matrix @ lps
    volume = sitk.GetImageFromArray(image.data.T)
    volume.SetSpacing((1.0, 1.5, 2.0))  # LPS: x and y of this image go to + there
    affine = sitk.AffineTransform(3)
    affine.SetMatrix(matrix[:3, :3].ravel())
    affine.SetTranslation(matrix[:3, 3])
    expected = sitk.GetArrayFromImage(
        sitk.Resample(volume, volume, affine, sitk.sitkLinear, np.nan)
    ).T
    found = resample(image, image, transform.matrix).data
    both = np.isfinite(found) & np.isfinite(expected)
    assert both.sum() > 200
    np.testing.assert_allclose(found[both], expected[both], atol=1e-5)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_same_bits_on_any_number_of_threads(interpolation, rng):
    image = Image(rng.normal(size=(20, 21, 22)), OBLIQUE)
    pose = some_pose(image)
    runs = [
        resample(image, image, pose, interpolation=interpolation, threads=n).data
        for n in (1, 2, 4)
    ]
    np.testing.assert_array_equal(runs[0], runs[1])
    np.testing.assert_array_equal(runs[0], runs[2])


def test_the_image_ends_half_a_voxel_past_its_outermost_centres():
    row = Image(np.array([[[1.0]], [[2.0]]]), np.eye(4))
    for shift, expected in ((0.5, [1.5, 2]), (0.51, [1.51, np.nan]), (-0.5, [1, 1.5])):
        pose = np.eye(4)
        pose[0, 3] = shift
        found = resample(row, row, pose).data.ravel()
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_a_missing_voxel_reaches_only_those_that_need_it():
    data = np.ones((5, 1, 1))
    data[2] = np.nan
    image = Image(data, np.eye(4))
    half = np.eye(4)
    half[0, 3] = 0.5
    missing = [False, True, True, False, False]
    for interpolation in ("linear", "cubic"):
        still = resample(image, image, np.eye(4), interpolation=interpolation)
        np.testing.assert_array_equal(np.isnan(still.data), np.isnan(image.data))
        moved = resample(image, image, half, interpolation=interpolation).data.ravel()
        np.testing.assert_array_equal(np.isnan(moved), missing)
        np.testing.assert_allclose(moved[~np.isnan(moved)], 1, rtol=1e-6)


def test_nothing_but_missing_voxels():
    image = Image(np.full((3, 3, 3), np.nan), np.eye(4))
    assert np.isnan(resample(image, image, np.eye(4), interpolation="cubic").data).all()


def test_fill_is_what_has_no_answer():
    image = Image(np.array([[[1.0]], [[np.nan]]]), np.eye(4))
    far = np.eye(4)
    far[0, 3] = 1
    assert resample(image, image, far, fill=-7).data.ravel().tolist() == [-7, -7]


def test_labels_stay_labels(rng):
    labels = Image(rng.choice([0, 7, 1035], size=(9, 9, 9)), np.eye(4))
    moved = resample(labels, labels, some_pose(labels), interpolation="nearest", fill=0)
    assert set(np.unique(moved.data)) == {0, 7, 1035}


def test_a_strided_view_is_read_in_its_own_order(rng):
    data = rng.normal(size=(10, 8, 6)).astype(np.float32)[::2, ::-1]
    image = Image(data, np.eye(4))
    np.testing.assert_array_equal(resample(image, image, np.eye(4)).data, data)


@settings(deadline=None, max_examples=20)
@given(st.lists(st.floats(-2, 2), min_size=4, max_size=4))
def test_linear_keeps_a_ramp(slopes):
    ramp = np.einsum("a,aijk->ijk", slopes[:3], np.indices((6, 6, 6))) + slopes[3]
    image = Image(ramp, np.eye(4))
    pose = RigidTransform([0.1, 0.2, -0.3], [0.4, 0, 0.2], [2.5, 2.5, 2.5])
    found = resample(image, image, pose.matrix).data
    at = pose.apply(np.moveaxis(np.indices((6, 6, 6)), 0, -1))
    inside = ((at >= 0) & (at <= 5)).all(axis=-1)
    expected = at @ slopes[:3] + slopes[3]
    np.testing.assert_allclose(found[inside], expected[inside], atol=2e-5)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ([0, 5, 9], 0),
        ([3, 5, 9], 0),
        ([-1000, 40, -1000], -1000),
        ([-0.2, 0.3, 0, 0, 0], 0),
        ([-5, 12, 12, 12], 0),
        ([-5, -9, -7], -7),
        ([1, np.nan, 2], np.nan),
    ],
)
def test_fill_value_is_what_the_image_has_at_its_borders(data, expected):
    image = Image(np.reshape(data, (-1, 1, 1)), np.eye(4))
    np.testing.assert_equal(fill_value(image), expected)


def test_refusals():
    image = Image(np.zeros((2, 2, 2)), np.eye(4))
    with pytest.raises(InputError, match="interpolation is 'sinc'"):
        resample(image, image, np.eye(4), interpolation="sinc")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"shape \(4, 4\)"):
        resample(image, image, np.eye(3))
    with pytest.raises(InputError, match="last row"):
        resample(image, image, np.diag([1, 1, 1, 2.0]))
