"""Columns of tables of scores: text for each row of a comparison."""

from collections.abc import Callable
from typing import Any

import pandas as pd

from harness import catalogue
from harness.present.comparison import Comparison
from harness.present.quantities import Quantity
from harness.present.text import number

# Marks of trainings: not converged when the steps were used up; a fixed number of steps.
ENDED = {"capped": "ᶜ", "fixed": "ᶠ"}


def labels(rows: pd.DataFrame) -> list[str]:
    """Return the labels of the rows; ᵘ marks a union grid, ᶜ and ᶠ how trainings ended."""
    union = rows["union_grid"].map({True: "ᵘ", False: ""})
    marks = union + ended(rows)
    return [catalogue.label(str(model)) + mark for model, mark in marks.items()]


def ended(rows: pd.DataFrame) -> pd.Series:
    """Return the marks of trainings that their validation loss did not stop, for each row."""
    marks = [rows[column].gt(0).map({True: mark, False: ""}) for column, mark in ENDED.items()]
    return sum(marks[1:], marks[0])


def seeds(rows: pd.DataFrame) -> list[str]:
    """Return how many seeds are done and how the others ended, "2/3, diverged at step 9"."""
    cells = []
    for row in rows.itertuples():
        count = f"{row.done}/{row.run}" if row.run else "–"
        cells.append(f"{count}, {row.endings}" if 0 < row.done < row.run else count)
    return cells


def scores(
    c: Comparison,
    score: str,
    *,
    evaluator: bool = True,
    seed: bool = True,
    scale: float = 1.0,
    form: Callable[[float], str] = number,
) -> pd.Series:
    """Return a score as ``value ± spread over seeds [spread of the evaluator]``, or why not.

    Parameters
    ----------
    c : Comparison
    score : str
    evaluator, seed : bool
        Whether to show the spread in brackets, and that over seeds.
    scale : float
        Factor of all numbers.
    form : function
        How the value is printed.
    """

    def text(row: Any, estimate: Any) -> str:
        if not row.run:
            return "not run"
        if not row.done:
            return row.endings
        if not estimate.scored:
            return "–"
        if not estimate.finite:
            return "not finite"
        cell = form(scale * estimate.value)
        if seed and pd.notna(estimate.seed_spread):
            cell += f" ± {number(scale * estimate.seed_spread, 2)}"
        if evaluator and pd.notna(estimate.evaluator_spread):
            cell += f" [{number(scale * estimate.evaluator_spread, 2)}]"
        if lost := estimate.scored - estimate.finite:
            cell += f" ({lost} not finite)"
        return cell

    pairs = zip(c.rows.itertuples(), c.estimate(score).itertuples(), strict=True)
    return pd.Series([text(*pair) for pair in pairs], c.rows.index, dtype=str)


def robust(c: Comparison, quantity: Quantity, *, evaluator: bool = True) -> pd.Series:
    """Return a robust score with its marks: † a control is better, ‡ as good as the noise floor."""
    cells = scores(c, quantity.robust, evaluator=evaluator, scale=quantity.scale)
    beaten = c.better_controls(quantity).map(len) > 0
    marks = beaten.map({True: "†", False: ""})
    marks += c.within_noise_floor(quantity).map({True: "‡", False: ""})
    return cells.where(marks == "", cells + " " + marks)


def skill(c: Comparison, quantity: Quantity) -> pd.Series:
    """Return the skill against the reference as ``mean over seeds [low, high]``, or why not."""
    found = c.skill(quantity)

    def text(model: str, row: Any) -> str:
        if model == c.reference:
            return "reference"
        if model in found:
            value, low, high = found[model][:3]
            return f"{value:.2f} [{low:.2f}, {high:.2f}]"
        if not row.run:
            return "not run"
        return "–" if row.done else row.endings

    cells = [text(row.Index, row) for row in c.rows.itertuples()]
    return pd.Series(cells, c.rows.index, dtype=str)


def published_numbers(c: Comparison, quantity: Quantity) -> pd.Series:
    """Return published numbers with the digits that were printed; ˢ marks a secondary source."""
    numbers = c.published(quantity.name)
    mark = {"primary": "", "secondary": "ˢ"}
    cells = [
        "–" if n is None else f"{quantity.scale * n.value:.4g}{mark[n.certainty]}" for n in numbers
    ]
    return pd.Series(cells, numbers.index, dtype=str)
