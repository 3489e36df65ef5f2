"""The state space layer of the two networks that score series: S4D-Lin.

H channels with one linear system each, then GELU and a gated linear map at every position:

    h'(t) = Lambda h(t) + u(t),   y(t) = 2 Re(C h(t)) + D u(t),   out = GLU(W GELU(y) + b)

With the input held constant over each step dt, y is the causal convolution of u with

    K_l = 2 Re sum_n C_n Bbar_n exp(l dt Lambda_n) + [l = 0] D,
    Bbar_n = (exp(dt Lambda_n) - 1) / Lambda_n

======== ============= ==========================================================================
symbol   shape         meaning
======== ============= ==========================================================================
u, y     (B, L, H)     input and output
Lambda   (H, M)        modes; one of each conjugate pair is kept, hence 2 Re; initially
                       Lambda_n = -1/2 + i pi n, n = 0, ..., M - 1
C        (H, M)        output weights, initially 1
D        (H,)          skip connection
dt       (H,)          step size, initially log-uniform in [0.001, 0.1]
K        (H, L)        convolution kernel
======== ============= ==========================================================================

The layer is not shared with the models, so that a change to a model never changes a score.

Reference: Gu et al. 2022, "On the Parameterization and Initialization of Diagonal State Space
Models", arXiv:2206.11893 (S4D-Lin, eq. 9).
"""

import math
from typing import cast

import torch
from jaxtyping import Float
from scipy.fft import next_fast_len
from torch import Tensor, nn
from torch.nn import functional as F

DT_MIN, DT_MAX = 1e-3, 1e-1
AT_ONCE = 2**17  # input values whose spectra are computed at once: they fit a processor's cache


class S4D(nn.Module):
    """The layer of this module's docstring.

    Parameters
    ----------
    width : int
        H.
    modes : int
        M, half of the state size.
    """

    def __init__(self, width: int, modes: int):
        super().__init__()
        log_dt = math.log(DT_MIN) + torch.rand(width) * (math.log(DT_MAX) - math.log(DT_MIN))
        self.log_dt = nn.Parameter(log_dt)
        self.log_A_real = nn.Parameter(torch.full((width, modes), math.log(0.5)))
        w = torch.tensor([math.pi * n for n in range(modes)])
        self.A_imag = nn.Parameter(w.repeat(width, 1))
        # An unused draw, as of a random C: without it D and all weights after it would begin with
        # other random numbers, and every score would change a little.
        torch.randn(width, modes, 2)
        self.C = nn.Parameter(torch.tensor([1.0, 0.0]).repeat(width, modes, 1))  # Re, Im
        self.D = nn.Parameter(torch.randn(width))
        self.linear = nn.Linear(width, 2 * width)  # W, b

    def dynamics(self) -> list[nn.Parameter]:
        """Return the parameters of dt and Lambda, which are trained more slowly than the others."""
        return [self.log_dt, self.log_A_real, self.A_imag]

    def kernel(self, L: int) -> Float[Tensor, "H L"]:
        """Return K, the skip connection included.

        With l = m j + i and m about sqrt(L), exp(l dt Lambda) is a product of a power that depends
        on j and one that depends on i: K is a matrix product, and few exponentials are computed.
        """
        Lambda = torch.complex(-self.log_A_real.exp(), self.A_imag)
        dt_Lambda = self.log_dt.exp().unsqueeze(-1) * Lambda
        CB = torch.view_as_complex(self.C) * torch.expm1(dt_Lambda) / Lambda  # C Bbar
        m = math.isqrt(L - 1) + 1
        i = torch.arange(m, device=Lambda.device)
        powers_i = torch.exp(dt_Lambda.unsqueeze(-1) * i)  # (H, M, m)
        powers_j = torch.exp(dt_Lambda.unsqueeze(-1) * (m * i))
        K = 2 * ((CB.unsqueeze(-1) * powers_j).mT @ powers_i).real  # (H, m, m), indices j and i
        return K.flatten(1)[:, :L] + F.pad(self.D.unsqueeze(-1), (0, L - 1))

    def forward(self, u: Float[Tensor, "B L H"]) -> Float[Tensor, "B L H"]:
        _, L, H = u.shape
        # At least 2L - 1, so that outputs do not wrap around, and fast for an FFT.
        n = 16 * cast(int, next_fast_len(math.ceil((2 * L - 1) / 16), real=True))
        spectrum = torch.fft.rfft(self.kernel(L), n)
        parts = u.split(max(1, AT_ONCE // (L * H)))
        y = [torch.fft.irfft(torch.fft.rfft(part.mT, n) * spectrum, n)[..., :L] for part in parts]
        return self.mix(torch.cat([part.mT for part in y]))

    def last(self, u: Float[Tensor, "B L H"], n: int) -> Float[Tensor, "B n H"]:
        """Return the last `n` positions of `forward`, at a small part of its cost.

        A few outputs of a convolution are a matrix product: no FFT is needed.
        """
        L = u.shape[1]
        # row i holds the weights K_{l-k} of the inputs k = 0, 1, ... for output l = L - n + i
        rows = F.pad(self.kernel(L).flip(1), (0, n - 1)).unfold(1, L, 1).flip(1)  # (H, n, L)
        return self.mix(torch.einsum("blh,hnl->bnh", u, rows))

    def mix(self, y: Float[Tensor, "B n H"]) -> Float[Tensor, "B n H"]:
        """Apply what follows the systems: GELU and the gated linear map."""
        return F.glu(self.linear(F.gelu(y)), -1)
