"""LS4, the deep latent state space model, with the semantics of its released code.

Zhou, Poli, Xu, Massaroli, Ermon 2023, "Deep Latent State Space Models for Time-Series Generation"
(arXiv:2212.12749), and the authors' code.

    prior      p(z_n | z_<n)    = N(mu_p, sigma_p^2)    input z_{n-1}
    posterior  q(z_n | x_<=n)   = N(mu_q, sigma_q^2)    input x_n m_n
    decoder    p(x_n | z_<=n)   = N(x_hat, sigma^2)     input z_n

======== =========== ===================================================================
symbol   shape       meaning
======== =========== ===================================================================
x, m     (B, L, D)   observed series, and 1 where the network may see it
z        (B, L, Z)   latent path
sigma    scalar      standard deviation of the observation noise
======== =========== ===================================================================

Kept from the released code:

* The decoder sees z alone, not past x. The posterior sees neither mask nor time.
* A row is one step, whatever the time since the row before; with `d_temb` the networks are given
  an embedding of the time.
* A "sample" is the decoder's mean, without observation noise.
* The loss weighs KL and likelihood as `LS4.weigh` says.

Repaired: the kernel counts both halves of the conjugate modes; C is stored instead of a
length-dependent C (I - Abar^L); the moving average includes everything; log sigma is clamped.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from harness.contract import Batch, Shape
from ls4.blocks import check_pooling
from ls4.hippo import Init
from ls4.latent import LatentConfig, LatentSSM, per_target_value, rows_with_target
from ls4.layer import Discretisation, Structure
from ls4.work import Work, step_work, training_work


@dataclass(frozen=True)
class LS4Config(LatentConfig):
    """Hyper-parameters; the defaults are the released FRED-MD configuration."""

    pool: Sequence[int] = (1,)
    kernel: Structure = "dplr"
    init: Init = "legs"
    discretisation: Discretisation = "bilinear"
    d_temb: int = 0  # width of the time embedding; 0: the networks are not given the time
    weighting: Literal["released", "elbo"] = "released"


class LS4(LatentSSM):
    """Latent S4 in the form of the released code.

    Raises
    ------
    ValueError
        If the length of the data is not divisible by the product of the pooling factors, or for a
        time embedding together with pooling.
    """

    Config: ClassVar = LS4Config

    def __init__(self, config: LS4Config, shape: Shape):
        check_pooling(config.pool, shape.length)
        super().__init__(
            config,
            shape,
            d_x=shape.channels,
            d_z=config.latent,
            pool=tuple(config.pool),
            d_temb=config.d_temb,
            kernel=config.kernel,
            init=config.init,
            discretisation=config.discretisation,
        )
        # Never used: the first input of a decoder that sees past x, kept so that parameter counts
        # compare with the released model's.
        self.x_start = nn.Parameter(torch.zeros(shape.channels))

    def network_time(self, t: Float[Tensor, "B L"]) -> Float[Tensor, "B L"]:
        return t

    def posterior_input(self, x: Tensor, mask: Tensor, time: Tensor) -> Tensor:
        return x * mask

    def latent_input(self, z: Float[Tensor, "*B Z"], time: Float[Tensor, "*B"]) -> Tensor:
        return z

    def weigh(self, kl: Tensor, nll: Tensor, batch: Batch, step: int) -> tuple[Tensor, Tensor]:
        """Weigh as `config.weighting` says.

        ``released``: KL averaged over latent dimensions and rows with a target, plus the likelihood
        averaged over the observations of each channel and summed over channels. ``elbo``: the
        bound, in nats for each target value.
        """
        if self.config.weighting == "elbo":
            return per_target_value(kl, nll, batch)
        kl = kl.mean(-1).sum(1) / rows_with_target(batch).sum(1).clamp(min=1)
        nll = (nll.sum(1) / batch.target.sum(1).clamp(min=1)).sum(-1)
        return kl.mean(), nll.mean()

    # -- for measurements of its speed -----------------------------------------------------------

    def training_work(self, batch: int, length: int) -> Work:
        """Return what a training step does at least, beside the matrix products of its layers."""
        return training_work(self, batch, length)

    def generation_step(self, batch: int) -> Callable[[], object]:
        """Return a function that advances the prior of `batch` series by one row, as in `sample`.

        To be called without gradients.
        """
        advance = self.prior.stepper(batch)
        z = self.z_start.new_zeros(batch, self.config.latent)
        return lambda: advance(z)

    def generation_work(self, batch: int) -> Work:
        """Return what a `generation_step` does at least, beside matrix products."""
        return step_work(self.prior, batch)
