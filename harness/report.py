"""The report: one HTML file with tables, figures and the provenance of every number, no network."""

import base64
import json
from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from harness import comparison, scaling, tables
from harness.figures import CAPTIONS
from harness.records import Record, write_text
from harness.runtime import RunTime

TEMPLATE = Path(__file__).with_name("report.html.j2")


def write(
    records: list[Record],
    tables_dir: Path,
    figures_dir: Path,
    out: Path,
    runtimes: Sequence[RunTime] = (),
) -> None:
    """Write the report, whole or not at all.

    Parameters
    ----------
    records : list of Record
        At least one.
    tables_dir : Path
        Where the tables lie as files; named in the report.
    figures_dir : Path
        ``*.png`` and ``captions.json`` as `harness.figures` writes them; pictures are embedded.
    out : Path
        The HTML file.
    runtimes : sequence of RunTime
        Of figure 3.

    Raises
    ------
    UserError
        If two records have the same identity.
    """
    environment = Environment(
        loader=FileSystemLoader(TEMPLATE.parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    ordered = [r for s in comparison.sections(records) for row in s.rows for r in row.records]
    documents = tables.documents(records) + scaling.documents(runtimes)
    main = {"Table 1": ("table1",), "Table 2": ("overview", "table2")}
    shown = {name: [d for d in documents if d.kind in kinds] for name, kinds in main.items()}
    write_text(
        out,
        environment.get_template(TEMPLATE.name).render(
            runs=[_run(list(group)) for _, group in groupby(ordered, lambda r: (r.task, r.budget))],
            main={name: some for name, some in shown.items() if some},
            others=[d for d in documents if not any(d.kind in kinds for kinds in main.values())],
            details={d.stem: tables.details(d, documents) for d in documents},
            files=sorted(path.name for path in tables_dir.glob("*")),
            tables_dir=tables_dir.name,
            figures=_figures(figures_dir),
            failures=[r for r in ordered if r.status not in ("done", "skipped")],
            skipped=_skipped(ordered),
            records=ordered,
            label=tables.label,
            duration=tables.duration,
        ),
    )


def _run(records: list[Record]) -> dict[str, Any]:
    """What was run for one task and budget, where and when."""
    first = records[0]
    dates = sorted(r.date for r in records)
    commits = Counter((r.commit, r.dirty) for r in records)
    return {
        "task": first.task,
        "budget": first.budget,
        "meaning": tables.BUDGETS[first.budget],
        "cells": len(records),
        "statuses": dict(Counter(r.status for r in records)),
        "datasets": [
            {
                "title": group[0].title,
                "digests": sorted(
                    {(r.data_digest, r.split_digest) for r in group if r.data_digest}
                ),
                "counts": sorted(
                    {(r.n_train, r.n_validation, r.n_test) for r in group if r.data_digest}
                ),
                "skipped": sorted({str(r.reason) for r in group if r.status == "skipped"}),
                "rows": [
                    (tables.label(model), [r.seed for r in group if r.model == model])
                    for model in dict.fromkeys(r.model for r in group)
                ],
            }
            for group in (list(g) for _, g in groupby(records, lambda r: r.dataset))
        ],
        "devices": dict(Counter(f"{r.device}, {r.threads} threads" for r in records)),
        "commits": [
            {"commit": commit, "dirty": dirty, "cells": n} for (commit, dirty), n in commits.items()
        ],
        "from": dates[0],
        "to": dates[-1],
    }


def _skipped(records: list[Record]) -> list[tuple[str, str | None, int]]:
    """Data sets that could not be had: budget and title, why, and the number of cells."""
    found = Counter(
        (f"{r.title}, budget {r.budget}", r.reason) for r in records if r.status == "skipped"
    )
    return [(what, why, n) for (what, why), n in found.items()]


def _figures(folder: Path) -> list[dict[str, str]]:
    captions = json.loads((folder / CAPTIONS).read_text(encoding="utf-8"))
    return [
        {
            "stem": stem,
            "caption": caption,
            "png": base64.b64encode((folder / f"{stem}.png").read_bytes()).decode(),
        }
        for stem, caption in captions.items()
    ]
