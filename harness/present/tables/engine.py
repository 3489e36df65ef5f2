"""How fast LS4's engine is, and how fast it could be: the table for docs/engine.md."""

import pandas as pd

from harness.measurements import Engine, Speed
from harness.present.tables import table
from harness.present.tables.table import Table
from harness.present.text import duration, measured_on, mebibytes, number


def markdown(engine: Engine) -> str:
    """Return the speeds beside the floor, and what the machine can do."""
    lines = pd.DataFrame([_line(speed) for speed in engine.speeds])
    machine = engine.machine
    return (
        f"{table.markdown(Table('Speed', lines))}\n\n"
        f"A large product of matrices ran at {number(machine.operations / 1e9, 3)} GFLOP/s, a copy"
        f" at {number(machine.bytes / 1e9, 3)} GB/s. Memory is that of the whole process."
        f" {measured_on(engine.circumstances)}"
    )


def _line(speed: Speed) -> dict[str, str]:
    spread = ""
    if speed.quartiles is not None:
        spread = f" ({' to '.join(duration(seconds) for seconds in speed.quartiles)})"
    return {
        "": speed.what,
        "batch": str(speed.batch),
        "length": "any" if speed.length is None else f"{speed.length:,}",
        "median (quartiles)": duration(speed.seconds) + spread,
        "peak memory": mebibytes(speed.peak_bytes),
        "floor": duration(speed.floor_seconds),
        "share of it": f"{number(100 * speed.floor_seconds / speed.seconds, 2)} %",
    }
