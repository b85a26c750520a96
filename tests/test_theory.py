"""What the theory says, in numbers: one idea, the Kullback-Leibler divergence.

Each test is one statement of the theory of information that registration rests on.
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
from scipy import integrate, ndimage, optimize, stats

from mireg._engine.metrics import METRIC, prior_informed
from mireg.information import (
    cross_entropy,
    entropy,
    f_divergence,
    from_counts,
    gaussian_kl,
    js_divergence,
    kl_divergence,
    mutual_information,
    wasserstein_distance,
)

bits = {"base": 2}
close = partial(pytest.approx, rel=1e-12)


def random_pairs(rng, shape=5, n=50):
    """Draw `n` pairs of distributions of `shape`."""
    return [tuple(from_counts(rng.exponential(size=shape)) for _ in "pq")
            for _ in range(n)]  # fmt: skip


# --- coding with the wrong distribution -------------------------------------------


def test_a_wrong_code_costs_a_quarter_of_a_bit():
    """P = (1/2, 1/4, 1/8, 1/8) coded as if uniform takes 2 bits, not 1.75."""
    p, uniform = [1 / 2, 1 / 4, 1 / 8, 1 / 8], [1 / 4] * 4
    assert entropy(p, **bits) == 1.75
    assert cross_entropy(p, uniform, **bits) == 2
    assert kl_divergence(p, uniform, **bits) == 0.25


def test_the_fair_coin_both_ways():
    """Calling a fair coin (0.8, 0.2) costs 0.3219 bit; the other way round 0.2781."""
    fair, bent = [0.5, 0.5], [0.8, 0.2]
    assert kl_divergence(fair, bent, **bits) == close(math.log2(5 / 4))
    assert kl_divergence(bent, fair, **bits) == close(
        1 - (0.8 * math.log2(5 / 4) + 0.2 * math.log2(5))
    )
    assert kl_divergence(fair, bent, **bits) == pytest.approx(0.3219, abs=5e-5)
    assert kl_divergence(bent, fair, **bits) == pytest.approx(0.2781, abs=5e-5)


def test_kl_is_cross_entropy_less_entropy(rng):
    """KL is what coding with Q costs beyond the entropy of P."""
    for p, q in random_pairs(rng):
        extra = cross_entropy(p, q) - entropy(p)
        assert kl_divergence(p, q) == pytest.approx(extra, rel=1e-11)


# --- a divergence, not a distance -------------------------------------------------


def test_kl_is_zero_for_equals_only(rng):
    """KL is 0 for P = Q and above 0 for every other Q, however near."""
    for p, q in random_pairs(rng):
        assert kl_divergence(p, p) == 0
        assert kl_divergence(p, q) > 0
        assert kl_divergence(p, 0.999999 * p + 0.000001 * q) > 0


def test_kl_is_not_symmetric():
    """There and back differ: only one of the two beliefs rules out what occurs."""
    sure, unsure = [1, 0], [0.5, 0.5]
    assert kl_divergence(sure, unsure, **bits) == 1
    assert kl_divergence(unsure, sure, **bits) == math.inf


def test_kl_breaks_the_triangle_inequality():
    """A detour may be shorter: (.5, .5) to (.1, .9) by way of (.3, .7)."""
    a, b, c = [0.5, 0.5], [0.3, 0.7], [0.1, 0.9]
    assert kl_divergence(a, b) + kl_divergence(b, c) < kl_divergence(a, c) / 1.9


def test_the_root_of_js_keeps_the_triangle_inequality(rng):
    """The square root of the Jensen-Shannon divergence is a metric."""
    for (a, b), (c, _) in zip(random_pairs(rng), random_pairs(rng), strict=True):
        ab, bc, ac = (js_divergence(*two) ** 0.5 for two in ((a, b), (b, c), (a, c)))
        assert ac <= ab + bc


# --- fitting ----------------------------------------------------------------------


def test_least_kl_is_greatest_likelihood(rng):
    """The binomial nearest to the observed frequencies is the most likely one."""
    n, draws = 6, rng.binomial(6, 0.37, size=500)
    observed = from_counts(np.bincount(draws, minlength=n + 1))

    def kl(chance):
        return kl_divergence(observed, stats.binom.pmf(np.arange(n + 1), n, chance))

    def mean_log_likelihood(chance):
        return stats.binom.logpmf(draws, n, chance).mean()

    for chance in (0.2, 0.37, 0.6):  # they differ by a constant, the entropy
        assert kl(chance) == close(-entropy(observed) - mean_log_likelihood(chance))
    nearest = optimize.minimize_scalar(kl, bounds=(0, 1), method="bounded").x
    assert nearest == pytest.approx(draws.mean() / n, abs=1e-5)


def test_forward_kl_covers_and_reverse_kl_locks_on():
    """One Gaussian for two modes: KL(P,Q) covers both, KL(Q,P) locks onto one."""
    x = np.linspace(-30, 30, 601)
    p = from_counts(stats.norm.pdf(x, -4, 1) + stats.norm.pdf(x, 4, 1))

    def fit(member, start):
        def divergence(parameters):
            mean, log_width = parameters
            q = from_counts(stats.norm.pdf(x, mean, math.exp(log_width)))
            return f_divergence(p, q, member, epsilon=1e-300)  # tails underflow

        mean, log_width = optimize.minimize(
            divergence, start, method="Nelder-Mead", options={"xatol": 1e-6}
        ).x
        return mean, math.exp(log_width)

    for start in (-2, 2):
        assert fit("kl", (start, 1)) == pytest.approx((0, math.sqrt(17)), abs=0.05)
        one_mode = (2 * start, 1)
        assert fit("reverse-kl", (start, 1)) == pytest.approx(one_mode, abs=0.05)


def test_js_saturates_where_wasserstein_still_grows():
    """Apart, JS stays at ln 2 with no slope to follow; Wasserstein tells how far."""
    p = np.zeros(40)
    p[:4] = 1 / 4
    for shift in range(4, 36):
        q = np.roll(p, shift)
        assert js_divergence(p, q) == close(math.log(2))
        assert wasserstein_distance(p, q) == close(shift)
    smooth, slope, step = partial(stats.norm.pdf, np.linspace(-20, 20, 801)), [], 1e-3
    for apart in (1, 20):
        near, far = (
            js_divergence(from_counts(smooth(-apart / 2)), from_counts(smooth(x)))
            for x in (apart / 2 - step, apart / 2 + step)
        )
        slope.append((far - near) / (2 * step))
    assert slope[0] > 0.1
    assert abs(slope[1]) < 1e-12


# --- Gaussians --------------------------------------------------------------------


def test_equal_gaussians_apart(rng):
    """Of equal covariance: the squared distance of the means over 2 variances."""
    (a, b), variance = rng.normal(size=(2, 3)), 1.7
    by_hand = ((a - b) ** 2).sum() / (2 * variance)
    assert gaussian_kl(a, [variance] * 3, b, [variance] * 3) == close(by_hand)
    assert gaussian_kl(b, variance * np.eye(3), a, [variance] * 3) == close(by_hand)


def test_kl_to_the_standard_normal(rng):
    """A diagonal Gaussian to N(0, 1), closed form against quadrature, axis by axis."""
    means, variances = rng.normal(size=3), rng.uniform(0.3, 3, size=3)
    standard, total = stats.norm(), 0.0
    for mean, variance in zip(means, variances, strict=True):
        p = stats.norm(mean, math.sqrt(variance))

        def integrand(x, p=p):
            return p.pdf(x) * (p.logpdf(x) - standard.logpdf(x))

        total += integrate.quad(integrand, -30, 30, epsabs=1e-12, limit=200)[0]
    assert gaussian_kl(means, variances, np.zeros(3), np.ones(3)) == pytest.approx(
        total, rel=1e-9
    )


# --- noise ------------------------------------------------------------------------


def test_the_same_noise_never_drives_apart(rng):
    """Sent through one noisy channel, two distributions come no further apart."""
    for p, q in random_pairs(rng):
        channel = rng.dirichlet(np.full(4, 0.3), size=5)  # p(z|x), row by row
        assert kl_divergence(p @ channel, q @ channel) <= kl_divergence(p, q) + 1e-15
        for member in ("jensen-shannon", "total-variation", "pearson-chi-squared"):
            after = f_divergence(p @ channel, q @ channel, member)
            assert after <= f_divergence(p, q, member) + 1e-15


def test_blur_shrinks_kl_step_by_step(rng):
    """Each further blur of both histograms brings them strictly nearer."""
    (p, q), = random_pairs(rng, 32, 1)  # fmt: skip
    divergences = []
    for _ in range(30):
        divergences.append(kl_divergence(p, q))
        p, q = (ndimage.convolve1d(one, [0.25, 0.5, 0.25], mode="wrap")
                for one in (p, q))  # fmt: skip
    assert (np.diff(divergences) < 0).all()
    assert divergences[-1] < divergences[0] / 20


def test_epsilon_is_such_a_noise(rng):
    """Smoothing both by epsilon is noise: the more of it, the nearer they come."""
    p, q = random_pairs(rng, n=1)[0]
    epsilons = [0, 1e-6, 1e-3, 0.1, 1, 10]
    assert (np.diff([kl_divergence(p, q, epsilon=e) for e in epsilons]) < 0).all()


# --- channels and mutual information ----------------------------------------------


def test_mean_kl_to_a_prior_splits(rng):
    """Mean KL of q(z|x) to a prior = I(X;Z) + KL of the aggregate to the prior."""
    for p_x, prior in random_pairs(rng, n=20):
        channel = rng.dirichlet(np.ones(5), size=5)
        mean = p_x @ [kl_divergence(q_z, prior) for q_z in channel]
        information = mutual_information(p_x[:, None] * channel)
        assert mean == close(information + kl_divergence(p_x @ channel, prior))


def test_mutual_information_is_a_kl_divergence(rng):
    """I(X;Y) = KL(joint, product of marginals) = H(X) + H(Y) - H(X,Y)."""
    for joint, _ in random_pairs(rng, shape=(6, 4)):
        x, y = joint.sum(axis=1), joint.sum(axis=0)
        mi = mutual_information(joint)
        assert mi == close(kl_divergence(joint, np.outer(x, y)))
        assert mi == pytest.approx(entropy(x) + entropy(y) - entropy(joint), abs=1e-14)
        assert mi == close(mutual_information(joint.T))


def test_relabelling_changes_nothing(rng):
    """Any renaming of the intensities, of either image, leaves the MI as it was."""
    for joint, _ in random_pairs(rng, shape=(6, 4)):
        renamed = joint[rng.permutation(6)][:, rng.permutation(4)]
        assert mutual_information(renamed) == close(mutual_information(joint))


def test_merging_labels_loses_information(rng):
    """Two intensities read as one tell at most as much: no tool makes information."""
    for joint, _ in random_pairs(rng, shape=(6, 4)):
        merged = np.vstack([joint[0] + joint[1], joint[2:]])
        assert mutual_information(merged) < mutual_information(joint)


def test_aligned_scans_tell_more_than_shifted_ones(rng):
    """Two contrasts of one scene share most when aligned, less with every shift."""
    scene = ndimage.gaussian_filter(rng.normal(size=(64, 64)), 4, mode="wrap")
    scene /= scene.std()
    one, other = scene, np.cos(2 * scene)  # no function of `other` gives back `one`
    noise = rng.normal(scale=0.05, size=(2, *scene.shape))

    def shared(shift):
        a, b = one + noise[0], np.roll(other + noise[1], shift, axis=0)
        counts, _, _ = np.histogram2d(a.ravel(), b.ravel(), bins=16)
        return mutual_information(from_counts(counts))

    by_shift = [shared(shift) for shift in range(7)]
    assert (np.diff(by_shift) < 0).all()
    assert by_shift[0] > 3 * by_shift[6]
    assert shared(-1) < by_shift[0]


# --- a learned prior ----------------------------------------------------------------


def test_a_prior_of_no_strength_is_mutual_information_to_the_last_digit(rng):
    """Pseudo-counts times 0 change neither the score nor its slopes by one bit."""
    for learned, joint in random_pairs(rng, shape=(6, 4)):
        histogram = 1e4 * joint
        score, slopes = prior_informed(0.0 * learned)(histogram)
        plain, plain_slopes = METRIC["mi"](histogram)
        assert score == plain
        np.testing.assert_array_equal(slopes, plain_slopes)


def test_a_prior_of_all_strength_compares_two_distances(rng):
    """At last the score is KL to the learned independence less KL to the learned."""
    for learned, joint in random_pairs(rng, shape=(6, 4)):
        apart = np.outer(learned.sum(axis=1), learned.sum(axis=0))
        limit = kl_divergence(joint, apart) - kl_divergence(joint, learned)
        far = [
            abs(prior_informed(strength * learned)(joint)[0] - limit)
            for strength in (1, 1e3, 1e6)
        ]
        assert far[1] < far[0]
        assert far[2] < 2e-3


def test_a_prior_sees_what_mutual_information_cannot(rng):
    """Renaming intensities leaves the MI; a prior knows which name goes with which."""
    for learned, _ in random_pairs(rng, shape=(5, 5)):
        renamed = learned[rng.permutation(5)]
        informed = prior_informed(learned)
        assert mutual_information(renamed) == close(mutual_information(learned))
        assert informed(renamed)[0] <= informed(learned)[0]
