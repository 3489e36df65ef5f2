"""What the forms of LS4 share whose networks are given the mask and the gaps between rows.

======== =========== ===================================================================
symbol   shape       meaning
======== =========== ===================================================================
x, m     (B, L, D)   observed series, and 1 where the network may see it
z        (B, L, Z)   latent path
delta    (B, L)      gap before each row, in units of 1/`time_scale`; 1 before the first
======== =========== ===================================================================

The posterior is given x_n m_n, m_n and log(1 + delta_n), prior and decoder z and log(1 + delta_n).
The loss is the negative evidence bound in nats for each target value, in which the weight of the KL
rises to 1. With its full weight from the start, the posterior would become the prior before the
decoder has learnt to use the latent path.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from harness.contract import Batch
from ls4.latent import LatentConfig, LatentSSM, per_target_value


@dataclass(frozen=True)
class GapConfig(LatentConfig):
    """Settings of these forms."""

    time_scale: float | None = None  # typical number of gaps in a time range of 1; default L - 1
    kl_steps: int = 1000  # optimiser steps over which the weight of the KL rises to 1


class GapSSM(LatentSSM):
    """Base of the forms with mask and gaps; see the module's docstring."""

    config: GapConfig

    @property
    def warm_up(self) -> int:
        return self.config.kl_steps

    def network_time(self, t: Float[Tensor, "B L"]) -> Float[Tensor, "B L"]:
        """Return delta."""
        scale = self.config.time_scale or max(self.shape.length - 1, 1)
        return F.pad(t.diff(dim=1) * scale, (1, 0), value=1.0)

    def latent_input(self, z: Float[Tensor, "*B Z"], time: Float[Tensor, "*B"]) -> Tensor:
        return torch.cat([z, time.log1p().unsqueeze(-1)], -1)

    def posterior_input(self, x: Tensor, mask: Tensor, time: Tensor) -> Tensor:
        return torch.cat([x * mask, mask, time.log1p().unsqueeze(-1)], -1)

    def weigh(self, kl: Tensor, nll: Tensor, batch: Batch, step: int) -> tuple[Tensor, Tensor]:
        kl, nll = per_target_value(kl, nll, batch)
        return kl * min((step + 1) / self.config.kl_steps, 1.0), nll
