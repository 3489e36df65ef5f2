"""All files of one source at once, which tests want."""

from pathlib import Path

from datasets.fetch import FetchResult, Manifest, fetch_file, read_manifest


def fetch(
    source: str, folder: Path, mirror: Path | None = None, manifest: Manifest | None = None
) -> list[FetchResult]:
    """Put all files of a source into a folder."""
    files = (manifest or read_manifest()).sources[source].files
    return [fetch_file(file.path, folder, mirror, manifest) for file in files]
