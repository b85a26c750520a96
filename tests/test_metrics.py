"""Similarity metrics against the exact measures, differences and hand-worked cases."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest

from mireg import information
from mireg.metrics import METRIC
from mireg.settings import METRICS

close = partial(pytest.approx, rel=1e-12, abs=1e-12)

#: What each metric is called by the exact measures.
EXACT = {
    "mi": information.mutual_information,
    "nmi": information.normalised_mutual_information,
}


def random_histograms(rng):
    """Draw histograms of many shapes and totals, most of them with empty cells."""
    for shape in [(4, 5), (8, 8), (32, 32)]:
        for fill in (0.02, 0.3, 1):
            for _ in range(5):
                counts = rng.exponential(size=shape) * (rng.random(shape) < fill)
                counts[tuple(rng.integers(shape))] += 1
                yield counts * rng.choice([1e-3, 1, 1e5])


def test_settings_know_every_metric_and_no_other():
    assert set(METRIC) == set(METRICS)


@pytest.mark.parametrize("name", METRICS)
def test_scores_are_the_exact_measures(name, rng):
    for histogram in random_histograms(rng):
        exact = EXACT[name](information.from_counts(histogram))
        assert METRIC[name](histogram)[0] == close(exact)


@pytest.mark.parametrize("name", METRICS)
def test_derivative_by_each_count_equals_differences(name, rng):
    counts = rng.uniform(1, 5, (4, 5))
    _, derivative = METRIC[name](counts)
    for cell in np.ndindex(counts.shape):
        step = np.zeros_like(counts)
        step[cell] = 1e-5
        ahead, behind = METRIC[name](counts + step), METRIC[name](counts - step)
        assert derivative[cell] == pytest.approx(
            (ahead[0] - behind[0]) / 2e-5, rel=1e-4, abs=1e-8
        )


@pytest.mark.parametrize("name", METRICS)
def test_a_score_knows_shares_not_counts(name, rng):
    for histogram in random_histograms(rng):
        score, derivative = METRIC[name](histogram)
        assert METRIC[name](3 * histogram)[0] == close(score)
        # Nothing changes along the histogram itself (Euler).
        assert (derivative * histogram).sum() == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("name", METRICS)
def test_one_cell_that_holds_all_tells_nothing_and_has_finite_slopes(name):
    histogram = np.zeros((6, 6))
    histogram[2, 3] = 7
    score, derivative = METRIC[name](histogram)
    assert score == close(METRIC[name](np.ones((6, 6)))[0])
    assert np.isfinite(derivative).all()


def test_two_grey_levels_by_hand():
    """Counts (2, 1; 1, 2): each marginal a fair coin, one bin in three differs."""
    counts = np.array([[2.0, 1.0], [1.0, 2.0]])
    joint = math.log(6) - 2 / 3 * math.log(2)  # two cells of 1/3, two of 1/6
    assert METRIC["mi"](counts)[0] == close(2 * math.log(2) - joint)
    assert METRIC["nmi"](counts)[0] == close(2 * math.log(2) / joint)
