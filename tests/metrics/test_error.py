"""Errors of predictions: three averages, their bootstrap, bad input."""

import warnings

import numpy as np
import pytest

from metrics.error import Sums, bootstrap, ls4, macro, micro, sums

AVERAGES = {"micro": micro, "macro": macro, "ls4": ls4}


def sparse(seed, n=12, length=9, channels=4):
    """Errors, and targets that leave some pairs and one whole record empty."""
    rng = np.random.default_rng(seed)
    target = rng.random((n, length, channels)) < 0.1
    target[3] = False
    return rng.exponential(size=target.shape), target


# --- averages ------------------------------------------------------------------------------------


def test_three_averages_by_hand():
    # record 0: errors 1, 3 in channel 0 and 8 in channel 1; record 1: 0 in channel 0
    target = np.array([[[1, 1], [1, 0]], [[1, 0], [0, 0]]], dtype=bool)
    errors = np.array([[[1.0, 8.0], [3.0, 9.0]], [[0.0, 9.0], [9.0, 9.0]]])
    total = sums(errors, target)
    np.testing.assert_array_equal(total.total, [[4, 8], [0, 0]])
    np.testing.assert_array_equal(total.count, [[2, 1], [1, 0]])
    assert micro(total) == pytest.approx(12 / 4)
    assert macro(total) == pytest.approx((2 + 8 + 0) / 3)
    assert ls4(total) == pytest.approx((2 + 8 + 0 + 0) / 4)


def test_ls4_is_macro_times_the_share_of_pairs_with_a_value():
    total = sums(*sparse(0))
    share = (total.count > 0).mean()
    assert 0.2 < share < 0.8
    assert ls4(total) == pytest.approx(share * macro(total))


def test_sums_in_double_precision():
    errors = np.array([[[1], [2**-25]]], np.float32)
    total = sums(errors, np.ones((1, 2, 1), bool))
    assert total.total.item() == 1 + 2**-25
    assert total.total.dtype == total.count.dtype == np.float64


@pytest.mark.parametrize("average", AVERAGES.values(), ids=AVERAGES)
def test_batches_and_padding_do_not_matter(average):
    errors, target = sparse(1)
    whole = sums(errors, target)
    padding = ((0, 0), (0, 5), (0, 0))
    padded = sums(np.pad(errors[5:], padding, constant_values=np.nan), np.pad(target[5:], padding))
    parts = Sums.concatenate([sums(errors[:5], target[:5]), padded])
    assert average(parts) == pytest.approx(average(whole), rel=1e-14)


@pytest.mark.parametrize("average", AVERAGES.values(), ids=AVERAGES)
def test_nothing_scored_is_none_without_a_warning(average):
    nothing = sums(np.ones((3, 4, 2)), np.zeros((3, 4, 2), bool))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert average(nothing) is None
        assert bootstrap(average, nothing, seed=0) is None


def test_an_empty_record_changes_ls4_alone():
    errors, target = sparse(2)
    kept = np.arange(len(target)) != 3
    total, without = sums(errors, target), sums(errors[kept], target[kept])
    assert micro(total) == pytest.approx(micro(without))
    assert macro(total) == pytest.approx(macro(without))
    assert ls4(total) == pytest.approx(ls4(without) * 11 / 12)


def test_an_error_that_is_not_finite_is_refused_where_it_is_scored():
    errors, target = sparse(3)
    errors[~target] = np.nan
    assert micro(sums(errors, target)) > 0
    b, k, d = (int(i) for i in np.argwhere(target)[0])
    errors[b, k, d] = np.inf
    with pytest.raises(ValueError, match=f"found 1 .* record {b}, row {k}, channel {d}$"):
        sums(errors, target)


def test_shapes_must_agree():
    with pytest.raises(ValueError, match=r"expected shape \(2, 3, 1\), found \(2, 1, 1\)"):
        # not through the annotations, which forbid it only while tests run
        sums.__wrapped__(np.ones((2, 1, 1)), np.ones((2, 3, 1), bool))


# --- bootstrap -----------------------------------------------------------------------------------


@pytest.mark.parametrize("average", AVERAGES.values(), ids=AVERAGES)
def test_bootstrap_is_a_loop_over_resamples(average):
    errors, target = sparse(4)
    total = sums(errors, target)
    counting = np.flatnonzero(average.terms(total)[1] > 0)
    assert len(counting) == (12 if average is ls4 else 11)
    rng = np.random.default_rng(7)
    values = []
    for _ in range(20):
        times = rng.multinomial(len(counting), np.full(len(counting), 1 / len(counting)))
        again = np.repeat(counting, times)
        values.append(average(sums(errors[again], target[again])))
    expected = np.std(values, ddof=1)
    assert bootstrap(average, total, seed=7, n_boot=20) == pytest.approx(expected)


def test_bootstrap_of_a_mean_is_its_standard_error():
    value = np.random.default_rng(0).standard_normal(200)
    # ten equal values a record: resampling values would give less than a third of the spread
    total = Sums(10 * value[:, None], np.full((200, 1), 10.0))
    for average in AVERAGES.values():
        spread = bootstrap(average, total, seed=1, n_boot=3000)
        assert spread == pytest.approx(value.std() / np.sqrt(200), rel=0.05)


def test_bootstrap_is_a_function_of_its_seed_and_needs_two_records():
    total = sums(*sparse(5))
    first, again, other = (bootstrap(macro, total, seed) for seed in (0, 0, 1))
    assert first == again != other
    assert bootstrap(macro, Sums(total.total[:1], total.count[:1]), seed=0) is None
    with pytest.raises(ValueError, match="n_boot: expected at least 2 resamples, found 1"):
        bootstrap(macro, total, seed=0, n_boot=1)
