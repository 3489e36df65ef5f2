"""Scores of Heston paths: closed forms, a perfect generator, and a walk without memory."""

import math

import numpy as np
import pytest

from datasets import heston
from metrics.heston import heston_scores

# Smallest and largest score of twenty perfect draws, by an independent program.
PERFECT = {
    "return_ks": (0.0006, 0.0027),
    "return_qq": (2e-5, 1.2e-4),
    "kurtosis_ratio": (0.945, 1.014),
    "acf_abs": (0.0007, 0.0021),
    "acf_squared": (0.0009, 0.0019),
    "realised_variance_w1": (0.024, 0.089),
    "terminal_ks": (0.011, 0.026),
}


def paths(seed, n=8192):
    return heston.simulate(n, np.random.default_rng(seed))[..., None]


@pytest.fixture(scope="module")
def unseen():
    return paths([0, 1])


def test_perfect_draws_score_as_an_independent_program_says(unseen):
    inside = 0
    for seed in range(5):
        scores = heston_scores(unseen, paths([1, seed]))
        assert list(scores) == list(PERFECT)
        for name, (low, high) in PERFECT.items():
            widened = (high - low) / 3
            inside += low - widened <= scores[name] <= high + widened
    assert inside >= 30


def test_a_random_walk_has_the_returns_but_no_volatile_times(unseen):
    walk = heston.random_walk(paths([0, 0]), 8192, np.random.default_rng(0))
    scores = heston_scores(unseen, walk)
    low, high = PERFECT["return_ks"]
    assert scores["return_ks"] <= high + (high - low) / 3
    assert scores["acf_abs"] >= 10 * PERFECT["acf_abs"][1]
    assert scores["realised_variance_w1"] >= 10 * PERFECT["realised_variance_w1"][1]


def test_the_same_paths_are_perfect():
    x = paths(0, 50)
    scores = heston_scores(x, x.copy())
    assert scores.pop("kurtosis_ratio") == 1
    assert scores == pytest.approx(dict.fromkeys(scores, 0.0), abs=1e-12)


def from_returns(r):
    start = np.zeros((len(r), 1))
    return 100 * np.exp(np.cumsum(np.concatenate([start, r], axis=1), axis=1))[..., None]


def test_twice_the_returns():
    r = 0.01 * np.random.default_rng(0).standard_normal((300, 60))
    scores = heston_scores(from_returns(r), from_returns(2 * r))
    assert scores["realised_variance_w1"] == pytest.approx(3 * 250 * np.square(r).sum(1).mean())
    quantiles = np.quantile(r, (np.arange(1, 301) - 0.5) / 300)
    assert scores["return_qq"] == pytest.approx(np.sqrt(np.square(quantiles).mean()))
    assert scores["kurtosis_ratio"] == pytest.approx(1)
    assert scores["acf_abs"] == pytest.approx(0, abs=1e-9)
    # of N(0, 1) and N(0, 4): the distribution functions differ most at x with phi(x) = phi(x/2) / 2
    x = math.sqrt(8 * math.log(2) / 3)
    expected = (math.erf(x / math.sqrt(2)) - math.erf(x / 2 / math.sqrt(2))) / 2
    assert scores["return_ks"] == pytest.approx(expected, abs=0.01)


def test_autocorrelation_is_about_each_path_s_own_mean():
    signs = np.random.default_rng(0).choice([-1, 1], size=(40, 60))
    blocks = np.where(np.arange(60) // 30, 0.01, 0.02)  # one calm half, one volatile half
    levels = np.linspace(0.01, 0.02, 40)[:, None] + 1e-4 * np.random.default_rng(1).uniform(
        size=(40, 60)
    )  # a level for each path, and no memory about it
    acf = [1 - lag / 60 - 2 * lag / 60 for lag in range(1, 21)]  # of a step in the middle
    scores = heston_scores(from_returns(signs * blocks), from_returns(signs * levels))
    assert scores["acf_abs"] == pytest.approx(np.mean(acf), abs=0.06)
    assert scores["acf_squared"] == pytest.approx(np.mean(acf), abs=0.06)
    none = heston_scores(from_returns(signs * blocks), np.full((3, 61, 1), 90.0))
    assert none["acf_abs"] == pytest.approx(np.mean(acf), abs=1e-3)  # equal sizes: none


def test_constant_prices_have_no_kurtosis_and_fail_by_every_other_score():
    x = paths(0, 50)
    scores = heston_scores(x, np.full_like(x, 100.0))
    assert math.isnan(scores.pop("kurtosis_ratio"))
    assert all(scores[name] > 10 * high for name, (_, high) in PERFECT.items() if name in scores)


def test_prices_that_are_not_positive_are_scored():
    x = paths(0, 50)
    fake = x.copy()
    fake[0, 30:40] = -5
    scores = heston_scores(x, fake)
    assert all(math.isfinite(value) for value in scores.values())
    assert scores["realised_variance_w1"] > 250 * 2 * math.log(50) ** 2 / 50


def test_unusable_paths():
    x = paths(0, 20)
    with pytest.raises(ValueError, match=r"one channel and 22 points .* 2 channels and length 128"):
        heston_scores(np.repeat(x, 2, axis=2), np.repeat(x, 2, axis=2))
    with pytest.raises(ValueError, match="1 channels and length 21"):
        heston_scores(x[:, :21], x[:, :21])
    with pytest.raises(ValueError, match="real: expected positive prices, found -"):
        heston_scores(x - 200, x)
    bad = x.copy()
    bad[1, 2, 0] = np.nan
    with pytest.raises(ValueError, match=r"fake: .* series 1, step 2, channel 0"):
        heston_scores(x, bad)
