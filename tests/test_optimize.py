"""Local optimisation: one pose to its maximum, and many candidates to a few."""

from __future__ import annotations

import sys
from dataclasses import replace
from types import SimpleNamespace

import naive
import numpy as np
import pytest
from checks import pose_error_mm, quantised_volume, shifted
from scenes import TRUTH, scene_and_negative
from scipy import ndimage

from mireg import _parameters as parameters
from mireg._engine.levels import Level, levels_at, make_level, pyramid
from mireg._engine.metrics import mutual_information, normalised_mutual_information
from mireg._engine.optimize import (
    Channels,
    Fit,
    best_distinct,
    evaluate,
    leading,
    maximise,
    optimise_all,
    optimise_best,
    positive_definite,
    pruned,
)
from mireg._engine.pair import Pair
from mireg._engine.similarity import joint_histogram, metric_at
from mireg._prepare import Foreground, prepare
from mireg._settings import Settings
from mireg._transform import RigidTransform
from mireg.phantom import phantom_pair

METRICS = (mutual_information, normalised_mutual_information)
AWAY = RigidTransform([0, 0, 0], [500, 0, 0]).matrix


@pytest.fixture
def level(rng) -> Level:
    """Return a level of a smooth scene and its negative, a small motion apart."""
    return scene_and_negative(rng)


# --- one pose ---------------------------------------------------------------


@pytest.mark.parametrize("metric", METRICS)
def test_gradient_by_the_six_parameters_equals_differences(level, metric, monkeypatch):
    few = slice(None, None, 10)
    level = replace(
        level,
        points=level.points[:, few].copy(),
        sampled_values=level.sampled_values[few].copy(),
        sampled_bin=level.sampled_bin[few].copy(),
    )
    volume = 1 + level.interpolated_values.astype(float) * (level.n_bins - 3.001)
    compared = []

    def by_definition(at, pose, threads, readings):
        """Score by `naive`; readings, and their gradients, by the loop."""
        joint_histogram(at, pose, threads, readings)
        matrix = at.ijk_from_points(pose)
        counts = at.points.T, at.sampled_bin, volume, matrix, at.n_bins
        return naive.joint_histogram(*counts), readings

    def compare(objective, start, **_):
        """Stand in for the optimiser, and compare gradients on its way."""
        for there in (start, start + 0.3, start - np.arange(6) / 5):
            _, gradient = objective(there)
            differences = []
            for step in np.eye(6) * 1e-5:
                ahead, behind = objective(there + step)[0], objective(there - step)[0]
                differences.append((ahead - behind) / 2e-5)
            compared.append((gradient, differences))
        return SimpleNamespace(hess_inv=np.eye(6), status=0)

    module = sys.modules["mireg._engine.optimize"]
    monkeypatch.setattr(module, "minimize", compare)
    monkeypatch.setattr(module, "joint_histogram", by_definition)
    maximise(level, np.eye(4), metric, max_evaluations=1000)
    assert len(compared) == 3
    for gradient, differences in compared:
        np.testing.assert_allclose(gradient, differences, rtol=1e-4)


def test_a_step_that_is_small_by_chance_is_not_the_end(rng):
    truth = RigidTransform([0.15, -0.1, 0.2], [6, -4, 8])
    heads = phantom_pair(
        "T1", "T2", pose=truth, fixed_voxel_size_mm=5, moving_voxel_size_mm=5
    )
    pair = Pair.of(prepare(heads.fixed), prepare(heads.moving), channels=["original"])
    resolution = pyramid(pair).finest
    (level,) = levels_at(pair, resolution, Settings(samples=20_000)).values()
    ends = []
    for _ in range(100):
        near = RigidTransform(rng.uniform(-0.15, 0.15, 3), rng.uniform(-8, 8, 3))
        start = pair.engine_pose(near.matrix @ truth.matrix)
        first = maximise(level, start, METRICS[1], tolerance=0.1, max_evaluations=8)
        pose, hessian = first.start
        fit = maximise(level, pose, METRICS[1], tolerance=0.1, inverse_hessian=hessian)
        ends.append(fit.weighted_information)
    assert min(ends) > 0.98 * max(ends)


@pytest.mark.parametrize("metric", METRICS)
def test_it_climbs_to_the_truth(level, metric):
    start = np.eye(4)
    fit = maximise(level, start, metric)
    corners = [[5, 5, 5], [18, 16, 14], [5, 16, 5], [18, 5, 14]]
    assert pose_error_mm(start, TRUTH.matrix, corners) > 1
    # A scene 13 voxels wide, read linearly, gives no more than this.
    assert pose_error_mm(fit.pose, TRUTH.matrix, corners) < 0.2
    assert fit.score > evaluate(level, start, metric).score
    assert evaluate(level, fit.pose, metric).score == fit.score


@pytest.mark.parametrize("metric", METRICS)
def test_it_ends_on_a_maximum(level, metric):
    fit = maximise(level, np.eye(4), metric)
    assert fit.converged
    for axis in range(6):
        for size in (-0.1, 0.1):
            numbers = np.zeros(6)
            numbers[axis] = size if axis >= 3 else size / 6
            nudge = RigidTransform(numbers[:3], numbers[3:], level.origin).matrix
            nudged = evaluate(level, fit.pose @ nudge, metric)
            assert nudged.score < fit.score


def test_the_curvature_that_it_learns_is_in_millimetres(level):
    # At a level, numbers are voxels; the next one has smaller voxels.
    coarser = replace(level, size_mm=3 * level.size_mm)
    metric = metric_at(level, "mi")
    traces = []
    for at in (level, coarser):
        fit = maximise(at, np.eye(4), metric)
        assert fit.inverse_hessian is not None
        traces.append(np.trace(fit.inverse_hessian))
    # Another size of the steps only: the curvature by millimetres is what it is.
    assert 1 / 3 < traces[1] / traces[0] < 3


def test_a_matrix_is_repaired_to_a_share_of_its_largest_eigenvalue(rng):
    axes, _ = np.linalg.qr(rng.standard_normal((6, 6)))
    values = np.array([-2.0, 1e-9, 0.5, 1.0, 2.0, 40.0])
    repaired = np.linalg.eigvalsh(positive_definite((axes * values) @ axes.T))
    least = parameters.MIN_EIGENVALUE_SHARE * 40
    np.testing.assert_allclose(repaired, [least, least, 0.5, 1, 2, 40], rtol=1e-9)


def test_it_has_not_converged_where_a_line_search_finds_nothing(level):
    def downhill(histogram):
        """Give a derivative that leads away from the maximum."""
        score, derivative = mutual_information(histogram)
        return score, -derivative

    fit = maximise(level, np.eye(4), downhill, max_evaluations=1000)
    assert fit.evaluations < 1000
    assert not fit.converged


def test_it_has_converged_where_a_line_search_has_no_further_to_go(level):
    fit = maximise(level, np.eye(4), METRICS[1])
    again = maximise(
        level, fit.pose, METRICS[1], inverse_hessian=fit.inverse_hessian, tolerance=0.01
    )
    assert again.converged


@pytest.mark.parametrize("most", [1, 2, 3, 5])
def test_it_has_not_converged_when_evaluations_run_out(most, level):
    metric = normalised_mutual_information
    whole = maximise(level, np.eye(4), metric)
    assert whole.evaluations > 5
    fit = maximise(level, np.eye(4), metric, max_evaluations=most)
    assert fit.evaluations == most
    assert not fit.converged
    assert evaluate(level, np.eye(4), metric).score <= fit.score < whole.score


def test_it_stays_where_nothing_overlaps(level):
    fit = maximise(level, AWAY, normalised_mutual_information)
    np.testing.assert_array_equal(fit.pose, AWAY)
    assert fit.overlap_fraction == 0
    assert fit.weighted_information == -np.inf
    assert not fit.converged
    assert fit.inverse_hessian is None


def test_it_stays_where_next_to_nothing_overlaps(level):
    start = shifted(18)
    before = evaluate(level, start, normalised_mutual_information)
    assert 0 < before.overlap_fraction < parameters.MIN_OVERLAP
    fit = maximise(level, start, normalised_mutual_information)
    np.testing.assert_array_equal(fit.pose, start)
    assert not fit.converged
    assert fit.score == before.score
    assert fit.weighted_information == before.weighted_information


def test_threads_do_not_change_a_bit(level):
    many = make_many(level)
    one = maximise(many, np.eye(4), normalised_mutual_information, 1)
    for threads in (2, 4):
        again = maximise(many, np.eye(4), normalised_mutual_information, threads)
        np.testing.assert_array_equal(again.pose, one.pose)
        assert again.score == one.score


def make_many(level: Level) -> Level:
    """Return a level whose samples make work for several threads."""
    return make_level(
        size_mm=level.size_mm,
        points=np.tile(level.points, (1, 20)),
        origin=level.origin,
        sampled_values=np.tile(level.sampled_values, 20),
        interpolated=level.interpolated,
        interpolated_ijk_from_mm=level.interpolated_ijk_from_mm,
        n_bins=level.n_bins,
    )


# --- how poses rank ---------------------------------------------------------


def information_of(histogram):
    """Mutual information in nats, by the reference implementation of entropies."""
    rows, columns, cells = naive.entropies(histogram)
    return rows + columns - cells


@pytest.mark.parametrize("mm", [0.0, 3.0, 9.0, 13.0])
def test_samples_outside_explain_nothing(mm, level):
    pose = shifted(mm) @ TRUTH.matrix
    histogram, _ = joint_histogram(level, pose)
    fit = evaluate(level, pose, normalised_mutual_information)
    inside = histogram.sum() / level.n_samples
    assert fit.overlap_fraction == pytest.approx(inside)
    expected = inside * information_of(histogram)
    assert fit.weighted_information == pytest.approx(expected, rel=1e-9)


def test_a_small_lucky_overlap_ranks_below_a_large_one(level, rng):
    noisy = rng.permuted(level.sampled_bin)
    noisy[::5] = level.sampled_bin[::5]
    level, metric = replace(level, sampled_bin=noisy), mutual_information
    right = evaluate(level, TRUTH.matrix, metric)
    lucky = evaluate(level, shifted(18), metric)
    assert 0 < lucky.overlap_fraction < 0.1
    # Of few samples in many bins each seems to tell much.
    assert lucky.score > right.score
    assert best_distinct([lucky, right], around(level))[0] is right
    assert leading({"a": [lucky], "b": [right]}) == "b"


def test_no_overlap_ranks_below_any_even_where_scores_are_negative(level):
    # The prior is believed, and says the opposite of what these images show.
    prior = 50 * np.eye(level.n_bins) / level.n_bins
    level = replace(level, prior=prior)
    metric = metric_at(level, "prior")
    nowhere = evaluate(level, AWAY, metric)
    assert nowhere.overlap_fraction == 0
    for mm in (0, 2, 8, 13):
        here = evaluate(level, shifted(mm) @ TRUTH.matrix, metric)
        assert here.overlap_fraction > 0
        assert here.weighted_information < 0
        assert best_distinct([nowhere, here], around(level))[0] is here
        assert leading({"a": [nowhere], "b": [here]}) == "b"


# --- many candidates --------------------------------------------------------


def around(level: Level) -> Foreground:
    """Return a foreground where the samples of a level are."""
    points = level.points.T + level.origin
    centroid = points.mean(axis=0)
    rms_radius = float(np.sqrt(np.square(points - centroid).sum(axis=1).mean()))
    return Foreground(centroid, rms_radius, 1.0, points, np.ones(len(points)))


#: How far the false maximum of stripes lies from the right pose, mm.
PERIOD = 6.0


@pytest.fixture(scope="module")
def channels() -> Channels:
    """Return two channels: stripes, which fit a period further, and no stripes."""
    rng = np.random.default_rng(1)
    ijk = np.moveaxis(np.indices((36, 22, 20)), 0, -1)

    def blob(centre, width):
        return np.exp(-np.square((ijk - centre) / width).sum(axis=-1) / 2)

    smooth = blob([15, 9, 9], [7, 5, 4])
    smooth += blob([20, 15, 6], 4) / 2 + blob([11, 13, 14], 4) / 2
    smooth = (smooth - smooth.min()) / np.ptp(smooth)
    striped = (0.5 + 0.5 * np.sin(2 * np.pi * ijk[..., 0] / PERIOD) + smooth) / 2
    points = rng.uniform([8, 4, 4], [24, 17, 15], (6000, 3))
    origin = points.mean(axis=0)

    def channel(scene):
        level = make_level(
            size_mm=1.0,
            points=(points - origin).T.astype(np.float32),
            origin=origin,
            sampled_values=ndimage.map_coordinates(scene, points.T, order=1).astype(
                np.float32
            ),
            interpolated=quantised_volume(scene.astype(np.float32)),
            interpolated_ijk_from_mm=np.eye(4),
            n_bins=16,
        )
        return level, mutual_information

    return {"striped": channel(striped), "smooth": channel(smooth)}


@pytest.fixture(scope="module")
def foreground(channels) -> Foreground:
    level, _ = channels["striped"]
    return around(level)


@pytest.fixture(scope="module")
def false(channels) -> np.ndarray:
    """Return the false maximum of the striped channel."""
    pose = maximise(*at(channels, "striped", shifted(PERIOD))).pose
    assert pose_error(pose) > PERIOD - 1
    return pose


def at(channels, name, pose):
    """Give level, pose and metric of a channel."""
    level, metric = channels[name]
    return level, pose, metric


def pose_error(pose):
    """Return how far a pose is from the right one at the corners of the samples."""
    corners = np.indices((2, 2, 2)).reshape(3, 8).T * [16, 13, 11] + [8, 4, 4]
    return pose_error_mm(pose, np.eye(4), corners)


def test_candidates_of_one_channel_are_tried_in_every_other(
    channels, foreground, false
):
    fits = optimise_best(channels, [false, shifted(0.5)], foreground, 2)
    assert list(fits) == list(channels)
    assert pose_error(fits["smooth"][0].pose) < 0.2
    assert [pose_error(fit.pose) > 1 for fit in fits["striped"]] == [False, True]


def test_only_the_best_candidates_are_optimised(channels, foreground, false):
    starts = [shifted(3 * PERIOD / 2), false, shifted(0.5), shifted(40)]
    fits = optimise_best(channels, starts, foreground, 1)
    assert [len(those) for those in fits.values()] == [1, 1]
    for those in fits.values():
        assert pose_error(those[0].pose) < 0.2
        assert those[0].converged


@pytest.mark.parametrize("threads", [1, 2, 8])
def test_every_start_is_optimised_in_its_channel(threads, channels, foreground, false):
    starts = {
        "striped": [(false, None), (shifted(0.5), None), (shifted(-0.5), None)],
        "smooth": [(false, None)],
    }
    fits = optimise_all(channels, starts, foreground, threads)
    # Two of the three lead to one place.
    errors = [pose_error(fit.pose) for fit in fits["striped"]]
    assert errors[0] < 0.2
    assert errors[1] > PERIOD - 1
    assert len(errors) == 2
    assert [pose_error(fit.pose) < 0.2 for fit in fits["smooth"]] == [True]
    again = optimise_all(channels, starts, foreground, 1)
    for name, those in fits.items():
        for fit, other in zip(those, again[name], strict=True):
            np.testing.assert_array_equal(fit.pose, other.pose)


def test_the_first_start_and_what_explains_enough_is_kept(channels):
    near, wrong = shifted(0.3), shifted(PERIOD / 2)
    explained = {
        name: [
            evaluate(*at(channels, name, pose)).weighted_information
            for pose in (np.eye(4), near, wrong)
        ]
        for name in channels
    }
    best = max(explained, key=lambda name: explained[name][0])
    top, second, last = explained[best]
    assert second > parameters.PRUNE_SHARE * top > last
    starts = [(np.eye(4), None), (wrong, None), (near, np.eye(6))]
    kept = pruned(channels, starts)
    assert list(kept) == [best]
    assert [id(start) for start in kept[best]] == [id(starts[0]), id(starts[2])]
    # The first is kept, however little it explains.
    kept = pruned(channels, [(AWAY, None), (wrong, None)])
    (those,) = kept.values()
    assert those[0][0] is AWAY


def test_best_distinct_drops_what_is_near_a_better_one(level):
    foreground = around(level)
    apart = parameters.OPTIMUM_RADII * foreground.rms_radius
    places = [(0, 1.0), (0.9 * apart, 2.0), (1.8 * apart, 3.0), (9.0, 0.5)]
    fits = [Fit(shifted(mm), 0.0, 1.0, explained) for mm, explained in places]
    # The second is near the third, the first is not.
    kept = best_distinct(fits, foreground)
    assert [fit.weighted_information for fit in kept] == [3.0, 1.0, 0.5]
