r"""ODE-RNN: a recurrent network whose state follows an ODE between the rows it reads.

Rubanova, Chen and Duvenaud, "Latent ODEs for irregularly-sampled time series", NeurIPS 2019,
arXiv:1907.03907, section 3.1 and algorithm 1, and the authors' released code.

In the notation of `baselines.autoregressive`, which says when a row is read, with h = (y, s):

.. math::

    y &\leftarrow y + \int_{t_{i-1}}^{t_i} g(y)\,d\tau \quad (y = s = 0 \text{ at } t_0)
        && \text{explicit Euler, steps} \le 1/50 \\
    \hat x_i &= O y \\
    u &= \sigma(U[y, s, x_i, m_i]), \quad r = \sigma(R[y, s, x_i, m_i]) \\
    (y', s') &= N[r y, r s, x_i, m_i] \\
    y &\leftarrow (1 - u)\, y' + u\, y, \quad
    s \leftarrow (1 - u)\, |s'| + u\, s
        && \text{if row } i \text{ is read.}

========  ==========  ===========================================================
symbol    shape       meaning
========  ==========  ===========================================================
y, s      (B, H)      state and its companion "standard deviation"
u, r      (B, H)      update and reset gate
g         MLP         field, autonomous
U, R, N   MLP         gates and new state, one hidden layer of tanh
O         MLP         to x_hat, one hidden layer of tanh
========  ==========  ===========================================================

The ODE runs through hidden rows too, so each of them has its own prediction.

Deviations from the released code, beside those in `baselines.autoregressive`:

* Before row i the state flows from t_{i-1} to t_i. The released loop confuses the two when it runs
  forwards: before rows 0, 1, 2, 3 it integrates T + 0.01 to T, t_0 to T, t_1 to t_0, t_2 to t_1.
* Gaps are divided into the fewest equal Euler steps of at most 1/50. The released rule truncates,
  so that a step can be three times as long, and begins with a made-up gap of 0.01.
* The released model also has a network like Latent ODE's P, of 8,140 parameters at the published
  sizes, that nothing uses; it is left out.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from baselines.autoregressive import Autoregressive, fed_back
from baselines.rubanova import init_linear, tanh_mlp
from harness.contract import Batch, Shape, or_zero

EULER_STEPS = 50  # in a time range of 1, as released


@dataclass(frozen=True)
class ODERNNConfig:
    """Released Physionet settings, except `sigma`."""

    latents: int = 20  # H
    rec_layers: int = or_zero(3)  # of g, beside the first hidden one
    units: int = 50  # of g
    gru_units: int = 50  # of U, R and N
    sigma: float = 0.1  # released: 0.01
    lr: float = 0.01


class ODERNNCell(nn.Module):
    """Field, gates and new state; also of Latent ODE's encoder, which runs backwards in time."""

    def __init__(self, channels: int, hidden: int, rec_layers: int, units: int, gru_units: int):
        super().__init__()
        self.g = tanh_mlp(hidden, *[units] * (rec_layers + 1), hidden)
        # The first layers of U, R and N, split by columns so that what multiplies [x, m] can be
        # computed for all rows at once, outside the loop over time.
        self.input_to_urn = nn.Linear(2 * channels, 3 * gru_units)
        self.state_to_ur = nn.Linear(2 * hidden, 2 * gru_units, bias=False)
        self.state_to_n = nn.Linear(2 * hidden, gru_units, bias=False)
        self.u_out = nn.Linear(gru_units, hidden)
        self.r_out = nn.Linear(gru_units, hidden)
        self.n_out = nn.Linear(gru_units, 2 * hidden)

    def initial_state(self, n: int) -> tuple[Float[Tensor, "B H"], Float[Tensor, "B H"]]:
        """Return y = s = 0 for `n` records."""
        zeros = self.u_out.bias.new_zeros(n, self.u_out.out_features)
        return zeros, zeros

    def project(
        self, x: Float[Tensor, "*B D"], mask: Float[Tensor, "*B D"]
    ) -> tuple[Float[Tensor, "*B UR"], Float[Tensor, "*B N"]]:
        """Return what [x, m] contributes to the hidden layers of U and R, and of N."""
        units = self.n_out.in_features
        ur, n = self.input_to_urn(torch.cat([x, mask], -1)).split([2 * units, units], -1)
        return ur, n

    def update(
        self,
        y: Float[Tensor, "B H"],
        s: Float[Tensor, "B H"],
        from_ur: Float[Tensor, "B UR"],
        from_n: Float[Tensor, "B N"],
        keep: Float[Tensor, "B 1"],
    ) -> tuple[Float[Tensor, "B H"], Float[Tensor, "B H"]]:
        """Read a row, as `project` gives it; where `keep` is 1 the state remains what it is."""
        hidden = torch.tanh(from_ur + self.state_to_ur(torch.cat([y, s], -1)))
        hidden_u, hidden_r = hidden.chunk(2, -1)
        u, r = torch.sigmoid(self.u_out(hidden_u)), torch.sigmoid(self.r_out(hidden_r))
        hidden_n = torch.tanh(from_n + self.state_to_n(torch.cat([r * y, r * s], -1)))
        y_new, s_new = self.n_out(hidden_n).chunk(2, -1)
        u = torch.maximum(u, keep)
        return torch.lerp(y_new, y, u), torch.lerp(s_new.abs(), s, u)

    @staticmethod
    def euler_steps(gap: Float[Tensor, "B R"]) -> list[list[Tensor]]:
        """Divide the gaps of each row, negative ones too, into Euler steps of shape (B, 1).

        A record takes ceil(abs(gap) * EULER_STEPS) equal steps, then steps of 0 until its
        neighbours in the batch have taken theirs.
        """
        # The tolerance keeps a gap of 1/50 that was rounded up a single step.
        n = (gap.abs() * EULER_STEPS - 1e-3).ceil().clamp(min=1)
        most = n.amax(0).int().tolist()
        k = torch.arange(max(most), device=gap.device)[:, None, None]
        steps = (gap / n * (k < n)).permute(2, 0, 1)[..., None]  # (R, K, B, 1)
        return [list(row.unbind(0)[:m]) for row, m in zip(steps.unbind(0), most, strict=True)]


class ODERNN(Autoregressive):
    """ODE-RNN; see the module's docstring."""

    Config: ClassVar = ODERNNConfig

    def __init__(self, config: ODERNNConfig, shape: Shape):
        super().__init__(config, shape)
        c = config
        self.cell = ODERNNCell(shape.channels, c.latents, c.rec_layers, c.units, c.gru_units)
        self.o = tanh_mlp(c.latents, 100, shape.channels)  # 100: fixed in the released code
        self.apply(init_linear)

    def forecast(self, batch: Batch) -> Float[Tensor, "B L D"]:
        cell, fed = self.cell, fed_back(batch)
        keep = ((batch.mask.amax(-1) == 0) & ~fed).to(batch.t.dtype)[..., None].unbind(1)
        gap = batch.t.diff(dim=1, prepend=batch.t[:, :1])
        from_ur, from_n = cell.project(batch.visible, batch.mask)

        y, s = cell.initial_state(len(gap))
        path = []
        for steps, ur, n, fed_i, any_fed, keep_i in zip(
            cell.euler_steps(gap), from_ur.unbind(1), from_n.unbind(1),
            fed[..., None].unbind(1), fed.any(0).tolist(), keep, strict=True,
        ):  # fmt: skip
            for step in steps:
                y = y + step * cell.g(y)
            path.append(y)
            if any_fed:
                x_hat = self.o(y)
                own_ur, own_n = cell.project(x_hat, torch.ones_like(x_hat))
                ur, n = torch.where(fed_i, own_ur, ur), torch.where(fed_i, own_n, n)
            y, s = cell.update(y, s, ur, n, keep_i)
        return self.o(torch.stack(path, 1))
