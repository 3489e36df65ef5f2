"""What is said of one cell wherever it is shown: how its training ended, what runs it again."""

from pathlib import Path
from typing import Any

import pandas as pd

from harness.catalogue import ROOT
from harness.present.text import number
from harness.records import RECORD

ENDED = {  # `harness.records.Ending` -> why there was no further step
    "steps": "its budget asks for so many",
    "frozen": "its schedule had brought the learning rate to next to nothing",
    "patience": "the validation loss had not clearly improved for the steps of its patience",
    "cap": "it was allowed no more: not converged",
}


def training(cell: Any) -> str | None:
    """Say when a training ended, why, and which weights are scored.

    Parameters
    ----------
    cell : Record or row of the frame of results

    Returns
    -------
    str or None
        None for controls, failures and records of earlier versions.
    """
    if cell.ended not in ENDED:
        return None
    said = f"{cell.steps:,} steps, since {ENDED[cell.ended]}"
    if pd.isna(cell.best_step):
        return said
    best, last = number(cell.best_validation_loss), number(cell.last_validation_loss)
    return (
        f"{said}; the weights of step {int(cell.best_step):,} are scored, where the validation loss"
        f" last improved clearly: {best} ({last} at the end)"
    )


def command(cell: Any, folder: Path) -> str | None:
    """Return what trains and scores a cell again.

    Parameters
    ----------
    cell : Record or row of the frame of results
    folder : Path
        The cell's directory.

    Returns
    -------
    str or None
        None where a command or a user made the samples or predictions.
    """
    if not cell.made_here:
        return None
    path = folder / RECORD
    path = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
    return f"python -m harness rerun {path.as_posix()}"
