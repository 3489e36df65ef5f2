"""Which results may be compared, and how: rows over seeds, published numbers beside them, marks.

A comparison holds one task, budget and data set, with equal values, split and settings of the
scores. A row of it is a model or a control with all its seeds.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from harness import catalogue
from harness.config import Protocol
from harness.present import paired, published
from harness.present.frame import without_scores
from harness.present.quantities import MUST_AGREE, Quantity, quantities
from harness.present.text import shared_ending
from harness.sweeps import parts
from harness.tasks import TABLE_OF, TABLES, TASKS
from metrics.paired import Interval

HIDDEN_SHARE = r"mse_micro(?:_hidden_(\d+))?"  # scores of interpolation by their share, in percent
TRAINING_SERIES = "noise_floor"  # the control that passes training series off as samples
# The controls whose scores are those of real series: these, or another draw of a known law.
NOISE_FLOORS = (TRAINING_SERIES, "perfect")
ESTIMATE = {"value": float, "largest": float, "seed_spread": float, "evaluator_spread": float,
            "n": "Int64", "finite": int, "scored": int}  # fmt: skip
NOT_RUN = {"control": False, "variant_of": None, "union_grid": False, "run": 0, "done": 0,
           "capped": 0, "fixed": 0, "endings": "", "not_done": ""}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Comparison:
    """Rows that may be compared: models first, then controls.

    Attributes
    ----------
    lines : DataFrame
        Lines of the frame (`harness.present.frame`), at least one.
    only_published : tuple of str
        Models that were not run, of which there are published numbers.
    """

    lines: pd.DataFrame
    only_published: tuple[str, ...] = ()

    @cached_property
    def head(self) -> dict[str, Any]:
        """The fields of a record, for what all of them have in common."""
        return self.cells.iloc[0].to_dict()

    @cached_property
    def cells(self) -> pd.DataFrame:
        """One line for each record, in the order of rows and seeds."""
        return self._in_order(without_scores(self.lines))

    @cached_property
    def rows(self) -> pd.DataFrame:
        """One line for each row, by model.

        ``control``; ``variant_of``; ``union_grid``; how many seeds were ``run`` and are ``done``;
        how many of these are ``capped``, by the largest number of steps that they were allowed, and
        how many took a ``fixed`` number of steps although others stopped by their validation loss;
        ``endings``, of the others, in a few words; ``not_done``, the same in full.
        """
        found = [
            _row(str(model), own) for model, own in without_scores(self.lines).groupby("model")
        ]
        found += [NOT_RUN | {"model": model} for model in self.only_published]
        rows = pd.DataFrame(found, columns=["model", *NOT_RUN]).set_index("model")
        if not self.lines["ended"].isin(["patience", "cap"]).any():
            rows["fixed"] = 0
        return rows.loc[sorted(rows.index, key=lambda model: place(model, rows.loc[model]))]

    @cached_property
    def models(self) -> pd.DataFrame:
        """The rows that are no controls."""
        return self.rows[~self.rows["control"]]

    @cached_property
    def floor(self) -> str | None:
        """The noise floor: the control that stands for real series, if there is one."""
        return next((name for name in NOISE_FLOORS if name in self.rows.index), None)

    @cached_property
    def skipped(self) -> str | None:
        """Why nothing was run, where that is so: the data could not be had."""
        return self.head["reason"] if self.lines["status"].eq("skipped").all() else None

    @cached_property
    def quantities(self) -> dict[str, Quantity]:
        """What the table measures, by name; where some records lack it, by an earlier score."""
        cells = self.lines["score"].value_counts()

        def known(q: Quantity) -> Quantity:
            lacking = bool(q.earlier) and cells.get(q.earlier, 0) > cells.get(q.robust, 0)
            return replace(q, robust=q.earlier) if lacking else q

        return {name: known(q) for name, q in quantities(self.head["task"]).items()}

    @cached_property
    def agreed(self) -> dict[str, Any]:
        """The fields that agree."""
        return {key: self.head[key] for key in MUST_AGREE[TABLE_OF[self.head["task"]]]}

    @cached_property
    def score_names(self) -> list[str]:
        """Names of all scores, in the order in which they were computed; the table's always."""
        names = [s for q in self.quantities.values() for s in (q.literal, q.robust)]
        names += self._in_order(self.lines)["score"].dropna().tolist()
        return list(dict.fromkeys(names))

    @cached_property
    def hidden_shares(self) -> dict[float, str]:
        """The scores of interpolation by the share of hidden points that they are taken at."""
        found = {Protocol.model_validate_json(self.head["protocol"]).hidden: "mse_micro"}
        for name in self.score_names:
            percent = re.fullmatch(HIDDEN_SHARE, name)
            if percent and percent[1]:
                found[int(percent[1]) / 100] = name
        return dict(sorted(found.items()))

    @cached_property
    def estimates(self) -> pd.DataFrame:
        """Scores over the seeds that are done, by (model, score).

        ================ ======================================================================
        value            mean over seeds; missing if none is finite
        largest          of the seeds
        seed_spread      standard deviation over seeds, of at least two
        evaluator_spread standard deviation within a seed (over evaluator fits or resamples of
                         the test series), root mean square over seeds; missing where records to
                         predict form groups: alone they are not independent
        n                test records behind the score
        finite, scored   seeds that were averaged; seeds that have this score
        ================ ======================================================================
        """
        done = self.lines[self.lines["status"].eq("done") & self.lines["score"].notna()]
        known = done["value"].notna() & (self.groups is None or self.head["task"] == "generation")
        squares = done["spread"].where(known) ** 2
        grouped = done.assign(squares=squares).groupby(["model", "score"])
        return pd.DataFrame(
            {
                "value": grouped["value"].agg(_mean),
                "largest": grouped["value"].max(),
                "seed_spread": grouped["value"].agg(_deviation),
                "evaluator_spread": np.sqrt(grouped["squares"].agg(_mean)),
                "n": grouped["n"].first(),
                "finite": grouped["value"].count(),
                "scored": grouped.size(),
            }
        )

    def estimate(self, score: str) -> pd.DataFrame:
        """Return a score's estimates, a line for each row; `scored` is 0 where there is none."""
        keys = [(model, score) for model in self.rows.index]
        found = self.estimates.reindex(keys).set_axis(self.rows.index)
        return found.fillna({"finite": 0, "scored": 0}).astype(ESTIMATE)

    def published(self, quantity: str) -> pd.Series:
        """Return the published numbers of a quantity, one or None for each row."""
        known = published.numbers(self.head["task"], self.head["dataset"])
        found = [known.get(model, {}).get(quantity) for model in self.rows.index]
        return pd.Series(found, self.rows.index, dtype=object)

    def better_controls(self, quantity: Quantity) -> pd.Series:
        """Return, for each row, the controls that are better than the model in every seed.

        By a paired bootstrap over test series; older records do not have their errors, and there a
        better robust score decides. The noise floor is none of them, and there are none for a
        control.
        """
        values = quantity.lower_is_better(self.estimate(quantity.robust)["value"])
        rivals = values.index[self.rows["control"] & (values.index != self.floor)]

        def is_better(rival: str, model: str) -> bool:
            found = paired.better(self.cells, rival, model, self.head["task"], quantity.name)
            return bool(values[rival] < values[model]) if found is None else found

        better = [
            []
            if self.rows.loc[model, "control"]
            else [rival for rival in rivals if is_better(rival, model)]
            for model in values.index
        ]
        return pd.Series(better, values.index, dtype=object)

    @cached_property
    def older(self) -> bool:
        """Whether cells are done without errors of single series."""
        done = self.cells[self.cells["status"].eq("done")]
        return not all(map(paired.has_errors, done["folder"]))

    @cached_property
    def groups(self) -> int | None:
        """How many groups the test series form that are drawn again together, where it is known.

        None as well where each is a group of its own.
        """
        done = self.cells.loc[self.cells["status"].eq("done"), "folder"]
        return next((n for n in map(paired.groups, done) if n), None)

    @cached_property
    def reference(self) -> str | None:
        """The control that skill is measured against.

        The Gaussian process in interpolation; in extrapolation the control with the least error on
        the validation records; none in reconstruction, where a copy has no error, nor without
        errors of single records.
        """
        done = self.cells[self.cells["status"].eq("done") & self.cells["control"]]
        known = done.loc[[paired.has_errors(f) for f in done["folder"]], "model"].unique()
        if self.head["task"] == "interpolation":
            return "gp" if "gp" in known else None
        if self.head["task"] == "extrapolation":
            errors = self.estimate("mse_validation")["value"].reindex(known).dropna()
            return None if errors.empty else str(errors.idxmin())
        return None

    def skill(self, quantity: Quantity) -> dict[str, Interval]:
        """Return the skill of rows against the reference, where it is known."""
        if self.reference is None:
            return {}
        found = {
            model: paired.row_skill(self.cells, model, self.reference, quantity.name)
            for model in self.rows.index
        }
        return {model: interval for model, interval in found.items() if interval is not None}

    def within_noise_floor(self, quantity: Quantity) -> pd.Series:
        """Whether robust scores are no worse than the noise floor's by more than its spread."""
        values = quantity.lower_is_better(self.estimate(quantity.robust)["value"])
        floor = self.noise_floor(quantity)
        if floor is None:
            return pd.Series(False, values.index)
        value, spread = quantity.lower_is_better(pd.Series(floor[:1])).item(), floor[1]
        return (values <= value + spread) & (values.index != self.floor)

    def noise_floor(self, quantity: Quantity) -> tuple[float, float] | None:
        """Return the noise floor's robust score and its spread within a seed, if it has both."""
        if self.floor is None:
            return None
        found = self.estimate(quantity.robust).loc[self.floor, ["value", "evaluator_spread"]]
        value, spread = found.astype(float)
        return (value, spread) if np.isfinite(value) and spread > 0 else None

    def only(self, models: pd.Index) -> "Comparison":
        """Return the comparison of some of the rows."""
        kept = tuple(model for model in self.only_published if model in models)
        return Comparison(self.lines[self.lines["model"].isin(models)], kept)

    def with_any(self, scores: Sequence[str]) -> "Comparison":
        """Keep rows that have one of some scores, or failed before they could have it."""
        scored = sum(self.estimate(score)["scored"] for score in scores)
        return self.only(self.rows.index[(self.rows["done"] < self.rows["run"]) | (scored > 0)])

    @cached_property
    def without_variants(self) -> "Comparison":
        """The same without the rows of variants, unless there is nothing else."""
        rows = self.rows[self.rows["variant_of"].isna()]
        return self.only(rows.index) if rows["run"].any() else self

    @cached_property
    def variants(self) -> "Comparison | None":
        """Variants beside what they are variants of and the noise floor."""
        variants = self.rows["variant_of"].dropna()
        variants = variants[[not parts(str(model))[1] for model in variants.index]]
        if variants.empty:
            return None
        beside = {*variants, self.floor}
        return self.only(pd.Index([m for m in self.rows.index if m in variants or m in beside]))

    @cached_property
    def sweeps(self) -> "list[Comparison]":
        """The variants that sweeps made, model by model, each beside the noise floor."""
        swept = [str(model) for model in self.models.index if parts(str(model))[1]]
        groups = {
            base: [model for model in swept if parts(model)[0] == base]
            for base in dict.fromkeys(parts(model)[0] for model in swept)
        }
        floor = [self.floor] if self.floor else []
        return [self.only(pd.Index([*models, *floor])) for models in groups.values()]

    def _in_order(self, lines: pd.DataFrame) -> pd.DataFrame:
        """Sort lines by row and seed."""
        places = {model: place for place, model in enumerate(self.rows.index)}
        by = lines.assign(place=lines["model"].map(places))
        return by.sort_values(["place", "seed"], kind="stable").drop(columns="place")


def comparisons(frame: pd.DataFrame) -> list[Comparison]:
    """Arrange a frame's records by task, budget, data set and what agrees.

    Data sets with published numbers come first.
    """
    found = []
    for table, tasks in TABLES.items():
        keys = ["task", "budget", "dataset", *MUST_AGREE[table]]
        of_table = frame[frame["task"].isin(tasks)]
        for (task, _, dataset, *_), lines in of_table.groupby(keys, dropna=False):
            run = set(lines["model"])
            absent = [model for model in published.numbers(task, dataset) if model not in run]
            found.append(Comparison(lines, tuple(absent)))
    in_order = budgets(frame)

    def order(c: Comparison) -> tuple[Any, ...]:
        task, budget, dataset = (c.head[key] for key in ("task", "budget", "dataset"))
        known = published.numbers(task, dataset)
        return TASKS.index(task), in_order.index(budget), not known, dataset

    return sorted(found, key=order)  # which leaves the order of what agrees


def ran(compared: Sequence[Comparison]) -> list[Comparison]:
    """Return the comparisons of data sets that could be had."""
    return [c for c in compared if not c.skipped]


def alike(c: Comparison, compared: Sequence[Comparison]) -> list[Comparison]:
    """Return the comparisons of the same task, budget and data set, this one among them."""

    def key(one: Comparison) -> tuple[str, str, str]:
        return one.head["task"], one.head["budget"], one.head["dataset"]

    return [other for other in compared if key(other) == key(c)]


def which(c: Comparison, compared: Sequence[Comparison]) -> str:
    """Number a comparison, " 2", where there are others of its task, budget and data set."""
    others = alike(c, compared)
    return "" if len(others) == 1 else f" {others.index(c) + 1}"


def by_dataset(compared: Sequence[Comparison]) -> list[Comparison]:
    """Put those of one data set together, in the order of the first of each."""
    datasets = list(dict.fromkeys(c.head["dataset"] for c in compared))
    return sorted(compared, key=lambda c: datasets.index(c.head["dataset"]))


def budgets(frame: pd.DataFrame) -> list[str]:
    """Return a frame's budgets in the catalogue's order; others last."""
    known = list(catalogue.budgets())
    found = frame["budget"].unique().tolist()
    return [b for b in known if b in found] + sorted(b for b in found if b not in known)


def place(model: str, row: pd.Series) -> tuple[Any, ...]:
    """Return what a row is sorted by: models as in the catalogue, then controls, then by name."""
    if row["control"]:
        controls = list(catalogue.controls())
        return True, controls.index(model) if model in controls else len(controls), False, model
    return False, catalogue.order(model), not row["run"], model


def _row(model: str, own: pd.DataFrame) -> dict[str, Any]:
    """Sum up the cells of a row."""
    failed = own[own["status"] != "done"]
    return {
        "model": model,
        "control": own["control"].iloc[0],
        "variant_of": own["variant_of"].iloc[0],
        "union_grid": own["union_grid"].any(),
        "run": len(own),
        "done": len(own) - len(failed),
        "capped": int((own["status"].eq("done") & own["ended"].eq("cap")).sum()),
        "fixed": int((own["status"].eq("done") & own["ended"].eq("steps")).sum()),
        "endings": shared_ending(failed["ending"].tolist()),
        "not_done": "; ".join(
            f"seed {cell.seed}: {cell.status}, {cell.reason}" for cell in failed.itertuples()
        ),
    }


# Of what is not missing, by numpy: pandas sums groups in another way, with another last digit.
def _mean(values: pd.Series) -> float:
    return float(np.mean(values.dropna().to_numpy())) if values.count() else np.nan


def _deviation(values: pd.Series) -> float:
    if values.nunique() == 1 < values.count():
        return 0.0  # numpy's is 1e-17 where the mean is rounded
    return float(np.std(values.dropna().to_numpy(), ddof=1)) if values.count() > 1 else np.nan
