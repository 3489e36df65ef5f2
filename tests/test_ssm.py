"""The S4 layer against closed forms, and its two modes against each other."""

import math

import numpy as np
import pytest
import torch
from scipy.signal import cont2discrete

from ls4.ssm import (
    DT_MAX,
    DT_MIN,
    SSM,
    Discrete,
    S4Layer,
    causal_convolution,
    discretise_bilinear,
    discretise_zoh,
    inv,
    kernel,
    legs,
    lin,
    mixing_convolution,
    parameter_groups,
    ptd,
    with_skip,
)

STRUCTURES = [
    ("dplr", "legs", "bilinear"),
    ("diagonal", "legs", "zoh"),
    ("diagonal", "legs", "bilinear"),
    ("diagonal", "lin", "zoh"),
    ("diagonal", "inv", "zoh"),
    ("diagonal", "ptd", "zoh"),
    ("diagonal", "ptd", "bilinear"),
]


def accuracy(init: str) -> float:
    """Of single precision. Ill-conditioned eigenvectors (3e3 for N = 64) cost `ptd` a digit."""
    return 1e-3 if init == "ptd" else 1e-4


def impulse_response(step, H: int, L: int) -> torch.Tensor:
    """Output of a recurrence for a unit impulse, (H, L)."""
    inputs = [torch.ones(1, H), *[torch.zeros(1, H)] * (L - 1)]
    return torch.stack([step(u)[0] for u in inputs], -1)


def hippo_legs(N: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A, B, P as HiPPO and S4 print them."""
    n = np.arange(N)
    A = np.where(n[:, None] > n, -np.sqrt(2 * n[:, None] + 1) * np.sqrt(2 * n + 1), 0.0) - np.diag(
        n + 1.0
    )
    return A, np.sqrt(2 * n + 1), np.sqrt(n + 0.5)


@pytest.mark.parametrize("N", [2, 16, 64])
def test_legs_modes_rebuild_the_hippo_matrix(N: int) -> None:
    A, B, P = hippo_legs(N)
    normal = A + np.outer(P, P)
    assert np.allclose(normal + normal.T, -np.eye(N), atol=1e-12)
    modes = legs(N)
    # the input response B^T exp(normal t) B is the same in both bases, and so is the one with P
    for t in (0.0, 0.1, 0.7):
        w, V = np.linalg.eig(normal)
        dense = (B @ V * np.exp(w * t)) @ np.linalg.solve(V, np.stack([B, P], 1))
        growth = torch.exp(modes.Lambda * t) * modes.B.conj()
        ours = [2 * (growth * z).sum().real.item() for z in (modes.B, modes.P)]
        assert np.allclose(ours, dense.real, rtol=1e-8)


def test_legs_spectrum() -> None:
    w = legs(64).Lambda.imag
    assert w.max().item() == pytest.approx(1303.27, abs=0.01)
    assert torch.sort(w).values[:3].tolist() == pytest.approx([0.2639, 0.906, 1.703], abs=1e-3)
    assert torch.equal(legs(64).Lambda.real, torch.full((32,), -0.5, dtype=torch.float64))


def test_diagonal_spectra() -> None:
    """S4D's closed forms; Inv approximates LegS at both ends."""
    assert lin(8).Lambda.imag.tolist() == pytest.approx([0, math.pi, 2 * math.pi, 3 * math.pi])
    w = inv(64).Lambda.imag
    assert w.max().item() == pytest.approx(1283.4, abs=0.1)
    assert w.min().item() == pytest.approx(0.323, abs=1e-3)
    for modes in (lin(64), inv(64)):
        assert (modes.Lambda.real == -0.5).all() and (modes.B == 1).all() and modes.P is None


def transfer(Lambda, B, C, frequency: np.ndarray) -> np.ndarray:
    """C (i w - A)^-1 B of a diagonal system, from half of its modes."""
    Lambda, B, C = (z.resolve_conj().numpy() for z in (Lambda, B, C))
    s = 1j * frequency[:, None]
    return (C * B / (s - Lambda) + (C * B).conj() / (s - Lambda.conj())).sum(-1)


@pytest.mark.parametrize("N", [16, 64])
def test_perturbed_legs_approximates_legs_at_every_frequency(N: int) -> None:
    """The diagonal part of LegS does not: it deviates where its modes resonate (S4-PTD, fig. 1)."""
    A, B, _ = hippo_legs(N)
    frequency = np.concatenate([np.geomspace(1e-2, 1e4, 500), legs(N).Lambda.imag.numpy()])
    exact = np.array([B @ np.linalg.solve(1j * w * np.eye(N) - A, B) for w in frequency])
    approximate = ptd(N)
    assert approximate.V is not None
    C = torch.tensor(B, dtype=torch.complex128) @ approximate.V
    found = transfer(approximate.Lambda, approximate.B, C, frequency)
    diagonal = transfer(legs(N).Lambda, legs(N).B / 2, legs(N).B.conj(), frequency)
    error, of_diagonal = (abs(g - exact).max() / abs(exact).max() for g in (found, diagonal))
    assert error < 0.02 and of_diagonal > 10


@pytest.mark.parametrize("N", [2, 4, 6, 8, 32, 64, 128])
def test_perturbed_legs_has_stable_pairs(N: int) -> None:
    modes = ptd(N)
    assert len(modes.Lambda) == N // 2
    assert (modes.Lambda.imag > 1e-3).all() and (modes.Lambda.real < -0.2).all()
    assert modes.V is not None
    pairs = torch.cat([modes.Lambda, modes.Lambda.conj()])
    A, *_ = hippo_legs(N)
    assert pairs.sum().real.item() == pytest.approx(np.trace(A), rel=1e-6)  # E has no diagonal
    vectors = torch.cat([modes.V, modes.V.conj()], 1).numpy()
    rebuilt = vectors * pairs.numpy() @ np.linalg.inv(vectors)
    assert np.linalg.norm(rebuilt - A, 2) == pytest.approx(0.45, rel=1e-4)


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


@pytest.fixture(params=[2**18, 2 * 17 * 8, 1], ids=["whole batch", "in parts", "record by record"])
def parts(request, monkeypatch) -> None:
    monkeypatch.setattr("ls4.ssm.CACHED", request.param)


@pytest.mark.usefixtures("double", "parts")
def test_convolution_is_the_direct_sum() -> None:
    u, K = torch.randn(3, 17, 2, 4), torch.randn(5, 2, 4, 17)  # two streams to five, four channels
    direct = [
        sum(torch.einsum("oih,bih->boh", K[..., k], u[:, n - k]) for k in range(n + 1))
        for n in range(17)
    ]
    y = mixing_convolution(u.flatten(2), K)
    assert torch.allclose(y, torch.stack(direct, 1).flatten(2), atol=1e-12)
    one = causal_convolution(u[:, :, 0], K[0, 0])
    assert torch.allclose(one, mixing_convolution(u[:, :, 0], K[:1, :1]), atol=1e-12)


@pytest.mark.parametrize("L", [1, 6, 7])
@pytest.mark.usefixtures("double", "parts")
def test_convolution_gradient(L: int) -> None:
    u = torch.randn(2, L, 6, requires_grad=True)
    K = torch.randn(3, 2, 3, L, requires_grad=True)
    assert torch.autograd.gradcheck(mixing_convolution, (u, K))


@pytest.mark.parametrize("structure, init, discretisation", STRUCTURES[:2])
@pytest.mark.parametrize("successive", [2, 64])  # with dense powers, and without
@pytest.mark.usefixtures("double")
def test_kernel_gradient(
    structure, init, discretisation, successive: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ls4.ssm.SUCCESSIVE", successive)
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


@pytest.mark.parametrize("structure, init, discretisation", STRUCTURES)
@pytest.mark.parametrize("L", [1, 100, 791])
def test_layer_step_equals_convolution(structure, init, discretisation, L: int) -> None:
    layer = S4Layer(6, 64, structure, init, discretisation)
    u = torch.randn(3, L, 6)
    with torch.no_grad():
        step = layer.stepper(3)
        stepped = torch.stack([step(v) for v in u.unbind(1)], 1)
        assert torch.allclose(layer(u), stepped, atol=accuracy(init))


def test_layer_is_causal_and_shift_invariant() -> None:
    layer = S4Layer(4, 16).double()
    u = torch.randn(1, 40, 4, dtype=torch.float64)
    changed = u.clone()
    changed[:, 25:] += 1
    with torch.no_grad():
        y = layer(u)
        assert torch.allclose(layer(changed)[:, :25], y[:, :25], atol=1e-10)
        assert not torch.allclose(layer(changed)[:, 25], y[:, 25], atol=1e-3)
        shifted = torch.cat([torch.zeros(1, 5, 4, dtype=u.dtype), u], 1)
        assert torch.allclose(layer.ssm(shifted)[:, 5:], layer.ssm(u), atol=1e-10)


def test_a_longer_kernel_begins_with_the_shorter() -> None:
    ssm = SSM(4, 64, "dplr", "legs", "bilinear")
    with torch.no_grad():
        short, long = kernel(ssm.discretise(), 100), kernel(ssm.discretise(), 101)
    assert torch.allclose(long[:, :100], short, atol=1e-5)


@pytest.mark.parametrize("structure, init, discretisation", STRUCTURES)
def test_systems_stay_stable_under_training(structure, init, discretisation) -> None:
    layer = S4Layer(4, 16, structure, init, discretisation)
    optimiser = torch.optim.AdamW(parameter_groups(layer, 1e-2))
    u = torch.randn(8, 50, 4)
    for _ in range(100):
        optimiser.zero_grad()
        (layer(u) - u.flip(1)).square().mean().backward()
        optimiser.step()
    with torch.no_grad():
        K = kernel(layer.ssm.discretise(), 20480)
        assert K.isfinite().all()
        system = layer.ssm.discretise()
        assert (system.a.abs() < 1).all()
        assert K[:, -1000:].abs().max() <= K.abs().max()


def test_initial_steps_and_sizes() -> None:
    ssm = SSM(2000, 8, "dplr", "legs", "bilinear")
    dt = ssm.log_dt.exp()
    assert DT_MIN <= dt.min() < 1.2 * DT_MIN and 0.8 * DT_MAX < dt.max() <= DT_MAX
    assert ssm.log_dt.mean().item() == pytest.approx(math.log(DT_MIN * DT_MAX) / 2, abs=0.15)
    assert ssm.C.square().sum(-1).mean().item() == pytest.approx(1, abs=0.1)
    for H in (5, 64, 128):
        n = sum(p.numel() for p in S4Layer(H, 64).parameters())
        assert n == 2 * H**2 + 260 * H
        n = sum(p.numel() for p in S4Layer(H, 64, "diagonal", "legs", "zoh").parameters())
        assert n == 2 * H**2 + 196 * H


def test_parameter_groups_partition_the_parameters() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), S4Layer(4, 8), S4Layer(4, 8))
    rest, dynamics = parameter_groups(model, 0.01, weight_decay=0.1)
    grouped = [id(p) for group in (rest, dynamics) for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in model.parameters())
    assert len(dynamics["params"]) == 2 * 5  # log_dt, A (two), B, P of each layer
    assert (dynamics["lr"], dynamics["weight_decay"]) == (1e-3, 0.0)
    assert (rest["lr"], rest["weight_decay"]) == (0.01, 0.1)
    assert any(p is model[1].ssm.C for p in rest["params"])


def test_wrong_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="state size N: expected an even number, found 7"):
        SSM(2, 7, "diagonal", "legs", "zoh")
    with pytest.raises(ValueError, match="a dplr system: expected init 'legs'"):
        SSM(2, 8, "dplr", "lin", "bilinear")
