"""Rigid transforms: six numbers, one matrix."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation

from ._errors import InputError

FloatArray = npt.NDArray[np.float64]

#: Largest departure of R @ R.T from the identity that is read as rounding.
_ORTHONORMAL_TOLERANCE = 1e-4


def _zeros() -> FloatArray:
    return np.zeros(3)


@dataclass(frozen=True, eq=False)
class RigidTransform:
    """A rotation about a centre, then a translation, in RAS+ mm.

    A point ``x`` goes to ``R @ (x - centre) + centre + translation``. The same
    motion can be written about any centre; only `translation` changes.

    Parameters
    ----------
    rotation_vector : (3,) array_like
        Axis of rotation times its angle in radians.
    translation : (3,) array_like
        How far the centre itself moves, in mm.
    centre : (3,) array_like, optional
        The point about which to rotate, in mm (default: the origin).

    Examples
    --------
    A quarter turn about the third axis, at the point (10, 0, 0):

    >>> import numpy as np
    >>> turn = RigidTransform([0, 0, np.pi / 2], [0, 0, 5], centre=[10, 0, 0])
    >>> turn.apply([11, 0, 0]).round(6)
    array([10., 1., 5.])
    >>> (turn.inverse() @ turn).max_displacement([[0, 0, 0], [90, 0, 0]]) < 1e-12
    True
    """

    rotation_vector: FloatArray
    translation: FloatArray
    centre: FloatArray = field(default_factory=_zeros)

    def __post_init__(self) -> None:
        """Check the nine numbers once."""
        for name in ("rotation_vector", "translation", "centre"):
            value = np.array(getattr(self, name), dtype=np.float64)
            if value.shape != (3,) or not np.isfinite(value).all():
                raise InputError(f"{name} must be three finite numbers, got {value}")
            object.__setattr__(self, name, value)

    @classmethod
    def identity(cls) -> RigidTransform:
        """Return the transform that moves nothing."""
        return cls(_zeros(), _zeros())

    @classmethod
    def from_matrix(
        cls, matrix: npt.ArrayLike, centre: npt.ArrayLike = (0.0, 0.0, 0.0)
    ) -> RigidTransform:
        """Read a rigid (4, 4) matrix (RAS+ mm to RAS+ mm).

        Parameters
        ----------
        matrix : (4, 4) array_like
            Proper rotation and translation; single-precision rounding of the
            rotation is mended.
        centre : (3,) array_like, optional
            The point, in mm, about which the result states its rotation.

        Raises
        ------
        InputError
            If the matrix scales, shears, reflects, or is not finite.
        """
        m = np.array(matrix, dtype=np.float64)
        if m.shape != (4, 4) or not np.isfinite(m).all():
            raise InputError("a transform must be a finite matrix of shape (4, 4)")
        if not np.allclose(m[3], [0, 0, 0, 1], rtol=0, atol=1e-9):
            raise InputError(f"the transform's last row is {m[3]}, not 0 0 0 1")
        rotation = m[:3, :3]
        off = np.abs(rotation @ rotation.T - np.eye(3)).max()
        if off > _ORTHONORMAL_TOLERANCE or np.linalg.det(rotation) < 0:
            raise InputError(
                "the transform is not rigid: it scales, shears or reflects "
                f"(R R' differs from the identity by {off:.2g}, "
                f"determinant {np.linalg.det(rotation):.4g})"
            )
        c = np.array(centre, dtype=np.float64)
        vector = Rotation.from_matrix(rotation).as_rotvec()
        return cls(vector, rotation @ c + m[:3, 3] - c, c)

    @property
    def rotation_matrix(self) -> FloatArray:
        """The rotation as a (3, 3) matrix."""
        return Rotation.from_rotvec(self.rotation_vector).as_matrix()

    @property
    def matrix(self) -> FloatArray:
        """The whole transform as a (4, 4) matrix, RAS+ mm to RAS+ mm."""
        m = np.eye(4)
        m[:3, :3] = self.rotation_matrix
        m[:3, 3] = self.centre + self.translation - m[:3, :3] @ self.centre
        return m

    @property
    def angle_deg(self) -> float:
        """Angle of rotation in degrees, 0 to 180."""
        return float(np.rad2deg(np.linalg.norm(self.rotation_vector)))

    def about(self, centre: npt.ArrayLike) -> RigidTransform:
        """Return the same motion, stated about another centre (mm)."""
        return RigidTransform.from_matrix(self.matrix, centre)

    def inverse(self) -> RigidTransform:
        """Return the motion that undoes this one, about the moved centre."""
        return RigidTransform(
            -self.rotation_vector, -self.translation, self.centre + self.translation
        )

    def __matmul__(self, first: RigidTransform) -> RigidTransform:
        """Return the motion that applies `first`, then this one."""
        return RigidTransform.from_matrix(self.matrix @ first.matrix, first.centre)

    def apply(self, points: npt.ArrayLike) -> FloatArray:
        """Map points, shape (..., 3), in RAS+ mm."""
        m = self.matrix
        return np.asarray(points, dtype=np.float64) @ m[:3, :3].T + m[:3, 3]

    def displacements(
        self, points: npt.ArrayLike, other: RigidTransform | None = None
    ) -> FloatArray:
        """Distance in mm between where two transforms put each point.

        Parameters
        ----------
        points : (..., 3) array_like
            Points in RAS+ mm, for instance the corners of a box.
        other : RigidTransform, optional
            What to compare with (default: the identity).

        Returns
        -------
        (...) ndarray
            For one transform an estimate and `other` the truth this is the
            target registration error at each point (Fitzpatrick and West,
            IEEE TMI 2001).
        """
        there = np.asarray(points, float) if other is None else other.apply(points)
        return np.linalg.norm(self.apply(points) - there, axis=-1)

    def mean_displacement(
        self, points: npt.ArrayLike, other: RigidTransform | None = None
    ) -> float:
        """Mean of `displacements` in mm."""
        return float(self.displacements(points, other).mean())

    def max_displacement(
        self, points: npt.ArrayLike, other: RigidTransform | None = None
    ) -> float:
        """Maximum of `displacements` in mm."""
        return float(self.displacements(points, other).max())


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
