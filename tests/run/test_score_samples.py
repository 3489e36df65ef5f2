"""`python -m harness score`: what it keeps, and what it writes."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from datasets.synthetic import load as sines
from harness import catalogue
from harness.catalogue import ROOT
from harness.cells import controls_of
from harness.cli.score import COLUMNS
from harness.errors import UserError
from harness.run import score_samples
from harness.run.generation import ScoringSetup
from harness.run.score_samples import scores_of_control, scores_with_controls, write_rows
from tests import specs

CONTROLS = controls_of("generation", catalogue.dataset("sines"))


@pytest.fixture(scope="module")
def setup() -> ScoringSetup:
    dataset = sines(
        [], name="sines", title="Sines", n=40, length=20, channels=2, seed=0, split=specs.SPLIT
    )
    return ScoringSetup(dataset, specs.scoring(fits=1, epochs=1))


def test_scores_of_controls_are_kept(
    setup: ScoringSetup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = specs.control("white_noise")
    first = scores_of_control(spec, setup, tmp_path)
    (kept,) = tmp_path.iterdir()
    monkeypatch.setattr(score_samples, "control_scores", None)  # nothing is computed again
    assert scores_of_control(spec, setup, tmp_path) == first
    kept.write_text("{}")
    with pytest.raises(UserError, match="not scores of a control"):
        scores_of_control(spec, setup, tmp_path)


@pytest.mark.parametrize("change", ["settings", "version", "data", "description", "code"])
def test_what_scores_depend_on_makes_them_anew(
    setup: ScoringSetup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    computed: list[str] = []
    monkeypatch.setattr(
        score_samples, "control_scores", lambda spec, _: (None, [], computed.append(spec.model))
    )
    other = setup
    scores_of_control(specs.control("gaussian"), setup, tmp_path)
    if change == "settings":
        other = ScoringSetup(setup.dataset, specs.scoring(fits=2, epochs=1))
    elif change == "version":
        monkeypatch.setattr(score_samples, "SCORING", -1)
    elif change == "code":
        monkeypatch.setattr(score_samples, "code_hash", lambda *modules: f"new {modules}")
    elif change == "data":
        dataset = sines(
            [], name="sines", title="Sines", n=40, length=20, channels=2, seed=1, split=specs.SPLIT
        )
        other = ScoringSetup(dataset, setup.scoring)
    else:
        few = setup.description.model_copy(update={"evaluator_series": 3})
        scoring = setup.scoring.model_copy(update={"dataset": few})
        other = ScoringSetup(setup.dataset, scoring)
    scores_of_control(specs.control("gaussian"), other, tmp_path)
    scores_of_control(specs.control("gaussian"), other, tmp_path)
    assert computed == 2 * ["gaussian"]


def test_both_files_hold_every_score(setup: ScoringSetup, tmp_path: Path) -> None:
    rows = scores_with_controls(setup, setup.test, "mine.npz")
    assert [*rows] == ["mine.npz", *CONTROLS]
    write_rows(tmp_path / "a.JSON", setup, rows)
    write_rows(tmp_path / "a.csv", setup, rows)
    content = json.loads((tmp_path / "a.JSON").read_text())
    assert content["data_digest"] == setup.dataset.data_digest
    assert content["evaluation"] == {"fits": 1, "epochs": 1}
    lines = list(csv.DictReader((tmp_path / "a.csv").open()))
    assert len(lines) == len(content["scores"]) == sum(map(len, rows.values()))
    for line, entry in zip(lines, content["scores"], strict=True):
        assert (line["row"], line["name"]) == (entry["row"], entry["name"])
        if entry["value"] is not None:
            assert float(line["value"]) == entry["value"]


@pytest.mark.slow
def test_without_a_terminal_nothing_is_cut_and_without_unicode_nothing_fails(
    tmp_path: Path,
) -> None:
    np.save(tmp_path / "s.npy", np.random.default_rng(0).standard_normal((13, 32, 2)))
    words = ["score", "--dataset", "sines", "--samples", "s.npy", "--fits", "1", "--epochs", "1"]
    done = subprocess.run(
        [sys.executable, "-m", "harness", *words, "--out", "scores.json"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert all(heading[:-2] in done.stdout for heading in COLUMNS.values())
    rows = {score["row"] for score in json.loads((tmp_path / "scores.json").read_text())["scores"]}
    assert rows == {"s.npy", *CONTROLS}
    assert len(list((tmp_path / "results" / "controls").iterdir())) == len(CONTROLS)
