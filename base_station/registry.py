"""Which devices may speak, what they are called and where they hang; every change is written down with who made it.

The API (`registry_routes`), the page and `deploy provision` call these functions. A key is seen once, by whoever
makes it: the database holds it sealed.
"""

import hmac
import json
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Insert, insert, select

from agent.alert import Position
from agent.errors import AgentError, FieldError
from agent.signing import DEVICE_ID, KEY_BYTES, new_key
from base_station import tables
from base_station.keys import KeyRing
from base_station.store import Device, Store

LONGEST_NAME = 80
_LONGEST_DETAIL = 1000


class UnknownDeviceError(AgentError):
    """There is no device of that id."""


class KnownDeviceError(AgentError):
    """There is a device of that id, with another key or revoked; nothing was changed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Registered:
    """What became of a registration."""

    device: Device
    key: bytes
    """What the device signs with."""
    is_new: bool
    """False where the station had that device with that very key already."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AuditEntry:
    """One change of what may speak, or of what was brought in."""

    seq: int
    at_utc: datetime
    who: str
    action: str
    """`device_added`, `key_replaced`, `device_revoked`, `device_renamed`, `device_moved`, `journal_taken`."""
    subject: str
    """The device."""
    detail: dict[str, object]


def add_device(
    store: Store,
    ring: KeyRing,
    device_id: str,
    *,
    who: str,
    now_utc: datetime,
    key: bytes | None = None,
    name: str = "",
    position: Position | None = None,
) -> Registered:
    """Admit a device.

    Args:
        store: the station's database.
        ring: the station's keys.
        device_id: its name on the wire, as in `agent.signing.DEVICE_ID`.
        who: whoever does it, for the audit.
        now_utc: station time.
        key: the key that it has already; None makes a fresh one.
        name: what people call it.
        position: where it hangs; used for alerts that bring no position of their own.

    Raises:
        FieldError: `device_id`, `name` or `key` is none.
        KnownDeviceError: there is such a device, and its key is another, or it was revoked.
    """
    if not DEVICE_ID.fullmatch(device_id):
        raise FieldError(
            "device_id", "expected small letters, digits, '.', '_', '-', at most 63, a letter or digit first"
        )
    if key is not None and len(key) != KEY_BYTES:
        raise FieldError("key", f"expected {2 * KEY_BYTES} hexadecimal digits")
    label = _label(name)
    kept = key or new_key()
    note = audit_row(who, "device_added", device_id, now_utc, name=label, **_place(position))
    more = {"name": label, **_place(position)}
    if not store.add_device(device_id, ring.seal(kept), now_utc, more=more, also=note):
        return _known(store, ring, device_id, key)
    return Registered(device=found(store, device_id), key=kept, is_new=True)


def replace_key(store: Store, ring: KeyRing, device_id: str, *, who: str, now_utc: datetime) -> bytes:
    """Return a new key for a device and admit it again; the old one is worthless from now on."""
    key = new_key()
    found(store, device_id)
    store.rotate_key(device_id, ring.seal(key), also=audit_row(who, "key_replaced", device_id, now_utc))
    return key


def revoke_device(store: Store, device_id: str, *, who: str, now_utc: datetime) -> None:
    """Refuse a device from now on; its alerts stay."""
    found(store, device_id)
    store.revoke_device(device_id, now_utc, also=audit_row(who, "device_revoked", device_id, now_utc))


def rename_device(store: Store, device_id: str, name: str, *, who: str, now_utc: datetime) -> None:
    """Call a device something else; empty takes the name away. FieldError where it cannot be a name."""
    label = _label(name)
    before = found(store, device_id).name
    if before == label:
        return
    note = audit_row(who, "device_renamed", device_id, now_utc, before=before, after=label)
    store.describe_device(device_id, {"name": label}, also=note)


def move_device(store: Store, device_id: str, position: Position | None, *, who: str, now_utc: datetime) -> None:
    """Say where a device hangs, or with None that nobody knows; alerts that came before stay where they were."""
    device = found(store, device_id)
    place = _place(position)
    before = {"latitude": device.latitude, "longitude": device.longitude}
    if before == place:
        return
    note = audit_row(who, "device_moved", device_id, now_utc, before=before, after=place)
    store.describe_device(device_id, place, also=note)


def found(store: Store, device_id: str) -> Device:
    """Return a device; UnknownDeviceError if there is none of that id."""
    device = store.device(device_id) if DEVICE_ID.fullmatch(device_id) else None
    if device is None:
        raise UnknownDeviceError(_unknown(device_id))
    return device


def audit_row(who: str, action: str, subject: str, now_utc: datetime, **detail: object) -> Insert:
    """Return the statement that writes one change down; no key, password or token may be in it."""
    return insert(tables.audit).values(
        at_utc=now_utc,
        who=who[:63],
        action=action,
        subject=subject[:63],
        detail=json.dumps(detail, ensure_ascii=False, default=str)[:_LONGEST_DETAIL],
    )


def audit_entries(
    store: Store, *, before: int | None = None, limit: int = 50, subject: str | None = None
) -> list[AuditEntry]:
    """Return what was changed, the latest first.

    Args:
        store: the database.
        before: only what came before this `seq`.
        limit: at most so many.
        subject: only of this device.
    """
    table = tables.audit
    query = select(table).order_by(table.c.seq.desc()).limit(limit)
    if before is not None:
        query = query.where(table.c.seq < before)
    if subject is not None:
        query = query.where(table.c.subject == subject)
    with store.database.read() as connection:
        rows = connection.execute(query).all()
    return [
        AuditEntry(
            seq=row.seq,
            at_utc=row.at_utc,
            who=row.who,
            action=row.action,
            subject=row.subject,
            detail=_detail(row.detail),
        )
        for row in rows
    ]


def _known(store: Store, ring: KeyRing, device_id: str, key: bytes | None) -> Registered:
    """Answer for a device that is here: the same key again is no mistake, anything else is."""
    device = found(store, device_id)
    if device.revoked_utc is not None:
        raise KnownDeviceError(f"{device_id}: refused since {device.revoked_utc:%Y-%m-%d}; a new key admits it again")
    if key is None:
        raise KnownDeviceError(f"{device_id}: there is such a device already; a new key makes its old one worthless")
    if not hmac.compare_digest(ring.open(device.sealed_key), key):
        raise KnownDeviceError(f"{device_id}: there is such a device already, and its key is another")
    return Registered(device=device, key=key, is_new=False)


def _place(position: Position | None) -> dict[str, float | None]:
    if position is None:
        return {"latitude": None, "longitude": None}
    return {"latitude": position.latitude, "longitude": position.longitude}


def _detail(text: str) -> dict[str, object]:
    try:
        detail = json.loads(text)
    except ValueError:  # it was longer than what is kept
        return {"text": text}
    return detail if isinstance(detail, dict) else {}


def _label(name: str) -> str:
    """Return a name as it is kept; FieldError where it holds what nobody can read."""
    label = " ".join(name.split())
    if len(label) > LONGEST_NAME or not label.isprintable():
        raise FieldError("name", f"expected at most {LONGEST_NAME} characters that can be printed")
    return label


def _unknown(device_id: str) -> str:
    return f"no device {device_id[:63]!r} here"
