"""Background, foreground and intensity scale of images that broke other tools."""

from __future__ import annotations

import naive
import numpy as np
import pytest
from skimage.filters import threshold_otsu

from mireg._errors import InputError
from mireg._image import Image
from mireg._intensity import (
    IntensityScale,
    intensity_scale,
    otsu_threshold,
    subsampled,
)
from mireg._prepare import prepare, voxel_centres
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


def test_normalised_intensities_equal_their_reference(rng):
    data = rng.uniform(-2, 3, (4, 5, 6)).astype(np.float32)
    data[0, 0, :3] = np.nan, -1e30, 1e30
    knots = np.array([0, 0.1, 0.5, 0.6, 1.0])
    scale = IntensityScale(0, 0, 0, 0, (-1.0, 2.0), knots)
    expected = naive.normalise(data, (-1.0, 2.0), knots)
    for order in "CF":
        found = scale.apply(np.asarray(data, order=order))
        np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("contrast", sorted(CONTRASTS))
def test_brighter_is_a_higher_normalised_intensity(contrast, heads):
    data = heads[0][contrast].data
    scale = intensity_scale(heads[0][contrast])
    values = scale.apply(np.sort(data, axis=None))
    assert (np.diff(values) >= 0).all()
    assert values.min() == 0
    assert values.max() == 1
    # No bin, out of eight, takes nearly all of the anatomy.
    foreground = data[heads[1]]
    counts = np.histogram(scale.apply(foreground), bins=8, range=(0, 1))[0]
    assert counts.max() < 0.6 * foreground.size


@pytest.mark.parametrize("contrast", ["T1", "EPI", "CT", "PET"])
@pytest.mark.parametrize(("slope", "intercept"), [(0.01, 0), (40, -7), (1, -5000)])
def test_rescaled_intensities_change_nothing(contrast, slope, intercept, heads):
    image = heads[0][contrast]
    other = Image(image.data * slope + intercept, image.mm_from_ijk)
    a, b = intensity_scale(image), intensity_scale(other)
    np.testing.assert_allclose(b.apply(other.data), a.apply(image.data), atol=5e-3)
    same = a.is_foreground(image.data) == b.is_foreground(other.data)
    assert same.mean() > 0.999


def test_an_all_negative_image_has_its_anatomy(heads):
    image = heads[0]["T1"]
    negative = Image(image.data - 40_000, image.mm_from_ijk)
    assert (negative.data < 0).all()
    assert dice(intensity_scale(negative).is_foreground(negative.data), heads[1]) > 0.85


def test_dark_anatomy_in_a_bright_box_is_found(heads):
    image = heads[0]["T1"]
    inverted = Image(1000 - image.data, image.mm_from_ijk)
    scale = intensity_scale(inverted)
    a = scale.is_foreground(inverted.data)
    b = intensity_scale(image).is_foreground(image.data)
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
    scale = intensity_scale(image)
    assert -1100 < scale.background < -950
    assert dice(scale.is_foreground(image.data), head) > 0.95
    soft = head & (np.abs(data - 30) < 60)
    off = scale.apply(image.data) - intensity_scale(clean).apply(clean.data)
    assert np.abs(off[soft]).max() < 0.05
    values = scale.apply(np.float32([-1000, -90, 40, 1300]))  # air fat brain bone
    assert (np.diff(values) > 0.05).all()


# --- no data, and values of both signs ------------------------------------------


@pytest.mark.parametrize("contrast", ["T1", "T2", "CT"])
def test_a_background_without_data_is_no_anatomy(contrast, heads):
    image, head = heads[0][contrast], heads[1]
    stripped = Image(np.where(head, image.data, np.nan), image.mm_from_ijk)
    scale = intensity_scale(stripped)
    assert not scale.is_foreground(stripped.data)[~head].any()
    assert np.isnan(scale.apply(stripped.data)[~head]).all()
    assert np.isfinite(scale.apply(stripped.data)[head]).all()
    centre = voxel_centres(image)[head.ravel()].mean(axis=0)
    assert np.linalg.norm(prepare(stripped).foreground.centroid - centre) < 20


def test_values_of_both_signs_are_anatomy():
    # A susceptibility map: iron is positive, myelin negative, all else nothing.
    table = dict.fromkeys(TISSUES, 0.0)
    table |= {"grey": 0.05, "deep": 0.12, "white": -0.06, "csf": 0.01}
    contrast = Contrast(table, noise="gaussian", noise_level=0.004)
    image = make_phantom(contrast, voxel_size_mm=5)
    grey, white = (share_of(image, {tissue}) for tissue in ("grey", "white"))
    brain = share_of(image, BRAIN)
    scale = intensity_scale(image)
    foreground = scale.is_foreground(image.data)
    assert foreground[grey].mean() > 0.5
    assert foreground[white].mean() > 0.5
    assert foreground[~brain].mean() < 0.02
    nothing = scale.apply(np.float32([0]))[0]
    assert scale.apply(image.data[white]).mean() < nothing - 0.1
    assert scale.apply(image.data[grey]).mean() > nothing + 0.1
    centre = voxel_centres(image)[brain.ravel()].mean(axis=0)
    assert np.linalg.norm(prepare(image).foreground.centroid - centre) < 5


@pytest.mark.parametrize("value", [0, -1024, 3.5])
def test_one_intensity_is_refused(value):
    data = np.full((5, 5, 5), value, np.float32)
    data[0, 0, 0] = np.nan
    with pytest.raises(InputError, match=f"constant, every voxel is {value:g};"):
        intensity_scale(Image(data, np.eye(4)))


def test_no_data_is_refused():
    with pytest.raises(InputError, match="every voxel is NaN"):
        intensity_scale(Image(np.full((5, 5, 5), np.nan), np.eye(4)))


@pytest.mark.parametrize("shape", [(1, 1, 2), (2, 2, 2), (1, 9, 9), (30, 1, 1)])
def test_tiny_images_have_an_intensity_scale(shape, rng):
    data = rng.random(shape).astype(np.float32)
    values = intensity_scale(Image(data, np.eye(4))).apply(data)
    assert ((values >= 0) & (values <= 1)).all()
    assert values.max() > values.min()


def test_one_voxel_that_differs_is_contrast():
    data = np.zeros((20, 20, 20), np.float32)
    data[10, 9, 8] = 1
    scale = intensity_scale(Image(data, np.eye(4)))
    np.testing.assert_array_equal(np.argwhere(scale.is_foreground(data)), [[10, 9, 8]])


def test_the_background_has_a_normalised_intensity_of_its_own(heads):
    image = heads[0]["T1"]
    for slope in (1, -1):  # a dark background, then a bright one
        scale = intensity_scale(Image(slope * image.data, image.mm_from_ijk))
        background = scale.apply(np.full((1, 1, 1), scale.background, np.float32))
        assert scale.normalised_background == background[0, 0, 0]
        assert scale.normalised_background == pytest.approx(float(slope < 0), abs=0.01)


# --- few voxels, and two classes of them --------------------------------------------


@pytest.mark.parametrize("order", "CF")
@pytest.mark.parametrize("shape", [(10, 11, 12), (80, 70, 90), (400, 300, 4)])
def test_few_voxels_are_those_of_the_image_in_their_place(shape, order, rng):
    data = np.asarray(rng.random(shape, np.float32), order=order)
    mm_from_ijk = np.array(
        [[0, -2.0, 0, 5], [1, 0, 0, 6], [0, 0.5, 3, 7], [0, 0, 0, 1]]
    )
    few = subsampled(Image(data, mm_from_ijk))
    assert few.data.size <= 300_000
    assert few.data.size == data.size or few.data.size > 100_000
    ijk = np.rint(Image(data, mm_from_ijk).to_ijk(voxel_centres(few))).astype(int)
    np.testing.assert_array_equal(data[tuple(ijk.T)], few.data.ravel())
    few.data[:] = 0  # a copy: the image stays as it is
    assert data.max() > 0


def between_classes(counts, centres, threshold):
    """Variance between two classes, from its definition."""
    values = np.repeat(centres, counts)
    lower, upper = values[values <= threshold], values[values > threshold]
    share = lower.size / values.size
    return share * (1 - share) * (lower.mean() - upper.mean()) ** 2


def test_otsu_s_threshold_by_hand():
    # Two alike: the first class ends at the first of them.
    assert otsu_threshold([1, 1], [10, 20]) == 10
    # The gap between has no voxels: of equals, the first.
    assert otsu_threshold([5, 0, 0, 5], [0, 1, 2, 3]) == 0
    # 0 0 0 1 | 4 4 beats 0 0 0 | 1 4 4: means 1/4 and 4 against 0 and 3.
    assert between_classes([3, 1, 0, 0, 2], np.arange(5), 1) == pytest.approx(3.125)
    assert between_classes([3, 1, 0, 0, 2], np.arange(5), 0) == pytest.approx(2.25)
    assert otsu_threshold([3, 1, 0, 0, 2], np.arange(5)) == 1


def test_empty_ends_do_not_count_as_a_class():
    assert otsu_threshold([0, 0, 4, 1, 4, 0], np.arange(6)) in (2, 3)
    assert otsu_threshold([0, 3, 3, 0], [-2, -1, 1, 2]) == -1


@pytest.mark.parametrize("bins", [2, 7, 256])
def test_otsu_s_threshold_is_that_of_scikit_image_and_of_the_definition(bins, rng):
    for _ in range(20):
        low, high = rng.normal(0, 1, 400), rng.normal(rng.uniform(1, 6), 0.5, 150)
        counts, edges = np.histogram(np.concatenate([low, high]), bins)
        centres = (edges[:-1] + edges[1:]) / 2
        found = otsu_threshold(counts, centres)
        assert found == pytest.approx(threshold_otsu(hist=(counts, centres)), abs=1e-12)
        best = max(between_classes(counts, centres, x) for x in centres[:-1])
        assert between_classes(counts, centres, found) == pytest.approx(best)
