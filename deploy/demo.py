"""`make run`: the whole main job on this machine, with nothing but what is in the repository.

Station and agent are processes of their own, as in the field; this launcher starts them, restarts what dies, passes on
what the agent says, and asks the station's API whether the alert is there. It talks to neither in any other way.
"""

import contextlib
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import requests
import yaml

from agent import synth
from agent.alert import Position
from agent.wav import WavFile, write_wav

DEVICE = "demo"
_POSITION = Position(latitude=-3.1019, longitude=-60.025)  # a forest reserve on the edge of Manaus
_SAMPLE_RATE = 16_000
_START_S = 60.0
_ANSWER_S = 20.0


class DemoError(Exception):
    """The demo cannot go on; the text is for people."""

    def __init__(self, text: str, code: int = 1) -> None:
        """Carry the exit code with the text."""
        super().__init__(text)
        self.code = code


def run_demo(source: str, folder: Path, port: int, *, once: bool) -> int:
    """Run station and agent until the recording ends (`once`) or somebody presses Ctrl-C; return the exit code."""
    demo = Demo(folder, _free_port(port))
    with _interruptible(), demo:
        demo.start_station()
        known = demo.alert_ids()
        print(f"page: {demo.url}/", flush=True)
        demo.prepare(source, once=once)
        demo.start_agent()
        try:
            return demo.follow(known, once=once)
        except KeyboardInterrupt:
            print("\nstopping", flush=True)
            return 0


@dataclass(slots=True)
class Demo:
    """Two child processes and the folder they work in."""

    folder: Path
    port: int
    _station: subprocess.Popen[str] | None = field(init=False, default=None)
    _agent: subprocess.Popen[str] | None = field(init=False, default=None)
    _lines: "queue.Queue[tuple[str, str]]" = field(init=False, default_factory=queue.Queue)
    _began_s: float = field(init=False, default=0.0)
    _recording: Path | None = field(init=False, default=None)
    _forest: Path | None = field(init=False, default=None)

    @property
    def url(self) -> str:
        """Return the station's address."""
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> "Demo":
        """Make the folder."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DemoError(f"{self.folder}: cannot make the folder: {error.strerror}", 2) from error
        return self

    def __exit__(self, *_: object) -> None:
        """Stop both, the agent first, so that its last words still reach the station."""
        for child in (self._agent, self._station):
            if child is not None:
                _stop(child)

    # The station

    def start_station(self) -> None:
        """Start the station, wait until it answers, and make the device known to it."""
        arguments = ["serve", "--data", str(self.folder / "station"), "--port", str(self.port)]
        self._station = self._start("base_station", arguments, "station")
        end_s = time.monotonic() + _START_S
        while not self._station_answers():
            if self._station.poll() is not None:
                self._drain()
                raise DemoError(f"the station did not start (exit code {self._station.returncode})")
            if time.monotonic() > end_s:
                raise DemoError(f"the station does not answer at {self.url} after {_START_S:.0f} s")
            time.sleep(0.1)
        self._register()

    def _station_answers(self) -> bool:
        try:
            return requests.get(f"{self.url}/healthz", timeout=2).ok
        except requests.RequestException:
            return False

    def _register(self) -> None:
        key_file = self.folder / "demo.key"
        if key_file.exists():
            return
        command = [sys.executable, "-m", "base_station", "device", "add", DEVICE, "--rotate"]
        command += ["--data", str(self.folder / "station"), "--key-out", str(key_file)]
        result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        if result.returncode:
            raise DemoError(f"the station refused the device: {result.stderr.strip() or result.stdout.strip()}")

    def alert_ids(self) -> set[str]:
        """Return the ids of the alerts that the station has of this device."""
        return {str(alert["alert_id"]) for alert in self._alerts()}

    def _alerts(self) -> list[Mapping[str, Any]]:
        answer = requests.get(f"{self.url}/v1/alerts", params={"device": DEVICE, "limit": "500"}, timeout=10)
        answer.raise_for_status()
        alerts: list[Mapping[str, Any]] = answer.json()["alerts"]
        return alerts

    # The agent

    def prepare(self, source: str, *, once: bool) -> None:
        """Write the sounds and the agent's configuration."""
        if source == "mic":
            capture: dict[str, Any] = {"source": "auto"}
        else:
            self._recording = self._demo_recording() if source == "demo" else Path(source).resolve()
            if not self._recording.is_file():
                raise DemoError(f"{source}: no such recording; SOURCE is demo, mic, or an audio file", 2)
            capture = {"source": "file", "path": str(self._recording)}
            if not once:
                self._forest = self._forest_recording()
                capture["then"] = str(self._forest)
        self._write_config(capture)

    def _write_config(self, capture: Mapping[str, Any]) -> None:
        document = {
            "schema": 1,
            "device": {
                "id": DEVICE,
                "position": {"latitude": _POSITION.latitude, "longitude": _POSITION.longitude},
            },
            "capture": dict(capture),
            "station": {"urls": [self.url], "key_file": str(self.folder / "demo.key"), "heartbeat_s": 10},
            "storage": {"folder": str(self.folder / "agent")},
            "power": {"source": "none"},  # a demo on a laptop does not pause
        }
        (self.folder / "agent.yaml").write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")

    def _demo_recording(self) -> Path:
        path = self.folder / f"forest-with-saw-{synth.SYNTH_VERSION}.wav"
        if not path.exists():
            samples, _ = synth.demo_scene()
            _write_whole(path, samples)
        return path

    def _forest_recording(self) -> Path:
        """Return a stretch of the same forest without the saw, to go on with."""
        path = self.folder / f"forest-{synth.SYNTH_VERSION}.wav"
        if not path.exists():
            samples, events = synth.demo_scene()
            _write_whole(path, samples[round(events[-1].offset_s * _SAMPLE_RATE) + 2 * _SAMPLE_RATE :])
        return path

    def start_agent(self) -> None:
        """Start the agent on its configuration."""
        self._began_s = self._began_s or time.monotonic()
        arguments = ["run", "--config", str(self.folder / "agent.yaml"), "--say"]
        self._agent = self._start("agent", arguments, "agent")

    def _restart_agent(self) -> None:
        """Go on where the forest is now: the same saw must not be heard twice."""
        if self._recording is not None:
            elapsed_s = time.monotonic() - self._began_s
            capture: dict[str, Any] = {"source": "file"}
            rest = _rest_of(self._recording, elapsed_s, self.folder / "rest.wav")
            capture["path"] = str(rest or self._forest or self._forest_recording())
            if self._forest is not None:
                capture["then"] = str(self._forest)
            self._write_config(capture)
        self.start_agent()

    # Both

    def _start(self, module: str, arguments: Sequence[str], name: str) -> "subprocess.Popen[str]":
        environment = dict(os.environ, PYTHONUNBUFFERED="1", OPENBLAS_NUM_THREADS="1")
        child = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
            start_new_session=True,  # Ctrl-C is ours to pass on, in order
        )
        assert child.stdout is not None
        threading.Thread(target=_pass_on, args=(child.stdout, name, self._lines), daemon=True).start()
        return child

    def follow(self, known: set[str], *, once: bool) -> int:
        """Pass on what both say, restart what dies, and return the exit code when the recording has ended."""
        told: set[str] = set()
        while True:
            self._drain()
            self._mend(once=once)
            with contextlib.suppress(requests.RequestException):  # it may be restarting
                told |= {_told(alert) for alert in self._new_alerts(known | told)}
            assert self._agent is not None
            if self._agent.poll() == 0:
                break
        return self._verdict(known, once=once)

    def _new_alerts(self, known: set[str]) -> list[Mapping[str, Any]]:
        return [alert for alert in self._alerts() if str(alert["alert_id"]) not in known]

    def _mend(self, *, once: bool) -> None:
        assert self._agent is not None
        assert self._station is not None
        if self._station.poll() is not None:
            print(f"station: ended with {self._station.returncode}, starting it again", flush=True)
            with contextlib.suppress(DemoError):  # somebody else may have started it on its port
                self.start_station()
        code = self._agent.poll()
        if code in (1, 2):
            self._drain()
            raise DemoError(f"the agent ended with exit code {code}; its last words are above", code)
        if code is not None and (code != 0 or not once):
            print(f"agent: ended with {code}, starting it again", flush=True)
            self._restart_agent()

    def _verdict(self, known: set[str], *, once: bool) -> int:
        """Say whether the station has what the agent heard; the agent has ended: the first answer is the last word."""
        saws: list[Mapping[str, Any]] = []
        end_s = time.monotonic() + _ANSWER_S
        while time.monotonic() < end_s:
            self._drain()
            with contextlib.suppress(requests.RequestException):
                saws = [alert for alert in self._new_alerts(known) if alert["label"] == "chainsaw"]
                break
        if saws:
            print(f"the station has the chainsaw alert: {json.dumps(dict(saws[0]))[:300]}", flush=True)
            return 0
        print("the station has no chainsaw alert of this run", file=sys.stderr, flush=True)
        return 1 if once else 0

    def _drain(self) -> None:
        """Print the children's lines, waiting a moment for the next one."""
        with contextlib.suppress(queue.Empty):
            while True:
                name, line = self._lines.get(timeout=0.2)
                print(f"{name}: {line}", flush=True)


def _write_whole(path: Path, samples: Any) -> None:  # noqa: ANN401  # an array; NumPy is not needed here otherwise
    """Write a recording that is either there or not, never half."""
    partial = path.with_suffix(".partial")
    write_wav(partial, samples, _SAMPLE_RATE)
    partial.replace(path)


def _rest_of(recording: Path, elapsed_s: float, path: Path) -> Path | None:
    """Write what is left of a WAV after so many seconds; None where less than a second is left."""
    with WavFile(recording) as wav:
        wav.read(round(elapsed_s * wav.sample_rate))
        rest = wav.read(wav.n_frames)
        if len(rest) < wav.sample_rate:
            return None
        write_wav(path, rest.mean(axis=1), wav.sample_rate)
    return path


def _told(alert: Mapping[str, Any]) -> str:
    """Say that the station has an alert, and return its id."""
    print(f"station: has alert {alert['alert_id']}: {alert['label']}, score {alert['score']:.2f}", flush=True)
    return str(alert["alert_id"])


def _pass_on(stream: TextIO, name: str, lines: "queue.Queue[tuple[str, str]]") -> None:
    with stream:
        for line in stream:
            lines.put((name, line.rstrip()))


def _stop(child: "subprocess.Popen[str]") -> None:
    if child.poll() is None:
        child.terminate()
    try:
        child.wait(timeout=15)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _free_port(wanted: int) -> int:
    """Return the wanted port, or another one where it is taken."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            taken: int = probe.getsockname()[1]
            if port == 0:
                print(f"port {wanted} is in use, taking {taken}", flush=True)
            return taken
    raise DemoError("no free port on the loopback address")


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Let SIGTERM end the demo as Ctrl-C does, so that no child is left behind."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
