"""How many incidents began on each day, counted once the day is over and kept, as alerts are (`days`).

An incident counts on the station's local day on which it began; drills do not count. A day is counted again when
alerts of it come late, and one that is not over every few minutes, or when somebody asks as long as it is empty; what
retention let go before anybody counted it, nobody knows.
"""

from collections import Counter
from collections.abc import Collection, Mapping
from datetime import date, datetime, timedelta, tzinfo

from sqlalchemy import delete, func, insert, select

from base_station import days, tables
from base_station.incidents import Heard, Rules, groups
from base_station.recent import MOST_ALERTS, ears, heard_between
from base_station.store import Store

_AT_A_TIME = 5
"""Days in one look: a year that was taken over is counted within minutes, and other work goes on between."""
_ASKED_DAYS = 2
"""So many of the last days are counted when somebody asks, if nobody has yet."""
_ALL = ""
"""Stands for all labels; every day that was counted has it."""
_DAY, _SHORTEST = timedelta(days=1), timedelta(hours=1)


def refresh(store: Store, rules: Rules, now_utc: datetime, zone: tzinfo | None = None, *, lately: bool = False) -> None:
    """Count some days that are over, the latest first; one process at a time does it.

    Args:
        store: the database.
        rules: when alerts belong together.
        now_utc: station time.
        zone: of the days; None is the station's own.
        lately: whether to count anew what is not over, too.
    """
    last = days.last_over(now_utc, zone)
    hours, kept = tables.day_hours.c, tables.day_incidents.c
    counted = select(kept.day).where(kept.day == hours.day)
    query = select(hours.day).where(hours.day <= last, ~counted.exists()).distinct().order_by(hours.day.desc())
    with store.database.read() as connection:
        missing = list(connection.execute(query.limit(_AT_A_TIME)).scalars())
    today = now_utc.astimezone(zone).date()
    open_days = [last + n * _DAY for n in range(1, (today - last).days + 1)] if lately else []
    for day in open_days:
        # that there was none yet is soon counted, and must not be said beside the first alert
        found = _counted(store, day, rules, zone)
        _keep(store, day, _rows(day, found) if found else [])
    for day in missing:
        _keep(store, day, _rows(day, _counted(store, day, rules, zone)))


def _rows(day: date, found: Counter[str] | None) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = [
        {"day": day, "label": _ALL, "n_incidents": None if found is None else found.total()}
    ]
    rows += [{"day": day, "label": label, "n_incidents": n} for label, n in (found or {}).items()]
    return rows


def _keep(store: Store, day: date, rows: list[dict[str, object]]) -> None:
    with store.database.write() as connection:
        connection.execute(delete(tables.day_incidents).where(tables.day_incidents.c.day == day))
        if rows:
            connection.execute(insert(tables.day_incidents), rows)


def begun(
    store: Store,
    span: tuple[date, date],
    label: str,
    busy: Collection[date],
    rules: Rules,
    now_utc: datetime,
    zone: tzinfo | None = None,
) -> Mapping[date, int]:
    """Return how many incidents began on each day, both ends among them; days of which nobody knows are left out.

    Args:
        store: the database.
        span: first and last day.
        label: only this one; empty is all.
        busy: days of which there are alerts, drills aside.
        rules: when alerts belong together.
        now_utc: station time.
        zone: of the days; None is the station's own.
    """
    (first, last), kept = span, tables.day_incidents.c
    with store.database.read() as connection:
        rows = connection.execute(
            select(kept.day, kept.label, kept.n_incidents).where(kept.day.between(first, last))
        ).all()
    known = {row.day for row in rows}
    found = {row.day: 0 for row in rows if row.label == _ALL and row.n_incidents is not None}
    found |= {row.day: row.n_incidents for row in rows if row.label == label and row.n_incidents is not None}
    today = now_utc.astimezone(zone).date()
    day = first
    while day <= min(last, today):
        if day not in known and today - day < _ASKED_DAYS * _DAY:
            fresh = _counted(store, day, rules, zone) or Counter()
            found[day] = fresh[label] if label else fresh.total()
        elif day not in known and day not in busy:
            found[day] = 0
        day += _DAY
    return found


def _counted(store: Store, day: date, rules: Rules, zone: tzinfo | None) -> Counter[str] | None:
    """Return by label how many incidents began on a day; None where most of its alerts are not here any more."""
    begin, end = days.bounds(day, zone)
    hours = tables.day_hours.c
    with store.database.read() as connection:
        n_known = connection.execute(select(func.sum(hours.n_alerts)).where(hours.day == day)).scalar_one() or 0
    found: Counter[str] = Counter()
    n_here = 0
    for group in _groups(store, begin, end, rules):
        n_here += sum(begin <= alert.first_utc < end for alert in group)
        if begin <= group[0].first_utc < end:
            found[group[0].label] += 1
    return found if 2 * n_here >= n_known else None


def _groups(store: Store, begin: datetime, end: datetime, rules: Rules) -> list[list[Heard]]:
    """Return alerts that belong together and touch a span, each group by onset; no drills.

    What goes on for longer than the margin around a span may be cut at its edge.
    """
    margin = timedelta(seconds=10 * rules.window_s)
    heard = heard_between(store, begin - margin, end + margin, ears(store, begin).places)
    if len(heard) < MOST_ALERTS or end - begin <= _SHORTEST:
        found = groups([alert for alert in heard if not alert.drill], rules)
        return [sorted(group, key=lambda alert: alert.first_utc) for group in found]
    middle = begin + (end - begin) / 2
    early, late = _groups(store, begin, middle, rules), _groups(store, middle, end, rules)
    return [group for group in early if group[0].first_utc < middle] + [
        group for group in late if group[0].first_utc >= middle
    ]
