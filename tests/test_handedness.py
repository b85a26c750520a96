"""Left and right: which of an image and its mirror image explains the other one."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from mireg import _parameters as parameters
from mireg._engine.handedness import Handedness, handedness, mid_planes, mirrored
from mireg._engine.levels import levels_at, pyramid, subsampled
from mireg._engine.metrics import normalised_mutual_information
from mireg._engine.optimize import maximise
from mireg._engine.pair import Pair
from mireg._image import Image
from mireg._prepare import prepare
from mireg._settings import Settings
from mireg._transform import RigidTransform

SHAPE = (40, 44, 36)
SETTINGS = Settings(bins=24, samples=40_000)


def body(rng, asymmetry: float) -> np.ndarray:
    """Return an egg with texture: its mirror image but for a share of the texture."""
    x, y, z = np.indices(SHAPE) - (np.array(SHAPE).reshape(3, 1, 1, 1) - 1) / 2
    inside = (x / 15) ** 2 + (y / 18) ** 2 + (z / 13) ** 2 < 1
    even, own = (
        ndimage.gaussian_filter(rng.standard_normal(SHAPE), 1.5) for _ in range(2)
    )
    even = even + even[::-1]
    texture = even / even.std() + asymmetry * own / own.std()
    return np.where(inside, 3 + 0.5 * texture, 0).astype(np.float32)


def pair_of(rng, asymmetry: float, *, flipped: bool):
    """Return a pair at its right pose: a body, and its negative with noise."""
    one = body(rng, asymmetry)
    other = np.where(one > 0, 6 - one, 0) + 0.1 * rng.standard_normal(SHAPE)
    if flipped:
        other = other[::-1]
    grid = np.eye(4)
    grid[:3, 3] = -(np.array(SHAPE) - 1) / 2
    pair = Pair.of(
        prepare(Image(one, grid)),
        prepare(Image(other.astype(np.float32), grid)),
        channels=["original"],
    )
    resolutions = pyramid(pair)
    (coarse,) = levels_at(pair, resolutions.coarse, SETTINGS).values()
    (level,) = levels_at(pair, resolutions.finest, SETTINGS).values()
    level = subsampled(level, SETTINGS)
    pose = maximise(level, np.eye(4), normalised_mutual_information).pose
    return pair, coarse, level, pose


def found_for(rng, asymmetry, *, flipped) -> Handedness:
    pair, coarse, level, pose = pair_of(rng, asymmetry, flipped=flipped)
    return handedness(coarse, level, pose, "nmi", pair.sampled)


def test_the_image_as_stored_is_told(rng):
    found = found_for(rng, 0.7, flipped=False)
    assert found.judgement == "as stored"
    assert found.z > 5
    assert found.mirrored_share < 0.8
    assert found.nats_per_sample > 0.05


def test_a_mirrored_image_is_told_and_where_it_lies(rng):
    found = found_for(rng, 0.7, flipped=True)
    assert found.judgement == "mirrored"
    assert found.z < -5
    assert found.mirrored_share > 1.2
    assert found.nats_per_sample < -0.05
    # The flip that was made, up to what noise does.
    np.testing.assert_allclose(found.pose, np.diag([-1, 1, 1, 1]), atol=0.05)


@pytest.mark.parametrize("flipped", [False, True])
def test_a_symmetric_body_cannot_be_told(flipped, rng):
    found = found_for(rng, 0.0, flipped=flipped)
    assert found.judgement == "cannot be told"
    assert found.mirrored_share == pytest.approx(1, abs=0.1)


def test_the_mid_plane_of_a_turned_body_is_found(rng):
    motion = RigidTransform([0.15, 0.1, 0.2], [3, -2, 1])
    grid = np.eye(4)
    grid[:3, 3] = -(np.array(SHAPE) - 1) / 2
    turned = Image(body(rng, 0.3), motion.matrix @ grid)
    best, *_ = mid_planes(prepare(turned))
    expected = motion.matrix @ np.diag([-1.0, 1, 1, 1]) @ np.linalg.inv(motion.matrix)
    corners = np.indices((2, 2, 2)).reshape(3, 8).T * 30 - 15.0
    off = (best - expected)[:3, :3] @ corners.T + (best - expected)[:3, 3:]
    assert np.linalg.norm(off, axis=0).max() < 1.5
    assert np.linalg.det(best[:3, :3]) == pytest.approx(-1)


def test_mirrored_samples_are_where_the_reflection_puts_them(rng):
    _, coarse, *_ = pair_of(rng, 0.5, flipped=False)
    normal = np.array([0.6, 0.0, 0.8])
    mirror = np.eye(4)
    mirror[:3, :3] -= 2 * np.outer(normal, normal)
    mirror[:3, 3] = 2 * normal * 5.0
    there = mirrored(coarse, mirror)
    before = coarse.points.T + coarse.origin
    expected = before - 2 * ((before @ normal) - 5.0)[:, None] * normal
    np.testing.assert_allclose(there.points.T + there.origin, expected, atol=1e-4)


def test_handedness_does_not_depend_on_the_number_of_threads(rng):
    pair, coarse, level, pose = pair_of(rng, 0.5, flipped=False)
    one, three = (
        handedness(coarse, level, pose, "nmi", pair.sampled, threads)
        for threads in (1, 3)
    )
    assert one.z == three.z
    assert one.mirrored_share == three.mirrored_share


@pytest.mark.parametrize(
    ("share", "z", "expected"),
    [
        (0.5, 20.0, "as stored"),
        (0.5, 2.0, "cannot be told"),
        (0.99, 20.0, "cannot be told"),
        (2.0, -20.0, "mirrored"),
        (2.0, -2.0, "cannot be told"),
        (1.01, -20.0, "cannot be told"),
        (np.nan, np.nan, "cannot be told"),
    ],
)
def test_the_rule(share, z, expected, monkeypatch):
    monkeypatch.setattr(parameters, "HANDEDNESS_Z", 3.0)
    monkeypatch.setattr(parameters, "HANDEDNESS_SHARE", 0.9)
    assert Handedness(share, 0.1, z, np.eye(4)).judgement == expected


def test_without_overlap_nothing_is_told(rng):
    pair, coarse, level, pose = pair_of(rng, 0.5, flipped=False)
    away = RigidTransform([0, 0, 0], [500, 0, 0]).matrix
    assert np.isnan(handedness(coarse, level, away @ pose, "nmi", pair.sampled).z)
