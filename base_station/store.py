"""What the station keeps, and its promises: an acknowledged alert is on disk, and none is ever changed.

Tables: `devices` (who may speak), `contacts` (how each device was when it last spoke), `alerts` (one row per
event, in the order of arrival) with its `revisions` (append-only), `blobs` (pictures, apart from the rows that
lists read), `heartbeats` (a short history), `nonces` (challenges that wait). Nothing that another process of the
same station needs lives in memory: the database is the only meeting place.
"""

import base64
import hashlib
import json
import secrets
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any

from sqlalchemy import (
    URL,
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Connection,
    DateTime,
    Dialect,
    Engine,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Row,
    Select,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    create_engine,
    delete,
    event,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from agent.alert import Alert, Heartbeat, LogMelImage
from agent.errors import ConfigError, StorageError

STORE_SCHEMA = 1
LARGEST_PAGE = 500
NONCE_LIFE_S = 300.0
NONCES_PER_DEVICE = 8
HEARTBEATS_PER_DEVICE = 300
"""At one in five minutes, a day."""

_LOG_MEL = "log_mel"
_CLIP = "clip"
_BUSY_MS = 5_000


class _Utc(TypeDecorator[datetime]):
    """Aware times outside, UTC without a zone in the database: SQLite has no zones."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        del dialect
        return None if value is None else value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        del dialect
        return None if value is None else value.replace(tzinfo=UTC)


_metadata = MetaData()

_meta = Table(
    "meta",
    _metadata,
    Column("name", String(32), primary_key=True),
    Column("value", String(64), nullable=False),
)

_devices = Table(
    "devices",
    _metadata,
    Column("device_id", String(63), primary_key=True),
    Column("sealed_key", LargeBinary, nullable=False),
    Column("added_utc", _Utc, nullable=False),
    Column("revoked_utc", _Utc),
)

_contacts = Table(
    "contacts",
    _metadata,
    Column("device_id", String(63), ForeignKey("devices.device_id"), primary_key=True),
    Column("highest_counter", BigInteger, nullable=False),
    Column("boot_id", String(64)),
    Column("last_contact_utc", _Utc),
    Column("clock_offset_s", Float),
    Column("heartbeat_utc", _Utc),
    Column("heartbeat", Text),
)

_SEQ = BigInteger().with_variant(Integer, "sqlite")  # only INTEGER counts up by itself there

_alerts = Table(
    "alerts",
    _metadata,
    Column("seq", _SEQ, primary_key=True, autoincrement=True),
    Column("alert_id", String(36), nullable=False, unique=True),
    Column("device_id", String(63), ForeignKey("devices.device_id"), nullable=False),
    Column("label", String(32), nullable=False),
    Column("drill", Boolean, nullable=False),
    Column("received_utc", _Utc, nullable=False),
    Index("alerts_by_device", "device_id", "seq"),
    Index("alerts_by_label", "label", "seq"),
    sqlite_autoincrement=True,
)

_revisions = Table(
    "revisions",
    _metadata,
    Column("seq", _SEQ, primary_key=True, autoincrement=True),
    Column("alert_id", String(36), ForeignKey("alerts.alert_id"), nullable=False),
    Column("revision", Integer, nullable=False),
    Column("received_utc", _Utc, nullable=False),
    Column("state", String(16), nullable=False),
    Column("score", Float, nullable=False),
    Column("level_dbfs", Float, nullable=False),
    Column("lasted_s", Float, nullable=False),
    Column("onset_utc", _Utc, nullable=False),
    Column("onset_from", String(16), nullable=False),
    Column("latitude", Float),
    Column("longitude", Float),
    Column("has_log_mel", Boolean, nullable=False),
    Column("body_sha256", LargeBinary(32), nullable=False),
    Column("body", Text, nullable=False),  # last: lists never read it, and SQLite then skips its pages
    UniqueConstraint("alert_id", "revision"),
    sqlite_autoincrement=True,
)

_blobs = Table(
    "blobs",
    _metadata,
    Column("alert_id", String(36), ForeignKey("alerts.alert_id"), primary_key=True),
    Column("revision", Integer, primary_key=True),
    Column("kind", String(16), primary_key=True),
    Column("data", LargeBinary, nullable=False),
)

_heartbeats = Table(
    "heartbeats",
    _metadata,
    Column("seq", _SEQ, primary_key=True, autoincrement=True),
    Column("device_id", String(63), ForeignKey("devices.device_id"), nullable=False),
    Column("received_utc", _Utc, nullable=False),
    Column("body", Text, nullable=False),
    Index("heartbeats_by_device", "device_id", "seq"),
    sqlite_autoincrement=True,
)

_nonces = Table(
    "nonces",
    _metadata,
    Column("seq", _SEQ, primary_key=True, autoincrement=True),
    Column("device_id", String(63), ForeignKey("devices.device_id"), nullable=False),
    Column("nonce", String(64), nullable=False),
    Column("expires_utc", _Utc, nullable=False),
    Index("nonces_by_device", "device_id", "nonce"),
    sqlite_autoincrement=True,
)

# all that lists need of a revision: everything but its body
_LISTED = tuple(column for column in _revisions.c if column.name not in ("body", "body_sha256"))


@dataclass(frozen=True, kw_only=True, slots=True)
class Contact:
    """One signed request, as far as the device's row is concerned."""

    device_id: str
    boot_id: str
    counter: int
    """Must be larger than in every earlier request."""
    at_utc: datetime
    """Station time."""
    clock_offset_s: float | None = None
    """Station time less the device's own; None where the device's cannot be read."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Device:
    """One device, and how it was when it last spoke."""

    device_id: str
    sealed_key: bytes
    """Its key, sealed by the station's."""
    added_utc: datetime
    revoked_utc: datetime | None
    """Since when it is refused."""
    highest_counter: int
    """Of all its requests so far."""
    boot_id: str | None
    last_contact_utc: datetime | None
    """Station time of the last request with a valid signature and a fresh counter."""
    clock_offset_s: float | None
    """Station time less the device's own, then."""
    heartbeat_utc: datetime | None
    """Station time of the latest heartbeat."""
    heartbeat: Heartbeat | None
    """The latest heartbeat."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Onset:
    """When an event began, in wall time."""

    utc: datetime
    source: str
    """`device`: its clock was set by network time; `corrected`: its clock, moved by the offset measured on arrival;
    `received`: counted back from the arrival here, because its clock says nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AlertEvent:
    """One event, all its revisions taken together."""

    seq: int
    """Order of arrival; larger is newer."""
    alert_id: str
    device_id: str
    label: str
    drill: bool
    received_utc: datetime
    """Station time of the first revision."""
    onset: Onset
    state: str
    """`open` or `closed`, by the latest revision."""
    revision: int
    """The latest."""
    score: float
    """Highest of the event, 0 to 1."""
    level_dbfs: float
    lasted_s: float
    """From onset to the latest revision."""
    latitude: float | None
    longitude: float | None
    log_mel_revision: int | None
    """Which revision carries a picture."""
    has_clip: bool = False
    """Whether its sound is here."""


class Kept(Enum):
    """What became of an alert revision."""

    NEW = "new"
    SAME = "same"
    """The same bytes are here already."""
    CLASH = "clash"
    """The name is taken, by other bytes or another device."""
    STALE = "stale"
    """The request counter is not larger than before: a replay, or a device that lost its counter."""


class Store:
    """The database, for any number of threads and processes."""

    def __init__(self, url: URL) -> None:
        """Open the database and make its tables if there are none.

        Raises:
            ConfigError: it cannot be opened, or a newer station made it.
        """
        self._engine = create_engine(url)
        self._is_sqlite = self._engine.dialect.name == "sqlite"
        if self._is_sqlite:
            _prepare_sqlite(self._engine)
        self._writer = self._engine.execution_options(writing=True)
        # SQLite lets one write at a time: a queue here is fairer than its own waiting by sleeps
        self._turn: threading.Lock | nullcontext[None] = threading.Lock() if self._is_sqlite else nullcontext()
        try:
            _metadata.create_all(self._engine)
            with self._write() as connection:
                _check_schema(connection, url)
        except (SQLAlchemyError, StorageError) as error:
            self.close()
            raise ConfigError(f"{url}: cannot open the database: {_cause(error)}") from error
        except ConfigError:
            self.close()
            raise

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    @contextmanager
    def _write(self) -> Iterator[Connection]:
        """Yield a transaction that is on disk when the block ends; StorageError if it cannot be."""
        try:
            with self._turn, self._writer.begin() as connection:
                yield connection
        except SQLAlchemyError as error:
            raise StorageError(f"database: {_cause(error)}") from error

    @contextmanager
    def _read(self) -> Iterator[Connection]:
        """Yield a transaction for reading; StorageError if the database refuses."""
        try:
            with self._engine.connect() as connection:
                yield connection
        except SQLAlchemyError as error:
            raise StorageError(f"database: {_cause(error)}") from error

    # devices

    def add_device(self, device_id: str, sealed_key: bytes, now_utc: datetime) -> bool:
        """Add a device; return False, and change nothing, if there is one of that name."""
        with self._write() as connection:
            if _device_row(connection, device_id) is not None:
                return False
            connection.execute(
                insert(_devices).values(device_id=device_id, sealed_key=sealed_key, added_utc=now_utc),
            )
            connection.execute(insert(_contacts).values(device_id=device_id, highest_counter=0))
        return True

    def rotate_key(self, device_id: str, sealed_key: bytes) -> bool:
        """Give a device a new key and admit it again; return whether there is such a device.

        Its counter starts anew: what was signed with the old key proves nothing any more.
        """
        with self._write() as connection:
            found = connection.execute(
                update(_devices)
                .where(_devices.c.device_id == device_id)
                .values(sealed_key=sealed_key, revoked_utc=None)
            )
            connection.execute(update(_contacts).where(_contacts.c.device_id == device_id).values(highest_counter=0))
            connection.execute(delete(_nonces).where(_nonces.c.device_id == device_id))
        return found.rowcount == 1

    def revoke_device(self, device_id: str, now_utc: datetime) -> bool:
        """Refuse a device from now on; return whether there is such a device. Its alerts stay."""
        with self._write() as connection:
            row = _device_row(connection, device_id)
            if row is None:
                return False
            if row.revoked_utc is None:
                connection.execute(
                    update(_devices).where(_devices.c.device_id == device_id).values(revoked_utc=now_utc)
                )
        return True

    def device(self, device_id: str) -> Device | None:
        """Return one device, or None."""
        with self._read() as connection:
            row = _device_row(connection, device_id)
        return None if row is None else _device(row)

    def devices(self) -> list[Device]:
        """Return all devices by name."""
        with self._read() as connection:
            rows = connection.execute(_joined_devices().order_by(_devices.c.device_id)).all()
        return [_device(row) for row in rows]

    # what devices send

    def keep_alert(self, contact: Contact, alert: Alert, body: bytes, onset: Onset) -> Kept:
        """Keep one revision; whatever is returned is on disk then.

        Args:
            contact: the request.
            alert: the revision, of `contact.device_id`.
            body: its wire form, by which a repetition is known.
            onset: when the event began.
        """
        digest = hashlib.sha256(body).digest()
        with self._write() as connection:
            if not _advance(connection, contact):
                return Kept.STALE
            known = _named(connection, alert)
            if known is None:
                try:
                    with connection.begin_nested():
                        _insert_alert(connection, contact, alert, body, digest, onset)
                    return Kept.NEW
                except IntegrityError:  # another process was quicker
                    known = _named(connection, alert)
            return Kept.SAME if known == (contact.device_id, digest) else Kept.CLASH

    def keep_clip(self, contact: Contact, alert_id: str, body: bytes) -> Kept | None:
        """Keep the sound of an alert; whatever is returned is on disk then.

        Args:
            contact: the request.
            alert_id: of an alert of `contact.device_id`.
            body: a WAV file.

        Returns:
            None where that device has no such alert.
        """
        with self._write() as connection:
            if not _advance(connection, contact):
                return Kept.STALE
            owner = connection.execute(select(_alerts.c.device_id).where(_alerts.c.alert_id == alert_id))
            if owner.scalar_one_or_none() != contact.device_id:
                return None
            known = _clip(connection, alert_id)
            if known is None:
                connection.execute(insert(_blobs).values(alert_id=alert_id, revision=0, kind=_CLIP, data=body))
                return Kept.NEW
            return Kept.SAME if known == body else Kept.CLASH

    def clip(self, alert_id: str) -> bytes | None:
        """Return the sound of an alert as a WAV file, or None."""
        with self._read() as connection:
            return _clip(connection, alert_id)

    def keep_heartbeat(self, contact: Contact, heartbeat: Heartbeat) -> Kept:
        """Keep a heartbeat as the latest, and in the short history."""
        body = heartbeat.to_json().decode()
        with self._write() as connection:
            if not _advance(connection, contact):
                return Kept.STALE
            connection.execute(
                update(_contacts)
                .where(_contacts.c.device_id == contact.device_id)
                .values(heartbeat_utc=contact.at_utc, heartbeat=body)
            )
            connection.execute(
                insert(_heartbeats).values(device_id=contact.device_id, received_utc=contact.at_utc, body=body)
            )
            mine = select(_heartbeats.c.seq).where(_heartbeats.c.device_id == contact.device_id)
            oldest_kept = mine.order_by(_heartbeats.c.seq.desc()).offset(HEARTBEATS_PER_DEVICE - 1).limit(1)
            connection.execute(
                delete(_heartbeats).where(
                    _heartbeats.c.device_id == contact.device_id,
                    _heartbeats.c.seq < oldest_kept.scalar_subquery(),
                )
            )
        return Kept.NEW

    def note_contact(self, contact: Contact) -> Kept:
        """Use up the counter of a request that brought nothing to keep."""
        with self._write() as connection:
            return Kept.NEW if _advance(connection, contact) else Kept.STALE

    def make_nonce(self, device_id: str, now_utc: datetime) -> tuple[str, int]:
        """Return a challenge for one device, good once and for a while, and its highest counter so far."""
        nonce = secrets.token_hex(16)
        with self._write() as connection:
            mine = _nonces.c.device_id == device_id
            connection.execute(
                insert(_nonces).values(
                    device_id=device_id, nonce=nonce, expires_utc=now_utc + timedelta(seconds=NONCE_LIFE_S)
                )
            )
            newest = select(_nonces.c.seq).where(mine).order_by(_nonces.c.seq.desc())
            oldest_kept = newest.offset(NONCES_PER_DEVICE - 1).limit(1)
            connection.execute(delete(_nonces).where(mine, _nonces.c.seq < oldest_kept.scalar_subquery()))
            return nonce, _highest(connection, device_id)

    def use_nonce(self, contact: Contact, nonce: str) -> int | None:
        """Use up a challenge, whatever the request's counter.

        Returns:
            The device's highest counter, or None if the challenge was not this device's or is good no more.
        """
        with self._write() as connection:
            used = connection.execute(
                delete(_nonces).where(
                    _nonces.c.device_id == contact.device_id,
                    _nonces.c.nonce == nonce,
                    _nonces.c.expires_utc >= contact.at_utc,
                )
            )
            if used.rowcount != 1:
                return None
            connection.execute(
                update(_contacts).where(_contacts.c.device_id == contact.device_id).values(_spoke(contact))
            )
            return _highest(connection, contact.device_id)

    # what people read

    def events(
        self, *, before: int | None = None, limit: int = 50, label: str | None = None, device_id: str | None = None
    ) -> list[AlertEvent]:
        """Return events, the newest arrival first.

        Args:
            before: only those that arrived before this `seq`.
            limit: at most this many, and never more than LARGEST_PAGE.
            label: only of this label.
            device_id: only of this device.
        """
        query = select(_alerts).order_by(_alerts.c.seq.desc()).limit(min(limit, LARGEST_PAGE))
        if before is not None:
            query = query.where(_alerts.c.seq < before)
        if label is not None:
            query = query.where(_alerts.c.label == label)
        if device_id is not None:
            query = query.where(_alerts.c.device_id == device_id)
        with self._read() as connection:
            heads = connection.execute(query).all()
            ids = [head.alert_id for head in heads]
            revisions, clips = _revisions_of(connection, ids), _with_clip(connection, ids)
        return [_event(head, revisions[head.alert_id], has_clip=head.alert_id in clips) for head in heads]

    def event(self, alert_id: str) -> AlertEvent | None:
        """Return one event, or None."""
        with self._read() as connection:
            head = connection.execute(select(_alerts).where(_alerts.c.alert_id == alert_id)).one_or_none()
            if head is None:
                return None
            revisions, clips = _revisions_of(connection, [alert_id]), _with_clip(connection, [alert_id])
        return _event(head, revisions[alert_id], has_clip=bool(clips))

    def documents(self, alert_id: str) -> list[tuple[datetime, bytes]]:
        """Return the revisions of an event as they came, each with the station time of its arrival."""
        query = (
            select(_revisions.c.received_utc, _revisions.c.body, _blobs.c.data)
            .outerjoin(_blobs, _same_revision() & (_blobs.c.kind == _LOG_MEL))
            .where(_revisions.c.alert_id == alert_id)
            .order_by(_revisions.c.revision)
        )
        with self._read() as connection:
            rows = connection.execute(query).all()
        return [(row.received_utc, _joined(row.body, row.data)) for row in rows]

    def document(self, alert_id: str, revision: int) -> bytes | None:
        """Return one revision as it came, or None."""
        query = (
            select(_revisions.c.body, _blobs.c.data)
            .outerjoin(_blobs, _same_revision() & (_blobs.c.kind == _LOG_MEL))
            .where(_revisions.c.alert_id == alert_id, _revisions.c.revision == revision)
        )
        with self._read() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else _joined(row.body, row.data)

    def log_mel(self, alert_id: str, revision: int) -> LogMelImage | None:
        """Return the picture that a revision carries, or None."""
        body = self.document(alert_id, revision)
        return None if body is None else Alert.from_json(body).log_mel

    def marker(self) -> int:
        """Return a number that changes whenever an alert revision has come, from whichever process."""
        with self._read() as connection:
            newest = connection.execute(select(func.max(_revisions.c.seq))).scalar_one()
        return int(newest or 0)


def _prepare_sqlite(engine: Engine) -> None:
    """Let transactions begin where this code says, and let a commit mean that the disk has it."""

    @event.listens_for(engine, "connect")
    def _connected(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None  # else the driver begins late, and two writers can deadlock
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON", f"busy_timeout = {_BUSY_MS}"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begun(connection: Connection) -> None:
        writing = connection.get_execution_options().get("writing", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")


def _check_schema(connection: Connection, url: URL) -> None:
    """Write the schema version into a new database, and refuse one that this code does not know."""
    found = connection.execute(select(_meta.c.value).where(_meta.c.name == "schema")).scalar_one_or_none()
    if found is None:
        connection.execute(insert(_meta).values(name="schema", value=str(STORE_SCHEMA)))
    elif found != str(STORE_SCHEMA):
        raise ConfigError(
            f"{url}: has schema {found}, this version of the station knows {STORE_SCHEMA}; use the version that made it"
        )


def _cause(error: Exception) -> str:
    """Return an error of the database in one line, without the statement and its values."""
    original = getattr(error, "orig", None) or error
    return " ".join(str(original).split())[:200]


def _joined_devices() -> Select[Any]:
    others = [column for column in _contacts.c if column.name != "device_id"]
    return select(*_devices.c, *others).join(_contacts, _contacts.c.device_id == _devices.c.device_id)


def _device_row(connection: Connection, device_id: str) -> Row[Any] | None:
    row: Row[Any] | None = connection.execute(_joined_devices().where(_devices.c.device_id == device_id)).one_or_none()
    return row


def _device(row: Row[Any]) -> Device:
    return Device(
        device_id=row.device_id,
        sealed_key=row.sealed_key,
        added_utc=row.added_utc,
        revoked_utc=row.revoked_utc,
        highest_counter=row.highest_counter,
        boot_id=row.boot_id,
        last_contact_utc=row.last_contact_utc,
        clock_offset_s=row.clock_offset_s,
        heartbeat_utc=row.heartbeat_utc,
        heartbeat=None if row.heartbeat is None else Heartbeat.from_json(row.heartbeat.encode()),
    )


def _spoke(contact: Contact) -> dict[str, object]:
    return {
        "boot_id": contact.boot_id,
        "last_contact_utc": contact.at_utc,
        "clock_offset_s": contact.clock_offset_s,
    }


def _highest(connection: Connection, device_id: str) -> int:
    query = select(_contacts.c.highest_counter).where(_contacts.c.device_id == device_id)
    return int(connection.execute(query).scalar_one())


def _advance(connection: Connection, contact: Contact) -> bool:
    """Take the counter if it is larger than every one before; one statement, so that two cannot both take it."""
    taken = connection.execute(
        update(_contacts)
        .where(_contacts.c.device_id == contact.device_id, _contacts.c.highest_counter < contact.counter)
        .values(highest_counter=contact.counter, **_spoke(contact))
    )
    return taken.rowcount == 1


def _named(connection: Connection, alert: Alert) -> tuple[str, bytes | None] | None:
    """Return whose this alert id is and the digest of this revision, None in their place where there is none."""
    owner = connection.execute(
        select(_alerts.c.device_id).where(_alerts.c.alert_id == alert.alert_id)
    ).scalar_one_or_none()
    digest = connection.execute(
        select(_revisions.c.body_sha256).where(
            _revisions.c.alert_id == alert.alert_id, _revisions.c.revision == alert.revision
        )
    ).scalar_one_or_none()
    # an id belongs to the device that used it first, so that no other can close its alert
    return None if owner in (None, alert.device_id) and digest is None else (str(owner), digest)


def _insert_alert(
    connection: Connection, contact: Contact, alert: Alert, body: bytes, digest: bytes, onset: Onset
) -> None:
    document, picture = _split(body)
    known = connection.execute(select(_alerts.c.seq).where(_alerts.c.alert_id == alert.alert_id)).scalar_one_or_none()
    if known is None:
        connection.execute(
            insert(_alerts).values(
                alert_id=alert.alert_id,
                device_id=alert.device_id,
                label=alert.label,
                drill=alert.drill,
                received_utc=contact.at_utc,
            )
        )
    connection.execute(
        insert(_revisions).values(
            alert_id=alert.alert_id,
            revision=alert.revision,
            received_utc=contact.at_utc,
            state=alert.state,
            score=alert.score,
            level_dbfs=alert.level_dbfs,
            lasted_s=max(0.0, alert.raised_s - alert.onset_s),
            onset_utc=onset.utc,
            onset_from=onset.source,
            latitude=alert.position.latitude if alert.position else None,
            longitude=alert.position.longitude if alert.position else None,
            has_log_mel=picture is not None,
            body_sha256=digest,
            body=document,
        )
    )
    if picture is not None:
        connection.execute(
            insert(_blobs).values(alert_id=alert.alert_id, revision=alert.revision, kind=_LOG_MEL, data=picture)
        )


def _split(body: bytes) -> tuple[str, bytes | None]:
    """Return an alert's document without the bytes of its picture, and those bytes."""
    document = json.loads(body)
    if document.get("log_mel") is None:
        return json.dumps(document), None
    picture = base64.b64decode(document["log_mel"].pop("data"))
    return json.dumps(document), picture


def _joined(document: str, picture: bytes | None) -> bytes:
    """Return the whole document again."""
    whole = json.loads(document)
    if picture is not None:
        whole["log_mel"]["data"] = base64.b64encode(picture).decode()
    return json.dumps(whole, separators=(",", ":"), ensure_ascii=False).encode()


def _same_revision() -> ColumnElement[bool]:
    return (_blobs.c.alert_id == _revisions.c.alert_id) & (_blobs.c.revision == _revisions.c.revision)


def _revisions_of(connection: Connection, alert_ids: Sequence[str]) -> Mapping[str, list[Row[Any]]]:
    found: dict[str, list[Row[Any]]] = {alert_id: [] for alert_id in alert_ids}
    query = select(*_LISTED).where(_revisions.c.alert_id.in_(alert_ids)).order_by(_revisions.c.revision)
    for row in connection.execute(query):
        found[row.alert_id].append(row)
    return found


def _clip(connection: Connection, alert_id: str) -> bytes | None:
    query = select(_blobs.c.data).where(_blobs.c.alert_id == alert_id, _blobs.c.kind == _CLIP)
    return connection.execute(query).scalar_one_or_none()


def _with_clip(connection: Connection, alert_ids: Sequence[str]) -> set[str]:
    if not alert_ids:
        return set()
    query = select(_blobs.c.alert_id).where(_blobs.c.alert_id.in_(alert_ids), _blobs.c.kind == _CLIP)
    return set(connection.execute(query).scalars())


def _event(head: Row[Any], revisions: Sequence[Row[Any]], *, has_clip: bool) -> AlertEvent:
    first, latest = revisions[0], revisions[-1]
    pictures = [row.revision for row in revisions if row.has_log_mel]
    return AlertEvent(
        seq=head.seq,
        alert_id=head.alert_id,
        device_id=head.device_id,
        label=head.label,
        drill=head.drill,
        received_utc=head.received_utc,
        onset=Onset(utc=first.onset_utc, source=first.onset_from),
        state=latest.state,
        revision=latest.revision,
        score=latest.score,
        level_dbfs=first.level_dbfs,
        lasted_s=latest.lasted_s,
        latitude=latest.latitude,
        longitude=latest.longitude,
        log_mel_revision=pictures[0] if pictures else None,
        has_clip=has_clip,
    )
