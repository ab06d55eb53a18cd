"""The whole chain as real processes: what is killed comes back, and every alert arrives once."""

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import requests
import yaml

from agent import synth
from agent.manifest import BUNDLED_MODEL
from agent.wav import write_wav
from tests.torture.rig import PATIENCE_S, free_port, wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not BUNDLED_MODEL.exists(), reason="no model is bundled yet: make export-tflite"),
]

RATE = 16_000


class Chain:
    """A station and an agent in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.children: list[subprocess.Popen[bytes]] = []
        self.station = folder / "station"
        added = self.run("base_station", "device", "add", "tree", "--data", self.station, "--key-out", folder / "key")
        assert added == 0

    def run(self, module: str, *arguments: object) -> int:
        return subprocess.run([sys.executable, "-m", module, *map(str, arguments)], timeout=60, check=False).returncode

    def start(self, module: str, *arguments: object) -> subprocess.Popen[bytes]:
        log = (self.folder / f"{module}-{len(self.children)}.log").open("wb")
        with log:
            child = subprocess.Popen(
                [sys.executable, "-m", module, *map(str, arguments)], stdout=log, stderr=subprocess.STDOUT
            )
        self.children.append(child)
        return child

    def start_station(self) -> subprocess.Popen[bytes]:
        child = self.start("base_station", "serve", "--data", self.station, "--port", self.port)
        wait_until(self.answers, "the station answering")
        return child

    def start_agent(self, wav: Path) -> subprocess.Popen[bytes]:
        document = {
            "schema": 1,
            "device": {"id": "tree"},
            "capture": {"source": "file", "path": str(wav)},
            "station": {
                "urls": [f"http://127.0.0.1:{self.port}"],
                "key_file": str(self.folder / "key"),
                "heartbeat_s": 5,
            },
            "storage": {"folder": str(self.folder / "agent")},
        }
        config = self.folder / "agent.yaml"
        config.write_text(yaml.safe_dump(document))
        return self.start("agent", "run", "--config", config)

    def answers(self) -> bool:
        with contextlib.suppress(requests.RequestException):
            return requests.get(f"http://127.0.0.1:{self.port}/healthz", timeout=2).ok
        return False

    def alerts(self) -> list[dict[str, object]]:
        answer = requests.get(f"http://127.0.0.1:{self.port}/v1/alerts", timeout=5)
        found: list[dict[str, object]] = answer.json()["alerts"]
        return found

    def waiting(self) -> int:
        """Return how many alert revisions lie in the agent's outbox, read as a stranger would."""
        path = self.folder / "agent" / "outbox.db"
        if not path.exists():
            return 0
        try:
            with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
                tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
                return max((db.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0] for name in tables), default=0)
        except sqlite3.Error:
            return 0  # it is being made

    def stop(self) -> None:
        for child in self.children:
            if child.poll() is None:
                child.send_signal(signal.SIGKILL)
            child.wait()


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[Chain]:
    chain = Chain(tmp_path)
    yield chain
    chain.stop()


@pytest.fixture(scope="module")
def saw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seconds of forest, nine of saw, six of forest."""
    rng = np.random.default_rng(3)
    samples = synth.forest(18.0, rng)
    samples[3 * RATE : 12 * RATE] += synth.drill_saw()[: 9 * RATE]
    path = tmp_path_factory.mktemp("sound") / "saw.wav"
    write_wav(path, samples.clip(-1, 1), RATE)
    return path


@pytest.fixture(scope="module")
def forest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sound") / "forest.wav"
    write_wav(path, synth.forest(4.0, np.random.default_rng(4)), RATE)
    return path


def test_an_alert_survives_kill_9_of_the_agent_before_it_is_sent(chain: Chain, saw: Path, forest: Path) -> None:
    agent = chain.start_agent(saw)  # no station is there: the alert can only wait on disk
    wait_until(chain.waiting, "the alert reaching the disk")
    os.kill(agent.pid, signal.SIGKILL)
    agent.wait()
    chain.start_station()
    assert chain.alerts() == []
    agent = chain.start_agent(forest)
    wait_until(chain.alerts, "the alert arriving after the restart")
    assert agent.wait(timeout=PATIENCE_S) == 0
    alerts = chain.alerts()
    assert [alert["label"] for alert in alerts] == ["chainsaw"]
    assert chain.waiting() == 0


def test_an_alert_arrives_once_though_the_station_is_killed(chain: Chain, saw: Path) -> None:
    station = chain.start_station()
    agent = chain.start_agent(saw)
    wait_until(
        lambda: requests.get(f"http://127.0.0.1:{chain.port}/v1/devices", timeout=5).json()["devices"][0]["heartbeat"],
        "the heartbeat",
    )
    station.send_signal(signal.SIGKILL)
    station.wait()
    wait_until(chain.waiting, "the alert waiting on disk")
    chain.start_station()
    wait_until(chain.alerts, "the alert arriving")
    assert agent.wait(timeout=PATIENCE_S) == 0
    assert [alert["label"] for alert in chain.alerts()] == ["chainsaw"]


def test_the_launcher_ends_well_only_if_the_station_has_the_alert(tmp_path: Path, saw: Path, forest: Path) -> None:
    command = [sys.executable, "-m", "deploy", "run", "--once", "--port", str(free_port()), "--folder"]
    heard = subprocess.run(
        [*command, str(tmp_path / "saw"), "--source", str(saw)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert heard.returncode == 0, heard.stdout + heard.stderr
    assert "chainsaw begins" in heard.stdout
    assert "page: http://127.0.0.1:" in heard.stdout
    quiet = subprocess.run(
        [*command, str(tmp_path / "forest"), "--source", str(forest)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert quiet.returncode == 1, quiet.stdout + quiet.stderr
    assert "no chainsaw alert" in quiet.stderr
