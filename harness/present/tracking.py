"""Import records into MLflow. Files are the truth; the database can be deleted and made again, and
one from a folder that was moved or copied is, since MLflow keeps absolute paths.

One experiment for each task; a parent run for each (budget, data set, model) with means over seeds;
a child run for each seed; an experiment with the tables and figures. Cells whose data could not be
had are left out. `harness.present.views` says what a task's experiment opens with;
`harness.present.store` opens the store, and lets one process at a time write.

A run carries a tag ``cell_id`` and, once it is whole, the digest of what it was made from and of
this code: what has not changed stays, what has changed replaces its old run. Runs of cells that are
no longer below the folder stay, except for seeds of a row that is there.
"""

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from datasets.files import sha256
from datasets.progress import progress
from harness.present import files, store, views
from harness.present.comparison import Comparison, comparisons
from harness.present.decisions import seeds_told_apart, told_apart
from harness.present.frame import frame
from harness.present.store import SQLITE
from harness.present.views import metric_name
from harness.records import HISTORY, IDENTITY, RECORD, Record
from harness.sources import code_hash
from harness.tasks import TABLE_OF, TASKS
from harness.texts import digest

if TYPE_CHECKING:
    from mlflow.entities import Metric, Run
    from mlflow.tracking import MlflowClient

Cells = dict[Path, Record]  # by their directories

PARENT = "mlflow.parentRunId"
NOTE = "mlflow.note.content"  # tag: what the page of a run or an experiment says, Markdown
MADE_FROM = "mlflow.made_from"  # tag, not shown: digest of files and code behind a run
FILES = "Tables and figures"  # experiment
POINTS = 200  # of a curve; long ones make the UI slow
DIGITS = 16  # of a data set's digest; MLflow takes 36 at most
SHARED = ("task", "budget", "dataset", "model", "control")
OWN = ("seed", "status", "reason", "device", "dirty")
COSTS = ("train_seconds", "sample_seconds", "score_seconds", "steps", "parameters",
         "peak_memory_bytes")  # fmt: skip
COUNTS = ("n_train", "n_validation", "n_test", "length", "channels")


def track(records_dirs: Sequence[Path], uri: str, artifacts: Path, extra: list[Path]) -> None:
    """Bring the runs of an MLflow server or database up to date with the records below folders.

    Parameters
    ----------
    records_dirs : sequence of Path
        Searched for cells.
    uri : str
        ``sqlite:///...`` (brought to the newest schema first) or the address of a server.
    artifacts : Path
        Where runs of a database keep their files; an MLflow server has its own place.
    extra : list of Path
        Files and folders (tables, figures) for the run that belongs to all records together.

    Raises
    ------
    UserError
        If there is no record, two are of the same cell, or no server answers.
    """
    found = files.find(records_dirs)
    store.check_address(uri)
    with store.locked(uri):
        _import(found, uri, artifacts, extra)


def _import(found: Cells, uri: str, artifacts: Path, extra: list[Path]) -> None:
    location = None
    if not uri.startswith("http"):
        location = artifacts.resolve().as_uri()
    if uri.startswith(SQLITE) and location:
        places = dict.fromkeys([*map(_name, TASKS), FILES], location)
        store.set_aside_if_moved(Path(uri.removeprefix(SQLITE)), places)
    client = store.client(uri)
    cells = {folder: record for folder, record in found.items() if record.status != "skipped"}
    if not cells:
        return
    compared = comparisons(frame(cells))
    ordered = pd.concat([c.cells for c in compared])
    made = str(ordered["date"].max())
    with progress() as bar:
        task = bar.add_task("MLflow", total=len(cells))
        for name, of_task in ordered.groupby("task", sort=False):
            experiment = store.experiment(client, uri, _name(str(name)), location)
            runs = _Runs(client, experiment)
            with store.reserved(client, uri, experiment):
                for _, row in of_task.groupby(["budget", "dataset", "model"], sort=False):
                    of_row = {folder: cells[folder] for folder in row["folder"]}
                    runs.update_row(of_row, views.leads(row, compared))
                    bar.advance(task, len(row))
                runs.update_views([c for c in compared if c.head["task"] == name])
    if extra:
        experiment = store.experiment(client, uri, FILES, location)
        runs, budgets = _Runs(client, experiment), "+".join(ordered["budget"].unique())
        with store.reserved(client, uri, experiment):
            runs.update_files(budgets, extra, _milliseconds(made))
    if location:
        store.hide_default(client)


def links(uri: str) -> list[tuple[str, str]]:
    """Return what the views of a store are called, "Table 1: generation, cpu-sines", and where."""
    client = store.client(uri)
    experiments = sorted(client.search_experiments(), key=lambda e: e.name)
    return [
        (f"{e.name}, {name}", address)
        for e in experiments
        for name, address in _views(client, e.experiment_id)
    ]


def _views(client: "MlflowClient", experiment: str) -> list[tuple[str, str]]:
    tags = client.get_experiment(experiment).tags
    rows = client.search_runs([experiment], f"tags.level = '{views.ROW}'")
    return views.addresses(experiment, tags, [run.data.tags for run in rows])


def _name(task: str) -> str:
    return f"{TABLE_OF[task].replace('table', 'Table ')}: {task}"


class _Runs:
    """The runs of one experiment."""

    def __init__(self, client: "MlflowClient", experiment: str):
        self.client = client
        self.experiment = experiment

    def update_row(self, cells: Cells, leads: str) -> None:
        """Bring the parent of a row, which is given by its cells, and its children up to date.

        `leads` is what its description says of the models of its data set.
        """
        digests = {folder: _digest(folder, record) for folder, record in cells.items()}
        made_from = digest([*digests.values(), leads])
        row_id = _cell_id(next(iter(cells.values()))).rpartition("/")[0]
        old = self._find("cell_id", row_id)
        if len(old) == 1 and _made_from(old[0], made_from) and not self._doubled(cells):
            return
        children = [c for r in cells.values() for c in self._find("cell_id", _cell_id(r))]
        children += [
            child
            for run in old
            for child in self._find(PARENT, run.info.run_id)
            if child.info.run_id not in {known.info.run_id for known in children}
        ]
        parent = self._create_parent(row_id, cells, leads)
        for folder, record in cells.items():
            same = next((c for c in children if _made_from(c, digests[folder])), None)
            if same is None:
                self._create_child(folder, record, parent, digests[folder])
            else:
                self.client.set_tag(same.info.run_id, PARENT, parent)
                children.remove(same)
        for run in [*children, *old]:
            self.client.delete_run(run.info.run_id)
        start = self.client.get_run(parent).info.start_time
        self._finish(parent, made_from, start + sum(map(_lasted, cells.values())))

    def _doubled(self, cells: Cells) -> bool:
        """Whether an earlier import that was cut short left two runs of a cell."""
        return any(len(self._find("cell_id", _cell_id(r))) > 1 for r in cells.values())

    def update_views(self, compared: Sequence[Comparison]) -> None:
        """Write the views of budgets and data sets, and a description that lists all of them."""
        for c in reversed(compared):  # of several of a data set, the first one's stays
            tag = views.TAG + views.key(c.head["budget"], c.head["dataset"])
            self.client.set_experiment_tag(self.experiment, tag, views.state(c))
        note = views.experiment_note(_views(self.client, self.experiment))
        self.client.set_experiment_tag(self.experiment, NOTE, note)

    def update_files(self, budgets: str, paths: list[Path], made: int) -> None:
        """Bring the run that holds the tables and figures of some budgets up to date."""
        found = {
            str(file): sha256(file)
            for path in paths
            for file in sorted(path.rglob("*") if path.is_dir() else [path])
            if file.is_file()
        }
        old = self._find("cell_id", f"files/{budgets}")
        if len(old) == 1 and _made_from(old[0], digest(found)):
            return
        tags = {"cell_id": f"files/{budgets}", "level": "files", "budget": budgets}
        tags[NOTE] = f"Tables and figures of all records, budgets {budgets}; see Artifacts."
        name = f"tables and figures, {budgets}"
        run = self.client.create_run(self.experiment, made, tags, name).info.run_id
        for path in paths:
            if path.is_dir():
                self.client.log_artifacts(run, str(path), path.name)
            else:
                self.client.log_artifact(run, str(path))
        for outdated in old:
            self.client.delete_run(outdated.info.run_id)
        self._finish(run, digest(found), made)

    def _create_parent(self, row_id: str, cells: Cells, leads: str) -> str:
        """Start the run of a row: means and standard deviations over its seeds."""
        records = list(cells.values())
        head = records[0]
        done = sorted(record.seed for record in records if record.status == "done")
        tags = _tags(head, SHARED) | {
            "cell_id": row_id,
            "level": views.ROW,
            "seeds": f"{len(done)}/{len(records)}",
            "status": " ".join(dict.fromkeys(r.status for r in records)),
        }
        metrics: dict[str, float] = {}
        tests = None
        compared = comparisons(frame(cells))
        if len(compared) == 1:  # means over different data or evaluators would be of nothing
            for told, tested in seeds_told_apart(compared[0]).itertuples(index=False):
                tags["told_apart"] = f"{told}/{tested}"  # of this one model
                tests = str(told_apart(compared[0])[head.model])
            for (_, name), estimate in compared[0].estimates.iterrows():
                found = {name: "value", f"seed_spread/{name}": "seed_spread",
                         f"evaluator_spread/{name}": "evaluator_spread"}  # fmt: skip
                metrics |= {
                    key: float(estimate[column])
                    for key, column in found.items()
                    if pd.notna(estimate[column])
                }
        tags[NOTE] = views.row_note(self.experiment, head, done, len(records), tests, leads)
        settings = {key: head.settings[key] for key in ("class", "config") if key in head.settings}
        params = dict(flatten({"class": ""} | settings))
        return self._create(views.title(head), tags, records, metrics, params)

    def _create_child(self, folder: Path, record: Record, parent: str, made_from: str) -> None:
        """Log one cell."""
        tags = _tags(record, (*SHARED, *OWN)) | {
            "cell_id": _cell_id(record),
            "level": "seed",
            PARENT: parent,
            "mlflow.source.git.commit": record.commit,
            NOTE: views.seed_note(self.experiment, record, folder),
        }
        metrics = {s.name: s.value for s in record.scores if s.value is not None}
        metrics |= {
            f"evaluator_spread/{s.name}": s.spread for s in record.scores if s.spread is not None
        }
        name = f"{views.title(record)}, seed {record.seed}"
        params = dict(flatten(record.settings | {"protocol": record.protocol}))
        params |= {"seed": str(record.seed)}
        params |= {} if record.draws is None else {"draws": str(record.draws)}
        run = self._create(name, tags, [record], metrics, params)
        self._log(run, _curves(files.history(folder), _milliseconds(record.date)))
        for file in (RECORD, HISTORY):
            if (folder / file).exists():
                self.client.log_artifact(run, str(folder / file))
        status = "FINISHED" if record.status == "done" else "FAILED"
        self._finish(run, made_from, _milliseconds(record.date), status)

    def _create(
        self,
        name: str,
        tags: dict[str, str],
        records: list[Record],
        metrics: dict[str, float],
        params: dict[str, str],
    ) -> str:
        """Start a run with what cells and rows have in common: data set, costs, settings."""
        from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param

        head = records[0]
        start = min(_milliseconds(r.date) - _lasted(r) for r in records)
        run = self.client.create_run(self.experiment, start, tags, name).info.run_id
        data = Dataset(
            name=head.dataset,
            digest=head.data_digest[:DIGITS],
            source_type="prepared",
            source=f"{head.budget}/data/{head.dataset}.npz",
            profile=json.dumps({key: getattr(head, key) for key in COUNTS}),
        )
        self.client.log_inputs(
            run, [DatasetInput(data, [InputTag("mlflow.data.context", "train")])]
        )
        for cost in COSTS:
            values = [v for r in records if (v := getattr(r, cost)) is not None]
            metrics |= {cost: float(np.mean(values))} if values else {}
        losses = [r.validation_loss for r in records if r.validation_loss is not None]
        metrics |= {"validation_loss": float(np.mean(losses))} if losses else {}
        params |= {key: str(getattr(head, key)) for key in ("dataset", "model", "budget")}
        now = max(_milliseconds(r.date) for r in records)
        self._log(run, [Metric(metric_name(key), value, now, 0) for key, value in metrics.items()])
        for some in batched([Param(*item) for item in params.items()], 100):
            self.client.log_batch(run, params=some)
        return run

    def _log(self, run: str, metrics: Sequence["Metric"]) -> None:
        for some in batched(metrics, 1000):  # what MLflow takes in one call
            self.client.log_batch(run, metrics=some)

    def _finish(self, run: str, made_from: str, end: int, status: str = "FINISHED") -> None:
        """Mark a run as whole. What lacks this mark is made again by the next import."""
        self.client.set_tag(run, MADE_FROM, made_from)
        self.client.set_terminated(run, status, end)

    def _find(self, tag: str, value: str) -> list["Run"]:
        return list(self.client.search_runs([self.experiment], f"tags.`{tag}` = '{value}'"))


def _made_from(run: "Run", expected: str) -> bool:
    return run.data.tags.get(MADE_FROM) == expected


def _cell_id(record: Record) -> str:
    return "/".join(str(getattr(record, key)) for key in IDENTITY)


def _digest(folder: Path, record: Record) -> str:
    history = folder / HISTORY
    shown_by = [code_hash(__name__), views.title(record)]
    made_from = [record.model_dump(), sha256(history) if history.exists() else None]
    return digest([*shown_by, *made_from])


def _tags(record: Record, keys: Iterable[str]) -> dict[str, str]:
    return {key: str(getattr(record, key)) for key in keys if getattr(record, key) is not None}


def _lasted(record: Record) -> int:
    """Return how many milliseconds a cell took."""
    return int(1000 * (record.train_seconds + record.sample_seconds + record.score_seconds))


def _milliseconds(date: str) -> int:
    return int(1000 * datetime.fromisoformat(date).timestamp())


def _curves(history: pd.DataFrame, time: int) -> list["Metric"]:
    """The columns of a history as metrics, thinned to a few hundred rows."""
    from mlflow.entities import Metric

    if history.empty:
        return []
    rows = np.unique(np.linspace(0, len(history) - 1, POINTS).round().astype(int))
    thin = history.iloc[rows]
    return [
        Metric(f"curves/{metric_name(name)}", value, time, step)
        for name in history.columns.drop("step")
        for step, value in zip(thin["step"].tolist(), thin[name].tolist(), strict=True)
        if math.isfinite(value)
    ]


def flatten(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield the leaves of nested mappings, ``{"a": {"b": 1}}`` as ``("a.b", "1")``."""
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", str(value)


def batched(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """Yield slices of at most `size` items."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
