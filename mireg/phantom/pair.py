"""Two scans of one head, and the truth about them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .._errors import InputError
from .._image import Image
from .._transform import RigidTransform
from .contrast import BRAIN, TISSUES, Contrast, named_contrast
from .head import Head
from .scanner import head_grid, make_phantom
from .shapes import FloatArray, generator


def random_pose(
    rng: np.random.Generator,
    *,
    max_offset_mm: float = 100.0,
    max_angle_deg: float = 180.0,
) -> RigidTransform:
    """Draw a rigid transform about the origin.

    Parameters
    ----------
    rng : numpy.random.Generator
        Where the randomness comes from.
    max_offset_mm : float, optional
        Largest translation; its direction and length are uniform.
    max_angle_deg : float, optional
        Largest angle of rotation. Orientations are uniform (Haar) among those
        with at most this angle; 180 means every orientation.

    Raises
    ------
    InputError
        If `rng` is no generator, as a seed is none.

    Examples
    --------
    >>> import numpy as np
    >>> pose = random_pose(np.random.default_rng(0), max_angle_deg=10)
    >>> bool(pose.angle_deg <= 10)
    True
    """
    if not isinstance(rng, np.random.Generator):
        raise InputError(
            f"rng is {type(rng).__name__}; give a numpy.random.default_rng(seed)"
        )
    axis, offset = rng.standard_normal((2, 3))
    # The angle t of a uniform rotation has the density 1 - cos(t), 0 <= t <= pi.
    top = np.deg2rad(max_angle_deg)
    angles = np.linspace(0, top, 4097)
    cumulated = angles - np.sin(angles)
    angle = np.interp(rng.uniform(0, cumulated[-1]), cumulated, angles)
    length = rng.uniform(0, max_offset_mm)
    return RigidTransform(
        angle * axis / np.linalg.norm(axis), length * offset / np.linalg.norm(offset)
    )


class PhantomPair(NamedTuple):
    """Two scans of one head, and the truth about them."""

    fixed: Image
    moving: Image
    moving_from_fixed: RigidTransform


def phantom_pair(
    fixed_contrast: str | Contrast = "T1",
    moving_contrast: str | Contrast = "T2",
    *,
    seed: int = 0,
    pose: RigidTransform | None = None,
    fixed_voxel_size_mm: npt.ArrayLike | None = None,
    moving_voxel_size_mm: npt.ArrayLike | None = None,
    max_tilt_deg: float = 6.0,
    turned_in_box: bool = False,
) -> PhantomPair:
    """Scan one synthetic head twice.

    Parameters
    ----------
    fixed_contrast, moving_contrast : str or Contrast, optional
        Two of `CONTRASTS`, or your own.
    seed : int, optional
        Which head, noise, tilt and (by default) pose.
    pose : RigidTransform, optional
        The true `moving_from_fixed`. By default any orientation, with the head
        up to 100 mm away.
    fixed_voxel_size_mm, moving_voxel_size_mm : float or (3,) array_like, optional
        Voxel sizes (default: those of the contrasts).
    max_tilt_deg : float, optional
        How obliquely the head may lie in each box of voxels; its position in the
        box varies too.
    turned_in_box : bool, optional
        How `pose` comes about. False (default): the head lies about straight in
        both boxes, and the header of the moving scan is far off. True: the box of
        the moving scan lies along the axes of its mm, and the head is turned in it.

    Returns
    -------
    PhantomPair
        `fixed`, `moving` and `moving_from_fixed`, which maps a point of `fixed`
        (RAS+ mm, the coordinates of the head) to the point of `moving` (RAS+ mm)
        with the same anatomy. Both boxes hold the whole head.

    Raises
    ------
    InputError
        If there is no such contrast, or the seed or a voxel size is none.

    Examples
    --------
    >>> pair = phantom_pair(
    ...     "T1", "PET", seed=3, fixed_voxel_size_mm=8, moving_voxel_size_mm=8
    ... )
    >>> bool(pair.moving_from_fixed.max_displacement([[0, 0, 0]]) <= 100)
    True
    """
    rng = generator(seed, 0x9A12)
    drawn = random_pose(rng)
    truth = drawn if pose is None else pose
    straight = RigidTransform.identity()
    tilts = [
        random_pose(rng, max_offset_mm=0, max_angle_deg=max_tilt_deg) for _ in range(2)
    ]
    if turned_in_box:
        tilts[1] = truth
    scans = (
        (fixed_contrast, fixed_voxel_size_mm, straight, tilts[0]),
        (moving_contrast, moving_voxel_size_mm, truth, tilts[1]),
    )
    images = []
    for number, (contrast, size, scan_from_head, box_from_head) in enumerate(scans):
        look = named_contrast(contrast)
        shape, box_from_ijk = head_grid(
            look.voxel_size_mm if size is None else size,
            seed=seed,
            box_from_head=box_from_head,
        )
        shift = np.eye(4)  # so that the two grids have nothing in common
        shift[:3, 3] = rng.uniform(-2, 2, 3)
        scan_from_box = scan_from_head.matrix @ box_from_head.inverse().matrix
        images.append(
            make_phantom(
                look,
                seed=seed,
                noise_seed=number,
                scan_from_head=scan_from_head,
                grid=(shape, scan_from_box @ shift @ box_from_ijk),
            )
        )
    return PhantomPair(images[0], images[1], truth)


def brain_points(seed: int = 0, *, spacing_mm: float = 5.0) -> FloatArray:
    """Return points spread evenly over a brain, to measure errors at.

    Parameters
    ----------
    seed : int, optional
        Which head.
    spacing_mm : float, optional
        Distance between neighbours.

    Returns
    -------
    (n, 3) ndarray
        Points in head coordinates, which are the RAS+ mm of the fixed scan of
        `phantom_pair`.

    Examples
    --------
    >>> points = brain_points(spacing_mm=10)
    >>> len(points) > 500
    True
    """
    (nx, ny, nz), head_from_ijk = head_grid(spacing_mm, seed=seed)
    ijk = np.indices((nx, ny, nz)).reshape(3, -1).T
    points = ijk @ head_from_ijk[:3, :3].T + head_from_ijk[:3, 3]
    table = {tissue: float(tissue in BRAIN) for tissue in TISSUES}
    inside = Head.from_seed(seed).sample(points, table) > 0.5
    return points[inside]
