"""From a data set to batches: which series come in which step, and what a task shows of them.

============== ===================================== ======================================
task           the model sees (`Batch.mask`)         fitted and scored (`Batch.target`)
============== ===================================== ======================================
generation     everything observed                   the same
reconstruction everything observed                   the same
interpolation  the time points that are not hidden   the hidden ones
extrapolation  the time points before the cut        the others
============== ===================================== ======================================

Records lie on their own time grids, padded at the end. On the grid ``union``, the released codes'
(Latent ODE, LS4), all records of a batch share the union of their times, and most rows of a record
are empty: what a model says of a record then depends on its neighbours.
"""

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float32

from datasets.base import Dataset
from harness.cells import CellSpec, Spec
from harness.config import Grid, Protocol
from harness.contract import Batch, Task
from harness.errors import UserError


@dataclass(frozen=True)
class View:
    """A data set as a task shows it.

    Attributes
    ----------
    dataset : Dataset
    task : Task
    protocol : Protocol
        Of interpolation and extrapolation; the other tasks hide nothing.
    grid : "record" or "union"
    """

    dataset: Dataset
    task: Task = "generation"
    protocol: Protocol = field(default_factory=Protocol)
    grid: Grid = "record"

    def batch(self, indices: np.ndarray, hidden: float | None = None) -> Batch:
        """Gather some series.

        Parameters
        ----------
        indices : (B,)
            Into the data set.
        hidden : float, optional
            Share of the time points that interpolation hides; the protocol's by default.
        """
        x, observed = self.dataset.x[indices], self.dataset.mask[indices]
        t = np.ascontiguousarray(self.dataset.t[indices])
        shown = target = observed
        rows = np.any(observed, axis=-1)
        if self.task == "interpolation":
            share = self.protocol.hidden if hidden is None else hidden
            hide = hidden_rows(rows, indices, share, self.protocol.seed)[..., None]
            shown, target = observed & ~hide, observed & hide
        if self.grid == "union":
            t, (x, shown, target) = on_union(t, rows, (x, shown, target))
        elif self.task != "generation":  # whose length the model relies on
            length = int(np.flatnonzero(rows.any(axis=0)).max(initial=0)) + 1
            t, x, shown, target = (a[:, :length] for a in (t, x, shown, target))
        if self.task == "extrapolation":
            late = self._late(t)[..., None]
            shown, target = shown & ~late, target & late
        return Batch(
            x=torch.from_numpy(np.ascontiguousarray(x)),
            t=torch.from_numpy(np.ascontiguousarray(t)),
            mask=torch.from_numpy(shown.astype(np.float32)),
            target=torch.from_numpy(target.astype(np.float32)),
        )

    def _late(self, t: Float32[np.ndarray, "B L"]) -> Bool[np.ndarray, "B L"]:
        if self.protocol.cut == "count" and self.grid == "union":  # by rows, as released
            return np.broadcast_to(np.arange(t.shape[1]) >= t.shape[1] // 2, t.shape)
        return t >= 0.5


def view(spec: Spec, dataset: Dataset) -> View:
    """Return the view that a cell asks for.

    Raises
    ------
    UserError
        If there is no test series to score, or complete series are wanted of a data set that has
        gaps or several time grids.
    """
    if not len(dataset.test):
        raise UserError(f"data set {dataset.name}: expected test series, found none")
    if spec.task == "generation":
        check_complete(dataset)
    grid = spec.training.grid if isinstance(spec, CellSpec) else "record"
    return View(dataset, spec.task, spec.protocol or Protocol(), grid)


def check_complete(dataset: Dataset) -> None:
    """Raise a `UserError` if a data set has gaps or several grids, which nobody generates."""
    if not dataset.mask.all():
        raise UserError(
            f"data set {dataset.name}: expected complete series for generation, found"
            f" {(~dataset.mask).mean():.0%} of the values missing"
        )
    if not (dataset.t == dataset.t[0]).all():
        raise UserError(
            f"data set {dataset.name}: expected series of the same times for generation, found"
            " others"
        )


def hidden_rows(
    rows: Bool[np.ndarray, "B L"], indices: np.ndarray, share: float, seed: int
) -> Bool[np.ndarray, "B L"]:
    """Choose the time points that interpolation hides of each record.

    A record's choice is a function of (seed, its index) alone. What a smaller share hides is also
    hidden by a larger one; one time point always remains.

    Parameters
    ----------
    rows : (B, L)
        True at a record's time points.
    indices : (B,)
        Of the records.
    share : float
        Of a record's time points, rounded to whole ones.
    """
    hide = np.zeros_like(rows)
    for i, (row, index) in enumerate(zip(rows, indices, strict=True)):
        points = np.random.default_rng([seed, index]).permutation(row.nonzero()[0])
        hide[i, points[: min(round(share * len(points)), max(len(points) - 1, 0))]] = True
    return hide


def on_union(
    t: Float32[np.ndarray, "B L"], rows: Bool[np.ndarray, "B L"], arrays: tuple[np.ndarray, ...]
) -> tuple[Float32[np.ndarray, "B U"], tuple[np.ndarray, ...]]:
    """Put records on the union of their times.

    Parameters
    ----------
    t, rows : (B, L)
        Times, and True at a record's time points.
    arrays : of shape (B, L, D)
        Zero, or False, elsewhere.

    Returns
    -------
    t : (B, U)
        The union, for each record.
    arrays : of shape (B, U, D)
    """
    union = np.unique(t[rows]) if rows.any() else t[0, :1]
    record, row = rows.nonzero()
    place = np.searchsorted(union, t[record, row])
    scattered = []
    for array in arrays:
        out = np.zeros((len(t), len(union), array.shape[2]), array.dtype)
        out[record, place] = array[record, row]
        scattered.append(out)
    return np.broadcast_to(union, (len(t), len(union))), tuple(scattered)


def steps_per_epoch(n: int, batch_size: int) -> int:
    """Batches in one pass over `n` series; the last may be smaller."""
    return math.ceil(n / batch_size)


def batch_indices(train: np.ndarray, batch_size: int, step: int, seed: int) -> np.ndarray:
    """Return the series of optimiser step `step`.

    A function of its arguments alone, so the sampler has no state to save: each epoch is a
    permutation seeded by (seed, epoch).
    """
    epoch, position = divmod(step, steps_per_epoch(len(train), batch_size))
    order = np.random.default_rng([seed, epoch]).permutation(train)
    return order[position * batch_size : (position + 1) * batch_size]
