"""What the page says."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from agent.alert import Battery
from base_station import words
from base_station.store import AlertEvent, Device, Onset

NOW = datetime(2026, 11, 20, 3, 0, 0, tzinfo=UTC)
MANAUS = timezone(timedelta(hours=-4))


def event(**changes) -> AlertEvent:
    began = changes.pop("began", NOW - timedelta(seconds=40))
    fields = {
        "seq": 1, "alert_id": "0b9d8b6e-2a0b-4b43-9c2f-5a8e3c1f9d10", "device_id": "ipe-07", "label": "chainsaw",
        "drill": False, "received_utc": NOW - timedelta(seconds=30), "onset": Onset(utc=began, source="device"),
        "state": "open", "revision": 0, "score": 0.97, "level_dbfs": -31.5, "lasted_s": 3.0, "latitude": None,
        "longitude": None, "log_mel_revision": 0,
    }  # fmt: skip
    return AlertEvent(**{**fields, **changes})


def device(heartbeat=None, *, silent_s: float | None = 10.0, **changes) -> Device:
    contact = None if silent_s is None else NOW - timedelta(seconds=silent_s)
    fields = {
        "device_id": "ipe-07", "sealed_key": b"", "added_utc": NOW, "revoked_utc": None, "highest_counter": 1,
        "boot_id": None, "last_contact_utc": contact, "clock_offset_s": 0.0, "heartbeat_utc": contact,
        "heartbeat": heartbeat,
    }  # fmt: skip
    return Device(**{**fields, **changes})


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0 s"), (59.9, "60 s"), (60, "1 min"), (3599, "59 min"), (3600, "1 h"), (172_800, "2 days"), (-5, "0 s")],
)
def test_spans(seconds, said):
    assert words.span(seconds) == said


@pytest.mark.parametrize(
    ("seconds", "said"), [(-90, "just now"), (4, "just now"), (44, "40 s ago"), (61, "1 min ago"), (7300, "2 h ago")]
)
def test_how_long_ago(seconds, said):
    assert words.ago(NOW - timedelta(seconds=seconds), NOW) == said


def test_local_time_names_the_day_only_where_it_is_another_one():
    assert words.local_time(NOW - timedelta(minutes=5), NOW, MANAUS) == "22:55:00"
    assert words.local_time(NOW - timedelta(hours=24), NOW, MANAUS) == "18 Nov 23:00"
    assert words.local_time(NOW - timedelta(days=365), NOW, MANAUS) == "19 Nov 2025 23:00"


def test_places_are_said_by_hemisphere():
    assert words.place(-3.1, -60.025) == "3.10000° S, 60.02500° W"
    assert words.place(1.0, 103.5) == "1.00000° N, 103.50000° E"


def test_labels_that_nobody_knows_are_still_words():
    assert words.label_name("chainsaw") == "Chainsaw"
    assert words.label_name("gun_shot") == "Gun shot"


def test_doubtful_and_late_times_say_so():
    assert words.onset_note(event(), NOW, UTC) == ""
    doubtful = event(onset=Onset(utc=NOW, source="received"))
    assert "clock is not set" in words.onset_note(doubtful, NOW, UTC)
    late = event(began=NOW - timedelta(hours=2))
    assert words.onset_note(late, NOW, UTC) == "arrived late, 02:59:30"


@pytest.mark.parametrize(
    ("changes", "condition", "said"),
    [
        ({}, "good", "listening"),
        ({"states": ("zeros",)}, "trouble", "deaf: its microphone gives only zeros"),
        ({"states": ("novel_fault",)}, "trouble", "novel fault"),
        ({"audio_per_wall": 0.1}, "trouble", "deaf: heard 10% of the time"),
        ({"battery": Battery(percent=9.0, charging=False)}, "trouble", "battery at 9 %"),
        ({"battery": Battery(percent=9.0, charging=True)}, "good", "listening"),
    ],
)
def test_a_heartbeat_in_words(heartbeat_of, changes, condition, said):
    found = words.device_words(device(heartbeat_of("ipe-07", **changes)), NOW)
    assert (found.condition, found.headline) == (condition, said)


def test_devices_that_say_nothing(heartbeat_of):
    assert words.device_words(device(silent_s=None), NOW).condition == "waiting"
    silent = words.device_words(device(heartbeat_of("ipe-07"), silent_s=7200), NOW)
    assert (silent.condition, silent.headline) == ("trouble", "silent for 2 h")
    revoked = words.device_words(device(heartbeat_of("ipe-07"), silent_s=7200, revoked_utc=NOW), NOW)
    assert (revoked.condition, revoked.troubles) == ("revoked", ())


def test_a_fresh_alert_leads_and_a_drill_never_does(heartbeat_of):
    good = [words.device_words(device(heartbeat_of("ipe-07")), NOW)]
    assert words.summary([event()], good, NOW).headline == "Chainsaw at ipe-07"
    assert words.summary([event()], good, NOW).mood == "alarm"
    assert words.summary([event(), event(device_id="cedro-01")], good, NOW).headline == "Chainsaw at ipe-07 and 1 more"
    assert words.summary([event(drill=True)], good, NOW).mood == "quiet"
    old = event(began=NOW - timedelta(hours=20), received_utc=NOW - timedelta(hours=20))
    assert words.summary([old], good, NOW).detail == "1 of 1 device listening · last alert 20 h ago"


def test_late_news_is_not_an_alarm_and_not_quiet_either(heartbeat_of):
    good = [words.device_words(device(heartbeat_of("ipe-07")), NOW)]
    late = words.summary([event(began=NOW - timedelta(hours=20))], good, NOW)
    assert (late.mood, late.headline) == ("trouble", "Late news: chainsaw at ipe-07")


def test_quiet_is_never_said_while_nobody_listens(heartbeat_of):
    deaf = [words.device_words(device(heartbeat_of("ipe-07", states=("zeros",))), NOW)]
    assert words.summary([], deaf, NOW).headline == "Nobody is listening"
    assert words.summary([], [], NOW).mood == "empty"


@pytest.mark.parametrize(
    ("silent_s", "announced_s", "condition"),
    [(1900, 0, "trouble"), (1900, 300, "trouble"), (7200, 3600, "good"), (10_900, 3600, "trouble")],
)
def test_a_device_that_saves_power_is_silent_only_after_three_of_its_own_intervals(
    heartbeat_of, silent_s, announced_s, condition
):
    beat = heartbeat_of("ipe-07", heartbeat_s=announced_s)
    assert words.device_words(device(beat, silent_s=silent_s), NOW).condition == condition


def test_a_battery_that_says_nothing_is_worded(heartbeat_of):
    said = words.device_words(device(heartbeat_of("ipe-07", states=("battery_unknown",))), NOW)
    assert said.headline == "its battery says nothing any more"
