"""Coverage: how often a value lies in the central interval of its predictive distribution."""

import numpy as np
from jaxtyping import Bool, Float
from scipy.special import ndtri


def covered(
    x: Float[np.ndarray, "n"],
    mean: Float[np.ndarray, "S n"],
    std: Float[np.ndarray, "S n"],
    samples: Float[np.ndarray, "S n"],
    share: float,
) -> Bool[np.ndarray, "n"]:
    """Say of each value whether the central interval of a given probability holds it.

    A calibrated predictive distribution holds that share of the values where S = 1. Between S draws
    of it the interval is a little too narrow and holds (S - 1) / (S + 1) of that share on average:
    0.784 of the values for a share of 0.8 and 100 draws.

    Parameters
    ----------
    x : (n,)
        Values.
    mean, std : (S, n)
        The predictive distribution is the even mixture over S of N(mean, std^2). For S = 1 the
        interval is exact.
    samples : (S, n)
        A draw from each component, whose quantiles stand for the mixture's where S > 1.
    share : float
        Probability of the interval, in (0, 1).
    """
    if len(mean) == 1:
        half = ndtri(0.5 + share / 2) * std[0]
        return np.abs(x - mean[0]) <= half
    low, high = np.quantile(samples, [0.5 - share / 2, 0.5 + share / 2], axis=0)
    return (low <= x) & (x <= high)
