"""The tables of sweeps: variants of one model by their settings, and which of them is chosen."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from harness import catalogue
from harness.present.comparison import Comparison
from harness.present.tables import columns
from harness.present.tables.scores import score_table, title
from harness.present.tables.table import Document, Table
from harness.present.tables.tidy import tidy
from harness.present.text import number, paragraphs


def document(swept: Sequence[Comparison], budget: str) -> Document:
    """Return the sweeps of one budget."""
    tables = [_table(c, swept) for c in swept]
    legend = paragraphs("legends.j2", "sweep")
    frame = pd.concat([_with_losses(c) for c in swept], ignore_index=True)
    return Document("sweep", budget, "Sweeps of settings", tables, legend, frame)


def losses(c: Comparison) -> pd.DataFrame:
    """Return mean and deviation over seeds of the validation loss, and whether a row is chosen.

    Chosen is the lowest mean of the rows whose seeds are all done; a deviation needs two seeds.
    """
    done = c.cells[c.cells["status"].eq("done")]
    grouped = done.groupby("model")["validation_loss"]
    found = pd.DataFrame({"mean": grouped.mean(), "deviation": grouped.std()}).reindex(c.rows.index)
    whole = found["mean"].where(c.rows["done"] == c.rows["run"]).dropna()
    return found.assign(chosen=found.index == (None if whole.empty else whole.idxmin()))


def chosen(c: Comparison) -> str | None:
    """Return the label of the row that the validation loss chooses; None without such a loss."""
    found = losses(c)
    return next((catalogue.label(str(model)) for model in found.index[found["chosen"]]), None)


def _table(c: Comparison, swept: Sequence[Comparison]) -> Table:
    cells = {("", "validation loss ↓"): _loss_texts(c)}
    for quantity in c.quantities.values():
        scores = columns.scores(c, quantity.robust, scale=quantity.scale)
        if not quantity.optional or (scores != "–").any():
            cells[quantity.heading, "robust"] = scores
    name = chosen(c)
    if name is None:
        note = "No choice: no validation loss of a row whose seeds are all done."
    else:
        note = f"Chosen on the validation loss: {name}."
    others = [one for one in swept if one.models.index[0] == c.models.index[0]]
    return score_table(c, title(c, others), cells, [note])


def _loss_texts(c: Comparison) -> pd.Series:
    def text(mean: float, deviation: float, is_chosen: bool) -> str:
        if np.isnan(mean):
            return "–"
        spread = "" if np.isnan(deviation) else f" ± {number(deviation, 2)}"
        return number(mean, 4) + spread + (", chosen" if is_chosen else "")

    found = losses(c)
    return pd.Series([text(*row) for row in found.itertuples(index=False)], found.index, dtype=str)


def _with_losses(c: Comparison) -> pd.DataFrame:
    found = losses(c).rename(columns={"mean": "validation_loss"})
    return tidy([c]).join(found[["validation_loss", "chosen"]], on="model")
