"""The script that measures motion correction."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from mireg._transform import RigidTransform

SCRIPTS = Path(__file__).parent.parent / "scripts"


@pytest.fixture
def script(monkeypatch):
    """Import the file, as a script finds its neighbours."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import series_study  # noqa: PLC0415

    yield series_study
    for name in ("series_study", "measuring"):
        sys.modules.pop(name, None)


def test_the_true_motion_has_no_error_wherever_the_reference_lies(script):
    truth = script.motion(16)
    somewhere = RigidTransform([0.1, 0, 0.2], [5, -3, 1]).matrix
    found = script.errors(truth @ somewhere, truth)
    assert found["max_mm"] < 1e-9
    assert found["turn_deg"] < 1e-5


def test_one_wrong_volume_shows(script):
    truth = script.motion(16)
    found = truth.copy()
    found[3, 0, 3] += 4
    errors = script.errors(found, truth)
    assert errors["max_mm"] == pytest.approx(4 * 15 / 16)
    assert errors["median_mm"] == pytest.approx(4 / 16)


def test_the_motion_jumps_and_has_a_spike(script):
    shifts = script.motion(40)[:, :3, 3]
    steps = np.linalg.norm(np.diff(shifts, axis=0), axis=1)
    assert sorted(np.argsort(steps)[-3:].tolist()) == [12, 13, 24]


@pytest.mark.parametrize("name", ["correlation", "correlation ratio"])
def test_slopes_of_other_metrics_are_those_of_differences(script, rng, name):
    metric = script.METRICS[name]
    histogram = rng.random((6, 5)) + 0.1
    score, slopes = metric(histogram)
    assert 0 < score < 1
    for cell in ((0, 0), (3, 2), (5, 4)):
        step = np.zeros((6, 5))
        step[cell] = 1e-5
        change = metric(histogram + step)[0] - metric(histogram - step)[0]
        assert slopes[cell] == pytest.approx(change / 2e-5, rel=1e-5, abs=1e-9)
