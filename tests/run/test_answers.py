"""Samples and predictions that were made elsewhere are checked, and scored as they are."""

from pathlib import Path

import numpy as np
import pytest
import torch

from datasets.base import Dataset
from datasets.errors import DataError
from datasets.synthetic import load as sines
from harness.contract import Prediction
from harness.errors import UserError
from harness.run import prediction
from harness.run.answers import read_answer
from harness.run.view import View
from harness.tasks import HIDING, Task
from tests import specs


def irregular(observed: float = 0.4) -> Dataset:
    return sines([], name="sines", title="Sines", n=30, length=20, channels=2, seed=1,
                 observed=observed, split=specs.SPLIT)  # fmt: skip


@pytest.mark.parametrize("task", ["reconstruction", *HIDING])
@pytest.mark.parametrize("draws", [1, 3])
def test_predictions_from_a_file_score_like_those_of_a_model(
    tmp_path: Path, task: Task, draws: int
) -> None:
    """They find their record, whatever the batches, and their rows."""
    dataset = irregular()
    view = View(dataset, task)
    rng = np.random.default_rng(0)
    mean = rng.standard_normal((draws, *dataset.x.shape)).astype(np.float32)
    std = rng.uniform(0.5, 1, dataset.x.shape).astype(np.float32)

    def directly(records: np.ndarray, batch, _: int, generator: torch.Generator) -> Prediction:
        rows = batch.x.shape[1]
        both = (torch.from_numpy(a[..., records, :rows, :]) for a in (mean, std[None]))
        return Prediction(*both)

    own = mean[:, dataset.test]
    np.savez(tmp_path / "p.npz", mean=own[0] if draws == 1 else own, std=std[dataset.test])
    answer = read_answer(tmp_path / "p.npz", view)
    assert isinstance(answer, Prediction)
    settings = specs.scoring(shares=[], draws=3).evaluation
    found, expected = (
        prediction.score(view, predict, settings, 2, torch.Generator().manual_seed(0))
        for predict in (prediction.stored(dataset.test, answer), directly)
    )
    assert found[0] == expected[0]


def broken_predictions(kind: str, shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    mean, std = np.zeros(shape), np.ones(shape)
    if kind == "record":
        mean, std = mean[1:], std[1:]
    elif kind == "channels":
        mean = mean[..., :1]
    elif kind == "std":
        std = std[:, :3]
    elif kind == "nan":
        mean[1] = np.nan
    elif kind == "huge":
        std[0] = 1e39
    elif kind == "negative":
        std[2] = -1
    elif kind == "text":
        return {"mean": np.full(shape, "x"), "std": std}
    elif kind == "pickle":
        return {"mean": np.array([{}], dtype=object), "std": std}
    elif kind == "one":
        return {"mean": mean}
    return {"mean": mean, "std": std}


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("record", "mean: expected shape (6, 16, 2) or (S, 6, 16, 2), found (5, 16, 2)"),
        ("channels", "mean: expected shape (6, 16, 2) or (S, 6, 16, 2), found (6, 16, 1)"),
        ("std", "std: expected the shape of mean or one that broadcasts to it, found (6, 3, 2)"),
        ("nan", "expected finite values, found NaN or infinity in record 1"),
        ("huge", "expected finite values, found NaN or infinity in record 0"),
        ("negative", "std: expected at least 0, found less in record 2"),
        ("text", "mean: expected real numbers, found <U1"),
        ("pickle", "'mean.npy': expected numbers or text, found values of type object"),
        ("one", "expected array 'std'"),
        ("missing", "no such file"),
    ],
)
def test_mistakes_in_predictions_get_one_line(tmp_path: Path, kind: str, message: str) -> None:
    view = View(irregular(), "interpolation")
    path = tmp_path / "p.npz"
    if kind != "missing":
        np.savez(path, **broken_predictions(kind, view.dataset.x[view.dataset.test].shape))  # pyright: ignore[reportArgumentType]
    with pytest.raises((UserError, DataError)) as caught:
        read_answer(path, view)
    assert str(caught.value).startswith(f"{path}: ") and message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_there_must_be_as_many_samples_as_test_series(tmp_path: Path) -> None:
    np.save(tmp_path / "s.npy", np.zeros((5, 20, 2)))
    with pytest.raises(UserError, match="expected 6 samples, one a test series, found 5"):
        read_answer(tmp_path / "s.npy", View(irregular(1.0), "generation"))
