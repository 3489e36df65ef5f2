"""The store of an import: its lock, its address, and how a moved one is set aside."""

import os
import socket
import sqlite3
import subprocess
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from filelock import FileLock, Timeout
from sqlalchemy.exc import SQLAlchemyError

from harness.errors import UserError
from harness.present import store


def test_one_process_at_a_time(tmp_path: Path) -> None:
    with store.locked(f"sqlite:///{tmp_path}/new/m.db"), pytest.raises(Timeout):
        FileLock(tmp_path / "new/m.db.lock").acquire(timeout=0)


@pytest.mark.parametrize(
    "uri", ["file:///tmp/x", "x.db", "", "sqlite:///", "sqlite://", "sqlite+x:///m.db"]
)
def test_other_addresses_are_refused(uri: str) -> None:
    with pytest.raises(UserError, match="expected sqlite:///FILE or the address of a server"):
        store.check_address(uri)


@pytest.mark.parametrize(
    "uri",
    [
        "postgresql://me:secret@127.0.0.1:9/none",
        "postgresql://me:my@secret@127.0.0.1:9/none",
        "postgresql://me:secret@127.0.0.1:port/none",
        "postgresql+none://me:secret@127.0.0.1:9/none",
        "mysql://me:secret@127.0.0.1:9/none",
        "mssql://me:secret@127.0.0.1:9/none",
    ],
)
def test_a_database_server_that_cannot_be_used_gets_one_line(uri: str) -> None:
    with pytest.raises(UserError) as caught:
        store.check_address(uri)
    text = str(caught.value)
    assert text.startswith(f"{uri.partition(':')[0]}://me:***@127.0.0.1:")
    assert "\n" not in text and "secret" not in text


@pytest.mark.parametrize(
    ("kind", "option"), [("postgresql", "connect_timeout"), ("mssql", "timeout")]
)
def test_a_database_server_may_be_silent_for_ten_seconds(
    kind: str, option: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(uri: str, connect_args: dict[str, int]) -> None:
        raise SQLAlchemyError(f"waited {connect_args}")

    monkeypatch.setattr("sqlalchemy.create_engine", silent)
    with pytest.raises(UserError) as caught:
        store.check_address(f"{kind}://me:secret@127.0.0.1:9/none")
    assert str(caught.value).endswith(f"no connection: waited {{'{option}': 10}}")


def test_a_database_with_damaged_pages_gets_one_line(tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE t (x)")
        connection.executemany("INSERT INTO t VALUES (?)", [("a" * 500,)] * 50)
    connection.close()
    content = path.read_bytes()
    path.write_bytes(content[:5000] + b"\xff" * 5000 + content[10_000:])
    with pytest.raises(UserError, match=r"m\.db: damaged; move it away and import the records"):
        store.check_address(f"sqlite:///{path}")


def test_garbage_and_locked_databases_get_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "PATIENCE", 0)
    path = tmp_path / "m.db"
    path.write_bytes(b"garbage " * 100)
    with pytest.raises(UserError, match="no database that can be written: file is not a database"):
        store.check_address(f"sqlite:///{path}")
    path.unlink()
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE t (x)")
    connection.execute("BEGIN EXCLUSIVE")
    with pytest.raises(UserError, match="database is locked"):
        store.check_address(f"sqlite:///{path}")
    connection.close()
    store.check_address(f"sqlite:///{path}")


def test_databases_that_are_set_aside_get_numbers(tmp_path: Path) -> None:
    database = tmp_path / "m.db"
    for _ in range(3):
        with sqlite3.connect(database) as connection:
            connection.execute("CREATE TABLE experiments (name, artifact_location)")
            connection.execute("INSERT INTO experiments VALUES ('a', 'elsewhere')")
        connection.close()
        store.set_aside_if_moved(database, {"a": "here"})
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "m.db.moved",
        "m.db.moved2",
        "m.db.moved3",
    ]


class Server:
    """An MLflow server, as far as the tags of one experiment go."""

    def __init__(self) -> None:
        self.tags: dict[str, str] = {}

    def get_experiment(self, experiment: str) -> SimpleNamespace:
        return SimpleNamespace(tags=dict(self.tags))

    def set_experiment_tag(self, experiment: str, key: str, value: str) -> None:
        self.tags[key] = value

    def delete_experiment_tag(self, experiment: str, key: str) -> None:
        del self.tags[key]


def reserved(server: Server) -> AbstractContextManager[None]:
    return store.reserved(cast(Any, server), "http://127.0.0.1:5000", "1")


def test_an_import_waits_for_one_of_another_machine(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    server, now = Server(), datetime.now(UTC).isoformat()
    server.tags[store.WRITER] = f"elsewhere 12 {now}"
    slept = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:  # the other import ends
            server.tags.clear()

    monkeypatch.setattr(store.time, "sleep", sleep)
    with reserved(server):
        assert server.tags[store.WRITER].split()[:2] == [socket.gethostname(), str(os.getpid())]
    assert not server.tags
    assert capsys.readouterr().err.count("waiting for another import: elsewhere 12") == 1


def test_of_two_imports_at_once_the_later_tag_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server()
    other = f"elsewhere 12 {datetime.now(UTC).isoformat()}"
    found = iter([other, other, None])  # after each pause

    def sleep(_: float) -> None:
        if (tag := next(found, server.tags.get(store.WRITER))) is None:
            server.tags.clear()
        else:
            server.tags[store.WRITER] = tag

    monkeypatch.setattr(store.time, "sleep", sleep)
    with reserved(server):
        assert server.tags[store.WRITER] != other


@pytest.mark.parametrize("machine", ["this", "another"])
def test_an_import_that_was_killed_is_not_waited_for(
    machine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server()
    gone = subprocess.Popen(["true"])
    gone.wait()
    since = datetime.now(UTC) - (timedelta() if machine == "this" else store.FORGOTTEN)
    name = socket.gethostname() if machine == "this" else "elsewhere"
    server.tags[store.WRITER] = f"{name} {gone.pid} {since.isoformat()}"
    monkeypatch.setattr(store, "SETTLED", 0)
    with reserved(server):
        pass
    assert not server.tags


def test_the_tag_goes_when_an_import_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server()
    monkeypatch.setattr(store, "SETTLED", 0)
    with pytest.raises(UserError), reserved(server):
        raise UserError("no")
    assert not server.tags


def test_an_experiment_that_another_import_makes_meanwhile_is_taken() -> None:
    from mlflow.exceptions import MlflowException

    found = iter([None, SimpleNamespace(experiment_id="7", lifecycle_stage="active")])

    def create(name: str, location: str | None) -> str:
        raise MlflowException("already exists")

    client = SimpleNamespace(
        get_experiment_by_name=lambda name: next(found), create_experiment=create
    )
    assert store.experiment(cast(Any, client), "http://127.0.0.1:5000", "Table 1", None) == "7"
