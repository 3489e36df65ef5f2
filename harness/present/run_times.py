"""How run time and memory grow with the length of the series: ratios and exponents of a machine.

Times are compared on one machine only (a device and a number of threads), and for each series,
since batches may differ. A measurement that did not finish bounds its time from below, so that a
ratio of times is a range. Every model is compared with the one that the paper says is faster.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path
from statistics import linear_regression
from typing import Literal, NamedTuple, get_args

from harness import catalogue
from harness.errors import UserError
from harness.measurements import Kind, Measurement, RunTime, find_run_times
from harness.present import published
from harness.present.text import machine_name, number

Resource = Literal["time", "memory"]
KINDS: tuple[Kind, ...] = get_args(Kind)
LONG = 1280  # exponents are those of the lengths from here on, where there are two


def find(folders: Sequence[Path], needed: bool = False) -> list[RunTime]:
    """Read the records of run times below some folders.

    Raises
    ------
    UserError
        If they are `needed` and there is none.
    """
    found = [record for folder in folders for record in find_run_times(folder)]
    if needed and not found:
        where = ", ".join(map(str, folders))
        raise UserError(f"{where}: no runtime/<model>/<length>.json below")
    return found


class Range(NamedTuple):
    """Where a number lies; both ends are the same if it is known."""

    low: float
    high: float

    def __str__(self) -> str:
        if self.low == self.high:
            return number(self.low, 2)
        return f"≥ {number(self.low, 2)}" if self.low else f"≤ {number(self.high, 2)}"


class PowerLaw(NamedTuple):
    """Its exponent, and the shortest and longest length that it was fitted to."""

    slope: float
    shortest: int
    longest: int

    def __str__(self) -> str:
        return f"{round(self.slope, 2) + 0.0:.2f} ({self.shortest:,} to {self.longest:,})"


@dataclass(frozen=True)
class Study:
    """All run times of one machine, of models as in their papers or of one size."""

    records: tuple[RunTime, ...]

    @property
    def machine(self) -> str:
        return machine_name(self.records[0].device, self.records[0].threads)

    @property
    def size(self) -> str | None:
        """How many parameters each model has, about; None for the sizes of their papers."""
        return self.records[0].size

    @property
    def title(self) -> str:
        """The machine, and the size of the models where it is the same."""
        return self.machine + (f"; models of about {self.size} parameters" if self.size else "")

    @property
    def slug(self) -> str:
        """The machine and the size as a part of a file's name."""
        size = f" {self.size}" if self.size else ""
        return re.sub(r"\W+", "_", (self.machine + size).lower())

    @cached_property
    def models(self) -> list[str]:
        """In the order of the catalogue."""
        names = {record.model for record in self.records}
        return sorted(names, key=lambda name: (catalogue.order(name), name))

    @property
    def baselines(self) -> list[str]:
        """The models that are of another kind than the one they are compared with."""
        own = catalogue.group(self.ours)
        return [name for name in self.models if catalogue.group(name) != own]

    @property
    def ours(self) -> str:
        """The model that the others are compared with."""
        return published.speed_claim().model

    @cached_property
    def lengths(self) -> list[int]:
        return sorted({record.length for record in self.records})

    @cached_property
    def _found(self) -> dict[tuple[str, int, str], tuple[RunTime, Measurement]]:
        return {(r.model, r.length, m.name): (r, m) for r in self.records for m in r.measurements}

    def measured(self, kind: Kind) -> list[str]:
        """Return the models that have this measurement."""
        return [model for model in self.models if kind in self.kinds(model)]

    def kinds(self, model: str | None = None) -> list[Kind]:
        """Return what was measured, of a model or at all."""
        found = {kind for name, _, kind in self._found if model in (None, name)}
        return [kind for kind in KINDS if kind in found]

    def measurement(self, model: str, kind: Kind, length: int) -> Measurement | None:
        """Return None where the model does not have the task, or was not measured."""
        found = self._found.get((model, length, kind))
        return found[1] if found else None

    def seconds(self, model: str, kind: Kind, length: int) -> Range | None:
        """Return seconds of an iteration for each series; None where nothing is known."""
        if (model, length, kind) not in self._found:
            return None
        record, found = self._found[model, length, kind]
        if found.seconds is not None:
            return Range(*[found.seconds / found.batch] * 2)
        if found.status == "timeout":
            return Range(record.limit_seconds / found.batch, math.inf)
        return None

    def ratio(self, model: str, kind: Kind, length: int) -> Range | None:
        """Return a model's time over ours; None where nothing is known."""
        theirs, ours = (self.seconds(name, kind, length) for name in (model, self.ours))
        if theirs is None or ours is None or (theirs.high == ours.high == math.inf):
            return None
        return Range(theirs.low / ours.high, theirs.high / ours.low)

    def common(self, model: str, kind: Kind) -> int | None:
        """Return the largest length that both a model and ours finished."""
        ratios = {length: self.ratio(model, kind, length) for length in self.lengths}
        both = [length for length, ratio in ratios.items() if ratio and ratio.low == ratio.high]
        return max(both, default=None)

    def growth(self, model: str, kind: Kind, of: Resource) -> PowerLaw | None:
        """Fit the time or memory of one measurement, for each series, to the length.

        Memory is what lies beyond the least that was held before the first iteration at any length:
        Python, torch and the model. What is made for a length alone, such as the covariance matrix
        of a prior, counts.
        """
        done = {}
        for length in self.lengths:
            found = self.measurement(model, kind, length)
            if found and found.status == "done":
                done[length] = found
        if of == "time":
            values = {n: elapsed(m) for n, m in done.items()}
        else:
            least = min((m.base_memory_bytes or 0 for m in done.values()), default=0)
            values = {n: (m.peak_memory_bytes or 0) - least for n, m in done.items()}
        return fit({n: value / done[n].batch for n, value in values.items()})


def elapsed(measurement: Measurement) -> float:
    """Return the seconds of an iteration that is done."""
    return measurement.seconds or 0.0


def fit(values: dict[int, float]) -> PowerLaw | None:
    """Fit a power law to positive values by length: to the long ones where there are two."""
    values = {length: value for length, value in values.items() if value > 0}
    chosen = [length for length in values if length >= LONG]
    chosen = chosen if len(chosen) > 1 else list(values)
    if len(chosen) < 2:
        return None
    logs = [math.log(values[length]) for length in chosen]
    slope, _ = linear_regression([math.log(length) for length in chosen], logs)
    return PowerLaw(slope, min(chosen), max(chosen))


def studies(records: Sequence[RunTime]) -> list[Study]:
    """Arrange records by machine and size of the models.

    Raises
    ------
    UserError
        If a machine has two records of a model and a length.
    """

    def key(record: RunTime) -> tuple[str, int, str, str, int]:
        return record.device, record.threads, record.size or "", record.model, record.length

    found = []
    for _, group in groupby(sorted(records, key=key), lambda record: key(record)[:3]):
        study = Study(tuple(group))
        cells = [key(record) for record in study.records]
        for cell in cells:
            if cells.count(cell) > 1:
                raise UserError(
                    "expected one record of run times of each model and length on a machine, found"
                    f" more of {cell[3]} at {cell[4]} on {study.title}"
                )
        found.append(study)
    return found
