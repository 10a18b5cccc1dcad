"""A local database saves work where it can, and never fails it."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest

from refart import localdb
from refart.localdb import LocalDb

SCHEMA = "CREATE TABLE IF NOT EXISTS t (x INTEGER PRIMARY KEY, y TEXT)"


@pytest.fixture
def db(tmp_path: Path) -> LocalDb:
    return LocalDb(tmp_path / "folder" / "t.sqlite", SCHEMA)


def insert(connection: sqlite3.Connection) -> str:
    connection.execute("INSERT INTO t (y) VALUES ('y')")
    return "inserted"


def count(connection: sqlite3.Connection) -> int:
    result: int = connection.execute("SELECT count(y) FROM t").fetchone()[0]
    return result


def test_nothing_is_created_before_the_first_use(db: LocalDb) -> None:
    assert not db.path.parent.exists()
    assert db.write(insert, "default") == "inserted"
    assert db.read(count, -1) == 1


def test_it_opens_again_after_closing(db: LocalDb) -> None:
    db.close()
    db.write(insert, "")
    db.close()
    db.close()
    assert db.read(count, -1) == 1


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), sqlite3.OperationalError("disk full")]
)
def test_work_that_fails_is_undone_and_gets_its_default(db: LocalDb, error: Exception) -> None:
    def fail(connection: sqlite3.Connection) -> str:
        insert(connection)
        raise error

    assert db.write(fail, "default") == "default"
    assert LocalDb(db.path, SCHEMA).read(count, -1) == 0


def test_a_mistake_in_the_work_is_not_hidden(db: LocalDb) -> None:
    def wrong(connection: sqlite3.Connection) -> str:
        insert(connection)
        raise KeyError("a mistake")

    with pytest.raises(KeyError):
        db.write(wrong, "default")
    assert db.read(count, -1) == 0


def test_after_a_failure_it_is_left_alone_for_a_minute(db: LocalDb, monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 1_000.0
    monkeypatch.setattr(localdb.time, "monotonic", lambda: now_s)
    db.path.parent.write_bytes(b"a file where the folder should be")
    assert db.write(insert, "default") == "default"
    db.path.parent.unlink()
    now_s += 59
    assert db.write(insert, "default") == "default"
    now_s += 2
    assert db.write(insert, "default") == "inserted"


def test_damage_met_while_reading_empties_it(db: LocalDb) -> None:
    """The first page is whole, so that it opens; what is missing shows later."""
    db.write(lambda c: c.executemany("INSERT INTO t (y) VALUES (?)", [("y" * 500,)] * 1_000), None)
    db.close()
    size = db.path.stat().st_size
    with db.path.open("r+b") as file:
        file.seek(8_192)
        file.write(os.urandom(size - 8_192))
    assert db.read(count, -1) == 0
    assert db.write(insert, "default") == "inserted"


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")  # it is what is tested
def test_a_forked_child_opens_its_own(db: LocalDb) -> None:
    db.write(insert, "")
    child = os.fork()
    if child == 0:
        os._exit(0 if db.read(count, -1) == 1 and db.write(insert, "") == "inserted" else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert db.read(count, -1) == 2
