"""What is let go when the station has kept it long enough, or has no room.

Files of journals go first, then pictures and sounds, then alerts.

What a person has judged is kept, for it teaches the next model, and what people acted on, for it is their record.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Select, delete, select, text, update

from agent.errors import ConfigError
from base_station import tables
from base_station.database import Database
from base_station.tallies import forget

_FILES_AT_A_TIME = 20
_AT_A_TIME = 200
"""Alerts in one transaction, so that no device waits long for its receipt."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Retention:
    """How long and how much; None is for ever, and as much as there is."""

    alert_days: float | None = None
    """Whole alerts go when they are older."""
    picture_days: float | None = None
    """Their pictures and sounds go when they are older; the alerts stay."""
    journal_days: float | None = None
    """Files of journals go when they came longer ago; their events stay."""
    megabytes: float | None = None
    """Journals, then pictures, then alerts, go from the oldest on while the database holds more."""

    def __post_init__(self) -> None:
        """Refuse what would empty the station."""
        for name, least in (("alert_days", 1.0), ("picture_days", 1.0), ("journal_days", 1.0), ("megabytes", 0.01)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ConfigError(f"retention.{name}: is {value:g}, expected at least {least:g}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Removed:
    """What was let go."""

    alerts: int
    pictures: int
    journals: int = 0
    """Files of journals."""


def prune(database: Database, retention: Retention, now_utc: datetime) -> Removed:
    """Let go what need not be kept any more, the oldest first, in many small transactions."""
    alerts = pictures = journals = 0
    if retention.journal_days is not None:
        journals += _drop_journals(database, now_utc - timedelta(days=retention.journal_days))
    if retention.picture_days is not None:
        pictures += _drop_pictures(database, now_utc - timedelta(days=retention.picture_days))
    if retention.alert_days is not None:
        alerts += _drop_alerts(database, now_utc - timedelta(days=retention.alert_days))
    if retention.megabytes is not None:
        most = int(retention.megabytes * 1e6)
        while held_bytes(database) > most and (some := _drop_journals(database, None, most=_FILES_AT_A_TIME)):
            journals += some
        while held_bytes(database) > most and (some := _drop_pictures(database, None, most=_AT_A_TIME)):
            pictures += some
        while held_bytes(database) > most and (some := _drop_alerts(database, None, most=_AT_A_TIME)):
            alerts += some
    return Removed(alerts=alerts, pictures=pictures, journals=journals)


def held_bytes(database: Database) -> int:
    """Return the bytes that rows take; what was freed and waits to be used again is not counted."""
    with database.read() as connection:
        if database.is_sqlite:
            pages, free, size = (
                connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
                for name in ("page_count", "freelist_count", "page_size")
            )
            return int((pages - free) * size)
        rows = "SELECT coalesce(sum(pg_column_size(t.*)), 0) FROM {} t"
        return sum(
            int(connection.execute(text(rows.format(name))).scalar_one())
            for name in ("alerts", "revisions", "blobs", "journal_files")
        )


def disk_bytes(database: Database) -> int:
    """Return the bytes that the database takes, with what was freed where PostgreSQL holds it: this costs nothing."""
    if database.is_sqlite:
        return held_bytes(database)
    with database.read() as connection:
        return int(connection.execute(text("SELECT pg_database_size(current_database())")).scalar_one())


def _drop_journals(database: Database, before: datetime | None, most: int | None = None) -> int:
    table, total = tables.journal_files, 0
    while most is None or total < most:
        with database.write() as connection:
            query = select(table.c.seq).order_by(table.c.kept_utc, table.c.seq).limit(_FILES_AT_A_TIME)
            ids = (
                connection.execute(query if before is None else query.where(table.c.kept_utc < before)).scalars().all()
            )
            if not ids:
                break
            connection.execute(delete(table).where(table.c.seq.in_(ids)))
        total += len(ids)
    return total


def _drop_pictures(database: Database, before: datetime | None, most: int | None = None) -> int:
    total = 0
    while most is None or total < most:
        with database.write() as connection:
            carried = select(tables.blobs.c.alert_id).where(tables.blobs.c.alert_id == tables.alerts.c.alert_id)
            doomed = _oldest(before).where(carried.exists())
            ids = connection.execute(doomed).scalars().all()
            if not ids:
                break
            connection.execute(delete(tables.blobs).where(tables.blobs.c.alert_id.in_(ids)))
            connection.execute(
                update(tables.revisions).where(tables.revisions.c.alert_id.in_(ids)).values(has_log_mel=False)
            )
        total += len(ids)
    return total


def _drop_alerts(database: Database, before: datetime | None, most: int | None = None) -> int:
    total = 0
    while most is None or total < most:
        with database.write() as connection:
            ids = connection.execute(_oldest(before)).scalars().all()
            if not ids:
                break
            for table in (tables.blobs, tables.revisions, tables.alerts):
                connection.execute(delete(table).where(table.c.alert_id.in_(ids)))
            forget(connection)
        total += len(ids)
    return total


def _oldest(before: datetime | None) -> Select[str]:
    """Return the query for the oldest arrivals that may go."""
    judged = select(tables.verdicts.c.seq).where(tables.verdicts.c.alert_id == tables.alerts.c.alert_id)
    acted_on = select(tables.incident_log.c.seq).where(tables.incident_log.c.incident_id == tables.alerts.c.alert_id)
    query = select(tables.alerts.c.alert_id).where(~judged.exists(), ~acted_on.exists())
    query = query.order_by(tables.alerts.c.seq).limit(_AT_A_TIME)
    return query if before is None else query.where(tables.alerts.c.received_utc < before)
