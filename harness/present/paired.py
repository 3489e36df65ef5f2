"""Which of two rows is better, and by how much: from the errors of single series.

A cell that is done has ``errors.npz`` in its directory, beside its record: the errors of its test
series or records (`harness.run.generation.score`, `harness.run.prediction.score`). Records of
earlier versions have no such file; nothing can be said of them here.
"""

import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from datasets.files import load_arrays
from harness.errors import UserError
from harness.records import ERRORS
from metrics.paired import Interval, SeriesErrors, differences, mean_difference, skill

SUMS = {"mse": "squared", "crps": "crps"}  # of a record, by the quantity that they are of
BOUND = "neg_elbo"  # of a record; only models with a bound have it
AHEAD, BEHIND, NEITHER = "ahead of", "behind", "no difference seen from"


def better(cells: pd.DataFrame, first: str, second: str, task: str, quantity: str) -> bool | None:
    """Whether one row is better than another one in every seed; None where a file is missing.

    Parameters
    ----------
    cells : DataFrame
        One line for each record, with `model`, `seed`, `status` and `folder`.
    first, second : str
        Models or controls.
    task, quantity : str
    """
    found = [_better(own, other, task, quantity) for own, other in pairs(cells, first, second)]
    return None if not found or None in found else all(found)


def standing(cells: pd.DataFrame, first: str, second: str, task: str, quantity: str) -> str | None:
    """Return how one row stands against another one; None where a file is missing.

    `AHEAD` or `BEHIND` where one of them is better in every seed, `NEITHER` otherwise.
    """
    ahead, behind = (
        better(cells, *pair, task, quantity) for pair in ((first, second), (second, first))
    )
    if ahead is None or behind is None:
        return None
    return AHEAD if ahead else BEHIND if behind else NEITHER


def row_skill(cells: pd.DataFrame, model: str, reference: str, quantity: str) -> Interval | None:
    """Return a row's skill: the mean over seeds, and the outermost ends of their intervals.

    None where a file is missing, or the reference makes no error.
    """
    return _over_seeds(
        [_skill(own, other, quantity) for own, other in pairs(cells, model, reference)]
    )


def row_difference(cells: pd.DataFrame, first: str, second: str, quantity: str) -> Interval | None:
    """Return the difference of two rows that generate, first less second, so that less is better.

    The mean over seeds, and the outermost ends of their intervals. None where a file is missing,
    or a row does not have the quantity.
    """
    return _over_seeds(
        [_differences(own, other).get(quantity) for own, other in pairs(cells, first, second)]
    )


def _over_seeds(found: Sequence[Interval | None]) -> Interval | None:
    """Return the mean and the outermost ends; None where an interval is missing."""
    known = [interval for interval in found if interval is not None]
    if not known or len(known) < len(found):
        return None
    values, lows, highs, enough = zip(*known, strict=True)
    return Interval(float(np.mean(values)), min(lows), max(highs), all(enough))


def pairs(cells: pd.DataFrame, first: str, second: str) -> list[tuple[Path, Path]]:
    """Return the directories to compare: seed by seed, or all with all where seeds differ.

    A control has one seed, which stands against every seed of a model.
    """
    # Lists, since selecting from the frame takes a hundred times longer.
    columns = (cells[name].tolist() for name in ("model", "status", "seed", "folder"))
    lines = list(zip(*columns, strict=True))
    own, other = (
        {seed: folder for model, status, seed, folder in lines if (model, status) == (name, "done")}
        for name in (first, second)
    )
    same = set(own) == set(other)
    return [(own[i], other[j]) for i in own for j in other if i == j or not same]


def has_errors(folder: Path) -> bool:
    """Whether a cell's directory holds errors of single series."""
    return bool(_errors(folder))


def _better(first: Path, second: Path, task: str, quantity: str) -> bool | None:
    """Whether one cell is better than another one; None where errors are missing."""
    if task == "generation":
        interval = _differences(first, second).get(quantity)
    elif quantity == BOUND:
        interval = _bound_difference(first, second)
    else:
        found = _skill(first, second, quantity)
        return None if found is None else found.second_is_better  # more skill is better
    return None if interval is None else interval.first_is_better


def groups(folder: Path) -> int | None:
    """Return how many groups a cell's records form; None where each is one, or without errors."""
    group = _errors(folder).get("group", np.zeros(0))
    n = len(np.unique(group))
    return n if n < len(group) else None


@functools.cache
def _errors(folder: Path) -> dict[str, np.ndarray]:
    path = folder / ERRORS
    return load_arrays(path, set()) if path.exists() else {}


def _series_errors(folder: Path) -> SeriesErrors:
    """A control that only predicts has no generated series; earlier records have no groups."""
    arrays = _errors(folder)
    arrays = {"group": np.arange(arrays["prediction"].shape[1]), **arrays}
    nothing = {name: np.zeros((0, 0, 0), int) for name in ("real_counts", "generated_counts")}
    return SeriesErrors(**{**nothing, "classification": np.zeros((0, 0)), **arrays})


@functools.cache
def _differences(first: Path, second: Path) -> dict[str, Interval]:
    """Return the differences of two cells; drawn in one order, so that the other agrees with it."""
    if str(second) < str(first):
        return {name: found.turned for name, found in _differences(second, first).items()}
    if not (has_errors(first) and has_errors(second)):
        return {}
    own, other = _series_errors(first), _series_errors(second)
    if not np.array_equal(own.group, other.group):
        return {}  # one of them is of an earlier version
    return differences(own, other)


@functools.cache
def _skill(first: Path, second: Path, quantity: str) -> Interval | None:
    """Return the skill of one cell against another one, whose errors are not all 0."""
    if quantity not in SUMS or not (has_errors(first) and has_errors(second)):
        return None
    own, other = _same_records(first, second)
    name = SUMS[quantity]
    if not other[name].sum() > 0:
        return Interval(-np.inf, -np.inf, -np.inf)  # nothing is better than no error
    return skill(own[name], other[name], own["group"])


@functools.cache
def _bound_difference(first: Path, second: Path) -> Interval | None:
    """Return the difference of two cells' mean negative ELBOs; None where one has none."""
    if not all(BOUND in _errors(folder) for folder in (first, second)):
        return None
    own, other = _same_records(first, second)
    return mean_difference(own[BOUND], other[BOUND], own["group"])


def _same_records(first: Path, second: Path) -> list[dict[str, np.ndarray]]:
    """Return the errors of two cells with their records in one order."""
    found = []
    for arrays in (_errors(first), _errors(second)):
        order = np.argsort(arrays["record"], kind="stable")
        found.append({name: values[order] for name, values in arrays.items()})
    if not np.array_equal(found[0]["record"], found[1]["record"]):
        raise UserError(
            f"{first / ERRORS}: expected the records of {second / ERRORS}, found other ones"
        )
    return found
