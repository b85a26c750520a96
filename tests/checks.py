"""Checks that several test files share."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mireg.transform import RigidTransform

#: Corners of a box the size of a head, RAS+ mm.
HEAD_BOX = (np.indices((2, 2, 2)).reshape(3, 8).T - 0.5) * [150.0, 180.0, 150.0]


def pose_error_mm(
    found: npt.ArrayLike, truth: npt.ArrayLike, points: npt.ArrayLike = HEAD_BOX
) -> float:
    """Largest distance in mm between where two rigid matrices put `points`."""
    a, b = RigidTransform.from_matrix(found), RigidTransform.from_matrix(truth)
    return a.max_displacement(points, b)


def assert_close_pose(found: npt.ArrayLike, truth: npt.ArrayLike, *, mm: float) -> None:
    """Fail if two rigid matrices differ by more than `mm` at a head's corners."""
    error = pose_error_mm(found, truth)
    assert error <= mm, f"poses differ by {error:.3g} mm, allowed are {mm:g} mm"
