"""What lies below folders of results: records, and beside each record its arrays and its history.

A cell's directory holds ``record.json``, ``summary.npz`` (small arrays for the figures, see
`harness.run.summary`) and, if the cell was trained, ``history.jsonl`` (a row every few steps). Some
cells have a ``trace.json`` as well.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from datasets.files import load_arrays
from harness import records
from harness.errors import UserError
from harness.present.quantities import MUST_AGREE
from harness.records import ERRORS, HISTORY, IDENTITY, RECORD, SUMMARY, Record
from harness.tasks import TABLE_OF
from harness.texts import parse_json, read_text
from harness.traces import TRACE, Trace, read_trace

ARTIFACTS = "mlflow"  # folder of a database of runs and their files


def record_files(folder: Path) -> list[Path]:
    """Return the records below a folder, in order; not the copies of MLflow, below ``mlflow/``."""
    found = sorted(folder.rglob(RECORD))
    return [path for path in found if ARTIFACTS not in path.relative_to(folder).parts]


def find(folders: Sequence[Path]) -> dict[Path, Record]:
    """Read the records below some folders, by their cells' directories.

    A control that two folders have, on the same data and scored in the same way, is read from the
    first one.

    Raises
    ------
    UserError
        If a folder is absent, there is no record, one or a file beside it is damaged, a file that
        it names is absent, or two are of the same cell of a model, or of a control that was scored
        in two ways.
    """
    for folder in folders:
        if not folder.is_dir():
            found = "a file" if folder.exists() else "none"
            raise UserError(f"{folder}: expected a folder of results, found {found}")
    paths = [path for folder in folders for path in record_files(folder)]
    if not paths:
        raise UserError(f"{', '.join(map(str, folders))}: no {RECORD} below")
    found = {path.parent: records.read(path) for path in paths}
    for folder, record in found.items():
        for name in (SUMMARY, ERRORS, HISTORY):
            records.verify(folder, name, record.files)
    first: dict[tuple[Any, ...], Path] = {}
    for folder, record in found.items():
        other = first.setdefault(identity(record), folder)
        if other != folder and not _same_control(found[other], record):
            cell = "/".join(map(str, identity(record)))
            raise UserError(
                f"expected one record of the cell {cell}, found {other / RECORD} and"
                f" {folder / RECORD}; harness compare takes both"
            )
    return {folder: found[folder] for folder in first.values()}


def _same_control(one: Record, other: Record) -> bool:
    """Whether two records are of one control, which no training can make differ."""
    fields = ("control", "status", *MUST_AGREE[TABLE_OF[one.task]])
    same = all(getattr(one, field) == getattr(other, field) for field in fields)
    return one.control and same


def identity(record: Record) -> tuple[Any, ...]:
    """Return what identifies a cell; records are sorted by it."""
    return tuple(getattr(record, key) for key in IDENTITY)


def summary(cell: Path) -> dict[str, np.ndarray]:
    """Return the summary's arrays; none where the cell has no samples or no such file.

    Raises
    ------
    DataError
        If the file is damaged or holds pickled objects.
    """
    path = cell / SUMMARY
    return load_arrays(path, set()) if path.exists() else {}


def history(cell: Path) -> pd.DataFrame:
    """Return the rows of the training history; none for a control, or without such a file.

    Raises
    ------
    UserError
        If a line is no row with a step.
    """
    path = cell / HISTORY
    if not path.exists():
        return pd.DataFrame()
    lines = read_text(path).splitlines()
    rows = [parse_json(line, f"{path}:{number}") for number, line in enumerate(lines, start=1)]
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict) or not isinstance(row.get("step"), int):
            raise UserError(f"{path}:{number}: expected a row with a step, found {row!r:.80}")
    return pd.DataFrame(rows)


def trace(cell: Path) -> Trace | None:
    """Return the trace of a cell; None without such a file.

    Raises
    ------
    UserError
        If the file is no trace.
    """
    path = cell / TRACE
    return read_trace(path) if path.exists() else None
