"""The one form in which a data set reaches models and scores, and its split.

Axes: N series, L time steps, D channels.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Int, Int64

from datasets.errors import DataError
from datasets.files import arrays_sha256, load_arrays, replacing, require, save_arrays, sha256

PARTS = ("train", "validation", "test")
Parts = tuple[Int64[np.ndarray, "_"], Int64[np.ndarray, "_"], Int64[np.ndarray, "_"]]
UNAVAILABLE = "unavailable"


class Unavailable(DataError):
    """An optional data set's files could not be had; the message says why."""


def write_unavailable(path: Path, split: Path, report: Path, name: str, reason: str) -> None:
    """Write, in place of a data set, its split and its report, why there is none."""
    save_arrays(path, {"name": np.array(name), UNAVAILABLE: np.array(reason)})
    for file in (split, report):
        _write_json(file, {"dataset": name, UNAVAILABLE: reason})


@dataclass(frozen=True)
class Scaling:
    """One scaling of all values alike: x = (value - mean) / deviation."""

    mean: float = 0.0
    deviation: float = 1.0

    def apply(self, values: Float[np.ndarray, "*n"]) -> Float32[np.ndarray, "*n"]:
        """Scale values in the data's own unit."""
        return ((values.astype(np.float64) - self.mean) / self.deviation).astype(np.float32)

    def undo(self, x: Float[np.ndarray, "*n"]) -> Float64[np.ndarray, "*n"]:
        """Bring scaled values back to the data's own unit."""
        return self.mean + self.deviation * x.astype(np.float64)


@dataclass(frozen=True, eq=False)
class Dataset:
    """Normalised series on their time grids, with the split that every model shares.

    Attributes
    ----------
    name : str
        What the configuration calls it.
    x : (N, L, D)
        Normalised values; 0 where `mask` is False.
    t : (N, L)
        Times in [0, 1], non-decreasing along L.
    mask : (N, L, D)
        True where a value was observed.
    train, validation, test : (n,)
        Sorted indices into N, disjoint, together all of N.
    label : (N,) or None
        A class of each series that models do not see, such as the exponent p of FLAME.
    group : (N,) or None
        What a series belongs to with others that it depends on, such as a station; not part of
        the digests.
    meta : dict
        What a reader wants to know and JSON can hold: title, normalisation, unit, counts, files
        with their sha256, options, split, warnings, and the scaling if it is one of all values.
        Not part of the digests.

    Raises
    ------
    DataError
        If the arrays do not fit each other or break one of the promises above.
    """

    name: str
    x: Float32[np.ndarray, "N L D"]
    t: Float32[np.ndarray, "N L"]
    mask: Bool[np.ndarray, "N L D"]
    train: Int64[np.ndarray, "_"]
    validation: Int64[np.ndarray, "_"]
    test: Int64[np.ndarray, "_"]
    label: Int[np.ndarray, "N"] | None
    meta: dict[str, Any]
    group: Int[np.ndarray, "N"] | None = None

    def __post_init__(self) -> None:
        def check(ok: Any, expected: str, found: Any) -> None:
            if not ok:
                raise DataError(f"data set {self.name}: expected {expected}, found {found}")

        x, t, mask = self.x, self.t, self.mask
        check(x.ndim == 3 and x.size, "x of shape (N, L, D), not empty", x.shape)
        check(x.dtype == np.float32, "x in float32", x.dtype)
        check(t.shape == x.shape[:2], f"t of shape {x.shape[:2]}", t.shape)
        check(t.dtype == np.float32, "t in float32", t.dtype)
        check(mask.shape == x.shape, f"mask of shape {x.shape}", mask.shape)
        check(mask.dtype == np.bool_, "mask of booleans", mask.dtype)
        check(np.abs(x).max() < 1e15, "finite values in x, below 1e15", np.abs(x).max())
        check(not x[~mask].any(), "x = 0 wherever mask is False", "other values")
        check(t.min() >= 0 and t.max() <= 1, "t in [0, 1]", f"[{t.min()}, {t.max()}]")
        check((np.diff(t, axis=1) >= 0).all(), "non-decreasing t", "a step back")
        indices = np.sort(np.concatenate([self.train, self.validation, self.test]))
        check(
            np.array_equal(indices, np.arange(len(x))),
            f"train, validation and test to hold each of {len(x)} series once",
            f"{len(indices)} indices, {len(np.unique(indices))} different",
        )
        for what, each in (("labels", self.label), ("groups", self.group)):
            shape = (len(x),) if each is None else each.shape
            check(shape == (len(x),), f"{len(x)} {what}", shape)

    @property
    def groups(self) -> Int[np.ndarray, "N"]:
        """What each series belongs to: its group, or itself alone."""
        return np.arange(len(self.x)) if self.group is None else self.group

    @property
    def scaling(self) -> Scaling:
        """Return how values were scaled; as if not at all if not all were scaled alike."""
        return Scaling(**self.meta.get("scaling", {}))

    @cached_property
    def data_digest(self) -> str:
        """Identify the values: sha256 of `x`, `t`, `mask` and `label`."""
        return arrays_sha256(self._values())

    @cached_property
    def split_digest(self) -> str:
        """Identify the split: sha256 of the three index arrays."""
        return arrays_sha256(self._indices())

    def save(self, path: Path) -> None:
        """Write everything and the two digests to one .npz without pickled objects."""
        texts = {
            "name": self.name,
            "meta": json.dumps(self.meta, sort_keys=True),
            "data_digest": self.data_digest,
            "split_digest": self.split_digest,
        }
        arrays = {key: np.array(text) for key, text in texts.items()}
        arrays |= {} if self.group is None else {"group": self.group}
        save_arrays(Path(path), self._values() | self._indices() | arrays)

    @classmethod
    def load(cls, path: Path) -> "Dataset":
        """Read a data set and verify both digests.

        Raises
        ------
        Unavailable
            If the file says that the data could not be had.
        DataError
            If the file is not a whole data set or does not match its digests.
        """
        path = Path(path)
        digests = ("data_digest", "split_digest")
        arrays = load_arrays(path, set())
        if UNAVAILABLE in arrays:
            raise Unavailable(str(arrays[UNAVAILABLE]))
        require(path, arrays, {"name", "x", "t", "meta", *PARTS, *digests})
        x, t, text = arrays["x"], arrays["t"], str(arrays["meta"])
        if x.ndim != 3 or t.shape not in (x.shape[:2], x.shape[1:2]):
            found = f"{x.shape} and {t.shape}"
            raise DataError(f"{path}: expected x (N, L, D) and t (N, L) or (L,), found {found}")
        try:
            meta = json.loads(text)
        except (ValueError, RecursionError):
            meta = None
        if not isinstance(meta, dict):
            raise DataError(f"{path}: expected meta as a JSON mapping, found {text[:40]!r}")
        for part in PARTS:
            if (found := arrays[part]).ndim != 1 or found.dtype != np.int64:
                raise DataError(f"{path}: expected {part} as int64 (n,), found {found.dtype}")
        dataset = cls(
            name=str(arrays["name"]),
            x=x,
            t=np.broadcast_to(t, x.shape[:2]),
            mask=arrays.get("mask", np.ones(x.shape, dtype=bool)),
            train=arrays["train"],
            validation=arrays["validation"],
            test=arrays["test"],
            label=arrays.get("label"),
            group=arrays.get("group"),
            meta=meta,
        )
        for digest in digests:
            expected, found = str(arrays[digest]), getattr(dataset, digest)
            if expected != found:
                raise DataError(f"{path}: expected {digest} {expected}, found {found}")
        return dataset

    def write_split(self, path: Path) -> None:
        """Write the split as a small JSON file: how it was drawn, its digest, the indices."""
        head = {"dataset": self.name, **self.meta["split"], "digest": self.split_digest}
        parts = {part: indices.tolist() for part, indices in self._indices().items()}
        _write_json(path, head | parts)

    def write_report(self, path: Path) -> None:
        """Write `meta` and the digest as JSON: what was read, found, left out and scaled."""
        head = {"dataset": self.name, "data_digest": self.data_digest}
        _write_json(path, head | self.meta, indent=1)

    def _values(self) -> dict[str, np.ndarray]:
        """Return the arrays as stored: one row of `t` if all are equal, no `mask` if all True."""
        values = {"x": self.x, "t": self.t[0] if (self.t == self.t[0]).all() else self.t}
        values |= {} if self.mask.all() else {"mask": self.mask}
        return values | ({} if self.label is None else {"label": self.label})

    def _indices(self) -> dict[str, np.ndarray]:
        return {part: getattr(self, part) for part in PARTS}


def _write_json(path: Path, content: Any, indent: int | None = None) -> None:
    with replacing(Path(path)) as part:
        part.write_text(json.dumps(content, indent=indent) + "\n", encoding="utf-8")


def split(
    n: int,
    fractions: Sequence[float] = (0.7, 0.1, 0.2),
    *,
    seed: int,
    strata: Int[np.ndarray, "n"] | None = None,
) -> Parts:
    """Split `n` series at random into train, validation and test.

    Test and validation are rounded up and training takes the rest: 107, 111 and 137 series give
    the 22, 23 and 28 test series of an 80/20 split of the Monash sets.

    Parameters
    ----------
    n : int
        Number of series.
    fractions : three numbers
        Shares of train, validation and test; they add up to 1.
    seed : int
        The same seed gives the same split.
    strata : (n,), optional
        Classes that are split one by one, so that each part holds the same shares of them.

    Returns
    -------
    train, validation, test : (m,)
        Sorted indices, disjoint, together all of 0..n-1.

    Raises
    ------
    DataError
        If the fractions are not a partition, or a class is too small to leave a training series.
    """
    if len(fractions) != 3 or min(fractions) < 0 or not math.isclose(sum(fractions), 1):
        raise DataError(f"split: expected three fractions adding up to 1, found {list(fractions)}")
    strata = np.zeros(n, dtype=np.int64) if strata is None else strata
    rng = np.random.default_rng(seed)
    parts: dict[str, list[np.ndarray]] = {part: [] for part in PARTS}
    for stratum in np.unique(strata):
        members = rng.permutation(np.flatnonzero(strata == stratum))
        # round() first: 0.2 * 35 is 7.000000000000001 in floating point.
        validation, test = (math.ceil(round(f * len(members), 6)) for f in fractions[1:])
        if validation + test >= len(members):
            raise DataError(
                f"split: expected enough series for {list(fractions)}, found {len(members)}"
            )
        parts["test"].append(members[:test])
        parts["validation"].append(members[test : test + validation])
        parts["train"].append(members[test + validation :])
    train, validation, test = (np.sort(np.concatenate(parts[part])) for part in PARTS)
    return train, validation, test


def build(
    *,
    name: str,
    title: str,
    x: Float32[np.ndarray, "N L D"],
    t: Float32[np.ndarray, "N L"],
    mask: Bool[np.ndarray, "N L D"],
    label: Int[np.ndarray, "N"] | None = None,
    group: Int[np.ndarray, "N"] | None = None,
    split_options: Mapping[str, Any],
    parts: Parts | None = None,
    normalisation: str,
    unit: str,
    scaling: Scaling | None = None,
    time: str = "the whole grid",
    channels: Sequence[str] = (),
    files: Sequence[Path] = (),
    options: Mapping[str, Any],
    warnings: Sequence[str] = (),
    report: Mapping[str, Any] | None = None,
) -> Dataset:
    """Draw the split (within each label, if there are labels) and write down what was done.

    Parameters
    ----------
    group : (N,), optional
        What series belong to, see `Dataset`.
    split_options : mapping
        ``seed`` and ``fractions``, as `datasets.base.split` takes them.
    parts : (train, validation, test), optional
        Sorted indices of a split that was drawn already; `split_options` says how.
    normalisation, unit : str
        What was done to the values, and what 1 means afterwards.
    scaling : Scaling, optional
        The same as numbers, if all values were scaled alike: it can be undone then.
    time : str
        What 1 means on the time axis, such as "48 h".
    channels : names, optional
    files : paths
        The files that were read; their sha256 go into ``meta``.
    options : mapping
        The loader's options, or what the files say about their making.
    report : mapping, optional
        What was found in the files and what became of it, by kind: counts and a few examples.
    """
    if x.ndim != 3:
        raise DataError(f"data set {name}: expected x of shape (N, L, D), found {x.shape}")
    train, validation, test = parts or split(len(x), **split_options, strata=label)
    meta = {
        "title": title,
        "normalisation": normalisation,
        "unit": unit,
        **({"scaling": asdict(scaling)} if scaling else {}),
        "time": time,
        "channels": list(channels),
        "counts": {
            "series": len(x),
            "length": x.shape[1],
            "channels": x.shape[2],
            "rows": int(mask.any(-1).sum()),
            "observed": int(mask.sum()),
            "train": len(train),
            "validation": len(validation),
            "test": len(test),
        },
        "files": [{"name": file.name, "sha256": sha256(file)} for file in files],
        "options": dict(options),
        "split": dict(split_options) | {"stratified": label is not None},
        "warnings": list(warnings),
        "report": dict(report or {}),
    }
    return Dataset(name, x, t, mask, train, validation, test, label, meta, group)


def regular_times(n: int, length: int) -> Float32[np.ndarray, "n {length}"]:
    """Return the grid k/(L-1), k = 0..L-1, shared by `n` series."""
    return np.broadcast_to(np.linspace(0, 1, length, dtype=np.float32), (n, length))


def pad(
    record: Int[np.ndarray, "rows"],
    t: Float[np.ndarray, "rows"],
    x: Float[np.ndarray, "rows D"],
    mask: Bool[np.ndarray, "rows D"],
) -> tuple[Float32[np.ndarray, "N L"], Float32[np.ndarray, "N L D"], Bool[np.ndarray, "N L D"]]:
    """Lay rows out by record, and pad each at the end to the longest with its last time.

    Parameters
    ----------
    record : (rows,)
        Whose row it is: 0..N-1, non-decreasing, each at least once.
    t, x, mask : (rows,), (rows, D), (rows, D)
        Times, values and where they were observed; others do not matter.

    Returns
    -------
    t, x, mask : (N, L), (N, L, D), (N, L, D)
        As `Dataset` has them; False and 0 in padding.
    """
    length = np.bincount(record)
    real = np.arange(length.max()) < length[:, None]
    times = np.empty(real.shape, np.float32)
    times[:] = t[np.cumsum(length) - 1, None]
    values = np.zeros((*real.shape, x.shape[1]), np.float32)
    observed = np.zeros(values.shape, bool)
    times[real], values[real], observed[real] = t, np.where(mask, x, 0), mask
    return times, values, observed


def compact(
    t: Float[np.ndarray, "N L"], x: Float[np.ndarray, "N L D"], mask: Bool[np.ndarray, "N L D"]
) -> tuple[Float32[np.ndarray, "N M"], Float32[np.ndarray, "N M D"], Bool[np.ndarray, "N M D"]]:
    """Leave out the rows in which nothing was observed and `pad` those that stay.

    A record without any keeps its first, unobserved.
    """
    rows = np.any(mask, axis=-1)
    rows[:, 0] |= ~np.any(rows, axis=1)
    return pad(np.nonzero(rows)[0], t[rows], x[rows], mask[rows])
