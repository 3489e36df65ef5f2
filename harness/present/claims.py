"""The paper's claims, from ``claims.yaml``, and what our records say of each.

The rules were written down before the long runs. docs/decisions.md says what a verdict means.
"""

import functools
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Literal

import pandas as pd
from pydantic import Field, model_validator

from harness import catalogue
from harness.checks import check
from harness.config import Strict
from harness.measurements import Kind
from harness.present import paired, published
from harness.present.comparison import Comparison
from harness.present.paired import AHEAD, BEHIND
from harness.present.quantities import quantities
from harness.present.run_times import Resource, Study

FILE = Path(__file__).with_name("claims.yaml")
SIGMA = "neg_elbo_sigma"  # bounds of different sigma cannot be compared
Verdict = Literal["reproduced", "not reproduced", "undecided", "incomplete", "no score"]
REPRODUCED: Verdict = "reproduced"
NOT_REPRODUCED: Verdict = "not reproduced"
UNDECIDED: Verdict = "undecided"  # neither, though all rows ran
INCOMPLETE: Verdict = "incomplete"  # rows have no record, and none that has one contradicts
NO_SCORE: Verdict = "no score"
VERDICTS = (REPRODUCED, NOT_REPRODUCED, UNDECIDED, INCOMPLETE, NO_SCORE)
NO_RECORD = "no record"


class Claim(Strict):
    """What every claim has; ``claims.yaml`` explains the keys."""

    id: str
    says: str
    where: str
    power: str


class Order(Claim):
    """That a model is better, or worse, than each of some rows."""

    rule: Literal["ahead", "behind"]
    model: str
    rows: list[str]
    tasks: list[str]
    datasets: list[str]
    quantities: list[str]

    @model_validator(mode="after")
    def _known(self) -> "Order":
        for name in self.datasets:
            catalogue.check_name("datasets", name)
        for task in self.tasks:
            if unknown := sorted(set(self.quantities) - set(quantities(task))):
                raise ValueError(f"expected quantities of {task}, found {', '.join(unknown)}")
        return self


class Faster(Claim):
    """That each of some rows takes many times as long as the model that was said to be faster."""

    rule: Literal["faster"]
    rows: list[str]
    measurements: list[Kind]


class Exponent(Claim):
    """That the exponent of some rows' time or memory against the length lies in an interval."""

    rule: Literal["exponent"]
    rows: list[str]
    measurements: list[Kind]
    of: list[Resource]
    between: tuple[float, float]


class NoScore(Claim):
    """A claim that no measurement of ours decides, and why."""

    rule: Literal["no_score"]
    why: str


AnyClaim = Annotated[Order | Faster | Exponent | NoScore, Field(discriminator="rule")]


class _File(Strict):
    claims: list[AnyClaim]

    @model_validator(mode="after")
    def _consistent(self) -> "_File":
        ids = [claim.id for claim in self.claims]
        if twice := sorted({name for name in ids if ids.count(name) > 1}):
            raise ValueError(f"expected each id once, found more of {', '.join(twice)}")
        for claim in self.claims:
            own = [claim.model] if isinstance(claim, Order) else []
            for name in [*own, *getattr(claim, "rows", [])]:
                catalogue.check_name("models", name, f"{claim.id}: ")
        return self


@dataclass(frozen=True)
class Finding:
    """What records say of a claim, in one case of it.

    Attributes
    ----------
    of : str
        The data set and task, or the measurement.
    score : str
    because : str
        What the verdict follows from.
    remarks : tuple of str
        Cells that failed or did not converge.
    caveats : tuple of str
        That the rows which the verdict follows from have one seed, or did not converge.
    seeds : str
        Of the model that the claim is about: done / run.
    sees : tuple of str, optional
        Controls that the score, by the same test, tells from real series; None if not known.
    """

    claim: str
    of: str
    score: str
    verdict: Verdict
    because: str
    remarks: tuple[str, ...] = ()
    caveats: tuple[str, ...] = ()
    seeds: str = ""
    sees: tuple[str, ...] | None = None


@functools.cache
def claims() -> tuple[AnyClaim, ...]:
    """Return all claims, in the order of the file.

    Raises
    ------
    UserError
        If the file has unknown keys, names or rules.
    """
    return tuple(check(_File, catalogue.read_yaml(FILE), FILE.name).claims)


def of_scores(compared: Sequence[Comparison]) -> list[Finding]:
    """Judge the claims about scores by the comparisons of one budget."""
    found = []
    for claim in claims():
        if isinstance(claim, Order):
            for task in claim.tasks:
                for name in claim.datasets:
                    own = [
                        c for c in compared if (c.head["task"], c.head["dataset"]) == (task, name)
                    ]
                    found += [
                        f for q in claim.quantities for f in _cases(claim, task, name, q, own)
                    ]
    return found


def of_run_times(study: Study) -> list[Finding]:
    """Judge the claims about run times by the measurements of one machine."""
    found = []
    for claim in claims():
        if isinstance(claim, Faster):
            found += [_faster(claim, study, kind) for kind in claim.measurements]
        elif isinstance(claim, Exponent):
            found += [
                _exponent(claim, study, kind, of) for kind in claim.measurements for of in claim.of
            ]
    return found


def without_measurement() -> list[Finding]:
    """Return the claims that no measurement of ours decides."""
    return [Finding(c.id, "", "", NO_SCORE, c.why) for c in claims() if isinstance(c, NoScore)]


def as_a_whole(cases: Sequence[Finding]) -> Verdict:
    """Return the verdict on a claim: one case contradicts it; it is reproduced where each is."""
    found = {finding.verdict for finding in cases}
    for verdict in (NOT_REPRODUCED, INCOMPLETE, UNDECIDED):
        if verdict in found:
            return verdict
    return cases[0].verdict


# -- ahead, behind --------------------------------------------------------------------------------


def _cases(
    claim: Order, task: str, dataset: str, quantity: str, compared: Sequence[Comparison]
) -> list[Finding]:
    """Judge a claim of one data set and score: by each comparison, as data or settings differ."""
    of = f"{catalogue.dataset(dataset).title}, {task}"
    if not compared:
        score = quantities(task)[quantity].title or quantity
        return [Finding(claim.id, of, score, INCOMPLETE, NO_RECORD)]
    if len(compared) == 1:
        return [_order(claim, compared[0], quantity, of)]
    return [_order(claim, c, quantity, f"{of}, {i}") for i, c in enumerate(compared, start=1)]


def _order(claim: Order, c: Comparison, quantity: str, of: str) -> Finding:
    score = c.quantities[quantity].title or quantity
    rows = c.rows.reindex([claim.model, *claim.rows])
    run, done = rows["run"].fillna(0), rows["done"].fillna(0)
    ours = catalogue.label(claim.model)
    if c.skipped or not run[claim.model]:
        return Finding(claim.id, of, score, INCOMPLETE, c.skipped or f"{NO_RECORD} of {ours}")
    incomplete = not run.all()
    if not done[claim.model]:
        verdict = INCOMPLETE if incomplete else UNDECIDED
        return Finding(claim.id, of, score, verdict, f"{ours}: {rows['endings'][claim.model]}")
    by: dict[str, list[str]] = {}  # what was found -> rows of which it was
    for name in claim.rows:
        if not run[name]:
            outcome = f"{NO_RECORD}:"
        elif not done[name]:
            outcome = "failed:"
        else:
            outcome = _against(c, claim.model, name, quantity)
        by.setdefault(outcome, []).append(name)
    said, opposite = (AHEAD, BEHIND) if claim.rule == "ahead" else (BEHIND, AHEAD)
    if opposite in by:
        verdict = NOT_REPRODUCED
    elif incomplete:
        verdict = INCOMPLETE
    elif set(by) == {said} and done[claim.model] == run[claim.model]:
        verdict = REPRODUCED
    else:
        verdict = UNDECIDED
    return Finding(
        claim.id, of, score, verdict, _in_words(by),
        _endings(c, [claim.model, *claim.rows]),
        _caveats(c, [claim.model, *by.get(opposite, claim.rows)]),
        f"{done[claim.model]:.0f}/{run[claim.model]:.0f}",
        _sees(c, quantity),
    )  # fmt: skip


def _against(c: Comparison, model: str, rival: str, quantity: str) -> str:
    """Say how a model stands against one row: ahead, behind, or what is in the way of that."""
    if quantity == paired.BOUND:
        sigma = c.estimate(SIGMA)["value"]
        if sigma[model] != sigma[rival]:
            return "another sigma:"
    found = paired.standing(c.cells, model, rival, c.head["task"], quantity)
    return found or "no errors of single series or records kept:"


def _in_words(by: dict[str, list[str]]) -> str:
    order = (BEHIND, AHEAD)
    outcomes = sorted(by, key=lambda o: order.index(o) if o in order else len(order))
    if len(outcomes) == 1 and len(by[outcomes[0]]) > 2:
        return f"{outcomes[0]} all {len(by[outcomes[0]])} rows"
    return "; ".join(
        f"{outcome} {', '.join(map(catalogue.label, by[outcome]))}" for outcome in outcomes
    )


def _endings(c: Comparison, models: Sequence[str]) -> tuple[str, ...]:
    """Name the cells of some rows that failed or did not converge."""
    found = []
    for model in models:
        own = c.cells[c.cells["model"] == model]
        failed = own[own["status"] != "done"]
        name, of = catalogue.label(model), f"of {len(own)}"
        if len(failed):
            found.append(f"{name}: {c.rows.loc[model, 'endings']} (seeds: {len(failed)} {of})")
        if capped := int(own["ended"].eq("cap").sum()):
            found.append(f"{name}: met its cap, not converged (seeds: {capped} {of})")
    return tuple(found)


def _caveats(c: Comparison, models: Sequence[str]) -> tuple[str, ...]:
    """Say of some rows that one has a single seed, and which met their cap."""
    own = c.cells[c.cells["model"].isin(models) & c.cells["status"].eq("done")]
    found = ["one seed"] if own["model"].value_counts().min() == 1 else []
    capped = set(own.loc[own["ended"].eq("cap"), "model"])
    if capped:
        labels = [catalogue.label(model) for model in models if model in capped]
        found.append(f"not converged: {', '.join(labels)}")
    return tuple(found)


def _sees(c: Comparison, quantity: str) -> tuple[str, ...] | None:
    """Return the controls that real series are better than by a score of generation."""
    if c.floor is None:
        return None
    controls = c.rows.index[c.rows["control"] & (c.rows.index != c.floor)]
    better = {
        name: paired.better(c.cells, c.floor, name, c.head["task"], quantity) for name in controls
    }
    if all(found is None for found in better.values()):
        return None
    return tuple(catalogue.label(name) for name, found in better.items() if found)


# -- run times ------------------------------------------------------------------------------------


def _faster(claim: Faster, study: Study, kind: Kind) -> Finding:
    said = published.speed_claim()
    of = f"{kind} at length {said.length:,}"
    ratios = {name: study.ratio(name, kind, said.length) for name in _able(claim, study, kind)}
    known = {name: ratio for name, ratio in ratios.items() if ratio}
    unknown = [name for name in ratios if name not in known]
    texts = [f"{catalogue.label(name)} {ratio}" for name, ratio in known.items()]
    because = f"times as long as {catalogue.label(study.ours)}'s: {', '.join(texts)}"
    remarks = (f"no time of {', '.join(map(catalogue.label, unknown))}",) if unknown else ()
    if any(ratio.high < said.factor for ratio in known.values()):
        verdict = NOT_REPRODUCED
    elif study.ours not in study.models or not set(unknown) <= set(study.models):
        verdict = INCOMPLETE
    elif known and not unknown and all(r.low >= said.factor for r in known.values()):
        verdict = REPRODUCED
    else:
        verdict = UNDECIDED
    because = because if known else _without(unknown, study)
    return Finding(claim.id, of, "time", verdict, because, remarks)


def _exponent(claim: Exponent, study: Study, kind: Kind, of: Resource) -> Finding:
    low, high = claim.between
    laws = {name: study.growth(name, kind, of) for name in _able(claim, study, kind)}
    known = {name: law for name, law in laws.items() if law}
    unknown = [name for name in laws if name not in known]
    texts = [f"{catalogue.label(name)} {law}" for name, law in known.items()]
    because = f"{', '.join(texts)}; the rule allows {low:g} to {high:g}"
    remarks = (f"no exponent of {', '.join(map(catalogue.label, unknown))}",) if unknown else ()
    if not all(low <= law.slope <= high for law in known.values()):
        verdict = NOT_REPRODUCED
    elif not set(unknown) <= set(study.models):
        verdict = INCOMPLETE
    elif known and not unknown:
        verdict = REPRODUCED
    else:
        verdict = UNDECIDED
    because = because if known else _without(unknown, study)
    return Finding(claim.id, f"exponent of {kind}", of, verdict, because, remarks)


def _able(claim: Faster | Exponent, study: Study, kind: Kind) -> list[str]:
    """Return the rows of a claim without those that were measured and do not have the task."""
    return [n for n in claim.rows if n not in study.models or kind in study.kinds(n)]


def _without(unknown: Sequence[str], study: Study) -> str:
    """Say why none of a claim's rows has a value."""
    if not unknown:
        return "no row has this task"
    return "no measurement is done" if set(unknown) <= set(study.models) else NO_RECORD


def frame(found: Sequence[Finding]) -> pd.DataFrame:
    """Return one line for each finding, with what the claim says and the rule that decides it."""
    by_id = {claim.id: claim for claim in claims()}
    lines = [
        {
            **asdict(f),
            "remarks": "; ".join(f.remarks),
            "caveats": "; ".join(f.caveats),
            "sees": None if f.sees is None else ", ".join(f.sees),
            **by_id[f.claim].model_dump(include={"rule", "says", "where"}),
        }
        for f in found
    ]
    columns = [*(field.name for field in fields(Finding)), "rule", "says", "where"]
    return pd.DataFrame(lines, columns=columns)
