"""Score one cell: draw samples or predict, compare with the test series, make the record.

The same scores, in the same order, for models, controls and samples that a user brings. Scores of
samples (generation) are here, those of predictions in `harness.prediction`.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from datasets.base import Dataset
from harness import controls, prediction, summary
from harness.batches import view
from harness.config import DatasetFile, Evaluation, load
from harness.contract import Diverged
from harness.grid import code_hash, digest
from harness.records import Record, Score, circumstances
from harness.trainer import BATCH, Outcome, OutOfMemory, load_trained, naming_lack_of_memory
from metrics.classification import ClassificationFit, classify
from metrics.marginal import bootstrap, marginal_literal, marginal_robust, wasserstein
from metrics.memorisation import memorisation
from metrics.network import Unscorable
from metrics.prediction import PredictionFit, persistence, predict

Series = Float[np.ndarray, "N L D"]
Fake = Float[np.ndarray, "M L D"]

BOOTSTRAPS = 100
# The literal scores are one evaluator fit; the robust ones are fits with seeds 0, 1, ...
LITERAL_SEED = 1000
SETTINGS = ("class", "config", "training", "variant_of")  # of a spec that a record repeats


@dataclass(frozen=True)
class Footing:
    """What every row of a data set's table is scored against."""

    dataset: Dataset
    description: DatasetFile
    evaluation: Evaluation

    @property
    def test(self) -> Series:
        return self.dataset.x[self.dataset.test]

    @property
    def train(self) -> Series:
        return self.dataset.x[self.dataset.train]


def score(
    footing: Footing, fake: Fake, seed: int, device: torch.device | str = "cpu"
) -> list[Score]:
    """Return all generation scores of samples `fake` (n, L, D), in normalised units.

    Parameters
    ----------
    footing : Footing
        Test and training series and the evaluator's settings.
    fake : (n, L, D)
        As many samples as there are test series, by the paper's protocol.
    seed : int
        Of the literal score's single evaluator fit; the robust fits have seeds 0, 1, ...
    device : torch.device or str
        Where the evaluators are trained.
    """
    real, settings = footing.test, footing.evaluation
    n = len(real)
    scores = [
        Score(name="marginal_literal", value=marginal_literal(real, fake), n=n),
        _bootstrapped("marginal_robust", marginal_robust, real, fake),
        _bootstrapped("wasserstein", wasserstein, real, fake),
    ]
    shared = {"epochs": settings.epochs, "device": device}
    output = footing.description.prediction_output

    def fits(seed: int) -> tuple[ClassificationFit, PredictionFit]:
        classifier = classify(real, fake, seed=seed, **shared)
        return classifier, predict(real, fake, seed=seed, output=output, **shared)

    classifier, predictor = fits(LITERAL_SEED + seed)
    classifiers, predictors = zip(*map(fits, range(settings.fits)), strict=True)
    n_test = classifier.n_test
    scores += [
        Score(name="classification_literal", value=classifier.literal, n=n_test),
        Score(name="prediction_literal", value=predictor.literal, n=n),
        _over_fits("classification_robust", [c.bce for c in classifiers], n_test),
        _over_fits("classification_accuracy", [c.accuracy for c in classifiers], n_test),
        _over_fits("classification_auc", [c.auc for c in classifiers], n_test),
        _over_fits("prediction_robust", [p.mse for p in predictors], n),
    ]
    distance = memorisation(real, fake, footing.train)
    scores += [
        Score(name="nearest_train_generated", value=distance.generated, n=n),
        Score(name="nearest_train_test", value=distance.test, n=n),
        Score(name="nearest_train_ratio", value=distance.ratio, n=n),
    ]
    return scores + own_scores(footing, fake)


def own_scores(footing: Footing, fake: Fake) -> list[Score]:
    """Return the scores that only this data set has; none for most."""
    if footing.description.own_scores is None:
        return []
    own: Mapping[str, float] = load(footing.description.own_scores)(footing.test, fake)
    return [Score(name=name, value=value, n=len(footing.test)) for name, value in own.items()]


def _bootstrapped(name: str, function: Any, real: Series, fake: Fake) -> Score:
    spread = bootstrap(function, real, fake, n_boot=BOOTSTRAPS, seed=0)
    return Score(name=name, value=function(real, fake), spread=spread, n=len(real))


def _over_fits(name: str, values: list[float], n: int) -> Score:
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return Score(name=name, value=float(np.mean(values)), spread=spread, n=n)


def control_scores(
    footing: Footing, control: str, seed: int, device: torch.device | str = "cpu"
) -> tuple[Series | None, list[Score]]:
    """Return a control's samples (None where it generates nothing) and its scores."""
    if control == "persistence":
        fit = persistence(footing.test)
        return None, [
            Score(name="prediction_literal", value=fit.literal, n=fit.n_test),
            Score(name="prediction_robust", value=fit.mse, n=fit.n_test),
        ]
    generate = controls.GENERATORS[control]
    fake = generate(footing.train, len(footing.test), np.random.default_rng([seed, 1]))
    return fake, score(footing, fake, seed, device)


@torch.no_grad()
def draw(spec: dict[str, Any], footing: Footing, weights: Path, device: torch.device) -> Series:
    """Draw as many samples from a trained model as there are test series.

    Raises
    ------
    Diverged
        If a sample is not finite.
    """
    dataset = footing.dataset
    model = load_trained(spec, dataset, weights, device)
    generator = torch.Generator(device).manual_seed(spec["seed"] + 1)
    t = torch.from_numpy(np.array(dataset.t[0])).to(device)
    n = len(dataset.test)
    parts = [min(BATCH, n - start) for start in range(0, n, BATCH)]
    drawn = [model.sample(part, t, generator).float().cpu() for part in parts]
    fake = torch.cat(drawn).numpy()
    if not np.isfinite(fake).all():
        raise Diverged(
            f"sampling: {np.sum(~np.isfinite(fake).all((1, 2)))} of {len(fake)} not finite"
        )
    return fake


@dataclass(frozen=True)
class Evaluated:
    """A cell's record, the arrays that figures need, and its samples (generation only)."""

    record: Record
    summary: dict[str, np.ndarray]
    samples: Series | None = None


def evaluate(
    spec: dict[str, Any],
    footing: Footing,
    outcome: Outcome | None,
    weights: Path | None,
    device: torch.device,
) -> Evaluated:
    """Score a trained cell, or a control where `outcome` is None.

    The record is complete; it is without scores if training, sampling or predicting failed.
    """
    start = time.monotonic()
    work = _generation if spec["task"] == "generation" else _prediction
    done = _Scored([], {}, None, start)
    status, reason = ("done", None) if outcome is None else (outcome.status, outcome.reason)
    if status == "done":
        try:
            with naming_lack_of_memory():
                done = work(spec, footing, weights if outcome else None, device)
        except (Diverged, Unscorable) as error:
            status, reason = "diverged", str(error)
        except OutOfMemory as error:
            status, reason = "oom", f"sampling or scoring: {error}"
    dataset = footing.dataset
    own = [m.partition(":")[0] for m in [footing.description.own_scores] if m]
    record = Record(
        task=spec["task"],
        dataset=spec["dataset"],
        model=spec["model"],
        seed=spec["seed"],
        budget=spec["budget"],
        control=outcome is None,
        config_hash=digest([spec, footing.evaluation.model_dump()]),
        code_hash=digest([code_hash(__name__, *own), outcome.code_hash if outcome else None]),
        data_digest=dataset.data_digest,
        split_digest=dataset.split_digest,
        status=status,
        reason=reason,
        scores=done.scores,
        title=footing.description.title,
        n_train=len(dataset.train),
        n_validation=len(dataset.validation),
        n_test=len(dataset.test),
        length=dataset.x.shape[1],
        channels=dataset.x.shape[2],
        **_footing_fields(spec, footing.evaluation),
        settings={key: spec[key] for key in SETTINGS if key in spec},
        steps=outcome.steps if outcome else 0,
        ended=outcome.ended if outcome else None,
        train_seconds=outcome.seconds if outcome else 0.0,
        sample_seconds=done.sampled - start,
        score_seconds=time.monotonic() - done.sampled,
        peak_memory_bytes=outcome.peak_memory_bytes if outcome else None,
        parameters=outcome.parameters if outcome else 0,
        **(outcome.circumstances if outcome else circumstances(device)),
    )
    return Evaluated(record, done.summary, done.samples)


def skipped(spec: dict[str, Any], description: DatasetFile, evaluation: Evaluation, reason: str,
            device: torch.device) -> Record:  # fmt: skip
    """Return the record of a cell whose data cannot be had."""
    return Record(
        **{key: spec[key] for key in ("task", "dataset", "model", "seed", "budget")},
        control="class" not in spec,
        config_hash=digest([spec, evaluation.model_dump()]),
        code_hash=code_hash(__name__),
        data_digest="",
        split_digest="",
        status="skipped",
        reason=reason,
        scores=[],
        title=description.title,
        n_train=0,
        n_validation=0,
        n_test=0,
        length=0,
        channels=0,
        **_footing_fields(spec, evaluation),
        settings={key: spec[key] for key in SETTINGS if key in spec},
        steps=0,
        train_seconds=0.0,
        sample_seconds=0.0,
        score_seconds=0.0,
        peak_memory_bytes=None,
        parameters=0,
        **circumstances(device),
    )


def _footing_fields(spec: dict[str, Any], evaluation: Evaluation) -> dict[str, Any]:
    """What rows must share to be compared, beside the data."""
    if spec["task"] == "generation":
        return {"evaluator_fits": evaluation.fits, "evaluator_epochs": evaluation.epochs}
    return {
        "evaluator_fits": 0,
        "evaluator_epochs": 0,
        "draws": evaluation.draws,
        "protocol": spec.get("protocol", {}),
    }


@dataclass(frozen=True)
class _Scored:
    scores: list[Score]
    summary: dict[str, np.ndarray]
    samples: Series | None
    sampled: float  # when the samples were there, by the monotonic clock


def _generation(
    spec: dict[str, Any], footing: Footing, weights: Path | None, device: torch.device
) -> _Scored:
    sampled = time.monotonic()
    if weights is None:
        fake, scores = control_scores(footing, spec["model"], spec["seed"], device)
    else:
        fake = draw(spec, footing, weights, device)
        sampled = time.monotonic()
        scores = score(footing, fake, spec["seed"], device)
    arrays = {} if fake is None else summary.summarise(footing.test, fake)
    return _Scored(scores, arrays, fake, sampled)


def _prediction(
    spec: dict[str, Any], footing: Footing, weights: Path | None, device: torch.device
) -> _Scored:
    seen = view(spec, footing.dataset)
    draws, size = footing.evaluation.draws, prediction.BATCH
    if weights is None:
        generator = torch.Generator().manual_seed(spec["seed"] + 1)
        predict = prediction.control_predictor(seen, spec["model"])
        bound = []
    else:
        if seen.grid == "union":  # on which a prediction depends on who shares the batch
            size = spec["training"]["batch_size"]
        model = load_trained(spec, footing.dataset, weights, device)
        generator = torch.Generator(device).manual_seed(spec["seed"] + 1)
        predict = prediction.predictor(model, device)
        bound = prediction.evidence(seen, model, size, device, generator)
    scores = prediction.score(seen, predict, footing.evaluation, size, generator) + bound
    sampled = time.monotonic()
    return _Scored(scores, prediction.examples(seen, predict, draws, generator), None, sampled)
