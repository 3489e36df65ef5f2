"""Data that are too small or too plain for the scores: refused before the training, or no score."""

import dataclasses

import numpy as np
import pytest
import torch

from datasets.synthetic import load as sines
from harness.errors import UserError
from harness.run.build import build
from harness.run.generation import check_scorable
from harness.run.validate import Validator
from harness.run.view import View
from metrics.marginal import bootstrap, marginal_robust
from tests import specs

CPU = torch.device("cpu")


def data(n: int = 40, length: int = 20, split: dict = specs.SPLIT, **changes: np.ndarray):
    made = sines(name="s", title="S", n=n, length=length, channels=1, seed=0, split=split)
    return dataclasses.replace(made, **changes)


def test_enough_is_accepted() -> None:
    check_scorable(data())


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"n": 10}, "expected at least 3 test series, found 2"),
        ({"length": 8}, "expected series longer than the 10 predicted steps, found 8"),
    ],
)
def test_too_few_or_too_short_series(sizes: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_scorable(data(**sizes))


def test_a_constant_channel() -> None:
    x = data().x.copy()
    x[data().test] = 2
    with pytest.raises(UserError, match="channel 0 constant at 2"):
        check_scorable(data(x=x))


def test_test_series_that_are_training_series() -> None:
    made = data()
    x = made.x.copy()
    x[made.test] = x[made.train[: len(made.test)]]
    with pytest.raises(UserError, match="found 8 of 8 there"):
        check_scorable(data(x=x))


def test_a_channel_that_is_constant_in_a_resample_has_no_spread() -> None:
    real = np.zeros((8, 20, 1), "f4")
    real[0, 3] = 1
    assert bootstrap(marginal_robust, real, real, n_boot=100, seed=0) is None


def test_no_validation_series_no_validation_loss() -> None:
    made = data(split={"seed": 0, "fractions": [0.8, 0.0, 0.2]})
    model = build(specs.cell(), made, CPU)
    assert Validator(View(made), CPU).losses(model) is None


def test_a_size_that_no_model_can_have_gets_one_line() -> None:
    with pytest.raises(UserError, match=r"^config/models/ls4.yaml, data set s: [^\n]+$"):
        build(specs.cell(config=specs.SMALL_LS4 | {"width": -3}), data(), CPU)
