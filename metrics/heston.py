r"""Scores of generated Heston paths: is the law of the returns right, and does volatility cluster?

All but the last are of log returns, :math:`r_t = \log S_{t+1} - \log S_t`, of prices in their own
unit. The law can be drawn from, so a perfect generator's scores are known: those of another draw.
"""

import numpy as np
from jaxtyping import Float, Float64
from scipy.stats import kurtosis, wasserstein_distance

from metrics.arrays import check_series
from metrics.features import autocorrelation
from metrics.marginal import ks_distance

LAGS = range(1, 21)
QUANTILES = (np.arange(300) + 0.5) / 300
PERIODS = 250  # returns of a year
# Of the lowest real price: lower generated ones, which may be negative, are set to it.
LOWEST = 0.01


def heston_scores(
    real: Float[np.ndarray, "N L D"], fake: Float[np.ndarray, "M L D"]
) -> dict[str, float]:
    """Return the Heston scores by name; 0 is best, of the ratio 1.

    ===================== =======================================================================
    name                  value
    ===================== =======================================================================
    return_ks             Kolmogorov-Smirnov distance of all returns, in [0, 1]
    return_qq             root-mean-square difference of 300 quantiles of all returns
    kurtosis_ratio        excess kurtosis of all returns, real over generated: far from 1, of either
                          sign, where the latter is near 0, as of a Gaussian; NaN where generated
                          returns are all equal, so that they have no kurtosis
    acf_abs               mean difference of the autocorrelations of |r|, at lags 1 to 20; each path
                          about its own mean, averaged over paths
    acf_squared           the same of r^2
    realised_variance_w1  Wasserstein-1 distance of each path's 250 times sum of r^2
    terminal_ks           Kolmogorov-Smirnov distance of the last prices, in [0, 1]
    ===================== =======================================================================

    Parameters
    ----------
    real, fake : np.ndarray
        Real (N, L, 1) and generated (M, L, 1) prices. Generated prices below 1 % of the lowest real
        one count as that.

    Raises
    ------
    ValueError
        For unusable arrays, more than one channel, fewer than 22 points, and real prices that are
        not positive.
    """
    check_series(real=real, fake=fake)
    length, channels = real.shape[1:]
    if channels != 1 or length < len(LAGS) + 2:
        raise ValueError(
            f"real: expected price paths of one channel and {len(LAGS) + 2} points or more, found"
            f" {channels} channels and length {length}"
        )
    lowest = float(real.min())
    if lowest <= 0:
        raise ValueError(f"real: expected positive prices, found {lowest:g}")
    prices = [np.maximum(part[..., 0].astype(np.float64), LOWEST * lowest) for part in (real, fake)]
    r, g = (np.diff(np.log(part), axis=1) for part in prices)
    quantiles = np.quantile(r, QUANTILES), np.quantile(g, QUANTILES)
    variances = [PERIODS * np.square(part).sum(1) for part in (r, g)]
    return {
        "return_ks": ks_distance(r.ravel(), g.ravel()),
        "return_qq": float(np.sqrt(np.square(np.subtract(*quantiles)).mean())),
        "kurtosis_ratio": float(kurtosis(r.ravel()) / kurtosis(g.ravel())),
        "acf_abs": float(np.abs(_acf(np.abs(r)) - _acf(np.abs(g))).mean()),
        "acf_squared": float(np.abs(_acf(r**2) - _acf(g**2)).mean()),
        "realised_variance_w1": float(wasserstein_distance(*variances)),
        "terminal_ks": ks_distance(prices[0][:, -1], prices[1][:, -1]),
    }


def _acf(sizes: Float64[np.ndarray, "N T"]) -> Float64[np.ndarray, "20"]:
    """Return the autocorrelations, averaged over paths; a path of equal sizes has none, 0."""
    return np.array([np.nan_to_num(autocorrelation(sizes, lag)).mean() for lag in LAGS])
