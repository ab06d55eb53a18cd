"""Which wall time an event gets: the device's clock as far as it can be believed."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from agent.alert import Clock
from base_station.contacts import Contact
from base_station.inbox import onset

NOW = datetime(2026, 11, 20, 3, 0, 0, tzinfo=UTC)
BOOT = "5d0c9e0a-0000-4000-8000-000000000001"


def clock(utc: str, certainty: str, boot_id: str = BOOT) -> Clock:
    return Clock(boot_id=boot_id, monotonic_s=100.0, utc=utc, utc_certainty=certainty)


@pytest.mark.parametrize(
    ("reading", "offset_s", "expected", "source"),
    [
        # set by network time: believed, and the onset lies 3 s before the decision
        (clock("2026-11-20T02:00:03Z", "synced"), 0.2, "2026-11-20T02:00:00+00:00", "device"),
        # 1970, same boot: moved by the offset measured on arrival
        (
            clock("1970-01-01T01:00:03Z", "unset"),
            (NOW - datetime(1970, 1, 1, 2, tzinfo=UTC)).total_seconds(),
            "2026-11-20T02:00:00+00:00",
            "corrected",
        ),
        # 1970, restarted since: nothing is known but the arrival
        (clock("1970-01-01T01:00:03Z", "unset", "another-boot"), 1.8e9, "2026-11-20T02:59:57+00:00", "received"),
        # a guess from before a restart is better than nothing
        (clock("2026-11-20T02:00:03Z", "guess", "another-boot"), 5.0, "2026-11-20T02:00:00+00:00", "device"),
        # nobody hears a saw in the future, or five years ago
        (clock("2026-11-21T12:00:00Z", "synced"), 0.0, "2026-11-20T02:59:57+00:00", "received"),
        (clock("2021-11-20T02:00:03Z", "synced"), 0.0, "2026-11-20T02:59:57+00:00", "received"),
        # what is no time at all
        (clock("2026-13-99T99:99:99Z", "synced"), 0.0, "2026-11-20T02:59:57+00:00", "received"),
        (clock("0001-01-01T00:00:00Z", "guess"), -1e12, "2026-11-20T02:59:57+00:00", "received"),
        (clock("1970-01-01T01:00:03Z", "unset"), None, "2026-11-20T02:59:57+00:00", "received"),
    ],
)
def test_the_best_clock_dates_the_event(alert_of, reading, offset_s, expected, source):
    alert = replace(alert_of("ipe-07", log_mel=None), clock=reading)
    contact = Contact(device_id="ipe-07", boot_id=BOOT, counter=1, at_utc=NOW, clock_offset_s=offset_s)
    found = onset(alert, contact)
    assert (found.utc.isoformat(), found.source) == (expected, source)


def test_an_absurd_length_does_not_leave_the_calendar(alert_of):
    alert = alert_of("ipe-07", onset_s=0.0, raised_s=1e10, log_mel=None)
    contact = Contact(device_id="ipe-07", boot_id=BOOT, counter=1, at_utc=NOW)
    assert NOW - onset(alert, contact).utc == timedelta(days=365)
