"""LS4, the deep latent state space model, with the semantics of its released code.

Zhou, Poli, Xu, Massaroli, Ermon 2023, "Deep Latent State Space Models for Time-Series Generation"
(arXiv:2212.12749). A latent path z_0..z_{L-1}, one vector a time step, with three causal networks
of one form (`ls4.blocks`) and separate weights:

    prior      p(z_n | z_<n)   = N(mu_p, sigma_p^2)     input z shifted by one, learned first vector
    posterior  q(z_n | x_<=n)  = N(mu_q, sigma_q^2)     input x
    decoder    p(x_n | z_<=n)  = N(x_hat, sigma^2)      input z; sigma is fixed

    -ELBO = sum_n KL(q_n || p_n) - sum_n E_q log p(x_n | z_<=n)                       (paper, eq. 5)

======== =========== ===================================================================
symbol   shape       meaning
======== =========== ===================================================================
x        (B, L, D)   observed series
z        (B, L, Z)   latent path
m, l     (B, L, Z)   mean and log standard deviation of q or p
sigma    scalar      standard deviation of the observation noise
======== =========== ===================================================================

Where a model sees V and is to predict the targets x_T, both sums go over the rows that have a
target. Let the path come from q at the rows without one and from p at the others; with Jensen,

    -log p(x_T | V) <= sum_{n in T} E_q [ KL(q_n || p_n) - log p(x_n | z_<=n) ].

* Generation and reconstruction: rows without a target observe nothing. Without such rows this is
  eq. 5; on a union of grids, where they are many, q fills them in at no cost, as released.
* Extrapolation: a bound for the very distribution that `predict` draws from, the posterior up to
  the last row that shows something and the prior rolled out from there. In training q sees the
  targets of those later rows (only of those), as released.
* Interpolation, which the release has not: q sees V alone. `predict` draws hidden rows from q too;
  for that distribution the likelihood term by itself is a bound, so this is a looser one.

Released semantics means: the decoder sees z alone, not past x; the posterior sees neither mask nor
time; a row is a step, whatever the time since the row before (with `d_temb` the networks are told
the time); a "sample" is the decoder's mean, without observation noise; and the training loss weighs
KL and likelihood as `released` says below. Repaired here: the kernel counts both halves of the
conjugate modes, C is stored instead of a length-dependent C (I - Abar^L), the moving average
includes everything, log sigma is clamped.
"""

import math
from collections.abc import Callable, Sequence
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
)
from ls4.blocks import GaussianNetwork, Network
from ls4.ssm import Discretisation, Init, Structure, kernels_at_once, parameter_groups

ROWS_AT_ONCE = 2**16  # of draws in `predict`, which bounds its memory


@dataclass(frozen=True)
class LatentConfig:
    """What every form of the model has; the defaults are the released FRED-MD configuration."""

    latent: int = 5  # Z
    width: int = 64  # H at the finest resolution
    state: int = 64  # N
    n_pairs: int = 4  # state space + feed-forward pairs at each resolution
    sigma: float = 0.1
    output: Literal["identity", "sigmoid"] = "identity"
    log_std_range: tuple[float, float] = (-7.0, 5.0)
    lr: float = 1e-3
    lr_patience: int = 20  # epochs without improvement before the learning rate halves
    cosine_steps: int | None = None  # instead: the rate falls to 0 like a cosine in so many steps


@dataclass(frozen=True)
class LS4Config(LatentConfig):
    """Hyper-parameters; the defaults are the released FRED-MD configuration."""

    pool: Sequence[int] = (1,)
    kernel: Structure = "dplr"
    init: Init = "legs"
    discretisation: Discretisation = "bilinear"
    d_temb: int = 0  # width of the time embedding; 0: the networks are not told the time
    weighting: Literal["released", "elbo"] = "released"


def kl_divergence(m_q: Tensor, l_q: Tensor, m_p: Tensor, l_p: Tensor) -> Tensor:
    """KL(q || p) of diagonal Gaussians, element by element, from means and log deviations."""
    d = l_q - l_p
    return 0.5 * (torch.exp(2 * d) + ((m_q - m_p) * torch.exp(-l_p)) ** 2 - 1) - d


class LatentSSM(Model):
    """The model of this module's docstring, before it is said what its networks see.

    Parameters
    ----------
    config, shape
        See `Model`.
    d_x, d_z : int
        Channels of what `see` makes of x, and of what `tell` makes of z.
    decoder : function
        Makes the decoder, with the arguments of `Network`.
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
        **network: Any,
    ):
        super().__init__(config, shape)
        D, Z = shape.channels, config.latent
        network |= {"width": config.width, "state": config.state, "n_pairs": config.n_pairs}
        self.posterior = GaussianNetwork(d_x, Z, log_std_range=config.log_std_range, **network)
        self.prior = GaussianNetwork(d_z, Z, log_std_range=config.log_std_range, **network)
        self.decoder = decoder(d_z, D, **network)
        self.z_start = nn.Parameter(torch.zeros(Z))

    # -- what the networks see -------------------------------------------------------------------

    def clock(self, t: Float[Tensor, "B L"]) -> Float[Tensor, "B L"]:
        """What the networks are told of the times."""
        return t

    def see(self, x: Tensor, mask: Tensor, time: Tensor) -> Tensor:
        """Return the posterior's input, of which the mask shows x."""
        return x * mask

    def tell(self, z: Float[Tensor, "*B Z"], time: Float[Tensor, "*B"]) -> Tensor:
        """Return the prior's or the decoder's input."""
        return z

    # -- the three distributions -----------------------------------------------------------------

    def encode(self, x: Tensor, mask: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log deviation of q(z | x), each (B, L, Z)."""
        return self.posterior(self.see(x, mask, time), time)

    def prior_of(self, z: Float[Tensor, "B L Z"], time: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log deviation of p(z_n | z_<n) along a given path."""
        return self.prior(self.tell(delay(z, self.z_start), time), time)

    def decode(
        self, z: Float[Tensor, "B L Z"], time: Tensor, shown: Tensor | None = None
    ) -> Float[Tensor, "B L D"]:
        """Return the mean of p(x | z).

        `shown`, what `see` makes of the visible values, is for a decoder that looks at past x.
        """
        return self.activate(self.decoder(self.tell(z, time), time))

    def activate(self, x: Float[Tensor, "*B D"]) -> Float[Tensor, "*B D"]:
        """Apply the output activation."""
        return torch.sigmoid(x) if self.config.output == "sigmoid" else x

    def emit(
        self, z: Float[Tensor, "B L Z"], time: Tensor, generator: torch.Generator
    ) -> Float[Tensor, "B L D"]:
        """Return the samples that paths from the prior lead to: here, their means."""
        return self.decode(z, time)

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
            m, log_std = advance(self.tell(before, time[:, n]), time[:, n])
            drawn = normal(m, log_std.exp(), generator)
            before = torch.where(replace[:, n, None], drawn, z[:, n])
            z[:, n] = before

    def _bound(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Terms of the bound: KL (B, L, Z) where a row has a target, and -log p (B, L, D)."""
        time = self.clock(batch.t)
        seen = torch.maximum(batch.mask, batch.target * batch.beyond.unsqueeze(-1))
        shown = self.see(batch.x, batch.mask, time)
        with kernels_at_once(self, batch.x.shape[1]):
            m_q, l_q = self.encode(batch.x, seen, time)
            z = normal(m_q, l_q.exp(), generator)
            m_p, l_p = self.prior_of(z, time)
            mean = self.decode(z, time, shown)
        kl = kl_divergence(m_q, l_q, m_p, l_p) * _asked(batch).unsqueeze(-1)
        sigma = self.config.sigma
        error = (batch.x - mean) / sigma
        nll = (0.5 * error**2 + math.log(sigma) + 0.5 * math.log(2 * math.pi)) * batch.target
        return kl, nll

    def _weigh(self, kl: Tensor, nll: Tensor, batch: Batch, step: int) -> tuple[Tensor, Tensor]:
        """Return KL and likelihood as they enter the loss: the bound, in nats a target value."""
        n = batch.target.sum().clamp(min=1)
        return kl.sum() / n, nll.sum() / n

    # -- contract --------------------------------------------------------------------------------

    def loss(self, batch: Batch, step: int, generator: torch.Generator) -> Loss:
        """Return the weighted negative ELBO."""
        kl, nll = self._weigh(*self._bound(batch, generator), batch, step)
        return Loss(kl + nll, {"kl": kl, "nll": nll})

    def optimisers(self) -> dict[str, Optimisation]:
        optimiser = torch.optim.AdamW(parameter_groups(self, self.config.lr), fused=True)
        if (steps := self.config.cosine_steps) is not None:
            cosine = LambdaLR(optimiser, lambda n: (1 + math.cos(math.pi * min(n / steps, 1))) / 2)
            return {"main": Optimisation(optimiser, cosine, interval="step")}
        # threshold_mode "abs": a relative threshold turns the wrong way once the loss is negative
        plateau = ReduceLROnPlateau(
            optimiser, factor=0.5, patience=self.config.lr_patience, threshold_mode="abs"
        )
        return {"main": Optimisation(optimiser, plateau, interval="epoch")}

    @torch.no_grad()
    def sample(
        self, n: int, t: Float[Tensor, "L"], generator: torch.Generator
    ) -> Float[Tensor, "n L D"]:
        """Roll the prior forward step by step, then decode the path."""
        time = self.clock(t.expand(n, -1))
        z = t.new_zeros(n, len(t), self.config.latent)
        self.roll_out(z, torch.ones_like(time, dtype=torch.bool), time, generator)
        return self.emit(z, time, generator)

    @torch.no_grad()
    def predict(self, batch: Batch, n_samples: int, generator: torch.Generator) -> Prediction:
        """Draw paths from the posterior and, from a record's last shown row on, from the prior."""
        time = self.clock(batch.t)
        m, log_std = self.encode(batch.x, batch.mask, time)
        shown = self.see(batch.x, batch.mask, time)
        forecast, means = _forecast(batch), []
        at_once = max(1, ROWS_AT_ONCE // time.numel())
        for first in range(0, n_samples, at_once):
            s = min(at_once, n_samples - first)  # draws, which join the records' axis
            z = normal(m.expand(s, *m.shape), log_std.exp(), generator).flatten(0, 1)
            time_s = time.repeat(s, 1)
            self.roll_out(z, forecast.repeat(s, 1), time_s, generator)
            means.append(self.decode(z, time_s, shown.repeat(s, 1, 1)).unflatten(0, (s, -1)))
        return Prediction(torch.cat(means), m.new_tensor(self.config.sigma))

    def neg_elbo(self, batch: Batch, generator: torch.Generator) -> NegElbo:
        kl, nll = self._bound(batch, generator)
        return NegElbo(kl=kl.sum((1, 2)), nll=nll.sum((1, 2)))


class LS4(LatentSSM):
    """Latent S4 in the form of the released code.

    Raises
    ------
    ValueError
        If the length of the data is not divisible by the product of the pooling factors, or if a
        time embedding is to go with pooling.
    """

    Config: ClassVar = LS4Config

    def __init__(self, config: LS4Config, shape: Shape):
        check_pooling(config.pool, shape)
        options = {"pool": tuple(config.pool), "d_temb": config.d_temb} | {
            name: getattr(config, name) for name in ("kernel", "init", "discretisation")
        }
        super().__init__(config, shape, shape.channels, config.latent, **options)
        # The first input of a decoder that sees past x. This one does not; the vector is kept so
        # that parameter counts compare with the released model's.
        self.x_start = nn.Parameter(torch.zeros(shape.channels))

    def _weigh(self, kl: Tensor, nll: Tensor, batch: Batch, step: int) -> tuple[Tensor, Tensor]:
        """``released`` or, as in every other form of the model, ``elbo``.

        ``released``: KL averaged over latent dimensions and rows with a target, plus the likelihood
        averaged over the observations of each channel and summed over channels.
        """
        if self.config.weighting == "elbo":
            return super()._weigh(kl, nll, batch, step)
        kl = kl.mean(-1).sum(1) / _asked(batch).sum(1).clamp(min=1)
        nll = (nll.sum(1) / batch.target.sum(1).clamp(min=1)).sum(-1)
        return kl.mean(), nll.mean()


def check_pooling(pool: Sequence[int], shape: Shape) -> None:
    """Raise a ValueError if the pooling factors do not divide the length of the data."""
    if shape.length % math.prod(pool):
        raise ValueError(
            f"ls4 with pool {list(pool)}: expected a length divisible by {math.prod(pool)},"
            f" found {shape.length}"
        )


def delay(v: Float[Tensor, "B L C"], start: Float[Tensor, "C"]) -> Float[Tensor, "B L C"]:
    """Shift sequences by one row, behind a first row `start`."""
    return torch.cat([start.expand(len(v), 1, -1), v[:, :-1]], 1)


def normal(mean: Tensor, std: Tensor | float, generator: torch.Generator) -> Tensor:
    """Draw from N(mean, std^2)."""
    return mean + std * _noise(mean, generator)


def _noise(like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(like.shape, generator=generator, device=like.device, dtype=like.dtype)


def _asked(batch: Batch) -> Float[Tensor, "B L"]:
    """1 at the rows where any channel has a target."""
    return batch.target.amax(-1)


def _forecast(batch: Batch) -> Bool[Tensor, "B L"]:
    """True after the last row in which a record shows anything, up to its last with a target."""
    still_asked = _asked(batch).flip(1).cummax(1).values.flip(1)
    return (batch.beyond * still_asked).bool()
