"""Loader of regular series: N x L x D as .npy, .npz or CSV, or series of a .tsf file.

Missing values are NaN (``?`` in .tsf, one of `missing` in CSV) and become a mask.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from datasets import base
from datasets.assemble import Rows, assemble
from datasets.errors import DataError
from datasets.files import load_array, load_arrays
from datasets.normalisation import expect
from datasets.text import MISSING, counts, csv_lines, number
from datasets.tsf import read_tsf
from datasets.windows import of_steps


def load(
    files: Sequence[Path],
    *,
    name: str,
    title: str,
    split: Mapping[str, Any],
    channels: Sequence[str] = ("value",),
    unit: str = "that of the file",
    step: str = "1 step",
    normalise: str = "zscore",
    by: str = "channel",
    unequal: str = "refuse",
    window: Mapping[str, int] | None = None,
    header: bool | None = None,
    missing: Sequence[str] = MISSING,
    delimiter: str = ",",
    encoding: str = "utf-8",
) -> base.Dataset:
    """Read series on a regular grid, normalise and split by series.

    Parameters
    ----------
    files : one path
        ``.npy`` or ``.npz`` (one array, or one called ``x``): (N, L, D), or (N, L) for one
        channel. ``.csv``: a line is a series, the D values of its first step, those of the second,
        and so on. ``.tsf``: one channel.
    name, title : str
        What the configuration calls the set.
    split : mapping
        ``seed`` and ``fractions`` of `datasets.base.split`.
    channels : names
        Of the D channels, in their order.
    unit, step : str
        Unit of the values, and time between two steps, for readers.
    normalise : {"zscore", "minmax", "none"}
    by : {"channel", "series"}
        As `datasets.normalisation.normalise` takes them.
    unequal : {"refuse", "mask"}
        What to do with series of different lengths: refuse the file, or mask what shorter ones
        lack at their ends. `window` needs neither.
    window : mapping, optional
        ``length`` and ``stride`` in steps: each series is cut into whole windows, and those of one
        series stay in one part of the split.
    header : bool, optional
        Whether a CSV file begins with names. Without it, a first line without any number, or of
        0, 1, 2, ..., is taken as one.
    missing : words
        What stands for a missing value in CSV.
    delimiter, encoding : str
        Of a text file.

    Raises
    ------
    DataError
        If the file or an option is not as described, naming file and line.
    """
    expect(unequal, ("refuse", "mask"), f"data set {name}: unequal")
    if not channels:
        raise DataError(f"data set {name}: channels: expected at least one name, found none")
    if len(files) != 1:
        raise DataError(f"data set {name}: expected one file, found {len(files)}")
    path, D = Path(files[0]), len(channels)
    kind = path.suffix.lower()
    expect(kind, (".npy", ".npz", ".csv", ".tsf"), f"{path}: name")
    if kind == ".tsf":
        tsf = read_tsf(path, encoding)
        ids, series = tsf.names, [values[:, None] for values in tsf.series]
        step = tsf.frequency
    else:
        if kind == ".csv":
            series = _read_csv(path, D, header, missing, delimiter, encoding)
        else:
            series = list(_read_array(path))
        ids = [str(k) for k in range(len(series))]
    if series[0].shape[1] != D:
        raise DataError(f"{path}: expected {D} channels, found {series[0].shape[1]}")
    lengths = [len(values) for values in series]
    if window is None and unequal == "refuse" and len(set(lengths)) > 1:
        other = next(k for k, n in enumerate(lengths) if n != lengths[0])
        raise DataError(
            f"{path}: expected series of one length, found {lengths[0]} steps in series {ids[0]}"
            f" and {lengths[other]} in series {ids[other]}; `unequal: mask` or `window` allows it"
        )
    try:
        return assemble(
            _rows(series, lengths, window, channels, ids),
            name=name,
            title=title,
            files=files,
            split=split,
            normalise_by=(normalise, by),
            unit=unit,
            time=f"the longest series, in steps of {step}",
            options={"window": dict(window) if window else None, "unequal": unequal, "step": step},
        )
    except DataError as error:
        raise DataError(f"data set {name}: {error}") from None


def _rows(
    series: Sequence[Float64[np.ndarray, "_ D"]],
    lengths: Sequence[int],
    window: Mapping[str, int] | None,
    channels: Sequence[str],
    ids: Sequence[str],
) -> Rows:
    """Lay series, or their windows, one below the other; those without a value are left out."""
    x = np.concatenate(series)
    if window is None:
        last = np.cumsum(lengths)
        pieces = [np.arange(end - n, end) for n, end in zip(lengths, last, strict=True)]
        origin, report = list(range(len(series))), {}
    else:
        pieces, origin, report = of_steps(lengths, window)
    known = [bool(np.isfinite(x[piece]).any()) for piece in pieces]
    kept = [k for k, any_value in enumerate(known) if any_value]
    if not kept:
        raise DataError("expected values, found only missing ones")
    sizes = [len(pieces[k]) for k in kept]
    if max(sizes) < 2:
        raise DataError("expected series of at least 2 steps, found 1")
    steps = np.concatenate([np.arange(size) for size in sizes])
    return Rows(
        record=np.repeat(np.arange(len(kept)), sizes),
        t=steps / (max(sizes) - 1),
        x=x[np.concatenate([pieces[k] for k in kept])],
        origin=np.array([origin[k] for k in kept]),
        channels=list(channels),
        ids=ids,
        windowed=window is not None,
        report={**report, "left out without a value": len(pieces) - len(kept)},
    )


def _read_array(path: Path) -> Float64[np.ndarray, "N L D"]:
    if path.suffix.lower() == ".npz":
        arrays = load_arrays(path, set())
        if "x" not in arrays and len(arrays) != 1:
            raise DataError(f"{path}: expected one array, or one called x, found {list(arrays)}")
        array = arrays.get("x", next(iter(arrays.values())))
    else:
        array = load_array(path)
    if array.dtype.kind not in "fiu":
        raise DataError(f"{path}: expected real numbers, found {array.dtype}")
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or not array.size:
        raise DataError(f"{path}: expected (N, L, D) or (N, L), not empty, found {array.shape}")
    array = array.astype(np.float64)
    if np.isinf(array).any():
        place = tuple(int(k) for k in np.argwhere(np.isinf(array))[0])
        raise DataError(f"{path}: expected finite values or NaN, found infinity at {place}")
    return array


def _read_csv(
    path: Path,
    D: int,
    header: bool | None,
    missing: Sequence[str],
    delimiter: str,
    encoding: str,
) -> list[Float64[np.ndarray, "_ D"]]:
    series = []
    for line, words in csv_lines(path, delimiter, encoding):
        where = f"{path}:{line}"
        if not series and (_is_header(words, where) if header is None else header):
            header = False
            continue
        header = False
        if len(words) % D:
            raise DataError(f"{where}: expected a multiple of {D} values, found {len(words)}")
        values = np.empty(len(words))
        for k, word in enumerate(words):
            try:
                values[k] = np.nan if word.strip() in missing else number(word)
            except ValueError:
                raise DataError(
                    f"{where}: expected a number as value {k + 1}, found {word!r}"
                ) from None
        series.append(values.reshape(-1, D))
    if not series:
        raise DataError(f"{path}: expected a series a line, found none")
    return series


def _is_header(words: Sequence[str], where: str) -> bool:
    if len(words) > 2 and not words[0] and counts(words[1:]):
        raise DataError(f"{where}: expected values, found the header of a column of row numbers")
    if words[0] != "0" and counts(words):
        raise DataError(
            f"{where}: expected values, found {words[0]}, {words[1]}, {words[2]}, ...;"
            " `header: true` or `header: false` says whether they are names"
        )
    return counts(words) or (any(words) and not any(map(_is_number, words)))


def _is_number(word: str) -> bool:
    try:
        number(word)
    except ValueError:
        return False
    return True
