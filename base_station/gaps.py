"""Why a device did not hear: its silences, named by what it said afterwards, and what was wrong while it did call.

Pure functions of its hours and conditions; `gaps_of` reads both.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from base_station import hours
from base_station.condition_log import ConditionLog, Spell
from base_station.hours import DeviceHour
from base_station.store import Device, Store
from base_station.words import LONGEST_BEAT_S, SILENT_AFTER_S, SILENT_BEATS

REASONS = ("off", "link", "station", "unknown", "silent", "deaf", "model", "disk", "paused")
"""`off`: it had been started anew when it called again. `link`: it had run on, or several devices vanished with it.
`station`: no device called. `unknown`: it called again and nothing tells. `silent`: it has not called again yet.
`deaf`: its microphone gave nothing. `model`: it could recognise nothing. `disk`: it could keep nothing. `paused`: it
let the microphone go to save power."""

MOST_GAPS = 200
_MOST_SPELLS = 500
_PAUSED_SHARE = 0.1
"""Of an hour; less is no gap."""
_TOGETHER_S = 900.0
"""A silence that begins so near a `link` condition is that one's."""
_NEIGHBOURS = 2
_STATES = {
    "capture_failed": "deaf",
    "model_failed": "model",
    "model_stuck": "model",
    "disk_failed": "disk",
    "disk_full": "disk",
    "outbox_failed": "disk",
}
"""States that a `faulty` device names, by what they keep it from."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Gap:
    """A time in which a device did not hear, or nobody knows whether it did."""

    begin_utc: datetime
    end_utc: datetime | None
    """None while it goes on."""
    reason: str
    """One of REASONS."""
    started_utc: datetime | None = None
    """Of `off`: since when it ran when it called again."""
    ended_by: str = ""
    """Of `off`: how the run before had ended, as the agent says it: `power loss`, `crash`, `killed`, `clean stop`."""
    states: tuple[str, ...] = ()
    """Of `deaf`, `model` and `disk`: the states that it named."""
    detail: str = ""
    n_devices: int = 0
    """Of `link`: how many vanished together, itself among them."""
    share: float = 0.0
    """Of `paused`: which share of the time, 0 to 1."""


def gaps_of(store: Store, device: Device, past: Sequence[DeviceHour], since: datetime, now: datetime) -> list[Gap]:
    """Return a device's gaps that reach into the time since then, the latest first, at most MOST_GAPS.

    Args:
        store: the database.
        device: which.
        past: its hours since then, and the one before, as `hours.between` gives them.
        since: begin of what is looked at.
        now: station time.
    """
    spells = ConditionLog(store.database).touching(device.device_id, since, _MOST_SPELLS)

    def anybody_called(begin: datetime, end: datetime) -> bool | None:
        return hours.anybody_called(store.database, begin, end)

    found = silences(past, device, spells, now, anybody_called) + troubles(spells) + pauses(past)
    reaching = [gap for gap in found if gap.end_utc is None or gap.end_utc > since]
    return sorted(reaching, key=lambda gap: gap.begin_utc, reverse=True)[:MOST_GAPS]


def silences(
    past: Sequence[DeviceHour],
    device: Device,
    spells: Sequence[Spell],
    now: datetime,
    anybody_called: Callable[[datetime, datetime], bool | None],
) -> list[Gap]:
    """Return the times without a call that were longer than three of its intervals then, each with what it tells.

    Args:
        past: hours of the device, in order.
        device: it.
        spells: its conditions; `link` tells of silences.
        now: station time.
        anybody_called: says whether any device called in a span, None where that is not known.
    """
    found: list[Gap] = []
    for place in range(1, len(past)):
        begin, after = past[place - 1].ends_utc, past[place]
        if (after.begins_utc - begin).total_seconds() > _allowed_s(past, place):
            found.append(_ended(begin, after, spells, anybody_called))
    last = device.last_contact_utc
    if last is not None and device.revoked_utc is None and (now - last).total_seconds() > _allowed_now_s(past, device):
        together = _vanished(spells, last)
        found.append(Gap(begin_utc=last, end_utc=None, reason="silent", n_devices=len(together)))
    return found


def _ended(
    begin: datetime,
    after: DeviceHour,
    spells: Sequence[Spell],
    anybody_called: Callable[[datetime, datetime], bool | None],
) -> Gap:
    """Name a silence by the first call after it."""
    end, started = after.begins_utc, after.started_utc
    if started is not None and started > begin:
        return Gap(begin_utc=begin, end_utc=end, reason="off", started_utc=started, ended_by=after.start_reason)
    together = _vanished(spells, begin)
    if together:
        return Gap(begin_utc=begin, end_utc=end, reason="link", n_devices=len(together))
    if anybody_called(begin, end) is False:
        return Gap(begin_utc=begin, end_utc=end, reason="station")
    return Gap(begin_utc=begin, end_utc=end, reason="unknown" if started is None else "link")


def _vanished(spells: Sequence[Spell], begin: datetime) -> tuple[str, ...]:
    """Return the devices that fell silent together with this one then."""
    for spell in spells:
        if spell.name == "link" and abs((spell.begin_utc - begin).total_seconds()) <= _TOGETHER_S:
            return spell.devices
    return ()


def _allowed_s(past: Sequence[DeviceHour], place: int) -> float:
    """Return how long it might be silent then, by the busiest of the hours around: it calls less to save power."""
    around = past[max(0, place - _NEIGHBOURS) : place + _NEIGHBOURS]
    interval_s = 3600.0 / max(hour.n_beats for hour in around)
    return max(SILENT_AFTER_S, SILENT_BEATS * interval_s)


def _allowed_now_s(past: Sequence[DeviceHour], device: Device) -> float:
    beat = device.heartbeat
    announced_s = SILENT_BEATS * min(beat.heartbeat_s, LONGEST_BEAT_S) if beat is not None else 0.0
    return max(announced_s, _allowed_s(past, len(past)) if past else SILENT_AFTER_S)


def troubles(spells: Sequence[Spell]) -> list[Gap]:
    """Return the conditions in which a device called and yet heard, recognised or kept nothing."""
    found: list[Gap] = []
    for spell in spells:
        states = tuple(part for part in spell.detail.split(", ") if part.isidentifier())
        reasons = {_STATES[state]: state for state in states if state in _STATES} if spell.name == "faulty" else {}
        if spell.name == "deaf":
            reasons = {"deaf": ""}
        for reason in reasons:
            mine = states if reason == "deaf" else tuple(state for state in states if _STATES.get(state) == reason)
            found.append(
                Gap(
                    begin_utc=spell.begin_utc,
                    end_utc=spell.end_utc,
                    reason=reason,
                    states=mine,
                    detail="" if mine else spell.detail,
                )
            )
    return found


def pauses(past: Sequence[DeviceHour]) -> list[Gap]:
    """Return the times in which a device let its microphone go to save power, neighbouring hours as one."""
    found: list[Gap] = []
    for before, hour in itertools.pairwise(past):
        paused_s, whole_s = _paused_s(before, hour), (hour.ends_utc - before.ends_utc).total_seconds()
        if paused_s < _PAUSED_SHARE * whole_s or whole_s <= 0:
            continue
        share = min(1.0, paused_s / whole_s)
        if found and found[-1].end_utc == before.ends_utc:
            last = found.pop()
            so_far_s = (before.ends_utc - last.begin_utc).total_seconds()
            share = (last.share * so_far_s + share * whole_s) / (so_far_s + whole_s)
            found.append(Gap(begin_utc=last.begin_utc, end_utc=hour.ends_utc, reason="paused", share=share))
        else:
            found.append(Gap(begin_utc=before.ends_utc, end_utc=hour.ends_utc, reason="paused", share=share))
    return found


def _paused_s(before: DeviceHour, hour: DeviceHour) -> float:
    """Return for how long the microphone was let go between two hours' ends; what came before a restart is gone."""
    if hour.paused_s is None or hour.restarted_utc is None:
        return 0.0
    if before.paused_s is None or hour.restarted_utc > before.ends_utc:
        return hour.paused_s if hour.restarted_utc > before.ends_utc else 0.0
    return max(0.0, hour.paused_s - before.paused_s)
