"""Tables of reconstruction, interpolation and extrapolation: the paper's table 2, an overview."""

import math
from collections.abc import Sequence

import pandas as pd

from harness import catalogue
from harness.present.best import leading
from harness.present.comparison import HIDDEN_SHARE, Comparison, by_dataset, place, ran, which
from harness.present.tables import bounds, columns
from harness.present.tables.scores import (
    absent,
    older,
    printed,
    published_legend,
    reasons,
    score_table,
    title,
)
from harness.present.tables.table import Document, Table
from harness.present.tables.tidy import tidy
from harness.present.text import paragraphs
from metrics.paired import FEWEST

SKILL = "skill ↑"
MICRO = "mse_micro"  # of all channels
FEW = 10  # groups of test records, below which a bootstrap of them says little
# Scores that records may have: group ("" is the error's) and heading -> name and factor.
OPTIONAL = {
    ("", "literal, first row given"): ("mse_first_row_given", 1e3),
    ("", "descriptors"): ("mse_descriptors", 1e3),
    ("coverage", "of the central 80 %"): ("coverage_80", 1.0),
}
DETAILS = ("table2", "elbo", "hidden", "costs")  # documents that an overview sums up


def documents(compared: Sequence[Comparison], budget: str) -> list[Document]:
    """Return the tables of one budget's predictions."""
    shown = ran(compared)
    frame = tidy(compared)
    union = () if not any(c.rows["union_grid"].any() for c in compared) else (
        paragraphs("legends.j2", "union_grid")
    )  # fmt: skip
    curves = [c for c in shown if c.head["task"] == "interpolation" and len(c.hidden_shares) > 1]
    legend = {"older": older(shown), "skill": any(c.reference for c in shown)}
    tasks = ", ".join(dict.fromkeys(c.head["task"] for c in compared))
    found = [
        Document(
            "overview",
            budget,
            "Overview of table 2",
            [_overview(compared)] if shown else absent(compared),
            paragraphs("legends.j2", "overview", **legend) + union,
            frame[frame["score"].isin({c.quantities["mse"].robust for c in compared})],
        ),
        Document(
            "table2",
            budget,
            f"Table 2: {tasks}",
            [errors(c, title(c, compared)) for c in shown] + absent(compared),
            paragraphs("legends.j2", "table2", **legend)
            + union
            + published_legend("table2", compared),
            frame,
        ),
        bounds.document(compared, budget, frame, union),
        Document(
            "hidden",
            budget,
            "MSE against the share of hidden points",
            [_hidden(c, title(c, compared)) for c in curves],
            paragraphs("legends.j2", "hidden") + union,
            frame[frame["score"].str.fullmatch(HIDDEN_SHARE) & (frame["task"] == "interpolation")],
        ),
    ]
    return [document for document in found if document.tables]


def details(overview: Document, everything: Sequence[Document]) -> list[Document]:
    """Return the documents that an overview sums up; none for one that is no overview."""
    kinds = DETAILS if overview.kind == "overview" else ()
    return [d for d in everything if d.kind in kinds and d.budget == overview.budget]


def errors(c: Comparison, title: str) -> Table:
    """Return errors by how they are averaged."""
    mse, crps = c.quantities["mse"], c.quantities["crps"]

    def plain(score: str) -> pd.Series:
        return columns.scores(c, score, evaluator=False, scale=mse.scale)

    skills = {
        (SKILL, quantity.title): columns.skill(c, quantity)
        for quantity in (mse, crps)
        if c.reference
    }
    apart = mse.robust != MICRO and bool(c.estimate("mse_descriptors")["scored"].any())
    micro = "micro, without descriptors" if apart else "micro"
    cells = skills | {
        (mse.heading, "published"): columns.published_numbers(c, mse),
        (mse.heading, "literal: one draw, empty pairs as 0"): plain(mse.literal),
        (mse.heading, "macro"): plain("mse_macro"),
        (mse.heading, micro): columns.robust(c, mse),
        (crps.heading, micro): columns.robust(c, crps),
    }
    for (group, heading), (score, scale) in OPTIONAL.items():
        if c.estimate(score)["scored"].any():
            found = columns.scores(c, score, evaluator=False, scale=scale)
            cells[group or mse.heading, heading] = found
    best = {
        column: leading(c, name)
        for name, quantity in {"mse": mse, "crps": crps}.items()
        for column in ((SKILL, quantity.title), (quantity.heading, micro))
        if column in cells
    }
    notes = [f"Reference of the skill: {catalogue.label(c.reference)}"] if c.reference else []
    notes += [*_few_groups(c), *_descriptors(c), *printed(c)]
    return score_table(c, title, cells, notes, best)


def _few_groups(c: Comparison) -> list[str]:
    """Say how little a bootstrap of few groups of records says, where there are few."""
    if c.groups is None or c.groups >= FEW:
        return []
    samples = math.comb(2 * c.groups - 1, c.groups)
    drawn = (
        f"The test records are of {c.groups} groups, such as stations, and groups are drawn again,"
        f" not records. A bootstrap of {c.groups} has {samples} different samples"
    )
    if c.groups >= FEWEST:
        return [f"{drawn}: its intervals, and †, say little"]
    return [
        f"{drawn}: its intervals say little, and with fewer than {FEWEST} groups nothing is bold"
        " and no row has †"
    ]


def _descriptors(c: Comparison) -> list[str]:
    """Say that errors are also of descriptors, where records do not tell them apart."""
    name = c.head["dataset"]
    known = name in catalogue.available("datasets") and catalogue.dataset(name).descriptors
    if not known or c.quantities["mse"].robust != MICRO:
        return []
    return [f"Records of an earlier version: micro is also of the descriptors {', '.join(known)}"]


def _overview(compared: Sequence[Comparison]) -> Table:
    """One column for each data set and task, one row for each model and control."""
    shown = ran(by_dataset(compared))
    parts = pd.concat([c.rows[c.rows["run"] > 0] for c in shown])
    found = parts.groupby("model").agg(
        {"control": "first", "union_grid": "any", "run": "sum", "capped": "sum", "fixed": "sum"}
    )
    rows = found.loc[sorted(found.index, key=lambda model: place(model, found.loc[model]))]
    cells, best = {("", ""): pd.Series(columns.labels(rows), rows.index)}, {}
    for c in shown:
        mse = c.quantities["mse"]
        text = columns.skill(c, mse) if c.reference else columns.robust(c, mse, evaluator=False)
        text += [
            f" ({row.done} of {row.run} seeds)" if 0 < row.done < row.run else ""
            for row in c.rows.itertuples()
        ]
        text = text[c.rows["run"] > 0].reindex(rows.index, fill_value="–")
        heading = c.head["task"] + which(c, shown) + (f", {SKILL}" if c.reference else "")
        cells[c.head["title"], heading] = text
        best[c.head["title"], heading] = leading(c, "mse")
    notes = [
        f"{c.head['title']}: {c.head['n_test']} test records, {c.head['channels']} channels,"
        f" {c.head['draws']} draws"
        for c in {c.head["dataset"]: c for c in shown}.values()
    ]
    what = compared[0].quantities["mse"].label
    if any(c.reference for c in shown):
        what = f"Skill in MSE, or {what} where there is no reference"
    heading = f"{what}, budget {compared[0].head['budget']}"
    notes += reasons(compared)
    return Table(heading, pd.DataFrame(cells), rows["control"], notes, best)


def _hidden(c: Comparison, title: str) -> Table:
    """Return errors of one trained model where more or less is hidden."""
    mse = c.quantities["mse"]
    c = c.only(c.rows.index[c.rows["run"] > 0])
    cells = {}
    for share, score in c.hidden_shares.items():
        heading = f"{100 * share:g} %" + ("‖" if score == MICRO else "")
        cells["hidden", heading] = columns.scores(c, score, scale=mse.scale)
    return score_table(c, title, cells)
