"""What the scores of samples are given, and data that are too small or too plain for them."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from datasets.base import Scaling
from datasets.errors import DataError
from datasets.heston import random_walk, simulate
from datasets.synthetic import load as sines
from harness import cli
from harness.cells import ControlSpec
from harness.config import Protocol
from harness.contract import Model, Shape
from harness.errors import UserError
from harness.present.frame import frame
from harness.run import generation
from harness.run.build import build
from harness.run.evaluate import evaluate_control
from harness.run.generation import FEWEST, ScoringSetup, check_scorable
from harness.run.power import measure_power
from harness.run.streams import numpy_stream
from harness.run.trace import trace
from harness.run.train import train
from harness.run.validate import Validator
from harness.run.view import View
from metrics.classification import classify
from metrics.heston import heston_scores
from metrics.marginal import bootstrap, marginal_robust
from metrics.memorisation import memorisation, span_residual
from metrics.prediction import predict
from metrics.two_sample import resolution, standardise, two_sample
from tests import specs

CPU = torch.device("cpu")


def data(n: int = 40, length: int = 20, split: dict = specs.SPLIT, **changes: np.ndarray):
    made = sines(name="s", title="S", n=n, length=length, channels=1, seed=0, split=split)
    return dataclasses.replace(made, **changes)


def predicting(control: str) -> ControlSpec:
    return specs.control(control).model_copy(
        update={"task": "extrapolation", "protocol": Protocol()}
    )


def test_enough_is_accepted() -> None:
    check_scorable(data())


def test_windows_of_one_series_are_scored_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    made = data()
    given = {}
    for name in ("two_sample", "resolution", "bootstrap"):
        function = getattr(generation, name)

        def spied(*arguments, function=function, name=name, **options):
            given[name] = arguments, options["group"]
            return function(*arguments, **options)

        monkeypatch.setattr(generation, name, spied)
    windows = dataclasses.replace(made, group=np.arange(40) // 2)
    setup = ScoringSetup(windows, specs.scoring())
    scores, errors = generation.score(setup, setup.test)
    units = len(np.unique(setup.group))
    assert FEWEST <= units < len(setup.test)
    for name in ("two_sample", "bootstrap"):
        np.testing.assert_array_equal(given[name][1], setup.group)
    np.testing.assert_array_equal(errors["group"], setup.group)
    np.testing.assert_array_equal(given["resolution"][1], windows.group)
    assert given["resolution"][0][1:3] == (units, units)
    assert "p_all" in {score.name for score in scores}


def test_windows_of_too_few_series_are_not_tested() -> None:
    one = dataclasses.replace(data(), group=np.zeros(40, int))
    setup = ScoringSetup(one, specs.scoring())
    scores, _ = generation.score(setup, setup.test)
    names = {score.name for score in scores}
    assert "marginal_robust" in names and not any(name.startswith("p_a") for name in names)
    assert "found 0" in str(measure_power(setup).reason)


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


@pytest.mark.parametrize("sizes", [{"n": 10}, {"length": 8}])
def test_they_are_refused_before_the_training(
    sizes: dict, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    data(**sizes).save(tmp_path / "data.npz")
    cell = specs.write(specs.cell(), tmp_path / "cell")
    with pytest.raises(SystemExit) as ended:
        cli.main(["train", str(cell), "--data", str(tmp_path / "data.npz")])
    assert ended.value.code == 1
    error = capsys.readouterr().err
    assert error.startswith("error: data set s, generation: expected") and error.count("\n") == 1
    assert [path.name for path in cell.iterdir()] == ["cell.json"]


def test_a_constant_channel() -> None:
    x = data().x.copy()
    x[data().test] = 2
    with pytest.raises(UserError, match="channel 0 constant at 2"):
        check_scorable(data(x=x))


def test_values_whose_squares_overflow() -> None:
    x = data().x.copy()
    x[0, 3] = 1e30
    with pytest.raises(DataError, match="expected finite values in x, below 1e15, found 1"):
        data(x=x)


def test_power_and_trace_refuse_them_too(tmp_path: Path) -> None:
    setup = ScoringSetup(data(n=10), specs.scoring())
    with pytest.raises(UserError, match="expected at least 3 test series, found 2"):
        measure_power(setup)
    with pytest.raises(UserError, match="expected at least 3 test series, found 2"):
        trace(specs.cell(), setup, [1], tmp_path, CPU)
    assert not list(tmp_path.iterdir())


def test_power_of_a_test_part_that_is_most_of_the_data() -> None:
    made = data(n=20, split={"seed": 0, "fractions": [0.3, 0.0, 0.7]})
    setup = ScoringSetup(made, specs.scoring(splits=1, permutations=19))
    assert measure_power(setup).n == 10


def test_samples_of_a_control_that_are_not_finite(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generation, "load", lambda _: lambda train, n, rng: train[:n] * np.nan)
    setup = ScoringSetup(data(), specs.scoring())
    record = evaluate_control(specs.control("white_noise"), setup, CPU).record
    assert (record.status, record.reason) == ("diverged", "sampling: 8 of 8 not finite")


def test_a_model_of_another_number_of_samples() -> None:
    class Wrong(Model):
        def optimisers(self) -> dict:
            return {}

        def sample(self, n, t, generator):
            return torch.zeros(n + 1, len(t), 1)

    wrong = Wrong(None, Shape(20, 1))
    message = r"LS4: sample: expected shape \(8, 20, 1\), found \(9, 20, 1\)"
    with pytest.raises(UserError, match=message):
        generation.draw(wrong, specs.cell(), data(), CPU)


def test_test_records_with_nothing_to_score() -> None:
    made = data()
    mask, x = made.mask.copy(), made.x.copy()
    mask[made.test, 8:], x[made.test, 8:] = False, 0  # nothing in the second half of the time
    setup = ScoringSetup(data(x=x, mask=mask), specs.scoring(draws=2))
    record = evaluate_control(predicting("mean"), setup, CPU).record
    assert (record.status, record.reason) == ("done", "no test record has a value to score")
    assert frame({Path("cell"): record})["score"].tolist() == ["mse_validation"]


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


def test_a_value_that_most_resamples_lack_scores_like_any() -> None:
    made = data()
    x = np.concatenate([made.x, np.zeros_like(made.x)], axis=-1)
    x[made.test[0], 3, 1] = 1
    setup = ScoringSetup(data(x=x, mask=np.ones_like(x, bool)), specs.scoring(fits=1, epochs=1))
    scores, _ = generation.score(setup, x[made.train[:8]])
    known = {score.name: score for score in scores}
    assert known["marginal_robust"].value is not None
    assert known["marginal_robust"].spread is known["wasserstein"].spread is None


def test_no_validation_series_no_validation_loss(tmp_path: Path) -> None:
    made = data(split={"seed": 0, "fractions": [0.8, 0.0, 0.2]})
    model = build(specs.cell(), made, CPU)
    assert Validator(View(made), CPU, 4).losses(model) is None
    outcome = train(specs.cell(validate_every=1, patience=2), made, tmp_path, CPU)
    assert (outcome.status, outcome.best_validation_loss) == ("done", None)


@pytest.mark.parametrize("control", ["mean", "gp"])
def test_nor_a_validation_error_of_controls(control: str) -> None:
    made = data(split={"seed": 0, "fractions": [0.8, 0.0, 0.2]})
    setup = ScoringSetup(made, specs.scoring(draws=2, shares=[]))
    record = evaluate_control(predicting(control), setup, CPU).record
    names = {score.name for score in record.scores}
    assert record.status == "done" and "mse_micro" in names and "mse_validation" not in names


def test_no_test_series_nothing_to_predict() -> None:
    made = data(split={"seed": 0, "fractions": [0.8, 0.2, 0.0]})
    with pytest.raises(UserError, match="data set s: expected test series, found none"):
        evaluate_control(predicting("mean"), ScoringSetup(made, specs.scoring()), CPU)


def test_a_size_that_no_model_can_have_gets_one_line() -> None:
    with pytest.raises(UserError, match=r"^config/models/ls4.yaml, data set s: [^\n]+$"):
        build(specs.cell(config=specs.SMALL_LS4 | {"state": 3}), data(), CPU)


def test_scores_get_the_series_seeds_and_settings_that_they_are_for() -> None:
    made = data(length=40)
    settings = {"season": 5, "standardised": True, "evaluator_series": 6}
    scoring = specs.scoring(fits=2, epochs=1)
    description = scoring.dataset.model_copy(update=settings)
    setup = ScoringSetup(made, scoring.model_copy(update={"dataset": description}))
    real, train = setup.test, setup.train
    noise = np.random.default_rng(0).standard_normal((9, 40, 1))  # outside the training span
    samples = (0.7 * train[:9] + 0.1 * noise).astype(np.float32)
    known = {score.name: score for score in generation.score(setup, samples)[0]}

    seeds = (0, 1, 1000)  # of the robust scores, and of the literal ones
    *classifiers, literal_classifier = (
        classify(real[:6], samples[:6], seed=seed, epochs=1) for seed in seeds
    )
    *predictors, literal_predictor = (
        predict(real[:6], samples[:6], seed=seed, epochs=1) for seed in seeds
    )
    mse = [fit.mse for fit in predictors]
    tests = two_sample(real, samples, train, season=5)
    standardised = standardise(samples).astype(np.float32)
    copies = memorisation(real, samples, train)
    expected = {
        "classification_literal": literal_classifier.literal,
        "classification_robust": np.mean([fit.bce for fit in classifiers]),
        "prediction_literal": literal_predictor.literal,
        "prediction_robust": np.mean(mse),
        "p_all": tests.p_all,
        "p_all_standardised": two_sample(real, standardised, train, season=5).p_all,
        "nearest_train_generated": copies.generated,
        "nearest_train_test": copies.test,
        "span_residual": span_residual(samples, train).mean(),
        "span_residual_test": span_residual(real, train).mean(),
    }
    limits = resolution(made.x, len(real), len(samples), train, season=5)
    expected |= {f"effect_{name}": value for name, value in tests.effect(limits).items()}
    for name, value in expected.items():
        assert known[name].value == pytest.approx(value), name
    assert known["prediction_robust"].spread == pytest.approx(np.std(mse, ddof=1))


def test_own_scores_and_controls_are_in_the_unit_before_scaling(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    prices = simulate(40, np.random.default_rng(0), length=24)[..., None]
    scaling = Scaling(90.0, 5.0)
    made = data(length=24, x=scaling.apply(prices))
    made.meta["scaling"] = dataclasses.asdict(scaling)
    setup = ScoringSetup(made, specs.scoring("heston"))
    own = {score.name: score.value for score in generation.own_scores(setup, setup.train[:8])}
    expected = heston_scores(prices[made.test], prices[made.train[:8]])
    assert own == pytest.approx(expected, rel=1e-3)

    monkeypatch.setattr(generation, "score", lambda *_: ([], {}))
    walk = specs.control("gaussian").model_copy(
        update={"model": "random_walk", "draw": "datasets.heston:random_walk"}
    )
    samples, *_ = generation.control_scores(walk, setup)
    drawn = random_walk(prices[made.train], len(made.test), numpy_stream(walk, "control"))
    assert samples is not None
    np.testing.assert_allclose(scaling.undo(samples), drawn, rtol=1e-4)
