"""A station and an agent as real processes in one folder, and what can be seen of them from outside."""

import contextlib
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import requests
import yaml

from agent import synth

PATIENCE_S = 60.0
RATE = 16_000
FEEDER = Path(__file__).with_name("feeder.py")
_REVISIONS = "SELECT alert_id, revision FROM revisions ORDER BY seq"
_KEPT = re.compile(r" (heard|is over): began at .* alert ([0-9a-f]{8})")


def wait_until(condition: Callable[[], object], what: str, patience_s: float = PATIENCE_S) -> float:
    """Poll what another process does; there is no clock of theirs to turn. Return the seconds that it took."""
    began_s = time.monotonic()
    while not condition():
        assert time.monotonic() - began_s < patience_s, f"{what} did not happen within {patience_s:.0f} s"
        time.sleep(0.05)
    return time.monotonic() - began_s


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def raw_sound(path: Path, *, with_saw: bool) -> Path:
    """Write raw 16-bit sound: eighteen seconds of forest, nine of them with a saw."""
    rng = np.random.default_rng(3)
    samples = synth.forest(18.0, rng)
    if with_saw:
        samples[3 * RATE : 12 * RATE] += synth.drill_saw()[: 9 * RATE]
    path.write_bytes((samples.clip(-1, 1) * 32_767).astype("<i2").tobytes())
    return path


class Rig:
    """Starts, kills and looks."""

    def __init__(self, folder: Path) -> None:
        """Make a station with one device in a folder."""
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.children: list[subprocess.Popen[bytes]] = []
        self.logs: list[Path] = []
        self.kills = 0
        """How often an agent was killed: each may have put one alert on disk without a line in its log."""
        self.station_data = folder / "station"
        self.state = folder / "agent"
        self.saw = raw_sound(folder / "saw.raw", with_saw=True)
        self.forest = raw_sound(folder / "forest.raw", with_saw=False)
        words = ("device", "add", "tree", "--data", str(self.station_data), "--key-out", str(folder / "key"))
        added = subprocess.run(
            [sys.executable, "-m", "base_station", *words],
            timeout=60,
            check=False,
            capture_output=True,
        )
        assert added.returncode == 0, added.stderr

    def __enter__(self) -> "Rig":
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Kill what still runs."""
        for child in self.children:
            self.kill(child)

    # Processes

    def start(self, module: str, *arguments: object, limit_mb: int | None = None) -> subprocess.Popen[bytes]:
        """Start a module with its output in a log of its own, perhaps with a bound on its memory."""
        path = self.folder / f"{module}-{len(self.children):04d}.log"
        with path.open("wb") as log:
            command = [sys.executable, "-m", module, *map(str, arguments)]
            if limit_mb is not None:
                command = ["sh", "-c", f'ulimit -d {1_024 * limit_mb}; exec "$@"', "sh", *command]
            child = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        self.children.append(child)
        if module != "base_station":
            self.logs.append(path)
        return child

    def start_station(self) -> subprocess.Popen[bytes]:
        """Start the station and wait until it answers."""
        child = self.start("base_station", "serve", "--data", self.station_data, "--port", self.port)
        wait_until(self.answers, "the station answering")
        return child

    def start_agent(
        self,
        sound: Path,
        *,
        speed: float = 20.0,
        fault: Sequence[object] = (),
        port: int | None = None,
        heartbeat_s: float = 5.0,
        limit_mb: int | None = None,
        ca_file: Path | None = None,
        clock: Path | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start an agent that hears raw sound through a pipe, faster than it sounds.

        Args:
            sound: raw 16-bit sound.
            speed: times as fast.
            fault: further words for the recorder.
            port: where it looks for the station, if not at the station's own.
            heartbeat_s: seconds between heartbeats.
            limit_mb: bound on its data.
            ca_file: whom it trusts; it speaks TLS then.
            clock: holds the seconds by which its wall clock is off.
        """
        command = [str(word) for word in (sys.executable, "-S", FEEDER, sound, speed, *fault)]
        capture = {"source": "pipe", "command": command, "sample_rate": RATE}
        config = self._config(capture, port=port, heartbeat_s=heartbeat_s, ca_file=ca_file)
        if clock is not None:
            return self.start("tests.torture.clocked", clock, "run", "--config", config, limit_mb=limit_mb)
        return self.start("agent", "run", "--config", config, limit_mb=limit_mb)

    def start_agent_on(self, capture: Mapping[str, object]) -> subprocess.Popen[bytes]:
        """Start an agent on any source, by the `capture` part of its configuration."""
        return self.start("agent", "run", "--config", self._config(capture))

    def _config(
        self,
        capture: Mapping[str, object],
        *,
        port: int | None = None,
        heartbeat_s: float = 5.0,
        ca_file: Path | None = None,
    ) -> Path:
        station: dict[str, object] = {
            "urls": [f"{'http' if ca_file is None else 'https'}://127.0.0.1:{port or self.port}"],
            "key_file": str(self.folder / "key"),
            "heartbeat_s": heartbeat_s,
        }
        if ca_file is not None:
            station["ca_file"] = str(ca_file)
        document = {
            "schema": 1,
            "device": {"id": "tree"},
            "capture": dict(capture),
            "station": station,
            "storage": {"folder": str(self.state)},
        }
        path = self.folder / f"agent-{len(self.children)}.yaml"
        path.write_text(yaml.safe_dump(document))
        return path

    @staticmethod
    def kill(child: subprocess.Popen[bytes]) -> None:
        """kill -9, as the power does."""
        if child.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child.pid, signal.SIGKILL)
        child.wait()

    @staticmethod
    def stop(child: subprocess.Popen[bytes]) -> int:
        """Ask it to end, and return its exit code."""
        child.send_signal(signal.SIGTERM)
        return child.wait(timeout=PATIENCE_S)

    # What can be seen

    def answers(self) -> bool:
        """Say whether the station answers."""
        with contextlib.suppress(requests.RequestException):
            return requests.get(f"http://127.0.0.1:{self.port}/healthz", timeout=2).ok
        return False

    def arrived(self) -> list[tuple[str, int]]:
        """Return (begin of the id, revision) of every alert revision that the station has, in its database."""
        path = self.station_data / "station.db"
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
            return [(alert_id[:8], revision) for alert_id, revision in db.execute(_REVISIONS)]

    def heartbeat(self) -> dict[str, Any]:
        """Return the device's latest heartbeat, empty if there is none."""
        devices = requests.get(f"http://127.0.0.1:{self.port}/v1/devices", timeout=5).json()["devices"]
        found: dict[str, Any] = devices[0]["heartbeat"] or {}
        return found

    def kept(self) -> set[tuple[str, int]]:
        """Return (begin of the id, revision) of every alert that the agents' logs call kept."""
        return set(self.kept_in_order())

    def kept_in_order(self) -> list[tuple[str, int]]:
        """Return the same in the order of the logs."""
        return [
            (short, 0 if word == "heard" else 1)
            for path in self.logs
            for word, short in _KEPT.findall(path.read_text(errors="replace"))
        ]

    def waiting(self, *, parked: bool = False) -> int:
        """Return how many alert revisions wait in the outbox, perhaps parked ones too, read as a stranger would."""
        path = self.state / "outbox.db"
        if not path.exists():
            return 0
        try:
            with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
                counted = "SELECT count(*) FROM messages WHERE ? OR parked IS NULL"
                return int(db.execute(counted, (parked,)).fetchone()[0])
        except sqlite3.Error:
            return 0  # it is being made
