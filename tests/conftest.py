"""Shared by all tests: no network beyond this machine, real data where there are any."""

import os
import socket
from pathlib import Path

import pytest
import torch

MONASH = (
    "fred_md_dataset.tsf",
    "nn5_daily_dataset_without_missing_values.tsf",
    "solar_weekly_dataset.tsf",
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
def mirror() -> Path:
    """Folder of real source files: the one that LS4_MIRROR names, or what was downloaded."""
    for folder in (os.environ.get("LS4_MIRROR"), DATA):
        # All that tests read: a data folder may hold one set only.
        if folder and all((Path(folder) / "monash" / file).is_file() for file in MONASH):
            return Path(folder)
    pytest.skip(f"real data: neither LS4_MIRROR nor data/ holds monash/ with {', '.join(MONASH)}")
