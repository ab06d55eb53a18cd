"""A level as a bar, and a line of a terminal that is written over: for eyes, on any terminal, by phone over ssh."""

from dataclasses import dataclass
from typing import TextIO

QUIETEST_DBFS = -80.0
"""Where the bar begins: below is a microphone's own noise."""


def bar(level_dbfs: float, width: int = 30) -> str:
    """Return a level as a bar of `width` signs between brackets; full is full scale."""
    share = (level_dbfs - QUIETEST_DBFS) / -QUIETEST_DBFS
    full = round(min(max(share, 0.0), 1.0) * width)
    return "[" + "#" * full + "-" * (width - full) + "]"


@dataclass(slots=True)
class LiveLine:
    """One line that is written over; where nobody looks (no terminal) it writes nothing."""

    out: TextIO
    _shown: bool = False

    def show(self, text: str) -> None:
        """Put this where the last text was."""
        if self.out.isatty():
            self.out.write(f"\r\x1b[K{text}")
            self.out.flush()
            self._shown = True

    def clear(self) -> None:
        """Take the text away, so that the next line begins where it should."""
        if self._shown:
            self.out.write("\r\x1b[K")
            self.out.flush()
            self._shown = False
