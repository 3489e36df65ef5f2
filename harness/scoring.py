"""Score samples that somebody brings, on the benchmark's footing, beside the controls."""

import warnings
from pathlib import Path

import numpy as np
from jaxtyping import Float
from rich.console import Console
from rich.table import Table

from harness.controls import GENERATORS
from harness.errors import UserError
from harness.evaluation import Fake, Footing, control_scores, score
from harness.records import Score

COLUMNS = {  # score -> heading
    "marginal_literal": "marginal ↓",
    "classification_literal": "classification ↑",
    "prediction_literal": "prediction ↓",
    "marginal_robust": "marginal, robust ↓",
    "classification_robust": "classification, robust",
    "prediction_robust": "prediction, robust ↓",
    "nearest_train_ratio": "copying",
}


def read_samples(path: Path, expected: tuple[int, ...]) -> Fake:
    """Read samples from .npz (an array, or one called ``samples``), .npy or .csv (a series a line).

    Parameters
    ----------
    path : Path
    expected : (n, L, D)
        Shape of the test series. Any number of samples of that length will do.

    Raises
    ------
    UserError
        If the file cannot be read or its array has another shape or is not finite.
    """
    samples = _read(path)
    _, L, D = expected
    if samples.ndim == 2 and D == 1:
        samples = samples[..., None]
    if samples.ndim != 3 or samples.shape[1:] != (L, D) or not len(samples):
        raise UserError(f"{path}: expected samples of shape (n, {L}, {D}), found {samples.shape}")
    finite = np.isfinite(samples).all((1, 2))
    if not finite.all():
        first = int(np.argmin(finite))
        raise UserError(f"{path}: expected finite values, found NaN or infinity in sample {first}")
    return samples.astype(np.float32)


def _read(path: Path) -> Float[np.ndarray, "..."]:
    try:
        if path.suffix == ".csv":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # an empty file; its shape is refused
                return np.loadtxt(path, delimiter=",", ndmin=2)
        if path.suffix not in {".npz", ".npy"}:
            raise UserError(f"{path}: expected a .npz, .npy or .csv file")
        content = np.load(path, allow_pickle=False)
        if isinstance(content, np.ndarray):
            array = content
        else:
            names = content.files
            if "samples" not in names and len(names) != 1:
                raise UserError(
                    f"{path}: expected one array, or one called 'samples', found {', '.join(names)}"
                )
            array = content["samples" if "samples" in names else names[0]]
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (ValueError, OSError, EOFError) as error:
        raise UserError(f"{path}: not readable: {str(error).splitlines()[0]}") from None
    if not np.issubdtype(array.dtype, np.number) or np.iscomplexobj(array):
        raise UserError(f"{path}: expected real numbers, found {array.dtype}")
    return array


def compare(footing: Footing, fake: Fake, name: str, console: Console) -> None:
    """Print the scores of `fake` beside those of the controls."""
    n, dataset = len(footing.test), footing.dataset
    table = Table(title=f"{footing.description.title}: {n} test series of length {fake.shape[1]}")
    table.add_column("")
    for heading in COLUMNS.values():
        table.add_column(heading, justify="right")
    rows = [name, *GENERATORS, "persistence"]
    with console.status("") as status:
        for row in rows:
            status.update(f"scoring {row}")
            scores = score(footing, fake, 0) if row == name else control_scores(footing, row, 0)[1]
            table.add_row(row, *_cells(scores), end_section=row == name)
    console.print(table)
    if len(fake) != n:
        console.print(
            f"The benchmark scores {n} samples here; classification and marginal noise of"
            f" {len(fake)} differ."
        )
    console.print(
        "Literal scores as the paper's code computes them, then robust ones ± deviation; copying:"
        "\ndistance to the nearest training series, generated over test (docs/scores.md)."
        f"\nData {dataset.data_digest[:12]}, split {dataset.split_digest[:12]},"
        f" {footing.evaluation.fits} evaluator fits of {footing.evaluation.epochs} epochs."
    )


def _cells(scores: list[Score]) -> list[str]:
    by_name = {s.name: s for s in scores}
    cells = []
    for column in COLUMNS:
        found = by_name.get(column)
        if found is None or found.value is None:
            cells.append("–")
        else:
            cells.append(
                f"{found.value:.3g}" + ("" if found.spread is None else f" ± {found.spread:.1g}")
            )
    return cells
