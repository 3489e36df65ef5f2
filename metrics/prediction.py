"""Prediction score: train a one-step predictor on generated series, test it on real ones.

"Train on synthetic, test on real": given the true values before it, each of the last 10 values of a
series is predicted. Mean squared error, lower is better.

References
----------
Zhou et al. 2023, arXiv:2212.12749, section 5.1 and appendix. Yoon et al. 2019, "Time-series
Generative Adversarial Networks", NeurIPS (the idea).
"""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from metrics.arrays import check_series
from metrics.network import EPOCHS, WIDTH, Trunk, evaluate, literal_and_mean, seeded, tensor, train

HORIZON = 10
Output = Literal["identity", "sigmoid"]


@dataclass(frozen=True)
class PredictionFit:
    """Scores of one predictor on the real series.

    Attributes
    ----------
    literal : float
        Squared error, in squared data units, summed over test batches of 128 (each batch's mean).
    mse : float
        Mean squared error over series, the last 10 positions and channels.
    n_test : int
        Number of real series.
    errors : (N,)
        Squared error of each real series, averaged over positions and channels. Not compared by
        ``==``.
    """

    literal: float
    mse: float
    n_test: int
    errors: Float[np.ndarray, "_"] = field(default_factory=lambda: np.empty(0), compare=False)


class Predictor(nn.Module):
    """The trunk and a linear output, at the last 10 positions only.

    Parameters
    ----------
    channels : int
        D, of the input and of the output.
    output : "identity" or "sigmoid"
        `sigmoid` for data in [0, 1].
    """

    def __init__(self, channels: int, output: Output):
        super().__init__()
        self.trunk = Trunk(channels)
        self.output = nn.Linear(WIDTH, channels)
        self.activation = nn.Sigmoid() if output == "sigmoid" else nn.Identity()

    def forward(self, x: Float[Tensor, "B L D"]) -> Float[Tensor, "B n D"]:
        return self.activation(self.output(self.trunk.last(x, HORIZON)))


def predict(
    real: Float[np.ndarray, "N L D"],
    fake: Float[np.ndarray, "M L D"],
    *,
    seed: int,
    epochs: int = EPOCHS,
    output: Output = "identity",
    device: torch.device | str = "cpu",
) -> PredictionFit:
    """Train a predictor on all generated series and test it on all real ones.

    The reference that real data would reach is ``predict(real_test, real_train, ...)``.

    Parameters
    ----------
    real, fake : np.ndarray
        Real (N, L, D) and generated (M, L, D) series, L > 10.
    seed : int
        Of the initial weights and the order of training.
    epochs : int
        Passes over the generated series.
    output : "identity" or "sigmoid"
        Last activation; `sigmoid` for data in [0, 1].
    device : torch.device or str
        Where to train.

    Returns
    -------
    PredictionFit
        Scores after the last epoch.

    Raises
    ------
    ValueError
        For unusable arrays, and for series of 10 steps or fewer.
    metrics.network.Unscorable
        If a test loss is not finite.
    """
    check_series(real=real, fake=fake)
    _check_length(real)

    def criterion(predicted: Tensor, target: Tensor) -> Tensor:
        return (predicted - target).square().mean((1, 2))

    train_set, test_set = tensor(fake, device), tensor(real, device)
    network = seeded(lambda: Predictor(real.shape[2], output), seed).to(device)
    generator = torch.Generator().manual_seed(seed)
    train(network, criterion, train_set[:, :-1], train_set[:, -HORIZON:], epochs, generator)
    losses = criterion(evaluate(network, test_set[:, :-1]), test_set[:, -HORIZON:])
    return PredictionFit(*literal_and_mean(losses), len(real), losses.double().cpu().numpy())


def persistence(real: Float[np.ndarray, "N L D"]) -> PredictionFit:
    """Score the prediction x_{t+1} = x_t of the last 10 positions.

    Parameters
    ----------
    real : np.ndarray
        Real series (N, L, D), L > 10.

    Raises
    ------
    ValueError
        For an unusable array, and for series of 10 steps or fewer.
    """
    check_series(real=real)
    _check_length(real)
    errors = np.square(np.diff(real[:, -HORIZON - 1 :], axis=1)).mean((1, 2))
    return PredictionFit(*literal_and_mean(torch.from_numpy(errors)), len(real), errors)


def _check_length(real: np.ndarray) -> None:
    if real.shape[1] <= HORIZON:
        raise ValueError(
            f"real: expected series longer than the {HORIZON} predicted steps, "
            f"found length {real.shape[1]}"
        )
