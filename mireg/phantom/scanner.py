"""What a scanner does to anatomy: voxels, blur, shading, dropout and noise."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from .._errors import InputError
from .._image import Image
from .._transform import RigidTransform
from .contrast import Contrast, named_contrast
from .head import Head
from .shapes import FloatArray, Subject, Values, generator

Grid = tuple[tuple[int, int, int], FloatArray]  # shape and mm_from_ijk

_FWHM_PER_SIGMA = 2.3548

_BLOCK = 32  # voxels along the edge of a block that is painted at once
_MARGIN_MM = 6.0  # of air around the head in a default field of view
_DROPOUTS = (  # centre and reach in mm of signal loss above sinuses and ears
    ((0.0, 40.0, -22.0), 17.0),
    ((52.0, -18.0, -30.0), 13.0),
    ((-52.0, -18.0, -30.0), 13.0),
)


def head_grid(
    voxel_size_mm: npt.ArrayLike,
    *,
    seed: int = 0,
    box_from_head: RigidTransform | None = None,
    fov_mm: npt.ArrayLike | None = None,
) -> Grid:
    """Lay a grid of voxels around a head.

    Parameters
    ----------
    voxel_size_mm : float or (3,) array_like
        Voxel size along the axes of the box.
    seed : int, optional
        Which head.
    box_from_head : RigidTransform, optional
        How the head lies in the box: maps head coordinates to mm along the axes
        of the box (default: straight).
    fov_mm : float or (3,) array_like, optional
        Field of view, about the middle of the head. By default it holds the
        whole head, however it is turned.

    Returns
    -------
    shape : tuple of int
        Number of voxels along each axis.
    box_from_ijk : (4, 4) ndarray
        Maps voxel indices to mm along the axes of the box.

    Examples
    --------
    >>> shape, box_from_ijk = head_grid(4.0, fov_mm=200.0)
    >>> shape
    (50, 50, 50)
    """
    return grid_around(Head.from_seed(seed), voxel_size_mm, box_from_head, fov_mm)


def grid_around(
    subject: Subject,
    voxel_size_mm: npt.ArrayLike,
    box_from_subject: RigidTransform | None = None,
    fov_mm: npt.ArrayLike | None = None,
) -> Grid:
    """Lay a grid of voxels around any anatomy; see `head_grid`."""
    size = _three_lengths(voxel_size_mm, "voxel size")
    pose = box_from_subject or RigidTransform.identity()
    turned = pose.rotation_matrix  # rows: the axes of the box as the subject sees them
    high = subject.reach(turned) + pose.matrix[:3, 3]
    low = -subject.reach(-turned) + pose.matrix[:3, 3]
    if fov_mm is None:
        extent = high - low + 2 * _MARGIN_MM
    else:
        extent = _three_lengths(fov_mm, "field of view")
    shape = np.maximum(np.ceil(extent / size - 1e-6), 1).astype(int)
    box_from_ijk = np.diag([*size, 1.0])
    box_from_ijk[:3, 3] = (low + high) / 2 - size * (shape - 1) / 2
    return (int(shape[0]), int(shape[1]), int(shape[2])), box_from_ijk


def _three_lengths(given: npt.ArrayLike, name: str) -> FloatArray:
    """Return lengths along three axes, of which one number stands for all."""
    try:
        lengths = np.broadcast_to(np.asarray(given, float), 3)
    except (TypeError, ValueError):  # words, or two of them
        lengths = np.zeros(3)
    if not (np.isfinite(lengths) & (lengths > 0)).all():
        raise InputError(
            f"the {name} is {given!r} mm; it must be a number above 0, or three"
        )
    return lengths


def make_phantom(
    contrast: str | Contrast,
    *,
    seed: int = 0,
    noise_seed: int = 0,
    scan_from_head: RigidTransform | None = None,
    voxel_size_mm: npt.ArrayLike | None = None,
    fov_mm: npt.ArrayLike | None = None,
    grid: Grid | None = None,
) -> Image:
    """Scan a synthetic head.

    Parameters
    ----------
    contrast : str or Contrast
        One of `CONTRASTS`, or your own.
    seed : int, optional
        Which head.
    noise_seed : int, optional
        Which noise and shading.
    scan_from_head : RigidTransform, optional
        Where the head lies: maps head coordinates to the mm of the scan
        (default: they are the same).
    voxel_size_mm : float or (3,) array_like, optional
        Voxel size (default: that of the contrast).
    fov_mm : float or (3,) array_like, optional
        Field of view about the middle of the head (default: the whole head).
    grid : (shape, mm_from_ijk), optional
        The voxels to fill, instead of a box along the axes of the scan with the
        size and field of view above.

    Returns
    -------
    Image
        The scan. Equal arguments give equal bits.

    Raises
    ------
    InputError
        If there is no such contrast, or `grid` comes with a voxel size or a
        field of view.

    Examples
    --------
    >>> import numpy as np
    >>> ct = make_phantom("CT", voxel_size_mm=8.0)
    >>> bool(-1100 < np.percentile(ct.data, 5) < -900)
    True
    """
    look = named_contrast(contrast)
    pose = scan_from_head or RigidTransform.identity()
    if grid is None:
        size = look.voxel_size_mm if voxel_size_mm is None else voxel_size_mm
        grid = head_grid(size, seed=seed, box_from_head=pose, fov_mm=fov_mm)
    elif voxel_size_mm is not None or fov_mm is not None:
        raise InputError(
            "a grid has its own voxel size and field of view; leave these out"
        )
    name = zlib.crc32(repr(look).encode())
    rng = generator(seed, noise_seed, name)
    return expose(Head.from_seed(seed), look, grid, pose, rng)


def expose(
    subject: Subject,
    look: Contrast,
    grid: Grid,
    scan_from_subject: RigidTransform,
    rng: np.random.Generator,
) -> Image:
    """Fill a grid with what a scanner sees of some anatomy."""
    shape, mm_from_ijk = grid
    subject_from_ijk = scan_from_subject.inverse().matrix @ np.asarray(
        mm_from_ijk, float
    )
    signal = _signal(subject, look, shape, subject_from_ijk)
    if look.bias:
        signal *= _shading(shape, look.bias, rng)
    if look.noise_level:
        size_mm = np.linalg.norm(subject_from_ijk[:3, :3], axis=0)
        signal = _noisy(signal, look, size_mm, rng)
    return Image(signal, mm_from_ijk)


def _blocks(shape: tuple[int, ...]) -> Iterator[tuple[slice, slice, slice]]:
    """Cut a grid into cubes."""
    for i in range(0, shape[0], _BLOCK):
        for j in range(0, shape[1], _BLOCK):
            for k in range(0, shape[2], _BLOCK):
                yield tuple(  # type: ignore[misc]
                    slice(start, min(start + _BLOCK, n))
                    for start, n in zip((i, j, k), shape, strict=True)
                )


def _signal(
    subject: Subject,
    look: Contrast,
    shape: tuple[int, int, int],
    subject_from_ijk: FloatArray,
) -> Values:
    """Return what a perfect scanner with this point spread would see."""
    size = np.linalg.norm(subject_from_ijk[:3, :3], axis=0)
    coarsest = max(subject.detail_mm, float(np.cbrt(np.prod(size))) / 2)
    per_voxel = np.ceil(size / coarsest - 1e-6).astype(int)
    fine = np.array(shape) * per_voxel
    # Sample f of a voxel cut into n lies at (f + 1/2) / n - 1/2.
    ijk_from_fine = np.diag([*(1 / per_voxel), 1.0])
    ijk_from_fine[:3, 3] = 0.5 / per_voxel - 0.5
    subject_from_fine = subject_from_ijk @ ijk_from_fine
    step = size / per_voxel
    edge_mm = float(np.cbrt(np.prod(step)))
    values = np.empty(tuple(fine), np.float32)
    for block in _blocks(values.shape):
        index = np.mgrid[block].reshape(3, -1)
        points = subject_from_fine[:3, :3] @ index + subject_from_fine[:3, 3:]
        painted = subject.paint(points, look.intensities, edge_mm)
        if look.dropout:
            painted *= _kept(points, look.dropout)
        values[block] = painted.reshape(values[block].shape)
    if look.blur_fwhm_mm:
        sigma = look.blur_fwhm_mm / _FWHM_PER_SIGMA / step
        values = ndimage.gaussian_filter(values, sigma, mode="nearest", truncate=3.0)
    if (per_voxel > 1).any():
        n = [(s, p) for s, p in zip(shape, per_voxel.tolist(), strict=True)]
        values = values.reshape([m for pair in n for m in pair]).mean(axis=(1, 3, 5))
    return values


def _kept(points: FloatArray, dropout: float) -> Values:
    """Return the fraction of signal that survives near the air-filled sinuses."""
    kept = np.ones(points.shape[1], np.float32)
    for centre, reach in _DROPOUTS:
        apart = (points - np.array(centre)[:, None]).astype(np.float32)
        square = np.einsum("an,an->n", apart, apart)
        kept *= 1 - np.float32(dropout) * np.exp(square * np.float32(-0.5 / reach**2))
    return kept


def _shading(
    shape: tuple[int, int, int], amplitude: float, rng: np.random.Generator
) -> Values:
    """Draw a smooth field about one, made of the lowest cosines of the box."""
    weight = rng.standard_normal((3, 3, 3))
    order = np.indices((3, 3, 3)).sum(axis=0)
    weight[(order == 0) | (order > 2)] = 0
    # A product of cosines of which m are not constant has mean square 2**-m.
    square = weight**2 * 0.5 ** (np.indices((3, 3, 3)) > 0).sum(axis=0)
    weight *= amplitude / np.sqrt(square.sum())
    x, y, z = (
        np.cos(np.pi * np.arange(3)[:, None] * (np.arange(n) + 0.5) / n) for n in shape
    )
    plane = np.einsum("abc,ax,by->xyc", weight, x, y).astype(np.float32)
    shading: Values = np.exp(plane @ z.astype(np.float32))
    return shading


def _noisy(
    signal: Values, look: Contrast, size_mm: FloatArray, rng: np.random.Generator
) -> Values:
    """Add the noise of the scanner."""
    level = np.float32(look.noise_level)
    first = rng.standard_normal(signal.shape, dtype=np.float32)
    noisy: Values
    if look.noise == "gaussian":
        noisy = signal + first * level
    elif look.noise == "rician":
        second = rng.standard_normal(signal.shape, dtype=np.float32)
        noisy = np.hypot(signal + first * level, second * level)
    else:
        sigma = look.blur_fwhm_mm / 2 / _FWHM_PER_SIGMA / size_mm
        grain = ndimage.gaussian_filter(first, sigma, mode="wrap")
        grain *= level / max(float(grain.std()), 1e-12)
        share = np.maximum(signal, 0) / np.float32(look.intensities["grey"])
        noisy = np.maximum(signal + grain * np.sqrt(share), 0)
    return noisy
