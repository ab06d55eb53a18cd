"""The command line: exit codes, one-line errors, and nothing that a user could take for a crash."""

import contextlib
import fcntl
import json
import logging
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

from agent import __main__ as command_line
from agent import journal as journal_module
from agent import uplink as uplink_module
from agent.__main__ import main
from agent.alert import Alert
from agent.capture import AudioFile, AudioSource
from agent.config import CaptureConfig
from agent.manifest import BUNDLED_MODEL, load_model, manifest_path
from agent.outbox import Outbox
from agent.slots import ModelSlots
from agent.uplink import ALERTS, Answer

REPO = Path(__file__).resolve().parents[2]
TINY = REPO / "tests" / "golden" / "tiny.tflite"
RATE = 16_000

ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
"""Output is buffered, as it is for users: what fails may fail only at the end."""

pytest.importorskip("ai_edge_litert", reason="no TFLite runtime for this Python: nothing to run")


@pytest.fixture(autouse=True)
def undone() -> Iterator[None]:
    """The commands set signals and levels of loggers for their process; here many run in one."""
    levels = {name: logging.getLogger(name).level for name in ("agent", "agent.classify")}
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    for number, handler in handlers.items():
        signal.signal(number, handler)


def tone(seconds: float, hz: float = 1_000.0, begin_s: float = 0.0, rate: int = RATE) -> NDArray[np.float64]:
    """Return faint noise with a tone from `begin_s` on: to the tiny model 1 kHz is a saw."""
    at_s = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(0).standard_normal(len(at_s)) * 0.003
    return np.asarray(noise + 0.05 * np.sin(2.0 * np.pi * hz * at_s) * (at_s >= begin_s))


def encoded(samples: NDArray[np.float64], kind: str) -> tuple[int, int, bytes]:
    """Return format tag, bits and bytes of one channel in a sample format."""
    if kind == "float32":
        return 3, 32, samples.astype("<f4").tobytes()
    bits = {"u8": 8, "s16": 16, "s24": 24, "s32": 32}[kind]
    whole = np.rint(samples * (2 ** (bits - 1) - 1)).astype("<i8")
    if bits == 8:
        return 1, 8, (whole + 128).astype(np.uint8).tobytes()
    return 1, bits, whole.view(np.uint8).reshape(-1, 8)[:, : bits // 8].tobytes()


def write_wav(path: Path, samples: NDArray[np.float64], kind: str = "s16", rate: int = RATE, channels: int = 1) -> Path:
    """Write a WAV file of any kind; the agent's own writer knows 16 bit alone."""
    tag, bits, data = encoded(np.repeat(samples, channels), kind)
    frame = channels * bits // 8
    header = struct.pack("<HHIIHH", tag, channels, rate, rate * frame, frame, bits)
    body = b"WAVEfmt " + struct.pack("<I", len(header)) + header + b"data" + struct.pack("<I", len(data)) + data
    path.write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)
    return path


def replay(*arguments: str | Path) -> int:
    return main(["replay", *map(str, arguments), "--json", "--model", str(TINY)])


def the_line(text: str) -> str:
    """Return the one line that there is."""
    (line,) = text.splitlines()
    return line


def agent(
    *arguments: str | Path, stdout: int = subprocess.PIPE, cwd: Path = REPO
) -> subprocess.CompletedProcess[bytes]:
    """Run `python -m agent` as a user does."""
    return subprocess.run(
        [sys.executable, "-m", "agent", *map(str, arguments)],
        stdout=stdout,
        stderr=subprocess.PIPE,
        cwd=cwd,
        env=ENVIRONMENT,
        check=False,
        timeout=60,
    )


ConfigMaker = Callable[..., Path]


@pytest.fixture
def config_file(tmp_path: Path) -> ConfigMaker:
    """Return a maker of configuration files that use the tiny model; keyword arguments replace whole sections."""

    def make(**sections: object) -> Path:
        document: dict[str, object] = {
            "schema": 1,
            "device": {"id": "ipe-07"},
            "capture": {"source": "file", "path": "saw.wav"},
            "listen": {"model": str(TINY), "gate": False},
            "storage": {"folder": "state"},
        } | sections
        path = tmp_path / "device.yaml"
        path.write_text(yaml.safe_dump(document))
        return path

    return make


@pytest.fixture
def saw(tmp_path: Path) -> Path:
    return write_wav(tmp_path / "saw.wav", tone(21.0, begin_s=12.0))


@pytest.fixture
def unpaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Recordings are heard as fast as they can be read."""

    def open_file(config: CaptureConfig) -> AudioSource:
        assert config.path is not None
        return AudioFile(config.path, 0.5)

    monkeypatch.setattr(command_line, "open_source", open_file)


# Help and wrong use


@pytest.mark.parametrize(
    "command",
    [(), ("run",), ("replay",), ("doctor",), ("drill",), ("watch",), ("why",), ("redecide",), ("support-bundle",)],
)
def test_help_teaches_and_exits_with_0(command: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([*command, "--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: python -m agent {' '.join(command)}".strip())
    words = {
        (): ["run", "replay", "doctor", "drill", "watch", "why", "redecide", "support-bundle", "Exit codes"],
        ("run",): ["--config FILE", "--say", "SIGTERM"],
        ("replay",): [
            "PATH",
            "--json",
            "--scores",
            "--no-gate",
            "--gated-too",
            "--no-vad",
            "--send",
            "--model FILE",
            "Example",
        ],
        ("doctor",): ["--config FILE", "--offline", "--json", "no-go"],
        ("drill",): ["--speaker", "--offline", "flagged as a drill"],
        ("watch",): ["--once", "--seconds", "Nothing is kept"],
        ("why",): ["--date", "--utc", "--dir", "Example:"],
        ("redecide",): ["--set", "Example:", "steady"],
        ("support-bundle",): ["--keep-positions", "taken out"],
    }
    assert [word for word in words[command] if word not in text] == []


@pytest.mark.parametrize(
    "arguments",
    [[], ["listen"], ["replay"], ["run"], ["replay", "x.wav", "--gain"], ["doctor", "x"]],
    ids=lambda arguments: " ".join(arguments) or "nothing",
)
def test_wrong_use_exits_with_2_and_says_how_to_use_it(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith("usage: python -m agent")


def test_the_version_is_printed() -> None:
    done = agent("--version")
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode().strip().count(".") == 2


# Bad recordings


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"milk, eggs, a new chain\n", "is not a WAV"),
        (b"", "is empty"),
        (b"RIFF\x10\x00\x00\x00WAVE", ""),
        (b"RIFF", ""),
        (bytes(1_000), ""),
    ],
    ids=["text", "empty", "header alone", "four bytes", "zeros"],
)
def test_what_is_no_wav_is_named_in_one_line(
    tmp_path: Path, content: bytes, said: str, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bad.wav"
    path.write_bytes(content)
    assert replay(path) == 1
    line = the_line("\n".join(record.getMessage() for record in caplog.records if record.levelname == "ERROR"))
    assert line.startswith(f"{path}: ")
    assert said in line
    assert json.loads(the_line(capsys.readouterr().out))["kind"] == "summary"


def test_as_a_user_sees_it() -> None:
    done = agent("replay", "README.md", "--model", TINY)
    assert done.returncode == 1
    assert b"README.md" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("rate", [8_000, 44_100, 96_000])
@pytest.mark.parametrize("kind", ["u8", "s16", "s24", "s32", "float32"])
def test_a_saw_is_heard_in_every_kind_of_wav(
    tmp_path: Path, kind: str, rate: int, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_wav(tmp_path / "saw.wav", tone(18.0, begin_s=9.0, rate=rate), kind, rate, channels=2)
    assert replay(path, "--no-gate") == 0
    *alerts, summary = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    # half a spectrum, as 8 kHz gives, lets the tiny model hear more than the saw
    saws = [(alert["onset_s"], alert["raised_s"]) for alert in alerts if alert["label"] == "chainsaw"]
    assert saws == [(9.0, 12.0)]
    assert summary["audio_s"] == 18.0


def test_a_truncated_wav_is_heard_as_far_as_it_goes(saw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saw.write_bytes(saw.read_bytes()[: 44 + 17 * 2 * RATE + 1])
    assert replay(saw, "--no-gate") == 0
    alert, summary = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (alert["label"], summary["audio_s"]) == ("chainsaw", 17.0)


def test_a_path_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert replay(tmp_path / "no.wav") == 1
    assert the_line(capsys.readouterr().err) == f"error: {tmp_path / 'no.wav'}: cannot read: No such file or directory"


def test_a_folder_without_audio_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert replay(tmp_path) == 1
    assert the_line(capsys.readouterr().err).startswith(f"error: {tmp_path}: holds no audio file")


def test_a_folder_that_cannot_be_read_is_named(
    saw: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    inner = saw.parent / "closed"
    inner.mkdir()
    read = Path.iterdir

    def guarded(folder: Path) -> Iterator[Path]:
        if folder == inner:
            raise PermissionError(13, "Permission denied", str(folder))
        return read(folder)

    monkeypatch.setattr(Path, "iterdir", guarded)  # root may read what is closed: chmod alone shows nothing
    assert replay(saw.parent) == 1
    assert the_line(capsys.readouterr().err) == f"error: {inner}: cannot read: Permission denied"


# Bad models and configurations


def test_a_model_cut_in_half_is_refused(saw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = saw.parent / "half.tflite"
    model.write_bytes(TINY.read_bytes()[: TINY.stat().st_size // 2])
    manifest_path(model).write_bytes(manifest_path(TINY).read_bytes())
    assert main(["replay", str(saw), "--model", str(model)]) == 2
    line = the_line(capsys.readouterr().err)
    assert line.startswith(f"error: {model}: is damaged or not the model that half.json describes")


@pytest.mark.parametrize("there", [True, False], ids=["without its manifest", "that is not there"])
def test_a_model_is_refused(saw: Path, there: bool, capsys: pytest.CaptureFixture[str]) -> None:
    model = saw.parent / "lone.tflite"
    if there:
        model.write_bytes(TINY.read_bytes())
    missing = manifest_path(model) if there else model
    assert main(["replay", str(saw), "--model", str(model)]) == 2
    assert the_line(capsys.readouterr().err).startswith(f"error: {missing}: cannot read the model: No such file")


@pytest.mark.parametrize("command", ["run", "doctor"])
def test_a_config_with_an_unknown_key_stops_the_start(
    config_file: ConfigMaker, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = config_file(device={"id": "ipe-07", "postion": {}})
    assert main([command, "--config", str(path)]) == 2
    line = the_line(capsys.readouterr().err)
    assert line == f"error: {path}: device.postion: is not a known key; did you mean position?"


@pytest.mark.parametrize("content", [b"device: [", b"\x00\xff", b"- a\n- b\n"], ids=["broken", "binary", "a list"])
def test_a_config_that_is_none_stops_the_start(
    tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "device.yaml"
    path.write_bytes(content)
    assert main(["run", "--config", str(path)]) == 2
    assert the_line(capsys.readouterr().err).startswith(f"error: {path}: ")


def test_a_config_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--config", str(tmp_path / "no.yaml")]) == 2
    assert f"{tmp_path / 'no.yaml'}: cannot read the configuration" in the_line(capsys.readouterr().err)


def test_a_key_file_that_others_may_read_stops_the_start(
    saw: Path, config_file: ConfigMaker, capsys: pytest.CaptureFixture[str]
) -> None:
    key = saw.parent / "device.key"
    key.write_text("ab" * 32)
    key.chmod(0o644)
    path = config_file(station={"urls": ["https://station:8443"], "key_file": "device.key"})
    assert main(["run", "--config", str(path)]) == 2
    assert "others may read the device key (mode 644)" in capsys.readouterr().err


def test_a_second_agent_on_the_same_storage_is_refused(
    saw: Path, config_file: ConfigMaker, capsys: pytest.CaptureFixture[str]
) -> None:
    (saw.parent / "state").mkdir()
    with (saw.parent / "state" / "lock").open("w") as first:
        fcntl.flock(first, fcntl.LOCK_EX)
        assert main(["run", "--config", str(config_file())]) == 2
    assert f"error: {saw.parent / 'state'}: another agent uses this storage.folder" in capsys.readouterr().err


def test_a_storage_folder_that_cannot_be_made_stops_the_start(
    saw: Path, config_file: ConfigMaker, capsys: pytest.CaptureFixture[str]
) -> None:
    (saw.parent / "state").write_text("a file is in the way")
    assert main(["run", "--config", str(config_file())]) == 2
    assert f"error: {saw.parent / 'state'}: cannot use the storage folder" in capsys.readouterr().err


# Standard output


def test_a_reader_that_goes_is_no_error(tmp_path: Path) -> None:
    write_wav(tmp_path / "long.wav", tone(240.0))
    for options in (["--scores", "--no-gate"], []):  # more than the pipe's buffer, and less
        child = subprocess.Popen(
            [sys.executable, "-m", "agent", "replay", str(tmp_path / "long.wav"), "--json", "--model", TINY, *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=REPO,
            env=ENVIRONMENT,
        )
        assert child.stdout is not None
        child.stdout.close()
        assert child.stderr is not None
        assert child.stderr.read() == b""
        child.stderr.close()
        assert child.wait(timeout=60) == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_under_the_output_is_named(saw: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        done = agent("replay", saw, "--json", "--model", TINY, stdout=full.fileno())
    assert (done.returncode, done.stderr) == (1, b"error: standard output: No space left on device\n")


def test_a_file_name_that_is_no_text_is_printed_all_the_same(saw: Path) -> None:
    odd = saw.parent / "serra\udcff.wav"
    try:
        saw.rename(odd)
    except OSError:
        pytest.skip("this file system takes no such name")
    for options in (["--json"], []):
        done = agent("replay", odd, "--model", TINY, "--no-gate", *options)
        assert (done.returncode, done.stderr) == (0, b"")
        assert b"serra\\udcff.wav" in done.stdout


def test_an_interrupted_replay_has_not_been_done(
    saw: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command_line, "replay", interrupted)
    assert replay(saw) == 1
    assert the_line(capsys.readouterr().err) == "error: interrupted"


# Sending what was replayed


class KindStation:
    """A link whose station receipts everything."""

    def __init__(self, **_: object) -> None:
        self.alerts: list[Alert] = []
        self.closed = False

    def post(self, path: str, body: bytes) -> Answer:
        if path != ALERTS:
            return Answer(status=200, signed=True, kind="receipt", document={})
        alert = Alert.from_json(body)
        self.alerts.append(alert)
        named = {"alert_id": alert.alert_id, "revision": alert.revision}
        return Answer(status=200, signed=True, kind="receipt", document=named)

    def jump_to(self, highest: int) -> None:
        raise AssertionError

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def station(saw: Path, monkeypatch: pytest.MonkeyPatch) -> KindStation:
    key = saw.parent / "device.key"
    key.write_text("ab" * 32)
    key.chmod(0o600)
    link = KindStation()
    monkeypatch.setattr(uplink_module, "StationLink", lambda **_: link)
    return link


STATION = {"urls": ["https://station:8443"], "key_file": "device.key"}


def test_send_brings_the_alerts_to_the_station(saw: Path, config_file: ConfigMaker, station: KindStation) -> None:
    path = config_file(station=STATION)
    assert replay(saw, "--no-gate", "--send", "--config", path) == 0
    assert [(alert.state, alert.label, alert.onset_s) for alert in station.alerts] == [
        ("open", "chainsaw", 12.0),
        ("closed", "chainsaw", 12.0),
    ]
    assert len({alert.alert_id for alert in station.alerts}) == 1
    assert station.closed


def test_without_send_nothing_is_sent_nor_written(saw: Path, config_file: ConfigMaker, station: KindStation) -> None:
    assert replay(saw, "--no-gate", "--config", config_file(station=STATION)) == 0
    assert station.alerts == []
    assert not (saw.parent / "state").exists()


def test_alerts_that_were_not_receipted_are_said_to_wait(
    saw: Path,
    config_file: ConfigMaker,
    station: KindStation,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(command_line, "_DRAIN_S", 0.3)
    monkeypatch.setattr(
        station, "post", lambda path, body: Answer(status=500, document={}, trouble="status 500, unsigned")
    )
    assert replay(saw, "--no-gate", "--send", "--config", config_file(station=STATION)) == 1
    assert "2 alerts were not receipted within 0 s; they stay in the outbox" in caplog.text
    with Outbox(saw.parent / "state" / "outbox.db") as outbox:
        assert outbox.counts().waiting == 2


def test_send_needs_a_config_with_a_station(
    saw: Path, config_file: ConfigMaker, capsys: pytest.CaptureFixture[str]
) -> None:
    assert replay(saw, "--send") == 2
    assert the_line(capsys.readouterr().err).startswith("error: --send: needs --config FILE")
    assert replay(saw, "--send", "--config", config_file()) == 2
    assert "station.urls: is missing" in the_line(capsys.readouterr().err)


# Running


def events(folder: Path) -> list[tuple[str, object]]:
    lines = journal_module.read(folder / "journal")
    return [(line.event, line.fields.get("reason")) for line in lines if line.kind == "event"]


def test_run_hears_a_recording_to_its_end(
    saw: Path, config_file: ConfigMaker, station: KindStation, unpaced: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "--config", str(config_file(station=STATION)), "--say"]) == 0
    assert [alert.state for alert in station.alerts] == ["open", "closed"]
    state = saw.parent / "state"
    assert [event for event, _ in events(state)].count("alert") == 2
    assert events(state)[0] == ("start", "first start")
    assert ("delivered", None) in events(state)
    assert ("stop", "the recording ended") in events(state)[-2:]  # the sender may have a last word
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 13
    assert said[0].startswith("00:03.0")
    assert said[8].endswith("<-- chainsaw begins")
    assert "chainsaw 0.03  engine 0.03  storm 0.03" in said[0]


def test_run_without_a_station_keeps_the_alerts(saw: Path, config_file: ConfigMaker, unpaced: None) -> None:
    path = config_file(listen={"model": str(TINY), "vad": False})
    assert main(["run", "--config", str(path), "--say"]) == 0
    with Outbox(saw.parent / "state" / "outbox.db") as outbox:
        assert outbox.counts().waiting == 2


def test_alerts_that_wait_are_said_at_the_end(
    saw: Path,
    config_file: ConfigMaker,
    station: KindStation,
    unpaced: None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(command_line, "_DRAIN_S", 0.3)
    monkeypatch.setattr(station, "post", lambda path, body: Answer(status=0, document={}, trouble="no route"))
    assert main(["run", "--config", str(config_file(station=STATION))]) == 0
    assert "2 alerts wait on disk for the next start" in caplog.text


def test_closed_windows_are_said_as_such(
    tmp_path: Path, config_file: ConfigMaker, unpaced: None, capsys: pytest.CaptureFixture[str]
) -> None:
    write_wav(tmp_path / "saw.wav", tone(30.0, begin_s=60.0))
    path = config_file(listen={"model": str(TINY), "vad": False})
    assert main(["run", "--config", str(path), "--say"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith("gate closed")


def test_run_on_what_is_no_recording_names_it(
    tmp_path: Path, config_file: ConfigMaker, unpaced: None, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "saw.wav").write_text("milk, eggs")
    assert main(["run", "--config", str(config_file())]) == 1
    assert the_line(capsys.readouterr().err).startswith(f"error: {tmp_path / 'saw.wav'}: ")
    assert str(events(tmp_path / "state")[-1][1]).startswith(f"{tmp_path / 'saw.wav'}: ")


def test_a_broken_outbox_is_set_aside_and_noted(
    saw: Path, config_file: ConfigMaker, unpaced: None, caplog: pytest.LogCaptureFixture
) -> None:
    state = saw.parent / "state"
    state.mkdir()
    (state / "outbox.db").write_bytes(b"no database" * 1_000)
    assert main(["run", "--config", str(config_file())]) == 0
    assert ("outbox_broken", "integrity") in events(state)
    assert "the outbox was broken and is set aside as" in caplog.text


def test_sigterm_ends_the_run_in_order(tmp_path: Path, config_file: ConfigMaker) -> None:
    recorder = tmp_path / "recorder.py"  # 16 kHz, a tenth of a second at a time
    recorder.write_text("import os, time\nwhile True:\n    os.write(1, os.urandom(3200))\n    time.sleep(0.1)\n")
    command = [sys.executable, str(recorder)]
    path = config_file(capture={"source": "pipe", "command": command, "sample_rate": RATE})
    child = subprocess.Popen(
        [sys.executable, "-m", "agent", "run", "--config", str(path), "--say"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=REPO,
    )
    assert child.stdout is not None
    child.stdout.readline()  # a window has been heard
    child.send_signal(signal.SIGTERM)
    _, errors = child.communicate(timeout=30)
    assert child.returncode == 0, errors
    assert b"Traceback" not in errors
    assert events(tmp_path / "state")[-1] == ("stop", "told to")


def test_more_is_logged_when_asked(monkeypatch: pytest.MonkeyPatch, saw: Path) -> None:
    asked: list[object] = []
    monkeypatch.setattr(logging, "basicConfig", lambda **given: asked.append(given["level"]))
    replay(saw)
    main(["-v", "replay", str(saw), "--model", str(TINY)])
    assert asked == [logging.INFO, logging.DEBUG]


# Doctor


@pytest.mark.parametrize(("good", "code"), [(True, 0), (False, 1)])
def test_the_doctors_word_is_the_exit_code(
    config_file: ConfigMaker, good: bool, code: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from agent import doctor

    asked: list[bool] = []

    def examine(config: object, *, offline: bool, **_: object) -> list[doctor.Finding]:
        asked.append(offline)
        return [doctor.Finding(name="model", good=good, text="tiny", cure="copy it again")]

    monkeypatch.setattr(doctor, "examine", examine)
    assert main(["doctor", "--config", str(config_file()), "--offline"]) == code
    assert main(["doctor"]) == code
    assert asked == [True, False]
    assert capsys.readouterr().out.splitlines()[-1] == ("GO" if good else "NO-GO: model")


def test_the_shipped_model_is_the_default(saw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if not BUNDLED_MODEL.is_file():
        pytest.skip("the shipped model is not there yet")
    assert main(["replay", str(saw)]) == 0
    assert "windows" in capsys.readouterr().out


def test_a_damaged_model_is_replaced_by_the_one_before_and_everybody_is_told(
    saw: Path, config_file: ConfigMaker, station: KindStation, unpaced: None, tmp_path: Path
) -> None:
    state = saw.parent / "state"
    ModelSlots(state).keep(TINY, load_model(TINY)[0].digest)
    broken = tmp_path / "model.tflite"
    broken.write_bytes(TINY.read_bytes()[:-1])
    broken.with_suffix(".json").write_bytes(TINY.with_suffix(".json").read_bytes())
    path = config_file(station=STATION, listen={"model": str(broken), "vad": False})
    assert main(["run", "--config", str(path)]) == 0
    assert [alert.state for alert in station.alerts] == ["open", "closed"]
    (begins,) = [reason for event, reason in events(state) if event == "state_begins"]
    assert "model.tflite: is damaged" in str(begins)


def test_a_second_run_says_how_the_first_one_ended(saw: Path, config_file: ConfigMaker, unpaced: None) -> None:
    path = config_file(listen={"model": str(TINY), "vad": False})
    assert main(["run", "--config", str(path)]) == 0
    assert main(["run", "--config", str(path)]) == 0
    state = saw.parent / "state"
    assert [reason for event, reason in events(state) if event == "start"] == ["first start", "clean stop"]
    assert (state / "alive").is_file()


def test_systemd_hears_ready_signs_of_life_and_stopping(
    saw: Path, config_file: ConfigMaker, unpaced: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        assert main(["run", "--config", str(config_file(listen={"model": str(TINY), "vad": False}))]) == 0
        systemd.setblocking(False)
        told: list[bytes] = []
        with contextlib.suppress(BlockingIOError):
            while True:
                told.append(systemd.recv(4_096))
    assert told[0].startswith(b"READY=1")
    assert b"WATCHDOG=1" in told
    assert b"STOPPING=1" in told
    assert told[-1].startswith(b"STATUS="), "the last minute's line"
