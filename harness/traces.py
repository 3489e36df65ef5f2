"""Traces: the scores of a cell at given steps of its training, ``trace.json`` in its directory."""

from pathlib import Path

from harness.checks import Frozen, check_json
from harness.records import Score

TRACE = "trace.json"


class Point(Frozen):
    """Scores after so many steps; none, with a reason, where they cannot be had."""

    step: int
    validation_loss: float | None
    scores: list[Score]
    reason: str | None = None


class Trace(Frozen):
    """The content of ``trace.json``; `config_hash` is that of the cell's record."""

    format: int = 1
    config_hash: str
    points: list[Point]


def read_trace(path: Path) -> Trace:
    """Read and check a trace.

    Raises
    ------
    UserError
        If the file is no such thing.
    """
    return check_json(Trace, path, "a trace")
