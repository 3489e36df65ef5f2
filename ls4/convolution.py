"""Causal convolution by FFT, with a gradient by FFT.

    y^o_l = sum_i sum_{k <= l} K^{oi}_k u^i_{l-k}

I input streams and O output streams of H channels each lie side by side; every pair of streams has
a kernel, channel by channel. With one stream of either kind this is the convolution of an S4 layer.

======== ================ ========================================================================
symbol   shape            meaning
======== ================ ========================================================================
u        (B, L, I H)      input streams, side by side
y        (B, L, O H)      output streams, side by side
K        (O, I, H, L)     kernels
n                         length of the FFTs, at least 2 L - 1, so that no output wraps around
U, Kf    (..., F)         spectra of input and kernels, F = n/2 + 1 frequencies
======== ================ ========================================================================
"""

import math
from typing import Any, cast

import torch
from jaxtyping import Complex, Float
from scipy.fft import next_fast_len
from torch import Tensor

VALUES_AT_ONCE = 2**18  # input values convolved at once on a CPU, but at least a whole record


def causal_convolution(
    u: Float[Tensor, "B L H"], K: Float[Tensor, "H L"]
) -> Float[Tensor, "B L H"]:
    """Convolve each channel with its kernel; output l depends on inputs <= l (up to round-off)."""
    return mixing_convolution(u, K[None, None])


def mixing_convolution(
    u: Float[Tensor, "B L IH"], K: Float[Tensor, "O I H L"]
) -> Float[Tensor, "B L OH"]:
    """Convolve the input streams with the kernels to each output stream, and sum.

    The sum over input streams is one over spectra: I transforms of u and O of the outputs.
    """
    y = _CausalConvolution.apply(u, K)
    assert isinstance(y, Tensor)
    return y


class _CausalConvolution(torch.autograd.Function):
    """The convolution and its gradient.

    Autograd's own derivative of a real FFT is a complex one, of twice the work and memory. Records
    are taken a few at a time, so that intermediate results stay in the cache of a CPU.
    """

    @staticmethod
    def forward(ctx: Any, u: Tensor, K: Tensor) -> Tensor:
        B, L, _ = u.shape
        n = _fft_length(2 * L - 1)
        Kf = torch.fft.rfft(K, n)
        outputs, inputs, H, _ = K.shape
        y, spectra = u.new_empty(B, L, outputs * H), []
        at_once = max(1, VALUES_AT_ONCE // (L * inputs * H)) if u.device.type == "cpu" else B
        for u_part, y_part in zip(u.split(at_once), y.split(at_once), strict=True):
            U = _spectra(u_part, inputs, n)
            _write_filtered(y_part, U, Kf, n)
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
            _write_filtered(grad_part, G, adjoint, ctx.n)
            # The gradient of K is the correlation of u with g, conj(G) U, conjugated at the end:
            # G may be overwritten here, U would have to be copied.
            G.conj_physical_()
            for o in range(outputs):
                correlation[o] += (G[:, o, None] * U).sum(0)
        return grad_u, torch.fft.irfft(correlation.conj(), ctx.n)[..., : g.shape[1]]


def _fft_length(n: int) -> int:
    """Return a length >= n of small factors, many of them 2, for which an FFT is fast."""
    return 16 * cast(int, next_fast_len(math.ceil(n / 16), real=True))


def _spectra(u: Float[Tensor, "B L IH"], streams: int, n: int) -> Complex[Tensor, "B I H F"]:
    """Return the spectra of all channels, padded with zeros to length n."""
    padded = u.new_zeros(u.shape[0], u.shape[2], n)
    padded[..., : u.shape[1]] = u.mT
    return torch.fft.rfft(padded).unflatten(1, (streams, -1))


def _write_filtered(
    y: Float[Tensor, "B L OH"],
    U: Complex[Tensor, "B I H F"],
    Kf: Complex[Tensor, "O I H F"],
    n: int,
) -> None:
    """Multiply spectra with those of the kernels, sum over I, and write the series to y."""
    total = U[:, :1] * Kf[:, 0]  # (B, O, H, F)
    for i in range(1, U.shape[1]):
        total.addcmul_(U[:, i, None], Kf[:, i])
    y.copy_(torch.fft.irfft(total, n)[..., : y.shape[1]].flatten(1, 2).mT)
