"""The work that is counted, by hand on small networks."""

import pytest
import torch

from ls4.blocks import Network
from ls4.work import step_work, training_work
from tests.ls4.series import SMALL, small

FFT = 2.5 * 48 * 5.584962500721156  # operations of one of length 48, log2(48)


def test_training_without_pooling() -> None:
    """A pair is one layer of systems and two residual blocks."""
    work = training_work(Network(1, 1, **SMALL, pool=()), batch=3, length=24)
    assert work.operations == pytest.approx(3 * 8 * 4 * FFT)
    assert work.bytes == 2 * 5 * 4 * 3 * 24 * 8


def test_the_coarse_level_has_shorter_sequences_and_twice_the_width() -> None:
    fine, pooled = (
        training_work(Network(1, 1, **SMALL, pool=pool), batch=3, length=48) for pool in ((), (2,))
    )
    assert pooled.operations - fine.operations == pytest.approx(3 * 16 * 4 * FFT)
    assert pooled.bytes - fine.bytes == 2 * 5 * 4 * 3 * 24 * 16


def test_generation_step() -> None:
    model = small(pool=())
    states = (8 + 3 + 3) * 4  # of the pair and of the two layers that read out
    assert model.generation_work(5) == step_work(model.prior, 5) == (30 * states, 80 * states)
    with torch.no_grad():
        step, advance = model.generation_step(5), model.prior.stepper(5)
        for _ in range(3):
            for found, expected in zip(step(), advance(torch.zeros(5, 3)), strict=True):
                assert torch.equal(found, expected)
