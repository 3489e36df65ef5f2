"""LS4 by its paper: what its decoder sees, its bound, its samples, and proposition 4.1."""

import dataclasses
import math

import pytest
import torch
from torch.distributions import Normal

from harness.contract import Batch, Shape
from ls4.blocks import FeedForward, Level, Network
from ls4.joint import JointLayer
from ls4.latent import delay
from ls4.layer import S4Layer
from ls4.paper import JointNetwork, LS4Paper, LS4PaperConfig
from tests.ls4.series import SMALL, seeded


def small(length: int = 12, channels: int = 2, **config) -> LS4Paper:
    return LS4Paper(LS4PaperConfig(latent=3, **SMALL | config), Shape(length, channels))


def whole(x: torch.Tensor) -> Batch:
    """Series of which every value is visible and a target."""
    t = torch.linspace(0, 1, x.shape[1]).expand(x.shape[:2])
    return Batch(x, t, torch.ones_like(x), torch.ones_like(x))


def hidden(cut: int | None = None) -> Batch:
    """Four records of 12 rows; the rows from `cut` on, or random ones, are hidden targets."""
    batch = whole(torch.rand(4, 12, 2))
    rows = torch.arange(12).expand(4, -1) >= cut if cut else torch.rand(4, 12) < 0.5
    target = rows[..., None].expand_as(batch.x).float()
    return dataclasses.replace(batch, mask=1 - target, target=target)


def decoded(model: LS4Paper, z: torch.Tensor, batch: Batch) -> torch.Tensor:
    time = model.network_time(batch.t)
    return model.decode(z, time, model.posterior_input(batch.x, batch.mask, time))


@pytest.mark.parametrize("pool", [(), (1,), (5,), (2, 3)])
def test_step_equals_convolution(pool) -> None:
    network = JointNetwork(4, 2, d_x=3, width=16, n_pairs=2, pool=pool, state=64)
    layer = JointLayer(32, 64)
    z, x, v = torch.randn(2, 210, 4), torch.randn(2, 210, 3), torch.randn(2, 210, 32)
    with torch.no_grad():
        step, layer_step = network.stepper(2), layer.stepper(2)
        by_steps = [step(*inputs) for inputs in zip(z.unbind(1), x.unbind(1), strict=True)]
        layer_by_steps = [layer_step(row) for row in v.unbind(1)]
        assert torch.allclose(network(z, x), torch.stack(by_steps, 1), atol=1e-4)
        assert torch.allclose(layer(v), torch.stack(layer_by_steps, 1), atol=1e-4)


# -- the decoder -----------------------------------------------------------------------------------


@pytest.mark.parametrize("pool", [(), (1,), (3, 2)])
def test_a_mean_depends_on_past_x_and_on_z_up_to_now(pool) -> None:
    model = small(pool=pool).double()
    batch = whole(torch.randn(1, 12, 2))
    x = batch.x.double().requires_grad_()
    z = torch.randn(1, 12, 3, dtype=torch.float64, requires_grad=True)
    t = batch.t.double()
    for n in (0, 1, 5, 11):
        mean = decoded(model, z, Batch(x, t, torch.ones_like(x), torch.ones_like(x)))[0, n].sum()
        by_x, by_z = (
            gradient.abs().sum(-1)[0]
            for gradient in torch.autograd.grad(mean, (x, z), materialize_grads=True)
        )
        assert (by_x[:n] > 0).all() and (by_z[: n + 1] > 0).all()
        assert by_x[n:].sum() <= 1e-10 * by_z.sum() and by_z[n + 1 :].sum() <= 1e-10 * by_z.sum()


@pytest.mark.parametrize("cut", [None, 6])
def test_hidden_values_are_for_the_likelihood_alone(cut: int | None) -> None:
    batch = hidden(cut)
    model, z = small(), torch.randn(4, 12, 3)
    changed = dataclasses.replace(batch, x=batch.x + 7 * batch.target)
    assert torch.equal(decoded(model, z, batch), decoded(model, z, changed))
    unmasked = dataclasses.replace(batch, mask=torch.ones_like(batch.mask))
    assert not torch.allclose(decoded(model, z, batch), decoded(model, z, unmasked), atol=1e-3)


def test_the_decoder_of_the_bound_sees_no_hidden_values() -> None:
    model, batch = small(), hidden(6)
    model.encode = lambda x, *_: 2 * (torch.zeros(4, 12, 3),)  # a path that knows nothing of x
    changed = dataclasses.replace(batch, x=batch.x.clone())
    changed.x[:, 6] += 1
    (_, before), (_, after) = (model.bound(b, seeded()) for b in (batch, changed))
    assert torch.equal(before[:, 7:], after[:, 7:]) and not torch.equal(before[:, 6], after[:, 6])


def test_gaps_reach_all_networks() -> None:
    model, batch = small(), whole(torch.rand(2, 12, 2))
    z = torch.randn(2, 12, 3)
    later = dataclasses.replace(batch, t=batch.t**2)
    time, other = model.network_time(batch.t), model.network_time(later.t)
    assert not torch.allclose(decoded(model, z, batch), decoded(model, z, later), atol=1e-4)
    for network, v in ((model.prior_of, (z,)), (model.encode, (batch.x, batch.mask, batch.mask))):
        assert not torch.allclose(network(*v, time)[0], network(*v, other)[0], atol=1e-4)


# -- bound, samples and predictions ----------------------------------------------------------------


def stepwise(model: LS4Paper, z: torch.Tensor, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """log p(x_n | x_<n, z_<=n) row by row, with every network in its recurrent mode."""
    time, terms = model.network_time(t), []
    advance, before = model.decoder.stepper(len(x)), model.x_start.expand(len(x), -1)
    for n in range(x.shape[1]):
        mean = model.activate(advance(model.latent_input(z[:, n], time[:, n]), before))
        terms.append(Normal(mean, model.config.sigma).log_prob(x[:, n]))
        before = model.posterior_input(x[:, n], torch.ones_like(mean), time[:, n])
    return torch.stack(terms, 1)


def test_likelihood_row_by_row_is_that_of_the_bound(no_noise) -> None:
    model, batch = small(sigma=0.5), whole(torch.randn(3, 12, 2))
    with torch.no_grad():
        z, _ = model.encode(batch.x, batch.mask, batch.mask, model.network_time(batch.t))
        terms = stepwise(model, z, batch.x, batch.t)
        assert torch.allclose(-terms.sum((1, 2)), model.neg_elbo(batch, seeded()).nll, rtol=1e-4)


def test_samples_are_fed_back_with_their_noise() -> None:
    """Literally: z from the prior, then x row by row, each mean from the whole draw so far."""
    model, t = small(), torch.linspace(0, 1, 12)
    with torch.no_grad():
        sample = model.sample(3, t, seeded())
        generator, z, x = seeded(), torch.zeros(3, 12, 3), torch.zeros(3, 12, 2)
        time = model.network_time(t.expand(3, -1))
        for n in range(12):
            mean, log_std = model.prior_of(z, time)
            noise = torch.randn(3, 3, generator=generator)
            z[:, n] = mean[:, n] + log_std[:, n].exp() * noise
        for n in range(12):
            mean = decoded(model, z, whole(x))[:, n]
            x[:, n] = mean + 0.1 * torch.randn(3, 2, generator=generator)
    assert torch.allclose(sample, x, atol=1e-4)


def test_samples_have_the_variance_of_their_noise() -> None:
    model = small(sigma=0.3, output="sigmoid")
    with torch.no_grad():
        model.decoder.readout.weight.zero_()  # every mean is the same
        x = model.sample(400, torch.linspace(0, 1, 12), seeded())
    mean = torch.sigmoid(model.decoder.readout.bias)
    z_scores = (x - mean) / 0.3
    n = x[..., 0].numel()
    assert (z_scores.mean((0, 1)).abs() < 4 / math.sqrt(n)).all()
    assert ((z_scores.var((0, 1)) - 1).abs() < 4 * math.sqrt(2 / n)).all()


@pytest.mark.parametrize("cut", [None, 6])
def test_predictions_decode_paths_beside_what_is_visible(cut: int | None, no_noise) -> None:
    model, batch = small(), hidden(cut)
    batch.target[0] = 0  # no forecast without a target
    time = model.network_time(batch.t)
    with_target = batch.target.amax(-1)
    forecast = batch.beyond * with_target.flip(1).cummax(1).values.flip(1)
    with torch.no_grad():
        z, _ = model.encode(batch.x, batch.mask, batch.mask, time)
        for n in range(12):
            mean, _ = model.prior_of(z, time)
            z[:, n] = torch.where(forecast[:, [n]].bool(), mean[:, n], z[:, n])
        prediction = model.predict(batch, 2, seeded())
        assert prediction.mean.shape == (2, 4, 12, 2)
        assert torch.allclose(prediction.mean[1], decoded(model, z, batch), atol=1e-4)


def test_loss_is_the_bound_in_nats_a_target_value() -> None:
    model, batch = small(kl_steps=10), hidden(6)
    kl, nll = (part.sum() / batch.target.sum() for part in model.neg_elbo(batch, seeded()))
    for step, weight in ((0, 0.1), (9, 1.0), (5000, 1.0)):
        loss = model.loss(batch, step, seeded())
        assert loss.value.item() == pytest.approx((weight * kl + nll).item(), rel=1e-5)


def test_pooling_must_divide_the_length() -> None:
    with pytest.raises(ValueError, match="expected a length divisible by 5, found 12"):
        small(pool=(5,))


# -- proposition 4.1 -------------------------------------------------------------------------------


@torch.no_grad()
def embed(one: Level, two: Level, width: int) -> None:
    """Let the stream of x of `two` do what `one` does, and the stream of z nothing."""
    for block, joint in zip(one.pairs, two.pairs, strict=True):
        norm, f, f2 = block.norm, block.f, joint.f
        joint.norm[1].load_state_dict(norm.state_dict())
        for p in f2.parameters():
            p.zero_()
        if isinstance(f, S4Layer):
            assert isinstance(f2, JointLayer)
            for name in ("log_dt", "log_A_real", "A_imag"):
                getattr(f2.ssm, name).copy_(getattr(f.ssm, name))
            f2.ssm.B[1], f2.ssm.C[1], f2.ssm.D[1, 1] = f.ssm.B, f.ssm.C, f.ssm.D
            f2.linear[1].load_state_dict(f.linear.state_dict())
        else:
            assert isinstance(f, FeedForward) and isinstance(f2, FeedForward)
            f2[0].weight[: 2 * width, width:], f2[0].bias[: 2 * width] = f[0].weight, f[0].bias
            f2[2].weight[width:, : 2 * width], f2[2].bias[width:] = f[2].weight, f[2].bias
    if one.p:
        for p in (*two.down.parameters(), *two.up.parameters()):
            p.zero_()
        H, C = width * one.p, 2 * width  # Down's inputs and outputs of one stream
        two.down.weight[C:, H:], two.down.bias[C:] = one.down.weight, one.down.bias
        two.up.weight[H:, C:], two.up.bias[H:] = one.up.weight, one.up.bias
        embed(one.coarse, two.coarse, 2 * width)


@pytest.mark.parametrize("pool", [(), (3, 2)])
def test_an_autoregressive_model_is_contained_and_its_bound_is_tight(pool) -> None:
    """The bound is the exact log-likelihood of an S4 with one stream, whatever x and z are."""
    s4d = {"kernel": "diagonal", "init": "legs", "discretisation": "zoh"}
    sizes = {"width": 8, "state": 8, "n_pairs": 2}
    autoregressive = Network(5, 2, **sizes, pool=pool, **s4d)  # 5: two values, masks, and a gap
    model = small(sigma=0.4, pool=pool, **sizes)
    with torch.no_grad():
        for gaussian in (model.prior, model.posterior):  # both N(0, 1)
            for head in (gaussian.mean, gaussian.log_std):
                head.linear.weight.zero_()
                head.linear.bias.zero_()
        for p in model.decoder.lift_z.parameters():
            p.zero_()
        for name in ("norm", "readout"):
            state = getattr(autoregressive, name).state_dict()
            getattr(model.decoder, name).load_state_dict(state)
        model.decoder.lift_x.load_state_dict(autoregressive.lift.state_dict())
        embed(autoregressive.level, model.decoder.level, 8)
        model.x_start.normal_()

        batch = whole(3 * torch.randn(4, 12, 2))
        time = model.network_time(batch.t)
        past = delay(model.posterior_input(batch.x, batch.mask, time), model.x_start)
        log_p = Normal(autoregressive(past), 0.4).log_prob(batch.x).sum((1, 2))
        for seed in range(3):
            bound = model.neg_elbo(batch, seeded(seed))
            assert not bound.kl.any()
            assert torch.allclose(bound.nll, -log_p, rtol=1e-4)


# -- learning --------------------------------------------------------------------------------------


def test_learns_what_past_values_tell() -> None:
    """Each value is nearly the one before it, turned around, from any first value."""
    x = torch.randn(32, 16, 1, generator=seeded(1))
    for n in range(1, 16):
        x[:, n] = -0.95 * x[:, n - 1] + math.sqrt(1 - 0.95**2) * x[:, n]
    model = small(16, 1, sigma=0.3, pool=(), lr=1e-2, kl_steps=1)
    batch = whole(x)
    optimiser = model.optimisers()["main"].optimiser
    for step in range(60):
        optimiser.zero_grad()
        model.loss(batch, step, seeded(step)).value.backward()
        optimiser.step()
    with torch.no_grad():
        loss = model.loss(batch, 0, seeded()).value
    assert loss < -Normal(0, 1).log_prob(x).mean() - 0.5  # of the mean and the deviation
