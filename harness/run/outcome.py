"""What a training leaves in its cell's directory, and how it is read."""

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from pydantic import ConfigDict
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from datasets.files import replacing, sha256
from harness.cells import RUN, CellSpec
from harness.checks import check_json, write_checked
from harness.errors import UserError
from harness.records import HISTORY, Ending, Status, verify
from harness.texts import write_text

WEIGHTS = "weights.safetensors"  # what is scored
LAST_WEIGHTS = "last.safetensors"  # the last ones, where others are scored
OUTCOME = "train.json"

State = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Outcome:
    """How a training ended, its cost and circumstances; the content of ``train.json``.

    Of a command it is the same, but in no file (`harness.run.answers`).
    """

    __pydantic_config__ = ConfigDict(extra="forbid")  # a digest under another name is damage

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
    files: dict[str, str] = field(default_factory=dict)  # sha256 of the history


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
    outcome = replace(outcome, files={HISTORY: sha256(directory / HISTORY)})
    write_checked(directory / OUTCOME, asdict(outcome))


def write_weights(path: Path, state: State) -> None:
    """Write weights and their digest, whole or not at all."""
    state = {name: value.contiguous() for name, value in state.items()}
    content = save(state, metadata={"sha256": _digest(state)})
    with replacing(path) as part:
        part.write_bytes(content)


def read_weights(path: Path) -> State:
    """Read weights and verify their digest.

    Raises
    ------
    UserError
        If the file is absent or damaged; the message says how to make it again.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; {make_again(path)}")
    try:
        with safe_open(path, framework="pt") as file:
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            expected = (file.metadata() or {}).get("sha256")
    except (SafetensorError, OSError, ValueError, RuntimeError):
        raise UserError(f"{path}: damaged: not weights; {make_again(path)}") from None
    if expected is None:
        raise UserError(
            f"{path}: expected weights with a digest, found those of an earlier version;"
            f" {make_again(path)}"
        )
    if expected != _digest(state):
        raise UserError(f"{path}: damaged: not the weights that were written; {make_again(path)}")
    return state


def make_again(path: Path) -> str:
    """Return the end of a message: the command that makes a training's output again."""
    return f"make it again from its grid: {RUN} --force -- {path}"


def _digest(state: State) -> str:
    return hashlib.sha256(save(state)).hexdigest()


def read_outcome(directory: Path, spec: CellSpec) -> Outcome:
    """Read ``train.json`` from a cell's directory, and verify it and the history beside it.

    Raises
    ------
    UserError
        If either is damaged, the history is absent, or the training was of another cell.
    """
    path = directory / OUTCOME
    outcome = check_json(Outcome, path, "the outcome of a training")
    if outcome.config_hash != spec.digest:
        raise UserError(
            f"{path}: expected a training of the cell of config hash {spec.digest:.12}, found one"
            f" of {outcome.config_hash:.12}; {make_again(path)}"
        )
    verify(directory, HISTORY, outcome.files)
    return outcome
