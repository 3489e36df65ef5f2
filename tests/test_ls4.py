"""LS4 against the released networks, its counts, and the properties that its paper claims."""

import math

import pytest
import torch
from torch.distributions import Normal
from torch.distributions import kl_divergence as torch_kl
from torch.optim.swa_utils import AveragedModel

from harness.contract import Batch, Shape
from ls4.blocks import GaussianNetwork, Network
from ls4.model import LS4, LS4Config, kl_divergence
from tests.released import reference_network

SMALL = {"width": 8, "state": 8, "n_pairs": 1}


def small(length: int = 24, channels: int = 1, **config) -> LS4:
    return LS4(LS4Config(latent=3, **SMALL, **config), Shape(length, channels))


def batch_of(x: torch.Tensor, mask: torch.Tensor | None = None) -> Batch:
    t = torch.linspace(0, 1, x.shape[1]).expand(x.shape[:2])
    mask = torch.ones_like(x) if mask is None else mask
    return Batch(x, t, mask, mask)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def stepped(network, u: torch.Tensor) -> list[torch.Tensor]:
    step = network.stepper(len(u))
    outputs = [step(v) for v in u.unbind(1)]
    if isinstance(outputs[0], tuple):
        return [torch.stack(part, 1) for part in zip(*outputs, strict=True)]
    return [torch.stack(outputs, 1)]


@pytest.mark.parametrize("name", ["nopool_heads", "pool1_heads", "pool5_plain"])
def test_released_networks_are_reproduced_in_both_modes(name: str) -> None:
    network, arrays = reference_network(name)
    with torch.no_grad():
        convolved = network(arrays["input"])
        convolved = convolved if isinstance(convolved, tuple) else (convolved,)
        recurrent = stepped(network, arrays["input"])
    for outputs in (list(convolved), recurrent):
        if "mean" in arrays:
            assert torch.allclose(outputs[0], arrays["mean"], rtol=0, atol=1e-4)
            assert torch.allclose(outputs[1].exp(), arrays["std"], rtol=0, atol=1e-4)
        else:
            assert torch.allclose(outputs[0], arrays["output"], rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    "config, shape, total",
    [
        (LS4Config(), Shape(728, 1), 2_146_857),
        (LS4Config(sigma=0.5), Shape(791, 1), 2_146_857),
        (LS4Config(latent=10, pool=(5,), output="sigmoid"), Shape(725, 1), 2_351_328),
        (LS4Config(latent=10, pool=(), sigma=0.01), Shape(100, 5), 514_984),
        (LS4Config(latent=20, pool=(), sigma=0.05), Shape(100, 41), 535_054),
    ],
)
def test_parameter_counts_of_the_released_configurations(config, shape, total: int) -> None:
    assert sum(p.numel() for p in LS4(config, shape).parameters()) == total


@pytest.mark.parametrize("kernel", ["dplr", "diagonal"])
@pytest.mark.parametrize("pool", [(), (1,), (5,), (2, 3)])
def test_step_equals_convolution(kernel, pool) -> None:
    network = GaussianNetwork(
        2, 3, log_std_range=(-7.0, 5.0), width=16, state=64, n_pairs=2, pool=pool, kernel=kernel
    )
    u = torch.randn(2, 330, 2)
    with torch.no_grad():
        for convolved, recurrent in zip(network(u), stepped(network, u), strict=True):
            assert torch.allclose(convolved, recurrent, atol=1e-4)


@pytest.mark.parametrize("pool", [(), (1,), (5,), (2, 3)])
def test_networks_are_causal(pool) -> None:
    network = Network(1, 1, **SMALL, pool=pool, kernel="dplr").double()
    u = torch.randn(1, 30, 1, dtype=torch.float64, requires_grad=True)
    for n in (0, 4, 13, 29):
        (gradient,) = torch.autograd.grad(network(u)[0, n, 0], u)
        gradient = gradient.abs().flatten()
        assert gradient[n] > 0
        assert gradient[n + 1 :].sum() <= 1e-10 * gradient.sum()


def test_coarse_path_contributes_nothing_to_the_first_group() -> None:
    network = Network(1, 1, **SMALL, pool=(5,), kernel="dplr")
    u = torch.randn(2, 20, 1)
    with torch.no_grad():
        before = network(u)
        network.level.up.weight.mul_(3)
        after = network(u)
    # all of Up acts from the second group on; the delay is filled with zeros, bias included
    assert torch.allclose(before[:, :5], after[:, :5], atol=1e-5)
    assert not torch.allclose(before[:, 5:], after[:, 5:], atol=1e-2)


def test_prior_does_not_see_its_own_step() -> None:
    model = small().double()
    z = torch.randn(1, 24, 3, dtype=torch.float64, requires_grad=True)
    mean, _ = model.prior_of(z)
    (gradient,) = torch.autograd.grad(mean[0, 10].sum(), z)
    by_step = gradient.abs().sum(-1)[0]
    assert by_step[9] > 0
    assert by_step[10:].sum() <= 1e-10 * by_step.sum()


def test_rolling_the_prior_over_a_path_equals_its_convolution() -> None:
    model = small()
    z = torch.randn(2, 24, 3)
    with torch.no_grad():
        start = model.z_start.expand(2, 1, -1)
        recurrent = stepped(model.prior, torch.cat([start, z[:, :-1]], 1))
        for a, b in zip(model.prior_of(z), recurrent, strict=True):
            assert torch.allclose(a, b, atol=1e-5)


def test_samples_come_from_the_prior() -> None:
    """Sampling draws z_n from the prior at z_<n with the generator's noise, then decodes."""
    model = small()
    with torch.no_grad():
        sample = model.sample(2, torch.linspace(0, 1, 24), seeded())
        noise = seeded()
        z = torch.zeros(2, 24, 3)
        for n in range(24):
            mean, log_std = model.prior_of(z)
            z[:, n] = mean[:, n] + log_std[:, n].exp() * torch.randn(2, 3, generator=noise)
        assert torch.allclose(sample, model.decode(z), atol=1e-4)


def test_kl_divergence() -> None:
    m_q, l_q, m_p, l_p = torch.randn(4, 50)
    expected = torch_kl(Normal(m_q, l_q.exp()), Normal(m_p, l_p.exp()))
    assert torch.allclose(kl_divergence(m_q, l_q, m_p, l_p), expected, rtol=1e-4, atol=1e-6)
    assert kl_divergence(m_q, l_q, m_q, l_q).abs().max() == 0


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
    kl, nll = model._bound(batch, seeded())
    expected_nll, expected_kl = torch.zeros(()), torch.zeros(())
    for b in range(2):
        observed = [n for n in range(24) if mask[b, n].any()]
        expected_kl += sum(kl[b, n].sum() / 3 for n in observed) / len(observed) / 2
        for c in (0, 2):
            expected_nll += nll[b, :, c].sum() / mask[b, :, c].sum() / 2
    assert loss.logs["kl"].item() == pytest.approx(expected_kl.item(), rel=1e-5)
    assert loss.logs["nll"].item() == pytest.approx(expected_nll.item(), rel=1e-5)


def test_nothing_observed_costs_nothing() -> None:
    x = torch.zeros(2, 24, 1)
    model = small()
    batch = batch_of(x, torch.zeros_like(x))
    assert model.loss(batch, 0, seeded()).value == 0
    bound = model.neg_elbo(batch, seeded())
    assert not bound.kl.any() and not bound.nll.any()


def test_floor_of_the_bound() -> None:
    model = small()
    bound = model.neg_elbo(batch_of(torch.randn(4, 24, 1)), seeded())
    floor = 24 * (math.log(0.1) + 0.5 * math.log(2 * math.pi))
    assert (bound.nll >= floor).all() and (bound.kl >= 0).all()
    perfect = small(sigma=0.3)
    with torch.no_grad():
        x = perfect.decode(perfect.encode(torch.zeros(1, 24, 1), seeded())[-1])
        z = perfect.encode(x, seeded())[-1]
        error = ((perfect.decode(z) - x) ** 2).sum() / (2 * 0.3**2)
        bound = perfect.neg_elbo(batch_of(x), seeded())
    assert bound.nll.item() == pytest.approx(
        24 * (math.log(0.3) + 0.5 * math.log(2 * math.pi)) + error.item(), rel=1e-5
    )


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
        error = (model.predict(batch, 1, seeded(1))[0] - batch.x).square().mean()
    assert error < 1e-3
