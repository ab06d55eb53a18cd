"""The field log of real recordings: bytes of journal a day, and bytes passed to write(), through the real loop.

`python -m tests.bench.journal [--data FOLDER] [--hours H]` plays the recordings one behind the other, and again when
they are over, as one long day whose clock is the sound's own. Nothing is kept.
"""

import argparse
import gzip
import itertools
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import numpy as np

from agent.__main__ import load_stages
from agent.alert import Battery, Heartbeat
from agent.battery import BatteryWatch, Reading
from agent.capture import AudioFile, Block, Reader, audio_files
from agent.clock import DeviceClock
from agent.config import DeviceConfig
from agent.duty import Duty
from agent.errors import AudioError
from agent.health import Health, written_bytes
from agent.hearing import Hearing
from agent.journal import Journal, read
from agent.manifest import BUNDLED_MODEL
from agent.outbox import Outbox
from agent.power import PowerConfig
from agent.report import Reporter
from agent.service import Service, Stages, setting_of
from agent.uplink import Uplink
from agent.watchdog import Watchdog

ROOT = Path(__file__).parent.parent.parent
RATE = 16_000
BLOCK = 8_000
GROUPS = {
    "forest": ("background", "storm"),
    "everything": ("background", "storm", "machine", "other", "engine", "chainsaw"),
}
"""Targets of the data's manifest: a quiet day, and one in which everything happens."""


class Recordings:
    """A reader whose time is its sound: files one behind the other, in blocks of half a second."""

    dropped_samples = 0
    reopenings = 0
    last_error = None

    def __init__(self, paths: list[Path], hours: float) -> None:
        self._end = round(hours * 3_600 * RATE)
        self._blocks = self._cut(paths)
        self.now = 0
        self.ended = False

    def _cut(self, paths: list[Path]) -> Iterator[np.ndarray]:
        pending = np.empty(0, np.float32)
        for path in itertools.cycle(paths):
            try:
                for block in AudioFile(path).blocks():
                    pending = np.concatenate([pending, block.samples])
                    while len(pending) >= BLOCK:
                        yield pending[:BLOCK]
                        pending = pending[BLOCK:]
            except AudioError as error:
                print(f"left out: {error}")

    def start(self) -> None:
        """Nothing to start."""

    def reopen(self, reason: str) -> None:
        """Nothing to open."""

    def pause(self) -> bool:
        """Stay."""
        return False

    def resume(self) -> None:
        """Go on."""

    def get(self, timeout_s: float, until: int = 0) -> Block | None:
        """Return the next half second."""
        samples = next(self._blocks, None) if self.now < self._end else None
        if samples is None:
            self.ended = True
            return None
        start, self.now = self.now, self.now + BLOCK
        return Block(start=start, samples=samples, arrived_s=1_000.0 + self.now / RATE)


class Beats:
    """A station that takes heartbeats and receipts alerts at once."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self.largest = self.count = 0

    def beat(self, heartbeat: Heartbeat) -> None:
        """Take one, and what waits."""
        self.count += 1
        self.largest = max(self.largest, len(heartbeat.to_json()))
        while (message := self._outbox.due(heartbeat.clock.monotonic_s)) is not None:
            self._outbox.delivered(*message.key)


def paths_of(data: Path, group: str) -> list[Path]:
    """Return the recordings of some targets, in the manifest's order."""
    import csv

    with (data / "manifest.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["target"] in GROUPS[group]]
    return [path for row in rows for path in audio_files(data / row["path"])]


def measured(paths: list[Path], hours: float) -> dict[str, float]:
    """Play, and return figures per day."""
    reader = Recordings(paths, hours)
    clock = DeviceClock(
        wall=lambda: 1.8e9 + reader.now / RATE, monotonic=lambda: 1_000.0 + reader.now / RATE, synchronised=lambda: True
    )
    device = DeviceConfig(id="ipe-07")
    manifest, new_listener, _ = load_stages(BUNDLED_MODEL, gate=True, vad=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        before = written_bytes()
        with Journal(folder / "journal", clock, device_id=device.id) as journal, Outbox(folder / "outbox.db") as outbox:
            journal.describe(setting_of(manifest))
            beats, health, listener = (
                Beats(outbox),
                Health(device, manifest, folder, clock.monotonic_s()),
                new_listener(),
            )
            battery = Battery(percent=81.0, temperature_c=31.5, charging=True)
            watch = BatteryWatch(lambda: Reading(source="sysfs", battery=battery), clock.monotonic_s, 300.0)
            duty = Duty(
                config=PowerConfig(),
                reader=cast("Reader", reader),
                listener=listener,
                health=health,
                journal=journal,
                watch=watch,
                started_s=clock.monotonic_s(),
            )
            stages = Stages(
                reader=cast("Reader", reader),
                hearing=Hearing(),
                listener=listener,
                reporter=Reporter(device=device, manifest=manifest, now=clock.now, battery=duty.battery),
                outbox=outbox,
                uplink=cast("Uplink", beats),
                journal=journal,
                health=health,
                clock=clock,
                heartbeat_s=300.0,
                watchdog=Watchdog(None, lambda _: None),
                duty=duty,
            )
            service = Service(stages, say=lambda _: watch.look_once() if health.windows % 200 == 1 else None)
            service.run(threading.Event())
            journal.event("stop", reason="the recording ended")
        days = reader.now / RATE / 86_400
        files = list((folder / "journal").iterdir())
        contents = [gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes() for path in files]
        events = Counter(line.event for line in read(folder / "journal") if line.event)
        return {
            "hours": reader.now / RATE / 3_600,
            "windows": health.windows,
            "classified_share": health.classified / max(1, health.windows),
            "alerts": events["alert"],
            "journal_mb": sum(len(content) for content in contents) / days / 1e6,
            "packed_mb": sum(len(gzip.compress(content)) for content in contents) / days / 1e6,
            "journal_written_mb": journal.bytes_written / days / 1e6,
            "all_written_mb": (written_bytes() - before) / days / 1e6,
            "largest_heartbeat": beats.largest,
        }


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.journal", description=__doc__)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--hours", type=float, default=24.0, help="of each kind of day (default 24)")
    options = parser.parse_args()
    print("MB are per day; written: by the journal, and by the whole process with outbox and marks\n")
    print("| | hours heard | classified | alert lines | journal | gzip | written | all written | heartbeat |")
    print("|---|---|---|---|---|---|---|---|---|")
    for group in GROUPS:
        row = measured(paths_of(options.data, group), options.hours)
        cells = [f"{row['hours']:.2f}", f"{row['classified_share']:.0%}", f"{row['alerts']:.0f}"]
        cells += [f"{row[name]:.2f}" for name in ("journal_mb", "packed_mb", "journal_written_mb", "all_written_mb")]
        print(f"| {group} | {' | '.join(cells)} | {row['largest_heartbeat']:.0f} B |", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
