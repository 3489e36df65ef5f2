"""Series that are wrong in one known way: what a score must be able to see.

Each is a function (training series (N, L, D), n, rng) -> (n, L, D), like a model that was trained
on the series. Two are references without a fault: `real` series, and copies of them.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from scipy.ndimage import uniform_filter1d

Train = Float[np.ndarray, "N L D"]
Series = Float[np.ndarray, "n L D"]
Generate = Callable[[np.ndarray, int, np.random.Generator], np.ndarray]
Change = Callable[[np.ndarray, np.random.Generator], np.ndarray]

COMPONENTS = 3
DIAGONAL = 1e-4  # added to the covariance of `gaussian`; models that compare with it add the same


def real(train: Train, n: int, rng: np.random.Generator) -> Series:
    """`n` different training series: nothing is wrong with them.

    Raises
    ------
    ValueError
        If there are fewer than `n` training series.
    """
    if len(train) < n:
        raise ValueError(f"train: expected at least {n} series, found {len(train)}")
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
    draws += mean + np.sqrt(DIAGONAL) * rng.standard_normal(draws.shape)
    return draws.reshape(n, *train.shape[1:]).astype(train.dtype)


def leading_components(train: Train, n: int, rng: np.random.Generator) -> Series:
    """The same without all but the three leading principal components: smooth and alike."""
    mean, scores, components = _principal_components(train, COMPONENTS)
    deviations = scores.std(0, ddof=1)
    draws = mean + rng.standard_normal((n, len(components))) * deviations @ components
    return draws.reshape(n, *train.shape[1:]).astype(train.dtype)


def one_side(train: Train, n: int, rng: np.random.Generator) -> Series:
    """Training series from one side of the first principal component's median: a lost mode.

    The side is random. Drawn with replacement, as `memoriser`.
    """
    _, scores, _ = _principal_components(train, 1)
    score = scores[:, 0] * rng.choice([-1, 1])
    return memoriser(train[score >= np.median(score)], n, rng)


def white_noise(train: Train, n: int, rng: np.random.Generator) -> Series:
    """Independent normal values with the training data's mean and deviation, channel by channel."""
    mean, std = train.mean((0, 1)), train.std((0, 1))
    return (mean + std * rng.standard_normal((n, *train.shape[1:]))).astype(train.dtype)


def _principal_components(train: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the mean (L D), and the scores (N, k) and axes (k, L D) of the leading components."""
    flat = train.reshape(len(train), -1).astype(np.float64)
    mean = flat.mean(0)
    u, s, axes = np.linalg.svd(flat - mean, full_matrices=False)
    return mean, u[:, :k] * s[:k], axes[:k]


def random_phases(x: Series, rng: np.random.Generator) -> Series:
    """Draw the phases of a series' Fourier coefficients anew, alike in all channels.

    Its spectrum stays, and so does its mean; what makes it more than a Gaussian process goes.
    """
    length = x.shape[1]
    coefficients = np.fft.rfft(x, axis=1)
    turns = np.exp(2j * np.pi * rng.uniform(size=(*coefficients.shape[:2], 1)))
    turns[:, 0] = 1
    if length % 2 == 0:
        turns[:, -1] = rng.choice([-1, 1], size=(len(x), 1))  # real, as its coefficient is
    return np.fft.irfft(coefficients * turns, length, axis=1).astype(x.dtype)


def circular_shift(x: Series, rng: np.random.Generator) -> Series:
    """Start each series at a random step; what was before that follows its end."""
    starts = rng.integers(x.shape[1], size=(len(x), 1))
    steps = (starts + np.arange(x.shape[1])) % x.shape[1]
    return np.take_along_axis(x, steps[..., None], axis=1)


def noise(x: Series, rng: np.random.Generator, share: float) -> Series:
    """Add white noise whose deviation is a share of the channel's."""
    added = share * x.std((0, 1)) * rng.standard_normal(x.shape)
    return (x + added).astype(x.dtype)


def shrunk(x: Series, share: float) -> Series:
    """Bring all values nearer to the channel's mean, to a share of their distance."""
    mean = x.mean((0, 1))
    return (mean + share * (x - mean)).astype(x.dtype)


def changed(change: Change) -> Generate:
    """Make a generator that changes training series: different ones, if there are enough."""

    def generate(train: Train, n: int, rng: np.random.Generator) -> Series:
        draw = real if len(train) >= n else memoriser
        return change(draw(train, n, rng), rng)

    return generate


DEGRADATIONS: dict[str, Generate] = {
    "real": real,
    "memoriser": memoriser,
    "gaussian": gaussian,
    "leading_components": leading_components,
    "random_phases": changed(random_phases),
    "circular_shift": changed(circular_shift),
    "time_reversal": changed(lambda x, rng: x[:, ::-1].copy()),
    "one_side": one_side,
    "moving_average": changed(lambda x, rng: uniform_filter1d(x, 3, axis=1, mode="nearest")),
    "noise_10": changed(lambda x, rng: noise(x, rng, 0.1)),
    "noise_30": changed(lambda x, rng: noise(x, rng, 0.3)),
    "shrunk_90": changed(lambda x, rng: shrunk(x, 0.9)),
    "white_noise": white_noise,
}
