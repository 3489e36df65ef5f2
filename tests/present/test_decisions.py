"""What records decide: words, the table, the heat map; from synthetic records."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure

from harness import records
from harness.errors import UserError
from harness.powers import Power
from harness.present import decisions, figures, report, tables
from harness.present.figures import decisions as heat_map
from harness.present.tables.table import Document, Table, latex, markdown
from harness.records import Record
from harness.texts import write_text
from tests.present import outputs
from tests.present.test_tables import names, row_of


def document(cells: list[Record], *powers: Power) -> Document:
    found = tables.documents(outputs.frame_of(cells), powers)
    (decided,) = [d for d in found if d.kind == "decisions"]
    return decided


def table(cells: list[Record], *powers: Power) -> Table:
    (found,) = document(cells, *powers).tables
    return found


def cell(record: Record, heading: str = "verdict as generated") -> str:
    return row_of(table([record]), "LS4")[heading]


FAILED = {"status": "diverged", "reason": "step 12: loss nan", "steps": 12}


# -- words ----------------------------------------------------------------------------------------


def test_the_verdict_of_one_seed() -> None:
    assert cell(outputs.tested(p=0.34)) == "not told apart (p = .34)"
    assert cell(outputs.tested(p=0.0504)) == "not told apart (p = .050)"
    both = outputs.tested(p=0.001, by=["spectrum", "features"])
    assert cell(both) == "told apart (p = .001) by features, spectrum"
    assert cell(outputs.tested(p=0.05)) == "told apart (p = .050)"
    assert cell(outputs.tested(p=0.02, by=outputs.DISTANCES)) == "told apart (p = .020) by all"


def test_the_verdict_of_several_seeds_counts_those_that_are_done() -> None:
    rows = [outputs.tested(seed=s, p=p) for s, p in enumerate([0.001, 0.34, 0.02])]
    assert row_of(table(rows), "LS4")["verdict as generated"] == "told apart in 2 of 3 seeds"
    rows[1] = outputs.record(seed=1, **FAILED)
    found = row_of(table(rows), "LS4")
    assert found["verdict as generated"] == "told apart in 2 of 2 seeds"
    assert found["seeds"] == "2/3, diverged at step 12"
    rows[2] = outputs.record(seed=2, **FAILED)
    found = row_of(table(rows), "LS4")
    assert found["verdict as generated"] == "told apart (p = .001)"
    assert found["seeds"] == "1/3, diverged at step 12"


def test_standardised_series_have_a_verdict_of_their_own() -> None:
    record = outputs.tested(p=0.001, by=["marginal"], standardised=0.4)
    assert cell(record) == "told apart (p = .001) by marginal"
    assert cell(record, "verdict standardised") == "not told apart (p = .40)"
    assert ("verdict", "standardised") not in table([outputs.tested()]).columns


def test_small_p() -> None:
    texts = {0.34: "p = .34", 0.0342: "p = .034", 0.0996: "p = .10", 0.001: "p = .001",
             1e-9: "p < .001", 1.0: "p = 1.00"}  # fmt: skip
    assert {p: decisions.p_text(p) for p in texts} == texts


# -- table ----------------------------------------------------------------------------------------


def test_effects_are_means_over_seeds() -> None:
    rows = [outputs.tested(seed=s, effect=e) for s, e in enumerate([0.01, 0.05])]
    found = row_of(table(rows), "LS4")
    effects = {name: found[f"effect {name}"] for name in outputs.DISTANCES}
    assert list(effects.values()) == ["0.03", "1.03", "2.03", "3.03", "4.03"]
    assert found["training series: share outside span"] == "0.20"
    assert "Share of the test series outside the span: 0.60" in table(rows).notes


def test_the_noise_floor_is_not_compared_with_training_series() -> None:
    found = table([outputs.tested(name, nearer=0.001) for name in ("ls4", "noise_floor")])
    heading = "training series: nearer than test"
    assert row_of(found, "LS4")[heading] == "nearer (p = .001)"
    assert row_of(found, "noise floor")[heading] == "–"
    assert row_of(found, "noise floor")["training series: share outside span"] == "–"
    assert row_of(found, "noise floor")["verdict as generated"] == "not told apart (p = .34)"


def test_failed_cells_stay_and_rows_that_only_predict_do_not() -> None:
    rows = [
        outputs.tested(),
        outputs.tested("noise_floor"),
        outputs.record(model="rnn_vae", **FAILED),
    ]
    rows.append(outputs.record(model="persistence", scores=outputs.CONTROLS["persistence"]))
    found = table(rows)
    assert names(found.models) == ["LS4", "RNN-VAE"]
    assert names(found.controls) == ["noise floor"]
    failed = row_of(found, "RNN-VAE")
    assert failed.pop("seeds") == "0/1"
    assert set(failed.values()) == {"RNN-VAE", "diverged at step 12"}
    assert "RNN-VAE, seed 0: diverged, step 12: loss nan" in found.notes


def test_the_number_of_tests_is_said() -> None:
    rows = [outputs.tested(seed=s, standardised=0.5) for s in range(3)]
    rows.append(outputs.tested("noise_floor", standardised=0.5))
    (note,) = [note for note in table(rows).notes if "tests at a level" in note]
    assert note.startswith("8 tests at a level of 5 %,")
    assert note.endswith("0.40 would be told apart on average")


@pytest.mark.parametrize(("p", "warned"), [((0.01, 0.02, 0.3), True), ((0.01, 0.2, 0.3), False)])
def test_test_series_unlike_the_training_series_are_named(p: Sequence[float], warned: bool) -> None:
    rows = [outputs.tested(p=0.01)]
    rows += [outputs.tested("noise_floor", seed=s, p=value) for s, value in enumerate(p)]
    notes = [note for note in table(rows).notes if "unlike the training series" in note]
    assert bool(notes) == warned
    assert all("told apart in 2 of 3 seeds" in note for note in notes)


def test_the_power_line() -> None:
    notes = table([outputs.tested()], outputs.power()).notes
    (line,) = [note for note in notes if note.startswith("Power")]
    assert line.startswith("Power at n = 28,")
    assert "100 random splits" in line
    assert "shrunk to 90 % 97 %, one side of the first component 97 %" in line
    assert "noise 0.3 97 %, Gaussian 97 %. For comparison: real series 6 %" in line


def test_weak_distances_are_marked(tmp_path: Path) -> None:
    found = table([outputs.tested()], outputs.power(spectrum=0.49, marginal=0.5))
    headings = [heading for group, heading in found.columns if group == "effect"]
    assert headings == ["marginal", "energy", "features", "spectrum ◦", "neighbours"]
    assert found.notes[-1].startswith("◦ ") and found.notes[-1].endswith(
        "less than half of the splits: spectrum (noise 0.3 49 %)"
    )
    assert "effect spectrum ◦" in markdown(found)
    assert r"spectrum $^\circ$" in latex(found)


def test_power_is_that_of_the_same_data() -> None:
    mine, other = outputs.power(splits=10), outputs.power("ff" * 32, spectrum=0.1)
    for powers in ((), (other,)):
        found = table([outputs.tested()], *powers)
        assert found.notes[-1].startswith("Power was not measured")
        assert not any("◦" in heading for _, heading in found.columns)
    notes = table([outputs.tested()], mine, other, outputs.power(splits=20)).notes
    assert any("share of 20 random splits" in note for note in notes)


def test_old_records_have_no_decisions() -> None:
    kinds = [d.kind for d in tables.documents(outputs.frame_of(outputs.solar()))]
    assert "decisions" not in kinds


def test_decisions_stand_behind_table_1_and_are_no_own_scores() -> None:
    found = tables.documents(outputs.frame_of([outputs.tested(), *outputs.flame()]))
    assert [d.kind for d in found] == [
        "table1", "decisions", "memorisation", "own_scores", "costs",
    ]  # fmt: skip
    own = found[3].frame["score"].unique()
    assert not any(decisions.belongs(score) for score in own) and len(own) == 3
    assert len(found[1].tables) == 1  # FLAME was not tested


def test_the_frame_has_all_digits() -> None:
    rows = [outputs.tested(seed=s, p=p) for s, p in enumerate([0.123456789, 0.3])]
    lines = document(rows).frame.set_index("score")
    assert lines.loc["p_all", "largest_p"] == 0.3
    assert np.isnan(lines.loc["p_all", ["value", "seed_spread"]].astype(float)).all()
    assert lines.loc["effect_energy", "value"] == 3.5 and np.isnan(
        lines["largest_p"]["effect_energy"]
    )
    (one,) = document(rows[:1]).frame.set_index("score").loc[["p_all"], "largest_p"]
    assert one == 0.123456789
    assert len(lines) == lines.index.nunique() == 1 + 3 * 5 + 1 + 3
    assert set(lines["model"]) == {"ls4"}


def test_files_and_report_show_decisions_and_power(tmp_path: Path) -> None:
    cells = outputs.write_cells(tmp_path / "cells", [outputs.tested(), outputs.tested("gaussian")])
    records.write(outputs.power(spectrum=0.2), cells / "power" / "solar_weekly.json")
    paths = tables.write([cells], tmp_path / "tables")
    assert {p.name for p in paths if p.stem == "decisions_full"} == {
        f"decisions_full.{kind}" for kind in ("csv", "md", "tex")
    }
    assert "spectrum ◦" in (tmp_path / "tables" / "decisions_full.md").read_text()
    figures.write([cells], tmp_path, tmp_path / "figures")
    report.write([cells], tmp_path / "tables", tmp_path / "figures", tmp_path / "report.html")
    html = (tmp_path / "report.html").read_text()
    start = html.index(">Table 1</h2>")
    assert start < html.index("not told apart (p = .34)") < html.index(">Figures</h2>")
    assert "The table of decisions says" in html
    assert "spectrum ◦" in html and 'id="decisions_full"' in html


def test_a_damaged_record_of_power_is_named(tmp_path: Path) -> None:
    cells = outputs.write_cells(tmp_path / "cells", [outputs.tested()])
    write_text(cells / "power" / "solar_weekly.json", "{}")
    with pytest.raises(UserError, match=r"solar_weekly\.json.*power"):
        tables.write([cells], tmp_path / "tables")


# -- heat map -------------------------------------------------------------------------------------


def drawn(cells: list[Record], *powers: Power) -> Figure:
    (found,) = heat_map.figures(outputs.compare(cells), powers)
    assert found.stem == "decisions_full"
    return found.figure


def meshes(figure: Figure) -> list[np.ma.MaskedArray]:
    """The values of the cells that are coloured: by effect, and grey ones."""
    found = [c for c in figure.axes[0].collections if isinstance(c, QuadMesh)]
    return [np.ma.asarray(mesh.get_array()) for mesh in found]


def two_sets() -> list[Record]:
    """LS4, a failure and a control on two data sets; RNN-VAE on one."""
    one = [outputs.tested(), outputs.tested("gaussian", effect=0.1)]
    one.append(outputs.record(model="latent_ode", **FAILED))
    other = {"dataset": "nn5_daily", "title": "NN5 Daily", "data_digest": "77" * 32, "n_test": 23}
    two = [record.model_copy(update=other) for record in (*one, outputs.tested("rnn_vae"))]
    return one + two


def test_a_cell_for_each_row_data_set_and_distance() -> None:
    figure = drawn(two_sets())
    ax = figure.axes[0]
    (mesh,) = meshes(figure)
    labels = [label.get_text() for label in ax.get_yticklabels()]
    assert labels == ["LS4", "Latent ODE", "RNN-VAE", "Gaussian"]
    assert [label.get_text() for label in ax.get_xticklabels()] == 2 * [
        "told apart", *outputs.DISTANCES
    ]  # fmt: skip
    assert mesh.shape == (4, 12)
    assert mesh.count() == 5 * 5  # LS4 and Gaussian twice, RNN-VAE once
    texts = [text.get_text() for text in ax.texts]
    assert texts.count("diverged at step 12") == 2
    assert texts.count("2.50") == 3 and texts.count("0.10") == 2
    assert [text for text in texts if "\n" in text] == ["NN5 Daily\nn = 23", "Solar Weekly\nn = 28"]


def test_it_says_in_how_many_seeds_a_row_is_told_apart() -> None:
    found = outputs.compare(
        [outputs.tested(p=0.01), outputs.tested("rnn_vae"), outputs.tested("gaussian", p=0.05),
         outputs.tested("gaussian", seed=1)]
    )  # fmt: skip
    counts = decisions.seeds_told_apart(found[0])
    assert counts.T.to_dict("list") == {"ls4": [1, 1], "rnn_vae": [0, 1], "gaussian": [1, 2]}
    (figure,) = heat_map.figures(found, [])
    texts = [text.get_text() for text in figure.figure.axes[0].texts]
    assert [text for text in texts if text in ("yes", "no", "1/2")] == ["1/2", "yes", "no"]


def test_colours_end_and_texts_do_not() -> None:
    figure = drawn([outputs.tested(effect=0.001), outputs.tested("rnn_vae", effect=-1.0),
                    outputs.tested("gaussian", effect=2000)])  # fmt: skip
    (mesh,) = meshes(figure)
    assert (mesh.min(), mesh.max()) == (heat_map.LOW, heat_map.HIGH)
    texts = {text.get_text() for text in figure.axes[0].texts}
    assert {"0.00", "-1.00", "2004"} <= texts


def test_what_is_beyond_the_limit_is_bold() -> None:
    figure = drawn([outputs.tested(effect=1.5), outputs.tested("gaussian", effect=0.9)])
    weights = {text.get_text(): text.get_fontweight() for text in figure.axes[0].texts}
    assert weights["1.50"] == "bold" and weights["0.90"] == "normal"


def test_many_columns_fit_the_page() -> None:
    more = [
        record.model_copy(update={"dataset": f"set_{k}", "data_digest": f"{k}{k}" * 32})
        for k in range(6)
        for record in two_sets()[:3]
    ]
    figure = drawn(more)
    assert figure.get_figwidth() == pytest.approx(6.75)
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts.count("2.5") == 6 and texts.count("diverged") == 6


def test_weak_distances_are_grey() -> None:
    power = outputs.power(spectrum=0.2, energy=0.4)
    figure = drawn([outputs.tested(), outputs.tested("gaussian")], power)
    coloured, grey = meshes(figure)
    np.testing.assert_array_equal(coloured.mask[0, 1:], [False, True, False, True, False])
    np.testing.assert_array_equal(grey.mask[:, 1:], ~coloured.mask[:, 1:])
    assert coloured.mask[:, 0].all() and grey.mask[:, 0].all()  # whether it is told apart
    assert sum("." in text.get_text() for text in figure.axes[0].texts) == 10
    (found,) = heat_map.figures(outputs.compare([outputs.tested()]), [power])
    assert "Grey:" in found.caption
    (found,) = heat_map.figures(outputs.compare([outputs.tested()]), [])
    assert "Grey:" not in found.caption


def test_no_heat_map_of_old_records() -> None:
    assert not list(heat_map.figures(outputs.compare(outputs.solar()), []))
