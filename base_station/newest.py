"""The latest incidents as the first page shows them, read once for everybody who looks."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from agent.alert import LogMelImage
from base_station.incident_log import IncidentLog, Stand, stand
from base_station.incidents import Incident, Rules
from base_station.recent import incidents_between
from base_station.store import AlertEvent, Store
from base_station.verdicts import Verdicts

SPAN = timedelta(days=31)
AHEAD = timedelta(hours=1)
"""Devices' clocks may be ahead."""
ALERTS_EACH = 12
"""Of an incident, so many of its alerts are read; its own page has all."""
_LOOK_ANYWAY = timedelta(seconds=8)
"""A sound that follows its alert moves no marker."""
_MOST_KEPT = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class News:
    """One incident with what is shown of it."""

    incident: Incident
    events: tuple[AlertEvent, ...]
    """Its first alerts by onset, at least one."""
    best: AlertEvent
    """The one that shows most."""
    image: LogMelImage | None
    """Its picture."""
    stand: Stand

    @property
    def is_open(self) -> bool:
        """Say whether one of them has no end yet."""
        return any(event.state == "open" for event in self.events)


@dataclass(frozen=True, kw_only=True, slots=True)
class Newest:
    """What one look brought."""

    news: tuple[News, ...]
    """The latest first."""
    more: bool
    """Whether there are older ones."""

    @property
    def incidents(self) -> Sequence[Incident]:
        """Return the incidents alone."""
        return [one.incident for one in self.news]

    @property
    def received(self) -> Mapping[str, datetime]:
        """Return by incident when the last of its alerts came."""
        return {one.incident.incident_id: max(event.received_utc for event in one.events) for one in self.news}


class Latest:
    """Looks when something has come; whoever asks in between gets what is known."""

    def __init__(self, store: Store, usual: Rules) -> None:
        """Take the station's database, and when alerts belong together."""
        self._store, self._usual = store, usual
        self._log, self._verdicts = IncidentLog(store), Verdicts(store)
        self._lock = threading.Lock()
        self._kept: dict[int, tuple[tuple[int, int], datetime, Newest]] = {}

    def look(self, now_utc: datetime, limit: int) -> Newest:
        """Return the latest incidents; StorageError if the database refuses."""
        with self._lock:
            seen = self._store.marker(), self._log.marker()
            known = self._kept.get(limit)
            if known is None or known[0] != seen or not timedelta(0) <= now_utc - known[1] < _LOOK_ANYWAY:
                if len(self._kept) >= _MOST_KEPT:
                    self._kept.clear()
                known = seen, now_utc, self._read(now_utc, limit)
                self._kept[limit] = known
            return known[2]

    def _read(self, now_utc: datetime, limit: int) -> Newest:
        rules = self._verdicts.rules(self._usual)
        found = incidents_between(self._store, now_utc - SPAN, now_utc + AHEAD, rules, limit + 1)
        ids = [alert_id for one in found[:limit] for alert_id in one.alert_ids[:ALERTS_EACH]]
        events = {event.alert_id: event for event in self._store.events_of(ids)}
        entries = self._log.of([alert_id for one in found[:limit] for alert_id in one.alert_ids])
        news = []
        for incident in found[:limit]:
            own = tuple(events[alert_id] for alert_id in incident.alert_ids[:ALERTS_EACH] if alert_id in events)
            if not own:  # let go between the two looks
                continue
            best = most_telling(own)
            image = None
            if best.log_mel_revision is not None:
                image = self._store.log_mel(best.alert_id, best.log_mel_revision)
            named = frozenset(incident.alert_ids)
            how = stand([entry for entry in entries if entry.incident_id in named])
            news.append(News(incident=incident, events=own, best=best, image=image, stand=how))
        return Newest(news=tuple(news), more=len(found) > limit)


def most_telling(events: Sequence[AlertEvent]) -> AlertEvent:
    """Return the alert with sound, else with a picture, and of these the one with the highest score."""
    return max(events, key=lambda event: (event.has_clip, event.log_mel_revision is not None, event.score))
