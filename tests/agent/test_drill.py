"""The drill: a saw that is none goes through everything, is flagged as a drill, and each broken stage is named."""

import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent import drill, rehearsal, synth
from agent import uplink as uplink_module
from agent.__main__ import main
from agent.alert import Alert
from agent.capture import Block
from agent.errors import CaptureError, UplinkError
from agent.journal import read
from agent.lock import alone
from agent.rehearsal import BEFORE_S, Speaker
from agent.uplink import ALERTS, Answer

pytest.importorskip("ai_edge_litert", reason="no TFLite runtime for this Python: a drill needs one")

TINY = Path(__file__).resolve().parents[1] / "golden" / "tiny.tflite"


class Station:
    """A link whose station answers what the test says; receipts else."""

    def __init__(self) -> None:
        self.alerts: list[Alert] = []
        self.answer: Answer | UplinkError | None = None

    def post(self, path: str, body: bytes) -> Answer:
        assert path == ALERTS
        alert = Alert.from_json(body)
        self.alerts.append(alert)
        if isinstance(self.answer, UplinkError):
            raise self.answer
        named = {"alert_id": alert.alert_id, "revision": alert.revision}
        if self.answer is not None:
            return Answer(status=422, signed=True, kind="refused", document={**named, "reason": "no such device"})
        return Answer(status=200, signed=True, kind="receipt", document=named)

    def close(self) -> None:
        pass


@pytest.fixture
def station(monkeypatch: pytest.MonkeyPatch) -> Station:
    link = Station()
    monkeypatch.setattr(uplink_module, "StationLink", lambda **_: link)
    return link


@pytest.fixture
def config(tmp_path: Path) -> Path:
    key = tmp_path / "device.key"
    key.write_text("ab" * 32)
    key.chmod(0o600)
    path = tmp_path / "ipe-07.yaml"
    path.write_text(
        "device: {id: ipe-07}\nstation: {urls: ['https://station:8443'], key_file: device.key}\n"
        "storage: {folder: state}\n"
    )
    return path


@pytest.fixture(autouse=True)
def one_scene(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rehearsal, "scene", _scene)


@functools.cache
def _scene() -> np.ndarray:
    return _whole_scene()


_whole_scene = rehearsal.scene


def stages(capsys: pytest.CaptureFixture[str], config: Path, *more: str) -> tuple[int, dict[str, dict[str, Any]]]:
    code = main(["drill", "--config", str(config), "--json", *more])
    told = json.loads(capsys.readouterr().out)
    assert told["good"] == (code == 0)
    return code, {stage["name"]: stage for stage in told["stages"]}


def test_a_saw_goes_all_the_way_and_each_stage_says_so(config, station, capsys):
    code, said = stages(capsys, config)
    assert code == 0, said
    assert list(said) == ["capture", "gate", "model", "decision", "outbox", "station"]
    assert said["decision"]["took_s"] <= 6.0
    assert [(alert.revision, alert.label) for alert in station.alerts] == [(0, "chainsaw"), (1, "chainsaw")]


def test_every_message_of_a_drill_is_flagged_as_one(config, station, capsys):
    stages(capsys, config)
    assert station.alerts
    assert all(alert.drill for alert in station.alerts)


def test_a_drill_leaves_one_line_in_the_log_and_no_sound_to_count(config, station, capsys):
    stages(capsys, config)
    state = config.parent / "state"
    lines = list(read(state / "journal"))
    assert [(line.event, line.fields["good"]) for line in lines] == [("drill", True)]
    assert sorted(path.name for path in state.iterdir()) == ["journal", "lock"]
    assert main(["redecide", str(state), "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["windows"] == 0


def test_offline_ends_at_the_outbox(config, station, capsys):
    code, said = stages(capsys, config, "--offline")
    assert code == 0
    assert list(said)[-1] == "outbox"
    assert station.alerts == []


def test_a_station_that_is_not_reached_is_named(config, station, capsys, monkeypatch):
    monkeypatch.setattr(drill, "RECEIPT_S", 0.2)
    station.answer = UplinkError("no route")
    code, said = stages(capsys, config)
    assert (code, said["station"]["good"], said["outbox"]["good"]) == (1, False, True)
    assert "no route" in said["station"]["text"]


def test_a_station_that_refuses_is_named_with_its_reason(config, station, capsys):
    station.answer = Answer(status=422, document={})
    code, said = stages(capsys, config)
    assert code == 1
    assert said["station"]["text"] == "the station refuses it: no such device"


def test_a_model_that_hears_no_saw_breaks_the_chain_there(config, station, capsys):
    config.write_text(config.read_text() + f"listen: {{model: {TINY}}}\n")
    code, said = stages(capsys, config)
    assert code == 1
    assert said["capture"]["good"]
    assert not (said["model"]["good"] and said["decision"]["good"])
    assert station.alerts == []
    assert main(["drill", "--config", str(config)]) == 1
    assert "THE CHAIN IS BROKEN at" in capsys.readouterr().out


def test_a_running_agent_is_not_disturbed(config, station, capsys):
    with alone(config.parent / "state"):
        assert main(["drill", "--config", str(config)]) == 2
    assert "another agent uses this storage.folder" in capsys.readouterr().err


# Aloud


class Sound:
    """sounddevice, as far as the drill knows it."""

    class PortAudioError(Exception):
        pass

    def __init__(self) -> None:
        self.played: np.ndarray | None = None
        self.stopped = False

    def play(self, samples: np.ndarray, rate: int) -> None:
        assert rate == 16_000
        self.played = samples

    def stop(self) -> None:
        self.stopped = True


class Microphone:
    """Hears a forest, and whatever the loudspeaker plays."""

    name = "USB mic"
    live = True

    def __init__(self, sound: Sound, *, deaf: bool = False) -> None:
        self.sound, self.deaf = sound, deaf
        self.forest = synth.forest(BEFORE_S + synth.DRILL_SECONDS + 20.0, np.random.default_rng(3)) * 0.3

    def blocks(self) -> Iterator[Block]:
        since = None
        for start in range(0, len(self.forest), 8_000):
            samples = self.forest[start : start + 8_000].copy()
            if self.sound.played is not None and not self.deaf:
                since = start if since is None else since
                piece = self.sound.played[start - since : start - since + 8_000]
                samples[: len(piece)] += 0.3 * piece
            yield Block(start=start, samples=samples)
            # a microphone gives no more than is heard: the ring of the reader would drop what comes too fast
            threading_pause()

    def close(self) -> None:
        pass


def threading_pause() -> None:
    import time

    time.sleep(0.005)


@pytest.mark.parametrize("deaf", [False, True])
def test_aloud_the_saw_is_heard_with_the_microphone_or_missed_at_the_gate(
    config, station, capsys, monkeypatch, deaf: bool
):
    sound = Sound()
    monkeypatch.setattr(drill, "Speaker", lambda: Speaker(sound))
    monkeypatch.setattr(drill, "open_source", lambda _: Microphone(sound, deaf=deaf))
    code, said = stages(capsys, config, "--speaker")
    assert said["capture"]["good"], said
    assert (code == 0) == (not deaf), said
    assert sound.stopped
    assert len(station.alerts) == (0 if deaf else 2)


def test_without_a_loudspeaker_the_drill_says_what_to_install(config, station, capsys, monkeypatch):
    def missing() -> Speaker:
        raise CaptureError("--speaker: sounddevice cannot be used: no PortAudio; install libportaudio2")

    monkeypatch.setattr(drill, "Speaker", missing)
    code, said = stages(capsys, config, "--speaker")
    assert (code, list(said)) == (1, ["capture"])
    assert "install libportaudio2" in said["capture"]["text"]
