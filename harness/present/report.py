"""The report: one HTML file with tables, figures and the provenance of every number, no network."""

import base64
import html
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from harness import catalogue
from harness.powers import find_powers
from harness.present import frame, provenance, run_times, tables
from harness.present.best import bests
from harness.present.comparison import comparisons
from harness.present.decisions import decided
from harness.present.figures.style import read_captions
from harness.present.leaderboard.board import boards
from harness.present.leaderboard.measures import VERDICT
from harness.present.tables import claims, lengths
from harness.present.tables.prediction import details
from harness.present.tables.table import Table
from harness.present.text import duration, environment, machine_name
from harness.texts import write_text

MAIN = {  # sections and their documents
    "Table 1": ["table1", "decisions"],
    "Table 2": ["overview", "table2"],
    "Claims": ["claims"],
}

MARKS = "†‡◦‖ˢᵘᶜᶠ"  # that a paragraph of a legend may begin with


def write(
    records_dirs: Sequence[Path],
    tables_dir: Path,
    figures_dir: Path,
    out: Path,
    home: str | None = None,
) -> None:
    """Write the report, whole or not at all.

    Parameters
    ----------
    records_dirs : sequence of Path
        Searched for records of cells, of the tests' power and of run times.
    tables_dir : Path
        Where the tables lie as files; named in the report.
    figures_dir : Path
        ``*.png`` and ``captions.json`` as `harness.present.figures` writes them; pictures are
        embedded.
    out : Path
        The HTML file.
    home : str, optional
        The address of the site that the report is a part of, seen from `out`.

    Raises
    ------
    UserError
        If there is no record, or two are of the same cell.
    """
    found = frame.read(records_dirs)
    cells = pd.concat([c.cells for c in comparisons(found)])
    documents = tables.documents(found, find_powers(records_dirs))
    runs = run_times.find(records_dirs)
    documents += [*lengths.documents(runs), claims.document(found, run_times.studies(runs))]
    main = {
        name: [d for d in documents if d.kind in kinds]
        for name, kinds in MAIN.items()
        if any(d.kind in kinds for d in documents)
    }
    shown = {d.stem for some in main.values() for d in some}
    by_run = cells.groupby(["task", "budget"], sort=False)
    skipped = cells[cells["status"] == "skipped"].groupby(
        ["title", "budget", "reason"], sort=False, dropna=False
    )
    text = environment(html=True).get_template("report.html.j2").render(
        home=home,
        n_records=len(cells),
        conclusions=_conclusions(found),
        runs=[_run(own) for _, own in by_run],
        main=main,
        others=[d for d in documents if d.stem not in shown],
        details={d.stem: details(d, documents) for d in documents},
        files=sorted(path.name for path in tables_dir.glob("*")),
        tables_dir=tables_dir.name,
        figures=_figures(figures_dir),
        failures=_lines(cells[~cells["status"].isin(["done", "skipped"])]),
        skipped=[(*key, len(own)) for key, own in skipped],
        records=_provenance(cells, found),
        written=_written,
        marks_of=_marks,
        label=catalogue.label,
        duration=duration,
    )  # fmt: skip
    write_text(out, text)


def _conclusions(found: pd.DataFrame) -> list[tuple[str, dict[str, str]]]:
    """Return what is decided of the models on each data set where the tests were made."""
    tested = [c for c in comparisons(found) if not c.skipped and decided(c)]
    return [
        (f"{title}, budget {board.budget}", ({"real series": text} if text else {}) | bests(c))
        for board in boards(tested)
        for title, text, c in zip(board.titles, board.best[VERDICT], board.compared, strict=True)
    ]


def _run(cells: pd.DataFrame) -> dict[str, Any]:
    """What was run for one task and budget, where and when."""
    budget = cells["budget"].iloc[0]
    machines = zip(cells["device"], cells["threads"].tolist(), strict=True)
    commits = cells.groupby(["commit", "dirty"], sort=False, dropna=False)
    return {
        "task": cells["task"].iloc[0],
        "budget": budget,
        "meaning": catalogue.budgets().get(budget),
        "cells": len(cells),
        "statuses": _counts(cells["status"]),
        "datasets": [_dataset(own) for _, own in cells.groupby("dataset", sort=False)],
        "devices": _counts(pd.Series([machine_name(*machine) for machine in machines])),
        "commits": [(*key, len(own)) for key, own in commits],
        "from": cells["date"].min(),
        "to": cells["date"].max(),
    }


def _dataset(cells: pd.DataFrame) -> dict[str, Any]:
    """What was run of one data set."""
    known = cells[cells["data_digest"] != ""]
    counts = known[["n_train", "n_validation", "n_test"]].drop_duplicates()
    digests = known[["data_digest", "split_digest"]].drop_duplicates()
    reasons = cells.loc[cells["status"] == "skipped", "reason"]
    return {
        "title": cells["title"].iloc[0],
        "counts": sorted(counts.itertuples(index=False, name=None)),
        "digests": sorted(digests.itertuples(index=False, name=None)),
        "skipped": sorted(reasons.unique()),
        "rows": [
            (catalogue.label(str(model)), own["seed"].tolist())
            for model, own in cells.groupby("model", sort=False)
        ],
    }


def _written(table: Table) -> Table:
    """Return a table whose cells are HTML."""
    return table.written(html.escape, '<b class="best">{}</b>'.format)


def _marks(table: Table, legend: Sequence[str]) -> list[str]:
    """Return the paragraphs of a legend that begin with a mark of a table, or with "Bold"."""
    text = " ".join([*table.cells.to_numpy().ravel(), *(g + h for g, h in table.columns)])
    marks = tuple(mark for mark in MARKS if mark in text)
    marks += ("Bold",) if any(table.best.values()) else ()
    return [line for line in legend if line.startswith(marks)]


def _counts(values: pd.Series) -> dict[str, int]:
    """How often each value occurs, in the order of their first occurrence."""
    return values.value_counts(sort=False).to_dict()


def _provenance(cells: pd.DataFrame, lines: pd.DataFrame) -> list[dict[str, Any]]:
    """Everything that is kept of each cell."""
    scores = {
        folder: _lines(own[["score", "value", "spread"]])
        for folder, own in lines.dropna(subset="score").groupby("folder")
    }
    return [
        cell
        | {key: json.loads(cell[key]) for key in ("versions", "settings")}
        | {"scores": scores.get(cell["folder"], [])}
        | {"training": provenance.training(row), "command": provenance.command(row, row.folder)}
        | {"of": f"{cell['title']}, {cell['task']}, budget {cell['budget']}"}
        for cell, row in zip(_lines(cells), cells.itertuples(), strict=True)
    ]


def _lines(cells: pd.DataFrame) -> list[dict[str, Any]]:
    """Return lines as plain values, missing ones as None."""
    return cells.astype(object).where(cells.notna(), None).to_dict("records")


def _figures(folder: Path) -> list[dict[str, str]]:
    return [
        {
            "stem": stem,
            "caption": caption,
            "png": base64.b64encode((folder / f"{stem}.png").read_bytes()).decode(),
        }
        for stem, caption in read_captions(folder).items()
    ]
