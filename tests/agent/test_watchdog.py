"""Signs of life: to systemd, to a file, and from one run to the next."""

import json
import os
import socket
from pathlib import Path

import pytest

from agent.watchdog import FEED_S, RunMark, Watchdog, alive_file, sd_notify


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


def test_signs_of_life_lie_in_memory_where_there_is_such_a_folder(tmp_path: Path) -> None:
    folder, memory = tmp_path / "state", tmp_path / "memory"
    folder.mkdir()
    memory.mkdir()
    for environ in ({"XDG_RUNTIME_DIR": str(memory)}, {"RUNTIME_DIRECTORY": f"{memory}:/other"}):
        path, touch_s = alive_file(folder, environ)
        assert path.parent == memory
        assert touch_s == FEED_S
        assert (folder / "alive").readlink() == path
    other, _ = alive_file(tmp_path, {"XDG_RUNTIME_DIR": str(memory)})
    assert other != path, "two agents have two files"
    path.unlink()  # the device was off
    Watchdog(path, lambda _: None).ready()
    assert (folder / "alive").exists()


@pytest.mark.parametrize("runtime", [None, "", "nowhere"])
def test_on_flash_signs_of_life_are_seldom(tmp_path: Path, runtime: str | None) -> None:
    environ = {} if runtime is None else {"XDG_RUNTIME_DIR": runtime and str(tmp_path / runtime)}
    (tmp_path / "alive").symlink_to(tmp_path / "gone")
    path, touch_s = alive_file(tmp_path, environ)
    assert path == tmp_path / "alive"
    touches: list[float] = []
    watchdog = Watchdog(path, lambda _: None, touch_s)
    for second in range(600):
        path.unlink(missing_ok=True)
        watchdog.see(second, float(second))
        if path.exists():
            touches.append(second)
    assert len(touches) == 10
    assert not path.is_symlink()


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
