"""LS4 as released: its counts, its loss, its samples."""

import dataclasses
import math

import pytest
import torch
from torch.optim.swa_utils import AveragedModel

from harness.contract import Shape
from ls4.released import LS4, LS4Config
from tests.ls4.series import batch_of, extrapolation, seeded, small


@pytest.mark.parametrize(
    "config, shape, total",
    [
        (LS4Config(), Shape(728, 1), 2_146_857),
        (LS4Config(sigma=0.5), Shape(791, 1), 2_146_857),
        (LS4Config(latent=10, pool=(5,), output="sigmoid"), Shape(725, 1), 2_351_328),
        (LS4Config(latent=10, pool=(), sigma=0.01), Shape(100, 5), 514_984),
        (LS4Config(latent=20, pool=(), sigma=0.05), Shape(100, 41), 535_054),
        (LS4Config(latent=20, pool=(), sigma=0.1, d_temb=64), Shape(100, 41), 783_310),
    ],
)
def test_parameter_counts_of_the_released_configurations(config, shape, total: int) -> None:
    assert sum(p.numel() for p in LS4(config, shape).parameters()) == total


def test_negative_elbo_and_both_weightings_are_sums_of_the_same_terms() -> None:
    x = torch.randn(4, 24, 1)
    batch = batch_of(x)
    model = small()
    bound = model.neg_elbo(batch, seeded())
    loss = model.loss(batch, 0, seeded())
    # univariate, full mask: KL over (L Z), likelihood over L
    assert loss.logs["kl"].item() == pytest.approx(bound.kl.mean().item() / (24 * 3), rel=1e-5)
    assert loss.logs["nll"].item() == pytest.approx(bound.nll.mean().item() / 24, rel=1e-5)
    assert loss.value.item() == pytest.approx((loss.logs["kl"] + loss.logs["nll"]).item())
    elbo = small(weighting="elbo")
    elbo.load_state_dict(model.state_dict())
    value = elbo.loss(batch, 0, seeded()).value.item()
    assert value == pytest.approx((bound.kl + bound.nll).mean().item() / 24, rel=1e-5)


def test_released_weighting_with_gaps_and_an_empty_channel() -> None:
    model = small(channels=3)
    x = torch.randn(2, 24, 3)
    mask = (torch.rand(2, 24, 3) < 0.4).float()
    mask[:, :, 1] = 0
    batch = batch_of(x * mask, mask)
    loss = model.loss(batch, 0, seeded())
    kl, nll = model.bound(batch, seeded())
    expected_nll, expected_kl = torch.zeros(()), torch.zeros(())
    for b in range(2):
        observed = [n for n in range(24) if mask[b, n].any()]
        expected_kl += sum(kl[b, n].sum() / 3 for n in observed) / len(observed) / 2
        for c in (0, 2):
            expected_nll += nll[b, :, c].sum() / mask[b, :, c].sum() / 2
    assert loss.logs["kl"].item() == pytest.approx(expected_kl.item(), rel=1e-5)
    assert loss.logs["nll"].item() == pytest.approx(expected_nll.item(), rel=1e-5)


def test_moving_average_reproduces_the_model_after_its_first_update() -> None:
    model = small()
    average = AveragedModel(model)
    average.update_parameters(model)
    t = torch.linspace(0, 1, 24)
    with torch.no_grad():
        assert torch.equal(model.sample(3, t, seeded()), average.module.sample(3, t, seeded()))
        x = torch.randn(2, 24, 1)
        assert torch.equal(model.posterior(x)[0], average.module.posterior(x)[0])


def test_sigmoid_output_stays_in_the_unit_interval() -> None:
    model = small(output="sigmoid")
    with torch.no_grad():
        sample = model.sample(4, torch.linspace(0, 1, 24), seeded())
    assert sample.min() >= 0 and sample.max() <= 1


def test_pooling_must_divide_the_length() -> None:
    with pytest.raises(ValueError, match="expected a length divisible by 5, found 24"):
        small(pool=(5,))


def test_a_time_embedding_does_not_go_with_pooling() -> None:
    with pytest.raises(ValueError, match=r"expected no pooling, found pool \[1\]"):
        small(d_temb=4)


def test_time_matters_where_it_is_embedded_only() -> None:
    batch = extrapolation([8, 8], [4, 4])
    later = dataclasses.replace(batch, t=batch.t**2)
    for d_temb, same in ((0, True), (4, False)):
        model = small(channels=2, pool=(), d_temb=d_temb)
        with torch.no_grad():
            a, b = (model.predict(given, 1, seeded()).mean for given in (batch, later))
        assert torch.equal(a, b) == same


@pytest.mark.slow
def test_overfits_eight_sines() -> None:
    length = 40
    t = torch.linspace(0, 1, length)
    phase = torch.linspace(0, 2 * math.pi, 9)[:8, None]
    batch = batch_of(torch.sin(2 * math.pi * 2 * t + phase)[..., None])
    config = LS4Config(latent=2, width=64, state=16, n_pairs=1, pool=(), sigma=0.02, lr=5e-3)
    model = LS4(config, Shape(length, 1))
    optimiser = model.optimisers()["main"].optimiser
    for step in range(300):
        for group in optimiser.param_groups:
            group["lr"] = config.lr * (1 - step / 300)
        optimiser.zero_grad()
        model.loss(batch, step, seeded(step)).value.backward()
        optimiser.step()
    with torch.no_grad():
        error = (model.predict(batch, 1, seeded(1)).mean - batch.x).square().mean()
    assert error < 1e-3
