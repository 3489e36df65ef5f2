"""Marginal scores: reference vectors, closed forms, invariances, bad input."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metrics.marginal import (
    bootstrap,
    marginal_literal,
    marginal_per_step,
    marginal_robust,
    wasserstein,
)

CASES = json.loads((Path(__file__).parent / "marginal.json").read_text())["cases"]


def reference_arrays(case):
    """Rebuild the arrays of a case as the file's `how` line says."""
    rng = np.random.default_rng(case["seed"])
    real = rng.standard_normal((case["n_real"], case["L"], case["D"]))
    fake = rng.standard_normal((case["n_fake"], case["L"], case["D"]))
    match case["kind"]:
        case "shift":
            fake = fake * 0.8 + 0.3
        case "walk":
            real, fake = (a.cumsum(1) / np.sqrt(case["L"]) for a in (real, fake))
        case "unit":
            real, fake = 1 / (1 + np.exp(-real)), 1 / (1 + np.exp(-2 * fake))
        case "far":
            fake = fake + 1000
        case kind:
            assert kind == "same"
    return real.astype(np.float32), fake.astype(np.float32)


def normal(seed, n=20, length=30, channels=2):
    return np.random.default_rng(seed).standard_normal((n, length, channels))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["kind"])
def test_literal_is_the_released_score(case):
    assert marginal_literal(*reference_arrays(case)) == pytest.approx(case["marginal"], rel=1e-5)


def test_literal_is_twice_the_total_variation_over_the_range():
    real = normal(0, channels=1)
    low, high = real.min(), real.max()
    fake = np.clip(0.5 * normal(1, channels=1), 0.99 * low, 0.99 * high)
    p, q = (np.histogram(a, 50, (low, high))[0] / a.size for a in (real, fake))
    assert marginal_literal(real, fake) == pytest.approx(np.abs(p - q).sum() / (high - low))
    assert marginal_robust(real, fake) == pytest.approx(np.abs(p - q).sum() / 2)


def test_real_against_itself():
    real = normal(0)
    # the two ends of each channel's range lie on edges, hence in no bin of the literal score
    span = np.ptp(real, axis=(0, 1))
    assert marginal_literal(real, real) == pytest.approx(np.mean(2 / (20 * 30) / span))
    assert marginal_robust(real, real) == 0
    assert wasserstein(real, real) == 0


def test_far_away_is_one_over_the_range_and_total_variation_one():
    real = normal(0, channels=1)
    assert marginal_literal(real, real + 1000) == pytest.approx(1 / np.ptp(real))
    assert marginal_robust(real, real + 1000) == pytest.approx(1)
    assert wasserstein(real, real + 1000) == pytest.approx(1000)


@given(scale=st.floats(0.01, 100), shift=st.floats(-100, 100), seed=st.integers(0, 10))
def test_units(scale, shift, seed):
    real, fake = normal(seed), 0.7 * normal(seed + 100) + 0.2
    scaled = (scale * real + shift, scale * fake + shift)
    literal, robust, w1 = (s(real, fake) for s in (marginal_literal, marginal_robust, wasserstein))
    assert marginal_literal(*scaled) == pytest.approx(literal / scale, rel=1e-6)
    assert marginal_robust(*scaled) == pytest.approx(robust, rel=1e-6)
    assert wasserstein(*scaled) == pytest.approx(scale * w1, rel=1e-6)


@pytest.mark.parametrize("score", [marginal_literal, marginal_robust, wasserstein])
def test_blind_to_the_order_of_series_and_time_but_not_of_channels(score):
    real, fake = (normal(seed) + np.array([0.0, 3.0]) for seed in (0, 1))
    shuffled = np.random.default_rng(2).permutation(fake.reshape(-1, 2)).reshape(fake.shape)
    assert score(real, shuffled) == pytest.approx(score(real, fake), abs=1e-12)
    assert score(real, fake[..., ::-1]) > 2 * score(real, fake)


def test_channels_are_averaged():
    real, fake = normal(0), normal(1)
    for score in (marginal_literal, marginal_robust, wasserstein):
        single = [score(real[..., [d]], fake[..., [d]]) for d in (0, 1)]
        assert score(real, fake) == pytest.approx(np.mean(single))


def test_mass_outside_costs_as_much_as_mass_in_a_wrong_bin_only_in_the_robust_score():
    real = np.linspace(0, 1, 1001).reshape(1, -1, 1)
    outside = np.full_like(real, 2.0)
    assert marginal_robust(real, outside) == pytest.approx(1)
    assert marginal_literal(real, outside) == pytest.approx(1)
    inside = np.full_like(real, 0.01)  # everything in the first bin, which holds 1/50 of the real
    assert marginal_robust(real, inside) == pytest.approx(0.98, abs=1e-3)
    assert marginal_literal(real, inside) == pytest.approx(1.96, abs=2e-3)


def test_wasserstein_of_different_numbers_of_series():
    real = np.zeros((3, 4, 1))
    fake = np.concatenate([np.zeros((3, 4, 1)), np.ones((1, 4, 1))])
    assert wasserstein(real, fake) == pytest.approx(0.25)


def test_per_step_sees_the_time_at_which_the_distributions_part():
    real, fake = np.full((2, 10, 6, 1), 0.5)
    fake[:5, 4] = 0.8
    scores = marginal_per_step(real, fake, [0, 4], bins=50, range=(0.0, 1.0))
    np.testing.assert_allclose(scores, [0, 0.5])


def test_per_step_forgives_half_a_bin_beyond_the_range_and_no_more():
    real = np.ones((8, 3, 1))
    fake = np.stack([np.full((8, 1), v) for v in (1.0, 1.009, 1.011)], axis=1)
    scores = marginal_per_step(real, fake, [0, 1, 2], bins=50, range=(0.0, 1.0))
    np.testing.assert_allclose(scores, [0, 0, 1])


def test_per_step_refuses_a_step_beyond_the_grid():
    with pytest.raises(ValueError, match=r"steps: expected 0 to 29, found \[30\]"):
        marginal_per_step(normal(0), normal(1), [3, 30], bins=10, range=(0.0, 1.0))


def test_bootstrap_of_a_mean_is_its_standard_error():
    rng = np.random.default_rng(0)
    # constant series: resampling values instead of series would give a tenth of the spread
    real = np.repeat(rng.standard_normal((100, 1, 1)), 100, axis=1)
    fake = np.zeros_like(real)
    spread = bootstrap(lambda x, g: float(x.mean() - g.mean()), real, fake, n_boot=2000, seed=1)
    assert spread == pytest.approx(real[:, 0].std() / 10, rel=0.05)


def test_bootstrap_draws_groups_whole():
    rng = np.random.default_rng(0)
    real = np.repeat(rng.standard_normal((50, 1, 1)), 4, axis=0)  # four equal windows of a series
    arguments = lambda x, g: float(x.mean()), real, np.zeros_like(real), 2000
    spread = bootstrap(*arguments, seed=1, group=np.repeat(np.arange(50), 4))
    assert spread == pytest.approx(real[::4].std() / np.sqrt(50), rel=0.05)
    assert bootstrap(*arguments, seed=1) == bootstrap(*arguments, seed=1, group=np.arange(200))


def test_bootstrap_is_a_function_of_its_seed():
    arrays = normal(0), normal(1)
    first, again, other = (bootstrap(marginal_robust, *arrays, 5, seed) for seed in (0, 0, 1))
    assert first == again != other > 0
    with pytest.raises(ValueError, match="n_boot: expected at least 2 resamples, found 1"):
        bootstrap(marginal_robust, *arrays, 1, 0)


@pytest.mark.parametrize("score", [marginal_literal, marginal_robust])
def test_a_constant_real_channel_is_refused(score):
    real = normal(0)
    real[..., 1] = 3.5
    with pytest.raises(ValueError, match=r"real: .* found one constant at 3\.5"):
        score(real, normal(1))
    assert score(normal(1), real) > 0  # a constant generated channel is only a bad score


@pytest.mark.parametrize("score", [marginal_literal, marginal_robust, wasserstein])
def test_every_score_refuses_values_that_are_not_finite(score):
    bad = normal(1)
    bad[2, 3, 1] = np.inf
    with pytest.raises(ValueError, match=r"fake: .* series 2, step 3, channel 1"):
        score(normal(0), bad)
    with pytest.raises(ValueError, match=r"real: .* series 2, step 3, channel 1"):
        score(bad, normal(0))
