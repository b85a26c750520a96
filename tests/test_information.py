"""Information measures against hand-worked values, other libraries and properties."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import integrate, spatial, special, stats
from sklearn import metrics

from mireg._errors import InputError
from mireg.information import (
    F_DIVERGENCE,
    conditional_entropy,
    cross_entropy,
    entropy,
    entropy_correlation_coefficient,
    f_divergence,
    from_counts,
    gaussian_kl,
    jeffreys_divergence,
    js_divergence,
    kl_divergence,
    mutual_information,
    normalised_mutual_information,
    variation_of_information,
    wasserstein_distance,
)

MEMBERS = tuple(F_DIVERGENCE)
ORDERS = (-1.5, 0.0, 0.3, 0.5, 1.0, 2.0, 3.0)
DIVERGENCES = [
    kl_divergence,
    jeffreys_divergence,
    js_divergence,
    wasserstein_distance,
    *(lambda p, q, m=m: f_divergence(p, q, m) for m in MEMBERS),
    *(lambda p, q, a=a: f_divergence(p, q, "alpha", alpha=a) for a in ORDERS),
]

# A joint distribution worked by hand (bits): H(X) = 1, H(Y) = 0.8112781,
# H(X,Y) = 1.5, H(Y|X) = 1/2, H(X|Y) = 0.6887219, I = 0.3112781.
JOINT = np.array([[1 / 2, 0], [1 / 4, 1 / 4]])
H_Y = 2 - 0.75 * math.log2(3)

counts = st.integers(0, 1000)
shapes = hnp.array_shapes(min_dims=1, max_dims=2, min_side=1, max_side=6)
tables = hnp.arrays(np.int64, hnp.array_shapes(min_dims=2, max_dims=2), elements=counts)
quietly = settings(deadline=None, derandomize=True, max_examples=60)


@st.composite
def pairs(draw):
    """Draw two distributions of one shape, with empty bins."""
    shape = draw(shapes)
    both = [draw(hnp.arrays(np.int64, shape, elements=counts)) for _ in "pq"]
    for one in both:
        one.flat[draw(st.integers(0, one.size - 1))] += 1
    return [from_counts(one) for one in both]


joints = tables.filter(lambda table: table.any()).map(from_counts)


# --- by hand --------------------------------------------------------------------


def test_entropy_by_hand():
    assert entropy([1 / 2, 1 / 4, 1 / 8, 1 / 8], base=2) == 1.75
    assert entropy([1, 0, 0]) == 0
    assert entropy(np.full((4, 4), 1 / 16), base=4) == pytest.approx(2, rel=1e-15)


def test_zero_times_log_zero_is_zero():
    p, q = [0.5, 0.5, 0], [0.25, 0.75, 0]
    for value in (entropy(p), cross_entropy(p, q), kl_divergence(p, q)):
        assert math.isfinite(value)
    assert kl_divergence(p, q) == kl_divergence(p[:2], q[:2])


def test_what_the_belief_rules_out_costs_infinity():
    p, q = [0.5, 0.5], [1, 0]
    assert cross_entropy(p, q) == kl_divergence(p, q) == math.inf
    assert jeffreys_divergence(p, q) == jeffreys_divergence(q, p) == math.inf
    assert kl_divergence(q, p, base=2) == 1
    for member in ("kl", "pearson-chi-squared"):
        assert f_divergence(p, q, member) == math.inf
        assert math.isfinite(f_divergence(q, p, member))
    for alpha in (1, 2, 3.5):
        assert f_divergence(p, q, "alpha", alpha=alpha) == math.inf
        assert f_divergence(q, p, "alpha", alpha=1 - alpha) == math.inf
        assert math.isfinite(f_divergence(q, p, "alpha", alpha=alpha))


def test_epsilon_smooths_both():
    """(1/2, 1/2) and (1, 0) with 1/2 more in each of the bins."""
    p, q = [1 / 2, 1 / 2], [3 / 4, 1 / 4]
    given = {"epsilon": 0.5, "base": 2}
    assert kl_divergence([0.5, 0.5], [1, 0], **given) == kl_divergence(p, q, base=2)
    assert cross_entropy([0.5, 0.5], [1, 0], **given) == cross_entropy(p, q, base=2)
    assert jeffreys_divergence([0.5, 0.5], [1, 0], **given) == pytest.approx(
        kl_divergence(p, q, base=2) + kl_divergence(q, p, base=2), rel=1e-15
    )
    assert f_divergence([0.5, 0.5], [1, 0], "kl", epsilon=0.5) == kl_divergence(p, q)


def test_f_divergences_by_hand():
    p, q = [1 / 4, 3 / 4], [1, 0]
    a_half = f_divergence(p, q, "alpha", alpha=0.5)
    assert f_divergence(p, q, "total-variation") == 3 / 4
    assert f_divergence(p, q, "squared-hellinger") == pytest.approx(1 / 2)
    assert f_divergence(q, p, "pearson-chi-squared") == 3  # (9/16)(4 + 4/3)
    assert f_divergence(q, p, "alpha", alpha=2) == pytest.approx(3 / 2, rel=1e-15)
    assert a_half == pytest.approx(4 * 1 / 2, rel=1e-15)
    assert f_divergence(p, q, "reverse-kl") == pytest.approx(math.log(4), rel=1e-15)


@pytest.mark.parametrize(
    ("member", "f_of_4", "at_0", "slope_at_infinity"),
    [
        ("kl", 4 * math.log(4) - 3, 1, math.inf),
        ("reverse-kl", 3 - math.log(4), math.inf, 1),
        ("jensen-shannon", 2 * math.log(8 / 5) + math.log(2 / 5) / 2,
         math.log(2) / 2, math.log(2) / 2),
        ("total-variation", 3 / 2, 1 / 2, 1 / 2),
        ("squared-hellinger", 1 / 2, 1 / 2, 1 / 2),
        ("pearson-chi-squared", 9, 1, math.inf),
    ],
)  # fmt: skip
def test_members_by_hand(member, f_of_4, at_0, slope_at_infinity):
    """Terms q f(p/q) at the ratios 4, 1, 0, infinity, and of an empty bin."""
    p, q = np.array([[8.0, 1, 0, 3, 0], [2.0, 1, 5, 0, 0]])
    terms = F_DIVERGENCE[member].terms(p, q)
    by_hand = [2 * f_of_4, 0, 5 * at_0, 3 * slope_at_infinity, 0]
    assert list(terms) == pytest.approx(by_hand, rel=1e-15)


@pytest.mark.parametrize("member", MEMBERS)
def test_the_slope_of_a_member_is_that_of_its_f(member):
    divergence, t = F_DIVERGENCE[member], np.array([1e-3, 0.2, 0.9, 1.1, 4, 1e3])
    f_at, step = (lambda t: divergence.terms(t, np.ones_like(t))), 1e-6 * t
    differences = (f_at(t + step) - f_at(t - step)) / (2 * step)
    assert divergence.slope(t) == pytest.approx(differences, rel=1e-7)
    assert divergence.slope(np.ones(1)) == 0


def test_joint_measures_by_hand():
    bits = {"base": 2}
    assert conditional_entropy(JOINT, **bits) == pytest.approx(0.5, rel=1e-15)
    assert conditional_entropy(JOINT.T, **bits) == pytest.approx(1.5 - H_Y, rel=1e-14)
    assert mutual_information(JOINT, **bits) == pytest.approx(H_Y - 0.5, rel=1e-14)
    assert variation_of_information(JOINT, **bits) == pytest.approx(2 - H_Y, rel=1e-14)
    assert normalised_mutual_information(JOINT) == pytest.approx((1 + H_Y) / 1.5)
    assert entropy_correlation_coefficient(JOINT) == pytest.approx(
        2 * (H_Y - 0.5) / (1 + H_Y)
    )


@pytest.mark.parametrize("shape", [(1, 1), (3, 4)])
def test_one_cell_that_holds_all_shares_nothing(shape):
    joint = np.zeros(shape)
    joint[-1, 0] = 1
    assert mutual_information(joint) == 0
    assert normalised_mutual_information(joint) == 1
    assert entropy_correlation_coefficient(joint) == 0


def test_wasserstein_by_hand():
    assert wasserstein_distance([1, 0, 0], [0, 0, 1]) == 2
    assert wasserstein_distance([1, 0], [0.5, 0.5], centres=[-3, 7]) == 5


def test_gaussians_by_hand():
    """Variance 4 against 1, and means 3 apart: (4 - 1 - log 4 + 9) / 2."""
    by_hand = (12 - math.log(4)) / 2
    assert gaussian_kl(3, 4, 0, 1) == pytest.approx(by_hand, rel=1e-15)
    assert gaussian_kl(3, 4, 0, 1, base=2) == pytest.approx(by_hand / math.log(2))


# --- against other programs -----------------------------------------------------


@quietly
@given(pairs())
def test_entropies_agree_with_scipy(pair):
    p, q = pair
    assert entropy(p) == pytest.approx(stats.entropy(p, axis=None), rel=1e-13)
    kl = special.rel_entr(p, q).sum()
    assert kl_divergence(p, q) == pytest.approx(kl, rel=1e-12, abs=1e-15)
    assert f_divergence(p, q, "kl") == kl_divergence(p, q)
    there_and_back = kl + special.rel_entr(q, p).sum()
    assert jeffreys_divergence(p, q) == pytest.approx(there_and_back, rel=1e-12)
    js = spatial.distance.jensenshannon(p.ravel(), q.ravel()) ** 2
    assert js_divergence(p, q) == pytest.approx(js, rel=1e-12, abs=1e-15)
    assert f_divergence(p, q, "jensen-shannon") == js_divergence(p, q)


@quietly
@given(joints)
def test_joint_measures_agree_with_scikit_learn(joint):
    table = np.rint(joint / joint[joint > 0].min() * 7)
    x, y = np.repeat(np.indices(table.shape).reshape(2, -1), table.astype(int).flat, 1)
    joint = from_counts(table)
    mi = mutual_information(joint)
    assert mi == pytest.approx(
        metrics.mutual_info_score(None, None, contingency=table), rel=1e-9, abs=1e-14
    )
    if entropy(joint) == 0 or x.size > 20_000:
        return  # scikit-learn calls the first perfect; the second takes long
    ecc = metrics.normalized_mutual_info_score(x, y)
    assert entropy_correlation_coefficient(joint) == pytest.approx(ecc, abs=1e-9)


@quietly
@given(pairs())
def test_wasserstein_is_the_area_between_cumulated_histograms(pair):
    p, q = (one.ravel() for one in pair)
    centres = np.arange(p.size) ** 2 / 7
    area = np.abs(np.cumsum(p - q)[:-1]) @ np.diff(centres)
    assert wasserstein_distance(p, q, centres=centres) == pytest.approx(
        area, rel=1e-10, abs=1e-13
    )


@pytest.mark.parametrize("alpha", ORDERS)
def test_alpha_divergence_is_its_definition(alpha, rng):
    p, q = rng.dirichlet(np.ones(5), 2)
    if alpha in (0, 1):
        defined = kl_divergence(*((p, q) if alpha else (q, p)))
    else:
        defined = ((p**alpha * q ** (1 - alpha)).sum() - 1) / (alpha * (alpha - 1))
    assert f_divergence(p, q, "alpha", alpha=alpha) == pytest.approx(defined, rel=1e-12)


@pytest.mark.parametrize("limit", [0, 1])
def test_alpha_divergence_is_smooth_at_its_limits(limit, rng):
    p, q = rng.dirichlet(np.ones(5), 2)
    near = f_divergence(p, q, "alpha", alpha=limit + 1e-9)
    at = f_divergence(p, q, "kl" if limit else "reverse-kl")
    assert near == pytest.approx(at, rel=1e-7)


def test_gaussian_kl_is_the_integral(rng):
    """Full covariances in two dimensions, against quadrature of the definition."""
    p, q = (
        stats.multivariate_normal(rng.normal(size=2), a @ a.T + np.eye(2) / 2)
        for a in rng.normal(size=(2, 2, 2))
    )

    def integrand(x, y):
        return p.pdf([x, y]) * (p.logpdf([x, y]) - q.logpdf([x, y]))

    x, y = (
        (m - 9 * math.sqrt(v), m + 9 * math.sqrt(v))
        for m, v in zip(p.mean, np.diag(p.cov), strict=True)
    )
    expected, _ = integrate.dblquad(integrand, *y, *x, epsabs=1e-7, epsrel=1e-7)
    assert gaussian_kl(p.mean, p.cov, q.mean, q.cov) == pytest.approx(
        expected, rel=1e-5
    )


@pytest.mark.parametrize("full", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_diagonal_and_full_covariances_agree(full, rng):
    means, variances = rng.normal(size=(2, 4)), rng.uniform(0.5, 2, size=(2, 4))
    p, q = (np.diag(v) if f else v for v, f in zip(variances, full, strict=True))
    assert gaussian_kl(means[0], p, means[1], q) == pytest.approx(
        sum(gaussian_kl(*one) for one in zip(means[0], variances[0], means[1],
                                             variances[1], strict=True)),
        rel=1e-12,
    )  # fmt: skip


# --- properties -----------------------------------------------------------------


@quietly
@given(pairs(), st.sampled_from(DIVERGENCES))
def test_divergences_are_not_negative_and_zero_for_equals(pair, divergence):
    p, q = (one.ravel() for one in pair)
    assert divergence(p, p) == 0
    assert divergence(p, p.copy()[::-1][::-1]) == 0
    assert (divergence(p, q) > 0) == bool((p != q).any())


@quietly
@given(pairs())
def test_symmetric_divergences(pair):
    p, q = pair
    for symmetric in (js_divergence, jeffreys_divergence):
        assert symmetric(p, q) == symmetric(q, p)
    for alpha in ORDERS:
        there = f_divergence(p, q, "alpha", alpha=alpha)
        back = f_divergence(q, p, "alpha", alpha=1 - alpha)
        assert there == pytest.approx(back, rel=1e-11, abs=1e-14)


@quietly
@given(pairs(), st.randoms(use_true_random=False))
def test_order_of_bins_is_of_no_account(pair, random):
    p, q = (one.ravel() for one in pair)
    order = random.sample(range(p.size), p.size)
    for divergence in (kl_divergence, jeffreys_divergence, js_divergence):
        assert divergence(p, q) == pytest.approx(
            divergence(p[order], q[order]), rel=1e-12, abs=1e-15
        )


@quietly
@given(pairs())
def test_bounds(pair):
    p, q = pair
    rounding = 1e-14
    assert 0 <= entropy(p) <= math.log(p.size) + rounding
    assert js_divergence(p, q, base=2) <= 1 + rounding
    for member in ("total-variation", "squared-hellinger"):
        assert f_divergence(p, q, member) <= 1 + rounding
    # Pinsker: the total variation is at most the root of half the KL divergence.
    variation = f_divergence(p, q, "total-variation")
    assert variation <= math.sqrt(kl_divergence(p, q) / 2) + rounding


@quietly
@given(joints)
def test_bounds_of_joint_measures(joint):
    rounding = 1e-12
    h_x, h_y = entropy(joint.sum(axis=1)), entropy(joint.sum(axis=0))
    assert 0 <= mutual_information(joint) <= min(h_x, h_y) + rounding
    assert 1 <= normalised_mutual_information(joint) <= 2 + rounding
    assert 0 <= entropy_correlation_coefficient(joint) <= 1 + rounding
    assert 0 <= variation_of_information(joint) <= entropy(joint) + rounding
    assert 0 <= conditional_entropy(joint) <= h_y + rounding
    assert conditional_entropy(joint) == pytest.approx(
        entropy(joint) - h_x, abs=rounding
    )
    assert entropy_correlation_coefficient(joint) == pytest.approx(
        2 - 2 / normalised_mutual_information(joint), abs=rounding
    )


@pytest.mark.parametrize("n", [1, 3, 7, 64])
def test_independent_variables_share_nothing(n, rng):
    joint = np.outer(*rng.dirichlet(np.ones(n), 2))
    assert 0 <= mutual_information(joint) < 1e-15
    assert normalised_mutual_information(joint) == 1


@pytest.mark.parametrize("n", [2, 3, 7, 64])
def test_one_to_one_variables_share_all(n, rng):
    joint = np.diag(rng.dirichlet(np.ones(n)))[rng.permutation(n)]
    assert mutual_information(joint) == pytest.approx(entropy(joint), rel=1e-13)
    assert variation_of_information(joint) == 0
    assert normalised_mutual_information(joint) == pytest.approx(2, rel=1e-13)
    assert entropy_correlation_coefficient(joint) == pytest.approx(1, rel=1e-13)


# --- precision ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("member", "curvature"),
    [
        ("kl", 1),
        ("reverse-kl", 1),
        ("jensen-shannon", 1 / 4),
        ("squared-hellinger", 1 / 4),
        ("pearson-chi-squared", 2),
    ],
)
def test_tiny_divergences_keep_their_digits(member, curvature):
    """Bins of (1 + d)/2 and (1 - d)/2 against halves: d**2/2 times f''(1)."""
    d = 2.0**-20
    p = [(1 + d) / 2, (1 - d) / 2]
    assert f_divergence(p, [0.5, 0.5], member) == pytest.approx(
        curvature * d * d / 2, rel=1e-9
    )


def test_tiny_divergences_of_order_alpha_keep_their_digits():
    d = 2.0**-20
    p = [(1 + d) / 2, (1 - d) / 2]
    by_hand = pytest.approx(d * d / 2, rel=1e-6)
    assert f_divergence(p, [0.5, 0.5], "alpha", alpha=1.5) == by_hand


def test_tiny_probabilities_do_not_underflow_to_infinity():
    tiny = 1e-200  # its square is 0 in double precision
    assert mutual_information([[1 - tiny, 0], [0, tiny]]) < 1e-190
    least = 5e-324  # half of it is 0
    assert js_divergence([1, least], [1, 0]) < 1e-300
    assert f_divergence([1, tiny], [1, 0], "pearson-chi-squared") == math.inf


def test_single_precision_distributions_are_let_in(rng):
    counts = rng.integers(1, 100, 10_000).astype(np.float32)
    single = counts / counts.sum()
    assert entropy(single) == pytest.approx(entropy(from_counts(counts)), rel=1e-6)
    assert kl_divergence(single, single) == 0


def test_inputs_are_left_alone():
    p, q = np.array([0.5, 0.5]), np.array([1.0, 0.0])
    kl_divergence(p, q, epsilon=0.1)
    assert p.tolist() == [0.5, 0.5]
    assert q.tolist() == [1, 0]


def test_integers_are_counted():
    assert from_counts(np.array([[1, 2], [0, 1]], np.uint8)).tolist() == [
        [0.25, 0.5],
        [0, 0.25],
    ]
    assert from_counts([1.5e308, 1.5e308]).tolist() == [0.5, 0.5]


# --- what is refused ------------------------------------------------------------

HALVES = [0.5, 0.5]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ([1.5, -0.5], "not negative"),
        ([1, -1e-17], "not negative"),
        ([np.nan, 1], "finite"),
        ([np.inf, 0], "finite"),
        ([0.5, 0.4], "sums to 0.9, not 1"),
        ([0.5, 0.5 + 1e-5], "not 1"),
        ([3, 1], "from_counts"),
        ([0, 0], "sums to 0"),
        ([], "sums to 0"),
        ([1.5e308, 1.5e308], "sums to inf"),
    ],
)
def test_what_is_no_distribution_is_refused(wrong, says):
    with pytest.raises(InputError, match=says):
        entropy(wrong)
    for divergence in DIVERGENCES:
        with pytest.raises(InputError, match=f"^p.*{says}"):
            divergence(wrong, HALVES)
        with pytest.raises(InputError, match=f"^q.*{says}"):
            divergence(HALVES, wrong)
    with pytest.raises(InputError, match=says):
        mutual_information(np.array([wrong]))


@pytest.mark.parametrize("counts", [[-1, 2], [np.nan], [np.inf, 1], [0, 0], []])
def test_counts_that_count_nothing_are_refused(counts):
    with pytest.raises(InputError, match="counts"):
        from_counts(counts)


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_different_shapes_are_refused(divergence):
    with pytest.raises(InputError, match=r"p has shape \(2,\) and q \(1, 2\)"):
        divergence(HALVES, [HALVES])


@pytest.mark.parametrize("base", [1, 0, -2, 0.5, np.nan, np.inf])
def test_a_base_that_is_none_is_refused(base):
    with pytest.raises(InputError, match="base"):
        entropy(HALVES, base=base)


@pytest.mark.parametrize("epsilon", [-1e-9, np.nan, np.inf])
def test_an_epsilon_that_is_none_is_refused(epsilon):
    with pytest.raises(InputError, match="epsilon"):
        kl_divergence(HALVES, HALVES, epsilon=epsilon)


@pytest.mark.parametrize(
    ("member", "alpha", "says"),
    [
        ("hellinger", None, "choose one of kl, .*, alpha"),
        ("alpha", None, "needs a finite number"),
        ("alpha", np.nan, "needs a finite number"),
        ("kl", 2.0, "takes alpha"),
    ],
)
def test_an_f_divergence_that_is_none_is_refused(member, alpha, says):
    with pytest.raises(InputError, match=says):
        f_divergence(HALVES, HALVES, member, alpha=alpha)


@pytest.mark.parametrize(
    "measure",
    [
        mutual_information,
        conditional_entropy,
        variation_of_information,
        normalised_mutual_information,
        entropy_correlation_coefficient,
    ],
)
def test_a_joint_distribution_has_two_axes(measure):
    with pytest.raises(InputError, match="two axes"):
        measure(HALVES)


@pytest.mark.parametrize("centres", [[0, 1, 2], [0, np.nan], [[0, 1]]])
def test_centres_must_fit(centres):
    with pytest.raises(InputError, match="centre"):
        wasserstein_distance(HALVES, HALVES, centres=centres)


def test_wasserstein_takes_one_axis():
    with pytest.raises(InputError, match="one axis"):
        wasserstein_distance([HALVES], [HALVES])


@pytest.mark.parametrize(
    ("mean", "covariance"),
    [
        ([0, 0], [1, 1, 1]),
        ([0, 0], 1),
        ([[0, 0]], [1, 1]),
        ([0, 0], [[1, 0]]),
        ([0, 0], [1, 0]),
        ([0, 0], [1, -1]),
        ([0, 0], [1, np.inf]),
        ([0, np.nan], [1, 1]),
        ([0, 0], [[1, 2], [2, 1]]),
        ([0, 0], [[1, 0.5], [0, 1]]),
        ([0, 0], [[1, np.nan], [np.nan, 1]]),
        ([0, 0], [[1, 0], [0, np.inf]]),
    ],
)
def test_what_is_no_gaussian_is_refused(mean, covariance):
    fine = ([0, 0], [1, 1])
    with pytest.raises(InputError):
        gaussian_kl(mean, covariance, *fine)
    with pytest.raises(InputError):
        gaussian_kl(*fine, mean, covariance)


@pytest.mark.parametrize(
    "words",
    ["abc", ["a", "b"], [0.5j, 0.5], np.array([0.5j, 0.5]), [[0.5], [0.2, 0.3]]],
)
def test_what_are_no_numbers_is_refused_in_words(words):
    with pytest.raises(InputError, match="p must be an array of real numbers"):
        entropy(words)
    with pytest.raises(InputError, match="counts must be an array of real numbers"):
        from_counts(words)
    with pytest.raises(InputError, match="centres must be an array of real numbers"):
        wasserstein_distance(HALVES, HALVES, centres=words)
    with pytest.raises(InputError, match="mean_q must be an array of real numbers"):
        gaussian_kl([0, 0], [1, 1], words, [1, 1])


@pytest.mark.parametrize("number", ["2", None, [2]])
def test_numbers_that_are_none_are_refused_in_words(number):
    with pytest.raises(InputError, match=r"base of the logarithm is .*; it must be"):
        entropy(HALVES, base=number)
    with pytest.raises(InputError, match="epsilon is "):
        kl_divergence(HALVES, HALVES, epsilon=number)
    with pytest.raises(InputError, match="alpha is "):
        f_divergence(HALVES, HALVES, "alpha", alpha=number)


def test_means_of_other_variables_are_refused():
    with pytest.raises(InputError, match=r"mean_p has shape \(2,\) and mean_q \(3,\)"):
        gaussian_kl([0, 0], [1, 1], [0, 0, 0], [1, 1])
