"""Averages of errors, CRPS and what an ELBO is read against: closed forms, oracles, bad input."""

import math
import warnings

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import multivariate_normal, norm

import metrics.crps
from baselines.rubanova import gaussian_log_density, kl_from_prior
from metrics.crps import crps_gaussian, crps_samples
from metrics.elbo import likelihood_floor
from metrics.error import Sums, bootstrap, ls4, macro, micro, sums

AVERAGES = {"micro": micro, "macro": macro, "ls4": ls4}


def sparse(seed, n=12, length=9, channels=4):
    """Errors, and targets that leave some pairs and one whole record empty."""
    rng = np.random.default_rng(seed)
    target = rng.random((n, length, channels)) < 0.1
    target[3] = False
    return rng.exponential(size=target.shape), target


# --- averages ------------------------------------------------------------------------------------


def test_three_averages_by_hand():
    # record 0: errors 1, 3 in channel 0 and 8 in channel 1; record 1: 0 in channel 0
    target = np.array([[[1, 1], [1, 0]], [[1, 0], [0, 0]]], dtype=bool)
    errors = np.array([[[1.0, 8.0], [3.0, 9.0]], [[0.0, 9.0], [9.0, 9.0]]])
    total = sums(errors, target)
    np.testing.assert_array_equal(total.total, [[4, 8], [0, 0]])
    np.testing.assert_array_equal(total.count, [[2, 1], [1, 0]])
    assert micro(total) == pytest.approx(12 / 4)
    assert macro(total) == pytest.approx((2 + 8 + 0) / 3)
    assert ls4(total) == pytest.approx((2 + 8 + 0 + 0) / 4)


def test_ls4_is_macro_times_the_share_of_pairs_with_a_value():
    total = sums(*sparse(0))
    share = (total.count > 0).mean()
    assert 0.2 < share < 0.8
    assert ls4(total) == pytest.approx(share * macro(total))


def test_sums_in_double_precision():
    errors = np.array([[[1], [2**-25]]], np.float32)
    total = sums(errors, np.ones((1, 2, 1), bool))
    assert total.total.item() == 1 + 2**-25
    assert total.total.dtype == total.count.dtype == np.float64


@pytest.mark.parametrize("average", AVERAGES.values(), ids=AVERAGES)
def test_batches_and_padding_do_not_matter(average):
    errors, target = sparse(1)
    whole = sums(errors, target)
    padding = ((0, 0), (0, 5), (0, 0))
    padded = sums(np.pad(errors[5:], padding, constant_values=np.nan), np.pad(target[5:], padding))
    parts = Sums.concatenate([sums(errors[:5], target[:5]), padded])
    assert average(parts) == pytest.approx(average(whole), rel=1e-14)


@pytest.mark.parametrize("average", AVERAGES.values(), ids=AVERAGES)
def test_nothing_scored_is_none_without_a_warning(average):
    nothing = sums(np.ones((3, 4, 2)), np.zeros((3, 4, 2), bool))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert average(nothing) is None
        assert bootstrap(average, nothing, seed=0) is None


def test_an_empty_record_changes_ls4_alone():
    errors, target = sparse(2)
    kept = np.arange(len(target)) != 3
    total, without = sums(errors, target), sums(errors[kept], target[kept])
    assert micro(total) == pytest.approx(micro(without))
    assert macro(total) == pytest.approx(macro(without))
    assert ls4(total) == pytest.approx(ls4(without) * 11 / 12)


def test_an_error_that_is_not_finite_is_refused_where_it_is_scored():
    errors, target = sparse(3)
    errors[~target] = np.nan
    assert micro(sums(errors, target)) > 0
    b, k, d = (int(i) for i in np.argwhere(target)[0])
    errors[b, k, d] = np.inf
    with pytest.raises(ValueError, match=f"found 1 .* record {b}, row {k}, channel {d}$"):
        sums(errors, target)


def test_shapes_must_agree():
    with pytest.raises(ValueError, match=r"expected shape \(2, 3, 1\), found \(2, 1, 1\)"):
        # not through the annotations, which forbid it only while tests run
        sums.__wrapped__(np.ones((2, 1, 1)), np.ones((2, 3, 1), bool))


# --- bootstrap -----------------------------------------------------------------------------------


@pytest.mark.parametrize("average", AVERAGES.values(), ids=AVERAGES)
def test_bootstrap_is_a_loop_over_resamples(average):
    errors, target = sparse(4)
    total = sums(errors, target)
    counting = np.flatnonzero(average.terms(total)[1] > 0)
    assert len(counting) == (12 if average is ls4 else 11)
    rng = np.random.default_rng(7)
    values = []
    for _ in range(20):
        times = rng.multinomial(len(counting), np.full(len(counting), 1 / len(counting)))
        again = np.repeat(counting, times)
        values.append(average(sums(errors[again], target[again])))
    expected = np.std(values, ddof=1)
    assert bootstrap(average, total, seed=7, n_boot=20) == pytest.approx(expected)


def test_bootstrap_of_a_mean_is_its_standard_error():
    value = np.random.default_rng(0).standard_normal(200)
    # ten equal values a record: resampling values would give less than a third of the spread
    total = Sums(10 * value[:, None], np.full((200, 1), 10.0))
    for average in AVERAGES.values():
        spread = bootstrap(average, total, seed=1, n_boot=3000)
        assert spread == pytest.approx(value.std() / np.sqrt(200), rel=0.05)


def test_bootstrap_is_a_function_of_its_seed_and_needs_two_records():
    total = sums(*sparse(5))
    first, again, other = (bootstrap(macro, total, seed) for seed in (0, 0, 1))
    assert first == again != other
    assert bootstrap(macro, Sums(total.total[:1], total.count[:1]), seed=0) is None
    with pytest.raises(ValueError, match="n_boot: expected at least 2 resamples, found 1"):
        bootstrap(macro, total, seed=0, n_boot=1)


# --- CRPS ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x", "mean", "std"), [(0.0, 0.0, 1.0), (1.3, -0.4, 0.7), (-5.0, 2.0, 0.5), (0.2, 0.1, 9.0)]
)
def test_gaussian_crps_is_the_integral(x, mean, std):
    cdf = norm(mean, std).cdf
    below = quad(lambda y: cdf(y) ** 2, min(x, mean - 12 * std), x)[0]
    above = quad(lambda y: (1 - cdf(y)) ** 2, x, max(x, mean + 12 * std))[0]
    score = crps_gaussian(np.array([x]), np.array([mean]), np.array([std]))
    assert score[0] == pytest.approx(below + above, rel=1e-6)


def test_gaussian_crps_tends_to_the_absolute_error():
    x, mean = np.array([1.0, 1.0, 1.0]), np.array([0.25, 1.0, 1.5])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for std in (0.0, 1e-300, 1e-9):
            score = crps_gaussian(x, mean, np.full(3, std))
            np.testing.assert_allclose(score, [0.75, 0, 0.5], atol=1e-8)
    assert crps_gaussian(x, mean, np.zeros(3)).tolist() == [0.75, 0, 0.5]


@pytest.mark.parametrize("std", [-0.1, np.nan])
def test_gaussian_crps_refuses_a_bad_deviation(std):
    with pytest.raises(ValueError, match=r"std: expected at least 0, found (-0\.1|nan)"):
        crps_gaussian(np.zeros(2), np.zeros(2), np.array([1.0, std]))


@pytest.mark.parametrize("n_samples", [1, 2, 3, 20])
def test_sample_crps_is_the_double_sum(monkeypatch, n_samples):
    monkeypatch.setattr(metrics.crps, "CHUNK", 50)  # several chunks
    rng = np.random.default_rng(n_samples)
    x, samples = rng.standard_normal(11), rng.standard_normal((n_samples, 11))
    pairs = np.abs(samples[:, None] - samples[None]).sum((0, 1))
    spread = pairs / (2 * n_samples * (n_samples - 1)) if n_samples > 1 else 0
    np.testing.assert_allclose(crps_samples(x, samples), np.abs(samples - x).mean(0) - spread)


def test_sample_crps_of_equal_samples_is_the_absolute_error_also_far_from_zero():
    x = np.array([1e9, 1e9 + 1])
    np.testing.assert_array_equal(crps_samples(x, np.full((7, 2), 1e9)), [0, 1])
    assert crps_samples(np.zeros(0), np.zeros((7, 0))).shape == (0,)


def test_sample_crps_converges_to_that_of_the_gaussian():
    rng = np.random.default_rng(0)
    x, mean, std = np.array([0.3, -2.0]), np.array([0.0, 1.0]), np.array([1.0, 0.4])
    samples = mean + std * rng.standard_normal((200_000, 2))
    np.testing.assert_allclose(crps_samples(x, samples), crps_gaussian(x, mean, std), rtol=0.01)


@pytest.mark.parametrize("n_samples", [2, 5])
def test_sample_crps_is_fair(n_samples):
    rng = np.random.default_rng(1)
    x = np.full(100_000, 0.6)
    scores = crps_samples(x, rng.standard_normal((n_samples, len(x))))
    error = scores.mean() - crps_gaussian(x[:1], np.zeros(1), np.ones(1))[0]
    # E|X - X'| / 2 = 1 / sqrt(pi); dividing by S^2 would leave 1/S of it
    assert abs(error) < 4 * scores.std() / np.sqrt(len(x)) < 0.2 / np.sqrt(np.pi) / n_samples


# --- evidence bounds -----------------------------------------------------------------------------


def linear_gaussian(seed=0, length=5, sigma=0.3):
    """Return x = w z + noise with z ~ N(0, 1), and the exact evidence and posterior."""
    rng = np.random.default_rng(seed)
    w = rng.standard_normal(length)
    x = w * rng.standard_normal() + sigma * rng.standard_normal(length)
    covariance = np.outer(w, w) + sigma**2 * np.eye(length)
    evidence = multivariate_normal(np.zeros(length), covariance).logpdf(x)
    variance = 1 / (1 + w @ w / sigma**2)
    return x, w, sigma, evidence, variance * (w @ x) / sigma**2, math.sqrt(variance)


def elbo(x, w, sigma, mu, s, z):
    """ELBO with q = N(mu, s^2), its expectation the mean over draws z (S,)."""
    x_hat = torch.from_numpy(z[:, None, None, None] * w[:, None])  # (S, 1, L, 1)
    log_p = gaussian_log_density(torch.from_numpy(x)[None, :, None], x_hat, sigma)
    kl = kl_from_prior(*torch.tensor([[[mu]], [[s]]], dtype=torch.float64))
    return float(log_p.sum((1, 2, 3)).mean() - kl.sum())


def test_elbo_is_the_evidence_less_the_divergence_of_q_from_the_posterior():
    x, w, sigma, evidence, mu, s = linear_gaussian()

    def exact(mean, deviation):  # the log-likelihood is quadratic in z: two points integrate it
        return elbo(x, w, sigma, mean, deviation, np.array([mean - deviation, mean + deviation]))

    assert exact(mu, s) == pytest.approx(evidence, rel=1e-12)
    for mean, deviation in [(mu, 2 * s), (mu + s, s), (mu - s, s / 3), (0.0, 1.0)]:
        divergence = math.log(s / deviation) + (deviation**2 + (mean - mu) ** 2) / (2 * s**2) - 0.5
        assert divergence > 0.1
        assert exact(mean, deviation) == pytest.approx(evidence - divergence, rel=1e-10)


def test_elbo_by_draws():
    x, w, sigma, evidence, mu, s = linear_gaussian()
    z = mu + s * np.random.default_rng(1).standard_normal(100_000)
    assert elbo(x, w, sigma, mu, s, z) == pytest.approx(evidence, abs=0.02)


def test_likelihood_floor_is_that_of_an_exact_prediction():
    x = torch.randn(2, 7, 3, generator=torch.Generator().manual_seed(0)).double()
    nll = -gaussian_log_density(x, x[None], 0.1).sum((2, 3))[0]
    np.testing.assert_allclose(likelihood_floor(np.array([21.0, 21.0]), 0.1), nll)
    assert likelihood_floor(0, 0.1) == 0
    with pytest.raises(ValueError, match="sigma: expected a positive number, found 0"):
        likelihood_floor(3, 0.0)
