"""Similarity metrics: a joint histogram to a score and its derivative.

Every metric is a function of the joint histogram alone, as counts, and says how the
score changes with each count; one kernel turns that into the gradient by the pose.
The scores are the measures of `mireg.information`, here with their derivatives and
fast enough to be asked thousands of times. Some are f-informations [4]_ [5]_, which
`mireg._settings.METRICS` lists; these are written out:

===========  ========================================================  ===============
name         score                                                     range
===========  ========================================================  ===============
"mi"         ``H(X) + H(Y) - H(X,Y)`` [1]_ [2]_                        0 to log n
"nmi"        ``(H(X) + H(Y)) / H(X,Y)`` [3]_                           1 to 2
"ecc"        ``2 I(X;Y) / (H(X) + H(Y))`` [2]_                         0 to 1
"oimi"       `overlap_invariant`                                       0 to log n
"prior"      `prior_informed`                                          any
===========  ========================================================  ===============

For n grey levels, in nats. Two images that know nothing of each other have the lowest
score, but by "prior", which goes below 0 for a pair unlike those learned. The mutual
information is the f-information "kl", on a fast path: as entropies, by a kernel.

References
----------
.. [1] Viola and Wells, "Alignment by maximization of mutual information", IJCV 1997.
.. [2] Maes et al., "Multimodality image registration by maximization of mutual
   information", IEEE TMI 1997.
.. [3] Studholme, Hill and Hawkes, "An overlap invariant entropy measure of 3D medical
   image alignment", Pattern Recognition 1999.
.. [4] Lin, "Divergence measures based on the Shannon entropy", IEEE Transactions on
   Information Theory 1991.
.. [5] Pluim, Maintz and Viergever, "f-information measures in medical image
   registration", IEEE TMI 2004.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from .. import _kernels as kernels
from .._settings import METRICS
from ..information import F_DIVERGENCE, Member

FloatArray = npt.NDArray[np.float64]

#: From a joint histogram (n, m), as counts of any total above 0, to the score and its
#: derivative by each count (n, m).
Metric = Callable[[FloatArray], tuple[float, FloatArray]]

#: Share of the samples that every cell is thought to hold beside its own, for slopes
#: only: keeps them finite.
_NEVER = 1e-24


def f_information(member: Member) -> Metric:
    """Make the metric that is an f-divergence from independence.

    Parameters
    ----------
    member : str
        Name in `mireg.information.F_DIVERGENCE`. One with ``f(0) = inf`` suits no
        histogram with an empty cell, and "total-variation" has slopes that jump.

    Returns
    -------
    Metric
        From a joint histogram to ``sum q f(p / q)``, for the joint distribution p and
        the product q of its marginals, and its derivative.

    Notes
    -----
    Terms ``q f(p / q)`` double with p and q, so counts do for both. A count adds to p
    in its cell, and to q all along its row and its column.

    Examples
    --------
    >>> metric = f_information("pearson-chi-squared")
    >>> score, _ = metric(np.diag([5.0, 5.0]))
    >>> round(score, 12)
    1.0
    """
    divergence = F_DIVERGENCE[member]

    def metric(histogram: FloatArray) -> tuple[float, FloatArray]:
        rows, columns = histogram.sum(axis=1, keepdims=True), histogram.sum(axis=0)
        total = max(float(rows.sum()), _NEVER)
        never = _NEVER * total
        product = rows * (columns / total)
        terms = divergence.terms(histogram, product)
        slopes = divergence.slope((histogram + never) / (product + never))
        rest = terms - histogram * slopes  # the product times the slopes by it
        of_row, of_column = rest.sum(axis=1, keepdims=True), rest.sum(axis=0)
        score = float(terms.sum()) / total
        mean = score + float(of_row.sum()) / total  # of the slopes, over the samples
        slopes += of_row / (rows + never) - mean
        slopes += of_column / (columns + never)
        slopes /= total
        return score, slopes

    return metric


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


def mutual_information(histogram: FloatArray) -> tuple[float, FloatArray]:
    """Mutual information of a joint histogram, and its derivative."""
    each, d_rows, d_columns, d_joint = entropies(histogram)
    h_rows, h_columns, h_joint = each.tolist()
    return h_rows + h_columns - h_joint, d_rows + d_columns - d_joint


def normalised_mutual_information(histogram: FloatArray) -> tuple[float, FloatArray]:
    """Normalised mutual information of a joint histogram, and its derivative."""
    each, d_rows, d_columns, d_joint = entropies(histogram)
    h_rows, h_columns, h_joint = each.tolist()
    if h_joint <= 0:  # one cell holds all: nothing is shared, nothing to gain
        return 1.0, np.zeros_like(histogram)
    score = (h_rows + h_columns) / h_joint
    return score, (d_rows + d_columns - score * d_joint) / h_joint


def entropy_correlation(histogram: FloatArray) -> tuple[float, FloatArray]:
    """Entropy correlation coefficient of a joint histogram, and its derivative."""
    each, d_rows, d_columns, d_joint = entropies(histogram)
    h_rows, h_columns, h_joint = each.tolist()
    apart = h_rows + h_columns
    if apart <= 0:
        return 0.0, np.zeros_like(histogram)
    score = 2 - 2 * h_joint / apart
    return score, (2 * h_joint / apart * (d_rows + d_columns) - 2 * d_joint) / apart


#: The metrics that need nothing but the joint histogram, by name.
METRIC: Mapping[str, Metric] = MappingProxyType(
    {
        "mi": mutual_information,
        "nmi": normalised_mutual_information,
        "ecc": entropy_correlation,
        **{
            name: f_information(about.divergence)
            for name, about in METRICS.items()
            if about.divergence is not None
        },
    }
)


def overlap_invariant(fixed_counts: FloatArray, background: FloatArray) -> Metric:
    """Make the mutual information that no change of the overlap can move.

    Every pose is scored over the same samples: those outside the interpolated image
    count as its background. So the edge of the field of view may pass over background
    without any change of the score, after the idea of [1]_, who assume the
    statistics of the background in the same way. Anatomy that the interpolated image
    cuts off breaks the assumption.

    Parameters
    ----------
    fixed_counts : (n,) array
        Histogram of the fixed image over all samples, as counts.
    background : (m,) array
        Histogram of the background of the interpolated image, with a sum of 1.

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
