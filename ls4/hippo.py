"""Initial modes of state space systems: HiPPO-LegS, S4D-Lin, S4D-Inv and S4-PTD.

A system h' = A h + B u of state size N is written in the eigenvectors of A, or of a normal matrix
near A, in which A is diagonal, or diagonal plus low rank:

    A = V (Lambda - P P^*) V^-1,   B -> V^-1 B

N is even, and the N modes are N/2 conjugate pairs, of which one mode each is kept.

======== ============= ==========================================================================
symbol   shape         meaning
======== ============= ==========================================================================
N, M                   state size, and the number of modes that are kept, N/2
Lambda   (M,)          eigenvalues, Re Lambda < 0
P        (M,)          low-rank part
B        (M,)          input vector
V        (N, M)        eigenvectors
======== ============= ==========================================================================

References: Gu et al. 2020, HiPPO (arXiv:2008.07669); Gu et al. 2022, S4 (arXiv:2111.00396);
Gu et al. 2022, S4D (arXiv:2206.11893); Yu et al. 2024, S4-PTD (arXiv:2310.01698).
"""

import functools
import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from jaxtyping import Complex, Float
from torch import Tensor

Init = Literal["legs", "lin", "inv", "ptd"]

PTD_NORM = 0.45  # of the perturbation; below 1/2, every mode stays stable


class Modes(NamedTuple):
    """The kept modes of a system, in complex128.

    `P` is None for a diagonal system. `V` is given where the eigenvectors are not orthogonal: then
    a random C has to be drawn in the original basis and multiplied with V. With orthogonal ones C
    is normal in one basis if it is normal in the other.
    """

    Lambda: Complex[Tensor, "M"]
    B: Complex[Tensor, "M"]
    P: Complex[Tensor, "M"] | None = None
    V: Complex[Tensor, "N M"] | None = None


def hippo_legs(N: int) -> tuple[Float[Tensor, "N N"], Float[Tensor, "N"]]:
    """Return A and B of HiPPO-LegS (HiPPO, theorem 2)."""
    n = torch.arange(N, dtype=torch.float64)
    B = torch.sqrt(2 * n + 1)
    return -torch.tril(torch.outer(B, B), diagonal=-1) - torch.diag(n + 1), B


@functools.cache
def legs(N: int) -> Modes:
    """Diagonalise the normal part of HiPPO-LegS (S4, appendix C.1).

    A + P P^T = -1/2 I + skew, so its eigenvalues are -1/2 + i w and its eigenvectors V unitary.
    An eigenvector's phase is arbitrary; it is chosen such that V^* B > 0, which makes the result
    the same on every machine.
    """
    A, B = hippo_legs(N)
    P = B / math.sqrt(2)
    w, V = torch.linalg.eigh(-1j * (A + torch.outer(P, P)))
    w, V = w[N // 2 :], V[:, N // 2 :]  # w comes in pairs +-; keep w > 0
    VB = V.mH @ B.to(V.dtype)
    phase = VB / VB.abs()
    return Modes(_damped(w), VB / phase, P=V.mH @ P.to(V.dtype) / phase)


def lin(N: int) -> Modes:
    """S4D-Lin: Lambda_n = -1/2 + i pi n, B = 1 (S4D, eq. 9)."""
    Lambda = _damped(math.pi * torch.arange(N // 2, dtype=torch.float64))
    return Modes(Lambda, torch.ones_like(Lambda))


def inv(N: int) -> Modes:
    """S4D-Inv: Lambda_n = -1/2 + i N/pi (N/(2n + 1) - 1), B = 1 (S4D, eq. 8)."""
    n = torch.arange(N // 2, dtype=torch.float64)
    Lambda = _damped(N / math.pi * (N / (2 * n + 1) - 1))
    return Modes(Lambda, torch.ones_like(Lambda))


def _damped(w: Float[Tensor, "M"]) -> Complex[Tensor, "M"]:
    """Return -1/2 + i w."""
    return torch.complex(torch.full_like(w, -0.5), w)


@functools.cache
def ptd(N: int) -> Modes:
    """Perturb HiPPO-LegS, then diagonalise it (S4-PTD, section 4).

    The eigenvectors of A are too ill-conditioned for double precision. A + E with a small E is
    diagonalised safely, and its transfer function is within O(|E|) of A's at every frequency, which
    that of the diagonal part of LegS is not. Since A + A^T <= -1, all modes stay stable.

    E is ours: with a constant strict upper triangle all eigenvalues come in complex pairs, and
    their eigenvectors are better conditioned than with a random E of that norm.
    """
    A, B = hippo_legs(N)
    E = torch.triu(torch.ones_like(A), diagonal=1)
    w, V = torch.linalg.eig(A + PTD_NORM / torch.linalg.matrix_norm(E, 2) * E)
    kept = w.imag.argsort()[N // 2 :]
    return Modes(w[kept], torch.linalg.solve(V, B.to(V.dtype))[kept], V=V[:, kept])


_INITIAL: dict[Init, Callable[[int], Modes]] = {"legs": legs, "lin": lin, "inv": inv, "ptd": ptd}


def initial_modes(init: Init, N: int) -> Modes:
    """Return the modes of the named initialisation.

    Raises
    ------
    ValueError
        If the state size N is odd.
    """
    if N % 2:
        raise ValueError(f"state size N: expected an even number, found {N}")
    return _INITIAL[init](N)
