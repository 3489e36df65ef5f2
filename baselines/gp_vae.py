r"""GP-VAE: a variational autoencoder whose latent paths are Gaussian processes.

Fortuin, Baranchuk, Rätsch and Mandt, "GP-VAE: Deep Probabilistic Time Series Imputation", AISTATS
2020, arXiv:1907.04155, section 3, and the authors' released code.

Prior and decoder (3.1, 3.2): k independent processes, decoded time by time,

.. math::

    z_{j,1:T} \sim N(0, K_j), \qquad
    (K_j)_{ts} = \frac{1}{1 + (t - s)^2 / l_j^2} + 10^{-3} [t = s], \qquad
    x_t \sim N(g(z_{1:k,t}), \sigma^2 I).

Posterior (3.3): independent over j, each a Gaussian Markov chain, its precision tridiagonal,

.. math::

    q(z_j \mid x) = N(m_j, (B_j B_j^T)^{-1}), \qquad
    B_{tt} = 1 + a_t, \quad B_{t,t+1} = b_t, \quad B = 0 \text{ elsewhere}, \qquad
    (m, \log(e^a - 1), \log(e^b - 1)) = f(x).

Objective (3.2), with one draw of z from q:

.. math::

    -\sum_{t,d\ \text{observed}} \log p(x_{td} \mid z_t)
    + \beta \sum_j \big( \log q(z_j \mid x) - \log p(z_j) \big).

With :math:`\epsilon \sim N(0, I)` a draw is m + y where :math:`B^T y = \epsilon`, a recurrence:

.. math::

    y_t &= (\epsilon_t - b_{t-1} y_{t-1}) / (1 + a_t), \\
    \log q(z) &= \textstyle\sum_t \log(1 + a_t)
        - \tfrac12 |\epsilon|^2 - \tfrac{T}{2} \log 2\pi, \\
    \log p(z) &= -\log\det \Lambda
        - \tfrac12 |\Lambda^{-1} z|^2 - \tfrac{T}{2} \log 2\pi, \qquad \Lambda \Lambda^T = K.

========  ============  ==================================================================
symbol    shape         meaning
========  ============  ==================================================================
x         (B, T, D)     values, 0 where missing; f sees no mask
z, m      (B, k, T)     latent paths, their posterior means
a, b      (B, k, T)     diagonal and band of the B of each path; the last b has no use
K, Lambda (T, T)        a prior covariance and its lower Cholesky factor, one for each scale
l         scalar        length scale; of n scales the i-th is l 2^-i, a group of the paths each
f         CNN           a convolution of width `window` without activation, then ReLU layers
g         MLP           ReLU layers
sigma     scalar        standard deviation of the observations, not learnt
========  ============  ==================================================================

As released, a and b are softplus, hence positive: neighbouring times have a negative correlation
in the posterior, whatever the prior wants, and training drives b to 0. So the KL has a floor: with
constant a and b, the posterior nearest to the prior is 0.1 to 1 nat per path and time away from it.
With -b in place of b that floor falls by half and more at 52 steps, hardly for the long scales at
728, and so does the loss; but samples were no better in the one training that compared them.

The model assumes a regular grid: the window of f and the band count rows, and one factor of K
serves all records. So it generates; imputation on records that each have a grid of their own is
not offered.

Deviations from the released code:

* A draw takes O(T log T) and the KL is estimated from the same draw. The released code inverts
  B and takes the KL in closed form, with several tensors of shape (B, k, T, T).
* Times are those of the axis [0, 1], not row numbers, so l is a share of the axis. There are two
  scales, one row and half a row; the released code has one, of 7 rows of 48. Where paths are
  smoother than the series, the decoder amplifies their small movements, and samples are too large.
* sigma is 0.1, not 1: series of unit variance would be blurred.
* Generation, by decoding paths from the prior, is not in the released code; a sample is the
  decoder's mean.
* Initial biases of a make the posteriors as wide as suits the prior. From the released start,
  deviations near 0.6, the KL of a series of 728 steps begins 400 times higher, and 400 steps of
  training do not reach the loss that 100 reach otherwise.
* Where something leaves the finite numbers, training ends. The released code puts zeros there.
* The learning rate is constant; the released code halves it at times.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import pad, softplus

from harness.contract import Batch, Diverged, Loss, Model, Optimisation, Shape, Task, or_zero

JITTER = 1e-3  # on the diagonal of K, as released


@dataclass(frozen=True)
class GPVAEConfig:
    """Released Physionet settings for the KL's weight and the optimiser; sizes and sigma ours."""

    latents: int = 10  # k
    encoder: Sequence[int] = (128, 128)  # channels of the convolution, then ReLU layers
    window: int = 24  # rows that the convolution sees
    decoder: Sequence[int] = (256, 256)
    length_scale: float | None = None  # l, the longest, as a share of the time axis; None: one row
    scales: int = 2  # l, l/2, l/4, ...
    beta: float = or_zero(0.2)
    sigma: float = 0.1
    lr: float = 1e-3
    max_norm: float = 1e4  # of the gradient


# -- Gaussians over paths ------------------------------------------------------------------------


def cauchy_kernel(t: Float[Tensor, "T"], length_scale: float) -> Float[Tensor, "T T"]:
    """Return K on the grid `t`, in double precision."""
    t = t.double()
    k = 1 / (1 + ((t[:, None] - t) / length_scale) ** 2)
    return k + JITTER * torch.eye(len(t), dtype=t.dtype, device=t.device)


class Factor(NamedTuple):
    """A Cholesky factor Lambda of K, and log det Lambda."""

    matrix: Float[Tensor, "T T"]
    log_det: float


@lru_cache(maxsize=16)
def prior_factor(
    t: tuple[float, ...], length_scale: float, dtype: torch.dtype, device: torch.device
) -> Factor:
    """Factorise K in double precision; kept, since a training has one grid."""
    k = cauchy_kernel(torch.tensor(t, dtype=torch.float64, device=device), length_scale)
    factor = torch.linalg.cholesky(k)
    return Factor(factor.to(dtype), factor.diagonal().log().sum().item())


def linear_scan(c: Float[Tensor, "*N T"], d: Float[Tensor, "*N T"]) -> Float[Tensor, "*N T"]:
    """Solve ``y[t] = c[t] y[t-1] + d[t]``, ``y[-1] = 0``, in log2(T) rounds.

    After each round y[t] is a function of y[t - reach] with twice the reach.
    """
    reach, length = 1, c.shape[-1]
    while reach < length:
        d = d + c * pad(d[..., :-reach], (reach, 0))
        c = c * pad(c[..., :-reach], (reach, 0))
        reach *= 2
    return d


def solve_bidiagonal(
    diagonal: Float[Tensor, "*N T"], band: Float[Tensor, "*N T"], eps: Float[Tensor, "*N T"]
) -> Float[Tensor, "*N T"]:
    """Solve ``B^T y = eps``; B has `diagonal` and, to the right of it, ``band[:-1]``."""
    return linear_scan(-pad(band[..., :-1], (1, 0)) / diagonal, eps / diagonal)


class Posterior(NamedTuple):
    """q(z | x) of each path."""

    m: Float[Tensor, "B k T"]
    a: Float[Tensor, "B k T"]
    b: Float[Tensor, "B k T"]

    def draw(
        self, generator: torch.Generator
    ) -> tuple[Float[Tensor, "B k T"], Float[Tensor, "B k"]]:
        """Return paths z and log q(z), less its constant -T/2 log 2 pi."""
        eps = torch.randn(
            self.m.shape, generator=generator, device=self.m.device, dtype=self.m.dtype
        )
        z = self.m + solve_bidiagonal(1 + self.a, self.b, eps)
        return z, (self.a.log1p() - 0.5 * eps**2).sum(-1)


# -- the model -----------------------------------------------------------------------------------


def relu_mlp(*widths: int) -> nn.Sequential:
    """Build Linear - ReLU - ... - Linear through the given widths, input and output included."""
    layers: list[nn.Module] = []
    for n_in, n_out in itertools.pairwise(widths):
        layers += [nn.Linear(n_in, n_out), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def init_glorot(module: nn.Module) -> None:
    """Initialise as the released code's library does; for `Module.apply`."""
    if isinstance(module, nn.Linear | nn.Conv1d):
        nn.init.xavier_uniform_(module.weight)
        assert module.bias is not None
        nn.init.zeros_(module.bias)


class Encoder(nn.Module):
    """f: from series to the posterior of each path."""

    def __init__(self, channels: int, widths: Sequence[int], window: int, latents: int):
        super().__init__()
        self.around = ((window - 1) // 2, window // 2)  # rows seen before and after each row
        self.conv = nn.Conv1d(channels, widths[0], window)
        self.dense = relu_mlp(*widths, 3 * latents)

    def forward(self, x: Float[Tensor, "B T D"]) -> Posterior:
        h = self.conv(pad(x.mT, self.around)).mT  # (B, T, H)
        m, a, b = self.dense(h).mT.chunk(3, 1)  # (B, k, T) each
        return Posterior(m, softplus(a), softplus(b))


class GPVAE(Model):
    """GP-VAE; see the module's docstring.

    Raises
    ------
    ValueError
        If a size or scale is not positive, or there are more scales than latent paths.
    """

    tasks: ClassVar[frozenset[Task]] = frozenset({"generation"})
    Config: ClassVar = GPVAEConfig

    def __init__(self, config: GPVAEConfig, shape: Shape):
        super().__init__(config, shape)
        c = config
        if not 1 <= c.scales <= c.latents:
            raise ValueError(
                f"gp_vae: expected 1 to {c.latents} scales, at most one a latent path,"
                f" found {c.scales}"
            )
        if not c.encoder or c.window < 1:
            raise ValueError(
                "gp_vae: expected a convolution of one row or more, found"
                f" encoder {list(c.encoder)}, window {c.window}"
            )
        one_row = 1 / max(shape.length - 1, 1)
        self.length_scale = one_row if c.length_scale is None else c.length_scale
        for name, value in (
            ("length_scale", self.length_scale), ("beta", c.beta), ("sigma", c.sigma)
        ):  # fmt: skip
            if not value > 0:
                raise ValueError(f"gp_vae: expected {name} > 0, found {value}")
        self.encode = Encoder(shape.channels, c.encoder, c.window, c.latents)
        self.decode = relu_mlp(c.latents, *c.decoder, shape.channels)
        self.apply(init_glorot)

    def optimisers(self) -> dict[str, Optimisation]:
        adam = torch.optim.Adam(self.parameters(), lr=self.config.lr)
        return {"main": Optimisation(adam, max_norm=self.config.max_norm)}

    @torch.no_grad()
    def calibrate(self, batch: Batch) -> None:
        """Start from the uncorrelated posteriors nearest to the prior: (1 + a)^2 = tr K^-1 / T."""
        last = self.encode.dense[-1]
        assert isinstance(last, nn.Linear)
        of_a, t = last.bias.chunk(3)[1], batch.t[0]
        groups = of_a.tensor_split(self.config.scales)
        for group, factor in zip(groups, self.prior(t, of_a.dtype), strict=True):
            identity = torch.eye(len(t), dtype=of_a.dtype, device=t.device)
            inverse = torch.linalg.solve_triangular(factor.matrix, identity, upper=False)
            a = (inverse.square().sum() / len(t)).sqrt() - 1
            group.copy_(a.clamp(min=0.01).expm1().log())  # the inverse of softplus

    def prior(self, t: Float[Tensor, "T"], dtype: torch.dtype) -> list[Factor]:
        """Return Lambda on the grid `t` for each scale, the longest first."""
        times = tuple(t.tolist())
        scales = [self.length_scale / 2**i for i in range(self.config.scales)]
        return [prior_factor(times, scale, dtype, t.device) for scale in scales]

    def log_prior(self, z: Float[Tensor, "B k T"], t: Float[Tensor, "T"]) -> Float[Tensor, "B k"]:
        """Return log p(z) of each path, less its constant -T/2 log 2 pi."""
        groups = z.tensor_split(self.config.scales, 1)
        log_p = []
        for z_group, factor in zip(groups, self.prior(t, z.dtype), strict=True):
            columns = z_group.flatten(0, 1).mT  # (T, B k / n)
            white = torch.linalg.solve_triangular(factor.matrix, columns, upper=False)
            quadratic = white.square().sum(0).view(z_group.shape[:2])
            log_p.append(-factor.log_det - 0.5 * quadratic)
        return torch.cat(log_p, 1)

    def loss(self, batch: Batch, step: int, generator: torch.Generator) -> Loss:
        z, log_q = self.encode(batch.visible).draw(generator)
        kl = (log_q - self.log_prior(z, batch.t[0])).sum(1)  # (B,)
        error = (batch.x - self.decode(z.mT)) / self.config.sigma
        log_scale = math.log(self.config.sigma) + 0.5 * math.log(2 * math.pi)
        nll = ((0.5 * error.square() + log_scale) * batch.target).sum((1, 2))
        value = (nll + self.config.beta * kl).mean()
        return Loss(value, {"nll": nll.mean().detach(), "kl": kl.mean().detach()})

    @torch.no_grad()
    def sample(
        self, n: int, t: Float[Tensor, "T"], generator: torch.Generator
    ) -> Float[Tensor, "n T D"]:
        size = (n, self.config.latents, len(t))
        eps = torch.randn(size, generator=generator, device=t.device, dtype=t.dtype)
        groups = zip(eps.tensor_split(self.config.scales, 1), self.prior(t, t.dtype), strict=True)
        z = torch.cat([group @ factor.matrix.mT for group, factor in groups], 1)
        x = self.decode(z.mT)
        if not x.isfinite().all():
            raise Diverged("the samples left the finite numbers")
        return x
