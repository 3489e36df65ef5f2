"""Synthetic cells for the tests of tables, figures, report and tracking; no number is a result."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from datasets import base
from datasets.synthetic import load as sines
from harness import catalogue, records, texts
from harness.config import Protocol
from harness.contract import Batch, Prediction
from harness.powers import Power
from harness.present.comparison import Comparison, comparisons
from harness.present.frame import frame
from harness.records import Record, Score
from harness.run import prediction, summary
from harness.run.evaluate import write_arrays
from harness.run.view import View

TITLES = {
    "solar_weekly": "Solar Weekly",
    "flame": "FLAME",
    "nn5_daily": "NN5 Daily",
    "physionet": "PhysioNet 2012",
    "ushcn_maine": "USHCN, Maine",
    "ushcn_sporadic": "USHCN, sporadic",
}
GENERATED = ("nearest_train_generated", "nearest_train_test", "nearest_train_ratio")


def record(
    dataset: str = "solar_weekly",
    model: str = "ls4",
    seed: int = 0,
    scores: dict[str, tuple[float | None, float | None]] | None = None,
    **changes: Any,
) -> Record:
    """Make a record; `scores` are name -> (value, spread)."""
    control = model in catalogue.controls()
    fields: dict[str, Any] = {
        "task": "generation",
        "dataset": dataset,
        "model": model,
        "seed": seed,
        "budget": "full",
        "control": control,
        "config_hash": "c" * 64,
        "code_hash": "d" * 64,
        "data_digest": "a1" * 32,
        "split_digest": "b2" * 32,
        "status": "done",
        "reason": None,
        "scores": [Score(name=n, value=v, spread=s, n=28) for n, (v, s) in (scores or {}).items()],
        "title": TITLES[dataset],
        "n_train": 95,
        "n_validation": 14,
        "n_test": 28,
        "length": 52,
        "channels": 1,
        "evaluator_fits": 5,
        "evaluator_epochs": 100,
        "settings": {}
        if control
        else {
            "class": f"toy.{model}:Toy",
            "config": {"latent": 5, "pool": [1, 2]},
            "training": {"steps": 40, "batch_size": 16, "ema": {"decay": 0.9}},
        },
        "steps": 0 if control else 40,
        "train_seconds": 0.0 if control else 61.5,
        "sample_seconds": 1.5,
        "score_seconds": 30.0,
        "peak_memory_bytes": None if control else 300 * 2**20,
        "parameters": 0 if control else 12345,
        "commit": "0123456789abcdef0123456789abcdef01234567",
        "dirty": False,
        "versions": {"python": "3.11.7", "torch": "2.13.0"},
        "device": "CPU Synthetic",
        "threads": 2,
        "date": "2026-01-02T03:04:05+00:00",
    }
    return Record(**(fields | changes))


def scores(marginal: float, classification: float, prediction: float, **more: float) -> dict:
    """Scores of a row that generates: literal ones as given, robust ones near them."""
    given = {
        "marginal_literal": (marginal, None),
        "marginal_robust": (1.1 * marginal, 0.1 * marginal),
        "wasserstein": (2 * marginal, 0.1 * marginal),
        "classification_literal": (classification, None),
        "prediction_literal": (prediction, None),
        "classification_robust": (classification, 0.05),
        "classification_accuracy": (0.6, 0.1),
        "classification_auc": (0.7, 0.1),
        "prediction_robust": (prediction, 0.1 * prediction),
        **dict.fromkeys(GENERATED, (0.5, None)),
    }
    return given | {name: (value, None) for name, value in more.items()}


DISTANCES = ("marginal", "energy", "features", "spectrum", "neighbours")


def tests(p: float, by: Sequence[str] = (), nearer: float = 0.5, effect: float = 2.5,
          standardised: float | None = None) -> dict[str, float]:  # fmt: skip
    """Scores of the two-sample tests: `by` are the distances whose adjusted p is `p`."""
    found = {"p_all": p} | dict.fromkeys([f"p_{name}" for name in DISTANCES], p)
    found |= {f"p_adjusted_{name}": p if name in by else 0.9 for name in DISTANCES}
    found |= {f"effect_{name}": effect + k for k, name in enumerate(DISTANCES)}
    found |= {"feature_values: skewness": 0.3}
    if standardised is not None:
        found["p_all_standardised"] = standardised
        found |= {f"p_adjusted_{name}_standardised": standardised for name in DISTANCES}
    return found | {
        "p_nearer_train": nearer,
        "span_residual": 0.2,
        "span_residual_test": 0.6,
    }


def tested(model: str = "ls4", seed: int = 0, p: float = 0.34, by: Sequence[str] = (),
           **more: Any) -> Record:  # fmt: skip
    """Make a record of a row that was tested."""
    return record(model=model, seed=seed, scores=scores(0.1, 0.6, 0.1, **tests(p, by, **more)))


def power(data_digest: str = "a1" * 32, splits: int = 100, **shares: float) -> Power:
    """Power on Solar Weekly: each distance sees the fault that it is for as often as `shares` say.

    Without them, in 90 % of the splits.
    """
    targets = {
        "marginal": "shrunk_90",
        "energy": "one_side",
        "features": "moving_average",
        "spectrum": "noise_30",
        "neighbours": "gaussian",
    }
    seen = {"real": 0.06} | dict.fromkeys(targets.values(), 0.97)
    return Power(
        dataset="solar_weekly",
        data_digest=data_digest,
        n=28,
        season=None,
        splits=splits,
        permutations=199,
        level=0.05,
        shares={
            fault: {name: shares.get(name, 0.9) for name in DISTANCES} | {"all": share}
            for fault, share in seen.items()
        },
        targets=targets,
        version="1.0",
        commit="0123456",
        date="2026-01-02T03:04:05+00:00",
    )


CONTROLS = {
    "noise_floor": scores(0.030, 0.70, 0.10),
    "memoriser": scores(0.035, 0.72, 0.10),
    "gaussian": scores(0.040, 0.65, 0.09),
    "white_noise": scores(0.070, 0.03, 1.8),
    "persistence": {"prediction_literal": (0.8, None), "prediction_robust": (0.8, None)},
}


def solar() -> list[Record]:
    """Three seeds of two models, one of which diverges once, a model that never ends, controls."""
    rows = [record(seed=s, scores=scores(0.045 + 0.002 * s, 0.68, 0.14)) for s in range(3)]
    rows += [record(model="rnn_vae", seed=s, scores=scores(0.2, 0.1, 0.5)) for s in (0, 2)]
    rows.append(
        record(model="rnn_vae", seed=1, status="diverged", reason="step 12: loss nan", steps=12)
    )
    rows += [
        record(
            model="latent_ode",
            seed=s,
            status="timeout",
            reason="stopped after 8 min at step 31",
            steps=31,
        )
        for s in range(3)
    ]
    rows += [record(model=name, scores=values) for name, values in CONTROLS.items()]
    return rows


def flame() -> list[Record]:
    """Two models and the controls, with scores that only this data set has."""
    shape = {"length": 1000, "n_test": 104, "data_digest": "f0" * 32}
    own = {"marginal_step_5": 0.3, "ignition_w1": 12.0, "never_ignited": 0.25}
    values = scores(0.5, 0.2, 0.001, **own)
    rows = [record("flame", model, 0, values, **shape) for model in ("ls4", "latent_ode")]
    return rows + [
        record(
            "flame",
            name,
            0,
            v if name == "persistence" else scores(0.1, 0.6, 0.001, **own),
            **shape,
        )
        for name, v in CONTROLS.items()
    ]


PREDICTING = ("reconstruction", "interpolation", "extrapolation")
SHARES = (0.1, 0.3, 0.7, 0.9)
UNAVAILABLE = "data not available: ushcn/small.csv: no place had the right file"


def predicted(task: str, dataset: str = "physionet", model: str = "ls4", mse: float | None = 0.004,
              bound: float | None = None, **changes: Any) -> Record:  # fmt: skip
    """Make a record of predictions with the micro error `mse`; other averages differ from it."""
    scores: dict[str, tuple[float | None, float | None]] = {}
    if mse is not None:
        for average, factor in {"micro": 1.0, "macro": 2.0, "ls4": 1.5}.items():
            scores[f"mse_{average}"] = (factor * mse, 0.1 * mse)
            scores[f"mse_draw_{average}"] = (1.2 * factor * mse, 0.1 * mse)
            scores[f"crps_{average}"] = (factor * mse**0.5 / 2, 0.05 * mse**0.5)
        scores["crps_literal"] = (mse**0.5, 0.1 * mse**0.5)
        if task == "interpolation":
            for share in SHARES:
                name = f"mse_micro_hidden_{round(100 * share)}"
                scores[name] = (mse * (0.5 + share), 0.1 * mse)
        if bound is not None:
            parts = {"": bound, "_kl": 20.0, "_nll": bound - 20, "_floor": -900.0}
            scores |= {f"neg_elbo{part}": (value, 3.0) for part, value in parts.items()}
            scores |= {"neg_elbo_per_value": (bound / 400, None), "neg_elbo_sigma": (0.05, None)}
    hides = task != "reconstruction"
    protocol = {"hidden": 0.5, "cut": "time", "seed": 0}
    fields = {
        "task": task,
        "n_train": 70,
        "n_validation": 10,
        "n_test": 20,
        "length": 40,
        "channels": 3,
        "evaluator_fits": 0,
        "evaluator_epochs": 0,
        "draws": 100,
        "protocol": protocol if hides else {},
    }
    made = record(dataset, model, changes.pop("seed", 0), scores, **(fields | changes))
    scored = [score.model_copy(update={"n": 19}) for score in made.scores]  # one record is empty
    return made.model_copy(update={"scores": scored})


def physionet() -> list[Record]:
    """Three tasks: models with several seeds, a failure, a union grid, a bound; the controls."""
    found = []
    for task in PREDICTING:
        for seed in range(3):
            found.append(predicted(task, mse=0.004 + 0.001 * seed, bound=-300.0, seed=seed))
        union = found[-1].settings | {"training": {"steps": 40, "batch_size": 16, "grid": "union"}}
        found += [
            predicted(task, model="ls4_union", mse=0.007, settings=union),
            predicted(task, model="rnn", mse=0.02),
            predicted(task, model="rnn", mse=None, seed=1, status="diverged",
                      reason="step 12: loss nan", steps=12),
            predicted(task, model="cru", mse=None, status="timeout",
                      reason="stopped after 8 min at step 31", steps=31),
            predicted(task, model="mean", mse=0.05),
            predicted(task, model="locf", mse=0.0 if task == "reconstruction" else 0.015),
            predicted(task, model="gp", mse=0.0045),
        ]  # fmt: skip
    return found


def unavailable() -> list[Record]:
    """A data set whose files could not be had."""
    nothing = {"data_digest": "", "split_digest": "", "n_train": 0, "n_validation": 0, "n_test": 0,
               "length": 0, "channels": 0, "steps": 0, "parameters": 0,
               "peak_memory_bytes": None}  # fmt: skip
    return [
        predicted(task, "ushcn_sporadic", model, None, status="skipped", reason=UNAVAILABLE,
                  **nothing)
        for task in PREDICTING
        for model in ("ls4", "rnn", "mean")
    ]  # fmt: skip


def irregular(name: str, title: str) -> base.Dataset:
    """Sines at irregular times with gaps, in place of records of patients."""
    split = {"seed": 0, "fractions": (0.7, 0.1, 0.2)}
    return sines([], name=name, title=title, n=100, length=40, channels=3, seed=0, observed=0.5,
                 split=split)  # fmt: skip


def _examples(cell: Record) -> dict[str, np.ndarray]:
    """Predictions of a few records, by a line through what is shown, moved a little."""
    grid = cell.settings.get("training", {}).get("grid", "record")
    dataset = irregular(cell.dataset, cell.title)
    seen = View(dataset, cell.task, Protocol(**cell.protocol), grid)
    straight = prediction.control_predictor(seen, "linear")

    def predict(
        records: np.ndarray, batch: Batch, draws: int, generator: torch.Generator
    ) -> Prediction:
        mean, std = straight(records, batch, draws, generator)
        return Prediction(mean + 0.01 * len(cell.model), std + 0.2)

    return prediction.examples(seen, predict, 1, torch.Generator())


def frame_of(cells: Sequence[Record]) -> pd.DataFrame:
    """Return the frame of records that lie nowhere."""
    return frame({Path(f"cells/{i}"): cell for i, cell in enumerate(cells)})


def compare(cells: Sequence[Record]) -> list[Comparison]:
    """Arrange records as the tables do."""
    return comparisons(frame_of(cells))


def write_cells(folder: Path, cells: list[Record]) -> Path:
    """Write cells' directories as the harness does: record, summary and, for models, history."""
    for cell in cells:
        where = folder / cell.task / cell.dataset / cell.model / str(cell.seed)
        records.write(cell, where / "record.json")
        arrays = {}
        if cell.task in PREDICTING:
            arrays = _examples(cell) if cell.status == "done" else {}
        elif cell.status == "done" and cell.model != "persistence":
            arrays = summary.summarise(*_series(cell))
        write_arrays(where / "summary.npz", arrays)
        if not cell.control:
            lines = _history(cell)
            texts.write_text(where / "history.jsonl", "".join(json.dumps(r) + "\n" for r in lines))
    return folder


def prepare(folder: Path, cells: list[Record]) -> list[Record]:
    """Write prepared data for the cells and return the cells with the digests of these data."""
    digests = {}
    for cell in {cell.dataset: cell for cell in cells}.values():
        predicts = cell.task in PREDICTING
        dataset = irregular(cell.dataset, cell.title) if predicts else _regular(cell)
        dataset.save(folder / f"{cell.dataset}.npz")
        digests[cell.dataset] = {
            "data_digest": dataset.data_digest,
            "split_digest": dataset.split_digest,
        }
    return [cell.model_copy(update=digests[cell.dataset]) for cell in cells]


def _regular(cell: Record) -> base.Dataset:
    x = np.random.default_rng(0).standard_normal((30, cell.length, 1)).astype(np.float32)
    return base.build(
        name=cell.dataset,
        title=cell.title,
        x=x,
        t=base.regular_times(*x.shape[:2]),
        mask=np.ones(x.shape, bool),
        split_options={"seed": 0, "fractions": (0.7, 0.1, 0.2)},
        normalisation="none",
        unit="metre",
        options={},
    )


def _series(cell: Record) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng([cell.seed, len(cell.model)])
    t = np.arange(cell.length)
    n = cell.n_test
    if cell.dataset == "flame":
        start = np.exp(rng.uniform(np.log(3), np.log(100), (2, n, 1)))
        real, fake = 1 / (1 + np.exp(np.clip((start - t) / 1.5, -50, 50)))
        fake = fake + 0.05 * rng.standard_normal(fake.shape)
    else:
        phase = rng.uniform(0, 1, (2, n, 1))
        real, fake = np.sin(2 * np.pi * (t / 26 + phase)) + 0.3 * rng.standard_normal(
            (2, n, t.size)
        )
    return real[..., None].astype(np.float32), fake[..., None].astype(np.float32)


def _history(cell: Record) -> list[dict]:
    rng = np.random.default_rng([cell.seed, len(cell.model), 1])
    scale = 500 if cell.model == "ls4" else 20
    rows = []
    for step in range(1, cell.steps + 1):
        loss = scale * (np.exp(-step / 8) - 0.1) + 0.02 * scale * rng.standard_normal()
        rows.append(
            {"step": step, "loss": loss, "kl": 3.0, "lr": 1e-3, "validation_loss": 1.1 * loss}
        )
    return rows
