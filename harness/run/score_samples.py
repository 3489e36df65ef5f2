"""Score samples that a user brings, as the benchmark scores models, and the controls with them."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from harness import records
from harness.cells import ControlSpec, controls_of, draw_of, scoring_modules
from harness.checks import check_json
from harness.config import Strict
from harness.errors import UserError
from harness.records import Score
from harness.run.evaluate import SCORING
from harness.run.generation import Samples, ScoringSetup, control_scores, score
from harness.run.view import check_complete
from harness.sources import code_hash
from harness.texts import digest, write_json, write_text
from metrics.network import Unscorable


def scores_with_controls(
    setup: ScoringSetup, samples: Samples, name: str, cache: Path | None = None
) -> dict[str, list[Score]]:
    """Return the scores of samples and of the data set's controls, by row.

    Parameters
    ----------
    setup, samples
        What is scored against what.
    name : str
        Of the samples' row.
    cache : Path, optional
        Folder where scores of controls are kept, see `scores_of_control`.

    Raises
    ------
    UserError
        If the data set has gaps, or the evaluators cannot be trained on the samples.
    """
    check_complete(setup.dataset)
    try:
        rows = {name: score(setup, samples)[0]}
    except Unscorable as error:
        raise UserError(f"{name}: {error}") from None
    controls = controls_of("generation", setup.description)
    if len(setup.train) < len(setup.test):
        controls.remove("noise_floor")  # there are not so many training series
    for control in controls:
        spec = ControlSpec(
            task="generation",
            dataset=setup.dataset.name,
            model=control,
            seed=0,
            budget="none",
            draw=draw_of(setup.description, control),
        )
        rows[control] = scores_of_control(spec, setup, cache)
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
    """Write the scores of rows to a .csv or .json file, whole or not at all."""
    lines = [{"row": row} | s.model_dump() for row, scores in rows.items() for s in scores]
    if path.suffix.lower() == ".csv":
        write_text(path, pd.DataFrame(lines).to_csv(index=False))
        return
    head = {
        "dataset": setup.dataset.name,
        "data_digest": setup.dataset.data_digest,
        "split_digest": setup.dataset.split_digest,
        "evaluation": setup.evaluation.model_dump(include={"fits", "epochs"}),
        "scoring": SCORING,
    }
    write_json(path, head | {"scores": lines})
