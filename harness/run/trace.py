"""A trace: the scores of a cell at given steps of its training, past the step where it stops.

The cell's training is repeated from the beginning with the same random streams, so the cell's own
scores are one point of the trace. It shows what stopping earlier or later would have given."""

import shutil
from pathlib import Path

import torch

from harness.cells import CellSpec
from harness.contract import Diverged
from harness.records import write
from harness.run import generation
from harness.run.build import build
from harness.run.generation import ScoringSetup
from harness.run.outcome import read_weights
from harness.run.train import CHECKPOINT, Run
from harness.run.validate import Validator
from harness.run.view import view
from harness.traces import TRACE, Point, Trace
from metrics.network import Unscorable


def trace(
    spec: CellSpec, setup: ScoringSetup, steps: list[int], directory: Path, device: torch.device
) -> Trace:
    """Train a cell of generation once more and score it after each of some steps.

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
    run = Run(spec, setup.dataset, folder / CHECKPOINT, device)
    reason = None
    try:
        run.steps(until=max(steps), keep=steps, kept=folder)
    except Diverged as error:
        reason = f"step {run.step}: {error}"
    points = [_point(spec, setup, step, folder, device, reason) for step in sorted(steps)]
    found = Trace(config_hash=spec.digest, points=points)
    write(found, directory / TRACE)
    shutil.rmtree(folder)
    return found


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
        return Point(step=step, validation_loss=None, scores=[], reason=reason)
    model = build(spec, setup.dataset, device)
    model.load_state_dict(read_weights(weights))
    losses = Validator(view(spec, setup.dataset), device).losses(model)
    loss = None if losses is None else float(losses.mean())
    try:
        samples = generation.draw(spec, setup.dataset, weights, device)
        scores, _ = generation.score(setup, samples, device)
    except (Diverged, Unscorable) as error:
        return Point(step=step, validation_loss=loss, scores=[], reason=str(error))
    return Point(step=step, validation_loss=loss, scores=scores)
