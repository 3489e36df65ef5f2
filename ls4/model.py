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

Released semantics means: the decoder sees z alone, not past x; the posterior sees neither mask nor
time; time enters as grid index; a "sample" is the decoder's mean, without observation noise; and
the training loss weighs KL and likelihood as `released` says below. Repaired here: the kernel
counts both halves of the conjugate modes, C is stored instead of a length-dependent
C (I - Abar^L), the moving average includes everything, log sigma is clamped.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from harness.contract import Batch, Loss, Model, NegElbo, Optimisation, Shape, Task
from ls4.blocks import GaussianNetwork, Network
from ls4.ssm import Structure, parameter_groups


@dataclass(frozen=True)
class LS4Config:
    """Hyper-parameters; the defaults are the released FRED-MD configuration."""

    latent: int = 5  # Z
    width: int = 64  # H at the finest resolution
    state: int = 64  # N
    n_pairs: int = 4  # S4 + feed-forward pairs at each resolution
    pool: Sequence[int] = (1,)
    kernel: Structure = "dplr"
    sigma: float = 0.1
    output: Literal["identity", "sigmoid"] = "identity"
    weighting: Literal["released", "elbo"] = "released"
    log_std_range: tuple[float, float] = (-7.0, 5.0)
    lr: float = 1e-3
    lr_patience: int = 20  # epochs without improvement before the learning rate halves


def kl_divergence(m_q: Tensor, l_q: Tensor, m_p: Tensor, l_p: Tensor) -> Tensor:
    """KL(q || p) of diagonal Gaussians, element by element, from means and log deviations."""
    d = l_q - l_p
    return 0.5 * (torch.exp(2 * d) + ((m_q - m_p) * torch.exp(-l_p)) ** 2 - 1) - d


class LS4(Model):
    """Latent S4 in the form of the released code.

    Raises
    ------
    ValueError
        If the length of the data is not divisible by the product of the pooling factors.
    """

    tasks: ClassVar[frozenset[Task]] = frozenset({"generation", "reconstruction"})
    Config = LS4Config

    def __init__(self, config: LS4Config, shape: Shape):
        super().__init__(config, shape)
        if shape.length % math.prod(config.pool):
            raise ValueError(
                f"ls4 with pool {list(config.pool)}: expected a length divisible by"
                f" {math.prod(config.pool)}, found {shape.length}"
            )
        D, Z = shape.channels, config.latent
        network = {
            "width": config.width,
            "state": config.state,
            "n_pairs": config.n_pairs,
            "pool": tuple(config.pool),
            "kernel": config.kernel,
        }
        self.posterior = GaussianNetwork(D, Z, log_std_range=config.log_std_range, **network)
        self.prior = GaussianNetwork(Z, Z, log_std_range=config.log_std_range, **network)
        self.decoder = Network(Z, D, **network)
        self.z_start = nn.Parameter(torch.zeros(Z))
        # The first input of a decoder that sees past x. This one does not; the vector is kept so
        # that parameter counts compare with the released model's.
        self.x_start = nn.Parameter(torch.zeros(D))

    # -- the three distributions -----------------------------------------------------------------

    def encode(self, x: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Return mean and log deviation of q(z | x) and one sample, each (B, L, Z)."""
        m, log_std = self.posterior(x)
        return m, log_std, m + log_std.exp() * _noise(m, generator)

    def prior_of(self, z: Float[Tensor, "B L Z"]) -> tuple[Tensor, Tensor]:
        """Return mean and log deviation of p(z_n | z_<n) along a given path."""
        start = self.z_start.expand(z.shape[0], 1, -1)
        return self.prior(torch.cat([start, z[:, :-1]], 1))

    def decode(self, z: Float[Tensor, "B L Z"]) -> Float[Tensor, "B L D"]:
        """Return the mean of p(x | z)."""
        x = self.decoder(z)
        return torch.sigmoid(x) if self.config.output == "sigmoid" else x

    def _bound(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Terms of the bound: KL (B, L, Z) where a step has a target, and -log p (B, L, D)."""
        m_q, l_q, z = self.encode(batch.visible, generator)
        kl = kl_divergence(m_q, l_q, *self.prior_of(z)) * _steps(batch).unsqueeze(-1)
        sigma = self.config.sigma
        error = (batch.x - self.decode(z)) / sigma
        nll = (0.5 * error**2 + math.log(sigma) + 0.5 * math.log(2 * math.pi)) * batch.target
        return kl, nll

    # -- contract --------------------------------------------------------------------------------

    def loss(self, batch: Batch, step: int, generator: torch.Generator) -> Loss:
        """Return the weighted negative ELBO.

        ``released``: KL averaged over latent dimensions and observed steps, plus the likelihood
        averaged over the observations of each channel and summed over channels. ``elbo``: the bound
        itself, divided by the number of values on the grid.
        """
        kl, nll = self._bound(batch, generator)
        if self.config.weighting == "released":
            kl_term = kl.mean(-1).sum(1) / _steps(batch).sum(1).clamp(min=1)
            nll_term = (nll.sum(1) / batch.target.sum(1).clamp(min=1)).sum(-1)
        else:
            size = self.shape.length * self.shape.channels
            kl_term, nll_term = kl.sum((1, 2)) / size, nll.sum((1, 2)) / size
        kl_mean, nll_mean = kl_term.mean(), nll_term.mean()
        return Loss(kl_mean + nll_mean, {"kl": kl_mean, "nll": nll_mean})

    def optimisers(self) -> dict[str, Optimisation]:
        optimiser = torch.optim.AdamW(parameter_groups(self, self.config.lr))
        # threshold_mode "abs": a relative threshold turns the wrong way once the loss is negative
        plateau = ReduceLROnPlateau(
            optimiser, factor=0.5, patience=self.config.lr_patience, threshold_mode="abs"
        )
        return {"main": Optimisation(optimiser, plateau, interval="epoch")}

    def sample(
        self, n: int, t: Float[Tensor, "L"], generator: torch.Generator
    ) -> Float[Tensor, "n L D"]:
        """Roll the prior forward step by step, then decode the whole path at once."""
        advance = self.prior.stepper(n)
        z = self.z_start.expand(n, -1)
        path = []
        for _ in range(len(t)):
            m, log_std = advance(z)
            z = m + log_std.exp() * _noise(m, generator)
            path.append(z)
        return self.decode(torch.stack(path, 1))

    def predict(
        self, batch: Batch, n_samples: int, generator: torch.Generator
    ) -> Float[Tensor, "S B L D"]:
        """Decode samples of the posterior: the released code's "interpolation"."""
        x = batch.visible
        return torch.stack([self.decode(self.encode(x, generator)[-1]) for _ in range(n_samples)])

    def neg_elbo(self, batch: Batch, generator: torch.Generator) -> NegElbo:
        kl, nll = self._bound(batch, generator)
        return NegElbo(kl=kl.sum((1, 2)), nll=nll.sum((1, 2)))


def _noise(like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(like.shape, generator=generator, device=like.device, dtype=like.dtype)


def _steps(batch: Batch) -> Float[Tensor, "B L"]:
    """1 at the steps where any channel has a target."""
    return batch.target.amax(-1)
