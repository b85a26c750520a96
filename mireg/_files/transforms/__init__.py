"""Transform files, as the programs of the field write them.

Other frames than RAS+ mm (LPS, voxels, FSL's and AFNI's own) live here and never leave.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy.typing as npt

from ..._errors import FormatNeededError, InputError, MiregError, not_read, warn
from ..faults import check_there, hushed, in_file
from ..formats import ImageLike
from ..writing import PathLike
from .afni import read_afni, write_afni
from .common import FloatArray, Images, checked, content
from .dicom import read_dicom, write_dicom
from .freesurfer import read_lta, write_lta
from .fsl import read_fsl, write_fsl
from .hdf5 import read_hdf5, write_itk_hdf5, write_x5
from .itk import (
    read_itk_matlab,
    read_itk_text,
    write_itk_matlab,
    write_itk_rigid,
    write_itk_text,
)
from .plain import read_npy, read_rows, write_npy, write_rows
from .record import read_json, write_json


@dataclass(frozen=True, eq=False)
class Format:
    """One kind of transform file.

    Attributes
    ----------
    name : str
        The program or kind; one may have several kinds of file.
    suffixes : tuple of str
        How the names of its files end; the first is the one that mireg gives.
    mark : bytes pattern or None
        What every such file has in its first bytes; None for bare numbers, which
        only the suffix tells apart.
    read : callable
        Turns an open file, with the images at hand, into moving_from_fixed.
    write : callable
        Turns moving_from_fixed, with the images at hand, into the file's content.
    needs_images : str
        "never", "to write" or "always": whether both images must be known.
    """

    name: str
    suffixes: tuple[str, ...]
    mark: re.Pattern[bytes] | None
    read: Callable[[BinaryIO, Images], FloatArray]
    write: Callable[[FloatArray, Images], bytes]
    needs_images: str = "never"


_HDF5 = re.compile(rb"\A\x89HDF\r\n\x1a\n")
_ITK = re.compile(rb"\A#Insight Transform File|^Transform:", re.M)
_LTA = re.compile(rb"^type\s*=.*\n(.*\n)*?^nxforms\s*=", re.M)
_DICOM = re.compile(rb"\A# DICOM: fixed from moving")
_JSON = re.compile(rb"\A\s*[\[{]")
#: The first number of a MATLAB 4 file: byte order and precision, real and full.
_MATLAB = re.compile(rb"\A(\x00|\x0a)\x00\x00\x00|\A\x00\x00(\x03\xe8|\x03\xf2)")

#: Where several would do, the first is meant.
FORMATS = (
    Format("itk", (".tfm", ".txt"), _ITK, read_itk_text, write_itk_text),
    Format("itk", (".h5", ".hdf5"), _HDF5, read_hdf5, write_itk_hdf5),
    Format("itk", (".mat",), _MATLAB, read_itk_matlab, write_itk_matlab),
    Format("itk-rigid", (".rigid.tfm",), _ITK, read_itk_text, write_itk_rigid),
    Format("fsl", (".mat",), None, read_fsl, write_fsl, "always"),
    Format("lta", (".lta",), _LTA, read_lta, write_lta, "to write"),
    Format("afni", (".aff12.1D", ".1D"), None, read_afni, write_afni, "always"),
    Format("x5", (".x5",), _HDF5, read_hdf5, write_x5),
    Format("json", (".json",), _JSON, read_json, write_json),
    Format("dicom", (".dicom.txt",), _DICOM, read_dicom, write_dicom),
    Format("dicom", (".dicom.txt",), None, read_dicom, write_dicom),
    Format("matrix", (".matrix.txt", ".txt"), None, read_rows, write_rows),
    Format("npy", (".npy",), re.compile(rb"\A\x93NUMPY"), read_npy, write_npy),
)

#: What may be asked for.
NAMES = tuple(dict.fromkeys(row.name for row in FORMATS))

#: Other names that people know them by: ANTs writes files of ITK.
_ALSO = {"ants": "itk"}

#: What is said of bare rows, which FLIRT's and DICOM's look like, too.
_READ_AS = (
    "four rows of numbers, read as moving_from_fixed: RAS+ mm, points of fixed to "
    "points of moving; if that is right, let its name end in .matrix.txt, but in .mat "
    "if it is FLIRT's, in .dicom.txt if it is DICOM's"
)

#: How a DICOM file begins, after 128 bytes of anything.
_DICOM_FILE = re.compile(rb"\A[\s\S]{128}DICM")

#: Bytes in which the mark of a file stands.
_HEAD = 4096


def read_matrix(
    path: PathLike,
    *,
    fixed: ImageLike | None = None,
    moving: ImageLike | None = None,
    format: str | None = None,
) -> FloatArray:
    """Read moving_from_fixed, (4, 4), RAS+ mm; see `mireg.read_transform`."""
    return read_with_format(path, Images(fixed, moving), format)[0]


def read_with_format(
    path: PathLike, images: Images, format: str | None = None
) -> tuple[FloatArray, str]:
    """Read moving_from_fixed, as `read_matrix`, and tell the format of the file."""
    with hushed(), in_file(path), _opened(Path(path)) as file:
        row = _recognised(path, file.read(_HEAD), format)
        file.seek(0)
        matrix = checked(row.read(file, images))
    if format is None and row.name == "matrix" and not _says_matrix(path):
        warn(f"{path}: {_READ_AS}")
    return matrix, row.name


def format_to_read(path: PathLike, name: str | None = None) -> Format:
    """Find the format of a file by its content, and by its suffix."""
    with hushed(), in_file(path), _opened(Path(path)) as file:
        return _recognised(path, file.read(_HEAD), name)


def _says_matrix(path: PathLike) -> bool:
    return str(path).lower().endswith(".matrix.txt")


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """Open a file; what cannot be read twice, as a pipe, is kept in memory."""
    try:
        check_there(path)
        if path.is_dir():
            raise InputError("this is a folder; give the file in it")
        with path.open("rb") as file:
            yield file if path.is_file() else BytesIO(content(file))
    except MiregError:  # that a file is missing is an OSError, too
        raise
    except OSError as error:
        raise InputError(not_read(error)) from error
    except Exception as error:  # each reader fails in its own way
        raise InputError(
            "cannot be read as a transform; it is damaged: copy or export it again"
        ) from error


def transform_bytes(
    path: PathLike,
    moving_from_fixed: npt.ArrayLike,
    *,
    fixed: ImageLike | None = None,
    moving: ImageLike | None = None,
    format: str | None = None,
) -> bytes:
    """Make the content of a transform file; see `mireg.write_transform`."""
    with in_file(path):
        matrix = checked(moving_from_fixed)
        return format_to_write(path, format).write(matrix, Images(fixed, moving))


def format_to_write(path: PathLike, name: str | None = None) -> Format:
    """Find the format of a file to write, by name or else by suffix."""
    rows = _named(name)
    suited = _suited(path, rows)
    if name is not None:
        return (suited or rows)[0]
    if not suited:
        raise FormatNeededError(
            f"its suffix does not tell the format of a transform; say which of "
            f"{', '.join(NAMES)} is meant"
        )
    if {row.name for row in suited} >= {"itk", "fsl"}:
        raise FormatNeededError(
            "a .mat file can be ITK's or FSL's; say which, itk or fsl"
        )
    return suited[0]


def format_name(name: str) -> str:
    """Give mireg's own name of a format: "ants" is "itk"."""
    return _named(name)[0].name


def suffix_of(name: str) -> str:
    """Give the suffix that mireg gives to files of a format."""
    return _named(name)[0].suffixes[0]


def _recognised(path: PathLike, head: bytes, name: str | None) -> Format:
    """Find the format of a file that begins with `head`."""
    rows = _named(name)
    if _DICOM_FILE.match(head):
        raise InputError(
            "a DICOM file, which is not read; write the four rows of its Frame of "
            "Reference Transformation Matrix (3006,00C6) into a text file that ends in "
            ".dicom.txt: mireg guide radiotherapy says how"
        )
    marked = [row for row in rows if row.mark and row.mark.search(head)]
    bare = [row for row in rows if row.mark is None]
    suited = _suited(path, bare)
    found = _suited(path, marked) or marked or suited or (bare if name else [])
    if not found and name:
        raise InputError(
            f"not recognised as a transform of the format {name}; leave the format "
            "out, or give such a file"
        )
    if not found:
        raise InputError(
            f"not recognised as a transform; give one of the formats "
            f"{', '.join(NAMES)}, where bare numbers are told by their suffix"
        )
    return found[0]


def _named(name: str | None) -> list[Format]:
    """Rows of the table with a name, or all."""
    name = _ALSO.get(name or "", name)
    if name is not None and name not in NAMES:
        raise InputError(
            f"{name!r} is not a known format; choose one of {', '.join(NAMES)}"
        )
    return [row for row in FORMATS if name in (None, row.name)]


def _suited(path: PathLike, rows: list[Format]) -> list[Format]:
    """Rows with the longest suffix that the path ends with, in the table's order."""
    lower = str(path).lower()
    fits = {
        row: max(len(s) for s in row.suffixes if lower.endswith(s.lower()))
        for row in rows
        if lower.endswith(tuple(s.lower() for s in row.suffixes))
    }
    return [row for row in fits if fits[row] == max(fits.values())]
