"""Which model is best by a robust score, and which are not clearly worse.

Controls and variants do not compete.
"""

import functools
from collections.abc import Iterable
from dataclasses import dataclass

from harness import catalogue
from harness.present import paired
from harness.present.comparison import Comparison
from metrics.paired import FEWEST


@dataclass(frozen=True)
class Best:
    """The best of at least two models.

    Attributes
    ----------
    first : tuple of str
        The model with the best mean over seeds; all those at the limit of a score that has one.
    tied : tuple of str, optional
        Those that not each of `first` is better than in every seed, by the paired test
        (`harness.present.paired.better`); None where errors of single series are missing.
    limit : float, optional
        The limit of the score, if that is what `first` are at.
    """

    first: tuple[str, ...]
    tied: tuple[str, ...] | None
    limit: float | None = None

    @property
    def text(self) -> str:
        """The same in a sentence."""
        label = _names(self.first)
        if self.limit is None:
            text = f"best: {label}"
        else:
            text = f"at the limit of this score, {self.limit:.3f}, so alike: {label}"
        if self.tied is None:
            return f"{text}; not known whether by more than noise"
        if not self.tied:
            return f"{text}; ahead of every other in every seed"
        them = "it" if len(self.first) == 1 else "one of these"
        return f"{text}; no clear difference from {them}: {_names(self.tied)}"


@functools.cache
def best(c: Comparison, name: str) -> Best | None:
    """Return the best models by the robust score of a quantity; None of fewer than two models."""
    quantity = c.quantities[name]
    competing = c.models.index[c.models["variant_of"].isna()]
    values = quantity.lower_is_better(c.estimate(quantity.robust)["value"])
    values = values.reindex(competing).dropna()
    if len(values) < 2:
        return None
    at_limit = quantity.ceiling is not None and values.min() <= -quantity.ceiling
    first = values.index[values == values.min()] if at_limit else [values.idxmin()]
    tied: tuple[str, ...] | None = ()
    for model in values.index.drop(first):
        ahead = [paired.better(c.cells, one, model, c.head["task"], name) for one in first]
        if None in ahead:
            tied = None
            break
        tied += () if all(ahead) else (str(model),)
    return Best(tuple(map(str, first)), tied, quantity.ceiling if at_limit else None)


def bests(c: Comparison) -> dict[str, str]:
    """Say of each robust score which model is best, and whether by more than noise."""
    found = {f"robust {q.heading}": best(c, name) for name, q in c.quantities.items()}
    return {title: best.text for title, best in found.items() if best}


def leading(c: Comparison, name: str) -> list[str]:
    """Return the best models and those not clearly worse, where a test can say so.

    None in a comparison of variants with what they are variants of.
    """
    too_few = c.groups is not None and c.groups < FEWEST
    if too_few or c.rows["variant_of"].notna().any():
        return []
    found = best(c, name)
    return [*found.first, *found.tied] if found and found.tied is not None else []


def _names(models: Iterable[str]) -> str:
    return "; ".join(map(catalogue.label, models))  # labels hold commas
