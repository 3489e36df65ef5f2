"""The table of costs: what training and scoring the cells of a grid took."""

from collections.abc import Sequence
from itertools import groupby

import pandas as pd

from harness.present.comparison import Comparison
from harness.present.tables import columns
from harness.present.tables.table import Document, Table
from harness.present.text import duration, mebibytes, paragraphs

FIELDS = [
    "budget", "task", "dataset", "model", "seed", "control", "status", "parameters", "steps",
    "train_seconds", "sample_seconds", "score_seconds", "peak_memory_bytes", "device", "threads",
    "date", "epoch_seconds",
]  # fmt: skip


def document(compared: Sequence[Comparison], budget: str) -> Document:
    """Return the costs of one budget's cells: a table for each task, a frame of all cells."""
    by_task = groupby(compared, lambda c: c.head["task"])
    tables = [table(list(group)) for _, group in by_task]
    frame = pd.concat([c.cells[FIELDS] for c in compared])
    return Document("costs", budget, "Costs", tables, paragraphs("legends.j2", "costs"), frame)


def table(compared: Sequence[Comparison]) -> Table:
    """Return the costs of a task's models, a line for each model and data set."""
    lines = []
    for c in compared:
        rows = c.models[c.models["run"] > 0]
        names = columns.labels(rows)
        for name, seeds, model in zip(names, columns.seeds(rows), rows.index, strict=True):
            cells = c.cells[c.cells["model"] == model]
            memory, epoch = cells["peak_memory_bytes"].mean(), cells["epoch_seconds"].mean()
            lines.append(
                {
                    "data set, model": f"{c.head['title']}, {name}",
                    "seeds": seeds,
                    "parameters": f"{cells['parameters'].max():,}",
                    "steps": f"{cells['steps'].mean():,.0f}",
                    "training": duration(cells["train_seconds"].mean()),
                    "time per epoch": "–" if pd.isna(epoch) else duration(epoch),
                    "sampling": duration(cells["sample_seconds"].mean()),
                    "scoring": duration(cells["score_seconds"].mean()),
                    "peak memory": "–" if pd.isna(memory) else mebibytes(memory),
                    "device": ", ".join(cells["device"].unique()),
                }
            )
    head = compared[0].head
    return Table(f"Costs of a cell: {head['task']}, budget {head['budget']}", pd.DataFrame(lines))
