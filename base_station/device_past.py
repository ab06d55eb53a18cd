"""What one device was like over days: charge, heat, level, hearing and uptime, and when it did not hear and why.

A month comes from the hours (`hours`), one row each; the last day from its heartbeats themselves, as far as they reach.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import select

from agent.alert import Heartbeat
from base_station import hours, tables
from base_station.contacts import HEARTBEATS_PER_DEVICE
from base_station.gaps import Gap, gaps_of
from base_station.hours import HOUR, DeviceHour
from base_station.store import Device, Store

DAYS = (1, 7, 30)
"""Spans to choose from."""
BY_BEATS = 1
"""Up to so many days are drawn from heartbeats."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """What a device was like at one moment, or in the hour around it; None where it did not say."""

    at_utc: datetime
    level_dbfs: float
    percent: float | None
    """Charge; mean of the hour."""
    celsius: float | None
    """Of an hour the highest."""
    heard: float | None
    """Share of the time that was meant for listening, 0 to 1."""
    uptime_s: float | None
    """How long the agent had run; at the end of the hour."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DevicePast:
    """Some days of one device."""

    since: datetime
    points: tuple[Point, ...]
    """In order."""
    gaps: tuple[Gap, ...]
    """The latest first."""


def past_of(store: Store, device: Device, days: int, now: datetime) -> DevicePast:
    """Return the last days of a device: at most 721 hours and, for one day, as many heartbeats as are kept."""
    since = now - timedelta(days=days)
    whole = since.replace(minute=0, second=0, microsecond=0)
    past = hours.between(store.database, device.device_id, whole, now + HOUR)
    gaps = gaps_of(store, device, past, since, now)
    beats = _beats(store, device.device_id, since) if days <= BY_BEATS else []
    first = beats[0].at_utc if beats else None
    older = [_of_hour(hour) for hour in past if hour.ends_utc >= since and (first is None or hour.ends_utc < first)]
    return DevicePast(since=since, points=(*older, *beats), gaps=tuple(gaps))


def _of_hour(hour: DeviceHour) -> Point:
    return Point(
        at_utc=hour.begins_utc + (hour.ends_utc - hour.begins_utc) / 2,
        level_dbfs=hour.level_dbfs,
        percent=hour.percent,
        celsius=hour.most_c,
        heard=hour.heard,
        uptime_s=hour.uptime_s,
    )


def _beats(store: Store, device_id: str, since: datetime) -> Sequence[Point]:
    table = tables.heartbeats.c
    newest = (
        select(table.received_utc, table.body)
        .where(table.device_id == device_id)
        .order_by(table.seq.desc())
        .limit(HEARTBEATS_PER_DEVICE)
    )
    with store.database.read() as connection:
        rows = connection.execute(newest).all()
    points = []
    for row in reversed(rows):
        if row.received_utc < since:
            continue
        beat = Heartbeat.from_json(row.body.encode())
        points.append(
            Point(
                at_utc=row.received_utc,
                level_dbfs=beat.level_dbfs,
                percent=beat.battery.percent if beat.battery else None,
                celsius=beat.battery.temperature_c if beat.battery else None,
                heard=min(1.0, beat.audio_per_wall),
                uptime_s=beat.uptime_s,
            )
        )
    return points
