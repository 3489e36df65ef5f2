"""One's own rows beside a reference's: in one table if they may be compared, else apart."""

from pathlib import Path

import numpy as np
import pytest

from datasets.files import save_arrays
from harness.cli import main
from harness.errors import UserError
from harness.present.tables import beside
from harness.present.tables.table import Table
from harness.records import ERRORS
from tests.present import outputs


def rows(table: Table) -> list[tuple[str, ...]]:
    """Label, last part of the folder's name, and budget of each line."""
    return [
        (label, Path(folder).name, budget)
        for label, folder, budget in table.cells.iloc[:, :3].itertuples(index=False)
    ]


def test_rows_of_two_budgets_stand_in_one_table(tmp_path: Path) -> None:
    own = [outputs.record(budget="smoke", scores=outputs.scores(0.2, 0.1, 0.5))]
    mine = outputs.write_cells(tmp_path / "mine", own)
    reference = outputs.write_cells(tmp_path / "reference", outputs.solar())
    (table,) = beside.document([mine], reference).tables
    assert rows(table)[:2] == [("LS4", "mine", "smoke"), ("LS4", "reference", "full")]
    assert rows(Table("", table.controls))[0] == ("noise floor", "reference", "full")
    marginal = table.cells[("marginal ↓", "literal")]
    assert marginal[0] == "0.200" and marginal[1].startswith("0.0470 ± ")


def test_the_same_cell_may_be_on_both_sides(tmp_path: Path) -> None:
    mine = outputs.write_cells(tmp_path / "mine", [outputs.solar()[0]])
    reference = outputs.write_cells(tmp_path / "reference", [outputs.solar()[0]])
    (table,) = beside.document([mine], reference).tables
    assert rows(table) == [("LS4", "mine", "full"), ("LS4", "reference", "full")]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"scoring": 7}, "not comparable, scoring 1 (above: 7)"),
        ({"split_digest": "e" * 64}, "not comparable, split_digest b2b2b2b2 (above: eeeeeeee)"),
        (
            {"evaluator_epochs": 3, "data_digest": "e" * 64},
            "not comparable, data_digest a1a1a1a1 (above: eeeeeeee); evaluator_epochs 100"
            " (above: 3)",
        ),
    ],
)
def test_what_may_not_be_compared_stands_apart(tmp_path: Path, change: dict, said: str) -> None:
    own = outputs.record(scores=outputs.scores(0.2, 0.1, 0.5), **change)
    mine = outputs.write_cells(tmp_path / "mine", [own])
    reference = outputs.write_cells(tmp_path / "reference", outputs.solar())
    first, second = beside.document([mine], reference).tables
    assert rows(first) == [("LS4", "mine", "full")]
    assert second.title == f"Solar Weekly: {said}"
    assert {folder for _, folder, _ in rows(second)} == {"reference"}


def with_errors(folder: Path, model: str, errors: np.ndarray, budget: str = "full") -> Path:
    """A cell with the prediction errors of 20 series beside its record."""
    cell = outputs.record(model=model, budget=budget, scores=outputs.scores(0.2, 0.1, 0.5))
    outputs.write_cells(folder, [cell])
    where = folder / cell.task / cell.dataset / cell.model / str(cell.seed)
    save_arrays(where / ERRORS, {"prediction": errors[None]})
    return folder


def test_paired_tests_say_how_an_own_row_stands(tmp_path: Path) -> None:
    base, noise = np.linspace(1.0, 2.0, 20), 0.5 * np.tile([1.0, -1.0], 10)
    mine = with_errors(tmp_path / "mine", "ls4", base, "smoke")
    for model, errors in {
        "ls4": base + 0.1,  # the same model, of another budget
        "gp_vae": base - 0.1,
        "latent_ode": base + noise,
        "persistence": base + 0.2,
    }.items():
        reference = with_errors(tmp_path / "reference", model, errors)
    (table,) = beside.document([mine], reference).tables
    assert table.notes == [
        "LS4 (smoke), robust prediction: ahead of LS4; persistence. behind GP-VAE."
        " no difference seen from Latent ODE"
    ]


def test_it_says_which_rows_are_told_apart(tmp_path: Path) -> None:
    mine = outputs.write_cells(tmp_path / "mine", [outputs.tested(p=0.34)])
    reference = outputs.write_cells(
        tmp_path / "reference", [outputs.tested("gp_vae", p=0.001, by=["energy"])]
    )
    (table,) = beside.document([mine], reference).tables
    assert table.cells["", "told apart?"].tolist() == [
        "not told apart (p = .34)",
        "told apart (p = .001) by energy",
    ]


def test_predictions_are_compared_under_one_protocol(tmp_path: Path) -> None:
    own = outputs.predicted("interpolation", model="rnn", mse=0.01, budget="smoke")
    mine = outputs.write_cells(tmp_path / "mine", [own])
    other = outputs.predicted("interpolation", model="gru_d", protocol={"hidden": 0.3})
    others = [outputs.predicted("interpolation"), outputs.predicted("extrapolation"), other]
    reference = outputs.write_cells(tmp_path / "reference", others)
    first, second = beside.document([mine], reference).tables
    assert rows(first) == [("RNN", "mine", "smoke"), ("LS4", "reference", "full")]
    assert first.cells[("MSE × 1e-3 ↓", "robust")][0].startswith("10.0")
    assert "protocol" in second.title


def test_it_says_where_the_reference_has_nothing(tmp_path: Path) -> None:
    mine = outputs.write_cells(tmp_path / "mine", [outputs.flame()[0]])
    reference = outputs.write_cells(tmp_path / "reference", outputs.solar())
    (table,) = beside.document([mine], reference).tables
    (note,) = table.notes
    assert note.endswith("reference has no row of this data set and task")


def test_mistakes_get_one_line(tmp_path: Path) -> None:
    mine = outputs.write_cells(tmp_path / "mine", outputs.solar())
    with pytest.raises(UserError, match="expected other records than those of"):
        beside.document([mine], tmp_path)
    with pytest.raises(UserError, match="empty: expected a folder of results, found none"):
        beside.document([tmp_path / "empty"], mine)


def test_the_command_prints_and_writes_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = outputs.write_cells(tmp_path / "mine", [outputs.solar()[0]])
    reference = outputs.write_cells(tmp_path / "reference", outputs.solar()[1:])
    arguments = ["compare", "--records", str(mine), "--reference", str(reference)]
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--out", str(tmp_path / "out")])
    assert ended.value.code == 0
    page = (tmp_path / "out" / "comparison.md").read_text()
    assert page in capsys.readouterr().out and "± standard deviation" in page
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {f"comparison{suffix}" for suffix in (".csv", ".md", ".tex")}
