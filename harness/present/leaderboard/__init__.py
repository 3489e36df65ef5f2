"""The leaderboard: static pages made from records, to be read without a server or a network.

``index.html`` has a table for each task and budget, models by data sets; its script shows another
measure, sorts, filters, compares two rows and exports. ``rows/*.html`` tell all of one row on one
data set. Without the script, the tables show their first measure.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness import catalogue
from harness.powers import find_powers
from harness.present import frame
from harness.present.comparison import comparisons
from harness.present.leaderboard import rows
from harness.present.leaderboard.board import Board, boards, verdict
from harness.present.text import TEMPLATES, environment
from harness.texts import write_text

HERE = Path(__file__).parent
FILES = (
    TEMPLATES / "page.css",
    TEMPLATES / "sort.js",
    HERE / "leaderboard.css",
    HERE / "leaderboard.js",
)


def write(records_dirs: Sequence[Path], out: Path, home: str | None = None) -> list[Path]:
    """Write the leaderboard and return the paths of its files.

    Parameters
    ----------
    records_dirs : sequence of Path
        Searched for records of cells and of the tests' power.
    out : Path
        A folder.
    home : str, optional
        The address of the site that the leaderboard is a part of, seen from `out`.

    Raises
    ------
    UserError
        If there is no record, or two are of the same cell.
    """
    compared = [c for c in comparisons(frame.read(records_dirs)) if not c.skipped]
    found = boards(compared)
    powers = find_powers(records_dirs)
    shared = {"home": home, "budgets": catalogue.budgets()}
    page = environment(html=True).get_template
    row = page("leaderboard/row.html.j2")
    texts = {
        out / "index.html": page("leaderboard/index.html.j2").render(
            boards=found,
            script_data=[_script_data(board) for board in found],
            sources={c.head["title"]: rows.sources(c.head["dataset"]) for c in compared},
            root="",
            **shared,
        )
    }
    for board in found:
        for column, model, address in board.pages():
            content = rows.content(board, column, model, powers)
            texts[out / address] = row.render(**content, root="../", **shared)
    texts |= {out / file.name: file.read_text(encoding="utf-8") for file in FILES}
    for path, text in texts.items():
        write_text(path, text)
    return list(texts)


def _script_data(board: Board) -> dict[str, Any]:
    """Return what the script shows of a table: all measures, and pairs of rows by their places."""
    places = {model: place for place, model in enumerate(board.rows.index)}
    titles = {q.name: q.title or q.name for c in board.compared for q in c.quantities.values()}
    return {
        "name": board.name,
        "entries": board.entries,
        "best": board.best,
        "choices": [[group, list(some.items())] for group, some in board.choices.items()],
        "more": [key for key, measure in board.measures.items() if measure.more],
        "pairs": [
            {
                f"{places[first]},{places[second]}": {
                    titles[name]: [rows.interval_text(i), verdict(board.task, i)]
                    for name, i in intervals.items()
                }
                for (first, second), intervals in pairs.items()
            }
            for pairs in board.pairs
        ],
    }
