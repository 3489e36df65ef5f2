"""Commands that run cells: train, command, evaluate, power, trace."""

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

    sub = add(command)
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
    from harness.run.memory import OutOfMemory, raising_out_of_memory
    from harness.run.train import not_begun, train

    spec = read_cell(cell)
    if not isinstance(spec, CellSpec):
        raise UserError(f"{cell}: expected the cell of a model, found the {spec.kind} {spec.model}")
    with device() as where:
        try:
            with raising_out_of_memory():
                dataset = Dataset.load(data)
        except Unavailable as missing:
            outcome = not_begun(spec, "skipped", str(missing), cell, where)
        except OutOfMemory as error:
            outcome = not_begun(spec, "oom", f"reading the data: {error}", cell, where)
        else:
            if spec.task == "generation":
                check_scorable(dataset)
            outcome = train(spec, dataset, cell, where)
    print(
        f"{outcome.status}: {outcome.steps} steps in {outcome.seconds:.1f} s"
        + because(outcome.reason)
    )
    return 0


def command(cell: Path, data: Path) -> int:
    """Write what the command of a cell is given, and the script that runs it."""
    from datasets.base import Dataset, Unavailable
    from harness.cells import CommandSpec, read_cell
    from harness.run.command import prepare

    spec = read_cell(cell)
    if not isinstance(spec, CommandSpec):
        raise UserError(f"{cell}: expected a command's cell, found the {spec.kind} {spec.model}")
    try:
        dataset = Dataset.load(data)
    except Unavailable:
        dataset = None  # the record will say why
    prepare(spec, dataset, cell)
    return 0


def evaluate(cell: Path, data: Path, description: Path, evaluation: Path) -> int:
    """Score a trained cell, a command's answer or a control, and write its record."""
    from datasets.base import Dataset, Unavailable
    from harness.cells import CellSpec, CommandSpec, ControlSpec, read_cell
    from harness.run.answers import read_command
    from harness.run.devices import device
    from harness.run.evaluate import evaluate_answer, evaluate_control, evaluate_model, unscored
    from harness.run.generation import ScoringSetup, check_scorable
    from harness.run.memory import OutOfMemory, raising_out_of_memory
    from harness.run.outcome import WEIGHTS, read_outcome

    spec = read_cell(cell)
    scoring = read_scoring(description, evaluation)
    with device() as where:
        try:
            with raising_out_of_memory():
                setup = ScoringSetup(Dataset.load(data), scoring)
        except Unavailable as missing:
            done = unscored(spec, scoring, "skipped", str(missing), where)
        except OutOfMemory as error:
            done = unscored(spec, scoring, "oom", f"reading the data: {error}", where)
        else:
            if spec.task == "generation":
                check_scorable(setup.dataset)
            if isinstance(spec, CellSpec):
                outcome = read_outcome(cell, spec)
                done = evaluate_model(spec, setup, outcome, cell / WEIGHTS, where)
            elif isinstance(spec, CommandSpec):
                outcome, answer = read_command(spec, setup.dataset, cell, where)
                done = evaluate_answer(spec, setup, outcome, answer, where)
            elif isinstance(spec, ControlSpec):
                done = evaluate_control(spec, setup, where)
            else:
                raise UserError(f"{cell}: expected a cell of the grid, found the {spec.kind} row")
    done.write(cell)
    print(done.record.status + because(done.record.reason))
    return 0


def power(data: Path, description: Path, evaluation: Path, out: Path) -> int:
    """Measure which known faults the two-sample tests can see on a data set."""
    from datasets.base import Dataset, Unavailable
    from harness import records
    from harness.run.generation import ScoringSetup
    from harness.run.memory import OutOfMemory, raising_out_of_memory
    from harness.run.power import measure_power, unmeasured

    scoring = read_scoring(description, evaluation)
    try:
        with raising_out_of_memory():
            dataset = Dataset.load(data)
    except Unavailable as missing:
        found = unmeasured(data.stem, scoring, str(missing))
    except OutOfMemory as error:
        found = unmeasured(data.stem, scoring, f"reading the data: {error}")
    else:
        found = measure_power(ScoringSetup(dataset, scoring))
    records.write(found, out)
    return written([out])


def trace(cell: Path, steps: list[int], data: Path, description: Path, evaluation: Path) -> int:
    """Follow a cell's scores over its training, past the step where it stops."""
    from datasets.base import Dataset, Unavailable
    from harness.cells import CellSpec, read_cell
    from harness.run.devices import device
    from harness.run.generation import ScoringSetup
    from harness.run.memory import OutOfMemory, raising_out_of_memory
    from harness.run.trace import trace, untraced

    spec = read_cell(cell)
    if not isinstance(spec, CellSpec) or spec.task != "generation":
        raise UserError(f"{cell}: expected a model's cell of generation, found {spec.model}")
    scoring = read_scoring(description, evaluation)
    try:
        with raising_out_of_memory():
            dataset = Dataset.load(data)
    except Unavailable as missing:
        found = untraced(spec, scoring, steps, str(missing), cell)
    except OutOfMemory as error:
        found = untraced(spec, scoring, steps, f"reading the data: {error}", cell)
    else:
        with device() as where:
            found = trace(spec, ScoringSetup(dataset, scoring), steps, cell, where)
    print(f"{sum(not point.reason for point in found.points)} of {len(found.points)} points")
    return 0
