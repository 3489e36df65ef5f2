"""Commands that run cells: train, score, follow."""

from pathlib import Path

from harness.cli.common import (
    CELL,
    DESCRIPTION,
    EVALUATION,
    OUT,
    PREPARED,
    Add,
    because,
    read_scoring,
    written,
)
from harness.errors import UserError


def add_commands(add: Add) -> None:
    """Add the commands of this module to the parser."""
    sub = add(train)
    sub.add_argument("cell", **CELL)
    sub.add_argument("--data", **PREPARED)

    sub = add(evaluate)
    sub.add_argument("cell", **CELL)
    sub.add_argument("--data", **PREPARED)
    sub.add_argument("--description", **DESCRIPTION)
    sub.add_argument("--evaluation", **EVALUATION)

    sub = add(power)
    sub.add_argument("--data", **PREPARED)
    sub.add_argument("--description", **DESCRIPTION)
    sub.add_argument("--evaluation", **EVALUATION)
    sub.add_argument("--out", **OUT)

    sub = add(trace)
    sub.add_argument("cell", **CELL)
    sub.add_argument("--steps", type=int, nargs="+", required=True, help="optimiser steps")
    sub.add_argument("--data", **PREPARED)
    sub.add_argument("--description", **DESCRIPTION)
    sub.add_argument("--evaluation", **EVALUATION)


def train(cell: Path, data: Path) -> int:
    """Train a cell, or go on with it."""
    from datasets.base import Dataset, Unavailable
    from harness.cells import CellSpec, read_cell
    from harness.run.devices import device
    from harness.run.generation import check_scorable
    from harness.run.train import skip, train

    spec = read_cell(cell)
    if not isinstance(spec, CellSpec):
        raise UserError(f"{cell}: expected the cell of a model, found the control {spec.model}")
    with device() as where:
        try:
            dataset = Dataset.load(data)
        except Unavailable as missing:
            outcome = skip(spec, str(missing), cell, where)
        else:
            if spec.task == "generation":
                check_scorable(dataset)
            outcome = train(spec, dataset, cell, where)
    print(
        f"{outcome.status}: {outcome.steps} steps in {outcome.seconds:.1f} s"
        + because(outcome.reason)
    )
    return 0


def evaluate(cell: Path, data: Path, description: Path, evaluation: Path) -> int:
    """Score a trained cell or a control and write its record."""
    from datasets.base import Dataset, Unavailable
    from datasets.files import sha256
    from harness import records
    from harness.cells import CellSpec, read_cell
    from harness.run import summary
    from harness.run.devices import device
    from harness.run.evaluate import Evaluated, evaluate_control, evaluate_model, skipped
    from harness.run.generation import ScoringSetup, check_scorable
    from harness.run.outcome import read_outcome

    spec = read_cell(cell)
    scoring = read_scoring(description, evaluation)
    with device() as where:
        try:
            setup = ScoringSetup(Dataset.load(data), scoring)
        except Unavailable as missing:
            done = Evaluated(skipped(spec, scoring, str(missing), where), {}, {})
        else:
            if spec.task == "generation":
                check_scorable(setup.dataset)
            if isinstance(spec, CellSpec):
                outcome = read_outcome(cell)
                weights = cell / "weights.safetensors"
                done = evaluate_model(spec, setup, outcome, weights, where)
            else:
                done = evaluate_control(spec, setup, where)
    samples = {} if done.samples is None else {"samples": done.samples}
    arrays = {"summary.npz": done.summary, "samples.npz": samples, "errors.npz": done.errors}
    for name, content in arrays.items():
        summary.write(cell / name, content)
    files = {name: sha256(cell / name) for name in arrays}
    records.write(done.record.model_copy(update={"files": files}), cell / "record.json")
    print(done.record.status + because(done.record.reason))
    return 0


def power(data: Path, description: Path, evaluation: Path, out: Path) -> int:
    """Measure which known faults the two-sample tests can see on a data set."""
    from datasets.base import Dataset
    from harness import records
    from harness.run.generation import ScoringSetup
    from harness.run.power import measure_power

    setup = ScoringSetup(Dataset.load(data), read_scoring(description, evaluation))
    records.write(measure_power(setup), out)
    return written([out])


def trace(cell: Path, steps: list[int], data: Path, description: Path, evaluation: Path) -> int:
    """Follow a cell's scores over its training, past the step where it stops."""
    from datasets.base import Dataset
    from harness.cells import CellSpec, read_cell
    from harness.run.devices import device
    from harness.run.generation import ScoringSetup
    from harness.run.trace import trace

    spec = read_cell(cell)
    if not isinstance(spec, CellSpec) or spec.task != "generation":
        raise UserError(f"{cell}: expected a model's cell of generation, found {spec.model}")
    setup = ScoringSetup(Dataset.load(data), read_scoring(description, evaluation))
    with device() as where:
        found = trace(spec, setup, steps, cell, where)
    print(f"{len(found.points)} points")
    return 0
