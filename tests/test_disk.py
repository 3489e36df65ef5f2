"""Disks that are full or may not be written: one line, nothing half-written, and on it goes."""

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from datasets.base import Dataset
from datasets.synthetic import load as sines
from harness import cli
from harness.catalogue import ROOT
from harness.cli.failures import reason
from harness.run import train as training
from harness.run.checkpoints import read
from harness.texts import write_text
from tests import specs

SPEC = specs.cell(steps=8, checkpoint_every=0)  # a checkpoint after every step


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("a file system of its own: only root may mount one")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    made: Dataset = sines([], name="sines", title="S", n=24, length=20, channels=1, seed=0,
                          split=specs.SPLIT)  # fmt: skip
    made.save(tmp_path / "data.npz")
    return tmp_path / "data.npz"


def fill(folder: Path) -> Path:
    """Leave no byte of a file system."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError as error:
            assert error.errno == errno.ENOSPC
    return ballast


def train(cell: Path, data: Path) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main(["train", str(cell), "--data", str(data)])
    return int(ended.value.code or 0)


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_a_disk_that_fills_up_in_a_training(
    disk: Path,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    whole, cell = (specs.write(SPEC, folder / "cell") for folder in (tmp_path, disk))
    assert train(whole, data) == 0
    save = training.Run.save

    def fill_and_save(run: training.Run) -> None:
        if run.step == 5:
            fill(disk)
        save(run)

    monkeypatch.setattr(training.Run, "save", fill_and_save)
    capsys.readouterr()
    assert train(cell, data) == 1
    checkpoint = cell / training.CHECKPOINT
    assert capsys.readouterr().err == f"error: {checkpoint}: No space left on device\n"
    assert files(cell) == {"cell.json", "ckpt/checkpoint.pt"}
    state = read(checkpoint)
    assert state and state["step"] == 4

    (disk / "ballast").unlink()
    monkeypatch.undo()
    assert train(cell, data) == 0
    assert "going on from step 4" in capsys.readouterr().err
    for name in ("weights.safetensors", "history.jsonl"):
        assert (cell / name).read_bytes() == (whole / name).read_bytes()
    assert files(cell) == files(whole)


def test_a_disk_without_room_for_the_weights(
    disk: Path, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    cell = specs.write(specs.cell(), disk / "cell")
    steps = training.Run.steps

    def steps_and_fill(run: training.Run) -> training.End:
        ended = steps(run)
        fill(disk)
        return ended

    monkeypatch.setattr(training.Run, "steps", steps_and_fill)
    assert train(cell, data) == 1
    weights = cell / "weights.safetensors"
    assert capsys.readouterr().err == f"error: {weights}: No space left on device\n"
    assert files(cell) == {"cell.json"}


def test_the_reason_is_shown_where_the_log_cannot_be_written(disk: Path, data: Path) -> None:
    cell = specs.write(specs.cell(), disk / "cell")
    fill(disk)
    words = 'exec 3>&2; "$0" -m harness train "$1" --data "$2" > "$3" 2>&1'
    done = subprocess.run(
        ["bash", "-c", words, sys.executable, str(cell), str(data), str(disk / "log")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=os.environ | {"LS4_TERMINAL": "3"},
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {disk}") and done.stderr.count("\n") == 1
    assert "No space left on device" in done.stderr


def test_a_folder_that_may_not_be_written(
    disk: Path, data: Path, capsys: pytest.CaptureFixture
) -> None:
    cell = specs.write(SPEC, disk / "cell")
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)  # holds for root, too
    assert train(cell, data) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: {cell}") and error.endswith(": Read-only file system\n")
    assert error.count("\n") == 1


def test_what_cannot_be_written_is_named_and_no_temporary_part(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for out, message in {
        tmp_path / "file" / "x.json": f"{tmp_path / 'file'}: expected a folder, found a file",
        Path("/proc/x.json"): "/proc/x.json: No such file or directory",
    }.items():
        with pytest.raises(OSError) as caught:
            write_text(out, "")
        assert reason(caught.value) == message
