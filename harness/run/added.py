"""Samples or predictions that a user brings in files, scored as rows of the benchmark's tables."""

from collections.abc import Sequence
from pathlib import Path

import torch

from datasets.files import opened, sha256
from harness import catalogue
from harness.cells import AddedSpec, Cell
from harness.config import Protocol
from harness.errors import UserError
from harness.records import RECORD
from harness.run.answers import read_answer
from harness.run.evaluate import Evaluated, evaluate_answer
from harness.run.generation import ScoringSetup, check_scorable
from harness.run.view import view
from harness.tasks import HIDING, Task


def check_row(name: str, budget: str, folders: Sequence[Path]) -> None:
    """Refuse a row that cannot be added.

    Raises
    ------
    UserError
        If its name is no name or taken, there is no such budget, or it has records.
    """
    if not (name.isidentifier() and name.isascii()):
        raise UserError(f"name: expected letters, digits and underscores, found {name!r}")
    if name in catalogue.available("models") or name in catalogue.all_controls():
        raise UserError(f"name: expected a new one, found that of the row {name!r}")
    if budget not in catalogue.budgets():
        known = ", ".join(catalogue.budgets())
        raise UserError(f"budget: expected one of {known}, found {budget!r}")
    for folder in folders:
        if (folder / RECORD).exists():
            raise UserError(f"{folder}: has a record; remove it, or choose another name")


def folders_of(
    records: Path, budget: str, task: Task, dataset: str, name: str, n: int
) -> list[Path]:
    """Return the directories of a row's cells, for seeds 0, 1, ..., n - 1."""
    cells = (Cell(task, dataset, name, seed, control=False) for seed in range(n))
    return [records / budget / cell.path for cell in cells]


def add(
    setup: ScoringSetup,
    task: Task,
    name: str,
    budget: str,
    files: Sequence[Path],
    notes: dict[str, str],
    folders: Sequence[Path],
) -> None:
    """Score the file of each seed and write its record, after all of them are scored.

    Raises
    ------
    UserError, DataError
        If a file does not hold what the task asks for, or cannot be scored. Nothing is written.
    """
    if task == "generation":
        check_scorable(setup.dataset)
    protocol = Protocol() if task in HIDING else None
    answers = []
    first: dict[str, Path] = {}
    for seed, file in enumerate(files):
        with opened(file):  # or it says why not
            content = sha256(file)
        if content in first:
            raise UserError(
                f"{file}: expected a file for each training seed, found the content of"
                f" {first[content]}"
            )
        first[content] = file
        spec = AddedSpec(
            task=task,
            dataset=setup.dataset.name,
            model=name,
            seed=seed,
            budget=budget,
            file=file.name,
            sha256=content,
            notes=notes,
            protocol=protocol,
        )
        answers.append((spec, read_answer(file, view(spec, setup.dataset))))
    done: list[Evaluated] = []
    for file, (spec, answer) in zip(files, answers, strict=True):
        evaluated = evaluate_answer(spec, setup, None, answer, torch.device("cpu"))
        if evaluated.record.status != "done":
            raise UserError(f"{file}: {evaluated.record.reason}")
        done.append(evaluated)
    for evaluated, folder in zip(done, folders, strict=True):
        evaluated.write(folder)
