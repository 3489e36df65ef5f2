"""LS4 that knows the time: the model of `ls4.model` for rows at any times.

    posterior  q(z_n | x_<=n)   input  x_n m_n, m_n, log(1 + delta_n)
    prior      p(z_n | z_<n)    input  z_{n-1}, log(1 + delta_n)
    decoder    p(x_n | z_<=n)   input  z_n, log(1 + delta_n)

======== =========== ===================================================================
symbol   shape       meaning
======== =========== ===================================================================
x, m     (B, L, D)   observed series, and 1 where the network may see it
z        (B, L, Z)   latent path
delta    (B, L)      gap before each row, in units of 1/`time_scale`; 1 before the first
======== =========== ===================================================================

Every state space layer advances by the gap itself (`ls4.scan`), so a record is read on its own
grid: what is said of it depends neither on its neighbours in a batch nor on padding. A row without
values is a latent vector more, not a step of the clock.

Deviations from LS4 as released, beside that: the posterior is told which values are there; the
state space layers have many inputs and outputs (S5), whose states are few enough for a step of each
record's own; the loss is the negative evidence bound, into which the KL is let in over the first
`kl_steps` steps, lest the path be given up as noise before the decoder can read it; gradients are
clipped, since rare values far off would dominate them.
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from harness.contract import Batch, Optimisation, Shape
from ls4.model import LatentConfig, LatentSSM
from ls4.scan import ScanLayer


@dataclass(frozen=True)
class TimedConfig(LatentConfig):
    """What a model that is told the gaps has beside."""

    time_scale: float | None = None  # typical rows in a time range of 1; by default the longest L
    kl_steps: int = 1000  # optimiser steps over which the KL's weight rises to 1


@dataclass(frozen=True)
class LS4TimeConfig(TimedConfig):
    """Hyper-parameters; those of LS4 where both have them."""

    state: int = 128  # N of each layer as a whole
    clip_norm: float = 1.0  # of the gradient


class TimedSSM(LatentSSM):
    """A latent state space model told what is there and the gaps; its KL is let in by and by.

    Parameters
    ----------
    config, shape
        See `Model`.
    parts
        See `LatentSSM`.
    """

    def __init__(self, config: TimedConfig, shape: Shape, **parts: Any):
        super().__init__(config, shape, 2 * shape.channels + 1, config.latent + 1, **parts)
        self.time_scale = config.time_scale or max(shape.length - 1, 1)

    def clock(self, t: Float[Tensor, "B L"]) -> Float[Tensor, "B L"]:
        """Gap before each row; a typical one before the first."""
        return F.pad(t.diff(dim=1) * self.time_scale, (1, 0), value=1.0)

    def see(self, x: Tensor, mask: Tensor, time: Tensor) -> Tensor:
        return self.tell(torch.cat([x * mask, mask], -1), time)

    def tell(self, z: Tensor, time: Tensor) -> Tensor:
        return torch.cat([z, time.log1p().unsqueeze(-1)], -1)

    def _weigh(self, kl: Tensor, nll: Tensor, batch: Batch, step: int) -> tuple[Tensor, Tensor]:
        kl, nll = super()._weigh(kl, nll, batch, step)
        return kl * min((step + 1) / self.config.kl_steps, 1), nll


class LS4Time(TimedSSM):
    """Latent state space model on each record's own times; see the module's docstring."""

    Config: ClassVar = LS4TimeConfig

    def __init__(self, config: LS4TimeConfig, shape: Shape):
        super().__init__(config, shape, layer=ScanLayer, pool=())

    def optimisers(self) -> dict[str, Optimisation]:
        main = super().optimisers()["main"]
        return {"main": replace(main, max_norm=self.config.clip_norm)}
