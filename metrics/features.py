r"""What a series is like in a few numbers: shape of its values and increments, and its spectrum.

Two series of one kind can be far apart point by point and near in these numbers. Distances between
them therefore see noise, blur and wrong dynamics, which the distance between the series does not.

======================  ==============================================  ========================
symbol                  meaning                                         size
======================  ==============================================  ========================
:math:`x_t`             value of one channel at step t                  N series, L steps
:math:`d_t`             increment, :math:`x_{t+1} - x_t`                L - 1 steps
:math:`I_k`             power at k cycles a series, :math:`k \ge 1`     L // 2 frequencies
======================  ==============================================  ========================
"""

import warnings
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Float64
from scipy.stats import kurtosis, skew

from metrics.arrays import check_series

SHORTEST = 8  # steps of a series
BANDS = 12
FLAT = 0.01  # an increment below this share of the increments' deviation counts as none
LEAST_DEVIATION = 1e-6  # data unit; keeps the logarithm of a constant series finite


def features(
    series: Float[np.ndarray, "N L D"], season: int | None = None
) -> dict[str, Float64[np.ndarray, "N D"]]:
    """Return the features of each series by name, channel by channel.

    Parameters
    ----------
    series : np.ndarray
        Shape (N, L, D).
    season : int, optional
        Steps of a season, such as 12 for months; the autocorrelation at this lag is a feature.

    Returns
    -------
    dict
        Arrays (N, D). What a constant series leaves undefined, such as its skewness, is 0.

    Raises
    ------
    ValueError
        For unusable arrays, fewer than 8 steps, and a season that is not shorter than the series.
    """
    check_series(series=series)
    length = series.shape[1]
    if length < SHORTEST:
        raise ValueError(f"series: expected at least {SHORTEST} steps, found {length}")
    if season is not None and not 0 < season < length:
        raise ValueError(f"season: expected 1 to {length - 1} steps or None, found {season}")
    x = np.moveaxis(series, 1, 2).astype(np.float64)  # (N, D, L)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # constant series
        return {name: np.nan_to_num(values) for name, values in _features(x, season)}


def _features(x: np.ndarray, season: int | None) -> Iterator[tuple[str, np.ndarray]]:
    d = np.diff(x)
    deviation = d.std(-1)
    quarter = x.shape[-1] // 4
    yield "increments: log deviation", np.log(deviation + LEAST_DEVIATION)
    yield "increments: skewness", skew(d, axis=-1)
    yield "increments: kurtosis", kurtosis(d, axis=-1)
    yield "increments: largest", np.abs(d).max(-1)
    yield "increments: share near zero", (np.abs(d) <= FLAT * deviation[..., None]).mean(-1)
    yield "increments: autocorrelation of sizes, lag 1", autocorrelation(np.abs(d), 1)
    yield "values: skewness", skew(x, axis=-1)
    yield "values: kurtosis", kurtosis(x, axis=-1)
    yield "values: 5 % quantile", np.quantile(x, 0.05, axis=-1)
    yield "values: 95 % quantile", np.quantile(x, 0.95, axis=-1)
    yield "values: mean of the first quarter", x[..., :quarter].mean(-1)
    yield "values: mean of the last quarter", x[..., -quarter:].mean(-1)
    yield "values: share of turning points", (d[..., 1:] * d[..., :-1] < 0).mean(-1)
    yield "values: autocorrelation, lag 1", autocorrelation(x, 1)
    yield "values: autocorrelation, lag 2", autocorrelation(x, 2)
    if season is not None:
        yield f"values: autocorrelation, lag {season}", autocorrelation(x, season)


def autocorrelation(x: Float[np.ndarray, "*n L"], lag: int) -> Float64[np.ndarray, "*n"]:
    r"""Return each series' autocorrelation about its own mean, NaN for a constant series.

    .. math:: \sum_{t} (x_t - \bar x)(x_{t + \mathrm{lag}} - \bar x) / \sum_t (x_t - \bar x)^2
    """
    x = x - x[..., :1].astype(np.float64)  # a constant becomes exactly 0
    x -= x.mean(-1, keepdims=True)
    with np.errstate(invalid="ignore"):
        return (x[..., lag:] * x[..., :-lag]).sum(-1) / np.square(x).sum(-1)


def periodogram(series: Float[np.ndarray, "N L D"]) -> Float64[np.ndarray, "N L//2 D"]:
    r"""Return the power :math:`I_k` of each series, k = 1, ..., L // 2; the mean is left out.

    .. math:: I_k = \frac{1}{L^2} \Big| \sum_t x_t e^{-2 \pi i k t / L} \Big|^2
    """
    x = series.astype(np.float64)
    return np.square(np.abs(np.fft.rfft(x, axis=1)[:, 1:] / x.shape[1]))


def band_powers(
    power: Float64[np.ndarray, "N F D"],
) -> Float64[np.ndarray, "N bands D"]:
    """Average a periodogram over at most 12 bands, equally wide in the logarithm of frequency.

    A band holds at least one frequency, so short series have fewer bands.
    """
    n = power.shape[1]
    starts = np.unique(np.geomspace(1, n + 1, BANDS + 1).round().astype(int)) - 1
    return np.add.reduceat(power, starts[:-1], axis=1) / np.diff(starts)[:, None]
