"""Descriptions of small cells for the tests."""

from pathlib import Path
from typing import Any

import pytest
import torch

from datasets.base import Dataset
from harness import catalogue
from harness.cells import CELL_FILE, CellSpec, CommandSpec, ControlSpec, Scoring, Spec
from harness.config import Evaluation, Training
from harness.run import train as training
from harness.run.checkpoints import read
from harness.run.outcome import read_outcome
from harness.texts import write_json

LS4 = "ls4.released:LS4"
SMALL_LS4 = {"width": 8, "state": 8, "n_pairs": 1}
SPLIT = {"seed": 0, "fractions": [0.7, 0.1, 0.2]}


def cell(
    model_class: str = LS4,
    config: dict[str, Any] | None = None,
    task: str = "generation",
    seed: int = 3,
    **training: Any,
) -> CellSpec:
    """Describe a cell on sines; without `config`, that of a small LS4."""
    return CellSpec(
        task=task,
        dataset="sines",
        model="ls4",
        seed=seed,
        budget="smoke",
        **{"class": model_class},
        config=SMALL_LS4 if config is None else config,
        training=Training(**({"steps": 4, "batch_size": 6} | training)),
    )


def control(model: str, seed: int = 0, budget: str = "smoke") -> ControlSpec:
    """Describe a control of generation on sines."""
    draw = catalogue.controls()[model].draw
    return ControlSpec(
        task="generation", dataset="sines", model=model, seed=seed, budget=budget, draw=draw
    )


def command(words: str, **changes: Any) -> CommandSpec:
    """Describe a command on sines."""
    spec = CommandSpec(task="generation", dataset="sines", model="mine", seed=3, budget="smoke",
                       command=words, files=[])  # fmt: skip
    return spec.model_copy(update=changes)


def scoring(dataset: str = "sines", **evaluation: Any) -> Scoring:
    """Describe how a data set is scored, quickly."""
    settings = Evaluation(**({"fits": 2, "epochs": 2} | evaluation))
    return Scoring(dataset=catalogue.dataset(dataset), evaluation=settings)


def write(spec: Spec, directory: Path) -> Path:
    """Write the description into a cell's directory, as the workflow does."""
    write_json(directory / CELL_FILE, spec.model_dump(mode="json", by_alias=True))
    return directory


def interrupt_after(step: int, patch: pytest.MonkeyPatch) -> None:
    """Let trainings be interrupted after the checkpoint of a step was written."""
    save = training.Run.save

    def save_and_stop(run: training.Run) -> None:
        save(run)
        if run.step == step:
            raise KeyboardInterrupt

    patch.setattr(training.Run, "save", save_and_stop)


def assert_resumes(spec: CellSpec, dataset: Dataset, folder: Path, *steps: int) -> None:
    """Train a cell whole, and interrupted after some steps: both leave the same bytes."""
    spec = spec.model_copy(
        update={"training": spec.training.model_copy(update={"checkpoint_every": 0.0})}
    )
    whole, killed = folder / "whole", folder / "killed"
    training.train(spec, dataset, whole, torch.device("cpu"))
    for step in steps:
        with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
            interrupt_after(step, patch)
            training.train(spec, dataset, killed, torch.device("cpu"))
        state = read(killed / training.CHECKPOINT)
        assert state and state["step"] == step
    training.train(spec, dataset, killed, torch.device("cpu"))
    names = sorted(path.name for path in whole.iterdir() if path.name != "train.json")
    assert {"weights.safetensors", "history.jsonl"} <= {*names}
    for name in names:
        assert (whole / name).read_bytes() == (killed / name).read_bytes(), name
    first, second = (read_outcome(directory, spec) for directory in (whole, killed))
    for name in ("ended", "steps", "best_step", "best_validation_loss", "last_validation_loss"):
        assert getattr(first, name) == getattr(second, name), name
