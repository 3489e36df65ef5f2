"""What a grid imports and the options it gives: written down by the plan, checked before the jobs.

Planning imports neither loaders nor models, since that takes seconds and a whole environment.
"""

import dataclasses
import inspect
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from harness.cells import CellSpec, Spec
from harness.checks import check_json, check_options, load, model_config
from harness.config import DatasetFile, Strict
from harness.errors import UserError
from harness.texts import digest

GIVEN = ("name", "title", "split")  # what every loader is passed by itself


class Grid(Strict):
    """The content of ``grid.json``: data sets by name, and a cell of each different model."""

    datasets: dict[str, DatasetFile]
    models: list[CellSpec]


def describe(datasets: Mapping[str, DatasetFile], specs: Iterable[Spec]) -> Grid:
    """Return what is to be checked of a grid, each model with each of its configurations once."""
    different = {
        digest([spec.class_, spec.config, spec.task]): spec
        for spec in specs
        if isinstance(spec, CellSpec)
    }
    return Grid(datasets=dict(datasets), models=list(different.values()))


def check_grid(path: Path) -> Grid:
    """Import what a grid names and check all options.

    Raises
    ------
    UserError
        One line: the file and the key, what is wrong with it.
    """
    grid = check_json(Grid, path, "a grid that the workflow wrote")
    for name, description in grid.datasets.items():
        check_dataset(name, description)
    for spec in grid.models:
        resolve(spec)
    return grid


def check_dataset(name: str, description: DatasetFile) -> None:
    """Check the options of a data set's loader and shards; import its own scores and controls."""
    where = f"config/datasets/{name}.yaml"
    check_options(description.loader, description.options, f"{where}: options", GIVEN)
    if description.shard is not None:
        check_options(description.shard, description.shard_options, f"{where}: shard_options")
    for reference in description.scoring_references:
        load(reference)


def resolve(spec: CellSpec) -> tuple[Any, Any]:
    """Return the class of a cell's model, and its config.

    Raises
    ------
    UserError
        If there is no such class of a model, it is not for the task, or the config is wrong.
    """
    model_class = load(spec.class_)
    _check_class(spec.class_, model_class)
    if spec.task not in model_class.tasks:
        raise UserError(
            f"{spec.where}: expected a model of {spec.task}, found one of"
            f" {', '.join(sorted(model_class.tasks))}"
        )
    return model_class, model_config(model_class, spec.config, spec.where)


def _check_class(reference: str, found: Any) -> None:
    from harness.contract import Model  # loads torch

    if not (inspect.isclass(found) and issubclass(found, Model)):
        raise UserError(f"{reference}: expected a class derived from Model, found {found!r:.80}")
    absent = sorted(found.__abstractmethods__) or [
        name for name in ("tasks", "Config") if not hasattr(found, name)
    ]
    if absent:
        raise UserError(f"{reference}: expected a model with {absent[0]!r}, found none")
    if not dataclasses.is_dataclass(found.Config):
        raise UserError(f"{reference}: Config: expected a dataclass, found {found.Config!r:.80}")
