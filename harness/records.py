"""Records: one flat JSON object for each cell, written whole or not at all.

A record says what was run (identity), how it ended (status), what came out (scores), what it cost
and under which circumstances. Divergence, time-out and lack of memory are results, not errors.
"""

import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, Field, field_validator, model_validator

from datasets.files import sha256
from harness.catalogue import ROOT, budgets
from harness.checks import Frozen, check_json, write_checked
from harness.errors import UserError
from harness.tasks import Task

Status = Literal["done", "diverged", "timeout", "oom", "failed", "skipped"]
# Why a training that is done took no further step:
# steps     it took all that its budget asks for
# frozen    its schedule had brought the learning rate to next to nothing
# patience  the validation loss had not improved for long enough
# cap       it met the largest number of steps that it was allowed: not converged
Ending = Literal["steps", "frozen", "patience", "cap"]
FORMAT = 2  # of records that are written now
# Files of a cell's directory: the record, and those whose digests are in it.
RECORD, HISTORY = "record.json", "history.jsonl"
SUMMARY, SAMPLES, ERRORS = "summary.npz", "samples.npz", "errors.npz"
IDENTITY = ["budget", "task", "dataset", "model", "seed"]


Count = Annotated[int, Field(ge=0)]
Seconds = Annotated[float, Field(ge=0)]
Name = Annotated[str, Field(pattern=r"^\w[\w.+-]*$")]  # files of results are named after it


class Score(Frozen):
    """A number with its spread (a standard deviation; over what, docs/scores.md says) and count."""

    name: str
    value: float | None
    spread: float | None = None
    n: Count | None = None


class Record(Frozen):
    """All that is kept of one cell.

    `format` is the version of this class, `scoring` that of the code that computes scores: scores
    of two versions are not compared. `files` are the sha256 digests of the arrays beside the
    record, by file name.
    """

    format: int = Field(1, ge=1, le=FORMAT)  # 1 also of records that do not say it

    # identity
    task: Task
    dataset: Name
    model: Name
    seed: Count
    budget: str
    control: bool
    config_hash: str
    code_hash: str
    data_digest: str
    split_digest: str
    # result
    status: Status
    reason: str | None
    scores: list[Score]
    # the data and the settings that a reader of a table asks for
    title: str
    n_train: Count
    n_validation: Count
    n_test: Count
    length: Count
    channels: Count
    scoring: int = 1  # 1 also of records that do not say it
    evaluator_fits: Count
    evaluator_epochs: Count
    draws: Count | None = None  # from each predictive distribution
    share_draws: Count | None = None  # the same at further shares of hidden points
    protocol: dict[str, Any] = Field({})  # what interpolation and extrapolation hide
    settings: dict[str, Any]  # class, config and training as resolved; variant_of
    # cost
    steps: Count
    ended: Ending | None = None  # None for controls, failures and old records
    best_step: Count | None = None  # whose weights are scored, where a validation loss chose them
    best_validation_loss: float | None = None
    last_validation_loss: float | None = None
    train_seconds: Seconds
    sample_seconds: Seconds
    score_seconds: Seconds
    peak_memory_bytes: Count | None
    parameters: Count
    files: dict[str, str] = Field({})
    # circumstances
    version: str | None = None  # of this project; None before records carried it
    commit: str
    dirty: bool | None
    versions: dict[str, str]
    device: str
    threads: Count
    date: str

    @property
    def made_here(self) -> bool:
        """Whether the benchmark makes the samples or predictions, and not a command or a user."""
        return self.control or "class" in self.settings

    @property
    def validation_loss(self) -> float | None:
        """Of the weights that are scored; None of a model without one loss, and of controls."""
        known = self.best_validation_loss is not None
        return self.best_validation_loss if known else self.last_validation_loss

    @field_validator("scores")
    @classmethod
    def _once(cls, scores: list[Score]) -> list[Score]:
        names = [score.name for score in scores]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"expected each score once, found {name!r} again")
        return scores

    @model_validator(mode="after")
    def _trained_by_settings(self) -> "Record":
        if self.steps and "batch_size" not in self.settings.get("training", {}):
            raise ValueError("settings: expected the training of a model that took steps")
        return self

    @field_validator("date")
    @classmethod
    def _a_date(cls, date: str) -> str:
        datetime.fromisoformat(date)
        return date


def circumstances(device: torch.device) -> dict[str, Any]:
    """Return the circumstances of a run on `device`, as fields of a record.

    The code is ``dirty`` where it differs from the commit, or where it has files of Python or YAML
    that the commit lacks, such as a model of one's own.
    """
    commit = _git("rev-parse", "HEAD")
    changes = _git("status", "--porcelain", "--untracked-files=no")
    added = _git("ls-files", "--others", "--exclude-standard", "--", "*.py", "*.yaml", "*.yml")
    packages = ("torch", "torchdiffeq", "torchsde", "numpy", "scipy")
    return {
        "version": (ROOT / "VERSION").read_text(encoding="utf-8").strip(),
        "commit": commit or "unknown",
        "dirty": None if changes is None else bool(changes or added),
        "versions": {"python": platform.python_version()} | {p: version(p) for p in packages},
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def device_name(device: torch.device) -> str:
    """Return the marketing name of a GPU or of this machine's processor."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(
            line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")
        )
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    return f"CPU {name}"


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def write(record: BaseModel, path: Path) -> None:
    """Write a record and its digest, whole or not at all."""
    write_checked(path, record.model_dump(mode="json"))


def verify(folder: Path, name: str, files: dict[str, str]) -> Path:
    """Return the path of a file of a cell; its digest, where the record has one, is verified.

    Raises
    ------
    UserError
        If the file is absent, or another one, where the record names it.
    """
    path = folder / name
    if name in files and not path.exists():
        raise UserError(f"{path}: expected the file of sha256 {files[name]}, found none")
    if name in files and sha256(path) != files[name]:
        raise UserError(f"{path}: damaged: expected the file of sha256 {files[name]}")
    return path


def read(path: Path) -> Record:
    """Read and check a record.

    Raises
    ------
    UserError
        If the file is no such thing.
    """
    record = check_json(Record, path, "a record")
    if record.budget not in budgets():
        raise UserError(
            f"{path}: not a record: expected a budget of {', '.join(budgets())}"
            f" (config/budgets.yaml), found {record.budget!r}"
        )
    return record
