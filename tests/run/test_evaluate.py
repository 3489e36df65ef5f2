"""From a training's end and a model to a record: what is predicted how, and what is kept."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from datasets.base import Dataset
from datasets.synthetic import load as sines
from harness.contract import Batch, Model, NegElbo, Prediction, Shape
from harness.records import circumstances
from harness.run import evaluate
from harness.run.evaluate import Evaluated, evaluate_control, evaluate_model
from harness.run.generation import ScoringSetup
from harness.run.outcome import Outcome
from tests import specs

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return sines([], name="sines", title="S", n=40, length=20, channels=1, seed=0, observed=0.4,
                 split=specs.SPLIT)  # fmt: skip


class Guess(Model):
    """Predicts noise, whatever it is shown; notes how many records it gets at once."""

    tasks = frozenset({"reconstruction"})

    @dataclass(frozen=True)
    class Config:
        sigma: float = 0.5

    def __init__(self) -> None:
        super().__init__(self.Config(), Shape(20, 1))
        self.sizes: list[int] = []

    def optimisers(self) -> dict:
        return {}

    def predict(self, batch: Batch, n_samples: int, generator: torch.Generator) -> Prediction:
        self.sizes.append(len(batch.x))
        return Prediction(
            torch.randn(n_samples, *batch.x.shape, generator=generator), torch.zeros(())
        )

    def neg_elbo(self, batch: Batch, generator: torch.Generator) -> NegElbo:
        return NegElbo(batch.target.sum((1, 2)), batch.target.sum((1, 2)))


OUTCOME = Outcome(
    status="done", reason=None, ended="cap", steps=70, best_step=60, best_validation_loss=0.25,
    last_validation_loss=0.5, seconds=12.5, peak_memory_bytes=1000, parameters=99,
    config_hash="c", code_hash="d", circumstances=circumstances(CPU) | {"device": "CPU of before"},
)  # fmt: skip


@pytest.fixture
def scored(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Score `Guess` as a cell; return what was made, and the sizes of its batches."""

    def run(seed: int = 0, **training: Any) -> tuple[Evaluated, list[int]]:
        model = Guess()
        monkeypatch.setattr(evaluate, "load_trained", lambda *_: model)
        spec = specs.cell(config={}, task="reconstruction", seed=seed, **training)
        setup = ScoringSetup(dataset, specs.scoring(draws=2))
        return evaluate_model(spec, setup, OUTCOME, Path(), CPU), model.sizes

    return run


def test_a_prediction_keeps_its_bounds_beside_its_errors(scored, dataset: Dataset) -> None:
    done, _ = scored()
    names = {score.name for score in done.record.scores}
    assert {"mse_robust", "crps_robust", "neg_elbo"} <= names
    assert {"record", "squared", "crps"} <= done.errors.keys()
    np.testing.assert_array_equal(done.errors["neg_elbo"], 2 * done.errors["count"])


def test_on_a_union_grid_records_are_predicted_in_batches_of_the_trainings_size(
    scored, dataset: Dataset
) -> None:
    assert len(dataset.test) == 8
    assert set(scored(batch_size=3)[1][:-1]) == {8}  # the last batch is of the examples
    assert scored(batch_size=3, grid="union")[1][:3] == [3, 3, 2]


def test_seeds_predict_with_noise_of_their_own(scored) -> None:
    first, again, other = (scored(seed)[0].errors["squared"] for seed in (0, 0, 1))
    assert np.array_equal(first, again) and not np.isclose(first, other).any()


def test_the_record_says_how_the_training_ended_and_where_it_was(scored) -> None:
    record, given = scored()[0].record, dataclasses.asdict(OUTCOME)
    for name in ("ended", "steps", "best_step", "best_validation_loss", "last_validation_loss",
                 "peak_memory_bytes", "parameters"):  # fmt: skip
        assert getattr(record, name) == given[name], name
    assert (record.train_seconds, record.device) == (12.5, "CPU of before")
    assert (record.n_train, record.n_validation, record.n_test) == (28, 4, 8)


def test_the_code_of_a_records_own_functions_is_in_its_hash(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a control, the function that draws it."""
    asked: list[tuple[str, ...]] = []
    monkeypatch.setattr(evaluate, "code_hash", lambda *names: str(asked.append(names)))
    whole = sines([], name="sines", title="S", n=40, length=20, channels=1, seed=0,
                  split=specs.SPLIT)  # fmt: skip
    evaluate_control(
        specs.control("white_noise"), ScoringSetup(whole, specs.scoring(fits=1, epochs=1)), CPU
    )
    assert asked == [("harness.run.evaluate", "metrics.degradations")]
