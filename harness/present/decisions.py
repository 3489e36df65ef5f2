"""What the records of generation decide: is a row told apart from real series, and what could be?

docs/scores.md explains the tests, their effects and their power. Tables and figures show what is
here. Records from before there were tests have no decisions.
"""

from collections.abc import Mapping, Sequence

import pandas as pd

from harness.powers import LEVEL, Power
from harness.present.comparison import TRAINING_SERIES, Comparison

SCORES = ("p_", "effect_", "feature_", "span_residual")  # how the names of their scores begin


def belongs(score: str) -> bool:
    """Whether a score is one of a decision: a p, an effect, a feature, a part outside the span."""
    return score.startswith(SCORES)


def decided(c: Comparison) -> bool:
    """Whether a comparison has rows that were tested."""
    return "p_all" in c.score_names


def distances(c: Comparison) -> list[str]:
    """Return the names of the distances that the tests compare series by."""
    return [s.removeprefix("effect_") for s in c.score_names if s.startswith("effect_")]


def power_of(c: Comparison, powers: Sequence[Power]) -> Power | None:
    """Return what the tests can see on a comparison's data; of the most splits where several do."""
    data = c.head["dataset"], c.head["data_digest"]
    known = [power for power in powers if (power.dataset, power.data_digest) == data]
    return max(known, key=lambda power: power.splits, default=None)


def told_apart(c: Comparison, suffix: str = "") -> pd.Series:
    """Return for each row whether it is told apart, of one seed also by which distances."""
    by = {f"p_adjusted_{name}{suffix}": name for name in distances(c)}
    return in_words(c, f"p_all{suffix}", "told apart", by)


def seeds_told_apart(c: Comparison) -> pd.DataFrame:
    """Return for each row with a decision how many seeds were ``tested``, and ``told`` apart."""
    done = c.lines[c.lines["status"].eq("done") & c.lines["score"].eq("p_all")]
    p = done.dropna(subset="value").set_index("model")["value"]
    return p.le(LEVEL).groupby(level=0).agg(told="sum", tested="size")


def training_series_told_apart(c: Comparison) -> tuple[int, int]:
    """Return in how many seeds real training series are told apart, and of how many."""
    seeds = seeds_told_apart(c)
    if TRAINING_SERIES not in seeds.index:
        return 0, 0
    told, tested = seeds.loc[TRAINING_SERIES]
    return int(told), int(tested)


def in_words(c: Comparison, score: str, yes: str, by: Mapping[str, str]) -> pd.Series:
    """Return for each row what a p decides, or why it is not known.

    Parameters
    ----------
    c : Comparison
    score : str
        The score that is this p.
    yes : str
        What a p of at most 5 % means: "told apart".
    by : mapping
        Scores -> names: the p of each part of the decision. Those of at most 5 % are named.

    Returns
    -------
    Series of str
        "told apart (p = .001) by features", "not told apart (p = .34)" of one seed, "told apart in
        2 of 3 seeds" of more.
    """
    done = c.lines[c.lines["status"].eq("done") & c.lines["score"].isin([score, *by])]
    p = done.pivot(index=["model", "seed"], columns="score", values="value")
    p = p.reindex(columns=[score, *by]).dropna(subset=score)

    def text(model: str, row: pd.Series) -> str:
        own = p[p.index.get_level_values("model") == model]
        if own.empty:
            return "–" if row["done"] or not row["run"] else row["endings"]
        found = (own[score] <= LEVEL).sum()
        if len(own) > 1:
            return f"{yes} in {found} of {len(own)} seeds"
        one = own.iloc[0]
        if not found:
            return f"not {yes} ({p_text(one[score])})"
        parts = [name for part, name in by.items() if one[part] <= LEVEL]
        names = "all" if 1 < len(parts) == len(by) else ", ".join(parts)
        return f"{yes} ({p_text(one[score])})" + (f" by {names}" if names else "")

    texts = [text(str(model), row) for model, row in c.rows.iterrows()]
    return pd.Series(texts, c.rows.index, dtype=str)


def p_text(p: float) -> str:
    """Return a p as it is printed.

    >>> p_text(0.34), p_text(0.0342), p_text(0.001), p_text(1e-9), p_text(1.0)
    ('p = .34', 'p = .034', 'p = .001', 'p < .001', 'p = 1.00')
    """
    if p < 0.0005:
        return "p < .001"
    return f"p = {p:.{3 if p < 0.0995 else 2}f}".replace(" 0.", " .")


def decimals(value: float, most: int = 2) -> str:
    """Return an effect or a share with as many decimals as a reader can use.

    >>> decimals(0.0), decimals(-0.407), decimals(1.039), decimals(41.3)
    ('0.00', '-0.41', '1.04', '41')
    """
    return f"{value:.{most if abs(value) < 9.995 else 0}f}"
