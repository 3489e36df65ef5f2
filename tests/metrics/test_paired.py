"""Paired comparisons: they agree with the scores, and find a difference where there is one."""

import math

import numpy as np
import pytest
from scipy.stats import t

from metrics.classification import classify
from metrics.marginal import bin_counts, marginal_robust
from metrics.paired import CHANCE, SeriesErrors, differences, mean_difference, skill
from metrics.prediction import predict


def series(seed: int, n: int = 24, scale: float = 1.0, channels: int = 2) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (scale * rng.standard_normal((n, 16, channels)).cumsum(1)).astype(np.float32)


FITS = 5


def errors_of(real: np.ndarray, generated: np.ndarray, epochs: int = 3) -> SeriesErrors:
    classifiers = [classify(real, generated, seed=s, epochs=epochs) for s in range(FITS)]
    predictors = [predict(real, generated, seed=s, epochs=epochs) for s in range(FITS)]
    return SeriesErrors(
        *bin_counts(real, generated),
        np.stack([c.losses for c in classifiers]),
        np.stack([p.errors for p in predictors]),
        np.arange(len(real)),
    )


def test_the_difference_is_that_of_the_scores() -> None:
    real, a, b = series(0), series(1), series(2, scale=2.0)
    found = differences(errors_of(real, a), errors_of(real, b))
    assert found["marginal"].difference == pytest.approx(
        marginal_robust(real, a) - marginal_robust(real, b)
    )
    for name, function, score in (
        ("prediction", predict, "mse"),
        ("classification", classify, "bce"),
    ):
        means = [
            np.mean([getattr(function(real, g, seed=s, epochs=3), score) for s in range(FITS)])
            for g in (a, b)
        ]
        if name == "classification":
            means = [-min(value, CHANCE) for value in means]
        assert found[name].difference == pytest.approx(means[0] - means[1], abs=1e-5)
    assert all(each.low <= each.difference <= each.high for each in found.values())


def test_swapped_rows_have_the_opposite_difference() -> None:
    real, a, b = series(0), series(1), series(2, scale=3.0)
    rows = errors_of(real, a), errors_of(real, b)
    one, other = differences(*rows), differences(*reversed(rows))
    assert one["marginal"].first_is_better and other["marginal"].second_is_better
    for name in one:
        assert one[name].difference == pytest.approx(-other[name].difference)


def synthetic(shift: float, seed: int, n: int = 40) -> SeriesErrors:
    """Errors whose expectation is moved by `shift`, the same test series in every row."""
    base = np.random.default_rng(99).exponential(size=n)
    own = np.random.default_rng(seed).normal(scale=0.2, size=n)
    empty = np.zeros((0, 1, 51), dtype=np.int32)
    errors = (base + own + shift)[None]
    return SeriesErrors(empty, empty, np.zeros((1, 0)), errors, np.arange(n))


def test_rows_that_do_not_differ_are_rarely_called_better() -> None:
    found = [differences(synthetic(0, s), synthetic(0, s + 1000))["prediction"] for s in range(200)]
    wrong = sum(each.first_is_better or each.second_is_better for each in found)
    assert wrong <= 22  # 10 are expected; beyond 3.9 standard deviations


def test_windows_of_one_series_are_drawn_together() -> None:
    def row(seed: int, group: np.ndarray) -> SeriesErrors:
        own = synthetic(0, seed, n=10)
        errors = np.repeat(own.prediction, 8, axis=1)
        return own._replace(prediction=errors, group=group)

    series, alone = np.repeat(np.arange(10), 8), np.arange(80)
    called = {}
    for name, group in (("series", series), ("alone", alone)):
        found = [differences(row(s, group), row(s + 1000, group))["prediction"] for s in range(100)]
        called[name] = sum(each.first_is_better or each.second_is_better for each in found)
    assert called["series"] <= 20 < 40 < called["alone"]
    few = row(0, series // 2), row(1, series // 2)
    assert not differences(*few)["prediction"].enough
    with pytest.raises(ValueError, match="rows: expected the same groups of test series"):
        differences(row(0, series), row(1, alone))


def test_pairing_finds_what_the_spread_of_the_series_would_hide() -> None:
    found = [
        differences(synthetic(0, s), synthetic(0.2, s + 1000))["prediction"] for s in range(50)
    ]
    assert sum(each.first_is_better for each in found) >= 45
    spread = synthetic(0, 0).prediction.std() / math.sqrt(40)
    assert spread > 0.1, "unpaired, a difference of 0.2 would be less than two standard errors"


def fitted(seed: int, shift: float = 0.0, fits: int = 5, n: int = 100) -> SeriesErrors:
    """Errors of fits that chance makes better or worse on all series at once."""
    rng = np.random.default_rng(seed)
    base = np.random.default_rng(99).exponential(size=n)
    own = base + rng.normal(scale=0.1, size=(fits, 1)) + rng.normal(scale=0.1, size=(fits, n))
    empty = np.zeros((0, 1, 51), dtype=np.int32)
    return SeriesErrors(empty, empty, np.zeros((fits, 0)), own + shift, np.arange(n))


@pytest.mark.parametrize("fits", [3, 5])
def test_fits_that_differ_by_chance_are_rarely_called_better(fits: int) -> None:
    found = [
        differences(fitted(s, fits=fits), fitted(s + 1000, fits=fits))["prediction"]
        for s in range(200)
    ]
    wrong = sum(each.first_is_better or each.second_is_better for each in found)
    assert wrong <= 22  # 10 are expected; of the mean over fits alone, more than half


def test_the_interval_over_a_few_fits_is_students() -> None:
    """Fits that are alike on all series: t times a standard error either way."""
    equal, shifts = fitted(0)._replace(prediction=np.ones((5, 100))), np.arange(5.0)[:, None]
    found = differences(equal._replace(prediction=equal.prediction + shifts), equal)["prediction"]
    assert found.difference == pytest.approx(2)
    width = 2 * t.ppf(0.975, 4) * shifts.std(ddof=1) / math.sqrt(5)
    assert found.high - found.low == pytest.approx(width, rel=0.06)


def test_fits_that_agree_find_a_difference() -> None:
    found = [differences(fitted(s), fitted(s + 1000, 0.3))["prediction"] for s in range(50)]
    assert sum(each.first_is_better for each in found) >= 40


def test_a_row_without_training_goes_with_any_number_of_fits() -> None:
    one = fitted(0, fits=1)
    assert differences(one, fitted(1, 0.5))["prediction"].first_is_better
    with pytest.raises(ValueError, match="the same evaluator fits, found 2, 5"):
        differences(fitted(0, fits=2), fitted(1))


def test_rows_of_other_test_series_are_refused() -> None:
    with pytest.raises(ValueError, match="the same test series, found 40, 39"):
        differences(synthetic(0, 0), synthetic(0, 1, n=39))


def test_skill() -> None:
    rng = np.random.default_rng(0)
    reference = rng.exponential(size=300)
    group = np.arange(300)
    half = skill(0.5 * reference, reference, group)
    assert half[:3] == pytest.approx((0.5, 0.5, 0.5))
    noisy = skill(reference * rng.uniform(0.2, 1.0, 300), reference, group)
    assert 0.3 < noisy.low < noisy.difference < noisy.high < 0.5
    few = skill(reference * rng.uniform(0.2, 1.0, 300), reference, group // 100)
    assert few.high - few.low > 0
    with pytest.raises(ValueError, match="expected errors above 0"):
        skill(reference, np.zeros(300), group)


def test_groups_widen_the_interval() -> None:
    """Records of one station that go wrong together are one piece of evidence, not a hundred."""
    rng = np.random.default_rng(1)
    group = np.repeat(np.arange(10), 30)
    reference = np.ones(300)
    own = np.repeat(rng.uniform(0.2, 1.0, 10), 30)
    alone, together = (skill(own, reference, g) for g in (np.arange(300), group))
    assert together.high - together.low > 3 * (alone.high - alone.low)


def called_better(groups: int, records: int = 1) -> float:
    """How often one of two equal rows is called better: in 300 draws of their records."""
    rng = np.random.default_rng(groups)
    group = np.repeat(np.arange(groups), records)

    def drawn() -> np.ndarray:
        return rng.normal(size=groups)[group] + rng.normal(size=len(group))

    found = [mean_difference(drawn(), drawn(), group, seed) for seed in range(300)]
    return float(np.mean([each.first_is_better or each.second_is_better for each in found]))


@pytest.mark.parametrize(("groups", "records"), [(100, 1), (100, 5)])
def test_the_test_has_its_size(groups: int, records: int) -> None:
    assert 0.01 <= called_better(groups, records) <= 0.1  # 0.05 and four standard deviations


@pytest.mark.parametrize("groups", [1, 2, 3, 5])
def test_fewer_than_six_groups_decide_nothing(groups: int) -> None:
    assert called_better(groups, 10) == 0
    group = np.repeat(np.arange(groups), 4)
    reference = np.arange(1.0, 1 + len(group))
    found = skill(reference / 2, reference, group)
    assert found.low == pytest.approx(0.5), "the interval itself is kept"
    assert not (found.first_is_better or found.second_is_better)


def test_six_groups_that_agree_decide() -> None:
    group = np.repeat(np.arange(6), 4)
    reference = np.arange(1.0, 25.0)
    assert skill(reference / 2, reference, group).second_is_better
    assert mean_difference(reference / 2, reference, group).first_is_better


@pytest.mark.parametrize(("n", "decides"), [(5, False), (6, True)])
def test_fewer_than_six_test_series_decide_nothing(n: int, decides: bool) -> None:
    first, second = synthetic(0, 0, n=n), synthetic(9, 1, n=n)
    assert differences(first, second)["prediction"].first_is_better == decides


@pytest.mark.parametrize(("m", "decides"), [(5, False), (6, True)])
def test_fewer_than_six_generated_series_decide_nothing(m: int, decides: bool) -> None:
    inside, outside = np.array([[[4, 0]]]), np.array([[[0, 4]]])  # of the range of the real values

    def row(counts: np.ndarray) -> SeriesErrors:
        real, generated = np.repeat(inside, 10, 0), np.repeat(counts, m, 0)
        nothing = np.zeros((1, 10 + m))
        return SeriesErrors(real, generated, nothing, np.ones((1, 10)), np.arange(10))

    found = differences(row(inside), row(outside))["marginal"]
    assert found.difference == -1 and found.first_is_better == decides


def test_the_difference_of_means_is_over_records() -> None:
    group = np.array([0, 0, 0, 1])
    found = mean_difference(np.array([1.0, 2.0, 3.0, 10.0]), np.zeros(4), group)
    assert found[:3] == (4.0, 2.0, 10.0)  # of group 0 alone, and of group 1 alone
    same = mean_difference(group + 1.0, group + 1.0, group)
    assert same[:3] == (0.0, 0.0, 0.0) and not (same.first_is_better or same.second_is_better)
