"""GRU-D: against a reference written row by row, and decays in their limits."""

import pytest
import torch
from torch import Tensor, nn

from baselines.gru_d import GRUD, GRUDConfig, age, fill_forward
from harness.contract import Batch, Shape, Task
from tests.baselines.test_autoregressive import (
    assert_equals_reference,
    built,
    every_task,
    read_next,
    record,
    records,
)
from tests.baselines.test_rubanova import seeded, together

MEAN = (0.4, -0.7)


def small() -> GRUD:
    """With rates that are positive for some channels and cut off for others."""
    model = built(GRUD)
    assert isinstance(model, GRUD)
    model.x_bar.copy_(torch.tensor(MEAN))
    return model


@pytest.mark.parametrize(
    ("channels", "expected"), [(41, 9_505), (37, 8_809), (5, 3_241), (1, 2_545)]
)
def test_parameter_count_of_the_released_code(channels: int, expected: int) -> None:
    model = GRUD(GRUDConfig(), Shape(12, channels))
    assert sum(p.numel() for p in model.parameters()) == expected


def reference(model: GRUD, x: Tensor, mask: Tensor, target: Tensor, t: Tensor) -> Tensor:
    """Predictions (L, D) of one record."""
    last, since = torch.tensor(MEAN), t[0].expand(2)
    h, predictions = torch.zeros(1, 5), []
    for i in range(len(t)):
        delta = t[i] - since
        rate = (model.w.weight[0] * delta).sum() + model.w.bias[0]
        decayed = h * torch.exp(-torch.relu(rate))
        x_hat = model.o(decayed)[0]
        predictions.append(x_hat)
        what = read_next(mask, target, i)
        if what is None:
            continue
        values, seen = (x[i], mask[i]) if what == "row" else (x_hat, torch.ones(2))
        imputed = []
        for k in range(2):
            gamma = torch.exp(-torch.relu(model.v[k] * delta[k] + model.c[k]))
            guess = gamma * last[k] + (1 - gamma) * MEAN[k]
            imputed.append(values[k] if seen[k] else guess)
        h = model.cell(torch.cat([torch.stack(imputed), seen])[None], decayed)
        last, since = torch.where(seen > 0, values, last), torch.where(seen > 0, t[i], since)
    return torch.stack(predictions)


@every_task
@pytest.mark.usefixtures("double")
def test_against_reference(task: Task) -> None:
    assert_equals_reference(small(), reference, task)


def test_age_and_fill_forward_against_loops() -> None:
    batch = together(records("reconstruction"))
    mask = batch.mask > 0
    found_age, found = age(batch.t, mask), fill_forward(batch.visible, batch.mask, torch.ones(2))
    for b in range(len(mask)):
        for k in range(2):
            since, last = batch.t[b, 0], torch.tensor(1.0)
            for i in range(mask.shape[1]):
                assert found_age[b, i, k] == batch.t[b, i] - since
                if mask[b, i, k]:
                    since, last = batch.t[b, i], batch.x[b, i, k]
                assert found[b, i, k] == last


# -- imputation ----------------------------------------------------------------------------------


def imputed(rate: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x_tilde, x, mask and the forward fill, where every value has been known for some time."""
    model = small()
    nn.init.constant_(model.v, rate)
    nn.init.zeros_(model.c)
    batch = record(12, 0, "reconstruction")
    x_tilde = model.impute(batch.visible, batch.mask, torch.full_like(batch.x, 0.5))
    return x_tilde, batch.x, batch.mask, fill_forward(batch.visible, batch.mask, model.x_bar)


@pytest.mark.parametrize("rate", [0.0, 3.0, 1e5])
def test_what_is_seen_is_not_imputed(rate: float) -> None:
    x_tilde, x, mask, _ = imputed(rate)
    assert torch.equal(x_tilde[mask > 0], x[mask > 0])


def test_without_decay_the_last_value_stays() -> None:
    x_tilde, _, mask, last = imputed(0.0)
    torch.testing.assert_close(x_tilde[mask == 0], last[mask == 0])
    assert (last[mask == 0] != 0).all()


def test_after_a_long_time_the_mean_is_imputed() -> None:
    x_tilde, _, mask, _ = imputed(1e5)
    mean = torch.tensor(MEAN).expand_as(mask)
    torch.testing.assert_close(x_tilde[mask == 0], mean[mask == 0])


def test_half_way_between_last_value_and_mean() -> None:
    x_tilde, _, mask, last = imputed(2 * torch.tensor(2.0).log().item())  # half-life 0.5
    half = (last + torch.tensor(MEAN)) / 2
    torch.testing.assert_close(x_tilde[mask == 0], half[mask == 0])


# -- decay of the state --------------------------------------------------------------------------


@pytest.mark.usefixtures("double")
def test_without_decay_the_state_is_a_gru() -> None:
    model, batch = small(), record(12, 0, "reconstruction")
    batch.mask[..., 0] = 1  # every row is read
    nn.init.zeros_(model.w.weight)
    nn.init.zeros_(model.w.bias)
    gru = nn.GRU(4, 5, batch_first=True)
    gru.load_state_dict({f"{name}_l0": p for name, p in model.cell.state_dict().items()})
    delta = age(batch.t, batch.mask > 0)
    inputs = torch.cat([model.impute(batch.visible, batch.mask, delta), batch.mask], -1)
    states, _ = gru(inputs)
    torch.testing.assert_close(model.forecast(batch)[:, 1:], model.o(states[:, :-1]))


def test_after_a_long_time_the_state_is_forgotten() -> None:
    model, batch = small(), record(12, 0, "interpolation")
    nn.init.constant_(model.w.weight, 1e6)
    x_hat = model.forecast(batch)
    torch.testing.assert_close(x_hat, model.o(torch.zeros(5)).expand_as(x_hat))


def test_a_prediction_fades_with_its_distance() -> None:
    """Hidden rows between two seen ones have one state, decayed up to the time of each."""
    model, batch = small(), record(8, 0, "reconstruction")
    nn.init.ones_(model.w.weight)
    nn.init.zeros_(model.w.bias)
    batch.mask[:, 0] = batch.mask[:, 7] = 1
    batch.mask[:, 1:7] = 0
    model.o = nn.Identity()  # predictions are states
    h = model.forecast(batch)[0, 1:]
    passed = (batch.t[0, 1:] - batch.t[0, 1])[:, None]
    torch.testing.assert_close(h, h[:1] * torch.exp(-2 * passed))  # a sum over two channels


@pytest.mark.usefixtures("double")
def test_gradient_of_the_imputation() -> None:
    model = GRUD(GRUDConfig(latents=3, units=4), Shape(4, 2))
    model.x_bar.copy_(torch.tensor(MEAN))
    batch = record(4, 3, "reconstruction")
    delta = (age(batch.t, batch.mask > 0) + 0.1).requires_grad_()
    x = batch.visible.requires_grad_()
    inputs = (model.v, model.c)
    nn.init.constant_(model.c, 0.2)

    def x_tilde(x: Tensor, delta: Tensor, *_: Tensor) -> Tensor:
        return model.impute(x * batch.mask, batch.mask, delta)

    assert torch.autograd.gradcheck(x_tilde, (x, delta, *inputs))


def test_decays_begin_alive() -> None:
    """At zero age there is none, later exp(-age)."""
    model = GRUD(GRUDConfig(), Shape(12, 3))
    delta = torch.rand(50, 3, generator=seeded())
    torch.testing.assert_close(model.w(delta), delta.mean(-1, keepdim=True))
    torch.testing.assert_close(model.v * delta + model.c, delta)


def test_the_training_mean_is_part_of_the_weights() -> None:
    """Visible and hidden values count, each channel has its own mean, and 0 if it has no value."""
    model = GRUD(GRUDConfig(), Shape(4, 3))
    x = torch.arange(24.0).view(2, 4, 3) + 1
    mask, target = torch.zeros(2, 2, 4, 3).unbind()
    mask[0, 0, 0] = mask[1, 3, 0] = target[1, 1, 0] = mask[0, 2, 1] = target[0, 2, 1] = 1
    model.calibrate(Batch(x, torch.zeros(2, 4), mask, target))
    expected = [(x[0, 0, 0] + x[1, 3, 0] + x[1, 1, 0]).item() / 3, x[0, 2, 1].item(), 0]
    torch.testing.assert_close(model.state_dict()["x_bar"], torch.tensor(expected))
