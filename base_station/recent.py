"""What was heard in a span of time, and who was listening, as incidents want it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import func, select

from base_station import tables
from base_station.incidents import Heard, Incident, Rules, incidents
from base_station.locate import Place
from base_station.store import AlertEvent, Store

MOST_ALERTS = 5_000
"""In one look; who wants more asks for a shorter span."""
_ALERTS_AN_INCIDENT = 4
LONGEST_INCIDENT = timedelta(days=2)
"""One that goes on for longer is shown as far as this."""
LISTENING_WITHIN = timedelta(hours=6)
"""A device that has not called for so long may have heard nothing because it is gone."""


@dataclass(frozen=True, slots=True)
class Ears:
    """Where devices hang: by their latest heartbeats, else where people registered them."""

    places: Mapping[str, Place]
    listening: Mapping[str, Place]
    """Those that called lately enough to have heard something."""


def ears(store: Store, since: datetime) -> Ears:
    """Return where devices hang, and which of them could have heard something since then."""
    contact, registered = tables.contacts.c, tables.devices.c
    latitude = func.coalesce(contact.latitude, registered.latitude)
    longitude = func.coalesce(contact.longitude, registered.longitude)
    query = select(contact.device_id, latitude, longitude, contact.last_contact_utc).join(
        tables.devices, registered.device_id == contact.device_id
    )
    with store.database.read() as connection:
        rows = connection.execute(query.where(latitude.is_not(None))).all()
    oldest = since - LISTENING_WITHIN
    known = {row[0]: Place(row[1], row[2]) for row in rows}
    return Ears(known, {row[0]: known[row[0]] for row in rows if row[3] is not None and row[3] >= oldest})


def heard_between(
    store: Store, since: datetime, until: datetime, known: Mapping[str, Place], most: int = MOST_ALERTS
) -> list[Heard]:
    """Return alerts that began in a span, at most the latest `most`.

    Args:
        store: the database.
        since: the earliest onset.
        until: the latest onset.
        known: places of devices whose alerts carry none.
        most: alerts.
    """
    revisions = tables.revisions.c
    query = (
        select(revisions.alert_id)
        .where(revisions.onset_utc.between(since, until))
        .order_by(revisions.onset_utc.desc())
        .limit(2 * most)
    )
    with store.database.read() as connection:
        ids = list(dict.fromkeys(connection.execute(query).scalars()))[:most]
    return [as_heard(event, known) for event in store.events_of(ids)]


def as_heard(event: AlertEvent, known: Mapping[str, Place]) -> Heard:
    """Return an event as incidents want it."""
    own = event.latitude is not None and event.longitude is not None
    return Heard(
        seq=event.seq,
        alert_id=event.alert_id,
        device_id=event.device_id,
        label=event.label,
        drill=event.drill,
        first_utc=event.onset.utc,
        last_utc=event.onset.utc + timedelta(seconds=event.lasted_s),
        received_utc=event.received_utc,
        dated=event.onset.source != "received",
        score=event.score,
        level_dbfs=event.level_dbfs,
        place=Place(event.latitude or 0.0, event.longitude or 0.0) if own else known.get(event.device_id),
    )


def incident_around(store: Store, alert_id: str, rules: Rules) -> Incident | None:
    """Return the incident that an alert belongs to; None if there is no such alert.

    The id of an incident is that of one of its alerts, so it is found also after two incidents turned out to be one.
    """
    event = store.event(alert_id)
    if event is None:
        return None
    since, until = event.onset.utc, event.onset.utc + timedelta(seconds=event.lasted_s)
    alone = incidents([as_heard(event, ears(store, since).places)], {}, rules)[0]
    found = alone
    while True:
        touching = incidents_between(store, since, until, rules)
        found = next((incident for incident in touching if alert_id in incident.alert_ids), found)
        first, last = min(since, found.first_utc), max(until, found.last_utc)
        if (first, last) == (since, until) or last - first > LONGEST_INCIDENT:
            return found
        since, until = first, last


def incidents_between(
    store: Store, since: datetime, until: datetime, rules: Rules, limit: int | None = None
) -> list[Incident]:
    """Return the incidents that touch a span, the latest first.

    Alerts somewhat outside it are looked at too, so that no incident is cut at its edge.

    Args:
        store: the database.
        since: begin of the span.
        until: its end.
        rules: when alerts belong together.
        limit: at most so many; then no more alerts are read than these need.
    """
    hung = ears(store, since)
    margin = timedelta(seconds=10 * rules.window_s)
    most = MOST_ALERTS if limit is None else min(MOST_ALERTS, _ALERTS_AN_INCIDENT * limit)
    while True:
        heard = heard_between(store, since - margin, until + margin, hung.places, most)
        # what an alert that was not read could still belong to is left for a longer look
        begin = since if len(heard) < most or most == MOST_ALERTS else min(one.first_utc for one in heard) + margin
        found = [
            incident
            for incident in incidents(heard, hung.listening, rules)
            if incident.first_utc <= until
            and incident.last_utc >= since
            and (begin == since or incident.first_utc >= begin)
        ]
        if limit is None or begin == since or len(found) >= limit:
            return found[:limit]
        most = min(MOST_ALERTS, 4 * most)
