"""The layer for irregular times against loops, closed forms and the convolution."""

import numpy as np
import pytest
import torch
from scipy.linalg import expm

from ls4.convolution import causal_convolution
from ls4.kernel import Discrete, discretise_zoh, kernel
from ls4.layer import parameter_groups
from ls4.scan import MIMO, ScanLayer, relax, scan

LENGTHS = [1, 2, 3, 9, 10, 130]


def inputs(L: int, B: int = 3, P: int = 4) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Rates with Re < 0, gaps of which some are 0, and v; complex in double precision."""
    rate = torch.complex(-torch.rand(P), torch.randn(P))
    gap = torch.rand(B, L) * (torch.rand(B, L) < 0.8)
    return rate, gap, torch.randn(B, L, P, dtype=torch.complex128)


def trained(system: MIMO) -> MIMO:
    """The system away from its initial values, where modes and rates are all of a kind."""
    with torch.no_grad():
        for p in system.parameters():
            p += 0.3 * torch.randn_like(p)
    return system


@pytest.mark.parametrize("L", LENGTHS)
@pytest.mark.usefixtures("double")
def test_scan_is_the_recurrence(L: int) -> None:
    a, b = torch.randn(2, 3, L, 4, dtype=torch.complex128).unbind()
    a = a / a.abs().clamp(min=1)
    given = a.clone(), b.clone()
    h, expected = torch.zeros(3, 4, dtype=torch.complex128), []
    for n in range(L):
        h = a[:, n] * h + b[:, n]
        expected.append(h)
    assert torch.allclose(scan(a, b), torch.stack(expected, 1), rtol=0, atol=1e-12)
    assert torch.equal(a, given[0]) and torch.equal(b, given[1])


def test_scan_is_accurate_over_long_sequences() -> None:
    a = torch.polar(torch.ones(1, 20_000, 2), 0.1 * torch.randn(1, 20_000, 2))
    b = torch.randn(1, 20_000, 2, dtype=torch.complex64)
    exact = scan(a.to(torch.complex128) / a.to(torch.complex128).abs(), b.to(torch.complex128))
    assert (scan(a, b) - exact).abs().max() < 1e-3 * exact.abs().max()


@pytest.mark.parametrize("L", LENGTHS)
@pytest.mark.usefixtures("double")
def test_relax_is_its_recurrence(L: int) -> None:
    rate, gap, v = inputs(L)
    h, expected = torch.zeros(3, 4, dtype=torch.complex128), []
    for n in range(L):
        a = torch.exp(rate * gap[:, n, None])
        h = a * h + (a - 1) * v[:, n]
        expected.append(h)
    assert torch.allclose(relax(rate, gap, v), torch.stack(expected, 1), rtol=0, atol=1e-12)


@pytest.mark.parametrize("L", [1, 2, 7, 10])
@pytest.mark.usefixtures("double")
def test_gradient(L: int) -> None:
    rate, gap, v = inputs(L, B=2, P=3)
    rate.requires_grad_()
    v.requires_grad_()
    assert torch.autograd.gradcheck(lambda rate, v: relax(rate, gap, v), (rate, v))


@pytest.mark.usefixtures("double")
def test_short_gaps_keep_their_digits_in_single_precision() -> None:
    rate = torch.tensor([-5e-4 + 3e-3j])
    gap, v = torch.tensor([[1e-3]]), torch.ones(1, 1, 1, dtype=torch.complex128)
    exact = relax(rate, gap, v)
    single = relax(rate.to(torch.complex64), gap.float(), v.to(torch.complex64))
    assert (single - exact).abs().item() < 1e-6 * exact.abs().item()


@pytest.mark.usefixtures("double")
def test_system_is_the_exact_solution_for_inputs_held_over_gaps() -> None:
    """Against matrix exponentials of the dense system with all N modes."""
    system = trained(MIMO(3, 6))
    u, gap = torch.randn(1, 12, 3), torch.rand(1, 12) * 2
    with torch.no_grad():
        y = system(u, gap)[0].numpy()
        Lambda, dt, D = system.Lambda.numpy(), system.log_dt.exp().numpy(), system.D.numpy()
        B, C = (torch.view_as_complex(M).numpy() for M in (system.B, system.C))
    A = np.diag(np.concatenate([dt * Lambda, dt * Lambda.conj()]))
    B = np.concatenate([dt[:, None] * B, dt[:, None] * B.conj()])
    C = np.concatenate([C, C.conj()], 1)
    h = np.zeros(6, complex)
    for n in range(12):
        delta = gap[0, n].item()
        augmented = np.zeros((7, 7), complex)  # d/dt [h, 1] = [[A, B u], [0, 0]] [h, 1]
        augmented[:6, :6], augmented[:6, 6] = A, B @ u[0, n].numpy()
        h = (expm(augmented * delta) @ np.append(h, 1))[:6]
        assert np.allclose(C @ h + D * u[0, n].numpy(), y[n], atol=1e-10)


@pytest.mark.usefixtures("double")
def test_on_an_even_grid_it_is_a_convolution() -> None:
    H, P, L, gap = 3, 4, 50, 1.7
    system = trained(MIMO(H, 2 * P))
    u = torch.randn(2, L, H)
    with torch.no_grad():
        y = system(u, torch.full((2, L), gap))
        B, C = torch.view_as_complex(system.B), torch.view_as_complex(system.C)
        dt = gap * system.log_dt.exp()
        for i in range(H):  # H systems of one input each, as S4 has them, for every output
            a, b, *_ = discretise_zoh(system.Lambda, B.T, C[i], dt)
            K = kernel(Discrete(a.expand(H, -1), b, C[i].expand(H, -1)), L)
            expected = causal_convolution(u, K).sum(-1) + system.D[i] * u[..., i]
            assert torch.allclose(y[..., i], expected, atol=1e-10)


@pytest.mark.parametrize("L", [1, 40, 203])
def test_layer_step_equals_scan(L: int) -> None:
    layer = ScanLayer(6, 32)
    u, gap = torch.randn(3, L, 6), 2 * torch.rand(3, L)
    with torch.no_grad():
        step = layer.stepper(3)
        stepped = [step(v, delta) for v, delta in zip(u.unbind(1), gap.unbind(1), strict=True)]
        assert torch.allclose(layer(u, gap), torch.stack(stepped, 1), atol=1e-5)


@pytest.mark.usefixtures("double")
def test_a_row_within_a_gap_that_repeats_the_next_input_is_invisible() -> None:
    layer = ScanLayer(4, 16)
    u, gap = torch.randn(2, 9, 4), torch.rand(2, 9) + 0.1
    with torch.no_grad():
        y = layer(u, gap)
        for n in (0, 3, 8):
            split = [gap[:, :n], 0.3 * gap[:, [n]], 0.7 * gap[:, [n]], gap[:, n + 1 :]]
            longer = layer(torch.cat([u[:, : n + 1], u[:, n:]], 1), torch.cat(split, 1))
            kept = [i for i in range(10) if i != n]
            assert torch.allclose(longer[:, kept], y, atol=1e-12)


@pytest.mark.usefixtures("double")
def test_a_row_without_a_gap_leaves_the_state_as_it_is() -> None:
    layer = ScanLayer(4, 16)
    u, gap = torch.randn(2, 10, 4), torch.rand(2, 10)
    gap[:, 5] = 0
    kept = [i for i in range(10) if i != 5]
    with torch.no_grad():
        assert torch.allclose(layer(u, gap)[:, kept], layer(u[:, kept], gap[:, kept]), atol=1e-12)


def test_records_have_times_of_their_own() -> None:
    layer = ScanLayer(4, 16)
    u, gap = torch.randn(5, 30, 4), torch.rand(5, 30)
    with torch.no_grad():
        together = layer(u, gap)
        assert torch.allclose(layer(u[[3]], gap[[3]]), together[[3]], atol=1e-6)
        assert not torch.allclose(layer(u[[3]], gap[[2]]), together[[3]], atol=1e-3)


def test_outputs_are_initially_of_the_size_of_the_inputs() -> None:
    system = MIMO(64, 128)
    with torch.no_grad():
        y = system(torch.randn(8, 200, 64), torch.ones(8, 200))
    assert 0.3 < y[:, 100:].std() < 3


def test_systems_stay_stable_under_training() -> None:
    layer = ScanLayer(4, 16)
    optimiser = torch.optim.AdamW(parameter_groups(layer, 1e-2))
    u, gap = torch.randn(8, 50, 4), torch.rand(8, 50)
    losses = []
    for _ in range(100):
        optimiser.zero_grad()
        loss = (layer(u, gap) - u.flip(1)).square().mean()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]
    assert (layer.ssm.Lambda.real < 0).all()


def test_dynamics_are_a_parameter_group() -> None:
    layer = ScanLayer(4, 16)
    rest, dynamics = parameter_groups(layer, 0.01)
    ours = {"log_dt", "log_A_real", "A_imag", "B"}
    assert {id(p) for p in dynamics["params"]} == {id(getattr(layer.ssm, name)) for name in ours}
    assert any(p is layer.ssm.C for p in rest["params"])


def test_odd_state_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="state size N: expected an even number, found 7"):
        MIMO(2, 7)
