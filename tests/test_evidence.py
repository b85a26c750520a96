"""Headers as evidence: what they say in nats, and when they decide."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import integrate

from mireg import _parameters as parameters
from mireg._engine import evidence
from mireg._engine.evidence import chosen, header_nats
from mireg._engine.levels import levels_at, pyramid
from mireg._engine.metrics import METRIC, Metric
from mireg._engine.optimize import Channels, evaluate
from mireg._engine.pair import Pair
from mireg._prepare import prepare
from mireg._settings import Settings
from mireg._transform import RigidTransform
from mireg.phantom import phantom_pair


def finest(pair: Pair, metric: Metric) -> Channels:
    """Give the finest level of every channel, and how to compare there."""
    levels = levels_at(pair, pyramid(pair).finest, Settings())
    return {name: (level, metric) for name, level in levels.items()}


def test_the_prior_over_poses_is_a_density() -> None:
    """Over six coordinates it adds up to one: near the headers, and anywhere."""
    radius = 60.0
    lever = math.sqrt(2 / 3) * radius
    anywhere = 4 / 3 * np.pi * parameters.ANYWHERE_MM**3 * 8 * np.pi**2 * lever**3

    def shell(off: float) -> float:  # the area of a sphere in six dimensions
        near = math.exp(header_nats(off, radius)) - parameters.ANYWHERE_SHARE
        return near / anywhere * np.pi**3 * off**5

    shares = sum(share for share, _ in parameters.HEADER_ERRORS)
    total, _ = integrate.quad(shell, 0, 300, points=[2, 6, 60], limit=500)
    assert total == pytest.approx(shares, rel=1e-6)
    assert shares + parameters.ANYWHERE_SHARE == pytest.approx(1)


def test_headers_cost_a_pose_far_away_a_few_nats() -> None:
    nats = [header_nats(mm, 60.0) for mm in (0, 2, 5, 10, 30, 100, 300)]
    assert (np.diff(nats) <= 0).all()
    assert 15 < nats[0] - nats[-1] < 25


@pytest.mark.parametrize("samples", [1.0, 1e5])
def test_headers_decide_only_where_images_say_little(
    samples: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = phantom_pair(
        "T1",
        "T2",
        seed=4,
        fixed_voxel_size_mm=6,
        moving_voxel_size_mm=6,
        pose=RigidTransform([0, 0, 0.5], [40, 0, 0]),
    )
    pair, metric = Pair.of(prepare(known.fixed), prepare(known.moving)), METRIC["mi"]
    channels = finest(pair, metric)
    right = pair.engine_pose(known.moving_from_fixed.matrix)
    fits = {
        name: [evaluate(level, pose, metric) for pose in (right, np.eye(4))]
        for name, (level, _) in channels.items()
    }
    monkeypatch.setattr(evidence, "effective_samples", lambda *_: samples)
    foreground = pair.sampled.foreground
    found = chosen(channels, fits, np.eye(4), foreground)
    assert found.for_the_headers == (samples == 1)
    expected = np.eye(4) if samples == 1 else right
    np.testing.assert_array_equal(found.best.fit.pose, expected)
    np.testing.assert_array_equal(found.by_images.fit.pose, right)
    if samples == 1:
        assert found.apart_mm == pytest.approx(foreground.distance(right, np.eye(4)))


def test_of_one_optimum_the_channel_that_explains_most_is_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As in a search without doubt: else the answer would depend on the start."""
    known = phantom_pair(
        "T1", "T2", seed=4, fixed_voxel_size_mm=6, moving_voxel_size_mm=6
    )
    pair, metric = Pair.of(prepare(known.fixed), prepare(known.moving)), METRIC["mi"]
    channels = finest(pair, metric)
    right = pair.engine_pose(known.moving_from_fixed.matrix)
    fits = {
        name: [evaluate(level, right, metric)] for name, (level, _) in channels.items()
    }
    most = max(fits, key=lambda name: fits[name][0].weighted_information)
    few = {id(level): name != most for name, (level, _) in channels.items()}
    # As if noise were more even in the channels that explain less.
    monkeypatch.setattr(
        evidence, "effective_samples", lambda level, *_: 1e4 if few[id(level)] else 1e3
    )
    found = chosen(channels, fits, np.eye(4), pair.sampled.foreground)
    assert found.best.channel == most
    assert not found.for_the_headers


def test_an_image_of_many_details_counts_for_many_samples() -> None:
    known = phantom_pair(
        "T1", "T2", seed=4, fixed_voxel_size_mm=6, moving_voxel_size_mm=6
    )
    pair = Pair.of(prepare(known.fixed), prepare(known.moving))
    level = levels_at(pair.only("original"), pyramid(pair).finest, Settings())[
        "original"
    ]
    right = pair.engine_pose(known.moving_from_fixed.matrix)
    samples = evidence.effective_samples(level, right, METRIC["mi"])
    assert 100 < samples < level.n_samples
    away = np.eye(4)
    away[:3, 3] = 1000
    assert evidence.effective_samples(level, away, METRIC["mi"]) == 0
