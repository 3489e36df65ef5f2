"""From the rows of series to a data set: split by series, normalise, count."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from datasets import base
from datasets.errors import DataError
from datasets.normalisation import NONE, normalise


@dataclass(frozen=True)
class Rows:
    """Series, or windows of them, one below the other.

    Attributes
    ----------
    record : (rows,)
        Whose row it is: 0..N-1, non-decreasing, each at least once.
    t : (rows,)
        Times in [0, 1], non-decreasing within a record.
    x : (rows, D)
        Values in the unit of the file, NaN where missing.
    origin : (N,)
        The series that each record is, or is a window of.
    channels, ids : names
        Of the channels, and of the series that `origin` counts.
    windowed : bool
        Whether records are windows.
    report : dict
        What was found in the file, and left out.
    """

    record: Int64[np.ndarray, "rows"]
    t: Float64[np.ndarray, "rows"]
    x: Float64[np.ndarray, "rows D"]
    origin: Int64[np.ndarray, "N"]
    channels: Sequence[str]
    ids: Sequence[str]
    windowed: bool
    report: Mapping[str, Any] = field(default_factory=dict)


def assemble(
    rows: Rows,
    *,
    name: str,
    title: str,
    files: Sequence[Path],
    split: Mapping[str, Any],
    normalise_by: tuple[str, str],
    unit: str,
    time: str,
    options: Mapping[str, Any],
) -> base.Dataset:
    """Split by series, normalise, lay out.

    Parameters
    ----------
    rows : Rows
    name, title, files, split, time, options
        As `datasets.base.build` takes them; of windows, `split` is of the series.
    normalise_by : (how, by)
        As `datasets.normalisation.normalise` takes them.
    unit : str
        Of the values in the file.

    Raises
    ------
    DataError
        If there are too few series or values, a part of the split is empty, single precision cannot
        hold the values, or two channels have one name.
    """
    if len(set(rows.channels)) < len(rows.channels):
        raise DataError(f"channels: expected different names, found {list(rows.channels)}")
    group = np.unique(rows.origin, return_inverse=True)[1]
    whole = base.split(int(group.max()) + 1, **split)
    if not all(map(len, whole)):
        raise DataError(f"split: expected a series in each part, found {list(map(len, whole))}")
    train, validation, test = (np.flatnonzero(np.isin(group, part)) for part in whole)
    x, unit_of_x, scales = normalise(rows.x, rows.record, train, *normalise_by)
    observed = np.isfinite(rows.x)
    if not (np.abs(x[observed]) < np.finfo(np.float32).max).all():
        raise DataError("expected values that single precision can hold, found larger ones")
    same = np.diff(rows.record) == 0
    if (np.diff(rows.t.astype(np.float32))[same] == 0).any():
        raise DataError(
            "expected times that differ by more than 1e-7 of the longest series, found closer"
            " ones; `window` makes series shorter"
        )
    t, x, mask = base.pad(rows.record, rows.t, x, observed)
    how, by = normalise_by
    ranges = {c: _range(rows.x[:, d]) for d, c in enumerate(rows.channels)}
    missing = int((~mask).sum())
    return base.build(
        name=name,
        title=title,
        x=x,
        t=t,
        mask=mask,
        group=group if rows.windowed else None,
        split_options=split,
        parts=(train, validation, test),
        normalisation=how if how == NONE else f"{how} by {by}",
        unit=unit_of_x or unit,
        scaling=base.Scaling(*scales[0]) if len(scales) == 1 else None,
        time=time,
        channels=rows.channels,
        files=files,
        options=options,
        warnings=[
            f"{missing} of {mask.size} values are missing, or behind the end of a shorter series"
        ]
        if missing
        else [],
        report={
            **rows.report,
            "lowest and highest value in the file": ranges,
            "unit in the file": unit,
            "series": [rows.ids[origin] for origin in rows.origin],
        },
    )


def _range(values: Float64[np.ndarray, "rows"]) -> list[float]:
    known = values[np.isfinite(values)]
    return [float(known.min()), float(known.max())] if len(known) else []
