"""What is learnt of one image: where its anatomy is, its shading, block means."""

from __future__ import annotations

import naive
import numpy as np
import pytest
from checks import GRIDS

from mireg._errors import InputError
from mireg._image import Image, memory_order
from mireg._prepare import (
    downsample,
    evened,
    flatten,
    in_mask,
    interpolate,
    scan,
    voxel_centres,
)
from mireg.phantom import brain_points, make_phantom

# --- block means --------------------------------------------------------------


@pytest.mark.parametrize("order", "CF")
@pytest.mark.parametrize("factors", [(1, 1, 1), (2, 2, 2), (3, 1, 2), (2, 4, 3)])
@pytest.mark.parametrize("shape", [(7, 5, 6), (2, 9, 4), (1, 3, 3)])
def test_block_means_equal_their_twin(order, factors, shape, rng):
    data = rng.normal(size=shape).astype(np.float32)
    data[rng.random(shape) < 0.3] = np.nan
    image = Image(np.asarray(data, order=order), GRIDS["sheared"])
    for limits in [(-np.inf, np.inf), (-0.5, 0.8)]:
        expected = naive.downsample(data, factors, *limits)
        for threads in (1, 2, 4):
            found = downsample(image, factors, limits, threads)
            np.testing.assert_allclose(found.data, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("grid", sorted(GRIDS))
def test_a_block_lies_in_the_middle_of_its_voxels(grid):
    shape, factors = (8, 9, 10), (2, 3, 5)
    places = np.moveaxis(voxel_centres(Image(np.zeros(shape), GRIDS[grid])), -1, 0)
    means = []
    for along in places:  # each coordinate taken for an intensity
        small = downsample(Image(along.reshape(shape), GRIDS[grid]), factors)
        means.append(small.data.ravel())
    np.testing.assert_allclose(np.transpose(means), voxel_centres(small), atol=1e-4)


# --- reading at points --------------------------------------------------------


@pytest.mark.parametrize("grid", sorted(GRIDS))
def test_interpolation_keeps_a_ramp_and_ends_half_a_voxel_out(grid, rng):
    image = Image(np.zeros((6, 7, 8)), GRIDS[grid])
    ramp = voxel_centres(image) @ [1.0, -2, 3]
    image = Image(ramp.reshape(image.shape), GRIDS[grid])
    inside = image.to_mm(rng.uniform(0, np.array(image.shape) - 1, (50, 3)))
    np.testing.assert_allclose(
        interpolate(image, inside), inside @ [1, -2, 3], atol=1e-3
    )
    border = image.to_mm([[-0.45, 2, 2], [2, 6.45, 2], [-0.55, 2, 2], [2, 2, 7.55]])
    known = np.isfinite(interpolate(image, border))
    np.testing.assert_array_equal(known, [True, True, False, False])


@pytest.mark.parametrize("order", "CF")
@pytest.mark.parametrize("shape", [(4, 5, 6), (1, 3, 4), (3, 1, 1)])
def test_interpolation_equals_its_twin(shape, order, rng):
    data = rng.normal(size=shape).astype(np.float32)
    data[rng.random(shape) < 0.1] = np.nan
    image = Image(np.asarray(data, order=order), GRIDS["oblique"])
    ijk = rng.uniform(-0.8, np.array(shape) - 0.2, (200, 3))
    expected = naive.interpolate(data, ijk)
    found = interpolate(image, image.to_mm(ijk))
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("order", "CF")
@pytest.mark.parametrize("shape", [(9, 8, 7), (8, 1, 5)])
def test_evening_divides_by_the_shading_at_each_voxel(shape, order, rng):
    data = np.asarray(rng.normal(size=shape), order=order)
    image = Image(data, GRIDS["sheared"])
    shading = downsample(image, (2, 3, 2))
    shading = Image(rng.uniform(1, 2, shading.shape), shading.mm_from_ijk)
    ijk = shading.to_ijk(voxel_centres(image))
    ijk = np.clip(ijk, 0, np.array(shading.shape) - 1)  # its edges go on
    there = interpolate(shading, shading.to_mm(ijk)).reshape(shape)
    expected = (0.5 + (data - 0.5) / there).transpose(memory_order(data))
    planes = evened(image, 0.5, shading)
    np.testing.assert_allclose(planes(slice(None)), expected, atol=1e-5)
    np.testing.assert_allclose(planes(slice(2, 4)), expected[2:4], atol=1e-5)


@pytest.mark.parametrize("grid", sorted(GRIDS))
def test_a_point_is_in_a_mask_if_its_nearest_voxel_is(grid, rng):
    voxels = rng.random((5, 6, 7)) < 0.5
    mask = Image(voxels, GRIDS[grid])
    ijk = rng.uniform(-2, 8, (300, 3))
    expected = []
    for x in ijk:
        nearest = tuple(np.rint(x).astype(int))
        outside = min(nearest) < 0 or any(np.greater_equal(nearest, voxels.shape))
        expected.append(not outside and bool(voxels[nearest]))
    np.testing.assert_array_equal(in_mask(mask, mask.to_mm(ijk)), expected)


@pytest.mark.parametrize("grid", sorted(GRIDS))
def test_a_fraction_above_a_half_is_in_the_mask(grid, rng):
    fractions = rng.random((6, 7, 8))
    fractions[0, 0, :3] = 0.5, np.nan, 255
    fractional = Image(fractions, GRIDS[grid])
    binary = Image(np.float32(np.nan_to_num(fractions) > 0.5), GRIDS[grid])
    points = fractional.to_mm(rng.uniform(-1, 9, (500, 3)))
    np.testing.assert_array_equal(in_mask(fractional, points), in_mask(binary, points))
    first = in_mask(fractional, fractional.to_mm([[0, 0, 0], [0, 0, 1], [0, 0, 2]]))
    assert first.tolist() == [False, False, True]


def test_a_mask_that_leaves_too_little_says_how_much():
    head, _ = ball("oblique")
    large = Image(head.data, head.mm_from_ijk @ np.diag([9.0, 9, 9, 1]))
    for shift, overlap in ((0, 8), (1e4, 0)):
        # Eight voxels of 1 mm3 between voxel centres that lie 11 mm apart or more.
        place = np.eye(4)
        place[:3, 3] = large.to_mm([30.5, 20.5, 20.5]) + shift - 0.5
        mask = Image(np.full((2, 2, 2), 0.7), place)
        says = f"the mask and its image overlap in {overlap} mm3, of the 8 mm3"
        with pytest.raises(InputError, match=says):
            scan(large, mask)


# --- anatomy ------------------------------------------------------------------


def ball(grid, radius=22.0, shape=(61, 47, 44), value=100.0):
    """Return a bright ball in a box, and its centre in mm."""
    image = Image(np.zeros(shape), GRIDS[grid])
    centre = image.to_mm(np.array(shape) * [0.52, 0.48, 0.46])
    apart = np.linalg.norm(voxel_centres(image) - centre, axis=1)
    data = np.where(apart < radius, value, 0).reshape(shape)
    return Image(data, GRIDS[grid]), centre


@pytest.mark.parametrize("grid", sorted(GRIDS))
def test_centre_radius_and_volume_of_a_ball_are_those_of_geometry(grid):
    image, centre = ball(grid)
    anatomy = scan(image).anatomy
    assert np.linalg.norm(anatomy.centre - centre) < 0.5
    assert anatomy.radius == pytest.approx(22 * np.sqrt(3 / 5), rel=0.05)
    assert anatomy.volume == pytest.approx(4 / 3 * np.pi * 22**3, rel=0.1)


@pytest.mark.parametrize("grid", sorted(GRIDS))
def test_places_and_region_are_about_the_anatomy(grid):
    image, centre = ball(grid)
    found = scan(image)
    assert found.anatomy.depth == pytest.approx(22, abs=2.5)
    for depth, reach in ((0, 22), (11, 11)):
        places = found.anatomy.lattice(7.0, depth)
        np.testing.assert_allclose(places[0], found.anatomy.centre, atol=1e-9)
        away = np.linalg.norm(places - centre, axis=1)
        assert reach - 7 < away.max() < reach + 7
        apart = np.linalg.norm(places - places[:, None], axis=-1)
        assert np.unique(apart.round(6))[1] == pytest.approx(7)
    points = voxel_centres(found.region)
    inside = found.region.data.ravel() > 0
    apart = np.linalg.norm(points - centre, axis=1)
    assert inside[apart < 22].all()
    assert not inside[apart > 22 + 15].any()


def test_the_region_of_a_slab_is_no_narrower_than_that_of_the_whole():
    x, y, _ = np.indices((60, 60, 30))
    column = np.float32((x - 30) ** 2 + (y - 30) ** 2 < 15**2)
    slabs = [Image(column[..., :n].copy(), np.diag([2.0, 2, 2, 1])) for n in (1, 2, 30)]
    rims = [scan(slab).region.data.any(axis=2).sum() for slab in slabs]
    assert rims[0] == rims[1] <= rims[2]


def test_other_intensities_leave_the_anatomy_where_it_is():
    image = make_phantom("T1", voxel_size_mm=6)
    before = scan(image).anatomy
    for slope, intercept in [(0.01, 0), (3, -9000), (-1, 0)]:
        other = Image(image.data * slope + intercept, image.mm_from_ijk)
        after = scan(other).anatomy
        assert np.linalg.norm(after.centre - before.centre) < 0.5
        assert after.radius == pytest.approx(before.radius, rel=0.01)


@pytest.mark.parametrize("contrast", ["T1", "T2", "EPI", "CT", "PET"])
def test_the_centre_of_a_head_is_near_the_brain(contrast):
    anatomy = scan(make_phantom(contrast, voxel_size_mm=6)).anatomy
    assert np.linalg.norm(anatomy.centre - brain_points().mean(axis=0)) < 40
    assert 50 < anatomy.radius < 90


def test_within_a_mask_only_the_masked_anatomy_counts():
    image, centre = ball("straight")
    # A mask on another grid: what lies to the right of the ball's centre.
    affine = np.diag([7.0, 9, 8, 1])
    affine[:3, 3] = centre + np.array([3.5, -100, -100])
    mask = Image(np.ones((20, 25, 25)), affine)
    anatomy = scan(image, mask).anatomy
    # The centre of half a ball is 3/8 of its radius from its flat side.
    assert np.linalg.norm(anatomy.centre - centre - [22 * 3 / 8, 0, 0]) < 1.5
    assert anatomy.volume == pytest.approx(2 / 3 * np.pi * 22**3, rel=0.1)


def test_a_mask_elsewhere_is_refused():
    image, _ = ball("straight")
    affine = np.eye(4)
    affine[:3, 3] = 1000
    with pytest.raises(InputError, match="overlap in 0 mm3, of the 125 mm3"):
        scan(image, Image(np.ones((5, 5, 5)), affine))


# --- shading ------------------------------------------------------------------


@pytest.mark.parametrize("background", [0.0, 200.0])
@pytest.mark.parametrize("contrast", ["ball", "T1"])
def test_a_smooth_shading_is_divided_out(background, contrast):
    if contrast == "ball":
        image, _ = ball("straight", radius=28)
    else:
        image = make_phantom("T1", voxel_size_mm=5)
    before = scan(image)
    away = (voxel_centres(image) - before.anatomy.centre) / before.anatomy.radius
    coil = np.exp(away @ [0.25, -0.2, 0.2]).reshape(image.shape)
    shaded = Image(background + image.data * coil, image.mm_from_ijk)
    found = flatten(scan(shaded))
    field = interpolate(found.shading, voxel_centres(shaded)).reshape(image.shape)
    deep = before.grey.is_foreground(image.data)
    deep &= (np.linalg.norm(away, axis=1) < 1).reshape(image.shape)
    assert np.isfinite(field[deep]).all()
    left = np.log(coil / field)[deep]
    # What the image itself varies by remains; compare with its own field.
    itself = flatten(scan(Image(background + image.data, image.mm_from_ijk))).shading
    itself = interpolate(itself, voxel_centres(shaded)).reshape(image.shape)
    left += np.log(itself)[deep]
    assert left.std() < 0.5 * np.log(coil)[deep].std()


def test_what_has_no_shading_is_left_about_as_it_is():
    image, _ = ball("oblique")
    before, after = scan(image), flatten(scan(image))
    field = interpolate(after.shading, voxel_centres(image)).reshape(image.shape)
    inside = image.data > 0
    # At the border half-filled voxels pass for shading.
    assert np.abs(field[inside] - 1).max() < 0.25
    assert np.abs(field[inside] - 1).mean() < 0.1
    same = before.grey.is_foreground(image.data) == after.grey.is_foreground(image.data)
    assert same.all()
