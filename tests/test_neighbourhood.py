"""Poses next door: shifts by which an image repeats, turns, and what noise leaves."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from mireg._engine.neighbourhood import periods, turns, twins, within_error
from mireg._engine.uncertainty import Uncertainty
from mireg._image import Image
from mireg._prepare import PreparedImage, prepare


def ladder(period_mm: float, rungs: int = 6) -> PreparedImage:
    """Prepare a bar along z, in an oblique grid, with rungs all alike."""
    x, y, z = np.indices((24, 20, 60)) * 1.5
    bar = 40.0 * ((np.abs(x - 17) < 11) & (np.abs(y - 14) < 9))
    middle = 45 + period_mm * (np.arange(rungs) - (rungs - 1) / 2)
    rung = np.exp(-((z[..., None] - middle) ** 2) / 8).sum(axis=-1)
    noise = np.random.default_rng(0).normal(0, 1, x.shape)
    mm_from_ijk = np.diag([1.5, 1.5, 1.5, 1])
    mm_from_ijk[:3, :3] = Rotation.from_rotvec([0.5, 0, 0]).as_matrix() * 1.5
    return prepare(Image(bar * (1 + 2 * rung) + noise, mm_from_ijk), threads=1)


def test_the_period_of_an_image_is_found_along_its_axis() -> None:
    ladder_12 = ladder(12.0)
    shifts = periods(ladder_12)
    axis = Rotation.from_rotvec([0.5, 0, 0]).apply([0, 0, 1])
    assert len(shifts) >= 2
    np.testing.assert_allclose(shifts[0], -shifts[1], atol=1e-9)
    along = np.abs(shifts @ axis)
    assert min(abs(along - 12)) < 2.5
    np.testing.assert_allclose(np.linalg.norm(shifts, axis=1), along, atol=2.5)


def test_what_repeats_nothing_has_no_period() -> None:
    x, y, z = np.indices((24, 24, 24))
    ball = np.exp(-((x - 11) ** 2 + (y - 12) ** 2 + (z - 12) ** 2) / 40.0)
    assert len(periods(prepare(Image(ball, np.eye(4)), threads=1))) == 0


def test_twins_are_shifted_by_the_periods_of_both_and_turned_over() -> None:
    one, other = ladder(12.0), ladder(18.0, 4)
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_rotvec([0.2, 0.7, -0.4]).as_matrix()
    pose[:3, 3] = 5, -6, 7
    found = twins(one, other, pose)
    n, m = len(periods(one)), len(periods(other))
    assert len(found) == n + m + 3
    # A shift of the interpolated image happens after the pose, of the other before.
    moved = found[:, :3, 3] - pose[:3, 3]
    np.testing.assert_allclose(moved[:n], periods(one) @ pose[:3, :3].T, atol=1e-9)
    np.testing.assert_allclose(moved[n : n + m], periods(other), atol=1e-9)
    for twin in found[n + m :]:
        turned = np.linalg.inv(pose) @ twin
        angle = Rotation.from_matrix(turned[:3, :3]).magnitude()
        assert angle == pytest.approx(np.pi)
        centroid = one.foreground.centroid
        np.testing.assert_allclose(
            turned[:3, :3] @ centroid + turned[:3, 3], centroid, atol=1e-6
        )


def test_turns_go_both_ways_about_the_principal_axes() -> None:
    foreground = ladder(12.0).foreground
    motions = turns(foreground, 0.1)
    axis = Rotation.from_rotvec([0.5, 0, 0]).apply([0, 0, 1])
    vectors = Rotation.from_matrix(motions[:, :3, :3]).as_rotvec()
    np.testing.assert_allclose(vectors[:3], -vectors[3:], atol=1e-9)
    assert np.abs(vectors @ axis).max() == pytest.approx(0.1, abs=1e-3)


def test_motions_within_the_error_go_along_its_longest_axes() -> None:
    # Uncertain by 3 mm along x, 2 degrees about y (4 mm at the radius), else little.
    variances = np.array([0.0, np.deg2rad(2.0) ** 2, 0, 9.0, 1e-4, 4e-4])
    found = Uncertainty(5.0, np.diag(variances), np.array([10.0, 20, 30]))
    motions = within_error(found, radius=120.0)
    vectors = Rotation.from_matrix(motions[:, :3, :3]).as_rotvec()
    np.testing.assert_allclose(np.abs(vectors[0]), [0, np.deg2rad(4), 0], atol=1e-9)
    there = motions[:, :3, :3] @ found.centre + motions[:, :3, 3] - found.centre
    np.testing.assert_allclose(there[0], 0, atol=1e-9)
    np.testing.assert_allclose(np.abs(there[1]), [6, 0, 0], atol=1e-9)
    np.testing.assert_allclose(there[:3], -there[3:], atol=1e-9)
