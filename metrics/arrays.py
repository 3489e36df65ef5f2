"""What scores of series share: the check of what they are given, groups, where a series begins."""

import numpy as np
from jaxtyping import Int, Int64


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


def early_steps(length: int) -> list[int]:
    """Return at most 4 steps, logarithmically equidistant between 0.5 % and 10 % of a trajectory.

    On a short grid some of the 4 are the same step, which counts once.

    Parameters
    ----------
    length : int
        L; 1000 gives 5, 14, 37, 100.
    """
    steps = np.geomspace(0.005 * length, 0.1 * length, 4).round().astype(int)
    return np.unique(steps).tolist()


def members(group: Int[np.ndarray, "N"]) -> list[Int64[np.ndarray, "_"]]:
    """Return the indices of the members of each group, in the order of the groups' numbers."""
    order = np.argsort(group, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(group[order])) + 1)
