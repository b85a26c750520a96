"""Transforms: rigid ones (six numbers) and affine ones, as values and as files."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeGuard, cast, overload

import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation

from ._errors import InputError, warn
from ._files.faults import in_file
from ._files.formats import ImageLike
from ._files.transforms import read_matrix, transform_bytes
from ._files.transforms.common import FloatArray, checked
from ._files.writing import PathLike, new_file
from ._image import checked_points

#: Largest departure of R @ R.T from the identity that is read as rounding.
_ORTHONORMAL_TOLERANCE = 1e-4

#: How far a number of a rotation may be off in a start: three digits, and some more.
_ROUNDED = 1e-3

#: A rotation by less, in degrees, is what rounding leaves of none.
_ROUNDING_DEG = 1e-9

#: How far a matrix may be from that of its six numbers and be kept digit by digit.
_SAME_MATRIX = 1e-11


def _zeros() -> FloatArray:
    return np.zeros(3)


class _Map:
    """What rigid and affine transforms share: a map of points by a matrix."""

    _matrix: FloatArray

    @property
    def matrix(self) -> FloatArray:
        """The whole transform as a (4, 4) matrix, RAS+ mm to RAS+ mm; a copy."""
        return self._matrix.copy()

    def __array__(
        self, dtype: npt.DTypeLike | None = None, copy: bool | None = None
    ) -> FloatArray:
        """Let numpy take a transform for its matrix."""
        if copy is False:
            raise ValueError("a transform gives its matrix as a copy only")
        return self._matrix.astype(np.float64 if dtype is None else dtype)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Map):
            return NotImplemented
        return np.array_equal(self._matrix, other._matrix)

    def __hash__(self) -> int:
        return hash((self._matrix + 0.0).tobytes())  # -0 equals 0

    def apply(self, points: npt.ArrayLike) -> FloatArray:
        """Map points, shape (..., 3), in RAS+ mm."""
        m = self._matrix
        return checked_points(points) @ m[:3, :3].T + m[:3, 3]

    def displacements(
        self, points: npt.ArrayLike, other: Transform | None = None
    ) -> FloatArray:
        """Distance in mm between where two transforms put each point.

        Parameters
        ----------
        points : (..., 3) array_like
            Points in RAS+ mm, for instance the corners of a box.
        other : RigidTransform or AffineTransform, optional
            What to compare with (default: the identity).

        Returns
        -------
        (...) ndarray
            For one transform an estimate and `other` the truth this is the
            target registration error at each point (Fitzpatrick and West,
            IEEE TMI 2001).
        """
        there = checked_points(points) if other is None else other.apply(points)
        return np.linalg.norm(self.apply(points) - there, axis=-1)

    def mean_displacement(
        self, points: npt.ArrayLike, other: Transform | None = None
    ) -> float:
        """Mean of `displacements` in mm."""
        return float(self.displacements(points, other).mean())

    def max_displacement(
        self, points: npt.ArrayLike, other: Transform | None = None
    ) -> float:
        """Maximum of `displacements` in mm."""
        return float(self.displacements(points, other).max())

    def save(
        self,
        path: PathLike,
        *,
        format: str | None = None,
        fixed: ImageLike | None = None,
        moving: ImageLike | None = None,
        force: bool = False,
    ) -> None:
        """Write the transform, taken as moving_from_fixed; see `write_transform`."""
        made = transform_bytes(
            path, self._matrix, fixed=fixed, moving=moving, format=format
        )
        with new_file(path, force=force) as file:
            file.write(made)


@dataclass(frozen=True, eq=False, repr=False)
class RigidTransform(_Map):
    """A rotation about a centre, then a translation, in RAS+ mm.

    A point ``x`` goes to ``R @ (x - centre) + centre + translation``. The same
    motion can be written about any centre; only `translation` changes.

    ``~t`` undoes `t`, and ``t @ u`` applies `u` first, a transform or the (4, 4) matrix
    of one; numpy takes a transform for its matrix. Two are equal if every number of
    their matrices is; for equal within a tolerance see `max_displacement`.

    Parameters
    ----------
    rotation_vector : (3,) array_like
        Axis of rotation times its angle in radians; kept with the angle from 0 to pi.
    translation : (3,) array_like
        How far the centre itself moves, in mm.
    centre : (3,) array_like, optional
        The point about which to rotate, in mm (default: the origin).

    Raises
    ------
    InputError
        If one of them is not three finite numbers.

    Examples
    --------
    A quarter turn about the third axis, at the point (10, 0, 0):

    >>> import numpy as np
    >>> turn = RigidTransform([0, 0, np.pi / 2], [0, 0, 5], centre=[10, 0, 0])
    >>> turn
    RigidTransform(90 degrees about (0, 0, 1) at (10, 0, 0), then (0, 0, 5) mm)
    >>> turn.apply([11, 0, 0]).round(6)
    array([10., 1., 5.])
    >>> (~turn @ turn).max_displacement([[0, 0, 0], [90, 0, 0]]) < 1e-12
    True
    """

    rotation_vector: FloatArray
    translation: FloatArray
    centre: FloatArray = field(default_factory=_zeros)
    _matrix: FloatArray = field(init=False)

    def __post_init__(self) -> None:
        """Check the nine numbers once."""
        for name in ("rotation_vector", "translation", "centre"):
            value = np.array(getattr(self, name), dtype=np.float64)
            if value.shape != (3,) or not np.isfinite(value).all():
                raise InputError(f"{name} is {value}; it must be three finite numbers")
            object.__setattr__(self, name, value)
        rotation = Rotation.from_rotvec(self.rotation_vector)
        angle = float(np.linalg.norm(self.rotation_vector))
        if angle > 2 * np.pi:
            warn(
                f"rotation_vector is {angle:.3g} radians long, more than a full turn; "
                "if it is in degrees, give np.deg2rad of it"
            )
        if angle > np.pi * (1 + _SAME_MATRIX):
            object.__setattr__(self, "rotation_vector", rotation.as_rotvec())
        m = np.eye(4)
        m[:3, :3] = rotation.as_matrix()
        m[:3, 3] = self.centre + self.translation - m[:3, :3] @ self.centre
        object.__setattr__(self, "_matrix", _frozen(m))

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
        m = checked(matrix)
        if not _is_rigid(m):
            raise InputError(
                f"the transform is not rigid: {_stretch(m)}; give a rotation and a "
                "translation only"
            )
        rotation = m[:3, :3]
        c = np.array(centre, dtype=np.float64)
        vector = Rotation.from_matrix(rotation).as_rotvec()
        made = cls(vector, rotation @ c + m[:3, 3] - c, c)
        if np.allclose(made._matrix, m, rtol=_SAME_MATRIX, atol=_SAME_MATRIX):
            object.__setattr__(made, "_matrix", _frozen(m))
        return made

    @classmethod
    def load(
        cls,
        path: PathLike,
        *,
        format: str | None = None,
        fixed: ImageLike | None = None,
        moving: ImageLike | None = None,
    ) -> RigidTransform:
        """Read a rigid transform from a file; see `read_transform`.

        Raises
        ------
        InputError
            If `read_transform` would refuse the file, or the transform is not rigid.
        """
        matrix = read_matrix(path, fixed=fixed, moving=moving, format=format)
        with in_file(path):
            return cls.from_matrix(matrix)

    @property
    def rotation_matrix(self) -> FloatArray:
        """The rotation as a (3, 3) matrix."""
        return self._matrix[:3, :3].copy()

    @property
    def angle_deg(self) -> float:
        """Angle of rotation in degrees, 0 to 180."""
        return float(np.rad2deg(np.linalg.norm(self.rotation_vector)))

    def about(self, centre: npt.ArrayLike) -> RigidTransform:
        """Return the same motion, stated about another centre (mm)."""
        return RigidTransform.from_matrix(self._matrix, centre)

    def __invert__(self) -> RigidTransform:
        """Return the motion that undoes this one, about the moved centre."""
        return RigidTransform(
            -self.rotation_vector, -self.translation, self.centre + self.translation
        )

    def inverse(self) -> RigidTransform:
        """Return the motion that undoes this one: ``~t``."""
        return ~self

    @overload
    def __matmul__(self, first: RigidTransform) -> RigidTransform: ...
    @overload
    def __matmul__(self, first: AffineTransform) -> AffineTransform: ...
    @overload
    def __matmul__(self, first: npt.NDArray[np.number]) -> Transform: ...
    def __matmul__(self, first: Transform | npt.NDArray[np.number]) -> Transform:
        """Return the transform that applies `first`, then this one."""
        if _is_matrix(first):
            first = as_transform(first, name="the matrix")
        if isinstance(first, RigidTransform):
            return RigidTransform.from_matrix(
                self._matrix @ first._matrix, first.centre
            )
        return _product(self, first)

    def __repr__(self) -> str:
        """Tell angle, axis, centre and translation on one line."""
        turn = "no rotation"
        if self.angle_deg > _ROUNDING_DEG:
            axis = self.rotation_vector / np.linalg.norm(self.rotation_vector)
            turn = f"{self.angle_deg:.4g} degrees about {_row(axis)}"
            turn += f" at {_row(self.centre)}"
        return f"RigidTransform({turn}, then {_row(self.translation)} mm)"


@dataclass(frozen=True, eq=False, repr=False, init=False)
class AffineTransform(_Map):
    """An invertible affine map, RAS+ mm to RAS+ mm, that need not be rigid.

    ``~t``, ``t @ u``, `apply`, `save`, `load` and equality are those of
    `RigidTransform`. A product with one is one, even if the result is rigid, and takes
    the numbers of a matrix as they are. `mireg.resample` takes one; a registration does
    not start from one.

    Parameters
    ----------
    matrix : (4, 4) array_like
        Its last row is 0 0 0 1.

    Raises
    ------
    InputError
        If the matrix is not finite and invertible, or is projective.

    Examples
    --------
    >>> import numpy as np
    >>> larger = AffineTransform(np.diag([1.1, 1.1, 1.2, 1]))
    >>> larger
    AffineTransform(stretches by 1.1 to 1.2, the origin moves by (0, 0, 0) mm)
    >>> larger.apply([10, 0, 10]).round(6)
    array([11.,  0., 12.])
    """

    _matrix: FloatArray

    def __init__(self, matrix: npt.ArrayLike) -> None:
        object.__setattr__(self, "_matrix", _frozen(checked(matrix)))

    @classmethod
    def load(
        cls,
        path: PathLike,
        *,
        format: str | None = None,
        fixed: ImageLike | None = None,
        moving: ImageLike | None = None,
    ) -> AffineTransform:
        """Read a transform, rigid or not, from a file; see `read_transform`."""
        return cls(read_matrix(path, fixed=fixed, moving=moving, format=format))

    def __invert__(self) -> AffineTransform:
        """Return the map that undoes this one."""
        return AffineTransform(np.linalg.inv(self._matrix))

    def inverse(self) -> AffineTransform:
        """Return the map that undoes this one: ``~t``."""
        return ~self

    def __matmul__(self, first: Transform | npt.NDArray[np.number]) -> AffineTransform:
        """Return the transform that applies `first`, then this one."""
        if _is_matrix(first):
            with in_file("the matrix"):
                first = AffineTransform(first)
        return _product(self, first)

    def __repr__(self) -> str:
        """Tell how it stretches and where it puts the origin on one line."""
        stretch = _stretch(self._matrix).removeprefix("it ")
        shift = _row(self._matrix[:3, 3])
        return f"AffineTransform({stretch}, the origin moves by {shift} mm)"


Transform = RigidTransform | AffineTransform


class HoldsTransform(Protocol):
    """What a type checker takes for a transform with more, as `mireg.Registration`."""

    @property
    def transform(self) -> RigidTransform:
        """The transform itself."""


#: What stands for a transform: one, what holds one, its (4, 4) matrix, or the path of
#: a file.
TransformLike = (
    RigidTransform
    | AffineTransform
    | HoldsTransform
    | npt.NDArray[np.number]
    | Sequence[Sequence[float]]
    | PathLike
)


def _is_matrix(given: object) -> TypeGuard[npt.NDArray[np.number]]:
    """Tell the matrix of a transform from anything else, as points in columns."""
    return (
        isinstance(given, np.ndarray)
        and given.shape == (4, 4)
        and np.array_equal(given[3], [0, 0, 0, 1])
    )


def _product(second: Transform, first: object) -> AffineTransform:
    """Compose two transforms; numpy multiplies what else has a matrix."""
    if not isinstance(first, _Map):
        return NotImplemented
    return AffineTransform(second._matrix @ first._matrix)


def _frozen(array: FloatArray) -> FloatArray:
    """Let nobody change the numbers of a value."""
    array.setflags(write=False)
    return array


def _is_rigid(m: FloatArray) -> bool:
    """Tell whether a checked matrix turns and shifts only, but for rounding."""
    off = np.abs(m[:3, :3] @ m[:3, :3].T - np.eye(3)).max()
    return bool(off <= _ORTHONORMAL_TOLERANCE and np.linalg.det(m[:3, :3]) > 0)


def _stretch(m: FloatArray) -> str:
    """Say how a matrix is not rigid."""
    sizes = np.linalg.svd(m[:3, :3])[1]
    low, high = f"{sizes[2]:.5g}", f"{sizes[0]:.5g}"
    does = []
    if (low, high) != ("1", "1"):
        does.append(f"stretches by {low}" + (f" to {high}" if low != high else ""))
    if np.linalg.det(m[:3, :3]) < 0:
        does.append("reflects")
    return f"it {' and '.join(does) or 'is rigid'}"


def _row(numbers: Iterable[float]) -> str:
    """Write three numbers as (1, 2.5, -3)."""
    return f"({', '.join(f'{round(x, 3) + 0.0:.6g}' for x in numbers)})"


# --- from and to whatever stands for a transform ----------------------------


def as_transform(
    given: TransformLike,
    *,
    fixed: ImageLike | None = None,
    moving: ImageLike | None = None,
    name: str = "moving_from_fixed",
) -> Transform:
    """Make a transform of whatever stands for it.

    Parameters
    ----------
    given : RigidTransform, AffineTransform, Registration, (4, 4) array_like or path
        A transform is returned as it is; a matrix maps points of fixed to points of
        moving, RAS+ mm; for a path see `read_transform`.
    fixed, moving : path, nibabel image or Image, optional
        The two images; only some files need them.
    name : str, optional
        What messages call it, if it is no file.

    Returns
    -------
    RigidTransform or AffineTransform
        A rigid one wherever the matrix is rigid.

    Raises
    ------
    InputError
        If it is anything else, or the file cannot be read.

    Examples
    --------
    >>> as_transform([[1, 0, 0, 5], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    RigidTransform(no rotation, then (5, 0, 0) mm)
    """
    held = getattr(given, "transform", given)
    if isinstance(held, RigidTransform | AffineTransform):
        return held
    if isinstance(given, str | os.PathLike):
        return read_transform(given, fixed=fixed, moving=moving)
    with in_file(name):
        m = checked(cast(npt.ArrayLike, given))
    return RigidTransform.from_matrix(m) if _is_rigid(m) else AffineTransform(m)


def as_rigid(
    given: TransformLike,
    *,
    fixed: ImageLike | None = None,
    moving: ImageLike | None = None,
    name: str = "init",
) -> RigidTransform:
    """Make a rigid transform, for a start, of whatever stands for one.

    As `as_transform`, but an affine that is not rigid is refused. Of one whose numbers
    are rounded, as a system shows three digits, the nearest rotation is taken.
    """
    transform = as_transform(given, fixed=fixed, moving=moving, name=name)
    if isinstance(transform, RigidTransform):
        return transform
    where = os.fspath(given) if isinstance(given, str | os.PathLike) else name
    matrix = transform.matrix.copy()
    left, _, right = np.linalg.svd(matrix[:3, :3])
    off = matrix[:3, :3] - left @ right
    if np.abs(off).max() <= _ROUNDED and np.linalg.det(left @ right) > 0:
        worst = 100 * np.linalg.norm(off, 2)
        warn(
            f"{where}: its rotation seems rounded, as {_stretch(matrix)}; the nearest "
            f"one is taken, {worst:.2g} mm off at most, at 100 mm from the origin"
        )
        matrix[:3, :3] = left @ right
        return RigidTransform.from_matrix(matrix)
    raise InputError(
        f"{where}: the transform is not rigid: {_stretch(transform.matrix)}; give "
        "one of a rotation and a translation only, such as FLIRT's with -dof 6"
    )


def read_transform(
    path: PathLike,
    *,
    fixed: ImageLike | None = None,
    moving: ImageLike | None = None,
    format: str | None = None,
) -> Transform:
    """Read a transform as moving_from_fixed, RAS+ mm.

    Parameters
    ----------
    path : str or path
        A file of ITK or ANTs (text, MATLAB 4, HDF5; linear ones, also composed), FSL,
        FreeSurfer (LTA), AFNI, X5; DICOM's matrix; the record of a registration or a
        truth.json (a JSON object with "moving_from_fixed"); or moving_from_fixed
        itself, RAS+ mm, as four rows of text or .npy.
    fixed, moving : path, nibabel image or Image, optional
        The images that the transform is between. FSL's and AFNI's files say where
        points go only together with both; the others do without.
    format : str, optional
        "itk" (or "ants", which is the same), "itk-rigid", "fsl", "lta", "afni", "x5",
        "json", "dicom", "matrix" or "npy". By default told by content, and by suffix
        where that is bare numbers: four rows are FSL's in a .mat file, DICOM's in a
        .dicom.txt file, and moving_from_fixed in another .txt file.

    Returns
    -------
    RigidTransform or AffineTransform
        Maps points of fixed to points of moving; an `AffineTransform` if it scales,
        shears or reflects by more than rounding (1e-4).

    Raises
    ------
    InputError
        If the file is missing, holds anything else, or needs an image that is not
        given.

    Warns
    -----
    MiregWarning
        Of four rows in a .txt file whose name does not say whose they are, if `format`
        does not, either: how they were read.
    """
    matrix = read_matrix(path, fixed=fixed, moving=moving, format=format)
    return as_transform(matrix, name=str(path))


def write_transform(
    path: PathLike,
    moving_from_fixed: TransformLike,
    *,
    fixed: ImageLike | None = None,
    moving: ImageLike | None = None,
    format: str | None = None,
    force: bool = False,
) -> None:
    """Write a transform for another program, whole or not at all.

    Parameters
    ----------
    path : str or path
        Its suffix says the format: .tfm or .txt ITK text, .h5 ITK, .lta FreeSurfer,
        .aff12.1D AFNI, .x5 X5, .json a record of mireg, .matrix.txt and .npy the
        matrix itself, .rigid.tfm ITK's rigid kind, .dicom.txt DICOM's matrix (LPS+ mm,
        from moving to fixed).
    moving_from_fixed : RigidTransform, AffineTransform, (4, 4) array_like or path
        Maps points of fixed to points of moving, RAS+ mm.
    fixed, moving : path, nibabel image or Image, optional
        The two images; files of FSL, FreeSurfer and AFNI cannot be written without.
    format : str, optional
        Of those that `read_transform` knows, whatever the suffix says. A .mat
        file can be ITK's or FSL's: say which.
    force : bool, optional
        Replace a file that exists.

    Raises
    ------
    InputError
        If the file cannot be written, or the matrix maps no space onto another.

    Examples
    --------
    >>> import tempfile
    >>> five_mm_right = RigidTransform([0, 0, 0], [5, 0, 0])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_transform(f"{folder}/moving_to_fixed.tfm", five_mm_right)
    ...     read_transform(f"{folder}/moving_to_fixed.tfm") == five_mm_right
    True
    """
    transform = as_transform(moving_from_fixed, fixed=fixed, moving=moving)
    transform.save(path, format=format, fixed=fixed, moving=moving, force=force)
