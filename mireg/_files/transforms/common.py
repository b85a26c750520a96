# nibabel has no types:
# mypy: disallow-untyped-calls=False
"""What the formats share: the images that a file speaks of, and checks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, BinaryIO

import nibabel as nib
import numpy as np
import numpy.typing as npt

from ..._errors import ImagesNeededError, InputError
from ..._image import Image
from ..formats import ImageLike, as_nibabel

FloatArray = npt.NDArray[np.float64]

#: LPS+ mm, which ITK and AFNI speak, and RAS+ mm: the same matrix goes both ways.
LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])

#: Last row of an affine matrix, and how far single precision may put it off: a point
#: 200 mm away would be moved by 2e-4 mm by either, if it were meant.
_LAST_ROW = np.array([0.0, 0.0, 0.0, 1.0])
_ROUNDING = np.array([5e-9, 5e-9, 5e-9, 1e-6])

#: Largest number of a matrix: no point of an image is further away, in mm, than 1e7.
_LARGEST = 1e8

#: No file with one linear transform is larger, HDF5 apart.
_MOST_BYTES = 1 << 20


@dataclass(frozen=True, eq=False)
class Grid:
    """Where the voxels of an image are, and what its header says of it.

    Attributes
    ----------
    shape : (3,) tuple of int
        Number of voxels along each axis.
    mm_from_ijk : (4, 4) ndarray
        Voxel indices to RAS+ mm.
    header : nibabel header or None
        Of the file, if there is one.
    name : str
        Path of the file, or "".
    """

    shape: tuple[int, ...]
    mm_from_ijk: FloatArray
    header: Any = None
    name: str = ""

    @property
    def column_mm(self) -> FloatArray:
        """Length of one voxel step along each axis, from the affine, mm."""
        return np.linalg.norm(self.mm_from_ijk[:3, :3], axis=0)

    @property
    def pixdim_mm(self) -> FloatArray:
        """Voxel size as a NIfTI header states it, else as the affine does, mm."""
        if isinstance(self.header, nib.Nifti1Header):
            stated = np.abs(np.array(self.header.get_zooms()[:3], np.float64))
            if (stated > 0).all():
                return stated
        return self.column_mm


@dataclass(frozen=True, eq=False)
class Images:
    """The two images of a transform, opened when a file cannot do without.

    Attributes
    ----------
    fixed, moving : whatever stands for an image, or None
        Only where their voxels are is read.
    """

    fixed: ImageLike | None = None
    moving: ImageLike | None = None

    def grids(self, what: str) -> tuple[Grid, Grid]:
        """Give the grids of fixed and moving, or say who needs which of them."""
        missing = [
            f"the {side} image"
            for side, image in (("fixed", self.fixed), ("moving", self.moving))
            if image is None
        ]
        if self.fixed is None or self.moving is None:
            raise ImagesNeededError(
                f"{what} means something only together with both images, and "
                f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not "
                "given; give both"
            )
        return grid(self.fixed), grid(self.moving)


def grid(image: ImageLike) -> Grid:
    """Read where the voxels of whatever stands for an image are."""
    if isinstance(image, Image):
        if image.source is None:
            return Grid(image.shape, image.mm_from_ijk)
        image = image.source.opened
    opened = as_nibabel(image)
    name = str(opened.get_filename() or "")
    affine = np.array(opened.affine, dtype=np.float64)
    return Grid(tuple(opened.shape[:3]), affine, opened.header, name)


def content(file: BinaryIO) -> bytes:
    """Read a small file."""
    read = file.read(_MOST_BYTES + 1)
    if len(read) > _MOST_BYTES:
        raise InputError(
            "too large for one linear transform; give the linear part, not the warp"
        )
    return read


def text(file: BinaryIO) -> str:
    """Read a small text file."""
    try:
        return content(file).decode("utf-8").replace("\r", "\n")
    except UnicodeDecodeError as error:
        raise InputError(
            "not a text file, and not of another format that is read; export it as "
            "ITK's"
        ) from error


def number_rows(words: str) -> list[list[float]]:
    """Read rows of numbers; what follows a # is a comment.

    Blanks, commas or DICOM's backslashes are between them.
    """
    blanks = str.maketrans(",\\", "  ")
    lines = [line.split("#")[0].translate(blanks) for line in words.splitlines()]
    try:
        return [
            [float(word) for word in line.split()] for line in lines if line.strip()
        ]
    except ValueError as error:
        raise InputError(
            "holds more than rows of numbers, and is not of another format that is "
            "read; export it as ITK's"
        ) from error


def row_lengths(rows: list[list[float]]) -> list[int]:
    """Count the numbers in each row."""
    return [len(row) for row in rows]


def rows_text(matrix: FloatArray) -> str:
    """Write the rows of a matrix so that every digit comes back."""
    return "".join(" ".join(f"{x + 0.0:.17g}" for x in row) + "\n" for row in matrix)


def checked(matrix: npt.ArrayLike) -> FloatArray:
    """Copy an affine matrix; refuse one that maps no space onto another."""
    try:
        given = np.asarray(matrix)
    except ValueError as error:  # rows of different lengths
        raise InputError(
            "a transform must be a matrix of shape (4, 4); its rows differ in length"
        ) from error
    if given.dtype.kind not in "fiu":
        raise InputError(
            "a transform must be a matrix of real numbers, or a file, not "
            f"{type(matrix).__name__}"
        )
    m = given.astype(np.float64)
    if m.shape != (4, 4) or not np.isfinite(m).all():
        raise InputError("a transform must be a finite matrix of shape (4, 4)")
    if np.abs(m).max() > _LARGEST:
        raise InputError(
            f"the transform has the number {m.flat[np.abs(m).argmax()]:g}, too large "
            "for mm; it is damaged, or in another unit: export it again"
        )
    if (np.abs(m[3] - _LAST_ROW) > _ROUNDING).any():
        if np.array_equal(m[:, 3], _LAST_ROW):
            raise InputError(
                "the transform's last column is 0 0 0 1, so it is written by columns; "
                "write its rows as columns, its columns as rows"
            )
        raise InputError(
            f"the transform's last row is {m[3]}, not 0 0 0 1, so it is not linear; "
            "export its linear part"
        )
    m[3] = _LAST_ROW
    if abs(np.linalg.det(m)) < 1e-9:
        raise InputError(
            "the transform is singular: it flattens space; check its numbers"
        )
    return m
