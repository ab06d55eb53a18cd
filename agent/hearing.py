"""Can this device hear? Named states, measured on the sound itself: Android gives zeros without an error.

Every state begins within ten seconds of audio and ends only on real sound.
"""

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from agent.capture import Block

Float32 = NDArray[np.float32]

SAMPLE_RATE = 16_000
SILENCE_DBFS = -120.0

_HOLD = 8 * SAMPLE_RATE
"""Samples for which something must look wrong before it is called so, in the slow states."""
_UNSEEN = 4 * SAMPLE_RATE
"""Samples of a silence that may have passed before the listener looked up, which waits for a window's sound; not more,
or a device that slept would wake up deaf."""
_CALM = 2 * SAMPLE_RATE
"""Samples of real sound that end a state."""
_QUIETEST_DBFS = -96.0
"""Below what the last bit of a 16-bit microphone gives."""
_FLAT = 2.0**-17
"""A constant that went through the resampler is not quite one; a quarter of a 16-bit step is no sound all the same."""
_SAME = 1e-5
_DC = 0.1
_CLIPPED_SHARE = 0.01
_UNREAL_SHARE = 0.01
_PACE_S = (6.0, 9.0, 20.0, 50.0)
"""Over how long the pace of sound is measured: a wrong rate by a factor shows at once, one of 8 % after a while."""
_PACE_SLACK_S = 1.0
"""What buffers between microphone and reader may hold back, or give at once..."""
_PACE_SHARE = 0.05
"""...and how far off a cheap clock may run."""
_OPENING_S = 0.9
"""A reader waits for so long at least before it opens a source again."""
_SETTLING_S = 2.0
"""After an opening, whole buffers come at once."""


@dataclass(frozen=True, slots=True)
class StateChange:
    """A named state begins or ends."""

    name: str
    begins: bool
    at_sample: int
    """Sample clock."""
    detail: str
    """What was measured."""


def level_dbfs(samples: Float32) -> float:
    """Return the RMS level, decibels relative to full scale; digital silence is -120."""
    if len(samples) == 0:
        return SILENCE_DBFS
    power = float(np.dot(samples, samples)) / len(samples)
    return max(10.0 * float(np.log10(power)), SILENCE_DBFS) if power > 0 else SILENCE_DBFS


@dataclass(slots=True)
class _Watch:
    """How long one thing has looked wrong, and for how long well."""

    bad: int = 0
    good: int = 0
    holds: bool = False


@dataclass(slots=True)
class _Pace:
    """Seconds of sound against seconds that passed, since the source was opened."""

    _marks: deque[tuple[float, int]] = field(default_factory=deque[tuple[float, int]])
    """(arrival in seconds, sample clock) of blocks, the oldest first."""
    _opened_s: float = math.nan
    _arrived_s: float = math.nan
    _expected: int = -1

    def push(self, block: Block) -> tuple[float, float] | None:
        """Take one block; return (seconds of sound, seconds that passed) over a span in which they differ, or None."""
        end = block.start + len(block.samples)
        if math.isnan(block.arrived_s):
            return None
        # an opening takes its time; where sound is lost without one, the rate is still the question
        pause_s = block.arrived_s - self._arrived_s
        if math.isnan(pause_s) or (block.start != self._expected and pause_s >= _OPENING_S):
            self._opened_s = block.arrived_s
            self._marks.clear()
        self._expected, self._arrived_s = end, block.arrived_s
        if block.arrived_s - self._opened_s < _SETTLING_S:
            return None
        if self._marks and block.arrived_s - self._marks[-1][0] < 1.0:
            return None  # once a second is enough
        self._marks.append((block.arrived_s, end))
        while block.arrived_s - self._marks[0][0] > _PACE_S[-1] + 1.0:
            self._marks.popleft()
        for span_s in _PACE_S:
            passed_s, sounded_s = self._over(span_s, block.arrived_s, end)
            if abs(sounded_s - passed_s) > _PACE_SHARE * passed_s + _PACE_SLACK_S:
                return sounded_s, passed_s
        return None

    def _over(self, span_s: float, now_s: float, end: int) -> tuple[float, float]:
        """Return seconds that passed and seconds of sound since the last mark that is so old; zeros if none is."""
        for at_s, mark in reversed(self._marks):
            if now_s - at_s >= span_s:
                return now_s - at_s, (end - mark) / SAMPLE_RATE
        return 0.0, 0.0


@dataclass(slots=True)
class Hearing:
    """Looks at every block, and at the time in which none comes."""

    _watches: dict[str, _Watch] = field(init=False, default_factory=dict[str, _Watch])
    _last: Float32 = field(init=False, default_factory=lambda: np.empty(0, np.float32))
    _pace: _Pace = field(init=False, default_factory=_Pace)
    _end: int | None = field(init=False, default=None)
    """Sample clock behind the last block; None: there was none, or silence since then was wanted."""

    @property
    def states(self) -> tuple[str, ...]:
        """Return the names of the states that hold."""
        return tuple(name for name, watch in self._watches.items() if watch.holds)

    def push(self, block: Block) -> list[StateChange]:
        """Take one block; return what begins and ends with it."""
        samples = block.samples
        n_samples = len(samples)
        if n_samples == 0:
            return []
        mean = float(np.add.reduce(samples, dtype=np.float64)) / n_samples  # np.mean takes twice as long
        head = samples[:2_048]
        is_still = bool(abs(head[-1] - head[0]) < _FLAT and np.ptp(samples) < _FLAT)
        is_zero = is_still and not samples.any()
        is_constant = is_still and abs(mean) >= _FLAT
        is_flat = is_zero or is_constant
        level = level_dbfs(samples - np.float32(mean))  # an offset is no sound
        repeats = not is_flat and len(head) == len(self._last) and self._is_last(head)
        self._last = head.copy()
        self._end = end = block.start + n_samples
        off = self._pace.push(block)
        looks: list[tuple[str, bool, int, Callable[[], str]]] = [
            ("no_audio", False, _HOLD, str),
            ("zeros", is_zero, _HOLD, lambda: "every sample is 0: the microphone is silenced"),
            ("constant", is_constant, _HOLD, lambda: f"every sample is {mean:.4f}"),
            ("stuck", repeats, 2 * SAMPLE_RATE, lambda: "the same block again and again"),
            ("too_quiet", not is_flat and level < _QUIETEST_DBFS, _HOLD, lambda: f"{level:.0f} dBFS"),
            (
                "dc",
                abs(mean) > _DC and not is_flat,
                _HOLD,
                lambda: f"a constant {mean:+.2f} of full scale beside the sound",
            ),
            (
                "clipping",
                block.clipped > _CLIPPED_SHARE * n_samples,
                3 * SAMPLE_RATE,
                lambda: f"{block.clipped} of {n_samples} samples at full scale",
            ),
            (
                "unreal",
                block.unreal > _UNREAL_SHARE * n_samples,
                SAMPLE_RATE,
                lambda: f"{block.unreal} of {n_samples} samples are no numbers",
            ),
            (
                "wrong_rate",
                off is not None,
                1,
                lambda: "{:.1f} s of sound came in {:.1f} s".format(*(off or (0.0, 0.0))),
            ),
        ]
        changes: list[StateChange] = []
        for name, is_bad, hold, detail in looks:
            change = self._see(name, is_bad, n_samples, hold, end, detail)
            if change is not None:
                changes.append(change)
        return changes

    def _is_last(self, head: Float32) -> bool:
        """Say whether a block begins as the last one did, but for the rounding of the resampler."""
        return float(np.abs(head - self._last).max()) < _SAME * float(np.abs(head).max())

    def tick(self, now_sample: int) -> list[StateChange]:
        """No block came up to this sample clock; return what begins with that."""
        watch = self._watches.setdefault("no_audio", _Watch())
        if watch.holds:
            return []
        if watch.bad == 0:
            watch.bad = now_sample if self._end is None else max(self._end, now_sample - _UNSEEN)
            return []
        if now_sample - watch.bad < _HOLD:
            return []
        watch.holds, watch.good = True, 0
        return [StateChange("no_audio", True, now_sample, "no block has come for 8 s")]

    def rest(self) -> None:
        """The source was let go on purpose: a silence that began before that does not go on behind it."""
        self._end = None
        watch = self._watches.get("no_audio")
        if watch is not None and not watch.holds:
            watch.bad = 0

    def _see(
        self, name: str, is_bad: bool, n_samples: int, hold: int, end: int, detail: Callable[[], str]
    ) -> StateChange | None:
        watch = self._watches.setdefault(name, _Watch())
        if name == "no_audio" and not watch.holds:
            watch.bad = 0
        if is_bad:
            watch.bad, watch.good = watch.bad + n_samples, 0
            if watch.bad >= hold and not watch.holds:
                watch.holds = True
                return StateChange(name, True, end, detail())
            return None
        watch.good += n_samples
        if watch.good >= _CALM or not watch.holds:
            watch.bad = 0
        if watch.holds and watch.good >= _CALM:
            watch.holds, watch.bad = False, 0
            return StateChange(name, False, end, "real sound again")
        return None
