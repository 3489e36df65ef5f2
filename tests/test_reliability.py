"""Files that once passed silently or ended in a traceback; docs/reliability.md says the promise."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from datasets import array, physionet
from datasets.base import Dataset
from datasets.errors import DataError
from harness import records
from harness.catalogue import ROOT
from harness.errors import UserError
from harness.run.own_samples import read_samples
from tests import specs

DAMAGED = Path(__file__).parent / "data" / "damaged"
NO_ARRAY = "expected an array in NumPy's format, found none, or a damaged one"


def refused(read: Callable[[], Any]) -> str:
    """Return what is said of a file that is refused, in one line."""
    with pytest.raises((UserError, DataError)) as caught:
        read()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("score_twice", "not a record: scores: expected each score once, found 'marginal_literal'"),
        ("score_nan", "not JSON: expected finite numbers, found NaN"),
        ("unknown_budget", "not a record: expected a budget of full, paper, smoke"),
        ("unknown_task", "not a record: task: Input should be 'generation', "),
        ("utf16", "expected UTF-8 text, found byte 0xff at position 0"),
        ("settings_empty", "not a record: settings: expected the training of a model that"),
    ],
)
def test_damaged_records(name: str, message: str) -> None:
    (path,) = (DAMAGED / f"record_{name}").rglob("record.json")
    assert refused(lambda: records.read(path)).startswith(f"{path}: {message}")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("n_train", -1),
        ("steps", -1),
        ("parameters", -1),
        ("train_seconds", -1.0),
        ("date", "yesterday"),
        ("format", records.FORMAT + 1),
        ("dataset", "../sines"),
        ("model", ".."),
        ("scores", [{"name": "a", "value": 1.0, "n": -1}]),
    ],
)
def test_records_of_impossible_values(key: str, value: Any, tmp_path: Path) -> None:
    found = json.loads(next((ROOT / "results" / "reference").rglob("record.json")).read_text())
    found.pop("sha256", None)
    path = tmp_path / "record.json"
    path.write_text(json.dumps(found | {key: value}))
    assert refused(lambda: records.read(path)).startswith(f"{path}: not a record: {key}")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("npy_extra_byte.npy", "expected 3328 bytes of values for shape (13, 32, 2) of float32,"),
        ("npy_header_flip.npy", NO_ARRAY),
        ("npy_huge_shape.npy", "expected 256000000000000 bytes of values for shape (1000000000000"),
        ("npy_timedelta.npy", "expected numbers or text, found values of type timedelta64[s]"),
        ("npz_method.npz", "'samples.npy': expected compression method 0 or 8, found 99"),
        ("npz_text.npz", f"'samples.txt': {NO_ARRAY}"),
    ],
)
def test_damaged_arrays(name: str, message: str) -> None:
    path = DAMAGED / name
    said = refused(lambda: read_samples(path, (13, 32, 2)))
    assert said.startswith(f"{path}: {message}")
    load = {"name": "mine", "title": "Mine", "split": specs.SPLIT, "channels": ["a", "b"]}
    assert refused(lambda: array.load([path], **load)) == said


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("meta", "expected meta as a JSON mapping, found '{'"),
        ("train", "expected train as int64 (n,), found float64"),
        ("x", "expected x (N, L, D) and t (N, L) or (L,), found (0,) and (32,)"),
    ],
)
def test_damaged_data_sets(name: str, message: str) -> None:
    path = DAMAGED / f"prepared_{name}.npz"
    assert refused(lambda: Dataset.load(path)) == f"{path}: {message}"


@pytest.mark.parametrize(
    ("name", "found"), [("damaged_header", "bad checksum"), ("no_end", "no end mark")]
)
def test_damaged_archives(name: str, found: str) -> None:
    path = DAMAGED / f"set_{name}.tar.gz"
    said = refused(lambda: physionet.read([path]))
    assert said == f"{path}: expected a .tar.gz archive, found {found}"
