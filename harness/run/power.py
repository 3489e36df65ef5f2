"""Measure the power of the two-sample tests on a data set, with the settings of the scores."""

import numpy as np
import torch

from harness.cells import Scoring
from harness.powers import LEVEL, Power
from harness.records import circumstances
from harness.run.generation import FEWEST, ScoringSetup, check_scorable
from metrics.power import TARGETS, power


def measure_power(setup: ScoringSetup) -> Power:
    """Count in how many random splits of the real series the tests find each known fault.

    Raises
    ------
    UserError
        If the data are too few or too plain for scores of samples.
    """
    dataset, settings = setup.dataset, setup.evaluation
    check_scorable(dataset)
    test, everything = (len(np.unique(g)) for g in (dataset.groups[dataset.test], dataset.groups))
    n = min(test, everything // 2)  # two sets are drawn
    if n < FEWEST:
        reason = f"expected two sets of {FEWEST} or more series, windows of one as one, found {n}"
        return unmeasured(dataset.name, setup.scoring, reason)
    shares = power(
        dataset.x,
        n,
        group=dataset.groups,
        season=setup.description.season,
        splits=settings.splits,
        permutations=settings.permutations,
        level=LEVEL,
    )
    return _power(setup.scoring, dataset.name, dataset.data_digest, n, shares)


def unmeasured(name: str, scoring: Scoring, reason: str) -> Power:
    """Return the record of a data set that cannot be had, or not be read."""
    return _power(scoring, name, "", 0, {}, reason)


def _power(
    scoring: Scoring,
    name: str,
    data_digest: str,
    n: int,
    shares: dict[str, dict[str, float]],
    reason: str | None = None,
) -> Power:
    made = circumstances(torch.device("cpu"))
    return Power(
        dataset=name,
        data_digest=data_digest,
        n=n,
        season=scoring.dataset.season,
        splits=scoring.evaluation.splits,
        permutations=scoring.evaluation.permutations,
        level=LEVEL,
        shares=shares,
        targets=TARGETS,
        reason=reason,
        **{key: made[key] for key in ("version", "commit", "date")},
    )
