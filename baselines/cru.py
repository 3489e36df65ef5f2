r"""Continuous recurrent units: CRU and its fast variant f-CRU.

Schirmer, Eltayeb, Lessmann and Rudolph, "Modeling Irregular Time Series with Continuous Recurrent
Units", ICML 2022, arXiv:2111.11344. A Kalman filter in a latent space that an encoder and a decoder
tie to the data. The latent state z = [upper, lower] in R^n, n = 2M, moves by a linear SDE, and the
upper half of it is observed:

.. math::

    dz = A z\,dt + dW, \quad \mathrm{Cov}(dW) = Q\,dt, \qquad
    y_i = [I_M\ 0]\, z(t_i) + N(0, \mathrm{diag}\, r_i), \qquad
    (y_i, r_i) = \mathrm{encode}(x_i).

The belief about z is N(mu, Sigma), of which only the diagonals of the blocks uu, ll and ul are
kept. From one row of a record's grid to the next, a gap of delta:

.. math::

    \mu &\leftarrow \Phi \mu, \quad \Sigma \leftarrow \Phi \Sigma \Phi^T + V, \qquad
    \Phi = e^{A \delta}, \quad V = \int_0^\delta e^{A \tau} Q e^{A^T \tau}\,d\tau, \\
    A &= \textstyle\sum_k \alpha_k A_k, \quad \alpha = \mathrm{softmax}(W \mu + b)
        && \text{CRU: each block of } A_k \text{ a band} \\
    A &= E\, \mathrm{diag}(\lambda)\, E^T, \quad \lambda = \textstyle\sum_k \alpha_k d_k
        && \text{f-CRU: } E \text{ orthogonal.}

Where any channel of a row is seen, the belief is then updated (everything by latent dimension):

.. math::

    g_u &= \Sigma_u / (\Sigma_u + r), \quad g_l = \Sigma_s / (\Sigma_u + r), \\
    \mu_u &\leftarrow \mu_u + g_u (y - \mu_u), \quad \mu_l \leftarrow \mu_l + g_l (y - \mu_u), \\
    \Sigma_u &\leftarrow (1 - g_u) \Sigma_u, \quad
    \Sigma_l \leftarrow \Sigma_l - g_l \Sigma_s, \quad
    \Sigma_s \leftarrow (1 - g_u) \Sigma_s.

The output N(mean(mu), var(Sigma)) is decoded from the belief after the update, so a row that is
seen is predicted from its own values: reconstruction is filtering, not forecasting. A hidden row is
predicted from the rows before it, never from later ones.

==============  ==========  ====================================================================
symbol          shape       meaning
==============  ==========  ====================================================================
x               (N, D)      visible values, 0 where missing; the encoder sees no mask and no time
y, r            (N, M)      latent observation and its variance
mu              (B, n)      mean of the belief
Sigma_u, _l     (B, M)      diagonals of the blocks uu and ll of its covariance; _s: of ul
Phi, V          (B, n, n)   transition over a gap, covariance of the noise gathered in it
A_k, d_k        (n, n), n   K bases of A, K vectors of eigenvalues
Q               (n)         diagonal
==============  ==========  ====================================================================

Dropping the rest of Sigma leaves M independent blocks of 2 x 2, principal minors of a covariance,
so what is kept is one too.

Deviations from the released code:

* Phi and V come from a Taylor series, Gauss-Legendre quadrature and doubling (`flow`), exact to
  rounding, instead of the exponential of a matrix of size 2n.
* f-CRU's (e^{G delta} - 1) / G, with G_ij = lambda_i + lambda_j, is continuous at G = 0.
* Growth is bounded, so that no weights make a prediction overflow: lambda is at most
  log(`BOUND`) / `time_scale`, a factor of `BOUND` in the whole time range; the entries of CRU's
  Phi and V and of every belief saturate at `BOUND` and its square.
* Q is abs(theta), not relu(theta), whose entries die once they are negative; r has a floor of 1e-6.
* Padding is a gap of 0 and changes nothing. The released padding is a jump back to time 0.
* The loss is a mean over a record's rows with targets, then over records. The released mean is over
  all rows, padding included, so a record's weight depends on its neighbours.
* Hidden rows alone are fitted in interpolation and extrapolation, as the task says. The released
  loss also covers rows that are given.
* Belief and dynamics are float64 as released, encoder and decoder float32.
"""

import itertools
import math
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import orthogonal
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from harness.contract import (
    Batch,
    Diverged,
    Loss,
    Model,
    Optimisation,
    Prediction,
    Shape,
    Task,
    or_zero,
)

MIN_VARIANCE = 1e-6  # of an observation, latent or decoded, as released for the decoded one
MIN_SIGMA = 1e-8  # of the belief's variances
# Of the entries of Phi and mu; its square, of those of V and Sigma. Beyond any state that is of
# use, yet the decoder's LayerNorm can square a Sigma in float32.
BOUND = 1e6

# Gauss-Legendre quadrature on [0, 1], 4 nodes, and the Taylor series of e^X at X times each node
# and at X itself, 8 terms. For |X| <= STEP both are exact to 1e-14.
_INNER, _OUTER = (math.sqrt(3 / 7 + sign * 2 / 7 * math.sqrt(6 / 5)) for sign in (-1, 1))
NODES = [0.5 + 0.5 * p for p in (-_OUTER, -_INNER, _INNER, _OUTER)]
WEIGHTS = [(18 + sign * math.sqrt(30)) / 72 for sign in (-1, 1, 1, -1)]
TAYLOR = [[node**k / math.factorial(k) for k in range(1, 9)] for node in (*NODES, 1.0)]
STEP = 1 / 8


@dataclass(frozen=True)
class CRUConfig:
    """Published PhysioNet settings."""

    transition: Literal["locally_linear", "fast"] = "locally_linear"  # CRU, f-CRU
    latents: int = 20  # n = 2M
    bases: int = 20  # K
    bandwidth: int = or_zero(10)  # of the blocks of A_k: entries |i - j| <= bandwidth
    units: int = 50  # hidden, of encoder and decoder
    time_scale: float = 9.6  # latent time from t = 0 to 1: 0.2 an hour, 48 hours
    lr: float = 1e-3
    clip_norm: float = 1.0  # of the gradient


# -- moments of the linear SDE -------------------------------------------------------------------


def flow(
    a: Float[Tensor, "B n n"], q: Float[Tensor, "n"], gap: Float[Tensor, "B"]
) -> tuple[Float[Tensor, "B n n"], Float[Tensor, "B n n"]]:
    """Return Phi and V of dz = A z dt + dW over a gap.

    Over a step h = gap / 2^s with |A| h <= `STEP` both follow from powers of A; then, s times,
    ``V <- V + Phi V Phi^T`` and ``Phi <- Phi^2`` double the step. s is that of the largest |A| gap
    in the batch, on which a result depends by rounding only. Entries saturate at `BOUND`.

    Raises
    ------
    Diverged
        If A is not finite.
    """
    size = (torch.linalg.matrix_norm(a.detach()) * gap).max().item()
    if not math.isfinite(size):
        raise Diverged(f"the dynamics left the finite numbers: |A| times gap is {size}")
    s = max(0, math.ceil(math.log2(size / STEP))) if size > 0 else 0
    h = (gap / 2**s)[:, None, None]
    n = a.shape[-1]
    powers = torch.stack(list(itertools.accumulate([a * h] * 8, torch.matmul)), 1)
    steps = (a.new_tensor(TAYLOR) @ powers.flatten(2)).unflatten(-1, (n, n))
    steps = steps + torch.eye(n, dtype=a.dtype, device=a.device)  # e^{A h node}, (B, 5, n, n)
    at_nodes, phi = steps[:, :-1], steps[:, -1]
    weights = h[..., None] * a.new_tensor(WEIGHTS)[:, None, None] * q  # (B, 4, 1, n)
    v = ((at_nodes * weights) @ at_nodes.mT).sum(1)
    for _ in range(s):
        v = (v + phi @ v @ phi.mT).clamp(-(BOUND**2), BOUND**2)
        phi = (phi @ phi).clamp(-BOUND, BOUND)
    return phi, v


def expm1_ratio(x: Tensor) -> Tensor:
    """Return (e^x - 1) / x, smooth at 0: to 1e-16, and its gradient to 1e-10."""
    small = x.abs() < 1e-5
    series = 1 + x / 2 * (1 + x / 3)
    x = torch.where(small, 1, x)  # the branch that is not taken must have a finite gradient
    return torch.where(small, series, torch.expm1(x) / x)


class LocallyLinear(nn.Module):
    """Transition of CRU: A is a mixture of banded bases, constant within a gap."""

    places: Tensor  # of the bands' entries in A, row by row

    def __init__(self, config: CRUConfig):
        super().__init__()
        n, k = config.latents, config.bases
        i = torch.arange(n // 2)
        band = (i[:, None] - i).abs() <= config.bandwidth
        self.register_buffer("places", band.repeat(2, 2).flatten().nonzero()[:, 0], False)
        self.entries = nn.Parameter(torch.zeros(k, len(self.places), dtype=torch.float64))
        self.alpha = nn.Linear(n, k, dtype=torch.float64)

    def matrix(self, mu: Float[Tensor, "B n"]) -> Float[Tensor, "B n n"]:
        """Return A at a state."""
        (b, n), alpha = mu.shape, torch.softmax(self.alpha(mu), -1)
        a = mu.new_zeros(b, n * n).index_copy(1, self.places, alpha @ self.entries)
        return a.unflatten(-1, (n, n))

    def forward(
        self, mu: Float[Tensor, "B n"], q: Float[Tensor, "n"], gap: Float[Tensor, "B"]
    ) -> tuple[Float[Tensor, "B n n"], Float[Tensor, "B n n"]]:
        return flow(self.matrix(mu), q, gap)


class Fast(nn.Module):
    """Transition of f-CRU: A is symmetric, with eigenvectors that all states share."""

    def __init__(self, config: CRUConfig):
        super().__init__()
        n, k = config.latents, config.bases
        self.e = nn.Parameter(nn.init.orthogonal_(torch.empty(n, n, dtype=torch.float64)))
        orthogonal(self, "e")
        self.d = nn.Parameter(torch.full((k, n), 1e-5, dtype=torch.float64))
        self.alpha = nn.Linear(n, k, dtype=torch.float64)
        self.max_rate = math.log(BOUND) / config.time_scale

    def forward(
        self, mu: Float[Tensor, "B n"], q: Float[Tensor, "n"], gap: Float[Tensor, "B"]
    ) -> tuple[Float[Tensor, "B n n"], Float[Tensor, "B n n"]]:
        e, gap = self.e, gap[:, None]
        x = (torch.softmax(self.alpha(mu), -1) @ self.d).clamp(max=self.max_rate) * gap
        phi = (e * x.exp()[:, None]) @ e.T
        integral = gap[..., None] * expm1_ratio(x[:, :, None] + x[:, None])
        return phi, e @ ((e.T * q @ e) * integral) @ e.T


# -- belief --------------------------------------------------------------------------------------


class Belief(NamedTuple):
    """N(mu, Sigma), by the three diagonals of Sigma that are kept."""

    mu: Float[Tensor, "B n"]
    upper: Float[Tensor, "B M"]
    lower: Float[Tensor, "B M"]
    side: Float[Tensor, "B M"]

    def sigma(self) -> Float[Tensor, "B n n"]:
        """Return the whole covariance."""
        upper, lower, side = (torch.diag_embed(d) for d in self[1:])
        return torch.cat([torch.cat([upper, side], -1), torch.cat([side, lower], -1)], -2)


def predicted(belief: Belief, phi: Float[Tensor, "B n n"], v: Float[Tensor, "B n n"]) -> Belief:
    """Carry a belief over a gap and bound it."""
    m = belief.upper.shape[-1]
    mu = (phi @ belief.mu[..., None])[..., 0].clamp(-BOUND, BOUND)
    sigma = phi @ belief.sigma() @ phi.mT + v
    variances = sigma.diagonal(dim1=-2, dim2=-1).clamp(MIN_SIGMA, BOUND**2)
    upper, lower = variances.split(m, -1)
    limit = (upper * lower).sqrt()  # of a covariance; passed by rounding, and where bounds cut
    side = sigma[:, :m, m:].diagonal(dim1=-2, dim2=-1).clamp(-limit, limit)
    return Belief(mu, upper, lower, side)


def updated(
    belief: Belief,
    y: Float[Tensor, "B M"],
    r: Float[Tensor, "B M"],
    seen: Float[Tensor, "B 1"],
) -> Belief:
    """Condition a belief on an observation, where `seen` is 1."""
    mu, upper, lower, side = belief
    precision = seen / (upper + r)
    g_u, g_l = upper * precision, side * precision
    error = y - mu[:, : y.shape[-1]]
    return Belief(
        mu + torch.cat([g_u, g_l], -1) * error.repeat(1, 2),
        (1 - g_u) * upper,
        (lower - g_l * side).clamp(min=MIN_SIGMA),
        (1 - g_u) * side,
    )


# -- model ---------------------------------------------------------------------------------------


def hidden_layers(*widths: int) -> nn.Sequential:
    """Build Linear - ReLU - LayerNorm through the given widths, input included."""
    layers: list[nn.Module] = []
    for n_in, n_out in itertools.pairwise(widths):
        layers += [nn.Linear(n_in, n_out), nn.ReLU(), nn.LayerNorm(n_out)]
    return nn.Sequential(*layers)


class CRU(Model):
    """CRU or f-CRU, by ``config.transition``; see the module's docstring.

    Raises
    ------
    ValueError
        If the number of latents is odd.
    """

    tasks: ClassVar[frozenset[Task]] = frozenset(
        {"reconstruction", "interpolation", "extrapolation"}
    )
    Config: ClassVar = CRUConfig

    def __init__(self, config: CRUConfig, shape: Shape):
        super().__init__(config, shape)
        n, units, channels = config.latents, config.units, shape.channels
        m, odd = divmod(n, 2)
        if odd:
            raise ValueError(f"cru: expected an even number of latents, found {n}")
        self.encoder = hidden_layers(channels, units, units, units)
        self.to_y = nn.Linear(units, m)
        self.to_r = nn.Linear(units, m)  # square root of r
        self.to_mean = hidden_layers(n, units, units, units).append(nn.Linear(units, channels))
        self.to_log_var = hidden_layers(3 * m, units).append(nn.Linear(units, channels))
        self.transition = {"locally_linear": LocallyLinear, "fast": Fast}[config.transition](config)
        self.theta_q = nn.Parameter(torch.full((n,), 0.1, dtype=torch.float64))
        self.theta_sigma = nn.Parameter(torch.full((n,), 10.0, dtype=torch.float64))

    def encode(self, x: Float[Tensor, "N D"]) -> tuple[Float[Tensor, "N M"], Float[Tensor, "N M"]]:
        """Return y and r of some rows."""
        h = self.encoder(x)
        h = h / (h.square().sum(-1, keepdim=True) + 1e-8).sqrt()
        return self.to_y(h), self.to_r(h).square() + MIN_VARIANCE

    def filter(self, batch: Batch) -> tuple[Float[Tensor, "B L D"], Float[Tensor, "B L D"]]:
        """Return mean and log variance of the values at every row, given the rows up to it."""
        gap = batch.t.diff(dim=1, prepend=batch.t[:, :1]) * self.config.time_scale
        seen = batch.mask.amax(-1)
        # A record ends where neither time nor data go on. Packed, it costs nothing afterwards.
        goes_on = (seen > 0) | (batch.target > 0).any(-1) | (gap > 0)
        row = torch.arange(gap.shape[1], device=gap.device)
        length = (goes_on * (row + 1)).amax(1).clamp(min=1)
        rows = torch.cat([batch.visible, seen[..., None], gap[..., None]], -1)
        packed = pack_padded_sequence(rows, length.cpu(), batch_first=True, enforce_sorted=False)
        x, seen, gap = packed.data.split([self.shape.channels, 1, 1], -1)

        sizes = packed.batch_sizes.tolist()
        y, r = self.encode(x)
        by_row = [a.double().split(sizes) for a in (y, r, seen, gap[:, 0])]
        q, beliefs = self.theta_q.abs(), []
        sigma = nn.functional.softplus(self.theta_sigma).expand(sizes[0], -1)
        upper, lower = sigma.chunk(2, -1)
        belief = Belief(torch.zeros_like(sigma), upper, lower, torch.zeros_like(upper))
        with parametrize.cached():  # E is the same in all rows
            for size, y_i, r_i, seen_i, gap_i in zip(sizes, *by_row, strict=True):
                belief = Belief(*(a[:size] for a in belief))
                belief = predicted(belief, *self.transition(belief.mu, q, gap_i))
                belief = updated(belief, y_i, r_i, seen_i)
                beliefs.append(belief)

        mu, *variances = (torch.cat(a).to(x.dtype) for a in zip(*beliefs, strict=True))
        decoded = torch.cat([self.to_mean(mu), self.to_log_var(torch.cat(variances, -1))], -1)
        decoded, _ = pad_packed_sequence(PackedSequence(decoded, *packed[1:]), batch_first=True)
        last = torch.minimum(row, length[:, None] - 1)  # after its end a record stays as it is
        mean, log_var = decoded.take_along_dim(last[..., None], 1).chunk(2, -1)
        return mean, log_var.clamp(math.log(MIN_VARIANCE), -math.log(MIN_VARIANCE))

    def optimisers(self) -> dict[str, Optimisation]:
        adam = torch.optim.Adam(self.parameters(), lr=self.config.lr)
        return {"main": Optimisation(adam, max_norm=self.config.clip_norm)}

    def loss(self, batch: Batch, step: int, generator: torch.Generator) -> Loss:
        """Return the negative log-likelihood of the targets, nats per row with a target."""
        mean, log_var = self.filter(batch)
        error = (batch.x - mean).square() / log_var.exp()
        nll = 0.5 * (log_var + error + math.log(2 * math.pi)) * batch.target
        n_rows = batch.target.amax(-1).sum(1).clamp(min=1)
        return Loss((nll.sum((1, 2)) / n_rows).mean())

    @torch.no_grad()
    def predict(self, batch: Batch, n_samples: int, generator: torch.Generator) -> Prediction:
        mean, log_var = self.filter(batch)
        return Prediction(mean[None], (0.5 * log_var).exp()[None])
