"""Commands that make tables, figures, report, pages and tracked runs from records."""

from pathlib import Path

from harness.catalogue import ROOT
from harness.cli.common import OUT, OUT_FOLDER, RECORDS, Add, written

HOME = "address of the site that it is a part of, seen from --out"


def add_commands(add: Add) -> None:
    """Add the commands of this module to the parser."""
    sub = add(tables)
    sub.add_argument("--records", **RECORDS)
    sub.add_argument("--tasks", nargs="+", help="only these tasks (default: all)")
    sub.add_argument("--out", **OUT_FOLDER)

    sub = add(pages)
    sub.add_argument("--records", **RECORDS)
    sub.add_argument("--readme", type=Path, default=ROOT / "README.md")
    sub.add_argument("--results-page", type=Path, default=ROOT / "docs" / "results.md")

    sub = add(figures)
    sub.add_argument("--records", **RECORDS)
    sub.add_argument("--data", type=Path, required=True, help="folder with prepared data sets")
    sub.add_argument("--out", **OUT_FOLDER)

    sub = add(report)
    sub.add_argument("--records", **RECORDS)
    sub.add_argument("--tables", type=Path, required=True, help="folder of tables")
    sub.add_argument("--figures", type=Path, required=True, help="folder of figures")
    sub.add_argument("--out", **OUT)
    sub.add_argument("--home", help=HOME)

    sub = add(collect)
    sub.add_argument("--records", type=Path, required=True, help="folder, such as results/full")
    sub.add_argument("--out", **OUT_FOLDER)

    sub = add(leaderboard)
    sub.add_argument("--records", **RECORDS)
    sub.add_argument("--out", **OUT_FOLDER)
    sub.add_argument("--home", help=HOME)

    sub = add(track)
    sub.add_argument("--records", **RECORDS)
    sub.add_argument("--uri", default="sqlite:///results/mlflow/mlflow.db", help="MLflow server")
    sub.add_argument("--artifacts", type=Path, default=Path("results/mlflow/artifacts"))
    sub.add_argument("--tables", type=Path, help="folder of tables to attach")
    sub.add_argument("--figures", type=Path, help="folder of figures to attach")

    sub = add(ui)
    sub.add_argument("--records", type=Path, nargs="+", help="folders to import first")
    sub.add_argument("--tables", type=Path)
    sub.add_argument("--figures", type=Path)
    sub.add_argument("--folder", type=Path, default=Path("results/mlflow"), help="of mlflow.db")
    sub.add_argument("--port", type=int, default=5000)

    sub = add(compare)
    sub.add_argument("--records", **RECORDS)
    sub.add_argument(
        "--reference",
        type=Path,
        default=ROOT / "results" / "reference",
        help="folder of the records to stand beside (default: the committed ones)",
    )
    sub.add_argument("--out", type=Path, help="folder for the table as .csv, .md and .tex")

    sub = add(figure3)
    sub.add_argument("--records", **RECORDS)
    sub.add_argument("--out", **OUT_FOLDER)

    sub = add(schemas)
    sub.add_argument("--out", type=Path, default=ROOT / "workflow" / "schemas")


def tables(records: list[Path], tasks: list[str] | None, out: Path) -> int:
    """Rebuild all tables from records alone."""
    from harness.present import tables

    return written(tables.write(records, out, tasks))


def pages(records: list[Path], readme: Path, results_page: Path) -> int:
    """Rewrite the tables in README.md and docs/results.md from the reference records."""
    from harness.present import pages

    pages.update(records, readme, results_page)
    return written([readme, results_page])


def figures(records: list[Path], data: Path, out: Path) -> int:
    """Rebuild all figures from the cells' directories."""
    from harness.present import figures

    return written(figures.write(records, data, out))


def report(records: list[Path], tables: Path, figures: Path, out: Path, home: str | None) -> int:
    """Write the report, one HTML file."""
    from harness.present import report

    report.write(records, tables, figures, out, home)
    return written([out])


def collect(records: Path, out: Path) -> int:
    """Copy what a repository keeps of a folder of results: records, no samples, no weights."""
    from harness.present.collect import collect

    return written(collect(records, out))


def leaderboard(records: list[Path], out: Path, home: str | None) -> int:
    """Write the leaderboard, static pages, from records alone."""
    from harness.present import leaderboard

    print(leaderboard.write(records, out, home)[0])
    return 0


def track(
    records: list[Path], uri: str, artifacts: Path, tables: Path | None, figures: Path | None
) -> int:
    """Import the records into MLflow; what is there already stays."""
    from harness.present.tracking import track

    track(records, uri, artifacts, [folder for folder in (tables, figures) if folder])
    return 0


def ui(
    records: list[Path] | None, tables: Path | None, figures: Path | None, folder: Path, port: int
) -> int:
    """Show runs in the browser: import records, start MLflow, print links to its tables."""
    from harness.present.ui import check_port, serve

    check_port(port)
    if records:
        track(records, f"sqlite:///{folder}/mlflow.db", folder / "artifacts", tables, figures)
    serve(folder, port)
    return 0


def compare(records: list[Path], reference: Path, out: Path | None) -> int:
    """Show the rows of some folders beside the reference's, whatever their budgets.

    Rows on other data, another split, or scored in another way stand apart.
    """
    from harness.present.tables import beside
    from harness.present.tables.table import markdown_document, write_documents

    document = beside.document(records, reference)
    print(markdown_document(document), end="")
    return written(write_documents([document], out)) if out else 0


def figure3(records: list[Path], out: Path) -> int:
    """Make figure 3, run time against length, and its tables from records alone."""
    from harness.present import figures, tables

    return written([*tables.write_lengths(records, out), *figures.write_lengths(records, out)])


def schemas(out: Path) -> int:
    """Write the JSON schemas of the configuration files."""
    from harness.schemas import schemas
    from harness.texts import write_json

    for name, schema in schemas().items():
        write_json(out / f"{name}.schema.json", schema)
    return 0
