"""The paper's runtime experiment (figure 3): one model at one length, on made-up data.

Three measurements, each in a process of its own, so that peaks of memory are apart and one that
takes too long can be ended:

training        optimiser steps (forward, backward, update); in the task generation, if it has that
reconstruction  `Model.predict`, one draw, of a batch that is shown whole
generation      `Model.sample` of as many series

A measurement ends after its number of iterations or at the time limit, whichever comes first. First
iterations that take less than a tenth of the limit are warm-up and do not count. Where memory does
not suffice, smaller batches are tried. One channel, single precision, the settings of the model's
file without changes by data set. Nothing else should run on the machine.
"""

import multiprocessing
import re
import resource
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field

from harness import grid
from harness.batches import View
from harness.config import load
from harness.contract import Diverged, Task
from harness.devices import device
from harness.errors import UserError
from harness.grid import code_hash, digest
from harness.records import Status, circumstances, read_as
from harness.timing import made_up, quartiles, set_up, timed, training_step
from harness.trainer import OutOfMemory, naming_lack_of_memory, peak_memory

Kind = Literal["training", "reconstruction", "generation"]
ITERATIONS: dict[Kind, int] = {"training": 100, "reconstruction": 3, "generation": 3}
WARM_UP: dict[Kind, int] = {"training": 10, "reconstruction": 1, "generation": 1}
BATCHES = (16, 4, 1)  # the next one where memory does not suffice
LIMIT = 600.0  # seconds of a measurement
SET_UP = 600.0  # seconds for imports, data and model, before the measurement begins
FREE = 0.95  # share of the free memory that a measurement may take
FOR_MEMORY = {  # how a process ends that has too little memory and cannot say so
    -signal.SIGKILL: "ended by the operating system",
    -signal.SIGABRT: "given up by a library that found no memory",
}


class Measurement(BaseModel):
    """What one measurement found.

    It is ``done`` if at least one iteration ended within the limit; then `seconds` are the median
    of `iterations`, of which `wanted` were asked for.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

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


class RunTime(BaseModel):
    """All that is kept of a model at a length."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    # identity
    model: str
    length: int
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
    commit: str
    dirty: bool | None
    versions: dict[str, str]
    device: str
    threads: int
    date: str


@dataclass(frozen=True)
class Job:
    """A measurement to make."""

    model: str
    length: int
    kind: Kind
    task: Task
    batch: int


@dataclass(frozen=True)
class Ready:
    """First message of a measuring process: it begins now."""

    parameters: int
    circumstances: dict[str, Any]
    base_memory: int


@dataclass(frozen=True)
class Iteration:
    """Second and further messages: an iteration has ended."""

    seconds: float
    peak_memory: int


@dataclass(frozen=True)
class Failure:
    """Last message, unless all went well (then it is None). ``mistake`` is one of the user."""

    status: Literal["oom", "diverged", "mistake"]
    reason: str


def measure(model: str, length: int, limit: float = LIMIT) -> RunTime:
    """Measure a model at a length.

    Parameters
    ----------
    model : str
        A name in config/models/.
    length : int
    limit : float
        Seconds of each measurement, set-up and warm-up apart.

    Raises
    ------
    UserError
        If there is no such model, or it cannot have this length.
    """
    file = grid.describe("models", model)
    settings = {"class": file["class"], "config": file.get("config", {})}
    begun: list[Ready] = []
    measurements = [
        _with_less_if_need_be(model, length, kind, task, limit, begun)
        for kind, task in _tasks(load(file["class"]).tasks).items()
    ]
    failed = [m for m in measurements if m.status != "done"]
    return RunTime(
        model=model,
        length=length,
        channels=1,
        limit_seconds=limit,
        config_hash=digest([settings, length, limit]),
        code_hash=code_hash(file["class"].partition(":")[0], __name__),
        status=failed[0].status if failed else "done",
        reason=f"{failed[0].name}: {failed[0].reason}" if failed else None,
        measurements=measurements,
        settings=settings,
        parameters=begun[0].parameters if begun else None,
        **(begun[0].circumstances if begun else circumstances_here()),
    )


def circumstances_here() -> dict[str, Any]:
    """Circumstances where no measurement has begun."""
    with device() as where:
        return circumstances(where)


def _tasks(tasks: frozenset[Task]) -> dict[Kind, Task]:
    """The measurements of a model of these tasks."""
    found: dict[Kind, Task] = {}
    if "reconstruction" in tasks:
        found |= {"training": "reconstruction", "reconstruction": "reconstruction"}
    if "generation" in tasks:
        found |= {"training": "generation", "generation": "generation"}
    return found


def _with_less_if_need_be(
    model: str, length: int, kind: Kind, task: Task, limit: float, begun: list[Ready]
) -> Measurement:
    """Measure with the largest batch for which memory suffices."""
    too_large = []
    for batch in BATCHES:
        found = attempt(Job(model, length, kind, task, batch), limit, begun)
        if found.status != "oom":
            break
        too_large.append(f"batch {batch}: {found.reason}")
    if too_large and found.reason not in too_large:
        reasons = too_large if found.status == "oom" else [*too_large, found.reason]
        found = found.model_copy(update={"reason": "; ".join(r for r in reasons if r)})
    return found


def attempt(job: Job, limit: float, begun: list[Ready]) -> Measurement:
    """Measure in a new process and end it at the limit; add its first message to `begun`."""
    context = multiprocessing.get_context("spawn")  # CUDA, and peak memory, want fresh processes
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_measure, args=(job, limit, theirs), daemon=True)
    process.start()
    theirs.close()
    own: list[Ready] = []
    iterations: list[Iteration] = []
    failure, late = None, False
    deadline = time.monotonic() + SET_UP
    try:
        while True:
            if not ours.poll(max(0.0, deadline - time.monotonic())):
                late = True
                break
            match ours.recv():
                case Ready() as ready:
                    own.append(ready)
                    deadline = time.monotonic() + limit
                case Iteration() as iteration:
                    iterations.append(iteration)
                case Failure() as failure:
                    break
                case None:
                    break
    except EOFError:  # it ended without a word
        process.join()
        if process.exitcode in FOR_MEMORY:
            name = signal.Signals(-process.exitcode).name
            failure = Failure("oom", f"{name}: {FOR_MEMORY[process.exitcode]}")
        else:
            raise RuntimeError(f"{job}: exit status {process.exitcode}") from None
    finally:
        process.kill()
        process.join()
    if failure and failure.status == "mistake":
        raise UserError(failure.reason)
    begun += own
    return summarise(job, limit, own[0] if own else None, iterations, failure, late)


def summarise(
    job: Job,
    limit: float,
    ready: Ready | None,
    iterations: list[Iteration],
    failure: Failure | None,
    late: bool,
) -> Measurement:
    """Reduce the messages of a measuring process; `late`: it was ended at the limit."""
    warm_up, seconds = split_warm_up([i.seconds for i in iterations], WARM_UP[job.kind], limit)
    status: Status = "done"
    reason = None
    if late:
        reason = f"{len(seconds)} of {ITERATIONS[job.kind]} iterations in {limit:g} s"
        if not seconds:
            status = "timeout"
            reason = f"no iteration in {limit:g} s" if ready else f"no model in {SET_UP:g} s"
    elif failure and failure.status != "mistake":
        status, reason = failure.status, failure.reason
    done = status == "done"
    return Measurement(
        name=job.kind,
        task=job.task,
        status=status,
        reason=reason,
        batch=job.batch,
        wanted=ITERATIONS[job.kind],
        warm_up=warm_up,
        iterations=len(seconds),
        seconds=median(seconds) if done else None,
        quartiles=quartiles(seconds) if done else None,
        base_memory_bytes=ready.base_memory if ready else None,
        peak_memory_bytes=max(i.peak_memory for i in iterations) if done else None,
    )


def split_warm_up(seconds: list[float], most: int, limit: float) -> tuple[int, list[float]]:
    """Return how many iterations are warm-up, and the seconds of the others.

    Warm-up are the first iterations, `most` at most, that together take less than a tenth of the
    limit: where an iteration takes minutes, what only the first one does is lost in it.
    """
    n, total = 0, 0.0
    for value in seconds[:most]:
        total += value
        if total >= limit / 10:
            break
        n += 1
    if n == len(seconds):  # the limit came before an iteration that counts
        n = max(0, n - 1)
    return n, seconds[n:]


# -- in the process of a measurement -------------------------------------------------------------


def _measure(job: Job, limit: float, messages: Connection) -> None:
    """Send a `Ready`, an `Iteration` after each and, at the end, a `Failure` or None."""
    free = None
    try:
        with device() as where, naming_lack_of_memory():
            if where.type == "cpu":
                free = limit_memory()
            for message in iterate(job, limit, where):
                messages.send(message)
        messages.send(None)
    except OutOfMemory as error:
        of = "" if free is None else f" ({free / 2**30:.1f} GiB were free)"
        messages.send(Failure("oom", f"{error}{of}"))
    except Diverged as error:
        messages.send(Failure("diverged", str(error)))
    except UserError as error:
        messages.send(Failure("mistake", str(error)))


def iterate(job: Job, limit: float, where: torch.device) -> Iterator[Ready | Iteration]:
    """Set a measurement up and make its iterations."""
    dataset = made_up(job.batch, job.length, channels=1)
    model = set_up(job.model, dataset, job.task, where)
    generator = torch.Generator(where).manual_seed(0)
    function: Callable[[], Any]
    if job.kind == "training":
        model.train()
        function = training_step(model, dataset, job.task, job.batch, where)
    elif job.kind == "reconstruction":
        model.eval()
        batch = View(dataset, job.task).batch(dataset.train[: job.batch]).to(where)
        function = partial(model.predict, batch, 1, generator)
    else:
        model.eval()
        t = torch.linspace(0, 1, job.length, device=where)
        function = partial(model.sample, job.batch, t, generator)
    parameters = sum(p.numel() for p in model.parameters())
    forget_peak(where)
    yield Ready(parameters, circumstances(where), highest_memory(where))
    seconds: list[float] = []
    most = WARM_UP[job.kind]
    while len(seconds) < ITERATIONS[job.kind] + split_warm_up(seconds, most, limit)[0]:
        seconds.append(timed(function, where))
        yield Iteration(seconds[-1], highest_memory(where))


def highest_memory(where: torch.device) -> int:
    """Highest memory use since `forget_peak`.

    `peak_memory` of a process counts, on Linux, the one that started it, too.
    """
    own = _bytes("/proc/self/status", "VmHWM") if where.type == "cpu" else None
    return peak_memory(where) if own is None else own


def forget_peak(where: torch.device) -> None:
    """Let the count of the highest memory use begin anew, where the system can."""
    if where.type == "cuda":
        torch.cuda.reset_peak_memory_stats(where)
    elif (reset := Path("/proc/self/clear_refs")).exists():
        reset.write_text("5")


def limit_memory() -> int | None:
    """Let allocations fail beyond what is free on the machine, and return that many bytes.

    Otherwise the operating system would end this process, or another one. None where the system
    does not tell (it is no Linux).
    """
    free, own = (_bytes(file, key) for file, key in
                 (("/proc/meminfo", "MemAvailable"), ("/proc/self/status", "VmSize")))  # fmt: skip
    if free is None or own is None:
        return None
    most = own + int(FREE * free)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    return free


def _bytes(file: str, key: str) -> int | None:
    path = Path(file)
    found = re.search(rf"^{key}:\s+(\d+) kB$", path.read_text(), re.M) if path.exists() else None
    return 1024 * int(found[1]) if found else None


# -- records -------------------------------------------------------------------------------------


def read(path: Path) -> RunTime:
    """Read and check a record; see `records.read_as`."""
    return read_as(RunTime, path, "a record of run times")


def find(folder: Path) -> list[RunTime]:
    """Read all ``runtime/<model>/<length>.json`` below a folder, by model and length."""
    found = [read(path) for path in folder.rglob("runtime/*/*.json")]
    return sorted(found, key=lambda r: (r.model, r.length))
