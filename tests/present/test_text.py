"""Numbers, endings and templates as text."""

import jinja2
import pytest

from harness.present.text import duration, ending, number, paragraphs, shared_ending


@pytest.mark.parametrize(
    ("value", "digits", "expected"),
    [
        (0.0354, 3, "0.0354"), (0.5, 2, "0.50"), (1234.5, 3, "1234"), (999.7, 3, "1000"),
        (1.67e-05, 3, "1.67e-05"), (0.0, 3, "0"), (100.0, 3, "100"), (-0.25, 3, "-0.250"),
    ],
)  # fmt: skip
def test_number(value: float, digits: int, expected: str) -> None:
    assert number(value, digits) == expected


def test_duration() -> None:
    assert [duration(s) for s in (0.5, 119.0, 120.0, 7200.0)] == [
        "0.50 s",
        "119 s",
        "2.0 min",
        "2.0 h",
    ]


@pytest.mark.parametrize(
    ("status", "reason", "expected"),
    [
        ("diverged", "step 12: loss nan", "diverged at step 12"),
        ("timeout", "stopped after 8 min at step 1200", "timeout at step 1200"),
        ("diverged", "sampling: 3 of 28 not finite", "diverged: sampling"),
        ("skipped", None, "skipped"),
    ],
)
def test_ending(status: str, reason: str | None, expected: str) -> None:
    assert ending(status, reason) == expected


def test_an_ending_that_all_share() -> None:
    assert shared_ending(["diverged at step 3"] * 2) == "diverged at step 3"
    ends = ["diverged at step 3", "diverged at step 7", "oom: no memory"]
    assert shared_ending(ends) == "diverged, oom"


def test_paragraphs_are_lines_and_want_all_their_values() -> None:
    values = {"ours": "LS4", "batch": 16, "linear_from": 80, "size": None}
    first, second, *_ = paragraphs("legends.j2", "run_times", **values)
    assert "batches of 16" in first and "\n" not in first + second
    with pytest.raises(jinja2.UndefinedError):
        paragraphs("captions.j2", "training")
