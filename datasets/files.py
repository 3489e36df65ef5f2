"""Files that are written whole or not at all, and checked when they are read."""

import hashlib
import math
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO

import numpy as np
from numpy.lib import format as npy

from datasets.errors import DataError

DIGEST = "sha256"  # the array of an .npz that identifies the others
HEADER_BYTES = 10_000  # of an array; more is no header
KINDS = "biufcU"  # of NumPy's types: numbers and text
DEFLATE = 1032  # how often a byte can be found in what one compressed byte gives


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path on the same file system and move it to `path` on success.

    The temporary path lies alone in its own folder, which is removed on success and on failure
    with whatever else was put there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        part = Path(folder) / f"part{path.suffix}"  # a leftover must not look like the file
        try:
            yield part
            os.replace(part, path)
        except OSError as error:  # such as a full disk: name the file, not its temporary part
            if error.filename in (None, str(part)):
                error.filename = str(path)
            raise


def sha256(path: Path) -> str:
    """Return the sha256 of a file as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def save_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write arrays and their digest to an uncompressed .npz; equal arrays give equal bytes."""
    digest = {DIGEST: np.array(arrays_sha256(arrays))}
    with replacing(path) as part, part.open("wb") as file:
        np.savez(file, **arrays, **digest)  # pyright: ignore[reportArgumentType]


def arrays_sha256(arrays: dict[str, np.ndarray]) -> str:
    """Identify arrays: sha256 of names, types, shapes and values, in the order given."""
    digest = hashlib.sha256()
    for name, array in arrays.items():
        array = array.astype(array.dtype.newbyteorder("<"), copy=False)
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def load_arrays(path: Path, required: set[str]) -> dict[str, np.ndarray]:
    """Read all arrays of an .npz that must hold the `required` ones.

    The digest that `save_arrays` writes is verified where there is one.

    Raises
    ------
    DataError
        If the file is absent, damaged, of another kind, holds pickled objects or lacks an array.
    """
    found = []
    try:
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                largest = info.compress_size
                if info.compress_type == zipfile.ZIP_DEFLATED:
                    largest = DEFLATE * (largest + 1)
                if info.file_size > largest:
                    raise ValueError(
                        f"{info.filename} of {info.file_size} bytes, more than is there"
                    )
                with archive.open(info) as file:
                    found.append((info.filename.removesuffix(".npy"), _read(file, info.file_size)))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except MemoryError:
        raise
    except Exception as error:  # what zipfile raises of damaged files is not documented
        raise DataError(f"{path}: expected an .npz of plain arrays, found {_line(error)}") from None
    arrays = dict(found)
    if len(arrays) < len(found):
        raise DataError(f"{path}: expected each array once, found {[name for name, _ in found]}")
    expected = arrays.pop(DIGEST, None)
    if expected is not None and str(expected) != arrays_sha256(arrays):
        raise DataError(f"{path}: damaged: expected arrays of {DIGEST} {expected}, found others")
    require(path, arrays, required)
    return arrays


def load_array(path: Path) -> np.ndarray:
    """Read an .npy.

    Raises
    ------
    DataError
        If the file is absent, damaged, of another kind, or holds pickled objects.
    """
    try:
        with path.open("rb") as file:
            return _read(file, path.stat().st_size)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except MemoryError:
        raise
    except Exception as error:  # NumPy parses headers as Python: tokenizer's errors, any
        raise DataError(
            f"{path}: expected an .npy of plain numbers, found {_line(error)}"
        ) from None


def _read(file: IO[bytes] | zipfile.ZipExtFile, size: int) -> np.ndarray:
    """Read one array from a file of `size` bytes; nothing is allocated before all is checked."""
    version = npy.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"version {version} of the format")
    read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran, dtype = read_header(file, max_header_size=HEADER_BYTES)
    if dtype.kind not in KINDS:
        raise ValueError(f"values of type {dtype}")
    if any(n < 0 for n in shape):
        raise ValueError(f"shape {shape}")
    n_bytes = math.prod(shape) * dtype.itemsize
    if n_bytes != size - file.tell():
        raise ValueError(f"{size - file.tell()} bytes of values for shape {shape} of {dtype}")
    content = bytearray(file.read(n_bytes))
    if file.read(1) or len(content) != n_bytes:
        raise ValueError(f"{len(content)} bytes of values for shape {shape} of {dtype}")
    array = np.frombuffer(content, dtype) if n_bytes else np.empty(math.prod(shape), dtype)
    return array.reshape(shape, order="F" if fortran else "C")


def _line(error: Exception) -> str:
    """Return the first line of what an error says, or its name."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def require(path: Path, arrays: dict[str, np.ndarray], required: set[str]) -> None:
    """Refuse arrays that were read from `path` if a required one is not among them.

    Raises
    ------
    DataError
        Naming the first that is missing.
    """
    if missing := sorted(required - arrays.keys()):
        raise DataError(f"{path}: expected array {missing[0]!r}, found {sorted(arrays)}")
