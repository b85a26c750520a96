"""One image after the other against one reference that was prepared once.

The roles are fixed, and not those of `pair`: the volume is *sampled* at its own voxel
centres, and the reference is *interpolated*. So no volume is ever interpolated: that
would smooth its noise more between voxels than on them, and draw poses to whole or half
voxels. The reference is one image for all volumes. It can be read better than a linear
look between its voxels does: it is refined to twice as many voxels along each axis by a
cubic B-spline, once. In a phantom series of 3 mm this took the error from 0.14 to 0.02
mm (``scripts/series_study.py``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .. import _parameters as parameters
from .._errors import InputError
from .._image import Image, memory_order
from .._intensity import IntensityScale, intensity_scale, subsampled
from .._prepare import (
    PreparedImage,
    bias_corrected,
    downsample,
    in_mask,
    shrink_factors,
    voxel_centres,
)
from .._resample import regrid, resample
from .._settings import Settings
from .levels import (
    Level,
    QuantisedVolume,
    gaussian,
    make_level,
    quantised,
    smooth,
    with_fewer_samples,
)
from .optimize import Fit, evaluate, maximise
from .similarity import metric_at
from .uncertainty import Uncertainty, inverse_hessian_at, uncertainty

FloatArray = npt.NDArray[np.float64]
Volume = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Sampling:
    """Where the volumes on one grid are sampled.

    Attributes
    ----------
    grid : Image
        The grid; its intensities mean nothing.
    where : (n,) ndarray
        Voxels, in the order of the axes of an array in C order.
    points : (3, n) ndarray, float32
        Their centres, RAS+ mm, relative to the centroid of the reference.
    size_mm : float
        Side of a voxel.
    """

    grid: Image
    where: npt.NDArray[np.intp]
    points: npt.NDArray[np.float32]
    size_mm: float

    def fits(self, image: Image) -> bool:
        """Tell whether an image has this grid."""
        return image.shape == self.grid.shape and np.array_equal(
            image.mm_from_ijk, self.grid.mm_from_ijk
        )


@dataclass(frozen=True, eq=False)
class Reference:
    """An image that is prepared once, for all volumes of a series.

    Attributes
    ----------
    prepared : PreparedImage
        The reference.
    interpolated : (ndarray, tuple)
        The same, smoothed a little and refined; see `Level`.
    interpolated_ijk_from_mm : (4, 4) ndarray
        From RAS+ mm to voxels of `interpolated`.
    settings : Settings
        Metric, bins and samples.
    correct_gain : bool
        Whether each volume is divided by its gain against the reference first.
    """

    prepared: PreparedImage
    interpolated: QuantisedVolume
    interpolated_ijk_from_mm: FloatArray
    settings: Settings
    correct_gain: bool = False

    @classmethod
    def of(
        cls, prepared: PreparedImage, settings: Settings, threads: int = 1
    ) -> Reference:
        """Smooth, refine and quantise a prepared image."""
        image = _smoothed(prepared.image, threads)
        size_mm = image.voxel_size_mm / parameters.SERIES_REFINEMENT
        # An axis of one voxel has nothing between its voxels.
        size_mm = np.where(np.array(image.shape) > 1, size_mm, image.voxel_size_mm)
        fine = resample(
            image,
            regrid(image, size_mm),
            np.eye(4),
            interpolation="cubic",
            threads=threads,
        )
        axes = memory_order(fine.data)
        planes = prepared.original.planes_of(fine)
        nx, ny, nz = (fine.shape[axis] for axis in axes)
        ijk_from_mm = np.linalg.inv(fine.mm_from_ijk[:, [*axes, 3]])
        return cls(
            prepared,
            quantised((nx, ny, nz), planes, threads),
            ijk_from_mm.astype(np.float64),
            settings,
        )

    def sampling(self, grid: Image, most: int) -> Sampling:
        """Choose voxels of a grid, `most` at most, in and near the foreground.

        Raises
        ------
        InputError
            If the grid hardly meets the foreground of the reference.
        """
        centres = voxel_centres(grid)
        inside = in_mask(self.prepared.sampling_mask, centres)
        if self.prepared.mask is not None:
            inside &= in_mask(self.prepared.mask, centres)
        where = np.flatnonzero(inside)
        if len(where) < parameters.ENOUGH_SAMPLES:
            raise InputError(
                f"only {len(where)} voxels of a volume lie in the foreground of the "
                "reference; check that both are of one scanner session, or give "
                "another reference"
            )
        where = where[:: -(-len(where) // most)]
        points = (centres[where] - self.prepared.foreground.centroid).T
        return Sampling(
            grid,
            where,
            np.ascontiguousarray(points, np.float32),
            grid.voxel_volume_mm3 ** (1 / 3),
        )

    def level(
        self, volume: Image, sampling: Sampling, start: FloatArray, threads: int = 1
    ) -> Level:
        """Make the level of one volume, which is light: nothing but its samples.

        Its pose `reference_from_volume` is `start`, roughly.

        Raises
        ------
        InputError
            If the volume has no data there, or only one intensity.
        """
        smoothed = _smoothed(volume, threads)
        if self.correct_gain:
            smoothed = _gain_corrected(smoothed, self.prepared, start)
        values = smoothed.data.ravel()[sampling.where]
        points = sampling.points
        has_data = np.isfinite(values)
        if not has_data.all():
            values, points = values[has_data], points[:, has_data]
        if len(values) < parameters.ENOUGH_SAMPLES:
            raise InputError(
                f"too little is left to compare: {len(values)} samples have data; "
                "leave this volume out, or give one with fewer voxels that are NaN"
            )
        # Its own scale: contrasts may change from volume to volume.
        scale = _scale(smoothed)
        most_bins = round(len(values) ** parameters.BINS_PER_SAMPLES)
        return make_level(
            size_mm=sampling.size_mm,
            points=points,
            origin=self.prepared.foreground.centroid,
            sampled_values=scale.apply(values),
            interpolated=self.interpolated,
            interpolated_ijk_from_mm=self.interpolated_ijk_from_mm,
            n_bins=min(self.settings.bins, most_bins),
        )


def _gain_corrected(
    volume: Image, reference: PreparedImage, reference_from_volume: FloatArray
) -> Image:
    """Divide a volume by its gain against the reference, which is smooth.

    Slices that are acquired one after the other while the magnetisation recovers, and a
    coil that stays where it is, change the intensity along the head, and with it what
    the joint histogram says. It is the factor by which the reference fits the volume
    best, in the least squares of the neighbourhood. It is taken at a pose that was
    found before: elsewhere it would draw the volume towards where it is taken.
    """
    background = _scale(volume).background
    block_mm = parameters.SERIES_GAIN_BLOCK_MM
    seen = downsample(volume, shrink_factors(volume, block_mm))
    there = resample(
        reference.shrunk(block_mm), seen, reference_from_volume, antialias=False
    ).data
    scale = reference.scale
    known = np.isfinite(seen.data) & np.isfinite(there) & scale.is_foreground(there)
    like = np.where(known, there - np.float32(scale.background), 0)
    height = np.where(known, seen.data - np.float32(background), 0)
    width = parameters.SERIES_GAIN_MM / seen.voxel_size_mm
    both, own = (
        gaussian(product.astype(np.float32), width)
        for product in (height * like, like * like)
    )
    overall = float(both.sum() / max(own.sum(), 1e-30))
    if not overall > 0:  # what is bright in one is dark in the other throughout
        return volume
    few = np.float32(parameters.SERIES_GAIN_PRIOR * own.max())
    gain = (both + few * overall) / (own + few) / overall
    field = Image(
        np.maximum(gain, np.float32(parameters.SERIES_GAIN_LEAST)), seen.mm_from_ijk
    )
    axes = memory_order(volume.data)
    planes = bias_corrected(volume, background, field)(slice(None))
    return Image(planes.transpose(np.argsort(axes)), volume.mm_from_ijk)


def _scale(volume: Image) -> IntensityScale:
    """Learn the intensity scale of one volume of many."""
    return intensity_scale(subsampled(volume, parameters.SERIES_SCALE_VOXELS))


def _smoothed(image: Image, threads: int) -> Image:
    """Smooth by about half a voxel: noise between neighbours carries no pose."""
    return smooth(image, float(image.voxel_size_mm.max()), threads)


@dataclass(frozen=True, eq=False)
class Tracked:
    """Where one volume lies.

    Attributes
    ----------
    fit : Fit
        Its pose is `reference_from_volume`.
    uncertainty : Uncertainty or None
        How far noise moves it, where that was asked for and can be told.
    size_mm : float
        Side of a voxel.
    """

    fit: Fit
    uncertainty: Uncertainty | None
    size_mm: float

    @property
    def information(self) -> float:
        """Information (nats) of each sample, those outside counting as none."""
        return self.fit.weighted_information

    @property
    def standard_error_mm(self) -> float:
        """Standard error of the pose; NaN where it cannot be told."""
        return (
            math.nan if self.uncertainty is None else self.uncertainty.standard_error_mm
        )

    @property
    def doubted(self) -> bool:
        """Whether the pose may be wrong."""
        most = parameters.UNCERTAIN_VOXELS * self.size_mm
        return not (self.fit.converged and self.standard_error_mm <= most)


def track(
    reference: Reference,
    level: Level,
    starts: list[FloatArray],
    threads: int = 1,
    *,
    inverse_hessian: FloatArray | None = None,
    judge: bool = True,
) -> Tracked:
    """Find the pose of one volume, from the best of some starts.

    Parameters
    ----------
    reference : Reference
        What the volume is brought into line with.
    level : Level
        The volume, as `Reference.level` makes it.
    starts : list of (4, 4) array
        Poses `reference_from_volume`, RAS+ mm; ties go to the first.
    threads : int, optional
        Threads to use; the answer does not depend on it.
    inverse_hessian : (6, 6) array, optional
        Of another volume of the series: saves measuring it.
    judge : bool, optional
        Whether to measure how far noise moves the pose.

    Returns
    -------
    Tracked
        The pose.
    """
    few = with_fewer_samples(level, parameters.SERIES_CURVATURE_SAMPLES)
    few_metric = metric_at(few, reference.settings.metric)
    metric = metric_at(level, reference.settings.metric)
    start = starts[0]
    if len(starts) > 1:
        explained = [
            evaluate(few, pose, few_metric, threads).weighted_information
            for pose in starts
        ]
        start = starts[int(np.argmax(explained))]
    if judge or inverse_hessian is None:
        inverse_hessian = inverse_hessian_at(few, start, few_metric, threads)
    fit = maximise(
        level,
        start,
        metric,
        threads,
        inverse_hessian=inverse_hessian,
        tolerance=parameters.SERIES_TOLERANCE,
    )

    def judged(inverse_hessian: FloatArray | None) -> Tracked:
        noise = None
        if inverse_hessian is not None:
            noise = uncertainty(level, fit.pose, metric, inverse_hessian, threads)
        return Tracked(fit, noise, level.size_mm)

    if not judge:
        return Tracked(fit, None, level.size_mm)
    tracked = judged(inverse_hessian)
    if tracked.doubted:  # the curvature at a start far off says nothing of the answer
        tracked = judged(inverse_hessian_at(few, fit.pose, few_metric, threads))
    return tracked
