"""What people did about incidents, in the database: each entry is kept, none is changed.

An incident is named by one of its alerts (`incidents`), and two may turn out to be one: whoever asks gives all of its
alerts, and gets the entries of both.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, func, insert, select

from base_station import tables
from base_station.store import LARGEST_PAGE, Store

ACKNOWLEDGED = "acknowledged"
ASSIGNED = "assigned"
NOTED = "noted"
ACTIONS = (ACKNOWLEDGED, ASSIGNED, NOTED)
LONGEST_NOTE = 500
LONGEST_NAME = 63


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One thing that somebody did about an incident."""

    incident_id: str
    """As the incident was named then."""
    at_utc: datetime
    """Station time."""
    who: str
    action: str
    """`acknowledged`: somebody has seen it; `assigned`: somebody goes; `noted`: a remark."""
    assignee: str = ""
    """Who goes; only with `assigned`, and empty where it is taken back."""
    note: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stand:
    """How far people are with an incident."""

    acknowledged: Entry | None = None
    """The first."""
    assigned: Entry | None = None
    """The latest, unless it was taken back."""


class IncidentLog:
    """The log in the database."""

    def __init__(self, store: Store) -> None:
        """Take the station's database."""
        self._database = store.database

    def add(self, entry: Entry) -> bool:
        """Keep an entry; return False if there is no alert of that id."""
        with self._database.write() as connection:
            known = select(tables.alerts.c.seq).where(tables.alerts.c.alert_id == entry.incident_id)
            if connection.execute(known).scalar_one_or_none() is None:
                return False
            values = {name: getattr(entry, name) for name in Entry.__dataclass_fields__}
            connection.execute(insert(tables.incident_log).values(**values))
        return True

    def of(self, alert_ids: Collection[str]) -> list[Entry]:
        """Return the entries of incidents that are named by any of these alerts, the oldest first."""
        table, ids = tables.incident_log, list(alert_ids)
        found: list[Row[Any]] = []
        for begin in range(0, len(ids), LARGEST_PAGE):  # SQLite bounds the variables of a statement
            query = select(table).where(table.c.incident_id.in_(ids[begin : begin + LARGEST_PAGE]))
            with self._database.read() as connection:
                found += connection.execute(query).all()
        return [
            Entry(**{name: getattr(row, name) for name in Entry.__dataclass_fields__})
            for row in sorted(found, key=lambda row: row.seq)
        ]

    def marker(self) -> int:
        """Return a number that rises with every entry."""
        with self._database.read() as connection:
            return int(connection.execute(select(func.max(tables.incident_log.c.seq))).scalar_one() or 0)


def stand(entries: Sequence[Entry]) -> Stand:
    """Return what the entries of one incident, the oldest first, come to."""
    acknowledged = next((entry for entry in entries if entry.action == ACKNOWLEDGED), None)
    assigned = next((entry for entry in reversed(entries) if entry.action == ASSIGNED), None)
    return Stand(acknowledged=acknowledged, assigned=assigned if assigned is not None and assigned.assignee else None)
