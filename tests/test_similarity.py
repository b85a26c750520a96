"""Joint histograms and their gradient against the definition."""

from __future__ import annotations

from dataclasses import replace

import naive
import numpy as np
import pytest
from checks import quantised_volume
from scipy import ndimage

from mireg._engine.levels import Level, make_level, quantised
from mireg._engine.similarity import (
    joint_histogram,
    metric_at,
    parzen_window,
    score_gradient,
)
from mireg._errors import InputError
from mireg._settings import METRICS
from mireg._transform import RigidTransform

N_BINS = 12
POSE = RigidTransform([0.1, -0.2, 0.15], [0.7, -0.4, 0.3], [5, 4, 3]).matrix

#: A gantry tilt of 13.5 degrees, voxels that are no cubes, and a flip.
SHEARED = np.diag([-1.2, 1.0, 1.5, 1.0])
SHEARED[1, 2] = 1.5 * np.tan(np.deg2rad(13.5))


def smooth_level(rng, shape=(14, 13, 12), affine=None, holes=0.0, n=400) -> Level:
    """Return a smooth random image and samples all about it, some of them outside."""
    volume = ndimage.gaussian_filter(
        rng.random(shape), [2 if n > 3 else 0 for n in shape]
    )
    volume = np.float32((volume - volume.min()) / np.ptp(volume))
    if holes:
        volume[rng.random(shape) < holes] = np.nan
    mm_from_ijk = np.eye(4) if affine is None else affine
    ijk = rng.uniform(-1, np.array(shape), (n, 3))
    points = ijk @ mm_from_ijk[:3, :3].T + mm_from_ijk[:3, 3]
    origin = points.mean(axis=0)
    return make_level(
        size_mm=1.0,
        points=(points - origin).T.astype(np.float32),
        origin=origin,
        sampled_values=rng.random(n).astype(np.float32),
        interpolated=quantised_volume(volume),
        interpolated_ijk_from_mm=np.linalg.inv(mm_from_ijk),
        n_bins=N_BINS,
    )


def interpolated_in_bins(level: Level) -> np.ndarray:
    """Return the interpolated image in units of bins, as a volume."""
    # The spline needs a bin below the darkest value and two above the brightest.
    return 1 + level.interpolated_values.astype(float) * (level.n_bins - 3.001)


def by_definition(level: Level, pose: np.ndarray, change: float = 0) -> np.ndarray:
    """Return the histogram of the reference, the matrix to voxels changed."""
    volume, matrix = interpolated_in_bins(level), level.ijk_from_points(pose)
    return naive.joint_histogram(
        level.points.T, level.sampled_bin, volume, matrix + change, level.n_bins
    )


@pytest.mark.parametrize("pose", [np.eye(4), POSE], ids=["identity", "rotated"])
@pytest.mark.parametrize("affine", [None, SHEARED], ids=["straight", "sheared"])
@pytest.mark.parametrize("holes", [0, 0.02])
def test_histogram_equals_its_reference(pose, affine, holes, rng):
    level = smooth_level(rng, affine=affine, holes=holes)
    histogram, _ = joint_histogram(level, pose)
    assert 100 < histogram.sum() < 400
    np.testing.assert_allclose(histogram, by_definition(level, pose), atol=1e-4)


@pytest.mark.parametrize("shape", [(5, 4, 3), (40, 60, 50)])
@pytest.mark.parametrize("threads", [1, 2])
def test_intensities_are_quantised_to_a_part_in_30000(shape, threads, rng):
    volume = rng.random(shape).astype(np.float32)
    volume[0, :2, 0] = 0, 1
    volume[rng.random(volume.shape) < 0.2] = np.nan
    level = make_level(
        size_mm=1.0,
        points=np.zeros((3, 1), np.float32),
        origin=np.zeros(3),
        sampled_values=np.zeros(1, np.float32),
        interpolated=quantised(shape, lambda planes: volume[planes], threads),
        interpolated_ijk_from_mm=np.eye(4),
        n_bins=N_BINS,
    )
    np.testing.assert_allclose(level.interpolated_values, volume, atol=1 / 60_000)


@pytest.mark.parametrize("slices", [1, 2, 3])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_few_slices_equal_their_reference(slices, axis, rng):
    shape = [9, 8, 10]
    shape[axis] = slices
    level = smooth_level(rng, tuple(shape))
    for pose in (np.eye(4), POSE):
        histogram, _ = joint_histogram(level, pose)
        assert histogram.sum() > 10
        np.testing.assert_allclose(histogram, by_definition(level, pose), atol=1e-4)


def test_one_sample_by_hand():
    # Halfway between intensities 0 and 1, deep inside: one count in all, spread
    # evenly to both sides of the middle, on the row of the sample's own intensity.
    ramp = np.zeros((4, 4, 4), np.float32)
    ramp[2:] = 1
    level = make_level(
        size_mm=1.0,
        points=np.float32([[1.5], [1.5], [1.5]]),
        origin=np.zeros(3),
        sampled_values=np.float32([0.5]),
        interpolated=quantised_volume(ramp),
        interpolated_ijk_from_mm=np.eye(4),
        n_bins=9,
    )
    histogram, _ = joint_histogram(level, np.eye(4))
    np.testing.assert_array_equal(np.flatnonzero(histogram.sum(axis=1)), [4])
    assert histogram.sum() == pytest.approx(1)
    assert histogram[4] @ np.arange(9) == pytest.approx(4, abs=0.01)
    # The variance of a cubic B-spline is a third.
    assert histogram[4] @ (np.arange(9) - 4.0) ** 2 == pytest.approx(1 / 3, abs=0.01)


def test_deep_inside_each_sample_counts_once(rng):
    level = smooth_level(rng)
    deep = np.diag([0.7, 0.7, 0.7, 1])  # pulls all samples in, about their middle
    deep[:3, 3] = level.origin - deep[:3, :3] @ level.origin
    histogram, _ = joint_histogram(level, deep)
    assert histogram.sum() == pytest.approx(400, abs=1e-3)
    np.testing.assert_allclose(
        histogram.sum(axis=1),
        np.bincount(level.sampled_bin, minlength=N_BINS),
        atol=1e-3,
    )


def test_far_away_nothing_counts(rng):
    level, away = smooth_level(rng), np.eye(4)
    away[0, 3] = 100
    histogram, readings = joint_histogram(level, away)
    assert not histogram.any()
    assert not score_gradient(level, readings, np.ones_like(histogram)).any()


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_histogram_never_jumps(axis, rng):
    # From inside to all outside in small steps: no step changes it by much.
    level = smooth_level(rng, n=100)
    pose = np.eye(4)
    masses = []
    for shift in np.linspace(0, 16, 801):
        pose[axis, 3] = shift
        masses.append(joint_histogram(level, pose)[0].sum())
    assert masses[-1] == 0
    assert np.abs(np.diff(masses)).max() < 1  # of 100 samples, in 1/50 voxel


@pytest.fixture(
    scope="module",
    params=[
        {},
        {"affine": SHEARED, "holes": 0.02},
        {"shape": (9, 8, 3), "n": 300},
        {"shape": (2, 9, 8), "n": 300},
    ],
    ids=["whole", "sheared, holes", "3 slices", "2 slices"],
)
def nudged(request):
    """Return a level, and the reference's histograms with each number nudged."""
    rng = np.random.default_rng(0)
    prior = rng.dirichlet(np.ones(400)).reshape(20, 20)
    level = replace(smooth_level(rng, **request.param), prior=prior)
    steps = 1e-6 * np.eye(12).reshape(12, 3, 4)
    return level, [
        (by_definition(level, POSE, step), by_definition(level, POSE, -step))
        for step in steps
    ]


@pytest.mark.parametrize("name", METRICS)
def test_gradient_equals_differences_in_all_twelve_components(name, nudged):
    level, histograms = nudged
    metric = metric_at(level, name)
    histogram, readings = joint_histogram(level, POSE)
    gradient = score_gradient(level, readings, metric(histogram)[1])
    differences = [
        (metric(ahead)[0] - metric(behind)[0]) / 2e-6 for ahead, behind in histograms
    ]
    np.testing.assert_allclose(gradient.ravel(), differences, rtol=1e-4)


def test_parzen_window_is_what_one_sample_adds(rng):
    """A histogram of one intensity has the window of it in each row."""
    for value in [0.0, 0.37, 1.0]:
        level = smooth_level(rng)
        there = np.full((14, 13, 12), value, np.float32)
        flat = make_level(
            size_mm=1.0,
            points=level.points,
            origin=level.origin,
            sampled_values=level.sampled_values,
            interpolated=quantised_volume(there),
            interpolated_ijk_from_mm=np.eye(4),
            n_bins=N_BINS,
        )
        histogram, _ = joint_histogram(flat, np.eye(4))
        one = flat.interpolated_values[0, 0, :1].astype(float)
        window = parzen_window(one, N_BINS)[:, 0]
        assert window.sum() == pytest.approx(1)
        share = histogram / histogram.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(share, [window] * N_BINS, atol=1e-6)


def test_a_prior_learned_at_a_pose_is_what_is_read_there(rng):
    """Pseudo-counts of a level's own joint distribution are its own histogram."""
    level = smooth_level(rng, n=4000)
    histogram, readings = joint_histogram(level, POSE)
    values = (readings[0] - 1) / (N_BINS - 3.001)
    inside = readings[4] > 0
    fine = 8 * N_BINS
    prior, _, _ = np.histogram2d(
        level.sampled_values[inside],
        values[inside],
        bins=fine,
        range=[[0, 1], [0, 1]],
        weights=readings[4, inside],
    )
    itself = replace(level, prior=prior / len(level.sampled_bin))
    # Pooled with itself, a histogram tells what it tells.
    score = metric_at(itself, "prior")(histogram)[0]
    assert score == pytest.approx(metric_at(level, "mi")(histogram)[0], rel=1e-3)


def test_the_metric_with_a_prior_needs_one(rng):
    with pytest.raises(InputError, match="needs a prior"):
        metric_at(smooth_level(rng), "prior")


def test_no_field_of_view_over_background_moves_the_invariant_score(rng):
    """Interpolated with more background about it: MI differs, "oimi" does not."""
    middle = ndimage.gaussian_filter(rng.random((12, 12, 12)), 1.5)
    middle = np.float32((middle - middle.min()) / np.ptp(middle))
    volume = np.zeros((30, 30, 30), np.float32)
    volume[9:21, 9:21, 9:21] = middle
    scores = {"mi": [], "oimi": []}
    points = rng.uniform(0, 29, (5000, 3))
    sampled_values = ndimage.map_coordinates(volume, points.T, order=1)
    for cut in (0, 3, 6):
        shift = np.eye(4)
        shift[:3, 3] = -cut
        level = make_level(
            size_mm=1.0,
            points=points.T.astype(np.float32),
            origin=np.zeros(3),
            sampled_values=np.float32(sampled_values),
            interpolated=quantised_volume(
                volume[cut : 30 - cut, cut : 30 - cut, cut : 30 - cut]
            ),
            interpolated_ijk_from_mm=shift,
            n_bins=N_BINS,
        )
        histogram, _ = joint_histogram(level, np.eye(4))
        for name, so_far in scores.items():
            so_far.append(metric_at(level, name)(histogram)[0])
    assert np.ptp(scores["oimi"]) < 1e-4
    assert np.ptp(scores["mi"]) > 0.1


def test_threads_do_not_change_a_bit(rng):
    level = smooth_level(rng, n=60_000)
    one, readings = joint_histogram(level, POSE, 1)
    gradient = score_gradient(level, readings, one, 1)
    for threads in (2, 4):
        again, readings = joint_histogram(level, POSE, threads)
        np.testing.assert_array_equal(again, one)
        same = score_gradient(level, readings, one, threads)
        np.testing.assert_array_equal(same, gradient)


def test_memory_that_is_given_is_written_to(rng):
    level = smooth_level(rng)
    given = np.full((8, level.n_samples), np.nan, np.float32)
    histogram, readings = joint_histogram(level, POSE, readings=given)
    assert readings is given
    expected, _ = joint_histogram(level, POSE)
    np.testing.assert_array_equal(histogram, expected)
