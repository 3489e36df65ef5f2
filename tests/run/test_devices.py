"""A free GPU for each job, by lock."""

import ctypes
import subprocess
import sys
import threading
import time
from types import SimpleNamespace
from uuid import uuid4

import pytest
import torch

from harness.errors import UserError
from harness.run.devices import device


@pytest.fixture
def cards(monkeypatch: pytest.MonkeyPatch):
    """Pretend that there are some GPUs."""

    def pretend(count: int) -> None:
        names = [uuid4() for _ in range(count)]
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(
            torch.cuda, "get_device_properties", lambda i: SimpleNamespace(uuid=names[i])
        )

    return pretend


def test_without_a_gpu_it_is_the_cpu(cards) -> None:
    cards(0)
    with device() as first, device() as second:
        assert first == second == torch.device("cpu")


def test_each_holder_has_its_own_card_and_the_next_waits(cards) -> None:
    cards(2)
    got: list[torch.device] = []

    def third() -> None:
        with device() as where:
            got.append(where)

    with device() as first:
        with device() as second:
            assert {first, second} == {torch.device("cuda", 0), torch.device("cuda", 1)}
            waiting = threading.Thread(target=third)
            waiting.start()
            time.sleep(0.2)
            assert not got, "two jobs on one card"
        waiting.join(timeout=30)
    assert got == [second]


def test_jobs_share_cards_evenly(cards, monkeypatch: pytest.MonkeyPatch) -> None:
    cards(2)
    monkeypatch.setenv("LS4_JOBS_PER_GPU", "2")
    with device() as a, device() as b, device() as c, device() as d:
        assert [where.index for where in (a, b, c, d)] == [0, 1, 0, 1]


@pytest.mark.parametrize("text", ["0", "two", "-1", ""])
def test_a_bad_number_of_jobs(cards, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    cards(1)
    monkeypatch.setenv("LS4_JOBS_PER_GPU", text)
    with pytest.raises(UserError, match="LS4_JOBS_PER_GPU: expected a number from 1 on"), device():
        pass


def test_a_card_is_free_again_after_an_error(cards) -> None:
    cards(1)
    with pytest.raises(KeyError), device():
        raise KeyError
    with device() as where:
        assert where == torch.device("cuda", 0)


FROM_SYSTEM = """
import ctypes, torch
from harness.run.devices import device
class Info(ctypes.Structure):
    _fields_ = [("sizes", ctypes.c_size_t * 10)]  # the fifth: mapped, not of the heap
mallinfo2 = ctypes.CDLL(None).mallinfo2
mallinfo2.restype = Info
with device():
    large = torch.ones(2**25)
    print(mallinfo2().sizes[4])
"""


@pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="of glibc"
)
@pytest.mark.skipif(torch.cuda.is_available(), reason="of a CPU")
def test_large_tensors_come_from_memory_that_is_kept() -> None:
    run = subprocess.run(
        [sys.executable, "-c", FROM_SYSTEM], capture_output=True, text=True, check=True
    )
    assert int(run.stdout) < 4 * 2**25
