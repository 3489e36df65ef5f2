"""ImagenTime: transform and projection, EDM's identities, the sampler on Gaussians, the U-Net."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import pad, silu

from baselines.imagentime import (
    SIGMA_DATA,
    Attention,
    Block,
    ImagenTime,
    ImagenTimeConfig,
    Level,
    Transform,
    UNet,
    coefficients,
    dropout,
    heun,
    noise_levels,
)
from harness.contract import Batch, Diverged, Shape

TINY: dict[str, Any] = {"width": 8, "multipliers": (1, 2), "blocks": 1, "attention": (1,)}
SMALL: dict[str, Any] = {"width": 32, "multipliers": (1, 2, 2), "blocks": 1, "attention": (2,)}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def complete(x: Tensor) -> Batch:
    B, L, _ = x.shape
    return Batch(x, torch.linspace(0, 1, L).expand(B, L), torch.ones_like(x), torch.ones_like(x))


def series(n: int, length: int, channels: int) -> Tensor:
    return torch.randn(n, length, channels, generator=seeded())


def made(length: int = 20, channels: int = 1, **config: Any) -> ImagenTime:
    return ImagenTime(ImagenTimeConfig(**(TINY | config)), Shape(length, channels))


def perturbed(module: nn.Module) -> Any:
    """Give every parameter a value, also those that begin at 0."""
    for p in module.parameters():
        nn.init.normal_(p, std=0.3)
    return module


# -- series and images ---------------------------------------------------------------------------


@pytest.mark.parametrize("length", [2, 3, 6, 20, 52, 63, 128, 725, 728, 791, 1000, 1023])
def test_inverse_of_the_transform(length: int) -> None:
    transform, x = Transform(Shape(length, 3), None, None), series(2, length, 3)
    z = transform.stft(x)
    assert z.shape[1:] == transform.low.shape
    torch.testing.assert_close(transform.istft(z), x, rtol=0, atol=2e-5)
    frames = transform.low.shape[-1]
    assert (frames - 1) * transform.hop + transform.n_fft / 2 > length - 1, "not covered"


@pytest.mark.parametrize(("n_fft", "hop"), [(2, 1), (8, 4), (9, 5), (9, 4), (15, 2), (30, 15)])
def test_inverse_with_any_window(n_fft: int, hop: int) -> None:
    transform, x = Transform(Shape(20, 2), n_fft, hop), series(2, 20, 2)
    z = transform.stft(x)
    assert z.shape[1:] == transform.low.shape
    torch.testing.assert_close(transform.istft(z), x, rtol=0, atol=2e-5)


@pytest.mark.parametrize(("length", "hop"), [(725, 23), (728, 23), (791, 25)])
def test_published_sizes(length: int, hop: int) -> None:
    transform = Transform(Shape(length, 1), None, None)
    assert (transform.n_fft, transform.hop) == (63, hop)
    assert transform.low.shape == (2, 32, 32)


def test_transform_against_its_definition(double: object) -> None:
    transform, x = Transform(Shape(20, 2), 8, 3), series(1, 20, 2)
    z = transform.stft(x)[0]
    assert z.shape == (4, 5, 7)
    reflected = torch.cat([x[0, 1:5].flip(0), x[0], x[0, -5:-1].flip(0)])  # from time -4 on
    j = torch.arange(8)
    window = torch.sin(math.pi * j / 8) ** 2
    for k in range(5):
        for m in range(7):
            part = window[:, None] * reflected[3 * m : 3 * m + 8]
            wave = 2 * math.pi * j[:, None] * k / 8
            expected = torch.cat([(part * wave.cos()).sum(0), -(part * wave.sin()).sum(0)])
            torch.testing.assert_close(z[:, k, m], expected)


@pytest.mark.parametrize("length", [20, 52, 728])
def test_inverse_projects_images(double: object, length: int) -> None:
    transform = Transform(Shape(length, 1), None, None)
    z = torch.randn(3, *transform.low.shape, generator=seeded())
    once = transform.stft(transform.istft(z))
    assert (once - z).abs().max() > 0.1, "an arbitrary image is not a transform"
    torch.testing.assert_close(transform.stft(transform.istft(once)), once)


def test_every_pixel_has_its_own_scale() -> None:
    x = series(30, 20, 2) * torch.tensor([0.1, 40.0]) + 5
    model = made(channels=2)
    model.calibrate(complete(x))
    transform = model.transform
    y = transform.to_images(x)
    imaginary = y[:, 2:, 0]  # of frequency 0: always 0
    assert torch.equal(imaginary, torch.full_like(imaginary, -1))
    rest = torch.cat([y[:, :2].flatten(1), y[:, 2:, 1:].flatten(1)], 1)
    for extremes, end in zip(rest.aminmax(dim=0), (-1.0, 1.0), strict=True):
        torch.testing.assert_close(extremes, torch.full_like(extremes, end))
    torch.testing.assert_close(transform.to_series(y), x, rtol=1e-4, atol=1e-4)
    beyond = transform.to_images(2 * x)
    assert beyond.max() > 1.5, "values beyond the extremes are extrapolated, not clipped"


# -- diffusion -----------------------------------------------------------------------------------


def test_preconditioning_has_unit_variances(double: object) -> None:
    """Of input and target of F, for data of deviation sigma_d; and c_out is the least possible."""
    sigma = torch.logspace(-3, 2, 40)
    c_skip, c_out, c_in = coefficients(sigma)
    one = torch.ones(40)
    torch.testing.assert_close(c_in**2 * (SIGMA_DATA**2 + sigma**2), one)

    def target_variance(skip: Tensor) -> Tensor:
        return (1 - skip) ** 2 * SIGMA_DATA**2 + skip**2 * sigma**2

    torch.testing.assert_close(target_variance(c_skip) / c_out**2, one)
    for change in (-1e-2, 1e-2):
        assert (target_variance(c_skip + change) > c_out**2).all()


def test_denoiser_against_its_definition(monkeypatch: pytest.MonkeyPatch) -> None:
    model, seen = made(), []
    monkeypatch.setattr(model.net, "forward", lambda *inputs: seen.append(inputs) or inputs[0])
    y = torch.randn(2, *model.transform.low.shape, generator=seeded())
    sigma = torch.tensor([0.5, 4.0])
    found = model.denoise(y, sigma, None)
    ((scaled, c_noise, _),) = seen
    for i, s in enumerate((0.5, 4.0)):
        root = math.sqrt(s**2 + 0.25)
        torch.testing.assert_close(scaled[i], y[i] / root)
        torch.testing.assert_close(found[i], 0.25 / root**2 * y[i] + 0.5 * s / root * scaled[i])
    torch.testing.assert_close(c_noise, sigma.log() / 4)


def test_loss_without_knowledge_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """On white images of deviation sigma_d, as F is nearly 0 at the start."""
    model = made()
    y = SIGMA_DATA * torch.randn(1000, *model.transform.low.shape, generator=seeded(1))
    monkeypatch.setattr(model.transform, "to_images", lambda x: y)
    loss = model.loss(complete(torch.zeros(1000, 20, 1)), 0, seeded()).value
    assert loss.item() == pytest.approx(1, abs=0.02)


def test_noise_of_training_has_the_published_distribution(monkeypatch: pytest.MonkeyPatch) -> None:
    model, seen = made(), []
    monkeypatch.setattr(model, "denoise", lambda y, sigma, _: seen.append((y, sigma)) or 0 * y)
    model.loss(complete(torch.zeros(4000, 20, 1)), 0, seeded())
    ((noisy, sigma),) = seen
    assert sigma.log().mean().item() == pytest.approx(-1.2, abs=0.08)
    assert sigma.log().std().item() == pytest.approx(1.2, abs=0.05)
    noise = noisy / sigma[:, None, None, None]  # zeros have the image 0 before calibration
    torch.testing.assert_close(noise.std((1, 2, 3)), torch.ones(4000), rtol=0, atol=0.4)


def test_schedule() -> None:
    sigmas = noise_levels(18)
    assert len(sigmas) == 19
    assert (sigmas[0], sigmas[17], sigmas[18]) == (pytest.approx(80), pytest.approx(0.002), 0)
    roots = torch.tensor(sigmas[:18], dtype=torch.float64) ** (1 / 7)
    torch.testing.assert_close(roots.diff(), roots.diff()[:1].expand(17))
    calls = []
    heun(lambda y, sigma: calls.append(sigma) or y / 2, torch.ones(1), sigmas)
    assert len(calls) == 35 and min(calls) > 0


def gaussian(eigenvalues: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and covariance of correlated values."""
    n = len(eigenvalues)
    rotation = torch.linalg.qr(torch.randn(n, n, generator=seeded()))[0]
    return torch.linspace(-1, 1, n), rotation * eigenvalues @ rotation.T


@pytest.mark.parametrize(
    ("steps", "least", "most"), [(18, 0.04, 0.095), (36, 0.009, 0.02), (144, 0, 0.001)]
)
def test_sampler_on_a_gaussian(double: object, steps: int, least: float, most: float) -> None:
    """With its optimal denoiser the sampler is affine, so its mean and covariance are exact.

    Deviations come out 4 to 9 % too large with the published 18 steps; twice as many steps leave
    less than a quarter of the error.
    """
    variances = torch.logspace(-2, 0, 8)
    mean, covariance = gaussian(variances)
    identity = torch.eye(8)

    def denoise(y: Tensor, sigma: float) -> Tensor:
        gain = covariance @ torch.linalg.inv(covariance + sigma**2 * identity)
        return mean + (y - mean) @ gain

    sigmas = noise_levels(steps)
    found = heun(denoise, torch.zeros(8), sigmas)
    torch.testing.assert_close(found, mean, rtol=0, atol=0.01)  # 1 / 80 of a deviation
    slope = heun(denoise, identity, sigmas) - found  # of each starting value
    produced = sigmas[0] ** 2 * slope.T @ slope
    errors = torch.linalg.eigvalsh(produced).sqrt() / variances.sqrt() - 1
    assert errors.min() > least and errors.max() < most
    torch.testing.assert_close(produced @ covariance, covariance @ produced)


def test_samples_of_an_untrained_model_are_white_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """With F near 0 the denoiser is that of N(0, sigma_d^2)."""
    model, seen = made(), []
    invert = model.transform.to_series
    monkeypatch.setattr(model.transform, "to_series", lambda y: seen.append(y) or invert(y))
    model.sample(200, torch.linspace(0, 1, 20), seeded())
    (y,) = seen
    one = torch.ones(1)
    scale = heun(lambda y, s: coefficients(s * one)[0] * y, 80 * one, noise_levels(18)).item()
    assert y.std().item() == pytest.approx(scale, rel=0.02)
    assert y.mean().item() == pytest.approx(0, abs=0.02)


# -- the network ---------------------------------------------------------------------------------


def expected_parameters(width: int, multipliers: tuple, blocks: int, attention: tuple) -> int:
    """Count layer by layer, for images of two channels."""
    emb, widths, last = 4 * width, [width * m for m in multipliers], len(multipliers) - 1

    def attend(n: int) -> int:
        return 2 * n + 3 * (n * n + n) + n * n + n

    def block(a: int, b: int) -> int:
        norms, convolutions = 2 * (a + b), 9 * a * b + b + 9 * b * b + b
        return norms + convolutions + 2 * b * (emb + 1) + (a * b + b if a != b else 0)

    embedding = emb * (width + 1) + emb * (emb + 1)
    ends = 9 * 2 * width + width + 2 * widths[0] + 9 * 2 * widths[0] + 2
    middle = 2 * block(widths[-1], widths[-1]) + attend(widths[-1])
    total = embedding + ends + middle
    for i, w in enumerate(widths):
        n_in, inside = widths[max(i - 1, 0)] if i else width, widths[min(i + 1, last)]
        total += block(n_in, w) + (blocks - 1) * block(w, w)
        total += block(inside + w, w) + (blocks - 1) * block(2 * w, w) + block(w + n_in, w)
        total += (2 * blocks + 1) * attend(w) if i in attention else 0
        total += block(w, w) + block(inside, inside) if i < last else 0  # down, up
    return total


@pytest.mark.parametrize(
    "config",
    [
        {"width": 128, "multipliers": (1, 2, 4, 4), "blocks": 3, "attention": (0, 1, 2)},
        SMALL,
        {"width": 8, "multipliers": (2, 1, 3), "blocks": 2, "attention": ()},
        {"width": 12, "multipliers": (2,), "blocks": 1, "attention": (0,)},
    ],
)
def test_parameters(config: dict[str, Any]) -> None:
    with torch.device("meta"):
        model = ImagenTime(ImagenTimeConfig(**config), Shape(728, 1))
    assert sum(p.numel() for p in model.parameters()) == expected_parameters(**config)


def test_published_number_of_parameters() -> None:
    with torch.device("meta"):
        model = ImagenTime(ImagenTimeConfig(), Shape(728, 1))
    assert sum(p.numel() for p in model.parameters()) == 151_720_066


@pytest.mark.parametrize("size", [(8, 8), (8, 4), (5, 11), (1, 2)])
def test_images_of_any_size(size: tuple[int, int]) -> None:
    net = perturbed(UNet(ImagenTimeConfig(**(SMALL | {"width": 8})), 6))
    y = torch.randn(3, 6, *size, generator=seeded())
    c_noise = torch.tensor([-1.0, 0.0, 1.0])
    out = net(y, c_noise, None)
    assert out.shape == y.shape
    K, M = size
    padded = net(pad(y, (0, -M % 4, 0, -K % 4)), c_noise, None)
    torch.testing.assert_close(padded[..., :K, :M], out)
    alone = net(y[1:2], c_noise[1:2], None)
    torch.testing.assert_close(alone, out[1:2], rtol=1e-4, atol=1e-4)
    assert (out - net(y, c_noise + 0.5, None)).abs().max() > 1e-3, "the noise level is not seen"


def test_a_level_sees_its_earlier_features_latest_first() -> None:
    class Add(nn.Module):
        def forward(self, h: Tensor, emb: Tensor, generator: object) -> Tensor:
            return h + 1

    class Leave(nn.Module):
        def forward(self, h: Tensor, emb: Tensor, generator: object) -> Tensor:
            assert h.shape[1] == 8
            seen.append(h[0, 4].item())
            return h[:, :4]

    seen: list[float] = []
    level = Level(ImagenTimeConfig(width=4, multipliers=(1,), blocks=2, attention=()), 16, 4)
    level.enter = nn.ModuleList([Add(), Add()])
    level.inner = nn.ModuleList([Add()])
    level.leave = nn.ModuleList([Leave(), Leave(), Leave()])
    out = level(torch.zeros(1, 4, 1, 1), torch.zeros(1, 16), None)
    assert seen == [2, 1, 0]
    assert torch.equal(out, torch.full((1, 4, 1, 1), 3.0))


def test_attention_against_its_definition(double: object) -> None:
    attend = perturbed(Attention(128))
    h = torch.randn(2, 128, 3, 2, generator=seeded())
    q, k, v = attend.qkv(attend.norm(h)).flatten(2).chunk(3, 1)  # (2, 128, 6)
    parts = []
    for head in (slice(0, 64), slice(64, 128)):
        weights = (q[:, head].mT @ k[:, head] / 8).softmax(-1)  # (2, 6, 6)
        parts.append(v[:, head] @ weights.mT)
    expected = h + attend.out(torch.cat(parts, 1).unflatten(2, (3, 2)))
    torch.testing.assert_close(attend(h), expected)


@pytest.mark.parametrize("pixels", [(1, 1), (3, 2)])
def test_attention_hands_on_what_cuda_accepts(
    pixels: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Tensor] = []

    def record(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        seen.extend([q, k, v])
        return v

    monkeypatch.setattr("baselines.imagentime.scaled_dot_product_attention", record)
    Attention(128)(torch.zeros(2, 128, *pixels))
    assert {a.stride()[-2:] for a in seen} == {(64, 1)}  # also where a dimension has size 1


def test_block_against_its_definition(double: object) -> None:
    block = perturbed(Block(8, 4, d_emb=5, dropout=0.0))
    h, emb = torch.randn(2, 8, 4, 6, generator=seeded()), torch.randn(2, 5, generator=seeded(1))
    a, b = block.scale_shift(emb).view(2, 2, 4, 1, 1).unbind(1)
    inner = block.conv_in(silu(block.norm_in(h)))
    expected = block.skip(h) + block.conv_out(silu((1 + a) * block.norm_out(inner) + b))
    torch.testing.assert_close(block(h, emb, None), expected)


def test_a_block_resamples_both_of_its_branches() -> None:
    h, emb = torch.randn(2, 8, 4, 6, generator=seeded()), torch.zeros(2, 5)
    for resample in (nn.AvgPool2d(2), nn.Upsample(scale_factor=2)):
        block = Block(8, 8, d_emb=5, dropout=0.0, resample=resample)
        torch.testing.assert_close(block(h, emb, None), resample(h), rtol=0, atol=1e-4)
        assert (perturbed(block)(h, emb, None) - resample(h)).abs().max() > 0.1


def test_dropout_keeps_the_mean() -> None:
    h = dropout(torch.ones(100_000), 0.3, seeded())
    assert (h == 0).float().mean().item() == pytest.approx(0.3, abs=0.01)
    assert h.mean().item() == pytest.approx(1, abs=0.01)


def test_dropout_in_training_alone_and_from_the_generator() -> None:
    batch = complete(series(6, 20, 1))
    dropping, without = (perturbed(made(dropout=p)) for p in (0.5, 0.0))
    without.load_state_dict(dropping.state_dict())

    def loss(model: ImagenTime, seed: int = 0) -> Tensor:
        return model.loss(batch, 0, seeded(seed)).value

    full = loss(without)
    assert torch.equal(loss(without.eval()), full)
    assert not torch.equal(loss(dropping), full)
    assert torch.equal(loss(dropping), loss(dropping)), "dropout draws from the generator"
    assert torch.equal(loss(dropping.eval()), full)


# -- training and failure ------------------------------------------------------------------------


def gaussian_loss(y: Tensor, sigma: Tensor, noise: Tensor) -> Tensor:
    """Loss of the best denoiser that knows mean and covariance of the images alone."""
    y, noise = y.flatten(1).double(), noise.flatten(1).double()
    mean, covariance = y.mean(0), y.T.cov(correction=0)
    identity, losses = torch.eye(y.shape[1], dtype=y.dtype), []
    for i, s in enumerate(sigma.double()):
        gain = covariance @ torch.linalg.inv(covariance + s**2 * identity)
        error = mean + (y[i] + s * noise[i] - mean) @ gain - y[i]
        losses.append((error / coefficients(s)[1]).square().mean())
    return torch.stack(losses).mean()


def test_learns_four_series_by_heart() -> None:
    """Better than a Gaussian can; samples are then copies, as scores of memorisation must show."""
    x, t = series(4, 6, 1), torch.linspace(0, 1, 6)
    batch = complete(x.repeat(8, 1, 1))
    model = made(6, width=16, multipliers=(1,), attention=(), lr=1e-2, dropout=0.0)
    model.calibrate(batch)
    adam, generator = model.optimisers()["main"].optimiser, seeded()
    for step in range(500):
        adam.zero_grad()
        model.loss(batch, step, generator).value.backward()
        adam.step()
    y = model.transform.to_images(batch.x)
    losses, references = [], []
    with torch.no_grad():
        for seed in range(20):
            losses.append(model.loss(batch, 0, seeded(seed)).value)
            g = seeded(seed)  # the loss draws in this order
            sigma = (-1.2 + 1.2 * torch.randn(len(y), generator=g)).exp()
            references.append(gaussian_loss(y, sigma, torch.randn(y.shape, generator=g)))
    assert torch.stack(losses).mean() < 0.9 * torch.stack(references).mean()
    apart = torch.cdist(x[..., 0], x[..., 0]) + torch.eye(4) * 1e9
    nearest = torch.cdist(model.sample(64, t, seeded())[..., 0], x[..., 0]).min(1)
    assert nearest.values.median() < 0.2 * apart.min()
    assert len(nearest.indices.unique()) == 4


def test_published_optimiser() -> None:
    found = made(lr=3e-4).optimisers()["main"]
    assert isinstance(found.optimiser, torch.optim.AdamW)
    (group,) = found.optimiser.param_groups
    assert (group["lr"], group["weight_decay"], found.max_norm) == (3e-4, 1e-5, 1)
    assert found.schedule is None


def test_samples_within_the_unit_interval() -> None:
    t = torch.linspace(0, 1, 20)
    free, clamped = (made(unit_interval=u) for u in (False, True))
    clamped.load_state_dict(free.state_dict())
    x = free.sample(5, t, seeded())
    assert x.min() < 0
    assert torch.equal(clamped.sample(5, t, seeded()), x.clamp(0, 1))


def test_samples_that_are_not_finite() -> None:
    model = made()
    nn.init.constant_(model.net.last.bias, math.inf)
    with pytest.raises(Diverged, match="finite"):
        model.sample(2, torch.linspace(0, 1, 20), seeded())


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"width": 6}, "width: expected a multiple of 4, found 6"),
        ({"multipliers": ()}, r"multipliers: expected positive ones, found \[\]"),
        ({"multipliers": (1, 0)}, r"multipliers: expected positive ones, found \[1, 0\]"),
        ({"attention": (2,)}, r"attention: expected levels 0 to 1, found \[2\]"),
        ({"steps": 1}, "steps: expected 2 or more, found 1"),
        ({"dropout": 1.0}, "dropout: expected 0 to less than 1, found 1"),
        ({"n_fft": 1}, "n_fft: expected 2 to 39 for this length, found 1"),
        ({"n_fft": 40}, "n_fft: expected 2 to 39 for this length, found 40"),
        ({"n_fft": 9, "hop": 6}, "hop: expected 1 to 5 for this window, found 6"),
        ({"hop": 0}, "hop: expected 1 to 8 for this window, found 0"),
    ],
)
def test_bad_configurations(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        made(**config)
