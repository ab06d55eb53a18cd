"""Alerts of neighbouring devices and times are one incident: what happened, where, and how sure that is.

Pure functions of what was heard and of who was listening; the same alerts give the same incidents in whatever order
they came. docs/incidents.md has the measurements behind the numbers.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from base_station.locate import REACH_M, Ear, Estimate, Place, estimate, metres

OUTAGE_BURST = timedelta(minutes=5)
"""Alerts that waited for a link all arrive within so long of each other once it is back."""
_REACH_DEG = REACH_M / 110_000.0
"""Of latitude; somewhat more than the reach."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rules:
    """When alerts belong together, and what they are worth."""

    window_s: float = 180.0
    """Longest silence between two alerts of one incident."""
    distance_m: float = 1500.0
    """Farthest that two devices may hang apart and still hear the same."""
    same_place_m: float = 30.0
    """Devices nearer than this are one witness: what deceives one deceives the other."""
    trust: float = 0.6
    """How often one device alone is right at score 1; verdicts replace it (`base_station.verdicts`)."""
    widespread_m: float = 3000.0
    """No single source is heard so far apart..."""
    storm_share: float = 0.6
    """...and if so large a share of the devices in between reports it at once, it is weather."""
    storm_devices: int = 5
    """Fewer devices are no storm."""
    late_s: float = 600.0
    """An alert that arrives so long after its sound waited for a link."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Heard:
    """One alert, as far as incidents are concerned."""

    seq: int
    """Order of arrival."""
    alert_id: str
    device_id: str
    label: str
    drill: bool
    first_utc: datetime
    """Onset."""
    last_utc: datetime
    """Latest revision."""
    received_utc: datetime
    dated: bool
    """False where the time is that of the arrival, because the device's clock said nothing."""
    score: float
    level_dbfs: float
    place: Place | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Incident:
    """What alerts of neighbouring devices and times say together."""

    incident_id: str
    """The id of its alert that arrived first: it stays when more alerts come or two incidents turn out to be one."""
    kind: str
    """`event`; `storm`: weather over many devices; `outage`: alerts that a broken link held back, of unknown times."""
    label: str
    drill: bool
    first_utc: datetime
    last_utc: datetime
    devices: tuple[str, ...]
    alert_ids: tuple[str, ...]
    """In the order of their onsets."""
    witnesses: int
    """Devices that hang apart from each other."""
    score: float
    """The highest."""
    confidence: float
    """0 to 1; rises with the scores and with every independent witness."""
    position: Estimate | None
    """None where no device knows its place, or where it has none (storm, outage)."""


def incidents(heard: Sequence[Heard], listening: Mapping[str, Place], rules: Rules) -> list[Incident]:
    """Return the incidents that alerts make, the latest first.

    Args:
        heard: alerts in any order.
        listening: where the devices hang that could have heard something, by name.
        rules: when alerts belong together.
    """
    found = [_incident(group, listening, rules) for group in groups(heard, rules)]
    return sorted(found, key=lambda incident: (incident.last_utc, incident.incident_id), reverse=True)


def groups(heard: Sequence[Heard], rules: Rules) -> list[list[Heard]]:
    """Return alerts that belong together: linked in time and space, directly or through others.

    Real alerts and drills, and different labels, never mix.
    """
    kinds: dict[tuple[str, bool], list[Heard]] = defaultdict(list)
    for alert in heard:
        kinds[alert.label, alert.drill].append(alert)
    return [group for alerts in kinds.values() for group in _linked(alerts, rules)]


def _linked(alerts: Sequence[Heard], rules: Rules) -> Iterator[list[Heard]]:
    ordered = sorted(alerts, key=lambda alert: (alert.first_utc, alert.alert_id))
    root = list(range(len(ordered)))

    def find(idx: int) -> int:
        while root[idx] != idx:
            root[idx] = root[root[idx]]
            idx = root[idx]
        return idx

    silence = timedelta(seconds=rules.window_s)
    going_on: list[int] = []  # those that the next may still belong to
    for idx, alert in enumerate(ordered):
        going_on = [earlier for earlier in going_on if ordered[earlier].last_utc + silence >= alert.first_utc]
        for earlier in going_on:
            if find(earlier) != find(idx) and _near(ordered[earlier], alert, rules.distance_m):
                root[find(idx)] = find(earlier)
        going_on.append(idx)
    members: dict[int, list[Heard]] = defaultdict(list)
    for idx, alert in enumerate(ordered):
        members[find(idx)].append(alert)
    yield from members.values()


def _near(one: Heard, other: Heard, distance_m: float) -> bool:
    if one.device_id == other.device_id:
        return True
    return one.place is not None and other.place is not None and metres(one.place, other.place) <= distance_m


def _incident(group: Sequence[Heard], listening: Mapping[str, Place], rules: Rules) -> Incident:
    kind = _kind(group, listening, rules)
    witnesses = _witnesses(group, rules.same_place_m)
    return Incident(
        incident_id=min(group, key=lambda alert: alert.seq).alert_id,
        kind=kind,
        label=group[0].label,
        drill=group[0].drill,
        first_utc=min(alert.first_utc for alert in group),
        last_utc=max(alert.last_utc for alert in group),
        devices=tuple(sorted({alert.device_id for alert in group})),
        alert_ids=tuple(alert.alert_id for alert in group),
        witnesses=len(witnesses),
        score=max(alert.score for alert in group),
        confidence=confidence(witnesses, rules.trust) if kind == "event" else min(witnesses) * rules.trust * 0.5,
        position=_position(group, listening) if kind == "event" else None,
    )


def confidence(scores: Sequence[float], trust: float) -> float:
    """Return how sure several witnesses make one: each may err, and they err independently.

    Args:
        scores: the highest score of each witness.
        trust: how often one at score 1 is right.
    """
    return 1.0 - math.prod(1.0 - trust * score for score in scores)


def _witnesses(group: Sequence[Heard], same_place_m: float) -> list[float]:
    """Return the best score of each independent witness; devices that hang together are one."""
    best: dict[str, Heard] = {}
    for alert in sorted(group, key=lambda alert: (-alert.score, alert.device_id, alert.alert_id)):
        best.setdefault(alert.device_id, alert)
    kept: list[Heard] = []
    for alert in best.values():
        if not any(_near(alert, other, same_place_m) for other in kept):
            kept.append(alert)
    return [alert.score for alert in kept]


def _kind(group: Sequence[Heard], listening: Mapping[str, Place], rules: Rules) -> str:
    devices = {alert.device_id: alert.place for alert in group}
    if len(devices) >= 3 and _came_with_the_link(group, rules):
        return "outage"
    places = [place for place in devices.values() if place is not None]
    if len(devices) >= rules.storm_devices and places:
        centre = Place(
            sum(place.latitude for place in places) / len(places),
            sum(place.longitude for place in places) / len(places),
        )
        radius_m = max(metres(centre, place) for place in places)
        within = {name for name, place in listening.items() if metres(centre, place) <= radius_m + 1.0} | set(devices)
        if 2 * radius_m > rules.widespread_m and len(devices) >= rules.storm_share * len(within):
            return "storm"
    return "event"


def _came_with_the_link(group: Sequence[Heard], rules: Rules) -> bool:
    """Say whether most of these alerts have no time of their own, and came in one burst."""
    doubtful = [
        alert
        for alert in group
        if not alert.dated or (alert.received_utc - alert.last_utc).total_seconds() > rules.late_s
    ]
    undated = [alert.received_utc for alert in doubtful if not alert.dated]
    if 2 * len(undated) <= len(group) or len({alert.device_id for alert in doubtful}) < 3:
        return False
    return max(undated) - min(undated) <= OUTAGE_BURST


def _position(group: Sequence[Heard], listening: Mapping[str, Place]) -> Estimate | None:
    loudest: dict[str, Ear] = {}
    for alert in group:
        known = loudest.get(alert.device_id)
        if alert.place is not None and (known is None or alert.level_dbfs > known.level_dbfs):
            loudest[alert.device_id] = Ear(alert.place, alert.level_dbfs)
    if not loudest:
        return None
    ears = tuple(loudest[name] for name in sorted(loudest))
    heard = {alert.device_id for alert in group}
    # by latitude first: there may be ten thousand devices, and most are far away
    south = min(ear.place.latitude for ear in ears) - _REACH_DEG
    north = max(ear.place.latitude for ear in ears) + _REACH_DEG
    near = [(name, place) for name, place in listening.items() if south <= place.latitude <= north]
    silent = tuple(
        place
        for name, place in sorted(near)
        if name not in heard and any(metres(place, ear.place) <= REACH_M for ear in ears)
    )
    return estimate(ears, silent)
