"""Loaders of the United States Historical Climatology Network's daily data (USHCN), as published.

A file holds a state. A line of 264 characters holds a month of one element at one station: station
(6 digits), year (4), month (2), element (4), then for each of 31 days the value (5) and its
measurement, quality and source flag (1 each). -9999 is a missing value.

=======  ===================  =========
Element  Meaning              Raw unit
=======  ===================  =========
PRCP     precipitation        0.01 inch
SNOW     snowfall             0.1 inch
SNWD     snow depth           inch
TMAX     maximum temperature  deg F
TMIN     minimum temperature  deg F
=======  ===================  =========

A record is one station in one window of four years; its rows are the days on which anything was
observed. The protocol is that of Schirmer et al. 2022:

1. Values that failed a quality check are dropped, then those more than 4 standard deviations off
   the mean of their element; the others are mapped to [0, 1] by the range of their element.
2. Records with fewer than 730 rows are dropped.
3. Of the others, 730 rows are drawn and 20 % of their 730 x 5 entries, observed or not, removed.
   What is left is the record: this makes it irregular and hides nothing that is to be predicted.

`load` applies it to 1990-1993 and all states, each part with statistics of its own and all stations
with the same draws, as published. `load_windows` applies it to all windows of one state's file,
with the statistics of the training stations for all parts and draws of its own for each record.

Raw units stay as they are, since values are scaled anyhow: they are integers, so that all sums are
exact and the digest of the data does not depend on the processor.

References
----------
Menne, Williams & Vose, "USHCN Daily Temperature, Precipitation, and Snow Data",
doi:10.3334/CDIAC/CLI.NDP019, with its data_format.txt.
Schirmer et al. 2022, "Modeling Irregular Time Series with Continuous Recurrent Units",
arXiv:2111.11344.
"""

import gzip
import io
import math
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int, Int32, Int64, Shaped, UInt8

from datasets import base
from datasets.archives import tar_members
from datasets.errors import DataError
from datasets.progress import progress

ELEMENTS = ("PRCP", "SNOW", "SNWD", "TMAX", "TMIN")
QUALITY_FLAGS = b"DGIKLMNORSTWXZ"
MISSING = -9999
LINE = 16 + 31 * 8  # characters

YEARS = 4
DAYS = 1461  # of a window; of 1898-1901 the last stays empty, since 1900 had no leap day
ROWS = int(365 * YEARS * 0.5)
REMOVED = 0.2
OUTLIER = 4  # standard deviations

STATE_FILE = re.compile(r"(state\d\d_[A-Z]{2})\.txt(\.gz)?")
MOST_BYTES = 1 << 28  # of a state's text; Maine's 12 of 1,218 stations have 15 MB

# Days are counted from 1970-01-01, elements are indices into ELEMENTS.
OBSERVATION = np.dtype([("station", "i4"), ("day", "i4"), ("element", "i1"), ("value", "i4")])
Observations = Shaped[np.ndarray, "observations"]
Rng = np.random.Generator | np.random.RandomState


def load(
    files: Sequence[Path],
    *,
    name: str,
    title: str,
    expected: Mapping[str, int],
    split: Mapping[str, Any],
) -> base.Dataset:
    """Make the published set from the archive of all states: a record a station, 1990-1993.

    Stations with observations up to 1990, from 1994 on and in 1950-2000 are split; those with too
    few rows are dropped thereafter. The published split is known by its shares and seeds, not by
    its calls, so the parts agree in size but need not hold the same stations.

    Parameters
    ----------
    files : one path
        ``ushcn_daily.tar.gz``, which is read without extracting anything to disk.
    name, title : str
        What the configuration calls the set.
    expected : mapping
        The number of ``states`` that must be found.
    split : mapping
        ``seed`` and ``fractions``, see `split_stations`.

    Raises
    ------
    DataError
        If the archive is damaged, unsafe or lacks a state, or as `read_daily`.
    """
    path = _single(files, name)
    first_year, tables, station_years = 1990, [], []
    counts: Counter[str] = Counter()
    with progress() as bar:
        states = bar.track(_states(path), expected["states"], description="Reading the states")
        for state, content in states:
            where = f"{path}:{state}"
            daily, found = read_daily(_text(content, where), where)
            year = _years(daily)
            station_years.append(np.unique(daily["station"] * np.int64(10_000) + year))
            tables.append(daily[(year >= first_year) & (year < first_year + YEARS)])
            counts += found
    _expect(path, expected, states=len(tables))
    stations, dropped = _long_lived(np.unique(np.concatenate(station_years)), first_year)
    daily = np.concatenate(tables)
    x = windows(daily[np.isin(daily["station"], stations)], stations, first_year, 1)[:, 0]
    part = split_stations(len(stations), **split)
    outliers = np.zeros(len(ELEMENTS), dtype=np.int64)
    for k in np.unique(part):
        members = part == k
        clean = without_outliers(x[members], x[members])
        outliers += _observed(x[members]) - _observed(clean)
        x[members] = min_max(clean, clean)
    enough = np.isfinite(x).any(-1).sum(-1) >= ROWS
    dropped[f"fewer than {ROWS} rows"] = int((~enough).sum())
    x, stations, part = x[enough], stations[enough], part[enough]
    for record in x:
        thin(record, np.random.RandomState(0), np.random.RandomState(0))
    return _build(
        x,
        stations,
        np.full(len(x), first_year),
        part,
        name=name,
        title=title,
        split=split,
        files=files,
        scale="each part",
        draws="the same for all stations",
        report={
            "files of states": len(tables),
            "values": dict(counts),
            "outliers": outliers,
            "stations dropped": dropped,
        },
    )


def load_windows(
    files: Sequence[Path],
    *,
    name: str,
    title: str,
    first_year: int,
    seed: int,
    expected: Mapping[str, int],
    split: Mapping[str, Any],
) -> base.Dataset:
    """Make a set from one state's file: a record each station and four years with enough rows.

    All windows of a station are in one part. Means, deviations and ranges are those of the training
    stations, so that values of other stations may lie outside [0, 1].

    Parameters
    ----------
    files : one path
        The state's file.
    name, title : str
        What the configuration calls the set.
    first_year : int
        Where the first window starts; the next start every four years, up to the last that is
        whole. Other years are left out.
    seed : int
        Of the drawn rows and entries; those of a record depend on nothing else but its station
        and its first year.
    expected : mapping
        The numbers of ``stations`` and ``records`` that must be found.
    split : mapping
        ``seed`` and ``fractions`` of `datasets.base.split`, here of the stations.

    Raises
    ------
    DataError
        If the file is of another form (see `read_daily`) or size.
    """
    path = _single(files, name)
    daily, counts = read_daily(_text(path.read_bytes(), str(path)), str(path))
    stations = np.unique(daily["station"])
    _expect(path, expected, stations=len(stations))
    year = _years(daily)
    n_windows = (int(year.max()) + 1 - first_year) // YEARS
    if n_windows < 1:
        raise DataError(f"{path}: expected four years from {first_year} on, found none")
    whole = (year >= first_year) & (year < first_year + YEARS * n_windows)
    x = windows(daily[whole], stations, first_year, n_windows)

    part = np.zeros(len(stations), dtype=np.int64)
    for k, members in enumerate(base.split(len(stations), **split)):
        part[members] = k
    clean = without_outliers(x, x[part == 0])
    outliers = _observed(x) - _observed(clean)
    x = min_max(clean, clean[part == 0])
    rows = np.isfinite(x).any(-1).sum(-1)
    station, window = np.nonzero(rows >= ROWS)
    _expect(path, expected, records=len(station))
    x, first_years = x[station, window], first_year + YEARS * window
    for record, number, first in zip(x, stations[station], first_years, strict=True):
        rng = np.random.default_rng([seed, int(number), int(first)])
        thin(record, rng, rng)
    return _build(
        x,
        stations[station],
        first_years,
        part[station],
        name=name,
        title=title,
        split=split,
        files=files,
        scale="the training stations",
        draws=f"of each record, seed {seed}",
        report={
            "values": {**counts, "outside the windows": int((~whole).sum())},
            "outliers": outliers,
            "windows dropped": {
                "without observations": int((rows == 0).sum()),
                f"with fewer than {ROWS} rows": int(((rows > 0) & (rows < ROWS)).sum()),
            },
        },
    )


def read_daily(text: bytes, where: str) -> tuple[Observations, Counter[str]]:
    """Parse the lines of a state's file.

    Parameters
    ----------
    text : bytes
        Lines of 264 characters.
    where : str
        What messages call the file.

    Returns
    -------
    daily : (n,)
        The observations: ``station``, ``day`` (since 1970-01-01), ``element`` (index into
        `ELEMENTS`) and ``value`` (raw unit).
    counts : Counter
        Lines, and values by what became of them. Values on days that their month does not have are
        left out, as are those with one of `QUALITY_FLAGS`; other flags are not known to the format,
        and such values are kept.

    Raises
    ------
    DataError
        Naming file and line: a line of another length, something else where a number belongs, no
        such month or element, a second line for the same station, month and element.
    """
    lines = _lines(text, where)

    def refuse(wrong: Bool[np.ndarray, "m"], expected: str, columns: slice) -> None:
        if wrong.any():
            line = int(np.argmax(wrong))
            found = lines[line, columns].tobytes().decode("ascii", "backslashreplace")
            raise DataError(f"{where}:{line + 1}: expected {expected}, found {found!r}")

    digits = (lines[:, :12] - np.uint8(ord("0"))).astype(np.int32)
    station, year, month = (
        digits[:, columns] @ (10 ** np.arange(width, dtype=np.int32)[::-1])
        for columns, width in ((slice(0, 6), 6), (slice(6, 10), 4), (slice(10, 12), 2))
    )
    no_date = (digits > 9).any(1) | (month < 1) | (month > 12)
    refuse(no_date, "station, year and month in 12 digits", slice(12))
    names, which = np.unique(np.ascontiguousarray(lines[:, 12:16]).view("S4"), return_inverse=True)
    known = {element.encode(): k for k, element in enumerate(ELEMENTS)}
    element = np.array([known.get(name, -1) for name in names.tolist()], np.int8)[which.ravel()]
    refuse(element < 0, f"one of {', '.join(ELEMENTS)}", slice(12, 16))
    line_of = ((station.astype(np.int64) * 10_000 + year) * 12 + month) * len(ELEMENTS) + element
    again = np.ones(len(lines), dtype=bool)
    again[np.unique(line_of, return_index=True)[1]] = False
    refuse(again, "one line for each station, month and element", slice(16))

    days = lines[:, 16:LINE].reshape(-1, 31, 8)
    value, is_number = _integers(days[..., :5])
    first_bad = int(np.argmin(is_number.all(0)))  # a day; 0 if none is bad
    columns = slice(16 + 8 * first_bad, 21 + 8 * first_bad)
    refuse(~is_number[:, first_bad], f"a right-aligned integer for day {first_bad + 1}", columns)
    months = ((year - 1970) * 12 + month - 1).astype("datetime64[M]")
    first, end = (m.astype("datetime64[D]").astype(np.int32) for m in (months, months + 1))
    exists = np.arange(31) < (end - first)[:, None]
    present = value != MISSING
    flag = days[..., 6]
    kept = present & exists & ~np.isin(np.arange(256), list(QUALITY_FLAGS))[flag]
    counts = Counter(
        {
            "lines": len(lines),
            "kept": int(kept.sum()),
            "missing": int((exists & ~present).sum()),
            "no such day, dropped": int((present & ~exists).sum()),
        }
    )
    for code, n in enumerate(np.bincount(flag[present & exists], minlength=256).tolist()):
        if n and code != ord(" "):
            fate = "dropped" if code in QUALITY_FLAGS else "kept, though unknown"
            counts[f"quality flag {chr(code)}, {fate}"] = n
    line, day = np.nonzero(kept)
    daily = np.empty(len(line), OBSERVATION)
    daily["station"], daily["element"] = station[line], element[line]
    daily["day"], daily["value"] = first[line] + day, value[kept]
    return daily, counts


def windows(
    daily: Observations, stations: Int[np.ndarray, "S"], first_year: int, n: int
) -> Float64[np.ndarray, "S n 1461 5"]:
    """Lay observations on the days of `n` windows, NaN elsewhere; `stations` are sorted."""
    years = first_year + YEARS * np.arange(n + 1) - 1970
    start = years.astype("datetime64[Y]").astype("datetime64[D]").astype(np.int64)
    station = np.searchsorted(stations, daily["station"])
    window = np.searchsorted(start, daily["day"], side="right") - 1
    x = np.full((len(stations), n, DAYS, len(ELEMENTS)), np.nan)
    x[station, window, daily["day"] - start[window], daily["element"]] = daily["value"]
    return x


def without_outliers(
    x: Float64[np.ndarray, "*records D"], reference: Float64[np.ndarray, "*others D"]
) -> Float64[np.ndarray, "*records D"]:
    """Drop values of `x` over 4 sample standard deviations off the mean of `reference`.

    Both hold integers, or NaN where nothing was observed; each element (last axis) is by itself.
    """
    x = x.copy()
    for k in range(x.shape[-1]):
        values = reference[..., k]
        integers = values[np.isfinite(values)].astype(np.int64)
        # Python's integers do not overflow; n times the sum of squares may need more than 64 bits.
        n, total, squares = len(integers), int(integers.sum()), int((integers**2).sum())
        if n > 1:
            deviation = math.sqrt((n * squares - total**2) / (n * (n - 1)))
            x[..., k][np.abs(x[..., k] - total / n) > OUTLIER * deviation] = np.nan
    return x


def min_max(
    x: Float64[np.ndarray, "*records D"], reference: Float64[np.ndarray, "*others D"]
) -> Float64[np.ndarray, "*records D"]:
    """Map the range of each element (last axis) of `reference` to [0, 1], NaN left out.

    If it is a single value, that becomes 0 and the unit stays.
    """
    values = reference.reshape(-1, reference.shape[-1])
    low, high = np.fmin.reduce(values), np.fmax.reduce(values)
    return (x - low) / np.where(high > low, high - low, 1)


def thin(record: Float64[np.ndarray, "L D"], rows_rng: Rng, entries_rng: Rng) -> None:
    """Keep, in place, 730 of the rows in which anything was observed and 80 % of their entries."""
    rows = np.flatnonzero(np.isfinite(record).any(1))
    rows = np.sort(rows[rows_rng.choice(len(rows), ROWS, replace=False)])
    removed = np.zeros(ROWS * record.shape[1], dtype=bool)
    removed[entries_rng.choice(len(removed), int(REMOVED * len(removed)), replace=False)] = True
    kept = np.where(removed.reshape(ROWS, -1), np.nan, record[rows])
    record[:] = np.nan
    record[rows] = kept


def split_stations(n: int, *, seed: int, fractions: Sequence[float]) -> Int64[np.ndarray, "n"]:
    """Return the part of each station, an index into `datasets.base.PARTS`.

    Test stations are drawn from `seed`, then validation stations among the others from `seed + 1`;
    both numbers are rounded up.
    """
    validation, test = (math.ceil(round(share * n, 6)) for share in fractions[1:])
    if validation + test >= n:
        raise DataError(f"split: expected enough stations for {list(fractions)}, found {n}")
    part = np.zeros(n, dtype=np.int64)
    part[np.random.default_rng(seed).choice(n, test, replace=False)] = 2
    others = np.flatnonzero(part == 0)
    part[np.random.default_rng(seed + 1).choice(others, validation, replace=False)] = 1
    return part


def _build(
    x: Float64[np.ndarray, "N 1461 5"],
    stations: Int[np.ndarray, "N"],
    first_years: Int[np.ndarray, "N"],
    part: Int64[np.ndarray, "N"],
    *,
    name: str,
    title: str,
    split: Mapping[str, Any],
    files: Sequence[Path],
    scale: str,
    draws: str,
    report: dict[str, Any],
) -> base.Dataset:
    if not len(x):
        raise DataError(f"data set {name}: expected records with {ROWS} rows, found none")
    t = np.broadcast_to(np.arange(DAYS, dtype=np.float32) / np.float32(DAYS), x.shape[:2])
    t, x32, mask = base.compact(t, x, np.isfinite(x))
    train, validation, test = (np.flatnonzero(part == k) for k in range(len(base.PARTS)))
    windows_of = {name: {} for name in base.PARTS}
    for station, first, k in zip(stations.tolist(), first_years.tolist(), part, strict=True):
        windows_of[base.PARTS[k]].setdefault(f"{station:06d}", []).append(first)
    return base.build(
        name=name,
        title=title,
        x=x32,
        t=t,
        mask=mask,
        group=stations.astype(np.int64),
        split_options=split,
        parts=(train, validation, test),
        normalisation=f"outliers dropped, then min-max of each element, both by {scale}",
        unit="range of the element (raw: 0.01 inch, 0.1 inch, inch, deg F, deg F)",
        time=f"{YEARS} years ({DAYS} days)",
        channels=ELEMENTS,
        files=files,
        options={
            "rows drawn": ROWS,
            "entries removed": REMOVED,
            "draws": draws,
            "outliers": f"over {OUTLIER} standard deviations off the mean",
        },
        report={
            **report,
            "outliers": dict(zip(ELEMENTS, report["outliers"].tolist(), strict=True)),
            "first years by station": windows_of,
        },
    )


def _single(files: Sequence[Path], name: str) -> Path:
    if len(files) != 1:
        raise DataError(f"data set {name}: expected one file, found {len(files)}")
    return Path(files[0])


def _expect(path: Path, expected: Mapping[str, int], **found: int) -> None:
    for what, n in found.items():
        if n != expected[what]:
            raise DataError(f"{path}: expected {expected[what]} {what}, found {n}")


def _long_lived(
    station_years: Int64[np.ndarray, "_"], first_year: int
) -> tuple[Int64[np.ndarray, "S"], dict[str, int]]:
    """Return the stations of the published set, and the numbers of others by what they lack."""
    station, year = np.divmod(station_years, 10_000)
    stations, start = np.unique(station, return_index=True)
    lack = {
        f"nothing up to {first_year}": year[start] > first_year,
        f"nothing from {first_year + YEARS} on": np.maximum.reduceat(year, start)
        < first_year + YEARS,
        "nothing in 1950-2000": ~np.isin(stations, station[(year >= 1950) & (year <= 2000)]),
    }
    kept = ~np.any(list(lack.values()), axis=0)
    return stations[kept], {what: int(those.sum()) for what, those in lack.items()}


def _years(daily: Observations) -> Int64[np.ndarray, "observations"]:
    days = daily["day"].astype("datetime64[D]")
    return days.astype("datetime64[Y]").astype(np.int64) + 1970


def _observed(x: Float64[np.ndarray, "*records D"]) -> Int64[np.ndarray, "D"]:
    return np.isfinite(x).reshape(-1, x.shape[-1]).sum(0)


def _lines(text: bytes, where: str) -> UInt8[np.ndarray, "m 265"]:
    characters = np.frombuffer(text if text.endswith(b"\n") else text + b"\n", np.uint8)
    ends = np.flatnonzero(characters == ord("\n"))
    wrong = np.diff(ends, prepend=-1) != LINE + 1
    if wrong.any():
        line = int(np.argmax(wrong))
        length = np.diff(ends, prepend=-1)[line] - 1
        raise DataError(f"{where}:{line + 1}: expected {LINE} characters, found {length}")
    return characters.reshape(-1, LINE + 1)


def _integers(
    text: UInt8[np.ndarray, "*shape width"],
) -> tuple[Int32[np.ndarray, "*shape"], Bool[np.ndarray, "*shape"]]:
    """Read right-aligned decimal integers; the second array says where there was one."""
    value = np.zeros(text.shape[:-1], dtype=np.int32)
    negative, begun, ok = (np.zeros(text.shape[:-1], dtype=bool) for _ in range(3))
    wrong = np.zeros(text.shape[:-1], dtype=bool)
    for k in range(text.shape[-1]):
        character = text[..., k]
        digit = character - np.uint8(ord("0"))
        ok = digit < 10
        minus, blank = character == ord("-"), character == ord(" ")
        wrong |= ~ok & (begun | ~(minus | blank))
        begun |= ~blank
        negative |= minus
        value = 10 * value + np.where(ok, digit, 0)
    return np.where(negative, -value, value), ~wrong & ok


def _states(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of each state; the archive holds all states in one file, too."""
    seen = set()
    try:
        with tar_members(path) as members:
            for member, _, content in members:
                name = PurePosixPath(member).name
                if (match := STATE_FILE.fullmatch(name)) is None:
                    continue
                if match[1] in seen:
                    raise DataError(f"expected each state once, found {name} again")
                seen.add(match[1])
                yield name, content.read(MOST_BYTES + 1)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


def _text(content: bytes, where: str) -> bytes:
    """Unpack a state's file, if it is packed, up to a size that none has."""
    if content.startswith(b"\x1f\x8b"):
        try:
            with gzip.open(io.BytesIO(content)) as file:
                content = file.read(MOST_BYTES + 1)
        except (EOFError, zlib.error, OSError) as error:
            raise DataError(f"{where}: expected a gzip file, found {error}") from None
    if len(content) > MOST_BYTES:
        raise DataError(f"{where}: expected at most {MOST_BYTES} bytes of text, found more")
    return content
