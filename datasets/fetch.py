"""Fetch the files of the manifest from a mirror folder or the network, verified and whole."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import requests
import tenacity
import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from requests.exceptions import ChunkedEncodingError
from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn

from datasets.archives import contents_sha256, is_safe, read_tar, unpack
from datasets.errors import DataError
from datasets.files import replacing, sha256
from datasets.progress import progress

MANIFEST = Path(__file__).with_name("manifest.yaml")
ATTEMPTS = 4  # per address, for trouble that may pass
FIRST_WAIT_S = 1.0  # before the second attempt; doubles from then on
TIMEOUT_S = (10, 60)  # to connect, between two pieces
PIECE_BYTES = 1 << 20


def _safe(path: str) -> str:
    if not is_safe(path):
        raise ValueError("expected a relative path without '..'")
    return path


RelativePath = Annotated[str, AfterValidator(_safe)]
ArchiveName = Annotated[str, Field(pattern=r"^[\w.-]+\.(zip|tar\.gz)$")]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Url = Annotated[str, Field(pattern="^https?://[^ ]+$")]
Bytes = Annotated[int, Field(gt=0)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Archive(_Strict):
    """A .zip or .tar.gz that holds a file."""

    name: ArchiveName
    member: RelativePath
    sha256: Sha256
    bytes: Bytes | None = None
    urls: list[Url] = Field(min_length=1)


class Contents(_Strict):
    """What a .tar.gz holds: its files are right if they are these, however they were packed."""

    sha256: Sha256 = Field(description="`contents_sha256`")
    repacked: RelativePath = Field(description="name of another packing in a mirror folder")


class File(_Strict):
    """A file as it lies in the data folder, and the addresses of it or of its archive."""

    path: RelativePath
    sha256: Sha256
    contents: Contents | None = None
    bytes: Bytes | None = None
    urls: list[Url] = []
    archive: Archive | None = None

    @model_validator(mode="after")
    def _one_origin(self) -> "File":
        if bool(self.urls) == bool(self.archive):
            raise ValueError("expected either urls or archive")
        if self.archive and self.bytes is None:
            raise ValueError("expected bytes beside archive: they bound what is unpacked")
        return self


class Source(_Strict):
    """A data set at its publisher's."""

    title: str
    licence: str
    terms: str
    citation: str
    files: list[File] = Field(min_length=1)


class Manifest(_Strict):
    """All sources by name."""

    sources: dict[str, Source]

    @model_validator(mode="after")
    def _unique_paths(self) -> "Manifest":
        paths = [file.path for source in self.sources.values() for file in source.files]
        if repeated := {path for path in paths if paths.count(path) > 1}:
            raise ValueError(f"expected every path once, found {min(repeated)} again")
        return self


@dataclass(frozen=True)
class FetchResult:
    """What became of one file: where it lies, how it got there, or why it did not."""

    source: str
    path: Path
    status: Literal["present", "copied", "downloaded", "failed"]
    reason: str = ""


def read_manifest(path: Path = MANIFEST) -> Manifest:
    """Read and validate a manifest.

    Raises
    ------
    DataError
        Naming the entry that is unknown, absent or malformed.
    """
    try:
        return Manifest.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except yaml.YAMLError as error:
        raise DataError(f"{path}: expected YAML, found {' '.join(str(error).split())}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(key) for key in first["loc"])
        raise DataError(f"{path}: {where}: {first['msg']}") from None


def fetch_file(
    path: str, target_dir: Path, mirror: Path | None = None, manifest: Manifest | None = None
) -> FetchResult:
    """Put one file of the manifest into the data folder.

    A file that is there with the right sha256, its own or that of its contents, is left alone.
    Otherwise it, or its archive, is taken from the data folder (where the archive may lie beside
    it, as a file of its own), the mirror folder (under the file's path in the manifest, or under
    the archive's or the other packing's name beside it) or from the first address that serves it;
    it replaces what is there only when its size and sha256 are right.

    Parameters
    ----------
    path : str
        Path in the manifest and below `target_dir`.
    target_dir : Path
        The data folder.
    mirror : Path, optional
        A folder laid out like the data folder, tried before the network.
    manifest : Manifest, optional
        Read from `MANIFEST` if not given.

    Raises
    ------
    DataError
        If no place had the file, naming each place and what was wrong there; or if the manifest
        has no such file, or `mirror` is no folder.
    """
    manifest = manifest or read_manifest()
    for name, source in manifest.sources.items():
        for file in source.files:
            if file.path == path:
                return _fetch(name, file, Path(target_dir), mirror)
    raise DataError(f"manifest: expected the path of one of its files, found {path!r}")


def fetch_all(
    target_dir: Path, mirror: Path | None = None, manifest: Manifest | None = None
) -> list[FetchResult]:
    """Put every file of the manifest into the data folder; report those that cannot be had."""
    manifest = manifest or read_manifest()
    results = []
    for name, source in manifest.sources.items():
        for file in source.files:
            try:
                results.append(_fetch(name, file, Path(target_dir), mirror))
            except DataError as error:
                target = Path(target_dir) / file.path
                results.append(FetchResult(name, target, "failed", str(error)))
    return results


def _fetch(source: str, file: File, target_dir: Path, mirror: Path | None) -> FetchResult:
    if mirror is not None and not Path(mirror).is_dir():
        raise DataError(f"mirror: expected a folder, found {mirror}")
    target = target_dir / file.path
    reasons = []
    if target.exists():
        try:
            _verify(target, file)
            return FetchResult(source, target, "present")
        except DataError as error:
            reasons.append(f"{target}: {error} (left as it is)")
    with replacing(target) as part:
        for place, archive in _places(file, target, mirror):
            try:
                if archive is None:
                    _get(place, part, file)
                else:
                    assert file.bytes is not None  # beside an archive: `File` has it so
                    packed = part.with_name(f"{part.name}.{archive.name}")
                    _get(place, packed, archive)
                    unpack(packed, archive.member, file.bytes, part)
                    _verify(part, file)
                return FetchResult(
                    source, target, "copied" if isinstance(place, Path) else "downloaded"
                )
            except (DataError, OSError) as error:  # requests' errors are OSErrors
                reasons.append(f"{place}: {_reason(error)}")
        raise DataError(f"{file.path}: no place had the right file: {'; '.join(reasons)}")


def _places(
    file: File, target: Path, mirror: Path | None
) -> Iterator[tuple[Path | str, Archive | None]]:
    """Yield where to look, in order, with the archive to be found there if it is one."""
    if file.archive and (packed := target.with_name(file.archive.name)).is_file():
        yield packed, file.archive
    if mirror is not None:
        yield from places_in(Path(mirror), file)
    for url in file.archive.urls if file.archive else file.urls:
        yield url, file.archive


def places_in(mirror: Path, file: File) -> Iterator[tuple[Path, Archive | None]]:
    """Yield where a mirror folder may have a file, with the archive to be found there if any."""
    path = mirror / file.path
    yield path, None
    if file.archive:
        yield path.with_name(file.archive.name), file.archive
    if file.contents:
        yield path.with_name(file.contents.repacked), None


def _get(place: Path | str, target: Path, wanted: File | Archive) -> None:
    if isinstance(place, str):
        retrying = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(ATTEMPTS),
            wait=tenacity.wait_exponential(FIRST_WAIT_S),
            retry=tenacity.retry_if_exception(_may_pass),
            reraise=True,
        )
        retrying(_download, place, target, wanted.bytes)
    elif place.is_file():
        shutil.copyfile(place, target)
    else:
        raise DataError("no such file")
    _verify(target, wanted)


def _download(url: str, target: Path, size: int | None) -> None:
    # Uncompressed transfer, so that Content-Length is the size of the file.
    headers = {"Accept-Encoding": "identity"}
    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn()
    with (
        requests.get(url, stream=True, timeout=TIMEOUT_S, headers=headers) as response,
        progress(*columns) as bar,
        target.open("wb") as file,
    ):
        response.raise_for_status()
        announced = int(response.headers.get("Content-Length", 0))
        task = bar.add_task(target.name, total=size or announced or None)
        for piece in response.iter_content(PIECE_BYTES):
            file.write(piece)
            bar.advance(task, len(piece))
            if size is not None and file.tell() > size:
                return  # more than can be right; _verify says what it is


def _may_pass(error: BaseException) -> bool:
    """Tell trouble that another attempt may overcome: a busy server, a broken connection."""
    match error:
        case requests.HTTPError(response=requests.Response(status_code=status)):
            return status == 429 or status >= 500
        case requests.ConnectionError() | requests.Timeout() | ChunkedEncodingError():
            return True
    return False


def _reason(error: Exception) -> str:
    """Say in a few words what requests says in several lines."""
    match error:
        case requests.HTTPError(response=requests.Response(status_code=status)):
            return f"HTTP status {status}"
        case requests.Timeout():
            return "no answer in time"
        case ChunkedEncodingError():
            return "truncated: the connection was closed early"
        case requests.ConnectionError():
            return f"no connection ({type(error).__name__})"
    return " ".join(str(error).split())


def _verify(path: Path, wanted: File | Archive) -> None:
    size = path.stat().st_size
    if wanted.bytes in (None, size):
        found = sha256(path)
        if found == wanted.sha256:
            return
        problem = f"expected sha256 {wanted.sha256}, found {found}"
        if isinstance(wanted, File) and wanted.contents:
            try:
                return _verify_contents(path, wanted.contents)
            except DataError as error:
                problem += f"; {error}"
    elif size < wanted.bytes:
        problem = f"truncated: expected {wanted.bytes} bytes, found {size}"
    else:
        problem = f"expected {wanted.bytes} bytes, found more"
    with path.open("rb") as file:
        start = file.read(1024).lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html")):
        problem = "expected the file, found an HTML page"
    raise DataError(problem)


def _verify_contents(path: Path, wanted: Contents) -> None:
    found = contents_sha256(read_tar(path))
    if found != wanted.sha256:
        raise DataError(f"expected contents of sha256 {wanted.sha256}, found {found}")
