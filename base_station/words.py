"""What the page says: times, labels and conditions in the words of people.

Pure functions of data and of the time now; nothing here knows of the page's toolkit.
"""

from dataclasses import dataclass
from datetime import datetime, tzinfo

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
    "battery_unknown": "its battery says nothing any more",
    "capture_failed": "microphone failed",
    "clipping": "too loud, the sound is cut off",
    "constant": "microphone stuck: always the same value",
    "dc": "microphone faulty: constant offset",
    "disk_failed": "its disk refuses",
    "disk_full": "its disk is full",
    "gaps": "loses audio",
    "journal_failed": "cannot write its journal",
    "model_failed": "model failed: it cannot recognise anything",
    "model_stuck": "model stuck: always the same answer",
    "no_audio": "deaf: no sound comes from its microphone",
    "outbox_failed": "cannot keep alerts on its disk",
    "stuck": "microphone stuck: the same sound again and again",
    "too_quiet": "hardly any sound: microphone covered or switched off",
    "zeros": "deaf: its microphone gives only zeros",
}

_LABELS = {"chainsaw": "Chainsaw", "engine": "Engine"}


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


def label_name(label: str) -> str:
    """Return a label as a title."""
    return _LABELS.get(label) or label.replace("_", " ").capitalize()


def span(seconds: float) -> str:
    """Return a length of time, coarser the longer it is: `42 s`, `7 min`, `3 h`, `5 days`."""
    seconds = max(0.0, seconds)
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds // 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds // 3600:.0f} h"
    return f"{seconds // 86_400:.0f} days"


def ago(moment: datetime, now: datetime) -> str:
    """Return how long ago a moment was; steps of 5 s below a minute, so that the eye is not drawn to it."""
    seconds = (now - moment).total_seconds()
    if seconds < 5:
        return "just now"
    return f"{span(seconds // 5 * 5 if seconds < 60 else seconds)} ago"


def local_time(moment: datetime, now: datetime, zone: tzinfo | None) -> str:
    """Return local wall time, with the day where it is another one.

    Args:
        moment: what to show.
        now: to know today.
        zone: the ranger's; None is the station's own.
    """
    local, today = moment.astimezone(zone), now.astimezone(zone)
    if local.date() == today.date():
        return f"{local:%H:%M:%S}"
    day = f"{local.day} {local:%b}"
    return f"{day} {local:%H:%M}" if local.year == today.year else f"{day} {local.year} {local:%H:%M}"


def onset_note(event: AlertEvent, now: datetime, zone: tzinfo | None) -> str:
    """Return what to know about the time of an event: how sure it is, and whether the news is late."""
    notes: list[str] = []
    if event.onset.source == "corrected":
        notes.append("time corrected by the station's clock")
    if event.onset.source == "received":
        notes.append("time of arrival, the device's clock is not set")
    if (event.received_utc - event.onset.utc).total_seconds() > LATE_S:
        notes.append(f"arrived late, {local_time(event.received_utc, now, zone)}")
    return " · ".join(notes)


def progress(event: AlertEvent) -> str:
    """Return whether an event goes on."""
    if event.state == "open":
        return "no end heard yet"
    return f"ended after {span(event.lasted_s)}"


def measures(event: AlertEvent) -> str:
    """Return score and level of an event."""
    return f"score {event.score:.2f} · level {minus(event.level_dbfs, 1)} dBFS"


def place(latitude: float, longitude: float, digits: int = 5) -> str:
    """Return coordinates as one reads them out over a radio; five decimals are a metre."""
    north, east = ("N" if latitude >= 0 else "S"), ("E" if longitude >= 0 else "W")
    return f"{abs(latitude):.{digits}f}° {north}, {abs(longitude):.{digits}f}° {east}"


def minus(value: float, decimals: int) -> str:
    """Return a number with a real minus sign."""
    return f"{value:.{decimals}f}".replace("-", "−")


def device_words(device: Device, now: datetime) -> DeviceWords:
    """Return what there is to say of a device."""
    troubles = tuple(_troubles(device, now))
    condition, headline = "good", "listening"
    if device.revoked_utc is not None:
        condition, headline, troubles = "revoked", "revoked", ()
    elif device.last_contact_utc is None:
        condition, headline = "waiting", "has not called yet"
    elif troubles:
        condition, headline = "trouble", troubles[0]
    elif device.heartbeat is None:
        headline = "in contact, no heartbeat yet"
    contact = "never called" if device.last_contact_utc is None else f"last contact {ago(device.last_contact_utc, now)}"
    return DeviceWords(
        device_id=device.device_id,
        condition=condition,
        headline=headline,
        troubles=troubles[1:],
        contact=contact,
        facts=" · ".join(_facts(device)),
    )


def _troubles(device: Device, now: datetime) -> list[str]:
    """Return what is wrong with a device, the worst first."""
    troubles: list[str] = []
    beat = device.heartbeat
    if device.last_contact_utc is not None:
        silent_s = (now - device.last_contact_utc).total_seconds()
        if silent_s > max(SILENT_AFTER_S, SILENT_BEATS * min(beat.heartbeat_s, LONGEST_BEAT_S) if beat else 0.0):
            troubles.append(f"silent for {span(silent_s)}")
    if beat is None:
        return troubles
    troubles += [_STATES.get(state, state.replace("_", " ")) for state in beat.states]
    if beat.audio_per_wall < DEAF_BELOW and not beat.states:
        troubles.append(f"deaf: heard {beat.audio_per_wall:.0%} of the time")
    battery = beat.battery
    if battery and battery.percent is not None and battery.percent < LOW_BATTERY_PERCENT and not battery.charging:
        troubles.append(f"battery at {battery.percent:.0f} %")
    return troubles


def _facts(device: Device) -> list[str]:
    facts: list[str] = []
    beat = device.heartbeat
    if beat is not None:
        facts += [f"version {beat.version}", f"level {minus(beat.level_dbfs, 0)} dBFS"]
        if beat.battery and beat.battery.percent is not None:
            charging = ", charging" if beat.battery.charging else ""
            facts.append(f"battery {beat.battery.percent:.0f} %{charging}")
        if beat.queue:
            facts.append(f"{beat.queue} {'alert waits' if beat.queue == 1 else 'alerts wait'}")
    offset_s = device.clock_offset_s
    if offset_s is not None and abs(offset_s) > CLOCK_OFF_S:
        facts.append(f"its clock is {span(abs(offset_s))} {'behind' if offset_s > 0 else 'ahead'}")
    return facts


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """The first thing that a ranger reads."""

    mood: str
    """`alarm`, `quiet`, `trouble` or `empty`: the colour."""
    headline: str
    detail: str


def summary(events: list[AlertEvent], devices: list[DeviceWords], now: datetime) -> Summary:
    """Return the state of the forest in two lines; drills are not part of it.

    Quiet is said only together with how many devices could have heard anything.
    """
    admitted = [device for device in devices if device.condition != "revoked"]
    good = sum(device.condition == "good" for device in admitted)
    ears = f"{good} of {len(admitted)} {'device' if len(admitted) == 1 else 'devices'} listening"
    real = [event for event in events if not event.drill]
    fresh = [event for event in real if (now - event.onset.utc).total_seconds() < FRESH_S]
    late = [event for event in real if (now - event.received_utc).total_seconds() < FRESH_S]
    if fresh or late:
        first = (fresh or late)[0]
        others = {event.device_id for event in fresh} - {first.device_id}
        where = f"{first.device_id} and {len(others)} more" if others else first.device_id
        heard = f"heard {ago(first.onset.utc, now)}"
        if fresh:
            return Summary(mood="alarm", headline=f"{label_name(first.label)} at {where}", detail=f"{heard} · {ears}")
        headline = f"Late news: {label_name(first.label).lower()} at {where}"
        arrived = f"arrived {ago(first.received_utc, now)}"
        return Summary(mood="trouble", headline=headline, detail=f"{heard}, {arrived} · {ears}")
    if not admitted:
        return Summary(mood="empty", headline="No device yet", detail="Add the first one to begin.")
    last = f"last alert {ago(real[0].onset.utc, now)}" if real else "no alert so far"
    if not good:
        return Summary(mood="trouble", headline="Nobody is listening", detail=f"{ears} · {last}")
    return Summary(mood="quiet", headline="Quiet", detail=f"{ears} · {last}")
