"""SQLite's log is copied into the database beside the writing, not within a commit for which devices wait.

By itself SQLite does it in every commit that finds a thousand pages in the log: with ten thousand devices once a
second, for 0.1 to 0.4 s. Copying disturbs nobody; only to begin the log anew, writers must stand still for a moment.
"""

import contextlib
import logging
import sqlite3
import threading
from collections.abc import Callable, Iterator

from base_station.database import Database

log = logging.getLogger(__name__)

EVERY_S = 1.0
ANEW_PAGES = 4_000
"""A log that is longer begins anew once all of it is copied; 16 MB."""


@contextlib.contextmanager
def checkpoints(database: Database) -> Iterator[None]:
    """Copy the log every second while the block runs; does nothing where the database is not SQLite's."""
    if not database.is_sqlite:
        yield
        return
    stop = threading.Event()

    thread = threading.Thread(
        target=keep_copying, args=(database, lambda: stop.wait(EVERY_S)), name="checkpoints", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def keep_copying(database: Database, stopped: Callable[[], bool]) -> None:
    """Copy the log whenever `stopped` has waited and says no; an error is told when it begins, and when it is over.

    Commits copy the log themselves when it gets longer still, so that an error ends nothing.
    """
    trouble = ""
    while not stopped():
        try:
            checkpoint(database)
        except sqlite3.Error as error:
            if str(error) != trouble:
                log.warning("database: its log cannot be copied: %s", error)
            trouble = str(error)
        else:
            if trouble:
                log.info("database: its log is copied again")
            trouble = ""


def checkpoint(database: Database) -> int:
    """Copy what is in the log; begin it anew if it is long, unless somebody reads or writes from another process.

    Returns:
        How many pages were in the log.

    Raises:
        sqlite3.Error: it cannot be copied.
    """
    with contextlib.closing(_connected(database)) as connection:
        _, n_pages, _ = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        if n_pages > ANEW_PAGES:
            with database.still():  # little is left to copy by now
                connection.execute("PRAGMA wal_checkpoint(RESTART)")
    return int(n_pages)


def _connected(database: Database) -> sqlite3.Connection:
    """Return a connection that waits for nobody."""
    return sqlite3.connect(str(database.url.database), timeout=0, isolation_level=None)
