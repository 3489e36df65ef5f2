"""Train one cell: any model, one loop, resumable at any moment.

Output, in the cell's directory: ``weights.safetensors`` (what is scored), ``last.safetensors`` (the
last weights, where others are scored), ``history.jsonl`` (a row every few steps) and ``train.json``
(how it ended and what it cost). Both are moving averages where the budget asks for one. A
checkpoint beside them is written every few minutes and removed at the end; whoever starts the same
cell again goes on from it and ends with the same weights.

With a `patience`, a training ends when the validation loss (`harness.run.validate`) has not
improved for so many steps, warm-up apart, and the weights of the best one are scored."""

import math
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from torch.nn.utils import clip_grad_norm_
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, get_swa_multi_avg_fn

from datasets.base import Dataset
from datasets.progress import progress
from harness.cells import CellSpec
from harness.contract import Diverged, Loss, Model, Optimisation
from harness.records import Ending, Status, circumstances
from harness.run.build import build, calibrate
from harness.run.checkpoints import Checkpoint
from harness.run.memory import OutOfMemory, peak_memory, raising_out_of_memory
from harness.run.outcome import Outcome, State, write_training, write_weights
from harness.run.streams import seed_of, torch_stream
from harness.run.validate import Losses, Validator, improved
from harness.run.view import batch_indices, steps_per_epoch, view
from harness.sources import code_hash
from harness.texts import digest

End = tuple[Status, str | None]  # how a training ended, and why
CHECKPOINT = Path("ckpt", "checkpoint.pt")  # in the cell's directory
FROZEN = 1e-4  # a plateau schedule whose rates are below this share of their start moves nothing


def training_code_hash(spec: CellSpec) -> str:
    """Hash of the code that a training's result depends on: the model's and this trainer's."""
    return code_hash(spec.class_.partition(":")[0], __name__)


def train(spec: CellSpec, dataset: Dataset, directory: Path, device: torch.device) -> Outcome:
    """Train the cell that `spec` describes, or go on with it, and write its output.

    Divergence, time-out and lack of memory end the training with that status; only a mistake in
    the program or in its use raises.
    """
    directory.mkdir(parents=True, exist_ok=True)
    # of the code that runs, even if its files change before the training ends
    code, begun_in = training_code_hash(spec), circumstances(device)
    try:
        with raising_out_of_memory():
            run = Run(spec, dataset, directory / CHECKPOINT, device)
    except OutOfMemory as error:
        return not_begun(spec, "oom", f"building the model: {error}", directory, device)
    status, reason = run.steps()
    outcome = Outcome(
        status=status,
        reason=reason,
        ended=run.ended if status == "done" else None,
        steps=run.step,
        best_step=run.best_step,
        best_validation_loss=_mean(run.best_losses),
        last_validation_loss=_mean(run.last_losses),
        seconds=run.seconds(),
        peak_memory_bytes=peak_memory(device),
        parameters=sum(p.numel() for p in run.model.parameters()),
        config_hash=spec.digest,
        code_hash=code,
        circumstances=begun_in,
    )
    last = run.averaged().state_dict()
    if run.best_state is None:
        write_training(directory, outcome, run.history, last)
    else:
        write_training(directory, outcome, run.history, run.best_state, last)
    run.checkpoint.remove()
    return outcome


def not_begun(
    spec: CellSpec, status: Status, reason: str, directory: Path, device: torch.device
) -> Outcome:
    """Write the output of a cell whose training takes no step."""
    outcome = Outcome(
        status=status, reason=reason, ended=None, seconds=0.0, peak_memory_bytes=0, parameters=0,
        steps=0, best_step=None, best_validation_loss=None, last_validation_loss=None,
        config_hash=spec.digest, code_hash=training_code_hash(spec),
        circumstances=circumstances(device),
    )  # fmt: skip
    write_training(directory, outcome, [], {})
    return outcome


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


class Run:
    """The state of one training: all that a checkpoint holds, and the loop that moves it.

    Parameters
    ----------
    spec, dataset
        Of the cell.
    checkpoint : Path
        Where it is written, and read at the start if there is one.
    device : torch.device
    """

    def __init__(self, spec: CellSpec, dataset: Dataset, checkpoint: Path, device: torch.device):
        self.spec = spec
        self.dataset = dataset
        self.view = view(spec, dataset)
        self.device = device
        self.settings = spec.training
        # the device, since states of generators differ
        made_from = [spec.digest, training_code_hash(spec), dataset.data_digest]
        key = digest([*made_from, dataset.split_digest, device.type])
        self.checkpoint = Checkpoint(checkpoint, key)
        self.model = build(spec, dataset, device)
        calibrate(self.model, dataset, spec.task)
        self.optimisers = self.model.optimisers()
        self.first_rates = {name: _rates(o) for name, o in self.optimisers.items()}
        self.average = None
        if self.settings.average_from is not None:
            decay = self.settings.ema_decay
            mean = get_swa_multi_avg_fn() if decay is None else get_ema_multi_avg_fn(decay)
            self.average = AveragedModel(self.model, multi_avg_fn=mean)
        self.validator = Validator(self.view, device, self.settings.batch_size)
        self.generator = torch_stream(spec, "training", device)
        self.batch_seed = seed_of(spec, "batches")
        self.step = 0
        self.best_step: int | None = None
        self.best_losses: Losses | None = None
        self.best_state: State | None = None
        self.last_losses: Losses | None = None
        self.history: list[dict[str, float]] = []
        self.window: list[dict[str, float]] = []  # logs since the last row of the history
        self.epoch_losses: list[float] = []
        self._seconds_before = 0.0  # seconds spent by earlier processes on this cell
        self._start = time.monotonic()
        self._resume()

    def seconds(self) -> float:
        return self._seconds_before + time.monotonic() - self._start

    def averaged(self) -> Model:
        """Return the moving average of the weights once it has begun, else the model itself."""
        if self.average is not None and int(self.average.n_averaged) > 0:
            assert isinstance(self.average.module, Model)
            return self.average.module
        return self.model

    # -- the loop --------------------------------------------------------------------------------

    @property
    def ended(self) -> Ending | None:
        """Why there is no step after the one just taken; None while there is one."""
        settings = self.settings
        if settings.patience is not None and self.best_step is not None:
            since = max(self.best_step, self.model.warm_up)
            if self.step - since >= settings.patience:
                return "patience"
        if self.step >= settings.steps:
            chosen = settings.patience is not None and self.best_step is not None
            return "cap" if chosen else "steps"
        return "frozen" if self._frozen() else None

    def _frozen(self) -> bool:
        """Whether plateau schedules have brought every learning rate to next to nothing.

        A plain mean of the weights goes on all the same: its limit is not the last weights.
        """
        if self.settings.swa_start is not None or not self.optimisers:
            return False
        return all(
            isinstance(o.schedule, ReduceLROnPlateau)
            and all(
                now < FROZEN * first
                for now, first in zip(_rates(o), self.first_rates[name], strict=True)
            )
            for name, o in self.optimisers.items()
        )

    def steps(self, until: int = 0, keep: Collection[int] = (), kept: Path | None = None) -> End:
        """Run to the end, or at least to step `until`, and return how it ended.

        Divergence, time-out and lack of memory end it with that status.

        Parameters
        ----------
        until : int
            Steps that are taken whatever ends the training: for a trace.
        keep : steps
            After each of which the averaged weights are written.
        kept : Path, optional
            Folder of these, ``<step>.safetensors``.
        """
        try:
            with raising_out_of_memory():
                return self._steps(until, keep, kept)
        except Diverged as error:
            return "diverged", f"step {self.step}: {error}"
        except OutOfMemory as error:
            return "oom", f"step {self.step}: {error}"

    def _steps(self, until: int, keep: Collection[int], kept: Path | None) -> End:
        last_save = time.monotonic()
        limit = self.settings.time_limit
        with _progress(self.spec.model, max(self.settings.steps, until), self.step) as advance:
            while self.ended is None or self.step < until:
                if limit is not None and self.seconds() > 60 * limit:
                    return "timeout", f"stopped after {limit:g} min at step {self.step}"
                self._one_step()
                advance(f"loss {self.epoch_losses[-1] if self.epoch_losses else math.nan:.4g}")
                if kept is not None and self.step in keep:
                    write_weights(kept / f"{self.step}.safetensors", self.averaged().state_dict())
                if time.monotonic() - last_save >= 60 * self.settings.checkpoint_every:
                    self.save()
                    last_save = time.monotonic()
        if self.ended == "frozen":
            if self.average is not None:  # its limit, since the weights no longer move
                self.average.module.load_state_dict(self.model.state_dict())
            self.last_losses = self.validator.losses(self.averaged())
        return "done", None

    def _one_step(self) -> None:
        settings, train = self.settings, self.dataset.train
        indices = batch_indices(train, settings.batch_size, self.step, self.batch_seed)
        batch = self.view.batch(indices).to(self.device)
        self.model.train()
        logs: dict[str, float] = {}
        for loss in self.model.training_step(batch, self.step, self.generator):
            value = loss.value.item()
            if not math.isfinite(value):
                raise Diverged(f"loss {value}")
            if self.optimisers:
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
        if self.step % settings.validation_interval == 0 or self.step == settings.steps:
            self._validate()
        if self.step % settings.log_every == 0 or self.ended is not None:
            self._log()

    def _end_epoch(self) -> None:
        mean = sum(self.epoch_losses) / len(self.epoch_losses)
        for optimisation in self.optimisers.values():
            if optimisation.schedule is not None and optimisation.interval == "epoch":
                _advance(optimisation, mean)
        self.epoch_losses.clear()

    def _validate(self) -> None:
        """Compute the validation loss and, with a patience, keep the weights if it is better."""
        losses = self.validator.losses(self.averaged())
        self.last_losses = losses
        if losses is None:
            return
        self.window.append({"validation_loss": float(losses.mean())})
        if self.settings.patience is not None and improved(self.best_losses, losses):
            self.best_step, self.best_losses = self.step, losses
            state = self.averaged().state_dict()
            self.best_state = {name: value.detach().clone() for name, value in state.items()}

    def _log(self) -> None:
        row: dict[str, float] = {"step": self.step}
        for name in dict.fromkeys(name for logs in self.window for name in logs):
            mean = fmean(logs[name] for logs in self.window if name in logs)
            row |= {name: mean} if math.isfinite(mean) else {}
        for name, optimisation in self.optimisers.items():
            key = "lr" if name == "main" else f"{name}/lr"
            row[key] = optimisation.optimiser.param_groups[0]["lr"]
        self.history.append(row)
        self.window.clear()

    # -- checkpoints -----------------------------------------------------------------------------

    def save(self) -> None:
        """Write the checkpoint."""
        self.checkpoint.save(
            {
                "step": self.step,
                "seconds": self.seconds(),
                "model": self.model.state_dict(),
                "average": None if self.average is None else self.average.state_dict(),
                "best_step": self.best_step,
                "best_losses": _listed(self.best_losses),
                "best_state": self.best_state,
                "last_losses": _listed(self.last_losses),
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
        )

    def _resume(self) -> None:
        """Go on from the checkpoint, if there is one."""
        state = self.checkpoint.load()
        if state is None:
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
        self.best_step, self.best_state = state["best_step"], state["best_state"]
        self.best_losses = _unlisted(state["best_losses"])
        self.last_losses = _unlisted(state["last_losses"])
        self.history, self.window = state["history"], state["window"]
        self.epoch_losses = state["epoch_losses"]
        self._seconds_before = state["seconds"]


def _mean(losses: Losses | None) -> float | None:
    return None if losses is None else float(losses.mean())


def _listed(losses: Losses | None) -> list[float] | None:
    return None if losses is None else losses.tolist()


def _unlisted(losses: list[float] | None) -> Losses | None:
    return None if losses is None else np.array(losses)


def _rates(optimisation: Optimisation) -> list[float]:
    return [float(group["lr"]) for group in optimisation.optimiser.param_groups]


def _advance(optimisation: Optimisation, epoch_loss: float) -> None:
    if isinstance(optimisation.schedule, ReduceLROnPlateau):
        optimisation.schedule.step(epoch_loss)
    else:
        optimisation.schedule.step()


@contextmanager
def _progress(title: str, total: int, done: int) -> Iterator[Callable[[str], None]]:
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
