"""The global search: every orientation, counted by nearest voxels."""

from __future__ import annotations

from dataclasses import replace

import naive
import numpy as np
import pytest
from checks import packed_volume
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from mireg._engine.levels import Level, level, make_level, pyramid
from mireg._engine.search import (
    EFFORTS,
    Effort,
    candidates,
    counting_level,
    distinct,
    even_rotations,
    is_clear,
    pose_entropies,
    similarity_of,
    starting_poses,
)
from mireg._prepare import Anatomy, scan, views
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


# --- counting -----------------------------------------------------------------

N_BINS = 7


def blocky_level(rng, shape):
    """Return unrelated random images, with samples inside and outside."""
    grey = rng.random(shape).astype(np.float32)
    grey[rng.random(shape) < 0.1] = np.nan
    points = rng.uniform(-1.5, np.array(shape) + 0.5, (300, 3)).astype(np.float32)
    return make_level(
        size_mm=1.0,
        points=points.T,
        origin=np.array([0.2, -0.1, 0.3]),
        fixed_grey=rng.random(300).astype(np.float32),
        moving=packed_volume(grey),
        moving_ijk_from_mm=np.array(
            [[0.8, 0.1, 0, 0.3], [0, -1, 0.2, shape[1]], [0, 0, 1.1, 0], [0, 0, 0, 1]]
        ),
        n_bins=N_BINS,
    )


def away_from_ties(at: Level, poses):
    """Drop samples that lie about halfway between voxels at any of the poses."""
    good = np.ones(at.points.shape[1], bool)
    for pose in poses:
        matrix = at.moving_ijk_from_points(pose)
        x = at.points.T @ matrix[:, :3].T + matrix[:, 3]
        good &= (np.abs(x - np.floor(x) - 0.5) > 1e-3).all(axis=1)
    return make_level(
        size_mm=at.size_mm,
        points=at.points[:, good],
        origin=at.origin,
        fixed_grey=at.fixed_grey[good],
        moving=at.moving,
        moving_ijk_from_mm=at.moving_ijk_from_mm,
        n_bins=at.n_bins,
    )


@pytest.mark.parametrize("shape", [(9, 8, 10), (9, 2, 10), (1, 9, 8)])
def test_counts_and_entropies_equal_their_twin(shape, rng):
    poses = np.array(
        [np.eye(4)]
        + [random_pose(rng, max_offset_mm=4).matrix for _ in range(5)]
        + [RigidTransform([0, 0, 0], [500, 0, 0]).matrix]
    )
    at = away_from_ties(blocky_level(rng, shape), poses)
    samples = at.points.shape[1]
    (found,) = pose_entropies(counting_level([at], N_BINS, samples), poses)
    matrices = []
    for pose in poses:
        matrix = np.eye(4)
        matrix[:3] = at.moving_ijk_from_points(pose)
        matrices.append(matrix)
    missing = np.isnan(at.moving_grey)
    expected = naive.pose_entropies(
        at.points.T,
        np.floor(at.fixed_grey * N_BINS),
        np.floor(np.where(missing, 0, at.moving_grey) * N_BINS),
        missing,
        matrices,
    )
    assert expected[0, 0] > 20
    assert expected[-1, 0] == 0
    np.testing.assert_array_equal(found[:, 0], expected[:, 0])
    np.testing.assert_allclose(found[:, 1:], expected[:, 1:], atol=1e-9)

    # Now the same with 300 pairs of grey levels that were learned before.
    counts = rng.multinomial(300, rng.dirichlet(np.ones(N_BINS**2)))
    learned = counts.reshape(N_BINS, N_BINS) / samples
    both = [at, replace(at, learned=learned)]
    blind, informed = pose_entropies(counting_level(both, N_BINS, samples), poses)
    np.testing.assert_array_equal(blind, found)
    expected = naive.pose_entropies(
        at.points.T,
        np.floor(at.fixed_grey * N_BINS),
        np.floor(np.where(missing, 0, at.moving_grey) * N_BINS),
        missing,
        matrices,
        np.repeat([divmod(cell, N_BINS) for cell in range(N_BINS**2)], counts, axis=0)
        .astype(int)
        .tolist(),
    )
    np.testing.assert_allclose(informed, expected, atol=1e-9)


def test_one_answer_on_any_number_of_threads(rng):
    poses = np.array([random_pose(rng, max_offset_mm=4).matrix for _ in range(1500)])
    counting = counting_level([blocky_level(rng, (9, 8, 10))], N_BINS, 300)
    one = pose_entropies(counting, poses, 1)
    for threads in (2, 4):
        np.testing.assert_array_equal(pose_entropies(counting, poses, threads), one)


def test_a_small_lucky_overlap_does_not_win():
    # Entropies of the fixed image, of the moving one, of both.
    lucky = [10, 1.0, 1.0, 1.0]  # all is explained, by a tenth of the samples
    right = [90, 1.0, 1.0, 1.5]  # half is explained, by nearly all of them
    blind = [100, 1.0, 1.0, 2.0]
    scores = similarity_of(np.array([lucky, right, blind]), 100)
    assert scores[1] > scores[0] > scores[2] == 0


# --- poses --------------------------------------------------------------------


def test_starting_poses_turn_every_way_and_meet_the_place(rng):
    rotations = even_rotations(4)
    here, there = rng.uniform(-50, 50, (2, 3))
    poses = starting_poses(rotations, here, there)
    np.testing.assert_array_equal(poses[:, :3, :3], rotations)
    reached = poses[:, :3, :3] @ here + poses[:, :3, 3]
    np.testing.assert_allclose(reached, np.tile(there, (4, 1)), atol=1e-9)


def test_distinct_poses_are_the_first_of_their_kind(rng):
    anatomy = Anatomy(np.array([10.0, 20, 30]), 70.0, 1e6, np.zeros((1, 3)), np.ones(1))
    kinds = [random_pose(rng) for _ in range(4)]
    twitch = RigidTransform([0.005, 0, 0], [0.3, 0, 0], anatomy.centre)
    poses = [pose.matrix for pose in kinds for pose in (pose, pose @ twitch)]
    found = distinct(poses, anatomy)
    assert len(found) == 4
    for pose, kind in zip(found, kinds, strict=True):
        np.testing.assert_array_equal(pose, kind.matrix)
    np.testing.assert_array_equal(distinct(poses, anatomy, 2), found[:2])


def test_distance_between_poses_is_that_of_the_points(rng):
    # Points with the anatomy's centre and radius: the corners of a box about it.
    centre, radius = np.array([10.0, -20, 5]), 60.0
    corners = (np.indices((2, 2, 2)).reshape(3, 8).T * 2 - 1) * radius / np.sqrt(3)
    anatomy = Anatomy(centre, radius, 1e6, centre[None], np.ones(1))
    for _ in range(5):
        a, b = random_pose(rng), random_pose(rng)
        apart = a.displacements(corners + centre, b)
        expected = np.sqrt(np.mean(apart**2))
        assert anatomy.distance(a.matrix, b.matrix) == pytest.approx(expected)


@pytest.mark.parametrize("contrast", ["T2", "CT", "EPI"])
def test_among_the_first_candidates_is_the_right_basin(contrast):
    pair = phantom_pair(
        "T1", contrast, seed=4, fixed_voxel_size_mm=6, moving_voxel_size_mm=6
    )
    fixed, moving = scan(pair.fixed), scan(pair.moving)
    looks = views(fixed, moving)[:2]
    levels = [
        [level(at, *look, Settings()) for look in looks]
        for at in pyramid(fixed, moving)[:2]
    ]

    def found(threads):
        return candidates(
            EFFORTS[0],
            levels,
            fixed.anatomy,
            moving.anatomy,
            [],
            orientations=1000,
            keep=6,
            threads=threads,
        )

    poses, clear, agree = found(1)
    # An EPI leaves doubt on levels this rough.
    assert (clear and agree) or contrast == "EPI"
    assert all(1 <= len(of_view) <= 6 for of_view in poses)
    truth = pair.moving_from_fixed.matrix
    off = [
        fixed.anatomy.distance(pose, truth) for of_view in poses for pose in of_view[:3]
    ]
    assert min(off) < 15
    for of_view, again in zip(poses, found(2)[0], strict=True):
        np.testing.assert_array_equal(again, of_view)


def test_what_was_found_before_climbs_with_the_others():
    pair = phantom_pair(seed=4, fixed_voxel_size_mm=6, moving_voxel_size_mm=6)
    fixed, moving = scan(pair.fixed), scan(pair.moving)
    look = level(pyramid(fixed, moving)[-1], fixed, moving, Settings())
    # Two samples say nothing of which start is good, and only one goes on.
    effort = Effort((8, 2, 1), (((16, 2000, 2, 6),),))
    truth = pair.moving_from_fixed.matrix
    near = truth.copy()
    near[:3, 3] += 8, -5, 6

    def found(before):
        (poses,), *_ = candidates(
            effort,
            [[look]],
            fixed.anatomy,
            moving.anatomy,
            [],
            orientations=1000,
            keep=2,
            before=before,
        )
        return min(fixed.anatomy.distance(pose, truth) for pose in poses)

    assert found(()) > 30
    assert found([[near]]) < 5


# --- being sure -----------------------------------------------------------------


def test_a_search_is_clear_where_the_best_pose_has_no_rival(rng):
    anatomy = Anatomy(np.zeros(3), 70.0, 1e6, np.zeros((1, 3)), np.ones(1))
    right, wrong = random_pose(rng).matrix, random_pose(rng).matrix
    assert is_clear(np.array([right, wrong]), np.array([1.0, 0.8]), anatomy)
    assert is_clear(np.array([right, right]), np.array([1.0, 0.99]), anatomy)
    assert not is_clear(np.array([right, wrong]), np.array([1.0, 0.99]), anatomy)
