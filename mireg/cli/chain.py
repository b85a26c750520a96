# ruff: noqa: PLC0415
# (imports inside functions keep --help fast)
"""Transform files one after another, in the order in which the image travels."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import reduce
from itertools import pairwise
from operator import matmul
from typing import TYPE_CHECKING

from .._errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from .._files.transforms.common import Images
    from .._transform import Transform

    FloatArray = npt.NDArray[np.float64]

#: What to do about a file whose images are not known.
_ADVICE = (
    "says something only together with its two images, and not both are known within a "
    "chain; make an ITK file of it first: mireg convert IN OUT.tfm --fixed F --moving M"
)


def composed(
    paths: Sequence[str],
    moving: str | None,
    fixed: str | None,
    format: str | None = None,
) -> tuple[Transform, str]:
    """Compose a chain: from the image it begins with, moving, to the one it ends with.

    Also told is the format of the first file.

    Raises
    ------
    InputError
        If a file cannot be read, or lies within a chain and needs an image there.
    """
    from .._files.transforms import read_with_format
    from .._transform import as_transform

    known = _known(paths, moving, fixed, format)
    read = [
        read_with_format(path, images, format)
        for path, images in zip(paths, known, strict=True)
    ]
    # moving_from_fixed = moving_from_middle @ middle_from_fixed: as they are given.
    transforms = [
        as_transform(matrix, name=path)
        for path, (matrix, _) in zip(paths, read, strict=True)
    ]
    return reduce(matmul, transforms), read[0][1]


def composed_series(
    paths: Sequence[str],
    moving: str | None,
    fixed: str | None,
    format: str | None = None,
) -> FloatArray:
    """Compose a chain of which some files hold a transform a volume; (n, 4, 4)."""
    from .._files.transforms.series import holds_series, read_series_matrices
    from .._transform import read_transform

    def read(path: str, known: Images) -> FloatArray:
        if format in ("par", "volreg") or holds_series(path):
            return read_series_matrices(path, known, format)
        found = read_transform(
            path, fixed=known.fixed, moving=known.moving, format=format
        )
        return found.matrix[None]

    each = list(map(read, paths, _known(paths, moving, fixed, format)))
    counts = {len(matrices) for matrices in each} - {1}
    if len(counts) > 1:
        raise InputError(
            f"the files hold transforms for {' and '.join(map(str, sorted(counts)))} "
            "volumes; give those of one series"
        )
    return reduce(matmul, each)


def _known(
    paths: Sequence[str], moving: str | None, fixed: str | None, format: str | None
) -> list[Images]:
    """Give each file of a chain the images it is between, as far as they are known.

    Of those in between nothing is known. Where two files of one program meet that
    counts in frames of the images, that in between cancels: any stands for it.
    """
    from .._files.transforms.common import Images

    kinds = [_own_frames(path, format) for path in paths] if len(paths) > 1 else [None]
    between = [
        fixed or moving if one is not None and one == two else None
        for one, two in pairwise(kinds)
    ]
    known = list(map(Images, [*between, fixed], [moving, *between]))
    for path, kind, images in zip(paths, kinds, known, strict=True):
        if kind and fixed and moving and None in (images.fixed, images.moving):
            raise InputError(f"{path}: {_ADVICE}")
    return known


def _own_frames(path: str, format: str | None) -> str | None:
    """Name the program of a file that counts in frames of its images, if it does."""
    from .._files.transforms import format_to_read
    from .._files.transforms.series import holds_series, series_format_to_read

    if not os.path.isfile(path) and not os.path.isdir(path):
        return None  # what a pipe holds can be read only once; no file is told later
    if format in ("par", "volreg") or holds_series(path):
        name = series_format_to_read(path, format)
    else:
        name = format_to_read(path, format).name
    return name if name in ("fsl", "afni") else None
