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

from .. import _kernels as kernels

FloatArray = npt.NDArray[np.float64]
Metric = Callable[[FloatArray], tuple[float, FloatArray]]

#: Probability below which a cell counts as one that never occurs: keeps logarithms
#: and slopes finite.
_NEVER = 1e-24
_ROOT_OF_NEVER = 1e-12


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
    each, d_fixed, d_moving, d_joint = entropies(histogram)
    h_fixed, h_moving, h_joint = each.tolist()
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
    each, d_fixed, d_moving, d_joint = entropies(histogram)
    h_fixed, h_moving, h_joint = each.tolist()
    if h_joint <= 0:  # one cell holds all: nothing is shared, nothing to gain
        return 1.0, np.zeros_like(histogram)
    score = (h_fixed + h_moving) / h_joint
    return score, (d_fixed + d_moving - score * d_joint) / h_joint


def entropies(
    histogram: FloatArray,
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Entropies of the rows, the columns and the cells of a joint histogram.

    Parameters
    ----------
    histogram : (n, m) array
        Joint histogram as counts.

    Returns
    -------
    entropies : (3,) ndarray
        Of the rows, the columns and the cells, in nats.
    d_rows : (n, 1) ndarray
        Derivative of the first with respect to each count.
    d_columns : (m,) ndarray
        Derivative of the second.
    d_cells : (n, m) ndarray
        Derivative of the third.

    Examples
    --------
    >>> entropies(np.diag([5.0, 5.0]))[0] / np.log(2)
    array([1., 1., 1.])
    """
    rows, columns = histogram.shape
    out, by_row, by_column = np.empty(3), np.empty(rows), np.empty(columns)
    by_cell = np.empty((rows, columns))
    kernels.entropies(
        np.ascontiguousarray(histogram, dtype=np.float64),
        by_row,
        by_column,
        by_cell,
        out,
    )
    return out, by_row[:, None], by_column, by_cell


def entropy_correlation(histogram: FloatArray) -> tuple[float, FloatArray]:
    """Entropy correlation coefficient of a joint histogram, and its derivative.

    Parameters
    ----------
    histogram : (n, m) array
        Joint histogram as counts, of any total above zero.

    Returns
    -------
    score : float
        ``2 I(X;Y) / (H(X) + H(Y))``, from 0 (independent) to 1 [1]_.
    d_histogram : (n, m) ndarray
        Derivative of the score with respect to each count.

    References
    ----------
    .. [1] Maes et al., "Multimodality image registration by maximization of
       mutual information", IEEE TMI 1997.

    Examples
    --------
    >>> import numpy as np
    >>> score, _ = entropy_correlation(np.diag([5.0, 5.0]))
    >>> round(score, 12)
    1.0
    """
    each, d_fixed, d_moving, d_joint = entropies(histogram)
    h_fixed, h_moving, h_joint = each.tolist()
    apart = h_fixed + h_moving
    if apart <= 0:
        return 0.0, np.zeros_like(histogram)
    score = 2 - 2 * h_joint / apart
    return score, (2 * h_joint / apart * (d_fixed + d_moving) - 2 * d_joint) / apart


def jensen_shannon_information(histogram: FloatArray) -> tuple[float, FloatArray]:
    """Jensen-Shannon divergence of a joint histogram from independence.

    Parameters
    ----------
    histogram : (n, m) array
        Joint histogram as counts, of any total above zero.

    Returns
    -------
    score : float
        Divergence [1]_ between the joint distribution and the product of its
        marginals, in nats: from 0 to below log 2.
    d_histogram : (n, m) ndarray
        Derivative of the score with respect to each count.

    References
    ----------
    .. [1] Lin, "Divergence measures based on the Shannon entropy", IEEE
       Transactions on Information Theory 1991.

    Examples
    --------
    >>> import numpy as np
    >>> jensen_shannon_information(np.ones((4, 4)))[0]
    0.0
    """
    total, p, q = _joint_and_product(histogram)
    some_p, some_q = np.maximum(p, _NEVER), np.maximum(q, _NEVER)
    both = (some_p + some_q) / 2
    by_p, by_q = np.log(some_p / both) / 2, np.log(some_q / both) / 2
    return float((p * by_p + q * by_q).sum()), _by_counts(total, p, by_p, by_q)


def hellinger_information(histogram: FloatArray) -> tuple[float, FloatArray]:
    """Squared Hellinger distance of a joint histogram from independence.

    Parameters
    ----------
    histogram : (n, m) array
        Joint histogram as counts, of any total above zero.

    Returns
    -------
    score : float
        ``sum (sqrt(p) - sqrt(q))**2 / 2`` for the joint distribution p and the
        product q of its marginals, from 0 to 1: half of Matusita's
        M-alpha-information at alpha = 1/2 [1]_.
    d_histogram : (n, m) ndarray
        Derivative of the score with respect to each count.

    References
    ----------
    .. [1] Pluim, Maintz and Viergever, "f-information measures in medical image
       registration", IEEE TMI 2004.

    Examples
    --------
    >>> import numpy as np
    >>> score, _ = hellinger_information(np.diag([5.0, 5.0]))
    >>> bool(np.isclose(score, 1 - np.sqrt(1 / 2)))
    True
    """
    total, p, q = _joint_and_product(histogram)
    root_p, root_q = np.sqrt(p), np.sqrt(q)
    step = root_p - root_q
    by_p = step / (2 * np.maximum(root_p, _ROOT_OF_NEVER))
    by_q = -step / (2 * np.maximum(root_q, _ROOT_OF_NEVER))
    return float(np.square(step).sum() / 2), _by_counts(total, p, by_p, by_q)


def chi_squared_information(histogram: FloatArray) -> tuple[float, FloatArray]:
    """Pearson's chi-squared of a joint histogram against independence.

    Parameters
    ----------
    histogram : (n, m) array
        Joint histogram as counts, of any total above zero.

    Returns
    -------
    score : float
        ``sum (p - q)**2 / q`` for the joint distribution p and the product q of its
        marginals: the chi-alpha-information at alpha = 2, and twice I-alpha [1]_.
        From 0 to the smaller number of grey levels less one.
    d_histogram : (n, m) ndarray
        Derivative of the score with respect to each count.

    References
    ----------
    .. [1] Pluim, Maintz and Viergever, "f-information measures in medical image
       registration", IEEE TMI 2004.

    Examples
    --------
    >>> import numpy as np
    >>> score, _ = chi_squared_information(np.diag([5.0, 5.0]))
    >>> round(score, 12)
    1.0
    """
    total, p, q = _joint_and_product(histogram)
    ratio = p / np.maximum(q, _NEVER)
    by_p, by_q = 2 * ratio, -ratio * ratio
    score = float(((p - q) * (ratio - 1)).sum())
    return score, _by_counts(total, p, by_p, by_q)


def overlap_invariant(fixed_counts: FloatArray, background: FloatArray) -> Metric:
    """Make the mutual information that no change of the overlap can move.

    Every pose is scored over the same samples: those outside the moving image count
    as its background. So the edge of the field of view may pass over background
    without any change of the score, after the idea of [1]_, who assume the
    statistics of the background in the same way. Anatomy that the moving image cuts
    off breaks the assumption.

    Parameters
    ----------
    fixed_counts : (n,) array
        Histogram of the fixed image over all samples, as counts.
    background : (m,) array
        Histogram of the background of the moving image, with a sum of 1.

    Returns
    -------
    Metric
        From a joint histogram to score (nats) and derivative.

    References
    ----------
    .. [1] Cahill, Schnabel, Noble and Hawkes, "Revisiting overlap invariance in
       medical image alignment", CVPR Workshops 2008.

    Examples
    --------
    Two samples of four are seen; the others are as dark as what is outside:

    >>> import numpy as np
    >>> metric = overlap_invariant(np.array([2.0, 2.0]), np.array([1.0, 0.0]))
    >>> score, _ = metric(np.array([[0.0, 0.0], [0.0, 2.0]]))
    >>> bool(np.isclose(score, np.log(2)))
    True
    """

    def metric(histogram: FloatArray) -> tuple[float, FloatArray]:
        outside = fixed_counts[:, None] - histogram.sum(axis=1, keepdims=True)
        score, slopes = mutual_information(
            histogram + np.maximum(outside, 0) * background
        )
        return score, slopes - (slopes @ background)[:, None]

    return metric


def prior_informed(pseudo_counts: FloatArray) -> Metric:
    """Make the mutual information that starts from what aligned pairs look like.

    The joint histogram of pairs that were aligned before is pooled with the one at
    hand, as pseudo-counts [1]_. With none the score is the mutual information. The
    more there are, the nearer the score comes to ``KL(p, x y) - KL(p, l)`` for the
    joint distribution p, the learned one l and its marginals x and y: how much less
    far p is from what was learned [2]_ than from its independence.

    Parameters
    ----------
    pseudo_counts : (n, m) array
        What was learned, as counts over the bins of the joint histogram.

    Returns
    -------
    Metric
        From a joint histogram to score (nats) and derivative. The score is the
        information in the pooled counts less that in the pseudo-counts alone, for
        each sample.

    References
    ----------
    .. [1] Zöllei, Jenkinson, Timoner and Wells, "A marginalized MAP approach and EM
       optimization for pair-wise registration", IPMI 2007.
    .. [2] Chung, Wells, Norbash and Grimson, "Multi-modal image registration by
       minimising Kullback-Leibler distance", MICCAI 2002.

    Examples
    --------
    Bright was learned to go with dark. Images that agree and images that are each
    other's negative have one mutual information, but not one score:

    >>> import numpy as np
    >>> metric = prior_informed(np.array([[1.0, 9.0], [9.0, 1.0]]))
    >>> alike, negative = np.eye(2), np.eye(2)[::-1]
    >>> metric(negative)[0] > metric(alike)[0]
    True
    """
    extra = float(pseudo_counts.sum())
    known = mutual_information(pseudo_counts)[0]

    def metric(histogram: FloatArray) -> tuple[float, FloatArray]:
        total = max(float(histogram.sum()), 1e-300)
        weight = extra / total
        pooled, slopes = mutual_information(histogram + pseudo_counts)
        gained = weight * (pooled - known)
        return pooled + gained, slopes * (1 + weight) - gained / total

    return metric


def _joint_and_product(
    histogram: FloatArray,
) -> tuple[float, FloatArray, FloatArray]:
    """Total, joint distribution, and the product of its marginals."""
    total = max(float(histogram.sum()), 1e-300)
    p = histogram / total
    q = p.sum(axis=1, keepdims=True) * p.sum(axis=0)
    return total, p, q


def _by_counts(
    total: float, p: FloatArray, by_p: FloatArray, by_q: FloatArray
) -> FloatArray:
    """Turn slopes by the joint distribution and by the product into those by counts."""
    x, y = p.sum(axis=1), p.sum(axis=0)
    slopes = by_p + (by_q @ y)[:, None] + x @ by_q
    return (slopes - np.vdot(p, slopes)) / total


#: The metrics that need nothing but the joint histogram, by name.
METRIC: Mapping[str, Metric] = MappingProxyType(
    {
        "mi": mutual_information,
        "nmi": normalised_mutual_information,
        "ecc": entropy_correlation,
        "js": jensen_shannon_information,
        "hellinger": hellinger_information,
        "chi2": chi_squared_information,
    }
)
