"""Memory: errors that mean too little of it, how much was used, a limit for a process."""

import ctypes
import re
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from harness.errors import lacks_memory

FREE = 0.95  # share of the free memory that `limit_memory` leaves
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # of mallopt, in the C library's malloc.h
HEAP_STEP = 2**28  # bytes of addresses by which the heap grows


class OutOfMemory(Exception):
    """The device or the machine has too little memory; the message is the allocator's."""


@contextmanager
def raising_out_of_memory() -> Iterator[None]:
    """Turn the many ways in which allocations fail into `OutOfMemory`."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        # torch.OutOfMemoryError is a RuntimeError; the CPU's allocator, C++ and CUDA's libraries
        # raise plain ones.
        text = str(error).partition("\n")[0] or type(error).__name__
        if isinstance(error, torch.OutOfMemoryError) or lacks_memory(error):
            raise OutOfMemory(text) from error
        raise


def peak_memory(device: torch.device) -> int:
    """Return the highest memory use in bytes, since `forget_peak` where that was called.

    On the CPU that of this process; on a GPU that of its tensors.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    own = _bytes("/proc/self/status", "VmHWM")
    if own is not None:
        return own
    # On Linux this would count the process that started this one, too.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def forget_peak(device: torch.device) -> None:
    """Reset the count of the highest memory use, where the system allows it."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif (reset := Path("/proc/self/clear_refs")).exists():
        reset.write_text("5")


def limit_memory() -> int | None:
    """Let allocations fail beyond what is free on the machine, and return that many bytes.

    Otherwise the operating system would end this process, or another one. None where the system
    does not say (it is not Linux).
    """
    free, own = (_bytes(file, key) for file, key in
                 (("/proc/meminfo", "MemAvailable"), ("/proc/self/status", "VmSize")))  # fmt: skip
    if free is None or own is None:
        return None
    most = own + int(FREE * free)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    return free


def _bytes(file: str, key: str) -> int | None:
    path = Path(file)
    found = re.search(rf"^{key}:\s+(\d+) kB$", path.read_text(), re.M) if path.exists() else None
    return 1024 * int(found[1]) if found else None


def keep_freed_memory() -> None:
    """Let the C library keep freed memory for this process's next allocations.

    As it comes, every tensor above 32 MiB is made of pages that are new from the system, one fault
    each, and to which it returns: that takes longer than most operations on the tensor.
    """
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # not in every C library
        if mallopt is not None:
            mallopt(M_MMAP_MAX, 0)
            mallopt(M_TRIM_THRESHOLD, -1)
            mallopt(M_TOP_PAD, HEAP_STEP)
