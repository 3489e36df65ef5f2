r"""SDE Matching: a latent stochastic differential equation that is trained without a solver.

Bartosh, Vetrov and Naesseth, "SDE Matching: Scalable and Simulation-Free Training of Latent
Stochastic Differential Equations", ICML 2025, arXiv:2502.02472. Prior and observations:

.. math::

    z_0 &\sim N(m_0, \mathrm{diag}\, s_0^2), \qquad
    dz = h(z, t)\,dt + g(z)\,dw, \qquad
    x_n \sim N(O(z_{t_n}), \sigma^2 I), \\
    h &= a\, (\mathrm{net}(z, t) - z) + w J z, \qquad g = \sqrt{2 a}\, \gamma(z), \qquad
    a > 0, \quad 0.05 < \gamma < 1.95.

J turns pairs of components by 90 degrees; g_i depends on z_i alone. At the start net = 0 and
gamma = 1: damped rotations of variance 1, slow ones at the seasons, the rest at rates from one in
the whole range to one a row. For these the sampler, Euler with exact linear part, is exact.

The *marginals* of the posterior are written down, with networks of the time and the record X. They
are those of an SDE (Ito) that has the prior's g and the drift f:

.. math::

    z_t &= F(e_0, t, X) = \mu(X, t) + s(X, t)\, e_t, \qquad
    e_t = \exp(w J t)\, e_0 \sim N(0, I), \\
    f &= \mu' + s' e + s\, w J e + \tfrac12 g^2 \nabla \log q(z)
    + \tfrac12\, \partial g^2 / \partial z, \qquad \nabla \log q(z) = -e / s.

So the negative evidence bound has expectations at single times alone. R times are drawn for the
integral and R rows for the sum, stratified and without bias:

.. math::

    \mathrm{KL}(q(z_0) \,\|\, p(z_0)) + \int E\, \tfrac12 \big| (f - h) / g \big|^2 dt
    - \sum_n E \log p(x_n \mid z_{t_n}).

========  ============  ======================================================================
symbol    shape         meaning
========  ============  ======================================================================
x         (B, L, D)     values
t, tau    (B, L) (B, R) times of the rows, and drawn times, in [0, 1]
z, e      (B, R, Z)     latent state, and the noise that it is a function of
mu, s     (B, R, Z)     mean and deviation of q(z_t | X); s > 0.01
h, net    MLP           drift; the level to which it pulls, bounded, so that no path explodes
g, gamma  (Z,)          diffusion, and relative to that of variance 1; a net for each component
a, w      (Z / 2,)      rate and angular velocity of each pair
O         MLP           decoder; sigma is fixed
========  ============  ======================================================================

The model sees V and is to predict T. Let c be the last time of V.

* The encoder reads V. Hidden rows before c (interpolation) are in the likelihood, as V is.
* After c (extrapolation), `predict` draws z_c from q(z_c | V), then a path of the prior. Its bound:
  KL(q(z_c | V, T) || q(z_c | V)), with integral and sum after c under q(z_t | V, T). The loss is
  the sum of both; `neg_elbo` leaves out one without targets.

Deviations from the published form:

* h and the posterior are given the time and the phase of given seasons, and h has a linear part, as
  seasons are rotations. The noise e turns with it; else turning would cost (s w J e / g)^2 / 2.
* The encoder reads both ways (two layers of `ls4.scan`), with mask and gaps. mu and s see its mean
  state, its state at t, linear between visible rows, and a Brownian bridge's log variance there.
* Many times a record, not one, and the likelihood of all rows. The weight of KL and integral rises
  over the first `kl_steps` steps. Gradients are clipped.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Bool, Complex, Float, Int
from torch import Tensor, nn
from torch.func import jvp
from torch.nn.functional import pad, softplus

from baselines.rubanova import tanh_mlp, to_front
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
from ls4.gaussian import kl_divergence, log_density, normal
from ls4.kernel import as_complex, as_real, expm1
from ls4.layer import parameter_groups
from ls4.scan import ScanLayer

S_MIN = 0.01  # of s, lest e / s explode
GAMMA_MIN = 0.05
BRIDGE_MIN = 0.01  # variance of a bridge, in rows, below which its logarithm hardly falls
PLACES = 64  # where `neg_elbo` looks at the integrand
ROWS_AT_ONCE = 2**20  # of draws in `predict`, which bounds its memory


@dataclass(frozen=True)
class SDEMatchingConfig:
    """Settings for series as here are unpublished; published: Z = 4, 100 units, this rate."""

    latents: int = 8  # Z
    units: int = 64  # of all hidden layers but gamma's
    gamma_units: int = 8  # of each component
    width: int = 64  # H of the encoder
    state: int = 64  # N of the encoder's layers
    seasons: Sequence[float] = ()  # cycles in a time range of 1
    time_scale: float | None = None  # typical rows in a time range of 1; by default the longest L
    sigma: float = 0.1  # LS4's
    noise: bool = True  # whether samples contain the observation noise
    times: int = 32  # R
    substeps: int = 4  # of the solver from row to row
    kl_steps: int = 1000  # optimiser steps over which the weight of KL and integral rises to 1
    lr: float = 1e-3
    clip_norm: float = 1.0  # of the gradient


def calendar(t: Float[Tensor, "*B"], seasons: Sequence[float]) -> Float[Tensor, "*B K"]:
    """Return what networks are given of the time: t, and sine and cosine of each season's phase."""
    phase = 2 * math.pi * t[..., None] * t.new_tensor(seasons)
    return torch.cat([t[..., None], phase.sin(), phase.cos()], -1)


def stratified(like: Tensor, n: int, generator: torch.Generator) -> Float[Tensor, "B n"]:
    """Draw a point of each of n equal parts of [0, 1], for every record of `like`."""
    u = torch.rand(len(like), n, generator=generator, device=like.device, dtype=like.dtype)
    return (torch.arange(n, device=like.device) + u) / n


def draw_rows(
    marked: Float[Tensor, "B L"], n: int, generator: torch.Generator
) -> tuple[Int[Tensor, "B n"], Float[Tensor, "B 1"]]:
    """Draw n of a record's marked rows, and say for how many rows each of them stands."""
    number = marked.cumsum(1)
    count = number[:, -1:]
    drawn = torch.searchsorted(number, count * stratified(marked, n, generator), right=True)
    return drawn.clamp(max=marked.shape[1] - 1), count / n


class Prior(nn.Module):
    """p(z_0) and the SDE. Parameters of time are in units of a row, of which 1 has `rows`."""

    def __init__(self, config: SDEMatchingConfig, rows: float):
        super().__init__()
        c, Z, S = config, config.latents, len(config.seasons)
        self.rows, self.seasons, self.substeps = rows, c.seasons, c.substeps
        self.m0, self.log_s0 = nn.Parameter(torch.zeros(Z)), nn.Parameter(torch.zeros(Z))
        log_rate = torch.full((Z // 2,), -math.log(rows))
        log_rate[S:] = torch.linspace(-math.log(rows), 0, Z // 2 - S)
        seasonal = 2 * math.pi / rows * pad(torch.tensor(c.seasons), (0, Z // 2 - S))
        self.register_buffer("seasonal", seasonal, persistent=False)
        self.log_rate, self.turn = nn.Parameter(log_rate), nn.Parameter(torch.zeros(Z // 2))
        self.net = tanh_mlp(Z + 1 + 2 * S, c.units, c.units, Z)
        for parameter in list(self.net.parameters())[-2:]:
            nn.init.zeros_(parameter)
        self.gamma_in = nn.Parameter(torch.randn(2, Z, c.gamma_units))  # weights and biases
        self.gamma_out = nn.Parameter(torch.zeros(Z, c.gamma_units))

    @property
    def a(self) -> Float[Tensor, "Z"]:
        return self.rows * self.log_rate.exp().repeat_interleave(2)

    @property
    def poles(self) -> Complex[Tensor, "P"]:
        """-a + i w of each pair, of which (z_1, z_2) is z_1 + i z_2."""
        rate = self.log_rate.exp()
        return self.rows * torch.complex(-rate, self.get_buffer("seasonal") + rate * self.turn)

    def level(self, z: Float[Tensor, "*B Z"], t: Float[Tensor, "*B"]) -> Float[Tensor, "*B Z"]:
        return self.net(torch.cat([z, calendar(t, self.seasons)], -1))

    def gamma(self, z: Float[Tensor, "*B Z"]) -> Float[Tensor, "*B Z"]:
        weight, bias = self.gamma_in
        hidden = (z[..., None] * weight + bias).tanh()
        return 1 + (1 - GAMMA_MIN) * (hidden * self.gamma_out).sum(-1).tanh()

    def drift(self, z: Float[Tensor, "*B Z"], t: Float[Tensor, "*B"]) -> Float[Tensor, "*B Z"]:
        """Return h."""
        return as_real(self.poles * as_complex(z)) + self.a * self.level(z, t)

    def squared_diffusion(self, z: Float[Tensor, "*B Z"]) -> Float[Tensor, "*B Z"]:
        """Return g^2."""
        return 2 * self.a * self.gamma(z).square()

    def step(
        self, z: Float[Tensor, "N Z"], t: Float[Tensor, "N"], dt: Float[Tensor, "N"]
    ) -> tuple[Float[Tensor, "N Z"], Float[Tensor, "N Z"]]:
        """Return mean and deviation of z at t + dt; exact where net and gamma are constant."""
        poles, dt = self.poles, dt[:, None]
        towards = as_complex(z) + as_complex(self.a * self.level(z, t)) / poles
        mean = z + as_real(expm1(dt * poles.real, dt * poles.imag) * towards)
        return mean, self.gamma(z) * (-torch.expm1(-2 * self.a * dt)).sqrt()

    def path(
        self, z: Float[Tensor, "N Z"], t: Float[Tensor, "N L"], generator: torch.Generator
    ) -> Float[Tensor, "N L Z"]:
        """Draw paths at the times t from the states z at the first ones."""
        states = [z]
        for now, gap in zip(t[:, :-1].unbind(1), t.diff(dim=1).unbind(1), strict=True):
            dt = gap / self.substeps
            for k in range(self.substeps):
                z = normal(*self.step(z, now + k * dt, dt), generator)
            states.append(z)
        return torch.stack(states, 1)


def path_loss(
    marginal: Callable, prior: Prior, tau: Float[Tensor, "B R"], e: Float[Tensor, "B R Z"]
) -> Float[Tensor, "B R"]:
    """Return 1/2 |(f - h) / g|^2, where `marginal` says mu and s at the times tau."""
    (mu, s), (dmu, ds) = jvp(marginal, (tau,), (torch.ones_like(tau),))[:2]
    z = mu + s * e
    # A derivative along (1, ..., 1), since g_i looks at z_i alone.
    g2, dg2 = jvp(prior.squared_diffusion, (z,), (torch.ones_like(z),))[:2]
    turning = as_real(1j * prior.poles.imag * as_complex(e))  # w J e
    f = dmu + ds * e + s * turning - 0.5 * g2 * e / s + 0.5 * dg2
    return 0.5 * ((f - prior.drift(z, tau)).square() / g2).sum(-1)


class Context(NamedTuple):
    """States at a record's V visible rows and its first row; padding repeats the last time."""

    t: Float[Tensor, "B V"]
    states: Float[Tensor, "B V H"]
    mean: Float[Tensor, "B 1 H"]
    last: Int[Tensor, "B 1"]  # index of the last row that is no padding

    def at(self, tau: Float[Tensor, "B R"]) -> tuple[Tensor, Tensor]:
        """Return the state (B, R, H) and the variance of the bridge (B, R)."""
        left = torch.searchsorted(self.t, tau.detach().contiguous(), right=True) - 1
        left = left.clamp(min=0).minimum(self.last)
        right = (left + 1).minimum(self.last)
        t_left, t_right = self.t.gather(1, left), self.t.gather(1, right)
        s_left, s_right = (self.states.take_along_dim(i[..., None], 1) for i in (left, right))
        gap = t_right - t_left  # 0 after the last row
        inside = tau.maximum(self.t[:, :1]).minimum(self.t[:, -1:])
        p = (inside - t_left) / gap.clamp(min=1e-9)
        state = s_left + p[..., None] * (s_right - s_left)
        return state, gap * p * (1 - p) + (tau - inside).abs()


class Encoder(nn.Module):
    """Read the visible rows of a record both ways; a time range of 1 has `rows` of them."""

    def __init__(self, channels: int, width: int, state: int, rows: float):
        super().__init__()
        self.rows = rows
        self.lift = nn.Linear(2 * channels + 1, width)
        self.forwards, self.backwards = ScanLayer(width, state), ScanLayer(width, state)

    def forward(
        self, x: Float[Tensor, "B L D"], mask: Float[Tensor, "B L D"], t: Float[Tensor, "B L"]
    ) -> Context:
        keep = (mask > 0).any(-1)
        keep[:, 0] = True
        order, count = to_front(keep)
        last = count[:, None] - 1
        row = torch.arange(int(count.max()), device=t.device)
        index = order.gather(1, row.minimum(last))  # (B, V)
        t = t.gather(1, index)
        x, mask = (a.take_along_dim(index[..., None], 1) for a in (x * mask, mask))
        gap = t.diff(dim=1) * self.rows
        before = pad(gap, (1, 0), value=1.0)
        after = pad(gap, (0, 1)).scatter(1, last, 1.0)  # 0 in padding: its states stay 0
        u = self.lift(torch.cat([x, mask, before.log1p()[..., None]], -1))
        states = self.forwards(u, before) + self.backwards(u.flip(1), after.flip(1)).flip(1)
        mean = (states * (row <= last)[..., None]).sum(1, keepdim=True) / count[:, None, None]
        return Context(t, states, mean, last)


class SDEMatching(Model):
    """SDE Matching; see the module's docstring.

    Raises
    ------
    ValueError
        If the number of latents is odd, or less than two a season.
    """

    tasks: ClassVar[frozenset[Task]] = frozenset(TASKS)
    Config: ClassVar = SDEMatchingConfig

    def __init__(self, config: SDEMatchingConfig, shape: Shape):
        super().__init__(config, shape)
        c, Z, S = config, config.latents, len(config.seasons)
        if Z % 2 or not 2 * S <= Z > 0:
            raise ValueError(
                f"sde_matching: expected an even number of latents, two or more a season, found {Z}"
                f" for {S} seasons"
            )
        self.seasons, self.rows = c.seasons, float(c.time_scale or max(shape.length - 1, 1))
        self.prior = Prior(c, self.rows)
        self.encode = Encoder(shape.channels, c.width, c.state, self.rows)
        self.posterior = tanh_mlp(2 * c.width + 2 + 2 * S, c.units, c.units, 2 * Z)
        self.decode = tanh_mlp(Z, c.units, shape.channels)  # O

    def marginal(
        self, context: Context, tau: Float[Tensor, "B R"]
    ) -> tuple[Float[Tensor, "B R Z"], Float[Tensor, "B R Z"]]:
        """Return mu and s at tau, given what the encoder saw."""
        state, bridge = context.at(tau)
        log_bridge = (bridge * self.rows + BRIDGE_MIN).log()[..., None]
        told = [state, context.mean.expand_as(state), log_bridge, calendar(tau, self.seasons)]
        mu, spread = self.posterior(torch.cat(told, -1)).chunk(2, -1)
        return mu, S_MIN + softplus(spread)

    @property
    def warm_up(self) -> int:
        return self.config.kl_steps

    def optimisers(self) -> dict[str, Optimisation]:
        adam = torch.optim.Adam(parameter_groups(self, self.config.lr))
        return {"main": Optimisation(adam, max_norm=self.config.clip_norm)}

    def loss(self, batch: Batch, step: int, generator: torch.Generator) -> Loss:
        """Return the bound of all values, with a growing weight of the KL, in nats a value."""
        n = self.config.times
        fitted = batch.mask.maximum(batch.target)
        rows, weight = draw_rows(fitted.amax(-1), n, generator)
        whole = torch.ones_like(batch.t[:, :1], dtype=torch.bool)
        kl, nll = self._bound(batch, n, rows, whole, generator)
        nll = (nll * fitted.take_along_dim(rows[..., None], 1)).sum(-1) * weight
        kl, nll = kl.sum() / fitted.sum().clamp(min=1), nll.sum() / fitted.sum().clamp(min=1)
        kl_weight = min((step + 1) / self.config.kl_steps, 1)
        return Loss(kl_weight * kl + nll, {"kl": kl.detach(), "nll": nll.detach()})

    @torch.no_grad()
    def neg_elbo(self, batch: Batch, generator: torch.Generator) -> NegElbo:
        """Return the bound of the targets, in all rows and many places."""
        rows = torch.arange(batch.t.shape[1], device=batch.t.device).expand(batch.t.shape)
        whole = (batch.target.amax(-1) * (1 - batch.beyond)).amax(1, keepdim=True) > 0
        kl, nll = self._bound(batch, PLACES, rows, whole, generator)
        return NegElbo(kl, (nll * batch.target).sum((1, 2)))

    def _bound(
        self,
        batch: Batch,
        n: int,
        rows: Int[Tensor, "B N"],
        whole: Bool[Tensor, "B 1"],
        generator: torch.Generator,
    ) -> tuple[Float[Tensor, "B"], Float[Tensor, "B N D"]]:
        """Return KL with the integral, of n times, and -log p of the values in `rows`.

        The integral is over the `whole` range of time, or over what is after c.
        """
        shown = self.encode(batch.x, batch.mask, batch.t)
        later = batch.target * batch.beyond[..., None]
        seen = self.encode(batch.x, batch.mask + later, batch.t) if later.any() else shown
        first, c, end = batch.t[:, :1], shown.t[:, -1:], batch.t[:, -1:]

        def q(tau: Tensor) -> tuple[Tensor, ...]:
            if seen is shown:
                return self.marginal(shown, tau)
            pairs = zip(self.marginal(seen, tau), self.marginal(shown, tau), strict=True)
            return tuple(torch.where((tau > c)[..., None], a, b) for a, b in pairs)

        mu, s = self.marginal(shown, first)
        kl = kl_divergence(mu, s.log(), self.prior.m0, self.prior.log_s0) * whole[..., None]
        (mu, s), (mu_c, s_c) = self.marginal(seen, c), self.marginal(shown, c)
        kl = kl + kl_divergence(mu, s.log(), mu_c, s_c.log())
        start = torch.where(whole, first, c)
        tau = start + (end - start) * stratified(c, n, generator)
        e = normal(mu.new_zeros(*tau.shape, mu.shape[-1]), 1.0, generator)
        integral = path_loss(q, self.prior, tau, e).mean(1) * (end - start)[:, 0]

        mu, s = q(batch.t.gather(1, rows))
        x, x_hat = batch.x.take_along_dim(rows[..., None], 1), self.decode(normal(mu, s, generator))
        return kl.sum((1, 2)) + integral, -log_density(x, x_hat, self.config.sigma)

    @torch.no_grad()
    def sample(
        self, n: int, t: Float[Tensor, "L"], generator: torch.Generator
    ) -> Float[Tensor, "n L D"]:
        z0 = normal(self.prior.m0.expand(n, -1), self.prior.log_s0.exp(), generator)
        x = self.decode(self.prior.path(z0, t.expand(n, -1), generator))
        return normal(x, self.config.sigma, generator) if self.config.noise else x

    @torch.no_grad()
    def predict(self, batch: Batch, n_samples: int, generator: torch.Generator) -> Prediction:
        """Draw from the posterior's marginals and, after the last visible row, from the prior."""
        context = self.encode(batch.x, batch.mask, batch.t)
        c = context.t[:, -1:]
        (mu, s), (mu_c, s_c) = self.marginal(context, batch.t), self.marginal(context, c)
        beyond = batch.beyond.bool()
        first = int((~beyond).sum(1).min())  # row of the first forecast of all
        times = torch.cat([c, batch.t[:, first:].maximum(c)], 1)  # each record waits for its c
        at_once, means = max(1, ROWS_AT_ONCE // batch.t.numel()), []
        for begin in range(0, n_samples, at_once):
            draws = min(at_once, n_samples - begin)
            e = normal(mu.new_zeros(draws, len(mu), 1, mu.shape[-1]), 1.0, generator)
            z, z_c = mu + s * e, (mu_c + s_c * e).flatten(0, 2)  # (S, B, L, Z), (S B, Z)
            path = self.prior.path(z_c, times.repeat(draws, 1), generator)[:, 1:]
            path = path.unflatten(0, (draws, -1))
            z[:, :, first:] = torch.where(beyond[:, first:, None], path, z[:, :, first:])
            means.append(self.decode(z))
        return Prediction(torch.cat(means), mu.new_tensor(self.config.sigma))
