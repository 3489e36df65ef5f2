"""What MLflow opens with: a table of the runs for each task, budget and data set.

An experiment keeps such a view as a tag with plain JSON: columns, filter, sort. An address opens
it.
"""

import json
import re
from collections import Counter
from typing import TYPE_CHECKING

from harness import catalogue
from harness.present.comparison import Comparison
from harness.present.decisions import decided
from harness.records import Record

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

TAG = "mlflow.sharedViewState."  # how the names of such tags begin
NOT_IN_NAMES = r"[^\w./ -]"  # characters that names of metrics must not have
ROW = "mean over seeds"  # tag `level` of the runs that a view shows


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


def addresses(client: "MlflowClient", experiment: str) -> list[tuple[str, str]]:
    """Return names and addresses of an experiment's views, those with the most rows first."""
    tags = client.get_experiment(experiment).tags
    rows = client.search_runs([experiment], f"tags.level = '{ROW}'")
    sizes = Counter(key(run.data.tags["budget"], run.data.tags["dataset"]) for run in rows)
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
    return f"{catalogue.label(record.model)} on {record.title}, {record.budget}"


def note(experiment: str, record: Record, what: str) -> str:
    """Say what a run is, with a link to the table that it stands in."""
    table = address(experiment, key(record.budget, record.dataset))
    return f"{title(record)}: {record.task}, {what}. [All models on {record.title}]({table})"
