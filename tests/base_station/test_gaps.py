"""Why a device did not hear: silences and what was wrong, from its hours and conditions."""

from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import insert

from agent.alert import Battery
from base_station import hours, tables
from base_station.condition_log import ConditionLog, Spell, changes
from base_station.deadman import Condition
from base_station.gaps import gaps_of, pauses, troubles
from base_station.hours import DeviceHour
from tests.base_station.conftest import START, make_heartbeat

both = pytest.mark.parametrize("database_url", ["sqlite", "postgresql"], indirect=True)

HOUR = timedelta(hours=1)


class Life:
    """A device that calls every quarter of an hour, as long as it runs and has a link."""

    def __init__(self, station, name):
        self.station = station
        self.device = station.add(name)
        self.started = station.clock() - timedelta(minutes=7)
        self.paused_s = 0.0

    def beat(self, **changes):
        uptime_s = (self.station.clock() - self.started).total_seconds()
        beat = make_heartbeat(self.device.device_id, uptime_s=uptime_s, paused_s=self.paused_s, **changes)
        assert self.station.send(self.device, beat).status_code == 200

    def restart(self):
        self.started, self.paused_s = self.station.clock(), 0.0


def live(station, lives, minutes, calling=None, **changes):
    """Let time pass, with a call every quarter of an hour of those that can."""
    for _ in range(minutes // 15):
        station.clock.pass_s(900)
        for life in lives if calling is None else calling:
            life.beat(**changes)


def gaps(station, name, days=30):
    now = station.clock()
    since = now - timedelta(days=days)
    past = hours.between(station.store.database, name, since.replace(minute=0), now)
    return gaps_of(station.store, station.store.device(name), past, since, now)


def reasons(station, name):
    return [gap.reason for gap in gaps(station, name)]


def hold(station, name, detail, minutes, devices=("ipe-07",)):
    """Let a condition begin now and end after so many minutes, as the station's look around writes it down."""
    log, begin = ConditionLog(station.store.database), station.clock()
    several = devices if len(devices) > 1 else ()
    found = Condition(subject=devices[0], name=name, since_utc=begin, detail=detail, devices=several)
    log.record(changes(log.holding(), [], [*_held(log), found], begin, 0.0), begin)
    log.record(changes([spell for spell in log.holding() if spell.name == name], [], [], begin, 0.0), begin + minutes)


def _held(log):
    return [
        Condition(subject=spell.subject, name=spell.name, since_utc=spell.begin_utc, detail=spell.detail)
        for spell in log.holding()
    ]


@both
def test_a_phone_that_was_off_says_so_when_it_calls_again_and_how_it_ended(station):
    ipe, cedro = Life(station, "ipe-07"), Life(station, "cedro-01")
    live(station, [ipe, cedro], 120)
    went = station.clock()
    live(station, [cedro], 165)
    ipe.restart()
    back = station.clock()
    live(station, [ipe], 15, start_reason="power loss")
    live(station, [ipe, cedro], 120, start_reason="power loss")
    (gap,) = gaps(station, "ipe-07")
    assert (gap.reason, gap.ended_by, gap.begin_utc, gap.started_utc) == ("off", "power loss", went, back)
    assert gap.end_utc == back + timedelta(minutes=15)
    assert gaps(station, "cedro-01") == []


@both
def test_a_phone_that_ran_on_had_no_link_and_without_any_call_it_was_the_station(station):
    ipe, cedro = Life(station, "ipe-07"), Life(station, "cedro-01")
    live(station, [ipe, cedro], 120)
    live(station, [cedro], 120)
    live(station, [ipe, cedro], 60)
    assert reasons(station, "ipe-07") == ["link"]
    station.clock.pass_s(4 * 3600)
    live(station, [ipe, cedro], 60)
    assert reasons(station, "ipe-07") == ["station", "link"]
    assert reasons(station, "cedro-01") == ["station"]


def test_silence_that_goes_on_has_no_end_and_no_reason_yet(station):
    ipe = Life(station, "ipe-07")
    live(station, [ipe], 60)
    last = station.clock()
    station.clock.pass_s(3500)
    assert gaps(station, "ipe-07") == []
    station.clock.pass_s(200)
    (gap,) = gaps(station, "ipe-07")
    assert (gap.reason, gap.begin_utc, gap.end_utc) == ("silent", last, None)
    station.store.revoke_device("ipe-07", station.clock())
    assert gaps(station, "ipe-07") == []


def test_devices_that_vanished_together_lost_their_link_whoever_it_is_kept_under(station):
    three = [Life(station, f"ipe-0{number}") for number in (5, 6, 7)]
    other = Life(station, "cedro-01")
    live(station, [*three, other], 60)
    hold(station, "link", "3 devices", timedelta(hours=2), devices=("ipe-05", "ipe-06", "ipe-07"))
    live(station, [other], 120)
    live(station, [*three, other], 30)
    for name in ("ipe-05", "ipe-07"):
        (gap,) = gaps(station, name)
        assert (gap.reason, gap.n_devices) == ("link", 3)


def test_a_phone_that_calls_hourly_to_save_power_has_no_gap_between_its_calls(station):
    ipe = Life(station, "ipe-07")
    for _ in range(6):
        station.clock.pass_s(3600)
        ipe.beat(heartbeat_s=3600.0)
    assert gaps(station, "ipe-07") == []


@both
def test_what_was_wrong_while_it_called_is_a_gap_too(station):
    ipe = Life(station, "ipe-07")
    live(station, [ipe], 60)
    hold(station, "deaf", "zeros", timedelta(hours=1))
    live(station, [ipe], 15)
    hold(station, "faulty", "clipping, disk_full, model_failed", timedelta(hours=2))
    live(station, [ipe], 15)
    hold(station, "deaf", "heard 12% of the time", timedelta(hours=3))
    found = gaps(station, "ipe-07")
    assert [(gap.reason, gap.states, gap.detail) for gap in found] == [
        ("deaf", (), "heard 12% of the time"),
        ("disk", ("disk_full",), ""),
        ("model", ("model_failed",), ""),
        ("deaf", ("zeros",), ""),
    ]
    assert found[-1].end_utc == found[-1].begin_utc + HOUR


def test_faults_that_keep_it_from_nothing_are_no_gap():
    spell = Spell(
        seq=1,
        subject="ipe-07",
        name="faulty",
        begin_utc=START,
        end_utc=None,
        seen_utc=START,
        returns=0,
        detail="clipping",
        devices=(),
    )
    assert troubles([spell, replace(spell, name="hot", detail="52 °C")]) == []


def test_hours_with_the_microphone_let_go_are_one_gap_with_its_share():
    def hour(number, paused_s):
        end = START + number * HOUR
        return DeviceHour(
            begin_utc=end - HOUR,
            n_beats=12,
            level_dbfs=-50.0,
            first_utc=end - HOUR,
            last_utc=end,
            started_utc=START,
            restarted_utc=START,
            paused_s=paused_s,
        )

    past = [hour(1, 0), hour(2, 0), hour(3, 1800), hour(4, 3 * 1800), hour(5, 3 * 1800 + 60)]
    (gap,) = pauses(past)
    assert (gap.reason, gap.begin_utc, gap.end_utc) == ("paused", START + 2 * HOUR, START + 4 * HOUR)
    assert gap.share == pytest.approx(0.75)
    restarted = replace(past[4], restarted_utc=START + 4.5 * HOUR, started_utc=START + 4.5 * HOUR, paused_s=1500.0)
    assert pauses([*past[:2], restarted])[0].share == pytest.approx(1500 / (3 * 3600))


@both
def test_an_hour_sums_up_its_heartbeats(station):
    ipe = Life(station, "ipe-07")
    for percent, heat, level in ((80, 30.0, -50.0), (70, 41.0, -60.0)):
        ipe.beat(battery=Battery(percent=percent, temperature_c=heat, charging=False), level_dbfs=level)
        station.clock.pass_s(600)
    ipe.restart()
    ipe.beat(battery=None, level_dbfs=-40.0, audio_per_wall=0.4)
    (hour,) = hours.between(station.store.database, "ipe-07", START, START + HOUR)
    assert (hour.n_beats, hour.level_dbfs, hour.percent, hour.most_c) == (3, -50.0, 75.0, 41.0)
    assert (hour.first_utc, hour.last_utc) == (START, START + timedelta(minutes=20))
    assert hour.heard == pytest.approx(0.8)
    assert (hour.started_utc, hour.uptime_s) == (START - timedelta(minutes=7), 0.0)


def test_hours_of_an_earlier_station_are_read_as_far_as_they_go(station):
    station.add("ipe-07")
    rows = [
        {"device_id": "ipe-07", "begin_utc": START + n * HOUR, "n_beats": 12, "level_sum": -600.0} for n in (0, 1, 5)
    ]
    with station.store.database.write() as connection:
        connection.execute(insert(tables.hours), rows)
    station.clock.now = START + 6 * HOUR
    past = hours.between(station.store.database, "ipe-07", START, station.clock())
    assert (past[0].level_dbfs, past[0].percent, past[0].uptime_s) == (-50.0, None, None)
    (gap,) = gaps(station, "ipe-07")
    assert (gap.reason, gap.begin_utc, gap.end_utc) == ("station", START + 2 * HOUR, START + 5 * HOUR)
