"""Traces of trainings that end early and of data that cannot be had."""

from pathlib import Path

import pytest
import torch

from datasets.base import Dataset, write_unavailable
from datasets.synthetic import load as sines
from harness import cli
from harness.cells import CellSpec
from harness.powers import find_powers
from harness.run import generation, trace
from harness.run.generation import ScoringSetup
from harness.texts import write_json
from harness.traces import TRACE, Trace, read_trace
from tests import specs

CPU = torch.device("cpu")
BREAKING = "tests.run.test_train:Breaking"


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return sines(name="sines", title="S", n=40, length=20, channels=1, seed=0, split=specs.SPLIT)


def traced(spec: CellSpec, dataset: Dataset, steps: list[int], folder: Path) -> Trace:
    found = trace.trace(spec, ScoringSetup(dataset, specs.scoring()), steps, folder, CPU)
    assert found == read_trace(folder / TRACE)
    assert [path.name for path in folder.iterdir()] == [TRACE]
    return found


def run(*words: object) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(list(map(str, words)))
    assert ended.value.code == 0


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("nan", "step 4: loss nan"),
        ("memory", "step 4: CUDA out of memory. Tried to allocate 2 TiB"),
    ],
)
def test_a_training_that_fails(dataset: Dataset, tmp_path: Path, how: str, reason: str) -> None:
    found = traced(specs.cell(BREAKING, {"how": how}, steps=6), dataset, [6, 5], tmp_path)
    assert [(point.step, point.reason) for point in found.points] == [(5, reason), (6, reason)]


def test_a_time_limit(dataset: Dataset, tmp_path: Path) -> None:
    found = traced(specs.cell(time_limit=0.001), dataset, [10**6], tmp_path)
    assert str(found.points[0].reason).startswith("stopped after 0.001 min at step ")


def test_scores_that_lack_memory(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generation, "score", lambda *_: torch.empty(2**60))
    (point,) = traced(specs.cell(), dataset, [2], tmp_path).points
    assert point.validation_loss is not None and not point.scores
    assert str(point.reason).startswith("sampling or scoring: ")


@pytest.mark.parametrize("reason", ["no network", "reading the data: "])
def test_data_that_cannot_be_had_or_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    data, folder = tmp_path / "sines.npz", tmp_path / "cell"
    write_unavailable(data, tmp_path / "split", tmp_path / "report", "sines", "no network")
    if reason != "no network":
        monkeypatch.setattr(Dataset, "load", lambda _: torch.empty(2**60))
    description, evaluation = tmp_path / "sines.json", tmp_path / "evaluation.json"
    scoring = specs.scoring()
    write_json(description, scoring.dataset.model_dump(mode="json"))
    write_json(evaluation, scoring.evaluation.model_dump(mode="json"))
    options = ["--data", data, "--description", description, "--evaluation", evaluation]
    specs.write(specs.cell(), folder)

    run("trace", folder, "--steps", 3, 2, *options)
    found = read_trace(folder / TRACE)
    assert found.config_hash == scoring.digest_of(specs.cell())
    assert [point.step for point in found.points] == [2, 3]
    assert all(str(point.reason).startswith(reason) for point in found.points)

    out = tmp_path / "power" / "sines.json"
    run("power", *options, "--out", out)
    assert reason in out.read_text() and not find_powers([tmp_path])
