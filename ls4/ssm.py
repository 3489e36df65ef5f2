"""The S4 layer: H independent linear state space systems, then a position-wise mixing.

    h'(t) = A h(t) + B u(t),   y(t) = C h(t) + D u(t)                              (S4, eq. 1)

Two structures of A, one switch: ``dplr`` (diagonal plus low rank, HiPPO-LegS) and ``diagonal``
(S4D). Two modes that compute the same function: a causal convolution with the kernel
K_l = C Abar^l Bbar over a whole sequence, and a recurrence that advances one step.

======== ============= ==========================================================================
symbol   shape         meaning
======== ============= ==========================================================================
H, N, L                channels (one system each), state size, sequence length
Lambda   (H, N/2)      diagonal of A; one of each conjugate pair is kept, Re Lambda < 0
P        (H, N/2)      low-rank part: A = Lambda - P P^* (over all N modes), hence Hurwitz
B, C     (H, N/2)      input and output vectors. C itself is a parameter, never C (I - Abar^L)
D        (H,)          skip connection
dt       (H,)          step size
K        (H, L)        convolution kernel
======== ============= ==========================================================================

Because modes come in conjugate pairs, sums over all N modes of a real signal are 2 Re of sums over
the kept half. The same pairing turns the system into a real one of size N with state (Re h, Im h),
in which P^* h = 2 p.h, p = (Re P, Im P). The kernel of the DPLR system is computed in these real
coordinates, where A + A^T is negative definite and powers of Abar are contractions.

References: Gu et al. 2022, S4 (arXiv:2111.00396); Gu et al. 2022, S4D (arXiv:2206.11893);
Gu et al. 2020, HiPPO (arXiv:2008.07669); Yu et al. 2024, S4-PTD (arXiv:2310.01698).
"""

import functools
import math
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple, cast

import torch
from jaxtyping import Complex, Float
from scipy.fft import next_fast_len
from torch import Tensor, nn
from torch.nn import functional as F

Structure = Literal["dplr", "diagonal"]
Init = Literal["legs", "lin", "inv", "ptd"]
Discretisation = Literal["bilinear", "zoh"]

# One step of a module in its recurrent mode: the input (B, H) and, where the module looks at it,
# what is told of the step's time, to the output (B, H).
Step = Callable[..., Tensor]

DT_MIN, DT_MAX = 1e-3, 1e-1
SUCCESSIVE = 64  # columns of a kernel, or blocks of them, that are computed one after the other
SHORT = 1024  # longest sequences for which all kernels of a model are held ready
AT_ONCE = 1024  # systems whose kernels are computed at once: more do not stay in the cache of a CPU
PTD_NORM = 0.45  # of the perturbation; below 1/2, every mode stays stable
SSM_LEARNING_RATE = 1e-3


# ------------------------------------------------------------------------------------------------
# Initialisation


class Modes(NamedTuple):
    """Half of a system's modes in its eigenbasis, complex128.

    `P` is None for a diagonal system. `V` holds eigenvectors that are not orthogonal, for which C
    has to be drawn in the original basis; with orthogonal ones, C is as normal in either.
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

    Parameters
    ----------
    N : int
        State size, even.
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
    return torch.complex(torch.full_like(w, -0.5), w)


@functools.cache
def ptd(N: int) -> Modes:
    """Perturb HiPPO-LegS, then diagonalise it (S4-PTD, section 4).

    A itself has eigenvectors of a condition beyond double precision. A + E with a small E is
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


INITIAL: dict[Init, Callable[[int], Modes]] = {"legs": legs, "lin": lin, "inv": inv, "ptd": ptd}


# ------------------------------------------------------------------------------------------------
# Discrete system


class Discrete(NamedTuple):
    """A discretised system: h <- a h - f Re(r.h) + b u, y = 2 Re(C.h).

    The rank-one term is that of Abar; `f` and `r` are None for a diagonal system.
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


def real(z: Complex[Tensor, "... M"]) -> Float[Tensor, "... N"]:
    """View complex coordinates as real ones: Re and Im of each mode in turn."""
    return torch.view_as_real(z.resolve_conj()).flatten(-2)


def as_complex(x: Float[Tensor, "... N"]) -> Complex[Tensor, "... M"]:
    return torch.view_as_complex(x.unflatten(-1, (-1, 2)))


class Power(NamedTuple):
    """A power of Abar as a map of states: h -> d h - sum_i F_i Re(R_i.h)."""

    d: Complex[Tensor, "H M"]
    F: Complex[Tensor, "H k M"]
    R: Complex[Tensor, "H k M"]  # conjugate

    def __call__(self, h: Complex[Tensor, "H j M"]) -> Complex[Tensor, "H j M"]:
        low_rank = as_complex((real(h) @ real(self.R).mT) @ real(self.F))
        return h * self.d.unsqueeze(-2) - low_rank

    def adjoint(self) -> "Power":
        """Return the map c -> c' of read-outs with Re(c'^*.h) = Re(c^*.X h) for this power X."""
        return Power(self.d.conj(), self.R, self.F)

    def dense(self) -> "DensePower":
        """Return the same as a matrix: rotations of 2 x 2 on the diagonal, and the rest."""
        rotation = torch.stack([real(self.d), real(1j * self.d)], -1)  # (H, N, 2)
        blocks = torch.eye(self.d.shape[-1]).to(rotation)[:, None, :, None]  # (M, 1, M, 1)
        diagonal = rotation.unflatten(1, (-1, 2)).unsqueeze(-2) * blocks  # (H, M, 2, M, 2)
        diagonal = diagonal.flatten(3).flatten(1, 2)
        return DensePower(torch.baddbmm(diagonal, real(self.F).mT, real(self.R), alpha=-1))


class DensePower(NamedTuple):
    """A power of Abar as a matrix in real coordinates."""

    matrix: Float[Tensor, "H N N"]

    def __call__(self, h: Complex[Tensor, "H j M"]) -> Complex[Tensor, "H j M"]:
        return as_complex(real(h) @ self.matrix.mT)

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
            steps = ctx.form(*X)(_beside(sequence[:-1]))
        grad_X = torch.autograd.grad(steps, X, _beside(g[1:]))
        return None, None, g[0], *grad_X


def _beside(sequence: Complex[Tensor, "n H j M"]) -> Complex[Tensor, "H nj M"]:
    return sequence.transpose(0, 1).flatten(1, 2)


def orbit(X: Power | DensePower, h: Complex[Tensor, "H j M"], n: int) -> Complex[Tensor, "H nj M"]:
    """Return the n blocks h, X h, X X h, ..."""
    if n == 1:
        return h
    sequence = _Orbit.apply(n, type(X), h, *X)
    assert isinstance(sequence, Tensor)
    return _beside(sequence)


def _powers(a: Complex[Tensor, "H M"], n: int) -> Complex[Tensor, "H n M"]:
    """Return 1, a, a a, ..., by doubling."""
    found, a = torch.ones_like(a).unsqueeze(-2), a.unsqueeze(-2)
    while found.shape[-2] < n:
        found = torch.cat([found, a * found[:, : n - found.shape[-2]]], -2)
        a = a * a
    return found


def kernel(system: Discrete, L: int) -> Float[Tensor, "H L"]:
    """Convolution kernel K_l = 2 Re(C Abar^l b), l = 0..L-1.

    Written as a product of L/m columns Abar^(m j) b with m rows C Abar^i, m about sqrt(L): O(H N L)
    in matrix products of real numbers. Nothing of size (H, N, L) is stored, and no entry depends on
    L.
    """
    columns, rows = (_factors if system.f is None else _factors_dplr)(system, L)
    return (real(columns) @ real(rows).mT).flatten(1)[:, :L]  # (H, j, i) -> (H, L)


def _factors(system: Discrete, L: int) -> tuple[Tensor, Tensor]:
    """Columns (H, L/m, M) and rows (H, m, M) of a diagonal system's kernel."""
    m = 1 << int(math.log2(L) / 2)
    a = _powers(system.a, m + 1)
    columns = system.b.unsqueeze(-2) * _powers(a[:, m], -(-L // m))
    return columns, 2 * (system.C.unsqueeze(-2) * a[:, :m]).conj()


def _factors_dplr(system: Discrete, L: int) -> tuple[Tensor, Tensor]:
    """Columns (H, L/m, M) and rows (H, m, M) of a DPLR system's kernel.

        Abar^k h = a^k h - sum_{i<k} a^(k-1-i) f Re(r Abar^i.h)

    so that the power that rows double with needs the like rows of r, which double with them. Beyond
    k = N/2 a low rank is none. Columns follow one another; if they are many, they first double with
    dense powers, O(H N^3) each, to blocks, which then follow one another.
    """
    assert system.f is not None and system.r is not None
    m = 1 << int(math.log2(min(L, system.a.shape[-1] ** 2)) / 2)
    n = -(-L // m)
    a, f = _powers(system.a, m + 1), system.f.unsqueeze(-2)
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
    return orbit(X, columns, -(-n // columns.shape[-2])), rows[:, :, 1]


def with_skip(K: Float[Tensor, "*S L"], D: Float[Tensor, "*S"]) -> Float[Tensor, "*S L"]:
    """Add a skip connection, D u, to a kernel."""
    return torch.cat([K[..., :1] + D.unsqueeze(-1), K[..., 1:]], -1)


# ------------------------------------------------------------------------------------------------
# Convolution


CACHED = 2**18  # input values that are convolved at once on a CPU, if more than a record has


class _CausalConvolution(torch.autograd.Function):
    """Convolution by FFT, with a backward by FFT.

    Autograd's own derivative of a real FFT is a complex one, of twice the work and memory. Records
    are taken a few at a time, such that what is between two passes stays in the cache of a CPU.
    """

    @staticmethod
    def forward(ctx: Any, u: Tensor, K: Tensor) -> Tensor:
        L = u.shape[1]
        n = _fft_length(2 * L - 1)
        Kf = torch.fft.rfft(K, n)
        outputs, inputs, H, _ = K.shape
        y, spectra = u.new_empty(*u.shape[:2], outputs * H), []
        at_once = max(1, CACHED // (L * inputs * H)) if u.device.type == "cpu" else len(u)
        for u_part, y_part in zip(u.split(at_once), y.split(at_once), strict=True):
            U = _spectra(u_part, inputs, n)
            _write(y_part, _contract(U, Kf, n))
            if any(ctx.needs_input_grad):
                spectra.append(U)
        ctx.save_for_backward(Kf, *spectra)
        ctx.n, ctx.at_once = n, at_once
        return y

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, Tensor]:
        g = grad_outputs[0]
        Kf, *spectra = ctx.saved_tensors
        outputs, inputs, H, _ = Kf.shape
        adjoint = Kf.transpose(0, 1).conj().resolve_conj()
        correlation = torch.zeros_like(Kf)
        grad_u = g.new_empty(*g.shape[:2], inputs * H)
        parts = zip(spectra, g.split(ctx.at_once), grad_u.split(ctx.at_once), strict=True)
        for U, g_part, grad_part in parts:
            G = _spectra(g_part, outputs, ctx.n)
            _write(grad_part, _contract(G, adjoint, ctx.n))
            G.conj_physical_()  # instead of U, of which that would be a copy
            for o in range(outputs):
                correlation[o] += (G[:, o, None] * U).sum(0)
        return grad_u, torch.fft.irfft(correlation.conj(), ctx.n)[..., : g.shape[1]]


def _fft_length(n: int) -> int:
    """Return a length >= n of small factors, many of them 2, for which an FFT is fast."""
    return 16 * cast(int, next_fast_len(-(-n // 16), real=True))


def _spectra(u: Float[Tensor, "B L W"], streams: int, n: int) -> Complex[Tensor, "B I H F"]:
    padded = u.new_zeros(u.shape[0], u.shape[2], n)
    padded[..., : u.shape[1]] = u.mT
    return torch.fft.rfft(padded).unflatten(1, (streams, -1))


def _contract(
    U: Complex[Tensor, "B I H F"], Kf: Complex[Tensor, "O I H F"], n: int
) -> Float[Tensor, "B O H n"]:
    """Multiply, sum over I, and return from the spectra to series."""
    total = U[:, :1] * Kf[:, 0]
    for i in range(1, U.shape[1]):
        total.addcmul_(U[:, i, None], Kf[:, i])
    return torch.fft.irfft(total, n)


def _write(y: Float[Tensor, "B L W"], series: Float[Tensor, "B O H n"]) -> None:
    y.copy_(series[..., : y.shape[1]].flatten(1, 2).mT)


def causal_convolution(
    u: Float[Tensor, "B L H"], K: Float[Tensor, "H L"]
) -> Float[Tensor, "B L H"]:
    """Convolve each channel with its kernel; output l depends on inputs <= l (up to round-off)."""
    return mixing_convolution(u, K[None, None])


def mixing_convolution(
    u: Float[Tensor, "B L IH"], K: Float[Tensor, "O I H L"]
) -> Float[Tensor, "B L OH"]:
    """Convolve I streams, side by side, with a kernel to each of O streams, channel by channel.

    y^o_l = sum_i sum_{k<=l} K^{oi}_k u^i_{l-k}, of which the sum over i is one over spectra.
    """
    y = _CausalConvolution.apply(u, K)
    assert isinstance(y, Tensor)
    return y


# ------------------------------------------------------------------------------------------------
# Modules


def modes_of(
    log_A_real: Float[Tensor, "*S M"], A_imag: Float[Tensor, "*S M"]
) -> Complex[Tensor, "*S M"]:
    """Return Lambda, of which every value of the parameters makes a stable mode."""
    return torch.complex(-log_A_real.exp(), A_imag)


class Dynamics(nn.Module, ABC):
    """Modes Lambda with Re Lambda < 0, and step sizes dt > 0, as unconstrained parameters.

    Parameters
    ----------
    Lambda : (..., M)
        Initial modes.
    steps : int
        Number of step sizes; initially log-uniform in [DT_MIN, DT_MAX].
    """

    def __init__(self, Lambda: Complex[Tensor, "*S M"], steps: int):
        super().__init__()
        log_dt = math.log(DT_MIN) + torch.rand(steps) * (math.log(DT_MAX) - math.log(DT_MIN))
        parts = torch.view_as_real(Lambda).to(torch.get_default_dtype())
        self.log_dt = nn.Parameter(log_dt)
        self.log_A_real = nn.Parameter(parts[..., 0].neg().log())
        self.A_imag = nn.Parameter(parts[..., 1].clone())

    @property
    def Lambda(self) -> Complex[Tensor, "*S M"]:
        return modes_of(self.log_A_real, self.A_imag)

    @abstractmethod
    def stepper(self, batch: int) -> Step:
        """Return a function (batch, H) -> (batch, H) that advances the recurrence from h = 0."""


class SSM(Dynamics):
    """H trainable state space systems, each with its own Lambda, B, C, D and (DPLR) P.

    Parameters
    ----------
    H, N : int
        Channels and state size (even).
    structure : "dplr" or "diagonal"
    init : "legs", "lin", "inv" or "ptd"
        A DPLR system begins with `legs`; the diagonal one then has its diagonal part. With `lin`
        and `inv`, B is fixed to 1, since only B C matters.
    discretisation : "bilinear" or "zoh"
        A DPLR system is discretised bilinearly.
    """

    def __init__(
        self, H: int, N: int, structure: Structure, init: Init, discretisation: Discretisation
    ):
        if N % 2:
            raise ValueError(f"state size N: expected an even number, found {N}")
        if structure == "dplr" and (init, discretisation) != ("legs", "bilinear"):
            raise ValueError(
                f"a dplr system: expected init 'legs' and discretisation 'bilinear', found {init!r}"
                f" and {discretisation!r}"
            )
        modes = INITIAL[init](N)
        super().__init__(modes.Lambda.repeat(H, 1), H)
        self.discretisation = discretisation

        def copies(z: Tensor) -> Tensor:  # (N/2,) complex128 -> (H, N/2, 2) float
            return torch.view_as_real(z).to(torch.get_default_dtype()).repeat(H, 1, 1)

        if modes.V is None:
            C = torch.randn(H, N // 2, 2) * math.sqrt(0.5)  # E |C|^2 = 1
        else:
            C = torch.view_as_real(torch.randn(H, N).to(modes.V.dtype) @ modes.V)
            C = C.to(torch.get_default_dtype())
        self.C = nn.Parameter(C)
        if structure == "dplr":
            assert modes.P is not None
            self.P = nn.Parameter(copies(modes.P))
        else:
            self.register_parameter("P", None)
        if init in ("lin", "inv"):
            self.register_buffer("B", copies(modes.B), persistent=False)
        else:
            self.B = nn.Parameter(copies(modes.B))
        self.D = nn.Parameter(torch.randn(H))
        self.ready: Tensor | None = None  # the kernel, within `kernels_at_once`

    def discretise(self) -> Discrete:
        """Discretise the systems with their own steps dt."""
        return _discretise([self])

    def forward(
        self, u: Float[Tensor, "B L H"], time: Tensor | None = None
    ) -> Float[Tensor, "B L H"]:
        """Convolve; `time` is not looked at: a row of the grid is a step."""
        L = u.shape[1]
        K = self.ready
        if K is None or K.shape[1] < L:
            (K,) = kernels([self], L)
        return causal_convolution(u, K[:, :L])

    @torch.no_grad()
    def stepper(self, batch: int) -> Step:
        """Return a function (batch, H) -> (batch, H) that advances the recurrence from h = 0.

        A step is h <- a h + b u - f s, then y = 2 Re(C.h) + D u and s = Re(r.h) for the next one:
        O(N) a channel. It carries no gradient.
        """
        system = self.discretise()
        a = system.a.unsqueeze(1)
        write, read = [system.b], [2 * system.C.conj()]
        if system.f is not None and system.r is not None:
            write, read = [*write, -system.f], [*read, system.r.conj()]
        writes, reads = real(torch.stack(write, 1)), real(torch.stack(read, 1))  # (H, 1 or 2, N)
        h = a.new_zeros(a.shape[0], batch, a.shape[2])
        h_real = real(h)  # the same memory
        signals = h_real.new_zeros(a.shape[0], len(write), batch)  # (u, s), then (y, s)

        def step(u: Tensor, time: Tensor | None = None) -> Tensor:
            signals[:, 0] = u.T
            h.mul_(a)
            torch.baddbmm(h_real, signals.mT, writes, out=h_real)
            torch.bmm(reads, h_real.mT, out=signals)
            return torch.addcmul(signals[:, 0].T, self.D, u)

        return step


def _discretise(ssms: Sequence[SSM]) -> Discrete:
    """Discretise the systems of some modules of one form, one after the other along H."""

    def joined(name: str) -> Tensor:
        tensors = [getattr(ssm, name) for ssm in ssms]
        return torch.cat(tensors) if len(tensors) > 1 else tensors[0]

    Lambda = modes_of(joined("log_A_real"), joined("A_imag"))
    B, C = torch.view_as_complex(joined("B")), torch.view_as_complex(joined("C"))
    dt = joined("log_dt").exp().unsqueeze(-1)
    if ssms[0].discretisation == "zoh":
        return discretise_zoh(Lambda, B, C, dt)
    P = None if ssms[0].P is None else torch.view_as_complex(joined("P"))
    return discretise_bilinear(Lambda, P, B, C, dt)


def kernels(ssms: Sequence[SSM], L: int) -> tuple[Float[Tensor, "_ L"], ...]:
    """Return the kernel of each of some modules of one form, their skip connections included."""
    parts = zip(*(z.split(AT_ONCE) for z in _discretise(ssms) if z is not None), strict=True)
    K = torch.cat([kernel(Discrete(*part), L) for part in parts])
    apart = K.split([len(ssm.D) for ssm in ssms])
    return tuple(with_skip(K_i, ssm.D) for K_i, ssm in zip(apart, ssms, strict=True))


@contextmanager
def kernels_at_once(module: nn.Module, L: int) -> Iterator[None]:
    """Hold the kernels of all systems inside a module ready for sequences of up to length L.

    They come from one computation for all systems of one form: on short sequences, a kernel is
    hundreds of small operations, and a network has dozens of layers. On long ones there is little
    to gain, and all kernels at once would take memory: there, nothing is done. Parameters must not
    change meanwhile.
    """
    everyone = [ssm for ssm in module.modules() if isinstance(ssm, SSM)] if L <= SHORT else []
    forms = defaultdict(list)
    for ssm in everyone:
        forms[ssm.C.shape[1:], ssm.P is None, ssm.discretisation].append(ssm)
    try:
        for ssms in forms.values():
            for ssm, K in zip(ssms, kernels(ssms, L), strict=True):
                ssm.ready = K
        yield
    finally:
        for ssm in everyone:
            ssm.ready = None


class Layer(nn.Module):
    """Systems, GELU, then a position-wise gated linear map.

        y = GELU(SSM(u)),  out = GLU(W y + b)

    Parameters
    ----------
    width : int
        H.
    ssm : module
        Maps (B, L, H), and what it is told of time, to (B, L, H), and has a `stepper`.
    """

    def __init__(self, width: int, ssm: Dynamics):
        super().__init__()
        self.ssm = ssm
        self.linear = nn.Linear(width, 2 * width)

    def mix(self, y: Float[Tensor, "... H"]) -> Float[Tensor, "... H"]:
        """Apply what follows the systems: GELU and the gated linear map."""
        return F.glu(self.linear(F.gelu(y)), -1)

    def forward(
        self, u: Float[Tensor, "B L H"], time: Tensor | None = None
    ) -> Float[Tensor, "B L H"]:
        return self.mix(self.ssm(u, time))

    def stepper(self, batch: int) -> Step:
        """Return a function (batch, H) -> (batch, H) for one step in time, from a zero state."""
        step = self.ssm.stepper(batch)
        return lambda u, time=None: self.mix(step(u, time))


class S4Layer(Layer):
    """The "S4 block" of 2022.

    Parameters
    ----------
    width, state : int
        H and N.
    kernel, init, discretisation
        See `SSM`.
    """

    ssm: SSM

    def __init__(
        self,
        width: int,
        state: int = 64,
        kernel: Structure = "dplr",
        init: Init = "legs",
        discretisation: Discretisation = "bilinear",
    ):
        super().__init__(width, SSM(width, state, kernel, init, discretisation))


def parameter_groups(
    module: nn.Module, lr: float, weight_decay: float = 0.0
) -> list[dict[str, Any]]:
    """Partition a module's parameters for an optimiser.

    The systems' dynamics (log_dt, A, B, P of every `Dynamics`) learn at min(lr, 1e-3) without
    weight decay; everything else, C and D included, takes `lr` and `weight_decay`.
    """
    dynamics = {
        id(p)
        for ssm in module.modules()
        if isinstance(ssm, Dynamics)
        for name, p in ssm.named_parameters()
        if name not in ("C", "D")
    }
    rest = [p for p in module.parameters() if id(p) not in dynamics]
    ssm = [p for p in module.parameters() if id(p) in dynamics]
    return [
        {"params": rest, "lr": lr, "weight_decay": weight_decay},
        {"params": ssm, "lr": min(lr, SSM_LEARNING_RATE), "weight_decay": 0.0},
    ]
