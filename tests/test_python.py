"""docs/python.md and the notebook, in a copy of the checkout; the door itself."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
import torch

import harness
from datasets.base import Dataset
from datasets.synthetic import load as sines
from harness import load_cell, records
from harness.catalogue import ROOT
from harness.contract import Model
from harness.errors import UserError
from harness.run.build import build
from harness.run.train import train
from harness.run.trained import TrainedCell
from tests import specs
from tests.checkout import BIN, copy
from tests.present import outputs

SHORT: dict[str, Any] = {
    "name": "sines",
    "title": "Sines",
    "n": 30,
    "length": 20,
    "channels": 2,
    "seed": 0,
}


def data(**changes: Any) -> Dataset:
    return sines([], **SHORT | changes, split=specs.SPLIT)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results with one trained cell of generation."""
    root = tmp_path_factory.mktemp("results")
    dataset = data()
    (root / "data").mkdir()
    dataset.save(root / "data" / "sines.npz")
    spec = specs.cell()
    directory = specs.write(spec, root / "generation" / "sines" / "ls4" / "3")
    train(spec, dataset, directory, torch.device("cpu"))
    return directory


def test_a_trained_cell_gives_model_samples_and_data(folder: Path) -> None:
    cell = load_cell(str(folder))
    assert isinstance(cell.model, Model) and not cell.model.training
    assert cell.spec == specs.cell() and cell.dataset.x.shape == (30, 20, 2)
    samples = cell.sample(5, seed=1)
    assert samples.shape == (5, 20, 2) and samples.dtype == np.float32
    assert np.array_equal(samples, load_cell(folder).sample(5, seed=1))
    assert not np.array_equal(samples, cell.sample(5, seed=2))
    with pytest.raises(UserError, match="expected a cell that predicts, found one of generation"):
        cell.predict()


def test_a_trained_cell_predicts_its_test_records(folder: Path, tmp_path: Path) -> None:
    data = folder.parents[3] / "data" / "sines.npz"
    spec = specs.cell(task="extrapolation")
    directory = specs.write(spec, tmp_path / "cell")
    train(spec, Dataset.load(data), directory, torch.device("cpu"))
    cell = load_cell(directory, data)
    batch, prediction = cell.predict(n_samples=4, seed=1)
    assert np.array_equal(batch.x, cell.dataset.x[cell.dataset.test])
    assert batch.target[:, 10:].all() and not batch.mask[:, 10:].any()
    assert prediction.mean.shape == (4, *batch.x.shape)
    again, other = (cell.predict(n_samples=4, seed=seed)[1].mean for seed in (1, 2))
    assert torch.equal(prediction.mean, again) and not torch.equal(prediction.mean, other)
    chosen, _ = cell.predict([3, 0])
    assert np.array_equal(chosen.x, cell.dataset.x[[3, 0]])
    with pytest.raises(UserError, match="expected a cell of generation, found one of extrapol"):
        cell.sample(1)


def test_mistakes_get_one_line(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cell\.json: no such file"):
        load_cell(tmp_path)
    alone = ROOT / "results" / "reference" / "full" / "generation" / "solar_weekly" / "ls4" / "0"
    with pytest.raises(UserError, match=r"found a record alone, without weights; train it again"):
        load_cell(alone)
    control = specs.write(specs.control("gaussian"), tmp_path / "control")
    with pytest.raises(UserError, match="expected the cell of a model, found the control gaussian"):
        load_cell(control)
    new = specs.write(specs.cell(), tmp_path / "a" / "b" / "c" / "new")
    with pytest.raises(
        UserError, match=r"train\.json: no such file; make it from its grid: snakemake"
    ):
        load_cell(new)
    with pytest.raises(UserError, match=r"none\.npz: no such file"):
        load_cell(folder, tmp_path / "none.npz")
    with pytest.raises(UserError, match=r"cannot be read: Is a directory"):
        load_cell(folder, tmp_path)
    data(name="cosines").save(tmp_path / "cosines.npz")
    with pytest.raises(UserError, match="expected the data set 'sines', found 'cosines'"):
        load_cell(folder, tmp_path / "cosines.npz")


def test_arguments_get_one_line(folder: Path) -> None:
    cell = load_cell(folder)
    for n in (0, -1, True):  # jaxtyping refuses other types before, in tests
        with pytest.raises(UserError, match=f"n: expected a whole number from 1 on, found {n!r}"):
            cell.sample(n)
    with pytest.raises(UserError, match="seed: expected a whole number from 0 on, found -1"):
        cell.sample(1, seed=-1)
    spec = specs.cell(task="interpolation")
    cell = TrainedCell(spec, cell.dataset, build(spec, cell.dataset, torch.device("cpu")).eval())
    for indices in (0, [], [30], [-1], [0.5], [[0]], [True] * 30, ["a"]):
        with pytest.raises(UserError, match="indices: expected a list of whole numbers from 0 to"):
            cell.predict(indices)
    with pytest.raises(UserError, match="n_samples: expected a whole number from 1 on, found 0"):
        cell.predict([0], n_samples=0)
    assert cell.predict([0], n_samples=2)[1].mean.shape == (2, 1, 20, 2)


def test_data_that_the_record_is_not_of_are_refused(folder: Path, tmp_path: Path) -> None:
    cell, prepared = tmp_path / "cell", tmp_path / "data" / "sines.npz"
    shutil.copytree(folder, cell)
    data().save(prepared)
    dataset = load_cell(cell).dataset
    digests = {"data_digest": dataset.data_digest, "split_digest": dataset.split_digest}
    records.write(outputs.record(**digests), cell / "record.json")
    assert load_cell(cell).spec == specs.cell()
    data(seed=1).save(prepared)
    with pytest.raises(UserError, match=r"data set sines: expected data .*, found"):
        load_cell(cell)


def test_a_cell_may_lie_anywhere(folder: Path, tmp_path: Path) -> None:
    moved, data = tmp_path / "moved", folder.parents[3] / "data" / "sines.npz"
    shutil.copytree(folder, moved)
    with pytest.raises(UserError, match=r"moved: expected data/sines\.npz in a folder around it"):
        load_cell(moved)
    assert load_cell(moved, data).spec == specs.cell()
    shutil.copytree(data.parent, tmp_path / "data")
    assert load_cell(moved).spec == specs.cell()


def test_the_door_is_light_and_has_nothing_else() -> None:
    program = "import sys, harness; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)
    with pytest.raises(AttributeError, match="no attribute 'load_cells'"):
        harness.load_cells  # noqa: B018


@pytest.mark.slow
def test_every_block_of_the_page_and_the_notebook_work(tmp_path: Path) -> None:
    checkout = copy(tmp_path / "benchmark")
    page = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    environment = os.environ | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    environment |= {"MPLBACKEND": "agg"}

    def run(*command: str) -> str:
        done = subprocess.run(
            command,
            cwd=checkout,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    kinds = []
    for kind, block in re.findall(r"^```(\w+)\n((?:.*\n)*?)```", page, re.MULTILINE):
        kinds.append(kind)
        if kind == "yaml":
            (checkout / block.split()[1]).write_text(block)  # its first line: # name
        elif kind == "bash":
            shown = run("bash", "-ec", block)
        else:
            shown = run("python", "-c", block)
    assert kinds == ["yaml", "bash", "python", "python", "bash"]
    assert shown.startswith("(16, ")
    notebook = nbformat.read(checkout / "examples" / "samples.ipynb", as_version=4)
    nbformat.validate(notebook)
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    assert run("python", "-c", "\n".join(code)).startswith("rnn_vae sines smoke")
