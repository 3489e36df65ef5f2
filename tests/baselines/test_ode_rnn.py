"""ODE-RNN: against a reference written row by row, and states in closed form."""

import dataclasses
import math

import pytest
import torch
from torch import Tensor, nn

from baselines.ode_rnn import ODERNN, ODERNNCell, ODERNNConfig
from harness.contract import Batch, Shape, Task
from tests.baselines.test_autoregressive import (
    TASKS,
    assert_equals_reference,
    built,
    every_task,
    read_next,
    record,
    records,
)
from tests.baselines.test_rubanova import together


def small() -> ODERNN:
    model = built(ODERNN)
    assert isinstance(model, ODERNN)
    return model


def with_field(model: ODERNN, value: float) -> ODERNN:
    """The model with the constant field dy/dt = value."""
    *_, last = model.cell.g.modules()
    assert isinstance(last, nn.Linear)
    nn.init.zeros_(last.weight)
    nn.init.constant_(last.bias, value)
    return model


@pytest.mark.parametrize(
    ("channels", "released"), [(41, 46_631), (37, 45_027), (5, 32_195), (1, 30_591)]
)
def test_parameter_count_of_the_released_code(channels: int, released: int) -> None:
    unused = (2 * 20 + 1) * 100 + (100 + 1) * 2 * 20  # the released model's P, never called
    model = ODERNN(ODERNNConfig(), Shape(12, channels))
    assert sum(p.numel() for p in model.parameters()) == released - unused


def reference(model: ODERNN, x: Tensor, mask: Tensor, target: Tensor, t: Tensor) -> Tensor:
    """Predictions (L, D) of one record."""
    cell, units = model.cell, model.cell.n_out.in_features
    w_state = torch.cat([cell.state_to_ur.weight, cell.state_to_n.weight])
    w = torch.cat([w_state, cell.input_to_urn.weight], 1)  # first layers of U, R and N, whole
    b = cell.input_to_urn.bias

    def mlp(k: int, out: nn.Linear, *inputs: Tensor) -> Tensor:
        rows = slice(k * units, (k + 1) * units)
        return out(torch.tanh(w[rows] @ torch.cat(inputs) + b[rows]))

    y, s, now, predictions = torch.zeros(5), torch.zeros(5), t[0], []
    for i in range(len(t)):
        n = max(math.ceil((t[i] - now).item() * 50 - 1e-3), 1)
        for _ in range(n):
            y = y + (t[i] - now) / n * cell.g(y)
        now = t[i]
        x_hat = model.o(y)
        predictions.append(x_hat)
        what = read_next(mask, target, i)
        if what is None:
            continue
        row = (x[i].nan_to_num(), mask[i]) if what == "row" else (x_hat, torch.ones(2))
        u = torch.sigmoid(mlp(0, cell.u_out, y, s, *row))
        r = torch.sigmoid(mlp(1, cell.r_out, y, s, *row))
        y_new, s_new = mlp(2, cell.n_out, r * y, r * s, *row).chunk(2)
        y, s = (1 - u) * y_new + u * y, (1 - u) * s_new.abs() + u * s
    return torch.stack(predictions)


@every_task
@pytest.mark.usefixtures("double")
def test_against_reference(task: Task) -> None:
    assert_equals_reference(small(), reference, task)


def test_euler_steps() -> None:
    gap = torch.tensor([[0, 1 / 50, 0.001], [0, 0.11, 1 / 51]])
    steps = ODERNNCell.euler_steps(gap)
    assert [len(row) for row in steps] == [1, 6, 1]
    for row, expected in zip(steps, gap.T, strict=True):
        torch.testing.assert_close(torch.cat(row, 1).sum(1), expected)
    assert torch.cat(steps[1], 1).count_nonzero(1).tolist() == [1, 6]  # each record its own number
    assert max(step.max().item() for row in steps for step in row) < 0.0201


def test_euler_steps_backwards_are_those_forwards_negated() -> None:
    gap = torch.tensor([[0.3, 0.02, 0], [0.001, 0.11, 0.2]])
    for there, back in zip(ODERNNCell.euler_steps(gap), ODERNNCell.euler_steps(-gap), strict=True):
        assert torch.equal(torch.cat(there), -torch.cat(back))


@every_task
@pytest.mark.usefixtures("double")
def test_the_state_flows_from_each_row_to_the_next(task: Task) -> None:
    """With dy = 2 dt and gates that keep the state, y is twice the time since the first row."""
    model = with_field(small(), 2.0)
    nn.init.zeros_(model.cell.u_out.weight)
    nn.init.constant_(model.cell.u_out.bias, 1000)
    model.o = nn.Linear(5, 2)
    nn.init.constant_(model.o.weight, 0.2)  # the mean of y
    nn.init.zeros_(model.o.bias)
    batch = together(records(task))
    passed = (batch.t - batch.t[:, :1])[..., None].expand_as(batch.x)
    torch.testing.assert_close(model.forecast(batch), 2 * passed)


@pytest.mark.usefixtures("double")
def test_without_dynamics_gaps_have_no_effect() -> None:
    for task in TASKS:
        batch = together(records(task))
        still = dataclasses.replace(batch, t=torch.zeros_like(batch.t))
        model = small()
        assert (model.forecast(batch) - model.forecast(still)).abs().max() > 1e-3
        with_field(model, 0.0)
        assert torch.equal(model.forecast(batch), model.forecast(still))


@pytest.mark.usefixtures("double")
def test_an_empty_row_leaves_the_state_to_the_ode() -> None:
    """With a constant field, leaving out hidden rows changes no other row."""
    model, batch = with_field(small(), 0.7), record(10, 0, "reconstruction")
    batch.mask[:, 4:6] = 0
    rest = [0, 1, 2, 3, 6, 7, 8, 9]
    without = Batch(*(a[:, rest] for a in (batch.x, batch.t, batch.mask, batch.target)))
    torch.testing.assert_close(model.forecast(batch)[:, rest], model.forecast(without))
