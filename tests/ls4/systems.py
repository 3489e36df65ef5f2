"""What the tests of kernels and layers share."""

import numpy as np
import torch

STRUCTURES = [
    ("dplr", "legs", "bilinear"),
    ("diagonal", "legs", "zoh"),
    ("diagonal", "legs", "bilinear"),
    ("diagonal", "lin", "zoh"),
    ("diagonal", "inv", "zoh"),
    ("diagonal", "ptd", "zoh"),
    ("diagonal", "ptd", "bilinear"),
]


def accuracy(init: str) -> float:
    """Of single precision. Ill-conditioned eigenvectors (3e3 for N = 64) cost `ptd` a digit."""
    return 1e-3 if init == "ptd" else 1e-4


def impulse_response(step, H: int, L: int) -> torch.Tensor:
    """Output of a recurrence for a unit impulse, (H, L)."""
    inputs = [torch.ones(1, H), *[torch.zeros(1, H)] * (L - 1)]
    return torch.stack([step(u)[0] for u in inputs], -1)


def hippo_legs(N: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A, B, P as HiPPO and S4 print them."""
    n = np.arange(N)
    A = np.where(n[:, None] > n, -np.sqrt(2 * n[:, None] + 1) * np.sqrt(2 * n + 1), 0.0) - np.diag(
        n + 1.0
    )
    return A, np.sqrt(2 * n + 1), np.sqrt(n + 0.5)
