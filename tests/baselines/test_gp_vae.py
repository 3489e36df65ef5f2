"""GP-VAE: its Gaussians against dense ones, its estimates against closed forms, its memory."""

import dataclasses

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.distributions import MultivariateNormal, kl_divergence
from torch.utils._python_dispatch import TorchDispatchMode

from baselines.gp_vae import (
    GPVAE,
    JITTER,
    GPVAEConfig,
    Posterior,
    cauchy_kernel,
    linear_scan,
    solve_bidiagonal,
)
from harness.contract import Batch, Diverged, Shape

T = 8
TINY = GPVAEConfig(latents=5, encoder=(7, 6), window=4, decoder=(8,), length_scale=1 / 8,
                    scales=3)  # fmt: skip


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def model(double: object) -> GPVAE:
    return GPVAE(TINY, Shape(T, 2))


def bands(size: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """a and b, positive."""
    return torch.rand(size, generator=seeded(1)), torch.rand(size, generator=seeded(2))


def dense(a: Tensor, b: Tensor) -> Tensor:
    """B, entry by entry from its definition."""
    matrix = torch.zeros(*a.shape, a.shape[-1])
    for i in range(a.shape[-1]):
        matrix[..., i, i] = 1 + a[..., i]
        if i + 1 < a.shape[-1]:
            matrix[..., i, i + 1] = b[..., i]
    return matrix


def complete(n: int, length: int, channels: int) -> Batch:
    x = torch.randn(n, length, channels, generator=seeded(3))
    t = torch.linspace(0, 1, length).expand(n, -1)
    return Batch(x, t, torch.ones_like(x), torch.ones_like(x))


# -- the posterior -------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [1, 2, 5, 8, 13])
def test_scan_against_the_recurrence(double: object, length: int) -> None:
    c = torch.randn(3, length, generator=seeded())
    d = torch.randn(3, length, generator=seeded(1))
    y, expected = torch.zeros(3), []
    for t in range(length):
        y = d[:, t] if t == 0 else c[:, t] * y + d[:, t]
        expected.append(y)
    torch.testing.assert_close(linear_scan(c, d), torch.stack(expected, 1))


def test_solve_and_its_gradient(double: object) -> None:
    (a, b), eps = bands((2, 3, T)), torch.randn(2, 3, T, generator=seeded())
    y = solve_bidiagonal(1 + a, b, eps)
    torch.testing.assert_close((dense(a, b).mT @ y[..., None])[..., 0], eps)
    inputs = [v[0, :2, :6].clone().requires_grad_() for v in (1 + a, b, eps)]
    assert torch.autograd.gradcheck(solve_bidiagonal, inputs)


def test_draws_have_the_covariance_of_the_precision(double: object) -> None:
    a, b = bands((1, 2, 6))
    n = 50_000
    posterior = Posterior(*(v.expand(n, -1, -1) for v in (torch.ones(1, 2, 6), a, b)))
    z, _ = posterior.draw(seeded())
    matrix = dense(a, b)[0]
    for j in range(2):
        covariance = torch.linalg.inv(matrix[j] @ matrix[j].mT)
        torch.testing.assert_close(z[:, j].T.cov(), covariance, rtol=0, atol=0.02)
        assert (covariance.diagonal(1) < 0).all()  # as the docstring says of positive b
    torch.testing.assert_close(z.mean(0), torch.ones(2, 6), rtol=0, atol=0.02)


def test_log_posterior(double: object) -> None:
    m, (a, b) = torch.randn(3, 2, T, generator=seeded(5)), bands((3, 2, T))
    z, log_q = Posterior(m, a, b).draw(seeded())
    matrix = dense(a, b)
    reference = MultivariateNormal(m, precision_matrix=matrix @ matrix.mT)
    constant = -T / 2 * torch.tensor(2 * torch.pi).log()
    torch.testing.assert_close(log_q + constant, reference.log_prob(z))


# -- the prior -----------------------------------------------------------------------------------


def kernels(t: Tensor) -> list[Tensor]:
    """K of each path of TINY, entry by entry: two paths, two paths, one."""
    scales = [1 / 8, 1 / 8, 1 / 16, 1 / 16, 1 / 32]
    gap = t[:, None] - t
    return [1 / (1 + gap**2 / s**2) + JITTER * torch.eye(len(t)) for s in scales]


@pytest.mark.parametrize("length", [T, 13])  # whatever length the model was built for
def test_log_prior(model: GPVAE, length: int) -> None:
    t = torch.linspace(0, 1, length)
    z = torch.randn(3, 5, length, generator=seeded())
    found = model.log_prior(z, t) - length / 2 * torch.tensor(2 * torch.pi).log()
    for j, k in enumerate(kernels(t)):
        expected = MultivariateNormal(torch.zeros(length), k).log_prob(z[:, j])
        torch.testing.assert_close(found[:, j], expected)


def test_samples_are_decoded_paths_of_the_prior(model: GPVAE) -> None:
    model = GPVAE(TINY, Shape(T, 5))
    model.decode = nn.Sequential(nn.Identity())
    t = torch.linspace(0, 1, T)
    z = model.sample(40_000, t, seeded())
    for j, k in enumerate(kernels(t)):
        torch.testing.assert_close(z[..., j].T.cov(), k, rtol=0, atol=0.03)
    across = (z[..., :1].mT @ z[..., 1:]).mean(0)  # of different paths
    torch.testing.assert_close(across, torch.zeros(1, 4), rtol=0, atol=0.1)


def test_length_scale_is_a_share_of_the_series() -> None:
    short, long = (cauchy_kernel(torch.linspace(0, 1, n), 1 / 8) for n in (51, 1001))
    torch.testing.assert_close(short[0, 1:], long[0, 20::20], rtol=1e-5, atol=0)
    assert short[0, 0] == 1 + JITTER


def test_scales_are_one_row_and_half_a_row_unless_said_otherwise() -> None:
    model = GPVAE(GPVAEConfig(latents=2), Shape(52, 1))
    longest, half = model.prior(torch.linspace(0, 1, 52), torch.float64)
    next_row = [(factor.matrix @ factor.matrix.mT)[0, 1].item() for factor in (longest, half)]
    assert next_row == pytest.approx([1 / 2, 1 / 5], rel=1e-5)  # 1 / (1 + (1 row / l)^2)


def test_single_precision_factor_suffices_on_a_long_grid() -> None:
    t = torch.linspace(0, 1, 700)
    model = GPVAE(dataclasses.replace(TINY, scales=1), Shape(700, 1))
    z = model.prior(t, torch.float32)[0].matrix @ torch.randn(700, 4, generator=seeded())
    single, double = (model.log_prior(v.T[None].expand(1, 4, 700), t) for v in (z, z.double()))
    torch.testing.assert_close(single.double(), double, rtol=0, atol=0.5)  # of several hundred


# -- the objective -------------------------------------------------------------------------------


def test_kl_estimate_has_the_closed_form_as_its_mean(model: GPVAE) -> None:
    n, t = 20_000, torch.linspace(0, 1, T)
    a, b = bands((1, 5, T))
    m = torch.randn(1, 5, T, generator=seeded(5))
    z, log_q = Posterior(*(v.expand(n, -1, -1) for v in (m, a, b))).draw(seeded())
    kl = log_q - model.log_prior(z, t)
    matrix = dense(a, b)[0]
    for j, k in enumerate(kernels(t)):
        q = MultivariateNormal(m[0, j], precision_matrix=matrix[j] @ matrix[j].mT)
        exact = kl_divergence(q, MultivariateNormal(torch.zeros(T), k))
        error = kl[:, j].std() / n**0.5
        assert (kl[:, j].mean() - exact).abs() < 4 * error, "biased"
        assert error < 0.05 * exact, "the estimate is too rough for this test to say anything"


def test_loss_against_the_docstring(model: GPVAE) -> None:
    batch = complete(3, T, 2)
    batch.target[0, 2:5] = 0
    found = model.loss(batch, 0, seeded())
    z, log_q = model.encode(batch.x).draw(seeded())
    expected = torch.zeros(())
    for i in range(3):
        x_hat = model.decode(z[i].T)
        log_p = torch.distributions.Normal(x_hat, 0.1).log_prob(batch.x[i])
        kl = (log_q[i] - model.log_prior(z, batch.t[0])[i]).sum()
        expected = expected - log_p[batch.target[i] > 0].sum() / 3 + 0.2 * kl / 3
    torch.testing.assert_close(found.value, expected)


def test_hidden_values_matter_neither_to_encoder_nor_to_likelihood(model: GPVAE) -> None:
    batch = complete(3, T, 2)
    batch.mask[1, 2:] = batch.target[1, 2:] = 0
    other = dataclasses.replace(batch, x=batch.x + 9 * (1 - batch.mask))
    zero = dataclasses.replace(batch, x=batch.visible)
    a, b, c = (model.loss(v, 0, seeded()).value for v in (batch, other, zero))
    assert torch.equal(a, b) and torch.equal(a, c)


def test_order_of_paths_with_one_scale_is_arbitrary(double: object) -> None:
    model = GPVAE(dataclasses.replace(TINY, scales=1), Shape(T, 2))
    z, t = torch.randn(3, 5, T, generator=seeded()), torch.linspace(0, 1, T)
    order = [3, 1, 4, 0, 2]
    torch.testing.assert_close(model.log_prior(z, t)[:, order], model.log_prior(z[:, order], t))


def test_calibration_is_the_nearest_posterior_without_correlation(model: GPVAE) -> None:
    model.calibrate(complete(3, T, 2))
    a = model.encode(torch.zeros(1, T, 2)).a[0]  # (k, T), of the biases alone
    for a_j, k in zip(a, kernels(torch.linspace(0, 1, T)), strict=True):
        prior = MultivariateNormal(torch.zeros(T), k)

        def kl(factor: float, prior: MultivariateNormal = prior, a_j: Tensor = a_j) -> Tensor:
            q = MultivariateNormal(torch.zeros(T), scale_tril=(factor / (1 + a_j)).diag())
            return kl_divergence(q, prior)

        assert kl(1) < min(kl(0.95), kl(1.05))


@pytest.mark.parametrize("window", [1, 4, 5])
def test_encoder_window(double: object, window: int) -> None:
    model = GPVAE(dataclasses.replace(TINY, window=window), Shape(20, 1))
    x = torch.randn(1, 20, 1, generator=seeded())
    changed = x.clone()
    changed[0, 10] += 1
    a, b = model.encode(x), model.encode(changed)
    moved = (a.m != b.m).any(1)[0].nonzero()[:, 0]
    first, last = 10 - window // 2, 10 + (window - 1) // 2  # rows with row 10 in their window
    assert (moved.min(), moved.max()) == (first, last)
    assert (a.a > 0).all() and (a.b > 0).all()


# -- memory --------------------------------------------------------------------------------------


class Largest(TorchDispatchMode):
    """Remember the size of the largest tensor that any operation makes."""

    bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        out = func(*args, **(kwargs or {}))
        for value in out if isinstance(out, tuple | list) else (out,):
            if isinstance(value, Tensor):
                self.bytes = max(self.bytes, value.numel() * value.element_size())
        return out


def test_step_of_a_long_series_fits_into_memory() -> None:
    """64 series of length 1000 in less than 2 GiB; one (B, k, T, T) tensor alone has 2.4."""
    n, length = 64, 1000
    model, batch = GPVAE(GPVAEConfig(), Shape(length, 1)), complete(n, length, 1)
    saved: dict[int, int] = {}  # what backward needs, by its place in memory

    def keep(tensor: Tensor) -> Tensor:
        saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with Largest() as largest:
        with saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = model.loss(batch, 0, seeded())
        loss.value.backward()
    widest = 4 * n * length * max(model.config.decoder)
    assert largest.bytes <= widest, "a tensor larger than the decoder's layers"
    assert widest < 100 * 2**20
    # Beside what is kept, backward holds no more than some layers' gradients at a time.
    assert sum(saved.values()) + 5 * widest < 2**30
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


# -- configuration and failure -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value"),
    [("scales", 0), ("scales", 6), ("encoder", ()), ("window", 0), ("sigma", 0.0),
     ("beta", -1.0), ("length_scale", 0.0)],
)  # fmt: skip
def test_bad_configuration(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"expected .*{field if field != 'encoder' else 'conv'}"):
        GPVAE(dataclasses.replace(TINY, **{field: value}), Shape(T, 1))


def test_samples_that_are_not_finite() -> None:
    model = GPVAE(TINY, Shape(T, 1))
    last = model.decode[-1]
    assert isinstance(last, nn.Linear)
    nn.init.constant_(last.bias, float("inf"))
    with pytest.raises(Diverged, match="finite"):
        model.sample(2, torch.linspace(0, 1, T), seeded())
