"""What the page of a row tells: pictures, scores, paired comparisons, records, sources."""

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from datasets.fetch import Source, read_manifest
from harness import catalogue
from harness.powers import Power
from harness.present import provenance
from harness.present.best import bests
from harness.present.comparison import Comparison
from harness.present.decisions import decided, power_of, told_apart
from harness.present.leaderboard.board import Board, compare, verdict
from harness.present.leaderboard.pictures import pictures
from harness.present.text import duration, number
from harness.records import RECORD
from metrics.paired import FEWEST, Interval


def content(board: Board, column: int, model: str, powers: list[Power]) -> dict[str, Any]:
    """Return what the template of a row's page asks for."""
    c = board.compared[column]
    cells = c.cells[c.cells["model"] == model]
    power = power_of(c, powers)
    return {
        "board": board,
        "title": board.titles[column],
        "label": catalogue.label(model),
        "control": bool(c.rows.loc[model, "control"]),
        "verdict": str(told_apart(c)[model]) if decided(c) else None,
        "weak": power.weak if power else None,
        "best": bests(c),
        "pictures": pictures(c, model),
        "seeds": cells["seed"].tolist(),
        "scores": _scores(c, model, cells),
        "beside": _beside(c, board, column, model),
        "fewest": FEWEST,
        "quantities": c.quantities,
        "records": [_record(cell) for cell in cells.itertuples()],
        "sources": sources(c.head["dataset"]),
        "duration": duration,
        "elsewhere": [
            (board.titles[other], Path(page).name)
            for other in range(len(board.compared))
            if other != column and (page := board.page(other, model))
        ],
    }


def sources(dataset: str) -> list[Source]:
    """Return where a data set is from, with licence and citation; nothing of a computed one."""
    if dataset not in catalogue.available("datasets"):
        return []
    wanted = set(catalogue.dataset(dataset).files)
    return [s for s in _manifest() if wanted & {file.path for file in s.files}]


@functools.cache
def _manifest() -> list[Source]:
    return list(read_manifest().sources.values())


def _scores(c: Comparison, model: str, cells: pd.DataFrame) -> list[dict[str, Any]]:
    """Return a line for each score: what it is, over seeds, and of each seed."""
    kinds = {q.literal: f"{q.title or q.name}, literal" for q in c.quantities.values()}
    kinds |= {q.robust: f"{q.title or q.name}, robust" for q in c.quantities.values()}
    own = c.lines[c.lines["model"].eq(model) & c.lines["score"].notna()]
    by_seed = own.set_index(["score", "seed"])[["value", "spread"]]
    estimates = c.estimates.loc[model] if model in c.estimates.index else pd.DataFrame()
    return [
        {
            "name": score,
            "kind": kinds.get(score, ""),
            "mean": _spread(estimates.loc[score, "value"], estimates.loc[score, "seed_spread"]),
            "seeds": [_spread(*_of(by_seed, (score, seed))) for seed in cells["seed"].tolist()],
        }
        for score in c.score_names
        if score in estimates.index
    ]


def _of(by_seed: pd.DataFrame, key: tuple[str, int]) -> tuple[float, float]:
    if key not in by_seed.index:
        return np.nan, np.nan
    value, spread = by_seed.loc[key].astype(float)
    return value, spread


def _spread(value: float, spread: float) -> str:
    """Return a number with its spread."""
    if not np.isfinite(value):
        return "–"
    return number(value) + (f" ± {number(spread, 2)}" if np.isfinite(spread) else "")


def _beside(c: Comparison, board: Board, column: int, model: str) -> list[dict[str, Any]]:
    """Compare a row with every other one of its data set, as far as that can be done."""
    others = {name for pair in board.pairs[column] if model in pair for name in pair} - {model}
    return [
        {
            "label": catalogue.label(other),
            "page": Path(str(board.page(column, other))).name,
            "intervals": {
                name: (interval_text(interval), verdict(board.task, interval))
                for name, interval in compare(c, model, other).items()
            },
        }
        for other in c.rows.index
        if other in others
    ]


def interval_text(interval: Interval) -> str:
    """Return a difference and the ends of its interval."""
    value, low, high = (f"{end:.3g}".replace("-", "−") for end in interval[:3])
    return f"{value} [{low}, {high}]"


def _record(cell: Any) -> dict[str, Any]:
    """Return a cell's record, where it lies, and what trains and scores it again."""
    return {
        "cell": cell,
        "text": (cell.folder / RECORD).read_text(encoding="utf-8"),
        "training": provenance.training(cell),
        "command": provenance.command(cell, cell.folder),
    }
