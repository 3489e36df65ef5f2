"""The FLAME problem: its exact solution, the solver held against it, and the shards."""

import json

import numpy as np
import pytest
from scipy.integrate import quad

from datasets import flame
from datasets.errors import DataError
from datasets.files import sha256

EXPONENTS = range(3, 11)
SPLIT = {"seed": 0, "fractions": [0.7, 0.1, 0.2]}


@pytest.fixture(scope="module")
def solved():
    """Trajectories of the solver for a late, a middle and an early ignition, by (p, x0)."""
    return {
        (p, x0): flame.solve(x0, p, rtol=1e-8, atol=1e-10)
        for p in EXPONENTS
        for x0 in (0.01, 0.05, 0.2)
    }


@pytest.mark.parametrize("p", EXPONENTS)
def test_the_implicit_solution_is_the_integral_of_the_slope(p):
    x0 = 0.1
    for x in (0.02, 0.1, 0.3, 0.7, 0.99, 1 - 1e-6):
        time = quad(lambda x: 1 / (x**2 - x**p), x0, x, epsabs=1e-13, epsrel=1e-13, limit=200)[0]
        assert flame.implicit_time(np.array(x), x0, p) == pytest.approx(time, abs=1e-9)


def test_the_implicit_time_beyond_the_fixed_points_is_infinite():
    x = np.array([-1e-9, 0.0, 1.0, 1 + 1e-9])
    for p in EXPONENTS:
        np.testing.assert_array_equal(
            flame.implicit_time(x, 0.1, p), [-np.inf, -np.inf, np.inf, np.inf]
        )


@pytest.mark.parametrize("p", EXPONENTS)
@pytest.mark.parametrize("x0", [1e-3, 0.01, 0.2, 0.7])
def test_the_exact_solution_satisfies_the_implicit_one(p, x0):
    t = np.concatenate([[0], np.geomspace(1e-3, 2000, 400)])
    x = flame.exact(x0, t, p)
    assert x[0] == pytest.approx(x0, rel=1e-12)
    assert (np.diff(x) >= 0).all() and x[-1] == pytest.approx(1, abs=1e-11)
    # Beyond, a rounding of 1 - x alone moves T by more than the bound.
    before = x < 1 - 1e-9
    residual = flame.implicit_time(x[before], x0, p) - t[before]
    assert np.abs(residual).max() < 1e-6


def test_lambert_w_would_overflow_where_omega_does_not():
    # exp(a) is inf for a = 999, and W(inf) makes 1 / (1 + W) a finite, wrong 0.
    x = flame.exact(1e-3, np.array([0.0, 500.0, 1100.0]), 3)
    np.testing.assert_allclose(x[:2], [1e-3, 2e-3], rtol=2e-3)
    assert x[2] == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("p", EXPONENTS)
def test_the_solver_agrees_with_the_exact_solution(solved, p):
    for x0 in (0.01, 0.05, 0.2):
        x = solved[p, x0]
        assert np.abs(x - flame.exact(x0, flame.TIMES, p)).max() < 1e-7
        assert flame.first_error(x, flame.TIMES, x0, p) is None
        assert x[0] == x0
        assert x.max() <= 1 + 1e-8
        assert x[-1] == pytest.approx(1, abs=1e-8)
        assert np.diff(x).min() > -1e-8


@pytest.mark.parametrize("p", EXPONENTS)
def test_a_later_start_is_a_shift(p):
    t = np.arange(60.0)
    x = flame.exact(0.05, t, p)
    # Before ignition: later on, the new start 1 - x has lost the digits that tell the time.
    shifted = flame.exact(float(x[15]), t[:45], p)
    np.testing.assert_allclose(shifted, x[15:], atol=1e-12)


def test_a_larger_p_ignites_earlier():
    times = [float(flame.implicit_time(np.array(0.5), 0.02, p)) for p in EXPONENTS]
    assert (np.diff(times) < 0).all()
    assert times[0] == pytest.approx(51.9, abs=0.05) and times[-1] == pytest.approx(48.0, abs=0.05)


@pytest.mark.parametrize("p", EXPONENTS)
def test_a_small_flame_creeps(p):
    x0 = 1e-3
    t = np.array([100.0, 500.0, 900.0])
    creeping = 1 / (1 / x0 - t)
    bound = creeping * (1 - np.log(creeping)) if p == 3 else creeping ** (p - 2)
    error = np.abs(flame.exact(x0, t, p) / creeping - 1)
    assert (error < 10 * bound + 1e-9).all()


@pytest.mark.parametrize("p", EXPONENTS)
def test_the_approach_to_1_has_rate_p_minus_2(p):
    x0 = 0.1
    near = np.array([1 - 1e-4, 1 - 1e-7])
    t = np.linspace(*flame.implicit_time(near, x0, p), 20)
    slope = np.polyfit(t, np.log(1 - flame.exact(x0, t, p)), 1)[0]
    assert slope == pytest.approx(-(p - 2), rel=0.01)


@pytest.mark.parametrize("p", [3, 7])
def test_an_error_at_any_single_time_is_found(p):
    exact = flame.exact(0.05, flame.TIMES, p)
    for k in (0, 10, 19, 25, 1000):
        for sign in (-1, 1):
            x = exact.copy()
            x[k] += sign * 0.9e-6
            assert flame.first_error(x, flame.TIMES, 0.05, p) is None
            x[k] += sign * 0.2e-6
            assert flame.first_error(x, flame.TIMES, 0.05, p) == k
    exact[40] = np.nan
    assert flame.first_error(exact, flame.TIMES, 0.05, p) == 40


def test_a_sloppy_solver_fails_and_names_the_trajectory():
    with pytest.raises(
        DataError, match=r"FLAME p = 5, trajectory 0 \(x0 = 0\.\d+\): .* found .* at t = \d+"
    ):
        flame.generate_shard(5, 2, seed=0, rtol=1e-3, atol=1e-3)


def test_starts_are_log_uniform_in_range_and_their_own_for_each_seed_and_p(monkeypatch):
    monkeypatch.setattr(flame, "solve", lambda x0, p, **tolerances: flame.exact(x0, flame.TIMES, p))
    x0, x = flame.generate_shard(3, 400, seed=0)
    assert 0.01 < x0.min() < 0.011 and 0.19 < x0.max() < 0.2
    uniform = np.log(x0 / 0.01) / np.log(20)
    assert uniform.mean() == pytest.approx(0.5, abs=4 / np.sqrt(12 * 400))
    np.testing.assert_allclose(x[:, 0], x0)
    fewer, _ = flame.generate_shard(3, 5, seed=0)
    np.testing.assert_array_equal(fewer, x0[:5])
    others = [flame.generate_shard(p, 5, seed=seed)[0] for p, seed in ((4, 0), (3, 1))]
    assert all((other != fewer).all() for other in others)


@pytest.mark.parametrize(
    "options", [{"p": 2}, {"n": 0}, {"x0_range": [0.0, 0.2]}, {"x0_range": [0.2, 1.5]}]
)
def test_options_without_meaning_are_refused(options):
    with pytest.raises(DataError, match="FLAME: expected p >= 3, n >= 1 and 0 < x0_range < 1"):
        flame.generate_shard(**{"p": 3, "n": 1, "seed": 0} | options)


def write(folder, p, n=5, seed=0):
    path = folder / f"p{p}_{n}_{seed}.npz"
    flame.write_shard(path, p, n=n, seed=seed, x0_range=[0.05, 0.2])
    return path


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    return [write(folder, p) for p in (3, 10)]


def test_a_shard_holds_the_whole_grid_and_its_making(shards):
    with np.load(shards[1], allow_pickle=False) as shard:
        assert shard["x"].shape == (5, 1001) and shard["x"].dtype == np.float32
        assert shard["p"] == 10
        np.testing.assert_array_equal(shard["x"][:, 0], shard["x0"].astype(np.float32))
        options = json.loads(str(shard["options"]))
    assert (options["n"], options["seed"], options["rtol"], options["atol"]) == (5, 0, 1e-8, 1e-10)


def test_the_same_options_give_the_same_bytes(shards, tmp_path):
    assert sha256(write(tmp_path, 3)) == sha256(shards[0])
    assert sha256(write(tmp_path, 3, seed=1)) != sha256(shards[0])


def test_shards_are_pooled_and_split_within_each_p(shards):
    dataset, reversed_ = (
        flame.load(files, name="flame", title="FLAME", split=SPLIT)
        for files in (shards, shards[::-1])
    )
    assert dataset.x.shape == (10, 1000, 1)
    assert dataset.data_digest == reversed_.data_digest
    np.testing.assert_array_equal(dataset.label, [3] * 5 + [10] * 5)
    for part, n in ((dataset.train, 3), (dataset.validation, 1), (dataset.test, 1)):
        np.testing.assert_array_equal(dataset.label[part], [3] * n + [10] * n)
    assert dataset.meta["files"][0] == {"name": shards[0].name, "sha256": sha256(shards[0])}
    assert dataset.meta["options"]["solver"] == "scipy Radau, analytic Jacobian"
    np.testing.assert_allclose(dataset.t[0] * 999, flame.TIMES[:1000], atol=1e-4)


def test_shards_that_do_not_fit_together_are_refused(shards, tmp_path):
    def load(files):
        return flame.load(files, name="flame", title="FLAME", split=SPLIT)

    with pytest.raises(DataError, match=r"expected shards of different p, found p = \[3, 3\]"):
        load([shards[0], shards[0]])
    with pytest.raises(DataError, match="expected shards of different p"):
        load([])
    other = write(tmp_path, 4, seed=1)
    with pytest.raises(DataError, match=f"{other.name}: expected the options of the other shards"):
        load([shards[0], other])
    stranger = tmp_path / "stranger.npz"
    np.savez(stranger, x=np.zeros(3))
    with pytest.raises(DataError, match=r"stranger\.npz: expected array 'options'"):
        load([stranger])
