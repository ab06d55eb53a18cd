"""What people are told, who wants to hear it, and when: pure functions; `deliver` does the telling."""

import json
import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta, tzinfo

from base_station import words
from base_station.condition_log import Spell
from base_station.deadman import NAMES, Condition
from base_station.inbox import iso
from base_station.incidents import Incident
from base_station.locate import Place, metres

ABOUT = ("incident", "condition")


@dataclass(frozen=True, slots=True)
class Hours:
    """A part of the day, local time, also over midnight: from `begin` up to, not including, `end`."""

    begin: int
    end: int

    def holds(self, local: datetime) -> bool:
        """Say whether a time lies in it."""
        if self.begin <= self.end:
            return self.begin <= local.hour < self.end
        return local.hour >= self.begin or local.hour < self.end

    def over(self, local: datetime) -> datetime:
        """Return the next time at which it ends."""
        end = local.replace(hour=self.end % 24, minute=0, second=0, microsecond=0)
        return end if end > local else end + timedelta(days=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Area:
    """A circle on the map."""

    place: Place
    radius_km: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """Who is told what, and when."""

    name: str
    """Names the rule in the delivery log; a notice goes out once for each."""
    about: tuple[str, ...] = ABOUT
    labels: tuple[str, ...] = ()
    """Only incidents of these; empty is all."""
    kinds: tuple[str, ...] = ("event",)
    """Of incidents: `event`, `storm`, `outage`."""
    conditions: tuple[str, ...] = tuple(NAMES)
    ends: bool = False
    """Whether the end of a condition is told as well."""
    confidence: float = 0.0
    """Incidents below it are not told; when another witness lifts one over it, it is."""
    hours: Hours | None = None
    """Only what is heard in these hours."""
    area: Area | None = None
    """Only incidents in it; one without a place is told, for nobody knows."""
    quiet: Hours | None = None
    """What comes in these hours waits until they are over."""
    digest_minutes: int = 0
    """Notices wait for each other so long and go out as one; 0 tells each at once."""
    drills: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Notice:
    """One thing to tell."""

    subject: str
    """What it is about; the same subject is told once for each rule."""
    about: str
    """`incident`, `condition` or `test`."""
    kind: str
    """Of an incident its kind, of a condition its name, with `_over` at its end."""
    title: str
    body: str
    at_utc: datetime
    label: str = ""
    confidence: float = 1.0
    drill: bool = False
    latitude: float | None = None
    longitude: float | None = None
    radius_m: float | None = None
    devices: tuple[str, ...] = ()

    def to_json(self) -> str:
        """Return it as it waits in the database."""
        return json.dumps(asdict(self) | {"at_utc": self.at_utc.isoformat()})

    @classmethod
    def from_json(cls, text: str) -> "Notice":
        """Read it back."""
        fields = json.loads(text)
        fields |= {"at_utc": datetime.fromisoformat(fields["at_utc"]), "devices": tuple(fields["devices"])}
        return cls(**fields)


def of_incident(incident: Incident, zone: tzinfo | None = None) -> Notice:
    """Return what to tell of an incident; the zone is the ranger's, None the station's own."""
    place = incident.position
    local = incident.first_utc.astimezone(zone)
    what = {"storm": "Storm reported as ", "outage": "Late after an outage: "}.get(incident.kind, "")
    lines = [
        f"{local:%d %b %H:%M}, {_count(incident.devices)}, confidence {incident.confidence:.0%}",
        f"heard by {', '.join(incident.devices[:8])}" + (" and more" if len(incident.devices) > 8 else ""),
    ]
    if place is not None:
        lines.append(f"about {words.place(place.latitude, place.longitude)}, within {place.radius_m:.0f} m")
    title = f"{'DRILL: ' if incident.drill else ''}{what}{words.label_name(incident.label)}"
    return Notice(
        subject=f"incident:{incident.incident_id}",
        about="incident",
        kind=incident.kind,
        title=title,
        body="\n".join(lines),
        at_utc=incident.first_utc,
        label=incident.label,
        confidence=incident.confidence,
        drill=incident.drill,
        latitude=None if place is None else place.latitude,
        longitude=None if place is None else place.longitude,
        radius_m=None if place is None else place.radius_m,
        devices=incident.devices,
    )


def of_condition(condition: Condition) -> Notice:
    """Return what to tell of a condition that begins."""
    return Notice(
        subject=f"condition:{condition.subject}:{condition.name}:{iso(condition.since_utc)}",
        about="condition",
        kind=condition.name,
        title=f"{condition.subject}: {NAMES[condition.name]}",
        body=condition.detail + (f"\n{', '.join(condition.devices[:20])}" if condition.devices else ""),
        at_utc=condition.since_utc,
        devices=condition.devices or (condition.subject,),
    )


def of_end(spell: Spell, now_utc: datetime) -> Notice:
    """Return what to tell of a condition that is over."""
    lasted = words.span((now_utc - spell.begin_utc).total_seconds())
    return Notice(
        subject=f"condition:{spell.subject}:{spell.name}:{iso(spell.begin_utc)}:over",
        about="condition",
        kind=f"{spell.name}_over",
        title=f"{spell.subject}: over: {NAMES.get(spell.name, spell.name)}",
        body=f"after {lasted}",
        at_utc=now_utc,
        devices=spell.devices or (spell.subject,),
    )


def trial(now_utc: datetime) -> Notice:
    """Return a message that only says that messages arrive."""
    return Notice(
        subject=f"test:{secrets.token_hex(4)}",
        about="test",
        kind="test",
        title="Test message of the Curupira station",
        body="If you can read this, messages arrive. Nothing was heard.",
        at_utc=now_utc,
        confidence=0.0,
    )


def wants(rule: Rule, notice: Notice, zone: tzinfo | None = None) -> bool:
    """Say whether a rule is about a notice."""
    if notice.about == "test":
        return True
    if notice.about not in rule.about or (notice.drill and not rule.drills):
        return False
    if rule.hours is not None and not rule.hours.holds(notice.at_utc.astimezone(zone)):
        return False
    return _wants_condition(rule, notice) if notice.about == "condition" else _wants_incident(rule, notice)


def _wants_condition(rule: Rule, notice: Notice) -> bool:
    name = notice.kind.removesuffix("_over")
    return name in rule.conditions and (rule.ends or name == notice.kind)


def _wants_incident(rule: Rule, notice: Notice) -> bool:
    if notice.kind not in rule.kinds or notice.confidence < rule.confidence:
        return False
    if rule.labels and notice.label not in rule.labels:
        return False
    if rule.area is None or notice.latitude is None or notice.longitude is None:
        return True
    return metres(rule.area.place, Place(notice.latitude, notice.longitude)) <= rule.area.radius_km * 1000.0


def due_utc(rule: Rule, now_utc: datetime, zone: tzinfo | None = None) -> datetime:
    """Return when a notice that comes now is to go out: after quiet hours, and with its digest."""
    due = now_utc
    if rule.digest_minutes:
        step = rule.digest_minutes * 60
        due = datetime.fromtimestamp((now_utc.timestamp() // step + 1) * step, now_utc.tzinfo)
    local = due.astimezone(zone)
    if rule.quiet is not None and rule.quiet.holds(local):
        due = rule.quiet.over(local).astimezone(now_utc.tzinfo)
    return due


def digest(notices: Sequence[Notice]) -> Notice:
    """Return several notices as one, in the order of what they tell of."""
    if len(notices) == 1:
        return notices[0]
    ordered = sorted(notices, key=lambda notice: notice.at_utc)
    first = max(ordered, key=lambda notice: notice.confidence * (notice.about == "incident"))
    body = "\n\n".join(f"{notice.title}\n{notice.body}" for notice in ordered)
    return Notice(
        subject=first.subject,
        about=first.about,
        kind=first.kind,
        title=f"{len(ordered)} notices, {first.title} among them",
        body=body,
        at_utc=ordered[-1].at_utc,
    )


def _count(devices: Sequence[str]) -> str:
    return f"{len(devices)} {'device' if len(devices) == 1 else 'devices'}"
