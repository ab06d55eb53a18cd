"""The thin history of every device: one row for each hour in which it called, kept for thirty days.

Heartbeats themselves are let go after some hundreds; what charts, gaps and conditions need of older ones is summed up
here when they arrive, in the transaction that keeps them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, Table, case, func, or_, select
from sqlalchemy.dialects import postgresql, sqlite

from agent.alert import Heartbeat
from base_station import tables
from base_station.database import Database

HOUR = timedelta(hours=1)
_LONGEST_RUN_S = 10 * 366 * 86_400.0
"""A device that says it has run for longer is not believed; its start must be a date."""


def _adding(make: Callable[[Table], Any]) -> Any:  # noqa: ANN401  # each dialect has an insert of its own
    """Return the statement that adds a heartbeat to an hour; made once, since to write it costs more than to run it."""
    statement = make(tables.hours)
    old, new = tables.hours.c, statement.excluded
    return statement.on_conflict_do_update(
        index_elements=[old.device_id, old.begin_utc],
        set_={
            "n_beats": old.n_beats + 1,
            "level_sum": old.level_sum + new.level_sum,
            "last_utc": new.last_utc,
            "restarted_utc": new.restarted_utc,
            "heard_sum": old.heard_sum + new.heard_sum,  # an hour that began without it stays without it
            "paused_s": new.paused_s,
            "percent_sum": func.coalesce(old.percent_sum, 0.0) + new.percent_sum,
            "n_percent": func.coalesce(old.n_percent, 0) + new.n_percent,
            "most_c": case((or_(old.most_c.is_(None), new.most_c > old.most_c), new.most_c), else_=old.most_c),
        },
    )


_ADD = {"sqlite": _adding(sqlite.insert), "postgresql": _adding(postgresql.insert)}


@dataclass(frozen=True, kw_only=True, slots=True)
class DeviceHour:
    """What one device was like in one hour; None where an earlier version of station or agent did not write it down."""

    begin_utc: datetime
    n_beats: int
    level_dbfs: float
    """Mean."""
    first_utc: datetime | None = None
    """Of its first heartbeat."""
    last_utc: datetime | None = None
    started_utc: datetime | None = None
    """When the agent had started, by its first heartbeat..."""
    restarted_utc: datetime | None = None
    """...and by its last."""
    start_reason: str = ""
    """How the run before had ended, by its first heartbeat."""
    heard: float | None = None
    """Mean share of the time that was meant for listening, 0 to 1."""
    paused_s: float | None = None
    """Seconds since its start in which the microphone was let go to save power, by its last heartbeat."""
    percent: float | None = None
    """Mean charge."""
    most_c: float | None = None
    """Highest temperature."""

    @property
    def begins_utc(self) -> datetime:
        """Return when it was first heard of."""
        return self.first_utc or self.begin_utc

    @property
    def ends_utc(self) -> datetime:
        """Return when it was last heard of."""
        return self.last_utc or self.begin_utc + HOUR

    @property
    def uptime_s(self) -> float | None:
        """Return for how long the agent had run at its last heartbeat."""
        if self.last_utc is None or self.restarted_utc is None:
            return None
        return max(0.0, (self.last_utc - self.restarted_utc).total_seconds())


def count(connection: Connection, beats: Sequence[tuple[str, datetime, Heartbeat]]) -> None:
    """Add heartbeats to their hours.

    Args:
        connection: a transaction in which the devices' rows were written before, so that nobody else is in between.
        beats: each with its device and when it came.
    """
    connection.execute(_ADD[connection.dialect.name], [_alone(*one) for one in beats])


def _alone(device_id: str, at_utc: datetime, beat: Heartbeat) -> dict[str, object]:
    """Return the hour that has this heartbeat alone."""
    started = at_utc - timedelta(seconds=min(beat.uptime_s, _LONGEST_RUN_S))
    battery = beat.battery
    percent = battery.percent if battery else None
    return {
        "device_id": device_id,
        "begin_utc": at_utc.replace(minute=0, second=0, microsecond=0),
        "n_beats": 1,
        "level_sum": beat.level_dbfs,
        "first_utc": at_utc,
        "last_utc": at_utc,
        "started_utc": started,
        "restarted_utc": started,
        "start_reason": beat.start_reason[:32],
        "heard_sum": min(1.0, beat.audio_per_wall),
        "paused_s": beat.paused_s,
        "percent_sum": percent or 0.0,
        "n_percent": int(percent is not None),
        "most_c": battery.temperature_c if battery else None,
    }


def between(database: Database, device_id: str, since: datetime, until: datetime) -> list[DeviceHour]:
    """Return a device's hours that begin in a span, and the last one before it, in order; 721 rows for 30 days."""
    table = tables.hours.c
    mine = select(tables.hours).where(table.device_id == device_id)
    inside = mine.where(table.begin_utc >= since, table.begin_utc < until).order_by(table.begin_utc)
    before = mine.where(table.begin_utc < since).order_by(table.begin_utc.desc()).limit(1)
    with database.read() as connection:
        rows = [*connection.execute(before), *connection.execute(inside)]
    return [_hour(row) for row in rows]


def anybody_called(database: Database, since: datetime, until: datetime) -> bool | None:
    """Say whether any device called in the whole hours of a span; None where there is no whole hour in it."""
    begin = since.replace(minute=0, second=0, microsecond=0) + HOUR
    end = until.replace(minute=0, second=0, microsecond=0)
    if begin >= end:
        return None
    table = tables.hours.c
    query = select(table.begin_utc).where(table.begin_utc >= begin, table.begin_utc < end).limit(1)
    with database.read() as connection:
        return connection.execute(query).first() is not None


def _hour(row: Row[tuple[object, ...]]) -> DeviceHour:
    return DeviceHour(
        begin_utc=row.begin_utc,
        n_beats=row.n_beats,
        level_dbfs=row.level_sum / row.n_beats,
        first_utc=row.first_utc,
        last_utc=row.last_utc,
        started_utc=row.started_utc,
        restarted_utc=row.restarted_utc,
        start_reason=row.start_reason or "",
        heard=None if row.heard_sum is None else row.heard_sum / row.n_beats,
        paused_s=row.paused_s,
        percent=row.percent_sum / row.n_percent if row.n_percent else None,
        most_c=row.most_c,
    )
