"""How a device is now, as pairs of a name and a value."""

from datetime import datetime

from base_station.pages.device_words import charge, contact, heat, model_name
from base_station.pages.frame import Visitor
from base_station.pages.language import mark
from base_station.store import Device

_CLOCK_OFF_S = 120.0
_POWER = {"full": mark("full"), "saving": mark("saving"), "survival": mark("survival")}
"""Levels of the power policy (docs/power.md)."""


def facts(visitor: Visitor, device: Device, now: datetime) -> list[tuple[str, str]]:
    """Return what there is to say of a device; what it has not said is left out."""
    say, language, beat = visitor.say, visitor.language, device.heartbeat
    told = [
        (say("Last contact"), contact(language, device, now)),
        (say("Battery"), charge(language, device)),
        (say("Temperature"), heat(language, device)),
    ]
    if beat is not None:
        told += [
            (say("Level"), f"{language.number(beat.level_dbfs)} dBFS"),
            (say("Running for"), language.span(beat.uptime_s)),
            (say("Version"), beat.version),
            (say("Model"), model_name(device)),
            (say("Free on its disk"), f"{language.number(beat.disk_free_mb)} MB"),
            (say("Alerts that wait in it"), language.number(beat.queue) if beat.queue else ""),
            (say("Power"), say(_POWER[beat.power]) if beat.power in _POWER else beat.power),
        ]
    offset_s = device.clock_offset_s
    if offset_s is not None and abs(offset_s) > _CLOCK_OFF_S:
        span = language.span(abs(offset_s))
        late = say("{span} behind", span=span) if offset_s > 0 else say("{span} ahead", span=span)
        told.append((say("Its clock"), late))
    told.append((say("Added"), language.moment(device.added_utc, now)))
    if device.revoked_utc is not None:
        told.append((say("Revoked"), language.moment(device.revoked_utc, now)))
    return [(name, value) for name, value in told if value]
