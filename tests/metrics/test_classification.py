"""Classification score: known answers, its split, determinism, bad input."""

import math

import numpy as np
import pytest
import torch

from metrics.classification import ClassificationFit, _auc, _split, classify
from tests.metrics.series import normal


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
    assert fit == ClassificationFit(fit.bce, fit.bce, accuracy=1.0, auc=1.0, n_test=26)


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
