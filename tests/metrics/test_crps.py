"""CRPS against its integral and its double sum."""

import warnings

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

import metrics.crps
from metrics.crps import crps_gaussian, crps_samples


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
