r"""SDE-GAN: a neural SDE that generates, against a neural CDE that discriminates.

Kidger, Foster, Li and Lyons, "Neural SDEs as Infinite-Dimensional GANs", ICML 2021,
arXiv:2102.03657. Solver, LipSwish and clipping in place of a gradient penalty are those of Kidger,
Foster, Li and Lyons, "Efficient and Accurate Gradients for Neural SDEs", NeurIPS 2021,
arXiv:2105.13493. The generator, in the sense of Stratonovich, over solver time tau = tau_max t:

.. math::

    X_0 = \zeta(V), \quad V \sim N(0, I_v), \qquad
    dX = \mu(t, X)\,d\tau + \sigma(t, X) \circ dW, \qquad Y = A X + a.

The discriminator of a path Z = (tau, Y), linear from row to row:

.. math::

    H_0 = \xi(Z_0), \qquad dH = f(t, H)\,dZ, \qquad F(Y) = \langle b, H_{end} \rangle + c.

Both go by reversible Heun, with one evaluation a step. For the generator, :math:`\mu_k` and
:math:`\sigma_k` being taken at :math:`(t_k, \hat X_k)` and :math:`\hat X_0 = X_0`,

.. math::

    \hat X_{k+1} &= 2 X_k - \hat X_k + \mu_k \Delta\tau + \sigma_k \Delta W_k, \\
    X_{k+1} &= X_k + \tfrac12 (\mu_k + \mu_{k+1}) \Delta\tau
        + \tfrac12 (\sigma_k + \sigma_{k+1}) \Delta W_k.

For the discriminator the increments of Z are known, and f dZ takes the place of
mu dtau + sigma dW. The Wasserstein game is

.. math:: \min_{A, a, \zeta, \mu, \sigma}\; \max_{b, c, \xi, f}\; E\,F(\text{data}) - E\,F(Y).

F is kept Lipschitz: after each step the weights of each of its layers are clipped to
1 / (number of outputs). So no layer expands the 1-norm, nor does LipSwish,
0.909 x sigmoid(x), between them.

========  =============  ======================================================================
symbol    shape          meaning
========  =============  ======================================================================
V         (B, v)         initial noise
X         (L, B, h)      state of the generator
W         (B, w)         Brownian motion; the noise is "general"
Y         (B, L, D)      series, normalised
Z         (B, L, 1 + D)  path that the discriminator reads
H         (B, h)         state of the discriminator
zeta, xi  MLP            to initial states
mu        MLP            to the drift (B, h), bounded by tanh
sigma     MLP            to the diffusion (B, h, w), bounded by tanh
f         MLP            to (B, h, 1 + D), bounded by tanh
========  =============  ======================================================================

Deviations from the released code, torchsde's example:

* The networks' input is t in [0, 1], and tau_max is a setting. The example has 64 rows at the times
  0, 1, ..., 63, which are also the networks' input.
* Data are divided by the deviation of their initial values, as released, yet by no less than
  `MIN_SCALE` times that of all values: where all series start alike, data would become huge.
* The CDE takes the exact increments of Z. The released solver of it asks the path for a derivative,
  which at a row is that of the segment before it, and so gets half of each increment wrong.
* With `stride` k > 1 training sees every k-th row, with one solver step from one to the next.
  Samples have one solver step a row all the same.
* Gradients come from automatic differentiation, not from the reversible adjoint: the same numbers,
  a third of the time, and the memory suffices.
* The Brownian motion is drawn at the solver's steps alone.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
import torchsde
from jaxtyping import Float
from torch import Tensor, nn

from harness.contract import Batch, Diverged, Loss, Model, Optimisation, Shape, Task, or_zero

MIN_SCALE = 0.5  # of the data, in deviations of all values


@dataclass(frozen=True)
class SDEGANConfig:
    """Released settings, except sizes, `tau_max` and `stride`."""

    v: int = 5
    w: int = 5  # released: 3
    h: int = 32  # of generator and discriminator; released: 16
    m: int = 32  # units of a hidden layer; released: 16
    n: int = 1  # hidden layers of an MLP
    tau_max: float = 32.0  # released: 63
    stride: int = 1  # rows from one that training sees to the next
    init_zeta: float = 3.0  # factor on the initial parameters of zeta
    init_fields: float = 0.5  # of mu and sigma
    lr_generator: float = 2e-4
    lr_discriminator: float = 1e-3
    weight_decay: float = or_zero(0.01)


# -- networks ------------------------------------------------------------------------------------


def lip_swish(x: Tensor) -> Tensor:
    """Return x sigmoid(x), scaled such that its slope is at most 1."""
    return 0.909 * nn.functional.silu(x)


class LipSwish(nn.Module):
    """`lip_swish` as a layer."""

    def forward(self, x: Tensor) -> Tensor:
        return lip_swish(x)


def mlp(n_in: int, n_out: int, config: SDEGANConfig) -> nn.Sequential:
    """Build n hidden layers of m units and a linear one."""
    layers: list[nn.Module] = []
    for i in range(config.n):
        layers += [nn.Linear(config.m if i else n_in, config.m), LipSwish()]
    return nn.Sequential(*layers, nn.Linear(config.m, n_out))


def linear_layers(net: nn.Module) -> list[nn.Linear]:
    return [layer for layer in net.modules() if isinstance(layer, nn.Linear)]


# -- generator -----------------------------------------------------------------------------------


class Brownian(torchsde.BaseBrownian):
    """Brownian motion by its increments over the solver's steps, in which time is counted.

    `torchsde.BrownianInterval`, which answers for any interval, costs more than the step itself.
    """

    def __init__(self, increments: Float[Tensor, "N B w"]):
        self.increments = increments

    def __call__(
        self, ta: Tensor, tb: Tensor | None = None, return_U: bool = False, return_A: bool = False
    ) -> Float[Tensor, "B w"]:
        return self.increments[int(ta)]

    def __repr__(self) -> str:
        return f"Brownian({self.shape}, steps={len(self.increments)})"

    @property
    def dtype(self) -> torch.dtype:
        return self.increments.dtype

    @property
    def device(self) -> torch.device:
        return self.increments.device

    @property
    def shape(self) -> torch.Size:
        return self.increments.shape[1:]

    @property
    def levy_area_approximation(self) -> str:
        return "none"


class Dynamics:
    """mu and sigma as torchsde wants them, over equal steps in which time is counted.

    In whole numbers no rounding makes the solver take an additional step. The two networks are
    evaluated as one with block-diagonal weights, which is a fifth faster.
    """

    noise_type = "general"
    sde_type = "stratonovich"

    def __init__(
        self, mu: nn.Module, sigma: nn.Module, t: Float[Tensor, "K"], dtau: Float[Tensor, ""]
    ):
        self.t, self.dtau = t, dtau  # time at each step, solver time in one
        pairs = list(zip(linear_layers(mu), linear_layers(sigma), strict=True))
        self.biases = [torch.cat([a.bias, b.bias]) for a, b in pairs]
        self.weights = [
            torch.block_diag(a.weight, b.weight) if i else torch.cat([a.weight, b.weight])
            for i, (a, b) in enumerate(pairs)
        ]

    def f_and_g(
        self, k: Tensor, x: Float[Tensor, "B h"]
    ) -> tuple[Float[Tensor, "B h"], Float[Tensor, "B h w"]]:
        """Return drift per step and diffusion at step `k`."""
        out = torch.cat([self.t[int(k)].expand(len(x), 1), x], -1)
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            out = nn.functional.linear(lip_swish(out) if i else out, weight, bias)
        mu, sigma = out.tanh().tensor_split([x.shape[1]], -1)
        return mu * self.dtau, sigma.unflatten(-1, (x.shape[1], -1))


class Generator(nn.Module):
    """zeta, mu, sigma and the read-out."""

    def __init__(self, config: SDEGANConfig, channels: int):
        super().__init__()
        c = self.config = config
        self.zeta = mlp(c.v, c.h, c)
        self.mu = mlp(1 + c.h, c.h, c).append(nn.Tanh())
        self.sigma = mlp(1 + c.h, c.h * c.w, c).append(nn.Tanh())
        self.readout = nn.Linear(c.h, channels)
        factors = {self.zeta: c.init_zeta, self.mu: c.init_fields, self.sigma: c.init_fields}
        with torch.no_grad():
            for net, factor in factors.items():
                for parameter in net.parameters():
                    parameter.mul_(factor)

    def forward(
        self, n: int, t: Float[Tensor, "L"], generator: torch.Generator
    ) -> Float[Tensor, "n L D"]:
        """Draw paths, with L - 1 equal steps from the first time to the last one.

        At regular times these are the rows; at others Y is linear between two steps.
        """
        c, steps, like = self.config, len(t) - 1, {"generator": generator, "device": t.device}
        span = t[-1] - t[0]
        dtau = c.tau_max * span / steps
        clock = t[0] + span * torch.linspace(0, 1, steps + 1, device=t.device)
        sde = Dynamics(self.mu, self.sigma, clock, dtau)
        x0 = self.zeta(torch.randn(n, c.v, **like))
        bm = Brownian(dtau.sqrt() * torch.randn(steps, n, c.w, **like))
        rows = ((t - t[0]) / span * steps).cpu()  # the solver compares them one by one
        x = torchsde.sdeint(sde, x0, rows, bm=bm, dt=1.0, method="reversible_heun")
        return self.readout(x).transpose(0, 1)


# -- discriminator -------------------------------------------------------------------------------


class Discriminator(nn.Module):
    """xi, f and the read-out."""

    def __init__(self, config: SDEGANConfig, channels: int):
        super().__init__()
        c = self.config = config
        self.xi = mlp(1 + channels, c.h, c)
        self.f = mlp(1 + c.h, c.h * (1 + channels), c).append(nn.Tanh())
        self.readout = nn.Linear(c.h, 1)

    def forward(self, t: Float[Tensor, "L"], y: Float[Tensor, "B L D"]) -> Float[Tensor, "B"]:
        """Return F of series on a grid that they share."""
        b, _, d = y.shape
        path = torch.cat([(self.config.tau_max * t)[:, None].expand(b, -1, 1), y], -1)
        dz = path.diff(dim=1, prepend=path[:, :1], append=path[:, -1:])  # 0 before and after
        around = torch.stack([dz[:, :-1], dz[:, 1:]], -1).unbind(1)  # L of (B, 1 + D, 2)

        def moves(k: int, h_hat: Tensor) -> tuple[Tensor, ...]:
            """f dZ at row k, for the increments that lead to it and away from it."""
            f = self.f(torch.cat([t[k].expand(b, 1), h_hat], -1)).unflatten(-1, (-1, 1 + d))
            return (f @ around[k]).unbind(-1)

        h = h_hat = self.xi(path[:, 0])
        _, move = moves(0, h)
        for k in range(1, len(t)):
            h_hat = torch.add(move - h_hat, h, alpha=2)
            into, onwards = moves(k, h_hat)
            h = torch.add(h, move + into, alpha=0.5)
            move = onwards
        return self.readout(h)[:, 0]

    @torch.no_grad()
    def clip(self) -> None:
        """Clip the weights, not the biases."""
        for layer in linear_layers(self):
            layer.weight.clamp_(-1 / layer.out_features, 1 / layer.out_features)


# -- model ---------------------------------------------------------------------------------------


class SDEGAN(Model):
    """SDE-GAN; see the module's docstring.

    Raises
    ------
    ValueError
        If the stride leaves fewer than two rows.
    """

    tasks: ClassVar[frozenset[Task]] = frozenset({"generation"})
    Config: ClassVar = SDEGANConfig
    offset: Tensor
    scale: Tensor

    def __init__(self, config: SDEGANConfig, shape: Shape):
        super().__init__(config, shape)
        if not 1 <= config.stride < shape.length:
            raise ValueError(
                f"sde_gan: expected a stride from 1 to {shape.length - 1}, found {config.stride}"
            )
        self.generator = Generator(config, shape.channels)
        self.discriminator = Discriminator(config, shape.channels)
        self.register_buffer("offset", torch.zeros(shape.channels))
        self.register_buffer("scale", torch.ones(shape.channels))

    def calibrate(self, batch: Batch) -> None:
        """Normalise by mean and deviation of the initial values."""
        initial = batch.x[:, 0]
        every = batch.x.std((0, 1), correction=0)
        scale = torch.maximum(initial.std(0, correction=0), MIN_SCALE * every)
        self.offset.copy_(initial.mean(0))
        self.scale.copy_(torch.where(scale > 0, scale, 1))

    def optimisers(self) -> dict[str, Optimisation]:
        c = self.config
        groups = [
            {"params": self.generator.parameters(), "lr": c.lr_generator},
            {"params": self.discriminator.parameters(), "lr": c.lr_discriminator},
        ]
        return {"main": Optimisation(torch.optim.Adadelta(groups, weight_decay=c.weight_decay))}

    def training_step(self, batch: Batch, step: int, generator: torch.Generator) -> Iterator[Loss]:
        """Yield the discriminator's loss; one backward pass serves both players."""
        k = self.config.stride
        t, real = batch.t[0, ::k], (batch.x[:, ::k] - self.offset) / self.scale
        fake = self.generator(len(real), t, generator)
        # The generator ascends the loss that the discriminator descends, so the gradient that
        # reaches it through its samples changes its sign.
        fake.register_hook(torch.neg)
        score = self.discriminator(t, torch.cat([real, fake]))
        real_score, fake_score = score.unflatten(0, (2, -1)).mean(1)
        yield Loss(fake_score - real_score)
        self.discriminator.clip()

    @torch.no_grad()
    def sample(
        self, n: int, t: Float[Tensor, "L"], generator: torch.Generator
    ) -> Float[Tensor, "n L D"]:
        x = self.offset + self.scale * self.generator(n, t, generator)
        if not x.isfinite().all():
            raise Diverged("a sample is not finite")
        return x
