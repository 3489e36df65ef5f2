"""Commands that measure costs and run times."""

from pathlib import Path

from harness.cli.common import Add, because
from harness.errors import UserError


def add_commands(add: Add) -> None:
    """Add the commands of this module to the parser."""
    sub = add(bench)
    sub.add_argument(
        "of",
        nargs="?",
        choices=["models", "engine"],
        default="models",
        help="all models at two sizes (default), or LS4 at several beside its floor",
    )
    sub.add_argument("--models", nargs="+", help="names in config/models/ (default: all)")
    sub.add_argument("--out", type=Path, required=True, help="file of the record, .json")
    sub.add_argument("--docs", type=Path, help="also rewrite the table in this file")

    sub = add(runtime)
    sub.add_argument("--model", required=True, help="a name in config/models/")
    sub.add_argument("--length", type=int, required=True, help="time steps of a series")
    sub.add_argument("--out", type=Path, required=True, help="file of the record, .json")
    sub.add_argument("--limit", type=float, help="seconds of a measurement (default: 600)")
    sub.add_argument("--size", help="one of the model's sizes, as 100k (default: its paper's)")


def bench(of: str, models: list[str] | None, out: Path, docs: Path | None) -> int:
    """Measure what models cost: training steps a second, memory, sampling."""
    from harness.present import pages
    from harness.present.tables import costs, engine

    if of == "models":
        from harness.measure.costs import measure_models

        section, text = "costs", costs.markdown(measure_models(out, models))
    elif models:
        raise UserError("bench engine measures LS4: expected no --models")
    else:
        from harness.measure.engine import measure_engine

        section, text = "engine", engine.markdown(measure_engine(out))
    if docs is not None:
        pages.update_sections(docs, {section: text})
    print(text)
    return 0


def runtime(model: str, length: int, out: Path, limit: float | None, size: str | None) -> int:
    """Measure training, reconstruction and generation of a model at a length."""
    from harness import records
    from harness.measure.lengths import LIMIT, measure_length

    if length < 1 or (limit is not None and limit <= 0):
        raise UserError("expected a length of at least 1 and a limit above 0 seconds")
    record = measure_length(model, length, LIMIT if limit is None else limit, size)
    records.write(record, out)
    for measurement in record.measurements:
        seconds = measurement.seconds
        ended = measurement.status if seconds is None else f"{seconds:.3g} s"
        print(f"{measurement.name}: {ended}" + because(measurement.reason))
    return 0
