"""Figure 3 of the paper: run time and memory against length, a line for each model."""

from collections.abc import Callable, Iterator, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from harness import catalogue
from harness.measurements import BATCHES, ITERATIONS, Kind, Measurement, RunTime
from harness.present import published
from harness.present.figures.style import (
    DATA,
    MARKERS,
    PAGE,
    Drawn,
    caption,
    colour,
    label_right,
    log_ticks,
)
from harness.present.run_times import Resource, Study, elapsed, studies

MIB = 2**20


def figures(records: Sequence[RunTime]) -> Iterator[Drawn]:
    """Draw the figure of each machine."""
    for study in studies(records):
        yield Drawn(
            f"figure3_{study.slug}",
            growth(study),
            caption(
                "lengths",
                machine=study.title,
                iterations=ITERATIONS["training"],
                batch=BATCHES[0],
                factor=None if study.size else published.speed_claim().factor,
                ours=catalogue.label(study.ours),
            ),
        )


def growth(study: Study) -> Figure:
    """Plot times and memory against length, and a legend with the slopes."""
    figure = Figure(figsize=(PAGE, max(4.6, 0.32 * len(study.models) + 1.4)))
    axes = figure.subplots(2, 3)
    for ax, kind in zip(axes[0], ("training", "reconstruction", "generation"), strict=True):
        times = ITERATIONS[kind] if kind == "training" else 1
        _panel(ax, study, kind, lambda m, _, n=times: n * BATCHES[0] * elapsed(m) / m.batch)
        _late(ax, study, kind, times * BATCHES[0])
        if not study.size:  # the paper's claim is of models of its own sizes
            _claimed(ax, study, kind, times * BATCHES[0])
        what = f"training, {times} iterations" if kind == "training" else f"{kind}, one batch"
        ax.set(title=what, ylabel="seconds")
    a_step, memory, legend = axes[1]
    _panel(a_step, study, "generation", lambda m, length: elapsed(m) / m.batch / length)
    a_step.set(title="generation, a step of a series", ylabel="seconds")
    _panel(memory, study, "training", lambda m, _: _mebibytes(m), per_batch=True)
    memory.set(title="peak memory of training", ylabel="MiB")
    for ax in axes.flat[:-1]:
        _finish(ax, study)
    _smaller(memory, study)
    _legend(legend, study)
    figure.suptitle(f"Run time against length. {study.title}")
    return figure


def _panel(
    ax: Axes,
    study: Study,
    kind: Kind,
    of: Callable[[Measurement, int], float],
    per_batch: bool = False,
) -> None:
    """A line for each model; hollow markers where less was measured than asked for.

    Values `per_batch` of a smaller batch stand apart from the line.
    """
    for i, model in enumerate(study.models):
        found = {n: study.measurement(model, kind, n) for n in study.lengths}
        values = {n: of(m, n) for n, m in found.items() if m and m.status == "done"}
        style = {"color": colour(model), "marker": MARKERS[i % len(MARKERS)], "markersize": 4}
        smaller = {n for n, m in found.items() if m and m.batch < BATCHES[0]}
        line = [n for n in values if not (per_batch and n in smaller)]
        ax.plot(line, [values[n] for n in line], **style)
        for n, value in values.items():
            if n in smaller or ((m := found[n]) and m.iterations < m.wanted):
                ax.plot(n, value, markerfacecolor="white", **style)
        lost = [n for n, m in found.items() if m and m.status == "oom"]
        ax.plot(lost, [0.98 - 0.025 * i] * len(lost), "+", color=colour(model), markersize=5,
                transform=ax.get_xaxis_transform(), in_layout=False)  # fmt: skip


def _mebibytes(m: Measurement) -> float:
    return (m.peak_memory_bytes or 0) / MIB


def _smaller(ax: Axes, study: Study) -> None:
    """The batch beside the memory of each smaller one."""
    ax.margins(x=0.12)  # room for it
    for n in study.lengths:
        found = {model: study.measurement(model, "training", n) for model in study.models}
        label_right(ax, float(n), [
            (_mebibytes(m), f"{m.batch}", colour(model))
            for model, m in found.items() if m and m.status == "done" and m.batch < BATCHES[0]
        ])  # fmt: skip


def _late(ax: Axes, study: Study, kind: Kind, series: int) -> None:
    """A cross at the least time of what did not finish."""
    for model in study.models:
        ranges = {n: study.seconds(model, kind, n) for n in study.lengths}
        late = {n: series * r.low for n, r in ranges.items() if r and r.low < r.high}
        ax.plot(list(late), list(late.values()), "x", color=colour(model), markersize=5)


def _claimed(ax: Axes, study: Study, kind: Kind, series: int) -> None:
    """Where the paper's claim puts the baselines."""
    factor = published.speed_claim().factor
    ranges = {n: study.seconds(study.ours, kind, n) for n in study.lengths}
    known = {n: factor * series * r.low for n, r in ranges.items() if r and r.low == r.high}
    ax.plot(list(known), list(known.values()), ":", color=DATA, linewidth=0.8)
    if known:
        n, name = max(known), f"{factor} × {catalogue.label(study.ours)}"
        ax.text(n, 1.2 * known[n], name, ha="right", va="bottom", fontsize=7)
        ax.margins(y=0.12)  # room for it


def _finish(ax: Axes, study: Study) -> None:
    ax.set(xscale="log", yscale="log", xlabel="length")
    ax.xaxis.set_major_locator(FixedLocator(study.lengths))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter("{x:.0f}")
    log_ticks(ax.yaxis)
    ax.grid(axis="y", color="0.9", linewidth=0.5)
    ax.set_axisbelow(True)


def _legend(ax: Axes, study: Study) -> None:
    """Names of the models, and the slopes of their lines in columns."""
    ax.set(xlim=(0, 1), ylim=(len(study.models) + 0.5, -1.5))
    ax.set_axis_off()
    columns: dict[str, tuple[Kind, Resource]] = {
        "train": ("training", "time"),
        "rec.": ("reconstruction", "time"),
        "gen.": ("generation", "time"),
        "mem.": ("training", "memory"),
    }
    places = [0.78 + 0.185 * k for k in range(len(columns))]
    ax.text(places[0] - 0.08, -1.3, "slopes", va="center", fontsize=7)
    for x, name in zip(places, columns, strict=True):
        ax.text(x, -0.4, name, ha="center", va="center", fontsize=7)
    for i, model in enumerate(study.models):  # i is that of the marker in `_panel`
        ax.plot([0, 0.08], [i + 0.4] * 2, color=colour(model))
        ax.plot(0.04, i + 0.4, MARKERS[i % len(MARKERS)], color=colour(model), markersize=4)
        ax.text(0.1, i + 0.4, catalogue.label(model), va="center", fontsize=7)
        for x, (kind, of) in zip(places, columns.values(), strict=True):
            fit = study.growth(model, kind, of)
            ax.text(x, i + 0.4, f"{fit.slope:.2f}" if fit else "–", ha="center", va="center",
                    fontsize=7)  # fmt: skip
    ax.set_in_layout(False)  # it takes the room that the panels leave
