"""Figures from the cells' directories, as .pdf and .png with a file of captions.

Plot functions take arrays or a frame and return a figure; `style.write` alone writes files.
"""

from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

import pandas as pd

from harness.powers import Power, find_powers
from harness.present import frame, run_times
from harness.present.comparison import Comparison, budgets, comparisons
from harness.present.figures import (
    decisions,
    generation,
    lengths,
    prediction,
    scores,
    style,
    sweep,
    traces,
    training,
)
from harness.present.figures.shown import first_seeds
from harness.present.figures.style import Drawn
from harness.texts import digest


def write(records_dirs: Sequence[Path], data_dir: Path, out: Path) -> list[Path]:
    """Write all figures as .pdf and .png below `out`, and their captions, and return the paths.

    Parameters
    ----------
    records_dirs : sequence of Path
        Searched for cells, the tests' power and run times; a cell without summary, history or trace
        is left out of the figures that need it.
    data_dir : Path
        Prepared data; figure 2 and predictions are drawn where those that the records are about
        are here.
    out : Path
        What lies here and is not drawn this time stays, with its caption.

    Raises
    ------
    UserError
        If there is no record, or two are of the same cell.
    """
    timed = lengths.figures(run_times.find(records_dirs))
    of_cells = figures(frame.read(records_dirs), data_dir, find_powers(records_dirs))
    return style.write(chain(of_cells, timed), out)


def write_lengths(records_dirs: Sequence[Path], out: Path) -> list[Path]:
    """Write figure 3, run time against the length, as .pdf and .png, and its captions.

    Raises
    ------
    UserError
        If there is no record of run times, or there are two of a model and length on one machine.
    """
    return style.write(lengths.figures(run_times.find(records_dirs, needed=True)), out)


def figures(frame: pd.DataFrame, data_dir: Path, powers: Sequence[Power] = ()) -> Iterator[Drawn]:
    """Draw all figures of the cells of a frame, one by one."""
    everything = [c for c in comparisons(frame) if not c.skipped]
    compared = [c.without_variants for c in everything]
    for budget in budgets(frame):
        yield from decisions.figures([c for c in compared if c.head["budget"] == budget], powers)
    stems: set[tuple[str, str]] = set()
    for c, whole in zip(compared, everything, strict=True):
        stem = f"{c.head['dataset']}_{c.head['budget']}"
        if (c.head["task"], stem) in stems:  # the same data set once more, with other settings
            stem += f"_{digest(c.agreed)[:8]}"
        stems.add((c.head["task"], stem))
        yield from _of_comparison(c, data_dir, stem)
        yield from sweep.figures(whole, stem, _what(c))


def _of_comparison(c: Comparison, data_dir: Path, stem: str) -> Iterator[Drawn]:
    what = _what(c)
    family = generation if c.head["task"] == "generation" else prediction
    yield from family.figures(c, first_seeds(c, c.models.index), data_dir, stem, what)
    yield from scores.figures(c, stem, what)
    yield from training.figures(c, stem, what)
    yield from traces.figures(c, stem, what)


def _what(c: Comparison) -> str:
    """Name the data set, the task if it is not generation, and the budget."""
    task = [] if c.head["task"] == "generation" else [c.head["task"]]
    return ", ".join([c.head["title"], *task, f"budget {c.head['budget']}"])
