"""Tables of reconstruction, interpolation and extrapolation, from synthetic records."""

from pathlib import Path

import pandas as pd
import pytest

from harness.present import tables
from harness.present.tables.table import Document, Table, markdown
from harness.present.text import duration, paragraphs
from tests.present import outputs
from tests.present.test_tables import documents, names, row_of

MICRO = "MSE × 1e-3 ↓ micro"
LITERAL = "MSE × 1e-3 ↓ literal: one draw, empty pairs as 0"


def of_task(document: Document, task: str) -> Table:
    return next(table for table in document.tables if f", {task}" in table.title)


@pytest.fixture(scope="module")
def found() -> dict[str, Document]:
    return documents(outputs.physionet())


def test_what_there_is(found: dict[str, Document]) -> None:
    assert list(found) == ["overview_full", "table2_full", "elbo_full", "hidden_full", "costs_full"]
    assert [len(d.tables) for d in found.values()] == [1, 3, 3, 1, 3]
    both = documents(outputs.physionet() + outputs.solar())
    assert list(both)[:3] == ["table1_full", "memorisation_full", "overview_full"]
    assert len(both["costs_full"].tables) == 4
    without = documents([outputs.predicted("extrapolation")])
    assert "hidden_full" not in without


def test_averages_spreads_and_marks(found: dict[str, Document]) -> None:
    table = of_task(found["table2_full"], "interpolation")
    ls4, union = row_of(table, "LS4"), row_of(table, "LS4, union gridᵘ")
    assert ls4[MICRO] == "5.00 ± 1.0 [0.51] †"  # the Gaussian process has 4.5
    assert ls4["MSE × 1e-3 ↓ macro"] == "10.0 ± 2.0"
    assert ls4[LITERAL] == "9.00 ± 1.8"
    assert ls4["CRPS ↓ micro"].endswith("†")
    assert ls4["seeds"] == "3/3"
    assert union[MICRO] == "7.00 [0.70] †"
    assert row_of(table, "CRU")[MICRO] == "timeout at step 31"
    assert row_of(table, "RNN")["seeds"] == "1/2, diverged at step 12"
    assert names(table.controls) == ["mean", "LOCF", "GP"]
    assert "20 test records, 19 with values to predict" in table.title
    assert "with 50 % hidden" in table.title and "100 draws" in table.title


def test_the_union_grid_is_explained_where_it_is_used(found: dict[str, Document]) -> None:
    (explanation,) = paragraphs("legends.j2", "union_grid")
    for kind in ("overview", "table2", "elbo", "hidden"):
        assert explanation in found[f"{kind}_full"].legend
    plain = documents([r for r in outputs.physionet() if r.model != "ls4_union"])
    assert not any(explanation in d.legend for d in plain.values())


def test_published_errors_and_bounds_stand_beside_their_task(
    found: dict[str, Document],
) -> None:
    ours, bounds = found["table2_full"], found["elbo_full"]
    ls4 = row_of(of_task(ours, "reconstruction"), "LS4")
    assert ls4["MSE × 1e-3 ↓ published"] == "0.63ˢ"
    assert row_of(of_task(ours, "reconstruction"), "GRU-D")[MICRO] == "not run"
    assert row_of(of_task(ours, "interpolation"), "LS4")["MSE × 1e-3 ↓ published"] == "–"
    assert any("DualTimesField" in line for line in ours.legend)
    (note,) = [n for n in of_task(ours, "extrapolation").notes if "Rubanova" in n]
    assert note.endswith("RNN-VAE 3.055 ± 0.145, Latent ODE 2.231 ± 0.029")
    group = "negative ELBO ↓, nats a record"
    ls4 = row_of(of_task(bounds, "extrapolation"), "LS4")
    assert ls4[f"{group} published"] == "-250.2"  # primary: no mark
    assert ls4[f"{group} ours"] == "-300 ± 0 [3.0]"
    assert (ls4[f"{group} floor"], ls4["sigma"]) == ("-900", "0.0500")
    assert not any("secondary" in line for line in bounds.legend)
    # the others have no bound
    assert names(of_task(bounds, "interpolation").models) == ["LS4"]


def test_error_at_all_shares(found: dict[str, Document]) -> None:
    (table,) = found["hidden_full"].tables
    shares = [heading for group, heading in table.columns if group == "hidden"]
    assert shares == ["10 %", "30 %", "50 %‖", "70 %", "90 %"]
    row = row_of(table, "LOCF")
    assert [row[f"hidden {s}"].split()[0] for s in shares] == [
        "9.00",
        "12.0",
        "15.0",
        "18.0",
        "21.0",
    ]
    assert set(found["hidden_full"].frame["task"]) == {"interpolation"}


def test_an_overview_of_all_data_sets_and_tasks(found: dict[str, Document]) -> None:
    more = [outputs.predicted("interpolation", "ushcn_maine", mse=0.25)]
    (table,) = documents(outputs.physionet() + more)["overview_full"].tables
    assert table.columns[1:] == [
        *(("PhysioNet 2012", task) for task in outputs.PREDICTING),
        ("USHCN, Maine", "interpolation"),
    ]
    assert names(table.models) == ["LS4", "LS4, union gridᵘ", "CRU", "RNN"]
    ls4 = row_of(table, "LS4")
    assert ls4["PhysioNet 2012 interpolation"] == "5.00 ± 1.0 †"
    assert ls4["USHCN, Maine interpolation"] == "250"
    assert row_of(table, "RNN")["PhysioNet 2012 extrapolation"] == "20.0 † (1 of 2 seeds)"
    assert row_of(table, "RNN")["USHCN, Maine interpolation"] == "–"
    assert row_of(table, "LOCF")["PhysioNet 2012 reconstruction"] == "0"


def test_rows_of_different_protocols_are_never_in_one_table() -> None:
    protocol = {"hidden": 0.5, "cut": "time"}
    others = [
        {"protocol": protocol | {"hidden": 0.3}},
        {"protocol": dict(reversed(protocol.items()))},  # the same
        {"protocol": protocol, "draws": 10},
    ]
    rows = [outputs.predicted("interpolation", mse=0.1, protocol=protocol)]
    rows += [
        outputs.predicted("interpolation", mse=0.1 * i, seed=i, **changes)
        for i, changes in enumerate(others, 2)
    ]
    document = documents(rows)["table2_full"]
    cells = [row_of(table, "LS4")[MICRO].split()[0] for table in document.tables]
    assert sorted(cells) == ["200", "200", "400"]  # one is the mean of 100 and 300
    assert len({table.title for table in document.tables}) == 3
    (overview,) = documents(rows)["overview_full"].tables
    assert [h for _, h in overview.columns[1:]] == [f"interpolation {i}" for i in (1, 2, 3)]


def test_data_that_could_not_be_had_are_named_once() -> None:
    records = outputs.physionet() + outputs.unavailable()
    found, without = documents(records), documents(outputs.physionet())
    for kind in ("elbo_full", "hidden_full", "costs_full"):
        assert list(map(markdown, found[kind].tables)) == list(map(markdown, without[kind].tables))
    *_, table = found["table2_full"].tables
    assert table.cells.to_numpy().tolist() == [
        ["USHCN, sporadic", ", ".join(outputs.PREDICTING), "9"]
    ]
    reason = f"USHCN, sporadic: not run, {outputs.UNAVAILABLE}"
    assert table.notes.count(reason) == 1
    assert any("reconstruction, published" in n and "LS4 0.06ˢ" in n for n in table.notes)
    assert reason in found["overview_full"].tables[0].notes
    notes = [note for d in found.values() for table in d.tables for note in table.notes]
    assert sum(outputs.UNAVAILABLE in note for note in notes) == 2
    frame = found["table2_full"].frame.query("dataset == 'ushcn_sporadic'")
    assert frame["value"].isna().all() and frame["not_done"].str.contains("skipped").any()


def test_nothing_but_missing_data() -> None:
    found = documents(outputs.unavailable())
    assert list(found) == ["overview_full", "table2_full"]
    assert all(len(d.tables) == 1 for d in found.values())


def test_time_per_epoch_is_of_the_steps_that_were_made(found: dict[str, Document]) -> None:
    table = found["costs_full"].tables[0]
    row = row_of(table, "PhysioNet 2012, CRU")
    assert row["time per epoch"] == duration(61.5 / 31 * 5)  # 70 records in batches of 16
    never = outputs.predicted("extrapolation", mse=None, status="oom", reason="x", steps=0)
    (table,) = documents([never])["costs_full"].tables
    assert row_of(table, "PhysioNet 2012, LS4")["time per epoch"] == "–"


def test_files_hold_raw_numbers(tmp_path: Path) -> None:
    tables.write([outputs.write_cells(tmp_path / "cells", outputs.physionet())], tmp_path)
    frame = pd.read_csv(tmp_path / "table2_full.csv")
    frame = frame.query("task == 'reconstruction'").set_index(["model", "score"])
    assert frame.loc[("ls4_union", "mse_micro"), "value"] == 0.007
    ls4 = frame.loc[("ls4", "mse_draw_ls4")]
    assert ls4["published"] == 0.63e-3  # of the same unit
    assert ls4["draws"] == 100 and ls4["n"] == 19
    assert frame.loc[("ls4", "mse_micro"), "better_controls"] == "locf gp"
    assert frame["within_noise_floor"].isna().all()
    assert frame["union_grid"].groupby("model").any()["ls4_union"]
    assert ("gp", "neg_elbo") not in frame.index
    assert frame.loc[("latent_ode", "neg_elbo"), "published"] == -410.3
    assert not (tmp_path / "memorisation_full.csv").exists()
