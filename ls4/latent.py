"""What all forms of LS4 share: prior, posterior and decoder, the evidence bound, predictions.

Zhou, Poli, Xu, Massaroli, Ermon 2023, "Deep Latent State Space Models for Time-Series Generation"
(arXiv:2212.12749). A latent path z_0, ..., z_{L-1} has one vector for each row of a series. Three
causal networks with separate weights (`ls4.blocks`) give three distributions:

    prior      p(z_n | z_<n)        = N(mu_p, sigma_p^2)    z is delayed by one row, behind a
                                                            learned first vector
    posterior  q(z_n | x_<=n)       = N(mu_q, sigma_q^2)
    decoder    p(x_n | ., z_<=n)    = N(x_hat, sigma^2)     sigma is fixed

    -ELBO = sum_n KL(q_n || p_n) - sum_n E_q log p(x_n | ., z_<=n)                   (paper, eq. 5)

The dot stands for x_<n where the decoder uses the past of x, and for nothing where it does not.

======== =========== ===================================================================
symbol   shape       meaning
======== =========== ===================================================================
x        (B, L, D)   observed series
m        (B, L, D)   mask: 1 where a network may see x
z        (B, L, Z)   latent path
mu, l    (B, L, Z)   mean and log standard deviation of q or p
sigma    scalar      standard deviation of the observation noise
======== =========== ===================================================================

Where a model sees V and predicts the targets x_T, both sums go over the rows that have a target.
Let the path come from q at the rows without a target and from p at the others; by Jensen,

    -log p(x_T | V) <= sum_{n in T} E_q [ KL(q_n || p_n) - log p(x_n | ., z_<=n) ].

* Generation and reconstruction: rows without a target are rows without an observation. Without such
  rows this is eq. 5. On a union of grids they are many, and q fills them in at no cost, as in the
  released code.
* Extrapolation: on a record's own rows the bound is for the distribution from which `predict`
  draws, the posterior up to the last row that shows something and the prior from there on. On a
  union of grids it is not: later rows without a target come from q here, from p in `predict`. In
  training q sees the targets of those later rows (only of those), as in the released code.
* Interpolation, which the released code does not have: q sees V alone. `predict` draws hidden rows
  from q, too. For that distribution the likelihood term alone is a bound, and this one is looser.
  Hidden rows behind the last visible one are extrapolated, as above.

A form of LS4 is a final class that says what its networks are given, how it decodes, and how KL and
likelihood are weighted: `ls4.released`, `ls4.paper`, `ls4.timed`. The last two share `ls4.gaps`.
"""

import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau

from harness.contract import (
    TASKS,
    Batch,
    Loss,
    Model,
    NegElbo,
    Optimisation,
    Prediction,
    Shape,
    Task,
    or_zero,
)
from ls4.blocks import GaussianNetwork, Network
from ls4.gaussian import kl_divergence, log_density, normal
from ls4.layer import kernels_at_once, parameter_groups

ROWS_AT_ONCE = 2**16  # of draws in `predict`, which bounds its memory


@dataclass(frozen=True)
class LatentConfig:
    """Settings of every form; the defaults are the released FRED-MD configuration."""

    latent: int = 5  # Z
    width: int = 64  # H at the finest resolution
    state: int = 64  # N
    n_pairs: int = 4  # state space + feed-forward pairs at each resolution
    sigma: float = 0.1
    output: Literal["identity", "sigmoid"] = "identity"
    log_std_range: tuple[float, float] = (-7.0, 5.0)
    lr: float = 1e-3
    lr_patience: int = or_zero(20)  # epochs without improvement before the learning rate halves
    cosine_steps: int | None = None  # instead: the rate falls to 0 like a cosine in so many steps


class LatentSSM(Model):
    """Base of all forms of LS4; see the module's docstring.

    Parameters
    ----------
    config, shape
        See `Model`.
    d_x, d_z : int
        Channels of `posterior_input` and of `latent_input`.
    decoder : function
        Makes the decoder, with the arguments of `Network`.
    max_norm : float, optional
        The gradient is scaled down to this norm.
    network
        Arguments of `Network` beside its sizes.
    """

    tasks: ClassVar[frozenset[Task]] = frozenset(TASKS)

    def __init__(
        self,
        config: LatentConfig,
        shape: Shape,
        d_x: int,
        d_z: int,
        decoder: Callable[..., nn.Module] = Network,
        max_norm: float | None = None,
        **network: Any,
    ):
        super().__init__(config, shape)
        D, Z = shape.channels, config.latent
        network |= {"width": config.width, "state": config.state, "n_pairs": config.n_pairs}
        self.posterior = GaussianNetwork(d_x, Z, log_std_range=config.log_std_range, **network)
        self.prior = GaussianNetwork(d_z, Z, log_std_range=config.log_std_range, **network)
        self.decoder = decoder(d_z, D, **network)
        self.z_start = nn.Parameter(torch.zeros(Z))
        self.max_norm = max_norm

    # -- what each form decides ------------------------------------------------------------------

    @abstractmethod
    def network_time(self, t: Float[Tensor, "B L"]) -> Float[Tensor, "B L"]:
        """Return what the networks are given of the times: the times themselves, or gaps."""

    @abstractmethod
    def posterior_input(self, x: Tensor, mask: Tensor, time: Tensor) -> Tensor:
        """Return the posterior's input; x enters where the mask is 1 only."""

    @abstractmethod
    def latent_input(self, z: Float[Tensor, "*B Z"], time: Float[Tensor, "*B"]) -> Tensor:
        """Return the prior's or the decoder's input."""

    @abstractmethod
    def weigh(self, kl: Tensor, nll: Tensor, batch: Batch, step: int) -> tuple[Tensor, Tensor]:
        """Return KL and likelihood as they enter the loss, each a scalar, from `bound`'s terms."""

    # -- the decoder, unless it uses the past of x -----------------------------------------------

    def decode(
        self, z: Float[Tensor, "B L Z"], time: Tensor, visible: Tensor | None = None
    ) -> Float[Tensor, "B L D"]:
        """Return the mean of p(x | ., z) at every row.

        `visible`, the `posterior_input` made of the visible values, is for a decoder that uses the
        past of x; this one does not.
        """
        return self.activate(self.decoder(self.latent_input(z, time), time))

    def sample_observations(
        self, z: Float[Tensor, "B L Z"], time: Tensor, generator: torch.Generator
    ) -> Float[Tensor, "B L D"]:
        """Return a sample of x for each latent path: the mean, as released, without noise."""
        return self.decode(z, time)

    # -- the three distributions -----------------------------------------------------------------

    def encode(self, x: Tensor, seen: Tensor, shown: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log deviation of q(z | x), each (B, L, Z).

        `seen` is 1 where q may use x up to its own row. `shown`, which is at most that, is 1 where
        a posterior that looks ahead may use x of later rows; this one does not.
        """
        return self.posterior(self.posterior_input(x, seen, time), time)

    def prior_of(self, z: Float[Tensor, "B L Z"], time: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log deviation of p(z_n | z_<n) along a given path."""
        return self.prior(self.latent_input(delay(z, self.z_start), time), time)

    def activate(self, x: Float[Tensor, "*B D"]) -> Float[Tensor, "*B D"]:
        """Apply the decoder's output activation."""
        return torch.sigmoid(x) if self.config.output == "sigmoid" else x

    def roll_out(
        self,
        z: Float[Tensor, "B L Z"],
        replace: Bool[Tensor, "B L"],
        time: Tensor,
        generator: torch.Generator,
    ) -> None:
        """Draw z_n from p(z_n | z_<n) where `replace` is set, step by step and in place."""
        advance = self.prior.stepper(len(z))
        before = self.z_start.expand(len(z), -1)
        rows = replace.any(0).nonzero()
        for n in range(int(rows.max()) + 1 if len(rows) else 0):
            m, log_std = advance(self.latent_input(before, time[:, n]), time[:, n])
            drawn = normal(m, log_std.exp(), generator)
            before = torch.where(replace[:, n, None], drawn, z[:, n])
            z[:, n] = before

    def bound(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Terms of the bound: KL (B, L, Z) where a row has a target, and -log p (B, L, D)."""
        time = self.network_time(batch.t)
        seen = torch.maximum(batch.mask, batch.target * batch.beyond.unsqueeze(-1))
        visible = self.posterior_input(batch.x, batch.mask, time)
        with kernels_at_once(self, batch.x.shape[1]):
            m_q, l_q = self.encode(batch.x, seen, batch.mask, time)
            z = normal(m_q, l_q.exp(), generator)
            m_p, l_p = self.prior_of(z, time)
            mean = self.decode(z, time, visible)
        kl = kl_divergence(m_q, l_q, m_p, l_p) * rows_with_target(batch).unsqueeze(-1)
        return kl, -log_density(batch.x, mean, self.config.sigma) * batch.target

    # -- contract --------------------------------------------------------------------------------

    def loss(self, batch: Batch, step: int, generator: torch.Generator) -> Loss:
        """Return the weighted negative ELBO."""
        kl, nll = self.weigh(*self.bound(batch, generator), batch, step)
        return Loss(kl + nll, {"kl": kl, "nll": nll})

    def optimisers(self) -> dict[str, Optimisation]:
        config = self.config
        optimiser = torch.optim.AdamW(parameter_groups(self, config.lr), fused=True)
        if (steps := config.cosine_steps) is not None:
            cosine = LambdaLR(optimiser, lambda n: (1 + math.cos(math.pi * min(n / steps, 1))) / 2)
            return {"main": Optimisation(optimiser, cosine, "step", self.max_norm)}
        # threshold_mode "abs": a relative threshold turns the wrong way once the loss is negative
        plateau = ReduceLROnPlateau(
            optimiser, factor=0.5, patience=config.lr_patience, threshold_mode="abs"
        )
        return {"main": Optimisation(optimiser, plateau, "epoch", self.max_norm)}

    @torch.no_grad()
    def sample(
        self, n: int, t: Float[Tensor, "L"], generator: torch.Generator
    ) -> Float[Tensor, "n L D"]:
        """Roll the prior forward step by step, then sample observations for the path."""
        time = self.network_time(t.expand(n, -1))
        z = t.new_zeros(n, len(t), self.config.latent)
        self.roll_out(z, torch.ones_like(time, dtype=torch.bool), time, generator)
        return self.sample_observations(z, time, generator)

    @torch.no_grad()
    def predict(self, batch: Batch, n_samples: int, generator: torch.Generator) -> Prediction:
        """Draw paths from the posterior and, after a record's last visible row, from the prior."""
        time = self.network_time(batch.t)
        m, log_std = self.encode(batch.x, batch.mask, batch.mask, time)
        visible = self.posterior_input(batch.x, batch.mask, time)
        forecast, means = forecast_rows(batch), []
        at_once = max(1, ROWS_AT_ONCE // time.numel())
        for first in range(0, n_samples, at_once):
            s = min(at_once, n_samples - first)  # draws, which join the records' axis
            z = normal(m.expand(s, *m.shape), log_std.exp(), generator).flatten(0, 1)
            time_s = time.repeat(s, 1)
            self.roll_out(z, forecast.repeat(s, 1), time_s, generator)
            means.append(self.decode(z, time_s, visible.repeat(s, 1, 1)).unflatten(0, (s, -1)))
        return Prediction(torch.cat(means), m.new_tensor(self.config.sigma))

    def neg_elbo(self, batch: Batch, generator: torch.Generator) -> NegElbo:
        kl, nll = self.bound(batch, generator)
        return NegElbo(kl=kl.sum((1, 2)), nll=nll.sum((1, 2)))


# -- rows and paths -------------------------------------------------------------------------------


def rows_with_target(batch: Batch) -> Float[Tensor, "B L"]:
    """Return 1 at the rows where any channel has a target."""
    return batch.target.amax(-1)


def forecast_rows(batch: Batch) -> Bool[Tensor, "B L"]:
    """Return True after the last row in which a record shows anything, up to its last target."""
    up_to_last_target = rows_with_target(batch).flip(1).cummax(1).values.flip(1)
    return (batch.beyond * up_to_last_target).bool()


def delay(v: Float[Tensor, "B L C"], start: Float[Tensor, "C"]) -> Float[Tensor, "B L C"]:
    """Shift sequences by one row, behind a first row `start`."""
    return torch.cat([start.expand(len(v), 1, -1), v[:, :-1]], 1)


# -- terms of the loss ----------------------------------------------------------------------------


def per_target_value(kl: Tensor, nll: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return the two sums of the bound, in nats for each value that is a target."""
    n = batch.target.sum().clamp(min=1)
    return kl.sum() / n, nll.sum() / n
