"""What ended a command, in one line: a mistake of the user, or what the machine has no more of."""

import os
import sys
from contextlib import suppress

from datasets.errors import DataError
from harness.errors import UserError, lacks_memory

TERMINAL = "LS4_TERMINAL"  # file descriptor of the terminal where stderr is a log; the workflow's


def reason(error: Exception) -> str | None:
    """Return why a command ended; None of an error that is one of the program."""
    if isinstance(error, UserError | DataError):
        return str(error)
    text = str(error).partition("\n")[0]
    if lacks_memory(error):
        return f"out of memory: {text}" if text else "out of memory"
    if isinstance(error, FileExistsError):  # of a folder that was to be made
        return f"{error.filename}: expected a folder, found a file"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return None


def tell(message: str) -> None:
    """Print a line to stderr and, where that is a log, to the terminal too.

    A log cannot be written where its disk is full, and is no place that a user looks at first.
    """
    try:
        print(message, file=sys.stderr, flush=True)
    except OSError:
        sys.stderr = None  # else Python tries once more at its end, and says so
    terminal = os.environ.get(TERMINAL, "")
    if terminal.isdigit():
        with suppress(OSError):  # it may be closed
            os.write(int(terminal), f"{message}\n".encode(errors="replace"))
