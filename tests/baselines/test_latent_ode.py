"""Latent ODE: the encoder against a row-by-row reference, the decoder against closed forms."""

import math

import pytest
import torch
from torch import Tensor, nn

from baselines.latent_ode import LatentODE, LatentODEConfig
from harness.contract import Batch, Diverged, Shape


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def built(**changes: object) -> LatentODE:
    return LatentODE(LatentODEConfig(**changes), Shape(12, 2))  # type: ignore[arg-type]


class Field(nn.Module):
    """A field given as a function."""

    def __init__(self, function):  # type: ignore[no-untyped-def]
        super().__init__()
        self.function = function

    def forward(self, z: Tensor) -> Tensor:
        return self.function(z)


# -- encoder -------------------------------------------------------------------------------------


def reference_encoder(model: LatentODE, x: Tensor, mask: Tensor, t: Tensor) -> Tensor:
    """[y, s] of one record (L, D), written row by row from the equations."""
    e, h = model.ode_rnn, model.config.rec_dims
    units = model.config.gru_units
    w_state = torch.cat([e.state_to_ur.weight, e.state_to_n.weight])
    w = torch.cat([w_state, e.input_to_urn.weight], 1)  # first layers of U, R and N, whole
    b = e.input_to_urn.bias
    first = [(w[k * units : (k + 1) * units], b[k * units : (k + 1) * units]) for k in range(3)]

    def gate(k: int, out: nn.Linear, *inputs: Tensor) -> Tensor:
        weight, bias = first[k]
        return out(torch.tanh(weight @ torch.cat(inputs) + bias))

    y, s = torch.zeros(h), torch.zeros(h)
    now = t[mask.any(1)][-1]  # nothing happens before the first row that is read
    for i in reversed(range(len(t))):
        if mask[i].any() or i == 0:
            n = max(math.ceil((now - t[i]).item() * 50 - 1e-3), 1)
            for _ in range(n):
                y = y + (t[i] - now) / n * e.g(y)
            now = t[i]
        if mask[i].any():
            seen = (x[i] * mask[i], mask[i])
            u = torch.sigmoid(gate(0, e.u_out, y, s, *seen))
            r = torch.sigmoid(gate(1, e.r_out, y, s, *seen))
            y_new, s_new = gate(2, e.n_out, r * y, r * s, *seen).chunk(2)
            y, s = (1 - u) * y_new + u * y, (1 - u) * s_new.abs() + u * s
    return torch.cat([y, s])


@pytest.mark.usefixtures("double")
def test_encoder_against_reference() -> None:
    model = built()
    for p in model.parameters():  # larger weights and biases than the initial ones
        nn.init.normal_(p, std=0.3, generator=seeded(p.numel()))
    generator = seeded()
    x = torch.randn(4, 9, 2, generator=generator)
    mask = torch.rand(4, 9, 2, generator=generator).round()
    mask[0, -3:] = 0
    mask[1, :4] = 0  # the state flows from the first observation back to t_0
    t = torch.rand(4, 9, generator=generator).sort().values
    mu, s = model.encode(Batch(x, t, mask, mask))
    for i in range(4):
        expected_mu, expected_s = model.p(reference_encoder(model, x[i], mask[i], t[i])).chunk(2)
        torch.testing.assert_close(mu[i], expected_mu)
        torch.testing.assert_close(s[i], expected_s.abs() + 1e-6)


def test_encoder_integrates_over_the_gaps_backwards() -> None:
    """With dy = 1 dt and gates that keep the state, y is minus the time travelled."""
    model = built()
    model.ode_rnn.g = Field(torch.ones_like)
    nn.init.constant_(model.ode_rnn.u_out.bias, 100)
    gap = torch.tensor([[0, 0.3, 0.005, 0.2], [0, 0.01, 0, 0]])
    x = torch.randn(2, 4, 2, generator=seeded())
    y, s = model.ode_rnn(x, torch.ones_like(x), gap)
    torch.testing.assert_close(y, -gap.sum(1, keepdim=True).expand(2, 40))
    assert not s.any()


def test_a_row_without_values_and_gap_changes_nothing() -> None:
    model = built()
    x = torch.randn(1, 5, 2, generator=seeded())
    mask, gap = torch.ones_like(x), torch.full((1, 5), 0.03)
    x[0, 3], mask[0, 3], gap[0, 3] = 0, 0, 0
    rest = [0, 1, 2, 4]
    with_row = torch.cat(model.ode_rnn(x, mask, gap))
    without = torch.cat(model.ode_rnn(x[:, rest], mask[:, rest], gap[:, rest]))
    # not bit for bit: another number of rows may be multiplied in another order
    torch.testing.assert_close(with_row, without, rtol=0, atol=1e-6)


# -- decoder -------------------------------------------------------------------------------------


def times(*, records: int = 3, length: int = 40) -> Tensor:
    return torch.rand(records, length, generator=seeded()).sort().values


@pytest.mark.parametrize("solver", ["rk4", "dopri5"])
def test_without_dynamics_the_output_is_constant(solver: str) -> None:
    model = built(solver=solver)
    model.f = Field(torch.zeros_like)
    x_hat = model.decode(torch.randn(2, 3, 20, generator=seeded()), times())
    torch.testing.assert_close(x_hat, x_hat[:, :, :1].expand_as(x_hat))


def linear_problem(z_dim: int = 4) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A stable rotation, initial states, times, and the exact solution exp(A (t - t_0)) z_0."""
    a = torch.randn(z_dim, z_dim, generator=seeded(1))
    a = 4 * (a - a.T) - torch.eye(z_dim)
    z0 = torch.randn(2, 3, z_dim, generator=seeded(2))
    t = times()
    flow = torch.linalg.matrix_exp(a * (t - t[:, :1])[..., None, None])  # (B, L, Z, Z)
    return a, z0, t, torch.einsum("blij,sbj->sbli", flow, z0)


@pytest.mark.usefixtures("double")
def test_linear_field_against_matrix_exponential() -> None:
    a, z0, t, exact = linear_problem()
    error = {}
    for nodes in (50, 100, 200):
        model = built(nodes=nodes)
        model.f = Field(lambda z: z @ a.T)
        error[nodes] = (model.latent_path(z0, t) - exact).abs().max().item()
    assert error[200] < 1e-6
    for coarse, fine in ((50, 100), (100, 200)):  # fourth order
        assert 12 < error[coarse] / error[fine] < 20


@pytest.mark.usefixtures("double")
def test_dopri5_on_the_linear_field() -> None:
    a, z0, t, exact = linear_problem()
    model = built(solver="dopri5")
    model.f = Field(lambda z: z @ a.T)
    assert (model.latent_path(z0, t) - exact).abs().max() < 0.02


@pytest.mark.usefixtures("double")
def test_gradient_of_the_path() -> None:
    model = built(latents=3, units=4, nodes=5)
    z0 = torch.randn(2, 1, 3, generator=seeded(), requires_grad=True)
    t = times(records=1, length=4)
    assert torch.autograd.gradcheck(lambda z: model.latent_path(z, t), z0)


def test_only_the_time_since_the_first_row_matters() -> None:
    model = built()
    z0 = torch.randn(1, 1, 20, generator=seeded())
    t = torch.linspace(0, 0.5, 9)[None]
    torch.testing.assert_close(model.decode(z0, t), model.decode(z0, t + 0.5))


@pytest.mark.parametrize(
    ("solver", "field", "reason"),
    [
        ("rk4", lambda z: 1e3 * z**3, "left the finite numbers"),
        ("dopri5", lambda z: 1e3 * z**3, "underflow in dt|non-finite"),  # blows up
        ("dopri5", lambda z: -1e6 * (z - 1), "max_num_steps exceeded"),  # stiff
        ("dopri5", lambda z: z * math.nan, "underflow in dt|non-finite"),
    ],
)
def test_solver_trouble_is_divergence(solver: str, field, reason: str) -> None:  # type: ignore[no-untyped-def]
    model = built(solver=solver)
    model.f = Field(field)
    with pytest.raises(Diverged, match=f"solver {solver}: .*({reason})"):
        model.sample(3, torch.linspace(0, 1, 12), seeded())


def test_dopri5_trains() -> None:
    model = built(solver="dopri5")
    x = torch.randn(3, 12, 2, generator=seeded())
    batch = Batch(x, torch.linspace(0, 1, 12).expand(3, -1), torch.ones_like(x), torch.ones_like(x))
    model.loss(batch, 0, seeded()).value.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
