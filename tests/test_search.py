"""The global search: every orientation, scored by nearest-neighbour histograms."""

from __future__ import annotations

from dataclasses import replace

import naive
import numpy as np
import pytest
from checks import quantised_volume
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from mireg import _parameters as parameters
from mireg._engine.levels import Level, levels_at, make_level, pyramid
from mireg._engine.pair import Pair
from mireg._engine.search import (
    _motions,
    distinct,
    even_rotations,
    global_search,
    is_unimodal,
    nearest_neighbour_entropies,
    nearest_neighbour_level,
    parabolic_step,
    searched_channels,
    starting_poses,
    weighted_information,
)
from mireg._parameters import ExhaustiveScoring, PatternStage, SearchSchedule
from mireg._prepare import Foreground, prepare
from mireg._settings import Settings
from mireg._transform import RigidTransform
from mireg.phantom import phantom_pair, random_pose

# --- rotations ----------------------------------------------------------------


def quaternions(matrices):
    """Return unit quaternions of rotations, both signs of each."""
    q = Rotation.from_matrix(matrices).as_quat()
    return np.concatenate([q, -q])


def angles(tree, probes, k):
    """Return angles (radians) between rotations and their k-th nearest in a tree."""
    chord = tree.query(probes, k=[k])[0][:, 0]
    return 4 * np.arcsin(chord / 2)


@pytest.mark.parametrize("n", [1, 7, 2000])
def test_even_rotations_are_rotations(n):
    matrices = even_rotations(n)
    assert matrices.shape == (n, 3, 3)
    products = matrices @ matrices.transpose(0, 2, 1)
    np.testing.assert_allclose(products, np.tile(np.eye(3), (n, 1, 1)), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(matrices), 1)


@pytest.mark.parametrize("n", [300, 2000])
def test_even_rotations_leave_no_gap_and_make_no_cluster(n, rng):
    spacing = (8 * np.pi**2 / n) ** (1 / 3)
    probes = Rotation.random(5000, rng=rng).as_quat()
    random = Rotation.random(n, rng=rng).as_matrix()
    gaps, nearest = {}, {}
    for name, matrices in (("even", even_rotations(n)), ("random", random)):
        both = quaternions(matrices)
        tree = cKDTree(both)
        gaps[name] = angles(tree, probes, 1).max()
        nearest[name] = angles(tree, both[:n], 2)
    assert gaps["even"] < spacing
    assert gaps["even"] < 0.8 * gaps["random"]
    assert nearest["even"].min() > spacing / 2
    assert nearest["even"].max() < spacing
    assert nearest["even"].std() < 0.5 * nearest["random"].std()


def test_no_direction_is_favoured():
    # Wherever a vector points, evenly spread rotations bring it everywhere alike.
    for axis in np.eye(3):
        turned = even_rotations(2000) @ axis
        np.testing.assert_allclose(turned.mean(axis=0), 0, atol=0.01)
        np.testing.assert_allclose(turned.T @ turned / 2000, np.eye(3) / 3, atol=0.01)


# --- nearest-neighbour joint histograms --------------------------------------

N_BINS = 7


def blocky_level(rng, shape):
    """Return unrelated random images, with samples inside and outside."""
    values = rng.random(shape).astype(np.float32)
    values[rng.random(shape) < 0.1] = np.nan
    points = rng.uniform(-1.5, np.array(shape) + 0.5, (300, 3)).astype(np.float32)
    return make_level(
        size_mm=1.0,
        points=points.T,
        origin=np.array([0.2, -0.1, 0.3]),
        sampled_values=rng.random(300).astype(np.float32),
        interpolated=quantised_volume(values),
        interpolated_ijk_from_mm=np.array(
            [[0.8, 0.1, 0, 0.3], [0, -1, 0.2, shape[1]], [0, 0, 1.1, 0], [0, 0, 0, 1]]
        ),
        n_bins=N_BINS,
    )


def away_from_ties(at: Level, poses):
    """Drop samples that lie about halfway between voxels at any of the poses."""
    good = np.ones(at.points.shape[1], bool)
    for pose in poses:
        matrix = at.ijk_from_points(pose)
        x = at.points.T @ matrix[:, :3].T + matrix[:, 3]
        good &= (np.abs(x - np.floor(x) - 0.5) > 1e-3).all(axis=1)
    return make_level(
        size_mm=at.size_mm,
        points=at.points[:, good],
        origin=at.origin,
        sampled_values=at.sampled_values[good],
        interpolated=at.interpolated,
        interpolated_ijk_from_mm=at.interpolated_ijk_from_mm,
        n_bins=at.n_bins,
    )


@pytest.mark.parametrize("shape", [(9, 8, 10), (9, 2, 10), (1, 9, 8)])
def test_counts_and_entropies_equal_their_reference(shape, rng):
    poses = np.array(
        [np.eye(4)]
        + [random_pose(rng, max_offset_mm=4).matrix for _ in range(5)]
        + [RigidTransform([0, 0, 0], [500, 0, 0]).matrix]
    )
    at = away_from_ties(blocky_level(rng, shape), poses)
    samples = at.points.shape[1]
    counting = nearest_neighbour_level([at], N_BINS, samples)
    (found,) = nearest_neighbour_entropies(counting, poses)
    matrices = []
    for pose in poses:
        matrix = np.eye(4)
        matrix[:3] = at.ijk_from_points(pose)
        matrices.append(matrix)
    missing = np.isnan(at.interpolated_values)
    bins = [
        np.floor(at.sampled_values * N_BINS),
        np.floor(np.where(missing, 0, at.interpolated_values) * N_BINS),
    ]
    expected = naive.nearest_neighbour_entropies(at.points.T, *bins, missing, matrices)
    assert expected[0, 0] > 20
    assert expected[-1, 0] == 0
    np.testing.assert_array_equal(found[:, 0], expected[:, 0])
    np.testing.assert_allclose(found[:, 1:], expected[:, 1:], atol=1e-9)

    # Now the same with the 300 pseudo-counts of a prior.
    counts = rng.multinomial(300, rng.dirichlet(np.ones(N_BINS**2)))
    prior = counts.reshape(N_BINS, N_BINS) / samples
    both = nearest_neighbour_level([at, replace(at, prior=prior)], N_BINS, samples)
    without, informed = nearest_neighbour_entropies(both, poses)
    np.testing.assert_array_equal(without, found)
    expected = naive.nearest_neighbour_entropies(
        at.points.T,
        *bins,
        missing,
        matrices,
        np.repeat([divmod(cell, N_BINS) for cell in range(N_BINS**2)], counts, axis=0)
        .astype(int)
        .tolist(),
    )
    np.testing.assert_allclose(informed, expected, atol=1e-9)


def test_one_answer_on_any_number_of_threads(rng):
    poses = np.array([random_pose(rng, max_offset_mm=4).matrix for _ in range(1500)])
    counting = nearest_neighbour_level([blocky_level(rng, (9, 8, 10))], N_BINS, 300)
    one = nearest_neighbour_entropies(counting, poses, 1)
    for threads in (2, 4):
        again = nearest_neighbour_entropies(counting, poses, threads)
        np.testing.assert_array_equal(again, one)


def test_a_small_lucky_overlap_does_not_win():
    # Samples inside; entropies of the sampled image, the interpolated one, both.
    lucky = [10, 1.0, 1.0, 1.0]  # all is explained, by a tenth of the samples
    right = [90, 1.0, 1.0, 1.5]  # half is explained, by nearly all of them
    unrelated = [100, 1.0, 1.0, 2.0]
    scores = weighted_information(np.array([lucky, right, unrelated]), 100)
    assert scores[1] > scores[0] > scores[2] == 0


# --- poses --------------------------------------------------------------------


def about(centroid, rms_radius=70.0):
    """Return a foreground with this centroid and radius."""
    return Foreground(centroid, rms_radius, 1e6, centroid[None], np.ones(1))


def test_starting_poses_turn_every_way_and_meet_the_point(rng):
    rotations = even_rotations(4)
    here, there = rng.uniform(-50, 50, (2, 3))
    poses = starting_poses(rotations, here, there)
    np.testing.assert_array_equal(poses[:, :3, :3], rotations)
    reached = poses[:, :3, :3] @ here + poses[:, :3, 3]
    np.testing.assert_allclose(reached, np.tile(there, (4, 1)), atol=1e-9)


def test_distinct_poses_are_the_first_of_their_kind(rng):
    foreground = about(np.array([10.0, 20, 30]))
    kinds = [random_pose(rng) for _ in range(4)]
    twitch = RigidTransform([0.005, 0, 0], [0.3, 0, 0], foreground.centroid)
    poses = [pose.matrix for pose in kinds for pose in (pose, pose @ twitch)]
    found = distinct(poses, foreground)
    assert len(found) == 4
    for pose, kind in zip(found, kinds, strict=True):
        np.testing.assert_array_equal(pose, kind.matrix)
    np.testing.assert_array_equal(distinct(poses, foreground, 2), found[:2])


def test_distance_between_poses_is_that_of_the_points(rng):
    # Points with the foreground's centroid and radius: the corners of a box about it.
    centroid, radius = np.array([10.0, -20, 5]), 60.0
    corners = (np.indices((2, 2, 2)).reshape(3, 8).T * 2 - 1) * radius / np.sqrt(3)
    foreground = about(centroid, radius)
    for _ in range(5):
        a, b = random_pose(rng), random_pose(rng)
        apart = a.displacements(corners + centroid, b)
        expected = np.sqrt(np.mean(apart**2))
        assert foreground.distance(a.matrix, b.matrix) == pytest.approx(expected)


def test_trial_motions_turn_about_the_centroid_and_not_the_origin():
    foreground = about(np.array([300.0, -200, 400]))
    centroid, radius, angle = foreground.centroid, foreground.rms_radius, 0.05
    motions = _motions(np.concatenate([np.eye(6), -np.eye(6)]), foreground, angle)
    for n, motion in enumerate(motions):
        sign, axis = (1 if n < 6 else -1), np.eye(3)[n % 3]
        there = motion[:3, :3] @ centroid + motion[:3, 3]
        if n % 6 < 3:
            np.testing.assert_allclose(there, centroid, atol=1e-9)
            turned = Rotation.from_matrix(motion[:3, :3]).as_rotvec()
            np.testing.assert_allclose(turned, sign * angle * axis, atol=1e-12)
        else:
            np.testing.assert_array_equal(motion[:3, :3], np.eye(3))
            moved = there - centroid
            np.testing.assert_allclose(moved, sign * angle * radius * axis, atol=1e-9)


def test_a_parabolic_step_by_hand():
    # 5 - (x - 0.25)^2 has its top at a quarter.
    scores = [5 - (x - 0.25) ** 2 for x in (1, 0, -1)]
    assert parabolic_step(*map(np.array, scores)) == pytest.approx(0.25)
    # A top beyond the trial steps, a valley, a slope: to the better end.
    for up, here, down, step in [(9, 5, 0, 1), (1, 4, 6, -1), (3, 0, 2, 1)]:
        assert parabolic_step(*map(np.float64, (up, here, down))) == step
    assert parabolic_step(*map(np.float64, (2, 2, 2))) == 0


# --- the whole search -----------------------------------------------------------


@pytest.mark.parametrize("contrast", ["T2", "CT", "EPI"])
def test_among_the_first_candidates_is_the_right_basin(contrast):
    known = phantom_pair(
        "T1", contrast, seed=4, fixed_voxel_size_mm=6, moving_voxel_size_mm=6
    )
    pair = Pair.of(prepare(known.fixed), prepare(known.moving))
    resolutions, settings = pyramid(pair), Settings(orientations=1000, candidates=6)
    searched = searched_channels(pair)
    assert searched == ["original", "sampled_corrected"]
    of_pair = [
        levels_at(pair.only(*searched), one, settings)
        for one in (resolutions.rough, resolutions.coarse)
    ]

    def search(threads):
        return global_search(pair, parameters.QUICK_SEARCH, of_pair, settings, threads)

    found = search(1)
    # An EPI leaves doubt on levels this rough.
    assert found.confident or contrast == "EPI"
    assert found.confident == (found.unimodal and found.channels_agree)
    assert list(found.poses) == searched
    assert all(2 <= len(poses) <= 7 for poses in found.poses.values())
    truth = pair.engine_pose(known.moving_from_fixed.matrix)
    foreground = pair.sampled.foreground
    off = [
        foreground.distance(pose, truth)
        for poses in found.poses.values()
        for pose in poses[1:4]  # the headers' pose comes first
    ]
    assert min(off) < 15
    again = search(2)
    for name, poses in found.poses.items():
        np.testing.assert_array_equal(again.poses[name], poses)


def test_the_headers_always_go_on_and_then_the_best_first():
    known = phantom_pair(seed=4, fixed_voxel_size_mm=8, moving_voxel_size_mm=8)
    pair = Pair.of(prepare(known.fixed), prepare(known.moving))
    settings = Settings(orientations=100, candidates=4)
    level = levels_at(pair.only("original"), pyramid(pair).rough, settings)
    schedule = SearchSchedule(
        ExhaustiveScoring(8, 100, keep=50), ((PatternStage(8, 100, 20, steps=0),),)
    )
    (poses,) = global_search(
        pair.only("original"), schedule, [level], settings
    ).poses.values()
    np.testing.assert_array_equal(poses[0], np.eye(4))
    counting = nearest_neighbour_level([level["original"]], bins=8, samples=100)
    (entropies,) = nearest_neighbour_entropies(counting, poses[1:])
    scores = weighted_information(entropies, 100)
    assert len(scores) == 4
    assert (np.diff(scores) < 0).all()


def test_what_was_found_before_is_improved_with_the_others():
    known = phantom_pair(seed=4, fixed_voxel_size_mm=6, moving_voxel_size_mm=6)
    pair = Pair.of(prepare(known.fixed), prepare(known.moving)).only("original")
    settings = Settings(orientations=1000, candidates=2)
    finest = levels_at(pair, pyramid(pair).finest, settings)
    # Two samples say nothing of which start is good, and only one goes on.
    schedule = SearchSchedule(
        ExhaustiveScoring(bins=8, samples=2, keep=1),
        ((PatternStage(bins=16, samples=2000, keep=2, steps=6),),),
    )
    truth = pair.engine_pose(known.moving_from_fixed.matrix)
    near = truth.copy()
    near[:3, 3] += 8, -5, 6

    def off_mm(found):
        (poses,) = global_search(
            pair, schedule, [finest], settings, found=found
        ).poses.values()
        return min(pair.sampled.foreground.distance(pose, truth) for pose in poses)

    assert off_mm(None) > 30
    assert off_mm({"original": near[None]}) < 5


# --- being confident ------------------------------------------------------------


def test_a_search_is_unimodal_where_the_best_pose_has_no_runner_up(rng):
    foreground = about(np.zeros(3))
    right, wrong = random_pose(rng).matrix, random_pose(rng).matrix
    assert is_unimodal(np.array([right, wrong]), np.array([1.0, 0.8]), foreground)
    assert is_unimodal(np.array([right, right]), np.array([1.0, 0.99]), foreground)
    assert not is_unimodal(np.array([right, wrong]), np.array([1.0, 0.99]), foreground)
