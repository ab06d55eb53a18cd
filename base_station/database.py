"""The database under everything: SQLite in a file, or PostgreSQL by URL; the only meeting place of processes.

A commit is on disk when it returns. A database of an earlier station is brought up to date when it is opened, in
one transaction; one of a later station is refused.
"""

import logging
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import URL, Connection, Engine, create_engine, event, insert, inspect, select, text, update
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from agent.errors import ConfigError, StorageError
from base_station import tables
from base_station.migrations import HEAD

STORE_SCHEMA = 2
"""Number in `meta` since Alembic keeps the tables; the station before it knew 1 and refuses any other."""

_BUSY_MS = 5_000
_LONGEST_LOG = 16_000
"""Pages in SQLite's log after which a commit copies it itself; the running station does so earlier (`checkpoints`)."""
_POOL = 16
_MIGRATION_LOCK = 0x43_75_72_75
"""Names the lock under which PostgreSQL lets one process at a time change the tables."""


class Database:
    """Transactions on one database, for any number of threads and processes."""

    def __init__(self, url: URL) -> None:
        """Open the database; make its tables, or bring them up to date.

        Raises:
            ConfigError: it cannot be opened, or a newer station made it.
        """
        self.url = url
        self.engine = _engine(url)
        self.is_sqlite = self.engine.dialect.name == "sqlite"
        self._writer = self.engine.execution_options(writing=True)
        # SQLite lets one write at a time: a queue here is fairer than its own waiting by sleeps
        self._turn: threading.Lock | nullcontext[None] = threading.Lock() if self.is_sqlite else nullcontext()
        self._thread = threading.local()
        try:
            self._bring_up_to_date()
        except (SQLAlchemyError, StorageError) as error:
            self.close()
            raise ConfigError(f"{url}: cannot open the database: {cause(error)}") from error
        except ConfigError:
            self.close()
            raise

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Yield a transaction that is on disk when the block ends; StorageError if it cannot be."""
        try:
            joined = self._joined()
            if joined is not None:
                yield joined
                return
            with self._turn, self._writer.begin() as connection:
                yield connection
        except SQLAlchemyError as error:
            raise StorageError(f"database: {cause(error)}") from error

    @contextmanager
    def together(self) -> Iterator[None]:
        """Make one transaction of all that this thread writes and reads in the block; on disk when the block ends.

        An error that leaves the block undoes all of it.
        """
        with self.write() as connection:
            self._thread.connection = connection
            try:
                yield
            finally:
                self._thread.connection = None

    @contextmanager
    def still(self) -> Iterator[None]:
        """Keep the writers of this process waiting until the block ends, on SQLite."""
        with self._turn:
            yield

    def _joined(self) -> Connection | None:
        """Return the transaction that this thread is in, if it is in one."""
        joined: Connection | None = getattr(self._thread, "connection", None)
        return joined

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Yield a transaction for reading; StorageError if the database refuses."""
        try:
            joined = self._joined()
            if joined is not None:
                yield joined
                return
            with self.engine.connect() as connection:
                yield connection
        except SQLAlchemyError as error:
            raise StorageError(f"database: {cause(error)}") from error

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """Yield a transaction that sees one moment of the database, however long it takes and whoever writes."""
        engine = self.engine if self.is_sqlite else self.engine.execution_options(isolation_level="REPEATABLE READ")
        try:
            with engine.connect() as connection:
                yield connection
        except SQLAlchemyError as error:
            raise StorageError(f"database: {cause(error)}") from error

    def take_lease(self, name: str, holder: str, now_utc: datetime, lasts: timedelta) -> bool:
        """Take or renew the right to do something alone; return whether it is the holder's until `now_utc + lasts`.

        Args:
            name: what is done.
            holder: names this process; another's lease is respected until it expires.
            now_utc: station time.
            lasts: for how long, unless it is renewed.
        """
        lease = tables.leases
        free = (lease.c.holder == holder) | (lease.c.expires_utc <= now_utc) | (lease.c.expires_utc > now_utc + lasts)
        try:
            with self.write() as connection:
                taken = connection.execute(
                    update(lease).where(lease.c.name == name, free).values(holder=holder, expires_utc=now_utc + lasts)
                )
                if taken.rowcount == 1:
                    return True
                with connection.begin_nested():
                    values = {"name": name, "holder": holder, "expires_utc": now_utc + lasts}
                    connection.execute(insert(lease).values(**values))
                return True
        except StorageError as error:
            if isinstance(error.__cause__, IntegrityError):  # somebody has it
                return False
            raise

    def is_leased(self, name: str, now_utc: datetime) -> bool:
        """Say whether anybody has the right to do something at present, and so does it."""
        lease = tables.leases.c
        with self.read() as connection:
            found = connection.execute(select(lease.expires_utc).where(lease.name == name)).scalar_one_or_none()
        return found is not None and found > now_utc

    def drop_lease(self, name: str, holder: str) -> None:
        """Let another process have it at once."""
        with self.write() as connection:
            connection.execute(
                tables.leases.delete().where(tables.leases.c.name == name, tables.leases.c.holder == holder)
            )

    def _bring_up_to_date(self) -> None:
        with self.read() as connection:
            if self._revision(connection) == HEAD:
                return
        with self.write() as connection:
            if not self.is_sqlite:
                connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _MIGRATION_LOCK})
            revision = self._revision(connection)  # another process may have been quicker
            if revision != HEAD:
                _migrate(connection)

    def _revision(self, connection: Connection) -> str | None:
        """Return which migration the tables have, None before the first; refuse what a later station made."""
        found = inspect(connection)
        if not found.has_table("meta"):
            return None
        schema = connection.execute(select(tables.meta.c.value).where(tables.meta.c.name == "schema")).scalar()
        if schema not in (None, *map(str, range(1, STORE_SCHEMA + 1))):
            raise self._too_new(f"schema {schema}", str(STORE_SCHEMA))
        if not found.has_table("alembic_version"):
            return None
        revision = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
        if revision is not None and revision > HEAD:
            raise self._too_new(f"tables of revision {revision}", HEAD)
        return None if revision is None else str(revision)

    def _too_new(self, what: str, known: str) -> ConfigError:
        return ConfigError(
            f"{self.url}: has {what}, this version of the station knows {known}; use the version that made it"
        )


def cause(error: Exception) -> str:
    """Return an error of the database in one line, without the statement and its values."""
    original = getattr(error, "orig", None) or error
    return " ".join(str(original).split())[:200]


def _engine(url: URL) -> Engine:
    if url.get_backend_name() != "sqlite":
        # a connection that died with the server is replaced, not handed to a request
        return create_engine(url, pool_size=_POOL, max_overflow=_POOL, pool_pre_ping=True)
    engine = create_engine(url)

    @event.listens_for(engine, "connect")
    def _connected(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None  # else the driver begins late, and two writers can deadlock
        for pragma in (
            "journal_mode = WAL",
            "synchronous = FULL",
            "foreign_keys = ON",
            f"busy_timeout = {_BUSY_MS}",
            f"wal_autocheckpoint = {_LONGEST_LOG}",
        ):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begun(connection: Connection) -> None:
        writing = connection.get_execution_options().get("writing", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")

    return engine


def _migrate(connection: Connection) -> None:
    """Run what is missing, in the transaction of the connection."""
    logging.getLogger("alembic").setLevel(logging.WARNING)  # before it is loaded: it tells of its plug-ins then
    from alembic import command  # takes a third of a second, and is seldom needed
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
