"""A report on a span of days: what was heard when and where, how much was listened, how often alerts were right.

All figures come from counts by day (`days`), never from all alerts. What was not heard is part of it: each day has
the share of device-hours in which somebody listened.
"""

import calendar
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta, tzinfo

import numpy as np
from sqlalchemy import func, select

from agent.errors import FieldError
from base_station import tables
from base_station.database import Database
from base_station.day_incidents import begun
from base_station.days import Listening, bounds, counted, listened
from base_station.incident_log import ACKNOWLEDGED
from base_station.incidents import Rules
from base_station.locate import Place, metres
from base_station.notices import Area
from base_station.precision import Precision, precisions
from base_station.recent import ears
from base_station.store import Store

LONGEST_DAYS = 366
SQUARE_DEG = 0.1
"""Side of the squares that stand for areas where nobody named any: about 11 km."""
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Span:
    """Days, both ends among them."""

    first: date
    last: date

    def __post_init__(self) -> None:
        """Refuse what is no span, or one too long."""
        if not timedelta(0) <= self.last - self.first < timedelta(days=LONGEST_DAYS):
            raise FieldError("last", f"expected a day from {self.first} on, at most {LONGEST_DAYS} days in all")

    def days(self) -> list[date]:
        """Return its days in order."""
        return [self.first + _DAY * n for n in range((self.last - self.first).days + 1)]


@dataclass(frozen=True, kw_only=True, slots=True)
class DayRow:
    """One day."""

    day: date
    alerts: Mapping[str, int]
    """By label."""
    incidents: int | None
    """How many began; None where nobody knows."""
    listened_h: float | None
    """Device-hours; None where nobody knows any more."""
    possible_h: float
    """Device-hours if every device that was admitted had listened all the time."""

    @property
    def share(self) -> float | None:
        """Say how much of what was possible was listened to; None where nobody knows."""
        if self.listened_h is None or self.possible_h <= 0.0:
            return None
        return min(1.0, self.listened_h / self.possible_h)


@dataclass(frozen=True, kw_only=True, slots=True)
class PlaceRow:
    """An area or a device."""

    name: str
    place: Place | None
    """Of a device, or the middle of a square; None of a named area and where nobody knows."""
    alerts: Mapping[str, int]
    n_devices: int = 1
    """Those that alerted."""

    @property
    def total(self) -> int:
        """Return its alerts of all labels."""
        return sum(self.alerts.values())


@dataclass(frozen=True, kw_only=True, slots=True)
class Response:
    """How fast people saw incidents."""

    n_incidents: int
    """Those that somebody acknowledged."""
    middle_s: float
    """From the arrival of an incident's first alert to the first acknowledgement; half took no longer."""
    slow_s: float
    """Nine in ten took no longer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """Everything that the page prints."""

    span: Span
    labels: tuple[str, ...]
    """In the order of the columns."""
    days: tuple[DayRow, ...]
    hours: Mapping[str, tuple[int, ...]]
    """By label, 24 counts."""
    areas: tuple[PlaceRow, ...]
    devices: tuple[PlaceRow, ...]
    """Both with the most alerts first."""
    measured: tuple[Precision, ...]
    """By label, of alerts that were chosen at random: these speak for all."""
    judged: tuple[Precision, ...]
    """By label, of all that were judged."""
    response: Response | None
    """None where nobody acknowledged anything."""
    behind: int
    """Alerts that are not counted yet."""

    def total(self, label: str) -> int:
        """Return the alerts of a label."""
        return sum(row.alerts.get(label, 0) for row in self.days)

    @property
    def incidents(self) -> int | None:
        """Return the incidents of the days of which that is known; None where it is of none."""
        known = [row.incidents for row in self.days if row.incidents is not None]
        return sum(known) if known else None

    @property
    def share(self) -> float | None:
        """Say how much was listened to on the days of which that is known."""
        known = [row for row in self.days if row.share is not None]
        possible = sum(row.possible_h for row in known)
        return min(1.0, sum(row.listened_h or 0.0 for row in known) / possible) if possible else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """What a report is about."""

    span: Span
    label: str = ""
    """Only this one; empty is all."""
    areas: Mapping[str, Area]
    """Named ones, by name; without any there are squares."""
    rules: Rules = Rules()  # noqa: RUF009  # frozen
    """When alerts belong together."""


def report(store: Store, asked: Asked, now_utc: datetime, zone: tzinfo | None = None) -> Report:
    """Return the report on a span.

    Args:
        store: the database.
        asked: days, label and named areas.
        now_utc: station time.
        zone: of the days; None is the station's own.
    """
    span = asked.span
    found = counted(store.database, span.first, span.last, asked.label, zone)
    heard = listened(store.database, span.first, span.last, now_utc, zone)
    began = begun(
        store, (span.first, span.last), asked.label, {day for day, _, _ in found.by_hour}, asked.rules, now_utc, zone
    )
    labels = tuple(sorted({label for _, label, _ in found.by_hour}))
    measured, judged = _verdicts(store.database, span, asked.label, zone)
    devices = _devices(found.by_device, ears(store, bounds(span.first, zone)[0]).places)
    return Report(
        span=span,
        labels=labels,
        days=tuple(_days(span, found.by_hour, began, heard, possible_hours(store.database, span, now_utc, zone))),
        hours={label: _hours(found.by_hour, label) for label in labels},
        areas=tuple(_areas(devices, asked.areas)),
        devices=tuple(devices),
        measured=measured,
        judged=judged,
        response=_response(store.database, span, asked.label, zone),
        behind=found.behind,
    )


def possible_hours(database: Database, span: Span, now_utc: datetime, zone: tzinfo | None = None) -> list[float]:
    """Return by day how many hours all admitted devices together could have listened."""
    device = tables.devices.c
    with database.read() as connection:
        rows = connection.execute(select(device.added_utc, device.revoked_utc)).all()
    came = np.array([row.added_utc.timestamp() for row in rows])
    went = np.array([(row.revoked_utc or now_utc).timestamp() for row in rows])
    hours = []
    for day in span.days():
        begin, end = (moment.timestamp() for moment in bounds(day, zone))
        within = np.minimum(went, min(end, now_utc.timestamp())) - np.maximum(came, begin)
        hours.append(float(within.clip(0.0).sum()) / 3600.0)
    return hours


def month_of(day: date) -> Span:
    """Return the whole month of a day."""
    return Span(day.replace(day=1), day.replace(day=calendar.monthrange(day.year, day.month)[1]))


def _days(
    span: Span,
    by_hour: Counter[tuple[date, str, int]],
    began: Mapping[date, int],
    heard: Mapping[date, Listening],
    possible: Sequence[float],
) -> Iterator[DayRow]:
    by_day: dict[date, Counter[str]] = defaultdict(Counter)
    for (day, label, _), n in by_hour.items():
        by_day[day][label] += n
    for day, hours in zip(span.days(), possible, strict=True):
        listening = heard.get(day)
        yield DayRow(
            day=day,
            alerts=by_day[day],
            incidents=began.get(day),
            listened_h=None if listening is None else listening.device_hours,
            possible_h=hours,
        )


def _hours(by_hour: Counter[tuple[date, str, int]], label: str) -> tuple[int, ...]:
    hours = [0] * 24
    for (_, heard, hour), n in by_hour.items():
        if heard == label:
            hours[hour] += n
    return tuple(hours)


def _devices(by_device: Counter[tuple[str, str]], places: Mapping[str, Place]) -> list[PlaceRow]:
    alerts: dict[str, Counter[str]] = defaultdict(Counter)
    for (label, device_id), n in by_device.items():
        alerts[device_id][label] += n
    return _sorted([PlaceRow(name=name, place=places.get(name), alerts=alerts[name]) for name in alerts])


def _areas(devices: Sequence[PlaceRow], named: Mapping[str, Area]) -> list[PlaceRow]:
    """Return devices together by the named area that they hang in, else by the square."""
    alerts: dict[tuple[str, Place | None], Counter[str]] = defaultdict(Counter)
    n_devices: Counter[tuple[str, Place | None]] = Counter()
    for device in devices:
        for key in _keys(device.place, named):
            alerts[key].update(device.alerts)
            n_devices[key] += 1
    rows = [
        PlaceRow(name=name, place=place, alerts=alerts[name, place], n_devices=n_devices[name, place])
        for name, place in alerts
    ]
    return _sorted(rows)


def _keys(place: Place | None, named: Mapping[str, Area]) -> list[tuple[str, Place | None]]:
    """Return the areas of a place; more than one where named ones overlap."""
    if place is None:
        return [("", None)]
    within = [name for name, area in named.items() if metres(area.place, place) <= area.radius_km * 1000.0]
    if within:
        return [(name, None) for name in within]
    middle = [(value // SQUARE_DEG + 0.5) * SQUARE_DEG for value in (place.latitude, place.longitude)]
    return [("", Place(round(middle[0], 2), round(middle[1], 2)))]


def _sorted(rows: list[PlaceRow]) -> list[PlaceRow]:
    return sorted(rows, key=lambda row: (-row.total, row.name))


def _verdicts(
    database: Database, span: Span, label: str, zone: tzinfo | None
) -> tuple[tuple[Precision, ...], tuple[Precision, ...]]:
    """Return how often alerts of the span were right: those chosen at random, and all; the latest verdict counts."""
    said, later, alerts, revisions = tables.verdicts, tables.verdicts.alias(), tables.alerts.c, tables.revisions.c
    onset = (
        select(revisions.onset_utc)
        .where(revisions.alert_id == said.c.alert_id)
        .order_by(revisions.revision)
        .limit(1)
        .scalar_subquery()
    )
    again = select(later.c.seq).where(later.c.alert_id == said.c.alert_id, later.c.seq > said.c.seq)
    query = (
        select(alerts.label, said.c.chosen, said.c.verdict, func.count())
        .join(tables.alerts, alerts.alert_id == said.c.alert_id)
        .where(~again.exists(), alerts.drill.is_(False))
        .where(onset >= bounds(span.first, zone)[0], onset < bounds(span.last, zone)[1])
        .group_by(alerts.label, said.c.chosen, said.c.verdict)
    )
    if label:
        query = query.where(alerts.label == label)
    with database.read() as connection:
        rows = connection.execute(query).all()
    measured = precisions((heard, verdict, n) for heard, chosen, verdict, n in rows if chosen == "random")
    judged = precisions((heard, verdict, n) for heard, _, verdict, n in rows)
    return tuple(measured), tuple(judged)


def _response(database: Database, span: Span, label: str, zone: tzinfo | None) -> Response | None:
    done, alerts = tables.incident_log.c, tables.alerts.c
    query = (
        select(alerts.received_utc, func.min(done.at_utc))
        .join(tables.alerts, alerts.alert_id == done.incident_id)
        .where(done.action == ACKNOWLEDGED, alerts.drill.is_(False))
        .where(alerts.received_utc >= bounds(span.first, zone)[0], alerts.received_utc < bounds(span.last, zone)[1])
        .group_by(alerts.alert_id, alerts.received_utc)
    )
    if label:
        query = query.where(alerts.label == label)
    with database.read() as connection:
        waits = [max(0.0, (seen - came).total_seconds()) for came, seen in connection.execute(query)]
    if not waits:
        return None
    middle, slow = np.quantile(waits, (0.5, 0.9))
    return Response(n_incidents=len(waits), middle_s=float(middle), slow_s=float(slow))
