"""Memorisation check: are generated series copies of training series?

The three scores of the paper compare generated with real series and never look at the training
series. A "generator" that returns training series at random is a sample of the real distribution by
construction, so it is at the optimum of all three while it has learnt nothing. The distance to the
nearest training series, set against the same distance of real series that were never trained on,
tells the two apart.

References
----------
Meehan et al. 2020, "A Non-Parametric Test to Detect Data-Copying in Generative Models",
arXiv:2004.05675 (the comparison of the two distances).
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from metrics.arrays import check_series

CHUNK = 512  # series at once: bounds the table of distances at 512 x len(train)


class Memorisation(NamedTuple):
    """Median distances to the nearest training series.

    Attributes
    ----------
    generated : float
        Of generated series, in data units.
    test : float
        Of real series that were not trained on, in data units.
    ratio : float
        ``generated / test``. Near 1: generated series are as new as real ones. Far below 1: copies.
        Far above 1: generated series are unlike any real one.
    """

    generated: float
    test: float
    ratio: float


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
    generated = float(np.median(nearest_distance(fake, train)))
    test = float(np.median(nearest_distance(real_test, train)))
    if test == 0:
        raise ValueError(
            "real_test: expected series that are not in train, found more than half of them there"
        )
    return Memorisation(generated, test, generated / test)
