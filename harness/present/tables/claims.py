"""The table of verdicts: what the records say of each claim of the paper."""

from collections import Counter
from collections.abc import Sequence

import pandas as pd

from harness import catalogue
from harness.present import claims
from harness.present.claims import Finding
from harness.present.comparison import budgets, comparisons
from harness.present.run_times import Study
from harness.present.tables.table import Document, Table
from harness.present.text import paragraphs

COLUMNS = ["claim", "of", "score", "verdict", "because", "seeds", "sees"]


def document(frame: pd.DataFrame, studies: Sequence[Study]) -> Document:
    """Return the verdicts of each budget, most training first, and of each machine.

    Parameters
    ----------
    frame : DataFrame
        Of all records.
    studies : sequence of Study
        The run times of each machine.
    """
    found = judged(frame, studies)
    lines = [
        claims.frame(own).assign(measured=where)[["measured", *claims.frame(own)]]
        for where, own in found.items()
    ]
    return Document(
        "claims",
        None,
        "The paper's claims",
        [_claims(), *(_verdicts(where, own) for where, own in found.items())],
        paragraphs("legends.j2", "claims"),
        pd.concat(lines, ignore_index=True),
    )


def judged(frame: pd.DataFrame, studies: Sequence[Study]) -> dict[str, list[Finding]]:
    """Return all findings, by budget, "budget full", or by machine."""
    everything = comparisons(frame)
    found = {
        f"budget {budget}": claims.of_scores([c for c in everything if c.head["budget"] == budget])
        for budget in budgets(frame)
    }
    found |= {study.machine: claims.of_run_times(study) for study in studies}
    return found | {"no measurement": claims.without_measurement()}


def summary(frame: pd.DataFrame, studies: Sequence[Study], page: str) -> str:
    """Return how many verdicts there are of each kind, and a line for each that is decided.

    Parameters
    ----------
    page : str
        Where the whole table is.
    """
    says = {claim.id: claim.says for claim in claims.claims()}
    lines = []
    for where, own in judged(frame, studies).items():
        counts = Counter(finding.verdict for finding in own)
        texts = [f"{counts[verdict]} {verdict}" for verdict in claims.VERDICTS if counts[verdict]]
        lines.append(f"* {where}: {', '.join(texts)}")
        decided: dict[tuple[str, str], list[str]] = {}
        for f in own:
            if f.verdict in (claims.REPRODUCED, claims.NOT_REPRODUCED):
                decided.setdefault((f.verdict, says[f.claim]), []).append(f"{f.of}: {f.score}")
        lines += [f"    * {v}: {what} ({'; '.join(cases)})" for (v, what), cases in decided.items()]
    first = f"The paper's claims, each judged by a fixed rule ([all verdicts]({page}#claims)):"
    return "\n".join([first, "", *lines])


def _claims() -> Table:
    lines = [
        {"claim": c.id, "in our words": c.says, "in the paper": c.where, "rule": _name(c.rule)}
        for c in claims.claims()
    ]
    notes = [f"Power of {c.id}: {c.power}" for c in claims.claims()]
    return Table("The claims", pd.DataFrame(lines), notes=notes)


def _name(rule: str) -> str:
    return rule.replace("_", " ")


def _verdicts(where: str, found: Sequence[Finding]) -> Table:
    """A line for each verdict; what has no record at all is named below."""
    shown = [f for f in found if f.because != claims.NO_RECORD]
    lines = claims.frame(shown).assign(
        seeds=[f.seeds or "–" for f in shown],
        sees=["–" if f.sees is None else ", ".join(f.sees) or "none" for f in shown],
    )
    absent = dict.fromkeys(f"{f.of} ({f.claim})" for f in found if f.because == claims.NO_RECORD)
    notes = dict.fromkeys(f"{f.of}: {remark}" for f in shown for remark in f.remarks)
    if absent:
        notes |= {f"Not run, without a record: {'; '.join(absent)}": None}
    name = where.removeprefix("budget ")
    meaning = catalogue.budgets().get(name) if name != where else None
    title = f"Verdicts, {where}" + (f": {meaning}" if meaning else "")
    return Table(title, lines[COLUMNS], notes=list(notes))
