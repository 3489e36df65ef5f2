"""LS4 on each record's own times: what it sees, what it must not depend on, and its loss."""

import dataclasses

import pytest
import torch

from harness.contract import Batch, Shape
from ls4.blocks import GaussianNetwork
from ls4.scan import ScanLayer
from ls4.timed import LS4Time, LS4TimeConfig
from tests.ls4.series import SMALL, seeded


def small(length: int = 12, channels: int = 2, **config) -> LS4Time:
    return LS4Time(LS4TimeConfig(latent=3, **SMALL, **config), Shape(length, channels))


def records(cut: float = 0.5) -> Batch:
    """Three records of 12, 7 and 9 rows, of which those before the cut are visible."""
    rows = torch.arange(12) < torch.tensor([12, 7, 9])[:, None]
    t = torch.rand(3, 12).sort(1).values
    t = torch.where(rows, t, t.masked_fill(~rows, 0).amax(1, keepdim=True))
    observed = (torch.rand(3, 12, 2) < 0.7) & rows[..., None]
    observed[:, 0] = True
    late = (t >= cut)[..., None]
    x = torch.rand(3, 12, 2) * observed
    return Batch(x, t, (observed & ~late).float(), (observed & late).float())


def padded(batch: Batch, n: int) -> Batch:
    """The batch with `n` more empty rows at the last time."""

    def zeros(a: torch.Tensor) -> torch.Tensor:
        return torch.cat([a, torch.zeros_like(a[:, :1]).expand(-1, n, -1)], 1)

    t = torch.cat([batch.t, batch.t[:, -1:].expand(-1, n)], 1)
    return Batch(zeros(batch.x), t, zeros(batch.mask), zeros(batch.target))


def test_gaps_are_in_units_of_the_time_scale() -> None:
    t = torch.tensor([[0.2, 0.25, 0.5, 0.5]])
    assert torch.allclose(small(time_scale=40.0).network_time(t), torch.tensor([[1.0, 2, 10, 0]]))
    even = torch.linspace(0, 1, 12).expand(1, -1)
    assert torch.allclose(small(length=12).network_time(even), torch.ones(1, 12))


def test_networks_see_values_mask_and_gap() -> None:
    model = small()
    x, mask = torch.rand(1, 4, 2), torch.tensor([[[1.0, 0], [0, 1], [1, 1], [0, 0]]])
    gap = torch.tensor([[1.0, 0, 3, 0.5]])
    log = torch.log(1 + gap)[..., None]
    assert torch.allclose(model.posterior_input(x, mask, gap), torch.cat([x * mask, mask, log], -1))
    z = torch.rand(1, 4, 3)
    assert torch.allclose(model.latent_input(z, gap), torch.cat([z, log], -1))


def test_networks_step_as_they_scan() -> None:
    sizes = {"width": 16, "state": 32, "n_pairs": 2, "pool": (), "layer": ScanLayer}
    network = GaussianNetwork(2, 3, log_std_range=(-7.0, 5.0), **sizes)
    u, gap = torch.randn(4, 70, 2), 2 * torch.rand(4, 70)
    with torch.no_grad():
        step = network.stepper(4)
        steps = [step(v, delta) for v, delta in zip(u.unbind(1), gap.unbind(1), strict=True)]
        for scanned, stepped in zip(network(u, gap), zip(*steps, strict=True), strict=True):
            assert torch.allclose(scanned, torch.stack(stepped, 1), atol=1e-4)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_samples_and_forecasts_come_from_the_prior(bidirectional: bool, no_noise) -> None:
    model, batch = small(bidirectional=bidirectional), records()
    forecast = (batch.beyond * batch.target.amax(-1).flip(1).cummax(1).values.flip(1)).bool()
    assert 0 < forecast.sum() < forecast.numel()
    gap = model.network_time(batch.t)
    with torch.no_grad():
        for prediction, replace in (
            (model.predict(batch, 1, seeded()).mean[0], forecast),
            (model.sample(3, batch.t[0], seeded()), torch.ones_like(forecast)),
        ):
            z, _ = model.encode(batch.x, batch.mask, batch.mask, gap)
            for n in range(12):
                mean, _ = model.prior_of(z, gap)
                z[:, n] = torch.where(replace[:, [n]], mean[:, n], z[:, n])
            assert torch.allclose(prediction, model.decode(z, gap), atol=1e-5)
            gap = gap[:1].expand(3, -1)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("cut", [0.5, 2.0])
def test_predictions_depend_neither_on_neighbours_nor_on_padding(
    cut: float, bidirectional: bool, no_noise
) -> None:
    model, batch = small(bidirectional=bidirectional), records(cut)
    together = model.predict(batch, 1, seeded()).mean[0]
    longer = model.predict(padded(batch, 5), 1, seeded()).mean[0]
    assert torch.allclose(longer[:, :12], together, atol=1e-5)
    for i, length in enumerate([12, 7, 9]):
        alone = Batch(*(a[[i], :length] for a in dataclasses.astuple(batch)))
        prediction = model.predict(alone, 1, seeded()).mean[0, 0]
        assert torch.allclose(prediction, together[i, :length], atol=1e-5)


def test_predictions_depend_on_gaps_but_not_on_the_unit_or_origin_of_time(no_noise) -> None:
    batch = records()
    model = small(time_scale=30.0)
    prediction = model.predict(batch, 1, seeded()).mean
    earlier = dataclasses.replace(batch, t=batch.t - batch.t[:, :1])
    assert torch.allclose(model.predict(earlier, 1, seeded()).mean, prediction, atol=1e-5)
    slow = small(time_scale=60.0)
    slow.load_state_dict(model.state_dict())
    halved = dataclasses.replace(batch, t=batch.t / 2)
    assert torch.allclose(slow.predict(halved, 1, seeded()).mean, prediction, atol=1e-5)
    assert not torch.allclose(slow.predict(batch, 1, seeded()).mean, prediction, atol=1e-3)


def test_an_observed_zero_is_not_a_missing_value(no_noise) -> None:
    model, batch = small(), records()
    x = batch.x.clone()
    x[:, 1] = 0
    seen, unseen = batch.mask.clone(), batch.mask.clone()
    seen[:, 1], unseen[:, 1] = 1, 0
    a, b = (
        model.predict(Batch(x, batch.t, mask, batch.target), 1, seeded()).mean
        for mask in (seen, unseen)
    )
    assert not torch.allclose(a, b, atol=1e-4)


def test_loss_is_the_bound_in_nats_a_target_value(no_noise) -> None:
    model, batch = small(kl_steps=10), records()
    kl, nll = (part.sum() / batch.target.sum() for part in model.neg_elbo(batch, seeded()))
    for step, weight in ((0, 0.1), (4, 0.5), (9, 1.0), (5000, 1.0)):
        loss = model.loss(batch, step, seeded())
        assert loss.value.item() == pytest.approx((weight * kl + nll).item(), rel=1e-5)
    more = model.loss(padded(batch, 3), 5000, seeded())
    assert more.value.item() == pytest.approx(loss.value.item(), rel=1e-5)
    nothing = dataclasses.replace(batch, target=torch.zeros_like(batch.target))
    assert model.loss(nothing, 5000, seeded()).value == 0


def test_a_posterior_that_looks_ahead_uses_later_rows_that_are_shown_and_no_others() -> None:
    model, batch = small(bidirectional=True), records()
    gap = model.network_time(batch.t)
    seen = torch.maximum(batch.mask, batch.target)  # as in training for extrapolation

    def means(x: torch.Tensor) -> torch.Tensor:
        return model.encode(x, seen, batch.mask, gap)[0].detach()

    before = means(batch.x)
    shown, hidden = batch.x.clone(), batch.x.clone()
    last = batch.mask.amax(-1).cumsum(1).argmax(1)  # last row that shows something
    row = torch.arange(12) == last[:, None]
    shown[row] += batch.mask[row]
    hidden += batch.target
    assert (means(shown) - before)[:, 0].abs().amin(0).max() > 1e-6
    up_to_last = torch.arange(12) <= last[:, None]
    assert torch.equal(means(hidden)[up_to_last], before[up_to_last])
    assert not torch.equal(means(hidden), before)


def test_looking_ahead_is_looking_back_at_the_record_in_reverse() -> None:
    model, batch = small(bidirectional=True), records(2.0)
    alone = Batch(*(a[[0]] for a in dataclasses.astuple(batch)))
    back = Batch(alone.x.flip(1), 1 - alone.t.flip(1), alone.mask.flip(1), alone.target.flip(1))
    gap = model.network_time(back.t)
    expected = model.ahead(model.posterior_input(back.x, back.mask, gap), gap).flip(1)
    found = model.look_ahead(alone.x, alone.mask, model.network_time(alone.t))
    assert torch.allclose(found, expected, atol=1e-5)


def test_gradients_are_to_be_clipped() -> None:
    assert small(clip_norm=0.5).optimisers()["main"].max_norm == 0.5


def test_learns_what_only_gaps_tell() -> None:
    """x is 1 after a long gap and 0 after a short one; nothing else says so."""
    model = small(length=20, channels=1, time_scale=20.0, sigma=0.3, lr=1e-2)
    gap = torch.where(torch.rand(16, 20) < 0.5, 0.2, 1.8) / 20
    t = gap.cumsum(1)
    x = (gap > 1 / 20).float()[..., None]
    hidden = (torch.arange(20) >= 10).float()[None, :, None].expand_as(x)
    batch = Batch(x, t, 1 - hidden, hidden)
    optimiser = model.optimisers()["main"].optimiser
    for step in range(60):
        optimiser.zero_grad()
        model.loss(batch, step, seeded(step)).value.backward()
        optimiser.step()
    error = (model.predict(batch, 4, seeded()).mean.mean(0) - x) * hidden
    assert error.square().sum() / hidden.sum() < 0.02
