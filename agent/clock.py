"""The clocks of a device that nobody sets: one that never jumps, one that people read, and how far to trust it.

Waiting, back-off and rotation use the monotonic clock alone. Wall time is written down with its certainty and
judged by nobody here; the station corrects it from the pairs that it gets.
"""

import ctypes
import os
import re
import sys
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from agent.alert import Clock

RELEASED = datetime(2026, 11, 20, tzinfo=UTC)
"""Day of this software: a wall clock before it is certainly wrong."""

_BOOT_ID_FILE = Path("/proc/sys/kernel/random/boot_id")
_SYNCED_FILE = Path("/run/systemd/timesync/synchronized")
_BOOT_ID = re.compile(r"[0-9a-f-]{8,64}")
_LATEST_WALL_S = datetime(9999, 12, 31, tzinfo=UTC).timestamp()
_TIMEX_BYTES = 1024  # struct timex has 208 bytes at most; the kernel writes no more than that
_TIME_ERROR = 5  # adjtimex's answer for "nobody disciplines this clock"


def boot_seconds() -> float:
    """Return seconds since the device booted, sleep included where the system counts it.

    A phone that sleeps would otherwise have a monotonic clock that stands still, and the station could not place
    what was heard before the sleep.
    """
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


def kernel_boot_id(path: Path = _BOOT_ID_FILE) -> str | None:
    """Return the kernel's name for this boot, or None where it tells none (some Android versions)."""
    try:
        text = path.read_text(encoding="ascii").strip().lower()
    except (OSError, UnicodeDecodeError):
        return None
    return text if _BOOT_ID.fullmatch(text) else None


def kernel_is_synchronised(path: Path = _SYNCED_FILE) -> bool:
    """Say whether something disciplines the wall clock: systemd's mark, or the kernel's own."""
    try:
        if path.exists():
            return True
    except OSError:
        return False
    if not sys.platform.startswith("linux") or _is_android():
        return False
    try:
        answer = int(ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES)))  # modes = 0: reads only
    except (OSError, AttributeError):
        return False
    return 0 <= answer < _TIME_ERROR


def _is_android() -> bool:
    """Say whether this is Android, also from a Linux in a chroot there: its apps are killed for calling adjtimex."""
    return (
        hasattr(sys, "getandroidapilevel") or "ANDROID_ROOT" in os.environ or Path("/system/bin/app_process").exists()
    )


class DeviceClock:
    """All the clocks of this device; tests bring their own."""

    def __init__(
        self,
        *,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] | None = None,
        synchronised: Callable[[], bool] = kernel_is_synchronised,
    ) -> None:
        """Take the device's clocks, or others.

        Args:
            wall: seconds since 1970.
            monotonic: seconds that never go back; by default those since boot.
            synchronised: whether something disciplines `wall`.
        """
        self._wall = wall
        self._monotonic = monotonic or boot_seconds
        self._synchronised = synchronised
        # the kernel's boot id speaks of the kernel's clock alone
        known = kernel_boot_id() if monotonic is None else None
        self._boot_id = known or str(uuid.uuid4())

    @property
    def boot_id(self) -> str:
        """Return which run of the monotonic clock this is: another one whenever that clock has started anew."""
        return self._boot_id

    def monotonic_s(self) -> float:
        """Return seconds on the clock that never jumps."""
        return self._monotonic()

    def now(self) -> Clock:
        """Return this moment on all clocks."""
        wall_s = min(max(self._wall(), 0.0), _LATEST_WALL_S)
        utc = datetime.fromtimestamp(wall_s, UTC)
        return Clock(
            boot_id=self._boot_id,
            monotonic_s=round(self._monotonic(), 3),
            utc=utc.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            utc_certainty=self._certainty(utc),
        )

    def _certainty(self, utc: datetime) -> str:
        if utc < RELEASED:
            return "unset"
        return "synced" if self._synchronised() else "guess"
