"""PCA-KDE: its density against dense Gaussians and integration, what it chooses, its training."""

import dataclasses
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from baselines.pca_kde import (
    PCAKDE,
    VARIANCE,
    Autoregression,
    PCAKDEConfig,
    choose,
    fit_autoregression,
    principal_components,
)
from datasets.synthetic import load as sines
from harness.contract import Batch, Shape
from harness.run.build import load_trained
from harness.run.train import train
from tests import specs

pytestmark = pytest.mark.usefixtures("double")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def complete(x: Tensor) -> Batch:
    t = torch.linspace(0, 1, x.shape[1]).expand(x.shape[:2])
    return Batch(x, t, torch.ones_like(x), torch.ones_like(x))


def normal(*size: int, seed: int = 0) -> Tensor:
    return torch.randn(size, generator=seeded(seed))


def walks(n: int, length: int, channels: int = 1) -> Tensor:
    return normal(n, length, channels).cumsum(1)


def model_of(x: Tensor, k: int, p: int, h: float) -> PCAKDE:
    """A model with these choices."""
    model = PCAKDE(PCAKDEConfig(), Shape(*x.shape[1:]))
    pca = principal_components(x, k)
    model.m, model.U, model.z = pca
    model.phi, model.sigma = fit_autoregression(x - pca.series(pca.z), p)
    model.h = torch.tensor(h)
    return model


def residual_covariance(model: PCAKDE) -> Tensor:
    L, D = model.m.shape
    eps = torch.eye(L * D).view(-1, L, D)
    B = Autoregression(model.phi, model.sigma).colour(eps).flatten(1).mT
    return B @ B.mT


# -- the density ---------------------------------------------------------------------------------


@pytest.mark.parametrize("h", [0.3, 1.0])
@pytest.mark.parametrize(("k", "p"), [(0, 0), (0, 2), (3, 0), (3, 2)])
def test_density_is_that_of_a_mixture_of_gaussians(k: int, p: int, h: float) -> None:
    x = walks(7, 5, 2)
    model = model_of(x, k, p, h)
    U = model.U.flatten(1).mT
    covariance = residual_covariance(model) + h**2 * U @ U.mT
    some = x[:4] + normal(4, 5, 2, seed=1)
    log_p = torch.stack(
        [
            MultivariateNormal(
                model.m.flatten() + math.sqrt(1 - h**2) * U @ z, covariance
            ).log_prob(some.flatten(1))
            for z in model.z
        ]
    )
    expected = log_p.logsumexp(0) - math.log(7)
    torch.testing.assert_close(model.log_density(some), expected)
    torch.testing.assert_close(model.loss(complete(some), 0, seeded()).value, -expected.mean())


def test_density_integrates_to_one_and_samples_follow_it() -> None:
    x = torch.tensor([[0.0, 0.2], [2.0, 1.6], [-1.0, 1.0], [0.5, -2.0]])[..., None]
    model = model_of(x, 1, 1, 0.4)
    axis, step = torch.linspace(-9, 9, 901), 18 / 900
    grid = torch.cartesian_prod(axis, axis)[..., None]
    log_p = model.log_density(grid)
    p = log_p.exp() * step**2
    assert p.sum().item() == pytest.approx(1, abs=1e-6)

    samples = model.sample(100_000, torch.zeros(2), seeded())
    mean = (p[:, None, None] * grid).sum(0)
    square = torch.einsum("n,nid,njd->ij", p, grid, grid)
    torch.testing.assert_close(samples.mean(0), mean, rtol=0, atol=0.02)
    found = torch.einsum("nid,njd->ij", samples, samples) / len(samples)
    torch.testing.assert_close(found, square, rtol=0, atol=0.03)
    of_samples = model.log_density(samples).mean().item()  # minus the entropy
    assert of_samples == pytest.approx((p * log_p).sum().item(), abs=0.01)
    for row, above in ((0, 0.5), (1, 1.0)):
        share = (samples[:, row, 0] > above).double().mean().item()
        assert share == pytest.approx(p[grid[:, row, 0] > above].sum().item(), abs=0.01)


def test_width_leads_from_copies_to_a_gaussian() -> None:
    x = walks(12, 6)
    t = torch.zeros(6)
    copies = model_of(x, 11, 0, 1e-6).sample(50, t, seeded())
    nearest = torch.cdist(copies.flatten(1), x.flatten(1)).amin(1) / math.sqrt(6)
    assert nearest.max() < 4 * math.sqrt(VARIANCE)
    gaussian = model_of(x, 11, 0, 1.0)
    expected = MultivariateNormal(
        x.mean(0).flatten(), x.flatten(1).mT.cov() + VARIANCE * torch.eye(6)
    )
    torch.testing.assert_close(gaussian.log_density(x), expected.log_prob(x.flatten(1)))


@pytest.mark.parametrize("h", [0.2, 0.9])
def test_samples_have_the_variance_of_the_training_series(h: float) -> None:
    x = walks(30, 8)
    samples = model_of(x, 2, 1, h).sample(50_000, torch.zeros(8), seeded())
    total = (x - x.mean(0)).square().mean(0).sum().item()
    found = (samples - x.mean(0)).square().mean(0).sum().item()
    assert found == pytest.approx(total, rel=0.02)


# -- the autoregression --------------------------------------------------------------------------


def test_autoregression_is_stationary_from_its_first_row() -> None:
    r = walks(20, 9, 2)
    residual = fit_autoregression(r, 3)
    B = residual.colour(torch.eye(18).view(-1, 9, 2))
    R = torch.einsum("eld,emd->dlm", B, B)  # no other covariances: channels are independent
    for d in range(2):
        for lag in range(4):
            gamma = (r[:, lag:, d] * r[:, : 9 - lag, d]).sum() / (20 * 9) + VARIANCE * (lag == 0)
            torch.testing.assert_close(R[d].diagonal(lag), gamma.expand(9 - lag))
        assert torch.allclose(
            R[d, 1:, 1:], R[d, :-1, :-1]
        )  # Toeplitz beyond the lags that are fitted
    torch.testing.assert_close(residual.whiten(residual.colour(r)), r)


def test_autoregression_is_recovered() -> None:
    phi = (1.2, -0.5)
    r = torch.zeros(40, 2030)
    eps = 0.3 * normal(40, 2030)
    for n in range(2, 2030):
        r[:, n] = phi[0] * r[:, n - 1] + phi[1] * r[:, n - 2] + eps[:, n]
    found = fit_autoregression(r[:, 30:, None], 2)
    torch.testing.assert_close(found.phi[2, :, 0], torch.tensor(phi), rtol=0, atol=0.02)
    assert found.sigma[2, 0].item() == pytest.approx(0.3, rel=0.02)


# -- what is chosen ------------------------------------------------------------------------------


def low_rank(scores: Tensor, noise: Tensor) -> Tensor:
    basis = torch.linalg.qr(normal(noise.shape[1], scores.shape[1], seed=5)).Q
    return (4 * scores @ basis.mT)[..., None] + 0.1 * noise[..., None]


def test_components_order_and_width_are_found() -> None:
    n = 100
    noise = normal(n, 50)
    for i in range(1, 50):
        noise[:, i] += 0.6 * noise[:, i - 1]
    noise = noise[:, 20:]
    k, p, wide = choose(low_rank(normal(n, 2, seed=99), noise), PCAKDEConfig())
    assert (k, p) == (2, 1)
    clusters = torch.randint(2, (n, 2), generator=seeded()) * 2.0 - 1 + 0.05 * normal(n, 2)
    k, _, narrow = choose(low_rank(clusters, noise), PCAKDEConfig())
    assert k == 2 and narrow <= 0.15 < 0.3 <= wide


def test_no_component_of_white_noise() -> None:
    """Nineteen components would reproduce each of twenty series, but none that is held out."""
    assert choose(normal(20, 30, 1), PCAKDEConfig())[:2] == (0, 0)


def test_limits() -> None:
    x = low_rank(normal(60, 4), normal(60, 24, seed=1).cumsum(1))
    k, p, _ = choose(x, PCAKDEConfig(max_components=2, max_order=1))
    assert k <= 2 and p <= 1


# -- contract ------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 9])
def test_few_and_constant_series(n: int) -> None:
    model = PCAKDE(PCAKDEConfig(), Shape(6, 1))
    batch = complete(torch.full((n, 6, 1), 3.0))
    model.calibrate(batch)
    x = model.sample(40, batch.t[0], seeded())
    assert (x - 3).abs().max() < 6 * math.sqrt(VARIANCE)
    assert model.loss(batch, 0, seeded()).value.isfinite()


def test_what_was_fitted_is_saved() -> None:
    """A new model, whose buffers have other sizes, takes them from the saved state."""
    batch = complete(walks(20, 8, 2))
    model, other = PCAKDE(PCAKDEConfig(), Shape(8, 2)), PCAKDE(PCAKDEConfig(), Shape(8, 2))
    model.calibrate(batch)
    assert len(model.U) > 0
    other.load_state_dict(model.state_dict())
    assert torch.equal(*(m.sample(3, batch.t[0], seeded()) for m in (model, other)))
    incomplete = {k: v for k, v in model.state_dict().items() if k != "z"}
    with pytest.raises(RuntimeError, match=r"Missing key.*z"):
        other.load_state_dict(incomplete)


def test_training_is_one_step_that_shows_the_losses(tmp_path: Path) -> None:
    torch.set_default_dtype(torch.float32)  # as in a run; the fixture of this module puts it back
    split = {"seed": 0, "fractions": [0.7, 0.1, 0.2]}
    dataset = sines(
        [], name="sines", title="", n=40, length=12, channels=1, seed=0, observed=1.0, split=split
    )
    spec = specs.cell("baselines.pca_kde:PCAKDE", {}, steps=1, batch_size=128)
    outcome = train(spec, dataset, tmp_path, torch.device("cpu"))
    assert (outcome.status, outcome.ended) == ("done", "steps")
    assert (outcome.steps, outcome.parameters) == (1, 0)
    (row,) = (tmp_path / "history.jsonl").read_text().splitlines()
    assert '"loss"' in row and '"validation_loss"' in row
    model = load_trained(spec, dataset, tmp_path / "weights.safetensors", torch.device("cpu"))
    assert model.sample(3, torch.linspace(0, 1, 12), seeded()).dtype == torch.float32


@pytest.mark.parametrize("field", ["max_components", "max_order"])
def test_bad_configuration(field: str) -> None:
    with pytest.raises(ValueError, match=f"pca_kde: expected {field} >= 0, found -1"):
        PCAKDE(dataclasses.replace(PCAKDEConfig(), **{field: -1}), Shape(6, 1))


def test_samples_of_another_length() -> None:
    with pytest.raises(ValueError, match="expected 6 rows, the training series', found 5"):
        PCAKDE(PCAKDEConfig(), Shape(6, 1)).sample(2, torch.zeros(5), seeded())
