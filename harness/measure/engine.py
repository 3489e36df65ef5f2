"""How fast LS4's engine is, and how fast it could be: training steps and generation.

The network of FRED-MD, series of one channel, some sizes of batch and length; each is measured in
a process of its own. Beside the time stands its floor, what the necessary operations would take at
the rate of a large matrix product on this machine, or the necessary traffic at the rate at which it
copies memory, whichever is more. The necessary operations are the position-wise products, as torch
counts them, and what the model counts beside them (`ls4.work`); kernels are free.

Nothing else should run on the machine.
"""

import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any, Protocol, runtime_checkable

import torch
from torch.utils.flop_counter import FlopCounterMode

from harness.measure.timing import alone, made_up, quartiles, set_up, timed, training_step
from harness.measurements import Engine, Machine, Speed
from harness.records import circumstances
from harness.run.devices import device
from harness.run.memory import peak_memory
from harness.texts import write_json

SIZES = ((64, 728), (109, 52), (16, 1280), (4, 5120), (1, 20480))  # batch, length
SERIES = 16  # that are generated at once
SECONDS, STEPS = 20.0, 20  # of training steps that are measured, at most; at least three
ROLLED = 500  # time steps of a generation that are measured


@runtime_checkable
class Measurable(Protocol):
    """What is measured here: a model that counts the work it cannot do without.

    Operations and bytes of a training step and of a generation step, beside the matrix products,
    which torch counts.
    """

    def training_work(self, batch: int, length: int) -> tuple[float, float]: ...

    def generation_work(self, batch: int) -> tuple[float, float]: ...

    def generation_step(self, batch: int) -> Callable[[], object]: ...


def measure_engine(out: Path) -> Engine:
    """Measure and write the record."""
    machine = alone(measure_machine)
    speeds = [alone(measure_training, batch, length, machine) for batch, length in SIZES]
    speeds.append(alone(measure_generation, SERIES, machine))
    with device() as where:
        engine = Engine(machine, speeds, circumstances(where))
    write_json(out, asdict(engine))
    return engine


def measure_machine() -> Machine:
    """Take the best of some large matrix products and copies."""
    with device() as where:
        n = 4096 if where.type == "cuda" else 2048
        a, b, c = torch.randn(3, n, n, device=where).unbind()
        u, v = torch.randn(2, 2**26, device=where).unbind()
        product = min(timed(lambda: torch.mm(a, b, out=c), where) for _ in range(10))
        copy = min(timed(lambda: u.copy_(v), where) for _ in range(10))
        return Machine(operations=2 * n**3 / product, bytes=2 * 4 * u.numel() / copy)


def measure_training(batch: int, length: int, machine: Machine) -> Speed:
    """Measure training steps: forward, backward, optimiser."""
    with device() as where:
        dataset = made_up(batch, length, channels=1)
        model = set_up("ls4", dataset, "generation", where).train()
        assert isinstance(model, Measurable)
        operations, traffic = model.training_work(batch, length)
        step = training_step(model, dataset, "generation", batch, where)
        # Without the products of batches, which are those of the kernels.
        operations += products(step, but="bmm")
        seconds: list[float] = []
        start = time.monotonic()
        while len(seconds) < 3 or (time.monotonic() - start < SECONDS and len(seconds) < STEPS):
            seconds.append(timed(step, where))
        what = "training step"
        return speed(what, batch, length, seconds, where, machine, operations, traffic)


@torch.no_grad()
def measure_generation(batch: int, machine: Machine) -> Speed:
    """Measure time steps of the prior."""
    with device() as where:
        model = set_up("ls4", made_up(batch, 100, channels=1), "generation", where)
        assert isinstance(model, Measurable)
        step = model.generation_step(batch)
        operations, traffic = model.generation_work(batch)
        operations += products(step)
        for _ in range(20):
            step()
        seconds = [timed(step, where) for _ in range(ROLLED)]
        what = "time step of the prior"
        return speed(what, batch, None, seconds, where, machine, operations, traffic)


def speed(
    what: str,
    batch: int,
    length: int | None,
    seconds: list[float],
    where: torch.device,
    machine: Machine,
    operations: float,
    traffic: float,
) -> Speed:
    """Return a line of the record."""
    return Speed(
        what=what,
        batch=batch,
        length=length,
        seconds=median(seconds),
        quartiles=quartiles(seconds),
        repetitions=len(seconds),
        peak_bytes=peak_memory(where),
        operations=operations,
        bytes=traffic,
        floor_seconds=max(operations / machine.operations, traffic / machine.bytes),
    )


def products(function: Callable[[], Any], but: str | None = None) -> int:
    """Operations of the matrix products in a call, but for operators with this in their names."""
    with FlopCounterMode(display=False) as counter:
        function()
    counts = counter.get_flop_counts()["Global"]
    return sum(n for name, n in counts.items() if but is None or but not in str(name))
