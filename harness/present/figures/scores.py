"""Robust scores of all seeds as dots with intervals."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from harness import catalogue
from harness.present.comparison import Comparison
from harness.present.figures.style import (
    BAND,
    CONTROL,
    DATA,
    PAGE,
    Drawn,
    caption,
    colour,
    log_ticks,
)
from harness.present.quantities import Quantity
from harness.present.text import number, shared_ending

SPAN = 1e3  # of a logarithmic axis; what lies below is a number at its end


def figures(c: Comparison, stem: str, what: str) -> Iterator[Drawn]:
    """Draw the scores of one comparison."""
    generated = c.head["task"] == "generation"
    quantities = [q for q in c.quantities.values() if not q.optional]
    floors = {q.name: floor for q in quantities if (floor := c.noise_floor(q))}
    yield Drawn(
        f"scores_{stem}" if generated else f"scores_{c.head['task']}_{stem}",
        score_intervals(score_lines(c), quantities, floors, what),
        caption("scores", what=what, generated=generated),
    )


def score_lines(c: Comparison) -> pd.DataFrame:
    """Return a line for each record and robust score: model, control, seed, score, value, spread.

    Value and spread are multiplied with the quantity's scale, `score` is its name. A record that
    has none keeps a line without a score, with how it ended, `ending`.
    """
    robust = {q.robust: q for q in c.quantities.values()}
    scores = c.lines[c.lines["score"].isin(robust)]
    scale = scores["score"].map({name: q.scale for name, q in robust.items()}).astype(float)
    scores = scores.assign(
        score=scores["score"].map({name: q.name for name, q in robust.items()}),
        value=scale * scores["value"],
        spread=scale * scores["spread"],
    )
    cells = c.cells[["model", "control", "seed", "ending"]]
    numbers = scores[["model", "seed", "score", "value", "spread"]]
    return cells.merge(numbers, "left", ["model", "seed"])


def score_intervals(
    lines: pd.DataFrame,
    quantities: Sequence[Quantity],
    floors: Mapping[str, tuple[float, float]],
    title: str,
) -> Figure:
    """Plot robust scores as dots with intervals: a panel for each score, a row for each model.

    On a logarithmic axis, scores far below the others, such as 0, are written at its end.

    Parameters
    ----------
    lines : DataFrame
        As `score_lines` returns it; rows appear in its order.
    quantities : sequence of Quantity
    floors : mapping
        Name of a quantity -> the noise floor's value and spread.
    title : str
    """
    rows = [(str(name), own) for name, own in lines.groupby("model", sort=False)]
    n_models = lines.loc[~lines["control"], "model"].nunique()
    seeds = lines["seed"].nunique()
    figure = Figure(figsize=(PAGE, (0.16 + 0.03 * seeds) * len(rows) + 1.3))
    axes = figure.subplots(1, len(quantities), sharey=True, squeeze=False)[0]
    for ax, quantity in zip(axes, quantities, strict=True):
        if quantity.name in floors:
            value, spread = floors[quantity.name]
            ax.axvspan(value - spread, value + spread, color=BAND, linewidth=0)
        if quantity.ceiling is not None:
            ax.axvline(quantity.ceiling, color=CONTROL, linestyle=":", linewidth=0.8)
        _dots(ax, quantity, rows)
        if 0 < n_models < len(rows):
            ax.axhline(n_models - 0.5, color=CONTROL, linewidth=0.5)
        side = "left" if quantity.ceiling is None else "right"
        ax.set_xlabel(f"{quantity.label}, {quantity.unit}\nbetter to the {side}")
        ax.set_ylim(len(rows) - 0.5, -0.5)
    axes[0].set_yticks(range(len(rows)), [_name_and_seeds(name, own) for name, own in rows])
    keys: dict[str, Artist] = {
        "a seed, ± standard deviation": Line2D([], [], color=DATA, marker="o", markersize=3)
    }
    if floors:
        keys["noise floor: real series as samples"] = Patch(color=BAND)
    if any(quantity.ceiling is not None for quantity in quantities):
        keys["classifier at chance, ln 2"] = Line2D([], [], color=CONTROL, linestyle=":")
    figure.legend(keys.values(), keys.keys(), loc="outside lower center", ncols=len(keys))
    figure.suptitle(title)
    return figure


def _dots(ax: Axes, quantity: Quantity, rows: Sequence[tuple[str, pd.DataFrame]]) -> None:
    """Draw the rows of one panel."""
    scores = [own[own["score"] == quantity.name] for _, own in rows]
    values = pd.concat(scores)["value"]
    end = float(values.max()) / SPAN
    smallest = float(values[values > end].min())
    if quantity.ceiling is None and 10 * smallest < float(values.max()):
        ax.set_xscale("log")
    else:
        end = -np.inf
    for y, ((name, own), found) in enumerate(zip(rows, scores, strict=True)):
        ax.axhline(y, color="0.93", linewidth=0.6, zorder=0)
        shade = CONTROL if own["control"].iloc[0] else colour(name)
        style = {"va": "center", "color": shade, "fontsize": 7,
                 "bbox": {"facecolor": "white", "edgecolor": "none", "pad": 1},
                 "transform": ax.get_yaxis_transform()}  # fmt: skip
        found = found.dropna(subset="value")
        near, far = found[found["value"] > end], found[found["value"] <= end]
        if len(far):
            text = ", ".join(dict.fromkeys(number(value, 2) for value in far["value"]))
            ax.text(0.02, y, text, ha="left", **style)
        half = min(0.1 * (len(near) - 1), 0.32)
        ax.errorbar(
            near["value"],
            y + np.linspace(-half, half, len(near)),
            xerr=near["spread"].fillna(0.0),
            fmt="o",
            markersize=3,
            color=shade,
            linewidth=0.9,
        )
        if found.empty:
            ends = own["ending"].dropna().tolist()
            why = shared_ending(ends) if ends else "no such score"
            ax.text(0.5, y, why, ha="center", **style)
    if ax.get_xscale() == "log":
        ax.set_xlim(left=max(ax.get_xlim()[0], end))  # a floor may lie below
        log_ticks(ax.xaxis)


def _name_and_seeds(name: str, own: pd.DataFrame) -> str:
    """Return the label of a row, with the number of seeds done where it is not all."""
    seeds, done = own["seed"].nunique(), own.loc[own["ending"].isna(), "seed"].nunique()
    return catalogue.label(name) + ("" if done == seeds else f"\n{done} of {seeds} seeds")
