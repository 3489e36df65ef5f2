"""The small S4D network behind the classification and the prediction score, and how it is trained.

    u = Linear(x),  v = LayerNorm(u + S4D(u)),  output = Linear(v)

One S4D-Lin layer of width 16 and state size 16 (zero-order hold, C initialised to ones), trained by
AdamW at a constant rate of 0.01 (the layer's dynamics at 0.001), without weight decay, on shuffled
batches of 128 series; the weights of the last epoch are used.

References
----------
Gu et al. 2022, "On the Parameterization and Initialization of Diagonal State Space Models",
arXiv:2206.11893 (S4D-Lin, eq. 9). Zhou et al. 2023, arXiv:2212.12749, appendix (the scores).
"""

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from metrics.s4d import S4D

M = TypeVar("M", bound=nn.Module)


class Unscorable(ValueError):
    """Finite series on which the evaluating network still overflows."""


WIDTH = 16
STATE = 16
LEARNING_RATE = 0.01
DYNAMICS_LEARNING_RATE = 0.001
BATCH = 128
EPOCHS = 100
# Series whose activations are held at once: a batch's gradient is summed over such parts, which is
# the same gradient, computed within the processor's cache.
PART = 32


class Trunk(nn.Module):
    """Embed the series and mix them over time: all of the network but its output layer.

    Parameters
    ----------
    channels : int
        D.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.encoder = nn.Linear(channels, WIDTH)
        self.s4 = S4D(WIDTH, STATE // 2)
        self.norm = nn.LayerNorm(WIDTH)

    def forward(self, x: Float[Tensor, "B L D"]) -> Float[Tensor, "B L H"]:
        u = self.encoder(x)
        return self.norm(u + self.s4(u))

    def last(self, x: Float[Tensor, "B L D"], n: int) -> Float[Tensor, "B n H"]:
        """Return the last `n` positions of `forward`, at a small part of its cost."""
        u = self.encoder(x)
        return self.norm(u[:, -n:] + self.s4.last(u, n))


def seeded(build: Callable[[], M], seed: int) -> M:
    """Build a module whose initial weights depend on `seed` alone."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return build()


def tensor(series: Float[np.ndarray, "N L D"], device: torch.device | str) -> Tensor:
    """Return the series in single precision on the device."""
    return torch.as_tensor(series, dtype=torch.float32, device=device)


Criterion = Callable[[Tensor, Tensor], Tensor]  # (output, target) -> loss of each series


def train(
    network: nn.Module,
    criterion: Criterion,
    inputs: Float[Tensor, "N L D"],
    targets: Float[Tensor, "N ..."],
    epochs: int,
    generator: torch.Generator,
) -> None:
    """Minimise the mean loss over series.

    Parameters
    ----------
    network : nn.Module
        Changed in place.
    criterion : callable
        ``criterion(network(inputs), targets)`` is the loss of each series.
    inputs, targets : Tensor
        All the series, on the network's device.
    epochs : int
        Passes over the series.
    generator : torch.Generator
        Order of the series; on the CPU.
    """
    optimiser = torch.optim.AdamW(_groups(network), LEARNING_RATE, weight_decay=0.0, fused=True)
    for _ in range(epochs):
        order = torch.randperm(len(inputs), generator=generator).to(inputs.device)
        for batch in order.split(BATCH):
            optimiser.zero_grad()
            for part in batch.split(PART):
                loss = criterion(network(inputs[part]), targets[part]).sum() / len(batch)
                loss.backward()
            optimiser.step()


def _groups(network: nn.Module) -> list[dict[str, Any]]:
    """Partition the parameters: those of the state space layer's dynamics learn more slowly."""
    layers = [module for module in network.modules() if isinstance(module, S4D)]
    dynamics = [parameter for layer in layers for parameter in layer.dynamics()]
    slow = {id(parameter) for parameter in dynamics}
    rest = [parameter for parameter in network.parameters() if id(parameter) not in slow]
    return [{"params": rest}, {"params": dynamics, "lr": DYNAMICS_LEARNING_RATE}]


@torch.no_grad()
def evaluate(network: nn.Module, inputs: Float[Tensor, "N L D"]) -> Float[Tensor, "N ..."]:
    """Return the network's output for every series."""
    return torch.cat([network(part) for part in inputs.split(PART)])


def literal_and_mean(losses: Float[Tensor, "N"]) -> tuple[float, float]:
    """Reduce the test losses of single series in two ways.

    Returns
    -------
    literal : float
        Sum over batches of 128 of the batch mean, as the released code returns it.
    mean : float
        Mean over series.

    Raises
    ------
    Unscorable
        If a loss is not finite.
    """
    mean = losses.mean().item()
    if not np.isfinite(mean):
        raise Unscorable(
            "fake: expected values on which the evaluating network can be trained in single "
            f"precision, found a test loss of {mean}"
        )
    return sum(batch.mean().item() for batch in losses.split(BATCH)), mean
