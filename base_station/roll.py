"""Who listens, who is in trouble, who is silent: all devices in one cheap pass, for pages that look again and again.

What is wrong with a device is what the look around found (`deadman`, `condition_log`); heartbeats are not read here.
"""

import math
import threading
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import func, select

from base_station import tables
from base_station.condition_log import ConditionLog, Spell
from base_station.fleet import SILENT as SILENT_BY
from base_station.fleet import UNHEARING
from base_station.locate import Place
from base_station.store import Store

LISTENING, TROUBLE, SILENT, NEVER, REVOKED = "listening", "trouble", "silent", "never", "revoked"
STATES = (LISTENING, NEVER, TROUBLE, SILENT, REVOKED)
"""The worst of several comes last; `never` has not called yet."""
SILENT_AFTER = timedelta(hours=6)
"""Whatever the look around says: it may itself have stopped."""
KEPT = timedelta(seconds=4)
"""All who look within this get the same roll."""

_LARGEST_LATITUDE = 85.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """One device as the roll has it."""

    device_id: str
    name: str
    """What people call it; may be empty."""
    place: Place | None
    """Where its latest heartbeat says that it hangs, else where people registered it."""
    last_contact_utc: datetime | None
    state: str
    """One of STATES."""
    conditions: tuple[Spell, ...] = ()
    """What is wrong with it now, the oldest first."""

    @property
    def hears(self) -> bool:
        """Say whether it would hear something: low on battery it does, deaf or silent it does not."""
        troubled = any(spell.name in UNHEARING for spell in self.conditions)
        return self.state in (LISTENING, TROUBLE) and not troubled


@dataclass(frozen=True, kw_only=True, slots=True)
class Roll:
    """All devices at one moment."""

    at_utc: datetime
    devices: Sequence[Seen]
    """By id."""
    counts: Mapping[str, int]
    """By state."""
    hearing: int
    """How many would hear something now."""
    looks: int
    """Another number when a map of them looks different."""

    @property
    def admitted(self) -> int:
        """Return how many may speak."""
        return len(self.devices) - self.counts.get(REVOKED, 0)

    def troubled(self, most: int) -> list[Seen]:
        """Return devices that want somebody, those that hear nothing first, at most so many."""
        wanting = [one for one in self.devices if one.state in (TROUBLE, SILENT)]
        return sorted(wanting, key=lambda one: (one.hears, _since(one), one.device_id))[:most]


class RollCall:
    """Calls the roll for everybody who looks, as often as is of use."""

    def __init__(self, store: Store) -> None:
        """Take the station's database."""
        self._store = store
        self._lock = threading.Lock()
        self._latest: Roll | None = None

    def take(self, now_utc: datetime) -> Roll:
        """Return the roll, at most some seconds old; StorageError if the database refuses."""
        with self._lock:
            if self._latest is None or not timedelta(0) <= now_utc - self._latest.at_utc < KEPT:
                self._latest = call_roll(self._store, now_utc)
            return self._latest


def call_roll(store: Store, now_utc: datetime) -> Roll:
    """Return all devices as they are now."""
    contact, registered = tables.contacts.c, tables.devices.c
    query = (
        select(
            registered.device_id,
            registered.name,
            registered.revoked_utc,
            contact.last_contact_utc,
            func.coalesce(contact.latitude, registered.latitude).label("latitude"),
            func.coalesce(contact.longitude, registered.longitude).label("longitude"),
        )
        .join(tables.contacts, contact.device_id == registered.device_id)
        .order_by(registered.device_id)
    )
    with store.database.read() as connection:
        rows = connection.execute(query).all()
    wrong = _by_device(ConditionLog(store.database).holding())
    devices = []
    for row in rows:
        spells = () if row.revoked_utc is not None else tuple(wrong.get(row.device_id, ()))
        devices.append(
            Seen(
                device_id=row.device_id,
                name=row.name,
                place=None if row.latitude is None or row.longitude is None else Place(row.latitude, row.longitude),
                last_contact_utc=row.last_contact_utc,
                state=_state(row.revoked_utc is not None, row.last_contact_utc, spells, now_utc),
                conditions=spells,
            )
        )
    counts = Counter(one.state for one in devices)
    return Roll(
        at_utc=now_utc,
        devices=devices,
        counts=counts,
        hearing=sum(one.hears for one in devices),
        looks=hash(tuple((one.device_id, one.name, one.state, one.place) for one in devices)),
    )


def _by_device(holding: Sequence[Spell]) -> Mapping[str, list[Spell]]:
    found: dict[str, list[Spell]] = defaultdict(list)
    for spell in holding:
        for device_id in spell.devices or (spell.subject,):
            found[device_id].append(spell)
    return found


def _state(is_revoked: bool, last_contact: datetime | None, spells: Sequence[Spell], now_utc: datetime) -> str:
    if is_revoked:
        return REVOKED
    if last_contact is None:
        return NEVER
    if now_utc - last_contact > SILENT_AFTER or any(spell.name in SILENT_BY for spell in spells):
        return SILENT
    return TROUBLE if spells else LISTENING


def _since(one: Seen) -> float:
    """Return how new its trouble is, the newest first when sorted."""
    begins = [spell.begin_utc.timestamp() for spell in one.conditions]
    return -max(begins) if begins else 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Window:
    """The part of the world that a map shows, degrees; west may be east of east where it crosses the date line."""

    west: float
    south: float
    east: float
    north: float

    def holds(self, place: Place) -> bool:
        """Say whether a place lies in it."""
        if not self.south <= place.latitude <= self.north:
            return False
        if self.west <= self.east:
            return self.west <= place.longitude <= self.east
        return place.longitude >= self.west or place.longitude <= self.east


@dataclass(kw_only=True, slots=True)
class Group:
    """Devices that a map at this zoom could not tell apart."""

    devices: list[Seen] = field(default_factory=list)

    @property
    def middle(self) -> Place:
        """Return the mean of their places."""
        places = [one.place for one in self.devices if one.place is not None]
        return Place(
            sum(place.latitude for place in places) / len(places),
            sum(place.longitude for place in places) / len(places),
        )

    @property
    def counts(self) -> Mapping[str, int]:
        """Return how many are in which state."""
        return Counter(one.state for one in self.devices)


def grouped(devices: Sequence[Seen], window: Window, zoom: int, cell_px: int) -> list[Group]:
    """Return the devices in a window by the cells of the map that they fall into.

    Args:
        devices: those without a place are left out.
        window: what is seen.
        zoom: as of web maps: the world has 256 * 2 ** zoom pixels.
        cell_px: edge of a cell.
    """
    cells: dict[tuple[int, int], Group] = defaultdict(Group)
    scale = 256.0 * 2.0**zoom / cell_px
    for one in devices:
        if one.place is not None and window.holds(one.place):
            x, y = _mercator(one.place)
            cells[int(x * scale), int(y * scale)].devices.append(one)
    return list(cells.values())


def _mercator(place: Place) -> tuple[float, float]:
    """Return a place on the square of web maps, 0 to 1 from the west and from the north."""
    latitude = math.radians(max(-_LARGEST_LATITUDE, min(_LARGEST_LATITUDE, place.latitude)))
    return (place.longitude + 180.0) / 360.0, 0.5 - math.asinh(math.tan(latitude)) / (2.0 * math.pi)
