"""What the commands share: common options, files that they read, and what they print."""

import argparse
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from harness.cells import Scoring
from harness.checks import check_json
from harness.config import DatasetFile, Evaluation

# Adds a command to the parser, under the function's name or another one.
Add = Callable[..., argparse.ArgumentParser]

DATA: dict[str, Any] = {
    "type": Path,
    "default": Path("data"),
    "help": "folder of downloads (default: data)",
}
MIRROR: dict[str, Any] = {
    "type": Path,
    "default": os.environ.get("LS4_MIRROR") or None,
    "help": "folder that holds the sources already (default: $LS4_MIRROR)",
}
PREPARED: dict[str, Any] = {"type": Path, "required": True, "help": "prepared data set"}
CELL: dict[str, Any] = {"type": Path, "help": "the cell's directory, which holds its cell.json"}
DESCRIPTION: dict[str, Any] = {
    "type": Path,
    "required": True,
    "help": "the data set's description, JSON",
}
EVALUATION: dict[str, Any] = {"type": Path, "required": True, "help": "settings of scores, JSON"}
RECORDS: dict[str, Any] = {
    "type": Path,
    "nargs": "+",
    "required": True,
    "help": "folders, below which all records of cells, run times and powers are read",
}
OUT: dict[str, Any] = {"type": Path, "required": True, "help": "file to write"}
OUT_FOLDER: dict[str, Any] = OUT | {"help": "folder to write into"}


def read_description(path: Path) -> DatasetFile:
    """Read what the workflow wrote down of a data set."""
    return check_json(DatasetFile, path, "the description of a data set")


def read_scoring(description: Path, evaluation: Path) -> Scoring:
    """Read how a data set is scored."""
    settings = check_json(Evaluation, evaluation, "settings of scores")
    return Scoring(dataset=read_description(description), evaluation=settings)


def written(paths: Iterable[Path]) -> int:
    """Print what was written."""
    for path in dict.fromkeys(paths):
        print(path)
    return 0


def because(reason: str | None) -> str:
    """Return a reason in brackets; nothing without one."""
    return f" ({reason})" if reason else ""
