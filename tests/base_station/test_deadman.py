"""Named conditions: when they begin and end, by heartbeats and a clock that tests move."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.alert import Battery
from base_station.condition_log import Spell, changes
from base_station.config import StationConfig
from base_station.deadman import NAMES, Condition, Hour, Limits, Watched, conditions
from base_station.store import Device
from base_station.watch import Watch

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
LIMITS = Limits()
both = pytest.mark.parametrize("database_url", ["sqlite", "postgresql"], indirect=True)


@pytest.fixture
def device_of(heartbeat_of):
    def make(name: str = "ipe-07", silent_s: float = 60.0, **beat) -> Device:
        called = NOW - timedelta(seconds=silent_s)
        return Device(
            device_id=name,
            sealed_key=b"",
            added_utc=NOW - timedelta(days=90),
            revoked_utc=None,
            highest_counter=1,
            boot_id=None,
            last_contact_utc=called,
            clock_offset_s=0.0,
            heartbeat_utc=called,
            heartbeat=heartbeat_of(name, **beat),
        )

    return make


def named(watched: list[Watched], holding=frozenset(), limits=LIMITS, now=NOW) -> list[tuple[str, str]]:
    return [(found.subject, found.name) for found in conditions(watched, holding, now, limits)]


def test_a_healthy_device_has_no_condition(device_of):
    assert named([Watched(device=device_of())]) == []


@pytest.mark.parametrize(
    ("beat", "name"),
    [
        ({"states": ("zeros",)}, "deaf"),
        ({"audio_per_wall": 0.2}, "deaf"),
        ({"states": ("model_failed",)}, "faulty"),
        ({"battery": Battery(temperature_c=55)}, "hot"),
        ({"battery": Battery(percent=9)}, "low_battery"),
        ({"disk_free_mb": 10.0}, "out_of_disk"),
    ],
)
def test_what_a_heartbeat_says_is_named(device_of, beat, name):
    assert named([Watched(device=device_of(**beat))]) == [("ipe-07", name)]
    assert name in NAMES


@pytest.mark.parametrize(
    ("beat", "name"),
    [
        ({"battery": Battery(temperature_c=46)}, "hot"),
        ({"battery": Battery(percent=20)}, "low_battery"),
        ({"disk_free_mb": 100.0}, "out_of_disk"),
    ],
)
def test_some_conditions_end_later_than_they_begin(device_of, beat, name):
    watched = [Watched(device=device_of(**beat))]
    assert named(watched) == []
    assert named(watched, frozenset({("ipe-07", name)})) == [("ipe-07", name)]


@pytest.mark.parametrize(
    ("silent_s", "interval_s", "late"),
    [(3000, 60, False), (3700, 60, True), (3700, 1800, False), (7300, 1800, True), (21_700, 86_400, True)],
)
def test_late_is_measured_by_what_is_usual_but_is_hours_and_not_days(device_of, silent_s, interval_s, late):
    watched = [Watched(device=device_of(silent_s=silent_s), interval_s=interval_s)]
    assert named(watched) == ([("ipe-07", "late")] if late else [])


@pytest.mark.parametrize(
    ("silent_s", "announced_s", "late"),
    [(3700, 300, True), (10_700, 3600, False), (10_900, 3600, True), (21_700, 86_400, True)],
)
def test_a_device_that_announced_fewer_heartbeats_is_late_by_these(device_of, silent_s, announced_s, late):
    watched = [Watched(device=device_of(silent_s=silent_s, heartbeat_s=announced_s))]
    assert named(watched) == ([("ipe-07", "late")] if late else [])


def test_what_a_late_device_said_last_is_no_news(device_of):
    assert named([Watched(device=device_of(silent_s=9000, states=("zeros",)))]) == [("ipe-07", "late")]


def test_three_that_vanish_together_are_a_link_and_two_are_not(device_of):
    three = [Watched(device=device_of(name, silent_s=9000 + 100 * idx)) for idx, name in enumerate("abc")]
    (link,) = conditions(three, frozenset(), NOW, LIMITS)
    assert (link.subject, link.name, link.devices) == ("a", "link", ("a", "b", "c"))
    assert link.since_utc == NOW - timedelta(seconds=9200)
    assert named(three[:2]) == [("a", "late"), ("b", "late")]
    apart = [Watched(device=device_of(name, silent_s=9000 + 3000 * idx)) for idx, name in enumerate("abc")]
    assert named(apart) == [("a", "late"), ("b", "late"), ("c", "late")]


def test_revoked_devices_and_those_that_never_called_are_not_missed(device_of):
    device = device_of(silent_s=99_999)
    assert named([Watched(device=replace(device, revoked_utc=NOW))]) == []
    assert named([Watched(device=replace(device, last_contact_utc=None, heartbeat_utc=None, heartbeat=None))]) == []


def test_an_old_model_counts_after_a_day_and_against_most(device_of):
    new = [Watched(device=device_of(name)) for name in ("a", "b", "c")]
    lately = Watched(device=device_of("d", model_digest="other"), model_since_utc=NOW - timedelta(hours=3))
    long = replace(lately, model_since_utc=NOW - timedelta(days=3))
    assert named([*new, lately]) == []
    assert named([*new, long]) == [("d", "old_model")]
    assert named([new[0], long]) == []  # one against one: nobody knows which is the old one


def hours_of(levels: list[float], last: float) -> list[Hour]:
    before = [
        Hour(begin_utc=NOW - timedelta(days=day, hours=1), level_dbfs=level, n_beats=12)
        for day, level in enumerate(levels, start=1)
    ]
    loud = [Hour(begin_utc=NOW - timedelta(days=1, hours=h), level_dbfs=-20, n_beats=12) for h in range(2, 10)]
    return [*before, *loud, Hour(begin_utc=NOW - timedelta(hours=1), level_dbfs=last, n_beats=12)]


@pytest.mark.parametrize(
    ("levels", "last", "hushed"),
    [
        ([-45, -46, -44, -45, -47, -45], -60, True),
        ([-45, -46, -44, -45, -47, -45], -52, False),  # quieter, but not by much
        ([-30, -60, -38, -52, -45, -34], -60, False),  # it is always different at this hour
        ([-45, -46, -44], -90, False),  # too little is known
    ],
)
def test_hushed_is_measured_against_its_own_hour_of_the_day(device_of, levels, last, hushed):
    watched = [Watched(device=device_of(), hours=hours_of(levels, last))]
    assert named(watched) == ([("ipe-07", "hushed")] if hushed else [])


# begin, return, end


def spell(seq: int, ended_s: float | None, subject: str = "a", name: str = "late") -> Spell:
    end = None if ended_s is None else NOW - timedelta(seconds=ended_s)
    return Spell(
        seq=seq,
        subject=subject,
        name=name,
        begin_utc=NOW - timedelta(days=1),
        end_utc=end,
        seen_utc=NOW,
        returns=0,
        detail="",
        devices=(),
    )


def condition(subject: str = "a", name: str = "late") -> Condition:
    return Condition(subject=subject, name=name, since_utc=NOW, detail="")


def test_within_the_cooldown_a_condition_goes_on_and_after_it_begins_anew():
    for ended_s, begun, returned in ((60, 0, 1), (1801, 1, 0)):
        made = changes([], [spell(1, ended_s)], [condition()], NOW, 1800)
        assert (len(made.begun), len(made.returned), len(made.ended)) == (begun, returned, 0)


@given(steps=st.lists(st.sets(st.sampled_from("abc")), max_size=20), gap_s=st.integers(1, 4000))
def test_at_any_time_exactly_what_is_wrong_is_open_and_nothing_begins_twice_within_the_cooldown(steps, gap_s):
    rows: dict[int, Spell] = {}
    begun_at: dict[str, datetime] = {}
    ended_at: dict[str, datetime] = {}
    for step, wrong in enumerate(steps):
        now = NOW + timedelta(seconds=gap_s * step)
        holding = [row for row in rows.values() if row.end_utc is None]
        lately = [row for row in rows.values() if row.end_utc is not None]
        made = changes(holding, lately, [condition(name) for name in sorted(wrong)], now, 1800)
        for each in made.begun:
            if each.subject in ended_at:
                assert (now - ended_at[each.subject]).total_seconds() > 1800
            begun_at[each.subject] = now
            rows[len(rows)] = replace(spell(len(rows), None, each.subject), begin_utc=now)
        for row, _ in made.returned:
            rows[row.seq] = replace(row, end_utc=None, returns=row.returns + 1)
        for row in made.ended:
            rows[row.seq] = replace(row, end_utc=now)
            ended_at[row.subject] = now
        assert {row.subject for row in rows.values() if row.end_utc is None} == wrong
        assert len([row for row in rows.values() if row.end_utc is None]) == len(wrong)


@both
def test_the_station_keeps_begin_and_end_and_the_api_tells_them(station, ipe, heartbeat_of):
    watch = Watch(station.store, StationConfig, station.clock)
    station.send(ipe, heartbeat_of("ipe-07", states=("zeros",)))
    watch.tick()
    begin = "2026-11-20T03:00:00.000Z"
    (deaf,) = station.get("/v1/conditions", holding=True)["conditions"]
    assert (deaf["subject"], deaf["name"], deaf["begin_utc"], deaf["detail"]) == ("ipe-07", "deaf", begin, "zeros")
    station.clock.pass_s(120)
    watch.tick()
    station.send(ipe, heartbeat_of("ipe-07"))
    watch.tick()
    assert station.get("/v1/conditions", holding=True)["conditions"] == []
    (over,) = station.get("/v1/conditions", device="ipe-07")["conditions"]
    assert over["end_utc"] == "2026-11-20T03:02:00.000Z"
    station.clock.pass_s(600)
    station.send(ipe, heartbeat_of("ipe-07", states=("zeros",)))
    watch.tick()
    (again,) = station.get("/v1/conditions")["conditions"]
    assert (again["seq"], again["end_utc"], again["returns"]) == (over["seq"], None, 1)
    station.clock.pass_s(4000)
    watch.tick()
    assert {c["name"] for c in station.get("/v1/conditions", holding=True)["conditions"]} == {"late"}


@both
def test_hours_and_the_age_of_a_model_come_from_heartbeats(station, ipe, heartbeat_of):
    from base_station.condition_log import Census

    census = Census(station.store)
    for level in (-40.0, -50.0):
        station.send(ipe, heartbeat_of("ipe-07", level_dbfs=level))
        station.clock.pass_s(300)
    (one,) = census.take(station.clock())
    assert one.interval_s == 300.0  # the only hour so far is not whole
    since = one.model_since_utc
    assert since == NOW.replace(hour=3)
    station.send(ipe, heartbeat_of("ipe-07", model_digest="another"))
    (one,) = census.take(station.clock())
    assert one.device.heartbeat is not None
    assert one.device.heartbeat.model_digest == "another"
    assert one.model_since_utc == since + timedelta(seconds=600)
    assert one.hours == ()  # none has ended yet
    station.clock.pass_s(3600)
    for _ in range(6):
        station.send(ipe, heartbeat_of("ipe-07", level_dbfs=-60.0))
    station.clock.pass_s(3600)
    (one,) = census.take(station.clock())
    assert sorted((hour.begin_utc.hour, hour.n_beats, hour.level_dbfs) for hour in one.hours) == [
        (3, 3, pytest.approx(-47.333, abs=0.01)),
        (4, 6, -60.0),
    ]
    assert one.interval_s == 600.0  # six in the hour that was whole


def test_one_process_looks_around_and_another_takes_over(station):
    one, other = (Watch(station.store, StationConfig, station.clock) for _ in range(2))
    assert one.tick() is not None
    assert other.tick() is None
    station.clock.pass_s(61)  # the first was killed
    assert other.tick() is not None
    assert one.tick() is None
    other.leave()
    assert one.tick() is not None
