"""How many alerts there are: counted once, and then only what has come since."""

from collections import Counter
from datetime import datetime, timedelta

from sqlalchemy import Connection, delete, func, insert, select

from base_station import tables
from base_station.database import Database

SETTLED = timedelta(minutes=10)
"""Older alerts are all here: numbers are given before a commit, and a later one may be on disk first."""

Tally = tuple[str, bool]
"""A label, and whether they are drills."""


def counts(database: Database) -> Counter[Tally]:
    """Return the number of alerts by label, exact at any time."""
    with database.read() as connection:
        kept, upto = _kept(connection)
        return kept + _counted(connection, upto, None)


def refresh(database: Database, now_utc: datetime) -> None:
    """Keep what has settled; one process at a time does it."""
    alerts = tables.alerts.c
    newest = select(alerts.seq).where(alerts.received_utc < now_utc - SETTLED).order_by(alerts.seq.desc()).limit(1)
    with database.read() as connection:
        kept, upto = _kept(connection)
        settled = connection.execute(newest).scalar_one_or_none()
        if settled is None or settled <= upto:
            return
        kept += _counted(connection, upto, settled)
    with database.write() as connection:
        if _kept(connection)[1] != upto:
            return  # alerts were let go meanwhile: the next look counts anew
        forget(connection)
        rows = [{"label": key[0], "drill": key[1], "n_alerts": n, "upto_seq": settled} for key, n in kept.items()]
        if rows:
            connection.execute(insert(tables.tallies), rows)


def forget(connection: Connection) -> None:
    """Count anew from the first: alerts were let go."""
    connection.execute(delete(tables.tallies))


def _kept(connection: Connection) -> tuple[Counter[Tally], int]:
    rows = connection.execute(select(tables.tallies)).all()
    return Counter({(row.label, row.drill): row.n_alerts for row in rows}), max(
        (row.upto_seq for row in rows), default=0
    )


def _counted(connection: Connection, after: int, upto: int | None) -> Counter[Tally]:
    alerts = tables.alerts.c
    query = select(alerts.label, alerts.drill, func.count()).where(alerts.seq > after)
    if upto is not None:
        query = query.where(alerts.seq <= upto)
    rows = connection.execute(query.group_by(alerts.label, alerts.drill)).all()
    return Counter({(row[0], row[1]): row[2] for row in rows})
