"""Measure the power of the two-sample tests on a data set, with the settings of the scores."""

import torch

from harness.powers import LEVEL, Power
from harness.records import circumstances
from harness.run.generation import ScoringSetup, check_scorable
from metrics.power import TARGETS, power
from metrics.two_sample import LARGE


def measure_power(setup: ScoringSetup) -> Power:
    """Count in how many random splits of the real series the tests find each known fault.

    Raises
    ------
    UserError
        If the data are too few or too plain for scores of samples.
    """
    dataset, settings = setup.dataset, setup.evaluation
    check_scorable(dataset)
    n = min(len(dataset.test), LARGE, len(dataset.x) // 2)  # two sets are drawn
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
