"""What others are given shows nothing of the answer."""

import numpy as np
import pytest

from datasets.base import Dataset
from datasets.synthetic import load as sines
from harness.errors import UserError
from harness.run.given import TEST, TRAIN, VALIDATION, given
from harness.run.view import View
from harness.tasks import HIDING, Task
from tests import specs


def irregular(observed: float = 0.4) -> Dataset:
    return sines([], name="sines", title="Sines", n=30, length=20, channels=2, seed=1,
                 observed=observed, split=specs.SPLIT)  # fmt: skip


def test_generation_gives_everything_but_the_test_series() -> None:
    dataset = irregular(1.0)
    arrays = given(View(dataset, "generation"))
    rest = np.sort(np.concatenate([dataset.train, dataset.validation]))
    assert arrays.keys() == {"x", "t", "mask", "split"}
    assert np.array_equal(arrays["x"], dataset.x[rest])
    assert np.array_equal(rest[arrays["split"] == TRAIN], dataset.train)
    assert np.array_equal(rest[arrays["split"] == VALIDATION], dataset.validation)
    assert not (arrays["split"] == TEST).any()
    with pytest.raises(UserError, match="expected complete series"):
        given(View(irregular(), "generation"))


@pytest.mark.parametrize("task", ["reconstruction", *HIDING])
def test_the_other_tasks_hide_what_is_asked_of_the_test_records(task: Task) -> None:
    dataset = irregular()
    arrays = given(View(dataset, task))
    test, mask, target = arrays["split"] == TEST, arrays["mask"], arrays["target"]
    assert np.array_equal(np.flatnonzero(test), dataset.test)
    assert np.array_equal(mask | target, dataset.mask)
    assert not arrays["x"][test][~mask[test]].any()
    assert np.array_equal(arrays["x"][~test], dataset.x[~test])
    shown = dataset.mask & mask
    assert np.array_equal(arrays["x"][shown], dataset.x[shown])
    assert (target[test] & ~mask[test]).any() == (task in HIDING)
