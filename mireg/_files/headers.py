# nibabel has no types:
# mypy: disallow-untyped-calls=False
"""NIfTI headers: what is wrong in them is mended in the open, or refused.

nibabel mends headers without a word, and not always as other programs do.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from io import BytesIO
from typing import Any

import nibabel as nib
import numpy as np

from .._errors import InputError

#: Headers that place a corner of the image further apart than this differ.
SAME_PLACE_MM = 0.1

#: Where the notes on a mended header are kept, among what nibabel carries along.
_NOTES = "mireg"

#: Most bytes of header and extensions.
_MOST_BYTES = 2**26

#: Bytes of a header that are read at once.
_AT_ONCE = 2**16

#: A quaternion longer than 1 by more than this is no rounding.
_ROUNDING = 1e-4

#: Units of length but mm: the name, and how many mm.
_IN_MM = {1: ("metres", 1e3), 3: ("microns", 1e-3)}

#: Highest code of a space that NIfTI knows.
_LAST_CODE = 5


def open_nifti(path: str, kind: Any) -> Any:
    """Open a NIfTI file of a class of nibabel; mend its header, see `notes_of`."""
    files = kind.filespec_to_file_map(path)
    voxels = files["image"]
    with files.get("header", voxels).get_prepare_fileobj("rb") as file:
        start = file.read(kind.header_class.sizeof_hdr)
        end = float(kind.header_class(start, check=False)["vox_offset"])
        if not 0 <= end <= _MOST_BYTES:
            raise InputError(
                f"the header says that the voxels begin at byte {end:.10g}; "
                "repair its vox_offset"
            )
        first = kind.header_class.single_vox_offset
        # An extension can claim any length; those of two files end with the header.
        rest = max(int(end), first) if kind.header_class.is_single else _MOST_BYTES
        content = BytesIO(start + read_most(file, rest - len(start)))
    header = kind.header_class.from_fileobj(content, check=False)
    notes = []
    if kind.header_class.is_single and end < first:
        header["vox_offset"] = first
        notes.append(
            f"the header says that the voxels begin within it, at byte {end:.10g}; "
            f"they are read from byte {first}"
        )
    scale = _mend(header, notes)
    affine = header.get_best_affine()
    if not np.isfinite(affine).all():
        raise InputError(
            "the header's affine is not finite; repair its sform, or its qform"
        )
    affine[:3] *= scale
    _rescale(header, scale)
    proxy = kind.ImageArrayProxy(voxels.filename, header.copy())
    return kind(proxy, affine, header, {_NOTES: notes}, files)


def read_most(file: Any, most: int) -> bytes:
    """Read what there is, up to so many bytes; asked for all, a file makes room."""
    pieces = []
    while most > 0 and (piece := file.read(min(most, _AT_ONCE))):
        pieces.append(piece)
        most -= len(piece)
    return b"".join(pieces)


def check_analyze(opened: Any) -> None:
    """Check the voxel sizes of an Analyze file, unless a .mat file places it."""
    with opened.file_map["header"].get_prepare_fileobj("rb") as file:
        raw = opened.header_class.from_fileobj(file, check=False)
    if np.allclose(opened.affine, opened.header.get_best_affine()):
        opened.extra[_NOTES] = list(_check_sizes(raw["pixdim"][1:4]))


def mended(opened: Any) -> Any:
    """Mend a NIfTI image of nibabel; a copy that shares its voxels, if need be."""
    if not isinstance(opened, nib.Nifti1Pair) or opened.affine is None:
        return opened
    kind: Any = type(opened.header)
    proxy: Any = opened.dataobj
    from_file = isinstance(proxy, nib.arrayproxy.ArrayProxy)
    if kind.is_single and from_file and proxy.offset < kind.single_vox_offset:
        raise InputError(
            "nibabel reads voxels from within its header, whose vox_offset is wrong; "
            "give the path, not the image"
        )
    _check_repaired(opened)
    notes: list[str] = []
    header = opened.header.copy()
    scale = _mend(header, notes)
    if scale == 1 and header.binaryblock == opened.header.binaryblock:
        return opened
    _rescale(header, scale)
    affine = np.diag([scale, scale, scale, 1]) @ opened.affine
    extra = {**opened.extra, _NOTES: [*notes_of(opened), *notes]}
    return type(opened)(opened.dataobj, affine, header, extra, opened.file_map)


def _check_repaired(opened: Any) -> None:
    """Refuse a voxel size of 0 in the file, of which nibabel makes 1 without a word."""
    header, files = opened.header, opened.file_map
    holder = files.get("header", files["image"])
    by_size = header["sform_code"] == 0 and (header["pixdim"][1:4] == 1).any()
    if not by_size or holder.filename is None or not os.path.isfile(holder.filename):
        return
    if not np.allclose(opened.affine, header.get_best_affine()):
        return  # somebody has said where the voxels are
    with holder.get_prepare_fileobj("rb") as file:
        start = file.read(header.sizeof_hdr)
    if len(start) == header.sizeof_hdr:
        sizes = type(header)(start, check=False)["pixdim"][1:4]
        list(_check_sizes(np.where(header["pixdim"][1:4] == 1, sizes, 1)))


def notes_of(opened: Any) -> list[str]:
    """Tell what was mended of an image."""
    extra: dict[str, list[str]] = getattr(opened, "extra", {})
    return extra.get(_NOTES, [])


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


def shorten_quaternion(header: Any) -> float:
    """Shorten a quaternion that is too long by rounding; tell how long it was."""
    fields = ("quatern_b", "quatern_c", "quatern_d")
    length = math.hypot(*(float(header[field]) for field in fields))
    if 1 < length < 1 + _ROUNDING:
        for field in fields:
            header[field] /= length
    return length


def _check_sizes(sizes: Any) -> Iterator[str]:
    """Refuse voxel sizes that are none, where they place the image; in place."""
    for n, axis in enumerate("ijk"):
        size = float(sizes[n])
        if size == 0 or not math.isfinite(size):
            raise InputError(
                f"the header's voxel size along axis {axis} is {size:g} (pixdim), "
                "and no sform says another; repair the header"
            )
        if size < 0:
            sizes[n] = -size
            yield (
                f"the header's voxel size along axis {axis} is {size:g} (pixdim); "
                "its sign is ignored"
            )


def _codes(header: Any) -> Iterator[str]:
    """Take a form with a code that nobody knows, as other programs do."""
    for form in ("sform", "qform"):
        code = int(header[f"{form}_code"])
        if code > _LAST_CODE:
            header[f"{form}_code"] = 2
            yield f"the {form} has the unknown code {code}; it is taken as 2"
        elif code < 0:
            header[f"{form}_code"] = 0


def _sizes(header: Any) -> Iterator[str]:
    """Check the voxel sizes where no sform says them."""
    sizes = header["pixdim"][1:4]
    if header["sform_code"] == 0:
        yield from _check_sizes(sizes)
    else:
        known = np.isfinite(sizes) & (sizes != 0)
        sizes[:] = np.where(known, np.abs(sizes), 1)


def _handedness(header: Any) -> Iterator[str]:
    """Take the sign of qfac, which is 1 or -1; 0 is 1 by the standard."""
    qfac = float(header["pixdim"][0])
    sign = -1.0 if qfac < 0 else 1.0
    if qfac == sign:
        return
    header["pixdim"][0] = sign
    if qfac != 0 and header["sform_code"] == 0 and header["qform_code"] > 0:
        yield f"the header's qfac (pixdim[0]) is {qfac:g}; it is taken as {sign:g}"


def _quaternion(header: Any) -> Iterator[str]:
    """Take a quaternion that is too long by rounding; refuse a longer one."""
    length = shorten_quaternion(header)
    if (
        not length < 1 + _ROUNDING
        and header["sform_code"] == 0
        and header["qform_code"] > 0
    ):
        raise InputError(
            "the qform is not a rotation, and no sform says where the image is; "
            "repair the header"
        )
    yield from ()


def _units(header: Any) -> Iterator[str]:
    """Say in which unit lengths are; what no unit has for a code is not known."""
    code = int(header["xyzt_units"])
    length, time = code & 7, code & 56
    if length > 3:
        yield (
            f"the header's unit of length has the unknown code {length}; it is taken "
            "as mm"
        )
        length = 0
    if length in _IN_MM:
        yield (
            f"the header counts lengths in {_IN_MM[length][0]}; they are scaled to mm"
        )
    header["xyzt_units"] = length + (time if time <= 48 else 0)


_CHECKS: tuple[Callable[[Any], Iterator[str]], ...] = (
    _codes,
    _sizes,
    _handedness,
    _quaternion,
    _units,
)


def _mend(header: Any, notes: list[str]) -> float:
    """Mend a header in place, note what was wrong, and tell its unit in mm."""
    for check in _CHECKS:
        notes.extend(check(header))
    return _IN_MM.get(int(header["xyzt_units"]) & 7, ("mm", 1.0))[1]


def _rescale(header: Any, scale: float) -> None:
    """Say in mm what a header says in another unit."""
    if scale == 1:
        return
    header["pixdim"][1:4] *= scale
    for row in "xyz":
        header[f"srow_{row}"] *= scale
        header[f"qoffset_{row}"] *= scale
    header["xyzt_units"] = int(header["xyzt_units"]) & 56 | 2
