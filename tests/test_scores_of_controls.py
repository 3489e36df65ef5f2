"""The controls on the real data, against the same rows computed with the released metric code.

Both sides are means over random 80/20 splits, theirs over 5: two such means differ by less than
3 sqrt(s^2/n + s'^2/n') with hardly an exception. The splits, and for the networks the initial
weights, are other ones, so nothing closer can be asked.
"""

import math

import numpy as np
import pytest

from datasets.monash import zscore
from datasets.tsf import read_tsf
from metrics.classification import classify
from metrics.degradations import gaussian, memoriser, white_noise
from metrics.marginal import marginal_literal
from metrics.prediction import persistence, predict

pytestmark = pytest.mark.slow

FILES = {
    "solar": "solar_weekly_dataset.tsf",
    "fred": "fred_md_dataset.tsf",
    "nn5": "nn5_daily_dataset_without_missing_values.tsf",
}
CONTROLS = {"memoriser": memoriser, "gaussian": gaussian, "white_noise": white_noise}
# mean and standard deviation over 5 splits with the released code: marginal, prediction
ROWS = {
    ("solar", "memoriser"): ((0.0354, 0.0044), (0.097, 0.027)),
    ("solar", "gaussian"): ((0.0376, 0.0042), (0.085, 0.014)),
    ("solar", "white_noise"): ((0.0695, 0.0066), (1.79, 1.10)),
    ("fred", "memoriser"): ((0.0234, 0.0054), (0.031, 0.023)),
    ("fred", "gaussian"): ((0.0375, 0.0072), (0.042, 0.045)),
    ("fred", "white_noise"): ((0.0260, 0.0050), (8.1, 3.7)),
    ("nn5", "memoriser"): ((0.0058, 0.0022), (0.386, 0.098)),
    ("nn5", "gaussian"): ((0.0114, 0.0032), (0.413, 0.074)),
    ("nn5", "white_noise"): ((0.0271, 0.0054), (2.13, 0.29)),
}
CLASSIFICATION = {  # of Solar Weekly
    "memoriser": (0.828, 0.098),
    "gaussian": (0.679, 0.087),
    "white_noise": (0.030, 0.056),
}
TEST_SERIES = {"solar": 28, "fred": 22, "nn5": 23}


@pytest.fixture(scope="module")
def series(mirror):
    return {
        name: np.stack([zscore(s) for s in read_tsf(mirror / "monash" / file).series])[..., None]
        for name, file in FILES.items()
    }


def splits(x, n_splits):
    """Yield seed, generator, training and test series of random 80/20 splits."""
    n_test = len(x) - int(0.8 * len(x))
    for seed in range(n_splits):
        rng = np.random.default_rng(seed)
        order = rng.permutation(len(x))
        yield seed, rng, x[order[n_test:]], x[order[:n_test]]


def assert_same_mean(scores, published):
    mean, std = published
    bound = 3 * math.sqrt(np.var(scores, ddof=1) / len(scores) + std**2 / 5)
    assert abs(np.mean(scores) - mean) < bound


@pytest.mark.parametrize(("name", "control"), ROWS)
def test_marginal(series, name, control):
    scores = []
    for _, rng, train, test in splits(series[name], 20):
        assert len(test) == TEST_SERIES[name]
        scores.append(marginal_literal(test, CONTROLS[control](train, len(test), rng)))
    assert_same_mean(scores, ROWS[name, control][0])


@pytest.mark.parametrize(("name", "control"), ROWS)
def test_prediction(series, name, control):
    scores = [
        predict(test, CONTROLS[control](train, len(test), rng), seed=seed).literal
        for seed, rng, train, test in splits(series[name], 5)
    ]
    assert_same_mean(scores, ROWS[name, control][1])


@pytest.mark.parametrize("control", CLASSIFICATION)
def test_classification(series, control):
    scores = [
        classify(test, CONTROLS[control](train, len(test), rng), seed=seed).literal
        for seed, rng, train, test in splits(series["solar"], 5)
    ]
    assert_same_mean(scores, CLASSIFICATION[control])


@pytest.mark.parametrize(("name", "mse"), {"fred": 0.0125, "nn5": 1.59, "solar": 0.82}.items())
def test_persistence_on_all_series(series, name, mse):
    assert persistence(series[name]).mse == pytest.approx(mse, rel=0.05)
