"""What the two trained scores share: the network and its training, against stored scores."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from datasets.monash import zscore
from datasets.tsf import read_tsf
from metrics import network
from metrics.classification import Classifier, classify
from metrics.degradations import gaussian
from metrics.network import Trunk, literal_and_mean, seeded
from metrics.prediction import Predictor, predict
from tests.metrics.series import normal, walks

CASES = json.loads((Path(__file__).parent / "network.json").read_text())["cases"]


def assert_scores(case, real, fake):
    for name, score in (("classification", classify), ("prediction", predict)):
        fit = score(real, fake, seed=case["seed"])
        for form, value in case[name].items():
            assert getattr(fit, form) == pytest.approx(value, rel=1e-3), f"{name}, {form}"


@pytest.mark.parametrize("case", [case for case in CASES if case["data"] == "walks"])
def test_scores_of_made_up_series_stay_as_they_are(case):
    assert_scores(case, *walks(case["seed"], case["channels"]))


@pytest.mark.parametrize("case", [case for case in CASES if case["data"] == "solar_weekly"])
def test_scores_of_real_series_stay_as_they_are(case, mirror):
    file = read_tsf(mirror / "monash" / "solar_weekly_dataset.tsf")
    series = np.stack([zscore(s) for s in file.series])[..., None]
    rng = np.random.default_rng(case["seed"])
    order, n_test = rng.permutation(len(series)), len(series) - int(0.8 * len(series))
    train, test = series[order[n_test:]], series[order[:n_test]]
    assert_scores(case, test, gaussian(train, n_test, rng))


def test_size_of_the_network():
    # The released network has 1425 trainable numbers, 256 of them a B that it never uses.
    assert sum(p.numel() for p in Classifier(1).parameters()) == 1425 - 256
    assert sum(p.numel() for p in Predictor(1, "identity").parameters()) == 1425 - 256


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


def test_dynamics_learn_more_slowly():
    classifier = Classifier(1)
    rest, dynamics = network._groups(classifier)
    grouped = [id(p) for group in (rest, dynamics) for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in classifier.parameters())
    assert len(dynamics["params"]) == 3 and dynamics["lr"] == 0.001
    assert any(p is classifier.trunk.s4.C for p in rest["params"])


@pytest.mark.parametrize("score", [classify, predict])
def test_values_that_are_not_finite(score):
    bad = normal(1)
    bad[2, 3, 0] = np.nan
    with pytest.raises(ValueError, match=r"fake: .* series 2, step 3, channel 0"):
        score(normal(0), bad, seed=0)
    # finite in double precision only
    with pytest.raises(ValueError, match="single precision"):
        score(normal(0), 1e200 * normal(1), seed=0, epochs=1)
