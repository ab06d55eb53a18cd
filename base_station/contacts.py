"""What a request of a device writes first: that its counter is used up, and how the device is by its own words.

Every device calls every few minutes, so these few statements are made once: to write one down costs SQLAlchemy more
than the database needs to run it.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import BindParameter, Connection, Update, bindparam, case, delete, insert, select, update

from agent.alert import Heartbeat
from agent.errors import StorageError
from base_station import hours, tables

HEARTBEATS_PER_DEVICE = 300
"""At one in five minutes, a day."""
_TIDY_EVERY = 10
"""Of so many requests one looks whether there are more."""
_SPOKEN = ("boot_id", "last_contact_utc", "clock_offset_s")
_TOLD = ("heartbeat_utc", "heartbeat", "model_digest", "latitude", "longitude", "battery_percent", "temperature_c")


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
class Lock:
    """All that a request needs of a device's row before it is believed."""

    sealed_key: bytes
    revoked_utc: datetime | None
    """Since when it is refused."""
    highest_counter: int
    """Of all its requests so far."""


def _new(name: str) -> BindParameter[Any]:
    return bindparam(f"new_{name}", type_=tables.contacts.c[name].type)


def _taking(*names: str) -> Update:
    """Return the statement that takes a counter if it is larger than every one before; one, so that two cannot both."""
    old = tables.contacts.c
    larger = old.highest_counter < bindparam("counter", type_=old.highest_counter.type)
    values = {name: _new(name) for name in names}
    mine = old.device_id == bindparam("its_device")
    return update(tables.contacts).where(mine, larger).values(highest_counter=bindparam("counter"), **values)


def _taking_a_beat() -> Update:
    old = tables.contacts.c
    since = case((old.model_digest == _new("model_digest"), old.model_since_utc), else_=_new("model_since_utc"))
    return _taking(*_SPOKEN, *_TOLD).values(model_since_utc=since)


_DEVICES = tables.devices.c
_LOCKS = (
    select(_DEVICES.device_id, _DEVICES.sealed_key, _DEVICES.revoked_utc, tables.contacts.c.highest_counter)
    .join(tables.contacts, tables.contacts.c.device_id == _DEVICES.device_id)
    .where(_DEVICES.device_id.in_(bindparam("device_ids", expanding=True)))
)
_ADVANCE = _taking(*_SPOKEN)
_ADVANCE_WITH_BEAT = _taking_a_beat()


def locks_of(connection: Connection, device_ids: Collection[str]) -> dict[str, Lock]:
    """Return the locks of devices, by device; those that are not known are missing."""
    rows = connection.execute(_LOCKS, {"device_ids": list(device_ids)})
    return {
        row.device_id: Lock(sealed_key=row.sealed_key, revoked_utc=row.revoked_utc, highest_counter=row.highest_counter)
        for row in rows
    }


def advance(connection: Connection, contact: Contact) -> bool:
    """Take the counter of a request; say whether it was larger than every one before."""
    return connection.execute(_ADVANCE, _taken(contact, _spoken(contact))).rowcount == 1


def keep_beats(connection: Connection, beats: Sequence[tuple[Contact, Heartbeat]]) -> bool:
    """Take the counters, and keep heartbeats as the latest, in the short history, and in their hours.

    Args:
        connection: a transaction.
        beats: one of each device; one round trip to the database serves all of them.

    Returns:
        For one heartbeat, whether its counter was larger than every one before.

    Raises:
        StorageError: one of several counters was not; the transaction must be undone, and each be taken alone.
    """
    ordered = sorted(beats, key=lambda one: one[0].device_id)  # two processes cannot wait for each other's rows
    bodies = [beat.to_json().decode() for _, beat in ordered]
    told = [
        _taken(contact, {**_spoken(contact), **_told(contact, beat, body)})
        for (contact, beat), body in zip(ordered, bodies, strict=True)
    ]
    taken = connection.execute(_ADVANCE_WITH_BEAT, told).rowcount
    if taken != len(beats):
        if len(beats) == 1:
            return False
        raise StorageError(f"database: {len(beats) - taken} of {len(beats)} request counters were used meanwhile")
    connection.execute(
        insert(tables.heartbeats),
        [
            {"device_id": contact.device_id, "received_utc": contact.at_utc, "body": body}
            for (contact, _), body in zip(ordered, bodies, strict=True)
        ],
    )
    hours.count(connection, [(contact.device_id, contact.at_utc, beat) for contact, beat in ordered])
    for contact, _ in ordered:
        if contact.counter % _TIDY_EVERY == 0:
            _bound_heartbeats(connection, contact.device_id)
    return True


def highest(connection: Connection, device_id: str) -> int:
    """Return the highest counter that was taken so far."""
    query = select(tables.contacts.c.highest_counter).where(tables.contacts.c.device_id == device_id)
    return int(connection.execute(query).scalar_one())


def spoke(connection: Connection, contact: Contact) -> None:
    """Write down that a device called, whatever its counter."""
    table = tables.contacts
    connection.execute(update(table).where(table.c.device_id == contact.device_id).values(_spoken(contact)))


def _spoken(contact: Contact) -> dict[str, object]:
    return {
        "boot_id": contact.boot_id,
        "last_contact_utc": contact.at_utc,
        "clock_offset_s": contact.clock_offset_s,
    }


def _taken(contact: Contact, values: Mapping[str, object]) -> dict[str, object]:
    """Return what `_taking` asks for, of columns and their new values."""
    new = {f"new_{name}": value for name, value in values.items()}
    return {"its_device": contact.device_id, "counter": contact.counter, **new}


def _told(contact: Contact, beat: Heartbeat, body: str) -> dict[str, object]:
    return {
        "heartbeat_utc": contact.at_utc,
        "heartbeat": body,
        "model_digest": beat.model_digest,
        "model_since_utc": contact.at_utc,
        "latitude": beat.position.latitude if beat.position else None,
        "longitude": beat.position.longitude if beat.position else None,
        "battery_percent": beat.battery.percent if beat.battery else None,
        "temperature_c": beat.battery.temperature_c if beat.battery else None,
    }


def _bound_heartbeats(connection: Connection, device_id: str) -> None:
    """Let go the oldest of a device's heartbeats."""
    mine = select(tables.heartbeats.c.seq).where(tables.heartbeats.c.device_id == device_id)
    oldest_kept = mine.order_by(tables.heartbeats.c.seq.desc()).offset(HEARTBEATS_PER_DEVICE - 1).limit(1)
    connection.execute(
        delete(tables.heartbeats).where(
            tables.heartbeats.c.device_id == device_id,
            tables.heartbeats.c.seq < oldest_kept.scalar_subquery(),
        )
    )
