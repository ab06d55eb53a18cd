"""How devices are, in the reader's words: states, conditions, named faults, and the reasons of gaps."""

from datetime import datetime

from base_station.deadman import NAMES
from base_station.gaps import Gap
from base_station.pages.frame import Visitor
from base_station.pages.language import Language, mark
from base_station.store import Device

STATE_NAMES = {
    "listening": mark("listening"),
    "trouble": mark("in trouble"),
    "silent": mark("silent"),
    "never": mark("never called"),
    "revoked": mark("revoked"),
}
"""States of `fleet.STATES`."""

_FAULTS = {
    "battery_unknown": mark("its battery says nothing any more"),
    "behind": mark("too slow for the sound that comes"),
    "capture_failed": mark("its microphone failed"),
    "clipping": mark("too loud, the sound is cut off"),
    "constant": mark("its microphone always gives the same value"),
    "dc": mark("its microphone has a constant offset"),
    "disk_failed": mark("its disk refuses"),
    "disk_full": mark("its disk is full"),
    "gaps": mark("it loses sound"),
    "journal_failed": mark("it cannot write its journal"),
    "model_failed": mark("its model failed"),
    "model_fallback": mark("it uses the model it had before"),
    "model_slow": mark("its model is too slow"),
    "model_stuck": mark("its model always answers the same"),
    "no_audio": mark("no sound comes from its microphone"),
    "outbox_failed": mark("it cannot keep alerts on its disk"),
    "overrun": mark("it loses sound"),
    "stuck": mark("its microphone repeats the same sound"),
    "too_quiet": mark("hardly any sound: microphone covered or switched off"),
    "unreal": mark("its microphone gives no real sound"),
    "wrong_rate": mark("its microphone runs at the wrong speed"),
    "zeros": mark("its microphone gives only zeros"),
}
"""States that devices name (docs/operations.md)."""

_ENDINGS = {
    "power loss": mark("power was lost"),
    "crash": mark("the program crashed"),
    "killed": mark("the program was killed"),
    "clean stop": mark("somebody stopped it"),
}
"""How a run of the agent ended, as the next one says it."""


def condition_name(language: Language, name: str) -> str:
    """Return a condition in a few words."""
    return language.say(NAMES[name]) if name in NAMES else name.replace("_", " ")


def faults(language: Language, states: tuple[str, ...]) -> str:
    """Return named states as one list; one that this station does not know is shown as the device calls it."""
    said = [language.say(_FAULTS[state]) if state in _FAULTS else state.replace("_", " ") for state in states]
    return ", ".join(dict.fromkeys(said))


def condition_detail(language: Language, name: str, detail: str) -> str:
    """Return what a condition's detail says, with the states in it in the reader's words."""
    parts = tuple(part for part in detail.split(", ") if part)
    return faults(language, parts) if name in ("deaf", "faulty") and all(map(str.isidentifier, parts)) else detail


def gap_reason(visitor: Visitor, gap: Gap, now: datetime) -> str:
    """Return why a device did not hear, as far as anybody can know."""
    say = visitor.say
    if gap.reason == "off":
        since = visitor.language.moment(gap.started_utc or gap.begin_utc, now)
        off = say("It was off or started anew: it ran since {time} when it called again.", time=since)
        ending = _ENDINGS.get(gap.ended_by)
        return off if ending is None else off + " " + say("Before that, {ending}.", ending=say(ending))
    if gap.reason == "link" and gap.n_devices:
        number = visitor.language.number(gap.n_devices)
        return say("No link: {count} devices vanished together. What it heard came later.", count=number)
    if gap.reason == "paused":
        share = visitor.language.percent(gap.share)
        return say("It let its microphone go for {share} of the time, to save power.", share=share)
    if gap.reason in ("deaf", "model", "disk"):
        head = {
            "deaf": say("It heard nothing"),
            "model": say("It could recognise nothing"),
            "disk": say("It could keep nothing"),
        }[gap.reason]
        return f"{head}: {faults(visitor.language, gap.states) or gap.detail}"
    return {
        "link": say("No link: it had run on. What it heard came later."),
        "station": say("No device called: the station was off, or its network."),
        "silent": say("It does not call. Whether it is off or has no link shows when it calls again."),
    }.get(gap.reason, say("It did not call, and nothing tells why."))


def called(device: Device) -> str:
    """Return what people call a device, else its id."""
    return device.name or device.device_id


def model_name(device: Device) -> str:
    """Return the model of a device in short; empty where it has not said."""
    return device.heartbeat.model_digest[:8] if device.heartbeat is not None else ""


def charge(language: Language, device: Device) -> str:
    """Return the charge of a device; empty where it has not said."""
    battery = device.heartbeat.battery if device.heartbeat is not None else None
    if battery is None or battery.percent is None:
        return ""
    said = language.percent(battery.percent / 100)
    return language.say("{charge}, charging", charge=said) if battery.charging else said


def heat(language: Language, device: Device) -> str:
    """Return the temperature of a device; empty where it has not said."""
    battery = device.heartbeat.battery if device.heartbeat is not None else None
    if battery is None or battery.temperature_c is None:
        return ""
    return f"{language.number(battery.temperature_c)} °C"


def contact(language: Language, device: Device, now: datetime) -> str:
    """Return how long ago a device called."""
    if device.last_contact_utc is None:
        return language.say("never")
    return language.ago(device.last_contact_utc, now)
