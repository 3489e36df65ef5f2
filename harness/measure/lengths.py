"""The paper's runtime experiment (figure 3): one model at one length, on made-up data.

Three measurements, each in a process of its own, so that peaks of memory are apart and one that
takes too long can be ended:

training        optimiser steps (forward, backward, update); in the task generation, if it has that
reconstruction  `Model.predict`, one draw, of a batch that is shown whole
generation      `Model.sample` of as many series

A measurement ends after its number of iterations or at the time limit, whichever comes first. The
first iteration, and those after it that take less than a tenth of the limit, are warm-up and do not
count. Where memory does not suffice, smaller batches are tried. One channel, single precision, the
settings of the model's file without changes by data set, or of one of its `sizes`. Nothing else
should run meanwhile.
"""

import multiprocessing
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.connection import Connection
from statistics import median
from typing import Any, Literal

import torch

from harness import catalogue
from harness.checks import load
from harness.contract import Diverged, Task
from harness.errors import UserError
from harness.measure.timing import made_up, quartiles, set_up, timed, training_step
from harness.measurements import BATCHES, ITERATIONS, Kind, Measurement, RunTime
from harness.records import Status, circumstances
from harness.run.devices import device
from harness.run.memory import (
    OutOfMemory,
    forget_peak,
    limit_memory,
    peak_memory,
    raising_out_of_memory,
)
from harness.run.view import View
from harness.sources import code_hash
from harness.texts import digest

WARM_UP: dict[Kind, int] = {"training": 10, "reconstruction": 1, "generation": 1}
LIMIT = 600.0  # seconds of a measurement
SET_UP = 600.0  # seconds for imports, data and model, before the measurement begins
FOR_MEMORY = {  # how a process ends that has too little memory and cannot say so
    -signal.SIGKILL: "ended by the operating system",
    -signal.SIGABRT: "given up by a library that found no memory",
}


@dataclass(frozen=True)
class Job:
    """A measurement to make."""

    model: str
    length: int
    kind: Kind
    task: Task
    batch: int
    size: str | None = None


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


def measure_length(
    model: str, length: int, limit: float = LIMIT, size: str | None = None
) -> RunTime:
    """Measure a model at a length.

    Parameters
    ----------
    model : str
        A name in config/models/.
    length : int
    limit : float
        Seconds of each measurement, set-up and warm-up apart.
    size : str or None
        One of the model's ``sizes``; by default the settings of its paper.

    Raises
    ------
    UserError
        If there is no such model or size, or it cannot have this length.
    """
    chosen = catalogue.settings(model, size)
    class_ = chosen["class"]
    begun: list[Ready] = []
    measurements = [
        _measure_fitting_batch(Job(model, length, kind, task, BATCHES[0], size), limit, begun)
        for kind, task in _tasks(load(class_).tasks).items()
    ]
    failed = [m for m in measurements if m.status != "done"]
    return RunTime(
        model=model,
        length=length,
        size=size,
        channels=1,
        limit_seconds=limit,
        config_hash=digest([chosen, length, limit]),
        code_hash=code_hash(class_.partition(":")[0], __name__),
        status=failed[0].status if failed else "done",
        reason=f"{failed[0].name}: {failed[0].reason}" if failed else None,
        measurements=measurements,
        settings=chosen,
        parameters=begun[0].parameters if begun else None,
        **(begun[0].circumstances if begun else _circumstances_here()),
    )


def _circumstances_here() -> dict[str, Any]:
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


def _measure_fitting_batch(job: Job, limit: float, begun: list[Ready]) -> Measurement:
    """Measure with the largest batch for which memory suffices."""
    too_large = []
    for batch in BATCHES:
        found = attempt(replace(job, batch=batch), limit, begun)
        if found.status != "oom":
            break
        too_large.append(f"batch {batch}: {found.reason}")
    if too_large:
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
    limit; at least the first one, which takes memory from the operating system, where a second one
    counts.
    """
    n, total = 0, 0.0
    for value in seconds[:most]:
        total += value
        if n and total >= limit / 10:
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
        with device() as where, raising_out_of_memory():
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
    model = set_up(job.model, dataset, job.task, where, job.size)
    generator = torch.Generator(where).manual_seed(0)
    function: Callable[[], Any]
    if job.kind == "training":
        model.train()
        function = training_step(model, dataset, job.task, job.batch, where)
    elif job.kind == "reconstruction":
        model.eval()
        batch = View(dataset, job.task).batch(dataset.train[: job.batch]).to(where)
        function = torch.no_grad()(partial(model.predict, batch, 1, generator))
    else:
        model.eval()
        t = torch.linspace(0, 1, job.length, device=where)
        function = torch.no_grad()(partial(model.sample, job.batch, t, generator))
    parameters = sum(p.numel() for p in model.parameters())
    forget_peak(where)
    yield Ready(parameters, circumstances(where), peak_memory(where))
    seconds: list[float] = []
    most = WARM_UP[job.kind]
    while len(seconds) < ITERATIONS[job.kind] + split_warm_up(seconds, most, limit)[0]:
        seconds.append(timed(function, where))
        yield Iteration(seconds[-1], peak_memory(where))
