"""What the paper's tables measure: quantities, the scores that stand for them, what must agree.

Each table of the paper has some quantities. Each quantity is computed twice: literally, as the
published numbers were, and robustly, to draw conclusions from.
"""

import math
from dataclasses import dataclass

import pandas as pd

from harness.tasks import TABLE_OF
from metrics.paired import CHANCE


@dataclass(frozen=True)
class Quantity:
    """What a table of the paper measures.

    Attributes
    ----------
    name : str
        What ``published.yaml`` calls it.
    literal : str
        The score that is computed as the published numbers were.
    robust : str
        The score to draw conclusions from: it decides which controls are better.
    unit : str
        Of the data's normalised units, after multiplication with `scale`.
    title : str
        What readers call it, if not `name`.
    scale : float
        Factor by which tables and figures multiply it.
    ceiling : float, optional
        Up to where more is better, and all above counts as equal to it; without it, less is better.
    earlier : str
        The robust score of records that have no such score, since they are of an earlier version.
    optional : bool
        Whether only some models have it, so that its absence is not worth a line.
    """

    name: str
    literal: str
    robust: str
    unit: str
    title: str = ""
    scale: float = 1.0
    ceiling: float | None = None
    earlier: str = ""
    optional: bool = False

    @property
    def label(self) -> str:
        """The quantity with its factor, "MSE × 1e-3"."""
        factor = "" if self.scale == 1 else f" × 1e{-round(math.log10(self.scale))}"
        return (self.title or self.name) + factor

    @property
    def heading(self) -> str:
        """The same with an arrow in the direction that is better, "MSE × 1e-3 ↓"."""
        return f"{self.label} {'↓' if self.ceiling is None else '↑'}"

    def lower_is_better(self, values: pd.Series) -> pd.Series:
        """Turn values of the robust score so that less is better."""
        return values if self.ceiling is None else -values.clip(upper=self.ceiling)


QUANTITIES = {
    "table1": (
        Quantity("marginal", "marginal_literal", "marginal_robust", "share"),
        # Cross-entropy above that of chance is overfitting of the classifier.
        Quantity("classification", "classification_literal", "classification_robust", "nats",
                 ceiling=CHANCE),
        Quantity("prediction", "prediction_literal", "prediction_robust", "unit²"),
    ),
    "table2": (
        # of time series: without descriptors, which the earlier scores include
        Quantity("mse", "mse_draw_ls4", "mse_robust", "unit²", "MSE", 1e3, earlier="mse_micro"),
        Quantity("crps", "crps_literal", "crps_robust", "unit", "CRPS", earlier="crps_micro"),
        Quantity("neg_elbo", "neg_elbo", "neg_elbo", "nats", "negative ELBO", optional=True),
    ),
}  # fmt: skip

# Fields of a record that must agree where its scores are compared with another one's: the values,
# the split, and how scores were computed.
MUST_AGREE = {
    "table1": ["data_digest", "split_digest", "scoring", "evaluator_fits", "evaluator_epochs"],
    "table2": ["data_digest", "split_digest", "scoring", "draws", "protocol"],
}


def quantities(task: str) -> dict[str, Quantity]:
    """Return what is measured in a task, by name."""
    return {quantity.name: quantity for quantity in QUANTITIES[TABLE_OF[task]]}
