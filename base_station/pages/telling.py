"""What the pages say of alerts and incidents, in the reader's language: pure functions of data and of the time now."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo

from base_station.incidents import Incident
from base_station.pages.language import Language
from base_station.roll import NEVER, SILENT, TROUBLE, Roll
from base_station.store import AlertEvent
from base_station.words import LATE_S, label_name, place

FRESH_S = 900.0
"""An incident that began, went on or came within this time leads the page."""


def label(language: Language, name: str) -> str:
    """Return a label as a title."""
    return language.say(label_name(name))


def onset_note(language: Language, event: AlertEvent, now: datetime, zone: tzinfo | None = None) -> str:
    """Return what to know about the time of an alert: how sure it is, and whether the news is late."""
    notes: list[str] = []
    if event.onset.source == "corrected":
        notes.append(language.say("time corrected by the station's clock"))
    if event.onset.source == "received":
        notes.append(language.say("time of arrival, the device's clock is not set"))
    if (event.received_utc - event.onset.utc).total_seconds() > LATE_S:
        notes.append(language.say("arrived late, {time}", time=language.moment(event.received_utc, now, zone)))
    return " · ".join(notes)


def progress(language: Language, *, is_open: bool, lasted_s: float) -> str:
    """Return whether something goes on."""
    if is_open:
        return language.say("no end heard yet")
    return language.say("ended after {span}", span=language.span(lasted_s))


def measures(language: Language, event: AlertEvent) -> str:
    """Return score and level of an alert."""
    return language.say(
        "score {score} · level {level} dBFS",
        score=language.number(event.score, 2),
        level=language.number(event.level_dbfs, 1),
    )


def surety(language: Language, incident: Incident) -> str:
    """Return how sure an incident is, and by how many witnesses."""
    sure = language.say("confidence {share}", share=language.percent(incident.confidence))
    heard = language.plural("heard by {count} device", "heard by {count} devices", len(incident.devices))
    if incident.witnesses == len(incident.devices):
        return f"{heard} · {sure}"
    apart = language.plural("{count} independent witness", "{count} independent witnesses", incident.witnesses)
    return f"{heard} · {apart} · {sure}"


def kind_note(language: Language, incident: Incident) -> str:
    """Return what to know of an incident that is no event of its own; empty for most."""
    if incident.kind == "storm":
        return language.say("Most devices over a wide area reported this at once: probably weather.")
    if incident.kind == "outage":
        return language.say("A broken link held these alerts back: when they were heard is not known.")
    return ""


def where(language: Language, incident: Incident) -> str:
    """Return where an incident is and how far off that may be; by its devices where nobody knows more."""
    position = incident.position
    if position is None:
        return ""
    within = language.say("within {metres} m", metres=language.number(position.radius_m))
    return f"{place(position.latitude, position.longitude, language=language)}, {within}"


def at_devices(language: Language, incident: Incident, most: int = 3) -> str:
    """Return the devices of an incident, the first few by name."""
    named = ", ".join(incident.devices[:most])
    others = len(incident.devices) - most
    return (
        named
        if others <= 0
        else language.plural("{names} and {count} more", "{names} and {count} more", others, names=named)
    )


def shared(language: Language, incident: Incident, zone: tzinfo | None = None) -> str:
    """Return an incident as a message: what, when, where, as people and as map programs read it."""
    title = label(language, incident.label)
    local = incident.first_utc.astimezone(zone)
    lines = [
        f"{language.say('DRILL')} – {title}" if incident.drill else title,
        f"{language.day(local.date())} {local:%H:%M}",
        f"{at_devices(language, incident)} · {surety(language, incident)}",
    ]
    position = incident.position
    if position is not None:
        # with plain signs and points, whatever the language: programs and radios read them
        decimal = f"{position.latitude:.5f},{position.longitude:.5f}"
        within = language.say("within {metres} m", metres=f"{position.radius_m:.0f}")
        lines += [f"{decimal.replace(',', ', ')} ({within})", f"geo:{decimal};u={position.radius_m:.0f}"]
    return "\n".join(lines)


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """The first thing that a ranger reads."""

    mood: str
    """`alarm`, `quiet`, `trouble` or `empty`: the colour."""
    headline: str
    detail: str


def summary(
    language: Language, incidents: Sequence[Incident], received: Mapping[str, datetime], roll: Roll, now: datetime
) -> Summary:
    """Return the state of the forest in two lines; drills are not part of it.

    Quiet is said only together with how many devices could have heard anything.

    Args:
        language: the reader's.
        incidents: the latest ones.
        received: by incident, when its last alert came.
        roll: all devices.
        now: station time.
    """
    say = language.say
    hearing = language.plural(
        "{hearing} of {count} device listening",
        "{hearing} of {count} devices listening",
        roll.admitted,
        hearing=language.number(roll.hearing),
    )
    real = [incident for incident in incidents if not incident.drill]
    fresh = [one for one in real if (now - one.last_utc).total_seconds() < FRESH_S]
    events = [one for one in fresh if one.kind == "event"]
    if events or fresh:
        first = (events or fresh)[0]
        heard = say("heard {ago}", ago=language.ago(first.last_utc, now))
        headline = say(
            "{label} at {devices}", label=label(language, first.label), devices=_where(language, first, fresh)
        )
        detail = f"{kind_note(language, first)} {hearing}" if first.kind != "event" else f"{heard} · {hearing}"
        return Summary(mood="alarm" if events else "trouble", headline=headline, detail=detail)
    late = [one for one in real if (now - received.get(one.incident_id, one.last_utc)).total_seconds() < FRESH_S]
    if late:
        first = late[0]
        headline = say(
            "Late news: {label} at {devices}", label=label(language, first.label), devices=_where(language, first, late)
        )
        heard = say("heard {ago}", ago=language.ago(first.last_utc, now))
        arrived = say("arrived {ago}", ago=language.ago(received[first.incident_id], now))
        return Summary(mood="trouble", headline=headline, detail=f"{heard}, {arrived} · {hearing}")
    if not roll.admitted:
        return Summary(mood="empty", headline=say("No device yet"), detail=say("Add the first one to begin."))
    last = say("last heard {ago}", ago=language.ago(real[0].last_utc, now)) if real else say("nothing heard lately")
    if not roll.hearing:
        return Summary(mood="trouble", headline=say("Nobody is listening"), detail=f"{hearing} · {last}")
    return Summary(mood="quiet", headline=say("Quiet"), detail=f"{hearing} · {last}")


def _where(language: Language, first: Incident, others: Sequence[Incident]) -> str:
    """Return the first device of an incident, and how many more are concerned now."""
    more = {name for one in others for name in one.devices} - {first.devices[0]}
    if not more:
        return first.devices[0]
    return language.plural("{names} and {count} more", "{names} and {count} more", len(more), names=first.devices[0])


def wellness(language: Language, roll: Roll) -> str:
    """Return how the devices are that do not stand in the list of those in trouble."""
    parts = [language.plural("{count} device listening", "{count} devices listening", roll.hearing)]
    if count := roll.counts.get(TROUBLE, 0):
        parts.append(language.plural("{count} in trouble", "{count} in trouble", count))
    if count := roll.counts.get(SILENT, 0):
        parts.append(language.plural("{count} silent", "{count} silent", count))
    if count := roll.counts.get(NEVER, 0):
        parts.append(language.plural("{count} has not called yet", "{count} have not called yet", count))
    return " · ".join(parts)
