"""A record's cell run again: the same description, the same scores, and what is refused."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from datasets.base import Dataset
from datasets.synthetic import load as sines
from harness import records
from harness.cells import CellSpec, ControlSpec, Spec
from harness.cli import main
from harness.config import Protocol
from harness.errors import UserError
from harness.records import Record, Score
from harness.run import rerun
from tests import specs
from tests.present import outputs

CPU = torch.device("cpu")
WHERE = "there/record.json"


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return sines(
        [], name="sines", title="Sines", n=40, length=20, channels=2, seed=0, split=specs.SPLIT
    )


CELLS: dict[str, Spec] = {
    "generation": specs.cell(log_every=2, ema_decay=0.9),
    "interpolation": specs.cell(
        "baselines.rnn:RNN", {"latents": 4}, task="interpolation"
    ).model_copy(update={"protocol": Protocol(hidden=0.3)}),
    "control": specs.control("gaussian"),
    "predicting control": ControlSpec(
        task="extrapolation",
        dataset="sines",
        model="linear",
        seed=0,
        budget="smoke",
        draw=None,
        protocol=Protocol(),
    ),
}


def once(spec: Spec, dataset: Dataset, folder: Path) -> Record:
    scoring = specs.scoring(draws=3, shares=[0.1, 0.7], share_draws=4)
    return rerun.rerun(spec, scoring, dataset, folder, CPU).record


@pytest.mark.parametrize("name", CELLS)
def test_a_record_says_all_that_its_cell_was(name: str, dataset: Dataset, tmp_path: Path) -> None:
    first = once(CELLS[name], dataset, tmp_path / "first")
    spec, scoring = rerun.recipe(records.read(tmp_path / "first" / "record.json"), WHERE)
    assert spec == CELLS[name]
    rerun.check_data(first, dataset)
    again = rerun.rerun(spec, scoring, dataset, tmp_path / "again", CPU).record
    if "control" not in name:  # interpolation alone uses shares; else nothing tells which they were
        assert again.config_hash == first.config_hash
    assert rerun.differing(first, again) == {}
    found = rerun.compare(first, again)
    assert len(found) == len(first.scores) > 3
    assert all(row.within and row.tolerance == 0 for row in found)


def test_the_command_shows_both_and_never_replaces_a_record(
    dataset: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cell = tmp_path / "smoke" / "generation" / "sines" / "ls4" / "3"
    once(CELLS["generation"], dataset, cell)
    data = tmp_path / "smoke" / "data" / "sines.npz"
    data.parent.mkdir()
    dataset.save(data)
    arguments = ["rerun", str(cell / "record.json"), "--out", str(tmp_path / "again")]
    threads = torch.get_num_threads()
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    shown = capsys.readouterr().out
    assert ended.value.code == 0 and torch.get_num_threads() == threads
    n = len(records.read(cell / "record.json").scores)
    assert f"{n} of {n} scores within their tolerance; {n} in all" in shown
    assert "record: done\nrerun: done\n" in shown and "code_hash" not in shown
    before = (tmp_path / "again" / "record.json").read_bytes()
    copy = shutil.copy(cell / "record.json", tmp_path / "kept.json")
    for record in (arguments[1], str(copy)):
        with pytest.raises(SystemExit) as ended:
            main(["rerun", record, *arguments[2:]])
        assert ended.value.code == 1
        assert "record.json: exists; remove it" in capsys.readouterr().err
    assert (tmp_path / "again" / "record.json").read_bytes() == before


def test_a_record_anywhere_is_found_its_data_and_its_neighbours_are_read_first(
    dataset: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    once(CELLS["generation"], dataset, tmp_path / "x")
    (tmp_path / "data").mkdir()
    dataset.save(tmp_path / "data" / "sines.npz")
    words = ["rerun", str(tmp_path / "x" / "record.json"), "--out", str(tmp_path / "again")]
    neighbour = tmp_path / "y" / "record.json"
    neighbour.parent.mkdir()
    neighbour.write_text("{")
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 1 and not (tmp_path / "again").exists()
    assert capsys.readouterr().err.startswith(f"error: {neighbour}: not JSON")
    neighbour.unlink()
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 0 and (tmp_path / "again" / "record.json").is_file()


def test_other_data_are_refused(
    dataset: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cell = tmp_path / "cell"
    records.write(once(CELLS["control"], dataset, cell), cell / "record.json")
    other = sines(
        [], name="sines", title="S", n=40, length=20, channels=2, seed=1, split=specs.SPLIT
    )
    other.save(tmp_path / "other.npz")
    out = tmp_path / "out"
    with pytest.raises(SystemExit) as ended:
        main(["rerun", str(cell / "record.json"), "--prepared", str(tmp_path / "other.npz"),
              "--out", str(out)])  # fmt: skip
    assert ended.value.code == 1 and not out.exists()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: data set sines: expected data ") and "prepared data" in line
    divided = sines([], name="sines", title="S", n=40, length=20, channels=2, seed=0,
                    split=specs.SPLIT | {"seed": 1})  # fmt: skip
    assert divided.data_digest == dataset.data_digest
    with pytest.raises(UserError, match=r"expected data .* and split"):
        rerun.check_data(records.read(cell / "record.json"), divided)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"status": "skipped", "reason": "no file"}, "nothing to run again: no file"),
        ({"settings": {"class": specs.LS4, "training": {"batch_size": 2}}},
         "settings: config missing, cannot be"),
        ({"settings": {"class": specs.LS4, "config": {"wide": 1}, "training": {"steps": 1,
          "batch_size": 2}}}, "settings.config: unknown field 'wide'"),
        ({"settings": {"class": specs.LS4, "config": {},
          "training": {"steps": 0, "batch_size": 2}}},
         "settings: training.steps: Input should be greater"),
        ({"model": "gone", "settings": {"class": "toy.gone:Toy", "config": {},
          "training": {"batch_size": 2}}},
         "toy.gone:Toy: no module named"),
    ],
)  # fmt: skip
def test_records_that_cannot_be_rebuilt_get_one_line(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as caught:
        rerun.recipe(outputs.record(**changes), WHERE)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_a_class_that_has_moved_is_found_by_its_model() -> None:
    settings = {"class": "ls4.model:LS4", "config": {}, "training": {"steps": 3, "batch_size": 2}}
    spec, _ = rerun.recipe(outputs.record(settings=settings), WHERE)
    assert isinstance(spec, CellSpec) and spec.class_ == specs.LS4


def test_tolerance_is_zero_only_where_nothing_differs() -> None:
    old = outputs.record(scores={"a": (1.0, 0.1), "b": (2.0, None), "c": (None, None)})
    scores = [
        Score(name="a", value=1.25),
        Score(name="b", value=2.0),
        Score(name="c", value=1.0),
    ]
    new = old.model_copy(update={"scores": scores})
    assert [row.within for row in rerun.compare(old, new)] == [False, True, False]
    elsewhere = new.model_copy(update={"device": "CPU Other", "versions": {"torch": "3"}})
    added = [*scores, Score(name="new", value=1.0)]
    with_more = old.model_copy(update={"scores": added})
    assert rerun.compare(old, with_more)[-1].within is None
    assert rerun.differing(old, elsewhere) == {
        "device": ("CPU Synthetic", "CPU Other"),
        "python": ("3.11.7", None),
        "torch": ("2.13.0", "3"),
    }
    assert rerun.differing(old, new.model_copy(update={"threads": 8})) == {"threads": (2, 8)}
    a, b, _ = rerun.compare(old, elsewhere)
    assert a.tolerance == pytest.approx(0.3) and a.within
    assert b.tolerance is None and b.within
    # the spread over seeds is larger than that within a seed
    seeds = [outputs.record(seed=s, scores={"a": (float(s), 0.1)}) for s in range(3)]
    assert rerun.compare(old, elsewhere, seeds)[0].tolerance == pytest.approx(3.0)
    on_gpu = [record.model_copy(update={"device": "NVIDIA H100"}) for record in (old, new)]
    assert rerun.compare(*on_gpu)[0].tolerance == pytest.approx(0.3)
