"""A table of text as Markdown and LaTeX."""

import re
from pathlib import Path

import pandas as pd

from harness.present.tables import documents
from harness.present.tables.table import Table, latex, latex_text, markdown, write_documents
from tests.present import outputs


def test_markdown_of_groups_and_controls() -> None:
    cells = pd.DataFrame({("", ""): ["a", "b"], ("score ↓", "ours"): ["1 | 2", "<x>"]})
    assert markdown(Table("t", cells, pd.Series([False, True]))).splitlines() == [
        "|             | score ↓ ours   |",
        "|:------------|:---------------|",
        "| a           | 1 \\| 2         |",
        "| *controls:* |                |",
        "| *b*         | &lt;x>         |",
    ]


def test_best_cells_are_bold() -> None:
    columns = pd.MultiIndex.from_tuples([("", ""), ("score ↓", "x")])
    cells = pd.DataFrame([["a", "1_0"], ["b", "2"], ["c", "0"]], ["ls4", "rnn", "mean"], columns)
    table = Table(
        "t", cells, pd.Series([False, False, True], cells.index), best={("score ↓", "x"): ["ls4"]}
    )
    assert "**1_0**" in markdown(table) and markdown(table).count("**") == 2
    assert r"a & \textbf{1\_0} \\" in latex(table) and latex(table).count("textbf") == 1


def test_markdown_is_a_regular_grid() -> None:
    records = outputs.solar() + outputs.physionet() + outputs.unavailable()
    records[0] = records[0].model_copy(update={"title": "A | B"})
    for document in documents(outputs.frame_of(records)):
        for table in document.tables:
            lines = markdown(table).splitlines()
            assert {line.replace("\\|", "").count("|") for line in lines} == {
                len(table.columns) + 1
            }


def test_latex_of_groups_and_controls() -> None:
    columns = {"": ["a", "b"], "x": ["1", "2"], "y": ["3", "4"]}
    pairs = [("", ""), ("score ↓", "x"), ("score ↓", "y")]
    cells = pd.DataFrame(columns).set_axis(pd.MultiIndex.from_tuples(pairs), axis=1)
    table = Table("50 % of a_b", cells, pd.Series([False, True]), ["#"])
    assert latex(table).splitlines() == [
        r"\begin{table}[htbp]",
        r"\centering",
        r"\caption{50 \% of a\_b}",
        r"\begin{adjustbox}{max width=\textwidth}",
        r"\begin{tabular}{lrr}",
        r"\toprule",
        r" & \multicolumn{2}{c}{score $\downarrow$} \\",
        r"\cmidrule(lr){2-3}",
        r" & x & y \\",
        r"\midrule",
        r"a & 1 & 3 \\",
        r"\midrule",
        r"b & 2 & 4 \\",
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{adjustbox}",
        r"{\footnotesize\raggedright \#\par}",
        r"\end{table}",
    ]


def test_latex_is_ascii_balanced_and_regular(tmp_path: Path) -> None:
    records = outputs.solar() + outputs.flame() + outputs.physionet() + outputs.unavailable()
    records.append(outputs.record("flame", "ode2vae", scores=outputs.scores(0.1, 0.6, 0.1)))
    write_documents(documents(outputs.frame_of(records)), tmp_path)
    for path in tmp_path.glob("*.tex"):
        text = path.read_text()
        assert text.isascii()
        for name in ("table", "tabular", "adjustbox"):
            assert text.count(rf"\begin{{{name}}}") == text.count(rf"\end{{{name}}}") > 0
        plain = re.sub(r"\\[{}]", "", text)
        assert plain.count("{") == plain.count("}")
        assert plain.count("$") % 2 == 0
        for columns, body in re.findall(
            r"\\begin{tabular}{(\w+)}\n(.*?)\\end{tabular}", text, re.DOTALL
        ):
            for line in body.splitlines():
                if not line.endswith(r"\\"):
                    continue
                spans = [int(n) for n in re.findall(r"\\multicolumn{(\d+)}", line)]
                cells = len(re.findall(r"(?<!\\)&", line)) + 1
                assert cells + sum(spans) - len(spans) == len(columns)


def test_latex_escapes() -> None:
    assert latex_text(r"a_b & 50% #1 $x$ {y} \z ~ ^") == (
        r"a\_b \& 50\% \#1 \$x\$ \{y\} \textbackslash{}z \textasciitilde{} \textasciicircum{}"
    )
    assert latex_text("1 ± 2 †‡ –") == r"1 $\pm$ 2 $^\dagger$$^\ddagger$ --"
    table = Table("50 % of a_b", pd.DataFrame({"x_1": ["r&d"]}))
    assert r"\caption{50 \% of a\_b}" in latex(table)
    assert r"r\&d \\" in latex(table) and r"x\_1 \\" in latex(table)
