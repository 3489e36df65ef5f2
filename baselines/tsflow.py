r"""TSFlow: flow matching from a Gaussian process, on a bidirectional S4 network; TSDiff beside it.

Kollovieh, Lienen, Lüdke, Schwinn and Günnemann, "Flow Matching with Gaussian Process Priors for
Probabilistic Time Series Forecasting", ICLR 2025, arXiv:2410.03024, in its unconditional form; and,
on the same network, Kollovieh et al., "Predict, Refine, Synthesize: Self-Guiding Diffusion Models
for Probabilistic Time Series Forecasting" (TSDiff), NeurIPS 2023, arXiv:2307.11494.

**Flow** (``objective: flow``). A path from the source x_0 to the data x_1, and the velocity along
it, with t ~ U(0, 1) and e ~ N(0, I):

.. math::

    x_0 \sim N(m, K), \quad x_t &= t x_1 + (1 - t) x_0 + s_t e, \quad
    s_t = (1 - t) s_{max} + t s_{min}, \\
    u &= x_1 - x_0 + (s_{min} - s_{max}) e, \qquad
    \mathrm{loss} = \mathrm{mean} |v_\theta(x_t, t) - u|^2.

A sample solves dx/dt = v(x, t) from x_0 + s_max e, at t = 0, to t = 1. With ``prior: kernel``, K is
a sum of stationary kernels of the rows n, each channel on its own:

.. math::

    K_{nn'} = a_1 e^{-\gamma_1 |n - n'|} + a_2 e^{-\gamma_2 \sin^2(\pi (n - n') / season)}
    + \nu [n = n'].

**Residual flow** (ours; ``prior: gaussian``). m and K = C are mean and covariance of the training
series over all L D values, and s = 0. Were the data Gaussian with these moments, the best velocity
would be a multiple of x - m; the network, whose last layer begins at zero, adds to it:

.. math::

    v(x, t) = \frac{2 t - 1}{t^2 + (1 - t)^2} (x - m) + v_\theta(x, t).

The first term brings every point back to where it came from. So before training the model is the
source, and training adds what is not Gaussian. C is the sample covariance with 1e-4 on its
diagonal, so that this is the benchmark's control `gaussian`. With ``shrinkage`` C is of better
condition, but the model is told apart from the control before any training; so the default is 0.

**Diffusion** (``objective: ddpm``; TSDiff). T steps, beta linear from 1e-4 to 0.1, x_0 are data:

.. math::

    x_k = \sqrt{\bar\alpha_k} x_0 + \sqrt{1 - \bar\alpha_k} e, \quad
    \bar\alpha_k = \textstyle\prod_{i \le k} (1 - \beta_i), \qquad
    \mathrm{loss} = \mathrm{mean} |\epsilon_\theta(x_k, k) - e|^2.

A sample begins as N(0, I) and is drawn backwards with the variance of q(x_{k-1} | x_k, x_0).

**Network**: h = ReLU(W x); in each block, with the embedded time c,

.. math::

    y = h + A c, \quad y = y + \mathrm{S4}(\mathrm{LN}(y)), \quad g = \tanh(y)\, \sigma(y), \quad
    h = h + B g, \quad skip = skip + E g,

and Linear, ReLU, Linear of the sum of skips. The noise predictor adds its input.

==========  ==========  ===================================================================
symbol      shape       meaning
==========  ==========  ===================================================================
x_1, x_0    (B, L, D)   flow: data and source; diffusion: x_0 are the data
t, k        (B)         time of the flow in [0, 1); step of the diffusion, 0 to T - 1
m           (L, D)      mean of the source; with a kernel, one value for each channel
K, C        (LD, LD)    covariance of the source
a, gamma    scalar      variances and rates of the kernels; nu: variance of white noise
==========  ==========  ===================================================================

Deviations from the papers and the released codes:

* The kernels are fitted to the training series by maximum marginal likelihood. Released: one kernel
  with gamma = 1, variance 1 and nu = 0.01. In both, s_t e is white noise beside it.
* Source and data are paired at random. Released, as an option: by optimal transport in a batch,
  which would give each of a hundred series a part of the source of its own.
* No shift: the source has the data's mean. Released: training shifts the data by 1 with one of two
  pairings, sampling always.
* Any number of channels (papers: one), Heun's method (released: Euler's), state size 64 (128).
* The times of a batch are a regular grid on [0, 1) with a random offset, so that each is uniform.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from scipy.optimize import minimize
from torch import Tensor, nn
from torch.nn import functional as F

from harness.contract import Batch, Diverged, Loss, Model, Optimisation, Shape, Task, or_zero
from ls4.blocks import TimeEmbedding
from ls4.gaussian import normal
from ls4.layer import SSM, gated, kernels_at_once, parameter_groups

Series = Float[Tensor, "B L D"]

DIAGONAL = 1e-4  # what the control `gaussian` adds to its covariance
FITTED = 200  # series at most that the kernel is fitted to
TIME_SCALE = 10_000  # sinusoids are of this multiple of the flow's time, as released


@dataclass(frozen=True)
class TSFlowConfig:
    """Released settings, except those of the source, the solver and `state`."""

    objective: Literal["flow", "ddpm"] = "flow"
    prior: Literal["kernel", "gaussian"] = "kernel"
    season: int | None = None  # rows; None: no periodic kernel
    shrinkage: float = 0.0  # of the Gaussian's covariance towards a multiple of the identity
    s_min: float = or_zero(0.001)
    s_max: float = 1.0
    solver_steps: int = 16
    diffusion_steps: int = 100  # T
    width: int = 64
    blocks: int = 3
    state: int = 64  # N
    bounds: tuple[float, float] | None = None  # of the values: samples are clipped to them
    lr: float = 1e-3
    max_norm: float = 0.5


# -- the network ---------------------------------------------------------------------------------


class BidirectionalS4(nn.Module):
    """An S4 layer that looks both ways: H systems run forwards in time, H others backwards.

    Their outputs are added, then mixed as in `ls4.layer.Layer`.
    """

    def __init__(self, width: int, state: int):
        super().__init__()
        self.ssm = SSM(2 * width, state, "dplr", "legs", "bilinear")
        self.linear = nn.Linear(width, 2 * width)

    def forward(self, u: Float[Tensor, "B L H"]) -> Float[Tensor, "B L H"]:
        ahead, back = self.ssm(torch.cat([u, u.flip(1)], -1)).chunk(2, -1)
        return gated(self.linear, ahead + back.flip(1))


class Block(nn.Module):
    """A gated residual block; returns what goes on and what is skipped to the end."""

    def __init__(self, width: int, state: int):
        super().__init__()
        self.shift = nn.Linear(width, width)  # A
        self.norm = nn.LayerNorm(width)
        self.s4 = BidirectionalS4(width, state)
        self.out = nn.Linear(width, 2 * width)  # B and E

    def forward(
        self, h: Float[Tensor, "B L H"], c: Float[Tensor, "B H"]
    ) -> tuple[Float[Tensor, "B L H"], Float[Tensor, "B L H"]]:
        y = h + self.shift(c).unsqueeze(1)
        y = y + self.s4(self.norm(y))
        on, skip = self.out(y.tanh() * y.sigmoid()).chunk(2, -1)
        return h + on, skip


class Network(nn.Module):
    """From noisy series and their time to series of the same shape; any length."""

    def __init__(self, config: TSFlowConfig, channels: int):
        super().__init__()
        width = config.width
        self.lift = nn.Linear(channels, width)
        self.embedding = TimeEmbedding(width)
        self.blocks = nn.ModuleList(Block(width, config.state) for _ in range(config.blocks))
        self.readout = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, channels))

    def forward(self, x: Series, time: Float[Tensor, "B"]) -> Series:
        h, c = F.relu(self.lift(x)), F.silu(self.embedding(time))
        total = torch.zeros_like(h)
        for block in self.blocks:
            h, skip = block(h, c)
            total = total + skip
        return self.readout(total)


# -- the source ----------------------------------------------------------------------------------


def kernel(
    log_scales: Float64[Tensor, "_"], length: int, season: int | None
) -> Float64[Tensor, "L L"]:
    """Return K from log (a_1, gamma_1, nu) or, with a season, log (a_1, gamma_1, nu, a_2, gamma_2).

    In double precision: smooth kernels are near singular on hundreds of rows.
    """
    n = torch.arange(length, dtype=log_scales.dtype, device=log_scales.device)
    lag = (n[:, None] - n).abs()
    a, rate, noise, *periodic = log_scales.exp()
    K = a * torch.exp(-rate * lag) + noise * torch.eye(length).to(lag)
    if season is not None:
        a, rate = periodic
        K = K + a * torch.exp(-rate * (math.pi * lag / season).sin().square())
    return K


def fit_kernel(x: Float64[Tensor, "N L"], season: int | None) -> Float64[Tensor, "_"]:
    """Fit a kernel to series of mean 0, or to some of many, by maximum marginal likelihood.

    Returns the logarithms that `kernel` takes.
    """
    x = x[:: math.ceil(len(x) / FITTED)]
    length = x.shape[1]

    def negative_log_likelihood(log_scales: np.ndarray) -> tuple[float, np.ndarray]:
        p = torch.tensor(log_scales, device=x.device, requires_grad=True)
        with torch.enable_grad():
            factor = torch.linalg.cholesky(kernel(p, length, season))
            white = torch.linalg.solve_triangular(factor, x.mT, upper=False)
            value = factor.diagonal().log().mean() + 0.5 * white.square().mean()
            (slope,) = torch.autograd.grad(value, p)
        return value.item(), slope.cpu().numpy()

    variance = max(x.square().mean().item(), DIAGONAL)
    start = [0.5 * variance, 0.1, 0.1 * variance, 0.5 * variance, 1.0]
    low = [1e-3 * DIAGONAL, 1e-4, DIAGONAL, 1e-3 * DIAGONAL, 1e-2]  # the noise keeps K regular
    high = [1e2 * variance, 1e2, 1e2 * variance, 1e2 * variance, 1e2]
    start, *bounds = np.log([start, low, high])[:, : 3 if season is None else 5]
    found = minimize(
        negative_log_likelihood, start, jac=True, method="L-BFGS-B", bounds=np.transpose(bounds)
    )
    return torch.tensor(found.x, device=x.device)


# -- the two objectives --------------------------------------------------------------------------


class Flow(nn.Module):
    """The flow from a Gaussian source; the source is fitted once and lies in buffers."""

    mean: Tensor
    factor: Tensor

    def __init__(self, config: TSFlowConfig, shape: Shape):
        super().__init__()
        self.config = config
        self.residual = config.prior != "kernel"
        self.s_min, self.s_max = (0.0, 0.0) if self.residual else (config.s_min, config.s_max)
        self.network = Network(config, shape.channels)
        if self.residual:
            for parameter in self.network.readout[-1].parameters():
                nn.init.zeros_(parameter)
        self.register_buffer("mean", torch.zeros(shape.length, shape.channels))
        self.register_buffer("factor", torch.eye(shape.length * shape.channels))  # Cholesky's, of K

    def fit(self, x: Series) -> None:
        """Fit the source to the training series."""
        c, (N, L, D), x = self.config, x.shape, x.double()
        self.mean.copy_(x.mean(0) if self.residual else x.mean((0, 1)))
        x = x - self.mean
        if self.residual:
            K, identity = x.flatten(1).mT @ x.flatten(1) / max(N - 1, 1), torch.eye(L * D).to(x)
            K = torch.lerp(K, K.trace() / (L * D) * identity, c.shrinkage) + DIAGONAL * identity
        else:
            K = x.new_zeros(L, D, L, D)
            for d in range(D):
                K[:, d, :, d] = kernel(fit_kernel(x[..., d], c.season), L, c.season)
        self.factor.copy_(torch.linalg.cholesky(K.view(L * D, L * D)))

    def source(self, n: int, generator: torch.Generator) -> Series:
        """Draw from N(m, K)."""
        z = normal(self.factor.new_zeros(n, len(self.factor)), 1.0, generator)
        return self.mean + (z @ self.factor.mT).view(n, *self.mean.shape)

    def forward(self, x: Series, t: Float[Tensor, "B"]) -> Series:
        """Return the velocity."""
        v = self.network(x, TIME_SCALE * t)
        if self.residual:
            t = t[:, None, None]
            v = v + (2 * t - 1) / (t**2 + (1 - t) ** 2) * (x - self.mean)
        return v

    def corrupt(
        self, x1: Series, t: Float[Tensor, "B"], generator: torch.Generator
    ) -> tuple[Series, Tensor, Series]:
        """Return x_t, its time and what `forward` should say there, u."""
        x0 = self.source(len(x1), generator)
        e = normal(torch.zeros_like(x1), 1.0, generator)
        r = t[:, None, None]
        x = r * x1 + (1 - r) * x0 + ((1 - r) * self.s_max + r * self.s_min) * e
        return x, t, x1 - x0 + (self.s_min - self.s_max) * e

    def solve(self, x: Series) -> Series:
        """Carry points from t = 0 to t = 1 by Heun's method."""
        h = 1 / self.config.solver_steps
        for i in range(self.config.solver_steps):
            t = x.new_full((len(x),), i * h)
            v = self(x, t)
            x = x + 0.5 * h * (v + self(x + h * v, t + h))
        return x

    def sample(self, n: int, length: int, generator: torch.Generator) -> Series:
        if length != (rows := len(self.mean)):
            raise ValueError(f"tsflow: expected {rows} rows, the source's, found {length}")
        x = self.source(n, generator)
        return self.solve(normal(x, self.s_max, generator))


class Diffusion(nn.Module):
    """TSDiff's noise predictor and ancestral sampling."""

    beta: Tensor
    alpha_bar: Tensor

    def __init__(self, config: TSFlowConfig, shape: Shape):
        super().__init__()
        self.network = Network(config, shape.channels)
        self.channels = shape.channels
        beta = torch.linspace(1e-4, 0.1, config.diffusion_steps)
        self.register_buffer("beta", beta, persistent=False)
        self.register_buffer("alpha_bar", (1 - beta).cumprod(0), persistent=False)

    def forward(self, x: Series, k: Int64[Tensor, "B"]) -> Series:
        """Return the noise in x_k."""
        return x + self.network(x, k.to(x.dtype))

    def corrupt(
        self, x0: Series, t: Float[Tensor, "B"], generator: torch.Generator
    ) -> tuple[Series, Tensor, Series]:
        """Return x_k, its step k and what `forward` should say there, e."""
        k = (t * len(self.beta)).long()
        e = normal(torch.zeros_like(x0), 1.0, generator)
        a = self.alpha_bar[k][:, None, None]
        return a.sqrt() * x0 + (1 - a).sqrt() * e, k, e

    def sample(self, n: int, length: int, generator: torch.Generator) -> Series:
        x = normal(self.beta.new_zeros(n, length, self.channels), 1.0, generator)
        for k in range(len(self.beta) - 1, -1, -1):
            beta, a = self.beta[k], self.alpha_bar[k]
            noise = self(x, torch.full((n,), k, device=x.device))
            x = (x - beta / (1 - a).sqrt() * noise) / (1 - beta).sqrt()
            if k > 0:
                variance = beta * (1 - self.alpha_bar[k - 1]) / (1 - a)
                x = normal(x, variance.sqrt(), generator)
        return x


# -- contract ------------------------------------------------------------------------------------


class TSFlow(Model):
    """TSFlow and TSDiff on complete series that share one grid; see the module's docstring.

    Raises
    ------
    ValueError
        If a number of steps or blocks, or the season, is not positive, or `shrinkage` no share.
    """

    tasks: ClassVar[frozenset[Task]] = frozenset({"generation"})
    Config: ClassVar = TSFlowConfig

    def __init__(self, config: TSFlowConfig, shape: Shape):
        super().__init__(config, shape)
        for name in ("solver_steps", "diffusion_steps", "blocks", "season"):
            value = getattr(config, name)
            if value is not None and value < 1:
                raise ValueError(f"tsflow: expected {name} >= 1, found {value}")
        if not 0 <= config.shrinkage <= 1:
            raise ValueError(f"tsflow: expected shrinkage in [0, 1], found {config.shrinkage}")
        self.process = (Flow if config.objective == "flow" else Diffusion)(config, shape)

    def calibrate(self, batch: Batch) -> None:
        """Fit the source to the training series."""
        if isinstance(self.process, Flow):
            self.process.fit(batch.visible)

    def optimisers(self) -> dict[str, Optimisation]:
        adam = torch.optim.AdamW(parameter_groups(self, self.config.lr))
        return {"main": Optimisation(adam, max_norm=self.config.max_norm)}

    def loss(self, batch: Batch, step: int, generator: torch.Generator) -> Loss:
        """Return the mean squared error, each series at a time and with noise of its own."""
        x = batch.visible
        offset = torch.rand(1, generator=generator, device=x.device, dtype=x.dtype)
        t = (offset + torch.arange(len(x), device=x.device) / len(x)) % 1
        with kernels_at_once(self, x.shape[1]):
            x_t, time, answer = self.process.corrupt(x, t, generator)
            error = (self.process(x_t, time) - answer).square() * batch.target
        return Loss(error.sum() / batch.target.sum().clamp(min=1))

    @torch.no_grad()
    def sample(
        self, n: int, t: Float[Tensor, "L"], generator: torch.Generator
    ) -> Float[Tensor, "n L D"]:
        with kernels_at_once(self, len(t)):
            x = self.process.sample(n, len(t), generator)
        if not x.isfinite().all():
            raise Diverged("the samples left the finite numbers")
        return x if self.config.bounds is None else x.clamp(*self.config.bounds)
