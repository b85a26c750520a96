# nibabel has no types:
# mypy: disallow-untyped-calls=False
"""Image files to images, through nibabel."""

from __future__ import annotations

import errno
import hashlib
import logging
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from itertools import islice
from pathlib import Path
from shlex import quote
from typing import Any, Protocol

import nibabel as nib
import numpy as np
import numpy.typing as npt

from .._errors import InputError, MiregError, MissingFileError, warn
from .._image import Image, Source, VolumeChoice, plain
from .headers import (
    SAME_PLACE_MM,
    check_analyze,
    mended,
    notes_of,
    open_nifti,
    qform_distance_mm,
)
from .writing import PathLike

try:
    from isal.igzip import IGzipFile as GzipFile
except ImportError:  # not made for this processor
    from gzip import GzipFile

Volume = npt.NDArray[np.float32]

_LOG = logging.getLogger(__name__)


class NibabelImage(Protocol):
    """What a type checker takes for an image of nibabel."""

    # No more than what nibabel.load says that it returns.
    @property
    def header(self) -> object:
        """What is known of it."""

    def get_filename(self) -> str | None:
        """Return where it was read from."""


class SimpleITKImage(Protocol):
    """What a type checker takes for an image of SimpleITK."""

    def GetDirection(self) -> object: ...  # noqa: N802, named by ITK
    def GetOrigin(self) -> object: ...  # noqa: N802
    def GetSpacing(self) -> object: ...  # noqa: N802


class HoldsImage(Protocol):
    """What a type checker takes for an image with more, as `mireg.PreparedImage`."""

    @property
    def image(self) -> Image:
        """The image itself."""


#: What stands for an image: a file, a nibabel or SimpleITK image, an image with more,
#: or voxels with the (4, 4) matrix mm_from_ijk.
#: Voxels that a masked array masks hold no data.
ImageLike = (
    Image
    | HoldsImage
    | PathLike
    | tuple[npt.ArrayLike, npt.ArrayLike]
    | NibabelImage
    | SimpleITKImage
)

#: Images that ITK reads and nibabel does not.
_OF_ITK = (".nrrd", ".nhdr", ".mha", ".mhd", ".gipl", ".gipl.gz")

#: The other file of the formats that keep the header apart from the voxels.
_HEADERS = {".img": ".hdr", ".rec": ".PAR", ".brik": ".HEAD"}

#: Ends of the names of files that are compressed by gzip.
_GZIPPED = (".gz", ".mgz")

#: How many voxels of a compressed file are read at once.
_READ_AT_ONCE = 2**18

#: No file of gzip holds more than this many bytes for each of its own.
_MOST_GZIP_SHRINKS = 1032

#: What nibabel opens but has no voxels.
_NO_VOLUMES = {"GiftiImage": "a GIFTI surface", "Cifti2Image": "a CIFTI file"}

#: Whether this thread reads an image, so that nibabel's log is of no use.
_READING: ContextVar[bool] = ContextVar("_READING", default=False)
logging.getLogger("nibabel.global").addFilter(lambda _: not _READING.get())

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
    try:
        with _hushed(), in_file(path):
            opened = _opened(path)
            _check_kind(opened)
            _check_length(opened)
    except MiregError:
        raise
    except Exception as error:  # each reader of nibabel fails in its own way
        raise InputError(_unreadable(path, error)) from error
    return opened


def _opened(path: Path) -> Any:
    """Open an image file as nibabel does, but mend its header in the open."""
    if path.is_dir():
        if any(_is_dicom(file) for file in islice(path.rglob("*"), _LOOK_AT)):
            raise InputError(
                "a folder of DICOM files; make NIfTI of them first: "
                f"dcm2niix -z y -o . {quote(str(path))}"
            )
        raise InputError("this is a folder; give the image file in it")
    check_there(path)
    if not path.is_file():
        raise InputError("a pipe or device; save the image to a file first")
    header = path.with_suffix(_HEADERS.get(path.suffix.lower(), path.suffix))
    if not (header.exists() or header.with_suffix(header.suffix.swapcase()).exists()):
        raise MissingFileError(f"holds voxels only; its header {header} is missing")
    sniff = None
    for kind in nib.imageclasses.all_image_classes:
        fits = False
        with suppress(nib.spatialimages.HeaderDataError):  # CIFTI's checks at once
            fits, sniff = kind.path_maybe_image(str(path), sniff)
        if fits and issubclass(kind, nib.Nifti1Pair):
            return open_nifti(str(path), kind)
        if fits:
            break
    opened = nib.load(path)
    if not isinstance(opened, nib.spatialimages.SpatialImage):
        name = type(opened).__name__
        raise InputError(
            f"{_NO_VOLUMES.get(name, name)}, no volume of voxels; "
            "give the image that it was made from"
        )
    if isinstance(opened, nib.AnalyzeImage):
        check_analyze(opened)
    return opened


def check_there(path: Path) -> None:
    """Refuse a file that is not there, and a link that leads nowhere."""
    with suppress(FileNotFoundError, ValueError):  # there may be a null in the name
        path.stat()
        return
    if path.is_symlink():
        raise MissingFileError(
            f"a link whose target, {path.readlink()}, is missing; of a DataLad data "
            f"set: datalad get {quote(str(path))}"
        )
    raise MissingFileError("there is no such file; check the path")


def _unreadable(path: Path, error: Exception) -> str:
    """Say why a file could not be opened as an image, and what to do."""
    suffix = _nifti_suffix(path)
    if isinstance(error, MemoryError):
        why = "there is not enough memory to open it; free some"
    elif isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
        why = f"cannot be opened ({error.strerror}); check the path"
    elif _is_dicom(path):
        why = (
            "a DICOM file; make NIfTI of the folder that it is in: "
            f"dcm2niix -z y -o . {quote(str(path.parent))}"
        )
    elif path.name.lower().endswith(_OF_ITK):
        why = (
            "nibabel does not read files of this kind; make NIfTI of it: "
            "pip install SimpleITK; python -c 'import sys, SimpleITK as s; "
            "s.WriteImage(s.ReadImage(sys.argv[1]), sys.argv[2])' "
            f"{quote(str(path))} {quote(path.name.partition('.')[0] + '.nii.gz')}"
        )
    elif suffix is not None and not path.name.lower().endswith(suffix):
        why = (
            f"a NIfTI file, but its name does not say so: rename it to end in {suffix}"
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


def _check_length(opened: Any) -> None:
    """Refuse a file that is too short for what its header says."""
    proxy = opened.dataobj
    if type(proxy) is not nib.arrayproxy.ArrayProxy:
        return
    name = str(proxy.file_like).lower()
    with suppress(FileNotFoundError):  # told when it is read
        there = Path(proxy.file_like).stat().st_size
        if name.endswith(_GZIPPED):
            there *= _MOST_GZIP_SHRINKS
        said = proxy.offset + math.prod(map(int, proxy.shape)) * proxy.dtype.itemsize
        if said > there and not name.endswith((".bz2", ".zst")):
            raise InputError(
                "there are fewer voxels than the header says; the file is damaged or "
                "cut short: copy it again"
            )


@contextmanager
def _hushed() -> Iterator[None]:
    """Let nibabel and numpy be silent: what matters is told in our own words."""
    token = _READING.set(True)
    try:
        with np.errstate(all="ignore"):
            yield
    finally:
        _READING.reset(token)


def read_image(image: ImageLike, volume: VolumeChoice | None = None) -> Image:
    """Read one scan from a file, or take it from what stands for an image.

    Parameters
    ----------
    image : path, nibabel image, SimpleITK image, (array, affine) or Image
        Files may be NIfTI-1/2, Analyze, MGH/MGZ, MINC, PAR/REC or AFNI. The affine
        maps voxel indices to RAS+ mm, as nibabel's do.
    volume : int, "mean" or "median", optional
        Which volume of a 4-D image, 0 being the first. By default the only one,
        or else the mean of all, with a `MiregWarning`.

    Returns
    -------
    Image
        Intensities with the file's scaling applied; NaN where there is no data, as
        where a masked array is masked.

    Raises
    ------
    MissingFileError
        If there is no such file.
    InputError
        If the file cannot be read whole, holds no real 3-D or 4-D image, all its
        voxels are equal, or there is no such volume.

    Warns
    -----
    MiregWarning
        If the header is odd: qform and sform differ, or neither is set; lengths are
        in another unit, and are scaled to mm; it says what cannot be, and was mended.

    Examples
    --------
    >>> series = np.arange(48).reshape(2, 3, 4, 2)
    >>> read_image((series, np.diag([1, 1, 2.5, 1])), volume=1)
    <Image 2 x 3 x 4, voxels of 1 x 1 x 2.5 mm, int64, volume 1>
    """
    return as_image(image, volume)


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
    warn_of(image)
    return image


def read_quietly(path: PathLike, volume: VolumeChoice | None = None) -> Image:
    """Read one scan as `read_image` does, but leave it to `warn_of` to warn.

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
        raise InputError(f"{name or name_of(opened)}: {why}")
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
    """Take one scan from whatever stands for it; see `read_image`.

    An `Image` is returned as it is; `name` is what messages call what is no file.
    """
    given = _held(given)
    if isinstance(given, Image):
        if volume not in (None, 0, "mean", "median"):
            raise InputError(f"there is no volume {volume}: a mireg.Image has one")
        return given
    opened = as_nibabel(given)
    return from_nibabel(opened, volume, name_of(opened, name))


def _held(given: ImageLike) -> ImageLike:
    """Take the image out of what holds one."""
    held = getattr(given, "image", None)
    return held if isinstance(held, Image) else given


def as_volume(given: ImageLike, name: str | None = None) -> Image:
    """Take a volume from whatever stands for it, though all its voxels be equal."""
    given = _held(given)
    if isinstance(given, Image):
        return given
    opened = as_nibabel(given)
    image = take_volume(opened, None, name_of(opened, name))
    warn_of(image)
    return image


def as_grid(given: ImageLike) -> Image:
    """Take where the voxels are from whatever stands for an image; none is read."""
    given = _held(given)
    if isinstance(given, Image):
        return given
    grid = grid_of(as_nibabel(given))
    warn_of(grid)
    return grid


def as_mask(given: ImageLike | None, name: str | None = None) -> Image | None:
    """Take a mask from whatever stands for it; see `as_image` and `read_mask`."""
    given = None if given is None else _held(given)
    if given is None or isinstance(given, Image):
        return given
    opened = as_nibabel(given)
    name = name_of(opened, name)
    mask = take_volume(opened, None, name)
    if not (mask.data > 0.5).any():
        raise InputError(f"{name}: the mask is empty, no voxel is above 0.5")
    warn_of(mask)
    return mask


def read_mask(path: PathLike) -> Image:
    """Read a mask: voxels above 0.5 are in it. Any grid; refuses an empty one."""
    mask = as_mask(path)
    assert mask is not None
    return mask


def as_nibabel(given: ImageLike) -> Any:
    """Open a file, or put voxels of another library under a nibabel header."""
    if isinstance(given, str | os.PathLike):
        return open_nibabel(given)
    if isinstance(given, nib.spatialimages.SpatialImage):
        with _hushed(), in_file(name_of(given)):
            return mended(given)
    if type(given).__module__.partition(".")[0] == "SimpleITK":
        given = _from_simpleitk(given)
    if not isinstance(given, tuple | list) or len(given) != 2:
        raise InputError(
            f"an image cannot be made of a {type(given).__name__}; give a path, a "
            "nibabel or SimpleITK image, (array, affine) or a mireg.Image"
        )
    voxels, mm_from_ijk = plain(given[0]), np.asarray(given[1])
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
    """Tell where the voxels of a nibabel image are, and what is odd about that."""
    name = name_of(opened)
    with in_file(name):
        _check_kind(opened)
    nothing = np.broadcast_to(np.float32(np.nan), opened.shape[:3])
    with _hushed(), in_file(name):
        source = Source(opened, None, tuple(_oddities(opened, name)))
        return Image(nothing, opened.affine, source)


def read_volumes(opened: Any, *, exact: bool = False) -> Iterator[Image]:
    """Yield each volume of a nibabel image, as it lies in the file.

    With `exact`, whole numbers that float32 would round are refused: labels.
    """
    name = name_of(opened)
    raw, slope, inter = stored_numbers(opened, name)
    if exact and raw.dtype.kind in "iu" and raw.dtype.itemsize > 2:
        largest = max(abs(int(raw.min())), int(raw.max()))
        if largest > 2**24:
            raise InputError(
                f"{name}: holds the number {largest}, and numbers beyond {2**24} "
                "would be rounded; renumber the labels"
            )
    for t in range(raw.shape[3]):
        with in_file(name):
            yield Image(scaled(raw[..., t], slope, inter), opened.affine)


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


def is_gzipped(path: object) -> bool:
    """Tell by its name whether a file is compressed by gzip."""
    return str(path).lower().endswith(_GZIPPED)


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


def _check_kind(opened: Any) -> None:
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
        raise InputError(f"the image is empty, its shape is {shape}")
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
        raise InputError("a 4-D image whose volumes lie first; convert it to NIfTI")
    if opened.affine is None:
        raise InputError("the image has no affine; say where its voxels are")


def take_volume(
    opened: Any, volume: VolumeChoice | None = None, name: str | None = None
) -> Image:
    """Take one volume, or the mean or median of all, without a look at the voxels."""
    name = name or name_of(opened)
    with in_file(name):
        _check_kind(opened)
        opened = mended(opened)
    with voxels_of(name):
        return _taken(opened, volume, name)


def _taken(opened: Any, volume: VolumeChoice | None, name: str) -> Image:
    """Take one volume, or the mean or median of all, of an image that is checked."""
    n = n_volumes(opened)
    if isinstance(volume, int) and not 0 <= volume < n:
        only = "only volume 0" if n == 1 else f"volumes 0 to {n - 1}"
        raise InputError(f"{name}: there is no volume {volume}; it has {only}")
    notes = _oddities(opened, name)
    if volume is None and n > 1:
        notes.append(f"{name}: has {n} volumes; their mean is used")
    # Converted while it is read, the only volume needs less memory and time.
    raw, slope, inter = stored_numbers(opened, name, single=n == 1)
    if n == 1:
        data = scaled(raw[..., 0], slope, inter, copy=False)
    elif isinstance(volume, int):
        data = scaled(raw[..., volume], slope, inter)
    elif volume == "median":
        data = np.empty(raw.shape[:3], np.float32, order="F")
        for k in range(raw.shape[2]):  # by slices, to keep memory small
            data[:, :, k] = np.median(scaled(raw[:, :, k], slope, inter), axis=-1)
    elif volume in (None, "mean"):
        total = np.zeros(raw.shape[:3], order="F")
        for t in range(n):
            total += scaled(raw[..., t], slope, inter)
        data = (total / n).astype(np.float32)
    else:
        raise InputError(f'volume is {volume!r}; give a number, "mean" or "median"')
    taken = None if n == 1 else volume if volume is not None else "mean"
    _LOG.debug("read %s: shape %s, %s", name, opened.shape, opened.get_data_dtype())
    with in_file(name):
        return Image(data, opened.affine, Source(opened, taken, tuple(notes)))


def stored_numbers(
    opened: Any, name: str, *, single: bool = False
) -> tuple[npt.NDArray[Any], float, float]:
    """Voxels as stored, shape (nx, ny, nz, n), and what turns them into intensities.

    With `single` they are a copy, float32 unless that is too coarse for `scaled`.
    """
    proxy = opened.dataobj
    slope, inter = scaling(opened)
    plain = type(proxy) is nib.arrayproxy.ArrayProxy
    single &= not (plain and _needs_double(proxy.dtype, slope, inter))
    with voxels_of(name):
        if plain and is_gzipped(proxy.file_like):
            raw = _unzipped(proxy, np.float32 if single else proxy.dtype)
        else:
            raw = np.asanyarray(proxy.get_unscaled() if plain else proxy)
            raw = raw.astype(np.float32, order="K") if single else raw
    return raw.reshape(*raw.shape[:3], -1, order="F"), slope, inter


@contextmanager
def voxels_of(name: str) -> Iterator[None]:
    """Say in one line what goes wrong while voxels are read."""
    try:
        with _hushed():
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
            f"{name}: the voxels are in {error.filename}, which is missing"
        ) from error
    except Exception as error:  # zlib, gzip, OSError, ValueError: all mean damage
        raise InputError(
            f"{name}: the voxels cannot be read ({_one_line(error)}); "
            "the file is damaged or cut short: copy it again"
        ) from error


def scaling(opened: Any) -> tuple[float, float]:
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


def scaled(
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


def warn_of(image: Image) -> None:
    """Say what was odd about a file that was read."""
    assert image.source is not None
    for note in image.source.notes:
        warn(note)


def _oddities(opened: Any, name: str) -> list[str]:
    """Say where the header leaves in doubt where the voxels are."""
    notes = [f"{name}: {note}" for note in notes_of(opened)]
    if isinstance(opened, nib.Nifti1Pair):
        header = opened.header
        codes = int(header["sform_code"]), int(header["qform_code"])
        if codes == (0, 0) and opened.get_filename() is not None:
            notes.append(
                f"{name}: the header does not say where the image is (qform and "
                "sform codes are 0); centred, with x to the left, by voxel size: check "
                "left and right"
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
            "nibabel's reading is used, check left and right"
        )
    elif _is_mgh_without_place(opened):
        notes.append(
            f"{name}: the header does not say where the image is (goodRASFlag is 0); "
            "taken as coronal slices, centred: check left and right"
        )
    return notes


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
