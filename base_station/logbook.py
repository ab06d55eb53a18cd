"""Whose field logs are kept: one entry a device, with the span that they cover and the alerts that never arrived."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select

from base_station import tables
from base_station.fieldlog import ALERT
from base_station.store import Store


@dataclass(frozen=True, kw_only=True, slots=True)
class KeptLog:
    """All files of journals that are kept of one device."""

    device_id: str
    first_utc: datetime | None
    """Of the first line of which anybody knows when it was."""
    last_utc: datetime | None
    n_files: int
    n_undated: int
    """Files of which nobody knows when they were written."""
    n_windows: int
    n_bytes: int
    """Unpacked."""
    imported_utc: datetime
    """When the last of them came."""
    never_arrived: int
    """Alerts that it tells of and that are not here; those of undated files are among them."""


def kept_logs(store: Store, *, limit: int, device_id: str | None = None) -> list[KeptLog]:
    """Return whose logs are kept, the last that came first.

    Args:
        store: the database.
        limit: at most so many devices.
        device_id: only this device's.
    """
    table = tables.journal_files
    latest = func.max(table.c.kept_utc).label("imported_utc")
    query = (
        select(
            table.c.device_id,
            func.min(table.c.first_utc).label("first_utc"),
            func.max(table.c.last_utc).label("last_utc"),
            func.count().label("n_files"),
            (func.count() - func.count(table.c.first_utc)).label("n_undated"),
            func.sum(table.c.n_windows).label("n_windows"),
            func.sum(table.c.n_bytes).label("n_bytes"),
            latest,
        )
        .group_by(table.c.device_id)
        .order_by(latest.desc(), table.c.device_id)
        .limit(limit)
    )
    if device_id is not None:
        query = query.where(table.c.device_id == device_id)
    with store.database.read() as connection:
        rows = connection.execute(query).all()
    missing = never_arrived(store, [row.device_id for row in rows])
    return [
        KeptLog(
            device_id=row.device_id,
            first_utc=row.first_utc,
            last_utc=row.last_utc,
            n_files=row.n_files,
            n_undated=row.n_undated,
            n_windows=int(row.n_windows),
            n_bytes=int(row.n_bytes),
            imported_utc=row.imported_utc,
            never_arrived=missing.get(row.device_id, 0),
        )
        for row in rows
    ]


def never_arrived(store: Store, device_ids: Sequence[str]) -> dict[str, int]:
    """Return of each device how many alerts its logs tell of that are not here; a device with none is left out."""
    events, alerts = tables.field_events, tables.alerts
    query = (
        select(events.c.device_id, func.count(events.c.alert_id.distinct()))
        .outerjoin(alerts, alerts.c.alert_id == events.c.alert_id)
        .where(events.c.device_id.in_(device_ids), events.c.kind == ALERT, events.c.alert_id.is_not(None))
        .where(alerts.c.seq.is_(None))
        .group_by(events.c.device_id)
    )
    with store.database.read() as connection:
        return {str(device_id): int(count) for device_id, count in connection.execute(query)}
