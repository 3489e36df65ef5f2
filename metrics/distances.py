r"""Five distances between two sets of series, for many labellings of one pool at once.

Each measures another property of the series. The larger a distance, the more the sets differ.

============  ====================================================================================
name          meaning
============  ====================================================================================
marginal      `metrics.marginal.marginal_robust`: total variation of the pooled values' histograms
energy        energy distance between series, by their root-mean-square difference
features      energy distance between the series' `metrics.features.features`
spectrum      energy distance between log powers in bands of frequency
neighbours    how far the shares of series whose nearest neighbour is of their own kind, real or
              generated, are from what chance gives
============  ====================================================================================

The energy distance of n series x and m series y is estimated without bias, so it can be negative:

.. math:: \frac{2}{n m} \sum_{i, j} |x_i - y_j| - \frac{1}{n (n - 1)} \sum_{i \ne j} |x_i - x_j|
          - \frac{1}{m (m - 1)} \sum_{i \ne j} |y_i - y_j|

References
----------
Székely and Rizzo 2013, "Energy statistics: A class of statistics based on distances".
Schilling 1986, "Multivariate Two-Sample Tests Based on Nearest Neighbors".
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int
from scipy.spatial.distance import pdist, squareform

from metrics.features import band_powers, features, periodogram
from metrics.marginal import BINS, total_variation

NAMES: tuple[str, ...] = ("marginal", "energy", "features", "spectrum", "neighbours")
LEAST_POWER = 1e-12  # share of the training series' mean power; below it there is only rounding
LEAST_DEVIATION = 1e-9  # of a feature, relative to its mean and 1; below it there is only rounding


class Scaling(NamedTuple):
    """What the training series fix: the unit of each feature, and what counts as no power.

    Attributes
    ----------
    mean, deviation : np.ndarray
        Of each feature over the training series, (F, D).
    least_power : np.ndarray
        Of each channel, (D,).
    season : int or None
        Steps of a season, for one more feature.
    """

    mean: np.ndarray
    deviation: np.ndarray
    least_power: np.ndarray
    season: int | None

    @classmethod
    def of(cls, train: np.ndarray, season: int | None) -> "Scaling":
        """Take mean and deviation of training series (K, L, D)."""
        values = np.stack(list(features(train, season).values()), axis=1)
        mean, deviation = values.mean(0), values.std(0)
        # a feature that is the same in all keeps its unit
        deviation[deviation < LEAST_DEVIATION * (np.abs(mean) + 1)] = 1
        least = LEAST_POWER * periodogram(train).mean((0, 1))
        return cls(mean, deviation, np.maximum(least, np.finfo(float).tiny), season)

    def features(self, series: np.ndarray) -> dict[str, np.ndarray]:
        """Return the scaled features by name, and channel if there are several; each (N,)."""
        several = series.shape[2] > 1
        return {
            f"{name} (channel {channel})" if several else name: column
            for (name, values), mean, deviation in zip(
                features(series, self.season).items(), self.mean, self.deviation, strict=True
            )
            for channel, column in enumerate(((values - mean) / deviation).T)
        }

    def log_powers(self, series: np.ndarray) -> Float64[np.ndarray, "N bands D"]:
        """Return the logarithm of the power in each band."""
        return np.log(band_powers(periodogram(series)) + self.least_power)


class Pool(NamedTuple):
    """All that the distances need of N series.

    Attributes
    ----------
    values : np.ndarray
        Of each channel and series, in ascending order, (D, N, L).
    series, features, spectrum : np.ndarray
        Euclidean distances between the series, their scaled features and log powers, (N, N).
    """

    values: np.ndarray
    series: np.ndarray
    features: np.ndarray
    spectrum: np.ndarray

    @classmethod
    def of(cls, series: np.ndarray, scaling: Scaling) -> "Pool":
        """Compare all pairs of some series (N, L, D)."""
        series = series.astype(np.float64)
        return cls(
            np.sort(np.moveaxis(series, 2, 0)),
            between_all(series / math.sqrt(series[0].size)),
            between_all(np.stack(list(scaling.features(series).values()), axis=1)),
            between_all(scaling.log_powers(series)),
        )

    def take(self, index: Int[np.ndarray, "n"]) -> "Pool":
        """Return the pool of some of the series."""
        pairs = np.ix_(index, index)
        return Pool(self.values[:, index], *(distances[pairs] for distances in self[1:]))


def between_all(points: Float64[np.ndarray, "N ..."]) -> Float64[np.ndarray, "N N"]:
    """Return the Euclidean distances between all pairs."""
    return squareform(pdist(points.reshape(len(points), -1)))


def distances(pool: Pool, real: Bool[np.ndarray, "P N"]) -> Float64[np.ndarray, "P 5"]:
    """Return the distances, in the order of `NAMES`, between the two sets of each labelling.

    Parameters
    ----------
    pool : Pool
        Of N series.
    real : np.ndarray
        P labellings, True for a real series; with the same number of these in each, at least 2,
        and of the others, too.
    """
    return np.stack(
        [
            marginal(pool.values, real),
            energy(pool.series, real),
            energy(pool.features, real),
            energy(pool.spectrum, real),
            neighbours(pool.series, real),
        ],
        axis=1,
    )


def marginal(
    values: Float64[np.ndarray, "D N L"], real: Bool[np.ndarray, "P N"]
) -> Float64[np.ndarray, "P"]:
    """Return the robust marginal score of each labelling, of values in ascending order.

    Its bins are over the range of the real values, so each labelling has bins of its own; but there
    are few different ranges. For each, the histograms of all series are made once, and that of a
    set is the mean of its series'.
    """
    scores = np.empty((len(values), len(real)))
    for score, x in zip(scores, values, strict=True):
        low = np.where(real, x[:, 0], np.inf).min(1)
        high = np.where(real, x[:, -1], -np.inf).max(1)
        ranges, which = np.unique(np.stack([low, high], axis=1), axis=0, return_inverse=True)
        for k, (start, end) in enumerate(ranges):
            edges = np.linspace(start, end, BINS + 1)
            below = np.stack([series.searchsorted(edges) for series in x])
            below[:, -1] = (x <= end).sum(1)  # the last bin holds its end, as in np.histogram
            shares = np.diff(below) / x.shape[1]  # (N, BINS)
            here = real[which == k]
            P, Q = (kind @ shares / kind[0].sum() for kind in (here, ~here))
            score[which == k] = total_variation(P, Q)
    return scores.mean(0)


def energy(
    between: Float64[np.ndarray, "N N"], real: Bool[np.ndarray, "P N"]
) -> Float64[np.ndarray, "P"]:
    """Return the energy distance of each labelling, from the distances between all series."""
    x = real.astype(np.float64)
    n = x[0].sum()
    m = len(between) - n
    to_real = x @ between  # (P, N)
    xx = (to_real * x).sum(1)
    xy = to_real.sum(1) - xx
    yy = between.sum() - xx - 2 * xy
    return 2 * xy / (n * m) - xx / (n * (n - 1)) - yy / (m * (m - 1))


def neighbours(
    between: Float64[np.ndarray, "N N"], real: Bool[np.ndarray, "P N"]
) -> Float64[np.ndarray, "P"]:
    """Return how far `neighbour_shares` are from chance, for each labelling.

    By chance, they are near (n - 1) / (n + m - 1) and (m - 1) / (n + m - 1). The larger of the
    two deviations counts, in binomial standard deviations. High shares mean that the sets lie
    apart, low ones that generated series are copies of real ones or lie between them.
    """
    deviations = []
    for share, kind in zip(neighbour_shares(between, real), (real, ~real), strict=True):
        n = kind[0].sum()
        chance = (n - 1) / (len(between) - 1)
        deviations.append(np.abs(share - chance) / math.sqrt(chance * (1 - chance) / n))
    return np.maximum(*deviations)


def neighbour_shares(
    between: Float64[np.ndarray, "N N"], real: Bool[np.ndarray, "P N"]
) -> tuple[Float64[np.ndarray, "P"], Float64[np.ndarray, "P"]]:
    """Return the shares of real and of other series whose nearest neighbour is of their kind.

    The neighbour is sought among all other series. Of several that are equally near, each counts in
    part.
    """
    others = between + np.diag(np.full(len(between), np.inf))
    nearest = others == others.min(1, keepdims=True)
    weights = nearest / nearest.sum(1, keepdims=True)
    shares = [((kind @ weights.T) * kind).sum(1) / kind[0].sum() for kind in (real, ~real)]
    return shares[0], shares[1]
