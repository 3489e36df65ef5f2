"""What models cost: training steps a second, memory, sampling; on made-up data, nothing learnt.

Two sizes: a batch of series as FRED-MD's, in generation, and one of records as PhysioNet's, in
reconstruction. Each model is measured in a process of its own, one after the other, with the
settings of its file and no changes by data set. Nothing else should run on the machine.
"""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from pydantic import TypeAdapter

from datasets.base import Dataset
from datasets.progress import progress
from harness import grid
from harness.config import load
from harness.contract import Model, Task
from harness.devices import device
from harness.records import circumstances, write_json
from harness.tables import label, update_sections
from harness.timing import (
    alone,
    made_up,
    measured_on,
    quartiles,
    set_up,
    timed,
    training_step,
)
from harness.trainer import peak_memory
from harness.typeset import Table, duration, markdown, number

SECONDS = 10.0  # of training steps that are measured, after one to warm up
STEPS = 50  # at most
SAMPLES = 128


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

    def dataset(self) -> Dataset:
        observed = 1.0 if self.task == "generation" else 0.5
        return made_up(self.batch, self.length, self.channels, observed)


SIZES = (Size("generation", 32, 728, 1), Size("reconstruction", 32, 75, 41))


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


def models(out: Path, docs: Path | None, only: list[str] | None = None) -> list[Cost]:
    """Measure every model at both sizes, write the record and, in `docs`, the table.

    Parameters
    ----------
    out : Path
        File of the record, JSON.
    docs : Path or None
        Markdown file whose section `costs` (`harness.tables.update_sections`) gets the table.
    only : list of str or None
        Names in config/models/; by default all that are no variant of another one.
    """
    names = only or [
        n for n in grid.available("models") if "base" not in grid.describe("models", n)
    ]
    jobs = [
        (name, size)
        for size in SIZES
        for name in names
        if size.task in load(grid.describe("models", name)["class"]).tasks
    ]
    costs = []
    with progress() as bar:
        for name, size in bar.track(jobs, description="cost of models"):
            costs.append(alone(measure, name, size))
    write_json(out, [asdict(cost) for cost in costs])
    if docs is not None:
        update_sections(docs, {"costs": table(costs)})
    return costs


def measure(name: str, size: Size) -> Cost:
    """Measure one model at one size, in this process."""
    with device() as where:
        dataset = size.dataset()
        model = set_up(name, dataset, size.task, where)
        seconds = _step_seconds(model, dataset, size, where)
        peak = peak_memory(where)
        return Cost(
            model=name,
            **asdict(size),
            parameters=sum(p.numel() for p in model.parameters()),
            step_seconds=median(seconds),
            step_quartiles=quartiles(seconds),
            steps=len(seconds),
            train_peak_bytes=peak,
            sample_seconds=_sample_seconds(model, size, where),
            circumstances=circumstances(where),
        )


def _step_seconds(model: Model, dataset: Dataset, size: Size, where: torch.device) -> list[float]:
    step = training_step(model, dataset, size.task, size.batch, where)
    seconds = [timed(step, where)]
    start = time.monotonic()
    while time.monotonic() - start < SECONDS and len(seconds) <= STEPS:
        seconds.append(timed(step, where))
    return seconds[1:] or seconds


def _sample_seconds(model: Model, size: Size, where: torch.device) -> float | None:
    if size.task != "generation":
        return None
    t = torch.linspace(0, 1, size.length, device=where)
    generator = torch.Generator(where).manual_seed(0)
    return timed(lambda: model.eval().sample(SAMPLES, t, generator), where)


# -- the table ------------------------------------------------------------------------------------


def read(path: Path) -> list[Cost]:
    """Read the record that `models` wrote."""
    return TypeAdapter(list[Cost]).validate_json(path.read_bytes())


def table(costs: list[Cost]) -> str:
    """Return the costs as Markdown."""
    blocks = []
    for size in dict.fromkeys(Size(c.task, c.batch, c.length, c.channels) for c in costs):
        own = [c for c in costs if Size(c.task, c.batch, c.length, c.channels) == size]
        sampled = any(c.sample_seconds is not None for c in own)
        headings = ["model", "parameters", "training steps/s", "peak memory"]
        headings += [f"{SAMPLES} samples"] if sampled else []
        lines = [_line(c, sampled) for c in sorted(own, key=lambda c: c.step_seconds)]
        columns = [("", heading) for heading in headings]
        blocks += [f"**{size.title[0].upper()}{size.title[1:]}**"]
        blocks += [markdown(Table(size.title, columns, lines, [], []))]
    return "\n\n".join([*blocks, _footnote(costs[0].circumstances)])


def _line(cost: Cost, sampled: bool) -> list[str]:
    rate = number(1 / cost.step_seconds, 2)
    if cost.step_quartiles is not None:
        slow, fast = (number(1 / seconds, 2) for seconds in reversed(cost.step_quartiles))
        rate += f" ({slow} to {fast})"
    cells = [
        label(cost.model),
        f"{cost.parameters:,}",
        rate,
        f"{cost.train_peak_bytes / 2**20:,.0f} MiB",
    ]
    if sampled:
        cells.append("–" if cost.sample_seconds is None else duration(cost.sample_seconds))
    return cells


def _footnote(where: Mapping[str, Any]) -> str:
    return (
        "Memory is that of the whole process, of which Python and torch take some 300 MiB on a CPU."
        f" Median (quartiles) of at most {STEPS} steps in {SECONDS:g} s. {measured_on(where)}"
    )
