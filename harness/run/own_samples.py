"""Read samples that were made elsewhere."""

import re
from pathlib import Path

import numpy as np
from jaxtyping import Float

from datasets.errors import DataError
from datasets.files import load_array, load_arrays
from harness.errors import UserError
from harness.run.generation import Samples
from harness.strict import read_text

NUMBER = re.compile(r"\s*[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?\s*|\s*[-+]?(nan|inf)\s*", re.I | re.A)
MINIMUM = 3  # samples; fewer cannot be split to train and test a classifier


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
