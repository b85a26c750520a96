"""Six numbers for the poses near one pose, and the derivative by them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .levels import Level

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class PoseParameters:
    """Six numbers for the poses near one pose, all of them lengths.

    The rotation vector about the centre of the samples times their RMS radius, then the
    translation, both in voxels of the level: a step of one moves the samples by about
    one voxel. The motion comes before the pose: it moves the sampled image.

    Attributes
    ----------
    interpolated_from_centre : (4, 4) ndarray
        The pose, from RAS+ mm relative to the centre of the samples.
    centre_from_sampled : (4, 4) ndarray
        Translation to the centre of the samples.
    ijk_from_centre : (3, 3) ndarray
        Linear part of the map from there to voxels of the interpolated image.
    centre : (3,) ndarray
        Centre of the samples relative to the origin of the level, mm.
    unit : (6,) ndarray
        Size of one step of each number, rad or mm.
    """

    interpolated_from_centre: FloatArray
    centre_from_sampled: FloatArray
    ijk_from_centre: FloatArray
    centre: FloatArray
    unit: FloatArray

    @classmethod
    def about(cls, level: Level, pose: FloatArray) -> PoseParameters:
        """Make the parameters of which six zeros are this pose."""
        sampled_from_centre, centre_from_sampled = np.eye(4), np.eye(4)
        sampled_from_centre[:3, 3] = level.origin + level.centre
        centre_from_sampled[:3, 3] = -sampled_from_centre[:3, 3]
        interpolated_from_centre = pose @ sampled_from_centre
        ijk_from_centre = level.interpolated_ijk_from_mm @ interpolated_from_centre
        return cls(
            interpolated_from_centre,
            centre_from_sampled,
            ijk_from_centre[:3, :3],
            level.centre,
            np.repeat([level.size_mm / level.rms_radius, level.size_mm], 3),
        )

    def pose(self, numbers: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Pose (4, 4), and the derivative (3, 3, 3) of its rotation."""
        vector, translation = (numbers * self.unit).reshape(2, 3)
        motion = np.eye(4)
        motion[:3, :3], d_rotation = rotation_and_derivative(vector)
        motion[:3, 3] = translation
        pose = self.interpolated_from_centre @ motion @ self.centre_from_sampled
        return pose, d_rotation

    def gradient(self, by_matrix: FloatArray, d_rotation: FloatArray) -> FloatArray:
        """Turn a derivative by `Level.ijk_from_points` into one by the six numbers."""
        by_motion = self.ijk_from_centre.T @ by_matrix
        by_rotation = by_motion[:, :3] - by_motion[:, 3:] * self.centre
        by_vector = d_rotation.reshape(3, 9) @ by_rotation.ravel()
        return np.concatenate([by_vector, by_motion[:, 3]]) * self.unit


def rotation_and_derivative(vector: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Rotation matrix of a rotation vector, and its derivative.

    Parameters
    ----------
    vector : (3,) array_like
        Axis of rotation times its angle in radians.

    Returns
    -------
    rotation : (3, 3) ndarray
        The rotation matrix R.
    derivative : (3, 3, 3) ndarray
        ``derivative[k]`` is dR / d vector[k], exact also at zero [1]_.

    References
    ----------
    .. [1] Gallego and Yezzi, "A compact formula for the derivative of a 3-D
       rotation in exponential coordinates", J Math Imaging Vis 2015.

    Examples
    --------
    >>> rotation, derivative = rotation_and_derivative([0, 0, 0])
    >>> derivative[2]
    array([[ 0., -1.,  0.],
           [ 1.,  0.,  0.],
           [ 0.,  0.,  0.]])
    """
    x, y, z = np.asarray(vector, dtype=np.float64).tolist()
    squared = x * x + y * y + z * z
    angle = math.sqrt(squared)
    if squared < 1e-20:
        a, b, c = 1.0, 1 / 2, 1 / 6
    else:
        a = math.sin(angle) / angle
        b = 2 * math.sin(angle / 2) ** 2 / squared  # 1 - cos(angle), exact if small
        c = (1 - a) / squared
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    powers = np.concatenate([_UNIT, cross, cross @ cross]).reshape(3, 9)
    # As the vector changes by its k-th unit vector, the rotation turns about axes[k].
    rotation = (np.array([1, a, b]) @ powers).reshape(3, 3)
    axes = (np.array([1, b, c]) @ powers).reshape(3, 3).T
    return rotation, (axes @ _CROSS.reshape(3, 9)).reshape(3, 3, 3) @ rotation


_UNIT = np.eye(3)

#: _CROSS[k] @ x is the cross product of the k-th unit vector with x.
_CROSS = np.zeros((3, 3, 3))
_CROSS[0, 2, 1] = _CROSS[1, 0, 2] = _CROSS[2, 1, 0] = 1
_CROSS[0, 1, 2] = _CROSS[1, 2, 0] = _CROSS[2, 0, 1] = -1
