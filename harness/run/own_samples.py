"""Read samples that were made elsewhere."""

from pathlib import Path

import numpy as np
from jaxtyping import Float

from datasets.errors import DataError
from datasets.files import load_array, load_arrays
from datasets.text import counts, csv_lines, number
from harness.errors import UserError
from harness.run.generation import FEWEST, Samples


def read_samples(path: Path, expected: tuple[int, ...]) -> Samples:
    """Read samples from .npz (an array, or one called ``samples``), .npy or .csv (a series a line).

    Parameters
    ----------
    path : Path
    expected : (n, L, D)
        Shape of the test series. Any number of samples of that length will do.

    Raises
    ------
    UserError, DataError
        If the file cannot be read or its array has another shape or is not finite.
    """
    _, L, D = expected
    samples = _read(path, L, D)
    found = samples.shape
    if samples.ndim == 2 and D == 1:
        samples = samples[..., None]
    if samples.ndim != 3 or samples.shape[1:] != (L, D) or not len(samples):
        raise UserError(f"{path}: expected samples of shape (n, {L}, {D}), found {found}")
    if len(samples) < FEWEST:
        raise UserError(f"{path}: expected at least {FEWEST} samples, found {len(samples)}")
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


def _read(path: Path, L: int, D: int) -> Float[np.ndarray, "..."]:
    kind = path.suffix.lower()
    if kind == ".csv" and D == 1:
        return _read_csv(path, L)
    if kind == ".npy":
        array = load_array(path)
    elif kind == ".npz":
        arrays = load_arrays(path, set())
        if "samples" not in arrays and len(arrays) != 1:
            raise UserError(
                f"{path}: expected one array, or one called 'samples', found {list(arrays)}"
            )
        array = arrays["samples"] if "samples" in arrays else next(iter(arrays.values()))
    else:
        kinds = ".npz, .npy or .csv file" if D == 1 else f".npz or .npy file for {D} channels"
        raise UserError(f"{path}: expected a {kinds}")
    if array.dtype.kind not in "iuf":
        raise UserError(f"{path}: expected real numbers, found {array.dtype}")
    return array


def _read_csv(path: Path, L: int) -> Float[np.ndarray, "n L"]:
    """Read a series a line; a first line that counts columns is a heading, as pandas writes it."""
    rows: list[list[float]] = []
    for line, words in csv_lines(path, ",", "utf-8"):
        if line == 1 and counts(words):
            continue
        if len(words) != L:
            raise DataError(
                f"{path}:{line}: expected {L} numbers between commas, found {len(words)}:"
                f" {','.join(words)[:60]!r}"
            )
        rows.append([])
        for k, word in enumerate(words, start=1):
            try:
                rows[-1].append(number(word))
            except ValueError:
                raise DataError(
                    f"{path}:{line}: expected a finite number as value {k}, found {word[:60]!r}"
                ) from None
    return np.array(rows).reshape(len(rows), L)
