"""The table of decisions: which rows are told apart from real series, what the tests can see."""

from collections.abc import Sequence

from harness import catalogue
from harness.powers import LEVEL, Power
from harness.present.comparison import TRAINING_SERIES, Comparison
from harness.present.decisions import (
    belongs,
    decided,
    decimals,
    distances,
    in_words,
    power_of,
    told_apart,
    training_series_told_apart,
)
from harness.present.tables import columns
from harness.present.tables.scores import score_table, title
from harness.present.tables.table import Document, Table
from harness.present.tables.tidy import tidy
from harness.present.text import number, paragraphs

STANDARDISED = "p_all_standardised"
REFERENCES = ("real", "memoriser")  # of which nothing is wrong that a test should find
FAULTS = {  # those that are no controls, which have labels of their own
    "leading_components": "Gaussian of 3 components",
    "circular_shift": "circular shift",
    "one_side": "one side of the first component",
    "moving_average": "moving average of 3",
    "noise_10": "noise 0.1",
    "shrunk_90": "shrunk to 90 %",
}


def document(
    compared: Sequence[Comparison], budget: str, powers: Sequence[Power]
) -> Document | None:
    """Return the decisions of one budget's generation; None where nothing was tested."""
    tested = [c for c in compared if decided(c)]
    if not tested:
        return None
    frame = tidy(tested)
    return Document(
        "decisions",
        budget,
        "Told apart from real series or not: generation",
        [table(c, title(c, compared), power_of(c, powers)) for c in tested],
        paragraphs("legends.j2", "decisions"),
        frame[frame["score"].map(belongs)],
    )


def table(c: Comparison, title: str, power: Power | None) -> Table:
    """Return verdicts, effects, and how near a row is to the training series."""
    c = c.with_any(["p_all"])
    weak = power.weak if power else ()
    cells = {("verdict", "as generated"): told_apart(c)}
    if STANDARDISED in c.score_names:
        cells["verdict", "standardised"] = told_apart(c, "_standardised")
    for name in distances(c):
        heading = f"{name} ◦" if name in weak else name
        cells["effect", heading] = columns.scores(c, f"effect_{name}", seed=False, form=decimals)
    # of the training series themselves, both would be true by construction
    is_training = c.rows.index == TRAINING_SERIES
    nearer = in_words(c, "p_nearer_train", "nearer", {})
    cells["training series:", "nearer than test"] = nearer.mask(is_training, "–")
    outside = columns.scores(c, "span_residual", seed=False, form=decimals)
    cells["training series:", "share outside span"] = outside.mask(is_training, "–")
    notes = [*_groups(c), *_span_of_test(c), _tests(c), *_unlike(c), *_seen(power)]
    return score_table(c, title, cells, notes)


def _groups(c: Comparison) -> list[str]:
    """Say how many of the test series are independent, where they are windows of fewer series."""
    if c.groups is None:
        return []
    return [
        f"The test series are of {c.groups} groups, such as windows of one series. A test takes one"
        " series of each group, and p is twice the median of ten tests"
    ]


def _span_of_test(c: Comparison) -> list[str]:
    """Say how much of the test series lies outside the training series' span."""
    known = c.estimate("span_residual_test")["value"].dropna()
    return [f"Share of the test series outside the span: {decimals(s)}" for s in known[:1]]


def _tests(c: Comparison) -> str:
    """Say how many tests a table holds."""
    n = int(c.lines["score"].isin(["p_all", STANDARDISED]).sum())
    return (
        f"{n} tests at a level of {100 * LEVEL:g} %, each a question of its own: no correction"
        f" across rows. If all rows were real series, {number(LEVEL * n, 2)} would be told apart on"
        " average"
    )


def _unlike(c: Comparison) -> list[str]:
    """Say so where the test series themselves are unlike the training series."""
    told, tested = training_series_told_apart(c)
    if 2 * told <= tested:
        return []
    return [
        f"The noise floor, real training series, is told apart in {told} of {tested}"
        f" {'seed' if tested == 1 else 'seeds'}: the test series of this split are unlike the"
        " training series, and a perfect model of these would be told apart, too"
    ]


def _seen(power: Power | None) -> list[str]:
    """Say which faults the tests can see on a data set."""
    if power is None:
        return ["Power was not measured on these data: it is not known what the tests can see here"]
    seen = {name: f"{_fault(name)} {_percent(by['all'])}" for name, by in power.shares.items()}
    faults = ", ".join(text for name, text in seen.items() if name not in REFERENCES)
    references = ", ".join(seen[name] for name in REFERENCES if name in seen)
    notes = [
        f"Power at n = {power.n}, the share of {power.splits} random splits in which a fault is"
        f" seen: {faults}. For comparison: {references}"
    ]
    if power.weak:
        weak = ", ".join(
            f"{name} ({_fault(power.targets[name])} {_percent(power.on_target(name))})"
            for name in power.weak
        )
        notes.append(f"◦ sees the fault that it is for in less than half of the splits: {weak}")
    return notes


def _fault(name: str) -> str:
    return "real series" if name == "real" else FAULTS.get(name) or catalogue.label(name)


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
