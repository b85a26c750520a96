"""Checks that several test files share."""

from __future__ import annotations

from concurrent.futures import Future
from types import SimpleNamespace

import numpy as np
import numpy.typing as npt

from mireg._engine.levels import QuantisedVolume, quantised
from mireg._prior import Prior
from mireg._transform import RigidTransform

#: Corners of a box the size of a head, RAS+ mm.
HEAD_BOX = (np.indices((2, 2, 2)).reshape(3, 8).T - 0.5) * [150.0, 180.0, 150.0]


def pose_error_mm(
    found: npt.ArrayLike, truth: npt.ArrayLike, points: npt.ArrayLike = HEAD_BOX
) -> float:
    """Largest distance in mm between where two rigid matrices put `points`."""
    a, b = RigidTransform.from_matrix(found), RigidTransform.from_matrix(truth)
    return a.max_displacement(points, b)


def answer(moving_from_fixed: npt.ArrayLike, score: float = 1.0) -> SimpleNamespace:
    """Stand in for what a registration gives the scripts."""
    return SimpleNamespace(
        moving_from_fixed=moving_from_fixed,
        score=score,
        overlap_fraction=1.0,
        runner_up=0.0,
        standard_error_mm=0.1,
        doubtful=False,
        seconds={},
    )


def assert_close_pose(found: npt.ArrayLike, truth: npt.ArrayLike, *, mm: float) -> None:
    """Fail if two rigid matrices differ by more than `mm` at a head's corners."""
    error = pose_error_mm(found, truth)
    assert error <= mm, f"poses differ by {error:.3g} mm, allowed are {mm:g} mm"


def quantised_volume(values: npt.NDArray[np.float32]) -> QuantisedVolume:
    """Quantise normalised intensities as `mireg._engine.levels.levels` does."""
    nx, ny, nz = values.shape
    return quantised((nx, ny, nz), lambda planes: values[planes])


def transposed(prior: Prior) -> Prior:
    """Return what a prior says of the two contrasts the other way round."""
    exchanged = {
        "original": "original",
        "fixed_corrected": "moving_corrected",
        "moving_corrected": "fixed_corrected",
    }
    joints = {to: prior.joints[name].T for name, to in exchanged.items()}
    return Prior(joints, prior.pairs)


#: Ways in which a grid can lie in the world: names to `mm_from_ijk`, shape (4, 4).
GRIDS = {
    "straight": np.diag([1.5, 1.5, 1.5, 1.0]),
    "flipped": np.array(
        [[-1.5, 0, 0, 40], [0, 0, 1.2, -5], [0, 2.0, 0, 9], [0, 0, 0, 1]]
    ),
    "oblique": RigidTransform([0.4, -0.3, 0.6], [30, -20, 10]).matrix
    @ np.diag([1.2, 1.5, 2.0, 1.0]),
    # A gantry tilt of 13.5 degrees.
    "sheared": np.array(
        [
            [-1.4, 0, 0, 3],
            [0, 1.4, 2.0 * np.tan(np.deg2rad(13.5)), -60],
            [0, 0, 2.0, 7],
            [0, 0, 0, 1],
        ]
    ),
}

#: A pose, and the grids of two small images.
TRUTH = RigidTransform([0.1, -0.2, 0.3], [4.0, -3.0, 2.0]).matrix
FIXED = np.diag([2.0, 2, 2, 1])
MOVING = np.array([[2.5, 0, 0, 7], [0, 3, 0, -4], [0, 0, 3, 1], [0, 0, 0, 1.0]])


def ball(shape: tuple[int, int, int] = (16, 15, 14)) -> npt.NDArray[np.float32]:
    """Return a bright ball of radius 4 voxels in the middle of a box."""
    off = np.indices(shape) - (np.array(shape).reshape(3, 1, 1, 1) - 1) / 2
    return ((off**2).sum(axis=0) < 16).astype(np.float32)


def shifted(mm: float) -> npt.NDArray[np.float64]:
    """Return the matrix that moves points to the right."""
    matrix = np.eye(4)
    matrix[0, 3] = mm
    return matrix


class Here:
    """A pool of a cohort that does the work at once, in this process."""

    def room(self):
        """Take one pair."""
        return 1, float("inf")

    def submit(self, work, task):
        """Do it."""
        future = Future()
        future.set_result(work(task))
        return future

    def close(self):
        """Leave nothing."""
