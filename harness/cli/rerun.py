"""The command that runs a record's cell again."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cli.common import DATA, MIRROR, Add, written
from harness.cli.data import open_dataset
from harness.errors import UserError

if TYPE_CHECKING:
    from harness.records import Record

SHORT = 12  # digits of a digest


def add_commands(add: Add) -> None:
    """Add the commands of this module to the parser."""
    sub = add(rerun)
    sub.add_argument("record", type=Path, help="a record.json")
    sub.add_argument(
        "--out", type=Path, help="the new cell's directory (default: below results/rerun/)"
    )
    sub.add_argument(
        "--prepared", type=Path, help="prepared data (default: the record's, if there)"
    )
    sub.add_argument("--data", **DATA)
    sub.add_argument("--mirror", **MIRROR)


def rerun(
    record: Path, out: Path | None, prepared: Path | None, data: Path, mirror: Path | None
) -> int:
    """Train and score a record's cell again, and show both results.

    It says what differs this time, such as processor and versions; docs/experiments.md says how
    near the two should then be.
    """
    from harness import cells, records

    old = records.read(record)
    out = out or Path("results/rerun") / old.task / old.dataset / old.model / str(old.seed)
    made = out / records.RECORD
    if made.exists():
        raise UserError(f"{made}: exists; remove it or name another folder with --out")
    seeds = _seeds(record, old)
    prepared = prepared or cells.prepared_data(record, old.dataset)

    import torch

    from harness.run import rerun as again
    from harness.run.devices import device

    spec, scoring = again.recipe(old, str(record))
    dataset = open_dataset(old.dataset, prepared, data, mirror)
    again.check_data(old, dataset)
    torch.set_num_threads(old.threads)  # another number changes the last bits
    with device() as where:
        new = again.rerun(spec, scoring, dataset, out, where).record
    _print(old, new, seeds)
    return written([made])


def _seeds(path: Path, record: "Record") -> list["Record"]:
    """Return the records of the same row that lie beside a record."""
    from harness import records

    row = path.resolve().parent.parent
    beside = [records.read(other) for other in sorted(row.glob(f"*/{path.name}"))]
    same = ("budget", "task", "dataset", "model", "data_digest", "split_digest", "scoring")
    return [r for r in beside if all(getattr(r, key) == getattr(record, key) for key in same)]


def _print(old: "Record", new: "Record", seeds: list["Record"]) -> None:
    from rich.console import Console
    from rich.table import Table

    from harness.present.text import number
    from harness.run.rerun import compare, differing

    def text(value: float | None) -> str:
        return "–" if value is None else number(value, 4)

    def short(value: Any) -> str:
        return str(value)[:SHORT] if len(str(value)) == 64 else str(value)

    print(f"commit: {old.commit[:SHORT]}, now {new.commit[:SHORT]}")
    for name, (was, now) in differing(old, new).items():
        print(f"{name}: {short(was)}, now {short(now)}")
    for when, one in (("record", old), ("rerun", new)):
        print(f"{when}: {one.status}" + (f", {one.reason}" if one.reason else ""))
    table = Table("score", title=f"{old.task}, {old.dataset}, {old.model}, seed {old.seed}")
    for heading in ("record", "rerun", "difference", "tolerance", "within"):
        table.add_column(heading, justify="right")
    found = compare(old, new, seeds)
    for row in found:
        within = {True: "yes", False: "no", None: "–"}[row.within]
        table.add_row(row.name, *map(text, (row.record, row.rerun, row.gap, row.tolerance)), within)
    console = Console()
    console.width = max(console.width, 100)
    console.print(table)
    judged = [row.within for row in found if row.within is not None]
    print(f"{sum(judged)} of {len(judged)} scores within their tolerance; {len(found)} in all")
