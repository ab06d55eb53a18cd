"""Conditions with their begin and end, in the database: what holds now, and what held when."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import Row, delete, insert, select, update

from base_station import tables
from base_station.database import Database
from base_station.deadman import Condition, Hour, Key, Watched
from base_station.store import Store

HOURS_KEPT = timedelta(days=30)

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

    def record(self, made: Changes, now_utc: datetime) -> None:
        """Write down what changed."""
        table = tables.conditions
        with self._database.write() as connection:
            if made.begun:
                connection.execute(insert(table), [_row(condition, now_utc) for condition in made.begun])
            for spell, condition in [*made.returned, *made.going_on]:
                back = int(spell.end_utc is not None)
                values = {
                    "end_utc": None,
                    "seen_utc": now_utc,
                    "returns": spell.returns + back,
                    "detail": condition.detail[:300],
                    "devices": json.dumps(condition.devices),
                }
                connection.execute(update(table).where(table.c.seq == spell.seq).values(**values))
            for spell in made.ended:
                connection.execute(update(table).where(table.c.seq == spell.seq).values(end_utc=now_utc))

    def _spells(self, which: object) -> list[Spell]:
        query = select(tables.conditions).where(which).order_by(tables.conditions.c.seq)  # type: ignore[arg-type]
        with self._database.read() as connection:
            return [_spell(row) for row in connection.execute(query)]


def watched(store: Store, now_utc: datetime) -> list[Watched]:
    """Return all devices with what is known of their past."""
    hours: dict[str, list[Hour]] = {}
    hour = tables.hours
    with store.database.read() as connection:
        for row in connection.execute(select(hour).where(hour.c.begin_utc >= now_utc - HOURS_KEPT)):
            level = row.level_sum / row.n_beats
            hours.setdefault(row.device_id, []).append(
                Hour(begin_utc=row.begin_utc, level_dbfs=level, n_beats=row.n_beats)
            )
        contact = tables.contacts.c
        models = connection.execute(select(contact.device_id, contact.model_since_utc))
        since = {row.device_id: row.model_since_utc for row in models}
    return [
        Watched(
            device=device,
            interval_s=_interval_s(hours.get(device.device_id, ())),
            hours=hours.get(device.device_id, ()),
            model_since_utc=since.get(device.device_id),
        )
        for device in store.devices()
    ]


def forget_hours(database: Database, now_utc: datetime) -> None:
    """Let go hours that are no use any more."""
    with database.write() as connection:
        connection.execute(delete(tables.hours).where(tables.hours.c.begin_utc < now_utc - HOURS_KEPT))


def _interval_s(hours: Sequence[Hour]) -> float:
    """Return the usual time between calls: by the day's hour with the most of them, which no outage thinned."""
    first, *later = sorted(hours, key=lambda hour: hour.begin_utc)[-25:] or (None,)
    del first  # it began somewhere in the middle
    return 3600.0 / max((hour.n_beats for hour in later), default=_BEATS_AN_HOUR)


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
