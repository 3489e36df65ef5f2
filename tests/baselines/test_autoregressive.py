"""What RNN, GRU-D and ODE-RNN share: which rows are read, what a prediction knows, the loss."""

import dataclasses

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal

from baselines.autoregressive import Autoregressive, fed_back, reading
from baselines.gru_d import GRUD
from baselines.ode_rnn import ODERNN
from baselines.rnn import RNN
from harness.contract import Batch, Shape, Task
from tests.baselines.test_rubanova import seeded, together

TASKS: tuple[Task, ...] = ("reconstruction", "interpolation", "extrapolation")
LENGTHS = (12, 3, 1, 8)

every_model = pytest.mark.parametrize("model_class", [RNN, GRUD, ODERNN])
every_task = pytest.mark.parametrize("task", TASKS)


def built(model_class: type[Autoregressive], channels: int = 2) -> Autoregressive:
    """A small model whose weights and biases are larger than the initial ones."""
    model = model_class(model_class.Config(latents=5, units=6), Shape(12, channels))
    for i, p in enumerate(model.parameters()):
        nn.init.normal_(p, std=0.5, generator=seeded(i))
    return model


def record(length: int, seed: int, task: Task) -> Batch:
    """One record on its own irregular grid, half of its values observed, the last row too."""
    generator = seeded(seed)
    t = torch.rand(1, length, generator=generator).sort().values
    observed = torch.rand(1, length, 2, generator=generator).round()
    observed[:, -1, 0] = 1
    x = torch.randn(1, length, 2, generator=generator)
    hidden = {
        "reconstruction": torch.zeros_like(t),
        "interpolation": torch.rand(1, length, generator=generator).round(),
        "extrapolation": (t >= 0.5).to(t.dtype),
    }[task][..., None]
    shown = observed * (1 - hidden)
    return Batch(x, t, shown, observed if task == "reconstruction" else observed * hidden)


def records(task: Task) -> list[Batch]:
    """Records of several lengths; the last shows nothing at its end, one shows nothing at all."""
    singles = [record(length, seed, task) for seed, length in enumerate((*LENGTHS, 6))]
    singles[3].mask[:, -4:] = 0
    singles[4].mask[:] = 0
    return singles


def read_next(mask: Tensor, target: Tensor, i: int) -> str | None:
    """What the definition says about row `i` of one record: read the row, the forecast, nothing."""
    if mask[i].any():
        return "row"
    return "forecast" if not mask[i:].any() and target[i + 1 :].any() else None


def assert_equals_reference(model: Autoregressive, reference, task: Task) -> None:  # type: ignore[no-untyped-def]
    """Compare a padded batch with `reference(model, x, mask, target, t)`, record by record.

    A record's garbage outside the mask is replaced by NaN for the reference.
    """
    singles = records(task)
    found = model.predict(together(singles), 1, seeded()).mean[0]
    assert any(fed_back(s).any() for s in singles), "feed-back must be among what is tested"
    for row, s in zip(found, singles, strict=True):
        x = torch.where(s.mask > 0, s.x, torch.nan)[0]
        expected = reference(model, x, s.mask[0], s.target[0], s.t[0])
        torch.testing.assert_close(row[: len(x)], expected)


# -- which rows are read -------------------------------------------------------------------------


def example() -> Batch:
    rows = {  # S seen, T target, B both
        "interpolation": "TSTSTT__",
        "extrapolation": "SSSTTTTT",
        "reconstruction": "BBBBB___",
        "nothing seen": "TTT_T___",
        "nothing at all": "________",
    }
    seen, target = (
        torch.tensor([[float(c in kinds) for c in row] for row in rows.values()])[..., None]
        for kinds in ("SB", "TB")
    )
    return Batch(torch.zeros_like(seen), torch.linspace(0, 1, 8).expand(5, -1), seen, target)


def test_rows_that_are_fed_back() -> None:
    fed = fed_back(example())
    assert ["".join("f" if f else "_" for f in row) for row in fed] == [
        "____f___",  # the last target is predicted, not read
        "___ffff_",
        "________",
        "ffff____",  # with the rows between targets
        "________",
    ]


def test_reading() -> None:
    rows = reading(example())
    assert rows.seen.shape == (5, 5) and rows.ahead.shape == (5, 4)
    assert rows.n_seen.tolist() == [2, 3, 5, 0, 0]
    assert [rows.seen[i, : rows.n_seen[i]].tolist() for i in range(3)] == [
        [1, 3],
        [0, 1, 2],
        [0, 1, 2, 3, 4],
    ]
    assert [rows.ahead[i, :n].tolist() for i, n in ((0, 1), (1, 4), (3, 4))] == [
        [4],
        [3, 4, 5, 6],
        [0, 1, 2, 3],
    ]
    assert rows.before.tolist() == [  # the path: the initial state, 5 after seen rows, 4 fed back
        [0, 0, 1, 1, 2, 6, 6, 6],
        [0, 1, 2, 3, 6, 7, 8, 9],
        [0, 1, 2, 3, 4, 5, 5, 5],
        [0, 6, 7, 8, 9, 9, 9, 9],
        [0, 0, 0, 0, 0, 0, 0, 0],
    ]


# -- what a prediction knows ---------------------------------------------------------------------


@every_model
@pytest.mark.usefixtures("double")
def test_a_prediction_knows_the_rows_before_it(model_class: type[Autoregressive]) -> None:
    model, batch = built(model_class), record(12, 0, "reconstruction")
    before = model.forecast(batch)[0]
    for i in range(12):
        changed = dataclasses.replace(batch, x=batch.x.clone())
        changed.x[:, i] += 1
        differs = (model.forecast(changed)[0] != before).any(1)
        assert not differs[: i + 1].any()
        seen = bool(batch.mask[:, i].any())
        assert differs[i + 1 :].tolist() == [seen] * (11 - i)


@every_model
@every_task
def test_hidden_values_do_not_matter(model_class: type[Autoregressive], task: Task) -> None:
    model, batch = built(model_class), together(records(task))
    changed = dataclasses.replace(batch, x=batch.x + 7 * (1 - batch.mask))
    assert torch.equal(model.forecast(batch), model.forecast(changed))


@every_model
@every_task
@pytest.mark.usefixtures("double")
def test_neighbours_and_padding_do_not_matter(
    model_class: type[Autoregressive], task: Task
) -> None:
    model, singles = built(model_class), records(task)
    found = model.forecast(together(singles))
    for row, single in zip(found, singles, strict=True):
        alone = model.forecast(single)[0]
        torch.testing.assert_close(alone, row[: len(alone)])
    backwards = model.forecast(together(singles[::-1]))
    torch.testing.assert_close(backwards.flip(0), found)


@every_model
@pytest.mark.usefixtures("double")
def test_forecasts_do_not_depend_on_how_far_they_go(model_class: type[Autoregressive]) -> None:
    model, batch = built(model_class), record(12, 0, "extrapolation")
    last = int(batch.target.any(-1).nonzero()[:, 1].max())
    fewer = dataclasses.replace(batch, target=batch.target.clone())
    fewer.target[:, last - 1 :] = 0
    torch.testing.assert_close(
        model.forecast(fewer)[:, : last - 1], model.forecast(batch)[:, : last - 1]
    )


# -- training ------------------------------------------------------------------------------------


@every_model
def test_loss_and_prediction(model_class: type[Autoregressive]) -> None:
    """A mean of means that counts empty channels, of the density that `predict` describes."""
    model = built(model_class)
    batch = together([record(12, 0, "interpolation"), record(7, 1, "interpolation")])
    batch.target[0, :, 0] = 0  # an empty channel
    prediction = model.predict(batch, 3, seeded())
    assert prediction.mean.shape == (1, 2, 12, 2)
    assert prediction.std.item() == pytest.approx(0.1)
    expected = 0.0
    for i in range(2):
        for d in range(2):
            scored = batch.target[i, :, d] > 0
            if scored.any():
                density = Normal(prediction.mean[0, i, scored, d], prediction.std)
                expected -= density.log_prob(batch.x[i, scored, d]).mean().item() / 4
    assert model.loss(batch, 0, seeded()).value.item() == pytest.approx(expected, rel=1e-5)


@every_model
@every_task
def test_sparse_records_have_finite_gradients(
    model_class: type[Autoregressive], task: Task
) -> None:
    """Empty channels, a single row, a record that shows nothing; then a batch of such records."""
    singles = records(task)
    singles[0].mask[..., 1] = singles[0].target[..., 1] = 0
    for batch in (together(singles), singles[4]):
        model = built(model_class)
        loss = model.loss(batch, 0, seeded()).value
        loss.backward()
        assert loss.isfinite()
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        assert gradients and all(g.isfinite().all() for g in gradients)


@every_model
def test_every_parameter_is_trained(model_class: type[Autoregressive]) -> None:
    model = model_class(model_class.Config(), Shape(12, 2))
    model.loss(together(records("reconstruction")), 0, seeded()).value.backward()
    for name, p in model.named_parameters():
        assert p.grad is not None and p.grad.any(), f"{name} has no gradient"
