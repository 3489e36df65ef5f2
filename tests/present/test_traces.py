"""Figures of traces, from synthetic records and traces."""

from pathlib import Path

import numpy as np
import pytest

from harness import records
from harness.errors import UserError
from harness.present import figures, frame
from harness.present.comparison import Comparison, comparisons
from harness.present.figures import traces
from harness.records import Score
from harness.traces import TRACE, Point, Trace
from tests.present import outputs

STEPS = [5, 10, 20, 40, 80]


def write(folder: Path, seeds: dict[int, list[Point]], **changes: int | str) -> Path:
    """Write cells of LS4 with traces, and one of RNN-VAE without."""
    cells = [outputs.record(seed=s, **changes) for s in seeds] + [outputs.record(model="rnn_vae")]
    outputs.write_cells(folder, cells)
    for seed, points in seeds.items():
        where = folder / "generation" / "solar_weekly" / "ls4" / str(seed)
        records.write(Trace(config_hash="c" * 64, points=points), where / TRACE)
    return folder


def point(step: int) -> Point:
    values = outputs.scores(1 / step, 0.6, 0.1)
    found = [Score(name=name, value=value) for name, (value, _) in values.items()]
    found.append(Score(name="p_all", value=step / 100))
    return Point(step=step, validation_loss=100.0 / step, scores=found)


def lost(step: int) -> Point:
    return Point(step=step, validation_loss=None, scores=[], reason="step 31: loss nan")


def comparison(folder: Path) -> Comparison:
    (found,) = comparisons(frame.read([folder]))
    return found


def test_a_figure_for_each_model_with_a_trace(tmp_path: Path) -> None:
    cells = write(tmp_path / "cells", {0: [point(s) for s in STEPS]})
    written = figures.write([cells], tmp_path, tmp_path / "out")
    stems = {path.name for path in written if path.name.startswith("trace")}
    assert stems == {"trace_ls4_solar_weekly_full.pdf", "trace_ls4_solar_weekly_full.png"}


def test_each_score_has_its_lines_and_each_seed_one(tmp_path: Path) -> None:
    cells = write(tmp_path, {s: [point(step) for step in STEPS] for s in (0, 1)}, best_step=20)
    (found,) = traces.figures(comparison(cells), "x", "what")
    titles = {ax.get_title(): ax for ax in found.figure.axes}
    assert list(titles) == [
        "marginal, share",
        "classification, nats",
        "prediction, unit²",
        "two-sample test, p",
        "nearest training series, ratio",
        "validation loss",
    ]
    curves = [line for line in titles["marginal, share"].lines if len(line.get_xdata()) == 5]
    expected = np.array([1.1, 1.1, 1, 1])[:, None] / STEPS  # robust and literal, of two seeds
    np.testing.assert_allclose([line.get_ydata() for line in curves], expected)
    losses = [line for line in titles["validation loss"].lines if len(line.get_xdata()) == 5]
    np.testing.assert_allclose([line.get_ydata() for line in losses], 2 * [100 / np.array(STEPS)])
    level = titles["two-sample test, p"].lines[2]  # behind the curves of two seeds
    assert list(level.get_ydata()) == [0.05, 0.05]
    level.remove()
    for ax in titles.values():
        marks = [tuple(line.get_xdata()) for line in ax.lines if len(line.get_xdata()) == 2]
        assert marks == 2 * [(40, 40)] + 2 * [(20, 20)]  # the last step and the best one
    assert "Dotted" in found.caption


def test_steps_without_scores_are_marked(tmp_path: Path) -> None:
    cells = write(tmp_path, {0: [point(5), point(10), lost(40), lost(80)]})
    (found,) = traces.figures(comparison(cells), "x", "what")
    assert "Dotted" not in found.caption
    for ax in found.figure.axes:
        (crosses,) = [line for line in ax.lines if line.get_marker() == "x"]
        assert list(crosses.get_xdata()) == [40, 80]


def test_a_training_that_never_had_a_score_has_no_figure(tmp_path: Path) -> None:
    cells = write(tmp_path, {0: [lost(step) for step in STEPS]})
    assert not list(traces.figures(comparison(cells), "x", "what"))


def test_a_trace_of_other_settings_than_the_record_s_is_left_out(tmp_path: Path) -> None:
    cells = write(tmp_path, {0: [point(s) for s in STEPS]}, config_hash="e" * 64)
    assert not list(traces.figures(comparison(cells), "x", "what"))


def test_a_damaged_trace_is_named(tmp_path: Path) -> None:
    cells = write(tmp_path, {0: [point(5)]})
    (path,) = cells.rglob(TRACE)
    path.write_text("{}")
    with pytest.raises(UserError, match=r"trace\.json"):
        list(traces.figures(comparison(cells), "x", "what"))
