"""ITK's transforms, text (.tfm, .txt) and MATLAB 4 (.mat); for HDF5 see hdf5.py.

They map points of fixed to points of moving, in LPS+ mm. What is written is an affine
about the origin, so that every reader agrees; or, for programs that take rigid ones
only, a rotation about the origin and a translation. nitransforms writes 6 digits
(2e-4 mm at 200 mm), reads float32, and knows the affine only.
"""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import BinaryIO, cast

import numpy as np

from ..._errors import InputError
from .common import LPS_FROM_RAS, FloatArray, Images, checked, content, text

#: What is written; other programs misread other kinds.
AFFINE = "AffineTransform_double_3_3"
RIGID = "VersorRigid3DTransform_double_3_3"

#: How far a matrix may be from a rotation by rounding.
_ROUNDING = 1e-4


@dataclass(frozen=True, eq=False)
class ItkTransform:
    """One of ITK's transforms as its files hold it."""

    kind: str
    parameters: FloatArray
    fixed_parameters: FloatArray


# --- files ------------------------------------------------------------------


def read_itk_text(file: BinaryIO, _images: Images) -> FloatArray:
    """Read ITK's text."""
    return ras_from_itk(itk_transforms(text(file)))


def itk_transforms(words: str) -> list[ItkTransform]:
    """Take ITK's text apart."""
    # Each piece begins behind "Transform:" and goes on to the next one.
    pieces = re.split(r"^Transform:", words, flags=re.M)[1:]
    return [
        ItkTransform(
            piece.partition("\n")[0].strip(),
            _numbers(piece, "Parameters"),
            _numbers(piece, "FixedParameters"),
        )
        for piece in pieces
    ]


def write_itk_text(moving_from_fixed: FloatArray, _images: Images) -> bytes:
    """Write ITK's text."""
    return _text(AFFINE, itk_numbers(moving_from_fixed))


def write_itk_rigid(moving_from_fixed: FloatArray, _images: Images) -> bytes:
    """Write ITK's text of a rigid transform: a versor, then a translation.

    ITK turns by 0.002 degrees less than 180, where that is meant: 4 um in a head.
    """
    from scipy.spatial.transform import Rotation  # noqa: PLC0415  # slow to import

    lps = LPS_FROM_RAS @ moving_from_fixed @ LPS_FROM_RAS
    proper = np.linalg.det(lps[:3, :3]) > 0
    turn = Rotation.from_matrix(lps[:3, :3] if proper else np.eye(3))
    if np.abs(turn.as_matrix() - lps[:3, :3]).max() > _ROUNDING:
        raise InputError(
            "the transform is not rigid, and itk-rigid holds a rotation and a "
            "translation only; write it as itk"
        )
    versor = turn.as_quat(canonical=True)[:3]  # the scalar part is not negative
    return _text(RIGID, np.array([*versor, *lps[:3, 3]]) + 0.0)


def _text(kind: str, parameters: FloatArray) -> bytes:
    """Write a transform about the origin."""
    return (
        "#Insight Transform File V1.0\n"
        "#Transform 0\n"
        f"Transform: {kind}\n"
        f"Parameters: {' '.join(f'{x:.17g}' for x in parameters)}\n"
        "FixedParameters: 0 0 0\n"
    ).encode()


def read_itk_matlab(file: BinaryIO, _images: Images) -> FloatArray:
    """Read ITK's MATLAB 4 file: parameters under the name of their kind, then fixed."""
    import scipy.io  # noqa: PLC0415  # slow to import, and only needed here

    stream = io.BytesIO(content(file))
    try:
        # MATLAB 4 has numbers and text only; later versions are refused.
        if scipy.io.matlab.matfile_version(stream)[0] != 0:
            raise ValueError
        stream.seek(0)
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # of numbers that it cannot read
            held = scipy.io.loadmat(stream)
        (kind,) = (name for name in held if re.search(r"_\d_\d$", name))
        transform = ItkTransform(
            kind,
            np.array(held[kind], np.float64).reshape(-1),
            np.array(held["fixed"], np.float64).reshape(-1),
        )
    except Exception as error:  # a damaged file fails in many ways
        raise InputError(
            "neither an ITK transform (MATLAB 4) nor an FSL matrix, or damaged; "
            "export it again"
        ) from error
    return ras_from_itk([transform])


def write_itk_matlab(moving_from_fixed: FloatArray, _images: Images) -> bytes:
    """Write ITK's MATLAB 4 file."""
    import scipy.io  # noqa: PLC0415

    stream = io.BytesIO()
    columns = {
        AFFINE: itk_numbers(moving_from_fixed)[:, None],
        "fixed": np.zeros((3, 1)),
    }
    scipy.io.savemat(stream, columns, format="4")
    return stream.getvalue()


def _numbers(piece: str, label: str) -> FloatArray:
    """Numbers behind a label of an ITK text file."""
    found = re.search(rf"^{label}:(.*)$", piece, re.M)
    try:
        return np.array(found[1].split() if found else [], dtype=np.float64)
    except ValueError as error:
        raise InputError(
            f"{label} are not numbers, so it is damaged; export it again"
        ) from error


# --- numbers ----------------------------------------------------------------


def itk_numbers(moving_from_fixed: FloatArray) -> FloatArray:
    """Give the twelve parameters of ITK's affine about the origin."""
    lps = LPS_FROM_RAS @ moving_from_fixed @ LPS_FROM_RAS
    return np.array([*lps[:3, :3].ravel(), *lps[:3, 3]]) + 0.0  # no -0


def ras_from_itk(transforms: Sequence[ItkTransform]) -> FloatArray:
    """Compose what a file holds, as moving_from_fixed in RAS+ mm."""
    rest = list(transforms)
    composite = bool(rest) and rest[0].kind.startswith("CompositeTransform_")
    if composite:
        rest = rest[1:]
    if not rest:
        raise InputError("holds no transform; export it again")
    if len(rest) > 1 and not composite:
        raise InputError(
            f"holds {len(rest)} transforms and does not say that they are a composite; "
            "give a file for each, in a row"
        )
    # ITK's composite applies the last one first.
    lps = reduce(np.matmul, map(_lps_matrix, rest), np.eye(4))
    return LPS_FROM_RAS @ lps @ LPS_FROM_RAS


def _lps_matrix(transform: ItkTransform) -> FloatArray:
    """Turn one linear transform into a matrix, LPS+ mm."""
    name, _, precision = transform.kind.partition("_")
    if name not in _KINDS or precision not in ("double_3_3", "float_3_3"):
        raise InputError(
            f"holds a {transform.kind}, which is not read; "
            f"export it as one of {', '.join(_KINDS)} in 3-D"
        )
    n, n_fixed, reader = _KINDS[name]
    parameters, fixed = transform.parameters, transform.fixed_parameters
    if len(parameters) != n or len(fixed) < n_fixed:
        raise InputError(
            f"the {name} is damaged: {len(parameters)} parameters and {len(fixed)} "
            f"fixed ones, not {n} and {n_fixed}; export it again"
        )
    linear, translation = reader(parameters, fixed)
    centre = fixed[:3] if n_fixed else np.zeros(3)
    matrix = np.eye(4)
    matrix[:3, :3] = linear
    matrix[:3, 3] = translation + centre - linear @ centre
    return checked(matrix)


_Parts = tuple[FloatArray, FloatArray]


def _affine(parameters: FloatArray, _fixed: FloatArray) -> _Parts:
    """Nine numbers by row, then the translation."""
    return parameters[:9].reshape(3, 3), parameters[9:]


def _euler(parameters: FloatArray, fixed: FloatArray) -> _Parts:
    """Angles about x, y, z; Z X Y, or Z Y X if the fourth fixed number says so."""
    from scipy.spatial.transform import Rotation  # noqa: PLC0415  # slow to import

    x, y, z = parameters[:3]
    if len(fixed) > 3 and fixed[3]:
        turn = Rotation.from_euler("ZYX", [z, y, x])
    else:
        turn = Rotation.from_euler("ZXY", [z, x, y])
    return cast(FloatArray, turn.as_matrix()), parameters[3:]


def _versor(parameters: FloatArray, _fixed: FloatArray) -> _Parts:
    """Vector part of a unit quaternion."""
    from scipy.spatial.transform import Rotation  # noqa: PLC0415  # slow to import

    x, y, z = parameters[:3]
    if not math.hypot(x, y, z) < 1 + _ROUNDING:
        raise InputError(
            "the versor is longer than 1, so it is not a rotation; export it again"
        )
    w = np.sqrt(max(0.0, 1.0 - x * x - y * y - z * z))
    turn = Rotation.from_quat([x, y, z, w]).as_matrix()
    return cast(FloatArray, turn), parameters[3:6]


def _similarity(parameters: FloatArray, fixed: FloatArray) -> _Parts:
    """Versor, translation and one scale."""
    turn, translation = _versor(parameters, fixed)
    return parameters[6] * turn, translation


def _translation(parameters: FloatArray, _fixed: FloatArray) -> _Parts:
    return np.eye(3), parameters


def _identity(_parameters: FloatArray, _fixed: FloatArray) -> _Parts:
    return np.eye(3), np.zeros(3)


#: Number of parameters, of fixed ones (a centre), and who reads them.
_KINDS: dict[str, tuple[int, int, Callable[[FloatArray, FloatArray], _Parts]]] = {
    "AffineTransform": (12, 3, _affine),
    "MatrixOffsetTransformBase": (12, 3, _affine),
    "Rigid3DTransform": (12, 3, _affine),
    "Euler3DTransform": (6, 3, _euler),
    "VersorRigid3DTransform": (6, 3, _versor),
    "Similarity3DTransform": (7, 3, _similarity),
    "TranslationTransform": (3, 0, _translation),
    "IdentityTransform": (0, 0, _identity),
}
