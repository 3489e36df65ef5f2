"""Commands for what a user brings: score samples, hand out what a model is given, add rows."""

import io
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cli.common import DATA, MIRROR, Add, written
from harness.cli.data import open_dataset
from harness.errors import UserError
from harness.tasks import TASKS, Task

if TYPE_CHECKING:
    from rich.console import Console

    from harness.records import Score
    from harness.run.generation import ScoringSetup, Series

COLUMNS = {  # score -> heading
    "marginal_literal": "marginal ↓",
    "classification_literal": "classification ↑",
    "prediction_literal": "prediction ↓",
    "marginal_robust": "marginal, robust ↓",
    "classification_robust": "classification, robust",
    "prediction_robust": "prediction, robust ↓",
    "nearest_train_ratio": "copying",
    "band_ratio": "diversity",
}
TESTS = {
    "p_all": "p",
    "p_all_standardised": "p, standardised",
    "effect_marginal": "marginal",
    "effect_energy": "energy",
    "effect_features": "features",
    "effect_spectrum": "spectrum",
    "effect_neighbours": "neighbours",
}
CONTROLS = Path("results", "controls")  # scores of controls, kept
FAR = 5  # standard deviations off, or times as wide: samples are perhaps in other units
WIDTH = 1000  # columns where no terminal says how many there are: nothing is cut
SAMPLES = ".npz or .npy, (n, L, D); or .csv, one channel, a series a line"
PREPARED: dict[str, Any] = {
    "type": Path,
    "help": "prepared data to use instead of the paper's, .npz",
}


def add_commands(add: Add) -> None:
    """Add the commands of this module to the parser."""
    sub = add(score)
    sub.add_argument("--dataset", required=True, help="a name in config/datasets/")
    sub.add_argument("--samples", type=Path, required=True, help=SAMPLES)
    _add_settings(sub)
    sub.add_argument("--out", type=Path, help="also write all scores to this file, .json or .csv")

    sub = add(export)
    sub.add_argument("--dataset", required=True, help="a name in config/datasets/")
    sub.add_argument("--task", choices=TASKS, required=True, help="what the model is to do")
    sub.add_argument("--data", **DATA)
    sub.add_argument("--mirror", **MIRROR)
    sub.add_argument("--prepared", **PREPARED)
    sub.add_argument("--out", type=Path, required=True, help="file of the arrays, .npz")

    sub = add(add_row, "add")
    sub.add_argument("--dataset", required=True, help="a name in config/datasets/")
    sub.add_argument("--name", required=True, help="of the row: letters, digits, underscores")
    files = sub.add_mutually_exclusive_group(required=True)
    files.add_argument("--samples", type=Path, nargs="+", help="a file for each seed: 0, 1, ...")
    files.add_argument("--predictions", type=Path, nargs="+", help="the same, .npz")
    sub.add_argument(
        "--task",
        choices=TASKS,
        default="generation",
        help="that the files are of (default: generation)",
    )
    sub.add_argument(
        "--note", nargs="+", default=[], metavar="KEY=VALUE", help="settings to keep in the records"
    )
    sub.add_argument("--budget", default="full", help="whose tables the rows join (default: full)")
    sub.add_argument(
        "--records", type=Path, default=Path("results/own"), help="folder (default: results/own)"
    )
    _add_settings(sub)


def _add_settings(sub: Any) -> None:
    sub.add_argument("--data", **DATA)
    sub.add_argument("--mirror", **MIRROR)
    sub.add_argument("--prepared", **PREPARED)
    sub.add_argument(
        "--fits", type=int, default=5, help="fits of each scoring network (default: 5)"
    )
    sub.add_argument("--epochs", type=int, default=100, help="epochs of a fit (default: 100)")


def score(
    dataset: str,
    samples: Path,
    data: Path,
    mirror: Path | None,
    prepared: Path | None,
    fits: int,
    epochs: int,
    out: Path | None,
) -> int:
    """Score samples of your own beside the controls of a data set.

    Samples are in the data set's normalised units (docs/data.md), n series of its length.
    """
    from datasets.files import opened  # before torch is loaded: most mistakes are here
    from harness import catalogue

    catalogue.dataset(dataset)
    with opened(samples):  # or it says why not
        pass
    if out is not None and out.suffix.lower() not in (".json", ".csv"):
        raise UserError(f"--out: expected a .json or .csv file, found {out}")

    from rich.console import Console

    from harness.run.generation import check_scorable
    from harness.run.own_samples import read_samples
    from harness.run.score_samples import scores_with_controls, write_rows

    setup = _setup(dataset, prepared, data, mirror, {"fits": fits, "epochs": epochs})
    check_scorable(setup.dataset)
    read = read_samples(samples, setup.test.shape)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # an arrow that it lacks must not end the command
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    with console.status("scoring the samples and the controls"):
        rows = scores_with_controls(setup, read, samples.name, CONTROLS)
    show(console, setup, rows, read)
    if out is not None:
        write_rows(out, setup, rows)
        return written([out])
    return 0


def show(
    console: "Console",
    setup: "ScoringSetup",
    rows: Mapping[str, "Sequence[Score]"],
    samples: "Series",
) -> None:
    """Print the scores of samples, the first row, and of the controls."""
    from rich.table import Table

    from harness.present.tables.generation import own_scores

    by_name = {row: {s.name: s for s in scores} for row, scores in rows.items()}
    first, title, series = next(iter(rows)), setup.description.title, setup.test
    for heading, columns in {
        f"{title}: {len(series)} test series of length {series.shape[1]}": COLUMNS,
        "Told apart from the test series? p values, then effects (1: can just be seen)": TESTS,
    }.items():
        table = Table("", title=heading)
        for column in columns.values():
            table.add_column(column, justify="right")
        for row, scores in by_name.items():
            cells = (_number(scores.get(name)) for name in columns)
            table.add_row(row, *cells, end_section=row == first)
        console.print(table)
    if own := own_scores(by_name[first]):
        scored = {row: scores for row, scores in by_name.items() if own[0] in scores}
        table = Table("own scores")
        for row in scored:
            table.add_column(row, justify="right")
        for name in own:
            table.add_row(name, *(_number(scores[name]) for scores in scored.values()))
        console.print(table)
    n = len(samples)
    if n != len(series):
        console.print(
            f"The benchmark's tables score {len(series)} samples, one a test series. With {n}, all"
            " but the marginal scores can differ much from theirs, prediction most: evaluators"
            " learn from more or fewer series."
        )
    if other := _other_units(setup.test, samples):
        console.print(other)
    dataset, settings = setup.dataset, setup.evaluation
    console.print(
        "Literal scores as the paper's code computes them, then robust ones ± deviation; copying:"
        "\ndistance to the nearest training series, generated over test (docs/scores.md)."
        "\nTests permute whole series; below p = .05 samples are told apart (docs/decisions.md)."
        f"\nData {dataset.data_digest[:12]}, split {dataset.split_digest[:12]},"
        f" {settings.fits} evaluator fits of {settings.epochs} epochs."
    )


def _other_units(real: "Series", samples: "Series") -> str | None:
    """Ask about samples whose mean or spread is far from that of real series."""
    for channel in range(real.shape[2]):
        (mean, spread), (own_mean, own_spread) = (
            (float(values.mean(dtype=float)), float(values.std(dtype=float)))
            for values in (real[..., channel], samples[..., channel])
        )
        far = abs(own_mean - mean) > FAR * spread
        if far or not spread / FAR < own_spread < spread * FAR:
            return (
                f"Channel {channel} of the samples has mean {own_mean:.3g} and standard deviation"
                f" {own_spread:.3g}, the test series {mean:.3g} and {spread:.3g}: are the samples"
                " in normalised units (docs/data.md)?"
            )
    return None


def _number(found: "Score | None") -> str:
    if found is None or found.value is None:
        return "–"
    return f"{found.value:.3g}" + ("" if found.spread is None else f" ± {found.spread:.1g}")


def export(
    dataset: str,
    task: Task,
    data: Path,
    mirror: Path | None,
    prepared: Path | None,
    out: Path,
) -> int:
    """Write the arrays that a model of a task is given, without the values that it must not see.

    docs/your_own.md explains them.
    """
    from datasets.files import save_arrays
    from harness.run.given import given
    from harness.run.view import View

    if out.suffix != ".npz":
        raise UserError(f"--out: expected an .npz file, found {out}")
    save_arrays(out, given(View(open_dataset(dataset, prepared, data, mirror), task)))
    return written([out])


def add_row(
    dataset: str,
    name: str,
    samples: list[Path] | None,
    predictions: list[Path] | None,
    task: Task,
    note: list[str],
    budget: str,
    records: Path,
    data: Path,
    mirror: Path | None,
    prepared: Path | None,
    fits: int,
    epochs: int,
) -> int:
    """Score samples or predictions of your own and write them down as records: rows of tables.

    One file for each training seed. docs/your_own.md says what the files hold.
    """
    files = samples or predictions or []
    if (task == "generation") != bool(samples):
        raise UserError(
            "expected --samples, or --predictions with --task reconstruction, interpolation or"
            " extrapolation"
        )
    notes = dict(_note(text) for text in note)
    if len(notes) < len(note):
        raise UserError(f"--note: expected each key once, found {' '.join(note)}")

    from harness.records import RECORD
    from harness.run import added

    folders = added.folders_of(records, budget, task, dataset, name, len(files))
    added.check_row(name, budget, folders)
    setup = _setup(dataset, prepared, data, mirror, {"fits": fits, "epochs": epochs})
    added.add(setup, task, name, budget, files, notes, folders)
    return written(folder / RECORD for folder in folders)


def _note(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise UserError(f"--note: expected key=value, found {text!r}")
    return key, value


def _setup(
    name: str,
    prepared: Path | None,
    data: Path,
    mirror: Path | None,
    evaluation: dict[str, int],
) -> "ScoringSetup":
    """Return what rows of a data set are scored against, with the paper's protocol."""
    from harness import catalogue
    from harness.cells import Scoring
    from harness.checks import check
    from harness.config import Evaluation

    settings = check(Evaluation, evaluation, "evaluation")  # before torch is loaded

    from harness.run.generation import ScoringSetup

    scoring = Scoring(dataset=catalogue.dataset(name), evaluation=settings)
    return ScoringSetup(open_dataset(name, prepared, data, mirror), scoring)
