"""The record of one scan: what it keeps, and what it refuses."""

from __future__ import annotations

import base64
import io
import re

import nibabel as nib
import numpy as np
import PIL.Image
import pytest
from checks import GRIDS

import mireg
from mireg._errors import InputError
from mireg._image import Image, are_inside

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


def test_a_point_is_inside_up_to_the_edges_of_the_outer_voxels():
    image = Image(np.zeros((4, 5, 6)), np.diag([-2.0, 2, 2, 1]))  # i to the left
    points = [[[0.9, 0, 0], [1.1, 0, 0]], [[-6.9, 8.9, 10.9], [-6.9, 9.1, 10.9]]]
    expected = [[True, False], [True, False]]
    np.testing.assert_array_equal(are_inside(image, points), expected)


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
        (np.full((2, 2, 2), 1.5, object), "holds object values, not real"),
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


# --- one thing, whatever it comes as ------------------------------------------------


def test_a_repr_is_one_line(tmp_path):
    image = Image(np.zeros((3, 5, 2)), np.diag([-2.0, 1.25, 4, 1]))
    assert repr(image) == "<Image 3 x 5 x 2, voxels of 2 x 1.25 x 4 mm, float32>"
    series = np.arange(48, dtype=np.int16).reshape(2, 3, 4, 2)
    nib.save(nib.Nifti1Image(series, np.eye(4)), tmp_path / "bold.nii.gz")
    assert repr(mireg.read_image(tmp_path / "bold.nii.gz", 1)) == (
        "<Image 2 x 3 x 4, voxels of 1 x 1 x 1 mm, float32 from int16, volume 1, "
        "bold.nii.gz>"
    )


def test_a_notebook_shows_three_planes_and_what_it_is():
    # Bright at the front, on the right, above: what is seen where can be said by hand.
    voxels = np.zeros((20, 20, 20))
    voxels[10:, 10:, 10:] = 1
    shown = Image(voxels, np.eye(4))._repr_html_()
    assert "<td>20 x 20 x 20</td>" in shown
    picture = re.search(r"data:image/png;base64,([^\"]*)", shown)[1]
    pixels = PIL.Image.open(io.BytesIO(base64.b64decode(picture)))
    for panel in np.split(np.asarray(pixels)[..., 0], 3, axis=1):
        h, w = panel.shape
        corners = panel[[h // 4, 3 * h // 4]][:, [w // 4, 3 * w // 4]]
        assert corners.tolist() == [[0, 255], [0, 0]]


@pytest.mark.parametrize("grid", GRIDS)
def test_to_nibabel_and_back(grid, rng):
    image = Image(rng.normal(size=(3, 4, 5)), GRIDS[grid])
    there = image.to_nibabel()
    assert isinstance(there, nib.Nifti1Image)
    np.testing.assert_array_equal(there.get_fdata(), image.data)
    np.testing.assert_array_equal(there.affine, image.mm_from_ijk)
    back = mireg.read_image(nib.Nifti1Image.from_bytes(there.to_bytes()))
    np.testing.assert_array_equal(back.data, image.data)
    np.testing.assert_allclose(back.mm_from_ijk, image.mm_from_ijk, atol=1e-5)


@pytest.mark.parametrize("grid", GRIDS)
def test_to_simpleitk_and_back(grid, rng):
    image = Image(rng.normal(size=(3, 4, 5)), GRIDS[grid])
    there = image.to_sitk()
    assert there.GetSize() == (3, 4, 5)
    assert there.GetPixel(1, 2, 3) == image.data[1, 2, 3]
    lps = there.TransformIndexToPhysicalPoint((1, 2, 3))
    np.testing.assert_allclose(lps * np.array([-1, -1, 1]), image.to_mm([1, 2, 3]))
    back = mireg.read_image(there)
    np.testing.assert_array_equal(back.data, image.data)
    np.testing.assert_allclose(back.mm_from_ijk, image.mm_from_ijk, atol=1e-12)


def test_numpy_takes_the_voxels():
    image = Image(np.arange(24).reshape(2, 3, 4), np.eye(4))
    assert np.asarray(image) is image.data or np.shares_memory(image, image.data)
    assert np.asarray(image, np.int16).dtype == np.int16
    assert np.mean(image) == 11.5
    copy = np.array(image)
    copy[:] = 0
    assert image.data.max() == 23


@pytest.mark.parametrize("dtype", ["u1", "i2", "i4", "f4", "f8", "?"])
@pytest.mark.parametrize("make", [Image, lambda *pair: mireg.read_image(pair)])
def test_what_is_masked_is_no_data(make, dtype):
    voxels = np.ma.array(np.arange(24).reshape(2, 3, 4) % 7, dtype=dtype, mask=False)
    voxels[0, 1, 2] = np.ma.masked
    image = make(voxels, np.eye(4))
    assert np.argwhere(np.isnan(image.data)).tolist() == [[0, 1, 2]]
    voxels[0, 1, 2] = 5
    whole = make(voxels, np.eye(4))
    np.testing.assert_array_equal(whole.data, voxels.data.astype(float))


@pytest.mark.parametrize("dtype", [np.float16, np.longdouble, bool, ">f8", "i8"])
def test_what_an_array_holds_can_be_saved(dtype, tmp_path):
    voxels = (np.arange(24).reshape(2, 3, 4) % 2).astype(dtype)
    given = voxels, np.eye(4)
    mireg.write_image(tmp_path / "a.nii", given, template=given)
    np.testing.assert_array_equal(nib.load(tmp_path / "a.nii").get_fdata(), voxels)


@pytest.mark.parametrize("dtype", [np.float16, np.longdouble])
def test_what_nibabel_holds_can_be_saved(dtype, tmp_path):
    voxels = np.arange(24).reshape(2, 3, 4).astype(dtype)
    given = nib.spatialimages.SpatialImage(voxels, np.eye(4))
    mireg.write_image(tmp_path / "a.nii", given, template=given)
    np.testing.assert_array_equal(nib.load(tmp_path / "a.nii").get_fdata(), voxels)


def test_an_array_of_objects_is_refused_at_once():
    objects = np.arange(24).reshape(2, 3, 4).astype(object)
    with pytest.raises(InputError, match="the image: holds object values, not numbers"):
        mireg.read_image((objects, np.eye(4)))


def _forms(tmp_path):
    """Give one small image in every form that stands for one."""
    voxels = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    image = Image(voxels, GRIDS["oblique"])
    nib.save(image.to_nibabel(), tmp_path / "in.nii")
    return {
        "Image": image,
        "path": tmp_path / "in.nii",
        "str": str(tmp_path / "in.nii"),
        "nibabel": image.to_nibabel(),
        "SimpleITK": image.to_sitk(),
        "tuple": (voxels, GRIDS["oblique"]),
    }


@pytest.mark.parametrize(
    "form", ["Image", "path", "str", "nibabel", "SimpleITK", "tuple"]
)
def test_an_image_is_one_thing(form, tmp_path):
    given = _forms(tmp_path)[form]
    mireg.write_image(tmp_path / "out.nii", given)
    for image in (mireg.read_image(given), mireg.read_image(tmp_path / "out.nii")):
        np.testing.assert_array_equal(image.data.ravel(), np.arange(24))
        np.testing.assert_allclose(image.mm_from_ijk, GRIDS["oblique"], atol=1e-5)
    assert mireg.contrast(given).whole.levels > 1


def test_a_constant_image_can_be_written(tmp_path):
    mireg.write_image(tmp_path / "a.nii", (np.ones((2, 3, 4)), np.eye(4)))
    assert nib.load(tmp_path / "a.nii").get_fdata().min() == 1


def test_an_image_has_one_volume():
    image = Image(np.arange(24).reshape(2, 3, 4), np.eye(4))
    assert mireg.read_image(image, 0) is image
    with pytest.raises(InputError, match=r"no volume 3; a mireg\.Image has only"):
        mireg.read_image(image, 3)
