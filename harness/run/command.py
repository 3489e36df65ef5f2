"""Cells of commands: what a command is given, and its script.

In the cell's directory, `prepare` writes ``given.npz`` (see `harness.run.given`) and a script,
``command.sh``. The workflow runs it in the command's own environment, which needs no Python. The
command writes ``answer.npz``; the script writes ``ended.txt``: the exit status, the seconds, and
the end of the log. `harness.run.answers` reads these two.
"""

import math
import shlex
from pathlib import Path

from datasets.base import Dataset
from datasets.files import save_arrays
from harness.cells import CommandSpec
from harness.commands import fill
from harness.run.given import given
from harness.run.view import view
from harness.texts import write_text

GIVEN, SCRIPT, ANSWER, ENDED = "given.npz", "command.sh", "answer.npz", "ended.txt"
KILL_AFTER = 30  # seconds that a command has to end when its time is over
TEMPLATE = """\
# Written by harness.run.command; sh {script} LOG runs it from the root of the repository.
start=$(date +%s)
{command} > "$1" 2>&1 < /dev/null
status=$?
[ -e {answer} ] || : > {answer}
{{ echo $status; echo $(($(date +%s) - start)); tail -c 4000 "$1"; }} > {ended}
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
