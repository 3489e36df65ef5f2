"""The page about a data set names what was planted in it."""

from dataclasses import replace

import numpy as np
import pytest

from datasets import synthetic
from datasets.base import Dataset
from datasets.inspection import across, constant_series, duplicates, near_duplicates, page

SPLIT = {"seed": 0, "fractions": [0.7, 0.1, 0.2]}


@pytest.fixture
def sines() -> Dataset:
    return synthetic.load(
        name="sines", title="Sines", n=40, length=20, channels=2, seed=0, split=SPLIT
    )


def test_an_ordinary_set_has_nothing_to_tell(sines):
    lines = list(page(sines))
    assert lines[0] == "Sines (sines)"
    for head in ("constant series", "equal series", "across parts"):
        assert f"{head:18}none" in lines
    assert any(line.endswith("within 1%: none") for line in lines)
    assert any("40 series of at most 20 steps, 2 channels" in line for line in lines)
    assert any("train 28, validation 4, test 8" in line for line in lines)
    assert lines[-1].split() == [
        "tasks", "generation,", "reconstruction,", "interpolation,", "extrapolation"
    ]  # fmt: skip


def test_planted_series_are_found(sines):
    x = sines.x.copy()
    first, second, third = sines.train[:3]
    test, other, constant = sines.test[:3]
    x[test] = x[first]
    x[third] = x[second]
    x[other] = x[second] + np.float32(0.001)
    x[constant] = 3
    planted = replace(sines, x=x)
    assert np.flatnonzero(constant_series(planted).all(1)).tolist() == [constant]
    equal = {frozenset(pair) for pair in duplicates(planted).tolist()}
    assert equal == {frozenset((first, test)), frozenset((second, third))}
    between = across(planted, duplicates(planted)).tolist()
    assert [frozenset(pair) for pair in between] == [frozenset((first, test))]
    near = {tuple(pair) for pair in near_duplicates(planted).tolist()}
    assert near == {(first, test), (second, other)}
    text = "\n".join(page(planted))
    assert f"constant series   1: {constant}\n" in text
    assert "within 1%: 2: " in text


def test_series_observed_at_other_places_are_not_near(sines):
    x, mask = sines.x.copy(), sines.mask.copy()
    first, test = sines.train[0], sines.test[0]
    x[test] = x[first]
    mask[test, 3] = False
    x[test, 3] = 0
    gapped = replace(sines, x=x, mask=mask)
    assert len(near_duplicates(gapped)) == 0
    assert list(page(gapped))[-1].endswith("extrapolation (values are missing)")


def test_times_count_where_they_differ(sines):
    x, t = sines.x.copy(), sines.t.copy()
    first, second = sines.train[:2]
    test, other = sines.test[:2]
    x[test], x[other] = x[first], x[second]
    t[other] = t[other] ** 2
    own = replace(sines, x=x, t=t)
    assert near_duplicates(own).tolist() == [[first, test]]
    assert list(page(own))[-1].endswith("extrapolation (series have their own times)")
