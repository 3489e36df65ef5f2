"""What a repository keeps of results: the files that config/README.md lists, and no others."""

import re
from pathlib import Path

import pytest

from harness.catalogue import ROOT
from harness.errors import UserError
from harness.present.collect import OF_A_CELL, OF_STUDIES, collect

CELL = "generation/flame/ls4/0"


def make(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)


def test_records_and_studies_are_copied_and_nothing_else(tmp_path: Path) -> None:
    results, out = tmp_path / "results" / "full", tmp_path / "reference"
    kept = [*(f"{CELL}/{name}" for name in OF_A_CELL), "power/flame.json", "runtime/ls4/80.json"]
    kept.append("runtime_100k/ls4/80.json")
    make(results, *(f"mlflow/artifacts/0/{name}" for name in OF_A_CELL))
    make(results, *kept, f"{CELL}/samples.npz", f"{CELL}/weights.safetensors", f"{CELL}/cell.json")
    make(results, "generation/flame/ls4/1/history.jsonl", "data/flame.json", "data/flame.npz")
    make(out / "full", f"{CELL}/record.json.old", kept[0])
    (out / "full" / kept[0]).write_text("an earlier record")
    copies = collect(results, out)
    assert copies == sorted(out / "full" / name for name in kept)
    assert [copy.read_text() for copy in copies] == sorted(kept)
    files = {path for path in out.rglob("*") if path.is_file()}
    assert files == {*copies, out / "full" / f"{CELL}/record.json.old"}  # others' files stay


def test_one_study_alone(tmp_path: Path) -> None:
    make(tmp_path / "full", "runtime/ls4/80.json", f"{CELL}/record.json")
    copies = collect(tmp_path / "full" / "runtime", tmp_path / "reference" / "full")
    assert copies == [tmp_path / "reference" / "full" / "runtime" / "ls4" / "80.json"]


def test_nothing_to_keep_is_refused(tmp_path: Path) -> None:
    make(tmp_path, f"{CELL}/samples.npz")
    with pytest.raises(UserError, match=r"expected record\.json, power/"):
        collect(tmp_path, tmp_path.parent / "out")


def test_a_folder_is_not_copied_into_itself(tmp_path: Path) -> None:
    make(tmp_path, f"{CELL}/record.json")
    for out in (tmp_path, tmp_path / "out"):
        with pytest.raises(UserError, match=f"{out}: expected a folder outside of {tmp_path},"):
            collect(tmp_path, out)
    assert not (tmp_path / "out").exists()


def test_the_list_of_files_is_whole() -> None:
    page = (ROOT / "config" / "README.md").read_text(encoding="utf-8")
    table = re.findall(r"^\| `(\S+)` \|.*\| yes \|$", page, re.MULTILINE)
    assert [Path(name).name for name in table[: len(OF_A_CELL)]] == list(OF_A_CELL)
    studies = zip(table[len(OF_A_CELL) :], OF_STUDIES, strict=True)
    assert all(Path(re.sub("<.*?>", "x", name)).match(pattern) for name, pattern in studies)
