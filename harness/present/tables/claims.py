"""The table of verdicts: what the records say of each claim of the paper."""

from collections.abc import Sequence

import pandas as pd

from harness import catalogue
from harness.present import claims
from harness.present.claims import Finding, Verdict
from harness.present.comparison import budgets, comparisons
from harness.present.run_times import Study
from harness.present.tables.table import Document, Table
from harness.present.text import paragraphs

COLUMNS = ["claim", "of", "score", "verdict", "because", "seeds", "sees"]


def document(frame: pd.DataFrame, studies: Sequence[Study]) -> Document:
    """Return the verdicts of each budget and of each machine.

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
    # the paper's claims are of models of its own sizes
    found |= {s.machine: claims.of_run_times(s) for s in studies if not s.size}
    return found | {"no measurement": claims.without_measurement()}


def summary(frame: pd.DataFrame, studies: Sequence[Study], page: str) -> str:
    """Return the verdict on each claim as a whole: a line for each verdict and where it was found.

    Parameters
    ----------
    page : str
        Where the whole table is.
    """
    everything = judged(frame, studies)
    decided = (claims.REPRODUCED, claims.NOT_REPRODUCED)
    lines: dict[tuple[Verdict, str], list[str]] = {}
    for claim in claims.claims():
        verdicts: set[Verdict] = set()
        for where, own in everything.items():
            if cases := [finding for finding in own if finding.claim == claim.id]:
                verdicts.add(verdict := claims.as_a_whole(cases))
                if verdict in decided:
                    text = claim.says + _aside(verdict, cases)
                    lines.setdefault((verdict, f", {where}"), []).append(text)
        if verdicts.isdisjoint(decided):
            others = verdicts & {claims.UNDECIDED, claims.NO_SCORE}  # a claim has one at most
            verdict = others.pop() if others else claims.INCOMPLETE
            lines.setdefault((verdict, ""), []).append(claim.says)
    first = (
        f"The paper's {len(claims.claims())} claims, judged by fixed rules"
        f" ([all verdicts]({page}#claims)). A claim is reproduced if it holds in each of its cases"
        " (a data set and a score, or a measurement), and not reproduced if one case contradicts"
        " it. Else it is undecided or, where rows have no record, incomplete."
    )
    shown = [
        f"* **{verdict.capitalize()}{where}:** {'; '.join(lines[verdict, where])}."
        for verdict, where in sorted(lines, key=lambda head: claims.VERDICTS.index(head[0]))
    ]
    return "\n".join([first, "", *shown])


def _aside(verdict: Verdict, cases: Sequence[Finding]) -> str:
    """Say in brackets what a verdict rests on: all cases, or the surest of those against it."""
    if verdict == claims.REPRODUCED:
        found = list(dict.fromkeys(caveat for f in cases for caveat in f.caveats))
    else:
        against = [f.caveats for f in cases if f.verdict == verdict]
        absent = sum(f.because == claims.NO_RECORD for f in cases)
        without = f", {absent} without a record" if absent else ""
        text = f"{len(against)} of {len(cases)} cases contradict this{without}"
        found = [text, *min(against, key=len)]
    return f" ({'; '.join(found)})" if found else ""


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
        notes |= {f"Without a record: {'; '.join(absent)}": None}
    name = where.removeprefix("budget ")
    meaning = catalogue.budgets().get(name) if name != where else None
    title = f"Verdicts: {where}" + (f", {meaning}" if meaning else "")
    return Table(title, lines[COLUMNS], notes=list(notes))
