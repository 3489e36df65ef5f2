"""Prediction score: known answers, what the predictor sees, determinism, bad input."""

import numpy as np
import pytest
import torch

from metrics.network import seeded
from metrics.prediction import Predictor, persistence, predict
from tests.metrics.series import ar1, normal


def test_ar1_is_predicted_up_to_its_noise():
    fit = predict(ar1(0, 256, 40), ar1(1, 256, 40), seed=0)
    assert fit.mse == pytest.approx(1 - 0.9**2, rel=0.1)
    assert fit.n_test == 256
    assert fit.literal == pytest.approx(2 * fit.mse, rel=0.1)  # two batches of 128


def test_literal_prediction_is_the_mean_times_the_number_of_batches():
    fit = predict(normal(0, 256), normal(1), seed=0, epochs=1)
    assert fit.literal == pytest.approx(2 * fit.mse)
    fit = predict(normal(0, 128), normal(1), seed=0, epochs=1)
    assert fit.literal == pytest.approx(fit.mse)


def test_only_the_last_10_positions_count():
    rng = np.random.default_rng(0)
    quiet, loud = np.zeros((2, 64, 30, 1))
    quiet[:, :15] = rng.standard_normal((64, 15, 1))  # noise, then 5 + 10 zeros
    loud[:, -10:] = rng.standard_normal((64, 10, 1))
    assert predict(quiet, quiet, seed=0).mse < 0.02
    assert predict(loud, loud, seed=0).mse > 0.5


def test_prediction_looks_at_no_value_from_its_own_step_on():
    predictor = seeded(lambda: Predictor(1, "identity"), 0)
    x = torch.as_tensor(normal(0, n=2, length=30), dtype=torch.float32)
    changed = x.clone()
    changed[:, 25:] += 1
    moved = (predictor(changed) - predictor(x)).abs().amax((0, 2)) > 1e-5
    # outputs belong to inputs 20..29; those before input 25 must not move
    assert moved.tolist() == [False] * 5 + [True] * 5


def test_prediction_depends_on_its_seed_alone():
    arrays = normal(0), normal(1, n=150)
    torch.manual_seed(0)
    first = predict(*arrays, seed=3, epochs=2)
    torch.manual_seed(1)
    assert predict(*arrays, seed=3, epochs=2) == first
    assert predict(*arrays, seed=4, epochs=2) != first


def test_channels_of_a_predictor():
    # three AR(1) channels, the noise of each its own: the mean error is that of one
    real, fake = (np.concatenate([ar1(3 * k + d, 128, 30) for d in range(3)], 2) for k in (0, 1))
    assert predict(real, fake, seed=0).mse == pytest.approx(1 - 0.9**2, rel=0.25)


def test_sigmoid_keeps_predictions_in_the_unit_interval():
    real, fake = np.full((2, 20, 16, 1), 2.0)
    assert predict(real, fake, seed=0, output="sigmoid").mse == pytest.approx(1, abs=0.05)
    assert predict(real, fake, seed=0, output="identity").mse < 0.05


def test_persistence():
    steps = np.arange(30.0).reshape(1, -1, 1)
    assert persistence(steps).mse == 1
    late = np.where(steps < 20, 100 * steps, 0.0)  # the last 10 differences begin at step 19
    assert persistence(late).mse == 1900**2 / 10
    assert persistence(np.where(steps < 19, 100 * steps, 0.0)).mse == 0
    many = persistence(np.repeat(steps, 300, axis=0))  # three batches of 128 at the most
    assert (many.literal, many.mse, many.n_test) == (3, 1, 300)


@pytest.mark.parametrize("score", [lambda x: predict(x, x, seed=0), persistence])
def test_too_short_to_predict(score):
    with pytest.raises(ValueError, match="longer than the 10 predicted steps, found length 10"):
        score(normal(0, length=10))
