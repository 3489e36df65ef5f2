"""`python -m harness add` and `export`: rows that a user brings, from files to records."""

from pathlib import Path

import numpy as np
import pytest

from datasets.base import Dataset
from datasets.synthetic import load as sines
from harness.cli import main
from harness.present import files
from harness.records import Record
from tests import specs


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepared data, and a file of samples and one of predictions that fit them."""
    folder = tmp_path_factory.mktemp("own")
    for name, observed in {"sines": 1.0, "sines_irregular": 0.4}.items():
        dataset = sines([], name=name, title="Sines", n=40, length=20, channels=2, seed=0,
                        observed=observed, split=specs.SPLIT)  # fmt: skip
        dataset.save(folder / f"{name}.npz")
        mean = np.zeros((3, *dataset.x[dataset.test].shape))  # three draws
        np.savez(folder / f"{name}_predictions.npz", mean=mean, std=1.0)
    samples = np.random.default_rng(0).standard_normal((8, 20, 2))
    np.save(folder / "s0.npy", samples)
    np.save(folder / "s1.npy", samples + 1)
    np.save(folder / "few.npy", samples[:5])
    np.save(folder / "large.npy", samples * 1e37)
    return folder


def call(*words: object) -> int | str | None:
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    return ended.value.code


def add(folder: Path, records: Path, *words: object, dataset: str = "sines") -> int | str | None:
    prepared = ["--dataset", dataset, "--prepared", folder / f"{dataset}.npz"]
    fast = ["--fits", 1, "--epochs", 1]
    return call("add", *prepared, *fast, "--records", records, *words)


def found(records: Path) -> list[Record]:
    return sorted(files.find([records]).values(), key=files.identity)


def test_samples_become_a_row_with_a_record_for_each_seed(folder: Path, tmp_path: Path) -> None:
    samples = ["--samples", folder / "s0.npy", folder / "s1.npy"]
    notes = ["--note", "lr=0.001", "source=a=b"]
    assert add(folder, tmp_path, "--name", "mine", *samples, *notes, "--budget", "full") == 0
    first, second = found(tmp_path)
    assert (first.seed, second.seed) == (0, 1) and first.scores != second.scores
    assert first.status == "done" and not first.control and first.budget == "full"
    assert first.settings["notes"] == {"lr": "0.001", "source": "a=b"}
    assert first.settings["file"] == "s0.npy" and len(first.settings["sha256"]) == 64
    assert first.config_hash != second.config_hash
    cell = tmp_path / "full" / "generation" / "sines" / "mine" / "1"
    assert {path.name for path in cell.iterdir()} == {"record.json", *second.files}
    with np.load(cell / "samples.npz") as arrays:
        assert np.array_equal(arrays["samples"], np.load(folder / "s1.npy").astype(np.float32))


def test_predictions_become_a_row(folder: Path, tmp_path: Path) -> None:
    name = "sines_irregular"
    words = ["--task", "extrapolation", "--predictions", folder / f"{name}_predictions.npz"]
    assert add(folder, tmp_path, "--name", "zero", *words, dataset=name) == 0
    (record,) = found(tmp_path)
    dataset = Dataset.load(folder / f"{name}.npz")
    late = dataset.mask[dataset.test] & (dataset.t[dataset.test] >= 0.5)[..., None]
    expected = float((dataset.x[dataset.test][late].astype(float) ** 2).mean())
    scores = {score.name: score.value for score in record.scores}
    assert scores["mse_micro"] == pytest.approx(expected, rel=1e-6)
    assert record.protocol == {"hidden": 0.5, "cut": "time", "seed": 0}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--name", "a b", "--samples", "s0.npy"], "name: expected letters, digits and"),
        (["--name", "ls4", "--samples", "s0.npy"], "name: expected a new one, found that of the"),
        (["--name", "gaussian", "--samples", "s0.npy"], "name: expected a new one, found that"),
        (["--name", "mine", "--samples", "s0.npy", "few.npy"], "few.npy: expected 8 samples, one"),
        (["--name", "mine", "--samples", "s0.npy", "none.npy"], "none.npy: no such file"),
        (["--name", "mine", "--samples", "s0.npy", ""], "cannot be read: Is a directory"),
        (["--name", "mine", "--samples", "s0.npy", "s0.npy"], "s0.npy: expected a file for each"),
        (
            ["--name", "mine", "--samples", "s0.npy", "--note", "lr=1", "lr=2"],
            "--note: expected each key once, found lr=1 lr=2",
        ),
        (["--name", "mine", "--samples", "s0.npy", "large.npy"], "large.npy: fake: expected"),
        (["--name", "mine", "--samples", "s0.npy", "--note", "lr"], "--note: expected key=value"),
        (["--name", "mine", "--samples", "s0.npy", "--budget", "big"], "budget: expected one of"),
        (["--name", "mine", "--samples", "s0.npy", "--fits", "0"], "evaluation: fits: Input"),
        (["--name", "mine", "--predictions", "s0.npy"], "expected --samples, or --predictions"),
        (
            ["--name", "mine", "--samples", "s0.npy", "--task", "interpolation"],
            "expected --samples, or --predictions",
        ),
        (
            ["--name", "mine", "--samples", "s0.npy", "--prepared", "sines_irregular.npz"],
            "expected the data set 'sines', found 'sines_irregular'",
        ),
        (["--name", "mine", "--samples", "s0.npy", "--prepared", "no.npz"], "no.npz: no such file"),
    ],
)
def test_mistakes_get_one_line_and_write_nothing(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture, words: list[str], message: str
) -> None:
    places = [
        folder / word if word.endswith((".npy", ".npz")) or not word else word for word in words
    ]
    assert add(folder, tmp_path / "records", *places) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and error.count("\n") == 1
    assert not (tmp_path / "records").exists()


def test_a_row_is_not_replaced(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    words = ["--name", "mine", "--samples", folder / "s0.npy"]
    assert add(folder, tmp_path, *words) == 0
    assert add(folder, tmp_path, *words) == 1
    assert "has a record; remove it, or choose another name" in capsys.readouterr().err


def test_export_writes_what_a_model_is_given(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "given.npz"
    words = ["export", "--dataset", "sines", "--prepared", folder / "sines.npz"]
    assert call(*words, "--task", "generation", "--out", out) == 0
    with np.load(out) as arrays:
        assert {*arrays} - {"sha256"} == {"x", "t", "mask", "split"} and len(arrays["x"]) == 32
    assert call(*words, "--task", "generation", "--out", tmp_path / "given.mat") == 1
