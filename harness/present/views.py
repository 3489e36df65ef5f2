"""What MLflow opens with: a table of the runs for each task, budget and data set.

An experiment keeps such a view as a tag with plain JSON: columns, filter, sort. An address opens
it.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd

from harness import catalogue
from harness.present import provenance
from harness.present.best import bests
from harness.present.comparison import Comparison
from harness.present.decisions import decided
from harness.records import Record

TAG = "mlflow.sharedViewState."  # how the names of such tags begin
NOT_IN_NAMES = r"[^\w./ -]"  # characters that names of metrics must not have
ROW = "mean over seeds"  # tag `level` of the runs that a view shows
ELSEWHERE = (
    "Whether a lead is more than noise: the leaderboard (`make site`, then open"
    " results/site/index.html)."
    " Your own samples beside these: `python -m harness export`, `python -m harness add`, as"
    " docs/your_own.md shows."
)


def metric_name(score: str) -> str:
    """Return the name of a score or loss as MLflow takes it."""
    return re.sub(NOT_IN_NAMES, "_", score)


def key(budget: str, dataset: str) -> str:
    """Return the name of a view in its experiment."""
    return f"{budget}-{dataset}"


def address(experiment: str, name: str) -> str:
    """Return where a view is opened, to be put behind the server's address."""
    place = f"#/experiments/{experiment}/runs"
    return f"{place}?workflowType=machine_learning&viewStateShareKey={name}"


def addresses(
    experiment: str, tags: Mapping[str, str], rows: Iterable[Mapping[str, str]]
) -> list[tuple[str, str]]:
    """Return names and addresses of an experiment's views, those with the most rows first.

    Parameters
    ----------
    experiment : str
    tags : mapping
        Of the experiment.
    rows : iterable of mapping
        The tags of each row's run.
    """
    sizes = Counter(key(own["budget"], own["dataset"]) for own in rows)
    names = [tag.removeprefix(TAG) for tag in tags if tag.startswith(TAG)]
    names.sort(key=lambda name: (-sizes[name], name))
    return [(name, address(experiment, name)) for name in names]


def state(c: Comparison) -> str:
    """Return the view of a comparison: tests, seeds, scores, training time; best row first."""
    scored = set(c.lines["score"])
    robust = [q for q in c.quantities.values() if q.robust in scored]
    scores = [f"metrics.`{metric_name(q.robust)}`" for q in robust]
    where = {"level": ROW, "budget": c.head["budget"], "dataset": c.head["dataset"]}
    view = {  # few columns, since a window of 1,400 pixels shows six; MLflow orders them itself
        "searchFilter": " and ".join(f"tags.{name} = '{value}'" for name, value in where.items()),
        "orderByKey": scores[0] if scores else "attributes.start_time",
        "orderByAsc": not robust or robust[0].ceiling is None,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "selectedColumns": [
            *(["tags.`told_apart`"] if decided(c) else []),
            "tags.`seeds`",
            *scores,
            "metrics.`train_seconds`",
        ],
    }
    return json.dumps(view)


def title(record: Record) -> str:
    """Return what the run of a record's row is called."""
    control = " (control)" if record.control else ""
    return f"{catalogue.label(record.model)}{control} on {record.title}, {record.budget}"


def leads(row: pd.DataFrame, compared: Iterable[Comparison]) -> str:
    """Say which models are best on the data of a row's cells, and whether by more than noise."""
    found = [c for c in compared if set(row["folder"]) <= set(c.cells["folder"])]
    return " ".join(f"{title}: {text}." for c in found for title, text in bests(c).items())


def row_note(
    experiment: str, record: Record, done: list[int], run: int, tests: str | None, leads: str
) -> str:
    """Say what the run of a row is, what is decided of it, and where to look further."""
    seeds = f"{'seed' if len(done) == 1 else 'seeds'} {', '.join(map(str, done)) or 'none'}"
    said = f"{title(record)}: {record.task}, mean over {seeds}; {len(done)} done of {run}."
    said += f" Against real series: {tests}." if tests else ""
    said += f" Of all models, {leads}" if leads else ""
    return (
        f"{said} {_table(experiment, record)}. How a seed trained and what runs it again: its own"
        f" run, below this one. {ELSEWHERE}"
    )


def seed_note(experiment: str, record: Record, folder: Path) -> str:
    """Say what the run of a seed is, how its training ended, and what runs it again."""
    said = f"{title(record)}: {record.task}, seed {record.seed}."
    trained = provenance.training(record)
    said += f" Training: {trained}." if trained else ""
    rerun = provenance.command(record, folder)
    said += f" Rerun: `{rerun}`." if rerun else ""
    return f"{said} {_table(experiment, record)}."


def experiment_note(views: Iterable[tuple[str, str]]) -> str:
    """Say what an experiment is; `views` are names and addresses."""
    lines = [f"- [{name}]({where})" for name, where in views]
    return "\n".join([f"{ELSEWHERE} Models side by side, by budget and data set:", "", *lines])


def _table(experiment: str, record: Record) -> str:
    table = address(experiment, key(record.budget, record.dataset))
    return f"[All models on {record.title}]({table})"
