"""LS4 by the equations of its paper: the decoder uses the past of x, too.

Zhou, Poli, Xu, Massaroli, Ermon 2023, "Deep Latent State Space Models for Time-Series Generation"
(arXiv:2212.12749), section 4; `ls4.released` has the semantics of the released code instead.

    prior      p(z_n | z_<n)          = N(mu_p, sigma_p^2)   input z_{n-1}, gap_n
    posterior  q(z_n | x_<=n)         = N(mu_q, sigma_q^2)   input x_n m_n, m_n, gap_n
    decoder    p(x_n | x_<n, z_<=n)   = N(mu_n, sigma^2)     input z_n, gap_n and, in a stream of
                                                             its own, x_{n-1} m_{n-1}, m_{n-1}, ...

    -ELBO = sum_n KL(q_n || p_n) - sum_n E_q log p(x_n | x_<n, z_<=n)                (paper, eq. 5)

======== =========== ===================================================================
symbol   shape       meaning
======== =========== ===================================================================
x, m     (B, L, D)   observed series, and 1 where the network may see it
z        (B, L, Z)   latent path
mu       (B, L, D)   mean of an observation, read out from the stream of x
gap      (B, L)      log(1 + delta), delta the time since the row before (`ls4.gaps`)
sigma    scalar      standard deviation of the observation noise
======== =========== ===================================================================

The decoder is a stack of the same form as the other two networks, made of two-stream layers
(`ls4.joint`): the feed-forward maps and pooling act on both streams side by side, and each stream
has its own LayerNorm. A sample contains the observation noise: x_n is drawn from N(mu_n, sigma^2),
returned and fed back. The loss is the negative evidence bound; the weight of the KL rises over the
first `kl_steps` steps. Without that the model would learn to ignore the latent path, which a
decoder that sees the past of x needs even less than one that does not; what the past does not
determine would then be missing from every sample.

The decoder's m is the mask of the batch, in training as in prediction:

* In generation and reconstruction everything before row n is known to p(x_n | .), and the bound is
  one for the autoregressive density that `sample` draws from.
* In extrapolation and interpolation hidden values are independent of each other given z and what is
  visible before them, and the bounds are those of `ls4.latent` with p(x_n | V_<n, z_<=n), V being
  what is visible.

With a decoder that ignores z the model is an autoregressive S4, for which posterior = prior makes
the bound tight (proposition 4.1).

Where the paper leaves it open, or the form of the released code was preferred:

* Inputs are shifted once, in front of each stack, and one A serves all steps. The paper's layers
  have two, one of the last step; since C is free that is the same class of functions.
* Blocks are v + f(LN(v)) with gated maps and feed-forward layers, as released.
* Mask and gaps are inputs of the networks; for the state space layers each row is one step.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from harness.contract import Shape
from ls4.blocks import Level, check_pooling
from ls4.gaps import GapConfig, GapSSM
from ls4.gaussian import normal
from ls4.joint import STREAMS, JointLayer, StreamNorm
from ls4.latent import delay


@dataclass(frozen=True)
class LS4PaperConfig(GapConfig):
    """Hyper-parameters; those of LS4 where both have them."""

    pool: Sequence[int] = (1,)


class JointNetwork(nn.Module):
    """A linear map of each input, a level of two streams, LayerNorm and Linear of the stream of x.

    Parameters
    ----------
    d_z, d_out, d_x : int
        Channels of the inputs, and of the output.
    width : int
        H of each stream at the finest resolution.
    n_pairs, pool
        See `Level`.
    state : int
        N.
    """

    def __init__(
        self,
        d_z: int,
        d_out: int,
        *,
        d_x: int,
        width: int,
        n_pairs: int,
        pool: Sequence[int],
        state: int,
    ):
        super().__init__()
        self.lift_z = nn.Linear(d_z, width)
        self.lift_x = nn.Linear(d_x, width)
        layer = functools.partial(JointLayer, state=state)
        self.level = Level(STREAMS * width, n_pairs, pool, layer, d_temb=0, norm=StreamNorm)
        self.norm = nn.LayerNorm(width)
        self.readout = nn.Linear(width, d_out)

    def forward(
        self, z: Float[Tensor, "B L d_z"], x: Float[Tensor, "B L d_x"]
    ) -> Float[Tensor, "B L d_out"]:
        return self._read(self.level(self._lift(z, x), None))

    def stepper(self, batch: int) -> Callable[[Tensor, Tensor], Tensor]:
        """Return a function of (batch, d_z) and (batch, d_x) for one step in time."""
        level = self.level.stepper(batch)
        return lambda z, x: self._read(level(self._lift(z, x), None))

    def _lift(self, z: Tensor, x: Tensor) -> Tensor:
        return torch.cat([self.lift_z(z), self.lift_x(x)], -1)

    def _read(self, v: Tensor) -> Tensor:
        return self.readout(self.norm(v.chunk(STREAMS, -1)[1]))


class LS4Paper(GapSSM):
    """Latent state space model with an autoregressive decoder; see the module's docstring.

    Raises
    ------
    ValueError
        If the length of the data is not divisible by the product of the pooling factors.
    """

    Config: ClassVar = LS4PaperConfig
    decoder: JointNetwork

    def __init__(self, config: LS4PaperConfig, shape: Shape):
        check_pooling(config.pool, shape.length)
        d_x = 2 * shape.channels + 1
        super().__init__(
            config,
            shape,
            d_x=d_x,
            d_z=config.latent + 1,
            decoder=functools.partial(JointNetwork, d_x=d_x),
            pool=tuple(config.pool),
        )
        self.x_start = nn.Parameter(torch.zeros(d_x))

    def decode(
        self, z: Float[Tensor, "B L Z"], time: Tensor, visible: Tensor
    ) -> Float[Tensor, "B L D"]:
        """Return the mean of p(x_n | x_<n, z_<=n) at every row, given what is visible of x."""
        return self.activate(self.decoder(self.latent_input(z, time), delay(visible, self.x_start)))

    def sample_observations(
        self, z: Float[Tensor, "B L Z"], time: Tensor, generator: torch.Generator
    ) -> Float[Tensor, "B L D"]:
        """Draw x_n from N(mu_n, sigma^2), step by step; each draw is the next step's past."""
        advance = self.decoder.stepper(len(z))
        before, path = self.x_start.expand(len(z), -1), []
        for z_n, time_n in zip(z.unbind(1), time.unbind(1), strict=True):
            mean = self.activate(advance(self.latent_input(z_n, time_n), before))
            x_n = normal(mean, self.config.sigma, generator)
            before = self.posterior_input(x_n, torch.ones_like(x_n), time_n)
            path.append(x_n)
        return torch.stack(path, 1)
