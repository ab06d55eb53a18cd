"""A station in this process, devices that sign, alerts that look real, and a station in a process of its own."""

import asyncio
import itertools
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from cryptography.fernet import Fernet
from fastapi import FastAPI
from sqlalchemy import URL

from agent.alert import Alert, Battery, Clock, Heartbeat, LogMelImage, Position
from agent.features import FeatureConfig, log_mel
from agent.signing import (
    HEADER_SIGNATURE,
    RequestSeal,
    answer_is_signed,
    new_key,
    read_key,
    sign_request,
)
from base_station.api import build_api
from base_station.inbox import Inbox
from base_station.keys import KeyRing
from base_station.store import Store
from tests.base_station import postgres

START = datetime(2026, 11, 20, 3, 0, 0, tzinfo=UTC)
BOOT = "5d0c9e0a-0000-4000-8000-000000000001"


@dataclass
class StationClock:
    """Station time that only tests move."""

    now: datetime = START

    def __call__(self) -> datetime:
        return self.now

    def pass_s(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@dataclass
class FakeDevice:
    """A device as the station sees it: it signs, and counts its requests."""

    device_id: str
    key: bytes
    boot_id: str = BOOT
    counter: int = 0
    time_utc: str = "2026-11-20T03:00:00.000Z"

    def seal(self, path: str, body: bytes) -> RequestSeal:
        """Return the seal of the next request."""
        self.counter += 1
        seal = RequestSeal(device_id=self.device_id, boot_id=self.boot_id, counter=self.counter, time_utc=self.time_utc)
        return replace(seal, signature=sign_request(self.key, "POST", path, body, seal))

    def believes(self, response: httpx.Response, seal: RequestSeal) -> bool:
        """Say whether the answer is the station's, to this request."""
        return answer_is_signed(self.key, seal, response.content, response.headers.get(HEADER_SIGNATURE, ""))


@dataclass
class Station:
    """The station in this process."""

    store: Store
    keys: KeyRing
    app: FastAPI
    clock: StationClock
    transport: httpx.ASGITransport = field(init=False)

    def __post_init__(self) -> None:
        self.transport = httpx.ASGITransport(app=self.app)

    def add(self, device_id: str) -> FakeDevice:
        """Admit a device."""
        key = new_key()
        assert self.store.add_device(device_id, self.keys.seal(key), self.clock())
        return FakeDevice(device_id=device_id, key=key)

    def request(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        """Make one request, through everything but the network."""

        async def once() -> httpx.Response:
            async with httpx.AsyncClient(transport=self.transport, base_url="http://127.0.0.1") as client:
                return await client.request(method, path, **arguments)

        return asyncio.run(once())

    def get(self, path: str, **params: Any) -> Any:
        """Return the JSON at a path."""
        response = self.request("GET", path, params=params)
        assert response.status_code == 200, response.text
        return response.json()

    def post(
        self, device: FakeDevice, path: str, body: bytes, seal: RequestSeal | None = None
    ) -> tuple[httpx.Response, RequestSeal]:
        """Post a body, signed by the device unless a seal is given."""
        seal = seal or device.seal(path, body)
        return self.request("POST", path, content=body, headers=seal.headers()), seal

    def send(self, device: FakeDevice, alert: Alert | Heartbeat) -> httpx.Response:
        """Post an alert or a heartbeat, and check that the answer is signed."""
        path = "/v1/alerts" if isinstance(alert, Alert) else "/v1/heartbeats"
        response, seal = self.post(device, path, alert.to_json())
        assert device.believes(response, seal), response.text
        return response


@pytest.fixture
def station_clock() -> StationClock:
    return StationClock()


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[URL]:
    """Return the database of one PostgreSQL server for all tests, with the station's tables; or skip."""
    with postgres.server() as server_url:
        url = postgres.fresh(server_url, "station")
        Store(url).close()
        yield url


@pytest.fixture
def sqlite_url(tmp_path: Path) -> URL:
    return URL.create("sqlite", database=str(tmp_path / "station.db"))


@pytest.fixture
def database_url(request: pytest.FixtureRequest) -> Iterator[URL]:
    """Return where the database is: in a file, unless a test asks for `both_databases`."""
    kind = getattr(request, "param", "sqlite")
    if kind == "sqlite":
        yield request.getfixturevalue("sqlite_url")
        return
    url = request.getfixturevalue("postgres_url")
    yield url
    postgres.empty(url)


@pytest.fixture
def store(database_url: URL) -> Iterator[Store]:
    store = Store(database_url)
    yield store
    store.close()


@pytest.fixture
def station(store: Store, station_clock: StationClock) -> Station:
    keys = KeyRing(Fernet.generate_key())
    return Station(store=store, keys=keys, app=build_api(store, Inbox(store, keys), station_clock), clock=station_clock)


@pytest.fixture
def ipe(station: Station) -> FakeDevice:
    """Return a device that the station knows."""
    return station.add("ipe-07")


def saw_picture(seed: int = 7, fundamental_hz: float = 120.0) -> LogMelImage:
    """Return what the model sees of a saw in a forest: revving harmonics over insects and noise."""
    config = FeatureConfig()
    rng = np.random.default_rng(seed)
    time_s = np.arange(config.window_samples) / config.sample_rate
    rev_hz = fundamental_hz * (1.0 + 0.25 * np.sin(2 * np.pi * 0.5 * time_s) + 0.15 * (time_s > 1.2))
    phase = 2 * np.pi * np.cumsum(rev_hz) / config.sample_rate
    saw = sum(np.sin(n * phase + n) / n**0.8 for n in range(1, 30))
    cicada = np.sin(2 * np.pi * 4200 * time_s) * (0.5 + 0.5 * np.sin(2 * np.pi * 11 * time_s))
    samples = 0.03 * saw + 0.02 * cicada + 0.006 * rng.standard_normal(len(time_s))
    frames = log_mel(samples.astype(np.float32), config)[: config.n_frames]
    return LogMelImage.of(
        frames,
        hop_s=config.hop / config.sample_rate,
        mel_min_hz=config.mel_min_hz,
        mel_max_hz=config.mel_max_hz,
    )


def make_alert(device_id: str, **changes: Any) -> Alert:
    """Return an opening as a device would send it; `changes` replace fields."""
    alert = Alert(
        alert_id=str(uuid.uuid4()),
        revision=0,
        state="open",
        device_id=device_id,
        label="chainsaw",
        score=0.97,
        onset_s=12.0,
        raised_s=15.0,
        clock=Clock(boot_id=BOOT, monotonic_s=8123.4, utc="2026-11-20T03:00:00.000Z", utc_certainty="synced"),
        model_digest="9f2c51d0a7b3e844",
        level_dbfs=-31.5,
        battery=Battery(percent=81, temperature_c=31.5, charging=True),
        position=Position(latitude=-3.1, longitude=-60.02),
        log_mel=saw_picture(),
    )
    return replace(alert, **changes)


def make_heartbeat(device_id: str, **changes: Any) -> Heartbeat:
    """Return a healthy heartbeat; `changes` replace fields."""
    heartbeat = Heartbeat(
        device_id=device_id,
        version="0.1.0",
        clock=Clock(boot_id=BOOT, monotonic_s=8123.4, utc="2026-11-20T03:00:00.000Z", utc_certainty="synced"),
        model_digest="9f2c51d0a7b3e844",
        uptime_s=3600.0,
        audio_s=3599.0,
        audio_per_wall=1.0,
        windows=2400,
        classified=700,
        top_scores={"chainsaw": 0.02, "engine": 0.1},
        level_dbfs=-52.0,
        states=(),
        queue=0,
        dropped_s=0.0,
        disk_free_mb=5000.0,
        rss_mb=70.0,
        battery=Battery(percent=81, temperature_c=31.5, charging=True),
    )
    return replace(heartbeat, **changes)


@pytest.fixture
def alert_of() -> Callable[..., Alert]:
    return make_alert


@pytest.fixture
def heartbeat_of() -> Callable[..., Heartbeat]:
    return make_heartbeat


class StationProcess:
    """`python -m base_station serve` in a process of its own."""

    def __init__(self, data: Path, *arguments: str, environment: Mapping[str, str] | None = None) -> None:
        self.data = data
        self.url = ""
        self._lines: queue.Queue[str] = queue.Queue()
        command = [sys.executable, "-m", "base_station", "serve", "--data", str(data), "--port", "0", *arguments]
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **(environment or {})},
        )
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as stream:
            for line in stream:
                self._lines.put(line.rstrip())

    def wait_ready(self, longest_s: float = 60.0) -> "StationProcess":
        """Wait until it says where the page is."""
        said: list[str] = []
        end_s = time.monotonic() + longest_s
        while time.monotonic() < end_s:
            try:
                line = self._lines.get(timeout=0.2)
            except queue.Empty:
                assert self.process.poll() is None, said
                continue
            said.append(line)
            if line.startswith("page: "):
                self.url = line.removeprefix("page: ").rstrip("/")
                return self
        raise AssertionError(f"not ready after {longest_s} s: {said}")

    def said(self) -> str:
        """Return what it said since then."""
        lines = []
        while not self._lines.empty():
            lines.append(self._lines.get())
        return "\n".join(lines)

    def kill(self) -> None:
        """End it as a power cut would."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> float:
        """Ask it to end, and return the seconds that it took."""
        began_s = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=20)
        return time.monotonic() - began_s

    def add_device(self, name: str) -> FakeDevice:
        """Admit a device with the command that people use."""
        key_file = self.data.parent / f"{name}.key"
        command = [sys.executable, "-m", "base_station", "device", "add", name]
        command += ["--data", str(self.data), "--key-out", str(key_file)]
        subprocess.run(command, check=True, capture_output=True)
        # a counter by the clock, as if the device had lived on while the station restarted
        return FakeDevice(device_id=name, key=read_key(key_file), counter=next(_counters) * 1000)

    def send(self, device: FakeDevice, message: Alert | Heartbeat) -> httpx.Response:
        """Post over the network."""
        path = "/v1/alerts" if isinstance(message, Alert) else "/v1/heartbeats"
        body = message.to_json()
        response = httpx.post(self.url + path, content=body, headers=device.seal(path, body).headers(), timeout=30)
        assert response.status_code in (200, 201), response.text
        return response

    def alerts(self) -> list[dict[str, Any]]:
        """Return what the API lists."""
        alerts: list[dict[str, Any]] = json.loads(httpx.get(f"{self.url}/v1/alerts", timeout=30).content)["alerts"]
        return alerts

    def alerts_all(self) -> list[dict[str, Any]]:
        """Return everything that the API lists, page by page."""
        found: list[dict[str, Any]] = []
        before: int | None = None
        while True:
            params = {"limit": 500} if before is None else {"limit": 500, "before": before}
            page = httpx.get(f"{self.url}/v1/alerts", params=params, timeout=30).json()
            found += page["alerts"]
            before = page["before"]
            if before is None:
                return found


_counters = itertools.count(1)


@pytest.fixture
def start_station(tmp_path: Path) -> Iterator[Callable[..., StationProcess]]:
    """Return a function that starts stations on one data folder; all are ended after the test."""
    started: list[StationProcess] = []

    def start(*arguments: str, data: Path | None = None) -> StationProcess:
        process = StationProcess(data or tmp_path / "station", *arguments)
        started.append(process)
        return process.wait_ready()

    yield start
    for process in started:
        if process.process.poll() is None:
            process.kill()
