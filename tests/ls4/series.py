"""A small LS4, batches and noise, for several test files."""

import torch

from harness.contract import Batch, Shape
from ls4.released import LS4, LS4Config

SMALL = {"width": 8, "state": 8, "n_pairs": 1}


def small(length: int = 24, channels: int = 1, **config) -> LS4:
    return LS4(LS4Config(latent=3, **SMALL, **config), Shape(length, channels))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def even(x: torch.Tensor) -> torch.Tensor:
    """The even grid of a batch of series, or of latent paths."""
    return torch.linspace(0, 1, x.shape[1]).expand(x.shape[:2])


def batch_of(
    x: torch.Tensor, mask: torch.Tensor | None = None, target: torch.Tensor | None = None
) -> Batch:
    mask = torch.ones_like(x) if mask is None else mask
    return Batch(x, even(x), mask, mask if target is None else target)


def extrapolation(lengths: list[int], visible: list[int], channels: int = 2) -> Batch:
    """Padded records whose first rows are visible and whose other rows are targets."""
    rows = torch.arange(max(lengths))
    real, shown = (rows < torch.tensor(n)[:, None] for n in (lengths, visible))
    x = torch.rand(*real.shape, channels)
    observed = (torch.rand(x.shape) < 0.7).float()
    observed[..., 0] = 1
    mask, target = (observed * r.unsqueeze(-1) for r in (real & shown, real & ~shown))
    return batch_of(x * (mask + target), mask, target)


def stepped(network, u: torch.Tensor, time: torch.Tensor) -> list[torch.Tensor]:
    step = network.stepper(len(u))
    outputs = [step(v, now) for v, now in zip(u.unbind(1), time.unbind(1), strict=True)]
    if isinstance(outputs[0], tuple):
        return [torch.stack(part, 1) for part in zip(*outputs, strict=True)]
    return [torch.stack(outputs, 1)]
