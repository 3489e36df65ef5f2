"""A trace: the scores of a cell at given steps of its training, past the step where it stops.

The cell's training is repeated from the beginning with the same random streams, so the cell's own
scores are one point of the trace. It shows what stopping earlier or later would have given."""

import shutil
from pathlib import Path

import torch

from harness.cells import CellSpec, Scoring
from harness.contract import Diverged
from harness.records import write
from harness.run import generation
from harness.run.build import load_trained
from harness.run.generation import ScoringSetup
from harness.run.memory import OutOfMemory, raising_out_of_memory
from harness.run.train import CHECKPOINT, Run
from harness.run.validate import Validator
from harness.run.view import view
from harness.traces import TRACE, Point, Trace
from metrics.network import Unscorable


def trace(
    spec: CellSpec, setup: ScoringSetup, steps: list[int], directory: Path, device: torch.device
) -> Trace:
    """Train a cell of generation once more and score it after each of some steps.

    A step that divergence, time-out or lack of memory kept from being scored is a point without
    scores that says so.

    Parameters
    ----------
    steps : list of int
        Optimiser steps; the training goes on to the last of them.
    directory : Path
        The cell's. What is needed meanwhile, weights and a checkpoint, lies in ``trace/`` below it
        and is removed at the end.

    Raises
    ------
    UserError
        If the data are too few or too plain for scores of samples.
    """
    generation.check_scorable(setup.dataset)
    folder = directory / "trace"
    try:
        with raising_out_of_memory():
            run = Run(spec, setup.dataset, folder / CHECKPOINT, device)
    except OutOfMemory as error:
        return untraced(spec, setup.scoring, steps, f"building the model: {error}", directory)
    _, reason = run.steps(until=max(steps), keep=steps, kept=folder)
    points = [_point(spec, setup, step, folder, device, reason) for step in sorted(steps)]
    shutil.rmtree(folder, ignore_errors=True)  # there is none if no step was kept
    return _write(spec, setup.scoring, points, directory)


def untraced(
    spec: CellSpec, scoring: Scoring, steps: list[int], reason: str, directory: Path
) -> Trace:
    """Write the trace of a cell whose data cannot be had, or not be read."""
    return _write(spec, scoring, [_lost(step, reason) for step in sorted(steps)], directory)


def _write(spec: CellSpec, scoring: Scoring, points: list[Point], directory: Path) -> Trace:
    found = Trace(config_hash=scoring.digest_of(spec), points=points)
    write(found, directory / TRACE)
    return found


def _lost(step: int, reason: str | None, loss: float | None = None) -> Point:
    return Point(step=step, validation_loss=loss, scores=[], reason=reason)


def _point(
    spec: CellSpec,
    setup: ScoringSetup,
    step: int,
    folder: Path,
    device: torch.device,
    reason: str | None,
) -> Point:
    weights = folder / f"{step}.safetensors"
    if not weights.exists():
        return _lost(step, reason)
    loss = None
    try:
        with raising_out_of_memory():
            model = load_trained(spec, setup.dataset, weights, device)
            seen = view(spec, setup.dataset)
            losses = Validator(seen, device, spec.training.batch_size).losses(model)
            loss = None if losses is None else float(losses.mean())
            samples = generation.draw(model, spec, setup.dataset, device)
            scores, _ = generation.score(setup, samples, device)
    except (Diverged, Unscorable) as error:
        return _lost(step, str(error), loss)
    except OutOfMemory as error:
        return _lost(step, f"sampling or scoring: {error}", loss)
    return Point(step=step, validation_loss=loss, scores=scores)
