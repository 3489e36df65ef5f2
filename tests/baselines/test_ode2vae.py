"""ODE2VAE: paths, densities and traces against closed forms, autograd and an adaptive solver."""

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Independent, MultivariateNormal, Normal, kl_divergence
from torchdiffeq import odeint

from baselines.ode2vae import ODE2VAE, Field, ODE2VAEConfig, interpolate, log_normal, transport
from harness.contract import Batch, Diverged, Shape


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def built(length: int = 12, channels: int = 2, **changes: object) -> ODE2VAE:
    sizes = {"latents": 3, "units": 5, "amort_len": 4} | changes
    return ODE2VAE(ODE2VAEConfig(**sizes), Shape(length, channels))  # type: ignore[arg-type]


def batch_of(model: ODE2VAE, n: int = 4) -> Batch:
    length, channels = model.shape.length, model.shape.channels
    x = torch.randn(n, length, channels, generator=seeded())
    ones = torch.ones_like(x)
    return Batch(x, torch.linspace(0, 1, length).expand(n, -1), ones, ones)


def drawn_field(q: int = 3, units: int = 5, scale: float = 0.6) -> Field:
    """A draw of weights of which none is small."""
    model = built(latents=q, units=units)
    torch.nn.init.normal_(model.acceleration.m, std=scale, generator=seeded(1))
    return Field(*(w.detach() for w in model.acceleration.draw(seeded(2))))


class Linear(Field):
    """The field with acceleration A z, A of shape (q, 2q) in the place of `w3`."""

    def dz(self, z: Tensor) -> Tensor:
        return torch.cat([z @ self.w3.T, z[..., : len(self.w3)]], -1)

    def dz_and_trace(self, z: Tensor) -> tuple[Tensor, Tensor]:
        return self.dz(z), self.w3[:, : len(self.w3)].trace().expand(z.shape[:-1])


def linear_field(a: Tensor) -> Linear:
    q, none = len(a), torch.zeros(1)
    return Linear(torch.zeros(1, 2 * q), none, torch.zeros(1, 1), none, a, torch.zeros(q))


def integrate(model: ODE2VAE, field: Field, z0: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """z and the change of log q at the times t, as in training."""
    path = model.solve(field, z0, t)
    dz, trace, integral = transport(field, path)
    position = model.position(t)
    z = interpolate(position, path.z, dz * path.h)
    log_q = interpolate(position, -integral[..., None], -trace[..., None] * path.h)
    return z, log_q[..., 0]


# -- the field -----------------------------------------------------------------------------------


@pytest.mark.usefixtures("double")
def test_trace_against_autograd_and_finite_differences() -> None:
    field = drawn_field()
    z = torch.randn(4, 6, generator=seeded())
    dz, trace = field.dz_and_trace(z)
    torch.testing.assert_close(dz, field.dz(z))
    step = 1e-5 * torch.eye(6)
    for i in range(4):
        jacobian = torch.autograd.functional.jacobian(field.dz, z[i])
        torch.testing.assert_close(trace[i], jacobian.trace())  # of all of z
        torch.testing.assert_close(trace[i], jacobian[:3, :3].trace())  # of da/dv
        difference = (field.dz(z[i] + step) - field.dz(z[i] - step)).diagonal().sum() / 2e-5
        torch.testing.assert_close(trace[i], difference, rtol=0, atol=1e-8)
    assert trace.abs().min() > 1e-3


def test_acceleration_is_the_mlp_and_position_moves_at_the_velocity() -> None:
    field = drawn_field()
    v, s = torch.randn(2, 4, 3, generator=seeded())
    h = torch.tanh(torch.cat([v, s], -1) @ field.w1.T + field.b1)
    a = torch.tanh(h @ field.w2.T + field.b2) @ field.w3.T + field.b3
    torch.testing.assert_close(field.dz(torch.cat([v, s], -1)), torch.cat([a, v], -1))


def test_a_draw_is_fixed_and_draws_differ() -> None:
    acceleration = built().acceleration
    z = torch.randn(4, 6, generator=seeded())
    field, other = acceleration.draw(seeded()), acceleration.draw(seeded(1))
    assert torch.equal(field.dz(z), field.dz(z))
    assert not torch.equal(field.dz(z), other.dz(z))


def test_without_deviation_the_weights_are_their_means() -> None:
    acceleration = built().acceleration
    torch.nn.init.constant_(acceleration.log_lambda, -200.0)
    weights = torch.cat([w.flatten() for w in acceleration.draw(seeded())])
    assert torch.equal(weights, acceleration.m)


def test_kl_of_the_weights() -> None:
    acceleration = built().acceleration
    for p in acceleration.parameters():
        torch.nn.init.normal_(p, generator=seeded())
    q = Normal(acceleration.m, acceleration.log_lambda.exp())
    torch.testing.assert_close(acceleration.kl(), kl_divergence(q, Normal(0.0, 1.0)).sum())


def test_beta() -> None:
    assert ODE2VAE(ODE2VAEConfig(), Shape(52, 1)).beta == pytest.approx(8 / 9928)


# -- paths and densities -------------------------------------------------------------------------


@pytest.mark.usefixtures("double")
def test_linear_field_against_matrix_exponential() -> None:
    """And z is of the fourth order, log q exact whatever the step."""
    a = torch.randn(3, 6, generator=seeded(1)) - torch.eye(3, 6)
    whole = torch.cat([a, torch.eye(3, 6)])
    z0 = torch.randn(4, 6, generator=seeded(2))
    t = torch.tensor([0.0, 0.1, 0.14, 0.5, 0.77, 1.0])  # between nodes, too
    flow = torch.linalg.matrix_exp(2 * t[:, None, None] * whole)
    exact = torch.einsum("lij,bj->bli", flow, z0)
    error = {}
    for nodes in (20, 40, 80):
        model = built(nodes=nodes, time_scale=2.0)
        z, log_q = integrate(model, linear_field(a), z0, t)
        error[nodes] = (z - exact).abs().max().item()
        torch.testing.assert_close(log_q, (-2 * t * a[:, :3].trace()).expand(4, -1))
    assert error[80] < 1e-5 * exact.abs().max()
    for coarse, fine in ((20, 40), (40, 80)):
        assert 11 < error[coarse] / error[fine] < 22


def test_without_acceleration_positions_are_straight() -> None:
    model, t = built(), torch.linspace(0, 1, 12)
    z0 = torch.randn(4, 6, generator=seeded())
    z, log_q = integrate(model, linear_field(torch.zeros(3, 6)), z0, t)
    v0, s0 = z0[:, None].chunk(2, -1)
    torch.testing.assert_close(z[..., :3], v0.expand(-1, 12, -1))
    torch.testing.assert_close(z[..., 3:], s0 + 10 * t[:, None] * v0)
    assert not log_q.any()


@pytest.mark.usefixtures("double")
def test_harmonic_oscillator_keeps_its_energy_to_the_solvers_order() -> None:
    a = torch.cat([torch.zeros(3, 3), -4 * torch.eye(3)], -1)  # frequency 2
    z0 = torch.randn(4, 6, generator=seeded())
    drift = {}
    for nodes in (50, 100):
        model = built(nodes=nodes)
        z, log_q = integrate(model, linear_field(a), z0, torch.linspace(0, 1, 12))
        v, s = z.chunk(2, -1)
        energy = 0.5 * v.square().sum(-1) + 2 * s.square().sum(-1)
        drift[nodes] = (energy / energy[:, :1] - 1).abs().max().item()
        assert not log_q.any()
    assert drift[100] < 2e-3 and drift[50] / drift[100] > 14


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("nodes", [None, 50])
def test_path_and_density_against_an_adaptive_solver_of_the_augmented_state(
    nodes: int | None,
) -> None:
    model, field = built(length=121, nodes=nodes, time_scale=3.0), drawn_field()
    z0 = torch.randn(4, 6, generator=seeded())
    t = torch.linspace(0, 1, 121)

    def augmented(_: Tensor, state: Tensor) -> Tensor:
        dz, trace = field.dz_and_trace(state[..., :-1])
        return torch.cat([dz, -trace[..., None]], -1)

    start = torch.cat([z0, torch.zeros(4, 1)], -1)
    exact = odeint(augmented, start, 3 * t, rtol=1e-9, atol=1e-9)
    assert isinstance(exact, Tensor)
    z, log_q = integrate(model, field, z0, t)
    torch.testing.assert_close(z, exact[..., :-1].transpose(0, 1), rtol=0, atol=1e-4)
    torch.testing.assert_close(log_q, exact[..., -1].T, rtol=0, atol=1e-4)
    assert log_q.abs().max() > 0.1


@pytest.mark.usefixtures("double")
def test_density_is_that_of_the_flow_map() -> None:
    model, field = built(nodes=200, time_scale=2.0), drawn_field()
    z0 = torch.randn(6, generator=seeded())
    t = torch.tensor([0.0, 1.0])
    jacobian = torch.autograd.functional.jacobian(
        lambda z: integrate(model, field, z[None], t)[0][0, -1], z0
    )
    change = integrate(model, field, z0[None], t)[1][0, -1]
    torch.testing.assert_close(change, -torch.linalg.slogdet(jacobian)[1], rtol=0, atol=1e-6)


@pytest.mark.usefixtures("double")
def test_backwards_returns_to_the_start() -> None:
    """The path of (-v, s) under a(-v, s) is the path reversed in time."""
    model, field, t = built(nodes=100, time_scale=3.0), drawn_field(), torch.linspace(0, 1, 12)
    z0 = torch.randn(4, 6, generator=seeded())
    mirror = torch.tensor([-1.0] * 3 + [1.0] * 3)
    end = model.solve(field, z0, t).z[-1]
    assert (end - z0).abs().max() > 0.5
    back = model.solve(field._replace(w1=field.w1 * mirror), end * mirror, t).z[-1] * mirror
    torch.testing.assert_close(back, z0, rtol=0, atol=1e-6)


def test_only_the_time_since_the_first_row_matters() -> None:
    model, t = built(nodes=7), torch.linspace(0, 0.5, 12)
    torch.testing.assert_close(
        model.sample(3, t, seeded()), model.sample(3, t + 0.5, seeded()), rtol=0, atol=1e-5
    )


def test_explosive_dynamics_are_divergence() -> None:
    model = built()
    with torch.no_grad():
        model.acceleration.m.fill_(1e38)
    with pytest.raises(Diverged, match="left the finite numbers"):
        model.sample(3, torch.linspace(0, 1, 12), seeded())


# -- encoder, objective --------------------------------------------------------------------------


def test_encoder_reads_its_window_alone() -> None:
    model = built()
    x = batch_of(model).x
    mu, log_sigma = model.encode(x)
    assert mu.shape == log_sigma.shape == (4, 9, 6)
    for i in (0, 3, 8):
        v = model.encode_v(x[:, i : i + 4].transpose(1, 2).flatten(1))
        s = model.encode_s(x[:, i])
        torch.testing.assert_close(mu[:, i], torch.cat([v[:, :3], s[:, :3]], -1))
        torch.testing.assert_close(log_sigma[:, i], torch.cat([v[:, 3:], s[:, 3:]], -1))


@pytest.mark.usefixtures("double")
def test_kl_at_the_first_row_is_the_gaussians() -> None:
    """The mean of log q - log p over many draws; without the - sum log sigma it is far off."""
    model = built(amort_len=1)
    q = Normal(torch.tensor([0.5, -1, 0, 2, 0.1, 0]), torch.tensor([0.2, 1, 3, 0.5, 0.1, 2]))
    for net, part in ((model.encode_v, slice(3)), (model.encode_s, slice(3, 6))):
        for p in net.parameters():
            torch.nn.init.zeros_(p)
        net[-1].bias.data = torch.cat([q.loc[part], q.scale[part].log()])  # type: ignore[index]
    n = 100_000
    x = torch.zeros(n, 12, 2)
    batch = Batch(x, torch.linspace(0, 1, 12).expand(n, -1), torch.ones_like(x), torch.ones_like(x))
    model.rows = lambda step: 1  # type: ignore[method-assign]
    found = model.loss(batch, 0, seeded()).logs
    expected = kl_divergence(q, Normal(0.0, 1.0)).sum()
    assert found["kl"].item() == pytest.approx(expected.item(), abs=0.03)
    assert found["penalty"].abs() < 1e-9  # the state is drawn from the encoder itself


@pytest.mark.usefixtures("double")
def test_loss_against_its_definition() -> None:
    """Series by series and row by row, with the Jacobian of the flow in the place of the trace."""
    model = built(channels=1, gamma=0.7, time_scale=2.0, nodes=44)
    torch.nn.init.normal_(model.acceleration.m, std=0.6, generator=seeded(1))
    batch, generator = batch_of(model, 2), seeded(5)
    batch.target[1, 3] = 0  # and its mask: one tensor
    loss = model.loss(batch, 12, seeded(5))
    rows = 2 + 12 // 4
    t = batch.t[0, :rows]
    eps = torch.randn(2, 6, generator=generator)
    field = model.acceleration.draw(generator)
    mu, log_sigma = model.encode(batch.visible)
    total = 2 * model.beta * model.acceleration.kl()
    for b in range(2):
        q0 = MultivariateNormal(mu[b, 0], (2 * log_sigma[b, 0]).exp().diag())
        z0 = mu[b, 0] + log_sigma[b, 0].exp() * eps[b]
        flow = lambda z: integrate(model, field, z[None], t)[0][0]  # noqa: E731
        jacobian = torch.autograd.functional.jacobian(flow, z0)
        for i, z in enumerate(flow(z0)):
            log_q = q0.log_prob(z0) - torch.linalg.slogdet(jacobian[i])[1]
            x_hat = model.decoder(z[3:])
            log_p = Normal(x_hat, 0.1).log_prob(batch.x[b, i]).sum() * batch.target[b, i, 0]
            total = total - log_p + log_q - log_normal(z)
            q_i = Independent(Normal(mu[b, min(i, 8)], log_sigma[b, min(i, 8)].exp()), 1)
            total = total + 0.7 * (log_q - q_i.log_prob(z))
    assert rows <= 9  # a window begins at every row that is fitted
    torch.testing.assert_close(loss.value, total / 2 / rows, rtol=1e-5, atol=0)


def test_curriculum() -> None:
    model = built(length=100, steps_per_row=3)
    assert [model.rows(step) for step in (0, 2, 3, 60, 240, 10_000)] == [20, 20, 21, 40, 100, 100]
    assert built().rows(0) == 5  # a window and a row
    batch = batch_of(model)
    later = Batch(batch.x.clone(), batch.t, batch.mask, batch.target)
    later.x[:, 24:] += 1  # row 19's window reads up to row 22
    assert torch.equal(model.loss(batch, 0, seeded()).value, model.loss(later, 0, seeded()).value)
    assert model.loss(batch, 30, seeded()).value != model.loss(later, 30, seeded()).value


def test_every_parameter_learns_and_the_gradient_is_clipped() -> None:
    model = built()
    assert model.optimisers()["main"].max_norm == 5
    model.loss(batch_of(model), 100, seeded()).value.backward()
    assert all(p.grad is not None and p.grad.any() for p in model.parameters())


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"amort_len": 12}, "expected 1 <= amort_len < 12, .* found 12"),
        ({"amort_len": 0}, "amort_len"),
        ({"nodes": 0}, "expected nodes >= 1, found 0"),
    ],
)
def test_unusable_configuration(changes: dict[str, int], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        built(**changes)


def test_samples_are_decoded_positions_of_standard_normal_states() -> None:
    model, t = built(), torch.linspace(0, 1, 12)
    torch.nn.init.constant_(model.acceleration.log_lambda, -math.inf)
    torch.nn.init.zeros_(model.acceleration.m)
    x = model.sample(5, t, seeded())
    v0, s0 = torch.randn(5, 6, generator=seeded())[:, None].chunk(2, -1)
    torch.testing.assert_close(x, model.decoder(s0 + 10 * t[:, None] * v0))
