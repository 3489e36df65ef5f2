"""One GPU for each job, by a lock file; the CPU where there is none.

Snakemake's `gpu` resource limits how many jobs run at once but assigns no device.
"""

import contextlib
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from harness.run.memory import keep_freed_memory


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
