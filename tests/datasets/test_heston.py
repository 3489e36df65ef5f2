"""Heston paths: the simulator against closed forms, the shards, the split and the scaling."""

import math

import numpy as np
import pytest
from scipy.stats import kstest, norm

from datasets import heston
from datasets.base import Dataset, Scaling
from datasets.errors import DataError
from datasets.files import sha256

SPLIT = {"seed": 0, "fractions": [0.9, 0.1, 0.0]}


def rng(seed=0):
    return np.random.default_rng(seed)


def test_without_volatility_of_volatility_it_is_geometric_brownian_motion():
    law = heston.Law(xi=0.0, rho=0.0)  # and v_0 = theta
    r = np.diff(np.log(heston.simulate(500, rng(), law)), axis=1)
    mean, variance = (law.mu - law.theta / 2) * law.dt, law.theta * law.dt
    assert kstest(r.ravel(), norm(mean, math.sqrt(variance)).cdf).pvalue > 0.001
    # independent, too: the sum over a path is as normal as its parts
    total = kstest(r.sum(1), norm(127 * mean, math.sqrt(127 * variance)).cdf)
    assert total.pvalue > 0.001


def test_a_path_is_the_recursion_also_where_its_variance_is_negative():
    z = rng().standard_normal((1, 99, 2))[0]
    log_price, v, path, lowest = np.log(100.0), 0.04, [100.0], 0.0
    for first, second in z:
        v_plus = max(v, 0.0)
        log_price += (0.05 - v_plus / 2) / 250 + np.sqrt(v_plus / 250) * first
        other = -0.7 * first + np.sqrt(1 - 0.7**2) * second
        v += 2 * (0.04 - v_plus) / 250 + 2.0 * np.sqrt(v_plus / 250) * other
        path.append(np.exp(log_price))
        lowest = min(lowest, v)
    assert lowest < 0
    found = heston.simulate(1, rng(), heston.Law(xi=2.0), 100)
    np.testing.assert_allclose(found, [path], rtol=1e-12)


def test_the_mean_grows_at_the_drift():
    S = heston.simulate(40_000, rng())[:, -1]
    expected = 100 * math.exp(0.05 * 127 / 250)
    assert abs(S.mean() - expected) < 4 * S.std() / math.sqrt(len(S))


def test_variance_returns_to_its_mean_and_noises_are_correlated():
    # E v decays as (1 - kappa dt)^t, by which E sum r^2 is known up to the drift's square
    law = heston.Law(v_0=0.09, xi=0.1)
    r = np.diff(np.log(heston.simulate(20_000, rng(), law)), axis=1)
    v = 0.04 + 0.05 * (1 - law.kappa * law.dt) ** np.arange(127)
    np.testing.assert_allclose(np.square(r).mean(0) / law.dt, v, rtol=0.06)
    # a fall of the price raises the variance, by rho xi v dt on average
    r = np.diff(np.log(heston.simulate(400_000, rng(), length=3)), axis=1)
    product = (r[:, 0] - r[:, 0].mean()) * r[:, 1] ** 2
    error = product.std() / math.sqrt(len(product))
    assert abs(product.mean() - -0.7 * 0.3 * 0.04 / 250**2) < 4 * error < 3e-8


def test_mean_and_deviation_of_the_training_prices():
    draws = [heston.simulate(8192, rng([seed, 0])) for seed in range(6)]
    assert all(101.1 <= S.mean() <= 101.5 for S in draws)
    assert all(9.9 <= S.std() <= 10.25 for S in draws)  # 9.95 to 10.2 over twenty draws
    assert all((S[:, 0] == 100).all() and S.shape == (8192, 128) for S in draws)


def test_fewer_paths_are_the_first_of_more():
    np.testing.assert_allclose(heston.simulate(3, rng()), heston.simulate(9, rng())[:3])


def test_a_variance_below_zero_counts_as_zero():
    S = heston.simulate(500, rng(), heston.Law(xi=3.0))  # far from Feller's condition
    assert np.isfinite(S).all() and (S > 0).all()
    drift_alone = np.abs(np.diff(np.log(S), axis=1) - 0.05 / 250) < 1e-12
    assert 0.05 < drift_alone.mean() < 0.95


def test_a_random_walk_has_the_returns_of_the_training_prices_in_any_order():
    train = heston.simulate(50, rng())[..., None]
    walk = heston.random_walk(train, 30, rng(1))
    assert walk.shape == (30, 128, 1)
    np.testing.assert_allclose(walk[:, 0], 100)
    known = np.sort(np.diff(np.log(train), axis=1).ravel())
    r = np.diff(np.log(walk), axis=1).ravel()
    nearest = known[np.searchsorted(known, r).clip(1, len(known) - 1) - [[0], [1]]]
    np.testing.assert_allclose(np.abs(nearest - r).min(0), 0, atol=1e-12)
    assert heston.perfect(train, 30, rng(1)).shape == walk.shape


def write(folder, shard, n=60, seed=0):
    path = folder / f"{shard}_{n}_{seed}.npz"
    heston.write_shard(path, shard, n=n, seed=seed)
    return path


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    return [write(folder, shard) for shard in (0, 1)]


def load(files, split=SPLIT):
    return heston.load(files, name="heston", title="Heston", split=split)


def test_training_and_test_paths_are_draws_of_their_own(shards, tmp_path):
    dataset = load(shards[::-1])
    assert [len(part) for part in (dataset.train, dataset.validation, dataset.test)] == [54, 6, 60]
    assert dataset.test.tolist() == list(range(60, 120))
    assert not np.allclose(dataset.x[:60], dataset.x[60:])
    assert dataset.meta["options"]["law"]["kappa"] == 2
    dataset.save(tmp_path / "heston.npz")
    again = Dataset.load(tmp_path / "heston.npz")
    assert again.data_digest == load(shards).data_digest
    assert again.scaling == dataset.scaling


def test_no_small_seed_of_a_control_repeats_the_paths(shards):
    first = [np.load(path)["prices"][0, 1] for path in shards]
    seeds = [*range(50), *([a, b] for a in range(5) for b in range(5)), [0, 0, 1], [0, 1, 0]]
    drawn = [heston.simulate(1, rng(seed))[0, 1] for seed in seeds]
    assert not np.isin(first, drawn).any()


def test_prices_are_scaled_by_the_training_part_and_back(shards):
    dataset = load(shards)
    x = dataset.x[dataset.train]
    assert x.mean() == pytest.approx(0, abs=1e-5) and x.std() == pytest.approx(1, abs=1e-5)
    prices = np.concatenate([np.load(path)["prices"] for path in shards])[..., None]
    np.testing.assert_allclose(dataset.scaling.undo(dataset.x), prices, rtol=1e-6)
    np.testing.assert_array_equal(dataset.scaling.apply(prices), dataset.x)
    values = rng().standard_normal((3, 4, 1)).astype(np.float32)
    np.testing.assert_array_equal(Scaling().undo(values), values)  # of data that are not scaled


def test_the_same_options_give_the_same_bytes(shards, tmp_path):
    assert sha256(write(tmp_path, 0)) == sha256(shards[0])
    assert sha256(write(tmp_path, 0, seed=1)) != sha256(shards[0]) != sha256(shards[1])


def test_what_does_not_fit_together_is_refused(shards, tmp_path):
    for files in ([], shards[:1], [shards[0], shards[0]], [shards[0], write(tmp_path, 1, seed=1)]):
        with pytest.raises(DataError, match="heston: expected shards 0 and 1 of the same options"):
            load(files)
    with pytest.raises(DataError, match=r"fractions without test series, .* found \[0.7, 0.1, 0.2"):
        load(shards, SPLIT | {"fractions": [0.7, 0.1, 0.2]})
    stranger = tmp_path / "stranger.npz"
    np.savez(stranger, x=np.zeros(3))
    with pytest.raises(DataError, match=r"stranger\.npz: expected array 'options'"):
        load([stranger, shards[1]])
    for shard, n in ((2, 5), (0, 0)):
        with pytest.raises(DataError, match=rf"Heston: .* found {shard} and n = {n}"):
            heston.write_shard(tmp_path / "none.npz", shard, n=n, seed=0)
