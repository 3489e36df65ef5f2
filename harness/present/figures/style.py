"""What all figures share: the style file, colours and markers, axes, how they are written.

Colours belong to models, the same in all figures; data are black, controls grey. Where lines of
many models cross, markers differ as well. The same results give the same bytes.
"""

import math
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatterMathtext, LogLocator, NullFormatter
from matplotlib.transforms import offset_copy
from PIL import Image
from pydantic import RootModel
from scipy.optimize import isotonic_regression

from datasets.files import replacing
from harness import catalogue
from harness.checks import check_json
from harness.present.text import paragraphs
from harness.texts import write_json

STYLE = Path(__file__).with_name("figures.mplstyle")
CAPTIONS = "captions.json"
DATA, CONTROL = "black", "#777777"
BAND = "0.82"  # of what is real, behind what is generated
MARKERS = "osD^v<>phX"
DASHES = ("--", ":", "-.", "-")
COLUMN, PAGE = 3.3, 6.75  # widths in inches: printed, text has the size that it is drawn with


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
    old = read_captions(out) if index.exists() else {}
    kept = {stem: old[stem] for stem in old if (out / f"{stem}.png").exists()}
    write_json(index, dict(sorted((kept | captions).items())))  # an order without a history
    return [*paths, index]


def read_captions(folder: Path) -> dict[str, str]:
    """Return the captions that `write` left in a folder, by the figures' stems.

    Raises
    ------
    UserError
        If the file is damaged.
    """
    return check_json(RootModel[dict[str, str]], folder / CAPTIONS, "captions of figures").root


def save(figure: Figure, stem: Path) -> list[Path]:
    """Write a figure as .pdf and .png, each whole or not at all, without date and program name."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # laid out by now; once more for each file takes a second
    metadata = {".pdf": {"CreationDate": None}, ".png": {"Software": None}}
    paths = [stem.with_name(stem.name + suffix) for suffix in metadata]
    for path in paths:
        with replacing(path) as part:
            figure.savefig(part, metadata=metadata[path.suffix])
            if path.suffix == ".png":
                _reduce_colours(part)
    return paths


def _reduce_colours(path: Path) -> None:
    """Write a picture with 256 colours: it looks the same, and takes a third of the bytes."""
    with Image.open(path) as picture:
        reduced = picture.convert("RGB").quantize(256, dither=Image.Dither.NONE)
        reduced.save(path, dpi=picture.info["dpi"], optimize=True)


def caption(macro: str, **values: Any) -> str:
    """Return a caption from ``templates/captions.j2``."""
    (text,) = paragraphs("captions.j2", macro, **values)
    return text


def colour(name: str) -> str:
    """Return the colour of a row of a figure: that of a model, or black for "data"."""
    return DATA if name == "data" else catalogue.colour(name)


def panels(
    n: int, height: float, xlabel: str, per_line: int = 4, **options: Any
) -> tuple[Figure, np.ndarray]:
    """Return a figure of `n` panels on as few, equally long lines as fit the page, and their axes.

    Parameters
    ----------
    n : int
    height : float
        Inches of a panel; a single line of panels is a little taller.
    xlabel : str
        Written below the lowest panel of each column.
    per_line : int
        The most panels beside each other.
    options
        Of `Figure.subplots`.
    """
    rows = math.ceil(n / per_line)
    columns = math.ceil(n / rows)
    width = min(PAGE, max(COLUMN, 2.3 * columns))
    figure = Figure(figsize=(width, height * max(rows, 1.4) + 0.6))
    axes = figure.subplots(rows, columns, squeeze=False, **options)
    for ax in axes.flat[n:]:
        ax.remove()
    for ax in axes.flat[n - columns : n]:  # the lowest of each column, whatever axes are shared
        ax.tick_params(labelbottom=True)
        ax.set_xlabel(xlabel)
    return figure, axes


def label_rows(axes: Iterable[Axes], names: Iterable[str]) -> None:
    """Write the names of rows left of their first panels, level and under each other."""
    for ax, name in zip(axes, names, strict=True):
        ax.set_ylabel(catalogue.label(name), rotation=0, ha="right", va="center")


def label_side(figure: Figure, text: str) -> None:
    """Write what the vertical axes show along the figure's side, in as many lines as it needs."""
    letters = int(13 * figure.get_figheight())  # that fit the height
    figure.supylabel(textwrap.fill(text, letters))


def label_right(ax: Axes, x: float, labels: Sequence[tuple[float, str, str]]) -> None:
    """Write labels right of points with the same x, moved apart where they would overlap.

    Parameters
    ----------
    ax : Axes
        With its final limits.
    x : float
    labels : sequence of (float, str, str)
        The point's value, text and colour.
    """
    if not labels:
        return
    labels = sorted(labels)
    size = 7  # points
    figure = ax.get_figure(root=True)
    assert figure is not None
    gap = 1.2 * size / (72 * ax.get_window_extent().height / figure.dpi)
    points = [(x, value) for value, _, _ in labels]
    apart = gap * np.arange(len(labels))
    wanted = (ax.transScale + ax.transLimits).transform(points)[:, 1] - apart
    places = isotonic_regression(wanted).x + apart  # the nearest places that keep the gaps
    beside = offset_copy(ax.get_xaxis_transform(), figure, x=9, units="points")
    for point, place, (_, text, shade) in zip(points, places, labels, strict=True):
        line = {"arrowstyle": "-", "color": shade, "linewidth": 0.5, "shrinkA": 1, "shrinkB": 2,
                "relpos": (0, 0.5)}  # fmt: skip
        ax.annotate(text, point, (x, place), textcoords=beside, va="center", color=shade,
                    fontsize=size, arrowprops=line)  # fmt: skip


def log_ticks(axis: Axis) -> None:
    """Label a logarithmic axis with plain numbers, or powers of ten where those would be long."""
    low, high = axis.get_view_interval()
    few = ((5, (1, 1.5, 2, 3, 4, 5, 7)), (20, (1, 2, 3, 5, 7)), (1e3, (1, 3)))
    subs = next((subs for factor, subs in few if high < factor * low), (1,))
    plain = low > 3e-4 and high < 3e4
    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_major_formatter("{x:g}" if plain else LogFormatterMathtext())
    axis.set_minor_formatter(NullFormatter())


def scale_losses(ax: Axes, values: np.ndarray) -> None:
    """Scale the axis of losses: likelihoods may change sign and fall by orders of magnitude."""
    low, high = np.nanmin(values), np.nanmax(values)
    if low > 0:
        ax.set_yscale("log")
        log_ticks(ax.yaxis)
    elif high - low > 20:
        ax.set_yscale("symlog", linthresh=10 if low < -3 else 1)


def limits(values: np.ndarray, real: np.ndarray) -> tuple[float, float]:
    """Return limits that show all values, but no more than half the real range on each side."""
    span = 0.5 * float(np.ptp(real))
    low = max(float(values.min()), float(real.min()) - span)
    high = min(float(values.max()), float(real.max()) + span)
    return low - 0.05 * (high - low), high + 0.05 * (high - low)
