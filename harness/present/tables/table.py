"""A table of text, a document of several tables, and both as CSV, Markdown and LaTeX.

Cells are plain text with a few signs, such as ± and †, that the LaTeX writer translates.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import pandas as pd

from harness import catalogue
from harness.texts import write_text


@dataclass(frozen=True)
class Table:
    """Text in rows and columns.

    Attributes
    ----------
    title : str
    cells : DataFrame of str
        The first column names the rows. Columns are headings, or pairs (group, heading):
        neighbours with the same group share it as a heading above, "" is none.
    is_control : Series of bool, optional
        Which rows are controls, which are set apart from the models by a line; None for none.
    notes : sequence of str
        Sentences below the table.
    best : mapping
        Columns -> labels of the rows whose cells are set in bold.
    """

    title: str
    cells: pd.DataFrame
    is_control: pd.Series | None = None
    notes: Sequence[str] = ()
    best: Mapping[Any, Sequence[str]] = field(default_factory=dict)

    @property
    def columns(self) -> list[tuple[str, str]]:
        """Pairs (group, heading)."""
        return [c if isinstance(c, tuple) else ("", c) for c in self.cells.columns]

    @property
    def groups(self) -> list[tuple[str, int]]:
        """Group headings and the number of columns under each; none where there is no heading."""
        found = [(name, len(list(own))) for name, own in groupby(g for g, _ in self.columns)]
        return found if any(name for name, _ in found) else []

    @property
    def models(self) -> pd.DataFrame:
        """The rows that are no controls."""
        return self.cells if self.is_control is None else self.cells[~self.is_control.astype(bool)]

    @property
    def controls(self) -> pd.DataFrame:
        """The rows that are controls."""
        return (
            self.cells[:0] if self.is_control is None else self.cells[self.is_control.astype(bool)]
        )

    def written(self, form: Callable[[str], str], bold: Callable[[str], str]) -> "Table":
        """Return the table as it stands in a file: `form` of all cells, then `bold` of the best."""
        cells = self.cells.map(form)
        for column, rows in self.best.items():
            cells.loc[list(rows), column] = cells.loc[list(rows), column].map(bold)
        return replace(self, cells=cells)


@dataclass(frozen=True)
class Document:
    """Tables of one kind, and the same as a frame; `budget` is None where they are not of one."""

    kind: str
    budget: str | None
    name: str
    tables: list[Table]
    legend: tuple[str, ...]
    frame: pd.DataFrame

    @property
    def stem(self) -> str:
        """Of its files."""
        return self.kind if self.budget is None else f"{self.kind}_{self.budget}"

    @property
    def title(self) -> str:
        if self.budget is None:
            return self.name
        meaning = catalogue.budgets().get(self.budget)
        return f"{self.name}; budget {self.budget}" + (f": {meaning}" if meaning else "")


def write_documents(documents: Sequence[Document], out: Path) -> list[Path]:
    """Write documents as .csv, .md and .tex below `out` and return the paths."""
    paths = []
    for document in documents:
        texts = {
            ".csv": document.frame.to_csv(index=False, lineterminator="\n"),
            ".md": markdown_document(document),
            ".tex": _latex_document(document),
        }
        for suffix, text in texts.items():
            path = out / f"{document.stem}{suffix}"
            write_text(path, text)
            paths.append(path)
    return paths


# -- Markdown -------------------------------------------------------------------------------------


def markdown(table: Table) -> str:
    """Return a table in pipe syntax; group names stand in front of the headings."""
    headings = [f"{group} {heading}".strip() for group, heading in table.columns]
    text = table.written(markdown_text, "**{}**".format)
    models, controls = (part.set_axis(headings, axis=1) for part in (text.models, text.controls))
    parts = [models]
    if len(controls):
        names = controls[headings[0]]
        parts.append(pd.DataFrame([["*controls:*"] + [""] * (len(headings) - 1)], columns=headings))
        parts.append(controls.assign(**{headings[0]: "*" + names + "*"}))
    return str(pd.concat(parts).to_markdown(index=False, tablefmt="pipe", disable_numparse=True))


def markdown_text(cell: str) -> str:
    return " ".join(cell.split()).replace("|", "\\|").replace("<", "&lt;")


def markdown_blocks(tables: Sequence[Table], level: str) -> list[str]:
    """Return paragraphs of Markdown: each table with its title as a heading of a level ("##")."""
    blocks = []
    for table in tables:
        blocks += [f"{level} {table.title}", markdown(table)]
        blocks += ["\n".join(f"* {markdown_text(note)}" for note in table.notes)]
    return [block for block in blocks if block]


def markdown_document(document: Document) -> str:
    """Return a document as a page of Markdown."""
    blocks = [f"# {document.title}", *markdown_blocks(document.tables, "##"), "---"]
    return "\n\n".join([*blocks, *document.legend]) + "\n"


# -- LaTeX ----------------------------------------------------------------------------------------

_TEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        **{sign: f"\\{sign}" for sign in "&%$#_{}"},
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        "±": r"$\pm$",
        "†": r"$^\dagger$",
        "‡": r"$^\ddagger$",
        "ˢ": r"\textsuperscript{s}",
        "ᵘ": r"\textsuperscript{u}",
        "ᶜ": r"\textsuperscript{c}",
        "ᶠ": r"\textsuperscript{f}",
        "²": r"\textsuperscript{2}",
        "≥": r"$\geq$",
        "≤": r"$\leq$",
        "‖": r"$^\parallel$",
        "◦": r"$^\circ$",
        "×": r"$\times$",
        "–": "--",
        "…": r"\ldots{}",
        "↓": r"$\downarrow$",
        "↑": r"$\uparrow$",
    }
)


def latex_text(plain: str) -> str:
    """Escape plain text for LaTeX and translate the signs of the tables."""
    return plain.translate(_TEX)


def latex(table: Table) -> str:
    """Return a table environment; needs the packages booktabs and adjustbox."""
    return "\n".join(
        [
            r"\begin{table}[htbp]",
            r"\centering",
            rf"\caption{{{latex_text(table.title)}}}",
            r"\begin{adjustbox}{max width=\textwidth}",
            *_tabular(table),
            r"\end{adjustbox}",
            *map(_latex_note, table.notes),
            r"\end{table}",
        ]
    )


def _tabular(table: Table) -> list[str]:
    """Return the lines of a tabular environment."""
    columns = [tuple(map(latex_text, pair)) for pair in table.columns]
    names = pd.MultiIndex.from_tuples(columns) if table.groups else [h for _, h in columns]
    text = table.written(latex_text, r"\textbf{{{}}}".format)
    cells = pd.concat([text.models, text.controls], ignore_index=True)
    styler = cells.set_axis(names, axis=1).style.hide(axis="index")
    alignment = "l" + "r" * (len(columns) - 1)
    lines = styler.to_latex(column_format=alignment, hrules=True, multicol_align="c").splitlines()
    if len(table.controls):
        lines.insert(lines.index(r"\midrule") + 1 + len(table.models), r"\midrule")
    if table.groups:
        rules, last = "", 0
        for name, width in table.groups:
            first, last = last + 1, last + width
            rules += rf"\cmidrule(lr){{{first}-{last}}}" if name else ""
        lines.insert(lines.index(r"\toprule") + 2, rules)  # below the line of the groups
    return lines


def _latex_note(sentence: str) -> str:
    return rf"{{\footnotesize\raggedright {latex_text(sentence)}\par}}"


def _latex_document(document: Document) -> str:
    comment = f"% {document.title}\n% \\usepackage{{booktabs,adjustbox}}"
    legend = "\n".join(map(_latex_note, document.legend))
    return "\n\n".join([comment, *map(latex, document.tables), legend]) + "\n"
