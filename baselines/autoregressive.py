r"""What RNN, GRU-D and ODE-RNN share: x_i is predicted from the rows before it.

Rubanova, Chen and Duvenaud, "Latent ODEs for irregularly-sampled time series", NeurIPS 2019,
arXiv:1907.03907, sections 2 and 3.1, and the authors' released code.

A record is read row by row, in the order of time, from the state h = 0. At row i, with j the last
row before it that was read,

.. math::

    h_i^- &= \mathrm{advance}(h_j, t_i), \qquad
    \hat x_i = O h_i^-, \qquad x_i \sim N(\hat x_i, \sigma^2 I) \\
    h_i &= \mathrm{read}(h_i^-, x_i, m_i)
        && \text{if any channel of row } i \text{ is seen} \\
    h_i &= \mathrm{read}(h_i^-, \hat x_i, 1)
        && \text{if neither row } i \text{ nor a later one is: feed-back.}

A hidden row, with seen rows after it, is predicted and not read.

========  ============  ==================================================================
symbol    shape         meaning
========  ============  ==================================================================
x, m      (B, L, D)     values, and 1 where the model sees them
t         (B, L)        times in [0, 1]; every record has its own grid
h         (B, H)        state after a row was read; h^- just before
x_hat     (B, L, D)     predicted mean
O         MLP           decoder, one hidden layer of tanh
sigma     scalar        standard deviation of the observations, not learnt
========  ============  ==================================================================

So x_hat_i never depends on x_i, in reconstruction either, nor on any later value: these models
filter, where RNN-VAE and Latent ODE smooth. In extrapolation the feed-back runs over all rows after
the last seen one, up to the record's last target; in interpolation over the hidden rows at its end.

Kept from the released code: initial weights, optimiser and its schedule, one-step-ahead prediction,
and the objective, minus `baselines.rubanova.log_likelihood`.

Changed:

* The first row is predicted from the initial state. The released code puts the true first row
  there.
* Every seen row is read as it is. The released RNN and GRU-D read their own prediction instead with
  probability 1/2 (scheduled sampling), at one toss a row for the whole batch, and in tests too.
* The released code has no extrapolation: it raises. The feed-back is ours.
* sigma is 0.1 by default, not 0.01: LS4's value, so that the likelihoods compare.
* A record is read on its own grid; the released code works on the union of all grids in the batch.
"""

from abc import abstractmethod
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from baselines.rubanova import adamax, log_likelihood, to_front
from harness.contract import Batch, Loss, Model, Optimisation, Prediction, Task


def fed_back(batch: Batch) -> Bool[Tensor, "B L"]:
    """Mark the rows whose prediction is read: none from there on is seen, a later one is a target.

    Those after the last target are left out, so that padding costs nothing.
    """
    later = batch.target.amax(-1)[:, 1:].flip(1).cummax(1).values.flip(1)  # (B, L - 1)
    fed = torch.zeros_like(batch.t, dtype=torch.bool)
    fed[:, :-1] = (batch.beyond[:, :-1] * later) > 0
    return fed


class Reading(NamedTuple):
    """What is read of each record: R seen rows, then K of the model's own predictions.

    A path of states starts with the initial one and has one more for each row read. `seen` and
    `ahead` go on with arbitrary rows where a record has fewer than others; `before` never leads to
    a state that has read those.
    """

    seen: Int[Tensor, "B R"]  # index of each seen row; R is at least 1
    n_seen: Int[Tensor, "B"]  # how many there are, and so the place in the path after the last one
    ahead: Int[Tensor, "B K"]  # index of each row that is fed back; K may be 0
    before: Int[Tensor, "B L"]  # place in the path, 1 + R + K states long, before each row is read


def reading(batch: Batch) -> Reading:
    """Bring the rows that are read to the front, so that loops over them are short."""
    seen, fed = batch.mask.amax(-1) > 0, fed_back(batch)
    seen_order, n_seen = to_front(seen)
    fed_order, n_fed = to_front(fed)
    r = max(int(n_seen.max()), 1)
    seen_before, fed_before = (a.cumsum(1) - a.long() for a in (seen, fed))
    return Reading(
        seen=seen_order[:, :r],
        n_seen=n_seen,
        ahead=fed_order[:, : int(n_fed.max())],
        before=torch.where(fed_before > 0, r + fed_before, seen_before),
    )


class Autoregressive(Model):
    """The contract for the three models, once they have said how to forecast.

    A configuration has, beside the sizes of its networks, `sigma` and `lr`.
    """

    tasks: ClassVar[frozenset[Task]] = frozenset(
        {"reconstruction", "interpolation", "extrapolation"}
    )

    @abstractmethod
    def forecast(self, batch: Batch) -> Float[Tensor, "B L D"]:
        """Return x_hat, at every row from the rows before it."""

    def optimisers(self) -> dict[str, Optimisation]:
        return adamax(self, self.config.lr)

    def loss(self, batch: Batch, step: int, generator: torch.Generator) -> Loss:
        return Loss(-log_likelihood(batch, self.forecast(batch), self.config.sigma))

    @torch.no_grad()
    def predict(self, batch: Batch, n_samples: int, generator: torch.Generator) -> Prediction:
        x_hat = self.forecast(batch)[None]
        return Prediction(x_hat, x_hat.new_tensor(self.config.sigma))
