"""Synthetic cells for the tests of tables, figures, report and tracking; no number is a result."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from datasets import base
from harness import records, summary
from harness.records import Record, Score

TITLES = {"solar_weekly": "Solar Weekly", "flame": "FLAME", "nn5_daily": "NN5 Daily"}
GENERATED = ("nearest_train_generated", "nearest_train_test", "nearest_train_ratio")


def record(
    dataset: str = "solar_weekly",
    model: str = "ls4",
    seed: int = 0,
    scores: dict[str, tuple[float | None, float | None]] | None = None,
    **changes: Any,
) -> Record:
    """Make a record; `scores` are name -> (value, spread)."""
    control = model in ("noise_floor", "memoriser", "gaussian", "white_noise", "persistence")
    fields: dict[str, Any] = {
        "task": "generation",
        "dataset": dataset,
        "model": model,
        "seed": seed,
        "budget": "cpu",
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


def write_cells(folder: Path, cells: list[Record]) -> Path:
    """Write cells' directories as the harness does: record, summary and, for models, history."""
    for cell in cells:
        where = folder / cell.task / cell.dataset / cell.model / str(cell.seed)
        records.write(cell, where / "record.json")
        arrays = {}
        if cell.status == "done" and cell.model != "persistence":
            arrays = summary.summarise(*_series(cell))
        summary.write(where / "summary.npz", arrays)
        if not cell.control:
            lines = _history(cell)
            records.write_text(
                where / "history.jsonl", "".join(json.dumps(r) + "\n" for r in lines)
            )
    return folder


def prepare(folder: Path, cells: list[Record]) -> list[Record]:
    """Write prepared data for the cells and return the cells with the digests of these data."""
    digests = {}
    for cell in {cell.dataset: cell for cell in cells}.values():
        x = np.random.default_rng(0).standard_normal((30, cell.length, 1)).astype(np.float32)
        dataset = base.build(
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
        dataset.save(folder / f"{cell.dataset}.npz")
        digests[cell.dataset] = {
            "data_digest": dataset.data_digest,
            "split_digest": dataset.split_digest,
        }
    return [cell.model_copy(update=digests[cell.dataset]) for cell in cells]


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
