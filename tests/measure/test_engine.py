"""The benchmark of LS4's engine: what it counts, its record and its table."""

from pathlib import Path

import pytest
import torch
from torch import nn

from harness.checks import check_json
from harness.errors import UserError
from harness.measure import engine
from harness.measure.timing import made_up, set_up
from harness.measurements import Engine, Machine, Speed
from harness.present.tables.engine import markdown


def test_products_of_a_training_step() -> None:
    linear = nn.Linear(3, 5, bias=False)
    x = torch.randn(7, 3, requires_grad=True)
    batches = torch.randn(2, 4, 4)

    def step() -> None:
        linear(x).sum().backward()
        batches @ batches

    once = 2 * 7 * 3 * 5  # forward, gradient of x, gradient of the weights
    assert engine.products(step, but="bmm") == 3 * once
    assert engine.products(step) == 3 * once + 2 * 2 * 4**3


def test_what_is_counted_of_the_network_of_fred_md() -> None:
    model = set_up("ls4", made_up(2, 16, channels=1), "generation", torch.device("cpu"))
    assert isinstance(model, engine.Measurable)
    training, generation = model.training_work(2, 16), model.generation_work(3)
    channels = 3 * (4 * 128 + 4 * 64) + 4 * 5
    assert training.operations == 2 * channels * 4 * 2.5 * 32 * 5  # FFTs of length 32, log2 of it
    assert training.bytes == 5 * 4 * 2 * 16 * (24 * 64 + 24 * 128)
    states = (4 * 128 + 4 * 64 + 2 * 5) * 32
    assert (generation.operations, generation.bytes) == (6 * 3 * states, 2 * 8 * 3 * states)


def test_it_measures_and_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "alone", lambda function, *arguments: function(*arguments))
    monkeypatch.setattr(engine, "measure_machine", lambda: Machine(1e11, 2e10))
    monkeypatch.setattr(engine, "SIZES", ((2, 16),))
    monkeypatch.setattr(engine, "STEPS", 3)
    monkeypatch.setattr(engine, "ROLLED", 5)
    found = engine.measure_engine(tmp_path / "engine.json")
    assert check_json(Engine, tmp_path / "engine.json", "speeds") == found
    training, generation = found.speeds
    assert (training.batch, training.length, training.repetitions) == (2, 16, 3)
    assert (generation.batch, generation.length, generation.repetitions) == (16, None, 5)
    for speed in found.speeds:
        assert speed.seconds > 0 and speed.operations > 0 and speed.bytes > 0
        floor = max(speed.operations / 1e11, speed.bytes / 2e10)
        assert speed.floor_seconds == pytest.approx(floor)


def test_table() -> None:
    speed = Speed("training step", 64, 20480, 8.0, (7.5, 8.25), 5, 2**30, 3e11, 1e9, 2.0)
    where = {"device": "CPU Synthetic", "threads": 1, "versions": {"torch": "2.13.0"}}
    where |= {"date": "2026-01-02T03:04:05Z", "commit": "0123456789"}
    text = markdown(Engine(Machine(1.5e11, 2e10), [speed], where))
    assert "| training step | 64      | 20,480   | 8.0 s (7.5 s to 8.2 s) | 1,024 MiB" in text
    assert "| 2.0 s   | 25 %" in text
    assert "150 GFLOP/s" in text and "1 thread, torch 2.13.0, 2026-01-02, commit 0123456" in text


def test_it_is_of_one_model() -> None:
    from harness.cli.measure import bench

    with pytest.raises(UserError, match="expected no --models"):
        bench("engine", ["ls4"], Path("unused.json"), None)
