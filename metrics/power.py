"""Power of the two-sample tests: which known degradations can be seen on a data set at hand?

With 22 test series not every fault can be detected. So beside "not told apart" stands what these
tests do detect: the real series are split at random, a degradation is fitted to the larger part, as
a model is, and tested against the smaller one; power is the share of splits in which it is found.
"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from metrics.arrays import check_series
from metrics.degradations import DEGRADATIONS, Generate
from metrics.two_sample import two_sample

# The degradation that each distance is for. Where it sees that in fewer than half of the splits,
# it says little on the data set.
TARGETS = {
    "marginal": "shrunk_90",
    "energy": "one_side",
    "features": "moving_average",
    "spectrum": "noise_30",
    "neighbours": "gaussian",
}


def power(
    series: Float[np.ndarray, "N L D"],
    n: int,
    *,
    degradations: Mapping[str, Generate] = DEGRADATIONS,
    season: int | None = None,
    splits: int = 100,
    permutations: int = 199,
    level: float = 0.05,
    seed: int = 0,
) -> dict[str, dict[str, float]]:
    """Return the share of random splits in which each degradation is told apart.

    Parameters
    ----------
    series : np.ndarray
        All real series of a data set (N, L, D).
    n : int
        Number of test series, and of generated ones.
    degradations : mapping
        Functions (training series, n, rng) -> series, by name.
    season, permutations : int
        As in `metrics.two_sample.two_sample`.
    splits : int
        Number of random splits into `n` test and N - n training series.
    level : float
        Largest p that tells two sets apart.
    seed : int
        Of the splits and the degradations. Permutations have the number of the split as their seed,
        whatever this one is.

    Returns
    -------
    dict
        For each degradation the share by each of `metrics.distances.NAMES` alone and by "all"
        together. Of real series it should be near `level`.

    Raises
    ------
    ValueError
        As `two_sample`, and unless N is at least 2 n.
    """
    check_series(series=series)
    if len(series) < 2 * n:
        raise ValueError(f"series: expected at least {2 * n}, two sets of {n}, found {len(series)}")
    found = {name: [] for name in degradations}
    for split in range(splits):
        order = np.random.default_rng([seed, split]).permutation(len(series))
        test, train = series[order[:n]], series[order[n:]]
        for name, generate in degradations.items():
            fake = generate(train, n, np.random.default_rng([seed, split, 1]))
            result = two_sample(
                test, fake, train, season=season, permutations=permutations, seed=split
            )
            p = {**result.p, "all": result.p_all}
            found[name].append({distance: value <= level for distance, value in p.items()})
    return {
        name: {distance: float(np.mean([each[distance] for each in rows])) for distance in rows[0]}
        for name, rows in found.items()
    }
