"""What others printed, from ``published.yaml``, and how sure each number is."""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.catalogue import read_yaml

FILE = Path(__file__).with_name("published.yaml")


@dataclass(frozen=True)
class Published:
    """A number that others printed, and how sure it is: "primary" or "secondary"."""

    value: float
    certainty: str
    source: str


@functools.cache
def content() -> dict[str, Any]:
    """Return the file's blocks: one for each table or figure of the paper, and "elbo"."""
    return read_yaml(FILE)


def numbers(task: str, dataset: str) -> dict[str, dict[str, Published]]:
    """Return what the paper printed about a data set, by model and quantity.

    The numbers are computed as our literal ones, and of their unit.
    """
    found: dict[str, dict[str, Published]] = {}
    for cells in _entries("cells", task, dataset):
        for model, values in cells["models"].items():
            for quantity, value in values.items():
                number = Published(value, cells["certainty"], cells["source"])
                found.setdefault(model, {})[quantity] = number
    return found


def notes(task: str, dataset: str) -> list[dict[str, Any]]:
    """Return what else a reader must know: ``text``, and others' numbers in ``printed``.

    ``printed`` are (value, spread) by quantity or model.
    """
    return _entries("notes", task, dataset)


def paper(block: str) -> str:
    """Return the citation of a block of the file."""
    return content()[block]["paper"]


@dataclass(frozen=True)
class SpeedClaim:
    """That one model is so many times faster than the others at some length of the series."""

    model: str
    factor: int
    length: int


def speed_claim() -> SpeedClaim:
    """Return what the paper says of run times beside its figure 3."""
    block = content()["figure3"]
    faster = block["claims"]["faster"]
    return SpeedClaim(block["compared_with"], faster["factor"], faster["length"])


def _entries(kind: str, task: str, dataset: str) -> list[dict[str, Any]]:
    return [
        entry
        for block in content().values()
        for entry in block[kind]
        if (entry["task"], entry["dataset"]) == (task, dataset)
    ]
