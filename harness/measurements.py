"""Records of the studies of cost in `harness.measure`: what they keep, and how it is read.

Run times against the length are a record for each model and length (figure 3 of the paper); costs
of all models, and the speed of LS4's engine, are one file each."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from harness.checks import Frozen, check_json
from harness.records import Status
from harness.tasks import Task

Kind = Literal["training", "reconstruction", "generation"]
ITERATIONS: dict[Kind, int] = {"training": 100, "reconstruction": 3, "generation": 3}
RUN_TIMES = "runtime*/*/*.json"  # where records of run times lie in a folder of results
BATCHES = (16, 4, 1)  # series at once; the next one where memory does not suffice
SAMPLES = 128  # series whose sampling is part of a model's costs


class Measurement(Frozen):
    """What one measurement found.

    It is ``done`` if at least one iteration ended within the limit; then `seconds` are the median
    of `iterations`, of which `wanted` were asked for.
    """

    name: Kind
    task: Task
    status: Status
    reason: str | None
    batch: int
    wanted: int
    warm_up: int
    iterations: int
    seconds: float | None
    quartiles: tuple[float, float] | None
    base_memory_bytes: int | None  # before the first iteration: Python, torch, data, model
    peak_memory_bytes: int | None


class RunTime(Frozen):
    """All that is kept of a model at a length."""

    # identity
    model: str
    length: int
    size: str | None = None  # about so many parameters, as 100k; None: as in the model's paper
    channels: int
    limit_seconds: float
    config_hash: str
    code_hash: str
    # result
    status: Status  # done if all measurements are; else that of the first that is not
    reason: str | None
    measurements: list[Measurement] = Field(min_length=1)
    settings: dict[str, Any]  # class and config
    parameters: int | None  # None where not even the model could be built
    # circumstances
    version: str | None = None
    commit: str
    dirty: bool | None
    versions: dict[str, str]
    device: str
    threads: int
    date: str


def run_time_files(folder: Path) -> list[Path]:
    """Return the files of run times below a folder, which may be that of one study, in order."""
    return sorted(path for path in folder.rglob("*.json") if path.match(RUN_TIMES))


def find_run_times(folder: Path) -> list[RunTime]:
    """Read all run times below a folder, by model and length.

    They are ``runtime/<model>/<length>.json`` or, of models of one size, ``runtime_<size>/...``.
    """
    found = [check_json(RunTime, path, "a record of run times") for path in run_time_files(folder)]
    return sorted(found, key=lambda r: (r.model, r.length))


@dataclass(frozen=True)
class Size:
    """A batch of made-up series: sines, whole or half observed at irregular times."""

    task: Task
    batch: int
    length: int
    channels: int

    @property
    def title(self) -> str:
        kind = "series" if self.task == "generation" else "records at irregular times, half missing"
        channels = f"{self.channels} channel{'s' if self.channels > 1 else ''}"
        return f"{self.task}, {self.batch} {kind} of length {self.length}, {channels}"


@dataclass(frozen=True)
class Cost:
    """What one model costs at one size. Seconds a step are the median; spread: quartiles."""

    model: str
    task: Task
    batch: int
    length: int
    channels: int
    parameters: int
    step_seconds: float
    step_quartiles: tuple[float, float] | None
    steps: int
    train_peak_bytes: int
    sample_seconds: float | None  # of `SAMPLES` series; None where the model does not generate
    circumstances: dict[str, Any]


@dataclass(frozen=True)
class Machine:
    """What the machine can do: operations and bytes a second."""

    operations: float
    bytes: float


@dataclass(frozen=True)
class Speed:
    """Median seconds of a training step, or of a time step of a generation, and their floor."""

    what: str
    batch: int
    length: int | None
    seconds: float
    quartiles: tuple[float, float] | None
    repetitions: int
    peak_bytes: int
    operations: float
    bytes: float
    floor_seconds: float


@dataclass(frozen=True)
class Engine:
    """How fast LS4's engine is on a machine, the content of its record."""

    machine: Machine
    speeds: list[Speed]
    circumstances: dict[str, Any]
