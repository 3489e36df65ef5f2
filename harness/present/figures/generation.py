"""The paper's figures 1 and 2: generated series beside real ones."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from harness import catalogue
from harness.present.comparison import Comparison
from harness.present.figures.shown import Shown, names_and_seeds, prepared
from harness.present.figures.style import (
    DATA,
    Drawn,
    caption,
    colour,
    limits,
    log_ticks,
    panels,
)

BINS = 50


def figures(
    c: Comparison, shown: Mapping[str, Shown], data_dir: Path, stem: str, what: str
) -> Iterator[Drawn]:
    """Draw figure 1 of data sets with a transition, and figure 2 where the data are at hand."""
    if not shown:
        return
    title, what = what, names_and_seeds(what, shown)
    arrays = {model: one.arrays for model, one in shown.items()}
    first = next(iter(arrays.values()))
    if has_transition(c.head["dataset"]):
        n = c.head["n_test"]
        bands = {"data": _band(first, "real")} | {m: _band(a, "fake") for m, a in arrays.items()}
        yield Drawn(
            f"figure1a_{stem}",
            mean_trajectories(bands, title),
            caption("figure1a", what=what, n=n),
        )
        values = {"data": first["real_at_steps"][..., 0]}
        values |= {m: a["fake_at_steps"][..., 0] for m, a in arrays.items()}
        yield Drawn(
            f"figure1b_{stem}",
            step_histograms(values, first["steps"], title),
            caption("figure1b", what=what, n=n, bins=BINS),
        )
    dataset = prepared(c, data_dir)
    if dataset is not None:
        n = len(first["examples"])
        series = {"data": dataset.x[dataset.test[:n], :, 0]}
        series |= {m: a["examples"][..., 0] for m, a in arrays.items()}
        yield Drawn(
            f"figure2_{stem}",
            samples(series, f"value; 1 is the {dataset.meta['unit']}", title),
            caption("figure2", what=what, n=n, several_channels=bool(c.head["channels"] > 1)),
        )


def has_transition(dataset: str) -> bool:
    """Whether the catalogue says that figure 1 is drawn of a data set."""
    known = dataset in catalogue.available("datasets")
    return known and catalogue.dataset(dataset).transition


def _band(arrays: Mapping[str, np.ndarray], name: str) -> Float[np.ndarray, "3 L"]:
    """Return mean and the ends of the band of the first channel."""
    return np.stack([arrays[f"{name}_{part}"][:, 0] for part in ("mean", "low", "high")])


def mean_trajectories(bands: Mapping[str, Float[np.ndarray, "3 L"]], title: str) -> Figure:
    """Plot mean and band against time, a panel for the data and one for each model.

    Parameters
    ----------
    bands : mapping
        "data" and models -> mean, lower and upper end at each step. Step 0 is left out: the axis is
        logarithmic, since the transition lies in the first tenth of the grid.
    title : str
    """
    figure, axes = panels(len(bands), 2.0, 1.9, (0.6, 0.5), sharex=True, sharey=True)
    real = bands["data"]
    for ax, (name, (mean, low, high)) in zip(axes.flat, bands.items(), strict=False):
        t = np.arange(1, len(mean))
        ax.fill_between(t, low[1:], high[1:], color=colour(name), alpha=0.25, linewidth=0)
        ax.plot(t, mean[1:], color=colour(name))
        if name != "data":
            ax.plot(t, real[0, 1:], color=DATA, linestyle="--", linewidth=0.8)
        ax.set(title=catalogue.label(name), xscale="log")
        log_ticks(ax.xaxis)
    axes[0, 0].set_ylim(*limits(np.stack(list(bands.values())), real))
    figure.supxlabel("time step")
    figure.supylabel("value")
    figure.suptitle(title)
    return figure


def step_histograms(
    values: Mapping[str, Float[np.ndarray, "n 4"]], steps: np.ndarray, title: str
) -> Figure:
    """Plot histograms at some steps (columns) of the data and of each model (rows)."""
    rows = len(values)
    figure = Figure(figsize=(7.0, 1.15 * rows + 0.7))
    axes = figure.subplots(rows, len(steps), sharex=True, sharey="col", squeeze=False)
    real = values["data"]
    edges = np.linspace(real.min(), real.max(), BINS + 1)
    for line, (name, drawn) in zip(axes, values.items(), strict=True):
        for k, ax in enumerate(line):
            ax.stairs(_shares(drawn[:, k], edges), edges, fill=True, color=colour(name), alpha=0.8)
            if name != "data":
                ax.stairs(_shares(real[:, k], edges), edges, color=DATA, linewidth=0.7)
            ax.yaxis.set_major_locator(MaxNLocator(3))
        line[0].set_ylabel(f"{catalogue.label(name)}\nshare")
    for ax, step in zip(axes[0], steps, strict=True):
        ax.set_title(f"step {step}")
    for ax in axes[-1]:
        ax.set_xlabel("value")
    figure.suptitle(title)
    return figure


def _shares(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    inside = np.clip(values, edges[0], edges[-1])
    return np.histogram(inside, edges)[0] / len(values)


def samples(series: Mapping[str, Float[np.ndarray, "k L"]], unit: str, title: str) -> Figure:
    """Plot single series, a row for each name: "data" and the models."""
    rows, (columns, length) = len(series), series["data"].shape
    figure = Figure(figsize=(7.0, 1.05 * rows + 0.8))
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for line, (name, some) in zip(axes, series.items(), strict=True):
        for ax, values in zip(line, some, strict=True):
            ax.plot(values, color=colour(name), linewidth=0.7)
        line[0].set_ylabel("real" if name == "data" else catalogue.label(name))
    axes[0, 0].set(
        xlim=(0, length - 1),
        ylim=limits(np.concatenate(list(series.values())), series["data"]),
    )
    for ax in axes[-1]:
        ax.set_xlabel("time step")
    figure.supylabel(unit)
    figure.suptitle(title)
    return figure
