r"""Heston paths: share prices whose volatility is a random process of its own.

.. math:: \log S_{t+1} &= \log S_t + (\mu - v_t^+ / 2) \, dt + \sqrt{v_t^+ \, dt} \; z_1 \\
          v_{t+1} &= v_t + \kappa (\theta - v_t^+) \, dt + \xi \sqrt{v_t^+ \, dt} \; z_2,
          \qquad v^+ = \max(v, 0), \quad \mathrm{corr}(z_1, z_2) = \rho

This is Heston's model in Euler steps with full truncation. Returns are uncorrelated, but their
sizes are not: volatile times last, and returns have heavy tails. The law is known, so there are as
many test paths as one likes, and a perfect generator can be had: another draw (`perfect`).

======  ==================================================  ==========
symbol  meaning                                             value
======  ==================================================  ==========
S       price; S_0 is the first point of a path             S_0 = 100
v       variance of a year's log return                     v_0 = 0.04
mu      drift of a year                                     0.05
kappa   rate at which v returns to theta                    2
theta   mean of v in the long run                           0.04
xi      volatility of v                                     0.3
rho     correlation of the two noises                       -0.7
dt      a trading day, in years                             1 / 250
======  ==================================================  ==========

References
----------
Heston 1993, "A Closed-Form Solution for Options with Stochastic Volatility".
Lord, Koekkoek and van Dijk 2010, "A comparison of biased simulation schemes for stochastic
volatility models" (full truncation).
"""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float64
from pydantic import NonNegativeInt, PositiveInt

from datasets import base
from datasets.errors import DataError
from datasets.files import load_arrays, save_arrays

LENGTH = 128  # points of a path
SHARDS = (0, 1)  # 0 for training and validation, 1 for test: independent draws


@dataclasses.dataclass(frozen=True)
class Law:
    """Parameters; see the table above."""

    S_0: float = 100.0
    v_0: float = 0.04
    mu: float = 0.05
    kappa: float = 2.0
    theta: float = 0.04
    xi: float = 0.3
    rho: float = -0.7
    dt: float = 1 / 250


def simulate(
    n: int, rng: np.random.Generator, law: Law = Law(), length: int = LENGTH
) -> Float64[np.ndarray, "{n} {length}"]:
    """Draw `n` paths of prices; fewer paths are the first of more."""
    z = rng.standard_normal((n, length - 1, 2))
    z[..., 1] = law.rho * z[..., 0] + math.sqrt(1 - law.rho**2) * z[..., 1]
    returns = np.empty((n, length - 1))
    v = np.full(n, law.v_0)
    for t in range(length - 1):
        v_plus = np.maximum(v, 0)
        deviation = np.sqrt(v_plus * law.dt)
        returns[:, t] = (law.mu - v_plus / 2) * law.dt + deviation * z[:, t, 0]
        v = v + law.kappa * (law.theta - v_plus) * law.dt + law.xi * deviation * z[:, t, 1]
    return law.S_0 * np.exp(np.cumsum(np.insert(returns, 0, 0, axis=1), axis=1))


def perfect(
    train: Float[np.ndarray, "N L 1"], n: int, rng: np.random.Generator
) -> Float[np.ndarray, "n L 1"]:
    """Draw `n` paths of the law itself, as long as training paths: the best that a model can be."""
    return simulate(n, rng, length=train.shape[1])[..., None]


def random_walk(
    train: Float[np.ndarray, "N L 1"], n: int, rng: np.random.Generator
) -> Float[np.ndarray, "n L 1"]:
    """Chain log returns drawn from all those of the training prices, with replacement.

    Returns have the right distribution and no memory: there are no volatile times and no calm ones.
    """
    logs = np.log(train.astype(np.float64))
    returns = rng.choice(np.diff(logs, axis=1).ravel(), (n, train.shape[1] - 1, 1))
    start = logs[rng.integers(len(train), size=n), :1]
    return np.exp(np.cumsum(np.concatenate([start, returns], axis=1), axis=1))


def write_shard(path: Path, shard: int, *, n: PositiveInt, seed: NonNegativeInt) -> None:
    """Draw the `n` paths of one shard and write them: `prices` (n, 128), `shard` and the options.

    Raises
    ------
    DataError
        For another shard than 0 and 1, and for less than one path.
    """
    if shard not in SHARDS or n < 1:
        raise DataError(f"Heston: expected shard 0 or 1 and n >= 1, found {shard} and n = {n}")
    options = {"n": n, "seed": seed, "law": dataclasses.asdict(Law())}
    # A stream of its own: a generator seeded by the same numbers must not repeat the test paths.
    stream = np.random.SeedSequence(seed, spawn_key=(shard,))
    arrays = {
        "prices": simulate(n, np.random.default_rng(stream)),
        "shard": np.int64(shard),
        "options": np.array(json.dumps(options)),
    }
    save_arrays(Path(path), arrays)


def load(files: Sequence[Path], *, name: str, title: str, split: Mapping[str, Any]) -> base.Dataset:
    """Read both shards; only the training shard is split, in two.

    Prices are scaled by one mean and one deviation of all training prices.

    Parameters
    ----------
    files : two paths
        The shards 0 and 1, of the same options.
    name, title : str
        What the configuration calls the set.
    split : mapping
        ``seed`` and ``fractions`` of the training shard; no test series are taken from it.

    Raises
    ------
    DataError
        If a file is no shard, the two are not 0 and 1 of the same options, or the split takes test
        series from the training shard.
    """
    if split["fractions"][2] != 0:
        raise DataError(
            f"data set {name}: expected split.fractions without test series, which are a draw of"
            f" their own, found {list(split['fractions'])}"
        )
    shards = sorted(
        (load_arrays(path, {"prices", "shard", "options"}) for path in files),
        key=lambda shard: int(shard["shard"]),
    )
    found = [int(shard["shard"]) for shard in shards]
    options = {str(shard["options"]) for shard in shards}
    if tuple(found) != SHARDS or len(options) > 1:
        raise DataError(
            f"data set {name}: expected shards 0 and 1 of the same options, found {found} of"
            f" {sorted(options)}"
        )
    prices = np.concatenate([shard["prices"] for shard in shards])[..., None]
    n = len(shards[0]["prices"])
    train, validation, _ = base.split(n, **split)
    scaling = base.Scaling(float(prices[train].mean()), float(prices[train].std()))
    return base.build(
        name=name,
        title=title,
        x=scaling.apply(prices),
        t=base.regular_times(*prices.shape[:2]),
        mask=np.ones(prices.shape, dtype=bool),
        split_options=split,
        parts=(train, validation, np.arange(n, len(prices))),
        normalisation="mean and deviation of all training prices",
        unit="deviation of the training prices",
        scaling=scaling,
        files=files,
        options=json.loads(options.pop()),
    )
