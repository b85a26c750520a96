"""How much distributions tell, and how far apart they are: exact measures.

Everything mireg scores is one of these. A distribution is an array of any shape with
one probability for each bin; `from_counts` makes one from counts. The conventions are
those of coding theory [1]_:

- ``0 log 0 = 0``: a bin that never occurs costs nothing;
- ``p > 0, q = 0`` costs ``inf``: no code for `q` has a word for it. A positive
  `epsilon` is added to every bin of `p` and of `q`, which are then normalised again.
  This is the same noise for both, so it never drives them apart, and equal ones
  stay at distance 0;
- measures with a logarithm are in nats, or in the unit of another `base` (2: bits);
- divergences are never below 0, and exactly 0 for identical distributions;
- what is no distribution is refused with an `InputError`: negative or not finite, of
  different shape, or with a sum that misses 1 by more than single-precision rounding.
  What rounding left is divided out.

A joint distribution has two axes, X down the rows and Y along the columns.

References
----------
.. [1] Cover and Thomas, "Elements of Information Theory", 2nd edition, Wiley 2006.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Real
from types import MappingProxyType
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import linalg
from scipy.special import boxcox, entr, rel_entr, xlogy

from ._errors import InputError

__all__ = [
    "F_DIVERGENCE",
    "FDivergence",
    "Member",
    "conditional_entropy",
    "cross_entropy",
    "entropy",
    "entropy_correlation_coefficient",
    "f_divergence",
    "from_counts",
    "gaussian_kl",
    "jeffreys_divergence",
    "js_divergence",
    "kl_divergence",
    "mutual_information",
    "normalised_mutual_information",
    "variation_of_information",
    "wasserstein_distance",
]

FloatArray = npt.NDArray[np.float64]
Member = Literal[
    "kl",
    "reverse-kl",
    "jensen-shannon",
    "total-variation",
    "squared-hellinger",
    "pearson-chi-squared",
    "alpha",
]

#: Largest departure of a sum from 1 that is read as rounding (of float32 bins).
_ROUNDING = 1e-6

#: Where a bin is empty, what its 0 is divided by; and the largest number below 1.
_LEAST, _ALMOST_1 = 1e-300, 1 - 2.0**-53


def __dir__() -> list[str]:
    """Name what is public."""
    return [*__all__]


def from_counts(counts: npt.ArrayLike) -> FloatArray:
    """Turn counts into probabilities.

    Parameters
    ----------
    counts : array_like
        How often, or with what weight, each bin was seen. Any total above 0.

    Returns
    -------
    ndarray
        ``counts / counts.sum()``.

    Raises
    ------
    InputError
        If a count is negative or not finite, or all are 0.

    Examples
    --------
    >>> from_counts([3, 1, 0])
    array([0.75, 0.25, 0.  ])
    """
    weights = _weights(counts, "counts")
    largest = weights.max(initial=0.0)
    if largest == 0:
        raise InputError("counts hold nothing: at least one must be above 0")
    weights = weights / largest  # so that no sum overflows
    return weights / weights.sum()


def entropy(p: npt.ArrayLike, *, base: float = math.e) -> float:
    """Entropy: the mean length of the best code for `p`.

    Parameters
    ----------
    p : array_like
        Distribution.
    base : float, optional
        Base of the logarithm; 2 gives bits (default: e, nats).

    Returns
    -------
    float
        ``-sum p log p``, from 0 (one bin holds all) to ``log(p.size)`` (uniform).

    Examples
    --------
    >>> entropy([1 / 2, 1 / 4, 1 / 8, 1 / 8], base=2)
    1.75
    """
    return _sum(entr(_distribution(p, "p")), base)


def cross_entropy(
    p: npt.ArrayLike, q: npt.ArrayLike, *, base: float = math.e, epsilon: float = 0.0
) -> float:
    """Cross-entropy: the mean length when `p` is coded with the best code for `q`.

    Parameters
    ----------
    p, q : array_like
        Distributions of one shape: what occurs, and what was believed.
    base : float, optional
        Base of the logarithm (default: e, nats).
    epsilon : float, optional
        Added to every bin of both before they are normalised again (default: 0).

    Returns
    -------
    float
        ``-sum p log q``; ``inf`` where something occurs that `q` rules out.

    Examples
    --------
    >>> cross_entropy([1 / 2, 1 / 4, 1 / 8, 1 / 8], [1 / 4] * 4, base=2)
    2.0
    """
    p, q = _pair(p, q, epsilon)
    return _sum(-xlogy(p, q), base)


def kl_divergence(
    p: npt.ArrayLike, q: npt.ArrayLike, *, base: float = math.e, epsilon: float = 0.0
) -> float:
    """Kullback-Leibler divergence: what it costs to believe `q` where `p` is true.

    Parameters
    ----------
    p, q : array_like
        Distributions of one shape: what occurs, and what was believed.
    base : float, optional
        Base of the logarithm (default: e, nats).
    epsilon : float, optional
        Added to every bin of both before they are normalised again (default: 0).

    Returns
    -------
    float
        ``sum p log(p / q)`` [1]_, which is ``cross_entropy(p, q) - entropy(p)``: 0 if
        and only if ``p == q``, ``inf`` where something occurs that `q` rules out.

    References
    ----------
    .. [1] Kullback and Leibler, "On information and sufficiency", Annals of
       Mathematical Statistics 1951.

    Examples
    --------
    Coding with the wrong distribution costs a quarter of a bit for each symbol:

    >>> kl_divergence([1 / 2, 1 / 4, 1 / 8, 1 / 8], [1 / 4] * 4, base=2)
    0.25
    >>> kl_divergence([0.5, 0.5], [1, 0])
    inf
    """
    return _sum(_kl_terms(*_pair(p, q, epsilon)), base)


def jeffreys_divergence(
    p: npt.ArrayLike, q: npt.ArrayLike, *, base: float = math.e, epsilon: float = 0.0
) -> float:
    """Jeffreys divergence: the KL divergence there and back.

    Parameters
    ----------
    p, q : array_like
        Distributions of one shape.
    base : float, optional
        Base of the logarithm (default: e, nats).
    epsilon : float, optional
        Added to every bin of both before they are normalised again (default: 0).

    Returns
    -------
    float
        ``KL(p, q) + KL(q, p)`` [1]_; ``inf`` unless both fill the same bins.

    References
    ----------
    .. [1] Jeffreys, "An invariant form for the prior probability in estimation
       problems", Proceedings of the Royal Society A 1946.

    Examples
    --------
    >>> round(jeffreys_divergence([0.75, 0.25], [0.25, 0.75], base=3), 12)
    1.0
    """
    p, q = _pair(p, q, epsilon)
    return _sum(rel_entr(p, q) + rel_entr(q, p), base)


def js_divergence(p: npt.ArrayLike, q: npt.ArrayLike, *, base: float = math.e) -> float:
    """Jensen-Shannon divergence: the mean KL divergence to the middle of both.

    Parameters
    ----------
    p, q : array_like
        Distributions of one shape.
    base : float, optional
        Base of the logarithm (default: e, nats).

    Returns
    -------
    float
        ``(KL(p, m) + KL(q, m)) / 2`` with ``m = (p + q) / 2`` [1]_: from 0 (equal) to
        ``log 2`` (nothing in common). Its square root is a metric.

    References
    ----------
    .. [1] Lin, "Divergence measures based on the Shannon entropy", IEEE Transactions
       on Information Theory 1991.

    Examples
    --------
    >>> js_divergence([1, 0], [0, 1], base=2)
    1.0
    """
    return _sum(_js_terms(*_pair(p, q)), base)


# --- the family of f-divergences --------------------------------------------------


@dataclass(frozen=True)
class FDivergence:
    """One of the family ``sum q f(p / q)``, with `f` convex and ``f(1) = 0``.

    Many `f` have one sum, for distributions; the one that is meant has ``f'(1) = 0``,
    too, so that no term is below 0.

    Attributes
    ----------
    terms : callable
        From p and q, arrays of one shape, to ``q f(p / q)`` of each bin: exact also
        where they are nearly equal, and where one or both are 0. So `f` is
        ``terms(t, 1)``, and ``terms(1, 0)`` is its slope at infinity.
    slope : callable
        From the ratio ``t = p / q``, an array above 0, to ``f'(t)``. That is the
        derivative of the sum by p; that by q is ``f(t) - t f'(t)``.
    """

    terms: Callable[[FloatArray, FloatArray], FloatArray]
    slope: Callable[[FloatArray], FloatArray]


def _kl_terms(p: FloatArray, q: FloatArray) -> FloatArray:
    """Return ``p log(p/q) + q - p``, which is never below 0."""
    return rel_entr(p, q) + (q - p)


def _js_terms(p: FloatArray, q: FloatArray) -> FloatArray:
    """Return the mean of ``p log(p/m)`` and ``q log(q/m)``, m midway between both."""
    lean = (p - q) / (p + q + _LEAST)  # p/m is 1 + lean, q/m is 1 - lean
    lean = lean.clip(-_ALMOST_1, _ALMOST_1)  # 0 log 0 = 0
    return (p * np.log1p(lean) + q * np.log1p(-lean)) / 2


def _hellinger_terms(p: FloatArray, q: FloatArray) -> FloatArray:
    """Return ``(sqrt p - sqrt q)**2 / 2``, so that digits stay near p = q."""
    return np.square((p - q) / (np.sqrt(p) + np.sqrt(q) + _LEAST)) / 2


def _chi_squared_terms(p: FloatArray, q: FloatArray) -> FloatArray:
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return np.fmax((p - q) * ((p - q) / q), 0.0)  # 0 where 0 / 0 is not a number


def _alpha_terms(p: FloatArray, q: FloatArray, alpha: float) -> FloatArray:
    """Return the terms of order `alpha`, exact also near 0 and 1.

    The logarithm of KL gives way to Box and Cox's ``(t**k - 1) / k``.
    """
    if alpha < 0.5:  # swapping p and q mirrors the order about 1/2
        return _alpha_terms(q, p, 1 - alpha)
    with np.errstate(over="ignore"):
        ratio = np.divide(q, p, out=np.ones_like(p), where=p > 0)
    return (q - p - p * boxcox(ratio, 1 - alpha)) / alpha


#: The f-divergences by name. What is a member here is a similarity metric, too.
#:
#: ===================  ==================================  =======  =========
#: name                 f(t)                                f(0)     f'(inf)
#: ===================  ==================================  =======  =========
#: kl                   t log t - t + 1                     1        inf
#: reverse-kl           t - 1 - log t                       inf      1
#: jensen-shannon       (t log t - (t+1) log((t+1)/2)) / 2  log 2/2  log 2/2
#: total-variation      abs(t - 1) / 2; no slope at t = 1   1/2      1/2
#: squared-hellinger    (sqrt t - 1)**2 / 2                 1/2      1/2
#: pearson-chi-squared  (t - 1)**2                          1        inf
#: ===================  ==================================  =======  =========
F_DIVERGENCE: Mapping[Member, FDivergence] = MappingProxyType(
    {
        "kl": FDivergence(_kl_terms, np.log),
        "reverse-kl": FDivergence(lambda p, q: _kl_terms(q, p), lambda t: 1 - 1 / t),
        "jensen-shannon": FDivergence(_js_terms, lambda t: np.log(0.5 + 0.5 / t) / -2),
        "total-variation": FDivergence(
            lambda p, q: np.abs(p - q) / 2, lambda t: np.sign(t - 1) / 2
        ),
        "squared-hellinger": FDivergence(
            _hellinger_terms, lambda t: (1 - 1 / np.sqrt(t)) / 2
        ),
        "pearson-chi-squared": FDivergence(_chi_squared_terms, lambda t: 2 * (t - 1)),
    }
)


def f_divergence(
    p: npt.ArrayLike,
    q: npt.ArrayLike,
    member: Member,
    *,
    alpha: float | None = None,
    epsilon: float = 0.0,
) -> float:
    """One of the family ``sum q f(p / q)``, with `f` convex and ``f(1) = 0``.

    What they share [1]_: never below 0, 0 for equal distributions, and never raised
    by sending both through the same noise.

    Parameters
    ----------
    p, q : array_like
        Distributions of one shape.
    member : str
        Which one; sums run over the bins:

        =====================  =======================================================
        "kl"                   ``p log(p / q)``, as `kl_divergence`
        "reverse-kl"           ``q log(q / p)``
        "jensen-shannon"       as `js_divergence`
        "total-variation"      ``|p - q| / 2``, at most 1
        "squared-hellinger"    ``(sqrt p - sqrt q)**2 / 2``, at most 1
        "pearson-chi-squared"  ``(p - q)**2 / q``
        "alpha"                ``(p**a q**(1-a) - a p - (1-a) q) / (a (a-1))`` for
                               a = `alpha` [2]_: KL at 1, reverse KL at 0, half of
                               Pearson's at 2, four times Hellinger's at 1/2
        =====================  =======================================================
    alpha : float, optional
        The order of "alpha", any real number; the others take none.
    epsilon : float, optional
        Added to every bin of both before they are normalised again (default: 0).

    Returns
    -------
    float
        In nats where there is a logarithm.

    Raises
    ------
    InputError
        If `member` is none of these, or `alpha` is given or missing against the rule.

    References
    ----------
    .. [1] Csiszar, "Information-type measures of difference of probability
       distributions and indirect observations", Studia Sci. Math. Hungarica 1967.
    .. [2] Amari, "Information Geometry and Its Applications", Springer 2016.

    Examples
    --------
    >>> f_divergence([1, 0], [0.5, 0.5], "total-variation")
    0.5
    >>> f_divergence([1, 0], [0.5, 0.5], "alpha", alpha=2)
    0.5
    """
    p, q = _pair(p, q, epsilon)
    if member == "alpha":
        if not (isinstance(alpha, Real) and math.isfinite(alpha)):
            raise InputError(
                f'alpha is {alpha!r}; member "alpha" needs a finite number'
            )
        return _sum(_alpha_terms(p, q, alpha))
    if member not in F_DIVERGENCE:
        names = ", ".join([*F_DIVERGENCE, "alpha"])
        raise InputError(
            f"{member!r} is not a known f-divergence; choose one of {names}"
        )
    if alpha is not None:
        raise InputError(
            f'only member "alpha" takes alpha; leave it out for "{member}"'
        )
    return _sum(F_DIVERGENCE[member].terms(p, q))


def mutual_information(joint: npt.ArrayLike, *, base: float = math.e) -> float:
    """Mutual information: what X and Y tell about each other.

    Parameters
    ----------
    joint : (n, m) array_like
        Joint distribution of X (rows) and Y (columns).
    base : float, optional
        Base of the logarithm (default: e, nats).

    Returns
    -------
    float
        ``KL(p(x,y), p(x) p(y)) = H(X) + H(Y) - H(X,Y)`` [1]_, from 0 (independent) to
        the smaller of the entropies of X and Y.

    Notes
    -----
    Summed as the mean over x of ``KL(p(y|x), p(y))``: term by term the same, but the
    product of two small marginals cannot underflow to 0.

    References
    ----------
    .. [1] Shannon, "A mathematical theory of communication", Bell System Technical
       Journal 1948.

    Examples
    --------
    >>> mutual_information([[0.5, 0], [0, 0.5]], base=2)
    1.0
    >>> mutual_information([[0.25, 0.25], [0.25, 0.25]])
    0.0
    """
    x, y_given_x, y = _channel(joint)
    return _sum(x * _kl_terms(y_given_x, y), base)


def conditional_entropy(joint: npt.ArrayLike, *, base: float = math.e) -> float:
    """Conditional entropy: what is left to learn about Y once X is known.

    Parameters
    ----------
    joint : (n, m) array_like
        Joint distribution of X (rows) and Y (columns); transpose it for H(X|Y).
    base : float, optional
        Base of the logarithm (default: e, nats).

    Returns
    -------
    float
        ``H(Y|X) = H(X,Y) - H(X)``: 0 if X determines Y.

    Examples
    --------
    >>> conditional_entropy([[0.5, 0], [0.25, 0.25]], base=2)
    0.5
    """
    x, y_given_x, _ = _channel(joint)
    return _sum(x * entr(y_given_x), base)


def variation_of_information(joint: npt.ArrayLike, *, base: float = math.e) -> float:
    """Variation of information: what X and Y do not share.

    Parameters
    ----------
    joint : (n, m) array_like
        Joint distribution of X (rows) and Y (columns).
    base : float, optional
        Base of the logarithm (default: e, nats).

    Returns
    -------
    float
        ``H(X|Y) + H(Y|X)`` [1]_, a metric: 0 if each determines the other.

    References
    ----------
    .. [1] Meila, "Comparing clusterings: an information based distance", Journal of
       Multivariate Analysis 2007.

    Examples
    --------
    >>> variation_of_information([[0, 0.5], [0.5, 0]])
    0.0
    """
    p = _joint(joint)
    return conditional_entropy(p, base=base) + conditional_entropy(p.T, base=base)


def normalised_mutual_information(joint: npt.ArrayLike) -> float:
    """Normalised mutual information of Studholme.

    Parameters
    ----------
    joint : (n, m) array_like
        Joint distribution of X (rows) and Y (columns).

    Returns
    -------
    float
        ``(H(X) + H(Y)) / H(X,Y)`` [1]_, from 1 (independent, or one cell holds all) to
        2 (each determines the other).

    References
    ----------
    .. [1] Studholme, Hill and Hawkes, "An overlap invariant entropy measure of
       3D medical image alignment", Pattern Recognition 1999.

    Examples
    --------
    >>> normalised_mutual_information([[0.5, 0], [0, 0.5]])
    2.0
    """
    p = _joint(joint)
    together = entropy(p)
    return 1 + (mutual_information(p) / together if together > 0 else 0.0)


def entropy_correlation_coefficient(joint: npt.ArrayLike) -> float:
    """Entropy correlation coefficient of Maes.

    Parameters
    ----------
    joint : (n, m) array_like
        Joint distribution of X (rows) and Y (columns).

    Returns
    -------
    float
        ``2 I(X;Y) / (H(X) + H(Y))`` [1]_, from 0 (independent, or one cell holds all)
        to 1. It is ``2 - 2 / NMI``.

    References
    ----------
    .. [1] Maes et al., "Multimodality image registration by maximization of mutual
       information", IEEE Transactions on Medical Imaging 1997.

    Examples
    --------
    >>> entropy_correlation_coefficient([[0.5, 0], [0, 0.5]])
    1.0
    """
    p = _joint(joint)
    apart = entropy(p.sum(axis=1)) + entropy(p.sum(axis=0))
    return 2 * mutual_information(p) / apart if apart > 0 else 0.0


def wasserstein_distance(
    p: npt.ArrayLike, q: npt.ArrayLike, *, centres: npt.ArrayLike | None = None
) -> float:
    """Wasserstein distance: how far the mass of `p` must travel to become `q`.

    Unlike the divergences it knows which bins are near each other.

    Parameters
    ----------
    p, q : (n,) array_like
        Distributions over the same bins.
    centres : (n,) array_like, optional
        Where the bins lie (default: 0, 1, 2, ...).

    Returns
    -------
    float
        Mass times distance, in the unit of `centres`.

    Raises
    ------
    InputError
        If `p` is not a histogram with one axis, or `centres` do not fit it.

    Examples
    --------
    >>> wasserstein_distance([1, 0, 0], [0, 0.5, 0.5])
    1.5
    """
    from scipy import stats  # noqa: PLC0415  # slow to import, and only needed here

    p, q = _pair(p, q)
    x = _numbers(np.arange(p.size) if centres is None else centres, "centres")
    if p.ndim != 1 or x.shape != p.shape or not np.isfinite(x).all():
        raise InputError(
            f"p and q have shape {p.shape} and the centres {x.shape}; give one axis, "
            "with a finite centre for each bin"
        )
    return float(stats.wasserstein_distance(x, x, p, q))


def gaussian_kl(
    mean_p: npt.ArrayLike,
    covariance_p: npt.ArrayLike,
    mean_q: npt.ArrayLike,
    covariance_q: npt.ArrayLike,
    *,
    base: float = math.e,
) -> float:
    """Kullback-Leibler divergence between two Gaussians, in closed form.

    Parameters
    ----------
    mean_p, mean_q : (d,) array_like
        Means.
    covariance_p, covariance_q : (d, d) or (d,) array_like
        Covariances, or only their diagonals (variances).
    base : float, optional
        Base of the logarithm (default: e, nats).

    Returns
    -------
    float
        ``(tr(Q**-1 P) - d - log det(Q**-1 P) + m.T Q**-1 m) / 2`` with `P` and `Q` the
        covariances and `m` the difference of the means [1]_.

    Raises
    ------
    InputError
        If the shapes do not fit, or a covariance is not symmetric positive definite.

    References
    ----------
    .. [1] Kullback, "Information Theory and Statistics", Wiley 1959, chapter 9.

    Examples
    --------
    >>> gaussian_kl(1, 1, 0, 1)
    0.5
    >>> gaussian_kl([3, 0], [1, 2], [0, 0], [[9, 0], [0, 2]]) == gaussian_kl(3, 1, 0, 9)
    True
    """
    means = _numbers(mean_p, "mean_p"), _numbers(mean_q, "mean_q")
    if means[0].shape != means[1].shape:
        raise InputError(
            f"mean_p has shape {means[0].shape} and mean_q {means[1].shape}; give both "
            "of the same variables"
        )
    step = np.atleast_1d(means[0] - means[1])
    p, q = np.atleast_1d(_covariance(covariance_p), _covariance(covariance_q))
    for one in (p, q):
        if step.ndim != 1 or one.shape not in (step.shape, 2 * step.shape):
            raise InputError(
                f"means of shape {step.shape} do not fit a covariance of shape "
                f"{one.shape}; give (d,) with (d, d) or (d,)"
            )
    if not np.isfinite(step).all():
        raise InputError(f"means must be finite; they differ by {step}")
    if p.ndim == q.ndim == 1:
        ratio, distance = p / q, step / np.sqrt(q)
    else:  # axes along which both covariances are diagonal, and that of q is 1
        p, q = (np.diag(one) if one.ndim == 1 else one for one in (p, q))
        ratio, axes = linalg.eigh(p, q)
        distance = axes.T @ step
    excess = np.maximum((ratio - 1) - np.log(ratio), 0.0)
    return _sum((excess + distance**2) / 2, base)


# --- what is let in, and summed ---------------------------------------------------


def _sum(terms: npt.NDArray[np.floating], base: float = math.e) -> float:
    """Add terms in nats, exactly and in any order; tell the sum in units of `base`."""
    if not (isinstance(base, Real) and 1 < base < math.inf):
        raise InputError(
            f"base of the logarithm is {base!r}; it must be a number above 1"
        )
    return max(math.fsum(terms.flat), 0.0) / math.log(base)


def _numbers(values: npt.ArrayLike, name: str) -> FloatArray:
    """Return an array of real numbers, or say that it is none."""
    try:
        array = np.asarray(values)
        if array.dtype.kind in "fiubO":
            return array.astype(np.float64, copy=False)
    except (TypeError, ValueError):  # rows of different lengths, or no numbers in them
        pass
    raise InputError(f"{name} must be an array of real numbers")


def _weights(values: npt.ArrayLike, name: str) -> FloatArray:
    weights = _numbers(values, name)
    if not (np.isfinite(weights) & (weights >= 0)).all():
        raise InputError(f"{name} must be finite and not negative in every bin")
    return weights


def _distribution(values: npt.ArrayLike, name: str) -> FloatArray:
    p = _weights(values, name)
    with np.errstate(over="ignore"):
        total = p.sum()
    if not abs(total - 1) <= _ROUNDING:
        raise InputError(
            f"{name} sums to {total:g}, not 1; counts go through from_counts first"
        )
    return p / total


def _pair(
    p: npt.ArrayLike, q: npt.ArrayLike, epsilon: float = 0.0
) -> tuple[FloatArray, FloatArray]:
    """Check two distributions over the same bins; smooth both."""
    if not (isinstance(epsilon, Real) and 0 <= epsilon < math.inf):
        raise InputError(f"epsilon is {epsilon!r}; it must be finite and not negative")
    p, q = _distribution(p, "p"), _distribution(q, "q")
    if p.shape != q.shape:
        raise InputError(
            f"p has shape {p.shape} and q {q.shape}; give both over the same bins"
        )
    return (from_counts(p + epsilon), from_counts(q + epsilon)) if epsilon else (p, q)


def _joint(joint: npt.ArrayLike) -> FloatArray:
    p = _distribution(joint, "joint")
    if p.ndim != 2:
        raise InputError(f"joint has shape {p.shape}; it must have two axes, X and Y")
    return p


def _channel(joint: npt.ArrayLike) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Split a joint distribution into p(x) as a column, p(y|x), and p(y)."""
    p = _joint(joint)
    x = p.sum(axis=1, keepdims=True)
    seen = x[:, 0] > 0
    return x[seen], p[seen] / x[seen], p.sum(axis=0)


def _covariance(values: npt.ArrayLike) -> FloatArray:
    """Check a covariance (d, d), or variances (d,)."""
    c = _numbers(values, "a covariance")
    if np.isfinite(c).all() and c.shape == c.shape[::-1]:
        rounding = 1e-8 * np.abs(c).max(initial=0.0)
        variances = np.linalg.eigvalsh(c) if c.ndim == 2 else c
        if np.allclose(c, c.T, rtol=0, atol=rounding) and (variances > 0).all():
            return c
    raise InputError("a covariance must be finite, symmetric and positive definite")
