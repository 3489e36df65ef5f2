"""Causal convolution against the direct sum."""

import pytest
import torch

from ls4.convolution import causal_convolution, mixing_convolution


@pytest.fixture(params=[2**18, 2 * 17 * 8, 1], ids=["whole batch", "in parts", "record by record"])
def parts(request, monkeypatch) -> None:
    monkeypatch.setattr("ls4.convolution.VALUES_AT_ONCE", request.param)


@pytest.mark.usefixtures("double", "parts")
def test_convolution_is_the_direct_sum() -> None:
    u, K = torch.randn(3, 17, 2, 4), torch.randn(5, 2, 4, 17)  # two streams to five, four channels
    direct = [
        sum(torch.einsum("oih,bih->boh", K[..., k], u[:, n - k]) for k in range(n + 1))
        for n in range(17)
    ]
    y = mixing_convolution(u.flatten(2), K)
    assert torch.allclose(y, torch.stack(direct, 1).flatten(2), atol=1e-12)
    one = causal_convolution(u[:, :, 0], K[0, 0])
    assert torch.allclose(one, mixing_convolution(u[:, :, 0], K[:1, :1]), atol=1e-12)


@pytest.mark.parametrize("L", [1, 6, 7])
@pytest.mark.usefixtures("double", "parts")
def test_convolution_gradient(L: int) -> None:
    u = torch.randn(2, L, 6, requires_grad=True)
    K = torch.randn(3, 2, 3, L, requires_grad=True)
    assert torch.autograd.gradcheck(mixing_convolution, (u, K))
