"""Random streams: one for each purpose of each cell, no two alike.

A stream's seed is derived from the cell's identity (task, data set, model, seed) and the purpose by
numpy's SeedSequence. The budget is not part of it: a longer training begins like a shorter one.
Evaluators have no streams of a cell: their seeds are the same for all rows, so that rows differ by
what they generated alone.
"""

import hashlib
from typing import Literal

import numpy as np
import torch

from harness.cells import Spec

Purpose = Literal["weights", "batches", "training", "sampling", "control"]


def seed_of(spec: Spec, purpose: Purpose) -> int:
    """Return the seed of a stream: 32 bits, since torch's CPU generator takes no more."""
    return int(_sequence(spec, purpose).generate_state(1, np.uint32)[0])


def torch_stream(spec: Spec, purpose: Purpose, device: torch.device) -> torch.Generator:
    """Return a stream for torch, on a device."""
    return torch.Generator(device).manual_seed(seed_of(spec, purpose))


def numpy_stream(spec: Spec, purpose: Purpose) -> np.random.Generator:
    """Return a stream for numpy."""
    return np.random.default_rng(_sequence(spec, purpose))


def _sequence(spec: Spec, purpose: Purpose) -> np.random.SeedSequence:
    identity = f"{spec.task}/{spec.dataset}/{spec.model}/{spec.seed}/{purpose}"
    entropy = hashlib.sha256(identity.encode()).digest()
    return np.random.SeedSequence(list(np.frombuffer(entropy, dtype=np.uint32)))
