"""What tables of scores share: form, titles, notes below, data sets that were not run."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from harness import catalogue
from harness.config import Protocol
from harness.present import published
from harness.present.comparison import Comparison, alike
from harness.present.quantities import QUANTITIES
from harness.present.tables.columns import labels, published_numbers, seeds
from harness.present.tables.table import Document, Table
from harness.present.text import paragraphs

Columns = Mapping[tuple[str, str], pd.Series]  # by (group, heading)


def score_table(
    c: Comparison,
    title: str,
    columns: Columns,
    notes: Sequence[str] = (),
    best: Mapping[tuple[str, str], Sequence[str]] | None = None,
) -> Table:
    """Return a table with a line for each row of a comparison.

    It begins with labels and ends with seeds; below it stands how seeds ended, then `notes`. `best`
    names the models of a column that are set in bold.
    """
    cells = {("", ""): labels(c.rows), **columns, ("", "seeds"): seeds(c.rows)}
    below = [*failures(c), *frozen(c), *notes]
    return Table(title, pd.DataFrame(cells, c.rows.index), c.rows["control"], below, best or {})


def title(c: Comparison, compared: Sequence[Comparison]) -> str:
    """Return the title of a table, unique among those of its task and data set."""
    head = c.head
    channels = "1 channel" if head["channels"] == 1 else f"{head['channels']} channels"
    if head["task"] == "generation":
        text = (
            f"{head['title']}, budget {head['budget']}: {head['n_test']} test series of"
            f" {head['length']} steps, {channels}; {head['evaluator_fits']} evaluator fits of"
            f" {head['evaluator_epochs']} epochs"
        )
    else:
        n = c.estimate("mse_micro")["n"].dropna()
        scored = "" if n.empty else f", {n.iloc[0]} with values to predict"
        text = (
            f"{head['title']}, {head['task']}{_hides(head)}, budget {head['budget']}:"
            f" {head['n_test']} test records{scored}, of up to {head['length']} time points,"
            f" {channels}; {head['draws']} draws"
        )
    if len(alike(c, compared)) > 1:
        text += f"; data {head['data_digest'][:8]}, split {head['split_digest'][:8]}"
        text += f", protocol {head['protocol']}" if head["protocol"] != "{}" else ""
    return text


def _hides(head: dict[str, Any]) -> str:
    protocol = Protocol.model_validate_json(head["protocol"])
    if head["task"] == "interpolation":
        return f" with {100 * protocol.hidden:g} % hidden"
    if head["task"] == "extrapolation" and protocol.cut == "count":
        return " from the middle row of a batch"
    return ""


def failures(c: Comparison) -> list[str]:
    """Name every seed that is not done, with its reason."""
    failed = c.cells[c.cells["status"] != "done"]
    return [
        f"{catalogue.label(cell.model)}, seed {cell.seed}: {cell.status}, {cell.reason}"
        for cell in failed.itertuples()
    ]


def frozen(c: Comparison) -> list[str]:
    """Say of trainings that a schedule ended before their last step where that was."""
    cells = c.cells[c.cells["status"].eq("done") & c.cells["ended"].eq("frozen")]
    found = []
    for (model, planned), own in cells.groupby(["model", "planned_steps"], sort=False):
        first, last = own["steps"].min(), own["steps"].max()
        at = f"step {first:,}" if len(own) == 1 else f"steps {first:,} to {last:,}"
        found.append(f"{catalogue.label(str(model))}: schedule frozen at {at} of {planned:,}")
    return found


def printed(c: Comparison) -> list[str]:
    """Return what else was published about a data set."""
    found = []
    for note in published.notes(c.head["task"], c.head["dataset"]):
        numbers = [
            f"{catalogue.label(name)} {value} ± {spread}"
            for name, (value, spread) in note.get("printed", {}).items()
        ]
        found.append(note["text"] + (f": {', '.join(numbers)}" if numbers else ""))
    return found


def published_legend(block: str, compared: Sequence[Comparison]) -> tuple[str, ...]:
    """Say what the published numbers of a block of ``published.yaml`` are."""
    wanted = {"elbo": ["neg_elbo"]} | {
        table: [q.name for q in some if not q.optional] for table, some in QUANTITIES.items()
    }
    numbers = pd.concat([c.published(name) for c in compared for name in wanted[block]]).dropna()
    secondary = sorted({n.source for n in numbers if n.certainty == "secondary"})
    return paragraphs(
        "legends.j2", "published", paper=published.paper(block), literal=block != "elbo",
        secondary=secondary,
    )  # fmt: skip


def explain_marks(document: Document) -> Document:
    """Explain the marks of trainings that their validation loss did not stop, where they are."""
    cells = (cell for table in document.tables for cell in (*table.cells, *table.cells.values.flat))
    legend = paragraphs("legends.j2", "ended", marks="".join(map(str, cells)))
    return replace(document, legend=(*document.legend, *legend))


def older(compared: Sequence[Comparison]) -> bool:
    """Whether some records are of an earlier version, without errors of single series."""
    return any(c.older for c in compared)


# -- data sets that could not be had --------------------------------------------------------------


def reasons(compared: Sequence[Comparison]) -> list[str]:
    """Say of each data set that could not be had why."""
    found = (f"{c.head['title']}: not run, {c.skipped}" for c in compared if c.skipped)
    return list(dict.fromkeys(found))


def absent(compared: Sequence[Comparison]) -> list[Table]:
    """One line for each data set that could not be had; what was published about it as a note."""
    skipped = [c for c in compared if c.skipped]
    if not skipped:
        return []
    lines, notes = [], reasons(compared)
    for dataset in dict.fromkeys(c.head["dataset"] for c in skipped):
        own = [c for c in skipped if c.head["dataset"] == dataset]
        tasks = ", ".join(dict.fromkeys(c.head["task"] for c in own))
        cells = str(sum(len(c.cells) for c in own))
        lines.append({"data set": own[0].head["title"], "tasks": tasks, "cells": cells})
    for c in skipped:
        for quantity in c.quantities.values():
            numbers = published_numbers(c, quantity)
            known = [f"{catalogue.label(m)} {n}" for m, n in numbers.items() if n != "–"]
            if known:
                what = f"{c.head['title']}, {c.head['task']}, published {quantity.heading}"
                notes.append(f"{what}: {', '.join(known)}")
        notes += [f"{c.head['title']}: {note}" for note in printed(c)]
    return [Table("Data sets that were not run", pd.DataFrame(lines), notes=notes)]
