"""All devices at a glance, and page by page: counted, searched, filtered and sorted by the database.

What is in trouble, the conditions say (`deadman`, `condition_log`), which `watch` brings up to date every 15 s.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    ColumnElement,
    Subquery,
    and_,
    case,
    cast,
    func,
    literal,
    or_,
    select,
    true,
)

from base_station import tables
from base_station.database import Database
from base_station.deadman import NAMES
from base_station.store import Device, KnownBeats, Store

AT_A_TIME = 50
LONGEST_SEARCH = 80
SILENT = ("late", "link")
UNHEARING = (*SILENT, "deaf", "faulty")
"""A device with one of these hears nothing, or nobody would know."""

ADMITTED = ""
STATES = ("listening", "trouble", "silent", "never", "revoked")
FILTERS = (ADMITTED, *STATES, *NAMES)
"""What the list may be narrowed to: all that were not revoked, a state, or one condition."""
SORTS = ("name", "contact", "battery", "temperature")
"""By name; by last contact, the longest silence first; by charge, the lowest first; by heat, the hottest first."""

_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
_NOWHERE = 9999.0
"""Sorts behind every charge and every temperature."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FleetHealth:
    """How many devices are how; a device may be counted in several, but for `revoked` and `never`."""

    admitted: int
    """All that were not revoked."""
    listening: int
    """Called, and nothing says that they hear nothing."""
    trouble: int
    """With any condition."""
    silent: int
    never: int
    revoked: int
    conditions: Mapping[str, int]
    """Devices by condition; only those that some device has."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One device in the list."""

    device: Device
    conditions: tuple[str, ...]
    """What holds, in the order of `deadman.NAMES`."""

    @property
    def state(self) -> str:
        """Return `revoked`, `never`, `silent`, `trouble` or `listening`."""
        return state_of(self.device, self.conditions)


@dataclass(frozen=True, kw_only=True, slots=True)
class Listing:
    """Some devices, and where the list goes on."""

    rows: tuple[Row, ...]
    before: str | None
    """Cursor of the page before; None on the first."""
    after: str | None
    """Cursor of the next page; None on the last."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """Which devices, in which order, from where."""

    state: str = ADMITTED
    """One of FILTERS."""
    search: str = ""
    """Part of the id or the name, whatever its case."""
    sort: str = "name"
    """One of SORTS."""
    after: str = ""
    """A cursor from a Listing; one that cannot be read is the beginning."""
    before: str = ""
    limit: int = AT_A_TIME


def state_of(device: Device, conditions: Collection[str]) -> str:
    """Return how a device is in one word, one of STATES."""
    if device.revoked_utc is not None:
        return "revoked"
    if device.last_contact_utc is None:
        return "never"
    if set(SILENT) & set(conditions):
        return "silent"
    return "trouble" if conditions else "listening"


def health(database: Database) -> FleetHealth:
    """Count the devices."""
    device, contact = tables.devices.c, tables.contacts.c
    revoked = device.revoked_utc.is_not(None)
    base = select(
        func.count(),
        _count(revoked),
        _count(and_(~revoked, contact.last_contact_utc.is_(None))),
    ).select_from(tables.devices.join(tables.contacts))
    held = _held(database)
    worst = (
        select(
            func.max(case((held.c.name.in_(SILENT), 1), else_=0)).label("silent"),
            func.max(case((held.c.name.in_(UNHEARING), 1), else_=0)).label("unhearing"),
        )
        .group_by(held.c.device_id)
        .subquery()
    )
    sums = select(
        func.count(),
        func.coalesce(func.sum(worst.c.silent), 0),
        func.coalesce(func.sum(worst.c.unhearing), 0),
    ).select_from(worst)
    named = select(held.c.name, func.count()).group_by(held.c.name)
    with database.read() as connection:
        n_all, n_revoked, n_never = connection.execute(base).one()
        n_trouble, n_silent, n_unhearing = connection.execute(sums).one()
        conditions = {row[0]: int(row[1]) for row in connection.execute(named)}
    return FleetHealth(
        admitted=n_all - n_revoked,
        listening=n_all - n_revoked - n_never - int(n_unhearing),
        trouble=n_trouble,
        silent=int(n_silent),
        never=n_never,
        revoked=n_revoked,
        conditions={name: conditions[name] for name in NAMES if name in conditions},
    )


def listed(store: Store, wanted: Wanted, known: KnownBeats | None = None) -> Listing:
    """Return one page of devices.

    Args:
        store: the database.
        wanted: which.
        known: heartbeats as they were read last time; see `Store.devices`.
    """
    key, identity = _key(wanted.sort), tables.devices.c.device_id
    back = _cursor(wanted.before, wanted.sort)
    ahead = None if back is not None else _cursor(wanted.after, wanted.sort)
    which = [_is(wanted.state, store.database), _matches(wanted.search)]
    order: tuple[Any, ...] = (key, identity)
    if back is not None:
        which.append(or_(key < back[0], and_(key == back[0], identity < back[1])))
        order = (key.desc(), identity.desc())
    elif ahead is not None:
        which.append(or_(key > ahead[0], and_(key == ahead[0], identity > ahead[1])))
    found = store.devices_where(and_(*which), (*order,), key, wanted.limit + 1, known)
    more, some = len(found) > wanted.limit, found[: wanted.limit]
    if back is not None:
        some.reverse()
    ids = [device.device_id for device, _ in some]
    conditions = holding(store.database, ids)
    rows = tuple(Row(device=device, conditions=conditions.get(device.device_id, ())) for device, _ in some)
    first, last = (_written(some[0]), _written(some[-1])) if some else (None, None)
    return Listing(
        rows=rows,
        before=first if (more if back is not None else ahead is not None) else None,
        after=last if (True if back is not None else more) else None,
    )


def holding(database: Database, device_ids: Sequence[str]) -> Mapping[str, tuple[str, ...]]:
    """Return by device what is wrong with it now; at most as many devices as a page has."""
    if not device_ids:
        return {}
    held = _held(database)
    with database.read() as connection:
        rows = connection.execute(select(held.c.device_id, held.c.name).where(held.c.device_id.in_(device_ids))).all()
    places = {name: place for place, name in enumerate(NAMES)}
    found: dict[str, list[str]] = {}
    for device_id, name in sorted(rows, key=lambda row: places.get(row[1], len(places))):
        found.setdefault(device_id, []).append(name)
    return {device_id: tuple(names) for device_id, names in found.items()}


def _held(database: Database) -> Subquery:
    """Return the query for (device_id, name) of all conditions that hold, a row for each device in them."""
    table = tables.conditions
    alone = select(table.c.subject.label("device_id"), table.c.name.label("name")).where(table.c.end_utc.is_(None))
    if database.is_sqlite:
        member = func.json_each(table.c.devices).table_valued("value")
    else:
        member = func.json_array_elements_text(cast(table.c.devices, JSON)).table_valued("value")
    together = (
        select(member.c.value.label("device_id"), table.c.name.label("name"))
        .select_from(table.join(member, true()))
        .where(table.c.end_utc.is_(None), table.c.devices != "[]")
    )
    both = alone.union(together).subquery()
    device = tables.devices.c
    admitted = both.join(tables.devices, and_(device.device_id == both.c.device_id, device.revoked_utc.is_(None)))
    return select(both.c.device_id, both.c.name).select_from(admitted).subquery()


def _is(state: str, database: Database) -> ColumnElement[bool]:
    """Return the condition for one of FILTERS."""
    device, contact = tables.devices.c, tables.contacts.c
    if state == "revoked":
        return device.revoked_utc.is_not(None)
    admitted = device.revoked_utc.is_(None)
    if state == ADMITTED:
        return admitted
    if state == "never":
        return and_(admitted, contact.last_contact_utc.is_(None))
    held = _held(database)
    ids = select(held.c.device_id)
    if state == "listening":
        deaf = device.device_id.in_(ids.where(held.c.name.in_(UNHEARING)))
        return and_(admitted, contact.last_contact_utc.is_not(None), ~deaf)
    names = {"trouble": tuple(NAMES), "silent": SILENT}.get(state, (state,))
    return and_(admitted, device.device_id.in_(ids.where(held.c.name.in_(names))))


def _matches(search: str) -> ColumnElement[bool]:
    text = search.replace("\x00", "").strip()[:LONGEST_SEARCH]
    if not text:
        return true()
    device = tables.devices.c
    return or_(device.device_id.icontains(text, autoescape=True), device.name.icontains(text, autoescape=True))


def _key(sort: str) -> ColumnElement[Any]:
    """Return what one of SORTS sorts by; never null, so that pages have an order."""
    device, contact = tables.devices.c, tables.contacts.c
    if sort == "contact":
        return func.coalesce(contact.last_contact_utc, literal(_LONG_AGO, tables.Utc()), type_=tables.Utc())
    if sort == "battery":
        return func.coalesce(contact.battery_percent, _NOWHERE)
    if sort == "temperature":
        return -func.coalesce(contact.temperature_c, -_NOWHERE)
    return func.coalesce(func.nullif(device.name, ""), device.device_id)


def _cursor(written: str, sort: str) -> tuple[Any, str] | None:
    key, _, device_id = written.replace("\x00", "").rpartition("~")
    if not device_id or len(written) > 200:
        return None
    try:
        if sort == "contact":
            return datetime.fromisoformat(key).replace(tzinfo=UTC), device_id
        return (key if sort == "name" else float(key)), device_id
    except ValueError:
        return None


def _written(found: tuple[Device, Any]) -> str:
    device, key = found
    return f"{key.replace(tzinfo=None).isoformat() if isinstance(key, datetime) else key}~{device.device_id}"


def _count(which: ColumnElement[bool]) -> ColumnElement[int]:
    return func.coalesce(func.sum(case((which, 1), else_=0)), 0)
