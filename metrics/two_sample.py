r"""Two-sample tests: are generated series told apart from real ones?

The n real (test) series and the m generated ones are pooled, and the labels "real" and "generated"
of whole series are permuted. If both are draws of one distribution, all labellings are equally
likely, so the tests have the right size however few the series are.

Windows of one series depend on each other, and so do all series of a group: their labels may not be
permuted one by one. Then a test takes one series of each group, and as many generated ones.

Of each of the five `metrics.distances`, p is the share of labellings, the true one among them, with
a distance at least as large as that of the true one. They are combined by the smallest p. What the
smallest of five p is worth is read off the same permutations: in each, the smallest p is found as
if its labels were the true ones. So the combination is exact, too, and loses nothing where the
distances say the same.

References
----------
Phipson and Smyth 2010, "Permutation P-values Should Never Be Zero", arXiv:1603.05766 (p).
Westfall and Young 1993, "Resampling-Based Multiple Testing" (the smallest p).
Vovk and Wang 2020, "Combining p-values via averaging", arXiv:1212.4966 (twice the median).
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float64, Int, Int64
from scipy.stats import rankdata

from metrics.arrays import check_series
from metrics.distances import NAMES, Pool, Scaling, between_all, distances, energy

LARGE = 200  # series; sets of more are compared by so many of each, REPEATS times
REPEATS = 10
THINNED = 2000  # series; enough to fix the scaling and to draw pairs of real sets from
QUANTILE = 0.95


class TwoSample(NamedTuple):
    """Result of the tests of a set of generated series.

    Attributes
    ----------
    p : dict
        Of each distance by itself.
    p_adjusted : dict
        The same, adjusted for the number of distances: those of at most 0.05 tell the sets apart.
    distance : dict
        The distances.
    features : dict
        Energy distance of each single feature, in deviations of the training series; the largest
        first.
    """

    p: dict[str, float]
    p_adjusted: dict[str, float]
    distance: dict[str, float]
    features: dict[str, float]

    @property
    def p_all(self) -> float:
        """p of all distances together.

        At best 1 to 5 times 1 / (1 + permutations), twice that of ten tests.
        """
        return min(self.p_adjusted.values())

    def effect(self, limits: Mapping[str, float]) -> dict[str, float]:
        """Return the distances over the limits of `resolution`; NaN where a limit is 0."""
        return {
            name: distance / limits[name] if limits[name] > 0 else math.nan
            for name, distance in self.distance.items()
        }


def two_sample(
    real: Float[np.ndarray, "N L D"],
    fake: Float[np.ndarray, "M L D"],
    train: Float[np.ndarray, "K L D"],
    *,
    group: Int[np.ndarray, "N"] | None = None,
    season: int | None = None,
    permutations: int = 999,
    seed: int = 0,
) -> TwoSample:
    """Test whether generated series are told apart from real ones.

    Sets of more than 200 series are compared ten times by 200 of each, drawn without replacement.
    So are sets with groups, by one real series of each group and as many generated ones. Then p is
    twice the median of the ten (at most 1), and all else is the median.

    Parameters
    ----------
    real, fake, train : np.ndarray
        Real series that were not trained on (N, L, D), generated (M, L, D) and training series
        (K, L, D). The latter fix the scaling of the features.
    group : np.ndarray, optional
        What the real series belong to with others that they depend on (N,).
    season : int, optional
        Steps of a season, for one more feature.
    permutations : int
        Of the labels; the smallest possible p is 1 / (1 + permutations), twice that of ten tests.
    seed : int
        Of the permutations, and of the choice of series from larger sets.

    Raises
    ------
    ValueError
        For unusable arrays, fewer than 2 real series, groups of them or generated series, fewer
        than 8 steps, an unusable season, and fewer than 1 permutation.
    """
    check_series(real=real, fake=fake, train=train)
    group = np.arange(len(real)) if group is None else group
    units = len(np.unique(group))
    for name, found in (("real", units), ("fake", len(fake))):
        if found < 2:
            raise ValueError(f"{name}: expected at least 2 independent series, found {found}")
    if permutations < 1:
        raise ValueError(f"permutations: expected at least 1, found {permutations}")
    rng = np.random.default_rng(seed)
    scaling = Scaling.of(_thinned(train), season)
    if units < len(real):
        n = min(units, LARGE)
        sets = ((real[one_of_each(group, rng)[:n]], _some(fake, rng, n)) for _ in range(REPEATS))
    elif max(len(real), len(fake)) > LARGE:
        sets = ((_some(real, rng), _some(fake, rng)) for _ in range(REPEATS))
    else:
        return _test(real, fake, scaling, permutations, rng)
    tests = [_test(*pair, scaling, permutations, rng) for pair in sets]
    p, p_adjusted, distance, by_feature = (
        {name: float(np.median([part[name] for part in parts])) for name in parts[0]}
        for parts in zip(*tests, strict=True)
    )
    p, p_adjusted = ({k: min(1.0, 2 * v) for k, v in each.items()} for each in (p, p_adjusted))
    return TwoSample(p, p_adjusted, distance, _largest_first(by_feature))


def _test(
    real: np.ndarray,
    fake: np.ndarray,
    scaling: Scaling,
    permutations: int,
    rng: np.random.Generator,
) -> TwoSample:
    pooled = np.concatenate([real, fake])
    labels = np.arange(len(pooled)) < len(real)
    permuted = rng.permuted(np.tile(labels, (permutations, 1)), axis=1)
    values = distances(Pool.of(pooled, scaling), np.vstack([labels, permuted]))
    p, p_adjusted = permutation_p(values)
    by_feature = {
        name: float(energy(between_all(column), labels[None])[0])
        for name, column in scaling.features(pooled).items()
    }
    return TwoSample(_named(p), _named(p_adjusted), _named(values[0]), _largest_first(by_feature))


def permutation_p(
    values: Float[np.ndarray, "P S"],
) -> tuple[Float64[np.ndarray, "S"], Float64[np.ndarray, "S"]]:
    """Return p of each of S statistics, and the p adjusted by the distribution of the smallest.

    Parameters
    ----------
    values : np.ndarray
        Statistics (P, S): first those of the data, then those of the permutations. Values that
        differ by less than 1e-12 of the largest differ by rounding and count as equal.
    """
    scale = np.abs(values).max(0)
    rounded = np.round(values / np.where(scale > 0, scale, 1), 12)
    # Of every labelling, as if it were the data's.
    p = rankdata(-rounded, method="max", axis=0) / len(values)
    return p[0], (p.min(1)[:, None] <= p[0]).mean(0)


def resolution(
    series: Float[np.ndarray, "N L D"],
    n: int,
    m: int,
    train: Float[np.ndarray, "K L D"],
    *,
    group: Int[np.ndarray, "N"] | None = None,
    season: int | None = None,
    draws: int = 200,
    seed: int = 0,
) -> dict[str, float]:
    """Return the limit of each distance that 95 % of pairs of sets of real series stay below.

    A pair is two disjoint sets of `n` and `m` series, drawn without replacement, at most one of
    each group. If there are not so many, both sets are made smaller in proportion, to no fewer than
    2; smaller sets are farther apart by chance, so effects are understated then. More than 200
    count as 200, as in `two_sample`.

    Parameters
    ----------
    series : np.ndarray
        All real series of a data set (N, L, D): training, validation and test.
    n, m : int
        Numbers of real and of generated series that are compared.
    train : np.ndarray
        Training series (K, L, D), as in `two_sample`.
    group : np.ndarray, optional
        What the real series belong to (N,), as in `two_sample`.
    season : int, optional
        As in `two_sample`.
    draws : int
        Number of pairs.
    seed : int
        Of the draws.

    Raises
    ------
    ValueError
        For unusable arrays, too few series for two sets of 2, fewer than 8 steps, and an unusable
        season.
    """
    check_series(train=train, series=series)
    group = _thinned(np.arange(len(series)) if group is None else group)
    series, units = _thinned(series), len(np.unique(group))
    n, m = min(n, LARGE), min(m, LARGE)
    if n + m > units:
        n, m = (min(max(units * size // (n + m), 2), units - 2) for size in (n, m))
    if min(n, m) < 2:
        raise ValueError(f"series: expected two sets of 2 or more, found {n} and {m}")
    rng = np.random.default_rng(seed)
    pool = Pool.of(series, Scaling.of(_thinned(train), season))
    labels = (np.arange(n + m) < n)[None]
    drawn = [
        distances(pool.take(one_of_each(group, rng)[: n + m]), labels)[0] for _ in range(draws)
    ]
    return _named(np.quantile(drawn, QUANTILE, axis=0))


def standardise(series: Float[np.ndarray, "N L D"]) -> Float64[np.ndarray, "N L D"]:
    """Give each series mean 0 and deviation 1, channel by channel; a constant one becomes 0.

    Where every real series is so by the preparation of the data, generated series that are not are
    told apart by this alone. Tests of standardised ones show what else differs.

    Raises
    ------
    ValueError
        For an unusable array.
    """
    check_series(series=series)
    centred = series - series.mean(1, keepdims=True, dtype=np.float64)
    deviation = centred.std(1, keepdims=True)
    varies = np.ptp(series, axis=1, keepdims=True) > 0
    return np.divide(centred, deviation, out=np.zeros_like(centred), where=varies)


def _named(numbers: np.ndarray) -> dict[str, float]:
    return dict(zip(NAMES, numbers.tolist(), strict=True))


def _largest_first(numbers: dict[str, float]) -> dict[str, float]:
    return dict(sorted(numbers.items(), key=lambda item: -item[1]))


def one_of_each(group: Int[np.ndarray, "N"], rng: np.random.Generator) -> Int64[np.ndarray, "G"]:
    """Return the index of a random member of each of G groups, in random order."""
    order = rng.permutation(len(group))
    _, first = np.unique(group[order], return_index=True)
    return order[np.sort(first)]


def _thinned(series: np.ndarray) -> np.ndarray:
    return series[:: math.ceil(len(series) / THINNED)]


def _some(series: np.ndarray, rng: np.random.Generator, n: int = LARGE) -> np.ndarray:
    return series[rng.choice(len(series), min(len(series), n), replace=False)]
