"""SDE Matching: its bound against exact likelihoods, its derivatives, what it may not depend on."""

import dataclasses
import math

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal, Normal, kl_divergence
from torch.func import jvp

from baselines.sde_matching import (
    PLACES,
    Context,
    Prior,
    SDEMatching,
    SDEMatchingConfig,
    draw_rows,
    path_loss,
)
from harness.contract import Batch, Shape

TINY = SDEMatchingConfig(latents=4, units=8, gamma_units=3, width=6, state=4, times=8)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def built(length: int = 12, channels: int = 2, **changes: object) -> SDEMatching:
    """A model whose every weight counts: none is 0."""
    torch.manual_seed(0)
    model = SDEMatching(dataclasses.replace(TINY, **changes), Shape(length, channels))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=seeded(1))
    return model


def records(visible: list[list[int]], hidden: list[list[int]], length: int = 12) -> Batch:
    """Records at irregular times, of two channels; a record ends with its last row."""
    n = len(visible)
    x = torch.randn(n, length, 2, generator=seeded(2))
    t = torch.rand(n, length, generator=seeded(3)).sort(1).values
    mask, target = torch.zeros_like(x), torch.zeros_like(x)
    for i in range(n):
        mask[i, visible[i]] = 1
        target[i, hidden[i]] = 1
        last = max(visible[i] + hidden[i])
        t[i, last:] = t[i, last].clone()
    mask[0, visible[0][0], 1] = 0  # not every channel of every row
    return Batch(x * (mask + target), t, mask, target)


INTERPOLATION = records([[0, 2, 5, 9], [1, 2, 6], [3]], [[1, 3, 7], [0, 4, 5], [1, 2]])
EXTRAPOLATION = records([[0, 1, 3, 4], [2, 3], [0]], [[5, 6, 9], [4, 7], [1, 2, 5]])
every_batch = pytest.mark.parametrize("batch", [INTERPOLATION, EXTRAPOLATION], ids=["inter", "ex"])


def double(batch: Batch) -> Batch:
    return Batch(*(a.double() for a in (batch.x, batch.t, batch.mask, batch.target)))


def alone(batch: Batch, i: int) -> Batch:
    """A record without the others and without padding."""
    length = int((batch.mask + batch.target)[i].any(-1).nonzero().max()) + 1
    return Batch(*(a[[i], :length] for a in (batch.x, batch.t, batch.mask, batch.target)))


def silence(patch: pytest.MonkeyPatch) -> None:
    """Zeros for normal noise, the middle of every stratum. Initial weights are drawn before."""
    patch.setattr(torch, "randn", lambda *n, generator=None, **kind: torch.zeros(*n, **kind))
    patch.setattr(torch, "rand", lambda *n, generator=None, **kind: torch.full(n, 0.5, **kind))


# -- the integrand -------------------------------------------------------------------------------


def linear_prior(latents: int = 4, **changes: object) -> Prior:
    """An SDE with net = 0, rates of 0.5 to 8 and a constant gamma of its own for each pair."""
    prior = Prior(dataclasses.replace(TINY, latents=latents, **changes), 8.0)
    with torch.no_grad():
        prior.log_rate.copy_(torch.linspace(0.5, 8, latents // 2).div(8).log())
        prior.gamma_in[0] = 0
        prior.gamma_in[1] = 1
        prior.gamma_out.copy_(torch.linspace(-0.2, 0.2, latents // 2).repeat_interleave(2)[:, None])
    return prior


@pytest.mark.usefixtures("double")
def test_path_loss_of_the_priors_own_marginals_is_zero() -> None:
    prior = linear_prior(seasons=(3.0,))
    a, g2 = prior.a, prior.squared_diffusion(torch.zeros(4))
    mu_0 = torch.tensor([1.0, -0.5, 0.3, 2.0])
    s2_0 = torch.tensor([0.2, 0.2, 1.5, 1.5])  # the same within a pair, which turns

    def marginal(t: Tensor) -> tuple[Tensor, Tensor]:
        t = t[..., None]
        decay, angle = (-a * t).exp(), prior.poles.imag * t
        pair = torch.complex(*mu_0.view(2, 2).T) * torch.polar(torch.ones_like(angle), angle)
        mu = decay * torch.view_as_real(pair).flatten(-2)
        return mu, (s2_0 * decay**2 + g2 * (1 - decay**2) / (2 * a)).sqrt()

    assert prior.poles.imag[0] > 0 and g2[0] != 2 * a[0]
    tau = torch.rand(3, 50, generator=seeded())
    e = torch.randn(3, 50, 4, generator=seeded(1))
    loss = path_loss(marginal, prior, tau, e)
    assert loss.max() < 1e-10
    wrong = path_loss(lambda t: (marginal(t)[0], 1.01 * marginal(t)[1]), prior, tau, e)
    assert wrong.min() > 1e-6


class Geometric(Prior):
    """g = c z, h = 0."""

    c = 0.7

    def squared_diffusion(self, z: Tensor) -> Tensor:
        return (self.c * z).square()

    def drift(self, z: Tensor, t: Tensor) -> Tensor:
        return torch.zeros_like(z)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("geometric", [True, False])
def test_path_loss_against_the_fokker_planck_equation(geometric: bool) -> None:
    """f q = v q + 1/2 d(g^2 q)/dz, v = dF/dt at fixed e_0; all derivatives by differences."""
    prior = Geometric(TINY, 8.0) if geometric else built().prior
    assert geometric or prior.turn.all()

    def marginal(t: Tensor) -> tuple[Tensor, Tensor]:
        phase = t[..., None] + torch.arange(4)
        return 2 + phase.sin(), 0.5 + 0.1 * phase.cos()

    tau, e = torch.rand(2, 5, generator=seeded()), torch.randn(2, 5, 4, generator=seeded(1))
    mu, s = marginal(tau)
    z, step = mu + s * e, 1e-5

    def at(shift: float) -> Tensor:
        mu, s = marginal(tau + shift)
        pairs = torch.view_as_complex(e.unflatten(-1, (2, 2)))
        turned = pairs * (1j * prior.poles.imag * shift).exp()
        return mu + s * torch.view_as_real(turned).flatten(-2)

    def flux(z: Tensor) -> Tensor:
        return prior.squared_diffusion(z) * Normal(mu, s).log_prob(z).exp()

    v = (at(step) - at(-step)) / (2 * step)
    spread = (flux(z + step) - flux(z - step)) / (2 * step)
    f = v + 0.5 * spread / Normal(mu, s).log_prob(z).exp()
    expected = 0.5 * ((f - prior.drift(z, tau)) ** 2 / prior.squared_diffusion(z)).sum(-1)
    torch.testing.assert_close(path_loss(marginal, prior, tau, e), expected, rtol=1e-6, atol=1e-6)


# -- the bound -----------------------------------------------------------------------------------


class Observed:
    """Two independent Ornstein-Uhlenbeck processes, each seen at six times with noise."""

    sigma = 0.3

    def __init__(self) -> None:
        self.prior = linear_prior(latents=2)
        self.t = torch.tensor([0.05, 0.2, 0.3, 0.62, 0.7, 1.0])
        self.x = torch.randn(6, 2, generator=seeded())
        self.a, self.variance = self.prior.a[0], self.prior.gamma(torch.zeros(2))[0] ** 2
        with torch.no_grad():
            self.prior.log_s0.fill_(0.5 * self.variance.log())
        self.K = self.covariance(self.t, self.t) + self.sigma**2 * torch.eye(6)

    def covariance(self, s: Tensor, t: Tensor) -> Tensor:
        return self.variance * (-self.a * (s[..., None] - t).abs()).exp()

    def log_likelihood(self) -> Tensor:
        return MultivariateNormal(torch.zeros(6), self.K).log_prob(self.x.T).sum()

    def smoother(self, tau: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation given all observations."""
        k = self.covariance(tau, self.t)
        mu = k @ torch.linalg.solve(self.K, self.x)
        v = self.variance - (k * torch.linalg.solve(self.K, k[..., None])[..., 0]).sum(-1)
        return mu, v.sqrt()[..., None].expand(mu.shape)

    def bound(self, marginal, tau: Tensor, weight: Tensor) -> Tensor:
        """All in e is quadratic, so -1 and 1 stand for the normal distribution."""
        start = torch.zeros(len(tau), 1)
        p_0 = Normal(self.prior.m0, self.prior.log_s0.exp())
        kl = kl_divergence(Normal(*marginal(start)), p_0).sum((1, 2))
        signs = (torch.ones(*tau.shape, 2), -torch.ones(*tau.shape, 2))
        integrand = sum(path_loss(marginal, self.prior, tau, e) for e in signs) / 2
        mu, s = marginal(self.t.expand(len(tau), -1))
        log_p = Normal(mu, self.sigma).log_prob(self.x) - 0.5 * (s / self.sigma) ** 2
        return log_p.sum((1, 2)) - kl - (integrand * weight).sum(1)


@pytest.mark.usefixtures("double")
def test_bound_is_tight_at_the_smoother() -> None:
    case = Observed()
    ends = torch.cat([torch.zeros(1), case.t])
    share = (torch.arange(400) + 0.5) / 400
    tau = (ends[:-1, None] + ends.diff()[:, None] * share).flatten()[None]  # none at a kink
    weight = (ends.diff()[:, None] / 400).expand(-1, 400).flatten()
    exact = case.log_likelihood()
    found = case.bound(case.smoother, tau, weight)[0]
    torch.testing.assert_close(found, exact, rtol=0, atol=1e-3)
    narrow = case.bound(lambda t: (case.smoother(t)[0], 0.9 * case.smoother(t)[1]), tau, weight)
    assert narrow[0] < exact - 0.01


@pytest.mark.usefixtures("double")
def test_bound_holds_for_any_posterior() -> None:
    case, n, cells = Observed(), 1000, 40
    mu = 0.3 * torch.randn(n, cells + 1, 2, generator=seeded(1)).cumsum(1)
    log_s = 0.1 * torch.randn(n, cells + 1, 2, generator=seeded(2)).cumsum(1) - 0.7
    near = torch.linspace(0, 1, n)[:, None, None]  # the first ones are the smoother, on the grid
    mu_s, s_s = case.smoother(torch.linspace(0, 1, cells + 1)[None])
    mu, log_s = mu_s + near * (mu - mu_s), s_s.log() + near * (log_s - s_s.log())

    def marginal(t: Tensor) -> tuple[Tensor, Tensor]:
        left = (t.detach() * cells).long().clamp(max=cells - 1)
        p = (t * cells - left)[..., None]
        at = [(v.take_along_dim((left + i)[..., None], 1)) for v in (mu, log_s) for i in (0, 1)]
        return at[0] + p * (at[1] - at[0]), (at[2] + p * (at[3] - at[2])).exp()

    places = cells * 20  # a midpoint rule in each cell
    tau = ((torch.arange(places) + 0.5) / places).repeat(n, 1)
    bound = case.bound(marginal, tau, torch.full((places,), 1 / places))
    exact = case.log_likelihood()
    assert (bound < exact).all()
    assert bound.max() > exact - 0.5, "no posterior is near enough to say anything"


@pytest.mark.usefixtures("double")
@every_batch
def test_negative_elbo_against_its_definition(
    batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Record by record: encoded alone, integrated by the midpoint rule, at e = 0."""
    model, batch = built(), double(batch)
    silence(monkeypatch)
    found = model.neg_elbo(batch, seeded())
    for i in range(3):
        r = alone(batch, i)
        c = r.t[0, r.mask[0].any(-1)].max() if r.mask.any() else r.t[0, 0]
        later = r.target * (r.t > c)[..., None]
        shown, seen = model.encode(r.x, r.mask, r.t), model.encode(r.x, r.mask + later, r.t)
        whole = bool((r.target * (r.t <= c)[..., None]).any())
        first, end = r.t[0, 0] if whole else c, r.t[0, -1]
        kl = kl_divergence(*(Normal(*model.marginal(v, c.view(1, 1))) for v in (seen, shown))).sum()
        if whole:
            p_0 = Normal(model.prior.m0, model.prior.log_s0.exp())
            kl = kl + kl_divergence(Normal(*model.marginal(shown, first.view(1, 1))), p_0).sum()
        for k in range(PLACES):
            tau = (first + (end - first) * (k + 0.5) / PLACES).view(1, 1)
            track = seen if tau > c else shown
            rate = path_loss(
                lambda t, track=track: model.marginal(track, t),
                model.prior, tau, torch.zeros(1, 1, 4),
            )  # fmt: skip
            kl = kl + rate[0, 0] * (end - first) / PLACES
        nll = torch.zeros(())
        for n in range(r.t.shape[1]):
            track = seen if r.t[0, n] > c else shown
            mean = model.decode(model.marginal(track, r.t[:, n : n + 1])[0])[0, 0]
            nll = nll - (Normal(mean, 0.1).log_prob(r.x[0, n]) * r.target[0, n]).sum()
        assert math.isclose(found.kl[i].item(), kl.item(), rel_tol=1e-11)
        assert math.isclose(found.nll[i].item(), nll.item(), rel_tol=1e-11)


@pytest.mark.usefixtures("double")
@every_batch
def test_bound_does_not_depend_on_neighbours_and_padding(
    batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, batch = built(), double(batch)
    silence(monkeypatch)
    together = model.neg_elbo(batch, seeded())
    logs = []
    for i in range(3):
        by_itself = model.neg_elbo(alone(batch, i), seeded())
        torch.testing.assert_close(by_itself.kl[0], together.kl[i])
        torch.testing.assert_close(by_itself.nll[0], together.nll[i])
        logs.append(model.loss(alone(batch, i), 0, seeded()).logs)
    values = (batch.mask + batch.target).sum((1, 2))
    for name, value in model.loss(batch, 0, seeded()).logs.items():
        mean = sum(log[name] * n for log, n in zip(logs, values, strict=True)) / values.sum()
        torch.testing.assert_close(value, mean, msg=name)


@pytest.mark.usefixtures("double")
@every_batch
@pytest.mark.parametrize("shift", [0.0, 0.25])
def test_origin_of_time_is_arbitrary_without_a_clock(
    batch: Batch, shift: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, batch = built(), double(batch)
    silence(monkeypatch)
    batch = dataclasses.replace(batch, t=0.7 * batch.t)
    later = dataclasses.replace(batch, t=batch.t + shift)
    losses = [model.neg_elbo(b, seeded()).kl for b in (batch, later)]
    assert torch.allclose(*losses) == (shift == 0)  # the clock matters
    with torch.no_grad():
        for net in (model.prior.net, model.posterior):
            next(net.parameters())[:, -1] = 0  # the weights of t
    for field in ("kl", "nll"):
        torch.testing.assert_close(
            *(getattr(model.neg_elbo(b, seeded()), field) for b in (batch, later))
        )


def test_hidden_rows_of_interpolation_are_in_the_likelihood() -> None:
    model, batch = built(), INTERPOLATION
    changed = dataclasses.replace(batch, x=batch.x + batch.target)
    a, b = (model.loss(v, 0, seeded()).logs for v in (batch, changed))
    assert torch.equal(a["kl"], b["kl"]) and a["nll"] != b["nll"]


# -- what is drawn -------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 5, 64])
def test_drawn_rows_are_unbiased(n: int) -> None:
    marked = torch.tensor([0.0, 1, 1, 0, 1, 0, 1, 1, 1, 0])
    batch = 20_000
    index, weight = draw_rows(marked.expand(batch, -1), n, seeded())
    assert (index >= 0).all() and marked[index].all()
    mean = torch.zeros(10).index_add(0, index.flatten(), weight.expand(-1, n).flatten()) / batch
    torch.testing.assert_close(mean, marked, rtol=0, atol=5 * math.sqrt(6 / n / batch))
    if n == 64:  # stratified: of 64 draws from 6 rows, each has 10 or 11, or one more at each end
        counts = torch.zeros(batch, 10).scatter_add(1, index, torch.ones(batch, n))[:, marked > 0]
        assert counts.min() >= 9 and counts.max() <= 12


def test_record_of_which_nothing_is_known() -> None:
    index, weight = draw_rows(torch.zeros(2, 4), 3, seeded())
    assert (index < 4).all() and not weight.any()


@pytest.mark.parametrize("times", [1, 64])
def test_likelihood_of_drawn_rows_has_that_of_all_as_its_mean(
    times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = built(times=times)
    monkeypatch.setattr(torch, "randn", lambda *n, generator=None, **kind: torch.zeros(*n, **kind))
    record = Batch(*(a[:1] for a in dataclasses.astuple(INTERPOLATION)))
    record = dataclasses.replace(record, mask=record.mask + record.target)
    record = dataclasses.replace(record, target=record.mask)
    n, groups = record.target.sum(), 40
    many = Batch(*(a.expand(200, *a.shape[1:]) for a in dataclasses.astuple(record)))
    generator = seeded()
    with torch.no_grad():
        drawn = torch.stack([model.loss(many, 0, generator).logs["nll"] for _ in range(groups)])
        exact = model.neg_elbo(record, seeded()).nll[0] / n
    error = drawn.std() / math.sqrt(groups)
    assert (drawn.mean() - exact).abs() < 4 * error
    assert error < 0.05 * exact.abs(), "too rough to say anything"


# -- the prior -----------------------------------------------------------------------------------


def test_prior_begins_as_rotations_of_variance_one() -> None:
    length, n = 50, 20_000
    config = dataclasses.replace(TINY, latents=8, seasons=(5.0,), substeps=1)
    prior = Prior(config, length - 1.0)
    t = torch.linspace(0, 1, length)
    with torch.no_grad():
        z = prior.path(torch.randn(n, 8, generator=seeded()), t.expand(n, -1), seeded(1))
    assert ((z.var(0) - 1).abs() < 0.04).all()  # four standard errors
    assert ((z.var(0).mean(0) - 1).abs() < 0.02).all()
    torch.testing.assert_close(prior.a, 49 ** torch.tensor([0, 0, 0, 0, 0.5, 0.5, 1, 1]))
    k = 10  # a lag of 10 / 49: a turn of 2 pi 5 10 / 49, and decay
    lagged = (z[:, k:, 0] * z[:, :-k, 0]).mean()
    expected = math.exp(-k / 49) * math.cos(2 * math.pi * 5 * k / 49)
    assert lagged.item() == pytest.approx(expected, abs=0.02)


@pytest.mark.usefixtures("double")
def test_step_of_the_solver_agrees_with_drift_and_diffusion() -> None:
    prior = built(seasons=(2.0,)).prior
    z, t = torch.randn(6, 4, generator=seeded()), torch.rand(6, generator=seeded(1))
    mean, deviation = prior.step(z, t, torch.full_like(t, 1e-6))
    torch.testing.assert_close((mean - z) / 1e-6, prior.drift(z, t), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(deviation**2 / 1e-6, prior.squared_diffusion(z), rtol=1e-3, atol=0)
    mean, deviation = prior.step(z, t, torch.zeros_like(t))
    assert torch.equal(mean, z) and not deviation.any()


def test_diffusion_of_a_component_looks_at_it_alone_and_is_bounded() -> None:
    prior = built().prior
    z = torch.randn(5, 4, generator=seeded())
    jacobian = torch.func.vmap(torch.func.jacrev(prior.gamma))(z)
    assert not (jacobian * (1 - torch.eye(4))).any() and jacobian.diagonal(0, 1, 2).all()
    with torch.no_grad():
        prior.gamma_out *= 1000
    gamma = prior.gamma(10 * torch.randn(1000, 4, generator=seeded()))
    assert 0.0499 < gamma.min() < 0.06 and 1.94 < gamma.max() < 1.9501


# -- the posterior -------------------------------------------------------------------------------


def test_context_is_linear_between_visible_rows() -> None:
    t = torch.tensor([[0.2, 0.4, 0.8, 0.8, 0.8]])  # two rows of padding
    states = torch.tensor([1.0, 3.0, 4.0, 77.0, 99.0])[None, :, None]
    context = Context(t, states, states[:, :1], torch.tensor([[2]]))
    tau = torch.tensor([[0.1, 0.2, 0.3, 0.4, 0.7, 0.8, 0.95]])
    state, bridge = context.at(tau)
    torch.testing.assert_close(state[0, :, 0], torch.tensor([1.0, 1, 2, 3, 3.75, 4, 4]))
    torch.testing.assert_close(bridge[0], torch.tensor([0.1, 0, 0.05, 0, 0.075, 0, 0.15]))


@pytest.mark.usefixtures("double")
def test_derivatives_in_time_against_differences() -> None:
    model, batch = built(seasons=(3.0,)), double(INTERPOLATION)
    context = model.encode(batch.x, batch.mask, batch.t)
    tau = torch.linspace(0, 1, 23).repeat(3, 1)  # before, between and after the rows

    def marginal(tau: Tensor) -> tuple[Tensor, Tensor]:
        return model.marginal(context, tau)

    _, (dmu, ds) = jvp(marginal, (tau,), (torch.ones_like(tau),))[:2]
    step = 1e-6
    differences = [
        (a - b) / (2 * step)
        for a, b in zip(marginal(tau + step), marginal(tau - step), strict=True)
    ]
    torch.testing.assert_close(dmu, differences[0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ds, differences[1], rtol=1e-4, atol=1e-4)


def test_gradients_are_finite_at_the_times_of_observations() -> None:
    model, batch = built(), INTERPOLATION
    context = model.encode(batch.x, batch.mask, batch.t)
    e = torch.randn(3, 12, 4, generator=seeded())
    path_loss(lambda tau: model.marginal(context, tau), model.prior, batch.t, e).sum().backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert gradients and all(g.isfinite().all() for g in gradients)


@every_batch
def test_each_visible_row_is_in_every_state_and_no_other_row_is(batch: Batch) -> None:
    encode = built().encode
    x = batch.x.clone().requires_grad_()
    context = encode(x, batch.mask, batch.t)
    for i in range(3):
        states = context.states[i, : context.last[i] + 1]
        torch.testing.assert_close(context.mean[i, 0], states.mean(0))
        for state in states:
            (gradient,) = torch.autograd.grad(state.sum(), x, retain_graph=True)
            assert torch.equal(gradient[i] != 0, batch.mask[i] > 0)
            assert not gradient[torch.arange(3) != i].any()


@every_batch
def test_every_parameter_learns(batch: Batch) -> None:
    model = built(seasons=(1.0,))
    model.loss(batch, 5000, seeded()).value.backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_weight_of_the_kl_rises_to_one() -> None:
    model = built(kl_steps=10)
    for step, weight in ((0, 0.1), (4, 0.5), (9, 1.0), (500, 1.0)):
        loss = model.loss(INTERPOLATION, step, seeded())
        torch.testing.assert_close(loss.value, weight * loss.logs["kl"] + loss.logs["nll"])


# -- sampling and forecasts ----------------------------------------------------------------------


def test_forecast_follows_the_prior_from_the_last_visible_row(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, batch = built(), EXTRAPOLATION
    silence(monkeypatch)
    with torch.no_grad():
        for parameter in model.prior.net.parameters():
            parameter.zero_()
    mean = model.predict(batch, 2, seeded()).mean
    context = model.encode(batch.x, batch.mask, batch.t)
    for i in range(3):
        seen = batch.mask[i].any(-1).nonzero().max()
        c = batch.t[i, seen]
        at_c = model.marginal(context, c.expand(3, 1))[0][i, 0]
        for n in range(12):
            z = model.marginal(context, batch.t[i, n].expand(3, 1))[0][i, 0]
            if n > seen:
                turn = (model.prior.poles * (batch.t[i, n] - c)).exp()
                z = torch.view_as_real(turn * torch.view_as_complex(at_c.view(2, 2))).flatten()
            expected = model.decode(z).expand(2, -1)
            torch.testing.assert_close(mean[:, i, n], expected, rtol=1e-4, atol=1e-5)


def test_draws_have_the_moments_of_the_posterior(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = built(), INTERPOLATION
    model.decode = torch.nn.Identity()  # the latent state itself
    monkeypatch.setattr("baselines.sde_matching.ROWS_AT_ONCE", 36 * 700)  # in several parts
    draws = model.predict(batch, 8000, seeded()).mean
    context = model.encode(batch.x, batch.mask, batch.t)
    mu, s = model.marginal(context, batch.t)
    shown = ~batch.beyond.bool()
    assert draws.shape[0] == 8000
    assert ((draws.mean(0) - mu)[shown].abs() < 5 * s[shown] / math.sqrt(8000)).all()
    torch.testing.assert_close(draws.std(0)[shown], s[shown], rtol=0.05, atol=0)


def test_samples_with_and_without_noise() -> None:
    t = torch.linspace(0, 1, 12)
    plain, noisy = (built(noise=noise).sample(2000, t, seeded()) for noise in (False, True))
    difference = noisy - plain  # the noise is drawn last
    assert difference.std().item() == pytest.approx(0.1, rel=0.03)
    assert abs(difference.mean().item()) < 0.002


def test_samples_begin_in_the_law_of_the_first_state() -> None:
    model = built(noise=False)
    model.decode = torch.nn.Identity()  # the latent state itself
    m0, s0 = torch.tensor([3.0, -2.0, 1.0, 0.0]), torch.tensor([0.1, 0.5, 1.0, 2.0])
    with torch.no_grad():
        model.prior.m0.copy_(m0)
        model.prior.log_s0.copy_(s0.log())
    first = model.sample(20_000, torch.zeros(1), seeded())[:, 0]
    torch.testing.assert_close(first.mean(0), m0, rtol=0, atol=0.05)
    torch.testing.assert_close(first.std(0), s0, rtol=0.03, atol=0)


def test_gradients_are_to_be_clipped() -> None:
    assert built(clip_norm=0.5).optimisers()["main"].max_norm == 0.5


@pytest.mark.parametrize(("latents", "seasons"), [(5, ()), (0, ()), (4, (1.0, 2.0, 3.0))])
def test_bad_configuration(latents: int, seasons: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match=f"expected an even number .* found {latents} for"):
        built(latents=latents, seasons=seasons)
