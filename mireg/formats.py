# nibabel has no types:
# mypy: disallow-untyped-calls=False
"""Image files, through nibabel; and how every file is written."""

from __future__ import annotations

import hashlib
import math
import os
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BytesIO
from itertools import chain, islice
from pathlib import Path
from shlex import quote
from typing import Any, BinaryIO

import nibabel as nib
import numpy as np
import numpy.typing as npt

from .errors import InputError, MiregWarning
from .image import Image, Source, VolumeChoice
from .threads import available

try:
    from isal import igzip_threaded
    from isal.igzip import IGzipFile as GzipFile
except ImportError:  # not made for this processor
    igzip_threaded = None
    from gzip import GzipFile

Volume = npt.NDArray[np.float32]
PathLike = str | os.PathLike[str]

#: What stands for an image: a file, a nibabel or SimpleITK image, or voxels with the
#: (4, 4) matrix mm_from_ijk. (Any: neither library has types.)
ImageLike = Image | PathLike | tuple[npt.ArrayLike, npt.ArrayLike] | Any

#: Code of AFNI's NIfTI extension.
_AFNI = 4

#: Headers that place a corner of the image further apart than this differ.
_SAME_PLACE_MM = 0.1

#: Images that ITK reads and nibabel does not.
_OF_ITK = (".nrrd", ".nhdr", ".mha", ".mhd", ".gipl", ".gipl.gz")

#: The other file of the formats that keep the header apart from the voxels.
_HEADERS = {".img": ".hdr", ".rec": ".PAR", ".brik": ".HEAD"}

#: Ends of the names of files that are compressed by gzip.
_GZIPPED = (".gz", ".mgz")

#: How many voxels of a compressed file are read at once.
_READ_AT_ONCE = 2**18

#: Most threads that compress one file.
_MOST_COMPRESSING = 8

#: How many files of a folder are looked at before it counts as no DICOM folder.
_LOOK_AT = 50


# --- reading images ---------------------------------------------------------


def open_nibabel(path: PathLike) -> Any:
    """Open an image file that nibabel reads, and check what it is.

    Only the header is read: damage to the voxels shows when they are.

    Returns
    -------
    nibabel image
        With 3 or 4 dimensions and real intensities.

    Raises
    ------
    InputError
        If there is no such file, it is not an image, or it is 2-D, complex,
        RGB or empty.
    """
    path = Path(path)
    if path.is_dir():
        if any(_is_dicom(file) for file in islice(path.rglob("*"), _LOOK_AT)):
            raise InputError(
                f"{path}: a folder of DICOM files; make NIfTI of them first: "
                f"dcm2niix -z y -o . {quote(str(path))}"
            )
        raise InputError(f"{path}: this is a folder; give the image file in it")
    if not path.exists():
        raise InputError(f"{path}: there is no such file; check the path")
    try:
        opened = nib.load(path)
    except Exception as error:  # each reader of nibabel fails in its own way
        if _is_dicom(path):
            raise InputError(
                f"{path}: a DICOM file; make NIfTI of the folder that it is in: "
                f"dcm2niix -z y -o . {quote(str(path.parent))}"
            ) from error
        if path.name.lower().endswith(_OF_ITK):
            raise InputError(
                f"{path}: nibabel does not read files of this kind; make NIfTI of it: "
                "pip install SimpleITK; python -c 'import sys, SimpleITK as s; "
                "s.WriteImage(s.ReadImage(sys.argv[1]), sys.argv[2])' "
                f"{quote(str(path))} {quote(path.name.partition('.')[0] + '.nii.gz')}"
            ) from error
        header = path.with_suffix(_HEADERS.get(path.suffix.lower(), path.suffix))
        if not header.exists():
            raise InputError(
                f"{path}: holds voxels only; its header {header} is missing"
            ) from error
        raise InputError(
            f"{path}: cannot be read as an image ({_one_line(error)}); "
            "give a NIfTI, Analyze, MGH, MINC, PAR/REC or AFNI file"
        ) from error
    _check_kind(opened, str(path))
    return opened


def read_image(path: PathLike, volume: VolumeChoice | None = None) -> Image:
    """Read one scan from a file that nibabel reads.

    Parameters
    ----------
    path : str or path
        NIfTI-1/2, Analyze, MGH/MGZ, MINC, PAR/REC or AFNI.
    volume : int, "mean" or "median", optional
        Which volume of a 4-D image, 0 being the first. By default the only one,
        or else the mean of all, with a `MiregWarning`.

    Returns
    -------
    Image
        Intensities with the file's scaling applied; NaN where there is no data.

    Raises
    ------
    InputError
        If the file cannot be read whole, holds no real 3-D or 4-D image, all its
        voxels are equal, or there is no such volume.

    Warns
    -----
    MiregWarning
        If the header is odd: qform and sform differ, or neither is set.
    """
    return from_nibabel(open_nibabel(path), volume)


def from_nibabel(
    opened: Any, volume: VolumeChoice | None = None, name: str | None = None
) -> Image:
    """Take one scan from a nibabel image; see `read_image`.

    `name` is what messages call it (default: the file's name).

    Examples
    --------
    >>> import nibabel as nib
    >>> import numpy as np
    >>> ramp = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    >>> from_nibabel(nib.Nifti1Image(ramp, np.eye(4))).data[1, 2, 3]
    np.float32(23.0)
    """
    image = _useful(opened, volume, name)
    warn(image)
    return image


def read_quietly(path: PathLike, volume: VolumeChoice | None = None) -> Image:
    """Read one scan as `read_image` does, but leave it to `warn` to warn.

    For threads: the order of the warnings is then up to who waits for them.
    """
    return _useful(open_nibabel(path), volume)


def _useful(
    opened: Any, volume: VolumeChoice | None = None, name: str | None = None
) -> Image:
    """Take one scan from a nibabel image; refuse one that cannot be registered."""
    image = take_volume(opened, volume, name)
    why = useless(image)
    if why is not None:
        raise InputError(f"{name or _name(opened)}: {why}")
    return image


def useless(image: Image) -> str | None:
    """Tell why an image cannot be registered, whatever the other is."""
    low, high = np.fmin.reduce(image.data, None), np.fmax.reduce(image.data, None)
    if np.isnan(low):
        return "every voxel is NaN or infinite; check the file"
    if low == high:
        return (
            f"the image is constant, every voxel is {low:g}; "
            "nothing in it can be registered"
        )
    return None


def as_image(
    given: ImageLike, volume: VolumeChoice | None = None, name: str | None = None
) -> Image:
    """Take one scan from whatever stands for it.

    Parameters
    ----------
    given : Image, path, nibabel image, SimpleITK image, or (voxels, mm_from_ijk)
        An `Image` is returned as it is. `mm_from_ijk` maps voxel indices to RAS+ mm,
        as nibabel's affines do.
    volume : int, "mean" or "median", optional
        Which volume of a 4-D image; see `read_image`.
    name : str, optional
        What messages call it, if it is no file.

    Raises
    ------
    InputError
        If it is something else, or `read_image` would refuse it.

    Examples
    --------
    >>> voxels = np.arange(24).reshape(2, 3, 4)
    >>> as_image((voxels, np.diag([1, 1, 2.5, 1]))).voxel_size_mm
    array([1. , 1. , 2.5])
    """
    if isinstance(given, Image):
        return given
    opened = _as_nibabel(given)
    return from_nibabel(opened, volume, _name(opened, name))


def as_mask(given: ImageLike | None, name: str | None = None) -> Image | None:
    """Take a mask from whatever stands for it; see `as_image` and `read_mask`."""
    if given is None or isinstance(given, Image):
        return given
    opened = _as_nibabel(given)
    name = _name(opened, name)
    mask = take_volume(opened, None, name)
    if not (mask.data > 0.5).any():
        raise InputError(f"{name}: the mask is empty, no voxel is above 0.5")
    warn(mask)
    return mask


def read_mask(path: PathLike) -> Image:
    """Read a mask: voxels above 0.5 are in it. Any grid; refuses an empty one."""
    mask = as_mask(path)
    assert mask is not None
    return mask


def _as_nibabel(given: ImageLike) -> Any:
    """Open a file, or put voxels of another library under a nibabel header."""
    if isinstance(given, str | os.PathLike):
        return open_nibabel(given)
    if isinstance(given, nib.spatialimages.SpatialImage):
        return given
    if type(given).__module__.partition(".")[0] == "SimpleITK":
        given = _from_simpleitk(given)
    if not isinstance(given, tuple | list) or len(given) != 2:
        raise InputError(
            f"an image cannot be made of a {type(given).__name__}; give a path, a "
            "nibabel or SimpleITK image, (array, affine) or a mireg.Image"
        )
    voxels, mm_from_ijk = np.asarray(given[0]), np.asarray(given[1])
    if mm_from_ijk.shape != (4, 4):
        raise InputError(f"the affine has shape {mm_from_ijk.shape}, not (4, 4)")
    return nib.spatialimages.SpatialImage(voxels, mm_from_ijk)


def _from_simpleitk(scan: Any) -> tuple[npt.NDArray[Any], npt.NDArray[np.float64]]:
    """Voxels and mm_from_ijk of a SimpleITK image, whose world is LPS+ mm."""
    # Whoever has such an image has the library.
    from SimpleITK import GetArrayFromImage  # noqa: PLC0415

    if scan.GetNumberOfComponentsPerPixel() > 1:
        raise InputError("the image has several values a voxel; choose one channel")
    n = scan.GetDimension()
    m = min(n, 3)
    steps = np.reshape(scan.GetDirection(), (n, n)) * scan.GetSpacing()
    lps_from_ijk = np.eye(4)
    lps_from_ijk[:m, :m] = steps[:m, :m]
    lps_from_ijk[:m, 3] = scan.GetOrigin()[:m]
    voxels = GetArrayFromImage(scan)
    return voxels.T, np.diag([-1.0, -1.0, 1.0, 1.0]) @ lps_from_ijk


def read_grid(path: PathLike) -> Image:
    """Read where the voxels of a file are; its intensities are not read."""
    return grid_of(open_nibabel(path))


def grid_of(opened: Any) -> Image:
    """Tell where the voxels of a nibabel image are."""
    nothing = np.broadcast_to(np.float32(np.nan), opened.shape[:3])
    with in_file(_name(opened)):
        return Image(nothing, opened.affine)


def read_volumes(opened: Any, *, exact: bool = False) -> Iterator[Image]:
    """Yield each volume of a nibabel image, as it lies in the file.

    With `exact`, whole numbers that float32 would round are refused: labels.
    """
    name = _name(opened)
    raw, slope, inter = _stored(opened, name)
    if exact and raw.dtype.kind in "iu" and raw.dtype.itemsize > 2:
        largest = max(abs(int(raw.min())), int(raw.max()))
        if largest > 2**24:
            raise InputError(
                f"{name}: holds the number {largest}, and numbers beyond {2**24} "
                "would be rounded; renumber the labels"
            )
    for t in range(raw.shape[3]):
        with in_file(name):
            yield Image(_scaled(raw[..., t], slope, inter), opened.affine)


def n_volumes(opened: Any) -> int:
    """Tell how many volumes a nibabel image has."""
    return int(math.prod(opened.shape[3:]))


def sha256(path: PathLike) -> str:
    """Compute the SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _is_dicom(path: Path) -> bool:
    """Tell whether a file is a DICOM one, by its mark or else its name."""
    if not path.is_file():
        return False
    with suppress(OSError), path.open("rb") as file:
        if file.read(132)[128:] == b"DICM":
            return True
    return path.suffix.lower() in (".dcm", ".ima")


def _one_line(error: BaseException) -> str:
    """First line of an error's message."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _name(opened: Any, other: str | None = None) -> str:
    """Path of a nibabel image, or else another name, for messages."""
    return str(opened.get_filename() or other or "the image")


@contextmanager
def in_file(name: PathLike) -> Iterator[None]:
    """Put the file's name before what is wrong with it."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{name}: {error}") from error


def _check_kind(opened: Any, name: str) -> None:
    """Refuse what is not a real image of 3 or 4 dimensions."""
    dtype = np.dtype(opened.get_data_dtype())
    if dtype.kind == "V":
        raise InputError(
            f"{name}: a colour (RGB) image; convert it to one grey-scale channel"
        )
    if dtype.kind == "c":
        raise InputError(f"{name}: a complex image; save its magnitude first")
    shape = tuple(int(n) for n in opened.shape)
    if 0 in shape or not shape:
        raise InputError(f"{name}: the image is empty, its shape is {shape}")
    if len(shape) < 3:
        raise InputError(
            f"{name}: a {len(shape)}-D image of shape {shape}; "
            "3 dimensions are needed: stack the slices into a volume"
        )
    if len(shape) > 4 and math.prod(shape[4:]) > 1:
        raise InputError(
            f"{name}: a {len(shape)}-D image of shape {shape}; "
            "give one with 3 or 4 dimensions"
        )
    volumes_last = (
        type(opened) is nib.spatialimages.SpatialImage  # an array with an affine
        or nib.imageclasses.spatial_axes_first(opened)
    )
    if math.prod(shape[3:]) > 1 and not volumes_last:
        raise InputError(
            f"{name}: a 4-D image whose volumes lie first; convert it to NIfTI"
        )
    if opened.affine is None:
        raise InputError(f"{name}: the image has no affine; say where its voxels are")


def take_volume(
    opened: Any, volume: VolumeChoice | None = None, name: str | None = None
) -> Image:
    """Take one volume, or the mean or median of all, without a look at the voxels."""
    name = name or _name(opened)
    _check_kind(opened, name)
    n = n_volumes(opened)
    if isinstance(volume, int) and not 0 <= volume < n:
        only = "only volume 0" if n == 1 else f"volumes 0 to {n - 1}"
        raise InputError(f"{name}: there is no volume {volume}; it has {only}")
    notes = _oddities(opened, name)
    if volume is None and n > 1:
        notes.append(f"{name}: has {n} volumes; their mean is used")
    # Converted while it is read, the only volume needs less memory and time.
    raw, slope, inter = _stored(opened, name, single=n == 1)
    if n == 1:
        data = _scaled(raw[..., 0], slope, inter, copy=False)
    elif isinstance(volume, int):
        data = _scaled(raw[..., volume], slope, inter)
    elif volume == "median":
        data = np.empty(raw.shape[:3], np.float32, order="F")
        for k in range(raw.shape[2]):  # by slices, to keep memory small
            data[:, :, k] = np.median(_scaled(raw[:, :, k], slope, inter), axis=-1)
    elif volume in (None, "mean"):
        total = np.zeros(raw.shape[:3], order="F")
        for t in range(n):
            total += _scaled(raw[..., t], slope, inter)
        data = (total / n).astype(np.float32)
    else:
        raise InputError(f'volume is {volume!r}; give a number, "mean" or "median"')
    taken = None if n == 1 else volume if volume is not None else "mean"
    with in_file(name):
        return Image(data, opened.affine, Source(opened, taken, tuple(notes)))


def _stored(
    opened: Any, name: str, *, single: bool = False
) -> tuple[npt.NDArray[Any], float, float]:
    """Voxels as stored, shape (nx, ny, nz, n), and what turns them into intensities.

    With `single` they are a copy, float32 unless that is too coarse for `_scaled`.
    """
    proxy = opened.dataobj
    slope, inter = _scaling(opened)
    plain = type(proxy) is nib.arrayproxy.ArrayProxy
    single &= not (plain and _needs_double(proxy.dtype, slope, inter))
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            if plain and str(proxy.file_like).lower().endswith(_GZIPPED):
                raw = _unzipped(proxy, np.float32 if single else proxy.dtype)
            else:
                raw = np.asanyarray(proxy.get_unscaled() if plain else proxy)
                raw = raw.astype(np.float32, order="K") if single else raw
    except FileNotFoundError as error:  # of a format of two files
        raise InputError(
            f"{name}: the voxels are in {error.filename}, which is missing"
        ) from error
    except Exception as error:  # zlib, gzip, OSError, ValueError: all mean damage
        raise InputError(
            f"{name}: the voxels cannot be read ({_one_line(error)}); "
            "the file is damaged or cut short: copy it again"
        ) from error
    return raw.reshape(*raw.shape[:3], -1, order="F"), slope, inter


def _scaling(opened: Any) -> tuple[float, float]:
    """Slope and intercept that turn all stored values into intensities."""
    proxy = opened.dataobj
    if type(proxy) is nib.arrayproxy.ArrayProxy:
        return float(proxy.slope), float(proxy.inter)
    return 1.0, 0.0  # none, or applied by the reader


def _unzipped(proxy: Any, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Read stored numbers from a gzip file as `dtype`, and check its checksum."""
    values = np.empty(proxy.shape, dtype, order=proxy.order)
    flat = values.ravel(order="K")
    part = np.empty(min(flat.size, _READ_AT_ONCE), proxy.dtype)
    with GzipFile(proxy.file_like, "rb") as file:
        file.seek(proxy.offset)
        for start in range(0, flat.size, len(part)):
            numbers = part[: flat.size - start]
            if file.readinto(numbers.view(np.uint8)) < numbers.nbytes:
                raise EOFError("there are fewer voxels than the header says")
            flat[start : start + len(numbers)] = numbers
        file.read(1)  # the checksum comes after the voxels
    return values


def _needs_double(dtype: np.dtype[Any], slope: float, inter: float) -> bool:
    """Tell whether float32 is too coarse for stored values that are to be scaled."""
    return dtype.kind in "iu" and dtype.itemsize > 2 and (slope, inter) != (1, 0)


def _scaled(
    raw: npt.NDArray[Any], slope: float, inter: float, *, copy: bool = True
) -> Volume:
    """Turn stored values into intensities; float32 where that is exact enough.

    Without `copy` they may share memory.
    """
    if _needs_double(raw.dtype, slope, inter):
        return (raw * slope + inter).astype(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        data = raw.astype(np.float32, order="K", copy=copy)
        if slope != 1:
            data *= np.float32(slope)
        if inter != 0:
            data += np.float32(inter)
    return data


def warn(image: Image) -> None:
    """Say what was odd about a file that was read."""
    assert image.source is not None
    for note in image.source.notes:
        warnings.warn(note, MiregWarning, stacklevel=4)


def qform_distance_mm(opened: Any) -> float | None:
    """Tell how far apart qform and sform place a corner of the image, at most.

    None unless both are set; NaN if the qform is not a rotation.
    """
    if not isinstance(opened, nib.Nifti1Pair):
        return None
    header = opened.header
    if int(header["sform_code"]) <= 0 or int(header["qform_code"]) <= 0:
        return None
    try:
        qform = header.get_qform()
    except (ValueError, nib.spatialimages.HeaderDataError):
        return math.nan
    corners = np.indices((2, 2, 2)).reshape(3, 8).T
    corners = corners * (np.array(opened.shape[:3]) - 1)
    there = nib.affines.apply_affine(opened.affine, corners)
    apart = nib.affines.apply_affine(qform, corners) - there
    return float(np.linalg.norm(apart, axis=1).max())


def _oddities(opened: Any, name: str) -> list[str]:
    """Say where the header leaves in doubt where the voxels are."""
    notes = []
    if isinstance(opened, nib.Nifti1Pair):
        header = opened.header
        codes = int(header["sform_code"]), int(header["qform_code"])
        if codes == (0, 0) and opened.get_filename() is not None:
            notes.append(
                f"{name}: the header does not say where the image is (qform and "
                "sform codes are 0); centred, with x to the left, by voxel size"
            )
        distance = qform_distance_mm(opened)
        if distance is not None and math.isnan(distance):
            notes.append(f"{name}: the qform is not a rotation; the sform is used")
        elif distance is not None and distance > _SAME_PLACE_MM:
            notes.append(
                f"{name}: qform and sform place the image up to "
                f"{distance:.3g} mm apart; the sform is used"
            )
        unit = header.get_xyzt_units()[0]
        if unit in ("meter", "micron"):
            notes.append(
                f"{name}: the header counts lengths in {unit}s; they are taken as mm, "
                "as other programs do"
            )
    elif isinstance(opened, nib.AnalyzeImage):
        notes.append(
            f"{name}: an Analyze file does not say which side is left; "
            "nibabel's reading is used, check left and right"
        )
    return notes


# --- writing ----------------------------------------------------------------


def check_new(path: PathLike, *, force: bool = False) -> None:
    """Refuse a file that cannot be written: taken, or its folder is missing."""
    path = Path(path)
    if not path.parent.is_dir():
        raise InputError(f"{path.parent}: there is no such folder; make it first")
    if path.is_dir():
        raise InputError(f"{path}: this is a folder; give a file name")
    if path.exists() and not force:
        raise InputError(f"{path}: exists already; choose another name or --force")


@contextmanager
def new_file(path: PathLike, *, force: bool = False) -> Iterator[BinaryIO]:
    """Open a file that appears under its name only when whole.

    It is written under a temporary name in the same folder, and moved when the
    ``with`` block ends well; otherwise nothing is left.

    Raises
    ------
    InputError
        If the file exists and not `force`, or cannot be made.
    """
    path = Path(path)
    check_new(path, force=force)
    hidden = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        file = hidden.open("xb")
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from error
    try:
        with file:
            yield file
        hidden.replace(path)
    except OSError as error:
        hidden.unlink(missing_ok=True)
        raise InputError(f"{path}: cannot be written ({error.strerror})") from error
    except BaseException:  # Ctrl-C too
        hidden.unlink(missing_ok=True)
        raise


def write_image(
    path: PathLike,
    volumes: Image | Iterable[Image],
    *,
    template: Any = None,
    stored: Storage | None = None,
    space: int = 2,
    force: bool = False,
) -> None:
    """Write a NIfTI file, whole or not at all; see `dump_image`."""
    check_suffix(path)
    with new_file(path, force=force) as file:
        dump_image(file, path, volumes, template=template, stored=stored, space=space)


@dataclass(frozen=True)
class Storage:
    """How a file stores intensities: as ``slope * stored + inter``.

    Attributes
    ----------
    dtype : dtype
        Type of the stored numbers.
    slope, inter : float
        What turns them into intensities.
    """

    dtype: np.dtype[Any]
    slope: float = 1.0
    inter: float = 0.0

    @property
    def range(self) -> tuple[float, float]:
        """Lowest and highest intensity that can be stored."""
        if self.dtype.kind not in "iu":
            return -math.inf, math.inf
        ends = [
            end * self.slope + self.inter
            for end in (np.iinfo(self.dtype).min, np.iinfo(self.dtype).max)
        ]
        return min(ends), max(ends)

    def check_fill(self, fill: float, name: str) -> None:
        """Refuse a fill value that cannot be stored."""
        low, high = self.range
        if self.dtype.kind in "iu" and not low <= fill <= high:
            raise InputError(
                f"{name}: its {self.dtype} voxels cannot hold the fill value "
                f"{fill:g}; choose one from {low:g} to {high:g}"
            )


def storage(
    template: Any, dtype: npt.DTypeLike | None = None, *, labels: bool = False
) -> Storage:
    """Choose how the intensities of an image are stored once it is moved.

    Parameters
    ----------
    template : nibabel image
        The image before.
    dtype : data type, optional
        Type to store. By default the one of `template`, with its scaling. Whole
        numbers keep their scaling in another integer type, too. Fractions in an
        integer type are scaled so that the range of `template` fills the type, and 0
        stays 0 where the type can hold what lies on both sides of it.
    labels : bool, optional
        Whether the numbers are names, which no scaling may touch.

    Raises
    ------
    InputError
        If integers, or labels, do not fit the type.
    """
    kept = _kept_storage(template)
    if dtype is None:
        return kept
    wanted = np.dtype(dtype)
    if wanted.kind not in "iu":
        return Storage(wanted)
    limits, name = np.iinfo(wanted), _name(template)
    integers = kept.dtype.kind in "iu"
    if integers:
        raw, slope, inter = _stored(template, name)
        low, high, whole = float(raw.min()), float(raw.max()), True
    else:
        slope, inter = 1.0, 0.0
        low, high, whole = _range(template)
    if whole and limits.min <= low and high <= limits.max:
        return Storage(wanted, slope, inter)
    if whole and (labels or integers):
        raise InputError(
            f"{name}: its numbers, {low:.10g} to {high:.10g}, do not fit {wanted}; "
            "choose a larger type"
        )
    if not low <= high:  # no data at all
        return Storage(wanted)
    # The header has single precision: scale by what it will say.
    base = 0.0 if limits.min < 0 or low >= 0 else low
    up = (high - base) / limits.max
    down = (low - base) / limits.min if limits.min < 0 else 0.0
    steepest = np.nextafter(np.float32(max(up, down)), np.float32(np.inf))
    return Storage(wanted, float(steepest), float(np.float32(base)))


def _kept_storage(template: Any) -> Storage:
    """Tell how a file stores its intensities, as far as NIfTI can do so."""
    dtype = np.dtype(template.get_data_dtype()).newbyteorder("=")
    proxy = template.dataobj
    if type(proxy) is nib.arrayproxy.ArrayProxy:
        return Storage(dtype, *_scaling(template))
    # Scaled volume by volume by its reader, there is no one slope; no type for bool.
    if nib.is_proxy(proxy) or dtype.kind == "b":
        return Storage(np.dtype(np.float32))
    return Storage(dtype)


def _range(template: Any) -> tuple[float, float, bool]:
    """Lowest and highest intensity of an image, and whether all are whole numbers."""
    low, high, whole = np.nan, np.nan, True
    for volume in read_volumes(template):
        values = volume.data[np.isfinite(volume.data)]
        if values.size:
            low = float(np.fmin(low, values.min()))
            high = float(np.fmax(high, values.max()))
            whole = whole and bool((values == np.rint(values)).all())
    return low, high, whole


def space_code(opened: Any) -> int:
    """NIfTI code of the space of what is brought into line with an image.

    That of its template (3 to 5: Talairach, MNI 152, another) if it is in one; else 2,
    the coordinates of another file.
    """
    if not isinstance(opened, nib.Nifti1Pair):
        return 2
    code = int(opened.header["sform_code"]) or int(opened.header["qform_code"])
    return code if code > 2 else 2


def check_suffix(path: PathLike) -> None:
    """Refuse a name of an image that does not end as NIfTI files do."""
    if not str(path).endswith((".nii", ".nii.gz")):
        raise InputError(f"{path}: images are written as .nii or .nii.gz")


def dump_image(
    file: BinaryIO,
    path: PathLike,
    volumes: Image | Iterable[Image],
    *,
    template: Any = None,
    stored: Storage | None = None,
    space: int = 2,
    threads: int | None = None,
) -> None:
    """Write a NIfTI image into an open file.

    Parameters
    ----------
    file : binary file
        Where to write, compressed if `path` ends with ``.gz``.
    path : str or path
        Name of the file, for messages.
    volumes : Image, or iterable of them
        What to write. An iterable, with `template`, has as many volumes as that,
        all on one grid; they are taken one by one, so memory holds only one.
    template : nibabel image, optional
        Whose repetition time, units, description and NIfTI extensions to keep (not
        AFNI's extension, which says where the voxels were).
    stored : Storage, optional
        Type and scaling. Values are rounded to integers and clipped to the range of
        the type, never wrapped around; NaN is 0 there. By default those of
        `template`, or float32.
    space : int, optional
        NIfTI code of what the coordinates mean: 1 the scanner's, 2 (default)
        those of another file. qform and sform are both set; the qform only if it
        can say the same to a tenth of a millimetre, which it cannot for a sheared grid.
    threads : int, optional
        Threads to compress with (default: all processors). The bytes are the same.
    """
    count = 1
    if isinstance(volumes, Image):
        volumes = [volumes]
    elif template is not None:
        count = n_volumes(template)
    if stored is None:
        stored = Storage(np.dtype("f4")) if template is None else storage(template)
    rest = iter(volumes)
    first = next(rest)
    header = _kept_header(template)
    # What speaks of the old grid would be wrong about the new one.
    for field in ("dim_info", "slice_code", "slice_start", "slice_end"):
        header[field] = 0
    header["slice_duration"] = 0
    header.set_data_dtype(stored.dtype)
    header.set_data_shape(first.shape if count == 1 else (*first.shape, count))
    step = () if count == 1 else (_repetition_time(template),)
    header.set_zooms((*first.voxel_size_mm, *step))
    header.set_xyzt_units("mm", header.get_xyzt_units()[1])
    header.set_slope_inter(stored.slope, stored.inter)
    _place(header, first.mm_from_ijk, first.shape, space)
    with _compressed(file, path, threads) as stream:
        stream.write(_header_bytes(header))
        written = 0
        for volume in chain([first], rest):
            if volume.shape != first.shape or written == count:
                raise ValueError(f"{path}: volumes do not fit the header")
            for k in range(volume.shape[2]):  # by slices, to keep memory small
                numbers = _as_stored(volume.data[:, :, k], stored)
                stream.write(numbers.tobytes(order="F"))
            written += 1
        if written != count:
            raise ValueError(f"{path}: {written} volumes, the header says {count}")


def dump_in_place(
    file: BinaryIO,
    path: PathLike,
    template: Any,
    mm_from_ijk: npt.NDArray[np.float64],
    *,
    space: int = 2,
    threads: int | None = None,
) -> None:
    """Write an image's own voxels, all volumes, under another affine.

    Nothing is interpolated, no number is changed. sform and qform are both set, with
    one code; the rest of a NIfTI header stays as it is, with all extensions but
    AFNI's, which says where the voxels were.

    Parameters
    ----------
    file, path, space, threads
        See `dump_image`.
    template : nibabel image
        The image.
    mm_from_ijk : (4, 4) ndarray
        Where its voxels are, RAS+ mm.

    Warns
    -----
    MiregWarning
        If a qform cannot say where the voxels are, to a tenth of a millimetre, and
        has code 0: they are sheared, or, as happens within a tenth of a degree of half
        a turn, its single precision is too coarse.
    """
    raw, slope, inter = _stored(template, _name(template))
    header = _kept_header(template)
    dtype = raw.dtype.newbyteorder("=")
    if dtype.kind == "b":
        dtype = np.dtype(np.uint8)
    header.set_data_dtype(dtype)
    header.set_slope_inter(slope, inter)
    if not isinstance(template, nib.Nifti1Pair):
        count = n_volumes(template)
        header.set_data_shape(raw.shape[:3] if count == 1 else raw.shape)
        header.set_xyzt_units("mm")
        if count > 1:
            header.set_zooms((1, 1, 1, _repetition_time(template)))
    if not _place(header, mm_from_ijk, raw.shape[:3], space):
        directions = mm_from_ijk[:3, :3] / np.linalg.norm(mm_from_ijk[:3, :3], axis=0)
        sheared = np.abs(directions.T @ directions - np.eye(3)).max() > 1e-5
        why = (
            "the voxels are sheared"
            if sheared
            else "its single precision is too coarse for a turn of nearly 180 degrees"
        )
        warnings.warn(
            f"{path}: the qform has code 0 and only the sform says where the voxels "
            f"are: {why}",
            MiregWarning,
            stacklevel=2,
        )
    with _compressed(file, path, threads) as stream:
        stream.write(_header_bytes(header))
        for t in range(raw.shape[3]):
            stream.write(raw[..., t].astype(dtype).tobytes(order="F"))


@contextmanager
def _compressed(file: BinaryIO, path: PathLike, threads: int | None) -> Iterator[Any]:
    """Compress what is written if the name says so."""
    if not str(path).endswith(".gz"):
        yield file
        return
    # No time stamp and no name: the same image gives the same bytes.
    if igzip_threaded is None:
        opened = GzipFile("", "wb", 1, file, mtime=0)
    else:
        count = min(threads or available(), _MOST_COMPRESSING)
        opened = igzip_threaded.open(file, "wb", 1, threads=count)
    with opened as stream:
        yield stream


def _header_bytes(header: Any) -> bytes:
    """Give a header and its extensions, which ask where in the file they are."""
    content = BytesIO()
    header.write_to(content)
    return content.getvalue()


def _kept_header(template: Any) -> Any:
    """Make a NIfTI header that says what does not depend on where the voxels are."""
    old = None if template is None else template.header
    if not isinstance(old, nib.Nifti1Header):
        return nib.Nifti1Header()
    two = isinstance(old, nib.Nifti2Header)
    kind = nib.Nifti2Header if two else nib.Nifti1Header
    header = kind(old.as_byteswapped("<").binaryblock, "<", check=False)
    header["magic"] = b"n+2" if two else b"n+1"
    header["vox_offset"] = 0
    header.extensions.extend(
        extension for extension in old.extensions if extension.get_code() != _AFNI
    )
    return header


def _place(
    header: Any,
    mm_from_ijk: npt.NDArray[np.float64],
    shape: tuple[int, ...],
    space: int,
) -> bool:
    """Say where the voxels are; return whether the qform can say it, too."""
    header.set_sform(mm_from_ijk, space)
    header.set_qform(mm_from_ijk, space)
    corners = np.indices((2, 2, 2)).reshape(3, 8).T * (np.array(shape) - 1)
    apart = nib.affines.apply_affine(header.get_qform(), corners)
    apart -= nib.affines.apply_affine(mm_from_ijk, corners)
    same = bool(np.abs(apart).max() <= _SAME_PLACE_MM)
    if not same:
        header["qform_code"] = 0
    return same


def _repetition_time(template: Any) -> float:
    """Step from volume to volume, as the header has it; 1 if it has none."""
    zooms = template.header.get_zooms()
    return float(zooms[3]) if len(zooms) > 3 else 1.0


def _as_stored(values: Volume, stored: Storage) -> npt.NDArray[Any]:
    """Turn intensities into stored numbers, rounded and clipped to their type."""
    integers = stored.dtype.kind in "iu"
    scaled = (stored.slope, stored.inter) != (1.0, 0.0)
    numbers: npt.NDArray[Any] = values
    if scaled or (integers and stored.dtype.itemsize > 2):
        numbers = numbers.astype(np.float64)
    if integers:
        numbers = np.nan_to_num(numbers, nan=0.0)
    if scaled:
        numbers = (numbers - stored.inter) / stored.slope
    if integers:
        limits = np.iinfo(stored.dtype)
        # The largest float64 that is not beyond the type (int64 has 63 bits).
        top = float(limits.max)
        if int(top) > limits.max:
            top = float(np.nextafter(top, 0))
        numbers = np.clip(np.rint(numbers), limits.min, top)
    return numbers.astype(stored.dtype)
