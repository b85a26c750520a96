"""One pose to the nearest maximum: its slopes, and where it ends."""

from __future__ import annotations

import sys
from dataclasses import replace

import naive
import numpy as np
import pytest
from checks import packed_volume, pose_error_mm
from scipy import ndimage

from mireg._engine.levels import Level, levels, make_level, pyramid
from mireg._engine.metrics import mutual_information, normalised_mutual_information
from mireg._engine.optimize import (
    evaluate,
    inverse_hessian_at,
    refine,
    standard_error_mm,
)
from mireg._engine.similarity import joint_histogram
from mireg._prepare import scan
from mireg._settings import Settings
from mireg._transform import RigidTransform
from mireg.phantom import phantom_pair

METRICS = (mutual_information, normalised_mutual_information)
TRUTH = RigidTransform([0.06, -0.04, 0.05], [0.8, -0.6, 0.4], [11, 10, 9])


@pytest.fixture
def level(rng) -> Level:
    """Return a smooth scene seen twice, the other way round the second time."""
    scene = ndimage.gaussian_filter(rng.random((24, 22, 20)), 2)
    scene = (scene - scene.min()) / np.ptp(scene)
    points = rng.uniform([5, 5, 5], [18, 16, 14], (3000, 3))
    at = TRUTH.apply(points)
    seen = ndimage.map_coordinates(scene, at.T, order=3)
    origin = np.array([9.0, 12, 8])  # not the middle of the samples
    return make_level(
        size_mm=1.0,
        points=(points - origin).T.astype(np.float32),
        origin=origin,
        fixed_grey=(1 - seen).clip(0, 1).astype(np.float32),
        moving=packed_volume(scene.astype(np.float32)),
        moving_ijk_from_mm=np.eye(4),
        n_bins=16,
    )


@pytest.mark.parametrize("metric", METRICS)
def test_gradient_by_the_six_parameters_equals_differences(level, metric, monkeypatch):
    few = slice(None, None, 10)
    level = replace(
        level, points=level.points[:, few].copy(), fixed_bin=level.fixed_bin[few].copy()
    )
    volume = 1 + level.moving_grey.astype(float) * (level.n_bins - 3.001)
    compared = []

    def by_definition(at, pose, threads, seen):
        """Score by the slow twin; what is seen, and its slopes, by the loop."""
        joint_histogram(at, pose, threads, seen)
        matrix = at.moving_ijk_from_points(pose)
        counts = at.points.T, at.fixed_bin, volume, matrix, at.n_bins
        return naive.joint_histogram(*counts), seen

    def compare(objective, start, **_):
        """Stand in for the optimiser, and look at the slopes on its way."""
        for there in (start, start + 0.3, start - np.arange(6) / 5):
            _, gradient = objective(there)
            differences = []
            for step in np.eye(6) * 1e-5:
                ahead, behind = objective(there + step)[0], objective(there - step)[0]
                differences.append((ahead - behind) / 2e-5)
            compared.append((gradient, differences))
        raise StopIteration  # enough seen

    room = sys.modules["mireg._engine.optimize"]
    monkeypatch.setattr(room, "minimize", compare)
    monkeypatch.setattr(room, "joint_histogram", by_definition)
    refine(level, np.eye(4), metric)
    assert len(compared) == 3
    for gradient, differences in compared:
        np.testing.assert_allclose(gradient, differences, rtol=1e-4)


def test_a_step_that_is_small_by_chance_is_not_the_end(rng):
    truth = RigidTransform([0.15, -0.1, 0.2], [6, -4, 8])
    heads = phantom_pair(
        "T1", "T2", pose=truth, fixed_voxel_size_mm=5, moving_voxel_size_mm=5
    )
    scans = scan(heads.fixed), scan(heads.moving)
    finest = pyramid(*scans)[-1]
    seen = levels(finest, [scans], Settings(samples=20_000))[0]
    ends = []
    for _ in range(100):
        near = RigidTransform(rng.uniform(-0.15, 0.15, 3), rng.uniform(-8, 8, 3))
        start = near.matrix @ truth.matrix
        heat = refine(seen, start, METRICS[1], tolerance=0.1, max_evaluations=8)
        where, sharp = heat.start
        fit = refine(seen, where, METRICS[1], tolerance=0.1, inverse_hessian=sharp)
        ends.append(fit.explained)
    assert min(ends) > 0.98 * max(ends)


@pytest.mark.parametrize("metric", METRICS)
def test_it_climbs_to_the_truth(level, metric):
    start = np.eye(4)
    fit = refine(level, start, metric)
    corners = [[5, 5, 5], [18, 16, 14], [5, 16, 5], [18, 5, 14]]
    assert pose_error_mm(start, TRUTH.matrix, corners) > 1
    # A scene 13 voxels wide, read linearly, gives no more than this.
    assert pose_error_mm(fit.moving_from_fixed, TRUTH.matrix, corners) < 0.2
    assert fit.score > evaluate(level, start, metric).score
    assert evaluate(level, fit.moving_from_fixed, metric).score == fit.score


@pytest.mark.parametrize("metric", METRICS)
def test_it_ends_on_a_maximum(level, metric):
    fit = refine(level, np.eye(4), metric)
    for axis in range(6):
        for size in (-0.1, 0.1):
            numbers = np.zeros(6)
            numbers[axis] = size if axis >= 3 else size / 6
            nudge = RigidTransform(numbers[:3], numbers[3:], level.origin).matrix
            nudged = evaluate(level, fit.moving_from_fixed @ nudge, metric)
            assert nudged.score < fit.score


def test_it_stays_where_nothing_is_seen(level):
    away = RigidTransform([0, 0, 0], [500, 0, 0]).matrix
    fit = refine(level, away, normalised_mutual_information)
    np.testing.assert_array_equal(fit.moving_from_fixed, away)
    assert fit.overlap_fraction == 0
    assert fit.explained == 0


def test_threads_do_not_change_a_bit(level):
    many = make_many(level)
    one = refine(many, np.eye(4), normalised_mutual_information, 1)
    for threads in (2, 4):
        again = refine(many, np.eye(4), normalised_mutual_information, threads)
        np.testing.assert_array_equal(again.moving_from_fixed, one.moving_from_fixed)
        assert again.score == one.score


def make_many(level: Level) -> Level:
    """Return a level whose samples make work for several threads."""
    return make_level(
        size_mm=level.size_mm,
        points=np.tile(level.points, (1, 20)),
        origin=level.origin,
        fixed_grey=np.tile(level.fixed_grey, 20),
        moving=level.moving,
        moving_ijk_from_mm=level.moving_ijk_from_mm,
        n_bins=level.n_bins,
    )


def test_inverse_hessian_is_that_of_the_score_by_differences_of_its_value(level):
    metric = normalised_mutual_information
    top = refine(level, np.eye(4), metric).moving_from_fixed
    middle = level.origin + level.middle

    def score(numbers):
        nudge = RigidTransform(numbers[:3] / level.radius, numbers[3:], middle).matrix
        return evaluate(level, top @ nudge, metric).score

    far = 0.2 * np.eye(6)
    hessian = np.array(
        [
            [score(a + b) - score(a - b) - score(b - a) + score(-a - b) for b in far]
            for a in far
        ]
    ) / (4 * 0.2**2)
    found = inverse_hessian_at(level, top, metric)
    assert found is not None
    np.testing.assert_allclose(-hessian @ found, np.eye(6), atol=0.1)


@pytest.mark.parametrize("noise", [0.03, 0.05])
def test_the_standard_error_is_how_far_answers_lie_apart(noise):
    """Of many pairs that differ in their noise alone."""
    rng = np.random.default_rng(3)
    scene = ndimage.gaussian_filter(rng.random((26, 26, 26)), 2)
    scene = (scene - scene.min()) / np.ptp(scene)
    # Neighbours follow one another, off the grid.
    ijk = np.moveaxis(np.indices((18, 18, 18)) + 4.0, 0, -1).reshape(-1, 3)
    ijk += rng.uniform(-0.5, 0.5, ijk.shape)
    metric = normalised_mutual_information
    off, expected = [], []
    for _ in range(30):
        seen = ndimage.map_coordinates(scene, ijk.T, order=3)
        seen += noise * rng.standard_normal(seen.shape)
        noisy = scene + noise * rng.standard_normal(scene.shape)
        level = make_level(
            size_mm=1.0,
            points=ijk.T.astype(np.float32),
            origin=np.zeros(3),
            fixed_grey=(1 - seen).clip(0, 1).astype(np.float32),
            moving=packed_volume(noisy.clip(0, 1).astype(np.float32)),
            moving_ijk_from_mm=np.eye(4),
            n_bins=16,
        )
        fit = refine(level, np.eye(4), metric)
        pose = fit.moving_from_fixed
        sharp = inverse_hessian_at(level, pose, metric)
        assert sharp is not None
        expected.append(standard_error_mm(level, pose, metric, sharp))
        off.append(
            np.linalg.norm(ijk @ (pose[:3, :3] - np.eye(3)).T + pose[:3, 3], axis=1)
        )
    ratio = np.sqrt(np.mean(np.square(expected)) / np.mean(np.square(off)))
    assert 0.75 < ratio < 1.33


def test_there_is_no_hessian_where_nothing_is_seen(level):
    away = RigidTransform([0, 0, 0], [500, 0, 0]).matrix
    assert inverse_hessian_at(level, away, normalised_mutual_information) is None
