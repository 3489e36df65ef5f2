"""All records as one long frame: a line for each record and score. What presents results reads it.

The columns of a record repeat in each of its lines. A record without scores has one line, without
`score`. Besides the fields of `harness.records.Record` (its mappings as JSON) there are:

=============== ==================================================================================
column          meaning
=============== ==================================================================================
folder          the cell's directory
score           name of the score; `value`, `spread` and `n` are its. Where a record is older than
                the score ``band_ratio``, it is made here from the summary
ending          how a cell ended that is not done, in a few words
variant_of      the model that this one is a variant of
made_here       whether the benchmark makes the samples or predictions; it can make them again
union_grid      whether batches shared one time grid: predictions depend on others in the batch
planned_steps   optimiser steps that the budget grants
validation_loss of the weights that are scored
epoch_seconds   training time, with that of the validation losses, of a pass over the training data
=============== ==================================================================================
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from harness.present import files
from harness.present.text import ending
from harness.records import IDENTITY, Record
from metrics.diversity import ratio

WHOLE = (
    "seed", "n_train", "n_validation", "n_test", "length", "channels", "evaluator_fits",
    "evaluator_epochs", "draws", "steps", "planned_steps", "peak_memory_bytes", "parameters",
    "threads", "n",
)  # fmt: skip
REAL = (
    "train_seconds",
    "sample_seconds",
    "score_seconds",
    "epoch_seconds",
    "validation_loss",
    "value",
    "spread",
)
YES_OR_NO = ("control", "made_here", "union_grid")
SCORE = ("score", "value", "spread", "n")
BAND_RATIO = "band_ratio"
OF = ("real", "fake")  # series, in summaries
TYPES = dict.fromkeys(WHOLE, "Int64") | dict.fromkeys(REAL, float) | dict.fromkeys(YES_OR_NO, bool)


def read(folders: Sequence[Path]) -> pd.DataFrame:
    """Return the frame of all records below some folders; see `harness.present.files.find`."""
    return frame(files.find(folders))


def frame(records: Mapping[Path, Record]) -> pd.DataFrame:
    """Return the frame of records that are given by their cells' directories."""
    lines = []
    for folder, record in sorted(records.items(), key=lambda item: files.identity(item[1])):
        fields = _fields(record) | {"folder": folder}
        # A score of no record is none; other scores without a value were not finite.
        scores = [(s.name, s.value, s.spread, s.n) for s in record.scores if s.n != 0]
        if BAND_RATIO not in {name for name, *_ in scores}:
            scores += [(BAND_RATIO, value, None, None) for value in _band_ratio(folder)]
        scores = scores or [(None,) * len(SCORE)]
        lines += [fields | dict(zip(SCORE, score, strict=True)) for score in scores]
    return pd.DataFrame(lines).astype(TYPES)


def without_scores(frame: pd.DataFrame) -> pd.DataFrame:
    """Return one line for each record."""
    return frame.drop_duplicates(IDENTITY).drop(columns=list(SCORE))


def _fields(record: Record) -> dict[str, Any]:
    """Return what all lines of a record have in common."""
    training = record.settings.get("training", {})
    fields = record.model_dump(exclude={"scores"})
    return {
        **{
            key: _json(value) if isinstance(value, dict) else value for key, value in fields.items()
        },
        "ending": None if record.status == "done" else ending(record.status, record.reason),
        "variant_of": record.settings.get("variant_of"),
        "made_here": record.made_here,
        "union_grid": training.get("grid") == "union",
        "planned_steps": training.get("steps"),
        "epoch_seconds": _epoch_seconds(record),
        "validation_loss": record.validation_loss,
    }


def _band_ratio(folder: Path) -> list[float]:
    """Return a cell's `metrics.diversity.band_ratio`, or nothing."""
    arrays = files.summary(folder)
    if "fake_low" not in arrays:
        return []
    found = ratio(*(np.stack([arrays[f"{of}_{end}"] for end in ("low", "high")]) for of in OF))
    return [] if found is None else [found]


def _json(mapping: dict[str, Any]) -> str:
    """Return equal texts for equal mappings."""
    return json.dumps(mapping, sort_keys=True, separators=(",", ":"))


def _epoch_seconds(record: Record) -> float | None:
    if not record.steps:
        return None
    steps_per_epoch = math.ceil(record.n_train / record.settings["training"]["batch_size"])
    return record.train_seconds / record.steps * steps_per_epoch
