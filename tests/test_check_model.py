"""What `make check-model` says of models: of sound ones nothing, of others what to mend."""

import ast
import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from harness.config import ModelFile
from harness.contract import Batch, Loss, Model, Optimisation, Shape, Task
from tests import test_contract as contract

NAME = "under_test"


@dataclass(frozen=True)
class Sizes:
    width: int = 4
    steps: int = 4  # of a sample's way from noise to data


class Flow(Model):
    """Flow matching; the last layer begins at zero, so an untrained model returns its noise."""

    tasks: ClassVar[frozenset[Task]] = frozenset({"generation"})
    Config: ClassVar = Sizes

    def __init__(self, config: Sizes, shape: Shape):
        super().__init__(config, shape)
        self.size = shape.length * shape.channels
        self.hidden = nn.Linear(self.size + 1, config.width)
        self.last = nn.Linear(config.width, self.size)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def optimisers(self) -> dict[str, Optimisation]:
        return {"main": Optimisation(torch.optim.Adam(self.parameters(), 0.05))}

    def velocity(self, x: Tensor, s: Tensor) -> Tensor:
        return self.last(torch.relu(self.hidden(torch.cat([x, s], -1))))

    def loss(self, batch: Batch, step: int, generator: torch.Generator) -> Loss:
        x = batch.visible.flatten(1)
        noise = torch.randn(x.shape, generator=generator)
        s = torch.rand(len(x), 1, generator=generator)
        v = self.velocity(s * x + (1 - s) * noise, s)
        return Loss((v - (x - noise)).square().mean())

    def sample(self, n: int, t: Tensor, generator: torch.Generator) -> Tensor:
        x = torch.randn(n, self.size, generator=generator)
        for i in range(self.config.steps):
            x = x + self.velocity(x, torch.full((n, 1), i / self.config.steps)) / self.config.steps
        return x.view(n, self.shape.length, self.shape.channels)


class Decoder(Flow):
    """Linear image of noise; all weights begin at zero, so an untrained model returns zeros."""

    def __init__(self, config: Sizes, shape: Shape):
        super().__init__(config, shape)
        del self.hidden

    def loss(self, batch: Batch, step: int, generator: torch.Generator) -> Loss:
        x = self.sample(len(batch.x), batch.t[0], generator)
        return Loss((x - batch.visible).square().mean())

    def sample(self, n: int, t: Tensor, generator: torch.Generator) -> Tensor:
        noise = torch.randn(n, self.config.width, generator=generator)
        return self.last(noise).view(n, self.shape.length, self.shape.channels)


class OneSeed(Decoder):
    def loss(self, batch: Batch, step: int, generator: torch.Generator) -> Loss:
        return Loss(self.last(torch.ones(self.config.width)).square().mean())


class OneSample(Decoder):
    def sample(self, n: int, t: Tensor, generator: torch.Generator) -> Tensor:
        return super().sample(n, t, torch.Generator().manual_seed(0))


class NoWeights(Decoder):
    def sample(self, n: int, t: Tensor, generator: torch.Generator) -> Tensor:
        return torch.randn(n, self.shape.length, self.shape.channels, generator=generator)


class NotFinite(Decoder):
    def sample(self, n: int, t: Tensor, generator: torch.Generator) -> Tensor:
        return super().sample(n, t, generator).log()


CHECKS: dict[str, Callable[[str], None]] = {
    "step": functools.partial(contract.test_training_step, task="generation", channels=3),
    "seed": functools.partial(contract.test_same_seed_same_weights, task="generation"),
    "learns": functools.partial(contract.test_learns, task="generation"),
    "sample": functools.partial(contract.test_sample, channels=3),
    "state": contract.test_state_round_trip,
}


def check(model: type[Model], name: str, patch: pytest.MonkeyPatch) -> None:
    file = {
        "label": "Under test",
        "group": "other models",
        "class": f"{__name__}:{model.__name__}",
        "training": {"smoke": {"steps": 4, "batch_size": 6}},
    }
    patch.setitem(contract.FILES, NAME, ModelFile.model_validate(file))
    patch.setitem(contract.CLASSES, NAME, model)
    CHECKS[name](NAME)


@pytest.mark.parametrize("name", CHECKS)
def test_a_last_layer_that_begins_at_zero_is_no_mistake(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    check(Flow, name, monkeypatch)


@pytest.mark.parametrize("name", ["step", "seed", "sample", "state"])  # it can learn zeros alone
def test_nor_are_weights_that_all_begin_at_zero(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    check(Decoder, name, monkeypatch)


@pytest.mark.parametrize(
    ("model", "name", "message"),
    [
        (OneSeed, "seed", "the seed is ignored"),
        (OneSample, "sample", "sampling ignores its generator"),
        (NoWeights, "state", "samples ignore the weights"),
        (NotFinite, "sample", "samples must be finite"),
    ],
)
def test_a_mistake_is_named(
    model: type[Model], name: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(AssertionError, match=message):
        check(model, name, monkeypatch)


def test_every_assertion_says_what_is_wrong() -> None:
    tree = ast.parse(Path(contract.__file__).read_text(encoding="utf-8"))
    bare = [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Assert) and not node.msg]
    assert bare == [], "test_contract.py: assertions without a sentence, by line"
