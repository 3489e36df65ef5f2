"""Other gaps in every step, and the first frequencies of time."""

import dataclasses
import math

import pytest
import torch
from torch.nn import functional as F

from baselines.gap_filling import begin_at_many_scales, hide_anew
from harness.contract import Batch
from tests.baselines.test_cru import records, seeded, select


def filled_in(n: int = 200, length: int = 20) -> Batch:
    """Records with a hidden row before the last visible one, and garbage where nothing is known."""
    batch = records(n, length)
    gaps = batch.target * (1 - batch.beyond)[..., None]
    batch = select(batch, gaps.amax((1, 2)) > 0)
    unknown = 1 - batch.mask - batch.target
    return dataclasses.replace(batch, x=batch.x + 9 * unknown)


def lengthened(batch: Batch) -> Batch:
    """Records padded to twice their length, with garbage in x."""
    x, mask, target = (F.pad(a, (0, 0, 0, a.shape[1])) for a in (batch.x, batch.mask, batch.target))
    last = batch.t[:, -1:].expand_as(batch.t)
    x[:, batch.t.shape[1] :] = 9
    return Batch(x, torch.cat([batch.t, last], 1), mask, target)


@pytest.mark.parametrize("length", [4, 20])
def test_what_is_known_is_split_by_rows(length: int) -> None:
    batch = filled_in(length=length)
    anew = hide_anew(batch, seeded())
    assert torch.equal(anew.mask + anew.target, batch.mask + batch.target)
    shown, hidden = anew.mask.amax(-1), anew.target.amax(-1)
    assert not (shown * hidden).any(), "whole rows are hidden"
    assert (shown.sum(1) >= 1).all() and (hidden.sum(1) >= 1).all()
    assert not torch.equal(anew.mask, batch.mask)


def test_shares_are_uniform() -> None:
    """Of complete records of 100 rows: mean 0.5, variance 0.8^2 / 12, between 0.1 and 0.9."""
    ones = torch.ones(2000, 100, 1)
    first = torch.zeros_like(ones)
    first[:, 0] = 1
    batch = Batch(ones, torch.linspace(0, 1, 100).expand(2000, -1), 1 - first, first)
    hidden = hide_anew(batch, seeded()).target[..., 0]
    share = hidden.mean(1)
    assert share.min() >= 0.1 and share.max() <= 0.9
    assert abs(share.mean() - 0.5) < 4 * math.sqrt(0.64 / 12 / 2000)
    assert abs(share.var() / (0.64 / 12) - 1) < 0.1
    # every row alike, and near 0.5: 4 standard deviations of a mean of 2000 coins, at 100 rows
    assert (hidden.mean(0) - 0.5).abs().max() < 4 * 0.5 / math.sqrt(2000)


def test_forecasts_and_shown_targets_stay() -> None:
    batch = filled_in()
    seen = torch.maximum(batch.mask, batch.target)
    early = (torch.arange(batch.t.shape[1]) < 4)[None, :, None]
    forecast = dataclasses.replace(batch, mask=seen * early, target=seen * ~early)
    shown = dataclasses.replace(batch, mask=seen, target=seen)
    for unchanged in (forecast, shown):
        anew = hide_anew(unchanged, seeded())
        assert torch.equal(anew.mask, unchanged.mask) and torch.equal(anew.target, unchanged.target)


def test_a_draw_is_the_generators() -> None:
    batch = filled_in()
    a, b, c = (hide_anew(batch, seeded(seed)).mask for seed in (0, 0, 1))
    assert torch.equal(a, b) and not torch.equal(a, c)


def test_frequencies() -> None:
    weight, bias = torch.empty(7), torch.empty(7)
    begin_at_many_scales(weight, bias, 10.0)
    cycles = weight / (2 * math.pi)
    torch.testing.assert_close(cycles[[0, -1]], torch.tensor([0.1, 10.0]))
    torch.testing.assert_close(cycles[1:] / cycles[:-1], torch.full((6,), 100 ** (1 / 6)))
    t = torch.linspace(0, 1, 50)
    torch.testing.assert_close(torch.sin(weight[0] * t + bias[0]), torch.sin(weight[0] * t))
    torch.testing.assert_close(torch.sin(weight[1] * t + bias[1]), torch.cos(weight[1] * t))
