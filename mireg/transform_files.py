"""Transform files, as the programs of the field write them.

Other frames than RAS+ mm (LPS in ITK's files) live here and never leave.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation

from .errors import InputError
from .formats import PathLike, in_file, new_file
from .transform import RigidTransform

FloatArray = npt.NDArray[np.float64]

_LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def itk_text(moving_from_fixed: RigidTransform | npt.ArrayLike) -> str:
    """Write a transform as the text of an ITK transform file.

    The file maps points of fixed to points of moving, in LPS mm, as ITK and ANTs
    do; it turns about the origin, so that every reader agrees.

    Parameters
    ----------
    moving_from_fixed : RigidTransform or (4, 4) array_like
        Maps points of fixed to points of moving, RAS+ mm.
    """
    lps = _LPS_FROM_RAS @ _matrix(moving_from_fixed) @ _LPS_FROM_RAS
    numbers = [*lps[:3, :3].ravel(), *lps[:3, 3]]
    return (
        "#Insight Transform File V1.0\n"
        "#Transform 0\n"
        "Transform: AffineTransform_double_3_3\n"
        f"Parameters: {' '.join(f'{x + 0.0:.17g}' for x in numbers)}\n"
        "FixedParameters: 0 0 0\n"
    )


def write_transform(
    path: PathLike,
    moving_from_fixed: RigidTransform | npt.ArrayLike,
    *,
    force: bool = False,
) -> None:
    """Write an ITK transform file, whole or not at all; see `itk_text`."""
    with new_file(path, force=force) as file:
        file.write(itk_text(moving_from_fixed).encode())


def read_transform(path: PathLike) -> FloatArray:
    """Read an affine transform as moving_from_fixed, RAS+ mm.

    Parameters
    ----------
    path : str or path
        An ITK text file with one linear transform (affine, Euler or versor), as
        ITK, ANTs and mireg write it; or a text file with the four rows of
        moving_from_fixed itself, RAS+ mm.

    Returns
    -------
    (4, 4) ndarray
        Maps points of fixed to points of moving. It may scale or shear;
        `RigidTransform.from_matrix` checks that it does not.

    Raises
    ------
    InputError
        If the file is missing, or holds anything else.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: there is no such file; check the path")
    try:
        text = path.read_bytes().decode("ascii")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: not a text file; convert the transform to ITK text (.tfm)"
        ) from error
    with in_file(path):
        return _from_itk(text) if "Transform:" in text else _from_rows(text, path)


def _matrix(transform: RigidTransform | npt.ArrayLike) -> FloatArray:
    """Give the (4, 4) matrix of a transform."""
    if isinstance(transform, RigidTransform):
        return transform.matrix
    return _checked(np.array(transform, dtype=np.float64))


def _checked(matrix: FloatArray) -> FloatArray:
    """Refuse a matrix that maps no space onto another."""
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
        raise InputError("a transform must be a finite matrix of shape (4, 4)")
    if not np.allclose(matrix[3], [0, 0, 0, 1], rtol=0, atol=1e-9):
        raise InputError(f"the transform's last row is {matrix[3]}, not 0 0 0 1")
    if abs(np.linalg.det(matrix)) < 1e-9:
        raise InputError("the transform is singular: it flattens space")
    return matrix


def _from_rows(text: str, path: Path) -> FloatArray:
    """Read four rows of four numbers."""
    rows = [line.split("#")[0].replace(",", " ").split() for line in text.splitlines()]
    rows = [row for row in rows if row]
    try:
        matrix = np.array(rows, dtype=np.float64)
    except ValueError:
        matrix = np.empty(0)
    if matrix.shape != (4, 4):
        raise InputError(
            "neither an ITK text transform nor four rows of four numbers; "
            "convert the transform to ITK text (.tfm)"
        )
    if path.suffix == ".mat":
        raise InputError(
            "looks like an FSL matrix, which is in other coordinates than RAS+ mm; "
            "convert it to ITK text, or rename it to .txt if it is RAS+ mm"
        )
    return _checked(matrix)


def _from_itk(text: str) -> FloatArray:
    """Read the one linear transform of an ITK text file."""
    kinds = re.findall(r"^Transform:\s*(\S+)", text, re.M)
    if len(kinds) != 1 or kinds[0].startswith("Composite"):
        raise InputError(
            "a composite of several transforms; give one file for each, in a row"
        )
    name, _, precision = kinds[0].partition("_")
    readers = {
        "AffineTransform": (12, 3, _affine),
        "MatrixOffsetTransformBase": (12, 3, _affine),
        "Euler3DTransform": (6, 3, _euler),
        "VersorRigid3DTransform": (6, 3, _versor),
    }
    if name not in readers or precision not in ("double_3_3", "float_3_3"):
        raise InputError(
            f"holds a {kinds[0]}, which is not read; "
            f"use one of {', '.join(readers)} in 3-D"
        )
    n, n_fixed, reader = readers[name]
    parameters, fixed = _numbers(text, "Parameters"), _numbers(text, "FixedParameters")
    if len(parameters) != n or len(fixed) < n_fixed:
        raise InputError(
            f"the {name} is damaged: {len(parameters)} parameters and {len(fixed)} "
            f"fixed ones, not {n} and {n_fixed}"
        )
    linear = reader(parameters, fixed)
    centre, translation = fixed[:3], parameters[-3:]
    lps = np.eye(4)
    lps[:3, :3] = linear
    lps[:3, 3] = translation + centre - linear @ centre
    return _checked(_LPS_FROM_RAS @ lps @ _LPS_FROM_RAS)


def _numbers(text: str, label: str) -> FloatArray:
    """Numbers behind a label of an ITK text file."""
    found = re.search(rf"^{label}:(.*)$", text, re.M)
    try:
        return np.array(found[1].split() if found else [], dtype=np.float64)
    except ValueError as error:
        raise InputError(f"{label} are not numbers") from error


def _affine(parameters: FloatArray, _fixed: FloatArray) -> FloatArray:
    """Nine numbers by row."""
    return parameters[:9].reshape(3, 3)


def _euler(parameters: FloatArray, fixed: FloatArray) -> FloatArray:
    """Angles about x, y, z; Z X Y, or Z Y X if the fourth fixed number says so."""
    x, y, z = parameters[:3]
    if len(fixed) > 3 and fixed[3]:
        turn = Rotation.from_euler("ZYX", [z, y, x])
    else:
        turn = Rotation.from_euler("ZXY", [z, x, y])
    return cast(FloatArray, turn.as_matrix())


def _versor(parameters: FloatArray, _fixed: FloatArray) -> FloatArray:
    """Vector part of a unit quaternion."""
    x, y, z = parameters[:3]
    w = np.sqrt(max(0.0, 1.0 - x * x - y * y - z * z))
    return cast(FloatArray, Rotation.from_quat([x, y, z, w]).as_matrix())
