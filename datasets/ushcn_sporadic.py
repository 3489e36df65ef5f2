"""Loader of USHCN as thinned and cut by GRU-ODE-Bayes, the set behind LS4's published scores.

The file's makers kept 5 % of each element's daily values of 1950-2000 at random, scaled them to
mean 0 and variance 1, rounded times and kept the last 200 of 2500 units of time, about four years.
A row holds a series' number ``ID``, a ``Time`` in 0..200, five values and five flags, 1 where the
value was observed.

Split and scale are those of the released code of both: fold 0 of the file's makers, in which
validation and test rows after time 150 are left out, and min-max of each element over what is left
of training and validation. Series are numbered by the order of their ``ID``.

References
----------
De Brouwer et al. 2019, "GRU-ODE-Bayes: Continuous modeling of sporadically-observed time series",
arXiv:1905.12374.
Zhou et al. 2023, "Deep Latent State Space Models for Time-Series Generation", arXiv:2212.12749.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from datasets import base
from datasets.errors import DataError
from datasets.text import csv_lines, number
from datasets.ushcn import ELEMENTS, min_max

D = len(ELEMENTS)
COLUMNS = ["ID", "Time", *(f"Value_{k}" for k in range(D)), *(f"Mask_{k}" for k in range(D))]
END = 200  # of time
CUT = 150  # last time of a validation or test series


def load(
    files: Sequence[Path],
    *,
    name: str,
    title: str,
    expected: Mapping[str, int],
    split: Mapping[str, Any],
) -> base.Dataset:
    """Read the file, draw the fold, cut and scale.

    Parameters
    ----------
    files : one path
        ``small_chunked_sporadic.csv``.
    name, title : str
        What the configuration calls the set.
    expected : mapping
        The numbers of ``rows`` and ``series`` that must be found.
    split : mapping
        ``seed`` and ``fractions``, see `fold`.

    Raises
    ------
    DataError
        As `read_table`, or if the file is of another size.
    """
    if len(files) != 1:
        raise DataError(f"data set {name}: expected one file, found {len(files)}")
    (path,) = files
    table = read_table(path)
    ids, series = np.unique(table[:, 0], return_inverse=True)
    for what, n in {"rows": len(table), "series": len(ids)}.items():
        if n != expected[what]:
            raise DataError(f"{path}: expected {expected[what]} {what}, found {n}")
    time, value, mask = table[:, 1], table[:, 2 : 2 + D], table[:, 2 + D :] == 1
    parts = fold(len(ids), **split)
    training = np.isin(np.arange(len(ids)), parts[0])
    late = ~training[series] & (time > CUT)
    empty = ~late & ~mask.any(1)
    kept = ~(late | empty)
    series, time, mask = series[kept], time[kept], mask[kept]
    value = np.where(mask, value[kept], np.nan)
    test = np.isin(series, parts[2])
    value = min_max(value, value[~test])

    # Series without any row left are dropped, and the others move up.
    found, series = np.unique(series, return_inverse=True)
    order = np.lexsort((time, series))
    t, x, mask = base.pad(series[order], time[order] / END, value[order], mask[order])
    train, validation, test = (np.flatnonzero(np.isin(found, part)) for part in parts)
    return base.build(
        name=name,
        title=title,
        x=x,
        t=t,
        mask=mask,
        split_options=split,
        parts=(train, validation, test),
        normalisation="min-max of each element over training and validation",
        unit="range of the element",
        time=f"{END} units of the file, about 4 years",
        channels=ELEMENTS,
        files=files,
        options={"last time of validation and test": CUT},
        report={
            "validation and test rows after the last time": int(late.sum()),
            "rows without a value": int(empty.sum()),
            "series without a row": len(ids) - len(found),
            "ids other than 0, 1, 2, ...": int((ids != np.arange(len(ids))).sum()),
        },
    )


def read_table(path: Path) -> Float64[np.ndarray, "rows 12"]:
    """Read and check the rows of the file.

    Raises
    ------
    DataError
        Naming file and line: other columns, something that is no number, an ``ID`` that is no whole
        number, a ``Time`` outside 0..200, a flag other than 0 and 1, a second row of the same
        series and time.
    """
    path = Path(path)
    lines = csv_lines(path, ",", "utf-8")
    _, header = next(lines, (1, []))
    if header != COLUMNS:
        raise DataError(f"{path}:1: expected columns {','.join(COLUMNS)}, found {header!s:.200}")
    numbers, rows = [], []
    for line, words in lines:
        try:
            rows.append([number(word) for word in words])
            wrong = len(words) != len(COLUMNS)
        except ValueError:
            wrong = True
        if wrong:
            raise DataError(
                f"{path}:{line}: expected {len(COLUMNS)} numbers, found {','.join(words)[:200]!r}"
            )
        numbers.append(line)
    table = np.array(rows).reshape(-1, len(COLUMNS))

    def refuse(wrong: Any, expected: str) -> None:
        if wrong.any():
            row = int(np.argmax(wrong))
            found = ",".join(f"{number:g}" for number in table[row])
            raise DataError(f"{path}:{numbers[row]}: expected {expected}, found {found}")

    ids, time, flags = table[:, 0], table[:, 1], table[:, 2 + D :]
    refuse((ids < 0) | (ids != np.round(ids)), "a whole number as ID")
    refuse((time < 0) | (time > END), f"a Time in 0..{END}")
    refuse(~np.isin(flags, (0, 1)).all(1), "flags of 0 and 1")
    again = np.ones(len(table), dtype=bool)
    again[np.unique(table[:, :2], axis=0, return_index=True)[1]] = False
    refuse(again, "one row for each ID and Time")
    return table


def fold(n: int, *, seed: int, fractions: Sequence[float]) -> base.Parts:
    """Split `n` series as the file's makers drew their fold 0.

    One stream of NumPy's old generator permutes all series, the first of which are the test set,
    then permutes the others, the first of which are the validation set; both numbers are rounded
    up. Whether the published indices came from just these calls could not be verified; the numbers
    agree: 801, 201 and 112 of 1,114 series.

    Parameters
    ----------
    n : int
        Number of series.
    seed : int
        432 in the published fold.
    fractions : three numbers
        Shares of train, validation and test of all series.

    Returns
    -------
    train, validation, test : (m,)
        Sorted indices.
    """
    rng = np.random.RandomState(seed)
    order = rng.permutation(n)
    n_test = _round_up(fractions[2] * n)
    test, others = order[:n_test], order[n_test:]
    n_validation = _round_up(fractions[1] / (fractions[0] + fractions[1]) * len(others))
    others = rng.permutation(others)
    return np.sort(others[n_validation:]), np.sort(others[:n_validation]), np.sort(test)


def _round_up(share: float) -> int:
    return math.ceil(round(share, 6))
