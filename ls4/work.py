"""The least work of a training or generation step of LS4, for a lower bound of its time.

Matrix products are left to the caller, who can count them with torch. Counted here is the rest:

training    FFTs, of every channel's input, output and their gradients, each of length n = 2 L at
            2.5 n log2 n operations; and the traffic of every residual block, five passes over
            (B, L, H) in single precision: input, output, input again and two gradients
generation  the complex products of the states, at 6 operations for each mode; and the states
            themselves, read and written

Kernels and activations count as free.
"""

import math
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from torch import nn

from ls4.blocks import Level, Residual
from ls4.layer import SSM


class Work(NamedTuple):
    """Operations beside matrix products, and bytes that are moved."""

    operations: float
    bytes: float


def training_work(module: nn.Module, batch: int, length: int) -> Work:
    """Return the work of a training step on `batch` sequences."""
    traffic, transformed = 0.0, Counter[int]()  # channels by the length of their FFTs
    for part, L in _lengths(module, length):
        if isinstance(part, SSM):
            transformed[2 * L] += part.log_dt.numel()
        elif isinstance(part, Residual):
            traffic += 5 * 4 * batch * L * part.width
    operations = sum(
        batch * channels * 4 * 2.5 * n * math.log2(n) for n, channels in transformed.items()
    )
    return Work(operations, traffic)


def step_work(module: nn.Module, batch: int) -> Work:
    """Return the work of one step of `batch` sequences in the recurrent mode, without pooling."""
    systems = [part for part in module.modules() if isinstance(part, SSM)]
    modes = sum(ssm.log_A_real.numel() for ssm in systems)
    return Work(operations=6.0 * batch * modes, bytes=2.0 * 8 * batch * modes)


def _lengths(module: nn.Module, length: int) -> Iterator[tuple[nn.Module, int]]:
    """Yield every module inside with the length of the sequences that it gets."""
    yield module, length
    for name, child in module.named_children():
        if isinstance(module, Level) and name == "coarse":
            yield from _lengths(child, length // module.p)
        else:
            yield from _lengths(child, length)
