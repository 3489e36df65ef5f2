r"""mTAND: a VAE on reference times, which attention reads from and writes to any times.

Shukla and Marlin, "Multi-Time Attention Networks for Irregularly Sampled Time Series", ICLR 2021,
arXiv:2101.10318, sections 3.1 (attention), 3.2 (mTAND-Full) and the authors' released code.

Attention from a time q to the times t_n of a record, channel by channel over the rows in which that
channel is seen (equations 1 to 3):

.. math::

    \phi(t) &= [w_0 t + b_0, \sin(w_1 t + b_1), \ldots, \sin(w_{E-1} t + b_{E-1})] \\
    a_n(q) &= (W_q \phi(q)) \cdot (W_k \phi(t_n)) / \sqrt{E}, \qquad
    y_d(q) = \frac{\sum_n m_{nd}\, e^{a_n(q)} x_{nd}}{\sum_n m_{nd}\, e^{a_n(q)}}.

At K reference times r_1 .. r_K, evenly spaced over [0, 1], with u_d = 1 where a record shows
anything of channel d, and y_d = 0 elsewhere:

.. math::

    (\mu_k, \log s_k^2) &= \mathrm{MLP}(h_k), \qquad
    h = \mathrm{BiGRU}(W [y(r_k), u]), \qquad q(z_k \mid x) = N(\mu_k, \mathrm{diag}\, s_k^2) \\
    z_k &\sim N(0, I) \text{ independently}, \qquad g = \mathrm{BiGRU}(z) \\
    \hat x(t) &= \mathrm{MLP}\big(\textstyle\sum_k p_k(t)\, g_k\big), \qquad
    p(t) = \mathrm{softmax}_k\, a'_k(t), \qquad x \sim N(\hat x, \sigma^2 I).

The decoder's attention a' has weights of its own. The loss of a record with n fitted values is

.. math::

    -\log \tfrac{1}{S} \textstyle\sum_{s} \exp\big(
        (\log p(x \mid z^{(s)}) - \beta\, \mathrm{KL}(q \,\|\, p)) / n\big),

from S draws, with the KL in closed form: between the evidence bound and that of importance
weighting, in no proven order. `neg_elbo` is the bound itself.

========  ============  ===================================================================
symbol    shape         meaning
========  ============  ===================================================================
x, m      (B, L, D)     values, and 1 where the model sees them
t         (B, L)        times in [0, 1]; every record has its own grid
r         (K)           reference times
phi       (.., E)       embedding of a time; w, b learnt, apart in encoder and decoder
y, u      (B, K, D)     values attended to from r; 1 for a channel that is seen at all
mu, s     (B, K, Z)     mean and standard deviation of q(z | x)
z         (S, B, K, Z)  latent path at the reference times
x_hat     (S, B, L, D)  decoded mean, at any times
sigma     scalar        standard deviation of the observations, not learnt
========  ============  ===================================================================

No generation: under the prior the z_k of one path have nothing to do with each other.

Kept from the released code: sizes, optimiser, S = 5, one head, and what is fitted in training: all
that is known of a record, shown or hidden, from other hidden time points at every step.

Deviations:

* Frequencies begin at many scales, w_1 .. w_{E-1} from 0.1 to `frequency` cycles over the time
  range. Released: below 1 rad.
* The validation loss is that of the targets alone, with beta = 1.
* beta rises to 1 linearly over `kl_steps` steps, not as 1 - 0.99^(epochs - 10).
* sigma is LS4's, not 0.01; gradients are clipped.
* The share of hidden time points is drawn, not fixed; hidden rows are known to be hidden.
* Padding repeats the last time instead of 0; both are masked.
* exp(a) is formed once and summed by matrix products with m and m x, the same quotient with 2 D
  times less memory than a softmax for each channel. Scores more than 60 below a record's highest
  count as 60 below, so that a channel seen only far away has no 0/0.
* W and the first layer of the decoder's MLP are applied before the mixture, whose weights sum to 1,
  not after it: the same numbers.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from baselines.gap_filling import begin_at_many_scales, hide_anew
from baselines.rubanova import kl_from_prior
from harness.contract import Batch, Loss, Model, NegElbo, Optimisation, Prediction, Shape, Task
from ls4.gaussian import log_density, normal

LOWEST = -60.0  # score below a record's highest; e^-60 is no weight, yet far from underflow


@dataclass(frozen=True)
class MTANDConfig:
    """Released PhysioNet settings, except `sigma`, `frequency`, `kl_steps` and `clip_norm`."""

    latents: int = 16  # Z
    references: int = 64  # K
    embedding: int = 128  # E
    rec_dims: int = 64  # of the encoder's GRU, each way
    gen_dims: int = 50  # of the decoder's
    units: int = 50  # of both MLPs
    frequency: float = 50.0  # highest at the start, cycles over the time range
    sigma: float = 0.1  # released: 0.01
    train_samples: int = 5  # S in training
    kl_steps: int = 1000  # optimiser steps over which the KL's weight rises to 1
    lr: float = 1e-3
    clip_norm: float = 1.0  # of the gradient


class TimeAttention(nn.Module):
    """Scores a between times, by their learnt embeddings."""

    def __init__(self, embedding: int, frequency: float):
        super().__init__()
        self.phi = nn.Linear(1, embedding)
        self.query = nn.Linear(embedding, embedding)
        self.key = nn.Linear(embedding, embedding)
        begin_at_many_scales(self.phi.weight[1:, 0], self.phi.bias[1:], frequency)

    def embed(self, t: Float[Tensor, "*n"]) -> Float[Tensor, "*n E"]:
        phase = self.phi(t[..., None])
        return torch.cat([phase[..., :1], phase[..., 1:].sin()], -1)

    def forward(
        self, q: Float[Tensor, "*b Q"], t: Float[Tensor, "*c N"]
    ) -> Float[Tensor, "*bc Q N"]:
        q, k = self.query(self.embed(q)), self.key(self.embed(t))
        return q @ k.mT / math.sqrt(q.shape[-1])


def attend(
    scores: Float[Tensor, "B K L"], x: Float[Tensor, "B L D"], mask: Float[Tensor, "B L D"]
) -> Float[Tensor, "B K D"]:
    """Return y: averages of `x` over the rows that `mask` marks, channel by channel; 0 if none."""
    scores = scores.masked_fill(
        mask.amax(-1)[:, None] == 0, -1e9
    )  # not the highest, whatever it is
    weights = (scores - scores.amax(-1, keepdim=True)).clamp(min=LOWEST).exp()
    total = weights @ mask
    return weights @ (x * mask) / (total + (total == 0))


class MTAND(Model):
    """mTAND-Full; see the module's docstring."""

    tasks: ClassVar[frozenset[Task]] = frozenset(
        {"reconstruction", "interpolation", "extrapolation"}
    )
    Config: ClassVar = MTANDConfig
    r: Tensor

    def __init__(self, config: MTANDConfig, shape: Shape):
        super().__init__(config, shape)
        c, d = config, shape.channels
        self.register_buffer("r", torch.linspace(0, 1, c.references), False)
        self.rec_attention = TimeAttention(c.embedding, c.frequency)
        self.rec_in = nn.Linear(2 * d, c.rec_dims)
        self.rec_gru = nn.GRU(c.rec_dims, c.rec_dims, bidirectional=True, batch_first=True)
        self.rec_mlp = nn.Sequential(
            nn.Linear(2 * c.rec_dims, c.units), nn.ReLU(), nn.Linear(c.units, 2 * c.latents)
        )
        self.gen_gru = nn.GRU(c.latents, c.gen_dims, bidirectional=True, batch_first=True)
        self.gen_attention = TimeAttention(c.embedding, c.frequency)
        self.gen_values = nn.Sequential(
            nn.Linear(2 * c.gen_dims, 2 * c.gen_dims), nn.Linear(2 * c.gen_dims, c.units)
        )
        self.gen_mean = nn.Linear(c.units, d)

    def encode(self, batch: Batch) -> tuple[Float[Tensor, "B K Z"], Float[Tensor, "B K Z"]]:
        """Return mu and s of q(z | what the mask shows)."""
        y = attend(self.rec_attention(self.r, batch.t), batch.x, batch.mask)
        u = batch.mask.amax(1, keepdim=True).expand_as(y)
        h, _ = self.rec_gru(self.rec_in(torch.cat([y, u], -1)))
        mu, log_var = self.rec_mlp(h).chunk(2, -1)
        return mu, (0.5 * log_var).exp()

    def decode(
        self, z: Float[Tensor, "S B K Z"], t: Float[Tensor, "B L"]
    ) -> Float[Tensor, "S B L D"]:
        """Return x_hat at the times `t`."""
        g, _ = self.gen_gru(z.flatten(0, 1))
        values = self.gen_values(g).unflatten(0, z.shape[:2])  # (S, B, K, units)
        p = self.gen_attention(t, self.r).softmax(-1)  # (B, L, K)
        return self.gen_mean((p @ values).relu())

    @property
    def warm_up(self) -> int:
        return self.config.kl_steps

    def optimisers(self) -> dict[str, Optimisation]:
        adam = torch.optim.Adam(self.parameters(), lr=self.config.lr)
        return {"main": Optimisation(adam, max_norm=self.config.clip_norm)}

    def training_step(self, batch: Batch, step: int, generator: torch.Generator) -> Iterator[Loss]:
        """Fit all known values from a new choice of shown ones, with the present KL weight."""
        shown = hide_anew(batch, generator)
        known = Batch(batch.x, batch.t, shown.mask, torch.maximum(batch.mask, batch.target))
        yield self._bound(known, min((step + 1) / self.config.kl_steps, 1.0), generator)

    def loss(self, batch: Batch, step: int, generator: torch.Generator) -> Loss:
        """Return the final objective on the targets, nats per value; the same at every step."""
        return self._bound(batch, 1.0, generator)

    @torch.no_grad()
    def predict(self, batch: Batch, n_samples: int, generator: torch.Generator) -> Prediction:
        x_hat = self._reconstruct(batch, n_samples, generator)[2]
        return Prediction(x_hat, x_hat.new_tensor(self.config.sigma))

    @torch.no_grad()
    def neg_elbo(self, batch: Batch, generator: torch.Generator) -> NegElbo:
        kl, log_p = self._evidence(batch, 1, generator)
        return NegElbo(kl=kl, nll=-log_p[0])

    def _bound(self, batch: Batch, kl_weight: float, generator: torch.Generator) -> Loss:
        n = batch.target.sum((1, 2)).clamp(min=1)
        kl, log_p = (a / n for a in self._evidence(batch, self.config.train_samples, generator))
        value = math.log(len(log_p)) - torch.logsumexp(log_p - kl_weight * kl, 0)  # (B,)
        return Loss(value.mean(), {"nll": -log_p.mean().detach(), "kl": kl.mean().detach()})

    def _evidence(
        self, batch: Batch, n_samples: int, generator: torch.Generator
    ) -> tuple[Float[Tensor, "B"], Float[Tensor, "S B"]]:
        """Return KL(q || p) and log p(x | z) of the targets, in nats per record."""
        mu, s, x_hat = self._reconstruct(batch, n_samples, generator)
        log_p = log_density(batch.x, x_hat, self.config.sigma) * batch.target
        return kl_from_prior(mu.flatten(1), s.flatten(1)).sum(-1), log_p.sum((-2, -1))

    def _reconstruct(
        self, batch: Batch, n_samples: int, generator: torch.Generator
    ) -> tuple[Float[Tensor, "B K Z"], Float[Tensor, "B K Z"], Float[Tensor, "S B L D"]]:
        """Return mu, s and the decoded means of draws of z from q."""
        mu, s = self.encode(batch)
        z = normal(mu.expand(n_samples, *mu.shape), s, generator)
        return mu, s, self.decode(z, batch.t)
