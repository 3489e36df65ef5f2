"""Networks against the released ones, causality, and their two modes."""

import math

import pytest
import torch

from ls4.blocks import GaussianNetwork, Network, TimeEmbedding
from tests.ls4.reference_networks import reference_network
from tests.ls4.series import SMALL, even, stepped


@pytest.mark.parametrize("name", ["nopool_heads", "pool1_heads", "pool5_plain"])
def test_released_networks_are_reproduced_in_both_modes(name: str) -> None:
    network, arrays = reference_network(name)
    with torch.no_grad():
        convolved = network(arrays["input"])
        convolved = convolved if isinstance(convolved, tuple) else (convolved,)
        recurrent = stepped(network, arrays["input"], even(arrays["input"]))
    for outputs in (list(convolved), recurrent):
        if "mean" in arrays:
            assert torch.allclose(outputs[0], arrays["mean"], rtol=0, atol=1e-4)
            assert torch.allclose(outputs[1].exp(), arrays["std"], rtol=0, atol=1e-4)
        else:
            assert torch.allclose(outputs[0], arrays["output"], rtol=0, atol=1e-4)


@pytest.mark.parametrize("kernel", ["dplr", "diagonal"])
@pytest.mark.parametrize("pool, d_temb", [((), 0), ((1,), 0), ((5,), 0), ((2, 3), 0), ((), 6)])
def test_step_equals_convolution(kernel, pool, d_temb) -> None:
    sizes = {"width": 16, "state": 64, "n_pairs": 2, "pool": pool, "d_temb": d_temb}
    network = GaussianNetwork(2, 3, log_std_range=(-7.0, 5.0), **sizes, kernel=kernel)
    u, t = torch.randn(2, 210, 2), torch.rand(2, 210).sort(1).values
    with torch.no_grad():
        for convolved, recurrent in zip(network(u, t), stepped(network, u, t), strict=True):
            assert torch.allclose(convolved, recurrent, atol=1e-4)


def test_deviations_are_clamped_in_both_modes() -> None:
    limits = (-0.01, 0.02)
    network = GaussianNetwork(2, 3, log_std_range=limits, **SMALL, pool=())
    u = torch.randn(2, 20, 2)
    with torch.no_grad():
        for _, log_std in (network(u), stepped(network, u, even(u))):
            assert (log_std.min().item(), log_std.max().item()) == pytest.approx(limits)


@pytest.mark.parametrize("pool", [(), (1,), (5,), (2, 3)])
def test_networks_are_causal(pool) -> None:
    network = Network(1, 1, **SMALL, pool=pool, kernel="dplr").double()
    u = torch.randn(1, 30, 1, dtype=torch.float64, requires_grad=True)
    for n in (0, 4, 13, 29):
        (gradient,) = torch.autograd.grad(network(u)[0, n, 0], u)
        gradient = gradient.abs().flatten()
        assert gradient[n] > 0
        assert gradient[n + 1 :].sum() <= 1e-10 * gradient.sum()


def test_coarse_path_contributes_nothing_to_the_first_group() -> None:
    network = Network(1, 1, **SMALL, pool=(5,), kernel="dplr")
    u = torch.randn(2, 20, 1)
    with torch.no_grad():
        before = network(u)
        network.level.up.weight.mul_(3)
        after = network(u)
    # all of Up acts from the second group on; the delay is filled with zeros, bias included
    assert torch.allclose(before[:, :5], after[:, :5], atol=1e-5)
    assert not torch.allclose(before[:, 5:], after[:, 5:], atol=1e-2)


def test_time_embedding() -> None:
    """Released: sinusoids of t at exp(-k ln(10000) / 63), then Linear, SiLU, Linear."""
    embedding = TimeEmbedding(64)
    t = torch.tensor([[0.0, 0.3], [0.7, 1.0]])
    f = torch.exp(-torch.arange(64) * math.log(10_000) / 63)
    sinusoids = torch.cat([torch.sin(t[..., None] * f), torch.cos(t[..., None] * f)], -1)
    hidden = torch.nn.functional.silu(embedding[0](sinusoids))
    assert hidden.shape == (2, 2, 256)
    assert torch.allclose(embedding(t), embedding[2](hidden), atol=1e-6)
