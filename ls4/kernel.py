"""From a continuous state space system to its convolution kernel.

    h'(t) = A h(t) + B u(t),         y(t) = C h(t)         in continuous time
    h_l   = Abar h_{l-1} + Bbar u_l,  y_l = C h_l          in steps of dt

so that y is the convolution of u with K_l = C Abar^l Bbar. A is diagonal, or diagonal plus low rank
(DPLR), A = Lambda - P P^*; then Abar is diagonal plus rank one.

======== ============= ==========================================================================
symbol   shape         meaning
======== ============= ==========================================================================
H, N, L                systems, state size, length of the kernel
M                      N/2, the number of modes that are kept, one of each conjugate pair
Lambda   (H, M)        diagonal of A, Re Lambda < 0
P        (H, M)        low-rank part of A
B, C     (H, M)        input and output vectors
dt       (H, 1)        step size
a        (H, M)        diagonal part of Abar
b        (H, M)        Bbar
f, r     (H, M)        rank-one part of Abar
K        (H, L)        kernel
======== ============= ==========================================================================

Because modes come in conjugate pairs, sums over all N modes of a real signal are 2 Re of sums over
the kept half. The same pairing turns the system into a real one of size N with state (Re h, Im h),
in which P^* h = 2 p.h, p = (Re P, Im P). Kernels are computed in these real coordinates; for DPLR
systems A + A^T is negative definite in them, and powers of Abar are contractions.

References: Gu et al. 2022, S4 (arXiv:2111.00396); Gu et al. 2022, S4D (arXiv:2206.11893).
"""

import math
from typing import Any, NamedTuple

import torch
from jaxtyping import Complex, Float
from torch import Tensor

SUCCESSIVE = 64  # columns of a kernel, or blocks of them, that are computed one after the other


# -- discretisation -------------------------------------------------------------------------------


class Discrete(NamedTuple):
    """A discretised system: h <- a h - f Re(r.h) + b u, y = 2 Re(C.h).

    `f` and `r` are None for a diagonal system.
    """

    a: Complex[Tensor, "H M"]
    b: Complex[Tensor, "H M"]
    C: Complex[Tensor, "H M"]
    f: Complex[Tensor, "H M"] | None = None
    r: Complex[Tensor, "H M"] | None = None


def expm1(x: Tensor, y: Tensor) -> Tensor:
    """Return exp(x + iy) - 1 without the cancellation near 0."""
    return torch.complex(
        torch.expm1(x) * torch.cos(y) - 2 * torch.sin(y / 2) ** 2, torch.exp(x) * torch.sin(y)
    )


def discretise_zoh(Lambda: Tensor, B: Tensor, C: Tensor, dt: Tensor) -> Discrete:
    """Zero-order hold of a diagonal system: Abar = exp(dt A), Bbar = A^-1 (Abar - 1) B."""
    growth = expm1(dt * Lambda.real, dt * Lambda.imag)
    return Discrete(a=torch.exp(dt * Lambda), b=growth / Lambda * B, C=C)


def discretise_bilinear(
    Lambda: Tensor, P: Tensor | None, B: Tensor, C: Tensor, dt: Tensor
) -> Discrete:
    """Bilinear transform: Abar = 2 R - I, Bbar = dt R B, R = (I - dt/2 A)^-1.

    By the Woodbury identity R v = e v - g e P Re(P^* e v), e = 1 / (1 - dt/2 Lambda),
    g = dt / (1 + dt Re(P^* e P)), with the products P^* v taken over the kept half.
    """
    e = 1 / (1 - dt / 2 * Lambda)
    if P is None:
        return Discrete(a=2 * e - 1, b=dt * e * B, C=C)
    r = P.conj() * e
    g = dt / (1 + dt * (r * P).real.sum(-1, keepdim=True))
    f = g * e * P
    b = dt * (e * B - f * (r * B).real.sum(-1, keepdim=True))
    return Discrete(a=2 * e - 1, b=b, C=C, f=2 * f, r=r)


# -- powers of Abar -------------------------------------------------------------------------------


def as_real(z: Complex[Tensor, "... M"]) -> Float[Tensor, "... N"]:
    """View complex coordinates as real ones: Re and Im of each mode in turn."""
    return torch.view_as_real(z.resolve_conj()).flatten(-2)


def as_complex(x: Float[Tensor, "... N"]) -> Complex[Tensor, "... M"]:
    """Return the inverse of `as_real`."""
    return torch.view_as_complex(x.unflatten(-1, (-1, 2)))


class Power(NamedTuple):
    """Abar^k as a diagonal plus a matrix of rank k: h -> d h - sum_i F_i Re(conj(R_i).h), i < k."""

    d: Complex[Tensor, "H M"]
    F: Complex[Tensor, "H k M"]
    R: Complex[Tensor, "H k M"]

    def __call__(self, h: Complex[Tensor, "H j M"]) -> Complex[Tensor, "H j M"]:
        low_rank = as_complex((as_real(h) @ as_real(self.R).mT) @ as_real(self.F))
        return h * self.d.unsqueeze(-2) - low_rank

    def adjoint(self) -> "Power":
        """Return the adjoint X^* of this power X: Re((X^* c)^*.h) = Re(c^*.X h) for all c and h."""
        return Power(self.d.conj(), self.R, self.F)

    def dense(self) -> "DensePower":
        """Return the same map as a matrix: rotations of 2 x 2 on the diagonal, less the rest."""
        rotation = torch.stack([as_real(self.d), as_real(1j * self.d)], -1)  # (H, N, 2)
        blocks = torch.eye(self.d.shape[-1]).to(rotation)[:, None, :, None]  # (M, 1, M, 1)
        diagonal = rotation.unflatten(1, (-1, 2)).unsqueeze(-2) * blocks  # (H, M, 2, M, 2)
        diagonal = diagonal.flatten(3).flatten(1, 2)
        return DensePower(torch.baddbmm(diagonal, as_real(self.F).mT, as_real(self.R), alpha=-1))


class DensePower(NamedTuple):
    """A power of Abar as a matrix in real coordinates."""

    matrix: Float[Tensor, "H N N"]

    def __call__(self, h: Complex[Tensor, "H j M"]) -> Complex[Tensor, "H j M"]:
        return as_complex(as_real(h) @ self.matrix.mT)

    def adjoint(self) -> "DensePower":
        return DensePower(self.matrix.mT)

    def square(self) -> "DensePower":
        return DensePower(self.matrix @ self.matrix)


class _Orbit(torch.autograd.Function):
    """The sequence h, X h, X X h, ... of a power X.

    Autograd would compute, and add up, a gradient of X for every step; here it is computed once.
    """

    @staticmethod
    def forward(
        ctx: Any, n: int, form: type[Power] | type[DensePower], h: Tensor, *X: Tensor
    ) -> Tensor:
        advance = form(*X)
        sequence = h.new_empty(n, *h.shape)
        sequence[0] = h
        for j in range(1, n):
            sequence[j] = advance(sequence[j - 1])
        ctx.form = form
        ctx.save_for_backward(sequence, *X)
        return sequence

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        sequence, *X = ctx.saved_tensors
        g = grad_outputs[0].clone()
        back = ctx.form(*X).adjoint()
        for j in range(len(g) - 1, 0, -1):
            g[j - 1] += back(g[j])
        with torch.enable_grad():
            X = [x.detach().requires_grad_() for x in X]
            steps = ctx.form(*X)(_side_by_side(sequence[:-1]))
        grad_X = torch.autograd.grad(steps, X, _side_by_side(g[1:]))
        return None, None, g[0], *grad_X


def _side_by_side(sequence: Complex[Tensor, "n H j M"]) -> Complex[Tensor, "H nj M"]:
    return sequence.transpose(0, 1).flatten(1, 2)


def orbit(X: Power | DensePower, h: Complex[Tensor, "H j M"], n: int) -> Complex[Tensor, "H nj M"]:
    """Return the n blocks h, X h, X X h, ... side by side."""
    if n == 1:
        return h
    sequence = _Orbit.apply(n, type(X), h, *X)
    assert isinstance(sequence, Tensor)
    return _side_by_side(sequence)


def _scalar_powers(a: Complex[Tensor, "H M"], n: int) -> Complex[Tensor, "H n M"]:
    """Return 1, a, a^2, ..., a^(n-1), by doubling."""
    found, a = torch.ones_like(a).unsqueeze(-2), a.unsqueeze(-2)
    while found.shape[-2] < n:
        found = torch.cat([found, a * found[:, : n - found.shape[-2]]], -2)
        a = a * a
    return found


# -- the kernel -----------------------------------------------------------------------------------


def kernel(system: Discrete, L: int) -> Float[Tensor, "H L"]:
    """Return the convolution kernel K_l = 2 Re(C Abar^l b), l = 0, ..., L - 1.

    With l = m j + i and m about sqrt(L), it is a product of L/m columns Abar^(m j) b with m rows
    C Abar^i: O(H N L) in matrix products of real numbers. Nothing of size (H, N, L) is stored, and
    no entry depends on L.
    """
    columns, rows = (_factors if system.f is None else _factors_dplr)(system, L)
    return (as_real(columns) @ as_real(rows).mT).flatten(1)[:, :L]  # (H, j, i) -> (H, L)


def _rows_of(L: int) -> int:
    """Return m, the largest power of 2 up to sqrt(L)."""
    return 2 ** ((L.bit_length() - 1) // 2)


def _factors(system: Discrete, L: int) -> tuple[Tensor, Tensor]:
    """Columns (H, L/m, M) and rows (H, m, M) of a diagonal system's kernel."""
    m = _rows_of(L)
    a = _scalar_powers(system.a, m + 1)
    columns = system.b.unsqueeze(-2) * _scalar_powers(a[:, m], math.ceil(L / m))
    return columns, 2 * (system.C.unsqueeze(-2) * a[:, :m]).conj()


def _factors_dplr(system: Discrete, L: int) -> tuple[Tensor, Tensor]:
    """Columns (H, L/m, M) and rows (H, m, M) of a DPLR system's kernel.

        Abar^k h = a^k h - sum_{i<k} a^(k-1-i) f Re(r Abar^i.h)

    The power k needs the first k rows r Abar^i. So rows of r and of C are computed together, and
    their number doubles: rows k to 2k - 1 are rows 0 to k - 1 times Abar^k, which gives Abar^2k.
    m is at most N/2, since a higher power has no low rank.

    Columns are computed one after the other. If they are many, dense powers first double the one
    column to a block, O(H N^3) each time, and blocks are computed one after the other.
    """
    assert system.f is not None and system.r is not None
    m = _rows_of(min(L, system.a.shape[-1] ** 2))
    n = math.ceil(L / m)
    a, f = _scalar_powers(system.a, m + 1), system.f.unsqueeze(-2)
    X: Power | DensePower = Power(system.a, f, system.r.conj().unsqueeze(-2))  # Abar
    rows = torch.stack([system.r.conj(), 2 * system.C.conj()], -2).unsqueeze(1)  # (H, k, 2, M)
    while (k := rows.shape[1]) < m:
        rows = torch.cat([rows, X.adjoint()(rows.flatten(1, 2)).view_as(rows)], 1)
        X = Power(a[:, 2 * k], a[:, : 2 * k] * f, rows[:, :, 0].flip(1))
    columns = system.b.unsqueeze(-2)
    if n > SUCCESSIVE:
        X = X.dense()
        while columns.shape[-2] * SUCCESSIVE < n:
            columns = torch.cat([columns, X(columns)], -2)
            X = X.square()
    return orbit(X, columns, math.ceil(n / columns.shape[-2])), rows[:, :, 1]


def with_skip(K: Float[Tensor, "*S L"], D: Float[Tensor, "*S"]) -> Float[Tensor, "*S L"]:
    """Add a skip connection, D u, to a kernel."""
    return torch.cat([K[..., :1] + D.unsqueeze(-1), K[..., 1:]], -1)
