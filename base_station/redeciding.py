"""A device's log decided again with other rules, by the device's own decider (`agent.redecide`)."""

import threading
from collections.abc import Iterator
from datetime import datetime, timedelta

from agent.errors import FieldError
from agent.fieldlog import Changes
from agent.journal import Line
from agent.redecide import Comparison, compare_lines
from base_station import shelf
from base_station.store import Store

LONGEST = timedelta(days=7)
"""Of what is decided again in one piece: 400,000 windows, two to three seconds (docs/station.md)."""
_BEFORE = timedelta(minutes=11)
"""So much before a span is heard as well: an event that lasts longer is closed by itself (`longest_s`)."""


class StoppedError(Exception):
    """Nobody waits for the answer any more."""


def redecided(
    store: Store, device_id: str, since: datetime, until: datetime, changes: Changes, stop: threading.Event
) -> Comparison:
    """Decide a span of a device's log twice: as it was, and with other values put into the rules.

    Args:
        store: the database.
        device_id: whose log it is.
        since: begin of the span; alerts before it are none of it.
        until: its end.
        changes: new values by label and field of `agent.decide.LabelRule`.
        stop: set by whoever no longer waits.

    Raises:
        FieldError: the span is too long, or a change is none that the rules of this log allow.
        StoppedError: `stop` was set.
    """
    if until - since > LONGEST:
        raise FieldError("span", f"is longer than {LONGEST.days} days; zoom in and decide again")
    found = compare_lines(_until(stop, shelf.lines(store, device_id, since - _BEFORE, until)), changes)
    found.differences = [one for one in found.differences if one.event.utc >= since]
    return found


def _until(stop: threading.Event, lines: Iterator[tuple[datetime, Line]]) -> Iterator[tuple[datetime, Line]]:
    for line in lines:
        if stop.is_set():
            raise StoppedError
        yield line
