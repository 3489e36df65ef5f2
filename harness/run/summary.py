"""What figures need of a cell besides its record: small arrays, ``summary.npz`` in its directory.

Of generation they are those below; of the other tasks those of `harness.run.prediction.examples`;
none where the cell has no samples. `harness.present.files` reads them.

================ ============ ================================================================
array            shape        meaning
================ ============ ================================================================
real_mean        (L, D)       mean of the test series at each step; likewise fake_mean
real_low, _high  (L, D)       their 5 % and 95 % quantiles; likewise fake_low, fake_high
steps            (S,)         S <= 4 steps, logarithmically equidistant from 0.5 % to 10 % of L
real_at_steps    (n, S, D)    values of the test series there; likewise fake_at_steps
examples         (4, L, D)    the first four generated series
================ ============ ================================================================

Real series are not among the examples: most sources may not be passed on.
"""

import numpy as np
from jaxtyping import Float

from metrics.arrays import check_series, early_steps
from metrics.diversity import BAND

EXAMPLES = 4


def summarise(
    real: Float[np.ndarray, "N L D"], fake: Float[np.ndarray, "M L D"]
) -> dict[str, np.ndarray]:
    """Reduce test series and samples to the arrays in this file's table.

    Raises
    ------
    ValueError
        For unusable arrays.
    """
    check_series(real=real, fake=fake)
    steps = early_steps(real.shape[1])
    arrays: dict[str, np.ndarray] = {"steps": np.array(steps), "examples": fake[:EXAMPLES]}
    for name, series in {"real": real, "fake": fake}.items():
        low, high = np.quantile(series, BAND, axis=0)
        arrays |= {
            f"{name}_mean": series.mean(0),
            f"{name}_low": low,
            f"{name}_high": high,
            f"{name}_at_steps": series[:, steps],
        }
    return arrays
