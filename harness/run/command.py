"""Cells of commands: what a command is given, its script, and how it ended.

In the cell's directory, `prepare` writes ``given.npz`` (see `harness.run.exchange`) and a script,
``command.sh``. The workflow runs it in the command's own environment, which needs no Python. The
command writes ``answer.npz``; the script writes ``ended.txt``: the exit status, the seconds, and
the last lines of the log. `read` reads these two.
"""

import math
import shlex
from pathlib import Path

import torch

from datasets.base import Dataset
from datasets.errors import DataError
from datasets.files import save_arrays, sha256
from harness.catalogue import ROOT
from harness.cells import CommandSpec
from harness.commands import fill
from harness.errors import UserError
from harness.records import Status, circumstances, write_text
from harness.run.exchange import Answer, given, read_answer
from harness.run.outcome import Outcome
from harness.run.view import view
from harness.sources import digest

GIVEN, SCRIPT, ANSWER, ENDED = "given.npz", "command.sh", "answer.npz", "ended.txt"
KILL_AFTER = 30  # seconds that a command has to end when its time is over
OUT_OF_TIME = (124, 137)  # exit statuses of coreutils' timeout: ended, and killed
LINE = 300  # characters of the log's last line that become the reason
TEMPLATE = """\
# Written by harness.run.command; sh {script} LOG runs it from the root of the repository.
start=$(date +%s)
{command} > "$1" 2>&1 < /dev/null
status=$?
[ -e {answer} ] || : > {answer}
{{ echo $status; echo $(($(date +%s) - start)); tail -n 20 "$1"; }} > {ended}
"""


def prepare(spec: CommandSpec, dataset: Dataset | None, directory: Path) -> None:
    """Write what the command is given and its script; without a data set, one that does nothing.

    Raises
    ------
    UserError
        If complete series are wanted of a data set that has gaps.
    """
    command, arrays = ["true"], {}
    if dataset is not None:
        arrays = given(view(spec, dataset))
        values = {
            "data": str(directory / GIVEN),
            "out": str(directory / ANSWER),
            "n": str(len(dataset.test)),
            "seed": str(spec.seed),
            "task": spec.task,
        }
        command = fill(spec.command, values)
        if spec.time_limit is not None:
            limit = math.ceil(60 * spec.time_limit)
            command = ["timeout", "-k", str(KILL_AFTER), str(limit), *command]
    save_arrays(directory / GIVEN, arrays)
    files = {"script": SCRIPT, "answer": ANSWER, "ended": ENDED}
    paths = {key: shlex.quote(str(directory / name)) for key, name in files.items()}
    write_text(directory / SCRIPT, TEMPLATE.format(command=shlex.join(command), **paths))


def read(
    spec: CommandSpec, dataset: Dataset, directory: Path, device: torch.device
) -> tuple[Outcome, Answer | None]:
    """Read how a command ended, and its samples or predictions if it ended well."""
    status, seconds, *log = (directory / ENDED).read_text("utf-8", errors="replace").splitlines()
    last = next((line.strip() for line in reversed(log) if line.strip()), "an empty log")[:LINE]
    ended: Status = "done"
    reason, answer = None, None
    limit = spec.time_limit
    if limit is not None and int(status) in OUT_OF_TIME and int(seconds) >= math.floor(60 * limit):
        ended, reason = "timeout", f"stopped after {limit:g} min: {last}"
    elif status != "0":
        ended, reason = "failed", f"exit status {status}: {last}"
    elif not (directory / ANSWER).stat().st_size:
        ended, reason = "failed", f"the command wrote no {ANSWER}: {last}"
    else:
        try:
            answer = read_answer(directory / ANSWER, view(spec, dataset))
        except (UserError, DataError) as error:
            ended, reason = "failed", str(error)
    outcome = Outcome(
        status=ended,
        reason=reason,
        ended=None,
        steps=0,
        best_step=None,
        best_validation_loss=None,
        last_validation_loss=None,
        seconds=float(seconds),
        peak_memory_bytes=None,
        parameters=0,
        config_hash=spec.digest,
        code_hash=digest({file: sha256(ROOT / file) for file in spec.files}),
        circumstances=circumstances(device),
    )
    return outcome, answer
