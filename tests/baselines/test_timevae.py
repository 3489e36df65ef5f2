"""TimeVAE: sizes as released, parts of the decoder, losses against closed forms."""

import dataclasses
import itertools
import math

import pytest
import torch
from torch import nn
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from baselines.timevae import Component, TimeVAE, TimeVAEConfig, indicators, powers
from harness.contract import Batch, Shape

TINY = TimeVAEConfig(latents=3, filters=(4, 5), trend=2, seasons=((3, 2),), sigma=0.2)
RELEASED = dataclasses.replace(TINY, weighting="released")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def built(config: TimeVAEConfig = TINY, length: int = 13, channels: int = 1) -> TimeVAE:
    """The same weights for the same sizes."""
    torch.manual_seed(0)
    return TimeVAE(config, Shape(length, channels))


def batch_of(n: int = 6, length: int = 13, channels: int = 1) -> Batch:
    """Values between 0 and 1, both of which occur in each channel."""
    x = torch.rand(n, length, channels, generator=seeded())
    x[0, 0], x[0, 1] = 0, 1
    ones = torch.ones_like(x)
    return Batch(x, torch.linspace(0, 1, length).expand(n, -1), ones, ones)


# -- sizes ---------------------------------------------------------------------------------------


def size_of(length: int, channels: int) -> int:
    """Parameters of the released networks with level and residual."""
    rows = math.ceil(length / 8)
    flat, up = 200 * rows, 8 * rows * channels
    around = 3 * (50 * 100 + 100 * 200) + 3 * 50 * channels  # convolutions without biases
    encoder = around + 350 + 2 * (8 * flat + 8)
    level = 8 * channels + channels + channels**2 + channels
    residual = 8 * flat + flat + around + 150 + channels + up * length * channels
    return encoder + level + residual + length * channels


@pytest.mark.parametrize(
    ("length", "channels", "published"),
    [(52, 1, 188_792), (728, 1, 1_136_540), (791, 1, 1_273_091), (24, 5, 181_616), (53, 2, None)],
)
def test_shapes_and_parameters(length: int, channels: int, published: int | None) -> None:
    model = built(TimeVAEConfig(sigma=0.1), length, channels)
    found = sum(p.numel() for p in model.parameters())
    assert found == size_of(length, channels) and published in (None, found)
    mu, v = model.encode(torch.zeros(2, length, channels))
    assert mu.shape == v.shape == (2, 8)
    assert model.decode(mu).shape == (2, length, channels)
    assert model.sample(3, torch.linspace(0, 1, length), seeded()).shape == (3, length, channels)


@pytest.mark.parametrize("config", [dataclasses.replace(TINY, sigma=None), RELEASED])
def test_every_parameter_learns_from_any_start(config: TimeVAEConfig) -> None:
    for seed in range(20):  # the level has one ReLU only, which could be dead
        torch.manual_seed(seed)
        model = TimeVAE(config, Shape(13, 1))
        model.loss(batch_of(16), 0, seeded(seed)).value.backward()
        idle = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
        assert idle == [], f"seed {seed}"


# -- the decoder ---------------------------------------------------------------------------------


def test_coefficients_of_the_trend() -> None:
    t = torch.arange(20) / 20
    part = Component(nn.Identity(), powers(2, 20))
    coefficients = torch.tensor([[0.5, -2.0, 3.0, 0.0]])  # of two channels
    expected = torch.stack([0.5 * t - 2 * t**2, 3 * t], -1)[None]
    torch.testing.assert_close(part(coefficients), expected)


def test_rows_of_a_season() -> None:
    week = indicators(7, 1, 30)
    assert torch.equal(week.sum(0), torch.ones(30))
    assert torch.equal(week[:, 7:], week[:, :-7]) and torch.equal(week[:, :7], torch.eye(7))
    held = indicators(3, 2, 8).argmax(0)
    assert held.tolist() == [0, 0, 1, 1, 2, 2, 0, 0]
    part = Component(nn.Identity(), indicators(3, 2, 8))
    assert part(torch.tensor([[5.0, 6, 7]]))[0, :, 0].tolist() == [5, 5, 6, 6, 7, 7, 5, 5]


def test_decoder_is_the_sum_of_its_parts() -> None:
    z = torch.randn(2000, 3, generator=seeded())
    names = {"trend": 0, "seasons": (), "residual": False}
    level = dataclasses.replace(TINY, **names)
    model = built(level)
    assert len(model.parts) == 1
    x_hat = model.decode(z)
    assert (x_hat == x_hat[:, :1]).all()
    _, shared = x_hat[:, 0, 0].unique(return_counts=True)
    assert shared.max().item() == pytest.approx(1000, abs=100)  # half of all z, by the one ReLU
    assert len(shared) > 900  # and each of the others has a level of its own
    for name in names:
        assert len(built(dataclasses.replace(level, **{name: getattr(TINY, name)})).parts) == 2
    whole = built()
    assert len(whole.parts) == 4
    torch.testing.assert_close(whole.decode(z), sum(part(z) for part in whole.parts))


def test_what_a_series_is_decoded_to_is_its_own() -> None:
    model, z = built(channels=2), torch.randn(5, 3, generator=seeded())
    torch.testing.assert_close(model.decode(z)[2:3], model.decode(z[2:3]))


# -- the losses ----------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [TINY, RELEASED])
def test_loss_of_a_perfect_reconstruction_is_the_kl(
    config: TimeVAEConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, batch = built(config), batch_of()
    monkeypatch.setattr(model, "decode", lambda z: batch.x)
    mu, v = model.encode(batch.x)
    q, p = Normal(mu, (v / 2).exp()), Normal(torch.zeros(3), torch.ones(3))
    kl = kl_divergence(q, p).sum()
    floor = 13 * (math.log(0.2) + 0.5 * math.log(2 * math.pi))
    expected = kl if config.weighting == "released" else kl / 6 + floor
    torch.testing.assert_close(model.loss(batch, 0, seeded()).value, expected)
    torch.testing.assert_close(model.neg_elbo(batch, seeded()).kl.sum(), kl)


@pytest.mark.parametrize(("config", "factor"), [(TINY, 1), (RELEASED, 2)])
def test_loss_of_a_batch_twice(
    config: TimeVAEConfig, factor: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "randn", lambda *n, generator=None, **kind: torch.zeros(*n, **kind))
    model, batch = built(config), batch_of()
    twice = Batch(*(torch.cat([a, a]) for a in dataclasses.astuple(batch)))
    once, double = (model.loss(b, 0, seeded()).value for b in (batch, twice))
    torch.testing.assert_close(double, factor * once)


@pytest.mark.usefixtures("double")
def test_released_weight_is_a_sigma() -> None:
    """One channel: both squares are the same, so 2 w = 1 / (2 sigma^2)."""
    sigma = 1 / math.sqrt(4 * 3.0)
    assert sigma == pytest.approx(0.2887, abs=1e-4)
    batch = batch_of()
    bound, released = (
        built(dataclasses.replace(config, sigma=sigma)) for config in (TINY, RELEASED)
    )
    released.calibrate(batch)  # to [0, 1], as they are
    constant = 13 * (math.log(sigma) + 0.5 * math.log(2 * math.pi))
    a = bound.loss(batch, 0, seeded()).value - constant
    b = released.loss(batch, 0, seeded()).value / 6
    torch.testing.assert_close(a, b, rtol=0, atol=1e-6)


@pytest.mark.usefixtures("double")
def test_released_loss_of_two_channels() -> None:
    model, batch = built(RELEASED, channels=2), batch_of(channels=2)
    found = model.loss(batch, 0, seeded()).value
    mu, v = model.encode(batch.x)
    z = mu + (v / 2).exp() * torch.randn(mu.shape, generator=seeded())
    error = batch.x - model.decode(z)
    kl = -0.5 * (1 + v - mu**2 - v.exp()).sum()
    expected = 3 * ((error**2).sum() + (error.sum(-1) ** 2).sum() / 4) + kl
    torch.testing.assert_close(found, expected)


@pytest.mark.usefixtures("double")
def test_released_loss_does_not_depend_on_the_units() -> None:
    batch = batch_of(channels=2)
    unit = torch.tensor([3.0, 0.1])
    other = dataclasses.replace(batch, x=batch.x * unit - 5)
    models = [built(RELEASED, channels=2) for _ in range(2)]
    losses, samples = [], []
    for model, b in zip(models, (batch, other), strict=True):
        model.calibrate(b)
        losses.append(model.loss(b, 0, seeded()).value)
        samples.append(model.decode(torch.ones(1, 3)))
    torch.testing.assert_close(*losses)
    torch.testing.assert_close(samples[0] * unit - 5, samples[1])
    restored = built(RELEASED, channels=2)
    restored.load_state_dict(models[1].state_dict())
    torch.testing.assert_close(restored.decode(torch.ones(1, 3)), samples[1])


def test_bound_leaves_the_units_alone() -> None:
    model = built()
    model.calibrate(Batch(*(9 * a for a in dataclasses.astuple(batch_of()))))
    assert torch.equal(model.low, torch.zeros(1)) and torch.equal(model.span, torch.ones(1))


@pytest.mark.usefixtures("double")
def test_linear_decoder_is_probabilistic_pca(monkeypatch: pytest.MonkeyPatch) -> None:
    """At its optimum the bound is the marginal likelihood, N(x; m, W W^T + sigma^2 I)."""
    length, sigma = 6, 0.3
    data = MultivariateNormal(
        torch.arange(6.0), torch.diag(torch.tensor([4.0, 2.0, *[sigma**2] * 4]))
    )
    axes = torch.linalg.qr(torch.randn(6, 6, generator=seeded())).Q
    x = torch.randn(6, length, generator=seeded(1)) @ data.scale_tril.T @ axes.T + data.mean
    eigenvalues = torch.tensor([4.0, 2.0])  # Tipping and Bishop 1999, eq. 7
    W = axes[:, :2] * (eigenvalues - sigma**2).sqrt()  # its columns are orthogonal
    M = (W.T @ W).diagonal() + sigma**2

    model = built(TimeVAEConfig(latents=2, filters=(1,), sigma=sigma), length)
    monkeypatch.setattr(
        model,
        "encode",
        lambda x: (((x[..., 0] - data.mean) @ W) / M, (sigma**2 / M).log().expand(len(x), -1)),
    )
    monkeypatch.setattr(model, "decode", lambda z: (z @ W.T + data.mean)[..., None])
    # All terms are quadratic in the noise, whose components -1 and 1 stand for the normal law.
    signs = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=2)))  # (4, 2)
    monkeypatch.setattr(torch, "randn", lambda *n, generator=None, **kind: signs.repeat(6, 1))
    many = x.repeat_interleave(4, 0)[..., None]
    ones = torch.ones_like(many)
    batch = Batch(many, torch.linspace(0, 1, length).expand(24, -1), ones, ones)
    kl, nll = model.neg_elbo(batch, seeded())
    found = -(kl + nll).view(6, 4).mean(1)
    marginal = MultivariateNormal(data.mean, W @ W.T + sigma**2 * torch.eye(length))
    torch.testing.assert_close(found, marginal.log_prob(x))
    torch.testing.assert_close(model.loss(batch, 0, seeded()).value, -found.mean())


def test_learnt_sigma() -> None:
    model = built(dataclasses.replace(TINY, sigma=None))
    assert model.sigma.item() == pytest.approx(1)
    rates = {group["lr"] for group in model.optimisers()["main"].optimiser.param_groups}
    assert rates == {1e-3, 1e-2}
    assert model.spread is not None
    with torch.no_grad():
        model.spread.fill_(-50)
    assert model.sigma.item() == pytest.approx(0.05)
    bound = model.neg_elbo(batch_of(), seeded())
    fixed = built(dataclasses.replace(TINY, sigma=0.05)).neg_elbo(batch_of(), seeded())
    torch.testing.assert_close(bound, fixed)


# -- samples -------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [TINY, dataclasses.replace(TINY, sigma=None), RELEASED])
def test_samples_are_decoded_draws_of_the_prior(config: TimeVAEConfig) -> None:
    t = torch.linspace(0, 1, 13)
    z = torch.randn(500, 3, generator=seeded())
    mean = built(dataclasses.replace(config, noise=False)).sample(500, t, seeded())
    model = built(config)
    torch.testing.assert_close(mean, model.decode(z))
    error = model.sample(500, t, seeded()) - mean  # the noise is drawn last
    assert error.std().item() == pytest.approx(model.sigma.item(), rel=0.05)
    assert abs(error.mean().item()) < 5 * model.sigma.item() / math.sqrt(error.numel())


def test_the_global_stream_is_left_alone() -> None:
    model, t = built(), torch.linspace(0, 1, 13)
    before = torch.get_rng_state()
    model.sample(4, t, seeded())
    model.loss(batch_of(), 0, seeded())
    assert torch.equal(before, torch.get_rng_state())


def test_grid_of_another_length() -> None:
    with pytest.raises(ValueError, match="expected 13 times, found 12"):
        built().sample(2, torch.linspace(0, 1, 12), seeded())


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"trend": -1}, "expected a trend >= 0"),
        ({"seasons": ((7, 0),)}, r"found 0, \[\(7, 0\)\]"),
        ({"filters": ()}, r"filters, found .* \[\]"),
        ({"weighting": "released", "sigma": None}, "expected a number as sigma"),
    ],
)
def test_bad_configuration(changes: dict[str, object], reason: str) -> None:
    config = dataclasses.replace(TimeVAEConfig(), **changes)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=reason):
        built(config)
