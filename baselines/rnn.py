r"""RNN: a GRU whose inputs are the rows and the gaps between them.

The baseline "RNN Delta_t" of Rubanova, Chen and Duvenaud, "Latent ODEs for irregularly-sampled time
series", NeurIPS 2019, arXiv:1907.03907, section 2, and of the authors' released code. Cells: Cho et
al., arXiv:1406.1078.

In the notation of `baselines.autoregressive`, which says when a row is read:

.. math::

    h_i^- = h_j, \qquad
    \hat x_i = O h_i^-, \qquad
    h_i = \mathrm{GRU}([x_i, m_i, t_{i+1} - t_i], h_i^-).

========  ==========  ==================================================
symbol    shape       meaning
========  ==========  ==================================================
h         (B, H)      state
O         MLP         to x_hat, one hidden layer of tanh
========  ==========  ==================================================

As released, a row comes with the gap to the *next* row, 0 at the last, so that the state knows how
far ahead it predicts. The next row is the next of the grid, seen or hidden: hidden rows are what is
to be predicted. Of several hidden rows in sequence the first has the right gap, and all have the
same prediction, since nothing moves the state where nothing is seen.

Deviations from the released code: those in `baselines.autoregressive`, no more.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import pad

from baselines.autoregressive import Autoregressive, reading
from baselines.rubanova import init_linear, tanh_mlp
from harness.contract import Batch, Shape


@dataclass(frozen=True)
class RNNConfig:
    """Released Physionet settings, except `sigma`."""

    latents: int = 20  # H
    units: int = 50  # of O
    sigma: float = 0.1  # released: 0.01
    lr: float = 0.01


class RNN(Autoregressive):
    """RNN Delta_t; see the module's docstring."""

    Config: ClassVar = RNNConfig

    def __init__(self, config: RNNConfig, shape: Shape):
        super().__init__(config, shape)
        self.gru = nn.GRU(2 * shape.channels + 1, config.latents, batch_first=True)
        self.o = tanh_mlp(config.latents, config.units, shape.channels)
        self.apply(init_linear)

    def forecast(self, batch: Batch) -> Float[Tensor, "B L D"]:
        rows = reading(batch)
        gap = batch.t.diff(dim=1, append=batch.t[:, -1:])[..., None]  # (B, L, 1)
        inputs = torch.cat([batch.visible, batch.mask, gap], -1)  # (B, L, 2D + 1)
        states, _ = self.gru(inputs.take_along_dim(rows.seen[..., None], 1))
        states = pad(states, (0, 0, 1, 0))  # (B, 1 + R, H), the initial zeros first

        h = states.take_along_dim(rows.n_seen[:, None, None], 1)[:, 0]  # (B, H)
        path = [states]
        for gap_i in gap.take_along_dim(rows.ahead[..., None], 1).unbind(1):
            x_hat = self.o(h)
            inputs = torch.cat([x_hat, torch.ones_like(x_hat), gap_i], -1)
            h = torch.gru_cell(inputs, h, *self.gru.all_weights[0])
            path.append(h[:, None])
        return self.o(torch.cat(path, 1).take_along_dim(rows.before[..., None], 1))
