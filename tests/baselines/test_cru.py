"""CRU and f-CRU: moments of the SDE and the filter against dense references, bounds, batching."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from scipy.linalg import expm
from torch import Tensor, nn

from baselines.cru import (
    BOUND,
    CRU,
    MIN_SIGMA,
    MIN_VARIANCE,
    Belief,
    CRUConfig,
    Fast,
    LocallyLinear,
    expm1_ratio,
    flow,
    predicted,
    updated,
)
from harness.contract import Batch, Diverged, Shape

both = pytest.mark.parametrize("transition", ["locally_linear", "fast"])
SMALL = {"latents": 4, "bases": 3, "bandwidth": 1, "units": 8}
TRANSITIONS = {"locally_linear": LocallyLinear, "fast": Fast}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def built(channels: int = 2, **changes: object) -> CRU:
    return CRU(CRUConfig(**SMALL | changes), Shape(12, channels))  # type: ignore[arg-type]


def lively(channels: int = 2, **changes: object) -> CRU:
    """A model whose dynamics differ from their start, A = 0."""
    model = built(channels, **changes)
    dynamics = model.transition
    moving = dynamics.entries if isinstance(dynamics, LocallyLinear) else dynamics.d
    nn.init.normal_(moving, std=0.5, generator=seeded())
    return model


def records(n: int = 5, length: int = 9, channels: int = 2, seed: int = 0) -> Batch:
    """Irregular records of different lengths, half of their rows or so hidden and targeted."""
    generator = seeded(seed)
    t = torch.rand(n, length, generator=generator).sort().values
    ends = torch.randint(length // 2, length + 1, (n,), generator=generator)
    inside = torch.arange(length) < ends[:, None]
    t = torch.where(inside, t, t.gather(1, ends[:, None] - 1))
    observed = inside[..., None] & (torch.rand(n, length, channels, generator=generator) < 0.7)
    shown = torch.rand(n, length, 1, generator=generator) < 0.5
    x = torch.randn(n, length, channels, generator=generator) * observed
    return Batch(x, t, (observed & shown).to(x.dtype), (observed & ~shown).to(x.dtype))


def select(batch: Batch, i: object) -> Batch:
    return Batch(*(a[i] for a in (batch.x, batch.t, batch.mask, batch.target)))


def van_loan(a: np.ndarray, q: np.ndarray, gap: float) -> tuple[np.ndarray, np.ndarray]:
    """Phi and V from one exponential of twice the size."""
    n = len(q)
    block = expm(np.block([[a, np.diag(q)], [np.zeros_like(a), -a.T]]) * gap)
    phi = block[:n, :n]
    return phi, block[:n, n:] @ phi.T


# -- moments of the linear SDE -------------------------------------------------------------------


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("size", [0.01, 0.3, 5.0])  # no, a few and many doublings
def test_flow_against_van_loan(size: float) -> None:
    a = size * torch.randn(4, 6, 6, generator=seeded()) / 6
    q = torch.rand(6, generator=seeded(1))
    gap = torch.tensor([0, 0.1, 1, 3])
    phi, v = flow(a, q, gap)
    for i in range(4):
        expected_phi, expected_v = van_loan(a[i].numpy(), q.numpy(), gap[i].item())
        np.testing.assert_allclose(phi[i], expected_phi, rtol=0, atol=1e-11 * abs(phi[i]).max())
        np.testing.assert_allclose(v[i], expected_v, rtol=0, atol=1e-11 * abs(v[i]).max() + 1e-300)


@pytest.mark.usefixtures("double")
def test_fast_equals_flow_of_the_symmetric_matrix() -> None:
    model = lively(transition="fast", latents=6)
    fast, q = model.transition, torch.rand(6, generator=seeded(1))
    mu, gap = torch.randn(5, 6, generator=seeded(2)), torch.tensor([0, 1e-7, 0.1, 1, 5])
    rates = torch.softmax(fast.alpha(mu), -1) @ fast.d
    a = fast.e @ torch.diag_embed(rates) @ fast.e.T
    for found, expected in zip(fast(mu, q, gap), flow(a, q, gap), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.usefixtures("double")
@both
def test_without_dynamics_only_noise_gathers(transition: str) -> None:
    dynamics = TRANSITIONS[transition](CRUConfig(**SMALL))
    if isinstance(dynamics, Fast):
        nn.init.zeros_(dynamics.d)  # they start at 1e-5; A_k starts at 0
    q, gap = torch.rand(4, generator=seeded()), torch.tensor([0, 0.5, 300])
    phi, v = dynamics(torch.randn(3, 4, generator=seeded(1)), q, gap)
    torch.testing.assert_close(phi, torch.eye(4).expand(3, -1, -1))
    torch.testing.assert_close(v, torch.diag(q) * gap[:, None, None])


@pytest.mark.usefixtures("double")
@both
def test_two_gaps_make_one(transition: str) -> None:
    dynamics = lively(transition=transition).transition
    mu, q = torch.randn(3, 4, generator=seeded(1)), torch.rand(4, generator=seeded())
    first, second = torch.tensor([0, 0.4, 2]), torch.tensor([1, 0.01, 3])
    (phi_1, v_1), (phi_2, v_2) = dynamics(mu, q, first), dynamics(mu, q, second)
    phi, v = dynamics(mu, q, first + second)
    torch.testing.assert_close(phi, phi_2 @ phi_1)
    torch.testing.assert_close(v, v_2 + phi_2 @ v_1 @ phi_2.mT)


@pytest.mark.usefixtures("double")
def test_gradients() -> None:
    a = torch.randn(2, 3, 3, generator=seeded(), requires_grad=True)
    q = torch.rand(3, generator=seeded(1), requires_grad=True)
    for gap in (torch.zeros(2), torch.tensor([0.01, 0.02]), torch.tensor([0.3, 2.0])):
        assert torch.autograd.gradcheck(lambda a, q, gap=gap: flow(a, q, gap), (a, q))
    fast = lively(transition="fast").transition
    mu = torch.randn(2, 4, generator=seeded(2), requires_grad=True)
    q = torch.rand(4, generator=seeded(1), requires_grad=True)
    for d in (0.0, 0.5):
        nn.init.constant_(fast.d, d)
        fast.d.data[:, 0] = 0.1  # its pairs with itself are at G = 0 or not
        assert torch.autograd.gradcheck(lambda m, q: fast(m, q, torch.tensor([0, 2.0])), (mu, q))


@pytest.mark.usefixtures("double")
def test_expm1_ratio_is_smooth_at_zero() -> None:
    x = torch.tensor([-50, -1, -1e-4, -1.1e-5, -9e-6, -1e-9, 0, 1e-12, 9e-6, 1.1e-5, 1e-3, 1, 27])
    y = expm1_ratio(x.requires_grad_())
    (slope,) = torch.autograd.grad(y.sum(), x)
    x = x.detach()
    divisor = torch.where(x == 0, 1, x)
    torch.testing.assert_close(y.detach(), torch.where(x == 0, 1, x.expm1() / divisor))
    series = 1 / 2 + x / 3 + x**2 / 8 + x**3 / 30  # the closed form cancels
    closed = (x * x.exp() - x.expm1()) / divisor**2
    expected = torch.where(x.abs() < 1e-2, series, closed)
    torch.testing.assert_close(slope, expected, rtol=1e-9, atol=0)


# -- belief --------------------------------------------------------------------------------------


def some_belief(n: int = 3, m: int = 2) -> Belief:
    mu = torch.randn(n, 2 * m, generator=seeded())
    upper, lower = (0.5 + torch.rand(2, n, m, generator=seeded(1))).unbind()
    return Belief(mu, upper, lower, 0.9 * (upper * lower).sqrt())


@pytest.mark.usefixtures("double")
def test_no_gap_changes_nothing() -> None:
    for dynamics in (lively(transition=t).transition for t in TRANSITIONS):
        belief = some_belief()
        after = predicted(belief, *dynamics(belief.mu, torch.ones(4), torch.zeros(3)))
        for found, expected in zip(after, belief, strict=True):
            torch.testing.assert_close(found, expected)


@pytest.mark.usefixtures("double")
def test_update_at_its_limits() -> None:
    belief, y = some_belief(), torch.randn(3, 2, generator=seeded(3))
    r, seen = torch.ones(3, 2), torch.ones(3, 1)
    for unchanged in (updated(belief, y, 1e15 * r, seen), updated(belief, y, r, 0 * seen)):
        for found, expected in zip(unchanged, belief, strict=True):
            torch.testing.assert_close(found, expected)
    known = updated(belief, y, 1e-12 * r, seen)
    torch.testing.assert_close(known.mu[:, :2], y)
    torch.testing.assert_close(known.upper, torch.zeros(3, 2), rtol=0, atol=1e-11)
    conditional = belief.lower - belief.side**2 / belief.upper
    torch.testing.assert_close(known.lower, conditional)


@pytest.mark.usefixtures("double")
def test_what_is_kept_of_sigma_is_a_covariance() -> None:
    belief = some_belief()
    dynamics = lively().transition
    for i in range(20):
        belief = predicted(belief, *dynamics(belief.mu, torch.zeros(4), torch.full((3,), 0.3)))
        y = torch.randn(3, 2, generator=seeded(i))
        belief = updated(belief, y, torch.full((3, 2), MIN_VARIANCE), torch.ones(3, 1))
        assert torch.linalg.eigvalsh(belief.sigma()).min() > -1e-15


class Apply(nn.Module):
    """A function as a module."""

    def __init__(self, function):  # type: ignore[no-untyped-def]
        super().__init__()
        self.function = function

    def forward(self, a: Tensor) -> Tensor:
        return self.function(a)


@pytest.mark.usefixtures("double")
@both
def test_filter_against_a_dense_kalman_filter(transition: str) -> None:
    """With M = 1 nothing of Sigma is dropped, and with equal bases A does not depend on mu."""
    model = built(transition=transition, latents=2, time_scale=4.0)
    dynamics, r = model.transition, 0.3
    if isinstance(dynamics, Fast):
        dynamics.d.data[:] = torch.tensor([-0.7, 0.2])
        a = (dynamics.e @ torch.diag(dynamics.d[0]) @ dynamics.e.T).detach().numpy()
    else:
        a = np.array([[-0.2, 1.1], [-0.9, 0.1]])
        dynamics.entries.data[:] = torch.from_numpy(a).flatten()
    model.theta_q.data = torch.tensor([0.2, -0.5])
    model.theta_sigma.data = torch.tensor([1.0, 2.0])
    model.encode = lambda x: (x[:, :1], torch.full_like(x[:, :1], r))  # type: ignore[method-assign]
    model.to_mean = nn.Identity()  # type: ignore[assignment]
    model.to_log_var = Apply(lambda sigma: sigma[:, :2].log())  # type: ignore[assignment]
    batch = records(seed=3)
    with torch.no_grad():
        mean, log_var = model.filter(batch)

    row_of_h = np.array([[1.0, 0.0]])
    for i in range(len(batch.x)):
        mu = np.zeros(2)
        sigma = np.diag(np.log1p(np.exp([1.0, 2.0])))
        now = batch.t[i, 0].item()
        for j, t in enumerate(batch.t[i].tolist()):
            phi, v = van_loan(a, np.array([0.2, 0.5]), 4 * (t - now))
            mu, sigma, now = phi @ mu, phi @ sigma @ phi.T + v, t
            if batch.mask[i, j].any():
                gain = sigma @ row_of_h.T / (row_of_h @ sigma @ row_of_h.T + r)
                mu = mu + gain[:, 0] * (batch.visible[i, j, 0].item() - mu[0])
                sigma = sigma - gain @ row_of_h @ sigma
            np.testing.assert_allclose(mean[i, j], mu, atol=1e-10)
            np.testing.assert_allclose(log_var[i, j].exp(), sigma.diagonal(), rtol=1e-9)


# -- sizes and training --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("transition", "channels", "sizes", "published"),
    [
        ("locally_linear", 37, {}, 28_654),
        ("fast", 37, {}, 21_454),
        ("locally_linear", 5, {"latents": 10, "bases": 15, "bandwidth": 3}, 15_135),
        ("fast", 5, {"latents": 10, "bases": 15, "bandwidth": 3}, 14_005),
    ],
)
def test_parameter_counts(transition: str, channels: int, sizes: dict, published: int) -> None:
    model = CRU(CRUConfig(transition=transition, **sizes), Shape(10, channels))  # type: ignore[arg-type]
    assert sum(p.numel() for p in model.parameters()) == published


@pytest.mark.parametrize(("m", "b"), [(5, 3), (5, 0), (4, 9)])
def test_blocks_are_banded(m: int, b: int) -> None:
    dynamics = LocallyLinear(CRUConfig(latents=2 * m, bases=1, bandwidth=b))
    nn.init.ones_(dynamics.entries)
    a = dynamics.matrix(torch.zeros(1, 2 * m).double())[0].detach()
    i = torch.arange(2 * m) % m
    assert torch.equal(a, ((i[:, None] - i).abs() <= b).double())
    assert a.sum() == 4 * (m + 2 * sum(range(max(m - b, 0), m)))


def step_once(model: CRU, batch: Batch) -> None:
    adam = model.optimisers()["main"].optimiser
    model.loss(batch, 0, seeded()).value.backward()
    adam.step()


def test_eigenvectors_stay_orthogonal() -> None:
    model = built(transition="fast", lr=0.1)
    before = model.transition.e.detach().clone()
    adam = model.optimisers()["main"].optimiser
    for _ in range(5):
        adam.zero_grad()
        model.loss(records(), 0, seeded()).value.backward()
        adam.step()
    e = model.transition.e.detach()
    assert (e - before).abs().max() > 1e-3
    torch.testing.assert_close(e @ e.T, torch.eye(4).double(), rtol=0, atol=1e-12)


@both
def test_gradients_are_to_be_clipped(transition: str) -> None:
    assert built(transition=transition, clip_norm=1e-3).optimisers()["main"].max_norm == 1e-3


def test_loss_is_a_mean_over_target_rows_then_records() -> None:
    model, batch = built(), records(seed=1)
    with torch.no_grad():
        mean, log_var = model.filter(batch)
        per_record = []
        for i in range(5):
            density = torch.distributions.Normal(mean[i], (0.5 * log_var[i]).exp())
            nll = -(density.log_prob(batch.x[i]) * batch.target[i]).sum()
            per_record.append(nll / (batch.target[i] > 0).any(-1).sum())
        found = model.loss(batch, 0, seeded()).value
        nothing = dataclasses.replace(batch, target=torch.zeros_like(batch.x))
        assert model.loss(nothing, 0, seeded()).value == 0
    torch.testing.assert_close(found, torch.stack(per_record).mean())


def test_an_odd_number_of_latents_is_refused() -> None:
    with pytest.raises(ValueError, match="expected an even number of latents, found 5"):
        built(latents=5)


# -- predictions ---------------------------------------------------------------------------------


def assert_same(found: Batch, expected: Batch) -> None:
    for a, b in zip(found, expected, strict=True):  # type: ignore[call-overload]
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@both
def test_a_record_does_not_depend_on_its_batch(transition: str) -> None:
    model, batch = lively(transition=transition), records()
    together = model.predict(batch, 1, seeded())
    assert together.mean.shape == together.std.shape == (1, *batch.x.shape)
    order = [3, 1, 4, 0, 2]
    permuted = model.predict(select(batch, order), 1, seeded())
    assert_same(permuted, tuple(a[:, order] for a in together))
    for i in range(5):
        alone = model.predict(select(batch, [i]), 1, seeded())
        assert_same(alone, tuple(a[:, [i]] for a in together))
        last = int((batch.mask + batch.target)[i].amax(-1).nonzero().max())
        unpadded = model.predict(select(batch, ([i], slice(last + 1))), 1, seeded())
        assert_same(unpadded, tuple(a[:, [i], : last + 1] for a in together))


@both
def test_a_prediction_is_the_gaussian_of_the_filter(transition: str) -> None:
    model, batch = lively(transition=transition), records()
    found = model.predict(batch, 3, seeded())
    with torch.no_grad():
        mean, log_var = model.filter(batch)
    torch.testing.assert_close(found.mean, mean[None])
    torch.testing.assert_close(found.std.square(), log_var.exp()[None])


@both
def test_it_filters(transition: str) -> None:
    """A row's prediction depends on what is seen up to it, itself included, and on nothing else."""
    model, batch = lively(transition=transition), records(n=1, length=12)
    expected = model.predict(batch, 1, seeded()).mean[0, 0]
    hidden = dataclasses.replace(batch, x=batch.x + 7 * (1 - batch.mask))
    assert torch.equal(model.predict(hidden, 1, seeded()).mean[0, 0], expected)
    j = int(batch.mask[0].amax(-1).nonzero()[1])
    x = batch.x.clone()
    x[0, j] += batch.mask[0, j]
    changed = model.predict(dataclasses.replace(batch, x=x), 1, seeded()).mean[0, 0] != expected
    assert not changed[:j].any() and changed[j:].all()


def test_rows_without_data_are_predicted_while_time_goes_on() -> None:
    model, batch = lively(), records(n=1, length=6)
    batch = dataclasses.replace(batch, t=torch.tensor([[0, 0.1, 0.2, 0.5, 0.9, 0.9]]))
    batch.mask[:, 2:] = batch.target[:, 2:] = 0
    mean = model.predict(batch, 1, seeded()).mean[0, 0]
    differs = (mean.diff(dim=0) != 0).all(-1)
    assert differs.tolist() == [True, True, True, True, False]


@both
def test_round_trip_into_another_model(transition: str) -> None:
    model, batch = lively(transition=transition), records()
    step_once(model, batch)
    torch.manual_seed(1)
    other = built(transition=transition)
    state = {key: value.contiguous() for key, value in model.state_dict().items()}
    before = other.predict(batch, 1, seeded())
    other.load_state_dict(load(save(state)))
    expected, found = model.predict(batch, 1, seeded()), other.predict(batch, 1, seeded())
    assert torch.equal(found.mean, expected.mean) and torch.equal(found.std, expected.std)
    assert not torch.equal(before.mean, expected.mean)


# -- bounds --------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("size", [1e-6, 1.0, 1e3, 1e8])
def test_no_weights_of_the_dynamics_and_no_gap_overflow(transition: str, size: float) -> None:
    model, batch = built(transition=transition, time_scale=438.3), records(length=30)
    dynamics = model.transition
    moving = dynamics.entries if isinstance(dynamics, LocallyLinear) else dynamics.d
    nn.init.normal_(moving, mean=size, std=size, generator=seeded())  # mostly growth
    for last in (batch.t[:, -1:], torch.ones(5, 1)):
        t = torch.cat([batch.t[:, :-1], last], 1)
        prediction = model.predict(dataclasses.replace(batch, t=t), 1, seeded())
        assert prediction.mean.isfinite().all() and prediction.std.isfinite().all()
        assert (prediction.std > 0).all()
        assert model.loss(batch, 0, seeded()).value.isfinite()


def test_fast_grows_by_no_more_than_the_bound_in_the_whole_time_range() -> None:
    model = built(transition="fast", time_scale=7.0)
    nn.init.constant_(model.transition.d, 100.0)
    mu = torch.zeros(1, 4).double()
    phi, _ = model.transition(mu, torch.ones(4).double(), torch.tensor([7.0]).double())
    torch.testing.assert_close(phi[0], BOUND * torch.eye(4).double())


def test_dynamics_that_are_not_finite_are_divergence() -> None:
    model = built()
    nn.init.constant_(model.transition.entries, math.nan)
    with pytest.raises(Diverged, match="dynamics left the finite numbers"):
        model.predict(records(), 1, seeded())


@both
def test_gradients_at_zero_are_finite(transition: str) -> None:
    """No NaN from norms, square roots and clamps."""
    model, batch = built(transition=transition), records()
    nn.init.zeros_(model.encoder[-1].weight)  # a hidden vector of zeros
    nn.init.zeros_(model.theta_q)
    batch.mask[0] = 0  # a record of which nothing is seen
    model.loss(batch, 0, seeded()).value.backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


@pytest.mark.usefixtures("double")
def test_bounds_of_flow_and_belief() -> None:
    phi, v = flow(torch.full((1, 4, 4), 300.0), torch.ones(4), torch.ones(1))
    assert (phi == BOUND).all() and (v == BOUND**2).all()
    belief = some_belief(n=1)
    grown = predicted(belief, phi, v)
    assert grown.mu.abs().max() <= BOUND and (grown.upper == BOUND**2).all()
    assert (grown.side**2 <= grown.upper * grown.lower).all()
    shrunk = predicted(belief, 0 * phi, 0 * v)
    assert (shrunk.upper == MIN_SIGMA).all() and (shrunk.lower == MIN_SIGMA).all()
    belief = belief._replace(side=(belief.upper * belief.lower).sqrt() * (1 + 1e-15))
    known = updated(belief, torch.zeros(1, 2), torch.zeros(1, 2), torch.ones(1, 1))
    assert (known.lower == MIN_SIGMA).all()


def test_latent_noise_has_a_floor() -> None:
    model = built()
    for p in model.to_r.parameters():
        nn.init.zeros_(p)
    _, r = model.encode(torch.ones(3, 2))
    assert (r == torch.tensor(MIN_VARIANCE)).all()
