"""Score one cell: draw samples or predict, compare with the test series, make the record."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from datasets.files import save_arrays, sha256
from harness import records
from harness.cells import (
    AddedSpec,
    CellSpec,
    CommandSpec,
    ControlSpec,
    Scoring,
    Spec,
    scoring_modules,
)
from harness.contract import Diverged, Prediction
from harness.records import FORMAT, Record, Score, Status, circumstances
from harness.run import generation, prediction, summary
from harness.run.answers import Answer
from harness.run.build import load_trained
from harness.run.generation import ScoringSetup, Series
from harness.run.memory import OutOfMemory, raising_out_of_memory
from harness.run.outcome import Outcome
from harness.run.streams import torch_stream
from harness.run.view import view
from harness.sources import code_hash
from harness.texts import digest
from metrics.network import Unscorable

# Version of the code that computes scores. It is raised where the same samples or predictions would
# get other scores; the stored scores of tests/metrics/test_network.py say when.
SCORING = 2
# Fields of an outcome that a record has, too.
OF_TRAINING = ("steps", "ended", "best_step", "best_validation_loss", "last_validation_loss",
               "peak_memory_bytes", "parameters")  # fmt: skip


@dataclass(frozen=True)
class Evaluated:
    """A cell's record and the arrays that are kept beside it.

    Attributes
    ----------
    record : Record
    summary : dict
        What figures need.
    errors : dict
        Errors of single series or records, for paired comparisons of rows.
    samples : (n, L, D) or None
        Of generation.
    """

    record: Record
    summary: dict[str, np.ndarray]
    errors: dict[str, np.ndarray]
    samples: Series | None = None

    def write(self, cell: Path) -> None:
        """Write the arrays into the cell's directory, then the record with their digests."""
        samples = {} if self.samples is None else {"samples": self.samples}
        arrays = {
            records.SUMMARY: self.summary,
            records.SAMPLES: samples,
            records.ERRORS: self.errors,
        }
        for name, content in arrays.items():
            write_arrays(cell / name, content)
        kept = [*arrays, records.HISTORY]
        files = {name: sha256(cell / name) for name in kept if (cell / name).exists()}
        records.write(self.record.model_copy(update={"files": files}), cell / records.RECORD)


def write_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write arrays, real ones in single precision, whole or not at all; no arrays is fine too."""
    with np.errstate(over="ignore"):  # errors of absurd predictions become infinite
        single = {
            name: array.astype(np.float32) if np.issubdtype(array.dtype, np.floating) else array
            for name, array in arrays.items()
        }
    save_arrays(path, single)


@dataclass(frozen=True)
class _Scored:
    """Scores and arrays of a cell.

    `sampled` is the monotonic time that parts the seconds of sampling from those of scoring. Where
    both are done at once, predictions count as sampling, and samples of a control as scoring.
    """

    scores: list[Score]
    summary: dict[str, np.ndarray]
    errors: dict[str, np.ndarray]
    samples: Series | None
    sampled: float


def evaluate_model(
    spec: CellSpec, setup: ScoringSetup, outcome: Outcome, weights: Path, device: torch.device
) -> Evaluated:
    """Score a trained cell. Its record is complete, without scores if anything failed."""

    def work() -> _Scored:
        if spec.task == "generation":
            model = load_trained(spec, setup.dataset, weights, device)
            samples = generation.draw(model, spec, setup.dataset, device)
            return _samples_given(setup, samples, device)
        return _predicted(spec, setup, weights, device)

    return _evaluate(spec, setup, outcome, work, device)


def evaluate_control(spec: ControlSpec, setup: ScoringSetup, device: torch.device) -> Evaluated:
    """Score a control."""

    def work() -> _Scored:
        if spec.task == "generation":
            return _control_generated(spec, setup, device)
        return _control_predicted(spec, setup)

    return _evaluate(spec, setup, None, work, device)


def evaluate_answer(
    spec: CommandSpec | AddedSpec,
    setup: ScoringSetup,
    outcome: Outcome | None,
    answer: Answer | None,
    device: torch.device,
) -> Evaluated:
    """Score samples or predictions that were made elsewhere; none of a command that failed."""

    def work() -> _Scored:
        assert answer is not None, "only a command that failed has no answer"
        if isinstance(answer, Prediction):
            return _prediction_given(spec, setup, answer)
        return _samples_given(setup, answer, device)

    return _evaluate(spec, setup, outcome, work, device)


def unscored(
    spec: Spec, scoring: Scoring, status: Status, reason: str, device: torch.device
) -> Evaluated:
    """Return the record of a cell whose data cannot be had, or not be read."""
    record = Record(
        **_identity(spec, scoring),
        code_hash=code_hash(__name__),
        data_digest="",
        split_digest="",
        status=status,
        reason=reason,
        scores=[],
        n_train=0,
        n_validation=0,
        n_test=0,
        length=0,
        channels=0,
        sample_seconds=0.0,
        score_seconds=0.0,
        **_training(None, device),
    )
    return Evaluated(record, {}, {})


def _evaluate(
    spec: Spec,
    setup: ScoringSetup,
    outcome: Outcome | None,
    work: Callable[[], _Scored],
    device: torch.device,
) -> Evaluated:
    """Do the work, unless the training failed, and make the record."""
    start = time.monotonic()
    done = _Scored([], {}, {}, None, start)
    status, reason = ("done", None) if outcome is None else (outcome.status, outcome.reason)
    if status == "done":
        try:
            with raising_out_of_memory():
                done = work()
            reason = _nothing_scored(done.scores)
        except (Diverged, Unscorable) as error:
            status, reason = "diverged", str(error)
        except OutOfMemory as error:
            status, reason = "oom", f"sampling or scoring: {error}"
    dataset = setup.dataset
    own = scoring_modules(spec, setup.description)
    record = Record(
        **_identity(spec, setup.scoring),
        code_hash=digest([code_hash(__name__, *own), outcome.code_hash if outcome else None]),
        data_digest=dataset.data_digest,
        split_digest=dataset.split_digest,
        status=status,
        reason=reason,
        scores=done.scores,
        n_train=len(dataset.train),
        n_validation=len(dataset.validation),
        n_test=len(dataset.test),
        length=dataset.x.shape[1],
        channels=dataset.x.shape[2],
        sample_seconds=done.sampled - start,
        score_seconds=time.monotonic() - done.sampled,
        **_training(outcome, device),
    )
    return Evaluated(record, done.summary, done.errors, done.samples)


def _training(outcome: Outcome | None, device: torch.device) -> dict[str, Any]:
    """Return the fields of a record that a training leaves, or the scoring if there was none."""
    if outcome is None:
        nothing = {"steps": 0, "train_seconds": 0.0, "peak_memory_bytes": None, "parameters": 0}
        return nothing | circumstances(device)
    fields = {name: getattr(outcome, name) for name in OF_TRAINING}
    return fields | {"train_seconds": outcome.seconds} | outcome.circumstances


def _nothing_scored(scores: list[Score]) -> str | None:
    """Return why a cell that is done has no scores; None of one that has some."""
    empty = any(score.name == "mse_micro" and score.n == 0 for score in scores)
    return "no test record has a value to score" if empty else None


def _identity(spec: Spec, scoring: Scoring) -> dict[str, Any]:
    """Return the fields of a record that follow from the cell's description alone."""
    evaluation = scoring.evaluation
    generates = spec.task == "generation"
    settings: dict[str, Any] = {}
    if isinstance(spec, CellSpec):
        training = spec.training.model_dump(mode="json", exclude_defaults=True)
        settings = {"class": spec.class_, "config": spec.config, "training": training}
        settings |= {"variant_of": spec.variant_of} if spec.variant_of else {}
    elif not isinstance(spec, ControlSpec):
        of_record = {"kind", "task", "dataset", "model", "seed", "budget", "protocol"}
        settings = spec.model_dump(mode="json", exclude=of_record, exclude_defaults=True)
    return {
        "format": FORMAT,
        "task": spec.task,
        "dataset": spec.dataset,
        "model": spec.model,
        "seed": spec.seed,
        "budget": spec.budget,
        "control": isinstance(spec, ControlSpec),
        "config_hash": scoring.digest_of(spec),
        "title": scoring.dataset.title,
        "evaluator_fits": evaluation.fits if generates else 0,
        "evaluator_epochs": evaluation.epochs if generates else 0,
        "scoring": SCORING,
        "draws": None if generates else evaluation.draws,
        "share_draws": evaluation.share_draws if spec.task == "interpolation" else None,
        "protocol": spec.protocol.model_dump(mode="json") if spec.protocol else {},
        "settings": settings,
    }


def _samples_given(setup: ScoringSetup, samples: Series, device: torch.device) -> _Scored:
    sampled = time.monotonic()
    scores, errors = generation.score(setup, samples, device)
    return _Scored(scores, summary.summarise(setup.test, samples), errors, samples, sampled)


def _control_generated(spec: ControlSpec, setup: ScoringSetup, device: torch.device) -> _Scored:
    sampled = time.monotonic()
    samples, scores, errors = generation.control_scores(spec, setup, device)
    arrays = {} if samples is None else summary.summarise(setup.test, samples)
    return _Scored(scores, arrays, errors, samples, sampled)


def _predicted(spec: CellSpec, setup: ScoringSetup, weights: Path, device: torch.device) -> _Scored:
    seen = view(spec, setup.dataset)
    size = prediction.BATCH
    if seen.grid == "union":  # on which a prediction depends on who shares the batch
        size = spec.training.batch_size
    model = load_trained(spec, setup.dataset, weights, device)
    generator = torch_stream(spec, "sampling", device)
    predict = prediction.predictor(model, device)
    bound, bounds = prediction.evidence(seen, model, size, device, generator)
    descriptors = setup.description.descriptors
    scores, errors = prediction.score(seen, predict, setup.evaluation, size, generator, descriptors)
    sampled = time.monotonic()
    examples = prediction.examples(seen, predict, setup.evaluation.draws, generator)
    return _Scored(scores + bound, examples, errors | bounds, None, sampled)


def _control_predicted(spec: ControlSpec, setup: ScoringSetup) -> _Scored:
    seen = view(spec, setup.dataset)
    generator = torch_stream(spec, "control", torch.device("cpu"))
    predict = prediction.control_predictor(seen, spec.model)
    size, descriptors = prediction.BATCH, setup.description.descriptors
    scores, errors = prediction.score(seen, predict, setup.evaluation, size, generator, descriptors)
    if len(setup.dataset.validation):
        scores.append(prediction.validation_error(seen, predict, size, generator))
    sampled = time.monotonic()
    examples = prediction.examples(seen, predict, setup.evaluation.draws, generator)
    return _Scored(scores, examples, errors, None, sampled)


def _prediction_given(
    spec: CommandSpec | AddedSpec, setup: ScoringSetup, made: Prediction
) -> _Scored:
    sampled = time.monotonic()
    seen = view(spec, setup.dataset)
    generator = torch_stream(spec, "sampling", torch.device("cpu"))
    predict = prediction.stored(setup.dataset.test, made)
    # They are of the protocol's hidden points, and of no other share.
    settings = setup.evaluation.model_copy(update={"shares": []})
    size, descriptors = prediction.BATCH, setup.description.descriptors
    scores, errors = prediction.score(seen, predict, settings, size, generator, descriptors)
    examples = prediction.examples(seen, predict, settings.draws, generator)
    return _Scored(scores, examples, errors, None, sampled)
