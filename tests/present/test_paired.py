"""What is called better, and skill: from errors of single series beside synthetic records."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from datasets.files import load_arrays, save_arrays
from harness.errors import UserError
from harness.present import frame, paired, tables
from harness.present.comparison import Comparison, comparisons
from harness.present.leaderboard.board import verdict
from harness.present.paired import ERRORS
from harness.present.text import paragraphs
from harness.records import Record
from tests.metrics.test_paired import errors_of, series
from tests.present import outputs
from tests.present.test_tables import row_of

N = 20
BASE = np.linspace(1.0, 2.0, N)


def compare(folder: Path, cells: Sequence[tuple[Record, np.ndarray | None]]) -> Comparison:
    """Compare records that lie in a folder with errors of their series, where they have some."""
    outputs.write_cells(folder, [record for record, _ in cells])
    for cell, errors in cells:
        where = folder / cell.task / cell.dataset / cell.model / str(cell.seed)
        if errors is None:
            continue
        arrays = {"prediction": errors[None]}
        if cell.task != "generation":
            group = record = np.arange(N)
            arrays = {"record": record, "group": group, "count": np.full(N, 3)}
            arrays |= {"squared": errors, "crps": 2 * errors}
        save_arrays(where / ERRORS, arrays)
    (found,) = comparisons(frame.read([folder]))
    return found


def generated(model: str, seed: int = 0, value: float = 1.0) -> Record:
    return outputs.record(model=model, seed=seed, scores={"prediction_robust": (value, None)})


def beaten_by(c: Comparison, quantity: str = "prediction") -> list[str]:
    return c.better_controls(c.quantities[quantity])["ls4"]


def noisy() -> np.ndarray:
    """Errors that differ from the others' at random; their mean is a little larger."""
    return BASE + 0.01 + 0.5 * np.tile([1.0, -1.0], N // 2)


@pytest.mark.parametrize(
    ("seeds", "expected"),
    [
        ([BASE + 0.1], ["persistence"]),
        ([noisy()], []),
        ([BASE + 0.1, BASE + 0.2], ["persistence"]),
        ([BASE + 0.1, noisy()], []),  # in one seed of two
        ([BASE - 0.1], []),
    ],
)
def test_a_control_is_better_if_each_seed_says_so(
    tmp_path: Path, seeds: list[np.ndarray], expected: list[str]
) -> None:
    # the control's score is the lower one throughout: the plain difference would mark it
    cells: list[tuple[Record, np.ndarray | None]] = [
        (generated("ls4", seed, 2.0), errors) for seed, errors in enumerate(seeds)
    ]
    c = compare(tmp_path, [*cells, (generated("persistence"), BASE)])
    assert beaten_by(c) == expected
    assert not c.older


@pytest.mark.parametrize(("own", "other"), [(None, BASE), (BASE, None)])
def test_older_records_count_any_difference(
    tmp_path: Path, own: np.ndarray | None, other: np.ndarray | None
) -> None:
    cells = [(generated("ls4", value=1.001), own), (generated("persistence"), other)]
    c = compare(tmp_path, cells)
    assert c.older and beaten_by(c) == ["persistence"]
    document = next(d for d in tables.documents(frame.read([tmp_path])) if d.kind == "table1")
    assert any("older records" in line for line in document.legend)


def test_a_page_of_older_and_newer_records_explains_a_mark_once() -> None:
    newer, older = (paragraphs("legends.j2", "table1", older=older) for older in (False, True))
    (line,) = set(older) - set(newer)
    assert set(newer) < set(older) and "†" not in line


def test_no_error_at_all_is_better_than_any(tmp_path: Path) -> None:
    cells = [
        (outputs.predicted("reconstruction"), BASE),
        (outputs.predicted("reconstruction", model="locf", mse=0.0), 0 * BASE),
    ]
    c = compare(tmp_path, cells)
    assert beaten_by(c, "mse") == beaten_by(c, "crps") == ["locf"]
    assert c.reference is None


def test_skill_is_one_less_the_ratio_of_errors(tmp_path: Path) -> None:
    cells = [
        (outputs.predicted("interpolation", seed=0), 0.5 * BASE),
        (outputs.predicted("interpolation", seed=1), 0.7 * BASE),
        (outputs.predicted("interpolation", model="mean"), 2 * BASE),
        (outputs.predicted("interpolation", model="gp"), BASE),
    ]
    c = compare(tmp_path, cells)
    assert c.reference == "gp"
    for name in ("mse", "crps"):
        found = c.skill(c.quantities[name])
        # proportional errors: every resample has the same ratio
        assert found["ls4"][:3] == pytest.approx((0.4, 0.3, 0.5))
        assert found["mean"][:3] == pytest.approx((-1, -1, -1))
    documents = {d.kind: d for d in tables.documents(frame.read([tmp_path]))}
    (table,) = documents["table2"].tables
    assert row_of(table, "LS4")["skill ↑ MSE"] == "0.40 [0.30, 0.50]"
    assert row_of(table, "GP")["skill ↑ CRPS"] == "reference"
    assert not any("older records" in line for line in documents["table2"].legend)
    (overview,) = documents["overview"].tables
    assert row_of(overview, "LS4")["PhysioNet 2012 interpolation, skill ↑"] == "0.40 [0.30, 0.50]"


def test_validation_chooses_the_reference_in_extrapolation(tmp_path: Path) -> None:
    def with_validation(model: str, mse: float, validation: float) -> Record:
        made = outputs.predicted("extrapolation", model=model, mse=mse)
        score = made.scores[0].model_copy(update={"name": "mse_validation", "value": validation})
        return made.model_copy(update={"scores": [*made.scores, score]})

    cells = [
        (outputs.predicted("extrapolation"), BASE),
        (with_validation("mean", 0.05, 0.01), 2 * BASE),
        (with_validation("gp", 0.01, 0.02), BASE),  # better on the test part
    ]
    c = compare(tmp_path, cells)
    assert c.reference == "mean"
    assert c.skill(c.quantities["mse"])["ls4"].difference == pytest.approx(0.5)


def test_older_records_have_no_skill() -> None:
    rows = [outputs.predicted("interpolation"), outputs.predicted("interpolation", model="gp")]
    (c,) = outputs.compare(rows)
    assert c.reference is None and c.skill(c.quantities["mse"]) == {}


def test_rows_of_other_records_are_refused(tmp_path: Path) -> None:
    cells = [
        (outputs.predicted("interpolation"), BASE),
        (outputs.predicted("interpolation", model="gp"), BASE),
    ]
    c = compare(tmp_path, cells)
    path = Path(c.cells.set_index("model").loc["gp", "folder"]) / ERRORS
    arrays = load_arrays(path, {"record"}) | {"record": np.arange(N) + 1}
    save_arrays(path, arrays)
    with pytest.raises(UserError, match="expected the records of"):
        c.skill(c.quantities["mse"])


def test_rows_are_compared_seed_by_seed_and_record_by_record(tmp_path: Path) -> None:
    cells = [
        (outputs.predicted("interpolation", model=model, seed=seed), factor * BASE)
        for model, factors in {"ls4": (0.5, 1.4), "gru_d": (1.0, 2.0)}.items()
        for seed, factor in enumerate(factors)
    ]
    c = compare(tmp_path, cells)
    for folder in c.cells.loc[c.cells["model"] == "gru_d", "folder"]:  # in the opposite order
        arrays = load_arrays(folder / ERRORS, set())
        save_arrays(folder / ERRORS, {name: values[::-1] for name, values in arrays.items()})
    found = paired.row_skill(c.cells, "ls4", "gru_d", "mse")
    assert found is not None and found[:3] == pytest.approx((0.4, 0.3, 0.5))


def of_series(folder: Path, model: str, generated: np.ndarray) -> Record:
    """Write a cell with the errors that the scores of generation leave."""
    cell = outputs.record(model=model, scores=outputs.scores(0.1, 0.6, 0.1))
    errors = errors_of(REAL, generated, epochs=20)
    outputs.write_cells(folder, [cell])
    where = folder / cell.task / cell.dataset / cell.model / str(cell.seed)
    save_arrays(where / ERRORS, errors._asdict())
    return cell


REAL = series(0, n=40)


@pytest.mark.parametrize(
    ("own", "better"), [(series(2, n=40, scale=3.0), ["gaussian"]), (series(3, n=40), [])]
)
def test_errors_of_the_scores_themselves(
    tmp_path: Path, own: np.ndarray, better: list[str]
) -> None:
    """A generator of three times the scale is found to be worse, one of the same law is not."""
    of_series(tmp_path, "ls4", own)
    of_series(tmp_path, "gaussian", series(1, n=40))
    (c,) = comparisons(frame.read([tmp_path]))
    assert beaten_by(c, "marginal") == beaten_by(c, "classification") == better
    for name in c.quantities:  # whichever row is named first
        one, other = (
            paired.row_difference(c.cells, *pair, name)
            for pair in (("ls4", "gaussian"), ("gaussian", "ls4"))
        )
        assert one and other and one == other.turned and one.low < one.difference < one.high


def grouped(folder: Path, errors: dict[str, np.ndarray], group: np.ndarray) -> Comparison:
    """Compare cells by the errors of their records, which are drawn again by groups."""
    cells = [outputs.predicted("interpolation", model=model) for model in errors]
    outputs.write_cells(folder, cells)
    for cell in cells:
        arrays = {"record": np.arange(len(group)), "group": group, "count": np.full(len(group), 3)}
        arrays |= {"squared": errors[cell.model], "crps": errors[cell.model]}
        where = folder / cell.task / cell.dataset / cell.model / str(cell.seed)
        save_arrays(where / ERRORS, arrays)
    (found,) = comparisons(frame.read([folder]))
    return found


def test_records_of_a_group_are_one_piece_of_evidence(tmp_path: Path) -> None:
    """One station of six is much worse, by which all its records are."""
    station = np.repeat(np.arange(6), 10)
    errors = {"ls4": np.where(station == 0, 2.0, 0.99), "gp": np.ones(60)}
    alone = grouped(tmp_path / "alone", errors, np.arange(60))
    together = grouped(tmp_path / "together", errors, station)
    assert beaten_by(alone, "mse") == ["gp"] and beaten_by(together, "mse") == []
    assert (alone.groups, together.groups) == (None, 6)
    worse = grouped(tmp_path / "worse", errors | {"ls4": 1.1 + station / 10}, station)
    assert beaten_by(worse, "mse") == ["gp"]
    notes = {d.kind: d for d in tables.documents(frame.read([tmp_path / "together"]))}["table2"]
    assert any("of 6 groups" in note and "462 different" in note for note in notes.tables[0].notes)
    notes = {d.kind: d for d in tables.documents(frame.read([tmp_path / "alone"]))}["table2"]
    assert not any("groups" in note for note in notes.tables[0].notes)


def test_fewer_than_six_groups_mark_nothing(tmp_path: Path) -> None:
    """LS4 is worse in each of three stations, and GP the reference."""
    station = np.repeat(np.arange(3), 10)
    errors = {"ls4": 1.5 + station / 10, "gp": np.ones(30)}
    c = grouped(tmp_path, errors, station)
    assert beaten_by(c, "mse") == []
    of = c.cells, "gp", "ls4", "interpolation", "mse"
    assert paired.better(*of) is False
    interval = c.skill(c.quantities["mse"])["ls4"]
    assert interval.high < 0 and verdict("interpolation", interval) == "no clear difference"
    document = {d.kind: d for d in tables.documents(frame.read([tmp_path]))}["table2"]
    assert any(
        "fewer than 6 groups nothing is bold and no row has †" in note
        for note in document.tables[0].notes
    )


def test_a_spread_over_single_records_is_not_shown_of_groups(tmp_path: Path) -> None:
    """Such as [0.40]: records of one station go wrong together."""

    def micro(folder: Path, group: np.ndarray) -> str:
        grouped(folder, {"ls4": np.ones(60)}, group)
        document = {d.kind: d for d in tables.documents(frame.read([folder]))}["table2"]
        assert document.frame["evaluator_spread"].isna().all() == (group.max() == 5)
        return row_of(document.tables[0], "LS4")["MSE × 1e-3 ↓ micro"]

    assert "[" in micro(tmp_path / "alone", np.arange(60))
    assert "[" not in micro(tmp_path / "together", np.repeat(np.arange(6), 10))


def test_the_robust_column_is_of_what_is_compared(tmp_path: Path) -> None:
    """Without descriptors, as the errors of single records are."""

    def of_today(model: str, mse: float) -> Record:
        made = outputs.predicted("interpolation", model=model, mse=mse)
        more = {"mse_robust": 0.5 * mse, "crps_robust": 0.3, "mse_descriptors": 4 * mse}
        score = made.scores[0]
        scores = [score.model_copy(update={"name": n, "value": v}) for n, v in more.items()]
        return made.model_copy(update={"scores": [*made.scores, *scores]})

    today = [(of_today("ls4", 0.008), BASE), (of_today("gp", 0.004), 0.5 * BASE)]
    c = compare(tmp_path / "today", today)
    assert c.quantities["mse"].robust == "mse_robust"
    document = {d.kind: d for d in tables.documents(frame.read([tmp_path / "today"]))}["table2"]
    row = row_of(document.tables[0], "LS4")
    assert row["MSE × 1e-3 ↓ micro, without descriptors"].startswith("4.00")
    lines = document.frame.set_index(["model", "score"])
    assert lines.loc[("ls4", "mse_robust"), "better_controls"] == "gp"
    assert lines.loc[("ls4", "mse_robust"), "skill_reference"] == "gp"
    skill = lines.loc[("ls4", "mse_robust"), ["skill", "skill_low", "skill_high"]]
    assert skill.tolist() == pytest.approx([-1, -1, -1])
    assert lines["skill"].notna().sum() == 4  # two rows, MSE and CRPS

    # with one record of an earlier version, all are shown by what it has
    mixed = [*today, (outputs.predicted("interpolation", model="mean"), None)]
    c = compare(tmp_path / "mixed", mixed)
    assert c.quantities["mse"].robust == "mse_micro"
    document = {d.kind: d for d in tables.documents(frame.read([tmp_path / "mixed"]))}["table2"]
    (table,) = document.tables
    assert row_of(table, "LS4")["MSE × 1e-3 ↓ micro"].startswith("8.00")
    assert any("micro is also of the descriptors Age" in note for note in table.notes)
