"""Prior, posterior, decoder, bound and predictions, on the released form of LS4."""

import dataclasses
import math

import pytest
import torch
from torch.distributions import Normal
from torch.distributions import kl_divergence as torch_kl

from harness.contract import Batch
from ls4.latent import kl_divergence
from tests.ls4.series import batch_of, even, extrapolation, seeded, small, stepped


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


def test_forecasts_roll_the_prior_out_from_the_posterior() -> None:
    """Literally: each record's path switches from q to p after its own last visible row."""
    model = small(12, 2, pool=())
    visible = [3, 7, 5, 4]
    batch = extrapolation([12, 9, 5, 8], visible)
    batch.mask[3, 1] = 0  # a gap between visible rows is no forecast
    posterior_alone = [False, False, True, False]  # the third has no target
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
    monkeypatch.setattr("ls4.latent.ROWS_AT_ONCE", 45)
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
        bounds[n], _ = model.bound(batch_of(changed, mask, target), seeded())
    by_row = {n: (kl - bounds[None]).abs().sum(-1)[0] > 1e-6 for n, kl in bounds.items()}
    assert not by_row[2].any() and not by_row[5].any()
    assert by_row[4].nonzero().flatten().tolist() == [4, 6]  # KL counts where there is a target
    assert by_row[6].nonzero().flatten().tolist() == [6]


def test_the_bound_bounds_the_likelihood_of_what_predict_draws() -> None:
    """Extrapolation: -log of the mean of p(targets | draw) over draws lies below the bound.

    It lies above the bound's likelihood term alone where the posterior has learnt, at no cost, to
    carry over the targets that it sees in training.
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


def test_a_loss_below_zero_that_stays_is_a_plateau() -> None:
    optimisation = small(lr_patience=0, lr=1e-3).optimisers()["main"]
    rates = []
    for loss in (-1.0, -2.0, -2.0):
        optimisation.schedule.step(loss)
        rates.append(optimisation.optimiser.param_groups[0]["lr"])
    assert rates == [1e-3, 1e-3, 5e-4]
