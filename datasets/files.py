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
# How many bytes one byte in an .npz can become, by how NumPy writes them.
METHODS = {zipfile.ZIP_STORED: 1, zipfile.ZIP_DEFLATED: 1032}


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path on the same file system and move it to `path` on success.

    The temporary path lies alone in its own folder, which is removed on success and on failure
    with whatever else was put there.
    """
    hidden = path.with_name(f".{path.name}.")  # how the names of temporary folders begin
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=path.parent, prefix=hidden.name) as folder:
            part = Path(folder) / f"part{path.suffix}"  # a leftover must not look like the file
            yield part
            os.replace(part, path)
    except OSError as error:  # such as a full disk: name the file, not its temporary part
        if error.filename is None or str(error.filename).startswith(str(hidden)):
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
    wanted = f"{path}: expected an .npz of plain arrays, found"
    with opened(path) as raw:
        with parsing(f"{wanted} no zip archive, or a damaged one"):
            archive = zipfile.ZipFile(raw)
        for info in archive.infolist():
            member = f"{path}: {info.filename!r}"
            if info.compress_type not in METHODS:
                raise DataError(
                    f"{member}: expected compression method {' or '.join(map(str, METHODS))},"
                    f" found {info.compress_type}"
                )
            largest = METHODS[info.compress_type] * (info.compress_size + 1)
            if info.file_size > largest:
                raise DataError(
                    f"{member}: expected at most {largest} bytes, found a size of {info.file_size}"
                )
            with parsing(f"{wanted} a damaged member {info.filename!r}"):
                file = archive.open(info)
            with file:
                array = _read(file, info.file_size, member)
            found.append((info.filename.removesuffix(".npy"), array))
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
    with opened(path) as file:
        return _read(file, path.stat().st_size, str(path))


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """Open a file to read it.

    Raises
    ------
    DataError
        If it is absent, a folder, or may not be read.
    """
    try:
        file = path.open("rb")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    with file:
        yield file


@contextmanager
def parsing(message: str) -> Iterator[None]:
    """Say `message` where a library cannot read what is in a file.

    What libraries raise then is not documented, and what they say is about their own code. So this
    holds only calls of a library, none of ours, whose mistakes it would hide.
    """
    try:
        yield
    except (MemoryError, ImportError):  # of the machine, not of the file
        raise
    except Exception:
        raise DataError(message) from None


def _read(file: IO[bytes] | zipfile.ZipExtFile, size: int, where: str) -> np.ndarray:
    """Read one array from a file of `size` bytes; nothing is allocated before all is checked."""
    damaged = f"{where}: expected an array in NumPy's format, found none, or a damaged one"
    with parsing(damaged):
        version = npy.read_magic(file)
        # 3.0 is for names of fields that are not Latin
        read_header = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
        shape, fortran, dtype = read_header[version](file, max_header_size=HEADER_BYTES)
    if dtype.kind not in KINDS:
        raise DataError(f"{where}: expected numbers or text, found values of type {dtype}")
    # a negative length, or bytes that are missing or too many
    there, needed = size - file.tell(), math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or needed != there:
        raise DataError(
            f"{where}: expected {needed} bytes of values for shape {shape} of {dtype},"
            f" found {there}"
        )
    with parsing(damaged):
        content = bytearray(file.read(needed))
        behind = file.read(1)  # at its end a zip file's checksum is looked at
    if behind or len(content) != needed:
        raise DataError(f"{where}: expected {needed} bytes of values, found {len(content)}")
    array = np.frombuffer(content, dtype) if needed else np.empty(math.prod(shape), dtype)
    return array.reshape(shape, order="F" if fortran else "C")


def require(path: Path, arrays: dict[str, np.ndarray], required: set[str]) -> None:
    """Refuse arrays that were read from `path` if a required one is not among them.

    Raises
    ------
    DataError
        Naming the first that is missing.
    """
    if missing := sorted(required - arrays.keys()):
        raise DataError(f"{path}: expected array {missing[0]!r}, found {sorted(arrays)}")
