"""What RNN-VAE and Latent ODE share, tested on both: rows, likelihood, KL, objective, schedules."""

import dataclasses
import math

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

from baselines.latent_ode import LatentODE
from baselines.rnn_vae import RNNVAE
from baselines.rubanova import (
    InitialStateVAE,
    kl_from_prior,
    kl_weight,
    rows_backwards,
)
from harness.contract import Batch, Shape
from ls4.gaussian import log_density

both = pytest.mark.parametrize("model_class", [RNNVAE, LatentODE])


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def built(
    model_class: type[InitialStateVAE], channels: int = 2, **changes: object
) -> InitialStateVAE:
    return model_class(model_class.Config(**changes), Shape(12, channels))


def record(length: int, seed: int, channels: int = 2) -> Batch:
    """One record on its own irregular grid, about half of its values seen."""
    generator = seeded(seed)
    t = torch.rand(1, length, generator=generator).sort().values
    mask = torch.rand(1, length, channels, generator=generator).round()
    x = torch.randn(1, length, channels, generator=generator)
    return Batch(x, t, mask, mask)


def padded(batch: Batch, length: int) -> Batch:
    """The record followed by padding: last time repeated, nothing seen, garbage in x."""
    more = length - batch.t.shape[1]
    nothing = torch.zeros(1, more, batch.x.shape[2])
    return Batch(
        x=torch.cat([batch.x, nothing + 9], 1),
        t=torch.cat([batch.t, batch.t[:, -1:].expand(1, more)], 1),
        mask=torch.cat([batch.mask, nothing], 1),
        target=torch.cat([batch.target, nothing], 1),
    )


def together(records: list[Batch]) -> Batch:
    length = max(r.t.shape[1] for r in records)
    parts = [padded(r, length) for r in records]
    return Batch(
        *(torch.cat([getattr(p, f.name) for p in parts]) for f in dataclasses.fields(Batch))
    )


def pinned(model: InitialStateVAE) -> InitialStateVAE:
    """Make the posterior N(0.3, 1e-12) whatever the data."""
    *_, last = model.get_submodule("p").modules()
    assert isinstance(last, nn.Linear)
    nn.init.zeros_(last.weight)
    nn.init.constant_(last.bias[: model.config.latents], 0.3)
    nn.init.zeros_(last.bias[model.config.latents :])
    return model


@pytest.mark.parametrize(
    ("channels", "latent_ode", "rnn_vae"),
    [(41, 67_071, 28_531), (37, 65_787, 26_887), (5, 55_515, 13_735), (1, 54_231, 12_091)],
)
def test_parameter_counts_of_the_released_code(
    channels: int, latent_ode: int, rnn_vae: int
) -> None:
    for model_class, expected in ((LatentODE, latent_ode), (RNNVAE, rnn_vae)):
        model = built(model_class, channels)
        assert sum(p.numel() for p in model.parameters()) == expected


@both
def test_the_loss_may_have_a_sigma_of_its_own(model_class: type[InitialStateVAE]) -> None:
    """Bound and predictions keep theirs."""
    own, released, other = (
        built(model_class, **sigmas)
        for sigmas in ({"sigma": 0.1}, {"sigma": 0.01}, {"sigma": 0.1, "loss_sigma": 0.01})
    )
    for model in (released, other):
        model.load_state_dict(own.state_dict())
    batch = together([record(6, 1), record(9, 2)])
    losses = [model.loss(batch, 0, seeded()).value for model in (own, released, other)]
    assert losses[2] == losses[1] != losses[0]
    bounds = [model.neg_elbo(batch, seeded()).nll for model in (own, released, other)]
    assert torch.equal(bounds[2], bounds[0]) and not torch.equal(bounds[2], bounds[1])
    assert other.predict(batch, 1, seeded()).std == own.predict(batch, 1, seeded()).std


@both
def test_initial_weights(model_class: type[InitialStateVAE]) -> None:
    linears = [m for m in built(model_class).modules() if isinstance(m, nn.Linear)]
    assert not any(m.bias.any() for m in linears if m.bias is not None)
    weights = torch.cat([m.weight.flatten() for m in linears])
    assert weights.std().item() == pytest.approx(0.1, rel=0.05)


def test_rows_backwards() -> None:
    seen = torch.tensor([[0, 1, 0, 1, 0], [1, 0, 1, 1, 1], [0, 0, 0, 0, 0]])
    batch = Batch(
        x=torch.arange(1.0, 16).reshape(3, 5, 1),
        t=torch.tensor(
            [[0.1, 0.2, 0.3, 0.6, 0.6], [0, 0.1, 0.4, 0.5, 1], [0.5, 0.5, 0.5, 0.5, 0.5]]
        ),
        mask=seen[..., None].float(),
        target=seen[..., None].float(),
    )
    rows = rows_backwards(batch)
    assert rows.length.tolist() == [3, 4, 1]  # the first row always counts
    assert rows.x[..., 0].tolist() == [[4, 2, 0, 0], [10, 9, 8, 6], [0, 0, 0, 0]]
    assert rows.mask[..., 0].tolist() == [[1, 1, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0]]
    expected = torch.tensor([[0, 0.4, 0.1, 0], [0, 0.5, 0.1, 0.4], [0, 0, 0, 0]])
    torch.testing.assert_close(rows.gap, expected)


def test_densities_against_torch() -> None:
    mu, s, x, mean = torch.randn(4, 5, 3, 2, generator=seeded()).unbind(0)
    torch.testing.assert_close(log_density(x, mean[None], 0.3)[0], Normal(mean, 0.3).log_prob(x))
    mu, s = mu[..., 0], s[..., 0].abs()
    torch.testing.assert_close(kl_from_prior(mu, s), kl_divergence(Normal(mu, s), Normal(0.0, 1.0)))


def test_kl_weight() -> None:
    assert [kl_weight(step, 7) for step in (0, 69, 76)] == [0, 0, 0]
    assert kl_weight(77, 7) == kl_weight(83, 7) == pytest.approx(0.01)
    assert kl_weight(7 * 30, 7) == pytest.approx(1 - 0.99**20)


@both
def test_learning_rate(model_class: type[InitialStateVAE]) -> None:
    optimisation = built(model_class).optimisers()["main"]
    assert optimisation.interval == "step"
    rates = []
    for _ in range(2400):
        rates.append(optimisation.optimiser.param_groups[0]["lr"])
        optimisation.optimiser.step()
        optimisation.schedule.step()
    assert rates[0] == 0.01
    assert rates[1000] == pytest.approx(0.01 * 0.999**1000)
    assert rates[2302] == rates[-1] == pytest.approx(0.001)


@both
def test_loss_with_equal_draws(model_class: type[InitialStateVAE]) -> None:
    """S equal draws: -(log p - c KL) - log S, log p a mean of means that counts empty channels."""
    model = pinned(built(model_class, train_samples=4, steps_per_epoch=1))
    batch = together([record(12, 0), record(7, 1)])
    batch.target[0, :, 0] = 0  # an empty channel
    step = 60
    x_hat = model.predict(batch, 1, seeded()).mean[0]
    log_p = 0.0
    for i in range(2):
        for d in range(2):
            scored = batch.target[i, :, d] > 0
            if scored.any():
                log_p += Normal(x_hat[i, scored, d], 0.1).log_prob(batch.x[i, scored, d]).mean() / 4
    kl = kl_divergence(Normal(0.3, 1e-6), Normal(0.0, 1.0))
    expected = -(log_p - (1 - 0.99**50) * kl) - math.log(4)
    found = model.loss(batch, step, seeded()).value
    assert found.item() == pytest.approx(expected.item(), rel=1e-4)


@both
def test_neg_elbo_is_in_nats_per_record(model_class: type[InitialStateVAE]) -> None:
    model = built(model_class, sigma=0.2)
    batch = together([record(12, 0), record(7, 1)])
    bound = model.neg_elbo(batch, seeded(3))
    mu, s = model.encode(batch)
    x_hat = model.predict(batch, 1, seeded(3)).mean[0]  # the same draw of z_0
    nll = -(Normal(x_hat, 0.2).log_prob(batch.x) * batch.target).sum((1, 2))
    torch.testing.assert_close(bound.nll, nll)
    torch.testing.assert_close(bound.kl, kl_divergence(Normal(mu, s), Normal(0.0, 1.0)).sum(1))


@both
def test_a_record_is_encoded_from_itself(model_class: type[InitialStateVAE]) -> None:
    model = built(model_class)
    batch = together([record(12, seed) for seed in range(4)])
    changed = dataclasses.replace(batch, x=batch.x.clone())
    changed.x[1] += 1
    differs = (model.encode(batch)[0] != model.encode(changed)[0]).any(1)
    assert differs.tolist() == [False, True, False, False]


@both
@pytest.mark.usefixtures("double")
def test_neighbours_and_padding_do_not_matter(model_class: type[InitialStateVAE]) -> None:
    model = built(model_class)
    records = [record(length, seed) for seed, length in enumerate((12, 3, 8, 30))]
    batch = together(records)
    mu, s = model.encode(batch)
    x_hat = model.decode(mu[None], batch.t)[0]
    for i, alone in enumerate(records):
        mu_alone, s_alone = model.encode(alone)
        torch.testing.assert_close(mu_alone[0], mu[i])
        torch.testing.assert_close(s_alone[0], s[i])
        x_hat_alone = model.decode(mu_alone[None], alone.t)[0, 0]
        torch.testing.assert_close(x_hat_alone, x_hat[i, : len(x_hat_alone)])


@both
def test_unseen_rows_leave_the_encoding_unchanged(model_class: type[InitialStateVAE]) -> None:
    model = built(model_class)
    batch = record(10, 0)
    batch.mask[:, 4:6] = 0
    without = Batch(*(torch.cat([a[:, :4], a[:, 6:]], 1) for a in dataclasses.astuple(batch)))
    torch.testing.assert_close(model.encode(batch)[0], model.encode(without)[0], rtol=0, atol=1e-6)


@both
def test_times_matter(model_class: type[InitialStateVAE]) -> None:
    model = built(model_class)
    batch = record(10, 0)
    slower = dataclasses.replace(batch, t=batch.t**2)
    assert (model.encode(batch)[0] - model.encode(slower)[0]).abs().max() > 1e-6


@both
def test_sparse_records_stay_finite(model_class: type[InitialStateVAE]) -> None:
    model = built(model_class)
    batch = together([record(12, seed) for seed in range(3)])
    batch.mask[0] = 0  # nothing seen
    batch.mask[1] = 0
    batch.mask[1, 5, 0] = 1  # a single value, the other channel empty
    loss = model.loss(batch, 10_000, seeded()).value
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@both
def test_the_floor_of_s_keeps_the_kl_finite(model_class: type[InitialStateVAE]) -> None:
    bound = pinned(built(model_class)).neg_elbo(record(12, 0), seeded())
    assert bound.kl.isfinite().all()


@both
def test_samples_are_decoded_prior_draws(model_class: type[InitialStateVAE]) -> None:
    model = built(model_class)
    t = torch.linspace(0, 1, 12)
    x = model.sample(5, t, seeded(2))
    assert x.shape == (5, 12, 2)
    z0 = torch.randn(1, 5, 20, generator=seeded(2))
    assert torch.equal(x, model.decode(z0, t.expand(5, -1))[0])
    assert torch.equal(x, model.sample(5, t, seeded(2)))
    assert not torch.equal(x, model.sample(5, t, seeded(3)))


@both
def test_learns_slow_sines(model_class: type[InitialStateVAE]) -> None:
    fewer = {"nodes": 5} if model_class is LatentODE else {}
    model = built(model_class, channels=1, **fewer)
    t = torch.linspace(0, 1, 12).expand(16, -1)
    phase = torch.rand(16, 1, generator=seeded()) * 2 * math.pi
    x = torch.sin(3 * t + phase)[..., None]
    batch = Batch(x, t, torch.ones_like(x), torch.ones_like(x))
    optimisation, generator = model.optimisers()["main"], seeded()

    def error() -> Tensor:
        return (model.predict(batch, 1, seeded(9)).mean[0] - x).square().mean()

    first = error()
    for step in range(80):
        optimisation.optimiser.zero_grad()
        model.loss(batch, step, generator).value.backward()
        optimisation.optimiser.step()
    assert error() < 0.5 * first
