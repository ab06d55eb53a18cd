"""The fleet at a glance, and page by page: what is counted is what the filters show."""

import itertools
import json
from datetime import timedelta

import pytest
from sqlalchemy import insert

from agent.alert import Battery
from base_station import tables
from base_station.fleet import FILTERS, SORTS, Wanted, health, holding, listed
from tests.base_station.conftest import make_heartbeat

both = pytest.mark.parametrize("database_url", ["sqlite", "postgresql"], indirect=True)


def hold(station, name, *devices, over=False):
    """Let a condition hold; of several devices as the station keeps one."""
    now = station.clock()
    row = {"subject": devices[0], "name": name, "begin_utc": now, "seen_utc": now, "returns": 0, "detail": ""}
    row |= {"end_utc": now if over else None, "devices": json.dumps(devices if len(devices) > 1 else [])}
    with station.store.database.write() as connection:
        connection.execute(insert(tables.conditions), [row])


def call(station, device, percent=80.0, heat=30.0):
    beat = make_heartbeat(device.device_id, battery=Battery(percent=percent, temperature_c=heat, charging=False))
    assert station.send(device, beat).status_code == 200
    station.clock.pass_s(60)


def forest(station):
    """Return a station with twelve devices, in every state."""
    names = [f"ipe-{number:02d}" for number in range(12)]
    devices = {name: station.add(name) for name in names}
    for number, name in enumerate(names[:10]):
        call(station, devices[name], percent=90.0 - 7 * number, heat=20.0 + 2 * (number % 5))
    station.store.revoke_device("ipe-09", station.clock())
    hold(station, "low_battery", "ipe-08")
    hold(station, "hot", "ipe-08")
    hold(station, "deaf", "ipe-07")
    hold(station, "late", "ipe-06")
    hold(station, "link", "ipe-03", "ipe-04", "ipe-05")
    hold(station, "hot", "ipe-02", over=True)
    hold(station, "hot", "ipe-09")  # it was revoked, and the station has not looked around since
    return names


def ids(station, **wanted):
    return [row.device.device_id for row in listed(station.store, Wanted(**wanted)).rows]


@both
def test_every_count_is_what_its_filter_shows(station):
    forest(station)
    counted = health(station.store.database)
    assert (counted.admitted, counted.listening, counted.trouble, counted.silent) == (11, 4, 6, 4)
    assert (counted.never, counted.revoked) == (2, 1)
    assert counted.conditions == {"late": 1, "link": 3, "deaf": 1, "hot": 1, "low_battery": 1}
    for state, number in (
        ("", counted.admitted),
        ("listening", counted.listening),
        ("trouble", counted.trouble),
        ("silent", counted.silent),
        ("never", counted.never),
        ("revoked", counted.revoked),
        *counted.conditions.items(),
    ):
        assert len(ids(station, state=state)) == number, state
    assert ids(station, state="link") == ["ipe-03", "ipe-04", "ipe-05"]
    assert ids(station, state="listening") == ["ipe-00", "ipe-01", "ipe-02", "ipe-08"]
    states = {row.device.device_id: row.state for row in listed(station.store, Wanted()).rows}
    assert [states[f"ipe-{n:02d}"] for n in (0, 4, 6, 7, 8, 10)] == [
        "listening",
        "silent",
        "silent",
        "trouble",
        "trouble",
        "never",
    ]
    assert holding(station.store.database, ["ipe-08", "ipe-04", "ipe-00"]) == {
        "ipe-08": ("hot", "low_battery"),
        "ipe-04": ("link",),
    }


@both
@pytest.mark.parametrize("sort", SORTS)
def test_pages_hold_every_device_once_and_lead_back(station, sort):
    names = forest(station)
    whole = ids(station, sort=sort, limit=100)
    assert sorted(whole) == [name for name in names if name != "ipe-09"]
    pages, after = [], ""
    while True:
        page = listed(station.store, Wanted(sort=sort, limit=4, after=after))
        pages.append(page)
        if page.after is None:
            break
        after = page.after
    assert [row.device.device_id for page in pages for row in page.rows] == whole
    assert pages[0].before is None
    back = listed(station.store, Wanted(sort=sort, limit=4, before=pages[2].before))
    assert back.rows == pages[1].rows
    first = listed(station.store, Wanted(sort=sort, limit=4, before=back.before))
    assert (first.rows, first.before) == (pages[0].rows, None)


@both
def test_it_is_sorted_by_what_is_asked_and_searched_in_names_and_ids(station):
    forest(station)
    assert ids(station, sort="contact", limit=2) == ["ipe-10", "ipe-11"]  # they never called
    assert ids(station, sort="battery", limit=2) == ["ipe-08", "ipe-07"]
    assert ids(station, sort="temperature", limit=2) == ["ipe-04", "ipe-03"]
    station.store.describe_device("ipe-11", {"name": "Angelim 100%"})
    assert ids(station, limit=1) == ["ipe-11"]
    assert ids(station, search="angelim") == ids(station, search="100%") == ["ipe-11"]
    assert ids(station, search=" IPE-1 ") == ["ipe-11", "ipe-10"]
    assert ids(station, search="_") == ids(station, search="'; --") == []
    assert len(ids(station, search="\x00")) == 11


@both
def test_a_cursor_that_nobody_gave_breaks_nothing(station):
    forest(station)
    cursors = ["~", "x", "x~ipe-03", "\x00~\x00", "nan~a", "inf~a", "~" * 300, "2026-13-40~ipe-01"]
    for sort, cursor, where in itertools.product(SORTS, cursors, ("after", "before")):
        assert set(ids(station, sort=sort, **{where: cursor})) <= {f"ipe-{n:02d}" for n in range(12)}


def test_an_empty_station_has_a_fleet_of_nobody(station):
    counted = health(station.store.database)
    assert (counted.admitted, counted.listening, counted.trouble, counted.conditions) == (0, 0, 0, {})
    for state in FILTERS:
        assert listed(station.store, Wanted(state=state)).rows == ()


def test_a_device_that_calls_again_leads_no_more(station):
    devices = [station.add(f"ipe-{number}") for number in range(3)]
    for device in devices:
        call(station, device)
    assert ids(station, sort="contact")[0] == "ipe-0"
    station.clock.now += timedelta(hours=1)
    call(station, devices[0])
    assert ids(station, sort="contact")[-1] == "ipe-0"
