"""A trained cell in Python: its model, samples, predictions, and the arrays of its data set."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32

from datasets.base import Dataset
from datasets.errors import DataError
from harness import records
from harness.cells import CELL_FILE, RUN, CellSpec, prepared_data, read_cell
from harness.contract import Batch, Model, Prediction
from harness.errors import UserError
from harness.run.build import load_trained
from harness.run.outcome import OUTCOME, WEIGHTS, read_outcome
from harness.run.rerun import check_data
from harness.run.view import view


@dataclass(frozen=True)
class TrainedCell:
    """A cell whose training is done.

    Attributes
    ----------
    spec : CellSpec
        What the cell is: task, data set, model, seed, settings.
    dataset : Dataset
        Normalised arrays ``x``, ``t``, ``mask`` and the indices ``train``, ``validation``,
        ``test``; ``dataset.scaling.undo(x)`` brings values back to their unit, where all were
        scaled alike.
    model : Model
        With the weights that are scored, on the CPU.
    """

    spec: CellSpec
    dataset: Dataset
    model: Model

    @torch.no_grad()
    def sample(self, n: int, seed: int = 0) -> Float32[np.ndarray, "n L D"]:
        """Draw `n` series on the data set's grid, in its normalised units.

        Raises
        ------
        UserError
            If the cell's task is another one than generation, `n` is below 1 or `seed` below 0.
        """
        if self.spec.task != "generation":
            raise UserError(f"expected a cell of generation, found one of {self.spec.task}")
        _check_whole("n", n, lowest=1)
        _check_whole("seed", seed, lowest=0)
        t = torch.from_numpy(np.array(self.dataset.t[0]))
        return self.model.sample(n, t, torch.Generator().manual_seed(seed)).float().numpy()

    @torch.no_grad()
    def predict(
        self, indices: Any = None, n_samples: int = 10, seed: int = 0
    ) -> tuple[Batch, Prediction]:
        """Predict records as the task shows them: what was shown, and the prediction.

        Parameters
        ----------
        indices : (B,), optional
            Into the data set, from 0; the test records by default.
        n_samples : int
            Draws of a model with latent variables.
        seed : int

        Returns
        -------
        batch : Batch
            ``x``, ``t``, ``mask`` (1 where the model sees) and ``target`` (1 where it is scored).
        prediction : Prediction
            ``mean`` (S, B, L, D) and ``std``.

        Raises
        ------
        UserError
            If the cell's task is generation, an index is none of the data set, `n_samples` is
            below 1 or `seed` below 0.
        """
        if self.spec.task == "generation":
            raise UserError("expected a cell that predicts, found one of generation")
        _check_whole("n_samples", n_samples, lowest=1)
        _check_whole("seed", seed, lowest=0)
        chosen = np.asarray(self.dataset.test if indices is None else indices)
        whole = chosen.ndim == 1 and len(chosen) and chosen.dtype.kind in "iu"
        if not (whole and 0 <= chosen.min() <= chosen.max() < len(self.dataset.x)):
            raise UserError(
                f"indices: expected a list of whole numbers from 0 to {len(self.dataset.x) - 1},"
                f" found {indices!r:.80}"
            )
        batch = view(self.spec, self.dataset).batch(chosen)
        generator = torch.Generator().manual_seed(seed)
        return batch, self.model.predict(batch, n_samples, generator)


def _check_whole(name: str, value: Any, lowest: int) -> None:
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not (whole and lowest <= value < 2**63):
        raise UserError(f"{name}: expected a whole number from {lowest} on, found {value!r:.80}")


def load_cell(directory: str | Path, data: str | Path | None = None) -> TrainedCell:
    """Load a trained cell.

    Parameters
    ----------
    directory : path
        The cell's, ``<results>/<budget>/<task>/<dataset>/<model>/<seed>/``.
    data : path, optional
        The prepared data set; by default ``data/<dataset>.npz`` in the nearest folder around the
        cell that has one, as in ``<results>/<budget>/``.

    Raises
    ------
    UserError
        If it is no cell of a model, its training is missing, failed or was of another cell, or the
        data are missing, damaged or, by the record where there is one, other than it was scored on.
    """
    directory = Path(directory)
    record = directory / records.RECORD
    if record.is_file() and not (directory / CELL_FILE).is_file():
        raise UserError(
            f"{directory}: expected a trained cell, found a record alone, without weights; train it"
            f" again: python -m harness rerun {record}"
        )
    spec = read_cell(directory)
    if not isinstance(spec, CellSpec):
        found = f"the {spec.kind} {spec.model}"
        raise UserError(f"{directory}: expected the cell of a model, found {found}")
    for path in (directory / OUTCOME, directory / WEIGHTS):
        if not path.is_file():
            raise UserError(f"{path}: no such file; make it from its grid: {RUN} -- {path}")
    prepared = prepared_data(directory / OUTCOME, spec.dataset) if data is None else Path(data)
    if prepared is None:
        raise UserError(
            f"{directory}: expected data/{spec.dataset}.npz in a folder around it, found none; name"
            " the prepared data by `data`"
        )
    outcome = read_outcome(directory, spec)
    if outcome.status != "done":
        raise UserError(f"{directory}: expected a finished training, found {outcome.status}")
    try:
        dataset = Dataset.load(prepared)
    except DataError as error:
        raise UserError(str(error)) from None
    if dataset.name != spec.dataset:
        raise UserError(
            f"{prepared}: expected the data set {spec.dataset!r}, found {dataset.name!r}"
        )
    if record.is_file():
        check_data(records.read(record), dataset)
    model = load_trained(spec, dataset, directory / WEIGHTS, torch.device("cpu"))
    return TrainedCell(spec, dataset, model)
