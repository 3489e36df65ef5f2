"""Tables of run time and memory against the length, and what they say of the paper's claims."""

import math
from collections.abc import Sequence

import pandas as pd

from harness import catalogue
from harness.measurements import BATCHES, ITERATIONS, Kind, Measurement, RunTime
from harness.present import published
from harness.present.run_times import (
    LONG,
    Range,
    Study,
    elapsed,
    own_memory,
    studies,
)
from harness.present.tables.table import Document, Table
from harness.present.text import duration, number, paragraphs

OF_KIND = {
    "training": f"training, {ITERATIONS['training']} iterations",
    "reconstruction": "reconstruction of a batch",
    "generation": "generation of a batch",
}
ENDINGS = {"timeout": "did not finish", "oom": "out of memory"}


def documents(records: Sequence[RunTime]) -> list[Document]:
    """Return the tables of each machine."""
    return [
        Document(
            f"runtime_{study.slug}",
            None,
            f"Figure 3: run time against length. {study.title}",
            # the paper's claims are of models of its own sizes
            [*([] if study.size else [_claims(study)]), *_times(study), *_memory(study)],
            _legend(study),
            _frame(study),
        )
        for study in studies(records)
    ]


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


# -- times and memory -----------------------------------------------------------------------------


def _times(study: Study) -> list[Table]:
    """Times, ratios and slopes: a table for each measurement."""

    def line(model: str, kind: Kind) -> dict[tuple[str, str], str]:
        common, length = study.common(model, kind), published.speed_claim().length
        ratios = ["–", "–"]
        if model != study.ours:
            if common:
                ratios[0] = f"{study.ratio(model, kind, common)} (at {common:,})"
            ratios[1] = str(study.ratio(model, kind, length) or "–")
        return {
            **_by_length(study, model, kind),
            (_as_long(study), "at the largest common length"): ratios[0],
            (_as_long(study), f"at {length:,}"): ratios[1],
            ("", "slope"): str(study.growth(model, kind, elapsed) or "–"),
        }

    return [
        Table(
            f"Time: {OF_KIND[kind]} of {BATCHES[0]} series",
            pd.DataFrame([line(model, kind) for model in study.measured(kind)]),
            notes=_failures(study, kind),
        )
        for kind in study.kinds()
    ]


def _memory(study: Study) -> list[Table]:
    """Peak memory and its slopes: a table for each measurement."""

    def line(model: str, kind: Kind) -> dict[tuple[str, str], str]:
        slope = study.growth(model, kind, own_memory)
        return _by_length(study, model, kind, memory=True) | {("", "slope"): str(slope or "–")}

    return [
        Table(
            f"Peak memory: {OF_KIND[kind]} of {BATCHES[0]} series",
            pd.DataFrame([line(model, kind) for model in study.measured(kind)]),
        )
        for kind in study.kinds()
    ]


def _by_length(
    study: Study, model: str, kind: Kind, memory: bool = False
) -> dict[tuple[str, str], str]:
    """The beginning of a line: the model, and what was measured at each length."""
    measured = {r.length for r in study.records if r.model == model}
    line = {("", ""): catalogue.label(model)}
    for length in study.lengths:
        found = study.measurement(model, kind, length)
        missing = "–" if length in measured else "not run"
        line["length", f"{length:,}"] = outcome(found, memory) if found else missing
    return line


def _as_long(study: Study) -> str:
    return f"times as long as {catalogue.label(study.ours)}'s"


def _failures(study: Study, kind: Kind) -> list[str]:
    found = ((r, m) for r in study.records for m in r.measurements if m.name == kind)
    return [
        f"{catalogue.label(r.model)}, length {r.length:,}: {ENDINGS.get(m.status, m.status)},"
        f" {m.reason}"
        for r, m in found
        if m.status != "done"
    ]


def _legend(study: Study) -> tuple[str, ...]:
    """What the signs mean, and the circumstances of the measurements."""
    dates = sorted(record.date[:10] for record in study.records)
    limits = sorted({record.limit_seconds for record in study.records})
    commits = sorted({record.commit[:7] for record in study.records})
    versions = sorted({record.versions["torch"] for record in study.records})
    return (
        *paragraphs(
            "legends.j2", "run_times", ours=catalogue.label(study.ours), batch=BATCHES[0],
            linear_from=LONG,
        ),
        f"Measured on {study.machine}, torch {', '.join(versions)}, {dates[0]} to {dates[-1]},"
        f" commit {', '.join(commits)}; limit of a measurement"
        f" {', '.join(f'{limit:g}' for limit in limits)} s.",
    )  # fmt: skip


def _frame(study: Study) -> pd.DataFrame:
    """Return one line for each measurement.

    `seconds` are an iteration's, `seconds_at_least` those of one that did not finish; `ratio_low`
    and `ratio_high` bound time over that of the model that is compared with; slopes are those of
    the model's measurement.
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


def _claims(study: Study) -> Table:
    """The claim that one model is so many times faster, for each baseline and measurement."""
    claim = published.speed_claim()
    ours = catalogue.label(study.ours)
    lines = []
    for model in study.baselines:
        line = {("", ""): catalogue.label(model)}
        for kind in study.kinds():
            ratio = study.ratio(model, kind, claim.length)
            known = f"{ratio}: {verdict(ratio, claim.factor)}" if ratio else "open"
            line[_as_long(study), kind] = known if kind in study.kinds(model) else "–"
        lines.append(line)
    title = (
        f"The claim: {ours} is {claim.factor} times faster than the baselines at length"
        f" {claim.length:,}"
    )
    notes = [sentence(study, model) for model in study.baselines]
    notes.append(f"Claim: {published.paper('figure3')}.")
    columns = [("", ""), *((_as_long(study), kind) for kind in study.kinds())]
    return Table(
        title, pd.DataFrame(lines, columns=pd.MultiIndex.from_tuples(columns)), notes=notes
    )


def verdict(ratio: Range | None, factor: int) -> str:
    """Say whether a time is `factor` times ours: confirmed, refuted or, if one cannot say, open."""
    if ratio is None:
        return "open"
    if ratio.low >= factor:
        return "confirmed"
    return "refuted" if ratio.high < factor else "open"


def sentence(study: Study, model: str) -> str:
    """Say of one baseline whether the claim holds."""
    claim = published.speed_claim()
    ours = catalogue.label(study.ours)
    parts = []
    for kind in study.kinds(model):
        ratio = study.ratio(model, kind, claim.length)
        if ratio is None:
            ends = [_why(study, name, kind, claim.length) for name in (model, study.ours)]
            known = f"cannot be compared, {' and '.join(end for end in ends if end)}"
            if common := study.common(model, kind):
                known += f" ({study.ratio(model, kind, common)} times at {common:,})"
        elif ratio.low == ratio.high:
            known = f"takes {number(ratio.low, 2)} times as long as {ours}'s"
        elif ratio.high == math.inf:
            known = f"takes at least {number(ratio.low, 2)} times as long as {ours}'s"
        else:
            known = f"takes at most {number(ratio.high, 2)} times as long as {ours}'s"
        parts.append(f"{kind} {known}: {verdict(ratio, claim.factor)}")
    return (
        f"{catalogue.label(model)} at length {claim.length:,}, the paper says {claim.factor} times:"
        f" {'; '.join(parts)}."
    )


def _why(study: Study, model: str, kind: Kind, length: int) -> str | None:
    """Say why a model has no time at a length; None if it has one."""
    found = study.measurement(model, kind, length)
    if found is None:
        return f"{catalogue.label(model)} was not measured"
    verb = {"timeout": "did not finish", "oom": "ran out of memory"}.get(found.status, found.status)
    return None if found.seconds else f"{catalogue.label(model)} {verb}"
