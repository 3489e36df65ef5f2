"""Memory that runs out before the first step is a result, too."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from datasets.base import Dataset
from harness import cli
from harness.catalogue import ROOT
from harness.measure.timing import alone
from harness.run import train as training
from harness.run.memory import peak_memory
from tests import specs


@pytest.fixture
def data(tmp_path: Path) -> Path:
    from datasets.synthetic import load as sines

    made = sines([], name="sines", title="S", n=24, length=20, channels=1, seed=0,
                 split=specs.SPLIT)  # fmt: skip
    made.save(tmp_path / "data.npz")
    return tmp_path / "data.npz"


def train(cell: Path, data: Path) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main(["train", str(cell), "--data", str(data)])
    return int(ended.value.code or 0)


def no_memory(*_: Any, **__: Any) -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 TiB\nmore")


@pytest.mark.parametrize(
    ("owner", "name", "reason"),
    [
        (training, "build", "building the model: CUDA out of memory. Tried to allocate 2 TiB"),
        (training, "calibrate", "building the model: CUDA out of memory"),
        (Dataset, "load", "reading the data: CUDA out of memory"),
    ],
)
def test_no_memory_before_the_first_step(
    owner: Any, name: str, reason: str, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = specs.write(specs.cell(), data.parent / "cell")
    monkeypatch.setattr(owner, name, no_memory)
    assert train(cell, data) == 0
    outcome = json.loads((cell / "train.json").read_text())
    assert (outcome["status"], outcome["steps"]) == ("oom", 0)
    assert outcome["reason"].startswith(reason)


def test_no_memory_for_the_data_when_scores_are_made(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = specs.write(specs.control("gaussian"), data.parent / "cell")
    files = {"description": specs.scoring().dataset, "evaluation": specs.scoring().evaluation}
    arguments = ["evaluate", str(cell), "--data", str(data)]
    for name, content in files.items():
        (data.parent / f"{name}.json").write_text(json.dumps(content.model_dump(mode="json")))
        arguments += [f"--{name}", str(data.parent / f"{name}.json")]
    monkeypatch.setattr(Dataset, "load", no_memory)
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert not ended.value.code
    assert json.loads((cell / "record.json").read_text())["status"] == "oom"


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
def test_a_limit_that_not_even_the_imports_fit_in(data: Path) -> None:
    cell = specs.write(specs.cell(), data.parent / "cell")
    # Too little to map torch's library. Between this and enough, the interpreter itself may abort.
    words = f'ulimit -v {1024 * 300}; exec "$0" -m harness train "$1" --data "$2"'
    done = subprocess.run(
        ["sh", "-c", words, sys.executable, str(cell), str(data)],
        cwd=ROOT, capture_output=True, text=True,
        env={"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("error: out of memory") and done.stderr.count("\n") == 1


@pytest.mark.skipif(sys.platform != "linux", reason="read from /proc")
def test_the_peak_of_a_process_does_not_count_the_one_that_started_it() -> None:
    cpu = torch.device("cpu")
    held = np.ones(2**26)  # 512 MiB
    assert alone(peak_memory, cpu) < peak_memory(cpu) - held.nbytes / 2
