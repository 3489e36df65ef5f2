r"""PCA-KDE: a smoothed bootstrap of the leading principal components, fitted without gradients.

Ours, of textbook parts: principal components; a kernel density of their scores, shrunk so that it
keeps their variance (Silverman and Young 1987, "The bootstrap: to smooth or not to smooth?",
Biometrika 74); and for what the components leave out a Gaussian autoregression (Brockwell and
Davis, "Time Series: Theory and Methods", section 5.2). A sample takes the scores of a random
training series i:

.. math::

    x = m + V \Lambda^{1/2} (\sqrt{1 - h^2}\, z_i + h e) + r, \qquad e \sim N(0, I_k), \quad
    i \sim U\{1, \dots, N\}.

With h = 0 and all components it is the memoriser, with h = 1 a Gaussian, whose covariance on the
components is that of the training series. r is a stationary autoregression of order p, each channel
its own, begun with the predictors of lower order, so that its covariance R is exact from row 0:

.. math::

    r_n = \sum_{j=1}^{q} \phi^{(q)}_j r_{n-j} + \sigma_q \epsilon_n, \qquad q = \min(n, p).

So the density is an even mixture of N Gaussians with one covariance,

.. math::

    p(x) = \frac1N \sum_i N(x;\; m + \sqrt{1 - h^2}\, U z_i,\; R + h^2 U U^T), \qquad
    U = V \Lambda^{1/2}.

phi and sigma whiten R by a filter W, R^{-1} = W^T W. With y = W (x - m), A = W U, the eigenbasis
A^T A = Q diag(g) Q^T, b = Q^T A^T y, c_i = Q^T z_i and a = sqrt(1 - h^2), the i-th Gaussian has

.. math::

    -2 \log p_i = |y|^2 - 2 \log\det W + L D \log 2\pi
    + \sum_j \Big( \log(1 + h^2 g_j)
    + \frac{a^2 g_j c_{ij}^2 - 2 a b_j c_{ij} - h^2 b_j^2}{1 + h^2 g_j} \Big).

Number of components k, order p and width h maximise the mean log density of series that were held
out: each fold in turn, with everything fitted to the others. A leave-one-out likelihood of h alone
would not do: components fitted to a series reproduce it too well, and with nearly as many
components as series all scores are equally far from each other.

=========  ============  ==================================================================
symbol     shape         meaning
=========  ============  ==================================================================
x, m, r    (L, D)        series, mean of the training series, what components leave out
U          (k, L, D)     components, times the deviations of their scores (V, Lambda^1/2)
z          (N, k)        scores of the training series, of variance 1
h          scalar        kernel width in (0, 1]
phi        (p+1, p, D)   predictors of order 0 to p
sigma      (p+1, D)      deviations of their errors
=========  ============  ==================================================================

phi solves the Yule-Walker equations of the training series' residuals, whose variance gets 1e-4
more, as the covariance of the control `gaussian` does: there may be nothing left out.
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from jaxtyping import Float, Float64
from scipy.linalg import solve_toeplitz
from torch import Tensor

from harness.contract import Batch, Loss, Model, Optimisation, Shape, Task

VARIANCE = 1e-4  # added to that of the residuals
COMPONENTS = (0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
ORDERS = (0, 1, 2, 4, 8, 16, 32)
WIDTHS = tuple((i + 1) / 20 for i in range(20))
FOLDS = 5
HELD_OUT = 100  # series of a fold at most


@dataclass(frozen=True)
class PCAKDEConfig:
    """Upper limits of what is chosen."""

    max_components: int = 64
    max_order: int = 32


class Autoregression(NamedTuple):
    """Predictors of order 0 to p and the deviations of their errors."""

    phi: Float64[Tensor, "q p D"]
    sigma: Float64[Tensor, "q D"]

    def of_order(self, p: int) -> "Autoregression":
        return Autoregression(self.phi[: p + 1, :p], self.sigma[: p + 1])

    def rows(self, length: int) -> "Autoregression":
        """Return predictor and deviation of each row; the first rows have few before them."""
        order = torch.arange(length, device=self.sigma.device).clamp(max=len(self.sigma) - 1)
        return Autoregression(self.phi[order], self.sigma[order])

    def whiten(self, x: Float64[Tensor, "n L D"]) -> Float64[Tensor, "n L D"]:
        """Return W x: the errors of predicting each row, in deviations."""
        phi, sigma = self.rows(x.shape[1])
        y = x.clone()
        for j in range(1, phi.shape[1] + 1):
            y[:, j:] -= phi[j:, j - 1] * x[:, :-j]
        return y / sigma

    def colour(self, eps: Float64[Tensor, "n L D"]) -> Float64[Tensor, "n L D"]:
        """Return the series r with W r = eps."""
        phi, sigma = self.rows(eps.shape[1])
        r = eps * sigma
        for n in range(1, eps.shape[1]):
            q = min(n, phi.shape[1])
            r[:, n] += (phi[n, :q] * r[:, n - q : n].flip(1)).sum(1)
        return r


def fit_autoregression(r: Float64[Tensor, "N L D"], order: int) -> Autoregression:
    """Solve the Yule-Walker equations of order 0 to `order`, channel by channel.

    Autocovariances are divided by the same N L at every lag, which makes every solution stationary.
    """
    N, L, D = r.shape
    phi, sigma = r.new_zeros(order + 1, order, D), r.new_zeros(order + 1, D)
    lagged = [(r[:, j:] * r[:, : L - j]).sum((0, 1)) / (N * L) for j in range(order + 1)]
    gamma = torch.stack(lagged)  # (order + 1, D)
    gamma[0] += VARIANCE
    for d, c in enumerate(gamma.mT.cpu().numpy()):
        for q in range(1, order + 1):
            phi[q, :q, d] = torch.from_numpy(solve_toeplitz(c[:q], c[1 : q + 1])).to(r.device)
    for q in range(order + 1):
        sigma[q] = (gamma[0] - (phi[q, :q] * gamma[1 : q + 1]).sum(0)).sqrt()
    return Autoregression(phi, sigma)


class Components(NamedTuple):
    """Mean, components and scores of some series."""

    m: Float64[Tensor, "L D"]
    U: Float64[Tensor, "k L D"]
    z: Float64[Tensor, "N k"]

    def leading(self, k: int) -> "Components":
        return Components(self.m, self.U[:k], self.z[:, :k])

    def series(self, z: Float64[Tensor, "n k"]) -> Float64[Tensor, "n L D"]:
        return self.m + torch.einsum("nk,kld->nld", z, self.U)


def principal_components(x: Float64[Tensor, "N L D"], k: int) -> Components:
    """Return the k leading components, or all that have a variance."""
    m = x.mean(0)
    u, s, v = torch.linalg.svd((x - m).flatten(1), full_matrices=False)
    k = min(k, int((s > 1e-9 * math.sqrt(x.numel())).sum()))
    scale = math.sqrt(max(len(x) - 1, 1))
    U = (s[:k, None] / scale * v[:k]).unflatten(1, m.shape)
    return Components(m, U, u[:, :k] * scale)


class Projection(NamedTuple):
    """All that the density of some series needs besides h; see the module's docstring."""

    square: Float64[Tensor, "B"]  # |y|^2 - 2 log det W + L D log 2 pi
    b: Float64[Tensor, "B k"]
    c: Float64[Tensor, "N k"]
    g: Float64[Tensor, "k"]

    def log_density(self, h: float) -> Float64[Tensor, "B"]:
        a, weight = math.sqrt(1 - h**2), 1 / (1 + h**2 * self.g)
        of_series = self.square - h**2 * (self.b.square() @ weight) - weight.log().sum()
        of_both = -2 * a * (self.b * weight) @ self.c.mT  # (B, N)
        of_centre = a**2 * (self.c.square() @ (self.g * weight))
        twice = of_series[:, None] + of_both + of_centre
        return (-0.5 * twice).logsumexp(1) - math.log(len(self.c))


def project(x: Float64[Tensor, "B L D"], pca: Components, residual: Autoregression) -> Projection:
    """Bring series and centres to the basis in which the mixture's covariance is diagonal."""
    y, A = residual.whiten(x - pca.m).flatten(1), residual.whiten(pca.U).flatten(1)
    g, Q = torch.linalg.eigh(A @ A.mT)
    log_det = -residual.rows(x.shape[1]).sigma.log().sum()
    square = y.square().sum(1) - 2 * log_det + y.shape[1] * math.log(2 * math.pi)
    return Projection(square, y @ A.mT @ Q, pca.z @ Q, g.clamp(min=0))


def choose(x: Float64[Tensor, "N L D"], config: PCAKDEConfig) -> tuple[int, int, float]:
    """Return k, p and h of the highest mean log density of held-out series."""
    folds = min(FOLDS, len(x))
    least = len(x) - math.ceil(len(x) / folds)  # without the largest fold
    most = min(config.max_components, least - 1, x[0].numel())
    ks = [k for k in COMPONENTS if k <= max(most, 0)]
    ps = [p for p in ORDERS if p <= config.max_order and p < x.shape[1]]
    density = x.new_zeros(len(ks), len(ps), len(WIDTHS))
    for fold in range(folds if folds > 1 else 0):
        held_out = torch.arange(len(x), device=x.device) % folds == fold
        all_components = principal_components(x[~held_out], ks[-1])
        for i, k in enumerate(ks):
            pca = all_components.leading(k)
            left_out = fit_autoregression(x[~held_out] - pca.series(pca.z), ps[-1])
            for j, p in enumerate(ps):
                projection = project(x[held_out][:HELD_OUT], pca, left_out.of_order(p))
                means = [projection.log_density(h).mean() for h in WIDTHS]
                density[i, j] += torch.stack(means)
    best = int(density.argmax())
    (i, j), h = divmod(best // len(WIDTHS), len(ps)), best % len(WIDTHS)
    return ks[i], ps[j], WIDTHS[h]


def _take_sizes(model: "PCAKDE", state: dict[str, Tensor], prefix: str, *_: Any) -> None:
    """Make room for what is to be loaded: the data decided its sizes."""
    for name, buffer in model.named_buffers():
        if (saved := state.get(prefix + name)) is not None:
            setattr(model, name, torch.empty_like(saved, device=buffer.device))


class PCAKDE(Model):
    """PCA-KDE on complete series that share one grid; see the module's docstring.

    It has no parameters and no optimiser: `calibrate` fits it, and one step of training shows the
    loss.

    Raises
    ------
    ValueError
        If a limit is negative.
    """

    tasks: ClassVar[frozenset[Task]] = frozenset({"generation"})
    Config: ClassVar = PCAKDEConfig

    m: Tensor
    U: Tensor
    z: Tensor
    h: Tensor
    phi: Tensor
    sigma: Tensor

    def __init__(self, config: PCAKDEConfig, shape: Shape):
        super().__init__(config, shape)
        for name in ("max_components", "max_order"):
            if getattr(config, name) < 0:
                raise ValueError(f"pca_kde: expected {name} >= 0, found {getattr(config, name)}")
        L, D = shape.length, shape.channels
        for name, size in {  # white noise, until there are data
            "m": (L, D), "U": (0, L, D), "z": (1, 0), "h": (), "phi": (1, 0, D),
        }.items():  # fmt: skip
            self.register_buffer(name, torch.zeros(size, dtype=torch.float64))
        self.register_buffer("sigma", torch.ones(1, D, dtype=torch.float64))
        self.register_load_state_dict_pre_hook(_take_sizes)

    @torch.no_grad()
    def calibrate(self, batch: Batch) -> None:
        """Choose k, p and h, then fit everything to all training series."""
        x = batch.visible.double()
        k, p, h = choose(x, self.config)
        pca = principal_components(x, k)
        self.m, self.U, self.z = pca
        self.phi, self.sigma = fit_autoregression(x - pca.series(pca.z), p)
        self.h = x.new_tensor(h)

    def optimisers(self) -> dict[str, Optimisation]:
        return {}

    def log_density(self, x: Float64[Tensor, "B L D"]) -> Float64[Tensor, "B"]:
        """Return log p(x) of each series in nats."""
        pca, residual = Components(self.m, self.U, self.z), Autoregression(self.phi, self.sigma)
        return project(x, pca, residual).log_density(self.h.item())

    def loss(self, batch: Batch, step: int, generator: torch.Generator) -> Loss:
        """Return the mean negative log density of a series, in nats."""
        return Loss(-self.log_density(batch.visible.double()).mean())

    def sample(
        self, n: int, t: Float[Tensor, "L"], generator: torch.Generator
    ) -> Float[Tensor, "n L D"]:
        """Draw a training series' scores, smooth them and add what components leave out."""
        if len(t) != (rows := len(self.m)):
            raise ValueError(f"pca_kde: expected {rows} rows, the training series', found {len(t)}")
        pca, residual = Components(self.m, self.U, self.z), Autoregression(self.phi, self.sigma)
        like: dict[str, Any] = {"generator": generator, "device": t.device, "dtype": self.m.dtype}
        i = torch.randint(len(pca.z), (n,), generator=generator, device=t.device)
        e = torch.randn(n, len(pca.U), **like)
        z = (1 - self.h**2).sqrt() * pca.z[i] + self.h * e
        r = residual.colour(torch.randn(n, *self.m.shape, **like))
        return (pca.series(z) + r).to(t.dtype)
