"""Loader of a long table, CSV or Parquet: a line is a value, with its series, time and channel.

Series may have their own times and lengths, and channels their own gaps.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from datasets import base
from datasets.assemble import Rows, assemble
from datasets.errors import DataError
from datasets.files import opened, parsing
from datasets.normalisation import expect
from datasets.text import MISSING, csv_lines, number
from datasets.windows import of_time

SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86400}
Line = tuple[int, list[str]]  # its number in the file; series, time, channel, value


def load(
    files: Sequence[Path],
    *,
    name: str,
    title: str,
    split: Mapping[str, Any],
    time_unit: str,
    dates: bool = False,
    id: str = "id",
    time: str = "time",
    channel: str | None = "channel",
    value: str = "value",
    channels: Sequence[str] | None = None,
    unit: str = "that of the file",
    clock: str = "own",
    normalise: str = "zscore",
    by: str = "channel",
    window: Mapping[str, int | float] | None = None,
    missing: Sequence[str] = MISSING,
    delimiter: str = ",",
    encoding: str = "utf-8",
) -> base.Dataset:
    """Read a table, normalise and split by series. The order of its lines does not matter.

    Parameters
    ----------
    files : one path
        ``.parquet`` or ``.csv``.
    name, title : str
        What the configuration calls the set.
    split : mapping
        ``seed`` and ``fractions`` of `datasets.base.split`.
    time_unit : str
        Unit of the times, such as ``h``. Dates are converted to it: s, min, h or d.
    dates : bool
        Times are ISO dates such as 2024-05-01T12:30:00Z, either all with a zone or all without.
    id, time, channel, value : str
        Names of the columns. `channel` null: one channel, which is called like the values.
    channels : names, optional
        The channels to read, in this order; without it all, sorted.
    unit : str
        Unit of the values, for readers.
    clock : {"own", "common"}
        Times count from the first of each series, or from the first of all.
    normalise : {"zscore", "minmax", "none"}
    by : {"channel", "series"}
        As `datasets.normalisation.normalise` takes them.
    window : mapping, optional
        ``length`` and ``stride`` in `time_unit`: each series is cut as `datasets.windows.of_time`
        does, and the windows of one series stay in one part of the split.
    missing : words
        What stands for a missing value.
    delimiter, encoding : str
        Of a CSV file.

    Raises
    ------
    DataError
        If the file or an option is not as described, naming file and line.
    """
    expect(clock, ("own", "common"), f"data set {name}: clock")
    if dates:
        expect(time_unit, tuple(SECONDS), f"data set {name}: time_unit")
    if len(files) != 1:
        raise DataError(f"data set {name}: expected one file, found {len(files)}")
    path = Path(files[0])
    kind = path.suffix.lower()
    expect(kind, (".csv", ".parquet"), f"{path}: name")
    columns = [id, time, channel, value]
    is_csv = kind == ".csv"
    lines = _csv(path, columns, delimiter, encoding) if is_csv else _parquet(path, columns)
    table = read_table(path, lines, missing, SECONDS[time_unit] if dates else None)
    try:
        rows, longest = _rows(table, channels, clock, window)
        return assemble(
            rows,
            name=name,
            title=title,
            files=files,
            split=split,
            normalise_by=(normalise, by),
            unit=unit,
            time=f"{longest:g} {time_unit}",
            options={"clock": clock, "window": dict(window) if window else None},
        )
    except DataError as error:
        raise DataError(f"data set {name}: {error}") from None


def read_table(
    path: Path, lines: Iterable[Line], missing: Sequence[str], seconds: int | None
) -> pd.DataFrame:
    """Turn the words of a table into numbers, and sort them by series, time and channel.

    Parameters
    ----------
    path : Path
        For messages.
    lines : (number, (series, time, channel, value)), ...
    missing : words
        What stands for a missing value, which becomes NaN.
    seconds : int, optional
        Times are dates, and this is their unit; without it they are numbers.

    Returns
    -------
    DataFrame
        With columns series, time, channel, value. Dates count from the first in the file.

    Raises
    ------
    DataError
        Naming the line: an empty name, a time or value that is no number, a second value of the
        same series, time and channel.
    """
    first: datetime | None = None
    rows = []
    for line, (series, when, channel, word) in lines:
        if not series or not channel:
            raise DataError(f"{path}:{line}: expected names of series and channel, found none")
        try:
            if seconds is None:
                time = number(when)
            else:
                date = datetime.fromisoformat(when)
                first = first or date
                time = (date - first).total_seconds() / seconds
        except ValueError:
            expected = "a number" if seconds is None else "an ISO date"
            hint = "; `dates: true` reads dates" if seconds is None else ""
            raise DataError(
                f"{path}:{line}: expected {expected} as time, found {when!r}{hint}"
            ) from None
        except TypeError:  # dates with and without a zone have no difference
            kind = "without" if first and first.tzinfo is None else "with"
            raise DataError(
                f"{path}:{line}: expected a date {kind} a time zone as before, found {when!r}"
            ) from None
        try:
            value = np.nan if word in missing else number(word)
        except ValueError:
            raise DataError(f"{path}:{line}: expected a number as value, found {word!r}") from None
        rows.append((series, time, channel, value, line))
    if not rows:
        raise DataError(f"{path}: expected lines below the header, found none")
    key = ["series", "time", "channel"]
    table = pd.DataFrame(rows, columns=[*key, "value", "line"])
    if (again := table.duplicated(key)).any():
        second = table[again].iloc[0]
        same = (table[key] == second[key]).all(axis=1)
        raise DataError(
            f"{path}:{second['line']}: expected one value of series {second['series']!r}, time"
            f" {second['time']:g}, channel {second['channel']!r}, found another in line"
            f" {table[same]['line'].iloc[0]}"
        )
    return table.sort_values(key, kind="stable", ignore_index=True)


def _csv(
    path: Path, columns: Sequence[str | None], delimiter: str, encoding: str
) -> Iterator[Line]:
    """Yield the lines of a CSV file; a column None is the name of the last one."""
    lines = csv_lines(path, delimiter, encoding)
    header = next(lines, (1, []))[1]
    places = [_place(path, header, column) for column in columns if column is not None]
    for line, words in lines:
        if len(words) != len(header):
            raise DataError(f"{path}:{line}: expected {len(header)} words, found {len(words)}")
        wanted = [words[place].strip() for place in places]
        if None in columns:
            wanted.insert(2, str(columns[3]))
        yield line, wanted


def _parquet(path: Path, columns: Sequence[str | None]) -> Iterator[Line]:
    """Yield the rows of a Parquet file as words, the first as line 1."""
    damaged = f"{path}: expected a Parquet file, found none, or a damaged one"
    try:
        with opened(path) as file, parsing(damaged):
            frame = pd.read_parquet(file)
    except ImportError:
        raise DataError(f"{path}: expected pyarrow, which reads Parquet, found none") from None
    header = [str(column) for column in frame.columns]
    places = [_place(path, header, column) for column in columns if column is not None]
    words = [_words(frame.iloc[:, place]) for place in places]
    if None in columns:
        words.insert(2, [str(columns[3])] * len(frame))
    yield from ((row, list(line)) for row, line in enumerate(zip(*words, strict=True), start=1))


def _words(column: pd.Series) -> list[str]:
    if pd.api.types.is_float_dtype(column.dtype):
        column = column.astype("float64")  # a single-precision number has other digits
    dates = pd.api.types.is_datetime64_any_dtype(column.dtype)
    known = column.notna()
    return [
        "" if not there else value.isoformat() if dates else str(value)
        for value, there in zip(column, known, strict=True)
    ]


def _place(path: Path, header: Sequence[str], column: str) -> int:
    if header.count(column) != 1:
        found = ", ".join(map(repr, header)) or "an empty file"
        raise DataError(f"{path}: expected one column {column!r}, found {found:.200}")
    return header.index(column)


def _rows(
    table: pd.DataFrame,
    channels: Sequence[str] | None,
    clock: str,
    window: Mapping[str, int | float] | None,
) -> tuple[Rows, float]:
    """Lay channels side by side and cut windows; return what is 1 on the time axis, too.

    Raises
    ------
    DataError
        If there is no value, or none of a wanted channel, or no series has two times.
    """
    known = table[table["value"].notna()]
    names = sorted(known["channel"].unique()) if channels is None else list(channels)
    absent = [name for name in names if name not in set(known["channel"])]
    if absent or not names:
        raise DataError(f"expected values of channel {(absent or ['any'])[0]}, found none")
    wanted = known[known["channel"].isin(names)]
    wide = wanted.set_index(["series", "time", "channel"])["value"].unstack("channel")[names]
    ids, series = np.unique(wide.index.get_level_values("series"), return_inverse=True)
    time = wide.index.get_level_values("time").to_numpy(dtype=np.float64)
    start = np.full(len(ids), time.min())
    if clock == "own":
        start = time[np.searchsorted(series, np.arange(len(ids)))]
    time = time - start[series]
    report: dict[str, Any] = {
        "lines": len(table),
        "lines without a value": len(table) - len(known),
        "lines of channels that are not read": len(known) - len(wanted),
        "series without a value": int(table["series"].nunique()) - len(ids),
    }
    if window is None:
        record, origin, x = series, np.arange(len(ids)), wide.to_numpy(dtype=np.float64)
        longest = float(time.max())
    else:
        pieces, of, starts, left_out = of_time(series, time, window)
        rows = np.concatenate(pieces)
        record = np.repeat(np.arange(len(pieces)), [len(piece) for piece in pieces])
        origin, x = np.array(of), wide.to_numpy(dtype=np.float64)[rows]
        time, longest = time[rows] - starts[record], float(window["length"])
        report |= left_out
    if longest == 0:
        raise DataError("expected a series with two times, found none")
    t = np.clip(time / longest, 0, 1)
    return Rows(record, t, x, origin, names, ids.tolist(), window is not None, report), longest
