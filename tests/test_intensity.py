"""Background, foreground and grey levels of images that broke other tools."""

from __future__ import annotations

import naive
import numpy as np
import pytest

from mireg._errors import InputError
from mireg._image import Image
from mireg._intensity import GreyScale, grey_scale
from mireg._prepare import scan, voxel_centres
from mireg.phantom import BRAIN, CONTRASTS, TISSUES, Contrast, Head, make_phantom


def share_of(image, tissues):
    """Return which voxels are mostly of these tissues."""
    table = {tissue: float(tissue in tissues) for tissue in TISSUES}
    shares = Head.from_seed(0).sample(voxel_centres(image), table)
    return shares.reshape(image.shape) > 0.5


@pytest.fixture(scope="module")
def heads():
    """Scan one head in every contrast; also tell where it is not air."""
    images = {name: make_phantom(name, voxel_size_mm=6) for name in CONTRASTS}
    head = share_of(images["T1"], set(TISSUES) - {"air"})
    return images, head


def dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def test_grey_levels_equal_their_twin(rng):
    data = rng.uniform(-2, 3, (4, 5, 6)).astype(np.float32)
    data[0, 0, :3] = np.nan, -1e30, 1e30
    levels = np.array([0, 0.1, 0.5, 0.6, 1.0])
    grey = GreyScale(0, 0, 0, 0, (-1.0, 2.0), levels)
    expected = naive.grey_levels(data, (-1.0, 2.0), levels)
    for order in "CF":
        found = grey.apply(np.asarray(data, order=order))
        np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("contrast", sorted(CONTRASTS))
def test_brighter_is_a_higher_grey_level(contrast, heads):
    data = heads[0][contrast].data
    levels = grey_scale(heads[0][contrast]).apply(np.sort(data, axis=None))
    assert (np.diff(levels) >= 0).all()
    assert levels.min() == 0
    assert levels.max() == 1
    # No grey level, out of eight, takes nearly all of the anatomy.
    foreground = data[heads[1]]
    counts = np.histogram(
        grey_scale(heads[0][contrast]).apply(foreground), bins=8, range=(0, 1)
    )[0]
    assert counts.max() < 0.6 * foreground.size


@pytest.mark.parametrize("contrast", ["T1", "EPI", "CT", "PET"])
@pytest.mark.parametrize(("slope", "intercept"), [(0.01, 0), (40, -7), (1, -5000)])
def test_rescaled_intensities_change_nothing(contrast, slope, intercept, heads):
    image = heads[0][contrast]
    other = Image(image.data * slope + intercept, image.mm_from_ijk)
    a, b = grey_scale(image), grey_scale(other)
    np.testing.assert_allclose(b.apply(other.data), a.apply(image.data), atol=5e-3)
    same = a.is_foreground(image.data) == b.is_foreground(other.data)
    assert same.mean() > 0.999


def test_an_all_negative_image_has_its_anatomy(heads):
    image = heads[0]["T1"]
    negative = Image(image.data - 40_000, image.mm_from_ijk)
    assert (negative.data < 0).all()
    assert dice(grey_scale(negative).is_foreground(negative.data), heads[1]) > 0.85


def test_dark_anatomy_in_a_bright_box_is_found(heads):
    image = heads[0]["T1"]
    inverted = Image(1000 - image.data, image.mm_from_ijk)
    grey = grey_scale(inverted)
    a = grey.is_foreground(inverted.data)
    b = grey_scale(image).is_foreground(image.data)
    assert (a == b).mean() > 0.999


# --- computed tomography ---------------------------------------------------------


def padded(image, value):
    """Fill what lies outside the round field of view of a scanner."""
    nx, ny, _ = image.shape
    x, y = np.indices((nx, ny))
    outside = np.hypot((x + 0.5) / nx * 2 - 1, (y + 0.5) / ny * 2 - 1) > 1
    data = image.data.copy()
    data[outside] = value
    return data


@pytest.mark.parametrize("fill", [-1024, -2000, -3024, np.nan])
@pytest.mark.parametrize("metal", [None, 3071, 19_000])
def test_padding_and_metal_do_not_hide_the_head_in_ct(fill, metal, heads):
    clean, head = heads[0]["CT"], heads[1]
    data = padded(clean, fill)
    if metal is not None:
        data[20:22, 25:27, 14:18] = metal  # teeth, about 3 cubic centimetres
    image = Image(data, clean.mm_from_ijk)
    grey = grey_scale(image)
    assert -1100 < grey.background < -950
    assert dice(grey.is_foreground(image.data), head) > 0.95
    soft = head & (np.abs(data - 30) < 60)
    off = grey.apply(image.data) - grey_scale(clean).apply(clean.data)
    assert np.abs(off[soft]).max() < 0.05
    levels = grey.apply(np.float32([-1000, -90, 40, 1300]))  # air fat brain bone
    assert (np.diff(levels) > 0.05).all()


# --- no data, and values of both signs ------------------------------------------


@pytest.mark.parametrize("contrast", ["T1", "T2", "CT"])
def test_a_background_without_data_is_no_anatomy(contrast, heads):
    image, head = heads[0][contrast], heads[1]
    stripped = Image(np.where(head, image.data, np.nan), image.mm_from_ijk)
    grey = grey_scale(stripped)
    assert not grey.is_foreground(stripped.data)[~head].any()
    assert np.isnan(grey.apply(stripped.data)[~head]).all()
    assert np.isfinite(grey.apply(stripped.data)[head]).all()
    centre = voxel_centres(image)[head.ravel()].mean(axis=0)
    assert np.linalg.norm(scan(stripped).anatomy.centre - centre) < 20


def test_values_of_both_signs_are_anatomy():
    # A susceptibility map: iron is positive, myelin negative, all else nothing.
    table = dict.fromkeys(TISSUES, 0.0)
    table |= {"grey": 0.05, "deep": 0.12, "white": -0.06, "csf": 0.01}
    look = Contrast(table, noise="gaussian", noise_level=0.004)
    image = make_phantom(look, voxel_size_mm=5)
    grey, white = (share_of(image, {tissue}) for tissue in ("grey", "white"))
    brain = share_of(image, BRAIN)
    scale = grey_scale(image)
    foreground = scale.is_foreground(image.data)
    assert foreground[grey].mean() > 0.5
    assert foreground[white].mean() > 0.5
    assert foreground[~brain].mean() < 0.02
    nothing = scale.apply(np.float32([0]))[0]
    assert scale.apply(image.data[white]).mean() < nothing - 0.1
    assert scale.apply(image.data[grey]).mean() > nothing + 0.1
    centre = voxel_centres(image)[brain.ravel()].mean(axis=0)
    assert np.linalg.norm(scan(image).anatomy.centre - centre) < 5


@pytest.mark.parametrize("value", [0, -1024, 3.5])
def test_one_intensity_is_refused(value):
    data = np.full((5, 5, 5), value, np.float32)
    data[0, 0, 0] = np.nan
    with pytest.raises(InputError, match=f"constant: every voxel is {value:g}"):
        grey_scale(Image(data, np.eye(4)))


def test_no_data_is_refused():
    with pytest.raises(InputError, match="every voxel is NaN"):
        grey_scale(Image(np.full((5, 5, 5), np.nan), np.eye(4)))


@pytest.mark.parametrize("shape", [(1, 1, 2), (2, 2, 2), (1, 9, 9), (30, 1, 1)])
def test_tiny_images_have_a_grey_scale(shape, rng):
    data = rng.random(shape).astype(np.float32)
    levels = grey_scale(Image(data, np.eye(4))).apply(data)
    assert ((levels >= 0) & (levels <= 1)).all()
    assert levels.max() > levels.min()


def test_one_voxel_that_differs_is_contrast():
    data = np.zeros((20, 20, 20), np.float32)
    data[10, 9, 8] = 1
    grey = grey_scale(Image(data, np.eye(4)))
    np.testing.assert_array_equal(np.argwhere(grey.is_foreground(data)), [[10, 9, 8]])
