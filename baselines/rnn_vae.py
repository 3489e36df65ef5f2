r"""RNN-VAE: a variational autoencoder with a recurrent encoder and a recurrent decoder.

The baseline of that name in Rubanova, Chen and Duvenaud, "Latent ODEs for irregularly-sampled time
series", NeurIPS 2019, arXiv:1907.03907, section 4, and in the authors' released code. Cells: Cho et
al., arXiv:1406.1078.

Encoder, backwards in time from the last observation to t_0, from h = 0:

.. math::

    h \leftarrow \mathrm{GRU}_e([x_i, m_i, t_{i+1} - t_i], h), \qquad
    (\mu, s) = P h \quad \text{at } t_0.

Decoder, forwards from h = z_0, with \hat x_{-1} = 0 and m_{-1} = 0:

.. math::

    h \leftarrow \mathrm{GRU}_d([\hat x_{i-1}, m_{i-1}, t_i - t_{i-1}], h), \qquad
    \hat x_i = O h, \qquad m_i = 1.

========  ============  =====================================================
symbol    shape         meaning
========  ============  =====================================================
x, m      (B, R, D)     values and mask of the observed rows
h         (B, H)        encoder state
h         (S B, Z)      decoder state
x_hat     (S, B, L, D)  decoded mean, fed back into the decoder
P         MLP           to mu and s, one hidden layer of tanh
O         MLP           to x_hat, one hidden layer of tanh
========  ============  =====================================================

Deviations from the released code, beside those in `baselines.rubanova`:

* Data are reversed along time, record by record. The released code reverses them along the batch
  when it interpolates, and so encodes each record from another one.
* The decoder starts from zeros and output i belongs to t_i. The released decoder is given the true
  first row as its first input, and copies it in front of its outputs.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from baselines.rubanova import InitialStateVAE, init_linear, rows_backwards, tanh_mlp
from harness.contract import TASKS, Batch, Shape, Task


@dataclass(frozen=True)
class RNNVAEConfig:
    """Released Physionet settings, except `sigma`."""

    latents: int = 20  # Z
    rec_dims: int = 40  # H
    units: int = 50  # of P and O
    sigma: float = 0.1  # of the bound and of predictions; released: 0.01
    loss_sigma: float | None = None  # of the loss; that of the bound by default
    train_samples: int = 1  # S in training; the released code asks for 3 and draws 1
    lr: float = 0.01
    steps_per_epoch: int = 128  # 6400 records in batches of 50


class RNNVAE(InitialStateVAE):
    """RNN-VAE; see the module's docstring."""

    tasks: ClassVar[frozenset[Task]] = frozenset(TASKS)
    Config: ClassVar = RNNVAEConfig

    def __init__(self, config: RNNVAEConfig, shape: Shape):
        super().__init__(config, shape)
        c, n_in = config, 2 * shape.channels + 1
        self.encoder = nn.GRU(n_in, c.rec_dims, batch_first=True)
        self.p = tanh_mlp(c.rec_dims, c.units, 2 * c.latents)
        self.decoder = nn.GRUCell(n_in, c.latents)
        self.o = tanh_mlp(c.latents, c.units, shape.channels)
        self.apply(init_linear)

    def encode(self, batch: Batch) -> tuple[Float[Tensor, "B Z"], Float[Tensor, "B Z"]]:
        rows = rows_backwards(batch)
        inputs = torch.cat([rows.x, rows.mask, rows.gap[..., None]], -1)  # (B, R, 2D + 1)
        path, _ = self.encoder(inputs)
        h = path.take_along_dim(rows.length[:, None, None] - 1, 1)[:, 0]  # (B, H)
        mu, s = self.p(h).chunk(2, -1)
        return mu, s.abs() + 1e-6

    def decode(
        self, z0: Float[Tensor, "S B Z"], t: Float[Tensor, "B L"]
    ) -> Float[Tensor, "S B L D"]:
        draws, batch, _ = z0.shape  # the draws go into the batch
        gap = t.diff(dim=1, prepend=t[:, :1]).repeat(draws, 1)[..., None]  # (S B, L, 1)
        h = z0.flatten(0, 1)  # (S B, Z)
        x_hat = h.new_zeros(len(h), self.shape.channels)
        mask = torch.zeros_like(x_hat)
        path = []
        for gap_i in gap.unbind(1):
            h = self.decoder(torch.cat([x_hat, mask, gap_i], -1), h)
            x_hat = self.o(h)
            mask = torch.ones_like(x_hat)
            path.append(x_hat)
        return torch.stack(path, 1).unflatten(0, (draws, batch))
