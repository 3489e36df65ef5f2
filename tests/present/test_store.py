"""The store of an import: its lock, its address, and how a moved one is set aside."""

import sqlite3
from pathlib import Path

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
