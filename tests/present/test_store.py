"""The store of an import: its lock, its address, and how a moved one is set aside."""

import sqlite3
from pathlib import Path

import pytest
from filelock import FileLock, Timeout

from harness.errors import UserError
from harness.present import store


def test_one_process_at_a_time(tmp_path: Path) -> None:
    with store.locked(f"sqlite:///{tmp_path}/new/m.db"), pytest.raises(Timeout):
        FileLock(tmp_path / "new/m.db.lock").acquire(timeout=0)


@pytest.mark.parametrize("uri", ["file:///tmp/x", "x.db", "sqlite:///"])
def test_other_addresses_are_refused(uri: str) -> None:
    with pytest.raises(UserError, match="expected sqlite:///FILE or the address of a server"):
        store.check_address(uri)


def test_a_database_server_that_cannot_be_used_gets_one_line() -> None:
    with pytest.raises(UserError) as caught:
        store.check_address("postgresql://me:secret@127.0.0.1:9/none")
    text = str(caught.value)
    assert text.startswith("postgresql://me:***@127.0.0.1:9/none: ")
    assert "\n" not in text and "secret" not in text


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
