"""Tables from synthetic records."""

import math
import random
import re
import statistics
from pathlib import Path

import pandas as pd
import pytest

from harness import comparison, tables
from harness.comparison import CHANCE, Section, sections
from harness.errors import UserError
from harness.records import Record
from harness.typeset import Table, duration, latex, latex_text, markdown, number
from tests import outputs


def row_of(table: Table, name: str) -> dict[str, str]:
    """A row's cells by "group heading"."""
    cells = next(row for row in table.models + table.controls if row[0] == name)
    return dict(zip((f"{g} {h}".strip() for g, h in table.columns), cells, strict=True))


def solar_table(records: list[Record]) -> Table:
    documents = {d.stem: d for d in tables.documents(records)}
    return documents["table1_cpu"].tables[0]


def section_with(model: dict, controls: dict[str, dict]) -> Section:
    rows = [outputs.record(scores=model)]
    rows += [outputs.record(model=name, scores=scores) for name, scores in controls.items()]
    (section,) = sections(rows)
    return section


def ls4_of(section: Section) -> comparison.Row:
    return next(row for row in section.rows if row.model == "ls4")


# -- arithmetic -----------------------------------------------------------------------------------


def test_spreads_over_seeds_and_within_a_seed() -> None:
    values, spreads = [1.0, 2.0, 4.0], [0.1, 0.2, 0.2]
    rows = [
        outputs.record(seed=i, scores={"marginal_robust": (v, s)})
        for i, (v, s) in enumerate(zip(values, spreads, strict=True))
    ]
    estimate = ls4_of(sections(rows)[0]).estimate("marginal_robust")
    assert estimate.value == pytest.approx(7 / 3)
    assert estimate.seed_spread == pytest.approx(statistics.stdev(values))
    assert estimate.evaluator_spread == pytest.approx(math.sqrt((0.01 + 0.04 + 0.04) / 3))
    assert (estimate.finite, estimate.scored) == (3, 3)


def test_a_failed_seed_is_not_in_the_mean_and_one_seed_has_no_spread() -> None:
    rows = [
        outputs.record(seed=0, scores={"marginal_robust": (1.0, None)}),
        outputs.record(seed=1, status="oom", reason="step 3: no memory"),
    ]
    estimate = ls4_of(sections(rows)[0]).estimate("marginal_robust")
    assert (estimate.value, estimate.seed_spread, estimate.evaluator_spread) == (1.0, None, None)


@pytest.mark.parametrize(
    ("model", "control", "beaten"),
    [(0.5, 0.4, True), (0.5, 0.5, False), (0.5, 0.6, False)],
)
def test_dagger_where_lower_is_better(model: float, control: float, beaten: bool) -> None:
    section = section_with(
        {"prediction_robust": (model, None)},
        {"persistence": {"prediction_robust": (control, None)}},
    )
    assert bool(section.better_controls(ls4_of(section), "prediction")) is beaten


@pytest.mark.parametrize(
    ("model", "control", "beaten"),
    [(0.60, 0.65, True), (0.65, 0.60, False), (CHANCE + 0.1, 5.0, False), (0.69, 0.9, True)],
)
def test_dagger_in_classification_counts_up_to_chance(
    model: float, control: float, beaten: bool
) -> None:
    section = section_with(
        {"classification_robust": (model, None)},
        {"gaussian": {"classification_robust": (control, None)}},
    )
    assert bool(section.better_controls(ls4_of(section), "classification")) is beaten


def test_noise_floor_is_no_rival_and_controls_get_no_dagger() -> None:
    section = section_with(
        {"marginal_robust": (0.5, None)},
        {
            "noise_floor": {"marginal_robust": (0.1, 0.01)},
            "gaussian": {"marginal_robust": (0.6, None)},
            "memoriser": {"marginal_robust": (0.2, None)},
        },
    )
    assert section.better_controls(ls4_of(section), "marginal") == ["memoriser"]
    assert all(not section.better_controls(row, "marginal") for row in section.controls)


@pytest.mark.parametrize(
    ("score", "value", "within"),
    [
        ("marginal", 0.25, True),  # floor 0.5 with spread 0.25: all that is better
        ("marginal", 0.75, True),
        ("marginal", 0.76, False),
        ("classification", 0.25, True),
        ("classification", 0.24, False),
        ("classification", 9.0, True),
    ],
)
def test_double_dagger_is_within_the_floors_spread(score: str, value: float, within: bool) -> None:
    section = section_with(
        {f"{score}_robust": (value, None)}, {"noise_floor": {f"{score}_robust": (0.5, 0.25)}}
    )
    assert section.within_floor(ls4_of(section), score) is within


def test_no_double_dagger_without_a_spread_of_the_floor() -> None:
    section = section_with(
        {"marginal_robust": (0.1, None)}, {"noise_floor": {"marginal_robust": (0.1, None)}}
    )
    assert not section.within_floor(ls4_of(section), "marginal")


def test_two_records_of_one_cell_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cpu/generation/solar_weekly/ls4/0"):
        tables.write([outputs.record(), outputs.record()], tmp_path)


def test_rows_on_different_data_are_never_in_one_table() -> None:
    rows = [
        outputs.record(seed=0, scores=outputs.scores(0.1, 0.6, 0.1)),
        outputs.record(seed=1, scores=outputs.scores(0.3, 0.6, 0.1), data_digest="e" * 64),
        outputs.record(seed=2, scores=outputs.scores(0.5, 0.6, 0.1), evaluator_epochs=5),
    ]
    (document, *_) = tables.documents(rows)
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


@pytest.mark.parametrize(
    ("status", "reason", "expected"),
    [
        ("diverged", "step 12: loss nan", "diverged at step 12"),
        ("timeout", "stopped after 8 min at step 1200", "timeout at step 1200"),
        ("diverged", "sampling: 3 of 28 not finite", "diverged: sampling"),
        ("skipped", None, "skipped"),
    ],
)
def test_ending(status: str, reason: str | None, expected: str) -> None:
    assert tables.ending(outputs.record(status=status, reason=reason)) == expected


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


def test_published_stands_beside_ours_and_unknown_is_a_dash() -> None:
    table = solar_table(outputs.solar())
    known = comparison.published("generation", "solar_weekly")["ls4"]
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
    monkeypatch.setattr(comparison, "_published", lambda: {"table1": table})
    found = row_of(solar_table(outputs.solar()), "LS4")
    assert found["marginal ↓ published"] == "0.25"  # the digits that were printed
    assert found["prediction ↓ published"] == "–"


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
    assert [row[0] for row in table.models] == ["LS4", "Latent ODE", "RNN-VAE", "SaShiMi"]
    assert [row[0] for row in table.controls] == [
        "noise floor", "memoriser", "Gaussian", "white noise", "persistence",
    ]  # fmt: skip


def test_budgets_have_tables_of_their_own(tmp_path: Path) -> None:
    rows = [
        outputs.record(budget=budget, scores=outputs.scores(value, 0.6, 0.1))
        for budget, value in (("cpu", 0.111), ("paper", 0.222), ("smoke", 0.333))
    ]
    tables.write(rows, tmp_path)
    for budget, value in (("cpu", "0.111"), ("paper", "0.222"), ("smoke", "0.333")):
        text = (tmp_path / f"table1_{budget}.md").read_text()
        assert value in text
        assert not any(other in text for other in {"0.111", "0.222", "0.333"} - {value})
        assert f"budget {budget}" in text.splitlines()[0]
    section = tables.readme_section(rows)
    assert section.index("0.222") < section.index("0.111") < section.index("0.333")


def test_other_documents() -> None:
    documents = {d.stem: d for d in tables.documents(outputs.solar() + outputs.flame())}
    assert list(documents) == ["table1_cpu", "memorisation_cpu", "own_scores_cpu", "costs_cpu"]
    (own,) = documents["own_scores_cpu"].tables
    assert [row[0] for row in own.models] == ["marginal_step_5", "ignition_w1", "never_ignited"]
    assert ("controls", "persistence") not in own.columns
    costs = documents["costs_cpu"].tables[0]
    assert row_of_first(costs, "Solar Weekly, LS4")["parameters"] == "12,345"
    assert row_of_first(costs, "Solar Weekly, LS4")["peak memory"] == "300 MiB"
    epoch = 61.5 / 40 * 6  # 95 training series in batches of 16
    assert row_of_first(costs, "Solar Weekly, LS4")["time per epoch"] == duration(epoch)
    memorisation = documents["memorisation_cpu"].tables[0]
    assert "persistence" not in [row[0] for row in memorisation.controls]
    assert row_of(memorisation, "Latent ODE")["ratio"] == "timeout at step 31"


def test_variants_stand_beside_their_model_and_in_no_other_table() -> None:
    variant = {"class": "toy.ls4:Toy", "config": {}, "variant_of": "ls4"}
    variant["training"] = {"steps": 40, "batch_size": 16}
    records = outputs.solar() + [
        outputs.record(
            model="ls4_s4d_lin", seed=s, scores=outputs.scores(0.04, 0.6, 0.2), settings=variant
        )
        for s in range(3)
    ]
    documents = {d.stem: d for d in tables.documents(records)}
    scores, costs = documents["variants_cpu"].tables
    assert [row[0] for row in scores.models] == ["LS4", "LS4, S4D-Lin"]
    assert [row[0] for row in scores.controls] == ["noise floor"]
    assert [row[0] for row in costs.models] == ["Solar Weekly, LS4", "Solar Weekly, LS4, S4D-Lin"]
    assert set(documents["variants_cpu"].frame["model"]) == {"ls4", "ls4_s4d_lin", "noise_floor"}
    without = {d.stem: d for d in tables.documents(outputs.solar())}
    assert "variants_cpu" not in without
    for stem, document in without.items():
        assert documents[stem].tables == document.tables


def row_of_first(table: Table, name: str) -> dict[str, str]:
    cells = next(row for row in table.models if row[0] == name)
    return dict(zip((heading for _, heading in table.columns), cells, strict=True))


def test_published_file_says_where_each_number_is_from() -> None:
    names = []
    for block in comparison._published().values():
        assert block["paper"]
        for cells in block["cells"]:
            assert cells["certainty"] in ("primary", "secondary")
            assert cells["source"]
            layout = comparison.TABLES[comparison.TABLE_OF[cells["task"]]]
            for model, scores in cells["models"].items():
                assert set(scores) <= {q.name for q in layout.quantities}
                assert all(math.isfinite(v) for v in scores.values())
                assert all(v > 0 for name, v in scores.items() if name != "neg_elbo")
                names += [(cells["task"], cells["dataset"], model, name) for name in scores]
        for note in block["notes"]:
            assert note["text"] and note["task"] in comparison.TABLE_OF and note["dataset"]
    assert len(set(names)) == len(names)


# -- files ----------------------------------------------------------------------------------------


def test_csv_holds_every_score_exactly(tmp_path: Path) -> None:
    records = outputs.solar() + outputs.flame()
    tables.write(records, tmp_path)
    # as text and then float(): pandas' own parser may be off by the last digit
    frame = pd.read_csv(tmp_path / "table1_cpu.csv", dtype={"value": str}, keep_default_na=False)
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
    first = tables.write(records, tmp_path / "a")
    second = tables.write(shuffled, tmp_path / "b")
    assert len(first) == 3 * (4 + 4)
    for a, b in zip(first, second, strict=True):
        assert a.read_bytes() == b.read_bytes()


def test_markdown_is_a_regular_grid() -> None:
    records = outputs.solar() + outputs.physionet() + outputs.unavailable()
    records[0] = records[0].model_copy(update={"title": "A | B"})
    for document in tables.documents(records):
        for table in document.tables:
            lines = markdown(table).splitlines()
            assert {line.replace("\\|", "").count("|") for line in lines} == {
                len(table.columns) + 1
            }


def test_latex_is_ascii_balanced_and_regular(tmp_path: Path) -> None:
    records = outputs.solar() + outputs.flame() + outputs.physionet() + outputs.unavailable()
    tables.write(records, tmp_path)
    for path in tmp_path.glob("*.tex"):
        text = path.read_text()
        assert text.isascii()
        for name in ("table", "tabular", "adjustbox"):
            assert text.count(rf"\begin{{{name}}}") == text.count(rf"\end{{{name}}}") > 0
        plain = re.sub(r"\\[{}]", "", text)
        assert plain.count("{") == plain.count("}")
        assert plain.count("$") % 2 == 0
        for columns, body in re.findall(
            r"\\begin{tabular}{(\w+)}\n(.*?)\\end{tabular}", text, re.DOTALL
        ):
            for line in body.splitlines():
                if not line.endswith(r"\\"):
                    continue
                spans = [int(n) for n in re.findall(r"\\multicolumn{(\d+)}", line)]
                cells = len(re.findall(r"(?<!\\)&", line)) + 1
                assert cells + sum(spans) - len(spans) == len(columns)


def test_latex_escapes() -> None:
    assert latex_text(r"a_b & 50% #1 $x$ {y} \z ~ ^") == (
        r"a\_b \& 50\% \#1 \$x\$ \{y\} \textbackslash{}z \textasciitilde{} \textasciicircum{}"
    )
    assert latex_text("1 ± 2 †‡ –") == r"1 $\pm$ 2 $^\dagger$$^\ddagger$ --"
    table = Table("50 % of a_b", [("", "x_1")], [["r&d"]], [], ["#"])
    assert r"\caption{50 \% of a\_b}" in latex(table)
    assert r"r\&d \\" in latex(table)


def test_readme_is_rewritten_between_its_markers(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(
        "# Top\n<!-- table1:begin -->\nold\n<!-- table1:end -->\nbelow\n"
        "<!-- table2:begin -->\nolder\n<!-- table2:end -->\nend\n"
    )
    section = tables.readme_section(outputs.solar())
    tables.update_readme(readme, outputs.solar())
    once = readme.read_text()
    assert once.startswith("# Top\n<!-- table1:begin -->\n")
    assert "<!-- table1:end -->\nbelow\n<!-- table2:begin -->\nolder\n<!-- table2:end -->" in once
    assert "old\n" not in once
    assert section in once
    tables.update_readme(readme, outputs.solar())
    assert readme.read_text() == once
    both = outputs.solar() + outputs.physionet()
    tables.update_readme(readme, both)
    twice = readme.read_text()
    assert twice.endswith("<!-- table2:end -->\nend\n") and "older" not in twice
    assert section in twice and tables.readme_section(both, "table2") in twice


@pytest.mark.parametrize("table", ["table1", "table2"])
@pytest.mark.parametrize(
    "text", ["none", "<!-- {0}:begin -->", "<!-- {0}:end --><!-- {0}:begin -->"]
)
def test_readme_without_markers_is_left_alone(tmp_path: Path, text: str, table: str) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(text.format(table))
    records = {"table1": outputs.solar(), "table2": outputs.physionet()}[table]
    with pytest.raises(UserError, match=f"{table}:begin"):
        tables.update_readme(readme, records)
    assert readme.read_text() == text.format(table)


@pytest.mark.parametrize(
    ("value", "digits", "expected"),
    [
        (0.0354, 3, "0.0354"), (0.5, 2, "0.50"), (1234.5, 3, "1234"), (999.7, 3, "1000"),
        (1.67e-05, 3, "1.67e-05"), (0.0, 3, "0"), (100.0, 3, "100"), (-0.25, 3, "-0.250"),
    ],
)  # fmt: skip
def test_number(value: float, digits: int, expected: str) -> None:
    assert number(value, digits) == expected


def test_duration() -> None:
    assert [duration(s) for s in (0.5, 119.0, 120.0, 7200.0)] == [
        "0.50 s",
        "119 s",
        "2.0 min",
        "2.0 h",
    ]


def test_a_frozen_schedule_is_said_below_its_table() -> None:
    training = {"settings": {"training": {"steps": 100_000, "batch_size": 128}}}
    steps = {0: 1450, 1: 1388}
    rows = [outputs.record(seed=s, steps=n, ended="frozen", **training) for s, n in steps.items()]
    rows.append(outputs.record(model="rnn_vae", ended="steps", **training))
    (document,) = (d for d in tables.documents(rows) if d.kind == "table1")
    assert document.tables[0].notes[0] == (
        "LS4: schedule frozen at steps 1,388 to 1,450 of 100,000"
    )
    assert not any("RNN-VAE" in note for note in document.tables[0].notes)
