"""Tables of generation, costs and variants, and their files, from synthetic records."""

import random
import statistics
from pathlib import Path

import pandas as pd
import pytest

from harness.errors import UserError
from harness.present import published, tables
from harness.present.tables.table import (
    Document,
    Table,
    markdown,
    markdown_document,
    write_documents,
)
from harness.present.text import duration
from harness.records import Record
from tests.present import outputs


def documents(records: list[Record]) -> dict[str, Document]:
    return {d.stem: d for d in tables.documents(outputs.frame_of(records))}


def names(cells: pd.DataFrame) -> list[str]:
    return cells.iloc[:, 0].tolist()


def row_of(table: Table, name: str) -> dict[str, str]:
    """A row's cells by "group heading"."""
    (cells,) = table.cells[table.cells.iloc[:, 0] == name].to_numpy().tolist()
    return dict(zip((f"{g} {h}".strip() for g, h in table.columns), cells, strict=True))


def solar_table(records: list[Record]) -> Table:
    return documents(records)["table1_full"].tables[0]


def test_rows_on_different_data_are_never_in_one_table() -> None:
    rows = [
        outputs.record(seed=0, scores=outputs.scores(0.1, 0.6, 0.1)),
        outputs.record(seed=1, scores=outputs.scores(0.3, 0.6, 0.1), data_digest="e" * 64),
        outputs.record(seed=2, scores=outputs.scores(0.5, 0.6, 0.1), evaluator_epochs=5),
    ]
    document = documents(rows)["table1_full"]
    cells = [row_of(table, "LS4")["marginal ↓ literal"] for table in document.tables]
    assert sorted(cells) == ["0.100", "0.300", "0.500"]
    assert len({table.title for table in document.tables}) == 3


# -- content --------------------------------------------------------------------------------------


def test_every_status_is_in_the_table_with_its_reason() -> None:
    table = solar_table(outputs.solar())
    latent_ode, rnn_vae = row_of(table, "Latent ODE"), row_of(table, "RNN-VAE")
    ours = [key for key in latent_ode if key.endswith(("literal", "robust"))]
    assert {latent_ode[key] for key in ours} == {"timeout at step 31"}
    assert latent_ode["seeds"] == "0/3"
    assert rnn_vae["seeds"] == "2/3, diverged at step 12"
    assert rnn_vae["marginal ↓ literal"].startswith("0.200 ±")
    assert "RNN-VAE, seed 1: diverged, step 12: loss nan" in table.notes


def test_a_row_that_ended_in_several_ways() -> None:
    ends = [
        ("diverged", "step 3: loss nan"),
        ("diverged", "step 7: loss nan"),
        ("oom", "step 1: x"),
    ]
    rows = [outputs.record(seed=i, status=s, reason=r) for i, (s, r) in enumerate(ends)]
    table = solar_table(rows)
    assert row_of(table, "LS4")["marginal ↓ robust"] == "diverged, oom"
    assert "LS4, seed 1: diverged, step 7: loss nan" in table.notes


def test_a_frozen_schedule_is_said_below_its_table() -> None:
    training = {"settings": {"training": {"steps": 100_000, "batch_size": 128}}}
    steps = {0: 1450, 1: 1388}
    rows = [outputs.record(seed=s, steps=n, ended="frozen", **training) for s, n in steps.items()]
    rows.append(outputs.record(model="rnn_vae", ended="steps", **training))
    table = solar_table(rows)
    assert table.notes[0] == "LS4: schedule frozen at steps 1,388 to 1,450 of 100,000"
    assert not any("RNN-VAE" in note for note in table.notes)


def test_how_trainings_ended_is_marked_and_the_marks_explained() -> None:
    scores = outputs.scores(0.2, 0.6, 0.1)
    gan = outputs.record(model="sde_gan", scores=scores, ended="steps")
    rows = [
        gan,
        outputs.record(seed=0, scores=scores, ended="patience"),
        outputs.record(seed=1, scores=scores, ended="cap"),
        outputs.record(model="rnn_vae", scores=scores, ended="patience"),
    ]
    found = {d.kind: d for d in tables.documents(outputs.frame_of(rows))}
    assert set(found) >= {"table1", "costs"}
    for document in found.values():
        text = markdown_document(document)
        assert "LS4ᶜ" in text and "SDE-GANᶠ" in text and "RNN-VAE " in text
        assert [line[:15] for line in document.legend[-2:]] == [
            "ᶜ not converged",
            "ᶠ trained for a",
        ]
    other = outputs.record(scores=scores, ended="steps")  # no training stops by itself: no mark
    for document in tables.documents(outputs.frame_of([gan, other])):
        assert not set("ᶜᶠ") & set(markdown_document(document))


def test_a_table_without_rows_is_written(tmp_path: Path) -> None:
    cells = outputs.write_cells(tmp_path / "cells", [outputs.record()])  # no score of memorisation
    tables.write([cells], tmp_path / "tables")
    assert "Memorisation" in (tmp_path / "tables" / "memorisation_full.md").read_text()


def test_published_stands_beside_ours_and_unknown_is_a_dash() -> None:
    table = solar_table(outputs.solar())
    known = published.numbers("generation", "solar_weekly")["ls4"]
    ls4 = row_of(table, "LS4")
    assert ls4["marginal ↓ published"] == f"{known['marginal'].value}ˢ"
    assert ls4["classification ↑ published"] == f"{known['classification'].value}ˢ"
    assert row_of(table, "RNN-VAE")["marginal ↓ published"] == "–"
    sashimi = row_of(table, "SaShiMi")
    assert sashimi["marginal ↓ literal"] == "not run"
    assert sashimi["marginal ↓ published"] != "–"
    assert sum("BASSERAS/benchmark" in note for note in table.notes) == 2


def test_primary_numbers_carry_no_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    cells = {"task": "generation", "dataset": "solar_weekly", "certainty": "primary", "source": "x"}
    cells = cells | {"models": {"ls4": {"marginal": 0.25}}}
    table = {"paper": "P", "cells": [cells], "notes": []}
    monkeypatch.setattr(published, "content", lambda: {"table1": table})
    found = row_of(solar_table(outputs.solar()), "LS4")
    assert found["marginal ↓ published"] == "0.25"  # the digits that were printed
    assert "prediction ↓ published" not in found  # nothing is published, no column


def test_values_spreads_and_marks_in_a_cell() -> None:
    table = solar_table(outputs.solar())
    assert row_of(table, "LS4")["marginal ↓ literal"] == "0.0470 ± 0.0020"
    assert row_of(table, "LS4")["marginal ↓ robust"] == "0.0517 ± 0.0022 [0.0047] †"
    assert row_of(table, "noise floor")["marginal ↓ robust"] == "0.0330 [0.0030]"
    assert row_of(table, "persistence")["marginal ↓ robust"] == "–"
    assert row_of(table, "persistence")["prediction ↓ robust"] == "0.800"


def test_not_finite_is_said() -> None:
    rows = [
        outputs.record(
            seed=s, scores={"marginal_robust": (v, None), "prediction_robust": (w, None)}
        )
        for s, (v, w) in enumerate([(0.5, None), (None, None)])
    ]
    found = row_of(solar_table(rows), "LS4")
    assert found["marginal ↓ robust"] == "0.500 (1 not finite)"
    assert found["prediction ↓ robust"] == "not finite"


def test_models_come_before_controls() -> None:
    table = solar_table(outputs.solar())
    assert names(table.models) == ["LS4", "Latent ODE", "RNN-VAE", "SaShiMi"]
    assert names(table.controls) == [
        "noise floor", "memoriser", "Gaussian", "white noise", "persistence",
    ]  # fmt: skip


def test_budgets_have_tables_of_their_own(tmp_path: Path) -> None:
    values = {"full": "0.111", "paper": "0.222", "smoke": "0.333", "mine": "0.444"}
    rows = [
        outputs.record(budget=budget, scores=outputs.scores(float(value), 0.6, 0.1))
        for budget, value in values.items()
    ]
    write_documents(tables.documents(outputs.frame_of(rows)), tmp_path)
    for budget, value in values.items():
        text = (tmp_path / f"table1_{budget}.md").read_text()
        assert value in text
        assert not any(other in text for other in {*values.values()} - {value})
        assert f"budget {budget}" in text.splitlines()[0]
    assert ": seconds of training" in (tmp_path / "table1_smoke.md").read_text()


def test_models_that_the_catalogue_does_not_know_are_shown() -> None:
    rows = [outputs.record(model="mine", scores=outputs.scores(0.1, 0.6, 0.1))]
    assert row_of(solar_table(rows), "mine")["marginal ↓ literal"] == "0.100"


def test_other_documents() -> None:
    found = documents(outputs.solar() + outputs.flame())
    assert list(found) == ["table1_full", "memorisation_full", "own_scores_full", "costs_full"]
    (own,) = found["own_scores_full"].tables
    assert names(own.cells) == ["marginal_step_5", "ignition_w1", "never_ignited"]
    assert ("controls", "persistence") not in own.columns
    costs = row_of(found["costs_full"].tables[0], "Solar Weekly, LS4")
    assert costs["parameters"] == "12,345"
    assert costs["peak memory"] == "300 MiB"
    assert costs["time per epoch"] == duration(61.5 / 40 * 6)  # 95 series in batches of 16
    memorisation = found["memorisation_full"].tables[0]
    assert "persistence" not in names(memorisation.controls)
    assert row_of(memorisation, "Latent ODE")["ratio"] == "timeout at step 31"


def test_variants_have_a_bound_where_their_model_has_one() -> None:
    variant = {"class": "toy.ls4:Toy", "config": {}, "variant_of": "ls4"}
    variant["training"] = {"steps": 40, "batch_size": 16}
    other = outputs.predicted("extrapolation", model="ls4_elbo", bound=-212.0)
    rows = [outputs.predicted("extrapolation", bound=-85.0)]
    rows += [other.model_copy(update={"settings": variant})]
    found = documents(rows)["variants_full"]
    errors, bounds, _ = found.tables
    assert names(errors.models) == names(bounds.models) == ["LS4", "LS4, ELBO weights"]
    shown = row_of(bounds, "LS4, ELBO weights")
    assert shown["negative ELBO ↓, nats a record ours"].startswith("-212")
    legend = " ".join(found.legend)
    assert "Negative ELBO: " in legend and "cross-entropy" not in legend


def test_variants_stand_beside_their_model_and_in_no_other_table() -> None:
    variant = {"class": "toy.ls4:Toy", "config": {}, "variant_of": "ls4"}
    variant["training"] = {"steps": 40, "batch_size": 16}
    records = outputs.solar() + [
        outputs.record(
            model="ls4_s4d_lin", seed=s, scores=outputs.scores(0.04, 0.6, 0.2), settings=variant
        )
        for s in range(3)
    ]
    found, without = documents(records), documents(outputs.solar())
    scores, costs = found["variants_full"].tables
    assert names(scores.models) == ["LS4", "LS4, S4D-Lin"]
    assert names(scores.controls) == ["noise floor"]
    assert names(costs.models) == ["Solar Weekly, LS4", "Solar Weekly, LS4, S4D-Lin"]
    assert set(found["variants_full"].frame["model"]) == {"ls4", "ls4_s4d_lin", "noise_floor"}
    assert "variants_full" not in without
    for stem, document in without.items():
        assert list(map(markdown, found[stem].tables)) == list(map(markdown, document.tables))


# -- files ----------------------------------------------------------------------------------------


def test_csv_holds_every_score_exactly(tmp_path: Path) -> None:
    records = outputs.solar() + outputs.flame()
    tables.write([outputs.write_cells(tmp_path / "cells", records)], tmp_path)
    # as text and then float(): pandas' own parser may be off by the last digit
    frame = pd.read_csv(tmp_path / "table1_full.csv", dtype={"value": str}, keep_default_na=False)
    line = frame.query("dataset == 'solar_weekly' and model == 'ls4' and score == 'wasserstein'")
    own = [
        s.value for r in records if r.model == "ls4" for s in r.scores if s.name == "wasserstein"
    ]
    assert float(line["value"].item()) == statistics.fmean(own[:3])
    assert line["seeds"].item() == 3
    for record in records:
        if record.status == "done" and record.model != "ls4" and record.model != "rnn_vae":
            mine = frame.query(f"dataset == '{record.dataset}' and model == '{record.model}'")
            found = dict(zip(mine["score"], mine["value"], strict=True))
            assert all(float(found[s.name]) == s.value for s in record.scores)
    failed = frame.query("model == 'rnn_vae'")["not_done"].unique()
    assert failed == ["seed 1: diverged, step 12: loss nan"]
    beaten = frame.query("dataset == 'solar_weekly' and model == 'ls4'").set_index("score")
    assert "memoriser" in beaten.loc["marginal_robust", "better_controls"]


def test_tables_do_not_depend_on_the_order_of_records(tmp_path: Path) -> None:
    records = outputs.solar() + outputs.flame() + outputs.physionet() + outputs.unavailable()
    shuffled = random.Random(0).sample(records, len(records))
    first, second = (
        write_documents(tables.documents(outputs.frame_of(some)), tmp_path / name)
        for name, some in {"a": records, "b": shuffled}.items()
    )
    assert len(first) == 3 * (4 + 4)
    for a, b in zip(first, second, strict=True):
        assert a.read_bytes() == b.read_bytes()


def test_tables_of_some_tasks_and_of_several_folders(tmp_path: Path) -> None:
    folders = [
        outputs.write_cells(tmp_path / "a", outputs.solar()),
        outputs.write_cells(tmp_path / "b", outputs.physionet()),
    ]
    kinds = {path.stem for path in tables.write(folders, tmp_path / "all")}
    assert {"table1_full", "table2_full"} <= kinds
    kinds = {path.stem for path in tables.write(folders, tmp_path / "one", ["generation"])}
    assert kinds == {"table1_full", "memorisation_full", "costs_full"}
    with pytest.raises(UserError, match="no record of extrapolation"):
        tables.write(folders[:1], tmp_path / "none", ["extrapolation"])


def test_two_records_of_one_cell_are_refused(tmp_path: Path) -> None:
    folders = [outputs.write_cells(tmp_path / name, [outputs.record()]) for name in ("a", "b")]
    with pytest.raises(UserError, match="full/generation/solar_weekly/ls4/0"):
        tables.write(folders, tmp_path)
