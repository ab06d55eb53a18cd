"""The whole chain as real processes: what is killed comes back, and every alert arrives once."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import requests

from agent import synth
from agent.manifest import BUNDLED_MODEL
from agent.wav import write_wav
from tests.torture.rig import PATIENCE_S, Rig, free_port, wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not BUNDLED_MODEL.exists(), reason="no model is bundled yet: make export-tflite"),
]

RATE = 16_000


class Chain(Rig):
    """A station and an agent that hears a recording in real time."""

    def play(self, wav: Path) -> subprocess.Popen[bytes]:
        return self.start_agent_on({"source": "file", "path": str(wav)})

    def alerts(self) -> list[dict[str, object]]:
        answer = requests.get(f"http://127.0.0.1:{self.port}/v1/alerts", timeout=5)
        found: list[dict[str, object]] = answer.json()["alerts"]
        return found


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[Chain]:
    with Chain(tmp_path) as chain:
        yield chain


@pytest.fixture(scope="module")
def saw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seconds of forest, nine of saw, six of forest."""
    return felled(tmp_path_factory.mktemp("sound") / "saw.wav", 3, 12, 18)


@pytest.fixture(scope="module")
def cut(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds of forest, ten of saw, one of forest: short, and sure of an alert."""
    return felled(tmp_path_factory.mktemp("sound") / "cut.wav", 2, 12, 13)


def felled(path: Path, onset_s: int, offset_s: int, ends_s: int) -> Path:
    samples = synth.forest(float(ends_s), np.random.default_rng(3))
    samples[onset_s * RATE : offset_s * RATE] += synth.drill_saw()[: (offset_s - onset_s) * RATE]
    write_wav(path, samples.clip(-1, 1), RATE)
    return path


@pytest.fixture(scope="module")
def forest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sound") / "forest.wav"
    write_wav(path, synth.forest(4.0, np.random.default_rng(4)), RATE)
    return path


def test_an_alert_survives_kill_9_of_the_agent_before_it_is_sent(chain: Chain, saw: Path, forest: Path) -> None:
    agent = chain.play(saw)  # no station is there: the alert can only wait on disk
    wait_until(chain.waiting, "the alert reaching the disk")
    os.kill(agent.pid, signal.SIGKILL)
    agent.wait()
    chain.start_station()
    assert chain.alerts() == []
    agent = chain.play(forest)
    wait_until(chain.alerts, "the alert arriving after the restart")
    assert agent.wait(timeout=PATIENCE_S) == 0
    alerts = chain.alerts()
    assert [alert["label"] for alert in alerts] == ["chainsaw"]
    assert chain.waiting(parked=True) == 0


def test_an_alert_arrives_once_though_the_station_is_killed(chain: Chain, saw: Path) -> None:
    station = chain.start_station()
    agent = chain.play(saw)
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


def test_the_launcher_ends_well_only_if_the_station_has_the_alert(tmp_path: Path, cut: Path, forest: Path) -> None:
    command = [sys.executable, "-m", "deploy", "run", "--once", "--port", str(free_port()), "--folder"]
    heard = subprocess.run(
        [*command, str(tmp_path / "saw"), "--source", str(cut)],
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
