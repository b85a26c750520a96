"""Where it fits: blocks of the anatomy, each shifted by itself at an answer."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import naive
import numpy as np
import pytest
from checks import quantised_volume
from scipy import ndimage

from mireg._engine.levels import Level, make_level
from mireg._engine.residuals import (
    Blocks,
    LocalResiduals,
    local_residuals,
    pointwise_information,
    shifted_information,
)
from mireg._image import Image
from mireg._prepare import Foreground
from mireg._transform import RigidTransform

#: A grid that is turned and whose voxels are not cubes: 1.5 x 2 x 1.8 mm.
OBLIQUE = RigidTransform([0.3, -0.2, 0.4], [4, -7, 2]).matrix @ np.diag(
    [1.5, 2.0, 1.8, 1]
)
POSE = RigidTransform([0.2, 0.5, -0.3], [11, -3, 6]).matrix
SHAPE = (44, 34, 38)


def texture(rng, shape=SHAPE, sigma=1.5):
    """Return a smooth random scene, 0 to 1."""
    scene = ndimage.gaussian_filter(rng.standard_normal(shape), sigma)
    return (0.5 + scene / (6 * scene.std())).clip(0, 1).astype(np.float32)


def level_of(rng, scene, bend=None, noise=0.0, pose=POSE, samples=30_000) -> Level:
    """Return a level of a scene and its negative, bent by a motion in sampled mm.

    bend takes points of the sampled image (n, 3) to how far away their anatomy is from
    where the pose expects it, in mm of the sampled image.
    """
    ijk = rng.uniform(6, np.array(scene.shape) - 7, (samples, 3))
    ijk = ijk[np.lexsort(ijk.astype(int).T)]
    mm = ijk @ OBLIQUE[:3, :3].T + OBLIQUE[:3, 3]
    points = (mm - pose[:3, 3]) @ pose[:3, :3]
    there = points if bend is None else points + bend(points)
    there = there @ pose[:3, :3].T + pose[:3, 3]
    at = (there - OBLIQUE[:3, 3]) @ np.linalg.inv(OBLIQUE[:3, :3]).T
    values = 1 - ndimage.map_coordinates(scene, at.T, order=1, mode="nearest")
    seen = scene + noise * rng.standard_normal(scene.shape)
    origin = points.mean(axis=0)
    return make_level(
        size_mm=1.75,
        points=np.ascontiguousarray((points - origin).T, dtype=np.float32),
        origin=origin,
        sampled_values=(values + noise * rng.standard_normal(len(values)))
        .clip(0, 1)
        .astype(np.float32),
        interpolated=quantised_volume(seen.clip(0, 1).astype(np.float32)),
        interpolated_ijk_from_mm=np.linalg.inv(OBLIQUE),
        n_bins=24,
    )


def foreground_of(level: Level) -> Foreground:
    """Return where the samples of a level are, as a foreground."""
    volume = 4 * np.prod(np.array(SHAPE) - 13) * abs(np.linalg.det(OBLIQUE[:3, :3]))
    points = level.points.T.astype(np.float64) + level.origin
    return Foreground(
        level.origin, level.rms_radius, float(volume), points, np.ones(len(points))
    )


def residuals_of(level: Level, pose=POSE, threads=1) -> LocalResiduals:
    return local_residuals(level, pose, foreground_of(level), threads)


def test_information_of_shifts_is_that_of_a_slow_twin(rng):
    scene = texture(rng, (12, 11, 13))
    scene[3, 3, 3] = np.nan
    points = rng.uniform(-7, 7, (3, 60)).astype(np.float32)
    bins = rng.integers(0, 8, 60).astype(np.uint8)
    level = make_level(
        size_mm=1.0,
        points=points,
        origin=np.array([5.0, 5, 6]),
        sampled_values=np.zeros(60, np.float32),
        interpolated=quantised_volume(scene),
        interpolated_ijk_from_mm=np.array(
            [[0.9, 0.1, 0, 0], [0, 1.0, 0.1, 0], [0, 0, 1.1, 0], [0, 0, 0, 1]]
        ),
        n_bins=8,
    )
    pointwise = np.log(rng.uniform(0.5, 2, (8, 8)))
    pose = RigidTransform([0.1, 0.2, -0.1], [0.3, 0.2, 0.4], [5, 5, 6]).matrix
    blocks = Blocks(points, bins, np.array([0, 20, 60]), np.zeros((1, 3)), 14.0)
    reach = (1, 2, 1)
    scores, counts = shifted_information(level, pose, blocks, reach, pointwise)
    assert scores.shape == (1, 2, 3, 5, 3)
    assert 0 < counts.sum() < 60
    for half, some in enumerate((slice(0, 20), slice(20, 60))):
        slow, count = naive.shifted_information(
            level, pose, points[:, some], bins[some], reach, pointwise
        )
        assert counts[0, half] == count
        # Information is tabulated at 256 intensities.
        np.testing.assert_allclose(scores[0, half], slow, atol=0.02)


def test_pointwise_information_adds_up_to_mutual_information(rng):
    counts = rng.dirichlet(np.ones(20)).reshape(4, 5) * 1e4
    p = counts / counts.sum()
    product = p.sum(axis=1, keepdims=True) * p.sum(axis=0)
    expected = (p * np.log(p / product)).sum()
    found = (p * pointwise_information(counts)).sum()
    assert found == pytest.approx(expected, rel=0.05)
    assert np.isfinite(pointwise_information(np.diag([1.0, 0, 2]))).all()


def test_blocks_of_a_pair_in_line_stay_where_they_are(rng):
    found = residuals_of(level_of(rng, texture(rng)))
    assert found.told_share > 0.9
    assert found.worst_mm < 0.3
    assert found.fit_share == pytest.approx(1)
    assert found.gain_share < 0.01


def test_a_part_that_moved_is_found_with_its_size_and_direction(rng):
    scene = texture(rng)
    where = (np.array(SHAPE) - 1) / 2 @ OBLIQUE[:3, :3].T + OBLIQUE[:3, 3]
    middle = (where - POSE[:3, 3]) @ POSE[:3, :3]
    moved = np.array([2.5, -1.5, 1.0])

    def bend(points):
        return np.where(points[:, :1] > middle[0], moved, 0.0)

    found = residuals_of(level_of(rng, scene, bend, noise=0.02))
    side = found.block_mm
    right = found.told & (found.centres_mm[:, 0] > middle[0] + 0.6 * side)
    left = found.told & (found.centres_mm[:, 0] < middle[0] - 0.6 * side)
    assert min(right.sum(), left.sum()) > 10
    np.testing.assert_allclose(
        np.median(found.shifts_mm[right], axis=0), moved, atol=0.2
    )
    np.testing.assert_allclose(np.median(found.shifts_mm[left], axis=0), 0, atol=0.2)
    assert np.median(found.gains[right]) > 5 * np.median(found.gains[left]) + 0.1
    assert 0.2 < found.fit_share < 0.8


def test_a_pose_that_is_off_is_seen_as_a_rigid_motion(rng):
    level = level_of(rng, texture(rng))
    motion = RigidTransform([0.02, -0.015, 0.025], [0.8, -0.5, 0.6], level.origin)
    # Anatomy lies where the motion before the pose would have to bring it.
    found = residuals_of(level, POSE @ np.linalg.inv(motion.matrix))
    expected = motion.apply(found.centres_mm) - found.centres_mm
    told = found.told
    off = np.linalg.norm(found.shifts_mm - expected, axis=1)[told]
    assert np.median(off) < 0.25
    size = math.sqrt(np.square(expected[told]).sum(axis=1).mean())
    assert found.rigid_mm == pytest.approx(size, rel=0.15)


@pytest.mark.parametrize("noise", [0.06, 0.12])
def test_the_standard_error_is_how_far_shifts_are_off_by_noise(noise):
    square, expected = [], []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        found = residuals_of(level_of(rng, texture(rng), noise=noise))
        told = found.told
        square += [*np.square(found.sizes_mm[told])]
        expected += [*np.square(found.standard_errors_mm[told])]
    assert len(square) > 100
    ratio = math.sqrt(np.median(square) / np.median(expected))
    assert 0.6 < ratio < 1.4


def test_images_that_share_nothing_tell_nothing(rng):
    level = level_of(rng, texture(rng))
    other = texture(rng)
    unrelated = replace(level, interpolated=quantised_volume(other))
    found = residuals_of(unrelated)
    assert found.told_share < 0.25
    assert np.isnan(found.shifts_mm[~found.told]).all()


def test_where_nothing_overlaps_nothing_is_told(rng):
    level = level_of(rng, texture(rng), samples=2000)
    away = RigidTransform([0, 0, 0], [500, 0, 0]).matrix
    found = residuals_of(level, away)
    assert not found.told.any()
    assert math.isnan(found.median_mm)
    assert math.isnan(found.rms_mm)
    assert math.isnan(found.gain_share)
    assert math.isnan(found.rigid_mm)


def test_residuals_do_not_depend_on_the_number_of_threads(rng):
    level = level_of(rng, texture(rng), noise=0.05)
    one, three = residuals_of(level, threads=1), residuals_of(level, threads=3)
    np.testing.assert_array_equal(one.shifts_mm, three.shifts_mm)
    np.testing.assert_array_equal(one.gains, three.gains)


def test_a_single_slice_tells_nothing_and_does_not_fail(rng):
    scene = texture(rng)
    level = level_of(rng, scene, samples=3000)
    flat = replace(level, interpolated=quantised_volume(scene[:, :, 10:11]))
    assert not residuals_of(flat).told.any()


def some_residuals(centres, shifts) -> LocalResiduals:
    """Return residuals of blocks that all tell, with a standard error of 0.3 mm."""
    n = len(centres)
    return LocalResiduals(
        centres_mm=np.array(centres, np.float64),
        shifts_mm=np.array(shifts, np.float64),
        standard_errors_mm=np.full(n, 0.3),
        gains=np.full(n, 0.1),
        information=np.full(n, 50.0),
        weights=np.full(n, 1 / max(n, 1)),
        block_mm=20.0,
        voxel_mm=1.5,
    )


def test_the_user_sees_them_in_the_fixed_image_whichever_was_sampled(rng):
    moving_from_fixed = POSE
    fixed = rng.uniform(-50, 50, (9, 3))
    moving = rng.uniform(-50, 50, (9, 3))  # where the same anatomy is
    arrived = (moving - POSE[:3, 3]) @ POSE[:3, :3]
    there = fixed @ POSE[:3, :3].T + POSE[:3, 3]
    of_fixed = some_residuals(fixed, arrived - fixed)
    same = of_fixed.seen_from_fixed(moving_from_fixed, sampled_is_fixed=True)
    np.testing.assert_array_equal(same.shifts_mm, of_fixed.shifts_mm)
    of_moving = some_residuals(moving, there - moving)
    seen = of_moving.seen_from_fixed(
        np.linalg.inv(moving_from_fixed), sampled_is_fixed=False
    )
    np.testing.assert_allclose(seen.centres_mm, fixed, atol=1e-9)
    np.testing.assert_allclose(seen.shifts_mm, arrived - fixed, atol=1e-9)


def test_a_summary_by_hand():
    found = some_residuals(
        [[0, 0, 0], [20, 0, 0], [0, 20, 0], [0, 0, 20]],
        [[1, 0, 0], [0, 2, 0], [0, 0, 3], [np.nan] * 3],
    )
    error = np.array([0.5, 0.5, 0.5, np.nan])
    gains = np.array([0.1, 0.2, 0.6, np.nan])
    information = np.array([10.0, 10, 20, 99])
    found = replace(
        found, standard_errors_mm=error, gains=gains, information=information
    )
    assert found.told_share == 0.75
    assert found.median_mm == 2
    assert found.worst_mm == 3
    assert found.rms_mm == pytest.approx(math.sqrt((1 + 4 + 9) / 3 - 0.25))
    assert found.fit_share == pytest.approx(1 / 3)
    assert found.gain_share == pytest.approx((1 + 2 + 12) / 40)
    assert math.isnan(found.rigid_mm)


def test_residuals_survive_json():
    found = some_residuals([[0.12346, 0, 1]], [[np.nan] * 3])
    found = replace(found, standard_errors_mm=np.array([np.nan]))
    there = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    again = LocalResiduals.from_dict(there)
    np.testing.assert_array_equal(again.centres_mm, [[0.12346, 0, 1]])
    assert np.isnan(again.shifts_mm).all()
    assert again.to_dict() == found.to_dict()
    assert LocalResiduals.from_dict(
        some_residuals(np.empty((0, 3)), np.empty((0, 3))).to_dict()
    ).centres_mm.shape == (0, 3)


def test_the_map_shows_each_block_where_it_is():
    found = some_residuals([[-20, 0, 0], [20, 0, 0]], [[1, 2, 2], [np.nan] * 3])
    found = replace(found, standard_errors_mm=np.array([0.3, np.nan]))
    grid = np.diag([2.0, 2, 2, 1])
    grid[:3, 3] = -50
    seen = found.on_grid_of(Image(np.zeros((50, 50, 50), np.float32), grid))
    np.testing.assert_allclose(seen.voxel_size_mm, 10)
    assert read(seen, [-20, 0, 0]) == 3
    assert math.isnan(read(seen, [20, 0, 0]))
    assert math.isnan(read(seen, [-20, 40, 0]))


def read(image: Image, point) -> float:
    """Return the voxel that a point lies in."""
    return float(image.data[tuple(np.rint(image.to_ijk(point)).astype(int))])


def test_the_largest_region_that_is_off_the_same_way_by_hand():
    centres = [[20 * n, 0, 0] for n in range(8)]
    shifts = np.zeros((8, 3))
    shifts[1:4, 1] = 4, 6, 5  # together
    shifts[5] = 0, 0, 9  # alone
    shifts[6] = 0, 0, -9  # its neighbour is off the other way
    found = some_residuals(centres, shifts)
    region = found.misfit
    assert region is not None
    np.testing.assert_array_equal(region.blocks, [1, 2, 3])
    np.testing.assert_allclose(region.centre_mm, [40, 0, 0])
    np.testing.assert_allclose(region.shift_mm, [0, 5, 0])
    assert region.share == pytest.approx(3 / 8)
    # What noise can have made is not off.
    noisy = replace(found, standard_errors_mm=np.full(8, 2.5))
    assert noisy.misfit is None
    assert some_residuals([[0, 0, 0]], [[np.nan] * 3]).misfit is None
