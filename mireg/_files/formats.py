# nibabel has no types:
# mypy: disallow-untyped-calls=False
"""Image files to images, through nibabel."""

from __future__ import annotations

import hashlib
import logging
import math
import os
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol

import nibabel as nib
import numpy as np
import numpy.typing as npt

from .. import _parameters as parameters
from .._errors import InputError, MiregError, warn
from .._image import Image, Source, VolumeChoice, WholeNumbers, plain
from .faults import (
    GZIPPED,
    OTHER_ZIPPED,
    check_kind,
    check_length,
    check_openable,
    hushed,
    in_file,
    most_in,
    name_of,
    no_volume,
    oddities,
    reading_voxels,
    unreadable,
    useless,
)
from .hdf5 import check_hdf5
from .headers import check_analyze, mended, open_nifti, read_most
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

#: How many voxels of a compressed file are read at once.
_READ_AT_ONCE = 2**18

#: A mask with more grey levels than this was hardly meant as yes or no.
_MASK_LEVELS = 8


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
        with hushed(), in_file(path):
            opened = _opened(path)
            check_kind(opened)
            check_length(opened)
    except MiregError:
        raise
    except Exception as error:  # each reader of nibabel fails in its own way
        raise InputError(unreadable(path, error)) from error
    return opened


def _opened(path: Path) -> Any:
    """Open an image file as nibabel does, but mend its header in the open."""
    check_openable(path)
    sniff = None
    for kind in nib.imageclasses.all_image_classes:
        fits = False
        with suppress(nib.spatialimages.HeaderDataError):  # CIFTI's checks at once
            fits, sniff = kind.path_maybe_image(str(path), sniff)
        if fits and issubclass(kind, nib.Nifti1Pair):
            return open_nifti(str(path), kind)
        if fits:
            break
    if kind is nib.Minc2Image and fits:
        with path.open("rb") as file:
            check_hdf5(file)
    opened = _open_minc1(path) if kind is nib.Minc1Image and fits else nib.load(path)
    if not isinstance(opened, nib.spatialimages.SpatialImage):
        raise no_volume(opened)
    if isinstance(opened, nib.AnalyzeImage):
        check_analyze(opened)
    return opened


def _open_minc1(path: Path) -> Any:
    """Open a MINC 1 file, from memory: nibabel makes room for all that it claims."""
    files = nib.Minc1Image.filespec_to_file_map(path)
    with files["image"].get_prepare_fileobj("rb") as file:
        files["image"].fileobj = BytesIO(read_most(file, most_in(path)))
    opened = nib.Minc1Image.from_file_map(files)
    files["image"].fileobj = None
    return opened


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
    <Image 2 x 3 x 4, voxels of 1 x 1 x 2.5 mm, float32 from int64, volume 1>
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


def as_image(
    given: ImageLike, volume: VolumeChoice | None = None, name: str | None = None
) -> Image:
    """Take one scan from whatever stands for it; see `read_image`.

    An `Image` is returned as it is; `name` is what messages call what is no file.
    """
    given = _held(given)
    if isinstance(given, Image):
        if volume not in (None, 0, "mean", "median"):
            raise InputError(
                f"there is no volume {volume}; a mireg.Image has only volume 0"
            )
        return given
    opened = as_nibabel(given, name)
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
    opened = as_nibabel(given, name)
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
    opened = as_nibabel(given, name)
    name = name_of(opened, name)
    mask = take_volume(opened, None, name)
    if not (mask.data > 0.5).any():
        raise InputError(
            f"{name}: the mask is empty, no voxel is above 0.5; give another, or none"
        )
    steps = [max(1, n // 16) for n in mask.shape[:2]]
    levels = len(np.unique(mask.data[:: steps[0], :: steps[1]]))
    if levels > _MASK_LEVELS:
        warn(
            f"{name}: as a mask it has {levels} grey levels or more, but every voxel "
            "above 0.5 counts alike; there are no weights"
        )
    warn_of(mask)
    return mask


def read_mask(path: PathLike) -> Image:
    """Read a mask: voxels above 0.5 are in it. Any grid; refuses an empty one."""
    mask = as_mask(path)
    assert mask is not None
    return mask


def as_nibabel(given: ImageLike, name: str | None = None) -> Any:
    """Open a file, or put voxels of another library under a nibabel header.

    `name` is what messages call what is no file.
    """
    if isinstance(given, str | os.PathLike):
        return open_nibabel(given)
    if isinstance(given, nib.spatialimages.SpatialImage):
        with hushed(), in_file(name_of(given)):
            check_length(given)
            return mended(given)
    if type(given).__module__.partition(".")[0] == "SimpleITK":
        given = _from_simpleitk(given)
    with in_file(name) if name else nullcontext():
        return nib.spatialimages.SpatialImage(*_array_and_affine(given))


def _array_and_affine(given: object) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Take voxels and mm_from_ijk apart, or say what is no image."""
    if not isinstance(given, tuple | list) or len(given) != 2:
        raise InputError(
            f"an image cannot be made from {type(given).__name__}; give a path, a "
            "nibabel or SimpleITK image, (array, affine) or a mireg.Image"
        )
    voxels, mm_from_ijk = plain(given[0]), plain(given[1])
    if mm_from_ijk.ndim == 0:
        raise InputError(
            f"of (array, affine) the affine is {type(given[1]).__name__}, no matrix; "
            "give the (4, 4) matrix from voxel indices to RAS+ mm"
        )
    if mm_from_ijk.shape != (4, 4):
        exchanged = voxels.shape == (4, 4)
        raise InputError(
            f"the affine has shape {mm_from_ijk.shape}, not (4, 4); give "
            + (
                "(array, affine), in this order"
                if exchanged
                else "the matrix from voxel indices to RAS+ mm"
            )
        )
    return voxels, mm_from_ijk


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
        check_kind(opened)
    nothing = np.broadcast_to(np.float32(np.nan), opened.shape[:3])
    with hushed(), in_file(name):
        source = Source(opened, None, tuple(oddities(opened, name)))
        return Image(nothing, opened.affine, source)


def read_volumes(opened: Any, *, exact: bool = False) -> Iterator[Image]:
    """Yield each volume of a nibabel image, as it lies in the file.

    With `exact`, whole numbers that float32 would round are refused: labels.
    """
    name = name_of(opened)
    single = n_volumes(opened) == 1 and not exact
    raw, slope, inter = stored_numbers(opened, name, single=single)
    if exact and raw.dtype.kind in "iu" and raw.dtype.itemsize > 2:
        largest = max(abs(int(raw.min())), int(raw.max()))
        if largest > 2**24:
            raise InputError(
                f"{name}: holds the number {largest}, and numbers beyond {2**24} "
                "would be rounded; renumber the labels"
            )
    for t in range(raw.shape[3]):
        with in_file(name):
            values = _only if single else scaled
            yield Image(values(raw[..., t], slope, inter), opened.affine)


def check_labels(image: Image) -> None:
    """Refuse labels that were rounded when the image was read."""
    numbers = image.voxels
    large = max(-float(numbers.min()), float(numbers.max())) >= 2**24
    if large and image.source is not None:
        next(read_volumes(image.source.opened, exact=True))


def n_volumes(opened: Any) -> int:
    """Tell how many volumes a nibabel image has."""
    return int(math.prod(opened.shape[3:]))


def sha256(path: PathLike) -> str:
    """Compute the SHA-256 of a file, in hexadecimal; a pipe would be waited for."""
    if Path(path).exists() and not Path(path).is_file():
        raise InputError(
            f"{path}: this is a pipe or a device; save the image to a file first"
        )
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def is_gzipped(path: object) -> bool:
    """Tell by its name whether a file is compressed by gzip."""
    return str(path).lower().endswith(GZIPPED)


def take_volume(
    opened: Any, volume: VolumeChoice | None = None, name: str | None = None
) -> Image:
    """Take one volume, or the mean or median of all, without a look at the voxels."""
    name = name or name_of(opened)
    with in_file(name):
        check_kind(opened)
        opened = mended(opened)
    with reading_voxels(name):
        return _taken(opened, volume, name)


def _taken(opened: Any, volume: VolumeChoice | None, name: str) -> Image:
    """Take one volume, or the mean or median of all, of an image that is checked."""
    n = n_volumes(opened)
    if isinstance(volume, int) and not 0 <= volume < n:
        only = "only volume 0" if n == 1 else f"volumes 0 to {n - 1}"
        raise InputError(f"{name}: there is no volume {volume}; it has {only}")
    notes = oddities(opened, name)
    if volume is None and n > 1:
        notes.append(f"{name}: has {n} volumes; their mean is used")
    # Converted while it is read, the only volume needs less memory and time.
    raw, slope, inter = stored_numbers(opened, name, single=n == 1)
    data: Any
    if n == 1:
        data = _only(raw[..., 0], slope, inter)
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


def _only(raw: npt.NDArray[Any], slope: float, inter: float) -> Any:
    """Make what an `Image` takes of the stored values of one volume; uses them up."""
    if not _stays_whole(raw, slope, inter):
        return scaled(raw, slope, inter, copy=False)
    if inter == 0:
        return WholeNumbers(raw)
    limits = np.iinfo(np.int16)
    low, high = int(raw.min()) + int(inter), int(raw.max()) + int(inter)
    if raw.dtype.itemsize < 2 or low < limits.min or high > limits.max:
        return scaled(raw, slope, inter)
    numbers = raw.view(np.int16)
    numbers += np.uint16(int(inter) % 2**16).view(np.int16)  # modulo 2^16, as all is
    return WholeNumbers(numbers)


def _stays_whole(numbers: Any, slope: float, inter: float) -> bool:
    """Tell whether the numbers of a large image are kept as they are stored."""
    short = numbers.dtype.kind in "iu" and numbers.dtype.itemsize <= 2
    whole = slope == 1 and float(inter).is_integer()
    return short and whole and math.prod(numbers.shape) >= parameters.LARGE


def stored_numbers(
    opened: Any, name: str, *, single: bool = False
) -> tuple[npt.NDArray[Any], float, float]:
    """Voxels as stored, shape (nx, ny, nz, n), and what turns them into intensities.

    With `single` they are a copy, float32 unless that is too coarse for `scaled`, or
    takes too much memory.
    """
    proxy = opened.dataobj
    slope, inter = scaling(opened)
    plain = type(proxy) is nib.arrayproxy.ArrayProxy
    single &= not (plain and _needs_double(proxy.dtype, slope, inter))
    with reading_voxels(name):
        path = str(proxy.file_like) if plain else ""
        zipped = path.lower().endswith(GZIPPED)
        as_it_is = os.path.isfile(path) and not path.lower().endswith(OTHER_ZIPPED)
        if zipped or (single and as_it_is):
            dtype = np.float32 if single else proxy.dtype
            if single and _stays_whole(proxy, slope, inter):
                dtype = proxy.dtype.newbyteorder("=")
            raw = _read_numbers(proxy, dtype, zipped)
        else:
            raw = np.asanyarray(proxy.get_unscaled() if plain else proxy)
            raw = raw.astype(np.float32, order="K") if single else raw
    return raw.reshape(*raw.shape[:3], -1, order="F"), slope, inter


def scaling(opened: Any) -> tuple[float, float]:
    """Slope and intercept that turn all stored values into intensities."""
    proxy = opened.dataobj
    if type(proxy) is nib.arrayproxy.ArrayProxy:
        return float(proxy.slope), float(proxy.inter)
    return 1.0, 0.0  # none, or applied by the reader


def _read_numbers(proxy: Any, dtype: npt.DTypeLike, zipped: bool) -> npt.NDArray[Any]:
    """Read stored numbers as `dtype`, some at a time; check a gzip file's checksum.

    Mapped into memory, the whole file would count beside what is made of it.
    """
    values = np.empty(proxy.shape, dtype, order=proxy.order)
    flat = values.ravel(order="K")
    part = np.empty(min(flat.size, _READ_AT_ONCE), proxy.dtype)
    opener: Any = GzipFile if zipped else open
    with opener(proxy.file_like, "rb") as file:
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
