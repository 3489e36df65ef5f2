"""The command that scores samples of a user."""

from pathlib import Path
from typing import Any

from harness.cli.common import DATA, MIRROR, Add
from harness.cli.data import load_dataset
from harness.errors import UserError


def add_commands(add: Add) -> None:
    """Add the commands of this module to the parser."""
    sub = add(score)
    sub.add_argument("--dataset", required=True, help="a name in config/datasets/")
    sub.add_argument("--samples", type=Path, required=True, help=".npz, .npy or .csv; (n, L, D)")
    sub.add_argument("--data", **DATA)
    sub.add_argument("--mirror", **MIRROR)
    sub.add_argument("--prepared", type=Path, help="prepared data, such as a reduced FLAME's")
    sub.add_argument("--fits", type=int, default=5, help="evaluator fits (default: 5)")
    sub.add_argument("--epochs", type=int, default=100, help="epochs of a fit (default: 100)")


def score(
    dataset: str,
    samples: Path,
    data: Path,
    mirror: Path | None,
    prepared: Path | None,
    fits: int,
    epochs: int,
) -> int:
    """Score samples of your own beside the controls of a data set.

    Samples are in the data set's normalised units (docs/data.md), n series of its length.
    """
    from harness import catalogue  # before torch is loaded: most mistakes are here
    from harness.cells import Scoring
    from harness.config import Evaluation, check

    description = catalogue.dataset(dataset)
    if not samples.is_file():
        raise UserError(f"{samples}: no such file")

    from rich.console import Console

    from harness.run.generation import ScoringSetup, check_scorable
    from harness.run.own_samples import compare, read_samples

    evaluation = check(Evaluation, {"fits": fits, "epochs": epochs}, "score")
    path = prepared or Path("results/paper/data") / f"{dataset}.npz"
    setup = ScoringSetup(
        _prepared(path, dataset, description, data, mirror),
        Scoring(dataset=description, evaluation=evaluation),
    )
    check_scorable(setup.dataset)
    compare(setup, read_samples(samples, setup.test.shape), samples.name, Console())
    return 0


def _prepared(path: Path, dataset: str, description: Any, data: Path, mirror: Path | None) -> Any:
    """The data set of the paper's grid; made here, from sources that are fetched if need be."""
    from datasets.base import Dataset
    from datasets.fetch import fetch_file

    if path.exists():
        return Dataset.load(path)
    if description.shards:
        raise UserError(f"{path}: not there; make it with: snakemake --cores all -- {path}")
    for file in description.files:
        fetch_file(file, data, mirror)
    return load_dataset(dataset, description, [data / file for file in description.files])
