"""Read samples that were made elsewhere."""

import warnings
import zipfile
import zlib
from pathlib import Path

import numpy as np
from jaxtyping import Float

from harness.errors import UserError
from harness.run.generation import Samples

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
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{path}: not readable: {str(error).splitlines()[0]}") from None
    if not np.issubdtype(array.dtype, np.number) or np.iscomplexobj(array):
        raise UserError(f"{path}: expected real numbers, found {array.dtype}")
    return array
