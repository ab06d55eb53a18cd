"""Phones that came back: what the review finds in their logs, and what it makes of damage and copies."""

import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from agent.alert import Battery
from agent.manifest import BUNDLED_MODEL, load_model
from agent.outbox import Outbox
from base_station.__main__ import main
from base_station.contacts import Contact
from base_station.review import DeviceReview, gather
from base_station.store import Onset
from tests.agent.field import Field

MANIFEST, _ = load_model(BUNDLED_MODEL)
QUIET, SAW = (-100, -100, -100), (100, -100, -100)


@pytest.fixture
def new_phone(tmp_path: Path) -> Callable[[str], Field]:
    return lambda name: Field(tmp_path / "field" / name, MANIFEST, name)


@pytest.fixture
def phone(new_phone: Callable[[str], Field]) -> Field:
    return new_phone("ipe-07")


def alert(phone: Field, alert_id: str, label: str = "chainsaw") -> None:
    phone.journal.event(
        "alert", alert_id=alert_id, revision=0, label=label, score=0.98, onset_s=10.0, raised_s=13.0, reason="k of n"
    )


def review(tmp_path: Path, **more: Any) -> DeviceReview:
    (found,) = gather(tmp_path / "field", **more)
    return found


def test_what_was_heard_is_counted_by_score_and_label(tmp_path, phone):
    phone.hear(QUIET, SAW, None, times=20)
    phone.stop()
    found = review(tmp_path)
    assert (found.device_id, found.windows, found.unheard) == ("ipe-07", 60, 20)
    assert found.heard_s == 90.0
    assert [int(found.scores["chainsaw"][idx]) for idx in (0, -1)] == [20, 20]
    assert set(found.thresholds) == {"chainsaw", "engine"}


def test_time_in_which_nobody_wrote_is_an_outage_with_its_reason(tmp_path, phone):
    phone.hear(QUIET, times=80)
    phone.stop("told to")
    phone.pass_s(3600)
    phone.start("clean stop")
    phone.hear(QUIET, times=80)
    phone.journal.close()
    phone.pass_s(1800)
    phone.start("power loss")
    phone.hear(QUIET, times=80)
    phone.stop()
    found = review(tmp_path)
    assert [(round(span.seconds / 60), span.reason) for span in found.outages] == [
        (60, "stopped (told to)"),
        (30, "power loss; no line was written"),
    ]
    assert found.starts == ["first start", "clean stop", "power loss"]
    assert 0.05 < found.up_share < 0.07


def test_deafness_ends_with_its_state_or_with_the_run(tmp_path, phone):
    phone.journal.event("state_begins", state="zeros", reason="every sample is 0")
    phone.hear(QUIET, times=40)
    phone.journal.event("state_ends", state="zeros")
    phone.journal.event("state_begins", state="model_failed", reason="NaN")
    phone.hear(QUIET, times=40)
    phone.journal.close()
    phone.pass_s(600)
    phone.start("killed")
    phone.stop()
    found = review(tmp_path)
    assert [(span.what, round(span.seconds)) for span in found.states] == [("zeros", 60), ("model_failed", 60)]
    assert round(found.deaf_s) == 120


def test_lost_audio_is_added_up_by_reason(tmp_path, phone):
    for lost_s in (2.0, 3.5):
        phone.hear(QUIET)
        phone.minute(gaps=[{"at_s": 1.0, "lost_s": lost_s, "reason": "source reopened"}])
    phone.stop()
    assert review(tmp_path).lost == {"source reopened": (2, 5.5)}


def test_battery_and_heat_come_from_the_minutes(tmp_path, phone):
    phone.minute(battery=Battery(percent=81.0, temperature_c=31.5))
    phone.minute()
    phone.stop()
    assert [(minute.percent, minute.temperature_c) for minute in review(tmp_path).minutes] == [
        (81.0, 31.5),
        (None, None),
    ]


def test_an_alert_that_was_never_received_says_where_it_is(tmp_path, phone, alert_of):
    ids = [f"5d0c9e0a-0000-4000-8000-00000000000{number}" for number in range(4)]
    for alert_id in ids:
        alert(phone, alert_id)
    phone.journal.event("delivered", alert_id=ids[0], revision=0)
    phone.journal.event("parked", alert_id=ids[1], revision=0, reason="unknown device")
    phone.stop()
    waiting = alert_of("ipe-07", alert_id=ids[2])
    with Outbox(phone.folder / "outbox.db") as outbox:
        outbox.put(waiting)
    found = review(tmp_path)
    assert [one.received for one in found.alerts] == [True, False, False, False]
    assert [one.fate for one in found.not_received] == [
        "parked: unknown device",
        "waits in its outbox",
        "no receipt in its log",
    ]
    assert [one.image is not None for one in found.alerts] == [False, False, True, False]


def test_the_station_has_the_last_word_on_what_it_received(tmp_path, phone, alert_of):
    alert(phone, "a")
    alert(phone, "b")
    phone.journal.event("delivered", alert_id="b", revision=0)
    phone.stop()
    image = alert_of("ipe-07").log_mel
    first, second = review(tmp_path, station=lambda alert_id: (alert_id == "a", image)).alerts
    assert (first.received, first.fate, first.image) == (True, "the station has it", image)
    assert not second.received
    assert "receipted, and the station does not have it" in second.fate


def test_a_second_copy_of_a_log_counts_once(tmp_path, phone):
    phone.hear(QUIET, times=40)
    alert(phone, "a")
    phone.stop()
    shutil.copytree(phone.folder, tmp_path / "field" / "copy of ipe-07")
    found = review(tmp_path)
    assert (found.windows, len(found.alerts)) == (40, 1)


def test_damaged_lines_are_counted_and_the_rest_is_reviewed(tmp_path, phone):
    phone.hear(QUIET, times=40)
    phone.stop()
    (segment,) = (phone.folder / "journal").glob("journal-*")
    lines = segment.read_bytes().splitlines(keepends=True)
    segment.write_bytes(b"".join([*lines[:1], b"\x00rotten\n", *lines[1:], lines[-1][:9]]))
    found = review(tmp_path)
    assert (found.windows, found.damaged) == (40, 2)


def test_an_outbox_that_is_broken_costs_pictures_alone(tmp_path, phone):
    alert(phone, "a")
    phone.stop()
    (phone.folder / "outbox.db").write_bytes(b"rotten" * 500)
    assert review(tmp_path).alerts[0].image is None


def test_a_drill_is_counted_and_is_no_alert(tmp_path, phone):
    phone.journal.event("drill", good=True, reason="every stage did its part")
    phone.stop()
    found = review(tmp_path)
    assert (found.drills, found.alerts) == (1, [])


# The command


def test_the_command_writes_the_page_and_prints_it_in_brief(tmp_path, phone, new_phone, capsys):
    other = new_phone("jatoba-02")
    for one in (phone, other):
        one.hear(QUIET, times=80)
        alert(one, f"alert-of-{one.device_id}")
        one.stop()
    out = tmp_path / "review.html"
    assert main(["review", str(tmp_path / "field"), "--out", str(out), "--utc"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("2 devices, 2026-11-23 11:00:00 to 2026-11-23 11:02:00")
    assert "never received: jatoba-02" in said
    page = out.read_text()
    assert page.count("<svg") == 3, "no battery in the logs, no chart of it"
    assert "No log has either." in page
    assert "<script" not in page


def test_the_same_logs_give_the_same_page(tmp_path, phone):
    from base_station.fieldreport import page

    phone.hear(QUIET, SAW, times=40)
    phone.minute(battery=Battery(percent=81.0))
    phone.stop()
    made = datetime(2026, 11, 24, tzinfo=UTC)
    pages = [page(gather(tmp_path / "field"), UTC, made, utc=True) for _ in range(2)]
    assert pages[0] == pages[1]


def test_pictures_come_from_the_stations_database(tmp_path, phone, store, alert_of, capsys):
    sent = alert_of("ipe-07")
    contact = Contact(
        device_id="ipe-07",
        boot_id="5d0c9e0a-0000",
        counter=1,
        at_utc=datetime(2026, 11, 23, tzinfo=UTC),
        clock_offset_s=0.0,
    )
    store.add_device("ipe-07", b"sealed", contact.at_utc)
    store.keep_alert(contact, sent, sent.to_json(), Onset(utc=contact.at_utc - timedelta(seconds=3), source="device"))
    alert(phone, sent.alert_id)
    phone.stop()
    out = tmp_path / "review.html"
    assert main(["review", str(tmp_path / "field"), "--out", str(out), "--data", str(tmp_path)]) == 0
    assert "1 alerts, 0 never received" in capsys.readouterr().out
    assert "data:image/png;base64," in out.read_text()


def test_wrong_use_is_said(tmp_path, phone, capsys):
    phone.stop()
    assert main(["review", str(tmp_path / "none")]) == 1
    assert "holds no journal" in capsys.readouterr().err
    assert main(["review", str(tmp_path / "field"), "--data", str(tmp_path / "none")]) == 2
    assert "holds no station's database" in capsys.readouterr().err
    assert main(["review", str(tmp_path / "field"), "--out", "/nowhere/review.html"]) == 1
    assert "name another with --out" in capsys.readouterr().err


def test_bit_flips_cost_lines_and_never_the_report(tmp_path, phone):
    import random

    from base_station.fieldreport import page

    phone.hear(QUIET, SAW, times=60)
    alert(phone, "a")
    phone.minute(battery=Battery(percent=81.0))
    phone.stop()
    (segment,) = (phone.folder / "journal").glob("journal-*")
    whole, rng = segment.read_bytes(), random.Random(7)
    for round_ in range(60):
        rotten = bytearray(whole)
        for _ in range(6):
            rotten[rng.randrange(len(rotten))] ^= 1 << rng.randrange(8)
        segment.write_bytes(rotten)
        reviews = gather(tmp_path / "field", now=datetime(2026, 11, 24, tzinfo=UTC))
        if round_ % 20 == 0:
            assert "Field review" in page(reviews, UTC, datetime(2026, 11, 24, tzinfo=UTC), utc=True)
