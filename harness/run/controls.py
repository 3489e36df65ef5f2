"""Controls that generate: rows of a table that nobody trains, through the same scores as the
models.

Each is a function (training series (N, L, D), n, rng) -> (n, L, D), named in config/controls.yaml;
the others of that file are in `metrics.degradations`, since the power of the tests is measured on
them. If a control beats a model, the table shows it: on data sets of a hundred series a plain
Gaussian often does."""

import numpy as np
from jaxtyping import Float

from harness.errors import UserError
from metrics.degradations import DEGRADATIONS, real

Train = Float[np.ndarray, "N L D"]
Series = Float[np.ndarray, "n L D"]

random_phases = DEGRADATIONS["random_phases"]
noise_30 = DEGRADATIONS["noise_30"]
time_reversal = DEGRADATIONS["time_reversal"]


def noise_floor(train: Train, n: int, rng: np.random.Generator) -> Series:
    """`n` different training series: what real data score against the test set.

    Raises
    ------
    UserError
        If there are fewer than `n` training series.
    """
    if len(train) < n:
        raise UserError(
            f"noise_floor: expected at least {n} training series, as many as test series, found"
            f" {len(train)}; see split.fractions of the data set"
        )
    return real(train, n, rng)
