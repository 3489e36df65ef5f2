r"""SaShiMi: an autoregressive model on a multi-scale stack of S4 layers.

Goel, Gu, Donahue and Ré, "It's Raw! Audio Generation with State-Space Models", ICML 2022,
arXiv:2202.09729, section 4, and the authors' released code in its form without layers on the way
down. Written for audio; here the waveform is a channel of a series. Each value becomes one of Q
tokens, by linear quantisation between the extremes of the training data,

.. math::

    k_{nd} = \lfloor (x_{nd} - low_d) / w_d \rfloor, \qquad w_d = (high_d - low_d) / Q,

and each token is predicted from the past ones. The density of x is constant within a bin:

.. math::

    p(x) &= \prod_{n,d} p(k_{nd} \mid k_{<n}) / w_d, \qquad
    p(k_{nd} \mid k_{<n}) = \mathrm{softmax}(W_d\, \mathrm{LN}(v_n) + b_d), \\
    v &= \mathrm{level}(u), \qquad u_0 = \mathrm{start}, \quad
    u_n = \textstyle\sum_d m_{n-1,d}\, E_d[k_{n-1,d}].

The trunk has one form with LS4's (`ls4.blocks.Level`):

.. math::

    \mathrm{level}(u) = \mathrm{pairs}(s) + s, \qquad
    s = u + \mathrm{Up}(\mathrm{level}'(\mathrm{Down}(u))),

where pairs are residual S4 and feed-forward blocks. Down joins p steps, to twice the width; Up
splits them again after a delay of one coarse step; the coarsest level has s = u. S4 layers are DPLR
in the paper's Hurwitz form A = Lambda - P P^*, so that generating step by step is stable.

========  ===============  ========================================================
symbol    shape            meaning
========  ===============  ========================================================
x, m      (B, L, D)        values; 1 where they are seen
k         (B, L, D)        tokens, 0 to Q - 1
E         (D, Q, H)        embedding, a table for each channel
u, v      (B, L, H)        input and output of the trunk
low, w    (D)              lowest training value and width of a bin
W, b      (D Q, H), (D Q)  D heads of Q logits
========  ===============  ========================================================

Deviations from the released code:

* Linear bins between the extremes of the training data, by channel; released: mu-law or linear
  bins of audio.
* Any number of channels: their embeddings are summed, and given the past a step's channels are
  independent of each other. Audio has one.
* Embedding and heads begin as the same smooth functions of the value, so that neighbouring tokens
  begin alike and likely ones near the last value. Released: independent random numbers. Tokens that
  have nothing in common would have to be learned from a few dozen values each.
* A learned start vector instead of a token.
* Any length: the end is padded to what pooling divides, and the loss does not look there.
* A sample is uniform in the bin of its token, hence an exact draw from p(x). The released code
  takes one value a bin, a comb that shows in histograms whose bins are not much wider.
* Each channel of an S4 layer has a Lambda, P and B of its own; some released models share one set.
* The rate falls at a plateau of the training loss; the released one watches the validation loss.
"""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import ReduceLROnPlateau

from harness.contract import Batch, Diverged, Loss, Model, Optimisation, Shape, Task, or_zero
from ls4.blocks import Level
from ls4.layer import S4Layer, parameter_groups

LENGTH_SCALE = 1 / 3  # of the initial embedding, where values range over [-1, 1]


@dataclass(frozen=True)
class SaShiMiConfig:
    """Released settings, except `n_layers`, released: 8."""

    d_model: int = 64  # H at the finest resolution; doubles at the next
    n_layers: int = 4  # pairs at each resolution
    pool: Sequence[int] = (4, 4)  # finest first
    state: int = 64  # N
    levels: int = 256  # Q
    lr: float = 1e-3
    lr_patience: int = or_zero(20)  # epochs without improvement before the rate falls to a fifth


def smooth_functions(levels: int, width: int) -> Float[Tensor, "Q H"]:
    """Draw H slowly varying functions, of mean 0 and variance 1, at Q points of [-1, 1].

    Random Fourier features, which approximate a Gaussian process with a Gaussian kernel (Rahimi and
    Recht 2007, "Random Features for Large-Scale Kernel Machines").
    """
    c = torch.linspace(-1, 1, levels).unsqueeze(-1)
    omega = torch.randn(width) / LENGTH_SCALE
    phi = 2 * math.pi * torch.rand(width)
    return math.sqrt(2) * torch.cos(omega * c + phi)


class SaShiMi(Model):
    """SaShiMi; see the module's docstring.

    Raises
    ------
    ValueError
        If there are fewer than two levels, or a pooling factor is not positive.
    """

    tasks: ClassVar[frozenset[Task]] = frozenset({"generation"})
    Config: ClassVar = SaShiMiConfig

    low: Tensor
    high: Tensor
    offsets: Tensor

    def __init__(self, config: SaShiMiConfig, shape: Shape):
        super().__init__(config, shape)
        c, D = config, shape.channels
        if c.levels < 2:
            raise ValueError(f"levels: expected at least 2, found {c.levels}")
        if any(p < 1 for p in c.pool):
            raise ValueError(f"pool: expected positive factors, found {list(c.pool)}")
        tables = torch.cat([smooth_functions(c.levels, c.d_model) for _ in range(D)])
        self.embedding = nn.Embedding.from_pretrained(tables, freeze=False)  # E
        self.start = nn.Parameter(torch.zeros(c.d_model))
        layer = functools.partial(S4Layer, state=c.state)
        self.trunk = Level(c.d_model, c.n_layers, c.pool, layer, d_temb=0)
        self.norm = nn.LayerNorm(c.d_model)
        self.head = nn.Linear(c.d_model, D * c.levels)  # W, b
        self.head.weight.data = tables / math.sqrt(3 * c.d_model)  # of nn.Linear's variance
        nn.init.zeros_(self.head.bias)
        self.register_buffer("low", torch.zeros(D))
        self.register_buffer("high", torch.ones(D))
        # Token k of channel d is row d Q + k of E.
        self.register_buffer("offsets", torch.arange(D) * c.levels, persistent=False)

    # -- values and tokens -----------------------------------------------------------------------

    @torch.no_grad()
    def calibrate(self, batch: Batch) -> None:
        """Take the extremes of each channel from all training series."""
        known = torch.maximum(batch.mask, batch.target) > 0
        low = batch.x.masked_fill(~known, math.inf).amin((0, 1))
        high = batch.x.masked_fill(~known, -math.inf).amax((0, 1))
        found = low <= high  # not so where a channel has no values
        self.low.copy_(torch.where(found, low, self.low))
        self.high.copy_(torch.where(found, high, self.high))

    @property
    def bin_width(self) -> Float[Tensor, "D"]:
        width = (self.high - self.low) / self.config.levels
        return width.clamp(min=1e-12)  # a channel may be constant

    def quantise(self, x: Float[Tensor, "*B D"]) -> Int64[Tensor, "*B D"]:
        """Return the tokens; values beyond the extremes go to the first or the last bin."""
        k = ((x - self.low) / self.bin_width).floor()
        return k.clamp(0, self.config.levels - 1).long()

    def dequantise(
        self, k: Int64[Tensor, "*B D"], share: Tensor | float = 0.5
    ) -> Float[Tensor, "*B D"]:
        """Return the values at a share of the way through the tokens' bins, or at their centres."""
        return self.low + (k + share) * self.bin_width

    # -- the autoregression ----------------------------------------------------------------------

    def embed(self, k: Int64[Tensor, "*B D"], mask: Float[Tensor, "*B D"]) -> Float[Tensor, "*B H"]:
        return (self.embedding(k + self.offsets) * mask.unsqueeze(-1)).sum(-2)

    def read_out(self, v: Float[Tensor, "*B H"]) -> Float[Tensor, "*B D Q"]:
        return self.head(self.norm(v)).unflatten(-1, (self.shape.channels, -1))

    def logits(
        self, k: Int64[Tensor, "B L D"], mask: Float[Tensor, "B L D"]
    ) -> Float[Tensor, "B L D Q"]:
        """Logits of p(k_n | k_<n) along given tokens, of which the mask shows the known ones."""
        B, L, _ = k.shape
        start = self.start.expand(B, 1, -1)
        u = torch.cat([start, self.embed(k[:, :-1], mask[:, :-1])], 1)
        padding = -L % math.prod(self.config.pool)
        v = self.trunk(F.pad(u, (0, 0, 0, padding)), None)
        return self.read_out(v[:, :L])

    def stepper(self, batch: int) -> Callable[[Tensor | None], Tensor]:
        """Return a function from k_{n-1} (batch, D), or None at n = 0, to the logits of k_n."""
        advance = self.trunk.stepper(batch)

        def step(k: Tensor | None) -> Tensor:
            if k is None:
                u = self.start.expand(batch, -1)
            else:
                u = self.embed(k, torch.ones_like(k, dtype=self.start.dtype))
            return self.read_out(advance(u, None))

        return step

    # -- contract --------------------------------------------------------------------------------

    def loss(self, batch: Batch, step: int, generator: torch.Generator) -> Loss:
        """Return the mean cross-entropy of a token given those before it, in nats."""
        k = self.quantise(batch.x)
        logits = self.logits(k, batch.mask)
        nll = F.cross_entropy(logits.flatten(0, 2), k.flatten(), reduction="none").view_as(k)
        return Loss((nll * batch.target).sum() / batch.target.sum().clamp(min=1))

    def optimisers(self) -> dict[str, Optimisation]:
        optimiser = torch.optim.AdamW(parameter_groups(self, self.config.lr))
        plateau = ReduceLROnPlateau(optimiser, factor=0.2, patience=self.config.lr_patience)
        return {"main": Optimisation(optimiser, plateau, interval="epoch")}

    @torch.no_grad()
    def sample(
        self, n: int, t: Float[Tensor, "L"], generator: torch.Generator
    ) -> Float[Tensor, "n L D"]:
        """Draw tokens step by step, with the trunk in its recurrent mode; then values in bins."""
        step, k, path = self.stepper(n), None, []
        for _ in range(len(t)):
            p = step(k).softmax(-1)  # (n, D, Q)
            if not p.isfinite().all():
                raise Diverged("the probabilities of the tokens are not finite")
            k = torch.multinomial(p.flatten(0, 1), 1, generator=generator).view(n, -1)
            path.append(k)
        k = torch.stack(path, 1)
        share = torch.rand(k.shape, generator=generator, device=k.device)
        return self.dequantise(k, share)
