"""Tables for spreadsheets: what people said, what was wrong with devices, how devices were; streamed row by row."""

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, Table, select

from agent.alert import Heartbeat
from agent.errors import FieldError
from base_station import tables
from base_station.inbox import iso
from base_station.store import LARGEST_PAGE, Store

VERDICTS = ("seq", "alert_id", "verdict", "heard", "chosen", "judge", "note", "at_utc")
CONDITIONS = ("seq", "subject", "name", "begin_utc", "end_utc", "seen_utc", "returns", "detail", "devices")
HEARTBEATS = (
    "seq", "device_id", "received_utc", "version", "model_digest", "uptime_s", "audio_per_wall", "windows",
    "classified", "level_dbfs", "queue", "dropped_s", "disk_free_mb", "rss_mb", "battery_percent", "temperature_c",
    "charging", "states",
)  # fmt: skip

Rows = Callable[[Store, datetime | None, datetime | None], Iterator[dict[str, object]]]
"""Yields the rows of a span of time."""

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes for the beginning of one."""


def plain_cells(row: Mapping[str, object]) -> dict[str, object]:
    """Return a row that no spreadsheet takes for a formula: people type names and notes themselves."""
    return {
        key: f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
        for key, value in row.items()
    }


def csv_lines(columns: Sequence[str], rows: Iterator[Mapping[str, object]]) -> Iterator[str]:
    """Yield a CSV file with its head, a row at a time."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns)
    writer.writeheader()
    for row in rows:
        writer.writerow(plain_cells(row))
        yield text.getvalue()
        text.seek(0)
        text.truncate()
    yield text.getvalue()


def verdict_rows(store: Store, since: datetime | None, until: datetime | None) -> Iterator[dict[str, object]]:
    """Yield what people said, the latest first."""
    for row in _rows(store, tables.verdicts, "at_utc", since, until):
        yield _cells(row, VERDICTS)


def condition_rows(store: Store, since: datetime | None, until: datetime | None) -> Iterator[dict[str, object]]:
    """Yield what was wrong with devices, the latest begun first."""
    for row in _rows(store, tables.conditions, "begin_utc", since, until):
        yield _cells(row, CONDITIONS)


def heartbeat_rows(store: Store, since: datetime | None, until: datetime | None) -> Iterator[dict[str, object]]:
    """Yield the heartbeats that are kept, about a day of each device, the latest first."""
    for row in _rows(store, tables.heartbeats, "received_utc", since, until):
        try:
            beat = Heartbeat.from_json(row.body.encode())
        except FieldError:  # of a version that this one no longer reads
            continue
        battery = beat.battery
        yield {
            **{name: getattr(beat, name) for name in HEARTBEATS if hasattr(beat, name)},
            "seq": row.seq,
            "received_utc": iso(row.received_utc),
            "battery_percent": battery.percent if battery else None,
            "temperature_c": battery.temperature_c if battery else None,
            "charging": battery.charging if battery else None,
            "states": " ".join(beat.states),
        }


def _rows(store: Store, table: Table, time: str, since: datetime | None, until: datetime | None) -> Iterator[Row[Any]]:
    """Yield rows from the latest on, a page at a time, so that no transaction stays open while somebody downloads."""
    before: int | None = None
    while True:
        query = select(table).order_by(table.c.seq.desc()).limit(LARGEST_PAGE)
        if before is not None:
            query = query.where(table.c.seq < before)
        if since is not None:
            query = query.where(table.c[time] >= since)
        if until is not None:
            query = query.where(table.c[time] <= until)
        with store.database.read() as connection:
            page = connection.execute(query).all()
        yield from page
        if len(page) < LARGEST_PAGE:
            return
        before = page[-1].seq


def _cells(row: Row[Any], columns: Sequence[str]) -> dict[str, object]:
    values = {name: getattr(row, name) for name in columns}
    return {name: iso(value) if isinstance(value, datetime) else value for name, value in values.items()}
