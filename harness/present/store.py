"""Open the MLflow store of an import: one process at a time, and one line where that fails.

A database file has a lock file beside it. A server has one in the temporary folder of this machine,
and each of its experiments a tag while an import from any machine writes there. Others wait.
"""

import os
import re
import socket
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from filelock import FileLock

from harness.errors import UserError
from harness.texts import digest

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

SQLITE = "sqlite:///"
KINDS = ("sqlite", "http", "https", "postgresql", "mysql", "mssql")
PATIENCE = 10  # seconds that a server may take to answer
WRITER = "import.writer"  # experiment tag: machine, process and time of the import that writes
SETTLED = 1.0  # seconds after which of several writers the last one's tag is there
FORGOTTEN = timedelta(minutes=30)  # after which a writer on another machine counts as gone


def check_address(uri: str) -> None:
    """Refuse an address that MLflow cannot keep runs at.

    Raises
    ------
    UserError
        For another kind of address, a file that is no SQLite database or is in use, and a
        database server that does not answer or whose driver is not installed.
    """
    kind = urlsplit(uri).scheme.partition("+")[0]
    is_file = uri.startswith(SQLITE) and uri != SQLITE
    if kind not in KINDS or (kind == "sqlite" and not is_file):
        raise UserError(f"{uri}: expected sqlite:///FILE or the address of a server")
    if kind.startswith("http"):
        return
    if kind != "sqlite":
        _connect(uri)
        return
    path = Path(uri.removeprefix(SQLITE))
    if not path.exists() or path.stat().st_size == 0:
        return
    try:
        with closing(sqlite3.connect(path, timeout=PATIENCE)) as connection:
            connection.execute("BEGIN IMMEDIATE")  # as a write would
            (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.Error as error:
        raise UserError(f"{path}: no database that can be written: {error}") from None
    if found != "ok":
        raise UserError(f"{path}: damaged; move it away and import the records again")


def _connect(uri: str) -> None:
    """Connect to a database server once: MLflow would try for minutes."""
    from sqlalchemy import create_engine  # which comes with MLflow
    from sqlalchemy.exc import SQLAlchemyError

    timeout = "timeout" if uri.startswith("mssql") else "connect_timeout"
    try:
        with create_engine(uri, connect_args={timeout: PATIENCE}).connect():
            pass
    except ModuleNotFoundError as error:
        raise UserError(f"{_without_password(uri)}: needs the package {error.name}") from None
    except (SQLAlchemyError, ValueError) as error:  # ValueError: a port that is no number
        reason = " ".join(str(error).partition("(Background")[0].split())
        raise UserError(f"{_without_password(uri)}: no connection: {reason}") from None


def _without_password(uri: str) -> str:
    return re.sub(r"(//[^:/@]*):.*@", r"\1:***@", uri)


@contextmanager
def locked(uri: str) -> Iterator[None]:
    """Hold the lock of a store.

    Raises
    ------
    UserError
        If the lock file cannot be written.
    """
    if uri.startswith(SQLITE):
        database = Path(uri.removeprefix(SQLITE))
        path = database.with_name(f"{database.name}.lock")
    else:
        path = Path(tempfile.gettempdir(), f"ls4-benchmark-{digest(uri)[:16]}.lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        lock.acquire()
    except OSError as error:
        raise UserError(f"{path}: cannot lock: {error.strerror or error}") from None
    try:
        yield
    finally:
        lock.release()


def client(uri: str) -> "MlflowClient":
    """Return a client of a store; a database file is brought to the newest schema first.

    Raises
    ------
    UserError
        If a database is of a newer version, or of another program.
    """
    # read when mlflow is imported
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
    # a server that is silent
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(PATIENCE))
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    from mlflow.tracking import MlflowClient

    if uri.startswith(SQLITE):
        from alembic.util import CommandError
        from mlflow.db import upgrade
        from sqlalchemy.exc import SQLAlchemyError

        try:
            upgrade.callback(uri)  # pyright: ignore[reportOptionalCall]  # mlflow db upgrade
        except (CommandError, SQLAlchemyError) as error:  # of a newer version, or another program
            reason = str(error).partition("\n")[0]
            raise UserError(f"{uri}: no database of this MLflow: {reason}") from None
    return MlflowClient(uri)


def experiment(client: "MlflowClient", uri: str, name: str, location: str | None) -> str:
    """Find or make an experiment and return its id.

    Raises
    ------
    UserError
        If no MLflow answers there.
    """
    from mlflow.exceptions import MlflowException

    try:
        found = client.get_experiment_by_name(name)
    except MlflowException as error:
        raise UserError(f"{uri}: no MLflow there: {str(error).splitlines()[0]}") from None
    if found is None:
        try:
            return client.create_experiment(name, location)
        except MlflowException:
            found = client.get_experiment_by_name(name)
            if found is None:  # else another import has made it in between
                raise
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    return found.experiment_id


def hide_default(client: "MlflowClient") -> None:
    """Delete the experiment that MLflow makes in each new database, as long as it is empty."""
    default = client.get_experiment_by_name("Default")
    if default is None or default.lifecycle_stage == "deleted":
        return
    if not client.search_runs([default.experiment_id], max_results=1):
        client.delete_experiment(default.experiment_id)


@contextmanager
def reserved(client: "MlflowClient", uri: str, experiment: str) -> Iterator[None]:
    """Keep imports from other machines out of an experiment; nothing is done for a file.

    An import that was killed is known by its process on the same machine, elsewhere by its age.
    """
    if uri.startswith(SQLITE):
        yield
        return
    own = f"{socket.gethostname()} {os.getpid()} {datetime.now(UTC):%Y-%m-%dT%H:%M:%S%z}"
    told = False
    while (other := _writer(client, experiment)) != own:
        if other is None:
            client.set_experiment_tag(experiment, WRITER, own)
        elif not told:
            told = True
            print(f"{uri}: waiting for another import: {other}", file=sys.stderr)
        time.sleep(SETTLED)
    try:
        yield
    finally:
        if _writer(client, experiment) == own:
            client.delete_experiment_tag(experiment, WRITER)


def _writer(client: "MlflowClient", experiment: str) -> str | None:
    """Return who writes to an experiment, if that import can still be running."""
    tag = client.get_experiment(experiment).tags.get(WRITER)
    if tag is None:
        return None
    machine, process, since = tag.split()
    if machine == socket.gethostname():
        return tag if _runs(int(process)) else None
    return tag if datetime.now(UTC) - datetime.fromisoformat(since) < FORGOTTEN else None


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # of another user
        return True
    return True


def aside(database: Path) -> Path:
    """Return a name for a database that is set aside: the first that is free."""
    path, number = database.with_name(f"{database.name}.moved"), 1
    while path.exists():
        number += 1
        path = database.with_name(f"{database.name}.moved{number}")
    return path


def set_aside_if_moved(database: Path, expected: Mapping[str, str]) -> None:
    """Rename a database whose experiments, by name, keep their files elsewhere than expected."""
    if not database.exists():
        return
    # not with MLflow, which would keep the file open
    with closing(sqlite3.connect(database)) as connection:
        try:
            found = dict(connection.execute("SELECT name, artifact_location FROM experiments"))
        except sqlite3.OperationalError:  # no such table: its making was interrupted
            return
    if all(found.get(name, location) == location for name, location in expected.items()):
        return
    moved = database.replace(aside(database))
    print(
        f"{database}: its folder was moved or copied; set aside as {moved.name} and made again;"
        " for runs of other folders: python -m harness track --records FOLDER",
        file=sys.stderr,
    )
