"""Traces: the scores of a cell at given steps of its training, ``trace.json`` in its directory."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from harness.checks import check_json
from harness.records import Score

TRACE = "trace.json"


class Point(BaseModel):
    """Scores after so many steps; none, with a reason, where they cannot be had."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    step: int
    validation_loss: float | None
    scores: list[Score]
    reason: str | None = None


class Trace(BaseModel):
    """The content of ``trace.json``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

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
