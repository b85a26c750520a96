# nibabel has no types:
# mypy: disallow-untyped-calls=False
"""How much of their fields of view two images share."""

from __future__ import annotations

from itertools import permutations

import nibabel as nib
import numpy as np
import numpy.typing as npt

from ._image import Image

FloatArray = npt.NDArray[np.float64]

#: Fields of view that share less of the smaller one than this hardly overlap.
HARDLY = 0.1

#: A box in six tetrahedra: the corners on the six ways from the first to the last one
#: along its edges. Corner 4 i + 2 j + k is at (i, j, k).
_TETRAHEDRA = np.array([(0, a, a + b, 7) for a, b, _ in permutations((4, 2, 1))])


def overlap_fraction(fixed: Image, moving: Image) -> float:
    """Share of the smaller field of view that two images have in common."""
    smaller = min(
        image.voxels.size * image.voxel_volume_mm3 for image in (fixed, moving)
    )
    return overlap_mm3(fixed, moving) / smaller


def overlap_mm3(fixed: Image, moving: Image) -> float:
    """Volume in cubic mm that the fields of view of two images share.

    A field of view ends with its outermost voxels, half a voxel beyond their centres.
    """
    fixed_ijk_from_moving_ijk = np.linalg.inv(fixed.mm_from_ijk) @ moving.mm_from_ijk
    corners = np.indices((2, 2, 2)).reshape(3, 8).T * np.array(moving.shape) - 0.5
    box = nib.affines.apply_affine(fixed_ijk_from_moving_ijk, corners)
    tetrahedra = box[_TETRAHEDRA]
    for axis, n in enumerate(fixed.shape):
        tetrahedra = _clipped(tetrahedra, -0.5 - tetrahedra[..., axis])
        tetrahedra = _clipped(tetrahedra, tetrahedra[..., axis] - (n - 0.5))
    edges = tetrahedra[:, 1:] - tetrahedra[:, :1]
    voxels = float(np.abs(np.linalg.det(edges)).sum()) / 6
    # Boxes that only touch share no more than rounding.
    return voxels * fixed.voxel_volume_mm3 if voxels > 1e-6 else 0.0


def _clipped(tetrahedra: FloatArray, beyond: FloatArray) -> FloatArray:
    """Cut off what of tetrahedra (n, 4, 3) is beyond a plane: at (n, 4) above 0."""
    order = np.argsort(beyond, axis=1)
    beyond = np.take_along_axis(beyond, order, axis=1)
    corners = np.take_along_axis(tetrahedra, order[..., None], axis=1)
    a, b, c, d = corners.swapaxes(0, 1)

    def cut(i: int, o: int) -> FloatArray:
        """Where the plane cuts the edges from corner i, inside, to o, outside."""
        with np.errstate(divide="ignore", invalid="ignore"):  # where it cuts none
            share = beyond[:, i] / (beyond[:, i] - beyond[:, o])
            return corners[:, i] + share[:, None] * (corners[:, o] - corners[:, i])

    kept: dict[int, list[tuple[FloatArray, ...]]] = {  # by how many corners are inside
        1: [(a, cut(0, 1), cut(0, 2), cut(0, 3))],
        2: _prism(a, cut(0, 2), cut(0, 3), b, cut(1, 2), cut(1, 3)),
        3: _prism(a, b, c, cut(0, 3), cut(1, 3), cut(2, 3)),
        4: [(a, b, c, d)],
    }
    inside = (beyond <= 0).sum(axis=1)
    return np.concatenate(
        [
            np.stack(part, axis=1)[inside == count]
            for count, parts in kept.items()
            for part in parts
        ]
    )


def _prism(
    a: FloatArray,
    b: FloatArray,
    c: FloatArray,
    d: FloatArray,
    e: FloatArray,
    f: FloatArray,
) -> list[tuple[FloatArray, ...]]:
    """Make tetrahedra of a prism with edges from a to d, b to e and c to f."""
    return [(a, b, c, f), (a, b, e, f), (a, d, e, f)]
