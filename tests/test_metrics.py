"""Similarity metrics against the exact measures, differences and hand-worked cases."""

from __future__ import annotations

import math
import re
from functools import partial
from typing import get_args

import naive
import numpy as np
import pytest

from mireg import information
from mireg._engine.metrics import (
    METRIC,
    entropies,
    f_information,
    overlap_invariant,
    prior_informed,
)
from mireg._settings import METRICS, MetricName, Settings
from mireg.information import F_DIVERGENCE

close = partial(pytest.approx, rel=1e-12, abs=1e-12)

ALONE = tuple(METRIC)


def from_independence(joint, member):
    """Return an f-divergence between a joint distribution and that of strangers."""
    product = np.outer(joint.sum(axis=1), joint.sum(axis=0))
    return information.f_divergence(joint, product, member)


#: What each metric is called by the exact measures.
EXACT = {
    "mi": information.mutual_information,
    "nmi": information.normalised_mutual_information,
    "ecc": information.entropy_correlation_coefficient,
    "js": partial(from_independence, member="jensen-shannon"),
    "hellinger": partial(from_independence, member="squared-hellinger"),
    "chi2": partial(from_independence, member="pearson-chi-squared"),
}


def assert_derivative_equals_differences(metric, counts, where=True):
    """Compare the derivative by each count, where asked, to central differences."""
    _, derivative = metric(counts)
    for cell in np.argwhere(np.broadcast_to(where, counts.shape)):
        step = np.zeros_like(counts)
        step[tuple(cell)] = 1e-5
        ahead, behind = metric(counts + step), metric(counts - step)
        assert derivative[tuple(cell)] == pytest.approx(
            (ahead[0] - behind[0]) / 2e-5, rel=1e-4, abs=1e-8
        )


def random_histograms(rng):
    """Draw histograms of many shapes and totals, most of them with empty cells."""
    for shape in [(4, 5), (8, 8), (32, 32)]:
        for fill in (0.02, 0.3, 1):
            for _ in range(5):
                counts = rng.exponential(size=shape) * (rng.random(shape) < fill)
                counts[tuple(rng.integers(shape))] += 1
                yield counts * rng.choice([1e-3, 1, 1e5])


def test_entropies_equal_their_twin(rng):
    for histogram in random_histograms(rng):
        assert list(entropies(histogram)[0]) == close(naive.entropies(histogram))
        turned = entropies(np.asfortranarray(histogram).T)[0]
        assert list(turned[[1, 0, 2]]) == close(naive.entropies(histogram))


def test_every_metric_of_the_table_has_a_type_words_and_a_formula():
    assert tuple(METRICS) == get_args(MetricName)
    assert set(METRICS) - set(METRIC) == {"oimi", "prior"}
    assert set(METRIC) == set(EXACT)
    listed = re.findall(r'^ {8}"(\w+)" ', Settings.__doc__, re.MULTILINE)
    assert listed == list(METRICS)


@pytest.mark.parametrize("name", ALONE)
def test_scores_are_the_exact_measures(name, rng):
    for histogram in random_histograms(rng):
        exact = EXACT[name](information.from_counts(histogram))
        assert METRIC[name](histogram)[0] == close(exact)


@pytest.mark.parametrize("name", ALONE)
def test_derivative_by_each_count_equals_differences(name, rng):
    assert_derivative_equals_differences(METRIC[name], rng.uniform(1, 5, (4, 5)))


@pytest.mark.parametrize("member", F_DIVERGENCE)
def test_every_f_divergence_is_a_metric(member, rng):
    metric = f_information(member)
    for histogram in random_histograms(rng):
        counts = histogram + (0.01 * histogram.max() if member == "reverse-kl" else 0)
        exact = from_independence(information.from_counts(counts), member)
        assert metric(counts)[0] == close(exact)
    full = rng.uniform(1, 5, (4, 5))
    assert_derivative_equals_differences(metric, full)
    some = full * (rng.random((4, 5)) < 0.6)
    if member != "reverse-kl":
        assert_derivative_equals_differences(metric, some, some > 0)


def test_mutual_information_is_the_member_kl_on_a_fast_path(rng):
    kl = f_information("kl")
    for histogram in random_histograms(rng):
        (fast, slopes), (score, by_definition) = METRIC["mi"](histogram), kl(histogram)
        assert fast == close(score)
        occurs = histogram > 1e-6 * histogram.sum()
        np.testing.assert_allclose(
            slopes[occurs], by_definition[occurs], rtol=1e-9, atol=1e-12 * slopes.max()
        )


@pytest.mark.parametrize("name", ALONE)
def test_a_score_knows_shares_not_counts(name, rng):
    for histogram in random_histograms(rng):
        score, derivative = METRIC[name](histogram)
        assert METRIC[name](3 * histogram)[0] == close(score)
        # Nothing changes along the histogram itself (Euler).
        assert (derivative * histogram).sum() == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("count", [7, 0])
@pytest.mark.parametrize("name", ALONE)
def test_one_cell_that_holds_all_tells_nothing_and_has_finite_slopes(name, count):
    histogram = np.zeros((6, 6))
    histogram[2, 3] = count
    score, derivative = METRIC[name](histogram)
    assert score == close(METRIC[name](np.ones((6, 6)))[0])
    assert np.isfinite(derivative).all()


def test_two_grey_levels_by_hand():
    """Counts (2, 1; 1, 2): each marginal a fair coin, one bin in three differs."""
    counts = np.array([[2.0, 1.0], [1.0, 2.0]])
    joint = math.log(6) - 2 / 3 * math.log(2)  # two cells of 1/3, two of 1/6
    middle = 2 / 3 * math.log(8 / 7) + 1 / 3 * math.log(4 / 5)  # of 1/3, 1/6 and 1/4
    product = 1 / 2 * math.log(6 / 7) + 1 / 2 * math.log(6 / 5)
    by_hand = {
        "mi": 2 * math.log(2) - joint,
        "nmi": 2 * math.log(2) / joint,
        "ecc": 2 - joint / math.log(2),
        "js": (middle + product) / 2,
        "hellinger": 1 - math.sqrt(1 / 3) - math.sqrt(1 / 6),
        "chi2": 1 / 9,
    }
    for name, score in by_hand.items():
        assert METRIC[name](counts)[0] == close(score)


def test_metrics_rank_noise_below_a_dependence(rng):
    """The less noise between two images, the higher every score."""
    x = rng.random(20_000)
    scores = []
    for noise in (1, 0.5, 0.2, 0.05):
        y = np.cos(4 * x) + noise * rng.normal(size=x.size)
        histogram = np.histogram2d(x, y, bins=16)[0]
        scores.append([METRIC[name](histogram)[0] for name in ALONE])
    assert (np.diff(scores, axis=0) > 0).all()


# --- overlap-invariant mutual information -----------------------------------------


@pytest.fixture
def invariant():
    """Make the metric for 4 grey levels of 20 samples each, outside of level 1."""
    return overlap_invariant(np.full(4, 20.0), np.array([0, 1.0, 0, 0, 0]))


def test_what_is_outside_counts_as_background(invariant, rng):
    seen = rng.uniform(1, 3, (4, 5))
    filled = seen.copy()
    filled[:, 1] += 20 - seen.sum(axis=1)
    exact = information.mutual_information(information.from_counts(filled))
    assert invariant(seen)[0] == close(exact)


def test_background_may_leave_the_field_of_view(invariant, rng):
    """Samples over background change nothing as they leave the moving image."""
    seen = rng.uniform(1, 3, (4, 5))
    less = seen.copy()
    less[:, 1] *= [0.2, 0.9, 0, 0.5]
    assert invariant(less)[0] == close(invariant(seen)[0])
    assert METRIC["mi"](less)[0] != pytest.approx(METRIC["mi"](seen)[0], rel=0.01)


def test_derivative_of_the_invariant_metric_equals_differences(invariant, rng):
    assert_derivative_equals_differences(invariant, rng.uniform(1, 3, (4, 5)))


# --- mutual information that starts from a prior ------------------------------------


def test_informed_information_by_hand():
    """Ten alike pairs known and ten alike seen; then ten that differ."""
    informed = prior_informed(np.diag([5.0, 5.0]))
    assert informed(np.diag([5.0, 5.0]))[0] == close(math.log(2))
    # Pooled: 20 samples that tell nothing, less 10 that told ln 2 each, over 10.
    assert informed(np.diag([5.0, 5.0])[::-1])[0] == close(-math.log(2))


def test_derivative_of_the_informed_metric_equals_differences(rng):
    informed = prior_informed(rng.uniform(0, 9, (4, 5)))
    assert_derivative_equals_differences(informed, rng.uniform(1, 3, (4, 5)))
