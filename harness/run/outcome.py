"""What a training leaves in its cell's directory, and how it is read."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from datasets.files import replacing
from harness.records import Ending, Status, write_json, write_text

WEIGHTS = "weights.safetensors"  # what is scored
LAST_WEIGHTS = "last.safetensors"  # the last ones, where others are scored
HISTORY = "history.jsonl"
OUTCOME = "train.json"

State = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Outcome:
    """How a training ended, its cost and circumstances; the content of ``train.json``."""

    status: Status
    reason: str | None
    ended: Ending | None
    steps: int
    best_step: int | None
    best_validation_loss: float | None
    last_validation_loss: float | None
    seconds: float
    peak_memory_bytes: int | None
    parameters: int
    config_hash: str
    code_hash: str
    circumstances: dict[str, Any]  # `records.circumstances` of the training


def write_training(
    directory: Path,
    outcome: Outcome,
    history: list[dict[str, Any]],
    scored: State,
    last: State | None = None,
) -> None:
    """Write all that a training leaves; `last` are the last weights, where others are scored."""
    write_weights(directory / WEIGHTS, scored)
    if last is not None:
        write_weights(directory / LAST_WEIGHTS, last)
    write_text(directory / HISTORY, "".join(json.dumps(row) + "\n" for row in history))
    write_json(directory / OUTCOME, asdict(outcome))


def write_weights(path: Path, state: State) -> None:
    """Write weights, whole or not at all."""
    with replacing(path) as part:
        save_file({name: value.contiguous() for name, value in state.items()}, part)


def read_outcome(directory: Path) -> Outcome:
    """Read ``train.json`` from a cell's directory."""
    return Outcome(**json.loads((directory / OUTCOME).read_text(encoding="utf-8")))
