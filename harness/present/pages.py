"""Tables in Markdown pages: what stands between ``<!-- name:begin -->`` and ``<!-- name:end -->``.

README.md has a compact table of one data set and how the paper's claims stand; the page of results
has the claims and the paper's table 1 whole, an overview of table 2, and links to the files of all
tables.
"""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from harness.catalogue import budgets
from harness.errors import UserError
from harness.present import frame, run_times
from harness.present.comparison import Comparison, comparisons, ran
from harness.present.decisions import seeds_told_apart
from harness.present.tables import claims, columns, documents, lengths
from harness.present.tables.prediction import details
from harness.present.tables.scores import older
from harness.present.tables.table import Document, Table, markdown, markdown_blocks
from harness.present.text import paragraphs
from harness.tasks import TABLE_OF
from harness.texts import write_text

SHOWN = {"table1": "table1", "table2": "overview"}  # sections of the page, and their documents
Link = Callable[[Document], str]


def update(records_dirs: Sequence[Path], readme: Path, results_page: Path) -> None:
    """Write the records' results into README.md (section ``results``) and the page of results.

    The page's sections are ``claims``, ``table1``, ``table2`` and ``figure3``. What there is no
    record of is left alone. The files of the tables lie in ``tables/`` in the first of the folders.

    Raises
    ------
    UserError
        If there is no record, two are of the same cell, or a page lacks a pair of markers.
    """
    found = frame.read(records_dirs)
    runs = run_times.find(records_dirs)
    timed, studies = lengths.documents(runs), run_times.studies(runs)

    def link(document: Document) -> str:
        tables = os.path.relpath(records_dirs[0] / "tables", results_page.parent)
        return f"{tables}/{document.stem}.md"

    everything = documents(found)
    sections = {
        section: tables_section([d for d in everything if d.kind == kind], everything, link)
        for section, kind in SHOWN.items()
        if any(d.kind == kind for d in everything)
    }
    sections["claims"] = tables_section([claims.document(found, studies)], everything, link)
    if timed:
        sections["figure3"] = run_times_section(timed, link)
    update_sections(results_page, sections)
    if "table1" in sections:
        page = os.path.relpath(results_page, readme.parent)
        results = [compact_section(found, page), claims.summary(found, studies, page)]
        update_sections(readme, {"results": "\n\n".join(results)})


def update_sections(path: Path, sections: Mapping[str, str]) -> None:
    """Replace what stands between ``<!-- name:begin -->`` and ``<!-- name:end -->`` in a file.

    Raises
    ------
    UserError
        Unless the file has one pair of markers for each name; it is left as it is.
    """
    text = path.read_text(encoding="utf-8")
    for name, section in sections.items():
        begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
        between = re.compile(f"{begin}.*{end}", re.DOTALL)
        if text.count(begin) != 1 or text.count(end) != 1 or not between.search(text):
            raise UserError(f"{path}: expected one line {begin} and below it one line {end}")
        text = between.sub(lambda _, new=f"{begin}\n{section}\n{end}": new, text)
    write_text(path, text)


def compact_section(frame: pd.DataFrame, page: str) -> str:
    """Return the robust scores of generation, and which rows are told apart, on one data set.

    The budget with the most models is shown (of several, the first), and of its data sets the one
    with the most trainings. Where no data set could be had, it is a sentence that says so.

    Parameters
    ----------
    frame : DataFrame
        Of all records.
    page : str
        Where the whole tables are.
    """
    compared = [c.without_variants for c in comparisons(frame)]
    compared = [c for c in ran(compared) if TABLE_OF[c.head["task"]] == "table1"]
    if not compared:
        return "No data set of generation could be had."
    models: dict[str, set[str]] = {}  # by budget, in order
    for c in compared:
        models.setdefault(c.head["budget"], set()).update(_trainings(c).index)
    budget = max(models, key=lambda name: len(models[name]))
    c = max((c for c in compared if c.head["budget"] == budget), key=lambda c: _trainings(c).sum())
    c = c.only(c.rows.index[c.rows["run"] > 0])
    told = {row.Index: f"{row.told}/{row.tested}" for row in seeds_told_apart(c).itertuples()}
    cells = pd.DataFrame(
        {"model": columns.labels(c.rows), "told apart": [told.get(m, "–") for m in c.rows.index]}
        | {q.heading: columns.robust(c, q, evaluator=False) for q in c.quantities.values()}
        | {"seeds": columns.seeds(c.rows)},
        c.rows.index,
    )
    about = {"page": page, "budget": budget, "meaning": budgets().get(budget)}
    about |= {"title": c.head["title"], "older": older([c]), "ended": "".join(cells["model"])}
    (legend,) = paragraphs("legends.j2", "compact", **about)
    table = Table("Results", cells, c.rows["control"])
    return f"{legend}\n\n{markdown(table)}"


def _trainings(c: Comparison) -> pd.Series:
    """Return how many seeds of each model were run."""
    return c.rows.loc[~c.rows["control"] & (c.rows["run"] > 0), "run"]


def tables_section(shown: Sequence[Document], everything: Sequence[Document], link: Link) -> str:
    """Return documents of all budgets as one piece of Markdown, with links to their details."""
    blocks, legend = [], {}
    for document in shown:
        blocks += [f"### {document.title}", *markdown_blocks(document.tables, "####")]
        links = [f"[{d.name}]({link(d)})" for d in details(document, everything)]
        blocks += ["In detail: " + "; ".join(links)] if links else []
        legend |= dict.fromkeys(document.legend)
    notes = "\n".join(f"* {line}" for line in legend)
    summary = "<summary>How to read the table: signs, columns, controls</summary>"
    return "\n\n".join([*blocks, f"<details>\n{summary}\n\n{notes}\n\n</details>"])


def run_times_section(timed: Sequence[Document], link: Link) -> str:
    """Return the ratios of run times that the paper makes a claim about, as Markdown."""
    blocks = []
    for document in timed:
        ratios = document.tables[0]
        blocks += [f"#### {document.name}", *markdown_blocks([ratios], "#####")]
        blocks += [f"All lengths, slopes and memory: [{document.stem}]({link(document)})"]
    return "\n\n".join(blocks)
