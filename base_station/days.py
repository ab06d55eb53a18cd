"""What each day brought, counted once and for good: alerts by hour, label and device, and the hours listened.

Days and hours are the station's local ones at the time of counting. Drills are not counted. An alert that was counted
stays counted when retention lets it go: a report of last year still says what happened.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, tzinfo
from itertools import pairwise

from sqlalchemy import Connection, Row, Select, Table, case, delete, func, insert, or_, select, union_all, update
from sqlalchemy.dialects import postgresql, sqlite

from base_station import tables
from base_station.database import Database
from base_station.tallies import SETTLED

AT_A_TIME = 5_000
"""Alerts in one transaction."""
AGAIN_WITHIN = timedelta(days=31)
"""Of older days incidents stay as they were counted (`day_incidents`), whatever alerts still come."""
_LATE = timedelta(hours=1)
"""So long after its end a day is taken for whole; what comes later still has it counted again."""
_ROUNDS = 20
"""So many in one look: a station that takes a year of alerts over goes on with its other work between."""
_UPTO = "days_upto_seq"
"""In `meta`: the last alert that was counted."""
_DAY = timedelta(days=1)

Place = tuple[date, str, int]
"""A day, a label and an hour of the day."""
Mouth = tuple[date, str, str]
"""A day, or the first of a month, a label and a device."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Counted:
    """Alerts of a span of days."""

    by_hour: Counter[Place]
    by_device: Counter[tuple[str, str]]
    """By label and device."""
    behind: int
    """Alerts that came and are not counted yet: the station still looks through them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Listening:
    """How much one day was listened to."""

    device_hours: float
    """Hours in which a device called, by the share of them that it heard, less those in which it was deaf."""
    n_devices: int


def refresh(database: Database, now_utc: datetime, zone: tzinfo | None = None) -> None:
    """Count what has settled; one process at a time does it."""
    for _ in range(_ROUNDS):
        if not _settle(database, now_utc, zone):
            break
    _settle_listening(database, now_utc, zone)


def counted(database: Database, first: date, last: date, label: str = "", zone: tzinfo | None = None) -> Counted:
    """Return the alerts of days, both ends among them; those of the last minutes too.

    Args:
        database: the station's.
        first: day.
        last: day.
        label: only this one; empty is all.
        zone: of the days; None is the station's own.
    """
    hours = tables.day_hours.c
    each_hour = select(hours.day, hours.label, hours.hour, hours.n_alerts).where(hours.day.between(first, last))
    each_device = _device_counts(first, last)
    if label:
        each_hour = each_hour.where(hours.label == label)
        each_device = each_device.where(each_device.selected_columns.label == label)
    with database.snapshot() as connection:
        upto = _upto(connection)
        by_hour = Counter({(row[0], row[1], row[2]): row[3] for row in connection.execute(each_hour)})
        by_device = Counter({(row[0], row[1]): int(row[2]) for row in connection.execute(each_device)})
        fresh = connection.execute(_after(upto)).all()
        behind = _behind(connection, fresh[-1].seq) if len(fresh) == AT_A_TIME else 0
    for day, heard, hour, device_id in _placed(fresh, zone):
        if first <= day <= last and label in ("", heard):
            by_hour[day, heard, hour] += 1
            by_device[heard, device_id] += 1
    return Counted(by_hour=by_hour, by_device=by_device, behind=behind)


def listened(
    database: Database, first: date, last: date, now_utc: datetime, zone: tzinfo | None = None
) -> Mapping[date, Listening]:
    """Return how much was listened on days, both ends among them; those of which nothing is known are left out."""
    table = tables.day_listening.c
    with database.read() as connection:
        rows = connection.execute(select(tables.day_listening).where(table.day.between(first, last))).all()
        known = {row.day: Listening(device_hours=row.device_hours, n_devices=row.n_devices) for row in rows}
        for day in (now_utc.astimezone(zone).date() - _DAY, now_utc.astimezone(zone).date()):
            if first <= day <= last and day not in known:
                found = _listening(connection, day, now_utc, zone)
                if found.n_devices:
                    known[day] = found
    return known


def last_over(now_utc: datetime, zone: tzinfo | None = None) -> date:
    """Return the last day that is over, and has been for long enough that its alerts are here."""
    return (now_utc - _LATE).astimezone(zone).date() - _DAY


def bounds(day: date, zone: tzinfo | None = None) -> tuple[datetime, datetime]:
    """Return when a local day begins and ends."""
    begin, end = (datetime.combine(each, time(), zone) for each in (day, day + _DAY))
    return (begin, end) if zone is not None else (begin.astimezone(), end.astimezone())


def _device_counts(first: date, last: date) -> Select[str, str, int]:
    """Return the query for alerts by label and device, of whole months where the span has any."""
    month, day = tables.month_devices.c, tables.day_devices.c
    begins = [first.replace(day=1)]
    while begins[-1] <= last:
        begins.append((begins[-1] + 31 * _DAY).replace(day=1))
    whole = [each for each, after in pairwise(begins) if first <= each and after - _DAY <= last]
    edges = [day.day.between(first, last)]
    if whole:
        edges = [day.day.between(first, whole[0] - _DAY), day.day.between((whole[-1] + 31 * _DAY).replace(day=1), last)]
    parts = union_all(
        select(month.label, month.device_id, month.n_alerts).where(month.month.in_(whole)),
        *(select(day.label, day.device_id, day.n_alerts).where(edge) for edge in edges),
    ).subquery()
    total = func.sum(parts.c.n_alerts)
    return select(parts.c.label, parts.c.device_id, total).group_by(parts.c.label, parts.c.device_id)


def _settle(database: Database, now_utc: datetime, zone: tzinfo | None) -> bool:
    """Count some alerts; return whether there may be more."""
    with database.read() as connection:
        upto = _upto(connection)
        alerts = tables.alerts.c
        newest = select(alerts.seq).where(alerts.received_utc < now_utc - SETTLED).order_by(alerts.seq.desc()).limit(1)
        settled = connection.execute(newest).scalar_one_or_none() or 0
        rows = connection.execute(_after(upto).where(alerts.seq <= settled)).all()
    if not rows:
        return False
    by_hour: Counter[Place] = Counter()
    by_device: Counter[Mouth] = Counter()
    by_month: Counter[Mouth] = Counter()
    for day, label, hour, device_id in _placed(rows, zone):
        by_hour[day, label, hour] += 1
        by_device[day, label, device_id] += 1
        by_month[day.replace(day=1), label, device_id] += 1
    with database.write() as connection:
        if _upto(connection) != upto:
            return False
        _add(database, connection, tables.day_hours, by_hour)
        _add(database, connection, tables.day_devices, by_device)
        _add(database, connection, tables.month_devices, by_month)
        _doubt(connection, {day for day, _, _ in by_hour}, last_over(now_utc, zone))
        _set_upto(connection, rows[-1].seq)
    return len(rows) == AT_A_TIME


def _after(seq: int) -> Select[int, str, str, bool, datetime]:
    """Return the query for alerts that came after one, with the onset that each had at first."""
    alerts, revisions = tables.alerts.c, tables.revisions.c
    onset = (
        select(revisions.onset_utc)
        .where(revisions.alert_id == alerts.alert_id)
        .order_by(revisions.revision)
        .limit(1)
        .scalar_subquery()
    )
    listed = select(alerts.seq, alerts.label, alerts.device_id, alerts.drill, onset.label("onset_utc"))
    return listed.where(alerts.seq > seq).order_by(alerts.seq).limit(AT_A_TIME)


def _placed(
    rows: Sequence[Row[int, str, str, bool, datetime]], zone: tzinfo | None
) -> Iterator[tuple[date, str, int, str]]:
    """Yield local day, label, local hour and device of what was no drill."""
    for row in rows:
        if not row.drill and row.onset_utc is not None:
            local = row.onset_utc.astimezone(zone)
            yield local.date(), row.label, local.hour, row.device_id


def _add(database: Database, connection: Connection, table: Table, counts: Counter[Place] | Counter[Mouth]) -> None:
    if not counts:
        return
    upsert = sqlite.insert if database.is_sqlite else postgresql.insert
    keys = [column.name for column in table.primary_key]
    one = upsert(table)
    one = one.on_conflict_do_update(index_elements=keys, set_={"n_alerts": table.c.n_alerts + one.excluded.n_alerts})
    connection.execute(one, [dict(zip(keys, key, strict=True), n_alerts=n) for key, n in counts.items()])


def _doubt(connection: Connection, days: Iterable[date], last: date) -> None:
    """Let incidents be counted again on days of which alerts came; one may now begin on the day before.

    Those behind the last day that is over are counted again and again anyway.
    """
    doubtful = {each for day in days for each in (day, day + _DAY) if last - AGAIN_WITHIN <= each <= last}
    if doubtful:
        connection.execute(delete(tables.day_incidents).where(tables.day_incidents.c.day.in_(doubtful)))


def _upto(connection: Connection) -> int:
    table = tables.meta
    return int(connection.execute(select(table.c.value).where(table.c.name == _UPTO)).scalar_one_or_none() or 0)


def _set_upto(connection: Connection, seq: int) -> None:
    table = tables.meta
    if connection.execute(update(table).where(table.c.name == _UPTO).values(value=str(seq))).rowcount == 0:
        connection.execute(insert(table).values(name=_UPTO, value=str(seq)))


def _behind(connection: Connection, seq: int) -> int:
    newest = connection.execute(select(func.max(tables.alerts.c.seq))).scalar_one_or_none() or 0
    return max(0, int(newest) - seq)


def _settle_listening(database: Database, now_utc: datetime, zone: tzinfo | None) -> None:
    """Keep how much was listened on the days that are over."""
    table = tables.day_listening
    today = now_utc.astimezone(zone).date()
    with database.read() as connection:
        newest: date | None = connection.execute(select(func.max(table.c.day))).scalar_one()
        if newest is None:
            oldest = connection.execute(select(func.min(tables.hours.c.begin_utc))).scalar_one()
            newest = today - _DAY if oldest is None else oldest.astimezone(zone).date() - _DAY
        days = [newest + _DAY * n for n in range(1, (today - newest).days)]
        found = [(day, _listening(connection, day, now_utc, zone)) for day in days]
    rows = [{"day": day, "device_hours": one.device_hours, "n_devices": one.n_devices} for day, one in found]
    if rows:
        with database.write() as connection:
            connection.execute(insert(table), rows)


def _listening(connection: Connection, day: date, now_utc: datetime, zone: tzinfo | None) -> Listening:
    begin, end = bounds(day, zone)
    hours = tables.hours.c
    within = hours.begin_utc.between(begin, end - timedelta(microseconds=1))
    share = case(
        (hours.heard_sum < hours.n_beats, hours.heard_sum / hours.n_beats), else_=1.0
    )  # also where nobody knows
    count = select(func.sum(share), func.count(func.distinct(hours.device_id))).where(within)
    heard_h, n_devices = connection.execute(count).one()
    deaf_h = _deaf_hours(connection, begin, min(end, now_utc))
    return Listening(device_hours=max(0.0, (heard_h or 0.0) - deaf_h), n_devices=n_devices)


def _deaf_hours(connection: Connection, begin: datetime, end: datetime) -> float:
    table = tables.conditions.c
    query = select(table.begin_utc, table.end_utc).where(
        table.name == "deaf", table.begin_utc < end, or_(table.end_utc.is_(None), table.end_utc > begin)
    )
    spells = connection.execute(query).all()
    return sum(float((min(row[1] or end, end) - max(row[0], begin)).total_seconds()) for row in spells) / 3600.0
