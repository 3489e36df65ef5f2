"""LS4 on each record's own times, which need not be evenly spaced.

    posterior  q(z_n | x_<=n)   input  x_n m_n, m_n, log(1 + delta_n), [a_n]
    prior      p(z_n | z_<n)    input  z_{n-1}, log(1 + delta_n)
    decoder    p(x_n | z_<=n)   input  z_n, log(1 + delta_n)

======== =========== ===================================================================
symbol   shape       meaning
======== =========== ===================================================================
x, m     (B, L, D)   observed series, and 1 where the network may see it
z        (B, L, Z)   latent path
a        (B, L, Z)   what lies ahead of a row, if the posterior is bidirectional
delta    (B, L)      gap before each row, in units of 1/`time_scale`; 1 before the first
======== =========== ===================================================================

Every state space layer advances by the gap before a row (`ls4.scan`), so a record is encoded on its
own grid: its prediction depends neither on its neighbours in a batch nor on padding. A row without
values adds a latent vector, but time goes on by its gap alone.

With `bidirectional` a fourth network runs over each record in reverse, from its last row that shows
something to its first, and gives a_n = a(x_>=n) to the posterior, which becomes q(z_n | x). It is
given the shown values alone; behind the last shown row a_n = 0. So nothing that is to be
extrapolated reaches earlier rows, in training either.

Deviations from LS4 as released (`ls4.released`), beside the times:

* The posterior is given the mask.
* The state space layers have many inputs and outputs (S5). Their states are few enough for steps of
  a different length at every row of every record.
* The loss is the negative evidence bound. The weight of the KL rises over `kl_steps` steps.
* Gradients are clipped, since rare values far from the others would dominate them.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from harness.contract import Shape
from ls4.blocks import Network
from ls4.gaps import GapConfig, GapSSM
from ls4.scan import ScanLayer


@dataclass(frozen=True)
class LS4TimeConfig(GapConfig):
    """Hyper-parameters; those of LS4 where both have them."""

    state: int = 128  # N of each layer as a whole
    clip_norm: float = 1.0  # of the gradient
    bidirectional: bool = False  # whether the posterior is given what lies ahead of a row


class LS4Time(GapSSM):
    """Latent state space model on each record's own times; see the module's docstring."""

    Config: ClassVar = LS4TimeConfig

    def __init__(self, config: LS4TimeConfig, shape: Shape):
        d_x, Z = 2 * shape.channels + 1, config.latent
        super().__init__(
            config,
            shape,
            d_x=d_x + Z * config.bidirectional,
            d_z=Z + 1,
            max_norm=config.clip_norm,
            layer=ScanLayer,
            pool=(),
        )
        self.ahead = None
        if config.bidirectional:
            sizes = {"width": config.width, "state": config.state, "n_pairs": config.n_pairs}
            self.ahead = Network(d_x, Z, layer=ScanLayer, pool=(), **sizes)

    def encode(self, x: Tensor, seen: Tensor, shown: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
        u = self.posterior_input(x, seen, time)
        if self.ahead is not None:
            u = torch.cat([u, self.look_ahead(x, shown, time)], -1)
        return self.posterior(u, time)

    def look_ahead(
        self, x: Float[Tensor, "B L D"], shown: Float[Tensor, "B L D"], delta: Float[Tensor, "B L"]
    ) -> Float[Tensor, "B L Z"]:
        """Return a_n, from the values that are shown in row n and in later ones."""
        assert self.ahead is not None
        n = torch.arange(x.shape[1], device=x.device).expand(len(x), -1)
        later = shown.amax(-1).flip(1).cummax(1).values.flip(1).bool()  # here or later, some shown
        turned = torch.where(later, later.sum(1, keepdim=True) - 1 - n, n)  # its own inverse
        rows = turned.unsqueeze(-1)
        gap = F.pad(delta[:, 1:], (0, 1), value=1.0).gather(1, turned)  # after a row, in reverse
        gap = torch.where(n == 0, 1.0, gap)
        u = self.posterior_input(
            x.gather(1, rows.expand_as(x)), shown.gather(1, rows.expand_as(x)), gap
        )
        a = self.ahead(u, gap)
        return a.gather(1, rows.expand_as(a)) * later.unsqueeze(-1)
