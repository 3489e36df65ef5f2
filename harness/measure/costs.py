"""What models cost on made-up data: training steps a second, memory, time of sampling.

Two sizes: a batch of series as FRED-MD's, in generation, and one of records as PhysioNet's, in
reconstruction. Each model is measured in a process of its own, one after the other, with the
settings of its file and no changes by data set. Nothing else should run on the machine.
"""

import time
from dataclasses import asdict
from pathlib import Path
from statistics import median

import torch

from datasets.base import Dataset
from datasets.progress import progress
from harness import catalogue
from harness.checks import load
from harness.contract import Model
from harness.errors import UserError
from harness.measure.timing import alone, made_up, quartiles, set_up, timed, training_step
from harness.measurements import SAMPLES, Cost, Size
from harness.records import circumstances
from harness.run.devices import device
from harness.run.memory import peak_memory
from harness.texts import write_json

SECONDS = 10.0  # of training steps that are measured, after one to warm up
STEPS = 50  # at most
SIZES = (Size("generation", 32, 728, 1), Size("reconstruction", 32, 75, 41))


def measure_models(out: Path, only: list[str] | None = None) -> list[Cost]:
    """Measure every model at both sizes and write the record.

    Parameters
    ----------
    out : Path
        File of the record, JSON.
    only : list of str or None
        Names in config/models/; by default all that are no variant of another one.

    Raises
    ------
    UserError
        For an unknown name, and one that has neither task.
    """
    every = [n for n in catalogue.trained() if not catalogue.model(n).variant_of]
    able = {name: load(catalogue.model(name).class_).tasks for name in only or every}
    jobs = [(name, size) for size in SIZES for name, tasks in able.items() if size.task in tasks]
    if left_out := {*(only or [])} - {name for name, _ in jobs}:
        tasks = " or ".join(size.task for size in SIZES)
        raise UserError(f"bench: expected models of {tasks}, found {', '.join(sorted(left_out))}")
    costs = []
    with progress() as bar:
        for name, size in bar.track(jobs, description="cost of models"):
            costs.append(alone(measure, name, size))
    write_json(out, [asdict(cost) for cost in costs])
    return costs


def measure(name: str, size: Size) -> Cost:
    """Measure one model at one size, in this process."""
    with device() as where:
        observed = 1.0 if size.task == "generation" else 0.5
        dataset = made_up(size.batch, size.length, size.channels, observed)
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


@torch.no_grad()
def _sample_seconds(model: Model, size: Size, where: torch.device) -> float | None:
    if size.task != "generation":
        return None
    t = torch.linspace(0, 1, size.length, device=where)
    generator = torch.Generator(where).manual_seed(0)
    return timed(lambda: model.eval().sample(SAMPLES, t, generator), where)
