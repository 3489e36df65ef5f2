"""Text files of numbers, read more strictly than Python and spreadsheets do."""

import csv
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from datasets.errors import DataError
from datasets.files import opened

MISSING = ("", "NA", "NaN", "nan")  # what usually stands for a missing value


def number(word: str) -> float:
    """Read a finite number; Python's `float` also takes ``1_000``, ``inf`` and Arabic digits.

    Raises
    ------
    ValueError
        If the word is anything else.
    """
    value = float(word)
    if not plain(word) or not math.isfinite(value):
        raise ValueError(word)
    return value


def counts(words: Sequence[str]) -> bool:
    """Tell whether words are 0, 1, 2, ..., or three or more consecutive whole numbers.

    At the top of a file that is rather a heading, such as 1, 2, 3 or 1990, 1991, 1992, than values.
    """
    first = words[0]
    if not (plain(first) and first.isdecimal() and len(first) < 10):
        return False
    expected = [str(int(first) + k) for k in range(len(words))]
    return list(words) == expected and (first == "0" or len(words) > 2)


def plain(text: str) -> bool:
    """Tell whether the numbers in a text are written in ASCII digits, without underscores."""
    return text.isascii() and "_" not in text


def decode(raw: bytes, encoding: str, where: str) -> str:
    """Decode a line.

    Raises
    ------
    DataError
        If there is no such encoding or it does not know a byte.
    """
    try:
        return raw.decode(encoding)
    except LookupError:
        raise DataError(f"{where}: expected a known encoding, found {encoding!r}") from None
    except UnicodeError as error:
        start = error.start if isinstance(error, UnicodeDecodeError) else 0
        raise DataError(
            f"{where}: expected {encoding} text, found byte {raw[start]:#04x};"
            " a data set's option `encoding` names another encoding"
        ) from None


def csv_lines(path: Path, delimiter: str, encoding: str) -> Iterator[tuple[int, list[str]]]:
    """Yield number and words of the lines of a CSV file; empty lines are left out.

    Raises
    ------
    DataError
        If the file cannot be read or is no CSV, naming the line.
    """
    if len(delimiter) != 1:
        raise DataError(f"delimiter: expected one character, found {delimiter!r}")
    with opened(path) as file:
        lines = csv.reader(_decoded(file, path, encoding), delimiter=delimiter, strict=True)
        try:
            for words in lines:
                if words:
                    yield lines.line_num, words
        except csv.Error as error:
            reason = str(error).partition(" - ")[0]  # the rest is for programmers
            raise DataError(f"{path}:{lines.line_num}: expected CSV, found {reason}") from None


def _decoded(file: Iterable[bytes], path: Path, encoding: str) -> Iterator[str]:
    for count, raw in enumerate(file, start=1):
        text = decode(raw, encoding, f"{path}:{count}")
        yield text.removeprefix("\ufeff") if count == 1 else text  # a byte-order mark
