"""Small scenes that several test files compare."""

from __future__ import annotations

import numpy as np
from checks import quantised_volume
from scipy import ndimage

from mireg._engine.levels import Level, make_level
from mireg._transform import RigidTransform

#: The pose at which `seen_twice` shows its scene.
TRUTH = RigidTransform([0.06, -0.04, 0.05], [0.8, -0.6, 0.4], [11, 10, 9])


def seen_twice(rng: np.random.Generator) -> Level:
    """Return a smooth scene seen twice, the other way round the second time."""
    scene = ndimage.gaussian_filter(rng.random((24, 22, 20)), 2)
    scene = (scene - scene.min()) / np.ptp(scene)
    points = rng.uniform([5, 5, 5], [18, 16, 14], (3000, 3))
    at = TRUTH.apply(points)
    values = ndimage.map_coordinates(scene, at.T, order=3)
    origin = np.array([9.0, 12, 8])  # not the centre of the samples
    return make_level(
        size_mm=1.0,
        points=(points - origin).T.astype(np.float32),
        origin=origin,
        sampled_values=(1 - values).clip(0, 1).astype(np.float32),
        interpolated=quantised_volume(scene.astype(np.float32)),
        interpolated_ijk_from_mm=np.eye(4),
        n_bins=16,
    )
