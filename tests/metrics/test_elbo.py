"""Evidence bounds against a linear Gaussian model, whose evidence is known, and their floor."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from baselines.rubanova import kl_from_prior
from ls4.gaussian import log_density
from metrics.elbo import likelihood_floor


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
    log_p = log_density(torch.from_numpy(x)[None, :, None], x_hat, sigma)
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
    nll = -log_density(x, x[None], 0.1).sum((2, 3))[0]
    np.testing.assert_allclose(likelihood_floor(np.array([21.0, 21.0]), 0.1), nll)
    assert likelihood_floor(0, 0.1) == 0
    with pytest.raises(ValueError, match="sigma: expected a positive number, found 0"):
        likelihood_floor(3, 0.0)
