"""Records beside each other: rows over seeds, their spreads, published numbers, and who beats whom.

A section holds the rows that may be compared: one task, budget and data set, on one footing (the
same values and split, and what else a table's `Layout` names). A row is a model or a control with
all its seeds.
"""

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd

from harness.config import Control
from harness.errors import UserError
from harness.grid import read_yaml
from harness.records import IDENTITY, Record
from harness.tasks import TASKS

PUBLISHED = Path(__file__).with_name("published.yaml")
BUDGETS = ("paper", "cpu", "smoke")  # the most training first
CONTROLS = get_args(Control)  # in the order of their rows
CHANCE = math.log(2)  # cross-entropy of a classifier that cannot tell
FLOOR = "noise_floor"


@dataclass(frozen=True)
class Quantity:
    """What a table of the paper measures.

    Attributes
    ----------
    name : str
        What readers and ``published.yaml`` call it.
    literal : str
        The score that is computed as the published numbers were.
    robust : str
        The score to draw conclusions from: it decides which controls are better.
    unit : str
        Of the data's normalised units, after multiplication with `scale`.
    scale : float
        Factor by which tables and figures multiply it.
    ceiling : float, optional
        Up to where more is better, and all above counts as equal to it; without it, less is better.
    optional : bool
        Whether only some models have it, so that its absence is not worth a line.
    """

    name: str
    literal: str
    robust: str
    unit: str
    scale: float = 1.0
    ceiling: float | None = None
    optional: bool = False

    def badness(self, value: float) -> float:
        """Turn a value of the robust score so that lower is better."""
        return value if self.ceiling is None else -min(value, self.ceiling)


@dataclass(frozen=True)
class Layout:
    """A table of the paper: whose records it shows, and what rows must share to be compared."""

    tasks: tuple[str, ...]
    quantities: tuple[Quantity, ...]
    footing: tuple[str, ...]  # fields of a record


TABLES = {
    "table1": Layout(
        tasks=("generation",),
        quantities=(
            Quantity("marginal", "marginal_literal", "marginal_robust", "share"),
            # Cross-entropy above that of chance is overfitting of the classifier.
            Quantity("classification", "classification_literal", "classification_robust", "nats",
                     ceiling=CHANCE),
            Quantity("prediction", "prediction_literal", "prediction_robust", "unit²"),
        ),
        footing=("data_digest", "split_digest", "evaluator_fits", "evaluator_epochs"),
    ),
    "table2": Layout(
        tasks=("reconstruction", "interpolation", "extrapolation"),
        quantities=(
            Quantity("mse", "mse_draw_ls4", "mse_micro", "unit²", scale=1e3),
            Quantity("crps", "crps_literal", "crps_micro", "unit"),
            Quantity("neg_elbo", "neg_elbo", "neg_elbo", "nats", optional=True),
        ),
        footing=("data_digest", "split_digest", "draws", "protocol"),
    ),
}  # fmt: skip
TABLE_OF = {task: name for name, layout in TABLES.items() for task in layout.tasks}


def footing(record: Record) -> dict[str, Any]:
    """Return what a record must share with those that it is compared with; mappings as JSON."""
    fields = {key: getattr(record, key) for key in TABLES[TABLE_OF[record.task]].footing}
    return {
        key: json.dumps(value, sort_keys=True, separators=(",", ":"))
        if isinstance(value, dict)
        else value
        for key, value in fields.items()
    }


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
        Standard deviation within a seed (over evaluator fits or resamples of the test records),
        root mean square over seeds.
    finite, scored : int
        Seeds that were averaged; seeds that have this score, which may be not finite.
    n : int or None
        Test records behind the score.
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

    @property
    def variant_of(self) -> str | None:
        """The model that this one is a variant of."""
        return next((r.settings.get("variant_of") for r in self.records), None)

    @property
    def union(self) -> bool:
        """Whether batches shared one time grid: a prediction depends on the others in its batch."""
        return any(r.settings.get("training", {}).get("grid") == "union" for r in self.records)

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
    def without_variants(self) -> "Section":
        """The same without the rows of variants, unless there is nothing else."""
        rows = tuple(row for row in self.rows if row.variant_of is None)
        return Section(rows) if any(row.records for row in rows) else self

    @property
    def variants(self) -> "Section | None":
        """Variants beside what they are variants of and the noise floor."""
        beside = {row.variant_of for row in self.rows} - {None} | {FLOOR}
        if len(beside) == 1:
            return None
        return Section(tuple(r for r in self.rows if r.variant_of or r.model in beside))

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

    @property
    def skipped(self) -> str | None:
        """Why nothing was run, where that is so: the data could not be had."""
        records = [record for row in self.rows for record in row.records]
        return self.head.reason if all(r.status == "skipped" for r in records) else None

    @property
    def quantities(self) -> dict[str, Quantity]:
        """What the table measures, by name."""
        return {q.name: q for q in TABLES[TABLE_OF[self.head.task]].quantities}

    def scores(self) -> list[str]:
        """Names of all scores, in the order in which they were computed; the table's always."""
        names = [s for q in self.quantities.values() for s in (q.literal, q.robust)]
        names += [s.name for row in self.rows for r in row.records for s in r.scores]
        return list(dict.fromkeys(names))

    def better_controls(self, row: Row, name: str) -> list[str]:
        """Controls with a better robust score than a model's; the noise floor is none of them."""
        quantity = self.quantities[name]
        own = row.estimate(quantity.robust).value
        if row.control or own is None:
            return []
        rivals = {r.model: r.estimate(quantity.robust).value for r in self.controls}
        return [
            control
            for control, value in rivals.items()
            if control != FLOOR
            and value is not None
            and quantity.badness(value) < quantity.badness(own)
        ]

    def within_floor(self, row: Row, name: str) -> bool:
        """Whether a robust score is no worse than the noise floor's by more than its spread.

        The spread is the noise floor's `Estimate.evaluator_spread`.
        """
        quantity = self.quantities[name]
        own = row.estimate(quantity.robust).value
        floor = self.floor(name)
        if row.model == FLOOR or own is None or floor is None:
            return False
        value, spread = floor
        return quantity.badness(own) <= quantity.badness(value) + spread

    def floor(self, name: str) -> tuple[float, float] | None:
        """The noise floor's robust score and its spread."""
        for row in self.controls:
            estimate = row.estimate(self.quantities[name].robust)
            if row.model == FLOOR and estimate.value is not None and estimate.evaluator_spread:
                return estimate.value, estimate.evaluator_spread
        return None


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
        unknown = not published(record.task, record.dataset)
        return (
            TASKS.index(record.task),
            BUDGETS.index(record.budget),
            unknown,
            record.dataset,
            tuple(footing(record).values()),
        )

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
    return Section(tuple(sorted(rows, key=order)))


def order(row: Row) -> tuple[Any, ...]:
    """Sort rows: LS4 and its relatives, other models, only published models, controls."""
    if row.control:
        return 2, CONTROLS.index(row.model) if row.model in CONTROLS else len(CONTROLS), row.model
    return (0 if row.model.startswith("ls4") else 1), not row.records, row.model


def _refuse_duplicates(records: Iterable[Record]) -> None:
    seen: set[tuple[Any, ...]] = set()
    for record in records:
        identity = tuple(getattr(record, key) for key in IDENTITY)
        if identity in seen:
            name = "/".join(str(part) for part in identity)
            raise UserError(f"expected one record of each cell, found two of {name}")
        seen.add(identity)


@dataclass(frozen=True)
class Published:
    """A number that others printed, and how sure it is: "primary" or "secondary"."""

    value: float
    certainty: str
    source: str


def published(task: str, dataset: str) -> dict[str, dict[str, Published]]:
    """Return what the paper printed about a data set, by model and quantity.

    The numbers are computed as our literal ones, and of their unit.
    """
    found: dict[str, dict[str, Published]] = {}
    for block in _published().values():
        for cells in _of(block["cells"], task, dataset):
            for model, scores in cells["models"].items():
                numbers = {
                    name: Published(value, cells["certainty"], cells["source"])
                    for name, value in scores.items()
                }
                found[model] = found.get(model, {}) | numbers
    return found


def notes(task: str, dataset: str) -> list[dict[str, Any]]:
    """Return what else stands beside a data set: ``text``, and others' numbers in ``printed``.

    ``printed`` are (value, spread) by score or model.
    """
    return [n for block in _published().values() for n in _of(block["notes"], task, dataset)]


def paper(block: str) -> str:
    """Return the citation of a block of ``published.yaml``: a table of the paper, or "elbo"."""
    return _published()[block]["paper"]


def claims(block: str) -> dict[str, dict[str, Any]]:
    """Return what the paper says in words beside a table or figure."""
    return _published()[block]["claims"]


def _of(entries: list[dict[str, Any]], task: str, dataset: str) -> list[dict[str, Any]]:
    return [e for e in entries if (e["task"], e["dataset"]) == (task, dataset)]


@cache
def _published() -> dict[str, Any]:
    return read_yaml(PUBLISHED)


def tidy(compared: Iterable[Section]) -> pd.DataFrame:
    """Return one line for each score of each row: numbers, published ones, endings and marks.

    A row that failed keeps the lines of its table, with its endings and without values.
    """
    lines = []
    for section in compared:
        head = section.head
        known = published(head.task, head.dataset)
        literal = {q.literal: q for q in section.quantities.values()}
        robust = {q.robust: q for q in section.quantities.values()}
        for row in section.rows:
            own = {s.name for r in row.records for s in r.scores}
            for name in section.scores():
                as_printed = literal.get(name)
                cell = known.get(row.model, {}).get(as_printed.name) if as_printed else None
                quantity = as_printed or robust.get(name)
                wanted = quantity is not None and not quantity.optional
                if not (wanted or cell or name in own):
                    continue
                judged = robust.get(name)
                estimate = row.estimate(name)
                lines.append(
                    {
                        "budget": head.budget,
                        "task": head.task,
                        "dataset": head.dataset,
                        "model": row.model,
                        "control": row.control,
                        "score": name,
                        "published": cell.value if cell else None,
                        "certainty": cell.certainty if cell else None,
                        "value": estimate.value,
                        "seed_spread": estimate.seed_spread,
                        "evaluator_spread": estimate.evaluator_spread,
                        "n": estimate.n,
                        "seeds": estimate.finite,
                        "seeds_run": len(row.records),
                        "not_done": "; ".join(
                            f"seed {r.seed}: {r.status}, {r.reason}" for r in row.failed
                        ),
                        "better_controls": " ".join(section.better_controls(row, judged.name))
                        if judged
                        else "",
                        "within_noise_floor": section.within_floor(row, judged.name)
                        if judged and section.floor(judged.name)
                        else None,
                        "n_test": head.n_test,
                        "length": head.length,
                        "channels": head.channels,
                        **footing(head),
                        **({"union_grid": True} if row.union else {}),
                    }
                )
    return pd.DataFrame(lines).astype({"n": "Int64"})
