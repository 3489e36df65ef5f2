"""What a table of the leaderboard can show: verdicts, effects, scores, published numbers, costs."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from harness import catalogue
from harness.present.best import best
from harness.present.comparison import Comparison
from harness.present.decisions import (
    decided,
    decimals,
    distances,
    seeds_told_apart,
    told_apart,
    training_series_told_apart,
)
from harness.present.tables import columns
from harness.present.text import duration, mebibytes

VERDICT = "verdict"  # key of a measure
PUBLISHED = "published_"  # how keys of printed numbers begin
TESTS = "Two-sample tests"
ROBUST = "Robust scores, for conclusions"
LITERAL = "As the paper computes and prints them"
MEANS = "Costs, means over seeds"
NEAR_ONE = "Diversity and copying, best near 1"
RATIOS = {
    "band_ratio": "how far samples spread, over how far test series do",
    "nearest_train_ratio": "distance to training series, over that of test series",
}
BEST, TIED = "best", "tied"
COSTS = {  # field of a record -> title, how a mean over seeds is printed
    "train_seconds": ("training time as it was", duration),
    "sample_seconds": ("sampling time as it was", duration),
    "steps": ("training steps", "{:,.0f}".format),
    "parameters": ("parameters", "{:,.0f}".format),
    "peak_memory_bytes": ("peak memory", mebibytes),
}


@dataclass(frozen=True, eq=False)
class Measure:
    """One measure of all rows of a comparison.

    Attributes
    ----------
    key : str
        Its name, the same in all comparisons of a task.
    group, title : str
        Where the list of measures has it, and what it is called there.
    texts : Series of str
        What the table shows, by row.
    values : Series of float
        What the table is sorted by, by row.
    more : bool
        Whether more is better.
    ranked : bool
        Whether there is a best model.
    quantity : str, optional
        Whose paired test says which rows the best one is ahead of.
    """

    key: str
    group: str
    title: str
    texts: pd.Series
    values: pd.Series
    more: bool = False
    ranked: bool = True
    quantity: str | None = None


def measures(c: Comparison) -> Iterator[Measure]:
    """Yield the measures of a comparison; the first one is what its table begins with."""
    if decided(c):
        values = c.estimate("p_all")["value"]
        title = "told apart from real series?"
        yield Measure(VERDICT, TESTS, title, told_apart(c), values, True, ranked=False)
        for name in distances(c):
            key = f"effect_{name}"
            texts = columns.scores(c, key, evaluator=False, form=decimals)
            values = c.estimate(key)["value"]
            yield Measure(key, TESTS, f"effect: {name}", texts, values)
    yield from _scores(c)
    for name, title in RATIOS.items():
        values = c.estimate(name)["value"]
        if values.notna().any():
            texts = columns.scores(c, name, evaluator=False)
            yield Measure(name, NEAR_ONE, title, texts, values, ranked=False)
    yield from _costs(c)


def _scores(c: Comparison) -> Iterator[Measure]:
    for q in c.quantities.values():
        less = q.ceiling is None
        values = c.estimate(q.robust)["value"]
        texts = columns.robust(c, q, evaluator=False)
        yield Measure(
            q.robust, ROBUST, f"robust {q.heading}", texts, values, not less, quantity=q.name
        )
    for q in c.quantities.values():
        if skill := c.skill(q):
            values = pd.Series({m: interval.difference for m, interval in skill.items()})
            title = f"skill in {q.title or q.name} ↑"
            values = values.reindex(c.rows.index)
            yield Measure(f"skill_{q.name}", ROBUST, title, columns.skill(c, q), values, True)
    for q in c.quantities.values():
        less = q.ceiling is None
        if q.literal != q.robust:
            texts = columns.scores(c, q.literal, evaluator=False, scale=q.scale)
            values = c.estimate(q.literal)["value"]
            yield Measure(q.literal, LITERAL, f"literal {q.heading}", texts, values, not less)
        numbers = c.published(q.name)
        if numbers.notna().any():
            values = numbers.map(lambda n: np.nan if n is None else n.value).astype(float)
            texts = columns.published_numbers(c, q)
            key = f"{PUBLISHED}{q.name}"
            yield Measure(key, LITERAL, f"published {q.heading}", texts, values, not less)


def _costs(c: Comparison) -> Iterator[Measure]:
    done = c.cells[c.cells["status"].eq("done") & ~c.cells["control"]]
    for field, (title, form) in COSTS.items():
        # Of what was made elsewhere, only the time of a command is known.
        timed = field == "train_seconds"
        known = done[done["made_here"] | (timed & done["train_seconds"].gt(0))]
        values = known.groupby("model")[field].mean().astype(float).reindex(c.rows.index)
        texts = values.map(lambda value, form=form: "–" if pd.isna(value) else form(value))
        yield Measure(field, MEANS, title, texts, values, ranked=False)


def marks(c: Comparison, measure: Measure) -> tuple[dict[str, str], str]:
    """Return which model is best and which are not clearly worse, and the same in a sentence.

    Controls and variants do not compete.
    """
    competing = c.models.index[c.models["variant_of"].isna()]
    if measure.key == VERDICT:
        return {}, _tests(c, competing)  # a smaller number of seeds is no better model
    if measure.quantity is not None:
        found = best(c, measure.quantity)
        if found is None:
            return {}, ""
        return dict.fromkeys(found.first, BEST) | dict.fromkeys(found.tied or (), TIED), found.text
    values = measure.values.reindex(competing).dropna()
    if not measure.ranked or len(values) < 2:
        return {}, ""
    first = str(values.idxmax() if measure.more else values.idxmin())
    return {first: BEST}, f"best: {catalogue.label(first)}"


def _tests(c: Comparison, competing: pd.Index) -> str:
    """Say in a sentence which models are told apart from real series, and whether real ones are."""
    seeds = seeds_told_apart(c).reindex(competing).dropna().astype(int)
    if seeds.empty:
        return ""
    never, always = seeds["told"].eq(0), seeds["told"].eq(seeds["tested"])
    parts = []
    for what, own in (("no seed", seeds[never]), ("some seeds", seeds[~never & ~always])):
        rows = own.itertuples()
        names = [f"{catalogue.label(str(r.Index))} ({r.told} of {r.tested})" for r in rows]
        parts += [f"in {what}: {', '.join(names)}"] if names else []
    if not parts:
        text = "all are told apart, in every seed"
    else:
        n = int(always.sum())
        parts += [f"in every seed: the other {n if n > 1 else 'one'}"] if n else []
        text = f"told apart {'; '.join(parts)}"
    of_real, tested = training_series_told_apart(c)
    if of_real:
        text += f". Real training series, the noise floor: in {of_real} of {tested} seeds"
    return text
