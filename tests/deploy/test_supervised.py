"""The real agent under a supervisor that goes by the real unit file: signs of life, crash, hang, stop."""

import contextlib
import itertools
import os
import re
import signal
import sqlite3
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import yaml

from agent import journal
from agent.watchdog import FEED_S
from tests.conftest import REPO
from tests.deploy.supervisor import MEGABYTE, Supervisor, Unit
from tests.torture.rig import FEEDER, RATE, raw_sound, wait_until

pytestmark = pytest.mark.slow

UNIT = Unit.read(REPO / "deploy/linux/agent/service/curupira-agent.service")
SHORT_S = FEED_S + 3
"""A watchdog that a test can wait for, and that one sign of life feeds until the next is due."""
DRIVER = '''"""A PortAudio whose driver hangs once: it gives sound, then neither sound nor the card back."""
import os, threading, time
import numpy

class PortAudioError(Exception):
    pass

class default:
    device = (0, 0)

def _terminate(): pass
_initialize = _terminate
def query_devices(): return [{"name": "card", "max_input_channels": 1, "default_samplerate": 16000.0}]
def check_input_settings(**_): pass

class _Flags:
    input_overflow = False

class InputStream:
    def __init__(self, *, blocksize, callback, **_):
        self._sick = not os.path.exists(os.environ["RUNTIME_DIRECTORY"] + "/hung")
        self._thread = threading.Thread(target=self._play, args=(blocksize, callback), daemon=True)

    def start(self):
        self._thread.start()

    def _play(self, blocksize, callback):
        noise = numpy.random.default_rng(3)
        for number in range(4 if self._sick else 10**9):
            time.sleep(blocksize / 16000)
            callback(noise.normal(0, 0.01, (blocksize, 1)).astype("float32"), blocksize, None, _Flags)

    def close(self):
        if self._sick:
            open(os.environ["RUNTIME_DIRECTORY"] + "/hung", "w").close()
            time.sleep(10**6)
'''

Place = Callable[..., Supervisor]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Return a maker of supervisors over an agent that hears so many times faster than it sounds."""

    def make(capture: Mapping[str, object] | None = None, *, speed: float = 1.0, watchdog_s: float = 0.0) -> Supervisor:
        saw = raw_sound(tmp_path / "saw.raw", with_saw=True)
        command = [str(word) for word in (sys.executable, "-S", FEEDER, saw, speed)]
        document = {
            "schema": 1,
            "device": {"id": "tree"},
            "capture": dict(capture or {"source": "pipe", "command": command, "sample_rate": RATE}),
            "storage": {"folder": str(tmp_path / "state")},
        }
        (tmp_path / "credentials").mkdir()
        (tmp_path / "credentials/config.yaml").write_text(yaml.safe_dump(document))
        return Supervisor(unit=UNIT, folder=tmp_path, watchdog_s=watchdog_s)

    return make


def waiting(folder: Path) -> set[str]:
    """Return the begin of the ids of the alerts that are on disk."""
    path = folder / "state/outbox.db"
    if not path.exists():
        return set()
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as outbox:
        return {alert_id[:8] for (alert_id,) in outbox.execute("SELECT alert_id FROM messages")}


def named(log: str) -> set[str]:
    """Return the begin of the ids of the alerts that the log calls heard."""
    return set(re.findall(r" heard: began at .* alert ([0-9a-f]{8})", log))


def reasons(folder: Path) -> list[object]:
    """Return why each run began, from the field log."""
    return [line.fields["reason"] for line in journal.read(folder / "state/journal") if line.event == "start"]


def test_from_ready_to_stopping_it_speaks_in_time_and_keeps_the_units_limits(place: Place, tmp_path: Path) -> None:
    with place() as systemd:
        systemd.start()
        while len(systemd.signs()) < 3:
            assert time.monotonic() - systemd.signs()[-1] < UNIT.watchdog_s
            systemd.hear(1.0)
        gaps_s = [later - sooner for sooner, later in itertools.pairwise(systemd.signs())]
        assert max(gaps_s) < UNIT.watchdog_s / 2
        print(f"signs of life {max(gaps_s):.1f} s apart at most; control group: {systemd.group or 'none can be made'}")
        assert systemd.status("Threads") <= UNIT.tasks / 2
        assert systemd.status("VmHWM") * 1_024 < 0.8 * UNIT.memory_mb * MEGABYTE
        assert len(list(Path(f"/proc/{systemd.pid}/fd").iterdir())) < UNIT.descriptors / 4
        limits = Path(f"/proc/{systemd.pid}/limits").read_text()
        assert re.search(rf"^Max open files +{UNIT.descriptors} ", limits, re.MULTILINE)
        assert re.search(rf"^Max data size +{UNIT.memory_mb * MEGABYTE} ", limits, re.MULTILINE)

        began_s = time.monotonic()
        assert systemd.kill(signal.SIGTERM) == 0
        assert time.monotonic() - began_s < UNIT.stop_s
        said = [line for _, line in systemd.said]
        assert said[:2] == ["READY=1", "STATUS=listening"]
        assert said[-2] == "STOPPING=1"
        assert re.fullmatch(r"STATUS=0\.0 h heard, \d+ alerts wait, hears well", said[-1])
        systemd.start()
        assert reasons(tmp_path) == ["first start", "clean stop"]


def test_killed_it_is_started_again_and_no_alert_is_lost(place: Place, tmp_path: Path) -> None:
    with place(speed=10.0) as systemd:
        systemd.start()
        for starts in (1, 2):
            before = len(named(systemd.log()))
            wait_until(lambda before=before: len(named(systemd.log())) > before, "an alert")
            systemd.kill(signal.SIGKILL)
            heard = named(systemd.log())
            assert heard <= waiting(tmp_path)
            assert systemd.oversee(10) == "ended"
            assert systemd.starts == starts + 1
            assert heard <= waiting(tmp_path), "the start afterwards took none away"
        assert reasons(tmp_path) == ["first start", "killed", "killed"]


def test_an_agent_that_hangs_is_ended_by_the_watchdog(place: Place, tmp_path: Path) -> None:
    with place(watchdog_s=SHORT_S) as systemd:
        systemd.start()
        os.kill(systemd.pid, signal.SIGSTOP)
        assert systemd.oversee(3 * SHORT_S) == "watchdog"
        assert reasons(tmp_path) == ["first start", "killed"]


def test_a_sound_driver_that_hangs_is_not_taken_for_life(place: Place, tmp_path: Path) -> None:
    (tmp_path / "driver").mkdir()
    (tmp_path / "driver/sounddevice.py").write_text(DRIVER)
    # longer than the ten seconds after which a source that is only silent is opened again
    with place({"source": "sounddevice"}, watchdog_s=20.0) as systemd:
        systemd.python_path = f"{tmp_path / 'driver'}:{REPO}"
        systemd.start()
        assert systemd.oversee(120) == "watchdog"
        assert (tmp_path / "runtime/hung").exists(), "it hung where the test wanted it"
        systemd.wait_for("WATCHDOG=1", 60)
        assert "no_audio: no block has come for 8 s" in systemd.log()
        assert reasons(tmp_path) == ["first start", "killed"]
