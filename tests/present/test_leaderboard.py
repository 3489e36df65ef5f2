"""The leaderboard of synthetic cells: what its pages hold, and what it says of two rows."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from datasets.files import save_arrays
from harness.present import frame, leaderboard
from harness.present.comparison import comparisons
from harness.present.leaderboard.board import Board, boards, verdict
from harness.present.paired import ERRORS
from metrics.paired import Interval
from tests.present import outputs

BASE = np.linspace(1.0, 2.0, 20)


def write(folder: Path) -> Path:
    """Two models with errors of single series, one without; Solar Weekly and PhysioNet."""
    rows = [
        outputs.record(model=model, scores=outputs.scores(0.1, 0.5, value))
        for model, value in (("ls4", 1.0), ("rnn_vae", 2.0), ("latent_ode", 3.0))
    ]
    rows += [outputs.record(model=name, scores=s) for name, s in outputs.CONTROLS.items()]
    predicted = [r for r in outputs.physionet() if r.task == "interpolation"]
    outputs.write_cells(folder, [*rows, *predicted])
    for model, errors in (("ls4", BASE), ("rnn_vae", BASE + 1)):
        where = folder / "generation" / "solar_weekly" / model / "0"
        save_arrays(where / ERRORS, {"prediction": errors[None]})
    return folder


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("cells"))


@pytest.fixture(scope="module")
def out(cells: Path) -> Path:
    leaderboard.write([cells], cells.parent / "board")
    return cells.parent / "board"


@pytest.fixture(scope="module")
def solar(cells: Path) -> Board:
    return boards(comparisons(frame.read([cells])))[0]


def test_every_link_leads_somewhere_and_nothing_comes_from_a_network(out: Path) -> None:
    pages = [out / "index.html", *(out / "rows").glob("*.html")]
    for page in pages:
        text = page.read_text()
        loaded = re.findall(r'(?:src|<link[^>]*href)="([^"]+)"', text)
        assert not any("://" in address for address in loaded)
        for address in re.findall(r'href="([^"]+)"', text):
            if address.startswith(("http", "data:")):
                continue
            file, _, anchor = address.partition("#")
            assert not file or (page.parent / file).exists(), address
            assert file or f'id="{anchor}"' in text, address
    assert sum(page.stat().st_size for page in pages[:1]) < 2_000_000


def test_a_row_has_pictures_scores_record_and_rerun(out: Path, cells: Path) -> None:
    text = (out / "rows" / "full-generation-solar_weekly-ls4.html").read_text()
    assert text.count("<svg") == 2
    assert "marginal_robust" in text and "0.110" in text
    path = cells / "generation" / "solar_weekly" / "ls4" / "0" / "record.json"
    assert f"python -m harness rerun {path}" in text
    assert "CC-BY-4.0" in text and "0123456789abcdef0123456789abcdef01234567" in text


def test_table_is_readable_without_script(out: Path) -> None:
    text = (out / "index.html").read_text()
    table = text[text.index("<table>") : text.index("</table>")]
    assert "0.110" in table and "controls, which nobody trained" in table
    assert 'href="rows/full-generation-solar_weekly-rnn_vae.html"' in table


def test_script_data_are_json_without_nan(out: Path) -> None:
    text = (out / "index.html").read_text()
    (found,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)
    data = json.loads(found, parse_constant=pytest.fail)
    assert data[0]["name"] == "full-generation"
    assert data[0]["pairs"][0]["0,2"]["prediction"][1] == "better"


def test_pairs_need_errors_of_both_rows(solar: Board) -> None:
    (pairs,) = solar.pairs
    assert set(pairs) == {("ls4", "rnn_vae")}
    assert pairs["ls4", "rnn_vae"]["prediction"].difference == pytest.approx(-1)


def test_diversity_and_copying_have_no_best(solar: Board) -> None:
    group = solar.choices["Diversity and copying, best near 1"]
    assert list(group) == ["band_ratio", "nearest_train_ratio"]
    assert solar.columns[0]["band_ratio"].values[["ls4", "memoriser"]].notna().all()
    assert solar.best["band_ratio"] == [""]


def test_best_says_whether_it_is_known_to_be_ahead(solar: Board) -> None:
    (text,) = solar.best["prediction_robust"]
    assert text.startswith("best: LS4;") and "not known" in text  # one row has no errors


def test_verdict_turns_with_the_task() -> None:
    below = Interval(-0.2, -0.3, -0.1)
    assert verdict("generation", below) == "better"
    assert verdict("interpolation", below) == "worse"
    assert verdict("generation", Interval(0.0, -0.1, 0.1)) == "no clear difference"


def test_all_models_at_the_limit_of_a_score_are_best() -> None:
    rows = [
        outputs.record(model=model, scores=outputs.scores(0.1, value, 0.1))
        for model, value in (("ls4", 0.75), ("rnn_vae", 0.7), ("latent_ode", 0.6))
    ]
    (board,) = boards(comparisons(outputs.frame_of(rows)))
    best = board.best["classification_robust"]
    alike = "at the limit of this score, 0.693, so alike: LS4; RNN-VAE"
    assert best == [f"{alike}; not known whether by more than noise"]


def test_models_that_are_not_told_apart_in_any_seed_are_named() -> None:
    rows = [outputs.tested(p=0.01), outputs.tested("rnn_vae"), outputs.tested("gp_vae")]
    rows += [outputs.tested("gp_vae", seed=1, p=0.02), outputs.tested("gaussian")]
    (board,) = boards(comparisons(outputs.frame_of(rows)))
    (text,) = board.best["verdict"]
    no_seed, some_seeds, every_seed = text.split("; ")
    assert no_seed == "told apart in no seed: RNN-VAE (0 of 1)"
    assert some_seeds == "in some seeds: GP-VAE (1 of 2)"
    assert every_seed == "in every seed: the other one"


def test_how_a_training_ended_stands_in_the_cell_of_its_data_set() -> None:
    scores = outputs.scores(0.1, 0.6, 0.1)
    rows = [
        outputs.record(ended="cap", scores=scores),
        outputs.record(dataset="nn5_daily", title="NN5 Daily", scores=scores),
    ]
    (board,) = boards(comparisons(outputs.frame_of(rows)))
    assert board.rows.loc["ls4", "label"] == "LS4"
    texts = [text for text, _, _ in board.entries["marginal_robust"][0]]
    assert sorted(text.endswith("ᶜ") for text in texts) == [False, True]


def test_no_conclusion_where_controls_alone_were_tested() -> None:
    (board,) = boards(comparisons(outputs.frame_of([outputs.tested("gaussian")])))
    assert board.conclusions("verdict") == []


def test_a_noise_floor_that_is_told_apart_is_named() -> None:
    rows = [outputs.tested(p=0.01), outputs.tested("noise_floor", p=0.02)]
    (board,) = boards(comparisons(outputs.frame_of(rows)))
    (text,) = board.best["verdict"]
    assert text.endswith(". Real training series, the noise floor: in 1 of 1 seeds")


def test_a_row_says_why_its_training_ended_and_what_is_scored(tmp_path: Path) -> None:
    stopped = {"steps": 1000, "best_step": 500, "best_validation_loss": -0.9,
               "last_validation_loss": -0.5}  # fmt: skip
    scores = outputs.scores(0.1, 0.6, 0.1)
    rows = [
        outputs.record(ended="patience", scores=scores, **stopped),
        outputs.record(model="timegan", ended="steps", steps=1600, scores=scores),
    ]
    leaderboard.write([outputs.write_cells(tmp_path / "cells", rows)], tmp_path / "board")
    pages = tmp_path / "board" / "rows"
    text = (pages / "full-generation-solar_weekly-ls4.html").read_text()
    assert "1,000 steps, since the validation loss had not clearly improved" in text
    assert "the weights of step 500 are scored" in text and "-0.900 (-0.500 at the end)" in text
    text = (pages / "full-generation-solar_weekly-timegan.html").read_text()
    assert "1,600 steps, since its budget asks for so many" in text and "are scored" not in text


def test_what_was_made_elsewhere_has_no_rerun_and_no_costs_but_a_commands_time(
    tmp_path: Path,
) -> None:
    made = {"added": {"file": "s0.npz"}, "command": {"command": "python mine.py"}}
    seconds = {"added": 0.0, "command": 61.5}
    rows = [
        outputs.record(
            model=model, settings=settings, steps=0, parameters=0, train_seconds=seconds[model],
            scores=outputs.scores(0.1, 0.5, 1.0),
        )
        for model, settings in made.items()
    ]  # fmt: skip
    cells = outputs.write_cells(
        tmp_path / "cells", [*rows, outputs.record(scores=outputs.scores(0.1, 0.5, 1.0))]
    )
    leaderboard.write([cells], tmp_path / "board")
    pages = {
        model: tmp_path / f"board/rows/full-generation-solar_weekly-{model}.html"
        for model in (*made, "ls4")
    }
    reruns = {model: "harness rerun" in page.read_text() for model, page in pages.items()}
    assert reruns == {"added": False, "command": False, "ls4": True}
    (board,) = boards(comparisons(frame.read([cells])))
    places = [board.rows.index.get_loc(model) for model in ("ls4", *made)]
    shown = {
        key: [board.entries[key][place][0][0] for place in places]
        for key in ("train_seconds", "parameters", "steps")
    }
    assert shown == {
        "train_seconds": ["62 s", "–", "62 s"],
        "parameters": ["12,345", "–", "–"],
        "steps": ["40", "–", "–"],
    }
