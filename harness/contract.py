"""The contract between a model and the benchmark.

A model imports this file and torch, nothing else of the harness, and never learns which data set it
is trained on. Axes, here and everywhere: B batch, L time, D channels, S samples, Z latent.

Missing values are a mask, never NaN: ``x`` is 0 wherever ``mask`` is 0.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import Optimizer

from harness.tasks import TASKS, Task

__all__ = [
    "FINAL_STEP", "TASKS", "Batch", "Diverged", "Loss", "Model", "NegElbo", "Optimisation",
    "Prediction", "Shape", "Task", "or_zero",
]  # fmt: skip

# An optimiser step after every warm-up and curriculum: the loss there is a model's final objective.
FINAL_STEP = 10**9


def or_zero(default: Any) -> Any:
    """Return a config field, above 0 by default, where 0 means something, too: no weight decay.

    `harness.checks.model_config` refuses 0 in the others: sizes, counts, rates and deviations.
    """
    return field(default=default, metadata={"zero": True})


class Diverged(RuntimeError):
    """Training or sampling left the finite numbers, or a solver gave up.

    Not an error of the program: the trainer turns it into a record with status ``diverged`` and
    this message as its reason.
    """


@dataclass(frozen=True)
class Batch:
    """Some records on their own, padded time grids.

    Attributes
    ----------
    x : (B, L, D)
        Values; 0 where neither `mask` nor `target` is set.
    t : (B, L)
        Times in [0, 1], non-decreasing; padding repeats the last time.
    mask : (B, L, D)
        1 where the model may see the value. A prediction must not depend on `x` elsewhere.
    target : (B, L, D)
        1 where the value is fitted and scored. Equals `mask` in generation and reconstruction; has
        no entry in common with it in interpolation and extrapolation.
    """

    x: Float[Tensor, "B L D"]
    t: Float[Tensor, "B L"]
    mask: Float[Tensor, "B L D"]
    target: Float[Tensor, "B L D"]

    @property
    def visible(self) -> Float[Tensor, "B L D"]:
        """What the model may look at: `x` with everything hidden set to 0."""
        return self.x * self.mask

    @property
    def beyond(self) -> Float[Tensor, "B L"]:
        """1 at the rows after the last one in which a record shows anything."""
        seen = self.mask.amax(-1)
        return 1 - seen.flip(1).cummax(1).values.flip(1)

    def to(self, device: torch.device) -> "Batch":
        return Batch(*(a.to(device) for a in (self.x, self.t, self.mask, self.target)))


class Loss(NamedTuple):
    """One scalar to descend, what to log beside it, and whose optimiser takes the step."""

    value: Float[Tensor, ""]
    logs: Mapping[str, Tensor] = {}
    optimiser: str = "main"


class Prediction(NamedTuple):
    """What a model says about the values at every grid point, given what the mask shows.

    The predictive distribution is the even mixture over S of N(mean[s], std^2).

    Attributes
    ----------
    mean : (S, B, L, D)
        Draws of the mean; S is 1 for a model whose prediction is one Gaussian.
    std : broadcastable to (S, B, L, D)
        Standard deviation of an observation around its mean.
    """

    mean: Float[Tensor, "S B L D"]
    std: Tensor


class NegElbo(NamedTuple):
    """Negative evidence lower bound of each record, in nats: ``kl + nll``, each of shape (B,)."""

    kl: Float[Tensor, "B"]
    nll: Float[Tensor, "B"]


@dataclass(frozen=True)
class Optimisation:
    """An optimiser and its learning-rate schedule.

    `interval` says when the schedule moves: after each optimiser ``step``, or after each ``epoch``
    (a pass over the training series). A `ReduceLROnPlateau` is given the epoch's mean loss. With
    `max_norm`, the gradient of the optimiser's parameters is scaled down to that norm.
    """

    optimiser: Optimizer
    schedule: Any = None
    interval: Literal["step", "epoch"] = "step"
    max_norm: float | None = None


@dataclass(frozen=True)
class Shape:
    """What a model must know about its data before it is built."""

    length: int  # L, the longest grid
    channels: int  # D


class Model(nn.Module, ABC):
    """Base class of every trained model.

    A subclass declares `tasks` and `Config` (a frozen dataclass whose defaults are the published
    settings) and implements `optimisers`, `loss` (or `training_step`) and, according to its tasks,
    `sample`, `predict` and `neg_elbo`. All randomness comes from the generator that is passed in; a
    generator lives on the model's device. Initial weights may use torch's global stream: the
    harness builds models inside a seeded fork of it.

    Parameters
    ----------
    config : Config
        Hyper-parameters.
    shape : Shape
        Length and channels of the data.
    """

    tasks: ClassVar[frozenset[Task]]
    Config: ClassVar[type]

    def __init__(self, config: Any, shape: Shape):
        super().__init__()
        self.config = config
        self.shape = shape

    def calibrate(self, batch: Batch) -> None:
        """Take scales from the data: called once, without gradient, before the first step.

        `batch` holds all training series; values exist where `mask` or `target` is 1. What is
        taken belongs into persistent buffers, which are saved with the weights. Initial weights may
        be scaled, too.
        """

    @property
    def warm_up(self) -> int:
        """Optimiser steps until the training loss is the final objective, or nearly so."""
        return 0

    @abstractmethod
    def optimisers(self) -> dict[str, Optimisation]:
        """Build the optimisers, by the names that `Loss.optimiser` uses.

        None of a model without parameters, which `calibrate` fits: its losses are only logged.
        """

    def loss(self, batch: Batch, step: int, generator: torch.Generator) -> Loss:
        """Return the training loss of a batch at optimiser step `step` (0, 1, ...).

        At `FINAL_STEP` it is the final objective, with the weights that terms have at the end of a
        warm-up and without a curriculum; on the validation series it decides when a training
        stops. A model without one loss overrides `training_step`.
        """
        raise NotImplementedError(f"{type(self).__name__} has no single loss")

    def training_step(self, batch: Batch, step: int, generator: torch.Generator) -> Iterator[Loss]:
        """Yield the losses of one step in turn.

        The trainer descends each loss before it asks for the next one, so a model with several
        optimisers (a GAN) overrides this and yields once per optimiser, and at least once a step.
        Which losses and logs there are may change from step to step.
        """
        yield self.loss(batch, step, generator)

    def sample(
        self, n: int, t: Float[Tensor, "L"], generator: torch.Generator
    ) -> Float[Tensor, "n L D"]:
        """Draw `n` series from the model on the grid `t`. Task: generation."""
        raise NotImplementedError(f"{type(self).__name__} does not generate")

    def predict(self, batch: Batch, n_samples: int, generator: torch.Generator) -> Prediction:
        """Predict the values at every grid point, given what `batch.mask` shows.

        `n_samples` is the number of draws of a model with latent variables. Tasks: reconstruction,
        interpolation, extrapolation.
        """
        raise NotImplementedError(f"{type(self).__name__} does not predict")

    def neg_elbo(self, batch: Batch, generator: torch.Generator) -> NegElbo:
        """Return a one-sample estimate of the negative ELBO on `batch.target`, nats per record."""
        raise NotImplementedError(f"{type(self).__name__} has no evidence bound")
