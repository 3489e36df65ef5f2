"""Figures of synthetic cells: which there are, what they show, that their bytes stay the same."""

import json
from pathlib import Path

import numpy as np
import pytest

from datasets import base
from harness import comparison, figures
from harness.errors import UserError
from tests import outputs

STEMS = {
    "figure2_solar_weekly_cpu",
    "scores_solar_weekly_cpu",
    "training_solar_weekly_cpu",
    "figure1a_flame_cpu",
    "figure1b_flame_cpu",
    "figure2_flame_cpu",
    "scores_flame_cpu",
    "training_flame_cpu",
}


def captions(out: Path) -> dict[str, str]:
    return json.loads((out / "captions.json").read_text())


def test_all_figures_are_there_and_their_bytes_do_not_change(tmp_path: Path) -> None:
    cells = outputs.write_cells(tmp_path / "cells", outputs.solar() + outputs.flame())
    first = figures.write(cells, tmp_path, tmp_path / "a")
    second = figures.write(cells, tmp_path, tmp_path / "b")
    assert {p.name for p in first} == {"captions.json"} | {
        f"{stem}.{kind}" for stem in STEMS for kind in ("pdf", "png")
    }
    for a, b in zip(first, second, strict=True):
        assert a.name == b.name
        assert a.read_bytes() == b.read_bytes()
        assert b"CreationDate" not in a.read_bytes()
        assert a.stat().st_size > 1000
    for stem, caption in captions(tmp_path / "a").items():
        assert "budget cpu" in caption
        assert ("seed 0" in caption) == stem.startswith("figure")
    assert captions(tmp_path / "a").keys() == STEMS


def test_missing_siblings_only_take_their_figures_away(tmp_path: Path) -> None:
    cells = outputs.write_cells(tmp_path / "cells", outputs.solar())
    for name in ("summary.npz", "history.jsonl"):
        for path in cells.rglob(name):
            path.unlink()
    figures.write(cells, tmp_path, tmp_path / "out")
    assert captions(tmp_path / "out").keys() == {"scores_solar_weekly_cpu"}


def test_the_first_seed_with_samples_is_shown(tmp_path: Path) -> None:
    records = [
        outputs.record(seed=0, status="diverged", reason="step 3: loss nan"),
        outputs.record(seed=1, scores=outputs.scores(0.1, 0.6, 0.1)),
        outputs.record(seed=2, scores=outputs.scores(0.1, 0.6, 0.1)),
    ]
    cells = outputs.write_cells(tmp_path / "cells", records)
    figures.write(cells, tmp_path, tmp_path / "out")
    assert "LS4 seed 1" in captions(tmp_path / "out")["figure2_solar_weekly_cpu"]


def test_no_records_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no record\.json"):
        figures.write(tmp_path, tmp_path, tmp_path / "out")


def test_real_series_are_shown_only_if_they_are_the_ones_of_the_records(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((30, 52, 1)).astype(np.float32)
    dataset = base.build(
        name="solar_weekly",
        title="Solar Weekly",
        x=x,
        t=base.regular_times(30, 52),
        mask=np.ones(x.shape, bool),
        split_options={"seed": 0, "fractions": (0.7, 0.1, 0.2)},
        normalisation="none",
        unit="metre",
        options={},
    )
    dataset.save(tmp_path / "solar_weekly.npz")
    digests = {"data_digest": dataset.data_digest, "split_digest": dataset.split_digest}
    for name, changes in {"same": digests, "other": {}}.items():
        records = [outputs.record(scores=outputs.scores(0.1, 0.6, 0.1), **changes)]
        cells = outputs.write_cells(tmp_path / name, records)
        figures.write(cells, tmp_path, tmp_path / "out" / name)
        caption = captions(tmp_path / "out" / name)["figure2_solar_weekly_cpu"]
        assert ("not passed on" in caption) == (name == "other")


def test_figure_2_draws_the_series_it_is_given() -> None:
    real, fake = np.random.default_rng(0).standard_normal((2, 4, 20))
    band = np.stack([real.mean(0), real.min(0), real.max(0)])
    figure = figures.samples(real, band, {"ls4": fake}, "unit", {"ls4": "#0072B2"}, "title")
    drawn = [line.get_ydata() for ax in figure.axes for line in ax.lines]
    np.testing.assert_array_equal(drawn, np.concatenate([real, fake]))
    figure = figures.samples(None, band, {"ls4": fake}, "unit", {"ls4": "#0072B2"}, "title")
    drawn = [line.get_ydata() for ax in figure.axes for line in ax.lines]
    np.testing.assert_array_equal(drawn, np.concatenate([band[:1], fake]))
    assert any("not part of the repository" in t.get_text() for ax in figure.axes for t in ax.texts)


def test_histograms_count_every_series() -> None:
    values = {"data": np.linspace(0, 1, 40).reshape(10, 4), "ls4": np.full((8, 4), 3.0)}
    figure = figures.step_histograms(values, np.array([5, 14, 37, 100]), {"ls4": "red"}, "t")
    assert [ax.get_title() for ax in figure.axes[:4]] == [
        "step 5",
        "step 14",
        "step 37",
        "step 100",
    ]
    for ax in figure.axes:
        assert sum(bar.get_height() for bar in ax.patches) == pytest.approx(1)
    assert figure.axes[4].patches[-1].get_height() == 1  # beyond the range: the last bin


def test_scores_figure_has_a_dot_for_each_seed_and_says_what_failed() -> None:
    (section,) = comparison.sections(outputs.solar())
    lines = figures.score_lines(section)
    dots = lines.query("score == 'marginal' and model == 'ls4'")
    assert dots["seed"].tolist() == [0, 1, 2]
    figure = figures.score_intervals(lines, {"marginal": (0.033, 0.003)}, {}, "title")
    texts = [t.get_text() for t in figure.axes[0].texts]
    assert texts == ["timeout at step 31", "no such score"]
    labels = [t.get_text() for t in figure.axes[0].get_yticklabels()]
    assert labels[:3] == ["LS4", "Latent ODE\n0 of 3 seeds", "RNN-VAE\n2 of 3 seeds"]


def test_models_keep_their_colours() -> None:
    few, many = figures.colours(["ls4", "mine"]), figures.colours(["gru_d", "ls4", "mine"])
    assert few["ls4"] == many["ls4"] == figures.PALETTE["ls4"]
    assert len({many[name] for name in ("ls4", "rnn_vae", "latent_ode", "gru_d", "mine")}) == 5
