"""Conditions with their begin and end, in the database: what holds now, and what held when."""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TypeVar

from sqlalchemy import Connection, Row, bindparam, delete, func, insert, or_, select, update

from base_station import tables
from base_station.database import Database
from base_station.deadman import Condition, Hour, Key, Watched
from base_station.store import KnownBeats, Store

_T = TypeVar("_T")

_TOGETHER = "link"
"""The condition that is about several devices."""
HOURS_KEPT = timedelta(days=30)
_AT_A_TIME = 500
"""Rows in one transaction."""
_SEEN_EVERY = timedelta(minutes=1)
"""How exactly it is known until when a condition was there, should the station die."""
_BEATS_AN_HOUR = 12
"""Of a device that is new: one in five minutes, as agents do unless they are told otherwise."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Spell:
    """One condition from its begin to its end."""

    seq: int
    subject: str
    name: str
    begin_utc: datetime
    end_utc: datetime | None
    """None while it holds."""
    seen_utc: datetime
    """When it was last found."""
    returns: int
    """How often it came back within the cooldown."""
    detail: str
    devices: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Changes:
    """What is new since the last look."""

    begun: list[Condition] = field(default_factory=list)
    """To be told."""
    returned: list[tuple[Spell, Condition]] = field(default_factory=list)
    """Back within the cooldown: they go on, and nobody is told again."""
    going_on: list[tuple[Spell, Condition]] = field(default_factory=list)
    ended: list[Spell] = field(default_factory=list)


def changes(
    holding: Sequence[Spell], lately: Sequence[Spell], found: Sequence[Condition], now_utc: datetime, cooldown_s: float
) -> Changes:
    """Return what has begun, returned, gone on and ended; a pure function.

    Args:
        holding: conditions without an end.
        lately: conditions that ended not long ago.
        found: what is wrong now.
        now_utc: station time.
        cooldown_s: for how long after its end a condition that is found again goes on.
    """
    open_: dict[Key, Spell] = {(spell.subject, spell.name): spell for spell in holding}
    shut: dict[Key, Spell] = {}
    for spell in sorted(lately, key=lambda spell: spell.seq):
        if spell.end_utc is not None and (now_utc - spell.end_utc).total_seconds() <= cooldown_s:
            shut[spell.subject, spell.name] = spell
    result = Changes()
    for condition in found:
        key = (condition.subject, condition.name)
        if key in open_:
            result.going_on.append((open_.pop(key), condition))
        elif key in shut:
            result.returned.append((shut[key], condition))
        else:
            result.begun.append(condition)
    result.ended.extend(open_.values())
    return result


class ConditionLog:
    """The conditions in the database."""

    def __init__(self, database: Database) -> None:
        """Take the station's database."""
        self._database = database

    def holding(self) -> list[Spell]:
        """Return what has no end yet, the oldest first."""
        return self._spells(tables.conditions.c.end_utc.is_(None))

    def ended_since(self, since: datetime) -> list[Spell]:
        """Return what ended since then."""
        return self._spells(tables.conditions.c.end_utc >= since)

    def listed(self, *, before: int | None, limit: int, holding: bool, subject: str | None = None) -> list[Spell]:
        """Return conditions, the latest begun first."""
        table = tables.conditions
        query = select(table).order_by(table.c.seq.desc()).limit(limit)
        if before is not None:
            query = query.where(table.c.seq < before)
        if holding:
            query = query.where(table.c.end_utc.is_(None))
        if subject is not None:
            query = query.where(table.c.subject == subject)
        with self._database.read() as connection:
            return [_spell(row) for row in connection.execute(query)]

    def touching(self, device_id: str, since: datetime, limit: int) -> list[Spell]:
        """Return a device's conditions that held at some time since then, the latest begun first.

        Those of several devices at once are among them, whichever of the devices they are kept under.
        """
        table = tables.conditions
        lasting = or_(table.c.end_utc.is_(None), table.c.end_utc >= since)
        newest = select(table).where(lasting).order_by(table.c.seq.desc()).limit(limit)
        alone = newest.where(table.c.subject == device_id)
        together = newest.where(table.c.name == _TOGETHER, table.c.devices.contains(f'"{device_id}"', autoescape=True))
        with self._database.read() as connection:
            rows = [*connection.execute(alone), *connection.execute(together)]
        spells = {row.seq: _spell(row) for row in rows}
        return [spells[seq] for seq in sorted(spells, reverse=True)]

    def held_between(self, since: datetime, until: datetime, subjects: Collection[str], most: int) -> list[Spell]:
        """Return what held at some time of a span, the latest begun first.

        Args:
            since: begin of the span.
            until: its end.
            subjects: of these devices; and of links, which are about several.
            most: conditions.
        """
        table = tables.conditions
        query = (
            select(table)
            .where(
                table.c.begin_utc <= until,
                or_(table.c.end_utc.is_(None), table.c.end_utc >= since),
                or_(table.c.subject.in_(subjects), table.c.name == _TOGETHER),
            )
            .order_by(table.c.seq.desc())
            .limit(most)
        )
        with self._database.read() as connection:
            return [_spell(row) for row in connection.execute(query)]

    def record(self, made: Changes, now_utc: datetime) -> None:
        """Write down what changed, in small transactions: devices wait for their receipts meanwhile."""
        table = tables.conditions
        for some in _parts(made.begun):
            with self._database.write() as connection:
                connection.execute(insert(table), [_row(condition, now_utc) for condition in some])
        going_on = [(spell, condition) for spell, condition in made.going_on if _is_news(spell, condition, now_utc)]
        for pairs in _parts([*made.returned, *going_on]):
            values = [
                {
                    "its_seq": spell.seq,
                    "end_utc": None,
                    "seen_utc": now_utc,
                    "returns": spell.returns + int(spell.end_utc is not None),
                    "detail": condition.detail[:300],
                    "devices": json.dumps(condition.devices),
                }
                for spell, condition in pairs
            ]
            with self._database.write() as connection:
                connection.execute(update(table).where(table.c.seq == bindparam("its_seq")), values)
        for ended in _parts(made.ended):
            with self._database.write() as connection:
                seqs = [spell.seq for spell in ended]
                connection.execute(update(table).where(table.c.seq.in_(seqs)).values(end_utc=now_utc))

    def _spells(self, which: object) -> list[Spell]:
        query = select(tables.conditions).where(which).order_by(tables.conditions.c.seq)  # type: ignore[arg-type]
        with self._database.read() as connection:
            return [_spell(row) for row in connection.execute(query)]


class Past:
    """What the hours behind tell of devices; read once an hour, since there are thirty days of them for each device."""

    def __init__(self, database: Database) -> None:
        """Take the station's database."""
        self._database = database
        self._hour: datetime | None = None
        self._hours: Mapping[str, Sequence[Hour]] = {}
        self._beats: Mapping[str, int] = {}

    def look(self, now_utc: datetime) -> None:
        """Bring it up to date."""
        hour = now_utc.replace(minute=0, second=0, microsecond=0)
        if hour != self._hour:
            with self._database.read() as connection:
                self._hours, self._beats = _compared(connection, hour), _busiest(connection, hour)
            self._hour = hour

    def hours(self, device_id: str) -> Sequence[Hour]:
        """Return the hours that ended last, and the same hours of the days before."""
        return self._hours.get(device_id, ())

    def interval_s(self, device_id: str) -> float:
        """Return the usual time between calls: by the day's hour with the most of them, which no outage thinned."""
        return 3600.0 / self._beats.get(device_id, _BEATS_AN_HOUR)


def _compared(connection: Connection, hour: datetime) -> Mapping[str, Sequence[Hour]]:
    """Return by device the two hours before `hour`, and the same ones of every day that is kept."""
    table = tables.hours
    days = range(HOURS_KEPT.days)
    begins = [hour - timedelta(days=day, hours=back) for day in days for back in (1, 2)]
    found: dict[str, list[Hour]] = {}
    columns = table.c.device_id, table.c.begin_utc, table.c.n_beats, table.c.level_sum
    for row in connection.execute(select(*columns).where(table.c.begin_utc.in_(begins))):
        level = row.level_sum / row.n_beats
        found.setdefault(row.device_id, []).append(Hour(begin_utc=row.begin_utc, level_dbfs=level, n_beats=row.n_beats))
    return found


def _busiest(connection: Connection, hour: datetime) -> Mapping[str, int]:
    """Return by device the most calls in one hour of the last day; its first hour began somewhere in the middle."""
    table, earlier = tables.hours, tables.hours.alias()
    day = table.c.begin_utc.between(hour - timedelta(days=1), hour)
    before = select(earlier.c.n_beats).where(
        earlier.c.device_id == table.c.device_id, earlier.c.begin_utc < table.c.begin_utc
    )
    query = select(table.c.device_id, func.max(table.c.n_beats)).where(day, before.exists()).group_by(table.c.device_id)
    return {row[0]: row[1] for row in connection.execute(query)}


class Census:
    """All devices with what is known of their past, again and again."""

    def __init__(self, store: Store) -> None:
        """Take the database; what it remembers of it spares work, and another process needs none of it."""
        self._store = store
        self._past = Past(store.database)
        self._beats: KnownBeats = {}

    def take(self, now_utc: datetime) -> list[Watched]:
        """Return them as they are now."""
        self._past.look(now_utc)
        contact = tables.contacts.c
        with self._store.database.read() as connection:
            models = connection.execute(select(contact.device_id, contact.model_since_utc))
            since = {row.device_id: row.model_since_utc for row in models}
        return [
            Watched(
                device=device,
                interval_s=self._past.interval_s(device.device_id),
                hours=self._past.hours(device.device_id),
                model_since_utc=since.get(device.device_id),
            )
            for device in self._store.devices(known=self._beats)
        ]


def forget_hours(database: Database, now_utc: datetime) -> None:
    """Let go hours that are no use any more."""
    with database.write() as connection:
        connection.execute(delete(tables.hours).where(tables.hours.c.begin_utc < now_utc - HOURS_KEPT))


def _is_news(spell: Spell, condition: Condition, now_utc: datetime) -> bool:
    """Say whether a condition that goes on has anything new to write down."""
    told = condition.detail[:300], condition.devices
    return (spell.detail, spell.devices) != told or now_utc - spell.seen_utc >= _SEEN_EVERY


def _parts(things: Sequence[_T]) -> Iterator[Sequence[_T]]:
    for begin in range(0, len(things), _AT_A_TIME):
        yield things[begin : begin + _AT_A_TIME]


def _row(condition: Condition, now_utc: datetime) -> dict[str, object]:
    return {
        "subject": condition.subject,
        "name": condition.name,
        "begin_utc": condition.since_utc,
        "end_utc": None,
        "seen_utc": now_utc,
        "returns": 0,
        "detail": condition.detail[:300],
        "devices": json.dumps(condition.devices),
    }


def _spell(row: Row[tuple[object, ...]]) -> Spell:
    return Spell(
        seq=row.seq,
        subject=row.subject,
        name=row.name,
        begin_utc=row.begin_utc,
        end_utc=row.end_utc,
        seen_utc=row.seen_utc,
        returns=row.returns,
        detail=row.detail,
        devices=tuple(json.loads(row.devices)),
    )
