"""What the pages say of alerts, incidents and the state of the forest."""

from datetime import UTC, datetime, timedelta

import pytest

from base_station.incidents import Incident
from base_station.locate import Estimate, Place
from base_station.pages.language import Language
from base_station.pages.telling import kind_note, measures, onset_note, shared, summary, surety, wellness, where
from base_station.roll import LISTENING, NEVER, REVOKED, SILENT, TROUBLE, Roll, Seen
from base_station.store import AlertEvent, Onset

NOW = datetime(2026, 11, 20, 3, 0, 0, tzinfo=UTC)
ENGLISH = Language("en")


def event(**changes) -> AlertEvent:
    began = changes.pop("began", NOW - timedelta(seconds=40))
    fields = {
        "seq": 1, "alert_id": "0b9d8b6e-2a0b-4b43-9c2f-5a8e3c1f9d10", "device_id": "ipe-07", "label": "chainsaw",
        "drill": False, "received_utc": NOW - timedelta(seconds=30), "onset": Onset(utc=began, source="device"),
        "state": "open", "revision": 0, "score": 0.97, "level_dbfs": -31.5, "lasted_s": 3.0, "latitude": None,
        "longitude": None, "log_mel_revision": 0,
    }  # fmt: skip
    return AlertEvent(**{**fields, **changes})


def incident(ago_s: float = 40, **changes) -> Incident:
    fields = {
        "incident_id": f"incident-{ago_s}", "kind": "event", "label": "chainsaw", "drill": False,
        "first_utc": NOW - timedelta(seconds=ago_s + 20), "last_utc": NOW - timedelta(seconds=ago_s),
        "devices": ("ipe-07",), "alert_ids": ("a",), "witnesses": 1, "score": 0.9, "confidence": 0.54,
        "position": Estimate(latitude=-3.1, longitude=-60.02, radius_m=240.4),
    }  # fmt: skip
    return Incident(**{**fields, **changes})


def roll(**counts: int) -> Roll:
    """Return the roll of so many devices by state."""
    devices = [
        Seen(device_id=f"{state}-{n}", name="", place=Place(0, 0), last_contact_utc=NOW, state=state)
        for state, count in counts.items()
        for n in range(count)
    ]
    hearing = sum(one.hears for one in devices)
    return Roll(at_utc=NOW, devices=devices, counts=counts, hearing=hearing, looks=0)


def told(*incidents: Incident, received: dict[str, datetime] | None = None, of: Roll | None = None, code: str = "en"):
    return summary(Language(code), incidents, received or {}, of or roll(listening=1), NOW)


def test_doubtful_and_late_times_say_so():
    assert onset_note(ENGLISH, event(), NOW, UTC) == ""
    assert "clock is not set" in onset_note(ENGLISH, event(onset=Onset(utc=NOW, source="received")), NOW, UTC)
    late = event(began=NOW - timedelta(hours=2))
    assert onset_note(ENGLISH, late, NOW, UTC) == "arrived late, 02:59:30"
    assert onset_note(Language("pt"), late, NOW, UTC) == "chegou atrasado, 02:59:30"


def test_a_fresh_incident_leads_and_a_drill_never_does():
    assert (told(incident()).mood, told(incident()).headline) == ("alarm", "Chainsaw at ipe-07")
    assert told(incident(), incident(60, devices=("cedro-01",))).headline == "Chainsaw at ipe-07 and 1 more"
    assert told(incident(), code="pt").headline == "Motosserra em ipe-07"
    assert told(incident(drill=True)).mood == "quiet"
    assert told(incident(72_000)).detail == "1 of 1 device listening · last heard 20 h ago"


def test_weather_is_no_alarm_and_says_what_it_is():
    storm = told(incident(kind="storm", position=None))
    assert storm.mood == "trouble"
    assert "probably weather" in storm.detail
    assert told(incident(50, kind="storm"), incident()).mood == "alarm"
    assert "broken link" in kind_note(ENGLISH, incident(kind="outage"))


def test_late_news_is_not_an_alarm_and_not_quiet_either():
    old = incident(72_000)
    late = told(old, received={old.incident_id: NOW - timedelta(seconds=30)})
    assert (late.mood, late.headline) == ("trouble", "Late news: Chainsaw at ipe-07")
    assert "arrived 30 s ago" in late.detail


def test_quiet_is_never_said_while_nobody_listens():
    assert told(of=roll(silent=2, revoked=1)).headline == "Nobody is listening"
    assert told(of=roll(revoked=1)).mood == "empty"
    assert told(of=roll(listening=1, silent=1)).detail == "1 of 2 devices listening · nothing heard lately"


def test_the_well_are_counted_and_the_others_named():
    some = roll(**{LISTENING: 1200, TROUBLE: 2, SILENT: 1, NEVER: 1, REVOKED: 5})
    said = wellness(ENGLISH, some)
    assert said == "1,202 devices listening · 2 in trouble · 1 silent · 1 has not called yet"


def test_how_sure_and_where_are_said_together_with_how_far_off_that_may_be():
    assert surety(ENGLISH, incident()) == "heard by 1 device · confidence 54\u00a0%"
    together = incident(devices=("a", "b"), witnesses=1)
    assert "1 independent witness" in surety(ENGLISH, together)
    assert where(ENGLISH, incident()) == "3.10000° S, 60.02000° W, within 240 m"
    assert where(ENGLISH, incident(position=None)) == ""
    assert measures(Language("fr"), event()) == "score 0,97 · niveau −31,5 dBFS"


@pytest.mark.parametrize("code", ["en", "pt", "es", "fr", "id"])
def test_coordinates_that_are_shared_are_read_by_programs_in_every_language(code):
    message = shared(Language(code), incident(drill=True), UTC)
    assert "geo:-3.10000,-60.02000;u=240" in message
    assert "-3.10000, -60.02000" in message
    assert "02:59" in message
    assert shared(Language(code), incident(position=None), UTC).count("geo:") == 0
