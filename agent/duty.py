"""Carries the power policy out: the battery's readings in; stride, pauses and heartbeats as the level says.

The listening loop calls `keep` at each turn. It costs two comparisons as long as nothing changes.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

from agent.alert import Battery
from agent.battery import BatteryWatch
from agent.capture import Reader
from agent.health import Health
from agent.journal import Journal, Json
from agent.listen import Listener
from agent.power import STALE_S, Change, Cycle, Policy, PowerConfig

log = logging.getLogger(__name__)

PAUSED = "paused to save power"
"""How the reason of a gap begins that was meant."""


@dataclass(slots=True)
class Duty:
    """The power policy at work."""

    config: PowerConfig
    reader: Reader
    listener: Listener
    health: Health
    journal: Journal
    watch: BatteryWatch | None
    """None: nobody is to look."""
    started_s: float
    """Monotonic seconds."""
    gap_reason: str = field(init=False, default="")
    """Why the sound behind a pause does not follow what came before; empty once that is written down."""
    _policy: Policy = field(init=False)
    _cycle: Cycle = field(init=False)
    _read_s: float = field(init=False)
    """Monotonic seconds of the last reading, at first those of the start."""
    _taken: float | None = field(init=False, default=None)
    """Which reading was taken in last."""
    _known: bool = field(init=False, default=True)
    _kept_s: float = field(init=False)
    _minute_paused_s: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        """Begin at full power, listening."""
        self._policy = Policy(self.config)
        self._cycle = Cycle(self.started_s)
        self._read_s = self._kept_s = self.started_s

    @property
    def paused(self) -> bool:
        """Say whether the microphone is let go on purpose."""
        return self._cycle.paused

    @property
    def level(self) -> str:
        """Return the name of the level."""
        return self._policy.level

    @property
    def clips(self) -> bool:
        """Say whether an alert may bring its sound along."""
        return self.config.level(self.level).clips

    def battery(self) -> Battery | None:
        """Return the last reading, as long as it is not older than it should be."""
        if self.watch is None or self.watch.found is None:
            return None
        reading, read_s = self.watch.found
        return reading.battery if self._kept_s - read_s <= 2 * self.watch.every_s else None

    def heartbeat_s(self, configured_s: float) -> float:
        """Return the seconds between heartbeats."""
        return max(configured_s, self.config.level(self.level).heartbeat_s)

    def keep(self, now_s: float) -> bool:
        """Take new readings in, and begin or end a pause where it is time.

        Args:
            now_s: monotonic seconds.

        Returns:
            Whether the level has changed: the station should hear of that at once.
        """
        if self.paused:
            self.health.paused_s += now_s - self._kept_s
            self._minute_paused_s += now_s - self._kept_s
        self._kept_s = now_s
        changed = self._read(now_s)
        if self._cycle.step(now_s, self.config.level(self.level), held=self.listener.decider.leans):
            self._turn()
        return changed

    def minute(self) -> Mapping[str, Json]:
        """Return what the minute's line says of power, and begin the next; nothing at full power."""
        said: dict[str, Json] = {} if self.level == "full" else {"power": self.level}
        if self._minute_paused_s:
            said["paused_s"] = round(self._minute_paused_s, 1)
        self._minute_paused_s = 0.0
        return said

    def _read(self, now_s: float) -> bool:
        if self.watch is None:
            return False
        found = self.watch.found
        if found is not None and found[1] != self._taken:
            self._taken = self._read_s = found[1]
            self._note_known(known=True)
            return self._note(self._policy.update(found[0].battery))
        # a device that never had a battery misses none, unless one was asked for
        missed = self._taken is not None or self.config.source != "auto"
        if missed and self._known and now_s - self._read_s > STALE_S:
            self._note_known(known=False)
            return self._note(self._policy.forget())
        return False

    def _note_known(self, *, known: bool) -> None:
        """Name a battery that has said nothing for long, once."""
        if known == self._known:
            return
        self._known = known
        if known:
            self.health.end("battery_unknown", self._kept_s)
            self.journal.event("state_ends", state="battery_unknown", reason="it says something again")
        else:
            self.health.begin("battery_unknown", self._kept_s)
            reason = f"no reading for {STALE_S / 60:.0f} min"
            log.warning("battery_unknown: %s", reason)
            self.journal.event("state_begins", state="battery_unknown", reason=reason)

    def _note(self, change: Change | None) -> bool:
        """Do as the new level says, and write down why."""
        if change is None:
            return False
        level = self.config.level(change.level)
        self.listener.every = level.every
        self.health.power = change.level
        log.info("power: %s, was %s: %s", change.level, change.before, change.reason)
        self.journal.event(
            "power",
            level=change.level,
            before=change.before,
            reason=change.reason,
            every=level.every,
            duty=round(level.duty, 3),
            heartbeat_s=level.heartbeat_s,
        )
        return True

    def _turn(self) -> None:
        """Let the microphone go, or open it again."""
        if not self.paused:
            self.reader.resume()
            return
        if self.reader.pause():
            self.gap_reason = f"{PAUSED}: {self.level}"
        else:
            self._cycle.paused = False  # a recording: there is nothing to let go
