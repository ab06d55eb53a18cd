"""Journals brought home on a card: their events with times as good as can be had, and the alerts that never arrived.

Reading goes through `agent.journal`. An event is known by what it says, so that importing a card twice, or again after
the device wrote on, changes nothing and loses nothing. The files themselves are kept (`shelf`).
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from sqlalchemy import func, select
from sqlalchemy.dialects import postgresql, sqlite

from agent import journal
from agent.alert import Heartbeat
from agent.errors import ConfigError, FieldError
from base_station import shelf, tables
from base_station.clockpairs import NONE, ClockPairs
from base_station.store import Store

ALERT = "alert"
_LONGEST_FIELDS = 4000
_AT_A_TIME = 500
_DEEPEST = 6


@dataclass(frozen=True, kw_only=True, slots=True)
class Imported:
    """What one journal folder brought."""

    folder: Path
    device_id: str
    """Empty where the journal names none."""
    problem: str = ""
    """Why nothing was taken; empty if it was."""
    events: int = 0
    new: int = 0
    minutes: int = 0
    windows: int = 0
    damaged: int = 0
    """Lines that could not be read."""
    damage: tuple[str, ...] = ()
    """Where the first of them are, and what is wrong: `journal-00000003.jsonl:17: ...`."""
    segments: int = 0
    """Files of the journal, which are kept whole."""
    new_segments: int = 0
    """Of these so many were not here, or are longer now."""
    undated: int = 0
    """Events of which nobody knows when they were."""
    alerts: int = 0
    never_arrived: int = 0
    first_utc: datetime | None = None
    last_utc: datetime | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class FieldEvent:
    """One event of a journal."""

    seq: int
    device_id: str
    run: str
    kind: str
    at_utc: datetime | None
    dated: str
    """`device`, `station`, `guess` or `none`: what the time goes by."""
    alert_id: str | None
    arrived: bool
    """Of an alert: whether it is here; it may still come."""
    fields: dict[str, object]


def journals(folder: Path) -> list[Path]:
    """Return the folders below one, itself among them, that hold a journal; links are not followed.

    Raises:
        ConfigError: there is no such folder, or no journal in it.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder}: is no folder; name the card, or the folder with journal-*.jsonl in it")
    found = [at for at in _folders(folder, _DEEPEST) if any(_is_segment(path) for path in at.iterdir())]
    if not found:
        raise ConfigError(f"{folder}: holds no journal; expected files journal-*.jsonl or .jsonl.gz in it or below")
    return found


def _folders(folder: Path, deeper: int) -> Iterator[Path]:
    yield folder
    if deeper:
        for below in sorted(folder.iterdir()):
            if below.is_dir() and not below.is_symlink():
                yield from _folders(below, deeper - 1)


def _is_segment(path: Path) -> bool:
    return path.name.startswith("journal-") and path.name.endswith((".jsonl", ".jsonl.gz")) and not path.is_symlink()


def import_journal(store: Store, folder: Path, now_utc: datetime) -> Imported:
    """Take the events of one journal.

    Args:
        store: the database; it must know the device.
        folder: with the segments.
        now_utc: station time.
    """
    if any(path.is_symlink() for path in folder.glob("journal-*")):
        return Imported(folder=folder, device_id="", problem="holds links instead of files; copy the files themselves")
    if too_large := shelf.oversize(folder):
        problem = f"{too_large} unpacks to more than {shelf.LARGEST_SEGMENT_BYTES} bytes, and is no agent's"
        return Imported(folder=folder, device_id="", problem=problem)
    card = _read(folder)
    devices = card.devices
    device_id = next(iter(devices)) if len(devices) == 1 else ""
    if problem := _problem(store, devices):
        return Imported(folder=folder, device_id=device_id, problem=problem, damaged=card.damaged, damage=card.damage)
    _add_station_pairs(store, device_id, card.pairs)
    rows = [_row(line, device_id, card.pairs, now_utc) for line in card.events]
    new = _insert(store, rows)
    segments, new_segments = shelf.shelve(store, folder, device_id, card.extents, card.pairs, now_utc)
    times = sorted(row["at_utc"] for row in rows if isinstance(row["at_utc"], datetime))
    alerts = sorted({str(row["alert_id"]) for row in rows if row["alert_id"] is not None})
    return Imported(
        folder=folder,
        device_id=device_id,
        events=len(rows),
        new=new,
        minutes=card.minutes,
        windows=card.windows,
        damaged=card.damaged,
        damage=card.damage,
        segments=segments,
        new_segments=new_segments,
        undated=sum(row["dated"] == NONE for row in rows),
        alerts=len(alerts),
        never_arrived=len(alerts) - len(store.events_of(alerts)),
        first_utc=times[0] if times else None,
        last_utc=times[-1] if times else None,
    )


@dataclass(slots=True)
class _Card:
    """What was read of one journal."""

    events: list[journal.Line] = field(default_factory=list)
    pairs: ClockPairs = field(default_factory=ClockPairs)
    extents: shelf.Extents = field(default_factory=shelf.Extents)
    devices: set[str] = field(default_factory=set)
    minutes: int = 0
    windows: int = 0
    damaged: int = 0
    damage: tuple[str, ...] = ()


def _read(folder: Path) -> _Card:
    reading, card = journal.read(folder), _Card()
    for line in reading:
        card.pairs.add_clocks([line.clock])
        card.extents.add(line)
        if line.segment.device_id:
            card.devices.add(line.segment.device_id)
        card.minutes += line.kind == "minute"
        card.windows += len(line.windows)
        if line.kind == "event":
            card.events.append(line)
    card.damaged, card.damage = reading.skipped, tuple(reading.damage)
    return card


def _problem(store: Store, devices: set[str]) -> str:
    if not devices:
        return "nothing in it names a device"
    if len(devices) > 1:
        return f"is of several devices ({', '.join(sorted(devices))[:200]}); give each a folder of its own"
    name = next(iter(devices))
    if store.device(name) is None:
        return f"is of {name[:63]!r}, which this station does not know; `device add` it first"
    return ""


def _add_station_pairs(store: Store, device_id: str, pairs: ClockPairs) -> None:
    """Tie the device's clock to the station's by its heartbeats, which arrive as they are made."""
    table = tables.heartbeats
    query = select(table.c.received_utc, table.c.body).where(table.c.device_id == device_id)
    with store.database.read() as connection:
        rows = connection.execute(query).all()
    for row in rows:
        try:
            clock = Heartbeat.from_json(row.body.encode()).clock
        except FieldError:
            continue
        pairs.add(clock.boot_id, clock.monotonic_s, row.received_utc, "station")


def _row(line: journal.Line, device_id: str, pairs: ClockPairs, now_utc: datetime) -> dict[str, object]:
    at_utc, dated = pairs.when(line.segment.boot_id, line.clock.monotonic_s)
    fields = json.dumps(line.fields, sort_keys=True, default=str)[:_LONGEST_FIELDS]
    known = json.dumps([device_id, line.segment.run, line.segment.number, line.clock.monotonic_s, line.event, fields])
    alert_id = line.fields.get("alert_id") if line.event == ALERT else None
    return {
        "digest": hashlib.sha256(known.encode()).digest()[:16],
        "device_id": device_id,
        "run": line.segment.run[:32],
        "kind": line.event,
        "at_utc": at_utc,
        "dated": dated,
        "alert_id": alert_id if isinstance(alert_id, str) and len(alert_id) <= 36 else None,
        "fields": fields,
        "imported_utc": now_utc,
    }


def _insert(store: Store, rows: Sequence[dict[str, object]]) -> int:
    """Keep what is new; a better time for what is known replaces the worse one."""
    table = tables.field_events
    upsert = sqlite.insert if store.database.is_sqlite else postgresql.insert
    before = _count(store)
    for begin in range(0, len(rows), _AT_A_TIME):
        with store.database.write() as connection:
            for row in rows[begin : begin + _AT_A_TIME]:
                one = upsert(table).values(**row)
                better = {"at_utc": one.excluded.at_utc, "dated": one.excluded.dated}
                connection.execute(
                    one.on_conflict_do_update(
                        index_elements=[table.c.digest], set_=better, where=one.excluded.dated != NONE
                    )
                )
    return _count(store) - before


def _count(store: Store) -> int:
    with store.database.read() as connection:
        return int(connection.execute(select(func.count()).select_from(tables.field_events)).scalar_one())


def field_events(
    store: Store, *, before: int | None, limit: int, device_id: str | None, missing: bool
) -> list[FieldEvent]:
    """Return events of journals, the last imported first.

    Args:
        store: the database.
        before: only those imported before this `seq`.
        limit: at most so many.
        device_id: only of this device.
        missing: only alerts that are not here.
    """
    table, alerts = tables.field_events, tables.alerts
    arrived = alerts.c.seq.is_not(None)
    query = (
        select(table, arrived.label("arrived"))
        .outerjoin(alerts, alerts.c.alert_id == table.c.alert_id)
        .order_by(table.c.seq.desc())
        .limit(limit)
    )
    if before is not None:
        query = query.where(table.c.seq < before)
    if device_id is not None:
        query = query.where(table.c.device_id == device_id)
    if missing:
        query = query.where(table.c.kind == ALERT, table.c.alert_id.is_not(None), alerts.c.seq.is_(None))
    with store.database.read() as connection:
        return [
            FieldEvent(
                seq=row.seq,
                device_id=row.device_id,
                run=row.run,
                kind=row.kind,
                at_utc=row.at_utc,
                dated=row.dated,
                alert_id=row.alert_id,
                arrived=bool(row.arrived),
                fields=_fields(row.fields),
            )
            for row in connection.execute(query)
        ]


def _fields(text: str) -> dict[str, object]:
    try:
        fields = json.loads(text)
    except ValueError:  # it was longer than what is kept
        return {"text": text}
    return fields if isinstance(fields, dict) else {}
