"""Residual blocks and the multi-scale networks of which LS4's three parts are made.

A residual block is v + f(norm(v)) with f a state space layer or a two-layer feed-forward map; a
pair is one of each. A network maps its input to H channels, runs a stack of pairs, optionally
around a coarser stack, and reads out linearly; the prior and the posterior read out through two
more layers.

Every module has two modes that agree: ``forward`` over a whole sequence (B, L, .), and ``stepper``,
which returns a function of one time step (B, .) at a time. Both are causal.

    level(v)  = pairs(v) + v                                       no pooling
    level(v)  = pairs(s) + s,  s = v + Up(level'(Down(v)))         pooling by p, level' at twice H

Down joins p consecutive steps; Up splits them again *after a delay of one coarse step*, which keeps
the coarse path causal: at step n it has the inputs of the groups that are complete before n.

Beside the sequence every module gets ``time``, (B, L) or, for one step, (B,): what the state space
layers use of the times, such as gaps, or the times themselves for a network with a time embedding,
which hands the embedding (B, L, E) to its blocks, or None.

======== ============= ==========================================================================
symbol   shape         meaning
======== ============= ==========================================================================
v, s     (B, L, H)     inputs of a level and of its pairs
H                      width at the finest resolution; doubles at each coarser one
p                      pooling factor
E                      width of the time embedding
======== ============= ==========================================================================
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from ls4.layer import Layer, S4Layer, Step


@runtime_checkable
class Steppable(Protocol):
    """What a residual block wraps: a causal map of sequences with a recurrent mode."""

    def __call__(self, v: Tensor, time: Tensor | None = None) -> Tensor: ...

    def stepper(self, batch: int) -> Step: ...


MakeLayer = Callable[[int], Steppable]  # from a width
MakeNorm = Callable[[int], nn.Module]


class FeedForward(nn.ModuleList):
    """Linear(H, 2H), GELU, Linear(2H, H)."""

    def __init__(self, width: int):
        super().__init__([nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)])

    def forward(self, v: Tensor, time: Tensor | None = None) -> Tensor:
        for module in self:
            v = module(v)
        return v

    def stepper(self, batch: int) -> Step:
        return self  # the same map at every step


class TimeEmbedding(nn.ModuleList):
    """Sinusoids of a time, Linear(2E, 4E), SiLU, Linear(4E, E); angular frequencies 1 to 1e-4."""

    frequencies: Tensor

    def __init__(self, d_temb: int):
        super().__init__(
            [nn.Linear(2 * d_temb, 4 * d_temb), nn.SiLU(), nn.Linear(4 * d_temb, d_temb)]
        )
        frequencies = torch.logspace(0, -4, d_temb)
        self.register_buffer("frequencies", frequencies, persistent=False)

    def forward(self, t: Float[Tensor, "*B"]) -> Float[Tensor, "*B E"]:
        phase = t.unsqueeze(-1) * self.frequencies
        embedding = torch.cat([phase.sin(), phase.cos()], -1)
        for module in self:
            embedding = module(embedding)
        return embedding


class Residual(nn.Module):
    """v + f(norm(v)), plus a linear map of the time embedding where there is one.

    Parameters
    ----------
    width : int
        H.
    f : Steppable
        A state space layer or a feed-forward map.
    d_temb : int
        Width of the time embedding, 0 for none.
    norm : function
        Makes the normalisation from a width.
    """

    def __init__(self, width: int, f: Steppable, d_temb: int, norm: MakeNorm):
        super().__init__()
        self.width = width
        self.norm = norm(width)
        self.f = f
        self.shift = nn.Linear(d_temb, width) if d_temb else None

    def forward(self, v: Float[Tensor, "B L H"], time: Tensor | None) -> Float[Tensor, "B L H"]:
        return self._join(v, self.f(self.norm(v), time), time)

    def stepper(self, batch: int) -> Step:
        step = self.f.stepper(batch)
        return lambda v, time: self._join(v, step(self.norm(v), time), time)

    def _join(self, v: Tensor, branch: Tensor, time: Tensor | None) -> Tensor:
        return v + branch if self.shift is None else v + (branch + self.shift(time))


class Pairs(nn.ModuleList):
    """`n` pairs of a state space block and a feed-forward block."""

    def __init__(self, width: int, n: int, layer: MakeLayer, d_temb: int, norm: MakeNorm):
        super().__init__()
        for _ in range(n):
            self.append(Residual(width, layer(width), d_temb, norm))
            self.append(Residual(width, FeedForward(width), d_temb, norm))

    def forward(self, v: Float[Tensor, "B L H"], time: Tensor | None) -> Float[Tensor, "B L H"]:
        for block in self:
            v = block(v, time)
        return v

    def stepper(self, batch: int) -> Step:
        steps = [block.stepper(batch) for block in self if isinstance(block, Residual)]

        def step(v: Tensor, time: Tensor | None) -> Tensor:
            for f in steps:
                v = f(v, time)
            return v

        return step


class Level(nn.Module):
    """One resolution and, inside it, the coarser ones.

    Parameters
    ----------
    width : int
        H at this resolution; doubles at the next.
    n_pairs : int
        Pairs at every resolution.
    pool : sequence of int
        Pooling factors, finest first; empty for a single resolution.
    layer : function
        Makes a state space layer from a width.
    d_temb : int
        Width of the time embedding, 0 for none. The coarser resolutions get no time.
    norm : function
        Makes a residual block's normalisation from a width.
    """

    def __init__(
        self,
        width: int,
        n_pairs: int,
        pool: Sequence[int],
        layer: MakeLayer,
        d_temb: int,
        norm: MakeNorm = nn.LayerNorm,
    ):
        super().__init__()
        self.pairs = Pairs(width, n_pairs, layer, d_temb, norm)
        self.p = pool[0] if pool else 0
        if self.p:
            self.down = nn.Linear(width * self.p, 2 * width)
            self.coarse = Level(2 * width, n_pairs, pool[1:], layer, 0, norm)
            self.up = nn.Linear(2 * width, width * self.p)

    def forward(self, v: Float[Tensor, "B L H"], time: Tensor | None) -> Float[Tensor, "B L H"]:
        if self.p:
            B, L, H = v.shape
            groups = v.view(B, L // self.p, self.p, H).mT.flatten(2)  # (B, L/p, H p)
            c = self.up(self.coarse(self.down(groups), None))
            c = F.pad(c, (0, 0, 1, -1))  # delay by one coarse step
            v = v + c.view(B, L // self.p, H, self.p).mT.reshape(B, L, H)
        return self.pairs(v, time) + v

    def stepper(self, batch: int) -> Step:
        pairs = self.pairs.stepper(batch)
        if not self.p:
            return lambda v, time: pairs(v, time) + v
        coarse = self.coarse.stepper(batch)
        width = self.down.in_features // self.p
        # Up's outputs for the current group of p steps, zero for the first; and its inputs so far
        ready = list(self.down.weight.new_zeros(self.p, batch, width))
        group: list[Tensor] = []

        def step(v: Tensor, time: Tensor | None) -> Tensor:
            nonlocal ready, group
            s = v + ready[len(group)]
            group.append(v)
            if len(group) == self.p:
                joined = torch.stack(group, -1).flatten(1)  # (B, H p)
                ready = list(
                    self.up(coarse(self.down(joined), None)).view(batch, width, self.p).unbind(-1)
                )
                group = []
            return pairs(s, time) + s

        return step


class Network(nn.Module):
    """Linear, level, LayerNorm, Linear.

    Parameters
    ----------
    d_in, d_out : int
        Channels of input and output.
    width, n_pairs, pool, d_temb
        See `Level`.
    layer : type of the state space layers
        Built as ``layer(width, **options)``.

    Raises
    ------
    ValueError
        For a time embedding together with pooling.
    """

    def __init__(
        self,
        d_in: int,
        d_out: int,
        *,
        width: int,
        n_pairs: int,
        pool: Sequence[int],
        d_temb: int = 0,
        layer: Callable[..., Layer] = S4Layer,
        **options,
    ):
        super().__init__()
        if d_temb and pool:
            raise ValueError(f"a time embedding: expected no pooling, found pool {list(pool)}")
        self.layer = functools.partial(layer, **options)
        self.lift = nn.Linear(d_in, width)
        self.level = Level(width, n_pairs, pool, self.layer, d_temb)
        self.norm = nn.LayerNorm(width)
        self.readout = nn.Linear(width, d_out)
        self.embedding = TimeEmbedding(d_temb) if d_temb else nn.Identity()

    def forward(
        self, u: Float[Tensor, "B L d_in"], time: Float[Tensor, "B L"] | None = None
    ) -> Float[Tensor, "B L d_out"]:
        return self.readout(self.norm(self.level(self.lift(u), self.embedding(time))))

    def stepper(self, batch: int) -> Step:
        """Return a function (batch, d_in) -> (batch, d_out) for one step in time."""
        level = self.level.stepper(batch)

        def step(u: Tensor, time: Tensor | None = None) -> Tensor:
            return self.readout(self.norm(level(self.lift(u), self.embedding(time))))

        return step


class GaussianNetwork(nn.Module):
    """A network whose output is a diagonal Gaussian: mean and log standard deviation.

    Both are state space layers of width `d_out` on the network's output, without norm or residual.

    Parameters
    ----------
    d_in, d_out : int
        Channels of the input and of the Gaussian.
    log_std_range : (float, float)
        To which log sigma is clamped, since it enters exponentials.
    network
        The other arguments of `Network`.
    """

    def __init__(self, d_in: int, d_out: int, *, log_std_range: tuple[float, float], **network):
        super().__init__()
        self.network = Network(d_in, d_out, **network)
        self.mean = self.network.layer(d_out)
        self.log_std = self.network.layer(d_out)
        self.log_std_range = log_std_range

    def forward(
        self, u: Float[Tensor, "B L d_in"], time: Float[Tensor, "B L"] | None = None
    ) -> tuple[Float[Tensor, "B L d_out"], Float[Tensor, "B L d_out"]]:
        w = self.network(u, time)
        return self.mean(w, time), self.log_std(w, time).clamp(*self.log_std_range)

    def stepper(self, batch: int) -> Callable[..., tuple[Tensor, Tensor]]:
        """Return a function (batch, d_in) -> mean and log std, each (batch, d_out)."""
        network, mean = self.network.stepper(batch), self.mean.stepper(batch)
        log_std = self.log_std.stepper(batch)

        def step(u: Tensor, time: Tensor | None = None) -> tuple[Tensor, Tensor]:
            w = network(u, time)
            return mean(w, time), log_std(w, time).clamp(*self.log_std_range)

        return step


def check_pooling(pool: Sequence[int], length: int) -> None:
    """Raise a ValueError if the pooling factors do not divide the length of the data."""
    if length % math.prod(pool):
        raise ValueError(
            f"ls4 with pool {list(pool)}: expected a length divisible by {math.prod(pool)},"
            f" found {length}"
        )
