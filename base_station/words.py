"""What pages and messages say: times, labels and conditions in the words of people, in the reader's language.

Pure functions of data and of the time now; nothing here knows of the pages' toolkit.
"""

from dataclasses import dataclass
from datetime import datetime, tzinfo

from base_station.incidents import Incident
from base_station.pages.language import ENGLISH, Language, mark
from base_station.store import AlertEvent, Device

SILENT_AFTER_S = 1800.0
"""A device that has not called for so long is in trouble: it should every few minutes..."""
SILENT_BEATS = 3.0
"""...unless it said that it would call less often, to save power: then so many of its own intervals."""
LONGEST_BEAT_S = 7200.0
"""No interval that a device names excuses a longer silence: it is late after six hours, whatever it said."""
FRESH_S = 900.0
"""An event that began, or came, within this time leads the page."""
LATE_S = 300.0
"""An alert that arrives so long after the sound is late: the link was down, or its clock is wrong."""
DEAF_BELOW = 0.5
"""Share of the time that a device must have heard since its last heartbeat."""
LOW_BATTERY_PERCENT = 15.0
CLOCK_OFF_S = 120.0

_STATES = {
    "battery_unknown": mark("its battery says nothing any more"),
    "capture_failed": mark("microphone failed"),
    "clipping": mark("too loud, the sound is cut off"),
    "constant": mark("microphone stuck: always the same value"),
    "dc": mark("microphone faulty: constant offset"),
    "disk_failed": mark("its disk refuses"),
    "disk_full": mark("its disk is full"),
    "gaps": mark("loses audio"),
    "journal_failed": mark("cannot write its journal"),
    "model_failed": mark("model failed: it cannot recognise anything"),
    "model_stuck": mark("model stuck: always the same answer"),
    "no_audio": mark("deaf: no sound comes from its microphone"),
    "outbox_failed": mark("cannot keep alerts on its disk"),
    "stuck": mark("microphone stuck: the same sound again and again"),
    "too_quiet": mark("hardly any sound: microphone covered or switched off"),
    "zeros": mark("deaf: its microphone gives only zeros"),
}

_LABELS = {"chainsaw": mark("Chainsaw"), "engine": mark("Engine")}


@dataclass(frozen=True, kw_only=True, slots=True)
class DeviceWords:
    """One row of the device list."""

    device_id: str
    condition: str
    """`good`, `trouble`, `waiting` or `revoked`."""
    headline: str
    """Its condition in a few words."""
    troubles: tuple[str, ...]
    """What is wrong with it, each in a few words."""
    contact: str
    """When it last called."""
    facts: str
    """Version, battery, level: for whoever looks closer."""


def label_name(label: str, language: Language = ENGLISH) -> str:
    """Return a label as a title."""
    return language.say(_LABELS[label]) if label in _LABELS else label.replace("_", " ").capitalize()


def span(seconds: float, language: Language = ENGLISH) -> str:
    """Return a length of time, coarser the longer it is: `42 s`, `7 min`, `3 h`, `5 days`."""
    return language.span(seconds)


def ago(moment: datetime, now: datetime, language: Language = ENGLISH) -> str:
    """Return how long ago a moment was."""
    return language.ago(moment, now)


def local_time(moment: datetime, now: datetime, zone: tzinfo | None, language: Language = ENGLISH) -> str:
    """Return local wall time, with the day where it is another one; a zone of None is the station's own."""
    return language.moment(moment, now, zone)


def onset_note(event: AlertEvent, now: datetime, zone: tzinfo | None, language: Language = ENGLISH) -> str:
    """Return what to know about the time of an event: how sure it is, and whether the news is late."""
    notes: list[str] = []
    if event.onset.source == "corrected":
        notes.append(language.say("time corrected by the station's clock"))
    if event.onset.source == "received":
        notes.append(language.say("time of arrival, the device's clock is not set"))
    if (event.received_utc - event.onset.utc).total_seconds() > LATE_S:
        notes.append(language.say("arrived late, {time}", time=language.moment(event.received_utc, now, zone)))
    return " · ".join(notes)


def progress(event: AlertEvent, language: Language = ENGLISH) -> str:
    """Return whether an event goes on."""
    if event.state == "open":
        return language.say("no end heard yet")
    return language.say("ended after {span}", span=language.span(event.lasted_s))


def measures(event: AlertEvent, language: Language = ENGLISH) -> str:
    """Return score and level of an event."""
    return language.say(
        "score {score} · level {level} dBFS",
        score=language.number(event.score, 2),
        level=language.number(event.level_dbfs, 1),
    )


def place(latitude: float, longitude: float) -> str:
    """Return coordinates as one reads them out over a radio; five decimals are a metre."""
    north, east = ("N" if latitude >= 0 else "S"), ("E" if longitude >= 0 else "W")
    return f"{abs(latitude):.5f}° {north}, {abs(longitude):.5f}° {east}"


def minus(value: float, decimals: int) -> str:
    """Return a number with a real minus sign."""
    return f"{value:.{decimals}f}".replace("-", "−")


def device_words(device: Device, now: datetime, language: Language = ENGLISH) -> DeviceWords:
    """Return what there is to say of a device."""
    say = language.say
    troubles = tuple(_troubles(device, now, language))
    condition, headline = "good", say("listening")
    if device.revoked_utc is not None:
        condition, headline, troubles = "revoked", say("revoked"), ()
    elif device.last_contact_utc is None:
        condition, headline = "waiting", say("has not called yet")
    elif troubles:
        condition, headline = "trouble", troubles[0]
    elif device.heartbeat is None:
        headline = say("in contact, no heartbeat yet")
    contact = say("never called")
    if device.last_contact_utc is not None:
        contact = say("last contact {ago}", ago=language.ago(device.last_contact_utc, now))
    return DeviceWords(
        device_id=device.device_id,
        condition=condition,
        headline=headline,
        troubles=troubles[1:],
        contact=contact,
        facts=" · ".join(_facts(device, language)),
    )


def _troubles(device: Device, now: datetime, language: Language) -> list[str]:
    """Return what is wrong with a device, the worst first."""
    say = language.say
    troubles: list[str] = []
    beat = device.heartbeat
    if device.last_contact_utc is not None:
        silent_s = (now - device.last_contact_utc).total_seconds()
        if silent_s > max(SILENT_AFTER_S, SILENT_BEATS * min(beat.heartbeat_s, LONGEST_BEAT_S) if beat else 0.0):
            troubles.append(say("silent for {span}", span=language.span(silent_s)))
    if beat is None:
        return troubles
    troubles += [say(_STATES[state]) if state in _STATES else state.replace("_", " ") for state in beat.states]
    if beat.audio_per_wall < DEAF_BELOW and not beat.states:
        troubles.append(say("deaf: heard {share} of the time", share=language.percent(beat.audio_per_wall)))
    battery = beat.battery
    if battery and battery.percent is not None and battery.percent < LOW_BATTERY_PERCENT and not battery.charging:
        troubles.append(say("battery at {share}", share=language.percent(battery.percent / 100)))
    return troubles


def _facts(device: Device, language: Language) -> list[str]:
    say = language.say
    facts: list[str] = []
    beat = device.heartbeat
    if beat is not None:
        facts += [
            say("version {version}", version=beat.version),
            say("level {level} dBFS", level=language.number(beat.level_dbfs)),
        ]
        if beat.battery and beat.battery.percent is not None:
            share = language.percent(beat.battery.percent / 100)
            charging = say("battery {share}, charging", share=share)
            facts.append(charging if beat.battery.charging else say("battery {share}", share=share))
        if beat.queue:
            facts.append(language.plural("{count} alert waits", "{count} alerts wait", beat.queue))
    offset_s = device.clock_offset_s
    if offset_s is not None and abs(offset_s) > CLOCK_OFF_S:
        off = language.span(abs(offset_s))
        behind = say("its clock is {span} behind", span=off)
        facts.append(behind if offset_s > 0 else say("its clock is {span} ahead", span=off))
    return facts


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """The first thing that a ranger reads."""

    mood: str
    """`alarm`, `quiet`, `trouble` or `empty`: the colour."""
    headline: str
    detail: str


def summary(
    found: list[Incident],
    arrived: dict[str, datetime],
    good: int,
    admitted: int,
    now: datetime,
    language: Language = ENGLISH,
) -> Summary:
    """Return the state of the forest in two lines; drills are not part of it.

    Quiet is said only together with how many devices could have heard anything.

    Args:
        found: incidents, the latest first.
        arrived: when the first alert of each came, by incident id.
        good: devices that listen.
        admitted: devices that should.
        now: station time.
        language: the reader's.
    """
    say = language.say
    ears = language.plural(
        "{good} of {count} device listening", "{good} of {count} devices listening", admitted, good=good
    )
    real = [incident for incident in found if not incident.drill]
    fresh = [incident for incident in real if _is_fresh(incident.last_utc, now) and incident.kind == "event"]
    late = [incident for incident in real if _is_fresh(arrived.get(incident.incident_id, incident.last_utc), now)]
    if fresh or late:
        first = (fresh or late)[0]
        what, where = label_name(first.label, language), devices_named(first.devices, language)
        heard = say("heard {ago}", ago=language.ago(first.first_utc, now))
        if fresh:
            more = [language.plural("{count} more incident", "{count} more incidents", len(fresh) - 1)] * (
                len(fresh) > 1
            )
            detail = " · ".join([heard, *more, ears])
            return Summary(mood="alarm", headline=say("{label} at {place}", label=what, place=where), detail=detail)
        headline = say("Late news: {label} at {place}", label=what, place=where)
        return Summary(mood="trouble", headline=headline, detail=f"{heard} · {ears}")
    if not admitted:
        return Summary(mood="empty", headline=say("No device yet"), detail=say("Add the first one to begin."))
    last = say("no alert today")
    if real:
        last = say("last alert {ago}", ago=language.ago(real[0].last_utc, now))
    if not good:
        return Summary(mood="trouble", headline=say("Nobody is listening"), detail=f"{ears} · {last}")
    return Summary(mood="quiet", headline=say("Quiet"), detail=f"{ears} · {last}")


def devices_named(names: tuple[str, ...], language: Language = ENGLISH) -> str:
    """Return devices as one says them: the first, and how many more."""
    if len(names) == 1:
        return names[0]
    return language.plural("{name} and {count} more", "{name} and {count} more", len(names) - 1, name=names[0])


def _is_fresh(moment: datetime, now: datetime) -> bool:
    return (now - moment).total_seconds() < FRESH_S
