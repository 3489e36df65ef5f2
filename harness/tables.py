"""Tables as text, from records alone: CSV with all digits, Markdown and LaTeX to read.

Every table is of one budget. Cells are plain text with a few signs (± † ‡ ˢ ≥ – ↓ ↑) that the LaTeX
writer translates.
"""

import math
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

import pandas as pd

from harness import comparison
from harness.batches import steps_per_epoch
from harness.comparison import TABLE_OF, TABLES, Estimate, Published, Quantity, Row, Section
from harness.config import Protocol
from harness.errors import UserError
from harness.records import Record, write_text
from harness.typeset import Table, duration, latex, latex_note, markdown, markdown_text, number

LABELS = {  # what no rule derives from the configuration's names
    "ls4": "LS4",
    "ls4_paper": "LS4, paper",
    "ls4_time": "LS4 + time",
    "ls4_s4d_legs": "LS4, S4D-LegS",
    "ls4_s4d_lin": "LS4, S4D-Lin",
    "ls4_s4d_inv": "LS4, S4D-Inv",
    "ls4_s4_ptd": "LS4, S4-PTD",
    "ls4_union": "LS4, union grid",
    "rnn": "RNN",
    "gru_d": "GRU-D",
    "rnn_vae": "RNN-VAE",
    "ode_rnn": "ODE-RNN",
    "latent_ode": "Latent ODE",
    "cru": "CRU",
    "f_cru": "f-CRU",
    "gp_vae": "GP-VAE",
    "ode2vae": "ODE²VAE",
    "timegan": "TimeGAN",
    "sde_gan": "SDE-GAN",
    "sashimi": "SaShiMi",
    "noise_floor": "noise floor",
    "white_noise": "white noise",
    "gaussian": "Gaussian",
    "locf": "LOCF",
    "gp": "GP",
    "mse": "MSE",
    "crps": "CRPS",
    "neg_elbo": "negative ELBO",
}
BUDGETS = {
    "paper": "the paper's training",
    "cpu": "minutes of training on CPU cores, far less than the paper's",
    "smoke": "seconds of training: it shows that everything runs and says nothing about the models",
}
REFERENCE = "results/reference/tables"  # where the tables of README.md lie whole
MEMORISATION = {
    "nearest_train_generated": "generated to training",
    "nearest_train_test": "test to training",
    "nearest_train_ratio": "ratio",
}
CURVE = r"mse_micro(?:_hidden_(\d+))?"  # scores of interpolation by the share of hidden points
COMMON = ("wasserstein", "classification_accuracy", "classification_auc")  # scores of every set

LEGEND_SEEDS = (
    "seeds: done / run. A seed that is not done is named with its reason and not in the mean."
)
LEGEND = (
    "↓ lower is better. ↑ higher is better: a cross-entropy in nats. ln 2 = 0.693 means that the "
    "classifier cannot tell generated from real series; more means that it overfitted, not that "
    "the samples are better.",
    "literal: as the paper's released code computes it, by sums over batches and one evaluator "
    "fit. robust: means over samples and several evaluator fits.",
    "± standard deviation over training seeds, where there are several. [ ] standard deviation "
    "within a seed: over evaluator fits, for the marginal score over bootstrap resamples of the "
    "series; root mean square over seeds.",
    "† a control other than the noise floor has a better robust score (classification above ln 2 "
    "counts as ln 2).",
    "‡ the robust score is no worse than the noise floor's by more than the noise floor's [ ]: "
    "this score cannot tell the row from real series.",
    "Controls are not trained. noise floor: training series; memoriser: training series drawn "
    "with replacement; Gaussian: the training series' mean and covariance; persistence: predicts "
    "the last value; white noise: the training data's mean and deviation.",
    LEGEND_SEEDS,
)
LEGEND_MEMORISATION = (
    "Median distance (root mean square over a series, in normalised units) to the nearest training "
    "series, of generated series and of real test series. A ratio near 1: generated series are as "
    "new as real ones; far below: copies; far above: unlike any real series.",
    "± standard deviation over training seeds, where there are several.",
)
LEGEND_OWN = (
    "Scores that only this data set has, 0 is best in all (never_ignited_real is a property of the "
    "data). Steps count from 0.",
    "± standard deviation over training seeds, where there are several.",
)
LEGEND_TASKS = (
    "reconstruction: all observed values are shown and the same values are scored; nothing is "
    "missing. It is what the paper and the released codes call interpolation. interpolation: a "
    "share of a record's time points is hidden, and these alone are scored. extrapolation: the "
    "first half of the time axis is shown, the second scored.",
    "Values are in each data set's normalised units (docs/data.md): data sets cannot be compared.",
)
LEGEND_UNION = (
    "ᵘ on the union of a batch's time points, as released: what is predicted of a record depends "
    "on the others in its batch."
)
LEGEND_INTERPOLATORS = (
    "Controls are not trained. mean: of the training values; LOCF: the last value shown; linear: "
    "between the values shown; GP: a Gaussian process. All channel by channel. In reconstruction, "
    "LOCF and linear return what they are shown."
)
LEGEND_OVERVIEW = (
    "MSE × 1e-3 of the mean of all draws over all scored values (micro).",
    "± standard deviation over training seeds, where there are several.",
    "† a control does better. – not run.",
    *LEGEND_TASKS,
    LEGEND_INTERPOLATORS,
)
LEGEND_VARIANTS = (
    "What each variant changes: config/models/, the files with a `base`.",
    *LEGEND[:5],
    LEGEND_SEEDS,
)
LEGEND_TABLE2 = (
    "↓ lower is better. All but literal are of the mean of all draws from a model.",
    *LEGEND_TASKS,
    "literal: as the released code computes it, of one draw, over all pairs of record and channel, "
    "a pair without a value counting as error 0. macro: over the pairs with a value. micro: over "
    "all values, the number to compare.",
    "CRPS: continuous ranked probability score of the predictive distribution over all values; of "
    "a point forecast it is the absolute error.",
    "± standard deviation over training seeds, where there are several. [ ] standard deviation "
    "under resampling of the test records; root mean square over seeds.",
    "† a control has a better score of this kind.",
    LEGEND_INTERPOLATORS,
    LEGEND_SEEDS,
)
LEGEND_ELBO = (
    "↓ lower is better. Nats for each test record, on average: KL + NLL of its scored values, one "
    "draw. Models without a bound are not shown.",
    "floor: the NLL of a model that predicts every value exactly. It follows from sigma, the "
    "deviation of an observation that the model was given: numbers with different sigma, or on "
    "different values, say nothing about each other.",
    "± standard deviation over training seeds, where there are several. [ ] standard error over "
    "test records; root mean square over seeds.",
    LEGEND_SEEDS,
)
LEGEND_HIDDEN = (
    "MSE × 1e-3 ↓ of the mean of the draws over all scored values, of one trained model, where a "
    "share of each record's time points is hidden. ‖ the share of training and of Table 2.",
    "± standard deviation over training seeds, where there are several. [ ] standard deviation "
    "under resampling of the test records; root mean square over seeds.",
    LEGEND_SEEDS,
)
LEGEND_COSTS = (
    "Means over all seeds that were run, done or not. time per epoch: training time over steps, "
    "times the steps of a pass over the training data; the losses on the validation data are in "
    "it. sampling: drawing samples, or predicting and scoring predictions; scoring: the rest. Peak "
    "memory: of the tensors on a GPU, of the whole process on a CPU.",
    "Times are those of the clock, whatever else ran on the machine. docs/models.md has costs that "
    "were measured with nothing beside.",
)


@dataclass(frozen=True)
class Document:
    """Tables of one kind and, unless they are of run times, one budget; the same as a frame."""

    kind: str
    budget: str | None
    name: str
    tables: list[Table]
    legend: tuple[str, ...]
    frame: pd.DataFrame

    @property
    def stem(self) -> str:
        """Of its files."""
        return self.kind if self.budget is None else f"{self.kind}_{self.budget}"

    @property
    def title(self) -> str:
        if self.budget is None:
            return self.name
        return f"{self.name}; budget {self.budget}: {BUDGETS[self.budget]}"


def write(records: list[Record], out: Path) -> list[Path]:
    """Write every document as .csv, .md and .tex below `out` and return the paths.

    Raises
    ------
    UserError
        If two records have the same identity.
    """
    return write_documents(documents(records), out)


def write_documents(some: Sequence[Document], out: Path) -> list[Path]:
    """Write documents as .csv, .md and .tex below `out` and return the paths."""
    paths = []
    for document in some:
        texts = {
            ".csv": document.frame.to_csv(index=False, lineterminator="\n"),
            ".md": _markdown_document(document),
            ".tex": _latex_document(document),
        }
        for suffix, text in texts.items():
            path = out / f"{document.stem}{suffix}"
            write_text(path, text)
            paths.append(path)
    return paths


def documents(records: list[Record]) -> list[Document]:
    """Return all tables, budget by budget: the paper's with their companions, then the costs."""
    found = []
    everything = comparison.sections(records)
    for budget in comparison.BUDGETS:
        with_variants = [s for s in everything if s.head.budget == budget]
        of_budget = [s.without_variants for s in with_variants]
        for table, make in {"table1": _table1, "table2": _table2}.items():
            compared = [s for s in of_budget if TABLE_OF[s.head.task] == table]
            if compared:
                found += make(compared, budget)
        if ran := _ran(of_budget):
            by_task = [list(group) for _, group in groupby(ran, lambda s: s.head.task)]
            costs = [_costs(group) for group in by_task]
            found.append(Document("costs", budget, "Costs", costs, LEGEND_COSTS, _costs_frame(ran)))
        if variants := [s.variants for s in with_variants if s.variants]:
            found.append(_variants(variants, budget))
    return found


def _variants(compared: list[Section], budget: str) -> Document:
    make = {"table1": _scores, "table2": _errors}
    tables = [make[TABLE_OF[s.head.task]](s, _title(s, compared)) for s in compared]
    tables += [_costs([Section(tuple(s.models))]) for s in compared]
    frame = comparison.tidy(compared)
    return Document("variants", budget, "Variants of a model", tables, LEGEND_VARIANTS, frame)


def _table1(compared: list[Section], budget: str) -> list[Document]:
    ran = _ran(compared)
    frame = comparison.tidy(compared)
    own = [s for s in ran if own_scores(s)]
    found = [
        Document(
            "table1",
            budget,
            "Table 1: generation",
            [_scores(section, _title(section, compared)) for section in ran] + _absent(compared),
            LEGEND + _published_legend("table1", compared),
            frame,
        ),
        Document(
            "memorisation",
            budget,
            "Memorisation: generation",
            [_memorisation(section, _title(section, compared)) for section in ran],
            LEGEND_MEMORISATION,
            _only(frame, list(MEMORISATION)),
        ),
        Document(
            "own_scores",
            budget,
            "Own scores of a data set: generation",
            [_own(section, _title(section, compared)) for section in own],
            LEGEND_OWN,
            _only(frame, [name for s in own for name in own_scores(s)]),
        ),
    ]
    return [document for document in found if document.tables]


def _table2(compared: list[Section], budget: str) -> list[Document]:
    ran = _ran(compared)
    frame = comparison.tidy(compared)
    union = (LEGEND_UNION,) if any(row.union for s in compared for row in s.rows) else ()
    bounds = [s for s in ran if _with_bound(s)]
    curves = [s for s in ran if s.head.task == "interpolation" and len(shares(s)) > 1]
    tasks = ", ".join(dict.fromkeys(s.head.task for s in compared))
    found = [
        Document(
            "overview",
            budget,
            "Overview of table 2",
            [_overview(compared)] if ran else _absent(compared),
            LEGEND_OVERVIEW + union,
            _only(frame, ["mse_micro"]),
        ),
        Document(
            "table2",
            budget,
            f"Table 2: {tasks}",
            [_errors(section, _title(section, compared)) for section in ran] + _absent(compared),
            LEGEND_TABLE2 + union + _published_legend("table2", compared),
            frame,
        ),
        Document(
            "elbo",
            budget,
            "Negative ELBO",
            [_bounds(section, _title(section, compared)) for section in bounds],
            LEGEND_ELBO + LEGEND_TASKS + union + _published_legend("elbo", bounds),
            frame.loc[frame["score"].str.startswith("neg_elbo"), :],
        ),
        Document(
            "hidden",
            budget,
            "MSE against the share of hidden points",
            [_hidden(section, _title(section, compared)) for section in curves],
            LEGEND_HIDDEN + LEGEND_TASKS[1:] + (LEGEND_INTERPOLATORS,) + union,
            frame.loc[frame["score"].str.fullmatch(CURVE) & (frame["task"] == "interpolation"), :],
        ),
    ]
    return [document for document in found if document.tables]


def details(overview: Document, everything: list[Document]) -> list[Document]:
    """Return the documents that an overview sums up; none for one that is no overview."""
    kinds = ("table2", "elbo", "hidden", "costs") if overview.kind == "overview" else ()
    return [d for d in everything if d.kind in kinds and d.budget == overview.budget]


def _ran(compared: list[Section]) -> list[Section]:
    return [section for section in compared if not section.skipped]


def _only(frame: pd.DataFrame, scores: list[str]) -> pd.DataFrame:
    return frame.query("score in @scores")


def own_scores(section: Section) -> list[str]:
    """Names of the scores that only this data set has."""
    common = {score for q in section.quantities.values() for score in (q.literal, q.robust)}
    common |= {*MEMORISATION, *COMMON}
    return [name for name in section.scores() if name not in common]


def shares(section: Section) -> dict[float, str]:
    """Return the scores of interpolation by the share of hidden points that they are taken at."""
    found = {Protocol(**section.head.protocol).hidden: "mse_micro"}
    for name in section.scores():
        percent = re.fullmatch(CURVE, name)
        if percent and percent[1]:
            found[int(percent[1]) / 100] = name
    return dict(sorted(found.items()))


def label(name: str) -> str:
    """Return how a reader knows a model, a control or a quantity."""
    return LABELS.get(name, name)


def measure(quantity: Quantity) -> str:
    """Return a quantity with its factor, "MSE × 1e-3"."""
    factor = "" if quantity.scale == 1 else f" × 1e{-round(math.log10(quantity.scale))}"
    return label(quantity.name) + factor


def heading(quantity: Quantity) -> str:
    """Return a quantity with its factor and the direction that is better, "MSE × 1e-3 ↓"."""
    return f"{measure(quantity)} {'↓' if quantity.ceiling is None else '↑'}"


def _row_label(row: Row) -> str:
    return label(row.model) + ("ᵘ" if row.union else "")


# -- the tables -----------------------------------------------------------------------------------


def _title(section: Section, compared: list[Section]) -> str:
    head = section.head
    channels = "1 channel" if head.channels == 1 else f"{head.channels} channels"
    if head.task == "generation":
        title = (
            f"{head.title}, budget {head.budget}: {head.n_test} test series of {head.length} steps,"
            f" {channels}; {head.evaluator_fits} evaluator fits of {head.evaluator_epochs} epochs"
        )
    else:
        counts = [row.estimate("mse_micro").n for row in section.rows]
        n = next((count for count in counts if count is not None), None)
        title = (
            f"{head.title}, {head.task}{_protocol(head)}, budget {head.budget}: {head.n_test} test"
            f" records{'' if n is None else f', {n} with values to predict'}, of up to"
            f" {head.length} time points, {channels}; {head.draws} draws"
        )
    alike = [s for s in compared if (s.head.dataset, s.head.task) == (head.dataset, head.task)]
    if len(alike) > 1:
        title += f"; data {head.data_digest[:8]}, split {head.split_digest[:8]}"
        title += f", protocol {comparison.footing(head)['protocol']}" if head.protocol else ""
    return title


def _protocol(head: Record) -> str:
    protocol = Protocol(**head.protocol)
    if head.task == "interpolation":
        return f" with {100 * protocol.hidden:g} % hidden"
    if head.task == "extrapolation" and protocol.cut == "count":
        return " from the middle row of a batch"
    return ""


def _scores(section: Section, title: str) -> Table:
    columns = [("", "")]
    for quantity in section.quantities.values():
        group = heading(quantity)
        columns += [(group, "published"), (group, "literal"), (group, "robust")]

    def line(row: Row) -> list[str]:
        cells = [_row_label(row)]
        for quantity in section.quantities.values():
            cells += [
                _published(section, row, quantity),
                text(row, row.estimate(quantity.literal)),
                _judged(section, row, quantity),
            ]
        return [*cells, seeds(row)]

    return _table(title, [*columns, ("", "seeds")], section.rows, line, _notes(section))


def _errors(section: Section, title: str) -> Table:
    mse, crps = (section.quantities[name] for name in ("mse", "crps"))
    columns = [
        ("", ""),
        (heading(mse), "published"),
        (heading(mse), "literal: one draw, empty pairs as 0"),
        (heading(mse), "macro"),
        (heading(mse), "micro"),
        (heading(crps), "micro"),
        ("", "seeds"),
    ]

    def line(row: Row) -> list[str]:
        literal, macro = (row.estimate(score) for score in (mse.literal, "mse_macro"))
        return [
            _row_label(row),
            _published(section, row, mse),
            text(row, literal, evaluator=False, scale=mse.scale),
            text(row, macro, evaluator=False, scale=mse.scale),
            _judged(section, row, mse),
            _judged(section, row, crps),
            seeds(row),
        ]

    return _table(title, columns, section.rows, line, _notes(section))


def _overview(compared: list[Section]) -> Table:
    """One column for each data set and task, one row for each model and control."""
    datasets = list(dict.fromkeys(s.head.dataset for s in compared))
    ran = sorted(_ran(compared), key=lambda s: datasets.index(s.head.dataset))
    cells: dict[str, dict[int, str]] = {}
    rows: dict[str, Row] = {}  # a model's records of all columns
    for column, section in enumerate(ran):
        for row in (row for row in section.rows if row.records):
            before = rows[row.model].records if row.model in rows else ()
            rows[row.model] = Row(row.model, row.control, before + row.records)
            cell = _judged(section, row, section.quantities["mse"], evaluator=False)
            if row.done and row.failed:
                cell += f" ({len(row.done)} of {len(row.records)} seeds)"
            cells.setdefault(row.model, {})[column] = cell
    columns = [("", "")]
    for section in ran:
        head = section.head
        alike = [s for s in ran if (s.head.dataset, s.head.task) == (head.dataset, head.task)]
        which = "" if len(alike) == 1 else f" {alike.index(section) + 1}"
        columns.append((head.title, head.task + which))
    notes = [
        f"{section.head.title}: {section.head.n_test} test records, "
        f"{section.head.channels} channels, {section.head.draws} draws"
        for section in {s.head.dataset: s for s in ran}.values()
    ]

    def line(row: Row) -> list[str]:
        return [_row_label(row), *(cells[row.model].get(i, "–") for i in range(len(ran)))]

    lines = [(row.control, line(row)) for row in sorted(rows.values(), key=comparison.order)]
    models, controls = ([cells for c, cells in lines if c is control] for control in (False, True))
    title = f"MSE × 1e-3, budget {compared[0].head.budget}"
    return Table(title, columns, models, controls, [*notes, *_reasons(compared)])


def _absent(compared: list[Section]) -> list[Table]:
    """One line for each data set that could not be had; what was published about it as a note."""
    skipped = [section for section in compared if section.skipped]
    if not skipped:
        return []
    lines, notes = [], _reasons(compared)
    for name in dict.fromkeys(s.head.dataset for s in skipped):
        own = [s for s in skipped if s.head.dataset == name]
        tasks = ", ".join(dict.fromkeys(s.head.task for s in own))
        cells = sum(len(row.records) for s in own for row in s.rows)
        lines.append([own[0].head.title, tasks, str(cells)])
    for section in skipped:
        for quantity in section.quantities.values():
            numbers = {r.model: _published(section, r, quantity) for r in section.rows}
            known = [f"{label(model)} {n}" for model, n in numbers.items() if n != "–"]
            if known:
                what = f"{section.head.title}, {section.head.task}, published"
                notes.append(f"{what} {heading(quantity)}: {', '.join(known)}")
        notes += [f"{section.head.title}: {note}" for note in _notes(section)]
    columns = [("", name) for name in ("data set", "tasks", "cells")]
    return [Table("Data sets that were not run", columns, lines, [], notes)]


def _reasons(compared: list[Section]) -> list[str]:
    found = (f"{s.head.title}: not run, {s.skipped}" for s in compared if s.skipped)
    return list(dict.fromkeys(found))


def _with_bound(section: Section) -> list[Row]:
    """Rows that have a negative ELBO, ours or published."""
    known = comparison.published(section.head.task, section.head.dataset)
    return [
        row
        for row in section.rows
        if row.estimate("neg_elbo").scored or "neg_elbo" in known.get(row.model, {})
    ]


def _bounds(section: Section, title: str) -> Table:
    quantity = section.quantities["neg_elbo"]
    parts = {"KL": "neg_elbo_kl", "NLL": "neg_elbo_nll"}
    fixed = {"floor": "neg_elbo_floor", "sigma": "neg_elbo_sigma"}  # the same for all seeds
    group = f"{heading(quantity)}, nats a record"
    columns = [("", ""), (group, "published"), (group, "ours"), *((group, name) for name in parts)]
    columns += [(group, "floor"), ("", "sigma"), ("", "per value"), ("", "seeds")]

    def line(row: Row) -> list[str]:
        return [
            _row_label(row),
            _published(section, row, quantity),
            text(row, row.estimate(quantity.robust)),
            *(text(row, row.estimate(score), evaluator=False) for score in parts.values()),
            *(text(row, replace(row.estimate(score), seed_spread=None), evaluator=False)
              for score in fixed.values()),
            text(row, row.estimate("neg_elbo_per_value"), evaluator=False),
            seeds(row),
        ]  # fmt: skip

    return _table(title, columns, _with_bound(section), line, [])


def _hidden(section: Section, title: str) -> Table:
    mse = section.quantities["mse"]
    columns = [("", "")]
    columns += [
        ("hidden", f"{100 * share:g} %" + ("‖" if score == mse.robust else ""))
        for share, score in shares(section).items()
    ]

    def line(row: Row) -> list[str]:
        cells = [text(row, row.estimate(s), scale=mse.scale) for s in shares(section).values()]
        return [_row_label(row), *cells, seeds(row)]

    rows = [row for row in section.rows if row.records]
    return _table(title, [*columns, ("", "seeds")], rows, line, [])


def _notes(section: Section) -> list[str]:
    """What else was published about a data set."""
    found = []
    for note in comparison.notes(section.head.task, section.head.dataset):
        numbers = [f"{label(name)} {v} ± {s}" for name, (v, s) in note.get("printed", {}).items()]
        found.append(note["text"] + (f": {', '.join(numbers)}" if numbers else ""))
    return found


def _memorisation(section: Section, title: str) -> Table:
    def line(row: Row) -> list[str]:
        cells = [text(row, row.estimate(name), evaluator=False) for name in MEMORISATION]
        return [_row_label(row), *cells, seeds(row)]

    columns = [("", heading) for heading in ("", *MEMORISATION.values(), "seeds")]
    return _table(title, columns, _with_any(section, list(MEMORISATION)), line, [])


def _table(
    title: str,
    columns: list[tuple[str, str]],
    rows: Sequence[Row],
    line: Callable[[Row], list[str]],
    notes: list[str],
) -> Table:
    models = [line(row) for row in rows if not row.control]
    controls = [line(row) for row in rows if row.control]
    return Table(title, columns, models, controls, [*_failures(rows), *_frozen(rows), *notes])


def _with_any(section: Section, scores: list[str]) -> list[Row]:
    """Rows that were run and have one of some scores, or failed before they could have it."""
    return [
        row
        for row in section.rows
        if row.failed or any(row.estimate(score).scored for score in scores)
    ]


def _own(section: Section, title: str) -> Table:
    """A column for each row of the other tables: there are more scores than rows."""
    names = own_scores(section)
    rows = _with_any(section, names)
    columns = [("", "score")]
    columns += [("controls" if row.control else "models", _row_label(row)) for row in rows]
    lines = [
        [name, *(text(row, row.estimate(name), evaluator=False) for row in rows)] for name in names
    ]
    return Table(title, columns, lines, [], _failures(rows))


def _costs(compared: list[Section]) -> Table:
    """Costs of the cells of one task."""
    columns = (
        "data set, model", "seeds", "parameters", "steps", "training", "time per epoch", "sampling",
        "scoring", "peak memory", "device",
    )  # fmt: skip
    lines = []
    for section in compared:
        for row in section.models:
            if not row.records:
                continue
            costs = _costs_frame([Section((row,))])
            memory, epoch = costs.peak_memory_bytes.mean() / 2**20, costs.epoch_seconds.mean()
            lines.append(
                [
                    f"{section.head.title}, {_row_label(row)}",
                    seeds(row),
                    f"{costs.parameters.max():,}",
                    f"{costs.steps.mean():,.0f}",
                    duration(costs.train_seconds.mean()),
                    "–" if pd.isna(epoch) else duration(epoch),
                    duration(costs.sample_seconds.mean()),
                    duration(costs.score_seconds.mean()),
                    "–" if pd.isna(memory) else f"{memory:,.0f} MiB",
                    ", ".join(dict.fromkeys(costs.device)),
                ]
            )
    head = compared[0].head
    title = f"Costs of a cell: {head.task}, budget {head.budget}"
    return Table(title, [("", c) for c in columns], lines, [], [])


def _costs_frame(compared: list[Section]) -> pd.DataFrame:
    """One line for each cell."""
    fields = (
        "budget", "task", "dataset", "model", "seed", "control", "status", "parameters", "steps",
        "train_seconds", "sample_seconds", "score_seconds", "peak_memory_bytes", "device",
        "threads", "date",
    )  # fmt: skip
    records = [r for section in compared for row in section.rows for r in row.records]
    frame = pd.DataFrame([{f: getattr(r, f) for f in fields} for r in records])
    frame["epoch_seconds"] = [_epoch_seconds(r) for r in records]
    return frame.astype({"peak_memory_bytes": "Int64", "epoch_seconds": float})


def _epoch_seconds(record: Record) -> float | None:
    """Training time, with that of the validation losses, of a pass over the training data."""
    if not record.steps:
        return None
    batch_size = record.settings["training"]["batch_size"]
    return record.train_seconds / record.steps * steps_per_epoch(record.n_train, batch_size)


def _failures(rows: Sequence[Row]) -> list[str]:
    return [
        f"{label(row.model)}, seed {record.seed}: {record.status}, {record.reason}"
        for row in rows
        for record in row.failed
    ]


def _frozen(rows: Sequence[Row]) -> list[str]:
    """Say of trainings that a schedule ended before their last step where that was."""
    found = []
    for row in rows:
        records = [r for r in row.done if r.ended == "frozen"]
        for planned, group in groupby(records, lambda r: r.settings["training"]["steps"]):
            steps = [r.steps for r in group]
            at = (
                f"step {min(steps):,}"
                if len(steps) == 1
                else f"steps {min(steps):,} to {max(steps):,}"
            )
            found.append(f"{label(row.model)}: schedule frozen at {at} of {planned:,}")
    return found


def _published_legend(block: str, compared: list[Section]) -> tuple[str, ...]:
    """What to know of the numbers of a block of ``published.yaml``."""
    wanted = ["neg_elbo"] if block == "elbo" else [
        q.name for q in TABLES[block].quantities if not q.optional
    ]  # fmt: skip
    cells = [
        number
        for section in compared
        for numbers in comparison.published(section.head.task, section.head.dataset).values()
        for name, number in numbers.items()
        if name in wanted
    ]
    kind = "" if block == "elbo" else ", of the literal kind and without a spread"
    legend = (f"published: {comparison.paper(block)}{kind}. – unknown, or not applicable.",)
    sources = sorted({c.source for c in cells if c.certainty == "secondary"})
    if sources:
        legend += (
            "ˢ secondary: read in another project's transcription, not in the paper "
            f"({', '.join(sources)}).",
        )
    return legend


# -- the text of a cell ---------------------------------------------------------------------------


def text(row: Row, estimate: Estimate, evaluator: bool = True, scale: float = 1.0) -> str:
    """Return a score as ``value ± spread over seeds [spread of the evaluator]``, or why not.

    Parameters
    ----------
    evaluator : bool
        Whether to show the spread in brackets.
    scale : float
        Factor of all numbers.
    """
    if not row.records:
        return "not run"
    if not row.done:
        return shortest([ending(record) for record in row.failed])
    if not estimate.scored:
        return "–"
    if estimate.value is None:
        return "not finite"
    cell = number(scale * estimate.value)
    if estimate.seed_spread is not None:
        cell += f" ± {number(scale * estimate.seed_spread, 2)}"
    if evaluator and estimate.evaluator_spread is not None:
        cell += f" [{number(scale * estimate.evaluator_spread, 2)}]"
    if estimate.finite < estimate.scored:
        cell += f" ({estimate.scored - estimate.finite} not finite)"
    return cell


def _judged(section: Section, row: Row, quantity: Quantity, evaluator: bool = True) -> str:
    """Return a robust score with the marks that it earns."""
    marks = "†" if section.better_controls(row, quantity.name) else ""
    marks += "‡" if section.within_floor(row, quantity.name) else ""
    cell = text(row, row.estimate(quantity.robust), evaluator, quantity.scale)
    return f"{cell} {marks}" if marks else cell


def _published(section: Section, row: Row, quantity: Quantity) -> str:
    """Return a published number with the digits that were printed."""
    known = comparison.published(section.head.task, section.head.dataset)
    found: Published | None = known.get(row.model, {}).get(quantity.name)
    if found is None:
        return "–"
    return f"{quantity.scale * found.value:.4g}" + ("ˢ" if found.certainty == "secondary" else "")


def seeds(row: Row) -> str:
    """Return how many seeds are done and how the others ended, "2/3, diverged at step 9"."""
    if not row.records:
        return "–"
    count = f"{len(row.done)}/{len(row.records)}"
    if not row.done or not row.failed:
        return count
    return f"{count}, {shortest([ending(record) for record in row.failed])}"


def ending(record: Record) -> str:
    """Return in a few words how a cell ended, "diverged at step 12"."""
    reason = record.reason or ""
    step = re.search(r"\bstep (\d+)", reason)
    if step:
        return f"{record.status} at step {step[1]}"
    short = textwrap.shorten(reason.partition(":")[0], 30, placeholder="…")
    return f"{record.status}: {short}" if short else record.status


def shortest(endings: list[str]) -> str:
    """Return the ending that all share, or else only the statuses."""
    different = list(dict.fromkeys(endings))
    if len(different) == 1:
        return different[0]
    return ", ".join(dict.fromkeys(re.split("[ :]", e)[0] for e in different))


# -- documents ------------------------------------------------------------------------------------


def _markdown_blocks(tables: list[Table], heading: str) -> list[str]:
    blocks = []
    for table in tables:
        blocks += [f"{heading} {table.title}", markdown(table)]
        blocks += ["\n".join(f"* {markdown_text(note)}" for note in table.notes)]
    return [block for block in blocks if block]


def _markdown_document(document: Document) -> str:
    blocks = [f"# {document.title}", *_markdown_blocks(document.tables, "##"), "---"]
    return "\n\n".join([*blocks, *document.legend]) + "\n"


def readme_section(records: list[Record], table: str = "table1") -> str:
    """Return a table of the paper, all budgets, as one piece of Markdown for README.md.

    Table 1 whole; of table 2 the overview, with links to the rest.
    """
    shown = {"table1": "table1", "table2": "overview"}[table]
    everything = documents([r for r in records if TABLE_OF[r.task] == table])
    blocks, legend = [], {}
    for document in (d for d in everything if d.kind == shown):
        blocks += [f"### {document.title}", *_markdown_blocks(document.tables, "####")]
        links = [f"[{d.name}]({REFERENCE}/{d.stem}.md)" for d in details(document, everything)]
        blocks += ["In detail: " + "; ".join(links)] if links else []
        legend |= dict.fromkeys(document.legend)
    notes = "\n".join(f"* {line}" for line in legend)
    summary = "<summary>How to read the table: signs, columns, controls</summary>"
    return "\n\n".join([*blocks, f"<details>\n{summary}\n\n{notes}\n\n</details>"])


def update_readme(path: Path, records: list[Record]) -> None:
    """Replace what stands between ``<!-- table1:begin -->`` and ``table1:end``; table 2 likewise.

    A table of which there is no record is left alone.

    Raises
    ------
    UserError
        Unless the file has one pair of markers for each other table.
    """
    shown = dict.fromkeys(TABLE_OF[record.task] for record in records)
    update_sections(path, {table: readme_section(records, table) for table in shown})


def update_sections(path: Path, sections: Mapping[str, str]) -> None:
    """Replace what stands between ``<!-- name:begin -->`` and ``<!-- name:end -->`` in a file.

    Raises
    ------
    UserError
        Unless the file has one pair of markers for each name; it is left as it is.
    """
    text = path.read_text(encoding="utf-8")
    for name, section in sections.items():
        begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
        between = re.compile(f"{begin}.*{end}", re.DOTALL)
        if text.count(begin) != 1 or text.count(end) != 1 or not between.search(text):
            raise UserError(f"{path}: expected one line {begin} and below it one line {end}")
        text = between.sub(lambda _, new=f"{begin}\n{section}\n{end}": new, text)
    write_text(path, text)


def _latex_document(document: Document) -> str:
    comment = f"% {document.title}\n% \\usepackage{{booktabs,adjustbox}}"
    legend = "\n".join(map(latex_note, document.legend))
    return "\n\n".join([comment, *map(latex, document.tables), legend]) + "\n"
