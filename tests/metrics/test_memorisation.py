"""Distance to the nearest training series: closed cases."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from metrics import memorisation as module
from metrics.memorisation import memorisation, nearest_distance, span_residual


def normal(seed, n=30, length=12, channels=2):
    return np.random.default_rng(seed).standard_normal((n, length, channels))


def test_distance_is_the_rms_difference_to_the_nearest(monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 7)  # 30 series are 5 chunks, the last one short
    series, train = normal(0), normal(1, n=50)
    expected = cdist(series.reshape(30, -1), train.reshape(50, -1)).min(1) / np.sqrt(12 * 2)
    np.testing.assert_allclose(nearest_distance(series, train), expected)


def test_a_copy_is_at_distance_0_even_far_from_the_origin():
    train = (normal(0) + 1e3).astype(np.float32)
    assert (nearest_distance(train[::-1], train) == 0).all()
    np.testing.assert_allclose(nearest_distance(train + np.float32(0.125), train), 0.125)


def test_copies_against_new_series():
    train, test = normal(0, n=200), normal(1)
    copied = memorisation(test, train[:30], train)
    assert (copied.generated, copied.ratio) == (0, 0) and copied.test > 0
    new = memorisation(test, normal(2), train)
    assert new.ratio == pytest.approx(1, abs=0.1)
    assert new.ratio == new.generated / new.test
    assert memorisation(test, normal(2) + 10, train).ratio > 5
    assert copied.p < 1e-9 < 0.05 < new.p < 0.95


def test_p_of_being_nearer_is_the_share_of_orders():
    train = np.zeros((1, 4, 1))
    near, far = (np.stack([np.full((4, 1), v) for v in part]) for part in ((1.0, 2), (3.0, 4, 5)))
    # of the 10 orders of 2 + 3 distances, one has the 2 generated ones first
    assert memorisation(far, near, train).p == pytest.approx(1 / 10)
    assert memorisation(near, far, train).p == 1


def test_share_outside_the_span_of_the_training_series():
    rng = np.random.default_rng(0)
    train = normal(0, n=5)
    inside = train.mean(0) + np.einsum("nk,kld->nld", rng.standard_normal((3, 5)), train - train[0])
    np.testing.assert_allclose(span_residual(inside, train), 0, atol=1e-20)
    np.testing.assert_allclose(span_residual(inside, train.astype(np.float32)), 0, atol=1e-10)
    # 4 of 24 directions lie in the span
    assert span_residual(normal(1, n=2000), normal(0, n=5) * 1e-9).mean() == pytest.approx(
        1 - 4 / 24, abs=0.01
    )
    assert span_residual(normal(1), normal(0, n=25)).max() < 1e-20  # as many as values
    assert span_residual(train.mean(0)[None], train) == 0


def test_medians():
    train = np.zeros((1, 4, 1))
    at = [np.full((1, 4, 1), v) for v in (1.0, 2.0, 30.0)]
    scores = memorisation(np.concatenate(at) * 2, np.concatenate(at), train)
    assert scores[:3] == (2, 4, 0.5)


def test_leaking_test_series_are_refused():
    train = normal(0)
    with pytest.raises(ValueError, match=r"real_test: .* found more than half of them there"):
        memorisation(train[:5], normal(1), train)


def test_values_that_are_not_finite():
    bad = normal(1)
    bad[2, 3, 1] = np.nan
    with pytest.raises(ValueError, match=r"train: .* series 2, step 3, channel 1"):
        nearest_distance(normal(0), bad)
    with pytest.raises(ValueError, match=r"real_test: .* series 2, step 3, channel 1"):
        memorisation(bad, normal(1), normal(0))
