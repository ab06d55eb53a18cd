"""The station's nightly copy: one consistent state, proven, the oldest gone, and no password where others read."""

import os
import sqlite3
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from deploy.__main__ import main
from deploy.backup import URL_VARIABLE, back_up, prune
from deploy.errors import DeployError

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    with sqlite3.connect(folder / "station.db") as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("CREATE TABLE pairs (one INTEGER, other INTEGER)")
    database.close()
    return folder


def rows(path: Path) -> list[tuple[int, int]]:
    database = sqlite3.connect(path)
    found = database.execute("SELECT one, other FROM pairs").fetchall()
    database.close()
    return found


def test_a_copy_taken_while_the_station_writes_is_one_state(data: Path, tmp_path: Path) -> None:
    stop = threading.Event()

    def write() -> None:
        database = sqlite3.connect(data / "station.db", timeout=30.0)
        for number in range(100_000):
            if stop.is_set():
                break
            with database:
                database.execute("INSERT INTO pairs VALUES (?, NULL)", (number,))
                database.execute("UPDATE pairs SET other = one WHERE one = ?", (number,))
        database.close()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        while len(rows(data / "station.db")) < 20:
            pass
        made = back_up(data, tmp_path / "to", NOON, {})
    finally:
        stop.set()
        writer.join()
    copied = rows(made)
    assert len(copied) >= 20
    assert all(one == other for one, other in copied)
    assert (made.name, made.stat().st_mode & 0o777) == ("station-20261124T120000Z.db", 0o600)
    assert list((tmp_path / "to").iterdir()) == [made]


def test_the_oldest_copies_go(data: Path, tmp_path: Path) -> None:
    made = [back_up(data, tmp_path, NOON + timedelta(days=day), {}) for day in range(4)]
    (tmp_path / "note.txt").touch()
    assert prune(tmp_path, 2) == made[:2]
    assert all(path.exists() for path in [*made[2:], tmp_path / "note.txt"])


def test_without_a_database_there_is_no_copy_and_the_old_ones_stay(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = tmp_path / "to" / "station-20200101T000000Z.db"
    old.parent.mkdir()
    old.touch()
    words = ["backup", "--data", str(tmp_path), "--to", str(old.parent), "--keep", "1"]
    assert main(words) == 2
    assert "there is no database to copy" in capsys.readouterr().err
    assert list(old.parent.iterdir()) == [old]
    assert main([*words[:-1], "0"]) == 2


def test_a_damaged_database_is_named(data: Path, tmp_path: Path) -> None:
    path = data / "station.db"
    with sqlite3.connect(path) as database:
        database.executemany("INSERT INTO pairs VALUES (?, ?)", [(number, number) for number in range(5_000)])
    database.close()
    content = bytearray(path.read_bytes())
    content[8_192:12_288] = os.urandom(4_096)
    path.write_bytes(content)
    with pytest.raises(DeployError):
        back_up(data, tmp_path / "to", NOON, {})
    assert not list((tmp_path / "to").iterdir())


@pytest.fixture
def pg_dump(tmp_path: Path) -> dict[str, str]:
    """Return an environment with a pg_dump that writes down what it was given."""
    path = tmp_path / "bin" / "pg_dump"
    path.parent.mkdir()
    path.write_text('#!/bin/sh\necho "$PGHOST $PGPORT $PGUSER $PGPASSWORD $PGDATABASE | $*" >"${2#--file=}"\n')
    path.chmod(0o755)
    return {"PATH": f"{path.parent}:{os.environ['PATH']}"}


@pytest.mark.parametrize("scheme", ["postgresql+psycopg", "postgresql", "postgres"])
def test_postgresql_is_dumped_and_its_password_is_on_no_command_line(
    scheme: str, pg_dump: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", pg_dump["PATH"])
    url = f"{scheme}://ranger:p%40ss@db.local:5433/forest"
    made = back_up(tmp_path, tmp_path / "to", NOON, {**pg_dump, URL_VARIABLE: url})
    settings, _, words = made.read_text().partition("|")
    assert settings == "db.local 5433 ranger p@ss forest "
    assert "p@ss" not in words
    assert made.suffix == ".pgdump"


def test_another_kind_of_url_is_refused_without_showing_it(tmp_path: Path) -> None:
    with pytest.raises(DeployError, match="expected postgresql://") as caught:
        back_up(tmp_path, tmp_path / "to", NOON, {URL_VARIABLE: "mysql://ranger:secret@db/forest"})
    assert "secret" not in str(caught.value)
