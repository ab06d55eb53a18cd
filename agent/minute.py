"""What the journal's line of one minute says of the sound: level, gaps, and windows that were left out."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from agent.hearing import SILENCE_DBFS
from agent.journal import Json
from agent.listen import Window

MOST_GAPS = 4
"""Gaps that a line tells one by one: a source that stutters must not use the journal's day up."""


@dataclass(slots=True)
class Minute:
    """Collects a minute; each `take_...` gives its part and begins the next."""

    _power: float = field(init=False, default=0.0)
    """Sum of the windows' mean squares."""
    _windows: int = field(init=False, default=0)
    _passed_over: int = field(init=False, default=0)
    _gaps: list[Mapping[str, Json]] = field(init=False, default_factory=list[Mapping[str, Json]])
    _more_gaps: list[float] = field(init=False, default_factory=list[float])
    """Seconds lost in gaps beyond the first few."""

    def window(self, window: Window) -> None:
        """Count a window."""
        self._power += 10.0 ** (window.level_dbfs / 10.0)
        self._windows += 1
        self._passed_over += window.passed_over

    def gap(self, at_s: float, lost_s: float, reason: str) -> None:
        """Note sound that was lost, or that was not to be heard.

        Args:
            at_s: where it goes on, audio seconds.
            lost_s: how much is not there.
            reason: why.
        """
        if len(self._gaps) < MOST_GAPS:
            self._gaps.append({"at_s": at_s, "lost_s": round(lost_s, 3), "reason": reason})
        else:
            self._more_gaps.append(lost_s)

    def take_level_dbfs(self) -> float | None:
        """Return the RMS level; None if nothing was heard, which is not silence."""
        power, n_windows = self._power, self._windows
        self._power, self._windows = 0.0, 0
        if n_windows == 0:
            return None
        return round(max(10.0 * math.log10(power / n_windows), SILENCE_DBFS), 1) if power > 0 else SILENCE_DBFS

    def take_gaps(self) -> list[Mapping[str, Json]]:
        """Return the first gaps."""
        gaps, self._gaps = self._gaps, []
        return gaps

    def take_more(self) -> dict[str, Json]:
        """Return what else there is to say, mostly nothing."""
        more: dict[str, Json] = {}
        if self._passed_over:
            more["passed_over"] = self._passed_over
        if self._more_gaps:
            more["more_gaps"] = {"n": len(self._more_gaps), "lost_s": round(sum(self._more_gaps), 3)}
        self._passed_over, self._more_gaps = 0, []
        return more
