"""A sweep: validation loss and robust scores of one model's variants, as dots with intervals."""

from collections.abc import Iterator

import pandas as pd

from harness.present.comparison import Comparison
from harness.present.figures.scores import score_intervals, score_lines
from harness.present.figures.style import Drawn, caption
from harness.present.quantities import Quantity
from harness.present.tables.sweep import chosen
from harness.sweeps import parts

# Differences alone count: an objective such as a negative likelihood has no zero.
LOSS = Quantity("validation", "", "", "above lowest", "validation loss")


def figures(c: Comparison, stem: str, what: str) -> Iterator[Drawn]:
    """Draw the sweeps of one comparison, a figure for each model."""
    task = "" if c.head["task"] == "generation" else f"{c.head['task']}_"
    for swept in c.sweeps:
        model = parts(str(swept.models.index[0]))[0]
        quantities = [q for q in swept.quantities.values() if not q.optional]
        floors = {q.name: floor for q in quantities if (floor := swept.noise_floor(q))}
        losses = swept.cells[["model", "control", "seed", "ending", "validation_loss"]]
        known = losses["validation_loss"].notna().any()
        above = losses["validation_loss"] - losses["validation_loss"].min()
        lines = losses.drop(columns="validation_loss").assign(
            score=LOSS.name, value=above, spread=float("nan")
        )
        yield Drawn(
            f"sweep_{model}_{task}{stem}",
            score_intervals(
                pd.concat([score_lines(swept), lines], ignore_index=True),
                [LOSS, *quantities] if known else quantities,
                floors,
                what,
            ),
            caption("sweep", what=what, chosen=chosen(swept)),
        )
