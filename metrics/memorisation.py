"""Memorisation check: are generated series copies of training series?

The three scores of the paper compare generated with real series and never look at the training
series. A "generator" that returns training series at random is a sample of the real distribution by
construction, so it is at the optimum of all three while it has learnt nothing. The distance to the
nearest training series, set against the same distance of real series that were never trained on,
tells the two apart.

Being nearer is no proof of copying: blurred series are near many training series. Another sign is
the share of a series that no combination of training series explains, `span_residual`: a Gaussian
with the training series' covariance leaves nothing where real series leave much.

References
----------
Meehan et al. 2020, "A Non-Parametric Test to Detect Data-Copying in Generative Models",
arXiv:2004.05675 (the comparison of the two distances, and its one-sided test).
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float64
from scipy.linalg import orth
from scipy.stats import mannwhitneyu

from metrics.arrays import check_series

CHUNK = 512  # series at once: bounds the table of distances at 512 x len(train)


class Memorisation(NamedTuple):
    """Distances to the nearest training series.

    Attributes
    ----------
    generated : float
        Median of generated series, in data units.
    test : float
        Median of real series that were not trained on, in data units.
    ratio : float
        ``generated / test``. Near 1: generated series are as new as real ones. Far below 1: copies.
        Far above 1: generated series are unlike any real one.
    p : float
        One-sided Mann-Whitney test: small if generated series are nearer than test series are.
    """

    generated: float
    test: float
    ratio: float
    p: float


def nearest_distance(
    series: Float[np.ndarray, "N L D"], train: Float[np.ndarray, "M L D"]
) -> Float[np.ndarray, "N"]:
    """Return the root-mean-square difference of each series to the nearest training series.

    Parameters
    ----------
    series, train : np.ndarray
        Shapes (N, L, D) and (M, L, D).

    Returns
    -------
    np.ndarray
        Shape (N,), in data units; exactly 0 for a copy.

    Raises
    ------
    ValueError
        For unusable arrays.
    """
    check_series(train=train, series=series)
    a = series.reshape(len(series), -1).astype(np.float64)
    b = train.reshape(len(train), -1).astype(np.float64)
    squares = np.square(b).sum(1)
    distances = np.empty(len(a))
    for start in range(0, len(a), CHUNK):
        part = a[start : start + CHUNK]
        # |a - b|^2 less |a|^2, which is the same for every b: enough to find the nearest. Its
        # distance is then computed from the difference, free of cancellation.
        nearest = np.argmin(squares - 2 * part @ b.T, axis=1)
        distances[start : start + CHUNK] = np.sqrt(np.square(part - b[nearest]).mean(1))
    return distances


def memorisation(
    real_test: Float[np.ndarray, "N L D"],
    fake: Float[np.ndarray, "M L D"],
    train: Float[np.ndarray, "K L D"],
) -> Memorisation:
    """Compare how near generated and unseen real series come to the training series.

    Parameters
    ----------
    real_test, fake, train : np.ndarray
        Unseen real (N, L, D), generated (M, L, D) and training series (K, L, D).

    Raises
    ------
    ValueError
        For unusable arrays, and if most test series also lie in the training set, which leaves
        nothing to compare with.
    """
    check_series(train=train, real_test=real_test, fake=fake)
    generated, test = nearest_distance(fake, train), nearest_distance(real_test, train)
    median = float(np.median(test))
    if median == 0:
        raise ValueError(
            "real_test: expected series that are not in train, found more than half of them there"
        )
    return Memorisation(
        float(np.median(generated)),
        median,
        float(np.median(generated)) / median,
        float(mannwhitneyu(generated, test, alternative="less").pvalue),
    )


def span_residual(
    series: Float[np.ndarray, "N L D"], train: Float[np.ndarray, "M L D"]
) -> Float64[np.ndarray, "N"]:
    """Return the share of each series' variance outside the linear span of the training series.

    Both are taken about the mean of the training series. 0: the series is a combination of training
    series, as every one is where these are more than its values. 1: none explains any of it.

    Parameters
    ----------
    series, train : np.ndarray
        Shapes (N, L, D) and (M, L, D).

    Raises
    ------
    ValueError
        For unusable arrays.
    """
    check_series(train=train, series=series)
    flat = train.reshape(len(train), -1).astype(np.float64)
    mean = flat.mean(0)
    basis = orth((flat - mean).T)  # (L D, rank)
    x = series.reshape(len(series), -1) - mean
    outside, total = (np.square(y).sum(1) for y in (x - x @ basis @ basis.T, x))
    return np.divide(outside, total, out=np.zeros_like(total), where=total > 0)
