"""Is this device doing its job? Counters that every stage feeds, and the heartbeat made of them."""

import contextlib
import math
import mmap
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from agent import VERSION
from agent.alert import Battery, Heartbeat, finite
from agent.alert import Clock as ClockReading
from agent.config import DeviceConfig
from agent.listen import Window
from agent.manifest import Manifest
from agent.outbox import Counts

_STATM = Path("/proc/self/statm")
_IO = Path("/proc/self/io")


def rss_mb() -> float:
    """Return resident memory in megabytes, 0 where the system does not tell."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int(_STATM.read_text().split()[1]) * mmap.PAGESIZE / 1e6
    return 0.0


def written_bytes() -> int:
    """Return the bytes that this process has passed to write() so far; 0 where the system does not tell."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int(_IO.read_text().split("wchar:")[1].split()[0])
    return 0


def disk_free_mb(folder: Path) -> float | None:
    """Return free megabytes on the disk of a folder, None where the system does not tell."""
    try:
        return shutil.disk_usage(folder).free / 1e6
    except OSError:
        return None


@dataclass(slots=True)
class Health:
    """What has been counted since the start, and since the last heartbeat."""

    device: DeviceConfig
    manifest: Manifest
    folder: Path
    """Where the device's files lie, to say how much room is left."""
    started_s: float
    """Monotonic seconds."""
    windows: int = 0
    classified: int = 0
    dropped_s: float = 0.0
    """Seconds of audio lost because the listener was behind."""
    lag_s: float = 0.0
    """Longest time that a block waited for the listener since the last heartbeat, seconds."""
    start_reason: str = "first start"
    """How the run before this one ended."""
    battery: Battery | None = None
    """The last reading; None where nobody knows."""
    power: str = "full"
    """Level of the power policy."""
    heartbeat_s: float = 0.0
    """Seconds until the next heartbeat is due."""
    paused_s: float = 0.0
    """Seconds since the start in which the microphone was let go to save power."""
    _states: dict[str, float] = field(init=False, default_factory=dict[str, float])
    """Named states that hold, and since when (monotonic seconds)."""
    _heard: int = field(init=False, default=0)
    _heard_before: int = field(init=False, default=0)
    _paused_before_s: float = field(init=False, default=0.0)
    _beat_s: float = field(init=False)
    _top: dict[str, int] = field(init=False, default_factory=dict[str, int])
    _power_sum: float = field(init=False, default=0.0)
    _power_count: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        """The first heartbeat counts from the start."""
        self._beat_s = self.started_s

    @property
    def states(self) -> tuple[str, ...]:
        """Return the named states that hold now, sorted."""
        return tuple(sorted(self._states))

    def heard(self, n_samples: int) -> None:
        """Count audio."""
        self._heard += n_samples

    @property
    def heard_s(self) -> float:
        """Return the seconds of audio heard since the start."""
        return self._heard / self.manifest.features.sample_rate

    def window(self, window: Window) -> None:
        """Count a window."""
        self.windows += 1
        self._power_sum += 10.0 ** (finite(window.level_dbfs) / 10.0)
        self._power_count += 1
        if window.outputs is None:
            return
        self.classified += 1
        for label, output in zip(self.manifest.labels, window.outputs.tolist(), strict=True):
            self._top[label] = max(self._top.get(label, -128), output)

    def begin(self, state: str, now_s: float) -> bool:
        """Note that a named state holds; return whether it is new."""
        if state in self._states:
            return False
        self._states[state] = now_s
        return True

    def end(self, state: str, now_s: float) -> float | None:
        """Note that a state is over; return for how many seconds it held, None if it did not."""
        since_s = self._states.pop(state, None)
        return None if since_s is None else now_s - since_s

    def heartbeat(self, clock: ClockReading, queue: Counts, reopenings: int = 0, written: int = 0) -> Heartbeat:
        """Return what there is to say, and begin a new span for the figures that are per heartbeat.

        Args:
            clock: now.
            queue: how full the outbox is.
            reopenings: how often the microphone had to be opened again since the start.
            written: bytes that the journal wrote, for systems that do not count what a process writes.
        """
        beat = Heartbeat(
            device_id=self.device.id,
            version=VERSION,
            clock=clock,
            model_digest=self.manifest.digest,
            uptime_s=round(max(clock.monotonic_s - self.started_s, 0.0), 1),
            audio_s=round(self.heard_s, 1),
            audio_per_wall=round(self._audio_per_wall(clock.monotonic_s), 3),
            windows=self.windows,
            classified=self.classified,
            top_scores=self._top_scores(),
            level_dbfs=round(self._level_dbfs(), 1),
            states=self.states,
            queue=queue.waiting,
            parked=queue.parked,
            in_memory=queue.in_memory,
            lost_alerts=queue.dropped,
            lag_s=round(self.lag_s, 1),
            reopenings=reopenings,
            start_reason=self.start_reason,
            dropped_s=round(self.dropped_s, 1),
            disk_free_mb=round(disk_free_mb(self.folder) or 0.0, 1),
            rss_mb=round(rss_mb(), 1),
            power=self.power,
            heartbeat_s=self.heartbeat_s,
            paused_s=round(self.paused_s, 1),
            written_kb=-(-(written_bytes() or written) // 1_000),
            position=self.device.position,
            battery=self.battery,
        )
        self._beat_s, self._heard_before, self._paused_before_s = clock.monotonic_s, self._heard, self.paused_s
        self._top, self._power_sum, self._power_count, self.lag_s = {}, 0.0, 0, 0.0
        return beat

    def _audio_per_wall(self, now_s: float) -> float:
        """Return the share of the time meant for listening in which sound came: a pause is not deafness."""
        paused_s = self.paused_s - self._paused_before_s
        wall_s = now_s - self._beat_s - paused_s
        if wall_s < 1.0 and paused_s > 0:
            return 1.0  # nothing was meant to be heard
        return (self._heard - self._heard_before) / self.manifest.features.sample_rate / max(wall_s, 1e-3)

    def _top_scores(self) -> Mapping[str, float]:
        table = self.manifest.score_table()
        return {label: round(float(table[output + 128]), 3) for label, output in self._top.items()}

    def _level_dbfs(self) -> float:
        mean = self._power_sum / self._power_count if self._power_count else 0.0
        return 10.0 * math.log10(mean) if mean > 1e-12 else -120.0
