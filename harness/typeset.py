"""Tables of plain text as Markdown and LaTeX, and numbers as text."""

from dataclasses import dataclass
from itertools import groupby

from tabulate import tabulate


@dataclass(frozen=True)
class Table:
    """Text in rows and columns.

    Attributes
    ----------
    title : str
    columns : list of (group, heading)
        Neighbours with the same group share it as a heading above; "" for none.
    models, controls : list of rows
        Controls are set apart from the models by a line.
    notes : list of str
        Sentences below the table.
    """

    title: str
    columns: list[tuple[str, str]]
    models: list[list[str]]
    controls: list[list[str]]
    notes: list[str]

    @property
    def groups(self) -> list[tuple[str, int]]:
        """Group headings and the number of columns under each."""
        return [(name, len(list(c))) for name, c in groupby(g for g, _ in self.columns)]


def number(value: float, digits: int = 3) -> str:
    """Return a number with `digits` significant digits, trailing zeros kept.

    >>> number(0.0354), number(0.5, 2), number(1234.5), number(0.0000167), number(0.0)
    ('0.0354', '0.50', '1234', '1.67e-05', '0')
    """
    if value == 0:
        return "0"
    if abs(value) >= 10**digits - 0.5:
        return f"{value:.0f}"
    return f"{value:#.{digits}g}".removesuffix(".")


def duration(seconds: float) -> str:
    """Return seconds in a unit that keeps the number short."""
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{number(seconds / size, 2)} {unit}"
    return f"{number(seconds, 2)} s"


def markdown(table: Table) -> str:
    """Return a table in pipe syntax; group names stand in front of the headings."""
    headings = [f"{group} {heading}".strip() for group, heading in table.columns]
    rows = [*table.models]
    if table.controls:
        blank = [""] * (len(headings) - 1)
        rows += [["*controls:*", *blank], *([f"*{row[0]}*", *row[1:]] for row in table.controls)]
    escaped = [[markdown_text(cell) for cell in row] for row in rows]
    return tabulate(escaped, headings, tablefmt="pipe", disable_numparse=True)


def markdown_text(cell: str) -> str:
    return " ".join(cell.split()).replace("|", "\\|").replace("<", "&lt;")


_TEX = {
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
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "‖": r"$^\parallel$",
    "×": r"$\times$",
    "–": "--",
    "…": r"\ldots{}",
    "↓": r"$\downarrow$",
    "↑": r"$\uparrow$",
}


def latex_text(plain: str) -> str:
    """Escape plain text for LaTeX and translate the signs of the tables."""
    return "".join(_TEX.get(character, character) for character in plain)


def latex_note(sentence: str) -> str:
    """Return a paragraph in small type."""
    return rf"{{\footnotesize\raggedright {latex_text(sentence)}\par}}"


def latex(table: Table) -> str:
    """Return a table environment; needs the packages booktabs and adjustbox."""

    def line(cells: list[str]) -> str:
        return " & ".join(latex_text(cell) for cell in cells) + r" \\"

    spans, rules, column = [], [], 1
    for group, width in table.groups:
        spans.append(rf"\multicolumn{{{width}}}{{c}}{{{latex_text(group)}}}")
        if group:
            rules.append(rf"\cmidrule(lr){{{column}-{column + width - 1}}}")
        column += width
    above = [" & ".join(spans) + r" \\", "".join(rules)] if rules else []
    controls = [r"\midrule", *map(line, table.controls)] if table.controls else []
    return "\n".join(
        [
            r"\begin{table}[htbp]",
            r"\centering",
            rf"\caption{{{latex_text(table.title)}}}",
            r"\begin{adjustbox}{max width=\textwidth}",
            rf"\begin{{tabular}}{{l{'r' * (len(table.columns) - 1)}}}",
            r"\toprule",
            *above,
            line([heading for _, heading in table.columns]),
            r"\midrule",
            *map(line, table.models),
            *controls,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{adjustbox}",
            *map(latex_note, table.notes),
            r"\end{table}",
        ]
    )
