"""Power of the two-sample tests: which known degradations can be seen on a data set at hand?

With 22 test series not every fault can be detected. So beside "not told apart" stands what these
tests do detect: the real series are split at random, a degradation is fitted to the larger part, as
a model is, and tested against the smaller one; power is the share of splits in which it is found.
"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Int

from metrics.arrays import check_series, members
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
    group: Int[np.ndarray, "N"] | None = None,
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
        Number of test series, or of groups of them, and of generated series.
    degradations : mapping
        Functions (training series, n, rng) -> series, by name.
    group : np.ndarray, optional
        What the series belong to (N,): a group is in one part. Each is its own group by default.
    season, permutations : int
        As in `metrics.two_sample.two_sample`.
    splits : int
        Number of random splits into `n` test series, or groups, and the others for training.
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
        As `two_sample`, and unless there are at least 2 n series, or groups.
    """
    check_series(series=series)
    group = np.arange(len(series)) if group is None else group
    together = members(group)
    if len(together) < 2 * n:
        found = len(together)
        raise ValueError(f"series: expected at least {2 * n}, two sets of {n}, found {found}")
    found = {name: [] for name in degradations}
    for split in range(splits):
        order = np.random.default_rng([seed, split]).permutation(len(together))
        tested, rest = (np.concatenate([together[i] for i in of]) for of in (order[:n], order[n:]))
        test, train = series[tested], series[rest]
        for name, generate in degradations.items():
            fake = generate(train, n, np.random.default_rng([seed, split, 1]))
            result = two_sample(
                test,
                fake,
                train,
                group=group[tested],
                season=season,
                permutations=permutations,
                seed=split,
            )
            p = {**result.p, "all": result.p_all}
            found[name].append({distance: value <= level for distance, value in p.items()})
    return {
        name: {distance: float(np.mean([each[distance] for each in rows])) for distance in rows[0]}
        for name, rows in found.items()
    }
