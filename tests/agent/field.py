"""A phone in the forest, as far as its field log is concerned."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from agent.clock import DeviceClock
from agent.journal import Journal, WindowRecord
from agent.manifest import Manifest
from agent.service import setting_of


class Field:
    """A phone in the forest: its journal, on clocks that only the test moves; the sound passes with them."""

    def __init__(self, folder: Path, manifest: Manifest, device_id: str = "ipe-07") -> None:
        self.folder, self.manifest, self.device_id = folder, manifest, device_id
        self.wall_s = datetime(2026, 11, 23, 11, 0, tzinfo=UTC).timestamp()
        self.monotonic_s = 100.0
        self.synced = True
        self.start("first start")

    def start(self, reason: str) -> None:
        """Begin a run of the agent."""
        self.clock = DeviceClock(
            wall=lambda: self.wall_s, monotonic=lambda: self.monotonic_s, synchronised=lambda: self.synced
        )
        self.journal = Journal(self.folder / "journal", self.clock, device_id=self.device_id)
        self.journal.describe(setting_of(self.manifest))
        self.journal.event("start", reason=reason)
        self.end = self.manifest.features.window_samples - self.manifest.stride
        self.minute_s = self.monotonic_s

    def stop(self, reason: str = "told to") -> None:
        """End it cleanly."""
        self.journal.event("stop", reason=reason)
        self.journal.close()

    def pass_s(self, seconds: float) -> None:
        """Let time go by without sound."""
        self.wall_s += seconds
        self.monotonic_s += seconds

    def hear(self, *windows: "Sequence[int] | None", times: int = 1) -> None:
        """Hear windows: the model's bytes, or None where the gate is closed; a line a minute comes by itself."""
        for outputs in windows * times:
            self.pass_s(self.manifest.stride_s)
            self.end += self.manifest.stride
            output = b"" if outputs is None else np.array(outputs, np.int8).tobytes()
            self.journal.window(WindowRecord(end_sample=self.end, gated=outputs is None, output=output))
            if self.monotonic_s - self.minute_s >= 60.0:
                self.minute()

    def minute(self, **fields: Any) -> None:
        """Write the line of the minute."""
        self.minute_s = self.monotonic_s
        self.journal.minute(level_dbfs=-42.0, queue=0, **fields)
