"""Diversity against closed forms."""

import numpy as np
import pytest

from metrics.diversity import band_ratio


def normal(seed: int, scale: float = 1.0) -> np.ndarray:
    return scale * np.random.default_rng(seed).standard_normal((4000, 6, 2))


def test_ratio_is_that_of_the_deviations_of_normal_values() -> None:
    assert band_ratio(normal(0), normal(1, 0.3)) == pytest.approx(0.3, rel=0.03)
    assert band_ratio(normal(0), normal(0)) == 1


def test_one_series_has_no_diversity_whatever_its_shape() -> None:
    one = np.repeat(normal(0)[:1], 50, axis=0)
    assert band_ratio(normal(1), one) == 0
    assert band_ratio(normal(1), one + 0.01 * normal(2)[:50]) < 0.02


def test_units_and_level_do_not_matter() -> None:
    real, fake = normal(0)[:40], normal(1, 2.0)[:30]
    assert band_ratio(5 * real + 2, 5 * fake - 7) == pytest.approx(band_ratio(real, fake))


def test_real_series_that_do_not_spread_give_no_ratio() -> None:
    assert band_ratio(np.ones((5, 6, 2)), normal(0)) is None
    with pytest.raises(ValueError, match="fake: expected finite values"):
        band_ratio(normal(0), np.full((3, 6, 2), np.nan))
