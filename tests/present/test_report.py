"""The report of synthetic cells."""

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from datasets.files import save_arrays
from harness.present import figures, report, tables
from harness.present.figures.style import CAPTIONS
from harness.present.tables import claims
from harness.present.tables.table import Document, Table
from harness.records import ERRORS, Record
from harness.texts import write_json
from tests.present import outputs


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    records = outputs.solar()
    records.append(
        outputs.record(
            seed=3, status="failed", reason="<script>alert(1)</script> & more", dirty=True
        )
    )
    cells = outputs.write_cells(folder / "cells", records)
    tables.write([cells], folder / "tables")
    figures.write([cells], folder, folder / "figures")
    report.write([cells], folder / "tables", folder / "figures", folder / "report.html")
    # the same cells in two folders
    halves = [
        outputs.write_cells(folder / name, some)
        for name, some in {"a": records[1::2], "b": records[::2]}.items()
    ]
    report.write(halves, folder / "tables", folder / "figures", folder / "again.html")
    return folder


def every(cells: list[Record]) -> list[Document]:
    """Return the documents of records without run times."""
    frame = outputs.frame_of(cells)
    return [*tables.documents(frame), claims.document(frame, [])]


class Checker(HTMLParser):
    """Collects references and refuses tags that do not match."""

    void = ("meta", "img", "link", "br")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.references: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.references += [v or "" for k, v in attrs if k in ("src", "href", "srcset", "data")]
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_one_file_without_network(folder: Path) -> None:
    text = (folder / "report.html").read_text()
    checker = Checker()
    checker.feed(text)
    assert not checker.open
    assert checker.references
    assert all(r.startswith(("data:", "#")) for r in checker.references)
    assert all(f'id="{r[1:]}"' in text for r in checker.references if r.startswith("#"))
    ids = re.findall(r' id="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    assert checker.tags.count("script") == 1
    assert not re.search(r"@import|url\(", text)


def test_every_status_reason_and_record_is_there(folder: Path) -> None:
    text = (folder / "report.html").read_text()
    for expected in (
        "timeout at step 31",
        "stopped after 8 min at step 31",
        "step 12: loss nan",
        "&lt;script&gt;alert(1)&lt;/script&gt; &amp; more",
        "with uncommitted changes",
        "a1" * 32,
        "0123456789ab",
        "CPU Synthetic",
        "2026-01-02T03:04:05+00:00",
        "budget full",
        "docs/scores.md",
        "table1_full.csv",
    ):
        assert expected in text, expected
    assert text.count('<details class="record">') == len(outputs.solar()) + 1


def test_tables_and_figures_are_in_it(folder: Path) -> None:
    checker = Checker()
    text = (folder / "report.html").read_text()
    checker.feed(text)
    documents = every(outputs.solar())
    assert checker.tags.count("table") == sum(len(d.tables) for d in documents)
    assert checker.tags.count("img") == len(list((folder / "figures").glob("*.png")))
    assert "0.0470 ± 0.0020" in text


def test_predictions_and_missing_data(tmp_path: Path) -> None:
    records = outputs.physionet() + outputs.unavailable()
    write_json(tmp_path / CAPTIONS, {})
    cells = outputs.write_cells(tmp_path / "cells", records)
    report.write([cells], tmp_path, tmp_path, tmp_path / "report.html")
    checker = Checker()
    text = (tmp_path / "report.html").read_text()
    checker.feed(text)
    assert not checker.open
    detail = text[text.index("In detail:") : text.index("</p>", text.index("In detail:"))]
    assert detail.count("href=") == 4  # from the overview to the other tables
    assert all(f'id="{r[1:]}"' in text for r in checker.references if r.startswith("#"))
    assert checker.tags.count("table") == sum(len(d.tables) for d in every(records))
    assert ">Table 2</h2>" in text and ">Table 1</h2>" not in text
    ends = text[text.index('<h2 id="not-done">') : text.index('<h2 id="figures">')]
    assert ends.count("ushcn/small.csv") == 1 and "9 cells" in ends
    assert "stopped after 8 min at step 31" in ends
    assert "0 training, 0 validation" not in text


def test_it_begins_with_what_the_tests_say(tmp_path: Path) -> None:
    write_json(tmp_path / CAPTIONS, {})
    rows = [outputs.tested(p=0.01), outputs.tested("rnn_vae")]
    cells = outputs.write_cells(tmp_path / "cells", rows)
    report.write([cells], tmp_path, tmp_path, tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    first = text[text.index("<main") : text.index('id="read"')]
    assert "<dt>real series</dt><dd>told apart in no seed: RNN-VAE (0 of 1); in every seed" in first


def test_same_records_same_bytes(folder: Path) -> None:
    texts = [(folder / name).read_text() for name in ("report.html", "again.html")]
    # commands that rerun a cell name its folder
    once, again = (re.sub(rf"{folder}/(cells|a|b)/", "", text) for text in texts)
    assert once == again


def test_a_row_says_what_runs_it_again_and_a_report_of_a_site_leads_back(folder: Path) -> None:
    cells, out = folder / "cells", folder / "home.html"
    text = (folder / "report.html").read_text()
    record = next(cells.rglob("record.json"))
    assert f"<dt>rerun</dt><dd><code>python -m harness rerun {record}</code></dd>" in text
    assert "leaderboard/index.html" not in text
    report.write([cells], folder / "tables", folder / "figures", out, home="../")
    assert 'href="../leaderboard/index.html"' in out.read_text()


def test_marks_and_bold_are_explained_by_their_table() -> None:
    cells = pd.DataFrame({"": ["a", "b"], "loss ↓": ["0.2 †", "0.3"]}, ["ls4", "rnn"])
    legend = ["Bold: the best.", "† a control is better; by 0.5.", "‡ no worse.", "More on †."]
    table = Table("t", cells, best={"loss ↓": ["ls4"]})
    assert report._marks(table, legend) == legend[:2]
    assert report._marks(Table("t", cells), legend) == legend[1:2]


def test_bold_is_what_the_paired_test_says(tmp_path: Path) -> None:
    write_json(tmp_path / CAPTIONS, {})
    rows = [
        outputs.record(model=model, scores=outputs.scores(0.1, 0.5, value))
        for model, value in (("ls4", 1.5), ("rnn_vae", 2.5))
    ]
    cells = outputs.write_cells(tmp_path / "cells", rows)
    for model, errors in (("ls4", np.linspace(1, 2, 20)), ("rnn_vae", np.linspace(2, 3, 20))):
        where = cells / "generation" / "solar_weekly" / model / "0"
        save_arrays(where / ERRORS, {"prediction": errors[None]})
    report.write([cells], tmp_path, tmp_path, tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    table = text[text.index('id="table1_full-1"') :]
    assert table[: table.index("</table>")].count('<b class="best">') == 1
    assert "<li>Bold: the model with the best mean" in table[: table.index("</ul>")]
