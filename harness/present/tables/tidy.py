"""Comparisons as one line for each score of each row: what the tables' .csv files hold."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from harness.present.comparison import Comparison
from harness.present.quantities import MUST_AGREE
from harness.tasks import TABLE_OF

TIDY = ["budget", "task", "dataset", "model", "control", "score", "published", "certainty", "value",
        "seed_spread", "evaluator_spread", "n", "seeds", "seeds_run", "not_done", "better_controls",
        "within_noise_floor"]  # fmt: skip
SPARSE = ["largest_p", "skill", "skill_low", "skill_high", "skill_reference", "union_grid"]
P = "p_"  # how the names of p values begin


def tidy(compared: Sequence[Comparison]) -> pd.DataFrame:
    """Return one line for each score of each row: numbers, published ones, endings and marks.

    A row that failed keeps the lines of its table, with its endings and without values. A p has no
    mean over seeds: the largest one stands in `largest_p`, and `value` is empty.
    """
    lines = pd.concat([_tidy(comparison) for comparison in compared], ignore_index=True)
    lines["union_grid"] = lines["union_grid"].where(lines["union_grid"])
    return lines.drop(columns=[name for name in SPARSE if lines[name].isna().all()])


def _tidy(c: Comparison) -> pd.DataFrame:
    literal = {q.literal: q for q in c.quantities.values()}
    robust = {q.robust: q for q in c.quantities.values()}
    parts = []
    for score in c.score_names:
        found = c.estimate(score)
        part = found[["value", "seed_spread", "evaluator_spread", "n"]].assign(
            score=score,
            control=c.rows["control"],
            seeds=found["finite"],
            seeds_run=c.rows["run"],
            not_done=c.rows["not_done"],
            union_grid=c.rows["union_grid"],
            published=None,
            certainty=None,
            better_controls="",
            within_noise_floor=None,
        )
        keep = found["scored"] > 0
        if quantity := literal.get(score) or robust.get(score):
            keep |= not quantity.optional
        if quantity := literal.get(score):
            numbers = c.published(quantity.name)
            part["published"] = [number and number.value for number in numbers]
            part["certainty"] = [number and number.certainty for number in numbers]
            keep |= numbers.notna()
        if score.startswith(P):
            part[["value", "seed_spread"]] = np.nan
            part["largest_p"] = found["largest"]
        if quantity := robust.get(score):
            skills = c.skill(quantity)
            part["skill_reference"] = [c.reference if m in skills else None for m in part.index]
            for column, end in {"skill": 0, "skill_low": 1, "skill_high": 2}.items():
                part[column] = pd.Series({m: i[end] for m, i in skills.items()}, dtype=float)
            part["better_controls"] = c.better_controls(quantity).map(" ".join)
            if c.noise_floor(quantity):
                part["within_noise_floor"] = c.within_noise_floor(quantity)
        parts.append(part[keep])
    lines = pd.concat(parts).loc[c.rows.index].reset_index()
    shared = ["n_test", "length", "channels", *MUST_AGREE[TABLE_OF[c.head["task"]]]]
    lines = lines.assign(**{key: c.head[key] for key in ("budget", "task", "dataset", *shared)})
    return lines.reindex(columns=[*TIDY, *shared, *SPARSE])
