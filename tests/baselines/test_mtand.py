"""mTAND: attention against a softmax for each channel, what matters to a prediction, bounds."""

import dataclasses

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from baselines.gap_filling import hide_anew
from baselines.mtand import MTAND, MTANDConfig, attend
from harness.contract import Batch, Shape
from tests.baselines.test_cru import records, seeded
from tests.baselines.test_gap_filling import lengthened

SMALL = {"latents": 3, "references": 6, "embedding": 8, "rec_dims": 5, "gen_dims": 4, "units": 7}


def built(channels: int = 2, **changes: object) -> MTAND:
    return MTAND(MTANDConfig(**SMALL | changes), Shape(12, channels))  # type: ignore[arg-type]


def predicted(model: MTAND, batch: Batch) -> Tensor:
    return model.predict(batch, 3, seeded()).mean


@pytest.mark.parametrize(("channels", "expected"), [(41, 167_515), (5, 161_071)])
def test_parameter_count_of_the_released_code(channels: int, expected: int) -> None:
    model = MTAND(MTANDConfig(), Shape(12, channels))
    assert sum(p.numel() for p in model.parameters()) == expected


# -- attention -----------------------------------------------------------------------------------


@pytest.mark.usefixtures("double")
def test_attention_is_a_softmax_over_the_rows_of_a_channel() -> None:
    batch = records(length=11, channels=3)
    batch.mask[1, :, 2] = 0  # a channel without values
    batch.mask[2] = 0  # a record without any
    scores = 5 * torch.randn(5, 4, 11, generator=seeded())
    scores += 1000 * (batch.mask.amax(-1) == 0)[:, None]  # hidden rows, which must not matter
    expected = torch.zeros(5, 4, 3)
    for b in range(5):
        for d in range(3):
            seen = batch.mask[b, :, d] > 0
            if seen.any():
                p = scores[b][:, seen].softmax(-1)
                expected[b, :, d] = p @ batch.x[b, seen, d]
    torch.testing.assert_close(attend(scores, batch.x, batch.mask), expected)


def test_a_channel_seen_only_far_away_has_its_value() -> None:
    """At a score 200 below the highest, where a plain exponential is 0 in single precision."""
    scores = torch.tensor([[[0.0, -200.0]]], requires_grad=True)
    mask = torch.eye(2)[None]
    y = attend(scores, torch.tensor([[[3.0, 9.0], [9.0, 7.0]]]), mask)
    torch.testing.assert_close(y, torch.tensor([[[3.0, 7.0]]]))
    y.sum().backward()
    assert scores.grad is not None and scores.grad.isfinite().all()


@pytest.mark.usefixtures("double")
def test_decoder_mixes_before_or_after_its_first_layers() -> None:
    model, batch = built(), records()
    z = torch.randn(2, 5, 6, 3, generator=seeded())
    g, _ = model.gen_gru(z.flatten(0, 1))
    p = model.gen_attention(batch.t, model.r).softmax(-1)
    mixed = p @ g.unflatten(0, (2, 5))
    expected = model.gen_mean(model.gen_values(mixed).relu())
    torch.testing.assert_close(model.decode(z, batch.t), expected)


@pytest.mark.usefixtures("double")
def test_only_relative_phases_enter() -> None:
    """All times, references too, are shifted, and so are the phases."""
    model, batch = built(), records()
    expected = predicted(model, batch)
    for attention in (model.rec_attention, model.gen_attention):
        attention.phi.bias.data -= 0.3 * attention.phi.weight.data[:, 0]
    model.r += 0.3
    shifted = dataclasses.replace(batch, t=batch.t + 0.3)
    torch.testing.assert_close(predicted(model, shifted), expected)


# -- what matters to a prediction ----------------------------------------------------------------


def test_hidden_values_and_other_targets_do_not_matter() -> None:
    model, batch = built(), records()
    x = torch.where(batch.mask > 0, batch.x, 1e6)
    other = dataclasses.replace(batch, x=x, target=torch.zeros_like(batch.target))
    assert torch.equal(predicted(model, other), predicted(model, batch))


def test_times_of_hidden_rows_do_not_matter_to_other_rows() -> None:
    model, batch = built(), records()
    hidden = batch.mask.amax(-1) == 0
    assert hidden.any() and not hidden.all()
    moved = dataclasses.replace(batch, t=torch.where(hidden, 0.5 * batch.t, batch.t))
    a, b = predicted(model, batch), predicted(model, moved)
    assert torch.equal(a[:, ~hidden], b[:, ~hidden]) and not torch.equal(a[:, hidden], b[:, hidden])


@pytest.mark.usefixtures("double")
def test_padding_and_order_of_rows_do_not_matter() -> None:
    model, batch = built(), records()
    expected = predicted(model, batch)
    torch.testing.assert_close(predicted(model, lengthened(batch))[:, :, :9], expected)
    order = torch.randperm(9, generator=seeded())
    permuted = Batch(*(getattr(batch, f.name)[:, order] for f in dataclasses.fields(Batch)))
    torch.testing.assert_close(predicted(model, permuted), expected[:, :, order])


def test_one_observation_is_what_every_reference_sees() -> None:
    model, batch = built(), records(n=1)
    batch.mask.zero_()
    batch.mask[0, 2, 1] = 1
    y = attend(model.rec_attention(model.r, batch.t), batch.x, batch.mask)
    expected = torch.stack([torch.zeros(6), batch.x[0, 2, 1].expand(6)], -1)[None]
    torch.testing.assert_close(y, expected)


@pytest.mark.parametrize("shown", [0.0, 1.0])
def test_empty_channels_and_records_have_finite_gradients(shown: float) -> None:
    model, batch = built(), records()
    batch.mask[:, :, 0] = 0
    batch.mask[1] = batch.target[2] = 0
    batch = dataclasses.replace(batch, mask=batch.mask * shown)
    model.loss(batch, 0, seeded()).value.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


# -- objective -----------------------------------------------------------------------------------


def test_evidence_against_torch() -> None:
    model, batch = built(sigma=0.3), records()
    bound = model.neg_elbo(batch, seeded())
    mu, s, x_hat = model._reconstruct(batch, 1, seeded())
    prior = Normal(0.0, 1.0)
    torch.testing.assert_close(bound.kl, kl_divergence(Normal(mu, s), prior).sum((1, 2)))
    log_p = (Normal(x_hat[0], 0.3).log_prob(batch.x) * batch.target).sum((1, 2))
    torch.testing.assert_close(bound.nll, -log_p)


def test_one_draw_is_the_evidence_bound() -> None:
    model, batch = built(train_samples=1), records()
    bound, n = model.neg_elbo(batch, seeded()), batch.target.sum((1, 2)).clamp(min=1)
    loss = model.loss(batch, 0, seeded())
    torch.testing.assert_close(loss.value, ((bound.kl + bound.nll) / n).mean())
    torch.testing.assert_close(loss.logs["kl"] + loss.logs["nll"], loss.value)


def test_equal_draws_are_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    batch, losses = records(), []
    monkeypatch.setattr(torch, "randn", lambda size, **_: torch.zeros(size))
    for k in (1, 5):
        torch.manual_seed(0)
        losses.append(built(train_samples=k).loss(batch, 0, seeded()).value)
    torch.testing.assert_close(*losses)


def test_more_draws_do_not_raise_the_loss() -> None:
    def mean_loss(k: int) -> float:
        torch.manual_seed(0)
        model, generator = built(train_samples=k, sigma=0.05), seeded()
        with torch.no_grad():
            losses = [model.loss(batch, 0, generator).value.item() for _ in range(600 // k)]
        return sum(losses) / len(losses)

    batch = records()
    one, three, many = mean_loss(1), mean_loss(3), mean_loss(30)
    assert one > three > many


def test_training_fits_all_that_is_known_and_lets_the_kl_in() -> None:
    model, batch = built(kl_steps=10, train_samples=1), records()
    generator = seeded()
    anew = hide_anew(batch, generator)
    assert not torch.equal(anew.mask, batch.mask)
    known = dataclasses.replace(anew, target=torch.maximum(batch.mask, batch.target))
    expected = model.loss(known, 0, generator)  # its draws follow those of the hidden rows
    for step, weight in ((0, 0.1), (4, 0.5), (9, 1), (500, 1)):
        (loss,) = model.training_step(batch, step, seeded())
        nll, kl = expected.logs["nll"], expected.logs["kl"]
        torch.testing.assert_close(loss.value, nll + weight * kl)


def test_the_loss_that_is_watched_does_not_depend_on_the_step() -> None:
    model, batch = built(), records()
    first, last = (model.loss(batch, step, seeded()).value for step in (0, 10**6))
    assert torch.equal(first, last)


def test_constant_records_are_learnt() -> None:
    model = built(1, lr=0.01, units=16, rec_dims=16, gen_dims=16, kl_steps=100, train_samples=1)
    adam, generator = model.optimisers()["main"].optimiser, seeded()

    def constants(n: int) -> Batch:
        batch = records(n, channels=1, seed=int(torch.randint(10**6, (), generator=generator)))
        level = torch.rand(n, 1, 1, generator=generator)
        return dataclasses.replace(batch, x=level * torch.maximum(batch.mask, batch.target))

    for step in range(300):
        adam.zero_grad()
        for loss in model.training_step(constants(32), step, generator):
            loss.value.backward()
        adam.step()
    batch = constants(200)
    error = (model.predict(batch, 30, generator).mean.mean(0) - batch.x) * batch.target
    told = batch.mask.amax((1, 2)) > 0  # a record that shows nothing has an unknown level
    assert (error[told].square().sum() / batch.target[told].sum()).item() < 1e-2
