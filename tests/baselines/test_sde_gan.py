"""SDE-GAN: solvers against closed forms and their inverse, both players against the rules."""

import dataclasses
import math

import pytest
import torch
import torchsde
from torch import Tensor, nn

from baselines.sde_gan import (
    SDEGAN,
    Brownian,
    Discriminator,
    Dynamics,
    Generator,
    LipSwish,
    SDEGANConfig,
)
from harness.contract import Batch, Diverged, Shape

SMALL = SDEGANConfig(v=2, w=3, h=4, m=6, n=2, tau_max=5.0)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=seeded(seed))


def batch_of(x: Tensor) -> Batch:
    t = torch.linspace(0, 1, x.shape[1]).expand(x.shape[:2])
    return Batch(x, t, torch.ones_like(x), torch.ones_like(x))


def count(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def constant(net: nn.Sequential, value: Tensor) -> None:
    """Make an MLP that ends in tanh return `value` everywhere."""
    last = net[-2]
    assert isinstance(last, nn.Linear)
    with torch.no_grad():
        last.weight.zero_()
        last.bias.copy_(value.flatten().atanh())


def solved(sde: object, x0: Tensor, increments: Tensor) -> Tensor:
    steps = torch.arange(len(increments) + 1.0)
    bm = Brownian(increments)
    return torchsde.sdeint(sde, x0, steps, bm=bm, dt=1.0, method="reversible_heun")  # type: ignore


# -- sizes and start -----------------------------------------------------------------------------


def test_parameter_counts() -> None:
    released = SDEGANConfig(w=3, h=16, m=16)
    assert count(Generator(released, 1)) == 2049
    assert count(Discriminator(released, 1)) == 1169
    wide = SDEGANConfig(w=10)
    assert count(Generator(wide, 1)) == 15073
    assert count(Discriminator(wide, 1)) == 4385


def test_initial_parameters_are_scaled() -> None:
    plain = dataclasses.replace(SMALL, init_zeta=1.0, init_fields=1.0)
    found = []
    for config in (SMALL, plain):
        torch.manual_seed(0)
        found.append(Generator(config, 2).state_dict())
    for name, value in found[0].items():
        factor = {"zeta": 3.0, "mu": 0.5, "sigma": 0.5, "readout": 1.0}[name.partition(".")[0]]
        assert torch.equal(value, factor * found[1][name])


@pytest.mark.parametrize("stride", [0, 8])
def test_stride_that_leaves_no_two_rows_is_refused(stride: int) -> None:
    with pytest.raises(ValueError, match=f"expected a stride from 1 to 7, found {stride}"):
        SDEGAN(SDEGANConfig(stride=stride), Shape(8, 1))


# -- generator -----------------------------------------------------------------------------------


@pytest.mark.usefixtures("double")
def test_solver_against_reference_row_by_row() -> None:
    net, n, t = Generator(SMALL, 2), 3, torch.linspace(0, 1, 8)
    found = net(n, t, seeded())
    draws, dtau = seeded(), 5.0 / 7
    v, w = (torch.randn(*size, generator=draws) for size in ((n, 2), (7, n, 3)))
    x = z = net.zeta(v)

    def fields(k: int, z: Tensor) -> tuple[Tensor, Tensor]:
        tz = torch.cat([t[k].expand(n, 1), z], 1)
        return net.mu(tz), net.sigma(tz).view(n, 4, 3)

    rows = [x]
    for k in range(7):
        dw = math.sqrt(dtau) * w[k, :, :, None]
        mu, sigma = fields(k, z)
        z = 2 * x - z + mu * dtau + (sigma @ dw)[..., 0]
        mu_next, sigma_next = fields(k + 1, z)
        x = x + 0.5 * (mu + mu_next) * dtau + 0.5 * ((sigma + sigma_next) @ dw)[..., 0]
        rows.append(x)
    torch.testing.assert_close(found, net.readout(torch.stack(rows, 1)))


@pytest.mark.usefixtures("double")
def test_constant_fields_give_drift_and_brownian_motion() -> None:
    net = Generator(SMALL, 1)
    mu, sigma = torch.tensor([0.1, -0.2, 0.3, 0.0]), 0.5 * torch.rand(4, 3)
    constant(net.mu, mu)
    constant(net.sigma, sigma)
    sde = Dynamics(net.mu, net.sigma, torch.linspace(0, 1, 21), torch.tensor(0.25))
    x0, increments = normal(6, 4), normal(20, 6, 3, seed=1)
    x = solved(sde, x0, increments)
    w = torch.cat([torch.zeros(1, 6, 3), increments.cumsum(0)])
    tau = 0.25 * torch.arange(21)[:, None, None]
    torch.testing.assert_close(x, x0 + tau * mu + w @ sigma.T)


@pytest.mark.usefixtures("double")
def test_solver_runs_backwards() -> None:
    net, steps, dtau = Generator(SMALL, 1), 200, torch.tensor(0.1)
    sde = Dynamics(net.mu, net.sigma, torch.linspace(0, 1, steps + 1), dtau)
    x0, dw = normal(5, 4), dtau.sqrt() * normal(steps, 5, 3, seed=1)
    with torch.no_grad():
        x, (f1, g1, z1) = torchsde.sdeint(
            sde, x0, torch.arange(steps + 1.0), bm=Brownian(dw), dt=1.0,
            method="reversible_heun", extra=True,
        )  # fmt: skip
        y = x[-1]
        assert (y - x0).abs().max() > 0.1
        for k in reversed(range(steps)):
            back = dw[k, :, :, None]
            z0 = 2 * y - z1 - f1 - (g1 @ back)[..., 0]
            f0, g0 = sde.f_and_g(torch.tensor(k), z0)
            y = y - 0.5 * (f0 + f1) - 0.5 * ((g0 + g1) @ back)[..., 0]
            z1, f1, g1 = z0, f0, g0
    torch.testing.assert_close(y, x0, rtol=0, atol=1e-10)


class Geometric:
    """dX = a X dt + b X o dW in steps of dt: X = X_0 exp(a t + b W), of mean exp((a + b^2/2) t)."""

    noise_type, sde_type = "general", "stratonovich"
    a, b = 0.3, 0.8

    def __init__(self, dt: float):
        self.dt = dt

    def f_and_g(self, k: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.a * self.dt * x, self.b * x[..., None]


@pytest.mark.usefixtures("double")
def test_geometric_brownian_motion_is_that_of_stratonovich() -> None:
    n, finest = 20_000, 64
    fine = normal(finest, n, 1) / math.sqrt(finest)
    exact = torch.exp(Geometric.a + Geometric.b * fine.sum(0))
    errors = []
    for steps in (4, 16, 64):
        increments = fine.view(steps, -1, n, 1).sum(1)
        x = solved(Geometric(1 / steps), torch.ones(n, 1), increments)[-1]
        errors.append((x - exact).abs().mean().item())
    assert errors[1] < 0.5 * errors[0] and errors[2] < 0.5 * errors[1]
    mean = math.exp(Geometric.a + Geometric.b**2 / 2)
    assert x.mean().item() == pytest.approx(mean, rel=0.03)
    assert math.exp(Geometric.a) < 0.8 * mean  # the mean in the sense of Ito


@pytest.mark.usefixtures("double")
def test_gradients_are_those_of_the_reversible_adjoint() -> None:
    net, steps = Generator(SMALL, 1), 30
    x0, increments = normal(5, 4).requires_grad_(), 0.3 * normal(steps, 5, 3, seed=1)
    rows, weight = torch.arange(steps + 1.0), normal(steps + 1, 5, 4, seed=2)

    class Separate(nn.Module):  # the two networks one after the other
        noise_type, sde_type = "general", "stratonovich"
        mu, sigma = net.mu, net.sigma

        def f_and_g(self, k: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
            tx = torch.cat([(k / steps).expand(len(x), 1), x], 1)
            return 0.1 * net.mu(tx), net.sigma(tx).view(len(x), 4, 3)

    inputs = [x0, *net.mu.parameters(), *net.sigma.parameters()]
    sde = Dynamics(net.mu, net.sigma, torch.linspace(0, 1, steps + 1), torch.tensor(0.1))
    found = torch.autograd.grad((solved(sde, x0, increments) * weight).sum(), inputs)
    adjoint = torchsde.sdeint_adjoint(
        Separate(), x0, rows, bm=Brownian(increments), dt=1.0, method="reversible_heun",
        adjoint_method="adjoint_reversible_heun", adjoint_params=inputs[1:],
    )  # fmt: skip
    assert isinstance(adjoint, Tensor)
    expected = torch.autograd.grad((adjoint * weight).sum(), inputs)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-8)


@pytest.mark.parametrize("length", [2, 7, 52, 791])
def test_regular_times_take_one_step_a_row(length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    call = Brownian.__call__
    monkeypatch.setattr(
        Brownian, "__call__", lambda self, ta, tb=None: seen.append(float(ta)) or call(self, ta, tb)
    )
    with torch.no_grad():
        Generator(SMALL, 1)(1, torch.linspace(0, 1, length), seeded())
    assert seen == list(range(length - 1))


@pytest.mark.usefixtures("double")
def test_path_is_linear_between_steps() -> None:
    net = Generator(SMALL, 2)
    regular = net(3, torch.linspace(0, 1, 5), seeded())
    irregular = net(3, torch.tensor([0.0, 0.25, 0.3, 0.75, 1.0]), seeded())
    torch.testing.assert_close(irregular[:, [0, 1, 3, 4]], regular[:, [0, 1, 3, 4]])
    torch.testing.assert_close(irregular[:, 2], 0.8 * regular[:, 1] + 0.2 * regular[:, 2])


# -- discriminator -------------------------------------------------------------------------------


@pytest.fixture
def critic(double: object) -> Discriminator:
    return Discriminator(SMALL, 2)


def test_critic_against_reference_row_by_row(critic: Discriminator) -> None:
    t, y = torch.linspace(0, 1, 9), normal(5, 9, 2)
    path = torch.cat([5.0 * t[None, :, None].expand(5, -1, 1), y], -1)
    h = z = critic.xi(path[:, 0])

    def f(k: int, z: Tensor) -> Tensor:
        return critic.f(torch.cat([t[k].expand(5, 1), z], 1)).view(5, 4, 3)

    before = f(0, z)
    for k in range(8):
        dz = (path[:, k + 1] - path[:, k])[..., None]
        z = 2 * h - z + (before @ dz)[..., 0]
        after = f(k + 1, z)
        h = h + (0.5 * (before + after) @ dz)[..., 0]
        before = after
    torch.testing.assert_close(critic(t, y), critic.readout(h)[:, 0])


def test_constant_field_gives_the_increment_of_the_path(critic: Discriminator) -> None:
    m = torch.rand(4, 3) - 0.5
    constant(critic.f, m)
    t, y = torch.linspace(0, 1, 9), normal(5, 9, 2)
    first = torch.cat([torch.zeros(5, 1), y[:, 0]], -1)
    change = torch.cat([torch.full((5, 1), 5.0), y[:, -1] - y[:, 0]], -1)
    expected = critic.readout(critic.xi(first) + change @ m.T)[:, 0]
    torch.testing.assert_close(critic(t, y), expected)

    # so an additional row on the line between two others changes nothing,
    t_more = torch.cat([t[:4], (0.3 * t[3] + 0.7 * t[4])[None], t[4:]])
    y_more = torch.cat([y[:, :4], 0.3 * y[:, [3]] + 0.7 * y[:, [4]], y[:, 4:]], 1)
    torch.testing.assert_close(critic(t_more, y_more), expected)
    # nor do other times between the same ends
    torch.testing.assert_close(critic(t.square(), y), expected)


def test_critic_sees_the_order_of_the_rows(critic: Discriminator) -> None:
    y = normal(5, 9, 2)
    swapped = y[:, [0, 2, 1, *range(3, 9)]]
    t = torch.linspace(0, 1, 9)
    assert ((critic(t, y) - critic(t, swapped)).abs() > 1e-6).all()


def test_no_layer_expands_after_clipping(critic: Discriminator) -> None:
    with torch.no_grad():
        for parameter in critic.parameters():
            parameter.mul_(100)
    biases = [p.clone() for name, p in critic.named_parameters() if name.endswith("bias")]
    critic.clip()
    for layer in critic.modules():
        if isinstance(layer, nn.Linear):
            assert layer.weight.abs().sum(0).max() <= 1 + 1e-12
            assert layer.weight.abs().max() > 0.5 / layer.out_features
    after = [p for name, p in critic.named_parameters() if name.endswith("bias")]
    assert all(torch.equal(a, b) for a, b in zip(biases, after, strict=True))


@pytest.mark.usefixtures("double")
def test_lip_swish_has_slope_of_at_most_one() -> None:
    x = torch.linspace(-20, 20, 100_001, requires_grad=True)
    (slope,) = torch.autograd.grad(LipSwish()(x).sum(), x)
    assert 0.999 < slope.abs().max() <= 1


# -- game ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("frozen", ["generator", "discriminator"])
@pytest.mark.usefixtures("double")
def test_each_player_moves_its_own_way(frozen: str) -> None:
    config = dataclasses.replace(SMALL, weight_decay=0.0, lr_generator=1e-3, lr_discriminator=1e-3)
    config = dataclasses.replace(config, **{f"lr_{frozen}": 0.0})
    model, batch = SDEGAN(config, Shape(9, 2)), batch_of(normal(16, 9, 2))
    model.discriminator.clip()
    still = [p.clone() for p in getattr(model, frozen).parameters()]
    optimiser = model.optimisers()["main"].optimiser

    def step() -> float:
        loss = next(model.training_step(batch, 0, seeded())).value
        optimiser.zero_grad()
        loss.backward()
        return loss.item()

    first = step()
    optimiser.step()
    second = step()
    assert second > first if frozen == "discriminator" else second < first
    after = getattr(model, frozen).parameters()
    assert all(torch.equal(a, b) for a, b in zip(still, after, strict=True))


def test_weights_are_clipped_when_the_optimiser_has_stepped() -> None:
    model = SDEGAN(SMALL, Shape(9, 1))
    step = model.training_step(batch_of(normal(4, 9, 1)), 0, seeded())
    next(step).value.backward()
    with torch.no_grad():
        model.discriminator.readout.weight.fill_(3.0)
    assert next(step, None) is None
    assert (model.discriminator.readout.weight == 1).all()


def test_training_sees_every_kth_row_of_the_normalised_series(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = SDEGAN(dataclasses.replace(SMALL, stride=3), Shape(9, 2))
    x, seen = 5 + 2 * normal(4, 9, 2), []
    model.calibrate(batch_of(x))
    critic = model.discriminator.forward
    monkeypatch.setattr(
        model.discriminator, "forward", lambda t, y: seen.append((t, y)) or critic(t, y)
    )
    next(model.training_step(batch_of(x), 0, seeded()))
    ((t, y),) = seen
    torch.testing.assert_close(t, torch.tensor([0, 3 / 8, 6 / 8]))
    torch.testing.assert_close(y[:4], (x[:, ::3] - model.offset) / model.scale)
    assert y.shape == (8, 3, 2)


def test_normalisation_is_by_the_initial_values() -> None:
    model = SDEGAN(SMALL, Shape(9, 2))
    x = normal(50, 9, 2)
    x[:, 0] = torch.tensor([2.0, -1.0]) + torch.tensor([3.0, 1e-3]) * normal(50, 2, seed=1)
    model.calibrate(batch_of(x))
    torch.testing.assert_close(model.offset, x[:, 0].mean(0))
    expected = [x[:, 0, 0].std(correction=0), 0.5 * x[..., 1].std(correction=0)]  # of two channels
    torch.testing.assert_close(model.scale, torch.stack(expected))
    constant_series = torch.full((5, 9, 2), 4.0)
    model.calibrate(batch_of(constant_series))
    assert (model.scale == 1).all() and (model.offset == 4).all()


def test_samples_are_the_generators_paths_in_the_datas_units() -> None:
    model, t = SDEGAN(SMALL, Shape(9, 2)), torch.linspace(0, 1, 9)
    model.offset.copy_(torch.tensor([2.0, -1.0]))
    model.scale.copy_(torch.tensor([3.0, 0.5]))
    expected = model.offset + model.scale * model.generator(4, t, seeded())
    assert torch.equal(model.sample(4, t, seeded()), expected)
    with torch.no_grad():
        model.generator.readout.bias.fill_(math.inf)
    with pytest.raises(Diverged, match="not finite"):
        model.sample(4, t, seeded())
