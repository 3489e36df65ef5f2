"""Tables as text, from records alone: CSV with all digits, Markdown and LaTeX to read.

Every table is of one budget. Cells are plain text with a few signs (± † ‡ ˢ – ↓ ↑) that the LaTeX
writer translates.
"""

import re
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import pandas as pd

from harness import comparison
from harness.comparison import SCORES, Estimate, Row, Section
from harness.errors import UserError
from harness.records import Record, write_text
from harness.typeset import Table, duration, latex, latex_note, markdown, markdown_text, number

LABELS = {  # what no rule derives from the configuration's names
    "ls4": "LS4",
    "rnn_vae": "RNN-VAE",
    "latent_ode": "Latent ODE",
    "sashimi": "SaShiMi",
    "noise_floor": "noise floor",
    "white_noise": "white noise",
    "gaussian": "Gaussian",
}
ARROWS = {"marginal": "↓", "classification": "↑", "prediction": "↓"}
BUDGETS = {
    "paper": "the paper's training",
    "cpu": "minutes of training on CPU cores, far less than the paper's",
    "smoke": "seconds of training: it shows that everything runs and says nothing about the models",
}
MEMORISATION = {
    "nearest_train_generated": "generated to training",
    "nearest_train_test": "test to training",
    "nearest_train_ratio": "ratio",
}
COMMON = ("wasserstein", "classification_accuracy", "classification_auc")  # scores of every set

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
    "seeds: done / run. A seed that is not done is named with its reason and not in the mean.",
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
LEGEND_COSTS = (
    "Means over all seeds that were run, done or not. Peak memory: of the tensors on a GPU, of the "
    "whole process on a CPU.",
)


@dataclass(frozen=True)
class Document:
    """Tables of one kind and one budget, and the same as a tidy frame."""

    stem: str
    title: str
    tables: list[Table]
    legend: tuple[str, ...]
    frame: pd.DataFrame


def write(records: list[Record], out: Path) -> list[Path]:
    """Write every document as .csv, .md and .tex below `out` and return the paths.

    Raises
    ------
    UserError
        If two records have the same identity.
    """
    paths = []
    for document in documents(records):
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
    """Return all tables, budget by budget: the paper's, memorisation, costs, own scores."""
    found = []
    everything = comparison.sections(records)
    for (task, budget), group in groupby(everything, lambda s: (s.head.task, s.head.budget)):
        compared = list(group)
        name = comparison.TABLES[task]
        frame = comparison.tidy(compared)
        suffix = f"budget {budget}: {BUDGETS[budget]}"
        own = [s for s in compared if own_scores(s)]
        found += [
            Document(
                f"{name}_{budget}",
                f"{name.replace('table', 'Table ')}: {task}; {suffix}",
                [_scores(section, _title(section, compared)) for section in compared],
                LEGEND + _published_legend(task, compared),
                frame,
            ),
            Document(
                f"memorisation_{budget}",
                f"Memorisation: {task}; {suffix}",
                [_memorisation(section, _title(section, compared)) for section in compared],
                LEGEND_MEMORISATION,
                _only(frame, list(MEMORISATION)),
            ),
            Document(
                f"costs_{budget}",
                f"Costs: {task}; {suffix}",
                [_costs(compared)],
                LEGEND_COSTS,
                _costs_frame(compared),
            ),
        ]
        if own:
            found.append(
                Document(
                    f"own_scores_{budget}",
                    f"Own scores of a data set: {task}; {suffix}",
                    [_own(section, _title(section, compared)) for section in own],
                    LEGEND_OWN,
                    _only(frame, [name for s in own for name in own_scores(s)]),
                )
            )
    return found


def _only(frame: pd.DataFrame, scores: list[str]) -> pd.DataFrame:
    return frame.query("score in @scores")


def own_scores(section: Section) -> list[str]:
    """Names of the scores that only this data set has."""
    common = {f"{score}_{kind}" for score in SCORES for kind in ("literal", "robust")}
    common |= {*MEMORISATION, *COMMON}
    return [name for name in section.scores() if name not in common]


def label(name: str) -> str:
    """Return how a reader knows a model or a control."""
    return LABELS.get(name, name)


# -- the tables -----------------------------------------------------------------------------------


def _title(section: Section, compared: list[Section]) -> str:
    head = section.head
    channels = "1 channel" if head.channels == 1 else f"{head.channels} channels"
    title = (
        f"{head.title}, budget {head.budget}: {head.n_test} test series of {head.length} steps, "
        f"{channels}; {head.evaluator_fits} evaluator fits of {head.evaluator_epochs} epochs"
    )
    if sum(s.head.dataset == head.dataset for s in compared) > 1:
        title += f"; data {head.data_digest[:8]}, split {head.split_digest[:8]}"
    return title


def _scores(section: Section, title: str) -> Table:
    head = section.head
    known = comparison.published(head.task, head.dataset)
    columns = [("", "")]
    for score in SCORES:
        group = f"{score} {ARROWS[score]}"
        columns += [(group, "published"), (group, "literal"), (group, "robust")]

    def line(row: Row) -> list[str]:
        cells = [label(row.model)]
        for score in SCORES:
            marks = "†" if section.better_controls(row, score) else ""
            marks += "‡" if section.within_floor(row, score) else ""
            cells += [
                _published(known.get(row.model), score),
                text(row, row.estimate(f"{score}_literal")),
                text(row, row.estimate(f"{score}_robust")) + (f" {marks}" if marks else ""),
            ]
        return [*cells, seeds(row)]

    notes = [
        f"{run['what']}, run by {run['source']}: "
        + ", ".join(f"{score} {v} ± {s}" for score, (v, s) in run["scores"].items())
        for run in comparison.reruns(head.task, head.dataset)
    ]
    return _table(title, [*columns, ("", "seeds")], section.rows, line, notes)


def _memorisation(section: Section, title: str) -> Table:
    def line(row: Row) -> list[str]:
        cells = [text(row, row.estimate(name), evaluator=False) for name in MEMORISATION]
        return [label(row.model), *cells, seeds(row)]

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
    return Table(title, columns, models, controls, [*_failures(rows), *notes])


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
    columns += [("controls" if row.control else "models", label(row.model)) for row in rows]
    lines = [
        [name, *(text(row, row.estimate(name), evaluator=False) for row in rows)] for name in names
    ]
    return Table(title, columns, lines, [], _failures(rows))


def _costs(compared: list[Section]) -> Table:
    columns = (
        "data set, model", "seeds", "parameters", "steps", "training", "sampling", "scoring",
        "peak memory", "device",
    )  # fmt: skip
    lines = []
    for section in compared:
        for row in section.models:
            if not row.records:
                continue
            costs = _costs_frame([Section((row,))])
            memory = costs.peak_memory_bytes.mean() / 2**20
            lines.append(
                [
                    f"{section.head.title}, {label(row.model)}",
                    seeds(row),
                    f"{costs.parameters.max():,}",
                    f"{costs.steps.mean():,.0f}",
                    duration(costs.train_seconds.mean()),
                    duration(costs.sample_seconds.mean()),
                    duration(costs.score_seconds.mean()),
                    "–" if pd.isna(memory) else f"{memory:,.0f} MiB",
                    ", ".join(dict.fromkeys(costs.device)),
                ]
            )
    title = f"Costs of a cell, budget {compared[0].head.budget}"
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
    return frame.astype({"peak_memory_bytes": "Int64"})


def _failures(rows: Sequence[Row]) -> list[str]:
    return [
        f"{label(row.model)}, seed {record.seed}: {record.status}, {record.reason}"
        for row in rows
        for record in row.failed
    ]


def _published_legend(task: str, compared: list[Section]) -> tuple[str, ...]:
    cells = [c for s in compared for c in comparison.published(task, s.head.dataset).values()]
    legend = (
        f"published: {comparison.paper(task)}, of the literal kind and without a spread. – unknown,"
        " or not applicable.",
    )
    sources = sorted({c["source"] for c in cells if c["certainty"] == "secondary"})
    if sources:
        legend += (
            "ˢ secondary: read in another project's transcription, not in the paper "
            f"({', '.join(sources)}).",
        )
    return legend


# -- the text of a cell ---------------------------------------------------------------------------


def text(row: Row, estimate: Estimate, evaluator: bool = True) -> str:
    """Return a score as ``value ± spread over seeds [spread of the evaluator]``, or why not.

    Parameters
    ----------
    evaluator : bool
        Whether to show the spread in brackets.
    """
    if not row.records:
        return "not run"
    if not row.done:
        return shortest([ending(record) for record in row.failed])
    if not estimate.scored:
        return "–"
    if estimate.value is None:
        return "not finite"
    cell = number(estimate.value)
    if estimate.seed_spread is not None:
        cell += f" ± {number(estimate.seed_spread, 2)}"
    if evaluator and estimate.evaluator_spread is not None:
        cell += f" [{number(estimate.evaluator_spread, 2)}]"
    if estimate.finite < estimate.scored:
        cell += f" ({estimate.scored - estimate.finite} not finite)"
    return cell


def _published(cell: dict | None, score: str) -> str:
    value = (cell or {}).get("scores", {}).get(score)
    if cell is None or value is None:
        return "–"
    return number(value) + ("ˢ" if cell["certainty"] == "secondary" else "")


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


def readme_section(records: list[Record]) -> str:
    """Return the paper's tables of all budgets as one piece of Markdown, for a README."""
    blocks, legend = [], dict.fromkeys(LEGEND)
    for document in documents(records):
        if not document.stem.startswith(tuple(comparison.TABLES.values())):
            continue
        blocks += [f"### {document.title}", *_markdown_blocks(document.tables, "####")]
        legend |= dict.fromkeys(document.legend)
    notes = "\n".join(f"* {line}" for line in legend)
    summary = "<summary>How to read the table: signs, columns, controls</summary>"
    return "\n\n".join([*blocks, f"<details>\n{summary}\n\n{notes}\n\n</details>"])


def update_readme(path: Path, section: str) -> None:
    """Replace what stands between the markers ``<!-- table1:begin -->`` and ``table1:end``.

    Raises
    ------
    UserError
        Unless the file has one pair of markers.
    """
    begin, end = "<!-- table1:begin -->", "<!-- table1:end -->"
    text = path.read_text(encoding="utf-8")
    between = re.compile(f"{begin}.*{end}", re.DOTALL)
    if text.count(begin) != 1 or text.count(end) != 1 or not between.search(text):
        raise UserError(f"{path}: expected one line {begin} and below it one line {end}")
    write_text(path, between.sub(lambda _: f"{begin}\n{section}\n{end}", text))


def _latex_document(document: Document) -> str:
    comment = f"% {document.title}\n% \\usepackage{{booktabs,adjustbox}}"
    legend = "\n".join(map(latex_note, document.legend))
    return "\n\n".join([comment, *map(latex, document.tables), legend]) + "\n"
