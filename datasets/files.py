"""Files that are written whole or not at all, and checked when they are read."""

import hashlib
import os
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from datasets.errors import DataError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path on the same file system and move it to `path` on success.

    The temporary path lies alone in its own folder, which is removed on success and on failure
    with whatever else was put there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        part = Path(folder) / f"part{path.suffix}"  # a leftover must not look like the file
        yield part
        os.replace(part, path)


def sha256(path: Path) -> str:
    """Return the sha256 of a file as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def save_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write arrays to an uncompressed .npz; the same arrays give the same bytes."""
    with replacing(path) as part, part.open("wb") as file:
        np.savez(file, **arrays)  # pyright: ignore[reportArgumentType]


def load_arrays(path: Path, required: set[str]) -> dict[str, np.ndarray]:
    """Read all arrays of an .npz that must hold the `required` ones.

    Raises
    ------
    DataError
        If the file is absent, damaged, of another kind, holds pickled objects or lacks an array.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (OSError, EOFError, ValueError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path}: expected an .npz of plain arrays, found {error}") from None
    require(path, arrays, required)
    return arrays


def require(path: Path, arrays: dict[str, np.ndarray], required: set[str]) -> None:
    """Refuse arrays that were read from `path` if a required one is not among them.

    Raises
    ------
    DataError
        Naming the first that is missing.
    """
    if missing := sorted(required - arrays.keys()):
        raise DataError(f"{path}: expected array {missing[0]!r}, found {sorted(arrays)}")
