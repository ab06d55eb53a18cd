"""The device's clocks: certainty, odd wall times, and a boot id that belongs to its monotonic clock."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import clock as clock_module
from agent.alert import Clock
from agent.clock import RELEASED, DeviceClock, kernel_boot_id, kernel_is_synchronised
from agent.fields import Fields

LATER_S = RELEASED.timestamp() + 1e6


def at(wall_s: float, *, synchronised: bool = False) -> DeviceClock:
    return DeviceClock(wall=lambda: wall_s, monotonic=lambda: 5.0, synchronised=lambda: synchronised)


def test_a_moment_is_written_as_the_wire_wants_it() -> None:
    wall_s = datetime(2027, 1, 31, 23, 59, 59, 250_000, tzinfo=UTC).timestamp()
    moment = at(wall_s).now()
    assert moment.utc == "2027-01-31T23:59:59.250Z"
    assert moment.monotonic_s == 5.0


@pytest.mark.parametrize(
    ("wall_s", "synchronised", "certainty"),
    [
        (0.0, True, "unset"),
        (RELEASED.timestamp() - 1, True, "unset"),
        (LATER_S, False, "guess"),
        (LATER_S, True, "synced"),
    ],
)
def test_certainty_of_the_wall_clock(wall_s: float, synchronised: bool, certainty: str) -> None:
    assert at(wall_s, synchronised=synchronised).now().utc_certainty == certainty


@given(st.floats(min_value=-1e15, max_value=1e15))
def test_every_wall_clock_however_wrong_can_be_sent(wall_s: float) -> None:
    moment = at(wall_s).now()
    written = {name: getattr(moment, name) for name in ("boot_id", "monotonic_s", "utc", "utc_certainty")}
    assert Clock.parse(Fields(written)) == moment


def test_the_release_date_is_not_in_the_future_of_this_machine() -> None:
    assert datetime.now(UTC) >= RELEASED


def test_another_monotonic_clock_has_another_boot_id() -> None:
    first, second = at(0.0), at(0.0)
    assert first.boot_id != second.boot_id


def test_the_same_boot_has_the_same_id_in_every_process() -> None:
    if kernel_boot_id() is None:
        pytest.skip("this kernel does not tell its boot id")
    assert DeviceClock().boot_id == DeviceClock().boot_id == kernel_boot_id()


def test_without_a_kernel_boot_id_each_start_has_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock_module, "kernel_boot_id", lambda: None)
    assert DeviceClock().boot_id != DeviceClock().boot_id


@pytest.mark.parametrize("content", [None, b"", b"short", b"not a boot id at all", b"\xff\xfe\xff\xfe\xff\xfe\xff\xfe"])
def test_a_boot_id_file_that_is_missing_or_strange_counts_for_nothing(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "boot_id"
    if content is not None:
        path.write_bytes(content)
    assert kernel_boot_id(path) is None


def test_a_boot_id_is_read_without_its_line_end(tmp_path: Path) -> None:
    path = tmp_path / "boot_id"
    path.write_text("4D5A6989-33e7-45c5-9e82-39b64703ba85\n")
    assert kernel_boot_id(path) == "4d5a6989-33e7-45c5-9e82-39b64703ba85"


def test_the_mark_of_systemd_means_synchronised(tmp_path: Path) -> None:
    mark = tmp_path / "synchronized"
    mark.touch()
    assert kernel_is_synchronised(mark)


def test_android_is_never_asked_with_a_call_that_kills_apps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(_: object) -> None:
        pytest.fail("adjtimex was called")

    monkeypatch.setenv("ANDROID_ROOT", "/system")
    monkeypatch.setattr(clock_module.ctypes, "CDLL", killed)
    assert not kernel_is_synchronised(tmp_path / "missing")


@pytest.mark.parametrize(("answer", "synchronised"), [(0, True), (4, True), (5, False), (-1, False)])
def test_the_kernel_tells_whether_its_clock_is_disciplined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: int, synchronised: bool
) -> None:
    class Library:
        def __init__(self, _: object) -> None: ...

        def adjtimex(self, _: object) -> int:
            return answer

    monkeypatch.delenv("ANDROID_ROOT", raising=False)
    monkeypatch.setattr(clock_module.sys, "platform", "linux")
    monkeypatch.setattr(clock_module.ctypes, "CDLL", Library)
    assert kernel_is_synchronised(tmp_path / "missing") is synchronised


def test_the_monotonic_clock_goes_on() -> None:
    clock = DeviceClock()
    first_s = clock.monotonic_s()
    assert clock.monotonic_s() >= first_s >= 0
