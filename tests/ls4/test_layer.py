"""The S4 layer: its two modes, kernels held ready, training, sizes."""

import math

import pytest
import torch
from torch import Tensor

from ls4.blocks import GaussianNetwork
from ls4.kernel import kernel
from ls4.layer import DT_MAX, DT_MIN, SSM, S4Layer, kernels_at_once, parameter_groups
from tests.ls4.systems import STRUCTURES, accuracy


@pytest.mark.parametrize("structure, init, discretisation", STRUCTURES)
@pytest.mark.parametrize("L", [1, 100, 791])
def test_layer_step_equals_convolution(structure, init, discretisation, L: int) -> None:
    layer = S4Layer(6, 64, structure, init, discretisation)
    u = torch.randn(3, L, 6)
    with torch.no_grad():
        step = layer.stepper(3)
        stepped = torch.stack([step(v) for v in u.unbind(1)], 1)
        assert torch.allclose(layer(u), stepped, atol=accuracy(init))


def test_layer_is_causal_and_shift_invariant() -> None:
    layer = S4Layer(4, 16).double()
    u = torch.randn(1, 40, 4, dtype=torch.float64)
    changed = u.clone()
    changed[:, 25:] += 1
    with torch.no_grad():
        y = layer(u)
        assert torch.allclose(layer(changed)[:, :25], y[:, :25], atol=1e-10)
        assert not torch.allclose(layer(changed)[:, 25], y[:, 25], atol=1e-3)
        shifted = torch.cat([torch.zeros(1, 5, 4, dtype=u.dtype), u], 1)
        assert torch.allclose(layer.ssm(shifted)[:, 5:], layer.ssm(u), atol=1e-10)


@pytest.mark.parametrize("structure", ["dplr", "diagonal"])
def test_kernels_at_once_are_the_kernels_one_by_one(
    structure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ls4.layer.SYSTEMS_AT_ONCE", 20)  # parts that end inside a layer
    sizes = {"width": 8, "state": 8, "n_pairs": 1, "pool": (2, 3)}
    network = GaussianNetwork(2, 3, log_std_range=(-7.0, 5.0), **sizes, kernel=structure).double()
    u = torch.randn(2, 42, 2, dtype=torch.float64)
    parameters = list(network.parameters())

    def results() -> tuple[Tensor, ...]:
        mean, log_std = network(u)
        gradients = torch.autograd.grad((mean * log_std).sum(), parameters)
        return (mean, log_std, *gradients)

    one_by_one = results()
    with kernels_at_once(network, 42):
        systems = [m for m in network.modules() if isinstance(m, SSM)]
        assert all(ssm.ready is not None for ssm in systems)
        at_once = results()
    with kernels_at_once(network, 36):
        too_long = network(u)
    assert all(ssm.ready is None for ssm in systems)
    with kernels_at_once(network, 2000):
        assert all(ssm.ready is None for ssm in systems), "kernels of a long sequence are held"
    for a, b in zip(one_by_one, at_once, strict=True):
        assert torch.allclose(a, b, rtol=1e-9, atol=1e-12)
    for a, b in zip(one_by_one, too_long, strict=False):  # the first two are the outputs
        assert torch.allclose(a, b, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("structure, init, discretisation", STRUCTURES)
def test_systems_stay_stable_under_training(structure, init, discretisation) -> None:
    layer = S4Layer(4, 16, structure, init, discretisation)
    optimiser = torch.optim.AdamW(parameter_groups(layer, 1e-2))
    u = torch.randn(8, 50, 4)
    for _ in range(100):
        optimiser.zero_grad()
        (layer(u) - u.flip(1)).square().mean().backward()
        optimiser.step()
    with torch.no_grad():
        K = kernel(layer.ssm.discretise(), 20480)
        assert K.isfinite().all()
        system = layer.ssm.discretise()
        assert (system.a.abs() < 1).all()
        assert K[:, -1000:].abs().max() <= K.abs().max()


def test_initial_steps_and_sizes() -> None:
    ssm = SSM(2000, 8, "dplr", "legs", "bilinear")
    dt = ssm.log_dt.exp()
    assert DT_MIN <= dt.min() < 1.2 * DT_MIN and 0.8 * DT_MAX < dt.max() <= DT_MAX
    assert ssm.log_dt.mean().item() == pytest.approx(math.log(DT_MIN * DT_MAX) / 2, abs=0.15)
    assert ssm.C.square().sum(-1).mean().item() == pytest.approx(1, abs=0.1)
    for H in (5, 64, 128):
        n = sum(p.numel() for p in S4Layer(H, 64).parameters())
        assert n == 2 * H**2 + 260 * H
        n = sum(p.numel() for p in S4Layer(H, 64, "diagonal", "legs", "zoh").parameters())
        assert n == 2 * H**2 + 196 * H


def test_parameter_groups_partition_the_parameters() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), S4Layer(4, 8), S4Layer(4, 8))
    rest, dynamics = parameter_groups(model, 0.01, weight_decay=0.1)
    grouped = [id(p) for group in (rest, dynamics) for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in model.parameters())
    assert len(dynamics["params"]) == 2 * 5  # log_dt, A (two), B, P of each layer
    assert (dynamics["lr"], dynamics["weight_decay"]) == (1e-3, 0.0)
    assert (rest["lr"], rest["weight_decay"]) == (0.01, 0.1)
    assert any(p is model[1].ssm.C for p in rest["params"])


def test_wrong_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="state size N: expected an even number, found 7"):
        SSM(2, 7, "diagonal", "legs", "zoh")
    with pytest.raises(ValueError, match="a dplr system: expected init 'legs'"):
        SSM(2, 8, "dplr", "lin", "bilinear")
