"""Signs of life: to systemd, to a file, and from one run to the next."""

import json
import os
import socket
from pathlib import Path

import pytest

from agent.watchdog import FEED_S, RunMark, Watchdog, sd_notify


@pytest.mark.parametrize("abstract", [False, True])
def test_systemd_is_told_where_it_asks(tmp_path: Path, abstract: bool) -> None:
    name = f"curupira-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind("\0" + name if abstract else name)
        assert sd_notify("READY=1", {"NOTIFY_SOCKET": "@" + name if abstract else name})
        assert systemd.recv(100) == b"READY=1"


def test_nobody_is_told_where_nobody_asks(tmp_path: Path) -> None:
    assert not sd_notify("READY=1", {})
    assert not sd_notify("READY=1", {"NOTIFY_SOCKET": str(tmp_path / "gone")})


def test_signs_of_life_follow_progress_and_not_the_clock(tmp_path: Path) -> None:
    said: list[str] = []
    watchdog = Watchdog(tmp_path / "alive", said.append)
    watchdog.ready()
    for second in range(60):
        watchdog.see(("sound", min(second, 30)), float(second))  # it hangs after half a minute
    assert said[0].startswith("READY=1")
    assert said[1:] == ["WATCHDOG=1"] * (30 // int(FEED_S) + 1)
    watchdog.say("two\nlines")
    watchdog.stopping()
    assert said[-2:] == ["STATUS=two lines", "STOPPING=1"]


def test_the_files_time_is_the_last_sign(tmp_path: Path) -> None:
    path = tmp_path / "alive"
    watchdog = Watchdog(path, lambda _: None)
    watchdog.ready()
    os.utime(path, (1_000, 1_000))
    watchdog.see(1, 0.0)
    assert path.stat().st_mtime > 1_000
    os.utime(path, (1_000, 1_000))
    watchdog.see(1, 100.0)
    assert path.stat().st_mtime == 1_000


def test_a_file_that_cannot_be_touched_stops_nothing(tmp_path: Path) -> None:
    watchdog = Watchdog(tmp_path / "no" / "folder" / "alive", lambda _: None)
    watchdog.ready()
    watchdog.see(1, 0.0)


def test_each_end_of_a_run_has_its_name(tmp_path: Path) -> None:
    path = tmp_path / "run"
    first = RunMark(path, "boot-one")
    assert first.reason == "first start"
    first.begin()
    killed = RunMark(path, "boot-one")
    assert killed.reason == "killed"
    killed.begin()
    rebooted = RunMark(path, "boot-two")
    assert rebooted.reason == "power loss"
    rebooted.begin()
    rebooted.end("ValueError: too\nmany words " + "w" * 400)
    crashed = RunMark(path, "boot-two")
    assert crashed.reason == "crash"
    assert crashed.detail.startswith("ValueError: too many words")
    crashed.begin()
    crashed.end()
    assert RunMark(path, "boot-three").reason == "clean stop"


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"schema": 1}', json.dumps({"schema": 9}).encode(), b"\xff" * 9_000]
)
def test_a_damaged_mark_is_unknown_and_stops_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "run").write_bytes(content)
    mark = RunMark(tmp_path / "run", "boot-one")
    assert mark.reason == "unknown"
    mark.begin()
    assert RunMark(tmp_path / "run", "boot-one").reason == "killed"


def test_a_disk_that_refuses_the_mark_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    mark = RunMark(tmp_path / "file" / "run", "boot-one")
    mark.begin()
    assert "will not be known" in caplog.text
