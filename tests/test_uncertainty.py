"""How far noise moves an answer: curvature, standard error, covariance."""

from __future__ import annotations

import numpy as np
import pytest
from checks import quantised_volume
from scenes import seen_twice
from scipy import ndimage
from scipy.spatial.transform import Rotation

from mireg import _parameters as parameters
from mireg._engine.levels import Level, make_level
from mireg._engine.metrics import mutual_information, normalised_mutual_information
from mireg._engine.optimize import evaluate, maximise
from mireg._engine.uncertainty import (
    Uncertainty,
    covariance_after,
    inverse_hessian_at,
    uncertainty,
)
from mireg._transform import RigidTransform


@pytest.fixture
def level(rng) -> Level:
    """Return a smooth scene seen twice, the other way round the second time."""
    return seen_twice(rng)


def test_inverse_hessian_is_that_of_the_score_by_differences_of_its_value(level):
    metric = normalised_mutual_information
    top = maximise(level, np.eye(4), metric).pose
    centre = level.origin + level.centre

    def score(numbers):
        rotation, translation = numbers[:3] / level.rms_radius, numbers[3:]
        nudge = RigidTransform(rotation, translation, centre).matrix
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
        level = noisy_level(rng, scene, ijk, noise)
        fit = maximise(level, np.eye(4), metric)
        pose = fit.pose
        sharpness = inverse_hessian_at(level, pose, metric)
        assert sharpness is not None
        found = uncertainty(level, pose, metric, sharpness)
        expected.append(found.standard_error_mm)
        off.append(
            np.linalg.norm(ijk @ (pose[:3, :3] - np.eye(3)).T + pose[:3, 3], axis=1)
        )
    ratio = np.sqrt(np.mean(np.square(expected)) / np.mean(np.square(off)))
    assert 0.75 < ratio < 1.33


def noisy_level(rng, scene, points, noise) -> Level:
    """Return a scene seen twice in place, each time with noise of its own."""
    values = ndimage.map_coordinates(scene, points.T, order=3)
    values += noise * rng.standard_normal(values.shape)
    noisy = scene + noise * rng.standard_normal(scene.shape)
    return make_level(
        size_mm=1.0,
        points=points.T.astype(np.float32),
        origin=np.zeros(3),
        sampled_values=(1 - values).clip(0, 1).astype(np.float32),
        interpolated=quantised_volume(noisy.clip(0, 1).astype(np.float32)),
        interpolated_ijk_from_mm=np.eye(4),
        n_bins=16,
    )


def test_there_is_no_hessian_where_nothing_overlaps(level):
    away = RigidTransform([0, 0, 0], [500, 0, 0]).matrix
    assert inverse_hessian_at(level, away, normalised_mutual_information) is None


# --- the covariance -----------------------------------------------------------


def uncertainty_at_the_top(level: Level) -> tuple[Uncertainty, np.ndarray]:
    """Return how unsure a pose of a level is, and the pose."""
    metric = mutual_information
    pose = maximise(level, np.eye(4), metric).pose
    sharpness = inverse_hessian_at(level, pose, metric)
    assert sharpness is not None
    return uncertainty(level, pose, metric, sharpness), pose


def test_the_standard_error_is_how_far_motions_of_the_covariance_move_the_samples(rng):
    # Samples on a cube: no axis differs from the others.
    points = np.moveaxis(np.indices((11, 11, 11)) * 1.5 + 4.3, 0, -1).reshape(-1, 3)
    # What there is to see is near the centre, so that rotations are hard to tell.
    ijk = np.moveaxis(np.indices((26, 26, 26)), 0, -1)
    scene = np.exp(-np.square((ijk - [11, 12.5, 12]) / [4, 3.5, 4.5]).sum(axis=-1))
    found, _ = uncertainty_at_the_top(noisy_level(rng, scene, points, 0.05))
    np.testing.assert_allclose(found.centre, points.mean(axis=0), atol=1e-5)
    from_rotation = 2 / 3 * np.square(points - found.centre).sum(axis=1).mean()
    from_rotation *= np.trace(found.covariance[:3, :3])
    assert from_rotation > 0.5 * found.standard_error_mm**2

    shrink = 1e-2  # to where motions add up; all of them are small
    drawn = rng.multivariate_normal(np.zeros(6), shrink**2 * found.covariance, 5000)
    moved = np.einsum(
        "nij,pj->npi",
        Rotation.from_rotvec(drawn[:, :3]).as_matrix() - np.eye(3),
        points - found.centre,
    )
    moved += drawn[:, None, 3:]
    brute = np.sqrt(np.square(moved).sum(axis=2).mean()) / shrink
    assert found.standard_error_mm == pytest.approx(brute, rel=0.03)


@pytest.mark.parametrize("sampled", [1, 2])
def test_the_covariance_is_in_radians_and_mm(sampled, level):
    """An image in voxels half as large, half as wide, is half as far off."""
    found, _ = uncertainty_at_the_top(level)
    assert found.covariance.shape == (6, 6)
    np.testing.assert_allclose(found.covariance, found.covariance.T)
    assert np.linalg.eigvalsh(found.covariance).min() > 0
    scale = np.diag([1.0 / sampled] * 3 + [1])
    smaller = make_level(
        size_mm=level.size_mm / sampled,
        points=level.points / np.float32(sampled),
        origin=level.origin / sampled,
        sampled_values=level.sampled_values,
        interpolated=level.interpolated,
        interpolated_ijk_from_mm=np.linalg.inv(scale),
        n_bins=level.n_bins,
    )
    other, _ = uncertainty_at_the_top(smaller)
    unit = np.repeat([1.0, 1.0 / sampled], 3)
    expected = found.covariance * np.outer(unit, unit)
    size = np.sqrt(np.outer(np.diag(expected), np.diag(expected)))
    np.testing.assert_allclose(other.covariance / size, expected / size, atol=1e-3)
    assert other.standard_error_mm == pytest.approx(
        found.standard_error_mm / sampled, rel=1e-3
    )
    np.testing.assert_allclose(other.centre, found.centre / sampled, atol=1e-5)


def test_noise_is_told_from_runs_of_neighbours(level, monkeypatch):
    """One run holds the whole gradient: there is nothing to differ from."""
    metric = mutual_information
    pose = maximise(level, np.eye(4), metric).pose
    sharpness = inverse_hessian_at(level, pose, metric)
    monkeypatch.setattr(parameters, "NOISE_RUNS", 1)
    found = uncertainty(level, pose, metric, sharpness)
    assert found.standard_error_mm == 0


def motion_after(pose, changed, about):
    """Rotation vector and translation of the motion between two poses, about a point.

    Pose, then motion, is the changed pose; the point moves by the translation.
    """
    motion = changed @ np.linalg.inv(pose)
    vector = Rotation.from_matrix(motion[:3, :3]).as_rotvec()
    return np.concatenate([vector, motion[:3, :3] @ about + motion[:3, 3] - about])


@pytest.mark.parametrize("sampled_is_fixed", [True, False])
def test_the_covariance_after_is_that_of_the_users_motion(sampled_is_fixed, rng):
    moving_from_fixed = RigidTransform([0.7, -1.1, 0.4], [30, -50, 20]).matrix
    pose = moving_from_fixed
    if not sampled_is_fixed:
        pose = np.linalg.inv(moving_from_fixed)
    factor = rng.normal(size=(6, 6)) * np.repeat([0.01, 0.3], 3)[:, None]
    found = Uncertainty(0.0, factor @ factor.T, np.array([12.0, -40, 25]))
    centre = np.array([-7.0, 33, 14])  # of the fixed image
    there = moving_from_fixed[:3, :3] @ centre + moving_from_fixed[:3, 3]

    def users_motion(numbers):
        before = RigidTransform(numbers[:3], numbers[3:], found.centre).matrix
        changed = pose @ before
        if not sampled_is_fixed:
            changed = np.linalg.inv(changed)
        return motion_after(moving_from_fixed, changed, there)

    step = 1e-5
    jacobian = np.array(
        [(users_motion(d) - users_motion(-d)) / (2 * step) for d in step * np.eye(6)]
    ).T
    expected = jacobian @ found.covariance @ jacobian.T
    after = covariance_after(
        found, moving_from_fixed, centre, sampled_is_fixed=sampled_is_fixed
    )
    np.testing.assert_allclose(after, expected, rtol=1e-6, atol=1e-9)

    # And by chance: motions drawn from the one covariance scatter by the other.
    small = 1e-3
    drawn = rng.multivariate_normal(np.zeros(6), small**2 * found.covariance, 5000)
    scatter = np.cov(np.array([users_motion(one) for one in drawn]).T) / small**2
    size = np.sqrt(np.outer(np.diag(after), np.diag(after)))
    np.testing.assert_allclose(scatter / size, after / size, atol=0.07)


def test_a_covariance_about_the_same_centre_is_only_turned():
    found = Uncertainty(0.0, np.diag([1.0, 2, 3, 4, 5, 6]), np.array([1.0, 2, 3]))
    quarter = RigidTransform([0, 0, np.pi / 2], [5, 0, 0]).matrix
    after = covariance_after(found, quarter, found.centre, sampled_is_fixed=True)
    np.testing.assert_allclose(after, np.diag([2.0, 1, 3, 5, 4, 6]), atol=1e-12)
    # Of the moving image the motion has the right axes already.
    back = np.linalg.inv(quarter)
    centre = back[:3, :3] @ found.centre + back[:3, 3]
    after = covariance_after(found, quarter, centre, sampled_is_fixed=False)
    np.testing.assert_allclose(after, found.covariance, atol=1e-12)
