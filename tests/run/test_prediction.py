"""Scores of predictions: by hand from the data set, whatever the batches, and what is kept."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from datasets.base import Dataset
from datasets.synthetic import load as sines
from harness.contract import Batch, Diverged, Model, NegElbo, Prediction, Shape
from harness.errors import UserError
from harness.records import Score
from harness.run import prediction
from harness.run.prediction import Predict
from harness.run.view import View, hidden_rows
from metrics.crps import crps_gaussian
from tests import specs

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    """Irregular sines with named channels, four records a group."""
    made = sines([], name="s", title="S", n=40, length=20, channels=2, seed=1, observed=0.4,
                 split=specs.SPLIT)  # fmt: skip
    meta = made.meta | {"channels": ["age", "rate"]}
    return dataclasses.replace(made, meta=meta, group=np.arange(40) // 4)


def constant(means: Sequence[float], std: float = 0.0) -> Predict:
    """Predict the same draws everywhere, and the same deviation."""

    def predict(records: np.ndarray, batch: Batch, _: int, noise: torch.Generator) -> Prediction:
        draws = torch.tensor(means)[:, None, None, None].expand(-1, *batch.x.shape)
        return Prediction(draws, torch.tensor(std))

    return predict


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def scored(
    view: View, predict: Predict, *descriptors: str, shares: Sequence[float] = ()
) -> tuple[dict[str, Score], dict[str, np.ndarray]]:
    """Return scores by name, and the errors of single records; batches are of three records."""
    settings = specs.scoring(shares=list(shares)).evaluation
    scores, errors = prediction.score(view, predict, settings, 3, generator(), descriptors)
    return {score.name: score for score in scores}, errors


def of_test(dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Return values and mask of the test records, in their order."""
    return dataset.x[dataset.test].astype(np.float64), dataset.mask[dataset.test]


def ls4_average(entries: np.ndarray, mask: np.ndarray) -> float:
    return float(((entries * mask).sum(1) / np.maximum(mask.sum(1), 1)).mean())


# --- scores --------------------------------------------------------------------------------------


def test_scores_of_two_draws(dataset: Dataset) -> None:
    """Their mean is the point forecast, the first one that of the literal scores."""
    scores, _ = scored(View(dataset, "reconstruction"), constant([1.0, -0.5]))
    x, mask = of_test(dataset)
    known = x[mask]
    first, second = np.abs(1.0 - x), np.abs(-0.5 - x)
    expected = {
        "mse_micro": np.square(0.25 - known).mean(),
        "mse_ls4": ls4_average(np.square(0.25 - x), mask),
        "mse_draw_micro": np.square(first[mask]).mean(),
        "crps_micro": (first + second)[mask].mean() / 2 - 1.5 / 2,  # of two draws 1.5 apart
        "crps_literal": ls4_average(first, mask),
    }
    for name, value in expected.items():
        assert scores[name].value == pytest.approx(value, rel=1e-6), name
        assert scores[name].n == len(dataset.test)


def test_one_gaussian_is_scored_exactly(dataset: Dataset) -> None:
    scores, _ = scored(View(dataset, "reconstruction"), constant([0.3], 0.5))
    x, mask = of_test(dataset)
    crps = crps_gaussian(x[mask], np.full(mask.sum(), 0.3), np.full(mask.sum(), 0.5))
    assert scores["crps_micro"].value == pytest.approx(crps.mean(), rel=1e-6)
    inside = np.abs(x[mask] - 0.3) <= 1.2815516 * 0.5  # the normal law's 90 % quantile
    assert scores["coverage_80"].value == pytest.approx(inside.mean())


def test_many_draws_with_noise_are_scored_like_the_gaussian_they_are_from(dataset: Dataset) -> None:
    view = View(dataset, "reconstruction")
    one, many = (scored(view, constant(n * [0.3], 0.5))[0] for n in (1, 1000))
    for name in ("crps_micro", "coverage_80"):
        assert many[name].value == pytest.approx(one[name].value, rel=0.02)


def test_records_on_a_union_come_in_their_own_order(dataset: Dataset) -> None:
    """Sorted by length, short records would share a short union, unlike in training."""
    test = dataset.test
    length = dataset.mask[test].any(-1).sum(1)
    assert (np.diff(length) < 0).any(), "the data set does not tell the two orders apart"
    union = list(prediction.test_batches(View(dataset, "reconstruction", grid="union"), 2))
    assert np.array_equal(np.concatenate(union), test) and len(union[0]) == 2
    own = np.concatenate(list(prediction.test_batches(View(dataset, "reconstruction"), 2)))
    assert np.array_equal(own, test[np.argsort(length, kind="stable")])


def test_the_first_row_of_a_record_counts_as_known(dataset: Dataset) -> None:
    scores, _ = scored(View(dataset, "reconstruction"), constant([1.0]))
    x, mask = of_test(dataset)
    errors = np.square(1.0 - x)
    for record, rows in zip(errors, mask.any(-1), strict=True):
        record[rows.argmax()] = 0
    expected = ls4_average(errors, mask)
    assert scores["mse_first_row_given"].value == pytest.approx(expected, rel=1e-6)


def test_robust_scores_leave_descriptors_out(dataset: Dataset) -> None:
    scores, errors = scored(View(dataset, "reconstruction"), constant([1.0]), "age")
    x, mask = of_test(dataset)
    squares = np.square(1.0 - x)
    for name, channel in (("mse_descriptors", 0), ("mse_robust", 1)):
        expected = squares[..., channel][mask[..., channel]].mean()
        assert scores[name].value == pytest.approx(expected, rel=1e-6)
    assert scores["mse_micro"].value == pytest.approx(squares[mask].mean(), rel=1e-6)
    assert errors["squared"].sum() == pytest.approx((squares * mask)[..., 1].sum(), rel=1e-6)
    with pytest.raises(UserError, match="expected channels among age, rate, found weight"):
        scored(View(dataset, "reconstruction"), constant([1.0]), "weight")


def test_other_shares_of_hidden_points_are_scored_on_those(dataset: Dataset) -> None:
    view = View(dataset, "interpolation")
    scores, _ = scored(view, constant([1.0]), shares=[0.2, 0.8])
    x, mask = of_test(dataset)
    for name, share in (("", 0.5), ("_hidden_20", 0.2), ("_hidden_80", 0.8)):
        hidden = hidden_rows(mask.any(-1), dataset.test, share, view.protocol.seed)[..., None]
        expected = np.square(1.0 - x[mask & hidden]).mean()
        assert scores[f"mse_micro{name}"].value == pytest.approx(expected, rel=1e-6)


def test_errors_of_single_records(dataset: Dataset) -> None:
    _, errors = scored(View(dataset, "reconstruction"), constant([1.0]))
    records = errors["record"]
    assert np.array_equal(np.sort(records), dataset.test) and (np.diff(records) < 0).any()
    assert dataset.group is not None and np.array_equal(errors["group"], dataset.group[records])
    x, mask = dataset.x[records].astype(np.float64), dataset.mask[records]
    assert np.array_equal(errors["count"], mask.sum((1, 2)))
    for name, power in (("squared", 2), ("crps", 1)):
        expected = (np.abs(1.0 - x) ** power * mask).sum((1, 2))
        np.testing.assert_allclose(errors[name], expected, rtol=1e-6)


@pytest.mark.parametrize("part", ["mean", "std"])
def test_a_prediction_that_is_not_finite_has_diverged(dataset: Dataset, part: str) -> None:
    bad = constant([np.nan]) if part == "mean" else constant([0.0], np.inf)
    with pytest.raises(Diverged, match="prediction: not finite"):
        scored(View(dataset, "extrapolation"), bad)


def test_the_validation_error_is_of_the_validation_records(dataset: Dataset) -> None:
    view = View(dataset, "reconstruction")
    found = prediction.validation_error(view, constant([1.0, 0.0]), 3, generator())
    known = dataset.x[dataset.validation][dataset.mask[dataset.validation]].astype(np.float64)
    assert found.value == pytest.approx(np.square(0.5 - known).mean(), rel=1e-6)


def test_controls_learn_from_the_training_records_alone(dataset: Dataset) -> None:
    predict = prediction.control_predictor(View(dataset, "extrapolation"), "mean")
    batch = View(dataset, "extrapolation").batch(dataset.test)
    mean = predict(dataset.test, batch, 1, generator()).mean[0, 0, 0].numpy()
    x, mask = dataset.x[dataset.train], dataset.mask[dataset.train]
    expected = [x[..., d][mask[..., d]].mean() for d in range(2)]
    np.testing.assert_allclose(mean, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("mean", "std", "message"),
    [
        ((4, 13, 2), torch.ones(1), r"a mean of shape \(S, 4, 13, 2\), found \(4, 13, 2\)"),
        (
            (1, 4, 13, 2),
            torch.ones(3),
            r"a std that broadcasts to \(1, 4, 13, 2\), found \(3,\)",
        ),
        (
            (1, 4, 13, 2),
            torch.ones(5, 4, 13, 2),
            r"a std that broadcasts to \(1, 4, 13, 2\), found \(5, 4, 13, 2\)",
        ),
        ((1, 4, 13, 2), torch.tensor(-0.5), "a std of at least 0, found -0.5"),
    ],
)
def test_predictions_of_another_shape_and_negative_deviations_are_refused(
    dataset: Dataset, mean: tuple[int, ...], std: torch.Tensor, message: str
) -> None:
    class Wrong(Bounded):
        def predict(self, batch: Batch, n_samples: int, generator: torch.Generator) -> Prediction:
            return Prediction(torch.zeros(mean), std)

    predict = prediction.predictor(Wrong(Bounded.Config(), Shape(20, 2)), CPU)
    indices = dataset.test[:4]
    batch = View(dataset, "reconstruction").batch(indices)
    with pytest.raises(UserError, match=f"Wrong: predict: expected {message}"):
        predict(indices, batch, 1, generator())


# --- evidence bounds -----------------------------------------------------------------------------


class Bounded(Model):
    """A record's KL is 3 nats, its likelihood term 10 nats a value."""

    tasks = frozenset({"reconstruction"})

    @dataclass(frozen=True)
    class Config:
        sigma: float = 0.5

    def optimisers(self) -> dict:
        return {}

    def neg_elbo(self, batch: Batch, generator: torch.Generator) -> NegElbo:
        n = batch.target.sum((1, 2))
        return NegElbo(torch.full_like(n, 3.0), 10 * n)


def test_bounds_are_means_over_records_and_values(dataset: Dataset) -> None:
    view = View(dataset, "reconstruction")
    model = Bounded(Bounded.Config(), Shape(20, 2))
    scores, bounds = prediction.evidence(view, model, 3, CPU, generator())
    found = {score.name: score for score in scores}
    n = of_test(dataset)[1].sum((1, 2)).astype(np.float64)
    floor = np.log(0.5) + 0.5 * np.log(2 * np.pi)
    assert len(set(n)) > 1
    for name, value in {
        "neg_elbo": 3 + 10 * n.mean(), "neg_elbo_kl": 3, "neg_elbo_nll": 10 * n.mean(),
        "neg_elbo_floor": floor * n.mean(), "neg_elbo_per_value": 10 + 3 / n.mean(),
        "neg_elbo_sigma": 0.5,
    }.items():  # fmt: skip
        assert found[name].value == pytest.approx(value), name
    assert found["neg_elbo"].spread == pytest.approx(10 * n.std(ddof=1) / np.sqrt(len(n)))
    _, errors = scored(view, constant([0.0]))
    np.testing.assert_allclose(bounds["neg_elbo"], 3 + 10 * errors["count"])


def test_a_bound_without_a_fixed_deviation_has_no_floor(dataset: Dataset) -> None:
    @dataclass(frozen=True)
    class Config:
        width: int = 1

    view = View(dataset, "reconstruction")
    fixed, free = (
        prediction.evidence(view, Bounded(config, Shape(20, 2)), 3, CPU, generator())[0]
        for config in (Bounded.Config(), Config())
    )
    assert free == [s for s in fixed if s.name not in ("neg_elbo_floor", "neg_elbo_sigma")] != fixed


def test_a_model_without_a_bound_has_none(dataset: Dataset) -> None:
    class Unbounded(Bounded):
        neg_elbo = Model.neg_elbo

    model = Unbounded(Unbounded.Config(), Shape(20, 2))
    view = View(dataset, "reconstruction")
    assert prediction.evidence(view, model, 3, CPU, generator()) == ([], {})


# --- examples ------------------------------------------------------------------------------------


def test_examples_are_of_long_records_with_a_band_of_90_percent(dataset: Dataset) -> None:
    view = View(dataset, "interpolation")
    one = prediction.examples(view, constant([0.3], 0.5), 1, generator())
    many = prediction.examples(view, constant(1000 * [0.3], 0.5), 1000, generator())
    length = dataset.mask.any(-1).sum(1)
    assert len(one["records"]) == prediction.EXAMPLES
    assert (length[one["records"]] >= np.median(length[dataset.test])).all()
    np.testing.assert_allclose(one["high"] - 0.3, 0.5 * 1.645, rtol=1e-3)
    np.testing.assert_allclose(0.3 - one["low"], 0.5 * 1.645, rtol=1e-3)
    for name in ("low", "high"):
        np.testing.assert_allclose(many[name], one[name], atol=0.15)
    assert (one["shown"].any() and one["target"].any()) and not (one["shown"] & one["target"]).any()
