"""A GPU for each job, by lock files; the CPU where there is none.

A GPU takes one job at a time, or as many as the environment variable LS4_JOBS_PER_GPU says.

Snakemake's `gpu` resource limits how many jobs run at once but assigns no device.
"""

import contextlib
import itertools
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from harness.errors import UserError
from harness.run.memory import keep_freed_memory

JOBS_PER_GPU = "LS4_JOBS_PER_GPU"


@contextlib.contextmanager
def device() -> Iterator[torch.device]:
    """Hold a place on a GPU for the duration of the context, waiting for one; else the CPU.

    Raises
    ------
    UserError
        If LS4_JOBS_PER_GPU is not a number from 1 on.
    """
    places = jobs_per_gpu()
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count == 0:
        keep_freed_memory()
        yield torch.device("cpu")
        return
    while True:
        # the first place of every card before the second of any
        for place, index in itertools.product(range(places), range(count)):
            # named by the card, not by its index, which CUDA_VISIBLE_DEVICES renumbers
            uuid = torch.cuda.get_device_properties(index).uuid
            path = Path(tempfile.gettempdir()) / f"ls4-benchmark-gpu-{uuid}-{place}.lock"
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


def jobs_per_gpu() -> int:
    """Return how many jobs may share a GPU."""
    text = os.environ.get(JOBS_PER_GPU, "1")
    if not text.isdecimal() or int(text) < 1:
        raise UserError(f"{JOBS_PER_GPU}: expected a number from 1 on, found {text!r}")
    return int(text)
