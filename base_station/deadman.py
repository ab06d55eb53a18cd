"""What is wrong with devices, by what they said last and by what they do not say: named conditions.

Pure functions of heartbeats and of the time now; nothing here sleeps or reads a clock. A condition has a begin and an
end; one that comes back within the cooldown goes on instead of beginning anew, so that a flapping link is one line.
"""

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from base_station.store import Device
from base_station.words import SILENT_AFTER_S, SILENT_BEATS, mark, span

NAMES = {
    "late": mark("has not called"),
    "link": mark("vanished with others: the link"),
    "deaf": mark("hears nothing"),
    "hushed": mark("much quieter than usual"),
    "faulty": mark("says that something is wrong"),
    "hot": mark("too hot"),
    "low_battery": mark("battery low"),
    "out_of_disk": mark("disk nearly full"),
    "old_model": mark("another model than most"),
}
"""Every condition in a few words: in messages in English, on the pages in the reader's language."""

_DEAF_STATES = frozenset({"no_audio", "zeros", "constant", "stuck", "too_quiet", "unreal"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """When a condition begins; some end only well on the other side, so that they do not flap."""

    late_s: float = SILENT_AFTER_S
    """Without a call..."""
    late_beats: float = 4.0
    """...or so many of its usual intervals, or three of those that it announced, to save power; whichever is longest,
    and never more than `late_most_s`."""
    late_most_s: float = 6 * 3600.0
    together_s: float = 600.0
    """Devices whose last calls lie so close vanished together."""
    together_devices: int = 3
    deaf_share: float = 0.5
    """Share of the time that it must have heard."""
    hot_c: float = 48.0
    hot_over_c: float = 44.0
    low_battery_percent: float = 15.0
    low_battery_over_percent: float = 25.0
    disk_mb: float = 50.0
    disk_over_mb: float = 150.0
    model_days: float = 1.0
    """How long a device may have another model than most before it counts."""
    hushed_db: float = 12.0
    """Below the usual level of this hour of the day..."""
    hushed_spreads: float = 4.0
    """...and so many times its usual spread."""
    hushed_days: int = 5
    """Days of this hour that must be known."""
    cooldown_s: float = 1800.0
    """A condition that returns within this goes on; a new one is told."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Hour:
    """What one device heard in one hour of one day."""

    begin_utc: datetime
    level_dbfs: float
    """Mean of its heartbeats' levels."""
    n_beats: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Watched:
    """One device with what is known of its past."""

    device: Device
    interval_s: float = 300.0
    """Usual time between its calls."""
    hours: Sequence[Hour] = field(default=())
    """Its hours so far, this one among them; any order."""
    model_since_utc: datetime | None = None
    """When its present model was first heard of."""


@dataclass(frozen=True, kw_only=True, slots=True, order=True)
class Condition:
    """One thing that is wrong now."""

    subject: str
    """A device, or the first by name of those that vanished together."""
    name: str
    """One of NAMES."""
    since_utc: datetime
    """As far as it can be told."""
    detail: str
    devices: tuple[str, ...] = ()
    """All that it is about, where it is about several."""


Key = tuple[str, str]
"""Subject and name: what is the same condition tomorrow."""


def conditions(
    watched: Sequence[Watched], holding: frozenset[Key], now_utc: datetime, limits: Limits
) -> list[Condition]:
    """Return everything that is wrong now, sorted.

    Args:
        watched: all devices; revoked ones and those that never called have no conditions.
        holding: conditions that hold already, which end later than they begin.
        now_utc: station time.
        limits: when a condition begins and ends.
    """
    active = [one for one in watched if one.device.revoked_utc is None and one.device.last_contact_utc is not None]
    late = {one.device.device_id: one for one in active if _silent_s(one, now_utc) > _allowed_s(one, limits)}
    found = _vanished(late, now_utc, limits)
    usual_model = _usual_model(active)
    for one in active:
        if one.device.device_id not in late and one.device.heartbeat is not None:
            found += _said(one, holding, limits)
            found += _model(one, usual_model, now_utc, limits)
            found += _hushed(one, now_utc, limits)
    return sorted(found)


def _silent_s(one: Watched, now_utc: datetime) -> float:
    assert one.device.last_contact_utc is not None
    return (now_utc - one.device.last_contact_utc).total_seconds()


def _allowed_s(one: Watched, limits: Limits) -> float:
    beat = one.device.heartbeat
    announced_s = SILENT_BEATS * beat.heartbeat_s if beat is not None else 0.0
    return min(max(limits.late_s, limits.late_beats * one.interval_s, announced_s), limits.late_most_s)


def _vanished(late: Mapping[str, Watched], now_utc: datetime, limits: Limits) -> list[Condition]:
    """Return those that are late: alone, or several at once as one broken link."""
    found: list[Condition] = []
    for group in _together(late, limits.together_s):
        since = min(_last(late[name]) for name in group)
        if len(group) >= limits.together_devices:
            detail = f"{len(group)} devices fell silent within {span(limits.together_s)}"
            found.append(Condition(subject=group[0], name="link", since_utc=since, detail=detail, devices=group))
            continue
        for name in group:
            detail = f"silent for {span(_silent_s(late[name], now_utc))}"
            found.append(Condition(subject=name, name="late", since_utc=_last(late[name]), detail=detail))
    return found


def _last(one: Watched) -> datetime:
    assert one.device.last_contact_utc is not None
    return one.device.last_contact_utc


def _together(late: Mapping[str, Watched], together_s: float) -> list[tuple[str, ...]]:
    """Return groups whose last calls follow each other closely, each sorted by name."""
    groups: list[list[str]] = []
    before: datetime | None = None
    for name in sorted(late, key=lambda name: (_last(late[name]), name)):
        last = _last(late[name])
        if before is None or (last - before).total_seconds() > together_s:
            groups.append([])
        groups[-1].append(name)
        before = last
    return [tuple(sorted(group)) for group in groups]


def _said(one: Watched, holding: frozenset[Key], limits: Limits) -> list[Condition]:
    """Return what its latest heartbeat says of it."""
    device, beat = one.device, one.device.heartbeat
    assert beat is not None
    assert device.heartbeat_utc is not None
    found: list[tuple[str, str]] = []

    def holds(name: str) -> bool:
        return (device.device_id, name) in holding

    deaf = sorted(_DEAF_STATES & set(beat.states))
    if deaf:
        found.append(("deaf", ", ".join(deaf)))
    elif beat.audio_per_wall < limits.deaf_share:
        found.append(("deaf", f"heard {beat.audio_per_wall:.0%} of the time"))
    if other := sorted(set(beat.states) - _DEAF_STATES):
        found.append(("faulty", ", ".join(other)[:200]))
    battery = beat.battery
    heat = battery.temperature_c if battery else None
    if heat is not None and heat > (limits.hot_over_c if holds("hot") else limits.hot_c):
        found.append(("hot", f"{heat:.0f} °C"))
    charge = battery.percent if battery else None
    floor = limits.low_battery_over_percent if holds("low_battery") else limits.low_battery_percent
    if charge is not None and charge < floor:
        found.append(("low_battery", f"{charge:.0f} %{', charging' if battery and battery.charging else ''}"))
    if beat.disk_free_mb < (limits.disk_over_mb if holds("out_of_disk") else limits.disk_mb):
        found.append(("out_of_disk", f"{beat.disk_free_mb:.0f} MB free"))
    return [
        Condition(subject=device.device_id, name=name, since_utc=device.heartbeat_utc, detail=detail)
        for name, detail in found
    ]


def _usual_model(active: Sequence[Watched]) -> str | None:
    """Return the model that most devices have; None where none has the majority."""
    models = Counter(one.device.heartbeat.model_digest for one in active if one.device.heartbeat is not None)
    if not models:
        return None
    model, count = models.most_common(1)[0]
    return model if 2 * count > models.total() else None


def _model(one: Watched, usual: str | None, now_utc: datetime, limits: Limits) -> list[Condition]:
    beat = one.device.heartbeat
    assert beat is not None
    since = one.model_since_utc or one.device.heartbeat_utc
    if usual is None or beat.model_digest == usual or since is None:
        return []
    if now_utc - since < timedelta(days=limits.model_days):
        return []
    detail = f"{beat.model_digest[:12]} instead of {usual[:12]}"
    return [Condition(subject=one.device.device_id, name="old_model", since_utc=since, detail=detail)]


def _hushed(one: Watched, now_utc: datetime, limits: Limits) -> list[Condition]:
    """Compare the hour that ended last with the same hour of the days before."""
    ended = [hour for hour in one.hours if hour.begin_utc + timedelta(hours=1) <= now_utc]
    if not ended:
        return []
    latest = max(ended, key=lambda hour: hour.begin_utc)
    if now_utc - latest.begin_utc > timedelta(hours=2):
        return []
    usual = [
        hour.level_dbfs
        for hour in ended
        if hour.begin_utc < latest.begin_utc and hour.begin_utc.hour == latest.begin_utc.hour
    ]
    if len(usual) < limits.hushed_days:
        return []
    middle = statistics.median(usual)
    spread = 1.4826 * statistics.median(abs(level - middle) for level in usual)
    below_db = middle - latest.level_dbfs
    if below_db <= max(limits.hushed_db, limits.hushed_spreads * spread):
        return []
    detail = f"{below_db:.0f} dB below its usual {middle:.0f} dBFS of this hour"
    return [Condition(subject=one.device.device_id, name="hushed", since_utc=latest.begin_utc, detail=detail)]
