"""The queue on disk: an alert is in it before the first attempt to send, and leaves only with the station's receipt.

Its promises, as SQL: (alert_id, revision) is unique, so the same alert twice is one; `synchronous = FULL`, because
the power may go now; a row is deleted by a receipt, or dropped, counted, when the bytes run out. Every row carries
a checksum: flash wears out, and an alert that has rotted must not be sent for what it is not. What rots in the
database is mended from a copy beside it (`agent.mirror`), and the copy from the database.
"""

import contextlib
import hashlib
import logging
import sqlite3
import threading
import zlib
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from agent.alert import Alert
from agent.errors import FieldError, StorageError
from agent.mirror import Mirror

log = logging.getLogger(__name__)

OUTBOX_SCHEMA = 1
LARGEST_SPARE_BYTES = 4_000_000
"""Alerts that wait in memory while the disk refuses them."""

_ROW_BYTES = 512  # what a row costs beside its body: keys, index, the unused end of its last page
_ROW_COST = f"length(body) + {_ROW_BYTES}"
_BUSY_S = 5.0
_COPY_SLACK_BYTES = 1_000_000  # what has left stays in the copy until twice what waits, and this, is in it
_LARGEST_SEQ = 2**53
_BROKEN_KEPT = 3  # a disk that keeps breaking files must not fill itself with them
_MOST_PROBES = 100_000
_BROKEN_CODES = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_PASSING_CODES = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_DAMAGED = "damaged on disk"
_COMPANIONS = ("-wal", "-shm", "")

_TABLE = """
CREATE TABLE IF NOT EXISTS messages (
    seq       INTEGER PRIMARY KEY,          -- order of creation
    alert_id  TEXT    NOT NULL,
    revision  INTEGER NOT NULL,
    crc       INTEGER NOT NULL,             -- over alert_id, revision and body
    attempts  INTEGER NOT NULL DEFAULT 0,   -- the step of this alert's back-off; deadlines are never written down
    parked    TEXT,                         -- why the station will never take it; NULL = waits
    body      BLOB    NOT NULL,
    UNIQUE (alert_id, revision)
)
"""
_COLUMNS = ["seq", "alert_id", "revision", "crc", "attempts", "parked", "body"]

Key = tuple[str, int]
Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True, slots=True)
class Message:
    """One alert revision that waits to be sent."""

    seq: int
    """Rises with every alert put into this outbox."""
    alert_id: str
    revision: int
    """0 opens an alert, 1 closes it."""
    body: bytes
    """The wire form, as it was when it was put."""
    attempts: int = 0
    """Failed attempts so far that may have been this alert's own fault."""

    @property
    def key(self) -> Key:
        """Return what names it, here and at the station."""
        return (self.alert_id, self.revision)


@dataclass(frozen=True, slots=True)
class Waiting:
    """What names one alert revision that waits, and what it holds, without holding it."""

    alert_id: str
    revision: int
    sha256: str
    """Of its body, hexadecimal."""

    @property
    def key(self) -> Key:
        """Return what names it, here and at the station."""
        return (self.alert_id, self.revision)


@dataclass(frozen=True, kw_only=True, slots=True)
class Counts:
    """How full the outbox is."""

    waiting: int
    """Alert revisions that still go to the station, those in memory included."""
    parked: int
    """Alert revisions that the station refused."""
    bytes: int
    """What all of them cost."""
    in_memory: int
    """Those among `waiting` that the disk refused: gone if the power goes."""
    dropped: int
    """Alert revisions lost since this outbox was opened, because the bytes ran out."""


EMPTY = Counts(waiting=0, parked=0, bytes=0, in_memory=0, dropped=0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Dropped:
    """An alert revision that had to go, for the journal."""

    alert_id: str
    revision: int
    reason: str


class Outbox:
    """Alerts that wait for the station; one thread may put while another sends."""

    def __init__(self, path: Path, max_bytes: int = 50_000_000) -> None:
        """Open the outbox; a file that is broken is set aside, a disk that refuses is gone around.

        Never raises for what is on the disk: `set_aside` and `disk_error` say what was found.

        Args:
            path: the database file; its folder is made.
            max_bytes: when full, refused alerts go first, then closings, the oldest opening last of all.
        """
        self._path = path
        self._max_bytes = max_bytes
        self._mirror = Mirror(path.with_name(path.name + ".copy"))
        self._lock = threading.RLock()
        self._db: sqlite3.Connection | None = None
        self.wake = threading.Event()
        """Set at every put; the sending thread waits on it and clears it."""
        self.set_aside: Path | None = None
        """Where the broken database went, if one was found since the start."""
        self.salvaged = 0
        """Alerts that could still be read out of it."""
        self.disk_error = ""
        """Why the disk refuses now; empty while all is well."""
        self._next_seq = 1
        self._used = 0
        self._front = 0  # no older opening goes ahead of the queue any more
        self._resting: dict[Key, float] = {}  # monotonic deadlines: in memory alone, they mean nothing after a reboot
        self._spare: list[Message] = []  # put while the disk refused
        self._compared = False  # with its copy, since the start
        self._damaged: set[int] = set()  # rows whose checksum is wrong
        self._gone: dict[Key, str | None] = {}  # receipted, or parked with a reason, and not yet noted on disk
        self._drops: list[Dropped] = []
        self._dropped = 0
        with contextlib.suppress(StorageError), self._lock:
            self._compare()

    def close(self) -> None:
        """Close the file; the outbox opens it again if it is used again."""
        with self._lock:
            self._disconnect()

    def __enter__(self) -> "Outbox":
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    # What the listening thread does

    def put(self, alert: Alert) -> None:
        """Keep an alert for sending; the same revision again changes nothing.

        Raises:
            StorageError: the disk refused. The alert is kept in memory and sent from there, so the caller goes on
                and says so; only a power cut before the receipt would lose it.
        """
        body = alert.to_json()
        with self._lock:
            message = Message(seq=self._next_seq, alert_id=alert.alert_id, revision=alert.revision, body=body)
            self._next_seq += 1
            try:
                self._write(lambda db: _insert(db, message), entering=message)
            except StorageError:
                self._keep_in_memory(message)
                raise
            finally:
                self.wake.set()

    def counts(self) -> Counts:
        """Return how full it is."""
        with self._lock:
            waiting = parked = 0
            with contextlib.suppress(StorageError):
                waiting, parked = self._guarded(self._count)
            return Counts(
                waiting=waiting + len(self._spare),
                parked=parked,
                bytes=self._used + sum(_cost(message) for message in self._spare),
                in_memory=len(self._spare),
                dropped=self._dropped,
            )

    def take_dropped(self) -> tuple[Dropped, ...]:
        """Return what was dropped since the last call; each is returned once."""
        with self._lock:
            drops, self._drops = tuple(self._drops), []
            return drops

    # What the sending thread does

    def due(self, now_s: float) -> Message | None:
        """Return what to send next, or None.

        The newest opening goes at once, the rest in order of creation; a closing never before its opening has been
        receipted or parked; an alert that failed of its own rests until its time.

        Args:
            now_s: monotonic seconds, the clock of `failed`.

        Raises:
            StorageError: the disk cannot be read, and nothing waits in memory.
        """
        with self._lock:
            self._resting = {key: until_s for key, until_s in self._resting.items() if until_s > now_s}
            try:
                stored = self._mended_due(now_s)
            except StorageError:
                if not self._spare:
                    raise
                stored = None
            return self._first([stored, *(message for message in self._spare if self._may_go(message, now_s))])

    def next_due_s(self) -> float | None:
        """Return when the first alert that `due` passed over may go again, in its seconds; None if none rests."""
        with self._lock:
            return min(self._resting.values(), default=None)

    def delivered(self, alert_id: str, revision: int) -> None:
        """Let go of an alert revision: the station has it."""
        self._settle((alert_id, revision), None)

    def oldest(self, most: int) -> list[Waiting]:
        """Return what waits on disk, the oldest first, whether it rests or not; nothing if the disk cannot be read."""
        with self._lock:
            try:
                return self._guarded(lambda db: [_digest(message) for message in self._sound(db, most)])
            except StorageError:
                return []

    def delivered_all(self, keys: Collection[Key]) -> None:
        """Let go of many alert revisions in one write: the station has them."""
        with self._lock:
            for key in keys:
                self._resting.pop(key, None)
                self._gone[key] = None
            self._spare = [message for message in self._spare if message.key not in self._gone]
            with contextlib.suppress(StorageError):  # as in _settle
                self._write(_nothing)

    def park(self, alert_id: str, revision: int, reason: str) -> None:
        """Put aside an alert revision that the station will never take; it goes first when space is needed."""
        self._settle((alert_id, revision), reason)

    def failed(self, alert_id: str, revision: int, retry_at_s: float, reason: str) -> None:
        """Let an alert revision rest, because its attempt failed in a way that may be its own fault.

        Args:
            alert_id: which alert.
            revision: which revision of it.
            retry_at_s: monotonic seconds before which `due` passes it over; forgotten at a restart, when a
                deadline on that clock would mean nothing.
            reason: for the log.
        """
        key = (alert_id, revision)
        log.debug("alert %s revision %d rests: %s", alert_id, revision, reason)
        with self._lock:
            self._resting[key] = retry_at_s
            self._spare = [
                replace(message, attempts=message.attempts + 1) if message.key == key else message
                for message in self._spare
            ]
            with contextlib.suppress(StorageError):  # the rest holds; only its step would be forgotten at a restart
                self._write(lambda db: _count_attempt(db, key))

    def wake_up(self, alert_id: str, revision: int) -> None:
        """End the rest of an alert revision: the failure turned out to be the link's."""
        with self._lock:
            self._resting.pop((alert_id, revision), None)

    # Order

    def _mended_due(self, now_s: float) -> Message | None:
        """Return the first stored message; what is found to be damaged on the way is mended first."""
        if not self._compared:
            self._compare()
        before = len(self._damaged)
        message = self._guarded(lambda db: self._stored_due(db, now_s))
        if len(self._damaged) == before:
            return message
        self._compare()
        return self._guarded(lambda db: self._stored_due(db, now_s))

    def _stored_due(self, db: sqlite3.Connection, now_s: float) -> Message | None:
        while True:
            seq = self._front_seq(db, now_s)
            if seq is None:
                seq = self._oldest_seq(db, now_s)
            if seq is None:
                return None
            message = _load(db, seq)
            if message is not None:
                return message
            log.error("%s: alert number %d is damaged", self._path, seq)
            self._damaged.add(seq)

    def _front_seq(self, db: sqlite3.Connection, now_s: float) -> int | None:
        rows = db.execute(
            "SELECT seq, alert_id, revision FROM messages"
            " WHERE parked IS NULL AND revision = 0 AND seq > ? ORDER BY seq DESC",
            (self._front,),
        )
        for seq, alert_id, revision in rows:
            if seq not in self._damaged and not self._waits((alert_id, revision), now_s):
                return int(seq)
        return None

    def _oldest_seq(self, db: sqlite3.Connection, now_s: float) -> int | None:
        rows = db.execute("SELECT seq, alert_id, revision FROM messages WHERE parked IS NULL ORDER BY seq")
        for seq, alert_id, revision in rows:
            if seq in self._damaged or self._waits((alert_id, revision), now_s):
                continue
            if not self._opening_waits(db, alert_id, revision):
                return int(seq)
        return None

    def _sound(self, db: sqlite3.Connection, most: int) -> Iterator[Message]:
        rows = db.execute(
            "SELECT seq FROM messages WHERE parked IS NULL ORDER BY seq LIMIT ?",
            (most + len(self._gone) + len(self._damaged),),
        )
        for (seq,) in rows.fetchall():
            message = None if seq in self._damaged else _load(db, seq)
            if message is not None and message.key not in self._gone and most > 0:
                most -= 1
                yield message

    def _waits(self, key: Key, now_s: float) -> bool:
        return key in self._gone or self._resting.get(key, now_s) > now_s

    def _may_go(self, message: Message, now_s: float) -> bool:
        """Say whether an alert in memory may be sent now."""
        if self._waits(message.key, now_s):
            return False
        if any(other.alert_id == message.alert_id and other.revision < message.revision for other in self._spare):
            return False
        try:
            return not self._guarded(lambda db: self._opening_waits(db, message.alert_id, message.revision))
        except StorageError:
            return True

    def _opening_waits(self, db: sqlite3.Connection, alert_id: str, revision: int) -> bool:
        rows = db.execute(
            "SELECT seq, alert_id, revision FROM messages WHERE alert_id = ? AND revision < ? AND parked IS NULL",
            (alert_id, revision),
        )
        return any(row[0] not in self._damaged and (row[1], row[2]) not in self._gone for row in rows)

    def _first(self, candidates: list[Message | None]) -> Message | None:
        """Return the newest opening that nobody has overtaken yet, else the oldest message."""
        messages = [message for message in candidates if message is not None]
        ahead = [message for message in messages if message.revision == 0 and message.seq > self._front]
        if ahead:
            return max(ahead, key=lambda message: message.seq)
        return min(messages, key=lambda message: message.seq, default=None)

    # Leaving

    def _settle(self, key: Key, reason: str | None) -> None:
        with self._lock:
            self._resting.pop(key, None)
            self._advance_front(key)
            self._spare = [message for message in self._spare if message.key != key]
            self._gone[key] = reason
            # what the disk refuses now comes with the next write; the worst is one more receipt for the same alert
            with contextlib.suppress(StorageError):
                self._write(_nothing)

    def _advance_front(self, key: Key) -> None:
        if key[1] != 0:
            return
        seqs = [message.seq for message in self._spare if message.key == key]
        with contextlib.suppress(StorageError):
            seqs += self._guarded(lambda db: _seqs_of(db, key))
        self._front = max([self._front, *seqs])

    def _catch_up(self, db: sqlite3.Connection) -> int:
        """Write down what the disk refused before; return the bytes by which it grows the outbox."""
        restored = self._spare_keys()
        grown = -sum(_put_away(db, seq, restored) for seq in self._damaged)
        grown += sum(_insert(db, message) for message in self._spare)
        for key, reason in self._gone.items():
            if reason is None:
                grown -= _delete(db, key)
            else:
                db.execute("UPDATE messages SET parked = ? WHERE alert_id = ? AND revision = ?", (reason, *key))
        return grown

    # Entering

    def _trim(self, db: sqlite3.Connection, used: int) -> tuple[int, list[Dropped]]:
        """Drop rows until the rest fits; the last opening stays whatever it weighs."""
        dropped: list[Dropped] = []
        if used <= self._max_bytes:
            return used, dropped
        rows = db.execute(
            f"SELECT seq, alert_id, revision, {_ROW_COST}, parked FROM messages"  # noqa: S608  # words of our own
            " ORDER BY parked IS NULL, revision = 0, seq"
        ).fetchall()
        for seq, alert_id, revision, cost, parked in rows[:-1]:
            db.execute("DELETE FROM messages WHERE seq = ?", (seq,))
            used -= cost
            reason = "outbox full" if parked is None else f"outbox full; refused before: {parked}"
            dropped.append(Dropped(alert_id=alert_id, revision=revision, reason=reason))
            if used <= self._max_bytes:
                break
        return used, dropped

    def _keep_in_memory(self, message: Message) -> None:
        if message.key in self._spare_keys():
            return
        self._spare.append(message)
        while len(self._spare) > 1 and sum(_cost(kept) for kept in self._spare) > LARGEST_SPARE_BYTES:
            victim = min(self._spare, key=lambda kept: (kept.revision == 0, kept.seq))
            self._spare.remove(victim)
            reason = "disk refused, memory full"
            self._note_drops([Dropped(alert_id=victim.alert_id, revision=victim.revision, reason=reason)])

    def _count(self, db: sqlite3.Connection) -> tuple[int, int]:
        row = db.execute("SELECT count(parked), count(*) FROM messages").fetchone()
        parked, rows = int(row[0]), int(row[1])
        unnoted = sum(len(_seqs_of(db, key)) for key in self._gone) + len(self._damaged)
        return rows - parked - unnoted, parked + len(self._damaged)

    def _spare_keys(self) -> set[Key]:
        return {message.key for message in self._spare}

    def _note_drops(self, dropped: list[Dropped]) -> None:
        self._drops += dropped
        self._dropped += len(dropped)
        for drop in dropped:
            self._resting.pop((drop.alert_id, drop.revision), None)
            log.error("alert %s revision %d dropped: %s", drop.alert_id, drop.revision, drop.reason)

    # The copy

    def _compare(self) -> None:
        """Check every row, and mend the database and its copy by each other.

        Raises:
            StorageError: the disk refuses.
        """
        damaged, whole = self._guarded(_checked)
        kept = self._mirror.keys()
        if not damaged and set(kept) == whole and not self._mirror.damaged:
            self._compared = True
            return
        missing = self._missing(whole)
        if damaged or missing:
            log.error("%s: %d rows are damaged, %d alerts come from the copy", self._path, len(damaged), len(missing))
        self._damaged |= damaged
        # one that had left, and whose note the power took, goes out once more: the station knows it
        self._spare += missing
        self._write(_nothing)
        self._rewrite_copy()
        self._compared = True

    def _missing(self, present: set[Key]) -> list[Message]:
        """Return what the copy holds beside these, as new messages."""
        present = present | self._gone.keys() | self._spare_keys()
        bodies = [(key, body) for key, body in self._mirror.entries() if key not in present]
        first, self._next_seq = self._next_seq, self._next_seq + len(bodies)
        return [
            Message(seq=seq, alert_id=key[0], revision=key[1], body=body)
            for seq, (key, body) in enumerate(bodies, start=first)
        ]

    def _follow(self, entered: list[Message], left: list[Key]) -> None:
        """Carry a change of the database over to the copy."""
        if self._compared and not self._used:
            self._mirror.clear()
            return
        self._mirror.keep((message.key, message.body) for message in entered)
        self._mirror.forget(left)
        if self._compared and self._mirror.size_bytes() > 2 * self._used + _COPY_SLACK_BYTES:
            self._rewrite_copy()

    def _rewrite_copy(self) -> None:
        self._guarded(lambda db: self._mirror.rewrite(_whole_bodies(db)))

    # The file

    def _write(self, change: Callable[[sqlite3.Connection], int], entering: Message | None = None) -> None:
        """Make a change, and all that was refused before, in one transaction that is on disk when this returns.

        Raises:
            StorageError: the disk refuses; nothing of it was done.
        """
        self._used, dropped = self._guarded(lambda db: self._transact(db, change))
        entered = [*self._spare, *([] if entering is None else [entering])]
        left = [key for key, reason in self._gone.items() if reason is None]
        left += [(drop.alert_id, drop.revision) for drop in dropped]
        self._follow(entered, left)
        self._spare.clear()
        self._gone.clear()
        self._damaged.clear()
        self._note_drops(dropped)
        if self.disk_error:
            log.warning("%s: the disk takes alerts again", self._path)
            self.disk_error = ""

    def _transact(
        self, db: sqlite3.Connection, change: Callable[[sqlite3.Connection], int]
    ) -> tuple[int, list[Dropped]]:
        db.execute("BEGIN IMMEDIATE")
        try:
            grown = self._catch_up(db) + change(db)
            used, dropped = self._trim(db, self._used + grown)
            db.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):  # SQLite may have rolled back by itself
                db.execute("ROLLBACK")
            raise
        return used, dropped

    def _guarded(self, action: Callable[[sqlite3.Connection], Result]) -> Result:
        """Do something with the database; a broken file is set aside, and the action done with a new one.

        Raises:
            StorageError: the disk refuses.
        """
        try:
            try:
                result = action(self._connection())
            except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
                if not _is_broken(error):
                    raise
                self._replace_broken(str(error))
                result = action(self._connection())
        except (sqlite3.Error, OSError) as error:
            if not _is_passing(error):
                self._disconnect()
            self._disk_refused(str(error))
            raise StorageError(f"{self._path}: the outbox cannot be used: {error}; free or mend the disk") from error
        return result

    def _disk_refused(self, reason: str) -> None:
        if reason != self.disk_error:
            log.error("%s: the disk refuses alerts (%s); they go by memory", self._path, reason)
        self.disk_error = reason

    def _connection(self) -> sqlite3.Connection:
        if self._db is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            db = sqlite3.connect(self._path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
            try:
                _prepare(db)
                self._next_seq = max(self._next_seq, _newest(db) + 1)
                self._used = _used(db)
            except BaseException:
                db.close()
                raise
            self._db = db
        return self._db

    def _disconnect(self) -> None:
        if self._db is not None:
            with contextlib.suppress(sqlite3.Error):
                self._db.close()
            self._db = None

    def _replace_broken(self, problem: str) -> None:
        """Set the broken database aside, and carry over what can still be read out of it."""
        self._disconnect()
        self.set_aside = _set_aside(self._path)
        rescued = _salvage(self.set_aside)
        whole = [message for message, _ in rescued]
        restored = self._missing({message.key for message in whole})
        self.salvaged = len(rescued) + len(restored)
        log.error(
            "%s is broken (%s): set aside as %s, %d alerts carried over, %d of them from the copy",
            self._path,
            problem,
            self.set_aside.name,
            self.salvaged,
            len(restored),
        )
        self._damaged.clear()
        self._front = 0
        self._gone.update({message.key: parked for message, parked in rescued if parked is not None})
        self._next_seq = max([self._next_seq, *(message.seq + 1 for message in whole)])
        already = self._spare_keys()
        came = {key: at for at, key in enumerate(self._mirror.keys())}
        whole = sorted([*whole, *restored], key=lambda message: came.get(message.key, -1))
        self._spare = [message for message in whole if message.key not in already] + self._spare
        self._write(_nothing)


def _prepare(db: sqlite3.Connection) -> None:
    """Set the promises of the file, and refuse one that is broken or of a later kind."""
    db.text_factory = _lenient_text
    # what a rotten byte takes out of the write-ahead log is in the copy; a rollback journal syncs four times as often
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version not in (0, OUTBOX_SCHEMA):
        raise _BrokenError(f"its schema is {version}, this software knows {OUTBOX_SCHEMA}")
    verdict = db.execute("PRAGMA integrity_check(1)").fetchone()[0]
    if verdict != "ok":
        raise _BrokenError(verdict)
    if version == 0:
        db.execute(_TABLE)
        db.execute(f"PRAGMA user_version = {OUTBOX_SCHEMA}")
    described = db.execute("PRAGMA table_info(messages)").fetchall()  # number, name, type, not null, default, key
    columns = [row[1] for row in described]
    if columns != _COLUMNS:
        raise _BrokenError(f"its table has the columns {columns}")
    if [row[1] for row in described if row[5] and row[2].upper() == "INTEGER"] != ["seq"]:
        raise _BrokenError("its rows have no numbers: the schema is not what was written")
    if _newest(db) > _LARGEST_SEQ:
        raise _BrokenError("its numbering has run away")


def _lenient_text(raw: bytes) -> str:
    """Read text though it has rotted: its checksum tells, where an exception would block the queue."""
    return raw.decode("utf-8", "replace")


class _BrokenError(sqlite3.DatabaseError):
    """The file opens and is not what it should be."""


def _is_broken(error: sqlite3.DatabaseError | UnicodeDecodeError) -> bool:
    if isinstance(error, UnicodeDecodeError):
        return True  # SQLite quotes a schema that has rotted, and Python cannot read the message
    if str(error) == "unsupported file format":
        return True  # a byte of the header; SQLite gives it no code of its own
    code = getattr(error, "sqlite_errorcode", None)
    return isinstance(error, _BrokenError) or (code is not None and code & 0xFF in _BROKEN_CODES)


def _is_passing(error: Exception) -> bool:
    """Say whether the same connection may well work again: the disk is full, or somebody else writes."""
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF in _PASSING_CODES


def _set_aside(path: Path) -> Path:
    """Rename a database with its companions; return its new name. Only the latest few are kept."""
    taken = sorted(int(found.suffix[8:]) for found in path.parent.glob(f"{path.name}.broken-*") if _is_numbered(found))
    aside = path.with_name(f"{path.name}.broken-{taken[-1] + 1 if taken else 1}")
    for tail in _COMPANIONS:
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + tail).rename(aside.with_name(aside.name + tail))
    for number in taken[: 1 - _BROKEN_KEPT]:
        for tail in _COMPANIONS:
            path.with_name(f"{path.name}.broken-{number}{tail}").unlink(missing_ok=True)
    return aside


def _is_numbered(path: Path) -> bool:
    return path.suffix.startswith(".broken-") and path.suffix[8:].isdecimal()


def _salvage(path: Path) -> list[tuple[Message, str | None]]:
    """Return every row of a broken database that is whole, with why it was parked, in order."""
    found: dict[Key, tuple[Message, str | None]] = {}
    unreadable = contextlib.suppress(sqlite3.Error, UnicodeDecodeError, OSError)
    with unreadable, contextlib.closing(sqlite3.connect(path)) as db:
        db.text_factory = _lenient_text
        # from both ends, because a damaged page stops a scan; then each number between the ends by itself
        for order in ("1 ORDER BY rowid ASC", "1 ORDER BY rowid DESC"):
            found.update((row[0].key, row) for row in _whole_rows(db, order))
        seqs = {message.seq for message, _ in found.values()}
        for seq in range(min(seqs, default=0), min(max(seqs, default=0), min(seqs, default=0) + _MOST_PROBES)):
            if seq not in seqs:
                found.update((row[0].key, row) for row in _whole_rows(db, f"rowid = {seq}"))
    in_order = sorted(found.values(), key=lambda row: row[0].seq)
    return [(replace(message, seq=seq), parked) for seq, (message, parked) in enumerate(in_order, start=1)]


def _whole_rows(db: sqlite3.Connection, which: str) -> Iterator[tuple[Message, str | None]]:
    # rowid is what seq was before the schema's own text was hit
    columns = ", ".join("rowid" if name == "seq" else name for name in _COLUMNS)
    query = f"SELECT {columns} FROM messages NOT INDEXED WHERE {which}"  # noqa: S608  # words of our own
    with contextlib.suppress(sqlite3.Error, UnicodeDecodeError):
        for seq, alert_id, revision, crc, attempts, parked, body in db.execute(query):
            if not (isinstance(alert_id, str) and isinstance(revision, int) and isinstance(body, bytes)):
                continue
            steps = attempts if isinstance(attempts, int) else 0
            message = Message(seq=seq, alert_id=alert_id, revision=revision, body=body, attempts=steps)
            if crc == _crc(message) and _is_alert(message):
                yield message, parked if isinstance(parked, str) else None


def _is_alert(message: Message) -> bool:
    try:
        alert = Alert.from_json(message.body)
    except FieldError:
        return False
    return (alert.alert_id, alert.revision) == message.key


def _load(db: sqlite3.Connection, seq: int) -> Message | None:
    """Return one row, or None if it is not what was put."""
    row = db.execute("SELECT alert_id, revision, attempts, body, crc FROM messages WHERE seq = ?", (seq,)).fetchone()
    if row is None or not isinstance(row[3], bytes):
        return None
    message = Message(seq=seq, alert_id=row[0], revision=row[1], attempts=row[2], body=row[3])
    return message if row[4] == _crc(message) else None


def _digest(message: Message) -> Waiting:
    return Waiting(message.alert_id, message.revision, hashlib.sha256(message.body).hexdigest())


def _nothing(_: sqlite3.Connection) -> int:
    """Change nothing: what was refused before is written all the same."""
    return 0


def _insert(db: sqlite3.Connection, message: Message) -> int:
    """Add a row behind all others unless it is there already; return the bytes that it costs."""
    cursor = db.execute(
        "INSERT INTO messages (seq, alert_id, revision, crc, attempts, body)"
        " VALUES (max(?, (SELECT coalesce(max(seq), 0) + 1 FROM messages)), ?, ?, ?, ?, ?)"
        " ON CONFLICT (alert_id, revision) DO NOTHING",
        (message.seq, message.alert_id, message.revision, _crc(message), message.attempts, message.body),
    )
    return _cost(message) if cursor.rowcount == 1 else 0


def _delete(db: sqlite3.Connection, key: Key) -> int:
    """Delete a row if it is there; return the bytes that this frees."""
    row = db.execute(f"SELECT {_ROW_COST} FROM messages WHERE alert_id = ? AND revision = ?", key).fetchone()  # noqa: S608  # words of our own
    db.execute("DELETE FROM messages WHERE alert_id = ? AND revision = ?", key)
    return 0 if row is None else int(row[0])


def _put_away(db: sqlite3.Connection, seq: int, restored: set[Key]) -> int:
    """Delete a damaged row that is restored, park one that is not; return the bytes that this frees."""
    row = db.execute(f"SELECT alert_id, revision, {_ROW_COST} FROM messages WHERE seq = ?", (seq,)).fetchone()  # noqa: S608  # words of our own
    if row is None or (row[0], row[1]) not in restored:
        db.execute("UPDATE messages SET parked = ? WHERE seq = ?", (_DAMAGED, seq))
        return 0
    db.execute("DELETE FROM messages WHERE seq = ?", (seq,))
    return int(row[2])


def _checked(db: sqlite3.Connection) -> tuple[set[int], set[Key]]:
    """Return the numbers of the rows that have rotted and were not known to, and the keys of those that are whole."""
    damaged: set[int] = set()
    whole: set[Key] = set()
    for seq, message in _examined(db):
        if message is None:
            damaged.add(seq)
        else:
            whole.add(message.key)
    return damaged, whole


def _whole_bodies(db: sqlite3.Connection) -> Iterator[tuple[Key, bytes]]:
    return ((message.key, message.body) for _, message in _examined(db) if message is not None)


def _examined(db: sqlite3.Connection) -> Iterator[tuple[int, Message | None]]:
    """Yield the number of each row that is not known to be damaged, with what it holds, None if it has rotted."""
    for (seq,) in db.execute("SELECT seq FROM messages WHERE parked IS NOT ? ORDER BY seq", (_DAMAGED,)).fetchall():
        yield seq, _load(db, seq)


def _count_attempt(db: sqlite3.Connection, key: Key) -> int:
    db.execute("UPDATE messages SET attempts = attempts + 1 WHERE alert_id = ? AND revision = ?", key)
    return 0


def _newest(db: sqlite3.Connection) -> int:
    return int(db.execute("SELECT coalesce(max(seq), 0) FROM messages").fetchone()[0])


def _seqs_of(db: sqlite3.Connection, key: Key) -> list[int]:
    rows = db.execute("SELECT seq FROM messages WHERE alert_id = ? AND revision = ?", key)
    return [int(row[0]) for row in rows]


def _crc(message: Message) -> int:
    return zlib.crc32(message.body, zlib.crc32(f"{message.alert_id}/{message.revision}".encode()))


def _cost(message: Message) -> int:
    return len(message.body) + _ROW_BYTES


def _used(db: sqlite3.Connection) -> int:
    return int(db.execute(f"SELECT coalesce(sum({_ROW_COST}), 0) FROM messages").fetchone()[0])  # noqa: S608  # words of our own


def peek(path: Path) -> list[tuple[Message, str | None]]:
    """Return what lies in an outbox's file and why it is parked, the newest first; nothing is written.

    Raises:
        StorageError: it cannot be read.
    """
    problem: sqlite3.Error | UnicodeDecodeError | None = None
    for mode in ("mode=ro", "mode=ro&immutable=1"):  # the second for a copy on a medium that takes no writing at all
        try:
            with contextlib.closing(sqlite3.connect(f"{path.resolve().as_uri()}?{mode}", uri=True)) as db:
                rows = db.execute(
                    "SELECT seq, alert_id, revision, attempts, body, parked FROM messages ORDER BY seq DESC"
                ).fetchall()
        except (sqlite3.Error, UnicodeDecodeError) as error:
            problem = error
            continue
        return [
            (Message(seq=row[0], alert_id=row[1], revision=row[2], attempts=row[3], body=row[4]), row[5])
            for row in rows
        ]
    raise StorageError(f"{path}: is no outbox that can be read: {problem}") from problem
