"""The table of verdicts: what the records say of each claim of the paper."""

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
    found |= {study.machine: claims.of_run_times(study) for study in studies}
    return found | {"no measurement": claims.without_measurement()}


def summary(frame: pd.DataFrame, studies: Sequence[Study], page: str) -> str:
    """Return which claims hold as a whole: a line for each verdict and where it was found.

    A claim speaks of several cases, such as data sets and scores. As a whole it is reproduced where
    each case is, and not reproduced where one is not.

    Parameters
    ----------
    page : str
        Where the whole table is.
    """
    says = {claim.id: claim.says for claim in claims.claims()}
    unscored = {finding.claim for finding in claims.without_measurement()}
    decided: dict[str, list[str]] = {}
    left = [name for name in says if name not in unscored]
    for where, own in judged(frame, studies).items():
        for name in dict.fromkeys(finding.claim for finding in own):
            cases = [finding.verdict for finding in own if finding.claim == name]
            failed = cases.count(claims.NOT_REPRODUCED)
            if failed:
                text = f"{says[name]} ({failed} of {len(cases)} cases contradict this)"
                decided.setdefault(f"Not reproduced, {where}", []).append(text)
            elif set(cases) == {claims.REPRODUCED}:
                decided.setdefault(f"Reproduced, {where}", []).append(says[name])
            else:
                continue
            left = [other for other in left if other != name]
    heads = sorted(decided, key=lambda head: head.startswith("Not"))  # reproduced first
    lines = {head: decided[head] for head in heads}
    lines[f"Not decided by these records ([why]({page}#claims))"] = [says[name] for name in left]
    lines["Without a score that could decide it"] = [
        says[name] for name in says if name in unscored
    ]
    first = (
        f"The paper's {len(says)} claims, judged by fixed rules ([all verdicts]({page}#claims))."
        " A claim is reproduced if it holds in each of its cases (a data set and a score, or a"
        " measurement), and not reproduced if one case contradicts it."
    )
    shown = [f"* **{head}:** {'; '.join(texts)}." for head, texts in lines.items() if texts]
    return "\n".join([first, "", *shown])


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
