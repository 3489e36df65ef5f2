"""The stopping loss: fixed noise, fixed groups, and what counts as an improvement."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from datasets.synthetic import load as sines
from harness.config import Grid
from harness.contract import FINAL_STEP, Batch, Loss, Model, Optimisation, Shape
from harness.run.validate import DRAWS, GROUPS, Validator, improved
from harness.run.view import View
from tests import specs

CPU = torch.device("cpu")


class Noisy(Model):
    """A loss of the batch's mean and of noise; it remembers at which steps it was asked."""

    tasks = frozenset({"generation"})

    @dataclass(frozen=True)
    class Config:
        pass

    def __init__(self, config: Any, shape: Shape):
        super().__init__(config, shape)
        self.w = torch.nn.Parameter(torch.zeros(()))
        self.asked: list[int] = []

    def optimisers(self) -> dict[str, Optimisation]:
        return {"main": Optimisation(torch.optim.SGD(self.parameters(), 0.1))}

    def loss(self, batch: Batch, step: int, generator: torch.Generator) -> Loss:
        self.asked.append(step)
        assert not self.training
        return Loss(batch.x.mean() + self.w + torch.randn((), generator=generator))


def validator(n: int, grid: Grid = "record") -> Validator:
    split = specs.SPLIT | {"fractions": [0.5, 0.3, 0.2]}
    data = sines([], name="s", title="S", n=n, length=8, channels=1, seed=0, split=split)
    return Validator(View(data, grid=grid), CPU, batch_size=4)


def test_groups_on_the_union_are_as_large_as_a_batch_of_the_training() -> None:
    assert [len(batch.x) for batch in validator(40, "union").batches] == [4, 4, 4]
    assert len(validator(40).batches) == 12


def test_the_same_noise_every_time_and_the_final_objective() -> None:
    model, some = Noisy(Noisy.Config(), Shape(8, 1)).train(), validator(20)
    first = some.losses(model)
    assert first is not None and first.shape == (6,) and len(set(first)) == 6
    assert np.array_equal(first, some.losses(model))
    assert set(model.asked) == {FINAL_STEP} and len(model.asked) == 2 * 6 * some.draws
    assert model.training, "the model is left as it was"
    some.losses(model.eval())
    assert not model.training
    with torch.no_grad():
        model.w += 1
    assert np.allclose(some.losses(model), first + 1, atol=1e-5)


def test_each_group_has_noise_of_its_own() -> None:
    some = validator(20)
    losses = some.losses(Noisy(Noisy.Config(), Shape(8, 1)))
    assert losses is not None
    noise = losses - np.array([batch.x.mean().item() for batch in some.batches])
    assert np.ptp(noise) > 0.1 and len(set(noise.round(4))) == 6


def test_many_series_are_put_into_groups() -> None:
    losses = validator(200).losses(Noisy(Noisy.Config(), Shape(8, 1)))
    assert losses is not None and len(losses) == GROUPS


@pytest.mark.parametrize(("n", "draws"), [(20, DRAWS), (400, 2), (2000, 1)])
def test_few_series_get_more_draws(n: int, draws: int) -> None:
    assert validator(n).draws == draws


def test_what_is_not_finite_is_infinite() -> None:
    model = Noisy(Noisy.Config(), Shape(8, 1))
    with torch.no_grad():
        model.w += float("nan")
    losses = validator(20).losses(model)
    assert losses is not None and np.isposinf(losses).all()


def test_a_model_without_one_loss_has_none() -> None:
    class Adversarial(Noisy):
        loss = Model.loss

    assert validator(20).losses(Adversarial(Noisy.Config(), Shape(8, 1))) is None


@pytest.mark.parametrize(
    ("best", "new", "better"),
    [
        (None, [1.0, 2.0], True),
        (None, [1.0, np.inf], False),
        ([np.inf, np.inf], [1.0, 2.0], True),
        ([1.0, 2.0], [np.inf, 0.0], False),
        ([1.0, 1.0, 1.0, 1.0], [0.9, 0.9, 0.9, 0.9], True),  # small, but in every group
        ([1.0, 1.0, 1.0, 1.0], [0.8, 1.0, 0.8, 1.0], True),  # .1 with a standard error of .06
        ([1.0, 1.0, 1.0, 1.0], [0.0, 2.0, 0.0, 1.9], False),  # below one standard error
        ([1.0, 1.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0], False),
        ([1.0], [0.9], True),
    ],
)
def test_an_improvement_is_above_one_standard_error(best, new: list, better: bool) -> None:
    found = improved(None if best is None else np.array(best), np.array(new))
    assert found is better
