"""Random streams: no two purposes, seeds or cells share one."""

from itertools import product
from typing import get_args

import torch

from harness.cells import Cell, cells, describe_cell
from harness.config import Settings
from harness.run.streams import Purpose, numpy_stream, seed_of, torch_stream
from tests import specs
from tests.checkout import configuration

PURPOSES = get_args(Purpose)
CPU = torch.device("cpu")


def test_seeds_differ_in_the_32_bits_that_torch_takes() -> None:
    settings = Settings(**configuration())
    found = {
        (cell, purpose): seed_of(describe_cell(settings, cell), purpose)
        for cell, purpose in product(cells(settings), PURPOSES)
    }
    assert all(0 <= seed < 2**32 for seed in found.values())
    assert len(set(found.values())) == len(found)


def test_streams_are_reproducible_and_apart() -> None:
    spec = specs.cell(seed=0)

    def draws(spec, purpose) -> tuple:
        torch_draw = torch.randn(3, generator=torch_stream(spec, purpose, CPU)).tolist()
        return (*torch_draw, *numpy_stream(spec, purpose).normal(size=3))

    assert draws(spec, "training") == draws(spec, "training")
    others = [draws(specs.cell(seed=s), p) for s, p in product((0, 1, 2), PURPOSES)]
    assert len(set(others)) == len(others)


def test_a_longer_training_begins_like_a_shorter_one() -> None:
    settings = [Settings(**configuration(budget=budget)) for budget in ("full", "paper")]
    cell = Cell("generation", "solar_weekly", "ls4", 0, control=False)
    assert len({seed_of(describe_cell(s, cell), "training") for s in settings}) == 1
