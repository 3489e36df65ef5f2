"""Classification and prediction: the network's definition, known answers, determinism."""

import math

import numpy as np
import pytest
import torch

from metrics import network
from metrics.classification import ClassificationFit, Classifier, _auc, _split, classify
from metrics.network import Trunk, literal_and_mean, seeded
from metrics.prediction import Predictor, persistence, predict


def normal(seed, n=20, length=16, channels=1):
    return np.random.default_rng(seed).standard_normal((n, length, channels))


def ar1(seed, n, length, phi=0.9):
    """Stationary AR(1) series of unit variance: the noise has variance 1 - phi^2."""
    rng = np.random.default_rng(seed)
    x = np.empty((n, length, 1))
    x[:, 0] = rng.standard_normal((n, 1))
    for k in range(1, length):
        x[:, k] = phi * x[:, k - 1] + math.sqrt(1 - phi**2) * rng.standard_normal((n, 1))
    return x


# ------------------------------------------------------------------------------------------------
# The network


def test_size_of_the_network():
    # The released network has 1425 trainable numbers, 256 of them a B that it never uses.
    assert sum(p.numel() for p in Classifier(1).parameters()) == 1425 - 256
    assert sum(p.numel() for p in Predictor(1, "identity").parameters()) == 1425 - 256


def test_initial_systems():
    ssm = Trunk(1).s4.ssm
    A = torch.complex(-ssm.log_A_real.exp(), ssm.A_imag)
    expected = torch.complex(torch.full((8,), -0.5), torch.pi * torch.arange(8.0))
    torch.testing.assert_close(A, expected.expand(16, 8))
    torch.testing.assert_close(torch.view_as_complex(ssm.C), torch.ones(16, 8, dtype=A.dtype))


@pytest.mark.parametrize("length", [10, 11, 64])
def test_last_positions_are_those_of_the_whole_sequence(length):
    trunk = seeded(lambda: Trunk(3), 0)
    x = torch.as_tensor(normal(0, n=4, length=length, channels=3), dtype=torch.float32)
    torch.testing.assert_close(trunk.last(x, 10), trunk(x)[:, -10:], rtol=1e-4, atol=1e-5)


def test_weights_depend_on_the_seed_and_leave_the_global_stream_alone():
    before = torch.random.get_rng_state()
    first, again, other = (seeded(lambda: Trunk(1), seed).encoder.weight for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(before, torch.random.get_rng_state())


def test_literal_is_the_sum_and_the_mean_is_the_mean():
    losses = torch.arange(300.0)
    batches = losses[:128].mean() + losses[128:256].mean() + losses[256:].mean()
    assert literal_and_mean(losses) == pytest.approx((batches.item(), losses.mean().item()))
    with pytest.raises(ValueError, match="found a test loss of nan"):
        literal_and_mean(torch.tensor([0.0, torch.nan]))


def test_the_parts_of_a_batch_do_not_change_its_gradient(monkeypatch):
    arrays = normal(0, n=40), normal(1, n=40) * 2
    whole, parts = [], []
    for part, results in ((1000, whole), (7, parts)):
        monkeypatch.setattr(network, "PART", part)
        results += [classify(*arrays, seed=0, epochs=3).bce, predict(*arrays, seed=0, epochs=3).mse]
    assert whole == pytest.approx(parts, rel=1e-4)


# ------------------------------------------------------------------------------------------------
# Classification


def test_identical_distributions_cannot_be_told_apart():
    fit = classify(normal(0, 512, 8), normal(1, 512, 8), seed=0, epochs=30)
    assert fit.n_test == 205
    assert fit.bce == pytest.approx(math.log(2), abs=0.05)
    assert fit.auc == pytest.approx(0.5, abs=0.12)  # 3 standard errors
    # 205 test series are two batches, of 128 and 77
    assert fit.literal == pytest.approx(2 * fit.bce, rel=0.05) and fit.literal != 2 * fit.bce


def test_a_constant_is_told_from_noise():
    fit = classify(np.zeros((64, 16, 1)), normal(1, 64), seed=0)
    assert fit.bce < 0.05
    assert fit == ClassificationFit(fit.bce, fit.bce, accuracy=1, auc=1, n_test=26)


def test_generated_series_are_the_positive_class():
    logits, generated = np.array([-1.0, 0.0, 1.0]), np.array([False, False, True])
    assert _auc(logits, generated) == 1 and _auc(-logits, generated) == 0


def test_auc_counts_pairs_and_ties_half():
    generated = np.array([False, False, True, True])
    # pairs (real, generated): (0, 1) right, (0, 2) right, (1, 1) tie, (1, 2) right
    assert _auc(np.array([0.0, 1.0, 1.0, 2.0]), generated) == 3.5 / 4


def test_classification_depends_on_its_seed_alone():
    arrays = normal(0), normal(1) + 0.5
    torch.manual_seed(0)
    first = classify(*arrays, seed=3, epochs=2)
    torch.manual_seed(1)
    assert classify(*arrays, seed=3, epochs=2) == first
    assert classify(*arrays, seed=4, epochs=2) != first


def test_channels_of_a_classifier():
    real, fake = normal(0, 40, 16, 3), normal(1, 40, 16, 3)
    fake[..., 2] += 4  # the difference lies in the last channel
    assert classify(real, fake, seed=0).accuracy == 1


@pytest.mark.parametrize(("n", "m", "n_test"), [(22, 22, 9), (23, 23, 10), (28, 28, 12), (3, 3, 2)])
def test_sizes_of_the_split(n, m, n_test):
    generated = torch.arange(n + m) >= n
    for seed in range(20):
        train, test = _split(generated, torch.Generator().manual_seed(seed))
        assert len(test) == n_test
        assert sorted([*train.tolist(), *test.tolist()]) == list(range(n + m))
        assert 0 < generated[test].sum() < n_test  # both kinds: AUC is defined


def test_too_few_series_to_classify():
    with pytest.raises(ValueError, match=r"at least 3 series .* found 20 real and 2 generated"):
        classify(normal(0), normal(1, n=2), seed=0)


# ------------------------------------------------------------------------------------------------
# Prediction


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


@pytest.mark.parametrize("score", [classify, predict])
def test_values_that_are_not_finite(score):
    bad = normal(1)
    bad[2, 3, 0] = np.nan
    with pytest.raises(ValueError, match=r"fake: .* series 2, step 3, channel 0"):
        score(normal(0), bad, seed=0)
    # finite in double precision only
    with pytest.raises(ValueError, match="single precision"):
        score(normal(0), 1e200 * normal(1), seed=0, epochs=1)
