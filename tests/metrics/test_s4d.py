"""The evaluators' state space layer: closed forms, its last positions, its parts."""

import numpy as np
import pytest
import torch
from scipy.signal import cont2discrete
from torch.nn import functional as F

from metrics import s4d
from metrics.s4d import DT_MAX, DT_MIN, S4D


def test_initial_systems():
    layer = S4D(16, 8)
    A = torch.complex(-layer.log_A_real.exp(), layer.A_imag)
    expected = torch.complex(torch.full((8,), -0.5), torch.pi * torch.arange(8.0))
    torch.testing.assert_close(A, expected.expand(16, 8))
    torch.testing.assert_close(torch.view_as_complex(layer.C), torch.ones(16, 8, dtype=A.dtype))


def test_initial_steps():
    dt = S4D(2000, 1).log_dt.exp()
    assert DT_MIN <= dt.min() < 1.2 * DT_MIN and 0.8 * DT_MAX < dt.max() <= DT_MAX
    assert dt.log().mean().item() == pytest.approx(np.log(DT_MIN * DT_MAX) / 2, abs=0.15)


@pytest.mark.parametrize("L", [1, 2, 10, 49, 50])
@pytest.mark.usefixtures("double")
def test_kernel_is_the_impulse_response_of_the_system_with_held_inputs(L):
    layer = S4D(3, 2)
    with torch.no_grad():
        layer.C.normal_()
        K = layer.kernel(L).numpy()
        Lambda = torch.complex(-layer.log_A_real.exp(), layer.A_imag).numpy()
        C, dt = torch.view_as_complex(layer.C).numpy(), layer.log_dt.exp().numpy()
    for h in range(3):
        A = np.diag(np.concatenate([Lambda[h], Lambda[h].conj()]))
        both, ones = np.concatenate([C[h], C[h].conj()]), np.ones((4, 1))
        A_bar, B_bar, *_ = cont2discrete((A, ones, both[None], np.zeros((1, 1))), dt[h], "zoh")
        powers = [np.linalg.matrix_power(A_bar, n) for n in range(L)]
        expected = np.array([(both @ power @ B_bar).item().real for power in powers])
        expected[0] += layer.D[h].item()
        np.testing.assert_allclose(K[h], expected, atol=1e-12)


@pytest.mark.parametrize("values_at_once", [2**17, 2 * 17 * 4, 1])
@pytest.mark.usefixtures("double")
def test_output_and_gradient_are_those_of_the_direct_sum(values_at_once, monkeypatch):
    monkeypatch.setattr(s4d, "AT_ONCE", values_at_once)
    layer, u = S4D(4, 2), torch.randn(5, 17, 4, requires_grad=True)
    K = layer.kernel(17)
    sums = [sum(K[:, k] * u[:, n - k] for k in range(n + 1)) for n in range(17)]
    expected = F.glu(layer.linear(F.gelu(torch.stack(sums, 1))), -1)
    torch.testing.assert_close(layer(u), expected)
    inputs, weight = (u, *layer.parameters()), torch.randn(5, 17, 4)
    for a, b in zip(
        torch.autograd.grad((weight * layer(u)).sum(), inputs),
        torch.autograd.grad((weight * expected).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("L", [10, 11, 64])
@pytest.mark.usefixtures("double")
def test_last_positions_are_those_of_the_whole_sequence(L):
    layer, u = S4D(6, 4), torch.randn(3, L, 6)
    torch.testing.assert_close(layer.last(u, 10), layer(u)[:, -10:])


def test_dynamics_are_dt_and_lambda():
    layer = S4D(6, 4)
    names = {id(p): name for name, p in layer.named_parameters()}
    assert [names[id(p)] for p in layer.dynamics()] == ["log_dt", "log_A_real", "A_imag"]
