"""Records beside each other: rows over seeds, their spreads, published numbers, and who beats whom.

A section holds the rows that may be compared: one task, budget and data set, the same values, split
and evaluators. A row is a model or a control with all its seeds.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from harness.controls import CONTROLS
from harness.errors import UserError
from harness.grid import read_yaml
from harness.records import IDENTITY, Record

PUBLISHED = Path(__file__).with_name("published.yaml")
TABLES = {"generation": "table1"}  # task -> its table of the paper
BUDGETS = ("paper", "cpu", "smoke")  # the most training first
SCORES = ("marginal", "classification", "prediction")
FOOTING = ("data_digest", "split_digest", "evaluator_fits", "evaluator_epochs")
CHANCE = math.log(2)  # cross-entropy of a classifier that cannot tell
FLOOR = "noise_floor"


@dataclass(frozen=True)
class Estimate:
    """A score of a row.

    Attributes
    ----------
    value : float or None
        Mean over seeds.
    seed_spread : float or None
        Standard deviation over seeds.
    evaluator_spread : float or None
        Standard deviation within a seed (over evaluator fits or resamples of the series), root mean
        square over seeds.
    finite, scored : int
        Seeds that were averaged; seeds that have this score, which may be not finite.
    n : int or None
        Series behind the score.
    """

    value: float | None
    seed_spread: float | None
    evaluator_spread: float | None
    finite: int
    scored: int
    n: int | None


@dataclass(frozen=True)
class Row:
    """A model or a control on one footing; without records if it was published but never run."""

    model: str
    control: bool
    records: tuple[Record, ...]

    @property
    def done(self) -> list[Record]:
        return [r for r in self.records if r.status == "done"]

    @property
    def failed(self) -> list[Record]:
        return [r for r in self.records if r.status != "done"]

    def estimate(self, score: str) -> Estimate:
        """Reduce a score over the seeds that are done."""
        scores = [s for r in self.done for s in r.scores if s.name == score]
        values = [s.value for s in scores if s.value is not None]
        spreads = [s.spread for s in scores if s.value is not None and s.spread is not None]
        return Estimate(
            value=float(np.mean(values)) if values else None,
            seed_spread=float(np.std(values, ddof=1)) if len(values) > 1 else None,
            evaluator_spread=float(np.sqrt(np.mean(np.square(spreads)))) if spreads else None,
            finite=len(values),
            scored=len(scores),
            n=scores[0].n if scores else None,
        )


@dataclass(frozen=True)
class Section:
    """Rows on one footing: models first, then controls."""

    rows: tuple[Row, ...]

    @property
    def head(self) -> Record:
        """A record of the section, for what all of them share."""
        return next(record for row in self.rows for record in row.records)

    @property
    def models(self) -> list[Row]:
        return [row for row in self.rows if not row.control]

    @property
    def controls(self) -> list[Row]:
        return [row for row in self.rows if row.control]

    def scores(self) -> list[str]:
        """Names of all scores, in the order in which they were computed; Table 1's always."""
        names = [f"{score}_{kind}" for score in SCORES for kind in ("literal", "robust")]
        names += [s.name for row in self.rows for r in row.records for s in r.scores]
        return list(dict.fromkeys(names))

    def better_controls(self, row: Row, score: str) -> list[str]:
        """Controls with a better robust `score` than a model's; the noise floor is none of them."""
        own = row.estimate(f"{score}_robust").value
        if row.control or own is None:
            return []
        rivals = {r.model: r.estimate(f"{score}_robust").value for r in self.controls}
        return [
            name
            for name, value in rivals.items()
            if name != FLOOR and value is not None and badness(score, value) < badness(score, own)
        ]

    def within_floor(self, row: Row, score: str) -> bool:
        """Whether a robust `score` is no worse than the noise floor's by more than its spread.

        The spread is the noise floor's `Estimate.evaluator_spread`.
        """
        own = row.estimate(f"{score}_robust").value
        floor = self.floor(score)
        if row.model == FLOOR or own is None or floor is None:
            return False
        value, spread = floor
        return badness(score, own) <= badness(score, value) + spread

    def floor(self, score: str) -> tuple[float, float] | None:
        """The noise floor's robust `score` and its spread."""
        for row in self.controls:
            estimate = row.estimate(f"{score}_robust")
            if row.model == FLOOR and estimate.value is not None and estimate.evaluator_spread:
                return estimate.value, estimate.evaluator_spread
        return None


def badness(score: str, value: float) -> float:
    """Turn a score of Table 1 so that lower is better.

    Classification is a cross-entropy, better when higher, up to that of a classifier that cannot
    tell; what lies above is overfitting of the classifier and counts as equal to it.
    """
    return -min(value, CHANCE) if score == "classification" else value


def sections(records: list[Record]) -> list[Section]:
    """Arrange records by task, budget (most training first), data set, footing, row and seed.

    Data sets with published numbers come first.

    Raises
    ------
    UserError
        If two records have the same identity.
    """
    _refuse_duplicates(records)

    def place(record: Record) -> tuple[Any, ...]:
        footing = tuple(getattr(record, key) for key in FOOTING)
        unknown = not published(record.task, record.dataset)
        return record.task, BUDGETS.index(record.budget), unknown, record.dataset, footing

    ordered = sorted(records, key=place)
    return [_section(list(group)) for _, group in groupby(ordered, place)]


def _section(records: list[Record]) -> Section:
    first = records[0]
    found: dict[str, list[Record]] = {}
    for record in sorted(records, key=lambda r: r.seed):
        found.setdefault(record.model, []).append(record)
    rows = [Row(name, group[0].control, tuple(group)) for name, group in found.items()]
    only = [name for name in published(first.task, first.dataset) if name not in found]
    rows += [Row(name, False, ()) for name in only]
    return Section(tuple(sorted(rows, key=_order)))


def _order(row: Row) -> tuple[Any, ...]:
    """LS4, other models, models that were only published, controls."""
    if row.control:
        return 2, CONTROLS.index(row.model) if row.model in CONTROLS else len(CONTROLS), row.model
    return (0, 0, "") if row.model == "ls4" else (1, not row.records, row.model)


def _refuse_duplicates(records: Iterable[Record]) -> None:
    seen: set[tuple[Any, ...]] = set()
    for record in records:
        identity = tuple(getattr(record, key) for key in IDENTITY)
        if identity in seen:
            name = "/".join(str(part) for part in identity)
            raise UserError(f"expected one record of each cell, found two of {name}")
        seen.add(identity)


def published(task: str, dataset: str) -> dict[str, dict[str, Any]]:
    """Return what was published about a data set, by model: ``scores``, ``certainty``, ``source``.

    The scores are computed as our literal ones.
    """
    cells = _published()[TABLES[task]]["cells"] if task in TABLES else []
    return {cell["model"]: cell for cell in cells if cell["dataset"] == dataset}


def reruns(task: str, dataset: str) -> list[dict[str, Any]]:
    """Return others' runs of released code: ``what``, ``scores`` (value, spread), ``source``."""
    runs = _published()[TABLES[task]]["reruns"] if task in TABLES else []
    return [run for run in runs if run["dataset"] == dataset]


def paper(task: str) -> str:
    """Return the citation of the table that `published` numbers come from."""
    return _published()[TABLES[task]]["paper"]


@cache
def _published() -> dict[str, Any]:
    return read_yaml(PUBLISHED)


def tidy(compared: Iterable[Section]) -> pd.DataFrame:
    """Return one line for each score of each row: numbers, published ones, endings and marks.

    A row that failed keeps the lines of Table 1, with its endings and without values.
    """
    lines = []
    for section in compared:
        head = section.head
        known = published(head.task, head.dataset)
        for row in section.rows:
            own = {s.name for r in row.records for s in r.scores}
            for name in section.scores():
                score, _, kind = name.rpartition("_")
                in_table = score in SCORES and kind in ("literal", "robust")
                if not (in_table or name in own):
                    continue
                cell = known.get(row.model, {}) if in_table and kind == "literal" else {}
                robust = in_table and kind == "robust"
                estimate = row.estimate(name)
                lines.append(
                    {
                        "budget": head.budget,
                        "task": head.task,
                        "dataset": head.dataset,
                        "model": row.model,
                        "control": row.control,
                        "score": name,
                        "published": cell.get("scores", {}).get(score),
                        "certainty": cell.get("certainty"),
                        "value": estimate.value,
                        "seed_spread": estimate.seed_spread,
                        "evaluator_spread": estimate.evaluator_spread,
                        "n": estimate.n,
                        "seeds": estimate.finite,
                        "seeds_run": len(row.records),
                        "not_done": "; ".join(
                            f"seed {r.seed}: {r.status}, {r.reason}" for r in row.failed
                        ),
                        "better_controls": " ".join(section.better_controls(row, score))
                        if robust
                        else "",
                        "within_noise_floor": section.within_floor(row, score) if robust else None,
                        "n_test": head.n_test,
                        "length": head.length,
                        "channels": head.channels,
                        **{key: getattr(head, key) for key in FOOTING},
                    }
                )
    return pd.DataFrame(lines).astype({"n": "Int64"})
