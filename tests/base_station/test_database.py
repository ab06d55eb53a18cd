"""The database under the store: taken over from earlier stations, brought up to date, refused where it must be."""

import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL

import base_station
from agent.errors import ConfigError
from base_station.database import Database
from base_station.migrations import HEAD
from base_station.store import Store
from base_station.tables import metadata

both = pytest.mark.parametrize("database_url", ["sqlite", "postgresql"], indirect=True)

SHIPPED = Path(__file__).with_name("shipped_station.sql")
"""A database as the first station left it, with a device that was revoked and an alert with two revisions."""


def shipped(path: Path) -> URL:
    raw = sqlite3.connect(path)
    raw.executescript(SHIPPED.read_text(encoding="utf-8"))
    raw.close()
    return URL.create("sqlite", database=str(path))


def rows(path: Path) -> dict[str, list[tuple]]:
    raw = sqlite3.connect(path)
    names = [name for (name,) in raw.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    kept = {name: raw.execute(f"SELECT * FROM {name}").fetchall() for name in names}
    raw.close()
    return kept


def test_a_database_of_the_first_station_is_taken_over_with_every_row(sqlite_url, tmp_path):
    path = tmp_path / "station.db"
    url = shipped(path)
    before = rows(path)
    store = Store(url)
    assert [event.alert_id[-1] for event in store.events()] == ["2", "1"]
    saw = store.event("00000000-0000-4000-8000-000000000001")
    assert saw is not None
    assert (saw.state, saw.score, saw.revision) == ("closed", 0.99, 1)
    picture = store.log_mel(saw.alert_id, 0)
    assert picture is not None
    assert picture.pixels().shape == (12, 8)
    assert [(device.device_id, device.revoked_utc is None) for device in store.devices()] == [
        ("cedro-01", False),
        ("ipe-07", True),
    ]
    store.close()
    after = rows(path)
    for name, kept in before.items():
        if name != "meta":
            # new columns come behind the old ones
            assert [row[: len(old)] for row, old in zip(after[name], kept, strict=True)] == kept, name
    assert after["meta"] == [("schema", "2")]


def test_a_migration_that_fails_leaves_the_database_as_it_was(tmp_path, monkeypatch):
    url = shipped(tmp_path / "station.db")
    before = rows(tmp_path / "station.db")
    raw = sqlite3.connect(tmp_path / "station.db")
    raw.execute("CREATE TABLE leases (nobody TEXT)")  # in the way of the second migration
    raw.close()
    with pytest.raises(ConfigError, match="leases"):
        Store(url)
    after = rows(tmp_path / "station.db")
    del after["leases"]
    assert after == before


@both
def test_the_migrations_make_exactly_the_tables_of_the_code(store):
    with store.database.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_the_newest_migration_is_named():
    config = Config()
    config.set_main_option("script_location", str(Path(base_station.__file__).with_name("migrations")))
    assert ScriptDirectory.from_config(config).get_current_head() == HEAD


def test_many_processes_may_open_a_new_database_at_once(sqlite_url):
    with ThreadPoolExecutor(6) as pool:
        for database in pool.map(lambda _: Database(sqlite_url), range(6)):
            database.close()


def test_a_password_in_the_url_is_not_in_the_error():
    url = URL.create("postgresql+psycopg", "ranger", "secret", "127.0.0.1", 1, "station")
    with pytest.raises(ConfigError) as caught:
        Database(url)
    assert "ranger" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_commit_is_on_disk_and_not_only_on_its_way(station):
    with station.store.database.engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2  # FULL
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1


def test_keys_are_not_in_the_database_as_they_are(station, ipe, tmp_path: Path):
    station.store.close()
    everything = b"".join(path.read_bytes() for path in tmp_path.glob("station.db*"))
    assert ipe.key not in everything
    assert ipe.key.hex().encode() not in everything


def damaged(path: Path) -> None:
    path.write_bytes(b"this is no database" * 400)


def newer(path: Path) -> None:
    Store(URL.create("sqlite", database=str(path))).close()
    raw = sqlite3.connect(path)
    raw.execute("UPDATE meta SET value = '99'")
    raw.commit()
    raw.close()


def later(path: Path) -> None:
    Store(URL.create("sqlite", database=str(path))).close()
    raw = sqlite3.connect(path)
    raw.execute("UPDATE alembic_version SET version_num = '9999'")
    raw.commit()
    raw.close()


@pytest.mark.parametrize(
    ("spoil", "says"),
    [(damaged, "not a database"), (newer, "schema 99"), (later, "revision 9999"), (Path.mkdir, "unable")],
)
def test_a_database_that_cannot_be_used_is_named(tmp_path: Path, spoil: Callable[[Path], None], says: str):
    path = tmp_path / "station.db"
    spoil(path)
    with pytest.raises(ConfigError, match=says) as caught:
        Store(URL.create("sqlite", database=str(path)))
    assert "station.db" in str(caught.value)
    assert "\n" not in str(caught.value)
