"""Pictures of a row: series beside real ones, predictions, training. SVG in the colours of a page.

Real series are shown as the band of the test series: most sources may not be passed on.
"""

import io
import re
from collections.abc import Mapping

import matplotlib.style
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harness.present.comparison import Comparison
from harness.present.figures.shown import first_seeds
from harness.present.figures.style import STYLE, colour, limits
from harness.present.figures.training import curves, training_curves

TEXT = "#010203"  # stands for the colour of the page's text
VECTOR = {
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color",
                     "ytick.color"), TEXT),
    "svg.fonttype": "none",
    "svg.hashsalt": "leaderboard",
}  # fmt: skip
FULL = (6.6, 3.6)  # inches
POINTS = 250  # of a band; more cannot be seen, and make the page large
TAG, NUMBER = re.compile(r"<[^>]*>"), re.compile(r"\d+\.\d\d+")  # rounded, a third of the bytes


def pictures(c: Comparison, model: str) -> dict[str, str]:
    """Return captions -> pictures of a row, as far as its cells have what they show."""
    found = {}
    with matplotlib.style.context([STYLE, VECTOR]):
        if shown := first_seeds(c, [model]).get(model):
            draw = series if c.head["task"] == "generation" else predictions
            if picture := draw(shown.arrays, colour(model)):
                figure, caption = picture
                found[f"{caption} Seed {shown.seed}."] = svg(figure)
        lines = curves(c.only(pd.Index([model])))
        if not lines.empty:
            figure = training_curves(lines, "")
            figure.set_size_inches(6.6, 2.4)
            caption = (
                "Training: loss (solid) and validation loss (dashed), a line for each seed; dotted,"
                " the step that is scored."
            )
            found[caption] = svg(figure)
    return found


def series(arrays: Mapping[str, np.ndarray], own: str) -> tuple[Figure, str]:
    """Draw the bands of generated and of test series, and single generated series."""
    figure = Figure(figsize=FULL)
    axes = figure.subplot_mosaic("AA;BC;DE", sharex=True, sharey=True)
    real = [arrays[f"real_{part}"][:, 0] for part in ("low", "mean", "high")]
    fake = [arrays[f"fake_{part}"][:, 0] for part in ("low", "mean", "high")]
    examples = arrays["examples"][..., 0]
    for ax in axes.values():
        _band(ax, np.arange(len(real[0])), real, TEXT, "--")
    _band(axes["A"], np.arange(len(fake[0])), fake, own)
    for ax, values in zip((axes[name] for name in "BCDE"), examples, strict=False):
        ax.plot(values, color=own)
    everything = np.concatenate([np.stack(real + fake), examples])
    axes["A"].set(ylim=limits(everything, np.stack(real)), xlim=(0, len(real[0]) - 1))
    axes["A"].tick_params(labelbottom=True)
    figure.supxlabel("time step")
    text = (
        "Series: above, mean and 5 to 95 % band at each step of the test series (grey, dashed) and"
        " of the generated ones (coloured); below, single generated series before the band of the"
        " test series."
    )
    if arrays["examples"].shape[-1] > 1:
        text += " The first channel."
    return figure, text


def predictions(arrays: Mapping[str, np.ndarray], own: str) -> tuple[Figure, str] | None:
    """Draw predictions of test records in the channel with the most values to predict."""
    target, shown = arrays["target"], arrays["shown"]
    if not target.any():
        return None
    channel = int(target.sum((0, 1)).argmax())
    figure = Figure(figsize=FULL)
    axes = figure.subplots(len(target), 1, sharex=True, sharey=True, squeeze=False)
    for k, ax in enumerate(axes[:, 0]):
        t = arrays["t"][k]
        known = np.diff(t, prepend=-1) > 0  # padding repeats the last time
        parts = [arrays[name][k, known, channel] for name in ("low", "mean", "high")]
        _band(ax, t[known], parts, own)
        for marked, marker in ((shown, "|"), (target & ~shown, "o")):
            times = t[marked[k, :, channel]]
            ax.plot(times, np.full(len(times), 0.04), marker, color=TEXT, markersize=3,
                    markerfacecolor="none", markeredgewidth=0.5,
                    transform=ax.get_xaxis_transform())  # fmt: skip
        ax.set_ylabel(f"record {k + 1}")
    figure.supxlabel("time")
    return figure, (
        "Predictions of test records: mean and 5 to 95 % band. Below, the times of values that the"
        " model saw (bars) and of hidden ones that it is scored on (circles); the values themselves"
        " may not be passed on."
    )


def _band(ax: Axes, t: np.ndarray, parts: list[np.ndarray], own: str, line: str = "-") -> None:
    every = max(1, len(t) // POINTS)
    t, low, mean, high = (values[::every] for values in (t, *parts))
    ax.fill_between(t, low, high, color=own, alpha=0.18, linewidth=0)
    ax.plot(t, mean, color=own, linestyle=line, linewidth=0.8)


def svg(figure: Figure) -> str:
    """Return a figure as an element of a page, black in the colour of the page's text."""
    stream = io.StringIO()
    nothing = {"Date": None, "Creator": None}
    figure.savefig(stream, format="svg", transparent=True, metadata=nothing)
    text = stream.getvalue()
    text = re.sub(f"{TEXT}|#000000", "currentColor", text[text.index("<svg") :])
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    return TAG.sub(lambda tag: NUMBER.sub(lambda n: f"{float(n[0]):.1f}", tag[0]), text)
