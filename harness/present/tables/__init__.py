"""Tables as text, from records alone: CSV with all digits, Markdown and LaTeX to read.

Every document is of one budget; those of run times are of one machine, that of the claims of all.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pandas as pd

from harness.errors import UserError
from harness.powers import Power, find_powers
from harness.present import frame, run_times
from harness.present.comparison import budgets, comparisons, ran
from harness.present.tables import (
    cell_costs,
    claims,
    generation,
    lengths,
    prediction,
    sweep,
    variants,
)
from harness.present.tables.scores import explain_marks
from harness.present.tables.table import Document, write_documents
from harness.tasks import TABLE_OF


def write(
    records_dirs: Sequence[Path], out: Path, tasks: Sequence[str] | None = None
) -> list[Path]:
    """Write all tables of the records below some folders as .csv, .md and .tex.

    Parameters
    ----------
    records_dirs : sequence of Path
        Searched for records of cells, of the tests' power and of run times.
    out : Path
    tasks : sequence of str, optional
        Only the records of these tasks, no run times and no claims; all by default.

    Returns
    -------
    list of Path

    Raises
    ------
    UserError
        If there is no such record, or two are of the same cell.
    """
    found = frame.read(records_dirs)
    if tasks:
        found = found[found["task"].isin(tasks)]
        if found.empty:
            raise UserError(f"{', '.join(map(str, records_dirs))}: no record of {', '.join(tasks)}")
    made = documents(found, find_powers(records_dirs))
    if not tasks:
        runs = run_times.find(records_dirs)
        made += [*lengths.documents(runs), claims.document(found, run_times.studies(runs))]
    return write_documents(made, out)


def write_lengths(records_dirs: Sequence[Path], out: Path) -> list[Path]:
    """Write the tables of run times against the length, figure 3, as .csv, .md and .tex.

    Raises
    ------
    UserError
        If there is no record of run times, or there are two of a model and length on one machine.
    """
    return write_documents(lengths.documents(run_times.find(records_dirs, needed=True)), out)


def documents(frame: pd.DataFrame, powers: Sequence[Power] = ()) -> list[Document]:
    """Return all tables, budget by budget: the paper's with their companions, then the costs.

    Parameters
    ----------
    frame : DataFrame
        Of all records.
    powers : sequence of Power
        What the two-sample tests can see, for the table of decisions.
    """
    found = []
    of_generation = partial(generation.documents, powers=powers)
    everything = comparisons(frame)
    for budget in budgets(frame):
        of_budget = [c for c in everything if c.head["budget"] == budget]
        compared = [c.without_variants for c in of_budget]
        for table, make in {"table1": of_generation, "table2": prediction.documents}.items():
            if own := [c for c in compared if TABLE_OF[c.head["task"]] == table]:
                found += make(own, budget)
        if shown := ran(compared):
            found.append(cell_costs.document(shown, budget))
        if beside := [c.variants for c in of_budget if c.variants]:
            found.append(variants.document(beside, budget))
        if swept := [s for c in ran(of_budget) for s in c.sweeps]:
            found.append(sweep.document(swept, budget))
    return [explain_marks(document) for document in found]
