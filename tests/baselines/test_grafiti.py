"""GraFITi: against equations written node by node, leaks, scales, and what it can learn."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal
from torch.optim.lr_scheduler import LambdaLR

from baselines import grafiti
from baselines.grafiti import MAB, Edges, GraFITi, GraFITiConfig
from harness.contract import Batch, Shape
from metrics.error import micro, sums
from tests.baselines.test_cru import records, seeded
from tests.baselines.test_gap_filling import lengthened

SMALL = {"width": 8, "layers": 2, "heads": 2}


def built(channels: int = 2, **changes: object) -> GraFITi:
    return GraFITi(GraFITiConfig(**SMALL | changes), Shape(12, channels))  # type: ignore[arg-type]


def predicted(model: GraFITi, batch: Batch) -> tuple[Tensor, Tensor]:
    mean, std = model.predict(batch, 1, seeded())
    return mean[0], std[0]


def trained(model: GraFITi, draw, steps: int) -> GraFITi:  # type: ignore[no-untyped-def]
    """Descend the loss of batches as they are drawn, at a rate that falls to 0."""
    generator = seeded()
    model.calibrate(draw(200, generator))
    adam = model.optimisers()["main"].optimiser
    fall = LambdaLR(adam, lambda step: 1 - step / steps)
    for step in range(steps):
        adam.zero_grad()
        model.loss(draw(32, generator), step, generator).value.backward()
        adam.step()
        fall.step()
    return model


@pytest.mark.parametrize(
    ("channels", "layers", "published"), [(41, 2, 127_233), (5, 4, 248_961), (1, 3, None)]
)
def test_parameter_count(channels: int, layers: int, published: int | None) -> None:
    """The published count, and a second output."""
    m = 64
    output = 3 * m + 1
    expected = layers * (15 * m**2 + 9 * m) + m * (channels + 6) + output
    assert published in (None, expected)
    model = built(channels, width=m, layers=layers, heads=4)
    assert sum(p.numel() for p in model.parameters()) == expected + output


# -- against the equations -----------------------------------------------------------------------


def attended(mab: MAB, node: Tensor, keys: list[Tensor]) -> Tensor:
    """A node's update, head by head."""
    h = q = mab.q(node)
    if keys:
        k, v = mab.kv(torch.stack(keys)).chunk(2, -1)
        parts = []
        for q_i, k_i, v_i in zip(*(a.chunk(mab.heads, -1) for a in (q, k, v)), strict=True):
            weights = (k_i @ q_i / len(q) ** 0.5).softmax(0)
            parts.append(weights @ v_i)
        h = q + torch.cat(parts)
    return h + mab.o(h).relu()


def reference(model: GraFITi, x: Tensor, tau: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Means and log variances (L, D) of one record."""
    length, channels = x.shape
    seen = [(n, d) for n in range(length) for d in range(channels) if mask[n, d]]
    z = (x - model.mu) / model.s
    c = {d: model.channel(nn.functional.one_hot(torch.tensor(d), channels).double()).relu()
         for d in range(channels)}  # fmt: skip
    t = {n: model.time(tau[n, None]).sin() for n in range(length)}
    e = {cell: model.edge(torch.stack([z[cell], torch.zeros(())])).relu() for cell in seen}
    cells = [(n, d) for n in range(length) for d in range(channels)]
    e_q = {cell: model.edge(torch.tensor([0.0, 1])).relu() for cell in cells}
    c_q = {(n, d): c[d] + t[n] for n, d in cells}
    for layer in model.layers:
        of_channel = {k: [torch.cat([t[n], e[n, d]]) for n, d in seen if d == k] for k in c}
        of_time = {k: [torch.cat([c[d], e[n, d]]) for n, d in seen if n == k] for k in t}
        e_q, c_q, e, c, t = (
            {(n, d): (e_q[n, d] + layer.edge(torch.cat([e_q[n, d], t[n], c_q[n, d]]))).relu()
             for n, d in cells},
            {(n, d): attended(layer.to_channel, c_q[n, d], of_channel[d]) for n, d in cells},
            {(n, d): (e[n, d] + layer.edge(torch.cat([e[n, d], t[n], c[d]]))).relu()
             for n, d in seen},
            {d: attended(layer.to_channel, c[d], of_channel[d]) for d in c},
            {n: attended(layer.to_time, t[n], of_time[n]) for n in t},
        )  # fmt: skip
    features = torch.stack([torch.cat([e_q[n, d], t[n], c_q[n, d]]) for n, d in cells])
    mean = model.mu + model.s * model.mean(features).view(length, channels)
    return mean, 2 * model.s.log() + model.log_var(features).view(length, channels)


@pytest.mark.usefixtures("double")
def test_model_against_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grafiti, "GROUPS", (0, 2, 4))  # nodes with few and with many keys
    model, batch = built(3), records(4, 16, 3)
    model.calibrate(batch)
    batch.mask[1, :, 0] = 0  # a channel without values
    batch.mask[2] = 0  # a record without any
    group = torch.bucketize(batch.mask.sum(1), torch.tensor(grafiti.GROUPS))
    assert group.unique().tolist() == [0, 1, 2, 3]
    mean, std = predicted(model, batch)
    for i in range(4):
        expected, log_var = reference(model, batch.x[i], batch.t[i], batch.mask[i])
        torch.testing.assert_close(mean[i], expected)
        torch.testing.assert_close(2 * std[i].log(), log_var)


@pytest.mark.usefixtures("double")
def test_attention_over_many_keys() -> None:
    """Nodes of every group at once, against a softmax over the keys of each."""
    torch.manual_seed(1)
    mab, m = MAB(8, 2), 8
    counts = torch.tensor([0, 1, 8, 9, 32, 33, 60])
    node = torch.arange(7).repeat_interleave(counts)
    node = node[torch.randperm(len(node), generator=seeded())]
    others, e = torch.randn(5, m), torch.randn(len(node), m)
    index = torch.randint(5, (len(node),), generator=seeded())
    keys = mab.keys(others, index, e, grafiti.Lines.of(node, 7))
    asking = torch.tensor([6, 0, 2, 6, 5, 3, 3, 4, 1])  # nodes for which someone asks
    q = torch.randn(len(asking), m)
    found = mab(q, keys, grafiti.Lines.of(asking, 7))
    both = torch.cat([others[index], e], -1)
    for i, k in enumerate(asking):
        torch.testing.assert_close(found[i], attended(mab, q[i], list(both[node == k])))


# -- what matters to a prediction ----------------------------------------------------------------


def test_hidden_values_and_other_targets_do_not_matter() -> None:
    model, batch = built(), records()
    x = torch.where(batch.mask > 0, batch.x, 1e6)
    other = dataclasses.replace(batch, x=x, target=torch.zeros_like(batch.target))
    for found, expected in zip(predicted(model, other), predicted(model, batch), strict=True):
        assert torch.equal(found, expected)


@pytest.mark.usefixtures("double")
def test_an_answer_does_not_depend_on_what_else_is_asked() -> None:
    model, batch = built(), records()
    seen, (mean, std) = model.see(batch), predicted(model, batch)
    for asked in (batch.target, batch.mask, 1 - batch.mask):
        some, log_var = model.answer(seen, Edges.where(asked))
        torch.testing.assert_close(some, mean[asked > 0])
        torch.testing.assert_close(log_var, 2 * std[asked > 0].log())


@pytest.mark.usefixtures("double")
def test_asking_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = built(), records()
    expected = predicted(model, batch)
    monkeypatch.setattr(grafiti, "QUERIES", 25)  # two rows of five records and two channels
    torch.testing.assert_close(predicted(model, batch), expected)


@pytest.mark.usefixtures("double")
def test_padding_and_order_of_rows_do_not_matter() -> None:
    model, batch = built(), records()
    batch.mask[0, :, 1] = 0  # an empty channel too
    expected = torch.stack(predicted(model, batch))
    longer = torch.stack(predicted(model, lengthened(batch)))
    torch.testing.assert_close(longer[:, :, :9], expected)
    order = torch.randperm(9, generator=seeded())
    permuted = Batch(*(getattr(batch, f.name)[:, order] for f in dataclasses.fields(Batch)))
    torch.testing.assert_close(torch.stack(predicted(model, permuted)), expected[:, :, order])


@pytest.mark.usefixtures("double")
def test_channels_are_permuted_with_their_nodes() -> None:
    model, batch = built(3), records(channels=3)
    model.calibrate(batch)
    expected = torch.stack(predicted(model, batch))
    order = torch.tensor([2, 0, 1])
    model.channel.weight.data = model.channel.weight.data[:, order]
    model.mu, model.s = model.mu[order], model.s[order]
    x, mask, target = (a[..., order] for a in (batch.x, batch.mask, batch.target))
    found = torch.stack(predicted(model, Batch(x, batch.t, mask, target)))
    torch.testing.assert_close(found, expected[..., order])


def test_empty_channels_and_records_have_finite_gradients() -> None:
    model, batch = built(), records()
    batch.mask[:, :, 0] = 0
    batch.mask[1] = batch.target[2] = 0
    model.loss(batch, 0, seeded()).value.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    nothing = dataclasses.replace(batch, mask=0 * batch.mask, target=0 * batch.target)
    assert model.loss(nothing, 0, seeded()).value == 0
    assert torch.stack(predicted(model, nothing)).isfinite().all()


# -- objective and scales ------------------------------------------------------------------------


def test_loss_is_the_micro_mse_and_the_likelihood() -> None:
    model, batch = built(), records()
    model.calibrate(batch)
    loss, (mean, std) = model.loss(batch, 0, seeded()), predicted(model, batch)
    target = batch.target > 0
    squares = np.square(mean.numpy() - batch.x.numpy())
    mse = micro(sums(squares, target.numpy()))
    assert mse is not None and loss.logs["mse"].item() == pytest.approx(mse, rel=1e-5)
    nll = -Normal(mean, std).log_prob(batch.x)[target].mean()
    torch.testing.assert_close(loss.logs["nll"], nll)
    torch.testing.assert_close(loss.value, loss.logs["mse"] / model.variance + nll)


def test_sigma_takes_nothing_from_the_mean() -> None:
    """The output of the mean has the gradient of the squared error alone, whatever sigma is."""
    model, batch = built(), records()
    nn.init.constant_(model.log_var.bias, -3.0)
    (gradient,) = torch.autograd.grad(model.loss(batch, 0, seeded()).value, model.mean.weight)
    mean, _ = model.answer(model.see(batch), Edges.where(batch.target))
    mse = (batch.x[batch.target > 0] - mean).square().mean()
    torch.testing.assert_close(gradient, *torch.autograd.grad(mse, model.mean.weight))


def test_scales_are_those_of_all_known_values() -> None:
    model = built(4)
    x = torch.arange(96.0).view(2, 12, 4) ** 1.5
    mask, target = torch.zeros(2, 2, 12, 4).unbind()
    mask[0, :3, 0] = target[1, 5, 0] = 1
    mask[:, :, 1] = 1
    mask[0, 3, 2] = 1  # once: no deviation; channel 3: never
    model.calibrate(Batch(x, torch.zeros(2, 12), mask, target))
    first, second = x[..., 0][(mask + target)[..., 0] > 0], x[..., 1]
    expected = [first.mean(), second.mean(), x[0, 3, 2], torch.zeros(())]
    torch.testing.assert_close(model.mu, torch.stack(expected))
    deviations = [a.std(correction=0) for a in (first, second)]
    torch.testing.assert_close(model.s, torch.stack([*deviations, *torch.ones(2)]))
    variance = (4 * first.var(correction=0) + 24 * second.var(correction=0)) / 29
    torch.testing.assert_close(model.variance, variance)
    assert {"mu", "s", "variance"} <= model.state_dict().keys()


@pytest.mark.usefixtures("double")
def test_units_do_not_matter() -> None:
    batch = records()
    a, b = torch.tensor([1e-3, 50.0]), torch.tensor([7.0, -200.0])
    known = torch.maximum(batch.mask, batch.target)
    other = dataclasses.replace(batch, x=(a * batch.x + b) * known)
    found = []
    for data in (batch, other):
        torch.manual_seed(0)
        model = built()
        model.calibrate(data)
        found.append(predicted(model, data))
    (mean, std), (other_mean, other_std) = found
    torch.testing.assert_close(other_mean, a * mean + b)
    torch.testing.assert_close(other_std, a * std)


# -- learning ------------------------------------------------------------------------------------


def test_linear_interpolation_is_learnt() -> None:
    """Between two values, at the ends, lie ten that are asked for: time must enter."""

    def draw(n: int, generator: torch.Generator) -> Batch:
        t = torch.rand(n, 12, generator=generator).sort().values
        t[:, 0], t[:, -1] = 0, 1
        ends = torch.rand(n, 2, generator=generator)
        x = torch.lerp(ends[:, :1], ends[:, 1:], t)[..., None]
        mask = torch.zeros_like(x)
        mask[:, [0, -1]] = 1
        return Batch(x, t, mask, 1 - mask)

    model = trained(built(1, width=32, lr=0.01, frequency=2.0), draw, 400)
    batch = draw(200, seeded(1))
    error = (predicted(model, batch)[0] - batch.x) * batch.target
    assert (error.square().sum() / batch.target.sum()).item() < 1e-3


def test_a_copy_of_another_channel_is_learnt() -> None:
    """White noise in two channels alike: only the one tells the other, which no time does."""

    def draw(n: int, generator: torch.Generator) -> Batch:
        t = torch.rand(n, 12, generator=generator).sort().values
        x = torch.randn(n, 12, 1, generator=generator).expand(-1, -1, 2)
        hidden = (torch.rand(n, 12, generator=generator) < 0.5).float()
        target = torch.stack([0 * hidden, hidden], -1)
        return Batch(x, t, 1 - target, target)

    model = trained(built(width=32, lr=0.01), draw, 300)
    batch = draw(200, seeded(1))
    mean, std = predicted(model, batch)
    error = ((mean - batch.x) * batch.target).square().sum() / batch.target.sum()
    assert error.item() < 0.02  # of a variance of 1
    assert std[batch.target > 0].mean().item() < 0.3
