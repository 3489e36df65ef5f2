"""Figures of predictions: single records, and the error against the share of hidden points."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from matplotlib.figure import Figure

from datasets.base import Dataset
from harness import catalogue
from harness.present.comparison import Comparison
from harness.present.figures.shown import Shown, names_and_seeds, prepared
from harness.present.figures.style import (
    COLUMN,
    CONTROL,
    DASHES,
    DATA,
    MARKERS,
    PAGE,
    Drawn,
    caption,
    colour,
    label_right,
    label_rows,
    label_side,
    log_ticks,
)

GIVEN = "0.55"  # values that are not to be predicted


def figures(
    c: Comparison, shown: Mapping[str, Shown], data_dir: Path, stem: str, what: str
) -> Iterator[Drawn]:
    """Draw predictions where the data are at hand, and the error where it depends on a share."""
    task = c.head["task"]
    # records and channels are the same for all models
    first = next((one.arrays for one in shown.values() if one.arrays["target"].any()), None)
    dataset = prepared(c, data_dir) if first else None
    if first and dataset is not None:
        index = int(first["target"].sum((0, 1)).argmax())
        names = dataset.meta["channels"]
        channel = int(first["channels"][index])
        name = names[channel] if names else f"channel {channel}"
        unit = dataset.meta["unit"].partition(" (")[0]  # without the raw units
        examples = {model: example(one.arrays, index, dataset) for model, one in shown.items()}
        labels = f"time; 1 is {dataset.meta['time']}", f"{name}; 1 is the {unit}"
        yield Drawn(
            f"predictions_{task}_{stem}",
            predictions(examples, labels, what),
            caption("predictions", what=names_and_seeds(what, shown), channel=name),
        )
    if task == "interpolation":
        lines = share_lines(c)
        if lines["share"].nunique() > 1:
            yield Drawn(
                f"hidden_share_{stem}",
                hidden_share(lines, c.quantities["mse"].label, what),
                caption("hidden_share", what=what),
            )


@dataclass(frozen=True)
class Example:
    """A channel of some records and what is predicted of it; padding is NaN."""

    t: Float[np.ndarray, "k L"]
    x: Float[np.ndarray, "k L"]
    shown: Bool[np.ndarray, "k L"]
    target: Bool[np.ndarray, "k L"]
    mean: Float[np.ndarray, "k L"]
    low: Float[np.ndarray, "k L"]
    high: Float[np.ndarray, "k L"]


def example(arrays: Mapping[str, np.ndarray], index: int, dataset: Dataset) -> Example:
    """Put the values, which are not kept with the cell, beside a prediction of them.

    Parameters
    ----------
    arrays : mapping
        As `harness.run.prediction.examples` returns them.
    index : int
        Of the channel in ``arrays["channels"]``.
    dataset : Dataset
        That the predictions are of.
    """
    shown, target = (arrays[name][..., index] for name in ("shown", "target"))
    observed = dataset.mask[arrays["records"], :, arrays["channels"][index]]
    x = np.full(shown.shape, np.nan, np.float32)
    # on whichever grid, a record's points are its observed values in the order of their times
    x[shown | target] = dataset.x[arrays["records"], :, arrays["channels"][index]][observed]
    padding = np.diff(arrays["t"], axis=1, prepend=-1) <= 0  # it repeats the last time
    mean, low, high = (
        np.where(padding, np.nan, arrays[name][..., index]) for name in ("mean", "low", "high")
    )
    return Example(arrays["t"], x, shown, target, mean, low, high)


def predictions(
    examples: Mapping[str, Example], axis_labels: tuple[str, str], title: str
) -> Figure:
    """Plot predictions of a channel, a row for each model and a column for each record.

    The vertical axis is that of the observed values, with a margin: a band may leave it.

    Parameters
    ----------
    examples : mapping
        Models -> predictions of the same records.
    axis_labels : (str, str)
        Of time and value.
    title : str
    """
    first = next(iter(examples.values()))
    rows, columns = len(examples), len(first.t)
    figure = Figure(figsize=(PAGE, 0.75 * rows + 0.9))
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    crowd = max((first.shown | first.target).sum(1))
    size = float(np.clip(24 / np.sqrt(crowd), 1.2, 2.4))
    for line, (name, one) in zip(axes, examples.items(), strict=True):
        for k, ax in enumerate(line):
            t, x, target = one.t[k], one.x[k], one.target[k]
            ax.fill_between(t, one.low[k], one.high[k], color=colour(name), alpha=0.3,
                            linewidth=0)  # fmt: skip
            ax.plot(t, one.mean[k], color=colour(name), zorder=3)
            given = one.shown[k] & ~target
            dot = {"markersize": size, "markeredgewidth": 0}
            ax.plot(t[target], x[target], "o", color=DATA, **dot)
            ax.plot(t[given], x[given], "o", color=GIVEN, **dot)
    label_rows(axes[:, 0], examples)
    observed = first.x[first.shown | first.target]
    margin = 0.25 * (float(np.ptp(observed)) or 1.0)
    axes[0, 0].set_ylim(observed.min() - margin, observed.max() + margin)
    for k, ax in enumerate(axes[0]):
        ax.set_title(f"test record {k + 1}")
    hidden = (first.target & ~first.shown).any()
    names = ["hidden, to predict", "shown"] if hidden else ["shown and to predict"]
    dots = axes[0, 0].lines[1 : len(names) + 1]
    figure.legend(dots, names, loc="outside lower right", ncols=2, markerscale=2.4 / size)
    axes[-1, columns // 2].set_xlabel(axis_labels[0])
    label_side(figure, axis_labels[1])
    figure.suptitle(title)
    return figure


def share_lines(c: Comparison) -> pd.DataFrame:
    """Return the scaled error of each row: model, control, share (%), value, spread."""
    scale = c.quantities["mse"].scale
    parts = []
    for share, score in c.hidden_shares.items():
        found = c.estimate(score)
        part = pd.DataFrame(
            {
                "control": c.rows["control"],
                "share": 100 * share,
                "value": scale * found["value"],
                "spread": scale * found["evaluator_spread"].fillna(0.0),
            }
        )
        parts.append(part.dropna(subset="value"))
    lines = pd.concat(parts)
    return lines.loc[[m for m in c.rows.index if m in lines.index]].reset_index()


def hidden_share(lines: pd.DataFrame, name: str, title: str) -> Figure:
    """Plot the error against the share of hidden time points, a line for each model and control.

    Parameters
    ----------
    lines : DataFrame
        As `share_lines` returns it.
    name : str
        Of the error.
    title : str
    """
    rows = [(str(model), own) for model, own in lines.groupby("model", sort=False)]
    figure = Figure(figsize=(COLUMN, max(3.0, 0.15 * len(rows) + 1.0)))
    ax = figure.subplots()
    models = controls = 0
    ends = []
    for model, own in rows:
        style: dict[str, Any]
        if own["control"].to_numpy().any():
            style = {"color": CONTROL, "linestyle": DASHES[controls % len(DASHES)]}
            controls += 1
        else:
            marker = MARKERS[models % len(MARKERS)]
            style = {"color": colour(model), "marker": marker, "markersize": 3}
            models += 1
        ax.errorbar(own["share"], own["value"], yerr=own["spread"],
                    linewidth=1.0, elinewidth=0.6, **style)  # fmt: skip
        last = own.loc[own["share"].idxmax()]
        ends.append((last["value"], catalogue.label(model), style["color"]))
    if lines["value"].max() > 0:
        ax.set_yscale("log")
        log_ticks(ax.yaxis)
    ax.set(xlabel="hidden time points, %", ylabel=name, xticks=sorted(lines["share"].unique()))
    label_right(ax, lines["share"].max(), ends)
    figure.suptitle(title)
    return figure
