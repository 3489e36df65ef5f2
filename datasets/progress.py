"""Progress lines on a terminal; silence in logs."""

from rich.console import Console
from rich.progress import Progress, ProgressColumn


def progress(*columns: ProgressColumn) -> Progress:
    """Return a progress display on standard error that is quiet unless that is a terminal."""
    console = Console(stderr=True)
    columns = columns or Progress.get_default_columns()
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
