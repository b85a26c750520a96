"""Where does it fit? Blocks of the anatomy, each shifted by itself at the answer.

A block of samples tells by its intensities where in the other image it belongs: where
the pointwise mutual information of its samples, ``log p(a, b) / (p(a) p(b))`` under the
joint histogram of the whole, adds up to most. Noise leaves blocks of a right answer
about where they are; distortion moves those that it bends; another person's anatomy,
or its mirror image, all of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import _kernels as kernels
from .. import _parameters as parameters
from .._files.records import json_number
from .._image import Image
from .._prepare import Foreground, voxel_centres
from .._resample import regrid
from .._threads import shared
from .levels import Level
from .similarity import joint_histogram, parzen_window

FloatArray = npt.NDArray[np.float64]

#: Intensities of the interpolated image at which pointwise information is tabulated.
_TABULATED = 256


@dataclass(frozen=True, eq=False)
class Misfit:
    """Neighbouring blocks that are off the same way.

    Attributes
    ----------
    centre_mm : (3,) ndarray
        Mean of their centres, RAS+ mm.
    shift_mm : (3,) ndarray
        Mean of their shifts, RAS+ mm.
    blocks : (n,) ndarray
        Which blocks they are.
    share : float
        Of all compared points, those in these blocks.
    """

    centre_mm: FloatArray
    shift_mm: FloatArray
    blocks: npt.NDArray[np.intp]
    share: float


@dataclass(frozen=True, eq=False, repr=False)
class LocalResiduals:
    """How far off each block of the anatomy is, at one pose.

    Attributes
    ----------
    centres_mm : (n, 3) ndarray
        Centres of the blocks, RAS+ mm: in the fixed image, as `Registration` has them;
        as `local_residuals` gives them in the sampled one.
    shifts_mm : (n, 3) ndarray
        From where that image shows the anatomy of a block to where the other one does,
        once the answer has brought it there, RAS+ mm. NaN where a block holds too
        little information to tell.
    standard_errors_mm : (n,) ndarray
        Expected length of the error of each shift, from noise; NaN as above.
    gains : (n,) ndarray
        Share of its information that each block gains by moving; NaN as above.
    information : (n,) ndarray
        What each block explains where it fits best, in nats for all of its samples,
        counted as if they were independent; NaN where too few samples were compared.
    weights : (n,) ndarray
        Samples of each block, as a share of all.
    block_mm : float
        Side of a block.
    voxel_mm : float
        Voxel of the coarser image.
    """

    centres_mm: FloatArray
    shifts_mm: FloatArray
    standard_errors_mm: FloatArray
    gains: FloatArray
    information: FloatArray
    weights: FloatArray
    block_mm: float
    voxel_mm: float

    def __repr__(self) -> str:
        """Say in one line how far off the blocks are."""
        return (
            f"<LocalResiduals of {len(self.weights)} blocks, {int(self.told.sum())} "
            f"tell where they fit: median {self.median_mm:.2g} mm, 9 of 10 within "
            f"{self.worst_mm:.2g} mm>"
        )

    def on_grid_of(self, image: Image) -> Image:
        """Draw the sizes of the shifts, mm, over the field of view of an image.

        In voxels of half a block, each of the block that is nearest; NaN away from the
        anatomy and where a block does not tell.
        """
        grid = regrid(image, self.block_mm / 2)
        sizes = np.full(grid.data.size, np.nan, np.float32)
        centres = voxel_centres(grid)
        if len(self.centres_mm):
            # Squares added up axis by axis take no room for vectors.
            apart = np.zeros((len(centres), len(self.centres_mm)))
            for along, of_blocks in zip(centres.T, self.centres_mm.T, strict=True):
                apart += np.square(np.subtract.outer(along, of_blocks))
            nearest = np.argmin(apart, axis=1)
            near = apart[np.arange(len(centres)), nearest] <= self.block_mm**2 / 2
            sizes[near] = self.sizes_mm[nearest[near]]
        return Image(sizes.reshape(grid.shape), grid.mm_from_ijk)

    def only_told(self) -> LocalResiduals:
        """Leave out the blocks that do not tell where they fit."""
        kept = {name: getattr(self, name)[self.told] for name in _ARRAYS}
        return replace(self, **kept)

    def to_dict(self) -> dict[str, Any]:
        """Give them as JSON has them, NaN as null, and a summary."""
        return {
            **{name: json_number(getattr(self, name)) for name in _SUMMARY},
            **{name: _listed(getattr(self, name)) for name in _ARRAYS},
            "block_mm": self.block_mm,
            "voxel_mm": self.voxel_mm,
        }

    @classmethod
    def from_dict(cls, figures: Mapping[str, Any]) -> LocalResiduals:
        """Take them from what `to_dict` gave."""
        arrays = {name: np.array(figures[name], np.float64) for name in _ARRAYS}
        for name in _ARRAYS[:2]:
            arrays[name] = arrays[name].reshape(-1, 3)
        return cls(**arrays, block_mm=figures["block_mm"], voxel_mm=figures["voxel_mm"])

    @cached_property
    def told(self) -> npt.NDArray[np.bool_]:
        """Which blocks tell where they fit, (n,)."""
        return np.isfinite(self.standard_errors_mm)

    @cached_property
    def sizes_mm(self) -> FloatArray:
        """Length of each shift, (n,); NaN where not told."""
        return np.asarray(np.linalg.norm(self.shifts_mm, axis=1), np.float64)

    def seen_from_fixed(
        self, pose: FloatArray, *, sampled_is_fixed: bool
    ) -> LocalResiduals:
        """Restate them for the user, in the fixed image.

        Parameters
        ----------
        pose : (4, 4) array
            The answer: `interpolated_from_sampled`, RAS+ mm.
        sampled_is_fixed : bool
            Whether they are in the fixed image as they are.
        """
        if sampled_is_fixed:
            return self
        where = self.centres_mm + np.nan_to_num(self.shifts_mm)
        return replace(
            self,
            centres_mm=where @ pose[:3, :3].T + pose[:3, 3],
            shifts_mm=-self.shifts_mm @ pose[:3, :3].T,
        )

    @property
    def told_share(self) -> float:
        """Share of the samples whose blocks tell where they fit."""
        return float(self.weights[self.told].sum())

    @property
    def median_mm(self) -> float:
        """Median length of the shifts; NaN where none is told."""
        return self._quantile(0.5)

    @property
    def worst_mm(self) -> float:
        """Length below which nine in ten of the told samples are."""
        return self._quantile(0.9)

    @property
    def rms_mm(self) -> float:
        """Root mean square of the shifts, less what noise explains of it."""
        square = np.square(self.sizes_mm) - np.square(self.standard_errors_mm)
        return math.sqrt(max(self._mean(square), 0)) if self.told.any() else math.nan

    @property
    def fit_share(self) -> float:
        """Share of the told samples that fit within a voxel of the coarser image."""
        return self._mean((self.sizes_mm <= self.voxel_mm).astype(np.float64))

    @property
    def gain_share(self) -> float:
        """Share of the information of all told blocks that moving them gains."""
        told = self.told
        if not told.any():
            return math.nan
        gained = self.gains[told] * self.information[told]
        return float(gained.sum() / self.information[told].sum())

    @cached_property
    def misfit(self) -> Misfit | None:
        """The largest region that is clearly off the same way, such as by distortion.

        By more than a voxel of the coarser image and than noise explains, in two blocks
        or more that are neighbours; None where there is none.
        """
        error = parameters.RESIDUAL_CLEAR * self.standard_errors_mm
        off = np.flatnonzero(self.sizes_mm > np.maximum(self.voxel_mm, error))
        centres, shifts = self.centres_mm[off], self.shifts_mm[off]
        near = _distances(centres) <= parameters.RESIDUAL_NEIGHBOURS * self.block_mm
        sizes = np.minimum.outer(self.sizes_mm[off], self.sizes_mm[off])
        alike = near & (_distances(shifts) <= sizes)
        regions = []
        left = set(range(len(off)))
        while left:
            region, edge = set(), {min(left)}
            while edge:
                region |= edge
                edge = {*np.flatnonzero(alike[list(edge)].any(axis=0)).tolist()}
                edge -= region
            left -= region
            regions.append(off[sorted(region)])
        regions = [blocks for blocks in regions if len(blocks) > 1]
        if not regions:
            return None
        largest = max(regions, key=lambda blocks: float(self.weights[blocks].sum()))
        weights = self.weights[largest]
        return Misfit(
            centre_mm=np.average(self.centres_mm[largest], axis=0, weights=weights),
            shift_mm=np.average(self.shifts_mm[largest], axis=0, weights=weights),
            blocks=largest,
            share=float(weights.sum()),
        )

    @cached_property
    def rigid_mm(self) -> float:
        """Size, RMS over the told blocks, of the rigid motion in the shifts."""
        motion = self.rigid
        if motion is None:
            return math.nan
        square = np.square(self._arms @ motion).reshape(-1, 3).sum(axis=1)
        return math.sqrt(float(self.weights[self.told] @ square / self.told_share))

    @cached_property
    def rigid(self) -> FloatArray | None:
        """Rotation vector (rad) and translation (mm) that explain most of the shifts.

        (6,), about the origin of RAS+; None where fewer than four blocks are told.
        """
        told = self.told
        if told.sum() < 4:
            return None
        share = self.weights[told] / self.standard_errors_mm[told] ** 2
        share = np.repeat(np.sqrt(share), 3)
        motion, *_ = np.linalg.lstsq(
            self._arms * share[:, None],
            self.shifts_mm[told].ravel() * share,
            rcond=None,
        )
        return np.asarray(motion, np.float64)

    @property
    def _arms(self) -> FloatArray:
        """By how much six numbers of a motion move the told blocks, (3 n, 6)."""
        x, y, z = self.centres_mm[self.told].T
        zero, one = np.zeros_like(x), np.ones_like(x)
        rows = [
            [zero, z, -y, one, zero, zero],
            [-z, zero, x, zero, one, zero],
            [y, -x, zero, zero, zero, one],
        ]
        return np.moveaxis(np.array(rows), 2, 0).reshape(-1, 6)

    def _mean(self, values: FloatArray) -> float:
        """Mean of the told samples; NaN where there are none."""
        told = self.told
        if not told.any():
            return math.nan
        return float(self.weights[told] @ values[told] / self.told_share)

    def _quantile(self, share: float) -> float:
        """Length below which a share of the told samples is."""
        told = self.told
        if not told.any():
            return math.nan
        order = np.argsort(self.sizes_mm[told], kind="stable")
        upto = np.cumsum(self.weights[told][order])
        at = int(np.searchsorted(upto, share * upto[-1]))
        return float(self.sizes_mm[told][order][min(at, len(order) - 1)])


#: What a record holds of them: arrays by block, and numbers that sum them up.
_ARRAYS = (
    "centres_mm",
    "shifts_mm",
    "standard_errors_mm",
    "gains",
    "information",
    "weights",
)
_SUMMARY = (
    "told_share",
    "median_mm",
    "rms_mm",
    "worst_mm",
    "fit_share",
    "rigid_mm",
    "gain_share",
)


def _distances(points: FloatArray) -> FloatArray:
    """Distance (n, n) between any two of points (n, 3)."""
    return np.asarray(np.linalg.norm(points[:, None] - points, axis=2), np.float64)


def _listed(values: FloatArray) -> list[Any]:
    """Give an array to JSON, which has no NaN."""
    return np.where(np.isfinite(values), values, None).tolist()  # type: ignore[call-overload]


def local_residuals(
    level: Level, pose: FloatArray, foreground: Foreground, threads: int = 1
) -> LocalResiduals:
    """Shift each block of the anatomy against the other image, at an answer.

    Parameters
    ----------
    level : Level
        The pair at one resolution.
    pose : (4, 4) array
        The answer: `interpolated_from_sampled`, RAS+ mm.
    foreground : Foreground
        Of the sampled image; its volume says how large a block is.
    threads : int, optional
        Threads to use; the answer does not depend on it.

    Returns
    -------
    LocalResiduals
        Of all blocks that hold samples enough.

    Notes
    -----
    The information of a block is a log-likelihood ratio of its shift, so the inverse of
    minus its second derivatives would be the covariance of the shift, were samples
    independent and the histogram all there is to know. They are not: the covariance is
    that times a dispersion [1]_, one number for the pair, which two halves of each
    block in small interleaved cells tell by how much their slopes differ.

    References
    ----------
    .. [1] Wedderburn, "Quasi-likelihood functions, generalized linear models, and the
       Gauss-Newton method", Biometrika 1974.
    """
    histogram, _ = joint_histogram(level, pose, threads)
    blocks = _blocks(level, foreground)
    reach = _reach(level)
    scores, counts = shifted_information(
        level, pose, blocks, reach, pointwise_information(histogram), threads
    )
    return _residuals(level, pose, blocks, scores, counts)


@dataclass(frozen=True, eq=False)
class Blocks:
    """Samples of a level, in the order of the blocks that they are in.

    Attributes
    ----------
    points : (3, n) ndarray, float32
        As in `Level`.
    sampled_bin : (n,) ndarray, uint8
        As in `Level`.
    ends : (2 * n_blocks + 1,) ndarray
        Where the samples of each half of each block start, and where the last stop.
    centres_mm : (n_blocks, 3) ndarray
        Mean of the samples, RAS+ mm.
    side_mm : float
        Side of a block.
    """

    points: npt.NDArray[np.float32]
    sampled_bin: npt.NDArray[np.uint8]
    ends: npt.NDArray[np.intp]
    centres_mm: FloatArray
    side_mm: float


def cell_side(foreground: Foreground) -> float:
    """Side, mm, of the cells of which every other one is in the same half."""
    return _block_side(foreground) / parameters.RESIDUAL_CELLS


def _block_side(foreground: Foreground) -> float:
    """Side, mm, of the blocks into which a foreground is parted."""
    return float((foreground.volume / parameters.RESIDUAL_BLOCKS) ** (1 / 3))


def _blocks(level: Level, foreground: Foreground) -> Blocks:
    """Part the samples into cubes, and those into two halves in interleaved cells."""
    side_mm = _block_side(foreground)
    step = max(1, level.n_samples // parameters.RESIDUAL_SAMPLES)
    points, sampled_bin = level.points[:, ::step], level.sampled_bin[::step]
    cells = np.floor(points / np.float32(side_mm) + np.float32(0.5)).astype(np.int64)
    cells -= cells.min(axis=1, keepdims=True)
    of_block = np.ravel_multi_index(tuple(cells), tuple(cells.max(axis=1) + 1))
    _, of_block = np.unique(of_block, return_inverse=True)
    small = np.floor(points * np.float32(1 / cell_side(foreground)))
    of_half = 2 * of_block + (small.sum(axis=0).astype(np.int64) & 1)
    n_blocks = int(of_block.max()) + 1
    order = np.argsort(of_half.astype(np.uint16), kind="stable")
    ends = np.zeros(2 * n_blocks + 1, np.intp)
    np.cumsum(np.bincount(of_half, minlength=2 * n_blocks), out=ends[1:])
    points = np.ascontiguousarray(points[:, order])
    sums = np.add.reduceat(points, ends[:-1:2], axis=1, dtype=np.float64)
    centres = (sums / np.diff(ends[::2])).T + level.origin
    return Blocks(points, sampled_bin[order], ends, centres, side_mm)


def _reach(level: Level) -> tuple[int, int, int]:
    """Voxels of the interpolated image by which blocks are shifted along each axis."""
    voxel_mm = np.linalg.norm(np.linalg.inv(level.interpolated_ijk_from_mm), axis=0)[:3]
    wanted = np.rint(parameters.RESIDUAL_REACH_VOXELS * level.size_mm / voxel_mm)
    # A few slices leave nothing inside if all of them are shifted by.
    thin = np.array(level.interpolated[1]) // parameters.RESIDUAL_REACH_SHARE
    reach = np.minimum(wanted, thin).clip(1, parameters.RESIDUAL_MOST_REACH)
    x, y, z = reach.astype(int).tolist()
    return x, y, z


def pointwise_information(histogram: FloatArray) -> FloatArray:
    """Pointwise mutual information of each cell of a joint histogram, in nats.

    Pulled towards independence by a few pseudo-counts, so that no cell is impossible.

    Examples
    --------
    >>> pointwise_information(np.diag([5.0, 5.0])).round(2)
    array([[ 0.69, -4.62],
           [-4.62,  0.69]])
    """
    total = max(float(histogram.sum()), 1e-300)
    rows, columns = histogram.sum(axis=1, keepdims=True), histogram.sum(axis=0)
    product = rows * (columns / total)
    some = parameters.RESIDUAL_INDEPENDENCE
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = histogram / product
    ratio = np.where(product > 0, ratio, 1.0)
    return np.asarray(np.log((ratio + some) / (1 + some)), np.float64)


def tabulated(pointwise: FloatArray) -> npt.NDArray[np.float32]:
    """Spread pointwise information (n_bins, n_bins) over 256 interpolated intensities.

    Seen through the Parzen window of the joint histogram; (n_bins, 256), float32.
    """
    values = np.arange(_TABULATED) / (_TABULATED - 1)
    return (pointwise @ parzen_window(values, len(pointwise))).astype(np.float32)


def shifted_information(
    level: Level,
    pose: FloatArray,
    blocks: Blocks,
    reach: tuple[int, int, int],
    pointwise: FloatArray,
    threads: int = 1,
) -> tuple[FloatArray, FloatArray]:
    """Add up the pointwise information of blocks at many shifts.

    Parameters
    ----------
    level : Level
        The pair.
    pose : (4, 4) array
        `interpolated_from_sampled`, RAS+ mm.
    blocks : Blocks
        Samples of the level, in two halves for each block.
    reach : (3,) tuple of int
        How many voxels of the interpolated image to shift by, along each of its axes in
        the order of memory, both ways.
    pointwise : (n_bins, n_bins) array
        Pointwise information of each cell of the joint histogram.
    threads : int, optional
        Threads to use; the answer does not depend on it.

    Returns
    -------
    scores : (n_blocks, 2, 2 * rx + 1, 2 * ry + 1, 2 * rz + 1) ndarray
        Nats, of each half of each block at each shift.
    counts : (n_blocks, 2) ndarray
        Samples that were compared: those that are inside at every shift.
    """
    table = tabulated(pointwise)
    matrix, wide = level.ijk_from_points(pose), np.array(reach)
    size = 2 * wide + [1, 2, 2]
    memory, shape = level.interpolated
    groups = len(blocks.ends) - 1
    out = np.zeros((groups, math.prod(size.tolist()) + 1), np.float32)

    def fill(group: int) -> None:
        kernels.shifted_information(
            blocks.points,
            blocks.sampled_bin,
            memory,
            np.array(shape),
            matrix,
            wide,
            table,
            blocks.ends[group],
            blocks.ends[group + 1],
            out[group],
        )

    shared(fill, range(groups), threads)
    out = out.astype(np.float64)
    scores = out[:, :-1].reshape(groups // 2, 2, *size)[..., :-1, :-1]
    return scores, out[:, -1].reshape(-1, 2)


def _residuals(
    level: Level,
    pose: FloatArray,
    blocks: Blocks,
    scores: FloatArray,
    counts: FloatArray,
) -> LocalResiduals:
    """Find where each block tells most, and how surely."""
    n = len(scores)
    both = scores.sum(axis=1)
    reach = (np.array(both.shape[1:]) - 1) // 2
    peak = np.stack(
        np.unravel_index(both.reshape(n, -1).argmax(axis=1), both.shape[1:]), axis=1
    )
    near = peak.clip(1, 2 * reach - 1)  # where all neighbours are known
    here = _neighbours(both, near) @ _QUADRATIC.T
    gradient, hessian = here[:, 1:4], _symmetric(here[:, 4:])
    sharpness = -hessian
    values, vectors = np.linalg.eigh(sharpness)
    sharp = (values[:, 0] > 0) & (counts.sum(axis=1) >= parameters.RESIDUAL_FEWEST)
    with np.errstate(divide="ignore", invalid="ignore"):
        inverse = np.where(
            sharp[:, None, None],
            (vectors / values[:, None, :]) @ vectors.transpose(0, 2, 1),
            np.nan,
        )
    step = np.einsum("nij,nj->ni", inverse, gradient)
    inside = sharp & (np.abs(step) <= 1).all(axis=1)
    half = _neighbours(scores[:, 0], near) @ _QUADRATIC.T
    slope = half[:, 1:4] + np.einsum("nij,nj->ni", _symmetric(half[:, 4:]), step)
    # At the peak the slopes of both halves cancel, so they differ by twice the one.
    odd = 4 * np.einsum("ni,nij,nj->n", slope, inverse, slope)[inside]
    dispersion = float(np.median(odd)) / _MEDIAN_CHI2_3 if len(odd) else math.nan
    step = step.clip(-1, 1)
    top = (
        here[:, 0]
        + np.einsum("ni,ni->n", gradient, step)
        + np.einsum("ni,nij,nj->n", step, hessian, step) / 2
    )
    at_answer = both[(slice(None), *reach)]
    top = np.maximum(top, at_answer)

    mm_from_ijk = (
        np.linalg.inv(pose)[:3, :3]
        @ np.linalg.inv(level.interpolated_ijk_from_mm)[:3, :3]
    )
    shifts = (near - reach + step) @ mm_from_ijk.T
    covariance = dispersion * mm_from_ijk @ inverse @ mm_from_ijk.T
    error = np.sqrt(np.trace(covariance, axis1=1, axis2=2))
    lead = (top - _elsewhere(both, near)) / dispersion
    told = sharp & (error <= parameters.RESIDUAL_WORST_ERROR_VOXELS * level.size_mm)
    told &= lead > parameters.RESIDUAL_LEAD
    told &= top > 0
    with np.errstate(divide="ignore", invalid="ignore"):
        gains = (top - at_answer) / top
    return LocalResiduals(
        centres_mm=blocks.centres_mm,
        shifts_mm=np.where(told[:, None], shifts, np.nan),
        standard_errors_mm=np.where(told, error, np.nan),
        gains=np.where(told, gains, np.nan),
        information=np.where(counts.sum(axis=1) > 0, top, np.nan),
        weights=np.diff(blocks.ends[::2]) / blocks.ends[-1],
        block_mm=blocks.side_mm,
        voxel_mm=level.size_mm,
    )


#: Median of chi squared with three degrees of freedom.
_MEDIAN_CHI2_3 = 2.366


def _neighbours(volumes: FloatArray, at: npt.NDArray[np.intp]) -> FloatArray:
    """Take the 27 values (n, 27) around a place (n, 3) in each of (n, ...) volumes."""
    off = _OFFSETS[:, :, None] + at.T[:, None, :].transpose(1, 0, 2)
    return np.ascontiguousarray(
        volumes[np.arange(len(volumes)), off[:, 0], off[:, 1], off[:, 2]].T
    )


def _elsewhere(volumes: FloatArray, at: npt.NDArray[np.intp]) -> FloatArray:
    """Highest value (n,) of each of (n, ...) volumes, away from a place."""
    wide = volumes.shape[1:]
    far = np.zeros(volumes.shape, bool)
    for axis, n in enumerate(wide):
        off = np.abs(np.arange(n) - at[:, axis, None]) > parameters.RESIDUAL_NEAR
        shape = [len(volumes), 1, 1, 1]
        shape[axis + 1] = n
        far |= off.reshape(shape)
    return np.asarray(np.where(far, volumes, -np.inf).max(axis=(1, 2, 3)), np.float64)


def _symmetric(six: FloatArray) -> FloatArray:
    """Make symmetric matrices (n, 3, 3) of their xx, yy, zz, xy, xz and yz."""
    return six[:, [[0, 3, 4], [3, 1, 5], [4, 5, 2]]]


_OFFSETS = np.indices((3, 3, 3)).reshape(3, 27).T - 1


def _quadratic() -> FloatArray:
    """Least-squares fit (10, 27) of a quadratic to 27 values around a place.

    To its value, its gradient, and its second derivatives as `_symmetric` has them.
    """
    x, y, z = _OFFSETS.T.astype(np.float64)
    squares = [x * x / 2, y * y / 2, z * z / 2, x * y, x * z, y * z]
    terms = np.stack([np.ones(27), x, y, z, *squares], axis=1)
    return np.asarray(np.linalg.pinv(terms), np.float64)


_QUADRATIC = _quadratic()
