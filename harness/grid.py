"""The grid: from the YAML files to cells, their directories and the source files they depend on.

Pure functions of configuration, on the standard library and YAML alone, so that the process that
plans the graph needs nothing but Snakemake. Values are checked in `harness.config`, by the jobs.

A cell is (task, dataset, model, seed); together with the budget it names one directory and one
record: ``<results>/<budget>/<task>/<dataset>/<model>/<seed>/``.
"""

import ast
import copy
import functools
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from harness.errors import UserError
from harness.tasks import CONTROLS

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("baselines", "datasets", "harness", "ls4", "metrics")


@dataclass(frozen=True, order=True)
class Cell:
    """One experiment of the grid. `control` rows are scored but not trained."""

    task: str
    dataset: str
    model: str
    seed: int
    control: bool

    @property
    def path(self) -> str:
        return f"{self.task}/{self.dataset}/{self.model}/{self.seed}"


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a mapping from a YAML file.

    Raises
    ------
    UserError
        If the file is missing, is not YAML or holds no mapping.
    """
    try:
        content = copy.deepcopy(_parse(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected a mapping, found {type(content).__name__}")
    return content


@functools.cache  # planning reads a model's file once for each of its jobs
def _parse(text: str) -> Any:
    return yaml.safe_load(text)


def merge(base: Mapping[str, Any], *updates: Mapping[str, Any] | None) -> dict[str, Any]:
    """Merge mappings recursively; later ones win, lists are replaced whole."""
    result = dict(base)
    for update in updates:
        for key, value in (update or {}).items():
            old = result.get(key)
            if isinstance(old, Mapping) and isinstance(value, Mapping):
                value = merge(old, value)
            result[key] = value
    return result


def describe(kind: str, name: str) -> dict[str, Any]:
    """Read ``config/<kind>/<name>.yaml``; kind is "models" or "datasets".

    A file that names another one, ``base: <name>``, holds what differs from it.
    """
    path = f"config/{kind}/{name}.yaml"
    _known(kind, name)
    content = read_yaml(ROOT / path)
    if (base := content.get("base")) is None:
        return content
    _known(kind, base, f"{path}: base: ")
    original = read_yaml(ROOT / "config" / kind / f"{base}.yaml")
    if "base" in original:
        raise UserError(f"{path}: base: expected a file without a base, found {base}")
    return merge(original, content)


def available(kind: str) -> list[str]:
    """Names that have a file in ``config/<kind>/``."""
    return sorted(p.stem for p in (ROOT / "config" / kind).glob("*.yaml"))


def _known(kind: str, name: str, where: str = "") -> None:
    known = available(kind)
    if name not in known:
        raise UserError(
            f"{where}unknown {kind[:-1]} {name!r}:"
            f" expected one of {', '.join(known)} (config/{kind}/)"
        )


def check_dataset_names(content: Mapping[str, Any], where: str) -> None:
    """Refuse changes to a data set that does not exist: they would change nothing, unnoticed.

    Parameters
    ----------
    content : mapping
        A configuration, or a model's file; either as its schema wants it.
    where : str
        What to call it.

    Raises
    ------
    UserError
        Naming the place, the name and the known ones.
    """
    sections = {"datasets": content.get("datasets", {})}
    for budget, training in content.get("training", {}).items():
        sections[f"training.{budget}.datasets"] = training.get("datasets", {})
    for section, changes in sections.items():
        for name in changes:  # "data set" or "task/data set"
            _known("datasets", name.rpartition("/")[2], f"{where}: {section}: ")


def cells(config: Mapping[str, Any]) -> list[Cell]:
    """Return the cells of a configuration's grid, in the order in which it lists them.

    Raises
    ------
    UserError
        If a control is not one of its task.
    """
    found: dict[Cell, None] = {}
    for block in config["grid"]:
        own = CONTROLS[block["task"]]
        for control in block["controls"]:
            if control not in own:
                raise UserError(
                    f"grid: expected controls of {block['task']}, {', '.join(own)}, found"
                    f" {control!r}"
                )
        for dataset in block["datasets"]:
            for model in block["models"]:
                for seed in block["seeds"]:
                    found[Cell(block["task"], dataset, model, seed, control=False)] = None
            for control in block["controls"]:
                for seed in block["seeds"]:
                    found[Cell(block["task"], dataset, control, seed, control=True)] = None
    return list(found)


def dataset_spec(config: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return a data set's description with the configuration's changes (``datasets: <name>:``)."""
    return merge(describe("datasets", name), config.get("datasets", {}).get(name))


def training_spec(config: Mapping[str, Any], cell: Cell) -> dict[str, Any]:
    """Resolve all that training a cell depends on, the data apart.

    Returns
    -------
    dict
        Identity, ``class``, ``config`` (fields that differ from the model's defaults) and
        ``training`` (steps, batch size, ...). Its digest is the record's config hash.
    """
    file = describe("models", cell.model)
    budget = config["budget"]
    if budget not in file["training"]:
        known = ", ".join(file["training"])
        raise UserError(f"config/models/{cell.model}.yaml: no budget {budget!r}, only {known}")
    training = dict(file["training"][budget])
    of_data, of_training = (
        [section.get(name, {}) for name in (cell.dataset, f"{cell.task}/{cell.dataset}")]
        for section in (file.get("datasets", {}), training.pop("datasets", {}))
    )
    training = merge(training, *of_training)
    # later ones win: the model's fields, the data set's, the budget's
    config_of_budget = training.pop("config", {})
    return {
        "task": cell.task,
        "dataset": cell.dataset,
        "model": cell.model,
        "seed": cell.seed,
        "budget": budget,
        "class": file["class"],
        "config": merge(file.get("config", {}), *of_data, config_of_budget),
        "training": training,
        **({"variant_of": file["base"]} if "base" in file else {}),
        **protocol(config, cell.task),
    }


def protocol(config: Mapping[str, Any], task: str) -> dict[str, Any]:
    """Return ``{"protocol": ...}`` for the tasks that hide something, else nothing."""
    hides = task in ("interpolation", "extrapolation")
    return {"protocol": dict(config.get("protocol", {}))} if hides else {}


def digest(content: Any) -> str:
    """SHA-256 of a JSON-able object in canonical form."""
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


@functools.cache
def source_files(module: str) -> tuple[str, ...]:
    """Return a module's file and those of all project modules that it imports, relative to ROOT.

    What a job's result depends on as code; found by reading import statements, without importing.
    """
    path = ROOT / (module.replace(".", "/") + ".py")
    if not path.is_file():
        raise UserError(f"no module {module}: expected {path.relative_to(ROOT)}")
    files = {module: path}
    pending = [path]
    while pending:
        for name in _imports(pending.pop()):
            file = ROOT / (name.replace(".", "/") + ".py")
            if name not in files and file.is_file():
                files[name] = file
                pending.append(file)
    return tuple(sorted(str(f.relative_to(ROOT)) for f in files.values()))


def _imports(path: Path) -> Iterable[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), filename=str(path))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        yield from (name for name in names if name.split(".")[0] in PACKAGES)


def code_hash(*modules: str) -> str:
    """SHA-256 over the source files of some modules and of what they import."""
    files = sorted({file for module in modules for file in source_files(module)})
    return digest({f: hashlib.sha256((ROOT / f).read_bytes()).hexdigest() for f in files})
