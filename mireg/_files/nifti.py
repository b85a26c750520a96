# nibabel has no types:
# mypy: disallow-untyped-calls=False
"""Images to NIfTI files: how voxels are stored, and what stays of the header."""

from __future__ import annotations

import math
import struct
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from gzip import GzipFile
from io import BytesIO
from itertools import chain
from typing import Any, BinaryIO

import nibabel as nib
import numpy as np
import numpy.typing as npt

from .._errors import InputError, warn
from .._image import Image, Slabs
from .._threads import available
from .faults import name_of
from .formats import (
    ImageLike,
    as_nibabel,
    as_volume,
    n_volumes,
    read_volumes,
    scaling,
    stored_numbers,
)
from .headers import SAME_PLACE_MM, shorten_quaternion
from .writing import PathLike, new_file

try:
    from isal import isal_zlib
except ImportError:  # not made for this processor
    isal_zlib = None  # type: ignore[assignment]

Volume = npt.NDArray[np.float32]

#: Code of AFNI's NIfTI extension.
_AFNI = 4

#: A whole number that was scaled may be off by this share of it: two bits of float32.
_ROUNDING = 2.0**-22

#: Most threads that compress one file.
_MOST_COMPRESSING = 8

#: Bytes that are compressed as one piece, and how far back a piece may look.
_PIECE, _WINDOW = 1 << 20, 1 << 15


def write_image(
    path: PathLike,
    image: ImageLike,
    *,
    template: ImageLike | None = None,
    space: int = 2,
    force: bool = False,
) -> None:
    """Write an image as a NIfTI file, whole or not at all.

    Parameters
    ----------
    path : str or path
        Ends in ``.nii`` or ``.nii.gz``.
    image : Image, path, nibabel image, SimpleITK image or (array, affine)
        What to write; of a 4-D image the mean.
    template : as `image`, optional
        Whose type of voxels, scaling, repetition time, description and NIfTI extensions
        to take over; of an `Image`, those of the file it was read from. By default
        voxels are float32.
    space : int, optional
        NIfTI code of what the coordinates mean: 1 the scanner's, 2 (default) those
        of another file.
    force : bool, optional
        Replace a file that exists.

    Raises
    ------
    OutputExistsError
        If the file exists and not `force`.
    InputError
        If the name or the image is of no use, or the file cannot be written;
        `MissingFileError` if there is no folder for it.

    Examples
    --------
    >>> import tempfile
    >>> from mireg import read_image
    >>> ramp = np.arange(24).reshape(2, 3, 4), np.diag([1, 1, 2.5, 1])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_image(f"{folder}/ramp.nii", ramp)
    ...     read_image(f"{folder}/ramp.nii")
    <Image 2 x 3 x 4, voxels of 1 x 1 x 2.5 mm, float32, ramp.nii>
    """
    check_suffix(path)
    if isinstance(template, Image):
        template = None if template.source is None else template.source.opened
    opened = None if template is None else as_nibabel(template)
    volume = as_volume(image)
    with new_file(path, force=force) as file:
        dump_image(file, path, volume, template=opened, space=space)


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
    name = name_of(template)
    if dtype is None:
        if not _is_long(kept.dtype):
            return kept
        raw, slope, inter = stored_numbers(template, name)
        short = _short(template, raw)
        return Storage(short, slope, inter) if short.kind == "i" else Storage(short)
    wanted = np.dtype(dtype)
    if wanted.kind not in "iu":
        return Storage(wanted)
    limits = np.iinfo(wanted)
    integers = kept.dtype.kind in "iu"
    if integers:
        raw, slope, inter = stored_numbers(template, name)
        if limits.min <= raw.min() and raw.max() <= limits.max:
            return Storage(wanted, slope, inter)
    low, high, whole = _range(template)
    no_data = not low <= high
    if no_data or (whole and limits.min <= low and high <= limits.max):
        return Storage(wanted)
    if whole and (labels or integers):
        raise InputError(
            f"{name}: its numbers, {low:.10g} to {high:.10g}, do not fit {wanted}; "
            "choose a larger type"
        )
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
        return Storage(dtype, *scaling(template))
    # Scaled volume by volume by its reader, there is no one slope; NIfTI has no type
    # for bool, nor for floats of other lengths.
    if nib.is_proxy(proxy) or dtype.kind == "b" or dtype == np.float16:
        return Storage(np.dtype(np.float32))
    if dtype.kind == "f" and dtype.itemsize > 8:
        return Storage(np.dtype(np.float64))
    return Storage(dtype)


def _is_long(dtype: np.dtype[Any]) -> bool:
    """Tell whether a type holds integers of 64 bits."""
    return dtype.kind in "iu" and dtype.itemsize > 4


def _short(template: Any, raw: npt.NDArray[Any]) -> np.dtype[Any]:
    """Choose a type that FSL, SPM and AFNI read for integers of 64 bits; say so."""
    low, high = int(raw.min()), int(raw.max())
    limits = np.iinfo(np.int32)
    fit = limits.min <= low and high <= limits.max
    dtype = np.dtype(np.int32 if fit else np.float64)
    path = template.get_filename()
    if path is not None:  # of an array in memory, nobody chose the type
        rounded = "" if max(-low, high) <= 2**53 else ", rounded"
        warn(
            f"{path}: its {raw.dtype} numbers are written as {dtype}{rounded}: FSL, "
            "SPM and AFNI read no integers of 64 bits"
        )
    return dtype


def _range(template: Any) -> tuple[float, float, bool]:
    """Lowest and highest intensity of an image, and whether all are whole numbers."""
    low, high, whole = np.nan, np.nan, True
    for volume in read_volumes(template):
        values = volume.data[np.isfinite(volume.data)]
        if values.size:
            low = float(np.fmin(low, values.min()))
            high = float(np.fmax(high, values.max()))
            # A slope such as 1 / 65535 makes whole numbers to float32's rounding.
            whole &= np.allclose(values, np.rint(values), rtol=_ROUNDING, atol=0)
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
        raise InputError(
            f"{path}: the name of an image to write must end in .nii or .nii.gz"
        )


def dump_image(
    file: BinaryIO,
    path: PathLike,
    volumes: Image | Slabs | Iterable[Image | Slabs],
    *,
    template: Any = None,
    count: int | None = None,
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
    volumes : Image, Slabs, or iterable of them
        What to write. An iterable, with `template`, has as many volumes as that, all
        on one grid; they, and slabs, are taken one by one, so memory holds only one.
    template : nibabel image, optional
        Whose repetition time, units, description and NIfTI extensions to keep (not
        AFNI's extension, which says where the voxels were).
    count : int, optional
        Volumes of an iterable, if not as many as `template` has.
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
    if isinstance(volumes, Image | Slabs):
        volumes, count = [volumes], 1
    elif count is None:
        count = 1 if template is None else n_volumes(template)
    if stored is None:
        stored = Storage(np.dtype("f4")) if template is None else storage(template)
    rest = map(Slabs.of, volumes)
    slabs = next(rest)
    first = slabs.grid
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
        for volume in chain([slabs], rest):
            if volume.grid.shape != first.shape or written == count:
                raise ValueError(f"{path}: volumes do not fit the header")
            for slab in volume:
                for k in range(slab.shape[2]):  # by slices, to keep memory small
                    numbers = _as_stored(slab[:, :, k], stored)
                    stream.write(numbers.ravel(order="F"))  # copies only what it must
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
    raw, slope, inter = stored_numbers(template, name_of(template))
    header = _kept_header(template)
    dtype = raw.dtype.newbyteorder("=")
    if dtype.kind == "b":
        dtype = np.dtype(np.uint8)
    elif _is_long(dtype):
        dtype = _short(template, raw)
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
            else "a qform is too coarse for a turn of nearly 180 degrees"
        )
        warn(
            f"{path}: only the sform says where the voxels are (qform code 0), as "
            f"{why}; programs that read the qform alone misplace it"
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
    if isal_zlib is None:
        with GzipFile("", "wb", 1, file, mtime=0) as opened:
            yield opened
        return
    count = min(threads or available(), _MOST_COMPRESSING)
    pool = ThreadPoolExecutor(count, "mireg-gzip")
    try:
        stream = _Gzip(file, pool, 2 * count)
        yield stream
        stream.finish()
    finally:  # nothing waits for what an error or an interrupt has made needless
        pool.shutdown(wait=False, cancel_futures=True)


class _Gzip:
    """Compresses pieces of what is written on other threads, and writes them in order.

    Only the thread that writes ever waits, for one piece at a time: so an interrupt
    finds it, and nobody waits for a thread that has ended.
    """

    def __init__(self, file: BinaryIO, pool: ThreadPoolExecutor, ahead: int) -> None:
        self._file, self._pool, self._ahead = file, pool, ahead
        self._rest, self._window = bytearray(), b""
        self._pieces: deque[Future[tuple[bytes, int, int]]] = deque()
        self._crc = self._size = 0
        file.write(bytes.fromhex("1f8b 08 00 00000000 04 ff"))

    def write(self, content: Any) -> None:
        """Take bytes, or an array of numbers that lie one after the other."""
        self._rest.extend(content)
        while len(self._rest) >= _PIECE:
            self._start(bytes(self._rest[:_PIECE]))
            del self._rest[:_PIECE]

    def finish(self) -> None:
        """Write all that is left, and the end."""
        self._start(bytes(self._rest))
        while self._pieces:
            self._write_first()
        end = isal_zlib.compressobj(1, isal_zlib.DEFLATED, -15).flush()
        self._file.write(end + struct.pack("<II", self._crc, self._size & 0xFFFFFFFF))

    def _start(self, piece: bytes) -> None:
        if len(self._pieces) >= self._ahead:
            self._write_first()
        self._pieces.append(self._pool.submit(_deflated, piece, self._window))
        self._window = piece[-_WINDOW:]

    def _write_first(self) -> None:
        content, crc, size = self._pieces.popleft().result()
        self._file.write(content)
        self._crc = isal_zlib.crc32_combine(self._crc, crc, size)
        self._size += size


def _deflated(piece: bytes, before: bytes) -> tuple[bytes, int, int]:
    """Compress a piece that goes on from another one; give its checksum and length."""
    look: dict[str, Any] = {"zdict": before} if before else {}
    packer = isal_zlib.compressobj(1, isal_zlib.DEFLATED, -15, **look)
    content = packer.compress(piece) + packer.flush(isal_zlib.Z_SYNC_FLUSH)
    return content, isal_zlib.crc32(piece), len(piece)


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
    shorten_quaternion(header)  # of half a turn
    apart = nib.affines.apply_affine(header.get_qform(), corners)
    apart -= nib.affines.apply_affine(mm_from_ijk, corners)
    same = bool(np.abs(apart).max() <= SAME_PLACE_MM)
    if not same:
        header["qform_code"] = 0
    return same


def _repetition_time(template: Any) -> float:
    """Step from volume to volume, as the header has it; 1 if it has none of use."""
    zooms = template.header.get_zooms()
    step = float(zooms[3]) if len(zooms) > 3 else 1.0
    return step if 0 <= step < math.inf else 1.0


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
    return numbers.astype(stored.dtype, copy=False)
