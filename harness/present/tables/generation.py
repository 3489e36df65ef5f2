"""Tables of generation: the paper's table 1, memorisation, scores that only one data set has."""

from collections.abc import Iterable, Sequence

import pandas as pd

from harness.powers import Power
from harness.present.best import leading
from harness.present.comparison import Comparison, ran
from harness.present.decisions import belongs
from harness.present.frame import BAND_RATIO
from harness.present.quantities import QUANTITIES
from harness.present.tables import columns, decisions
from harness.present.tables.scores import (
    absent,
    failures,
    older,
    printed,
    published_legend,
    score_table,
    title,
)
from harness.present.tables.table import Document, Table
from harness.present.tables.tidy import tidy
from harness.present.text import paragraphs

MEMORISATION = {
    "nearest_train_generated": "generated to training",
    "nearest_train_test": "test to training",
    "nearest_train_ratio": "ratio",
    BAND_RATIO: "band, generated / test",
}
COMMON = ("wasserstein", "classification_accuracy", "classification_auc")  # scores of every set


def documents(
    compared: Sequence[Comparison], budget: str, powers: Sequence[Power]
) -> list[Document]:
    """Return the tables of one budget's generation."""
    shown = ran(compared)
    frame = tidy(compared)
    own = [c for c in shown if own_scores(c.score_names)]
    found = [
        Document(
            "table1",
            budget,
            "Table 1: generation",
            [scores(c, title(c, compared)) for c in shown] + absent(compared),
            paragraphs("legends.j2", "table1", older=older(shown))
            + published_legend("table1", compared),
            frame,
        ),
        decisions.document(shown, budget, powers),
        Document(
            "memorisation",
            budget,
            "Memorisation and diversity: generation",
            [_memorisation(c, title(c, compared)) for c in shown],
            paragraphs("legends.j2", "memorisation"),
            frame[frame["score"].isin(MEMORISATION)],
        ),
        Document(
            "own_scores",
            budget,
            "Own scores of a data set: generation",
            [_own(c, title(c, compared)) for c in own],
            paragraphs("legends.j2", "own_scores"),
            frame[frame["score"].isin({name for c in own for name in own_scores(c.score_names)})],
        ),
    ]
    return [document for document in found if document and document.tables]


def scores(c: Comparison, title: str) -> Table:
    """Return literal and robust scores, and published ones of a data set that has some."""
    cells, best = {}, {}
    for name, quantity in c.quantities.items():
        if c.published(quantity.name).notna().any():
            cells[quantity.heading, "published"] = columns.published_numbers(c, quantity)
        cells[quantity.heading, "literal"] = columns.scores(c, quantity.literal)
        cells[quantity.heading, "robust"] = columns.robust(c, quantity)
        best[quantity.heading, "robust"] = leading(c, name)
    return score_table(c, title, cells, printed(c), best)


def _memorisation(c: Comparison, title: str) -> Table:
    """Return distances to the nearest training series, and how far samples spread."""
    c = c.with_any(list(MEMORISATION))
    cells = {
        ("", heading): columns.scores(c, score, evaluator=False)
        for score, heading in MEMORISATION.items()
    }
    return score_table(c, title, cells)


def own_scores(names: Iterable[str]) -> list[str]:
    """Return which scores of generation are no score of every data set."""
    common = {score for q in QUANTITIES["table1"] for score in (q.literal, q.robust)}
    common |= {*MEMORISATION, *COMMON}
    return [name for name in names if name not in common and not belongs(name)]


def _own(c: Comparison, title: str) -> Table:
    """A column for each row of the other tables: there are more scores than rows."""
    names = own_scores(c.score_names)
    c = c.with_any(names)
    texts = pd.DataFrame({name: columns.scores(c, name, evaluator=False) for name in names}).T
    kinds = c.rows["control"].map({True: "controls", False: "models"})
    texts.columns = pd.MultiIndex.from_arrays([kinds, columns.labels(c.rows)])
    texts.insert(0, ("", "score"), names)
    return Table(title, texts, notes=failures(c))
