"""SQLite's log: copied beside the writing, begun anew when it is long, and never in anybody's way."""

import contextlib
import sqlite3
import threading
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import insert, select

from base_station import checkpoints, tables
from base_station.checkpoints import ANEW_PAGES, checkpoint
from base_station.store import Store
from tests.base_station.conftest import START

PAGE = 4096


def log_bytes(store: Store) -> int:
    return Path(f"{store.database.url.database}-wal").stat().st_size


def fill(store: Store, pages: int, *, at_s: float = 0.0) -> None:
    """Write more than so many pages, a commit for each twenty or so."""
    body = "x" * (PAGE * 20)
    for n in range(-(-pages // 20)):
        row = {"device_id": "ipe-07", "received_utc": START + timedelta(seconds=at_s + n), "body": body}
        with store.database.write() as connection:
            connection.execute(insert(tables.heartbeats), row)


def n_beats(store: Store) -> int:
    with store.database.read() as connection:
        return len(connection.execute(select(tables.heartbeats.c.seq)).all())


@pytest.fixture
def forest(store, ipe):
    del ipe  # it is there
    return store


def test_commits_leave_the_copying_to_others(forest):
    fill(forest, 2_000)
    assert log_bytes(forest) > 2_000 * PAGE


def test_a_long_log_begins_anew(forest):
    fill(forest, ANEW_PAGES + 10)
    long = log_bytes(forest)
    assert checkpoint(forest.database) > ANEW_PAGES
    fill(forest, ANEW_PAGES // 2, at_s=1e6)
    assert log_bytes(forest) == long, "what comes is written over what was copied"
    assert checkpoint(forest.database) < ANEW_PAGES


def test_who_reads_keeps_the_log_but_nobody_waits(forest):
    fill(forest, ANEW_PAGES + 10)
    with contextlib.closing(sqlite3.connect(str(forest.database.url.database), isolation_level=None)) as reader:
        reader.execute("BEGIN")
        before = reader.execute("SELECT count(*) FROM heartbeats").fetchone()
        checkpoint(forest.database)
        fill(forest, 100, at_s=1e6)
        checkpoint(forest.database)
        assert reader.execute("SELECT count(*) FROM heartbeats").fetchone() == before, "it sees one moment"
        reader.execute("COMMIT")
    long = log_bytes(forest)
    checkpoint(forest.database)
    fill(forest, 100, at_s=2e6)
    assert log_bytes(forest) == long
    assert n_beats(forest) == -(-(ANEW_PAGES + 10) // 20) + 10


def test_an_error_of_the_database_is_told_once_and_ends_nothing(forest, monkeypatch, caplog):
    problems = iter(["", "disk I/O error", "disk I/O error", "disk I/O error", "database is locked", "", "", ""])

    def checkpointed(_: object) -> int:
        problem = next(problems)
        if problem:
            raise sqlite3.OperationalError(problem)
        return 0

    monkeypatch.setattr(checkpoints, "checkpoint", checkpointed)
    goes_on = iter([False] * 8 + [True])
    with caplog.at_level("INFO"):
        checkpoints.keep_copying(forest.database, lambda: next(goes_on))
    assert [record.getMessage().removeprefix("database: its log ") for record in caplog.records] == [
        "cannot be copied: disk I/O error",
        "cannot be copied: database is locked",
        "is copied again",
    ]


def test_what_cannot_be_copied_is_an_error(forest, monkeypatch):
    def refused(*_: object, **__: object) -> sqlite3.Connection:
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(checkpoints.sqlite3, "connect", refused)
    with pytest.raises(sqlite3.Error, match="disk I/O error"):
        checkpoint(forest.database)


def test_the_thread_ends_with_the_block(forest, monkeypatch):
    copied = threading.Event()
    monkeypatch.setattr(checkpoints, "EVERY_S", 0.001)
    monkeypatch.setattr(checkpoints, "checkpoint", lambda database: copied.set() or 0)
    with checkpoints.checkpoints(forest.database):
        assert copied.wait(10)
    assert not [thread for thread in threading.enumerate() if thread.name == "checkpoints"]
