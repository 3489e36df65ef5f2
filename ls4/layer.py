"""The S4 layer: H independent linear state space systems, then a position-wise mixing.

    h'(t) = A h(t) + B u(t),   y(t) = C h(t) + D u(t)                              (S4, eq. 1)
    out   = GLU(W GELU(y) + c)

A is diagonal plus low rank (DPLR, HiPPO-LegS) or diagonal (S4D). Two modes compute the same
function: a causal convolution with the kernel K_l = C Abar^l Bbar over a whole sequence, and a
recurrence that advances one step.

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
W, c     (2H, H) (2H,) mixing matrix and its bias
======== ============= ==========================================================================

References: Gu et al. 2022, S4 (arXiv:2111.00396); Gu et al. 2022, S4D (arXiv:2206.11893).
"""

import math
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn
from torch.nn import functional as F

from ls4.convolution import causal_convolution
from ls4.hippo import Init, initial_modes
from ls4.kernel import (
    Discrete,
    as_real,
    discretise_bilinear,
    discretise_zoh,
    kernel,
    with_skip,
)

Structure = Literal["dplr", "diagonal"]
Discretisation = Literal["bilinear", "zoh"]

# One step of a module in its recurrent mode: from the input (B, H) and, for modules that use the
# time, that of the step (B,), to the output (B, H).
Step = Callable[..., Tensor]

DT_MIN, DT_MAX = 1e-3, 1e-1
LONGEST_HELD = 1024  # longest sequences for which all kernels of a model are held ready
SYSTEMS_AT_ONCE = 1024  # of which kernels are computed: more do not stay in the cache of a CPU
SSM_LEARNING_RATE = 1e-3


# -- systems --------------------------------------------------------------------------------------


def modes_of(
    log_A_real: Float[Tensor, "*S M"], A_imag: Float[Tensor, "*S M"]
) -> Complex[Tensor, "*S M"]:
    """Return Lambda, stable for every value of the parameters."""
    return torch.complex(-log_A_real.exp(), A_imag)


class Dynamics(nn.Module, ABC):
    """Base of state space systems: modes Lambda with Re Lambda < 0, and step sizes dt > 0.

    Both are stored as unconstrained parameters.

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
    def forward(self, u: Tensor, time: Tensor | None, /) -> Tensor:
        """Map a sequence (B, L, H), at given times (B, L) if the systems use them, to another."""

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
        Of A.
    init : "legs", "lin", "inv" or "ptd"
        Initial modes, `ls4.hippo`. A DPLR system begins with `legs`; the diagonal one then has its
        diagonal part. With `lin` and `inv`, B is fixed to 1, since only B C matters.
    discretisation : "bilinear" or "zoh"
        A DPLR system is discretised bilinearly.

    Raises
    ------
    ValueError
        If N is odd, or if a DPLR system is to begin or to be discretised otherwise.
    """

    def __init__(
        self, H: int, N: int, structure: Structure, init: Init, discretisation: Discretisation
    ):
        if structure == "dplr" and (init, discretisation) != ("legs", "bilinear"):
            raise ValueError(
                f"a dplr system: expected init 'legs' and discretisation 'bilinear', found {init!r}"
                f" and {discretisation!r}"
            )
        modes = initial_modes(init, N)
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
        """Convolve. `time` is ignored: each row of the grid is one step."""
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
        writes, reads = as_real(torch.stack(write, 1)), as_real(torch.stack(read, 1))  # (H, ., N)
        h = a.new_zeros(a.shape[0], batch, a.shape[2])
        h_real = as_real(h)  # the same memory
        signals = h_real.new_zeros(a.shape[0], len(write), batch)  # (u, s), then (y, s)

        def step(u: Tensor, time: Tensor | None = None) -> Tensor:
            signals[:, 0] = u.T
            h.mul_(a)
            torch.baddbmm(h_real, signals.mT, writes, out=h_real)
            torch.bmm(reads, h_real.mT, out=signals)
            return torch.addcmul(signals[:, 0].T, self.D, u)

        return step


# -- kernels of many systems ----------------------------------------------------------------------


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
    systems = [z.split(SYSTEMS_AT_ONCE) for z in _discretise(ssms) if z is not None]
    K = torch.cat([kernel(Discrete(*part), L) for part in zip(*systems, strict=True)])
    by_module = K.split([len(ssm.D) for ssm in ssms])
    return tuple(with_skip(K_i, ssm.D) for K_i, ssm in zip(by_module, ssms, strict=True))


@contextmanager
def kernels_at_once(module: nn.Module, L: int) -> Iterator[None]:
    """Hold the kernels of all `SSM` inside a module ready for sequences of up to length L.

    They come from one computation for all systems of one form: on short sequences, a kernel is
    hundreds of small operations, and a network has dozens of layers. On long ones there is little
    to gain, and all kernels at once would take memory: there, nothing is done. Parameters must not
    change meanwhile.
    """
    ssms = [ssm for ssm in module.modules() if isinstance(ssm, SSM)] if L <= LONGEST_HELD else []
    forms = defaultdict(list)
    for ssm in ssms:
        forms[ssm.C.shape[1:], ssm.P is None, ssm.discretisation].append(ssm)
    try:
        for of_one_form in forms.values():
            for ssm, K in zip(of_one_form, kernels(of_one_form, L), strict=True):
                ssm.ready = K
        yield
    finally:
        for ssm in ssms:
            ssm.ready = None


# -- layers ---------------------------------------------------------------------------------------


class Layer(nn.Module, ABC):
    """Base of layers: systems, then a position-wise map.

    Parameters
    ----------
    ssm : Dynamics
        The systems.
    """

    def __init__(self, ssm: Dynamics):
        super().__init__()
        self.ssm = ssm

    @abstractmethod
    def mix(self, y: Tensor) -> Tensor:
        """Apply the position-wise map to the systems' outputs."""

    def forward(
        self, u: Float[Tensor, "B L H"], time: Tensor | None = None
    ) -> Float[Tensor, "B L H"]:
        return self.mix(self.ssm(u, time))

    def stepper(self, batch: int) -> Step:
        """Return a function (batch, H) -> (batch, H) for one step in time, from a zero state."""
        step = self.ssm.stepper(batch)
        return lambda u, time=None: self.mix(step(u, time))


def gated(linear: nn.Linear, y: Float[Tensor, "*B H"]) -> Float[Tensor, "*B H"]:
    """Return GLU(linear(GELU(y))), where `linear` doubles the channels."""
    return F.glu(linear(F.gelu(y)), -1)


class S4Layer(Layer):
    """The "S4 block" of 2022: the layer of this module's docstring.

    Parameters
    ----------
    width, state : int
        H and N.
    kernel, init, discretisation
        As `structure`, `init` and `discretisation` of `SSM`.
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
        super().__init__(SSM(width, state, kernel, init, discretisation))
        self.linear = nn.Linear(width, 2 * width)

    def mix(self, y: Float[Tensor, "*B H"]) -> Float[Tensor, "*B H"]:
        return gated(self.linear, y)


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
