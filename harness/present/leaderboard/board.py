"""A table of the leaderboard: the rows of one task and budget, a column for each data set."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, groupby
from typing import Any

import pandas as pd

from harness.present import paired
from harness.present.comparison import Comparison, place, which
from harness.present.leaderboard.measures import PUBLISHED, Measure, marks, measures
from harness.present.tables.columns import ENDED, ended, labels
from metrics.paired import Interval

BANDS = ("models", "variants", "controls")


@dataclass(frozen=True, eq=False)
class Board:
    """All comparisons of one task and budget."""

    compared: tuple[Comparison, ...]

    @property
    def task(self) -> str:
        return str(self.compared[0].head["task"])

    @property
    def budget(self) -> str:
        return str(self.compared[0].head["budget"])

    @property
    def name(self) -> str:
        return f"{self.budget}-{self.task}"

    @cached_property
    def titles(self) -> list[str]:
        """The data sets' titles, numbered where one has several comparisons."""
        return [c.head["title"] + which(c, self.compared) for c in self.compared]

    @cached_property
    def rows(self) -> pd.DataFrame:
        """One line for each row of any data set, by model: `label`, `band`."""
        found = pd.concat([c.rows.reset_index() for c in self.compared])
        first = found.sort_values("run", ascending=False).drop_duplicates("model")
        first = first.set_index("model")
        first[[*ENDED]] = 0  # of a data set, so it stands in the cell
        ordered = first.loc[sorted(first.index, key=lambda model: place(model, first.loc[model]))]
        band = ordered["variant_of"].notna().map({True: "variants", False: "models"})
        return pd.DataFrame(
            {
                "label": labels(ordered),
                "band": band.mask(ordered["control"], "controls"),
            }
        )

    @cached_property
    def bands(self) -> dict[str, list[str]]:
        """The models of each band that is not empty."""
        found = {band: self.rows.index[self.rows["band"] == band].tolist() for band in BANDS}
        return {band: models for band, models in found.items() if models}

    @cached_property
    def columns(self) -> list[dict[str, Measure]]:
        """The measures of each data set, by key."""
        return [{measure.key: measure for measure in measures(c)} for c in self.compared]

    @cached_property
    def measures(self) -> dict[str, Measure]:
        """Each measure as the first data set has it that has it, by key."""
        return {k: m for column in reversed(self.columns) for k, m in column.items()}

    @cached_property
    def choices(self) -> dict[str, dict[str, str]]:
        """Groups of measures -> keys -> titles, in the order of the list."""
        in_order = [m for column in self.columns for m in column.values()]
        groups: dict[str, dict[str, str]] = {}
        for measure in in_order:
            groups.setdefault(measure.group, {})[measure.key] = measure.title
        return groups

    @property
    def default(self) -> str:
        """The measure that the table begins with."""
        return next(iter(next(iter(self.choices.values()))))

    def page(self, column: int, model: str) -> str | None:
        """Return the address of a row's page; None where nothing was run."""
        c = self.compared[column]
        if model not in c.rows.index or not c.rows.loc[model, "run"]:
            return None
        dataset = c.head["dataset"] + which(c, self.compared).replace(" ", "_")
        return f"rows/{self.name}-{dataset}-{model}.html"

    def pages(self) -> Iterator[tuple[int, str, str]]:
        """Yield column, model and address of all rows' pages."""
        for column in range(len(self.compared)):
            for model in self.rows.index:
                if page := self.page(column, model):
                    yield column, model, page

    @cached_property
    def entries(self) -> dict[str, list[list[list[Any]]]]:
        """Texts, numbers and marks: by measure, then by row, then by column."""
        found = {}
        for key in self.measures:
            marked = [self._marks(key, column)[0] for column in range(len(self.compared))]
            found[key] = [
                [
                    self._entry(key, model, column, marked[column])
                    for column in range(len(self.compared))
                ]
                for model in self.rows.index
            ]
        return found

    @cached_property
    def best(self) -> dict[str, list[str]]:
        """By measure and column, which model is best, and which are not clearly worse."""
        columns = range(len(self.compared))
        return {key: [self._marks(key, column)[1] for column in columns] for key in self.measures}

    def conclusions(self, key: str) -> list[tuple[str, str]]:
        """Return titles of data sets and what is best there, where that is known."""
        return [pair for pair in zip(self.titles, self.best[key], strict=True) if pair[1]]

    def _marks(self, key: str, column: int) -> tuple[dict[str, str], str]:
        measure = self.columns[column].get(key)
        return marks(self.compared[column], measure) if measure else ({}, "")

    def _entry(self, key: str, model: str, column: int, marked: dict[str, str]) -> list[Any]:
        measure = self.columns[column].get(key)
        if measure is None or model not in measure.texts.index:
            return ["", None, ""]
        value = float(measure.values[model])
        ends = "" if key.startswith(PUBLISHED) else self._ends[column][model]
        return [
            f"{measure.texts[model]}{ends}",
            float(f"{value:.6g}") if abs(value) < float("inf") else None,  # nor NaN
            marked.get(model, ""),
        ]

    @cached_property
    def _ends(self) -> list[pd.Series]:
        """How trainings ended, as marks, for each data set."""
        return [ended(c.rows) for c in self.compared]

    @cached_property
    def pairs(self) -> list[dict[tuple[str, str], dict[str, Interval]]]:
        """Paired comparisons of two rows, in the order of the rows, for each data set."""
        return [paired_rows(c) for c in self.compared]


def paired_rows(c: Comparison) -> dict[tuple[str, str], dict[str, Interval]]:
    """Return what is known of each two rows: differences of quantities, or skill in prediction."""
    done = c.cells[c.cells["status"].eq("done")]
    known = {str(model) for model, own in done.groupby("model") if _all_errors(own)}
    models = [model for model in c.rows.index if model in known]
    found = {pair: compare(c, *pair) for pair in combinations(models, 2)}
    return {pair: intervals for pair, intervals in found.items() if intervals}


def compare(c: Comparison, first: str, second: str) -> dict[str, Interval]:
    """Compare two rows in each quantity where that can be done.

    Generation: the first row's score less the second one's, turned so that less is better.
    Prediction: the skill of the first against the second, so that more is better.
    """
    found = {}
    for name in c.quantities:
        if c.head["task"] == "generation":
            interval = paired.row_difference(c.cells, first, second, name)
        else:
            interval = paired.row_skill(c.cells, first, second, name)
        if interval is not None and abs(interval.difference) < float("inf"):
            found[name] = interval
    return found


def verdict(task: str, interval: Interval) -> str:
    """Say what an interval decides of the first of two rows: "better", "worse" or neither."""
    less, more = interval.first_is_better, interval.second_is_better
    if task != "generation":
        less, more = more, less
    return "better" if less else "worse" if more else "no clear difference"


def boards(compared: Sequence[Comparison]) -> list[Board]:
    """Arrange comparisons, which are in the order of tasks and budgets, by both."""
    by_both = groupby(compared, lambda c: (c.head["task"], c.head["budget"]))
    return [Board(tuple(group)) for _, group in by_both]


def _all_errors(cells: pd.DataFrame) -> bool:
    return all(map(paired.has_errors, cells["folder"]))
