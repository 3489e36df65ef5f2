"""One's own rows beside those of other folders, such as the committed reference.

Rows of all budgets stand in one table, each with its folder and its budget, where data, split and
settings of the scores agree (`harness.present.quantities.MUST_AGREE`). Rows of the same task and
data set that do not agree stand in a table of their own, whose title says what differs. Below a
table stands what paired tests say of each own model against the rows of the reference.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from harness import catalogue
from harness.errors import UserError
from harness.present import files, paired
from harness.present.comparison import Comparison, comparisons, ran
from harness.present.decisions import decided, told_apart
from harness.present.frame import frame
from harness.present.paired import AHEAD, BEHIND, NEITHER
from harness.present.quantities import MUST_AGREE
from harness.present.tables import columns
from harness.present.tables.scores import explain_marks, failures
from harness.present.tables.table import Document, Table
from harness.present.tables.tidy import tidy
from harness.present.text import paragraphs
from harness.records import Record
from harness.tasks import TABLE_OF

DIGITS = 8  # of a digest
Group = list[tuple[str, Comparison]]  # rows that may stand together, with the folder they come from


def document(own_dirs: Sequence[Path], reference_dir: Path) -> Document:
    """Return the rows below some folders beside those of a reference.

    Parameters
    ----------
    own_dirs : sequence of Path
        Every task and data set that has records here gets its tables.
    reference_dir : Path

    Raises
    ------
    UserError
        If there is no record on one of the two sides, two of one side are of the same cell, or the
        two sides are the same records.
    """
    own, reference = files.find(own_dirs), files.find([reference_dir])
    beside = _name([reference_dir])
    if same := {folder.resolve() for folder in own} & {folder.resolve() for folder in reference}:
        raise UserError(f"{_name([min(same)])}: expected other records than those of {beside}")
    mine = [(_name(own_dirs), c) for c in _compared(own)]
    others = [(beside, c.without_variants) for c in _compared(reference)]
    tables: list[Table] = []
    shown: Group = []
    for group in _groups(mine):
        head = group[0][1]
        same_data = [(name, c) for name, c in others if _subject(c) == _subject(head)]
        agreeing = [(name, c) for name, c in same_data if _agrees(c, head)]
        none = f"{beside} has no row of this data set and task"
        notes = _tests(group, agreeing) if same_data else [none]
        tables.append(_table(group + agreeing, _title(head), notes))
        shown += group + agreeing
        for apart in _groups([pair for pair in same_data if not _agrees(pair[1], head)]):
            title = f"{_title(head)}: not comparable, {_differences(apart[0][1], head)}"
            tables.append(_table(apart, title))
            shown += apart
    if not tables:
        raise UserError(f"{_name(own_dirs)}: no cell there whose data could be had")
    lines = pd.concat([tidy([c]).assign(folder=name) for name, c in shown], ignore_index=True)
    found = Document(
        "comparison",
        None,
        f"{_name(own_dirs)} beside {beside}",
        tables,
        paragraphs("legends.j2", "beside"),
        lines.drop_duplicates(),
    )
    return explain_marks(found)


def _name(folders: Sequence[Path]) -> str:
    return ", ".join(map(os.path.relpath, folders))


def _compared(found: Mapping[Path, Record]) -> list[Comparison]:
    return ran(comparisons(frame(found)))


def _subject(c: Comparison) -> tuple[str, str]:
    return c.head["task"], c.head["dataset"]


def _agrees(one: Comparison, other: Comparison) -> bool:
    return one.agreed == other.agreed


def _groups(pairs: Group) -> list[Group]:
    """Put together what may be compared, whatever its budget."""
    found: list[Group] = []
    for name, c in pairs:
        for group in found:
            if _subject(group[0][1]) == _subject(c) and _agrees(group[0][1], c):
                group.append((name, c))
                break
        else:
            found.append([(name, c)])
    return found


def _title(c: Comparison) -> str:
    task = c.head["task"]
    return c.head["title"] + ("" if task == "generation" else f", {task}")


def _differences(c: Comparison, head: Comparison) -> str:
    """Say what does not agree, "scoring 1 (above: 2)"."""

    def shown(value: Any) -> str:
        return str(value)[:DIGITS] if len(str(value)) == 64 else str(value)

    fields = MUST_AGREE[TABLE_OF[c.head["task"]]]
    different = [field for field in fields if c.agreed[field] != head.agreed[field]]
    return "; ".join(
        f"{field} {shown(c.agreed[field])} (above: {shown(head.agreed[field])})"
        for field in different
    )


def _table(group: Group, title: str, notes: Sequence[str] = ()) -> Table:
    """Return a line for each row of a group, models first, and below it how seeds ended."""
    parts = [_lines(name, c.only(c.rows.index[c.rows["run"] > 0])) for name, c in group]
    cells = pd.concat([cells for cells, _ in parts], ignore_index=True).fillna("–")
    is_control = pd.concat([control for _, control in parts], ignore_index=True)
    ended = dict.fromkeys(f"{name}: {text}" for name, c in group for text in failures(c))
    return Table(title, cells, is_control, [*ended, *notes])


def _tests(own: Group, others: Group) -> list[str]:
    """Say how each own model stands against the other rows, a line for each quantity."""
    return [
        f"{catalogue.label(str(model))} ({c.head['budget']}), robust"
        f" {quantity.title or quantity.name}: {found}"
        for _, c in own
        for model in c.models.index[c.models["done"] > 0]
        for quantity in c.quantities.values()
        if quantity.name != paired.BOUND  # bounds of different sigma cannot be compared
        if (found := _standings(c, str(model), quantity.name, others))
    ]


def _standings(c: Comparison, model: str, quantity: str, others: Group) -> str:
    """Say which rows a model is ahead of, which it is behind, and of which no test says either."""
    by: dict[str, list[str]] = {AHEAD: [], BEHIND: [], NEITHER: []}
    several = len({other.head["budget"] for _, other in others}) > 1
    for _, other in others:
        for rival in other.rows.index[other.rows["done"] > 0]:
            # The two rows may be of one model: told apart by the folder, here by these names.
            sides = zip(("own", "other"), ((c, model), (other, rival)), strict=True)
            cells = pd.concat(
                side.cells[side.cells["model"].eq(name)].assign(model=key)
                for key, (side, name) in sides
            )
            found = paired.standing(cells, "own", "other", c.head["task"], quantity)
            if found:
                budget = f" ({other.head['budget']})" if several else ""
                by[found].append(catalogue.label(str(rival)) + budget)
    # labels hold commas
    return ". ".join(f"{outcome} {'; '.join(rows)}" for outcome, rows in by.items() if rows)


def _lines(name: str, c: Comparison) -> tuple[pd.DataFrame, pd.Series]:
    cells: dict[tuple[str, str], Any] = {
        ("", "row"): columns.labels(c.rows),
        ("", "folder"): name,
        ("", "budget"): c.head["budget"],
    }
    if decided(c):
        cells["", "told apart?"] = told_apart(c)
    for quantity in c.quantities.values():
        for kind, score in (("literal", quantity.literal), ("robust", quantity.robust)):
            cells[quantity.heading, kind] = columns.scores(c, score, scale=quantity.scale)
    cells["", "seeds"] = columns.seeds(c.rows)
    return pd.DataFrame(cells, c.rows.index), c.rows["control"].astype(bool)
