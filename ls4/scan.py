"""A state space layer for rows at any times, solved by a scan.

One system with H inputs, H outputs and P complex modes, as in S5, in place of S4's H systems with
one input each: so few states that they can be computed one after the other.

    h'(t) = dt (Lambda h(t) + B u(t)),   y(t) = 2 Re(C h(t)) + D u(t)              (S5, eq. 1)

A row's input is held over the gap delta_n that ends at the row. So the solution is exact: over the
gap the state decays from h_{n-1} towards its fixed point -v_n, by exp(Lambda dt delta_n):

    h_n = h_{n-1} + E_n (h_{n-1} + v_n),   E_n = exp(Lambda dt delta_n) - 1,   v_n = Lambda^-1 B u_n

======== ============= ==========================================================================
symbol   shape         meaning
======== ============= ==========================================================================
u, y     (B, L, H)     input and output
h        (B, L, P)     state; of each conjugate pair of modes one is kept, hence 2 Re
delta    (B, L)        gap before each row, in units in which a typical one is 1
Lambda   (P,)          modes, S4D-Lin initially; Re Lambda < 0
B, C     (P, H) (H, P) input and output matrix
D        (H,)          skip connection
dt       (P,)          rate of each mode
======== ============= ==========================================================================

An additional row inside a gap, with the same input as the row at its end, changes no other
output. A row without a gap, such as padding, leaves the state unchanged.

References: Smith, Warrington, Linderman 2023, S5 (arXiv:2208.04933); Martin, Cundy 2018, the
backward pass of a scan (arXiv:1709.04057); Gu et al. 2022, S4D-Lin (arXiv:2206.11893).
"""

import math
from typing import Any

import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn
from torch.nn import functional as F

from ls4.hippo import initial_modes
from ls4.kernel import expm1
from ls4.layer import Dynamics, Layer, Step, gated


def scan(a: Complex[Tensor, "B L P"], b: Complex[Tensor, "B L P"]) -> Complex[Tensor, "B L P"]:
    """Return h with h_n = a_n h_{n-1} + b_n from h = 0, for |a| <= 1. It carries no gradient.

    The sequence is cut into chunks of about sqrt(L) rows. All chunks are solved side by side, each
    from h = 0; then the last state of each is carried over into the next. Only products of
    successive `a` occur, so nothing can grow.
    """
    B, L, P = b.shape
    size = math.isqrt(L - 1) + 1  # of a chunk: sqrt(L), rounded up
    padding = (0, 0, 0, -L % size)  # up to whole chunks
    products = F.pad(a, padding).view(B, -1, size, P)  # of a, from a chunk's first row to each
    h = F.pad(b, padding).view(B, -1, size, P)
    for k in range(1, size):
        h[:, :, k].addcmul_(products[:, :, k], h[:, :, k - 1])
        products[:, :, k].mul_(products[:, :, k - 1])
    for j in range(1, h.shape[1]):
        h[:, j].addcmul_(products[:, j], h[:, j - 1, -1:])
    return h.flatten(1, 2)[:, :L]


def _growth(rate: Complex[Tensor, "P"], gap: Float[Tensor, "*B"]) -> Complex[Tensor, "*B P"]:
    """E = exp(rate gap) - 1."""
    gap = gap.unsqueeze(-1)
    return expm1(gap * rate.real, gap * rate.imag)


class _Relax(torch.autograd.Function):
    """The recurrence of `relax`.

    The gradient g of the state obeys the same recurrence backwards: with the gradient G of the
    output, g_n = G_n + a_{n+1}^* g_{n+1}.
    """

    @staticmethod
    def forward(ctx: Any, rate: Tensor, gap: Tensor, v: Tensor) -> Tensor:
        E = _growth(rate, gap)
        h = scan(1 + E, E * v)
        ctx.save_for_backward(gap, v, E, h)
        return h

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None, Tensor]:
        gap, v, E, h = ctx.saved_tensors
        a = 1 + E
        following = F.pad(a[:, 1:], (0, 0, 0, 1)).conj()
        g = scan(following.flip(1), grad_outputs[0].flip(1)).flip(1)
        before = F.pad(h[:, :-1], (0, 0, 1, 0))
        grad_rate = gap.unsqueeze(-1) * g * ((before + v) * a).conj()
        return grad_rate.sum((0, 1)), None, g * E.conj()


def relax(
    rate: Complex[Tensor, "P"], gap: Float[Tensor, "B L"], v: Complex[Tensor, "B L P"]
) -> Complex[Tensor, "B L P"]:
    """Return h with h_n = h_{n-1} + (exp(rate gap_n) - 1) (h_{n-1} + v_n) from h = 0.

    Parameters
    ----------
    rate : (P,)
        Lambda dt, with Re <= 0.
    gap : (B, L)
        Not negative. No gradient with respect to the gaps.
    v : (B, L, P)
        Minus the fixed point of the state at each row.
    """
    h = _Relax.apply(rate, gap, v)
    assert isinstance(h, Tensor)
    return h


class MIMO(Dynamics):
    """The system of this module's docstring, with trainable Lambda, dt, B and C.

    Parameters
    ----------
    H, N : int
        Channels and state size (even); P = N/2.

    Raises
    ------
    ValueError
        If N is odd.
    """

    def __init__(self, H: int, N: int):
        super().__init__(initial_modes("lin", N).Lambda, N // 2)
        self.B = nn.Parameter(torch.randn(N // 2, H, 2) * math.sqrt(0.5 / H))  # E |B u|^2 = E u_i^2
        self.C = nn.Parameter(torch.randn(H, N // 2, 2) * math.sqrt(0.5))  # E |C|^2 = 1
        self.D = nn.Parameter(torch.randn(H))

    @property
    def rate(self) -> Complex[Tensor, "P"]:
        return self.log_dt.exp() * self.Lambda

    def drive(self, u: Float[Tensor, "*B H"]) -> Complex[Tensor, "*B P"]:
        """v = Lambda^-1 B u, as a product of real matrices."""
        matrix = torch.view_as_real(torch.view_as_complex(self.B) / self.Lambda.unsqueeze(-1))
        return torch.view_as_complex((u @ matrix.mT.flatten(0, 1).T).unflatten(-1, (-1, 2)))

    def read(self, h: Complex[Tensor, "*B P"]) -> Float[Tensor, "*B H"]:
        """y = 2 Re(C h), as a product of real matrices."""
        conjugate = self.C * self.C.new_tensor([2.0, -2.0])
        return torch.view_as_real(h).flatten(-2) @ conjugate.flatten(1).T

    def forward(
        self, u: Float[Tensor, "B L H"], gap: Float[Tensor, "B L"]
    ) -> Float[Tensor, "B L H"]:
        return torch.addcmul(self.read(relax(self.rate, gap, self.drive(u))), self.D, u)

    def stepper(self, batch: int) -> Step:
        rate = self.rate
        h = rate.new_zeros(batch, len(rate))

        def step(u: Float[Tensor, "B H"], gap: Float[Tensor, "B"]) -> Float[Tensor, "B H"]:
            nonlocal h
            h = h + _growth(rate, gap) * (h + self.drive(u))
            return torch.addcmul(self.read(h), self.D, u)

        return step


class ScanLayer(Layer):
    """A `MIMO` system, GELU, then a position-wise gated linear map.

    Parameters
    ----------
    width, state : int
        H and N.
    """

    def __init__(self, width: int, state: int):
        super().__init__(MIMO(width, state))
        self.linear = nn.Linear(width, 2 * width)

    def mix(self, y: Float[Tensor, "*B H"]) -> Float[Tensor, "*B H"]:
        return gated(self.linear, y)
