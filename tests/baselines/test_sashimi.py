"""SaShiMi: tokens, causality through pooling, both modes, and the distribution that it samples."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from baselines.sashimi import LENGTH_SCALE, SaShiMi, SaShiMiConfig, smooth_functions
from harness.contract import Batch, Diverged, Shape

SMALL = {"d_model": 8, "n_layers": 1, "pool": (2, 2), "state": 8, "levels": 16}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def made(channels: int = 1, **config: object) -> SaShiMi:
    model = SaShiMi(SaShiMiConfig(**{**SMALL, **config}), Shape(20, channels))
    torch.nn.init.normal_(model.start)
    return model.eval()


def tokens(model: SaShiMi, n: int, length: int) -> Tensor:
    size = (n, length, model.shape.channels)
    return torch.randint(model.config.levels, size, generator=seeded())


def complete(x: Tensor) -> Batch:
    B, L, _ = x.shape
    return Batch(x, torch.linspace(0, 1, L).expand(B, L), torch.ones_like(x), torch.ones_like(x))


def forced(model: SaShiMi, k: Tensor) -> Tensor:
    """Logits of the convolutional mode along complete tokens."""
    with torch.no_grad():
        return model.logits(k, torch.ones(k.shape))


# -- values and tokens ---------------------------------------------------------------------------


def test_quantisation_is_exact_to_half_a_bin() -> None:
    model = made(2, levels=256)
    x = torch.tensor([-3.0, 10.0]) + torch.tensor([5.0, 0.2]) * torch.rand(9, 30, 2)
    x[0, :2] = torch.tensor([[-3.0, 10.0], [2.0, 10.2]])
    model.calibrate(complete(x))
    width = torch.tensor([5.0, 0.2]) / 256
    torch.testing.assert_close(model.bin_width, width, rtol=1e-4, atol=0)
    k = model.quantise(x)
    assert (k.amin((0, 1)) == 0).all() and (k.amax((0, 1)) == 255).all()
    error = (model.dequantise(k) - x).abs()
    assert (error <= width * 0.51).all() and (error.amax((0, 1)) > width * 0.45).all()
    beyond = model.quantise(torch.tensor([[-100.0, 100.0]]))
    assert beyond.tolist() == [[0, 255]]


def test_calibration_looks_at_known_values_alone() -> None:
    model = made(3)
    x = torch.rand(4, 5, 3)
    mask, target = torch.ones_like(x), torch.ones_like(x)
    mask[..., 2] = target[..., 2] = 0  # never seen
    mask[0, 0] = 0
    target[1, 1, :2] = 0
    mask[2, 2] = target[2, 2] = 0
    x[0, 0, 0], x[1, 1, 0], x[2, 2] = -1.0, 3.0, 50.0
    model.calibrate(Batch(x, torch.linspace(0, 1, 5).expand(4, 5), mask, target))
    assert (model.low[0], model.high[0]) == (-1, 3)
    assert model.low[1] >= 0 and model.high[1] <= 1
    assert (model.low[2], model.high[2]) == (0, 1), "an unseen channel keeps the initial range"


def test_a_constant_channel_comes_back() -> None:
    model = made()
    model.calibrate(complete(torch.full((2, 20, 1), 7.0)))
    x = model.sample(3, torch.linspace(0, 1, 20), seeded())
    torch.testing.assert_close(x, torch.full_like(x, 7.0))


def test_initial_embedding_is_a_smooth_process() -> None:
    E = smooth_functions(65, 20_000)
    c = torch.linspace(-1, 1, 65)
    expected = torch.exp(-(((c[:, None] - c) / LENGTH_SCALE) ** 2) / 2)
    torch.testing.assert_close(E @ E.T / 20_000, expected, rtol=0, atol=0.04)


# -- the network ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("n_layers", "trunk"), [(2, 1_600_384), (4, 2_871_808), (8, 5_414_656)])
def test_parameters(n_layers: int, trunk: int) -> None:
    """The released model's with as many S4 systems as channels, and the start vector."""
    model = SaShiMi(SaShiMiConfig(n_layers=n_layers), Shape(20, 1))
    assert sum(p.numel() for p in model.parameters()) == trunk + 33_024 + 64


@pytest.mark.parametrize("n", [0, 3, 7, 8, 21])
def test_a_token_changes_what_comes_after_it_alone(n: int) -> None:
    model = made(2, pool=(4, 2))
    k = tokens(model, 2, 30)
    other = k.clone()
    other[:, n, 0] = (other[:, n, 0] + 7) % 16
    change = (forced(model, k) - forced(model, other)).abs().amax((0, 3))  # (L, D)
    assert change[: n + 1].max() < 1e-5
    assert change[n + 1].min() > 1e-3, "channels depend on each other's past"


def test_channels_have_embeddings_of_their_own() -> None:
    model = made(2)
    k = tokens(model, 2, 8)
    assert (forced(model, k) - forced(model, k.flip(-1)))[:, 1:].abs().amax((2, 3)).min() > 1e-3


@pytest.mark.parametrize("length", [1, 7, 8, 50])
@pytest.mark.parametrize(
    "config",
    [
        {"pool": ()},
        {"n_layers": 2},
        {"n_layers": 2, "pool": (4, 4)},
        {"d_model": 64, "state": 64, "levels": 256, "pool": (4, 4)},
    ],
)
def test_generation_and_training_use_one_model(config: dict[str, object], length: int) -> None:
    model = made(2, **config)
    k = tokens(model, 3, length)
    with torch.no_grad():
        step = model.stepper(3)
        stepped = [step(before) for before in (None, *k[:, :-1].unbind(1))]
    torch.testing.assert_close(torch.stack(stepped, 1), forced(model, k), rtol=0, atol=1e-4)


@pytest.mark.parametrize("length", [1, 5, 8, 13])
def test_padding_changes_nothing(length: int) -> None:
    model = made()
    k = tokens(model, 2, 19)  # padded by 1; its beginnings by 3, 3, 0 and 3
    beginning = forced(model, k[:, :length])
    torch.testing.assert_close(beginning, forced(model, k)[:, :length], rtol=0, atol=1e-5)


def test_unknown_tokens_are_not_read_and_not_fitted() -> None:
    model = made(2)
    x = torch.rand(3, 9, 2, generator=seeded())
    mask = torch.ones_like(x)
    mask[:, 4, 1] = 0
    a, b = (
        model.loss(Batch(x + y * (1 - mask), complete(x).t, mask, mask), 0, seeded()).value
        for y in (0.0, 0.5)
    )
    assert torch.equal(a, b)
    assert not torch.equal(a, model.loss(complete(x), 0, seeded()).value)


# -- the distribution ----------------------------------------------------------------------------


def test_loss_without_knowledge_is_that_of_a_uniform_token() -> None:
    model = made(2, levels=256)
    batch = complete(torch.rand(4, 20, 2, generator=seeded()))
    torch.nn.init.zeros_(model.head.weight)
    torch.nn.init.zeros_(model.head.bias)
    assert model.loss(batch, 0, seeded()).value.item() == pytest.approx(math.log(256), rel=1e-6)


def every_series(model: SaShiMi, length: int) -> tuple[Tensor, Tensor]:
    """All series of tokens (Q^(L D), L, D) and the probability of each, from the loss alone."""
    size = (length, model.shape.channels)
    n_tokens = math.prod(size)
    k = torch.tensor([*itertools.product(range(model.config.levels), repeat=n_tokens)])
    k = k.view(-1, *size)
    x = model.dequantise(k)
    with torch.no_grad():
        nll = [model.loss(complete(one[None]), 0, seeded()).value * n_tokens for one in x]
    return k, torch.stack(nll).neg().exp()


@pytest.mark.parametrize(("channels", "length"), [(1, 4), (2, 2)])
def test_probabilities_of_all_series_sum_to_one(channels: int, length: int) -> None:
    _, p = every_series(made(channels, levels=3), length)
    assert p.sum().item() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(("channels", "length"), [(1, 3), (2, 2)])
def test_samples_follow_the_probabilities(channels: int, length: int) -> None:
    model = made(channels, levels=3, pool=(2,))
    model.high.fill_(1.5)
    torch.nn.init.normal_(model.head.weight, std=0.5)
    k, p = every_series(model, length)
    assert p.max() > 5 * p.min()
    n = 40_000
    x = model.sample(n, torch.linspace(0, 1, length), seeded(1))
    drawn = model.quantise(x)
    place = torch.tensor([3**i for i in reversed(range(length * channels))])
    assert torch.equal((k.flatten(1) * place).sum(1), torch.arange(len(k)))
    counts = torch.bincount((drawn.flatten(1) * place).sum(1), minlength=len(k))
    chi_square = ((counts - n * p) ** 2 / (n * p)).sum().item()
    assert chi_square < len(k) + 5 * math.sqrt(2 * len(k))
    within = (x - model.low) / model.bin_width - drawn  # uniform in the bin
    assert within.min() >= 0 and within.max() <= 1
    assert within.mean().item() == pytest.approx(0.5, abs=0.01)
    assert within.std().item() == pytest.approx(math.sqrt(1 / 12), abs=0.01)


def test_learns_a_periodic_series() -> None:
    model = made(levels=4, lr=1e-2)
    wave = torch.tensor([0.0, 1.0, 0.3, 0.7]).repeat(6)[:22]
    batch = complete(wave.expand(4, 22).unsqueeze(-1))
    model.calibrate(batch)
    optimiser = model.optimisers()["main"].optimiser
    for _ in range(80):
        optimiser.zero_grad()
        model.loss(batch, 0, seeded()).value.backward()
        optimiser.step()
    assert model.loss(batch, 0, seeded()).value < 0.02
    x = model.sample(8, torch.linspace(0, 1, 22), seeded())
    right = model.quantise(x) == model.quantise(batch.x[:1])
    assert right.float().mean() > 0.95


def test_expects_the_last_value_before_it_has_learned_anything() -> None:
    model = made(2, d_model=64, levels=256)
    last = tokens(model, 16, 9)
    with torch.no_grad():
        p = model.logits(last, torch.ones(last.shape))[:, 1:].softmax(-1)  # (B, 8, D, Q)
    distance = (torch.arange(256) - last[:, :-1, :, None]).abs() / 256
    assert (p * distance).sum(-1).mean() < 0.7 * distance.mean()


# -- what is refused -----------------------------------------------------------------------------


def test_bad_configurations() -> None:
    with pytest.raises(ValueError, match="levels: expected at least 2, found 1"):
        made(levels=1)
    with pytest.raises(ValueError, match=r"pool: expected positive factors, found \[4, 0\]"):
        made(pool=(4, 0))


def test_samples_that_are_not_finite() -> None:
    model = made()
    model.head.bias.data[3] = math.nan
    with pytest.raises(Diverged, match="not finite"):
        model.sample(2, torch.linspace(0, 1, 20), seeded())
