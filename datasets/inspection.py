"""What is in a prepared data set, in a page: counts, ranges, gaps, constant and repeated series."""

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Bool, Int64

from datasets.base import PARTS, Dataset

NEAR = 0.01  # of the deviation of all values: closer series count as nearly the same
SHOWN = 10  # series that are named
BLOCK = 256  # series that are compared at once


def page(dataset: Dataset) -> Iterator[str]:
    """Yield the lines of the page."""
    meta, counts, mask = dataset.meta, dataset.meta["counts"], dataset.mask
    yield f"{meta['title']} ({dataset.name})"
    yield ""
    yield _line(
        "read",
        f"{counts['series']} series of at most {counts['length']} steps, {counts['channels']}"
        " channels",
    )
    for file in meta["files"]:
        yield _line("from", f"{file['name']}, sha256 {file['sha256'][:12]}")
    for what, found in meta["report"].items():
        if isinstance(found, int) and found:
            yield _line("", f"{what}: {found:,}")
    yield _line("parts", ", ".join(f"{part} {counts[part]}" for part in PARTS))
    if dataset.group is not None:
        groups, tested = (len(np.unique(of)) for of in (dataset.group, dataset.group[dataset.test]))
        yield _line("", f"drawn from {groups} groups of series, each in one part; {tested} to test")
    yield _line("normalisation", f"{meta['normalisation']}; 1 is: {meta['unit']}")
    yield _line("digests", f"data {dataset.data_digest[:12]}, split {dataset.split_digest[:12]}")
    yield ""
    yield from _times(dataset)
    yield ""
    yield from _channels(dataset)
    yield ""
    constant = np.flatnonzero(constant_series(dataset).all(axis=1))
    yield _line("constant series", _names(dataset, constant))
    pairs = duplicates(dataset)
    yield _line("equal series", _pairs(dataset, pairs))
    yield _line("across parts", _pairs(dataset, across(dataset, pairs)))
    near = near_duplicates(dataset)
    yield _line("nearly equal", f"across parts, within {NEAR:.0%}: {_pairs(dataset, near)}")
    yield ""
    for warning in meta["warnings"]:
        yield _line("warning", warning)
    same_times = bool((dataset.t == dataset.t[0]).all())
    if not mask.all() or not same_times:
        why = "values are missing" if same_times else "series have their own times"
        yield _line("tasks", f"reconstruction, interpolation, extrapolation ({why})")
    else:
        yield _line("tasks", "generation, reconstruction, interpolation, extrapolation")


def constant_series(dataset: Dataset) -> Bool[np.ndarray, "N D"]:
    """Tell which channels of which series have one value throughout, or none."""
    low = np.where(dataset.mask, dataset.x, np.inf).min(axis=1)
    high = np.where(dataset.mask, dataset.x, -np.inf).max(axis=1)
    return low >= high


def duplicates(dataset: Dataset) -> Int64[np.ndarray, "pairs 2"]:
    """Return each series that equals an earlier one in values, times and mask, behind the first."""
    first: dict[bytes, int] = {}
    pairs = []
    for n, arrays in enumerate(zip(dataset.x, dataset.t, dataset.mask, strict=True)):
        content = b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)
        if (other := first.setdefault(content, n)) != n:
            pairs.append((other, n))
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


def near_duplicates(dataset: Dataset) -> Int64[np.ndarray, "pairs 2"]:
    """Return (training series, other series) whose root mean square difference is below `NEAR`.

    In units of the deviation of all values. Where series have their own times, these are compared
    like one more channel. Series that were observed at other places are not near each other. Each
    validation and test series is paired with the nearest training series alone.
    """
    x, mask = dataset.x.astype(np.float64), dataset.mask
    deviation = float(x[mask].std())
    if not (dataset.t == dataset.t[0]).all():
        t = dataset.t[:, :, None] * (deviation or 1)
        x = np.concatenate([x, t], axis=2)
        mask = np.concatenate([mask, np.ones(t.shape, dtype=bool)], axis=2)
    x, observed = x.reshape(len(x), -1), mask.reshape(len(x), -1).astype(np.float64)
    train, rest = dataset.train, np.concatenate([dataset.validation, dataset.test])
    pairs = []
    for block in np.split(rest, range(BLOCK, len(rest), BLOCK)):
        squares = (
            (x[block] ** 2).sum(1)[:, None] + (x[train] ** 2).sum(1) - 2 * x[block] @ x[train].T
        )
        size = observed[block].sum(1)[:, None]
        elsewhere = size + observed[train].sum(1) - 2 * observed[block] @ observed[train].T
        squares[elsewhere > 0] = np.inf
        nearest = squares.argmin(1)
        distance = squares[np.arange(len(block)), nearest] / np.maximum(size[:, 0], 1)
        near = distance <= (NEAR * deviation) ** 2
        pairs += list(zip(train[nearest[near]], block[near], strict=True))
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


def across(dataset: Dataset, pairs: Int64[np.ndarray, "pairs 2"]) -> Int64[np.ndarray, "between 2"]:
    """Return the pairs whose series are in different parts of the split."""
    part = np.empty(len(dataset.x), dtype=np.int64)
    for k, name in enumerate(PARTS):
        part[getattr(dataset, name)] = k
    return pairs[part[pairs[:, 0]] != part[pairs[:, 1]]]


def _times(dataset: Dataset) -> Iterator[str]:
    rows = np.any(dataset.mask, axis=2)
    lengths = rows.sum(1)
    yield _line("time", f"1 is {dataset.meta['time']}")
    yield _line(
        "steps of a series",
        f"{lengths.min()} to {lengths.max()}, median {np.median(lengths):g}",
    )
    gaps = [np.diff(t[row].astype(np.float64)) for t, row in zip(dataset.t, rows, strict=True)]
    largest = np.array([gap.max(initial=0) for gap in gaps])
    if len(together := np.concatenate(gaps)):
        longest = int(largest.argmax())
        yield _line(
            "gaps",
            f"{together.min():.3g} to {together.max():.3g} of the time axis, median"
            f" {np.median(together):.3g}; the longest in series {_name(dataset, longest)}",
        )


def _channels(dataset: Dataset) -> Iterator[str]:
    names = dataset.meta["channels"] or [str(d) for d in range(dataset.x.shape[2])]
    raw = dataset.meta["report"].get("lowest and highest value in the file", {})
    constant = constant_series(dataset).sum(axis=0)
    width = max(len("channel"), *map(len, names))
    heads = ("observed", "missing", "lowest", "highest", "mean", "deviation", "constant")
    yield f"{'channel':{width}}" + "".join(f"{head:>12}" for head in heads)
    for d, name in enumerate(names):
        known = dataset.x[:, :, d][dataset.mask[:, :, d]].astype(np.float64)
        low, high = raw.get(name) or (known.min(initial=0), known.max(initial=0))
        middle = (known.mean(), known.std()) if len(known) else (0.0, 0.0)
        cells = [
            f"{len(known):,}",
            f"{1 - dataset.mask[:, :, d].mean():.1%}",
            *(f"{number:.5g}" for number in (low, high, *middle)),
            f"{constant[d]}",
        ]
        yield f"{name:{width}}" + "".join(f"{cell:>12}" for cell in cells)
    unit = "in the file's unit" if raw else "after normalisation"
    yield f"lowest and highest {unit}, mean and deviation after normalisation;"
    yield "constant: series in which the channel has one value, or none"


def _line(head: str, text: str) -> str:
    return f"{head:18}{text}"


def _name(dataset: Dataset, n: int) -> str:
    names = dataset.meta["report"].get("series")
    return f"{n} ({names[n]})" if names and names[n] != str(n) else str(n)


def _names(dataset: Dataset, series: Sequence[int] | np.ndarray) -> str:
    named = [_name(dataset, int(n)) for n in series[:SHOWN]]
    return _counted(len(series), named)


def _pairs(dataset: Dataset, pairs: Int64[np.ndarray, "pairs 2"]) -> str:
    named = [" = ".join(_name(dataset, int(n)) for n in pair) for pair in pairs[:SHOWN]]
    return _counted(len(pairs), named)


def _counted(n: int, named: list[str]) -> str:
    if not n:
        return "none"
    return f"{n}: " + ", ".join(named) + (", ..." if n > len(named) else "")
