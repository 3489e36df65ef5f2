"""How fast LS4's engine is, and how fast it could be: training steps and generation.

The network of FRED-MD, series of one channel, some sizes of batch and length; each is measured in
a process of its own. Beside the time stands its floor, what the necessary operations would take at
the rate of a large matrix product on this machine, or the necessary traffic at the rate at which it
copies memory, whichever is more:

operations  position-wise products as torch counts them in a step; an FFT of length n = 2L, at
            2.5 n log2 n, of every channel's input, output and their gradients; kernels are free
traffic     of every residual block: input, output, input again, and two gradients

Nothing else should run on the machine.
"""

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from pydantic import TypeAdapter
from torch.nn import LayerNorm
from torch.utils.flop_counter import FlopCounterMode

from harness.devices import device
from harness.records import circumstances, write_json
from harness.tables import update_sections
from harness.timing import alone, made_up, measured_on, quartiles, set_up, timed, training_step
from harness.trainer import peak_memory
from harness.typeset import Table, duration, markdown, number
from ls4.blocks import Residual
from ls4.model import LS4
from ls4.ssm import SSM

SIZES = ((64, 728), (109, 52), (16, 1280), (4, 5120), (1, 20480))  # batch, length
SERIES = 16  # that are generated at once
SECONDS, STEPS = 20.0, 20  # of training steps that are measured, at most; at least three
ROLLED = 500  # time steps of a generation that are measured


@dataclass(frozen=True)
class Machine:
    """What the machine can do: operations and bytes a second."""

    operations: float
    bytes: float


@dataclass(frozen=True)
class Speed:
    """One line: median seconds of a training step, or of a time step of a generation."""

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
    """The record of this benchmark."""

    machine: Machine
    speeds: list[Speed]
    circumstances: dict[str, Any]


def run(out: Path, docs: Path | None) -> Engine:
    """Measure, write the record and, in `docs`, the table of section `engine`."""
    machine = alone(measure_machine)
    speeds = [alone(measure_training, batch, length, machine) for batch, length in SIZES]
    speeds.append(alone(measure_generation, SERIES, machine))
    with device() as where:
        engine = Engine(machine, speeds, circumstances(where))
    write_json(out, asdict(engine))
    if docs is not None:
        update_sections(docs, {"engine": table(engine)})
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
        step = training_step(model, dataset, "generation", batch, where)
        # Without the products of batches, which are those of the kernels.
        operations = products(step, but="bmm") + transforms(model, batch, length)
        traffic = 5.0 * 4 * batch * length * sum(block_widths(model))  # five passes of float32
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
        assert isinstance(model, LS4)
        advance = model.prior.stepper(batch)
        z = torch.zeros(batch, model.config.latent, device=where)
        # the complex products of the states are not among those that torch counts
        states = sum(ssm.log_A_real.numel() for ssm in systems(model.prior))
        operations = products(lambda: advance(z)) + 6.0 * batch * states
        for _ in range(20):
            advance(z)
        seconds = [timed(lambda: advance(z), where) for _ in range(ROLLED)]
        traffic = 2.0 * 8 * batch * states  # complex numbers, read and written
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
    """Put a line together."""
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


# -- what is necessary ----------------------------------------------------------------------------


def products(function: Callable[[], Any], but: str | None = None) -> int:
    """Operations of the matrix products in a call, but for operators with this in their names."""
    with FlopCounterMode(display=False) as counter:
        function()
    counts = counter.get_flop_counts()["Global"]
    return sum(n for name, n in counts.items() if but is None or but not in str(name))


def transforms(model: torch.nn.Module, batch: int, length: int) -> float:
    """Operations of the FFTs of a training step."""
    channels = sum(ssm.log_dt.numel() for ssm in systems(model))
    n = 2 * length
    return batch * channels * 4 * 2.5 * n * math.log2(n)


def systems(model: torch.nn.Module) -> list[SSM]:
    return [module for module in model.modules() if isinstance(module, SSM)]


def block_widths(model: torch.nn.Module) -> list[int]:
    """Width of every residual block; with the pooling of FRED-MD, by 1, all are of full length."""
    norms = [module.norm for module in model.modules() if isinstance(module, Residual)]
    return [norm.normalized_shape[0] for norm in norms if isinstance(norm, LayerNorm)]


# -- the table ------------------------------------------------------------------------------------


def read(path: Path) -> Engine:
    """Read the record that `run` wrote."""
    return TypeAdapter(Engine).validate_json(path.read_bytes())


def table(engine: Engine) -> str:
    """Return the speeds as Markdown."""
    headings = ["", "batch", "length", "median (quartiles)", "peak memory", "floor", "share of it"]
    lines = [_line(speed) for speed in engine.speeds]
    columns = [("", heading) for heading in headings]
    text = markdown(Table("Speed of LS4", columns, lines, [], []))
    return f"{text}\n\n{_footnote(engine)}"


def _line(speed: Speed) -> list[str]:
    spread = speed.quartiles and f" ({' to '.join(duration(q) for q in speed.quartiles)})"
    return [
        speed.what,
        str(speed.batch),
        "any" if speed.length is None else f"{speed.length:,}",
        duration(speed.seconds) + (spread or ""),
        f"{speed.peak_bytes / 2**20:,.0f} MiB",
        duration(speed.floor_seconds),
        f"{number(100 * speed.floor_seconds / speed.seconds, 2)} %",
    ]


def _footnote(engine: Engine) -> str:
    machine = engine.machine
    return (
        f"A large product of matrices ran at {number(machine.operations / 1e9, 3)} GFLOP/s, a copy"
        f" at {number(machine.bytes / 1e9, 3)} GB/s. Memory is that of the whole process."
        f" {measured_on(engine.circumstances)}"
    )
