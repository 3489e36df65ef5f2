"""Measure the power of the two-sample tests on a data set, with the settings of the scores."""

import torch

from harness.powers import Power
from harness.records import circumstances
from harness.run.generation import ScoringSetup
from metrics.power import TARGETS, power
from metrics.two_sample import LARGE

LEVEL = 0.05


def measure_power(setup: ScoringSetup) -> Power:
    """Count in how many random splits of the real series the tests find each known fault.

    Raises
    ------
    UserError
        If there are too few series to split.
    """
    dataset, settings = setup.dataset, setup.evaluation
    n = min(len(dataset.test), LARGE)
    shares = power(
        dataset.x,
        n,
        season=setup.description.season,
        splits=settings.splits,
        permutations=settings.permutations,
        level=LEVEL,
    )
    made = circumstances(torch.device("cpu"))
    return Power(
        dataset=dataset.name,
        data_digest=dataset.data_digest,
        n=n,
        season=setup.description.season,
        splits=settings.splits,
        permutations=settings.permutations,
        level=LEVEL,
        shares=shares,
        targets=TARGETS,
        **{key: made[key] for key in ("version", "commit", "date")},
    )
