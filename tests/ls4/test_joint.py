"""The layer of two streams: its size, its kernels, its norms."""

import pytest
import torch
from torch import nn

from ls4.joint import JointLayer, StreamNorm


@pytest.mark.parametrize("width", [3, 64])
def test_parameters_of_a_layer(width: int) -> None:
    """Per channel 5 times 32 complex numbers (A, B, E, C_z, C_x), dt, 4 skips; and the mixers."""
    count = sum(p.numel() for p in JointLayer(2 * width, 64).parameters())
    assert count == 4 * width**2 + 329 * width


def test_each_stream_reaches_each_through_its_own_vectors(double) -> None:
    """K^{rs} = 2 Re(C_s Abar^l A^-1 (Abar - 1) B_r), and the skip at lag 0."""
    ssm = JointLayer(6, 8).ssm
    impulse = torch.zeros(2, 9, 2, 3)  # one in each stream, in every channel
    impulse[0, 0, 0] = impulse[1, 0, 1] = 1
    response = ssm(impulse.flatten(2)).unflatten(-1, (2, 3))  # (from, L, to, H)
    dt = ssm.log_dt.exp()[:, None]
    A, B, C = ssm.Lambda, torch.view_as_complex(ssm.B), torch.view_as_complex(ssm.C)
    for r in range(2):
        for s in range(2):
            for lag in range(9):
                state = torch.exp(lag * dt * A) * (torch.exp(dt * A) - 1) / A * B[r]
                expected = 2 * (C[s] * state).sum(-1).real + (ssm.D[s, r] if lag == 0 else 0)
                assert torch.allclose(response[r, lag, s], expected, atol=1e-10)


def test_norms_do_not_mix_streams() -> None:
    norm, v = StreamNorm(6), torch.randn(2, 5, 6)
    expected = [nn.functional.layer_norm(stream, (3,)) for stream in v.chunk(2, -1)]
    assert torch.allclose(norm(v), torch.cat(expected, -1))


def test_an_odd_state_is_refused() -> None:
    with pytest.raises(ValueError, match="expected an even number, found 7"):
        JointLayer(4, 7)
