"""When something happened, by a device's clock that never jumps and pairs that tie it to wall time.

Within one boot the monotonic clock runs on whatever the wall clock believes. A pair says what wall time it was at one
of its readings: the device's own where network time had set it, the station's where the device called.
"""

import bisect
from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from agent.alert import Clock

DEVICE, STATION, GUESS, NONE = "device", "station", "guess", "none"
"""How a moment was dated: network time on the device, a call to the station, the device's own idea, not at all."""
_TRUST = (DEVICE, STATION, GUESS)
_EARLIEST = datetime(2020, 1, 1, tzinfo=UTC)


class ClockPairs:
    """Pairs of monotonic and wall time, by boot."""

    def __init__(self) -> None:
        """Begin with none."""
        self._pairs: dict[tuple[str, str], list[tuple[float, datetime]]] = defaultdict(list)

    def add(self, boot_id: str, monotonic_s: float, utc: datetime, source: str) -> None:
        """Note that it was `utc` when a boot's clock stood at `monotonic_s`; what cannot be is passed over."""
        if utc >= _EARLIEST:
            bisect.insort(self._pairs[boot_id, source], (monotonic_s, utc))

    def add_clocks(self, clocks: Iterable[Clock]) -> None:
        """Note what a device itself wrote down."""
        for clock in clocks:
            source = {"synced": DEVICE, "guess": GUESS}.get(clock.utc_certainty)
            if source is not None and (utc := parsed(clock.utc)) is not None:
                self.add(clock.boot_id, clock.monotonic_s, utc, source)

    def when(self, boot_id: str, monotonic_s: float) -> tuple[datetime | None, str]:
        """Return the wall time of a reading by the nearest pair of the best kind, and which kind that is."""
        for source in _TRUST:
            pairs = self._pairs.get((boot_id, source))
            if not pairs:
                continue
            at = bisect.bisect_left(pairs, (monotonic_s, _EARLIEST))
            near = min(pairs[max(0, at - 1) : at + 1], key=lambda pair: abs(pair[0] - monotonic_s))
            try:
                return near[1] + timedelta(seconds=monotonic_s - near[0]), source
            except OverflowError:
                continue
        return None, NONE


def parsed(utc: str) -> datetime | None:
    """Return a time that a device wrote down, or None if it is none."""
    try:
        moment = datetime.fromisoformat(utc)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
