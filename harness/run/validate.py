"""The validation loss: a model's final objective on the validation series, with fixed noise.

Series are put into at most 16 fixed groups; a group's loss is a mean over draws. Two states of a
model are compared group by group: with a dozen validation series the mean alone moves by chance.
On the grid ``union`` a group is as large as a batch of the training, since the records of a batch
decide on its rows."""

import math

import numpy as np
import torch
from jaxtyping import Float64

from harness.contract import FINAL_STEP, Model
from harness.run.view import View

GROUPS = 16
MOST = 256  # validation series that are looked at, and losses of single series in all
DRAWS = 8  # of each group's loss, at most; always with the same noise

Losses = Float64[np.ndarray, "groups"]


class Validator:
    """Computes the validation loss of a model on one data set.

    Parameters
    ----------
    view : View
        The data set as the task shows it.
    device : torch.device
        Where the model is.
    batch_size : int
        Of the training.
    """

    def __init__(self, view: View, device: torch.device, batch_size: int):
        indices = view.dataset.validation
        indices = indices[:: math.ceil(max(len(indices), 1) / MOST)]
        groups = math.ceil(len(indices) / batch_size) if view.grid == "union" else GROUPS
        self.device = device
        self.draws = min(DRAWS, max(1, MOST // max(len(indices), 1)))
        self.batches = [
            view.batch(group).to(device)
            for group in np.array_split(indices, max(1, min(groups, len(indices))))
            if len(group)
        ]

    @torch.no_grad()
    def losses(self, model: Model) -> Losses | None:
        """Return the loss of each group; None for a model without one, or without such series.

        A loss that is not finite is returned as infinity.
        """
        if type(model).loss is Model.loss or not self.batches:
            return None
        training = model.training
        model.eval()
        found = np.array([self._loss(model, i) for i in range(len(self.batches))])
        model.train(training)
        return np.where(np.isfinite(found), found, np.inf)

    def _loss(self, model: Model, group: int) -> float:
        generator = torch.Generator(self.device).manual_seed(group)
        draws = [
            model.loss(self.batches[group], FINAL_STEP, generator).value.item()
            for _ in range(self.draws)
        ]
        return float(np.mean(draws))


def improved(best: Losses | None, new: Losses) -> bool:
    """Whether a loss is below the best so far by more than one standard error of the difference."""
    if best is None or not np.isfinite(best).all():
        return bool(np.isfinite(new).all())
    if not np.isfinite(new).all():
        return False
    gain = best - new
    error = gain.std(ddof=1) / math.sqrt(len(gain)) if len(gain) > 1 else 0.0
    return bool(gain.mean() > error)
