"""The grid: from a configuration to its cells, and all that each of them depends on.

A cell is (task, data set, model, seed); together with the budget it names one directory and one
record: ``<results>/<budget>/<task>/<dataset>/<model>/<seed>/``. The workflow writes the cell's
description there once, ``cell.json``, and the commands that train and score it take the directory.

What a training depends on (`CellSpec`) and what its scores depend on besides (`Scoring`) are kept
apart, so that more draws or evaluator fits train nothing again.
"""

from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, RootModel

from harness import catalogue, sweeps
from harness.catalogue import merge, without_none
from harness.checks import check, check_json
from harness.config import DatasetFile, Evaluation, Protocol, Seed, Settings, Strict, Training
from harness.errors import UserError
from harness.tasks import HIDING, Task
from harness.texts import digest

CELL_FILE = "cell.json"
RUN = "snakemake --cores all --configfile GRID"  # in messages; a cell may be of any grid
# Fields of a cell that change no result: how often a training is saved, where its row stands.
WITHOUT_EFFECT: dict[str, Any] = {"variant_of": True, "training": {"checkpoint_every"}}


@dataclass(frozen=True, order=True)
class Cell:
    """One experiment of the grid. `control` rows are scored but not trained."""

    task: Task
    dataset: str
    model: str
    seed: int
    control: bool

    @property
    def path(self) -> str:
        return f"{self.task}/{self.dataset}/{self.model}/{self.seed}"


class _Identity(Strict):
    task: Task
    dataset: str
    model: str
    seed: Seed
    budget: str

    @property
    def digest(self) -> str:
        """Identify what samples or predictions depend on."""
        return digest(self.model_dump(mode="json"))


class CellSpec(_Identity):
    """All that a training depends on, the data apart.

    `config` holds the fields that differ from the model's defaults; `protocol` says what the task
    hides, where it hides something.
    """

    kind: Literal["model"] = "model"
    class_: str = Field(alias="class")
    config: dict[str, Any]
    training: Training
    protocol: Protocol | None = None
    variant_of: str | None = None

    @property
    def where(self) -> str:
        """The file that describes the model, for messages."""
        return f"config/models/{sweeps.parts(self.model)[0]}.yaml"

    @property
    def digest(self) -> str:
        """Identify what the training depends on."""
        return digest(self.model_dump(mode="json", exclude=WITHOUT_EFFECT))


class ControlSpec(_Identity):
    """A row that nobody trains; `draw` names the function of one that generates."""

    kind: Literal["control"] = "control"
    draw: str | None
    protocol: Protocol | None = None


class CommandSpec(_Identity):
    """All that the samples or predictions of a command depend on, the data and `files` apart.

    See `harness.commands.CommandFile` for the fields.
    """

    kind: Literal["command"] = "command"
    command: str
    files: list[str]
    conda: str | None = None
    container: str | None = None
    time_limit: float | None = None
    protocol: Protocol | None = None


class AddedSpec(_Identity):
    """Samples or predictions that a user brings in a file; `sha256` is the file's."""

    kind: Literal["added"] = "added"
    file: str
    sha256: str
    notes: dict[str, str]
    protocol: Protocol | None = None


Spec = CellSpec | ControlSpec | CommandSpec | AddedSpec


class Scoring(Strict):
    """What scores depend on beside the cell itself: the data set's description, the settings."""

    dataset: DatasetFile
    evaluation: Evaluation

    def digest_for(self, task: Task) -> str:
        """Identify the settings that scores of a task depend on."""
        used = {"fits", "epochs"} if task == "generation" else {"draws", "shares", "share_draws"}
        return digest(self.evaluation.model_dump(mode="json", include=used))

    def digest_of(self, spec: Spec) -> str:
        """Identify the settings that a cell's scores depend on: its own, and those of its task."""
        return digest([spec.digest, self.digest_for(spec.task)])


def read_cell(directory: Path) -> Spec:
    """Read the description of a cell from its directory.

    Raises
    ------
    UserError
        If there is none, or it is damaged.
    """
    path = directory / CELL_FILE
    if not path.is_file():
        raise UserError(f"{path}: no such file; the workflow writes it: {RUN}")
    return check_json(_CellFile, path, "the description of a cell").root


def prepared_data(file: Path, dataset: str) -> Path | None:
    """Return a data set as prepared for the results that a file of a cell lies in, if it is there.

    It is ``data/<dataset>.npz`` in a folder around the file, the nearest one.
    """
    around = (folder / "data" / f"{dataset}.npz" for folder in file.resolve().parents)
    return next(filter(Path.is_file, around), None)


class _CellFile(RootModel):
    """The content of ``cell.json``."""

    root: Annotated[Spec, Field(discriminator="kind")]


# -- from the configuration to the cells -----------------------------------------------------------


def cells(settings: Settings) -> list[Cell]:
    """Return the cells of a configuration's grid, in the order in which it lists them.

    Raises
    ------
    UserError
        If a control is neither one of its task nor of the data set.
    """
    found: dict[Cell, None] = {}
    for block in settings.grid:
        for dataset in block.datasets:
            known = controls_of(block.task, describe_dataset(settings, dataset))
            for control in block.controls:
                if control not in known:
                    raise UserError(
                        f"grid: expected controls of {block.task} on {dataset},"
                        f" {', '.join(known)}, found {control!r}"
                    )
            models = sweeps.names(block.models)
            for names, control in ((models, False), (block.controls, True)):
                for name in names:
                    for seed in block.seeds:
                        found[Cell(block.task, dataset, name, seed, control)] = None
    return list(found)


def controls_of(task: Task, description: DatasetFile) -> list[str]:
    """Return the names of a task's controls and of those that only this data set has."""
    known = catalogue.controls() | description.controls
    return [name for name, control in known.items() if task in control.tasks]


def draw_of(description: DatasetFile, control: str) -> str | None:
    """Return the function that draws a control's series on a data set; None if it predicts.

    Raises
    ------
    UserError
        If there is no such control.
    """
    known = catalogue.controls() | description.controls
    if control not in known:
        raise UserError(f"expected a control of {', '.join(known)}, found {control!r}")
    return known[control].draw


def scoring_modules(spec: Spec, description: DatasetFile) -> list[str]:
    """Return the modules of functions, named in YAML files, that a cell's scores depend on."""
    draw = [spec.draw] if isinstance(spec, ControlSpec) and spec.draw else []
    return [name.partition(":")[0] for name in (*description.scoring_references, *draw)]


def traces(settings: Settings) -> dict[Cell, list[int]]:
    """Return the cells whose scores are followed, and the optimiser steps at which they are.

    Raises
    ------
    UserError
        If one is of a command.
    """
    found: dict[Cell, list[int]] = {}
    for block in settings.grid:
        for dataset, model, seed in product(
            block.datasets, sweeps.names(block.models), block.seeds
        ):
            if block.trace:
                if catalogue.is_command(sweeps.parts(model)[0]):
                    raise UserError(f"grid: trace: expected models with a class, found {model!r}")
                cell = Cell(block.task, dataset, model, seed, control=False)
                found[cell] = sorted({*found.get(cell, []), *block.trace})
    return found


def describe_dataset(settings: Settings, name: str) -> DatasetFile:
    """Return a data set's description with the configuration's changes (``datasets: <name>:``)."""
    described, changes = catalogue.dataset(name), settings.datasets.get(name)
    if changes is None:
        return described
    content = merge(catalogue.describe("datasets", name), changes.model_dump())
    return check(DatasetFile, content, f"config/datasets/{name}.yaml")


def check_own_files(name: str, description: DatasetFile) -> None:
    """Refuse a data set whose files are neither in the manifest nor there.

    Raises
    ------
    UserError
        Naming the first; nothing is said of an optional data set.
    """
    for file in description.files:
        known = file in catalogue.manifest_paths() or description.optional
        if not known and not Path(file).is_file():
            raise UserError(
                f"config/datasets/{name}.yaml: files: expected a file that is there, or a path of"
                f" datasets/manifest.yaml, found {file!r}"
            )


def describe_cell(settings: Settings, cell: Cell) -> Spec:
    """Return what a cell depends on, its data and the settings of its scores apart.

    Raises
    ------
    UserError
        If a model has no training for the budget, there is no such control, or a file of the
        catalogue is wrong.
    """
    identity = {
        "task": cell.task,
        "dataset": cell.dataset,
        "model": cell.model,
        "seed": cell.seed,
        "budget": settings.budget,
        "protocol": settings.protocol if cell.task in HIDING else None,
    }
    if cell.control:
        draw = draw_of(describe_dataset(settings, cell.dataset), cell.model)
        return ControlSpec(**_on_records(identity), draw=draw)
    for block in settings.grid:
        for entry in block.models:
            for name, model, changes in sweeps.variants(entry):
                if changes and name == cell.model:
                    return _cell_spec(identity, model, changes)
    if catalogue.is_command(cell.model):
        return _command_spec(_on_records(identity))
    return _cell_spec(identity, cell.model)


def _on_records(identity: dict[str, Any]) -> dict[str, Any]:
    """Return the same where each record has its own grid: only a union has a middle row."""
    protocol = identity["protocol"]
    return identity | {"protocol": protocol and protocol.model_copy(update={"cut": "time"})}


def _command_spec(identity: dict[str, Any]) -> CommandSpec:
    file = catalogue.command(identity["model"])
    if identity["task"] not in file.tasks:
        raise UserError(
            f"config/models/{identity['model']}.yaml: expected a model of {identity['task']}, found"
            f" one of {', '.join(file.tasks)}"
        )
    used = {"command", "files", "conda", "container", "time_limit"}
    return CommandSpec(**identity, **file.model_dump(include=used))


def _cell_spec(
    identity: dict[str, Any], name: str, swept: dict[str, sweeps.Value] | None = None
) -> CellSpec:
    """Resolve a model's settings for a task, a data set and a budget; a sweep's come last."""
    budget = identity["budget"]
    where = f"config/models/{name}.yaml"
    file = catalogue.model(name)
    if budget not in file.training:
        raise UserError(f"{where}: no budget {budget!r}, only {', '.join(file.training)}")
    content = catalogue.describe("models", name)
    own = dict(content["training"][budget])
    family = catalogue.dataset(identity["dataset"]).family
    kinds = [kind for kind in (family, identity["dataset"]) if kind]
    keys = [*kinds, *(f"{identity['task']}/{kind}" for kind in kinds)]  # later ones win
    changes = own.pop("datasets", {})
    training = merge(own, *(changes.get(key) for key in keys))
    config_of_budget = training.pop("config", {})
    of_data = [content.get("datasets", {}).get(key) for key in keys]
    config = merge(content.get("config", {}), *of_data, config_of_budget, swept)
    checked = check(Training, without_none(training), f"{where}: training.{budget}")
    resolved = {
        **(identity if checked.grid == "union" else _on_records(identity)),
        "class": file.class_,
        "config": without_none(config),
        "training": checked,
        "variant_of": name if swept else file.variant_of,
    }
    return CellSpec.model_validate(resolved)
