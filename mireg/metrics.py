"""Similarity metrics: a joint histogram to a score and the slope of it.

Every metric is a function of the joint histogram alone, as counts, and says how the
score changes with each count; one kernel turns that into the gradient by the pose.
The scores are the measures of `mireg.information`, here with their derivatives and
fast enough to be asked thousands of times.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from .settings import MetricName

FloatArray = npt.NDArray[np.float64]
Metric = Callable[[FloatArray], tuple[float, FloatArray]]


def mutual_information(histogram: FloatArray) -> tuple[float, FloatArray]:
    """Mutual information of a joint histogram, and its derivative.

    Parameters
    ----------
    histogram : (n, m) array
        Joint histogram as counts, of any total above zero.

    Returns
    -------
    score : float
        ``I(X;Y) = H(X) + H(Y) - H(X,Y)`` in nats [1]_ [2]_.
    d_histogram : (n, m) ndarray
        Derivative of the score with respect to each count.

    References
    ----------
    .. [1] Viola and Wells, "Alignment by maximization of mutual information",
       IJCV 1997.
    .. [2] Maes et al., "Multimodality image registration by maximization of
       mutual information", IEEE TMI 1997.

    Examples
    --------
    >>> import numpy as np
    >>> score, _ = mutual_information(np.diag([5.0, 5.0]))
    >>> bool(np.isclose(score, np.log(2)))
    True
    """
    h_fixed, h_moving, h_joint, d_fixed, d_moving, d_joint = _entropies(histogram)
    return h_fixed + h_moving - h_joint, d_fixed + d_moving - d_joint


def normalised_mutual_information(
    histogram: FloatArray,
) -> tuple[float, FloatArray]:
    """Normalised mutual information of a joint histogram, and its derivative.

    Parameters
    ----------
    histogram : (n, m) array
        Joint histogram as counts, of any total above zero.

    Returns
    -------
    score : float
        ``(H(X) + H(Y)) / H(X,Y)``, from 1 (independent) to 2 [1]_.
    d_histogram : (n, m) ndarray
        Derivative of the score with respect to each count.

    References
    ----------
    .. [1] Studholme, Hill and Hawkes, "An overlap invariant entropy measure of
       3D medical image alignment", Pattern Recognition 1999.

    Examples
    --------
    >>> import numpy as np
    >>> score, _ = normalised_mutual_information(np.diag([5.0, 5.0]))
    >>> round(score, 12)
    2.0
    """
    h_fixed, h_moving, h_joint, d_fixed, d_moving, d_joint = _entropies(histogram)
    if h_joint <= 0:  # one cell holds all: nothing is shared, nothing to gain
        return 1.0, np.zeros_like(histogram)
    score = (h_fixed + h_moving) / h_joint
    return score, (d_fixed + d_moving - score * d_joint) / h_joint


def _entropies(
    histogram: FloatArray,
) -> tuple[float, float, float, FloatArray, FloatArray, FloatArray]:
    """Entropies (nats) of rows, columns and cells, and their derivatives."""
    total = max(float(histogram.sum()), 1e-300)
    answers = []
    slopes = []
    for counts in (
        histogram.sum(axis=1, keepdims=True),
        histogram.sum(axis=0, keepdims=True),
        histogram,
    ):
        surprise = -np.log(np.maximum(counts, 1e-12 * total) / total)
        entropy = float((counts * surprise).sum() / total)
        answers.append(entropy)
        slopes.append((surprise - entropy) / total)
    return answers[0], answers[1], answers[2], slopes[0], slopes[1], slopes[2]


#: Every metric by its name.
METRIC: Mapping[MetricName, Metric] = MappingProxyType(
    {"mi": mutual_information, "nmi": normalised_mutual_information}
)
