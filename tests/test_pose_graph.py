"""Poses of many images, of which the errors are known."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

from mireg._pose_graph import Edge, mean_frame, rms_mm, solve
from mireg._transform import RigidTransform

CENTRE = np.array([10.0, -20.0, 30.0])
RADIUS = 65.0
#: Of noise of 0.1 mm in each translation and 1 mrad in each rotation.
COVARIANCE = np.diag(np.repeat([1e-3, 0.1], 3) ** 2)


def noisy(transform, rng, covariance=COVARIANCE):
    """Put a random motion after a transform, about where its centre goes."""
    error = rng.multivariate_normal(np.zeros(6), covariance)
    at = transform.apply(CENTRE)
    moved = RigidTransform(error[:3], error[3:], at) @ transform
    return moved.about(CENTRE)


def session(rng, n=6, covariance=COVARIANCE, spoil=None):
    """Draw true poses ``image_from_first``, and noisy transforms between all pairs."""
    truth = [RigidTransform.identity()]
    truth += [
        RigidTransform(rng.normal(0, 0.3, 3), rng.normal(0, 20, 3))
        for _ in range(n - 1)
    ]
    edges = []
    for i, j in itertools.combinations(range(n), 2):
        exact = truth[j] @ ~truth[i]
        centre = truth[i].apply(CENTRE)
        found = noisy_about(exact, centre, rng, covariance)
        if spoil is not None:
            found = spoil(i, j, found, rng)
        edges.append(Edge(i, j, found, covariance, RADIUS, 0.5))
    return truth, edges


def noisy_about(exact, centre, rng, covariance):
    error = rng.multivariate_normal(np.zeros(6), covariance)
    at = exact.apply(centre)
    return (RigidTransform(error[:3], error[3:], at) @ exact).about(centre)


def errors(poses, truth, rng):
    points = CENTRE + RADIUS * rng.normal(0, 1 / math.sqrt(3), (500, 3))
    return [
        math.sqrt(np.square(pose.displacements(points, true)).mean())
        for pose, true in zip(poses, truth, strict=True)
    ]


def test_the_rms_of_a_covariance_is_that_of_random_motions():
    rng = np.random.default_rng(0)
    points = CENTRE + RADIUS * rng.normal(0, 1 / math.sqrt(3), (2000, 3))
    squares = [
        np.square(noisy(RigidTransform.identity(), rng).displacements(points)).mean()
        for _ in range(1000)
    ]
    assert rms_mm(COVARIANCE, RADIUS) == pytest.approx(
        math.sqrt(np.mean(squares)), rel=0.05
    )


def test_exact_transforms_are_fitted_exactly():
    rng = np.random.default_rng(1)
    truth, edges = session(rng, covariance=np.zeros((6, 6)))
    found = solve(edges, 6)
    assert max(errors(found.poses, truth, rng)) < 1e-6
    assert found.residuals_mm.max() < 1e-6
    assert found.used.all()


def test_all_pairs_together_are_better_than_each_alone_and_say_how_good():
    rng = np.random.default_rng(2)
    alone, together, expected, between = [], [], [], []
    for _ in range(20):
        truth, edges = session(rng)
        found = solve(edges, 6)
        direct = [edge.second_from_first for edge in edges if edge.first == 0]
        alone += errors(direct, truth[1:], rng)
        together += errors(found.poses[1:], truth[1:], rng)
        expected += found.errors_mm[1:].tolist()
        between.append(found.between_mm)
    # With n images and all pairs the variance falls to 2/n of that of a pair.
    ratio = math.sqrt(np.square(together).mean() / np.square(alone).mean())
    assert ratio == pytest.approx(math.sqrt(2 / 6), rel=0.15)
    assert math.sqrt(np.square(together).mean()) == pytest.approx(
        np.mean(expected), rel=0.15
    )
    assert np.median(between) < 0.1  # noise explains it all


def test_errors_besides_noise_show_in_the_loops():
    rng = np.random.default_rng(3)
    _, edges = session(rng, covariance=COVARIANCE)
    larger = 9 * COVARIANCE  # but the transforms say one third of it
    between = []
    for _ in range(20):
        _, edges = session(rng, covariance=larger)
        edges = [
            Edge(e.first, e.second, e.second_from_first, COVARIANCE, RADIUS, 0.5)
            for e in edges
        ]
        between.append(solve(edges, 6).between_mm)
    expected = rms_mm(8 * COVARIANCE, RADIUS)
    assert np.median(between) == pytest.approx(expected, rel=0.2)


def test_a_wrong_transform_on_every_path_is_left_out():
    """The first image is the sharpest, so all paths lead through it."""

    def off(i, j, found, _rng):
        far = RigidTransform([0, 0, 0], [20, 0, 0])
        return far @ found if (i, j) == (0, 1) else found

    truth, edges = session(np.random.default_rng(5), spoil=off)
    edges = [
        edge if edge.first == 0 else replace(edge, covariance=30 * COVARIANCE)
        for edge in edges
    ]
    found = solve(edges, 6)
    assert [k for k, used in enumerate(found.used) if not used] == [0]
    assert max(errors(found.poses, truth, np.random.default_rng(0))) < 0.5


@pytest.mark.parametrize("seed", range(10))
def test_a_wrong_transform_is_left_out_and_no_other(seed):
    rng = np.random.default_rng([4, seed])
    wrong = tuple(sorted(rng.choice(6, 2, replace=False).tolist()))

    def spoil(i, j, found, rng):
        if (i, j) != wrong:
            return found
        shift = rng.normal(size=3)
        return RigidTransform([0, 0, 0], 20 * shift / np.linalg.norm(shift)) @ found

    truth, edges = session(rng, spoil=spoil)
    found = solve(edges, 6)
    left_out = {
        (edge.first, edge.second)
        for edge, used in zip(edges, found.used, strict=True)
        if not used
    }
    assert left_out == {wrong}
    assert max(errors(found.poses, truth, rng)) < 0.5


@pytest.mark.parametrize("seed", range(10))
def test_an_image_that_fits_no_other_spoils_no_pose_but_its_own(seed):
    rng = np.random.default_rng([5, seed])
    stranger = int(rng.integers(6))

    def spoil(i, j, found, rng):
        if stranger not in (i, j):
            return found
        return RigidTransform(rng.normal(0, 0.05, 3), rng.normal(0, 4, 3)) @ found

    truth, edges = session(rng, spoil=spoil)
    found = solve(edges, 6)
    left_out = [
        stranger in (edge.first, edge.second)
        for edge, used in zip(edges, found.used, strict=True)
        if not used
    ]
    assert all(left_out)
    assert len(left_out) >= 3
    # The poses of the others, seen from one of them.
    root = (stranger + 1) % 6
    good = [k for k in range(6) if k != stranger]
    between = [found.poses[k] @ ~found.poses[root] for k in good]
    true = [truth[k] @ ~truth[root] for k in good]
    assert max(errors(between, true, rng)) < 0.8


def test_an_image_of_which_all_is_doubted_draws_no_other(rng):
    truth, edges = session(rng)

    def doubted(edge):
        off = RigidTransform(rng.normal(0, 0.02, 3), rng.normal(0, 3, 3))
        found = (off @ edge.second_from_first).about(edge.second_from_first.centre)
        return replace(edge, second_from_first=found, trusted=False)

    edges = [doubted(edge) if edge.second == 5 else edge for edge in edges]
    found = solve(edges, 6)
    assert max(errors(found.poses[:5], truth[:5], rng)) < 0.3
    used = [edge for edge, use in zip(edges, found.used, strict=True) if use]
    assert sum(edge.second == 5 for edge in used) == 1


def test_without_loops_nothing_tells_more_than_noise():
    rng = np.random.default_rng(6)
    truth, edges = session(rng, n=4)
    chain = [edge for edge in edges if edge.second == edge.first + 1]
    found = solve(chain, 4)
    assert math.isnan(found.between_mm)
    assert found.residuals_mm.max() < 1e-6
    assert found.errors_mm[1] == pytest.approx(rms_mm(COVARIANCE, RADIUS), rel=0.05)
    assert max(errors(found.poses, truth, rng)) < 1.5


def test_the_answer_does_not_depend_on_which_image_is_first():
    rng = np.random.default_rng(7)
    _, edges = session(rng)
    order = [3, 0, 5, 1, 4, 2]  # new place of each image
    moved = [
        Edge(
            order[e.first],
            order[e.second],
            e.second_from_first,
            e.covariance,
            e.radius_mm,
            e.least_mm,
        )
        for e in edges
    ]
    one, other = solve(edges, 6), solve(moved, 6)
    for i in range(1, 6):
        here = one.poses[i]
        there = other.poses[order[i]] @ ~other.poses[order[0]]
        assert here.max_displacement([CENTRE, CENTRE + RADIUS], there) < 1e-3


def test_the_mean_frame_is_as_far_from_all():
    rng = np.random.default_rng(8)
    poses = [
        RigidTransform(rng.normal(0, 0.1, 3), rng.normal(0, 5, 3), CENTRE)
        for _ in range(3)
    ]
    mean = mean_frame(poses)
    from_mean = [pose @ ~mean for pose in poses]
    turns = np.sum([pose.rotation_vector for pose in from_mean], axis=0)
    at = mean.apply(CENTRE)
    shifts = np.sum([pose.apply(at) - at for pose in from_mean], axis=0)
    np.testing.assert_allclose(turns, 0, atol=1e-3)
    np.testing.assert_allclose(shifts, 0, atol=1e-9)
