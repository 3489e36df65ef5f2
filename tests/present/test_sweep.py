"""Tables and figures of sweeps, and that the validation loss chooses."""

from pathlib import Path

import numpy as np
import pandas as pd

from harness.present import figures, tables
from harness.present.comparison import Comparison
from harness.present.tables import sweep
from harness.records import Record
from tests.present import outputs

# The second has the best scores, the third the lowest loss, the fourth a lower one of one seed.
LOSSES = {"0.1": (3.0, 4.0), "0.01": (2.0, 2.5), "0.001": (1.0, 2.0), "1e-05": (0.5, None)}


def swept(**changes: object) -> list[Record]:
    found = []
    for i, (lr, losses) in enumerate(LOSSES.items()):
        for seed, loss in enumerate(losses):
            settings = outputs.record().settings | {"variant_of": "ls4", "config": {"lr": lr}}
            scores = outputs.scores(abs(i - 1.1), 0.5, 0.2)
            failed = {} if loss else {"status": "diverged", "reason": "step 3: loss nan"}
            fields = {"settings": settings, "last_validation_loss": loss, **failed, **changes}
            given = scores if loss else {}
            found.append(outputs.record(model=f"ls4-lr-{lr}", seed=seed, scores=given, **fields))
    return found


def comparison(records: list[Record]) -> Comparison:
    (compared,) = outputs.compare(records)
    (found,) = compared.sweeps
    return found


def test_the_lowest_validation_loss_of_whole_rows_is_chosen() -> None:
    found = sweep.losses(comparison(swept() + outputs.solar()))
    assert found.index[found["chosen"]].tolist() == ["ls4-lr-0.001"]
    assert found.loc["ls4-lr-0.001", "mean"] == 1.5
    assert found.loc["ls4-lr-0.001", "deviation"] == np.std([1, 2], ddof=1)


def test_the_loss_of_the_best_step_counts_where_its_weights_are_scored() -> None:
    best = [r.model_copy(update={"best_validation_loss": 9.0}) if r.model == "ls4-lr-0.001" else r
            for r in swept()]  # fmt: skip
    assert sweep.chosen(comparison(best)) == "LS4: lr 0.01"


def test_variants_stand_in_a_table_of_their_own_which_says_who_chose() -> None:
    records = swept() + outputs.solar()
    found = {d.stem: d for d in tables.documents(outputs.frame_of(records))}
    without = {d.stem: d for d in tables.documents(outputs.frame_of(outputs.solar()))}
    assert found.keys() == without.keys() | {"sweep_full"}  # not among the variants of files
    (table,) = found["sweep_full"].tables
    labels = table.cells.iloc[:, 0].tolist()
    assert sorted(labels[:-1]) == [f"LS4: lr {lr}" for lr in sorted(LOSSES)]
    assert labels[-1] == "noise floor"
    losses = dict(zip(labels, table.cells["", "validation loss ↓"], strict=True))
    assert losses["LS4: lr 0.001"] == "1.500 ± 0.71, chosen"
    assert [label for label, text in losses.items() if "chosen" in text] == ["LS4: lr 0.001"]
    assert "Chosen on the validation loss: LS4: lr 0.001." in table.notes
    assert any("chosen: the row with the lowest" in line for line in found["sweep_full"].legend)
    table1 = found["table1_full"].tables[0].cells.iloc[:, 0]
    assert table1.tolist() == without["table1_full"].tables[0].cells.iloc[:, 0].tolist()
    csv = found["sweep_full"].frame
    assert set(csv.loc[csv["chosen"], "model"]) == {"ls4-lr-0.001"}


def test_without_a_validation_loss_nothing_is_chosen(tmp_path: Path) -> None:
    c = comparison(swept(last_validation_loss=None))
    assert sweep.chosen(c) is None
    (table,) = sweep.document([c], "full").tables
    assert any(note.startswith("No choice: no validation loss") for note in table.notes)
    (drawn,) = figures.sweep.figures(c, "x_full", "X, budget full")
    assert "No choice" in drawn.caption and len(drawn.figure.axes) == 3


def test_the_figure_shows_the_loss_above_the_lowest() -> None:
    records = swept() + outputs.solar()
    drawn = {d.stem: d for d in figures.figures(outputs.frame_of(records), Path("nowhere"))}
    one = drawn["sweep_ls4_solar_weekly_full"]
    assert "Chosen on the validation loss: LS4: lr 0.001." in one.caption
    axes = one.figure.axes
    assert len(axes) == 4 and axes[0].get_xlabel().startswith("validation loss, above lowest")
    x = np.concatenate(
        [line.get_xdata() for line in axes[0].lines if line.get_linestyle() == "None"]
    )
    assert np.isclose(x.max(), 3.5) and pd.Series(x).ge(0).all()


def test_two_tasks_have_a_sweep_each() -> None:
    rows = [
        outputs.predicted(task, model=f"rnn-lr-{lr}", last_validation_loss=lr)
        for task in outputs.PREDICTING
        for lr in (0.1, 0.2)
    ]
    documents = {d.stem: d for d in tables.documents(outputs.frame_of(rows))}
    assert len(documents["sweep_full"].tables) == 3
