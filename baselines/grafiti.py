r"""GraFITi: attention on a graph of channels and times, whose edges are the observations.

Yalavarthi, Madhusudhanan, Scholz, Ahmed, Burchert, Jawed, Born and Schmidt-Thieme, "GraFITi: Graphs
for Forecasting Irregularly Sampled Time Series", AAAI 2024, arXiv:2305.12932. Written from the
paper; the authors' code, which has no licence, was not looked at.

A record's graph has a node for each channel d and for each row n, and an edge for each value that
is seen. A query, an edge of another kind, stands for a value that is asked for:

.. math::

    c_d = \mathrm{ReLU}(W_c\, \mathrm{onehot}(d)), \quad
    t_n = \sin(W_t \tau_n + b_t), \quad
    e_{nd} = \mathrm{ReLU}(W_e [x_{nd}, 0]), \quad
    e^q_{nd} = \mathrm{ReLU}(W_e [0, 1]), \quad
    c^q_{nd} = c_d + t_n.

In each layer, with all right-hand sides from the layer before,

.. math::

    c_d &\leftarrow \mathrm{MAB}(c_d; \{[t_m, e_{md}] : m \text{ seen in } d\}), \qquad
    t_n \leftarrow \mathrm{MAB}(t_n; \{[c_k, e_{nk}] : k \text{ seen in } n\}) \\
    c^q_{nd} &\leftarrow \mathrm{MAB}(c^q_{nd}; \{[t_m, e_{md}] : m \text{ seen in } d\}) \\
    e_{nd} &\leftarrow \mathrm{ReLU}(e_{nd} + W [e_{nd}, t_n, c_d]), \qquad
    e^q_{nd} \leftarrow \mathrm{ReLU}(e^q_{nd} + W [e^q_{nd}, t_n, c^q_{nd}]),

with multi-head attention, where every head divides by the root of the whole width and an empty K
adds nothing:

.. math::

    \mathrm{MAB}(q; K) = h + \mathrm{ReLU}(W_o h), \qquad
    h = W_q q + \mathrm{softmax}\big((W_q q)(W_k K)^\top / \sqrt{M}\big) W_v K.

After the last layer

.. math::

    \hat x_{nd} = \mu_d + s_d\, w^\top [e^q_{nd}, t_n, c^q_{nd}], \qquad
    \log \sigma_{nd}^2 = \log s_d^2 + v^\top [e^q_{nd}, t_n, c^q_{nd}].

=========  =========  ======================================================================
symbol     shape      meaning
=========  =========  ======================================================================
x          (B, L, D)  values; as the input of an edge, z-scores
tau        (B, L)     times in [0, 1]
c          (B D, M)   channel nodes of all records, one record after the other
t          (B L, M)   time nodes, likewise
e          (E, M)     edges: E values that are seen
e^q, c^q   (Q, M)     Q queries, and their channels as seen from their times
mu, s      (D)        mean and standard deviation of each channel's training values
sigma      (B, L, D)  standard deviation of a value around its prediction x_hat
=========  =========  ======================================================================

The loss is the mean squared error of the queries, as published, plus the Gaussian negative
log-likelihood with x_hat held fixed. So the mean is fitted by squared error from the first step to
the last, whatever sigma is, and no moment has to be set at which one loss gives way to another.

Deviations from the paper:

* Queries are not used as keys. As published, a query is an edge like any other, so a prediction
  depends on which other values are queried, and these reveal which values were measured.
* A query has a channel node of its own, which begins at c_d + t_n. With c_d itself, M numbers have
  to describe a channel at all times: on records of a Matern process (300 to train on, 15 of 30
  values hidden) the error stayed above 1.6 times the Gaussian process's in 3500 steps. With c^q it
  is below 1.2 times after 1250, and there are no more parameters.
* A node that no seen edge ends at attends to nothing.
* A second output, the variance. A point forecast has no likelihood, and its absolute error as CRPS.
* The z-scores are the model's own, since data come in other scales, too.
* Frequencies W_t begin at many scales, from 0.1 to `frequency` cycles over the time range.
* Other time points are hidden at every step (`baselines.gap_filling`).
* The rate is constant, and gradients are clipped. Published: halved where the validation error has
  not fallen for 10 passes over the data, which are 50 steps on a small set.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from baselines.gap_filling import begin_at_many_scales, hide_anew
from harness.contract import Batch, Loss, Model, Optimisation, Prediction, Shape, Task, or_zero

MAX_LOG_VAR = 14.0  # of a value in units of s_d: deviations within a factor of 1000
GROUPS = (0, 8, 32)  # nodes with 1 to 8, 9 to 32, and more edges are padded among themselves
QUERIES = 2**17  # asked at once in prediction, which bounds the memory


@dataclass(frozen=True)
class GraFITiConfig:
    """Published settings for PhysioNet, but 3 layers (published: 2, and 4 for USHCN)."""

    width: int = 64  # M
    layers: int = 3
    heads: int = 4
    frequency: float = 50.0  # highest at the start, cycles over the time range
    lr: float = 1e-3
    weight_decay: float = or_zero(1e-3)
    clip_norm: float = 1.0  # of the gradient


# -- graph ---------------------------------------------------------------------------------------


class Lines(NamedTuple):
    """Edges by a node at which they end: a line of edges for each of N nodes."""

    order: Int[Tensor, "E"]  # edges, line after line
    start: Int[Tensor, "N"]  # of each line therein
    count: Int[Tensor, "N"]  # edges of each line

    @classmethod
    def of(cls, node: Int[Tensor, "E"], n_nodes: int) -> "Lines":
        count = torch.bincount(node, minlength=n_nodes)
        return cls(node.argsort(stable=True), count.cumsum(0) - count, count)

    @classmethod
    def one_each(cls, nodes: Float[Tensor, "N M"]) -> "Lines":
        return cls.of(torch.arange(len(nodes), device=nodes.device), len(nodes))

    def table(self, nodes: Int[Tensor, "G"]) -> tuple[Int[Tensor, "G K"], Bool[Tensor, "G K"]]:
        """Return the edges of some nodes, and where there are any: elsewhere stands any edge."""
        column = torch.arange(int(self.count[nodes].max()), device=nodes.device)
        there = column < self.count[nodes, None]
        return self.order[torch.where(there, self.start[nodes, None] + column, 0)], there


def rows(table: Float[Tensor, "N ..."], index: Int[Tensor, "..."]) -> Tensor:
    """Return table[index]. The gradient of `index_select` takes less time than that of indexing."""
    return table.index_select(0, index.flatten()).unflatten(0, index.shape)


def groups(count: Int[Tensor, "N"]) -> list[Int[Tensor, "G"]]:
    """Return nodes with about as many edges together, so that tables have little padding.

    Nodes without edges are in no group.
    """
    group = torch.bucketize(count, count.new_tensor(GROUPS))
    alike = ((group == i).nonzero()[:, 0] for i in range(1, len(GROUPS) + 1))
    return [nodes for nodes in alike if len(nodes)]


class Edges(NamedTuple):
    """Some cells of the grid (B, L, D), and the nodes at both ends of each."""

    d: Int[Tensor, "E"]  # channel
    time: Int[Tensor, "E"]  # number of the time node among all of the batch
    channel: Int[Tensor, "E"]  # number of the channel node among all of the batch
    by_time: Lines
    by_channel: Lines

    @classmethod
    def where(cls, cells: Float[Tensor, "B L D"]) -> "Edges":
        """Return the edges of the cells that are 1, in the order of the grid."""
        n_records, n_rows, n_channels = cells.shape
        b, n, d = cells.nonzero().unbind(1)
        time, channel = b * n_rows + n, b * n_channels + d
        by_time = Lines.of(time, n_records * n_rows)
        return cls(d, time, channel, by_time, Lines.of(channel, n_records * n_channels))


class Keys(NamedTuple):
    """What some nodes attend to."""

    nodes: Int[Tensor, "G"]  # their numbers
    k: Float[Tensor, "G K M"]
    v: Float[Tensor, "G K M"]
    there: Bool[Tensor, "G K"]  # False where a node has fewer than K keys


def joint(linear: nn.Linear, *parts: Tensor | tuple[Tensor, Tensor]) -> Float[Tensor, "E F"]:
    """Return linear([part, ..]) of edges.

    A part (nodes, index) belongs to nodes; it is multiplied before it goes to their edges, of which
    there are many more.
    """
    widths = [(part[0] if isinstance(part, tuple) else part).shape[-1] for part in parts]
    out = linear.bias
    for part, weight in zip(parts, linear.weight.split(widths, 1), strict=True):
        if isinstance(part, tuple):
            nodes, index = part
            out = out + F.linear(nodes, weight).index_select(0, index)
        else:
            out = out + F.linear(part, weight)
    return out


# -- networks ------------------------------------------------------------------------------------


class MAB(nn.Module):
    """Multi-head attention block."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(width, width)
        self.kv = nn.Linear(2 * width, 2 * width)
        self.o = nn.Linear(width, width)

    def keys(
        self, nodes: Float[Tensor, "N M"], index: Int[Tensor, "E"], e: Float[Tensor, "E M"],
        lines: Lines,
    ) -> list[Keys]:  # fmt: skip
        """Return the keys [node, e] of edges whose other ends are ``nodes[index]``."""
        kv = joint(self.kv, (nodes, index), e)
        keys = []
        for some in groups(lines.count):
            edges, there = lines.table(some)
            k, v = rows(kv, edges).chunk(2, -1)
            keys.append(Keys(some, k, v, there))
        return keys

    def forward(
        self, nodes: Float[Tensor, "Q M"], keys: list[Keys], lines: Lines
    ) -> Float[Tensor, "Q M"]:
        """Update Q nodes that attend to keys; `lines` says whose keys each of them attends to."""
        q = self.q(nodes)
        mixed = torch.zeros_like(q)
        for key in keys:
            for some in groups(lines.count[key.nodes]):
                asking, asked = lines.table(key.nodes[some])
                heads = (
                    a.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (G, H, .., M / H)
                    for a in (rows(q, asking), rows(key.k, some), rows(key.v, some))
                )
                there, scale = key.there[some, None, None], 1 / math.sqrt(q.shape[-1])
                out = F.scaled_dot_product_attention(*heads, attn_mask=there, scale=scale)
                out = out.transpose(1, 2).flatten(-2)
                mixed = mixed.index_copy(0, asking[asked], out[asked])
        h = q + mixed
        return h + self.o(h).relu()


class Layer(nn.Module):
    """Updates of channels, times and edges."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.to_channel = MAB(width, heads)
        self.to_time = MAB(width, heads)
        self.edge = nn.Linear(3 * width, width)

    def edges(self, e: Float[Tensor, "E M"], *ends: Tensor | tuple[Tensor, Tensor]) -> Tensor:
        return (e + joint(self.edge, e, *ends)).relu()


class Seen(NamedTuple):
    """What queries read of a batch."""

    t: list[Float[Tensor, "BL M"]]  # time nodes before each layer, and after the last
    keys: list[list[Keys]]  # of the channels, in each layer


class GraFITi(Model):
    """GraFITi with leak-free queries and a variance; see the module's docstring."""

    tasks: ClassVar[frozenset[Task]] = frozenset({"interpolation", "extrapolation"})
    Config: ClassVar = GraFITiConfig
    mu: Tensor
    s: Tensor
    variance: Tensor

    def __init__(self, config: GraFITiConfig, shape: Shape):
        super().__init__(config, shape)
        m, d = config.width, shape.channels
        self.channel = nn.Linear(d, m)
        self.time = nn.Linear(1, m)
        self.edge = nn.Linear(2, m)
        self.layers = nn.ModuleList(Layer(m, config.heads) for _ in range(config.layers))
        self.mean = nn.Linear(3 * m, 1)
        self.log_var = nn.Linear(3 * m, 1)
        self.register_buffer("mu", torch.zeros(d))
        self.register_buffer("s", torch.ones(d))
        self.register_buffer("variance", torch.ones(()))  # of all values about mu
        begin_at_many_scales(self.time.weight[:, 0], self.time.bias, config.frequency)

    def calibrate(self, batch: Batch) -> None:
        known = torch.maximum(batch.mask, batch.target).double()
        n = known.sum((0, 1))
        mu = (batch.x * known).sum((0, 1)) / n.clamp(min=1)
        squares = ((batch.x - mu).square() * known).sum((0, 1))
        s, variance = (squares / n.clamp(min=1)).sqrt(), squares.sum() / n.sum().clamp(min=1)
        self.mu.copy_(mu)
        self.s.copy_(torch.where(s > 0, s, 1))
        self.variance.copy_(torch.where(variance > 0, variance, 1))

    def channels(self) -> Float[Tensor, "D M"]:
        """Return the channel nodes before the first layer."""
        return (self.channel.weight.T + self.channel.bias).relu()

    def see(self, batch: Batch) -> Seen:
        """Pass the values that are seen through the layers."""
        at = Edges.where(batch.mask)
        x = ((batch.x - self.mu) / self.s)[batch.mask > 0]
        e = self.edge(torch.stack([x, torch.zeros_like(x)], -1)).relu()
        t = self.time(batch.t.view(-1, 1)).sin()
        c = self.channels().repeat(len(batch.x), 1)
        times, channels = (Lines.one_each(nodes) for nodes in (t, c))
        seen = Seen([t], [])
        for layer in self.layers:
            assert isinstance(layer, Layer)
            to_channel = layer.to_channel.keys(t, at.time, e, at.by_channel)
            to_time = layer.to_time.keys(c, at.channel, e, at.by_time)
            e = layer.edges(e, (t, at.time), (c, at.channel))
            t, c = layer.to_time(t, to_time, times), layer.to_channel(c, to_channel, channels)
            seen.t.append(t)
            seen.keys.append(to_channel)
        return seen

    def answer(self, seen: Seen, at: Edges) -> tuple[Float[Tensor, "Q"], Float[Tensor, "Q"]]:
        """Return mean and log variance of the values asked for; each answer is for itself."""
        e = self.edge(self.edge.weight.new_tensor([0, 1])).relu().expand(len(at.d), -1)
        c = self.channels().index_select(0, at.d) + seen.t[0].index_select(0, at.time)
        for layer, t, keys in zip(self.layers, seen.t[:-1], seen.keys, strict=True):
            assert isinstance(layer, Layer)
            e = layer.edges(e, (t, at.time), c)
            c = layer.to_channel(c, keys, at.by_channel)
        features = torch.cat([e, seen.t[-1].index_select(0, at.time), c], -1)
        mu, s = self.mu[at.d], self.s[at.d]
        log_var = self.log_var(features)[:, 0].clamp(-MAX_LOG_VAR, MAX_LOG_VAR)
        return mu + s * self.mean(features)[:, 0], 2 * s.log() + log_var

    def optimisers(self) -> dict[str, Optimisation]:
        c = self.config
        adam = torch.optim.AdamW(self.parameters(), lr=c.lr, weight_decay=c.weight_decay)
        return {"main": Optimisation(adam, max_norm=c.clip_norm)}

    def training_step(self, batch: Batch, step: int, generator: torch.Generator) -> Iterator[Loss]:
        yield self.loss(hide_anew(batch, generator), step, generator)

    def loss(self, batch: Batch, step: int, generator: torch.Generator) -> Loss:
        """Return the squared error relative to the data's variance, plus the fit of sigma in nats.

        Both are means over all targets of the batch.
        """
        mean, log_var = self.answer(self.see(batch), Edges.where(batch.target))
        error = (batch.x[batch.target > 0] - mean).square()
        nll = 0.5 * (error.detach() / log_var.exp() + log_var + math.log(2 * math.pi))
        mse, nll = (a.sum() / max(len(a), 1) for a in (error, nll))
        return Loss(mse / self.variance + nll, {"mse": mse.detach(), "nll": nll.detach()})

    @torch.no_grad()
    def predict(self, batch: Batch, n_samples: int, generator: torch.Generator) -> Prediction:
        """Ask for every cell of the grid, some rows of all records at a time."""
        seen = self.see(batch)
        mean, log_var = torch.empty_like(batch.x), torch.empty_like(batch.x)
        n_records, n_rows, n_channels = batch.x.shape
        row = torch.arange(n_rows, device=batch.x.device)
        for rows in row.split(max(QUERIES // (n_records * n_channels), 1)):
            asked = torch.zeros_like(batch.x)
            asked[:, rows] = 1
            mean[asked > 0], log_var[asked > 0] = self.answer(seen, Edges.where(asked))
        return Prediction(mean[None], (0.5 * log_var).exp()[None])
