"""What each task shows and hides, the union grid, and the order of batches."""

from typing import get_args

import numpy as np
import pytest
import torch

from datasets.base import Dataset
from datasets.synthetic import load as sines
from harness.config import Grid, Protocol
from harness.errors import UserError
from harness.run.view import View, batch_indices, hidden_rows, on_union, view
from harness.tasks import TASKS, Task
from tests import specs

GRIDS = get_args(Grid)


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return sines(
        [], name="sines", title="Sines", n=30, length=20, channels=3, seed=1, observed=0.3,
        split={"seed": 0, "fractions": [0.7, 0.1, 0.2]},
    )  # fmt: skip


def entries(batch, part: str) -> list[set[tuple[float, int, float]]]:
    """What a batch shows, or scores, of each record: a set of (t, channel, value)."""
    found = []
    for x, t, chosen in zip(batch.x, batch.t, getattr(batch, part), strict=True):
        rows, channels = chosen.nonzero(as_tuple=True)
        found.append(
            {(t[i].item(), int(c), x[i, c].item()) for i, c in zip(rows, channels, strict=True)}
        )
    return found


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("task", TASKS)
def test_every_observation_is_shown_or_scored(dataset: Dataset, task: Task, grid: Grid) -> None:
    indices = dataset.train[:7]
    batch = View(dataset, task, grid=grid).batch(indices)
    shown, scored = entries(batch, "mask"), entries(batch, "target")
    for index, seen, target in zip(indices, shown, scored, strict=True):
        rows, channels = dataset.mask[index].nonzero()
        everything = {
            (float(dataset.t[index, i]), int(c), float(dataset.x[index, i, c]))
            for i, c in zip(rows, channels, strict=True)
        }
        assert seen | target == everything
        if task in ("generation", "reconstruction"):
            assert seen == target
        else:
            assert not seen & target and seen and target
        if task == "extrapolation":
            assert max(t for t, *_ in seen) < 0.5 <= min(t for t, *_ in target)
    assert (batch.t.diff(dim=1) >= 0).all()
    assert not batch.x[(batch.mask + batch.target) == 0].any()


def test_interpolation_hides_whole_time_points_of_the_stated_share(dataset: Dataset) -> None:
    rows = dataset.mask.any(-1)
    indices = np.arange(len(rows))
    hide = hidden_rows(rows, indices, 0.5, seed=3)
    assert not hide[~rows].any()
    assert np.array_equal(hide.sum(1), [round(0.5 * n) for n in rows.sum(1)])
    batch = View(dataset, "interpolation").batch(dataset.test)
    assert not (batch.mask.amax(-1) * batch.target.amax(-1)).any()


def test_hidden_points_depend_on_record_and_seed_alone(dataset: Dataset) -> None:
    rows, indices = dataset.mask.any(-1), np.arange(len(dataset.x))
    hide = hidden_rows(rows, indices, 0.5, seed=3)
    assert np.array_equal(hide[[4, 2]], hidden_rows(rows[[4, 2]], indices[[4, 2]], 0.5, seed=3))
    assert not np.array_equal(hide, hidden_rows(rows, indices, 0.5, seed=4))
    fewer = hidden_rows(rows, indices, 0.3, seed=3)
    assert (fewer <= hide).all() and (fewer < hide).any(), "smaller shares are nested in larger"


def test_one_time_point_always_remains() -> None:
    rows = np.array([[True, True, True], [True, False, False], [False, False, False]])
    hide = hidden_rows(rows, np.arange(3), 0.99, seed=0)
    assert hide.sum(1).tolist() == [2, 0, 0]


def test_record_grids_are_cut_to_the_longest_record(dataset: Dataset) -> None:
    length = dataset.mask.any(-1).sum(1)
    shortest = np.argsort(length)[:2]
    batch = View(dataset, "reconstruction").batch(shortest)
    assert batch.x.shape[1] == length[shortest].max() < dataset.x.shape[1]


def test_union_grid() -> None:
    t = np.array([[0.1, 0.4, 0.4], [0.2, 0.4, 0.9]], dtype=np.float32)
    rows = np.array([[True, True, False], [True, True, True]])
    x = np.arange(1, 7, dtype=np.float32).reshape(2, 3, 1) * rows[..., None]
    union, (on_grid,) = on_union(t, rows, (x,))
    assert np.array_equal(union, np.float32([[0.1, 0.2, 0.4, 0.9]] * 2))
    assert on_grid[..., 0].tolist() == [[1, 0, 2, 0], [0, 4, 5, 6]]


def test_released_cut_counts_rows_of_the_union(dataset: Dataset) -> None:
    released = View(dataset, "extrapolation", Protocol(cut="count"), "union")
    batch = released.batch(dataset.train[:5])
    half = batch.t.shape[1] // 2
    assert batch.mask[:, :half].any() and not batch.mask[:, half:].any()
    assert batch.target[:, half:].any() and not batch.target[:, :half].any()


def test_a_value_at_the_cut_is_to_be_predicted() -> None:
    """Such as one after 24 of 48 hours, when many patients have some."""
    regular = sines([], name="s", title="S", n=10, length=21, channels=1, seed=0, split=specs.SPLIT)
    batch = View(regular, "extrapolation").batch(regular.test)
    assert (batch.t[:, 10] == 0.5).all()
    assert not batch.mask[:, 10:].any() and batch.mask[:, :10].all()
    assert torch.equal(batch.target, 1 - batch.mask)


def test_generation_needs_complete_series(dataset: Dataset) -> None:
    with pytest.raises(
        UserError, match=r"complete series for generation, found \d+% of the values missing"
    ):
        view(specs.control("gaussian"), dataset)


def test_an_epoch_visits_every_series_once() -> None:
    train = np.arange(10, 21)
    epochs = [
        np.concatenate([batch_indices(train, 4, e * 3 + k, 0) for k in range(3)]) for e in (0, 1)
    ]
    assert all(np.array_equal(np.sort(epoch), train) for epoch in epochs)
    assert not np.array_equal(*epochs)
    assert np.array_equal(batch_indices(train, 4, 4, 0), epochs[1][4:8])


def test_rows_beyond_the_last_visible_one(dataset: Dataset) -> None:
    batch = View(dataset, "extrapolation").batch(dataset.train[:4])
    for beyond, mask in zip(batch.beyond, batch.mask, strict=True):
        last = int(mask.any(-1).nonzero().max())
        assert torch.equal(beyond, (torch.arange(len(mask)) > last).float())
