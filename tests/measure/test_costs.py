"""The costs of models: what is written is what is shown. How long anything takes is not tested."""

from pathlib import Path

import pytest
from pydantic import RootModel

from harness.checks import check_json
from harness.errors import UserError
from harness.measure import costs as measuring
from harness.measure.costs import measure_models
from harness.measure.timing import quartiles
from harness.measurements import Cost, Size
from harness.present.tables.costs import markdown

SMALL = (Size("generation", 2, 9, 1), Size("reconstruction", 2, 9, 2))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small sizes, few steps, in this process."""
    monkeypatch.setattr(measuring, "SIZES", SMALL)
    monkeypatch.setattr(measuring, "STEPS", 2)
    monkeypatch.setattr(measuring, "SAMPLES", 3)
    monkeypatch.setattr(measuring, "alone", lambda function, *arguments: function(*arguments))


@pytest.mark.usefixtures("small")
def test_models_are_measured_at_the_tasks_that_they_have(tmp_path: Path) -> None:
    costs = measure_models(tmp_path / "costs.json", ["rnn_vae", "rnn"])
    assert [(c.model, c.task) for c in costs] == [
        ("rnn_vae", "generation"), ("rnn_vae", "reconstruction"), ("rnn", "reconstruction"),
    ]  # fmt: skip
    assert all(c.step_seconds > 0 and c.steps == 2 and c.parameters > 0 for c in costs)
    assert [c.sample_seconds is None for c in costs] == [False, True, True]
    assert check_json(RootModel[list[Cost]], tmp_path / "costs.json", "costs").root == costs


def test_table() -> None:
    shared = {"step_quartiles": (0.4, 0.8), "steps": 5, "train_peak_bytes": 2**29}
    shared["circumstances"] = {
        "device": "CPU Synthetic", "threads": 2, "versions": {"torch": "2.13.0"},
        "date": "2026-01-02T03:04:05+00:00", "commit": "0123456789",
    }  # fmt: skip
    size = {"task": "generation", "batch": 4, "length": 8, "channels": 1}
    costs = [
        Cost("ls4", **size, parameters=2000, step_seconds=0.5, sample_seconds=3.0, **shared),
        Cost("rnn_vae", **size, parameters=1000, step_seconds=0.1, sample_seconds=None, **shared)
    ]  # fmt: skip
    table = markdown(costs)
    assert table.index("RNN-VAE") < table.index("LS4")  # the faster one first
    assert "2,000" in table and "2.0 (1.2 to 2.5)" in table and "512 MiB" in table
    assert "CPU Synthetic, 2 threads, torch 2.13.0, 2026-01-02, commit 0123456" in table


def test_quartiles() -> None:
    assert quartiles([3.0, 1.0, 2.0, 5.0, 4.0]) == (2, 4)
    assert quartiles([1.0]) is None


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["nothing"], "unknown model 'nothing': expected one of"),
        (
            ["rnn", "grafiti"],
            "bench: expected models of generation or reconstruction, found grafiti",
        ),
    ],
)
def test_models_that_cannot_be_measured_are_refused(
    tmp_path: Path, names: list[str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        measure_models(tmp_path / "costs.json", names)
