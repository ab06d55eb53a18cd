"""Go or no-go: every check says what it saw, and what to do where it is not good."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from agent import doctor
from agent.alert import Battery, Clock, Heartbeat
from agent.battery import Reading
from agent.capture import AudioSource, Block
from agent.classify import load_classifier
from agent.clock import DeviceClock
from agent.config import AgentConfig, CaptureConfig, DeviceConfig, ListenConfig, StationConfig, StorageConfig
from agent.doctor import Finding, examine, screen
from agent.errors import CaptureError, UplinkError
from agent.uplink import HEARTBEATS, Answer

TINY = Path(__file__).resolve().parents[1] / "golden" / "tiny.tflite"

pytest.importorskip("ai_edge_litert", reason="no TFLite runtime for this Python: always no-go")


class Microphone:
    """Plays blocks of a level, or fails."""

    name = "USB mic"
    live = True

    def __init__(self, level: float = 0.1, n_blocks: int = 100, error: CaptureError | None = None) -> None:
        self.level, self.n_blocks, self.error = level, n_blocks, error
        self.given = 0
        self.closed = False

    def blocks(self) -> Iterator[Block]:
        if self.error is not None:
            raise self.error
        for _ in range(self.n_blocks):
            samples = np.full(8_000, self.level, np.float32)
            yield Block(start=8_000 * self.given, samples=samples)
            self.given += 1

    def close(self) -> None:
        self.closed = True


class Link:
    """A station that answers what the test says."""

    def __init__(self, answer: Answer | UplinkError) -> None:
        self.answer = answer
        self.sent: list[tuple[str, Heartbeat]] = []
        self.asked: Mapping[str, object] = {}
        self.closed = False

    def post(self, path: str, body: bytes) -> Answer:
        self.sent.append((path, Heartbeat.from_json(body)))
        if isinstance(self.answer, UplinkError):
            raise self.answer
        return self.answer

    def close(self) -> None:
        self.closed = True


RECEIPT = Answer(status=200, signed=True, kind="receipt", document={})


@pytest.fixture
def config(tmp_path: Path) -> AgentConfig:
    key = tmp_path / "device.key"
    key.write_text("ab" * 32)
    key.chmod(0o600)
    return AgentConfig(
        device=DeviceConfig(id="ipe-07"),
        capture=CaptureConfig(),
        listen=ListenConfig(model=TINY),
        station=StationConfig(urls=("https://station:8443",), key_file=key),
        storage=StorageConfig(folder=tmp_path / "state"),
    )


@pytest.fixture
def microphone(monkeypatch: pytest.MonkeyPatch) -> Microphone:
    found = Microphone()

    def open_it(config: CaptureConfig) -> AudioSource:
        return found

    monkeypatch.setattr(doctor, "open_source", open_it)
    return found


@pytest.fixture
def link(monkeypatch: pytest.MonkeyPatch) -> Link:
    found = Link(RECEIPT)

    def make(**asked: object) -> Link:
        found.asked = asked
        return found

    monkeypatch.setattr(doctor, "StationLink", make)
    return found


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Return what sets the certainty of the clock; it is synchronised else."""

    def set_certainty(certainty: str) -> None:
        now = Clock(boot_id="0123-4567", monotonic_s=5.0, utc="2026-11-20T11:42:07.250Z", utc_certainty=certainty)
        monkeypatch.setattr(DeviceClock, "now", lambda _: now)

    set_certainty("synced")
    return set_certainty


def finding(config: AgentConfig, name: str, *, offline: bool = False) -> Finding:
    (found,) = [found for found in examine(config, offline=offline) if found.name == name]
    return found


# All is well


def test_a_healthy_device_is_a_go(config: AgentConfig, microphone: Microphone, link: Link) -> None:
    findings = examine(config, offline=False)
    assert [found.name for found in findings] == [
        "model",
        "speed",
        "gate",
        "microphone",
        "disk",
        "clock",
        "battery",
        "permissions",
        "station",
    ]
    assert [found for found in findings if not found.good] == []
    text = screen(config, findings)
    assert text.splitlines()[0].endswith("device ipe-07")
    assert text.splitlines()[-1] == "GO"
    assert len(text.splitlines()) <= 24, "one screen"


def test_offline_leaves_microphone_and_station_out(config: AgentConfig, microphone: Microphone, link: Link) -> None:
    left = ["model", "speed", "gate", "disk", "clock", "battery", "permissions"]
    assert [found.name for found in examine(config, offline=True)] == left
    assert (microphone.given, link.sent) == (0, [])


def test_each_finding_says_what_was_seen(config: AgentConfig, microphone: Microphone, link: Link) -> None:
    texts = {found.name: found.text for found in examine(config, offline=False)}
    assert texts["model"].startswith("tiny ")
    assert texts["model"].endswith("golden answers right")
    assert texts["gate"] == "webrtcvad and bands"
    assert texts["microphone"] == "USB mic: 3.0 s heard, loudest -20 dBFS"
    assert texts["disk"].startswith(f"{config.storage.folder}: ")
    assert texts["clock"] == "2026-11-20T11:42:07.250Z, synced"
    assert texts["station"].startswith("signed answer in ")


def test_bad_findings_come_with_their_cure(config: AgentConfig) -> None:
    findings = [
        Finding(name="model", good=True, text="tiny", cure="never shown"),
        Finding(name="disk", good=False, text="3 MB free", cure="free at least 100 MB"),
        Finding(name="clock", good=False, text="1970"),
    ]
    lines = screen(config, findings).splitlines()
    assert lines[-1] == "NO-GO: disk, clock"
    assert [line.split() for line in lines[2:6]] == [
        ["ok", "model", "tiny"],
        ["BAD", "disk", "3", "MB", "free"],
        ["->", "free", "at", "least", "100", "MB"],
        ["BAD", "clock", "1970"],
    ]


# The model and the gate


def test_a_model_that_is_not_there_is_bad(config: AgentConfig) -> None:
    lost = replace(config, listen=ListenConfig(model=Path("/nowhere/lost.tflite")))
    found = finding(lost, "model", offline=True)
    assert not found.good
    assert found.text.startswith("/nowhere/lost.tflite: cannot read the model")
    assert "copy the model" in found.cure


def test_a_model_without_xnnpack_is_slow_and_good(config: AgentConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(*given: object) -> object:
        return replace(load_classifier(*given), xnnpack=False)  # type: ignore[arg-type]  # passed on as they come

    monkeypatch.setattr(doctor, "load_classifier", slow)
    found = finding(config, "model", offline=True)
    assert found.good
    assert "no XNNPACK: int8 is slow here" in found.text


def test_a_gate_without_webrtcvad_is_said(config: AgentConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "webrtc_vad", lambda mode: None)
    found = finding(config, "gate", offline=True)
    assert (found.good, found.text) == (True, "bands alone: webrtcvad is not installed")


# The microphone


def test_the_microphone_is_heard_for_three_seconds_and_let_go(
    config: AgentConfig, microphone: Microphone, link: Link
) -> None:
    assert finding(config, "microphone").good
    assert microphone.given == 5  # the sixth block is taken and ends it
    assert microphone.closed


def test_digital_silence_is_bad(config: AgentConfig, microphone: Microphone, link: Link) -> None:
    microphone.level = 0.0
    found = finding(config, "microphone")
    assert (found.good, found.text) == (False, "USB mic: gives digital silence, not sound")
    assert "permission" in found.cure


def test_a_microphone_that_gives_nothing_is_bad(config: AgentConfig, microphone: Microphone, link: Link) -> None:
    microphone.n_blocks = 0
    assert not finding(config, "microphone").good


def test_the_bar_moves_while_the_microphone_is_heard(config: AgentConfig, microphone: Microphone, link: Link) -> None:
    lines: list[str] = []
    examine(config, offline=False, listen_s=2.0, show=lines.append)
    assert len(lines) == 4
    assert all("[######################--------]  -20 dBFS" in line for line in lines)


def test_a_microphone_in_a_bad_state_is_bad_though_it_is_loud(
    config: AgentConfig, microphone: Microphone, link: Link
) -> None:
    (found,) = [f for f in examine(config, offline=False, listen_s=9.0) if f.name == "microphone"]
    assert (found.good, found.text) == (False, "USB mic: constant")


def test_a_microphone_that_fails_is_bad_and_let_go(config: AgentConfig, microphone: Microphone, link: Link) -> None:
    microphone.error = CaptureError("USB mic: held by another program")
    found = finding(config, "microphone")
    assert (found.good, found.text) == (False, "USB mic: held by another program")
    assert microphone.closed


# Disk and clock


def test_a_folder_that_cannot_be_written_is_bad(config: AgentConfig, tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file is in the way")
    found = finding(config, "disk", offline=True)
    assert not found.good
    assert found.text == f"{tmp_path / 'state'}: cannot write: File exists"


def test_a_folder_that_cannot_be_written_does_not_hide_the_other_findings(
    config: AgentConfig, tmp_path: Path, microphone: Microphone, link: Link
) -> None:
    (tmp_path / "state").write_text("a file is in the way")
    findings = examine(config, offline=False)
    assert [found.name for found in findings if not found.good] == ["disk"]


@pytest.mark.parametrize(("free_mb", "good"), [(99.9, False), (100.0, True)])
def test_a_disk_needs_room(config: AgentConfig, monkeypatch: pytest.MonkeyPatch, free_mb: float, good: bool) -> None:
    monkeypatch.setattr(doctor, "disk_free_mb", lambda folder: free_mb)
    found = finding(config, "disk", offline=True)
    assert (found.good, found.text) == (good, f"{config.storage.folder}: 100 MB free")
    assert found.cure == "free at least 100 MB"


def test_the_disk_check_leaves_nothing_behind(config: AgentConfig) -> None:
    assert finding(config, "disk", offline=True).good
    assert list(config.storage.folder.iterdir()) == []


@pytest.mark.parametrize(("certainty", "good"), [("synced", True), ("guess", True), ("unset", False)])
def test_a_clock_before_this_software_is_bad(
    config: AgentConfig, clock: Callable[[str], None], certainty: str, good: bool
) -> None:
    clock(certainty)
    assert finding(config, "clock", offline=True).good == good


# Battery and permissions


@pytest.mark.parametrize(
    ("said", "good", "text"),
    [
        (Battery(percent=80, charging=False, temperature_c=31.2), True, "80 %, not charging, 31 °C"),
        (Battery(percent=14, charging=False), False, "14 %, not charging"),
        (Battery(percent=14, charging=True), True, "14 %, charging"),
        (Battery(percent=80, charging=True, temperature_c=46.1), False, "80 %, charging, 46 °C"),
        (Battery(), True, "none that the system tells of"),
    ],
)
def test_a_battery_is_told_and_judged(said: Battery, good: bool, text: str) -> None:
    found = doctor.battery(Reading(source="termux", battery=said))
    assert (found.good, found.text) == (good, text)


def test_a_device_without_a_battery_is_well() -> None:
    assert doctor.battery(None).good


def test_files_that_others_may_change_are_bad(config: AgentConfig, tmp_path: Path) -> None:
    config.storage.folder.mkdir()
    assert finding(config, "permissions", offline=True).good
    config.storage.folder.chmod(0o777)
    found = finding(config, "permissions", offline=True)
    assert (found.good, found.text) == (False, f"{config.storage.folder} has mode 777")
    config.storage.folder.chmod(0o700)
    yaml = tmp_path / "ipe.yaml"
    yaml.touch()
    yaml.chmod(0o666)
    (found,) = [f for f in examine(config, offline=True, config_file=yaml) if f.name == "permissions"]
    assert not found.good


def test_a_model_that_takes_half_the_time_is_too_slow(config: AgentConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter(range(0, 1000, 10))
    monkeypatch.setattr(doctor.time, "perf_counter", lambda: float(next(ticks)))
    found = finding(config, "speed", offline=True)
    assert (found.good, found.text) == (False, "2000.0 ms a window, 133.33% of the time there is")


def test_the_findings_are_one_json_object(config: AgentConfig) -> None:
    findings = [Finding(name="disk", good=False, text="3 MB free", cure="free at least 100 MB")]
    told = json.loads(doctor.document(config, findings))
    assert (told["device"], told["go"]) == ("ipe-07", False)
    assert told["findings"] == [{"name": "disk", "good": False, "text": "3 MB free", "cure": "free at least 100 MB"}]


# The station


def test_the_station_must_sign_a_heartbeat(config: AgentConfig, microphone: Microphone, link: Link) -> None:
    assert finding(config, "station").good
    ((path, heartbeat),) = link.sent
    assert path == HEARTBEATS
    assert heartbeat.device_id == "ipe-07"
    assert link.asked["urls"] == ("https://station:8443",)
    assert link.asked["key"] == bytes.fromhex("ab" * 32)
    assert link.closed


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (Answer(status=200, document={}, trouble="a captive portal"), "no signed answer: a captive portal"),
        (Answer(status=502, document={}), "no signed answer: status 502"),
        (
            Answer(status=422, signed=True, kind="refused", document={"reason": "schema 1 is too old"}),
            "the station refuses this device's heartbeat: 'schema 1 is too old'",
        ),
        (UplinkError("https://station:8443: no route to host"), "https://station:8443: no route to host"),
    ],
    ids=["a portal", "a proxy", "refused", "no route"],
)
def test_a_station_that_does_not_sign_or_refuses_is_bad(
    config: AgentConfig, microphone: Microphone, link: Link, answer: Answer | UplinkError, text: str
) -> None:
    link.answer = answer
    found = finding(config, "station")
    assert (found.good, found.text) == (False, text)
    assert "device list" in found.cure
    assert link.closed


def test_without_a_station_alerts_would_stay_here(config: AgentConfig, microphone: Microphone) -> None:
    found = finding(replace(config, station=StationConfig()), "station")
    assert (found.good, found.text) == (False, "no station is configured: alerts would stay on this device")


def test_a_key_that_others_may_read_is_bad(config: AgentConfig, microphone: Microphone, link: Link) -> None:
    assert config.station.key_file is not None
    config.station.key_file.chmod(0o640)
    found = finding(config, "station")
    assert not found.good
    assert "chmod 600" in found.text
    assert link.sent == []
