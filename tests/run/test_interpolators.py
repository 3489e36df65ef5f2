"""Controls that predict: closed forms, loops and another library as oracles, invariances."""

import numpy as np
import pytest
import torch
from sklearn import gaussian_process

from harness.run import interpolators
from harness.run.interpolators import INTERPOLATORS, ChannelMean, GaussianProcess, Kernel, fit


def records(seed, n=30, length=14, channels=3, share=0.5):
    """Smooth values about a record's own level, of which `share` is shown; padded records."""
    rng = np.random.default_rng(seed)
    t = np.sort(rng.random((n, length)), axis=1)
    rows = np.arange(length) < rng.integers(length // 2, length + 1, n)[:, None]
    rows[0] = True
    t = np.where(rows, t, np.where(rows, t, 0).max(1, keepdims=True))
    level, phase = rng.standard_normal((2, n, 1, channels))
    values = level + np.sin(6 * t[..., None] + phase) + 0.1 * rng.standard_normal((n, length, 1))
    mask = (rng.random(values.shape) < share) & rows[..., None]
    mask[1, :, 0] = False  # nothing shown
    mask[2, :, 0] = np.arange(length) == 4  # one value
    return np.where(rows[..., None], values, 0), t, mask


@pytest.fixture(scope="module")
def fitted():
    x, t, mask = records(100, n=40, share=0.9)
    return {name: fit(name, np.where(mask, x, 0), t, mask) for name in INTERPOLATORS}


def same(first, second, **tolerance):
    for a, b in zip(first, second, strict=True):
        np.testing.assert_allclose(a, b, **tolerance)


# --- closed forms and loops ----------------------------------------------------------------------


def test_mean_and_deviation_of_the_observed_values():
    x = np.array([[[1.0, 5.0, 0.0], [3.0, 0.0, 0.0]], [[8.0, 0.0, 0.0], [0.0, 0.0, 0.0]]])
    mask = x != 0
    control = fit("mean", x, np.tile([0.0, 1.0], (2, 1)), mask)
    mean, std = control.predict(np.zeros((1, 3, 3)), np.zeros((1, 3)), np.zeros((1, 3, 3), bool))
    np.testing.assert_allclose(mean, np.tile([4, 5, 0], (1, 3, 1)))
    np.testing.assert_allclose(std, np.tile([np.std([1, 3, 8]), 0, 0], (1, 3, 1)))


def test_last_value_is_a_loop(fitted):
    x, t, mask = records(0)
    expected = np.empty_like(x)
    for b, d in np.ndindex(len(x), x.shape[2]):
        last = fitted["mean"].mean[d]
        for k in range(x.shape[1]):
            last = x[b, k, d] if mask[b, k, d] else last
            expected[b, k, d] = last
    forecast = fitted["locf"].predict(x, t, mask)
    np.testing.assert_array_equal(forecast.mean, expected)
    assert not forecast.std.any()


def test_linear_is_numpy_interp(fitted):
    x, t, mask = records(0)
    expected = np.empty_like(x)
    for b, d in np.ndindex(len(x), x.shape[2]):
        shown = mask[b, :, d]
        expected[b, :, d] = (
            np.interp(t[b], t[b, shown], x[b, shown, d]) if shown.any() else fitted["mean"].mean[d]
        )
    forecast = fitted["linear"].predict(x, t, mask)
    np.testing.assert_allclose(forecast.mean, expected, rtol=1e-12, atol=1e-12)
    assert not forecast.std.any()


def test_equal_times(fitted):
    t = np.array([[0.2, 0.5, 0.5, 0.5, 0.9]])
    x, mask = np.zeros((1, 5, 3)), np.zeros((1, 5, 3), bool)
    for row, value in ((1, 1.0), (3, 3.0)):
        x[0, row, 0], mask[0, row, 0] = value, True
    assert fitted["locf"].predict(x, t, mask).mean[0, 1:, 0].tolist() == [1, 1, 3, 3]
    assert fitted["linear"].predict(x, t, mask).mean[0, :, 0].tolist() == [1, 1, 1, 3, 3]
    mean = fitted["gp"].predict(x, t, mask).mean[0, :, 0]
    assert mean[1] == mean[2] == mean[3]
    assert 1 < mean[1] < 3


@pytest.mark.parametrize("name", ["locf", "linear"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_is_shown_is_returned_exactly(fitted, name, dtype):
    x, t, mask = records(1)
    x, t = x.astype(dtype), t.astype(dtype)
    np.testing.assert_array_equal(fitted[name].predict(x, t, mask).mean[mask], x[mask])


def test_a_single_value_is_held(fitted):
    x, t, mask = records(0)
    after = fitted["locf"].predict(x, t, mask).mean[2, :, 0]
    np.testing.assert_array_equal(after[:4], fitted["mean"].mean[0])
    np.testing.assert_array_equal(after[4:], x[2, 4, 0])
    assert (fitted["linear"].predict(x, t, mask).mean[2, :, 0] == x[2, 4, 0]).all()


# --- Gaussian process ----------------------------------------------------------------------------


def sklearn_process(kernel):
    kernels = gaussian_process.kernels
    m, a, b, sigma, ell = (float(p) for p in kernel)
    covariance = (
        kernels.ConstantKernel(a**2)
        + kernels.ConstantKernel(b**2) * kernels.Matern(ell, nu=1.5)
        + kernels.WhiteKernel(sigma**2)
    )
    process = gaussian_process.GaussianProcessRegressor(covariance, optimizer=None, alpha=0)
    return m, process


def test_posterior_is_sklearns(fitted, monkeypatch):
    monkeypatch.setattr(interpolators, "CHUNK", 500)  # several chunks
    x, t, mask = records(2, n=8)
    forecast = fitted["gp"].predict(x, t, mask)
    assert list(fitted["gp"].kernels) == [0, 1, 2]
    for d, kernel in fitted["gp"].kernels.items():
        m, process = sklearn_process(kernel)
        for b in range(len(x)):
            shown = mask[b, :, d]
            if shown.any():
                process.fit(t[b, shown, None], x[b, shown, d] - m)
                mean, std = process.predict(t[b][:, None], return_std=True)
            else:
                mean, std = 0.0, float(kernel.a**2 + kernel.b**2 + kernel.sigma**2) ** 0.5
            np.testing.assert_allclose(forecast.mean[b, :, d], m + mean, rtol=1e-7, atol=1e-9)
            np.testing.assert_allclose(forecast.std[b, :, d], std, rtol=1e-7)


def process_records(n, length):
    """Records drawn from a Gaussian process, and its kernel."""
    rng = np.random.default_rng(0)
    kernel = Kernel(*torch.tensor([2.0, 1.0, 0.5, 0.2, 0.3], dtype=torch.float64))
    t = np.sort(rng.random((n, length)), axis=1)
    times = torch.from_numpy(t)
    covariance = kernel.covariance(times, times) + kernel.sigma**2 * torch.eye(length)
    factor = torch.linalg.cholesky(covariance).numpy()
    return 2 + factor @ rng.standard_normal((n, length, 1)), t, kernel


def test_likelihood_is_at_its_maximum():
    x, t, _ = process_records(25, 12)
    mask = np.random.default_rng(1).random(x.shape) < 0.8
    kernel = fit("gp", x, t, mask).kernels[0]

    def likelihood(*parameters):
        m, process = sklearn_process(parameters)
        return sum(
            process.fit(t[b, shown, None], x[b, shown, 0] - m).log_marginal_likelihood_value_
            for b, shown in enumerate(mask[..., 0])
        )

    best = likelihood(*kernel)
    for i in range(5):
        for factor in (0.9, 1.1):
            moved = [p * factor if i == j else p for j, p in enumerate(kernel)]
            assert likelihood(*moved) < best - 1e-3


@pytest.mark.parametrize("values", [64, 8])
def test_parameters_are_found_again_also_from_thinned_values(monkeypatch, values):
    monkeypatch.setattr(interpolators, "VALUES", values)
    x, t, true = process_records(200, 20)
    kernel = fit("gp", x, t, np.ones(x.shape, bool)).kernels[0]
    np.testing.assert_allclose(torch.stack(kernel), torch.stack(true), rtol=0.25)


def test_thinning_keeps_so_many_of_what_is_shown():
    shown = np.random.default_rng(0).random((20, 50)) < 0.3
    kept = interpolators._thin(shown, 12, np.random.default_rng(1))
    assert not (kept & ~shown).any()
    np.testing.assert_array_equal(kept.sum(1), np.minimum(shown.sum(1), 12))


def test_gaussian_process_beats_the_others_on_smooth_records(fitted):
    x, t, mask = records(4, n=60)
    hidden = ~mask & (np.diff(t, axis=1, append=2) > 0)[..., None] & (x != 0)
    error = {
        name: np.abs(control.predict(np.where(mask, x, 0), t, mask).mean - x)[hidden].mean()
        for name, control in fitted.items()
    }
    assert error["gp"] < error["linear"] < error["locf"] < error["mean"]


def test_a_channel_without_repeats_or_constant_or_unobserved_is_left_to_its_mean():
    x, t, mask = records(5, n=40, length=10, channels=4, share=1.0)
    mask[:, 1:, 1] = False
    x[..., 2] = np.float32(0.1)
    mask[..., 3] = False
    x = np.where(mask, x, 0)
    gp = fit("gp", x, t, mask)
    assert list(gp.kernels) == [0]
    for whole, mean in zip(
        gp.predict(x, t, mask), fit("mean", x, t, mask).predict(x, t, mask), strict=True
    ):
        np.testing.assert_array_equal(whole[..., 1:], mean[..., 1:])


def test_fits_where_gradients_are_off():
    x, t, mask = records(6)
    with torch.no_grad():
        inside = fit("gp", x, t, mask)
    assert inside.kernels == fit("gp", x, t, mask).kernels


# --- invariances, of all of them -----------------------------------------------------------------


@pytest.mark.parametrize("name", INTERPOLATORS)
def test_padding_hidden_values_and_company_do_not_matter(fitted, name):
    x, t, mask = records(7)
    x = np.where(mask, x, 0)
    forecast = fitted[name].predict(x, t, mask)
    assert all(a.shape == x.shape and np.isfinite(a).all() for a in forecast)

    hidden = np.where(mask, x, 1e3)
    same(fitted[name].predict(hidden, t, mask), forecast, rtol=1e-10, atol=1e-12)

    wider = ((0, 0), (0, 6), (0, 0))
    padded = fitted[name].predict(
        np.pad(x, wider), np.pad(t, wider[:2], mode="edge"), np.pad(mask, wider)
    )
    same([a[:, : x.shape[1]] for a in padded], forecast, rtol=1e-10, atol=1e-12)

    for b in (0, 1, 2, 5):
        alone = fitted[name].predict(x[[b]], t[[b]], mask[[b]])
        same(alone, [a[[b]] for a in forecast], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", INTERPOLATORS)
def test_nothing_shown_is_the_training_mean_or_prior(fitted, name):
    x, t, mask = records(8, n=4)
    forecast = fitted[name].predict(np.zeros_like(x), t, np.zeros_like(mask))
    expected = fitted["mean"].mean
    if name == "gp":
        expected = [float(kernel.m) for kernel in fitted["gp"].kernels.values()]
    np.testing.assert_allclose(forecast.mean, np.broadcast_to(expected, x.shape))


@pytest.mark.parametrize("name", INTERPOLATORS)
def test_what_is_fitted_ignores_hidden_values_and_padding(name):
    x, t, mask = records(9)
    wider = ((0, 0), (0, 6), (0, 0))
    first = fit(name, x, t, mask)
    second = fit(name, np.where(mask, x, 1e3), t, mask)
    np.testing.assert_array_equal(first.mean, second.mean)
    np.testing.assert_array_equal(first.std, second.std)
    padded = fit(name, np.pad(x, wider), np.pad(t, wider[:2], mode="edge"), np.pad(mask, wider))
    np.testing.assert_allclose(first.mean, padded.mean)
    if isinstance(first, GaussianProcess):
        for other in (second, padded):
            for d, kernel in first.kernels.items():
                np.testing.assert_allclose(kernel, other.kernels[d], rtol=1e-3)
    assert isinstance(first, ChannelMean)
