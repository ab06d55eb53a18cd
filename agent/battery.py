"""What the battery says: from the kernel, from Termux, or nothing. Every field may be missing, and none is believed.

Nothing here is called by the listening loop: a fuel gauge's driver may block, and `termux-battery-status` hangs at
times. A thread of its own looks every few minutes, and the loop takes what it found last.
"""

import contextlib
import json
import logging
import math
import os
import select
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.alert import Battery
from agent.capture import end_group
from agent.errors import FieldError
from agent.fields import Fields
from agent.power import LEAST_BETWEEN_S

log = logging.getLogger(__name__)

TERMUX_COMMAND = ("termux-battery-status",)
TERMUX_LIMIT_S = 10.0
_SUPPLIES = Path("/sys/class/power_supply")
_LARGEST_ANSWER_BYTES = 64 * 1024
_CHARGING = {"charging": True, "full": True, "discharging": False, "not charging": False}


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """One look at the battery."""

    source: str
    """`sysfs` or `termux`."""
    battery: Battery
    draw_w: float | None = None
    """Watts that the battery gives; below zero while it takes."""
    voltage_v: float | None = None
    capacity_mah: float | None = None
    """What it holds when full, as it is today."""
    design_mah: float | None = None
    """What it held when new."""


def from_sysfs(folder: Path = _SUPPLIES) -> Reading | None:
    """Return what the kernel says of the device's battery; None where it tells of none, or to nobody like us."""
    try:
        supplies = sorted(folder.iterdir())
    except OSError:  # Android keeps apps out of it
        return None
    batteries = [supply for supply in supplies if _is_own_battery(supply)]
    # phones name several (bms, main, battery): the one that knows its charge speaks for all
    batteries.sort(key=lambda supply: _number(supply, "capacity") is None)
    return _supply(batteries[0]) if batteries else None


def _is_own_battery(supply: Path) -> bool:
    """Say whether a supply is a battery of the device itself: a mouse has one too."""
    return (
        _word(supply, "type") == "battery"
        and _word(supply, "scope") != "device"
        and _number(supply, "present") in (None, 1.0)
    )


def _supply(supply: Path) -> Reading:
    charging = _CHARGING.get(_word(supply, "status"))
    voltage_v = _scaled(supply, "voltage_now", 1e-6, 0.5, 60.0)
    power_w = _scaled(supply, "power_now", 1e-6, -500.0, 500.0)
    current_a = _scaled(supply, "current_now", 1e-6, -50.0, 50.0)
    if power_w is None and current_a is not None and voltage_v is not None:
        power_w = current_a * voltage_v
    return Reading(
        source="sysfs",
        battery=Battery(
            percent=_within(_number(supply, "capacity"), 0.0, 100.0),
            temperature_c=_scaled(supply, "temp", 0.1, -40.0, 120.0),
            charging=charging,
        ),
        draw_w=_signed(power_w, charging),
        voltage_v=voltage_v,
        capacity_mah=_charge_mah(supply, "full", voltage_v),
        design_mah=_charge_mah(supply, "full_design", voltage_v),
    )


def _charge_mah(supply: Path, what: str, voltage_v: float | None) -> float | None:
    charge_mah = _scaled(supply, f"charge_{what}", 1e-3, 1.0, 1e6)
    energy_wh = _scaled(supply, f"energy_{what}", 1e-6, 0.01, 1e4)
    if charge_mah is None and energy_wh is not None and voltage_v:
        return 1_000.0 * energy_wh / voltage_v
    return charge_mah


def _signed(power_w: float | None, charging: bool | None) -> float | None:
    """Return the draw; which sign a driver gives to a current is its own affair, so its status decides."""
    if power_w is None or charging is None:
        return None
    return -abs(power_w) if charging else abs(power_w)


def _word(supply: Path, name: str) -> str:
    try:
        with (supply / name).open("rb") as file:
            return file.read(100).decode("ascii", "replace").strip().lower()
    except OSError:  # not there, or the driver does not want to say
        return ""


def _number(supply: Path, name: str) -> float | None:
    with contextlib.suppress(ValueError):
        return float(int(_word(supply, name)))
    return None


def _scaled(supply: Path, name: str, scale: float, low: float, high: float) -> float | None:
    value = _number(supply, name)
    return None if value is None else _within(value * scale, low, high)


def _within(value: float | None, low: float, high: float) -> float | None:
    """Return a value that can be true; drivers also say 65535 and -22."""
    return round(value, 6) if value is not None and low <= value <= high else None


def from_termux(command: Sequence[str] = TERMUX_COMMAND, limit_s: float = TERMUX_LIMIT_S) -> Reading | None:
    """Return what Termux says; None where it is not installed, hangs, or says nothing that can be read."""
    if shutil.which(command[0]) is None:
        return None
    try:
        return parse_termux(_answer(command, limit_s))
    except (OSError, TimeoutError, FieldError) as error:
        log.debug("%s: %s", command[0], error)
        return None


def parse_termux(answer: bytes) -> Reading:
    """Read the JSON of `termux-battery-status`; FieldError if it is no mapping. Odd values are left out."""
    try:
        fields = Fields(json.loads(answer))
    except (ValueError, RecursionError) as error:
        raise FieldError("answer", f"is not JSON: {error}") from error
    status = fields.raw("status") if fields.has("status") else ""
    charging = _CHARGING.get(str(status).replace("_", " ").lower())
    voltage_mv, current_ua = _loose(fields, "voltage", 500.0, 60_000.0), _loose(fields, "current", -5e7, 5e7)
    power_w = None if voltage_mv is None or current_ua is None else voltage_mv * current_ua * 1e-9
    percent = _loose(fields, "percentage", 0.0, 100.0)
    return Reading(
        source="termux",
        battery=Battery(
            percent=_loose(fields, "level", 0.0, 100.0) if percent is None else percent,
            temperature_c=_loose(fields, "temperature", -40.0, 120.0),
            charging=charging,
        ),
        draw_w=_signed(power_w, charging),
        voltage_v=None if voltage_mv is None else voltage_mv / 1_000.0,
    )


def _loose(fields: Fields, key: str, low: float, high: float) -> float | None:
    with contextlib.suppress(FieldError):
        value = fields.number(key, -math.inf, math.inf)
        return _within(value, low, high)
    return None


def _answer(command: Sequence[str], limit_s: float) -> bytes:
    """Run a command and return what it says; whatever it does, it and all that it started are gone behind this.

    Raises:
        OSError: it cannot be started.
        TimeoutError: it was not done in time, or never stopped talking.
    """
    child = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
    )
    assert child.stdout is not None
    try:
        return _read_to_end(child.stdout.fileno(), limit_s)
    finally:
        child.stdout.close()
        end_group(child)


def _read_to_end(pipe: int, limit_s: float) -> bytes:
    until_s = time.monotonic() + limit_s
    answer = b""
    while len(answer) < _LARGEST_ANSWER_BYTES:
        ready, _, _ = select.select([pipe], [], [], max(0.0, until_s - time.monotonic()))
        if not ready:
            raise TimeoutError(f"hangs: not done after {limit_s:g} s")
        piece = os.read(pipe, 4_096)
        if not piece:
            return answer
        answer += piece
    raise TimeoutError(f"says more than {_LARGEST_ANSWER_BYTES} bytes")


def look(source: str) -> Reading | None:
    """Look at the battery once.

    Args:
        source: one of power.SOURCES; `auto` asks Termux only where the kernel does not know the charge.
    """
    reading = from_sysfs() if source in ("auto", "sysfs") else None
    if source == "termux" or (source == "auto" and (reading is None or reading.battery.percent is None)):
        return from_termux() or reading
    return reading


class BatteryWatch:
    """Looks now and then, in a thread of its own; the loop reads what was found last."""

    def __init__(self, look: Callable[[], Reading | None], monotonic: Callable[[], float], every_s: float) -> None:
        """Look at nothing yet.

        Args:
            look: returns what the battery says, however long that takes.
            monotonic: seconds that never go back.
            every_s: seconds from one look to the next, at least LEAST_BETWEEN_S.
        """
        self._look = look
        self._monotonic = monotonic
        self._every_s = max(every_s, LEAST_BETWEEN_S)
        self._found: tuple[Reading, float] | None = None

    @property
    def found(self) -> tuple[Reading, float] | None:
        """Return the last reading and the monotonic seconds at which it was taken; None before the first."""
        return self._found

    @property
    def every_s(self) -> float:
        """Return the seconds from one look to the next."""
        return self._every_s

    def look_once(self) -> None:
        """Look; a battery that says nothing leaves what was found before, which grows old."""
        reading = self._look()
        if reading is not None:
            self._found = (reading, self._monotonic())

    def run(self, stop: threading.Event) -> None:
        """Look until `stop` is set; the body of the thread."""
        while not stop.is_set():
            self.look_once()
            stop.wait(self._every_s)
