"""The catalogue: what the YAML files in config/ say of models, data sets, controls and budgets.

A model's or data set's file may take over the settings of another one, ``extends: <name>``, and
then holds what differs; ``null`` removes what is taken over. Labels, colours and the order of rows
are read here by everything that shows results, so no name of a model stands in Python.
"""

import copy
import functools
import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from harness import sweeps
from harness.checks import check
from harness.commands import CommandFile
from harness.config import DEFAULT_ORDER, ControlEntry, DatasetFile, ModelFile, Shown
from harness.errors import UserError
from harness.tasks import TASKS
from harness.texts import parse_yaml, read_text

ROOT = Path(__file__).resolve().parent.parent
CONFIG = ROOT / "config"
Kind = Literal["models", "datasets"]

# For models without a colour of their own: some of Tol's "muted" and "bright" (2021), made for
# colour-blind readers, that no model's file uses.
SPARE_COLOURS = ("#6699CC", "#AA4466", "#4477AA", "#228833")


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a mapping from a YAML file.

    Raises
    ------
    UserError
        If the file is missing, is not YAML or holds no mapping.
    """
    content = copy.deepcopy(_parse(read_text(path), path))
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected a mapping, found {type(content).__name__}")
    return content


@functools.cache
def manifest_paths() -> frozenset[str]:
    """Return the paths of the files that can be fetched, in ``datasets/manifest.yaml``."""
    sources = read_yaml(ROOT / "datasets" / "manifest.yaml")["sources"]
    return frozenset(file["path"] for source in sources.values() for file in source["files"])


@functools.cache  # planning reads a model's file once for each of its jobs
def _parse(text: str, path: Path) -> Any:
    return parse_yaml(text, path)


def merge(base: Mapping[str, Any], *updates: Mapping[str, Any] | None) -> dict[str, Any]:
    """Merge mappings recursively: later ones win, lists are replaced whole, None removes a key.

    A None for which there is nothing to remove stays, since it may remove something in a merge to
    come; `without_none` drops what is left at the end.
    """
    result = dict(base)
    for update in updates:
        for key, value in (update or {}).items():
            if value is None and key in result:
                del result[key]
            elif isinstance(value, Mapping):
                old = result.get(key)
                result[key] = merge(old if isinstance(old, Mapping) else {}, value)
            else:
                result[key] = value
    return result


def without_none(content: Mapping[str, Any]) -> dict[str, Any]:
    """Drop keys whose value is None, at every depth."""
    return {
        key: without_none(value) if isinstance(value, Mapping) else value
        for key, value in content.items()
        if value is not None
    }


def available(kind: Kind) -> list[str]:
    """Return the names that have a file in ``config/<kind>/``."""
    return sorted(path.stem for path in (CONFIG / kind).glob("*.yaml"))


def describe(kind: Kind, name: str) -> dict[str, Any]:
    """Read ``config/<kind>/<name>.yaml`` with what it takes over.

    Raises
    ------
    UserError
        If there is no such file, it cannot be read, or files extend each other in a circle.
    """
    chain: list[tuple[str, dict[str, Any]]] = []
    where = ""  # what names the file
    while True:
        check_name(kind, name, where)
        path = CONFIG / kind / f"{name}.yaml"
        if name in (known for known, _ in chain):
            raise UserError(f"{path.relative_to(ROOT)}: extends itself")
        chain.append((name, read_yaml(path)))
        before = chain[-1][1].get("extends")
        if before is None:
            break
        name, where = before, f"{path.relative_to(ROOT)}: extends: "
    content: dict[str, Any] = {}
    for _, own in reversed(chain):
        content = merge(content, own)
    return content


def check_name(kind: Kind, name: str, where: str = "") -> None:
    """Refuse a name without a file.

    Raises
    ------
    UserError
        Naming the place, the name and the known ones.
    """
    known = available(kind)
    # A dash in a model's name begins the settings of a variant (`harness.sweeps`).
    allowed, words = (r"[\w-]+", ", _ and -") if kind == "datasets" else (r"\w+", " and _")
    if name in known and not re.fullmatch(allowed, name):
        raise UserError(
            f"config/{kind}/{name}.yaml: expected a file named with letters, digits{words}"
        )
    if name not in known:
        raise UserError(
            f"{where}unknown {kind[:-1]} {name!r}:"
            f" expected one of {', '.join(known)} (config/{kind}/)"
        )


@functools.cache
def model(name: str) -> ModelFile:
    """Return a model's description; see `describe` for what is refused."""
    where = f"config/models/{name}.yaml"
    content = describe("models", name)
    if is_command(name):
        raise UserError(f"{where}: expected a model with a class, found one with a command")
    found = check(ModelFile, content, where)
    _check_changes(found, where)
    return found


def settings(name: str, size: str | None = None) -> dict[str, Any]:
    """Return a model's class and config without changes by data set, at one of its file's sizes.

    Raises
    ------
    UserError
        If the model has no such size.
    """
    file = model(name)
    if size is not None and size not in file.sizes:
        known = ", ".join(file.sizes) or "none"
        raise UserError(f"config/models/{name}.yaml: sizes: expected {size!r}, found {known}")
    config = file.config | (file.sizes[size] if size else {})
    return {"class": file.class_, "config": config}


@functools.cache
def command(name: str) -> CommandFile:
    """Return the description of a model that is a command; see `describe` for what is refused."""
    where = f"config/models/{name}.yaml"
    found = check(CommandFile, describe("models", name), where)
    for file in [*found.files, *([found.conda] if found.conda else [])]:
        if not (ROOT / file).is_file():
            raise UserError(f"{where}: no such file: {file}")
    return found


def is_command(name: str) -> bool:
    """Whether a model is a command, which the benchmark runs, and no class that it trains."""
    content = describe("models", name)
    return "command" in content and "class" not in content


def commands() -> list[str]:
    """Return the names of the models that are commands."""
    return [name for name in available("models") if is_command(name)]


def trained() -> list[str]:
    """Return the names of the models that the benchmark trains itself."""
    return [name for name in available("models") if not is_command(name)]


def _shown(name: str) -> Shown | None:
    """Return what a model's file says to readers; None where there is no such file."""
    if name not in available("models"):
        return None
    return command(name) if is_command(name) else model(name)


@functools.cache
def dataset(name: str) -> DatasetFile:
    """Return a data set's description; see `describe` for what is refused."""
    return check(DatasetFile, describe("datasets", name), f"config/datasets/{name}.yaml")


def families() -> set[str]:
    """Return the names of families of data sets."""
    found = (describe("datasets", name).get("family") for name in available("datasets"))
    return {family for family in found if family}


def _check_changes(file: ModelFile, where: str) -> None:
    """Refuse changes for a budget or data set that does not exist: they would change nothing."""
    for budget in file.training:
        if budget not in budgets():
            known = ", ".join(budgets())
            raise UserError(
                f"{where}: training: unknown budget {budget!r}: expected one of {known}"
            )
    sections = {"datasets": file.datasets} | {
        f"training.{budget}.datasets": training.datasets
        for budget, training in file.training.items()
    }
    for section, changes in sections.items():
        for key in changes:  # "data set", "family" or "task/..."
            task, slash, name = key.rpartition("/")
            if slash and task not in TASKS:
                known = ", ".join(TASKS)
                raise UserError(
                    f"{where}: {section}: unknown task {task!r}: expected one of {known}"
                )
            if name not in families():
                check_name("datasets", name, f"{where}: {section}: ")


@functools.cache
def controls() -> dict[str, ControlEntry]:
    """Return the controls in the order of their rows."""
    content = read_yaml(CONFIG / "controls.yaml")
    return {n: check(ControlEntry, c, f"config/controls.yaml: {n}") for n, c in content.items()}


@functools.cache
def all_controls() -> dict[str, ControlEntry]:
    """Return the controls, and behind them those that single data sets have."""
    found = dict(controls())
    for name in available("datasets"):
        found |= dataset(name).controls
    return found


@functools.cache
def budgets() -> dict[str, str]:
    """Return the budgets and what each means, in the order in which tables show them."""
    return {name: str(meaning) for name, meaning in read_yaml(CONFIG / "budgets.yaml").items()}


# -- what readers see ------------------------------------------------------------------------------


def label(name: str) -> str:
    """Return the label of a model or a control; an unknown name stays as it is.

    Records may be of models whose file is gone.
    """
    if shown := _shown(name):
        return shown.label
    base, settings = sweeps.parts(name)
    if settings:
        return f"{label(base)}: {', '.join(' '.join(setting) for setting in settings.items())}"
    return all_controls()[name].label if name in all_controls() else name


def group(name: str) -> str | None:
    """Return what kind of model a model is; None for an unknown one."""
    shown = _shown(sweeps.parts(name)[0])
    return shown.group if shown else None


def order(name: str) -> int:
    """Return a model's place among the rows; rows of one place are sorted by name."""
    shown = _shown(sweeps.parts(name)[0])
    return shown.order if shown else DEFAULT_ORDER


def colour(name: str) -> str:
    """Return a model's colour: its own, or one that follows from its name alone."""
    shown = _shown(sweeps.parts(name)[0])
    return (shown and shown.colour) or SPARE_COLOURS[zlib.crc32(name.encode()) % len(SPARE_COLOURS)]
