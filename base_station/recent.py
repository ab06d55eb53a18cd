"""What was heard in a span of time, and who was listening, as incidents want it."""

from collections.abc import Mapping
from datetime import datetime, timedelta

from sqlalchemy import select

from base_station import tables
from base_station.incidents import Heard, Incident, Rules, incidents
from base_station.locate import Place
from base_station.store import AlertEvent, Device, Store

MOST_ALERTS = 5_000
"""In one look; who wants more asks for a shorter span."""
LISTENING_WITHIN = timedelta(hours=6)
"""A device that has not called for so long may have heard nothing because it is gone."""


def places(devices: list[Device]) -> Mapping[str, Place]:
    """Return where devices say that they hang, by name."""
    known: dict[str, Place] = {}
    for device in devices:
        position = device.heartbeat.position if device.heartbeat else None
        if position is not None:
            known[device.device_id] = Place(position.latitude, position.longitude)
    return known


def heard_between(store: Store, since: datetime, until: datetime, known: Mapping[str, Place]) -> list[Heard]:
    """Return alerts that began in a span, at most the latest MOST_ALERTS.

    Args:
        store: the database.
        since: the earliest onset.
        until: the latest onset.
        known: places of devices whose alerts carry none.
    """
    revisions = tables.revisions.c
    query = (
        select(revisions.alert_id)
        .where(revisions.onset_utc.between(since, until))
        .order_by(revisions.onset_utc.desc())
        .limit(2 * MOST_ALERTS)
    )
    with store.database.read() as connection:
        ids = list(dict.fromkeys(connection.execute(query).scalars()))[:MOST_ALERTS]
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


def incidents_between(store: Store, since: datetime, until: datetime, rules: Rules) -> list[Incident]:
    """Return the incidents that touch a span, the latest first.

    Alerts somewhat outside it are looked at too, so that no incident is cut at its edge.
    """
    devices = store.devices()
    known = places(devices)
    margin = timedelta(seconds=10 * rules.window_s)
    heard = heard_between(store, since - margin, until + margin, known)
    listening = {
        device.device_id: known[device.device_id]
        for device in devices
        if device.device_id in known
        and device.last_contact_utc is not None
        and device.last_contact_utc >= since - LISTENING_WITHIN
    }
    found = incidents(heard, listening, rules)
    return [incident for incident in found if incident.first_utc <= until and incident.last_utc >= since]
