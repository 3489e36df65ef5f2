"""Residual blocks and the multi-scale network that LS4's three parts are made of.

A residual block is v + f(LN(v)) with f an S4 layer or a two-layer feed-forward map; a pair is one
of each. A network lifts its input to H channels, runs a stack of pairs, optionally around a coarser
stack, and reads out linearly; the prior and the posterior read out through two more S4 layers.

Every module has two modes that agree: ``forward`` over a whole sequence (B, L, .), and ``stepper``,
a function that consumes one time step (B, .) at a time. Both are causal.

    level(v)  = pairs(v) + v                                       no pooling
    level(v)  = pairs(s) + s,  s = v + Up(level'(Down(v)))         pooling by p, level' at twice H

Down joins p consecutive steps; Up splits them again *after a delay of one coarse step*, which keeps
the coarse path causal: at step n it knows the inputs of the groups that are complete before n.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from ls4.ssm import S4Layer, Structure

Step = Callable[[Tensor], Tensor]


class FeedForward(nn.Sequential):
    """Linear(H, 2H), GELU, Linear(2H, H)."""

    def __init__(self, width: int):
        super().__init__(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def stepper(self, batch: int) -> Step:
        return self


class Residual(nn.Module):
    """v + f(LayerNorm(v))."""

    def __init__(self, width: int, f: S4Layer | FeedForward):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.f = f

    def forward(self, v: Float[Tensor, "B L H"]) -> Float[Tensor, "B L H"]:
        return v + self.f(self.norm(v))

    def stepper(self, batch: int) -> Step:
        step = self.f.stepper(batch)
        return lambda v: v + step(self.norm(v))


class Pairs(nn.Sequential):
    """`n` pairs of an S4 block and a feed-forward block."""

    def __init__(self, width: int, state: int, n: int, kernel: Structure):
        super().__init__()
        for _ in range(n):
            self.append(Residual(width, S4Layer(width, state, kernel=kernel)))
            self.append(Residual(width, FeedForward(width)))

    def stepper(self, batch: int) -> Step:
        steps = [block.stepper(batch) for block in self if isinstance(block, Residual)]

        def step(v: Tensor) -> Tensor:
            for f in steps:
                v = f(v)
            return v

        return step


class Level(nn.Module):
    """One resolution and, inside it, the coarser ones.

    Parameters
    ----------
    width : int
        H at this resolution; doubles at the next.
    state : int
        N.
    n_pairs : int
        Pairs at every resolution.
    pool : sequence of int
        Pooling factors, finest first; empty for a single resolution.
    """

    def __init__(
        self, width: int, state: int, n_pairs: int, pool: Sequence[int], kernel: Structure
    ):
        super().__init__()
        self.pairs = Pairs(width, state, n_pairs, kernel)
        self.p = pool[0] if pool else 0
        if self.p:
            self.down = nn.Linear(width * self.p, 2 * width)
            self.coarse = Level(2 * width, state, n_pairs, pool[1:], kernel)
            self.up = nn.Linear(2 * width, width * self.p)

    def forward(self, v: Float[Tensor, "B L H"]) -> Float[Tensor, "B L H"]:
        if self.p:
            B, L, H = v.shape
            groups = v.view(B, L // self.p, self.p, H).mT.flatten(2)  # (B, L/p, H p)
            c = self.up(self.coarse(self.down(groups)))
            c = F.pad(c, (0, 0, 1, -1))  # delay by one coarse step
            v = v + c.view(B, L // self.p, H, self.p).mT.reshape(B, L, H)
        return self.pairs(v) + v

    def stepper(self, batch: int) -> Step:
        pairs = self.pairs.stepper(batch)
        if not self.p:
            return lambda v: pairs(v) + v
        coarse = self.coarse.stepper(batch)
        width = self.down.in_features // self.p
        ready = list(self.down.weight.new_zeros(self.p, batch, width))  # what Up emits next
        group: list[Tensor] = []

        def step(v: Tensor) -> Tensor:
            nonlocal ready, group
            s = v + ready[len(group)]
            group.append(v)
            if len(group) == self.p:
                joined = torch.stack(group, -1).flatten(1)  # (B, H p)
                ready = list(
                    self.up(coarse(self.down(joined))).view(batch, width, self.p).unbind(-1)
                )
                group = []
            return pairs(s) + s

        return step


class Network(nn.Module):
    """Linear, level, LayerNorm, Linear.

    Parameters
    ----------
    d_in, d_out : int
        Channels of input and output.
    width, state, n_pairs, pool, kernel
        See `Level`.
    """

    def __init__(
        self,
        d_in: int,
        d_out: int,
        *,
        width: int,
        state: int,
        n_pairs: int,
        pool: Sequence[int],
        kernel: Structure,
    ):
        super().__init__()
        self.lift = nn.Linear(d_in, width)
        self.level = Level(width, state, n_pairs, pool, kernel)
        self.norm = nn.LayerNorm(width)
        self.readout = nn.Linear(width, d_out)

    def forward(self, u: Float[Tensor, "B L d_in"]) -> Float[Tensor, "B L d_out"]:
        return self.readout(self.norm(self.level(self.lift(u))))

    def stepper(self, batch: int) -> Step:
        """Return a function (batch, d_in) -> (batch, d_out) for one step in time."""
        level = self.level.stepper(batch)
        return lambda u: self.readout(self.norm(level(self.lift(u))))


class GaussianNetwork(nn.Module):
    """A network whose output is a diagonal Gaussian: mean and log standard deviation.

    Both are S4 layers of width `d_out` on the network's output, without norm or residual. log sigma
    is clamped to `log_std_range`, since it enters exponentials.
    """

    def __init__(self, d_in: int, d_out: int, *, log_std_range: tuple[float, float], **network):
        super().__init__()
        self.network = Network(d_in, d_out, **network)
        self.mean = S4Layer(d_out, network["state"], kernel=network["kernel"])
        self.log_std = S4Layer(d_out, network["state"], kernel=network["kernel"])
        self.log_std_range = log_std_range

    def forward(
        self, u: Float[Tensor, "B L d_in"]
    ) -> tuple[Float[Tensor, "B L d_out"], Float[Tensor, "B L d_out"]]:
        w = self.network(u)
        return self.mean(w), self.log_std(w).clamp(*self.log_std_range)

    def stepper(self, batch: int) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
        """Return a function (batch, d_in) -> mean and log std, each (batch, d_out)."""
        network, mean = self.network.stepper(batch), self.mean.stepper(batch)
        log_std = self.log_std.stepper(batch)

        def step(u: Tensor) -> tuple[Tensor, Tensor]:
            w = network(u)
            return mean(w), log_std(w).clamp(*self.log_std_range)

        return step
