"""Initial modes against printed matrices, closed forms and spectra."""

import math

import numpy as np
import pytest
import torch

from ls4.hippo import initial_modes, inv, legs, lin, ptd
from tests.ls4.systems import hippo_legs


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


def test_odd_state_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="state size N: expected an even number, found 7"):
        initial_modes("lin", 7)
