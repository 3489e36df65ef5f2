"""The layer of two streams, of which the decoder of LS4 by its paper is made (`ls4.paper`).

One stream carries the latent path, the other the observed series. Each channel has one state, which
is driven by both:

    h'(t) = A h(t) + B z(t) + E x(t)                                     (LS4, eq. 2 and section 4)
    y_z   = C_z h + D_z z + F_z x,   out_z = GLU(G_z GELU(y_z) + b_z)
    y_x   = C_x h + D_x z + F_x x,   out_x = GLU(G_x GELU(y_x) + b_x)

A is diagonal, S4D-LegS initially, discretised by zero-order hold. So the output streams are causal
convolutions of the input streams, with a kernel from each stream to each:

    y_s = K^{zs} * z + K^{xs} * x,   K^{rs}_l = 2 Re(C_s Abar^l Bbar_r) + [l = 0] (skip)_{sr}

======== ============== =========================================================================
symbol   shape          meaning
======== ============== =========================================================================
z, x     (B, L, H)      the streams, side by side in (B, L, W), W = 2H
Lambda   (H, N/2)       diagonal of A; one of each conjugate pair is kept, Re Lambda < 0
B        (2, H, N/2)    input vectors: B, E
C        (2, H, N/2)    output vectors: C_z, C_x
D        (2, 2, H)      skips, [to, from]: D_z, F_z; D_x, F_x
dt       (H,)           step size
G, b     (2H, H) (2H,)  mixing matrix and its bias, of each stream
======== ============== =========================================================================

References: Zhou et al. 2023, LS4 (arXiv:2212.12749); Gu et al. 2022, S4D (arXiv:2206.11893).
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from ls4.convolution import mixing_convolution
from ls4.hippo import initial_modes
from ls4.kernel import Discrete, as_real, discretise_zoh, kernel, with_skip
from ls4.layer import Dynamics, Layer, Step

STREAMS = 2


class JointSSM(Dynamics):
    """H state space systems with two inputs and two outputs each, skips included.

    Parameters
    ----------
    H, N : int
        Channels of each stream and state size (even).

    Raises
    ------
    ValueError
        If N is odd.
    """

    def __init__(self, H: int, N: int):
        modes = initial_modes("legs", N)
        super().__init__(modes.Lambda.repeat(H, 1), H)
        B = torch.view_as_real(modes.B).to(torch.get_default_dtype())
        self.B = nn.Parameter(B.repeat(STREAMS, H, 1, 1))
        self.C = nn.Parameter(torch.randn(STREAMS, H, N // 2, 2) * math.sqrt(0.5))  # E |C|^2 = 1
        self.D = nn.Parameter(torch.randn(STREAMS, STREAMS, H))

    def discretise(self) -> Discrete:
        """Return the 4H systems of one input and one output, in the order of D."""
        shape = (STREAMS, STREAMS, *self.Lambda.shape)
        B, C = torch.view_as_complex(self.B), torch.view_as_complex(self.C)
        return discretise_zoh(
            self.Lambda.expand(shape).flatten(0, 2),
            B.expand(shape).flatten(0, 2),
            C.unsqueeze(1).expand(shape).flatten(0, 2),
            self.log_dt.exp().repeat(STREAMS * STREAMS).unsqueeze(-1),
        )

    def forward(self, v: Float[Tensor, "B L W"], time: Tensor | None = None) -> Tensor:
        """Convolve; `time` is ignored: each row of the grid is one step."""
        K = kernel(self.discretise(), v.shape[1]).view(*self.D.shape, -1)  # (to, from, H, L)
        return mixing_convolution(v, with_skip(K, self.D))

    @torch.no_grad()
    def stepper(self, batch: int) -> Step:
        """Return a function (batch, W) -> (batch, W) that advances the recurrence from h = 0.

        It carries no gradient.
        """
        system = self.discretise()
        a, b, C = (v.view(*self.D.shape, -1) for v in (system.a, system.b, system.C))
        a = a[0, 0].unsqueeze(1)  # (H, 1, M)
        writes = as_real(b[0].transpose(0, 1))  # (H, 2, N)
        reads = as_real(2 * C[:, 0].transpose(0, 1).conj())  # (H, 2, N)
        D = self.D.permute(2, 0, 1).contiguous()  # (H, to, from)
        h = a.new_zeros(a.shape[0], batch, a.shape[2])
        h_real = as_real(h)  # the same memory

        def step(v: Tensor, time: Tensor | None = None) -> Tensor:
            u = v.unflatten(-1, (STREAMS, -1)).permute(2, 1, 0)  # (H, 2, B)
            h.mul_(a)
            h_real.baddbmm_(u.mT, writes)
            return torch.baddbmm(D @ u, reads, h_real.mT).permute(2, 1, 0).flatten(1)

        return step


class JointLayer(Layer):
    """The layer of this module's docstring.

    Parameters
    ----------
    width : int
        W, of both streams together.
    state : int
        N.
    """

    def __init__(self, width: int, state: int):
        H = width // STREAMS
        super().__init__(JointSSM(H, state))
        self.linear = nn.ModuleList(nn.Linear(H, 2 * H) for _ in range(STREAMS))

    def mix(self, y: Float[Tensor, "*B W"]) -> Float[Tensor, "*B W"]:
        """Apply what follows the systems: GELU and each stream's gated linear map."""
        streams = zip(self.linear, F.gelu(y).chunk(STREAMS, -1), strict=True)
        return torch.cat([F.glu(linear(stream), -1) for linear, stream in streams], -1)


class StreamNorm(nn.ModuleList):
    """A LayerNorm for each stream.

    Parameters
    ----------
    width : int
        W, of both streams together.
    """

    def __init__(self, width: int):
        super().__init__(nn.LayerNorm(width // STREAMS) for _ in range(STREAMS))

    def forward(self, v: Float[Tensor, "*B W"]) -> Float[Tensor, "*B W"]:
        streams = zip(self, v.chunk(STREAMS, -1), strict=True)
        return torch.cat([norm(stream) for norm, stream in streams], -1)
