"""The station under load: `python -m tests.station_bench`, or `make bench-station`. Figures for docs/station.md.

Real clients on loopback, signed requests, a station in a process of its own. Latencies count from the moment at which
a request was due, so that a station that stalls cannot hide it by slowing its clients down.
"""

import argparse
import http.client
import itertools
import os
import queue
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography.fernet import Fernet
from sqlalchemy import URL, insert

from agent.signing import RequestSeal, new_key, sign_request
from base_station import tables
from base_station.keys import KeyRing, write_secret
from base_station.settings import Settings
from base_station.store import Store, _split
from tests.base_station import postgres
from tests.base_station.conftest import make_alert, make_heartbeat

CLIENTS = 8
PAGES = (
    "/",
    "/incidents/00000000-0000-0000-0000-0000000f423f",
    "/review",
    "/devices",
    "/devices/tree-00000",
    "/logs",
    "/reports",
    "/settings",
)


@dataclass
class Phone:
    """A device that signs."""

    device_id: str
    key: bytes
    counter: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    lock: threading.Lock = field(default_factory=threading.Lock)


@dataclass
class Bench:
    """One database with devices, and the processes that serve it."""

    data: Path
    database: str | None
    phones: list[Phone]
    ports: list[int] = field(default_factory=list)


def latencies(values: Sequence[float]) -> str:
    """Return the middle and the tail in milliseconds."""
    ordered = sorted(values)
    p50, p99 = (ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000 for share in (0.5, 0.99))
    return f"p50 {p50:.1f} ms, p99 {p99:.1f} ms, longest {ordered[-1] * 1000:.0f} ms"


@contextmanager
def bench(root: Path, name: str, database: str | None, n_devices: int, processes: int = 1) -> Iterator[Bench]:
    """Make devices and start the station."""
    data = root / name
    data.mkdir(parents=True, exist_ok=True)
    settings = Settings(data=data, database=database)
    secret = Fernet.generate_key()
    write_secret(settings.key_file, secret)
    ring = KeyRing(secret)
    phones = [Phone(f"tree-{n:05d}", new_key()) for n in range(n_devices)]
    store = Store(settings.database_url)
    now = datetime.now(UTC)
    with store.database.write() as connection:
        connection.execute(
            insert(tables.devices),
            [{"device_id": p.device_id, "sealed_key": ring.seal(p.key), "added_utc": now} for p in phones],
        )
        connection.execute(insert(tables.contacts), [{"device_id": p.device_id, "highest_counter": 0} for p in phones])
    store.close()
    made = Bench(data, database, phones)
    with ExitStack() as stack:
        for _ in range(processes):
            made.ports.append(stack.enter_context(_served(data, database)))
        yield made


@contextmanager
def _served(data: Path, database: str | None) -> Iterator[int]:
    command = [sys.executable, "-m", "base_station", "serve", "--data", str(data), "--port", "0"]
    environment = {**os.environ, **({"CURUPIRA_DATABASE": database} if database else {})}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment)
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        if not line.startswith("page: "):
            raise SystemExit(f"the station does not start: {line!r}")
        yield int(line.rsplit(":", 1)[1].strip().strip("/"))
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
        process.stdout.close()


class Client:
    """One connection that is kept."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)

    def post(self, phone: Phone, path: str, body: bytes) -> int:
        """Post a signed body and return the status."""
        with phone.lock:
            seal = RequestSeal(
                device_id=phone.device_id,
                boot_id="5d0c9e0a-0001",
                counter=next(phone.counter),
                time_utc="2026-11-20T03:00:00.000Z",
            )
            signed = replace(seal, signature=sign_request(phone.key, "POST", path, body, seal))
            self._connection.request("POST", path, body, signed.headers())
            answer = self._connection.getresponse()
            answer.read()
            return answer.status

    def get(self, path: str) -> bytes:
        """Return what is at a path."""
        self._connection.request("GET", path)
        answer = self._connection.getresponse()
        content = answer.read()
        assert answer.status == 200, content[:200]
        return content


def flat_out(made: Bench, seconds: float, log_mel: bool) -> tuple[float, list[float], int]:
    """Send alerts as fast as the station takes them; return their rate, latencies and errors."""
    times: list[float] = []
    errors = itertools.count()
    stop = time.monotonic() + seconds
    template = make_alert("x") if log_mel else make_alert("x", log_mel=None)

    def run(idx: int) -> None:
        client = Client(made.ports[idx % len(made.ports)])
        mine = itertools.cycle(made.phones[idx::CLIENTS])
        while time.monotonic() < stop:
            phone = next(mine)
            body = replace(template, alert_id=str(uuid.uuid4()), device_id=phone.device_id).to_json()
            began = time.monotonic()
            if client.post(phone, "/v1/alerts", body) != 201:
                next(errors)
            times.append(time.monotonic() - began)

    began = time.monotonic()
    _in_threads(run, CLIENTS)
    return len(times) / (time.monotonic() - began), times, next(errors)


def steady(made: Bench, per_s: float, seconds: float) -> tuple[list[float], int]:
    """Send heartbeats at a given rate, each device in its turn; return latencies from when each was due, and errors."""
    times: list[float] = []
    errors = itertools.count()
    due: queue.SimpleQueue[tuple[float, Phone] | None] = queue.SimpleQueue()
    template = make_heartbeat("x")
    bodies = {p.device_id: replace(template, device_id=p.device_id).to_json() for p in made.phones}

    def run(idx: int) -> None:
        client = Client(made.ports[idx % len(made.ports)])
        while (task := due.get()) is not None:
            at, phone = task
            if client.post(phone, "/v1/heartbeats", bodies[phone.device_id]) != 200:
                next(errors)
            times.append(time.monotonic() - at)

    def feed() -> None:
        begin = time.monotonic() + 0.2
        for n, phone in zip(range(int(per_s * seconds)), itertools.cycle(made.phones), strict=False):
            at = begin + n / per_s
            time.sleep(max(0.0, at - time.monotonic()))
            due.put((at, phone))
        for _ in range(CLIENTS):
            due.put(None)

    feeder = threading.Thread(target=feed)
    feeder.start()
    _in_threads(run, CLIENTS)
    feeder.join()
    return times, next(errors)


def _in_threads(run: Callable[[int], None], n: int) -> None:
    threads = [threading.Thread(target=run, args=(idx,)) for idx in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def fill(url: URL, devices: Sequence[str], n_alerts: int, n_blobs: int) -> None:
    """Put many alerts into a database, past the API."""
    store = Store(url)
    begin = datetime.now(UTC) - timedelta(days=365)
    without, _ = _split(make_alert("x", log_mel=None).to_json())
    body, picture = _split(make_alert("x").to_json())
    for chunk in range(0, n_alerts, 20_000):
        heads, revisions, blobs = [], [], []
        for n in range(chunk, min(chunk + 20_000, n_alerts)):
            at = begin + timedelta(days=365) * (n / n_alerts)
            alert_id = str(uuid.UUID(int=n))
            label = "engine" if n % 3 else "chainsaw"
            heads.append(
                {
                    "alert_id": alert_id,
                    "device_id": devices[n * 7919 % len(devices)],
                    "label": label,
                    "drill": False,
                    "received_utc": at,
                }
            )
            has = n >= n_alerts - n_blobs
            revisions.append(
                {
                    "alert_id": alert_id,
                    "revision": 0,
                    "received_utc": at,
                    "state": "open",
                    "score": 0.5 + n * 31 % 128 / 256,
                    "level_dbfs": -40.0,
                    "lasted_s": 3.0,
                    "onset_utc": at,
                    "onset_from": "device",
                    "latitude": -3.1,
                    "longitude": -60.0 + n % 100 / 100,
                    "has_log_mel": has,
                    "body_sha256": b"",
                    "body": body if has else without,
                }
            )
            if has:
                blobs.append({"alert_id": alert_id, "revision": 0, "kind": "log_mel", "data": picture})
        with store.database.write() as connection:
            connection.execute(insert(tables.alerts), heads)
            connection.execute(insert(tables.revisions), revisions)
            if blobs:
                connection.execute(insert(tables.blobs), blobs)
    store.close()


def lists(made: Bench, n_alerts: int) -> Iterator[str]:
    """Yield how long the usual questions take."""
    client = Client(made.ports[0])
    middle = n_alerts // 2
    for title, path in (
        ("newest 50 alerts", "/v1/alerts?limit=50"),
        ("50 alerts from the middle", f"/v1/alerts?limit=50&before={middle}"),
        ("50 of one label", "/v1/alerts?limit=50&label=chainsaw"),
        ("50 of one device", f"/v1/alerts?limit=50&device={made.phones[0].device_id}"),
        ("500 alerts", "/v1/alerts?limit=500"),
        ("incidents of a day", "/v1/incidents"),
        ("review queue by doubt", "/v1/review?order=uncertain"),
        ("precision", "/v1/precision"),
        ("metrics", "/v1/metrics"),
    ):
        client.get(path)
        times = []
        for _ in range(10):
            began = time.monotonic()
            client.get(path)
            times.append(time.monotonic() - began)
        yield f"  {title}: median {statistics.median(times) * 1000:.1f} ms, longest {max(times) * 1000:.1f} ms"


def pages(made: Bench) -> Iterator[str]:
    """Yield how long pages take until the browser has all that is seen first."""
    client = Client(made.ports[0])
    for path in PAGES:
        try:
            client.get(path)
            times = []
            for _ in range(5):
                began = time.monotonic()
                client.get(path)
                times.append(time.monotonic() - began)
        except AssertionError:
            yield f"  page {path}: was not ready in time"
            continue
        yield f"  page {path}: median {statistics.median(times) * 1000:.0f} ms, longest {max(times) * 1000:.0f} ms"


Case = tuple[str, Callable[[], str | None], int]


def alert_figures(root: Path, cases: Sequence[Case], options: argparse.Namespace) -> None:
    """Print how many alerts a second each database takes."""
    for name, where, processes in cases:
        slug = name.split(",")[0].lower() + str(processes)
        with bench(root, f"alerts-{slug}", where(), 100, processes) as made:
            for title, log_mel in (("alerts", False), ("alerts with pictures", True)):
                rate, times, errors = flat_out(made, options.seconds, log_mel)
                print(f"{name}: {rate:.0f} {title} a second, {latencies(times)}, {errors} errors", flush=True)


def beat_figures(root: Path, cases: Sequence[Case], options: argparse.Namespace) -> None:
    """Print how heartbeats fare as devices become more."""
    for n_devices in options.devices:
        seconds = options.beat_seconds if n_devices == 10_000 else options.seconds
        for name, where, processes in cases:
            with bench(root, f"beats-{n_devices}-{name[:3]}{processes}", where(), n_devices, processes) as made:
                times, errors = steady(made, n_devices / 60.0, seconds)
                print(
                    f"{name}: {n_devices} devices, a heartbeat a minute, for {seconds:.0f} s: "
                    f"{latencies(times)}, {errors} errors",
                    flush=True,
                )


def list_figures(root: Path, cases: Sequence[Case], options: argparse.Namespace) -> None:
    """Print how long questions and pages take with many alerts of 10,000 devices."""
    for name, where, _ in cases[:2]:
        with bench(root, f"lists-{name[:3]}", where(), 10_000) as made:
            settings = Settings(data=made.data, database=made.database)
            began = time.monotonic()
            fill(settings.database_url, [p.device_id for p in made.phones], options.alerts, options.alerts // 100)
            print(
                f"{name}: {options.alerts} alerts in the database, {options.alerts // 100} with pictures, "
                f"filled in {time.monotonic() - began:.0f} s; 10,000 devices",
                flush=True,
            )
            for line in itertools.chain(lists(made, options.alerts), pages(made)):
                print(line, flush=True)


PARTS = {"alerts": alert_figures, "beats": beat_figures, "lists": list_figures}


def main() -> int:
    """Measure what the options ask for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each load (default: %(default)s)")
    parser.add_argument("--alerts", type=int, default=100_000, help="in the database for lists (default: %(default)s)")
    parser.add_argument("--beat-seconds", type=float, default=30.0, help="of heartbeats of 10,000 devices")
    parser.add_argument("--devices", type=int, nargs="+", default=[100, 1000, 10_000], help="that send heartbeats")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="what to measure")
    parser.add_argument("--databases", nargs="+", choices=("sqlite", "postgresql"), default=["sqlite", "postgresql"])
    parser.add_argument("--root", type=Path, help="folder for the databases (default: a temporary one)")
    options = parser.parse_args()
    load = os.getloadavg()
    print(f"{os.cpu_count()} cores, load before: {load[0]:.1f}, {load[1]:.1f}", flush=True)
    with tempfile.TemporaryDirectory(dir=options.root) as folder, ExitStack() as stack:
        cases: list[Case] = [("SQLite", lambda: None, 1)] if "sqlite" in options.databases else []
        if "postgresql" in options.databases:
            cases += _postgres_cases(stack)
        for part in options.parts:
            PARTS[part](Path(folder), cases, options)
    return 0


def _postgres_cases(stack: ExitStack) -> list[Case]:
    """Return the cases on a server of our own, which ends with the stack; none where there is no PostgreSQL."""
    try:
        server = stack.enter_context(postgres.server(fast=False))
    except BaseException as error:  # noqa: BLE001  # pytest's skip is no Exception
        print(f"PostgreSQL left out: {error}")
        return []
    count = itertools.count()

    def fresh() -> str:
        return postgres.fresh(server, f"bench{next(count)}").render_as_string(hide_password=False)

    return [("PostgreSQL, 1 process", fresh, 1), ("PostgreSQL, 2 processes", fresh, 2)]


if __name__ == "__main__":
    sys.exit(main())
