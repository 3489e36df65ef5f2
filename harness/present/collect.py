"""What a repository keeps of a folder of results: enough for every table, figure and verdict.

Samples, weights and prepared data are not kept. config/README.md lists the files.
"""

import shutil
from pathlib import Path

from datasets.files import replacing
from harness.errors import UserError
from harness.measurements import RUN_TIMES, run_time_files
from harness.powers import POWERS, power_files
from harness.present.files import record_files
from harness.records import ERRORS, HISTORY, RECORD, SUMMARY
from harness.traces import TRACE

OF_A_CELL = (RECORD, HISTORY, SUMMARY, ERRORS, TRACE)
OF_STUDIES = (POWERS, RUN_TIMES)


def collect(records: Path, out: Path) -> list[Path]:
    """Copy what is kept of a folder of results to a folder of the same name; return the copies.

    A cell without a record is not finished and left out.

    Parameters
    ----------
    records : Path
        Folder of results, such as ``results/full``.
    out : Path
        Folder that holds or gets the copy, such as ``results/reference``.

    Raises
    ------
    UserError
        If there is nothing to keep, or `out` is among the records, which would then be there twice.
    """
    if out.resolve().is_relative_to(records.resolve()):
        raise UserError(f"{out}: expected a folder outside of {records}, found one in it")
    of_cells = [path.with_name(name) for path in record_files(records) for name in OF_A_CELL]
    of_studies = [*power_files(records), *run_time_files(records)]
    found = sorted([*filter(Path.is_file, of_cells), *of_studies])
    if not found:
        raise UserError(
            f"{records}: expected {RECORD}, {' or '.join(OF_STUDIES)} below, found none"
        )
    copies = [out / path.relative_to(records.parent) for path in found]
    for path, copy in zip(found, copies, strict=True):
        with replacing(copy) as part:
            shutil.copyfile(path, part)
    return copies
