"""From a data set to batches: which series come in which step, and what a task shows of them."""

import numpy as np
import torch

from datasets.base import Dataset
from harness.contract import Batch


def make_batch(dataset: Dataset, indices: np.ndarray) -> Batch:
    """Gather some series; all that is observed is shown and fitted (generation, reconstruction)."""
    mask = torch.from_numpy(dataset.mask[indices].astype(np.float32))
    return Batch(
        x=torch.from_numpy(dataset.x[indices]),
        t=torch.from_numpy(np.ascontiguousarray(dataset.t[indices])),
        mask=mask,
        target=mask,
    )


def steps_per_epoch(n: int, batch_size: int) -> int:
    """Batches in one pass over `n` series; the last may be smaller."""
    return -(-n // batch_size)


def batch_indices(train: np.ndarray, batch_size: int, step: int, seed: int) -> np.ndarray:
    """Return the series of optimiser step `step`.

    A function of its arguments alone, so the sampler has no state to save: each epoch is a
    permutation seeded by (seed, epoch).
    """
    epoch, position = divmod(step, steps_per_epoch(len(train), batch_size))
    order = np.random.default_rng([seed, epoch]).permutation(train)
    return order[position * batch_size : (position + 1) * batch_size]
