"""GRU-D: against a reference written row by row, and decays in their limits."""

import pytest
import torch
from torch import Tensor, nn

from baselines.gru_d import GRUD, GRUDConfig, age, fill_forward
from harness.contract import Shape, Task
from tests.test_baselines_autoregressive import (
    assert_equals_reference,
    built,
    every_task,
    read_next,
    record,
    records,
)
from tests.test_baselines_rubanova import seeded, together

MEAN = (0.4, -0.7)


def small() -> GRUD:
    """With rates that are positive for some channels and cut off for others."""
    model = built(GRUD, mean=MEAN)
    assert isinstance(model, GRUD)
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
    model = GRUD(GRUDConfig(latents=3, units=4), Shape(4, 2, MEAN))
    batch = record(4, 3, "reconstruction")
    delta = (age(batch.t, batch.mask > 0) + 0.1).requires_grad_()
    x = batch.visible.requires_grad_()
    inputs = (model.v, model.c)
    nn.init.constant_(model.c, 0.2)

    def x_tilde(x: Tensor, delta: Tensor, *_: Tensor) -> Tensor:
        return model.impute(x * batch.mask, batch.mask, delta)

    assert torch.autograd.gradcheck(x_tilde, (x, delta, *inputs))


def test_decays_begin_alive() -> None:
    """At zero age there is none, later exp(-age); the training mean is part of the weights."""
    model = GRUD(GRUDConfig(), Shape(12, 3, (1.0, 2.0, 3.0)))
    delta = torch.rand(50, 3, generator=seeded())
    torch.testing.assert_close(model.w(delta), delta.mean(-1, keepdim=True))
    torch.testing.assert_close(model.v * delta + model.c, delta)
    assert model.state_dict()["x_bar"].tolist() == [1, 2, 3]
    assert not GRUD(GRUDConfig(), Shape(12, 3)).x_bar.any()  # where the mean is unknown
