"""Run a record's cell again: what the record says of it, and what differs this time.

A record keeps what its cell was described by (settings, protocol, seed) and how it was scored. Of
the further shares of hidden points, only the scores' names tell. The data are found by their
digests: a record does not say how a configuration changed a data set.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from datasets.base import Dataset
from harness import catalogue
from harness.cells import CELL_FILE, CellSpec, ControlSpec, Scoring, draw_of
from harness.checks import check, load, model_config
from harness.config import Evaluation
from harness.errors import UserError
from harness.records import Record
from harness.run.evaluate import Evaluated, evaluate_control, evaluate_model
from harness.run.generation import ScoringSetup
from harness.run.outcome import WEIGHTS
from harness.run.train import train
from harness.texts import write_json

HIDDEN = r"mse_micro_hidden_(\d+)"  # the score at a further share of hidden points, in percent
TOLERANCE = 3  # spreads by which scores may differ where not all is the same


@dataclass(frozen=True)
class Difference:
    """A score of the record and of the rerun; `tolerance` is None where no spread is known.

    Not `in_both` are scores of one version alone.
    """

    name: str
    record: float | None
    rerun: float | None
    tolerance: float | None
    in_both: bool = True

    @property
    def gap(self) -> float | None:
        """The difference; None where one of the two has no such score."""
        if self.record is None or self.rerun is None:
            return None
        return abs(self.record - self.rerun)

    @property
    def within(self) -> bool | None:
        """Whether the two are as near as expected; None where that is not known."""
        if not self.in_both:
            return None
        if self.gap is None:
            return self.record == self.rerun
        if self.tolerance is None:
            return True if self.gap == 0 else None
        return self.gap <= self.tolerance


def recipe(record: Record, where: str) -> tuple[CellSpec | ControlSpec, Scoring]:
    """Return the cell of a record and how it was scored.

    A class that is no longer there is replaced by the one that the model's file names now.

    Parameters
    ----------
    record : Record
    where : str
        The record's file, for messages.

    Raises
    ------
    UserError
        If nothing was run, or the record lacks what describes its model.
    """
    if record.status == "skipped":
        raise UserError(f"{where}: nothing to run again: {record.reason}")
    identity: dict[str, Any] = {
        key: getattr(record, key) for key in ("task", "dataset", "model", "seed", "budget")
    } | {"protocol": record.protocol or None}
    if record.control:
        draw = draw_of(catalogue.dataset(record.dataset), record.model)
        spec: CellSpec | ControlSpec = check(ControlSpec, identity | {"draw": draw}, where)
    else:
        lacking = [k for k in ("class", "config", "training") if k not in record.settings]
        if lacking:
            raise UserError(f"{where}: settings: {', '.join(lacking)} missing, cannot be rebuilt")
        settings = record.settings | {"class": _class(record)}
        spec = check(CellSpec, identity | settings, f"{where}: settings")
        model_config(load(spec.class_), spec.config, f"{where}: settings.config")
    evaluation = _evaluation(record, where)
    return spec, Scoring(dataset=catalogue.dataset(record.dataset), evaluation=evaluation)


def _class(record: Record) -> str:
    own = str(record.settings["class"])
    try:
        load(own)
    except UserError:
        if record.model in catalogue.available("models"):
            return catalogue.model(record.model).class_
        raise
    return own


def _evaluation(record: Record, where: str) -> Evaluation:
    if record.task == "generation":
        known = {"fits": record.evaluator_fits, "epochs": record.evaluator_epochs}
        return check(Evaluation, known, where)
    found = (re.fullmatch(HIDDEN, score.name) for score in record.scores)
    shares = [int(match[1]) / 100 for match in found if match]
    known = {"draws": record.draws, "shares": shares}
    # absent from earlier records
    known |= {} if record.share_draws is None else {"share_draws": record.share_draws}
    return check(Evaluation, known, where)


def check_data(record: Record, dataset: Dataset) -> None:
    """Refuse other values or another split than the record's.

    Raises
    ------
    UserError
        Naming both.
    """
    expected = record.data_digest, record.split_digest
    found = dataset.data_digest, dataset.split_digest
    if found != expected:
        raise UserError(
            f"data set {dataset.name}: expected data {expected[0][:12]} and split"
            f" {expected[1][:12]}, found {found[0][:12]} and {found[1][:12]}; name the record's own"
            " prepared data"
        )


def rerun(
    spec: CellSpec | ControlSpec,
    scoring: Scoring,
    dataset: Dataset,
    directory: Path,
    device: torch.device,
) -> Evaluated:
    """Train and score a cell in a directory; one that was interrupted there is gone on with."""
    write_json(directory / CELL_FILE, spec.model_dump(mode="json", by_alias=True))
    setup = ScoringSetup(dataset, scoring)
    if isinstance(spec, ControlSpec):
        done = evaluate_control(spec, setup, device)
    else:
        outcome = train(spec, dataset, directory, device)
        done = evaluate_model(spec, setup, outcome, directory / WEIGHTS, device)
    done.write(directory)
    return done


def differing(old: Record, new: Record) -> dict[str, tuple[Any, Any]]:
    """Return what differs and may change a result: by its name, as it was and as it is."""
    both = [
        {key: getattr(record, key) for key in ("code_hash", "scoring")}
        | {"class": record.settings.get("class")}
        | {key: getattr(record, key) for key in ("device", "threads")}
        | record.versions
        for record in (old, new)
    ]
    pairs = {name: (both[0].get(name), both[1].get(name)) for name in both[0] | both[1]}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def compare(old: Record, new: Record, seeds: Sequence[Record] = ()) -> list[Difference]:
    """Return the scores of both with the tolerance that docs/experiments.md explains.

    Zero where all circumstances are the same on a CPU; else three times the larger of the score's
    own spread and its standard deviation over `seeds`, the records of the same row.
    """
    equal = not differing(old, new) and new.device.startswith("CPU")
    was, now = ({s.name: s for s in record.scores} for record in (old, new))
    found = []
    for name in dict.fromkeys([*was, *now]):
        values = [score.value if score else None for score in (was.get(name), now.get(name))]
        spreads = [was[name].spread] if name in was else []
        over_seeds = [
            score.value
            for record in seeds
            for score in record.scores
            if score.name == name and score.value is not None
        ]
        spreads += [float(np.std(over_seeds, ddof=1))] if len(over_seeds) > 1 else []
        known = [spread for spread in spreads if spread]
        tolerance = 0.0 if equal else TOLERANCE * max(known) if known else None
        in_both = name in was and name in now
        found.append(Difference(name, values[0], values[1], tolerance, in_both))
    return found
