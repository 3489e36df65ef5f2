r"""What RNN-VAE and Latent ODE share: a VAE whose only latent is the state at the first time.

The networks' initial weights, the optimiser and the likelihood also serve the autoregressive models
of the paper, `baselines.autoregressive`.

Rubanova, Chen and Duvenaud, "Latent ODEs for irregularly-sampled time series", NeurIPS 2019,
arXiv:1907.03907, section 3.2, and the authors' released code.

.. math::

    z_0 \sim N(0, I), \qquad
    \hat x = \mathrm{decode}(z_0, t), \qquad
    x \sim N(\hat x, \sigma^2 I), \qquad
    q(z_0 \mid x) = N(\mu, \mathrm{diag}\, s^2), \quad (\mu, s) = \mathrm{encode}(x, m, t).

========  ============  ==================================================
symbol    shape         meaning
========  ============  ==================================================
x, m      (B, L, D)     values, and 1 where the model sees them
t         (B, L)        times in [0, 1]; every record has its own grid
z_0       (S, B, Z)     state at the record's first time t_0, S draws
mu, s     (B, Z)        mean and standard deviation of q(z_0 | x)
x_hat     (S, B, L, D)  decoded mean
sigma     scalar        standard deviation of the observations, not learnt
========  ============  ==================================================

Kept from the released code: initial weights, optimiser and its schedule, and the objective. There
the log-likelihood of a draw is a mean over each channel's observed points, then over channels and
records; the KL is a mean over records and latents, so it weighs more than in an ELBO; and the
log-sum-exp over the S draws is taken of these means, without the - log S. `neg_elbo` is the proper
bound instead: sums over entries and latents, in nats per record.

Changed:

* sigma is 0.1 by default, not 0.01: LS4's value, so that the two likelihoods compare. The loss may
  have another one, `loss_sigma`: it decides how much the KL weighs against the errors.
* The KL is annealed in units of `steps_per_epoch` optimiser steps, a setting, not in passes over
  the training set: large and small data sets get the same schedule.
* s = abs(.) + 1e-6. The released abs(.) can be 0, where the KL is infinite.
* A record is encoded from its own observed rows and the gaps between them; the released code works
  on the union of all grids in the batch, so a result there depends on a record's neighbours.
"""

import itertools
import math
from abc import abstractmethod
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.optim import Adamax
from torch.optim.lr_scheduler import LambdaLR

from harness.contract import Batch, Loss, Model, NegElbo, Optimisation, Prediction
from ls4.gaussian import log_density, normal


def tanh_mlp(*widths: int) -> nn.Module:
    """Build Linear - Tanh - ... - Linear through the given widths, input and output included."""
    layers: list[nn.Module] = []
    for n_in, n_out in itertools.pairwise(widths):
        layers += [nn.Linear(n_in, n_out), nn.Tanh()]
    return nn.Sequential(*layers[:-1])


def init_linear(module: nn.Module) -> None:
    """Draw a Linear's weights from N(0, 0.1^2) and zero its bias; for `Module.apply`."""
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.1)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def adamax(model: nn.Module, lr: float) -> dict[str, Optimisation]:
    """Build the released optimiser: Adamax, whose rate falls by 0.1 % a step down to a tenth."""
    optimiser = Adamax(model.parameters(), lr=lr)
    schedule = LambdaLR(optimiser, lambda step: max(0.999**step, 0.1))
    return {"main": Optimisation(optimiser, schedule, "step")}


def hermite(p: Tensor, y0: Tensor, y1: Tensor, dy0: Tensor, dy1: Tensor) -> Tensor:
    """Return the cubic Hermite polynomial at p, 0 at the left end of an interval, 1 at the right.

    All tensors have shapes that broadcast. `y0`, `y1` are its values at the ends; `dy0`, `dy1` the
    changes over the interval at the rates of the ends.
    """
    q = 1 - p
    ends = (1 + 2 * p) * q**2 * y0 + (1 + 2 * q) * p**2 * y1
    return ends + p * q**2 * dy0 - p**2 * q * dy1


def to_front(marked: Bool[Tensor, "B L"]) -> tuple[Int[Tensor, "B L"], Int[Tensor, "B"]]:
    """Return an order of the rows, the marked ones first, and how many are marked."""
    return (~marked).int().argsort(dim=1, stable=True), marked.sum(1)


class Rows(NamedTuple):
    """What an encoder reads: R rows of each record, latest first, padded with empty rows at t_0."""

    x: Float[Tensor, "B R D"]  # 0 where mask is 0
    mask: Float[Tensor, "B R D"]
    gap: Float[Tensor, "B R"]  # t of the row read before minus t of this one, >= 0
    length: Int[Tensor, "B"]  # rows that are not padding


def rows_backwards(batch: Batch) -> Rows:
    """Gather the rows in which something is seen, and the first row, where the encoding ends.

    Leaving the others out is the masked update of the released code, but with the gap from one
    observation to the next, whatever rows lie between them.
    """
    keep = (batch.mask > 0).any(-1)
    keep[:, 0] = True
    order, length = to_front(keep.flip(1))
    index = keep.shape[1] - 1 - order[:, : int(length.max())]  # (B, R), latest first
    padding = torch.arange(index.shape[1], device=index.device) >= length[:, None]
    t = torch.where(padding, batch.t[:, :1], batch.t.gather(1, index))
    return Rows(
        x=batch.visible.take_along_dim(index[..., None], 1),
        mask=batch.mask.take_along_dim(index[..., None], 1),
        gap=-t.diff(dim=1, prepend=t[:, :1]),
        length=length,
    )


def log_likelihood(
    batch: Batch, x_hat: Float[Tensor, "*S B L D"], sigma: float
) -> Float[Tensor, "*S"]:
    """Return the released average of log N(x; x_hat, sigma^2) over the targets.

    A mean over each channel's points, then over channels and records; an empty channel counts as 0.
    """
    log_p = log_density(batch.x, x_hat, sigma) * batch.target
    n_points = batch.target.sum(1).clamp(min=1)  # (B, D)
    return (log_p.sum(-2) / n_points).mean((-2, -1))


def kl_from_prior(mu: Float[Tensor, "B Z"], s: Float[Tensor, "B Z"]) -> Float[Tensor, "B Z"]:
    """Return KL(N(mu, s^2) || N(0, 1)) entry by entry, in nats."""
    return 0.5 * (mu**2 + s**2 - 1) - s.log()


def kl_weight(step: int, steps_per_epoch: int) -> float:
    """Return the KL's weight in the objective: 0 for ten epochs, then 1 - 0.99^(epochs since)."""
    return 1 - 0.99 ** max(step // steps_per_epoch - 10, 0)


class InitialStateVAE(Model):
    """The contract for both models, once they have said how to encode and decode.

    A configuration has, beside the sizes of its networks: `latents` (Z), `sigma`, `loss_sigma`
    (None for `sigma`), `train_samples` (S in training), `lr` and `steps_per_epoch`.
    """

    @abstractmethod
    def encode(self, batch: Batch) -> tuple[Float[Tensor, "B Z"], Float[Tensor, "B Z"]]:
        """Return mu and s of q(z_0 | what the mask shows)."""

    @abstractmethod
    def decode(
        self, z0: Float[Tensor, "S B Z"], t: Float[Tensor, "B L"]
    ) -> Float[Tensor, "S B L D"]:
        """Return x_hat on the grid `t`, where `z0` is the state at ``t[:, 0]``."""

    @property
    def warm_up(self) -> int:
        """Steps until the weight of the KL is .95."""
        return self.config.steps_per_epoch * (10 + math.ceil(math.log(0.05) / math.log(0.99)))

    def optimisers(self) -> dict[str, Optimisation]:
        return adamax(self, self.config.lr)

    def loss(self, batch: Batch, step: int, generator: torch.Generator) -> Loss:
        mu, s, x_hat = self._reconstruct(batch, self.config.train_samples, generator)
        log_p = log_likelihood(batch, x_hat, self.config.loss_sigma or self.config.sigma)  # (S,)
        kl = kl_from_prior(mu, s).mean()
        weight = kl_weight(step, self.config.steps_per_epoch)
        value = -torch.logsumexp(log_p - weight * kl, 0)
        return Loss(value, {"nll": -log_p.mean().detach(), "kl": kl.detach()})

    @torch.no_grad()
    def sample(
        self, n: int, t: Float[Tensor, "L"], generator: torch.Generator
    ) -> Float[Tensor, "n L D"]:
        shape = (1, n, self.config.latents)
        z0 = torch.randn(shape, generator=generator, device=t.device, dtype=t.dtype)
        return self.decode(z0, t.expand(n, -1))[0]

    @torch.no_grad()
    def predict(self, batch: Batch, n_samples: int, generator: torch.Generator) -> Prediction:
        x_hat = self._reconstruct(batch, n_samples, generator)[2]
        return Prediction(x_hat, x_hat.new_tensor(self.config.sigma))

    @torch.no_grad()
    def neg_elbo(self, batch: Batch, generator: torch.Generator) -> NegElbo:
        mu, s, x_hat = self._reconstruct(batch, 1, generator)
        log_p = log_density(batch.x, x_hat[0], self.config.sigma) * batch.target
        return NegElbo(kl=kl_from_prior(mu, s).sum(-1), nll=-log_p.sum((1, 2)))

    def _reconstruct(
        self, batch: Batch, n_samples: int, generator: torch.Generator
    ) -> tuple[Float[Tensor, "B Z"], Float[Tensor, "B Z"], Float[Tensor, "S B L D"]]:
        """Return mu, s and the decoded means of draws of z_0 from q."""
        mu, s = self.encode(batch)
        z = normal(mu.expand(n_samples, *mu.shape), s, generator)
        return mu, s, self.decode(z, batch.t)
