"""The command line: ``python -m harness <command>``; every rule of the workflow is one of these.

A command is a function, its help is the function's docstring. Imports are inside the functions:
torch, matplotlib and mlflow take seconds to load, and most commands need one of them at most.
"""

import argparse
import sys
from typing import Any, NoReturn

from harness.cli import data, measure, present, rerun, run, score
from harness.cli.failures import reason, tell

EPILOG = (
    "The workflow calls check, fetch, shard, prepare, train, command, evaluate, power and trace"
    " with files that it writes; start those with snakemake. All others are for you. COMMAND --help"
    " lists a command's options."
)


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run a command and exit: 0 done, 2 wrong usage, 1 for a failure named in one line.

    Failures are the user's mistakes, and a machine without memory, room on its disk or the right to
    write. Errors of the program are raised.
    """
    options = vars(parser().parse_args(arguments))
    command = options.pop("command")
    try:
        sys.exit(command(**options))
    except Exception as error:
        why = reason(error)
        if why is None:
            raise
        tell(f"error: {why}")
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def parser() -> argparse.ArgumentParser:
    """Build the parser with the commands of all modules."""
    top = argparse.ArgumentParser(
        prog="python -m harness", description="The LS4 benchmark.", epilog=EPILOG
    )
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    def add(function: Any, name: str | None = None) -> argparse.ArgumentParser:
        text = str(function.__doc__)
        sub = commands.add_parser(
            name or function.__name__, help=text.splitlines()[0], description=text
        )
        sub.set_defaults(command=function)
        return sub

    for module in (score, data, run, rerun, present, measure):
        module.add_commands(add)
    return top
