"""The roll: each device in one state, by what the look around found and by its last call; and groups for the map."""

from datetime import timedelta

import pytest
from sqlalchemy import insert, update

from agent.alert import Position
from base_station import tables
from base_station.condition_log import Changes, ConditionLog
from base_station.deadman import Condition
from base_station.locate import Place
from base_station.pages.map import marks_in
from base_station.roll import LISTENING, NEVER, REVOKED, SILENT, TROUBLE, RollCall, Window, call_roll, grouped
from tests.base_station.conftest import START, make_heartbeat

both = pytest.mark.parametrize("database_url", ["sqlite", "postgresql"], indirect=True)
WORLD = Window(west=-180, south=-90, east=180, north=90)


def found(station, *conditions: tuple[str, str] | tuple[str, str, tuple[str, ...]]) -> None:
    begun = [
        Condition(subject=one[0], name=one[1], since_utc=START, detail="", devices=one[2] if len(one) > 2 else ())
        for one in conditions
    ]
    ConditionLog(station.store.database).record(Changes(begun=begun), START)


def listen(station, name: str, latitude: float = -3.1, longitude: float = -60.0):
    device = station.add(name)
    station.send(device, make_heartbeat(name, position=Position(latitude=latitude, longitude=longitude)))
    return device


@both
def test_each_device_has_the_state_that_a_ranger_wants_to_know(station):
    for name in ("a-good", "b-deaf", "c-low", "d-late", "e-link", "f-revoked"):
        listen(station, name)
    station.add("g-new")
    station.store.revoke_device("f-revoked", START)
    found(station, ("b-deaf", "deaf"), ("c-low", "low_battery"), ("d-late", "late"), ("f-revoked", "hot"))
    found(station, ("d-late", "link", ("d-late", "e-link")))
    roll = call_roll(station.store, station.clock())
    states = {one.device_id[0]: one.state for one in roll.devices}
    assert states == {"a": LISTENING, "b": TROUBLE, "c": TROUBLE, "d": SILENT, "e": SILENT, "f": REVOKED, "g": NEVER}
    assert [one.device_id[0] for one in roll.devices if one.hears] == ["a", "c"]
    assert (roll.admitted, roll.hearing) == (6, 2)
    assert [one.device_id[0] for one in roll.troubled(9)] == ["b", "d", "e", "c"]
    assert len(roll.troubled(2)) == 2


def test_a_device_falls_silent_even_if_nobody_looks_around(station):
    listen(station, "ipe-07")
    later = station.clock() + timedelta(hours=6, seconds=1)
    assert call_roll(station.store, later).devices[0].state == SILENT


def test_the_roll_is_taken_once_for_all_who_look_together(station):
    call = RollCall(station.store)
    first = call.take(station.clock())
    listen(station, "ipe-07")
    assert call.take(station.clock() + timedelta(seconds=3)) is first
    assert len(call.take(station.clock() + timedelta(seconds=5)).devices) == 1
    assert len(call.take(station.clock()).devices) == 1  # the clock was set back


def test_a_map_groups_what_it_cannot_tell_apart_and_leaves_nobody_out(station):
    for number in range(12):
        listen(station, f"d-{number:02}", -3.1 + 0.0001 * number, -60.0)
    listen(station, "far", 2.0, 100.0)
    station.add("nowhere")
    found(station, ("d-03", "deaf"))
    roll = call_roll(station.store, station.clock())
    coarse = marks_in(roll, WORLD, 5)
    assert sorted((mark.count, mark.state, mark.device_id) for mark in coarse) == [
        (1, LISTENING, "far"),
        (12, TROUBLE, ""),
    ]
    fine = marks_in(roll, WORLD, 19)
    assert sorted(mark.device_id for mark in fine) == [*(f"d-{number:02}" for number in range(12)), "far"]
    here = Window(west=-61, south=-4, east=-59, north=-2)
    assert sum(mark.count for mark in marks_in(roll, here, 8)) == 12
    assert [mark.device_id for mark in marks_in(roll, here, 8, only=frozenset({"d-05", "far"}))] == ["d-05"]


def test_a_window_over_the_date_line_holds_both_sides():
    window = Window(west=170, south=-10, east=-170, north=10)
    assert window.holds(Place(0, 175))
    assert window.holds(Place(0, -175))
    assert not window.holds(Place(0, 0))
    assert not window.holds(Place(20, 175))


def test_ten_thousand_devices_are_a_few_hundred_marks(station):
    with station.store.database.write() as connection:
        names = [f"d-{number:05}" for number in range(10_000)]
        rows = [{"device_id": name, "sealed_key": b"", "added_utc": START} for name in names]
        connection.execute(insert(tables.devices), rows)
        connection.execute(
            insert(tables.contacts),
            [
                {
                    "device_id": name,
                    "highest_counter": 1,
                    "last_contact_utc": START,
                    "latitude": -3.0 - 0.002 * (number % 100),
                    "longitude": -60.0 - 0.002 * (number // 100),
                }
                for number, name in enumerate(names)
            ],
        )
        connection.execute(update(tables.devices).values(name=""))
    roll = call_roll(station.store, START)
    groups = grouped(roll.devices, WORLD, 11, 56)
    assert sum(len(group.devices) for group in groups) == 10_000
    assert len(marks_in(roll, WORLD, 11)) == len(groups) < 600
