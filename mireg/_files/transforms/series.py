"""Transforms of a series, one a volume, as the programs of the field write them.

In memory they are moving_from_fixed, (n, 4, 4): from points of the reference to points
of each volume, RAS+ mm. nitransforms reads what is written here but motion parameters.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from ..._errors import InputError
from ..faults import check_there, hushed, in_file
from ..formats import as_volume
from ..hdf5 import opened_hdf5
from ..writing import PathLike
from .afni import matrix_from_numbers, numbers_of_matrix
from .common import (
    LPS_FROM_RAS,
    FloatArray,
    Images,
    checked,
    grid,
    number_rows,
    row_lengths,
    rows_text,
)
from .freesurfer import read_lta, write_lta
from .fsl import fsl_from_mm, read_fsl, write_fsl
from .hdf5 import write_x5
from .itk import AFFINE, itk_numbers, itk_transforms, ras_from_itk

#: No file with the transforms of a series is larger.
_MOST_BYTES = 1 << 28


#: How far a matrix times its transpose may be from the identity.
_RIGID = 1e-4


@dataclass(frozen=True, eq=False)
class SeriesFormat:
    """One kind of file, or folder of files, with the transforms of a series.

    Attributes
    ----------
    name : str
        What may be asked for.
    suffix : str
        How its name ends; of a folder as well.
    write : callable
        Turns moving_from_fixed (n, 4, 4), with the images at hand, into the content; of
        a folder into the content of each of its files, by name.
    read : callable
        Turns the same into moving_from_fixed.
    folder : bool
        Whether it is a folder with a file a volume.
    """

    name: str
    suffix: str
    write: Callable[[FloatArray, Images], bytes | dict[str, bytes]]
    read: Callable[[bytes | dict[str, bytes], Images], FloatArray]
    folder: bool = False


# --- one file -------------------------------------------------------------------------


def _write_itk(matrices: FloatArray, _images: Images) -> bytes:
    parts = ["#Insight Transform File V1.0"]
    for number, matrix in enumerate(matrices):
        numbers = " ".join(f"{x:.17g}" for x in itk_numbers(matrix))
        parts += [
            f"#Transform {number}",
            f"Transform: {AFFINE}",
            f"Parameters: {numbers}",
            "FixedParameters: 0 0 0",
            "",
        ]
    return "\n".join(parts).encode()


def _read_itk(content: bytes | dict[str, bytes], _images: Images) -> FloatArray:
    transforms = itk_transforms(_text(content))
    if transforms and transforms[0].kind.startswith("CompositeTransform_"):
        raise InputError(
            "holds one composite transform; give a file with one for each volume"
        )
    return np.array([ras_from_itk([one]) for one in transforms])


def _write_afni(matrices: FloatArray, images: Images) -> bytes:
    rows = np.array([numbers_of_matrix(matrix, images) for matrix in matrices])
    heading = "# 3dvolreg matrices (DICOM-to-DICOM, row-by-row):\n"
    return (heading + rows_text(rows)).encode()


def _read_afni(content: bytes | dict[str, bytes], images: Images) -> FloatArray:
    rows = number_rows(_text(content))
    if set(row_lengths(rows)) != {12}:
        raise InputError(
            "not rows of the twelve numbers of an AFNI matrix; write it again by "
            "3dvolreg"
        )
    return np.array([matrix_from_numbers(row, images) for row in rows])


def _write_x5(matrices: FloatArray, images: Images) -> bytes:
    return write_x5(matrices, images)


def _read_x5(content: bytes | dict[str, bytes], _images: Images) -> FloatArray:
    try:
        with opened_hdf5(io.BytesIO(_bytes(content))) as opened:
            if opened.attrs.get("Format") != "X5":
                raise ValueError
            (node,) = opened["TransformGroup"].values()
            return _stack(np.array(node["Transform"], np.float64))
    except InputError:
        raise
    except Exception as error:  # h5py fails in many ways
        raise InputError(
            "not an X5 file with one linear series, or damaged; export it again"
        ) from error


def _write_npy(matrices: FloatArray, _images: Images) -> bytes:
    stream = io.BytesIO()
    np.save(stream, matrices, allow_pickle=False)
    return stream.getvalue()


def _read_npy(content: bytes | dict[str, bytes], _images: Images) -> FloatArray:
    try:
        array = np.load(io.BytesIO(_bytes(content)), allow_pickle=False)
    except Exception as error:  # a damaged header fails in many ways
        raise InputError(
            "not an .npy file of numbers, or damaged; save it again"
        ) from error
    return _stack(array)


# --- six numbers a volume -------------------------------------------------------------


def fsl_motion(
    matrices: FloatArray, images: Images, centre: FloatArray | None = None
) -> FloatArray:
    """Give the six numbers of FSL's MCFLIRT: three angles (rad), three shifts (mm).

    The motion that brings a volume onto the reference, in FSL's own millimetres, about
    the centre of gravity of the reference; angles are left-handed and turn about z
    first, as in FSL's ``rotmat2euler``.

    Parameters
    ----------
    matrices : (n, 4, 4) array
        moving_from_fixed, RAS+ mm.
    images : Images
        The reference, whose intensities tell the centre of gravity, and the series.
    centre : (3,) array, optional
        Another centre, in FSL's own millimetres of the reference.
    """
    motions = fsl_matrices(matrices, images)
    if centre is None:
        centre = centre_of_gravity(images)
    turn = motions[:, :3, :3]
    angles = np.column_stack(
        [
            np.arctan2(turn[:, 1, 2], turn[:, 2, 2]),
            np.arctan2(-turn[:, 0, 2], np.hypot(turn[:, 0, 0], turn[:, 0, 1])),
            np.arctan2(turn[:, 0, 1], turn[:, 0, 0]),
        ]
    )
    return np.column_stack([angles, turn @ centre + motions[:, :3, 3] - centre])


def fsl_matrices(matrices: FloatArray, images: Images) -> FloatArray:
    """Give the motions (n, 4, 4) that bring volumes onto the reference, as FSL's."""
    fixed, moving = images.grids("the motion of FSL")
    back = fsl_from_mm(fixed) @ np.linalg.inv(matrices)
    return np.asarray(back @ np.linalg.inv(fsl_from_mm(moving)), np.float64)


def centre_of_gravity(images: Images) -> FloatArray:
    """Give the centre of gravity of the reference in FSL's own millimetres.

    Weighted by intensity above the least one, as FSL's ``cog``.
    """
    assert images.fixed is not None
    data = as_volume(images.fixed).data
    weights = np.nan_to_num(data.astype(np.float64) - float(np.nanmin(data)))
    total = weights.sum()
    axes = [tuple(b for b in range(3) if b != a) for a in range(3)]
    ijk = [
        weights.sum(axis=axes[a]) @ np.arange(data.shape[a]) / total for a in range(3)
    ]
    fixed = grid(images.fixed)
    return np.asarray((fsl_from_mm(fixed) @ fixed.mm_from_ijk @ [*ijk, 1.0])[:3])


def _write_par(matrices: FloatArray, images: Images) -> bytes:
    _check_rigid(fsl_matrices(matrices, images))
    return rows_text(fsl_motion(matrices, images)).encode()


def _check_rigid(motions: FloatArray) -> None:
    """Refuse to state by six numbers what is no rotation in their frame."""
    turns = motions[:, :3, :3]
    if np.abs(turns @ turns.transpose(0, 2, 1) - np.eye(3)).max() > _RIGID:
        raise InputError(
            "the voxels are sheared, or a transform is not rigid, which six numbers "
            "cannot say; choose a format with matrices: itk, fsl, afni, lta, x5 or npy"
        )


def _read_par(content: bytes | dict[str, bytes], images: Images) -> FloatArray:
    from scipy.spatial.transform import Rotation  # noqa: PLC0415  # slow to import

    rows = _six(content, "FSL's MCFLIRT")
    fixed, moving = images.grids("a .par file")
    centre = centre_of_gravity(images)
    motions = np.tile(np.eye(4), (len(rows), 1, 1))
    turn = Rotation.from_euler("XYZ", -rows[:, :3]).as_matrix()
    motions[:, :3, :3] = turn
    motions[:, :3, 3] = rows[:, 3:] + centre - turn @ centre
    there = np.linalg.inv(fsl_from_mm(moving)) @ np.linalg.inv(motions)
    return np.asarray(there @ fsl_from_mm(fixed), np.float64)


def _write_volreg(matrices: FloatArray, images: Images) -> bytes:
    """Roll, pitch, yaw (degrees), dS, dL, dP (mm), as 3dvolreg -1Dfile."""
    _check_rigid(_plumb(matrices, images)[0])
    rows = volreg_motion(matrices, images)
    return ("# roll pitch yaw dS dL dP\n" + rows_text(rows)).encode()


def volreg_motion(matrices: FloatArray, images: Images) -> FloatArray:
    """Give the six numbers of AFNI's 3dvolreg: degrees, then mm.

    The motion that brings a volume onto the reference, about the centre of its grid
    (AFNI's, where oblique axes are laid onto the nearest of the world): about the axis
    to the top by roll, then to the left by pitch, then to the back by yaw, right hand
    in these axes; then shifts to the top, the left and the back.
    """
    motions, centre = _plumb(matrices, images)
    turn = motions[:, :3, :3]
    # yaw about y after pitch about x after roll about z: Y X Z.
    pitch = np.arcsin(np.clip(-turn[:, 1, 2], -1, 1))
    roll = np.arctan2(turn[:, 1, 0], turn[:, 1, 1])
    yaw = np.arctan2(turn[:, 0, 2], turn[:, 2, 2])
    shift = turn @ centre + motions[:, :3, 3] - centre
    angles = np.rad2deg(np.column_stack([roll, pitch, yaw]))
    return np.column_stack([angles, shift[:, 2], shift[:, 0], shift[:, 1]])


def _plumb(matrices: FloatArray, images: Images) -> tuple[FloatArray, FloatArray]:
    """Give motions in AFNI's LPS+ mm, and the centre of the grid of the reference."""
    base = np.tile(np.eye(4), (len(matrices), 1, 1))
    base[:, :3] = [numbers_of_matrix(m, images).reshape(3, 4) for m in matrices]
    return np.asarray(np.linalg.inv(base), np.float64), _plumb_centre(images)


def _plumb_centre(images: Images) -> FloatArray:
    from .afni import plumb_from_mm  # noqa: PLC0415

    fixed, _ = images.grids("the motion of 3dvolreg")
    middle = fixed.mm_from_ijk @ [*(np.array(fixed.shape) - 1) / 2, 1.0]
    return np.asarray((LPS_FROM_RAS @ plumb_from_mm(fixed) @ middle)[:3])


def _read_volreg(content: bytes | dict[str, bytes], images: Images) -> FloatArray:
    from scipy.spatial.transform import Rotation  # noqa: PLC0415  # slow to import

    rows = _six(content, "AFNI's 3dvolreg")
    centre = _plumb_centre(images)
    turn = Rotation.from_euler("YXZ", rows[:, [2, 1, 0]], degrees=True).as_matrix()
    motions = np.tile(np.eye(4), (len(rows), 1, 1))
    motions[:, :3, :3] = turn
    motions[:, :3, 3] = rows[:, [4, 5, 3]] + centre - turn @ centre
    base = np.linalg.inv(motions)[:, :3].reshape(-1, 12)
    return np.array([matrix_from_numbers(row, images) for row in base])


def _six(content: bytes | dict[str, bytes], program: str) -> FloatArray:
    rows = number_rows(_text(content))
    if set(row_lengths(rows)) != {6}:
        raise InputError(
            f"not rows of six numbers, as {program} writes them; export it again"
        )
    return np.array(rows)


# --- a file a volume ------------------------------------------------------------------


def _write_fsl(matrices: FloatArray, images: Images) -> dict[str, bytes]:
    return {
        f"MAT_{number:04d}": write_fsl(matrix, images)
        for number, matrix in enumerate(matrices)
    }


def _read_fsl(content: bytes | dict[str, bytes], images: Images) -> FloatArray:
    return _each(content, lambda file: read_fsl(file, images))


def _write_lta(matrices: FloatArray, images: Images) -> dict[str, bytes]:
    return {
        f"{number:04d}.lta": write_lta(matrix, images)
        for number, matrix in enumerate(matrices)
    }


def _read_lta(content: bytes | dict[str, bytes], images: Images) -> FloatArray:
    return _each(content, lambda file: read_lta(file, images))


def _each(
    content: bytes | dict[str, bytes], read: Callable[[io.BytesIO], FloatArray]
) -> FloatArray:
    if isinstance(content, bytes):
        raise InputError("one file; give the folder that has one for each volume")
    matrices = []
    for name, held in content.items():
        with in_file(name):
            matrices.append(checked(read(io.BytesIO(held))))
    return np.array(matrices)


#: Kinds of files with the transforms of a series, by name.
SERIES_FORMATS: Mapping[str, SeriesFormat] = MappingProxyType(
    {
        row.name: row
        for row in (
            SeriesFormat("itk", "_xfm.txt", _write_itk, _read_itk),
            SeriesFormat("fsl", ".mat", _write_fsl, _read_fsl, folder=True),
            SeriesFormat("par", ".par", _write_par, _read_par),
            SeriesFormat("afni", ".aff12.1D", _write_afni, _read_afni),
            SeriesFormat("volreg", ".volreg.1D", _write_volreg, _read_volreg),
            SeriesFormat("lta", "_lta", _write_lta, _read_lta, folder=True),
            SeriesFormat("x5", ".x5", _write_x5, _read_x5),
            SeriesFormat("npy", ".npy", _write_npy, _read_npy),
        )
    }
)


def series_content(
    name: str, matrices: npt.ArrayLike, images: Images
) -> bytes | dict[str, bytes]:
    """Make the content of a file, or of the files of a folder, in a format."""
    return series_format(name).write(_stack(np.asarray(matrices)), images)


def series_format(name: str) -> SeriesFormat:
    """Find a format by name; "ants" is "itk"."""
    name = {"ants": "itk"}.get(name, name)
    if name not in SERIES_FORMATS:
        raise InputError(
            f"{name!r} is not a known format of a series; choose one of "
            f"{', '.join(SERIES_FORMATS)}"
        )
    return SERIES_FORMATS[name]


def series_format_to_write(path: PathLike) -> SeriesFormat:
    """Find the format of a file, or folder, by the suffix of its name."""
    lower = str(path).lower().rstrip("/")
    ends = {".txt": "itk", ".tfm": "itk", ".1d": "afni"}
    ends |= {row.suffix.lower(): row.name for row in SERIES_FORMATS.values()}
    fits = [end for end in ends if lower.endswith(end)]
    if not fits:
        raise InputError(
            f"{path}: its suffix does not tell the format of a series; say which of "
            f"{', '.join(SERIES_FORMATS)} is meant"
        )
    return SERIES_FORMATS[ends[max(fits, key=len)]]


def series_format_to_read(path: PathLike, name: str | None = None) -> str:
    """Name the format of a file, or folder, by its content, and by its suffix."""
    with in_file(path):
        path = Path(path)
        return name or _recognised(path, _held(path)).name


def read_series_matrices(
    path: PathLike, images: Images, name: str | None = None
) -> FloatArray:
    """Read moving_from_fixed, (n, 4, 4), RAS+ mm, one for each volume.

    Parameters
    ----------
    path : str or path
        A file, or a folder with a file a volume.
    images : Images
        The reference and the series; FSL's and AFNI's files need both.
    name : str, optional
        The format; by default told by content, or suffix.

    Raises
    ------
    InputError
        If it is missing or holds anything else.
    """
    path = Path(path)
    with hushed(), in_file(path):
        check_there(path)
        content = _held(path)
        row = series_format(name) if name else _recognised(path, content)
        matrices = row.read(content, images)
        return _stack(matrices)


def inverses(matrices: FloatArray) -> FloatArray:
    """Invert the transforms of a series."""
    return np.asarray(np.linalg.inv(matrices), np.float64)


def holds_series(path: PathLike) -> bool:  # noqa: PLR0911  # one a kind of file
    """Tell by a look whether a file or folder holds the transforms of a series."""
    path = Path(path)
    if path.is_dir():
        return bool(_names(path))
    if not path.is_file():  # what a pipe holds can be read only once
        return False
    try:
        content = path.read_bytes() if path.stat().st_size <= _MOST_BYTES else b""
    except OSError:
        return False
    if content.startswith(b"\x93NUMPY"):
        return bool(re.search(rb"'shape': \(\d+, 4, 4\)", content[:256]))
    if content.startswith(b"\x89HDF"):
        return _x5_many(path)
    if b"Insight Transform File" in content[:200]:
        kinds = re.findall(rb"^Transform:\s*(\S+)", content, re.M)
        return len(kinds) > 1 and not kinds[0].startswith(b"CompositeTransform")
    try:
        lengths = row_lengths(number_rows(content.decode()))
    except (InputError, UnicodeDecodeError):
        return False
    return set(lengths) == {6} or (set(lengths) == {12} and len(lengths) > 1)


def _x5_many(path: Path) -> bool:
    try:
        with path.open("rb") as file, opened_hdf5(file) as opened:
            (node,) = opened["TransformGroup"].values()
            return len(node["Transform"].shape) == 3
    except InputError as error:  # looked at once, it is not looked at again
        raise type(error)(f"{path}: {error}") from error
    except Exception:  # whatever it is, it is no series
        return False


def _recognised(path: Path, content: bytes | dict[str, bytes]) -> SeriesFormat:
    """Find the format of what is read."""
    if isinstance(content, dict):
        first = next(iter(content))
        return SERIES_FORMATS["lta" if first.endswith(".lta") else "fsl"]
    if b"Insight Transform File" in content[:200]:
        return SERIES_FORMATS["itk"]
    if content.startswith(b"\x93NUMPY"):
        return SERIES_FORMATS["npy"]
    if content.startswith(b"\x89HDF"):
        return SERIES_FORMATS["x5"]
    lengths = set(row_lengths(number_rows(_text(content))))
    if lengths == {12}:
        return SERIES_FORMATS["afni"]
    if lengths == {6}:
        is_fsl = path.name.lower().endswith(".par")
        return SERIES_FORMATS["par" if is_fsl else "volreg"]
    raise InputError(
        "not recognised as the transforms of a series; give a file of "
        f"{', '.join(SERIES_FORMATS)}"
    )


def _names(folder: Path) -> list[str]:
    """Name the files of a folder with a transform each, in the order of volumes."""
    names = [p.name for p in folder.iterdir() if re.fullmatch(r"MAT_\d+", p.name)]
    names = names or [p.name for p in folder.iterdir() if p.name.endswith(".lta")]
    return sorted(names, key=lambda name: (len(name), name))


def _held(path: Path) -> bytes | dict[str, bytes]:
    """Read a file, or the files of a folder that have a transform each."""
    if path.is_dir():
        names = _names(path)
        if not names:
            raise InputError(
                "holds neither MAT_0000 and so on nor .lta files; give the folder that "
                "has one for each volume"
            )
        return {name: (path / name).read_bytes() for name in names}
    if path.stat().st_size > _MOST_BYTES:
        raise InputError(
            "too large for the linear transforms of a series; give these, not warps"
        )
    return path.read_bytes()


def _bytes(content: bytes | dict[str, bytes]) -> bytes:
    if isinstance(content, dict):
        raise InputError("this is a folder; give the file in it")
    return content


def _text(content: bytes | dict[str, bytes]) -> str:
    try:
        return _bytes(content).decode("utf-8").replace("\r", "\n")
    except UnicodeDecodeError as error:
        raise InputError(
            "not a text file, and not of another format that is read; export it as "
            "ITK's"
        ) from error


def _stack(matrices: npt.NDArray[np.generic]) -> FloatArray:
    """Check the matrices of a series."""
    if matrices.ndim != 3 or matrices.shape[1:] != (4, 4) or not len(matrices):
        raise InputError(
            f"holds an array of shape {matrices.shape}, not (n, 4, 4); save one matrix "
            "for each volume"
        )
    return np.array([checked(matrix) for matrix in matrices])
