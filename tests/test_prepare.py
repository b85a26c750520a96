"""Preparing one image: foreground, bias field, block means, reading at points."""

from __future__ import annotations

import naive
import numpy as np
import pytest
from checks import GRIDS

import mireg
from mireg._engine.levels import levels_at, pyramid
from mireg._engine.pair import Pair
from mireg._errors import InputError
from mireg._image import Image, memory_order
from mireg._prepare import (
    Foreground,
    PreparedImage,
    bias_corrected,
    downsample,
    in_mask,
    interpolate,
    prepare,
    voxel_centres,
)
from mireg._settings import Settings
from mireg._transform import RigidTransform
from mireg.phantom import brain_points, make_phantom, random_pose

# --- block means --------------------------------------------------------------


@pytest.mark.parametrize("order", "CF")
@pytest.mark.parametrize("factors", [(2, 1, 1), (2, 2, 2), (3, 1, 2), (2, 4, 3)])
@pytest.mark.parametrize("shape", [(7, 5, 6), (2, 9, 4), (1, 3, 3)])
def test_block_means_equal_their_reference(order, factors, shape, rng):
    data = rng.normal(size=shape).astype(np.float32)
    data[rng.random(shape) < 0.3] = np.nan
    image = Image(np.asarray(data, order=order), GRIDS["sheared"])
    for limits in [(-np.inf, np.inf), (-0.5, 0.8)]:
        expected = naive.downsample(data, factors, *limits)
        for threads in (1, 2, 4):
            found = downsample(image, factors, limits, threads)
            np.testing.assert_allclose(found.data, expected, rtol=1e-5, atol=1e-6)


def test_blocks_of_one_voxel_are_the_image_as_it_is(rng):
    image = Image(rng.normal(size=(4, 5, 6)), GRIDS["sheared"])
    assert downsample(image, (1, 1, 1), (-0.5, 0.8)) is image


@pytest.mark.parametrize("grid", sorted(GRIDS))
def test_a_block_lies_in_the_middle_of_its_voxels(grid):
    shape, factors = (8, 9, 10), (2, 3, 5)
    positions = np.moveaxis(voxel_centres(Image(np.zeros(shape), GRIDS[grid])), -1, 0)
    means = []
    for along in positions:  # each coordinate taken for an intensity
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
def test_interpolation_equals_its_reference(shape, order, rng):
    data = rng.normal(size=shape).astype(np.float32)
    data[rng.random(shape) < 0.1] = np.nan
    image = Image(np.asarray(data, order=order), GRIDS["oblique"])
    ijk = rng.uniform(-0.8, np.array(shape) - 0.2, (200, 3))
    expected = naive.interpolate(data, ijk)
    found = interpolate(image, image.to_mm(ijk))
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("order", "CF")
@pytest.mark.parametrize("shape", [(9, 8, 7), (8, 1, 5)])
def test_bias_correction_divides_by_the_field_at_each_voxel(shape, order, rng):
    data = np.asarray(rng.normal(size=shape), order=order)
    image = Image(data, GRIDS["sheared"])
    small = downsample(image, (2, 3, 2))
    bias_field = Image(rng.uniform(1, 2, small.shape), small.mm_from_ijk)
    ijk = bias_field.to_ijk(voxel_centres(image))
    ijk = np.clip(ijk, 0, np.array(small.shape) - 1)  # its edges go on
    bias = interpolate(bias_field, bias_field.to_mm(ijk)).reshape(shape)
    expected = (0.5 + (data - 0.5) / bias).transpose(memory_order(data))
    planes = bias_corrected(image, 0.5, bias_field)
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
        corner = np.eye(4)
        corner[:3, 3] = large.to_mm([30.5, 20.5, 20.5]) + shift - 0.5
        mask = Image(np.full((2, 2, 2), 0.7), corner)
        says = f"the mask and its image overlap in {overlap} mm3, of the 8 mm3"
        with pytest.raises(InputError, match=says):
            prepare(large, mask)


# --- foreground ---------------------------------------------------------------


def ball(grid, radius=22.0, shape=(61, 47, 44), value=100.0):
    """Return a bright ball in a box, and its centre in mm."""
    image = Image(np.zeros(shape), GRIDS[grid])
    centre = image.to_mm(np.array(shape) * [0.52, 0.48, 0.46])
    apart = np.linalg.norm(voxel_centres(image) - centre, axis=1)
    data = np.where(apart < radius, value, 0).reshape(shape)
    return Image(data, GRIDS[grid]), centre


@pytest.mark.parametrize("grid", sorted(GRIDS))
def test_centroid_radius_and_volume_of_a_ball_are_those_of_geometry(grid):
    image, centre = ball(grid)
    foreground = prepare(image).foreground
    assert np.linalg.norm(foreground.centroid - centre) < 0.5
    assert foreground.rms_radius == pytest.approx(22 * np.sqrt(3 / 5), rel=0.05)
    assert foreground.volume == pytest.approx(4 / 3 * np.pi * 22**3, rel=0.1)


@pytest.mark.parametrize("grid", sorted(GRIDS))
def test_translation_grid_and_sampling_mask_are_about_the_foreground(grid):
    image, centre = ball(grid)
    found = prepare(image)
    foreground = found.foreground
    assert foreground.centroid_depth == pytest.approx(22, abs=2.5)
    for depth, radius in ((0, 22), (11, 11)):
        points = foreground.translation_grid(7.0, depth)
        np.testing.assert_allclose(points[0], foreground.centroid, atol=1e-9)
        away = np.linalg.norm(points - centre, axis=1)
        assert radius - 7 < away.max() < radius + 7
        apart = np.linalg.norm(points - points[:, None], axis=-1)
        assert np.unique(apart.round(6))[1] == pytest.approx(7)
    points = voxel_centres(found.sampling_mask)
    inside = found.sampling_mask.data.ravel() > 0
    apart = np.linalg.norm(points - centre, axis=1)
    assert inside[apart < 22].all()
    assert not inside[apart > 22 + 15].any()


def test_the_sampling_mask_of_a_slab_is_no_narrower_than_that_of_the_whole():
    x, y, _ = np.indices((60, 60, 30))
    column = np.float32((x - 30) ** 2 + (y - 30) ** 2 < 15**2)
    slabs = [Image(column[..., :n].copy(), np.diag([2.0, 2, 2, 1])) for n in (1, 2, 30)]
    rims = [prepare(slab).sampling_mask.data.any(axis=2).sum() for slab in slabs]
    assert rims[0] == rims[1] <= rims[2]


def test_other_intensities_leave_the_foreground_where_it_is():
    image = make_phantom("T1", voxel_size_mm=6)
    before = prepare(image).foreground
    for slope, intercept in [(0.01, 0), (3, -9000), (-1, 0)]:
        other = Image(image.data * slope + intercept, image.mm_from_ijk)
        after = prepare(other).foreground
        assert np.linalg.norm(after.centroid - before.centroid) < 0.5
        assert after.rms_radius == pytest.approx(before.rms_radius, rel=0.01)


@pytest.mark.parametrize("contrast", ["T1", "T2", "EPI", "CT", "PET"])
def test_the_centroid_of_a_head_is_near_the_brain(contrast):
    foreground = prepare(make_phantom(contrast, voxel_size_mm=6)).foreground
    assert np.linalg.norm(foreground.centroid - brain_points().mean(axis=0)) < 40
    assert 50 < foreground.rms_radius < 90


def test_within_a_mask_only_the_masked_foreground_counts():
    image, centre = ball("straight")
    # A mask on another grid: what lies to the right of the ball's centre.
    affine = np.diag([7.0, 9, 8, 1])
    affine[:3, 3] = centre + np.array([3.5, -100, -100])
    mask = Image(np.ones((20, 25, 25)), affine)
    foreground = prepare(image, mask).foreground
    # The centroid of half a ball is 3/8 of its radius from its flat side.
    assert np.linalg.norm(foreground.centroid - centre - [22 * 3 / 8, 0, 0]) < 1.5
    assert foreground.volume == pytest.approx(2 / 3 * np.pi * 22**3, rel=0.1)


def test_a_mask_elsewhere_is_refused():
    image, _ = ball("straight")
    affine = np.eye(4)
    affine[:3, 3] = 1000
    with pytest.raises(InputError, match="overlap in 0 mm3, of the 125 mm3"):
        prepare(image, Image(np.ones((5, 5, 5)), affine))


# --- distances between poses --------------------------------------------------


def lopsided():
    """Return an image of three unequal blobs, its foreground without symmetry."""
    x, y, z = np.indices((40, 36, 32))
    data = np.zeros((40, 36, 32))
    for centre, radius in (((14, 12, 12), 9), ((26, 20, 16), 7), ((20, 26, 24), 4)):
        off = [a - b for a, b in zip((x, y, z), centre, strict=True)]
        data[np.square(off).sum(axis=0) < radius**2] = 100
    return Image(data, GRIDS["oblique"])


def cube(centroid, half_side):
    """Return a foreground whose spread is alike along all axes, and its points."""
    corners = (np.indices((2, 2, 2)).reshape(3, 8).T * 2 - 1) * half_side + centroid
    rms_radius = half_side * np.sqrt(3)
    return Foreground(centroid, rms_radius, 1e6, corners, np.ones(8))


def rms_apart_mm(points, pose, other):
    """Root mean square distance between where two poses put points."""
    apart = (pose[:3, :3] - other[:3, :3]) @ points.T + (pose - other)[:3, 3:]
    return np.sqrt(np.square(apart).sum(axis=0).mean())


@pytest.mark.parametrize("max_angle_deg", [1, 10, 180])
def test_embedded_poses_are_as_far_apart_as_the_points_they_move(max_angle_deg, rng):
    foreground = cube(np.array([30.0, -20, 55]), 40.0)
    for _ in range(5):
        pose, other = (
            random_pose(rng, max_angle_deg=max_angle_deg, max_offset_mm=5).matrix
            for _ in range(2)
        )
        here, there = foreground.embed(np.array([pose, other]))
        expected = rms_apart_mm(foreground.points, pose, other)
        assert np.linalg.norm(here - there) == pytest.approx(expected)
        assert foreground.distance(pose, other) == pytest.approx(expected)


def test_over_small_rotations_about_every_axis_the_distance_is_that_of_the_foreground():
    """One radius stands for three spreads: exact in the mean over the axes."""
    foreground = prepare(lopsided()).foreground
    about = foreground.centroid
    found, expected = [], []
    for axis in 0.02 * np.eye(3):
        pose = RigidTransform(axis, [0, 0, 0], about).matrix
        found.append(foreground.distance(pose, np.eye(4)))
        expected.append(rms_apart_mm(foreground.points, pose, np.eye(4)))
    assert np.square(found).mean() == pytest.approx(np.square(expected).mean(), 1e-6)
    np.testing.assert_allclose(found, expected, rtol=0.25)
    shift = RigidTransform([0, 0, 0], [3, -4, 12]).matrix
    assert foreground.distance(shift, np.eye(4)) == pytest.approx(13)


# --- bias field ---------------------------------------------------------------


@pytest.mark.parametrize("background", [0.0, 200.0])
@pytest.mark.parametrize("contrast", ["ball", "T1"])
def test_a_smooth_bias_field_is_divided_out(background, contrast):
    if contrast == "ball":
        image, _ = ball("straight", radius=28)
    else:
        image = make_phantom("T1", voxel_size_mm=5)
    before = prepare(image)
    away = voxel_centres(image) - before.foreground.centroid
    away /= before.foreground.rms_radius
    coil = np.exp(away @ [0.25, -0.2, 0.2]).reshape(image.shape)
    biased = Image(background + image.data * coil, image.mm_from_ijk)
    estimate = prepare(biased).corrected.bias_field
    bias = interpolate(estimate, voxel_centres(biased)).reshape(image.shape)
    deep = before.scale.is_foreground(image.data)
    deep &= (np.linalg.norm(away, axis=1) < 1).reshape(image.shape)
    assert np.isfinite(bias[deep]).all()
    left = np.log(coil / bias)[deep]
    # What the image itself varies by remains; compare with its own field.
    unbiased = Image(background + image.data, image.mm_from_ijk)
    itself = prepare(unbiased).corrected.bias_field
    itself = interpolate(itself, voxel_centres(biased)).reshape(image.shape)
    left += np.log(itself)[deep]
    assert left.std() < 0.5 * np.log(coil)[deep].std()


def test_what_has_no_bias_field_is_left_about_as_it_is():
    image, _ = ball("oblique")
    prepared = prepare(image)
    before, after = prepared.original, prepared.corrected
    bias = interpolate(after.bias_field, voxel_centres(image)).reshape(image.shape)
    inside = image.data > 0
    # At the border half-filled voxels pass for a bias field.
    assert np.abs(bias[inside] - 1).max() < 0.25
    assert np.abs(bias[inside] - 1).mean() < 0.1
    same = before.scale.is_foreground(image.data)
    same = same == after.scale.is_foreground(image.data)
    assert same.all()


# --- one prepared image, many partners ----------------------------------------


@pytest.fixture(scope="module")
def partners():
    """Scan a head finely, and three times more, as coarse as they may be."""
    contrasts = {"T2": 7, "EPI": 11, "CT": 15}
    others = [make_phantom(name, voxel_size_mm=mm) for name, mm in contrasts.items()]
    return make_phantom("T1", voxel_size_mm=4), others


def figures_of(found):
    """Return the arrays of all levels, by channel and name."""
    arrays = {}
    for name, level in found.items():
        for attribute in ("points", "sampled_values", "sampled_bin", "origin"):
            arrays[name, attribute] = getattr(level, attribute)
        arrays[name, "interpolated"] = level.interpolated[0]
        arrays[name, "matrix"] = level.interpolated_ijk_from_mm
    return arrays


@pytest.mark.parametrize("order", [1, -1])
def test_a_prepared_image_serves_partners_with_the_bits_of_a_fresh_one(partners, order):
    image, others = partners
    kept = prepare(image)
    for other in others[::order]:
        for prepared in ([kept, prepare(other)], [prepare(other), kept]):
            fresh = [prepare(one.image) for one in prepared]
            pair, expected = Pair.of(*prepared), Pair.of(*fresh)
            assert pair.sampled_is_fixed == expected.sampled_is_fixed
            for resolution, same in zip(
                resolutions(pair), resolutions(expected), strict=True
            ):
                found = figures_of(levels_at(pair, resolution, Settings(samples=8000)))
                again = figures_of(levels_at(expected, same, Settings(samples=8000)))
                assert found.keys() == again.keys()
                for key, array in found.items():
                    np.testing.assert_array_equal(array, again[key], err_msg=str(key))


def resolutions(pair):
    found = pyramid(pair)
    return [found.rough, found.coarse, *found.finer]


def test_registering_prepared_images_gives_the_bits_of_images_themselves(partners):
    image, others = partners
    settings = Settings(samples=8000)
    kept = prepare(image)
    for other in others[1:]:
        expected = mireg.register(image, other, init="header", settings=settings)
        for fixed, moving in ((kept, other), (kept, prepare(other))):
            found = mireg.register(fixed, moving, init="header", settings=settings)
            np.testing.assert_array_equal(
                found.moving_from_fixed, expected.moving_from_fixed
            )
            assert found.score == expected.score
            assert found.standard_error_mm == expected.standard_error_mm
            assert found.fixed is image


def test_what_is_learned_of_an_image_does_not_depend_on_its_partner(partners):
    """Nor on what it was shrunk to before."""
    image, others = partners

    def learned(prepared):
        scale, foreground = prepared.scale, prepared.foreground
        corrected = prepared.corrected
        return [
            *(scale.background, scale.threshold, scale.low, scale.high, scale.knots),
            *(foreground.centroid, foreground.rms_radius, foreground.volume),
            *(foreground.points, foreground.depths),
            *(prepared.low_resolution.data, prepared.low_resolution.mm_from_ijk),
            *(prepared.sampling_mask.data, corrected.bias_field.data),
            *(corrected.scale.knots, corrected.scale.ends, corrected.background),
        ]

    alone = prepare(image)
    expected = learned(alone)
    for other in others:
        met = prepare(image)
        pyramid(Pair.of(met, prepare(other)))
        for found in (learned(met), learned(alone)):
            for a, b in zip(found, expected, strict=True):
                np.testing.assert_array_equal(a, b)
        pyramid(Pair.of(prepare(other), alone))


def test_an_image_is_shrunk_once_for_all_who_want_it_so(partners):
    image = prepare(partners[0])
    half = image.shrunk(8.0)
    np.testing.assert_allclose(half.voxel_size_mm, 8)
    assert image.shrunk(8.3) is half  # the same whole number of voxels
    assert image.shrunk(12.0) is not half
    assert image.shrunk(8.0, threads=2) is half
    assert image.shrunk(1.0) is image.image  # never finer than it is
    clipped = np.clip(image.image.data, image.scale.low, image.scale.high)
    expected = downsample(Image(clipped, image.image.mm_from_ijk), (2, 2, 2))
    np.testing.assert_allclose(half.data, expected.data, rtol=1e-6)


def test_a_prepared_image_keeps_its_mask(partners):
    image = prepare(partners[0])
    whole = Image(np.ones(image.image.shape), image.image.mm_from_ijk)
    assert mireg.prepare is prepare
    assert prepare(image) is image
    with pytest.raises(InputError, match="has its mask already; give the mask to"):
        mireg.prepare(image, whole)
    with pytest.raises(InputError, match="has its mask already"):
        mireg.register(image, partners[1][0], fixed_mask=whole)
    with pytest.raises(InputError, match="has its mask already"):
        mireg.score(partners[1][0], prepare(image.image, whole), moving_mask=whole)
    assert prepare(image.image, whole).mask is whole


def test_a_prepared_image_says_what_it_is(partners):
    image = prepare(partners[0])
    assert isinstance(image, PreparedImage)
    assert repr(image) == f"<PreparedImage of {partners[0]!r}, no mask>"
    whole = Image(np.ones(image.image.shape), image.image.mm_from_ijk)
    assert repr(prepare(partners[0], whole)).endswith("with a mask>")


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_threads_do_not_change_what_is_learned(partners, threads):
    one, some = prepare(partners[0], threads=1), prepare(partners[0], threads=threads)
    np.testing.assert_array_equal(some.low_resolution.data, one.low_resolution.data)
    np.testing.assert_array_equal(some.foreground.points, one.foreground.points)
    np.testing.assert_array_equal(
        some.shrunk(7.0, threads).data, one.shrunk(7.0, 1).data
    )
