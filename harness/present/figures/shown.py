"""Which series a figure shows: those of a row's first seed with arrays, and the real ones."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from datasets.base import Dataset, Unavailable
from harness import catalogue
from harness.present import files
from harness.present.comparison import Comparison


@dataclass(frozen=True)
class Shown:
    """The cell of a row that a figure shows."""

    seed: int
    arrays: dict[str, np.ndarray]


def first_seeds(c: Comparison, models: Iterable[str]) -> dict[str, Shown]:
    """Return, for each of some rows, the first seed that is done and has arrays."""
    done = c.cells[c.cells["model"].isin(models) & c.cells["status"].eq("done")]
    shown: dict[str, Shown] = {}
    for model, seed, folder in zip(done["model"], done["seed"], done["folder"], strict=True):
        if model not in shown and (arrays := files.summary(folder)):
            shown[model] = Shown(int(seed), arrays)
    return shown


def names_and_seeds(what: str, shown: Mapping[str, Shown]) -> str:
    """Add to what a figure shows whose series they are, "LS4 seed 0"."""
    whose = [f"{catalogue.label(model)} seed {one.seed}" for model, one in shown.items()]
    return f"{what}; {', '.join(whose)}"


def prepared(c: Comparison, data_dir: Path) -> Dataset | None:
    """Return the data that the records are about, if they are there."""
    path = data_dir / f"{c.head['dataset']}.npz"
    if not path.exists():
        return None
    try:
        dataset = Dataset.load(path)
    except Unavailable:
        return None
    digests = c.head["data_digest"], c.head["split_digest"]
    return dataset if (dataset.data_digest, dataset.split_digest) == digests else None
