"""The table of evidence bounds: negative ELBOs of the models that have one, and of the paper."""

from collections.abc import Sequence

import pandas as pd

from harness.present.comparison import Comparison, ran
from harness.present.tables import columns
from harness.present.tables.scores import published_legend, score_table, title
from harness.present.tables.table import Document, Table
from harness.present.text import paragraphs

QUANTITY = "neg_elbo"


def document(
    compared: Sequence[Comparison], budget: str, frame: pd.DataFrame, union: tuple[str, ...]
) -> Document:
    """Return the bounds of one budget; `union` explains the mark of union grids."""
    shown = with_bound(ran(compared))
    published = published_legend("elbo", shown) if shown else ()
    return Document(
        "elbo",
        budget,
        "Negative ELBO",
        [table(c, title(c, compared)) for c in shown],
        paragraphs("legends.j2", "elbo") + union + published,
        frame[frame["score"].str.startswith("neg_elbo")],
    )


def with_bound(compared: Sequence[Comparison]) -> list[Comparison]:
    """Keep the comparisons in which a row that was run has a negative ELBO, ours or published."""
    return [c for c in compared if (_has_bound(c) & (c.rows["run"] > 0)).any()]


def _has_bound(c: Comparison) -> pd.Series:
    """Which rows have a negative ELBO, ours or published."""
    return (c.estimate(QUANTITY)["scored"] > 0) | c.published(QUANTITY).notna()


def table(c: Comparison, title: str) -> Table:
    """Return the bounds of the rows that have one: KL, likelihood, and what it depends on."""
    c = c.only(c.rows.index[_has_bound(c)])
    quantity = c.quantities[QUANTITY]
    group = f"{quantity.heading}, nats a record"

    def scores(score: str, seed: bool = True) -> pd.Series:
        return columns.scores(c, score, evaluator=False, seed=seed)

    cells = {
        (group, "published"): columns.published_numbers(c, quantity),
        (group, "ours"): columns.scores(c, quantity.robust),
        (group, "KL"): scores("neg_elbo_kl"),
        (group, "NLL"): scores("neg_elbo_nll"),
        # by a model's settings, so that all seeds have the same
        (group, "floor"): scores("neg_elbo_floor", seed=False),
        ("", "sigma"): scores("neg_elbo_sigma", seed=False),
        ("", "per value"): scores("neg_elbo_per_value"),
    }
    return score_table(c, title, cells)
