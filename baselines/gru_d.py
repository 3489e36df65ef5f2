r"""GRU-D: a GRU whose state and inputs decay while nothing is observed.

Che et al., "Recurrent neural networks for multivariate time series with missing values", Scientific
Reports 8, 6085 (2018), arXiv:1606.01865, in the variant of the code that Rubanova, Chen and
Duvenaud released with "Latent ODEs for irregularly-sampled time series",
NeurIPS 2019, arXiv:1907.03907.

In the notation of `baselines.autoregressive`, which says when a row is read:

.. math::

    \delta_{ik} &= t_i - \text{time of the last value of channel } k \text{ before row } i
        \quad (t_i - t_0 \text{ if none}) \\
    \gamma_i &= \exp(-\max(0, w^\top \delta_i + b)), \qquad
    \gamma^x_{ik} = \exp(-\max(0, v_k \delta_{ik} + c_k)) \\
    h_i^- &= \gamma_i h_j, \qquad \hat x_i = O h_i^- \\
    \tilde x_i &= m_i x_i + (1 - m_i) (\gamma^x_i x^{\mathrm{last}}_i
        + (1 - \gamma^x_i)\, \bar x) \\
    h_i &= \mathrm{GRU}([\tilde x_i, m_i], h_i^-).

========  ==========  =====================================================================
symbol    shape       meaning
========  ==========  =====================================================================
h         (B, H)      state
delta     (B, L, D)   age of what is known of a channel when row i comes
gamma     (B, L, 1)   decay of the whole state: one scalar, as released
gamma^x   (B, L, D)   decay of the last value towards the mean
x_last    (B, L, D)   last value before row i; the mean if there is none
x_bar     (D,)        mean of the observed training values
w, b      (D,), ()    rates of the state's decay, learnt
v, c      (D,)        rates of the inputs' decay, learnt
O         MLP         to x_hat, one hidden layer of tanh
========  ==========  =====================================================================

A hidden row reads nothing, but its prediction is decoded from a state that has decayed up to its
time. In feed-back all channels are known at every row, so that delta is the time since the row
before.

Deviations from the released code, beside those in `baselines.autoregressive`:

* delta is Che et al.'s, the age of a value when a row comes. The released one accumulates the gaps
  to the next row, leaves out the first and the last, and is divided by the batch's largest.
* x_bar is Che et al.'s, the training mean. The released one is a mean over the record's rows, in
  which what is missing counts as 0.
* A state is decoded after it has decayed up to the time of the output. The released code decodes it
  as it was when the row before had been read.
* The released v and c are uninitialised memory, and on a GPU are never trained. Here gamma begins
  as exp(-mean of delta) and gamma^x as exp(-delta). A rate that begins negative would be cut off by
  the maximum, and without a gradient remain so.
* The released decays clip their exponent at 1000 too, where exp(-1000) is 0 with or without.

From Che et al. it differs, as released, by one scalar for the state's decay, not one for each unit.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from baselines.autoregressive import Autoregressive, fed_back, reading
from baselines.rubanova import init_linear, tanh_mlp
from harness.contract import Batch, Shape


@dataclass(frozen=True)
class GRUDConfig:
    """Released Physionet settings, except `sigma`."""

    latents: int = 20  # H
    units: int = 50  # of O
    sigma: float = 0.1  # released: 0.01
    lr: float = 0.01


def age(t: Float[Tensor, "B L"], known: Bool[Tensor, "B L D"]) -> Float[Tensor, "B L D"]:
    """Return delta: the time since a channel was last known before each row, or since t_0."""
    t = t[..., None]
    since = torch.where(known, t, t[:, :1]).cummax(1).values
    return t - torch.cat([t[:, :1].expand_as(since[:, :1]), since[:, :-1]], 1)


def fill_forward(
    x: Float[Tensor, "B L D"], mask: Float[Tensor, "B L D"], default: Float[Tensor, "D"]
) -> Float[Tensor, "B L D"]:
    """Return the last value of each channel up to each row, `default` where there is none."""
    row = torch.arange(x.shape[1], device=x.device)[:, None]
    last = torch.where(mask > 0, row, -1).cummax(1).values
    return torch.where(last < 0, default, x.take_along_dim(last.clamp(min=0), 1))


class GRUD(Autoregressive):
    """GRU-D; see the module's docstring."""

    Config: ClassVar = GRUDConfig
    x_bar: Tensor

    def __init__(self, config: GRUDConfig, shape: Shape):
        super().__init__(config, shape)
        d = shape.channels
        self.cell = nn.GRUCell(2 * d, config.latents)
        self.o = tanh_mlp(config.latents, config.units, d)
        self.w = nn.Linear(d, 1)
        self.v = nn.Parameter(torch.ones(d))
        self.c = nn.Parameter(torch.zeros(d))
        self.register_buffer("x_bar", torch.zeros(d))
        self.apply(init_linear)
        nn.init.constant_(self.w.weight, 1 / d)

    def calibrate(self, batch: Batch) -> None:
        known = torch.maximum(batch.mask, batch.target)
        total = (batch.x * known).sum((0, 1), dtype=torch.float64)
        self.x_bar.copy_(total / known.sum((0, 1)).clamp(min=1))

    def impute(
        self,
        x: Float[Tensor, "B L D"],
        mask: Float[Tensor, "B L D"],
        delta: Float[Tensor, "B L D"],
    ) -> Float[Tensor, "B L D"]:
        """Return x_tilde; `x` is 0 where `mask` is."""
        gamma = torch.exp(-(self.v * delta + self.c).clamp(min=0))
        decayed = torch.lerp(self.x_bar, fill_forward(x, mask, self.x_bar), gamma)
        return x + (1 - mask) * decayed

    def forecast(self, batch: Batch) -> Float[Tensor, "B L D"]:
        rows = reading(batch)
        delta = age(batch.t, (batch.mask > 0) | fed_back(batch)[..., None])
        gamma = torch.exp(-self.w(delta).clamp(min=0))  # (B, L, 1)
        inputs = torch.cat([self.impute(batch.visible, batch.mask, delta), batch.mask], -1)

        seen, ahead = rows.seen[..., None], rows.ahead[..., None]
        h = gamma.new_zeros(len(gamma), self.config.latents)
        path = [h]
        for inputs_i, gamma_i in zip(
            inputs.take_along_dim(seen, 1).unbind(1),
            gamma.take_along_dim(seen, 1).unbind(1),
            strict=True,
        ):
            h = self.cell(inputs_i, gamma_i * h)
            path.append(h)

        h = torch.stack(path, 1).take_along_dim(rows.n_seen[:, None, None], 1)[:, 0]
        for gamma_i in gamma.take_along_dim(ahead, 1).unbind(1):
            h = gamma_i * h
            x_hat = self.o(h)
            h = self.cell(torch.cat([x_hat, torch.ones_like(x_hat)], -1), h)
            path.append(h)
        return self.o(gamma * torch.stack(path, 1).take_along_dim(rows.before[..., None], 1))
