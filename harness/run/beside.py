"""Score samples that a user brings, as the benchmark scores models, beside the controls."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table

from harness import catalogue, records
from harness.cells import ControlSpec, draw_of, scoring_modules
from harness.checks import check_json
from harness.config import Strict
from harness.errors import UserError
from harness.records import Score
from harness.run.evaluate import SCORING
from harness.run.generation import Samples, ScoringSetup, control_scores, own_scores, score
from harness.run.view import check_complete
from harness.sources import code_hash, digest
from metrics.network import Unscorable

COLUMNS = {  # score -> heading
    "marginal_literal": "marginal ↓",
    "classification_literal": "classification ↑",
    "prediction_literal": "prediction ↓",
    "marginal_robust": "marginal, robust ↓",
    "classification_robust": "classification, robust",
    "prediction_robust": "prediction, robust ↓",
    "nearest_train_ratio": "copying",
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


def compare(
    setup: ScoringSetup,
    samples: Samples,
    name: str,
    console: Console,
    cache: Path | None = None,
) -> dict[str, list[Score]]:
    """Print the scores of `samples` beside those of the controls, and return both by row.

    Parameters
    ----------
    setup, samples
        What is scored against what.
    name : str
        Of the samples' row.
    console : Console
    cache : Path, optional
        Folder where scores of controls are kept, see `scores_of_control`.

    Raises
    ------
    UserError
        If the data set has gaps, or the evaluators cannot be trained on the samples.
    """
    check_complete(setup.dataset)
    n, dataset, title = len(setup.test), setup.dataset, setup.description.title
    table = Table("", title=f"{title}: {n} test series of length {samples.shape[1]}")
    tests = Table(
        "", title="Told apart from the test series? p values, then effects (1: can just be seen)"
    )
    for shown, headings in ((table, COLUMNS), (tests, TESTS)):
        for heading in headings.values():
            shown.add_column(heading, justify="right")
    rows: dict[str, list[Score]] = {}
    controls = [*catalogue.controls_of("generation"), *setup.description.controls]
    if len(setup.train) < n:
        controls.remove("noise_floor")  # there are not so many training series
    with console.status("") as status:
        for row in (name, *controls):
            status.update(f"scoring {row}")
            try:
                if row == name:
                    rows[row], _ = score(setup, samples)
                else:
                    spec = ControlSpec(
                        task="generation",
                        dataset=dataset.name,
                        model=row,
                        seed=0,
                        budget="none",
                        draw=draw_of(setup.description, row),
                    )
                    rows[row] = scores_of_control(spec, setup, cache)
            except Unscorable as error:
                raise UserError(f"{name}: {error}") from None
            for shown, names in ((table, COLUMNS), (tests, TESTS)):
                shown.add_row(row, *_cells(rows[row], names), end_section=row == name)
    console.print(table)
    console.print(tests)
    own_names = {s.name for s in own_scores(setup, samples)}
    if own_names:
        console.print(_own_table(rows, own_names))
    if len(samples) != n:
        console.print(
            f"The benchmark's tables score {n} samples, one a test series. With {len(samples)},"
            " classification and the noise of the marginal score differ from theirs."
        )
    console.print(
        "Literal scores as the paper's code computes them, then robust ones ± deviation; copying:"
        "\ndistance to the nearest training series, generated over test (docs/scores.md)."
        "\nTests permute whole series; below p = .05 samples are told apart (docs/decisions.md)."
        f"\nData {dataset.data_digest[:12]}, split {dataset.split_digest[:12]},"
        f" {setup.evaluation.fits} evaluator fits of {setup.evaluation.epochs} epochs."
    )
    return rows


class _Scores(Strict):
    scores: list[Score]


def scores_of_control(
    spec: ControlSpec, setup: ScoringSetup, cache: Path | None = None
) -> list[Score]:
    """Return a control's scores, from a file of the folder `cache` if they were computed before.

    The file's name identifies the control, its code, the data, the split, the data set's
    description, the evaluators' settings and the version of the scoring code.

    Raises
    ------
    UserError
        If the file is damaged.
    """
    dataset, scoring = setup.dataset, setup.scoring
    description = scoring.dataset.model_dump(mode="json")
    made_from = [SCORING, spec.digest, scoring.digest_for(spec.task), description]
    code = code_hash(*scoring_modules(spec, scoring.dataset))
    key = digest([*made_from, dataset.data_digest, dataset.split_digest, code])
    path = cache / f"{spec.dataset}_{spec.model}_{key[:16]}.json" if cache else None
    if path is not None and path.exists():
        return check_json(_Scores, path, "scores of a control").scores
    _, scores, _ = control_scores(spec, setup)
    if path is not None:
        records.write(_Scores(scores=scores), path)
    return scores


def write_rows(path: Path, setup: ScoringSetup, rows: Mapping[str, list[Score]]) -> None:
    """Write the scores of `compare` to a .csv or .json file, whole or not at all."""
    lines = [{"row": row} | s.model_dump() for row, scores in rows.items() for s in scores]
    if path.suffix.lower() == ".csv":
        records.write_text(path, pd.DataFrame(lines).to_csv(index=False))
        return
    head = {
        "dataset": setup.dataset.name,
        "data_digest": setup.dataset.data_digest,
        "split_digest": setup.dataset.split_digest,
        "evaluation": setup.evaluation.model_dump(include={"fits", "epochs"}),
        "scoring": SCORING,
    }
    records.write_json(path, head | {"scores": lines})


def _own_table(rows: Mapping[str, list[Score]], names: set[str]) -> Table:
    """Arrange the data set's own scores: a line for each, a column for each row that has them."""
    table = Table("own scores")
    columns = []
    for row, scores in rows.items():
        if own := [s for s in scores if s.name in names]:
            table.add_column(row, justify="right")
            columns.append(own)
    for line in zip(*columns, strict=True):
        table.add_row(line[0].name, *map(_number, line))
    return table


def _cells(scores: list[Score], names: Iterable[str]) -> list[str]:
    by_name = {s.name: s for s in scores}
    return [_number(by_name.get(name)) for name in names]


def _number(found: Score | None) -> str:
    if found is None or found.value is None:
        return "–"
    return f"{found.value:.3g}" + ("" if found.spread is None else f" ± {found.spread:.1g}")
