"""Windows of series: in steps, or in time."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float64, Int64

from datasets.errors import DataError

Rows = Int64[np.ndarray, "_"]


def of_steps(
    lengths: Sequence[int], window: Mapping[str, int | float]
) -> tuple[list[Rows], list[int], dict[str, int]]:
    """Cut regular series, whose rows lie one below the other, into whole windows.

    Parameters
    ----------
    lengths : sequence of N
        Rows of each series.
    window : mapping
        ``length`` and ``stride``, in steps.

    Returns
    -------
    windows : list of (length,)
        The rows of each window.
    origin : list
        The series of each window.
    report : dict
        What was left out.

    Raises
    ------
    DataError
        If `window` holds something else, or no series is long enough.
    """
    length, stride = _length_and_stride(window)
    if not isinstance(length, int) or not isinstance(stride, int):
        raise DataError(f"window: expected whole numbers of steps, found {dict(window)}")
    windows, origin, rest, first = [], [], 0, 0
    for series, n in enumerate(lengths):
        starts = range(0, n - length + 1, stride)
        windows += [first + start + np.arange(length) for start in starts]
        origin += [series] * len(starts)
        rest += n - (starts[-1] + length if starts else 0)
        first += n
    if not windows:
        raise DataError(
            f"window: expected a series of at least {length} steps, found at most {max(lengths)}"
        )
    short = sum(n < length for n in lengths)
    return windows, origin, {"series shorter than a window": short, "steps in no window": rest}


def of_time(
    series: Int64[np.ndarray, "rows"],
    time: Float64[np.ndarray, "rows"],
    window: Mapping[str, int | float],
) -> tuple[list[Rows], list[int], Float64[np.ndarray, "_"], dict[str, int]]:
    """Cut irregular series into windows [start, start + length), start = 0, stride, 2 stride, ...

    A series has its first window, and others that end at most one of its median steps after its
    last row. Windows without a row are left out.

    Parameters
    ----------
    series : (rows,)
        Whose row it is, non-decreasing.
    time : (rows,)
        At least 0, sorted within a series.
    window : mapping
        ``length`` and ``stride``, in the unit of `time`.

    Returns
    -------
    windows : list of (n,)
        The rows of each window.
    origin : list
        The series of each window.
    starts : (windows,)
    report : dict
        What was left out.

    Raises
    ------
    DataError
        If `window` holds something else.
    """
    length, stride = _length_and_stride(window)
    windows, origin, starts, empty = [], [], [], 0
    for rows in np.split(np.arange(len(series)), np.flatnonzero(np.diff(series)) + 1):
        times = time[rows]
        step = float(np.median(np.diff(times))) if len(times) > 1 else 0.0
        further = max(int((times[-1] + step - length) / stride + 1e-9), 0)
        begins = stride * np.arange(further + 1)
        bounds = np.searchsorted(times, np.stack([begins, begins + length]))
        for begin, low, high in zip(begins, *bounds, strict=True):
            if low == high:
                empty += 1
                continue
            windows.append(rows[low:high])
            origin.append(int(series[rows[0]]))
            starts.append(begin)
    covered = len(np.unique(np.concatenate(windows))) if windows else 0
    report = {"windows without a row": empty, "rows in no window": len(series) - covered}
    return windows, origin, np.array(starts, dtype=np.float64), report


def _length_and_stride(window: Mapping[str, int | float]) -> tuple[int | float, int | float]:
    positive = all(isinstance(n, int | float) and n > 0 for n in window.values())
    if window.keys() != {"length", "stride"} or not positive:
        raise DataError(
            f"window: expected a positive length and a positive stride, found {dict(window)}"
        )
    return window["length"], window["stride"]
