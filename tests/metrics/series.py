"""Made-up series for the tests of the trained scores."""

import math

import numpy as np


def normal(seed, n=20, length=16, channels=1):
    return np.random.default_rng(seed).standard_normal((n, length, channels))


def ar1(seed, n, length, phi=0.9):
    """Stationary AR(1) series of unit variance: the noise has variance 1 - phi^2."""
    rng = np.random.default_rng(seed)
    x = np.empty((n, length, 1))
    x[:, 0] = rng.standard_normal((n, 1))
    for k in range(1, length):
        x[:, k] = phi * x[:, k - 1] + math.sqrt(1 - phi**2) * rng.standard_normal((n, 1))
    return x


def walks(seed, channels):
    """Random walks of deviation near 1, and larger ones with noise."""
    rng = np.random.default_rng(seed)
    real, fake = rng.standard_normal((2, 40, 30, channels)).cumsum(2) / np.sqrt(30)
    return real, 1.2 * fake + 0.1 * rng.standard_normal(fake.shape)
