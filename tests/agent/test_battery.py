"""What the battery says: the kernel's files, Termux's answer, and neither; odd values are nobody's truth."""

import contextlib
import json
import stat
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import battery
from agent.alert import Battery
from agent.battery import BatteryWatch, Reading, from_sysfs, from_termux, look, parse_termux
from agent.errors import FieldError

PHONE = {
    "type": "Battery",
    "present": "1",
    "status": "Discharging",
    "capacity": "81",
    "temp": "315",
    "voltage_now": "3900000",
    "current_now": "-123000",
    "charge_full": "2500000",
    "charge_full_design": "3000000",
}


def supply(root: Path, name: str, files: dict[str, str]) -> None:
    folder = root / name
    folder.mkdir(parents=True)
    for key, value in files.items():
        (folder / key).write_text(value + "\n")


def test_a_phones_battery_is_read_from_the_kernel(tmp_path: Path) -> None:
    supply(tmp_path, "usb", {"type": "USB", "online": "0"})
    supply(tmp_path, "battery", PHONE)
    reading = from_sysfs(tmp_path)
    assert reading == Reading(
        source="sysfs",
        battery=Battery(percent=81.0, temperature_c=31.5, charging=False),
        draw_w=pytest.approx(0.4797),
        voltage_v=3.9,
        capacity_mah=2_500.0,
        design_mah=3_000.0,
    )


@pytest.mark.parametrize(
    ("status", "charging"),
    [
        ("Charging", True),
        ("Full", True),
        ("Discharging", False),
        ("Not charging", False),
        ("Unknown", None),
        ("", None),
    ],
)
def test_the_status_says_whether_power_comes_in_whatever_sign_the_current_has(
    tmp_path: Path, status: str, charging: bool | None
) -> None:
    supply(tmp_path, "battery", {**PHONE, "status": status, "power_now": "2000000"})
    reading = from_sysfs(tmp_path)
    assert reading is not None
    assert reading.battery.charging is charging
    assert reading.draw_w == {True: -2.0, False: 2.0, None: None}[charging]


@pytest.mark.parametrize("missing", [key for key in PHONE if key != "type"])
def test_every_field_is_optional(tmp_path: Path, missing: str) -> None:
    supply(tmp_path, "battery", {key: value for key, value in PHONE.items() if key != missing})
    assert from_sysfs(tmp_path) is not None


def test_the_battery_that_knows_its_charge_speaks_for_all(tmp_path: Path) -> None:
    supply(tmp_path, "a-bms", {"type": "Battery", "temp": "290"})
    supply(tmp_path, "battery", PHONE)
    reading = from_sysfs(tmp_path)
    assert reading is not None
    assert reading.battery.percent == 81.0


@pytest.mark.parametrize("other", [{"scope": "Device"}, {"present": "0"}, {"type": "Mains"}, {"type": "UPS"}])
def test_a_mouse_or_an_empty_slot_is_not_the_devices_battery(tmp_path: Path, other: dict[str, str]) -> None:
    supply(tmp_path, "other", {**PHONE, **other})
    assert from_sysfs(tmp_path) is None


def test_a_device_without_a_battery_has_none(tmp_path: Path) -> None:
    assert from_sysfs(tmp_path) is None
    assert from_sysfs(tmp_path / "nowhere") is None


def test_energy_becomes_charge_where_the_kernel_counts_in_watt_hours(tmp_path: Path) -> None:
    files = {"type": "Battery", "voltage_now": "11100000", "energy_full": "33300000", "energy_full_design": "44400000"}
    supply(tmp_path, "BAT0", files)
    reading = from_sysfs(tmp_path)
    assert reading is not None
    assert (reading.capacity_mah, reading.design_mah) == (3_000.0, 4_000.0)


@given(key=st.sampled_from(sorted(PHONE)), content=st.binary(max_size=60))
def test_whatever_a_driver_says_the_reading_can_go_over_the_wire(
    tmp_path_factory: pytest.TempPathFactory, key: str, content: bytes
) -> None:
    root = tmp_path_factory.mktemp("supplies")
    supply(root, "battery", PHONE)
    (root / "battery" / key).write_bytes(content)
    reading = from_sysfs(root)
    if reading is not None:
        percent, heat_c = reading.battery.percent, reading.battery.temperature_c
        assert percent is None or 0 <= percent <= 100
        assert heat_c is None or -40 <= heat_c <= 120


# Termux

ANSWER = {
    "present": True,
    "technology": "Li-ion",
    "health": "GOOD",
    "plugged": "UNPLUGGED",
    "status": "DISCHARGING",
    "temperature": 28.7,
    "voltage": 3987,
    "current": -123000,
    "percentage": 81,
}


def test_termux_is_read() -> None:
    reading = parse_termux(json.dumps(ANSWER).encode())
    assert reading.battery == Battery(percent=81.0, temperature_c=28.7, charging=False)
    assert reading.draw_w == pytest.approx(0.4904, abs=1e-3)
    assert reading.source == "termux"


@pytest.mark.parametrize("key", sorted(ANSWER))
def test_every_field_of_termux_may_be_missing_or_odd(key: str) -> None:
    for value in (None, "x", -1e9, 1e9, [], {}, float("nan")):
        assert parse_termux(json.dumps({**ANSWER, key: value}).encode()).source == "termux"
    assert parse_termux(json.dumps({k: v for k, v in ANSWER.items() if k != key}).encode()).source == "termux"


@given(st.binary(max_size=200))
def test_any_answer_is_a_reading_or_named(answer: bytes) -> None:
    with contextlib.suppress(FieldError):
        assert parse_termux(answer).source == "termux"


def script(folder: Path, body: str) -> str:
    path = folder / "termux-battery-status"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_the_command_is_run(tmp_path: Path) -> None:
    reading = from_termux([script(tmp_path, f"echo '{json.dumps(ANSWER)}'")])
    assert reading is not None
    assert reading.battery.percent == 81.0


def test_a_command_that_hangs_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    command = script(tmp_path, f"sleep 60 & echo $! > {tmp_path}/grandchild; wait")
    began_s = time.monotonic()
    assert from_termux([command], limit_s=0.3) is None
    assert time.monotonic() - began_s < 5.0
    until_s = time.monotonic() + 5.0
    while is_running(int((tmp_path / "grandchild").read_text())):
        assert time.monotonic() < until_s, "the grandchild lives on"
        time.sleep(0.01)


def is_running(pid: int) -> bool:
    """Say whether a process still does something: one that nobody has seen off yet does not."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    return False


@pytest.mark.parametrize("body", ["exit 1", "echo nothing", "yes", "echo '[]'"])
def test_a_command_that_says_nothing_useful_is_no_reading(tmp_path: Path, body: str) -> None:
    assert from_termux([script(tmp_path, body)], limit_s=2.0) is None


def test_a_phone_without_the_command_has_no_reading(tmp_path: Path) -> None:
    assert from_termux([str(tmp_path / "termux-battery-status")]) is None


def test_termux_is_asked_only_where_the_kernel_does_not_know_the_charge(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    kernel = Reading(source="sysfs", battery=Battery(percent=50.0))
    blind = Reading(source="sysfs", battery=Battery(temperature_c=30.0))
    termux = Reading(source="termux", battery=Battery(percent=60.0))

    def ask_termux() -> Reading | None:
        asked.append("termux")
        return termux if len(asked) < 4 else None

    monkeypatch.setattr(battery, "from_termux", ask_termux)
    monkeypatch.setattr(battery, "from_sysfs", lambda: kernel)
    assert look("auto") == kernel
    assert look("none") is None
    assert asked == []
    assert look("termux") == termux
    monkeypatch.setattr(battery, "from_sysfs", lambda: blind)
    assert look("auto") == termux
    assert look("sysfs") == blind
    monkeypatch.setattr(battery, "from_sysfs", lambda: None)
    assert look("auto") == termux
    monkeypatch.setattr(battery, "from_sysfs", lambda: blind)
    assert look("auto") == blind, "half a reading is better than none"


# The thread


class Stop(threading.Event):
    """Ends the loop after a few waits, which it notes."""

    def __init__(self, turns: int) -> None:
        super().__init__()
        self.waits_s: list[float] = []
        self._turns = turns

    def wait(self, timeout: float | None = None) -> bool:
        self.waits_s.append(timeout or 0.0)
        if len(self.waits_s) == self._turns:
            self.set()
        return self.is_set()


def test_the_watch_looks_at_most_once_a_minute_and_keeps_what_it_found() -> None:
    readings = iter([None, Reading(source="sysfs", battery=Battery(percent=50.0)), None])
    now_s = iter([7.0, 8.0])
    watch = BatteryWatch(lambda: next(readings), lambda: next(now_s), 5.0)
    assert watch.found is None
    stop = Stop(3)
    watch.run(stop)
    assert stop.waits_s == [60.0] * 3
    assert watch.found == (Reading(source="sysfs", battery=Battery(percent=50.0)), 7.0)
