# nibabel has no types:
# mypy: disallow-untyped-calls=False
"""A series of volumes, read one at a time: a 4-D image, or a list of 3-D ones."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

import nibabel as nib
import numpy as np
import numpy.typing as npt

from ..._errors import InputError
from ..._image import Image
from ..faults import in_file, name_of, reading_voxels
from ..formats import (
    ImageLike,
    as_nibabel,
    grid_of,
    is_gzipped,
    n_volumes,
    scaled,
    scaling,
)

try:
    from isal.igzip import IGzipFile as GzipFile
except ImportError:  # not made for this processor
    from gzip import GzipFile

#: What stands for a series: a 4-D image, or a list of 3-D ones.
SeriesLike = ImageLike | Sequence[ImageLike]


class Series:
    """Volumes of one head, one after the other; never more than one is read at once.

    Parameters
    ----------
    given : path, nibabel image, (array, affine), or list of images
        A 4-D image, or a list of 3-D ones, each on a grid of its own.

    Attributes
    ----------
    opened : nibabel image
        The 4-D image, or the first of the list: what its files take over.
    name : str
        For messages.

    Raises
    ------
    InputError
        If it has fewer than two volumes, or an image of the list is not 3-D.
    """

    def __init__(self, given: SeriesLike) -> None:
        self._parts: list[Any] = []
        if _is_list(given):
            self._parts = [as_nibabel(one) for one in cast(Sequence[ImageLike], given)]
            for one in self._parts:
                if n_volumes(one) > 1:
                    raise InputError(
                        f"{name_of(one)}: has {n_volumes(one)} volumes; give one 4-D "
                        "image, or a list of 3-D ones"
                    )
        if isinstance(given, Image):
            raise InputError("a mireg.Image is one volume; give a 4-D image, or a list")
        self.opened: Any = (
            self._parts[0] if self._parts else as_nibabel(cast(ImageLike, given))
        )
        self.name = name_of(self.opened, "the series")
        if len(self) < 2:
            raise InputError(
                f"{self.name}: has one volume only; a series has two or more: for two "
                "images use mireg register"
            )

    def __len__(self) -> int:
        return len(self._parts) or n_volumes(self.opened)

    @property
    def path(self) -> str | None:
        """Path of the 4-D image, if it is a file."""
        return None if self._parts else self.opened.get_filename()

    @property
    def repetition_time(self) -> float:
        """Time from volume to volume, in the unit of the header; NaN if not known."""
        zooms = self.opened.header.get_zooms()
        return float(zooms[3]) if len(zooms) > 3 and zooms[3] > 0 else math.nan

    def grid(self, number: int = 0) -> Image:
        """Tell where the voxels of a volume are."""
        return grid_of(self._parts[number] if self._parts else self.opened)

    def __iter__(self) -> Iterator[Image]:
        """Read all volumes, in their order."""
        return self.read(range(len(self)))

    def read(self, numbers: Sequence[int]) -> Iterator[Image]:
        """Read some volumes, whose numbers go up.

        Raises
        ------
        InputError
            If there is no such volume, or the voxels cannot be read.
        """
        for number in numbers:
            if not 0 <= number < len(self):
                raise InputError(
                    f"{self.name}: there is no volume {number}; it has volumes 0 to "
                    f"{len(self) - 1}"
                )
        if self._parts:
            return (_whole(self._parts[number]) for number in numbers)
        return self._read(numbers)

    def _read(self, numbers: Sequence[int]) -> Iterator[Image]:
        """Read volumes of a 4-D image from its file, or take them from memory."""
        proxy, affine = self.opened.dataobj, self.opened.affine
        slope, inter = scaling(self.opened)
        count = math.prod(proxy.shape[:3])
        if type(proxy) is not nib.arrayproxy.ArrayProxy or proxy.order != "F":
            for number in numbers:
                with reading_voxels(self.name):
                    raw = np.asanyarray(proxy[..., number]).reshape(proxy.shape[:3])
                yield Image(scaled(raw, 1.0, 0.0), affine)
            return
        # Nothing that is set for the reading may hold while others use the volume.
        with reading_voxels(self.name):
            file = _open(proxy.file_like)
        with file:
            for number in numbers:
                with reading_voxels(self.name):
                    file.seek(proxy.offset + number * count * proxy.dtype.itemsize)
                    raw = _numbers(file, proxy.dtype, count)
                    data = scaled(raw.reshape(proxy.shape[:3], order="F"), slope, inter)
                with in_file(self.name):
                    volume = Image(data, affine)
                yield volume


def _is_list(given: Any) -> bool:
    """Tell a list of images from (array, affine)."""
    if not isinstance(given, list | tuple):
        return False
    return not (len(given) == 2 and np.shape(given[1]) == (4, 4))


def _whole(opened: Any) -> Image:
    """Read a 3-D image."""
    with reading_voxels(name_of(opened)):
        raw = np.asanyarray(opened.dataobj).reshape(opened.shape[:3])
    with in_file(name_of(opened)):
        return Image(scaled(raw, 1.0, 0.0), opened.affine)


def _open(path: Any) -> BinaryIO:
    """Open the file of the voxels, through gzip where its name says so."""
    if is_gzipped(path):
        return cast(BinaryIO, GzipFile(path, "rb"))
    if str(path).lower().endswith((".bz2", ".zst")):
        return cast(BinaryIO, nib.openers.ImageOpener(path, "rb"))
    return Path(path).open("rb")


def _numbers(file: BinaryIO, dtype: npt.DTypeLike, count: int) -> npt.NDArray[Any]:
    """Read so many stored numbers."""
    raw = np.empty(count, dtype)
    view, got = memoryview(raw.view(np.uint8)), 0  # type: ignore[arg-type]
    while got < len(view):
        part = file.read(min(len(view) - got, 1 << 24))
        if not part:
            raise EOFError("there are fewer voxels than the header says")
        view[got : got + len(part)] = part
        got += len(part)
    return raw
