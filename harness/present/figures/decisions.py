"""Effects of all models on all data sets as a heat map: what is told apart from real series."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from harness import catalogue
from harness.powers import Power
from harness.present.comparison import Comparison, place, which
from harness.present.decisions import decided, decimals, distances, power_of, seeds_told_apart
from harness.present.figures.style import CONTROL, DATA, PAGE, Drawn, caption

LOW, HIGH = 0.4, 10.0  # effects below and above share a colour: there is nothing to see there
VERDICT = "told apart"  # the first column of each data set
WEAK = "0.85"  # background of distances that see little
ABOVE = 56  # points from the rows to the titles of data sets, above the names of distances
LABELS, LETTER = 1.4, 0.055  # inches: names of the rows; a letter of how a row ended


@dataclass(frozen=True)
class Block:
    """The columns of one data set.

    Attributes
    ----------
    title : str
    effects : DataFrame
        Rows x distances: means over seeds; missing where there is none.
    verdicts : Series of str
        Whether rows are told apart by all distances together: "yes", "no", "2/3" of the seeds.
    endings : Series of str
        How the rows ended that have none: "timeout at step 31".
    weak : sequence of str
        Distances that see little on the data set.
    """

    title: str
    effects: pd.DataFrame
    verdicts: pd.Series
    endings: pd.Series
    weak: Sequence[str]


def figures(compared: Sequence[Comparison], powers: Sequence[Power]) -> Iterator[Drawn]:
    """Draw the effects of one budget's generation, where there are decisions."""
    tested = [c.with_any(["p_all"]) for c in compared if decided(c)]
    if not tested:
        return
    blocks = [_block(c, which(c, compared), power_of(c, powers)) for c in tested]
    rows = pd.concat([c.rows for c in tested]).groupby(level=0).first()
    rows = rows.loc[sorted(rows.index, key=lambda model: place(model, rows.loc[model]))]
    budget = tested[0].head["budget"]
    title = f"How far from real series, budget {budget}\n1 is the limit of what the data can show"
    yield Drawn(
        f"decisions_{budget}",
        effect_map(blocks, rows["control"], title),
        caption("decisions", budget=budget, low=LOW, high=HIGH, weak=any(b.weak for b in blocks)),
    )


def _block(c: Comparison, number: str, power: Power | None) -> Block:
    effects = {name: c.estimate(f"effect_{name}")["value"] for name in distances(c)}
    return Block(
        f"{c.head['title']}{number}\n{c.head['n_test']:,} series",
        pd.DataFrame(effects),
        _verdicts(c),
        c.rows.loc[c.rows["done"] == 0, "endings"],
        power.weak if power else (),
    )


def _verdicts(c: Comparison) -> pd.Series:
    """Return in short for each row whether it is told apart: "yes" or "no", of more seeds "2/3"."""
    found = {
        row.Index: f"{row.told}/{row.tested}" if row.tested > 1 else "yes" if row.told else "no"
        for row in seeds_told_apart(c).itertuples()
    }
    return pd.Series(found, dtype=str)


def _short(effect: float, places: int, narrow: bool) -> str:
    """Return an effect as it fits a cell; colours do not tell large ones apart either."""
    return ">99" if narrow and effect >= 99.5 else decimals(effect, places)


def effect_map(blocks: Sequence[Block], is_control: pd.Series, title: str) -> Figure:
    """Plot effects as a heat map: a row for each model, columns by data set and distance.

    Before the distances of a data set stands whether they tell a row apart together.

    Parameters
    ----------
    blocks : sequence of Block
    is_control : Series of bool
        By model, in the order of the rows: models first, then controls.
    title : str
    """
    columns = [[VERDICT, *b.effects.columns] for b in blocks]
    values = pd.concat(
        [
            b.effects.reindex(is_control.index, columns=c)
            for b, c in zip(blocks, columns, strict=True)
        ],
        axis=1,
    )
    weak = np.concatenate([np.isin(c, b.weak) for b, c in zip(blocks, columns, strict=True)])
    weak = np.broadcast_to(weak, values.shape)
    widths = [len(names) for names in columns]
    starts = np.cumsum([0, *widths])
    cell = min(0.4, (PAGE - LABELS) / values.shape[1])
    figure = Figure(figsize=(LABELS + cell * values.shape[1], 2.1 + 0.19 * len(values)))
    ax = figure.subplots()
    missing = values.isna().to_numpy()
    places = 2 if cell > 0.3 else 1  # as many as fit
    narrow = cell < 0.25
    texts = values.map(lambda v: "" if pd.isna(v) else _short(v, places, narrow))
    sns.heatmap(
        values.clip(LOW, HIGH),
        mask=weak | missing,
        norm=LogNorm(1 / HIGH, HIGH),
        cmap="vlag",
        annot=texts,
        fmt="",
        annot_kws={"fontsize": 6 if narrow else 7},
        cbar_kws={"location": "bottom", "aspect": 30, "pad": 0.02,
                  "shrink": min(1.0, 2.5 / (cell * values.shape[1]))},
        ax=ax,
    )  # fmt: skip
    if (weak & ~missing).any():
        sns.heatmap(
            values,
            mask=~weak | missing,
            cmap=ListedColormap([WEAK]),
            annot=texts,
            fmt="",
            annot_kws={"fontsize": 6 if narrow else 7, "color": CONTROL},
            cbar=False,
            ax=ax,
        )
    for text in ax.texts:  # colours alone would not show it in print
        column, row = (int(place) for place in text.get_position())
        if values.iat[row, column] > 1:
            text.set_fontweight("bold")
    _colour_bar(figure.axes[-1])
    for start, width, block in zip(starts, widths, blocks, strict=False):
        ax.annotate(block.title, (start + width / 2, 0), (0, ABOVE), textcoords="offset points",
                    ha="center", va="bottom", annotation_clip=False)  # fmt: skip
        for model, verdict in block.verdicts.items():
            ax.text(start + 0.5, is_control.index.get_loc(model) + 0.5, verdict, ha="center",
                    va="center", fontsize=7)  # fmt: skip
        for model, ending in block.endings.items():
            y = is_control.index.get_loc(model) + 0.5
            fits = LETTER * len(ending) < cell * width
            ax.text(start + width / 2, y, ending if fits else re.split("[ :]", ending)[0],
                    ha="center", va="center", fontsize=7, color=CONTROL)  # fmt: skip
    ax.hlines(range(1, len(values)), 0, starts[-1], color="white", linewidth=0.5)
    ax.vlines(starts[1:-1], 0, len(values), color="white", linewidth=2.5)
    n_models = int((~is_control).sum())
    if 0 < n_models < len(values):
        ax.axhline(n_models, color=DATA, linewidth=0.8)
    ax.set(xlabel="", ylabel="")
    ax.xaxis.tick_top()
    ax.set_xticks(np.arange(values.shape[1]) + 0.5, values.columns, rotation=90)
    ax.set_yticks(np.arange(len(values)) + 0.5, map(catalogue.label, is_control.index), rotation=0)
    for label in ax.get_yticklabels()[n_models:]:
        label.set_color(CONTROL)
    ax.tick_params(length=0)
    figure.suptitle(title)
    return figure


def _colour_bar(ax: Axes) -> None:
    """Mark the limit of resolution on the colour bar."""
    marks = {LOW: f"≤ {LOW:g}", 1: "1: limit", 3: "3", HIGH: f"≥ {HIGH:g}"}
    ax.set_xlim(LOW, HIGH)
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xticks(list(marks), list(marks.values()))
    ax.set_xlabel("effect, in bold beyond the limit")
    ax.axvline(1, color=DATA, linewidth=0.8)
