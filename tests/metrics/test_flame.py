"""Scores of flame trajectories on curves with known answers."""

import numpy as np
import pytest
from scipy.special import wrightomega

from metrics.arrays import early_steps
from metrics.flame import flame_scores, has_plateau, ignition_times


def steps_at(times, length=1000):
    """Trajectories that jump from 0 to 1 at the given steps."""
    return (np.arange(length) >= np.asarray(times)[:, None]).astype(np.float64)[..., None]


def solutions(x0, length=1000):
    """Exact solutions of dx/dt = x^2 - x^3."""
    a = 1 / np.asarray(x0)[:, None] - 1
    return (1 / (1 + wrightomega(np.log(a) + a - np.arange(length))))[..., None]


TIMES = np.array([3, 10, 20, 40, 80, 120])


def test_steps_of_the_histograms():
    assert early_steps(1000) == [5, 14, 37, 100]


def test_on_a_short_grid_equal_steps_count_once():
    assert early_steps(100) == [0, 1, 4, 10] and early_steps(20) == [0, 1, 2]
    x = np.linspace(0, 1, 20)[None, :, None]
    x, fake = x.repeat(2, 0), x.repeat(2, 0)
    fake[:, 0] = 0.5  # wrong at one step of three
    assert flame_scores(x, fake)["marginal_steps"] == pytest.approx(1 / 3)


def test_exact_solutions_are_perfect():
    x = solutions(np.geomspace(0.01, 0.2, 40))
    scores = flame_scores(x, x.astype(np.float32))
    assert scores == pytest.approx(dict.fromkeys(scores, 0.0), abs=1e-6)


def test_a_shift_in_time_is_the_wasserstein_distance():
    scores = flame_scores(steps_at(TIMES), steps_at(TIMES + 3))
    assert scores["ignition_w1"] == pytest.approx(3)
    assert scores["ignition_ks"] == pytest.approx(1 / 6)
    assert scores["max_slope_w1"] == scores["decreasing_steps"] == scores["plateau"] == 0
    # at step 5 the first of six has jumped in the data only, at step 6 in both
    assert scores["marginal_step_5"] == pytest.approx(1 / 6)
    assert scores["marginal_step_37"] == 0
    per_step = [scores[f"marginal_step_{s}"] for s in (5, 14, 37, 100)]
    assert scores["marginal_steps"] == pytest.approx(np.mean(per_step))


def test_flames_that_never_ignite_are_counted_and_placed_after_the_grid():
    fake = steps_at(TIMES)
    fake[-2:] = 0.1
    np.testing.assert_array_equal(ignition_times(fake[..., 0]), [3, 10, 20, 40, 1000, 1000])
    scores = flame_scores(steps_at(TIMES), fake)
    assert scores["never_ignited"] == pytest.approx(2 / 6)
    assert scores["never_ignited_real"] == 0
    assert scores["ignition_w1"] == pytest.approx((1000 - 80 + 1000 - 120) / 6)
    assert scores["ignition_ks"] == pytest.approx(2 / 6)


def test_ignition_is_the_first_crossing():
    x = np.array([[0.0, 0.5, 0.1, 0.9], [0.49, 0.49, 0.49, 0.51], [0.5, 0.0, 0.0, 0.0]])
    np.testing.assert_array_equal(ignition_times(x), [1, 3, 0])


def test_a_slow_front():
    ramp = np.clip(np.arange(1000) / 4 - 2, 0, 1)[:, None]  # 0 to 1 in 4 steps
    scores = flame_scores(steps_at([10, 10]), np.stack([ramp, ramp]))
    assert scores["max_slope_w1"] == pytest.approx(0.75)
    assert scores["ignition_w1"] == 0
    assert scores["plateau"] == 0


def test_decreases_beyond_the_tolerance_are_counted():
    fake = steps_at(TIMES)
    fake[0, [500, 700], 0] -= [0.02, 0.005]  # the second is within the tolerance
    assert flame_scores(steps_at(TIMES), fake)["decreasing_steps"] == pytest.approx(1 / 999 / 6)


def test_plateaus():
    x = steps_at([10, 20, 30, 40])[..., 0]
    x[0, 10:20] = 0.6  # 10 steps
    x[1, 20:29] = 0.6  # 9 steps
    x[2, 30:50] = np.where(np.arange(20) % 2, 0.6, 0.95)  # never for long
    np.testing.assert_array_equal(has_plateau(x), [True, False, False, False])


def test_overshoot_by_less_than_half_a_bin_is_forgiven():
    x = steps_at(TIMES)
    assert flame_scores(x, np.where(x == 1, 1.005, x))["marginal_steps"] == 0
    assert flame_scores(x, np.where(x == 1, 1.05, x))["marginal_step_100"] == pytest.approx(5 / 6)


def test_unusable_trajectories():
    x = steps_at(TIMES)
    with pytest.raises(ValueError, match=r"one channel .* found 2 channels and length 1000"):
        flame_scores(np.repeat(x, 2, axis=2), np.repeat(x, 2, axis=2))
    with pytest.raises(ValueError, match="10 steps or more, found 1 channels and length 9"):
        flame_scores(x[:, :9], x[:, :9])
    bad = x.copy()
    bad[1, 2, 0] = np.nan
    with pytest.raises(ValueError, match=r"fake: .* series 1, step 2, channel 0"):
        flame_scores(x, bad)
