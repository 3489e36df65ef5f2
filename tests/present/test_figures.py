"""Figures of synthetic cells: which there are, what they show, that their bytes stay the same."""

import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from harness import catalogue
from harness.errors import UserError
from harness.present import figures, files, frame, report
from harness.present.comparison import comparisons
from harness.present.figures import generation, prediction, scores, style, training
from harness.texts import write_json
from tests.present import outputs

STEMS = {
    "bands_solar_weekly_full",
    "figure2_solar_weekly_full",
    "scores_solar_weekly_full",
    "training_solar_weekly_full",
    "figure1a_flame_full",
    "figure1b_flame_full",
    "figure2_flame_full",
    "scores_flame_full",
    "training_flame_full",
}


def drawn(cells: Path, data: Path) -> dict[str, str]:
    """Captions of what is drawn of cells and data, by stem."""
    return {one.stem: one.caption for one in figures.figures(frame.read([cells]), data)}


def captions(out: Path) -> dict[str, str]:
    return json.loads((out / "captions.json").read_text())


def test_all_figures_are_there_and_their_bytes_do_not_change(tmp_path: Path) -> None:
    records = outputs.prepare(tmp_path, outputs.solar() + outputs.flame())
    cells = outputs.write_cells(tmp_path / "cells", records)
    first = figures.write([cells], tmp_path, tmp_path / "a")
    second = figures.write([cells], tmp_path, tmp_path / "b")
    assert {p.name for p in first} == {"captions.json"} | {
        f"{stem}.{kind}" for stem in STEMS for kind in ("pdf", "png")
    }
    for a, b in zip(first, second, strict=True):
        assert a.name == b.name
        assert a.read_bytes() == b.read_bytes()
        assert b"CreationDate" not in a.read_bytes()
        assert a.stat().st_size > 1000
    for stem, caption in captions(tmp_path / "a").items():
        assert "budget full" in caption
        assert ("seed 0" in caption) == stem.startswith(("bands", "figure"))
    assert list(captions(tmp_path / "a")) == sorted(STEMS)


@pytest.mark.parametrize("text", ["{", "[1]"])
def test_damaged_captions_get_one_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "captions.json").write_text(text)
    for read in (lambda: style.write([], tmp_path), lambda: report._figures(tmp_path)):
        with pytest.raises(UserError, match=r"captions\.json: not (JSON|captions)") as caught:
            read()
        assert "\n" not in str(caught.value)


def test_figures_of_predictions(tmp_path: Path) -> None:
    """Their stems name the task; what lacks data or shares, or could not be had, is not drawn."""
    records = outputs.prepare(tmp_path, [r for r in outputs.physionet() if r.seed == 0])
    cells = outputs.write_cells(tmp_path / "cells", records + outputs.unavailable())
    captions = drawn(cells, tmp_path)
    expected = {
        f"{kind}_{task}_physionet_full"
        for kind in ("predictions", "scores", "training")
        for task in outputs.PREDICTING
    }
    assert captions.keys() == expected | {"hidden_share_physionet_full"}
    assert all("budget full" in caption for caption in captions.values())
    assert "LS4 seed 0" in captions["predictions_interpolation_physionet_full"]
    without = drawn(cells, tmp_path / "no data").keys()
    assert without == {stem for stem in captions if not stem.startswith("predictions")}


@pytest.mark.parametrize("task", outputs.PREDICTING)
@pytest.mark.parametrize("model", ["ls4", "ls4_union"])
def test_values_stand_beside_their_predictions(tmp_path: Path, task: str, model: str) -> None:
    record = next(r for r in outputs.physionet() if (r.task, r.model) == (task, model))
    (cell,) = files.find([outputs.write_cells(tmp_path, [record])])
    dataset = outputs.irregular(record.dataset, record.title)
    arrays = files.summary(cell)
    example = prediction.example(arrays, 0, dataset)
    channel = arrays["channels"][0]
    for k, index in enumerate(arrays["records"]):
        observed = dataset.mask[index, :, channel]
        known = dict(
            zip(dataset.t[index][observed], dataset.x[index, observed, channel], strict=True)
        )
        drawn = example.shown[k] | example.target[k]
        assert dict(zip(example.t[k][drawn], example.x[k][drawn], strict=True)) == known
        lines = np.isfinite(example.mean[k])
        assert lines[drawn].all()
        assert (np.diff(example.t[k][lines]) > 0).all()  # without the padding
    hollow = example.target & ~example.shown
    assert hollow.any() == (task != "reconstruction")


def test_predictions_are_drawn_within_the_range_of_the_data() -> None:
    t = np.tile(np.linspace(0, 1, 6), (2, 1))
    shown = np.tile([True, False, True, False, False, True], (2, 1))
    x, mean = np.tile([0.0, 0, 4, 0, 0, 2], (2, 1)), np.full((2, 6), 1e6)
    example = prediction.Example(
        t, x, shown, np.roll(shown, 1, 1) & ~shown, mean, mean - 1, mean + 1
    )
    figure = prediction.predictions({"ls4": example, "rnn": example}, ("t", "x"), "title")
    assert len(figure.axes) == 4
    for ax in figure.axes:
        line, hidden, given = ax.lines
        np.testing.assert_array_equal(line.get_ydata(), mean[0])
        np.testing.assert_array_equal(hidden.get_xdata(), t[0, [1, 3]])
        np.testing.assert_array_equal(given.get_ydata(), [0, 4, 2])
        assert ax.get_ylim() == (-1, 5)
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.texts] == ["hidden, to predict", "shown"]


def test_error_against_share_has_a_line_for_each_row() -> None:
    records = [r for r in outputs.physionet() if r.task == "interpolation"]
    (comparison,) = outputs.compare(records)
    lines = prediction.share_lines(comparison)
    assert lines.query("model == 'ls4'")["share"].tolist() == [10, 30, 50, 70, 90]
    assert lines.query("model == 'ls4' and share == 50")["value"].item() == pytest.approx(5)
    figure = prediction.hidden_share(lines, "MSE", "title")
    (ax,) = figure.axes
    assert ax.get_yscale() == "log"
    names = {text.get_text() for text in ax.texts}
    assert names == {"LS4", "LS4, union grid", "RNN", "mean", "LOCF", "GP"}
    styles = [c.lines[0].get_linestyle() for c in ax.containers]
    assert len(set(styles[3:])) == 3


def test_scores_far_below_the_others_are_written() -> None:
    (comparison,) = outputs.compare(
        [
            outputs.predicted("reconstruction", mse=0.004),
            outputs.predicted("reconstruction", model="rnn", mse=0.4),
            outputs.predicted("reconstruction", model="gp", mse=1e-11),
            outputs.predicted("reconstruction", model="locf", mse=0.0),
        ]
    )
    mse = [comparison.quantities["mse"]]
    figure = scores.score_intervals(scores.score_lines(comparison), mse, {}, "title")
    (ax,) = figure.axes
    assert ax.get_xscale() == "log"
    assert [(t.get_text(), t.get_position()[1]) for t in ax.texts] == [("0", 2), ("1.0e-08", 3)]
    assert [len(c.lines[0].get_xdata()) for c in ax.containers] == [1, 1, 0, 0]
    low, high = ax.get_xlim()
    assert low < 4 < 400 < high < 1e3 * low
    figure = scores.score_intervals(
        scores.score_lines(comparison), mse, {"mse": (1e-5, 1e-6)}, "title"
    )
    assert figure.axes[0].get_xlim()[0] == pytest.approx(0.4)  # what is written lies below the end


def test_labels_of_close_points_stand_apart_and_others_stay() -> None:
    ax = Figure(figsize=(3, 3)).subplots()
    ax.set(ylim=(0, 1))
    style.label_right(
        ax, 1.0, [(0.9, "far", "red"), (0.31, "upper", "blue"), (0.3, "lower", "red")]
    )
    places = {text.get_text(): text.xyann[1] for text in ax.texts}
    assert places["far"] == 0.9
    height = 72 * 3 * ax.get_position().height
    assert (places["upper"] - places["lower"]) * height == pytest.approx(1.2 * 7)
    assert places["upper"] + places["lower"] == pytest.approx(0.61)


@pytest.mark.parametrize("n", [1, 4, 5, 9, 18])
def test_panels_fit_the_page_and_the_lowest_of_each_column_has_its_labels(n: int) -> None:
    figure, axes = style.panels(n, 1.0, "step", sharex=True)
    assert len(figure.axes) == n
    assert style.COLUMN <= figure.get_figwidth() <= style.PAGE
    for column in axes.T:
        *upper, lowest = [ax for ax in column if ax in figure.axes]
        assert lowest.get_xlabel() == "step"
        assert lowest.xaxis.get_tick_params()["labelbottom"]
        assert not any(ax.xaxis.get_tick_params()["labelbottom"] for ax in upper)


def test_missing_siblings_only_take_their_figures_away(tmp_path: Path) -> None:
    cells = outputs.write_cells(tmp_path / "cells", outputs.solar())
    for name in ("summary.npz", "history.jsonl"):
        for path in cells.rglob(name):
            path.unlink()
    figures.write([cells], tmp_path, tmp_path / "out")
    assert captions(tmp_path / "out").keys() == {"scores_solar_weekly_full"}


def test_curves_of_a_model_in_phases_without_validation(tmp_path: Path) -> None:
    """Each step is shown by the first loss that it logged."""
    records = [outputs.record(model="timegan", scores=outputs.scores(0.1, 0.6, 0.1))]
    cells = outputs.write_cells(tmp_path / "cells", records)
    (history,) = cells.rglob("history.jsonl")
    rows = [{"step": 1, "first/loss": 9.0}, {"step": 2, "a/loss": 3.0, "b/loss": 5.0}]
    history.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (comparison,) = comparisons(frame.read([cells]))
    lines = training.curves(comparison)
    assert lines["loss"].tolist() == [9, 3] and lines["validation_loss"].isna().all()
    (ax,) = training.training_curves(lines, "title").axes
    shown = [line for line in ax.lines if len(line.get_xdata())]
    assert [list(line.get_ydata()) for line in shown] == [[9, 3]]


def test_a_model_that_logs_one_step_has_no_curve(tmp_path: Path) -> None:
    records = [outputs.record(model=name) for name in ("ls4", "pca_kde")]
    cells = outputs.write_cells(tmp_path, records)
    (history,) = cells.rglob("pca_kde/*/history.jsonl")
    history.write_text(json.dumps({"step": 1, "loss": 9.0}) + "\n")
    (comparison,) = comparisons(frame.read([cells]))
    assert set(training.curves(comparison)["model"]) == {"ls4"}


def test_the_first_seed_with_samples_is_shown(tmp_path: Path) -> None:
    records = [
        outputs.record(seed=0, status="diverged", reason="step 3: loss nan"),
        outputs.record(seed=1, scores=outputs.scores(0.1, 0.6, 0.1)),
        outputs.record(seed=2, scores=outputs.scores(0.1, 0.6, 0.1)),
    ]
    cells = outputs.write_cells(tmp_path / "cells", outputs.prepare(tmp_path, records))
    figures.write([cells], tmp_path, tmp_path / "out")
    assert "LS4 seed 1" in captions(tmp_path / "out")["figure2_solar_weekly_full"]


def test_no_records_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no record\.json"):
        figures.write([tmp_path], tmp_path, tmp_path / "out")


def test_figure_2_is_drawn_from_the_data_of_the_records_alone(tmp_path: Path) -> None:
    record = outputs.record(scores=outputs.scores(0.1, 0.6, 0.1))
    (same,) = outputs.prepare(tmp_path / "data", [record])
    split = same.model_copy(update={"split_digest": record.split_digest})
    for name, of_cell in {"same": same, "other": record, "split": split}.items():
        cells = outputs.write_cells(tmp_path / name, [of_cell])
        stems = drawn(cells, tmp_path / "data")
        assert ("figure2_solar_weekly_full" in stems) == (name == "same")


def test_a_figure_that_cannot_be_drawn_again_stays_with_its_caption(tmp_path: Path) -> None:
    record = outputs.record(scores=outputs.scores(0.1, 0.6, 0.1))
    cells = outputs.write_cells(tmp_path / "cells", outputs.prepare(tmp_path / "data", [record]))
    out = tmp_path / "out"
    figures.write([cells], tmp_path / "data", out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    write_json(out / "captions.json", captions(out) | {"deleted": "Its file is gone."})
    again = figures.write([cells], tmp_path / "no data", out)
    assert "figure2_solar_weekly_full.png" not in {path.name for path in again}
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_figure_2_draws_the_series_it_is_given() -> None:
    real, fake = np.random.default_rng(0).standard_normal((2, 4, 20))
    fake[0, 0] = 1e6  # would flatten all other panels
    figure = generation.samples({"data": real, "ls4": fake}, "unit", "title")
    lines = [line.get_ydata() for ax in figure.axes for line in ax.lines]
    np.testing.assert_array_equal(lines, np.concatenate([real, fake]))
    low, high = figure.axes[0].get_ylim()
    assert low < real.min() < real.max() < high < 20


def test_bands_are_averaged_over_windows_of_time_or_drawn_whole() -> None:
    real = np.array([np.arange(5.0), np.arange(5.0) - 1, np.arange(5.0) + 1])
    (ax,) = generation.bands(real, {"ls4": 2 * real}, "title", window=2).axes
    data, model = ax.lines
    np.testing.assert_array_equal(data.get_xdata(), [0.5, 2.5, 4])
    np.testing.assert_array_equal(data.get_ydata(), [0.5, 2.5, 4])
    np.testing.assert_array_equal(model.get_ydata(), [1, 5, 8])
    band, _ = (c.get_paths()[0].vertices[:, 1] for c in ax.collections)
    assert (band.min(), band.max()) == (-0.5, 5)
    (ax,) = generation.bands(real, {"ls4": 2 * real}, "title").axes
    assert ax.get_xscale() == "log"
    np.testing.assert_array_equal(ax.lines[0].get_xdata(), [1, 2, 3, 4])


@pytest.mark.parametrize("window", [None, 1, 8])
@pytest.mark.parametrize("several", [False, True])
def test_the_caption_of_bands_says_what_is_averaged_and_left_out(
    window: int | None, several: bool
) -> None:
    text = style.caption("bands", what="Sines", n=4, window=window, several_channels=several)
    assert text.startswith("Bands. Sines." if window else "Figure 1a. Sines.")
    assert ("average of 8 steps. Only" in text) == (window == 8 and several)
    assert ("first channel" in text, "average" in text) == (several, window == 8)


def test_histograms_count_every_series() -> None:
    values = {"data": np.linspace(0, 1, 40).reshape(10, 4), "ls4": np.full((8, 4), 3.0)}
    figure = generation.step_histograms(values, np.array([5, 14, 37, 100]), "t")
    assert [ax.get_title() for ax in figure.axes[:4]] == [
        "step 5",
        "step 14",
        "step 37",
        "step 100",
    ]
    for ax in figure.axes:
        for patch in ax.patches:
            assert patch.get_data().values.sum() == pytest.approx(1)
    assert figure.axes[4].patches[0].get_data().values[-1] == 1  # beyond the range: the last bin


def test_scores_figure_has_a_dot_for_each_seed_and_says_what_failed() -> None:
    (comparison,) = outputs.compare(outputs.solar())
    lines = scores.score_lines(comparison)
    dots = lines.query("score == 'marginal' and model == 'ls4'")
    assert dots["seed"].tolist() == [0, 1, 2]
    quantities = list(comparison.quantities.values())
    figure = scores.score_intervals(lines, quantities, {"marginal": (0.033, 0.003)}, "title")
    texts = [t.get_text() for t in figure.axes[0].texts]
    assert texts == ["timeout at step 31", "no such score"]
    labels = [t.get_text() for t in figure.axes[0].get_yticklabels()]
    assert labels[:3] == ["LS4", "Latent ODE\n0 of 3 seeds", "RNN-VAE\n2 of 3 seeds"]


def test_figure_1_is_drawn_where_the_catalogue_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert generation.has_transition("flame")
    assert not generation.has_transition("solar_weekly")
    assert not generation.has_transition("a set of no catalogue")
    record = outputs.record(scores=outputs.scores(0.1, 0.6, 0.1), n_test=104, length=1000)
    cells = outputs.write_cells(tmp_path, [record])
    assert "figure1a_solar_weekly_full" not in drawn(cells, tmp_path)
    monkeypatch.setattr(generation, "has_transition", lambda dataset: True)
    assert {"figure1a_solar_weekly_full", "figure1b_solar_weekly_full"} <= {*drawn(cells, tmp_path)}


def test_a_data_set_of_no_catalogue_is_drawn(tmp_path: Path) -> None:
    fields = {"dataset": "mine", "title": "Mine"}
    record = outputs.record(scores=outputs.scores(0.1, 0.6, 0.1)).model_copy(update=fields)
    found = drawn(outputs.write_cells(tmp_path, [record]), tmp_path)
    assert found.keys() == {"bands_mine_full", "scores_mine_full", "training_mine_full"}


def test_models_keep_their_colours_and_share_none() -> None:
    """Variants have that of their model: they stand in a table of their own, in no figure."""
    models = [
        name for name in catalogue.available("models") if not catalogue.model(name).variant_of
    ]
    colours = [style.colour(name) for name in models]
    assert colours == [catalogue.model(name).colour for name in models]
    palette = [*colours, *catalogue.SPARE_COLOURS, style.CONTROL]
    assert len(set(palette)) == len(palette) >= 20
    assert style.colour("mine") in catalogue.SPARE_COLOURS
    assert style.colour("data") == style.DATA


def test_one_data_set_with_other_settings_has_figures_of_its_own(tmp_path: Path) -> None:
    rows = [outputs.record(seed=0), outputs.record(seed=1, evaluator_epochs=5)]
    rows = [row.model_copy(update={"scores": outputs.solar()[0].scores}) for row in rows]
    stems = [stem for stem in drawn(outputs.write_cells(tmp_path, rows), tmp_path) if "sc" in stem]
    first, second = sorted(stems)
    assert first == "scores_solar_weekly_full"
    assert second.startswith(f"{first}_") and len(second) == len(first) + 9
