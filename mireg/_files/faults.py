# nibabel has no types:
# mypy: disallow-untyped-calls=False
"""What can be wrong with an image file, each in one line that says what to do."""

from __future__ import annotations

import errno
import logging
import math
import os
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from glob import escape
from itertools import islice
from pathlib import Path
from shlex import quote
from typing import Any
from zipfile import is_zipfile

import nibabel as nib
import numpy as np

from .._errors import InputError, MiregError, MissingFileError, not_read
from .._image import Image
from .headers import SAME_PLACE_MM, notes_of, qform_distance_mm
from .writing import PathLike

try:
    from isal.igzip import IGzipFile as GzipFile
except ImportError:  # not made for this processor
    from gzip import GzipFile

#: Who warns of what a file holds: nibabel, numpy, and Python, which reads the header of
#: .npy files as a program.
_OTHERS = r"nibabel\.|numpy\.|<unknown>"

#: Ends of the names of files that are compressed by gzip.
GZIPPED = (".gz", ".mgz")

#: Ends of those that nibabel alone unpacks.
OTHER_ZIPPED = (".bz2", ".zst")

#: Images that ITK reads and nibabel does not.
_OF_ITK = (".nrrd", ".nhdr", ".mha", ".mhd", ".gipl", ".gipl.gz")

#: The other file of the formats that keep the header apart from the voxels.
_HEADERS = {".img": ".hdr", ".rec": ".PAR", ".brik": ".HEAD"}

#: No file of gzip holds more than this many bytes for each of its own.
_MOST_GZIP_SHRINKS = 1032

#: What nibabel opens but has no voxels.
_NO_VOLUMES = {"GiftiImage": "a GIFTI surface", "Cifti2Image": "a CIFTI file"}

#: Whether this thread reads an image, so that nibabel's log is of no use.
_READING: ContextVar[bool] = ContextVar("_READING", default=False)
logging.getLogger("nibabel.global").addFilter(lambda _: not _READING.get())

#: How many files are named that may have been meant.
_MOST_NAMED = 3

#: How many files of a folder are looked at before it counts as no DICOM folder.
_LOOK_AT = 50


# --- files ---------------------------------------------------------------------


def check_openable(path: Path) -> None:
    """Refuse what is no file, or no whole image."""
    if path.is_dir():
        if any(_is_dicom(file) for file in islice(path.rglob("*"), _LOOK_AT)):
            raise InputError(
                "this is a folder of DICOM files; make NIfTI of them first: "
                f"dcm2niix -z y -o . {quote(str(path))}"
            )
        raise InputError("this is a folder; give the image file in it")
    check_there(path)
    if not path.is_file():
        raise InputError("this is a pipe or a device; save the image to a file first")
    header = path.with_suffix(_HEADERS.get(path.suffix.lower(), path.suffix))
    if not (header.exists() or header.with_suffix(header.suffix.swapcase()).exists()):
        raise MissingFileError(
            f"holds voxels only; its header {header} is missing; put it beside them"
        )


def check_there(path: Path) -> None:
    """Refuse a file that is not there, and a link that leads nowhere."""
    with suppress(FileNotFoundError, ValueError):  # there may be a null in the name
        path.stat()
        return
    if path.is_symlink():
        raise MissingFileError(
            f"a link whose target, {path.readlink()}, is missing; put it there, or in "
            f"a DataLad data set: datalad get {quote(str(path))}"
        )
    if str(path).startswith("~"):
        raise MissingFileError(
            "there is no such file; in quotes and behind = shells leave ~ as it is: "
            "write $HOME"
        )
    longer: list[str] = []
    with suppress(OSError, ValueError):  # FSL's users leave .nii.gz out
        found = path.parent.glob(f"{escape(path.name)}.*") if path.name else ()
        longer = sorted(map(str, found))[:_MOST_NAMED]
    what = f"give {' or '.join(longer)}" if longer else "check the path"
    raise MissingFileError(f"there is no such file; {what}")


def _is_dicom(path: Path) -> bool:
    """Tell whether a file is a DICOM one, by its mark or else its name."""
    if not path.is_file():
        return False
    with suppress(OSError), path.open("rb") as file:
        if file.read(132)[128:] == b"DICM":
            return True
    return path.suffix.lower() in (".dcm", ".ima")


def unreadable(path: Path, error: Exception) -> str:
    """Say why a file could not be opened as an image, and what to do."""
    suffix = _nifti_suffix(path)
    if isinstance(error, MemoryError):
        why = (
            "its header asks for more memory than there is; it is likely to be "
            "damaged: copy or export it again"
        )
    elif isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
        why = not_read(error)
    elif _is_dicom(path):
        why = (
            "a DICOM file; make NIfTI of the folder that it is in: "
            f"dcm2niix -z y -o . {quote(str(path.parent))}"
        )
    elif is_zipfile(path):
        why = "an archive (zip); unpack it, and give an image that was in it"
    elif path.name.lower().endswith(_OF_ITK):
        why = (
            "nibabel does not read files of this kind; make NIfTI of it: "
            "pip install SimpleITK; python -c 'import sys, SimpleITK as s; "
            "s.WriteImage(s.ReadImage(sys.argv[1]), sys.argv[2])' "
            f"{quote(str(path))} {quote(path.name.partition('.')[0] + '.nii.gz')}"
        )
    elif suffix is not None and not path.name.lower().endswith(suffix):
        why = (
            f"a NIfTI file, but its name does not say so; rename it to end in {suffix}"
        )
    elif isinstance(error, nib.filebasedimages.ImageFileError):
        why = (
            f"cannot be read as an image ({_one_line(error)}); "
            "give a NIfTI, Analyze, MGH, MINC, PAR/REC or AFNI file"
        )
    else:
        why = (
            f"cannot be read as an image ({_one_line(error)}); its header is damaged: "
            "copy or export it again"
        )
    return f"{path}: {why}"


def _nifti_suffix(path: Path) -> str | None:
    """Tell how the name of a single-file NIfTI should end, by its content."""
    with suppress(Exception):  # damage, which each library tells in its own way
        with path.open("rb") as file:
            start = file.read(348)
        zipped = start[:2] == b"\x1f\x8b"
        if zipped:
            with GzipFile(path, "rb") as file:
                start = file.read(348)
        if start[344:347] == b"n+1" or start[4:7] == b"n+2":
            return ".nii.gz" if zipped else ".nii"
    return None


def most_in(path: PathLike) -> int:
    """Tell how many bytes a file can hold, once it is unpacked."""
    size = Path(path).stat().st_size
    if str(path).lower().endswith(GZIPPED):
        return size * _MOST_GZIP_SHRINKS
    return sys.maxsize if str(path).lower().endswith(OTHER_ZIPPED) else size


def check_length(opened: Any) -> None:
    """Refuse a file that is too short for what its header says."""
    proxy = opened.dataobj
    if type(proxy) is not nib.arrayproxy.ArrayProxy:
        return
    if not isinstance(proxy.file_like, str | os.PathLike):  # a file that is open
        return
    with suppress(FileNotFoundError):  # told when it is read
        said = proxy.offset + math.prod(map(int, proxy.shape)) * proxy.dtype.itemsize
        if said > most_in(proxy.file_like):
            raise InputError(
                "there are fewer voxels than the header says; the file is damaged or "
                "cut short: copy it again"
            )


# --- what is in them -----------------------------------------------------------


def no_volume(opened: Any) -> InputError:
    """Say what something that nibabel opens is, if it is no volume."""
    name = type(opened).__name__
    return InputError(
        f"{_NO_VOLUMES.get(name, name)}, not a volume of voxels; "
        "give the image that it was made from"
    )


def check_kind(opened: Any) -> None:
    """Refuse what is not a real image of 3 or 4 dimensions."""
    dtype = np.dtype(opened.get_data_dtype())
    if dtype.kind == "V":
        raise InputError("a colour (RGB) image; convert it to one grey-scale channel")
    if dtype.kind == "c":
        raise InputError("a complex image; save its magnitude first")
    if dtype.kind not in "fiub":
        raise InputError(f"holds {dtype} values, not numbers; convert them")
    shape = tuple(int(n) for n in opened.shape)
    if not shape or min(shape) < 1:
        raise InputError(
            f"the image is empty, its shape is {shape}; give one that has voxels"
        )
    if len(shape) < 3:
        raise InputError(
            f"a {len(shape)}-D image of shape {shape}; "
            "3 dimensions are needed: stack the slices into a volume"
        )
    if len(shape) > 4 and math.prod(shape[4:]) > 1:
        raise InputError(
            f"a {len(shape)}-D image of shape {shape}; give one with 3 or 4 dimensions"
        )
    volumes_last = (
        type(opened) is nib.spatialimages.SpatialImage  # an array with an affine
        or nib.imageclasses.spatial_axes_first(opened)
    )
    if math.prod(shape[3:]) > 1 and not volumes_last:
        raise InputError(
            "a 4-D image whose first axis is that of its volumes; convert it to NIfTI"
        )
    if opened.affine is None:
        raise InputError(
            "the image has no affine; give the matrix from voxel indices to RAS+ mm"
        )


def useless(image: Image) -> str | None:
    """Tell why an image cannot be registered, whatever the other is."""
    low, high = np.fmin.reduce(image.voxels, None), np.fmax.reduce(image.voxels, None)
    if np.isnan(low):
        return "every voxel is NaN or infinite; check the image"
    if low == high:
        return (
            f"the image is constant, every voxel is {low + 0.0:g}; check it, as "
            "nothing in it can be registered"
        )
    return None


def oddities(opened: Any, name: str) -> list[str]:
    """Say where the header leaves in doubt where the voxels are."""
    notes = [f"{name}: {note}" for note in notes_of(opened)]
    if isinstance(opened, nib.Nifti1Pair):
        header = opened.header
        codes = int(header["sform_code"]), int(header["qform_code"])
        if codes == (0, 0) and opened.get_filename() is not None:
            notes.append(
                f"{name}: the header does not say where the image is (qform and "
                "sform codes are 0); taken as centred, with x to the left: check left "
                "and right"
            )
        distance = qform_distance_mm(opened)
        if distance is not None and math.isnan(distance):
            notes.append(f"{name}: the qform is not a rotation; the sform is used")
        elif distance is not None and distance > SAME_PLACE_MM:
            notes.append(
                f"{name}: qform and sform place the image up to "
                f"{distance:.3g} mm apart; the sform is used"
            )
    elif isinstance(opened, nib.AnalyzeImage):
        notes.append(
            f"{name}: an Analyze file does not say which side is left; "
            "taken as nibabel does: check left and right"
        )
    elif _is_minc_without_directions(opened):
        notes.append(
            f"{name}: the header does not say where its axes point (there are no "
            "direction_cosines); taken as right, front and top: check left and right"
        )
    elif _is_mgh_without_place(opened):
        notes.append(
            f"{name}: the header does not say where the image is (goodRASFlag is 0); "
            "taken as coronal slices, centred: check left and right"
        )
    return notes


def _is_minc_without_directions(opened: Any) -> bool:
    """Tell whether nibabel chose where the axes of a MINC image point."""
    if not isinstance(opened, nib.Minc1Image | nib.Minc2Image):
        return False
    dimensions = getattr(getattr(opened.dataobj, "minc_file", None), "_dims", ())
    return not all(hasattr(one, "direction_cosines") for one in dimensions)


def _is_mgh_without_place(opened: Any) -> bool:
    """Tell whether nibabel chose where an MGH image is."""
    if not isinstance(opened, nib.MGHImage) or opened.get_filename() is None:
        return False
    with (
        suppress(OSError),  # it may be gone since
        opened.file_map["image"].get_prepare_fileobj("rb") as file,
    ):
        return bool(file.read(30)[28:] == b"\0\0")
    return False


# --- one gate for errors -------------------------------------------------------


def name_of(opened: Any, other: str | None = None) -> str:
    """Path of a nibabel image, or else another name, for messages."""
    return str(opened.get_filename() or other or "the image")


@contextmanager
def in_file(name: PathLike) -> Iterator[None]:
    """Put the file's name before what is wrong with it."""
    try:
        yield
    except InputError as error:
        raise type(error)(f"{name}: {error}") from error


@contextmanager
def hushed() -> Iterator[None]:
    """Let nibabel and numpy be silent: what matters is told in our own words."""
    token = _READING.set(True)
    try:
        with np.errstate(all="ignore"), ExitStack() as stack:
            # Filters are of the whole process: another thread would upset them.
            if threading.current_thread() is threading.main_thread():
                stack.enter_context(warnings.catch_warnings())
                warnings.filterwarnings("ignore", module=_OTHERS)
            yield
    finally:
        _READING.reset(token)


@contextmanager
def reading_voxels(name: str) -> Iterator[None]:
    """Say in one line what goes wrong while voxels are read."""
    try:
        with hushed():
            yield
    except MiregError:
        raise
    except MemoryError as error:
        raise InputError(
            f"{name}: there is not enough memory for its voxels; free some, or give a "
            "smaller image"
        ) from error
    except FileNotFoundError as error:  # of a format of two files
        raise MissingFileError(
            f"{name}: the voxels are in {error.filename}, which is missing; put it "
            "beside the header"
        ) from error
    except Exception as error:  # zlib, gzip, OSError, ValueError: all mean damage
        raise InputError(
            f"{name}: the voxels cannot be read ({_one_line(error)}); "
            "the file is damaged or cut short: copy it again"
        ) from error


def _one_line(error: BaseException) -> str:
    """First line of an error's message."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
