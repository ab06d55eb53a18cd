"""A day of forest through the real loop, as fast as this machine can: memory and descriptors must stay where they are.

The clock is the sound's own, so that minutes, heartbeats, journal segments and their compression come as in a day.
`python -m tests.torture.soak HOURS FOLDER` prints a line of JSON each hour.
"""

import json
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np

from agent import synth
from agent.__main__ import load_stages
from agent.alert import Heartbeat
from agent.capture import Block, Reader
from agent.clock import DeviceClock
from agent.config import DeviceConfig
from agent.health import Health, rss_mb
from agent.hearing import Hearing
from agent.journal import Journal
from agent.manifest import BUNDLED_MODEL
from agent.outbox import Outbox
from agent.report import Reporter
from agent.service import Service, Stages, setting_of
from agent.uplink import Uplink
from agent.watchdog import Watchdog

RATE = 16_000
BLOCK = 8_000


class Forest:
    """A reader whose time is its sound: forest, a saw each quarter of an hour, lost audio each hour."""

    dropped_samples = 0
    reopenings = 0
    last_error = None

    def __init__(self, hours: float) -> None:
        rng = np.random.default_rng(8)
        self._forest = synth.forest(300.0, rng)
        self._saw = 0.7 * synth.drill_saw()
        self._end = round(hours * 3_600 * RATE)
        self.now = 0

    @property
    def ended(self) -> bool:
        """Say whether the day is over."""
        return self.now >= self._end

    def start(self) -> None:
        """Nothing to start."""

    def reopen(self, reason: str) -> None:
        """Count, as the real one does."""
        self.reopenings += 1

    def get(self, timeout_s: float, until: int = 0) -> Block | None:
        """Return the next half second."""
        if self.ended:
            return None
        if self.now and self.now % (3_600 * RATE) == 0:
            self.now += 5 * RATE  # five seconds an hour are lost
        at = self.now % len(self._forest)
        samples = self._forest[at : at + BLOCK].copy()
        since = self.now % (900 * RATE) - 600 * RATE
        if 0 <= since < len(self._saw) - BLOCK:
            samples += self._saw[since : since + BLOCK]
        start, self.now = self.now, self.now + BLOCK
        return Block(start=start, samples=samples, arrived_s=1_000.0 + self.now / RATE)


@dataclass
class Beats:
    """Takes heartbeats, and lets a station that is there every other hour empty the outbox."""

    outbox: Outbox
    count: int = 0

    def beat(self, heartbeat: Heartbeat) -> None:
        """Take one."""
        self.count += 1
        assert len(heartbeat.to_json()) < 1_000
        if int(heartbeat.clock.monotonic_s / 3_600) % 2:
            while (message := self.outbox.due(heartbeat.clock.monotonic_s)) is not None:
                self.outbox.delivered(*message.key)


def soak(hours: float, folder: Path) -> None:
    """Run, and print what the process needs after each hour."""
    reader = Forest(hours)
    clock = DeviceClock(
        wall=lambda: 1.8e9 + reader.now / RATE,
        monotonic=lambda: 1_000.0 + reader.now / RATE,
        synchronised=lambda: True,
    )
    device = DeviceConfig(id="soak")
    manifest, new_listener, _ = load_stages(BUNDLED_MODEL, gate=True, vad=True)
    with (
        Journal(folder / "journal", clock, device_id=device.id, max_bytes=20_000_000) as journal,
        Outbox(folder / "outbox.db") as outbox,
    ):
        journal.describe(setting_of(manifest))
        beats = Beats(outbox)
        health = Health(device, manifest, folder, clock.monotonic_s())
        stages = Stages(
            reader=cast("Reader", reader),
            hearing=Hearing(),
            listener=new_listener(),
            reporter=Reporter(device=device, manifest=manifest, now=clock.now),
            outbox=outbox,
            uplink=cast("Uplink", beats),
            journal=journal,
            health=health,
            clock=clock,
            heartbeat_s=300.0,
            watchdog=Watchdog(folder / "alive", lambda _: None),
        )
        service = Service(stages)
        told = [0]

        def tell(_: object) -> None:
            hour = reader.now // (3_600 * RATE)
            if hour > told[0]:
                told[0] = hour
                line = {
                    "hour": hour,
                    "rss_mb": round(rss_mb(), 2),
                    "descriptors": len(list(Path("/proc/self/fd").iterdir())),
                    "threads": threading.active_count(),
                    "windows": health.windows,
                    "classified": health.classified,
                    "beats": beats.count,
                    "disk_kb": sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) // 1_000,
                }
                print(json.dumps(line), flush=True)

        service.say = tell
        service.run(threading.Event())


if __name__ == "__main__":
    soak(float(sys.argv[1]), Path(sys.argv[2]))
