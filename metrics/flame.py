r"""Scores of generated flame trajectories: does the sharp front come at the right time and speed?

The trajectories solve :math:`\dot x = x^2 - x^p` on a grid of unit time steps: x rises slowly from
x(0), ignites near t = 1/x(0), reaches 1 within a few steps and stays. Nine tenths of all values are
about 1, so a pooled marginal says nothing; these scores look at the front.

References
----------
Wanner & Hairer 1996, "Solving Ordinary Differential Equations II" (stiffness). Zhou et al. 2023,
arXiv:2212.12749, figure 1 (the problem and the four steps of its histograms).
"""

import numpy as np
from jaxtyping import Bool, Float
from scipy.stats import wasserstein_distance

from metrics.arrays import check_series, early_steps
from metrics.marginal import ks_distance, marginal_per_step

BINS = 50
RANGE = (0.0, 1.0)
IGNITED = 0.5
DECREASE = 0.01
# The slowest flame (p = 3) crosses this band in 5.3 steps, so it has at most 6 values there.
PLATEAU_BAND = (0.3, 0.9)
PLATEAU_STEPS = 10


def flame_scores(
    real: Float[np.ndarray, "N L D"], fake: Float[np.ndarray, "M L D"]
) -> dict[str, float]:
    """Return the flame scores by name; in all of them 0 is best.

    A trajectory ignites at the first step with x >= 0.5. One that never does counts as igniting at
    step L, just after the grid (so it costs as much as the latest ignition that can be told from
    it), and the share of such trajectories is a score of its own.

    ==================== ========================================================================
    name                 value
    ==================== ========================================================================
    marginal_step_s      total variation of the 50-bin histograms on [0, 1] at step s, in [0, 1]
    marginal_steps       mean of these over the steps of `early_steps`, four at most
    ignition_w1          Wasserstein-1 distance of the ignition times, in steps
    ignition_ks          Kolmogorov-Smirnov distance of the ignition times, in [0, 1]
    never_ignited        share of generated trajectories that never reach 0.5
    never_ignited_real   the same of the real ones
    max_slope_w1         Wasserstein-1 distance of the largest increase in one step
    decreasing_steps     share of generated steps with a decrease of more than 0.01
    plateau              share of generated trajectories that stay within [0.3, 0.9] for 10 steps
                         or more, which no solution does
    ==================== ========================================================================

    Parameters
    ----------
    real, fake : np.ndarray
        Real (N, L, 1) and generated (M, L, 1) trajectories on a grid of unit time steps.

    Raises
    ------
    ValueError
        For unusable arrays, more than one channel, and fewer than 10 steps.
    """
    check_series(real=real, fake=fake)
    length, channels = real.shape[1:]
    if channels != 1 or length < PLATEAU_STEPS:
        raise ValueError(
            f"real: expected flame trajectories of one channel and {PLATEAU_STEPS} steps or more, "
            f"found {channels} channels and length {length}"
        )
    steps = early_steps(length)
    per_step = marginal_per_step(real, fake, steps, BINS, RANGE)
    x, g = real[..., 0].astype(np.float64), fake[..., 0].astype(np.float64)
    x_ignition, g_ignition = ignition_times(x), ignition_times(g)
    increases = np.diff(g, axis=1)
    return {
        **{f"marginal_step_{s}": float(v) for s, v in zip(steps, per_step, strict=True)},
        "marginal_steps": float(per_step.mean()),
        "ignition_w1": float(wasserstein_distance(x_ignition, g_ignition)),
        "ignition_ks": ks_distance(x_ignition, g_ignition),
        "never_ignited": float((g_ignition == length).mean()),
        "never_ignited_real": float((x_ignition == length).mean()),
        "max_slope_w1": float(wasserstein_distance(np.diff(x, axis=1).max(1), increases.max(1))),
        "decreasing_steps": float((increases < -DECREASE).mean()),
        "plateau": float(has_plateau(g).mean()),
    }


def ignition_times(x: Float[np.ndarray, "N L"]) -> Float[np.ndarray, "N"]:
    """Return the first step with x >= 0.5 of each trajectory, L where there is none."""
    ignited = x >= IGNITED
    return np.where(ignited.any(1), ignited.argmax(1), x.shape[1]).astype(np.float64)


def has_plateau(x: Float[np.ndarray, "N L"]) -> Bool[np.ndarray, "N"]:
    """Return which trajectories stay within [0.3, 0.9] for 10 consecutive steps or more."""
    low, high = PLATEAU_BAND
    inside = (low <= x) & (x <= high)
    windows = np.lib.stride_tricks.sliding_window_view(inside, PLATEAU_STEPS, axis=1)
    return np.any(np.all(windows, axis=-1), axis=-1)
