"""Diversity: do generated series differ from each other as much as real series do?

References
----------
Arora, Risteski and Zhang 2018, "Do GANs learn the distribution?", ICLR (the fault that it is for).
"""

import numpy as np
from jaxtyping import Float

from metrics.arrays import check_series

BAND = (0.05, 0.95)  # quantiles of the values at a step


def band_ratio(real: Float[np.ndarray, "N L D"], fake: Float[np.ndarray, "M L D"]) -> float | None:
    """Return how wide the generated series spread, over how wide the real ones do.

    At each step, between the 5 % and the 95 % quantile; the mean over steps and channels. 0 means
    that all series are the same.

    Returns
    -------
    float or None
        None where real series do not spread.

    Raises
    ------
    ValueError
        For unusable arrays.
    """
    check_series(real=real, fake=fake)
    return ratio(*(np.quantile(series, BAND, axis=0) for series in (real, fake)))


def ratio(real: Float[np.ndarray, "2 L D"], fake: Float[np.ndarray, "2 L D"]) -> float | None:
    """Return `band_ratio` of the quantiles themselves, the lower ones first."""
    wide, own = (np.subtract(high, low, dtype=np.float64).mean() for low, high in (real, fake))
    return float(own / wide) if wide > 0 else None
