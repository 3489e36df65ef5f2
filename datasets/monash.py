"""Loader of the Monash archive's equal-length, univariate sets.

Each series is normalised by itself, as the published experiments on these sets do, so that levels
and scales that differ by orders of magnitude within a set do not matter.

References
----------
Godahewa et al. 2021, "Monash Time Series Forecasting Archive", arXiv:2105.06643.
Zhou et al. 2023, "Deep Latent State Space Models for Time-Series Generation", arXiv:2212.12749.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float64
from pydantic import PositiveInt
from typing_extensions import TypedDict

from datasets import base
from datasets.errors import DataError
from datasets.normalisation import low_and_range, mean_and_deviation
from datasets.tsf import read_tsf


class Size(TypedDict):
    """What must be found in a file."""

    series: PositiveInt
    length: PositiveInt


def load(
    files: Sequence[Path],
    *,
    name: str,
    title: str,
    normalise: Literal["zscore", "minmax"],
    expected: Size,
    split: Mapping[str, Any],
    encoding: str = "utf-8",
) -> base.Dataset:
    """Read one .tsf file, check its size, normalise each series and split by series.

    Parameters
    ----------
    files : one path
        The .tsf file.
    name, title : str
        What the configuration calls the set.
    normalise : {"zscore", "minmax"}
        `zscore` or `minmax`, applied to each series by itself.
    expected : mapping
        The numbers of ``series`` and of time steps (``length``) that must be found.
    split : mapping
        ``seed`` and ``fractions`` of `datasets.base.split`.
    encoding : str
        Of the names in the file.

    Raises
    ------
    DataError
        If the file is no good .tsf (see `datasets.tsf.read_tsf`) or of another size.
    """
    if len(files) != 1:
        raise DataError(f"data set {name}: expected one .tsf file, found {len(files)}")
    (path,) = files
    tsf = read_tsf(path, encoding)
    if len(tsf.series) != expected["series"]:
        raise DataError(f"{path}: expected {expected['series']} series, found {len(tsf.series)}")
    for series_name, series in zip(tsf.names, tsf.series, strict=True):
        if len(series) != expected["length"]:
            raise DataError(
                f"{path}: expected {expected['length']} values in series {series_name}, "
                f"found {len(series)}"
            )
    function, unit = NORMALISATIONS[normalise]
    raw = np.stack(tsf.series)  # (N, L), NaN where missing
    x = np.stack([function(series) for series in raw])
    constant = int((np.nanmax(raw, axis=1) == np.nanmin(raw, axis=1)).sum())
    return base.build(
        name=name,
        title=title,
        x=np.nan_to_num(x, nan=0.0).astype(np.float32)[:, :, None],
        t=base.regular_times(*raw.shape),
        mask=np.isfinite(raw)[:, :, None],
        split_options=split,
        normalisation=f"{normalise} of each series",
        unit=unit,
        files=files,
        options={"normalise": normalise, "frequency": tsf.frequency},
        warnings=[f"{constant} constant series set to 0"] if constant else [],
    )


def zscore(series: Float64[np.ndarray, "L"]) -> Float64[np.ndarray, "L"]:
    """Subtract the mean and divide by the population standard deviation; a constant becomes 0."""
    mean, deviation = mean_and_deviation(series)
    return (series - mean) / deviation


def minmax(series: Float64[np.ndarray, "L"]) -> Float64[np.ndarray, "L"]:
    """Map the range of a series to [0, 1]; a constant becomes 0."""
    low, width = low_and_range(series)
    return (series - low) / width


NORMALISATIONS: dict[str, tuple[Callable[[np.ndarray], np.ndarray], str]] = {
    "zscore": (zscore, "standard deviation of the series"),
    "minmax": (minmax, "range of the series"),
}
