"""May an answer be trusted: what other poses, noise and contrast say of it."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
from checks import shifted
from scenes import scene_and_negative

from mireg._engine.levels import Level
from mireg._engine.optimize import Fit
from mireg._engine.verdict import verdict
from mireg._prepare import Foreground

#: Poses more than 12 mm apart put it elsewhere.
FOREGROUND = Foreground(np.zeros(3), 60.0, 1e6, np.zeros((1, 3)), np.ones(1))

CLEAR = [SimpleNamespace(doubt=None)] * 2


@pytest.fixture
def level(rng) -> Level:
    """Return a level with voxels of 1 mm."""
    return scene_and_negative(rng)


def fit(mm: float, explained: float) -> Fit:
    """Return a pose that is so far off, and what it explains."""
    return Fit(shifted(mm), 1.0, 1.0, explained)


def judged(level, *fits, error_mm=0.1, contrasts=CLEAR):
    """Judge an answer."""
    return verdict(fits, FOREGROUND, error_mm, level, contrasts)


def test_an_answer_alone_is_trusted(level):
    found = judged(level, fit(0, 1.0))
    assert (found.runner_up, found.doubtful, found.notes) == (0.0, False, ())


def test_a_pose_nearby_is_no_runner_up(level):
    found = judged(level, fit(0, 1.0), fit(3, 0.99), fit(11.9, 0.98))
    assert (found.runner_up, found.doubtful, found.notes) == (0.0, False, ())


def test_the_runner_up_is_the_best_pose_elsewhere(level):
    fits = fit(0, 0.5), fit(3, 0.49), fit(12.1, 0.3), fit(80, 0.2)
    found = judged(level, *fits)
    assert found.runner_up == pytest.approx(0.6)
    assert not found.doubtful


def test_a_runner_up_that_explains_nearly_as_much_is_a_doubt(level):
    found = judged(level, fit(0, 0.5), fit(3, 0.49), fit(40, 0.47), fit(80, 0.46))
    assert found.runner_up == pytest.approx(0.94)
    assert found.doubtful
    (note,) = found.notes
    assert note.startswith("a pose 40 mm away explains 94 % as much")
    assert not judged(level, fit(0, 0.5), fit(40, 0.44)).doubtful


@pytest.mark.parametrize("explained", [0.0, -0.1, -math.inf])
def test_what_explains_nothing_is_no_runner_up(explained, level):
    found = judged(level, fit(0, 1.0), fit(40, explained))
    assert (found.runner_up, found.doubtful) == (0.0, False)
    # Nor is there one where the answer itself explains nothing.
    found = judged(level, fit(0, -0.05), fit(40, min(explained, -0.1)))
    assert (found.runner_up, found.doubtful) == (0.0, False)


def test_noise_of_half_a_voxel_is_a_doubt(level):
    assert not judged(level, fit(0, 1.0), error_mm=0.49).doubtful
    found = judged(level, fit(0, 1.0), error_mm=0.51)
    assert found.doubtful
    (note,) = found.notes
    assert "the error expected from noise is 0.51 mm" in note


def test_an_error_that_cannot_be_told_is_a_doubt(level):
    found = judged(level, fit(0, 1.0), error_mm=math.nan)
    assert found.doubtful
    assert "too little overlaps" in found.notes[0]


@pytest.mark.parametrize("role", [0, 1])
def test_an_image_with_too_little_contrast_is_named(role, level):
    contrasts = list(CLEAR)
    contrasts[role] = SimpleNamespace(doubt="has too little contrast")
    found = judged(level, fit(0, 1.0), contrasts=contrasts)
    name = ("fixed", "moving")[role]
    assert found.notes == (f"the {name} image has too little contrast",)
    assert not found.doubtful
