"""Traces: the scores of a model at several steps of its training, one figure for each model."""

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from harness import catalogue
from harness.powers import LEVEL
from harness.present import files
from harness.present.comparison import Comparison
from harness.present.figures.style import (
    CONTROL,
    DATA,
    Drawn,
    caption,
    colour,
    log_ticks,
    panels,
    scale_losses,
)

LOSS, RATIO, P = "validation_loss", "nearest_train_ratio", "p_all"
WIDE = 10  # axes over more than this factor are logarithmic
Lines = Mapping[str, tuple[str, str]]  # a panel: score -> what the legend calls it, style of line


def figures(c: Comparison, stem: str, what: str) -> Iterator[Drawn]:
    """Draw the traces of one comparison, where there are some."""
    for model in c.models.index:
        points, ends = trace_points(c, model)
        if wanted := _panels(c, points):
            title = f"{what}; {catalogue.label(model)}"
            marked = bool(ends["best_step"].notna().any())
            yield Drawn(
                f"trace_{model}_{stem}",
                trace_lines(points, ends, wanted, colour(model), title),
                caption("trace", what=title, marked=marked),
            )


def trace_points(c: Comparison, model: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return a model's traces and where its training stopped.

    A trace that was made with other settings than the record beside it is left out.

    Returns
    -------
    points : DataFrame
        A line for each seed and step: seed, step, validation_loss and a column for each score;
        missing where it could not be had. Empty if no seed has a trace.
    ends : DataFrame
        The seeds' best_step, missing where it was not chosen by a loss, and steps, the last one.
    """
    cells = c.cells[c.cells["model"] == model]
    found = [
        {"seed": cell.seed, "step": point.step, LOSS: point.validation_loss}
        | {score.name: score.value for score in point.scores}
        for cell in cells.itertuples()
        if (trace := files.trace(cell.folder)) and trace.config_hash == cell.config_hash
        for point in trace.points
    ]
    points = pd.DataFrame(found).astype(float)
    traced = points["seed"] if len(points) else []
    return points, cells.loc[cells["seed"].isin(traced), ["best_step", "steps"]]


def _panels(c: Comparison, points: pd.DataFrame) -> dict[str, Lines]:
    """Return the panels that there is something to draw in, by their titles."""
    wanted: dict[str, Lines] = {
        f"{q.name}, {q.unit}": {q.robust: ("robust", "-"), q.literal: ("literal", "--")}
        for q in c.quantities.values()
    }
    wanted["two-sample test, p"] = {P: ("two-sample test", "-")}
    wanted["nearest training series, ratio"] = {RATIO: ("generated over test", "-")}
    wanted["validation loss"] = {LOSS: ("validation loss", "-")}
    known = {name for name in points.columns if points[name].notna().any()}
    found = {
        title: {score: line for score, line in lines.items() if score in known}
        for title, lines in wanted.items()
    }
    return {title: lines for title, lines in found.items() if lines}


def trace_lines(
    points: pd.DataFrame,
    ends: pd.DataFrame,
    wanted: Mapping[str, Lines],
    shade: str,
    title: str,
) -> Figure:
    """Plot scores against the step, a panel for each score.

    Parameters
    ----------
    points, ends : DataFrame
        As `trace_points` returns them.
    wanted : mapping
        Title of a panel -> its lines.
    shade, title : str
        Colour of the lines; title of the figure.
    """
    figure, axes = panels(len(wanted), 1.7, "optimiser step", per_line=3, sharex=True)
    keys = {"the cell's last step": Line2D([], [], color=CONTROL, linewidth=0.6)}
    if ends["best_step"].notna().any():
        keys["the step that is scored"] = Line2D([], [], color=DATA, linestyle=":", linewidth=0.8)
    for ax, (name, lines) in zip(axes.flat, wanted.items(), strict=False):
        for score, (label, line) in lines.items():
            for _, own in points.groupby("seed"):
                (drawn,) = ax.plot(own["step"], own[score], "o" + line, color=shade, alpha=0.8,
                                   markersize=2.5)  # fmt: skip
                if len(lines) > 1:
                    keys[label] = drawn
        if P in lines:
            keys["told apart below it"] = ax.axhline(
                LEVEL, color=CONTROL, linestyle="--", linewidth=0.8
            )
        _marks(ax, points, ends)
        _scales(ax, points, lines)
        ax.set(title=name)
    figure.legend(keys.values(), keys.keys(), loc="outside lower center", ncols=len(keys))
    figure.suptitle(title)
    return figure


def _marks(ax: Axes, points: pd.DataFrame, ends: pd.DataFrame) -> None:
    """Mark where trainings stopped, the steps that they are scored at, and those without scores."""
    for last in ends["steps"]:
        ax.axvline(last, color=CONTROL, linewidth=0.6)
    for best in ends["best_step"].dropna():
        ax.axvline(best, color=DATA, linestyle=":", linewidth=0.8)
    lost = points.loc[points.drop(columns=["seed", "step", LOSS]).isna().all(axis=1), "step"]
    if len(lost):  # the layout cannot place a line without points
        ax.plot(lost, np.zeros(len(lost)), "x", color=DATA, transform=ax.get_xaxis_transform(),
            clip_on=False, markersize=4)  # fmt: skip


def _scales(ax: Axes, points: pd.DataFrame, lines: Lines) -> None:
    """Make axes logarithmic where numbers differ by orders of magnitude."""
    steps = points["step"]
    if steps.max() > WIDE * steps.min():
        ax.set_xscale("log")
        log_ticks(ax.xaxis)
    values = points[list(lines)].to_numpy(dtype=float)
    if LOSS in lines:
        scale_losses(ax, values)
    elif 0 < WIDE * np.nanmin(values) < np.nanmax(values):
        ax.set_yscale("log")
        log_ticks(ax.yaxis)
