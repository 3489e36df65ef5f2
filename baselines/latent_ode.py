r"""Latent ODE with an ODE-RNN encoder.

Rubanova, Chen and Duvenaud, "Latent ODEs for irregularly-sampled time series", NeurIPS 2019,
arXiv:1907.03907, sections 3.1 (ODE-RNN) and 3.2 (Latent ODE), and the authors' released code.

Encoder, backwards in time from the last observation to t_0, from y = s = 0:

.. math::

    y &\leftarrow y - \int_{t_i}^{t_{i+1}} g(y)\,d\tau
        && \text{explicit Euler, steps} \le 1/50 \\
    u &= \sigma(U[y, s, x_i, m_i]), \quad r = \sigma(R[y, s, x_i, m_i]) \\
    (y', s') &= N[r y, r s, x_i, m_i] \\
    y &\leftarrow (1 - u)\, y' + u\, y, \quad
    s \leftarrow (1 - u)\, |s'| + u\, s
        && \text{if any channel of row } i \text{ is seen} \\
    (\mu, s_0) &= P[y, s]
        && \text{at } t_0.

Decoder: dz/dt = f(z) from z(t_0) = z_0, and x_hat(t) = W z(t) + b.

========  ============  ===========================================================
symbol    shape         meaning
========  ============  ===========================================================
x, m      (B, R, D)     values and mask of the observed rows
y, s      (B, H)        encoder state and its companion "standard deviation"
u, r      (B, H)        update and reset gate
z         (S, B, L, Z)  latent path
f, g      MLP           fields of decoder and encoder, autonomous
U, R, N   MLP           gates and new state, one hidden layer of tanh
P         MLP           to mu and s_0, one hidden layer of tanh
========  ============  ===========================================================

Deviations from the released code, beside those in `baselines.rubanova` and, for Euler's steps, in
`baselines.ode_rnn`:

* z_0 is the state at a record's first time in every task. The released code puts it at the first
  time that is to be predicted, so that interpolation and extrapolation need different models.
* The default solver is Runge-Kutta 4 with 50 equal steps, not dopri5 with rtol 1e-3 and atol 1e-4.
  dopri5 controls the error of a whole batch, so a record's path depends on the others in it, and
  nothing bounds its work beforehand. Against dopri5 at rtol 1e-6, on two models trained for 100 and
  300 steps, the largest error of x_hat was 1e-5 with 50 steps (200 evaluations of f), 9e-5 with 25,
  and 5e-2 with dopri5 as released (20 and 44 evaluations).
* With either solver the path is computed on one uniform grid of nodes and brought to the times of
  each record by cubic Hermite polynomials of z and f(z): any times, one cost.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torchdiffeq import odeint

from baselines.ode_rnn import ODERNNCell
from baselines.rubanova import (
    InitialStateVAE,
    hermite,
    init_linear,
    rows_backwards,
    tanh_mlp,
)
from harness.contract import TASKS, Batch, Diverged, Shape, Task, or_zero

MAX_DOPRI5_STEPS = 100  # between two nodes; trained fields took fewer than 10 in all


@dataclass(frozen=True)
class LatentODEConfig:
    """Released Physionet settings, except `solver`, `nodes` and `sigma`."""

    latents: int = 20  # Z
    rec_dims: int = 40  # H
    rec_layers: int = or_zero(3)  # of g, beside the first hidden one
    gen_layers: int = or_zero(3)  # of f, beside the first hidden one
    units: int = 50  # of f and g
    gru_units: int = 50  # of U, R and N
    solver: Literal["rk4", "dopri5"] = "rk4"
    nodes: int = 50  # equal intervals of [0, 1]: rk4 takes one step in each, dopri5 its own
    sigma: float = 0.1  # of the bound and of predictions; released: 0.01
    loss_sigma: float | None = None  # of the loss; that of the bound by default
    train_samples: int = 3  # S in training
    lr: float = 0.01
    steps_per_epoch: int = 128  # 6400 records in batches of 50


class Encoder(ODERNNCell):
    """State (y, s) at t_0 after all rows have been read backwards in time."""

    def forward(
        self, x: Float[Tensor, "B R D"], mask: Float[Tensor, "B R D"], gap: Float[Tensor, "B R"]
    ) -> tuple[Float[Tensor, "B H"], Float[Tensor, "B H"]]:
        y, s = self.initial_state(len(x))
        unseen = (mask.sum(-1, keepdim=True) == 0).to(x.dtype)
        rows = zip(*(a.unbind(1) for a in (*self.project(x, mask), unseen)), strict=True)
        for steps, (from_ur, from_n, keep) in zip(self.euler_steps(-gap), rows, strict=True):
            for step in steps:
                y = y + step * self.g(y)
            y, s = self.update(y, s, from_ur, from_n, keep)
        return y, s


class LatentODE(InitialStateVAE):
    """Latent ODE with an ODE-RNN encoder; see the module's docstring."""

    tasks: ClassVar[frozenset[Task]] = frozenset(TASKS)
    Config: ClassVar = LatentODEConfig

    def __init__(self, config: LatentODEConfig, shape: Shape):
        super().__init__(config, shape)
        c, z = config, config.latents
        self.ode_rnn = Encoder(shape.channels, c.rec_dims, c.rec_layers, c.units, c.gru_units)
        self.p = tanh_mlp(2 * c.rec_dims, 100, 2 * z)  # 100: fixed in the released code
        self.f = tanh_mlp(z, *[c.units] * (c.gen_layers + 1), z)
        self.w = nn.Linear(z, shape.channels)
        self.apply(init_linear)

    def encode(self, batch: Batch) -> tuple[Float[Tensor, "B Z"], Float[Tensor, "B Z"]]:
        rows = rows_backwards(batch)
        y, s = self.ode_rnn(rows.x, rows.mask, rows.gap)
        mu, s0 = self.p(torch.cat([y, s], -1)).chunk(2, -1)
        return mu, s0.abs() + 1e-6

    def decode(
        self, z0: Float[Tensor, "S B Z"], t: Float[Tensor, "B L"]
    ) -> Float[Tensor, "S B L D"]:
        return self.w(self.latent_path(z0, t))

    def latent_path(
        self, z0: Float[Tensor, "S B Z"], t: Float[Tensor, "B L"]
    ) -> Float[Tensor, "S B L Z"]:
        """Solve dz/dt = f(z) from ``z(t[:, 0]) = z0`` and interpolate to `t`.

        Raises
        ------
        Diverged
            If the solver gives up or leaves the finite numbers.
        """
        n, solver = self.config.nodes, self.config.solver
        nodes = torch.linspace(0, 1, n + 1, device=t.device, dtype=t.dtype)
        options = {"max_num_steps": MAX_DOPRI5_STEPS} if solver == "dopri5" else None
        try:
            z: Tensor = odeint(  # type: ignore[assignment]  # a tuple only where there are events
                lambda _, z: self.f(z),
                z0,
                nodes,
                rtol=1e-3,  # dopri5's, as released
                atol=1e-4,
                method=solver,
                options=options,
            )
        except AssertionError as error:  # torchdiffeq's way to say that dopri5 gave up
            raise Diverged(f"solver {solver}: {error}") from error
        if not torch.isfinite(z).all():
            raise Diverged(f"solver {solver}: the latent path left the finite numbers")
        z = z.movedim(0, 2)  # (S, B, n + 1, Z)
        dz = self.f(z) / n  # change over an interval, at the rate of the node

        position = (t - t[:, :1]) * n  # (B, L), in intervals
        left = position.long().clamp(max=n - 1)
        p = (position - left)[..., None]  # 0 at the left node, 1 at the right one
        i = left[None, ..., None]
        ends = (a.take_along_dim(j, 2) for a in (z, dz) for j in (i, i + 1))  # (S, B, L, Z) each
        return hermite(p, *ends)
