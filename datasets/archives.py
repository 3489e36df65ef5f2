"""Untrusted archives, read up to a known size and only if they hold plain files."""

import gzip
import hashlib
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from datasets.errors import DataError

HELD_BYTES = 1 << 28  # of an archive that is read into memory, without its compression
STREAMED_BYTES = 1 << 32  # of one that is not
PIECE_BYTES = 1 << 20

Members = Iterator[tuple[str, int, IO[bytes]]]


def is_safe(path: str) -> bool:
    """Tell whether a relative path stays in the folder that it is taken to be in."""
    # Backslash and colon: separators and drives for whoever unpacks on Windows.
    parts = PurePosixPath(path).parts
    return bool(parts) and parts[0] != "/" and ".." not in parts and not set(path) & set("\\:\0")


@contextmanager
def tar_members(path: Path, limit: int = STREAMED_BYTES) -> Iterator[Members]:
    """Open a .tar.gz and iterate over name, size and content of its files, in the archive's order.

    Contents are streams, each to be read, or not, before the next is asked for; none is held.

    Raises
    ------
    DataError
        From here, the iterator or a stream, if it is no .tar.gz or a damaged one, is larger than
        `limit` bytes without its compression, or holds a name twice, an absolute path, ``..`` or
        anything but files and folders.
    """
    try:
        # tarfile holds whole headers in memory; bounding its source bounds them, too.
        with (
            _Bounded(path, limit) as stream,
            tarfile.open(fileobj=stream, mode="r|", tarinfo=_Header) as archive,
        ):
            yield _tar_files(archive)
            while stream.read(PIECE_BYTES):
                pass  # up to gzip's checksum, which tarfile does not reach
    except DataError:
        raise
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, ValueError) as error:
        raise DataError(f"expected a .tar.gz archive, found {error}") from None


def _tar_files(archive: tarfile.TarFile) -> Members:
    seen = set()
    for member in archive:
        # A sparse file is larger than what the archive holds of it.
        plain = member.isdir() or (member.isreg() and not member.issparse())
        _refuse_unsafe(member.name, plain, seen)
        if (content := archive.extractfile(member)) is not None:
            seen.add(member.name)
            yield member.name, member.size, content
    while piece := archive.fileobj.read(PIECE_BYTES):  # pyright: ignore
        if piece.strip(b"\0"):
            raise DataError("expected nothing behind the archive's end mark, found more")


class _Header(tarfile.TarInfo):
    """A header that is whole; tarfile takes a damaged or missing one for the archive's end."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str | None, errors: str) -> "_Header":
        try:
            return super().frombuf(buf, encoding, errors)  # pyright: ignore
        except tarfile.EOFHeaderError:  # pyright: ignore
            raise  # the end mark
        except tarfile.HeaderError as error:
            found = str(error) if buf else "no end mark"
            raise DataError(f"expected a .tar.gz archive, found {found}") from None


def _refuse_unsafe(name: str, plain: bool, seen: set[str]) -> None:
    if not plain or not is_safe(name) or name in seen:
        raise DataError(f"unsafe archive member {name!r}")


class _Bounded(gzip.GzipFile):
    """A file to decompress that ends in an error after `limit` bytes."""

    def __init__(self, path: Path, limit: int) -> None:
        super().__init__(path)
        self.limit = limit

    def read(self, size: int | None = -1) -> bytes:
        piece = super().read(size)
        if self.tell() > self.limit:
            raise DataError(f"expected at most {self.limit} bytes in the archive, found more")
        return piece


def read_tar(path: Path, limit: int = HELD_BYTES) -> dict[str, bytes]:
    """Read the files of a .tar.gz, as `tar_members` does, in the order of their names."""
    with tar_members(path, limit) as members:
        return dict(sorted((name, content.read()) for name, _, content in members))


def contents_sha256(files: dict[str, bytes]) -> str:
    """Return the sha256 of files, one after the other, in the order given."""
    digest = hashlib.sha256()
    for content in files.values():
        digest.update(content)
    return digest.hexdigest()


def unpack(path: Path, member: str, size: int, target: Path) -> None:
    """Write one member of a .tar.gz or .zip, known by its `size` in bytes, to `target`.

    All members are looked at, some of them when `target` is written already: it is the member only
    if there is no error.

    Raises
    ------
    DataError
        If the member is absent or of another size, the archive is damaged or of another kind, or
        any member is unsafe, as `tar_members` has it.
    """
    found = []
    opened = tar_members(path) if path.name.endswith(".tar.gz") else _zip_members(path)
    with opened as members:
        for name, n, content in members:
            found.append(name)
            if name != member:
                continue
            # Neither zipfile nor tarfile reads more than the size that a member declares.
            if n != size:
                raise DataError(f"archive member {member!r}: expected {size} bytes, found {n}")
            with target.open("wb") as file:
                shutil.copyfileobj(content, file)
    if member not in found:
        names = ", ".join(found) or "none"
        raise DataError(f"expected archive member {member!r}, found {names}")


@contextmanager
def _zip_members(path: Path) -> Iterator[Members]:
    """Do for a .zip what `tar_members` does; no more is unpacked than is read."""
    try:
        with zipfile.ZipFile(path) as archive:
            yield _zip_files(archive)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise DataError(f"expected a zip archive, found {error}") from None


def _zip_files(archive: zipfile.ZipFile) -> Members:
    seen = set()
    for info in archive.infolist():
        kind = stat.S_IFMT(info.external_attr >> 16)  # 0 where the packer knew none
        _refuse_unsafe(info.filename, kind in (0, stat.S_IFREG, stat.S_IFDIR), seen)
        if not info.is_dir():
            seen.add(info.filename)
            with archive.open(info) as content:
                yield info.filename, info.file_size, content
