"""Shared by all tests: no network beyond this machine, real data where there are any."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

MONASH = (
    "monash/fred_md_dataset.tsf",
    "monash/nn5_daily_dataset_without_missing_values.tsf",
    "monash/solar_weekly_dataset.tsf",
)
DATA = Path(__file__).parents[1] / "data"


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: object) -> None:
        if isinstance(address, tuple) and address[0] not in {"127.0.0.1", "::1", "localhost"}:
            raise ConnectionRefusedError(f"tests may not reach {address[0]}")
        connect(self, address)  # type: ignore[arg-type]

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture(autouse=True)
def _global_stream() -> None:
    """Initial weights made directly in a test come from torch's global stream."""
    torch.manual_seed(0)


@pytest.fixture
def double() -> object:
    """Double precision by default, for closed forms."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="session")
def mirrored() -> Callable[..., Path]:
    """Find the folder of real source files that holds these, or skip the test.

    Files go by their paths in the manifest; the folder is the one that LS4_MIRROR names, or what
    was downloaded.
    """
    # Not before jaxtyping has hooked into imports, which is after this file is read.
    from datasets.fetch import places_in, read_manifest

    files = {
        file.path: file for source in read_manifest().sources.values() for file in source.files
    }

    def holds(folder: Path, path: str) -> bool:
        # The file itself: in an archive, tests could not read it where it lies.
        places = places_in(folder, files[path])
        return any(place.is_file() for place, archive in places if archive is None)

    def folder_of(*paths: str) -> Path:
        for folder in (os.environ.get("LS4_MIRROR"), DATA):
            if folder and all(holds(Path(folder), path) for path in paths):
                return Path(folder)
        pytest.skip(f"real data: neither LS4_MIRROR nor data/ holds {', '.join(paths)}")

    return folder_of


@pytest.fixture(scope="session")
def mirror(mirrored: Callable[..., Path]) -> Path:
    """Folder of real source files that holds the small Monash sets."""
    return mirrored(*MONASH)
