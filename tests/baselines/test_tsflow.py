"""TSFlow and TSDiff: both objectives against closed forms for Gaussian data, source and network."""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from baselines import pca_kde, tsflow
from baselines.tsflow import (
    TIME_SCALE,
    BidirectionalS4,
    Diffusion,
    Flow,
    Network,
    TSFlow,
    TSFlowConfig,
    fit_kernel,
    kernel,
)
from datasets.synthetic import load as sines
from harness.contract import Batch, Diverged, Shape
from metrics import degradations
from tests import specs

TINY = TSFlowConfig(width=8, blocks=2, state=8, solver_steps=4, diffusion_steps=10, lr=0.01)
RESIDUAL = dataclasses.replace(TINY, prior="gaussian")
DDPM = dataclasses.replace(TINY, objective="ddpm")
L = 4


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def complete(x: Tensor) -> Batch:
    t = torch.linspace(0, 1, x.shape[1]).to(x).expand(x.shape[:2])
    return Batch(x, t, torch.ones_like(x), torch.ones_like(x))


def covariance(seed: int, size: int = L) -> Tensor:
    root = torch.randn(size, size, generator=seeded(seed))
    return root @ root.mT / size + 0.1 * torch.eye(size)


class Stub(nn.Module):
    """A function in place of the network; notes the times that it is asked for."""

    def __init__(self, f: Callable[[Tensor, Tensor], Tensor]):
        super().__init__()
        self.f = f
        self.times: list[Tensor] = []

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        self.times.append(time)
        return self.f(x, time)


def flow(f: Callable[[Tensor, Tensor], Tensor] | None = None, **config: object) -> TSFlow:
    """A flow over L rows; the velocity is `f` of (x, t), if given."""
    model = TSFlow(dataclasses.replace(TINY, **config), Shape(L, 1))
    if f is not None:
        model.process.network = Stub(lambda x, time: f(x, time / TIME_SCALE))
    return model


# -- flow: the Gaussian closed form --------------------------------------------------------------


class GaussianCase:
    """x_1 ~ N(m, C), x_0 ~ N(m0, K), with moments of x_t and u."""

    s_min, s_max = 0.05, 0.7

    def __init__(self, spread: float = 1.0) -> None:
        self.C, self.K = spread * covariance(1), covariance(2)
        self.m, self.m0 = torch.arange(float(L)), 0.5 * torch.ones(L)

    def moments(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Cov(x_t), Cov(u, x_t) and Cov(u) at times (n)."""
        t, eye = t[:, None, None], torch.eye(L)
        s, ds = (1 - t) * self.s_max + t * self.s_min, self.s_min - self.s_max
        xx = t**2 * self.C + (1 - t) ** 2 * self.K + s**2 * eye
        return xx, t * self.C - (1 - t) * self.K + ds * s * eye, self.C + self.K + ds**2 * eye

    def velocity(self, x: Tensor, t: Tensor) -> Tensor:
        xx, ux, _ = self.moments(t)
        centred = x[..., 0] - t[:, None] * self.m - (1 - t[:, None]) * self.m0
        slope = torch.linalg.solve(xx, centred[..., None])
        return (self.m - self.m0)[:, None] + ux @ slope

    def least_loss(self) -> Tensor:
        t = (torch.arange(2000) + 0.5) / 2000
        xx, ux, uu = self.moments(t)
        residual = uu - ux @ torch.linalg.solve(xx, ux.mT)
        return residual.diagonal(dim1=1, dim2=2).mean()

    def series(self, n: int) -> Batch:
        z = torch.randn(n, L, generator=seeded(7))
        return complete((self.m + z @ torch.linalg.cholesky(self.C).mT)[..., None])

    def model(self, f: Callable[[Tensor, Tensor], Tensor], steps: int = 16) -> TSFlow:
        model = flow(f, s_min=self.s_min, s_max=self.s_max, solver_steps=steps)
        assert isinstance(model.process, Flow)
        model.process.mean.copy_(self.m0[:, None])
        model.process.factor.copy_(torch.linalg.cholesky(self.K))
        return model


def test_least_loss_is_that_of_the_closed_form(double: object) -> None:
    case = GaussianCase()
    batch = case.series(100_000)

    def loss(f: Callable[[Tensor, Tensor], Tensor]) -> float:
        return case.model(f).loss(batch, 0, seeded()).value.item()

    least = loss(case.velocity)
    assert least == pytest.approx(case.least_loss().item(), rel=0.01)
    assert loss(lambda x, t: case.velocity(x, t) + 0.1) > least + 0.005
    assert loss(lambda x, t: 1.1 * case.velocity(x, t)) > least + 0.005
    assert loss(lambda x, t: case.velocity(x, 0.9 * t)) > least + 0.005


@pytest.mark.parametrize("spread", [1.0, 0.0])  # 0: one training series, of which all are copies
def test_solver_carries_the_source_to_the_data(double: object, spread: float) -> None:
    case = GaussianCase(spread)
    process = case.model(case.velocity, steps=500).process
    assert isinstance(process, Flow)
    zero = torch.zeros(1, L, 1)
    ends = process.solve(torch.cat([case.m0[None, :, None], zero, torch.eye(L)[..., None]]))[..., 0]
    torch.testing.assert_close(ends[0], case.m, rtol=0, atol=1e-4)
    P = (ends[2:] - ends[1]).mT  # the flow of an affine velocity is affine
    found = P @ (case.K + case.s_max**2 * torch.eye(L)) @ P.mT
    expected = case.C + case.s_min**2 * torch.eye(L)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-3)


def test_samples_begin_in_the_source_with_white_noise(double: object) -> None:
    case = GaussianCase()
    x = case.model(lambda x, t: torch.zeros_like(x)).sample(100_000, torch.zeros(L), seeded())
    torch.testing.assert_close(x.mean((0, 2)), case.m0, rtol=0, atol=0.02)
    expected = case.K + case.s_max**2 * torch.eye(L)
    torch.testing.assert_close(x[..., 0].mT.cov(), expected, rtol=0, atol=0.03)


def test_one_training_series_can_be_learnt_by_heart(double: object) -> None:
    """The velocity that sends everything to it has loss 0: copying is the optimum."""
    c = torch.randn(L, 1, generator=seeded())
    model = flow(lambda x, t: (c - x) / (1 - t[:, None, None]), s_min=0.0, s_max=0.0)
    assert model.loss(complete(c.expand(20, L, 1)), 0, seeded()).value < 1e-20


# -- flow: source and residual -------------------------------------------------------------------


@pytest.mark.parametrize("season", [None, 3])
def test_kernel_against_its_definition(double: object, season: int | None) -> None:
    a1, g1, noise, a2, g2 = 0.7, 0.3, 0.05, 0.4, 1.5
    n = 3 if season is None else 5
    K = kernel(torch.tensor([a1, g1, noise, a2, g2][:n]).log(), 7, season)
    for i in range(7):
        for j in range(7):
            expected = a1 * math.exp(-g1 * abs(i - j)) + noise * (i == j)
            if season is not None:
                expected += a2 * math.exp(-g2 * math.sin(math.pi * (i - j) / season) ** 2)
            assert K[i, j].item() == pytest.approx(expected)


def test_kernel_is_fitted_by_its_likelihood(double: object) -> None:
    true = torch.tensor([0.8, 0.15, 0.1, 0.5, 2.0]).log()
    K = kernel(true, 42, 7)
    x = torch.randn(200, 42, generator=seeded()) @ torch.linalg.cholesky(K).mT
    found = fit_kernel(x, 7)

    def log_likelihood(log_scales: Tensor) -> Tensor:
        K = kernel(log_scales, 42, 7)
        return torch.distributions.MultivariateNormal(torch.zeros(42), K).log_prob(x).sum()

    assert log_likelihood(found) > log_likelihood(true)
    torch.testing.assert_close(found, true, rtol=0, atol=0.35)
    for i in range(5):  # a maximum in each direction
        for step in (-0.05, 0.05):
            moved = found + step * torch.eye(5)[i]
            assert log_likelihood(moved) < log_likelihood(found)


def test_channels_of_the_kernel_prior_are_independent() -> None:
    x = torch.randn(30, 6, 2, generator=seeded()) * torch.tensor([1.0, 3.0]) + 5
    model = TSFlow(TINY, Shape(6, 2))
    model.calibrate(complete(x))
    assert isinstance(model.process, Flow)
    torch.testing.assert_close(model.process.mean, x.mean((0, 1)).expand(6, 2))
    K = (model.process.factor @ model.process.factor.mT).view(6, 2, 6, 2)
    assert not K[:, 0, :, 1].any() and not K[:, 1, :, 0].any()
    for d in range(2):
        own = fit_kernel((x[..., d] - x[..., d].mean()).double(), None)
        torch.testing.assert_close(K[:, d, :, d], kernel(own, 6, None).float())


def residual(x: Tensor, **config: object) -> TSFlow:
    model = TSFlow(dataclasses.replace(RESIDUAL, **config), Shape(*x.shape[1:]))
    model.calibrate(complete(x))
    return model


def test_models_add_to_a_covariance_what_the_control_adds() -> None:
    assert tsflow.DIAGONAL == pca_kde.VARIANCE == degradations.DIAGONAL


def test_residual_flow_begins_as_the_control() -> None:
    x = torch.randn(9, 6, 2, generator=seeded()).cumsum(1)
    model = residual(x, solver_steps=16)
    process = model.process
    assert isinstance(process, Flow)
    C = np.cov(
        x.flatten(1).numpy().astype(np.float64), rowvar=False
    ) + degradations.DIAGONAL * np.eye(12)
    torch.testing.assert_close(process.factor @ process.factor.mT, torch.tensor(C).float())
    torch.testing.assert_close(process.mean, x.mean(0))
    with torch.no_grad():
        start = process.source(5, seeded())
        torch.testing.assert_close(process.solve(start), start, rtol=0, atol=1e-3)
        found = model.sample(5, torch.zeros(6), seeded())  # white noise of deviation 0 follows
    torch.testing.assert_close(found, start, rtol=0, atol=1e-3)


def test_first_loss_of_the_residual_flow() -> None:
    """Of Gaussian data: the integral of tr C / (t^2 + (1 - t)^2) is pi/2 tr C."""
    x = torch.randn(20_000, L, 1, generator=seeded())
    model = residual(x)
    assert model.loss(complete(x), 0, seeded()).value.item() == pytest.approx(math.pi / 2, rel=0.03)


def test_shrinkage_keeps_the_total_variance() -> None:
    x = torch.randn(5, 8, 1, generator=seeded()).cumsum(1)
    sharp, half, round_ = (residual(x, shrinkage=s).process for s in (0.0, 0.5, 1.0))
    assert isinstance(sharp, Flow) and isinstance(half, Flow) and isinstance(round_, Flow)
    C, C_half, C_round = (p.factor @ p.factor.mT for p in (sharp, half, round_))
    variance = C.diagonal().mean()
    torch.testing.assert_close(C_round, variance * torch.eye(8))
    torch.testing.assert_close(C_half, 0.5 * C + 0.5 * C_round)


# -- diffusion -----------------------------------------------------------------------------------


def test_diffusion_schedule() -> None:
    process = Diffusion(TSFlowConfig(objective="ddpm"), Shape(L, 1))
    alpha_bar = np.cumprod([1 - (1e-4 + (0.1 - 1e-4) * k / 99) for k in range(100)])
    np.testing.assert_allclose(process.alpha_bar.numpy(), alpha_bar, rtol=1e-4)
    assert alpha_bar[-1] == pytest.approx(0.0057, abs=1e-4)


def test_noise_that_is_to_be_predicted() -> None:
    process = Diffusion(TSFlowConfig(objective="ddpm"), Shape(L, 1))
    x0, t = torch.randn(3, L, 1, generator=seeded()), torch.tensor([0.0, 0.5, 0.9999])
    x, k, e = process.corrupt(x0, t, seeded(1))
    assert k.tolist() == [0, 50, 99]
    for i in range(3):
        a = process.alpha_bar[k[i]]
        torch.testing.assert_close(x[i], a.sqrt() * x0[i] + (1 - a).sqrt() * e[i])


@pytest.mark.parametrize("c", [0.1, 1.0, 4.0])
def test_ancestral_sampling_with_the_best_noise_predictor(double: object, c: float) -> None:
    """For x_0 ~ N(0, c): the variance that the posterior of x_{k-1} given E[x_0 | x_k] leads to.

    It falls short of c, at c = 1 by 6 %: a hundred steps with the posterior's variance.
    """
    process = Diffusion(TSFlowConfig(objective="ddpm"), Shape(L, 1))
    beta, a = process.beta, process.alpha_bar
    best = (1 - a).sqrt() / (a * c + 1 - a)  # E[e | x_k] / x_k
    process.network = Stub(lambda x, k: (best[k.long()] - 1)[:, None, None] * x)
    x = process.sample(40_000, L, seeded())

    variance = 1.0
    for k in range(99, -1, -1):
        before = a[k - 1].item() if k > 0 else 1.0
        of_x0 = math.sqrt(before) * beta[k] / (1 - a[k])
        of_xk = (1 - beta[k]).sqrt() * (1 - before) / (1 - a[k])
        slope = of_x0 * a[k].sqrt() * c / (a[k] * c + 1 - a[k]) + of_xk
        variance = (slope**2 * variance + beta[k] * (1 - before) / (1 - a[k])).item()
    assert x.var().item() == pytest.approx(variance, rel=0.015)
    assert 0.85 * c < variance < c
    if c == 1:
        assert variance == pytest.approx(0.942, abs=0.001)


# -- network -------------------------------------------------------------------------------------


def test_every_row_sees_every_row() -> None:
    network = Network(TINY, 2)
    x = torch.randn(1, 9, 2, generator=seeded())
    time = torch.tensor([300.0])
    y = network(x, time)
    for n in (0, 4, 8):
        changed = x.clone()
        changed[0, n] += 1
        assert ((network(changed, time) - y).abs().amax(-1) > 1e-6).all()


def test_reversed_series_with_swapped_kernels(double: object) -> None:
    layer, other = BidirectionalS4(6, 8), BidirectionalS4(6, 8)
    other.load_state_dict(layer.state_dict())
    with torch.no_grad():
        for mine, swapped in zip(layer.ssm.parameters(), other.ssm.parameters(), strict=True):
            swapped.copy_(mine.roll(6, 0))  # the first six systems run forwards
    u = torch.randn(2, 11, 6, generator=seeded())
    torch.testing.assert_close(other(u.flip(1)).flip(1), layer(u))
    assert (layer(u.flip(1)).flip(1) - layer(u)).abs().max() > 1e-3


def test_network_takes_any_length_and_knows_the_time() -> None:
    network = Network(TINY, 1)
    for length in (52, 104):
        x = torch.randn(2, length, 1, generator=seeded())
        early, late = (network(x, torch.full((2,), time)) for time in (10.0, 9000.0))
        assert early.shape == x.shape and (early - late).abs().max() > 1e-4


def test_parameters() -> None:
    network = Network(TSFlowConfig(), 1)
    kernels = sum(p.numel() for block in network.blocks for p in block.s4.ssm.parameters())
    assert kernels == 3 * 128 * (2 + 8 * 32)  # dt, D; Lambda, P, B, C of 32 complex modes
    assert sum(p.numel() for p in network.parameters()) - kernels == 116_609


# -- contract ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("config", "evaluations"), [(TINY, 8), (DDPM, 10)])
def test_number_of_evaluations(config: TSFlowConfig, evaluations: int) -> None:
    model = TSFlow(config, Shape(L, 1))
    stub = model.process.network = Stub(lambda x, time: torch.zeros_like(x))
    model.sample(2, torch.zeros(L), seeded())
    assert len(stub.times) == evaluations
    first, last = (stub.times[i][0].item() for i in (0, -1))
    assert (first, last) == ((0, TIME_SCALE) if config is TINY else (9, 0))


@pytest.mark.parametrize("config", [TINY, DDPM])
def test_times_of_a_batch_are_evenly_spread(config: TSFlowConfig) -> None:
    model = TSFlow(dataclasses.replace(config, diffusion_steps=1000), Shape(L, 1))
    stub = model.process.network = Stub(lambda x, time: torch.zeros_like(x))
    batch = complete(torch.randn(50, L, 1, generator=seeded()))
    for seed in range(200):
        model.loss(batch, 0, seeded(seed))
    t = torch.stack(stub.times) / (TIME_SCALE if config is TINY else 1000)
    assert t.min() >= 0 and t.max() < 1
    gaps = t.sort().values.diff()
    torch.testing.assert_close(gaps, torch.full_like(gaps, 1 / 50), atol=2e-3, rtol=0)
    mean, square = t[:, 0].mean().item(), t[:, 0].square().mean().item()  # of the first series
    assert (mean, square) == (pytest.approx(1 / 2, abs=0.08), pytest.approx(1 / 3, abs=0.08))


@pytest.mark.parametrize("config", [TINY, RESIDUAL, DDPM])
def test_constant_series_are_learnt(config: TSFlowConfig) -> None:
    """Whatever is subtracted in training is added in sampling."""
    batch = complete(torch.full((16, 6, 1), 3.0))
    model = TSFlow(dataclasses.replace(config, diffusion_steps=100), Shape(6, 1))
    model.calibrate(batch)
    optimiser, generator = model.optimisers()["main"].optimiser, seeded()
    for step in range(150):
        optimiser.zero_grad()
        model.loss(batch, step, generator).value.backward()
        optimiser.step()
    x = model.sample(64, batch.t[0], seeded(1))
    assert x.mean().item() == pytest.approx(3, abs=0.15)


@pytest.mark.parametrize("config", [TINY, RESIDUAL, DDPM])
def test_what_was_fitted_is_saved(config: TSFlowConfig) -> None:
    """A new model that never saw the data goes on from the saved state: loss and samples."""
    batch = complete(torch.randn(9, 6, 2, generator=seeded()).cumsum(1))
    model, other = TSFlow(config, Shape(6, 2)), TSFlow(config, Shape(6, 2))
    model.calibrate(batch)
    other.load_state_dict(model.state_dict())
    a, b = (m.sample(3, batch.t[0], seeded()) for m in (model, other))
    assert torch.equal(a, b)
    a, b = (m.loss(batch, 0, seeded()).value for m in (model, other))
    assert torch.equal(a, b)


@pytest.mark.parametrize("prior", ["kernel", "gaussian"])
def test_a_training_resumes_to_the_same_bytes(prior: str, tmp_path: Path) -> None:
    dataset = sines(
        [], name="sines", title="", n=20, length=10, channels=1, seed=0, split=specs.SPLIT
    )
    config = {"prior": prior, "width": 8, "blocks": 1, "state": 8}
    settings = {"steps": 8, "batch_size": 4, "log_every": 3, "ema_decay": 0.8, "ema_start": 2}
    specs.assert_resumes(
        specs.cell("baselines.tsflow:TSFlow", config, **settings), dataset, tmp_path, 5
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [("solver_steps", 0), ("diffusion_steps", 0), ("blocks", 0), ("season", 0),
     ("shrinkage", 1.5)],
)  # fmt: skip
def test_bad_configuration(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"tsflow: expected {field} .*found {value}"):
        TSFlow(dataclasses.replace(TINY, **{field: value}), Shape(L, 1))


def test_samples_of_another_length_have_no_source() -> None:
    with pytest.raises(ValueError, match="expected 4 rows, the source's, found 5"):
        flow().sample(2, torch.zeros(5), seeded())


def test_samples_that_are_not_finite() -> None:
    model = flow(lambda x, t: x / 0)
    with pytest.raises(Diverged, match="finite"):
        model.sample(2, torch.zeros(L), seeded())


def test_gradients_are_to_be_clipped() -> None:
    assert flow(max_norm=0.1).optimisers()["main"].max_norm == 0.1


def test_bounds() -> None:
    x = flow(lambda x, t: torch.zeros_like(x), bounds=(0.0, 0.5)).sample(
        9, torch.zeros(L), seeded()
    )
    assert x.min() == 0 and x.max() == 0.5
