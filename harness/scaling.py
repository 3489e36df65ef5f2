"""How run time and memory grow with the length: from records of run times to tables and verdicts.

Times are compared on one machine only (a device and a number of threads), and for each series,
since batches may differ. A measurement that did not finish bounds its time from below, so that a
ratio of times is a range.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import NamedTuple, get_args

import numpy as np
import pandas as pd

from harness import comparison
from harness.errors import UserError
from harness.runtime import BATCHES, ITERATIONS, Kind, Measurement, RunTime
from harness.tables import REFERENCE, Document, label
from harness.typeset import Table, duration, markdown, number

KINDS: tuple[Kind, ...] = get_args(Kind)
OF_KIND = {
    "training": f"training, {ITERATIONS['training']} iterations",
    "reconstruction": "reconstruction of a batch",
    "generation": "generation of a batch",
}
OURS = "ls4"  # what the others are compared with
LONG = 1280  # slopes are those of the lengths from here on, where there are two
LINEAR = 0.15  # exponents that are no further from 1 count as linear
ENDINGS = {"timeout": "did not finish", "oom": "out of memory", "diverged": "diverged"}
LEGEND = (
    f"Made-up series (sines) of one channel in batches of {BATCHES[0]}, default settings of each "
    "model. training: forward, backward and optimiser. reconstruction: one draw for a batch that "
    "is shown whole. generation: a batch from nothing. Medians, after a warm-up.",
    "(batch n): too little memory for more; ratios and slopes are for each series. ˢ scaled from "
    "as many iterations as fit into the time limit. (1 of 3): so many repetitions did. did not "
    "finish: not even one. – the model does not have the task.",
    "times as long as LS4's: time over LS4's, above 1 where LS4 is faster; ≥ and ≤ where one of "
    "the two did not finish. slope: exponent b of time ~ length^b, fitted to the logarithms over "
    f"the lengths in brackets, those from {LONG:,} on where there are two; 1 is linear.",
    "Peak memory is that of the measuring process (on a GPU, of its tensors); its slope is that of "
    "what is above the same process before the first iteration.",
)


class Range(NamedTuple):
    """Where a number lies; both ends are the same if it is known."""

    low: float
    high: float

    def __str__(self) -> str:
        if self.low == self.high:
            return number(self.low, 2)
        return f"≥ {number(self.low, 2)}" if self.low else f"≤ {number(self.high, 2)}"


class Fit(NamedTuple):
    """A power law: its exponent, and the shortest and longest length that it was fitted to."""

    slope: float
    shortest: int
    longest: int

    def __str__(self) -> str:
        return f"{round(self.slope, 2) + 0.0:.2f} ({self.shortest:,} to {self.longest:,})"


@dataclass(frozen=True)
class Study:
    """All run times of one machine."""

    records: tuple[RunTime, ...]

    @property
    def head(self) -> RunTime:
        return self.records[0]

    @property
    def machine(self) -> str:
        threads = self.head.threads
        return f"{self.head.device}, {threads} thread{'s' if threads > 1 else ''}"

    @property
    def slug(self) -> str:
        """The machine as a part of a file's name."""
        return re.sub(r"\W+", "_", self.machine.lower())

    @property
    def models(self) -> list[str]:
        """LS4 and its relatives first."""
        names = {record.model for record in self.records}
        return sorted(names, key=lambda name: (not name.startswith(OURS), name))

    @property
    def baselines(self) -> list[str]:
        return [name for name in self.models if not name.startswith(OURS)]

    @property
    def lengths(self) -> list[int]:
        return sorted({record.length for record in self.records})

    @cached_property
    def _found(self) -> dict[tuple[str, int, str], tuple[RunTime, Measurement]]:
        return {(r.model, r.length, m.name): (r, m) for r in self.records for m in r.measurements}

    def measured(self, kind: Kind) -> list[str]:
        """The models that have this measurement."""
        return [model for model in self.models if kind in self.kinds(model)]

    def measurement(self, model: str, kind: Kind, length: int) -> Measurement | None:
        """None where the model does not have the task, or was not measured."""
        found = self._found.get((model, length, kind))
        return found[1] if found else None

    def kinds(self, model: str | None = None) -> list[Kind]:
        """What was measured, of a model or at all."""
        found = {kind for name, _, kind in self._found if model in (None, name)}
        return [kind for kind in KINDS if kind in found]

    def seconds(self, model: str, kind: Kind, length: int) -> Range | None:
        """Seconds of an iteration for each series; None where nothing is known."""
        if (model, length, kind) not in self._found:
            return None
        record, found = self._found[model, length, kind]
        if found.seconds is not None:
            return Range(*[found.seconds / found.batch] * 2)
        if found.status == "timeout":
            return Range(record.limit_seconds / found.batch, math.inf)
        return None

    def ratio(self, model: str, kind: Kind, length: int) -> Range | None:
        """A model's time over LS4's; None where nothing is known."""
        own, ours = (self.seconds(name, kind, length) for name in (model, OURS))
        if own is None or ours is None or (own.high == ours.high == math.inf):
            return None
        return Range(own.low / ours.high, own.high / ours.low)

    def common(self, model: str, kind: Kind) -> int | None:
        """The largest length that both a model and LS4 finished."""
        ratios = {length: self.ratio(model, kind, length) for length in self.lengths}
        both = [length for length, ratio in ratios.items() if ratio and ratio.low == ratio.high]
        return max(both, default=None)

    def growth(self, model: str, kind: Kind, of: Callable[[Measurement], float]) -> Fit | None:
        """Fit what one measurement gives for each series to the length."""
        found = {length: self.measurement(model, kind, length) for length in self.lengths}
        return fit({n: of(m) / m.batch for n, m in found.items() if m and m.status == "done"})


def elapsed(measurement: Measurement) -> float:
    """Seconds of an iteration that is done."""
    return measurement.seconds or 0.0


def own_memory(measurement: Measurement) -> int:
    """Bytes that the iterations of a measurement that is done took beyond what was there."""
    return (measurement.peak_memory_bytes or 0) - (measurement.base_memory_bytes or 0)


def fit(values: dict[int, float]) -> Fit | None:
    """Fit a power law to positive values by length: to the long ones where there are two."""
    values = {length: value for length, value in values.items() if value > 0}
    chosen = [length for length in values if length >= LONG]
    chosen = chosen if len(chosen) > 1 else list(values)
    if len(chosen) < 2:
        return None
    slope = np.polyfit(np.log(chosen), np.log([values[length] for length in chosen]), 1)[0]
    return Fit(float(slope), min(chosen), max(chosen))


def studies(records: Sequence[RunTime]) -> list[Study]:
    """Arrange records by machine.

    Raises
    ------
    UserError
        If a machine has two records of a model and a length.
    """

    def machine(record: RunTime) -> tuple[str, int]:
        return record.device, record.threads

    found = []
    for _, group in groupby(sorted(records, key=machine), machine):
        study = Study(tuple(group))
        cells = [(r.model, r.length) for r in study.records]
        for model, length in cells:
            if cells.count((model, length)) > 1:
                raise UserError(
                    f"expected one record of run times of each model and length on a machine, found"
                    f" more of {model} at {length} on {study.machine}"
                )
        found.append(study)
    return found


# -- tables ---------------------------------------------------------------------------------------


def documents(records: Sequence[RunTime]) -> list[Document]:
    """Return the tables of each machine."""
    return [
        Document(
            f"runtime_{study.slug}",
            None,
            f"Figure 3: run time against length. {study.machine}",
            [_claims(study), *_times(study), *_memory(study)],
            (*LEGEND, _circumstances(study)),
            frame(study),
        )
        for study in studies(records)
    ]


def readme_section(some: list[Document]) -> str:
    """Return what the paper claims and what was found, as Markdown for README.md."""
    blocks = []
    for document in some:
        claims = document.tables[0]
        blocks += [f"#### {document.name}", markdown(claims)]
        blocks += ["\n".join(f"* {note}" for note in claims.notes)]
        blocks += [
            f"All lengths, slopes and memory: [{document.stem}]({REFERENCE}/{document.stem}.md)"
        ]
    return "\n\n".join(blocks)


def outcome(measurement: Measurement, memory: bool = False) -> str:
    """Return the time (or the peak memory) of a measurement with its marks, or how it ended."""
    if measurement.seconds is None:
        return ENDINGS.get(measurement.status, measurement.status)
    few = measurement.iterations < measurement.wanted
    marks = [] if measurement.batch == BATCHES[0] else [f"batch {measurement.batch}"]
    if memory:
        text = f"{(measurement.peak_memory_bytes or 0) / 2**20:,.0f} MiB"
    elif measurement.name == "training":
        text = duration(measurement.seconds * measurement.wanted) + ("ˢ" if few else "")
    else:
        text = duration(measurement.seconds)
        marks += [f"{measurement.iterations} of {measurement.wanted}"] if few else []
    return f"{text} ({', '.join(marks)})" if marks else text


def _times(study: Study) -> list[Table]:
    """Times, ratios and slopes: a table for each measurement."""
    claimed = _claimed()["length"]
    found = []
    for kind in study.kinds():
        lines = []
        for model in study.measured(kind):
            common = study.common(model, kind)
            ratios = ["–", "–"]
            if model != OURS:
                at_common = common and study.ratio(model, kind, common)
                ratios[0] = f"{at_common} (at {common:,})" if at_common else "–"
                ratios[1] = str(study.ratio(model, kind, claimed) or "–")
            slope = study.growth(model, kind, elapsed)
            lines.append([label(model), *_cells(study, model, kind), *ratios, str(slope or "–")])
        columns = [("", ""), *(("length", f"{length:,}") for length in study.lengths)]
        columns += [("times as long as LS4's", "at the largest common length")]
        columns += [("times as long as LS4's", f"at {claimed:,}"), ("", "slope")]
        title = f"Time: {OF_KIND[kind]} of {BATCHES[0]} series"
        found.append(Table(title, columns, lines, [], _failures(study, kind)))
    return found


def _memory(study: Study) -> list[Table]:
    """Peak memory and its slopes: a table for each measurement."""
    columns = [("", ""), *(("length", f"{length:,}") for length in study.lengths), ("", "slope")]
    return [
        Table(
            f"Peak memory: {OF_KIND[kind]} of {BATCHES[0]} series",
            columns,
            [
                [
                    label(model),
                    *_cells(study, model, kind, memory=True),
                    str(study.growth(model, kind, own_memory) or "–"),
                ]
                for model in study.measured(kind)
            ],
            [],
            [],
        )
        for kind in study.kinds()
    ]


def _cells(study: Study, model: str, kind: Kind, memory: bool = False) -> list[str]:
    measured = {r.length for r in study.records if r.model == model}
    cells = []
    for length in study.lengths:
        found = study.measurement(model, kind, length)
        missing = "–" if length in measured else "not run"
        cells.append(outcome(found, memory) if found else missing)
    return cells


def _failures(study: Study, kind: Kind) -> list[str]:
    found = ((r, m) for r in study.records for m in r.measurements if m.name == kind)
    return [
        f"{label(r.model)}, length {r.length:,}: {ENDINGS.get(m.status, m.status)}, {m.reason}"
        for r, m in found
        if m.status != "done"
    ]


def _circumstances(study: Study) -> str:
    dates = sorted(record.date[:10] for record in study.records)
    limits = sorted({record.limit_seconds for record in study.records})
    commits = sorted({record.commit[:7] for record in study.records})
    versions = sorted({record.versions["torch"] for record in study.records})
    return (
        f"Measured on {study.machine}, torch {', '.join(versions)}, {dates[0]} to {dates[-1]},"
        f" commit {', '.join(commits)}; limit of a measurement"
        f" {', '.join(f'{limit:g}' for limit in limits)} s."
    )


def frame(study: Study) -> pd.DataFrame:
    """Return one line for each measurement.

    `seconds` are an iteration's, `seconds_at_least` those of one that did not finish; `ratio_low`
    and `ratio_high` bound time over LS4's; slopes are those of the model's measurement.
    """
    lines = []
    for record in study.records:
        for m in record.measurements:
            of = record.model, m.name
            ratio = study.ratio(*of, record.length)
            time, memory = (study.growth(*of, value) for value in (elapsed, own_memory))
            late = m.status == "timeout"
            lines.append(
                {
                    "model": record.model,
                    "measurement": m.name,
                    "length": record.length,
                    "status": m.status,
                    "reason": m.reason,
                    "batch": m.batch,
                    "iterations": m.iterations,
                    "wanted": m.wanted,
                    "seconds": m.seconds,
                    "seconds_low": m.quartiles[0] if m.quartiles else None,
                    "seconds_high": m.quartiles[1] if m.quartiles else None,
                    "seconds_at_least": record.limit_seconds if late else None,
                    "ratio_low": ratio.low if ratio else None,
                    "ratio_high": ratio.high if ratio else None,
                    "slope": time.slope if time else None,
                    "slope_from": time.shortest if time else None,
                    "slope_to": time.longest if time else None,
                    "base_memory_bytes": m.base_memory_bytes,
                    "peak_memory_bytes": m.peak_memory_bytes,
                    "memory_slope": memory.slope if memory else None,
                    "device": record.device,
                    "threads": record.threads,
                    "date": record.date,
                }
            )
    whole = ("slope_from", "slope_to", "base_memory_bytes", "peak_memory_bytes")
    real = ("seconds", "seconds_low", "seconds_high", "seconds_at_least", "ratio_low", "ratio_high",
            "slope", "memory_slope")  # fmt: skip
    return pd.DataFrame(lines).astype(dict.fromkeys(whole, "Int64") | dict.fromkeys(real, float))


# -- what the paper claims ------------------------------------------------------------------------


def _claimed() -> dict:
    return comparison.claims("figure3")["faster"]


def verdict(ratio: Range | None, factor: int) -> str:
    """Whether a time is `factor` times LS4's: confirmed, refuted or, if one cannot say, open."""
    if ratio is None:
        return "open"
    if ratio.low >= factor:
        return "confirmed"
    return "refuted" if ratio.high < factor else "open"


def _claims(study: Study) -> Table:
    """The claim that LS4 is so many times faster, for each baseline and measurement."""
    claimed = _claimed()
    factor, length = claimed["factor"], claimed["length"]
    kinds = study.kinds()
    lines = []
    for model in study.baselines:
        cells = []
        for kind in kinds:
            ratio = study.ratio(model, kind, length)
            known = f"{ratio}: {verdict(ratio, factor)}" if ratio else "open"
            cells.append(known if kind in study.kinds(model) else "–")
        lines.append([label(model), *cells])
    columns = [("", ""), *(("times as long as LS4's", kind) for kind in kinds)]
    title = f"The claim: LS4 is {factor} times faster than the baselines at length {length:,}"
    notes = [*(sentence(study, model) for model in study.baselines), *_linear(study)]
    return Table(title, columns, lines, [], [*notes, f"Claims: {comparison.paper('figure3')}."])


def sentence(study: Study, model: str) -> str:
    """Say of one baseline whether the claim holds."""
    claimed = _claimed()
    factor, length = claimed["factor"], claimed["length"]
    parts = []
    for kind in study.kinds(model):
        ratio = study.ratio(model, kind, length)
        if ratio is None:
            ends = [_why(study, name, kind, length) for name in (model, OURS)]
            known = f"cannot be compared, {' and '.join(end for end in ends if end)}"
            if common := study.common(model, kind):
                known += f" ({study.ratio(model, kind, common)} times at {common:,})"
        elif ratio.low == ratio.high:
            known = f"takes {number(ratio.low, 2)} times as long as LS4's"
        elif ratio.high == math.inf:
            known = f"takes at least {number(ratio.low, 2)} times as long as LS4's"
        else:
            known = f"takes at most {number(ratio.high, 2)} times as long as LS4's"
        parts.append(f"{kind} {known}: {verdict(ratio, factor)}")
    return (
        f"{label(model)} at length {length:,}, the paper says {factor} times: {'; '.join(parts)}."
    )


def _why(study: Study, model: str, kind: Kind, length: int) -> str | None:
    """Why a model has no time at a length."""
    found = study.measurement(model, kind, length)
    if found is None:
        return f"{label(model)} was not measured"
    return None if found.seconds else f"{label(model)} {_verb(found.status)}"


def _verb(status: str) -> str:
    return {"timeout": "did not finish", "oom": "ran out of memory"}.get(status, status)


def _linear(study: Study) -> list[str]:
    """Which baselines train and answer in linear time."""
    found = []
    for kind in KINDS:
        fits = {name: study.growth(name, kind, elapsed) for name in study.baselines}
        slopes = {name: f.slope for name, f in fits.items() if f}
        texts = [f"{label(name)} {slope:.2f}" for name, slope in slopes.items()]
        outside = [label(name) for name, slope in slopes.items() if abs(slope - 1) > LINEAR]
        if texts:
            found.append(
                f"The paper says that the baselines scale linearly with the length. Slopes of"
                f" {kind}: {', '.join(texts)}; further than {LINEAR:g} from 1:"
                f" {', '.join(outside) or 'none'}."
            )
    return found
