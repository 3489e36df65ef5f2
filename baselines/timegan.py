r"""TimeGAN: a recurrent GAN in an autoencoder's latent space, with a supervised next-step loss.

Yoon, Jarrett and van der Schaar, "Time-series generative adversarial networks", NeurIPS 2019 (not
on arXiv), and the authors' released code, which is followed where the two differ: in the paper S is
a part of G and reads noise, D is bidirectional, L_V does not exist and the weights are others.

Five networks, each a stack of GRU layers and a linear layer at every time, from a zero state. None
of them reads the times, only the order:

.. math::

    H &= E(X), \quad \tilde X = R(H), \quad \bar H = S(H) && \text{from data} \\
    \hat E &= G(Z), \quad \hat H = S(\hat E), \quad \hat X = R(\hat H), \quad
    Z \sim U(0, 1) \text{ i.i.d.} && \text{from noise}

Losses; BCE takes logits and averages over series and times; moments are over the series of the
batch, time by time and channel by channel; the paper's (7), (9) and (8) are rec, sup and U:

.. math::

    L_{rec} &= \overline{(X - \tilde X)^2}, \qquad
    L_{sup} = \overline{(H_{2:L} - \bar H_{1:L-1})^2} \\
    L_U &= \mathrm{BCE}(D(\hat H), 1), \qquad L_{Ue} = \mathrm{BCE}(D(\hat E), 1) \\
    L_V &= \overline{|\sqrt{\mathrm{Var} \hat X + 10^{-6}} - \sqrt{\mathrm{Var} X + 10^{-6}}|}
        + \overline{|\mathrm{Mean} \hat X - \mathrm{Mean} X|} \\
    L_G &= L_U + L_{Ue} + 100 \sqrt{L_{sup}} + 100 L_V \\
    L_{E0} &= 10 \sqrt{L_{rec}}, \qquad L_E = L_{E0} + 0.1 L_{sup} \\
    L_D &= \mathrm{BCE}(D(H), 1) + \mathrm{BCE}(D(\hat H), 0) + \mathrm{BCE}(D(\hat E), 0)

Three phases: (i) L_E0 over E and R; (ii) L_sup over S; (iii) in every step L_G over G and S, then
L_E over E and R, and in every second step L_D over D, unless it is 0.15 or less already. Each line
has an Adam of its own.

============  =========  ================================================
symbol        shape      meaning
============  =========  ================================================
X             (B, L, D)  data, scaled to [0, 1] channel by channel
Z             (B, L, D)  noise
H             (B, L, h)  embedded data, in [0, 1]
H_bar         (B, L, h)  embedding of the next time, predicted
E_hat, H_hat  (B, L, h)  generated embedding before and after S
X_hat         (B, L, D)  generated data
E, R, G       3 layers   embedder, recovery, generator; sigmoid at the end
S             2 layers   supervisor; sigmoid
D             3 layers   discriminator; one logit for each time
============  =========  ================================================

Deviations from the released code:

* PyTorch's GRU has two biases for each gate and its own initial weights.
* 10,000 iterations a phase instead of 50,000. An iteration of phase (iii) takes two steps.
* The discriminator learns from the second batch of an iteration instead of a third one.
* The square roots of losses have 1e-8 added inside: they are differentiable at 0.
* No static features, and complete series of one length.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, mse_loss

from harness.contract import Batch, Diverged, Loss, Model, Optimisation, Shape, Task, or_zero

ALREADY_RIGHT = 0.15  # L_D at which the discriminator is left as it is


@dataclass(frozen=True)
class TimeGANConfig:
    """Released settings, except the lengths of the phases."""

    hidden: int = 24  # h
    layers: int = 3  # of every network but S, which has one less
    embedding_steps: int = or_zero(10_000)  # released: 50,000
    supervised_steps: int = or_zero(10_000)  # released: 50,000; all steps after these are joint
    lr: float = 1e-3


class Recurrent(nn.Module):
    """GRU layers, then a linear layer and `activation` at every time; causal."""

    def __init__(self, n_in: int, hidden: int, n_out: int, layers: int, activation: nn.Module):
        super().__init__()
        self.gru = nn.GRU(n_in, hidden, layers, batch_first=True)
        self.linear = nn.Linear(hidden, n_out)
        self.activation = activation

    def forward(self, x: Float[Tensor, "B L i"]) -> Float[Tensor, "B L o"]:
        path, _ = self.gru(x)
        return self.activation(self.linear(path))


class TimeGAN(Model):
    """TimeGAN; see the module's docstring."""

    tasks: ClassVar[frozenset[Task]] = frozenset({"generation"})
    Config: ClassVar = TimeGANConfig
    low: Tensor  # (D,), of the training data
    span: Tensor  # (D,)

    def __init__(self, config: TimeGANConfig, shape: Shape):
        super().__init__(config, shape)
        if config.layers < 2:
            raise ValueError(f"layers: expected at least 2, found {config.layers}")
        d, h, n = shape.channels, config.hidden, config.layers
        self.embedder = Recurrent(d, h, h, n, nn.Sigmoid())
        self.recovery = Recurrent(h, h, d, n, nn.Sigmoid())
        self.generator = Recurrent(d, h, h, n, nn.Sigmoid())
        self.supervisor = Recurrent(h, h, h, n - 1, nn.Sigmoid())
        self.discriminator = Recurrent(h, h, 1, n, nn.Identity())
        self.register_buffer("low", torch.zeros(d))
        self.register_buffer("span", torch.ones(d))

    def calibrate(self, batch: Batch) -> None:
        low, high = batch.x.amin((0, 1)), batch.x.amax((0, 1))  # generation: no value is missing
        self.low.copy_(low)
        self.span.copy_(high - low + 1e-7)

    def optimisers(self) -> dict[str, Optimisation]:
        learners = {
            "embedding": (self.embedder, self.recovery),
            "supervised": (self.supervisor,),
            "generator": (self.generator, self.supervisor),
            "autoencoder": (self.embedder, self.recovery),
            "discriminator": (self.discriminator,),
        }
        return {
            name: Optimisation(torch.optim.Adam(nn.ModuleList(nets).parameters(), self.config.lr))
            for name, nets in learners.items()
        }

    def phase(self, step: int) -> tuple[Literal["embedding", "supervised", "joint"], int]:
        """Return the phase that a step belongs to, and the number of the step in it."""
        first_joint = self.config.embedding_steps + self.config.supervised_steps
        if step < self.config.embedding_steps:
            return "embedding", step
        if step < first_joint:
            return "supervised", step - self.config.embedding_steps
        return "joint", step - first_joint

    def training_step(self, batch: Batch, step: int, generator: torch.Generator) -> Iterator[Loss]:
        x = (batch.visible - self.low) / self.span
        phase, step = self.phase(step)
        if phase == "embedding":
            loss = root(mse_loss(self.recovery(self.embedder(x)), x))
            yield Loss(10 * loss, {"rmse": loss}, "embedding")
        elif phase == "supervised":
            with torch.no_grad():
                h = self.embedder(x)
            yield Loss(next_step_loss(h, self.supervisor(h)), optimiser="supervised")
        else:
            yield from self.joint_step(x, step, generator)

    def joint_step(
        self, x: Float[Tensor, "B L D"], step: int, generator: torch.Generator
    ) -> Iterator[Loss]:
        """Yield L_G, then L_E on the same batch, and L_D in every second step."""
        h = self.embedder(x)  # L_G leaves E as it is, so L_E can go on from here
        yield self.generator_loss(x, h.detach(), uniform(x.shape, generator))
        yield self.autoencoder_loss(x, h)
        if step % 2 == 1:
            loss = self.discriminator_loss(x, uniform(x.shape, generator))
            if loss.value.item() > ALREADY_RIGHT:
                yield loss

    def generator_loss(
        self, x: Float[Tensor, "B L D"], h: Float[Tensor, "B L h"], z: Float[Tensor, "B L D"]
    ) -> Loss:
        with frozen(self.recovery, self.discriminator):
            e_hat = self.generator(z)
            # Two inputs go as one batch: what a GRU costs is its loop over time.
            h_hat, h_bar = self.supervisor(torch.cat([e_hat, h])).chunk(2)
            fooled = against(self.discriminator(torch.cat([h_hat, e_hat])), 1)
            x_hat = self.recovery(h_hat)
        adversarial = 2 * fooled  # the mean over both halves, twice: L_U + L_Ue
        supervised, moments = root(next_step_loss(h, h_bar)), moment_loss(x_hat, x)
        logs = {"adversarial": adversarial, "supervised": supervised, "moments": moments}
        return Loss(adversarial + 100 * supervised + 100 * moments, logs, "generator")

    def autoencoder_loss(self, x: Float[Tensor, "B L D"], h: Float[Tensor, "B L h"]) -> Loss:
        rmse = root(mse_loss(self.recovery(h), x))
        with frozen(self.supervisor):
            supervised = next_step_loss(h, self.supervisor(h))
        return Loss(10 * rmse + 0.1 * supervised, {"rmse": rmse}, "autoencoder")

    def discriminator_loss(self, x: Float[Tensor, "B L D"], z: Float[Tensor, "B L D"]) -> Loss:
        with torch.no_grad():
            h, e_hat = self.embedder(x), self.generator(z)
            h_hat = self.supervisor(e_hat)
        real, fake = self.discriminator(torch.cat([h, h_hat, e_hat])).split([len(x), 2 * len(x)])
        return Loss(against(real, 1) + 2 * against(fake, 0), optimiser="discriminator")

    def sample(
        self, n: int, t: Float[Tensor, "L"], generator: torch.Generator
    ) -> Float[Tensor, "n L D"]:
        z = uniform((n, len(t), self.shape.channels), generator)
        x = self.recovery(self.supervisor(self.generator(z))) * self.span + self.low
        if not x.isfinite().all():
            raise Diverged("samples are not finite")
        return x


def uniform(shape: Sequence[int], generator: torch.Generator) -> Float[Tensor, "B L D"]:
    return torch.rand(shape, generator=generator, device=generator.device)


def root(loss: Float[Tensor, ""]) -> Float[Tensor, ""]:
    return (loss + 1e-8).sqrt()


def next_step_loss(h: Float[Tensor, "B L h"], h_bar: Float[Tensor, "B L h"]) -> Float[Tensor, ""]:
    """L_sup: what S says at one time is compared with H at the next one."""
    return mse_loss(h_bar[:, :-1], h[:, 1:])


def moment_loss(x_hat: Float[Tensor, "B L D"], x: Float[Tensor, "B L D"]) -> Float[Tensor, ""]:
    """L_V: mean absolute differences of deviation and mean, which are taken over the batch."""
    (var_hat, mean_hat), (var, mean) = (torch.var_mean(a, 0, correction=0) for a in (x_hat, x))
    deviations = (var_hat + 1e-6).sqrt() - (var + 1e-6).sqrt()
    return deviations.abs().mean() + (mean_hat - mean).abs().mean()


def against(logits: Float[Tensor, "B L 1"], label: Literal[0, 1]) -> Float[Tensor, ""]:
    return binary_cross_entropy_with_logits(logits, torch.full_like(logits, label))


@contextmanager
def frozen(*nets: nn.Module) -> Iterator[None]:
    """Let gradients pass through what `nets` compute, and compute none for their weights."""
    module = nn.ModuleList(nets).requires_grad_(False)
    try:
        yield
    finally:
        module.requires_grad_(True)
