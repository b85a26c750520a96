"""Whether an answer is worth its six numbers, or the headers were right."""

from __future__ import annotations

import numpy as np
import pytest
from checks import shifted
from scenes import seen_twice

from mireg._engine.levels import Level
from mireg._engine.model_choice import header_or_answer
from mireg._engine.optimize import Fit
from mireg._prepare import Foreground

FOREGROUND = Foreground(np.zeros(3), 60.0, 1e6, np.zeros((1, 3)), np.ones(1))


@pytest.fixture
def level(rng) -> Level:
    """Return a level with 3000 samples in voxels of 1 mm."""
    return seen_twice(rng)


def fit(mm: float, nats: float) -> Fit:
    """Return a pose that is so far off, and explains so much of all 3000 samples."""
    return Fit(shifted(mm), 0.0, 1.0, nats / 3000)


# Half of log(3000) is 4.0 nats; six numbers cost 24.0.
@pytest.mark.parametrize(("nats", "stays"), [(23.9, True), (24.2, False), (-5, True)])
def test_six_numbers_must_earn_what_they_cost(nats, stays, level):
    header, answer = fit(0.0, 500.0), fit(0.05, 500.0 + nats)
    chosen = header_or_answer(level, header, answer, FOREGROUND)
    assert chosen is (header if stays else answer)


@pytest.mark.parametrize(("mm", "stays"), [(0.09, True), (0.11, False), (9.0, False)])
def test_only_a_small_fraction_of_a_voxel_must_earn_anything(mm, stays, level):
    header, answer = fit(0.0, 500.0), fit(mm, 501.0)
    chosen = header_or_answer(level, header, answer, FOREGROUND)
    assert chosen is (header if stays else answer)


def test_a_turn_counts_by_how_far_it_moves_the_foreground(level):
    # At 60 mm RMS from the centroid, a turn moves points by 49 mm per radian.
    header = fit(0.0, 500.0)
    for angle, stays in ((0.0019, True), (0.0022, False)):
        turn = np.eye(4)
        turn[:2, :2] = (
            [np.cos(angle), -np.sin(angle)],
            [np.sin(angle), np.cos(angle)],
        )
        answer = Fit(turn, 0.0, 1.0, 501.0 / 3000)
        chosen = header_or_answer(level, header, answer, FOREGROUND)
        assert chosen is (header if stays else answer)


def test_headers_that_do_not_overlap_are_not_chosen(level):
    header = Fit(np.eye(4), 0.0, 0.0, -np.inf)
    answer = fit(0.05, 1.0)
    assert header_or_answer(level, header, answer, FOREGROUND) is answer
