"""One GPU for each job, by a lock file; the CPU where there is none.

Snakemake's `gpu` resource limits how many jobs run at once but assigns no device.
"""

import contextlib
import ctypes
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from filelock import FileLock, Timeout

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # of mallopt, in the C library's malloc.h
HEAP_STEP = 2**28  # bytes of addresses by which the heap grows


@contextlib.contextmanager
def device() -> Iterator[torch.device]:
    """Hold a free GPU for the duration of the context, waiting until there is one; else the CPU."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count == 0:
        keep_freed_memory()
        yield torch.device("cpu")
        return
    while True:
        for index in range(count):
            # named by the card, not by its index, which CUDA_VISIBLE_DEVICES renumbers
            uuid = torch.cuda.get_device_properties(index).uuid
            path = Path(tempfile.gettempdir()) / f"ls4-benchmark-gpu-{uuid}.lock"
            lock = FileLock(path, mode=0o666)  # other users of the machine wait for it too
            try:
                lock.acquire(blocking=False)
            except Timeout:
                continue
            try:
                yield torch.device("cuda", index)
                return
            finally:
                lock.release()
        time.sleep(1.0)


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
