"""Bands of generated and real series, and the paper's figures 1 and 2."""

import math
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
    BAND,
    DATA,
    PAGE,
    Drawn,
    caption,
    colour,
    label_rows,
    label_side,
    limits,
    log_ticks,
    panels,
)

BINS = 50
POINTS = 100  # the most on a line of a band: more are a blot where series are noisy


def figures(
    c: Comparison, shown: Mapping[str, Shown], data_dir: Path, stem: str, what: str
) -> Iterator[Drawn]:
    """Draw bands, figure 1 of data sets with a transition, and figure 2 where the data are here."""
    if not shown:
        return
    title, what = what, names_and_seeds(what, shown)
    arrays = {model: one.arrays for model, one in shown.items()}
    first = next(iter(arrays.values()))
    several = bool(c.head["channels"] > 1)
    n, transition = c.head["n_test"], has_transition(c.head["dataset"])
    window = None if transition else math.ceil(c.head["length"] / POINTS)
    real, generated = _band(first, "real"), {m: _band(a, "fake") for m, a in arrays.items()}
    yield Drawn(
        f"figure1a_{stem}" if transition else f"bands_{stem}",
        bands(real, generated, title, window),
        caption("bands", what=what, n=n, window=window, several_channels=several),
    )
    if transition:
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
            caption("figure2", what=what, n=n, several_channels=several),
        )


def has_transition(dataset: str) -> bool:
    """Whether the catalogue says that figure 1 is drawn of a data set."""
    known = dataset in catalogue.available("datasets")
    return known and catalogue.dataset(dataset).transition


def _band(arrays: Mapping[str, np.ndarray], name: str) -> Float[np.ndarray, "3 L"]:
    """Return mean and the ends of the band of the first channel."""
    return np.stack([arrays[f"{name}_{part}"][:, 0] for part in ("mean", "low", "high")])


def bands(
    real: Float[np.ndarray, "3 L"],
    generated: Mapping[str, Float[np.ndarray, "3 L"]],
    title: str,
    window: int | None = None,
) -> Figure:
    """Plot mean and band of each model's series against time, in panels, over those of real ones.

    Parameters
    ----------
    real : array
        Mean, lower and upper end at each step.
    generated : mapping
        Models -> the same of theirs.
    title : str
    window : int, optional
        Steps that are averaged. Without it all are shown but the first, on a logarithmic axis: a
        transition lies in the first tenth of the grid.
    """
    figure, axes = panels(len(generated), 1.35, "time step", sharex=True, sharey=True)
    length = real.shape[1]
    starts = np.arange(0, length, window) if window else np.arange(1, length)
    sizes = np.diff(starts, append=length)
    t = starts + (sizes - 1) / 2
    real, *others = (
        np.add.reduceat(band, starts, axis=1) / sizes for band in (real, *generated.values())
    )
    for ax, name, (mean, low, high) in zip(axes.flat, generated, others, strict=False):
        ax.fill_between(t, real[1], real[2], color=BAND, linewidth=0)
        ax.fill_between(t, low, high, color=colour(name), alpha=0.35, linewidth=0)
        ax.plot(t, real[0], color=DATA, linewidth=0.8)
        ax.plot(t, mean, color=colour(name))
        ax.set(title=catalogue.label(name))
        if not window:
            ax.set_xscale("log")
            log_ticks(ax.xaxis)
    axes[0, 0].set(xlim=(t[0], t[-1]), ylim=limits(np.stack([real, *others]), real))
    names = ["test series", "samples"]
    figure.legend(axes[0, 0].collections, names, loc="outside lower center", ncols=2)
    figure.supylabel("value")
    figure.suptitle(title)
    return figure


def step_histograms(
    values: Mapping[str, Float[np.ndarray, "n 4"]], steps: np.ndarray, title: str
) -> Figure:
    """Plot histograms at some steps (columns) of the data and of each model (rows)."""
    rows = len(values)
    figure = Figure(figsize=(PAGE, 0.55 * rows + 0.8))
    axes = figure.subplots(rows, len(steps), sharex=True, sharey=True, squeeze=False)
    real = values["data"]
    edges = np.linspace(real.min(), real.max(), BINS + 1)
    for line, (name, drawn) in zip(axes, values.items(), strict=True):
        for k, ax in enumerate(line):
            ax.stairs(_shares(drawn[:, k], edges), edges, fill=True, color=colour(name), alpha=0.8)
            if name != "data":
                ax.stairs(_shares(real[:, k], edges), edges, color=DATA, linewidth=0.7)
    axes[0, 0].yaxis.set_major_locator(MaxNLocator(2, steps=[1, 2, 5, 10]))
    label_rows(axes[:, 0], values)
    for ax, step in zip(axes[0], steps, strict=True):
        ax.set_title(f"step {step}")
    figure.supxlabel("value")
    figure.supylabel("share of the series")
    figure.suptitle(title)
    return figure


def _shares(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    inside = np.clip(values, edges[0], edges[-1])
    return np.histogram(inside, edges)[0] / len(values)


def samples(series: Mapping[str, Float[np.ndarray, "k L"]], unit: str, title: str) -> Figure:
    """Plot single series, a row for each name: "data" and the models."""
    rows, (columns, length) = len(series), series["data"].shape
    figure = Figure(figsize=(PAGE, 0.55 * rows + 0.8))
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for line, (name, some) in zip(axes, series.items(), strict=True):
        for ax, values in zip(line, some, strict=True):
            ax.plot(values, color=colour(name), linewidth=0.7 if length <= 200 else 0.4)
    label_rows(axes[:, 0], series)
    axes[0, 0].set(
        xlim=(0, length - 1),
        ylim=limits(np.concatenate(list(series.values())), series["data"]),
    )
    figure.supxlabel("time step")
    label_side(figure, unit)
    figure.suptitle(title)
    return figure
