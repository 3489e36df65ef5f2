"""Normalisation: (value - centre) / scale, with centre and scale of a series or of a channel."""

import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int

from datasets.errors import DataError

NONE = "none"


def mean_and_deviation(values: Float[np.ndarray, "*n"]) -> tuple[float, float]:
    """Return mean and population standard deviation; NaN is left out.

    The sums are exact (`math.fsum`): NumPy's order of summation depends on the processor, and the
    digest of the data must not. Equal values have their value and 1, so that they become 0.
    """
    observed = values[np.isfinite(values)]
    if observed.max() == observed.min():
        return float(observed[0]), 1.0
    mean = math.fsum(observed.tolist()) / len(observed)
    variance = math.fsum(((observed - mean) ** 2).tolist()) / len(observed)
    return mean, math.sqrt(variance)


def low_and_range(values: Float[np.ndarray, "*n"]) -> tuple[float, float]:
    """Return the lowest value and the range, which is 1 for equal values; NaN is left out."""
    low, high = np.nanmin(values), np.nanmax(values)
    return float(low), float(high - low) or 1.0


FUNCTIONS: dict[str, tuple[Callable[..., tuple[float, float]], str]] = {
    "zscore": (mean_and_deviation, "standard deviation"),
    "minmax": (low_and_range, "range"),
}


def normalise(
    x: Float[np.ndarray, "rows D"],
    record: Int[np.ndarray, "rows"],
    train: Int[np.ndarray, "n"],
    how: str,
    by: str,
) -> tuple[Float[np.ndarray, "rows D"], str, list[tuple[float, float]]]:
    """Normalise the channels of series that lie one below the other.

    Parameters
    ----------
    x : (rows, D)
        NaN where missing.
    record : (rows,)
        Whose row it is, non-decreasing.
    train : (n,)
        Training series.
    how : {"none", "zscore", "minmax"}
    by : {"channel", "series"}
        Centre and scale are those of the channel's training values, or of each series by itself.

    Returns
    -------
    x : (rows, D)
        Normalised; NaN where missing.
    unit : str
        What 1 is.
    scales : list of (centre, scale)
        Of each channel; empty if each series has its own.

    Raises
    ------
    DataError
        If `how` or `by` is another word, or a channel has no training value.
    """
    expect(how, (NONE, *FUNCTIONS), "normalise")
    expect(by, ("channel", "series"), "by")
    if how == NONE:
        return x, "", [(0.0, 1.0)] * x.shape[1]
    (function, kind), x = FUNCTIONS[how], x.copy()
    largest = np.sqrt(np.finfo(np.float64).max / x.size) / 2  # whose squares still have a sum
    if not (np.abs(x[np.isfinite(x)]) < largest).all():
        raise DataError(f"normalise: expected values below {largest:.0e}, found larger ones")
    if by == "series":
        for rows in np.split(np.arange(len(x)), np.flatnonzero(np.diff(record)) + 1):
            for d in np.flatnonzero(np.isfinite(x[rows]).any(0)):
                centre, scale = function(x[rows, d])
                x[rows, d] = (x[rows, d] - centre) / scale
        return x, f"{kind} of the series", []
    known = x[np.isin(record, train)]
    if len(empty := np.flatnonzero(~np.any(np.isfinite(known), axis=0))):
        raise DataError(f"normalise: expected training values in channel {empty[0]}, found none")
    scales = [function(known[:, d]) for d in range(x.shape[1])]
    centre, scale = np.array(scales).T
    return (x - centre) / scale, f"{kind} of the channel's training values", scales


def expect(found: object, known: tuple[str, ...], option: str) -> None:
    """Refuse an option that is none of the known words.

    Raises
    ------
    DataError
    """
    if found not in known:
        raise DataError(f"{option}: expected one of {', '.join(known)}, found {found!r}")
