"""Figures from the cells' directories: each plot function takes arrays or a tidy frame and returns
a figure; `write` alone writes files. The same cells and data give the same bytes.

Colours belong to models, the same in all figures; data are black, controls grey. They are Okabe and
Ito's (2008) and some of Tol's "muted" (2021), both made for colour-blind readers. Where lines of
many models cross, markers differ as well.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.style
import numpy as np
import pandas as pd
import seaborn as sns
from jaxtyping import Bool, Float
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from datasets.base import Dataset
from datasets.files import replacing
from harness import comparison, summary
from harness.batches import view
from harness.comparison import Quantity, Section
from harness.errors import UserError
from harness.grid import digest
from harness.records import Record, write_json
from harness.summary import CellFiles
from harness.tables import ending, label, measure, shares, shortest
from harness.typeset import number

STYLE = Path(__file__).with_suffix(".mplstyle")
FRONT = "flame"  # the data set of the paper's figure 1
PALETTE = {
    "ls4": "#0072B2",
    "ls4_paper": "#661100",
    "ls4_time": "#56B4E9",
    "ls4_union": "#332288",
    "latent_ode": "#D55E00",
    "rnn_vae": "#009E73",
    "rnn": "#CC79A7",
    "gru_d": "#E69F00",
    "ode_rnn": "#8C6D31",
    "cru": "#882255",
    "f_cru": "#AA4499",
    "sashimi": "#DDCC77",
    "gp_vae": "#44AA99",
    "ode2vae": "#999933",
    "timegan": "#117733",
    "sde_gan": "#CC6677",
}
SPARE = ("#6699CC", "#AA4466", "#4477AA", "#228833")  # for other models, by name
DATA, CONTROL = "black", "#777777"
EXAMPLES = summary.EXAMPLES
BINS = 50
CAPTIONS = "captions.json"
MARKERS = "osD^v<>phX"
DASHES = ("--", ":", "-.", "-")
PER_LINE = 5  # panels beside each other
SPAN = 1e3  # of a logarithmic axis; what lies below is a number at its end
SPREAD = (  # of the scores of generation
    "over evaluator fits (marginal: over bootstrap resamples). Grey band: the noise floor, real "
    "training series in place of samples, with its own deviation. Dotted line: ln 2, a classifier "
    "that cannot tell."
)
SPREAD_PREDICTED = "under resampling of the test records. Averages over all values to predict."


def write(records_dir: Path, data_dir: Path, out: Path) -> list[Path]:
    """Write all figures as .pdf and .png below `out`, and their captions, and return the paths.

    What lies in `out` and is not drawn this time stays, with its caption: most data may not be
    passed on, so what shows them is not to be lost where the data are not at hand.

    Parameters
    ----------
    records_dir : Path
        Searched for cells; one without summary or history is left out of the figures that need it.
    data_dir : Path
        Prepared data; figure 2 and predictions are drawn where those that the records are about
        are here.
    out : Path

    Raises
    ------
    UserError
        If there is no record, or two have the same identity.
    """
    cells = summary.find(records_dir)
    if not cells:
        raise UserError(f"{records_dir}: no record.json below this folder")
    return write_figures(_figures(cells, data_dir), out)


def write_figures(some: Iterable[tuple[str, Figure, str]], out: Path) -> list[Path]:
    """Write figures, drawn one by one in the common style, and their captions.

    Parameters
    ----------
    some : iterable of (stem of the files, figure, caption)
    out : Path
        What lies here and is not among them stays, with its caption.
    """
    paths, captions = [], {}
    with matplotlib.style.context(STYLE):
        for stem, figure, caption in some:
            paths += save(figure, out / stem)
            captions[stem] = caption
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


def _figures(cells: list[CellFiles], data_dir: Path) -> Iterator[tuple[str, Figure, str]]:
    """Yield each figure with the stem of its files and its caption."""
    compared = [s.without_variants for s in comparison.sections([c.record for c in cells])]
    palette = colours(sorted({row.model for s in compared for row in s.models if row.records}))
    stems: set[tuple[str, str]] = set()
    for section in compared:
        head = section.head
        if section.skipped:
            continue
        own = {(r.model, r.seed) for row in section.rows for r in row.records}
        key = (head.task, head.budget, head.dataset)
        files = {
            (c.record.model, c.record.seed): c
            for c in cells
            if (c.record.task, c.record.budget, c.record.dataset) == key
            and (c.record.model, c.record.seed) in own
        }
        stem = f"{head.dataset}_{head.budget}"
        if (head.task, stem) in stems:  # the same data set once more, on another footing
            stem += f"_{digest(comparison.footing(head))[:8]}"
        stems.add((head.task, stem))
        for kind, figure, caption in _of_section(section, files, palette, data_dir):
            yield f"{kind}_{stem}", figure, caption


def _of_section(
    section: Section,
    files: Mapping[tuple[str, int], CellFiles],
    palette: Mapping[str, str],
    data_dir: Path,
) -> Iterator[tuple[str, Figure, str]]:
    head = section.head
    what = f"{head.title}, budget {head.budget}"
    of_task, spread = "", SPREAD
    if head.task == "generation":
        yield from _generated(section, files, palette, data_dir, what)
    else:
        what = f"{head.title}, {head.task}, budget {head.budget}"
        of_task, spread = f"_{head.task}", SPREAD_PREDICTED
        yield from _predicted(section, files, palette, data_dir, what)
    quantities = [q for q in section.quantities.values() if not q.optional]
    yield (
        f"scores{of_task}",
        score_intervals(score_lines(section), quantities, _floors(section), palette, what),
        f"Robust scores. {what}. A dot for each seed with the standard deviation {spread}",
    )
    curves = _curves(section, files)
    if not curves.empty:
        yield (
            f"training{of_task}",
            training_curves(curves, palette, what),
            f"Training curves. {what}. Each model's own training loss (solid) and the same on the "
            "validation series (dashed), a line for each seed; a cross marks a seed that did not "
            "end well. Losses of different models are not comparable.",
        )


def _generated(
    section: Section,
    files: Mapping[tuple[str, int], CellFiles],
    palette: Mapping[str, str],
    data_dir: Path,
    what: str,
) -> Iterator[tuple[str, Figure, str]]:
    """The paper's figures of generated series."""
    head = section.head
    shown = _first_seeds(section, files)
    if not shown:
        return
    arrays = {model: found for model, (_, found) in shown.items()}
    who = _who(what, shown)
    n = f"{head.n_test} test series and as many samples"
    channel = "" if head.channels == 1 else " First channel."
    first = next(iter(arrays.values()))
    if head.dataset == FRONT:
        bands = {"data": _band(first, "real")} | {m: _band(a, "fake") for m, a in arrays.items()}
        yield (
            "figure1a",
            mean_trajectories(bands, palette, what),
            f"Figure 1a. {who}. Mean (line) and 5–95 % band over {n} at each time step; the "
            f"dashed line is the mean of the data.",
        )
        values = {"data": first["real_at_steps"][..., 0]}
        values |= {m: a["fake_at_steps"][..., 0] for m, a in arrays.items()}
        yield (
            "figure1b",
            step_histograms(values, first["steps"], palette, what),
            f"Figure 1b. {who}. Histograms of {n} at four time steps, {BINS} bins over the "
            "range of the data; generated values outside it count in the outermost bins. The "
            "thin black outline is the histogram of the data.",
        )
    dataset = _prepared(section, data_dir)
    if dataset is not None:
        series = {"real": dataset.x[dataset.test[:EXAMPLES], :, 0]}
        series |= {m: a["examples"][..., 0] for m, a in arrays.items()}
        yield (
            "figure2",
            samples(series, f"value; 1 is the {dataset.meta['unit']}", palette, what),
            f"Figure 2. {who}. Test series and samples, the first {EXAMPLES} of each.{channel}",
        )


def _predicted(
    section: Section,
    files: Mapping[tuple[str, int], CellFiles],
    palette: Mapping[str, str],
    data_dir: Path,
    what: str,
) -> Iterator[tuple[str, Figure, str]]:
    """Predictions of single records, and the error against the share of hidden points."""
    task = section.head.task
    shown = _first_seeds(section, files)
    # records and channels are the same for all models
    first = next((arrays for _, arrays in shown.values() if arrays["target"].any()), None)
    dataset = _prepared(section, data_dir) if first else None
    if first and dataset is not None:
        index = int(first["target"].sum((0, 1)).argmax())
        names = dataset.meta["channels"]
        channel = int(first["channels"][index])
        name = names[channel] if names else f"channel {channel}"
        unit = dataset.meta["unit"].partition(" (")[0]  # without the raw units
        who = _who(what, shown)
        yield (
            f"predictions_{task}",
            predictions(
                {
                    model: _example(record, arrays, index, dataset)
                    for model, (record, arrays) in shown.items()
                },
                (f"time; 1 is {dataset.meta['time']}", f"{name}; 1 is the {unit}"),
                palette,
                what,
            ),
            f"Predictions. {who}. {name} of test records. Dots: values that the model saw, in "
            "reconstruction also those to predict; circles: values to predict that it did not see. "
            "Mean (line) and 5–95 % band of the predictive distribution at the record's time "
            "points.",
        )
    if task == "interpolation":
        lines = share_lines(section)
        if len(set(lines["share"])) > 1:
            yield (
                "hidden_share",
                hidden_share(lines, measure(section.quantities["mse"]), palette, what),
                f"Error against the share of hidden time points. {what}. One trained model at all "
                "shares; mean over seeds, bars: standard deviation under resampling of the test "
                "records. Controls in grey.",
            )


def _first_seeds(
    section: Section, files: Mapping[tuple[str, int], CellFiles]
) -> dict[str, tuple[Record, dict[str, np.ndarray]]]:
    """The record and the arrays of each model's first seed that has arrays."""
    shown = {}
    for row in section.models:
        for record in row.done:
            arrays = files[row.model, record.seed].summary()
            if arrays:
                shown[row.model] = record, arrays
                break
    return shown


def _who(what: str, shown: Mapping[str, tuple[Record, dict[str, np.ndarray]]]) -> str:
    return f"{what}; {', '.join(f'{label(m)} seed {r.seed}' for m, (r, _) in shown.items())}"


# -- what is plotted ------------------------------------------------------------------------------


def colours(models: list[str]) -> dict[str, str]:
    """Give each model a colour; models that are not in the palette share the spare ones by turn."""
    others = [model for model in models if model not in PALETTE]
    return PALETTE | {model: SPARE[i % len(SPARE)] for i, model in enumerate(others)}


def _band(arrays: Mapping[str, np.ndarray], name: str) -> Float[np.ndarray, "3 L"]:
    """Mean and the ends of the band of the first channel."""
    return np.stack([arrays[f"{name}_{part}"][:, 0] for part in ("mean", "low", "high")])


def _prepared(section: Section, data_dir: Path) -> Dataset | None:
    """The data that a section's records are about, if they are there."""
    head = section.head
    path = data_dir / f"{head.dataset}.npz"
    if not path.exists():
        return None
    dataset = Dataset.load(path)
    same = (dataset.data_digest, dataset.split_digest) == (head.data_digest, head.split_digest)
    return dataset if same else None


def _floors(section: Section) -> dict[str, tuple[float, float]]:
    floors = {name: section.floor(name) for name in section.quantities}
    return {score: floor for score, floor in floors.items() if floor is not None}


def score_lines(section: Section) -> pd.DataFrame:
    """Return a line for each record and robust score: model, control, seed, score, value, spread.

    Value and spread are multiplied with the quantity's scale, `score` is its name. A record that
    has none keeps a line without a score, with how it ended.
    """
    lines = []
    for row in section.rows:
        for record in row.records:
            line = {"model": row.model, "control": row.control, "seed": record.seed}
            robust = {q.robust: q for q in section.quantities.values()}
            found = [
                line | {"score": q.name, "value": _times(s.value, q), "spread": _times(s.spread, q)}
                for s in record.scores
                if (q := robust.get(s.name))
            ]
            end = None if record.status == "done" else ending(record)
            lines += [item | {"ending": end} for item in found or [line]]
    columns = ["model", "control", "seed", "score", "value", "spread", "ending"]
    return pd.DataFrame(lines, columns=columns).astype({"value": float, "spread": float})


def _times(value: float | None, quantity: Quantity) -> float | None:
    return None if value is None else quantity.scale * value


def share_lines(section: Section) -> pd.DataFrame:
    """Return the scaled error of each row: model, control, share (%), value, spread."""
    scale = section.quantities["mse"].scale
    lines = []
    for row in section.rows:
        for share, score in shares(section).items():
            estimate = row.estimate(score)
            if estimate.value is not None:
                line = {"model": row.model, "control": row.control, "share": 100 * share}
                spread = scale * (estimate.evaluator_spread or 0)
                lines.append(line | {"value": scale * estimate.value, "spread": spread})
    return pd.DataFrame(lines, columns=["model", "control", "share", "value", "spread"])


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


def _example(
    record: Record, arrays: Mapping[str, np.ndarray], index: int, dataset: Dataset
) -> Example:
    """Put the values, which are not kept with the cell, beside a prediction of them."""
    seen = view({"task": record.task, "protocol": record.protocol, **record.settings}, dataset)
    x = seen.batch(arrays["records"]).x.numpy()[..., arrays["channels"][index]]
    last = np.diff(arrays["t"], axis=1, prepend=-1) <= 0  # padding repeats the last time
    parts = {name: np.where(last, np.nan, arrays[name][..., index])
             for name in ("mean", "low", "high")}  # fmt: skip
    shown, target = (arrays[name][..., index] for name in ("shown", "target"))
    return Example(arrays["t"], x, shown, target, **parts)


def _curves(section: Section, files: Mapping[tuple[str, int], CellFiles]) -> pd.DataFrame:
    """Histories of all models under each other, as `training_curves` takes them."""
    found = []
    for row in section.models:
        for record in row.records:
            history = files[row.model, record.seed].history()
            if history.empty:
                continue
            # the first loss of each row, whatever a model with several optimisers calls it
            losses = history[[c for c in history.columns if c.rpartition("/")[2] == "loss"]]
            validation = history.get("validation_loss", pd.Series(np.nan, history.index))
            found.append(
                pd.DataFrame(
                    {
                        "model": row.model,
                        "seed": record.seed,
                        "ending": None if record.status == "done" else ending(record),
                        "step": history["step"],
                        "loss": losses.bfill(axis=1).iloc[:, 0],
                        "validation_loss": validation,
                    }
                )
            )
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame()


# -- the figures ----------------------------------------------------------------------------------


def mean_trajectories(
    bands: Mapping[str, Float[np.ndarray, "3 L"]], palette: Mapping[str, str], title: str
) -> Figure:
    """Plot mean and band against time, a panel for the data and one for each model.

    Parameters
    ----------
    bands : mapping
        "data" and models -> mean, lower and upper end at each step. Step 0 is left out: the axis is
        logarithmic, since the transition lies in the first tenth of the grid.
    """
    columns = min(len(bands), PER_LINE)
    rows = -(-len(bands) // columns)
    figure = Figure(figsize=(2.0 * columns + 0.6, 1.9 * rows + 0.5))
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for ax in axes.flat[len(bands) :]:
        ax.remove()
    real = bands["data"]
    for ax, (name, (mean, low, high)) in zip(axes.flat, bands.items(), strict=False):
        colour = palette.get(name, DATA)
        t = np.arange(1, len(mean))
        ax.fill_between(t, low[1:], high[1:], color=colour, alpha=0.25, linewidth=0)
        ax.plot(t, mean[1:], color=colour)
        if name != "data":
            ax.plot(t, real[0, 1:], color=DATA, linestyle="--", linewidth=0.8)
        ax.set(title=label(name), xscale="log")
        log_ticks(ax.xaxis)
    axes[0, 0].set_ylim(*_limits(np.stack(list(bands.values())), real))
    figure.supxlabel("time step")
    figure.supylabel("flame radius x")
    figure.suptitle(title)
    return figure


def step_histograms(
    values: Mapping[str, Float[np.ndarray, "n 4"]],
    steps: np.ndarray,
    palette: Mapping[str, str],
    title: str,
) -> Figure:
    """Plot histograms at some steps (columns) of the data and of each model (rows)."""
    rows = len(values)
    figure = Figure(figsize=(7.0, 1.15 * rows + 0.7))
    axes = figure.subplots(rows, len(steps), sharex=True, sharey="col", squeeze=False)
    real = values["data"]
    edges = np.linspace(real.min(), real.max(), BINS + 1)
    for line, (name, drawn) in zip(axes, values.items(), strict=True):
        for k, ax in enumerate(line):
            share = _shares(drawn[:, k], edges)
            ax.stairs(share, edges, fill=True, color=palette.get(name, DATA), alpha=0.8)
            if name != "data":
                ax.stairs(_shares(real[:, k], edges), edges, color=DATA, linewidth=0.7)
            ax.yaxis.set_major_locator(MaxNLocator(3))
        line[0].set_ylabel(f"{label(name)}\nshare")
    for ax, step in zip(axes[0], steps, strict=True):
        ax.set_title(f"step {step}")
    for ax in axes[-1]:
        ax.set_xlabel("flame radius x")
    figure.suptitle(title)
    return figure


def _shares(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    inside = np.clip(values, edges[0], edges[-1])
    return np.histogram(inside, edges)[0] / len(values)


def samples(
    series: Mapping[str, Float[np.ndarray, "k L"]],
    unit: str,
    palette: Mapping[str, str],
    title: str,
) -> Figure:
    """Plot single series, a row for each name: "real" and the models."""
    rows, (columns, length) = len(series), series["real"].shape
    figure = Figure(figsize=(7.0, 1.05 * rows + 0.8))
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for line, (name, some) in zip(axes, series.items(), strict=True):
        for ax, values in zip(line, some, strict=True):
            ax.plot(values, color=palette.get(name, DATA), linewidth=0.7)
        line[0].set_ylabel(label(name))
    limits = _limits(np.concatenate(list(series.values())), series["real"])
    axes[0, 0].set(xlim=(0, length - 1), ylim=limits)
    for ax in axes[-1]:
        ax.set_xlabel("time step")
    figure.supylabel(unit)
    figure.suptitle(title)
    return figure


def score_intervals(
    lines: pd.DataFrame,
    quantities: Sequence[Quantity],
    floors: Mapping[str, tuple[float, float]],
    palette: Mapping[str, str],
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
    """
    rows = list(lines.groupby("model", sort=False))
    n_models = lines.loc[~lines["control"], "model"].nunique()
    figure = Figure(figsize=(7.0, 0.25 * len(rows) + 1.1))
    axes = figure.subplots(1, len(quantities), sharey=True, squeeze=False)[0]
    for ax, quantity in zip(axes, quantities, strict=True):
        score = quantity.name
        if score in floors:
            value, spread = floors[score]
            ax.axvspan(value - spread, value + spread, color="0.85", linewidth=0)
        if quantity.ceiling is not None:
            ax.axvline(quantity.ceiling, color=CONTROL, linestyle=":", linewidth=0.8)
        values = lines.loc[lines["score"] == score, "value"]
        floor = float(values.max()) / SPAN
        smallest = float(values[values > floor].min())
        if quantity.ceiling is None and 10 * smallest < float(values.max()):
            ax.set_xscale("log")
        else:
            floor = -np.inf
        for y, (name, own) in enumerate(rows):
            colour = palette.get(str(name), CONTROL)
            found = own.query("score == @score").dropna(subset=["value"])
            near, far = found.query("value > @floor"), found.query("value <= @floor")
            if len(far):
                text = ", ".join(dict.fromkeys(number(value, 2) for value in far["value"]))
                ax.text(0.02, y, text, ha="left", va="center", color=colour, fontsize=6,
                        transform=ax.get_yaxis_transform())  # fmt: skip
            half = 0.2 if len(near) > 1 else 0.0
            ax.errorbar(
                near["value"],
                y + np.linspace(-half, half, len(near)),
                xerr=near["spread"].fillna(0.0),
                fmt="o",
                markersize=3,
                color=colour,
                linewidth=0.9,
            )
            if found.empty:
                ends = own["ending"].dropna().tolist()
                why = shortest(ends) if ends else "no such score"
                ax.text(0.5, y, why, ha="center", va="center", color=colour, fontsize=6,
                        transform=ax.get_yaxis_transform(),
                        bbox={"facecolor": "white", "edgecolor": "none", "pad": 1})  # fmt: skip
        if ax.get_xscale() == "log":
            log_ticks(ax.xaxis)
        if 0 < n_models < len(rows):
            ax.axhline(n_models - 0.5, color=CONTROL, linewidth=0.5)
        side = "left" if quantity.ceiling is None else "right"
        ax.set_xlabel(f"{measure(quantity)}, {quantity.unit}\nbetter to the {side}")
        ax.set_ylim(len(rows) - 0.5, -0.5)
    axes[0].set_yticks(range(len(rows)), [_share_done(str(name), own) for name, own in rows])
    figure.suptitle(title)
    return figure


def _share_done(name: str, own: pd.DataFrame) -> str:
    """Label of a row, with the number of seeds done where it is not all."""
    seeds, done = own["seed"].nunique(), own.loc[own["ending"].isna(), "seed"].nunique()
    return label(name) + ("" if done == seeds else f"\n{done} of {seeds} seeds")


def predictions(
    examples: Mapping[str, Example],
    axis_labels: tuple[str, str],
    palette: Mapping[str, str],
    title: str,
) -> Figure:
    """Plot predictions of a channel, a row for each model and a column for each record.

    The vertical axis is that of the observed values, with a margin: a band may leave it.

    Parameters
    ----------
    examples : mapping
        Models -> predictions of the same records.
    axis_labels : (str, str)
        Of time and value.
    """
    first = next(iter(examples.values()))
    rows, columns = len(examples), len(first.t)
    figure = Figure(figsize=(2.3 * columns + 0.6, 1.05 * rows + 0.9))
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    crowd = max((first.shown | first.target).sum(1))
    size = float(np.clip(24 / np.sqrt(crowd), 0.9, 2.4))
    for line, (name, example) in zip(axes, examples.items(), strict=True):
        colour = palette.get(name, DATA)
        for k, ax in enumerate(line):
            t, x, shown, target = example.t[k], example.x[k], example.shown[k], example.target[k]
            ax.fill_between(t, example.low[k], example.high[k], color=colour, alpha=0.25,
                            linewidth=0)  # fmt: skip
            ax.plot(t, example.mean[k], color=colour, zorder=3)
            hidden = target & ~shown
            ax.plot(t[shown], x[shown], "o", color=DATA, markersize=0.7 * size)
            ax.plot(t[hidden], x[hidden], "o", color=DATA, markersize=size, markerfacecolor="none",
                    markeredgewidth=0.2 * size)  # fmt: skip
        line[0].set_ylabel(label(name))
    observed = first.x[first.shown | first.target]
    margin = 0.25 * (float(np.ptp(observed)) or 1.0)
    axes[0, 0].set_ylim(observed.min() - margin, observed.max() + margin)
    for k, ax in enumerate(axes[0]):
        ax.set_title(f"test record {k + 1}")
    hidden = (first.target & ~first.shown).any()
    names = ["shown", "hidden, to predict"] if hidden else ["shown and to predict"]
    dots = axes[0, 0].lines[1 : len(names) + 1]
    figure.legend(dots, names, loc="outside lower right", ncols=2)
    figure.supxlabel(axis_labels[0])
    figure.supylabel(axis_labels[1])
    figure.suptitle(title)
    return figure


def hidden_share(lines: pd.DataFrame, name: str, palette: Mapping[str, str], title: str) -> Figure:
    """Plot the error against the share of hidden time points, a line for each model and control.

    Parameters
    ----------
    lines : DataFrame
        As `share_lines` returns it.
    name : str
        Of the error.
    """
    rows = list(lines.groupby("model", sort=False))
    figure = Figure(figsize=(5.6, 3.4))
    ax = figure.subplots()
    models = controls = 0
    for model, own in rows:
        style: dict[str, Any]
        if own["control"].to_numpy().any():
            style = {"color": CONTROL, "linestyle": DASHES[controls % len(DASHES)]}
            controls += 1
        else:
            colour = palette.get(str(model), DATA)
            style = {"color": colour, "marker": MARKERS[models % len(MARKERS)], "markersize": 3}
            models += 1
        ax.errorbar(own["share"], own["value"], yerr=own["spread"], label=label(str(model)),
                    linewidth=1.0, elinewidth=0.6, **style)  # fmt: skip
    if max(lines["value"].tolist()) > 0:
        ax.set_yscale("log")
        log_ticks(ax.yaxis)
    ax.set(xlabel="hidden time points, %", ylabel=name, xticks=sorted(lines["share"].unique()))
    figure.legend(loc="outside right center")
    figure.suptitle(title)
    return figure


def training_curves(lines: pd.DataFrame, palette: Mapping[str, str], title: str) -> Figure:
    """Plot training and validation loss against the step, a panel for each model.

    Parameters
    ----------
    lines : DataFrame
        Columns model, seed, ending (None where all went well), step, loss, validation_loss.
    """
    rows = list(lines.groupby("model", sort=False))
    columns = min(len(rows), PER_LINE)
    height = -(-len(rows) // columns)
    figure = Figure(figsize=(2.3 * columns + 0.4, 2.0 * height + 0.4))
    axes = figure.subplots(height, columns, squeeze=False)
    for ax in axes.flat[len(rows) :]:
        ax.remove()
    for ax, (model, own) in zip(axes.flat[: len(rows)], rows, strict=True):
        name = str(model)
        drawn = [("loss", "-")]
        if own["validation_loss"].notna().to_numpy().any():  # a GAN has none
            drawn.append(("validation_loss", "--"))
        for loss, line in drawn:
            sns.lineplot(own, x="step", y=loss, units="seed", estimator=None, linestyle=line,
                         color=palette.get(name, DATA), alpha=0.8, ax=ax)  # fmt: skip
        ends = own.groupby("seed").tail(1).dropna(subset=["ending"])
        ax.plot(ends["step"], ends["loss"], "x", color=DATA)
        # a likelihood may change its sign and fall by orders of magnitude
        values = own[["loss", "validation_loss"]].to_numpy(dtype=float)
        low, high = np.nanmin(values), np.nanmax(values)
        if low > 0:
            ax.set_yscale("log")
            log_ticks(ax.yaxis)
        elif high - low > 20:
            ax.set_yscale("symlog")
        ax.set(title=label(name), xlabel="optimiser step", ylabel="")
    for ax in axes[:, 0]:
        ax.set_ylabel("loss")
    figure.suptitle(title)
    return figure


def log_ticks(axis: Axis) -> None:
    """Put plain numbers at 1 and 3 of each decade, at 1 alone where they would be too many."""
    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1, 3) if high < 2e3 * low else (1,)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


def _limits(values: np.ndarray, real: np.ndarray) -> tuple[float, float]:
    """Limits that show all values, but no more than the real range again above and below it."""
    span = float(np.ptp(real))
    low = max(float(values.min()), float(real.min()) - span)
    high = min(float(values.max()), float(real.max()) + span)
    return low - 0.05 * (high - low), high + 0.05 * (high - low)
