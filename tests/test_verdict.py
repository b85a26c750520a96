"""May an answer be trusted: what the signals come to, and what is said of it."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from checks import shifted

import mireg._engine.verdict as module
from mireg import _parameters as parameters
from mireg._engine.optimize import Fit
from mireg._engine.verdict import REASONS, Verdict, runner_up, usual_tolerance_mm
from mireg._files.records import to_json
from mireg._prepare import Foreground

#: Poses more than 12 mm apart put it elsewhere.
FOREGROUND = Foreground(np.zeros(3), 60.0, 1e6, np.zeros((1, 3)), np.ones(1))

#: A model that can be worked out by hand.
MODEL = {
    "right": {
        "intercept": math.log(9),
        "signals": {
            "error_voxels": {
                "at": [math.exp(-5), math.exp(-3), 1.0, math.exp(3)],
                "adds": [4, 0, -6, -12],
                "unknown": 0,
            },
            "runner_up": {"at": [0, 1], "adds": [1, -3], "unknown": 0},
            "wrong_pose_z": {"at": [0, 9], "adds": [-9, 0], "unknown": -5},
        },
    },
    "same_anatomy": {
        "intercept": 0.0,
        "signals": {"runner_up": {"at": [0, 1], "adds": [0, 1], "unknown": 0}},
    },
    "as_stored": {
        "intercept": 0.0,
        "signals": {"mirrored_z": {"at": [-9, 9], "adds": [-9, 9], "unknown": 0}},
    },
    "error": {
        "constant": math.log(2),
        "log_standard_error": 1.0,
        "log_voxel": 0.0,
        "spread": 0.5,
        "bent": 0.0,
    },
}


@pytest.fixture(autouse=True)
def by_hand(monkeypatch):
    """Judge by the model that can be worked out by hand."""
    monkeypatch.setattr(module, "_model", lambda: MODEL)


def fit(mm: float, explained: float) -> Fit:
    """Return a pose that is so far off, and what it explains."""
    return Fit(shifted(mm), 1.0, 1.0, explained)


def judged(error_mm=0.05, *, distance_mm=0.0, tolerance_mm=2.0, **signals) -> Verdict:
    """Judge an answer."""
    return module.verdict(
        {
            "error_voxels": math.exp(-3),
            "runner_up": 0.25,
            "wrong_pose_z": 9,
            **signals,
        },
        standard_error_mm=error_mm,
        voxel_mm=2.0,
        usual_mm=2.0,
        tolerance_mm=tolerance_mm,
        distance_mm=distance_mm,
    )


def test_a_typical_right_answer_has_the_odds_of_the_intercept():
    found = judged()
    assert found.probability == pytest.approx(0.9, abs=1e-3)
    assert (found.doubtful, found.reasons) == (False, ())
    assert found.summary == "90 % likely right within 2 mm"


def test_of_two_poses_that_explain_as_much_either_may_be_right():
    # Even odds, of a sum in which nothing else speaks against it.
    assert judged(runner_up=1.0).probability < 0.5
    assert judged(runner_up=1.0, error_voxels=1e-9).probability <= 0.5
    assert judged(runner_up=0.0).probability > judged(runner_up=0.9).probability


def test_odds_are_multiplied_by_what_each_signal_says():
    found = judged(runner_up=0.75)
    assert found.probability == pytest.approx(9 / (9 + math.exp(2)), abs=0.005)
    assert found.reasons == ("a pose elsewhere explains 75 % as much",)
    found = judged(runner_up=0.75, error_voxels=1.0)
    odds = 9 * math.exp(-2 - 6)
    assert found.probability == pytest.approx(odds / (1 + odds), abs=1e-3)
    assert found.doubtful
    # The most important comes first.
    assert found.reasons[0].startswith("noise alone moves it by 1 voxels")
    assert found.reasons[1].startswith("a pose elsewhere explains 75 %")
    assert found.warning.startswith("the answer is doubtful, 0.3 % likely right")


def test_a_signal_is_clipped_and_one_not_looked_for_says_nothing():
    assert judged(error_voxels=1e9).probability == pytest.approx(
        judged(error_voxels=math.exp(3)).probability
    )
    assert judged(runner_up=math.nan).probability == pytest.approx(0.9, abs=1e-3)
    found = judged(math.nan, error_voxels=math.inf)
    assert found.doubtful
    assert "too little overlaps" in found.reasons[0]
    assert math.isnan(found.error_mm)
    assert found.error_summary == "unknown"


def test_a_signal_that_could_not_be_measured_adds_what_that_means():
    found = judged(wrong_pose_z=math.nan)
    odds = 9 * math.exp(-5)
    assert found.probability == pytest.approx(odds / (1 + odds), abs=1e-3)
    assert found.reasons == ("too little overlaps to tell how far noise moves it",)


def test_what_cannot_be_told_is_said_once(monkeypatch):
    blind = {"at": [0, 1], "adds": [0, 0], "unknown": -4}
    part = {"intercept": 1.0, "signals": {"overlap": blind, "information": blind}}
    monkeypatch.setattr(module, "_model", lambda: {**MODEL, "right": part})
    assert len(judged().reasons) == 1


def test_the_expected_error_is_lognormal():
    found = judged(0.05)
    assert found.error_mm == pytest.approx(0.1)
    errors = 0.1 * np.exp(0.5 * np.random.default_rng(0).normal(size=100_000))
    assert found.error_bound_mm == pytest.approx(np.quantile(errors, 0.9), rel=0.01)


def test_a_smaller_tolerance_is_less_likely_met():
    errors = 0.1 * np.exp(0.5 * np.random.default_rng(0).normal(size=100_000))
    found = judged(tolerance_mm=0.15)
    assert found.tolerance_mm == 0.15
    within = float((errors < 0.15).mean())
    assert found.probability == pytest.approx(0.9 * within, abs=0.01)
    # Nor is a wide tolerance met more often than the optimum is the right one.
    assert judged(tolerance_mm=50.0).probability == pytest.approx(0.9, abs=1e-3)


def test_scans_are_bent_by_more_than_noise(monkeypatch):
    bent = {**MODEL, "error": {**MODEL["error"], "bent": 0.15}}
    monkeypatch.setattr(module, "_model", lambda: bent)
    assert judged(0.05).error_mm == pytest.approx(math.hypot(0.1, 0.15 * 2.0))


def test_few_blocks_tell_little_of_where_the_anatomy_fits():
    def share(told, fit):
        return module.residual_share({"residual_told": told, "residual_fit": fit})

    assert share(0.0, math.nan) == 0.5
    assert share(0.03, 1.0) == pytest.approx(0.75)
    assert share(1.0, 1.0) > 0.98
    assert math.isnan(share(math.nan, math.nan))


def test_a_pose_off_the_optimum_is_right_as_far_as_the_tolerance_goes():
    assert judged(distance_mm=1.5).probability == pytest.approx(0.9, abs=0.01)
    found = judged(distance_mm=2.5)
    assert found.probability == 0
    assert found.doubtful
    assert found.error_mm == pytest.approx(math.hypot(2.5, 0.1))
    assert judged(distance_mm=2.5, tolerance_mm=4.0).probability > 0.89


@pytest.mark.parametrize(
    ("z", "word"), [(6, "as stored"), (-6, "mirrored"), (0.5, "cannot be told")]
)
def test_handedness_is_said_where_it_can_be_told(z, word):
    found = judged(mirrored_z=z)
    assert found.handedness == word
    assert found.mirrored == pytest.approx(1 / (1 + math.exp(z)))
    # Mirrored images are rare: what cannot be told costs little.
    assert found.doubtful == (word == "mirrored")
    # Of a pose that explains no more than others do nothing is said of left and right.
    wrong = judged(mirrored_z=z, wrong_pose_share=0.9)
    assert wrong.handedness == ("cannot be told" if word == "mirrored" else word)


def test_a_tolerance_is_a_voxel_but_two_mm_and_less_for_a_mouse():
    mouse = replace(FOREGROUND, rms_radius=5.0)
    assert usual_tolerance_mm(3.0, FOREGROUND) == 3.0
    assert usual_tolerance_mm(1.0, FOREGROUND) == 2.0
    assert usual_tolerance_mm(0.2, mouse) == pytest.approx(0.5)


def test_a_verdict_comes_back_from_json():
    found = judged(math.nan, error_voxels=math.inf, mirrored_z=-2)
    record = found.to_dict()
    again = Verdict.from_dict(json.loads(to_json(record)))
    assert again.to_dict() == record
    assert again.probability == found.probability
    assert math.isnan(again.error_mm)
    assert again.handedness == found.handedness


def test_the_model_of_the_package_says_where_it_comes_from():
    path = Path(module.__file__).with_suffix(".json")
    model = json.loads(path.read_text(encoding="utf-8"))
    assert set(model["right"]["signals"]) <= set(REASONS)
    for part in ("right", "same_anatomy", "as_stored"):
        for name, term in model[part]["signals"].items():
            assert np.all(np.diff(term["at"]) > 0), name
            rise = np.diff(term["adds"])
            assert np.all(rise >= 0) or np.all(rise <= 0), name
            assert term["unknown"] <= 0, name
    assert model["error"]["spread"] > 0
    assert 0 < parameters.DOUBTFUL_BELOW < 1
    assert "trained" in model


def test_where_nothing_can_be_measured_nothing_is_believed(monkeypatch):
    path = Path(module.__file__).with_suffix(".json")
    model = json.loads(path.read_text(encoding="utf-8"))
    monkeypatch.setattr(module, "_model", lambda: model)
    found = module.verdict(
        {"error_voxels": math.inf, "overlap": 0.01, "residual_told": 0.0},
        standard_error_mm=math.nan,
        voxel_mm=2.0,
        usual_mm=2.0,
        tolerance_mm=2.0,
    )
    assert found.probability < 0.2
    assert found.reasons


# --- the best pose elsewhere ----------------------------------------------------------


def share(*fits: Fit) -> float:
    """Say how much the best pose elsewhere explains."""
    return runner_up(fits, FOREGROUND)[0]


def test_a_pose_nearby_is_no_runner_up():
    assert share(fit(0, 1.0)) == 0
    assert share(fit(0, 1.0), fit(3, 0.99), fit(11.9, 0.98)) == 0


def test_the_runner_up_is_the_best_pose_elsewhere():
    fits = fit(0, 0.5), fit(3, 0.49), fit(12.1, 0.3), fit(80, 0.2)
    assert runner_up(fits, FOREGROUND) == pytest.approx((0.6, 12.1))


@pytest.mark.parametrize("explained", [0.0, -0.1, -math.inf])
def test_what_explains_nothing_is_no_runner_up(explained):
    assert share(fit(0, 1.0), fit(40, explained)) == 0
    # Nor is there one where the answer itself explains nothing.
    assert share(fit(0, -0.05), fit(40, min(explained, -0.1))) == 0


def test_a_number_of_hundreds_is_written_as_one():
    assert judged(0.1, distance_mm=100.0).error_summary.startswith("100 mm; 9 of 10")
    assert "1e+" not in judged(30.0, distance_mm=12345.0).error_summary
    assert "within 150 mm" in judged(tolerance_mm=150.0).summary


def test_nothing_is_said_of_a_mirror_image_where_left_is_left(monkeypatch):
    against = {"at": [-9, 9], "adds": [-9, 0], "unknown": 0.0}
    part = {"intercept": 0.0, "signals": {"mirrored_z": against}}
    monkeypatch.setattr(module, "_model", lambda: {**MODEL, "right": part})
    sure, unsure = judged(mirrored_z=4.0), judged(mirrored_z=0.5)
    assert sure.handedness == "as stored"
    assert sure.reasons == ()
    assert unsure.handedness == "cannot be told"
    assert unsure.reasons == (REASONS["mirrored_z"],)


def test_a_share_below_nothing_is_said_as_nothing(monkeypatch):
    against = {"at": [0, 1], "adds": [-9, 0], "unknown": 0.0}
    part = {"intercept": 0.0, "signals": {"cost_voxel": against}}
    monkeypatch.setattr(module, "_model", lambda: {**MODEL, "right": part})
    (reason,) = judged(cost_voxel=-0.0002).reasons
    assert reason == "a move by a voxel costs only 0.0 % of the information"
