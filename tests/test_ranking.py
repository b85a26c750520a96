"""What poses are ranked by: the information of all samples, not of the lucky few."""

from __future__ import annotations

import numpy as np
from checks import quantised_volume
from scipy import ndimage

from mireg._engine.levels import make_level
from mireg._engine.metrics import mutual_information
from mireg._engine.optimize import evaluate, leading


def test_information_counts_as_far_as_the_overlap_reaches(rng):
    """A sixth of the samples fits a wrong pose without noise, all fit the right one."""
    scene = ndimage.gaussian_filter(rng.random((24, 24, 24)), 2)
    scene = np.float32((scene - scene.min()) / np.ptp(scene))
    points = rng.uniform(0, 23, (6000, 3))
    right, lucky = np.eye(4), np.eye(4)
    lucky[0, 3] = 19
    fits_lucky = points[:, 0] < 4
    at = points + np.where(fits_lucky[:, None], lucky[:3, 3], 0)
    values = ndimage.map_coordinates(scene, at.T, order=1)
    values += np.where(fits_lucky, 0, rng.normal(scale=0.06, size=len(points)))
    level = make_level(
        size_mm=1.0,
        points=points.T.astype(np.float32),
        origin=np.zeros(3),
        sampled_values=values.clip(0, 1).astype(np.float32),
        interpolated=quantised_volume(scene),
        interpolated_ijk_from_mm=np.eye(4),
        n_bins=16,
    )
    few, all_of_them = (
        evaluate(level, pose, mutual_information) for pose in (lucky, right)
    )
    assert few.overlap_fraction < 0.2
    assert few.score > 1.5 * all_of_them.score
    assert few.weighted_information < all_of_them.weighted_information / 1.5
    assert few.weighted_information == few.score * few.overlap_fraction
    assert leading({"few": [few], "all": [all_of_them]}) == "all"
