"""Copies of the whole database: taken while the station works, checked, and put back, also into another kind.

A backup is one SQLite file with the same tables, whatever the database is, so that it opens anywhere and moves a
station from a file to PostgreSQL or back. The key that seals the devices' keys is not in it, on purpose.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import URL, Connection, Table, func, insert, select, text

from agent.alert import Alert
from agent.counter import sync_folder
from agent.errors import AgentError, ConfigError, StorageError
from base_station import tables
from base_station.database import Database
from base_station.keys import KeyRing
from base_station.store import LOG_MEL, Store

_ROWS_AT_A_TIME = 500
_PREFIX = "station-"
_PRESENT = ("meta",)
"""Tables that a new database has rows in already."""
_MOMENTARY = ("leases", "nonces", "sessions", "attempts", "tallies")
"""What is worth nothing in another place or time, or is counted anew."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Copied:
    """What a backup holds."""

    path: Path
    n_alerts: int
    n_bytes: int


def back_up(database: Database, target: Path) -> Copied:
    """Copy one moment of the database into a file; the station may work on.

    Raises:
        ConfigError: the file exists, or cannot be written.
        StorageError: the database refused, or the copy is not whole.
    """
    if target.exists():
        raise ConfigError(f"{target}: exists already; name another file")
    draft = target.with_name(f".{target.name}.part")
    try:
        _remove(draft)
        draft.touch(mode=0o600)
        if database.is_sqlite:
            _copy_file(Path(str(database.url.database)), draft)
        else:
            with closing(Database(_file(draft))) as copy, database.snapshot() as source, copy.write() as connection:
                _copy_rows(source, connection)
        _fold(draft)
        n_alerts = _check_copy(draft)
        _sync(draft)
        draft.rename(target)
        sync_folder(target.parent)
    except (OSError, sqlite3.Error) as error:
        raise ConfigError(f"{target}: cannot be written: {error}") from error
    finally:
        _remove(draft)
    return Copied(path=target, n_alerts=n_alerts, n_bytes=target.stat().st_size)


def dated_name(now_utc: datetime) -> str:
    """Return the name of a backup among others in a folder; names sort by time."""
    return f"{_PREFIX}{now_utc:%Y%m%dT%H%M%SZ}.db"


def keep_newest(folder: Path, keep: int) -> list[Path]:
    """Remove all but the newest backups of a folder, and nothing else in it; return what went."""
    copies = sorted(folder.glob(f"{_PREFIX}*Z.db"))
    gone = copies[: max(0, len(copies) - keep)]
    for path in gone:
        path.unlink()
    return gone


def restore(source: Path, target: URL) -> Copied:
    """Fill an empty database from a backup, of this station's version or an earlier one.

    Raises:
        ConfigError: no backup, damaged, made by a newer station, or the database is not empty.
    """
    if not source.is_file():
        raise ConfigError(f"{source}: there is no such file; expected one that `backup` wrote")
    try:
        n_alerts = _check_copy(source)
        with (
            _scratch(source) as scratch,
            closing(Database(_file(scratch))) as old,
            closing(Database(target)) as new,
            old.snapshot() as rows,
            new.write() as connection,
        ):
            if connection.execute(select(func.count()).select_from(tables.devices)).scalar_one():
                raise ConfigError(f"{target}: is not empty; restore into a new folder or a new database")
            _copy_rows(rows, connection)
            if not new.is_sqlite:
                _continue_sequences(connection)
    except (OSError, sqlite3.Error, StorageError) as error:
        raise ConfigError(f"{source}: cannot be restored: {error}") from error
    return Copied(path=source, n_alerts=n_alerts, n_bytes=source.stat().st_size)


def faults(store: Store, keys: KeyRing, *, deep: bool) -> Iterator[str]:
    """Yield what is wrong with the database, a sentence each; nothing if it is sound.

    Args:
        store: the station's.
        keys: must open every device's key.
        deep: also read every alert and its picture as the API would.
    """
    try:
        yield from _shallow(store, keys)
        if deep:
            yield from _unreadable(store)
    except StorageError as error:
        yield f"it cannot be read to its end: {error}"


def _shallow(store: Store, keys: KeyRing) -> Iterator[str]:
    database = store.database
    if database.is_sqlite:
        with database.read() as connection:
            said = connection.exec_driver_sql("PRAGMA integrity_check(20)").scalars().all()
            yield from (f"the file is damaged: {line}" for line in said if line != "ok")
            for row in connection.exec_driver_sql("PRAGMA foreign_key_check").all()[:20]:
                yield f"row {row[1]} of {row[0]} belongs to nothing in {row[2]}"
    with database.read() as connection:
        yield from _orphans(connection)
    for device in store.devices():
        try:
            keys.open(device.sealed_key)
        except ConfigError as error:
            yield f"the key of {device.device_id} cannot be opened: {error}"


def _orphans(connection: Connection) -> Iterator[str]:
    alerts, revisions, blobs = tables.alerts.c, tables.revisions.c, tables.blobs.c
    bare = select(alerts.alert_id).where(~select(revisions.seq).where(revisions.alert_id == alerts.alert_id).exists())
    for alert_id in connection.execute(bare.limit(20)).scalars():
        yield f"alert {alert_id} has no revision"
    same = (blobs.alert_id == revisions.alert_id) & (blobs.revision == revisions.revision) & (blobs.kind == LOG_MEL)
    without = select(revisions.alert_id, revisions.revision).where(
        revisions.has_log_mel, ~select(blobs.kind).where(same).exists()
    )
    for row in connection.execute(without.limit(20)):
        yield f"alert {row.alert_id} revision {row.revision} has lost its picture"


def _unreadable(store: Store) -> Iterator[str]:
    before: int | None = None
    while events := store.events(before=before, limit=_ROWS_AT_A_TIME):
        for event in events:
            try:
                for _, body in store.documents(event.alert_id):
                    Alert.from_json(body)
            except (AgentError, ValueError, TypeError, KeyError) as error:
                yield f"alert {event.alert_id} cannot be read: {error}"
        before = events[-1].seq


def _copy_file(source: Path, target: Path) -> None:
    with closing(sqlite3.connect(source)) as old, closing(sqlite3.connect(target)) as new:
        old.backup(new)  # in one step: a writer meanwhile waits for nothing, and is not in the copy


def _copy_rows(source: Connection, target: Connection) -> None:
    """Copy every table, parents before children."""
    for table in tables.metadata.sorted_tables:
        if table.name in _PRESENT + _MOMENTARY:
            continue
        rows = source.execution_options(stream_results=True).execute(select(table)).mappings()
        for some in rows.partitions(_ROWS_AT_A_TIME):
            target.execute(insert(table), [dict(row) for row in some])
    how_far = select(tables.meta).where(tables.meta.c.name != "schema")  # how far the alerts are counted, say
    for row in source.execute(how_far).mappings():
        target.execute(insert(tables.meta), [dict(row)])


def _continue_sequences(connection: Connection) -> None:
    """Let PostgreSQL count on after the rows that came with their numbers."""
    for table in _counted():
        connection.execute(
            text(
                f"SELECT setval(pg_get_serial_sequence('{table.name}', 'seq'), "  # noqa: S608  # names of our own tables
                f"(SELECT coalesce(max(seq), 0) + 1 FROM {table.name}), false)"
            )
        )


def _counted() -> Iterator[Table]:
    return (table for table in tables.metadata.sorted_tables if "seq" in table.c)


def _check_copy(path: Path) -> int:
    """Return how many alerts a backup holds; StorageError if it is not whole."""
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as raw:
            (said,) = raw.execute("PRAGMA integrity_check(1)").fetchone()
            if said != "ok":
                raise StorageError(f"{path}: is damaged: {said}")
            return int(raw.execute("SELECT count(*) FROM alerts").fetchone()[0])
    except sqlite3.DatabaseError as error:
        raise StorageError(f"{path}: is no backup of a station: {error}") from error


@contextmanager
def _scratch(source: Path) -> Iterator[Path]:
    """Yield a copy that may be brought up to date; the backup itself stays as it is."""
    scratch = source.with_name(f".{source.name}.restoring-{os.getpid()}")
    try:
        scratch.touch(mode=0o600)
        _copy_file(source, scratch)
        yield scratch
    finally:
        _remove(scratch)


def _fold(path: Path) -> None:
    """Make it one file: without the log that SQLite keeps beside it."""
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("PRAGMA journal_mode = DELETE")
        for name in _MOMENTARY:
            raw.execute(f"DELETE FROM {name}")  # noqa: S608  # names of our own tables
        raw.commit()


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _remove(path: Path) -> None:
    for suffix in ("", "-wal", "-shm", "-journal"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _file(path: Path) -> URL:
    return URL.create("sqlite", database=str(path))
