"""Clips that wait on disk: held until the station has receipted their alert, then sent, then gone.

A clip is evidence and no alert: it is bounded in bytes, the oldest goes first, and losing one loses no alert.
"""

import contextlib
import re
import threading
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from agent.counter import write_durably
from agent.errors import StorageError

_NAME = re.compile(r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\.(held|wav)")
MOST_FAILURES = 5
"""Attempts that may have failed through a clip's own fault; then it is given up."""


@dataclass(frozen=True, slots=True)
class Clip:
    """One clip whose alert the station has."""

    alert_id: str
    body: bytes


class ClipBox:
    """Clips on disk; the listening thread puts, the sending thread takes."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        """Use a folder, which is made with the first clip."""
        self._folder = folder
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._receipted: set[str] = set()
        self._failures: dict[str, int] = {}

    def put(self, alert_id: str, body: bytes) -> None:
        """Keep a clip until its alert has been receipted.

        Raises:
            StorageError: the disk refused, or there is no room.
        """
        if len(body) > self._max_bytes:
            raise StorageError(f"a clip of {len(body)} bytes has no room among {self._max_bytes}")
        with self._lock:
            self._make_room(len(body))
            kind = "wav" if alert_id in self._receipted else "held"  # the sender may have been quicker
            write_durably(self._folder / f"{alert_id}.{kind}", body)

    def release(self, alert_id: str) -> None:
        """The station has the alert: its clip may go."""
        with self._lock:
            self._receipted.add(alert_id)
            while len(self._receipted) > 100:  # only against a race of milliseconds
                self._receipted.pop()
            with contextlib.suppress(OSError):
                (self._folder / f"{alert_id}.held").rename(self._folder / f"{alert_id}.wav")

    def settle(self, waiting: Collection[str]) -> None:
        """Release, after a start, the clips whose alerts wait no more."""
        for alert_id, kind, _ in self._found():
            if kind == "held" and alert_id not in waiting:
                self.release(alert_id)

    def due(self) -> Clip | None:
        """Return the oldest clip that may go, or None."""
        with self._lock:
            for alert_id, kind, path in self._found():
                if kind == "wav":
                    with contextlib.suppress(OSError):
                        return Clip(alert_id, path.read_bytes())
        return None

    def done(self, alert_id: str) -> None:
        """The station has the clip, or will never take it, or its alert."""
        with self._lock:
            self._failures.pop(alert_id, None)
            for kind in ("held", "wav"):
                with contextlib.suppress(OSError):
                    (self._folder / f"{alert_id}.{kind}").unlink()

    def failed(self, alert_id: str) -> bool:
        """Count an attempt that may have failed through the clip's own fault; return whether it was given up."""
        self._failures[alert_id] = self._failures.get(alert_id, 0) + 1
        if self._failures[alert_id] < MOST_FAILURES:
            return False
        self.done(alert_id)
        return True

    def _make_room(self, n_bytes: int) -> None:
        found = self._found()
        with contextlib.suppress(OSError):
            total = sum(path.stat().st_size for *_, path in found) + n_bytes
            for *_, path in found:
                if total <= self._max_bytes:
                    return
                total -= path.stat().st_size
                path.unlink()

    def _found(self) -> list[tuple[str, str, Path]]:
        """Return alert id, kind and path of each clip, the oldest first."""
        try:
            named = [(path, match) for path in self._folder.iterdir() if (match := _NAME.fullmatch(path.name))]
            named.sort(key=lambda one: one[0].stat().st_mtime_ns)
        except OSError:
            return []
        return [(match[1], match[2], path) for path, match in named]
