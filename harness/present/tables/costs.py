"""What the models cost, measured on made-up data with nothing beside: tables for docs/models.md."""

from collections.abc import Sequence

import pandas as pd

from harness import catalogue
from harness.measurements import SAMPLES, Cost, Size
from harness.present.tables import table
from harness.present.tables.table import Table
from harness.present.text import duration, measured_on, mebibytes, number


def markdown(costs: Sequence[Cost]) -> str:
    """Return a table for each size that was measured, the fastest model first."""
    by_size: dict[Size, list[Cost]] = {}
    for cost in costs:
        size = Size(cost.task, cost.batch, cost.length, cost.channels)
        by_size.setdefault(size, []).append(cost)
    blocks = []
    for size, own in by_size.items():
        lines = pd.DataFrame([_line(cost) for cost in sorted(own, key=lambda c: c.step_seconds)])
        if all(cost.sample_seconds is None for cost in own):
            lines = lines.drop(columns=f"{SAMPLES} samples")
        title = f"{size.title[0].upper()}{size.title[1:]}"
        blocks += [f"**{title}**", table.markdown(Table(title, lines))]
    return "\n\n".join([*blocks, _footnote(costs)])


def _line(cost: Cost) -> dict[str, str]:
    rate = number(1 / cost.step_seconds, 2)
    if cost.step_quartiles is not None:
        slow, fast = (number(1 / seconds, 2) for seconds in reversed(cost.step_quartiles))
        rate += f" ({slow} to {fast})"
    sampling = "–" if cost.sample_seconds is None else duration(cost.sample_seconds)
    return {
        "model": catalogue.label(cost.model),
        "parameters": f"{cost.parameters:,}",
        "training steps/s": rate,
        "peak memory": mebibytes(cost.train_peak_bytes),
        f"{SAMPLES} samples": sampling,
    }


def _footnote(costs: Sequence[Cost]) -> str:
    models: dict[str, dict[str, None]] = {}  # by what they were measured on
    for cost in costs:
        models.setdefault(measured_on(cost.circumstances), {})[catalogue.label(cost.model)] = None
    measured = [
        sentence if len(models) == 1 else f"{sentence.rstrip('.')}: {'; '.join(names)}."
        for sentence, names in models.items()
    ]
    return (
        "Memory is that of the whole process, of which Python and torch take some 300 MiB on a CPU."
        f" Median (quartiles) of at most {max(cost.steps for cost in costs)} steps."
        f" {' '.join(measured)}"
    )
