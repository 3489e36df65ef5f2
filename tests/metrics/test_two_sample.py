"""Two-sample tests: closed forms of the distances, exactness, power, and the real Monash sets."""

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom, energy_distance, kstest

from datasets import monash
from harness import catalogue
from metrics import degradations
from metrics.distances import (
    NAMES,
    Pool,
    Scaling,
    between_all,
    distances,
    energy,
    neighbour_shares,
    neighbours,
)
from metrics.features import autocorrelation, band_powers, features, periodogram
from metrics.marginal import marginal_robust
from metrics.power import TARGETS, power
from metrics.two_sample import (
    one_of_each,
    permutation_p,
    resolution,
    standardise,
    two_sample,
)


def walks(seed, n=12, length=20, channels=1):
    """Damped random walks."""
    x = np.random.default_rng(seed).standard_normal((n, length, channels))
    for t in range(1, length):
        x[:, t] += 0.8 * x[:, t - 1]
    return x


def curves(seed, n=40, length=48):
    """Steps up or down with a season and heavy-tailed noise, of mean 0 and deviation 1."""
    rng = np.random.default_rng(seed)
    t = np.arange(length)
    size = rng.choice([-1, 1], size=(n, 1)) * rng.normal(1, 0.2, (n, 1))
    season = 0.2 * np.sin(2 * np.pi * t / 12 + rng.normal(0, 0.3, (n, 1)))
    x = size * np.tanh(5 * np.sin(2 * np.pi * t / length)) + season
    return standardise((x + 0.03 * rng.laplace(size=x.shape))[..., None])


def labellings(n, m):
    """All of them, (P, n + m)."""
    rows = list(itertools.combinations(range(n + m), n))
    real = np.zeros((len(rows), n + m), dtype=bool)
    for row, chosen in zip(real, rows, strict=True):
        row[list(chosen)] = True
    return real


TRUE = np.array([[True] * 2 + [False] * 2])


# -- distances -----------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 2])
def test_marginal_is_the_robust_score_of_every_labelling(channels):
    series = np.concatenate([walks(0, 3, channels=channels), 2 * walks(1, 4, channels=channels)])
    real = labellings(3, 4)
    pool = Pool.of(series, Scaling.of(series, None))
    expected = [marginal_robust(series[row], series[~row]) for row in real]
    np.testing.assert_allclose(distances(pool, real)[:, 0], expected, rtol=1e-12)


def test_energy_of_four_points():
    points = np.array([[0.0], [2.0], [1.0], [5.0]])
    # 2 (1 + 5 + 1 + 3) / 4 - |0 - 2| - |1 - 5|
    assert energy(between_all(points), TRUE)[0] == pytest.approx(-1)


def test_energy_is_scipy_s_but_for_its_bias():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal(30), 1 + rng.standard_normal(20)
    pooled = np.concatenate([x, y])[:, None]
    within = sum(between_all(part[:, None]).sum() / len(part) ** 2 / (len(part) - 1)
                 for part in (x, y))  # fmt: skip
    found = energy(between_all(pooled), np.arange(50)[None] < 30)[0]
    assert found == pytest.approx(energy_distance(x, y) ** 2 - within)


def test_over_all_labellings_energy_is_0_and_neighbours_are_as_by_chance():
    between = between_all(walks(0, 7)[..., 0])
    real = labellings(3, 4)
    assert energy(between, real).mean() == pytest.approx(0, abs=1e-12)
    of_real, of_others = neighbour_shares(between, real)
    assert of_real.mean() == pytest.approx(2 / 6)
    assert of_others.mean() == pytest.approx(3 / 6)


def test_neighbours_of_sets_apart_of_copies_and_of_ties():
    deviation = math.sqrt(1 / 3 * 2 / 3 / 2)  # n = m = 2: by chance 1 / 3
    apart, copies, same = ([0.0, 1, 10, 11], [0.0, 10, 0.1, 10.1], [0.0, 0, 0, 0])
    for points, share in ((apart, 1), (copies, 0), (same, 1 / 3)):
        between = between_all(np.array(points)[:, None])
        np.testing.assert_allclose(neighbour_shares(between, TRUE), share)
        expected = abs(share - 1 / 3) / deviation
        assert neighbours(between, TRUE)[0] == pytest.approx(expected, abs=1e-12)


def test_distances_know_neither_the_order_of_series_nor_whose_role_is_whose():
    train = walks(2, 30, channels=2)
    x, y = walks(0, 5, channels=2), walks(1, 7, channels=2)

    def between(x, y):
        pool = Pool.of(np.concatenate([x, y]), Scaling.of(train, 5))
        return distances(pool, np.arange(len(x) + len(y))[None] < len(x))[0]

    np.testing.assert_allclose(between(x[::-1], y[::-1]), between(x, y), rtol=1e-9)
    np.testing.assert_allclose(between(y, x)[1:], between(x, y)[1:], rtol=1e-9)


def test_features_in_closed_form():
    t = np.arange(40.0)
    found = {k: v[:, 0] for k, v in features(np.stack([t, (-1.0) ** t])[..., None], 4).items()}
    assert len(found) == 16
    ramp, zigzag = zip(*found.values(), strict=True)
    named = dict(zip(found, zip(ramp, zigzag, strict=True), strict=True))
    assert named["values: share of turning points"] == (0, 1)
    assert named["increments: largest"] == (1, 2)
    assert named["increments: share near zero"] == (0, 0)
    assert named["values: mean of the first quarter"] == (4.5, 0)
    assert named["values: mean of the last quarter"] == (34.5, 0)
    assert named["values: kurtosis"] == pytest.approx((-1.2 * (40**2 + 1) / (40**2 - 1), -2))
    assert named["values: autocorrelation, lag 4"][1] == pytest.approx(36 / 40)
    assert named["increments: log deviation"][1] == pytest.approx(math.log(2), abs=1e-3)


def test_features_of_a_step_down_and_half_of_it_back():
    x = np.array([4.0, 4, 4, 4, 0, 3, 3, 3])
    d = np.diff(x)  # 0, 0, 0, -4, 3, 0, 0

    def moment(values, k):
        return ((values - values.mean()) ** k).mean()

    def lagged(values, lag):
        centred = values - values.mean()
        return (centred[lag:] * centred[:-lag]).sum() / (centred**2).sum()

    expected = {
        "increments: log deviation": math.log(d.std()),
        "increments: skewness": moment(d, 3) / moment(d, 2) ** 1.5,
        "increments: kurtosis": moment(d, 4) / moment(d, 2) ** 2 - 3,
        "increments: largest": 4,
        "increments: share near zero": 5 / 7,
        "increments: autocorrelation of sizes, lag 1": lagged(np.abs(d), 1),
        "values: skewness": moment(x, 3) / moment(x, 2) ** 1.5,
        "values: kurtosis": moment(x, 4) / moment(x, 2) ** 2 - 3,
        "values: 5 % quantile": 0.35 * 3,  # between the lowest two values, 0 and 3
        "values: 95 % quantile": 4,
        "values: mean of the first quarter": 4,
        "values: mean of the last quarter": 3,
        "values: share of turning points": 1 / 6,
        "values: autocorrelation, lag 1": lagged(x, 1),
        "values: autocorrelation, lag 2": lagged(x, 2),
        "values: autocorrelation, lag 3": lagged(x, 3),
    }
    found = {name: values.item() for name, values in features(x[None, :, None], 3).items()}
    assert found == pytest.approx(expected, abs=1e-5)


def test_what_a_constant_series_leaves_undefined_is_0():
    found = features(np.full((1, 40, 1), 0.1), 4)
    assert all(np.isfinite(values).all() for values in found.values())
    assert found["values: skewness"] == found["values: autocorrelation, lag 1"] == 0


def test_autocorrelation_of_a_damped_walk():
    x = walks(0, 200, 500)[..., 0]
    assert autocorrelation(x, 1).mean() == pytest.approx(0.8, abs=0.02)
    assert autocorrelation(x, 2).mean() == pytest.approx(0.64, abs=0.03)


def test_a_tone_has_its_power_in_one_band_and_all_power_is_the_variance():
    t = np.arange(64)
    x = np.stack([3 + np.cos(2 * np.pi * k * t / 64) for k in (1, 20)])[..., None]
    power = periodogram(x)
    np.testing.assert_allclose(power[[0, 1], [0, 19], 0], 1 / 4)
    bands = band_powers(power)[..., 0]
    assert bands.shape[1] <= 12
    assert (bands > 1e-20).sum(1).tolist() == [1, 1] and bands[0].argmax() < bands[1].argmax()
    noise = walks(0, 3, 63)
    np.testing.assert_allclose(2 * periodogram(noise).sum(1), noise.var(1))


def test_features_are_scaled_by_the_training_series():
    train = walks(0, 50, channels=2)
    scaled = Scaling.of(train, None).features(train)
    assert len(scaled) == 30 and "values: skewness (channel 1)" in scaled
    np.testing.assert_allclose([v.mean() for v in scaled.values()], 0, atol=1e-9)
    np.testing.assert_allclose([v.std() for k, v in scaled.items() if "near zero" not in k], 1)


def test_a_feature_that_is_the_same_in_all_training_series_keeps_its_unit():
    """Its mean over 50 series is off by a rounding, so its deviation is 1e-17 and not 0."""
    ramp = np.arange(20.0)
    ramp[7] = ramp[6]  # of 19 increments one is 0: a share that has no exact mean
    train = np.tile(ramp[None, :, None], (50, 1, 1))
    share = "increments: share near zero"
    assert features(train)[share].std() > 0
    other = Scaling.of(train, None).features(walks(0))[share]
    np.testing.assert_allclose(other, features(walks(0))[share][:, 0] - 1 / 19)


# -- permutations --------------------------------------------------------------------------------


def test_p_by_hand_with_ties():
    values = np.array([[3.0, 1], [1, 1], [3 + 1e-15, 5], [2, 4]])
    p, adjusted = permutation_p(values)
    assert p.tolist() == [2 / 4, 4 / 4]
    # the smallest p of the four labellings: 2/4, 4/4, 1/4, 2/4
    assert adjusted.tolist() == [3 / 4, 4 / 4]
    assert permutation_p(np.zeros((4, 1)))[0] == 1


def test_combined_p_is_exact():
    """If each labelling in turn is the true one, at most a share a of them has p <= a."""
    rng = np.random.default_rng(0)
    common = rng.standard_normal((40, 1))
    for values in (
        rng.standard_normal((40, 5)),
        common + 0.1 * rng.standard_normal((40, 5)),
        rng.integers(3, size=(40, 5)).astype(float),
    ):
        turns = [permutation_p(np.roll(values, -k, axis=0)) for k in range(40)]
        for p in ([adjusted.min() for _, adjusted in turns], [p[0] for p, _ in turns]):
            for level in np.arange(1, 41) / 40:
                assert np.mean(np.array(p) <= level) <= level
    values = rng.standard_normal((40, 1))  # one distance, no ties: no more than exact
    turns = [permutation_p(np.roll(values, -k, axis=0))[1].min() for k in range(40)]
    np.testing.assert_allclose(np.sort(turns), np.arange(1, 41) / 40)


def test_size_under_the_null():
    results = [
        two_sample(walks((k, 0), 9), walks((k, 1), 6), walks((k, 2)), permutations=59, seed=k)
        for k in range(200)
    ]
    bound = binom(len(results), 0.05).ppf(0.9999)
    for name in NAMES:
        assert sum(result.p[name] <= 0.05 for result in results) <= bound, name
    rejected = sum(result.p_all <= 0.05 for result in results)
    assert binom(len(results), 0.05).ppf(0.0001) <= rejected <= bound
    # on the grid 1/60, ..., 1, hence a bound wider than that of a continuous variable
    for name in ("energy", "features", "spectrum"):
        p = [result.p[name] for result in results]
        assert kstest(p, "uniform").statistic < 1.95 / math.sqrt(len(p)) + 1 / 60, name


def windows(seed, series, each=6, length=12):
    """Windows of some series that differ in their level, and the series that each is of."""
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(series), each)
    level = rng.standard_normal((series, 1, 1))[group]
    return level + 0.5 * rng.standard_normal((len(group), length, 1)), group


def test_windows_of_one_series_count_once():
    told = {True: 0, False: 0}
    for k in range(40):
        real, group = windows((k, 0), 6)
        fake, _ = windows((k, 1), len(real), each=1)
        train, _ = windows((k, 2), 20)
        for grouped in told:
            result = two_sample(
                real, fake, train, group=group if grouped else None, permutations=99, seed=k
            )
            told[grouped] += result.p_all <= 0.05
    assert told[True] <= binom(40, 0.05).ppf(0.999) < 10 < told[False]


def test_groups_of_one_are_no_groups():
    x, y, train = walks(0), walks(1), walks(2, 30)
    group = np.arange(12)[::-1] * 7
    assert two_sample(x, y, train, group=group) == two_sample(x, y, train)
    assert resolution(x, 6, 6, train, group=group, draws=20) == resolution(x, 6, 6, train, draws=20)
    chosen = degradations.DEGRADATIONS["noise_30"]
    found = [
        power(train, 6, degradations={"noise": chosen}, group=of, splits=4, permutations=19)
        for of in (None, np.arange(30))
    ]
    assert found[0] == found[1]


def test_one_of_each_group_in_random_order():
    group, rng = np.array([3, 3, 1, 3, 2, 1]), np.random.default_rng(0)
    drawn = [one_of_each(group, rng) for _ in range(200)]
    assert all(sorted(group[each]) == [1, 2, 3] for each in drawn)
    assert {index for each in drawn for index in each} == set(range(6))
    assert {group[each][0] for each in drawn} == {1, 2, 3}


def test_power_splits_groups():
    x, group = windows(0, 24, each=4)
    real = {"real": degradations.DEGRADATIONS["real"]}
    sizes = []

    def seen(train, n, rng):
        sizes.append(n)
        assert len(train) == 64  # whole series are in one part
        return real["real"](train, n, rng)

    options = {"splits": 20, "permutations": 99}
    shares = power(x, 8, degradations={"real": seen}, group=group, **options)
    assert set(sizes) == {8} and shares["real"]["all"] <= 0.25
    with pytest.raises(ValueError, match="series: expected at least 26, two sets of 13, found 24"):
        power(x, 13, group=group)


def test_limits_of_windows_are_those_of_independent_series():
    x, group = windows(0, 40, each=5)
    train, _ = windows(1, 40, each=1)
    together = resolution(x, 8, 8, train, group=group, draws=400)
    assert together == pytest.approx(resolution(x[::5], 8, 8, train, draws=400), rel=0.25)
    few = resolution(x, 30, 30, train, group=group, draws=50)
    assert few == resolution(x, 20, 20, train, group=group, draws=50)  # 40 series give two of 20


def test_the_same_seed_gives_the_same_result_and_units_do_not_matter():
    x, y, train = walks(0), walks(1), walks(2, 30)
    first = two_sample(x, y, train, permutations=99)
    assert two_sample(x, y, train, permutations=99) == first
    doubled = two_sample(2 * x + 5, 2 * y + 5, 2 * train + 5, permutations=99)
    assert doubled.p == pytest.approx(first.p, abs=0.011)
    assert two_sample(x, y, train, permutations=99, seed=1).p != first.p


def test_what_is_far_away_has_the_smallest_p_and_the_feature_is_named():
    x, train = walks(0), walks(2, 30)
    far = two_sample(x, walks(1) + 100, train, permutations=99)
    assert far.p["marginal"] == far.p["energy"] == 0.01
    assert far.p["spectrum"] > 0.05  # blind to the level
    # for each distance, one labelling has the smallest p
    assert 0.01 <= far.p_all <= 0.05
    assert far.p_all == min(far.p_adjusted.values())
    assert all(name.startswith(("values: mean", "values: 5 %", "values: 95 %"))
               for name in list(far.features)[:4])  # fmt: skip
    assert list(far.features.values()) == sorted(far.features.values(), reverse=True)


def test_large_sets_are_compared_by_two_hundred_of_each():
    x, train = walks(0, 260, 8), walks(2, 30, 8)
    result = two_sample(x, walks(1, 210, 8), train, permutations=19)
    assert 0.1 < result.p_all <= 1
    apart = two_sample(x, 1 + walks(1, 210, 8), train, permutations=19)
    assert apart.p["energy"] == 2 * 0.05 and apart.p_all < 0.5
    assert apart.p["spectrum"] <= 1
    smaller = resolution(walks(3, 450, 8), 200, 200, train, draws=5)
    assert resolution(walks(3, 450, 8), 260, 210, train, draws=5) == smaller


# -- effects -------------------------------------------------------------------------------------


def test_real_sets_have_an_effect_above_1_in_5_percent():
    series, train = walks(0, 60), walks(1, 30)
    limits = resolution(series, 10, 8, train, draws=500)
    above = []
    for k in range(150):
        order = np.random.default_rng(k).permutation(60)
        pair = two_sample(series[order[:10]], series[order[10:18]], train, permutations=1)
        above.append([effect > 1 for effect in pair.effect(limits).values()])
    low, high = binom(150, 0.05).ppf([0.0005, 0.9995]) / 150
    shares = dict(zip(NAMES, np.mean(above, axis=0), strict=True))
    assert all(share <= high for share in shares.values()), shares
    assert all(shares[name] >= low for name in NAMES if name != "neighbours"), shares  # discrete


def test_effects_are_distances_over_their_limits():
    result = two_sample(walks(0), walks(1), walks(2), permutations=1)
    limits = dict.fromkeys(NAMES, 0.5) | {"energy": 0.0}
    effect = result.effect(limits)
    assert effect["spectrum"] == 2 * result.distance["spectrum"] and math.isnan(effect["energy"])


def test_too_few_series_are_split_in_proportion():
    series, train = walks(0, 12), walks(1, 30)
    assert resolution(series, 20, 10, train, draws=20) == resolution(series, 8, 4, train, draws=20)
    # 3 test series beside 200 samples: neither set can have fewer than 2
    few, many = (resolution(series, *sizes, train, draws=20) for sizes in ((3, 200), (200, 3)))
    assert few == resolution(series, 2, 10, train, draws=20)
    assert many == resolution(series, 10, 2, train, draws=20)
    with pytest.raises(ValueError, match="series: expected two sets of 2 or more, found 1 and 1"):
        resolution(series[:3], 5, 5, train)


def test_standardised_series():
    x = walks(0, channels=2).astype(np.float32) + 3
    x[0, :, 1] = 0.1
    z = standardise(x)
    np.testing.assert_allclose(z.mean(1), 0, atol=1e-9)
    expected = np.ones((12, 2))
    expected[0, 1] = 0
    np.testing.assert_allclose(z.std(1), expected, atol=1e-9)


# -- power ---------------------------------------------------------------------------------------


def test_each_distance_sees_the_degradation_that_it_is_for():
    assert set(TARGETS) == set(NAMES)
    rows = {*TARGETS.values(), "real", "time_reversal", "white_noise"}
    chosen = {name: degradations.DEGRADATIONS[name] for name in rows}
    shares = power(curves(0), 13, degradations=chosen, season=12, splits=16, permutations=99)
    for name, target in TARGETS.items():
        assert shares[target][name] >= 0.5, (name, target)
    assert all(share <= 0.25 for share in shares["real"].values())
    assert shares["time_reversal"]["spectrum"] <= 0.25  # blind to it
    assert shares["white_noise"]["all"] == 1


def test_what_the_degradations_change_and_what_they_keep():
    train, rng = walks(0, 30, 16, 2).astype(np.float32), np.random.default_rng(0)
    made = {name: f(train, 12, rng) for name, f in degradations.DEGRADATIONS.items()}
    assert all(x.shape == (12, 16, 2) and x.dtype == np.float32 for x in made.values())
    rows = {row.tobytes() for row in train}
    assert {x.tobytes() for x in made["real"]} < rows
    assert {x[::-1].tobytes() for x in made["time_reversal"]} < rows
    x = made["real"]
    phases = degradations.random_phases(x, rng)
    np.testing.assert_allclose(periodogram(phases), periodogram(x), atol=1e-6)
    np.testing.assert_allclose(phases.mean(1), x.mean(1), atol=1e-5)
    assert np.abs(phases - x).max() > 0.1
    shifted = degradations.circular_shift(x, rng)
    np.testing.assert_array_equal(np.sort(shifted, 1), np.sort(x, 1))
    assert all(any((np.roll(a, k, 0) == b).all() for k in range(16))
               for a, b in zip(x, shifted, strict=True))  # fmt: skip
    flat = made["leading_components"].reshape(12, -1) - train.reshape(30, -1).mean(0)
    assert np.linalg.matrix_rank(flat, tol=1e-3) == 3
    one_side = {x.tobytes() for x in degradations.one_side(train, 500, rng)}
    assert one_side < rows and len(one_side) == 15
    many = np.repeat(train, 100, axis=0)
    added = degradations.noise(many, rng, 0.3) - many
    np.testing.assert_allclose(added.std((0, 1)), 0.3 * train.std((0, 1)), rtol=0.02)
    shrunk = degradations.shrunk(train, 0.9)
    np.testing.assert_allclose(shrunk.std((0, 1)), 0.9 * train.std((0, 1)), rtol=1e-5)
    np.testing.assert_allclose(shrunk.mean((0, 1)), train.mean((0, 1)), atol=1e-5)


# -- bad input -----------------------------------------------------------------------------------


def test_unusable_input_gets_one_line():
    x, train = walks(0), walks(1)
    bad = walks(2)
    bad[3, 4, 0] = np.nan
    for arguments, options, message in (
        ((x, bad, train), {}, "fake: .* the first at series 3, step 4, channel 0"),
        ((x[:1], x, train), {}, "real: expected at least 2 independent series, found 1"),
        ((x, x[:1], train), {}, "fake: expected at least 2 independent series, found 1"),
        ((x, x, train), {"permutations": 0}, "permutations: expected at least 1, found 0"),
        ((x, x, train), {"season": 20}, "season: expected 1 to 19 steps or None, found 20"),
        ((x[:, :7], x[:, :7], train[:, :7]), {}, "series: expected at least 8 steps, found 7"),
    ):
        with pytest.raises(ValueError, match=message) as caught:
            two_sample(*arguments, **options)
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="series: expected at least 14, two sets of 7, found 12"):
        power(x, 7)
    with pytest.raises(ValueError, match="train: expected at least 13 series, found 12"):
        degradations.real(train, 13, np.random.default_rng(0))


# -- real data -----------------------------------------------------------------------------------

# Percent of splits in which a row is told apart on 100 other splits, by an independent program:
# marginal, energy, features, spectrum, neighbours, all.
REFERENCE = {
    "solar_weekly": {
        "real": (2, 9, 10, 6, 4, 7),
        "gaussian": (18, 17, 14, 13, 97, 97),
        "time_reversal": (3, 100, 100, 6, 100, 100),
        "one_side": (76, 100, 94, 89, 68, 98),
        "noise_10": (6, 3, 5, 8, 95, 76),
    },
    "fred_md": {
        "real": (4, 1, 3, 7, 4, 5),
        "gaussian": (85, 26, 100, 96, 88, 99),
        "moving_average": (6, 6, 99, 34, 8, 77),
        "noise_30": (7, 10, 100, 100, 91, 100),
        "shrunk_90": (16, 5, 11, 25, 40, 26),
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("name", REFERENCE)
def test_power_on_real_data(mirror: Path, name: str) -> None:
    config = catalogue.describe("datasets", name)
    paths = [mirror / path for path in config["files"]]
    dataset = monash.load(
        paths, name=name, title=config["title"], split=config["split"], **config["options"]
    )
    rows = REFERENCE[name]
    splits = 40
    shares = power(
        dataset.x,
        len(dataset.test),
        degradations={row: degradations.DEGRADATIONS[row] for row in rows},
        season=config.get("season"),
        splits=splits,
        permutations=99,
    )
    for row, expected in rows.items():
        for found, percent in zip(shares[row].values(), expected, strict=True):
            # both are shares of splits; a share of 0 or 1 among 100 may be .02 off
            p = np.clip(percent / 100, 0.02, 0.98)
            bound = 3.3 * math.sqrt(p * (1 - p) * (1 / splits + 1 / 100))
            assert abs(found - percent / 100) <= bound, (row, shares[row], expected)
