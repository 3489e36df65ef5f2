"""What the studies of cost share: made-up data, a model for them, a training step, its time."""

import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from statistics import quantiles
from typing import Any, ParamSpec, TypeVar

import torch

from datasets.base import Dataset
from datasets.synthetic import load as sines
from harness import catalogue
from harness.cells import CellSpec
from harness.contract import FINAL_STEP, Model, Task
from harness.run.build import build, calibrate
from harness.run.train import descend
from harness.run.view import View

STEP = FINAL_STEP + 1  # odd: in even steps, TimeGAN leaves its discriminator as it is

P = ParamSpec("P")
R = TypeVar("R")


def made_up(batch: int, length: int, channels: int, observed: float = 1.0) -> Dataset:
    """Make sines with at least `batch` training series."""
    return sines(
        [],
        name="sines",
        title="Sines",
        n=max(4, 2 * batch),
        length=length,
        channels=channels,
        seed=0,
        observed=observed,
        split={"seed": 0, "fractions": [0.5, 0.25, 0.25]},
    )


def set_up(
    name: str, dataset: Dataset, task: Task, where: torch.device, size: str | None = None
) -> Model:
    """Build a model with the settings of its file, and calibrate it."""
    spec = {
        "task": task,
        "dataset": dataset.name,
        "model": name,
        "seed": 0,
        "budget": "none",
        **catalogue.settings(name, size),
        "training": {"steps": 1, "batch_size": 1},
    }
    model = build(CellSpec.model_validate(spec), dataset, where)
    calibrate(model, dataset, task)
    return model


def training_step(
    model: Model, dataset: Dataset, task: Task, batch: int, where: torch.device
) -> Callable[[], None]:
    """Return a function that takes one training step: forward, backward, optimiser."""
    series = View(dataset, task).batch(dataset.train[:batch]).to(where)
    generator = torch.Generator(where).manual_seed(0)
    optimisers = model.optimisers()

    def step() -> None:
        for loss in model.training_step(series, STEP, generator):
            if optimisers:
                descend(loss, optimisers[loss.optimiser])

    return step


def alone(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call a function in a new process, so that its peak memory is its own and CUDA is fresh."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(function, *args, **kwargs).result()


def timed(function: Callable[[], Any], where: torch.device) -> float:
    """Return the seconds that a call takes, until the device has nothing left to do."""
    synchronise = torch.cuda.synchronize if where.type == "cuda" else lambda: None
    synchronise()
    start = time.perf_counter()
    function()
    synchronise()
    return time.perf_counter() - start


def quartiles(values: list[float]) -> tuple[float, float] | None:
    """First and third quartile; None of a single value."""
    if len(values) < 2:
        return None
    low, _, high = quantiles(values, n=4, method="inclusive")
    return low, high
