"""Import of synthetic cells into MLflow, into a database and through a server's client."""

import json
import re
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from harness import records
from harness.errors import UserError
from harness.present import tracking, views
from harness.records import Score
from tests.present import outputs

pytestmark = pytest.mark.slow  # mlflow takes seconds to load


OWN_SCORE = Score(name="zero crossings (%)", value=12.5)  # MLflow takes no brackets


class Imported:
    """A folder of cells and the database that they are imported into."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.cells = folder / "cells"
        self.uri = f"sqlite:///{folder}/mlflow/mlflow.db"
        self.extra = folder / "tables"
        self.extra.mkdir(exist_ok=True)
        (self.extra / "table1.md").write_text("a table")

    def track(self) -> None:
        tracking.track([self.cells], self.uri, self.folder / "mlflow/artifacts", [self.extra])

    def runs(
        self, filter_string: str = "", experiment_name: str = "Table 1: generation"
    ) -> dict[str, Any]:
        """Active runs by cell id."""
        from mlflow.tracking import MlflowClient

        client = MlflowClient(self.uri)
        experiment = client.get_experiment_by_name(experiment_name)
        assert experiment is not None
        found = client.search_runs([experiment.experiment_id], filter_string)
        by_id = {run.data.tags["cell_id"]: run for run in found}
        assert len(by_id) == len(found), "a cell was imported twice"
        return by_id

    def client(self) -> Any:
        from mlflow.tracking import MlflowClient

        return MlflowClient(self.uri)


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Imported:
    imported = Imported(tmp_path_factory.mktemp("tracking"))
    cells = [r for r in outputs.solar() if r.model in ("ls4", "rnn_vae", "gaussian")]
    cells += [outputs.predicted("interpolation", bound=-300.0)]
    cells[0] = cells[0].model_copy(update={"scores": [*cells[0].scores, OWN_SCORE]})
    cells += outputs.unavailable()
    outputs.write_cells(imported.cells, cells)
    imported.track()
    return imported


def test_parents_and_children(imported: Imported) -> None:
    runs = imported.runs()
    assert len(runs) == 3 + 7  # rows and cells
    parent = runs["full/generation/solar_weekly/ls4"]
    children = imported.runs(f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
    assert sorted(children) == [f"full/generation/solar_weekly/ls4/{seed}" for seed in range(3)]
    assert parent.data.metrics["marginal_literal"] == pytest.approx(0.047)
    assert parent.data.metrics["seed_spread/marginal_literal"] == pytest.approx(0.002)
    assert runs["full/generation/solar_weekly/rnn_vae"].data.tags["seeds"] == "2/3"


def test_a_cell_with_its_tags_settings_data_and_files(imported: Imported) -> None:
    run = imported.runs()["full/generation/solar_weekly/ls4/1"]
    record = next(r for r in outputs.solar() if (r.model, r.seed) == ("ls4", 1))
    assert run.data.metrics["marginal_literal"] == record.scores[0].value
    assert run.data.metrics["train_seconds"] == 61.5
    assert run.data.params["config.latent"] == "5"
    assert run.data.params["training.ema.decay"] == "0.9"
    for key in ("status", "budget", "device", "dataset"):
        assert run.data.tags[key] == str(getattr(record, key))
    assert run.data.tags["control"] == "False"
    assert run.data.tags["mlflow.source.git.commit"] == record.commit
    (data,) = run.inputs.dataset_inputs
    assert data.dataset.name == "solar_weekly"
    assert record.data_digest.startswith(data.dataset.digest)
    files = {f.path for f in imported.client().list_artifacts(run.info.run_id)}
    assert files == {"record.json", "history.jsonl"}
    curve = imported.client().get_metric_history(run.info.run_id, "curves/validation_loss")
    assert [point.step for point in curve] == list(range(1, 41))


def test_names_of_own_scores_are_translated(imported: Imported) -> None:
    metrics = [run.data.metrics for run in imported.runs().values()]
    assert [m["zero crossings ___"] for m in metrics if "zero crossings ___" in m] == [12.5] * 2


def test_predictions_have_an_experiment_of_their_own(imported: Imported) -> None:
    runs = imported.runs(experiment_name="Table 2: interpolation")
    row = "full/interpolation/physionet/ls4"
    assert runs.keys() == {row, f"{row}/0"}
    for cell_id in (row, f"{row}/0"):
        metrics = runs[cell_id].data.metrics
        assert metrics["mse_micro"] == 0.004
        assert metrics["mse_micro_hidden_10"] == pytest.approx(0.0024)
        assert metrics["neg_elbo"] == -300
    params = runs[f"{row}/0"].data.params
    assert (params["protocol.hidden"], params["draws"]) == ("0.5", "100")


def test_cells_without_data_are_left_out(imported: Imported) -> None:
    names = {e.name for e in imported.client().search_experiments()}
    assert {n for n in names if n.startswith("Table ")} == {
        "Table 1: generation",
        "Table 2: interpolation",
    }


def test_the_default_experiment_is_hidden_while_it_is_empty(imported: Imported) -> None:
    names = {e.name for e in imported.client().search_experiments()}
    assert "Default" not in names
    imported.client().restore_experiment("0")
    run = imported.client().create_run("0").info.run_id
    imported.track()
    assert imported.client().get_experiment("0").lifecycle_stage == "active"
    imported.client().delete_run(run)
    imported.track()
    assert imported.client().get_experiment("0").lifecycle_stage == "deleted"


def test_tables_and_figures_are_stored_once(imported: Imported) -> None:
    stored = list((imported.folder / "mlflow" / "artifacts").rglob("table1.md"))
    (run,) = imported.runs(experiment_name="Tables and figures").values()
    assert [path.parents[2].name for path in stored] == [run.info.run_id]
    assert run.info.start_time == run.info.end_time  # and not the time of the import


def test_a_row_lasts_as_long_as_its_cells(imported: Imported) -> None:
    runs = imported.runs()
    row = "full/generation/solar_weekly/ls4"

    def lasted(run: Any) -> int:
        return run.info.end_time - run.info.start_time

    cells = [lasted(runs[f"{row}/{seed}"]) for seed in range(3)]
    assert lasted(runs[row]) == sum(cells) > 3 * 61_500


def test_no_visible_tag_is_a_hash(imported: Imported) -> None:
    for run in imported.runs().values():
        shown = {k: v for k, v in run.data.tags.items() if not k.startswith("mlflow.")}
        assert not [key for key, value in shown.items() if re.fullmatch("[0-9a-f]{7,}", value)]


def test_spreads_have_prefixes_of_their_own(imported: Imported) -> None:
    for run in imported.runs().values():
        odd = [name for name in run.data.metrics if re.search("_std|spread$", name)]
        assert not odd


def test_runs_say_what_they_are_and_lead_to_their_table(imported: Imported) -> None:
    runs = imported.runs()
    for cell_id, what in (("", "mean over seeds 0, 1, 2; 3 done of 3"), ("/0", "seed 0")):
        run = runs[f"full/generation/solar_weekly/ls4{cell_id}"]
        assert run.info.run_name.startswith("LS4 on Solar Weekly, full")
        note = run.data.tags["mlflow.note.content"]
        assert note.startswith(f"LS4 on Solar Weekly, full: generation, {what}.")
        rerun = (
            f"python -m harness rerun {imported.cells}/generation/solar_weekly/ls4/0/record.json"
        )
        assert (rerun in note) == (what == "seed 0")
        assert ("Of all models, robust marginal ↓: best: LS4;" in note) == (cell_id == "")
        assert views.address(run.info.experiment_id, "full-solar_weekly") in note


def test_a_view_for_each_data_set(imported: Imported) -> None:
    experiment = imported.client().get_experiment_by_name("Table 1: generation")
    state = json.loads(experiment.tags[views.TAG + "full-solar_weekly"])
    assert state["selectedColumns"] == [
        "tags.`seeds`",
        "metrics.`marginal_robust`",
        "metrics.`classification_robust`",
        "metrics.`prediction_robust`",
        "metrics.`train_seconds`",
    ]
    assert (state["orderByKey"], state["orderByAsc"]) == ("metrics.`marginal_robust`", True)
    rows = imported.runs(state["searchFilter"])
    assert sorted(rows) == [
        f"full/generation/solar_weekly/{m}" for m in ("gaussian", "ls4", "rnn_vae")
    ]
    names = [name for name, _ in tracking.links(imported.uri)]
    assert names == [
        "Table 1: generation, full-solar_weekly",
        "Table 2: interpolation, full-physionet",
    ]
    assert (
        views.address(experiment.experiment_id, "full-solar_weekly")
        in experiment.tags["mlflow.note.content"]
    )


def test_a_row_that_was_tested_says_in_how_many_seeds_it_is_told_apart(tmp_path: Path) -> None:
    imported = Imported(tmp_path)
    scores: dict[str, tuple[float | None, float | None]] = {"p_all": (0.001, None)}
    outputs.write_cells(imported.cells, [outputs.record(scores=scores)])
    imported.track()
    run = imported.runs()["full/generation/solar_weekly/ls4"]
    assert run.data.tags["told_apart"] == "1/1"
    experiment = imported.client().get_experiment(run.info.experiment_id)
    state = json.loads(experiment.tags[views.TAG + "full-solar_weekly"])
    assert state["selectedColumns"][0] == "tags.`told_apart`"


def test_the_link_with_the_most_rows_comes_first(tmp_path: Path) -> None:
    imported = Imported(tmp_path)
    for budget, models in (("smoke", ["ls4"]), ("full", ["ls4", "rnn_vae"])):
        found = [outputs.record(budget=budget, model=model) for model in models]
        outputs.write_cells(imported.cells / budget, found)
    imported.track()
    names = [name for name, _ in tracking.links(imported.uri)]
    assert names == [f"Table 1: generation, {b}-solar_weekly" for b in ("full", "smoke")]


def test_a_failed_cell_is_listed_with_its_reason(imported: Imported) -> None:
    (run,) = imported.runs("tags.status = 'diverged' and tags.level = 'seed'").values()
    assert run.info.status == "FAILED"
    assert run.data.tags["reason"] == "step 12: loss nan"


def test_again_nothing_happens_and_a_change_replaces_its_run(imported: Imported) -> None:
    def ids() -> dict[str, str]:
        runs = imported.runs() | imported.runs(experiment_name="Tables and figures")
        return {cell_id: run.info.run_id for cell_id, run in runs.items()}

    before = ids()
    imported.track()
    assert ids() == before

    changed = outputs.record(seed=1, scores=outputs.scores(0.5, 0.6, 0.1))
    records.write(changed, imported.cells / "generation/solar_weekly/ls4/1/record.json")
    (imported.extra / "table1.md").write_text("another table")
    imported.track()
    after = ids()
    assert after.keys() == before.keys()
    replaced = {cell_id for cell_id in before if before[cell_id] != after[cell_id]}
    row = "full/generation/solar_weekly/ls4"
    assert replaced == {row, f"{row}/1", "files/full"}
    runs = imported.runs()
    assert runs[f"{row}/1"].data.metrics["marginal_literal"] == 0.5
    for seed in range(3):
        assert runs[f"{row}/{seed}"].data.tags["mlflow.parentRunId"] == after[row]


def test_runs_of_other_code_are_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    imported = Imported(tmp_path)
    outputs.write_cells(imported.cells, [outputs.record()])
    imported.track()
    first = {run.info.run_id for run in imported.runs().values()}
    monkeypatch.setattr(tracking, "code_hash", lambda module: "another")
    imported.track()
    assert first.isdisjoint(run.info.run_id for run in imported.runs().values())


def test_an_interrupted_import_is_done_again(
    imported: Imported, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = outputs.record(seed=2, scores=outputs.scores(0.7, 0.6, 0.1))
    records.write(changed, imported.cells / "generation/solar_weekly/ls4/2/record.json")

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(tracking, "_curves", interrupted)
        with pytest.raises(KeyboardInterrupt):
            imported.track()
    imported.track()
    runs = imported.runs()  # refuses duplicates
    assert runs["full/generation/solar_weekly/ls4/2"].data.metrics["marginal_literal"] == 0.7
    assert len(runs) == 3 + 7


def test_the_database_of_a_copied_folder_is_set_aside_and_made_again(
    imported: Imported, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(imported.folder, tmp_path / "copy")
    copy = Imported(tmp_path / "copy")
    database = copy.folder / "mlflow/mlflow.db"
    original = database.read_bytes()
    aside = database.with_name("mlflow.db.moved")
    aside.write_text("of an earlier copy")
    copy.track()
    second = database.with_name("mlflow.db.moved2")
    assert aside.read_text() == "of an earlier copy"
    assert second.read_bytes() == original
    (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith(str(database))]
    assert "set aside as mlflow.db.moved2" in line
    for cell_id, run in copy.runs().items():
        assert run.info.artifact_uri.startswith(copy.folder.as_uri())
        assert cell_id in imported.runs()
    copy.track()
    assert second.read_bytes() == original
    assert "set aside" not in capsys.readouterr().err


def test_a_server_that_is_not_there_is_told_in_one_line(imported: Imported) -> None:
    with pytest.raises(UserError, match="no MLflow there") as caught:
        tracking.track([imported.cells], "http://127.0.0.1:9", imported.folder, [])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "made",
    ["CREATE TABLE alembic_version AS SELECT 'of tomorrow' AS version_num",
     "CREATE TABLE experiments (a)"],
)  # fmt: skip
def test_a_database_of_a_newer_version_or_another_program(imported: Imported, made: str) -> None:
    path = imported.folder / "other.db"
    path.unlink(missing_ok=True)
    with sqlite3.connect(path) as connection:
        connection.execute(made)
    connection.close()
    with pytest.raises(UserError, match=r"other\.db: no database of this MLflow: ") as caught:
        tracking.track([imported.cells], f"sqlite:///{path}", imported.folder, [])
    assert "\n" not in str(caught.value)


def test_a_database_server_keeps_files_where_it_is_told_to(
    imported: Imported, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {}

    class Client:
        def get_experiment_by_name(self, name: str) -> None: ...

        def create_experiment(self, name: str, location: str) -> str:
            asked[name] = location
            raise KeyboardInterrupt

    monkeypatch.setattr(tracking.store, "client", lambda uri: Client())
    monkeypatch.setattr(tracking.store, "check_address", lambda uri: None)
    with pytest.raises(KeyboardInterrupt):
        tracking.track([imported.cells], "postgresql://h/x", imported.folder / "kept", [])
    assert asked == {"Table 1: generation": (imported.folder / "kept").as_uri()}


def test_doubled_runs_are_removed(imported: Imported) -> None:
    row = imported.runs()["full/generation/solar_weekly/ls4/0"]
    imported.client().create_run(row.info.experiment_id, tags=dict(row.data.tags))
    imported.track()
    imported.runs()  # refuses duplicates


def test_long_curves_are_thinned_and_keep_their_ends() -> None:
    import pandas as pd

    steps = range(1, 5001)
    history = pd.DataFrame({"step": steps, "loss": 1.0, "odd [name]": float("nan")})
    curve = tracking._curves(history, 0)
    assert len(curve) == tracking.POINTS
    assert (curve[0].step, curve[-1].step) == (1, 5000)
    assert {point.key for point in curve} == {"curves/loss"}


def test_names_that_mlflow_refuses_are_changed(tmp_path: Path) -> None:
    given = "feature_increments: autocorrelation of sizes, lag 1"
    imported = Imported(tmp_path)
    outputs.write_cells(imported.cells, [outputs.record(scores={given: (0.25, None)})])
    imported.track()
    run = imported.runs()["full/generation/solar_weekly/ls4/0"]
    assert run.data.metrics["feature_increments_ autocorrelation of sizes_ lag 1"] == 0.25
