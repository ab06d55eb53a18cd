"""Reports: figures equal a plain count over the same alerts, whenever they were counted; listening; CSV."""

import csv
import io
import random
import uuid
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from sqlalchemy import URL, delete, insert, select, update

from agent.errors import FieldError
from base_station import day_incidents, days, recent, tables
from base_station.backup import back_up, restore
from base_station.incidents import Rules
from base_station.locate import Place
from base_station.notices import Area
from base_station.reports import Asked, Span, possible_hours, report
from base_station.retention import Retention, prune
from base_station.store import Store

both = pytest.mark.parametrize("database_url", ["sqlite", "postgresql"], indirect=True)

NOW = datetime(2026, 11, 20, 15, 0, tzinfo=UTC)
NEPAL = timezone(timedelta(hours=5, minutes=45))
"""A zone whose days and hours begin within those of UTC."""
SPAN = Span(date(2026, 11, 7), date(2026, 11, 20))


@dataclass(frozen=True)
class Heard:
    alert_id: str
    device_id: str
    label: str
    drill: bool
    onset_utc: datetime
    received_utc: datetime


def some_alerts(count: int) -> list[Heard]:
    rng = random.Random(3)
    heard = []
    for _ in range(count):
        onset = NOW - timedelta(seconds=rng.uniform(0, 16 * 86_400))
        heard.append(
            Heard(
                alert_id=str(uuid.UUID(int=rng.getrandbits(128))),
                device_id=f"ipe-{rng.randrange(6)}",
                label=rng.choice(("chainsaw", "chainsaw", "engine", "gunshot")),
                drill=rng.random() < 0.1,
                onset_utc=onset,
                received_utc=min(NOW, onset + timedelta(seconds=rng.choice((5, 5, 86_400)))),
            )
        )
    return heard


def keep(store, heard: list[Heard]) -> None:
    with store.database.write() as connection:
        for one in heard:
            connection.execute(
                insert(tables.alerts).values(
                    **{name: getattr(one, name) for name in ("alert_id", "device_id", "label", "drill", "received_utc")}
                )
            )
            for revision in (0, 1):  # the second one dates it a day later, and must not count
                connection.execute(
                    insert(tables.revisions).values(
                        alert_id=one.alert_id,
                        revision=revision,
                        received_utc=one.received_utc,
                        state="closed",
                        score=0.9,
                        level_dbfs=-30.0,
                        lasted_s=3.0,
                        onset_utc=one.onset_utc + timedelta(days=revision),
                        onset_from="device",
                        has_log_mel=False,
                        body_sha256=b"",
                        body="{}",
                    )
                )


@pytest.fixture
def forest(store):
    """Six devices in two places, one of them unknown."""
    with store.database.write() as connection:
        for n in range(6):
            device_id, added = f"ipe-{n}", NOW - timedelta(days=30)
            place = {} if n == 5 else {"latitude": -3.0 if n < 3 else -4.0, "longitude": -60.0}
            connection.execute(
                insert(tables.devices).values(device_id=device_id, sealed_key=b"", added_utc=added, **place)
            )
            connection.execute(
                insert(tables.contacts).values(device_id=device_id, highest_counter=0, last_contact_utc=NOW)
            )
    return store


def counted_plainly(heard: list[Heard], zone: timezone) -> dict[str, Counter]:
    counts = {"day": Counter(), "hour": Counter(), "device": Counter()}
    for one in heard:
        local = one.onset_utc.astimezone(zone)
        if not one.drill and SPAN.first <= local.date() <= SPAN.last:
            counts["day"][local.date(), one.label] += 1
            counts["hour"][one.label, local.hour] += 1
            counts["device"][one.device_id, one.label] += 1
    return counts


def figures(made) -> dict[str, Counter]:
    return {
        "day": Counter({(row.day, label): n for row in made.days for label, n in row.alerts.items()}),
        "hour": Counter({(label, hour): n for label, hours in made.hours.items() for hour, n in enumerate(hours) if n}),
        "device": Counter({(row.name, label): n for row in made.devices for label, n in row.alerts.items()}),
    }


@both
@pytest.mark.parametrize("zone", [UTC, NEPAL])
def test_figures_equal_a_plain_count_before_and_after_they_were_kept(forest, zone):
    heard = some_alerts(400)
    expected = counted_plainly(heard, zone)
    keep(forest, heard[:250])
    days.refresh(forest.database, NOW, zone)
    keep(forest, heard[250:])  # these are counted when somebody asks
    asked = Asked(span=SPAN, areas={})
    assert figures(report(forest, asked, NOW, zone)) == expected
    days.refresh(forest.database, NOW + timedelta(hours=1), zone)
    days.refresh(forest.database, NOW + timedelta(hours=2), zone)
    assert figures(report(forest, asked, NOW, zone)) == expected
    saws = report(forest, Asked(span=SPAN, label="chainsaw", areas={}), NOW, zone)
    assert saws.total("chainsaw") == sum(n for (_, label), n in expected["day"].items() if label == "chainsaw")
    assert saws.labels == ("chainsaw",)


def test_whole_months_and_the_days_beside_them_make_any_span(forest):
    heard = [
        Heard(str(uuid.uuid4()), "ipe-1", "chainsaw", False, at, at + timedelta(seconds=9))
        for at in (datetime(2026, 8, 30, 12, tzinfo=UTC) + timedelta(days=n) for n in range(70))
    ]
    keep(forest, heard)
    days.refresh(forest.database, NOW, UTC)
    for first, last in (("2026-08-31", "2026-11-03"), ("2026-09-01", "2026-09-30"), ("2026-09-02", "2026-10-30")):
        span = Span(date.fromisoformat(first), date.fromisoformat(last))
        made = report(forest, Asked(span=span, areas={}), NOW, UTC)
        assert made.devices[0].alerts == {"chainsaw": (span.last - span.first).days + 1}


def test_what_retention_let_go_stays_counted(forest):
    heard = some_alerts(60)
    keep(forest, heard)
    days.refresh(forest.database, NOW + timedelta(hours=1), UTC)
    prune(forest.database, Retention(alert_days=1), NOW + timedelta(days=40))
    assert figures(report(forest, Asked(span=SPAN, areas={}), NOW, UTC)) == counted_plainly(heard, UTC)


@both
def test_a_restored_station_counts_nothing_twice(forest, tmp_path):
    heard = some_alerts(80)
    keep(forest, heard)
    days.refresh(forest.database, NOW + timedelta(hours=1), UTC)
    back_up(forest.database, tmp_path / "copy.db")
    url = URL.create("sqlite", database=str(tmp_path / "new.db"))
    restore(tmp_path / "copy.db", url)
    with closing(Store(url)) as restored:
        days.refresh(restored.database, NOW + timedelta(hours=1), UTC)
        assert figures(report(restored, Asked(span=SPAN, areas={}), NOW, UTC)) == counted_plainly(heard, UTC)


def test_alerts_that_are_not_counted_yet_are_owned_up_to(forest, monkeypatch):
    monkeypatch.setattr(days, "AT_A_TIME", 50)
    keep(forest, some_alerts(120))
    assert report(forest, Asked(span=SPAN, areas={}), NOW, UTC).behind == 70
    days.refresh(forest.database, NOW + timedelta(hours=1), UTC)
    assert report(forest, Asked(span=SPAN, areas={}), NOW, UTC).behind == 0


def test_areas_are_the_named_ones_else_squares_and_nobody_is_lost(forest):
    heard = some_alerts(200)
    keep(forest, heard)
    north = Area(place=Place(-3.0, -60.0), radius_km=5)
    made = report(forest, Asked(span=SPAN, areas={"north": north}), NOW, UTC)
    by_name = {(row.name, row.place): row for row in made.areas}
    assert set(by_name) == {("north", None), ("", Place(-3.95, -59.95)), ("", None)}
    assert by_name["north", None].n_devices == 3
    assert sum(row.total for row in made.areas) == sum(row.total for row in made.devices)


def listen(store, device_id: str, begin: datetime, hours: int, heard: float | None = None) -> None:
    with store.database.write() as connection:
        for n in range(hours):
            at = begin + timedelta(hours=n)
            heard_sum = None if heard is None else 12 * heard
            values = {"device_id": device_id, "begin_utc": at, "n_beats": 12, "level_sum": -600.0}
            connection.execute(insert(tables.hours).values(heard_sum=heard_sum, **values))


def test_hours_listened_leave_out_deafness_and_silence_and_outlive_their_source(forest):
    day = datetime(2026, 11, 18, tzinfo=UTC)
    listen(forest, "ipe-0", day, 24)
    listen(forest, "ipe-1", day, 12, heard=0.75)
    with forest.database.write() as connection:
        deaf = {"subject": "ipe-0", "name": "deaf", "returns": 0, "detail": "", "devices": "[]"}
        begin, end = day - timedelta(hours=5), day + timedelta(hours=6)
        connection.execute(insert(tables.conditions).values(begin_utc=begin, end_utc=end, seen_utc=end, **deaf))
    asked = Asked(span=SPAN, areas={})
    days.refresh(forest.database, NOW, UTC)
    with forest.database.write() as connection:
        connection.execute(delete(tables.hours))
    row = next(row for row in report(forest, asked, NOW, UTC).days if row.day == day.date())
    assert (row.listened_h, row.possible_h) == (27.0, 144.0)
    assert row.share == pytest.approx(27 / 144)
    unknown = next(row for row in report(forest, asked, NOW, UTC).days if row.day == date(2026, 11, 10))
    assert unknown.share is None


def test_devices_count_from_when_they_came_until_they_went_and_no_further_than_now(forest):
    with forest.database.write() as connection:
        moved = {
            "added_utc": datetime(2026, 11, 19, 6, tzinfo=UTC),
            "revoked_utc": datetime(2026, 11, 20, 3, tzinfo=UTC),
        }
        connection.execute(update(tables.devices).where(tables.devices.c.device_id == "ipe-0").values(**moved))
    hours = possible_hours(forest.database, Span(date(2026, 11, 18), date(2026, 11, 21)), NOW, UTC)
    assert hours == pytest.approx([5 * 24, 5 * 24 + 18, 5 * 15 + 3, 0])


def test_verdicts_and_answers_of_the_span_alone_count(forest):
    at = datetime(2026, 11, 10, 12, tzinfo=UTC)
    heard = [Heard(str(uuid.uuid4()), "ipe-1", "chainsaw", False, at, at + timedelta(seconds=5)) for _ in range(4)]
    before = at - timedelta(days=20)
    heard.append(Heard(str(uuid.uuid4()), "ipe-1", "chainsaw", False, before, before))
    keep(forest, heard)
    sayings = [(0, "false", "random"), (0, "true", "random"), (1, "true", "random"), (2, "false", "uncertain")]
    with forest.database.write() as connection:
        for idx, verdict, chosen in [*sayings, (4, "false", "random")]:
            said = {"heard": "", "judge": "ana", "note": "", "at_utc": NOW, "verdict": verdict, "chosen": chosen}
            connection.execute(insert(tables.verdicts).values(alert_id=heard[idx].alert_id, **said))
        for idx, minutes in ((0, 3), (0, 50), (1, 5), (4, 99)):
            connection.execute(
                insert(tables.incident_log).values(
                    incident_id=heard[idx].alert_id,
                    at_utc=heard[idx].received_utc + timedelta(minutes=minutes),
                    who="ana",
                    action="acknowledged",
                    assignee="",
                    note="",
                )
            )
    made = report(forest, Asked(span=SPAN, areas={}), NOW, UTC)
    (measured,), (judged,) = made.measured, made.judged
    assert (measured.right, measured.wrong) == (2, 0)
    assert (judged.right, judged.wrong) == (2, 1)
    assert made.response is not None
    assert (made.response.n_incidents, made.response.middle_s) == (2, 240.0)


def test_a_span_is_bounded():
    with pytest.raises(FieldError, match="at most 366 days"):
        Span(date(2025, 1, 1), date(2026, 11, 1))
    with pytest.raises(FieldError):
        Span(date(2026, 11, 2), date(2026, 11, 1))


def test_the_csv_has_the_figures_and_refuses_nonsense(station, ipe, alert_of):
    for n in range(3):
        station.send(ipe, alert_of("ipe-07", label=("chainsaw", "engine", "chainsaw")[n]))
    day = station.clock().astimezone().date()
    query = {"first": day.isoformat(), "last": day.isoformat()}
    answer = station.request("GET", "/v1/export/report/days.csv", params=query)
    (row,) = csv.DictReader(io.StringIO(answer.text))
    assert (row["day"], row["chainsaw"], row["engine"]) == (day.isoformat(), "2", "1")
    answer = station.request("GET", "/v1/export/report/devices.csv", params={**query, "label": "chainsaw"})
    (row,) = csv.DictReader(io.StringIO(answer.text))
    assert (row["device_id"], row["chainsaw"]) == ("ipe-07", "2")
    for first, last in (("2020-01-01", "2026-01-01"), ("2026-02-30", "2026-03-01")):
        answer = station.request("GET", "/v1/export/report/days.csv", params={"first": first, "last": last})
        assert answer.status_code == 422


def a_night(store, day: date, pauses_s: list[float]) -> None:
    """Let one device alert again and again, with these pauses, from noon on."""
    at = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
    heard = []
    for pause_s in pauses_s:
        at += timedelta(seconds=pause_s)
        heard.append(Heard(str(uuid.uuid4()), "ipe-1", "chainsaw", False, at, at + timedelta(seconds=5)))
    keep(store, heard)


def began(store, now: datetime = NOW, label: str = "") -> dict[date, int | None]:
    made = report(store, Asked(span=SPAN, label=label, areas={}), now, UTC)
    return {row.day: row.incidents for row in made.days}


@both
def test_incidents_are_counted_by_day_once_and_again_where_alerts_come_late(forest):
    day, quiet = date(2026, 11, 15), date(2026, 11, 14)
    a_night(forest, day, [0, 60, 60, 3600, 60])
    before = began(forest)
    assert (before[quiet], before[day]) == (0, None)
    days.refresh(forest.database, NOW + timedelta(hours=1), UTC)
    assert began(forest)[day] is None  # nobody counted yet, and nobody makes up a number
    day_incidents.refresh(forest, Rules(), NOW, UTC)
    assert began(forest)[day] == 2
    assert began(forest, label="chainsaw")[day] == 2
    assert began(forest, label="engine")[day] == 0
    assert report(forest, Asked(span=SPAN, areas={}), NOW, UTC).incidents == 2
    a_night(forest, day, [7200])
    days.refresh(forest.database, NOW + timedelta(hours=1), UTC)
    day_incidents.refresh(forest, Rules(), NOW, UTC)
    assert began(forest)[day] == 3


def test_incidents_of_today_are_counted_when_somebody_asks_and_one_over_midnight_counts_once(forest):
    today, yesterday = NOW.date(), NOW.date() - timedelta(days=1)
    a_night(forest, yesterday, [0, 12 * 3600 - 90, 60, 60])  # the last two are at either side of midnight
    assert (began(forest)[yesterday], began(forest)[today]) == (2, 0)
    a_night(forest, today, [300])
    assert began(forest)[today] == 1


def test_a_busy_day_is_not_counted_each_time_that_somebody_asks(forest, monkeypatch):
    today = NOW.date()
    a_night(forest, today, [0, 3600])
    day_incidents.refresh(forest, Rules(), NOW, UTC, lately=True)
    asked, real = [], day_incidents._counted
    monkeypatch.setattr(day_incidents, "_counted", lambda _, day, *rest: asked.append(day) or real(_, day, *rest))
    assert began(forest)[today] == 2
    a_night(forest, today, [7200])
    days.refresh(forest.database, NOW + timedelta(hours=1), UTC)
    assert began(forest)[today] == 2
    assert today not in asked
    day_incidents.refresh(forest, Rules(), NOW, UTC, lately=True)
    assert began(forest)[today] == 3


def test_the_first_incident_of_a_day_is_told_at_once(forest):
    """The station's first look at an empty day must not say "none" for minutes beside the first alert."""
    today = NOW.date()
    day_incidents.refresh(forest, Rules(), NOW, UTC, lately=True)
    assert began(forest)[today] == 0
    a_night(forest, today, [0])
    assert began(forest)[today] == 1
    day_incidents.refresh(forest, Rules(), NOW, UTC, lately=True)
    assert began(forest)[today] == 1


def test_a_day_whose_alerts_retention_let_go_uncounted_is_unknown_for_good(forest):
    day = date(2026, 11, 10)
    a_night(forest, day, [0, 3600])
    days.refresh(forest.database, NOW + timedelta(hours=1), UTC)
    prune(forest.database, Retention(alert_days=1), NOW + timedelta(days=40))
    day_incidents.refresh(forest, Rules(), NOW, UTC)
    assert began(forest)[day] is None
    with forest.database.read() as connection:
        assert connection.execute(select(tables.day_incidents.c.n_incidents)).scalars().all() == [None]


def test_a_stormy_day_is_looked_at_in_pieces(forest, monkeypatch):
    for module in (day_incidents, recent):
        monkeypatch.setattr(module, "MOST_ALERTS", 20)
    day = date(2026, 11, 15)
    a_night(forest, day, [600] * 60)
    days.refresh(forest.database, NOW + timedelta(hours=1), UTC)
    day_incidents.refresh(forest, Rules(), NOW, UTC)
    assert began(forest)[day] == 60
