"""A strict reader of .tsf files, the text format of the Monash forecasting archive.

A file is: comment lines (``#``), header lines (``@key value``), ``@data``, then one series a line,
its attributes and its values separated by colons, the values by commas, a missing value as ``?``.

References
----------
Godahewa et al. 2021, "Monash Time Series Forecasting Archive", arXiv:2105.06643.
"""

import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from datasets.errors import DataError
from datasets.files import opened
from datasets.text import decode, number, plain

HEADER = ("relation", "attribute", "frequency", "horizon", "missing", "equallength")
OPTIONAL = ("horizon",)
VALUES = {"missing": "true|false", "equallength": "true|false", "horizon": "[0-9]{1,9}"}
TYPES = ("string", "numeric", "date")
DATE = "%Y-%m-%d %H-%M-%S"
MISSING = "?"


@dataclass(frozen=True)
class TsfFile:
    """What a .tsf file says.

    Attributes
    ----------
    relation : str
        The data set's own name.
    attributes : dict
        Name of each attribute of a series and its type: string, numeric or date.
    frequency : str
        As written, such as ``monthly``.
    horizon : int or None
        The archive's forecasting horizon, where the file names one.
    missing, equal_length : bool
        The file's claims that values may be missing and that all series are equally long.
    names : list of str
        Each series' attributes other than dates, joined by ``/``, no two equal; where there are
        none, the series' place in the file: 1, 2, ...
    starts : list of datetime or None
        Each series' date attribute, if there is one.
    series : list of (L_i,) arrays
        Values as written, NaN where missing.
    """

    relation: str
    attributes: dict[str, str]
    frequency: str
    horizon: int | None
    missing: bool
    equal_length: bool
    names: list[str]
    starts: list[datetime | None]
    series: list[Float64[np.ndarray, "_"]]


def read_tsf(path: Path, encoding: str = "utf-8") -> TsfFile:
    """Read a .tsf file and check all that it claims about itself.

    Comment lines are never decoded, so that a stray byte in them does no harm.

    Raises
    ------
    DataError
        Naming file and line: an unknown, repeated or absent header line, the wrong number of
        attributes, a value that is no number, missing values in a file that claims none, a series
        that is empty, wholly missing or of another length than the first in a file that claims
        equal lengths, two series of one name, bytes that `encoding` does not know.
    """
    path = Path(path)
    names: dict[str, str] = {}  # name of a series -> where it stands
    starts: list[datetime | None] = []
    series: list[np.ndarray] = []
    with opened(path) as file:
        lines = _lines(file, path, encoding)
        header, attributes = _read_header(lines, path)
        missing = header["missing"] == "true"
        equal_length = header["equallength"] == "true"
        for where, line in lines:
            *fields, text = line.split(":")
            if len(fields) != len(attributes):
                raise DataError(
                    f"{where}: expected {len(attributes)} attributes ({', '.join(attributes)}) "
                    f"and the values, separated by colons, found {len(fields)} attributes"
                )
            name, start = _read_attributes(fields, attributes, where)
            name = name or str(len(names) + 1)
            if name in names:
                raise DataError(f"{where}: expected a new series, found {name} of {names[name]}")
            values = _read_values(text, missing, where)
            if equal_length and series and len(values) != len(series[0]):
                raise DataError(
                    f"{where}: expected {len(series[0])} values as in the first series "
                    f"(@equallength true), found {len(values)}"
                )
            names[name] = where
            starts.append(start)
            series.append(values)
    if not series:
        raise DataError(f"{path}: expected series after @data, found none")
    return TsfFile(
        relation=header["relation"],
        attributes=attributes,
        frequency=header["frequency"],
        horizon=int(header["horizon"]) if "horizon" in header else None,
        missing=missing,
        equal_length=equal_length,
        names=list(names),
        starts=starts,
        series=series,
    )


def _lines(file: Iterable[bytes], path: Path, encoding: str) -> Iterator[tuple[str, str]]:
    """Yield ``file:line`` and text of each line that is neither empty nor a comment."""
    for count, raw in enumerate(file, start=1):
        where = f"{path}:{count}"
        if not raw.endswith(b"\n"):  # such is a file that was cut in its last value
            raise DataError(f"{where}: expected a line end, found the end of the file")
        raw = raw.strip()
        if not raw or raw.startswith(b"#"):
            continue
        yield where, decode(raw, encoding, where)


def _read_header(
    lines: Iterator[tuple[str, str]], path: Path
) -> tuple[dict[str, str], dict[str, str]]:
    """Consume the lines up to ``@data``; return the header and the attributes' types."""
    header: dict[str, str] = {}
    attributes: dict[str, str] = {}
    for where, line in lines:
        if line == "@data":
            absent = [key for key in HEADER if key not in {*header, *OPTIONAL}]
            if absent:
                raise DataError(f"{where}: expected a line @{absent[0]} above @data, found none")
            return header, attributes
        key, _, value = line.partition(" ")
        key, value = key.removeprefix("@"), value.strip()
        if not line.startswith("@") or key not in HEADER:
            known = ", ".join(f"@{key}" for key in HEADER)
            raise DataError(f"{where}: expected one of {known} or @data, found {line[:40]!r}")
        if key == "attribute":
            name, _, kind = value.partition(" ")
            if kind not in TYPES or name in attributes:
                raise DataError(
                    f"{where}: expected @attribute with a new name and one of {', '.join(TYPES)}, "
                    f"found {line!r}"
                )
            attributes[name] = kind
        elif key in header:
            raise DataError(f"{where}: expected @{key} once, found it again")
        if key in VALUES and not re.fullmatch(VALUES[key], value):
            raise DataError(f"{where}: expected @{key} {VALUES[key]}, found {value[:40]!r}")
        header[key] = value
    raise DataError(f"{path}: expected a line @data, found none")


def _read_attributes(
    fields: list[str], attributes: dict[str, str], where: str
) -> tuple[str, datetime | None]:
    """Return the name of a series and its start."""
    words, start = [], None
    for field, (attribute, kind) in zip(fields, attributes.items(), strict=True):
        try:
            if kind == "date":
                start = datetime.strptime(field, DATE)
                continue
            if kind == "numeric":
                number(field)
        except ValueError:
            raise DataError(
                f"{where}: expected a {kind} for attribute {attribute}, found {field!r}"
            ) from None
        words.append(field)
    return "/".join(words), start


def _read_values(text: str, missing: bool, where: str) -> Float64[np.ndarray, "_"]:
    words = text.split(",")
    if words == [""]:
        raise DataError(f"{where}: expected values, found an empty series")
    holes = words.count(MISSING)
    if holes and not missing:
        raise DataError(f"{where}: expected no missing value (@missing false), found {holes}")
    if holes == len(words):
        raise DataError(f"{where}: expected values, found only missing ones")
    with suppress(ValueError):
        values = np.array([np.nan if word == MISSING else float(word) for word in words])
        if plain(text) and np.isfinite(values).sum() == len(words) - holes:
            return values
    position, word = next((k, w) for k, w in enumerate(words, 1) if not _is_value(w))
    raise DataError(f"{where}: expected a number or ? as value {position}, found {word!r}")


def _is_value(word: str) -> bool:
    try:
        number(word)
    except ValueError:
        return word == MISSING
    return True
