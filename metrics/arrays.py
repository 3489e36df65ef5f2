"""The one check that every score makes of the arrays it is given."""

import numpy as np


def check_series(**arrays: np.ndarray) -> None:
    """Raise unless all arrays are usable sets of series, alike in length and channels.

    Parameters
    ----------
    **arrays : np.ndarray
        By the name that an error shall call them: floating point, finite, non-empty, of shape
        (series, L, D) with the L and D of the first array.

    Raises
    ------
    ValueError
        One line: expected, found and where.
    """
    like, reference = next(iter(arrays.items()))
    for name, values in arrays.items():
        if not np.issubdtype(values.dtype, np.floating):
            raise ValueError(f"{name}: expected floating-point values, found {values.dtype}")
        if values.ndim != 3 or values.size == 0:
            raise ValueError(
                f"{name}: expected a non-empty array of shape (series, length, channels), "
                f"found {values.shape}"
            )
        finite = np.isfinite(values)
        if not finite.all():
            series, step, channel = np.argwhere(~finite)[0]
            raise ValueError(
                f"{name}: expected finite values, found {np.count_nonzero(~finite)} that are not, "
                f"the first at series {series}, step {step}, channel {channel}"
            )
        if values.shape[1:] != reference.shape[1:]:
            raise ValueError(
                f"{name}: expected length {reference.shape[1]} and channels {reference.shape[2]} "
                f"as in {like}, found length {values.shape[1]} and channels {values.shape[2]}"
            )
