"""Tables of run time and memory against the length."""

from collections.abc import Sequence

import pandas as pd

from harness import catalogue
from harness.measurements import BATCHES, ITERATIONS, Kind, Measurement, RunTime
from harness.present import published
from harness.present.run_times import LONG, Study, studies
from harness.present.tables.table import Document, Table
from harness.present.text import duration, mebibytes, paragraphs

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
            # the paper's claim is of models of its own sizes
            [*([] if study.size else [_ratios(study)]), *_times(study), *_memory(study)],
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
        text = mebibytes(measurement.peak_memory_bytes or 0)
    elif measurement.name == "training":
        text = duration(measurement.seconds * measurement.wanted) + ("ˢ" if few else "")
    else:
        text = duration(measurement.seconds)
        marks += [f"{measurement.iterations} of {measurement.wanted}"] if few else []
    return f"{text} ({', '.join(marks)})" if marks else text


# -- times and memory -----------------------------------------------------------------------------


def _ratios(study: Study) -> Table:
    """Each baseline's times over ours at the length of the paper's claim, which stands below."""
    claim = published.speed_claim()
    columns = [("", ""), *((_as_long(study), kind) for kind in study.kinds())]
    lines = []
    for model in study.baselines:
        line = [catalogue.label(model)]
        for kind in study.kinds():
            ratio = study.ratio(model, kind, claim.length)
            line.append(str(ratio or "not known") if kind in study.kinds(model) else "–")
        lines.append(line)
    note = (
        f"The paper says {claim.factor} times ({published.paper('figure3')}); the verdict stands"
        " with the claims."
    )
    return Table(
        f"Times at length {claim.length:,} over {catalogue.label(study.ours)}'s",
        pd.DataFrame(lines, columns=pd.MultiIndex.from_tuples(columns)),
        notes=[note],
    )


def _times(study: Study) -> list[Table]:
    """Times, ratios and slopes: a table for each measurement."""

    def line(model: str, kind: Kind) -> dict[tuple[str, str], str]:
        common, length = study.common(model, kind), published.speed_claim().length
        ratios = ["–", "–"]
        if model != study.ours:
            if common:
                ratios[0] = f"{study.ratio(model, kind, common)} (at {common:,})"
            ratios[1] = str(study.ratio(model, kind, length) or "–")
        at_claimed = {(_as_long(study), f"at {length:,}"): ratios[1]}
        return {
            **_by_length(study, model, kind),
            (_as_long(study), "at the largest common length"): ratios[0],
            **(at_claimed if length in study.lengths else {}),
            ("", "slope"): str(study.growth(model, kind, "time") or "–"),
            ("", "parameters"): _parameters(study, model),
        }

    return [
        Table(
            f"Time: {OF_KIND[kind]} of {BATCHES[0]} series",
            pd.DataFrame([line(model, kind) for model in study.measured(kind)]),
            notes=_failures(study, kind),
        )
        for kind in study.kinds()
    ]


def _parameters(study: Study, model: str) -> str:
    """Return a model's size; "–" where it could not be built at any length."""
    known = {r.parameters for r in study.records if r.model == model and r.parameters}
    return " to ".join(f"{n:,}" for n in sorted({min(known), max(known)})) if known else "–"


def _memory(study: Study) -> list[Table]:
    """Peak memory and its slopes: a table for each measurement."""

    def line(model: str, kind: Kind) -> dict[tuple[str, str], str]:
        slope = study.growth(model, kind, "memory")
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
            linear_from=LONG, size=study.size,
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
            time, memory = study.growth(*of, "time"), study.growth(*of, "memory")
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
