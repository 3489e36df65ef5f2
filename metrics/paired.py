"""Paired comparisons of two rows that were scored on the same test series or records.

Drawn again with replacement are

* test series or records, or groups of them, such as windows of one series: the same ones for both
  rows;
* generated series, of each row by themselves, in the marginal score and among those that a
  classifier is tested on;
* fits of the predictor, the same ones for both rows. With one seed, the evaluators of two rows
  begin with the same weights, but they learn from different series and so differ by chance. A
  bootstrap of F fits is too narrow, so the deviation of a fit's weight from 1/F is multiplied by
  t sqrt(F / (F - 1)) / z, with t and z the 97.5 % quantiles of Student's law with F - 1 degrees of
  freedom and of the normal law. A single fit is taken as it is.

A classifier's fits are not drawn again: each is tested on another few series, and these are. That
is enough: docs/decisions.md has how often one of two equal rows is called better.

Not drawn again is the set of generated series that an evaluator was trained on: that would need
evaluators trained on other sets. So an interval is for one training seed and one set of samples.

A row is better where the 95 % interval of the difference excludes 0.

References
----------
Efron and Tibshirani 1993, "An Introduction to the Bootstrap", chapters 8 and 13 (percentile
interval).
"""

import functools
import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import norm, t

N_BOOT = 1000
LEVEL = 0.05
# Series or groups of records that decide: of 5 that all say the same, a sign test has p = 1/32.
FEWEST = 6
CHANCE = math.log(2)  # cross-entropy of a classifier that cannot tell; more is overfitting


class SeriesErrors(NamedTuple):
    """What generation leaves of its scores for single series.

    Attributes
    ----------
    real_counts : (n, D, B)
        Values of each test series in the bins of the marginal score, the last outside of all.
    generated_counts : (m, D, B)
        The same of the generated series.
    classification : (F, n + m)
        Cross-entropy of each real, then each generated series, by evaluator fit; NaN where it was
        trained on.
    prediction : (F, n)
        Squared error of each test series, by evaluator fit.
    group : (n,)
        Series of one group, such as windows of one series, are drawn again together.
    """

    real_counts: Int[np.ndarray, "n D B"]
    generated_counts: Int[np.ndarray, "m D B"]
    classification: Float[np.ndarray, "F nm"]
    prediction: Float[np.ndarray, "F n"]
    group: Int[np.ndarray, "n"]


class Interval(NamedTuple):
    """What two rows differ by, and the ends of its interval.

    Attributes
    ----------
    difference : float
        First row less second, so that the first is better below 0; of `skill`, the skill, which is
        better above 0.
    low, high : float
    enough : bool
        Whether `FEWEST` or more units were drawn again. With fewer, no row is better.
    """

    difference: float
    low: float
    high: float
    enough: bool = True

    @property
    def turned(self) -> "Interval":
        """The same of the second row less the first."""
        return Interval(-self.difference, -self.high, -self.low, self.enough)

    @property
    def first_is_better(self) -> bool:
        return self.enough and self.high < 0

    @property
    def second_is_better(self) -> bool:
        return self.enough and self.low > 0


def differences(a: SeriesErrors, b: SeriesErrors, seed: int = 0) -> dict[str, Interval]:
    """Return the paired differences of the robust scores of two rows, so that lower is better.

    Parameters
    ----------
    a, b : SeriesErrors
        Of two rows with the same test series and evaluator fits. A row without generated series has
        prediction errors alone.
    seed : int
        Of the resampling.

    Raises
    ------
    ValueError
        If the rows have different numbers of test series, or of fits (one fit, which is that of a
        score without training, goes with any number).
    """
    (fits, n), (other_fits, other_n) = (row.prediction.shape for row in (a, b))
    if n != other_n:
        raise ValueError(f"rows: expected the same test series, found {n}, {other_n}")
    if not np.array_equal(a.group, b.group):
        raise ValueError("rows: expected the same groups of test series, found others")
    groups, index = np.unique(a.group, return_inverse=True)
    if fits != other_fits and 1 not in (fits, other_fits):
        raise ValueError(f"rows: expected the same evaluator fits, found {fits}, {other_fits}")
    generated = [len(row.generated_counts) for row in (a, b)]
    sizes = [len(groups), *generated] if all(generated) else [len(groups)]
    units, *resampled, drawn = _weights(seed, *sizes, max(fits, other_fits))
    real, fit = units[:, index], _widened(drawn)
    enough = min(sizes) >= FEWEST
    found = {
        "prediction": _interval(*(_prediction(row, real, fit) for row in (a, b)), enough=enough)
    }
    if resampled:
        rows = list(zip((a, b), resampled, strict=True))
        found["marginal"] = _interval(
            *(_marginal(row, real, own) for row, own in rows), enough=enough
        )
        found["classification"] = _interval(
            *(-np.minimum(_classification(row, real, own), CHANCE) for row, own in rows),
            enough=enough,
        )
    return found


def skill(
    squared: Float[np.ndarray, "N"],
    reference: Float[np.ndarray, "N"],
    group: Int[np.ndarray, "N"],
    seed: int = 0,
) -> Interval:
    """Return the skill against a reference, 1 - error / error of the reference, and its interval.

    Parameters
    ----------
    squared, reference : (N,)
        Summed errors of each record: of a row, and of the reference on the same values.
    group : (N,)
        Records of one group, such as a station, are drawn again together.
    seed : int
        Of the resampling.

    Raises
    ------
    ValueError
        If the reference makes no error at all.
    """
    if not reference.sum() > 0:
        raise ValueError("reference: expected errors above 0, found none")
    _, index = np.unique(group, return_inverse=True)
    own, other = (np.bincount(index, weights=values) for values in (squared, reference))
    (weights,) = _weights(seed, len(own))
    values = 1 - (weights @ own) / (weights @ other)
    low, high = np.quantile(values[1:], [LEVEL / 2, 1 - LEVEL / 2])
    return Interval(float(values[0]), float(low), float(high), len(own) >= FEWEST)


def mean_difference(
    a: Float[np.ndarray, "N"],
    b: Float[np.ndarray, "N"],
    group: Int[np.ndarray, "N"],
    seed: int = 0,
) -> Interval:
    """Return the paired difference of two rows' means over records, and its interval.

    Parameters
    ----------
    a, b : (N,)
        A number of each record, such as its negative ELBO, of two rows; lower is better.
    group : (N,)
        Records of one group, such as a station, are drawn again together.
    seed : int
        Of the resampling.
    """
    _, index = np.unique(group, return_inverse=True)
    size, first, second = (np.bincount(index, weights=values) for values in (np.ones(len(a)), a, b))
    (weights,) = _weights(seed, len(size))
    n = weights @ size
    return _interval(weights @ first / n, weights @ second / n, enough=len(size) >= FEWEST)


@functools.lru_cache(maxsize=4)  # drawing takes longer than what is computed from it
def _weights(seed: int, *sizes: int) -> list[Float[np.ndarray, "R n"]]:
    """How often each of n series is drawn, for some n: once in row 0, at random in the others."""
    rng = np.random.default_rng(seed)
    drawn = [rng.multinomial(n, np.full(n, 1 / n), size=N_BOOT) for n in sizes]
    return [np.vstack([np.ones(times.shape[1]), times]) for times in drawn]


def _interval(a: Float[np.ndarray, "R"], b: Float[np.ndarray, "R"], *, enough: bool) -> Interval:
    difference = a - b
    low, high = np.quantile(difference[1:], [LEVEL / 2, 1 - LEVEL / 2])
    return Interval(float(difference[0]), float(low), float(high), enough)


def _widened(times: Float[np.ndarray, "R F"]) -> Float[np.ndarray, "R F"]:
    """Return the weight of each fit from how often it is drawn, widened as this file says."""
    fits = times.shape[1]
    if fits == 1:
        return times
    quantile = 1 - LEVEL / 2
    factor = t.ppf(quantile, fits - 1) / norm.ppf(quantile) * math.sqrt(fits / (fits - 1))
    return (1 + factor * (times - 1)) / fits


def _prediction(
    row: SeriesErrors, real: Float[np.ndarray, "R n"], fit: Float[np.ndarray, "R F"]
) -> Float[np.ndarray, "R"]:
    """Weighted mean over fits; the score itself where there is one fit."""
    scores = real @ row.prediction.T / real.sum(1, keepdims=True)  # (R, F), or (R, 1)
    return scores[:, 0] if scores.shape[1] == 1 else (scores * fit).sum(1)


def _marginal(
    row: SeriesErrors, real: Float[np.ndarray, "R n"], generated: Float[np.ndarray, "R m"]
) -> Float[np.ndarray, "R"]:
    """Total variation of binned values, averaged over channels."""
    shares = []
    for weights, counts in ((real, row.real_counts), (generated, row.generated_counts)):
        total = np.einsum("rn,ndb->rdb", weights, counts.astype(np.float64))
        shares.append(total / total.sum(-1, keepdims=True))
    return 0.5 * np.abs(shares[0] - shares[1]).sum(-1).mean(-1)


def _classification(
    row: SeriesErrors, real: Float[np.ndarray, "R n"], generated: Float[np.ndarray, "R m"]
) -> Float[np.ndarray, "R"]:
    weights = np.hstack([real, generated])
    tested = np.isfinite(row.classification)  # (F, n + m)
    totals = weights @ np.where(tested, row.classification, 0).T  # (R, F)
    counts = weights @ tested.T.astype(np.float64)
    return np.divide(totals, counts, out=np.full_like(totals, CHANCE), where=counts > 0).mean(1)
