r"""ODE2VAE: a variational autoencoder whose latent path solves a Bayesian second-order ODE.

Yıldız, Heinonen and Lähdesmäki, "ODE2VAE: Deep generative second order ODEs with Bayesian neural
networks", NeurIPS 2019, arXiv:1905.10994, section 3, with sizes and optimiser of the authors'
released code. The settings with which LS4's authors ran it are unknown.

Generation: a state of velocity and position, one draw of the acceleration's weights, and a decoder
that sees the position alone:

.. math::

    z_0 = (v_0, s_0) \sim N(0, I_{2q}), \quad W \sim q(W), \qquad
    \frac{dv}{d\tau} = a_W(v, s), \quad \frac{ds}{d\tau} = v, \qquad
    x_i \sim N(g(s_i), \sigma^2 I).

Inference: encoders of short windows, and a Gaussian for every weight,

.. math::

    q(z_i \mid x) = N(\mu^v_i, \sigma^v_i)\, N(\mu^s_i, \sigma^s_i), \quad
    (\mu^v_i, \sigma^v_i) = e_v(x_{i:i+A}), \quad (\mu^s_i, \sigma^s_i) = e_s(x_i), \qquad
    q(W) = N(m, \lambda^2).

The state z_0 ~ q(z_0 | x) is transported by the ODE and its density with it; of the trace of the
field's Jacobian only one block is not zero:

.. math::

    \log q_\mathrm{ode}(z_0) &= \log N(\epsilon; 0, I) - \textstyle\sum \log \sigma_0, \qquad
    z_0 = \mu_0 + \sigma_0 \epsilon, \\
    \frac{d}{d\tau} \log q_\mathrm{ode}(z) &= - \mathrm{tr}\,\frac{\partial a_W}{\partial v}.

With h_1, h_2 the hidden layers of a_W and d = 1 - h^2 the slopes of tanh, the trace is closed,

.. math::

    \mathrm{tr}\,\frac{\partial a_W}{\partial v} = d_2^T C d_1, \qquad
    C = W_2 \circ (W_{1,v} W_3)^T.

Loss of a series, over the first T of its L rows, one draw of eps for each series and of W for the
batch; the last sum is the instant encoding's penalty, over the rows where a window begins:

.. math::

    \sum_{i<T} \Big[ -\log p(x_i \mid s_i) + \log \frac{q_\mathrm{ode}(z_i)}{N(z_i; 0, I)} \Big]
    + \beta\, \mathrm{KL}(q(W) \,\|\, N(0, I))
    + \gamma \sum_i \log \frac{q_\mathrm{ode}(z_i)}{q(z_i \mid x)}.

==========  ============  ====================================================================
symbol      shape         meaning
==========  ============  ====================================================================
x           (B, L, D)     values
tau         scalar        latent time, ``time_scale`` t
v, s        (B, q)        velocity and position; z = (v, s), of size Z = 2q
mu, sigma   (B, M, Z)     mean and deviation of q(z_i | x) at the M = L - A + 1 windows' begins
a_W         MLP           2q -> H -> H -> q, tanh, every weight and bias drawn from q(W)
m, lambda   (P)           means and deviations of the P weights
e_v, e_s    MLP           of A rows and of one row; two hidden layers of tanh
g           MLP           q -> D; two hidden layers of tanh
==========  ============  ====================================================================

Deviations from the released code:

* log q(z_0) has the term - sum log sigma_0 that the released code leaves out, and without which
  nothing keeps the encoder's entropy.
* sigma is fixed (LS4's value). The released variance lies in (1, e), as large as normalised data.
* The penalty compares the two densities on the same rows. Released: log q_ode on all of them.
* Every weight has its own lambda, as in the released PyTorch code, but begins at the common value
  of the released TensorFlow code.
* tau ends at ``time_scale``. Released: 0.1 a row, a time of 73 to 100 on the long series, over
  which second-order dynamics explode. The last layer of a_W begins small for the same reason.
* Runge-Kutta 4 steps on `nodes` equal intervals, by default one a row (released: 5 a row). z and
  log q are brought to the rows by cubic Hermite polynomials: any times, one cost. On models trained
  for 150 and 300 steps, the largest errors of the decoded path and of log q against 1500 intervals
  were 3e-3 with 25, 2e-4 with 50 and 1e-5 with 100.
* log q is no part of the solver's state: it follows from the path by Simpson's rule on the same
  intervals, of the same order, and the trace is computed at all of them at once. Where intervals
  are too long for the field, the loss can gain by the error: its KL then falls below 0.
* The loss is divided by T, so that the clipping of gradients (ours) does not depend on T.
* The curriculum counts optimiser steps, not epochs.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torchdiffeq import odeint

from baselines.rubanova import hermite, tanh_mlp
from harness.contract import Batch, Diverged, Loss, Model, Optimisation, Shape, Task, or_zero
from ls4.gaussian import log_density


@dataclass(frozen=True)
class ODE2VAEConfig:
    """Sizes between the released ones (motion capture, defaults); settings here are unpublished."""

    latents: int = 8  # q
    units: int = 64  # of all hidden layers
    amort_len: int = 8  # A
    sigma: float = 0.1  # LS4's
    gamma: float = or_zero(1.0)
    time_scale: float = 10.0
    nodes: int | None = None  # intervals of [0, 1], one solver step in each; by default L - 1
    steps_per_row: int = 4  # of the curriculum: released 2 epochs, of 2 batches on the small sets
    lr: float = 1e-3


def log_normal(x: Float[Tensor, "*shape n"]) -> Float[Tensor, "*shape"]:
    """Return log N(x; 0, I)."""
    return -0.5 * (x.square() + math.log(2 * math.pi)).sum(-1)


class Field(NamedTuple):
    """The right-hand side of the ODE for one draw of the weights of a_W."""

    w1: Float[Tensor, "H Z"]
    b1: Float[Tensor, "H"]
    w2: Float[Tensor, "H H"]
    b2: Float[Tensor, "H"]
    w3: Float[Tensor, "q H"]
    b3: Float[Tensor, "q"]

    def dz(self, z: Float[Tensor, "*shape Z"]) -> Float[Tensor, "*shape Z"]:
        return self._forward(z)[0]

    def dz_and_trace(
        self, z: Float[Tensor, "*shape Z"]
    ) -> tuple[Float[Tensor, "*shape Z"], Float[Tensor, "*shape"]]:
        """Return dz/dtau and the trace of its Jacobian, which is that of da/dv."""
        dz, h1, h2 = self._forward(z)
        c = self.w2 * (self.w1[:, : len(self.w3)] @ self.w3).T
        trace = ((1 - h2.square()) * nn.functional.linear(1 - h1.square(), c)).sum(-1)
        return dz, trace

    def _forward(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        linear = nn.functional.linear
        h1 = linear(z, self.w1, self.b1).tanh()
        h2 = linear(h1, self.w2, self.b2).tanh()
        v = z[..., : len(self.w3)]
        return torch.cat([linear(h2, self.w3, self.b3), v], -1), h1, h2


class BayesianAcceleration(nn.Module):
    """q(W), the weights of a_W one after the other in one vector."""

    def __init__(self, q: int, units: int):
        super().__init__()
        self.shapes = [(units, 2 * q), (units,), (units, units), (units,), (q, units), (q,)]
        m = [torch.zeros(shape) for shape in self.shapes]
        for weight, gain in zip(m[::2], (1, 1, 0.1), strict=True):  # paths hardly bend at first
            nn.init.xavier_normal_(weight, gain)
        self.m = nn.Parameter(torch.cat([a.flatten() for a in m]))
        self.log_lambda = nn.Parameter(torch.full_like(self.m, math.log(0.01)))  # as released

    def draw(self, generator: torch.Generator) -> Field:
        m = self.m
        noise = torch.randn(m.shape, generator=generator, device=m.device, dtype=m.dtype)
        w = m + self.log_lambda.exp() * noise
        parts = w.split([math.prod(shape) for shape in self.shapes])
        return Field(*(a.view(shape) for a, shape in zip(parts, self.shapes, strict=True)))

    def kl(self) -> Float[Tensor, ""]:
        """Return KL(q(W) || N(0, I)) in nats."""
        variance = (2 * self.log_lambda).exp()
        return (0.5 * (self.m.square() + variance - 1) - self.log_lambda).sum()


class Path(NamedTuple):
    """z at the solver's nodes, which are `h` apart."""

    z: Float[Tensor, "N B Z"]
    h: float


def transport(
    field: Field, path: Path
) -> tuple[Float[Tensor, "N B Z"], Float[Tensor, "N B"], Float[Tensor, "N B"]]:
    """Return at a path's nodes dz/dtau, the trace, and the integral of the trace up to there."""
    z, h = path
    dz, trace = field.dz_and_trace(z)
    middle = 0.5 * (z[:-1] + z[1:]) + h / 8 * (dz[:-1] - dz[1:])  # of the cubic
    simpson = h / 6 * (trace[:-1] + 4 * field.dz_and_trace(middle)[1] + trace[1:])
    integral = torch.cat([torch.zeros_like(trace[:1]), simpson.cumsum(0)])
    return dz, trace, integral


def interpolate(
    position: Float[Tensor, "L"], y: Float[Tensor, "N B k"], dy: Float[Tensor, "N B k"]
) -> Float[Tensor, "B L k"]:
    """Read y off its cubic Hermite polynomials.

    Parameters
    ----------
    position : (L,)
        In intervals from the first node.
    y, dy : (N, B, k)
        Values at the nodes, and their change over an interval at the rate of the node.
    """
    left = position.long().clamp(max=len(y) - 2)
    p = (position - left)[:, None, None]  # 0 at the left node, 1 at the right one
    return hermite(p, y[left], y[left + 1], dy[left], dy[left + 1]).transpose(0, 1)


class ODE2VAE(Model):
    """ODE2VAE on complete series that share one grid; see the module's docstring.

    Raises
    ------
    ValueError
        If there are not two windows of the encoder in a series, or the solver has no interval.
    """

    tasks: ClassVar[frozenset[Task]] = frozenset({"generation"})
    Config: ClassVar = ODE2VAEConfig

    def __init__(self, config: ODE2VAEConfig, shape: Shape):
        super().__init__(config, shape)
        c, q, units = config, config.latents, config.units
        if not 1 <= c.amort_len < shape.length:
            raise ValueError(
                f"ode2vae: expected 1 <= amort_len < {shape.length}, the series' length, found"
                f" {c.amort_len}"
            )
        self.intervals = shape.length - 1 if c.nodes is None else c.nodes  # of [0, 1]
        if self.intervals < 1:
            raise ValueError(f"ode2vae: expected nodes >= 1, found {c.nodes}")
        self.encode_v = tanh_mlp(c.amort_len * shape.channels, units, units, 2 * q)
        self.encode_s = tanh_mlp(shape.channels, units, units, 2 * q)
        self.acceleration = BayesianAcceleration(q, units)
        self.decoder = tanh_mlp(q, units, units, shape.channels)
        # Ratio of latents to weights, as released, where the count has one layer too many.
        self.beta = q / (units * (3 * q + 2 * units + 3) + q)

    def encode(self, x: Float[Tensor, "B L D"]) -> tuple[Tensor, Tensor]:
        """Return mu and log sigma of q(z_i | x), (B, M, Z), at the begins of all windows."""
        windows = x.unfold(1, self.config.amort_len, 1).flatten(2)  # (B, M, D A)
        mu_v, log_sigma_v = self.encode_v(windows).chunk(2, -1)
        mu_s, log_sigma_s = self.encode_s(x[:, : windows.shape[1]]).chunk(2, -1)
        return torch.cat([mu_v, mu_s], -1), torch.cat([log_sigma_v, log_sigma_s], -1)

    def solve(self, field: Field, z0: Float[Tensor, "B Z"], t: Float[Tensor, "L"]) -> Path:
        """Carry `z0` from the first time of `t` to the last.

        Raises
        ------
        Diverged
            If the path leaves the finite numbers.
        """
        h = self.config.time_scale / self.intervals
        n = math.ceil(self.position(t)[-1].item() - 1e-3)  # a last interval for rounding is no use
        nodes = torch.arange(max(n, 1) + 1, device=z0.device, dtype=z0.dtype) * h
        z = odeint(lambda _, z: field.dz(z), z0, nodes, method="rk4")
        assert isinstance(z, Tensor)  # a tuple only where there are events
        if not z.isfinite().all():
            raise Diverged("solver rk4: the latent path left the finite numbers")
        return Path(z, h)

    def position(self, t: Float[Tensor, "L"]) -> Float[Tensor, "L"]:
        """Return times in intervals of the solver since the first one."""
        return (t - t[0]) * self.intervals

    def rows(self, step: int) -> int:
        """Return T, how much of the series is fitted at a step."""
        length, c = self.shape.length, self.config
        return max(min(length, length // 5 + step // c.steps_per_row), c.amort_len + 1)

    @property
    def warm_up(self) -> int:
        """Steps until whole series are fitted."""
        return self.config.steps_per_row * self.shape.length

    def optimisers(self) -> dict[str, Optimisation]:
        adam = torch.optim.Adam(self.parameters(), lr=self.config.lr)
        schedule = LambdaLR(adam, lambda step: 0.995 ** (step / 200))
        return {"main": Optimisation(adam, schedule, max_norm=5.0)}

    def loss(self, batch: Batch, step: int, generator: torch.Generator) -> Loss:
        c, rows = self.config, self.rows(step)
        t = batch.t[0, :rows]
        mu, log_sigma = self.encode(batch.visible)
        mu, log_sigma = mu[:, :rows], log_sigma[:, :rows]
        eps = torch.randn(mu[:, 0].shape, generator=generator, device=mu.device, dtype=mu.dtype)
        z0 = mu[:, 0] + log_sigma[:, 0].exp() * eps
        log_q0 = log_normal(eps) - log_sigma[:, 0].sum(-1)

        field = self.acceleration.draw(generator)
        path = self.solve(field, z0, t)
        dz, trace, integral = transport(field, path)
        y = torch.cat([path.z, (log_q0 - integral)[..., None]], -1)
        dy = torch.cat([dz, -trace[..., None]], -1) * path.h
        y = interpolate(self.position(t), y, dy)
        z, log_q_ode = y[..., :-1], y[..., -1]  # (B, T, Z), (B, T)
        log_q_enc = log_normal((z[:, : mu.shape[1]] - mu) / log_sigma.exp()) - log_sigma.sum(-1)

        x_hat = self.decoder(z[..., c.latents :])
        log_p = log_density(batch.x[:, :rows], x_hat, c.sigma) * batch.target[:, :rows]
        nll = -log_p.sum((1, 2)).mean() / rows
        kl = (log_q_ode - log_normal(z)).sum(1).mean() / rows
        kl_w = self.beta * self.acceleration.kl() / rows
        penalty = (log_q_ode[:, : mu.shape[1]] - log_q_enc).sum(1).mean() / rows
        logs = {"nll": nll, "kl": kl, "kl_w": kl_w, "penalty": penalty}
        value = nll + kl + kl_w + c.gamma * penalty
        return Loss(value, {name: term.detach() for name, term in logs.items()})

    @torch.no_grad()
    def sample(
        self, n: int, t: Float[Tensor, "L"], generator: torch.Generator
    ) -> Float[Tensor, "n L D"]:
        shape = (n, 2 * self.config.latents)
        z0 = torch.randn(shape, generator=generator, device=t.device, dtype=t.dtype)
        field = self.acceleration.draw(generator)
        path = self.solve(field, z0, t)
        z = interpolate(self.position(t), path.z, field.dz(path.z) * path.h)
        return self.decoder(z[..., self.config.latents :])
