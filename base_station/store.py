"""What devices send and how they are, and the promises about it: an acknowledged alert is on disk, none is changed.

Nothing that another process of the same station needs lives in memory: the database is the only meeting place
(`database`, `tables`).
"""

import base64
import hashlib
import json
import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Any

from sqlalchemy import (
    URL,
    ColumnElement,
    Connection,
    Executable,
    Row,
    Select,
    delete,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError

from agent.alert import Alert, Heartbeat, LogMelImage
from base_station import contacts, tables
from base_station.contacts import Contact, Lock
from base_station.database import Database

LARGEST_PAGE = 500
NONCE_LIFE_S = 300.0
NONCES_PER_DEVICE = 8

LOG_MEL = "log_mel"
_CLIP = "clip"

# all that lists need of a revision: everything but its body
_LISTED = tuple(column for column in tables.revisions.c if column.name not in ("body", "body_sha256"))


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
    name: str = ""
    """What people call it; may be empty."""
    latitude: float | None = None
    """Where it hangs, as people registered it; its alerts may say better."""
    longitude: float | None = None


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
        """Open the database; ConfigError if it cannot be used."""
        self.database = Database(url)
        self._read, self._write = self.database.read, self.database.write

    def close(self) -> None:
        """Close all connections."""
        self.database.close()

    # devices

    def add_device(
        self,
        device_id: str,
        sealed_key: bytes,
        now_utc: datetime,
        *,
        more: Mapping[str, object] | None = None,
        also: Executable | None = None,
    ) -> bool:
        """Add a device; return False, and change nothing, if there is one of that name.

        Args:
            device_id: its name on the wire.
            sealed_key: its key, sealed.
            now_utc: station time.
            more: further columns of `devices`.
            also: done in the same transaction, so that no change is without its audit entry.
        """
        with self._write() as connection:
            if _device_row(connection, device_id) is not None:
                return False
            connection.execute(
                insert(tables.devices).values(
                    device_id=device_id, sealed_key=sealed_key, added_utc=now_utc, **(more or {})
                )
            )
            connection.execute(insert(tables.contacts).values(device_id=device_id, highest_counter=0))
            _do(connection, also)
        return True

    def describe_device(self, device_id: str, values: Mapping[str, object], *, also: Executable | None = None) -> bool:
        """Change what a device is called or where it hangs; return whether there is such a device."""
        with self._write() as connection:
            changed = connection.execute(
                update(tables.devices).where(tables.devices.c.device_id == device_id).values(**values)
            )
            if changed.rowcount == 1:
                _do(connection, also)
        return changed.rowcount == 1

    def rotate_key(self, device_id: str, sealed_key: bytes, *, also: Executable | None = None) -> bool:
        """Give a device a new key and admit it again; return whether there is such a device.

        Its counter starts anew: what was signed with the old key proves nothing any more.
        """
        with self._write() as connection:
            found = connection.execute(
                update(tables.devices)
                .where(tables.devices.c.device_id == device_id)
                .values(sealed_key=sealed_key, revoked_utc=None)
            )
            connection.execute(
                update(tables.contacts).where(tables.contacts.c.device_id == device_id).values(highest_counter=0)
            )
            connection.execute(delete(tables.nonces).where(tables.nonces.c.device_id == device_id))
            if found.rowcount == 1:
                _do(connection, also)
        return found.rowcount == 1

    def revoke_device(self, device_id: str, now_utc: datetime, *, also: Executable | None = None) -> bool:
        """Refuse a device from now on; return whether there is such a device. Its alerts stay."""
        with self._write() as connection:
            row = _device_row(connection, device_id)
            if row is None:
                return False
            if row.revoked_utc is None:
                connection.execute(
                    update(tables.devices).where(tables.devices.c.device_id == device_id).values(revoked_utc=now_utc)
                )
                _do(connection, also)
        return True

    def device(self, device_id: str) -> Device | None:
        """Return one device, or None."""
        with self._read() as connection:
            row = _device_row(connection, device_id)
        return None if row is None else _device(row)

    def locks_of(self, device_ids: Collection[str]) -> dict[str, Lock]:
        """Return what requests need of their devices' rows, by device; those that are not known are missing."""
        with self._read() as connection:
            return contacts.locks_of(connection, device_ids)

    def any_device(self) -> bool:
        """Say whether there is a device at all."""
        with self._read() as connection:
            return connection.execute(select(tables.devices.c.device_id).limit(1)).first() is not None

    def devices(
        self, *, after: str | None = None, limit: int | None = None, known: "KnownBeats | None" = None
    ) -> list[Device]:
        """Return devices by name.

        Args:
            after: only those whose names come after this one.
            limit: at most so many; all by default.
            known: heartbeats as they were read last time, by device; those that have not changed are not read again.
        """
        query = _joined_devices().order_by(tables.devices.c.device_id).limit(limit)
        if after is not None:
            query = query.where(tables.devices.c.device_id > after)
        with self._read() as connection:
            rows = connection.execute(query).all()
        return [_device(row, known) for row in rows]

    def devices_where(
        self,
        which: ColumnElement[bool],
        order: Sequence[ColumnElement[Any]],
        key: ColumnElement[Any],
        limit: int,
        known: "KnownBeats | None" = None,
    ) -> list[tuple[Device, Any]]:
        """Return some devices in an order, each with the value that it has of `key` (`fleet` says which and why)."""
        query = _joined_devices().add_columns(key.label("sort_key")).where(which).order_by(*order).limit(limit)
        with self._read() as connection:
            rows = connection.execute(query).all()
        return [(_device(row, known), row.sort_key) for row in rows]

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
            if not contacts.advance(connection, contact):
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
            if not contacts.advance(connection, contact):
                return Kept.STALE
            owner = connection.execute(select(tables.alerts.c.device_id).where(tables.alerts.c.alert_id == alert_id))
            if owner.scalar_one_or_none() != contact.device_id:
                return None
            known = _clip(connection, alert_id)
            if known is None:
                try:
                    with connection.begin_nested():
                        connection.execute(
                            insert(tables.blobs).values(alert_id=alert_id, revision=0, kind=_CLIP, data=body)
                        )
                    return Kept.NEW
                except IntegrityError:  # another process was quicker
                    known = _clip(connection, alert_id)
            return Kept.SAME if known == body else Kept.CLASH

    def clip(self, alert_id: str) -> bytes | None:
        """Return the sound of an alert as a WAV file, or None."""
        with self._read() as connection:
            return _clip(connection, alert_id)

    def keep_heartbeat(self, contact: Contact, heartbeat: Heartbeat) -> Kept:
        """Keep a heartbeat as the latest, and in the short history."""
        with self._write() as connection:
            return Kept.NEW if contacts.keep_beats(connection, [(contact, heartbeat)]) else Kept.STALE

    def keep_heartbeats(self, beats: Sequence[tuple[Contact, Heartbeat]]) -> None:
        """Keep several heartbeats, one of each device.

        Raises:
            StorageError: one of their counters is stale: none was kept, and each must be tried alone.
        """
        with self._write() as connection:
            contacts.keep_beats(connection, beats)

    def digests(self, device_id: str, alert_ids: Collection[str]) -> dict[tuple[str, int], bytes]:
        """Return the SHA-256 of every revision of these alerts that this device sent and that is on disk.

        Args:
            device_id: whose alerts; those of others are left out.
            alert_ids: at most as many as LARGEST_PAGE.
        """
        query = (
            select(tables.revisions.c.alert_id, tables.revisions.c.revision, tables.revisions.c.body_sha256)
            .join(tables.alerts, tables.alerts.c.alert_id == tables.revisions.c.alert_id)
            .where(tables.revisions.c.alert_id.in_(alert_ids), tables.alerts.c.device_id == device_id)
        )
        with self._read() as connection:
            return {(row.alert_id, row.revision): row.body_sha256 for row in connection.execute(query)}

    def note_contact(self, contact: Contact) -> Kept:
        """Use up the counter of a request that brought nothing to keep."""
        with self._write() as connection:
            return Kept.NEW if contacts.advance(connection, contact) else Kept.STALE

    def make_nonce(self, device_id: str, now_utc: datetime) -> tuple[str, int]:
        """Return a challenge for one device, good once and for a while, and its highest counter so far."""
        nonce = secrets.token_hex(16)
        with self._write() as connection:
            mine = tables.nonces.c.device_id == device_id
            connection.execute(
                insert(tables.nonces).values(
                    device_id=device_id, nonce=nonce, expires_utc=now_utc + timedelta(seconds=NONCE_LIFE_S)
                )
            )
            newest = select(tables.nonces.c.seq).where(mine).order_by(tables.nonces.c.seq.desc())
            oldest_kept = newest.offset(NONCES_PER_DEVICE - 1).limit(1)
            connection.execute(delete(tables.nonces).where(mine, tables.nonces.c.seq < oldest_kept.scalar_subquery()))
            return nonce, contacts.highest(connection, device_id)

    def use_nonce(self, contact: Contact, nonce: str) -> int | None:
        """Use up a challenge, whatever the request's counter.

        Returns:
            The device's highest counter, or None if the challenge was not this device's or is good no more.
        """
        with self._write() as connection:
            used = connection.execute(
                delete(tables.nonces).where(
                    tables.nonces.c.device_id == contact.device_id,
                    tables.nonces.c.nonce == nonce,
                    tables.nonces.c.expires_utc >= contact.at_utc,
                )
            )
            if used.rowcount != 1:
                return None
            contacts.spoke(connection, contact)
            return contacts.highest(connection, contact.device_id)

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
        query = select(tables.alerts).order_by(tables.alerts.c.seq.desc()).limit(min(limit, LARGEST_PAGE))
        if before is not None:
            query = query.where(tables.alerts.c.seq < before)
        if label is not None:
            query = query.where(tables.alerts.c.label == label)
        if device_id is not None:
            query = query.where(tables.alerts.c.device_id == device_id)
        with self._read() as connection:
            heads = connection.execute(query).all()
            ids = [head.alert_id for head in heads]
            revisions, clips = _revisions_of(connection, ids), _with_clip(connection, ids)
        return [_event(head, revisions[head.alert_id], has_clip=head.alert_id in clips) for head in heads]

    def event(self, alert_id: str) -> AlertEvent | None:
        """Return one event, or None."""
        with self._read() as connection:
            head = connection.execute(select(tables.alerts).where(tables.alerts.c.alert_id == alert_id)).one_or_none()
            if head is None:
                return None
            revisions, clips = _revisions_of(connection, [alert_id]), _with_clip(connection, [alert_id])
        return _event(head, revisions[alert_id], has_clip=bool(clips))

    def events_of(self, alert_ids: Sequence[str]) -> list[AlertEvent]:
        """Return events by their ids, in the order of arrival; those that are not here are left out."""
        events: list[AlertEvent] = []
        for begin in range(0, len(alert_ids), LARGEST_PAGE):  # SQLite bounds the variables of a statement
            some = alert_ids[begin : begin + LARGEST_PAGE]
            with self._read() as connection:
                heads = connection.execute(select(tables.alerts).where(tables.alerts.c.alert_id.in_(some))).all()
                revisions, clips = _revisions_of(connection, some), _with_clip(connection, some)
            events += [_event(head, revisions[head.alert_id], has_clip=head.alert_id in clips) for head in heads]
        return sorted(events, key=lambda event: event.seq)

    def documents(self, alert_id: str) -> list[tuple[datetime, bytes]]:
        """Return the revisions of an event as they came, each with the station time of its arrival."""
        query = (
            select(tables.revisions.c.received_utc, tables.revisions.c.body, tables.blobs.c.data)
            .outerjoin(tables.blobs, _same_revision() & (tables.blobs.c.kind == LOG_MEL))
            .where(tables.revisions.c.alert_id == alert_id)
            .order_by(tables.revisions.c.revision)
        )
        with self._read() as connection:
            rows = connection.execute(query).all()
        return [(row.received_utc, _joined(row.body, row.data)) for row in rows]

    def document(self, alert_id: str, revision: int) -> bytes | None:
        """Return one revision as it came, or None."""
        query = (
            select(tables.revisions.c.body, tables.blobs.c.data)
            .outerjoin(tables.blobs, _same_revision() & (tables.blobs.c.kind == LOG_MEL))
            .where(tables.revisions.c.alert_id == alert_id, tables.revisions.c.revision == revision)
        )
        with self._read() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else _joined(row.body, row.data)

    def log_mel(self, alert_id: str, revision: int) -> LogMelImage | None:
        """Return the picture that a revision carries, or None."""
        body = self.document(alert_id, revision)
        return None if body is None else Alert.from_json(body).log_mel

    def oldest_onset_since(self, received_utc: datetime) -> datetime | None:
        """Return the earliest onset among what arrived since then, None if nothing did."""
        revisions = tables.revisions.c
        with self._read() as connection:
            query = select(func.min(revisions.onset_utc)).where(revisions.received_utc >= received_utc)
            found: datetime | None = connection.execute(query).scalar_one()
        return found

    def marker(self) -> int:
        """Return a number that changes whenever an alert revision has come, from whichever process."""
        with self._read() as connection:
            newest = connection.execute(select(func.max(tables.revisions.c.seq))).scalar_one()
        return int(newest or 0)


def _do(connection: Connection, also: Executable | None) -> None:
    if also is not None:
        connection.execute(also)


def _joined_devices() -> Select[Any]:
    # of both tables' places, that which people registered
    others = [column for column in tables.contacts.c if column.name not in tables.devices.c]
    return select(*tables.devices.c, *others).join(
        tables.contacts, tables.contacts.c.device_id == tables.devices.c.device_id
    )


def _device_row(connection: Connection, device_id: str) -> Row[Any] | None:
    row: Row[Any] | None = connection.execute(
        _joined_devices().where(tables.devices.c.device_id == device_id)
    ).one_or_none()
    return row


KnownBeats = dict[str, tuple[str, Heartbeat]]
"""By device: the latest heartbeat, as it is in the database and as it was read."""


def _heartbeat(row: Row[Any], known: KnownBeats | None) -> Heartbeat | None:
    """Return a device's latest heartbeat; to read one takes longer than everything else about its row."""
    if row.heartbeat is None:
        return None
    if known is None:
        return Heartbeat.from_json(row.heartbeat.encode())
    text, beat = known.get(row.device_id, ("", None))
    if beat is None or text != row.heartbeat:
        beat = Heartbeat.from_json(row.heartbeat.encode())
        known[row.device_id] = row.heartbeat, beat
    return beat


def _device(row: Row[Any], known: KnownBeats | None = None) -> Device:
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
        heartbeat=_heartbeat(row, known),
        name=row.name,
        latitude=row.latitude,
        longitude=row.longitude,
    )


def _named(connection: Connection, alert: Alert) -> tuple[str, bytes | None] | None:
    """Return whose this alert id is and the digest of this revision, None in their place where there is none."""
    owner = connection.execute(
        select(tables.alerts.c.device_id).where(tables.alerts.c.alert_id == alert.alert_id)
    ).scalar_one_or_none()
    digest = connection.execute(
        select(tables.revisions.c.body_sha256).where(
            tables.revisions.c.alert_id == alert.alert_id, tables.revisions.c.revision == alert.revision
        )
    ).scalar_one_or_none()
    # an id belongs to the device that used it first, so that no other can close its alert
    return None if owner in (None, alert.device_id) and digest is None else (str(owner), digest)


def _insert_alert(
    connection: Connection, contact: Contact, alert: Alert, body: bytes, digest: bytes, onset: Onset
) -> None:
    document, picture = _split(body)
    known = connection.execute(
        select(tables.alerts.c.seq).where(tables.alerts.c.alert_id == alert.alert_id)
    ).scalar_one_or_none()
    if known is None:
        connection.execute(
            insert(tables.alerts).values(
                alert_id=alert.alert_id,
                device_id=alert.device_id,
                label=alert.label,
                drill=alert.drill,
                received_utc=contact.at_utc,
            )
        )
    connection.execute(
        insert(tables.revisions).values(
            alert_id=alert.alert_id,
            revision=alert.revision,
            received_utc=contact.at_utc,
            state=alert.state,
            score=alert.score,
            level_dbfs=alert.level_dbfs,
            lasted_s=max(0.0, alert.raised_s - alert.onset_s),
            onset_utc=onset.utc,
            onset_from=onset.source,
            **_place(connection, alert),
            has_log_mel=picture is not None,
            body_sha256=digest,
            body=document,
        )
    )
    if picture is not None:
        connection.execute(
            insert(tables.blobs).values(alert_id=alert.alert_id, revision=alert.revision, kind=LOG_MEL, data=picture)
        )


def _place(connection: Connection, alert: Alert) -> dict[str, float | None]:
    """Return where it was heard: as the alert says, else where people registered its device."""
    if alert.position is not None:
        return {"latitude": alert.position.latitude, "longitude": alert.position.longitude}
    table = tables.devices.c
    query = select(table.latitude, table.longitude).where(table.device_id == alert.device_id)
    row = connection.execute(query).one()
    return {"latitude": row.latitude, "longitude": row.longitude}


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
    return (tables.blobs.c.alert_id == tables.revisions.c.alert_id) & (
        tables.blobs.c.revision == tables.revisions.c.revision
    )


def _revisions_of(connection: Connection, alert_ids: Sequence[str]) -> Mapping[str, list[Row[Any]]]:
    found: dict[str, list[Row[Any]]] = {alert_id: [] for alert_id in alert_ids}
    query = select(*_LISTED).where(tables.revisions.c.alert_id.in_(alert_ids)).order_by(tables.revisions.c.revision)
    for row in connection.execute(query):
        found[row.alert_id].append(row)
    return found


def _clip(connection: Connection, alert_id: str) -> bytes | None:
    query = select(tables.blobs.c.data).where(tables.blobs.c.alert_id == alert_id, tables.blobs.c.kind == _CLIP)
    return connection.execute(query).scalar_one_or_none()


def _with_clip(connection: Connection, alert_ids: Sequence[str]) -> set[str]:
    if not alert_ids:
        return set()
    query = select(tables.blobs.c.alert_id).where(tables.blobs.c.alert_id.in_(alert_ids), tables.blobs.c.kind == _CLIP)
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
