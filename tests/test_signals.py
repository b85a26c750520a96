"""What speaks for an answer and against it, as numbers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from checks import quantised_volume
from scenes import TRUTH, scene_and_negative
from scipy import ndimage

from mireg._engine.levels import Level
from mireg._engine.metrics import mutual_information
from mireg._engine.optimize import maximise
from mireg._engine.signals import Signals, signals
from mireg._engine.similarity import joint_histogram
from mireg._prepare import Foreground
from mireg._transform import RigidTransform


def foreground_of(level: Level) -> Foreground:
    points = level.points.T.astype(np.float64) + level.origin
    centroid = points.mean(axis=0)
    return Foreground(
        centroid, level.rms_radius, 13.0 * 11 * 9, points, np.ones(len(points))
    )


@pytest.fixture
def level(rng) -> Level:
    """Return a level of a smooth scene and its negative, a small motion apart."""
    return scene_and_negative(rng)


def signals_of(level, pose, threads=1) -> Signals:
    return signals(
        level, level, pose, mutual_information, foreground_of(level), threads
    )


@pytest.fixture
def answer(level):
    return maximise(level, TRUTH.matrix, mutual_information).pose


def explained(level, pose):
    """Mutual information by its definition, times the share of samples inside."""
    histogram, _ = joint_histogram(level, pose)
    p = histogram / histogram.sum()
    product = p.sum(axis=1, keepdims=True) * p.sum(axis=0)
    some = p > 0
    share = histogram.sum() / level.n_samples
    return share * (p[some] * np.log(p[some] / product[some])).sum()


def test_costs_are_what_small_moves_lose(level, answer):
    found = signals_of(level, answer)
    assert found.information == pytest.approx(explained(level, answer))
    centre = level.origin + level.centre
    by_axis = []
    for axis in range(6):
        both = []
        for sign in (1, -1):
            move = np.zeros(6)
            move[axis] = sign * level.size_mm
            nudge = RigidTransform(move[:3] / level.rms_radius, move[3:], centre)
            both.append(explained(level, answer @ nudge.matrix))
        by_axis.append(1 - np.mean(both) / found.information)
    assert found.cost_voxel == pytest.approx(np.mean(by_axis), rel=1e-4)
    assert found.least_cost_voxel == pytest.approx(min(by_axis), rel=1e-4)
    assert 0 < found.least_cost_voxel < found.cost_voxel


def test_a_prior_leaves_what_the_verdict_weighs_alone(level, answer):
    """Its information may be below 0 at wrong poses, and the verdict knew none."""
    learned = replace(level, prior=np.full((8, 8), 1 / 64) + 3 * np.eye(8)[::-1])
    without, found = signals_of(level, answer), signals_of(learned, answer)
    assert found == without


def test_a_right_pose_is_told_from_a_wrong_one(level, answer):
    right = signals_of(level, answer)
    away = answer @ RigidTransform([0.5, -0.6, 0.7], [3, -2, 3], [11, 10, 9]).matrix
    wrong = signals_of(level, maximise(level, away, mutual_information).pose)
    assert right.wrong_pose_z > 1.5 * wrong.wrong_pose_z
    assert right.wrong_pose_share < 0.5 < wrong.wrong_pose_share
    assert right.cost_voxel > 1.3 * wrong.cost_voxel


def test_a_coarse_level_that_shares_less_says_so(level, answer, rng):
    other = ndimage.gaussian_filter(rng.random((24, 22, 20)), 2)
    other = (other - other.min()) / np.ptp(other)
    unlike = replace(level, interpolated=quantised_volume(other.astype(np.float32)))
    metric, foreground = mutual_information, foreground_of(level)
    same = signals(level, level, answer, metric, foreground)
    less = signals(unlike, level, answer, metric, foreground)
    assert same.coarse_share == pytest.approx(1)
    assert less.coarse_share < 0.5


def test_signals_do_not_depend_on_the_number_of_threads(level, answer):
    one, three = signals_of(level, answer), signals_of(level, answer, threads=3)
    assert list(map(repr, one.as_dict().values())) == list(
        map(repr, three.as_dict().values())
    )


def test_without_overlap_all_are_unknown(level):
    away = RigidTransform([0, 0, 0], [500, 0, 0]).matrix
    found = signals_of(level, away)
    assert all(np.isnan(number) for number in found.as_dict().values())
