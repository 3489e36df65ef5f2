"""Discretisation and kernels against closed forms and the recurrence."""

import numpy as np
import pytest
import torch
from scipy.signal import cont2discrete

from ls4.hippo import legs, lin
from ls4.kernel import Discrete, discretise_bilinear, discretise_zoh, kernel, with_skip
from ls4.layer import SSM
from tests.ls4.systems import STRUCTURES, accuracy, hippo_legs, impulse_response


@pytest.mark.parametrize("structure, init, discretisation", STRUCTURES)
@pytest.mark.parametrize("L", [1, 2, 7, 64, 65, 600])
@pytest.mark.parametrize("N", [2, 8, 12])
@pytest.mark.usefixtures("double")
def test_kernel_is_the_impulse_response_of_the_recurrence(
    structure, init, discretisation, N: int, L: int
) -> None:
    ssm = SSM(3, N, structure, init, discretisation)
    with torch.no_grad():
        K = with_skip(kernel(ssm.discretise(), L), ssm.D)
        assert torch.allclose(K, impulse_response(ssm.stepper(1), 3, L), rtol=0, atol=1e-10)


@pytest.mark.parametrize("structure, init, discretisation", STRUCTURES)
def test_kernel_in_single_precision(structure, init, discretisation) -> None:
    ssm = SSM(4, 64, structure, init, discretisation)
    with torch.no_grad():
        K = kernel(ssm.discretise(), 728)
        exact = kernel(ssm.double().discretise(), 728)
    assert (K - exact).abs().max() < accuracy(init) * exact.abs().max()


@pytest.mark.usefixtures("double")
def test_dplr_discretisation_is_the_bilinear_transform_of_the_dense_system() -> None:
    N, dt = 8, 0.05
    A, B, _ = hippo_legs(N)
    A_bar, B_bar, *_ = cont2discrete((A, B[:, None], np.eye(N), np.zeros((N, 1))), dt, "bilinear")
    h, responses = B_bar, []
    for _ in range(20):
        responses.append((B @ h).item())
        h = A_bar @ h
    modes = legs(N)  # with C = B, in either basis
    system = discretise_bilinear(
        *(z[None] for z in (modes.Lambda, modes.P, modes.B)),
        modes.B.conj()[None],
        torch.tensor([[dt]]),
    )
    assert torch.allclose(kernel(system, 20)[0], torch.tensor(responses), rtol=1e-9)


@pytest.mark.usefixtures("double")
def test_dplr_without_low_rank_part_is_diagonal() -> None:
    modes = legs(16)
    Lambda, B, C = modes.Lambda[None], modes.B[None], torch.randn(1, 8, dtype=torch.complex128)
    dt = torch.tensor([[0.03]])
    with_zero = discretise_bilinear(Lambda, torch.zeros_like(B), B, C, dt)
    without = discretise_bilinear(Lambda, None, B, C, dt)
    assert torch.allclose(kernel(with_zero, 33), kernel(without, 33), atol=1e-12)


@pytest.mark.usefixtures("double")
def test_one_mode_has_its_analytic_kernel() -> None:
    a, dt, c = -0.7 + 2.3j, 0.08, 0.4 - 0.9j
    one = torch.ones(1, 1, dtype=torch.complex128)
    system = discretise_zoh(a * one, one, c * one, torch.tensor([[dt]]))
    growth = np.exp(np.arange(30) * dt * a)
    expected = 2 * (c * (np.exp(dt * a) - 1) / a * growth).real
    assert np.allclose(kernel(system, 30)[0].numpy(), expected, atol=1e-13)


@pytest.mark.usefixtures("double")
def test_zero_order_hold_is_exact_for_piecewise_constant_input() -> None:
    modes, dt = lin(8), 0.2
    C = torch.randn(4, dtype=torch.complex128)
    system = discretise_zoh(modes.Lambda[None], modes.B[None], C[None], torch.tensor([[dt]]))
    A = np.diag(torch.cat([modes.Lambda, modes.Lambda.conj()]).numpy())
    both = torch.cat([C, C.conj()]).numpy()
    A_bar, B_bar, *_ = cont2discrete((A, np.ones((8, 1)), both[None], np.zeros((1, 1))), dt, "zoh")
    h, expected = B_bar, []
    for _ in range(25):
        expected.append((both @ h).item().real)
        h = A_bar @ h
    assert np.allclose(kernel(system, 25)[0].numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("structure, init, discretisation", STRUCTURES[:2])
@pytest.mark.parametrize("successive", [2, 64])  # with dense powers, and without
@pytest.mark.usefixtures("double")
def test_kernel_gradient(
    structure, init, discretisation, successive: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ls4.kernel.SUCCESSIVE", successive)
    ssm = SSM(2, 4, structure, init, discretisation)
    names, values = zip(*ssm.named_parameters(), strict=True)

    def K(*parameters: torch.Tensor) -> torch.Tensor:
        state = dict(zip(names, parameters, strict=True))
        system = torch.func.functional_call(
            _Discretised(ssm), {f"ssm.{n}": p for n, p in state.items()}
        )
        return kernel(Discrete(*system), 11)

    assert torch.autograd.gradcheck(K, values)


class _Discretised(torch.nn.Module):
    def __init__(self, ssm: SSM):
        super().__init__()
        self.ssm = ssm

    def forward(self) -> Discrete:
        return self.ssm.discretise()


def test_a_longer_kernel_begins_with_the_shorter() -> None:
    ssm = SSM(4, 64, "dplr", "legs", "bilinear")
    with torch.no_grad():
        short, long = kernel(ssm.discretise(), 100), kernel(ssm.discretise(), 101)
    assert torch.allclose(long[:, :100], short, atol=1e-5)
