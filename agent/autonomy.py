"""How long a battery and a panel carry a device: the same policy that the device runs, over days of weather.

A model on purpose small: energy in watt hours, the sun as half a sine from six to six, one temperature curve. What
it does not know (a panel under leaves, a battery in the cold) is in the share of the sun that arrives.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from agent.alert import Battery
from agent.power import LEVELS, LevelConfig, Policy, PowerConfig

FADE_A_YEAR = 0.08
"""Share of its capacity that a lithium battery loses in a year in the heat; assumed, as its gauge mostly lies."""
USABLE = 0.95
"""Share of the capacity that a phone gives before it turns itself off."""
_STEP_H = 1.0 / 6.0
_NIGHT_C, _NOON_C, _SUN_C = 24.0, 30.0, 8.0
_LARGEST = 1e6
LONGEST_DARK_DAYS = 60


@dataclass(frozen=True, kw_only=True, slots=True)
class Supply:
    """Where the power comes from."""

    battery_mah: float = 3_000.0
    """Capacity when new."""
    battery_v: float = 3.85
    age_years: float = 3.0
    health: float | None = None
    """Share of the capacity that is left, where it is known; None: it is guessed from the age."""
    panel_w: float = 5.0
    """What the panel gives in full sun; 0: there is none."""
    sun_h: float = 4.5
    """Hours of full sun that a usual day is worth."""
    efficiency: float = 0.6
    """Share of that which reaches the battery: leaves, dirt, heat, the charger."""

    @property
    def capacity_wh(self) -> float:
        """Return what the battery holds today."""
        health = (1.0 - FADE_A_YEAR) ** self.age_years if self.health is None else self.health
        return self.battery_mah / 1_000.0 * self.battery_v * health * USABLE

    @property
    def day_wh(self) -> float:
        """Return what a usual day brings."""
        return self.panel_w * self.sun_h * self.efficiency

    def power_w(self, hour: float, sun: float) -> float:
        """Return what comes in.

        Args:
            hour: of the day, 0 to 24.
            sun: share of a usual day's sun.
        """
        height = max(0.0, math.sin(math.pi * (hour - 6.0) / 12.0))
        return self.day_wh * sun * height * math.pi / 24.0  # half a sine over 12 h holds 24 / pi hours


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """What the device takes."""

    listen_w: float = 0.25
    """Awake, with the microphone open, before the agent computes anything."""
    sleep_w: float = 0.05
    """While the microphone is let go."""
    cpu_j: float = 1.0
    """Energy of one CPU-second."""
    listen_cpu_s: float = 1.5
    """CPU-seconds per hour of listening without the model: capture, gate, journal."""
    model_cpu_s: float = 1.5
    """CPU-seconds per hour for every window of it: log-mel and model."""
    gate_share: float = 0.5
    """Share of the windows that the gate lets through."""
    heartbeat_j: float = 10.0
    """Energy of one heartbeat, the radio's tail included."""
    heartbeat_s: float = 300.0
    """Seconds between heartbeats, as `station.heartbeat_s`."""

    def cpu_s(self, level: LevelConfig) -> float:
        """Return CPU-seconds per hour of the clock at a level."""
        return level.duty * (self.listen_cpu_s + self.model_cpu_s * self.gate_share / level.every)

    def mean_w(self, level: LevelConfig) -> float:
        """Return the power that a level takes."""
        awake_w = level.duty * self.listen_w + (1.0 - level.duty) * self.sleep_w
        radio_w = self.heartbeat_j / max(self.heartbeat_s, level.heartbeat_s)
        return awake_w + self.cpu_s(level) / 3_600.0 * self.cpu_j + radio_w


@dataclass(frozen=True, kw_only=True, slots=True)
class Day:
    """How one day went."""

    sun: float
    """Share of a usual day's sun."""
    percent: float
    """Charge at its end."""
    lowest: float
    """Lowest charge of the day."""
    hours: dict[str, float]
    """Hours at each level; less than 24 in all if the battery ran out."""
    heard: float
    """Share of the day in which the microphone was open."""
    changes: tuple[tuple[float, str], ...]
    """(hour, level) of each change."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Life:
    """How many days went."""

    days: tuple[Day, ...]
    lived_days: float
    """Until the battery ran out, or to the end."""
    died: bool

    @property
    def lowest(self) -> float:
        """Return the lowest charge in percent."""
        return min(day.lowest for day in self.days)

    @property
    def heard(self) -> float:
        """Return the share of all days in which the microphone was open; behind the end it never is."""
        return sum(day.heard for day in self.days) / len(self.days)


@dataclass(slots=True)
class _Device:
    """A device that lives through its days."""

    supply: Supply
    cost: Cost
    config: PowerConfig
    fixed: str
    charge_wh: float
    policy: Policy

    @property
    def level(self) -> str:
        return self.fixed or self.policy.level

    @property
    def percent(self) -> float:
        return 100.0 * max(0.0, self.charge_wh) / self.supply.capacity_wh

    def day(self, sun: float) -> Day:
        """Live a day; one on which the battery runs out ends early, and behind that none has an hour."""
        hours: dict[str, float] = dict.fromkeys(LEVELS, 0.0)
        taken_w = {name: self.cost.mean_w(self.config.level(name)) for name in LEVELS}
        changes = list[tuple[float, str]]()
        lowest = self.percent
        for step in range(round(24.0 / _STEP_H)):
            if self.charge_wh <= 0.0:
                break
            hour, level = step * _STEP_H, self.level
            gain_w = self.supply.power_w(hour, sun) - taken_w[level]
            self.charge_wh = min(self.supply.capacity_wh, self.charge_wh + gain_w * _STEP_H)
            lowest = min(lowest, self.percent)
            hours[level] += _STEP_H
            if not self.fixed:
                self.policy.update(Battery(percent=self.percent, temperature_c=heat_c(hour, sun)))
            if self.level != level:
                changes.append((round(hour + _STEP_H, 2), self.level))
        heard = sum(hours[name] * self.config.level(name).duty for name in LEVELS) / 24.0
        return Day(
            sun=sun,
            percent=round(self.percent, 1),
            lowest=round(lowest, 1),
            hours={name: round(value, 2) for name, value in hours.items()},
            heard=round(heard, 4),
            changes=tuple(changes),
        )


def live(
    supply: Supply, cost: Cost, config: PowerConfig, suns: Sequence[float], *, fixed: str = "", percent: float = 100.0
) -> Life:
    """Live through days of weather, from midnight to midnight.

    Args:
        supply: battery and panel.
        cost: what the device takes.
        config: the policy.
        suns: share of a usual day's sun, day by day.
        fixed: a level that never changes; empty: the policy decides.
        percent: charge at the beginning.

    Returns:
        What became of it; a battery that is empty once stays so, for a phone that went out does not start by itself.
    """
    device = _Device(supply, cost, config, fixed, supply.capacity_wh * percent / 100.0, Policy(config))
    days = tuple(device.day(sun) for sun in suns)
    lived_h = sum(sum(day.hours.values()) for day in days)
    return Life(days=days, lived_days=round(lived_h / 24.0, 2), died=device.charge_wh <= 0.0)


def heat_c(hour: float, sun: float) -> float:
    """Return the battery's temperature in its box: the forest's day, and the sun upon it."""
    day = 0.5 - 0.5 * math.cos(2.0 * math.pi * (hour - 2.0) / 24.0)
    return _NIGHT_C + (_NOON_C - _NIGHT_C) * day + _SUN_C * sun * max(0.0, math.sin(math.pi * (hour - 6.0) / 12.0))


def dark_days(supply: Supply, cost: Cost, config: PowerConfig, *, fixed: str = "") -> float:
    """Return for how many days a full battery lasts without any sun, LONGEST_DARK_DAYS at most."""
    return live(supply, cost, config, [0.0] * LONGEST_DARK_DAYS, fixed=fixed).lived_days


def smallest(good: Callable[[float], bool], start: float, step: float) -> float | None:
    """Return the smallest multiple of `step` for which `good` holds, given that it holds for all larger ones.

    Args:
        good: says whether a size is enough.
        start: where to begin to look; any size.
        step: how finely.

    Returns:
        The size, or None if no reasonable one is enough.
    """
    high = max(step, start)
    while not good(high):
        high *= 2.0
        if high > _LARGEST:
            return None
    low_n, high_n = 0, math.ceil(high / step)
    while high_n - low_n > 1:
        middle = (low_n + high_n) // 2
        if good(middle * step):
            high_n = middle
        else:
            low_n = middle
    return high_n * step
