"""A pair at a pose: its joint histogram, and the gradient of a score of it."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt

from .. import _kernels as kernels
from .._errors import InputError
from .._settings import MetricName
from .._threads import shared
from .levels import Level
from .metrics import METRIC, Metric, overlap_invariant, prior_informed

FloatArray = npt.NDArray[np.float64]

#: Most samples in one share of the work. A constant: sums are joined share by share,
#: so the answer does not depend on the number of threads.
_SHARE = 25_000


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
        if level.learned is None:
            raise InputError(
                'metric "prior" needs a prior: give one, as mireg prior learn makes'
            )
        return prior_informed(_pseudo_counts(level, level.learned))
    if name != "oimi":
        return METRIC[name]
    fixed_counts = np.bincount(level.fixed_bin, minlength=level.n_bins)
    background = parzen_window(np.array([level.moving_background]), level.n_bins)
    return overlap_invariant(fixed_counts.astype(np.float64), background[:, 0])


def information(level: Level, histogram: FloatArray) -> float:
    """Information that a joint histogram holds for each sample inside, in nats.

    Poses are compared by it, whatever the metric: the mutual information, or with a
    learned histogram the prior-informed one.
    """
    name: MetricName = "mi" if level.learned is None else "prior"
    return metric_at(level, name)(histogram)[0]


def even_bins(n_grey: int, n_bins: int) -> FloatArray:
    """Share of each of `n_grey` even grey levels in each of `n_bins` even bins.

    Examples
    --------
    >>> even_bins(4, 2)
    array([[1., 1., 0., 0.],
           [0., 0., 1., 1.]])
    """
    grey, bins = np.arange(n_grey + 1) / n_grey, np.arange(n_bins + 1) / n_bins
    low = np.maximum(grey[:-1], bins[:-1, None])
    high = np.minimum(grey[1:], bins[1:, None])
    return np.maximum(high - low, 0) * n_grey


def _pseudo_counts(level: Level, learned: FloatArray) -> FloatArray:
    """Bring a learned joint distribution to the bins and samples of a level."""
    n_grey = len(learned)
    rows = even_bins(n_grey, level.n_bins)
    # Within a grey level of the moving image, four places stand for all.
    places = (np.arange(4 * n_grey) + 0.5) / (4 * n_grey)
    columns = parzen_window(places, level.n_bins).reshape(level.n_bins, n_grey, 4)
    return rows @ learned @ columns.mean(axis=2).T * len(level.fixed_bin)


def parzen_window(moving_grey: FloatArray, n_bins: int) -> FloatArray:
    """Spread grey levels of the moving image over bins, as `joint_histogram` does.

    Parameters
    ----------
    moving_grey : (n,) array
        Grey levels, 0 to 1.
    n_bins : int
        Bins of the joint histogram.

    Returns
    -------
    (n_bins, n) ndarray
        Each column adds up to 1.
    """
    places = 1 + moving_grey * (n_bins - 3.001)
    away = np.abs(np.arange(n_bins)[:, None] - places)
    # The cubic B-spline, as truncated powers.
    return (np.maximum(2 - away, 0) ** 3 - 4 * np.maximum(1 - away, 0) ** 3) / 6


def joint_histogram(
    level: Level,
    moving_from_fixed: FloatArray,
    threads: int = 1,
    seen: npt.NDArray[np.float32] | None = None,
) -> tuple[FloatArray, npt.NDArray[np.float32]]:
    """Joint histogram of a level's samples at a pose.

    The moving image is read by trilinear interpolation and spread over four grey
    levels by a cubic B-spline Parzen window, as in [1]_, so that the histogram
    changes smoothly with the pose.

    Parameters
    ----------
    level : Level
        Samples of the fixed image and the moving image, as grey levels.
    moving_from_fixed : (4, 4) array
        Maps points of the fixed image to points of the moving one, RAS+ mm.
    threads : int, optional
        Threads to use; the answer does not depend on it.
    seen : (8, n) array, float32, optional
        Memory to write `seen` to: saves making it anew for each pose.

    Returns
    -------
    histogram : (n_bins, n_bins) ndarray
        Rows are grey levels of the fixed image, columns of the moving one. Its sum
        is the number of samples that fall inside the moving image; those within
        its outermost voxels count in part, so that nothing jumps at the border.
    seen : (8, n) ndarray, float32
        For each sample the grey level of the moving image, its slopes along the
        voxel axes, the sample's weight, and the slopes of that.

    References
    ----------
    .. [1] Mattes et al., "PET-CT image registration in the chest using free-form
       deformations", IEEE TMI 2003.
    """
    matrix = level.moving_ijk_from_points(moving_from_fixed)
    if seen is None:
        seen = np.empty((8, level.points.shape[1]), np.float32)

    def histogram_of(share: tuple[int, int]) -> FloatArray:
        out = np.zeros((level.n_bins, level.n_bins))
        kernels.joint_histogram(
            level.points,
            level.fixed_bin,
            *level.moving,
            matrix,
            *share,
            seen,
            out,
        )
        return out

    return _joined(shared(histogram_of, _shares(level), threads)), seen


def score_gradient(
    level: Level,
    seen: npt.NDArray[np.float32],
    d_histogram: FloatArray,
    threads: int = 1,
) -> FloatArray:
    """Gradient of a score with respect to the voxel-from-point matrix.

    Parameters
    ----------
    level : Level
        As given to `joint_histogram`.
    seen : (8, n) array, float32
        As returned by `joint_histogram`.
    d_histogram : (n_bins, n_bins) array
        Derivative of the score with respect to the histogram.
    threads : int, optional
        Threads to use; the answer does not depend on it.

    Returns
    -------
    (3, 4) ndarray
        Derivative of the score with respect to `Level.moving_ijk_from_points`.
    """
    return _joined(score_gradients(level, seen, d_histogram, threads))


def score_gradients(
    level: Level,
    seen: npt.NDArray[np.float32],
    d_histogram: FloatArray,
    threads: int = 1,
    most: int = _SHARE,
) -> list[FloatArray]:
    """Parts of the gradient that `most` samples or fewer, in their order, add to it.

    For the other arguments see `score_gradient`.
    """
    slopes = d_histogram.astype(np.float32)

    def gradient_of(share: tuple[int, int]) -> FloatArray:
        out = np.zeros((3, 4))
        kernels.score_gradient(level.points, level.fixed_bin, seen, slopes, *share, out)
        return out

    return shared(gradient_of, _shares(level, most), threads)


def _shares(level: Level, most: int = _SHARE) -> list[tuple[int, int]]:
    """Where shares of the samples start and stop: as few as may be, and even."""
    n = level.points.shape[1]
    ends = np.linspace(0, n, -(-n // most) + 1).astype(int).tolist()
    return list(pairwise(ends))


def _joined(parts: list[FloatArray]) -> FloatArray:
    """Add up what the shares gave, in their order."""
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total
