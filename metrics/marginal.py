r"""Marginal scores: how far the distribution of generated values is from that of real values.

Values of all series and steps are pooled, channel by channel (`marginal_per_step` pools series
only), so these scores are blind to the order of time. Lower is better in all of them.

======================  ======================================================================
symbol                  meaning
======================  ======================================================================
:math:`[a, b]`          range of the real values of a channel
:math:`\delta`          bin width, :math:`(b - a) / 50`
:math:`P_i`             share of the real values in bin i
:math:`Q_i`             share of the generated values in bin i; :math:`Q_{out}` outside [a, b]
======================  ======================================================================

References
----------
Ni et al. 2020, "Conditional Sig-Wasserstein GANs", arXiv:2006.05421, section 5 (the score).
Zhou et al. 2023, "Deep Latent State Space Models for Time-Series Generation", arXiv:2212.12749,
section 5.1 (its use here).
"""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import wasserstein_distance

from metrics.arrays import check_series, members

BINS = 50


def marginal_literal(real: Float[np.ndarray, "N L D"], fake: Float[np.ndarray, "M L D"]) -> float:
    r"""Return the mean absolute difference of two 50-bin histogram densities.

    .. math:: \frac{1}{50} \sum_i \left| \frac{P_i}{\delta} - \frac{Q_i}{\delta} \right|
              = \frac{1}{b - a} \sum_i |P_i - Q_i|

    averaged over channels. Generated values outside [a, b], or exactly on an edge of a bin, are in
    no bin, as in the released computation. The unit is one over the unit of the data: the score is
    comparable only under the same normalisation and split, and 1 / (b - a) means that every
    generated value fell outside.

    Parameters
    ----------
    real, fake : np.ndarray
        Real (N, L, D) and generated (M, L, D) series.

    Raises
    ------
    ValueError
        For unusable arrays, and for a channel that is constant in `real`.
    """
    scores = []
    for x, g in _channels(real, fake):
        edges = _edges(x)
        p = np.histogram(x, edges)[0] / x.size
        q = np.histogram(g[~np.isin(g, edges)], edges)[0] / g.size
        scores.append(np.abs(p - q).sum() / (edges[-1] - edges[0]))
    return float(np.mean(scores))


def marginal_robust(real: Float[np.ndarray, "N L D"], fake: Float[np.ndarray, "M L D"]) -> float:
    r"""Return the total variation between the two histograms, in [0, 1].

    .. math:: \tfrac{1}{2} \Big( \sum_i |P_i - Q_i| + Q_{out} \Big)

    averaged over channels. Unlike the literal score it does not depend on the unit of the data, and
    mass outside the real range costs as much as mass in a wrong bin.

    Parameters
    ----------
    real, fake : np.ndarray
        Real (N, L, D) and generated (M, L, D) series.

    Raises
    ------
    ValueError
        For unusable arrays, and for a channel that is constant in `real`.
    """
    return float(np.mean([_total_variation(x, g, _edges(x)) for x, g in _channels(real, fake)]))


def wasserstein(real: Float[np.ndarray, "N L D"], fake: Float[np.ndarray, "M L D"]) -> float:
    """Return the Wasserstein-1 distance between pooled values, in data units, mean over channels.

    Raises
    ------
    ValueError
        For unusable arrays.
    """
    return float(np.mean([wasserstein_distance(x, g) for x, g in _channels(real, fake)]))


def ks_distance(x: Float[np.ndarray, "n"], g: Float[np.ndarray, "m"]) -> float:
    """Return the Kolmogorov-Smirnov distance: the largest difference of distribution functions."""
    x, g = np.sort(x), np.sort(g)
    at = np.concatenate([x, g])
    x_cdf, g_cdf = (np.searchsorted(a, at, side="right") / a.size for a in (x, g))
    return float(np.abs(x_cdf - g_cdf).max())


def total_variation(
    p: Float[np.ndarray, "*n bins"], q: Float[np.ndarray, "*n bins"]
) -> Float[np.ndarray, "*n"] | np.floating:
    """Return half the summed difference of bin shares, all outside of the bins being one more."""
    return 0.5 * (np.abs(p - q).sum(-1) + np.abs(p.sum(-1) - q.sum(-1)))


def marginal_per_step(
    real: Float[np.ndarray, "N L D"],
    fake: Float[np.ndarray, "M L D"],
    steps: Sequence[int],
    bins: int,
    range: tuple[float, float],
) -> Float[np.ndarray, "steps"]:
    """Return the total variation between the two histograms at each of some steps, in [0, 1].

    The range is that of the quantity itself, so its ends can hold an atom of the real values. The
    first and the last bin therefore reach half a bin beyond it: a generated value that overshoots
    the end by rounding is not counted as wrong, one that overshoots by more is.

    Parameters
    ----------
    real, fake : np.ndarray
        Real (N, L, D) and generated (M, L, D) series.
    steps : sequence of int
        Positions on the grid, 0 to L - 1.
    bins : int
        Number of bins of equal width.
    range : (float, float)
        Where the bins begin and end.

    Raises
    ------
    ValueError
        For unusable arrays, and for a step that is not on the grid.
    """
    check_series(real=real, fake=fake)
    beyond = [step for step in steps if not 0 <= step < real.shape[1]]
    if beyond:
        raise ValueError(f"steps: expected 0 to {real.shape[1] - 1}, found {beyond}")
    edges = np.linspace(*range, bins + 1)
    half = (range[1] - range[0]) / bins / 2
    edges[0] -= half
    edges[-1] += half
    return np.array(
        [
            np.mean([_total_variation(x, g, edges) for x, g in zip(*at_step, strict=True)])
            for at_step in ((real[:, step].T, fake[:, step].T) for step in steps)
        ]
    )


def bootstrap(
    score: Callable[[np.ndarray, np.ndarray], float],
    real: Float[np.ndarray, "N L D"],
    fake: Float[np.ndarray, "M L D"],
    n_boot: int,
    seed: int,
    group: Int[np.ndarray, "N"] | None = None,
) -> float | None:
    """Return the standard deviation of `score` when whole series are drawn again.

    Values of one series are not independent, so series are resampled (with replacement, in both
    sets), never single values; of the real series whole groups, such as the windows of one series.

    Parameters
    ----------
    score : callable
        ``score(real, fake)``, for example `marginal_robust`.
    real, fake : np.ndarray
        Real (N, L, D) and generated (M, L, D) series.
    n_boot : int
        Number of resamples, at least 2.
    seed : int
        Seed of the resampling.
    group : np.ndarray, optional
        What the real series belong to (N,). Each is its own group by default.

    Returns
    -------
    float or None
        None where a channel of `real` varies in so few series that a resample has it constant.

    Raises
    ------
    ValueError
        For unusable arrays, and for fewer than 2 resamples.
    """
    check_series(real=real, fake=fake)
    if n_boot < 2:
        raise ValueError(f"n_boot: expected at least 2 resamples, found {n_boot}")
    rng = np.random.default_rng(seed)
    together = members(np.arange(len(real)) if group is None else group)
    found = []
    for _ in range(n_boot):
        drawn = rng.integers(len(together), size=len(together))
        some_real = real[np.concatenate([together[unit] for unit in drawn])]
        some_fake = fake[rng.integers(len(fake), size=len(fake))]
        if _constant(some_real) and not _constant(real):
            return None
        found.append(score(some_real, some_fake))
    return float(np.std(found, ddof=1))


def _constant(series: np.ndarray) -> bool:
    """Whether any channel has one value alone."""
    return bool((series.min((0, 1)) == series.max((0, 1))).any())


def bin_counts(
    real: Float[np.ndarray, "N L D"], fake: Float[np.ndarray, "M L D"]
) -> tuple[Int[np.ndarray, "N D 51"], Int[np.ndarray, "M D 51"]]:
    """Count the values of each series in the bins of `marginal_robust`, the last outside of all.

    Raises
    ------
    ValueError
        For unusable arrays, and for a channel that is constant in `real`.
    """
    check_series(real=real, fake=fake)
    edges = [_edges(x) for x, _ in _channels(real, fake)]

    def counts(series: np.ndarray) -> np.ndarray:
        found = np.zeros((*series.shape[::2], BINS + 1), dtype=np.int32)
        for i, d in np.ndindex(*found.shape[:2]):
            values = series[i, :, d].astype(np.float64)
            found[i, d, :-1] = np.histogram(values, edges[d])[0]
            found[i, d, -1] = values.size - found[i, d, :-1].sum()
        return found

    return counts(real), counts(fake)


def _channels(real: np.ndarray, fake: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Pool each channel's values over series and steps, in double precision."""
    check_series(real=real, fake=fake)
    return [
        (x.ravel(), g.ravel())
        for x, g in zip(
            np.moveaxis(real, 2, 0).astype(np.float64),
            np.moveaxis(fake, 2, 0).astype(np.float64),
            strict=True,
        )
    ]


def _edges(x: np.ndarray) -> np.ndarray:
    """Return the 51 edges over the range of the real values of one channel."""
    low, high = x.min(), x.max()
    edges = np.linspace(low, high, BINS + 1)
    if not (np.diff(edges) > 0).all():
        raise ValueError(f"real: expected a channel that varies, found one constant at {low:g}")
    return edges


def _total_variation(x: np.ndarray, g: np.ndarray, edges: np.ndarray) -> float:
    p, q = (np.histogram(values, edges)[0] / values.size for values in (x, g))
    return float(total_variation(p, q))
