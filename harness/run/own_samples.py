"""Score samples that a user brings, as the benchmark scores models, beside the controls."""

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from jaxtyping import Float
from rich.console import Console
from rich.table import Table

from datasets.errors import DataError
from datasets.files import load_array, load_arrays
from harness import catalogue
from harness.cells import ControlSpec
from harness.errors import UserError
from harness.records import Score
from harness.run.generation import Samples, ScoringSetup, control_scores, own_scores, score
from harness.run.view import check_complete
from harness.strict import read_text
from metrics.network import Unscorable

NUMBER = re.compile(r"\s*[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?\s*|\s*[-+]?(nan|inf)\s*", re.I | re.A)
MINIMUM = 3  # samples; fewer cannot be split to train and test a classifier
COLUMNS = {  # score -> heading
    "marginal_literal": "marginal ↓",
    "classification_literal": "classification ↑",
    "prediction_literal": "prediction ↓",
    "marginal_robust": "marginal, robust ↓",
    "classification_robust": "classification, robust",
    "prediction_robust": "prediction, robust ↓",
    "nearest_train_ratio": "copying",
}
TESTS = {
    "p_all": "p",
    "p_all_standardised": "p, standardised",
    "effect_marginal": "marginal",
    "effect_energy": "energy",
    "effect_features": "features",
    "effect_spectrum": "spectrum",
    "effect_neighbours": "neighbours",
}


def read_samples(path: Path, expected: tuple[int, ...]) -> Samples:
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
    if len(samples) < MINIMUM:
        raise UserError(f"{path}: expected at least {MINIMUM} samples, found {len(samples)}")
    with np.errstate(over="ignore"):
        samples = samples.astype(np.float32)
    finite = np.isfinite(samples).all((1, 2))
    if not finite.all():
        first = int(np.argmin(finite))
        raise UserError(
            f"{path}: expected finite values in single precision, found NaN or infinity in sample"
            f" {first}"
        )
    return samples


def _read(path: Path) -> Float[np.ndarray, "..."]:
    kind = path.suffix.lower()
    if kind == ".csv":
        return _read_csv(path)
    if kind not in {".npz", ".npy"}:
        raise UserError(f"{path}: expected a .npz, .npy or .csv file")
    try:
        if kind == ".npy":
            array = load_array(path)
        else:
            arrays = load_arrays(path, set())
            if "samples" not in arrays and len(arrays) != 1:
                raise UserError(
                    f"{path}: expected one array, or one called 'samples', found"
                    f" {', '.join(arrays)}"
                )
            array = arrays["samples"] if "samples" in arrays else next(iter(arrays.values()))
    except DataError as error:
        raise UserError(f"{path}: not readable: {str(error).removeprefix(f'{path}: ')}") from None
    if array.dtype.kind not in "iuf":
        raise UserError(f"{path}: expected real numbers, found {array.dtype}")
    return array


def _read_csv(path: Path) -> Float[np.ndarray, "n L"]:
    """Read a series a line; a first line 0,1,2,... is a heading, as pandas writes it."""
    lines = read_text(path).removeprefix("\ufeff").splitlines()
    rows = [line.split(",") for line in lines]
    if rows and rows[0] == [str(k) for k in range(len(rows[0]))]:
        rows, first = rows[1:], 2
    else:
        first = 1
    for number, row in enumerate(rows, start=first):
        if len(row) != len(rows[0]) or not all(NUMBER.fullmatch(word) for word in row):
            raise UserError(
                f"{path}: not readable: line {number}: expected {len(rows[0])} numbers, found"
                f" {','.join(row)[:60]!r}"
            )
    return np.array(rows, dtype=np.float64).reshape(len(rows), len(rows[0]) if rows else 0)


def compare(setup: ScoringSetup, samples: Samples, name: str, console: Console) -> None:
    """Print the scores of `samples` beside those of the controls.

    Raises
    ------
    UserError
        If the data set has gaps, or the evaluators cannot be trained on the samples.
    """
    check_complete(setup.dataset)
    n, dataset, title = len(setup.test), setup.dataset, setup.description.title
    table = Table("", title=f"{title}: {n} test series of length {samples.shape[1]}")
    tests = Table("", title="Told apart from the test series? p, and effects: 1 can just be seen")
    for shown, headings in ((table, COLUMNS), (tests, TESTS)):
        for heading in headings.values():
            shown.add_column(heading, justify="right")
    own = Table("own scores")
    columns = []  # of the data set's own scores, a sequence for each row of the other table
    controls = [*catalogue.controls_of("generation"), *setup.description.controls]
    if len(setup.train) < n:
        controls.remove("noise_floor")  # there are not so many training series
    with console.status("") as status:
        for row in (name, *controls):
            status.update(f"scoring {row}")
            generated: Samples | None = samples
            try:
                if row == name:
                    scores, _ = score(setup, samples)
                else:
                    spec = ControlSpec(
                        task="generation", dataset=dataset.name, model=row, seed=0, budget="none"
                    )
                    generated, scores, _ = control_scores(spec, setup)
            except Unscorable as error:
                raise UserError(f"{name}: {error}") from None
            for shown, names in ((table, COLUMNS), (tests, TESTS)):
                shown.add_row(row, *_cells(scores, names), end_section=row == name)
            if generated is not None and setup.description.own_scores:
                own.add_column(row, justify="right")
                columns.append(own_scores(setup, generated))
    console.print(table)
    console.print(tests)
    for line in zip(*columns, strict=True):
        own.add_row(line[0].name, *(_number(cell) for cell in line))
    if columns:
        console.print(own)
    if len(samples) != n:
        console.print(
            f"The benchmark scores {n} samples here; classification and marginal noise of"
            f" {len(samples)} differ."
        )
    console.print(
        "Literal scores as the paper's code computes them, then robust ones ± deviation; copying:"
        "\ndistance to the nearest training series, generated over test (docs/scores.md)."
        "\nTests permute whole series; below p = .05 samples are told apart (docs/decisions.md)."
        f"\nData {dataset.data_digest[:12]}, split {dataset.split_digest[:12]},"
        f" {setup.evaluation.fits} evaluator fits of {setup.evaluation.epochs} epochs."
    )


def _cells(scores: list[Score], names: Iterable[str]) -> list[str]:
    by_name = {s.name: s for s in scores}
    return [_number(by_name.get(name)) for name in names]


def _number(found: Score | None) -> str:
    if found is None or found.value is None:
        return "–"
    return f"{found.value:.3g}" + ("" if found.spread is None else f" ± {found.spread:.1g}")
