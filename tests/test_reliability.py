"""Files that once passed silently or ended in a traceback; docs/reliability.md says the promise."""

from pathlib import Path

import pytest

from datasets import physionet
from datasets.base import Dataset
from datasets.errors import DataError
from harness import records
from harness.errors import UserError
from harness.run.own_samples import read_samples

DAMAGED = Path(__file__).parent / "data" / "damaged"


@pytest.mark.parametrize(
    "name",
    ["score_twice", "score_nan", "unknown_budget", "unknown_task", "utf16", "settings_empty"],
)
def test_damaged_records(name: str) -> None:
    (path,) = (DAMAGED / f"record_{name}").rglob("record.json")
    with pytest.raises(UserError) as caught:
        records.read(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("path", sorted(DAMAGED.glob("np*")), ids=lambda path: path.name)
def test_damaged_samples(path: Path) -> None:
    with pytest.raises(UserError, match=r"not readable|expected real numbers"):
        read_samples(path, (8, 52, 1))


@pytest.mark.parametrize("path", sorted(DAMAGED.glob("prepared*")), ids=lambda path: path.name)
def test_damaged_data_sets(path: Path) -> None:
    with pytest.raises(DataError):
        Dataset.load(path)


@pytest.mark.parametrize("path", sorted(DAMAGED.glob("set*")), ids=lambda path: path.name)
def test_damaged_archives(path: Path) -> None:
    with pytest.raises(DataError, match=r"expected a \.tar\.gz archive"):
        physionet.read([path])
