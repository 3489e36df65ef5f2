"""A command's script, its ways to end, and its record."""

import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from datasets.base import Dataset, write_unavailable
from datasets.synthetic import load as sines
from harness.cells import CommandSpec
from harness.cli import main
from harness.config import Protocol
from harness.records import Record, read
from harness.run.answers import read_command
from harness.run.command import ANSWER, ENDED, GIVEN, prepare
from harness.sources import source_files
from harness.texts import write_json
from tests import specs

PYTHON = shlex.quote(sys.executable)
# Writes what the seed and the number of samples say, without the project.
SAMPLES = """
import sys, numpy as np
data, seed, n, out = sys.argv[1:]
x = np.load(data)["x"]
print("a line", file=sys.stderr)
np.savez(out, samples=np.random.default_rng(int(seed)).standard_normal((int(n), *x.shape[1:])))
"""


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return sines([], name="sines", title="Sines", n=40, length=20, channels=2, seed=0,
                 split=specs.SPLIT)  # fmt: skip


def execute(cell: CommandSpec, dataset: Dataset | None, folder: Path) -> None:
    """Do what the workflow does: write the script and run it."""
    prepare(cell, dataset, folder)
    log = folder / "log with a space.txt"
    subprocess.run(["sh", folder / "command.sh", log], check=True)


def test_a_command_gets_a_record_like_any_model(tmp_path: Path, dataset: Dataset) -> None:
    folder = tmp_path / "a folder's $HOME"  # no shell may read it
    (tmp_path / "mine.py").write_text(SAMPLES)
    cell = specs.command(
        f"{PYTHON} '{tmp_path}/mine.py' {{data}} {{seed}} {{n}} {{out}}", time_limit=5.0
    )
    execute(cell, dataset, folder)
    record = evaluated(cell, dataset, folder)
    assert record.status == "done" and not record.control and record.reason is None
    assert record.settings["command"] == cell.command and record.settings["time_limit"] == 5
    with np.load(folder / "samples.npz") as arrays:
        expected = np.random.default_rng(3).standard_normal((8, 20, 2)).astype(np.float32)
        assert np.array_equal(arrays["samples"], expected)
    assert {"marginal_robust", "p_all"} <= {score.name for score in record.scores}
    assert record.files.keys() == {"summary.npz", "samples.npz", "errors.npz"}


def evaluated(cell: CommandSpec, dataset: Dataset, folder: Path) -> Record:
    """Score a cell by the command line, as the workflow does."""
    scoring = specs.scoring(cell.dataset, draws=3)
    specs.write(cell, folder)
    write_json(folder / "d.json", scoring.dataset.model_dump(mode="json"))
    write_json(folder / "e.json", scoring.evaluation.model_dump(mode="json"))
    dataset.save(folder / "data.npz")
    words = ["evaluate", str(folder), "--data", str(folder / "data.npz")]
    words += ["--description", str(folder / "d.json"), "--evaluation", str(folder / "e.json")]
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 0
    return read(folder / "record.json")


def test_predictions_of_a_command(tmp_path: Path) -> None:
    dataset = sines([], name="sines_irregular", title="Sines", n=40, length=20, channels=2, seed=0,
                    observed=0.4, split=specs.SPLIT)  # fmt: skip
    n, L, D = dataset.x[dataset.test].shape
    mean = f"np.zeros(({n}, {L}, {D}))"
    program = f"import sys, numpy as np; np.savez(sys.argv[1], mean={mean}, std=1.0)"
    changes = {"task": "interpolation", "dataset": dataset.name, "protocol": Protocol()}
    cell = specs.command(f'{PYTHON} -c "{program}" {{out}}', **changes)
    execute(cell, dataset, tmp_path)
    record = evaluated(cell, dataset, tmp_path)
    names = {score.name for score in record.scores}
    assert record.status == "done" and {"mse_robust", "crps_robust", "coverage_80"} <= names
    assert not any("hidden" in name for name in names)  # predicted at the protocol's share alone
    assert record.protocol["hidden"] == 0.5


@pytest.mark.parametrize(
    ("command", "status", "reason"),
    [
        ("sh -c 'echo first; echo the last line >&2; echo; exit 3' {out}", "failed",
         "exit status 3: the last line"),
        ("no_such_program {out}", "failed", "exit status 127: "),
        ("echo wrote nothing to {out}", "failed", "the command wrote no answer.npz: wrote nothing"),
        ("cp {data} {out}", "failed", "answer.npz: expected one array, or one called 'samples'"),
        ("sleep 20 {out}", "timeout", "stopped after 0.01 min: "),
    ],
    ids=["exit status", "no program", "no answer", "other arrays", "time limit"],
)  # fmt: skip
def test_a_failure_is_a_result(
    tmp_path: Path, dataset: Dataset, command: str, status: str, reason: str
) -> None:
    command = command.replace("sleep 20", "sh -c 'sleep 20'")
    cell = specs.command(command, time_limit=0.01 if status == "timeout" else None)
    execute(cell, dataset, tmp_path)
    outcome, answer = read_command(cell, dataset, tmp_path, torch.device("cpu"))
    assert outcome.status == status and reason in str(outcome.reason) and answer is None
    record = evaluated(cell, dataset, tmp_path)
    assert record.status == status and record.scores == []


def test_special_characters_reach_the_command_as_they_are(tmp_path: Path, dataset: Dataset) -> None:
    words = ["$HOME", "`id`", "a b", "it's", '"', "*", "{}", "; echo no"]
    cell = specs.command(shlex.join(["printf", "%s|", *words, "{task}", "{out}"]))
    execute(cell, dataset, tmp_path)
    said = (tmp_path / ENDED).read_text().splitlines()[2]
    assert said == "|".join([*words, "generation", str(tmp_path / ANSWER), ""])


def test_data_that_cannot_be_had_run_nothing(tmp_path: Path) -> None:
    data, *others = (tmp_path / name for name in ("data.npz", "split.json", "report.json"))
    write_unavailable(data, others[0], others[1], "sines", "data not available: gone")
    specs.write(specs.command("false {out}"), tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["command", str(tmp_path), "--data", str(data)])
    assert ended.value.code == 0 and (tmp_path / GIVEN).exists()
    subprocess.run(["sh", tmp_path / "command.sh", tmp_path / "log"], check=True)
    assert (tmp_path / ENDED).read_text().startswith("0\n")


def test_only_a_command_has_a_script(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    specs.write(specs.control("gaussian"), tmp_path)
    with pytest.raises(SystemExit):
        main(["command", str(tmp_path), "--data", "no.npz"])
    assert "expected a command's cell, found the control gaussian" in capsys.readouterr().err


def test_a_change_of_a_score_runs_no_command_again() -> None:
    assert not [file for file in source_files("harness.run.command") if "metrics" in file]
