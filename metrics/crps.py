r"""Continuous ranked probability score: how far a predictive distribution is from the value.

.. math:: \mathrm{CRPS}(F, x) = \int (F(y) - 1\{y \ge x\})^2 \, dy
          = \mathrm{E}|X - x| - \tfrac{1}{2} \mathrm{E}|X - X'|, \qquad X, X' \sim F

It is in the unit of the data and at its lowest, on average, for the true distribution; of a point
forecast it is the absolute error. Lower is better.

References
----------
Gneiting and Raftery 2007, "Strictly proper scoring rules, prediction, and estimation", equations
20 and 21 (the score) and section 4.2 (of a Gaussian).
Ferro 2014, "Fair scores for ensemble forecasts", section 3 (of samples).
"""

import numpy as np
from jaxtyping import Float, Float64
from scipy.special import erf

CHUNK = 2**22  # sampled values sorted at once: 32 MiB


def crps_gaussian(
    x: Float[np.ndarray, "*n"], mean: Float[np.ndarray, "*n"], std: Float[np.ndarray, "*#n"]
) -> Float64[np.ndarray, "*n"]:
    r"""Return the CRPS of N(mean, std^2), value by value.

    .. math:: \sigma \left( w (2 \Phi(w) - 1) + 2 \phi(w) - 1 / \sqrt{\pi} \right),
              \qquad w = (x - \mu) / \sigma

    Where `std` is 0 it is the absolute error, the limit.

    Parameters
    ----------
    x, mean : (...)
        Values, and the means of their distributions.
    std : (...)
        Standard deviations, at least 0.

    Raises
    ------
    ValueError
        For a negative or undefined `std`.
    """
    if not (std >= 0).all():
        raise ValueError(f"std: expected at least 0, found {np.min(std):g}")
    error = x.astype(np.float64) - mean
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        w = np.where(std > 0, error / std, np.copysign(np.inf, error))
        density = np.exp(-0.5 * w**2)
    spread = std * (2 * density / np.sqrt(2 * np.pi) - 1 / np.sqrt(np.pi))
    return error * erf(w / np.sqrt(2)) + spread


def crps_samples(
    x: Float[np.ndarray, "n"], samples: Float[np.ndarray, "S n"]
) -> Float64[np.ndarray, "n"]:
    r"""Estimate the CRPS from independent samples of the predictive distribution, value by value.

    .. math:: \frac{1}{S} \sum_i |X_i - x| - \frac{1}{2 S (S - 1)} \sum_{i \ne j} |X_i - X_j|

    This form is fair: its expectation is the CRPS of the distribution for every S >= 2, which that
    with S^2 in place of S (S - 1) overestimates. A single sample is a point forecast.

    Parameters
    ----------
    x : (n,)
        Values.
    samples : (S, n)
        Of each value's distribution.

    Notes
    -----
    With the samples in order, :math:`\sum_{i < j} |X_i - X_j| = \sum_k (2 k - S + 1) X_{(k)}`,
    k = 0, ..., S - 1: O(S log S) instead of O(S^2).
    """
    n_samples, n = samples.shape
    weight = (2 * np.arange(n_samples) - n_samples + 1) / (n_samples * max(n_samples - 1, 1))
    scores = np.empty(n)
    step = max(CHUNK // n_samples, 1)
    for start in range(0, n, step):
        part = slice(start, start + step)
        # Differences from x, which drops out of the second term, lose no digits where x is large.
        error = np.subtract(samples[:, part].T, x[part, None], dtype=np.float64, order="C")
        error.sort(axis=1)
        scores[part] = np.abs(error).mean(1) - error @ weight
    return scores
