"""`python -m tests.bench.backlog`: a long queue of which the station has most, with and without asking first.

A station in a process of its own on loopback, real signed requests; and what packing saves of each kind of message.
"""

import argparse
import contextlib
import gzip
import random
import resource
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from unittest import mock

import numpy as np

from agent.alert import Alert
from agent.clip import wav_bytes
from agent.clock import DeviceClock
from agent.counter import Counter
from agent.inquiry import Inquiry
from agent.outbox import Outbox
from agent.synth import forest
from agent.uplink import Answer, StationLink, Uplink
from tests.base_station.conftest import StationProcess, make_alert, make_heartbeat, saw_picture

DEVICE = "ipe-07"


class CountingLink:
    """The real link, with the bytes of bodies and the requests counted."""

    def __init__(self, link: StationLink) -> None:
        self._link = link
        self.requests = 0
        self.body_bytes = 0

    def post(self, path: str, body: bytes) -> Answer:
        self.requests += 1
        self.body_bytes += len(body)
        return self._link.post(path, body)

    def jump_to(self, highest: int) -> None:
        self._link.jump_to(highest)


def run(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.backlog", description=__doc__)
    parser.add_argument("--alerts", type=int, default=10_000)
    parser.add_argument("--known", type=int, default=9_000, help="of these the station has so many already")
    options = parser.parse_args(arguments)
    packing()
    with tempfile.TemporaryDirectory() as folder:
        queue(Path(folder), options.alerts, options.known)


def packing() -> None:
    """Print what gzip saves of each kind of message."""
    sound = forest(10.0, np.random.default_rng(7))
    kinds = {
        "heartbeat": make_heartbeat(DEVICE).to_json(),
        "alert with its picture": make_alert(DEVICE).to_json(),
        "closing without": make_alert(DEVICE, revision=1, state="closed", log_mel=None).to_json(),
        "clip of 10 s of forest": wav_bytes((sound * 32_767).astype(np.int16)),
    }
    for name, body in kinds.items():
        began_s = time.process_time()
        packed = gzip.compress(body, mtime=0)
        took_ms = 1e3 * (time.process_time() - began_s)
        less = 1 - len(packed) / len(body)
        print(f"{name:24} {len(body):7} -> {len(packed):7} bytes ({less:.0%} less), {took_ms:.1f} ms")


def queue(folder: Path, n_alerts: int, n_known: int) -> None:
    """Print how long the queue takes, and what it costs the link."""
    alerts = [make_alert(DEVICE, log_mel=saw_picture(seed)) for seed in range(20)]
    outbox = folder / "outbox.db"
    with Outbox(outbox, 500_000_000) as filling:
        for number in range(n_alerts):
            filling.put(_named(alerts[number % len(alerts)], number))
    for asks in (True, False):
        case = folder / str(asks)
        case.mkdir()
        for path in folder.glob("outbox.db*"):
            shutil.copy(path, case / path.name)
        station = StationProcess(case / "station").wait_ready()
        try:
            _case(case, station, alerts, n_alerts, n_known, asks=asks)
        finally:
            station.stop()


def _named(alert: Alert, number: int) -> Alert:
    return make_alert(DEVICE, alert_id=f"00000000-0000-4000-8000-{number:012d}", log_mel=alert.log_mel)


def _case(case: Path, station: StationProcess, alerts: list[Alert], n_alerts: int, n_known: int, *, asks: bool) -> None:
    device = station.add_device(DEVICE)
    real = StationLink(
        urls=[station.url], device_id=DEVICE, key=device.key, counter=Counter(case / "counter"), clock=DeviceClock()
    )
    for number in range(n_known):
        assert real.post("/v1/alerts", _named(alerts[number % len(alerts)], number).to_json()).kind == "receipt"
    link = CountingLink(real)
    clock = DeviceClock()
    with Outbox(case / "outbox.db", 500_000_000) as outbox:
        uplink = Uplink(outbox, link, clock, random.Random(7), lambda *_, **__: None)
        began_s, cpu_s = time.monotonic(), time.process_time()
        with contextlib.nullcontext() if asks else mock.patch.object(Inquiry, "is_due", False):
            while uplink.deliver_one(clock.monotonic_s()) is not None:
                pass
        assert outbox.counts().waiting == 0
        took_s, cpu_s = time.monotonic() - began_s, time.process_time() - cpu_s
    rss_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{'asks first' if asks else 'sends all '}: {n_alerts} alerts, {n_known} known: {link.requests} requests, "
        f"{link.body_bytes / 1e6:.1f} MB of bodies before packing, {took_s:.1f} s, {cpu_s:.1f} CPU-s, {rss_mb:.0f} MB"
    )


if __name__ == "__main__":
    run()
