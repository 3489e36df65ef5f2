r"""TimeVAE: a convolutional variational autoencoder whose decoder is a sum of readable parts.

Desai, Freeman, Wang and Beaver, "TimeVAE: A Variational Auto-Encoder for Multivariate Time Series
Generation", 2021, arXiv:2111.08095, and the authors' released code.

One latent vector for a whole series; the decoder adds up a level, a trend, seasons and a residual:

.. math::

    z \sim N(0, I), \qquad q(z \mid x) = N(\mu(x), \mathrm{diag}\, e^{v(x)}), \qquad
    x \sim N(\hat x(z), \sigma^2 I), \\
    \hat x_l(z) = c(z) + \sum_{p=1}^P a_p(z)\, (l / L)^p
    + \sum_{(m, d)} b_{\lfloor l / d \rfloor \bmod m}(z) + r_l(z).

The loss is the negative evidence bound, a mean over the series of a batch. With ``weighting:
released`` it is the released one instead, a sum, on data that are scaled to [0, 1]:

.. math::

    w\, \big( |x - \hat x|^2 + |\bar x - \bar{\hat x}|^2 \big) + \mathrm{KL}(q \,\|\, p), \qquad
    w = 3,

where a bar is the mean over the channels. Of one channel that is a bound with sigma^2 = 1 / (4 w),
0.29 of the data's range.

========  ============  ====================================================================
symbol    shape         meaning
========  ============  ====================================================================
x         (B, L, D)     values
z, mu, v  (B, Z)        latent vector, its posterior mean and log variance
c, a, b   (B, D)        level; coefficients of the trend; values of a season (m, d), m of
                        them, each held for d steps
r         (B, L, D)     residual: transposed convolutions, then a Linear of the whole series
sigma     scalar        deviation of an observation, fixed or learnt; at least 0.05 if learnt
========  ============  ====================================================================

Kept: ReLU stands between the two layers of level and trend, and after the last transposed
convolution. So with one channel the level is constant over half of the latent space, or nearly.

Deviations from the released code:

* Data as they are, and the bound; sigma is learnt. Samples contain the noise. (A variant of
  ``weighting: released`` and ``noise: false`` is the released model.)
* The padding of a convolution over an even number of rows is at the left, not at the right.
* The rate halves after 30 epochs without a lower loss, as released; that a training ends after 50
  such epochs is not here.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Normal
from torch.nn.functional import one_hot, softplus
from torch.optim.lr_scheduler import ReduceLROnPlateau

from baselines.rubanova import kl_from_prior
from harness.contract import Batch, Loss, Model, NegElbo, Optimisation, Shape, Task, or_zero
from ls4.gaussian import normal

SIGMA_MIN = 0.05  # where it is learnt
SIGMA_RATE = 10  # times the rate of the weights, lest they wait for sigma to fall


@dataclass(frozen=True)
class TimeVAEConfig:
    """Released settings, but for weighting, sigma and noise; `base` of the paper."""

    latents: int = 8  # Z
    filters: Sequence[int] = (50, 100, 200)  # of the convolutions, each of which halves the length
    trend: int = 0  # P
    seasons: Sequence[tuple[int, int]] = ()  # (m, d): m values, each held for d steps
    residual: bool = True
    weighting: Literal["elbo", "released"] = "elbo"
    w: float = 3.0  # of the squares in the released loss
    sigma: float | None = None  # None: learnt
    noise: bool = True  # whether samples contain the observation noise
    lr: float = 1e-3
    lr_patience: int = or_zero(30)  # epochs without a lower loss before the rate halves


class Component(nn.Module):
    """Coefficients that depend on z, times fixed rows.

    Parameters
    ----------
    net : Module
        From z to the coefficients (B, D K).
    rows : (K, L)
        What they are coefficients of.
    """

    rows: Tensor

    def __init__(self, net: nn.Module, rows: Float[Tensor, "K L"]):
        super().__init__()
        self.net = net
        self.register_buffer("rows", rows, persistent=False)

    def forward(self, z: Float[Tensor, "B Z"]) -> Float[Tensor, "B L D"]:
        return (self.net(z).unflatten(-1, (-1, len(self.rows))) @ self.rows).mT


def powers(order: int, length: int) -> Float[Tensor, "P L"]:
    """Return t, t^2, ... up to the order, at t = 0, 1/L, 2/L, ..."""
    return (torch.arange(length) / length) ** torch.arange(1, order + 1)[:, None]


def indicators(m: int, d: int, length: int) -> Float[Tensor, "m L"]:
    """Return for each of m values where it holds: for d steps, then the next one, in a circle."""
    return one_hot(torch.arange(length) // d % m, m).T.to(torch.get_default_dtype())


class Residual(nn.Module):
    """Transposed convolutions, each of which doubles the length, then a Linear of all values.

    Parameters
    ----------
    latents : int
    filters : sequence of int
        Of the first input, then of the outputs; the last is that of the data.
    rows : int
        Of the first input.
    length : int
        L.
    """

    def __init__(self, latents: int, filters: Sequence[int], rows: int, length: int):
        super().__init__()
        layers: list[nn.Module] = [
            nn.Linear(latents, filters[0] * rows),
            nn.ReLU(),
            nn.Unflatten(-1, (filters[0], rows)),
        ]
        for n_in, n_out in itertools.pairwise(filters):
            layers += [
                nn.ConvTranspose1d(n_in, n_out, 3, stride=2, padding=1, output_padding=1),
                nn.ReLU(),
            ]
            rows *= 2
        channels = filters[-1]
        layers += [nn.Flatten(), nn.Linear(channels * rows, channels * length)]
        self.net = nn.Sequential(*layers, nn.Unflatten(-1, (channels, length)))

    def forward(self, z: Float[Tensor, "B Z"]) -> Float[Tensor, "B L D"]:
        return self.net(z).mT


class TimeVAE(Model):
    """TimeVAE on complete series of one length; see the module's docstring.

    Raises
    ------
    ValueError
        If a part of the decoder has no size, or the released weighting is to learn sigma.
    """

    tasks: ClassVar[frozenset[Task]] = frozenset({"generation"})
    Config: ClassVar = TimeVAEConfig
    low: Tensor
    span: Tensor

    def __init__(self, config: TimeVAEConfig, shape: Shape):
        super().__init__(config, shape)
        c, (L, D) = config, (shape.length, shape.channels)
        if c.trend < 0 or any(min(season) < 1 for season in c.seasons) or not c.filters:
            raise ValueError(
                "timevae: expected a trend >= 0, seasons (m >= 1, d >= 1) and filters, found"
                f" {c.trend}, {[*map(tuple, c.seasons)]} and {list(c.filters)}"
            )
        if c.weighting == "released" and c.sigma is None:
            raise ValueError("timevae, weighting released: expected a number as sigma, found none")
        convolutions: list[nn.Module] = []
        rows = L
        for n_in, n_out in itertools.pairwise((D, *c.filters)):
            convolutions += [nn.Conv1d(n_in, n_out, 3, stride=2, padding=1), nn.ReLU()]
            rows = math.ceil(rows / 2)
        self.encoder = nn.Sequential(
            *convolutions, nn.Flatten(), nn.Linear(c.filters[-1] * rows, 2 * c.latents)
        )

        def coefficients(k: int) -> nn.Module:
            return nn.Sequential(nn.Linear(c.latents, D * k), nn.ReLU(), nn.Linear(D * k, D * k))

        self.parts = nn.ModuleList([Component(coefficients(1), torch.ones(1, L))])
        if c.trend:
            self.parts.append(Component(coefficients(c.trend), powers(c.trend, L)))
        for m, d in c.seasons:
            self.parts.append(Component(nn.Linear(c.latents, D * m), indicators(m, d, L)))
        if c.residual:
            self.parts.append(Residual(c.latents, (*c.filters[::-1], D), rows, L))
        for parameter in self.parameters():  # as the released code's library does
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)
            else:
                nn.init.zeros_(parameter)
        at_one = torch.tensor(1 - SIGMA_MIN).expm1().log()  # where sigma is 1
        self.spread = nn.Parameter(at_one) if c.sigma is None else None
        self.register_buffer("low", torch.zeros(D))
        self.register_buffer("span", torch.ones(D))

    @property
    def sigma(self) -> Tensor:
        if self.spread is None:
            return self.low.new_tensor(self.config.sigma)
        return SIGMA_MIN + softplus(self.spread)

    def optimisers(self) -> dict[str, Optimisation]:
        lr = self.config.lr
        groups = [
            {"params": [p for p in self.parameters() if p is not self.spread], "lr": lr},
            {"params": [p for p in self.parameters() if p is self.spread], "lr": SIGMA_RATE * lr},
        ]
        adam = torch.optim.Adam(groups)
        plateau = ReduceLROnPlateau(
            adam, factor=0.5, patience=self.config.lr_patience, threshold_mode="abs"
        )
        return {"main": Optimisation(adam, plateau, interval="epoch")}

    def calibrate(self, batch: Batch) -> None:
        """Take the extremes of each channel, which the released weighting scales by."""
        if self.config.weighting == "released":
            self.low.copy_(batch.x.amin((0, 1)))
            self.span.copy_((batch.x.amax((0, 1)) - self.low).clamp(min=1e-6))

    def encode(
        self, x: Float[Tensor, "B L D"]
    ) -> tuple[Float[Tensor, "B Z"], Float[Tensor, "B Z"]]:
        """Return mu and v."""
        mu, v = self.encoder(((x - self.low) / self.span).mT).chunk(2, -1)
        return mu, v

    def decode(self, z: Float[Tensor, "B Z"]) -> Float[Tensor, "B L D"]:
        """Return x_hat."""
        return self.low + self.span * sum(part(z) for part in self.parts)

    def _terms(
        self, batch: Batch, generator: torch.Generator
    ) -> tuple[Float[Tensor, "B"], Float[Tensor, "B L D"]]:
        """Return KL, and x_hat for a draw of z."""
        mu, v = self.encode(batch.visible)
        s = (0.5 * v).exp()
        return kl_from_prior(mu, s).sum(-1), self.decode(normal(mu, s, generator))

    def _nll(self, batch: Batch, x_hat: Float[Tensor, "B L D"]) -> Float[Tensor, "B"]:
        log_p = Normal(x_hat, self.sigma, validate_args=False).log_prob(batch.x)
        return -(log_p * batch.target).sum((1, 2))

    def loss(self, batch: Batch, step: int, generator: torch.Generator) -> Loss:
        """Return the bound, in nats a series, or the released sum over the batch."""
        kl, x_hat = self._terms(batch, generator)
        if self.config.weighting == "released":
            error = (batch.x - x_hat) * batch.target / self.span
            squares = error.square().sum() + error.mean(-1).square().sum()
            return Loss(self.config.w * squares + kl.sum(), {"kl": kl.sum().detach()})
        kl, nll = kl.mean(), self._nll(batch, x_hat).mean()
        logs = {"kl": kl, "nll": nll, "sigma": self.sigma}
        return Loss(kl + nll, {name: value.detach() for name, value in logs.items()})

    @torch.no_grad()
    def sample(
        self, n: int, t: Float[Tensor, "L"], generator: torch.Generator
    ) -> Float[Tensor, "n L D"]:
        """Decode draws of z.

        Raises
        ------
        ValueError
            If the grid is not as long as the training series.
        """
        if len(t) != self.shape.length:
            raise ValueError(f"timevae: expected {self.shape.length} times, found {len(t)}")
        x = self.decode(normal(t.new_zeros(n, self.config.latents), 1.0, generator))
        return normal(x, self.sigma, generator) if self.config.noise else x

    @torch.no_grad()
    def neg_elbo(self, batch: Batch, generator: torch.Generator) -> NegElbo:
        """Return the bound for `sigma`, in units of the data, whatever the weighting."""
        kl, x_hat = self._terms(batch, generator)
        return NegElbo(kl, self._nll(batch, x_hat))
