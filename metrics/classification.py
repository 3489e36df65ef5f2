"""Classification score: how well a small network tells generated series from real ones.

The number is the cross-entropy of held-out series, so *higher is better for the generator*; ln 2 =
0.693 is that of a classifier that cannot tell. More than ln 2 means that the classifier overfitted
its few training series, not that the generator is better than real data.

References
----------
Zhou et al. 2023, arXiv:2212.12749, section 5.1 and appendix.
"""

from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.stats import rankdata
from torch import Tensor, nn
from torch.nn import functional as F

from metrics.arrays import check_series
from metrics.network import EPOCHS, WIDTH, Trunk, evaluate, literal_and_mean, seeded, tensor, train


@dataclass(frozen=True)
class ClassificationFit:
    """Scores of one classifier on the test part of its split.

    Attributes
    ----------
    literal : float
        Cross-entropy, in nats, summed over test batches of 128 (each batch's mean).
    bce : float
        Mean cross-entropy per test series, nats.
    accuracy : float
        Share of test series classified rightly; 0.5 is best for the generator at equal counts.
    auc : float
        Area under the ROC curve; 0.5 is best for the generator.
    n_test : int
        Number of test series, real and generated.
    losses : (N + M,)
        Cross-entropy of each real, then each generated series; NaN where it was trained on. Not
        compared by ``==``.
    """

    literal: float
    bce: float
    accuracy: float
    auc: float
    n_test: int
    losses: Float[np.ndarray, "_"] = field(default_factory=lambda: np.empty(0), compare=False)


class Classifier(nn.Module):
    """The trunk, mean over time, one logit."""

    def __init__(self, channels: int):
        super().__init__()
        self.trunk = Trunk(channels)
        self.output = nn.Linear(WIDTH, 1)

    def forward(self, x: Float[Tensor, "B L D"]) -> Float[Tensor, "B"]:
        return self.output(self.trunk(x).mean(1)).squeeze(1)


def classify(
    real: Float[np.ndarray, "N L D"],
    fake: Float[np.ndarray, "M L D"],
    *,
    seed: int,
    epochs: int = EPOCHS,
    device: torch.device | str = "cpu",
) -> ClassificationFit:
    """Train on 80 % of all series, real (0) and generated (1), and test on the rest.

    Parameters
    ----------
    real, fake : np.ndarray
        Real (N, L, D) and generated (M, L, D) series.
    seed : int
        Of the split, the initial weights and the order of training.
    epochs : int
        Passes over the training part.
    device : torch.device or str
        Where to train.

    Returns
    -------
    ClassificationFit
        Scores after the last epoch.

    Raises
    ------
    ValueError
        For unusable arrays, and for fewer than 3 series in either set.
    metrics.network.Unscorable
        If a test loss is not finite.
    """
    check_series(real=real, fake=fake)
    if min(len(real), len(fake)) < 3:
        raise ValueError(
            f"expected at least 3 series in each set to train and test a classifier, found "
            f"{len(real)} real and {len(fake)} generated"
        )
    generator = torch.Generator().manual_seed(seed)
    x = torch.cat([tensor(real, device), tensor(fake, device)])
    y = torch.cat([torch.zeros(len(real)), torch.ones(len(fake))]).to(device)
    train_part, test_part = _split(y.cpu().bool(), generator)

    def criterion(logits: Tensor, labels: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(logits, labels, reduction="none")

    network = seeded(lambda: Classifier(real.shape[2]), seed).to(device)
    train(network, criterion, x[train_part], y[train_part], epochs, generator)
    logits, labels = evaluate(network, x[test_part]), y[test_part]
    losses = criterion(logits, labels)
    literal, bce = literal_and_mean(losses)
    by_series = np.full(len(x), np.nan)
    by_series[test_part.cpu().numpy()] = losses.cpu().numpy()
    accuracy = ((logits > 0) == labels.bool()).float().mean().item()
    auc = _auc(logits.cpu().double().numpy(), labels.bool().cpu().numpy())
    return ClassificationFit(literal, bce, accuracy, auc, len(labels), by_series)


def _split(generated: Bool[Tensor, "N"], generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Split positions 80/20 at random, drawing again until the test part holds both kinds."""
    n_train = int(0.8 * len(generated))
    while True:
        order = torch.randperm(len(generated), generator=generator)
        train_part, test_part = order[:n_train], order[n_train:]
        if 0 < generated[test_part].sum() < len(test_part):
            return train_part, test_part


def _auc(logits: Float[np.ndarray, "N"], generated: Bool[np.ndarray, "N"]) -> float:
    """Return the share of (real, generated) pairs in the right order, ties counting half."""
    n = int(generated.sum())
    above = rankdata(logits)[generated].sum() - n * (n + 1) / 2
    return float(above / (n * (len(generated) - n)))
