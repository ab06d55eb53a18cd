"""The station's own look around, every few seconds: conditions, what to tell people, what to let go.

One process at a time does it, whichever has the lease in the database; all that it knows lies there too, so that
another goes on where it was killed.
"""

import logging
import os
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Protocol

from agent.errors import AgentError
from base_station import day_incidents, days, tallies
from base_station.condition_log import Census, Changes, ConditionLog, changes, forget_hours
from base_station.config import StationConfig
from base_station.deadman import conditions
from base_station.deliver import Deliveries
from base_station.notices import of_condition, of_end, of_incident
from base_station.recent import incidents_between
from base_station.retention import prune
from base_station.store import Store

log = logging.getLogger(__name__)

EVERY_S = 15.0
SOON_S = 0.5
"""The first look comes so soon after the start."""
LEASE = timedelta(seconds=60)
NEWS = timedelta(hours=1)
"""Alerts that arrived within this may make an incident that nobody was told of yet."""
LONGEST_SPAN = timedelta(days=31)
_TIDY_EVERY = timedelta(hours=1)
_RECOUNT_EVERY = timedelta(minutes=5)
"""So often the incidents of today are counted: a busy day costs a third of a second."""
LEASE_NAME = "watch"


class Watch:
    """One process's part in the look around."""

    def __init__(self, store: Store, told: Callable[[], StationConfig], now: Callable[[], datetime]) -> None:
        """Take the database, what says what the station is told now, and station time."""
        self._store = store
        self._told = told
        self._config = StationConfig()
        self._now = now
        self._conditions = ConditionLog(store.database)
        self._census = Census(store)
        self._deliveries = Deliveries(store.database)
        self._holder = process_name()
        self._tidied: datetime | None = None
        self._recounted: datetime | None = None

    def tick(self) -> Changes | None:
        """Look once; return what changed, None if another process does it."""
        now = self._now()
        if not self._store.database.take_lease(LEASE_NAME, self._holder, now, LEASE):
            return None
        self._config = self._told()
        made = self._look(now)
        self._tell(made, now)
        self._tidy(now)
        return made

    def leave(self) -> None:
        """Let another process do it at once."""
        self._store.database.drop_lease(LEASE_NAME, self._holder)

    def _look(self, now: datetime) -> Changes:
        limits = self._config.limits
        holding = self._conditions.holding()
        names = frozenset((spell.subject, spell.name) for spell in holding)
        found = conditions(self._census.take(now), names, now, limits)
        lately = self._conditions.ended_since(now - timedelta(seconds=limits.cooldown_s))
        made = changes(holding, lately, found, now, limits.cooldown_s)
        self._conditions.record(made, now)
        for condition in made.begun:
            log.warning("%s: %s begins: %s", condition.subject, condition.name, condition.detail)
        for spell in made.ended:
            log.info("%s: %s is over", spell.subject, spell.name)
        return made

    def _tell(self, made: Changes, now: datetime) -> None:
        """Let what is new wait for whoever wants to hear it; what waits already is known by its subject."""
        rules = [way.rule for way in self._config.ways]
        if not rules:
            return
        notices = [of_condition(condition) for condition in made.begun]
        notices += [of_end(spell, now) for spell in made.ended]
        arrived = self._store.oldest_onset_since(now - NEWS)
        if arrived is not None and arrived >= now - LONGEST_SPAN:
            found = incidents_between(self._store, arrived, now + NEWS, self._config.rules)
            notices += [of_incident(incident) for incident in found]
        self._deliveries.add(notices, rules, now)

    def _tidy(self, now: datetime) -> None:
        tallies.refresh(self._store.database, now)
        days.refresh(self._store.database, now)
        lately = self._recounted is None or now - self._recounted >= _RECOUNT_EVERY
        if lately:
            self._recounted = now
        day_incidents.refresh(self._store, self._config.rules, now, lately=lately)
        if self._tidied is not None and now - self._tidied < _TIDY_EVERY:
            return
        self._tidied = now
        forget_hours(self._store.database, now)
        removed = prune(self._store.database, self._config.retention, now)
        if removed.alerts or removed.pictures:
            log.info("let go by retention: %d alerts, %d pictures", removed.alerts, removed.pictures)


def process_name() -> str:
    """Return a name that no other process has, for leases."""
    return f"{os.getpid()}-{secrets.token_hex(4)}"


class Ticker(Protocol):
    """Something to do again and again, by one process at a time."""

    def tick(self) -> object:
        """Do it once, if it is this process's turn."""
        ...

    def leave(self) -> None:
        """Let another process do it at once."""
        ...


@contextmanager
def ticking(watch: Ticker) -> Iterator[None]:
    """Do it in a thread of its own while the block runs; what fails is logged, and tried again."""
    stop = threading.Event()

    def run() -> None:
        failed = ""
        wait_s = SOON_S
        while not stop.wait(wait_s):
            wait_s = EVERY_S
            try:
                watch.tick()
                failed = ""
            except AgentError as error:
                if str(error) != failed:
                    log.error("%s failed, and is tried again: %s", type(watch).__name__, error)  # noqa: TRY400  # no traceback
                failed = str(error)

    thread = threading.Thread(target=run, name=type(watch).__name__, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(timeout=1.0)
        try:
            watch.leave()
        except AgentError as error:
            log.warning("the lease ends by itself: %s", error)
