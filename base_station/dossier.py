"""All about one incident: what was heard, how each device was then, who near by heard nothing, what people did."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, select

from agent.alert import Alert, Battery, Heartbeat, LogMelImage
from base_station import tables, timeline
from base_station.condition_log import ConditionLog, Spell
from base_station.incident_log import Entry, IncidentLog
from base_station.incidents import Incident, Rules
from base_station.locate import REACH_M, Place, metres
from base_station.newest import most_telling
from base_station.recent import Ears, ears, incident_around
from base_station.store import AlertEvent, Store
from base_station.verdicts import Verdict, Verdicts

MOST_NEIGHBOURS = 12
MOST_HEARD = 20
"""Devices of an incident whose state then is looked up; a storm has more."""
MOST_ALERTS = 200
MOST_SHOWN = 12
BEAT_WITHIN = timedelta(hours=2)
"""An older heartbeat says nothing of how a device was then."""
AROUND = timedelta(minutes=30)
"""So much before and after is known of the levels."""
WINDOWS_AROUND = timedelta(minutes=5)
"""So much before and after is shown of the scores of single windows."""
MOST_LINES = 6
"""Devices of which levels and scores are drawn."""
_MOST_BEATS = 800
_CALLED_WITHIN = timedelta(hours=2)
_MOST_SPELLS = 500
_BINS = 150


@dataclass(frozen=True, kw_only=True, slots=True)
class Then:
    """How a device was at the time of an incident, as far as it is known."""

    device_id: str
    place: Place | None
    at_utc: datetime | None
    """When it said so; None where nothing is kept of that time."""
    level_dbfs: float | None
    battery: Battery | None
    conditions: tuple[Spell, ...]
    """What was wrong with it then."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Neighbour:
    """A device in reach that told of nothing."""

    then: Then
    distance_m: float
    """From where the sound came, as far as it is known."""
    called: bool
    """Whether it called at about that time; else its silence says nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """One value of one device at one time."""

    device_id: str
    at_utc: datetime
    value: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Dossier:
    """What one look brought."""

    incident: Incident
    events: tuple[AlertEvent, ...]
    """Its alerts in the order of their onsets; of very many the first."""
    verdicts: Mapping[str, Verdict]
    """By alert, the one that counts."""
    entries: tuple[Entry, ...]
    """What people did, the oldest first."""
    heard: tuple[Then, ...]
    neighbours: tuple[Neighbour, ...]
    """The nearest first."""
    scores: tuple[Point, ...]
    """As the alerts told them, 0 to 1."""
    levels: tuple[Point, ...]
    """dBFS, by alerts and heartbeats."""
    windows: Mapping[str, Sequence[timeline.Point]]
    """Scores of single windows by device, where its field log came home."""
    shown: tuple[AlertEvent, ...]
    """Those that one may look at and listen to: the first, and the best."""
    pictures: Mapping[str, LogMelImage]
    """Of the shown alerts, by id."""

    @property
    def best(self) -> AlertEvent:
        """Return the alert that shows most."""
        return most_telling(self.events)


def look(store: Store, alert_id: str, rules: Rules) -> Dossier | None:
    """Return everything about the incident that an alert belongs to; None if there is no such alert."""
    incident = incident_around(store, alert_id, rules)
    if incident is None:
        return None
    events = sorted(store.events_of(incident.alert_ids[:MOST_ALERTS]), key=lambda event: (event.onset.utc, event.seq))
    hung = ears(store, incident.first_utc)
    near = _near(incident, hung, events)
    spells = _spells(store, incident, [*incident.devices[:MOST_HEARD], *(name for name, _ in near)])
    with store.database.read() as connection:
        calling = _calling(connection, incident, [name for name, _ in near])
        beats = {
            name: _beat(connection, name, incident.last_utc)
            for name in [*incident.devices[:MOST_HEARD], *(name for name, _ in near)]
        }
        scores, levels = _told(connection, [event.alert_id for event in events])
        levels += _levels(connection, incident)

    shown = tuple(dict.fromkeys([*events[: MOST_SHOWN - 1], most_telling(events)]))
    pictures = {
        event.alert_id: image
        for event in shown
        if event.log_mel_revision is not None
        and (image := store.log_mel(event.alert_id, event.log_mel_revision)) is not None
    }

    def then(name: str) -> Then:
        own = next((event for event in events if event.device_id == name), None)
        return _then(store, name, hung, beats[name], own, tuple(spells.get(name, ())))

    return Dossier(
        incident=incident,
        events=tuple(events),
        verdicts=Verdicts(store).among([event.alert_id for event in events]),
        entries=tuple(IncidentLog(store).of(incident.alert_ids)),
        heard=tuple(then(name) for name in incident.devices[:MOST_HEARD]),
        neighbours=tuple(
            Neighbour(then=then(name), distance_m=away_m, called=name in calling) for name, away_m in near
        ),
        scores=tuple(sorted(scores, key=lambda point: point.at_utc)),
        levels=tuple(sorted(levels, key=lambda point: point.at_utc)),
        windows=_windows(store, incident),
        shown=shown,
        pictures=pictures,
    )


def _near(incident: Incident, hung: Ears, events: Sequence[AlertEvent]) -> list[tuple[str, float]]:
    """Return devices that could have heard it and told of nothing, with their distances, the nearest first."""
    if incident.position is not None:
        centres = [Place(incident.position.latitude, incident.position.longitude)]
    else:
        centres = [hung.places[name] for name in incident.devices[:MOST_HEARD] if name in hung.places]
    own = {event.device_id for event in events} | set(incident.devices)
    away = [
        (name, min(metres(place, centre) for centre in centres))
        for name, place in hung.places.items()
        if centres and name not in own
    ]
    near = sorted(((name, away_m) for name, away_m in away if away_m <= REACH_M), key=lambda one: (one[1], one[0]))
    return near[:MOST_NEIGHBOURS]


def _calling(connection: Connection, incident: Incident, names: Sequence[str]) -> set[str]:
    """Return the devices that called in the hours about an incident."""
    table = tables.hours.c
    first = (incident.first_utc - _CALLED_WITHIN).replace(minute=0, second=0, microsecond=0)
    query = (
        select(table.device_id)
        .where(table.device_id.in_(names), table.begin_utc.between(first, incident.last_utc))
        .distinct()
    )
    return set(connection.execute(query).scalars())


def _beat(connection: Connection, device_id: str, until: datetime) -> tuple[datetime, Heartbeat] | None:
    table = tables.heartbeats
    query = (
        select(table.c.received_utc, table.c.body)
        .where(table.c.device_id == device_id, table.c.received_utc.between(until - BEAT_WITHIN, until + AROUND))
        .order_by(table.c.seq.desc())
    )
    rows = connection.execute(query).all()
    # the last one before its end, else the first one after it
    row = next((row for row in rows if row.received_utc <= until), rows[-1] if rows else None)
    return None if row is None else (row.received_utc, Heartbeat.from_json(row.body.encode()))


def _then(
    store: Store,
    device_id: str,
    hung: Ears,
    beat: tuple[datetime, Heartbeat] | None,
    own: AlertEvent | None,
    conditions: tuple[Spell, ...],
) -> Then:
    """Return how a device was: by its heartbeat, else by what its alert said."""
    at_utc, level_dbfs, battery = None, None, None
    if beat is not None:
        at_utc, level_dbfs, battery = beat[0], beat[1].level_dbfs, beat[1].battery
    elif own is not None and (document := store.document(own.alert_id, 0)) is not None:
        at_utc, battery = own.received_utc, Alert.from_json(document).battery
    if own is not None:
        level_dbfs = own.level_dbfs
    return Then(
        device_id=device_id,
        place=hung.places.get(device_id),
        at_utc=at_utc,
        level_dbfs=level_dbfs,
        battery=battery,
        conditions=conditions,
    )


def _spells(store: Store, incident: Incident, names: Sequence[str]) -> Mapping[str, list[Spell]]:
    """Return by device what was wrong with it while the incident went on."""
    held = ConditionLog(store.database).held_between(incident.first_utc, incident.last_utc, names, _MOST_SPELLS)
    found: dict[str, list[Spell]] = {}
    for spell in held:
        for name in {spell.subject, *spell.devices} & set(names):
            found.setdefault(name, []).append(spell)
    return found


def _told(connection: Connection, alert_ids: Sequence[str]) -> tuple[list[Point], list[Point]]:
    """Return scores and levels as the revisions of alerts told them."""
    revisions, alerts = tables.revisions.c, tables.alerts.c
    query = (
        select(alerts.device_id, revisions.onset_utc, revisions.lasted_s, revisions.score, revisions.level_dbfs)
        .join(tables.alerts, alerts.alert_id == revisions.alert_id)
        .where(revisions.alert_id.in_(alert_ids))
    )
    scores: list[Point] = []
    levels: list[Point] = []
    for row in connection.execute(query):
        at_utc = row.onset_utc + timedelta(seconds=row.lasted_s)
        scores.append(Point(device_id=row.device_id, at_utc=at_utc, value=row.score))
        levels.append(Point(device_id=row.device_id, at_utc=at_utc, value=row.level_dbfs))
    return scores, levels


def _windows(store: Store, incident: Incident) -> dict[str, list[timeline.Point]]:
    """Return how its label scored in each window, by device, as far as field logs were brought home."""
    since, until = incident.first_utc - WINDOWS_AROUND, incident.last_utc + WINDOWS_AROUND
    found: dict[str, list[timeline.Point]] = {}
    for name in incident.devices[:MOST_LINES]:
        log = timeline.load(store, name, since, until)
        if log is not None and incident.label in log.scores:
            found[name] = log.label_points(incident.label, since.timestamp(), until.timestamp(), _BINS)
    return {name: points for name, points in found.items() if points}


def _levels(connection: Connection, incident: Incident) -> list[Point]:
    """Return the levels that the heartbeats of its devices told, somewhat before and after it too."""
    table = tables.heartbeats.c
    query = (
        select(table.device_id, table.received_utc, table.body)
        .where(
            table.device_id.in_(incident.devices[:MOST_HEARD]),
            table.received_utc.between(incident.first_utc - AROUND, incident.last_utc + AROUND),
        )
        .limit(_MOST_BEATS)
    )
    return [
        Point(device_id=row.device_id, at_utc=row.received_utc, value=float(json.loads(row.body)["level_dbfs"]))
        for row in connection.execute(query)
    ]
