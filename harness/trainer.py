"""Train one cell: any model, one loop, resumable at any moment.

Output, in the cell's directory: ``weights.safetensors`` (what is scored: the moving average of the
weights where there is one), ``history.jsonl`` (a row every few steps) and ``train.json`` (how it
ended and what it cost). A checkpoint beside them is written every few minutes and removed at the
end; whoever starts the same cell again goes on from it and ends with the same weights.
"""

import json
import math
import re
import resource
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from safetensors.torch import load_file, save_file
from torch.nn.utils import clip_grad_norm_
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, get_swa_multi_avg_fn

from datasets.base import Dataset
from datasets.files import replacing
from datasets.progress import progress
from harness.batches import View, batch_indices, steps_per_epoch, view
from harness.config import Training, check, load, model_config
from harness.contract import Diverged, Loss, Model, Optimisation, Shape, Task
from harness.errors import UserError
from harness.grid import code_hash, digest
from harness.records import Ending, Status, circumstances, write_json, write_text

NO_MEMORY = "can't allocate memory|ALLOC_FAILED|std::bad_alloc|DFTI ERROR"
BATCH = 128  # series that are validated, or sampled, at once; more are not validated
FROZEN = 1e-4  # a plateau schedule whose rates are below this share of their start moves nothing


@dataclass(frozen=True)
class Outcome:
    """How a training ended, its cost and circumstances; the content of ``train.json``."""

    status: Status
    reason: str | None
    ended: Ending | None
    steps: int
    seconds: float
    peak_memory_bytes: int
    parameters: int
    config_hash: str
    code_hash: str
    circumstances: dict[str, Any]  # `records.circumstances` of the training


class _TimeLimit(Exception):
    pass


def build(spec: dict[str, Any], dataset: Dataset, device: torch.device) -> Model:
    """Build the model of a resolved training spec (`harness.grid.training_spec`).

    Initial weights come from torch's global stream on the CPU, seeded inside a fork: nothing leaks
    out.

    Raises
    ------
    UserError
        If the class or its configuration is wrong, or does not suit the data.
    """
    where = f"config/models/{spec['model']}.yaml"
    model_class = load(spec["class"])
    if spec["task"] not in model_class.tasks:
        raise UserError(
            f"{where}: expected a model of {spec['task']}, found one of"
            f" {', '.join(sorted(model_class.tasks))}"
        )
    config = model_config(model_class, spec["config"], where)
    shape = Shape(*dataset.x.shape[1:])
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(spec["seed"])
        try:
            model = model_class(config, shape)
        except ValueError as error:  # such as a length that pooling does not divide
            raise UserError(f"{where}, data set {dataset.name}: {error}") from None
    return model.to(device)


def calibrate(model: Model, dataset: Dataset, task: Task) -> None:
    """Show a new model the training series."""
    if type(model).calibrate is not Model.calibrate:
        device = next(model.parameters()).device
        with torch.no_grad():
            model.calibrate(View(dataset, task).batch(dataset.train).to(device))


def load_trained(
    spec: dict[str, Any], dataset: Dataset, weights: Path, device: torch.device
) -> Model:
    """Build a model and load its trained weights."""
    model = build(spec, dataset, device)
    model.load_state_dict(load_file(weights))
    return model.eval()


def spec_code_hash(spec: dict[str, Any]) -> str:
    """Hash of the code that a training's result depends on: the model's and this trainer's."""
    return code_hash(spec["class"].split(":")[0], __name__)


def train(spec: dict[str, Any], dataset: Dataset, directory: Path, device: torch.device) -> Outcome:
    """Train the cell that `spec` describes, or go on with it, and write its output.

    Divergence, time-out and lack of memory end the training with that status; only a mistake in
    the program or in its use raises.
    """
    directory.mkdir(parents=True, exist_ok=True)
    run = _Run(spec, dataset, directory / "ckpt" / "checkpoint.pt", device)
    status, reason = "done", None
    try:
        with naming_lack_of_memory():
            run.steps()
    except Diverged as error:
        status, reason = "diverged", f"step {run.step}: {error}"
    except _TimeLimit:
        limit = f"{run.settings.time_limit:g} min"
        status, reason = "timeout", f"stopped after {limit} at step {run.step}"
    except OutOfMemory as error:
        status, reason = "oom", f"step {run.step}: {error}"
    outcome = Outcome(
        status=status,
        reason=reason,
        ended=run.ended if status == "done" else None,
        steps=run.step,
        seconds=run.seconds(),
        peak_memory_bytes=peak_memory(device),
        parameters=sum(p.numel() for p in run.model.parameters()),
        config_hash=digest(spec),
        code_hash=spec_code_hash(spec),
        circumstances=circumstances(device),
    )
    _write(directory, run.scored().state_dict(), run.history, outcome)
    shutil.rmtree(run.checkpoint.parent, ignore_errors=True)
    return outcome


def skip(spec: dict[str, Any], reason: str, directory: Path, device: torch.device) -> Outcome:
    """Write the output of a cell whose data cannot be had."""
    outcome = Outcome(
        status="skipped",
        reason=reason,
        ended=None,
        steps=0,
        seconds=0.0,
        peak_memory_bytes=0,
        parameters=0,
        config_hash=digest(spec),
        code_hash=spec_code_hash(spec),
        circumstances=circumstances(device),
    )
    _write(directory, {}, [], outcome)
    return outcome


def _write(
    directory: Path, state: dict[str, torch.Tensor], history: list[dict], outcome: Outcome
) -> None:
    with replacing(directory / "weights.safetensors") as part:
        save_file({name: value.contiguous() for name, value in state.items()}, part)
    write_text(directory / "history.jsonl", "".join(json.dumps(row) + "\n" for row in history))
    write_json(directory / "train.json", asdict(outcome))


class OutOfMemory(Exception):
    """The device or the machine has too little memory; the message is the allocator's."""


@contextmanager
def naming_lack_of_memory() -> Iterator[None]:
    """Turn the many ways in which allocations fail into `OutOfMemory`."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        # torch.OutOfMemoryError is a RuntimeError; the CPU's allocator, C++ and the libraries of
        # CUDA raise plain ones. Where MKL has no memory, it says that a transform's settings are
        # inconsistent.
        text = str(error).partition("\n")[0] or type(error).__name__
        kinds = (MemoryError, torch.OutOfMemoryError)
        if isinstance(error, kinds) or re.search(NO_MEMORY, str(error)):
            raise OutOfMemory(text) from error
        raise


def descend(loss: Loss, optimisation: Optimisation) -> None:
    """Take one step down a loss.

    Raises
    ------
    Diverged
        If the gradient is to be clipped and its norm is not finite.
    """
    optimisation.optimiser.zero_grad(set_to_none=True)
    loss.value.backward()
    if optimisation.max_norm is not None:
        groups = optimisation.optimiser.param_groups
        parameters = [p for group in groups for p in group["params"]]
        norm = clip_grad_norm_(parameters, optimisation.max_norm).item()
        if not math.isfinite(norm):
            raise Diverged(f"gradient norm {norm}")
    optimisation.optimiser.step()


def peak_memory(device: torch.device) -> int:
    """Highest memory use so far in bytes: of the GPU's tensors, or of this process on the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


class _Run:
    """The state of one training: all that a checkpoint holds, and the loop that moves it."""

    def __init__(
        self, spec: dict[str, Any], dataset: Dataset, checkpoint: Path, device: torch.device
    ):
        self.spec = spec
        self.dataset = dataset
        self.view = view(spec, dataset)
        self.device = device
        self.checkpoint = checkpoint
        where = f"config/models/{spec['model']}.yaml: training.{spec['budget']}"
        self.settings = check(Training, spec["training"], where)
        self.model = build(spec, dataset, device)
        calibrate(self.model, dataset, spec["task"])
        self.optimisers = self.model.optimisers()
        self.first_rates = {name: _rates(o) for name, o in self.optimisers.items()}
        self.average = None
        if self.settings.average_from is not None:
            decay = self.settings.ema_decay
            mean = get_swa_multi_avg_fn() if decay is None else get_ema_multi_avg_fn(decay)
            self.average = AveragedModel(self.model, multi_avg_fn=mean)
        self.generator = torch.Generator(device).manual_seed(spec["seed"])
        self.step = 0
        self.history: list[dict[str, float]] = []
        self.window: list[dict[str, float]] = []  # logs since the last row of the history
        self.epoch_losses: list[float] = []
        self._before = 0.0  # seconds spent by earlier processes on this cell
        self._start = time.monotonic()
        self._resume()

    def seconds(self) -> float:
        return self._before + time.monotonic() - self._start

    def scored(self) -> Model:
        """The model whose samples are scored: the moving average once it has begun."""
        if self.average is not None and int(self.average.n_averaged) > 0:
            assert isinstance(self.average.module, Model)
            return self.average.module
        return self.model

    # -- the loop --------------------------------------------------------------------------------

    @property
    def ended(self) -> Ending | None:
        """Why there is no step after the one just taken; None while there is one."""
        if self.step >= self.settings.steps:
            return "steps"
        return "frozen" if self._frozen() else None

    def _frozen(self) -> bool:
        """Whether plateau schedules have brought every learning rate to next to nothing.

        A plain mean of the weights goes on all the same: its limit is not the last weights.
        """
        return self.settings.swa_start is None and all(
            isinstance(o.schedule, ReduceLROnPlateau)
            and all(
                now < FROZEN * first
                for now, first in zip(_rates(o), self.first_rates[name], strict=True)
            )
            for name, o in self.optimisers.items()
        )

    def steps(self) -> None:
        """Run to the end; the moving average goes to its limit where the weights stand still."""
        last_save = time.monotonic()
        limit = self.settings.time_limit
        with _progress(self.spec["model"], self.settings.steps, self.step) as advance:
            while self.ended is None:
                if limit is not None and self.seconds() > 60 * limit:
                    raise _TimeLimit
                self._one_step()
                advance(f"loss {self.epoch_losses[-1] if self.epoch_losses else math.nan:.4g}")
                if time.monotonic() - last_save >= 60 * self.settings.checkpoint_every:
                    self.save()
                    last_save = time.monotonic()
        if self.ended == "frozen" and self.average is not None:
            self.average.module.load_state_dict(self.model.state_dict())

    def _one_step(self) -> None:
        settings, train = self.settings, self.dataset.train
        indices = batch_indices(train, settings.batch_size, self.step, self.spec["seed"])
        batch = self.view.batch(indices).to(self.device)
        self.model.train()
        logs: dict[str, float] = {}
        for loss in self.model.training_step(batch, self.step, self.generator):
            value = loss.value.item()
            if not math.isfinite(value):
                raise Diverged(f"loss {value}")
            optimisation = self.optimisers[loss.optimiser]
            descend(loss, optimisation)
            if optimisation.schedule is not None and optimisation.interval == "step":
                optimisation.schedule.step()
            prefix = "" if loss.optimiser == "main" else f"{loss.optimiser}/"
            logs[f"{prefix}loss"] = value
            logs |= {f"{prefix}{name}": v.item() for name, v in loss.logs.items()}
        self.step += 1
        if self.average is not None and self.step > (settings.average_from or 0):
            self.average.update_parameters(self.model)
        self.window.append(logs)
        self.epoch_losses.append(next(iter(logs.values())))
        if self.step % steps_per_epoch(len(train), settings.batch_size) == 0:
            self._end_epoch()
        if self.step % settings.log_every == 0 or self.ended is not None:
            self._log()

    def _end_epoch(self) -> None:
        mean = sum(self.epoch_losses) / len(self.epoch_losses)
        for optimisation in self.optimisers.values():
            if optimisation.schedule is not None and optimisation.interval == "epoch":
                _advance(optimisation, mean)
        self.epoch_losses.clear()

    def _log(self) -> None:
        row: dict[str, float] = {"step": self.step}
        for name in dict.fromkeys(name for logs in self.window for name in logs):
            row[name] = fmean(logs[name] for logs in self.window if name in logs)
        for name, optimisation in self.optimisers.items():
            key = "lr" if name == "main" else f"{name}/lr"
            row[key] = optimisation.optimiser.param_groups[0]["lr"]
        row |= self._validate()
        self.history.append(row)
        self.window.clear()

    @torch.no_grad()
    def _validate(self) -> dict[str, float]:
        """Loss on validation series, always with the same noise; watched, never selected on."""
        if type(self.model).loss is Model.loss:
            return {}
        self.model.eval()
        generator = torch.Generator(self.device).manual_seed(0)
        indices = self.dataset.validation
        some = indices[:: -(-len(indices) // BATCH)]
        batch = self.view.batch(some).to(self.device)
        value = self.model.loss(batch, self.step, generator).value.item()
        return {"validation_loss": value} if math.isfinite(value) else {}

    # -- checkpoints -----------------------------------------------------------------------------

    def _key(self) -> str:
        """What a checkpoint must agree with to be continued."""
        data = [self.dataset.data_digest, self.dataset.split_digest]
        device = self.device.type  # states of generators differ
        return digest([self.spec, spec_code_hash(self.spec), *data, device])

    def save(self) -> None:
        """Write the checkpoint, whole or not at all."""
        state = {
            "key": self._key(),
            "step": self.step,
            "seconds": self.seconds(),
            "model": self.model.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "optimisers": {k: o.optimiser.state_dict() for k, o in self.optimisers.items()},
            "schedules": {
                k: o.schedule.state_dict()
                for k, o in self.optimisers.items()
                if o.schedule is not None
            },
            "generator": self.generator.get_state(),
            "history": self.history,
            "window": self.window,
            "epoch_losses": self.epoch_losses,
        }
        with replacing(self.checkpoint) as part:
            torch.save(state, part)

    def _resume(self) -> None:
        if not self.checkpoint.exists():
            return
        state = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
        if state["key"] != self._key():
            print(
                f"{self.checkpoint}: made with another configuration, code or data; not used,"
                " starting afresh",
                file=sys.stderr,
            )
            return
        self.model.load_state_dict(state["model"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        for name, optimisation in self.optimisers.items():
            optimisation.optimiser.load_state_dict(state["optimisers"][name])
            if optimisation.schedule is not None:
                optimisation.schedule.load_state_dict(state["schedules"][name])
        self.generator.set_state(state["generator"])
        self.step = state["step"]
        self.history, self.window = state["history"], state["window"]
        self.epoch_losses = state["epoch_losses"]
        self._before = state["seconds"]
        print(f"{self.checkpoint}: going on from step {self.step}", file=sys.stderr)


def _rates(optimisation: Optimisation) -> list[float]:
    return [float(group["lr"]) for group in optimisation.optimiser.param_groups]


def _advance(optimisation: Optimisation, epoch_loss: float) -> None:
    if isinstance(optimisation.schedule, ReduceLROnPlateau):
        optimisation.schedule.step(epoch_loss)
    else:
        optimisation.schedule.step()


@contextmanager
def _progress(title: str, total: int, done: int = 0) -> Iterator[Callable[[str], None]]:
    """Show how far the training is, where there is a terminal; yields ``advance(note)``."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeRemainingColumn(),
    )
    with progress(*columns) as bar:
        task = bar.add_task(title, total=total, completed=done, note="")
        yield lambda note: bar.update(task, advance=1, note=note)
