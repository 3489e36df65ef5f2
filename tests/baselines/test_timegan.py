"""TimeGAN: losses against the equations, who learns in which phase, and killing it in each."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import softplus

from baselines.timegan import TimeGAN, TimeGANConfig, moment_loss, next_step_loss
from datasets.base import Dataset
from datasets.synthetic import load as sines
from harness.cells import Cell, CellSpec, describe_cell
from harness.config import Settings
from harness.contract import Batch, Diverged, Loss, Shape
from tests import specs
from tests.checkout import configuration

NETS = {"embedder", "recovery", "generator", "supervisor", "discriminator"}
CPU = torch.device("cpu")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch_of(x: Tensor) -> Batch:
    t = torch.linspace(0, 1, x.shape[1]).expand(x.shape[:2])
    return Batch(x, t, torch.ones_like(x), torch.ones_like(x))


def small(length: int = 7, channels: int = 2, **changes: Any) -> TimeGAN:
    sizes = {"hidden": 6, "layers": 2, "embedding_steps": 3, "supervised_steps": 2}
    return TimeGAN(TimeGANConfig(**(sizes | changes)), Shape(length, channels))


def mse(a: Tensor, b: Tensor) -> Tensor:
    return ((a - b) ** 2).mean()


def test_released_sizes() -> None:
    model = TimeGAN(TimeGANConfig(), Shape(24, 1))
    assert sum(p.numel() for p in model.parameters()) == 48_938


def test_samples_lie_within_the_training_data() -> None:
    model = small()
    x = torch.randn(5, 7, 2, generator=seeded()) * torch.tensor([1.0, 100.0]) - 30
    model.calibrate(batch_of(x))
    low, high = x.amin((0, 1)), x.amax((0, 1))
    for bias in (-50.0, 50.0):  # every output at the end of its range
        torch.nn.init.constant_(model.recovery.linear.bias, bias)
        samples = model.sample(4, torch.linspace(0, 1, 7), seeded())
        expected = (low if bias < 0 else high).expand(4, 7, 2)
        torch.testing.assert_close(samples, expected, rtol=1e-5, atol=1e-4)


def test_samples_follow_the_noise_in_time() -> None:
    """The same first numbers give the same first values, whatever comes later."""
    model = small(channels=1)
    z = torch.rand(3, 7, 1, generator=seeded())
    later = z.clone()
    later[:, 4:] = 1 - later[:, 4:]
    a, b = (model.recovery(model.supervisor(model.generator(noise))) for noise in (z, later))
    assert torch.equal(a[:, :4], b[:, :4])
    assert (a[:, 4:] != b[:, 4:]).any(-1).all()


def test_samples_are_made_of_uniform_noise() -> None:
    model, noise = small(), []
    model.generator.register_forward_pre_hook(lambda _, given: noise.append(given[0]))
    model.sample(1000, torch.linspace(0, 1, 7), seeded())
    (z,) = noise
    assert z.shape == (1000, 7, 2) and 0 <= z.min() < 0.01 and 0.99 < z.max() <= 1
    assert z.mean().item() == pytest.approx(0.5, abs=0.01)
    assert z.std().item() == pytest.approx(12**-0.5, abs=0.01)


def test_broken_weights_are_a_divergence() -> None:
    model = small()
    torch.nn.init.constant_(model.generator.linear.bias, torch.nan)
    with pytest.raises(Diverged, match="not finite"):
        model.sample(2, torch.linspace(0, 1, 7), seeded())


def test_bad_configuration() -> None:
    with pytest.raises(ValueError, match="layers: expected at least 2, found 1"):
        small(layers=1)


# -- losses --------------------------------------------------------------------------------------


def test_losses_against_the_equations(double: object) -> None:
    model = small()
    e, r, g = model.embedder, model.recovery, model.generator
    s, d = model.supervisor, model.discriminator
    x, z = (torch.rand(4, 7, 2, generator=seeded(i)) for i in (0, 1))
    h, e_hat = e(x), g(z)
    h_hat, h_bar = s(e_hat), s(h)
    x_hat = r(h_hat)

    l_sup = mse(h[:, 1:], h_bar[:, :-1])
    l_u, l_ue = softplus(-d(h_hat)).mean(), softplus(-d(e_hat)).mean()
    deviations = [(((a - a.mean(0)) ** 2).mean(0) + 1e-6).sqrt() for a in (x_hat, x)]
    l_v = (deviations[0] - deviations[1]).abs().mean() + (x_hat.mean(0) - x.mean(0)).abs().mean()
    l_g = l_u + l_ue + 100 * (l_sup + 1e-8).sqrt() + 100 * l_v
    torch.testing.assert_close(model.generator_loss(x, h, z).value, l_g)

    l_e = 10 * (mse(x, r(h)) + 1e-8).sqrt() + 0.1 * l_sup
    torch.testing.assert_close(model.autoencoder_loss(x, h).value, l_e)

    l_d = softplus(-d(h)).mean() + softplus(d(h_hat)).mean() + softplus(d(e_hat)).mean()
    torch.testing.assert_close(model.discriminator_loss(x, z).value, l_d)


def test_moment_loss(double: object) -> None:
    x = torch.randn(6, 5, 2, generator=seeded())
    assert moment_loss(x[[3, 1, 5, 0, 2, 4]], x) < 1e-12, "the order of the series counts"
    torch.testing.assert_close(moment_loss(x + 0.25, x), torch.tensor(0.25))
    # Twice the data around a mean of 0: the deviation of ±1 is 1, of ±2 it is 2.
    signs = torch.tensor([1.0, -1.0]).reshape(2, 1, 1).expand(2, 5, 2)
    torch.testing.assert_close(moment_loss(2 * signs, signs), torch.tensor(1.0), atol=1e-5, rtol=0)


def test_supervised_loss_compares_with_the_next_time() -> None:
    h = torch.rand(3, 8, 4, generator=seeded())
    oracle = torch.cat([h[:, 1:], torch.full((3, 1, 4), 9.0)], 1)  # its last output is not asked
    assert next_step_loss(h, oracle) == 0
    assert next_step_loss(torch.ones(3, 8, 4), torch.ones(3, 8, 4)) == 0
    ramp = torch.arange(8.0)[:, None].expand(3, 8, 4)
    assert next_step_loss(ramp, ramp) == 1


# -- phases --------------------------------------------------------------------------------------


def names(model: TimeGAN, steps: int, batch: Batch) -> list[tuple[str, ...]]:
    """Whose losses come in each of the first steps."""
    return [
        tuple(loss.optimiser for loss in model.training_step(batch, step, seeded()))
        for step in range(steps)
    ]


def test_order_of_the_phases() -> None:
    model, batch = small(), batch_of(torch.rand(4, 7, 2, generator=seeded()))
    pair = ("generator", "autoencoder")
    iteration = [pair, (*pair, "discriminator")]
    expected = [("embedding",)] * 3 + [("supervised",)] * 2 + 2 * iteration + [pair]
    assert names(model, 10, batch) == expected


def test_every_training_has_three_phases() -> None:
    for budget in ("smoke", "full", "paper"):
        for dataset in ("solar_weekly", "fred_md", "nn5_daily", "temperature_rain", "flame"):
            cell = Cell("generation", dataset, "timegan", 0, control=False)
            spec = describe_cell(Settings(**configuration(budget=budget)), cell)
            assert isinstance(spec, CellSpec)
            model = TimeGAN(TimeGANConfig(**spec.config), Shape(7, 1))
            phases = [model.phase(step)[0] for step in range(spec.training.steps)]
            quarter = len(phases) // 4
            assert phases.count("embedding") == phases.count("supervised") == quarter


@pytest.mark.parametrize("loss, steps", [(0.14, False), (0.16, True)])
def test_a_discriminator_that_is_right_already_stays(
    monkeypatch: pytest.MonkeyPatch, loss: float, steps: bool
) -> None:
    model, batch = small(), batch_of(torch.rand(4, 7, 2, generator=seeded()))
    result = Loss(torch.tensor(loss), optimiser="discriminator")
    monkeypatch.setattr(model, "discriminator_loss", lambda x, z: result)
    found = [loss.optimiser for loss in model.training_step(batch, 6, seeded())]
    assert found == ["generator", "autoencoder", "discriminator"][: 3 if steps else 2]


def test_who_learns_from_what() -> None:
    """Each loss moves its own networks, and has gradients in no other one."""
    model, batch = small(), batch_of(torch.rand(4, 7, 2, generator=seeded()))
    expected = {
        "embedding": {"embedder", "recovery"},
        "supervised": {"supervisor"},
        "generator": {"generator", "supervisor"},
        "autoencoder": {"embedder", "recovery"},
        "discriminator": {"discriminator"},
    }
    optimisers = model.optimisers()
    assert optimisers.keys() == expected.keys()
    met = set()
    for step in (0, 3, 6):  # the last one with all three losses of the joint phase
        for loss in model.training_step(batch, step, seeded()):
            before = {name: value.clone() for name, value in model.named_parameters()}
            model.zero_grad(set_to_none=True)
            loss.value.backward()
            optimisers[loss.optimiser].optimiser.step()
            graded, moved = (
                {name.split(".")[0] for name, _ in found}
                for found in (
                    [(n, p) for n, p in model.named_parameters() if p.grad is not None],
                    [(n, p) for n, p in model.named_parameters() if not torch.equal(p, before[n])],
                )
            )
            assert graded == moved == expected[loss.optimiser], loss.optimiser
            met.add(loss.optimiser)
    assert met == expected.keys()
    assert all(p.requires_grad for p in model.parameters())
    assert {name for name, _ in model.named_children()} == NETS


def test_autoencoder_learns_sines() -> None:
    phase = torch.rand(16, 1, 1, generator=seeded()) * 6.3
    x = torch.sin(phase + torch.linspace(0, 6.3, 16)[:, None])
    model = TimeGAN(TimeGANConfig(layers=2, lr=1e-2, embedding_steps=1000), Shape(16, 1))
    batch = batch_of(x)
    model.calibrate(batch)
    optimiser = model.optimisers()["embedding"].optimiser
    for _ in range(120):
        (loss,) = model.training_step(batch, 0, seeded())
        optimiser.zero_grad()
        loss.value.backward()
        optimiser.step()
    x01 = (x - model.low) / model.span
    assert mse(x01, model.recovery(model.embedder(x01))) < 1e-3


# -- kill and resume -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    split = {"seed": 0, "fractions": [0.7, 0.1, 0.2]}
    return sines([], name="sines", title="Sines", n=24, length=10, channels=1, seed=0, split=split)


def test_killed_in_each_phase_ends_the_same(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = {"hidden": 6, "layers": 2, "embedding_steps": 4, "supervised_steps": 4}
    settings = {"steps": 16, "log_every": 3, "checkpoint_every": 0}
    spec = specs.cell("baselines.timegan:TimeGAN", config, **settings)
    # In the embedding phase, at the first supervised step, in that phase, and twice in the joint
    # one: within an iteration and between two.
    specs.assert_resumes(spec, dataset, tmp_path, 2, 4, 6, 11, 14)
    history = (tmp_path / "whole" / "history.jsonl").read_text()
    assert all(f'"{name}/loss"' in history for name in small().optimisers())
