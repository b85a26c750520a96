"""Joint histograms and their gradient against the definition."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from scipy.interpolate import BSpline

from mireg.pyramid import Level, make_level
from mireg.similarity import METRIC, joint_histogram, score_gradient

N_BINS = 12


@pytest.fixture
def level(rng: np.random.Generator) -> Level:
    """Return smooth random images, samples well inside the moving one."""
    smooth = ndimage.gaussian_filter(rng.random((14, 13, 12)), 2)
    grey = (smooth - smooth.min()) / np.ptp(smooth)
    points = rng.uniform(3, 9, (400, 3)).astype(np.float32)
    return make_level(
        size_mm=1.0,
        points=points,
        origin=np.zeros(3),
        fixed_grey=rng.random(400).astype(np.float32),
        moving_grey=grey.astype(np.float32),
        moving_ijk_from_mm=np.eye(4),
        n_bins=N_BINS,
    )


def test_histogram_is_that_of_its_definition(level: Level) -> None:
    """Each sample adds a cubic B-spline about its interpolated grey level."""
    pose = np.eye(4)
    pose[:3, 3] = 0.3, -0.2, 0.4
    volume = level.moving[0].reshape(14, 13, 12)
    at = (level.points + pose[:3, 3]).T
    values = ndimage.map_coordinates(volume, at, output=np.float64, order=1)
    spline = BSpline.basis_element(np.arange(-2.0, 3.0), extrapolate=False)
    expected = np.zeros((N_BINS, N_BINS))
    for row, value in zip(level.fixed_bin, values, strict=True):
        expected[row] += np.nan_to_num(spline(np.arange(N_BINS) - value))
    histogram, _ = joint_histogram(level, pose)
    np.testing.assert_allclose(histogram, expected, atol=1e-4)


@pytest.mark.parametrize("metric", sorted(METRIC))
def test_derivative_by_histogram_is_that_of_differences(
    metric: str, rng: np.random.Generator
) -> None:
    """The derivative of a score by each count equals central differences."""
    counts = rng.uniform(1, 5, (4, 5))
    _, derivative = METRIC[metric](counts)
    for cell in np.ndindex(counts.shape):
        step = np.zeros_like(counts)
        step[cell] = 1e-5
        ahead, behind = METRIC[metric](counts + step), METRIC[metric](counts - step)
        assert derivative[cell] == pytest.approx(
            (ahead[0] - behind[0]) / 2e-5, rel=1e-4, abs=1e-8
        )


@pytest.mark.parametrize("metric", sorted(METRIC))
def test_gradient_by_shift_is_that_of_differences(level: Level, metric: str) -> None:
    """The gradient by the translation equals central differences."""

    def score(shift: np.ndarray) -> float:
        pose = np.eye(4)
        pose[:3, 3] = shift
        return METRIC[metric](joint_histogram(level, pose)[0])[0]

    histogram, seen = joint_histogram(level, np.eye(4))
    gradient = score_gradient(level, seen, METRIC[metric](histogram)[1])
    for axis in range(3):
        step = np.eye(3)[axis] * 1e-6
        slope = (score(step) - score(-step)) / 2e-6
        assert gradient[axis, 3] == pytest.approx(slope, rel=1e-4)


def test_threads_do_not_change_a_bit(level: Level) -> None:
    """One, two and four threads give the same bits."""
    many = make_level(
        size_mm=1.0,
        points=np.tile(level.points, (100, 1)),
        origin=level.origin,
        fixed_grey=np.tile(level.fixed_grey, 100),
        moving_grey=level.moving_grey,
        moving_ijk_from_mm=np.eye(4),
        n_bins=N_BINS,
    )
    one, seen = joint_histogram(many, np.eye(4), 1)
    slope = score_gradient(many, seen, one, 1)
    for threads in (2, 4):
        again, seen = joint_histogram(many, np.eye(4), threads)
        np.testing.assert_array_equal(again, one)
        np.testing.assert_array_equal(score_gradient(many, seen, one, threads), slope)
