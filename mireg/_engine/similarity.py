"""A pair at a pose: its joint histogram, and the gradient of a score of it."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt

from .. import _kernels as kernels
from .. import _parameters as parameters
from .._errors import InputError
from .._settings import MetricName
from .._threads import shared
from .levels import Level
from .metrics import METRIC, Metric, overlap_invariant, prior_informed

FloatArray = npt.NDArray[np.float64]

#: Most samples in one chunk of the work. A constant: sums are added chunk by chunk,
#: so the answer does not depend on the number of threads.
_CHUNK = 25_000


def metric_at(level: Level, name: MetricName) -> Metric:
    """Return a metric for the histograms of a level.

    Parameters
    ----------
    level : Level
        The pair at one resolution.
    name : str
        One of `mireg._settings.METRICS`.

    Returns
    -------
    Metric
        From a joint histogram to score and derivative.
    """
    if name == "prior":
        if level.prior is None:
            raise InputError(
                'metric "prior" needs a prior; give one that mireg prior learn wrote'
            )
        return prior_informed(_pseudo_counts(level, level.prior))
    if name != "oimi":
        return METRIC[name]
    sampled_counts = np.bincount(level.sampled_bin, minlength=level.n_bins)
    background = parzen_window(np.array([level.interpolated_background]), level.n_bins)
    return overlap_invariant(sampled_counts.astype(np.float64), background[:, 0])


def information(level: Level, histogram: FloatArray) -> float:
    """Information that a joint histogram holds for each sample inside, in nats.

    Poses are compared by it, whatever the metric: the mutual information, or with a
    prior the prior-informed one.
    """
    name: MetricName = "mi" if level.prior is None else "prior"
    return metric_at(level, name)(histogram)[0]


def even_bins(n_values: int, n_bins: int) -> FloatArray:
    """Share of each of `n_values` even intervals in each of `n_bins` even bins.

    Examples
    --------
    >>> even_bins(4, 2)
    array([[1., 1., 0., 0.],
           [0., 0., 1., 1.]])
    """
    values, bins = np.arange(n_values + 1) / n_values, np.arange(n_bins + 1) / n_bins
    low = np.maximum(values[:-1], bins[:-1, None])
    high = np.minimum(values[1:], bins[1:, None])
    return np.maximum(high - low, 0) * n_values


def _pseudo_counts(level: Level, prior: FloatArray) -> FloatArray:
    """Bring the joint distribution of a prior to the bins and samples of a level."""
    n_values = len(prior)
    rows = even_bins(n_values, level.n_bins)
    # Within an interval of the interpolated image, four places stand for all.
    places = (np.arange(4 * n_values) + 0.5) / (4 * n_values)
    columns = parzen_window(places, level.n_bins).reshape(level.n_bins, n_values, 4)
    return rows @ prior @ columns.mean(axis=2).T * len(level.sampled_bin)


def parzen_window(values: FloatArray, n_bins: int) -> FloatArray:
    """Spread intensities of the interpolated image over bins, as `joint_histogram`.

    Parameters
    ----------
    values : (n,) array
        Normalised intensities, 0 to 1.
    n_bins : int
        Bins of the joint histogram.

    Returns
    -------
    (n_bins, n) ndarray
        Each column adds up to 1.
    """
    places = 1 + values * (n_bins - parameters.PARZEN_MARGIN)
    away = np.abs(np.arange(n_bins)[:, None] - places)
    # The cubic B-spline, as truncated powers.
    return (np.maximum(2 - away, 0) ** 3 - 4 * np.maximum(1 - away, 0) ** 3) / 6


def values_of(readings: npt.NDArray[np.float32], n_bins: int) -> FloatArray:
    """Turn interpolated intensities in bins, as read, into normalised ones, 0 to 1."""
    return ((readings - 1) / (n_bins - parameters.PARZEN_MARGIN)).clip(0, 1)


def joint_histogram(
    level: Level,
    interpolated_from_sampled: FloatArray,
    threads: int = 1,
    readings: npt.NDArray[np.float32] | None = None,
) -> tuple[FloatArray, npt.NDArray[np.float32]]:
    """Joint histogram of a level's samples at a pose.

    The interpolated image is read by trilinear interpolation and spread over four
    bins by a cubic B-spline Parzen window, as in [1]_, so that the histogram
    changes smoothly with the pose.

    Parameters
    ----------
    level : Level
        Samples of the sampled image, and the interpolated image.
    interpolated_from_sampled : (4, 4) array
        The pose, RAS+ mm to RAS+ mm.
    threads : int, optional
        Threads to use; the answer does not depend on it.
    readings : (8, n) array, float32, optional
        Memory to write `readings` to: saves making it anew for each pose.

    Returns
    -------
    histogram : (n_bins, n_bins) ndarray
        Rows are bins of the sampled image, columns of the interpolated one. Its sum
        is the number of samples that fall inside the interpolated image; those within
        its outermost voxels count in part, so that nothing jumps at the border.
    readings : (8, n) ndarray, float32
        For each sample the interpolated intensity in bins, its gradient along the
        voxel axes, the sample's weight, and the gradient of that.

    References
    ----------
    .. [1] Mattes et al., "PET-CT image registration in the chest using free-form
       deformations", IEEE TMI 2003.
    """
    matrix = level.ijk_from_points(interpolated_from_sampled)
    if readings is None:
        readings = np.empty((8, level.n_samples), np.float32)

    def histogram_of(chunk: tuple[int, int]) -> FloatArray:
        out = np.zeros((level.n_bins, level.n_bins))
        kernels.joint_histogram(
            level.points,
            level.sampled_bin,
            *level.interpolated,
            matrix,
            *chunk,
            readings,
            out,
        )
        return out

    return _total(shared(histogram_of, _chunks(level), threads)), readings


def score_gradient(
    level: Level,
    readings: npt.NDArray[np.float32],
    d_histogram: FloatArray,
    threads: int = 1,
) -> FloatArray:
    """Gradient of a score with respect to the voxel-from-point matrix.

    Parameters
    ----------
    level : Level
        As given to `joint_histogram`.
    readings : (8, n) array, float32
        As returned by `joint_histogram`.
    d_histogram : (n_bins, n_bins) array
        Derivative of the score with respect to the histogram.
    threads : int, optional
        Threads to use; the answer does not depend on it.

    Returns
    -------
    (3, 4) ndarray
        Derivative of the score with respect to `Level.ijk_from_points`.
    """
    return _total(score_gradients(level, readings, d_histogram, threads))


def score_gradients(
    level: Level,
    readings: npt.NDArray[np.float32],
    d_histogram: FloatArray,
    threads: int = 1,
    most: int = _CHUNK,
) -> list[FloatArray]:
    """Parts of the gradient that `most` samples or fewer, in their order, add to it.

    For the other arguments see `score_gradient`.
    """
    by_count = d_histogram.astype(np.float32)

    def gradient_of(chunk: tuple[int, int]) -> FloatArray:
        out = np.zeros((3, 4))
        kernels.score_gradient(
            level.points, level.sampled_bin, readings, by_count, *chunk, out
        )
        return out

    return shared(gradient_of, _chunks(level, most), threads)


def _chunks(level: Level, most: int = _CHUNK) -> list[tuple[int, int]]:
    """Where chunks of the samples start and stop: as few as may be, and even."""
    n = level.n_samples
    ends = np.linspace(0, n, -(-n // most) + 1).astype(int).tolist()
    return list(pairwise(ends))


def _total(parts: list[FloatArray]) -> FloatArray:
    """Add up what the chunks gave, in their order."""
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total
