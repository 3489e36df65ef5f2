"""LS4 against the released networks, its counts, and the properties that its paper claims."""

import dataclasses
import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal
from torch.distributions import kl_divergence as torch_kl
from torch.optim.swa_utils import AveragedModel

from harness.contract import Batch, Shape
from ls4.blocks import GaussianNetwork, Network, TimeEmbedding
from ls4.model import LS4, LS4Config, kl_divergence
from ls4.ssm import SSM, kernels_at_once
from tests.released import reference_network

SMALL = {"width": 8, "state": 8, "n_pairs": 1}


def small(length: int = 24, channels: int = 1, **config) -> LS4:
    return LS4(LS4Config(latent=3, **SMALL, **config), Shape(length, channels))


def even(x: torch.Tensor) -> torch.Tensor:
    """The even grid of a batch of series, or of latent paths."""
    return torch.linspace(0, 1, x.shape[1]).expand(x.shape[:2])


def batch_of(
    x: torch.Tensor, mask: torch.Tensor | None = None, target: torch.Tensor | None = None
) -> Batch:
    mask = torch.ones_like(x) if mask is None else mask
    return Batch(x, even(x), mask, mask if target is None else target)


def extrapolation(lengths: list[int], visible: list[int], channels: int = 2) -> Batch:
    """Records that show their first rows, are asked for the others, and are padded."""
    rows = torch.arange(max(lengths))
    real, shown = (rows < torch.tensor(n)[:, None] for n in (lengths, visible))
    x = torch.rand(*real.shape, channels)
    observed = (torch.rand(x.shape) < 0.7).float()
    observed[..., 0] = 1
    mask, target = (observed * r.unsqueeze(-1) for r in (real & shown, real & ~shown))
    return batch_of(x * (mask + target), mask, target)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def no_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw means."""
    monkeypatch.setattr("ls4.model._noise", lambda like, generator: torch.zeros_like(like))


def stepped(network, u: torch.Tensor, time: torch.Tensor) -> list[torch.Tensor]:
    step = network.stepper(len(u))
    outputs = [step(v, now) for v, now in zip(u.unbind(1), time.unbind(1), strict=True)]
    if isinstance(outputs[0], tuple):
        return [torch.stack(part, 1) for part in zip(*outputs, strict=True)]
    return [torch.stack(outputs, 1)]


@pytest.mark.parametrize("name", ["nopool_heads", "pool1_heads", "pool5_plain"])
def test_released_networks_are_reproduced_in_both_modes(name: str) -> None:
    network, arrays = reference_network(name)
    with torch.no_grad():
        convolved = network(arrays["input"])
        convolved = convolved if isinstance(convolved, tuple) else (convolved,)
        recurrent = stepped(network, arrays["input"], even(arrays["input"]))
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
        (LS4Config(latent=20, pool=(), sigma=0.1, d_temb=64), Shape(100, 41), 783_310),
    ],
)
def test_parameter_counts_of_the_released_configurations(config, shape, total: int) -> None:
    assert sum(p.numel() for p in LS4(config, shape).parameters()) == total


@pytest.mark.parametrize("kernel", ["dplr", "diagonal"])
@pytest.mark.parametrize("pool, d_temb", [((), 0), ((1,), 0), ((5,), 0), ((2, 3), 0), ((), 6)])
def test_step_equals_convolution(kernel, pool, d_temb) -> None:
    sizes = {"width": 16, "state": 64, "n_pairs": 2, "pool": pool, "d_temb": d_temb}
    network = GaussianNetwork(2, 3, log_std_range=(-7.0, 5.0), **sizes, kernel=kernel)
    u, t = torch.randn(2, 210, 2), torch.rand(2, 210).sort(1).values
    with torch.no_grad():
        for convolved, recurrent in zip(network(u, t), stepped(network, u, t), strict=True):
            assert torch.allclose(convolved, recurrent, atol=1e-4)


@pytest.mark.parametrize("kernel", ["dplr", "diagonal"])
def test_kernels_at_once_are_the_kernels_one_by_one(
    kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ls4.ssm.AT_ONCE", 20)  # parts that end inside a layer
    network = GaussianNetwork(
        2, 3, log_std_range=(-7.0, 5.0), **SMALL, pool=(2, 3), kernel=kernel
    ).double()
    u = torch.randn(2, 42, 2, dtype=torch.float64)
    parameters = list(network.parameters())

    def results() -> tuple[Tensor, ...]:
        mean, log_std = network(u)
        gradients = torch.autograd.grad((mean * log_std).sum(), parameters)
        return (mean, log_std, *gradients)

    one_by_one = results()
    with kernels_at_once(network, 42):
        systems = [m for m in network.modules() if isinstance(m, SSM)]
        assert all(ssm.ready is not None for ssm in systems)
        at_once = results()
    with kernels_at_once(network, 36):
        too_long = network(u)
    assert all(ssm.ready is None for ssm in systems)
    with kernels_at_once(network, 2000):
        assert all(ssm.ready is None for ssm in systems), "kernels of a long sequence are held"
    for a, b in zip(one_by_one, at_once, strict=True):
        assert torch.allclose(a, b, rtol=1e-9, atol=1e-12)
    for a, b in zip(one_by_one, too_long, strict=False):  # the first two are the outputs
        assert torch.allclose(a, b, rtol=1e-9, atol=1e-12)


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
    mean, _ = model.prior_of(z, even(z))
    (gradient,) = torch.autograd.grad(mean[0, 10].sum(), z)
    by_step = gradient.abs().sum(-1)[0]
    assert by_step[9] > 0
    assert by_step[10:].sum() <= 1e-10 * by_step.sum()


def test_rolling_the_prior_over_a_path_equals_its_convolution() -> None:
    model = small()
    z = torch.randn(2, 24, 3)
    with torch.no_grad():
        start = model.z_start.expand(2, 1, -1)
        recurrent = stepped(model.prior, torch.cat([start, z[:, :-1]], 1), even(z))
        for a, b in zip(model.prior_of(z, even(z)), recurrent, strict=True):
            assert torch.allclose(a, b, atol=1e-5)


def test_samples_come_from_the_prior() -> None:
    """Sampling draws z_n from the prior at z_<n with the generator's noise, then decodes."""
    model = small()
    with torch.no_grad():
        sample = model.sample(2, torch.linspace(0, 1, 24), seeded())
        noise = seeded()
        z = torch.zeros(2, 24, 3)
        for n in range(24):
            mean, log_std = model.prior_of(z, even(z))
            z[:, n] = mean[:, n] + log_std[:, n].exp() * torch.randn(2, 3, generator=noise)
        assert torch.allclose(sample, model.decode(z, even(z)), atol=1e-4)


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
        x = torch.randn(1, 24, 1)
        error = ((perfect.predict(batch_of(x), 1, seeded()).mean - x) ** 2).sum() / (2 * 0.3**2)
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


def test_a_time_embedding_does_not_go_with_pooling() -> None:
    with pytest.raises(ValueError, match=r"expected no pooling, found pool \[1\]"):
        small(d_temb=4)


def test_time_embedding() -> None:
    """Released: sinusoids of t at exp(-k ln(10000) / 63), then Linear, SiLU, Linear."""
    embedding = TimeEmbedding(64)
    t = torch.tensor([[0.0, 0.3], [0.7, 1.0]])
    f = torch.exp(-torch.arange(64) * math.log(10_000) / 63)
    sinusoids = torch.cat([torch.sin(t[..., None] * f), torch.cos(t[..., None] * f)], -1)
    hidden = torch.nn.functional.silu(embedding[0](sinusoids))
    assert hidden.shape == (2, 2, 256)
    assert torch.allclose(embedding(t), embedding[2](hidden), atol=1e-6)


def test_time_matters_where_it_is_embedded_only() -> None:
    batch = extrapolation([8, 8], [4, 4])
    later = dataclasses.replace(batch, t=batch.t**2)
    for d_temb, same in ((0, True), (4, False)):
        model = small(channels=2, pool=(), d_temb=d_temb)
        with torch.no_grad():
            a, b = (model.predict(given, 1, seeded()).mean for given in (batch, later))
        assert torch.equal(a, b) == same


def test_forecasts_roll_the_prior_out_from_the_posterior() -> None:
    """Literally: each record's path switches from q to p after its own last visible row."""
    model = small(12, 2, pool=())
    visible = [3, 7, 5, 4]
    batch = extrapolation([12, 9, 5, 8], visible)
    batch.mask[3, 1] = 0  # a gap between visible rows is no forecast
    posterior_alone = [False, False, True, False]  # nothing is asked of the third
    with torch.no_grad():
        prediction = model.predict(batch, 2, seeded()).mean
        noise = seeded()
        mean, log_std = model.posterior(batch.visible)
        z = (mean + log_std.exp() * torch.randn(2, *mean.shape, generator=noise)).flatten(0, 1)
        for n in range(12):
            mean, log_std = model.prior_of(z, even(z))
            drawn = mean[:, n] + log_std[:, n].exp() * torch.randn(8, 3, generator=noise)
            for i in range(8):
                last = [12, 9, 5, 8][i % 4]
                if not posterior_alone[i % 4] and visible[i % 4] <= n < last:
                    z[i, n] = drawn[i]
        expected = model.decode(z, even(z)).view(2, 4, 12, 2)
    assert torch.allclose(prediction, expected, atol=1e-5)


def test_hidden_rows_within_a_record_come_from_the_posterior(no_noise) -> None:
    x = torch.rand(1, 10, 1)
    mask = torch.tensor([1.0, 1, 0, 1, 0, 0, 1, 1, 0, 0])[None, :, None]
    batch = batch_of(x, mask, 1 - mask)
    model = small(10, pool=())
    with torch.no_grad():
        prediction = model.predict(batch, 1, seeded()).mean[0]
        mean, _ = model.posterior(x * mask)
        assert torch.allclose(prediction[:, :8], model.decode(mean, even(x))[:, :8], atol=1e-5)
        assert not torch.allclose(prediction[:, 8:], model.decode(mean, even(x))[:, 8:], atol=1e-3)


def test_predictions_are_drawn_in_parts_of_bounded_size(monkeypatch, no_noise) -> None:
    model = small(10, 2, pool=())
    batch = extrapolation([10, 7], [4, 4])
    whole = model.predict(batch, 5, seeded())
    widths, decode = [], model.decode
    monkeypatch.setattr(model, "decode", lambda z, *of: (widths.append(len(z)), decode(z, *of))[1])
    monkeypatch.setattr("ls4.model.ROWS_AT_ONCE", 45)
    parts = model.predict(batch, 5, seeded())
    assert widths == [4, 4, 2]  # two draws of two records of ten rows
    assert parts.mean.shape == (5, 2, 10, 2)
    assert torch.allclose(whole.mean, parts.mean, atol=1e-6)


def test_training_shows_the_posterior_forecast_targets_only() -> None:
    """Of the targets, those after all that is visible; hidden rows between are for the decoder."""
    model = small(8, pool=())
    mask = torch.tensor([1.0, 1, 0, 1, 0, 0, 0, 0])[None, :, None]
    target = torch.tensor([0.0, 0, 1, 0, 1, 0, 1, 0])[None, :, None]
    x = torch.rand(1, 8, 1)
    bounds = {}
    for n in (None, 2, 4, 5, 6):
        changed = x.clone()
        if n is not None:
            changed[0, n] += 1
        bounds[n], _ = model._bound(batch_of(changed, mask, target), seeded())
    by_row = {n: (kl - bounds[None]).abs().sum(-1)[0] > 1e-6 for n, kl in bounds.items()}
    assert not by_row[2].any() and not by_row[5].any()
    assert by_row[4].nonzero().flatten().tolist() == [4, 6]  # KL counts where there is a target
    assert by_row[6].nonzero().flatten().tolist() == [6]


def test_the_bound_bounds_the_likelihood_of_what_predict_draws() -> None:
    """Extrapolation: -log of the mean of p(targets | draw) over draws lies below the bound.

    It lies above the bound's likelihood term alone where the posterior has learnt, at no cost, to
    carry over the targets that training shows it.
    """
    model = small(8, 2, pool=(), sigma=0.15, lr=2e-2)
    batch = extrapolation([8, 8, 6], [4, 3, 3])
    optimiser = model.optimisers()["main"].optimiser
    for step in range(150):
        optimiser.zero_grad()
        model.loss(batch, step, seeded(step)).logs["nll"].backward()
        optimiser.step()
    with torch.no_grad():
        mean, sigma = model.predict(batch, 1000, seeded())
        log_p = (Normal(mean, sigma).log_prob(batch.x) * batch.target).sum((2, 3))
        evidence = torch.logsumexp(log_p, 0) - math.log(1000)
        many = Batch(*(a.repeat(100, *[1] * (a.ndim - 1)) for a in dataclasses.astuple(batch)))
        kl, nll = (part.view(100, 3).mean(0) for part in model.neg_elbo(many, seeded()))
    assert (nll < -evidence).all() and (-evidence < kl + nll).all()


def test_cosine_schedule() -> None:
    optimisation = small(cosine_steps=10, lr=0.01).optimisers()["main"]
    assert optimisation.interval == "step"
    rates = []
    for _ in range(13):
        rates.append(optimisation.optimiser.param_groups[0]["lr"])
        optimisation.optimiser.step()
        optimisation.schedule.step()
    assert rates[0] == 0.01 and rates[5] == pytest.approx(0.005)
    assert rates[1] == pytest.approx(0.005 * (1 + math.cos(math.pi / 10)))
    assert rates[10:] == pytest.approx([0, 0, 0], abs=1e-12)
    assert small().optimisers()["main"].interval == "epoch"


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
