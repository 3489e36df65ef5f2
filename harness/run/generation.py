"""Scores of generated series: the same for models, controls and samples that a user brings.

docs/scores.md explains each name.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int

from datasets.base import Dataset
from harness.cells import CellSpec, ControlSpec, Scoring
from harness.checks import load
from harness.config import DatasetFile, Evaluation
from harness.contract import Diverged, Model
from harness.errors import UserError
from harness.records import Score
from harness.run.streams import numpy_stream, torch_stream
from metrics.classification import ClassificationFit, classify
from metrics.diversity import band_ratio
from metrics.marginal import (
    bin_counts,
    bootstrap,
    marginal_literal,
    marginal_robust,
    wasserstein,
)
from metrics.memorisation import memorisation, span_residual
from metrics.paired import SeriesErrors
from metrics.prediction import HORIZON, PredictionFit, persistence, predict
from metrics.two_sample import TwoSample, resolution, standardise, two_sample

Series = Float[np.ndarray, "N L D"]
Samples = Float[np.ndarray, "M L D"]

BATCH = 128  # series that are sampled at once
BOOTSTRAPS = 100
FEWEST = 3  # test series, or samples, that evaluators can be trained and tested on
FEATURES = 5  # that differ most, kept in the record
# The literal scores are one evaluator fit; the robust ones are fits with seeds 0, 1, ... They are
# the same for all rows, so that rows differ by their samples alone.
LITERAL_SEED = 1000


@dataclass(frozen=True)
class ScoringSetup:
    """What every row of a data set's table is scored against, and how."""

    dataset: Dataset
    scoring: Scoring

    @property
    def description(self) -> DatasetFile:
        return self.scoring.dataset

    @property
    def evaluation(self) -> Evaluation:
        return self.scoring.evaluation

    @property
    def test(self) -> Series:
        return self.dataset.x[self.dataset.test]

    @property
    def train(self) -> Series:
        return self.dataset.x[self.dataset.train]

    @property
    def group(self) -> Int[np.ndarray, "N"]:
        """What each test series belongs to."""
        return self.dataset.groups[self.dataset.test]

    @property
    def evaluated(self) -> slice:
        """The series, of test series and of samples, that the evaluators are given."""
        return slice(self.description.evaluator_series)


def check_scorable(dataset: Dataset) -> None:
    """Refuse data that the scores of samples cannot work with, before anything is trained.

    Raises
    ------
    UserError
        For too few or too short test series, a channel that is constant in them, or more than half
        of them in the training part.
    """
    test = dataset.x[dataset.test]
    where = f"data set {dataset.name}, generation: expected"
    if len(test) < FEWEST:
        raise UserError(f"{where} at least {FEWEST} test series, found {len(test)}")
    if test.shape[1] <= HORIZON:
        raise UserError(
            f"{where} series longer than the {HORIZON} predicted steps, found {test.shape[1]}"
        )
    for channel in range(test.shape[2]):
        values = test[..., channel]
        if values.min() == values.max():
            raise UserError(
                f"{where} test series that vary, found channel {channel} constant at"
                f" {values.min():g}"
            )
    known = {(series + 0.0).tobytes() for series in dataset.x[dataset.train]}  # -0.0 is 0.0
    copies = sum((series + 0.0).tobytes() in known for series in test)
    if 2 * copies > len(test):
        raise UserError(
            f"{where} test series that are not in the training part, found {copies} of"
            f" {len(test)} there"
        )


def score(
    setup: ScoringSetup, samples: Samples, device: torch.device | str = "cpu"
) -> tuple[list[Score], dict[str, np.ndarray]]:
    """Return all scores of generated series, and the errors of single series.

    Parameters
    ----------
    setup : ScoringSetup
        Test and training series and the evaluators' settings.
    samples : (n, L, D)
        In normalised units; as many as there are test series, by the paper's protocol.
    device : torch.device or str
        Where the evaluators are trained.

    Returns
    -------
    scores : list of Score
    errors : dict
        The fields of `metrics.paired.SeriesErrors`.

    Raises
    ------
    metrics.network.Unscorable
        If an evaluator's test loss is not finite.
    ValueError
        For samples of another length or number of channels, or fewer than 3.
    """
    real, settings = setup.test, setup.evaluation
    n = len(real)
    scores = [
        Score(name="marginal_literal", value=marginal_literal(real, samples), n=n),
        _bootstrapped("marginal_robust", marginal_robust, setup, samples),
        _bootstrapped("wasserstein", wasserstein, setup, samples),
    ]
    shared = {"epochs": settings.epochs, "device": device}
    output = setup.description.prediction_output
    some_real, some_samples = real[setup.evaluated], samples[setup.evaluated]

    def fits(seed: int) -> tuple[ClassificationFit, PredictionFit]:
        classifier = classify(some_real, some_samples, seed=seed, **shared)
        return classifier, predict(some_real, some_samples, seed=seed, output=output, **shared)

    classifier, predictor = fits(LITERAL_SEED)
    classifiers, predictors = zip(*map(fits, range(settings.fits)), strict=True)
    n_test = classifier.n_test
    scores += [
        Score(name="classification_literal", value=classifier.literal, n=n_test),
        Score(name="prediction_literal", value=predictor.literal, n=len(some_real)),
        _over_fits("classification_robust", [c.bce for c in classifiers], n_test),
        _over_fits("classification_accuracy", [c.accuracy for c in classifiers], n_test),
        _over_fits("classification_auc", [c.auc for c in classifiers], n_test),
        _over_fits("prediction_robust", [p.mse for p in predictors], len(some_real)),
    ]
    scores += _tests(setup, samples) + _memorisation(setup, samples) + _diversity(setup, samples)
    real_counts, generated_counts = bin_counts(some_real, some_samples)
    errors = SeriesErrors(
        real_counts=real_counts,
        generated_counts=generated_counts,
        classification=np.stack([c.losses for c in classifiers]),
        prediction=np.stack([p.errors for p in predictors]),
        group=setup.group[setup.evaluated],
    )
    return scores + own_scores(setup, samples), errors._asdict()


def _tests(setup: ScoringSetup, samples: Samples) -> list[Score]:
    """Whether samples are told apart from test series, how far off they are, and by which features.

    As they are and, where the preparation of the data standardises every series, once more with
    every sample standardised. Nothing where the test series are windows of fewer than 3 series.
    """
    real, train, season = setup.test, setup.train, setup.description.season
    n, units = len(real), len(np.unique(setup.group))
    if units < FEWEST:
        return []

    def tested(samples: Samples) -> TwoSample:
        return two_sample(real, samples, train, group=setup.group, season=season)

    result, m = tested(samples), len(samples) if units == n else units
    # all real series: training, validation and test
    everything = setup.dataset.x, units, m, train
    limits = resolution(*everything, group=setup.dataset.groups, season=season)
    scores = [Score(name="p_all", value=result.p_all, n=n)]
    scores += [Score(name=f"p_{name}", value=p, n=n) for name, p in result.p.items()]
    scores += [Score(name=f"p_adjusted_{name}", value=p) for name, p in result.p_adjusted.items()]
    scores += [Score(name=f"effect_{k}", value=v) for k, v in result.effect(limits).items()]
    scores += [
        Score(name="feature_" + re.sub(r"\W+", "_", name).strip("_"), value=distance)
        for name, distance in list(result.features.items())[:FEATURES]
    ]
    if setup.description.standardised:
        same_scale = standardise(samples).astype(np.float32)
        result = tested(same_scale)
        scores.append(Score(name="p_all_standardised", value=result.p_all, n=n))
        scores += [
            Score(name=f"p_adjusted_{name}_standardised", value=p)
            for name, p in result.p_adjusted.items()
        ]
    return scores


def _memorisation(setup: ScoringSetup, samples: Samples) -> list[Score]:
    """Distances to the training series, and what lies outside of their span."""
    n, found = len(setup.test), memorisation(setup.test, samples, setup.train)
    return [
        Score(name="nearest_train_generated", value=found.generated, n=n),
        Score(name="nearest_train_test", value=found.test, n=n),
        Score(name="nearest_train_ratio", value=found.ratio, n=n),
        Score(name="p_nearer_train", value=found.p, n=n),
        Score(name="span_residual", value=_span(setup, samples), n=n),
        Score(name="span_residual_test", value=_span(setup, setup.test), n=n),
    ]


def _diversity(setup: ScoringSetup, samples: Samples) -> list[Score]:
    """How wide samples spread; nothing where the test series do not."""
    found = band_ratio(setup.test, samples)
    return [] if found is None else [Score(name="band_ratio", value=found, n=len(setup.test))]


def _span(setup: ScoringSetup, series: Series) -> float:
    return float(span_residual(series, setup.train).mean())


def own_scores(setup: ScoringSetup, samples: Samples) -> list[Score]:
    """Return the scores that only this data set has; none for most."""
    if setup.description.own_scores is None:
        return []
    undo = setup.dataset.scaling.undo
    score = load(setup.description.own_scores)
    own: Mapping[str, float] = score(undo(setup.test), undo(samples))
    return [Score(name=name, value=value, n=len(setup.test)) for name, value in own.items()]


def _bootstrapped(name: str, function: Any, setup: ScoringSetup, samples: Samples) -> Score:
    real = setup.test
    spread = bootstrap(function, real, samples, BOOTSTRAPS, seed=0, group=setup.group)
    return Score(name=name, value=function(real, samples), spread=spread, n=len(real))


def _over_fits(name: str, values: list[float], n: int) -> Score:
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return Score(name=name, value=float(np.mean(values)), spread=spread, n=n)


def control_scores(
    spec: ControlSpec, setup: ScoringSetup, device: torch.device | str = "cpu"
) -> tuple[Series | None, list[Score], dict[str, np.ndarray]]:
    """Return a control's samples, their scores and errors; no samples of one that only predicts.

    Raises
    ------
    Diverged
        If a sample is not finite.
    """
    if spec.draw is None:
        fit = persistence(setup.test[setup.evaluated])
        scores = [
            Score(name="prediction_literal", value=fit.literal, n=fit.n_test),
            Score(name="prediction_robust", value=fit.mse, n=fit.n_test),
        ]
        errors = {"prediction": fit.errors[None], "group": setup.group[setup.evaluated]}
        return None, scores, errors
    n, rng = len(setup.test), numpy_stream(spec, "control")
    draw = load(spec.draw)
    if spec.model in setup.description.controls:  # in the unit before scaling
        scaling = setup.dataset.scaling
        samples = scaling.apply(draw(scaling.undo(setup.train), n, rng))
    else:
        samples = draw(setup.train, n, rng)
    _check_finite(samples)
    return samples, *score(setup, samples, device)


@torch.no_grad()
def draw(model: Model, spec: CellSpec, dataset: Dataset, device: torch.device) -> Series:
    """Draw as many samples from a cell's trained model as there are test series.

    Raises
    ------
    Diverged
        If a sample is not finite.
    UserError
        If the model draws samples of another number or shape.
    """
    generator = torch_stream(spec, "sampling", device)
    t = torch.from_numpy(np.array(dataset.t[0])).to(device)
    n = len(dataset.test)
    parts = [min(BATCH, n - start) for start in range(0, n, BATCH)]
    drawn = [model.sample(part, t, generator).float().cpu() for part in parts]
    samples, expected = torch.cat(drawn).numpy(), (n, *dataset.x.shape[1:])
    if samples.shape != expected:
        raise UserError(f"{spec.class_}: sample: expected shape {expected}, found {samples.shape}")
    _check_finite(samples)
    return samples


def _check_finite(samples: Series) -> None:
    bad = np.sum(~np.isfinite(samples).all((1, 2)))
    if bad:
        raise Diverged(f"sampling: {bad} of {len(samples)} not finite")
