"""The record of one scan: what it keeps, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest

from mireg._errors import InputError
from mireg._image import Image

SHEARED = np.array([[1, 0, 0, -9], [0, 1, 0.24, 5], [0, 0, 2.5, 1], [0, 0, 0, 1.0]])


@pytest.mark.parametrize("dtype", [">f4", "f8", "i2", "u1", "?", "f2", ">i2"])
def test_data_becomes_float32(dtype, rng):
    data = rng.integers(0, 2, size=(2, 3, 4)).astype(dtype)
    image = Image(data, np.eye(4))
    assert image.data.dtype == np.float32
    assert image.data.dtype.isnative
    np.testing.assert_array_equal(image.data, data.astype(float))


def test_infinite_is_no_data():
    data = np.array([1, np.inf, -np.inf, np.nan, 1e300]).reshape(5, 1, 1)
    image = Image(data, np.eye(4))
    np.testing.assert_array_equal(image.data.ravel(), [1, *[np.nan] * 4])
    assert np.isinf(data[1, 0, 0])  # the caller's array is left alone


def test_geometry_by_hand():
    image = Image(np.zeros((3, 5, 2)), np.diag([-2.0, 1, 4, 1]))
    assert image.shape == (3, 5, 2)
    assert image.voxel_size_mm.tolist() == [2, 1, 4]
    assert image.voxel_volume_mm3 == pytest.approx(8)
    assert image.centre_mm.tolist() == [-2, 2, 2]
    assert image.corners_mm.min(axis=0).tolist() == [-4, 0, 0]
    assert image.corners_mm.max(axis=0).tolist() == [0, 4, 4]
    np.testing.assert_array_equal(image.to_mm([[1, 1, 1]]), [[-2, 1, 4]])


def test_shear_is_kept():
    image = Image(np.zeros((3, 3, 3)), SHEARED)
    np.testing.assert_array_equal(image.mm_from_ijk, SHEARED)
    assert image.voxel_volume_mm3 == pytest.approx(2.5)
    np.testing.assert_allclose(image.to_mm([0, 0, 2]), [-9, 5.48, 6])


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (np.zeros((2, 2)), "2 dimensions"),
        (np.zeros((2, 2, 2, 2)), "4 dimensions"),
        (np.zeros((2, 0, 2)), "empty"),
        (np.zeros((2, 2, 2), complex), "not real"),
        (np.zeros((2, 2, 2), [("R", "u1"), ("G", "u1"), ("B", "u1")]), "not real"),
        (np.full((1, 1, 1), "a"), "not real"),
    ],
)
def test_what_is_no_volume_is_refused(data, says):
    with pytest.raises(InputError, match=says):
        Image(data, np.eye(4))


@pytest.mark.parametrize(
    ("affine", "says"),
    [
        (np.eye(3), "shape"),
        (np.diag([1, 1, 0, 1.0]), "singular"),
        (
            np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]),
            "singular",
        ),
        (np.diag([1, 1, np.nan, 1]), "not finite"),
        (np.diag([1, 1, 1, 2.0]), "last row"),
    ],
)
def test_an_affine_that_places_nothing_is_refused(affine, says):
    with pytest.raises(InputError, match=says):
        Image(np.zeros((2, 2, 2)), affine)


def test_a_tiny_voxel_is_no_singular_one():
    assert Image(np.zeros((2, 2, 2)), np.diag([1e-4, 1e-4, 1e-4, 1])).shape == (2, 2, 2)
