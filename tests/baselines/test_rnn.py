"""RNN: against a reference written row by row from the equations."""

import dataclasses

import pytest
import torch
from torch import Tensor, nn

from baselines.rnn import RNN, RNNConfig
from harness.contract import Shape, Task
from tests.baselines.test_autoregressive import (
    assert_equals_reference,
    built,
    every_task,
    read_next,
    record,
)


@pytest.mark.parametrize(
    ("channels", "expected"), [(41, 9_441), (37, 8_757), (5, 3_285), (1, 2_601)]
)
def test_parameter_count_of_the_released_code(channels: int, expected: int) -> None:
    model = RNN(RNNConfig(), Shape(12, channels))
    assert sum(p.numel() for p in model.parameters()) == expected


def reference(model: RNN, x: Tensor, mask: Tensor, target: Tensor, t: Tensor) -> Tensor:
    """Predictions (L, D) of one record."""
    cell = nn.GRUCell(5, 5)
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    cell.load_state_dict({name: getattr(model.gru, f"{name}_l0") for name in names})
    h, predictions = torch.zeros(1, 5), []
    for i in range(len(t)):
        x_hat = model.o(h)[0]
        predictions.append(x_hat)
        gap = t[i + 1] - t[i] if i + 1 < len(t) else torch.tensor(0.0)
        what = read_next(mask, target, i)
        if what == "row":
            h = cell(torch.cat([x[i].nan_to_num(), mask[i], gap[None]])[None], h)
        elif what == "forecast":
            h = cell(torch.cat([x_hat, torch.ones(2), gap[None]])[None], h)
    return torch.stack(predictions)


@every_task
@pytest.mark.usefixtures("double")
def test_against_reference(task: Task) -> None:
    assert_equals_reference(built(RNN), reference, task)


@pytest.mark.usefixtures("double")
def test_the_gap_is_to_the_next_row_of_the_grid() -> None:
    model, batch = built(RNN), record(6, 0, "reconstruction")
    batch.mask[:, 2:4] = 0  # seen 0, 1; hidden 2, 3; seen 4, 5
    batch.mask[:, [0, 1, 4, 5], 0] = 1
    before = model.forecast(batch)[0]
    torch.testing.assert_close(before[2], before[3], rtol=0, atol=0)

    def differs(row: int) -> list[bool]:
        later = dataclasses.replace(batch, t=batch.t.clone())
        later.t[:, row] += 1e-3
        return (model.forecast(later)[0] != before).any(1).tolist()

    assert differs(2) == [False, False, True, True, True, True]
    assert not any(differs(3))  # nothing reads the gaps before and after it
