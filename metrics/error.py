r"""Errors of predictions, summed over time, and three ways to average them.

Errors are added up per (record, channel) first, :math:`e_{nd}` over :math:`c_{nd}` scored values:
records come in batches and may be padded, and each average follows from these sums.

=======  =====================================================================  ===============
average  definition                                                             published codes
=======  =====================================================================  ===============
micro    :math:`\sum_{nd} e_{nd} / \sum_{nd} c_{nd}`: every value counts alike  CRU
macro    mean of :math:`e_{nd} / c_{nd}` over the pairs that have a value
ls4      mean of :math:`e_{nd} / c_{nd}` over all pairs, 0 where empty          LS4, Latent ODE
=======  =====================================================================  ===============

The less a channel is observed, the more they differ: ls4 is macro times the share of pairs that
have a value. LS4 and CRU average over each batch, then over batches; here all records come at once.

References
----------
Rubanova et al. 2019, "Latent ODEs for irregularly-sampled time series", arXiv:1907.03907, Zhou et
al. 2023, arXiv:2212.12749, and Schirmer et al. 2022, "Modeling irregular time series with
continuous recurrent units", arXiv:2111.11344: the released codes, not the papers, say which average
they report.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64


class Sums(NamedTuple):
    """Errors of some records, added up over time.

    Attributes
    ----------
    total : (N, D)
        Sum of the errors of a record's scored values in a channel.
    count : (N, D)
        Number of these values.
    """

    total: Float64[np.ndarray, "N D"]
    count: Float64[np.ndarray, "N D"]

    def of_channels(self, channels: Int64[np.ndarray, "_"]) -> "Sums":
        """Return the sums of some channels."""
        return Sums(self.total[:, channels], self.count[:, channels])

    @staticmethod
    def concatenate(parts: Sequence["Sums"]) -> "Sums":
        """Join the sums of several batches of records."""
        total, count = zip(*parts, strict=True)
        return Sums(np.concatenate(total), np.concatenate(count))


# Of each record: what is summed over records, and what that is divided by.
Terms = tuple[Float64[np.ndarray, "N"], Float64[np.ndarray, "N"]]


@dataclass(frozen=True)
class Average:
    """An average that is a ratio of two sums over records, whose terms `terms` returns."""

    terms: Callable[[Sums], Terms]

    def __call__(self, sums: Sums) -> float | None:
        """Return the average, or None where nothing is scored."""
        if not sums.count.any():
            return None
        numerator, denominator = self.terms(sums)
        return float(numerator.sum() / denominator.sum())


@Average
def micro(sums: Sums) -> Terms:
    return sums.total.sum(1), sums.count.sum(1)


@Average
def macro(sums: Sums) -> Terms:
    return _pairs(sums).sum(1), (sums.count > 0).sum(1).astype(np.float64)


@Average
def ls4(sums: Sums) -> Terms:
    return _pairs(sums).sum(1), np.full(len(sums.count), sums.count.shape[1], np.float64)


def sums(entrywise: Float[np.ndarray, "B L D"], target: Bool[np.ndarray, "B L D"]) -> Sums:
    """Add up the errors of a batch over time.

    Parameters
    ----------
    entrywise : (B, L, D)
        Error of each value, such as a squared error or a CRPS; anything where it is not scored.
    target : (B, L, D)
        True where the value is scored.

    Raises
    ------
    ValueError
        If the shapes differ, or a scored error is not finite.
    """
    if entrywise.shape != target.shape:
        raise ValueError(f"errors: expected shape {target.shape}, found {entrywise.shape}")
    scored = np.where(target, entrywise, 0).astype(np.float64)
    if not np.isfinite(scored).all():
        bad = np.argwhere(~np.isfinite(scored))
        record, row, channel = bad[0]
        raise ValueError(
            f"errors: expected finite values, found {len(bad)} that are not, the first at record "
            f"{record}, row {row}, channel {channel}"
        )
    return Sums(scored.sum(1), target.sum(1).astype(np.float64))


def bootstrap(average: Average, sums: Sums, seed: int, n_boot: int = 100) -> float | None:
    """Return the standard deviation of an average when whole records are drawn again.

    Values of one record are not independent, so records are resampled (with replacement), those
    that count in the average. Records of one group, such as a station, are not drawn together:
    where they are alike, this is too small. Tables do not show it there.

    Parameters
    ----------
    average : Average
        `micro`, `macro` or `ls4`.
    sums : Sums
        Of all records.
    seed : int
        Seed of the resampling.
    n_boot : int
        Number of resamples, at least 2.

    Returns
    -------
    float or None
        None with fewer than two records that count, or where nothing is scored.

    Raises
    ------
    ValueError
        For fewer than 2 resamples.
    """
    if n_boot < 2:
        raise ValueError(f"n_boot: expected at least 2 resamples, found {n_boot}")
    numerator, denominator = average.terms(sums)
    counts = denominator > 0
    n = np.count_nonzero(counts)
    if n < 2 or not sums.count.any():
        return None
    # Drawing n records with replacement is drawing how often each is taken.
    times = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=n_boot)
    resampled = (times @ numerator[counts]) / (times @ denominator[counts])
    return float(resampled.std(ddof=1))


def _pairs(sums: Sums) -> Float64[np.ndarray, "N D"]:
    """Return the mean error of each record and channel, 0 where nothing is scored."""
    return sums.total / np.maximum(sums.count, 1)
