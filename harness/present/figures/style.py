"""What all figures share: the style file, colours and markers, axes, how they are written.

Colours belong to models, the same in all figures; data are black, controls grey. Where lines of
many models cross, markers differ as well. The same results give the same bytes.
"""

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from datasets.files import replacing
from harness import catalogue
from harness.present.text import paragraphs
from harness.records import write_json

STYLE = Path(__file__).with_name("figures.mplstyle")
CAPTIONS = "captions.json"
DATA, CONTROL = "black", "#777777"
MARKERS = "osD^v<>phX"
DASHES = ("--", ":", "-.", "-")
PER_LINE = 3  # panels beside each other: text stays readable at the width of a page


@dataclass(frozen=True)
class Drawn:
    """A figure, the stem of its files and its caption."""

    stem: str
    figure: Figure
    caption: str


def write(drawn: Iterable[Drawn], out: Path) -> list[Path]:
    """Write figures, drawn one by one in the common style, and their captions.

    Parameters
    ----------
    drawn : iterable of Drawn
    out : Path
        What lies here and is not among them stays, with its caption: most data may not be passed
        on, so what shows them is not to be lost where the data are not at hand.
    """
    paths, captions = [], {}
    with matplotlib.style.context(STYLE):
        for one in drawn:
            paths += save(one.figure, out / one.stem)
            captions[one.stem] = one.caption
    index = out / CAPTIONS
    old = json.loads(index.read_text(encoding="utf-8")) if index.exists() else {}
    kept = {stem: old[stem] for stem in old if (out / f"{stem}.png").exists()}
    write_json(index, dict(sorted((kept | captions).items())))  # an order without a history
    return [*paths, index]


def save(figure: Figure, stem: Path) -> list[Path]:
    """Write a figure as .pdf and .png, each whole or not at all, without date and program name."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # laid out by now; once more for each file takes a second
    metadata = {".pdf": {"CreationDate": None}, ".png": {"Software": None}}
    paths = [stem.with_name(stem.name + suffix) for suffix in metadata]
    for path in paths:
        with replacing(path) as part:
            figure.savefig(part, metadata=metadata[path.suffix])
    return paths


def caption(macro: str, **values: Any) -> str:
    """Return a caption from ``templates/captions.j2``."""
    (text,) = paragraphs("captions.j2", macro, **values)
    return text


def colour(name: str) -> str:
    """Return the colour of a row of a figure: that of a model, or black for "data"."""
    return DATA if name == "data" else catalogue.colour(name)


def panels(
    n: int, width: float, height: float, extra: tuple[float, float], **options: Any
) -> tuple[Figure, np.ndarray]:
    """Return a figure of `n` panels, a few on a line, and their axes.

    Parameters
    ----------
    n : int
    width, height : float
        Inches of a panel.
    extra : (float, float)
        Inches of the figure beyond its panels.
    options
        Of `Figure.subplots`.
    """
    columns = min(n, PER_LINE)
    rows = math.ceil(n / columns)
    figure = Figure(figsize=(width * columns + extra[0], height * rows + extra[1]))
    axes = figure.subplots(rows, columns, squeeze=False, **options)
    for ax in axes.flat[n:]:
        ax.remove()
    return figure, axes


def log_ticks(axis: Axis) -> None:
    """Put plain numbers at 1 and 3 of each decade, at 1 alone where they would be too many."""
    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1, 3) if high < 2e3 * low else (1,)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


def scale_losses(ax: Axes, values: np.ndarray) -> None:
    """Scale the axis of losses: likelihoods may change sign and fall by orders of magnitude."""
    low, high = np.nanmin(values), np.nanmax(values)
    if low > 0:
        ax.set_yscale("log")
        log_ticks(ax.yaxis)
    elif high - low > 20:
        ax.set_yscale("symlog")


def limits(values: np.ndarray, real: np.ndarray) -> tuple[float, float]:
    """Return limits that show all values, but no more than the real range again on each side."""
    span = float(np.ptp(real))
    low = max(float(values.min()), float(real.min()) - span)
    high = min(float(values.max()), float(real.max()) + span)
    return low - 0.05 * (high - low), high + 0.05 * (high - low)
