"""Controls: rows of a table that nobody trains, through the same scores as the models.

Each is a function (training series (N, L, D), n, rng) -> (n, L, D). Persistence is not among them:
it predicts x_{n+1} = x_n and generates nothing, so it has a prediction score only. If a control
beats a model, the table shows it: on data sets of a hundred series a plain Gaussian often does.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from harness.errors import UserError

Train = Float[np.ndarray, "N L D"]
Series = Float[np.ndarray, "n L D"]


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
    return train[rng.choice(len(train), n, replace=False)]


def memoriser(train: Train, n: int, rng: np.random.Generator) -> Series:
    """Training series drawn with replacement: the best a model could do by copying."""
    return train[rng.choice(len(train), n)]


def gaussian(train: Train, n: int, rng: np.random.Generator) -> Series:
    """A Gaussian with the training series' mean and covariance over all (L D) values.

    The covariance gets 1e-4 on its diagonal. With fewer series than values it is singular, so it is
    sampled through the centred series themselves: X^T a / sqrt(N), a standard normal.
    """
    flat = train.reshape(len(train), -1).astype(np.float64)
    mean = flat.mean(0)
    draws = rng.standard_normal((n, len(flat))) @ (flat - mean) / np.sqrt(max(len(flat) - 1, 1))
    draws += mean + np.sqrt(1e-4) * rng.standard_normal(draws.shape)
    return draws.reshape(n, *train.shape[1:]).astype(train.dtype)


def white_noise(train: Train, n: int, rng: np.random.Generator) -> Series:
    """Independent normal values with the training data's mean and deviation, channel by channel."""
    mean, std = train.mean((0, 1)), train.std((0, 1))
    return (mean + std * rng.standard_normal((n, *train.shape[1:]))).astype(train.dtype)


GENERATORS: dict[str, Callable[[Train, int, np.random.Generator], Series]] = {
    "noise_floor": noise_floor,
    "memoriser": memoriser,
    "gaussian": gaussian,
    "white_noise": white_noise,
}
